r"""The Gaussian chain of a diffusion model in terms of its guess of the clean data, and the bound on log-probabilities.

A level κ = σ/α is the noise beside data of their own size; y = x/α is data with noise of that level. The levels rise,
κ_0 < κ_1 < … < κ_T (Ho et al. 2020, arXiv:2006.11239; Kingma et al. 2021, arXiv:2107.00630).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import normal, uniform
from genlib._shapes import evaluating, squared
from genlib.sde.levels import GreyScore
from genlib.sde.noising import Noising

Clean = Callable[[Tensor, float], Tensor]


def posterior(x: Tensor, noisy: Tensor, process: Noising, t: float, before: float) -> tuple[Tensor, float]:
    r"""Mean and variance of the chain at an earlier time s, given the clean x and the noisy one at t, q(x_s | x_t, x).

    With q = κ_s/κ_t:

    .. math:: x_s \mid x_t, x \sim \mathcal{N}\Bigl(\alpha_s \bigl(q^2\, x_t/\alpha_t + (1 - q^2)\, x\bigr),\
        \sigma_s^2 (1 - q^2) I\Bigr)

    Args:
        x, noisy: clean points, and the same at time t, (B, *E) each.
        process: of the noise.
        t: in (0, 1].
        before: s, in [0, t].

    Returns:
        The mean (B, *E), and the variance of each of its numbers, in squared data units.

    Raises:
        ValueError: t is no time after 0, s does not lie in [0, t], or the two have different shapes.
    """
    if not (0 <= before <= t <= 1 and t > 0):
        raise ValueError(f"times must obey 0 ≤ before ≤ t ≤ 1 and t > 0, got t = {t} and before = {before}")
    noisy = require.same_shape("noisy", noisy, x)
    share = (process.level(before) / process.level(t)) ** 2  # q²
    mean = process.scale(before) * (share * noisy / process.scale(t) + (1 - share) * x)
    return mean, process.deviation(before) ** 2 * (1 - share)


def capacity(level: float, spread: float) -> float:
    """log(1 + spread²/κ²): twice the nats a number of normal data with this deviation tells through noise κ."""
    return math.log1p((require.positive("spread", spread) / require.positive("level", level)) ** 2)


def even_levels(steps: int, last: float, first: float, spread: float) -> Tensor:
    r"""Levels (T + 1,) that rise from last to first; a step between two costs normal data the same number of nats.

    .. math:: \log(1 + \tau^2/\kappa_k^2) \text{ falls evenly}

    Args:
        steps: T.
        last, first: κ_0 and κ_T.
        spread: τ, the deviation of the data.

    Raises:
        ValueError: not 0 < last < first, the spread is not above 0, or there is no step.
    """
    low, high = capacity(first, spread), capacity(last, spread)
    if not low < high:
        raise ValueError(f"last must be below first, got {last} and {first}")
    even = torch.linspace(
        high, low, require.whole_number("steps", steps) + 1, dtype=torch.float64, device="cpu"
    )
    return spread / even.expm1().sqrt()


def denoising_terms(
    clean: Clean,
    x: Tensor,
    levels: Tensor,
    *,
    limit: bool = False,
    spread: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Nats that each step of the chain costs, by one draw of noise a step, (B, *E) → (B, T).

    Both sides of a step are normal with the same variance, so that only the guess x̂ of the clean data counts:

    .. math:: D_{KL}\bigl( q(y_{k-1} \mid y_k, x) \,\Vert\, q(y_{k-1} \mid y_k, \hat x) \bigr)
        = \frac12 \Bigl( \frac{1}{\kappa_{k-1}^2} - \frac{1}{\kappa_k^2} \Bigr)
        \lVert x - \hat x(y_k, \kappa_k) \rVert^2

    In the limit of many steps between two levels the sum becomes an integral. One draw of κ between the two tells it:

    .. math:: \frac12 \int_{\kappa_{k-1}}^{\kappa_k} \lVert x - \hat x(y, \kappa) \rVert^2\,
        \frac{2\, d\kappa}{\kappa^3}

    Args:
        clean: x̂, points (B, *E) with noise and its level → (B, *E).
        x: clean data.
        levels: (T + 1,) rising, κ_0 above 0.
        limit: the terms of infinitely many steps, each by a level drawn between its two; the draw is even in
            `capacity`, and the same for the whole batch.
        spread: τ in `capacity`; any gives the same mean.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: the levels do not rise from above 0, or x̂ has another shape than x.
    """
    x, edges = require.vectors("x", x), levels.tolist()
    if not (levels[0] > 0 and (levels.diff() > 0).all()):
        raise ValueError(f"levels must rise from above 0, got {edges}")
    terms = []
    for low, high in itertools.pairwise(edges):
        at, weight = high, low**-2 - high**-2
        if limit:
            top, bottom = capacity(low, spread), capacity(high, spread)
            drawn = bottom + (top - bottom) * uniform((), x.double(), generator).item()
            at, weight = spread / math.sqrt(math.expm1(drawn)), (top - bottom) * math.exp(drawn) / spread**2
        y = x + at * normal(x.shape, x, generator)
        terms.append(weight / 2 * squared(x - require.same_shape("clean", clean(y, at), x)))
    return torch.stack(terms, 1)


