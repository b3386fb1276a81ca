"""The exercises of the lessons on score-based models in continuous time and on the flow: answers and common slips."""

import math

import numpy as np
import torch
from scipy import integrate, optimize, stats

# References: each goes another way than the lesson.


def straight(t):
    """From the variance of x/α, which grows by g²/α²: a difference of κ²."""
    step = 1e-5

    def square(t):
        return (t / (1 - t)) ** 2

    near, far = (square(t + d) - square(t - d) for d in (step, 2 * step))
    return (1 - t) * math.sqrt((8 * near - far) / (12 * step))


def when(level, beta):
    """The variance obeys V' = β (1 − V) and the scale α' = −βα/2: run until their ratio is there."""

    def level_at(t):
        run = integrate.solve_ivp(
            lambda t, s: [-beta * s[0] / 2, beta * (1 - s[1])], (0, t), [1.0, 0.0], rtol=1e-10, atol=1e-12
        )
        return math.sqrt(run.y[1, -1]) / run.y[0, -1]

    return optimize.brentq(lambda t: level_at(t) - level, 1e-12, 30 / beta, xtol=1e-12) if level else 0.0


def clean(x, v, alpha, sigma):
    matrix = np.array([[alpha, sigma], [-sigma, alpha]])
    both = np.linalg.solve(matrix, np.stack([x.numpy().ravel(), v.numpy().ravel()]))
    return both[0].reshape(x.shape)


def enough(m2, nats, s0):
    def cost(last):
        return m2 / (2 * (last**2 - s0**2)) - nats

    return optimize.brentq(cost, s0 * (1 + 1e-12), 1e6, xtol=1e-12)


def two(w, s, log_p, s2, log_p2):
    """The slope of the log-density of both along a line, from densities that are straight in their logarithm."""

    def both(x):
        first, second = log_p + (s * x).sum(1), log_p2 + (s2 * x).sum(1)
        return torch.logaddexp(math.log(w) + first, math.log(1 - w) + second).sum()

    return torch.func.grad(both)(torch.zeros_like(s))


def width(v, kappa, q):
    """By quadrature over y and the noise."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()
    y = math.sqrt(v + kappa**2) * nodes[:, None]
    moved = q**2 * y + (1 - q**2) * v / (v + kappa**2) * y + q * kappa * math.sqrt(1 - q**2) * nodes
    return weights @ moved**2 @ weights


def home(y, v, kappa):
    """Down the flow dy/dκ = −κ · score, with the score of the normal law at each level."""

    def rate(k, y):
        return k * y / (v + k**2)

    if not kappa:
        return y
    return integrate.solve_ivp(rate, (kappa, 0), [y], method="DOP853", rtol=1e-11, atol=1e-13).y[0, -1]


def velocity(x, clean, alpha, sigma, da, ds):
    """From the drift, the noise and the score of data that are all at their mean: f x − g²/2 · score."""

    def log_p(x):
        return torch.distributions.Normal(alpha * clean, sigma).log_prob(x).sum()

    step = 1e-4
    (f, g2) = (
        (rule(step) - rule(-step)) / (2 * step)
        for rule in (
            lambda t: math.log(alpha + da * t),
            lambda t: alpha**2 * ((sigma + ds * t) / (alpha + da * t)) ** 2,
        )
    )
    return f * x - g2 / 2 * torch.func.grad(log_p)(x)


def log_change(A, t):
    """The volume of what the map from start to end makes of a cube."""
    return -torch.linalg.slogdet(torch.linalg.matrix_exp(t * A)).logabsdet


def price(s, D, kappa):
    """By quadrature over one dimension."""
    own, wide = stats.norm(0, s), stats.norm(0, math.hypot(s, kappa))

    def loss(x):
        return own.pdf(x) * (own.logpdf(x) - wide.logpdf(x))

    return D * integrate.quad(loss, -12 * s, 12 * s, epsabs=1e-12, epsrel=1e-12, limit=200)[0]


def bits(log_q, D, K):
    """Each pixel's share in the probability of the cell around an image: its density, over a level's width."""
    cells = np.linspace(0, 1, K)
    cell, _ = integrate.quad(lambda x: math.exp(log_q / D), *(cells[:2] - cells[1] / 2))
    return sum(-math.log2(cell) for _ in range(D)) / D


def flattery(s, a):
    """By quadrature over the shared part and over the draws."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    draws = a * nodes[:, None] + math.sqrt(s**2 - a**2) * nodes
    return weights @ np.log(np.exp(draws) @ weights)


