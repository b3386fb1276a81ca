"""How many rows each component has, their mean, and their scatter around it; such sums add up without cancellation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from genlib import _arguments as require


class Moments(NamedTuple):
    r"""What a normal component has to know of its rows, each row weighted by its responsibility.

    Attributes:
        size: :math:`N_k = \sum_n r_{nk}`, (K,).
        mean: :math:`\bar x_k = \sum_n r_{nk} x_n / N_k`, (K, D).
        scatter: :math:`\sum_n r_{nk} (x_n - \bar x_k)(x_n - \bar x_k)^\top`, (K, D, D), or its diagonal (K, D).
    """

    size: Tensor
    mean: Tensor
    scatter: Tensor


def joined(a: Moments, b: Moments) -> Moments:
    r"""Moments of the rows of both together (Chan, Golub and LeVeque 1983, The American Statistician 37, 242-247).

    .. math:: N = N_a + N_b, \quad \bar x = \bar x_a + \frac{N_b}{N} \delta, \quad
        S = S_a + S_b + \frac{N_a N_b}{N} \delta \delta^\top, \qquad \delta = \bar x_b - \bar x_a

    Moments of one group, without the dimension K, join each of K.
    """
    size, delta = a.size + b.size, b.mean - a.mean
    share = torch.where(size > 0, b.size / size, 0.0)
    scatter = a.scatter + b.scatter + by_size(a.size * share, outer(delta, a.scatter))
    return Moments(size, a.mean + share[..., None] * delta, scatter)


def blend(a: Moments, b: Moments, share: float) -> Moments:
    r"""Moments in which the sums of a count :math:`1 - \gamma` times and those of b :math:`\gamma` times.

    With :math:`\gamma = B / (n + B)` for n rows in a and B in b it is the mean over all rows seen. On-line EM lets γ
    fall more slowly, so that old responsibilities are forgotten (Cappé and Moulines 2009, JRSS B 71, 593-613).

    Args:
        a: moments so far.
        b: those of new rows, by as many components.
        share: γ, from 0 to 1.

    Raises:
        ValueError: share is not from 0 to 1.
    """
    share = float(require.not_negative("share", share))
    if share > 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    return joined(scaled(a, 1 - share), scaled(b, share))


def scaled(moments: Moments, factor: float) -> Moments:
    """The moments where each row counts `factor` times as much."""
    return Moments(factor * moments.size, moments.mean, factor * moments.scatter)


def pooled(moments: Moments, labels: Tensor, groups: int) -> Moments:
    """Join the moments of the same label, (P,) whole numbers from 0 to groups − 1."""
    member = torch.nn.functional.one_hot(labels, groups).T.to(moments.mean)  # (K, P)
    size, base = member @ moments.size, moments.mean[0]
    shift = member @ (moments.size[:, None] * (moments.mean - base))  # (K, D)
    mean = base + shift / at_least_tiny(size)[:, None]
    apart = by_size(moments.size, outer(moments.mean - mean[labels], moments.scatter))
    scatter = torch.einsum("kp,p...->k...", member, moments.scatter + apart)
    return Moments(size, mean, scatter)


def by_size(size: Tensor, scatter: Tensor) -> Tensor:
    """Multiply each component's matrix or vector by a number, (K,) or ()."""
    return size.reshape(size.shape + (1,) * (scatter.ndim - size.ndim)) * scatter


def outer(v: Tensor, like: Tensor) -> Tensor:
    """v vᵀ where scatters are matrices, (K, D) → (K, D, D), or its diagonal where they are not."""
    full = like.shape[-2:] == (v.shape[-1],) * 2 and like.ndim == v.ndim + 1
    return v[..., :, None] * v[..., None, :] if full else v.square()


def at_least_tiny(size: Tensor) -> Tensor:
    """Sizes to divide by: those of components that have lost all rows, 0 or nearly so, would make NaN."""
    return size.clamp(min=torch.finfo(size.dtype).tiny)
