"""The exercises of the lessons on scores and Langevin dynamics: right answers and common slips."""

import itertools
import math

import numpy as np
import torch
from scipy import integrate, stats
from torch.distributions import Categorical, Independent, Normal, kl_divergence


def grown(slope, gain, times=60):
    """The variance that v ← slope² v + gain reaches, by exact steps: 2^times of them, each twice the one before."""
    slope = slope**2
    for _ in range(times):
        slope, gain = slope**2, gain + slope * gain
    return gain


def moments(density, center, width):
    """Mass, mean and variance of an unnormalised density on the line, by numerical integration."""
    inside = (center - 12 * width, center + 12 * width)
    mass, first = (integrate.quad(lambda x, k=k: x**k * density(x), *inside, limit=200)[0] for k in (0, 1))
    second = integrate.quad(lambda x: (x - first / mass) ** 2 * density(x), *inside, limit=200)[0]
    return mass, first / mass, second / mass


def bayes(deviation, sigma, noisy):
    """Mean and variance of the clean value given a noisy one."""
    prior, noise = stats.norm(0, deviation).pdf, stats.norm(noisy, sigma).pdf
    peak = noisy * deviation**2 / (deviation**2 + sigma**2)
    return moments(lambda x: prior(x) * noise(x), peak, min(deviation, sigma))[1:]


# Score matching: references.


def logistic(x):
    x = x.detach().double().clone().requires_grad_()
    return torch.autograd.grad((-x - 2 * torch.log1p(torch.exp(-x))).sum(), x)[0]


def fisher(mean, deviation):
    model = Normal(torch.tensor(mean, dtype=torch.float64), deviation)

    def gap(x):
        x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        return (-x - torch.autograd.grad(model.log_prob(x), x)[0]).item() ** 2 * stats.norm.pdf(x.item())

    return integrate.quad(gap, -12, 12)[0]


def implicit(A, b, x):
    def score(row):
        return torch.mv(A, row) + b

    jacobians = [torch.autograd.functional.jacobian(score, row) for row in x]
    costs = [J.trace() + torch.dot(score(row), score(row)) / 2 for J, row in zip(jacobians, x, strict=True)]
    return sum(costs) / len(costs)


def signs(A):
    """v·(A v) for every vector of signs."""
    return [(v @ A.numpy() @ v).item() for v in map(np.array, itertools.product((-1.0, 1.0), repeat=len(A)))]


def hutchinson(A):
    return np.var(signs(A.double()))


def least(deviation, sigma, dims):
    noisy = math.hypot(deviation, sigma)

    def explained(x):  # the squared mean of ε/σ given x, where ε/σ = (x − clean)/σ²
        return ((x - bayes(deviation, sigma, x)[0]) / sigma**2) ** 2

    nodes, shares = np.polynomial.hermite_e.hermegauss(6)
    taken = sum(share * explained(noisy * x) for x, share in zip(nodes, shares / shares.sum(), strict=True))
    return dims * (1 / sigma**2 - taken) / 2


def clean(x, sigma, points):
    density = Independent(Normal(points, sigma), 1)
    return Categorical(logits=density.log_prob(x[:, None])).probs @ points


def careless(x, sigma, points):
    weights = torch.exp(-(torch.cdist(x, points) ** 2) / (2 * sigma**2))
    return weights @ points / weights.sum(1, keepdim=True)


# Langevin dynamics: references.


def variance(deviation, step):
    return grown(1 - step / deviation**2, 2 * step)


def convention(step):
    return grown(1 - step / 2, step)


def temperature(c, deviation):
    """The settled variance at two small steps, and from these at none."""
    coarse, fine = (grown(1 - step / deviation**2, c**2 * step) for step in (2e-4, 1e-4))
    return 2 * fine - coarse


def accept(x, y, step):
    def proposal(x):
        point = x.detach().clone().requires_grad_()
        (score,) = torch.autograd.grad((-(point**4) / 4).sum(), point)
        return Normal(x + step * score, math.sqrt(2 * step))

    forth, back = proposal(x).log_prob(y), proposal(y).log_prob(x)
    return torch.minimum(torch.zeros_like(x), back - forth - y**4 / 4 + x**4 / 4)


