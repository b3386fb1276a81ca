"""Layers that move the whole space: planar and radial bends, normalisation, and matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from genlib import _arguments as require
from genlib.flows.core import Layer, Pair


class Planar(Layer):
    r"""Push points in one direction, by an amount that depends on another (Rezende, Mohamed 2015, arXiv:1505.05770).

    .. math:: x = z + \hat u \tanh(w^\top z + b), \quad \log|\det J| = \log|1 + (1 - \tanh^2) \hat u^\top w|

    The layer is invertible when :math:`\hat u^\top w > -1`. So û is u with its part along w changed, to
    :math:`m(w^\top u) = -1 + \log(1 + e^{w^\top u})`. The inverse is found numerically.

    Args:
        features: D.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.event_shape = (require.whole_number("features", features),)
        self.w = nn.Parameter(torch.randn(features) / math.sqrt(features))
        self.u = nn.Parameter(0.1 * torch.randn(features))
        self.b = nn.Parameter(torch.zeros(()))

    def u_hat(self) -> Tensor:
        """The direction of the push (D,), after the constraint."""
        along = self.w @ self.u
        return self.u + (self._room() - 1 - along) * self.w / self.w.square().sum()

    def _room(self) -> Tensor:
        """1 + ûᵀw, above 0: what is left of the slope where the push is steepest."""
        return functional.softplus(self.w @ self.u)

    def _forward(self, z: Tensor) -> Pair:
        bend = torch.tanh(z @ self.w + self.b)  # (B,)
        return z + bend[:, None] * self.u_hat(), self._slope(bend).log()

    def _inverse(self, x: Tensor) -> Pair:
        along, push = x @ self.w, self._room() - 1  # wᵀx = a + push · tanh(a + b), to be solved for a = wᵀz

        def height(a: Tensor) -> Tensor:
            return a + push * torch.tanh(a + self.b)

        with torch.no_grad():
            a = solve_increasing(height, along, along - push.abs(), along + push.abs())
            slope = self._slope(torch.tanh(a + self.b))
        left = along - height(a)
        # a step of Newton's that changes nothing, and carries the gradient
        a = a + (left - left.detach()) / slope
        bend = torch.tanh(a + self.b)
        return x - bend[:, None] * self.u_hat(), -self._slope(bend).log()

    def _slope(self, bend: Tensor) -> Tensor:
        """1 + (1 − tanh²) ûᵀw, written without a difference of nearly equal numbers."""
        return bend.square() + (1 - bend.square()) * self._room()


class Radial(Layer):
    r"""Push points towards or away from a centre c (Rezende and Mohamed 2015, arXiv:1505.05770).

    .. math:: x = z + \frac{\beta}{\alpha + r}\,(z - c), \quad r = |z - c|

    With :math:`\beta = -\alpha + \log(1 + e^{b}) > -\alpha` the distance to the centre grows with r, so the layer is
    invertible; the distance before is the root of a quadratic equation.

    Args:
        features: D.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.event_shape = (require.whole_number("features", features),)
        self.centre = nn.Parameter(torch.randn(features))
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.raw_beta = nn.Parameter(torch.full((), math.log(math.e - 1)))  # β = 0: the identity

    def alpha_beta(self) -> tuple[Tensor, Tensor]:
        """α > 0 and β > −α, after the constraint."""
        alpha, both = self._alpha_sum()
        return alpha, both - alpha

    def _alpha_sum(self) -> tuple[Tensor, Tensor]:
        """α and α + β, both above 0."""
        return self.log_alpha.exp(), functional.softplus(self.raw_beta)

    def _forward(self, z: Tensor) -> Pair:
        alpha, both = self._alpha_sum()
        away = z - self.centre
        r = torch.linalg.vector_norm(away, dim=1)  # (B,)
        return self.centre + ((r + both) / (r + alpha))[:, None] * away, self._ladj(r, alpha, both)

    def _inverse(self, x: Tensor) -> Pair:
        alpha, both = self._alpha_sum()
        away = x - self.centre
        reach = torch.linalg.vector_norm(away, dim=1)  # = r (r + α + β) / (r + α), to be solved for r
        c = reach - both
        root = (c.square() + 4 * alpha * reach).sqrt()
        r = torch.where(c > 0, (c + root) / 2, 2 * alpha * reach / (root - c.clamp(max=0)))
        return self.centre + ((r + alpha) / (r + both))[:, None] * away, -self._ladj(r, alpha, both)

    def _ladj(self, r: Tensor, alpha: Tensor, both: Tensor) -> Tensor:
        sideways = ((r + both) / (r + alpha)).log()
        outwards = ((r * (r + 2 * alpha) + alpha * both) / (r + alpha).square()).log()
        return (self.event_shape[0] - 1) * sideways + outwards


class ActNorm(Layer):
    r"""Scale and shift each channel, :math:`x = e^s z + m` (Kingma and Dhariwal 2018, arXiv:1807.03039).

    `initialise` sets s and m from a batch of data, so that each channel of the latent batch has mean 0 and variance 1.

    Args:
        channels: C, the size of the first dimension of an example; the features of a vector.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.event_shape = (require.whole_number("channels", channels), ...)
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        """Take mean and standard deviation of each channel from the batch.

        Raises:
            ValueError: a channel is constant in this batch, or varies by no more than rounding does.
        """
        x = self._checked("x", x)
        each = x.movedim(1, 0).flatten(1)  # (C, everything else)
        spread, middle = each.std(1, correction=0), each.mean(1)
        flat = spread <= 10 * torch.finfo(x.dtype).eps * each.abs().amax(1)
        if flat.any():
            i = int(flat.nonzero()[0, 0])
            raise ValueError(
                f"x must vary in each channel by more than rounding does, got a spread of {spread[i].item():.3g} "
                f"around {middle[i].item():.3g} in channel {i}"
            )
        self.log_scale.copy_(spread.log())
        self.shift.copy_(middle)
        return self.inverse(x)[0]

    def _forward(self, z: Tensor) -> Pair:
        s, m = (self._to_channels(p, z) for p in (self.log_scale, self.shift))
        return z * s.exp() + m, self._ladj(z)

    def _inverse(self, x: Tensor) -> Pair:
        s, m = (self._to_channels(p, x) for p in (self.log_scale, self.shift))
        return (x - m) * (-s).exp(), -self._ladj(x)

    def _ladj(self, x: Tensor) -> Tensor:
        return (self.log_scale.sum() * x.shape[2:].numel()).expand(len(x))

    @staticmethod
    def _to_channels(parameter: Tensor, x: Tensor) -> Tensor:
        return parameter.reshape(-1, *[1] * (x.ndim - 2))


