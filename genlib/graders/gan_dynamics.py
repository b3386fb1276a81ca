"""Graders of the lesson on adversarial networks: two who learn at once."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, real, telling, uniform


@grader("ex:gad-rest")
def _rest(answer: Callable[[float], object]) -> Iterator[Case]:
    hint = "The slower part remains. A root of a negative number is imaginary: it swings, and does not fall."
    for gamma in (2.5, 0.5, 1.0, 4.0, 0.0):
        root = cmath.sqrt(gamma**2 / 4 - 1 / 4)
        expected = gamma / 2 - root.real
        slips = {
            "That part dies first: the slower one remains.": gamma / 2 + root.real,
            "Beyond γ = 1 the root is real, and counts.": gamma / 2,
            "The sign is wrong: the distance falls, so r is not negative.": -expected,
            "Only the real part makes it fall, not the absolute value.": abs(root - gamma / 2),
            "That is how fast it swings.": root.imag,
            "The root of a negative number is imaginary: it has no real part.": gamma / 2 - abs(root),
            "That is the rate of the squared distance.": 2 * expected,
            "That is the factor by which it falls; its rate is asked.": math.exp(-expected),
        }
        yield Case(f"γ = {gamma}", real(asked(answer, gamma)), expected, 1e-3, hint, telling(slips, expected))


@grader("ex:gad-w1")
def _w1(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "Look at two neighbours among all the points: how much earth must pass between them, and how far?"
    for question, x, y in (
        ("5 and 3 points", normal(1, 5), 2 + 3 * normal(11, 3)),
        ("6 and 6 points", 2 * normal(2, 6), normal(12, 6)),
        ("8 and 5 whole numbers", (3 * uniform(3, 8)).floor(), (5 * uniform(13, 5)).floor()),
        ("1 and 4 points", normal(4, 1), normal(14, 4)),
        ("equal shares", torch.tensor([1, 0, 0], **EXACT), torch.tensor([0, 1, 0, 0, 1, 0], **EXACT)),
    ):
        n, m = len(x), len(y)
        way = (x.repeat_interleave(m).sort().values - y.repeat_interleave(n).sort().values).abs()
        expected, few = way.mean(), min(n, m)
        edges = torch.cat([x, y]).sort().values
        pairs = (x.sort().values[:few] - y.sort().values[:few]).abs()
        more = ((x[:, None] <= edges).sum(0) - (y[:, None] <= edges).sum(0)).abs()
        counted = (more[:-1] * edges.diff()).sum()
        between = (x[:, None] - y).abs()
        slips = {
            "Pairs of single points leave some behind: split their weights.": pairs.mean(),
            "Sort first: the order in a sample means nothing.": (x[:few] - y[:few]).abs().mean(),
            "That is the distance of the means: earth must not cancel.": (x.mean() - y.mean()).abs(),
            "Take absolute values before you add up: earth must not cancel.": -(x.mean() - y.mean()).abs(),
            "That is the mean over all pairs; the cheapest plan is asked.": between.mean(),
            "Each point goes to its nearest: then some get too much.": between.min(1).values.mean(),
            "Each sample has total weight 1: divide its counts by its size.": counted,
            "That is the mean of the squares.": way.square().mean(),
            "That is the root of the mean square.": way.square().mean().sqrt(),
        }
        yield Case(
            question, asked(answer, x.clone(), y.clone()), expected, 1e-5, hint, telling(slips, expected)
        )


@grader("ex:gad-penalty")
def _penalty(answer: Callable[..., object]) -> Iterator[Case]:
    for seed, B, steep in ((1, 6, 1.0), (2, 4, 0.2), (3, 1, 2.0)):
        real, fake, u = normal(seed, B, 3), 0.5 + normal(seed + 10, B, 3), uniform(seed, B, 1)
        critic = _critic(steep)
        slopes = _gradient(critic, u * real + (1 - u) * fake)
        length = slopes.norm(dim=1)
        expected = _off(length)
        exchanged, at_data, at_samples = (
            _off(_gradient(critic, x).norm(dim=1)) for x in (u * fake + (1 - u) * real, real, fake)
        )
        slips = {
            "u belongs to the real example, 1 − u to the sample.": exchanged,
            "Those are slopes at the data, not between data and samples.": at_data,
            "Those are slopes at the samples, not between data and samples.": at_samples,
            "The penalty is on the distance of the length from 1.": length.square().mean(),
            "Slopes below 1 are punished too.": (length - 1).clamp(min=0).square().mean(),
            "Take the root: the length, not its square, is compared with 1.": _off(length.square()),
            "That is the mean distance from 1; its square is asked.": (length - 1).abs().mean(),
            "First the square, then the mean.": _off(length.mean()),
            "Each example has a gradient of its own, a row, with its own length.": _off(slopes.norm()),
            "One length for each example: sum over the features.": _off(slopes.norm(dim=0)),
            "The length is that of the whole gradient, not of its entries.": _off(slopes.abs()),
            "Differentiate the sum: the mean makes every slope B times too small.": _off(length / B),
            "Average over the batch, do not add up.": (length - 1).square().sum(),
            "Average over the batch: one number, please.": (length - 1).square(),
        }
        given = (critic, real.clone(), fake.clone(), u.clone())
        hint = "The gradient is taken in the points between data and samples, one for each example."
        yield Case(f"a batch of {B}", asked(answer, *given), expected, 1e-4, hint, telling(slips, expected))
    steep = torch.tensor(1.5, **EXACT, requires_grad=True)
    length = steep.detach() * _gradient(_critic(1.0), u * real + (1 - u) * fake).norm(dim=1)

    def learnt() -> Tensor:
        return torch.autograd.grad(answer(_critic(steep), real.clone(), fake.clone(), u.clone()), steep)[0]

    slope = (2 * (length - 1) * length / steep.detach()).mean()
    hint = "Let the penalty be differentiated again, in the critic's parameters."
    yield Case("its slope in a parameter of the critic", learnt, slope, 1e-4, hint)


@grader("ex:gad-noise")
def _noise(answer: float) -> Iterator[Case]:
    slips = {
        "That is the variance of the noise; its deviation is asked.": 2.0,
        "That is the best weight of R1: which deviation has this friction?": 1.0,
        "The friction is half the variance.": math.sqrt(0.5),
        "Take one root only.": 2**0.25,
        "That is the rate at which the distance falls.": 0.5,
    }
    hint = "Which friction is the best, and which noise has it?"
    yield Case("the deviation", lambda: answer, math.sqrt(2), 2e-3, hint, telling(slips, math.sqrt(2)))


@grader("ex:gad-clip")
def _clip(answer: Callable[[float, int, int], object]) -> Iterator[Case]:
    for c, D, n in ((0.1, 2, 64), (0.01, 64, 128), (0.5, 1, 3), (2.0, 3, 1)):
        expected = n * c**2 * math.sqrt(D)
        slips = {
            "Two layers of weights, so that c counts twice.": n * c * math.sqrt(D),
            "The length of a vector of D equal entries has a root.": n * c**2 * D,
            "That is one entry of the gradient; its length is asked.": n * c**2,
            "All units may be on at once, and then they add up.": c**2 * math.sqrt(D),
            "The units add up, they are not at right angles.": math.sqrt(n) * c**2 * math.sqrt(D),
            "That is the square of the length.": expected**2,
        }
        yield Case(
            f"c = {c:g}, D = {D}, n = {n}",
            asked(answer, c, D, n),
            expected,
            1e-4 * expected,
            hint="Let all units be on. What is one entry of the gradient at most? And the length of all D?",
            slips=telling(slips, expected),
        )


def _critic(steep: float | Tensor) -> Callable[[Tensor], Tensor]:
    """A smooth critic of points in three dimensions, (B, 3) → (B,)."""

    def critic(x: Tensor) -> Tensor:
        a, b, c = x.unbind(-1)
        return steep * (torch.sin(a - 2 * b) + 0.3 * c**2 + 0.5 * a * c)

    return critic


def _gradient(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(critic(x).sum(), x)[0]


def _off(length: Tensor) -> Tensor:
    return (length - 1).square().mean()
