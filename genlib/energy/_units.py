"""Units of 0 and 1: what may be given for them, how they are drawn, and sums over all their states."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genlib import _arguments as require
from genlib._random import uniform
from genlib.data.lattices import MOST, states

ROWS = 4096  # so many states are looked at at once


def binary(name: str, x: object, like: Tensor) -> Tensor:
    """Like `units`; there must be one batch of them, (B, D)."""
    x = units(name, x, like)
    if x.ndim != 2:
        raise ValueError(f"{name} must have shape (B, {len(like)}), got {tuple(x.shape)}")
    return x


def units(name: str, x: object, like: Tensor) -> Tensor:
    """Return `x`, (..., D), in the dtype of `like`, (D,), after checking that it holds only 0 and 1."""
    return require.bits(name, x, like.shape).to(like.dtype)


def tossed(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw 0 or 1 for each logit, in its dtype."""
    return (uniform(logits.shape, logits, generator) < logits.sigmoid()).to(logits)


def softplus(a: Tensor) -> Tensor:
    """log(1 + exp a), to the last digit at any a."""
    return torch.logaddexp(a, a.new_zeros(()))


def log_sum(log_weight: Callable[[Tensor], Tensor], size: int, like: Tensor) -> Tensor:
    """log Σ exp(log_weight(s)) over all states s of `size` units, in the dtype of `like`.

    `log_weight` maps (S, size) → (S, *A). It gets at most 4096 states at a time. Where there are more and a gradient is
    wanted it runs once more for that, so that memory stays small.
    """

    def part_sum(part: Tensor) -> Tensor:
        return log_weight(part.to(like.dtype)).logsumexp(0)

    parts = states(size, device=like.device).split(ROWS)
    if len(parts) > 1 and torch.is_grad_enabled():
        sums = [checkpoint(part_sum, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    else:
        sums = [part_sum(part) for part in parts]
    return torch.stack(sums).logsumexp(0)


def log_partition(weight: Tensor, bias: Tensor, hidden_bias: Tensor) -> Tensor:
    """log Z of a restricted machine in nats, exact, a scalar."""
    listable(weight)
    if weight.shape[0] < weight.shape[1]:
        weight, bias, hidden_bias = weight.mT, hidden_bias, bias
    return log_sum(lambda h: h @ hidden_bias + softplus(h @ weight.mT + bias).sum(1), len(hidden_bias), bias)


def listable(weight: Tensor) -> None:
    """Raise ValueError where both sides of a restricted machine, W (D, H), have too many states to list."""
    if min(weight.shape) > MOST:
        sizes = " × ".join(map(str, weight.shape))
        raise ValueError(
            f"one side of the machine must have at most {MOST} units to list all states, got {sizes}"
        )


def drawn(log_w: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """Draw n numbers of states, exact and independent, (S,) → (n,)."""
    return torch.multinomial(log_w.double().softmax(0), n, replacement=True, generator=generator)


def other(x: Tensor, allowed: Sequence[int]) -> float:
    """The first number that is not allowed."""
    return x[~sum(x == number for number in allowed).bool()][0].item()


def parameter(value: Tensor) -> nn.Parameter:
    """A parameter with a copy of these values."""
    return nn.Parameter(value.detach().clone().contiguous())
