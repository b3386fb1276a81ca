"""The exercises of the lesson on the scorecard: right answers and common slips."""

import itertools
import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

from genlib import checks, data


def floor(k, p, n, m):
    """Through the covariance of the counts: E δᵀ k δ = tr(k Cov δ) for the difference δ of the shares."""
    q = p.double().numpy() / p.double().sum().item()
    cov = stats.multinomial(n, q).cov() / n**2 + stats.multinomial(m, q).cov() / m**2
    return np.trace(k.double().numpy() @ cov)


def lesson_floor(k, p, n, m):
    return (1 / n + 1 / m) * (p @ k.diag() - p @ k @ p)


def enumerated(k, p, n, m):
    """The mean of the squared discrepancy over all pairs of samples."""
    if len(p) ** (n + m) > 5000:
        return floor(k, p, n, m)
    total = 0.0
    for drawn in itertools.product(range(len(p)), repeat=n + m):
        x, y = drawn[:n], drawn[n:]
        within_x = statistics.fmean(k[a, b].item() for a in x for b in x)
        within_y = statistics.fmean(k[a, b].item() for a in y for b in y)
        between = statistics.fmean(k[a, b].item() for a in x for b in y)
        total += math.prod(p[s].item() for s in drawn) * (within_x + within_y - 2 * between)
    return total


def gap(k, p):
    return lesson_floor(k, p, 2, 2)


def stable(values, distance):
    values = values.tolist()
    return sum(v - min(values) < distance + 1e-6 for v in values) / len(values)


def lesson_stable(values, distance):
    return (values <= values.min() + distance).double().mean()


def ended(values):
    return values[values.isfinite()]


def alive(wrong):
    """The share, among all seeds, of those that ended and of which `wrong(them, distance)` is true."""
    return lambda values, distance: wrong(ended(values), distance).sum() / len(values)


def undominated(cost, error):
    """By sweeping: sorted by cost, the error must fall."""
    kept, best = [False] * len(cost), math.inf
    for price in sorted(set(cost.tolist())):
        here = [i for i in range(len(cost)) if cost[i] == price]
        least = min(error[i].item() for i in here)
        for i in here:
            kept[i] = error[i].item() == least < best
        best = min(best, least)
    return kept


def lesson_undominated(cost, error):
    as_good = (cost[None] <= cost[:, None]) & (error[None] <= error[:, None])
    return ~(as_good & ~as_good.T).any(1)


def numpy_undominated(cost, error):
    return np.array(undominated(cost, error))


def not_below(cost, error):
    return (cost[None] <= cost[:, None]) & (error[None] <= error[:, None])


def first_of_equals(cost, error):
    pairs = list(zip(cost.tolist(), error.tolist(), strict=True))
    return [
        kept and pair not in pairs[:i]
        for i, (kept, pair) in enumerate(zip(undominated(cost, error), pairs, strict=True))
    ]


def normal_of(x):
    return MultivariateNormal(x.mean(0), x.T.cov())


class Own(nn.Module):
    """A normal distribution as a network."""

    def __init__(self, x):
        super().__init__()
        self.mean = nn.Parameter(x.mean(0))
        self.root = nn.Parameter(torch.linalg.cholesky(x.T.cov(correction=0)))

    def log_prob(self, x):
        z = torch.linalg.solve_triangular(self.root, (x - self.mean).T, upper=False)
        constant = self.root.diag().log().sum() + x.shape[1] / 2 * math.log(2 * math.pi)
        return -(z**2).sum(0) / 2 - constant

    def sample(self, shape):
        return self.mean + torch.randn(*shape, len(self.mean)) @ self.root.T


class Scipy:
    def __init__(self, x):
        self.normal = stats.multivariate_normal(x.double().mean(0), np.cov(x.double().T.numpy()))

    def log_prob(self, x):
        return torch.from_numpy(self.normal.logpdf(x.double().numpy()))

    def sample(self, shape):
        return torch.from_numpy(self.normal.rvs(shape[0], random_state=3)).float()


