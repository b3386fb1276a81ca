"""The exercises of the lessons on the adversarial game and its dynamics: right answers pass, common slips are named."""

import cmath
import math

import pytest
import torch
from scipy import stats
from torch.nn import functional


def judge(p, q, r):
    return torch.sigmoid(p.log() - q.log() + math.log(r) - math.log(1 - r))


def divergences(f_real, f_fake):
    zero = f_real.new_zeros(())
    log_D, log_not = -torch.logaddexp(zero, -f_real), -torch.logaddexp(zero, f_fake)
    return torch.stack([f_real.mean(), (log_D + math.log(2)).mean() / 2 + (log_not + math.log(2)).mean() / 2])


def hinge(p, q):
    f = torch.linspace(-3, 3, 601, dtype=p.dtype)
    return f[(p * (1 - f).clamp(min=0) + q * (1 + f).clamp(min=0)).argmin()]


def rate(gamma):
    return -torch.linalg.eigvals(torch.tensor([[0, 0.5], [-0.5, -gamma]])).real.max()


def earth(x, y):
    return stats.wasserstein_distance(x, y)


def slopes(critic, x):
    return torch.func.vmap(torch.func.grad(lambda row: critic(row[None])[0]))(x)


def lengths(critic, real, fake, u):
    return slopes(critic, torch.lerp(fake, real, u)).square().sum(1).sqrt()


def penalty(critic, real, fake, u):
    return functional.mse_loss(found := lengths(critic, real, fake, u), torch.ones_like(found))


def of_bells(x, a, b, s):
    return torch.distributions.Normal(a, s).log_prob(x) - torch.distributions.Normal(b, s).log_prob(x)


def lesson_bells(x, a, b, s):
    return ((x - b) ** 2 - (x - a) ** 2) / (2 * s**2)


def best_labels(p, q, a, b):
    return b + (a - b) * p / (p + q)


def lesson_labels(p, q, a, b):
    return (p * a + q * b) / (p + q)


