"""Graders of the lesson on making adversarial networks work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, telling, uniform


@grader("ex:gat-balance")
def _balance(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "Which of the two distributions takes the mean, and which stands below the fraction line?"
    for K, counts in ((4, [10, 0, 30, 60]), (3, [7, 7, 7]), (5, [0, 0, 200, 0, 0])):
        counts, p = torch.tensor(counts, **EXACT), 0.2 + uniform(K, K)
        p = p / p.sum()
        h = counts / counts.sum()
        expected = torch.xlogy(h, h / p).sum()
        slips = {
            "That is the other direction: the shares of the samples come first.": (p * (p / h).log()).sum(),
            "The modes are not equally likely: use p.": torch.xlogy(h, h * K).sum(),
            "Turn the counts into shares first.": torch.xlogy(counts, counts / p).sum(),
            "That is an entropy: where is p?": -torch.xlogy(h, h).sum(),
            "That is the cross-entropy: the entropy is still in it.": -(h * p.log()).sum(),
            "In nats, please: the natural logarithm.": expected / math.log(2),
            "Average over the samples, not over the modes.": expected / K,
            "The sign is wrong: a divergence is not negative.": -expected,
            "One number is asked, not one for each mode.": torch.xlogy(h, h / p),
        }
        if 0 in counts:
            slips["What does a mode without samples add? Its logarithm alone is −∞."] = torch.nan
        question = f"counts {counts.long().tolist()}"
        given = asked(answer, counts.clone(), p.clone())
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:gat-chance")
def _chance(answer: Callable[[int, int], object]) -> Iterator[Case]:
    for n, K in ((100, 25), (5, 8), (1, 4)):
        each = (1 - 1 / K) ** n
        slips = {
            "That is the chance that a given mode is missed: there are K of them.": each,
            "That is how many are hit.": K * (1 - each),
            "A mode is missed if all n samples miss it.": K * (1 - n / K),
            "That is the chance that a mode is missed by one sample.": 1 - 1 / K,
            "That holds for many modes and samples only; the exact answer is as short.": K * math.exp(-n / K),
        }
        expected = K * each
        hint = "How likely does one sample miss a given mode? And all n?"
        yield Case(
            f"{n} samples, {K} modes", asked(answer, n, K), expected, 1e-5, hint, telling(slips, expected)
        )


@grader("ex:gat-good")
def _good(answer: Callable[[int], object]) -> Iterator[Case]:
    def within(dims: int, squared: float) -> Tensor:
        return torch.special.gammainc(torch.tensor(dims / 2, **EXACT), torch.tensor(squared / 2, **EXACT))

    for dims in (2, 1, 3, 10):
        expected = within(dims, 9.0)
        slips = {
            "That is the share in the plane.": within(2, 9.0),
            "That is the share outside.": 1 - expected,
            "That is the share on a line.": within(1, 9.0),
            "That is a cube, not a ball.": within(1, 9.0) ** dims,
            "The squared distance must be below 9, not 3.": within(dims, 3.0),
        }
        hint = "Which distribution has the squared distance, measured in deviations?"
        yield Case(f"{dims} dimensions", asked(answer, dims), expected, 1e-4, hint, telling(slips, expected))


@grader("ex:gat-friction")
def _friction(answer: Callable[[float, float], object]) -> Iterator[Case]:
    hint = "Multiply once by I + ηJ: how large are its eigenvalues?"
    for eta, gamma in (
        *((0.3, 0.0), (0.3, 0.05), (0.3, 0.1), (2.0, 0.3), (2.0, 0.8), (1.0, 3.0), (0.5, 4.5)),
        *(
            (2.0, 1.1),
            (2.0, 1.4),
            (0.5, 4.03),
            (0.5, 4.1),
            (0.5, 0.12),
            (0.5, 0.13),
            (1.0, 2.1),
            (3.0, 0.7),
            (3.0, 1.0),
        ),
    ):
        rests = torch.tensor([[1, eta / 2], [-eta / 2, 1 - eta * gamma]], **EXACT)
        expected = float(torch.linalg.eigvals(rests).abs().max() < 1)
        yield Case(f"η = {eta}, γ = {gamma}", asked(answer, eta, gamma), expected, hint=hint)


@grader("ex:gat-bridge")
def _bridge(answer: Callable[[float], object]) -> Iterator[Case]:
    def middle(reach: float) -> float:
        return math.erf(reach / math.sqrt(2))

    for w in (0.1, 1.0, 3.0):
        expected = middle(0.425 * w)
        slips = {
            "That is the whole bridge: its ends are good.": middle(w / 2),
            "That holds for narrow bridges only.": 0.85 * w / math.sqrt(2 * math.pi),
            "That is the share that is good.": 1 - expected,
            "The bridge has two halves.": expected / 2,
            "z runs from −w/2 to w/2: x is 2z/w there.": middle(0.85 * w),
            "That is what lies within 0.15 of 0: where are the good ends?": middle(0.075 * w),
        }
        hint = "For which z is x further than 0.15 from both ends?"
        yield Case(f"w = {w}", asked(answer, w), expected, 2e-4, hint, telling(slips, expected))
