"""Shapes: what many formulas say about each example of a batch, and what a module returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def squared(x: Tensor) -> Tensor:
    """Squared length of each example, (B, *E) → (B,)."""
    return x.flatten(1).square().sum(1)


def column(values: Tensor, x: Tensor) -> Tensor:
    """Give one number an example, (B,), as many dimensions as x has."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


@contextmanager
def evaluating(module: object) -> Iterator[None]:
    """Without gradient, and with a module in evaluation mode; afterwards each of its parts is in the mode it had."""
    parts = list(module.modules()) if isinstance(module, nn.Module) else []
    modes = [part.training for part in parts]
    try:
        for part in parts:
            part.training = False
        with torch.no_grad():
            yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


def like_parameters(module: object) -> Tensor:
    """A tensor with the device and dtype of the module's first parameter; torch's defaults if it has none."""
    parameters: Callable = getattr(module, "parameters", lambda: iter(()))
    return next(parameters(), torch.empty(0)).detach()
