"""Invertible functions of one number, applied entry by entry with parameters that a network chooses."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from genlib import _arguments as require


class Elementwise(ABC):
    """A family of increasing functions of one number, with ``count`` free parameters.

    Both directions take entries (..., *E) and parameters (..., *E, count) or (*E, count). They return the new entries
    and the logarithm of the derivative of the map just applied, both (..., *E).
    """

    count: int

    @abstractmethod
    def forward(self, z: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Latent to data."""

    @abstractmethod
    def inverse(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Data to latent."""


class Affine(Elementwise):
    r"""Scale and shift, :math:`x = z e^s + m` (Dinh et al. 2016, arXiv:1605.08803).

    The raw scale is kept in (−limit, limit) by :math:`s = \ell \tanh(\theta_1 / \ell)`, so that no step of training can
    blow a layer up.

    Args:
        limit: ℓ, the largest |s|.
    """

    count = 2

    def __init__(self, limit: float = 3.0) -> None:
        self.limit = require.positive("limit", limit)

    def forward(self, z: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Latent to data, z e^s + m."""
        s, m = self._scale_shift(theta)
        return z * s.exp() + m, s

    def inverse(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Data to latent, (x − m) e^−s."""
        s, m = self._scale_shift(theta)
        return (x - m) * (-s).exp(), -s

    def _scale_shift(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        return self.limit * torch.tanh(theta[..., 0] / self.limit), theta[..., 1]


class Histogram(Elementwise):
    r"""Cumulative distribution of a histogram: data in [0, 1] to latent in [0, 1], linear within each of K equal bins.

    The parameters are logits: bin k, from k / K to (k + 1) / K, has the probability
    :math:`p_k = \mathrm{softmax}(\theta)_k`, and

    .. math:: z = p_0 + \dots + p_{k-1} + (K x - k)\, p_k, \quad k = \lfloor K x \rfloor.

    If x follows the histogram, z is uniform. Beyond the ends the first and the last line go on. Going from latent to
    data divides by p_k: in float32 keep it above 1e-5 or so.

    Args:
        bins: K, at least 2.
    """

    def __init__(self, bins: int) -> None:
        self.count = require.whole_number("bins", bins, 2)

    def forward(self, z: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Latent to data: look up the bin."""
        p, before = self._bars(theta)
        k = (z[..., None] >= before[..., 1:]).sum(-1)
        p, before = self._at(p, k), self._at(before, k)
        return (k + (z - before) / p) / self.count, -(self.count * p).log()

    def inverse(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Data to latent: the cumulative distribution."""
        p, before = self._bars(theta)
        k = (self.count * x.detach()).floor().long().clamp(0, self.count - 1)
        p, before = self._at(p, k), self._at(before, k)
        return before + (self.count * x - k) * p, (self.count * p).log()

    @staticmethod
    def _bars(theta: Tensor) -> tuple[Tensor, Tensor]:
        p = theta.softmax(-1)
        return p, functional.pad(p.cumsum(-1)[..., :-1], (1, 0))

    @staticmethod
    def _at(table: Tensor, k: Tensor) -> Tensor:
        return table.expand(*k.shape, -1).gather(-1, k[..., None])[..., 0]


class Spline(Elementwise):
    r"""Monotone rational-quadratic spline with identity tails (Durkan et al. 2019, arXiv:1906.04032).

    Parameters of zero give the identity. On [−bound, bound] the function runs through K + 1 knots. With
    :math:`\xi \in [0, 1]` the place within a bin of width w and height h, :math:`\delta = h / w`, and
    :math:`d_0, d_1` the slopes at its ends,

    .. math:: x = x_0 + h \frac{\delta \xi^2 + d_0 \xi (1 - \xi)}{\delta + (d_0 + d_1 - 2 \delta)\, \xi (1 - \xi)}.

    Outside the interval it is the identity, and the slope at both ends is 1.

    Args:
        bins: K, at least 2.
        bound: the interval is [−bound, bound], in units of z.
        least: smallest width and height of a bin as a share of the interval, and smallest slope at a knot.
    """

    def __init__(self, bins: int = 8, bound: float = 4.0, least: float = 1e-3) -> None:
        self.bins, self.bound = require.whole_number("bins", bins, 2), require.positive("bound", bound)
        self.least = require.positive("least", least)
        if self.least * self.bins >= 1:
            raise ValueError(f"least must be below 1 / bins = {1 / self.bins:g}, got {least}")
        self.count = 3 * self.bins - 1
        self._slope_one = math.log(math.expm1(1 - self.least))  # softplus of it, plus least, is 1

    def forward(self, z: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Latent to data: evaluate the spline."""
        inside = (z > -self.bound) & (z < self.bound)
        near = torch.where(inside, z, 0.0)  # what lies outside never meets the formula, nor does its gradient
        z0, w, x0, h, d0, d1 = self._bin(near, theta, 0)
        xi = ((near - z0) / w).clamp(0, 1)
        delta = h / w
        both = xi * (1 - xi)
        x = x0 + h * (delta * xi.square() + d0 * both) / (delta + (d0 + d1 - 2 * delta) * both)
        return torch.where(inside, x, z), torch.where(inside, self._log_slope(xi, delta, d0, d1), 0.0)

    def inverse(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Data to latent: solve a quadratic equation within the bin."""
        inside = (x > -self.bound) & (x < self.bound)
        near = torch.where(inside, x, 0.0)
        z0, w, x0, h, d0, d1 = self._bin(near, theta, 1)
        delta, up = h / w, near - x0
        bend = up * (d0 + d1 - 2 * delta)
        a, b, c = h * (delta - d0) + bend, h * d0 - bend, -delta * up
        root = (b.square() - 4 * a * c).clamp(min=0).sqrt()
        # the root in [0, 1], in the one of its two forms that does not subtract nearly equal numbers; a > 0 where b < 0
        xi = torch.where(
            b < 0, (root - b) / torch.where(b < 0, 2 * a, 1.0), -2 * c / torch.where(b < 0, 1.0, b + root)
        )
        xi = xi.clamp(0, 1)
        z = z0 + xi * w
        return torch.where(inside, z, x), torch.where(inside, -self._log_slope(xi, delta, d0, d1), 0.0)

    def _bin(self, x: Tensor, theta: Tensor, side: int) -> tuple[Tensor, ...]:
        """The bin of each entry, found by its latent (side 0) or data (side 1) edges: z0, w, x0, h, d0 and d1."""
        theta = theta.expand(*x.shape, -1)
        raw, slopes = theta.split([2 * self.bins, self.bins - 1], -1)
        share = raw.unflatten(-1, (2, self.bins)).softmax(-1)
        size = 2 * self.bound * (self.least + (1 - self.least * self.bins) * share)  # (..., 2, K)
        edge = functional.pad(size.cumsum(-1)[..., :-1], (1, 0)) - self.bound  # left edges
        k = (x[..., None] >= edge[..., side, 1:]).sum(-1, keepdim=True)  # (..., 1)
        both = k[..., None, :].expand(*k.shape[:-1], 2, 1)
        w, h = size.gather(-1, both)[..., 0].unbind(-1)
        z0, x0 = edge.gather(-1, both)[..., 0].unbind(-1)
        at_ends = functional.pad(slopes, (1, 1)).gather(-1, torch.cat([k, k + 1], -1))  # 0 gives slope 1
        d0, d1 = (self.least + functional.softplus(at_ends + self._slope_one)).unbind(-1)
        return z0, w, x0, h, d0, d1

    @staticmethod
    def _log_slope(xi: Tensor, delta: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
        both = xi * (1 - xi)
        above = d1 * xi.square() + 2 * delta * both + d0 * (1 - xi).square()
        below = delta + (d0 + d1 - 2 * delta) * both
        return 2 * delta.log() + above.log() - 2 * below.log()
