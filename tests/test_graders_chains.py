"""The exercises of the lesson on Markov chains: right answers and common slips."""

import itertools
import math

import torch
from torch.distributions import Gamma, LogNormal

from genlib import samplers

# References: each goes another way than the lesson.


def at_rest(up, down, N):
    """From the matrix of the chain, which the null space of P − 1 solves."""
    P = torch.zeros(N, N, dtype=torch.float64)
    for j in range(N):
        P[min(j + 1, N - 1), j] += up
        P[max(j - 1, 0), j] += down
        P[j, j] += 1 - up - down
    return samplers.stationary(P)


def barker(p_i, p_j, forth, back):
    """The share of the traffic back in the whole."""
    there, way_back = forth * p_j, back * p_i
    return 1 - there / (there + way_back)


def factor(x, y, k):
    """Densities of torch: the proposal is log-normal, with any width."""
    x, y = x.double(), y.double()
    target = Gamma(torch.tensor(k).double(), torch.tensor(1.0).double())
    gain = target.log_prob(y) - target.log_prob(x)
    back, there = LogNormal(y.log(), 0.7).log_prob(x), LogNormal(x.log(), 0.7).log_prob(y)
    return (gain + back - there).clamp(max=0)


def worth(a, N):
    """The correlations summed one by one."""
    return N / (1 + 2 * sum(a**k for k in range(1, 3000)))


def spins(b):
    """The matrix of both draws on the four states, and the correlation at rest."""
    states = list(itertools.product((-1, 1), repeat=2))
    p = torch.tensor([math.exp(b * u * w) for u, w in states], dtype=torch.float64)
    p = p / p.sum()
    P = torch.eye(4, dtype=torch.float64)
    for part in (0, 1):
        same = torch.tensor([[s[1 - part] == r[1 - part] for s in states] for r in states])
        one = same * p[:, None]
        P = one / one.sum(0) @ P
    second = torch.tensor([float(w) for _, w in states], dtype=torch.float64)
    return second @ P @ (p * second)


def before(x, v, step, score):
    """Backwards with the finished leapfrog: turned round, a leap, turned round."""
    x, v = samplers.leapfrog(score, x, -v, step, 1)
    return x, -v


def exchange(E_x, E_y, F_x, F_y):
    joint = {"before": -E_x - F_y, "after": -E_y - F_x}
    return math.exp(min(0.0, joint["after"] - joint["before"]))


# Answers a reader may write.


def lesson_rest(up, down, N):
    p = (up / down) ** torch.arange(N, dtype=torch.float64)
    return p / p.sum()


def lesson_before(x, v, step, score):
    v = v - step / 2 * score(x)
    x = x - step * v
    return x, v - step / 2 * score(x)


def verlet(x, v, step, score):  # the place first, then the mean of both kicks
    there = x - step * v + step**2 / 2 * score(x)
    return there, v - step * (score(x) + score(there)) / 2


REFERENCES = [
    ("ex:mc-rest", at_rest),
    ("ex:mc-barker", barker),
    ("ex:mc-factor", factor),
    ("ex:mc-worth", worth),
    ("ex:mc-spins", spins),
    ("ex:mc-leap", before),
    ("ex:mc-exchange", exchange),
]
LESSON = [
    ("ex:mc-rest", lesson_rest),
    ("ex:mc-barker", lambda p_i, p_j, forth, back: back * p_i / (back * p_i + forth * p_j)),
    ("ex:mc-factor", lambda x, y, k: (k * (y.log() - x.log()) - y + x).clamp(max=0)),
    ("ex:mc-worth", lambda a, N: N * (1 - a) / (1 + a)),
    ("ex:mc-spins", lambda b: math.tanh(b) ** 2),
    ("ex:mc-spins", lambda b: 1 - 1 / math.cosh(b) ** 2),
    ("ex:mc-leap", lesson_before),
    ("ex:mc-leap", verlet),
    ("ex:mc-exchange", lambda E_x, E_y, F_x, F_y: math.exp(min(0.0, E_x - E_y + F_y - F_x))),
]


def crossed(exponent):
    return lambda *energies: math.exp(min(0.0, exponent(*energies)))


def change(function):
    return lambda x, y, k: function((k - 1) * (y / x).log() - y + x, (y / x).log()).clamp(max=0)


def taken_back(first=0.5, second=0.5, at_new=True):
    """A leap backwards with other kicks."""

    def answer(x, v, step, score):
        half = v - first * step * score(x)
        there = x - step * half
        return there, half - second * step * score(there if at_new else x)

    return answer


def euler(x, v, step, score):
    return x - step * v, v - step * score(x)


def forward(x, v, step, score):
    return samplers.leapfrog(score, x, v, step, 1)


def turned(x, v):
    return x, -v


