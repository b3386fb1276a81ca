"""The exercises of the lesson on mixtures: right answers and common slips."""

import math
from decimal import Decimal

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial.distance import cdist
from torch.distributions import MultivariateNormal, Normal
from torch.nn.functional import one_hot
from torch.special import log_ndtr, ndtr

from genlib import checks

F64 = {"dtype": torch.float64}

# References: each goes another way than the lesson.


def shares(x, weights, means, deviations):
    """With decimal numbers, for which exp is not 0."""
    table = []
    for one in x.tolist():
        parts = [
            Decimal(w) * (-((Decimal(one) - Decimal(m)) ** 2) / (2 * Decimal(s) ** 2)).exp() / Decimal(s)
            for w, m, s in zip(weights.tolist(), means.tolist(), deviations.tolist(), strict=True)
        ]
        table.append([float(part / sum(parts)) for part in parts])
    return torch.tensor(table, **F64)


def step(t, weights, rates):
    """From the slopes of the log-likelihood in log-weights and log-rates, which are sums over shares."""

    def of_all(log_w, log_rate):
        return (log_w + log_rate - log_rate.exp() * t[:, None]).logsumexp(1).sum()

    lamps, left = torch.func.grad(of_all, (0, 1))(weights.log(), rates.log())
    return lamps / len(t), lamps / ((lamps - left) / rates)


def free_numbers(K, D, kind):
    """By counting the places of every array; of the weights all but one."""
    places = {
        "full": K * np.tri(D).sum(),
        "tied": np.tri(D).sum(),
        "diagonal": np.ones((K, D)).sum(),
        "round": np.ones(K).sum(),
    }
    return int(np.ones((K, D)).sum() + places[kind] + len(range(1, K)))


def chances(x, centres):
    near = cdist(x, centres, "sqeuclidean").min(1)
    return torch.from_numpy(near / near.sum())


def fill(x, seen, mean, covariance):
    """One seen entry after the other tells of all."""
    for i in seen.nonzero()[:, 0].tolist():
        gain = covariance[:, i] / covariance[i, i]
        mean = mean + gain * (x[i] - mean[i])
        covariance = covariance - torch.outer(gain, covariance[i])
    return torch.where(seen, x, mean)


def left(p1, p2, w):
    """The step, differentiated."""
    return torch.func.grad(lambda w: (w * p1 / (w * p1 + (1 - w) * p2)).mean())(torch.tensor(w, **F64))


def log_cell(v, mu, sigma, top):
    """By quadrature of the density over its largest value in the cell."""
    found = []
    for one in v.tolist():
        low = -math.inf if one == 0 else (one - 0.5 - mu) / sigma
        high = math.inf if one == top else (one + 0.5 - mu) / sigma
        best = min(max(low, 0.0), high)
        ends = max(low, best - 15), min(high, best + 15)
        mass, _ = quad(lambda z, at=best: math.exp((at - z) * (at + z) / 2), *ends, epsabs=0, epsrel=1e-11)
        found.append(math.log(mass) - best**2 / 2 - math.log(2 * math.pi) / 2)
    return torch.tensor(found, **F64)


def path_law(maps, shifts, noise):
    """From the slopes of x in everything that is drawn: its variance is the sum of their squares."""

    def x(drawn):
        h = drawn[0]
        for place in reversed(range(len(maps))):
            h = maps[place] * h + shifts[place] + noise[place].sqrt() * drawn[1 + place]
        return h

    rest = maps.new_zeros(1 + len(maps))
    return torch.stack([x(rest), torch.func.grad(x)(rest).square().sum()])


REFERENCES = [
    ("ex:mix-responsibility", shares),
    ("ex:mix-lamps", step),
    ("ex:mix-count", free_numbers),
    ("ex:mix-spread", chances),
    ("ex:mix-fill", fill),
    ("ex:mix-left", left),
    ("ex:mix-cell", log_cell),
    ("ex:mix-path", path_law),
]


def lesson_shares(x, weights, means, deviations):
    log_p = Normal(means, deviations).log_prob(x[:, None])
    return (weights.log() + log_p).softmax(1)


def shares_by_sums(x, weights, means, deviations):
    joint = weights.log() - deviations.log() - ((x[:, None] - means) / deviations) ** 2 / 2
    return (joint - joint.logsumexp(1, keepdim=True)).exp()


def lesson_step(t, weights, rates):
    share = (weights.log() + rates.log() - rates * t[:, None]).softmax(1)
    return share.mean(0), share.sum(0) / (t @ share)


