"""Energies that are neural networks, their scores, and in the plane their exact laws."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genlib import _arguments as require
from genlib._random import uniform
from genlib._shapes import squared
from genlib.data.plane import Box, Device, PlanarSource, cells
from genlib.energy._values import finite_each, one_each
from genlib.energy.learning import Energy
from genlib.score import ScoreModel


class EnergyModel(nn.Module):
    r"""An energy that is a bowl, bent by a network (after Du and Mordatch 2019, arXiv:1903.08689).

    .. math:: E(x) = \frac{\lVert x \rVert^2}{2 r^2} + f(x) + a, \qquad p(x) = \frac{e^{-E(x)}}{Z}

    The bowl is the energy of normal data. Where f stays bounded or grows slower than the bowl, Z is finite.

    Args:
        net: f, (B, *E) → (B,) or (B, 1).
        event_shape: E.
        spread: r, how far the data's numbers lie from 0, in root mean square.

    Attributes:
        constant: a, in nats, 0 at first. The law does not depend on it. It moves under losses that see it: under
            `noise_contrastive_loss` it learns the log Z of the rest.

    Raises:
        ValueError: the spread is not above 0.
    """

    def __init__(self, net: nn.Module, event_shape: Sequence[int], spread: float = 1.0) -> None:
        super().__init__()
        self.event_shape = torch.Size(event_shape)
        self.net, self.spread = net, require.positive("spread", spread)
        self.constant = nn.Parameter(torch.zeros(()))

    def energy(self, x: Tensor) -> Tensor:
        """E(x) in nats, (B, *E) → (B,).

        Raises:
            ValueError: x is no batch of real numbers of the model's shape and dtype, or the network returns another
                shape.
            RuntimeError: an energy is not finite.
        """
        x = _batch(x, self.event_shape, self)
        return finite_each("energy", self._energy(x), x)

    def score(self, x: Tensor) -> Tensor:
        """−∇E, the score of the model, (B, *E) → (B, *E). It needs no Z.

        It can be differentiated where gradients are recorded, by x and by the parameters. Under ``torch.no_grad()`` it
        is a plain tensor, as samplers want it.

        Raises:
            ValueError: as in `energy`.
            RuntimeError: no gradient can be taken, under ``torch.inference_mode()``.
        """
        return -_slope(self._energy, _batch(x, self.event_shape, self))

    def _energy(self, x: Tensor) -> Tensor:
        return squared(x) / (2 * self.spread**2) + _numbers(self.net(x), x) + self.constant


class MultiScaleEnergy(ScoreModel):
    r"""A network for the energies of the data at all noise levels (Li, Chen and Sommer 2019, arXiv:1910.07762).

    It is the energy that normal data would have, plus a correction by the network G:

    .. math:: E(x, \sigma) = \frac{\lVert x \rVert^2}{2 r^2} + \frac{\tau}{\sigma}\,
        G\Bigl(\frac{x}{r}, \log \sigma\Bigr), \qquad r^2 = \tau^2 + \sigma^2

    Its score −∇E is that of a `genlib.score.ScoreModel` with F = −∇G, and so the slope of a function; the F of a free
    network need not be one (Salimans and Ho 2021, openreview.net/forum?id=9AS-TF2jRNb). It learns by the same loss and
    draws in the same way. A constant that depends on σ alone is not learnt.

    Args:
        net: G, (B, *E) and log σ (B,) → (B,) or (B, 1), such as a `genlib.nets.Potential`.
        event_shape: E.
        levels: (L,) noise levels σ, falling.
        spread: τ, how far the data's numbers lie from 0, in root mean square.

    Raises:
        ValueError: the levels do not fall or are not above 0, or the spread is not above 0.
    """

    def energy(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Energy of the data noised to σ, in nats, (B, *E) and a number or (B,) → (B,).

        Raises:
            ValueError: x is no batch of real numbers of the model's shape and dtype, σ is not above 0 or has another
                shape, or the network returns another shape.
            RuntimeError: an energy is not finite.
        """
        x = _batch(x, self.event_shape, self.net)
        return finite_each("energy", self._energy(x, sigma), x)

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """−∇E, the score of the data noised to σ, (B, *E) and a number or (B,) → (B, *E); see `EnergyModel.score`.

        Raises:
            ValueError: as in `energy`.
            RuntimeError: no gradient can be taken, under ``torch.inference_mode()``.
        """
        return -_slope(lambda x: self._energy(x, sigma), _batch(x, self.event_shape, self.net))

    def _energy(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        sigma = require.positive_each("sigma", sigma, x)
        r = (self.spread**2 + sigma**2).sqrt()
        log_sigma = sigma.log().flatten().expand(len(x))  # (B,)
        g = _numbers(self.net(x / r, log_sigma), x)  # (B,)
        return squared(x / r) / 2 + self.spread / sigma.flatten() * g


class Normalised(PlanarSource):
    r"""What an energy in the plane says exactly: its law, with Z as a sum over small cells of a box.

    .. math:: \log p(x) = -E(x) - \log Z, \qquad Z \approx \sum_{\text{cells}} e^{-E(\text{middle})} \cdot \text{area}

    The midpoint rule converges faster than any power of the step for smooth densities that vanish at the edge
    (Trefethen and Weideman 2014, SIAM Review 56, 385-458). Z is worked out once, without gradient, for the energy as it
    is then. Entropy and score are those of a `genlib.data.PlanarSource`.

    Args:
        energy: (B, 2) → (B,) in nats, such as `EnergyModel.energy`; +∞ where the density is 0.
        box: ((left, right), (bottom, top)), which holds all of the mass that counts.
        step: width of a cell, at most; a third of the length over which the density changes is enough.
        device, dtype: where and in which precision the energy works; torch's defaults when None.

    Attributes:
        log_partition: log Z, a number in float64.

    Raises:
        ValueError: the box is empty, the step is not above 0, or energy returns another shape than (B,).
        RuntimeError: an energy is NaN, or Z is 0 or infinite.
    """

    def __init__(
        self,
        energy: Energy,
        box: Box,
        step: float,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.energy, self.box, self.detail = energy, box, 3 * require.positive("step", step)
        self._like = torch.empty(0, device=device, dtype=dtype)
        boards = [middles for middles, _ in cells(box, step)]
        with torch.no_grad():
            minus = torch.cat([-self._energies(x.to(self._like)).double() for x in boards])  # (N,)
        self._middles = torch.cat(boards).to(minus)  # (N, 2)
        widths = [(high - low) / math.sqrt(len(minus)) for low, high in box]
        self._cell = self._middles.new_tensor(widths)  # (2,)
        self._masses = minus.softmax(0)  # (N,)
        self.log_partition = minus.logsumexp(0) + self._cell.log().sum()
        if not torch.isfinite(self.log_partition):
            raise RuntimeError(f"Z must be finite and above 0, got log Z = {self.log_partition:g}")

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, (B, 2) → (B,), inside of the box and outside.

        It can be differentiated by x. No loss for the energy: log Z stands still.
        """
        x = require.real_events("x", x, self.event_shape)
        return -self._energies(x) - self.log_partition

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw a cell by its mass and a uniform place in it, (n,) → (n, 2)."""
        n = require.sample_count(shape)
        which = torch.multinomial(self._masses, n, replacement=True, generator=generator)
        place = uniform((n, 2), self._middles, generator) - 0.5
        return (self._middles[which] + self._cell * place).to(self._like)

    def entropy(self) -> Tensor:
        """Entropy in nats, by the same sum as log Z."""
        surprise = -torch.special.xlogy(self._masses, self._masses).sum()
        return (surprise + self._cell.log().sum()).to(self._like)

    def _energies(self, x: Tensor) -> Tensor:
        return one_each("energy", self.energy(x), x)


def _slope(energy: Energy, x: Tensor) -> Tensor:
    """∇ energy, (B, *E) → (B, *E); it can be differentiated where gradients are recorded."""
    require.gradients("the score of an energy")
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(x).sum(), x, create_graph=recorded)
    return slope


def _batch(x: Tensor, event_shape: torch.Size, model: nn.Module) -> Tensor:
    """Return `x` after checking that it is a batch of real numbers as the model takes them.

    Infinity may pass: walks that fly apart are told of by who moves them.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.shape[1:] != event_shape or not x.ndim:
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        wanted = ", ".join(["B", *map(str, event_shape)])
        raise ValueError(f"x must be a tensor of real numbers of shape ({wanted}), got {got}")
    require.same_dtype("x", x, model)
    return x


def _numbers(values: object, x: Tensor) -> Tensor:
    """What a network gave, (B,) or (B, 1) → (B,)."""
    if isinstance(values, Tensor) and values.shape == (len(x), 1):
        values = values[:, 0]
    return one_each("net", values, x)
