"""What a source is: an exact distribution, with the names and shapes of `torch.distributions`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from genlib import _arguments as require


class Source(ABC):
    """A distribution that is known exactly, or by a quadrature whose error is stated.

    Attributes:
        event_shape: shape of one draw, () for a symbol and (D,) for a point.
    """

    event_shape: torch.Size

    @abstractmethod
    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw independently: (n,) → (n, *event_shape). Raises ValueError unless shape is (n,) with n ≥ 1."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density or log-probability in nats, (B, *event_shape) → (B,); −inf outside the support."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """Entropy −E[log p(x)] in nats, a scalar; for a density it is the differential entropy."""


class Categorical(Source):
    """K symbols 0 … K − 1 with given probabilities.

    Args:
        probs: (K,) probabilities that sum to 1; zeros are allowed.
    """

    event_shape = torch.Size([])

    def __init__(self, probs: Tensor | Sequence[float]) -> None:
        self.probs = require.probabilities("probs", probs)
        if self.probs.ndim != 1:
            raise ValueError(f"probs must have shape (K,), got {tuple(self.probs.shape)}")

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw symbols, (n,) → (n,) int64."""
        n = require.sample_count(shape)
        return torch.multinomial(self.probs, n, replacement=True, generator=generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability in nats of symbols, (B,) int → (B,)."""
        return self.probs.log()[require.symbols("x", x, (), len(self.probs))]

    def entropy(self) -> Tensor:
        """Entropy −Σ p log p in nats, exact, with 0 log 0 = 0."""
        return -torch.special.xlogy(self.probs, self.probs).sum()