def lesson_count(K, D, kind):
    spread = {"full": K * D * (D + 1) // 2, "tied": D * (D + 1) // 2, "diagonal": K * D, "round": K}
    return K * D + spread[kind] + K - 1


def lesson_chances(x, centres):
    near = (x[:, None] - centres).square().sum(2).amin(1)
    return near / near.sum()


def lesson_fill(x, seen, mean, covariance):
    off = torch.linalg.solve(covariance[seen][:, seen], (x - mean)[seen])
    return torch.where(seen, x, mean + covariance[:, seen] @ off)


def fill_in_place(x, seen, mean, covariance):
    if not seen.all():
        inverse = torch.linalg.inv(covariance[seen][:, seen])
        x[~seen] = mean[~seen] + covariance[~seen][:, seen] @ inverse @ (x[seen] - mean[seen])
    return x


def lesson_left(p1, p2, w):
    return (p1 * p2 / (w * p1 + (1 - w) * p2) ** 2).mean()


def left_by_shares(p1, p2, w):
    share = w * p1 / (w * p1 + (1 - w) * p2)
    return (share * (1 - share)).mean() / (w * (1 - w))


def lesson_log_cell(v, mu, sigma, top):
    low = ((v - 0.5 - mu) / sigma).masked_fill(v == 0, -math.inf)
    high = ((v + 0.5 - mu) / sigma).masked_fill(v == top, math.inf)
    low, high = torch.where(low + high > 0, torch.stack([-high, -low]), torch.stack([low, high]))
    return log_ndtr(high) + torch.log1p(-torch.exp(log_ndtr(low) - log_ndtr(high)))


def log_cell_by_the_nearer_tail(v, mu, sigma, top):
    side = torch.where(v > mu, -1, 1)
    near = side * (v - mu) / sigma + 0.5 / sigma
    far = near - 1 / sigma
    down = torch.where(side > 0, v == 0, v == top)
    up = torch.where(side > 0, v == top, v == 0)
    near, far = near.masked_fill(up, math.inf), far.masked_fill(down, -math.inf)
    return log_ndtr(near) + (-torch.special.expm1(log_ndtr(far) - log_ndtr(near))).log()


def lesson_path_law(maps, shifts, noise):
    mean, variance = 0.0, 1.0
    for a, b, psi in zip(maps.flip(0), shifts.flip(0), noise.flip(0), strict=True):
        mean, variance = a * mean + b, a**2 * variance + psi
    return torch.stack([mean, variance])


def path_law_from_below(maps, shifts, noise):
    scale = torch.cat([maps.new_ones(1), maps.cumprod(0)])
    return torch.stack([scale[:-1] @ shifts, scale[:-1].square() @ noise + scale[-1] ** 2])


LESSON = [
    ("ex:mix-responsibility", lesson_shares),
    ("ex:mix-responsibility", shares_by_sums),
    ("ex:mix-lamps", lesson_step),
    ("ex:mix-lamps", lambda *given: torch.stack(lesson_step(*given))),
    ("ex:mix-count", lesson_count),
    ("ex:mix-spread", lesson_chances),
    (
        "ex:mix-spread",
        lambda x, c: (
            (d := torch.cdist(x, c, compute_mode="donot_use_mm_for_euclid_dist").amin(1) ** 2) / d.sum()
        ),
    ),
    ("ex:mix-fill", lesson_fill),
    ("ex:mix-fill", fill_in_place),
    ("ex:mix-left", lesson_left),
    ("ex:mix-left", left_by_shares),
    ("ex:mix-cell", lesson_log_cell),
    ("ex:mix-cell", log_cell_by_the_nearer_tail),
    ("ex:mix-path", lesson_path_law),
    ("ex:mix-path", path_law_from_below),
]


def shared(rule):
    """Shares from a rule of the weights and of the densities (n, K)."""
    return lambda x, weights, means, deviations: rule(
        weights, Normal(means, deviations).log_prob(x[:, None]).exp()
    )


def even(table):
    return table / table.sum(1, keepdim=True)


def bell(x, weights, means, deviations, *, power=2, half=0.5, front=1):
    """Shares from a density that is a little off."""
    away = (x[:, None] - means) ** 2
    return even(weights / deviations**front * (-half * away / deviations**power).exp())


def stepped(rule):
    """A step from a rule of the shares (n, K) and all that is given."""

    def answer(t, weights, rates):
        joint = weights * rates * (-rates * t[:, None]).exp()
        return rule(even(joint), t, weights, rates)

    return answer


def fitted(share, t):
    """Weights and rates as a fit to lamps that count by their shares."""
    return share.mean(0), 1 / ((share * t[:, None]).sum(0) / share.sum(0))


def from_table(rule):
    """A step from a rule of the weights, the rates and the times that gives a table (n, K)."""
    return lambda t, weights, rates: fitted(rule(weights, rates, t[:, None]), t)


def counted(means=lambda K, D: K * D, spread=None, weights=lambda K, D: K - 1):
    """A count from rules for its three parts; that of the covariances takes how many there are."""

    def answer(K, D, kind):
        many = {"tied": 1}.get(kind, K)
        each = {"diagonal": D, "round": 1}.get(kind, D * (D + 1) / 2)
        if spread and kind in ("full", "tied"):
            return means(K, D) + spread(K, D, many) + weights(K, D)
        return means(K, D) + many * each + weights(K, D)

    return answer


def chosen(rule):
    """Chances from a rule of the squared distances (n, k)."""

    def answer(x, centres):
        got = rule(torch.cdist(x, centres).square())
        return got / got.sum()

    return answer


def filled(rule):
    """A row, with what a rule of the blocks says of the missing entries."""

    def answer(x, seen, mean, covariance):
        gone = ~seen
        off, across = (x - mean)[seen], covariance[gone][:, seen]
        x[gone] = rule(off, mean[gone], across, covariance[seen][:, seen])
        return x

    return answer


def filled_from_all(rule):
    """The same from a rule of what is seen and missing, the mean, what is off, and both whole matrices."""

    def answer(x, seen, mean, S):
        x[~seen] = rule(seen, ~seen, mean, (x - mean)[seen], S, torch.linalg.inv(S))
        return x

    return answer


def graded(rule):
    """A number from a rule of both densities and the mixture."""
    return lambda p1, p2, w: rule(p1, p2, w * p1 + (1 - w) * p2)


def celled(rule):
    """From a rule of where the cells begin and end."""

    def answer(v, mu, sigma, top):
        low = torch.where(v == 0, -math.inf, (v - 0.5 - mu) / sigma)
        high = torch.where(v == top, math.inf, (v + 0.5 - mu) / sigma)
        return rule(low, high)

    return answer


def plain_cells(under=0.5, over=0.5, low_end=True, high_end=True):
    """From the difference itself, with cells of another kind."""

    def answer(v, mu, sigma, top):
        below = torch.where((v == 0) & low_end, 0.0, ndtr((v - under - mu) / sigma))
        above = torch.where((v == top) & high_end, 1.0, ndtr((v + over - mu) / sigma))
        return (above - below).log()

    return answer


def of_density(v, mu, sigma, top):
    every = torch.arange(top + 1, **F64)
    return Normal(mu, sigma).log_prob(every).log_softmax(0)[v]


def cut(v, mu, sigma, top):
    bell = Normal(torch.tensor(mu, **F64), sigma)
    ends = torch.tensor([-0.5, top + 0.5], **F64)
    return plain_cells(low_end=False, high_end=False)(v, mu, sigma, top) - bell.cdf(ends).diff().log()


def walked(mean=lambda m, a, b: a * m + b, variance=lambda v, a, psi: a * a * v + psi, top=1.0):
    """A path from rules for one layer."""

    def answer(maps, shifts, noise):
        m, v = maps.new_zeros(()), maps.new_full((), top)
        for i in range(len(maps))[::-1]:
            m, v = mean(m, maps[i], shifts[i]), variance(v, maps[i], noise[i])
        return m, v

    return answer


def lawful(rule):
    """A pair from a rule of the right mean and variance, and of all that is given."""
    return lambda *given: rule(*path_law(*given), *given)


SLIPS = [
    ("ex:mix-responsibility", shared(lambda w, p: even(p)), "weights are missing"),
    ("ex:mix-responsibility", lambda x, w, m, s: shares(x, w, m, s.sqrt()), "σ, not σ²"),
    ("ex:mix-responsibility", lambda *given: bell(*given, power=1), "there σ is not squared"),
    ("ex:mix-responsibility", lambda *given: bell(*given, front=0), "1/σ in front of"),
    ("ex:mix-responsibility", lambda *given: bell(*given, front=2), "not 1/σ²"),
    ("ex:mix-responsibility", lambda *given: bell(*given, half=1), "factor 1/2"),
    ("ex:mix-responsibility", shared(lambda w, p: w * p / (w * p).sum(0)), "over them, not over the x"),
    ("ex:mix-responsibility", shared(lambda w, p: w * p), "weights times densities"),
    ("ex:mix-responsibility", shared(lambda w, p: p), "are the densities"),
    ("ex:mix-responsibility", shared(lambda w, p: w * even(p)), "after weighing"),
    ("ex:mix-responsibility", shared(lambda w, p: even(w.exp() * p)), "add their logarithms"),
    ("ex:mix-responsibility", shared(lambda w, p: even(p / w)), "has to be multiplied"),
    ("ex:mix-responsibility", lambda *given: bell(*given, half=-0.5), "sign of the exponent"),
    (
        "ex:mix-responsibility",
        lambda *given: one_hot(shares(*given).argmax(1), len(given[1])),
        "to one component",
    ),
    ("ex:mix-responsibility", lambda *given: shares(*given).argmax(1), "where the largest"),
    ("ex:mix-responsibility", lambda *given: shares(*given).log(), "logarithms of the shares"),
    ("ex:mix-responsibility", shared(lambda w, p: (p @ w).log()), "log-density of the mixture"),
    ("ex:mix-responsibility", lambda *given: shares(*given).mean(0), "for new weights"),
    ("ex:mix-responsibility", lambda *given: shares(*given).T, "(n, K)"),
    ("ex:mix-responsibility", shared(lambda w, p: even(w * p)), "each density is 0"),
    ("ex:mix-responsibility", shared(lambda w, p: even(w * p + 1e-300)), "each density is 0"),
    ("ex:mix-responsibility", shared(lambda w, p: even((w * p).clamp(min=1e-300))), "each density is 0"),
    ("ex:mix-lamps", stepped(lambda r, t, w, rates: (r.mean(0), t @ r / r.sum(0))), "mean times"),
    ("ex:mix-lamps", lambda t, w, rates: (w, step(t, w, rates)[1]), "old weights are kept"),
    ("ex:mix-lamps", lambda t, w, rates: (step(t, w, rates)[0], rates), "old rates are kept"),
    ("ex:mix-lamps", lambda t, w, rates: (w, rates), "Nothing has moved"),
    (
        "ex:mix-lamps",
        stepped(lambda r, t, w, rates: fitted(one_hot(r.argmax(1), len(w)).double(), t)),
        "to one maker",
    ),
    (
        "ex:mix-lamps",
        stepped(lambda r, t, w, rates: (r.mean(0), torch.ones_like(w) / t.mean())),
        "have the same rate",
    ),
    ("ex:mix-lamps", from_table(lambda w, rate, t: even(rate * (-rate * t).exp())), "weights are missing"),
    ("ex:mix-lamps", from_table(lambda w, rate, t: even(w * (-rate * t).exp())), "rate in front"),
    ("ex:mix-lamps", from_table(lambda w, rate, t: even(w / rate * (-t / rate).exp())), "t over the rate"),
    (
        "ex:mix-lamps",
        from_table(lambda w, rate, t: even(w * rate * (rate * t).exp())),
        "sign of the exponent",
    ),
    (
        "ex:mix-lamps",
        from_table(lambda w, rate, t: (w * rate * (-rate * t).exp()).log().softmax(0)),
        "not over the lamps",
    ),
    ("ex:mix-lamps", from_table(lambda w, rate, t: w * rate * (-rate * t).exp()), "are no shares"),
    ("ex:mix-lamps", stepped(lambda r, t, w, rates: (r.sum(0), fitted(r, t)[1])), "not sums"),
    ("ex:mix-lamps", stepped(lambda r, t, w, rates: (r.mean(0), len(t) / (t @ r))), "not all lamps"),
    ("ex:mix-lamps", stepped(lambda r, t, w, rates: (r.mean(0), r.sum(0) / t.sum())), "not by all."),
    ("ex:mix-lamps", stepped(lambda r, t, w, rates: (r.mean(0), r.T @ (1 / t) / r.sum(0))), "mean of 1/t"),
    ("ex:mix-lamps", stepped(lambda r, t, w, rates: (w * r.mean(0), fitted(r, t)[1])), "no second factor"),
    ("ex:mix-lamps", lambda t, *old: step(t, *step(t, *old)), "two steps"),
    (
        "ex:mix-lamps",
        lambda t, w, rates: (step(t, w, step(t, w, rates)[1])[0], step(t, w, rates)[1]),
        "of the old rates",
    ),
    ("ex:mix-lamps", lambda *given: step(*given)[::-1], "weights come first"),
    ("ex:mix-lamps", lambda *given: step(*given)[0], "weights alone"),
    ("ex:mix-lamps", lambda *given: step(*given)[1], "rates alone"),
    ("ex:mix-lamps", stepped(lambda r, t, w, rates: r), "Those are the shares"),
    ("ex:mix-lamps", stepped(lambda r, t, w, rates: fitted(r, t)), "0 as a number"),
    ("ex:mix-lamps", stepped(lambda r, t, w, rates: fitted(r.nan_to_num(1 / len(w)), t)), "0 as a number"),
    ("ex:mix-count", counted(weights=lambda K, D: K), "last one is no free"),
    ("ex:mix-count", counted(weights=lambda K, D: 0), "weights are missing"),
    ("ex:mix-count", counted(spread=lambda K, D, many: many * D**2), "is symmetric"),
    ("ex:mix-count", counted(spread=lambda K, D, many: many * D * (D - 1) / 2), "counts, too"),
    ("ex:mix-count", counted(spread=lambda K, D, many: many * D), "than its variances"),
    ("ex:mix-count", counted(spread=lambda K, D, many: many), "than one number"),
    (
        "ex:mix-count",
        lambda K, D, kind: free_numbers(K, D, {"tied": "full"}.get(kind, kind)),
        "the other way",
    ),
    (
        "ex:mix-count",
        lambda K, D, kind: free_numbers(K, D, {"full": "tied"}.get(kind, kind)),
        "the other way",
    ),
    ("ex:mix-count", counted(means=lambda K, D: 0), "means are missing"),
    ("ex:mix-count", counted(means=lambda K, D: D), "mean of its own"),
    ("ex:mix-count", counted(means=lambda K, D: K), "has D entries"),
    ("ex:mix-count", lambda K, D, kind: K * D + K - 1, "covariances are missing"),
    ("ex:mix-count", lambda K, D, kind: free_numbers(1, D, kind), "one component"),
    ("ex:mix-count", counted(weights=lambda K, D: (K - 1) * D), "not to each direction"),
    ("ex:mix-count", counted(spread=lambda K, D, many: many * D * (D + 1)), "its inverse"),
    ("ex:mix-count", lambda K, D, kind: K, "number of components"),
    (
        "ex:mix-count",
        lambda K, D, kind: free_numbers(K, D, {"diagonal": "round"}.get(kind, kind)),
        "than one number",
    ),
    (
        "ex:mix-count",
        lambda K, D, kind: free_numbers(K, D, {"round": "diagonal"}.get(kind, kind)),
        "in all directions",
    ),
    ("ex:mix-spread", chosen(lambda d: d.amin(1).sqrt()), "has to be squared"),
    ("ex:mix-spread", chosen(lambda d: d.amin(1) ** 2), "squared once"),
    ("ex:mix-spread", chosen(lambda d: d.amax(1)), "farthest from each row"),
    ("ex:mix-spread", chosen(lambda d: torch.ones(len(d), **F64)), "the same chance"),
    ("ex:mix-spread", chosen(lambda d: d.mean(1)), "mean over all"),
    ("ex:mix-spread", chosen(lambda d: d[:, 0]), "first centre alone"),
    ("ex:mix-spread", chosen(lambda d: d[:, -1]), "newest centre alone"),
    ("ex:mix-spread", lambda x, c: chances(x, c.mean(0, keepdim=True)), "mean of the centres"),
    ("ex:mix-spread", lambda x, c: chances(x, 0 * c), "from 0"),
    ("ex:mix-spread", lambda x, c: torch.cdist(x, c).amin(1) ** 2, "divide by the sum."),
    ("ex:mix-spread", lambda x, c: chances(x, c) / chances(x, c).max(), "not by the largest"),
    ("ex:mix-spread", chosen(lambda d: d.amin(1).exp()), "there is no exp"),
    ("ex:mix-spread", chosen(lambda d: (-d).exp().amax(1)), "Near rows"),
    ("ex:mix-spread", chosen(lambda d: (1 / d).amax(1)), "not 1 over it"),
    ("ex:mix-spread", chosen(lambda d: (d.amin(1) == d.amin(1).max()).double()), "always takes"),
    ("ex:mix-spread", lambda x, c: (d := torch.cdist(x, c, p=1).amin(1) ** 2) / d.sum(), "along the axes"),
    ("ex:mix-spread", lambda x, c: (d := torch.cdist(x, c, p=math.inf).amin(1) ** 2) / d.sum(), "All axes"),
    ("ex:mix-spread", lambda x, c: chances(x, c).cumsum(0), "sums of chances"),
    ("ex:mix-spread", lambda x, c: (d := torch.cdist(x, c) ** 2) / d.sum(0), "for each centre"),
    ("ex:mix-spread", lambda x, c: torch.cdist(x, c) ** 2, "from each centre"),
    ("ex:mix-spread", lambda x, c: torch.cdist(x, c).argmin(1), "number of the nearest"),
    ("ex:mix-fill", filled(lambda off, m, across, own: m), "plain mean"),
    ("ex:mix-fill", filled(lambda off, m, across, own: m - across @ own.inverse() @ off), "sign is wrong"),
    (
        "ex:mix-fill",
        filled_from_all(lambda o, u, m, off, S, P: m[u] + S[u][:, o] @ S[o][:, o].inverse() @ (off + m[o])),
        "it is not taken off",
    ),
    ("ex:mix-fill", filled(lambda off, m, across, own: across @ own.inverse() @ off), "is not added"),
    (
        "ex:mix-fill",
        filled_from_all(lambda o, u, m, off, S, P: m[u] + P[u][:, o] @ P[o][:, o].inverse() @ off),
        "Blocks of the precision",
    ),
    (
        "ex:mix-fill",
        filled_from_all(lambda o, u, m, off, S, P: m[u] + P[u][:, u].inverse() @ P[u][:, o] @ off),
        "sign is wrong",
    ),
    (
        "ex:mix-fill",
        filled_from_all(lambda o, u, m, off, S, P: m[u] + S[u][:, o] @ P[o][:, o] @ off),
        "inverted then",
    ),
    ("ex:mix-fill", filled(lambda off, m, across, own: m + across @ off), "has to be divided by"),
    ("ex:mix-fill", filled(lambda off, m, across, own: m + across @ (off / own.diag())), "not its diagonal"),
    (
        "ex:mix-fill",
        filled_from_all(lambda o, u, m, off, S, P: m[u] + S[u][:, u].inverse() @ S[u][:, o] @ off),
        "not by that of the missing",
    ),
    ("ex:mix-fill", filled(lambda off, m, across, own: m + across @ own @ off), "not multiplied with"),
    (
        "ex:mix-fill",
        filled_from_all(lambda o, u, m, off, S, P: m[u] - P[u][:, o] @ off),
        "precision of the missing",
    ),
    ("ex:mix-fill", lambda x, seen, m, S: torch.where(seen, x, x[seen].mean()), "over the seen entries"),
    ("ex:mix-fill", lambda x, seen, m, S: torch.where(seen, x, 0.0), "That is 0"),
    ("ex:mix-fill", lambda x, seen, m, S: x, "still missing"),
    ("ex:mix-fill", lambda x, seen, m, S: m + S @ (seen * (x - m)), "NaN times 0"),
    ("ex:mix-fill", lambda x, seen, m, S: m, "mean of all"),
    ("ex:mix-fill", lambda *given: fill(*given)[~given[1]], "missing entries alone"),
    ("ex:mix-fill", lambda x, seen, m, S: fill(x, seen, m, S) - m, "how far the row"),
    (
        "ex:mix-fill",
        lambda *given: fill(*given).nan_to_num() if given[1].any() else 0 * given[2],
        "nothing seen",
    ),
    ("ex:mix-left", graded(lambda p1, p2, p: (p1 * p2 / p**2).sum()), "not a sum"),
    ("ex:mix-left", graded(lambda p1, p2, p: p1 * p2 / p**2), "slope of its own"),
    ("ex:mix-left", graded(lambda p1, p2, p: (p1 * p2 / p).mean()), "square of the mixture"),
    ("ex:mix-left", graded(lambda p1, p2, p: (p1 / p).mean()), "its part is missing"),
    ("ex:mix-left", lambda p1, p2, w: (w * p1 / (w * p1 + (1 - w) * p2)).mean(), "step itself"),
    ("ex:mix-left", lambda p1, p2, w: (w * p1 / (w * p1 + (1 - w) * p2)).mean() - w, "how far the step"),
    ("ex:mix-left", lambda p1, p2, w: w * (1 - w) * left(p1, p2, w), "logit of w"),
    ("ex:mix-left", lambda p1, p2, w: (1 - w) * left(p1, p2, w), "1 − w as well"),
    ("ex:mix-left", lambda p1, p2, w: w * left(p1, p2, w), "by w as well"),
    ("ex:mix-left", lambda *given: -left(*given), "sign is wrong"),
    ("ex:mix-left", lambda *given: 1 - left(*given), "what is left"),
    ("ex:mix-left", graded(lambda p1, p2, p: ((p1 - p2) / p).mean()), "not of the step"),
    ("ex:mix-left", graded(lambda p1, p2, p: -(((p1 - p2) / p) ** 2).mean()), "second derivative"),
    (
        "ex:mix-left",
        lambda p1, p2, w: (
            ((w * p1 + (1 - w) * p2) * p1 + w * p1 * (p1 - p2)) / (w * p1 + (1 - w) * p2) ** 2
        ).mean(),
        "rule for quotients",
    ),
    ("ex:mix-left", graded(lambda p1, p2, p: (p1 / p).square().mean()), "square of the first"),
    ("ex:mix-left", graded(lambda p1, p2, p: (p2 / p).square().mean()), "square of the second"),
    ("ex:mix-left", lambda p1, p2, w: left(p2, p1, w), "belongs to the first"),
    ("ex:mix-left", graded(lambda p1, p2, p: p1.mean() * p2.mean() / p.mean() ** 2), "quotient of means"),
    ("ex:mix-left", graded(lambda p1, p2, p: (p1 @ p2) / (p @ p)), "after the quotient"),
    ("ex:mix-cell", lambda v, mu, sigma, top: Normal(mu, sigma).log_prob(v), "density at the level"),
    ("ex:mix-cell", plain_cells(low_end=False, high_end=False), "at both ends"),
    ("ex:mix-cell", plain_cells(high_end=False), "above the top"),
    ("ex:mix-cell", plain_cells(low_end=False), "below 0"),
    ("ex:mix-cell", plain_cells(0, 1), "begins half a level"),
    ("ex:mix-cell", plain_cells(1, 0), "ends half a level"),
    ("ex:mix-cell", plain_cells(1, 1), "not two"),
    ("ex:mix-cell", lambda v, mu, sigma, top: log_cell(v, mu, sigma**0.5, top), "no root"),
    ("ex:mix-cell", lambda v, mu, sigma, top: log_cell(v, mu, sigma**2, top), "not squared"),
    ("ex:mix-cell", lambda v, mu, sigma, top: log_cell(v, mu, 1.0, top), "in deviations"),
    ("ex:mix-cell", lambda *given: log_cell(*given).exp(), "its logarithm is asked"),
    ("ex:mix-cell", lambda *given: -log_cell(*given), "sign is wrong"),
    ("ex:mix-cell", lambda *given: log_cell(*given) / math.log(2), "natural logarithm"),
    ("ex:mix-cell", celled(lambda low, high: ndtr(high).log()), "or one below"),
    ("ex:mix-cell", celled(lambda low, high: (1 - ndtr(low)).log()), "or one above"),
    ("ex:mix-cell", celled(lambda low, high: ndtr(high).log() - ndtr(low).log()), "difference of logarithms"),
    ("ex:mix-cell", of_density, "made to add up"),
    ("ex:mix-cell", cut, "not cut away"),
    ("ex:mix-cell", lambda v, mu, sigma, top: log_cell(v, 0.0, sigma, top), "to be taken off"),
    ("ex:mix-cell", celled(lambda low, high: (high.sigmoid() - low.sigmoid()).log()), "not a logistic"),
    ("ex:mix-cell", lambda *given: log_cell(*given).sum(), "not added here"),
    ("ex:mix-cell", plain_cells(), "Far out"),
    ("ex:mix-cell", celled(lambda low, high: (ndtr(high) - ndtr(low)).clamp(min=1e-12).log()), "Far out"),
    (
        "ex:mix-cell",
        celled(lambda low, high: log_ndtr(high) + torch.log1p(-torch.exp(log_ndtr(low) - log_ndtr(high)))),
        "Far out",
    ),
    ("ex:mix-path", lambda *given: path_law(*(part.flip(0) for part in given)), "wrong order"),
    ("ex:mix-path", walked(top=0.0), "is forgotten"),
    ("ex:mix-path", lambda a, b, psi: path_law(a, b, psi**2), "not squared"),
    ("ex:mix-path", lambda a, b, psi: path_law(a, b, psi.sqrt()), "no root"),
    ("ex:mix-path", walked(variance=lambda v, a, psi: a * v + psi), "variance by a²"),
    ("ex:mix-path", walked(mean=lambda m, a, b: a * a * m + b), "not by a²"),
    ("ex:mix-path", walked(mean=lambda m, a, b: abs(a) * m + b), "keeps the sign"),
    ("ex:mix-path", walked(variance=lambda v, a, psi: a * a * (v + psi)), "Noise comes after"),
    ("ex:mix-path", walked(mean=lambda m, a, b: a * (m + b)), "shift comes after"),
    ("ex:mix-path", lambda a, b, psi: path_law(a, b, 0 * psi), "noise is missing"),
    ("ex:mix-path", lambda a, b, psi: path_law(a, 0 * b, psi), "shifts are missing"),
    ("ex:mix-path", lawful(lambda m, v, a, b, psi: (m, psi.sum() + a.prod() ** 2)), "Noise passes"),
    ("ex:mix-path", lawful(lambda m, v, a, b, psi: (b.sum(), v)), "Shifts pass"),
    ("ex:mix-path", lawful(lambda m, v, a, b, psi: (b.sum(), psi.sum() + a.prod() ** 2)), "but the top"),
    ("ex:mix-path", lawful(lambda m, v, a, b, psi: (m, v - a.prod() ** 2 + 1)), "top passes"),
    (
        "ex:mix-path",
        lawful(
            lambda m, v, *given: (m, walked(variance=lambda s, a, psi: abs(a) * s + psi**0.5)(*given)[1] ** 2)
        ),
        "Deviations do not add",
    ),
    ("ex:mix-path", lawful(lambda m, v, *given: (m, v**0.5)), "That is the deviation"),
    ("ex:mix-path", lawful(lambda m, v, *given: (m, v + m * m)), "second moment"),
    ("ex:mix-path", lambda a, b, psi: path_law(a[:1], b[:1], psi[:1]), "first layer alone"),
    ("ex:mix-path", lambda a, b, psi: path_law(a[-1:], b[-1:], psi[-1:]), "last layer alone"),
    ("ex:mix-path", lawful(lambda m, v, *given: (v, m)), "mean comes first"),
    ("ex:mix-path", lawful(lambda m, v, *given: m), "mean alone"),
    ("ex:mix-path", lawful(lambda m, v, *given: v), "variance alone"),
]
LABELS = [label for label, _ in REFERENCES]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("empty", [..., None, lambda *given: None, lambda *given: ...])
def test_an_empty_answer_is_none(label, empty, said):
    assert said(label, empty).startswith("no answer yet")


ODD = [
    *("text", b"", {}, [], [[1.0], [1.0, 2.0]], [None], 1j, 10**400, object(), torch.tensor([1j])),
    *(np.array("a"), (torch.ones(3), "text"), (torch.ones(3), torch.ones(2)), (1.0, None), ()),
]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_an_answer_of_a_bad_type_is_refused(label, odd, said):
    for answer in (odd, lambda *given: odd):
        assert said(label, answer).startswith("not yet")


KINDS = [
    lambda got: torch.as_tensor(got, dtype=torch.float64),
    lambda got: torch.as_tensor(got).float(),
    lambda got: torch.as_tensor(got, dtype=torch.float64).requires_grad_(),
    lambda got: torch.as_tensor(got).numpy(),
    lambda got: torch.as_tensor(got).tolist(),
    lambda got: torch.as_tensor(got).numpy()[::-1][::-1] if np.ndim(got) else np.float32(got),
]


@pytest.mark.parametrize(("label", "answer"), REFERENCES)
@pytest.mark.parametrize("kind", KINDS, ids=["double", "single", "graph", "numpy", "plain", "view"])
@pytest.mark.parametrize("pair", [tuple, list])
def test_right_answers_of_every_type_are_graded_right(label, answer, kind, pair, said):
    def other(*given):
        got = answer(*given)
        if label in ("ex:mix-lamps", "ex:mix-path"):
            return pair(map(kind, got))
        return kind(torch.as_tensor(got).detach())

    assert said(label, other).startswith("right")


@pytest.mark.parametrize("label", LABELS)
def test_five_cases_at_least_each_with_a_hint(label):
    checks.grade(label, None)
    cases = list(checks._graders[label](lambda *given: None))
    assert len(cases) >= 5
    assert all(case.hint for case in cases)
    assert len({case.question for case in cases}) == len(cases)


@pytest.mark.parametrize("label", LABELS)
def test_ten_slips_at_least_are_known(label):
    checks.grade(label, None)
    assert len(next(iter(checks._graders[label](lambda *given: None))).slips) >= 10


def test_pairs_of_other_lengths_are_told_the_shape(said):
    told = said("ex:mix-lamps", lambda *given: (torch.zeros(4), torch.zeros(4)))
    assert told.startswith("not yet")
    assert "(2, 3)" in told


def test_the_cells_of_all_levels_hold_everything():
    for mu, sigma in ((3.3, 2.4), (-60.0, 2.0), (40.0, 0.5)):
        assert log_cell(torch.arange(8), mu, sigma, 7).logsumexp(0).item() == pytest.approx(0, abs=1e-10)


def test_the_filled_row_is_the_most_probable_one():
    root = torch.tensor([[1.0, 0.2, -0.7], [0.4, 1.1, 0.3], [-0.5, 0.6, 0.9]], **F64)
    mean = torch.tensor([0.3, -1.0, 2.0], **F64)
    law = MultivariateNormal(mean, root @ root.T)
    seen = torch.tensor([True, False, True])
    row = fill(torch.tensor([1.0, math.nan, 0.5], **F64), seen, mean, root @ root.T)
    slope = torch.func.grad(lambda x: law.log_prob(x))(row)
    assert slope[1].abs() < 1e-10
    assert slope[~torch.tensor([False, True, False])].abs().min() > 1e-2


def test_a_step_on_the_lamps_never_makes_them_less_probable():
    t = torch.tensor([0.2, 3.0, 1.1, 7.0, 0.4], **F64)
    weights, rates = torch.tensor([0.3, 0.7], **F64), torch.tensor([2.0, 0.4], **F64)

    def total(weights, rates):
        return (weights.log() + rates.log() - rates * t[:, None]).logsumexp(1).sum()

    for _ in range(20):
        new = step(t, weights, rates)
        assert total(*new) >= total(weights, rates) - 1e-12
        weights, rates = new


def test_what_is_left_is_how_errors_shrink():
    p1 = torch.tensor([0.9, 0.2, 0.5, 1.3, 0.1], **F64)
    p2 = torch.tensor([0.3, 0.8, 0.6, 0.2, 0.7], **F64)

    def ahead(w):
        return (w * p1 / (w * p1 + (1 - w) * p2)).mean().item()

    rest = 0.5
    for _ in range(4000):
        rest = ahead(rest)
    assert 0.01 < rest < 0.99
    shrunk = (ahead(rest + 1e-5) - rest) / 1e-5
    assert shrunk == pytest.approx(left(p1, p2, rest).item(), abs=1e-4)
