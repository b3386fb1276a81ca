"""The exercises of the lessons on score-based models in continuous time: right answers and common slips."""

import math

import numpy as np
import torch
from scipy import integrate, optimize

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


REFERENCES = [
    ("ex:ss-straight", straight),
    ("ex:ss-when", when),
    ("ex:ss-clean", clean),
    ("ex:ss-enough", enough),
    ("ex:ss-two", two),
    ("ex:ss-width", width),
]


def lesson_two(w, s, log_p, s2, log_p2):
    first = torch.sigmoid(math.log(w / (1 - w)) + log_p - log_p2)[:, None]
    return first * s + (1 - first) * s2


def lesson_width(v, kappa, q):
    factor = q**2 + (1 - q**2) * v / (v + kappa**2)
    return factor**2 * (v + kappa**2) + q**2 * kappa**2 * (1 - q**2)


LESSON = [
    ("ex:ss-straight", lambda t: math.sqrt(2 * t / (1 - t))),
    ("ex:ss-straight", lambda t: (2 * t + 2 * t**2 / (1 - t)) ** 0.5),
    ("ex:ss-when", lambda level, beta: math.log(1 + level**2) / beta),
    ("ex:ss-clean", lambda x, v, alpha, sigma: (alpha * x - sigma * v) / (alpha**2 + sigma**2)),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(s0**2 + m2 / (2 * nats))),
    ("ex:ss-two", lesson_two),
    ("ex:ss-width", lesson_width),
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
]
