"""Graders of the lesson on the probability flow and likelihoods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import asked, normal, telling


@grader("ex:pf-home")
def _home(answer: Callable[[float, float, float], object]) -> Iterator[Case]:
    hint = (
        "The flow is linear in y, and carries one normal law into another. Which variance has the crowd at "
        "the start, and which at the end?"
    )
    for y, v, kappa in (
        (1.6, 0.6, 1.3),
        (-2.3, 2.0, 0.4),
        (0.9, 1.0, 0.0),
        (2.5, 1e-4, 0.5),
        (40.0, 0.25, 20.0),
    ):
        total = v + kappa**2
        expected = y * math.sqrt(v / total)
        slips = {
            "That is the mean of the clean data, given y: all points would end too close to 0.": y
            * v
            / total,
            "That is the way from level 0 to level κ.": y * math.sqrt(total / v),
            "That leads away from the data, and too far.": y * total / v,
            "The crowd gets narrower on its way, so the point moves.": y,
            "The point does not move by the noise's deviation: points far out move farther.": y - kappa,
            "Variances add up, not deviations.": y * math.sqrt(v) / (math.sqrt(v) + kappa),
            "v is a variance already.": y * v / math.hypot(v, kappa),
            "κ is a deviation: square it.": y * math.sqrt(v / (v + kappa)),
            "At level κ the crowd's deviation is not 1.": y * math.sqrt(v),
            "Of a crowd that ends there the variance is 1, not v.": y / math.sqrt(total),
            "The variances of the data and of the noise are exchanged.": y * kappa / math.sqrt(total),
            "Only the crowd's mean ends there.": 0.0,
        }
        question, given = f"y = {y}, v = {v}, κ = {kappa}", asked(answer, y, v, kappa)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:pf-guess")
def _guess(answer: Callable[[Tensor, Tensor, float, float, float, float], object]) -> Iterator[Case]:
    hint = "x is made of data and of noise. What does the mean of the data tell of the noise, and which parts change?"
    for seed, n, alpha, sigma, da, ds in (
        (1, 4, 0.7, 0.9, -0.6, 1.4),
        (2, 3, 1.0, 2.5, 0.0, 1.0),
        (3, 1, 0.6, 0.4, -1.0, 1.0),
        (4, 3, 0.3, 0.95, 0.8, -0.25),
        (5, 2, 0.9, 0.05, -0.2, 3.0),
    ):
        x, clean = normal(seed, n, 2), normal(seed + 20, n, 2)
        noise = (x - alpha * clean) / sigma
        expected = da * clean + ds * noise
        drift = da / alpha * x
        slips = {
            "The noise changes as well.": da * clean,
            "The data's part of x changes as well.": ds * noise,
            "That is the drift of the process alone: the score is missing.": drift,
            "That is the drift on the way back with noise: without noise less of the score is needed.": (
                2 * expected - drift
            ),
            "Not all of x is noise.": ds * x / sigma,
            "That is the way back: how does x change as time grows?": -expected,
            "The noise grows with σ: the sign of its part is wrong.": da * clean - ds * noise,
            "That is a straight way from the data to x, at a speed that no schedule has.": (x - clean)
            / sigma,
            "The data in x have faded: the guess of the noise lacks α.": da * clean
            + ds * (x - clean) / sigma,
            "The noise in x has the deviation σ: its own deviation is 1.": da * clean + ds * noise * sigma,
            "That is the score.": -noise / sigma,
            "That is the mean of the noise, not its change in x.": noise,
            "x is not the data.": da * x + ds * noise,
            "The slopes of α and σ are exchanged.": ds * clean + da * noise,
            "The slope of the logarithm of α goes with the faded data, not with the data.": (
                da / alpha * clean + ds * noise
            ),
            "Each place has its own velocity: there is nothing to sum.": expected.sum(1),
        }
        size = f"{n} points" if n > 1 else "1 point"
        question = f"{size}, α = {alpha}, σ = {sigma}, α' = {da}, σ' = {ds}"
        given = asked(answer, x.clone(), clean.clone(), alpha, sigma, da, ds)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:pf-linear")
def _linear(answer: Callable[[Tensor, float], object]) -> Iterator[Case]:
    hint = "How does the volume of a small cube grow that the flow carries along? Which entries of A count?"
    turn = torch.tensor([[0.0, -1.3], [1.3, 0.0]], device="cpu", dtype=torch.float64)
    for name, a, t in (
        ("3 × 3", normal(1, 3, 3), 0.7),
        ("2 × 2, which turns", turn, 1.5),
        ("1 × 1", normal(4, 1, 1), 1.2),
        ("5 × 5", normal(2, 5, 5), 0.3),
        ("4 × 4, of rank 1", normal(8, 4, 1) * normal(9, 4), 0.8),
        ("2 × 2, at the start", normal(6, 2, 2), 0.0),
    ):
        trace, size = a.diagonal().sum(), len(a)
        one = a.new_zeros(size).add(1).diag()
        expected = -t * trace
        slips = {
            "Where the crowd spreads it gets thinner: the sign is wrong.": -expected,
            "The volume does not grow at the rate det A: A is a rate, not a map.": -t * torch.linalg.det(a),
            "The map from start to end is not A.": -torch.linalg.slogdet(a).logabsdet,
            "That is one long step of Euler's rule.": -torch.linalg.slogdet(one + t * a).logabsdet,
            "It grows with the time.": -trace,
            "A flow may turn a crowd, or squeeze it: a norm of A sees no difference.": -t
            * torch.linalg.norm(a),
            "The dimensions add up, that is no mean.": expected / size,
            "Entries off the diagonal shear the crowd: that leaves the volume as it is.": -t * a.sum(),
            "That is the factor of the density: its logarithm is asked.": expected.exp(),
            "A squeeze in one direction and a spread in another can balance.": -t * a.diagonal().abs().sum(),
            "There is no half: the divergence counts as it is.": expected / 2,
            "A member keeps its density only where the flow keeps volumes.": a.new_zeros(()),
        }
        question, given = f"A is {name}, t = {t}", asked(answer, a.clone(), t)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:pf-price")
def _price(answer: Callable[[float, int, float], object]) -> Iterator[Case]:
    hint = "It is a divergence of two normal laws. Which of both laws do the data come from? How wide is the other?"
    for s, dims, kappa in ((0.7, 3, 1.2), (0.3, 100, 0.1), (2.0, 1, 0.0), (0.5, 2, 50.0), (1.5, 8, 1.5)):
        ratio, share = kappa**2 / s**2, kappa**2 / (s**2 + kappa**2)
        gain = math.log1p(ratio)
        expected = dims / 2 * (gain - share)
        slips = {
            "That is the other direction: what noised data pay under the clean density.": (
                dims / 2 * (ratio - gain)
            ),
            "That is the price of one dimension.": (gain - share) / 2,
            "The logarithm of a deviation is half of that of a variance.": dims * (gain - share),
            "That is how the entropies differ: the clean data do not fill the wider law.": dims / 2 * gain,
            "The wider law is lower in the middle: that costs as well.": -dims / 2 * share,
            "Data close to the middle get something back.": dims / 2 * (gain + share),
            "s is a deviation: square it.": dims / 2 * (math.log1p(kappa**2 / s) - kappa**2 / (s + kappa**2)),
            "κ is a deviation: square it.": dims / 2 * (math.log1p(kappa / s**2) - kappa / (s**2 + kappa)),
            "Variances add up, not deviations.": (
                dims / 2 * (2 * math.log1p(kappa / s) - 1 + s**2 / (s + kappa) ** 2)
            ),
            "That is in bits.": expected / math.log(2),
            "That is all that they pay: what they pay under their own density goes off.": (
                dims / 2 * (math.log(2 * math.pi * (s**2 + kappa**2)) + 1 - share)
            ),
            "On average a wrong density never wins: the sign is wrong.": -expected,
            "Only one of both parts goes with D.": dims / 2 * gain - share / 2,
        }
        question, given = f"s = {s}, D = {dims}, κ = {kappa}", asked(answer, s, dims, kappa)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:pf-bits")
def _bits(answer: Callable[[float, int, int], object]) -> Iterator[Case]:
    hint = "An image of whole levels is a cell of the scaled space. How wide is it, and which probability does it get?"
    for log_q, dims, levels in (
        (23.7, 64, 17),
        (10636.0, 3072, 256),
        (-41.5, 30, 2),
        (0.0, 784, 256),
        (0.8, 1, 5),
    ):
        own, offset = -log_q / (dims * math.log(2)), math.log2(levels - 1)
        expected = own + offset
        slips = {
            "How far apart are two levels that are neighbours?": own + math.log2(levels),
            "A density is no probability: the cell has a volume.": own,
            "8 bits belong to other levels, and to another scale.": own + 8,
            "The cells are small, so the probability is smaller than the density: mind the sign.": own
            - offset,
            "That is in nats.": expected * math.log(2),
            "That adds nats to bits: log_q is in nats.": -log_q / dims + offset,
            "That adds nats to bits: the width of the cell is in nats.": own + math.log(levels - 1),
            "log_q is that of all pixels together.": -log_q / math.log(2) + offset,
            "That is for the whole image.": dims * expected,
            "A more probable image takes fewer bits: mind the sign of log_q.": offset - own,
            "Each pixel's cell has that width: that part is not shared out.": own + offset / dims,
            "Nats become bits the other way round.": -log_q * math.log(2) / dims + offset,
            "That is the logarithm of the probability: bits count the other way.": -expected,
        }
        question = f"log_q = {log_q}, D = {dims}, K = {levels}"
        given = asked(answer, log_q, dims, levels)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:pf-flatter")
def _flatter(answer: Callable[[float, float], object]) -> Iterator[Case]:
    hint = "Which part differs from draw to draw? What is the mean of the exponential of a normal number?"
    for s, a in ((1.7, 0.9), (3.0, 0.4), (1.2, 0.0), (0.8, 0.8), (4.0, 3.9), (0.15, 0.1)):
        expected = (s**2 - a**2) / 2
        slips = {
            "The mean over draws does not see what all draws share.": s**2 / 2,
            "That is the shared part: it is the other one that flatters.": a**2 / 2,
            "Variances add up, not deviations.": (s - a) ** 2 / 2,
            "The flattery goes with squares.": s - a,
            "That is the deviation of what differs from draw to draw.": math.sqrt(s**2 - a**2),
            "That is the variance of what differs from draw to draw.": s**2 - a**2,
            "The logarithm of a mean is not the mean of the logarithms.": 0.0,
            "The logarithm of a mean is above the mean of the logarithms.": -expected,
            "The shared part is contained in s.": (s**2 + a**2) / 2,
            "Half a deviation is not half a variance.": (s - a) / 2,
            "That is the factor of the likelihood.": math.exp(expected),
            "That is in bits.": expected / math.log(2),
        }
        question, given = f"s = {s}, a = {a}", asked(answer, s, a)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))
