"""Mixtures of whole numbers whose components say for each entry how probable each of a few values is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib.mixture.core import Mixture, repetitions


class WholeNumbers(Mixture):
    """Each entry of an example is one of V values.

    An example is looked up in a table of what the values are worth by a product with its one-hot vector, and rows are
    counted into one by the transposed product.
    """

    levels: int  # V

    def _batch(self, x: object) -> Tensor:
        """Check that x holds values, (B, *E)."""
        x = self._whole_numbers(x, self.event_shape, self.levels)
        if x.ndim != 1 + len(self.event_shape):
            wanted = ", ".join(["B", *map(str, self.event_shape)])
            raise ValueError(f"x must have shape ({wanted}), got {tuple(x.shape)}")
        return x

    @staticmethod
    def _whole_numbers(x: object, event_shape: Sequence[int], levels: int) -> Tensor:
        """Check that x holds values, (..., *E)."""
        return require.symbols("x", x, event_shape, levels)

    @classmethod
    def _data(
        cls, x: object, levels: int, counts: Tensor | None, like: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the data one-hot, (n, *E, V), and how often each row counts, (n,)."""
        counts = cls._repetitions(x, levels, counts, like)
        return one_hot(x, levels, counts), counts

    @classmethod
    def _repetitions(
        cls, x: object, levels: int, counts: Tensor | None, like: Tensor | None = None
    ) -> Tensor:
        """Return how often each row of the data counts, (n,), after checking them."""
        if not isinstance(x, Tensor) or x.ndim < 1 or not x.numel():
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"x must be a tensor of shape (n, *E) with n at least 1, got {got}")
        return repetitions(cls._whole_numbers(x, x.shape[1:], levels), counts, like)

    def _after(self, steps: int, x: Tensor, **settings: object) -> Self:
        """Take so many steps of `improved`."""
        model = self
        for _ in range(require.whole_number("steps", steps, 0)):
            model = model.improved(x, **settings)
        return model


class Tabled(WholeNumbers):
    """Given k the D entries of an example are independent: log P(v | k, d) is a table."""

    @abstractmethod
    def log_table(self) -> Tensor:
        """log P(v | k, d) in nats, (K, *E, V)."""

    def log_parts(self, x: Tensor) -> Tensor:
        """log p(x | k) in nats of every component k, (B, *E) → (B, K).

        Raises:
            ValueError: x has another shape or holds another value, here and wherever x is taken.
        """
        x = one_hot(self._batch(x), self.levels, self.weights)
        return x.flatten(1) @ self.log_table().flatten(1).T

    def _counted(self, x: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Expectation: how many rows are each component's, (K,), and how often each value is seen at each entry.

        The latter in these rows, (K, *E, V), and in all rows, (*E, V).
        """
        r = self.responsibilities(x)  # (n, K)
        x, counts = self._data(x, self.levels, counts, self.weights)
        r = r * counts[:, None]
        return r.sum(0), (r.T @ x.flatten(1)).unflatten(1, x.shape[1:]), histogram(x, counts)


def one_hot(x: Tensor, levels: int, like: Tensor) -> Tensor:
    """1 at the value of each entry and 0 elsewhere, (n, *E) → (n, *E, V), in the dtype of `like`."""
    return (x[..., None] == torch.arange(levels, device=x.device)).to(like.dtype)


def histogram(x: Tensor, counts: Tensor) -> Tensor:
    """How often each value is seen at each entry, (n, *E, V) → (*E, V)."""
    return torch.tensordot(counts, x, 1)
