"""Simulation of a process, step by step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import normal
from genlib.sde.processes import Process


@torch.no_grad()
def simulate(
    process: Process,
    x: Tensor,
    times: Tensor | Sequence[float],
    after: Callable[[int, float, Tensor], None] | None = None,
    *,
    increments: Tensor | None = None,
    stratonovich: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""The scheme of Euler and Maruyama, from x (B, *E) at the first time to the points (B, *E) at the last.

    .. math:: x \leftarrow x + f(x, t)\, \Delta t + g(x, t)\, \Delta W

    For noise in the sense of Stratonovich, the scheme of Heun: drift and noise are means of those at both ends of an
    Euler step (Kloeden and Platen 1992, doi:10.1007/978-3-662-12616-5).

    Args:
        process: with ``drift(x, t)`` and ``noise(x, t)``.
        x: where the points start; it is not changed.
        times: (N + 1,) rising.
        after: called with k, the time and the points after step k = 1, …, N; it must not change them.
        increments: (N, B, *E) increments ΔW of the Brownian motion, in place of fresh ones.
        stratonovich: whether the noise is meant in the sense of Stratonovich.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: x is no batch of finite numbers, the times do not rise, the drift has another shape than x, or the
            noise or the increments do not fit.
        RuntimeError: drift, noise or points are not finite; the message names the step and the time.
    """
    x, times = require.vectors("x", x), _rising(times)
    N = len(times) - 1
    if increments is not None:
        increments = require.real_tensor("increments", increments, like=x)
        if increments.shape != (N, *x.shape):
            raise ValueError(f"increments must have shape {(N, *x.shape)}, got {tuple(increments.shape)}")
    for k, (t, after_t) in enumerate(itertools.pairwise(times), 1):
        when = f"step {k} of {N}, t = {t:.6g}"
        dt = after_t - t
        dW = normal(x.shape, x, generator) * dt**0.5 if increments is None else increments[k - 1]
        f, g = _at(process, x, t, when)
        end = x + f * dt + g * dW
        if stratonovich:
            f_end, g_end = _at(process, end, after_t, when)
            end = x + (f + f_end) / 2 * dt + (g + g_end) / 2 * dW
        x = end
        if after is not None:
            after(k, after_t, x)
    if not torch.isfinite(x).all():
        raise RuntimeError(f"the points are not finite after {when}")
    return x


def _at(process: Process, x: Tensor, t: float, when: str) -> tuple[Tensor, Tensor]:
    """Drift (B, *E) and noise, which broadcasts to (B, *E), at one time."""
    f = require.same_shape("drift", process.drift(x, t), x).to(x)
    if not torch.isfinite(f).all():
        raise RuntimeError(f"the drift is not finite at {when}")
    g = torch.as_tensor(process.noise(x, t), dtype=x.dtype, device=x.device)
    if not torch.isfinite(g).all():
        raise RuntimeError(f"the noise is not finite at {when}")
    try:
        fits = torch.broadcast_shapes(g.shape, x.shape) == x.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"noise must broadcast to shape {tuple(x.shape)}, got {tuple(g.shape)}")
    return f, g


def _rising(times: Tensor | Sequence[float]) -> list[float]:
    times = require.real_tensor("times", times, like=torch.empty(0, dtype=torch.float64, device="cpu"))
    if times.ndim != 1 or len(times) < 2 or (times.diff() <= 0).any():
        raise ValueError(
            f"times must hold at least two numbers that rise, each step above 0, got {times.tolist()}"
        )
    return times.tolist()
