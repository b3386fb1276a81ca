"""Graders of the lesson on adversarial networks on digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import asked, normal, telling


def _reach(y: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other one, (m, D) → (m,)."""
    return torch.cdist(y, y).kthvalue(k + 1, dim=1).values


def _share(true: Tensor) -> Tensor:
    return true.double().mean()


@grader("ex:god-precision")
def _precision(answer: Callable[[Tensor, Tensor, int], object]) -> Iterator[Case]:
    for seed, n, m, k in ((1, 30, 20, 3), (2, 25, 40, 1), (3, 40, 15, 5)):
        x, y = 1.4 * normal(seed, n, 3), normal(seed + 10, m, 3)
        near, reach, reach_x = torch.cdist(x, y), _reach(y, k), _reach(x, k)
        inside, nearest = near <= reach, near.min(1)
        expected = _share(inside.any(1))
        slips = {
            "That is recall: the share of the data among the samples.": _share(
                (near <= reach_x[:, None]).any(0)
            ),
            "A point is not its own neighbour: take the next one.": _share((near <= _reach(y, k - 1)).any(1)),
            "Any of the balls will do, not only the nearest.": _share(
                nearest.values <= reach[nearest.indices]
            ),
            "That is the share of the balls that are hit.": _share(inside.any(0)),
            "Count each sample once, in however many balls it lies.": _share(inside),
            "One ball is enough, it need not lie in all.": _share(inside.all(1)),
            "That is the number; the share is asked.": inside.any(1).sum(),
            "The radii are those of the data, not of the samples.": _share((near <= reach_x[:, None]).any(1)),
            "That is the share outside.": 1 - expected,
        }
        question, given = f"{n} samples, {m} data, k = {k}", asked(answer, x.clone(), y.clone(), k)
        yield Case(question, given, expected, 1e-5, slips=telling(slips, expected))


@grader("ex:god-copies")
def _copies(answer: Callable[[Tensor, Tensor, float], object]) -> Iterator[Case]:
    for seed, share in ((1, 0.2), (2, 0.5), (3, 0.01)):
        y = normal(seed, 60, 2)
        x = torch.cat([y[:15] + 0.02 * normal(seed + 10, 15, 2), normal(seed + 20, 25, 2)])
        near = torch.cdist(x, y).min(1).values
        gaps = _reach(y, 1)
        close = torch.quantile(gaps, share)
        expected, by_samples = _share(near < close), torch.quantile(near, share)
        slips = {
            "Each image is its own nearest: leave it out.": 0.0,
            "That is the share that is further.": 1 - expected,
            "That is the number; the share is asked.": (near < close).sum(),
            "The quantile is that of the data's distances, not of the samples'.": _share(near < by_samples),
            "The quantile of the nearest distances, not of all.": _share(
                near < torch.quantile(torch.pdist(y), share)
            ),
            "The quantile, not that share of the largest distance.": _share(near < share * gaps.max()),
        }
        given = asked(answer, x.clone(), y.clone(), share)
        yield Case(f"share {share}", given, expected, 1e-5, slips=telling(slips, expected))


@grader("ex:god-average")
def _average(answer: object) -> Iterator[Case]:
    slips = {
        "With 1150 it is still a hair above one tenth.": 1150,
        "That is where it has fallen to 1/e.": 500,
        "That is where it has halved.": 347,
        "One tenth, not one hundredth.": 2301,
        "A whole number, please.": math.log(0.1) / math.log(0.998),
    }
    hint = "Each further round multiplies the weight by d."
    yield Case("d = 0.998", lambda: answer, 1151, 1e-3, hint, slips)


@grader("ex:god-units")
def _units(answer: Callable[[float], object]) -> Iterator[Case]:
    for gamma in (64.0, 1.0, 10.0):
        slips = {
            "The other way: the slope per scaled pixel is larger.": 64 * gamma,
            "The penalty has the square of the slope.": gamma / 8,
            "The penalty has the square of the slope, and it is the other way round.": 8 * gamma,
            "From 0 to 16 the range is 16 wide, from −1 to 1 it is 2: a factor of 8.": gamma / 256,
            "The units do matter: the slope changes with them.": gamma,
        }
        hint = "By how much does f change for one grey level, and for one unit of the scaled pixel?"
        yield Case(f"γ = {gamma:g}", asked(answer, gamma), gamma / 64, 1e-6, hint, slips)


@grader("ex:god-chance")
def _chance(answer: Callable[[float, int], object]) -> Iterator[Case]:
    for a, n in ((0.6, 500), (0.5, 100), (0.45, 50)):
        expected = (a - 0.5) / (0.5 / math.sqrt(2 * n))
        slips = {
            "There are 2n points.": (a - 0.5) / (0.5 / math.sqrt(n)),
            "That is the deviation of the number of right answers; the accuracy is a share.": (a - 0.5)
            / (0.5 * math.sqrt(2 * n)),
            "That is the distance from one half: count it in deviations.": a - 0.5,
            "One toss has the deviation ½, not 1.": (a - 0.5) * math.sqrt(2 * n),
            "If the two are alike, the variance of one answer is ¼.": (a - 0.5)
            / math.sqrt(a * (1 - a) / (2 * n)),
            "Below one half it is negative.": abs(expected),
        }
        hint = "What is the deviation of the mean of 2n tosses of a coin?"
        yield Case(f"a = {a}, n = {n}", asked(answer, a, n), expected, 1e-4, hint, telling(slips, expected))
