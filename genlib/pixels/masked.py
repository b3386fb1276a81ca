"""Masked convolutions, and how to draw from them without computing anything twice."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from genlib import _arguments as require
from genlib.pixels.heads import Histogram
from genlib.pixels.model import Pixels, Reader


class MaskedConv(nn.Conv2d):
    """A convolution that sees the rows above, and in its own row what is left of it (van den Oord et al. 2016).

    (arXiv:1601.06759.) Masks of kind A and B: without the pixel itself, and with it.

    Args:
        inputs, outputs: channels.
        size: of the window, odd; its upper (size + 1) / 2 rows are used.
        itself: whether the pixel sees itself. The first layer may not.
    """

    def __init__(self, inputs: int, outputs: int, size: int, *, itself: bool) -> None:
        if require.whole_number("size", size) % 2 == 0:
            raise ValueError(f"size must be odd, got {size}")
        self.reach = size // 2
        super().__init__(inputs, outputs, (self.reach + 1, size))
        mask = torch.ones(self.reach + 1, size)
        mask[-1, self.reach + itself :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H, W)."""
        edge = (self.reach, self.reach, self.reach, 0)
        return nn.functional.conv2d(pad(x, edge), self.weight * self.mask, self.bias)


class Bias(nn.Module):
    """What is added at each pixel, a number of its own for each channel, told a condition or not.

    Args:
        channels: F.
        event_shape: (H, W).
        condition: C, numbers of the condition.
    """

    def __init__(self, channels: int, event_shape: Sequence[int], condition: int = 0) -> None:
        super().__init__()
        self.always = nn.Parameter(torch.zeros(channels, *event_shape))
        self.weight = nn.Parameter(torch.empty(condition, channels, *event_shape).uniform_(-0.2, 0.2))

    def forward(self, c: Tensor | None) -> Tensor:
        """(B, C) → (B, F, H, W), or None → (1, F, H, W)."""
        if (c is None) != (len(self.weight) == 0):
            raise ValueError(f"c must be given: the model was made for {len(self.weight)} numbers")
        if c is None:
            return self.always[None]
        return self.always + torch.tensordot(c.to(self.weight), self.weight, 1)


class Block(nn.Module):
    """h + what is found around, where the condition says what to look for.

    Args:
        width: channels.
        event_shape, condition: as in `Bias`.
        dropout: share of what is found that is left out in training.
    """

    def __init__(self, width: int, event_shape: Sequence[int], condition: int, dropout: float) -> None:
        super().__init__()
        self.look, self.told = MaskedConv(width, width, 3, itself=True), Bias(width, event_shape, condition)
        self.back, self.drop = nn.Conv2d(width, width, 1), nn.Dropout(dropout)

    def forward(self, h: Tensor, c: Tensor | None) -> Tensor:
        """(B, width, H, W) and (B, C) → (B, width, H, W)."""
        return h + self.back(self.drop(silu(self.look(silu(h)) + self.told(c))))