class Changed:
    """The right model with one method replaced."""

    def __init__(self, x, log_prob=None, sample=None):
        self.log_prob, self.sample = log_prob or normal_of(x).log_prob, sample or normal_of(x).sample


def spread(change):
    """A normal distribution around 0 whose covariance is changed."""
    return lambda x: MultivariateNormal(torch.zeros(x.shape[1]), change(x.T.cov()))


def density(change):
    """The right model with its log-density changed: change(log q, covariance)."""
    return lambda x: Changed(x, log_prob=lambda at: change(normal_of(x).log_prob(at), x.T.cov()))


def drawing(change):
    """The right density, with samples z @ change(covariance)."""
    return lambda x: Changed(x, sample=lambda n: torch.randn(*n, x.shape[1]) @ change(x.T.cov()))


class Without:
    def __init__(self, x):
        self.log_prob = normal_of(x).log_prob


def board():
    """Moments and divergence by Gauss-Legendre quadrature on each dark square, exact for squares of x."""
    node, weight = np.polynomial.legendre.leggauss(4)
    mass, points = [], []
    for left, bottom in itertools.product((-4, -2, 0, 2), repeat=2):
        for (u, a), (v, b) in itertools.product(zip(node, weight, strict=True), repeat=2):
            points.append((left + 1 + u, bottom + 1 + v))
            mass.append(a * b)
    points = torch.tensor(points, dtype=torch.float64)
    log_p = data.Checkerboard(dtype=torch.float64).log_prob(points)
    w = torch.tensor(mass, dtype=torch.float64) * log_p.exp()
    mean = w @ points
    cov = (points - mean).T @ (w[:, None] * (points - mean))
    dark = w > 0
    log_q = MultivariateNormal(mean, cov).log_prob(points)
    return w.sum(), mean, cov, w[dark] @ (log_p - log_q)[dark]


FAST = [
    ("ex:sc-floor", floor),
    ("ex:sc-floor", lesson_floor),
    ("ex:sc-floor", enumerated),
    ("ex:sc-floor", lambda k, p, n, m: lesson_floor(k, p, n, m).item()),
    ("ex:sc-stable", stable),
    ("ex:sc-stable", lesson_stable),
    ("ex:sc-stable", lambda values, distance: np.mean(values.numpy() - values.min().item() <= distance)),
    ("ex:sc-front", undominated),
    ("ex:sc-front", lesson_undominated),
    ("ex:sc-front", numpy_undominated),
]
ANSWERS = [
    *FAST,
    ("ex:sc-own", normal_of),
    ("ex:sc-own", Own),
    ("ex:sc-own", Scipy),
    ("ex:sc-checkerboard", board()[-1]),
    ("ex:sc-checkerboard", 1.028),
]
LABELS = sorted({label for label, _ in ANSWERS})


@pytest.mark.parametrize(("label", "answer"), ANSWERS)
def test_right_answers_are_graded_right(label, answer, said):
    assert said(label, answer).startswith("right")


@pytest.mark.parametrize(("label", "answer"), FAST)
def test_right_answers_in_single_precision_are_graded_right(label, answer, said, single):
    assert said(label, single(answer)).startswith("right")


@pytest.mark.parametrize("label", LABELS)
def test_no_slip_is_the_right_answer_or_another_slip(label):
    checks.grade(label, None)  # so that the graders are there
    for case in checks._graders[label](lambda *given: None):
        answers = [case.expected, *case.slips.values()]
        for one, other in itertools.combinations(answers, 2):
            assert not checks._matches(one, other, case.atol)


@pytest.mark.parametrize("label", LABELS)
def test_slips_are_short(label):
    checks.grade(label, None)
    for case in checks._graders[label](lambda *given: None):
        assert all(len(slip.split()) <= 12 for slip in case.slips)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("answer", [None, ...])
