"""A score model for all noise levels at once, sampled and judged by the probability flow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genlib import _arguments as require
from genlib._random import normal
from genlib._shapes import evaluating
from genlib.flows import StandardNormal
from genlib.score import ScoreModel, denoising_loss
from genlib.sde.backward import exponential
from genlib.sde.flow import log_prob
from genlib.sde.noising import Noising


class ScoreSDE(ScoreModel):
    r"""`genlib.score.ScoreModel` at all levels between two, of any noising process (Song et al. 2021).

    (arXiv:2011.13456.) In z = x/(α r), with r² = τ² + κ² and u = log κ, its probability flow is the network itself, up
    to a factor:

    .. math:: \frac{dz}{du} = -\frac{\kappa \tau}{r^2}\, F(z, u)

    Args:
        net: F, (B, *E) and log κ (B,) → (B, *E).
        event_shape: E.
        process: which levels there are, and with which steps samples are drawn.
        last: the smallest level κ, in data units. Densities are those of data with noise of this deviation.
        spread: τ, how far the data's numbers lie from 0, in root mean square.

    Raises:
        ValueError: last is not between 0 and the level at t = 1, or the spread is not above 0.
    """

    def __init__(
        self, net: nn.Module, event_shape: Sequence[int], process: Noising, last: float, spread: float = 1.0
    ) -> None:
        super().__init__(net, event_shape, [process.level(1.0), require.positive("last", last)], spread)
        self.process, self.last = process, float(last)

    def loss(self, x: Tensor) -> Tensor:
        """κ² times the denoising loss, at a level for each example whose logarithm is uniform, (B, *E) → (B,).

        Times 2 log(κ_first/κ_last), its mean bounds D_KL(data‖samples of the reversed process), up to constants.
        """
        x = require.batch("x", x, self.event_shape)
        low, high = self.levels[-1].log(), self.levels[0].log()
        kappa = (low + (high - low) * torch.rand(len(x), device=x.device, dtype=x.dtype)).exp()
        return kappa**2 * denoising_loss(lambda noisy: self.score(noisy, kappa), x, kappa)

    def velocity(self, z: Tensor, log_level: float) -> Tensor:
        """dz/du = −κτ/r² F(z, u), (B, *E) and a number → (B, *E)."""
        kappa = math.exp(log_level)
        speed = kappa * self.spread / (self.spread**2 + kappa**2)
        return -speed * self.net(z, z.new_full((len(z),), log_level))

    def sample(
        self,
        shape: Sequence[int],
        steps: int = 20,
        *,
        order: int = 2,
        noise: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw by `exponential`, with one call of the network a step, (n,) → (n, *E).

        The last step goes from the level `last` to the mean of the clean data.
        """
        require.sample_count(shape)
        steps = require.whole_number("steps", steps)
        alpha, sigma = self.process.scale(1.0), self.process.deviation(1.0)
        start = math.hypot(alpha * self.spread, sigma) * normal(
            (*shape, *self.event_shape), self.levels, generator
        )
        times = [*self.process.schedule(steps - 1, self.last), 0.0] if steps > 1 else [1.0, 0.0]
        score = self.process.at_level(self.score)
        with evaluating(self):
            return exponential(
                self.process, score, start, times, order=order, noise=noise, generator=generator
            )

    def log_prob(self, x: Tensor, steps: int = 30, *, probes: Tensor | None = None) -> Tensor:
        """Log-density of data with noise of the level `last`, (B, *E) → (B,), in nats, by the probability flow.

        Args:
            x: (B, *E).
            steps: of the method of Runge and Kutta of order 4, evenly spaced in log κ; four calls each.
            probes: for the divergence, as in `genlib.sde.divergence`; None for the exact one.
        """
        x = require.batch("x", x, self.event_shape)
        require.same_dtype("x", x, self.net)
        first, last = self.levels[0].item(), self.last
        r, base = math.hypot(self.spread, last), StandardNormal(self.event_shape)
        levels = torch.linspace(
            math.log(last),
            math.log(first),
            require.whole_number("steps", steps) + 1,
            dtype=torch.float64,
            device="cpu",
        )
        with evaluating(self):
            log_z = log_prob(self.velocity, x / r, levels, base, probes=probes)
        return log_z - self.event_shape.numel() * math.log(r)