class PixelCNN(Pixels):
    """Masked convolutions, row by row (van den Oord et al. 2016, arXiv:1601.06759, 1606.05328).

    It sees a level as numbers: how large it is, and whether it is at least 1, a quarter, a half, three quarters, all of
    the largest. With B conditions, `given` makes it the model of B images.

    Args:
        head: numbers a pixel → logits.
        event_shape: (H, W).
        width: channels.
        blocks: how many.
        dropout: share of the hidden numbers that is left out in training.
        condition: C, how many numbers a condition holds.
    """

    def __init__(
        self,
        head: nn.Module,
        event_shape: Sequence[int],
        width: int = 32,
        blocks: int = 2,
        dropout: float = 0.25,
        *,
        condition: int = 0,
    ) -> None:
        super().__init__(event_shape, head.levels)
        top, level = self.levels - 1, torch.arange(self.levels)
        steps = sorted({1, self.levels // 4, self.levels // 2, 3 * self.levels // 4, top} - {0})
        code = torch.stack([2 * level / top - 1, *(2.0 * (level >= k) - 1 for k in steps)], 1)
        self.register_buffer("code", code, persistent=False)  # (K, numbers)
        self.condition, self.head = require.whole_number("condition", condition, 0), head
        self.c: Tensor | None = None  # what `given` sets
        drop, width = require.share("dropout", dropout), require.whole_number("width", width)
        self.first = MaskedConv(code.shape[1], width, 5, itself=False)
        self.told = Bias(width, self.event_shape, condition)
        self.blocks = nn.ModuleList(
            Block(width, self.event_shape, condition, drop)
            for _ in range(require.whole_number("blocks", blocks, 0))
        )
        self.drop, self.last = nn.Dropout(drop), nn.Conv2d(width, head.size, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def given(self, c: Tensor) -> PixelCNN:
        """The model of B images under conditions c (B, C); it shares its parameters with this one.

        Raises:
            ValueError: c has another shape.
        """
        if c.ndim != 2 or c.shape[1] != self.condition:
            raise ValueError(f"c must have shape (B, {self.condition}), got {tuple(c.shape)}")
        twin = copy.copy(self)
        twin.c = c
        return twin

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W) int64 → logits (B, H, W, K)."""
        h = self.first(self.code[x].movedim(-1, 1)) + self.told(self.c)
        for block in self.blocks:
            h = block(h, self.c)
        return self.head(self.last(self.drop(silu(h))).movedim(1, -1))

    def reader(self, n: int) -> Reader:
        """As `Pixels.reader`; what does not change any more is kept."""
        return CachedReader(self, n)


class CachedReader(Reader):
    """The conditionals of a `PixelCNN`, with all earlier pixels' numbers kept: one pixel's work for each pixel.

    It computes what the whole network does, in another order of additions, so to rounding.
    """

    def __init__(self, model: PixelCNN, n: int) -> None:
        super().__init__(model, n)
        layers = [model.first, *(block.look for block in model.blocks)]
        bias = [model.told(model.c), *(block.told(model.c) for block in model.blocks)]
        self.layers = [_Taps(layer, told, n) for layer, told in zip(layers, bias, strict=True)]

    def log_q(self) -> Tensor:
        """log p(· | the levels so far) of the next pixel, (n, K)."""
        model, (i, j) = self.model, divmod(self.t, self.model.event_shape[1])
        h = self.layers[0].at(i, j)
        for block, look in zip(model.blocks, self.layers[1:], strict=True):
            look.put(i, j, silu(h))
            h = h + _dense(block.back, silu(look.at(i, j)))
        numbers = _dense(model.last, silu(h))
        if isinstance(model.head, Histogram):  # which has parameters for each pixel
            return (model.head.log_h[i, j] + numbers @ model.head.curves).log_softmax(-1)
        return model.head(numbers[:, None, None])[:, 0, 0].log_softmax(-1)

    def put(self, level: Tensor) -> None:
        """The level of that pixel, (n,)."""
        self.layers[0].put(*divmod(self.t, self.model.event_shape[1]), self.model.code[level])
        super().put(level)


class _Taps:
    """A masked convolution at one pixel at a time: its inputs so far, with an edge of zeros."""

    def __init__(self, layer: MaskedConv, told: Tensor, n: int) -> None:
        self.rows, self.columns, reach = *layer.weight.shape[2:], layer.reach
        height, width = told.shape[2:]
        inputs = layer.weight.shape[1]
        self.seen = layer.weight.new_zeros(height + reach, width + 2 * reach, n, inputs)
        self.free = layer.mask.flatten().nonzero()[:, 0].tolist()
        weight = layer.weight.flatten(2)[:, :, self.free]  # (outputs, inputs, taps)
        self.weight = weight.permute(2, 1, 0).flatten(0, 1)  # (taps · inputs, outputs)
        self.bias, self.reach = layer.bias[:, None, None] + told, reach

    def put(self, i: int, j: int, values: Tensor) -> None:
        """What the pixel (i, j) holds, (n, inputs)."""
        self.seen[i + self.reach, j + self.reach] = values

    def at(self, i: int, j: int) -> Tensor:
        """What is found there, (n, outputs)."""
        taps = [self.seen[i + a, j + b] for a, b in (divmod(tap, self.columns) for tap in self.free)]
        return torch.cat(taps, 1) @ self.weight + self.bias[:, :, i, j]


def _dense(layer: nn.Conv2d, h: Tensor) -> Tensor:
    """A convolution of size 1 at one pixel, (n, inputs) → (n, outputs)."""
    return nn.functional.linear(h, layer.weight[:, :, 0, 0], layer.bias)
