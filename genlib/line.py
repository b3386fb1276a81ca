"""The real line in float64: normal densities, and integrals by the trapezoid rule."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from genlib import _arguments as require


def grid(low: float, high: float, count: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Evenly spaced places (count,) from `low` to `high`, and the integral over them, (..., count) → (...).

    For smooth functions that vanish at both ends the trapezoid rule is right to rounding as soon as the places are
    close enough (Trefethen and Weideman 2014, SIAM Review 56, 385-458).

    Raises:
        ValueError: low is not below high, or fewer than two places.
    """
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")
    places = torch.linspace(low, high, require.whole_number("count", count, 2), dtype=torch.float64)
    return places, lambda values: torch.trapezoid(values, places)


def normal(mean: float | Tensor, deviation: float | Tensor) -> Normal:
    """The normal distribution in float64."""
    return Normal(*(torch.as_tensor(number, dtype=torch.float64) for number in (mean, deviation)))
