"""What a function of a batch gave: its shape, and whether its values are numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from genlib import _arguments as require


def one_each(name: str, values: object, x: Tensor) -> Tensor:
    """Return what the function `name` gave for the batch x: one number for each example, (B,)."""
    if not isinstance(values, Tensor) or values.shape != (len(x),):
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name} must return shape ({len(x)},), got {got}")
    return values


def finite_each(name: str, values: object, x: Tensor) -> Tensor:
    """Like `one_each`; the numbers must be finite."""
    values = one_each(name, values, x)
    if not require.holds(torch.isfinite(values).all()):
        raise RuntimeError(
            f"{name} is not finite at {int((~torch.isfinite(values)).sum())} of {len(x)} examples"
        )
    return values


def examples(name: str, x: object) -> Tensor:
    """Return `x` after checking that it is a tensor that holds at least one example, (B, *E)."""
    if not isinstance(x, Tensor) or x.ndim < 1 or not len(x):
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} must be a tensor (B, *E) with B at least 1, got {got}")
    return x