def forget(start, step):
    for n in itertools.count():
        if abs(start) < 0.01:
            return n
        start = start - step * start


def two_state(a, b, n):
    return np.linalg.matrix_power(np.array([[1 - a, a], [b, 1 - b]]), n)[0, 1]


# Annealed Langevin dynamics: references.


def levels(first, last, count):
    return np.geomspace(first, last, count)


def divergence(ratio, dims):
    wide = Normal(torch.zeros(dims, dtype=torch.float64), 7.0)
    return kl_divergence(Independent(Normal(wide.mean, ratio * 7.0), 1), Independent(wide, 1))


def wide(deviation, sigma, step):
    eta, noised = step * sigma**2, torch.tensor(math.hypot(deviation, sigma), dtype=torch.float64)
    at = torch.ones((), dtype=torch.float64, requires_grad=True)
    (score,) = torch.autograd.grad(Normal(torch.zeros_like(noised), noised).log_prob(at), at)
    return grown(1 + eta * score.item(), 2 * eta)


def last(deviation, sigma):
    """By Tweedie's formula the step leads to the mean of the clean value, linear in x̃."""
    return bayes(deviation, sigma, 1.0)[0] ** 2 * (deviation**2 + sigma**2)


def known(a, rho, sigma):
    covariance = np.array([[1, rho], [rho, 1]]) + sigma**2 * np.eye(2)
    pair = stats.multivariate_normal(np.zeros(2), covariance)
    return moments(lambda b: pair.pdf([a, b]), 0.0, 1 + sigma)[1:]


def weight(deviation, sigma):
    """The noise is ε = (x̃ − clean)/σ: its variance given x̃ is the same at every x̃."""
    return bayes(deviation, sigma, 0.5)[1] / sigma**2 / 2


# Answers a reader may write.


def lesson_hutchinson(A):
    S = (A + A.T) / 2
    return 2 * (S.square().sum() - S.diagonal().square().sum())


def lesson_implicit(A, b, x):
    s = x @ A.T + b
    return A.trace() + s.square().sum(1).mean() / 2


def lesson_accept(x, y, step):
    def log_q(y, x):
        return -((y - x + step * x**3) ** 2) / (4 * step)

    return (x**4 / 4 - y**4 / 4 + log_q(x, y) - log_q(y, x)).clamp(max=0)


def lesson_known(a, rho, sigma):
    return rho * a / (1 + sigma**2), 1 + sigma**2 - rho**2 / (1 + sigma**2)


def lesson_floor(deviation, sigma, dims):
    return dims * deviation**2 / (2 * sigma**2 * (deviation**2 + sigma**2))


def lesson_wide(deviation, sigma, step):
    v = deviation**2 + sigma**2
    return v / (1 - step * sigma**2 / (2 * v))


