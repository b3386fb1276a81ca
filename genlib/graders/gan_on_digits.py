"""Graders of the lesson on adversarial networks on digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, telling


def _reach(y: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other one, (m, D) → (m,)."""
    return torch.cdist(y, y).kthvalue(k + 1, dim=1).values


def _share(true: Tensor) -> Tensor:
    return true.double().mean()


@grader("ex:god-precision")
def _precision(answer: Callable[[Tensor, Tensor, int], object]) -> Iterator[Case]:
    spread = ((1, 30, 20, 3), (2, 25, 40, 1), (3, 40, 15, 5))
    hint = "For each sample ask each ball. How far does a ball reach, and from where?"
    edges = torch.tensor([[0, 0], [0, 2], [3, 0], [3, 1], [9, 5], [9, 9]], **EXACT)
    on_edges = torch.tensor([[0, -2], [1, 0], [3, 2], [5, 0], [7, 7], [9, 1], [0, 5]], **EXACT)
    for x, y, k in (
        *((1.4 * normal(s, n, 3), normal(s + 10, m, 3), k) for s, n, m, k in spread),
        (on_edges, edges, 1),
    ):
        n, m = len(x), len(y)
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
            "The edge belongs to the ball.": _share((near < reach).any(1)),
        }
        question, given = f"{n} samples, {m} data, k = {k}", asked(answer, x.clone(), y.clone(), k)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:god-copies")
def _copies(answer: Callable[[Tensor, Tensor, float], object]) -> Iterator[Case]:
    hint = "Which distances make the quantile, and which are compared with it?"
    grid = torch.tensor([[0, 0], [0, 1], [0, 3], [4, 0], [4, 2], [8, 8], [8, 9]], **EXACT)
    beside = torch.tensor([[0, 0], [1, 0], [4, 1], [5, 0], [2, 3], [7, 8], [8, 8]], **EXACT)

    def near_some(seed: int) -> tuple[Tensor, Tensor]:
        y = normal(seed, 60, 2)
        return torch.cat([y[:15] + 0.02 * normal(seed + 10, 15, 2), normal(seed + 20, 25, 2)]), y

    sets = [(*near_some(seed), share) for seed, share in ((1, 0.2), (2, 0.5), (3, 0.01))]
    for x, y, share in (*sets, (beside, grid, 0.25)):
        near = torch.cdist(x, y).min(1).values
        gaps = _reach(y, 1)
        close = torch.quantile(gaps, share)
        expected, by_samples = _share(near < close), torch.quantile(near, share)
        own = torch.cdist(y, y).min(1).values
        slips = {
            "Each image is its own nearest: leave it out.": _share(near < torch.quantile(own, share)),
            "At the very distance a sample is not nearer.": _share(near <= close),
            "Each sample has one nearest image: count samples, not pairs.": _share(torch.cdist(x, y) < close),
            "That is the share of the training images with a sample near by.": _share(
                torch.cdist(x, y).min(0).values < close
            ),
            "That is the share that is further.": 1 - expected,
            "That is the number; the share is asked.": (near < close).sum(),
            "The quantile is that of the data's distances, not of the samples'.": _share(near < by_samples),
            "The quantile of the nearest distances, not of all.": _share(
                near < torch.quantile(torch.pdist(y), share)
            ),
            "The quantile, not that share of the largest distance.": _share(near < share * gaps.max()),
        }
        given = asked(answer, x.clone(), y.clone(), share)
        yield Case(f"share {share}", given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:god-average")
def _average(answer: object) -> Iterator[Case]:
    slips = {
        "One round too early: it is still a hair above one tenth.": 1150,
        "One round too late: the one before is below one tenth already.": 1152,
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
            "From −1 to 1 the range is 2 wide, not 1.": gamma / 256,
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
