r"""How large a normaliser is, where nothing can be listed: weights of walks from a law that is known.

Each walk starts where the first energy is at rest and is led along a way of energies to the last one. Its weight says
how much harder or easier each change of the energy made it. The mean weight is Z of the last over Z of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib.energy._values import one_each


class Walker(Protocol):
    """An energy, and a move that leaves exp(−energy) at rest."""

    def energy(self, x: Tensor) -> Tensor:
        """Energy in nats, (B, *E) → (B,)."""

    def move(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw where x goes, (B, *E) → (B, *E)."""


@torch.no_grad()
def ais(
    path: Callable[[float], Walker],
    betas: Tensor | Sequence[float],
    x: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Annealed importance sampling: log w of each walk, (B, *E) → (B,) (Neal 2001, doi:10.1023/A:1008923215028).

    .. math:: \log w = \sum_{k=1}^{K} E_{k-1}(x_{k-1}) - E_k(x_{k-1}), \qquad
        x_k \sim \text{move}_k(\cdot \mid x_{k-1}), \qquad \mathbb{E}[w] = \frac{Z_K}{Z_0}

    The mean of w has no bias, however few the steps are; its logarithm lies below log Z_K/Z_0 on average. Turned round,
    from exact draws at the last β down to the first, it gives Z_0/Z_K in the same way, so minus its log-mean lies above
    log Z_K/Z_0 on average (Grosse et al. 2015, arXiv:1511.02543).

    Turned round and started at a point v, it says where the walks lead: exp(−E_K(v))/Z_0 · E[w] is the probability that
    a walk from β_0 to β_K stands at v in the end (Burda et al. 2015, arXiv:1412.8566). For this the moves must be in
    detailed balance, as those of `RBM` are.

    Args:
        path: β ↦ energy and move. A machine with a temperature is meant at temperature 1.
        betas: β_0 to β_K, in [0, 1], rising or falling.
        x: exact draws at β_0.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: there are fewer than two betas, they lie outside [0, 1] or neither rise nor fall, or an energy has
            another shape than (B,).
        RuntimeError: a weight is not a number; the message names the step.
    """
    betas = _ordered(betas)
    now, log_w = path(betas[0]), 0.0
    for k, beta in enumerate(betas[1:], 1):
        then = path(beta)
        log_w = log_w + one_each("energy", now.energy(x), x) - one_each("energy", then.energy(x), x)
        if log_w.isnan().any():
            raise RuntimeError(f"the weights are not numbers after step {k}, at beta {beta:.6g}")
        if k < len(betas) - 1:
            x = then.move(x, generator=generator)
        now = then
    return log_w


def log_mean(log_w: Tensor, dim: int = 0) -> Tensor:
    """Logarithm of the mean of w along a dimension.

    Raises:
        ValueError: there is no weight, or one is not a number.
    """
    log_w = _weights(log_w, dim)
    return log_w.logsumexp(dim) - log_w.new_tensor(log_w.shape[dim]).log()


def effective(log_w: Tensor, dim: int = 0) -> Tensor:
    """How many equal weights would be worth as much as these: (Σ w)² / Σ w² along a dimension (Kong 1992).

    Raises:
        ValueError: there is no weight, or one is not a number.
    """
    log_w = _weights(log_w, dim)
    return (2 * log_w.logsumexp(dim) - (2 * log_w).logsumexp(dim)).exp()


def _ordered(betas: Tensor | Sequence[float]) -> list[float]:
    betas = require.real_tensor("betas", betas, like=torch.empty(0, dtype=torch.float64))
    if betas.ndim != 1 or len(betas) < 2:
        raise ValueError(f"betas must have shape (K + 1,) with K at least 1, got {tuple(betas.shape)}")
    if not ((betas >= 0) & (betas <= 1)).all():
        raise ValueError(f"betas must lie in [0, 1], got {betas.min().item():g} to {betas.max().item():g}")
    steps = betas.diff()
    if not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError("betas must rise or fall all the way, got steps of both signs or of 0")
    return betas.tolist()


def _weights(log_w: Tensor, dim: int) -> Tensor:
    log_w = require.real_events("log_w", log_w, ())
    if not log_w.ndim or not log_w.shape[dim]:
        raise ValueError(f"log_w must hold at least one weight, got shape {tuple(log_w.shape)}")
    return log_w
