"""Pixels in another order, or in all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genlib._shapes import like_parameters
from genlib.pixels.model import Pixels, Reader, picked


class InOrder(Pixels):
    """A network for rows of numbers, on the pixels in any order.

    Args:
        net: levels from −1 to 1 in the order, (B, D) → (B, D, head.size), where entry t depends on entries before t.
        head, event_shape: as in `PixelCNN`.
        order: as in `Pixels`.
    """

    def __init__(
        self, net: nn.Module, head: nn.Module, event_shape: Sequence[int], order: Tensor | None = None
    ) -> None:
        super().__init__(event_shape, head.levels, order)
        self.net, self.head = net, head
        self.register_buffer(
            "place", self.order.argsort(), persistent=False
        )  # at which step each pixel comes

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W) int64 → logits (B, H, W, K)."""
        row = x.flatten(1)[:, self.order].to(like_parameters(self))
        numbers = self.net(2 * row / (self.levels - 1) - 1)[:, self.place]
        return self.head(numbers.unflatten(1, self.event_shape))


class AnyOrder(Pixels):
    """One network for all orders: what a pixel is, given any others (Uria et al. 2014, arXiv:1310.1757).

    For each order it is a distribution of its own, exact and normalised; two orders need not agree. One pass gives all
    pixels' laws given the seen ones, so that an image takes H W passes, and a step of training one.

    Args:
        net: levels from −1 to 1, 0 where unseen, and the mask of the seen, (B, 2, H, W), → (B, H, W, size).
        head, event_shape: as in `PixelCNN`.
        order: as in `Pixels`.
    """

    def __init__(
        self, net: nn.Module, head: nn.Module, event_shape: Sequence[int], order: Tensor | None = None
    ) -> None:
        super().__init__(event_shape, head.levels, order)
        self.net, self.head = net, head

    def ordered(self, order: Tensor) -> AnyOrder:
        """The same network, in another order."""
        return AnyOrder(self.net, self.head, self.event_shape, order).to(self.order.device)

    def given_seen(self, x: Tensor, seen: Tensor) -> Tensor:
        """Logits of all pixels given those that are seen, (B, H, W) and (B, H, W) bool → (B, H, W, K)."""
        level = 2 * x.to(like_parameters(self)) / (self.levels - 1) - 1
        return self.head(self.net(torch.stack([level * seen, seen.to(level)], 1)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W) int64 → logits (B, H, W, K)."""
        places = len(self.order)
        before = self.order.argsort()[None] < torch.arange(places, device=x.device)[:, None]  # (step, pixel)
        logits = [
            self.given_seen(x, seen.unflatten(0, self.event_shape).expand_as(x)).flatten(1, 2)[:, place]
            for place, seen in zip(self.order, before, strict=True)
        ]
        return torch.stack(logits, 1)[:, self.order.argsort()].unflatten(1, self.event_shape)

    def loss(self, x: Tensor) -> Tensor:
        """An estimate of −log p(x) in the mean of all orders, by one order and one step, (B, H, W) → (B,)."""
        x, places = self._images(x), len(self.order)
        rank = torch.rand(len(x), places, device=x.device).argsort(1)
        step = torch.randint(places, (len(x), 1), device=x.device)  # so many are seen
        seen = (rank < step).unflatten(1, self.event_shape)
        paid = picked(self.given_seen(x, seen).log_softmax(-1), x) * ~seen
        return -paid.flatten(1).sum(1) * places / (places - step[:, 0])

    def reader(self, n: int) -> Reader:
        """As `Pixels.reader`: one pass a pixel."""
        return _AnyReader(self, n)


class _AnyReader(Reader):
    def __init__(self, model: AnyOrder, n: int) -> None:
        super().__init__(model, n)
        self.seen = torch.zeros_like(self.x, dtype=torch.bool)

    def log_q(self) -> Tensor:
        """log p(· | the levels so far) of the next pixel, (n, K)."""
        logits = self.model.given_seen(self.x, self.seen).flatten(1, 2)
        return logits[:, self.model.order[self.t]].log_softmax(-1)

    def put(self, level: Tensor) -> None:
        """The level of that pixel, (n,)."""
        self.seen.flatten(1)[:, self.model.order[self.t]] = True
        super().put(level)