class Conv1x1(Layer):
    r"""One square matrix W for the channels of every pixel (Kingma and Dhariwal 2018, arXiv:1807.03039).

    .. math:: x = W z, \quad \log|\det J| = (\text{number of pixels}) \cdot \log|\det W|

    On vectors it is a plain linear layer.

    Args:
        channels: C, the size of the first dimension of an example; the features of a vector.
        weight: (C, C) matrix to start from; a random rotation when None.
    """

    def __init__(self, channels: int, weight: Tensor | Sequence[Sequence[float]] | None = None) -> None:
        super().__init__()
        self.event_shape = (require.whole_number("channels", channels), ...)
        self._set(_invertible(channels, weight))

    def _set(self, weight: Tensor) -> None:
        self.weight = nn.Parameter(weight)

    def _log_det(self) -> Tensor:
        return torch.linalg.slogdet(self.weight).logabsdet

    def _solve(self, x: Tensor) -> Tensor:
        return torch.linalg.solve(self.weight, x)

    def _forward(self, z: Tensor) -> Pair:
        self._check_precision()
        return torch.einsum("ij,bj...->bi...", self.weight, z), self._ladj(z)

    def _inverse(self, x: Tensor) -> Pair:
        self._check_precision()
        columns = x.movedim(1, 0).flatten(1)  # (C, everything else)
        z = self._solve(columns).reshape(x.shape[1], len(x), *x.shape[2:]).movedim(0, 1)
        return z, -self._ladj(x)

    def _check_precision(self) -> None:
        dtype = next(self.parameters()).dtype
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"weight must be in float32 or float64, where torch solves equations, got {dtype}"
            )

    def _ladj(self, x: Tensor) -> Tensor:
        return (self._log_det() * x.shape[2:].numel()).expand(len(x))


class Conv1x1LU(Conv1x1):
    r"""The same with :math:`W = P L (U + \mathrm{diag}(\pm e^{s}))`, so that log|det W| is the sum of s.

    P is a fixed permutation, L has ones on its diagonal and U zeros; the signs stay as they were at the start. Training
    cannot make W singular (Kingma and Dhariwal 2018, eq. 10).
    """

    def _set(self, weight: Tensor) -> None:
        permutation, lower, upper = torch.linalg.lu(weight)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(diagonal.abs().log())

    @property
    def weight(self) -> Tensor:
        """The matrix W (C, C)."""
        lower, upper = self._factors()
        return self.permutation @ lower @ upper

    def _factors(self) -> Pair:
        unit, diagonal = torch.ones_like(self.sign), self.sign * self.log_diagonal.exp()
        return self.lower.tril(-1) + torch.diag(unit), self.upper.triu(1) + torch.diag(diagonal)

    def _log_det(self) -> Tensor:
        return self.log_diagonal.sum()

    def _solve(self, x: Tensor) -> Tensor:
        lower, upper = self._factors()
        y = torch.linalg.solve_triangular(lower, self.permutation.T @ x, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, y, upper=True)


def solve_increasing(f: Callable[[Tensor], Tensor], target: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Solve f(a) = target for an increasing f, entry by entry, by halving [low, high] as often as the dtype has bits.

    Args:
        f: (...) → (...), increasing in each entry.
        target, low, high: (...), with f(low) ≤ target ≤ f(high).

    Returns:
        (...) roots, as exact as the floating-point numbers allow.
    """
    for _ in range(torch.finfo(target.dtype).bits):
        middle = (low + high) / 2
        above = f(middle) >= target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


def _invertible(channels: int, weight: object) -> Tensor:
    """A random rotation, or the given matrix after checking that it is square and far from singular."""
    if weight is None:
        q, r = torch.linalg.qr(torch.randn(channels, channels))
        return q * r.diagonal().sign()
    weight = require.real_tensor("weight", weight).detach().clone()
    if weight.shape != (channels, channels):
        raise ValueError(f"weight must have shape ({channels}, {channels}), got {tuple(weight.shape)}")
    rank = int(torch.linalg.matrix_rank(weight))
    if rank < channels:
        raise ValueError(f"weight must be invertible, got a matrix of rank {rank}")
    return weight
