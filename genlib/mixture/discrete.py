r"""Mixtures of independent symbols: bits, and whole numbers that are names without an order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import uniform
from genlib.discrete import inverse_cdf, smoothed
from genlib.mixture._tables import Tabled, histogram
from genlib.mixture.core import rows_for, weights_of


class _Symbols(Tabled):
    """Components whose table is free: bits are symbols of two kinds."""

    probs: Tensor

    @classmethod
    @abstractmethod
    def _of_table(cls, table: Tensor, weights: Tensor | None = None) -> Self:
        """The mixture with these probabilities of each value, (K, *E, V)."""

    @property
    def parameters_count(self) -> int:
        """How many numbers are free, K − 1 weights and V − 1 probabilities for each entry of each component."""
        components = len(self.weights)
        return components - 1 + components * self.event_shape.numel() * (self.levels - 1)

    @classmethod
    def _started(
        cls, x: Tensor, components: int, levels: int, counts: Tensor | None, generator: torch.Generator | None
    ) -> Self:
        """Components at rows of the data drawn by lot, a quarter of the way from the mean to each."""
        x, counts = cls._data(x, levels, counts)
        chosen = torch.multinomial(counts, rows_for(components, counts), generator=generator)
        return cls._of_table(0.75 * _mean(histogram(x, counts)) + 0.25 * x[chosen])

    @torch.no_grad()
    def improved(self, x: Tensor, pull: float = 1.0, *, counts: Tensor | None = None) -> Self:
        r"""One step of expectation and maximisation (Dempster, Laird and Rubin 1977, JRSS B 39, 1-38).

        .. math:: r_{nk} = p(k \mid x_n), \qquad N_k = \sum_n r_{nk}, \qquad \pi_k = \frac{N_k}{\sum_l N_l}, \qquad
            \theta_k = \frac{\sum_n r_{nk}\, x_n + a\, m}{N_k + a}

        Here x_n is one-hot where there are more than two values. Each component is pulled to the mean m of the data, as
        if a further rows had been m. The step never lowers `penalised`. With V values the mean is
        (count + 1/V)/(n + 1), so it is never 0 or 1.

        Args:
            x: data, (n, *E).
            pull: a, above 0.
            counts: how often each row counts, (n,); once when None.

        Raises:
            ValueError: pull is not above 0, or so small beside the data that a probability rounds to 0 or 1; or counts
                are negative or all 0.
        """
        pull = require.positive("pull", pull)
        size, seen, total = self._counted(x, counts)
        mean = _mean(total)
        rows = size.reshape(-1, *[1] * mean.ndim)
        return self._of_table((seen + pull * mean) / (rows + pull), size / size.sum())

    def penalised(self, x: Tensor, pull: float = 1.0, *, counts: Tensor | None = None) -> Tensor:
        r"""What `improved` raises, in nats, a scalar: log-likelihood and, but for a constant, log of a prior.

        .. math:: \sum_n \log p(x_n) + a \sum_{kdv} m_{dv} \log P(v \mid k, d)

        The prior of the probabilities is a Dirichlet distribution, which for bits is a Beta distribution.
        """
        pull, log_p = require.positive("pull", pull), self.log_prob(x)
        x, counts = self._data(x, self.levels, counts, self.weights)
        return counts @ log_p + pull * (_mean(histogram(x, counts)) * self.log_table()).sum()


class BernoulliMixture(_Symbols):
    r"""K components, each of D independent bits (Bishop 2006, section 9.3.3).

    .. math:: p(x) = \sum_k \pi_k \prod_d \theta_{kd}^{x_d} (1 - \theta_{kd})^{1 - x_d}

    Args:
        probs: θ, (K, D), above 0 and below 1.
        weights: π, (K,) probabilities; equal when None.

    Attributes:
        probs: θ, (K, D).
        weights: π, (K,).
        event_shape: (D,).
        levels: 2.

    Raises:
        ValueError: a shape is another, a number of probs is not between 0 and 1, or weights are no probabilities.
    """

    levels = 2

    def __init__(self, probs: Tensor, weights: Tensor | Sequence[float] | None = None) -> None:
        self.probs = require.real_tensor("probs", probs)
        if self.probs.ndim != 2 or 0 in self.probs.shape:
            shape = tuple(self.probs.shape)
            raise ValueError(f"probs must have shape (K, D) with K, D at least 1, got {shape}")
        if not require.holds(((self.probs > 0) & (self.probs < 1)).all()):
            low, high = self.probs.min().item(), self.probs.max().item()
            raise ValueError(f"probs must lie above 0 and below 1, got {low:g} to {high:g}")
        self.weights = weights_of(weights, len(self.probs), self.probs)
        self.event_shape = self.probs.shape[1:]

    @classmethod
    def fit(
        cls,
        x: Tensor,
        components: int,
        steps: int = 30,
        pull: float = 1.0,
        *,
        counts: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> BernoulliMixture:
        """Learn from data by so many steps of `improved`, (n, D) of 0 and 1.

        The components start at rows of the data drawn by lot, a quarter of the way from the mean to each.

        Args:
            x: data.
            components: K, at most as many as there are rows that count.
            steps: how many; few of them are a way to stop early.
            pull: as in `improved`.
            counts: how often each row counts, (n,), not negative; once when None.
            generator: draws from here instead of torch's global one.

        Raises:
            ValueError: an argument is out of range, here and wherever it is taken.
        """
        if not isinstance(x, Tensor) or x.ndim != 2 or not x.numel():
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"x must be a tensor of shape (n, D) with n, D at least 1, got {got}")
        start = cls._started(x, components, 2, counts, generator)
        return start._after(steps, x, pull=pull, counts=counts)

    def log_table(self) -> Tensor:
        """log P(v | k, d) of the bits 0 and 1 in nats, (K, D, 2)."""
        return torch.stack([(-self.probs).log1p(), self.probs.log()], -1)

    @classmethod
    def _of_table(cls, table: Tensor, weights: Tensor | None = None) -> Self:
        return cls(table[..., 1], weights)

    @staticmethod
    def _whole_numbers(x: object, event_shape: Sequence[int], levels: int) -> Tensor:
        return require.bits("x", x, event_shape)

    def _draw(self, k: Tensor, generator: torch.Generator | None) -> Tensor:
        drawn = uniform((len(k), *self.event_shape), self.probs, generator) < self.probs[k]
        return drawn.to(self.probs)


class CategoricalMixture(_Symbols):
    r"""K components, each of independent entries with V values that have no order: latent classes.

    .. math:: p(x) = \sum_k \pi_k \prod_d \theta_{k d x_d}

    With two values it is a `BernoulliMixture` (Goodman 1974, Biometrika 61, 215-231, who learns it by these steps).

    Args:
        probs: θ, (K, *E, V), above 0, with sum 1 over the values.
        weights: π, (K,) probabilities; equal when None.

    Attributes:
        probs: θ, (K, *E, V).
        weights: π, (K,).
        event_shape: E.
        levels: V.

    Raises:
        ValueError: a shape is another, a number of probs is 0, or probs or weights are no probabilities.
    """

    def __init__(self, probs: Tensor, weights: Tensor | Sequence[float] | None = None) -> None:
        self.probs = require.probabilities("probs", probs)
        if self.probs.ndim < 2 or 0 in self.probs.shape:
            shape = tuple(self.probs.shape)
            raise ValueError(f"probs must have shape (K, *E, V) with K, V at least 1, got {shape}")
        if not require.holds((self.probs > 0).all()):
            raise ValueError(f"probs must be above 0, got {self.probs.min().item():g}")
        self.weights = weights_of(weights, len(self.probs), self.probs)
        self.event_shape, self.levels = self.probs.shape[1:-1], self.probs.shape[-1]

    @classmethod
    def fit(
        cls,
        x: Tensor,
        components: int,
        steps: int = 30,
        pull: float = 1.0,
        *,
        levels: int,
        counts: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> CategoricalMixture:
        """Learn from data by so many steps of `improved`, (n, *E) of whole numbers from 0 to V − 1.

        The components start as those of `BernoulliMixture` do. The model is in the dtype of counts where these are
        real, else in torch's default one.

        Args:
            x: data.
            components: K, at most as many as there are rows that count.
            steps: how many; few of them are a way to stop early.
            pull: as in `improved`.
            levels: V.
            counts: how often each row counts, (n,), not negative; once when None.
            generator: draws from here instead of torch's global one.

        Raises:
            ValueError: an argument is out of range, here and wherever it is taken.
        """
        levels = require.whole_number("levels", levels)
        start = cls._started(x, components, levels, counts, generator)
        return start._after(steps, x, pull=pull, counts=counts)

    def log_table(self) -> Tensor:
        """log P(v | k, d) in nats, (K, *E, V)."""
        return self.probs.log()

    @classmethod
    def _of_table(cls, table: Tensor, weights: Tensor | None = None) -> Self:
        return cls(table, weights)

    def _draw(self, k: Tensor, generator: torch.Generator | None) -> Tensor:
        return inverse_cdf(self.probs[k], uniform((len(k), *self.event_shape), self.probs, generator))


def _mean(seen: Tensor) -> Tensor:
    """The share (count + 1/V)/(n + 1) of each value, never 0, (*E, V) → (*E, V)."""
    return smoothed(seen, 1 / seen.shape[-1])