REFERENCES = [
    ("ex:ss-straight", straight),
    ("ex:ss-when", when),
    ("ex:ss-clean", clean),
    ("ex:ss-enough", enough),
    ("ex:ss-two", two),
    ("ex:ss-width", width),
    ("ex:pf-home", home),
    ("ex:pf-guess", velocity),
    ("ex:pf-linear", log_change),
    ("ex:pf-price", price),
    ("ex:pf-bits", bits),
    ("ex:pf-flatter", flattery),
]


def lesson_two(w, s, log_p, s2, log_p2):
    first = torch.sigmoid(math.log(w / (1 - w)) + log_p - log_p2)[:, None]
    return first * s + (1 - first) * s2


def lesson_width(v, kappa, q):
    factor = q**2 + (1 - q**2) * v / (v + kappa**2)
    return factor**2 * (v + kappa**2) + q**2 * kappa**2 * (1 - q**2)


def lesson_velocity(x, clean, alpha, sigma, da, ds):
    return da * clean + ds * (x - alpha * clean) / sigma


def by_drift(x, clean, alpha, sigma, da, ds):
    f = da / alpha
    score = -(x - alpha * clean) / sigma**2
    return f * x - (ds * sigma - f * sigma**2) * score


LESSON = [
    ("ex:ss-straight", lambda t: math.sqrt(2 * t / (1 - t))),
    ("ex:ss-straight", lambda t: (2 * t + 2 * t**2 / (1 - t)) ** 0.5),
    ("ex:ss-when", lambda level, beta: math.log(1 + level**2) / beta),
    ("ex:ss-clean", lambda x, v, alpha, sigma: (alpha * x - sigma * v) / (alpha**2 + sigma**2)),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(s0**2 + m2 / (2 * nats))),
    ("ex:ss-two", lesson_two),
    ("ex:ss-width", lesson_width),
    ("ex:pf-home", lambda y, v, kappa: y * math.sqrt(v / (v + kappa**2))),
    ("ex:pf-home", lambda y, v, kappa: y / (1 + kappa**2 / v) ** 0.5),
    ("ex:pf-guess", lesson_velocity),
    ("ex:pf-guess", by_drift),
    ("ex:pf-linear", lambda A, t: -t * torch.trace(A)),
    ("ex:pf-linear", lambda A, t: -float(torch.linalg.eigvals(A).sum().real) * t),
    (
        "ex:pf-price",
        lambda s, D, kappa: D / 2 * (math.log(1 + kappa**2 / s**2) - kappa**2 / (s**2 + kappa**2)),
    ),
    ("ex:pf-bits", lambda log_q, D, K: -log_q / (D * math.log(2)) + math.log2(K - 1)),
    ("ex:pf-bits", lambda log_q, D, K: -(log_q - D * math.log(K - 1)) / D / math.log(2)),
    ("ex:pf-flatter", lambda s, a: (s**2 - a**2) / 2),
]


def growing(rule):
    """g from what the variance needs: a rule of t and of t²/(1 − t)."""
    return lambda t: math.sqrt(abs(rule(t, t**2 / (1 - t))))


def mixed(weight):
    def answer(w, s, log_p, s2, log_p2):
        first = weight(w, log_p, log_p2)[:, None]
        return first * s + (1 - first) * s2

    return answer


def step(factor, fresh):
    """The variance after a step, from its factor and its fresh noise."""
    return lambda v, k, q: factor(v, k, q) + fresh(v, k, q)


def whole(v, k, q):
    return (q**2 + (1 - q**2) * v / (v + k**2)) ** 2 * (v + k**2)


def noise(v, k, q):
    return q**2 * k**2 * (1 - q**2)


def nothing(v, k, q):
    return 0.0


def parts(rule):
    """A velocity from a rule of the point, the mean of the data, that of the noise and the slopes."""
    return lambda x, c, a, s, da, ds: rule(x, c, (x - a * c) / s, da, ds)


def paid(rule, wider=lambda s, k: s**2 + k**2):
    """A price from a rule of the dimensions, the logarithm and the share of the noise."""
    return lambda s, D, k: rule(D, math.log(wider(s, k) / s**2), 1 - s**2 / wider(s, k))


def both(rule):
    """A count of bits from a rule of its two parts, of D and of K."""
    return lambda log_q, D, K: rule(-log_q / D / math.log(2), math.log2(K - 1), D, K)


