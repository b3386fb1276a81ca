"""Graders of the lesson on variational autoencoders of digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, telling, uniform


@grader("ex:vad-tilt")
def _tilt(answer: Callable[[Tensor, float, float], object]) -> Iterator[Case]:
    k = torch.arange(17, **EXACT)
    hint = "On which scale do a and b act, and what must the 17 numbers add up to?"
    for seed, a, b in ((1, 1.5, -2.0), (2, -0.7, 0.4), (3, 0.0, 0.0)):
        h = uniform(seed, 17)
        h[3] = 0.0
        h = h / h.sum()
        expected = _tilted(h, a, b, k / 8 - 1)
        slips = {
            "The probabilities must sum to 1.": h * (a * (k / 8 - 1) + b * (k / 8 - 1) ** 2).exp(),
            "The histogram is missing.": _tilted(torch.ones_like(h), a, b, k / 8 - 1),
            "The level runs from −1 to 1, not from 0 to 16.": _tilted(h, a, b, k),
            "The level runs from −1 to 1, not from 0 to 1.": _tilted(h, a, b, k / 16),
            "The roles of a and b are exchanged.": _tilted(h, b, a, k / 8 - 1),
            "The curves tilt the logarithm of h.": _tilted(h.exp(), a, b, k / 8 - 1),
            "The second curve is a square.": _tilted(h, a + b, 0.0, k / 8 - 1),
            "The sign of the curves is wrong.": _tilted(h, -a, -b, k / 8 - 1),
            "Those are logarithms: probabilities are asked.": expected.log(),
            "That is the histogram: a and b are not used.": h,
            "There are 17 levels, and the middle one is 0.": _tilted(h, a, b, k / 8.5 - 1),
        }
        yield Case(
            f"a = {a}, b = {b}",
            asked(answer, h.clone(), a, b),
            expected,
            1e-5,
            hint,
            telling(slips, expected),
        )


def _tilted(h: Tensor, a: float, b: float, level: Tensor) -> Tensor:
    return (h.log() + a * level + b * level**2).softmax(0)


@grader("ex:vad-holes")
def _holes(answer: object) -> Iterator[Case]:
    expected = 15 - math.log(350)
    slips = {
        "That is the most that can be knowledge; what is left?": math.log(350),
        "In nats, please: the natural logarithm.": 15 - math.log2(350),
        "All of it is too much: some may be knowledge.": 15.0,
        "In nats, please, and not with tenths.": 15 - math.log10(350),
        "That is the share that can be knowledge.": math.log(350) / 15,
        "That is the share that cannot be knowledge.": 1 - math.log(350) / 15,
        "The 15 nats are for one image, not for all.": 15 * 350 - math.log(350),
        "It is no negative number.": math.log(350) - 15,
        "The two do not add up.": 15 + math.log(350),
    }
    hint = "How much can z tell at most about which of 350 images it was? Three decimals, please."
    yield Case("15 nats, 350 images", lambda: answer, expected, 6e-4, hint, slips)


@grader("ex:vad-width")
def _width(answer: object) -> Iterator[Case]:
    slips = {
        "β counts variances: take its root.": 8.0,
        "The other way: a large β makes the decoder wider.": 1.0,
        "That is the variance.": 16.0,
        "That is the width with β = 4.": 2.0,
        "The root goes too far.": math.sqrt(8),
        "β acts once.": 32.0,
    }
    hint = "Which width gives the same trade between squared error and rate?"
    yield Case("β = 4, s = 2", lambda: answer, 4.0, hint=hint, slips=slips)


@grader("ex:vad-free")
def _free(answer: Callable[[Tensor, float], object]) -> Iterator[Case]:
    for seed, free in ((1, 0.5), (2, 0.0), (3, 3.0)):
        rates = 2 * uniform(seed, 20, 4) * torch.tensor([0.1, 0.5, 1.0, 2.0], **EXACT)
        mean = rates.mean(0)
        slips = {
            "First the mean over the batch, then the maximum.": rates.clamp(min=free).mean(0).sum(),
            "The maximum is taken for each cause, not for their sum.": mean.sum().clamp(min=free),
            "λ is not taken off: below it the cost stays at λ.": (mean - free).clamp(min=0).sum(),
            "Add up the causes.": mean.clamp(min=free),
            "That is a cap: the smaller of the two.": mean.clamp(max=free).sum(),
            "The mean over the batch, not the sum.": rates.sum(0).clamp(min=free).sum(),
            "The batch is the first dimension.": rates.mean(1).clamp(min=free).sum(),
            "Add up the causes, do not average.": mean.clamp(min=free).mean(),
        }
        expected = mean.clamp(min=free).sum()
        slips |= {
            "Each cause is paid for: the floor is not used.": mean.sum(),
            "The floor is one of the two, not added to the other.": (mean + free).sum(),
            "Causes below the floor are paid for too.": torch.where(mean > free, mean, 0.0).sum(),
            "Not the largest cause alone.": mean.clamp(min=free).max(),
            "The sign is wrong: a price is not negative.": -expected,
        }
        hint = "What is paid for one cause over the whole batch, and when is it the floor?"
        given = asked(answer, rates.clone(), free)
        yield Case(f"λ = {free}", given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:vad-vamp")
def _vamp(answer: Callable[[Tensor, Tensor, Tensor], object]) -> Iterator[Case]:
    for seed, B, K, d in ((1, 6, 3, 2), (2, 4, 5, 400)):
        z, mu, sigma = 2 * normal(seed, B, d), normal(seed + 10, K, d), 0.3 + uniform(seed, K, d)
        each = torch.distributions.Normal(mu, sigma).log_prob(z[:, None]).sum(2)
        expected = each.logsumexp(1) - math.log(K)
        slips = {
            "The weights must sum to 1: divide by the number of answers.": each.logsumexp(1),
            "That is the mean of the logarithms.": each.mean(1),
            "Such small densities are 0: use logsumexp.": each.exp().mean(1).log(),
            "Sum over the components, not over the points.": each.logsumexp(0) - math.log(K),
            "Divide by the number of answers, not of points.": each.logsumexp(1) - math.log(B),
            "Mix whole distributions, not each entry by itself.": (
                torch.distributions.Normal(mu, sigma).log_prob(z[:, None]).logsumexp(1) - math.log(K)
            ).sum(1),
        }
        slips |= {
            "The sign of the number of answers is wrong.": each.logsumexp(1) + math.log(K),
            "That is the best answer alone.": each.amax(1),
            "That is the density: its logarithm is asked.": expected.exp(),
            "One number for each point, not for the whole batch.": expected.sum(),
            "The sign is wrong: the log-density is asked, not the cost.": -expected,
            "sigma are deviations, not variances.": (
                torch.distributions.Normal(mu, sigma.sqrt()).log_prob(z[:, None]).sum(2).logsumexp(1)
                - math.log(K)
            ),
            "Add up the entries, do not average.": (each / d).logsumexp(1) - math.log(K),
            "The constant of the normal density is missing.": expected + d / 2 * math.log(2 * math.pi),
        }
        hint = "How probable is a point under one answer, and under all of them together?"
        given = (z.clone(), mu.clone(), sigma.clone())
        yield Case(
            f"{B} points, {K} answers, d = {d}",
            asked(answer, *given),
            expected,
            2e-5 * d,
            hint,
            telling(slips, expected),
        )


@grader("ex:vad-active")
def _active(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    hint = "Over which dimension does an entry change, and how is a change measured?"
    tries = (
        (2, [0.05, 0.2, 0.02, 0.005, 0.3]),
        (1, [1.0, 0.01, 0.5, 0.0]),
        (3, [0.2, 0.13, 0.3, 0.01, 0.6, 0.06]),
    )
    for seed, spread in tries:
        spread = torch.tensor(spread, **EXACT)
        means = 3.0 + normal(seed, 200, len(spread)) * spread
        expected = (means.var(0) > 0.01).sum()
        slips = {
            "It must change, not be far from 0.": (means.square().mean(0) > 0.01).sum(),
            "0.01 is a variance, not a deviation.": (means.std(0) > 0.01).sum(),
            "That is the number that is not used.": len(spread) - expected,
            "The variance is over the images: one for each entry.": (means.var(1) > 0.01).sum(),
            "That is the number of entries.": len(spread),
            "0.01 is not the bound of a deviation, nor 0.1 of a variance.": (means.var(0) > 0.1).sum(),
            "That is the share: the number is asked.": expected / len(spread),
            "True or false for each is not enough: count.": means.var(0) > 0.01,
            "Those are their places: how many are there?": (means.var(0) > 0.01).nonzero().flatten(),
        }
        given = asked(answer, means.clone())
        yield Case(f"{len(spread)} entries", given, expected, 1e-3, hint, telling(slips, expected))
