"""Normal distributions side by side: what the entries seen say of a row, and covariances by their kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib.mixture.moments import Moments, by_size, pooled


class Given(NamedTuple):
    r"""What the entries seen of n rows say, by each component.

    Attributes:
        gap: :math:`E[x \mid k] - \mu_k`, (K, D, n).
        log_parts: log-density in nats of the entries seen, (K, n).
        lost: from responsibilities (K, n) to the sum of what the covariances of the missing entries add to the scatter.
    """

    gap: Tensor
    log_parts: Tensor
    lost: Callable[[Tensor], Tensor | float]


def given_variances(gap: Tensor, variances: Tensor, seen: Tensor | None) -> Given:
    """Where entries are independent: gaps x − μ (K, D, n), variances (K, D), a mask (n, D) or None."""
    scale = variances.sqrt()[..., None]
    if seen is None:
        return Given(gap, _log_normal(gap / scale, scale.log().sum(1)), lambda r: 0.0)
    gap, scale = torch.where(seen.T, gap, 0.0), torch.where(seen.T, scale, 1.0)
    log_parts = _log_normal(gap / scale, scale.log().sum(1), seen.sum(1))
    return Given(gap, log_parts, lambda r: r @ (~seen).to(r) * variances)


def given_matrices(gap: Tensor, covariances: Tensor, factor: Tensor, seen: Tensor | None) -> Given:
    """Where they are not: covariances and their Cholesky factors (K, D, D), or (D, D) where one is for all."""
    if seen is None:
        return Given(gap, _log_normal(inverse(factor) @ gap, _log_scale(factor)), lambda r: 0.0)
    patterns, label, size = seen.unique(dim=0, return_inverse=True, return_counts=True)
    places = label.argsort().split(size.tolist())  # the rows of each pattern
    parts = [_pattern(gap[..., rows], covariances, mask) for mask, rows in zip(patterns, places, strict=True)]
    gap, log_parts, left = zip(*parts, strict=True)
    back = torch.cat(places).argsort()

    def lost(r: Tensor) -> Tensor:
        return sum(r[:, rows].sum(1)[:, None, None] * part for rows, part in zip(places, left, strict=True))

    return Given(torch.cat(gap, -1)[..., back], torch.cat(log_parts, -1)[..., back], lost)


def _pattern(gap: Tensor, covariances: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Of rows in which the same entries are seen, (D,): the gap filled, log p, and the covariance that is left.

    With V = Σ among the entries seen, 1 on the diagonal elsewhere, the missing ones have the mean
    :math:`\Sigma V^{-1}` gap and the covariance :math:`\Sigma - \Sigma V^{-1} \Sigma`.
    """
    gap = torch.where(seen[:, None], gap, 0.0)
    inner = torch.where(seen[:, None] & seen, covariances, torch.eye(len(seen)).to(gap))  # V
    factor = torch.linalg.cholesky(inner)
    white = inverse(factor)
    across, z = torch.where(seen, covariances, 0.0) @ white.mT, white @ gap
    left = covariances - across @ across.mT
    return torch.where(seen[:, None], gap, across @ z), _log_normal(z, _log_scale(factor), seen.sum()), left


def inverse(factor: Tensor) -> Tensor:
    """Inverse of a lower triangle, (..., D, D)."""
    eye = torch.eye(factor.shape[-1]).to(factor)
    return torch.linalg.solve_triangular(factor, eye, upper=False)


def _log_scale(factor: Tensor) -> Tensor:
    """½ log det Σ of Σ = L Lᵀ, (..., D, D) → (..., 1)."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)


def _log_normal(z: Tensor, log_scale: Tensor, dims: Tensor | None = None) -> Tensor:
    """log N(x) by the whitened gap z (K, D, n), ½ log det Σ, and how many entries count, all when None."""
    dims = z.shape[1] if dims is None else dims.to(z)
    return -0.5 * (z.square().sum(1) + dims * math.log(2 * math.pi)) - log_scale


def covariances_of(kind: str, moments: Moments) -> Tensor:
    """Covariances of a kind that fit the moments best."""
    size, _, scatter = moments
    if kind == "tied":
        return scatter.sum(0) / size.sum()
    return by_size(1 / size, scatter if kind != "round" else scatter.mean(1))


def all_rows(x: Tensor, counts: Tensor, seen: Tensor | None, kind: str) -> Moments:
    """Moments of all data as one group; a missing entry has the mean and variance of its column."""
    weight = counts[:, None] if seen is None else counts[:, None] * seen  # (n, 1) or (n, D)
    rows = weight.sum(0)
    if not (rows > 0).all():
        raise ValueError(f"seen must show an entry of each column, got none of column {int(rows.argmin())}")
    base = x[0]
    mean = base + (weight * (x - base)).sum(0) / rows
    gap = x - mean if seen is None else torch.where(seen, x - mean, 0.0)
    variance = (weight * gap.square()).sum(0) / rows
    if kind in ("diagonal", "round"):
        return Moments(counts.sum(), mean, counts.sum() * variance)
    scatter = (counts[:, None] * gap).T @ gap
    return Moments(counts.sum(), mean, scatter + ((counts.sum() - rows) * variance).diag())


def pivots(covariances: Tensor, kind: str) -> Tensor:
    """Variance of each entry given those before it, (K, D), (K, 1) or (D,); 0 where there is no Cholesky factor."""
    if kind in ("diagonal", "round"):
        return covariances.reshape(len(covariances), -1)
    factor, info = torch.linalg.cholesky_ex(covariances)
    return torch.where((info == 0)[..., None], factor.diagonal(dim1=-2, dim2=-1).square(), 0.0)


def least(moments: Moments) -> Tensor:
    """Variances, (D,), that are rounding beside those of all rows together."""
    whole = pooled(moments, torch.zeros_like(moments.size, dtype=torch.long), 1)
    scatter = whole.scatter[0] if whole.scatter.ndim == 2 else whole.scatter[0].diagonal()
    return 10 * torch.finfo(scatter.dtype).eps * scatter / whole.size


def data(x: object, seen: Tensor | None, like: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Return rows (n, D), 0 where missing, in the dtype of `like`, and `seen`, None where nothing is missing."""
    dims = "D" if like is None else like.shape[1]
    if not isinstance(x, Tensor) or x.ndim != 2 or (like is not None and x.shape[1] != dims):
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x must be a tensor of shape (n, {dims}), got {got}")
    if seen is not None:
        if not isinstance(seen, Tensor) or seen.dtype != torch.bool or seen.shape != x.shape:
            got = f"{seen.dtype} {tuple(seen.shape)}" if isinstance(seen, Tensor) else type(seen).__name__
            raise ValueError(f"seen must be bool and have the shape of x, {tuple(x.shape)}, got {got}")
        x = torch.where(seen, x, torch.zeros_like(x))
        seen = None if require.holds(seen.all()) else seen
    elif x.is_floating_point() and not require.holds(~torch.isnan(x).any()):
        raise ValueError("x must not hold NaN: give `seen`, False where an entry is missing")
    if not require.holds(torch.isfinite(x).all()):
        raise ValueError("x must hold finite numbers, got infinity")
    x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    return (x if like is None else x.to(like)), seen
