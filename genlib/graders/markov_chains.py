"""Graders of the lesson on Markov chains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, real, telling, uniform


@grader("ex:mc-rest")
def _rest(answer: Callable[[float, float, int], object]) -> Iterator[Case]:
    hint = "Balance two neighbours: how many go up over this door, and how many come down over it?"
    for up, down, N in ((0.3, 0.5, 5), (0.6, 0.2, 4), (0.25, 0.25, 3), (0.1, 0.7, 6), (0.4, 0.3, 1)):
        ratio = up / down
        weights = _powers(ratio, N)
        expected = weights / weights.sum()
        slips = {
            "The scale is missing: shares sum to 1.": weights,
            "It is the other way round: more go where `up` leads.": expected.flip(0),
            "That is the law of chains that have `up` equal to `down`.": torch.full((N,), 1 / N, **EXACT),
            "Each step up multiplies the share: it is a geometric sequence.": _scaled(
                1 + torch.arange(N, **EXACT) * ratio
            ),
            "Balance over a door has a single power of the ratio, not its square.": _scaled(
                _powers(ratio**2, N)
            ),
            "Only `up` over `down` counts, not `up` alone.": _scaled(_powers(up, N)),
            "Over each door the traffic is the same: `down` of the upper place, not 1 − `up`.": _scaled(
                _powers(up / (1 - up), N)
            ),
            "There are N places, not N + 1.": _scaled(_powers(ratio, N + 1)),
            "There are N places, not N − 1.": _scaled(_powers(ratio, max(N - 1, 1))),
            "Those are logarithms.": expected.log(),
            "The shares sum to 1, not their squares.": weights / weights.norm(),
        }
        question, given = f"up = {up}, down = {down}, N = {N}", asked(answer, up, down, N)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


def _powers(ratio: float, N: int) -> Tensor:
    return ratio ** torch.arange(N, **EXACT)


def _scaled(p: Tensor) -> Tensor:
    return p / p.sum()


@grader("ex:mc-barker")
def _barker(answer: Callable[[float, float, float, float], object]) -> Iterator[Case]:
    hint = (
        "Which traffic is proposed from j to i, and which from i to j? Only their ratio counts in the rule."
    )
    for p_i, p_j, forth, back in (
        (1.9, 0.7, 0.3, 0.5),
        (2.5, 0.4, 0.2, 0.6),
        (1.3, 1.3, 0.5, 0.1),
        (0.9, 0.6, 0.35, 0.0),
        (0.0, 0.8, 0.25, 0.5),
    ):
        r = back * p_i / (forth * p_j)
        expected = r / (1 + r)
        plain, turned = p_i / p_j, forth * p_i / (back * p_j) if back else math.inf
        slips = {
            "That is the rule of Metropolis and Hastings.": min(1.0, r),
            "That is the ratio: a chance is at most 1.": r,
            "It is upside down: that is the chance to stay.": 1 - expected,
            "The proposal is missing: the ways there and back have unequal chances.": plain / (1 + plain),
            "The chance of the way back is above, not that of the way there.": (
                turned / (1 + turned) if back else 1.0
            ),
            "The law is missing: how probable are i and j?": back / (back + forth),
            "p_i belongs to the place that is proposed, so it is above.": (
                back * p_j / (back * p_j + forth * p_i)
            ),
            "Divide by the sum of both ways, not by their larger one twice.": min(1.0, r) / 2,
            "The rule takes the ratio once, not its square.": r**2 / (1 + r**2),
            "The rule takes the ratio, not its root.": math.sqrt(r) / (1 + math.sqrt(r)),
            "That is its logarithm; the chance itself is asked.": math.log(expected)
            if expected
            else -math.inf,
        }
        question = f"p_i = {p_i}, p_j = {p_j}, forth = {forth}, back = {back}"
        yield Case(
            question, asked(answer, p_i, p_j, forth, back), expected, 1e-5, hint, telling(slips, expected)
        )


@grader("ex:mc-factor")
def _factor(answer: Callable[[Tensor, Tensor, float], object]) -> Iterator[Case]:
    hint = "Which density has y, if log y is normal around log x? Write it for both ways, and divide."
    for seed, n, k in ((28, 7, 2.5), (8, 6, 1.0), (11, 5, 0.6), (4, 1, 3.0), (13, 9, 6.0)):
        x = 0.3 + 3 * uniform(seed, n)
        y = x * (0.7 * normal(seed + 20, n)).exp()
        turn = y.log() - x.log()
        gain = (k - 1) * turn - y + x
        expected = (gain + turn).clamp(max=0)
        slips = {
            "The ratio of the proposal is missing: it is a density in y, not in log y.": gain.clamp(max=0),
            "The proposal's ratio is upside down: it is y / x.": (gain - turn).clamp(max=0),
            "The ratio is y / x, once.": (gain + 2 * turn).clamp(max=0),
            "A chance is at most 1: cut its logarithm at 0.": gain + turn,
            "The logarithm is cut at 0, not at 1.": (gain + turn).clamp(max=1),
            "It is upside down: p(y) is above.": (-gain - turn).clamp(max=0),
            "The target is upside down: p(y) is above.": (turn - gain).clamp(max=0),
            "The exponential of the target is missing.": (k * turn).clamp(max=0),
            "Only the exponential of the target is there.": (x - y).clamp(max=0),
            "Only the proposal is there: where is the target?": turn.clamp(max=0),
            "The ratio is y / x, and in a logarithm that is a difference of logarithms.": (
                (gain + y - x).clamp(max=0)
            ),
            "That is the chance; its logarithm is asked.": expected.exp(),
            "Each walk is accepted or not for itself: do not add up.": expected.sum(),
            "Each walk is accepted or not for itself: do not average.": expected.mean(),
        }
        question = f"{n} pairs, k = {k}" if n > 1 else f"1 pair, k = {k}"
        given = asked(answer, x.clone(), y.clone(), k)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:mc-worth")
def _worth(answer: Callable[[float, int], object]) -> Iterator[Case]:
    hint = "What is the correlation k steps apart? Sum the series, on both sides of 0."
    for a, N in ((-0.4, 600), (0.6, 4000), (0.95, 10_000), (0.0, 1500), (-0.9, 250)):
        expected = N * (1 - a) / (1 + a)
        slips = {
            "That is the correlation time; N divided by it is asked.": (1 + a) / (1 - a),
            "It is the other way round: the longer the memory, the less it is worth.": N * (1 + a) / (1 - a),
            "The series has a factor 2: steps before count as steps after.": N * (1 - a),
            "The 1 is there once: it must not be doubled with the series.": N * (1 - a) / 2,
            "That counts the series twice, but not the 1 of no distance.": N * (1 - a) / (2 * a)
            if a
            else math.inf,
            "That would be for the squares of the numbers.": N * (1 - a**2) / (1 + a**2),
            "Only the nearest neighbour is counted: the memory goes on.": N / (1 + 2 * a)
            if 1 + 2 * a
            else math.inf,
            "That is the variance of a step given the one before, not a worth.": N * (1 - a**2),
            "For negative a more than N is possible: errors of neighbours cancel.": min(N, expected),
        }
        question, given = f"a = {a}, N = {N}", asked(answer, a, N)
        yield Case(question, given, expected, 1e-4 * expected, hint, telling(slips, expected))


@grader("ex:mc-spins")
def _spins(answer: Callable[[float], object]) -> Iterator[Case]:
    hint = (
        "What is the mean of one spin, given the other? Go two such steps, from the old spin to the new one."
    )
    for b in (0.4, 1.2, -0.8, 0.0, 2.5):
        t = math.tanh(b)
        expected = t**2
        slips = {
            "That is after one draw; a sweep draws twice.": t,
            "A sweep is two draws, not three.": t**3,
            "A sweep is two draws, not four.": t**4,
            "That is the chance that a spin equals the other.": 1 / (1 + math.exp(-2 * b)),
            "That is the chance that it is as before, not the correlation.": (1 + t**2) / 2,
            "Both spins lie at ±1: the exponents differ by 2b, and their tanh is that of b.": math.tanh(2 * b)
            ** 2,
            "The exponents are b and −b, not b/2 and −b/2.": math.tanh(b / 2) ** 2,
            "Steps in a row multiply: the correlation does not add.": 2 * t - t**2,
            "The draws in a row multiply; b does not.": math.tanh(b**2),
            "That is what is forgotten.": 1 - t**2,
            "That is the chance squared; the mean of a spin is asked twice.": 1 / (1 + math.exp(-2 * b)) ** 2,
            "Two negative signs make a positive one.": -(t**2),
        }
        yield Case(f"b = {b}", real(asked(answer, b)), expected, 1e-5, hint, telling(slips, expected))


Leap = Callable[[Tensor, Tensor, float, Callable[[Tensor], Tensor]], object]


@grader("ex:mc-leap")
def _leap(answer: Leap) -> Iterator[Case]:
    hint = "A leap can be reversed. What must be turned round before it, and what after it?"
    for seed, n, step in ((3, 4, 0.5), (6, 3, 0.9), (9, 1, 0.2), (12, 5, 1.3)):
        x, v = normal(seed, n), normal(seed + 30, n)
        before = _leapt(x, v, -step)

        def both(x: Tensor = x, v: Tensor = v, step: float = step) -> object:
            got = answer(x.clone(), v.clone(), step, _bent)
            return (
                torch.stack([torch.as_tensor(part, **EXACT) for part in got])
                if isinstance(got, tuple | list)
                else got
            )

        half = v - step / 2 * _bent(x)
        slips = {
            "That is the leap that comes after: where did it come from?": _leapt(x, v, step),
            "The velocity has to be turned round before the leap, too.": _leapt(x, v, step) * _TURN,
            "Turn the velocity round once more at the end: that is how it flew there.": before * _TURN,
            "That is Euler's scheme backwards: it does not undo a leap.": torch.stack(
                [x - step * v, v - step * _bent(x)]
            ),
            "Both halves of the kick are taken back, each at its own place.": torch.stack(
                [x - step * half, half - step / 2 * _bent(x)]
            ),
            "Only one half of the kick is taken back.": torch.stack([x - step * half, half]),
            "The kicks are turned round too: they are taken off on the way back.": torch.stack(
                [
                    x - step * (v + step / 2 * _bent(x)),
                    v + step / 2 * _bent(x) + step / 2 * _bent(x - step * (v + step / 2 * _bent(x))),
                ]
            ),
            "The place comes first, then the velocity.": before.flip(0),
        }
        question = f"{n} points, step {step}" if n > 1 else f"1 point, step {step}"
        yield Case(question, both, before, 1e-5, hint, telling(slips, before))


_TURN = torch.tensor([[1.0], [-1.0]], **EXACT)


def _leapt(x: Tensor, v: Tensor, step: float) -> Tensor:
    """Place and velocity (2, n) after one leap."""
    v = v + step / 2 * _bent(x)
    x = x + step * v
    return torch.stack([x, v + step / 2 * _bent(x)])


def _bent(x: Tensor) -> Tensor:
    """A score that is no line: −x³ / 2 − sin 2x."""
    return -(x**3) / 2 - torch.sin(2 * x)


@grader("ex:mc-exchange")
def _exchange(answer: Callable[[float, float, float, float], object]) -> Iterator[Case]:
    hint = "Write the law of both walks before and after the exchange. A chance is at most 1."
    for E_x, E_y, F_x, F_y in (
        (0.5, 1.7, 1.4, 0.9),
        (3.0, 1.0, 0.7, 2.5),
        (1.2, 2.0, 1.9, 1.5),
        (0.6, 0.6, 0.4, 0.4),
        (-2.0, 1.5, 0.3, 2.1),
        (900.0, 3.0, 4.0, 700.0),
        (3.0, 900.0, 700.0, 4.0),
    ):
        log_r = E_x + F_y - E_y - F_x
        expected = math.exp(min(0.0, log_r))
        slips = {
            "It is upside down: low energies are probable.": math.exp(min(0.0, -log_r)),
            "That is a step of the first walk alone: the second moves, too.": math.exp(min(0.0, E_x - E_y)),
            "That is a step of the second walk alone: the first moves, too.": math.exp(min(0.0, F_y - F_x)),
            "Both move to the place of the other: x and y trade places in F, too.": math.exp(
                min(0.0, E_x + F_x - E_y - F_y)
            ),
            "Each law keeps its energy: the places are exchanged, not E and F.": math.exp(
                min(0.0, E_x + E_y - F_x - F_y)
            ),
            "That is the logarithm; the chance itself is asked.": min(0.0, log_r),
            "There is no factor ½: nothing is a square here.": math.exp(min(0.0, log_r / 2)),
            "That is Barker's rule.": math.exp(min(0.0, log_r)) / (1 + math.exp(-abs(log_r))),
        }
        question = f"E = {E_x}, {E_y} and F = {F_x}, {F_y} at x, y"
        given = asked(answer, E_x, E_y, F_x, F_y)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))
