"""Graders of the lesson on score matching."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, telling


@grader("ex:sm-logistic")
def _logistic(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    hint = "Write log p as a sum, then differentiate term by term. What does the score tend to far out?"
    for question, x in (
        ("6 points", 1.5 * normal(1, 6)),
        ("1 point", 0.5 + normal(2, 1)),
        ("points up to 12 from 0", torch.linspace(-12, 12, 9, **EXACT)),
    ):
        expected = -torch.tanh(x / 2)
        log_p = -x - 2 * functional.softplus(-x)
        slips = {
            "The sign is wrong: the score points to where p is larger.": -expected,
            "That is the gradient of p; the score is that of log p.": log_p.exp() * expected,
            "That is log p: differentiate it.": log_p,
            "That is p: take its logarithm, and differentiate.": log_p.exp(),
            "Too steep: x is halved inside tanh.": -torch.tanh(x),
            "The denominator of p has a square: its logarithm counts twice.": -torch.sigmoid(x),
            "That is the score of a standard normal.": -x,
            "That is the second derivative of log p: the score is the first.": -2 * log_p.exp(),
            "Each point has a score of its own: do not add up.": expected.sum(),
        }
        if len(x) > 1:
            slips["Differentiate the sum: the mean makes every slope n times too small."] = expected / len(x)
        yield Case(question, asked(answer, x.clone()), expected, 1e-5, hint, telling(slips, expected))


@grader("ex:sm-fisher")
def _fisher(answer: Callable[[float, float], object]) -> Iterator[Case]:
    hint = "Both scores are straight lines in x, so their difference is one too. What is its mean square under p?"
    for mean, deviation in ((1.5, 0.8), (0.0, 2.0), (-2.0, 1.0), (0.7, 0.6)):
        u = 1 / deviation**2
        expected = (u - 1) ** 2 + mean**2 * u**2
        slips = {
            "That is the mean under the model: x comes from p.": (u - 1) ** 2 * deviation**2 + mean**2,
            "That is half of it: there is no ½ here.": expected / 2,
            "That is the KL divergence of the model from p: no scores in it.": math.log(deviation)
            + (1 + mean**2) * u / 2
            - 0.5,
            "That is a KL divergence, with the model first: no scores in it.": (
                (deviation**2 + mean**2 - 1) / 2 - math.log(deviation)
            ),
            "The score of the model divides by the variance, not by the deviation.": (
                (1 / deviation - 1) ** 2 + (mean / deviation) ** 2
            ),
            "The score divides by the variance, and does not multiply by it.": (
                (1 / u - 1) ** 2 + mean**2 / u**2
            ),
            "First the square, then the mean.": mean**2 * u**2,
            "The means differ too, not only the deviations.": (u - 1) ** 2,
            "That is its root: the mean of the square is asked.": math.sqrt(expected),
        }
        question = f"N({mean}, {deviation}²)"
        yield Case(question, asked(answer, mean, deviation), expected, 1e-4, hint, telling(slips, expected))


@grader("ex:sm-linear")
def _linear(answer: Callable[[Tensor, Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "What is the Jacobian of A x + b? Its trace is the same at every x; the length of s is not."
    for seed, n, D in ((1, 5, 3), (2, 1, 2), (3, 8, 4), (4, 6, 1)):
        A, b, x = normal(seed, D, D), normal(seed + 10, D), 0.5 + normal(seed + 20, n, D)
        trace, squared = A.trace(), _image(A, x, b).square()
        half = squared.sum(1).mean() / 2
        expected = trace + half
        slips = {
            "That is with A transposed: each row of x is one point.": (
                trace + _image(A.T, x, b).square().sum(1).mean() / 2
            ),
            "The square has a factor ½.": trace + 2 * half,
            "Where is the trace?": half,
            "The trace is added, not taken off.": half - trace,
            "The factor ½ is for the square, not for the trace.": trace / 2 + half,
            "The trace is the sum of the diagonal, not of the whole of A.": A.sum() + half,
            "Average over the data, do not add up.": n * expected,
            "Average the squared lengths over the data, do not add them up.": trace + n * half,
            "Average over the data only: the squares of one point add up.": trace + half / D,
            "Divide by the number of points only, not by D as well.": expected / D,
            "The trace too is a sum over the dimensions, not a mean.": trace / D + half,
            "The length of s is squared.": trace + squared.sum(1).sqrt().mean() / 2,
            "First the square, then the mean.": trace + _image(A, x, b).mean(0).square().sum() / 2,
            "s(x) is A x + b: where is b?": trace + _image(A, x, 0).square().sum(1).mean() / 2,
            "Average over the data: one number, please.": trace + squared.sum(1) / 2,
        }
        given = asked(answer, A.clone(), b.clone(), x.clone())
        yield Case(f"{n} points, D = {D}", given, expected, 1e-4, hint, telling(slips, expected))


def _image(A: Tensor, x: Tensor, b: Tensor | float) -> Tensor:
    """A x + b for each row of x."""
    return x @ A.T + b


@grader("ex:sm-hutchinson")
def _hutchinson(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    hint = "v·(A v) is a sum over pairs of numbers. Which terms are constant, and which are one and the same?"
    A, B, C = normal(1, 3, 3), normal(2, 4, 4), normal(3, 3, 3)
    for question, M in (
        ("D = 3", A),
        ("D = 4, A symmetric", (B + B.T) / 2),
        ("D = 3, A = −Aᵀ", C - C.T),
        ("D = 2, numbers above the diagonal", torch.tensor([[1.0, 3.0], [0.0, -2.0]], **EXACT)),
        ("D = 1", torch.tensor([[2.0]], **EXACT)),
    ):
        S, trace = (M + M.T) / 2, M.trace()
        expected = 2 * _off_diagonal(S)
        slips = {
            "A need not be symmetric: A_ij and A_ji stand before the same product.": 2 * _off_diagonal(M),
            "v_i v_j and v_j v_i are one number: their terms are not independent.": _off_diagonal(M),
            "That is for normal v: a sign has the square 1, so the diagonal does not vary.": (
                2 * S.square().sum()
            ),
            "A factor 2 is missing: each product occurs twice, and the terms vary together.": expected / 2,
            "Half of A + Aᵀ, please: that is four times too large.": 4 * expected,
            "That is the mean; the variance is asked.": trace,
            "That is the mean of the square: subtract the square of the mean.": expected + trace**2,
            "That is the deviation: its square is asked.": expected.sqrt(),
        }
        yield Case(question, asked(answer, M.clone()), expected, 1e-4, hint, telling(slips, expected))


def _off_diagonal(S: Tensor) -> Tensor:
    """Sum of the squares off the diagonal."""
    return S.square().sum() - S.diagonal().square().sum()


@grader("ex:sm-floor")
def _floor(answer: Callable[[float, float, int], object]) -> Iterator[Case]:
    hint = "The best s(x̃) is the mean of the target given x̃. How much does the target still vary around it?"
    for deviation, sigma, dims in ((1.5, 0.6, 3), (1.0, 0.1, 1), (0.5, 2.0, 10), (2.0, 1.0, 784)):
        v = deviation**2 + sigma**2
        expected = dims * deviation**2 / (2 * sigma**2 * v)
        slips = {
            "It does not reach 0: one x̃ comes from many pairs of clean point and noise.": 0.0,
            "That is the cost of s = 0: x̃ tells something of the noise.": dims / (2 * sigma**2),
            "That is what the best s takes off, not what remains.": dims / (2 * v),
            "The cost has a factor ½.": 2 * expected,
            "That is for one dimension: the squares of all of them add up.": expected / dims,
            "That is the cost multiplied by σ².": sigma**2 * expected,
            "Variances add up, not deviations.": dims
            * deviation**2
            / (2 * sigma**2 * (deviation + sigma) ** 2),
            "Squares, please: variances, not deviations.": (
                dims * deviation / (2 * sigma * (deviation + sigma))
            ),
            "Data and noise are exchanged.": dims * sigma**2 / (2 * deviation**2 * v),
        }
        question = f"deviation {deviation}, σ = {sigma}, {dims} dimensions"
        given = asked(answer, deviation, sigma, dims)
        yield Case(question, given, expected, 5e-4, hint, telling(slips, expected))


@grader("ex:sm-clean")
def _clean(answer: Callable[[Tensor, float, Tensor], object]) -> Iterator[Case]:
    hint = "Bayes: how likely does each clean point lead to this x? These weights add up to 1."
    far = "Far from every point all the weights round to 0: take off the largest exponent, or use softmax."
    for seed, n, K, D, sigma, shift in (
        (1, 5, 4, 2, 0.8, 0.0),
        (2, 1, 6, 3, 1.5, 0.0),
        (3, 6, 3, 1, 0.5, 0.0),
        (4, 3, 3, 2, 4.0, 0.0),
        (5, 4, 5, 2, 0.05, 9.0),
    ):
        x, points = 1.5 * normal(seed, n, D) + shift, normal(seed + 10, K, D)
        squared = (x[:, None] - points).square().sum(2)
        exponent = -squared / (2 * sigma**2)
        expected = exponent.softmax(1) @ points
        slips = {
            "That is the nearest point: the others count too.": points[squared.argmin(1)],
            "The exponent of a normal density has a factor ½.": (2 * exponent).softmax(1) @ points,
            "The squared distance is divided by 2σ², not by 2σ.": (sigma * exponent).softmax(1) @ points,
            "The exponent is divided by 2σ²: where is σ?": (-squared / 2).softmax(1) @ points,
            "The distance in the exponent is squared.": (
                (-squared.sqrt() / (2 * sigma**2)).softmax(1) @ points
            ),
            "The sign of the exponent is wrong: near points count more.": (-exponent).softmax(1) @ points,
            "That is the score: the mean is asked.": (expected - x) / sigma**2,
            "That is the step from x to the mean: add x.": expected - x,
            "That is the mean noise in units of σ: the clean point is asked.": (x - expected) / sigma,
            "That is the mean of all points: x tells which are likely.": points.mean(0).expand(n, D),
            "The weights must add up to 1: divide by their sum.": exponent.exp() @ points,
            "For each x, the weights of the points add up to 1, not the other way round.": (
                exponent.softmax(0) @ points
            ),
        }
        question = f"n = {n}, K = {K}, D = {D}, σ = {sigma}" + ", far away" * (shift > 0)
        given = asked(answer, x.clone(), sigma, points.clone())
        yield Case(question, given, expected, 1e-4, far if shift else hint, telling(slips, expected))