REFERENCES = [
    ("ex:sm-logistic", logistic),
    ("ex:sm-fisher", fisher),
    ("ex:sm-linear", implicit),
    ("ex:sm-hutchinson", hutchinson),
    ("ex:sm-floor", least),
    ("ex:sm-clean", clean),
    ("ex:lg-variance", variance),
    ("ex:lg-convention", convention),
    ("ex:lg-temperature", temperature),
    ("ex:lg-accept", accept),
    ("ex:lg-forget", forget),
    ("ex:lg-two-state", two_state),
    ("ex:al-levels", levels),
    ("ex:al-kl", divergence),
    ("ex:al-wide", wide),
    ("ex:al-last", last),
    ("ex:al-known", known),
    ("ex:al-weight", weight),
]
LESSON = [
    ("ex:sm-logistic", lambda x: -torch.tanh(x / 2)),
    ("ex:sm-logistic", lambda x: 1 - 2 * torch.sigmoid(x)),
    ("ex:sm-fisher", lambda mean, deviation: (1 / deviation**2 - 1) ** 2 + mean**2 / deviation**4),
    ("ex:sm-linear", lesson_implicit),
    ("ex:sm-hutchinson", lesson_hutchinson),
    ("ex:sm-floor", lesson_floor),
    ("ex:sm-clean", lambda x, sigma, p: torch.softmax(-(torch.cdist(x, p) ** 2) / (2 * sigma**2), 1) @ p),
    ("ex:lg-variance", lambda deviation, step: deviation**2 / (1 - step / (2 * deviation**2))),
    ("ex:lg-convention", lambda step: 1 / (1 - step / 4)),
    ("ex:lg-temperature", lambda c, deviation: c**2 * deviation**2 / 2),
    ("ex:lg-accept", lesson_accept),
    ("ex:lg-forget", lambda start, step: math.ceil(math.log(0.01 / start) / math.log(1 - step))),
    ("ex:lg-two-state", lambda a, b, n: a / (a + b) * (1 - (1 - a - b) ** n)),
    ("ex:al-levels", lambda first, last, count: torch.logspace(math.log2(first), math.log2(last), count, base=2)),
    ("ex:al-levels", lambda first, last, count: [first * (last / first) ** (i / (count - 1)) for i in range(count)]),
    ("ex:al-kl", lambda ratio, dims: dims * (ratio**2 / 2 - 0.5 - math.log(ratio))),
    ("ex:al-wide", lesson_wide),
    ("ex:al-last", lambda deviation, sigma: deviation**4 / (deviation**2 + sigma**2)),
    ("ex:al-known", lesson_known),
    ("ex:al-known", lambda *given: torch.stack(list(map(torch.as_tensor, lesson_known(*given))))),
    ("ex:al-known", lambda *given: list(map(torch.as_tensor, lesson_known(*given)))),
    ("ex:al-weight", lambda deviation, sigma: deviation**2 / (2 * (deviation**2 + sigma**2))),
]  # fmt: skip


def weights(exponent):
    """The mean of the points under weights of another exponent of (squared distance, sigma)."""
    return lambda x, sigma, p: torch.softmax(exponent(torch.cdist(x, p).square(), sigma), 1) @ p


def accepted(change, score=lambda x: -(x**3), width=lambda step: math.sqrt(2 * step)):
    """The acceptance, put together in another way from log p(y)/p(x) and log q(x|y)/q(y|x)."""

    def answer(x, y, step):
        forth, back = (Normal(z + step * score(z), width(step)) for z in (x, y))
        return change((x**4 - y**4) / 4, back.log_prob(x) - forth.log_prob(y))

    return answer


def cut(p, q):
    return (p + q).clamp(max=0)


def paired(mean=None, variance=None):
    """Mean and variance of the noisy x̃_b, of which one is another."""

    def answer(a, rho, sigma):
        right = lesson_known(a, rho, sigma)
        return torch.tensor(
            [f(a, rho, sigma) if f else r for f, r in zip((mean, variance), right, strict=True)]
        )

    return answer


def with_step(v, step):
    return v / (1 - step / (2 * v))


