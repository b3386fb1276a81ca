"""Random numbers like a tensor: on its device, in its dtype, and from a generator where one is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def normal(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(tuple(shape), generator=generator, device=like.device, dtype=like.dtype)


def uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers in [0, 1)."""
    return torch.rand(tuple(shape), generator=generator, device=like.device, dtype=like.dtype)


@contextmanager
def drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """Let what draws from torch's global generator, such as `torch.distributions`, draw from this one instead.

    The global generator is as before afterwards. Without a generator nothing changes.
    """
    if generator is None:
        yield
        return
    on_gpu = generator.device.type == "cuda"
    with torch.random.fork_rng(devices=[generator.device] if on_gpu else []):
        state = torch.cuda if on_gpu else torch
        where = (generator.device,) if on_gpu else ()
        state.set_rng_state(generator.get_state(), *where)
        yield
        generator.set_state(state.get_rng_state(*where))
