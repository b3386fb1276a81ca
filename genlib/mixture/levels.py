r"""Mixtures of grey levels: each is a normal number, rounded."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.special import log_ndtr

from genlib import _arguments as require
from genlib._random import normal
from genlib.mixture._tables import Tabled, WholeNumbers, histogram
from genlib.mixture.core import none_empty, rows_for, weights_of

ROUNDING = 1 / 12  # the variance of what rounding takes away


class Rounded(WholeNumbers):
    """Normal numbers, each rounded to the nearest of V levels: means and deviations of any shape S."""

    means: Tensor
    deviations: Tensor

    def __init__(self, means: Tensor, deviations: Tensor, levels: int) -> None:
        self.means = require.real_tensor("means", means)
        self.deviations = require.real_tensor("deviations", deviations, like=self.means)
        if self.deviations.shape != self.means.shape:
            shapes = f"{tuple(self.means.shape)}, got {tuple(self.deviations.shape)}"
            raise ValueError(f"deviations must have the shape of means, {shapes}")
        if not require.holds((self.deviations > 0).all()):
            raise ValueError(f"deviations must be above 0, got {self.deviations.min().item():g}")
        self.levels = require.whole_number("levels", levels, 2)

    def log_table(self) -> Tensor:
        """log P(v) of every number in nats, accurate and with finite gradients however far v lies from μ, (*S, V)."""
        return _log_between(self._edges()).to(self.means.dtype)

    @torch.no_grad()
    def unrounded(self) -> tuple[Tensor, Tensor]:
        r"""Mean and variance of the normal number y that was rounded to v, both (*S, V).

        Between the edges a and b of its level z = (y − μ)/σ is a truncated normal number, with

        .. math:: E[z] = \frac{\varphi(a) - \varphi(b)}{\Phi(b) - \Phi(a)}, \qquad
            E[z^2] = 1 + \frac{a\, \varphi(a) - b\, \varphi(b)}{\Phi(b) - \Phi(a)} .
        """
        edges = self._edges()
        log_p, log_density = _log_between(edges), -0.5 * (edges**2 + math.log(2 * math.pi))
        a = pad((log_density - log_p[..., 1:]).exp(), (1, 0))  # φ/P at the lower edge, 0 at the first level's
        b = pad((log_density - log_p[..., :-1]).exp(), (0, 1))  # at the upper edge, 0 at the last level's
        mean = a - b
        square = 1 + pad(edges, (1, 0)) * a - pad(edges, (0, 1)) * b
        scale = self.deviations[..., None]
        y = self.means[..., None] + scale * mean
        variance = scale**2 * (square - mean**2).clamp(min=0)
        return y.to(self.means.dtype), variance.to(self.means.dtype)

    def _refitted(self, seen: Tensor, total: Tensor, pull: float) -> tuple[Tensor, Tensor]:
        """The step of maximisation: means and deviations of the unrounded numbers, pulled to those of all data.

        Each number has seen the levels so often, (*S, V), and all data have them so often, (*S, V) or fewer.
        """
        mean, variance = spread(total)
        rows = seen.sum(-1) + pull
        y, scatter = self.unrounded()
        means = ((seen * y).sum(-1) + pull * mean) / rows
        scatter = (seen * (scatter + (y - means[..., None]) ** 2)).sum(-1)
        variances = (scatter + pull * (variance + (mean - means) ** 2)) / rows
        return means, variances.sqrt()

    def _log_prior(self, total: Tensor, pull: float) -> Tensor:
        """What the pull adds to the log-likelihood, in nats, a scalar."""
        mean, variance = spread(total)
        off = (variance + (mean - self.means) ** 2) / self.deviations**2
        return pull * (-0.5 * (math.log(2 * math.pi) + off) - self.deviations.log()).sum()

    def _edges(self) -> Tensor:
        """Where one level ends and the next begins, in deviations from the mean and in 64 bits, (*S, V − 1)."""
        edges = torch.arange(self.levels - 1, device=self.means.device) + 0.5
        return (edges - self.means.double()[..., None]) / self.deviations.double()[..., None]


class LevelMixture(Rounded, Tabled):
    r"""K components of independent grey levels, each a normal number rounded to the nearest of V levels.

    .. math:: P(v \mid k, d) = \Phi\Bigl(\frac{v + 1/2 - \mu_{kd}}{\sigma_{kd}}\Bigr)
        - \Phi\Bigl(\frac{v - 1/2 - \mu_{kd}}{\sigma_{kd}}\Bigr)

    What lies outside goes to the end levels: for v = 0 the second term is 0, for v = V − 1 the first is 1. The
    probabilities therefore sum to 1. The logistic law takes the place of the normal one in PixelCNN++ (Salimans et al.
    2017, arXiv:1701.05517).

    Args:
        means: μ, (K, *E), in levels.
        deviations: σ, (K, *E), above 0, in levels.
        weights: π, (K,) probabilities; equal when None.
        levels: V, at least 2.

    Attributes:
        means: μ, (K, *E).
        deviations: σ, (K, *E).
        weights: π, (K,).
        levels: V.
        event_shape: E.

    Raises:
        ValueError: a shape is another, a deviation is not above 0, weights are no probabilities, or there are fewer
            than 2 levels.
    """

    def __init__(
        self,
        means: Tensor,
        deviations: Tensor,
        weights: Tensor | Sequence[float] | None = None,
        *,
        levels: int,
    ) -> None:
        super().__init__(means, deviations, levels)
        if self.means.ndim < 1 or 0 in self.means.shape:
            raise ValueError(
                f"means must have shape (K, *E) with K at least 1, got {tuple(self.means.shape)}"
            )
        self.weights = weights_of(weights, len(self.means), self.means)
        self.event_shape = self.means.shape[1:]

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
    ) -> LevelMixture:
        """Learn from data by so many steps of `improved`, (n, *E) of whole numbers from 0 to V − 1.

        The components start with means at rows of the data drawn by lot, a quarter of the way from the mean to each,
        and with the deviations of all data. The model is in the dtype of counts where these are real, else in torch's
        default one.

        Args:
            x: data.
            components: K, at most as many as there are rows that count.
            steps: how many; few of them are a way to stop early.
            pull: as in `improved`.
            levels: V, at least 2.
            counts: how often each row counts, (n,), not negative; once when None.
            generator: draws from here instead of torch's global one.

        Raises:
            ValueError: an argument is out of range, here and wherever it is taken.
            RuntimeError: as in `improved`.
        """
        levels = require.whole_number("levels", levels, 2)
        hot, counts = cls._data(x, levels, counts)
        mean, variance = spread(histogram(hot, counts))
        chosen = torch.multinomial(counts, rows_for(components, counts), generator=generator)
        means = 0.75 * mean + 0.25 * x[chosen]
        start = cls(means, variance.sqrt().expand_as(means), levels=levels)
        return start._after(steps, x, pull=pull, counts=counts)

    @property
    def parameters_count(self) -> int:
        """How many numbers are free, K − 1 weights, and a mean and a deviation for each entry of each component."""
        return len(self.weights) - 1 + 2 * self.means.numel()

    @torch.no_grad()
    def improved(self, x: Tensor, pull: float = 1.0, *, counts: Tensor | None = None) -> LevelMixture:
        r"""One step of expectation and maximisation with two hidden things: k, and the unrounded numbers y.

        .. math:: \mu_k = \frac{\sum_n r_{nk}\, E[y \mid x_n, k] + a\, m}{N_k + a}, \qquad
            \sigma_k^2 = \frac{\sum_n r_{nk}\, E[(y - \mu_k)^2 \mid x_n, k] + a\, (s^2 + (m - \mu_k)^2)}{N_k + a}

        Each component is pulled to the data's mean m and variance s² + 1/12, as if a further rows had these. The step
        never lowers `penalised` (Dempster, Laird and Rubin 1977, JRSS B 39, 1-38, whose section 4.2 has such numbers).

        Args:
            x: data, (n, *E).
            pull: a, at least 0.
            counts: how often each row counts, (n,); once when None.

        Raises:
            ValueError: pull is negative, or counts are negative or all 0; or pull is 0 and a deviation falls to 0.
            RuntimeError: pull is 0, and a component has no rows left.
        """
        pull = float(require.not_negative("pull", pull))
        size, seen, total = self._counted(x, counts)
        none_empty(size, pull)
        return LevelMixture(*self._refitted(seen, total, pull), size / size.sum(), levels=self.levels)

    def penalised(self, x: Tensor, pull: float = 1.0, *, counts: Tensor | None = None) -> Tensor:
        r"""What `improved` raises, in nats, a scalar: log-likelihood and, but for a constant, log of a prior.

        .. math:: \sum_n \log p(x_n) + a \sum_{kd} E[\log N(y; \mu_{kd}, \sigma_{kd}^2)]

        Here y has the data's mean m_d and variance s_d² (with the 1/12). The prior is a normal and inverse gamma one.
        """
        pull, log_p = float(require.not_negative("pull", pull)), self.log_prob(x)
        x, counts = self._data(x, self.levels, counts, self.weights)
        return counts @ log_p + self._log_prior(histogram(x, counts), pull)

    def _draw(self, k: Tensor, generator: torch.Generator | None) -> Tensor:
        return rounded(self.means[k], self.deviations[k], self.levels, generator)


def _log_between(edges: Tensor) -> Tensor:
    """How probable a standard normal number is below, between and above rising edges, (..., V − 1) → (..., V) in nats.

    An interval above 0 is looked at from the other side, where no difference is of two numbers near 1.
    """
    a, b = edges[..., :-1], edges[..., 1:]
    low, high = torch.where(a + b > 0, -b, a), torch.where(a + b > 0, -a, b)
    log_high = log_ndtr(high)
    between = log_high + (-(log_ndtr(low) - log_high).exp()).log1p()
    return torch.cat([log_ndtr(edges[..., :1]), between, log_ndtr(-edges[..., -1:])], -1)


def rounded(means: Tensor, deviations: Tensor, levels: int, generator: torch.Generator | None) -> Tensor:
    """Draw normal numbers and round each to the nearest of the levels, (*S) and (*S) → (*S)."""
    y = means + deviations * normal(means.shape, means, generator)
    return y.round().clamp(0, levels - 1).long()


def spread(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of numbers that were rounded to these levels, (*E, V) → (*E) and (*E)."""
    share, levels = seen / seen.sum(-1, keepdim=True), torch.arange(seen.shape[-1]).to(seen)
    mean = share @ levels
    return mean, (share * (levels - mean[..., None]) ** 2).sum(-1) + ROUNDING
