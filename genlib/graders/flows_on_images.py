"""Graders of the lesson on flows for images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, telling, uniform


@grader("ex:img-bits")
def _bits(answer: object) -> Iterator[Case]:
    one = 64 * math.log(2)
    expected = (64 * math.log(17) - 96.0) / one
    slips = {
        "The unit is missing: the levels were divided.": -96.0 / one,
        "How many levels are there from 0 to 16?": (64 * math.log(16) - 96.0) / one,
        "A cell has a side for each pixel.": (math.log(17) - 96.0) / one,
        "The log-density counts for the whole image, not for each pixel.": (math.log(17) - 96.0)
        / math.log(2),
        "The sign is wrong: a price is not negative.": -expected,
        "The cell is counted in bits, and the density in nats.": math.log2(17) - 96.0 / 64,
        "The cells make the probability smaller, not larger.": (-64 * math.log(17) - 96.0) / one,
        "That is in nats per dimension.": expected * math.log(2),
        "That is in nats per image.": expected * one,
        "That is in bits per image.": expected * 64,
    }
    hint = "How large is a cell of the cube? And three decimals, please."
    yield Case("a log-density of 96.0", lambda: answer, expected, 1.5e-3, hint, slips)


@grader("ex:img-gap")
def _gap(answer: Callable[[float], object]) -> Iterator[Case]:
    u = (torch.arange(200_000, **EXACT) + 0.5) / 200_000
    for a in (0.0, 1.0, -1.8):
        log_q = torch.log1p(a * (u - 0.5))
        expected = -log_q.mean().item()
        slips = {
            "The sign is wrong: the gap is never negative.": -expected,
            "In nats, please: the natural logarithm.": expected / math.log(2),
            "First the logarithm, then the mean.": 0.0,
            "That holds for small a only.": a**2 / 24,
            "That is the mean of the density's gap: take logarithms.": a / 2,
            "Over the cell u runs from 0 to 1, around ½.": -torch.log1p(a * u / 2).mean(),
        }
        hint = "Take log Q out of both terms. What is left to be averaged over the cell?"
        yield Case(f"a = {a}", asked(answer, a), expected, 1e-4, hint, telling(slips, expected))


@grader("ex:img-squeeze")
def _squeeze(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    for seed, shape in ((1, (2, 1, 4, 4)), (2, (1, 3, 2, 6))):
        x = uniform(seed, *shape)
        parts = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        expected = functional.pixel_unshuffle(x, 2)
        exchanged = functional.pixel_unshuffle(x.transpose(2, 3), 2).transpose(2, 3)
        slips = {
            "Rows and columns are exchanged.": exchanged,
            "A plain reshape does not keep the blocks together.": x.reshape(expected.shape),
        }
        if shape[1] > 1:
            slips["The four parts of one channel stand together."] = torch.cat(parts, 1)
        slips["The rows of a block come first, then its columns."] = torch.stack(
            [parts[k] for k in (0, 2, 1, 3)], 2
        ).flatten(1, 2)
        slips["Every second row, not the upper and the lower half."] = torch.stack(
            [y for half in x.chunk(2, 2) for y in half.chunk(2, 3)], 2
        ).flatten(1, 2)
        hint = "Follow one pixel: to which channel does it go, and to which place?"
        yield Case(f"shape {shape}", asked(answer, x.clone()), expected, 1e-6, hint, slips)


@grader("ex:img-importance")
def _importance(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    for seed, low, draws in ((1, 0.0, 3), (2, -100.0, 20), (3, -1000.0, 5)):
        log_w = low - 4 * uniform(seed, draws, 6)
        total = log_w.logsumexp(0)
        slips = {
            "That is the mean of the logarithms, the bound with one draw.": log_w.mean(0),
            "The sum must be divided by the number of draws.": total,
            "exp of such low numbers is 0: use logsumexp.": log_w.exp().mean(0).log(),
        }
        if low > -700:
            del slips["exp of such low numbers is 0: use logsumexp."]
        ask = asked(answer, log_w.clone())  # float32 is right within 1e-4
        expected = total - math.log(draws)
        slips |= {
            "That is the best draw alone.": log_w.amax(0),
            "The number of draws is taken off twice.": expected - math.log(draws),
            "There are as many draws as rows.": total - math.log(log_w.shape[1]),
            "The sign is wrong: the bound itself is asked, not the cost.": -expected,
            "In nats, please: the natural logarithm.": expected / math.log(2),
            "The mean goes over the draws only: one bound for each image.": expected.mean(),
        }
        hint = "First the mean, then the logarithm. What is small may not vanish on the way."
        yield Case(f"{draws} draws near {low:g}", ask, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:img-logit")
def _logit(answer: Callable[[Tensor, float], object]) -> Iterator[Case]:
    for seed, alpha, features in ((1, 0.05, 4), (2, 0.01, 7)):
        x = uniform(seed, 5, features)
        p = alpha + (1 - 2 * alpha) * x
        terms = math.log(1 - 2 * alpha) - (p * (1 - p)).log()
        slips = {
            "The sign is wrong: this is the way from data to the line.": -terms.sum(1),
            "The factor 1 − 2α is missing.": -(p * (1 - p)).log().sum(1),
            "The slope is taken at p, not at x.": (math.log(1 - 2 * alpha) - (x * (1 - x)).log()).sum(1),
            "The logarithms must be added up over the entries.": terms,
        }
        expected = terms.sum(1)
        slips |= {
            "Add up the logarithms, do not average.": terms.mean(1),
            "Only the slope of the first map is there.": expected + (p * (1 - p)).log().sum(1),
            "One number for each point, not for the whole batch.": expected.sum(),
            "α is taken off at both ends.": (math.log(1 - alpha) - (p * (1 - p)).log()).sum(1),
            "The first map has the same slope for each entry: count it for each.": (
                math.log(1 - 2 * alpha) - (p * (1 - p)).log().sum(1)
            ),
            "That is the determinant: its logarithm is asked.": expected.exp(),
        }
        given, hint = asked(answer, x.clone(), alpha), "How steep is z in x, entry by entry?"
        yield Case(f"α = {alpha}, D = {features}", given, expected, 1e-4, hint, telling(slips, expected))
