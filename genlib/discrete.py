"""Discrete distributions: entropy, cross-entropy, KL divergence, and the models that are tables of probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genlib import _arguments as require


def entropy(p: Tensor) -> Tensor:
    """Entropy H(P) = −Σ P log P in nats, (..., K) → (...), with 0 log 0 = 0 (Shannon 1948).

    Raises:
        ValueError: `p` holds negative or non-finite numbers or does not sum to 1 over the last dimension.
    """
    p = require.probabilities("p", p)
    return -(p * _where_possible(p, p).log()).sum(-1)


def cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    """Cross-entropy H(P, Q) = −Σ P log Q in nats, (..., K) and (..., K) → (...).

    It is infinite where Q gives probability 0 to a symbol that P can produce; a symbol with P = 0 adds nothing.

    Raises:
        ValueError: `p` or `q` is no distribution, or their shapes do not broadcast.
    """
    p, q = _pair(p, q)
    return -(p * _where_possible(p, q).log()).sum(-1)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Divergence D_KL(P‖Q) = Σ P log(P/Q) in nats, (..., K) and (..., K) → (...) (Kullback and Leibler 1951).

    It is infinite where Q gives probability 0 to a symbol that P can produce; a symbol with P = 0 adds nothing.
    Rounding limits it: values near 1e-7 in 32 bits, or 1e-16 in 64 bits, mean 0 and may come out negative.

    Raises:
        ValueError: `p` or `q` is no distribution, or their shapes do not broadcast.
    """
    p, q = _pair(p, q)
    return (p * (_where_possible(p, p) / _where_possible(p, q)).log()).sum(-1)


def smoothed(counts: Tensor, alpha: float) -> Tensor:
    """Probabilities (count + alpha) / (n + alpha K) from counts, (..., K) → (..., K): additive smoothing.

    alpha = 1 is Laplace's rule of succession, alpha = 1/2 the estimator of Krichevsky and Trofimov (1981).

    Raises:
        ValueError: a count is negative or not finite, alpha is negative, or nothing was counted and alpha is 0.
    """
    counts = require.real_tensor("counts", counts)
    if counts.ndim == 0 or counts.shape[-1] == 0 or (counts < 0).any():
        raise ValueError(f"counts must be a tensor (..., K) without negative numbers, got {counts}")
    if alpha != 0:
        alpha = require.positive("alpha", alpha)
    total = counts.sum(-1, keepdim=True) + alpha * counts.shape[-1]
    if (total == 0).any():
        raise ValueError("alpha must be above 0 where counts are all zero, got 0")
    return (counts + alpha) / total


def inverse_cdf(probs: Tensor, u: Tensor) -> Tensor:
    """Turn uniform numbers into symbols: the first k whose cumulative probability exceeds u.

    Args:
        probs: (*E, K) probabilities.
        u: (..., *E) numbers in [0, 1).

    Returns:
        (..., *E) int64 symbols; a symbol of probability 0 is never returned.

    Raises:
        ValueError: `probs` is no distribution or a number of `u` lies outside [0, 1).
    """
    probs, u = require.probabilities("probs", probs), require.real_tensor("u", u)
    if ((u < 0) | (u >= 1)).any():
        raise ValueError(f"u must lie in [0, 1), got values from {u.min().item()} to {u.max().item()}")
    if u.shape[max(u.ndim - probs.ndim + 1, 0) :] != probs.shape[:-1]:
        raise ValueError(
            f"u must have shape (..., {', '.join(map(str, probs.shape[:-1]))}), got {tuple(u.shape)}"
        )
    cdf = probs.cumsum(-1)
    cdf = cdf / cdf[..., -1:]  # ends at exactly 1, whatever was lost in rounding
    return (u[..., None] >= cdf).sum(-1)


