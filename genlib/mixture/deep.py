"""Mixtures in layers: hidden numbers have a mixture of their own, and components of every layer combine to paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import normal
from genlib.mixture.core import Mixture, climb, none_empty, repetitions, rows_for, weights_of
from genlib.mixture.moments import Moments, joined, pooled
from genlib.mixture.normal import NormalMixture
from genlib.mixture.starts import highest, lloyd, spread_out


class Layer(NamedTuple):
    r"""From hidden numbers above to those below: :math:`h = A_k h' + b_k + \varepsilon` with k by its weight.

    Attributes:
        maps: :math:`A_k`, (K, D, d).
        shifts: :math:`b_k`, (K, D).
        noise: variances :math:`\psi_k` of the independent entries of :math:`\varepsilon`, (K, D), above 0.
        weights: π, (K,).
    """

    maps: Tensor
    shifts: Tensor
    noise: Tensor
    weights: Tensor


class DeepMixture(Mixture):
    r"""Deep mixture of normal distributions (van den Oord and Schrauwen 2014, NIPS; Tang et al. 2012, arXiv:1206.4635).

    .. math:: h_L \sim \mathcal{N}(0, I), \qquad h_l = A_{l, k_l} h_{l+1} + b_{l, k_l} + \varepsilon_l, \qquad
        x = h_0, \qquad l = L - 1, \dots, 0

    The components :math:`k_l` of the layers are independent. A path picks one a layer. Given the path all is normal, so
    that the density is a mixture over paths, of far fewer numbers than they are. One layer is a mixture of factor
    analysers (Ghahramani and Hinton 1996, Toronto, CRG-TR-96-1).

    Args:
        layers: from the data upwards; the d of each is the D of the next.

    Attributes:
        layers: the same.
        paths: which components each path picks, (P, L) whole numbers.
        weights: those of the paths, (P,).
        event_shape: (D,) of the data.

    Raises:
        ValueError: there is no layer, a shape does not fit, noise is not above 0, or weights are no probabilities.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        if not layers:
            raise ValueError("layers must hold at least one Layer, got none")
        self.layers = []
        for maps, shifts, noise, weights in layers:
            maps = require.real_tensor("maps", maps)
            if maps.ndim != 3 or 0 in maps.shape:
                raise ValueError(f"maps must have shape (K, D, d), got {tuple(maps.shape)}")
            if self.layers and maps.shape[1] != self.layers[-1].maps.shape[2]:
                below, above = self.layers[-1].maps.shape[2], maps.shape[1]
                raise ValueError(f"layers must fit: below takes {below} numbers, above gives {above}")
            shifts = require.real_tensor("shifts", shifts, like=maps)
            noise = require.real_tensor("noise", noise, like=maps)
            for name, value in (("shifts", shifts), ("noise", noise)):
                if value.shape != maps.shape[:2]:
                    raise ValueError(
                        f"{name} must have shape {tuple(maps.shape[:2])}, got {tuple(value.shape)}"
                    )
            if not require.holds((noise > 0).all()):
                raise ValueError(f"noise must be above 0, got {noise.min().item():g}")
            self.layers.append(Layer(maps, shifts, noise, weights_of(weights, len(maps), maps)))
        counts = [torch.arange(len(layer.maps), device=maps.device) for layer in self.layers]
        self.paths = torch.stack(torch.meshgrid(*counts, indexing="ij"), -1).reshape(
            -1, len(counts)
        )  # (P, L)
        self.weights = math.prod(layer.weights[k] for layer, k in self._along())
        self.event_shape = self.layers[0].shifts.shape[1:]

    @classmethod
    def fit(
        cls,
        x: Tensor,
        sizes: Sequence[tuple[int, int]],
        *,
        pull: float = 0.0,
        starts: int = 10,
        steps: int = 500,
        tol: float = 1e-6,
        counts: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> DeepMixture:
        """Climb from several starts and keep the highest end, by `penalised`. A start that degenerates is dropped.

        Args:
            x: data, (n, D).
            sizes: K and d of each layer, from the data upwards.
            pull: as in `improved`.
            starts: how many, each from `started`.
            steps, tol: of each climb, as in `climb`.
            counts: how often each row counts, (n,); once when None.
            generator: draws from here instead of torch's global one.

        Raises:
            ValueError: an argument is out of range.
            RuntimeError: all starts degenerate.
        """
        return highest(
            lambda: cls.started(x, sizes, pull=pull, counts=counts, generator=generator),
            x,
            starts,
            steps,
            tol=tol,
            pull=pull,
            counts=counts,
        )

    @classmethod
    @torch.no_grad()
    def started(
        cls,
        x: Tensor,
        sizes: Sequence[tuple[int, int]],
        *,
        pull: float = 0.0,
        steps: int = 30,
        counts: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> DeepMixture:
        """Where a climb may begin: layer by layer, each fitted to hidden numbers drawn from those below.

        The components of a layer begin in a row, at the centres of clusters along a direction drawn by lot. All have
        the same map, the d directions in which rows vary most around these centres, and the rest as noise. The layer
        takes some steps as a model of its own (Tang et al. 2012).

        Args:
            x: data, (n, D).
            sizes: K and d of each layer, from the data upwards; no d is larger than that below, or than D.
            pull: as in `improved`.
            steps: how many each layer takes.
            counts: how often each row counts, (n,); once when None.
            generator: draws from here instead of torch's global one.

        Raises:
            ValueError: an argument is out of range, or an entry of the data does not vary.
            RuntimeError: as in `improved`.
        """
        h, layers = require.points("x", x), []
        counts = repetitions(h, counts)
        h, counts = h[counts > 0], counts[counts > 0]
        if not (h.amin(0) < h.amax(0)).all():
            raise ValueError("x must vary in every entry")
        for K, d in sizes:
            if require.whole_number("d in sizes", d) > h.shape[1]:
                raise ValueError(f"d in sizes must be at most the {h.shape[1]} numbers below, got {d}")
            start = _in_a_row(h, rows_for(K, counts), d, counts, generator)
            model, _ = climb(cls([start]), h, steps, tol=0, pull=pull, counts=counts)
            layers += model.layers
            h = model._above(h, generator)
        return cls(layers)

    @property
    def parameters_count(self) -> int:
        """How many numbers are free as they stand; some of them turn hidden numbers without changing the density."""
        return sum(sum(part.numel() for part in layer) - 1 for layer in self.layers)

    def flat(self) -> NormalMixture:
        """The mixture over paths, of P normal distributions with full covariances; it keeps gradients."""
        mean, covariance = self._levels()[0]
        return NormalMixture(mean, covariance, self.weights)

    def log_parts(self, x: Tensor) -> Tensor:
        """log p(x | path) in nats of every path, (B, D) → (B, P)."""
        return self.flat().log_parts(x)

    @torch.no_grad()
    def moments(self, x: Tensor, counts: Tensor | None = None) -> Moments:
        """The step of expectation: all that `maximised` has to know of the data is the moments of each path's rows."""
        return self.flat().moments(x, counts)

    @torch.no_grad()
    def maximised(self, moments: Moments, further: Moments | None = None) -> DeepMixture:
        r"""The step of maximisation: each layer's component is a linear regression of numbers below on those above.

        Given a path, :math:`h_{l+1}` depends on x by :math:`h_l` alone. It has the covariance
        :math:`R = (C_{l+1}^{-1} + A^\top \Psi^{-1} A)^{-1}`, C that before x is known, and a mean linear in
        :math:`h_l` with the gain :math:`G = R A^\top \Psi^{-1}`. So the moments of the rows climb from layer to layer,
        :math:`S_{l+1} = G S_l G^\top + N R`, and the scatter of both together is :math:`S_l G^\top`. Components pool
        them over the paths that hold them.

        Args:
            moments: of `moments`, (P,) paths, or blended.
            further: rows that join those of every component of the lowest layer, as `further` gives; none when None.

        Raises:
            RuntimeError: a component has no rows, or its noise is 0.
        """
        levels, layers = self._levels(), []
        size, mean, scatter = moments
        for number, (layer, k) in enumerate(self._along()):
            (m, _), (m_above, C_above) = levels[number : number + 2]
            A = layer.maps[k]  # (P, D, d)
            scaled = A / layer.noise[k][..., None]  # Ψ⁻¹ A
            left = torch.linalg.inv(torch.linalg.inv(C_above) + A.mT @ scaled)  # (P, d, d)
            gain = left @ scaled.mT  # (P, d, D)
            mean_above = m_above + (gain @ (mean - m)[..., None])[..., 0]
            across = scatter @ gain.mT  # (P, D, d)
            above = gain @ across + size[:, None, None] * left
            both = torch.cat([torch.cat([scatter, across], 2), torch.cat([across.mT, above], 2)], 1)
            pairs = pooled(Moments(size, torch.cat([mean, mean_above], 1), both), k, len(layer.maps))
            rows = None if further is None else _prior_rows(further, number, layer)
            layers.append(_regression(pairs, rows, number, layer.maps.shape[1]))
            mean, scatter = mean_above, above
        return DeepMixture(layers)

    @torch.no_grad()
    def further(self, x: Tensor, pull: float, *, counts: Tensor | None = None) -> Moments | None:
        """Moments of a further rows with the data's mean and variances, to pull by; None where a is 0."""
        if not require.not_negative("pull", pull):
            return None
        mean = self.weights.new_zeros(1, *self.event_shape)
        return NormalMixture(mean, torch.ones_like(mean), kind="diagonal").further(x, pull, counts=counts)

    @torch.no_grad()
    def improved(self, x: Tensor, pull: float = 0.0, *, counts: Tensor | None = None) -> DeepMixture:
        """One exact step of expectation and maximisation, over all paths and all hidden numbers.

        It never lowers `penalised`.

        Args:
            x: data, (n, D).
            pull: a, at least 0. Each component of a layer is fitted as if a further rows were its own, in which numbers
                below have nothing to do with those above: at the data they have the data's mean and variances, in
                hidden layers mean 0 and variance 1. With a > 0 no noise degenerates.
            counts: how often each row counts, (n,); once when None.

        Raises:
            ValueError: an argument is out of range.
            RuntimeError: as in `maximised`.
        """
        return self.maximised(self.moments(x, counts), self.further(x, pull, counts=counts))

    def penalised(self, x: Tensor, pull: float = 0.0, *, counts: Tensor | None = None) -> Tensor:
        r"""What `improved` raises, in nats, a scalar: log-likelihood and, but for a constant, log of a prior.

        .. math:: \sum_n \log p(x_n) - \frac{a}{2} \sum_{lkd} \Bigl[\log \psi_{lkd}
            + \frac{s_{ld} + (m_{ld} - b_{lkd})^2 + \lVert A_{lkd} \rVert^2}{\psi_{lkd}}\Bigr]

        with the mean m and the variance s of the data at the lowest layer, 0 and 1 above.
        """
        height = repetitions(x, counts, self.weights) @ self.log_prob(x)
        further = self.further(x, pull, counts=counts)
        if further is None:
            return height
        for number, layer in enumerate(self.layers):
            size, mean, scatter = _prior_rows(further, number, layer)
            D = layer.shifts.shape[1]
            spread = (
                scatter.diagonal()[:D] / size
                + (mean[:D] - layer.shifts).square()
                + layer.maps.square().sum(-1)
            )
            height = height - 0.5 * size * (layer.noise.log() + spread / layer.noise).sum()
        return height

    @torch.no_grad()
    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw hidden numbers at the top, then those of layer after layer, (n,) → (n, D)."""
        n = require.sample_count(shape)
        chosen = [torch.multinomial(layer.weights, n, True, generator=generator) for layer in self.layers]
        return self._down(chosen, generator)

    def _draw(self, k: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw one point by each of these paths, (n,) → (n, D)."""
        return self._down(self.paths[k].T, generator)

    def _down(self, chosen: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        """Draw with the components that are chosen for each layer, L times (n,) → (n, D)."""
        h = normal((len(chosen[0]), self.layers[-1].maps.shape[2]), self.weights, generator)
        for layer, k in reversed(list(zip(self.layers, chosen, strict=True))):
            eps = normal((len(h), layer.shifts.shape[1]), h, generator)
            h = (layer.maps[k] @ h[..., None])[..., 0] + layer.shifts[k] + layer.noise[k].sqrt() * eps
        return h

    def _along(self) -> list[tuple[Layer, Tensor]]:
        """The layers, each with the component that the paths pick there, (P,)."""
        return list(zip(self.layers, self.paths.T, strict=True))

    def _levels(self) -> list[tuple[Tensor, Tensor]]:
        """Mean (P, D) and covariance (P, D, D) of the numbers at each level by path, from the data to the top."""
        P, d = len(self.paths), self.layers[-1].maps.shape[2]
        mean = self.weights.new_zeros(P, d)
        levels = [(mean, torch.eye(d).to(mean).expand(P, d, d))]
        for layer, k in reversed(self._along()):
            mean, covariance = levels[0]
            A = layer.maps[k]
            down = A @ covariance @ A.mT
            levels.insert(
                0,
                (
                    (A @ mean[..., None])[..., 0] + layer.shifts[k],
                    0.5 * (down + down.mT) + layer.noise[k].diag_embed(),
                ),
            )
        return levels

    def _above(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw the hidden numbers of the lowest layer given x, where it is the only one, (n, D) → (n, d)."""
        (layer,) = self.layers
        k = torch.multinomial(self.responsibilities(x), 1, generator=generator)[:, 0]
        scaled = layer.maps / layer.noise[..., None]  # (K, D, d)
        precision = layer.maps.mT @ scaled + torch.eye(layer.maps.shape[2]).to(x)
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
        mean = ((x - layer.shifts[k])[:, None] @ scaled[k] @ covariance[k])[:, 0]
        return NormalMixture(torch.zeros_like(mean[: len(covariance)]), covariance)._draw(k, generator) + mean


def _in_a_row(h: Tensor, K: int, d: int, counts: Tensor, generator: torch.Generator | None) -> Layer:
    """A layer whose components lie in a row and have the same map, for rows h (n, D)."""
    mean = counts @ h / counts.sum()
    direction = (h - mean).square().mean(0).sqrt() * normal(mean.shape, h, generator)
    direction = direction / direction.norm()
    along = ((h - mean) @ direction)[:, None]  # (n, 1)
    centres, label = lloyd(along, along[spread_out(along, K, counts=counts, generator=generator)])
    shifts = mean + centres * direction  # (K, D)
    gap = h - shifts[label]
    within = (counts[:, None] * gap).T @ gap / counts.sum()
    variances, directions = torch.linalg.eigh(within)  # in rising order
    maps = directions[:, -d:] * (0.9 * variances[-d:].clamp(min=0)).sqrt()
    least = torch.maximum(0.02 * within.diagonal(), 1e-6 * h.var(0, correction=0))
    noise = torch.maximum(within.diagonal() - maps.square().sum(1), least)
    return Layer(maps.expand(K, -1, -1), shifts, noise.expand(K, -1), h.new_full((K,), 1 / K))


def _prior_rows(further: Moments, number: int, layer: Layer) -> Moments:
    """Further rows of a layer, numbers below and above together, which have nothing to do with each other."""
    size, mean, scatter = further
    D, d = layer.maps.shape[1:]
    if number:
        mean, scatter = mean.new_zeros(D), size.expand(D)
    return Moments(size, torch.cat([mean, mean.new_zeros(d)]), torch.cat([scatter, size.expand(d)]).diag())


def _regression(pairs: Moments, further: Moments | None, number: int, dims: int) -> Layer:
    """The layer of largest likelihood for moments of numbers below (the first `dims`) and above."""
    size = none_empty(pairs.size, 0.0 if further is None else float(further.size))
    weights = size / size.sum()
    size, mean, scatter = pairs if further is None else joined(pairs, further)
    below, across, above = scatter[:, :dims, :dims], scatter[:, :dims, dims:], scatter[:, dims:, dims:]
    maps = torch.linalg.solve(above, across.mT).mT  # (K, D, d)
    spread = below.diagonal(dim1=1, dim2=2)
    noise = (spread - (maps * across).sum(-1)) / size[:, None]
    flat = (noise <= 100 * torch.finfo(noise.dtype).eps * spread / size[:, None]).any(1)
    if flat.any():
        raise RuntimeError(
            f"component {int(flat.long().argmax())} of layer {number} has noise that is not above 0: "
            "start elsewhere, or a larger pull keeps it wide"
        )
    shifts = mean[:, :dims] - (maps @ mean[:, dims:, None])[..., 0]
    return Layer(maps, shifts, noise, weights)
