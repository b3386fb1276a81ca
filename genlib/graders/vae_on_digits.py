"""Graders of the lesson on variational autoencoders of digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, uniform


@grader("ex:vad-tilt")
def _tilt(answer: Callable[[Tensor, float, float], object]) -> Iterator[Case]:
    k = torch.arange(17, **EXACT)
    hint = "Multiply the histogram by the exponential of the curves, then divide by the sum."
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
        }
        slips = slips if a or b else {}
        yield Case(f"a = {a}, b = {b}", asked(answer, h.clone(), a, b), expected, 1e-5, hint, slips)


def _tilted(h: Tensor, a: float, b: float, level: Tensor) -> Tensor:
    return (h.log() + a * level + b * level**2).softmax(0)


@grader("ex:vad-holes")
def _holes(answer: object) -> Iterator[Case]:
    expected = 15 - math.log(350)
    slips = {
        "That is the most that can be knowledge; what is left?": math.log(350),
        "In nats, please: the natural logarithm.": 15 - math.log2(350),
        "All of it is too much: some may be knowledge.": 15.0,
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
        slips = slips if free else {"Add up the causes.": mean}
        yield Case(
            f"λ = {free}", asked(answer, rates.clone(), free), mean.clamp(min=free).sum(), 1e-4, slips=slips
        )


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
        if d < 10:
            del slips["Such small densities are 0: use logsumexp."]
        given = (z.clone(), mu.clone(), sigma.clone())
        yield Case(
            f"{B} points, {K} answers, d = {d}", asked(answer, *given), expected, 2e-5 * d, slips=slips
        )


@grader("ex:vad-active")
def _active(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    for seed, spread in ((2, [0.05, 0.2, 0.02, 0.005, 0.3]), (1, [1.0, 0.01, 0.5, 0.0])):
        spread = torch.tensor(spread, **EXACT)
        means = 3.0 + normal(seed, 200, len(spread)) * spread
        expected = (means.var(0) > 0.01).sum()
        slips = {
            "It must change, not be far from 0.": (means.square().mean(0) > 0.01).sum(),
            "0.01 is a variance, not a deviation.": (means.std(0) > 0.01).sum(),
            "That is the number that is not used.": len(spread) - expected,
        }
        slips = {slip: wrong for slip, wrong in slips.items() if int(wrong) != int(expected)}
        yield Case(f"{len(spread)} entries", asked(answer, means.clone()), expected, slips=slips)
