r"""Langevin dynamics: plain, adjusted and annealed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import normal, uniform
from genlib._shapes import column, squared
from genlib.samplers._slopes import LogProb, Score, finite, value_and_slope

NoisyScore = Callable[[Tensor, float], Tensor]
Hold = Callable[[Tensor, float], Tensor]


@torch.no_grad()
def langevin(
    score: Score,
    x: Tensor,
    steps: int,
    step: float,
    after: Callable[[int, Tensor], None] | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Langevin dynamics, unadjusted, from x (B, *E) to the points (B, *E) after the last step.

    .. math:: x \leftarrow x + \eta\, s(x) + \sqrt{2 \eta}\, \varepsilon

    Args:
        score: of the target.
        x: where the points start; it is not changed.
        steps: how many.
        step: η, in squared data units.
        after: called with k and the points after step k = 1, 2, …
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: x is no batch of finite numbers, steps is no whole number of at least 1, or step is not above 0.
        RuntimeError: the score is not finite; the message names the step.
    """
    x, steps, step = (
        require.vectors("x", x),
        require.whole_number("steps", steps),
        require.positive("step", step),
    )
    for k in range(1, steps + 1):
        x = _move(x, finite(score(x), x, f"step {k} of {steps}"), step, generator)
        if after is not None:
            after(k, x)
    return x


def mala(
    log_prob: LogProb,
    x: Tensor,
    steps: int,
    step: float,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, float]:
    """Langevin dynamics, adjusted after Metropolis (Roberts and Tweedie 1996, doi:10.2307/3318418).

    Each step is a proposal. It is accepted with a probability that makes the target exactly stationary at any step.

    Args:
        log_prob: of the target, up to a constant, (B, *E) → (B,).
        x: where the points start (B, *E).
        steps: how many.
        step: η, in squared data units.
        generator: draws from here instead of torch's global one.

    Returns:
        The points after the last step, and the share of proposals that were accepted.

    Raises:
        ValueError: as in `langevin`, or log_prob returns another shape.
        RuntimeError: the score is not finite, or the log-density is NaN; the message names the step. Or no gradient can
            be taken, under ``torch.inference_mode()``.
    """
    require.gradients("mala")
    x, steps, step = (
        require.vectors("x", x).detach(),
        require.whole_number("steps", steps),
        require.positive("step", step),
    )
    accepted = 0.0
    here = value_and_slope(log_prob, x, f"step 1 of {steps}")
    for k in range(1, steps + 1):
        with torch.no_grad():
            y = _move(x, here[1], step, generator)
        there = value_and_slope(log_prob, y, f"step {k} of {steps}")
        way = _log_step(y, x, here[1], step)  # log-density of the way there, up to a constant
        back = _log_step(x, y, there[1], step)
        accept = uniform(here[0].shape, here[0], generator).log() < there[0] + back - here[0] - way  # (B,)
        x = torch.where(column(accept, x), y, x)
        here = tuple(torch.where(column(accept, b), b, a) for a, b in zip(here, there, strict=True))
        accepted += accept.double().mean().item() / steps
    return x, accepted


@torch.no_grad()
def annealed_langevin(
    score: NoisyScore,
    x: Tensor,
    levels: Tensor | Sequence[float],
    steps: int = 20,
    step: float = 0.1,
    hold: Hold | None = None,
    after: Callable[[int, Tensor], None] | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Langevin dynamics at one noise level after the other (after Song and Ermon 2019, arXiv:1907.05600, algorithm 1).

    At level σ the step is η = step · σ². After the last level the noise that is left is taken off by Tweedie's
    formula, x + σ² s (`genlib.score.denoise`), after
    Jolicoeur-Martineau et al. 2021 (arXiv:2009.05475).

    Args:
        score: of the noised data at level σ, (B, *E) and a number → (B, *E).
        x: where the points start, (B, *E); normal with the first level as deviation, where that is far above the
            spread of the data.
        levels: (L,) noise levels, falling.
        steps: how many at each level.
        step: in units of σ², below 2: from there on points fly apart at the levels far above the spread of the data.
        hold: called with the points and the level after each step, and with the level 0 at the very end; what it
            returns replaces the points. See `known`.
        after: called with i and the points after level i = 1, …, L, and with i = L + 1 at the very end.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: x is no batch of finite numbers, the levels do not fall or are not above 0, steps is no whole number
            of at least 1, or step is not above 0.
        RuntimeError: the score is not finite; the message names the step and the level.
    """
    x, steps, step = (
        require.vectors("x", x),
        require.whole_number("steps", steps),
        require.positive("step", step),
    )
    levels = require.falling("levels", levels).tolist()
    for i, sigma in enumerate(levels, 1):
        level = f"level {i} of {len(levels)} (σ = {sigma:.4g})"
        for k in range(1, steps + 1):
            s = finite(score(x, sigma), x, f"step {k} of {steps} at {level}")
            x = _move(x, s, step * sigma**2, generator)
            x = x if hold is None else require.same_shape("hold", hold(x, sigma), x)
        if after is not None:
            after(i, x)
    x = x + sigma**2 * finite(score(x, sigma), x, f"the end of {level}")
    x = x if hold is None else require.same_shape("hold", hold(x, 0.0), x)
    if after is not None:
        after(len(levels) + 1, x)
    return x


def known(values: Tensor, where: Tensor, *, generator: torch.Generator | None = None) -> Hold:
    """A `hold` for inpainting: puts the known numbers, with noise of the level, where they belong.

    Args:
        values: (*E) or (B, *E), looked at where they are known.
        where: bool of the same shape, True where they are known.
        generator: draws the noise from here instead of torch's global one.

    Raises:
        ValueError: where is not bool, or True everywhere or nowhere; values have another shape or are not finite there.
    """
    where = require.mask("where", where)
    if not isinstance(values, Tensor) or values.shape != where.shape:
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"values must have the shape of where, {tuple(where.shape)}, got {got}")
    require.real_tensor("values", values[where])
    return lambda x, sigma: torch.where(where, values + sigma * normal(x.shape, x, generator), x)


def capped(score: Score, longest: float) -> Score:
    """The score with arrows no longer than `longest`; longer ones are shortened, and keep their direction.

    With it a step of a walk is never much longer than step · longest, wherever a network may have grown steep. Points
    that come to rest where arrows are cut are no draws of the target.

    Raises:
        ValueError: longest is not above 0.
    """
    longest = require.positive("longest", longest)

    def cut(x: Tensor) -> Tensor:
        s = require.same_shape("score", score(x), x)
        length = squared(s).sqrt()
        return s * column((longest / length).clamp(max=1), s)

    return cut


def _move(x: Tensor, s: Tensor, step: float, generator: torch.Generator | None) -> Tensor:
    """Take one step of Langevin dynamics."""
    return x + step * s + math.sqrt(2 * step) * normal(x.shape, x, generator)


def _log_step(y: Tensor, x: Tensor, s: Tensor, step: float) -> Tensor:
    """Log-density of the step from x to y, up to a constant, (B,)."""
    return -squared(y - x - step * s) / (4 * step)
