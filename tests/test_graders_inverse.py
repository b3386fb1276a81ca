"""The exercises of the lesson on inverse problems: right answers and common slips."""

import math

import torch
from torch.distributions import MultivariateNormal, Normal

# References: each goes another way than the lesson.


def posterior(m, s, a, sigma, y):
    """The logarithm of prior times likelihood is a parabola: its top and its curvature, from three points."""

    def log_joint(x):
        return -(((x - m) / s) ** 2) / 2 - ((y - a * x) / sigma) ** 2 / 2

    low, middle, high = log_joint(-1.0), log_joint(0.0), log_joint(1.0)
    curvature = low - 2 * middle + high
    return (low - high) / (2 * curvature), (-curvature) ** -0.5


def weights(means, s, w, sigma, y):
    """By quadrature over x, in logarithms."""
    x = torch.linspace(-20, 70, 9001, dtype=means.dtype)
    log_p = (
        w.log() + Normal(means, s).log_prob(x[:, None]) + Normal(x, sigma).log_prob(x.new_tensor(y))[:, None]
    )
    return log_p.logsumexp(0).softmax(0)


def slope(u, kappa, tau, a, sigma, y):
    """From the joint law of u and y and from that of u alone: the slope of their difference."""
    both = u.new_tensor([[tau**2 + kappa**2, a * tau**2], [a * tau**2, a**2 * tau**2 + sigma**2]])
    joint, alone = MultivariateNormal(u.new_zeros(2), both), Normal(0.0, math.hypot(tau, kappa))

    def log_p(u):
        pairs = torch.stack([u, torch.full_like(u, y)], 1)
        return (joint.log_prob(pairs) - alone.log_prob(u)).sum()

    return torch.func.grad(log_p)(u)


def hold(u, y, mask, level, noise):
    """With a matrix that chooses, and the one that puts back."""
    A = torch.eye(len(mask), dtype=u.dtype)[mask]
    return u + (y + level * noise - u @ A.T) @ A


def log_weight(u, v, mean, push, variance, log_psi_u, log_psi_v):
    """From four densities."""
    plain, guided = (Normal(centre, math.sqrt(variance)) for centre in (mean, mean + push))
    return plain.log_prob(v) + log_psi_v - guided.log_prob(v) - log_psi_u


def rank(truth, draws):
    """The place in the sorted row where the truth would be put in."""
    return torch.searchsorted(draws.sort(1).values, truth[:, None]).squeeze(1)


REFERENCES = [
    ("ex:ip-normal", posterior),
    ("ex:ip-evidence", weights),
    ("ex:ip-guess", slope),
    ("ex:ip-hold", hold),
    ("ex:ip-weight", log_weight),
    ("ex:ip-rank", rank),
]


def lesson_posterior(m, s, a, sigma, y):
    precision = 1 / s**2 + a**2 / sigma**2
    return (m / s**2 + a * y / sigma**2) / precision, precision**-0.5


def by_gain(m, s, a, sigma, y):
    gain = a * s**2 / (a**2 * s**2 + sigma**2)
    return [m + gain * (y - a * m), s * (1 - gain * a) ** 0.5]


def lesson_slope(u, kappa, tau, a, sigma, y):
    share = tau**2 / (tau**2 + kappa**2)
    return a * share * (y - a * share * u) / (a**2 * share * kappa**2 + sigma**2)


def by_autograd(u, kappa, tau, a, sigma, y):
    u = u.detach().requires_grad_()
    share = tau**2 / (tau**2 + kappa**2)
    log_p = -((y - a * share * u) ** 2) / (2 * (a**2 * share * kappa**2 + sigma**2))
    return torch.autograd.grad(log_p.sum(), u)[0]


def lesson_hold(u, y, mask, level, noise):
    held = u.clone()
    held[:, mask.bool()] = y + level * noise
    return held


def in_place(u, y, mask, level, noise):
    u.T[mask.bool()] = (y + level * noise).T
    return u


def lesson_log_weight(u, v, mean, push, variance, log_psi_u, log_psi_v):
    log_ratio = ((v - mean - push) ** 2 - (v - mean) ** 2) / (2 * variance)
    return log_ratio + log_psi_v - log_psi_u