def test_no_answer_is_said(label, answer, said):
    assert said(label, answer) == "no answer yet"
    if label != "ex:sc-checkerboard":
        assert said(label, lambda *given: answer) == "no answer yet: the function returns nothing"


def unwritten(*given):
    raise NotImplementedError


def broken(*given):
    raise KeyError("lost")


@pytest.mark.parametrize("label", [label for label in LABELS if label != "ex:sc-checkerboard"])
def test_functions_that_raise_are_reported(label, said):
    assert said(label, unwritten) == "no answer yet"
    told = said(label, broken)
    assert told.startswith("not yet")
    assert "the answer raised KeyError: 'lost'" in told


SLIPS = [
    ("ex:sc-floor", lambda k, p, n, m: (1 / n + 1 / m) * (p @ k.diag()), "two independent points"),
    ("ex:sc-floor", lambda k, p, n, m: 2 / n * gap(k, p), "not 2/n"),
    ("ex:sc-floor", lambda k, p, n, m: 2 / m * gap(k, p), "not 2/m"),
    ("ex:sc-floor", lambda k, p, n, m: gap(k, p) / n, "not only the first"),
    ("ex:sc-floor", lambda k, p, n, m: gap(k, p) / m, "not only the second"),
    ("ex:sc-floor", lambda k, p, n, m: gap(k, p) / (n + m), "not 1/(n + m)"),
    ("ex:sc-floor", lambda k, p, n, m: 2 * gap(k, p) / (n + m), "not 2/(n + m)"),
    ("ex:sc-floor", lambda k, p, n, m: math.sqrt(floor(k, p, n, m)), "the root"),
    ("ex:sc-floor", lambda k, p, n, m: 0.0, "unbiased"),
    ("ex:sc-floor", lambda k, p, n, m: (1 / n + 1 / m) * (k.diag().mean() - p @ k @ p), "equally likely"),
    ("ex:sc-floor", lambda k, p, n, m: (1 / n + 1 / m) * (k.trace() - p @ k @ p), "add it up"),
    ("ex:sc-floor", lambda k, p, n, m: (1 / n + 1 / m) * (p @ (p * k.diag()) - p @ k @ p), "not p²"),
    ("ex:sc-floor", lambda k, p, n, m: -floor(k, p, n, m), "never negative"),
    ("ex:sc-stable", lambda v, d: (v <= v.min() + d).sum() / v.isfinite().sum(), "in the total"),
    ("ex:sc-stable", alive(lambda v, d: v <= v.mean() + d), "not from the mean"),
    ("ex:sc-stable", alive(lambda v, d: (v - v.mean()).abs() <= d), "around the mean"),
    ("ex:sc-stable", alive(lambda v, d: v >= v.max() - d), "not from the worst"),
    ("ex:sc-stable", alive(lambda v, d: v <= d), "not from 0"),
    ("ex:sc-stable", lambda v, d: (v <= v.min() + d).sum(), "That is the number"),
    ("ex:sc-stable", lambda v, d: ((v <= v.min() + d).sum() - 1) / len(v), "best seed itself counts."),
    ("ex:sc-stable", lambda v, d: ((v <= v.min() + d).sum() - 1) / (len(v) - 1), "in the total too"),
    ("ex:sc-stable", lambda v, d: (v <= v.min() * (1 + d)).double().mean(), "not relative"),
    ("ex:sc-stable", lambda v, d: (v < v.min() + d).double().mean(), "At most"),
    ("ex:sc-stable", lambda v, d: 1 - stable(v, d), "further off"),
    ("ex:sc-stable", lambda v, d: v.isfinite().double().mean(), "did not break down"),
    ("ex:sc-front", lambda c, e: ~((c < c[:, None]) & (e < e[:, None])).any(1), "worse in the other"),
    (
        "ex:sc-front",
        lambda c, e: ~(not_below(c, e) & ~torch.eye(len(c), dtype=torch.bool)).any(1),
        "do not beat each other.",
    ),
    ("ex:sc-front", first_of_equals, "keep both"),
    ("ex:sc-front", lambda c, e: ~not_below(c, e).any(1), "beats itself"),
    ("ex:sc-front", lambda c, e: ~lesson_undominated(c, e), "beaten ones"),
    ("ex:sc-front", lambda c, e: (c == c.min()) | (e == e.min()), "there are others"),
    ("ex:sc-front", lambda c, e: lesson_undominated(c, e).nonzero()[:, 0], "not their numbers"),
    ("ex:sc-front", lambda c, e: sum(undominated(c, e)), "not how many"),
    ("ex:sc-front", lambda c, e: lesson_undominated(-c, -e), "Smaller is better"),
    ("ex:sc-own", lambda x: Independent(Normal(x.mean(0), x.std(0)), 1), "whole covariance"),
    ("ex:sc-own", spread(lambda S: torch.eye(len(S))), "standard normal"),
    ("ex:sc-own", lambda x: Independent(Normal(x.mean(0), x.var(0)), 1), "place of the deviation"),
    ("ex:sc-own", spread(lambda S: S @ S), "place of its root"),
    ("ex:sc-own", spread(torch.linalg.inv), "place of its inverse"),
    ("ex:sc-own", density(lambda q, S: q + (2 * math.pi * S).logdet() / 2), "integral 1"),
    ("ex:sc-own", density(lambda q, S: q + S.logdet() / 2), "determinant"),
    ("ex:sc-own", density(lambda q, S: q + len(S) * math.log(2 * math.pi) / 2), "powers of 2π"),
    ("ex:sc-own", density(lambda q, S: -q), "not the cost"),
    ("ex:sc-own", density(lambda q, S: q.sum()), "shape must be (4,)"),
    ("ex:sc-own", drawing(lambda S: S.diag().sqrt().diag()), "draw with the whole"),
    ("ex:sc-own", drawing(lambda S: torch.eye(len(S))), "standard normal"),
    ("ex:sc-own", drawing(lambda S: S.diag().diag()), "place of the deviation"),
    ("ex:sc-own", drawing(lambda S: S), "place of its root"),
    ("ex:sc-own", drawing(torch.linalg.cholesky), "transposed"),
    ("ex:sc-own", drawing(lambda S: torch.linalg.cholesky(S, upper=True)[:, :2]), "shape (100000, 3)"),
    ("ex:sc-own", lambda x: Changed(x, sample=lambda n: normal_of(x).sample(n).numpy()), "a tensor of shape"),
    ("ex:sc-own", Without, "no attribute 'sample'"),
    ("ex:sc-own", lambda x: x, "no attribute 'log_prob'"),
    ("ex:sc-own", 3.0, "not callable"),
    ("ex:sc-checkerboard", math.log(2 * math.pi * math.e * 16 / 3) - math.log(32), "correlated: "),
    ("ex:sc-checkerboard", board()[-1] - math.log(2), "Half of the board"),
    ("ex:sc-checkerboard", math.log(2 * math.pi * math.e * 16 / 3) - math.log(64), "correlated, and"),
    ("ex:sc-checkerboard", board()[-1] / math.log(2), "bits"),
    ("ex:sc-checkerboard", -board()[-1], "never negative"),
    ("ex:sc-checkerboard", board()[-1] + math.log(32), "normal distribution alone"),
    ("ex:sc-checkerboard", math.log(32), "checkerboard alone"),
    ("ex:sc-checkerboard", stats.norm(0, math.sqrt(16 / 3)).entropy() - math.log(8), "one coordinate"),
    ("ex:sc-checkerboard", math.inf, "other direction"),
]


