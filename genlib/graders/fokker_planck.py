"""Graders of the lesson on Brownian motion and the Fokker-Planck equation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, real, telling

Field = Callable[[Tensor], Tensor]


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


@grader("ex:fp-bet")
def _bet(answer: Callable[[float, float, float], object]) -> Iterator[Case]:
    hint = "How does the whole sum grow, and how its logarithm? The median is largest where the latter grows most."
    for mu, sigma, r in (
        (0.1, 0.4, 0.45),
        (0.06, 0.2, 0.02),
        (0.5, 1.3, 0.0),
        (0.3, 0.7, 0.1),
        (0.25, 0.5, 0.25),
    ):
        expected = (mu - r) / sigma**2
        slips = {
            "What lies safe grows, too: the game must beat it.": mu / sigma**2,
            "That is the share at which the median grows no faster than what lies safe.": 2 * expected,
            "Itô's term has a factor ½, and the derivative of a square a factor 2.": expected / 2,
            "That is the gain for each unit of risk: squared, it grows with the share.": expected * sigma,
            "Square σ.": expected * sigma**3,
            "That is what the game earns more: how much does its noise cost?": mu - r,
            "The whole sum maximises the mean. The median is asked.": 1.0,
            "A game that earns more is worth a larger share: the sign is wrong.": -expected,
            "That is the rate at which the median grows, not the share.": r + (mu - r) ** 2 / (2 * sigma**2),
            "That is upside down.": 1 / expected if expected else math.inf,
            "That is the growth of the logarithm with the whole sum in the game.": mu - sigma**2 / 2,
            "The share is not to be cut off: below 0 one bets against, above 1 one borrows.": min(
                max(expected, 0.0), 1.0
            ),
        }
        question, given = f"μ = {mu}, σ = {sigma}, r = {r}", asked(answer, mu, sigma, r)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


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
def _rest(answer: Callable[[Tensor, Field, Field], object]) -> Iterator[Case]:
    hint = "At rest on the line no current flows. Solve that for the drift; two slopes are in it."
    wavy, row = torch.linspace(-1.5, 1.3, 12, **EXACT), normal(31, 5)
    for x, log_p, D, name in (
        (wavy, lambda x: -(x**2) / 2, lambda x: 1 + 0.6 * torch.sin(2 * x), "a normal law"),
        (row, lambda x: -(x**4) / 4 + x**2, lambda x: 0.4 + x**2, "two valleys"),
        (wavy, lambda x: -(x**2) / 2 + 5, lambda x: 0.7 + 0 * x, "the same noise everywhere"),
        (row, lambda x: 0 * x, lambda x: (0.3 * x).exp(), "a crowd that is spread evenly"),
        (wavy[:1], lambda x: torch.sin(x), lambda x: 2 + torch.cos(3 * x), "1 place"),
    ):
        score, bend, d = _slope(log_p, x), _slope(D, x), D(x)
        expected = d * score + bend
        slips = {
            "Where the noise is strong the crowd is pushed away: that has to be made good.": d * score,
            "That is Stratonovich's: take Itô's.": d * score + bend / 2,
            "Its sign is wrong: the drift holds the crowd where the noise would drive it out.": d * score
            - bend,
            "The slope of log p is multiplied by D.": score + bend,
            "The slope of log p is multiplied by D, not divided.": score / d + bend,
            "That is the drift for the same noise everywhere.": score,
            "Where is the law?": bend,
            "D is half of g² already.": 2 * expected,
            "D is half of g², and that is counted already.": expected / 2,
            "The sign of all is wrong.": -expected,
            "The slope of log p is asked, not that of p.": d * score * log_p(x).exp() + bend,
            "That is the current that spreads the crowd.": (d * score + bend) * log_p(x).exp(),
            "The slope of D is not divided by D.": d * score + bend / d,
            "Each place has a drift of its own: do not add up.": expected.sum(),
        }
        given = asked(answer, x.clone(), log_p, D)
        yield Case(name, given, expected, 1e-4, hint, telling(slips, expected))


def _slope(function: Field, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        return torch.autograd.grad(function(x).sum(), x)[0]


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
