r"""Mixtures: a hidden component is drawn, then the data given it. They are learned by expectation and maximisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import uniform
from genlib.energy._units import binary


class BernoulliMixture:
    r"""K components, each of D independent bits (Bishop 2006, section 9.3.3).

    .. math:: p(x) = \sum_k \pi_k \prod_d \theta_{kd}^{x_d} (1 - \theta_{kd})^{1 - x_d}

    Args:
        probs: θ, (K, D), above 0 and below 1.
        weights: π, (K,) probabilities; equal when None.

    Attributes:
        probs: θ, (K, D).
        weights: π, (K,).
        event_shape: (D,).

    Raises:
        ValueError: a shape is another, a number of probs is not between 0 and 1, or weights are no probabilities.
    """

    def __init__(self, probs: Tensor, weights: Tensor | Sequence[float] | None = None) -> None:
        self.probs = require.real_tensor("probs", probs)
        if self.probs.ndim != 2 or 0 in self.probs.shape:
            shape = tuple(self.probs.shape)
            raise ValueError(f"probs must have shape (K, D) with K, D at least 1, got {shape}")
        low, high = self.probs.min().item(), self.probs.max().item()
        if not 0 < low <= high < 1:
            raise ValueError(f"probs must lie above 0 and below 1, got {low:g} to {high:g}")
        count, dims = self.probs.shape
        equal = [1 / count] * count
        self.weights = require.probabilities(
            "weights", equal if weights is None else weights, like=self.probs
        )
        if self.weights.shape != (count,):
            raise ValueError(f"weights must have shape ({count},), got {tuple(self.weights.shape)}")
        self.event_shape = torch.Size([dims])

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
        x, counts = _data(x, counts)
        rows = int((counts > 0).sum())
        if require.whole_number("components", components) > rows:
            raise ValueError(f"components must be at most the {rows} rows that count, got {components}")
        chosen = torch.multinomial(counts, components, generator=generator)
        model = cls(0.75 * _centre(x, counts) + 0.25 * x[chosen])
        for _ in range(require.whole_number("steps", steps, 0)):
            model = model.improved(x, pull, counts=counts)
        return model

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, k) in nats of every component k, (B, D) → (B, K).

        Raises:
            ValueError: x has another shape or holds something else than 0 and 1, here and wherever x is taken.
        """
        x = binary("x", x, self.probs[0])
        return x @ self.probs.logit().T + (-self.probs).log1p().sum(1) + self.weights.log()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability in nats, exact, (B, D) → (B,)."""
        return self.log_joint(x).logsumexp(1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """p(k | x), by Bayes' rule, (B, D) → (B, K)."""
        return self.log_joint(x).softmax(1)

    def loss(self, x: Tensor) -> Tensor:
        """Negative log-likelihood in nats, (B, D) → (B,)."""
        return -self.log_prob(x)

    @torch.no_grad()
    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw components, then bits given the components, (n,) → (n, D)."""
        n = require.sample_count(shape)
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)  # (n,)
        return (uniform((n, *self.event_shape), self.probs, generator) < self.probs[k]).to(self.probs)

    @torch.no_grad()
    def improved(self, x: Tensor, pull: float = 1.0, *, counts: Tensor | None = None) -> BernoulliMixture:
        r"""One step of expectation and maximisation (Dempster, Laird and Rubin 1977, JRSS B 39, 1-38).

        .. math:: r_{nk} = p(k \mid x_n), \qquad N_k = \sum_n r_{nk}, \qquad \pi_k = \frac{N_k}{\sum_l N_l}, \qquad
            \theta_k = \frac{\sum_n r_{nk}\, x_n + a\, m}{N_k + a}

        Each component is pulled to the mean m of the data, as if a further rows had been m. The step never lowers
        `penalised`. The mean is (count + ½)/(n + 1), so it is never 0 or 1.

        Args:
            x: data, (n, D).
            pull: a, above 0.
            counts: how often each row counts, (n,); once when None.

        Raises:
            ValueError: pull is not above 0, or so small beside the data that a probability rounds to 0 or 1; or counts
                are negative or all 0.
        """
        pull, (x, counts) = require.positive("pull", pull), _data(x, counts, self.probs)
        r = self.responsibilities(x) * counts[:, None]  # (n, K)
        size = r.sum(0)  # (K,)
        probs = (r.T @ x + pull * _centre(x, counts)) / (size[:, None] + pull)
        return BernoulliMixture(probs, size / size.sum())

    def penalised(self, x: Tensor, pull: float = 1.0, *, counts: Tensor | None = None) -> Tensor:
        r"""What `improved` raises, in nats, a scalar: log-likelihood and, but for a constant, log of a Beta prior.

        .. math:: \sum_n \log p(x_n) + a \sum_{kd} \bigl[m_d \log \theta_{kd} + (1 - m_d) \log(1 - \theta_{kd})\bigr]
        """
        pull, (x, counts) = require.positive("pull", pull), _data(x, counts, self.probs)
        mean = _centre(x, counts)
        prior = (mean * self.probs.log() + (1 - mean) * (-self.probs).log1p()).sum()
        return counts @ self.log_prob(x) + pull * prior


def _data(x: object, counts: Tensor | None, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return data (n, D) as real numbers, those of `like` where it is given, and how often each row counts, (n,)."""
    if not isinstance(x, Tensor) or x.ndim != 2 or 0 in x.shape:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x must be a tensor of shape (n, D) with n, D at least 1, got {got}")
    if like is None:
        like = x if x.is_floating_point() else torch.empty(0, device=x.device)
    x = binary("x", x, like.new_zeros(x.shape[1]))
    if counts is None:
        return x, x.new_ones(len(x))
    counts = require.real_tensor("counts", counts, like=x)
    if counts.shape != (len(x),) or (counts < 0).any() or not counts.any():
        raise ValueError(
            f"counts must hold {len(x)} numbers, none negative and not all 0, got {counts.tolist()}"
        )
    return x, counts


def _centre(x: Tensor, counts: Tensor) -> Tensor:
    """The mean (count + ½)/(n + 1) of bits, (n, D) → (D,)."""
    return (counts @ x + 0.5) / (counts.sum() + 1)
