"""Markov chains that are balanced: Metropolis and Hastings with any proposal, Gibbs, and Hamiltonian Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import normal, uniform
from genlib._shapes import column, squared
from genlib.samplers._slopes import LogProb, Score, finite, one_each, value, value_and_slope

After = Callable[[int, Tensor], None]
Block = Callable[[Tensor, torch.Generator | None], Tensor]


class Proposal(Protocol):
    """A conditional law q(y | x) of the next point y, given the present one x."""

    def draw(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw a point y for each x, (B, *E) → (B, *E)."""

    def log_density(self, y: Tensor, x: Tensor) -> Tensor:
        """log q(y | x), up to a constant that is the same for all y and x, (B, *E), (B, *E) → (B,)."""


class RandomWalk:
    """A step of normal noise, y = x + scale · ε.

    Args:
        scale: standard deviation of the step in each coordinate, in data units.
    """

    def __init__(self, scale: float) -> None:
        self.scale = require.positive("scale", scale)

    def draw(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw y, (B, *E) → (B, *E)."""
        return x + self.scale * normal(x.shape, x, generator)

    def log_density(self, y: Tensor, x: Tensor) -> Tensor:
        """log q(y | x) up to a constant, (B,)."""
        return -squared(y - x) / (2 * self.scale**2)


class Independence:
    """A draw from a law that does not look where the walk stands.

    Args:
        source: a source or model with ``sample((n,))`` and ``log_prob``.

    Raises:
        ValueError: the source cannot draw.
    """

    def __init__(self, source: object) -> None:
        if not callable(getattr(source, "sample", None)):
            raise ValueError(f"source must have a method sample, got {type(source).__name__}")
        self.source = source

    def draw(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw y, (B, *E) → (B, *E)."""
        return self.source.sample((len(x),), generator=generator).to(x)

    def log_density(self, y: Tensor, x: Tensor) -> Tensor:
        """log q(y), (B,)."""
        density = getattr(self.source, "log_prob", None)
        if density is None:
            raise NotImplementedError(f"{type(self.source).__name__} has no log_prob")
        return density(y)


class LangevinStep:
    """A step along the score with noise, y = x + η s(x) + √(2η) ε. With it Metropolis and Hastings is `mala`.

    Args:
        score: (B, *E) → (B, *E).
        step: η, in squared data units.
    """

    def __init__(self, score: Score, step: float) -> None:
        self.score, self.step = score, require.positive("step", step)

    def draw(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw y, (B, *E) → (B, *E)."""
        return self._goal(x) + math.sqrt(2 * self.step) * normal(x.shape, x, generator)

    def log_density(self, y: Tensor, x: Tensor) -> Tensor:
        """log q(y | x) up to a constant, (B,)."""
        return -squared(y - self._goal(x)) / (4 * self.step)

    def _goal(self, x: Tensor) -> Tensor:
        return x + self.step * finite(self.score(x), x, "a proposal")


@torch.no_grad()
def metropolis_hastings(
    log_prob: LogProb,
    proposal: Proposal,
    x: Tensor,
    steps: int,
    after: After | None = None,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, float]:
    r"""Markov chains with any proposal (Hastings 1970, doi:10.1093/biomet/57.1.97): the target is at rest.

    .. math:: a(x, y) = \min\Bigl(1, \frac{p(y)\, q(x \mid y)}{p(x)\, q(y \mid x)}\Bigr)

    Args:
        log_prob: of the target, up to a constant, (B, *E) → (B,); −∞ outside of its support.
        proposal: q(y | x), which draws and has a density.
        x: where the walks start (B, *E).
        steps: how many.
        after: called with k and the points after step k = 1, 2, …
        generator: draws from here instead of torch's global one.

    Returns:
        The points after the last step, and the share of proposals that were accepted.

    Raises:
        ValueError: x is no batch of finite numbers, steps is no whole number of at least 1, log_prob returns another
            shape, or the proposal has no density or returns another shape.
        RuntimeError: a log-density is NaN; the message names the step.
    """
    x, steps = require.vectors("x", x), require.whole_number("steps", steps)
    if not callable(getattr(proposal, "draw", None)):
        raise ValueError(f"proposal must have a method draw(x), got {type(proposal).__name__}")
    accepted, here = 0.0, value(log_prob, x, f"step 1 of {steps}")
    for k in range(1, steps + 1):
        when = f"step {k} of {steps}"
        y = require.same_shape("proposal.draw", proposal.draw(x, generator=generator), x)
        there = value(log_prob, y, when)
        gain = there - here + _density(proposal, x, y, when) - _density(proposal, y, x, when)
        gain = torch.where(
            there == -math.inf, -math.inf, gain
        )  # not −∞ − (−∞), from one place outside to another
        accept = uniform(here.shape, here, generator).log() < gain  # (B,)
        x, here = torch.where(column(accept, x), y, x), torch.where(accept, there, here)
        accepted += accept.double().mean().item() / steps
        if after is not None:
            after(k, x)
    return x, accepted


@torch.no_grad()
def gibbs(
    blocks: Sequence[Block],
    x: Tensor,
    sweeps: int,
    after: After | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Gibbs sampling: one part of x after the other, each from its law given the rest (doi:10.1109/TPAMI.1984.4767596).

    Args:
        blocks: functions of x (B, *E) and a generator; each returns x with one part drawn anew.
        x: where the walks start (B, *E).
        sweeps: how often all blocks are gone through.
        after: called with k and the points after sweep k = 1, 2, …
        generator: handed to the blocks.

    Returns:
        The points after the last sweep.

    Raises:
        ValueError: there is no block, x is no batch of finite numbers, sweeps is no whole number of at least 1, or a
            block returns another shape.
    """
    x, sweeps = require.vectors("x", x), require.whole_number("sweeps", sweeps)
    if not len(blocks):
        raise ValueError("blocks must hold at least one function, got none")
    for k in range(1, sweeps + 1):
        for i, block in enumerate(blocks):
            x = require.same_shape(f"blocks[{i}]", block(x, generator), x)
        if after is not None:
            after(k, x)
    return x


def leapfrog(score: Score, x: Tensor, v: Tensor, step: float, leaps: int) -> tuple[Tensor, Tensor]:
    r"""Roll in the landscape −log p: kicks of the velocity by the score, and steps of the place between them.

    .. math:: v \leftarrow v + \tfrac{\epsilon}{2} s(x), \quad x \leftarrow x + \epsilon v, \quad
        v \leftarrow v + \tfrac{\epsilon}{2} s(x)

    It keeps volumes, and undoes itself when the velocity is turned round. Gradients flow if the score has them.

    Args:
        score: (B, *E) → (B, *E).
        x, v: places and velocities (B, *E), for a mass of 1.
        step: ε, in data units.
        leaps: how many.

    Returns:
        Places and velocities (B, *E) after the last leap.

    Raises:
        ValueError: leaps is no whole number of at least 1, step is not above 0, or v has another shape than x.
        RuntimeError: the score is not finite; the message names the leap.
    """
    step, leaps = require.positive("step", step), require.whole_number("leaps", leaps)
    v = v + step / 2 * finite(score(x), require.same_shape("v", v, x), f"leap 1 of {leaps}")
    for k in range(1, leaps + 1):
        x = x + step * v
        half = 0.5 if k == leaps else 1.0  # two half kicks at one place are a whole one
        v = v + half * step * finite(score(x), x, f"leap {k} of {leaps}")
    return x, v


def hamiltonian(
    log_prob: LogProb,
    x: Tensor,
    steps: int,
    step: float,
    leaps: int,
    after: After | None = None,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, float]:
    r"""Hamiltonian Monte Carlo (Duane et al. 1987, doi:10.1016/0370-2693(87)91197-X; Neal 2011, arXiv:1206.1901).

    Each step draws a normal velocity, rolls by `leapfrog`, and accepts by the change of the energy:

    .. math:: a = \min\bigl(1, e^{-\Delta H}\bigr), \qquad H(x, v) = -\log p(x) + \tfrac12 \Vert v \Vert^2

    Args:
        log_prob: of the target, up to a constant, (B, *E) → (B,).
        x: where the walks start (B, *E).
        steps: how many.
        step: ε of the leapfrog, in data units.
        leaps: how many in each step; one leap is `mala` with η = ε²/2.
        after: called with k and the points after step k = 1, 2, …
        generator: draws from here instead of torch's global one.

    Returns:
        The points after the last step, and the share of proposals that were accepted.

    Raises:
        ValueError: as in `leapfrog` and `metropolis_hastings`.
        RuntimeError: the log-density is NaN or its gradient not finite; the message names the step. Or no gradient can
            be taken, under ``torch.inference_mode()``.
    """
    require.gradients("hamiltonian")
    x, steps = require.vectors("x", x).detach(), require.whole_number("steps", steps)
    step, leaps = require.positive("step", step), require.whole_number("leaps", leaps)
    accepted, here = 0.0, value_and_slope(log_prob, x, f"step 1 of {steps}")
    for k in range(1, steps + 1):
        v = normal(x.shape, x, generator)
        y, w, there = x, v + step / 2 * here[1], here
        for leap in range(1, leaps + 1):
            y = y + step * w
            there = value_and_slope(log_prob, y, f"step {k} of {steps}")
            w = w + (0.5 if leap == leaps else 1.0) * step * there[1]
        gain = there[0] - here[0] + (squared(v) - squared(w)) / 2  # −ΔH
        accept = uniform(here[0].shape, here[0], generator).log() < gain  # (B,)
        x = torch.where(column(accept, x), y, x)
        here = tuple(torch.where(column(accept, b), b, a) for a, b in zip(here, there, strict=True))
        accepted += accept.double().mean().item() / steps
        if after is not None:
            after(k, x)
    return x, accepted


def _density(proposal: Proposal, y: Tensor, x: Tensor, when: str) -> Tensor:
    """log q(y | x), (B,)."""
    try:
        density = proposal.log_density(y, x)
    except (AttributeError, NotImplementedError) as error:
        raise ValueError(
            f"proposal must have a density log_density(y, x), got {type(proposal).__name__}"
        ) from error
    return one_each(
        "proposal.log_density", density, x, f"the density of the proposal is not a number at {when}"
    )