SLIPS = [
    ("ex:sm-logistic", lambda x: torch.tanh(x / 2), "sign"),
    ("ex:sm-logistic", lambda x: -torch.exp(-x) * (1 - torch.exp(-x)) / (1 + torch.exp(-x)) ** 3, "gradient of p;"),
    ("ex:sm-logistic", lambda x: torch.log(torch.exp(-x) / (1 + torch.exp(-x)) ** 2), "differentiate it"),
    ("ex:sm-logistic", lambda x: torch.exp(-x) / (1 + torch.exp(-x)) ** 2, "take its logarithm"),
    ("ex:sm-logistic", lambda x: -torch.tanh(x), "halved"),
    ("ex:sm-logistic", lambda x: -1 / (1 + torch.exp(-x)), "counts twice"),
    ("ex:sm-logistic", lambda x: -x, "standard normal"),
    ("ex:sm-logistic", lambda x: -0.5 / torch.cosh(x / 2) ** 2, "second derivative"),
    ("ex:sm-logistic", lambda x: logistic(x) / len(x), "n times too small"),
    ("ex:sm-logistic", lambda x: logistic(x).sum(), "do not add"),
    ("ex:sm-fisher", lambda m, d: integrate.quad(
        lambda x: ((x - m) / d**2 - x) ** 2 * stats.norm(m, d).pdf(x), m - 12 * d, m + 12 * d)[0], "x comes from p"),
    ("ex:sm-fisher", lambda m, d: fisher(m, d) / 2, "half"),
    ("ex:sm-fisher", lambda m, d: kl_divergence(Normal(0.0, 1.0), Normal(m, d)), "divergence of the model"),
    ("ex:sm-fisher", lambda m, d: kl_divergence(Normal(m, d), Normal(0.0, 1.0)), "model first"),
    ("ex:sm-fisher", lambda m, d: fisher(m, math.sqrt(d)), "not by the deviation"),
    ("ex:sm-fisher", lambda m, d: fisher(m, 1 / d), "does not multiply"),
    ("ex:sm-fisher", lambda m, d: (m / d**2) ** 2, "First the square"),
    ("ex:sm-fisher", lambda m, d: fisher(0.0, d), "means differ too"),
    ("ex:sm-fisher", lambda m, d: math.sqrt(fisher(m, d)), "root"),
    ("ex:sm-linear", lambda A, b, x: implicit(A.T, b, x), "transposed"),
    ("ex:sm-linear", lambda A, b, x: 2 * implicit(A, b, x) - A.trace(), "factor ½"),
    ("ex:sm-linear", lambda A, b, x: implicit(A, b, x) - A.trace(), "Where is the trace"),
    ("ex:sm-linear", lambda A, b, x: implicit(A, b, x) - 2 * A.trace(), "not taken off"),
    ("ex:sm-linear", lambda A, b, x: implicit(A, b, x) - A.trace() / 2, "not for the trace"),
    ("ex:sm-linear", lambda A, b, x: implicit(A, b, x) - A.trace() + A.sum(), "whole of A"),
    ("ex:sm-linear", lambda A, b, x: len(x) * implicit(A, b, x), "do not add up"),
    ("ex:sm-linear", lambda A, b, x: A.trace() + (x @ A.T + b).square().sum() / 2, "Average the squared"),
    ("ex:sm-linear", lambda A, b, x: A.trace() + (x @ A.T + b).square().mean() / 2, "of one point add up"),
    ("ex:sm-linear", lambda A, b, x: implicit(A, b, x) / len(b), "not by D"),
    ("ex:sm-linear", lambda A, b, x: implicit(A, b, x) - A.trace() + A.diagonal().mean(), "not a mean"),
    ("ex:sm-linear", lambda A, b, x: A.trace() + (x @ A.T + b).norm(dim=1).mean() / 2, "is squared"),
    ("ex:sm-linear", lambda A, b, x: A.trace() + (x.mean(0) @ A.T + b).square().sum() / 2, "First the square"),
    ("ex:sm-linear", lambda A, b, x: implicit(A, 0 * b, x), "where is b"),
    ("ex:sm-linear", lambda A, b, x: A.trace() + (x @ A.T + b).square().sum(1) / 2, "one number"),
    ("ex:sm-hutchinson", lambda A: 2 * (A - A.diag().diag()).square().sum(), "need not be symmetric"),
    ("ex:sm-hutchinson", lambda A: (A - A.diag().diag()).square().sum(), "not independent"),
    ("ex:sm-hutchinson", lambda A: (A + A.T).square().sum() / 2, "normal v"),
    ("ex:sm-hutchinson", lambda A: hutchinson(A) / 2, "factor 2"),
    ("ex:sm-hutchinson", lambda A: hutchinson(A + A.T), "Half of A"),
    ("ex:sm-hutchinson", lambda A: np.mean(signs(A)), "the mean;"),
    ("ex:sm-hutchinson", lambda A: np.square(signs(A)).mean(), "mean of the square"),
    ("ex:sm-hutchinson", lambda A: np.std(signs(A)), "deviation"),
    ("ex:sm-floor", lambda d, sigma, dims: 0, "does not reach 0"),
    ("ex:sm-floor", lambda d, sigma, dims: dims / sigma**2 / 2, "s = 0"),
    ("ex:sm-floor", lambda d, sigma, dims: dims / (d**2 + sigma**2) / 2, "takes off"),
    ("ex:sm-floor", lambda d, sigma, dims: lesson_floor(d, sigma, 2 * dims), "factor ½"),
    ("ex:sm-floor", lambda d, sigma, dims: lesson_floor(d, sigma, 1), "one dimension"),
    ("ex:sm-floor", lambda d, sigma, dims: lesson_floor(d, sigma, dims) * sigma**2, "multiplied by σ²"),
    ("ex:sm-floor", lambda d, sigma, dims: dims * (d / sigma / (d + sigma)) ** 2 / 2, "Variances add"),
    ("ex:sm-floor", lambda d, sigma, dims: lesson_floor(d**0.5, sigma**0.5, dims), "Squares"),
    ("ex:sm-floor", lambda d, sigma, dims: lesson_floor(sigma, d, dims), "exchanged"),
    ("ex:sm-clean", lambda x, sigma, p: p[torch.cdist(x, p).argmin(1)], "nearest"),
    ("ex:sm-clean", weights(lambda d2, sigma: -d2 / sigma**2), "factor ½"),
    ("ex:sm-clean", weights(lambda d2, sigma: -d2 / (2 * sigma)), "not by 2σ"),
    ("ex:sm-clean", weights(lambda d2, sigma: -d2 / 2), "where is σ"),
    ("ex:sm-clean", weights(lambda d2, sigma: -d2.sqrt() / (2 * sigma**2)), "squared"),
    ("ex:sm-clean", weights(lambda d2, sigma: d2 / (2 * sigma**2)), "sign"),
    ("ex:sm-clean", lambda x, sigma, p: (clean(x, sigma, p) - x) / sigma**2, "score"),
    ("ex:sm-clean", lambda x, sigma, p: clean(x, sigma, p) - x, "add x"),
    ("ex:sm-clean", lambda x, sigma, p: (x - clean(x, sigma, p)) / sigma, "mean noise"),
    ("ex:sm-clean", lambda x, sigma, p: p.mean(0) + torch.zeros_like(x), "all points"),
    ("ex:sm-clean", lambda x, sigma, p: torch.exp(-torch.cdist(x, p) ** 2 / (2 * sigma**2)) @ p, "add up to 1"),
    ("ex:sm-clean", lambda x, sigma, p: torch.softmax(-torch.cdist(p, x) ** 2 / (2 * sigma**2), 1).T @ p,
     "other way round"),
    ("ex:sm-clean", careless, "use softmax"),
    ("ex:lg-variance", lambda d, step: d**2, "target's variance"),
    ("ex:lg-variance", lambda d, step: d**2 / (1 - step / 2), "too"),
    ("ex:lg-variance", lambda d, step: variance(1.0, step), "variance 1"),
    ("ex:lg-variance", lambda d, step: d**2 / (1 - step / (2 * d)), "not by the deviation"),
    ("ex:lg-variance", lambda d, step: with_step(d, step), "square the deviation"),
    ("ex:lg-variance", lambda d, step: variance(d, step / 2), "half as large"),
    ("ex:lg-variance", lambda d, step: d**2 / (1 - step / d**2), "twice the step"),
    ("ex:lg-variance", lambda d, step: d**2 / (1 + step / (2 * d**2)), "not less"),
    ("ex:lg-variance", lambda d, step: d**2 - step / 2, "Divide"),
    ("ex:lg-variance", lambda d, step: d**2 + step / 2, "small steps"),
    ("ex:lg-variance", lambda d, step: math.sqrt(variance(d, step)), "deviation"),
    ("ex:lg-convention", lambda step: variance(1.0, step), "our rule"),
    ("ex:lg-convention", lambda step: 1 / (1 - step), "other way round"),
    ("ex:lg-convention", lambda step: 1, "target's variance"),
    ("ex:lg-convention", lambda step: convention(step / 2), "once"),
    ("ex:lg-convention", lambda step: 1 + step / 4, "small steps"),
    ("ex:lg-convention", lambda step: 1 - step / 4, "Divide"),
    ("ex:lg-convention", lambda step: 1 / (1 + step / 4), "not less"),
    ("ex:lg-convention", lambda step: math.sqrt(convention(step)), "deviation"),
    ("ex:lg-temperature", lambda c, d: d**2, "right noise"),
    ("ex:lg-temperature", lambda c, d: c**2 * d**2, "a factor ½"),
    ("ex:lg-temperature", lambda c, d: c * d**2 / 2, "square of c."),
    ("ex:lg-temperature", lambda c, d: c * d**2 / math.sqrt(2), "factor of the deviation"),
    ("ex:lg-temperature", lambda c, d: c * d / math.sqrt(2), "is the deviation"),
    ("ex:lg-temperature", lambda c, d: c**2 / 2, "too"),
    ("ex:lg-temperature", lambda c, d: c**2 * d / 2, "Square the deviation"),
    ("ex:lg-temperature", lambda c, d: 2 * d**2 / c**2, "less noise"),
    ("ex:lg-temperature", lambda c, d: c**2 * d**2 / 4, "half"),
    ("ex:lg-accept", accepted(lambda p, q: p.clamp(max=0)), "not symmetric"),
    ("ex:lg-accept", accepted(lambda p, q: cut(p, -q)), "correction is upside down"),
    ("ex:lg-accept", accepted(lambda p, q: cut(-p, -q)), "All is"),
    ("ex:lg-accept", accepted(lambda p, q: cut(-p, q)), "target is upside down"),
    ("ex:lg-accept", accepted(lambda p, q: p + q), "at most 1"),
    ("ex:lg-accept", accepted(lambda p, q: (p + q).clamp(max=1)), "not at 1"),
    ("ex:lg-accept", accepted(cut, width=math.sqrt), "not η"),
    ("ex:lg-accept", accepted(cut, width=lambda step: 2 * step), "not its deviation"),
    ("ex:lg-accept", accepted(cut, score=lambda x: x**3), "sign"),
    ("ex:lg-accept", accepted(lambda p, q: q.clamp(max=0)), "where is p"),
    ("ex:lg-accept", accepted(lambda p, q: (p + q).exp().clamp(max=1)), "the probability"),
    ("ex:lg-accept", accepted(lambda p, q: cut(p, q).sum()), "do not add"),
    ("ex:lg-accept", accepted(lambda p, q: cut(p, q).mean()), "do not average"),
    ("ex:lg-accept", lambda x, y, step: (
        (x**4 - y**4) / 4 + ((y - x + x**3) ** 2 - (x - y + y**3) ** 2) / (4 * step)).clamp(max=0), "with η"),
    ("ex:lg-forget", lambda start, step: forget(start, step) - 1, "not yet below"),
    ("ex:lg-forget", lambda start, step: forget(start, step) + 1, "already"),
    ("ex:lg-forget", lambda start, step: math.ceil(math.log(100 * start) / step), "multiplies the mean"),
    ("ex:lg-forget", lambda start, step: math.log(100 * start) / step, "steps are whole"),
    ("ex:lg-forget", lambda start, step: math.log(0.01 / start) / math.log(1 - step), "round up"),
    ("ex:lg-forget", lambda start, step: forget(1.0, step), "not at 1"),
    ("ex:lg-forget", lambda start, step: forget(start / 10, step), "its square"),
    ("ex:lg-forget", lambda start, step: start * (1 - step) ** forget(start, step), "how far"),
    ("ex:lg-two-state", lambda a, b, n: two_state(a, b, 10**6), "at rest: n steps"),
    ("ex:lg-two-state", lambda a, b, n: two_state(a, 0.0, n), "come back"),
    ("ex:lg-two-state", lambda a, b, n: 1 - two_state(a, b, n), "on the left."),
    ("ex:lg-two-state", lambda a, b, n: a / (a + b) - two_state(a, b, n), "missing"),
    ("ex:lg-two-state", lambda a, b, n: two_state(b, a, n), "exchanged"),
    ("ex:lg-two-state", lambda a, b, n: 1 - two_state(b, a, n), "not on the right"),
    ("ex:lg-two-state", lambda a, b, n: two_state(a, b, n + 1), "step more"),
    ("ex:lg-two-state", lambda a, b, n: two_state(a, b, max(n - 1, 0)), "step less"),
    ("ex:lg-two-state", lambda a, b, n: a / (a + b) * -math.expm1(-(a + b) * n), "continuous"),
    ("ex:lg-two-state", lambda a, b, n: 1 - (1 - a - b) ** n, "part of the way"),
    ("ex:lg-two-state", lambda a, b, n: a * n, "equal steps"),
    ("ex:al-levels", np.linspace, "equal differences"),
    ("ex:al-levels", lambda first, last, n: np.geomspace(first, last, n + 1)[:-1], "last level"),
    ("ex:al-levels", lambda first, last, n: np.geomspace(first, last, n + 1)[1:], "first level"),
    ("ex:al-levels", lambda first, last, n: levels(last, first, n), "fall"),
    ("ex:al-levels", lambda first, last, n: np.log(levels(first, last, n)), "logarithms"),
    ("ex:al-levels", lambda first, last, n: np.exp(np.log10(levels(first, last, n))), "base 10"),
    ("ex:al-levels", lambda first, last, n: levels(first, last, n) ** 2, "squares of the levels"),
    ("ex:al-levels", lambda first, last, n: np.sqrt(np.linspace(first**2, last**2, n)), "Their squares"),
    ("ex:al-levels", lambda first, last, n: levels(first, last, n + 1), "shape must be (5,)"),
    ("ex:al-kl", lambda ratio, dims: divergence(1 / ratio, dims), "other direction"),
    ("ex:al-kl", lambda ratio, dims: divergence(ratio, 1), "one dimension"),
    ("ex:al-kl", lambda ratio, dims: divergence(ratio, dims) - dims * math.log(ratio), "once"),
    ("ex:al-kl", lambda ratio, dims: divergence(ratio**0.5, dims), "of deviations"),
    ("ex:al-kl", lambda ratio, dims: divergence(ratio, dims) / math.log(2), "nats"),
    ("ex:al-kl", lambda ratio, dims: divergence(ratio, dims) + 2 * dims * math.log(ratio), "sign of the logarithm"),
    ("ex:al-kl", lambda ratio, dims: divergence(ratio, dims) + dims * math.log(ratio), "where is the logarithm"),
    ("ex:al-kl", lambda ratio, dims: -dims * math.log(ratio), "not all"),
    ("ex:al-kl", lambda ratio, dims: divergence(ratio, dims) + dims * (ratio**2 - 1) / 2, "factor ½"),
    ("ex:al-kl", lambda ratio, dims: divergence(ratio, 2 * dims), "twice"),
    ("ex:al-kl", lambda ratio, dims: dims * math.log(ratio), "entropies"),
    ("ex:al-wide", lambda d, sigma, step: d**2 + sigma**2, "noised data's variance"),
    ("ex:al-wide", lambda d, sigma, step: d**2, "is the data's variance"),
    ("ex:al-wide", lambda d, sigma, step: with_step(d**2, step * sigma**2), "noise adds"),
    ("ex:al-wide", lambda d, sigma, step: (d**2 + sigma**2) / (1 - step * sigma**2 / (2 * d**2)), "denominator"),
    ("ex:al-wide", lambda d, sigma, step: wide(d, sigma, step / sigma**2), "step · σ²"),
    ("ex:al-wide", lambda d, sigma, step: wide(d, sigma, step / sigma), "square σ"),
    ("ex:al-wide", lambda d, sigma, step: wide(d, sigma, step / 2), "half as large"),
    ("ex:al-wide", lambda d, sigma, step: lesson_wide(d, sigma, 2 * step), "twice the step"),
    ("ex:al-wide", lambda d, sigma, step: wide(0.0, sigma, step), "spread too"),
    ("ex:al-wide", lambda d, sigma, step: lesson_wide(d, sigma, -step), "not less"),
    ("ex:al-wide", lambda d, sigma, step: d**2 + sigma**2 * (1 + step / 2), "small steps"),
    ("ex:al-wide", lambda d, sigma, step: math.sqrt(wide(d, sigma, step)), "deviation"),
    ("ex:al-last", lambda d, sigma: d**2, "is the data's variance"),
    ("ex:al-last", lambda d, sigma: d**2 + sigma**2, "before this step"),
    ("ex:al-last", lambda d, sigma: d**2 - sigma**2, "no subtraction"),
    ("ex:al-last", lambda d, sigma: bayes(d, sigma, 0.5)[1], "once x̃ is known"),
    ("ex:al-last", lambda d, sigma: bayes(d, sigma, 1.0)[0], "multiplied by."),
    ("ex:al-last", lambda d, sigma: bayes(d, sigma, 1.0)[0] ** 2, "x̃ has a variance"),
    ("ex:al-last", lambda d, sigma: bayes(d, sigma, 1.0)[0] * math.hypot(d, sigma), "goes with the square"),
    ("ex:al-last", lambda d, sigma: (d**2 + sigma**2) * (1 - sigma**2 / d**2) ** 2, "s² + σ²"),
    ("ex:al-last", lambda d, sigma: (d**2 + sigma**2 / 2) ** 2 / (d**2 + sigma**2), "half the step"),
    ("ex:al-last", lambda d, sigma: (d**2 + sigma**2 - sigma) ** 2 / (d**2 + sigma**2), "not σ."),
    ("ex:al-last", lambda d, sigma: (d**2 + 2 * sigma**2) ** 2 / (d**2 + sigma**2), "sign"),
    ("ex:al-last", lambda d, sigma: last(d, sigma) + 2 * sigma**2, "No noise"),
    ("ex:al-last", lambda d, sigma: d**4 / (d + sigma) ** 2, "not deviations"),
    ("ex:al-known", lambda a, rho, sigma: lesson_known(a, rho, 0), "clean pair: here"),
    ("ex:al-known", lambda a, rho, sigma: (rho * a, 1 - rho**2 + sigma**2), "adds noise"),
    ("ex:al-known", paired(variance=lambda a, rho, sigma: 1 - rho**2 / (1 + sigma**2)), "clean x_b"),
    ("ex:al-known", paired(variance=lambda a, rho, sigma: 1 + sigma**2 - rho**2), "takes off less"),
    ("ex:al-known", paired(variance=lambda a, rho, sigma: 1 - rho**2), "clean pair's"),
    ("ex:al-known", paired(mean=lambda a, rho, sigma: rho * a), "move less"),
    ("ex:al-known", paired(variance=lambda a, rho, sigma: 1 + sigma**2 - (rho / (1 + sigma**2)) ** 2), "once"),
    ("ex:al-known", paired(variance=lambda a, rho, sigma: 1 - (rho / (1 + sigma**2)) ** 2), "unit variances"),
    ("ex:al-known", lambda *given: lesson_known(*given)[::-1], "comes first"),
    ("ex:al-known", lambda *given: (lesson_known(*given)[0], math.sqrt(lesson_known(*given)[1])), "its square"),
    ("ex:al-known", lambda a, rho, sigma: lesson_known(a, 0, sigma), "condition on it"),
    ("ex:al-known", lambda a, rho, sigma: lesson_known(a, rho, math.sqrt(sigma)), "not σ."),
    ("ex:al-known", lambda a, rho, sigma: lesson_known(a, rho + sigma**2, sigma), "independent"),
    ("ex:al-known", lambda *given: lesson_known(*given)[0], "shape must be (2,)"),
    ("ex:al-weight", lambda d, sigma: weight(d, sigma) / sigma**2, "without"),
    ("ex:al-weight", lambda d, sigma: weight(d, sigma) / sigma, "weight σ:"),
    ("ex:al-weight", lambda d, sigma: weight(d, sigma) * 2, "factor ½"),
    ("ex:al-weight", lambda d, sigma: 0, "does not reach 0"),
    ("ex:al-weight", lambda d, sigma: weight(sigma, d), "takes off"),
    ("ex:al-weight", lambda d, sigma: 1 / 2, "s = 0"),
    ("ex:al-weight", lambda d, sigma: weight(d**0.5, sigma**0.5), "Squares"),
    ("ex:al-weight", lambda d, sigma: (d / (d + sigma)) ** 2 / 2, "Variances add"),
    ("ex:al-weight", lambda d, sigma: bayes(d, sigma, 0.5)[1] / 2, "clean value"),
]  # fmt: skip
