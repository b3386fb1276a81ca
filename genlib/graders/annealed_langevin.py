"""Graders of the lesson on annealed Langevin dynamics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, telling


@grader("ex:al-levels")
def _levels(answer: Callable[[float, float, int], object]) -> Iterator[Case]:
    hint = "Each level is the one before times one ratio. How many times is it multiplied from first to last?"
    for first, last, count in ((8.0, 0.5, 5), (1.0, 0.01, 3), (2.0, 0.7, 2), (20.0, 0.05, 12)):
        i, ratio = torch.arange(count, **EXACT), last / first
        low, high = math.log(last), math.log(first)
        expected = first * ratio ** (i / (count - 1))
        slips = {
            "Those have equal differences: equal ratios are asked.": torch.linspace(
                first, last, count, **EXACT
            ),
            "The last level is not reached: between count levels there are count − 1 steps.": (
                first * ratio ** (i / count)
            ),
            "The first level is missing: between count levels there are count − 1 steps.": (
                first * ratio ** ((i + 1) / count)
            ),
            "They must fall: the largest first.": expected.flip(0),
            "Those are the logarithms of the levels.": torch.linspace(high, low, count, **EXACT),
            "That logarithm has base 10: its inverse is a power of 10.": torch.exp(
                torch.linspace(high, low, count, **EXACT) / math.log(10)
            ),
            "Those are the squares of the levels.": expected.square(),
            "Their squares have equal differences: equal ratios are asked.": (
                torch.linspace(first**2, last**2, count, **EXACT).sqrt()
            ),
        }
        question, given = f"{count} levels from {first} to {last}", asked(answer, first, last, count)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:al-kl")
def _kl(answer: Callable[[float, int], object]) -> Iterator[Case]:
    hint = "Take log of the first density over the second, and average under the first. σ must drop out."
    for ratio, dims in ((0.6, 3), (0.5, 1), (0.1, 2), (0.9, 784)):
        log = math.log(ratio)
        expected = dims * (ratio**2 / 2 - 0.5 - log)
        slips = {
            "That is the other direction: the narrow density comes first.": (
                dims * (1 / (2 * ratio**2) - 0.5 + log)
            ),
            "That is for one dimension: the dimensions add up.": expected / dims,
            "The ratio of the deviations is in the logarithm, once; its square only with a ½.": (
                dims * (ratio**2 / 2 - 0.5 - 2 * log)
            ),
            "The ratio is one of deviations: the variances have its square.": (
                dims * (ratio / 2 - 0.5 - log / 2)
            ),
            "In nats, please: the natural logarithm.": expected / math.log(2),
            "A KL divergence is not negative: the sign of the logarithm is wrong.": (
                dims * (ratio**2 / 2 - 0.5 + log)
            ),
            "The densities differ in height too: where is the logarithm?": (dims * (ratio**2 / 2 - 0.5)),
            "The logarithm is not all: the exponents differ too.": -dims * log,
            "The squares have a factor ½.": dims * (ratio**2 - 1 - log),
            "That is twice the divergence.": 2 * expected,
            "That is a difference of entropies: a KL divergence is not negative.": dims * log,
        }
        question, given = f"ratio {ratio}, {dims} dimensions", asked(answer, ratio, dims)
        yield Case(question, given, expected, 5e-4, hint, telling(slips, expected))


@grader("ex:al-wide")
def _wide(answer: Callable[[float, float, float], object]) -> Iterator[Case]:
    hint = (
        "The target is the noised data: what is its variance? Then it is the lesson before, with this step."
    )
    for deviation, sigma, step in ((1.2, 1.8, 0.5), (0.5, 3.0, 0.2), (2.0, 0.5, 1.2), (0.1, 1.0, 1.5)):
        s2, eta = deviation**2, step * sigma**2
        v = s2 + sigma**2
        expected = v / (1 - eta / (2 * v))
        slips = {
            "That is the noised data's variance: steps of finite size miss it.": v,
            "That is the data's variance: the points follow the noised data.": s2,
            "The score is that of the noised data: the noise adds to the variance.": s2
            / (1 - eta / (2 * s2)),
            "The score is that of the noised data, in the denominator too.": v / (1 - eta / (2 * s2)),
            "That is with η = step: here η is step · σ².": v / (1 - step / (2 * v)),
            "That is with η = step · σ: square σ.": v / (1 - step * sigma / (2 * v)),
            "That is for a step half as large: here the score is multiplied by η, not by η/2.": (
                v / (1 - eta / (4 * v))
            ),
            "That is for twice the step: the noise has variance 2η.": v / (1 - eta / v),
            "The data has a spread too: its variance adds to σ².": sigma**2 / (1 - step / 2),
            "The points spread more than the target, not less.": v / (1 + eta / (2 * v)),
            "That holds for small steps only; the exact answer is as short.": v + eta / 2,
            "That is the deviation: its square is asked.": math.sqrt(expected),
        }
        question = f"deviation {deviation}, σ = {sigma}, step {step}"
        given = asked(answer, deviation, sigma, step)
        yield Case(question, given, expected, 2e-4, hint, telling(slips, expected))


@grader("ex:al-last")
def _last(answer: Callable[[float, float], object]) -> Iterator[Case]:
    hint = "The score of the noised data is linear in x̃, so x is x̃ times one number. Which?"
    for deviation, sigma in ((1.5, 0.8), (0.6, 1.0), (1.0, 0.3), (3.0, 2.0)):
        s2, n2 = deviation**2, sigma**2
        v = s2 + n2
        expected = s2**2 / v
        slips = {
            "That is the data's variance: x is the mean of what x̃ may come from, and means spread less.": s2,
            "That is the variance before this step.": v,
            "The step is no subtraction of noise: variances do not go back like that.": s2 - n2,
            "That is how much the clean value varies once x̃ is known.": s2 * n2 / v,
            "That is the number x̃ is multiplied by.": s2 / v,
            "The number is squared, but x̃ has a variance too.": (s2 / v) ** 2,
            "A variance goes with the square of the number x̃ is multiplied by.": s2 / v * v**0.5,
            "The score is that of the noised data: its variance is s² + σ².": v * (1 - n2 / s2) ** 2,
            "That is half the step: it is σ², not σ²/2.": v * (1 - n2 / (2 * v)) ** 2,
            "The step is σ², not σ.": v * (1 - sigma / v) ** 2,
            "The sign of the score is wrong: it leads back to the mean.": v * (1 + n2 / v) ** 2,
            "No noise is added in this step.": s2**2 / v + 2 * n2,
            "Variances add up, not deviations.": s2**2 / (deviation + sigma) ** 2,
        }
        question, given = f"deviation {deviation}, σ = {sigma}", asked(answer, deviation, sigma)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:al-known")
def _known(answer: Callable[[float, float, float], object]) -> Iterator[Case]:
    hint = "The noisy pair is normal too. What are its variances and its covariance? Then condition on x̃_a."
    for a, rho, sigma in (
        (1.5, 0.8, 0.6),
        (-2.0, 0.5, 2.0),
        (0.7, -0.9, 0.3),
        (1.0, 0.0, 1.5),
        (2.0, 0.6, 0.0),
    ):
        v = 1 + sigma**2
        mean, variance = rho * a / v, v - rho**2 / v
        expected = torch.tensor([mean, variance], **EXACT)
        slips = {
            "That is the clean pair: here both are noisy.": (rho * a, 1 - rho**2),
            "That adds noise to the clean answer: but a is noisy too, and tells less.": (
                rho * a,
                v - rho**2,
            ),
            "That is the clean x_b: the noisy one is asked.": (mean, 1 - rho**2 / v),
            "The mean is right; a is noisy too, and takes off less from the variance.": (mean, v - rho**2),
            "The mean is right; that variance is the clean pair's.": (mean, 1 - rho**2),
            "The variance is right; the noise in a makes the mean move less.": (rho * a, variance),
            "The mean is right; the covariance is squared and divided by the variance, once.": (
                mean,
                v - rho**2 / v**2,
            ),
            "The mean is right; that variance holds for a pair of unit variances.": (
                mean,
                1 - rho**2 / v**2,
            ),
            "The mean comes first.": (variance, mean),
            "The second is the deviation: its square is asked.": (mean, math.sqrt(variance)),
            "x̃_a tells something of x̃_b: condition on it.": (0.0, v),
            "The noise has variance σ², not σ.": (
                rho * a / (1 + sigma),
                1 + sigma - rho**2 / (1 + sigma),
            ),
            "The noises are independent: they add nothing to the covariance.": (
                (rho + sigma**2) * a / v,
                v - (rho + sigma**2) ** 2 / v,
            ),
        }
        question, given = f"a = {a}, ρ = {rho}, σ = {sigma}", asked(answer, a, rho, sigma)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:al-weight")
def _weight(answer: Callable[[float, float], object]) -> Iterator[Case]:
    hint = "What remains is how much the noise varies once x̃ is known. What is that for little noise, and for much?"
    for deviation, sigma in ((1.5, 0.6), (0.5, 2.0), (1.0, 1.0), (2.0, 0.05), (0.3, 10.0)):
        s2, n2 = deviation**2, sigma**2
        expected = s2 / (2 * (s2 + n2))
        slips = {
            "That is without the weight σ².": expected / n2,
            "That is with the weight σ: square it.": expected / sigma,
            "The cost has a factor ½.": 2 * expected,
            "It does not reach 0: one x̃ comes from many pairs of clean value and noise.": 0.0,
            "That is what the best s takes off, not what remains.": n2 / (2 * (s2 + n2)),
            "That is the cost of s = 0: x̃ tells something of the noise.": 0.5,
            "Squares, please: variances, not deviations.": deviation / (2 * (deviation + sigma)),
            "Variances add up, not deviations.": s2 / (2 * (deviation + sigma) ** 2),
            "That is how much the clean value varies once x̃ is known: the cost is of the noise.": (
                s2 * n2 / (2 * (s2 + n2))
            ),
        }
        question, given = f"deviation {deviation}, σ = {sigma}", asked(answer, deviation, sigma)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))
