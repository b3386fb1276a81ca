"""Graders of the lesson on diffusion models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, telling, uniform


@grader("ex:dm-share")
def _share(answer: Callable[[float, float], object]) -> Iterator[Case]:
    hint = "By which factor does one step multiply the data? How is that factor made of β?"
    for before, after in ((0.9, 0.7), (1.0, 0.95), (0.5, 0.02), (0.3, 0.3), (0.04, 0.039)):
        left = after / before
        expected = 1 - left**2
        slips = {
            "That is what the step leaves of a variance: β is the rest.": left**2,
            "That is the factor of the data, not β.": left,
            "The factor of the data is the root of 1 − β. Here α is that factor, not its square.": 1 - left,
            "The root is already in α: square it, take no second root.": 1 - math.sqrt(left),
            "That is β for the whole chain so far: the step begins at α of the step before.": 1 - after**2,
            "That is how the variance of the noise grows: the step also shrinks the noise it finds.": (
                before**2 - after**2
            ),
            "α falls: both are exchanged.": 1 - (before / after) ** 2,
            "That is the deviation of the fresh noise: β is its variance.": math.sqrt(1 - left**2),
            "That is for very many very short steps: one step has no exponential.": -2 * math.log(left),
            "β is not negative: the sign is wrong.": left**2 - 1,
            "Steps multiply, they do not take off.": before - after,
        }
        question, given = f"before {before}, after {after}", asked(answer, before, after)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:dm-signal")
def _signal(answer: Callable[[Tensor, float], object]) -> Iterator[Case]:
    hint = "It is a divergence of two normal laws. Which mean and which variance has the end of the chain, given x?"
    for seed, dims, alpha in ((1, 3, 0.6), (2, 1, 0.9), (3, 64, 0.05), (4, 5, 0.95), (0, 4, 0.3)):
        x = normal(seed, dims) if seed else torch.zeros(dims, **EXACT)
        signal, var = alpha**2 * x.square().sum(), 1 - alpha**2
        rest = -(alpha**2) - math.log(var)
        expected = (signal + dims * rest) / 2
        slips = {
            "A half is missing.": 2 * expected,
            "The end is narrower than what the model starts from: that costs as well.": signal / 2,
            "The mean at the end is not 0: that costs as well.": x.new_tensor(dims * rest / 2),
            "The mean at the end is α x: its square has α².": (signal / alpha + dims * rest) / 2,
            "The mean at the end counts with its square.": (signal.sqrt() + dims * rest) / 2,
            "Each dimension is too narrow, not one alone.": (signal + rest) / 2,
            "That is the other direction: noise of the model under the law at the end of the chain.": (
                (signal + dims * alpha**2) / var + dims * math.log(var)
            )
            / 2,
            "A narrower law has a higher density: the sign of the logarithm is wrong.": (
                signal + dims * (-(alpha**2) + math.log(var))
            )
            / 2,
            "There is the logarithm of a variance, not of a deviation.": (
                signal + dims * (-(alpha**2) - math.log(var) / 2)
            )
            / 2,
            "1 − α² is the variance, not the deviation.": (signal + dims * (var**2 - 1 - 2 * math.log(var)))
            / 2,
            "Two laws that are the same cost nothing: −1 is missing.": (signal + dims * (var - math.log(var)))
            / 2,
            "A narrower law is closer to 0, and gets something back: σ² − 1 is missing.": (
                signal - dims * math.log(var)
            )
            / 2,
            "σ² − 1 is negative.": (signal + dims * (alpha**2 - math.log(var))) / 2,
            "The dimensions add up, that is no mean.": expected / dims,
            "That is in bits.": expected / math.log(2),
            "One number is asked: the dimensions add up.": (alpha**2 * x.square() + rest) / 2,
            "A divergence is not negative: the sign is wrong.": -expected,
        }
        question = f"D = {dims}, α = {alpha}" + ("" if seed else ", x = 0")
        yield Case(question, asked(answer, x.clone(), alpha), expected, 1e-5, hint, telling(slips, expected))


@grader("ex:dm-worth")
def _worth(answer: Callable[[float, float, float], object]) -> Iterator[Case]:
    hint = "Half the gain in the signal-to-noise ratio, times a mean squared error. How good is a guess, and of what?"
    for v, low, high in (
        (0.7, 0.5, 0.8),
        (2.0, 0.1, 0.3),
        (0.5, 1.0, 30.0),
        (1.3, 4.0, 4.0),
        (0.02, 0.4, 0.9),
    ):
        gain = 1 / low**2 - 1 / high**2
        error, below = (v * level**2 / (v + level**2) for level in (high, low))
        expected = gain / 2 * error
        slips = {
            "The step begins at the upper level, and there the guess is made.": gain / 2 * below,
            "A half is missing.": gain * error,
            "The signal-to-noise ratio grows on the way down: the sign is wrong.": -expected,
            "That is the cost if nothing but the mean of the data is known: the noisy point tells more.": (
                gain / 2 * v
            ),
            "That takes the noisy point for the guess: the best guess shrinks it.": gain / 2 * high**2,
            "That is the mean square of the guess, not of its error.": gain / 2 * v**2 / (v + high**2),
            "The squared error counts, not its root.": gain / 2 * math.sqrt(error),
            "The signal-to-noise ratio has the square of the level.": (1 / low - 1 / high) / 2 * error,
            "The level is a deviation: in the error it has to be squared.": gain / 2 * v * high / (v + high),
            "v is a variance already.": gain / 2 * v**2 * high**2 / (v**2 + high**2),
            "That is the cost of infinitely many steps on this way: one long step costs more.": (
                math.log(high**2 * (v + low**2) / (low**2 * (v + high**2))) / 2
            ),
            "That weight belongs to the error of the guessed noise: here it is the error of the data.": (
                (high**2 / low**2 - 1) / 2 * error
            ),
            "What is known at the upper level is not paid again: it is a gain.": error / (2 * low**2),
            "The gain is one of 1/κ², not of κ².": (high**2 - low**2) / 2 * error,
            "That is in bits.": expected / math.log(2),
        }
        question, given = f"v = {v}, low = {low}, high = {high}", asked(answer, v, low, high)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:dm-up")
def _up(answer: Callable[[Tensor, Tensor, float, float, float, float], object]) -> Iterator[Case]:
    hint = "The step mixes two guesses anew, that of the data and that of the noise. Which noise did it find?"
    for seed, n, a, s, a2, s2 in (
        (1, 4, 0.5, 0.8, 0.9, 0.3),
        (2, 3, 1.0, 3.0, 1.0, 0.5),
        (3, 1, 0.28, 0.96, 0.8, 0.6),
        (4, 2, 0.95, 0.2, 0.4, 0.9),
    ):
        x, clean = normal(seed, n, 2), normal(seed + 20, n, 2)
        noise = (x - a2 * clean) / s2
        expected = a * clean + s * noise
        slips = {
            "That is one more step down: x is the lower point.": a2 * clean + s2 * (x - a * clean) / s,
            "That is the lower point itself.": x,
            "The noise changes its share as well.": a * clean + x - a2 * clean,
            "Of the data the lower point has the share α': it is missing in the noise.": (
                a * clean + s * (x - clean) / s2
            ),
            "The lower point has α' of the data, not α.": a * clean + s * (x - a * clean) / s2,
            "At the upper level the data have faded to α.": clean + s * noise,
            "At the upper level the data have the share α, not α'.": a2 * clean + s * noise,
            "Not all of x' fades as the data do.": a / a2 * x,
            "Not all of x' is noise.": s / s2 * x,
            "Not all of x' is noise: take the data off before.": a * clean + s / s2 * x,
            "The ratio of the deviations is upside down.": a * clean + s2 * (x - a2 * clean) / s,
            "The noise is read off with σ', not with its square.": a * clean + s * noise / s2,
            "The sign of the noise is wrong.": a * clean - s * noise,
            "That is the noise alone.": noise,
            "The data's part is missing.": s * noise,
            "The noise has the deviation 1 when it is read off: it lacks σ.": a * clean + noise,
            "α² + σ² need not be 1.": a * clean + math.sqrt(1 - a**2) * noise,
        }
        size = f"{n} points" if n > 1 else "1 point"
        question = f"{size}, (α, σ) = ({a}, {s}), (α', σ') = ({a2}, {s2})"
        given = asked(answer, x.clone(), clean.clone(), a, s, a2, s2)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:dm-guided")
def _guided(answer: Callable[[Tensor, float, float, float], object]) -> Iterator[Case]:
    hint = "Two scores are needed, that of the class and that of both together. With which chance is x of the class?"
    for seed, n, m, v, w in (
        (1, 5, 1.2, 0.7, 2.5),
        (2, 3, 0.8, 1.5, 0.0),
        (3, 1, 2.0, 0.3, 1.0),
        (4, 4, -0.9, 0.5, 7.0),
        (5, 3, 0.6, 0.9, 0.4),
    ):
        x = normal(seed, n)
        told, other, tilt = (m - x) / v, (-m - x) / v, torch.tanh(m * x / v)
        plain = (m * tilt - x) / v

        expected = torch.lerp(plain, told, w)
        slips = {
            "Weight 1 is the class alone, without guidance: there is one difference too many.": told
            + w * (told - plain),
            "The slope of the classifier is the difference of both scores, not the score of the class.": plain
            + w * told,
            "Weight 0 is the score of both, weight 1 that of the class: they are exchanged.": told
            + w * (plain - told),
            "The difference has the wrong sign.": plain - w * (told - plain),
            "The score of both is missing.": w * (told - plain),
            "That is the score of the class, w times.": w * told,
            "That is the score of the class: where is w?": told,
            "That is the score of both classes together: where is w?": plain,
            "The rest is the score of both together, not that of the other class.": torch.lerp(
                other, told, w
            ),
            "The difference is that to the score of both together, not to the other class.": plain
            + w * (told - other),
            "The score of both is no mean of the two: the nearer class counts more.": torch.lerp(
                -x / v, told, w
            ),
            "The chances of the classes pull towards m or −m: m is missing there.": torch.lerp(
                (tilt - x) / v, told, w
            ),
            "The logarithm of the odds of the classes is 2 m x / v.": torch.lerp(
                (m * torch.tanh(m * x / (2 * v)) - x) / v, told, w
            ),
            "The hyperbolic tangent has half the logarithm of the odds.": torch.lerp(
                (m * torch.tanh(2 * m * x / v) - x) / v, told, w
            ),
            "How sure the class is depends on v.": torch.lerp((m * torch.tanh(m * x) - x) / v, told, w),
            "That is for the class at −m.": torch.lerp(plain, other, w),
            "v is a variance already.": torch.lerp(
                (m * torch.tanh(m * x / v**2) - x) / v**2, (m - x) / v**2, w
            ),
            "A score is a distance over the variance: v is missing.": expected * v,
            "A score leads towards the data: the sign is wrong.": -expected,
            "Each place has its own score: there is nothing to sum.": expected.sum(),
        }
        size = f"{n} points" if n > 1 else "1 point"
        question, given = f"{size}, m = {m}, v = {v}, w = {w}", asked(answer, x.clone(), m, v, w)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:dm-holes")
def _holes(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    hint = "Write the bound as a mean over orders. How many letters are hidden when the i-th of an order is guessed?"
    for seed, length in ((1, 4), (2, 7), (3, 1), (4, 2), (5, 30)):
        costs = 0.4 + 1.5 * uniform(seed, length)
        holes = torch.arange(1, length + 1, **EXACT)
        expected = costs.sum()
        slips = {
            "That is in nats a letter: what costs a text?": costs.mean(),
            "In an order one letter is guessed with k hidden, not all k of them.": (holes * costs).sum(),
            "The cost is that of one letter already: there is nothing to divide by k.": (costs / holes).sum(),
            "That guesses all letters at once, with none seen.": length * costs[-1],
            "That guesses each letter with all others seen: too much is known.": length * costs[0],
            "That is the first letter of an order alone.": costs[-1],
            "That is the last letter of an order alone.": costs[0],
            "The first letter of an order is paid as well, with all hidden.": costs[:-1].sum(),
            "The last letter of an order is paid as well, with one hidden.": costs[1:].sum(),
            "Each number of hidden letters comes once in an order: all count alike.": (
                length * (holes * costs).sum() / holes.sum()
            ),
            "Each number of hidden letters comes once in an order, not once for each letter.": (
                length * costs.sum()
            ),
            "There is no half.": costs.sum() / 2,
            "The negative bound is asked, and the costs are positive.": -expected,
            "That is in bits.": expected / math.log(2),
            "That is the perplexity of a letter.": costs.mean().exp(),
            "That is what is paid after each letter: one number is asked.": costs.cumsum(0),
        }
        size = f"L = {length}"
        yield Case(size, asked(answer, costs.clone()), expected, 1e-5, hint, telling(slips, expected))
