"""Parallel tempering: walks at several temperatures that exchange their places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import normal, uniform
from genlib._shapes import column, squared
from genlib.samplers._slopes import LogProb, value_and_slope


class Tempered(NamedTuple):
    """What `tempering` returns.

    Attributes:
        points: (R, B, *E) where the walks are at each temperature; ``points[0]`` are those of the target.
        accepted: (R,) share of accepted steps at each temperature.
        swapped: (R − 1,) share of accepted exchanges of each temperature with the next.
    """

    points: Tensor
    accepted: Tensor
    swapped: Tensor


def tempering(
    log_prob: LogProb,
    x: Tensor,
    temperatures: Sequence[float] | Tensor,
    steps: int,
    step: float,
    after: Callable[[int, Tensor], None] | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tempered:
    r"""Parallel tempering (Swendsen and Wang 1986, doi:10.1103/PhysRevLett.57.2607; Earl and Deem 2005).

    In each step every walk takes an adjusted Langevin step towards its own :math:`p^{1/T}`, of size ηT:

    .. math:: x \leftarrow x + \eta\, \nabla \log p(x) + \sqrt{2 \eta T}\, \varepsilon

    Then every second pair of neighbouring temperatures may exchange its points, with the probability

    .. math:: \min\Bigl(1, \exp\Bigl[\Bigl(\frac1{T_i} - \frac1{T_j}\Bigr) \log \frac{p(x_j)}{p(x_i)}\Bigr]\Bigr)

    The density and its gradient are taken once for each walk, temperature and step.

    Args:
        log_prob: of the target, up to a constant, (B, *E) → (B,).
        x: where the walks start (B, *E), the same at all temperatures.
        temperatures: (R,) rising from 1.
        steps: how many.
        step: η at temperature 1, in squared data units.
        after: called with k and the points (B, *E) at temperature 1 after step k = 1, 2, …
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: the temperatures are not above 0 or do not rise from 1; else as in `mala`.
        RuntimeError: as in `mala`.
    """
    require.gradients("tempering")
    x, steps, step = (
        require.vectors("x", x).detach(),
        require.whole_number("steps", steps),
        require.positive("step", step),
    )
    T = _ladder(temperatures, x)  # (R,)
    R, B = len(T), len(x)
    x = x.repeat(R, *[1] * (x.ndim - 1))  # (R B, *E)
    hot = T.repeat_interleave(B)  # (R B,)
    accepted, swapped, offered = torch.zeros(R), torch.zeros(R - 1), torch.zeros(R - 1)
    here = value_and_slope(log_prob, x, f"step 1 of {steps}")
    for k in range(1, steps + 1):
        noise = normal(x.shape, x, generator)
        y = x + step * here[1] + column((2 * step * hot).sqrt(), x) * noise
        there = value_and_slope(log_prob, y, f"step {k} of {steps}")
        turn = squared(y - x - step * here[1]) - squared(x - y - step * there[1])
        gain = (there[0] - here[0] + turn / (4 * step)) / hot
        accept = uniform(gain.shape, gain, generator).log() < gain  # (R B,)
        state = [torch.where(column(accept, b), b, a) for a, b in zip((x, *here), (y, *there), strict=True)]
        accepted += accept.reshape(R, B).double().mean(1).to(accepted) / steps
        state = [part.reshape(R, B, *part.shape[1:]) for part in state]
        for i in range(k % 2, R - 1, 2):
            gain = (1 / T[i] - 1 / T[i + 1]) * (state[1][i + 1] - state[1][i])
            swap = uniform((B,), gain, generator).log() < gain  # (B,)
            for part in state:
                low, high, mask = part[i].clone(), part[i + 1].clone(), column(swap, part[i])
                part[i], part[i + 1] = torch.where(mask, high, low), torch.where(mask, low, high)
            swapped[i] += swap.double().mean().to(swapped)
            offered[i] += 1
        x, *here = (part.flatten(0, 1) for part in state)
        if after is not None:
            after(k, x[:B])
    return Tempered(x.reshape(R, B, *x.shape[1:]), accepted, swapped / offered.clamp(min=1))


def _ladder(temperatures: Sequence[float] | Tensor, x: Tensor) -> Tensor:
    """Return the temperatures as a tensor like x, after checking that they rise from 1."""
    T = require.real_tensor("temperatures", temperatures, like=x)
    if T.ndim != 1 or not len(T) or (T <= 0).any() or T[0] != 1 or (T.diff() <= 0).any():
        raise ValueError(f"temperatures must be above 0 and rise from 1, got {T.tolist()}")
    return T
