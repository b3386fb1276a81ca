"""Graders of the lesson on flow matching."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import asked, normal, telling


@grader("ex:fm-arc")
def _arc(answer: Callable[[Tensor, Tensor, float], object]) -> Iterator[Case]:
    hint = "Write the point on the path as a function of t, and differentiate it."
    half = math.pi / 2
    for seed, n, t in ((1, 4, 0.3), (2, 3, 0.0), (3, 2, 1.0), (4, 1, 0.5), (5, 3, 0.85)):
        x0, x1 = normal(seed, n, 2), normal(seed + 20, n, 2)
        cos, sin = math.cos(half * t), math.sin(half * t)
        expected = half * (cos * x1 - sin * x0)
        slips = {
            "The inner derivative π/2 is missing.": cos * x1 - sin * x0,
            "The data's part has the inner derivative as well.": half * cos * x1 - sin * x0,
            "The noise's part has the inner derivative as well.": cos * x1 - half * sin * x0,
            "The inner derivative is π/2, not π.": 2 * expected,
            "The data fade: the sign of their part is wrong.": half * (cos * x1 + sin * x0),
            "The noise grows: the sign of its part is wrong.": -half * (cos * x1 + sin * x0),
            "That is the velocity on the straight path.": x1 - x0,
            "The arc is no straight path: its velocity changes on the way.": half * (x1 - x0),
            "That is the point on the path, not its velocity.": cos * x0 + sin * x1,
            "That is the point on the path times π/2: differentiate.": half * (cos * x0 + sin * x1),
            "Sine and cosine are exchanged.": half * (sin * x1 - cos * x0),
            "At t = 0 the data stand, at t = 1 the noise: both are exchanged.": half * (cos * x0 - sin * x1),
            "The velocity is that of growing t, towards the noise.": -expected,
            "The noise grows as well.": -half * sin * x0,
            "The data fade as well.": half * cos * x1,
            "The angle is πt/2, not πt.": (
                math.pi * (math.cos(math.pi * t) * x1 - math.sin(math.pi * t) * x0)
            ),
            "The angle is πt/2, not t.": math.cos(t) * x1 - math.sin(t) * x0,
            "That is the acceleration.": -(half**2) * (cos * x0 + sin * x1),
            "Each place has its own velocity: there is nothing to sum.": expected.sum(1),
        }
        question = (f"{n} pairs" if n > 1 else "1 pair") + f", t = {t}"
        given = asked(answer, x0.clone(), x1.clone(), t)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:fm-score")
def _score(answer: Callable[[Tensor, Tensor, float], object]) -> Iterator[Case]:
    hint = "x and v tell two means, that of the data and that of the noise. Which of them makes the score?"
    for seed, n, t in ((1, 4, 0.3), (2, 3, 0.9), (3, 1, 0.5), (4, 2, 0.05)):
        x, v = normal(seed, n, 2), normal(seed + 20, n, 2)
        clean, noise = x - t * v, x + (1 - t) * v
        expected = -noise / t
        slips = {
            "That is the mean of the noise.": noise,
            "That is the mean of the noise with its sign turned: how wide is the noise in x?": -noise,
            "That is the mean of the data.": clean,
            "That leads away from the data: the sign is wrong.": noise / t,
            "The score is made of the mean of the noise, not of that of the data.": -clean / t,
            "The mean of the noise is not its part in x: divide by t once.": -noise / t**2,
            "Divide by the deviation of the noise in x, and that is t.": -noise / (1 - t),
            "The way from x to the noise takes the time 1 − t, not t.": -(x + t * v) / t,
            "The velocity leads to the noise: the sign of v is wrong.": -(x - (1 - t) * v) / t,
            "Nearly all of the way to the noise lies ahead: the factor of v is missing.": -(x + v) / t,
            "Not all of x is noise.": -x / t**2,
            "That takes x for the noise.": -x / t,
            "In x the data have faded as well: take 1 − t of them off.": -v / t,
            "That is for a clock that begins with the noise.": -clean / (1 - t),
            "That is the score of x / (1 − t).": -(1 - t) * noise / t,
            "Each place has its own score: there is nothing to sum.": expected.sum(1),
        }
        question = (f"{n} points" if n > 1 else "1 point") + f", t = {t}"
        given = asked(answer, x.clone(), v.clone(), t)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:fm-normal")
def _normal(answer: Callable[[Tensor, float, float], object]) -> Iterator[Case]:
    hint = "x0, x1 and x are normal together. What is the mean of x1 − x0, given x? Two variances make it."
    for seed, n, t, s in (
        (1, 4, 0.3, 1.7),
        (2, 3, 1.0, 0.4),
        (3, 3, 0.0, 2.2),
        (4, 1, 0.5, 1.0),
        (5, 5, 0.8, 0.1),
    ):
        x, left = normal(seed, n), 1 - t
        variance, gain = left**2 * s**2 + t**2, t - left * s**2
        expected = x * gain / variance
        slips = {
            "s is a deviation: square it.": x * (t - left * s) / (left**2 * s + t**2),
            "s is a deviation: square it in the numerator as well.": x * (t - left * s) / variance,
            "s is a deviation: square it in the variance of x as well.": x * gain / (left**2 * s + t**2),
            "The velocity is that of growing t, towards the noise: the sign is wrong.": -expected,
            "That is the mean of the noise alone.": x * t / variance,
            "That is the mean of the data alone.": x * left * s**2 / variance,
            "Noise less data: that is a sum of both means.": x * (t + left * s**2) / variance,
            "Variances go with the squares of the shares.": x * gain / (left * s**2 + t),
            "Divide by the variance of x.": x * gain,
            "Divide by the variance of x, not by its deviation.": x * gain / math.sqrt(variance),
            "The variance grows at twice the rate of the deviation.": 2 * expected,
            "That is the score.": -x / variance,
            "Data and noise have shares in x: they are missing in the numerator.": x * (1 - s**2) / variance,
            "Here t = 0 is the data, and t = 1 the noise.": x * (t * s**2 - left) / (t**2 * s**2 + left**2),
            "The shares of data and noise are exchanged.": x * (left - t * s**2) / (t**2 * s**2 + left**2),
            "That is for data that are all at 0.": x / t if t else torch.full_like(x, math.inf),
            "Given x, the velocity depends on x.": gain / variance,
        }
        question = (f"{n} points" if n > 1 else "1 point") + f", t = {t}, s = {s}"
        given = asked(answer, x.clone(), t, s)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


def _nearest(x0: Tensor, x1: Tensor) -> Tensor:
    """Each x0 in turn takes the nearest x1 that is left."""
    left, taken = x1.tolist(), []
    for place in x0.tolist():
        taken.append(min(left, key=lambda other: abs(other - place)))
        left.remove(taken[-1])
    return x1.new_tensor(taken)


@grader("ex:fm-pairs")
def _pairs(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "Do the ways of the best pairs cross on the line? Mind the order in which they are returned."
    for seed, n, shift, name in (
        (6, 6, 0.3, "6 pairs"),
        (2, 1, 0.0, "1 pair"),
        (3, 2, 0.0, "2 pairs"),
        (4, 7, 5.0, "7 pairs, far apart"),
        (5, 60, -0.5, "60 pairs"),
    ):
        x0, x1 = normal(seed, n), shift + normal(seed + 20, n)
        order, ranks, ranked = x0.argsort(), x0.argsort().argsort(), x1.sort().values
        expected = ranked[ranks]
        slips = {
            "Both are sorted, but x0 itself is not: return x1 in the order of x0 as it came.": ranked,
            "x1 is as it was: that is a pairing by chance.": x1,
            "That pairs the smallest with the largest: the ways are as long as can be.": ranked.flip(0)[
                ranks
            ],
            "The places of x0 in its order are not its ranks: undo the sort.": ranked[order],
            "x1 has to be sorted first.": x1[ranks],
            "x1 has to be sorted first, and then the sort of x0 undone.": x1[order],
            "Numbers are asked, not their places.": x1.argsort()[ranks],
            "That is x0 in the order of x1.": x0.sort().values[x1.argsort().argsort()],
            "That is x0, sorted.": x0.sort().values,
            "Each number of x1 has one partner: no one comes twice.": x1[(x0[:, None] - x1).abs().argmin(1)],
            "Who takes the nearest one that is left leaves long ways to the last.": _nearest(x0, x1),
            "Those are the ways: their ends are asked.": expected - x0,
            "Those are the sorted x1 from the largest on.": ranked.flip(0),
        }
        given = asked(answer, x0.clone(), x1.clone())
        yield Case(name, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:fm-saved")
def _saved(answer: Callable[[float, float], object]) -> Iterator[Case]:
    hint = "Both mean squares are sums of squares. Which parts do they share? Who goes where with the best pairs?"
    for m, s in ((0.8, 1.7), (-2.0, 0.3), (0.0, 1.0), (3.0, 5.0), (0.4, 0.02)):
        apart, best = m**2 + 1 + s**2, m**2 + (1 - s) ** 2
        expected = 2 * s
        slips = {
            "Twice the product of both deviations: 2 is missing.": s,
            "That is a mean square with independent pairs: how much less is it with the best ones?": apart,
            "That is a mean square with the best pairs: how much is saved?": best,
            "With independent pairs that is all but the way of the mean: the best ones have a rest as well.": 1
            + s**2,
            "That is what the best pairs still have to go besides the way of the mean.": (1 - s) ** 2,
            "s is a deviation: it is not squared here.": 2 * s**2,
            "That is the variance: what is saved grows with the deviation.": s**2,
            "s is a deviation: there is no root.": 2 * math.sqrt(s),
            "The best ways are shorter: the sign is wrong.": -2 * s,
            "That is what the best pairs save against the worst.": 4 * s,
            "Mean squares are compared, not their roots.": math.sqrt(apart) - math.sqrt(best),
            "That is the share that is saved.": 2 * s / apart,
            "The mean has to be gone with every pairing: m² is not saved.": m**2 + 2 * s,
            "Every pairing has to go by m, and nothing of it is saved.": 2 * m * s,
            "There is something to save, even if both deviations are the same.": abs(1 - s**2),
        }
        question, given = f"m = {m}, s = {s}", asked(answer, m, s)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:fm-two")
def _two(answer: Callable[[Tensor, float], object]) -> Iterator[Case]:
    hint = "Take the velocity at t = 1, go half a unit back, and do the same at t = 1/2 from where you are."
    for seed, n, s in ((1, 4, 1.7), (2, 3, 0.3), (3, 1, 1.0), (4, 2, 4.0), (5, 3, 0.05)):
        x1 = normal(seed, n)
        both = 1 + s**2
        slope = (1 - s**2) / both  # half of the velocity at t = 1/2, for each unit of x
        expected = x1 * s**2 / both
        slips = {
            "That is where the flow itself leads, with infinitely many steps.": x1 * s,
            "Each step has its own velocity: the second begins at t = 1/2, at another place.": torch.zeros_like(
                x1
            ),
            "That is the first step alone.": x1 / 2,
            "s is a deviation: square it.": x1 * s / (1 + s),
            "Time falls from 1 to 0: a step takes the velocity off.": 3 * x1 / both,
            "That goes from t = 0 to 1, or turns the second step around.": x1 / both,
            "The velocity is that at the beginning of a step, not at its end.": 3 * expected,
            "The second step begins where the first one ended, not at x1.": x1 * (0.5 - slope),
            "The first step halves x1. That is the second alone, or one long step with the velocity of its middle.": 2
            * expected,
            "Variances go with the squares of the shares: at t = 1/2 both are a quarter.": x1
            * (0.5 - slope / 4),
            "The factors of both steps multiply, they do not add up.": x1 * (1.5 - slope),
            "At t = 1/2 the variance of x is not 1: the velocity has it below.": x1 * (0.5 - (1 - s**2) / 8),
            "Each step is linear, there is no root.": x1 * s / math.sqrt(both),
            "Something is missing below: what is the variance of x at t = 1/2?": x1 * s**2,
            "That is the factor: where does x1 lead?": s**2 / both,
            "The point goes towards the data: the sign is wrong.": -expected,
        }
        question = (f"{n} points" if n > 1 else "1 point") + f", s = {s}"
        yield Case(question, asked(answer, x1.clone(), s), expected, 1e-5, hint, telling(slips, expected))
