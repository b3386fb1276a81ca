"""Graders of the lesson on Brownian motion and the Fokker-Planck equation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, real, telling, uniform


@grader("ex:fp-square")
def _square(answer: Callable[[float, float, float], object]) -> Iterator[Case]:
    hint = "Write Itô's formula for the square. It has two terms in dt. Then put y where the square of x is."
    for y, k, g in ((1.7, 0.6, 0.8), (0.4, 1.3, 1.1), (2.2, -0.35, 0.7), (0.0, 0.9, 1.5), (3.0, 0.7, 0.0)):
        pull = 2 * k * y
        expected = g**2 - pull
        slips = {
            "That is the rule of school: the square of a kick counts as time.": -pull,
            "The second derivative of x² is not 1.": g**2 / 2 - pull,
            "The second derivative comes with a factor ½.": 2 * g**2 - pull,
            "It is the square of a kick that counts: square its size, too.": g - pull,
            "The kicks push the square up, not down.": -(g**2) - pull,
            "Where is the pull back to zero?": g**2,
            "The sign of the pull is wrong.": g**2 + pull,
            "The derivative of x² is not x.": g**2 - k * y,
            "The square obeys another equation than the place.": -k * y,
            "y is the square already.": g**2 - 2 * k * y**2,
            "The derivative of x² and the drift both have a factor x.": g**2 - 2 * k * math.sqrt(y),
            "That is the size of the noise of y.": 2 * g * math.sqrt(y),
            "That is where the drift of y is zero.": g**2 / (2 * k),
        }
        question, given = f"y = {y}, k = {k}, g = {g}", asked(answer, y, k, g)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:fp-median")
def _median(answer: Callable[[float, float, float, float], object]) -> Iterator[Case]:
    hint = "How is the logarithm of the money distributed? Half of the players are below its middle."
    for x0, mu, sigma, t in (
        (1.6, 0.3, 0.7, 1.5),
        (0.5, -0.2, 0.4, 3.0),
        (2.0, 0.1, 1.3, 1.2),
        (3.0, 0.25, 0.0, 2.0),
        (1.2, 0.6, 0.9, 0.0),
    ):
        half = sigma**2 / 2
        expected = x0 * math.exp((mu - half) * t)
        slips = {
            "That is the mean: a few huge winners carry it.": x0 * math.exp(mu * t),
            "That is the mean by the rule of school; Itô's term has the other sign.": (
                x0 * math.exp((mu + half) * t)
            ),
            "Itô's term has a factor ½.": x0 * math.exp((mu - 2 * half) * t),
            "Itô's term has a factor ½, once only.": x0 * math.exp((mu - half / 2) * t),
            "Square σ.": x0 * math.exp((mu - sigma / 2) * t),
            "That is where the density is largest, and more than half are above.": (
                x0 * math.exp((mu - 3 * half) * t)
            ),
            "Itô's term grows with the time, too.": x0 * math.exp(mu * t - half),
            "Itô's term grows with the time, not with its root.": x0 * math.exp(mu * t - half * math.sqrt(t)),
            "The drift is there in half of the cases, too: where is μ?": x0 * math.exp(-half * t),
            "The money starts at x0, not at 1.": expected / x0,
            "That is how much it has grown: start at x0.": expected - x0,
            "That is its logarithm.": math.log(expected),
            "Growth is compound: it takes an exponential.": x0 * (1 + (mu - half) * t),
            "That is after one unit of time.": x0 * math.exp(mu - half),
            "Half have less than the typical kick; its median is 0.": (
                x0 * math.exp((mu - half) * t + sigma * math.sqrt(t))
            ),
        }
        question, given = f"x0 = {x0}, μ = {mu}, σ = {sigma}, t = {t}", asked(answer, x0, mu, sigma, t)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:fp-wall")
def _wall(answer: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], object]) -> Iterator[Case]:
    hint = (
        "What is u in that equation, and what is v? Write B as a function of its own, then put all together."
    )
    still = "Without a drift both factors B are 0/0. What is their limit, and what current remains?"
    for left, right, f, D, h in (
        (0.9, 0.4, 1.3, 0.6, 0.7),
        (0.3, 0.8, -1.1, 0.5, 0.4),
        (0.7, 0.2, 0.0, 0.8, 0.5),
        (0.0, 0.6, 9.0, 0.3, 0.5),
        (0.5, 0.0, -8.0, 0.25, 0.6),
        (0.5, 0.5, 0.2, 2.0, 0.1),
        (0.25, 0.75, -0.0, 1.5, 0.3),
    ):
        w = f * h / D
        expected = D / h * (left * _bernoulli(-w) - right * _bernoulli(w))
        spread = D * (left - right) / h
        slips = {
            "That is the obvious guess, with the mean of both sides: it can take more than there is.": (
                f * (left + right) / 2 + spread
            ),
            "The wind blows from one side: that guess takes its density as it is.": (
                f * (left if f > 0 else right) + spread
            ),
            "Mind the signs of w: with the drift to the right, more of the left cell crosses.": (
                D / h * (left * _bernoulli(w) - right * _bernoulli(-w))
            ),
            "The current counts to the right: the sign is wrong.": -expected,
            "u is not the density: D is missing in front.": expected / D,
            "Divide by the width.": h * expected,
            "Divide by the width once only: a current is asked, not what a cell gains.": expected / h,
            "v is not the drift: it is divided by D.": (
                D / h * (left * _bernoulli(-w * D) - right * _bernoulli(w * D))
            ),
            "B takes v times the width.": (D / h * (left * _bernoulli(-w / h) - right * _bernoulli(w / h))),
            "That is without any drift.": spread,
            "That is the drift alone: the crowd spreads, too.": f * (left + right) / 2,
            "That is what crosses in both directions together: take the difference.": (
                D / h * (left * _bernoulli(-w) + right * _bernoulli(w))
            ),
            "That is what crosses to the right: some comes back.": D / h * left * _bernoulli(-w),
            "Both cells have the same factor there: one takes w, the other −w.": spread * _bernoulli(w),
        }
        question = f"left {left}, right {right}, f = {f}, D = {D}, h = {h}"
        given = asked(answer, *(torch.tensor(number, **EXACT) for number in (left, right, f, D, h)))
        yield Case(question, given, expected, 1e-4, hint if f else still, telling(slips, expected))


def _bernoulli(w: float) -> float:
    """w / (e^w − 1), as e^(−w/2) over the mean of e^y between −w/2 and w/2."""
    return math.exp(-w / 2) * (w / 2) / math.sinh(w / 2) if w else 1.0


@grader("ex:fp-rest")
def _rest(answer: Callable[[Tensor, Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "Put f/D at all places first, then its integral up to each place. The scale comes last."
    wavy, line = torch.linspace(-1.5, 1.3, 12, **EXACT), torch.linspace(2.0, 5.0, 9, **EXACT)
    calm, pair = torch.linspace(0.0, 1.0, 7, **EXACT), torch.tensor([-0.4, 0.5], **EXACT)
    for x, f, D, name in (
        (wavy, 0.4 - wavy, 1 + 0.6 * torch.sin(2 * wavy), "a noise that depends on the place"),
        (line, 2 * normal(31, 9), 0.5 + uniform(32, 9), "places from 2 to 5"),
        (calm, torch.zeros_like(calm), 0.4 + uniform(33, 7), "no drift"),
        (wavy, -3 * wavy**3, torch.full_like(wavy, 0.7), "the same noise everywhere"),
        (pair, torch.tensor([1.5, -0.3], **EXACT), torch.tensor([0.6, 1.1], **EXACT), "2 places"),
    ):
        expected = _settled(x, f / D, 1 / D)
        loose = _settled(x, f / D, 1 / D, width=1.0)
        scale = torch.trapezoid(_law(x, f / D, 1 / D), x)
        slips = {
            "That is e to the integral only: what stands in front of it?": _settled(x, f / D, D**0),
            "That is Stratonovich's law: take Itô's.": _settled(x, f / D, D**-0.5),
            "D does not multiply in front.": _settled(x, f / D, D),
            "A drift to the right leads more to the right: the sign of the exponent is wrong.": (
                _settled(x, -f / D, 1 / D)
            ),
            "The drift in the exponent is divided by D.": _settled(x, f, 1 / D),
            "The drift in the exponent is divided by D, not multiplied.": _settled(x, f * D, 1 / D),
            "D is inside of the integral, for it depends on the place.": _outside(x, f, D),
            "D is half of g², and that is counted already.": _settled(x, 2 * f / D, 1 / D),
            "The drift in the exponent is too weak: D is half of g² already.": _settled(
                x, f / (2 * D), 1 / D
            ),
            "Where is the drift?": _settled(x, 0 * f, 1 / D),
            "The scale is missing: the integral is to be 1.": expected * scale,
            "The integral is to be 1, not the sum.": _law(x, f / D, 1 / D) / _law(x, f / D, 1 / D).sum(),
            "The integral in the exponent takes the width of the steps, too.": loose,
            "The integral that makes it 1 takes the width of the steps, too.": expected * (x[1] - x[0]),
            "That is a sum of rectangles in the exponent: take the trapezoid rule.": _boxes(x, f / D, 1 / D),
            "The first place is missing: the integral up to it is 0.": _settled(x, f / D, 1 / D, first=1),
            "That is the logarithm of the density.": expected.log(),
        }
        given = asked(answer, x.clone(), f.clone(), D.clone())
        yield Case(name, given, expected, 1e-5, hint, telling(slips, expected))


def _law(x: Tensor, slope: Tensor, front: Tensor, width: float | None = None) -> Tensor:
    """`front` times e to the integral of `slope`, by the trapezoid rule."""
    pieces = (slope[1:] + slope[:-1]) / 2 * (x.diff() if width is None else width)
    upto = torch.tril(torch.ones(len(x), len(x) - 1, **EXACT), -1)
    return front * (upto @ pieces).exp()


def _settled(x: Tensor, slope: Tensor, front: Tensor, width: float | None = None, first: int = 0) -> Tensor:
    """The same with integral 1, from one of the places on."""
    return _scaled(x[first:], _law(x, slope, front, width)[first:])


def _scaled(x: Tensor, p: Tensor) -> Tensor:
    return p / torch.trapezoid(p, x) if len(x) > 1 else p


def _outside(x: Tensor, f: Tensor, D: Tensor) -> Tensor:
    return _scaled(x, _law(x, f, torch.ones_like(D)) ** (1 / D) / D)


def _boxes(x: Tensor, slope: Tensor, front: Tensor) -> Tensor:
    return _scaled(x, front * (slope.cumsum(0) * (x[1] - x[0])).exp())


@grader("ex:fp-swing")
def _swing(answer: Callable[[float, float], object]) -> Iterator[Case]:
    hint = "The mean has two rates of decay. Which of them is left after a long time?"
    weak = "With weak friction the root is imaginary: what does that part of the rate do, and what the other?"
    for k, gamma in ((1.3, 2.9), (2.0, 1.1), (0.5, 4.0), (2.25, 3.0), (1.5, 0.0), (0.8, 0.3), (1.7, 12.0)):
        swings = gamma**2 < 4 * k
        root = 0.0 if swings else math.sqrt(gamma**2 - 4 * k)
        expected = 2 * k / (gamma + root) if gamma > 0 and not swings else gamma / 2
        turn = math.sqrt(abs(gamma**2 - 4 * k)) / 2
        slips = {
            "That is the limit of strong friction.": k / gamma if gamma else math.inf,
            "That is the fast rate: it is gone after a short time.": gamma - expected,
            "That holds while the particle swings: with this friction it creeps.": gamma / 2,
            "That is the root in the formula: it takes off from the friction.": 2 * turn,
            "That is the root alone: a frequency when it is imaginary.": turn,
            "That is how fast the velocity forgets.": gamma,
            "The formula is divided by 2.": 2 * expected,
            "The formula is divided by 2, once only.": expected / 2,
            "A rate of decay is positive here.": -expected,
            "In the root a factor 4 is missing.": (gamma - math.sqrt(max(gamma**2 - k, 0.0))) / 2,
            "In the root k is not squared.": (gamma - math.sqrt(max(gamma**2 - 4 * k**2, 0.0))) / 2,
            "In the root 4k is taken off.": (gamma - math.sqrt(gamma**2 + 4 * k)) / 2,
            "That is the size of the complex rate: only one part of it dies out.": math.sqrt(k),
            "That is a time: its inverse is asked.": 1 / expected if expected else math.inf,
        }
        question, given = f"k = {k}, γ = {gamma}", real(asked(answer, k, gamma))
        atol = 1e-3 if gamma**2 == 4 * k else 1e-4  # two rates that meet are hard to tell apart
        yield Case(question, given, expected, atol, weak if swings else hint, telling(slips, expected))


@grader("ex:fp-kramers")
def _kramers(answer: Callable[[float, float, float], object]) -> Iterator[Case]:
    hint = "Find the places where the slope of U is zero. Then the second derivatives there, and the height."
    for a, b, T in ((0.6, 1.7, 0.8), (1.0, 2.5, 0.5), (10.0, 20.0, 2.5), (0.3, 0.9, 0.4), (2.0, 1.0, 0.05)):
        front, barrier = math.sqrt(8) * b / (2 * math.pi), b**2 / (4 * a)
        expected = front * math.exp(-barrier / T)
        slips = {
            "The barrier is divided by the temperature.": front * math.exp(-barrier),
            "The energy of the valley has two terms, and the barrier is lower than one of them.": (
                front * math.exp(-2 * barrier / T)
            ),
            "In the valley the two terms of the energy have opposite signs.": front
            * math.exp(-barrier * 3 / T),
            "The valleys are where the slope is zero, not where the energy is.": (
                math.sqrt(20) * b / (2 * math.pi) * math.exp(-barrier / T)
            ),
            "The sign of the exponent is wrong: who has to climb leaves seldom.": front
            * math.exp(barrier / T),
            "The noise has D = T, so the barrier is not divided by 2T.": front * math.exp(-barrier / (2 * T)),
            "That is the curvature of the valley twice: the top has one of its own.": expected * math.sqrt(2),
            "That is the curvature of the top twice: the valley has one of its own.": expected / math.sqrt(2),
            "Take the root of the product of the curvatures.": expected * math.sqrt(8) * b,
            "The formula is divided by 2π.": expected * 2 * math.pi,
            "The formula is divided by 2π, not by π.": 2 * expected,
            "Only one way leads out of a valley here.": expected / 2,
            "That is the mean time; its inverse is asked.": 1 / expected,
            "Where are the curvatures?": math.exp(-barrier / T),
            "Where is the barrier?": front,
            "That is for the barrier and the curvatures of the lesson's two valleys.": (
                math.sqrt(32) * b / (2 * math.pi) * math.exp(-b / T)
            ),
            "The temperature stands in the exponent only.": T * expected,
            "The curvatures go with b: a and b are exchanged there.": math.sqrt(8)
            * a
            / (2 * math.pi)
            * math.exp(-barrier / T),
        }
        question, given = f"a = {a}, b = {b}, T = {T}", asked(answer, a, b, T)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:fp-back")
def _back(answer: Callable[[Tensor, float, float], object]) -> Iterator[Case]:
    hint = "How wide is the crowd at that time? Its score is that of a normal law. Then reverse the drift."
    for seed, n, t, v in (
        (51, 5, 0.4, 2.6),
        (52, 4, 0.2, 0.15),
        (53, 1, 1.5, 0.5),
        (54, 3, 0.0, 0.3),
        (55, 4, 0.7, 1.0),
        (56, 4, 0.1, 0.0),
        (57, 3, 20.0, 4.0),
    ):
        x = normal(seed, n)
        fade = math.exp(-2 * t)
        wide = v * fade + (1 - fade)
        expected = x * (wide - 2) / wide
        slips = {
            "That is the score alone, twice: where is the reversed drift?": -2 * x / wide,
            "That is the score at that time: the drift has two parts.": -x / wide,
            "The drift forward changes its sign.": -x - 2 * x / wide,
            "The score is multiplied by g², and g is √2.": x - x / wide,
            "The score is multiplied by g², not by g.": x - math.sqrt(2) * x / wide,
            "The score leads back to where many are: its sign is wrong.": x + 2 * x / wide,
            "The sign of all is wrong.": -expected,
            "That is the reversed drift without the score.": x,
            "That is the score of the crowd at rest: at this time it is another one.": -x,
            "That is the score of the data: at this time the crowd is another one.": (
                x - 2 * x / v if v else x + math.inf
            ),
            "A variance shrinks with the square of the factor of the mean.": (
                x - 2 * x / (1 + (v - 1) * math.exp(-t))
            ),
            "That is the spread of the noise only: the data have a variance, too.": (
                x - 2 * x / (1 - fade) if t else x + math.inf
            ),
            "That is the variance of the shrunk data: the noise adds to it.": (
                x - 2 * x / (v * fade) if v else x + math.inf
            ),
            "The noise that was added shrinks, too.": x - 2 * x / (v * fade + 2 * t)
            if v or t
            else x + math.inf,
            "That is the variance without any pull: it spreads for ever.": x - 2 * x / (v + 2 * t)
            if v or t
            else x + math.inf,
            "The noise is counted as it is, but the data shrink, too.": (
                x - 2 * x / (v + 1 - fade) if v or t else x + math.inf
            ),
            "v and 1 are exchanged: the data are there at the start.": x - 2 * x / (v + (1 - v) * fade),
            "The score divides by the variance, not by the deviation.": x - 2 * x / math.sqrt(wide),
            "v is the variance already.": x - 2 * x / (1 + (v**2 - 1) * fade),
            "Each place has a drift of its own: do not add up.": expected.sum(),
        }
        question = f"{n} places, t = {t}, v = {v}" if n > 1 else f"1 place, t = {t}, v = {v}"
        yield Case(question, asked(answer, x.clone(), t, v), expected, 1e-4, hint, telling(slips, expected))
