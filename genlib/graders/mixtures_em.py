"""Graders of the lesson on mixtures and EM."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot
from torch.special import log_ndtr, ndtr

from genlib.checks import Case, _tensor, grader
from genlib.graders._tools import EXACT, asked, normal, telling, uniform


def _pair(ask: Callable[[], object]) -> Callable[[], object]:
    """The reply, as one tensor if it is a pair of equal shapes."""

    def asked() -> object:
        reply = ask()
        if isinstance(reply, tuple | list) and len(reply) == 2:
            try:
                return torch.stack([_tensor("reply", part) for part in reply])
            except (ValueError, RuntimeError):
                return reply
        return reply

    return asked


def _some(seed: int, K: int) -> Tensor:
    """Weights that add up to 1."""
    weights = 0.2 + uniform(seed, K)
    return weights / weights.sum()


def _log_normal(x: Tensor, means: Tensor, deviations: Tensor) -> Tensor:
    """Log-densities of normal components (n, K)."""
    return (
        -(((x[:, None] - means) / deviations) ** 2) / 2 - deviations.log() - math.log(math.sqrt(2 * math.pi))
    )


@grader("ex:mix-responsibility")
def _shares(answer: Callable[[Tensor, Tensor, Tensor, Tensor], object]) -> Iterator[Case]:
    plain = "Bayes: weigh the density of each component, then divide by what all of them give for this x."
    far = (
        "Out there each density is 0 as a number: take logarithms, and divide only after the largest is out."
    )
    for seed, n, K, name, atol in (
        (1, 5, 3, "", 1e-4),
        (2, 4, 2, "", 1e-4),
        (3, 6, 1, "", 1e-4),
        (4, 3, 4, "deviations from 0.001 to 1000", 1e-4),
        (5, 4, 3, "one weight is 0", 1e-4),
        (6, 4, 3, "1000 deviations away", 1e-3),
        (7, 4, 3, "1000 deviations away from components side by side", 0.05),
    ):
        x, weights = 1.5 * normal(seed, n), _some(seed + 20, K)
        means, deviations = normal(seed + 40, K), 0.4 + uniform(seed + 60, K)
        if seed == 4:
            deviations = torch.logspace(-3, 3, K, **EXACT)
            x[0] = means[0]
        if seed == 5:
            weights = torch.tensor([0.6, 0.0, 0.4], **EXACT)
        if seed == 6:
            x = 1000 * deviations.max() * x.sign()
        if seed == 7:
            x, deviations = 1024 * x.sign(), torch.ones_like(deviations)
            means = torch.tensor([0, 1, -1], **EXACT) / 512
        log_p = _log_normal(x, means, deviations)
        joint = weights.log() + log_p
        expected = joint.softmax(1)
        away = (x[:, None] - means) ** 2
        slips = {
            "The weights are missing: a rare component needs a larger density.": log_p.softmax(1),
            "Deviations are σ, not σ²: the density has their square.": (
                (weights.log() + _log_normal(x, means, deviations.sqrt())).softmax(1)
            ),
            "The square is divided by 2σ²: there σ is not squared.": (
                (joint + away / (2 * deviations**2) - away / (2 * deviations)).softmax(1)
            ),
            "The 1/σ in front of the density is missing: it differs from component to component.": (
                (joint + deviations.log()).softmax(1)
            ),
            "The density has 1/σ in front, not 1/σ².": (joint - deviations.log()).softmax(1),
            "The exponent has a factor 1/2.": (joint - away / (2 * deviations**2)).softmax(1),
            "The components share each x: divide over them, not over the x.": joint.softmax(0),
            "Those are weights times densities: divide by their sum.": joint.exp(),
            "Those are the densities: weigh them, and divide by the sum.": log_p.exp(),
            "Divide by the density of the whole mixture, after weighing: the shares of an x add up to 1.": (
                weights * log_p.softmax(1)
            ),
            "Weights multiply densities: add their logarithms.": (weights + log_p).softmax(1),
            "The weight is divided by where it has to be multiplied with.": (
                (log_p - weights.log()).softmax(1)
            ),
            "What is far from x gets less, not more: the sign of the exponent is wrong.": (
                (joint + away / deviations**2).softmax(1)
            ),
            "That gives each x to one component: the others keep a share.": (
                one_hot(joint.argmax(1), K).double()
            ),
            "That is where the largest share is: the shares are asked.": joint.argmax(1),
            "Those are logarithms of the shares.": joint.log_softmax(1),
            "That is the log-density of the mixture: what has each component given to it?": joint.logsumexp(
                1
            ),
            "Those are means over the x, which EM takes for new weights: each x has shares of its own.": (
                expected.mean(0)
            ),
            "A row for each x: (n, K).": expected.T,
        }
        parts = f"{K} components" if K > 1 else "1 component"
        question = f"{n} numbers, {parts}" + f", {name}" * bool(name)
        given = asked(answer, x.clone(), weights.clone(), means.clone(), deviations.clone())
        away_from_all = seed in (6, 7)
        known = {} if away_from_all else telling(slips, expected)
        yield Case(question, given, expected, atol, far if away_from_all else plain, known)


def _lamp(t: Tensor, weights: Tensor, rates: Tensor) -> Tensor:
    """Log of weight times density (n, K) of exponential times."""
    return weights.log() + rates.log() - rates * t[:, None]


def _told(t: Tensor, share: Tensor) -> Tensor:
    """The new weights and rates from shares (n, K)."""
    return torch.stack([share.mean(0), share.sum(0) / (t @ share)])


@grader("ex:mix-lamps")
def _lamps(answer: Callable[[Tensor, Tensor, Tensor], object]) -> Iterator[Case]:
    plain = "Shares first: who has made each lamp? Then a fit for each maker, in which a lamp counts by its share."
    large = "e^−2000 is 0 as a number: stay with logarithms until you have the shares."
    for seed, n, K, name, atol in (
        (1, 7, 3, "", 1e-4),
        (2, 9, 2, "", 1e-4),
        (3, 5, 1, "", 1e-4),
        (4, 1, 2, "", 1e-4),
        (5, 8, 2, "rates 0.02 and 50", 1e-3),
        (6, 6, 3, "rates from 2000 on", 5e-3),
    ):
        weights, rates = _some(seed + 20, K), (0.8 * normal(seed + 40, K)).exp()
        if seed == 5:
            rates = torch.tensor([0.02, 50], **EXACT)
        t = -uniform(seed, n).log() / rates[torch.arange(n, device="cpu") % K]
        if seed == 6:
            t, rates = 0.3 + uniform(seed, n), torch.tensor([2000, 2002, 2005], **EXACT)
        joint = _lamp(t, weights, rates)
        share = joint.softmax(1)
        expected = _told(t, share)
        hard = one_hot(joint.argmax(1), K).double()
        new_weights, new_rates = expected
        slips = {
            "Those are mean times: a rate is 1 over them.": torch.stack([new_weights, 1 / new_rates]),
            "The old weights are kept: they move as well.": torch.stack([weights, new_rates]),
            "The old rates are kept: they move as well.": torch.stack([new_weights, rates]),
            "Nothing has moved.": torch.stack([weights, rates]),
            "That gives each lamp to one maker: it belongs to each of them by its share.": _told(t, hard),
            "All makers have the same rate here: each has its own lamps.": (
                torch.stack([new_weights, (1 / t.mean()).expand(K)])
            ),
            "In the shares the weights are missing.": _told(t, (joint - weights.log()).softmax(1)),
            "In the shares the rate in front of the density is missing.": (
                _told(t, (joint - rates.log()).softmax(1))
            ),
            "Density rate · exp(−rate t): that has t over the rate.": _told(
                t, _lamp(t, weights, 1 / rates).softmax(1)
            ),
            "Long times speak for small rates: the sign of the exponent is wrong.": (
                _told(t, (joint + 2 * rates * t[:, None]).softmax(1))
            ),
            "The makers share each lamp: divide over them, not over the lamps.": _told(t, joint.softmax(0)),
            "Weights times densities are no shares: divide by their sum.": _told(t, joint.exp()),
            "Weights add up to 1: means of the shares, not sums.": torch.stack([n * new_weights, new_rates]),
            "Divide each maker's lamps by its own hours: not all lamps.": (
                torch.stack([new_weights, n / (t @ share)])
            ),
            "Divide each maker's lamps by its own hours, not by all.": (
                torch.stack([new_weights, share.sum(0) / t.sum()])
            ),
            "The mean of 1/t is not 1 over the mean.": (
                torch.stack([new_weights, (1 / t) @ share / share.sum(0)])
            ),
            "The old weights are in the shares already: no second factor.": (
                torch.stack([weights * new_weights, new_rates])
            ),
            "That is two steps: one is asked.": _told(t, _lamp(t, new_weights, new_rates).softmax(1)),
            "The shares are those of the old rates: do not compute them again for the new weights.": (
                torch.stack([_told(t, _lamp(t, weights, new_rates).softmax(1))[0], new_rates])
            ),
            "The weights come first, then the rates.": torch.stack([new_rates, new_weights]),
            "Those are the weights alone: the rates are asked as well.": new_weights,
            "Those are the rates alone: the weights are asked as well.": new_rates,
            "Those are the shares: what weights and rates follow from them?": share,
        }
        lamps, makers = (f"{k} {one}{'s' * (k > 1)}" for k, one in ((n, "lamp"), (K, "maker")))
        question = (
            f"{lamps}, {makers}"
            + f", {name}" * bool(name)
            + ", the weights as first row, the rates as second"
        )
        given = _pair(asked(answer, t.clone(), weights.clone(), rates.clone()))
        known = {} if seed == 6 else telling(slips, expected)
        yield Case(question, given, expected, atol, large if seed == 6 else plain, known)


@grader("ex:mix-count")
def _count(answer: Callable[[int, int, str], object]) -> Iterator[Case]:
    hints = {
        "full": "Each component has a mean and a symmetric matrix. How many of its entries are free?",
        "tied": "One covariance serves all components: it is counted once.",
        "diagonal": "A variance for each direction of each component.",
        "round": "One variance for each component, the same in all directions.",
    }
    for kind, K, D in (
        ("tied", 5, 6),
        ("full", 5, 6),
        ("diagonal", 5, 6),
        ("round", 5, 6),
        ("full", 1, 3),
        ("tied", 1, 5),
        ("round", 6, 1),
        ("diagonal", 1, 1),
        ("full", 10, 784),
        ("tied", 10, 784),
    ):
        own, copies = {
            "full": (D * (D + 1) // 2, K),
            "tied": (D * (D + 1) // 2, 1),
            "diagonal": (D, K),
            "round": (1, K),
        }[kind]
        spread = own * copies
        expected = K * D + spread + K - 1
        square = kind in ("full", "tied")
        slips = {
            "The weights add up to 1: the last one is no free number.": expected + 1,
            "The weights are missing.": expected - (K - 1),
            "A covariance is symmetric: entries on both sides of the diagonal are one number.": (
                K * D + (D * D if square else own) * copies + K - 1
            ),
            "The diagonal of a covariance counts, too.": (
                K * D + (D * (D - 1) // 2 if square else own) * copies + K - 1
            ),
            "A covariance is more than its variances.": K * D + (D if square else own) * copies + K - 1,
            "A covariance is more than one number.": K * D + copies + K - 1,
            "Does each component have a covariance of its own? Here it is the other way.": (
                K * D + own * (K + 1 - copies) + K - 1
            ),
            "The means are missing.": expected - K * D,
            "Each component has a mean of its own.": D + spread + K - 1,
            "A mean has D entries.": K + spread + K - 1,
            "The covariances are missing.": K * D + K - 1,
            "That is one component: there are K, and K − 1 weights.": D + own,
            "A weight belongs to a component, not to each direction.": K * D + spread + (K - 1) * D,
            "The covariance and its inverse are one choice: count it once.": expected + spread,
            "That is the number of components.": K,
        }
        parts = f"{K} components" if K > 1 else "1 component"
        question = f"kind = '{kind}', {parts} in {D} dimension{'s' * (D > 1)}"
        given = asked(answer, K, D, kind)
        yield Case(question, given, expected, 1e-6, hints[kind], telling(slips, expected))


@grader("ex:mix-spread")
def _spread(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    plain = "How far is each row from the centre that is nearest to it? Square that, and let all chances add up to 1."
    for seed, n, D, k, name in (
        (8, 6, 2, 3, ""),
        (2, 5, 3, 1, ""),
        (3, 7, 1, 2, ""),
        (4, 4, 2, 4, "one row is a centre"),
        (5, 1, 3, 2, ""),
        (6, 5, 2, 2, "one row is far away"),
        (7, 6, 3, 2, "all of it far from 0"),
    ):
        x, centres = normal(seed, n, D), normal(seed + 20, k, D)
        if seed == 4:
            centres[2] = x[1]
        if seed == 6:
            x[3] = 1e6
        if seed == 7:
            x, centres = x + 1000, centres + 1000
        gap = x[:, None] - centres
        square = gap.square().sum(2)
        near = square.amin(1)
        expected = near / near.sum()

        root, far = near.sqrt(), square.amax(1)
        slips = {
            "The distance has to be squared.": root / root.sum(),
            "The distance is squared once.": near**2 / (near**2).sum(),
            "That takes the centre that is farthest from each row: the nearest one counts.": far / far.sum(),
            "All rows have the same chance here: far ones have more.": torch.full_like(near, 1 / n),
            "The nearest centre alone counts, not the mean over all.": square.sum(1) / square.sum(),
            "That is the distance from the first centre alone.": square[:, 0] / square[:, 0].sum(),
            "That is the distance from the newest centre alone: the older ones count as well.": (
                square[:, -1] / square[:, -1].sum()
            ),
            "That is the distance from the mean of the centres.": (
                (x - centres.mean(0)).square().sum(1) / (x - centres.mean(0)).square().sum()
            ),
            "That is the distance from 0: where are the centres?": x.square().sum(1) / x.square().sum(),
            "Chances add up to 1: divide by the sum.": near,
            "Chances add up to 1: divide by the sum, not by the largest.": near / near.max(),
            "Chances are in proportion to the squares: there is no exp.": near.softmax(0),
            "Near rows have the larger chance here: it is the other way.": (-near).softmax(0),
            "The chance grows with the square, it is not 1 over it.": (1 / near) / (1 / near).sum(),
            "That always takes the farthest row: it has only the largest chance.": (
                one_hot(near.argmax(), n).double()
            ),
            "A square of the distance, not of the way along the axes.": (
                gap.abs().sum(2).amin(1) ** 2 / (gap.abs().sum(2).amin(1) ** 2).sum()
            ),
            "All axes count, not only the one on which the row is farthest.": (
                gap.abs().amax(2).amin(1) ** 2 / (gap.abs().amax(2).amin(1) ** 2).sum()
            ),
            "Those are sums of chances: one for each row is asked.": expected.cumsum(0),
            "Those are chances for each centre: which one is the nearest?": square / square.sum(0),
            "Those are squared distances from each centre: take the nearest.": square,
            "That is the number of the nearest centre.": square.argmin(1),
        }
        rows, axes, have = (
            f"{m} {one}{'s' * (m > 1)}" for m, one in ((n, "row"), (D, "number"), (k, "centre"))
        )
        question = f"{rows} of {axes}, {have}" + f", {name}" * bool(name)
        given = asked(answer, x.clone(), centres.clone())
        yield Case(question, given, expected, 1e-4, plain, telling(slips, expected))


@grader("ex:mix-fill")
def _fill(answer: Callable[[Tensor, Tensor, Tensor, Tensor], object]) -> Iterator[Case]:
    plain = "What is seen stays. By how much is it off its mean, and what does this tell of the rest?"
    whole = "With nothing seen only the mean is known; with all seen there is nothing to fill."
    nan = math.nan
    for seed, D, missing, name, filler, atol in (
        (1, 5, (1, 4), "", nan, 1e-4),
        (2, 4, (0, 2, 3), "", nan, 1e-4),
        (3, 3, (), "all of them seen", nan, 1e-4),
        (4, 4, (0, 1, 2, 3), "none of them seen", nan, 1e-4),
        (5, 2, (1,), "which are almost equal", nan, 1e-3),
        (6, 6, (0, 5), "1e6 stands where one is missing", 1e6, 1e-4),
        (7, 3, (2,), "1000 deviations off", nan, 1e-1),
        (8, 1, (0,), "not seen", nan, 1e-4),
    ):
        root, mean = normal(seed, D, D), 2 * normal(seed + 20, D)
        covariance = root @ root.T + 0.3 * torch.eye(D, **EXACT)
        if seed == 5:
            covariance = torch.tensor([[1, 0.999], [0.999, 1]], **EXACT)
        x = mean + root @ normal(seed + 40, D)
        if seed == 7:
            x = mean + 1000 * covariance.diagonal().sqrt() * (x - mean).sign()
        seen = torch.ones(D, dtype=torch.bool, device="cpu")
        seen[list(missing)] = False
        gone = ~seen
        whole_case = not missing or len(missing) == D
        precision = torch.linalg.inv(covariance)
        off = x[seen] - mean[seen]

        def with_rest(rest: Tensor, x: Tensor = x, gone: Tensor = gone) -> Tensor:
            """The row, with these numbers where one is missing."""
            return x.masked_scatter(gone, rest.expand(int(gone.sum())))

        pull = -torch.linalg.solve(precision[gone][:, gone], precision[gone][:, seen])  # the lowest energy
        about, across, own = mean[gone], covariance[gone][:, seen], covariance[seen][:, seen]
        expected = with_rest(about + pull @ off)
        slips = {
            "That is the plain mean: what is seen tells more.": with_rest(about),
            "The sign is wrong: a covariance above 0 pulls the same way.": with_rest(about - pull @ off),
            "What counts is how far the seen entries are off their mean: it is not taken off.": (
                with_rest(about + pull @ x[seen])
            ),
            "The mean of the missing entries is not added.": with_rest(pull @ off),
            "Blocks of the precision are no blocks of the covariance.": (
                with_rest(
                    about + precision[gone][:, seen] @ torch.linalg.solve(precision[seen][:, seen], off)
                )
            ),
            "The seen block is taken first and inverted then: not the other way.": (
                with_rest(about + across @ precision[seen][:, seen] @ off)
            ),
            "The covariance of the seen entries has to be divided by.": with_rest(about + across @ off),
            "The seen entries depend on each other: their whole block counts, not its diagonal.": (
                with_rest(about + across @ (off / own.diagonal()))
            ),
            "Divide by the covariance of the seen entries, not by that of the missing ones.": (
                with_rest(about + torch.linalg.solve(covariance[gone][:, gone], across) @ off)
            ),
            "The block of the seen entries is inverted, not multiplied with.": (
                with_rest(about + across @ own @ off)
            ),
            "The precision of the missing entries is divided by.": (
                with_rest(about - precision[gone][:, seen] @ off)
            ),
            "That is the mean over the seen entries: each direction has a mean of its own.": (
                with_rest(x[seen].mean())
            ),
            "That is 0: what is the mean?": with_rest(torch.zeros_like(about)),
            "The missing entries are still missing.": with_rest(torch.full_like(about, nan)),
            "NaN times 0 is NaN: take out the seen entries before you multiply.": torch.full_like(x, nan),
            "What is seen stays as it is: that is the mean of all.": mean,
            "Those are the missing entries alone: put them into the row.": about + pull @ off,
            "That is how far the row is off its mean: add the mean.": expected - mean,
        }
        question = f"{D} number{'s' * (D > 1)}" + f", {len(missing)} missing" * (not whole_case)
        question += f", {name}" * bool(name)
        given_x = torch.where(seen, x, torch.full_like(x, filler))
        given = asked(answer, given_x, seen.clone(), mean.clone(), covariance.clone())
        known = {} if whole_case else telling(slips, expected)
        yield Case(question, given, expected, atol, whole if whole_case else plain, known)


@grader("ex:mix-left")
def _left(answer: Callable[[Tensor, Tensor, float], object]) -> Iterator[Case]:
    plain = (
        "Differentiate the share of one point in w: above and below the line stands w. Then take the mean."
    )
    for seed, n, w, name, atol in (
        (1, 5, 0.3, "", 1e-4),
        (2, 8, 0.75, "", 1e-4),
        (3, 1, 0.5, "", 1e-4),
        (4, 4, 0.6, "both densities are the same", 1e-4),
        (5, 6, 0.2, "no point is possible under both", 1e-4),
        (6, 5, 0.4, "densities near 1e-15", 1e-4),
        (7, 4, 0.999, "", 1e-3),
    ):
        p1, p2 = 0.1 + uniform(seed, n), 0.1 + uniform(seed + 20, n)
        if seed == 4:
            p2 = p1
        if seed == 5:
            first = torch.arange(n, device="cpu") % 2 == 0
            p1, p2 = p1 * first, p2 * ~first
        if seed == 6:
            p1, p2 = 1e-15 * p1, 1e-15 * p2
        mixed = w * p1 + (1 - w) * p2
        share = w * p1 / mixed
        each = share * (1 - share) / (w * (1 - w))
        expected = each.mean()
        other = w * p2 + (1 - w) * p1
        gain = (p1 - p2) / mixed
        slips = {
            "A mean over the data, not a sum.": each.sum(),
            "Each point has a slope of its own: their mean is asked.": each,
            "Below the line stands the square of the mixture.": (p1 * p2 / mixed).mean(),
            "Below the line w stands as well: its part is missing.": (p1 / mixed).mean(),
            "That is the step itself: its derivative is asked.": share.mean(),
            "That is how far the step goes.": share.mean() - w,
            "That is the share times what is left, which is the slope in the logit of w.": (
                (share * (1 - share)).mean()
            ),
            "Divide by 1 − w as well.": (share * (1 - share)).mean() / w,
            "Divide by w as well: without, there is a w in front.": (share * (1 - share)).mean() / (1 - w),
            "The sign is wrong: a larger w gives larger shares.": -expected,
            "That is the part of the error that a step takes away: what is left?": 1 - expected,
            "That is the slope of the log-likelihood, not of the step.": gain.mean(),
            "That is the second derivative of the log-likelihood.": -gain.square().mean(),
            "In the rule for quotients both parts are added: one is taken off.": (
                (p1 / mixed + w * p1 * (p1 - p2) / mixed**2).mean()
            ),
            "Above the line stand both densities, not the square of the first.": (p1 / mixed).square().mean(),
            "Above the line stand both densities, not the square of the second.": (
                (p2 / mixed).square().mean()
            ),
            "w belongs to the first density.": (p1 * p2 / other**2).mean(),
            "A mean of quotients is no quotient of means.": p1.mean() * p2.mean() / mixed.mean() ** 2,
            "The mean comes after the quotient: that divides the mean of p1 p2 by a mean of squares.": (
                (p1 * p2).mean() / mixed.square().mean()
            ),
        }
        points = f"{n} points" if n > 1 else "1 point"
        question = f"{points}, w = {w}" + f", {name}" * bool(name)
        given = asked(answer, p1.clone(), p2.clone(), w)
        yield Case(question, given, expected, atol, plain, telling(slips, expected))


def _log_between(low: Tensor, high: Tensor) -> Tensor:
    """log(Φ(high) − Φ(low)), from the side on which both are small."""
    turned = low + high > 0
    low, high = torch.where(turned, -high, low), torch.where(turned, -low, high)
    above, below = log_ndtr(high), log_ndtr(low)
    return above + (-(below - above).exp()).log1p()


def _edges(
    v: Tensor, mu: float, sigma: float, top: int, *, under: float = 0.5, over: float = 0.5, ends: str = "both"
) -> tuple[Tensor, Tensor]:
    """Where the cells begin and end, in deviations from the mean."""
    low, high = (v - under - mu) / sigma, (v + over - mu) / sigma
    if ends in ("both", "low"):
        low = low.masked_fill(v == 0, -math.inf)
    if ends in ("both", "high"):
        high = high.masked_fill(v == top, math.inf)
    return low, high


@grader("ex:mix-cell")
def _cell(answer: Callable[[Tensor, float, float, int], object]) -> Iterator[Case]:
    plain = "Between which numbers must the draw lie to be rounded to v? And at both ends?"
    far = (
        "Far out Φ is 0 or 1 as a number, and so is the difference. "
        "Stay with log Φ, and look from the side where it is small."
    )
    for v, mu, sigma, top, hint, atol in (
        ((3, 0, 7, 5, 2, 6, 1), 3.3, 2.4, 7, plain, 1e-4),
        ((0, 1, 1, 0), 0.2, 0.7, 1, plain, 1e-4),
        ((0, 0), 5.0, 2.0, 0, plain, 1e-4),
        ((0, 100, 200, 255), 90.0, 500.0, 255, plain, 1e-3),
        (tuple(range(16)), 105.0, 3.0, 15, far, 1e-2),
        (tuple(range(16)), -90.0, 3.0, 15, far, 1e-2),
        ((3, 4, 5), 4.125, 0.0078125, 9, far, 5e-2),
        ((0, 128, 255), 127.0, 4.0, 255, far, 1e-2),
    ):
        level = torch.tensor(v, device="cpu")
        exact = level.double()
        cell = partial(_edges, exact, mu, sigma, top)
        low, high = cell()
        expected = _log_between(low, high)
        z = (exact - mu) / sigma
        log_p = -(z**2) / 2 - math.log(sigma * math.sqrt(2 * math.pi))
        every = -(((torch.arange(top + 1, **EXACT) - mu) / sigma) ** 2) / 2
        inside = ndtr(torch.tensor((top + 0.5 - mu) / sigma, **EXACT)) - ndtr(
            torch.tensor((-0.5 - mu) / sigma, **EXACT)
        )
        slips = {
            "That is the density at the level: a level has a whole cell.": log_p,
            "What lies outside goes to the levels at both ends.": _log_between(*cell(ends="none")),
            "What lies above the top goes to the top level.": _log_between(*cell(ends="low")),
            "What lies below 0 goes to level 0.": _log_between(*cell(ends="high")),
            "Rounding takes the nearest level: the cell begins half a level below v.": (
                _log_between(*cell(under=0, over=1))
            ),
            "Rounding takes the nearest level: the cell ends half a level above v.": (
                _log_between(*cell(under=1, over=0))
            ),
            "The cell is as wide as one level, not two.": _log_between(*cell(under=1, over=1)),
            "sigma is the deviation: there is no root.": (
                _log_between(*_edges(exact, mu, math.sqrt(sigma), top))
            ),
            "sigma is the deviation: it is not squared.": _log_between(*_edges(exact, mu, sigma**2, top)),
            "The distance from the mean is counted in deviations.": _log_between(
                *_edges(exact, mu, 1.0, top)
            ),
            "That is the probability: its logarithm is asked.": expected.exp(),
            "The sign is wrong: the log of a probability is not above 0.": -expected,
            "A natural logarithm is asked.": expected / math.log(2),
            "That is the chance of this level or one below: take off what is below.": log_ndtr(high),
            "That is the chance of this level or one above: take off what is above.": log_ndtr(-low),
            "The logarithm of a difference is no difference of logarithms.": log_ndtr(high) - log_ndtr(low),
            "Densities at the levels, made to add up to 1: a level has a cell, and the ends have more.": (
                -(z**2) / 2 - every.logsumexp(0)
            ),
            "What lies outside is not cut away: it goes to the end levels.": (
                _log_between(*cell(ends="none")) - inside.log()
            ),
            "The mean has to be taken off.": _log_between(*_edges(exact, 0.0, sigma, top)),
            "A normal law, not a logistic one: Φ, not σ.": (
                (logsigmoid(high).exp() - logsigmoid(low).exp()).log()
            ),
            "Each level has a probability of its own: they are not added here.": expected.sum(),
        }
        levels = f"levels 0 to {top}" if top else "one level"
        question = f"{levels}, mu = {mu}, sigma = {sigma:g}"
        given = asked(answer, level.clone(), mu, sigma, top)
        known = telling(slips, expected) if hint is plain else {}
        yield Case(question, given, expected, atol, hint, known)


def _law(
    maps: Tensor,
    shifts: Tensor,
    noise: Tensor,
    *,
    top: float = 1.0,
    mean: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda m, a, b: a * m + b,
    variance: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda v, a, psi: a**2 * v + psi,
) -> Tensor:
    """Mean and variance of the number at the end of the path, from the top down."""
    m, v = torch.zeros((), **EXACT), torch.tensor(top, **EXACT)
    for a, b, psi in zip(maps.flip(0), shifts.flip(0), noise.flip(0), strict=True):
        m, v = mean(m, a, b), variance(v, a, psi)
    return torch.stack([m, v])


@grader("ex:mix-path")
def _path(answer: Callable[[Tensor, Tensor, Tensor], object]) -> Iterator[Case]:
    plain = "Begin at the top, with mean 0 and variance 1. What does one layer make of a mean, and what of a variance?"
    for seed, L, name, atol in (
        (10, 3, "", 1e-4),
        (2, 2, "", 1e-4),
        (3, 1, "", 1e-4),
        (4, 4, "one map is 0", 1e-4),
        (5, 3, "no noise", 1e-4),
        (6, 40, "", 1e-3),
        (7, 2, "maps of 20 and −30", 1.0),
    ):
        maps = (0.5 + uniform(seed, L)) * normal(seed + 60, L).sign()
        shifts, noise = normal(seed + 20, L), 0.2 + uniform(seed + 40, L)
        if seed == 4:
            maps[2] = 0
        if seed == 5:
            noise[:] = 0
        if seed == 6:
            maps = 0.9 * maps.sign()
        if seed == 7:
            maps = torch.tensor([20, -30], **EXACT)
        scale = torch.cat([torch.ones(1, **EXACT), maps]).cumprod(0)  # of each layer, and of the top
        m = scale[:-1] @ shifts
        v = scale[:-1] ** 2 @ noise + scale[-1] ** 2
        expected = torch.stack([m, v])
        law = partial(_law, maps, shifts, noise)
        slips = {
            "The layers are in the wrong order: the first one is next to the data, so it is the last step.": (
                _law(maps.flip(0), shifts.flip(0), noise.flip(0))
            ),
            "Noise passes through all maps below it.": torch.stack([m, noise.sum() + scale[-1] ** 2]),
            "Shifts pass through all maps below them.": torch.stack([shifts.sum(), v]),
            "Nothing has passed through the maps but the top.": (
                torch.stack([shifts.sum(), noise.sum() + scale[-1] ** 2])
            ),
            "The top has variance 1: it is forgotten.": law(top=0.0),
            "The top passes through all maps.": torch.stack([m, v - scale[-1] ** 2 + 1]),
            "The noise is given as variances: it is not squared.": _law(maps, shifts, noise**2),
            "The noise is given as variances: there is no root.": _law(maps, shifts, noise.sqrt()),
            "A map of a multiplies a variance by a².": law(variance=lambda v, a, psi: a * v + psi),
            "A map of a multiplies a mean by a, not by a².": law(mean=lambda m, a, b: a**2 * m + b),
            "A mean keeps the sign of the map.": law(mean=lambda m, a, b: a.abs() * m + b),
            "Noise comes after the map of its own layer.": law(variance=lambda v, a, psi: a**2 * (v + psi)),
            "The shift comes after the map of its own layer.": law(mean=lambda m, a, b: a * (m + b)),
            "The noise is missing.": torch.stack([m, scale[-1] ** 2]),
            "The shifts are missing.": torch.stack([torch.zeros_like(m), v]),
            "Deviations do not add up: variances do.": (
                torch.stack([m, (scale[:-1].abs() @ noise.sqrt() + scale[-1].abs()) ** 2])
            ),
            "That is the deviation: the variance is asked.": torch.stack([m, v.sqrt()]),
            "That is the second moment: take off the square of the mean.": torch.stack([m, v + m**2]),
            "That is the first layer alone: what lies above it?": (
                torch.stack([shifts[0], maps[0] ** 2 + noise[0]])
            ),
            "That is the last layer alone: the path goes on down to the data.": (
                torch.stack([shifts[-1], maps[-1] ** 2 + noise[-1]])
            ),
            "The mean comes first, then the variance.": torch.stack([v, m]),
            "That is the mean alone: the variance is asked as well.": m,
            "That is the variance alone: the mean is asked as well.": v,
        }
        layers = f"{L} layers" if L > 1 else "1 layer"
        question = layers + f", {name}" * bool(name)
        given = _pair(asked(answer, maps.clone(), shifts.clone(), noise.clone()))
        yield Case(question, given, expected, atol, plain, telling(slips, expected))
