"""Graders of the lesson on KL divergence and cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.discrete import kl_divergence


def _table(seed: int, *shape: int) -> Tensor:
    """Random probabilities of the given shape that sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).flatten().softmax(0).reshape(shape)


_RAIN = torch.tensor([0.09, 0.14, 0.05, 0.02], dtype=torch.float64) / 0.30
_SUNNY = torch.tensor([0.22, 0.06, 0.02, 0.20], dtype=torch.float64) / 0.50


@grader("ex:kl-bits")
def _bits(answer: object) -> Iterator[Case]:
    bits = (_RAIN * (_RAIN / _SUNNY).log2()).sum()
    hint = "Which divergence is it, which way round, and how many nats are a bit?"
    yield Case("bits wasted per order", lambda: answer, bits, 5e-4, hint)


@grader("ex:kl-chain-rule")
def _chain_rule(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    for seed, shape in enumerate([(2, 2), (3, 4), (5, 2)]):
        p, q = _table(seed, *shape), _table(seed + 10, *shape)
        marginal = kl_divergence(p.sum(1), q.sum(1))
        expected = kl_divergence(p.flatten(), q.flatten()) - marginal
        yield Case(f"random tables of shape {shape}", lambda p=p, q=q: answer(p.clone(), q.clone()), expected)
    same = _table(3, 3, 4)
    shifted = same / same.sum(1, keepdim=True) * _table(4, 3)[:, None]
    question = "tables with the same conditionals but other margins"
    yield Case(question, lambda: answer(same.clone(), shifted.clone()), 0.0)


@grader("ex:kl-mutual-information")
def _mutual_information(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    outer = _table(1, 3)[:, None] * _table(2, 4)
    yield Case("an independent table", lambda: answer(outer.clone()), 0.0)
    yield Case("Y = X, four equal values", lambda: answer(torch.eye(4, dtype=torch.float64) / 4), math.log(4))
    for seed in (5, 6):
        p = _table(seed, 3, 5)
        expected = (p * (p / (p.sum(1, keepdim=True) * p.sum(0, keepdim=True))).log()).sum()
        yield Case("a random table of shape (3, 5)", lambda p=p: answer(p.clone()), expected)


@grader("ex:kl-jensen-shannon")
def _jensen_shannon(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    p, q = _table(7, 5), _table(8, 5)
    middle = (p + q) / 2
    expected = ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2
    yield Case("P against itself", lambda: answer(p.clone(), p.clone()), 0.0)
    yield Case("two random distributions", lambda: answer(p.clone(), q.clone()), expected)
    yield Case("the same two, exchanged", lambda: answer(q.clone(), p.clone()), expected)
    left, right = p.new_tensor([0.4, 0.6, 0.0, 0.0]), p.new_tensor([0.0, 0.0, 0.1, 0.9])
    yield Case("two that share no symbol", lambda: answer(left.clone(), right.clone()), math.log(2))


@grader("ex:kl-gumbel")
def _gumbel(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(9)
    u = torch.rand((20_000, 4), generator=generator, dtype=torch.float64)
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)
    even = torch.full((1, 3), 0.5, dtype=torch.float64)
    yield Case("equal u, the largest logit is number 2", lambda: answer(logits[:3].clone(), even), [2])

    def shares() -> Tensor:
        drawn = torch.as_tensor(answer(logits.clone(), u.clone()))
        return torch.bincount(drawn, minlength=4) / len(u)

    yield Case("the shares of 20,000 draws, within 0.02", shares, logits.softmax(0), 0.02)


@grader("ex:kl-gaussians")
def _gaussians(answer: Callable[[float, float, float, float], object]) -> Iterator[Case]:
    for mu1, sigma1, mu2, sigma2 in [(0, 1, 0, 1), (1, 1, 0, 1), (0, 2, 0, 1), (0.5, 0.3, -1, 2)]:
        first = torch.distributions.Normal(torch.tensor(mu1).double(), torch.tensor(sigma1).double())
        second = torch.distributions.Normal(torch.tensor(mu2).double(), torch.tensor(sigma2).double())
        expected = torch.distributions.kl_divergence(first, second)
        ask = lambda a=mu1, b=sigma1, c=mu2, d=sigma2: answer(float(a), float(b), float(c), float(d))
        yield Case(f"KL(N({mu1}, {sigma1}²) ‖ N({mu2}, {sigma2}²))", ask, expected)
