"""What the graders share: cases are the same numbers on every machine, whatever device and dtype the reader has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

EXACT = {"device": "cpu", "dtype": torch.float64}


def normal(seed: int, *shape: int) -> Tensor:
    """Normal numbers of the given shape."""
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), **EXACT)


def uniform(seed: int, *shape: int) -> Tensor:
    """Numbers in [0, 1) of the given shape."""
    return torch.rand(shape, generator=torch.Generator("cpu").manual_seed(seed), **EXACT)


def asked(answer: Callable[..., object], *arguments: object) -> Callable[[], object]:
    """The answer's reply to the arguments, when it is asked for."""
    return lambda: answer(*arguments)


def telling(slips: Mapping[str, object], expected: object) -> dict[str, object]:
    """The slips that do not happen to give the right answer."""
    right = torch.as_tensor(expected, **EXACT)
    pairs = ((slip, torch.as_tensor(wrong, **EXACT)) for slip, wrong in slips.items())
    return {s: w for s, w in pairs if w.shape != right.shape or not torch.allclose(w, right, atol=2e-3)}
