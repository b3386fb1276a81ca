"""Graders of the lesson on KL divergence and cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.distributions import kl_divergence as gaussian_kl

from genlib.checks import Case, grader
from genlib.discrete import cross_entropy, kl_divergence
from genlib.graders._tools import EXACT, asked, telling, uniform

_RAIN = torch.tensor([0.09, 0.14, 0.05, 0.02], **EXACT) / 0.30
_SUNNY = torch.tensor([0.22, 0.06, 0.02, 0.20], **EXACT) / 0.50


def _table(seed: int, *shape: int) -> Tensor:
    """Random probabilities of the given shape that sum to 1."""
    return uniform(seed, *shape).flatten().softmax(0).reshape(shape)


@grader("ex:kl-bits")
def _bits(answer: object) -> Iterator[Case]:
    nats = kl_divergence(_RAIN, _SUNNY)
    slips = {
        "That is the waste in nats. How many bits are a nat?": nats,
        "That is the other direction: sunny orders in a code for rain.": kl_divergence(_SUNNY, _RAIN)
        / math.log(2),
        "That is the length of the code, waste and all.": cross_entropy(_RAIN, _SUNNY) / math.log(2),
    }
    hint = "Which divergence is it, which way round, and how many bits are a nat?"
    yield Case("bits wasted per order", lambda: answer, nats / math.log(2), 6e-3, hint, slips)


@grader("ex:kl-chain-rule")
def _chain_rule(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    for seed, shape in enumerate([(2, 2), (3, 4), (5, 2)]):
        p, q = _table(seed, *shape), _table(seed + 10, *shape)
        whole, marginal = kl_divergence(p.flatten(), q.flatten()), kl_divergence(p.sum(1), q.sum(1))
        rows = kl_divergence(p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True))
        slips = {
            "That is the divergence of the whole tables.": whole,
            "That is the first term, the divergence of the margins.": marginal,
            "The rows must be weighted by P(x), not by Q(x).": (q.sum(1) * rows).sum(),
            "The rows must be weighted by P(x), not added up.": rows.sum(),
            "The rows are not equally likely: weigh them.": rows.mean(),
            "The tables are exchanged.": kl_divergence(q.flatten(), p.flatten())
            - kl_divergence(q.sum(1), p.sum(1)),
            "Those are the columns: x numbers the rows.": whole - kl_divergence(p.sum(0), q.sum(0)),
            "In nats, please: the natural logarithm.": (whole - marginal) / math.log(2),
            "One number is asked, not one for each row.": p.sum(1) * rows,
        }
        hint = "Each row, divided by its sum, is a distribution of its own."
        question = f"random tables of shape {shape}"
        ask = asked(answer, p.clone(), q.clone())
        yield Case(question, ask, whole - marginal, 1e-5, hint, telling(slips, whole - marginal))
    same = _table(3, 3, 4)
    shifted = same / same.sum(1, keepdim=True) * _table(4, 3)[:, None]
    question = "tables with the same conditionals but other margins"
    hint = "How far apart are two rows that agree once they are divided by their sums?"
    yield Case(question, lambda: answer(same.clone(), shifted.clone()), 0.0, 1e-5, hint)


@grader("ex:kl-mutual-information")
def _mutual_information(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    outer = _table(1, 3)[:, None] * _table(2, 4)
    hint = "What does X tell of Y if the table is the product of its margins?"
    yield Case("an independent table", lambda: answer(outer.clone()), 0.0, 1e-5, hint)
    for seed in (5, 6):
        p = _table(seed, 3, 5)
        outer = p.sum(1, keepdim=True) * p.sum(0)
        terms = p * (p / outer).log()
        expected = terms.sum()
        slips = {
            "That is in bits; the exercise asks for nats.": expected / math.log(2),
            "The two tables are exchanged.": kl_divergence(outer.flatten(), p.flatten()),
            "The sign is wrong: a divergence is not negative.": -expected,
            "Weigh each logarithm with its probability.": (p / outer).log().sum(),
            "Add up the cells, do not average.": terms.mean(),
            "One number is asked, not one for each row.": terms.sum(1),
            "The mean is under the table itself.": (outer * (p / outer).log()).sum(),
        }
        hint = "Which two tables are compared, and which of them takes the mean?"
        given = asked(answer, p.clone())
        yield Case("a random table of shape (3, 5)", given, expected, 1e-5, hint, telling(slips, expected))
    hint = "This table holds zeros. What does 0 log 0 count?"
    ask = asked(answer, torch.eye(4, **EXACT) / 4)
    yield Case("Y = X, four equal values", ask, math.log(4), 1e-5, hint)


@grader("ex:kl-jensen-shannon")
def _jensen_shannon(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    p, q = _table(7, 5), _table(8, 5)
    middle = (p + q) / 2
    expected = (kl_divergence(p, middle) + kl_divergence(q, middle)) / 2
    slips = {
        "The factor ½ is missing.": 2 * expected,
        "Both divergences go to the middle M, not to each other.": (kl_divergence(p, q) + kl_divergence(q, p))
        / 2,
        "The divergences go from P and Q to M, not from M.": (
            kl_divergence(middle, p) + kl_divergence(middle, q)
        )
        / 2,
        "In nats, please: the natural logarithm.": expected / math.log(2),
        "That is the half of P alone.": kl_divergence(p, middle) / 2,
        "That is the half of Q alone.": kl_divergence(q, middle) / 2,
        "That is the root: the divergence itself is asked.": expected.sqrt(),
        "The sign is wrong: a divergence is not negative.": -expected,
    }
    slips = telling(slips, expected)
    hint = "Both are the same here. Where is their middle?"
    yield Case("P against itself", lambda: answer(p.clone(), p.clone()), 0.0, 1e-5, hint)
    hint = "How far is each of the two from their middle, in which direction?"
    yield Case("two random distributions", lambda: answer(p.clone(), q.clone()), expected, 1e-5, hint, slips)
    hint = "P and Q play the same part."
    yield Case("the same two, exchanged", lambda: answer(q.clone(), p.clone()), expected, 1e-5, hint)
    left, right = p.new_tensor([0.4, 0.6, 0.0, 0.0]), p.new_tensor([0.0, 0.0, 0.1, 0.9])
    hint = "They hold zeros. What does 0 log 0 count?"
    yield Case("two that share no symbol", lambda: answer(left, right), math.log(2), 1e-5, hint)


@grader("ex:kl-gumbel")
def _gumbel(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    u, logits = uniform(9, 20_000, 4), torch.tensor([0.5, -1.0, 2.0, 0.0], **EXACT)
    even, same = torch.full((1, 3), 0.5, **EXACT), "With equal u all g are equal."
    yield Case(
        "equal u, the largest logit is number 2", lambda: answer(logits[:3].clone(), even), [2], 1e-6, same
    )
    g = -(-u.log()).log()
    expected = (logits + g).argmax(-1)
    slips = {
        "The largest is asked, not the smallest.": (logits + g).argmin(-1),
        "Those are the numbers u themselves: g is asked of them.": (logits + u).argmax(-1),
        "One of the two logarithms is missing.": (logits - u.log()).argmax(-1),
        "Add g to the logits, not to the probabilities.": (logits.softmax(0) + g).argmax(-1),
        "Add g, do not multiply.": (logits * g).argmax(-1),
        "The numbers u decide too: so it is always the same symbol.": logits.argmax().expand(len(u)),
        "Count the symbols from 0.": expected + 1,
        "That is the largest value: its place is asked.": (logits + g).amax(-1),
    }
    hint = "Not every draw is right. Check both signs in g."
    yield Case(
        "20,000 draws, one by one", lambda: answer(logits.clone(), u.clone()), expected, 1e-6, hint, slips
    )


@grader("ex:kl-gaussians")
def _gaussians(answer: Callable[[Tensor, Tensor, Tensor, Tensor], object]) -> Iterator[Case]:
    for mu1, sigma1, mu2, sigma2 in [(0, 1, 0, 1), (1, 1, 0, 1), (0, 2, 0, 1), (0.5, 0.3, -1, 2)]:
        four = torch.tensor([mu1, sigma1, mu2, sigma2], **EXACT)
        expected = gaussian_kl(Normal(*four[:2]), Normal(*four[2:]))
        question = f"KL(N({mu1}, {sigma1}²) ‖ N({mu2}, {sigma2}²))"
        m1, s1, m2, s2 = four
        log, square = (s2 / s1).log(), s1**2 + (m1 - m2) ** 2
        slips = {
            "The two are exchanged.": gaussian_kl(Normal(*four[2:]), Normal(*four[:2])),
            "σ is a deviation, not a variance.": gaussian_kl(Normal(m1, s1.sqrt()), Normal(m2, s2.sqrt())),
            "A factor ½ is missing.": 2 * expected,
            "A constant is missing: a density is at no distance from itself.": expected + 0.5,
            "The sign of the logarithm is wrong.": expected - 2 * log,
            "The heights differ too: where is the logarithm?": expected - log,
            "The means differ too.": log + s1**2 / (2 * s2**2) - 0.5,
            "The deviations differ too.": (m1 - m2) ** 2 / (2 * s2**2),
            "The square in an exponent has a factor ½.": log + square / s2**2 - 0.5,
            "Square the deviation in the denominator.": log + square / (2 * s2) - 0.5,
            "Square the distance of the means.": log + (s1**2 + (m1 - m2).abs()) / (2 * s2**2) - 0.5,
            "The sign is wrong: a divergence is not negative.": -expected,
            "In nats, please: the natural logarithm.": expected / math.log(2),
        }
        hint = "Take the logarithm of the quotient term by term. Under which curve is the mean?"
        yield Case(question, asked(answer, *four), expected, 1e-5, hint, telling(slips, expected))