SLIPS = [
    ("ex:ss-straight", lambda t: 2 * t / (1 - t), "g², not g"),
    ("ex:ss-straight", growing(lambda t, u: 2 * t), "make good for both"),
    ("ex:ss-straight", growing(lambda t, u: 2 * t + u), "twice as fast"),
    ("ex:ss-straight", lambda t: 1.0, "not the deviation"),
    ("ex:ss-straight", growing(lambda t, u: t + 2 * u), "is not t."),
    ("ex:ss-straight", growing(lambda t, u: 2 * t - 2 * u), "not take off"),
    ("ex:ss-straight", lambda t: 1 / (1 - t), "up to its sign"),
    ("ex:ss-straight", lambda t: t / (1 - t), "noise-to-signal"),
    ("ex:ss-straight", growing(lambda t, u: 2 * t + 2 * t**2), "not of α itself"),
    ("ex:ss-when", lambda level, beta: 2 * when(level, beta), "not with B/2"),
    ("ex:ss-when", lambda level, beta: math.log(1 + level) / beta, "square it"),
    ("ex:ss-when", lambda level, beta: math.log(1 + level**2), "That is B"),
    ("ex:ss-when", lambda level, beta: math.log(1 + level**2) * beta, "it divides"),
    ("ex:ss-when", lambda level, beta: level**2 / beta, "small noise"),
    ("ex:ss-when", lambda level, beta: level / beta**0.5, "nothing fades"),
    ("ex:ss-when", lambda level, beta: 2 * math.log(max(level, 1e-9)) / beta, "large noise"),
    (
        "ex:ss-when",
        lambda level, beta: -math.log(1 - level**2) / beta if level < 1 else math.inf,
        "the deviation σ",
    ),
    ("ex:ss-when", lambda level, beta: -when(level, beta), "runs forward"),
    ("ex:ss-when", lambda level, beta: 2 * math.asinh(level / 2) / beta, "sub-VP"),
    ("ex:ss-clean", lambda x, v, a, s: (s * x + a * v) / (a**2 + s**2), "mean of the noise"),
    ("ex:ss-clean", lambda x, v, a, s: a * x - s * v, "is not 1 here"),
    ("ex:ss-clean", lambda x, v, a, s: (a * x + s * v) / (a**2 + s**2), "sign of v"),
    ("ex:ss-clean", lambda x, v, a, s: (x - s * v) / a, "v for the noise"),
    ("ex:ss-clean", lambda x, v, a, s: (s * x - a * v) / (a**2 + s**2), "exchanged"),
    ("ex:ss-clean", lambda x, v, a, s: (a * x - s * v) / math.hypot(a, s), "not by its root"),
    ("ex:ss-clean", lambda x, v, a, s: (s * v - a * x) / (a**2 + s**2), "sign of all"),
    ("ex:ss-clean", lambda x, v, a, s: -(s * x + a * v) / (a**2 + s**2) / s, "a score"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(m2 / (2 * nats)), "not among it"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(max(m2 / (2 * nats) - s0**2, 0)), "not taken off"),
    ("ex:ss-enough", lambda m2, nats, s0: s0**2 + m2 / (2 * nats), "square of the size"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(s0**2 + m2 / nats), "factor 2"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(s0**2 + nats / (2 * m2)), "upside down"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(s0**2 + m2**2 / (2 * nats)), "already"),
    ("ex:ss-enough", lambda m2, nats, s0: s0 + math.sqrt(m2 / (2 * nats)), "not sizes"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(s0**2 + m2 / (2 * nats)) / s0, "ratio of both"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(s0**2 + (m2 / (2 * nats)) ** 2), "square of the level"),
    ("ex:ss-two", lambda w, s, p, s2, p2: w * s + (1 - w) * s2, "depend on the place"),
    ("ex:ss-two", mixed(lambda w, p, p2: torch.sigmoid(p - p2)), "half and half"),
    (
        "ex:ss-two",
        mixed(lambda w, p, p2: torch.sigmoid(math.log(1 / w - 1) + p2 - p)),
        "densities are exchanged",
    ),
    ("ex:ss-two", lambda w, s, p, s2, p2: s + s2, "do not add up"),
    ("ex:ss-two", mixed(lambda w, p, p2: torch.sigmoid(math.log(1 / w - 1) + p - p2)), "the second the rest"),
    ("ex:ss-two", mixed(lambda w, p, p2: w * p / (w * p + (1 - w) * p2)), "not as they are"),
    (
        "ex:ss-two",
        lambda w, s, p, s2, p2: w * p.exp()[:, None] * s + (1 - w) * p2.exp()[:, None] * s2,
        "sum to 1",
    ),
    ("ex:ss-two", mixed(lambda w, p, p2: (math.log(w / (1 - w)) + p > p2).to(p)), "alone"),
    ("ex:ss-width", lambda v, k, q: v + q**2 * k**2, "should have"),
    ("ex:ss-width", step(whole, nothing), "fresh noise is missing"),
    ("ex:ss-width", step(lambda v, k, q: q**2 * (v + k**2) + (1 - q**2) * v, noise), "by its square"),
    ("ex:ss-width", step(lambda v, k, q: whole(v, k, q) / (v + k**2) * k**2, noise), "and of the noise"),
    ("ex:ss-width", lambda v, k, q: math.sqrt(whole(v, k, q) + noise(v, k, q)), "deviation."),
    ("ex:ss-width", step(lambda v, k, q: v + k**2, noise), "a part of y is noise"),
    ("ex:ss-width", step(lambda v, k, q: q**4 * (v + k**2), noise), "is not 0"),
    ("ex:ss-width", step(whole, lambda v, k, q: k**2 * (1 - q**2)), "lower level"),
    (
        "ex:ss-width",
        step(lambda v, k, q: (q + (1 - q) * v / (v + k**2)) ** 2 * (v + k**2), noise),
        "q², not q",
    ),
    (
        "ex:ss-width",
        step(lambda v, k, q: (q**2 + (1 - q**2) * (v / (v + k**2)) ** 0.5) ** 2 * (v + k**2), noise),
        "not in the deviation",
    ),
    ("ex:pf-home", lambda y, v, k: y * v / (v + k**2), "mean of the clean data"),
    ("ex:pf-home", lambda y, v, k: y * math.sqrt((v + k**2) / v), "way from level 0"),
    ("ex:pf-home", lambda y, v, k: y * (v + k**2) / v, "and too far"),
    ("ex:pf-home", lambda y, v, k: y, "so the point moves"),
    ("ex:pf-home", lambda y, v, k: y - k, "noise's deviation"),
    ("ex:pf-home", lambda y, v, k: y * v**0.5 / (v**0.5 + k), "not deviations"),
    ("ex:pf-home", lambda y, v, k: y * v / math.sqrt(v**2 + k**2), "a variance already"),
    ("ex:pf-home", lambda y, v, k: y * math.sqrt(v / (v + k)), "square it"),
    ("ex:pf-home", lambda y, v, k: y * math.sqrt(v), "deviation is not 1"),
    ("ex:pf-home", lambda y, v, k: y / math.sqrt(v + k**2), "variance is 1"),
    ("ex:pf-home", lambda y, v, k: y * math.sqrt(k**2 / (v + k**2)), "exchanged"),
    ("ex:pf-home", lambda y, v, k: 0.0, "crowd's mean"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: da * c), "noise changes"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: ds * n), "data's part"),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: da * x / a, "score is missing"),
    (
        "ex:pf-guess",
        lambda x, c, a, s, da, ds: da / a * x + 2 * (ds / s - da / a) * (x - a * c),
        "way back with noise",
    ),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: ds * x / s, "Not all of x"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: -da * c - ds * n), "as time grows"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: da * c - ds * n), "sign of its part"),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: (x - c) / s, "straight way"),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: da * c + ds * (x - c) / s, "lacks α"),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: da * c + ds * (x - a * c), "own deviation is 1"),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: -(x - a * c) / s**2, "That is the score"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: n), "mean of the noise"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: da * x + ds * n), "x is not the data"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: ds * c + da * n), "exchanged"),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: da / a * c + ds * (x - a * c) / s, "faded data"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: (da * c + ds * n).sum(1)), "nothing to sum"),
    ("ex:pf-linear", lambda A, t: t * torch.trace(A), "the sign is wrong"),
    ("ex:pf-linear", lambda A, t: -t * torch.det(A), "a rate, not a map"),
    ("ex:pf-linear", lambda A, t: -torch.log(torch.det(A).abs()), "is not A."),
    ("ex:pf-linear", lambda A, t: -torch.logdet(torch.eye(len(A)) + t * A), "one long step"),
    ("ex:pf-linear", lambda A, t: -torch.trace(A), "with the time"),
    ("ex:pf-linear", lambda A, t: -t * (A**2).sum() ** 0.5, "a norm of A"),
    ("ex:pf-linear", lambda A, t: -t * A.diagonal().mean(), "no mean"),
    ("ex:pf-linear", lambda A, t: -t * A.sum(), "off the diagonal"),
    ("ex:pf-linear", lambda A, t: torch.exp(-t * torch.trace(A)), "factor of the density"),
    ("ex:pf-linear", lambda A, t: -t * A.diagonal().abs().sum(), "can balance"),
    ("ex:pf-linear", lambda A, t: -t * torch.trace(A) / 2, "no half"),
    ("ex:pf-linear", lambda A, t: 0.0, "keeps volumes"),
    ("ex:pf-price", lambda s, D, k: D / 2 * (k**2 / s**2 - math.log(1 + k**2 / s**2)), "other direction"),
    ("ex:pf-price", paid(lambda D, log, share: (log - share) / 2), "one dimension"),
    ("ex:pf-price", paid(lambda D, log, share: D * (log - share)), "half of that"),
    ("ex:pf-price", paid(lambda D, log, share: D / 2 * log), "entropies differ"),
    ("ex:pf-price", paid(lambda D, log, share: -D / 2 * share), "costs as well"),
    ("ex:pf-price", paid(lambda D, log, share: D / 2 * (log + share)), "something back"),
    ("ex:pf-price", lambda s, D, k: price(math.sqrt(s), D, k), "s is a deviation"),
    ("ex:pf-price", lambda s, D, k: price(s, D, math.sqrt(k)), "κ is a deviation"),
    (
        "ex:pf-price",
        paid(lambda D, log, share: D / 2 * (log - share), lambda s, k: (s + k) ** 2),
        "not deviations",
    ),
    ("ex:pf-price", lambda s, D, k: price(s, D, k) / math.log(2), "in bits"),
    (
        "ex:pf-price",
        lambda s, D, k: D / 2 * (math.log(2 * math.pi * (s**2 + k**2)) + s**2 / (s**2 + k**2)),
        "their own density",
    ),
    ("ex:pf-price", lambda s, D, k: -price(s, D, k), "never wins"),
    ("ex:pf-price", paid(lambda D, log, share: D / 2 * log - share / 2), "goes with D"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own + math.log2(K)), "neighbours"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own), "no probability"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own + 8), "8 bits"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own - offset), "smaller than the density"),
    ("ex:pf-bits", lambda log_q, D, K: -log_q / D + math.log(K - 1), "That is in nats"),
    ("ex:pf-bits", lambda log_q, D, K: -log_q / D + math.log2(K - 1), "log_q is in nats"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own + math.log(K - 1)), "the cell is in nats"),
    ("ex:pf-bits", both(lambda own, offset, D, K: D * own + offset), "all pixels together"),
    ("ex:pf-bits", both(lambda own, offset, D, K: D * (own + offset)), "whole image"),
    ("ex:pf-bits", both(lambda own, offset, D, K: offset - own), "sign of log_q"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own + offset / D), "not shared out"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own * math.log(2) ** 2 + offset), "other way round"),
    ("ex:pf-bits", both(lambda own, offset, D, K: -own - offset), "logarithm of the probability"),
    ("ex:pf-flatter", lambda s, a: s**2 / 2, "all draws share"),
    ("ex:pf-flatter", lambda s, a: a**2 / 2, "the other one"),
    ("ex:pf-flatter", lambda s, a: (s - a) ** 2 / 2, "not deviations"),
    ("ex:pf-flatter", lambda s, a: s - a, "with squares"),
    ("ex:pf-flatter", lambda s, a: math.sqrt(s**2 - a**2), "That is the deviation"),
    ("ex:pf-flatter", lambda s, a: s**2 - a**2, "That is the variance"),
    ("ex:pf-flatter", lambda s, a: 0.0, "is not the mean"),
    ("ex:pf-flatter", lambda s, a: (a**2 - s**2) / 2, "is above the mean"),
    ("ex:pf-flatter", lambda s, a: (s**2 + a**2) / 2, "contained in s"),
    ("ex:pf-flatter", lambda s, a: (s - a) / 2, "Half a deviation"),
    ("ex:pf-flatter", lambda s, a: math.exp((s**2 - a**2) / 2), "factor of the likelihood"),
    ("ex:pf-flatter", lambda s, a: (s**2 - a**2) / (2 * math.log(2)), "in bits"),
]