@pytest.mark.parametrize(("label", "answer", "says"), SLIPS)
def test_slips_are_named(label, answer, says, said):
    told = said(label, answer)
    assert told.startswith("not yet")
    assert says in told


def test_every_slip_has_a_test():
    for label in LABELS:
        checks.grade(label, None)
        slips = {slip for case in checks._graders[label](lambda *given: None) for slip in case.slips}
        for slip in slips:
            assert [says for of, _, says in SLIPS if of == label and says in slip], slip


@pytest.mark.parametrize(
    ("label", "answer"),
    [
        ("ex:sc-floor", lambda k, p, n, m: 0.9 * lesson_floor(k, p, n, m)),
        ("ex:sc-floor", lambda k, p, n, m: "much"),
        ("ex:sc-stable", lambda values, distance: 0.123),
        ("ex:sc-front", lambda cost, error: [True] * len(cost)),
        ("ex:sc-front", lambda cost, error: [True] * (len(cost) - 1)),
        ("ex:sc-own", spread(lambda S: 1.3 * S)),
        ("ex:sc-own", drawing(lambda S: 1.3 * torch.linalg.cholesky(S).T)),
        ("ex:sc-own", lambda x: Changed(x, sample=lambda n: 0.3 + normal_of(x).sample(n))),
        ("ex:sc-checkerboard", 1.0),
    ],
)
def test_wrong_answers_without_a_name_are_not_right(label, answer, said):
    assert said(label, answer).startswith("not yet")


