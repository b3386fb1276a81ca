"""What many formulas say about each example of a batch."""

from __future__ import annotations

from torch import Tensor


def squared(x: Tensor) -> Tensor:
    """Squared length of each example, (B, *E) → (B,)."""
    return x.flatten(1).square().sum(1)


def column(values: Tensor, x: Tensor) -> Tensor:
    """Give one number an example, (B,), as many dimensions as x has."""
    return values.reshape(-1, *[1] * (x.ndim - 1))