def steepest(c, D, n):  # found on the network itself, in float64
    v, w = torch.full((n,), c, dtype=torch.float64), torch.full((n, D), c, dtype=torch.float64)
    x = torch.ones(D, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(v @ (w @ x).relu(), x)[0].norm()


def lesson_steepest(c, D, n):
    return n * c**2 * math.sqrt(D)


def lesson_judge(p, q, r):
    return r * p / (r * p + (1 - r) * q)


def lesson_divergences(f_real, f_fake):
    V = -functional.softplus(-f_real).mean() - functional.softplus(f_fake).mean()
    return torch.stack([f_real.mean(), (V + math.log(4)) / 2])


def lesson_hinge(p, q):
    return torch.sign(p - q)


def lesson_rate(gamma):
    root = cmath.sqrt(gamma**2 / 4 - 1 / 4)
    return gamma / 2 - root.real


def lesson_earth(x, y):
    edges = torch.cat([x, y]).sort().values
    F_x, F_y = ((s[:, None] <= edges).double().mean(0) for s in (x, y))
    return ((F_x - F_y).abs()[:-1] * edges.diff()).sum()


def lesson_penalty(critic, real, fake, u):
    x = (u * real + (1 - u) * fake).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return ((slopes.norm(dim=1) - 1) ** 2).mean()


ANSWERS = [
    ("ex:gan-shares", judge),
    ("ex:gan-shares", lesson_judge),
    ("ex:gan-kl", divergences),
    ("ex:gan-kl", lesson_divergences),
    ("ex:gan-hinge", hinge),
    ("ex:gan-hinge", lesson_hinge),
    ("ex:gan-hinge", lambda p, q: 1 if p > q else -1),
    ("ex:gan-line", of_bells),
    ("ex:gan-line", lesson_bells),
    ("ex:gan-labels", best_labels),
    ("ex:gan-labels", lesson_labels),
    ("ex:gad-clip", steepest),
    ("ex:gad-clip", lesson_steepest),
    ("ex:gad-rest", rate),
    ("ex:gad-rest", lesson_rate),
    ("ex:gad-w1", earth),
    ("ex:gad-w1", lesson_earth),
    ("ex:gad-penalty", penalty),
    ("ex:gad-penalty", lesson_penalty),
]


@pytest.mark.parametrize(("label", "answer"), ANSWERS)
def test_right_answers_are_graded_right(label, answer, said):
    assert said(label, answer).startswith("right")


@pytest.mark.parametrize("answer", [math.sqrt(2), 1.4142, torch.tensor(2.0).sqrt()])
def test_the_best_noise_is_a_number(answer, said):
    assert said("ex:gad-noise", answer).startswith("right")


@pytest.mark.parametrize(("label", "answer"), ANSWERS)
def test_right_answers_in_single_precision_are_graded_right(label, answer, said, single):
    assert said(label, single(answer)).startswith("right")


def test_the_batches_given_carry_no_gradients(said):
    def answer(critic, real, fake, u):
        assert not any(part.requires_grad for part in (real, fake, u))
        return penalty(critic, real, fake, u)

    assert said("ex:gad-penalty", answer).startswith("right")


def changed(kl=lambda kl, js: kl, js=lambda kl, js: js):
    """The divergences, of which one is changed."""

    def answer(f_real, f_fake):
        both = divergences(f_real, f_fake)
        return torch.stack([kl(*both), js(*both)])

    return answer


def mixed(f_real, f_fake):
    labels = torch.cat([torch.ones_like(f_real), torch.zeros_like(f_fake)])
    H = functional.binary_cross_entropy_with_logits(torch.cat([f_real, f_fake]), labels)
    return torch.stack([f_real.mean(), math.log(2) - H])


def overflowing(f_real, f_fake):
    V = -torch.log1p(torch.exp(-f_real)).mean() - torch.log1p(torch.exp(f_fake)).mean()
    return torch.stack([f_real.mean(), (V + math.log(4)) / 2])


def undefined(f_real, f_fake):
    D = torch.sigmoid(f_real)
    return torch.stack([(D.log() - (1 - D).log()).mean(), divergences(f_real, f_fake)[1]])


def eigenvalue(gamma):
    return cmath.sqrt(gamma**2 / 4 - 1 / 4) - gamma / 2


def counted(x, y):
    edges = torch.cat([x, y]).sort().values
    more = torch.searchsorted(x.sort().values, edges, side="right")
    fewer = torch.searchsorted(y.sort().values, edges, side="right")
    return torch.trapezoid((more - fewer).abs().repeat_interleave(2)[:-1], edges.repeat_interleave(2)[1:])


def quantiles(x, y, power):
    n, m = len(x), len(y)
    return (
        (x.sort().values.repeat_interleave(m) - y.sort().values.repeat_interleave(n)).abs().pow(power).mean()
    )


def of_lengths(penalise):
    return lambda *given: penalise(lengths(*given))


def of_slopes(penalise):
    return lambda critic, real, fake, u: penalise(slopes(critic, torch.lerp(fake, real, u)))


@pytest.mark.parametrize(
    ("label", "answer", "says"),
    [
        ("ex:gan-shares", lambda p, q, r: p / (p + q), "r is not used"),
        ("ex:gan-shares", lambda p, q, r: judge(p, q, 1 - r), "exchanged"),
        ("ex:gan-shares", lambda p, q, r: 1 - judge(p, q, r), "share of the made"),
        ("ex:gan-shares", lambda p, q, r: r * p / (r * p + q), "1 − r"),
        ("ex:gan-shares", lambda p, q, r: r * p / (p + q), "not the answer"),
        ("ex:gan-shares", lambda p, q, r: judge(p, q, r).logit(), "sigmoid"),
        ("ex:gan-shares", lambda p, q, r: r / (1 - r) * p / q, "ratio"),
        ("ex:gan-shares", lambda p, q, r: r * p + (1 - r) * q, "which share"),
        ("ex:gan-kl", lambda r, f: torch.stack([-f.mean(), divergences(r, f)[1]]), "D_KL(q ‖ p)"),
        ("ex:gan-kl", lambda r, f: torch.stack([f.mean(), divergences(r, f)[1]]), "over the real examples"),
        ("ex:gan-kl", changed(js=lambda kl, js: 2 * js - math.log(4)), "value V"),
        ("ex:gan-kl", changed(js=lambda kl, js: 2 * js), "twice"),
        ("ex:gan-kl", changed(js=lambda kl, js: js - math.log(4)), "sign of the constant"),
        ("ex:gan-kl", changed(js=lambda kl, js: js - math.log(2) / 2), "two means"),
        ("ex:gan-kl", changed(kl=lambda kl, js: -kl), "sign"),
        ("ex:gan-kl", lambda *given: divergences(*given).flip(0), "comes first"),
        ("ex:gan-kl", lambda *given: divergences(*given) / math.log(2), "nats"),
        (
            "ex:gan-kl",
            lambda r, f: torch.stack([r.mean(), divergences(r, -f)[1]]),
            "log(1 − D)",
        ),
        ("ex:gan-kl", mixed, "numbers may differ"),
        ("ex:gan-kl", overflowing, "softplus"),
        ("ex:gan-kl", undefined, "Keep large f finite"),
        ("ex:gan-kl", lambda *given: divergences(*given)[0], "shape must be (2,)"),
        ("ex:gan-hinge", lambda p, q: torch.sign(q - p), "other way round"),
        ("ex:gan-hinge", lambda p, q: 1.0, "other way round"),
        ("ex:gan-hinge", lambda p, q: 2 * torch.minimum(p, q), "smallest cost"),
        ("ex:gan-hinge", lambda p, q: q - p, "slope of the cost"),
        ("ex:gan-hinge", lambda p, q: p / (p + q), "judge of the first game"),
        ("ex:gan-hinge", lambda p, q: (p / q).log(), "critic of the first game"),
        ("ex:gan-hinge", lambda p, q: (p / q).log().clamp(-1, 1), "critic of the first game"),
        ("ex:gan-hinge", lambda p, q: (p - q) / (p + q), "squares"),
        ("ex:gan-hinge", lambda p, q: p > q, "At 0"),
        ("ex:gan-hinge", lambda p, q: 3.0, "Draw the cost"),
        ("ex:gan-line", lambda x, a, b, s: of_bells(x, b, a, s), "sign"),
        ("ex:gan-line", lambda x, a, b, s: of_bells(x, a, b, s).sigmoid(), "the critic is asked"),
        ("ex:gan-line", lambda x, a, b, s: of_bells(x, a, b, s).exp(), "logarithm"),
        ("ex:gan-line", lambda x, a, b, s: of_bells(x, a, b, s) * 2, "one half"),
        ("ex:gan-line", lambda x, a, b, s: of_bells(x, a, b, s**0.5), "variance"),
        ("ex:gan-line", lambda x, a, b, s: of_bells(x, a, b, 1.0), "deviation"),
        ("ex:gan-line", lambda x, a, b, s: (a - b) * x / s**2, "do not"),
        ("ex:gan-line", lambda x, a, b, s: (a - b) * (x - a) / s**2, "half-way"),
        ("ex:gan-labels", lambda p, q, a, b: best_labels(p, q, b, a), "exchanged"),
        ("ex:gan-labels", lambda p, q, a, b: p * a + q * b, "Divide"),
        ("ex:gan-labels", lambda p, q, a, b: best_labels(p, q, a, -b), "difference"),
        ("ex:gan-labels", lambda p, q, a, b: torch.where(p > q, a, b), "frequent"),
        ("ex:gan-labels", lambda p, q, a, b: torch.full_like(p, (a + b) / 2), "equally"),
        ("ex:gad-noise", 2.0, "deviation is asked"),
        ("ex:gad-noise", 1.0, "R1"),
        ("ex:gad-noise", 0.7071, "half the variance"),
        ("ex:gad-noise", 0.5, "rate"),
        ("ex:gad-clip", lambda c, D, n: n * c * D**0.5, "twice"),
        ("ex:gad-clip", lambda c, D, n: n * c**2 * D, "root"),
        ("ex:gad-clip", lambda c, D, n: n * c**2, "one entry"),
        ("ex:gad-clip", lambda c, D, n: c**2 * D**0.5, "add up"),
        ("ex:gad-clip", lambda c, D, n: n**0.5 * c**2 * D**0.5, "right angles"),
        ("ex:gad-rest", lambda gamma: gamma / 2 + cmath.sqrt(gamma**2 / 4 - 1 / 4).real, "dies first"),
        ("ex:gad-rest", lambda gamma: gamma / 2, "Beyond γ = 1"),
        ("ex:gad-rest", lambda gamma: eigenvalue(gamma).real, "sign"),
        ("ex:gad-rest", lambda gamma: abs(eigenvalue(gamma)), "real part"),
        ("ex:gad-rest", lambda gamma: eigenvalue(gamma).imag, "swings"),
        ("ex:gad-rest", lambda gamma: gamma / 2 - math.sqrt(abs(gamma**2 - 1)) / 2, "imaginary"),
        ("ex:gad-rest", lambda gamma: gamma / 2 - torch.tensor(gamma**2 - 1).sqrt() / 2, "imaginary"),
        ("ex:gad-rest", lambda gamma: -2 * eigenvalue(gamma).real, "squared"),
        ("ex:gad-rest", lambda gamma: math.exp(eigenvalue(gamma).real), "factor"),
        ("ex:gad-w1", lambda x, y: earth(x.sort().values[: len(y)], y.sort().values[: len(x)]), "split"),
        ("ex:gad-w1", lambda x, y: (x.mean() - y.mean()).abs(), "distance of the means"),
        ("ex:gad-w1", lambda x, y: -(x.mean() - y.mean()).abs(), "absolute values"),
        ("ex:gad-w1", lambda x, y: torch.cdist(x[:, None], y[:, None]).mean(), "all pairs"),
        ("ex:gad-w1", lambda x, y: torch.cdist(x[:, None], y[:, None]).amin(1).mean(), "nearest"),
        ("ex:gad-w1", lambda x, y: (x[: len(y)] - y[: len(x)]).abs().mean(), "Sort first"),
        ("ex:gad-w1", counted, "total weight 1"),
        ("ex:gad-w1", lambda x, y: quantiles(x, y, 2), "mean of the squares"),
        ("ex:gad-w1", lambda x, y: quantiles(x, y, 2).sqrt(), "root"),
        ("ex:gad-w1", lambda x, y: quantiles(x.unique(), y.unique(), 1), "two neighbours"),
        ("ex:gad-penalty", lambda critic, real, fake, u: penalty(critic, real, fake, 1 - u), "u belongs"),
        ("ex:gad-penalty", lambda critic, real, fake, u: penalty(critic, real, real, u), "at the data"),
        ("ex:gad-penalty", lambda critic, real, fake, u: penalty(critic, fake, fake, u), "at the samples"),
        ("ex:gad-penalty", of_lengths(lambda n: (n**2).mean()), "from 1"),
        ("ex:gad-penalty", of_lengths(lambda n: ((n - 1).relu() ** 2).mean()), "below 1"),
        ("ex:gad-penalty", of_lengths(lambda n: ((n**2 - 1) ** 2).mean()), "root"),
        ("ex:gad-penalty", of_lengths(lambda n: (n - 1).abs().mean()), "its square"),
        ("ex:gad-penalty", of_lengths(lambda n: (n.mean() - 1) ** 2), "First the square"),
        ("ex:gad-penalty", of_lengths(lambda n: ((n / len(n) - 1) ** 2).mean()), "B times"),
        ("ex:gad-penalty", of_lengths(lambda n: ((n - 1) ** 2).sum()), "do not add"),
        ("ex:gad-penalty", of_lengths(lambda n: (n - 1) ** 2), "one number"),
        ("ex:gad-penalty", of_slopes(lambda s: (s.norm() - 1) ** 2), "a row"),
        ("ex:gad-penalty", of_slopes(lambda s: ((s.norm(dim=0) - 1) ** 2).mean()), "over the features"),
        ("ex:gad-penalty", of_slopes(lambda s: ((s.abs() - 1) ** 2).mean()), "its entries"),
        ("ex:gad-penalty", of_lengths(lambda n: 10 * ((n - 1) ** 2).mean()), "in the points between"),
    ],
)
def test_slips_are_named(label, answer, says, said):
    told = said(label, answer)
    assert told.startswith("not yet")
    assert says in told