class Softmax(nn.Module):
    """Independent categorical variables with free logits: the simplest trainable model of discrete data.

    Args:
        categories: K, the number of symbols.
        event_shape: shape E of one example: () for a symbol, (64,) for the pixels of an image.

    Attributes:
        logits: (*E, K) parameter, 0 at first, which is the uniform distribution.
    """

    def __init__(self, categories: int, event_shape: Sequence[int] = ()) -> None:
        super().__init__()
        self.categories = require.whole_number("categories", categories)
        self.event_shape = torch.Size(require.whole_number("event_shape", size) for size in event_shape)
        self.logits = nn.Parameter(torch.zeros(*self.event_shape, self.categories))

    @property
    def probs(self) -> Tensor:
        """Probabilities, (*E, K)."""
        p = self.logits.softmax(-1)
        return p / p.sum(-1, keepdim=True)  # some processors' exponentials leave the sum off by 1e-5

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability in nats of whole numbers 0 … K − 1, (B, *E) → (B,)."""
        x = require.symbols("x", x, self.event_shape, self.categories)
        log_q = self.logits.log_softmax(-1).reshape(-1, self.categories)  # (D, K), D entries in an example
        entries = x.reshape(*x.shape[: x.ndim - len(self.event_shape)], len(log_q))  # (B, D)
        return log_q[torch.arange(len(log_q), device=x.device), entries].sum(-1)

    def loss(self, x: Tensor) -> Tensor:
        """Negative log-likelihood in nats, per example, (B, *E) → (B,)."""
        return -self.log_prob(x)

    @torch.no_grad()
    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw by inverse CDF, (n,) → (n, *E) int64."""
        n = require.sample_count(shape)
        like = {"device": self.logits.device, "dtype": self.logits.dtype}
        u = torch.rand((n, *self.event_shape), generator=generator, **like)
        return inverse_cdf(self.probs, u)

    @torch.no_grad()
    def fit_counts(self, x: Tensor, alpha: float = 0.0) -> Softmax:
        """Set the logits to the smoothed frequencies of `x` (B, *E); with alpha = 0 that is maximum likelihood."""
        x = require.symbols("x", x, self.event_shape, self.categories)
        if x.ndim != 1 + len(self.event_shape):
            raise ValueError(f"x must have shape (B, *{tuple(self.event_shape)}), got {tuple(x.shape)}")
        counts = nn.functional.one_hot(x, self.categories).sum(0)  # (*E, K)
        self.logits.copy_(smoothed(counts.to(self.logits), alpha).log())
        return self


class NaiveBayes(nn.Module):
    """A class label, then pixels that are independent given the label: p(y) Π_d p(x_d | y).

    Args:
        categories: K, the number of symbols of each entry.
        event_shape: shape E of one example.
        classes: C, the number of labels.
    """

    def __init__(self, categories: int, event_shape: Sequence[int], classes: int) -> None:
        super().__init__()
        self.prior = Softmax(require.whole_number("classes", classes))
        self.likelihoods = nn.ModuleList(
            Softmax(categories, event_shape) for _ in range(self.prior.categories)
        )

    @property
    def event_shape(self) -> torch.Size:
        """Shape E of one example."""
        return self.likelihoods[0].event_shape

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, y) in nats for every label y, (B, *E) → (B, C)."""
        given = torch.stack([likelihood.log_prob(x) for likelihood in self.likelihoods], -1)  # (B, C)
        return self.prior.logits.log_softmax(-1) + given

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) = log Σ_y p(x, y) in nats, (B, *E) → (B,)."""
        return self.log_joint(x).logsumexp(-1)

    def log_posterior(self, x: Tensor) -> Tensor:
        """log p(y | x) in nats by Bayes' rule, (B, *E) → (B, C); NaN where every label gives x probability 0."""
        return self.log_joint(x).log_softmax(-1)

    def loss(self, x: Tensor) -> Tensor:
        """Negative log-likelihood in nats, per example, (B, *E) → (B,)."""
        return -self.log_prob(x)

    @torch.no_grad()
    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw labels, then examples given the labels, (n,) → (n, *E) int64."""
        labels = self.prior.sample(shape, generator=generator)  # (n,)
        drawn = torch.stack([q.sample(shape, generator=generator) for q in self.likelihoods])  # (C, n, *E)
        return drawn[labels, torch.arange(len(labels), device=labels.device)]

    def fit_counts(self, x: Tensor, y: Tensor, alpha: float = 0.0) -> NaiveBayes:
        """Set every table to the smoothed frequencies of examples `x` (B, *E) with labels `y` (B,).

        Raises:
            ValueError: `x` and `y` differ in length, or a label has no example and alpha is 0. Nothing is changed then.
        """
        y = require.symbols("y", y, (), self.prior.categories)
        x = require.symbols("x", x, self.likelihoods[0].event_shape, self.likelihoods[0].categories)
        if len(x) != len(y):
            raise ValueError(f"y must hold one label for each of the {len(x)} rows of x, got {len(y)}")
        smoothed(
            torch.bincount(y, minlength=self.prior.categories)[:, None], alpha
        )  # refuses what cannot be done
        self.prior.fit_counts(y, alpha)
        for label, likelihood in enumerate(self.likelihoods):
            likelihood.fit_counts(x[y == label], alpha)
        return self


def _where_possible(p: Tensor, value: Tensor) -> Tensor:
    """Return the value where p > 0 and 1 elsewhere: 0 log 0 is then 0, and so is its gradient."""
    return torch.where(p > 0, value, 1.0)


def _pair(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Check two distributions over the same K symbols."""
    p, q = require.probabilities("p", p), require.probabilities("q", q)
    if p.shape[-1] != q.shape[-1]:
        raise ValueError(f"p and q must be over the same symbols, got K = {p.shape[-1]} and {q.shape[-1]}")
    try:
        return torch.broadcast_tensors(p, q)
    except RuntimeError as error:
        raise ValueError(
            f"p and q must broadcast, got shapes {tuple(p.shape)} and {tuple(q.shape)}"
        ) from error
