"""Graders of the lesson on inverse problems."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import asked, normal, telling, uniform


@grader("ex:ip-normal")
def _normal(answer: Callable[[float, float, float, float, float], object]) -> Iterator[Case]:
    hint = "Precisions add up. Which precision has y for x, and which mean belongs to which precision?"
    for m, s, a, sigma, y in (
        (0.6, 1.7, 0.8, 0.5, 2.3),
        (-1.0, 0.4, -2.0, 1.5, 0.3),
        (2.0, 3.0, 0.0, 0.7, 5.0),
        (0.0, 1.0, 1.0, 1.0, -1.0),
        (0.3, 2.0, 1.5, 0.01, 0.9),
    ):
        own, told = 1 / s**2, a**2 / sigma**2
        precision, pull = own + told, m * own + a * y / sigma**2
        mean, deviation = pull / precision, precision**-0.5
        off, total = y - a * m, a**2 * s**2 + sigma**2
        loose = 1 / s + a**2 / sigma
        expected = (mean, deviation)
        slips = {
            "The second number is the variance: the deviation is its root.": (mean, 1 / precision),
            "The second number is the precision: what is the deviation?": (mean, precision),
            "The second number is the root of the precision: the deviation is 1 over it.": (
                mean,
                precision**0.5,
            ),
            "The mean comes first, then the deviation.": (deviation, mean),
            "That is the mean alone: the deviation is asked as well.": mean,
            "That is the deviation of y, not of x given y.": (mean, math.sqrt(total)),
            "That factor shrinks the variance, not the deviation.": (mean, s * sigma**2 / total),
            "The deviation is that of the prior: y makes it smaller.": (mean, s),
            "The deviation has a² as well: y says more if a is large.": (mean, (own + sigma**-2) ** -0.5),
            "s and σ are deviations: square them.": ((m / s + a * y / sigma) / loose, loose**-0.5),
            "y is about a x, not about x: where is a?": (
                (m * own + y / sigma**2) / (own + sigma**-2),
                (own + sigma**-2) ** -0.5,
            ),
            "y pulls with a/σ²: one a is missing in the mean.": (
                (m * own + y / sigma**2) / precision,
                deviation,
            ),
            "y pulls with a/σ², not with a²/σ²: in the mean there is one a too many.": (
                (m * own + told * y) / precision,
                deviation,
            ),
            "The gain lacks a factor a: it leads from y to x.": (m + s**2 * off / total, deviation),
            "Compare y with a m, not with m.": (m + a * s**2 * (y - m) / total, deviation),
            "The mean moves towards what y says: the sign is wrong.": (m - a * s**2 * off / total, deviation),
            "The mean of the prior is missing.": (a * y / sigma**2 / precision, deviation),
            "That is by how much y moves the mean: add it to m.": (a * s**2 * off / total, deviation),
            "The sum of both pulls has to be divided by the precision.": (pull, deviation),
            "That is y alone: the prior is missing.": (y / a, sigma / abs(a)) if a else (math.inf, math.inf),
            "That is the prior: where is y?": (m, s),
            "Prior and measurement are exchanged.": (
                (a * m / s**2 + y / sigma**2) / (a**2 / s**2 + sigma**-2),
                (a**2 / s**2 + sigma**-2) ** -0.5,
            ),
        }
        question = f"m = {m}, s = {s}, a = {a}, σ = {sigma}, y = {y}"
        given = asked(answer, m, s, a, sigma, y)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:ip-evidence")
def _evidence(answer: Callable[[Tensor, float, Tensor, float, float], object]) -> Iterator[Case]:
    hint = "Bayes' rule for the components. What is the law of y if x comes from component k?"
    for seed, K, s, sigma, y, spread in (
        (1, 4, 1.5, 0.9, 0.4, 2.0),
        (2, 2, 1.0, 0.3, -1.5, 1.0),
        (3, 1, 0.5, 0.5, 2.0, 1.0),
        (4, 3, 0.05, 2.0, 1.0, 1.0),
        (5, 6, 1.2, 0.1, 0.0, 2.0),
        (6, 3, 0.8, 0.6, 45.0, 0.03),
    ):
        means, w = spread * normal(seed, K), 0.2 + uniform(seed + 20, K)
        w = w / w.sum()
        off, variance = y - means, s**2 + sigma**2

        def chances(exponent: Tensor, w: Tensor = w) -> Tensor:
            return (w.log() + exponent).softmax(0)

        bell = -(off**2) / (2 * variance)
        density = bell.exp() / math.sqrt(2 * math.pi * variance)
        expected = chances(bell)
        slips = {
            "Each component has its own width: s is missing in the variance of y.": chances(
                -(off**2) / (2 * sigma**2)
            ),
            "y has noise: σ is missing in its variance.": chances(-(off**2) / (2 * s**2)),
            "Variances add up, not deviations.": chances(-(off**2) / (2 * (s + sigma) ** 2)),
            "s and σ are deviations: square them.": chances(-(off**2) / (2 * (s + sigma))),
            "s² + σ² is the variance of y already.": chances(-(off**2) / (2 * variance**2)),
            "The factor 1/2 in the exponent is missing.": chances(2 * bell),
            "The distance counts with its square.": chances(-off.abs() / (2 * variance)),
            "What is far from y weighs less: the sign is wrong.": chances(-bell),
            "The weights of the prior are missing.": bell.softmax(0),
            "Those are the weights of the prior: where is y?": w,
            "The weights have to sum to 1.": w * density,
            "The weights have to sum to 1: without its constant, this is no density.": w * bell.exp(),
            "Scale after both factors are there: these do not sum to 1.": w * bell.softmax(0),
            "The exponents add up with log w, not with w.": chances(bell, w.exp()),
            "Products are scaled by their sum; there is no softmax of them.": (w * density).softmax(0),
            "Those are the logarithms of the weights.": expected.log(),
            "That is the density of y: which part of it has each component?": (w * density).sum(),
            "The heaviest component has not all of the weight.": (w.log() + bell).argmax()
            == torch.arange(K, device="cpu"),
            "Far from all means each density is 0 as a number: work with logarithms.": math.nan * means,
        }
        size = f"{K} components" if K > 1 else "1 component"
        question = f"{size}, s = {s}, σ = {sigma}, y = {y}"
        given = asked(answer, means.clone(), s, w.clone(), sigma, y)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:ip-guess")
def _guess(answer: Callable[[Tensor, float, float, float, float, float], object]) -> Iterator[Case]:
    hint = "Given u, x is normal. With its mean and variance, which are those of y? Then differentiate in u."
    for seed, n, kappa, tau, a, sigma, y in (
        (1, 4, 0.9, 1.4, 0.7, 0.5, 1.2),
        (2, 3, 0.0, 1.0, -1.5, 0.4, 0.3),
        (3, 1, 5.0, 1.0, 2.0, 0.6, -1.0),
        (4, 2, 0.3, 2.0, 1.0, 1.0, 0.0),
        (5, 3, 1.0, 0.2, 3.0, 0.7, 2.5),
    ):
        u = normal(seed, n)
        keep = tau**2 / (tau**2 + kappa**2)  # of u, in the mean of x
        rest = keep * kappa**2
        off, variance = y - a * keep * u, a**2 * rest + sigma**2
        expected = a * keep * off / variance
        half = tau / (tau + kappa)
        slips = {
            "That takes the mean of x for x: given u, x still has a variance.": a * keep * off / sigma**2,
            "The mean of x moves by less than u: the inner derivative is missing.": a * off / variance,
            "y moves by a for each unit of x: that factor is missing.": keep * off / variance,
            "y is about a x: a is missing everywhere.": keep * (y - keep * u) / (rest + sigma**2),
            "That takes u for x.": a * (y - a * u) / sigma**2,
            "That is without a prior: given u, its mean is not u.": (
                a * (y - a * u) / (a**2 * kappa**2 + sigma**2)
            ),
            "Compare y with a times the mean of x, not with a u.": a * keep * (y - a * u) / variance,
            "The variance of x given u is smaller than κ².": a * keep * off / (a**2 * kappa**2 + sigma**2),
            "The variance of x given u is smaller than τ².": a * keep * off / (a**2 * tau**2 + sigma**2),
            "The variance of x given u is not κ²τ²: divide by their sum.": (
                a * keep * off / (a**2 * kappa**2 * tau**2 + sigma**2)
            ),
            "In the variance of y, that of x is multiplied by a².": a * keep * off / (rest + sigma**2),
            "In the variance of y, that of x is multiplied by a², not by a.": (
                a * keep * off / (a * rest + sigma**2)
            ),
            "σ is a deviation: square it.": a * keep * off / (a**2 * rest + sigma),
            "The noise of y is missing in its variance.": (
                a * keep * off / (a**2 * rest) if kappa else math.inf * u
            ),
            "Divide by the variance of y, not by its deviation.": a * keep * off / math.sqrt(variance),
            "The variance of y is missing.": a * keep * off,
            "τ and κ are deviations: square them.": (
                a * half * (y - a * half * u) / (a**2 * half * kappa + sigma**2)
            ),
            "The shares of data and noise in u are exchanged.": (
                a * (1 - keep) * (y - a * (1 - keep) * u) / variance
            ),
            "The slope leads to places that explain y: the sign is wrong.": -expected,
            "That is the slope in y, not in u.": -off / variance,
            "That is the exponent: differentiate it.": -(off**2) / (2 * variance),
            "That is the score of u given y: the part that y adds is asked.": (
                expected - u / (tau**2 + kappa**2)
            ),
            "The derivative of a square has a factor 2, which cancels the half.": expected / 2,
            "The half of the exponent cancels the factor 2.": 2 * expected,
            "Each place has its own slope: there is nothing to sum.": expected.sum(),
        }
        size = f"{n} points" if n > 1 else "1 point"
        question = f"{size}, κ = {kappa}, τ = {tau}, a = {a}, σ = {sigma}, y = {y}"
        given = asked(answer, u.clone(), kappa, tau, a, sigma, y)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:ip-hold")
def _hold(answer: Callable[[Tensor, Tensor, Tensor, float, Tensor], object]) -> Iterator[Case]:
    hint = "Which columns of u does the mask choose? All other columns stay as they are."
    for seed, n, seen, level in (
        (1, 3, (False, True, False, True), 0.7),
        (2, 4, (True, False, False), 2.0),
        (3, 2, (True, True), 0.4),
        (4, 3, (False, False, True, True, True), 0.0),
        (5, 1, (False, False, False), 1.0),
    ):
        mask = torch.tensor(seen, device="cpu")
        M, u = sum(seen), normal(seed, n, len(seen))
        y, noise = 1.5 + normal(seed + 20, M), normal(seed + 40, n, M)

        def held(known: Tensor, u: Tensor = u, mask: Tensor = mask) -> Tensor:
            return u.masked_scatter(mask, known.expand(len(u), -1))

        known = y + level * noise
        expected = held(known)
        first = torch.arange(len(seen), device="cpu") < M
        slips = {
            "u has noise of the level, and so must y: it is missing.": held(y),
            "The noise has to be multiplied by the level.": held(y + noise),
            "The level is a deviation already: it is not squared.": held(y + level**2 * noise),
            "The level is a deviation: there is no root.": held(y + math.sqrt(level) * noise),
            "The level multiplies the noise alone.": held(level * (y + noise)),
            "That is the noise alone: where is y?": held(level * noise),
            "The noise is added, not taken off.": held(y - level * noise),
            "Each row has its own noise.": held(y + level * noise[:1]),
            "y replaces what was there: it is not added.": held(u[:, mask] + known),
            "The noise is the given one, not what u has there.": held(y + level * u[:, mask]),
            "The mask says which coordinates are measured, not just how many.": held(known, mask=first),
            "What was not measured stays as it is: it is not 0.": expected * mask,
            "Those are the measured coordinates alone: all D are asked.": known,
            "That is u as it was.": u,
        }
        if len(seen) == 2 * M:
            slips["The mask is true where y is known: the others are kept."] = held(known, mask=~mask)
        size = f"{n} rows" if n > 1 else "1 row"
        question = f"{size}, mask {list(map(int, seen))}, level {level}"
        given = asked(answer, u.clone(), y.clone(), mask.clone(), level, noise.clone())
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:ip-weight")
def _weight(answer: Callable[..., object]) -> Iterator[Case]:
    hint = (
        "Write the logarithm of each of the four factors. Both normals have the same variance: what cancels?"
    )
    for seed, n, variance, size in (
        (1, 4, 0.6, 1.0),
        (2, 3, 1.7, 0.0),
        (3, 1, 0.2, 0.5),
        (4, 2, 1.0, 2.0),
        (5, 5, 0.05, 0.1),
    ):
        u, push = normal(seed, n), size * normal(seed + 20, n)
        mean = 0.8 * u + 0.1
        v = mean + push + math.sqrt(variance) * normal(seed + 40, n)
        log_psi_u, log_psi_v = -1 - normal(seed + 60, n) ** 2, -0.5 - normal(seed + 80, n) ** 2
        gain = log_psi_v - log_psi_u
        plain, guided = (v - mean) ** 2, (v - mean - push) ** 2
        ratio = (guided - plain) / (2 * variance)
        constant = math.log(2 * math.pi * variance) / 2
        expected = ratio + gain
        slips = {
            "p stands above, p̃ below: they are exchanged.": gain - ratio,
            "ψ(v) stands above, ψ(u) below: they are exchanged.": ratio - gain,
            "All of the fraction is upside down.": -expected,
            "The factor 1/2 in the exponent is missing.": 2 * ratio + gain,
            "That is the variance already: it is not squared.": ratio / variance + gain,
            "Divide by the variance, not by its root.": ratio * math.sqrt(variance) + gain,
            "The variance is missing.": ratio * variance + gain,
            "ψ(u) is missing: the particle carries it already.": ratio + log_psi_v,
            "ψ(v) is missing.": ratio - log_psi_u,
            "ψ(u) is below: take its logarithm off.": ratio + log_psi_v + log_psi_u,
            "Both guesses of the likelihood are missing.": ratio,
            "Both steps are missing: how likely were they?": gain,
            "p̃ is missing: the particle was drawn from it.": gain - constant - plain / (2 * variance),
            "p is missing.": gain + constant + guided / (2 * variance),
            "The guided step has the mean plus the push: its sign is wrong.": (
                ((v - mean + push) ** 2 - plain) / (2 * variance) + gain
            ),
            "The steps start from u, but their means are given: v − mean counts.": (
                ((v - u - push) ** 2 - (v - u) ** 2) / (2 * variance) + gain
            ),
            "The push is not the mean of the guided step, but what is added to it.": (
                ((v - push) ** 2 - plain) / (2 * variance) + gain
            ),
            "The difference of the squares has a mixed part as well.": push**2 / (2 * variance) + gain,
            "The mixed part has the push times v − mean; the square of the push counts as well.": (
                -push * (v - mean) / variance + gain
            ),
            "That is the weight: its logarithm is asked.": expected.exp(),
            "Each particle has its own weight: there is nothing to sum.": expected.sum(),
            "An incremental weight is not scaled: the sum over all is not asked.": expected.log_softmax(0),
        }
        many = f"{n} particles" if n > 1 else "1 particle"
        question = f"{many}, variance {variance}" + ("" if size else ", no push")
        tensors = (part.clone() for part in (log_psi_u, log_psi_v))
        given = asked(answer, u.clone(), v.clone(), mean.clone(), push.clone(), variance, *tensors)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:ip-rank")
def _rank(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "Compare each truth with the draws of its own row, and count."
    for seed, n, count, name in (
        (1, 6, 6, "6 truths with 6 draws each, some of them alike"),
        (2, 4, 9, "4 truths with 9 draws each"),
        (3, 1, 5, "1 truth with 5 draws"),
        (4, 3, 1, "3 truths with 1 draw each"),
        (5, 7, 40, "7 truths with 40 draws each"),
    ):
        truth, draws = normal(seed, n), normal(seed + 20, n, count)
        if seed == 1:
            draws[torch.arange(n, device="cpu"), torch.arange(n, device="cpu").flip(0)] = truth
            draws[0], draws[1] = truth[0] + 1, truth[1] - 1
            draws[2, :2] += 9
        below, alike = draws < truth[:, None], draws == truth[:, None]
        expected = below.sum(1)
        slips = {
            "A draw that equals the truth is not below it.": (below | alike).sum(1),
            "Those are the draws above the truth.": (~below & ~alike).sum(1),
            "Those are the draws that are not below the truth.": (~below).sum(1),
            "That is the share of the draws: their number is asked.": below.double().mean(1),
            "That counts from 1: with no draw below, the rank is 0.": 1 + expected,
            "Count over the draws of a truth, not over the truths.": below.sum(0),
            "Count: that is a comparison for each draw.": below,
            "Each truth has its own rank: there is nothing to sum over them.": expected.sum(),
            "That is the rank among the truths: compare with the draws.": truth.argsort().argsort(),
            "That compares the truth with the mean of the draws alone.": draws.mean(1) < truth,
            "That says whether any draw is below: how many are?": below.any(1),
            "That compares each truth with the draws of all rows.": (draws.flatten() < truth[:, None]).sum(1),
            "That is where the nearest draw stands.": (draws - truth[:, None]).abs().argmin(1),
            "That is how many draws there are.": torch.full_like(expected, count),
        }
        if n == count:
            slips["A row of draws belongs to one truth: give the truths a second axis."] = (
                draws < truth
            ).sum(1)
        given = asked(answer, truth.clone(), draws.clone())
        yield Case(name, given, expected, 1e-6, hint, telling(slips, expected))
