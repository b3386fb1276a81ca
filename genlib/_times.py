"""Times on the clock of the book, from 0, data, to 1, noise: one number, or a tensor with one for each example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._shapes import column

Time = float | Tensor


def within(t: Time) -> Time:
    """Return a time after checking that it lies in [0, 1]."""
    inside = (
        require.holds(((t >= 0) & (t <= 1)).all()) if isinstance(t, Tensor) else _number(t) and 0 <= t <= 1
    )
    if not inside:
        shown = (
            f"from {t.min().item():.6g} to {t.max().item():.6g}"
            if isinstance(t, Tensor) and t.numel()
            else repr(t)
        )
        raise ValueError(f"t must lie in [0, 1], got {shown}")
    return t


def _number(t: object) -> bool:
    return isinstance(t, int | float) and not isinstance(t, bool)


def given(t: Time, formula: Callable[[Tensor], Tensor]) -> Time:
    """The value of a formula at a time in [0, 1], as a number where the time is one."""
    if isinstance(within(t), Tensor):
        return formula(t)
    return formula(torch.tensor(t, dtype=torch.float64, device="cpu")).item()


def at(value: Time, x: Tensor) -> Time:
    """One number, or one for each example (B,) with as many dimensions as x."""
    if not isinstance(value, Tensor) or not value.ndim:
        return value
    if value.shape != x.shape[:1]:
        raise ValueError(f"t must be one number or have shape ({len(x)},), got {tuple(value.shape)}")
    return column(value, x)
