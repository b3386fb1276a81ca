"""Graders of the lesson on Langevin dynamics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import asked, normal, telling


@grader("ex:lg-variance")
def _variance(answer: Callable[[float, float], object]) -> Iterator[Case]:
    hint = "Write the variance after a step in terms of the one before. Which variance stays as it is?"
    for deviation, step in ((1.5, 0.8), (0.5, 0.1), (1.0, 0.5), (2.0, 7.0)):
        v = deviation**2
        expected = v / (1 - step / (2 * v))
        slips = {
            "That is the target's variance: steps of finite size miss it.": v,
            "The slope of the score depends on the target's deviation too.": v / (1 - step / 2),
            "That is for a target of variance 1.": 1 / (1 - step / 2),
            "The score divides by the variance, not by the deviation.": v / (1 - step / (2 * deviation)),
            "Variances, please: square the deviation.": deviation / (1 - step / (2 * deviation)),
            "That is for a step half as large: here the score is multiplied by η, not by η/2.": (
                v / (1 - step / (4 * v))
            ),
            "The noise has variance 2η: that is for twice the step.": v / (1 - step / v),
            "The points spread more than the target, not less.": v / (1 + step / (2 * v)),
            "Divide by that factor: the points spread more than the target.": v * (1 - step / (2 * v)),
            "That holds for small steps only; the exact answer is as short.": v + step / 2,
            "That is the deviation: its square is asked.": math.sqrt(expected),
        }
        question, given = f"deviation {deviation}, η = {step}", asked(answer, deviation, step)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:lg-convention")
def _convention(answer: Callable[[float], object]) -> Iterator[Case]:
    hint = "Compare the two rules term by term: which η of ours is the ε of that text?"
    for step in (0.6, 0.1, 1.5, 3.2):
        expected = 1 / (1 - step / 4)
        slips = {
            "That is for our rule with η = ε: this text's step is another one.": 1 / (1 - step / 2),
            "That is for η = 2ε: it is the other way round.": 1 / (1 - step),
            "That is the target's variance: steps of finite size miss it.": 1.0,
            "That is for η = ε/4: halve ε once.": 1 / (1 - step / 8),
            "That holds for small steps only; the exact answer is as short.": 1 + step / 4,
            "Divide by that factor: the points spread more than the target.": 1 - step / 4,
            "The points spread more than the target, not less.": 1 / (1 + step / 4),
            "That is the deviation: its square is asked.": math.sqrt(expected),
        }
        yield Case(f"ε = {step}", asked(answer, step), expected, 1e-4, hint, telling(slips, expected))


@grader("ex:lg-temperature")
def _temperature(answer: Callable[[float, float], object]) -> Iterator[Case]:
    hint = "Write the variance after a step in terms of the one before, and drop what is of order η²."
    for c, deviation in ((0.8, 1.5), (2.0, 0.7), (1.0, 2.0), (math.sqrt(2), 1.3), (0.0, 1.2)):
        v = deviation**2
        expected = c**2 * v / 2
        slips = {
            "That is the target's variance: it needs the right noise.": v,
            "The right noise, c = √2, must give the target: a factor ½ is missing.": c**2 * v,
            "A variance goes with the square of c.": c * v / 2,
            "A variance goes with the square of c: c/√2 is the factor of the deviation.": c
            * v
            / math.sqrt(2),
            "That is the deviation: its square is asked.": c * deviation / math.sqrt(2),
            "It depends on the target's deviation too.": c**2 / 2,
            "Square the deviation: the target has variance s².": c**2 * deviation / 2,
            "It is the other way round: less noise, less variance.": 2 * v / c**2 if c else math.inf,
            "Too small by half: the variance shrinks by 2η/s² in a step, and gains c²η.": c**2 * v / 4,
        }
        question, given = f"c = {c:.4g}, deviation {deviation}", asked(answer, c, deviation)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:lg-accept")
def _accept(answer: Callable[[Tensor, Tensor, float], object]) -> Iterator[Case]:
    hint = (
        "The proposal is a normal density: where is its centre, seen from x, and seen from y? How wide is it?"
    )
    for seed, n, step in ((71, 6, 0.2), (2, 5, 0.05), (3, 1, 0.8), (14, 8, 0.5)):
        x = 1.2 * normal(seed, n)
        y = x - step * x**3 + math.sqrt(2 * step) * normal(seed + 10, n)
        gain, turn = (x**4 - y**4) / 4, _turn(x, y, step, 2 * step)
        expected = (gain + turn).clamp(max=0)
        slips = {
            "The proposal is not symmetric: the way back has another density.": gain.clamp(max=0),
            "The correction is upside down: q(x|y), the way back, is in the numerator.": (
                (gain - turn).clamp(max=0)
            ),
            "All is upside down: p(y) and q(x|y) are in the numerator.": (-gain - turn).clamp(max=0),
            "The target is upside down: p(y) is in the numerator.": (turn - gain).clamp(max=0),
            "A probability is at most 1: cut its logarithm at 0.": gain + turn,
            "The logarithm is cut at 0, not at 1.": (gain + turn).clamp(max=1),
            "The noise has variance 2η, not η, and a normal density divides by twice its variance.": (
                gain + _turn(x, y, step, step)
            ).clamp(max=0),
            "2η is the variance of the noise, not its deviation.": (
                (gain + _turn(x, y, step, 4 * step**2)).clamp(max=0)
            ),
            "The sign of the score is wrong: it leads to where p is larger.": (
                (gain + _turn(x, y, -step, 2 * step)).clamp(max=0)
            ),
            "The proposal is centred at x + η s(x), with η.": (
                (gain + _turn(x, y, 1.0, 2 * step)).clamp(max=0)
            ),
            "Only the proposal is there: where is p?": turn.clamp(max=0),
            "That is the probability; its logarithm is asked.": expected.exp(),
            "Each point is accepted or not for itself: do not add up.": expected.sum(),
            "Each point is accepted or not for itself: do not average.": expected.mean(),
        }
        question = f"{n} points, η = {step}" if n > 1 else f"1 point, η = {step}"
        given = asked(answer, x.clone(), y.clone(), step)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


def _turn(x: Tensor, y: Tensor, step: float, variance: float) -> Tensor:
    """log q(x|y) − log q(y|x) for the target of score −x³."""
    forth, back = y - x + step * x**3, x - y + step * y**3
    return (forth.square() - back.square()) / (2 * variance)


@grader("ex:lg-forget")
def _forget(answer: Callable[[float, float], object]) -> Iterator[Case]:
    hint = "By which factor does one step shrink the mean? Then count the steps, or take a logarithm."
    for start, step in ((3.0, 0.1), (0.5, 0.9), (1.0, 0.02), (2.0, 0.3), (8.0, 0.001)):
        exact = math.log(100 * start) / -math.log1p(-step)
        expected = math.ceil(exact)  # no case is at a tie
        slips = {
            "After so many steps the mean is not yet below 0.01.": expected - 1,
            "One step earlier the mean is below 0.01 already.": expected + 1,
            "That is continuous time: a step of finite size multiplies the mean by 1 − η.": (
                math.ceil(math.log(100 * start) / step)
            ),
            "That is continuous time, and steps are whole.": math.log(100 * start) / step,
            "Steps are whole: round up.": exact,
            "The mean starts at `start`, not at 1.": math.ceil(math.log(100) / -math.log1p(-step)),
            "That is when its square is below 0.01.": (math.ceil(math.log(10 * start) / -math.log1p(-step))),
            "That is how far the mean still is, not after how many steps.": start * (1 - step) ** expected,
        }
        question, given = f"start {start}, η = {step}", asked(answer, start, step)
        yield Case(question, given, expected, 1e-6, hint, telling(slips, expected))


@grader("ex:lg-two-state")
def _two_state(answer: Callable[[float, float, int], object]) -> Iterator[Case]:
    hint = (
        "Write the share on the right after a step in terms of the one before. Its distance to rest shrinks."
    )
    for a, b, n in (
        (0.1, 0.06, 5),
        (0.02, 0.03, 30),
        (0.7, 0.6, 3),
        (0.3, 0.2, 1),
        (0.2, 0.4, 0),
        (0.2, 0.0, 4),
    ):
        rest, left = a / (a + b), 1 - a - b
        expected = rest * (1 - left**n)
        slips = {
            "That is the share at rest: n steps do not suffice.": rest,
            "Points come back from the right, too.": 1 - (1 - a) ** n,
            "That is the share on the left.": 1 - expected,
            "That is how much is missing from the share at rest.": rest * left**n,
            "a and b are exchanged: a leads from left to right.": (1 - rest) * (1 - left**n),
            "All start on the left, not on the right.": rest + (1 - rest) * left**n,
            "That is the share after one step more.": rest * (1 - left ** (n + 1)),
            "That is continuous time: a step multiplies what is missing by 1 − a − b.": (
                rest * (1 - math.exp(-(a + b) * n))
            ),
            "That is the part of the way to rest: the share at rest is not 1.": 1 - left**n,
            "A point may cross only from where it is: the shares do not grow in equal steps.": a * n,
        }
        if n > 0:
            slips["That is the share after one step less."] = rest * (1 - left ** (n - 1))
        question, given = f"a = {a}, b = {b}, n = {n}", asked(answer, a, b, n)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))