LESSON = [
    ("ex:ip-normal", lesson_posterior),
    ("ex:ip-normal", by_gain),
    (
        "ex:ip-evidence",
        lambda means, s, w, sigma, y: (w.log() - (y - means) ** 2 / (2 * (s**2 + sigma**2))).softmax(0),
    ),
    ("ex:ip-guess", lesson_slope),
    ("ex:ip-guess", by_autograd),
    ("ex:ip-hold", lesson_hold),
    ("ex:ip-hold", in_place),
    ("ex:ip-weight", lesson_log_weight),
    (
        "ex:ip-weight",
        lambda u, v, mean, push, var, before, after: push * (push / 2 - v + mean) / var + after - before,
    ),
    ("ex:ip-rank", lambda truth, draws: (draws < truth[:, None]).sum(1)),
    ("ex:ip-rank", lambda truth, draws: [int((row < x).sum()) for x, row in zip(truth, draws, strict=True)]),
]


def moved(mean=None, deviation=None):
    """A posterior whose mean or deviation comes from a rule of what is given and of the right one."""

    def answer(m, s, a, sigma, y):
        right = lesson_posterior(m, s, a, sigma, y)
        rules = (mean, deviation)
        return tuple(rule(m, s, a, sigma, y, r) if rule else r for rule, r in zip(rules, right, strict=True))

    return answer


def told(rule):
    """Weights from a rule of the distances, s, σ and w for their logarithms."""
    return lambda means, s, w, sigma, y: rule(y - means, s, sigma, w).softmax(0)


def dense(rule):
    """An answer from a rule of w and of the densities of y."""
    return lambda means, s, w, sigma, y: rule(
        w, Normal(means, math.hypot(s, sigma)).log_prob(means.new_tensor(y)).exp()
    )


def steep(rule):
    """A slope from a rule of u, the share of u in the mean of x, the variance of x, and what is given."""

    def answer(u, kappa, tau, a, sigma, y):
        share = 1 / (1 + (kappa / tau) ** 2)
        return rule(u, share, share * kappa**2, kappa, tau, a, sigma, y)

    return answer


def above(rule, below=lambda g, r2, k, t, a, s: a**2 * r2 + s**2):
    """A slope from a rule of what stands above, and one of the variance below."""
    return steep(lambda u, g, r2, k, t, a, s, y: rule(u, g, a, y) / below(g, r2, k, t, a, s))


def right(u, g, a, y):
    return a * g * (y - a * g * u)


def put(rule):
    """What is held from a rule of u there, y, the level and the noise."""

    def answer(u, y, mask, level, noise):
        u[:, mask] = rule(u[:, mask], y, level, noise)
        return u

    return answer


def logs(rule):
    """A weight from a rule of the log-densities of both steps, and of log ψ before and after."""

    def answer(u, v, mean, push, variance, before, after):
        width = math.sqrt(variance)
        return rule(Normal(mean, width).log_prob(v), Normal(mean + push, width).log_prob(v), before, after)

    return answer


def scaled(rule):
    """A weight whose logarithm of the steps is changed by a rule of it and of the variance."""

    def answer(u, v, mean, push, variance, before, after):
        ratio = log_weight(u, v, mean, push, variance, before, after) - after + before
        return rule(ratio, variance) + after - before

    return answer


def counted(rule):
    """A rank from a rule of the comparisons below and above, (B, L)."""
    return lambda truth, draws: rule(draws < truth[:, None], draws > truth[:, None])


