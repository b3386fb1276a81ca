"""Models with a condition: functions from the condition to a distribution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genlib import _arguments as require


class Conditional(nn.Module):
    """c → distribution of x given c, as the encoder and the decoder of an autoencoder are.

    Args:
        model: a flow or a sequence model whose networks were made for a condition of C numbers. Its `given` takes c
            (B, C) and returns the model of B examples, each under its own condition.
        condition: C.
    """

    def __init__(self, model: nn.Module, condition: int) -> None:
        super().__init__()
        self.model, self.condition = model, require.whole_number("condition", condition)

    @property
    def event_shape(self) -> torch.Size:
        """Shape E of one example x."""
        return self.model.event_shape

    def forward(self, c: Tensor) -> Given:
        """Condition (C,) or conditions (B, C) → distribution, or B distributions.

        Raises:
            ValueError: c has another shape or holds NaN or infinity.
        """
        if not isinstance(c, Tensor) or c.ndim not in (1, 2) or c.shape[-1] != self.condition:
            got = tuple(c.shape) if isinstance(c, Tensor) else type(c).__name__
            raise ValueError(f"c must have shape ({self.condition},) or (B, {self.condition}), got {got}")
        return Given(self.model, require.real_events("c", c, c.shape[-1:]))

    def loss(self, x: Tensor, c: Tensor) -> Tensor:
        """Negative log-likelihood of each x under its c in nats, (B, *E), (B, C) → (B,)."""
        return -self(c).log_prob(x)


class Given:
    """The distribution of x under a condition, with the names and shapes of `torch.distributions`.

    Args:
        model: as in `Conditional`.
        c: one condition (C,), or one for each of B distributions (B, C).

    Attributes:
        batch_shape: () or (B,).
        event_shape: E.
    """

    def __init__(self, model: nn.Module, c: Tensor) -> None:
        self.model, self.c = model, c
        self.batch_shape, self.event_shape = c.shape[:-1], model.event_shape

    def log_prob(self, x: Tensor, *more: Tensor) -> Tensor:
        """Log-density or log-probability in nats, (B, *E) → (B,); what follows x is as in the model's own.

        Raises:
            ValueError: there are B conditions, and x holds another number of examples.
        """
        if self.batch_shape and len(x) != len(self.c):
            raise ValueError(
                f"x must hold one example for each of the {len(self.c)} conditions, got {len(x)}"
            )
        return self.model.given(self.c.expand(len(x), -1)).log_prob(x, *more)

    def sample(
        self, shape: Sequence[int], *, generator: torch.Generator | None = None, **settings: object
    ) -> Tensor:
        """Draw, (n,) → (n, *E) under one condition and (n, B, *E) under B; settings as in the model's own."""
        n = require.sample_count(shape)
        rows = self.c.reshape(-1, self.c.shape[-1]).repeat(n, 1)  # (n · B, C)
        x = self.model.given(rows).sample((len(rows),), generator=generator, **settings)
        return x.reshape(n, *self.batch_shape, *x.shape[1:])
