"""How an energy is learnt: by the contrast of data and draws of the model, and by the contrast of data and noise.

An energy is a function of a batch, (B, *E) → (B,), in nats: p(x) = exp(−energy(x)) / Z.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

from genlib import _arguments as require
from genlib._random import uniform
from genlib.energy._values import examples, finite_each

Energy = Callable[[Tensor], Tensor]
LogDensity = Callable[[Tensor], Tensor]
Start = Callable[[int, torch.Generator | None], Tensor]


class Move(Protocol):
    """One or more steps of a Markov chain that leaves the model at rest."""

    def __call__(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Move each point, (B, *E) → (B, *E)."""


def contrast(energy: Energy, x: Tensor, y: Tensor) -> Tensor:
    r"""Energy of the data x less the mean energy of draws y of the model, (B, *E), (N, *E) → (B,).

    .. math:: \nabla_\theta \bigl(-\log p(x)\bigr) = \nabla_\theta E(x) - \mathbb{E}_{y \sim p}[\nabla_\theta E(y)]

    The mean over x has this gradient where y are draws of the model: the positive phase less the negative one (Ackley,
    Hinton and Sejnowski 1985, doi:10.1207/s15516709cog0901_7). The value itself is no likelihood: it is 0 in the mean
    where the model is right, and may be negative. No gradient goes back through y.

    Args:
        energy: what is trained.
        x: data.
        y: draws of the model, as many as there are.

    Raises:
        ValueError: x or y holds no example, or energy returns another shape than (B,).
        RuntimeError: an energy is not finite.
    """
    x, y = examples("x", x), examples("y", y).detach()
    return finite_each("energy", energy(x), x) - finite_each("energy", energy(y), y).mean()


def noise_contrastive_loss(log_model: LogDensity, log_noise: LogDensity, x: Tensor, y: Tensor) -> Tensor:
    r"""Noise-contrastive estimation: the loss of telling data from noise, (B, *E), (B, *E) → (B,), in nats.

    .. math:: \operatorname{softplus}(-r(x)) + \operatorname{softplus}(r(y)), \qquad
        r = \log p_{\text{model}} - \log p_{\text{noise}}

    That is logistic regression with r as the logit, on a point of data and a point of noise. Its minimiser is the
    density of the data with its constant: the model need not be normalised, it learns to be (Gutmann and Hyvärinen
    2012, JMLR 13, 307-361).

    Args:
        log_model: log-density that is trained, with a constant that can be learnt, such as minus `EnergyModel.energy`.
        log_noise: log-density of the noise; not −∞ where there are data.
        x: data.
        y: as many draws of the noise; no gradient goes back through them.

    Raises:
        ValueError: x or y holds no example, both differ in shape, or a log-density returns another shape than (B,).
        RuntimeError: a log-density is not finite.
    """
    x, y = examples("x", x), examples("y", y).detach()
    if x.shape != y.shape:
        raise ValueError(f"x and y must have one shape, got {tuple(x.shape)} and {tuple(y.shape)}")

    def log_ratio(points: Tensor) -> Tensor:
        return finite_each("log_model", log_model(points), points) - finite_each(
            "log_noise", log_noise(points), points
        )

    return softplus(-log_ratio(x)) + softplus(log_ratio(y))


class Chains:
    """Walks that go on from one step of training to the next (persistent: Tieleman 2008, doi:10.1145/1390156.1390290).

    With restarts they are a replay buffer (Du and Mordatch 2019, arXiv:1903.08689).

    Args:
        points: where the C walks start, (C, *E); whole numbers and bools become reals.
        start: draws fresh points, (n, generator) → (n, *E); needed where fresh is above 0.
        fresh: probability that a walk starts afresh when it is drawn, from 0 to 1.

    Attributes:
        points: where the walks stand, (C, *E).
        steps: how often `draw` has been called.

    Raises:
        ValueError: there are no points or they are not finite, fresh lies outside [0, 1], or start is missing.
    """

    def __init__(self, points: Tensor, start: Start | None = None, fresh: float = 0.0) -> None:
        self.points = examples("points", require.real_tensor("points", points)).detach().clone()
        self.fresh = float(require.not_negative("fresh", fresh))
        if self.fresh > 1:
            raise ValueError(f"fresh must lie in [0, 1], got {fresh!r}")
        if self.fresh and not callable(start):
            raise ValueError(f"start must be a function where fresh is above 0, got {start!r}")
        self.start, self.steps = start, 0

    @torch.no_grad()
    def draw(self, count: int, move: Move, *, generator: torch.Generator | None = None) -> Tensor:
        """Pick walks by lot, restart some, move them, and return where they stand now, (count, *E).

        All walks are taken, in order, if count is their number. No gradient is recorded.

        Args:
            count: how many walks.
            move: x (B, *E) → (B, *E), called once with ``generator=generator``.
            generator: draws from here instead of torch's global one.

        Raises:
            ValueError: count is no whole number from 1 to C, or start or move returns another shape.
            RuntimeError: a walk is not finite after the move; the message names the step. The points are as before.
        """
        count, size = require.whole_number("count", count), len(self.points)
        if count > size:
            raise ValueError(f"count must be at most the number of walks, {size}, got {count}")
        which = torch.arange(size, device=self.points.device)
        if count < size:
            which = torch.randperm(size, generator=generator, device=self.points.device)[:count]
        x = self.points[which]
        if self.fresh:
            again = uniform((count,), self.points, generator) < self.fresh  # (count,)
            if again.any():
                started = self.start(int(again.sum()), generator)
                x[again] = require.same_shape("start", started, x[again]).to(x)
        x = require.same_shape("move", move(x, generator=generator), x).to(x)
        if not torch.isfinite(x).all():
            raise RuntimeError(f"the walks are not finite after step {self.steps + 1}")
        self.steps += 1
        self.points = self.points.index_copy(0, which, x)
        return x
