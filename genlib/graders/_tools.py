"""What the graders share: cases are the same numbers on every machine, whatever device and dtype the reader has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
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


def real(ask: Callable[[], object]) -> Callable[[], object]:
    """The same reply, as a real number where it is a complex one without imaginary part."""

    def asked() -> object:
        reply = ask()
        if isinstance(reply, complex | np.complexfloating | np.ndarray | Tensor) and np.ndim(reply) == 0:
            number = reply.item() if isinstance(reply, np.ndarray | Tensor) else reply
            if isinstance(number, complex | np.complexfloating):
                if abs(number.imag) > 1e-6:
                    raise ValueError("a complex number: which part of it is asked?")
                return float(number.real)
        return reply

    return asked


def telling(slips: Mapping[str, object], expected: object) -> dict[str, object]:
    """The slips that do not happen to give the right answer."""
    right = torch.as_tensor(expected, **EXACT)
    pairs = ((slip, torch.as_tensor(wrong, **EXACT)) for slip, wrong in slips.items())
    return {s: w for s, w in pairs if w.shape != right.shape or not torch.allclose(w, right, atol=2e-3)}