def on_the_plane(change):
    """Right in three dimensions, and changed in two."""
    return lambda x: normal_of(x) if x.shape[1] == 3 else change(x)


def raising(x):
    raise RuntimeError("it broke down")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: Independent(Normal(x.mean(0), x.std(0)), 1), "whole covariance"),
        (drawing(lambda S: S.diag().sqrt().diag()), "covariance of the samples on the two moons"),
        (raising, "it broke down"),
    ],
)
def test_own_model_must_do_in_the_scorecard_too(change, says, said):
    told = said("ex:sc-own", on_the_plane(change))
    assert told.startswith("not yet")
    assert "two moons" in told
    assert says in told


def test_own_model_leaves_the_stream_of_random_numbers_alone(said):
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    said("ex:sc-own", Without)
    assert torch.equal(torch.randn(3), expected)


def test_moments_of_the_two_moons():
    source = data.two_moons(dtype=torch.float64)
    points = data.lattice(source.box, 300)
    w = source.log_prob(points).exp()
    w = w / w.sum()
    centred = points - w @ points
    cov = centred.T @ (w[:, None] * centred)
    checks.grade("ex:sc-own", None)
    cases = list(checks._graders["ex:sc-own"](normal_of))
    assert torch.allclose(cases[-1].expected, cov, atol=1e-9)
    cost = -(w @ MultivariateNormal(w @ points, cov).log_prob(points))
    assert cases[-2].expected == pytest.approx((cost - source.entropy()).item(), abs=1e-5)


def test_moments_of_the_checkerboard():
    mass, mean, cov, divergence = board()
    assert mass == pytest.approx(1)
    assert torch.allclose(mean, torch.zeros(2, dtype=torch.float64), atol=1e-12)
    exact = torch.tensor([[Fraction(16, 3), 1], [1, Fraction(16, 3)]], dtype=torch.float64)
    assert torch.allclose(cov, exact, atol=1e-12)
    sampled = data.Checkerboard(dtype=torch.float64).sample(
        (100_000,), generator=torch.Generator().manual_seed(0)
    )
    assert torch.allclose(sampled.T.cov(), exact, atol=0.1)
    checks.grade("ex:sc-checkerboard", None)
    (case,) = checks._graders["ex:sc-checkerboard"](None)
    assert case.expected == pytest.approx(divergence.item(), abs=1e-10)


def test_entropy_of_a_normal_by_integration():
    q = stats.norm(0, math.sqrt(16 / 3))
    alone = integrate.quad(lambda x: (math.log(1 / 8) - q.logpdf(x)) / 8, -4, 4)[0]
    assert alone == pytest.approx(q.entropy() - math.log(8), abs=1e-9)
