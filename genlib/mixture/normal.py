"""Mixtures of normal distributions, learned by expectation and maximisation; entries of the data may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import repeat

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import normal
from genlib.mixture._normals import (
    Given,
    all_rows,
    covariances_of,
    data,
    given_matrices,
    given_variances,
    inverse,
    least,
    pivots,
)
from genlib.mixture.core import Mixture, none_empty, repetitions, rows_for, weights_of
from genlib.mixture.moments import Moments, at_least_tiny, joined, scaled
from genlib.mixture.starts import highest, nearest_centre, spread_out

_NUMBERS = 50_000  # of gaps K × D × rows, which `moments` holds at once

_KINDS = {  # shape of the covariances, and how many numbers of them are free
    "full": (lambda K, D: (K, D, D), lambda K, D: K * D * (D + 1) // 2),
    "tied": (lambda K, D: (D, D), lambda K, D: D * (D + 1) // 2),
    "diagonal": (lambda K, D: (K, D), lambda K, D: K * D),
    "round": (lambda K, D: (K,), lambda K, D: K),
}


class NormalMixture(Mixture):
    r"""K normal distributions (Bishop 2006, section 9.2).

    .. math:: p(x) = \sum_k \pi_k\, \mathcal{N}(x;\ \mu_k, \Sigma_k)

    Where a method takes `seen`, a bool tensor in the shape of x, an entry that is False is missing. It may hold
    anything, NaN too. Densities are then those of the entries seen (Ghahramani and Jordan 1994, NIPS 6, 120-127).

    Args:
        means: μ, (K, D).
        covariances: Σ by `kind`: "full" (K, D, D); "tied", one for all, (D, D); "diagonal" (K, D) variances; "round"
            (K,) variances.
        weights: π, (K,) probabilities; equal when None.
        kind: of the covariances.

    Attributes:
        means: μ, (K, D).
        covariances: Σ, in the shape of their kind.
        weights: π, (K,).
        kind: "full", "tied", "diagonal" or "round".
        event_shape: (D,).

    Raises:
        ValueError: a shape is another, a covariance is not symmetric or not positive definite, or weights are no
            probabilities.
    """

    def __init__(
        self,
        means: Tensor | Sequence[Sequence[float]],
        covariances: Tensor | Sequence[float],
        weights: Tensor | Sequence[float] | None = None,
        kind: str = "full",
    ) -> None:
        self.means = require.points("means", torch.as_tensor(means))
        K, D = self.means.shape
        shape = require.one_of("kind", kind, _KINDS)[0](K, D)
        self.covariances = require.real_tensor("covariances", covariances, like=self.means)
        if self.covariances.shape != shape:
            raise ValueError(f"covariances must have shape {shape}, got {tuple(self.covariances.shape)}")
        self.weights, self.kind, self.event_shape = weights_of(weights, K, self.means), kind, torch.Size([D])
        if self._matrices:
            gap = (self.covariances - self.covariances.mT).abs()
            if not require.holds((gap <= 1e-4 * self.covariances.abs().amax()).all()):
                raise ValueError(f"covariances must be symmetric, got entries {gap.max().item():.2g} apart")
            self._factor, info = torch.linalg.cholesky_ex(self.covariances)
            positive = info == 0
        else:
            positive = self.covariances.reshape(K, -1).amin(1) > 0
        if not require.holds(positive.all()):
            of = f", that of component {int(positive.long().argmin())} is not" if positive.ndim else ""
            raise ValueError(f"covariances must be positive definite{of}")

    @classmethod
    def fit(
        cls,
        x: Tensor,
        components: int,
        kind: str = "full",
        *,
        pull: float = 0.0,
        starts: int = 10,
        steps: int = 500,
        tol: float = 1e-6,
        spread: bool = True,
        counts: Tensor | None = None,
        seen: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> NormalMixture:
        """Climb from several starts and keep the highest end, by `penalised`. A start that degenerates is dropped.

        Args:
            x: data, (n, D).
            components: K, at most as many as there are rows that count.
            kind: of the covariances.
            pull: as in `improved`.
            starts: how many, each from `started`.
            steps, tol: of each climb, as in `climb`.
            spread, counts, seen, generator: as in `started`.

        Raises:
            ValueError: an argument is out of range.
            RuntimeError: all starts degenerate.
        """
        options = {"spread": spread, "counts": counts, "seen": seen, "generator": generator}
        return highest(
            lambda: cls.started(x, components, kind, **options),
            x,
            starts,
            steps,
            tol=tol,
            pull=pull,
            counts=counts,
            seen=seen,
        )

    @classmethod
    @torch.no_grad()
    def started(
        cls,
        x: Tensor,
        components: int,
        kind: str = "full",
        *,
        spread: bool = True,
        counts: Tensor | None = None,
        seen: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> NormalMixture:
        """Where a climb may begin: centres at rows, equal weights.

        All components have the covariance of the data, made smaller by the mean squared distance of the rows to their
        nearest centre over that to the mean.

        Args:
            x: data, (n, D).
            components: K, at most as many as there are rows that count.
            kind: of the covariances.
            spread: rows far apart, by `spread_out`; else drawn by lot.
            counts: how often each row counts, (n,); once when None.
            seen: which entries are there, (n, D); all when None. A missing one starts at the mean of its column.
            generator: draws from here instead of torch's global one.

        Raises:
            ValueError: an argument is out of range, or the data do not vary in some direction.
        """
        require.one_of("kind", kind, _KINDS)
        x, seen = data(require.points("x", x) if seen is None else x, seen)
        counts = repetitions(x, counts)
        whole = all_rows(x, counts, seen, kind)
        components = rows_for(components, counts)
        x = x if seen is None else torch.where(seen, x, whole.mean)
        if spread:
            rows = spread_out(x, components, counts=counts, generator=generator)
        else:
            rows = torch.multinomial(counts, components, generator=generator)
        centres = x[rows]
        near = counts @ (x - centres[nearest_centre(x, centres)]).square().sum(1)
        share = near / (counts @ (x - whole.mean).square().sum(1))
        one = Moments(whole.size[None], whole.mean[None], whole.scatter[None])
        if (pivots(covariances_of(kind, one), kind) <= least(one)).any():
            raise ValueError(f"x must vary in every direction for covariances of the kind {kind}")
        size = whole.size.expand(components)
        scatter = share.clamp(1 / len(x), 1) * whole.scatter.expand(components, *whole.scatter.shape)
        return cls(centres, covariances_of(kind, Moments(size, centres, scatter)), kind=kind)

    @property
    def covariance_matrices(self) -> Tensor:
        """Σ as matrices, (K, D, D), whatever their kind."""
        K, D = self.means.shape
        return self.covariances.expand(K, D, D) if self._matrices else self._variances.diag_embed()

    @property
    def parameters_count(self) -> int:
        """How many numbers are free in the means, the covariances and the weights, K − 1 of them."""
        K, D = self.means.shape
        return K * D + _KINDS[self.kind][1](K, D) + K - 1

    def log_parts(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """log p(x | k) in nats of every component k, (B, D) → (B, K).

        Raises:
            ValueError: x or seen has another shape, or an entry that is not missing is no finite number, here and
                wherever they are taken.
        """
        return self._given(*data(x, seen, self.means)).log_parts.T

    def log_joint(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """log p(x, k) in nats of every component k, (B, D) → (B, K)."""
        return self.log_parts(x, seen) + self.weights.log()

    def log_prob(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Log-density in nats, exact, (B, D) → (B,)."""
        return self.log_joint(x, seen).logsumexp(1)

    def responsibilities(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """p(k | x), by Bayes' rule, (B, D) → (B, K)."""
        return self.log_joint(x, seen).softmax(1)

    def filled(self, x: Tensor, seen: Tensor) -> Tensor:
        """E[x | entries seen], over all components, (B, D) → (B, D)."""
        x, seen = data(x, seen, self.means)
        if seen is None:
            return x
        gap, log_parts, _ = self._given(x, seen)
        r = (log_parts + self.weights.log()[:, None]).softmax(0)  # (K, B)
        return torch.where(seen, x, torch.einsum("kb,kdb->bd", r, gap + self.means[..., None]))

    @torch.no_grad()
    def moments(self, x: Tensor, counts: Tensor | None = None, seen: Tensor | None = None) -> Moments:
        r"""The step of expectation, (n, D): what `maximised` has to know of the data.

        Missing entries enter by :math:`E[x \mid k]` and by their covariance, both given the entries seen.

        Args:
            x: data.
            counts: how often each row counts, (n,); once when None.
            seen: which entries are there, (n, D); all when None.
        """
        x, seen = data(x, seen, self.means)
        rows = max(256, _NUMBERS // self.means.numel())
        masks = repeat(None) if seen is None else seen.split(rows)
        blocks = zip(x.split(rows), repetitions(x, counts).split(rows), masks, strict=False)
        return reduce(joined, (self._moments(*block) for block in blocks))

    @torch.no_grad()
    def maximised(self, moments: Moments, further: Moments | None = None) -> NormalMixture:
        r"""The step of maximisation: the mixture that fits the moments best.

        .. math:: \pi_k = \frac{N_k}{\sum_l N_l}, \qquad \mu_k = \bar x_k, \qquad \Sigma_k = \frac{S_k}{N_k}

        "tied" is all scatter over all rows, "diagonal" has no other entries, "round" is the mean of the diagonal.

        Args:
            moments: of `moments`, or blended.
            further: rows that join those of every component, of `further`; none when None. The weights leave them out.

        Raises:
            RuntimeError: a component has no rows, or they do not vary in some direction.
        """
        size = none_empty(moments.size, 0.0 if further is None else float(further.size))
        weights = size / size.sum()
        moments = moments if further is None else joined(moments, further)
        covariances = covariances_of(self.kind, moments)
        flat = (pivots(covariances, self.kind) <= least(moments)).any(-1)
        if flat.any():
            which = f"component {int(flat.long().argmax())} has" if flat.ndim else "the components have"
            raise RuntimeError(
                f"{which} shrunk onto too few rows, with a covariance that is not positive: "
                "start elsewhere, or a larger pull keeps it wide"
            )
        return NormalMixture(moments.mean, covariances, weights, self.kind)

    @torch.no_grad()
    def further(
        self, x: Tensor, pull: float, *, counts: Tensor | None = None, seen: Tensor | None = None
    ) -> Moments | None:
        """Moments of a further rows that are spread as the data are, by which `improved` pulls; None where a is 0.

        A missing entry is taken to have the mean and the variance of its column, whatever the rest of the row.
        """
        if not require.not_negative("pull", pull):
            return None
        x, seen = data(x, seen, self.means)
        whole = all_rows(x, repetitions(x, counts), seen, self.kind)
        return scaled(whole, pull / whole.size)

    @torch.no_grad()
    def improved(
        self, x: Tensor, pull: float = 0.0, *, counts: Tensor | None = None, seen: Tensor | None = None
    ) -> NormalMixture:
        """One step of expectation and maximisation (Dempster, Laird and Rubin 1977, JRSS B 39, 1-38).

        It never lowers `penalised`.

        Args:
            x: data, (n, D).
            pull: a, at least 0. Each component is fitted as if a further rows, spread as all data are, were its own.
                With a > 0 no covariance degenerates.
            counts: how often each row counts, (n,); once when None.
            seen: which entries are there, (n, D); all when None.

        Raises:
            ValueError: an argument is out of range.
            RuntimeError: as in `maximised`.
        """
        return self.maximised(self.moments(x, counts, seen), self.further(x, pull, counts=counts, seen=seen))

    def penalised(
        self, x: Tensor, pull: float = 0.0, *, counts: Tensor | None = None, seen: Tensor | None = None
    ) -> Tensor:
        r"""What `improved` raises, in nats, a scalar: log-likelihood and, but for a constant, log of a prior.

        .. math:: \sum_n \log p(x_n) + a \sum_k \Bigl[\log \mathcal{N}(m;\ \mu_k, \Sigma_k)
            - \tfrac12 \operatorname{tr} \Sigma_k^{-1} S_0\Bigr]

        with the data's mean m and covariance :math:`S_0`: a times the mean of :math:`\log \mathcal{N}(x_n; \mu_k,
        \Sigma_k)` over the data. Its exponential is a normal-inverse-Wishart prior.
        """
        x, seen = data(x, seen, self.means)
        likelihood = repetitions(x, counts) @ self.log_prob(x, seen)
        rows = self.further(x, pull, counts=counts, seen=seen)
        if rows is None:
            return likelihood
        at_mean = self._given(rows.mean[None], None).log_parts.sum()
        if self._matrices:
            white = inverse(self._factor)
            trace = (white @ rows.scatter * white).sum() * (len(self.means) if self.kind == "tied" else 1)
        else:
            trace = (rows.scatter / self._variances).sum()
        return likelihood + rows.size * at_mean - 0.5 * trace

    @property
    def _matrices(self) -> bool:
        """Whether covariances have entries off the diagonal."""
        return self.kind in ("full", "tied")

    @property
    def _variances(self) -> Tensor:
        """The variances of a kind without such entries, (K, D)."""
        return self.covariances.reshape(len(self.means), -1).expand(self.means.shape)

    def _draw(self, k: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw one point from each of these components, (n,) → (n, D)."""
        eps = normal((len(k), *self.event_shape), self.means, generator)
        if not self._matrices:
            return self.means[k] + self._variances[k].sqrt() * eps
        factor = self._factor.expand(len(self.means), -1, -1)
        return self.means[k] + torch.einsum("nde,ne->nd", factor[k], eps)

    def _moments(self, x: Tensor, counts: Tensor, seen: Tensor | None) -> Moments:
        """The moments of some rows, (n, D), (n,) and (n, D), checked."""
        gap, log_parts, lost = self._given(x, seen)
        r = (log_parts + self.weights.log()[:, None]).softmax(0) * counts  # (K, n)
        size = r.sum(1)
        shift = (gap @ r[..., None])[..., 0] / at_least_tiny(size)[:, None]  # (K, D)
        gap = gap - shift[..., None]  # now around the new mean
        scatter = (gap * r[:, None]) @ gap.mT if self._matrices else (gap.square() @ r[..., None])[..., 0]
        return Moments(size, self.means + shift, scatter + lost(r))

    def _given(self, x: Tensor, seen: Tensor | None) -> Given:
        """What the entries seen say, (n, D)."""
        gap = x.T.contiguous() - self.means[..., None]  # (K, D, n)
        if self._matrices:
            return given_matrices(gap, self.covariances, self._factor, seen)
        return given_variances(gap, self._variances, seen)