SLIPS = [
    ("ex:ip-normal", moved(deviation=lambda m, s, a, o, y, d: d**2), "is the variance"),
    ("ex:ip-normal", moved(deviation=lambda m, s, a, o, y, d: d**-2), "is the precision"),
    ("ex:ip-normal", moved(deviation=lambda m, s, a, o, y, d: 1 / d), "1 over it"),
    ("ex:ip-normal", lambda *given: lesson_posterior(*given)[::-1], "mean comes first"),
    ("ex:ip-normal", lambda *given: lesson_posterior(*given)[0], "mean alone"),
    ("ex:ip-normal", moved(deviation=lambda m, s, a, o, y, d: math.hypot(a * s, o)), "deviation of y"),
    ("ex:ip-normal", moved(deviation=lambda m, s, a, o, y, d: d**2 / s), "shrinks the variance"),
    ("ex:ip-normal", moved(deviation=lambda m, s, a, o, y, d: s), "that of the prior"),
    ("ex:ip-normal", moved(deviation=lambda m, s, a, o, y, d: s * o / math.hypot(s, o)), "has a² as well"),
    ("ex:ip-normal", lambda m, s, a, o, y: lesson_posterior(m, s**0.5, a, o**0.5, y), "square them"),
    ("ex:ip-normal", lambda m, s, a, o, y: lesson_posterior(m, s, 1.0, o, y), "where is a"),
    (
        "ex:ip-normal",
        moved(lambda m, s, a, o, y, x: lesson_posterior(m, s, a, o, y / a)[0]),
        "one a is missing",
    ),
    (
        "ex:ip-normal",
        moved(lambda m, s, a, o, y, x: lesson_posterior(m, s, a, o, y * a)[0]),
        "one a too many",
    ),
    ("ex:ip-normal", moved(lambda m, s, a, o, y, x: m + (x - m) / a), "from y to x"),
    (
        "ex:ip-normal",
        moved(lambda m, s, a, o, y, x: m + lesson_posterior(0, s, a, o, y - m)[0]),
        "not with m",
    ),
    ("ex:ip-normal", moved(lambda m, s, a, o, y, x: 2 * m - x), "sign is wrong"),
    ("ex:ip-normal", moved(lambda m, s, a, o, y, x: lesson_posterior(0, s, a, o, y)[0]), "prior is missing."),
    ("ex:ip-normal", moved(lambda m, s, a, o, y, x: x - m), "add it to m"),
    ("ex:ip-normal", moved(lambda m, s, a, o, y, x: m / s**2 + a * y / o**2), "divided by the precision"),
    ("ex:ip-normal", lambda m, s, a, o, y: (y / a, abs(o / a)), "y alone"),
    ("ex:ip-normal", lambda m, s, a, o, y: (m, s), "where is y"),
    ("ex:ip-normal", lambda m, s, a, o, y: lesson_posterior(y, o, a, s, m), "are exchanged"),
    ("ex:ip-evidence", told(lambda off, s, o, w: w.log() - (off / o) ** 2 / 2), "s is missing"),
    ("ex:ip-evidence", told(lambda off, s, o, w: w.log() - (off / s) ** 2 / 2), "σ is missing"),
    ("ex:ip-evidence", told(lambda off, s, o, w: w.log() - (off / (s + o)) ** 2 / 2), "not deviations"),
    ("ex:ip-evidence", told(lambda off, s, o, w: w.log() - off**2 / (s + o) / 2), "square them"),
    (
        "ex:ip-evidence",
        told(lambda off, s, o, w: w.log() - (off / (s**2 + o**2)) ** 2 / 2),
        "already",
    ),
    ("ex:ip-evidence", told(lambda off, s, o, w: w.log() - off**2 / (s**2 + o**2)), "factor 1/2"),
    ("ex:ip-evidence", told(lambda off, s, o, w: w.log() - off.abs() / (s**2 + o**2) / 2), "with its square"),
    ("ex:ip-evidence", told(lambda off, s, o, w: w.log() + off**2 / (s**2 + o**2) / 2), "sign is wrong"),
    ("ex:ip-evidence", dense(lambda w, p: p / p.sum()), "prior are missing"),
    ("ex:ip-evidence", dense(lambda w, p: w), "of the prior: where"),
    ("ex:ip-evidence", dense(lambda w, p: w * p), "have to sum to 1."),
    (
        "ex:ip-evidence",
        lambda means, s, w, o, y: w * (-((y - means) ** 2) / (2 * (s**2 + o**2))).exp(),
        "no density",
    ),
    ("ex:ip-evidence", dense(lambda w, p: w * p / p.sum()), "Scale after"),
    ("ex:ip-evidence", dense(lambda w, p: (w + p.log()).softmax(0)), "not with w"),
    ("ex:ip-evidence", dense(lambda w, p: (w * p).softmax(0)), "no softmax"),
    ("ex:ip-evidence", dense(lambda w, p: (w * p / (w @ p)).log()), "logarithms of the weights"),
    ("ex:ip-evidence", dense(lambda w, p: w @ p), "density of y"),
    ("ex:ip-evidence", dense(lambda w, p: 1.0 * (w * p == (w * p).amax())), "heaviest"),
    ("ex:ip-evidence", dense(lambda w, p: w * p / (w @ p)), "work with logarithms"),
    ("ex:ip-guess", above(right, lambda g, r2, k, t, a, s: s**2), "still has a variance"),
    ("ex:ip-guess", above(lambda u, g, a, y: a * (y - a * g * u)), "inner derivative"),
    ("ex:ip-guess", above(lambda u, g, a, y: g * (y - a * g * u)), "for each unit"),
    ("ex:ip-guess", lambda u, k, t, a, s, y: slope(u, k, t, 1.0, s, y), "missing everywhere"),
    ("ex:ip-guess", lambda u, k, t, a, s, y: slope(u, 0.0, t, a, s, y), "takes u for x"),
    (
        "ex:ip-guess",
        above(lambda u, g, a, y: a * (y - a * u), lambda g, r2, k, t, a, s: (a * k) ** 2 + s**2),
        "without a prior",
    ),
    ("ex:ip-guess", above(lambda u, g, a, y: a * g * (y - a * u)), "not with a u"),
    ("ex:ip-guess", above(right, lambda g, r2, k, t, a, s: (a * k) ** 2 + s**2), "smaller than κ²"),
    ("ex:ip-guess", above(right, lambda g, r2, k, t, a, s: (a * t) ** 2 + s**2), "smaller than τ²"),
    ("ex:ip-guess", above(right, lambda g, r2, k, t, a, s: (a * k * t) ** 2 + s**2), "by their sum"),
    ("ex:ip-guess", above(right, lambda g, r2, k, t, a, s: r2 + s**2), "multiplied by a²."),
    ("ex:ip-guess", above(right, lambda g, r2, k, t, a, s: a * r2 + s**2), "not by a."),
    ("ex:ip-guess", above(right, lambda g, r2, k, t, a, s: a**2 * r2 + s), "a deviation: square it"),
    ("ex:ip-guess", above(right, lambda g, r2, k, t, a, s: a**2 * r2), "noise of y is missing"),
    (
        "ex:ip-guess",
        above(right, lambda g, r2, k, t, a, s: (a**2 * r2 + s**2) ** 0.5),
        "not by its deviation",
    ),
    ("ex:ip-guess", above(right, lambda g, r2, k, t, a, s: 1.0), "variance of y is missing."),
    ("ex:ip-guess", lambda u, k, t, a, s, y: lesson_slope(u, k**0.5, t**0.5, a, s, y), "square them"),
    ("ex:ip-guess", above(lambda u, g, a, y: right(u, 1 - g, a, y)), "are exchanged"),
    ("ex:ip-guess", lambda *given: -slope(*given), "sign is wrong"),
    ("ex:ip-guess", above(lambda u, g, a, y: a * g * u - y), "not in u"),
    ("ex:ip-guess", above(lambda u, g, a, y: -((y - a * g * u) ** 2) / 2), "differentiate it"),
    ("ex:ip-guess", lambda u, k, t, *rest: slope(u, k, t, *rest) - u / (t**2 + k**2), "score of u"),
    ("ex:ip-guess", lambda *given: slope(*given) / 2, "cancels the half"),
    ("ex:ip-guess", lambda *given: slope(*given) * 2, "cancels the factor 2"),
    ("ex:ip-guess", lambda *given: slope(*given).sum(), "nothing to sum"),
    ("ex:ip-hold", put(lambda there, y, level, noise: y.expand_as(there)), "so must y"),
    ("ex:ip-hold", put(lambda there, y, level, noise: y + noise), "multiplied by the level"),
    ("ex:ip-hold", put(lambda there, y, level, noise: y + level**2 * noise), "not squared"),
    ("ex:ip-hold", put(lambda there, y, level, noise: y + level**0.5 * noise), "no root"),
    ("ex:ip-hold", put(lambda there, y, level, noise: level * (y + noise)), "the noise alone."),
    ("ex:ip-hold", put(lambda there, y, level, noise: level * noise), "where is y"),
    ("ex:ip-hold", put(lambda there, y, level, noise: y - level * noise), "not taken off"),
    ("ex:ip-hold", put(lambda there, y, level, noise: y + level * noise[0]), "own noise"),
    ("ex:ip-hold", put(lambda there, y, level, noise: there + y + level * noise), "not added"),
    ("ex:ip-hold", put(lambda there, y, level, noise: y + level * there), "what u has there"),
    (
        "ex:ip-hold",
        lambda u, y, mask, level, noise: torch.cat([y + level * noise, u[:, len(y) :]], 1),
        "just how many",
    ),
    (
        "ex:ip-hold",
        lambda u, y, mask, level, noise: lesson_hold(0 * u, y, mask, level, noise),
        "it is not 0",
    ),
    ("ex:ip-hold", lambda u, y, mask, level, noise: y + level * noise, "all D are asked"),
    ("ex:ip-hold", lambda u, y, mask, level, noise: u, "as it was"),
    (
        "ex:ip-hold",
        lambda u, y, mask, level, noise: lesson_hold(u, y, ~mask, level, noise),
        "the others are kept",
    ),
    ("ex:ip-weight", logs(lambda p, q, before, after: q - p + after - before), "p̃ below"),
    ("ex:ip-weight", logs(lambda p, q, before, after: p - q + before - after), "ψ(u) below"),
    ("ex:ip-weight", logs(lambda p, q, before, after: q - p + before - after), "upside down"),
    ("ex:ip-weight", scaled(lambda ratio, variance: 2 * ratio), "factor 1/2"),
    ("ex:ip-weight", scaled(lambda ratio, variance: ratio / variance), "not squared"),
    ("ex:ip-weight", scaled(lambda ratio, variance: ratio * variance**0.5), "not by its root"),
    ("ex:ip-weight", scaled(lambda ratio, variance: ratio * variance), "variance is missing"),
    ("ex:ip-weight", logs(lambda p, q, before, after: p - q + after), "carries it already"),
    ("ex:ip-weight", logs(lambda p, q, before, after: p - q - before), "ψ(v) is missing"),
    ("ex:ip-weight", logs(lambda p, q, before, after: p - q + before + after), "take its logarithm"),
    ("ex:ip-weight", logs(lambda p, q, before, after: p - q), "Both guesses"),
    ("ex:ip-weight", logs(lambda p, q, before, after: after - before), "Both steps"),
    ("ex:ip-weight", logs(lambda p, q, before, after: p + after - before), "drawn from it"),
    ("ex:ip-weight", logs(lambda p, q, before, after: after - before - q), "p is missing."),
    (
        "ex:ip-weight",
        lambda u, v, mean, push, *rest: lesson_log_weight(u, v, mean, -push, *rest),
        "its sign is wrong",
    ),
    ("ex:ip-weight", lambda u, v, mean, *rest: lesson_log_weight(u, v, u, *rest), "start from u"),
    (
        "ex:ip-weight",
        lambda u, v, mean, push, *rest: lesson_log_weight(u, v, mean, push - mean, *rest),
        "what is added to it",
    ),
    (
        "ex:ip-weight",
        lambda u, v, mean, push, var, before, after: push**2 / var / 2 + after - before,
        "a mixed part as well",
    ),
    (
        "ex:ip-weight",
        lambda u, v, mean, push, var, before, after: push * (mean - v) / var + after - before,
        "counts as well",
    ),
    ("ex:ip-weight", lambda *given: log_weight(*given).exp(), "its logarithm is asked"),
    ("ex:ip-weight", lambda *given: log_weight(*given).sum(), "nothing to sum"),
    ("ex:ip-weight", lambda *given: log_weight(*given).log_softmax(0), "not scaled"),
    ("ex:ip-rank", counted(lambda below, above: (~above).sum(1)), "equals the truth"),
    ("ex:ip-rank", counted(lambda below, above: above.sum(1)), "above the truth"),
    ("ex:ip-rank", counted(lambda below, above: (~below).sum(1)), "are not below"),
    ("ex:ip-rank", lambda truth, draws: rank(truth, draws) / draws.shape[1], "number is asked"),
    ("ex:ip-rank", lambda truth, draws: rank(truth, draws) + 1, "counts from 1"),
    ("ex:ip-rank", counted(lambda below, above: below.sum(0)), "not over the truths"),
    ("ex:ip-rank", counted(lambda below, above: below), "comparison for each draw"),
    ("ex:ip-rank", counted(lambda below, above: below.sum()), "sum over them"),
    ("ex:ip-rank", lambda truth, draws: (truth < truth[:, None]).sum(1), "among the truths"),
    ("ex:ip-rank", lambda truth, draws: 1.0 * (truth > draws.mean(1)), "mean of the draws"),
    ("ex:ip-rank", counted(lambda below, above: below.sum(1).clamp(max=1)), "how many are"),
    (
        "ex:ip-rank",
        lambda truth, draws: torch.searchsorted(draws.ravel().sort().values, truth),
        "of all rows",
    ),
    ("ex:ip-rank", lambda truth, draws: (draws.T - truth).square().argmin(0), "nearest draw"),
    ("ex:ip-rank", lambda truth, draws: [draws.shape[1]] * len(truth), "how many draws there are"),
    ("ex:ip-rank", lambda truth, draws: (draws < truth).sum(1), "second axis"),
]
