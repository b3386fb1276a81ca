"""Processes: a drift, a noise size, and the exact law where it is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Independent, LogNormal, Normal

from genlib import _arguments as require
from genlib.data import GaussianMixture

Drift = Callable[[Tensor, float], Tensor]
Noise = Callable[[Tensor, float], Tensor | float]
Score = Callable[[Tensor], Tensor]


class Process(Protocol):
    """What `simulate` needs: dx = drift dt + noise dW."""

    def drift(self, x: Tensor, t: float) -> Tensor:
        """f(x, t), (B, *E) → (B, *E), in data units per unit of time."""

    def noise(self, x: Tensor, t: float) -> Tensor | float:
        """g(x, t): one number, or a tensor that broadcasts to (B, *E)."""


class Diffusion:
    """A process from two functions.

    Args:
        drift: f(x, t), (B, *E) and a number → (B, *E).
        noise: g(x, t), to one number or to what broadcasts to (B, *E); or one number of at least 0.
    """

    def __init__(self, drift: Drift, noise: Noise | float) -> None:
        if not callable(drift):
            raise ValueError(f"drift must be a function of x and t, got {drift!r}")
        self._drift = drift
        self._noise = noise if callable(noise) else float(require.not_negative("noise", noise))

    def drift(self, x: Tensor, t: float) -> Tensor:
        """f(x, t), (B, *E) → (B, *E)."""
        return self._drift(x, t)

    def noise(self, x: Tensor, t: float) -> Tensor | float:
        """g(x, t)."""
        return self._noise(x, t) if callable(self._noise) else self._noise


class Linear:
    """A process whose drift is a multiple of x and whose noise is the same everywhere, so that its kernel is normal.

    x_t given x_0 is normal with mean scale(t) · x_0 and standard deviation deviation(t) in each coordinate. A subclass
    has `drift`, `noise`, `scale` and `deviation`.
    """

    def scale(self, t: float) -> float:
        """What is left of x_0 in the mean at time t."""
        raise NotImplementedError

    def deviation(self, t: float) -> float:
        """Standard deviation at time t of the noise that has come in since time 0."""
        raise NotImplementedError

    def kernel(self, x0: Tensor, t: float) -> Independent:
        """p(x_t | x_0) for points x0 (B, *E), at a time above 0.

        Raises:
            ValueError: x0 is no batch of finite numbers, or t is not above 0.
        """
        x0, t = require.vectors("x0", x0), require.positive("t", t)
        return Independent(Normal(self.scale(t) * x0, self.deviation(t)), x0.ndim - 1)

    def marginal(self, start: GaussianMixture, t: float) -> GaussianMixture:
        """The law at time t of a crowd that starts from a mixture: a mixture again, exact.

        Raises:
            ValueError: start is no mixture of Gaussians, or t is below 0.
        """
        if not isinstance(start, GaussianMixture):
            raise ValueError(f"start must be a GaussianMixture, got {type(start).__name__}")
        t = float(require.not_negative("t", t))
        a, s = self.scale(t), self.deviation(t)
        return GaussianMixture(a * start.means, (a**2 * start.scale**2 + s**2).sqrt(), start.weights)


class Brownian(Linear):
    """Brownian motion, dx = size dW.

    Args:
        size: standard deviation after one unit of time.
    """

    def __init__(self, size: float = 1.0) -> None:
        self.size = require.positive("size", size)

    def drift(self, x: Tensor, t: float) -> Tensor:
        """Zero, (B, *E) → (B, *E)."""
        return torch.zeros_like(x)

    def noise(self, x: Tensor, t: float) -> float:
        """The size."""
        return self.size

    def scale(self, t: float) -> float:
        """One."""
        require.not_negative("t", t)
        return 1.0

    def deviation(self, t: float) -> float:
        """size · √t."""
        return self.size * math.sqrt(require.not_negative("t", t))


class OrnsteinUhlenbeck(Linear):
    r"""Relaxation to the normal law of variance T (Uhlenbeck and Ornstein 1930, doi:10.1103/PhysRev.36.823).

    .. math:: dx = -\kappa x\, dt + \sqrt{2 \kappa T}\, dW

    Args:
        rate: κ, how fast the mean is forgotten, per unit of time.
        temperature: T, the variance at rest, in squared data units.
    """

    def __init__(self, rate: float = 1.0, temperature: float = 1.0) -> None:
        self.rate = require.positive("rate", rate)
        self.temperature = require.positive("temperature", temperature)

    def drift(self, x: Tensor, t: float) -> Tensor:
        """−κ x, (B, *E) → (B, *E)."""
        return -self.rate * x

    def noise(self, x: Tensor, t: float) -> float:
        """√(2 κ T)."""
        return math.sqrt(2 * self.rate * self.temperature)

    def scale(self, t: float) -> float:
        """e^(−κ t)."""
        return math.exp(-self.rate * require.not_negative("t", t))

    def deviation(self, t: float) -> float:
        """√(T (1 − e^(−2κt)))."""
        return math.sqrt(-self.temperature * math.expm1(-2 * self.rate * require.not_negative("t", t)))


class GeometricBrownian:
    r"""Growth in proportion, with noise in proportion.

    .. math:: dx = \mu x\, dt + \sigma x\, dW, \qquad
        x_t = x_0 \exp\bigl((\mu - \tfrac12 \sigma^2)\, t + \sigma W_t\bigr)

    Args:
        growth: μ, per unit of time.
        volatility: σ, above 0.
    """

    def __init__(self, growth: float, volatility: float) -> None:
        self.growth = require.finite("growth", growth)
        self.volatility = require.positive("volatility", volatility)

    def drift(self, x: Tensor, t: float) -> Tensor:
        """μ x, (B, *E) → (B, *E)."""
        return self.growth * x

    def noise(self, x: Tensor, t: float) -> Tensor:
        """σ x, (B, *E) → (B, *E)."""
        return self.volatility * x

    def solution(self, x0: Tensor | float, t: float | Tensor, w: Tensor) -> Tensor:
        """x_t on the path that has the value w at time t, for a start x0."""
        return x0 * ((self.growth - self.volatility**2 / 2) * t + self.volatility * w).exp()

    def kernel(self, x0: Tensor, t: float | Tensor) -> Independent:
        """p(x_t | x_0) for points x0 (B, *E) above 0: log-normal.

        Raises:
            ValueError: x0 is no batch of numbers above 0, or t is not above 0.
        """
        x0 = require.vectors("x0", x0)
        if (x0 <= 0).any():
            raise ValueError("x0 must be above 0")
        t = torch.as_tensor(t, dtype=x0.dtype, device=x0.device)
        if not require.holds((t > 0).all()):
            raise ValueError("t must be above 0")
        middle = x0.log() + (self.growth - self.volatility**2 / 2) * t
        return Independent(LogNormal(middle, self.volatility * t.sqrt()), x0.ndim - 1)


class Overdamped:
    r"""Langevin dynamics in continuous time, at rest at the target to the power 1/T.

    .. math:: dx = s(x)\, dt + \sqrt{2 T}\, dW

    Args:
        score: s of the target, (B, *E) → (B, *E).
        temperature: T.
    """

    def __init__(self, score: Score, temperature: float = 1.0) -> None:
        self.score, self.temperature = score, require.positive("temperature", temperature)

    def drift(self, x: Tensor, t: float) -> Tensor:
        """s(x), (B, *E) → (B, *E)."""
        return self.score(x)

    def noise(self, x: Tensor, t: float) -> float:
        """√(2T)."""
        return math.sqrt(2 * self.temperature)


class Underdamped:
    r"""A particle of mass 1 with friction and kicks (Langevin 1908), at rest at exp(−(U(x) + v²/2) / T) for F = −∇U.

    .. math:: dx = v\, dt, \qquad dv = (F(x) - \gamma v)\, dt + \sqrt{2 \gamma T}\, dW

    Its points are pairs (B, 2, \*E): place and velocity.

    Args:
        force: F, (B, *E) → (B, *E).
        friction: γ, per unit of time.
        temperature: T.
    """

    def __init__(self, force: Score, friction: float, temperature: float = 1.0) -> None:
        self.force = force
        self.friction = require.positive("friction", friction)
        self.temperature = require.positive("temperature", temperature)

    def drift(self, x: Tensor, t: float) -> Tensor:
        """(v, F(x) − γ v), (B, 2, *E) → (B, 2, *E)."""
        place, velocity = _pair(x)
        force = require.same_shape("force", self.force(place), place)
        return torch.stack([velocity, force - self.friction * velocity], 1)

    def noise(self, x: Tensor, t: float) -> Tensor:
        """(0, √(2γT)), (B, 2, *E) → (2, 1, …)."""
        kick = math.sqrt(2 * self.friction * self.temperature)
        return x.new_tensor([0.0, kick]).reshape(2, *[1] * (x.ndim - 2))


class Reversed:
    r"""A process run backwards (Anderson 1982, doi:10.1016/0304-4149(82)90051-5), from s = 0 to s = end.

    With t = end − s, and the score of the crowd at each time t:

    .. math:: dx = \bigl(-f(x, t) + g(t)^2\, \nabla \log p_t(x)\bigr)\, ds + g(t)\, dW

    Args:
        process: the one that runs forward; its noise must not depend on x.
        score: ∇ log p_t(x), (B, *E) and a number → (B, *E).
        end: the time from which it runs back.

    Raises:
        ValueError: end is not above 0, the score has another shape than x, the clock runs past end, or the noise
            differs between the points.
    """

    def __init__(self, process: Process, score: Drift, end: float) -> None:
        self.process, self.score, self.end = process, score, require.positive("end", end)

    def drift(self, x: Tensor, t: float) -> Tensor:
        """−f + g² ∇ log p, (B, *E) → (B, *E), at the time t of the backward clock."""
        t = self._forward(t)
        score, g = require.same_shape("score", self.score(x, t), x), self.process.noise(x, t)
        if isinstance(g, Tensor) and g.ndim == x.ndim and not require.holds((g == g[:1]).all()):
            raise ValueError("the noise of a process that is reversed must be the same at all places x")
        return -self.process.drift(x, t) + g**2 * score

    def noise(self, x: Tensor, t: float) -> Tensor | float:
        """The noise g of the process, at the time t of the backward clock."""
        return self.process.noise(x, self._forward(t))

    def _forward(self, t: float) -> float:
        """The time of the forward clock, at least 0 for what rounding leaves."""
        if t > self.end * (1 + 1e-9):
            raise ValueError(f"the time of the backward clock must not exceed end = {self.end:g}, got {t:g}")
        return max(self.end - t, 0.0)


def _pair(x: Tensor) -> tuple[Tensor, Tensor]:
    """Places and velocities from points (B, 2, *E)."""
    if x.ndim < 3 or x.shape[1] != 2:
        raise ValueError(f"x must have shape (B, 2, *E), places and velocities, got {tuple(x.shape)}")
    return x[:, 0], x[:, 1]
