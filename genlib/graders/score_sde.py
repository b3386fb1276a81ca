"""Graders of the lesson on score-based models in continuous time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import asked, normal, telling


@grader("ex:ss-straight")
def _straight(answer: Callable[[float], object]) -> Iterator[Case]:
    hint = "First find a from the fading of the data. Then the variance has to grow as it should."
    for t in (0.3, 0.55, 0.8, 0.02, 0.5):
        expected = math.sqrt(2 * t / (1 - t))
        slips = {
            "That is g², not g.": expected**2,
            "The variance grows by itself, and the pull shrinks it: noise has to make good for both.": math.sqrt(
                2 * t
            ),
            "The pull shrinks the variance twice as fast as the mean.": math.sqrt(2 * t + t**2 / (1 - t)),
            "It is the variance that grows by g², not the deviation.": 1.0,
            "The derivative of t² is not t.": math.sqrt(t + 2 * t**2 / (1 - t)),
            "The pull makes the variance smaller: noise has to add to what is asked, not take off.": math.sqrt(
                abs(2 * t - 2 * t**2 / (1 - t))
            ),
            "That is a, up to its sign.": 1 / (1 - t),
            "That is the noise-to-signal ratio.": t / (1 - t),
            "a is the slope of the logarithm of α, not of α itself.": math.sqrt(2 * t + 2 * t**2),
        }
        yield Case(f"t = {t}", asked(answer, t), expected, 1e-5, hint, telling(slips, expected))


@grader("ex:ss-when")
def _when(answer: Callable[[float, float], object]) -> Iterator[Case]:
    hint = "Write the square of the level as a function of B, and solve for B."
    for level, beta in ((1.7, 3.2), (0.4, 0.5), (6.0, 9.0), (0.0, 2.0), (0.9, 7.0)):
        expected = math.log1p(level**2) / beta
        slips = {
            "α is the root of e to the −B: squares go with B, not with B/2.": 2 * expected,
            "The level is a deviation: square it.": math.log1p(level) / beta,
            "That is B: how long does it take at this β?": expected * beta,
            "β is a rate, it divides.": expected * beta**2,
            "That holds for small noise only.": level**2 / beta,
            "That is for a process in which nothing fades.": level / math.sqrt(beta),
            "That holds for large noise only.": 2 * math.log(level) / beta if level else -math.inf,
            "That is when the deviation σ, not the level σ/α, has that value.": (
                -math.log(1 - level**2) / beta if level < 1 else math.inf
            ),
            "Time runs forward.": -expected,
            "That is the sub-VP process.": 2 * math.asinh(level / 2) / beta,
        }
        yield Case(
            f"level {level}, β = {beta}",
            asked(answer, level, beta),
            expected,
            1e-5,
            hint,
            telling(slips, expected),
        )


@grader("ex:ss-clean")
def _clean(answer: Callable[[Tensor, Tensor, float, float], object]) -> Iterator[Case]:
    hint = (
        "There are two equations for two unknown means, that of the data and that of the noise. Solve them."
    )
    for seed, n, alpha, sigma in ((1, 4, 0.8, 0.9), (2, 3, 1.0, 2.5), (3, 1, 0.3, 0.95), (4, 5, 0.6, 0.8)):
        x, v = normal(seed, n, 2), normal(seed + 20, n, 2)
        both = alpha**2 + sigma**2
        expected = (alpha * x - sigma * v) / both
        slips = {
            "That is the mean of the noise.": (sigma * x + alpha * v) / both,
            "α² + σ² is not 1 here.": alpha * x - sigma * v,
            "The sign of v is wrong.": (alpha * x + sigma * v) / both,
            "That takes v for the noise.": (x - sigma * v) / alpha,
            "α and σ are exchanged.": (sigma * x - alpha * v) / both,
            "Divide by α² + σ², not by its root.": (alpha * x - sigma * v) / math.sqrt(both),
            "The sign of all is wrong.": -expected,
            "That is a score, not a place.": -(sigma * x + alpha * v) / both / sigma,
        }
        question = f"{n} points, α = {alpha}, σ = {sigma}" if n > 1 else f"1 point, α = {alpha}, σ = {sigma}"
        given = asked(answer, x.clone(), v.clone(), alpha, sigma)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:ss-enough")
def _enough(answer: Callable[[float, float, float], object]) -> Iterator[Case]:
    hint = "Solve the bound for the level at the end. How is that level made of the two sizes?"
    for m2, nats, s0 in ((5.0, 0.02, 0.4), (1.5, 0.1, 0.01), (60.0, 0.5, 2.0), (2.0, 3.0, 0.3)):
        level2 = m2 / (2 * nats)
        expected = math.sqrt(s0**2 + level2)
        slips = {
            "At t = 1 the variance is what has come in: that of the first size is not among it.": math.sqrt(
                level2
            ),
            "The first size adds to the square, it is not taken off.": math.sqrt(max(level2 - s0**2, 0.0)),
            "That is the square of the size.": expected**2,
            "The bound has a factor 2 below.": math.sqrt(s0**2 + m2 / nats),
            "It is upside down: fewer nats ask for more noise.": math.sqrt(s0**2 + nats / (2 * m2)),
            "m2 is a mean square already.": math.sqrt(s0**2 + m2**2 / (2 * nats)),
            "Squares add up, not sizes.": s0 + math.sqrt(level2),
            "That is the ratio of both sizes.": expected / s0,
            "The bound goes with the square of the level.": math.sqrt(s0**2 + level2**2),
        }
        question, given = f"m2 = {m2}, nats = {nats}, s0 = {s0}", asked(answer, m2, nats, s0)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:ss-two")
def _two(answer: Callable[..., object]) -> Iterator[Case]:
    hint = (
        "Differentiate the logarithm of the sum of both densities. Whose point is it, and with which chance?"
    )
    for seed, n, w, low in ((1, 4, 0.3, 0.0), (2, 3, 0.75, -2.0), (3, 1, 0.5, 1.0), (4, 3, 0.2, -2000.0)):
        s, s2 = normal(seed, n, 2), normal(seed + 20, n, 2)
        log_p, log_p2 = low - normal(seed + 40, n).abs(), low - normal(seed + 60, n).abs()
        odds = math.log(w / (1 - w)) + log_p - log_p2
        first = torch.sigmoid(odds)[:, None]
        expected = first * s + (1 - first) * s2
        even = torch.sigmoid(log_p - log_p2)[:, None]
        slips = {
            "Where the first law has no points its score must not count: the shares depend on the place.": (
                w * s + (1 - w) * s2
            ),
            "The shares of the data are missing: half and half is one case.": even * s + (1 - even) * s2,
            "The densities are exchanged.": (1 - first) * s + first * s2,
            "Scores of a mixture do not add up.": s + s2,
            "The first law has the share w, the second the rest.": (
                torch.sigmoid(odds - 2 * math.log(w / (1 - w)))[:, None] * (s - s2) + s2
            ),
            "The logarithms of the densities weigh as densities do, not as they are.": (
                (w * log_p[:, None] * s + (1 - w) * log_p2[:, None] * s2)
                / (w * log_p + (1 - w) * log_p2)[:, None]
            ),
            "The weights have to sum to 1.": w * log_p.exp()[:, None] * s
            + (1 - w) * log_p2.exp()[:, None] * s2,
            "That is the score of the more probable law alone.": torch.where(odds[:, None] > 0, s, s2),
        }
        size = f"{n} points" if n > 1 else "1 point"
        question = f"{size}, w = {w}" + (", densities that underflow" if low < -1000 else "")
        given = asked(answer, w, s.clone(), log_p.clone(), s2.clone(), log_p2.clone())
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:ss-width")
def _width(answer: Callable[[float, float, float], object]) -> Iterator[Case]:
    hint = "The step is linear in y. By which factor does it multiply y, and how much noise does it add?"
    for v, kappa, q in ((0.6, 1.3, 0.5), (2.0, 0.7, 0.8), (0.1, 3.0, 0.2), (1.0, 1.0, 0.9), (0.0, 2.0, 0.4)):
        total = v + kappa**2
        factor = q**2 + (1 - q**2) * v / total
        fresh = q**2 * kappa**2 * (1 - q**2)
        expected = factor**2 * total + fresh
        slips = {
            "That is the variance that it should have.": v + q**2 * kappa**2,
            "The fresh noise is missing.": factor**2 * total,
            "A factor multiplies the variance by its square.": factor * total + fresh,
            "y itself has the variance of the data and of the noise.": factor**2 * kappa**2 + fresh,
            "That is the deviation.": math.sqrt(expected),
            "The mean of the data is not y: a part of y is noise.": total + fresh,
            "Given y, the mean of the data is not 0.": q**4 * total + fresh,
            "The noise of the lower level has the factor q².": factor**2 * total + kappa**2 * (1 - q**2),
            "The factor of the step is q², not q.": (q + (1 - q) * v / total) ** 2 * total + fresh,
            "The variance of the data goes with their share in the variance, not in the deviation.": (
                (q**2 + (1 - q**2) * math.sqrt(v / total)) ** 2 * total + fresh
            ),
        }
        question, given = f"v = {v}, κ = {kappa}, q = {q}", asked(answer, v, kappa, q)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))
