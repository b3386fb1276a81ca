"""Log-densities and scores that were handed in: their shapes, and what to say when they are no numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genlib import _arguments as require

LogProb = Callable[[Tensor], Tensor]
Score = Callable[[Tensor], Tensor]


def value(log_prob: LogProb, x: Tensor, when: str) -> Tensor:
    """Log-density (B,) of the points x (B, *E); −∞ is allowed, NaN is not."""
    return one_each("log_prob", log_prob(x), x, f"the log-density is not a number at {when}")


def one_each(name: str, density: object, x: Tensor, complaint: str) -> Tensor:
    """Return what a function gave for the batch x, one number (B,) for each point, none NaN."""
    if not isinstance(density, Tensor) or density.shape != (len(x),):
        got = tuple(density.shape) if isinstance(density, Tensor) else type(density).__name__
        raise ValueError(f"{name} must return shape ({len(x)},), got {got}")
    if torch.isnan(density).any():
        raise RuntimeError(complaint)
    return density


def value_and_slope(log_prob: LogProb, x: Tensor, when: str) -> tuple[Tensor, Tensor]:
    """Log-density (B,) and its gradient in x (B, *E); `when` says in a message which step it was."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        density = value(log_prob, x, when)
        (slope,) = torch.autograd.grad(density.sum(), x)
    return density.detach(), finite(slope, x, when)


def finite(s: Tensor, x: Tensor, when: str) -> Tensor:
    """Return the score s, which must have the shape of x and be finite."""
    if not torch.isfinite(require.same_shape("score", s, x)).all():
        raise RuntimeError(f"the score is not finite at {when}")
    return s