def prior_terms(x: Tensor, level: float, mean: Tensor | float, deviation: float) -> Tensor:
    """D_KL(N(x, level²) ‖ N(mean, deviation²)) in nats, summed over the numbers of an example, (B, *E) → (B,)."""
    ratio = (require.positive("level", level) / require.positive("deviation", deviation)) ** 2
    numbers = x[0].numel()
    return (squared(x - mean) / deviation**2 + numbers * (ratio - 1 - math.log(ratio))) / 2


class Bound(NamedTuple):
    """The three parts of the bound, in nats; a bound on log P(x) is minus their sum.

    Attributes:
        decoding: −log P(x | y_0), (B,): from the least noise to whole levels.
        denoising: of each step, (B, T), that of the least noise first.
        prior: D_KL(q(y_T | x) ‖ p(y_T)), (B,).
    """

    decoding: Tensor
    denoising: Tensor
    prior: Tensor

    @property
    def elbo(self) -> Tensor:
        """The bound, (B,)."""
        return -(self.decoding + self.denoising.sum(1) + self.prior)


def bound(
    model: GreyScore,
    x: Tensor,
    steps: int = 32,
    *,
    limit: bool = True,
    generator: torch.Generator | None = None,
) -> Bound:
    r"""The bound of the chain on log P(x), by one draw of noise a step, (B, H, W) → `Bound`.

    .. math:: \log P(x) \ge \mathbb{E}\bigl[\log P(x \mid y_0)\bigr]
        - \sum_{k=1}^{T} D_{KL}\bigl(q(y_{k-1} \mid y_k, x) \,\Vert\, p(y_{k-1} \mid y_k)\bigr)
        - D_{KL}\bigl(q(y_T \mid x) \,\Vert\, p(y_T)\bigr)

    The chain starts from normal numbers of the mean and the spread of the images, with noise `model.first`.

    Args:
        model: of grey levels, or `model(c)`.
        x: grey levels.
        steps: T; each asks the network once.
        limit: the bound of infinitely many steps, whose levels are drawn, one in each of T parts.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: x is no such batch, or there is no step.
    """
    whole = model.images(x).flatten(1)
    levels, x = even_levels(steps, model.last, model.first, model.spread), whole.to(model.k)
    with evaluating(model):
        terms = denoising_terms(model.clean, x, levels, limit=limit, spread=model.spread, generator=generator)
        y = x + model.last * normal(x.shape, x, generator)
        log_p = model.logits(y, y.new_full((len(y),), model.last)).log_softmax(-1)
    decoding = -log_p.gather(2, whole[..., None])[..., 0].sum(1)
    return Bound(
        decoding, terms, prior_terms(x, model.first, model.mean, math.hypot(model.spread, model.first))
    )
