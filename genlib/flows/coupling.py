"""Layers that let one part of an example decide what happens to the rest: couplings and autoregressive layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from genlib import _arguments as require
from genlib.flows.core import Layer, Pair, with_parts
from genlib.flows.elementwise import Elementwise
from genlib.nets import MADE, Told


def alternating(features: int) -> Tensor:
    """Mask (D,) that is True at every other place, the first one included.

    Raises:
        ValueError: one feature cannot be split.
    """
    return torch.arange(require.whole_number("features", features, 2)) % 2 == 0


def checkerboard(height: int, width: int, channels: int = 1) -> Tensor:
    """Mask (C, H, W) that is True on the squares of one colour (Dinh et al. 2016, figure 3).

    Raises:
        ValueError: an image of one pixel cannot be split.
    """
    rows, columns = require.whole_number("height", height), require.whole_number("width", width)
    if rows * columns < 2:
        raise ValueError(f"height and width must give at least two pixels, got {height} × {width}")
    board = (torch.arange(rows)[:, None] + torch.arange(columns)) % 2 == 0
    return board.expand(require.whole_number("channels", channels), rows, columns)


def channelwise(channels: int, height: int, width: int) -> Tensor:
    """Mask (C, H, W) that is True in the first half of the channels.

    Raises:
        ValueError: one channel cannot be split.
    """
    first = torch.arange(require.whole_number("channels", channels, 2)) < channels // 2
    shape = (channels, require.whole_number("height", height), require.whole_number("width", width))
    return first[:, None, None].expand(shape)


class Entrywise(Layer):
    """Each entry by itself, with parameters of its own.

    Args:
        function: how an entry changes, such as `Histogram` or `Spline`.
        theta: (*E, function.count) parameters to start from.
    """

    def __init__(self, function: Elementwise, theta: Tensor) -> None:
        super().__init__()
        theta = require.real_tensor("theta", theta).detach().clone()
        if theta.ndim < 2 or theta.shape[-1] != function.count:
            raise ValueError(f"theta must have shape (*E, {function.count}), got {tuple(theta.shape)}")
        self.event_shape, self.function = tuple(theta.shape[:-1]), function
        self.theta = nn.Parameter(theta)

    def _forward(self, z: Tensor) -> Pair:
        x, log_slope = self.function.forward(z, self.theta)
        return x, log_slope.flatten(1).sum(1)

    def _inverse(self, x: Tensor) -> Pair:
        z, log_slope = self.function.inverse(x, self.theta)
        return z, log_slope.flatten(1).sum(1)


class Coupling(Layer):
    r"""Coupling layer: some entries pass, and decide how the others change (Dinh et al. 2016, arXiv:1605.08803).

    .. math:: x_a = z_a, \quad x_b = f(z_b;\ \theta(z_a)), \quad \log|\det J| = \textstyle\sum_b \log f'(z_b)

    Args:
        mask: (*E) bool, True for the entries that pass unchanged.
        function: how the others change, such as `Affine` or `Spline`.
        net: conditioner, (B, entries that pass) → (B, entries that change, function.count); where there is a condition,
            it is called with c (B, C) too.

    Raises:
        ValueError: the mask passes everything or nothing.
    """

    def __init__(self, mask: Tensor, function: Elementwise, net: nn.Module) -> None:
        super().__init__()
        mask = require.mask("mask", mask)
        self.event_shape, self.function, self.net = tuple(mask.shape), function, net
        order = torch.cat([mask.flatten().nonzero()[:, 0], (~mask).flatten().nonzero()[:, 0]])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)
        self.passing = int(mask.sum())

    def given(self, c: Tensor) -> Layer:
        """The network sees the conditions too."""
        return with_parts(self, net=Told(self.net, c))

    def _forward(self, z: Tensor) -> Pair:
        return self._apply_to_rest(z, self.function.forward)

    def _inverse(self, x: Tensor) -> Pair:
        return self._apply_to_rest(x, self.function.inverse)

    def _apply_to_rest(self, x: Tensor, change: Callable[[Tensor, Tensor], Pair]) -> Pair:
        a, b = x.flatten(1)[:, self.order].tensor_split([self.passing], 1)
        b, log_slope = change(b, self.net(a))
        return torch.cat([a, b], 1)[:, self.back].reshape(x.shape), log_slope.sum(1)


class MaskedAutoregressive(Layer):
    r"""Each entry changes as those before it say (Papamakarios et al. 2017, arXiv:1705.07057).

    .. math:: x_d = f(z_d;\ \theta_d(x_1, \dots, x_{d-1}))

    Data to latent takes one pass. Latent to data must go entry by entry, D passes.

    Args:
        features: D, at least 2.
        function: how each entry changes, such as `Affine` or `Spline`.
        hidden: widths of the network.
        condition: C, how many numbers of a condition the network sees too.
    """

    def __init__(
        self, features: int, function: Elementwise, hidden: Sequence[int] = (64, 64), *, condition: int = 0
    ) -> None:
        super().__init__()
        self.event_shape, self.function = (require.whole_number("features", features, 2),), function
        self.net = MADE(features, function.count, hidden, condition=condition)

    def given(self, c: Tensor) -> Layer:
        """The network sees the conditions too."""
        return with_parts(self, net=Told(self.net, c))

    def _inverse(self, x: Tensor) -> Pair:
        z, log_slope = self.function.inverse(x, self.net(x))
        return z, log_slope.sum(1)

    def _forward(self, z: Tensor) -> Pair:
        x, ladj = torch.zeros_like(z), z.new_zeros(len(z))
        for d in range(z.shape[1]):
            new, log_slope = self.function.forward(z[:, d], self.net(x)[:, d])
            x, ladj = x.index_copy(1, torch.tensor([d], device=z.device), new[:, None]), ladj + log_slope
        return x, ladj


class Reverse(Layer):
    """Reverse the order of the entries of a vector, so that the last one comes first; it keeps volumes."""

    def _forward(self, z: Tensor) -> Pair:
        return z.flip(1), z.new_zeros(len(z))

    def _inverse(self, x: Tensor) -> Pair:
        return self._forward(x)
