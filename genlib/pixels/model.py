"""What all models share: conditionals become probabilities of images, and samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genlib import _arguments as require
from genlib._random import uniform
from genlib._shapes import evaluating, like_parameters
from genlib.discrete import inverse_cdf
from genlib.sequence import truncate


class Pixels(nn.Module):
    """A distribution over images of whole levels, as a product of conditionals in some order of the pixels.

    A subclass defines ``forward``: images (B, H, W) → logits (B, H, W, K), where those of a pixel depend on the pixels
    before it alone.

    Args:
        event_shape: (H, W).
        levels: K; an image holds whole numbers from 0 to K − 1.
        order: the H W places, counted along the rows, from first to last. Row by row when None.

    Attributes:
        order: (H W,) int64.

    Raises:
        ValueError: the order is no permutation of the places.
    """

    def __init__(self, event_shape: Sequence[int], levels: int, order: Tensor | None = None) -> None:
        super().__init__()
        self.event_shape = torch.Size(require.whole_number("event_shape", size) for size in event_shape)
        self.levels = require.whole_number("levels", levels, 2)
        places = torch.arange(self.event_shape.numel())
        order = places if order is None else torch.as_tensor(order)
        if order.shape != places.shape or not torch.equal(order.sort().values.to(places), places):
            raise ValueError(f"order must be a permutation of 0 to {len(places) - 1}, got {order.tolist()}")
        self.register_buffer("order", order.long(), persistent=False)

    def log_conditionals(self, x: Tensor) -> Tensor:
        """log p(· | the pixels before) in nats at every pixel, (B, H, W) → (B, H, W, K)."""
        return self(self._images(x)).log_softmax(-1)

    def log_factors(self, x: Tensor) -> Tensor:
        """log p(x_t | the pixels before) in nats, (B, H, W) → (B, H, W)."""
        return picked(self.log_conditionals(x), x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability in nats, exact, (B, H, W) → (B,).

        Raises:
            ValueError: x has another shape, or holds something else than levels.
        """
        return self.log_factors(x).flatten(1).sum(1)

    def loss(self, x: Tensor) -> Tensor:
        """Negative log-likelihood in nats, (B, H, W) → (B,)."""
        return -self.log_prob(x)

    def reader(self, n: int) -> Reader:
        """What gives the conditionals of n images pixel by pixel, as the levels become known."""
        return Reader(self, n)

    def sample(
        self,
        shape: Sequence[int],
        *,
        prefix: Tensor | None = None,
        temperature: float = 1.0,
        cached: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw pixel by pixel, (n,) → (n, H, W) int64.

        Args:
            shape: (n,).
            prefix: (P,) levels of the first P pixels of the order, the same for all images.
            temperature: by which logits are divided; below 1 is surer.
            cached: False lets the whole network run for each pixel. The same conditionals come out, to rounding.
            generator: draws from here instead of torch's global one.

        Raises:
            ValueError: the prefix is longer than the image or holds no levels, or the temperature is not above 0.
        """
        n, places = require.sample_count(shape), len(self.order)
        prefix = self._prefix(prefix)
        require.positive("temperature", temperature)
        with evaluating(self):
            u = uniform((n, places), like_parameters(self), generator)
            reader = self.reader(n) if cached else Reader(self, n)
            for t in range(places):
                log_q = truncate(reader.log_q(), temperature=temperature)
                known = prefix[t].expand(n) if t < len(prefix) else None
                reader.put(inverse_cdf(log_q.exp(), u[:, t]) if known is None else known)
        return reader.x

    def _prefix(self, prefix: Tensor | None) -> Tensor:
        places = len(self.order)
        prefix = torch.empty(0, dtype=torch.long) if prefix is None else prefix
        prefix = require.symbols("prefix", prefix, (), self.levels)
        if prefix.ndim != 1 or len(prefix) > places:
            raise ValueError(
                f"prefix must have shape (P,) with P at most {places}, got {tuple(prefix.shape)}"
            )
        return prefix.to(self.order)

    def _images(self, x: Tensor) -> Tensor:
        x = require.symbols("x", x, self.event_shape, self.levels)
        if x.ndim != 1 + len(self.event_shape):
            raise ValueError(
                f"x must have shape (B, {str(tuple(self.event_shape))[1:]}, got {tuple(x.shape)}"
            )
        return x


class Reader:
    """The conditionals of n images one pixel after another: plainly, by the whole network for each pixel.

    For each pixel ask `log_q` first, then `put` its level.

    Attributes:
        x: (n, H, W) int64, the levels put so far, 0 elsewhere.
    """

    def __init__(self, model: Pixels, n: int) -> None:
        self.model, self.t = model, 0
        self.x = torch.zeros(n, *model.event_shape, dtype=torch.long, device=model.order.device)

    def log_q(self) -> Tensor:
        """log p(· | the levels so far) of the next pixel, (n, K)."""
        return self.model.log_conditionals(self.x).flatten(1, 2)[:, self.model.order[self.t]]

    def put(self, level: Tensor) -> None:
        """The level of that pixel, (n,)."""
        self.x.flatten(1)[:, self.model.order[self.t]] = level
        self.t += 1


def picked(log_q: Tensor, x: Tensor) -> Tensor:
    """The number of each pixel's own level, (*A, *E, K) and (*E) → (*A, *E)."""
    return log_q.gather(-1, x.expand(log_q.shape[:-1])[..., None])[..., 0]