SLIPS = [
    ("ex:mc-rest", lambda u, d, N: (u / d) ** torch.arange(N).double(), "sum to 1."),
    ("ex:mc-rest", lambda u, d, N: lesson_rest(d, u, N), "other way round"),
    ("ex:mc-rest", lambda u, d, N: torch.ones(N) / N, "equal to `down`"),
    ("ex:mc-rest", lambda u, d, N: lesson_rest(u**2, d**2, N), "single power"),
    ("ex:mc-rest", lambda u, d, N: lesson_rest(u, 1.0, N), "`up` alone"),
    ("ex:mc-rest", lambda u, d, N: lesson_rest(u, 1 - u, N), "not 1 − `up`"),
    ("ex:mc-rest", lambda u, d, N: lesson_rest(u, d, N).log(), "logarithms"),
    ("ex:mc-barker", lambda p, q, f, b: min(1.0, b * p / (f * q)), "Metropolis"),
    ("ex:mc-barker", lambda p, q, f, b: b * p / (f * q), "at most 1"),
    ("ex:mc-barker", lambda p, q, f, b: 1 - barker(p, q, f, b), "upside down"),
    ("ex:mc-barker", lambda p, q, f, b: p / (p + q), "proposal is missing"),
    ("ex:mc-barker", lambda p, q, f, b: f * p / (f * p + b * q), "not that of the way there"),
    ("ex:mc-barker", lambda p, q, f, b: b / (b + f), "law is missing"),
    ("ex:mc-factor", change(lambda gain, turn: gain), "proposal is missing"),
    ("ex:mc-factor", change(lambda gain, turn: gain - turn), "upside down"),
    ("ex:mc-factor", lambda x, y, k: k * (y / x).log() - y + x, "cut its logarithm"),
    ("ex:mc-factor", change(lambda gain, turn: -gain - turn), "It is upside down"),
    ("ex:mc-factor", lambda x, y, k: (k * (y / x).log()).clamp(max=0), "exponential of the target is missing"),
    ("ex:mc-factor", lambda x, y, k: factor(x, y, k).exp(), "logarithm is asked"),
    ("ex:mc-worth", lambda a, N: N * (1 + a) / (1 - a), "other way round"),
    ("ex:mc-worth", lambda a, N: (1 + a) / (1 - a), "divided by it"),
    ("ex:mc-worth", lambda a, N: N * (1 - a), "factor 2"),
    ("ex:mc-worth", lambda a, N: N / (1 + 2 * a), "nearest neighbour"),
    ("ex:mc-spins", lambda b: math.tanh(b), "one draw"),
    ("ex:mc-spins", lambda b: math.tanh(2 * b) ** 2, "differ by 2b"),
    ("ex:mc-spins", lambda b: 1 / (1 + math.exp(-2 * b)), "equals the other"),
    ("ex:mc-spins", lambda b: 1 - math.tanh(b) ** 2, "forgotten"),
    ("ex:mc-leap", forward, "comes after"),
    ("ex:mc-leap", lambda *given: turned(*forward(*given)), "before the leap, too"),
    ("ex:mc-leap", lambda *given: turned(*before(*given)), "at the end"),
    ("ex:mc-leap", euler, "Euler"),
    ("ex:mc-leap", taken_back(at_new=False), "at its own place"),
    ("ex:mc-leap", taken_back(second=0.0), "Only one half"),
    ("ex:mc-leap", taken_back(-0.5, -0.5), "taken off on the way back"),
    ("ex:mc-leap", lambda *given: before(*given)[::-1], "place comes first"),
    ("ex:mc-exchange", crossed(lambda E_x, E_y, F_x, F_y: E_y + F_x - E_x - F_y), "upside down"),
    ("ex:mc-exchange", crossed(lambda E_x, E_y, F_x, F_y: E_x - E_y), "first walk alone"),
    ("ex:mc-exchange", crossed(lambda E_x, E_y, F_x, F_y: F_y - F_x), "second walk alone"),
    ("ex:mc-exchange", crossed(lambda E_x, E_y, F_x, F_y: E_x + F_x - E_y - F_y), "trade places in F"),
    ("ex:mc-exchange", crossed(lambda E_x, E_y, F_x, F_y: E_x + E_y - F_x - F_y), "not E and F"),
    ("ex:mc-exchange", lambda *energies: math.log(exchange(*energies) or 1e-300), "logarithm"),
    ("ex:mc-exchange", lambda *energies: exchange(*energies) ** 0.5, "factor ½"),
    (
        "ex:mc-exchange",
        lambda E_x, E_y, F_x, F_y: 1 / (1 + math.exp(min(700, E_y + F_x - E_x - F_y))),
        "Barker",
    ),
]  # fmt: skip


def test_a_leap_must_return_two_things(said):
    assert said("ex:mc-leap", lambda x, v, step, score: x - step * v).startswith("not yet")
    assert "nothing" in said("ex:mc-leap", lambda x, v, step, score: None)


def test_a_leap_may_be_a_list(said):
    assert said("ex:mc-leap", lambda *given: list(lesson_before(*given))).startswith("right")
