"""Processes that turn data, at t = 0, into noise, at t = 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._times import Time, at, given, within
from genlib.sde.processes import Drift, Linear


class Noising(Linear):
    r"""A linear process on the clock of the book, from data at t = 0 to noise at t = 1.

    .. math:: dx = a(t)\, x\, dt + g(t)\, dW, \qquad
        x_t \mid x_0 \sim \mathcal{N}\bigl(\alpha(t)\, x_0,\ \sigma(t)^2 I\bigr)

    All of these are one family: x/α is data with normal noise of deviation `level`, κ = σ/α, and nothing else. A time
    is a number, or a tensor of any shape; what is returned is of the same kind. A subclass has `scale`, `deviation`,
    `rate`, `size` and `time`.
    """

    def rate(self, t: Time) -> Time:
        """a(t) = d log α / dt, per unit of time."""
        raise NotImplementedError

    def size(self, t: Time) -> Time:
        """g(t), in data units per root of time."""
        raise NotImplementedError

    def time(self, level: Time) -> Time:
        """The time at which the noise has the level κ, not above that at t = 1: the inverse of `level`."""
        raise NotImplementedError

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """a(t) x, (B, *E) → (B, *E)."""
        return at(self.rate(t), x) * x

    def noise(self, x: Tensor, t: Time) -> Time:
        """g(t)."""
        return at(self.size(t), x)

    def level(self, t: Time) -> Time:
        """κ = σ/α: deviation of the noise beside data of their own size."""
        return self.deviation(t) / self.scale(t)

    def log_snr(self, t: Time) -> Time:
        """log(α²/σ²), the logarithm of the signal-to-noise ratio, in nats; t above 0."""
        t = within(t)
        return given(t, lambda t: 2 * (self.scale(t).log() - self.deviation(t).log()))

    def schedule(self, steps: int, last: float, *, power: float = 7.0) -> list[float]:
        r"""Times (steps + 1) that fall from 1 to that of the level `last`; a power of the level is evenly spaced.

        .. math:: \kappa_k = \Bigl(\kappa_0^{1/\rho} + \tfrac{k}{N} (\kappa_N^{1/\rho} - \kappa_0^{1/\rho})\Bigr)^{\rho}

        (Karras et al. 2022, arXiv:2206.00364). A large power ρ makes them geometric.

        Args:
            steps: N.
            last: κ_N, above 0 and below the level at t = 1.
            power: ρ.

        Raises:
            ValueError: one of the three is out of range.
        """
        count, first = require.whole_number("steps", steps), self.level(1.0)
        last, power = require.positive("last", last), require.positive("power", power)
        if not last < first:
            raise ValueError(f"last must be below the level at t = 1, {first:.6g}, got {last}")
        done = torch.linspace(0, 1, count + 1, dtype=torch.float64, device="cpu")
        levels = (first ** (1 / power) + done * (last ** (1 / power) - first ** (1 / power))) ** power
        return [1.0, *self.time(levels[1:]).tolist()]

    def at_level(self, score: Callable[[Tensor, Time], Tensor]) -> Drift:
        r"""The score of x_t, a function of x and t, from that of data with noise of level κ.

        .. math:: \nabla \log p_t(x) = \frac{1}{\alpha}\, s\Bigl(\frac{x}{\alpha}, \kappa(t)\Bigr)

        Args:
            score: s(x, κ), (B, *E) and a number or (B,) → (B, *E), as that of `genlib.score.ScoreModel`.
        """

        def at_time(x: Tensor, t: Time) -> Tensor:
            alpha = at(self.scale(t), x)
            return score(x / alpha, self.level(t)) / alpha

        return at_time


class VarianceExploding(Noising):
    r"""Noise is added and nothing is taken away (VE in Song et al. 2021, arXiv:2011.13456).

    .. math:: dx = g\, dW, \qquad \alpha = 1, \qquad \sigma^2 = s_0^2 \bigl((s_1/s_0)^{2t} - 1\bigr)

    Args:
        first, last: s_0 and s_1, in data units: the size of the noise grows from s_0 to s_1.

    Raises:
        ValueError: not 0 < first < last.
    """

    def __init__(self, first: float = 0.01, last: float = 50.0) -> None:
        self.first, self.last = _rising("first", first, "last", last)
        self._growth = math.log(self.last / self.first)

    def scale(self, t: Time) -> Time:
        """α = 1."""
        return given(t, torch.ones_like)

    def deviation(self, t: Time) -> Time:
        """σ, in data units."""
        return given(t, lambda t: self.first * torch.expm1(2 * self._growth * t).sqrt())

    def rate(self, t: Time) -> Time:
        """Zero."""
        return given(t, torch.zeros_like)

    def size(self, t: Time) -> Time:
        """g = s_0 (s_1/s_0)^t √(2 log(s_1/s_0))."""
        return given(t, lambda t: self.first * (self._growth * t).exp() * math.sqrt(2 * self._growth))

    def time(self, level: Time) -> Time:
        """log(1 + κ²/s_0²) / (2 log(s_1/s_0))."""
        return _of_level(level, lambda k: torch.log1p((k / self.first) ** 2) / (2 * self._growth))


class Fading(Noising):
    """α = e^(−B/2) with B the integral of β, which grows evenly from `first` to `last`."""

    def __init__(self, first: float = 0.1, last: float = 20.0) -> None:
        self.first, self.last = _rising("first", first, "last", last, equal=True)

    def beta(self, t: Time) -> Time:
        """β(t), per unit of time."""
        return given(t, lambda t: self.first + t * (self.last - self.first))

    def faded(self, t: Time) -> Time:
        """B(t), the integral of β from 0 to t."""
        return given(t, lambda t: self.first * t + (self.last - self.first) * t**2 / 2)

    def scale(self, t: Time) -> Time:
        """α = e^(−B/2)."""
        return given(t, lambda t: (-self.faded(t) / 2).exp())

    def rate(self, t: Time) -> Time:
        """−β/2."""
        return given(t, lambda t: -self.beta(t) / 2)

    def _when(self, faded: Tensor) -> Tensor:
        """The time at which B has a value: the root of B = β_0 t + (β_1 − β_0) t²/2 that is not negative."""
        return 2 * faded / (self.first + (self.first**2 + 2 * (self.last - self.first) * faded).sqrt())


class VariancePreserving(Fading):
    r"""What noise comes in, data give up: variance 1 stays 1 (VP in Song et al. 2021, arXiv:2011.13456).

    .. math:: dx = -\tfrac12 \beta x\, dt + \sqrt{\beta}\, dW, \qquad \alpha = e^{-B/2}, \quad \sigma^2 = 1 - e^{-B}

    with B the integral of β from 0 to t.

    Args:
        first, last: β at t = 0 and t = 1, between which it grows evenly, per unit of time.

    Raises:
        ValueError: not 0 < first ≤ last.
    """

    def deviation(self, t: Time) -> Time:
        """σ = √(1 − e^(−B))."""
        return given(t, lambda t: (-torch.expm1(-self.faded(t))).sqrt())

    def size(self, t: Time) -> Time:
        """√β."""
        return given(t, lambda t: self.beta(t).sqrt())

    def time(self, level: Time) -> Time:
        """When B = log(1 + κ²)."""
        return _of_level(level, lambda k: self._when(torch.log1p(k**2)))


class SubVariancePreserving(Fading):
    r"""Data fade as in `VariancePreserving`, with less noise (sub-VP in Song et al. 2021, arXiv:2011.13456).

    .. math:: dx = -\tfrac12 \beta x\, dt + \sqrt{\beta (1 - e^{-2B})}\, dW, \qquad \alpha = e^{-B/2}, \quad
        \sigma = 1 - e^{-B}

    Args:
        first, last: as in `VariancePreserving`.

    Raises:
        ValueError: not 0 < first ≤ last.
    """

    def deviation(self, t: Time) -> Time:
        """σ = 1 − e^(−B)."""
        return given(t, lambda t: -torch.expm1(-self.faded(t)))

    def size(self, t: Time) -> Time:
        """√(β (1 − e^(−2B)))."""
        return given(t, lambda t: (-self.beta(t) * torch.expm1(-2 * self.faded(t))).sqrt())

    def time(self, level: Time) -> Time:
        """When e^(−B/2) = (√(κ² + 4) − κ) / 2."""
        return _of_level(level, lambda k: self._when(2 * torch.asinh(k / 2)))


def _of_level(level: Time, formula: Callable[[Tensor], Tensor]) -> Time:
    """The time in [0, 1] that a formula has for a level, as a number where the level is one."""
    if not isinstance(level, Tensor):
        level = require.not_negative("level", level)
        return _of_level(torch.tensor(level, dtype=torch.float64, device="cpu"), formula).item()
    if not require.holds((level >= 0).all()):
        raise ValueError(f"level must be at least 0, got {level.min().item():.6g}")
    t = formula(level)
    if not require.holds((t <= 1 + 1e-6).all()):
        raise ValueError(f"level must not be above that at t = 1, got {level.max().item():.6g}")
    return t.clamp(max=1.0)


def _rising(a: str, low: object, b: str, high: object, *, equal: bool = False) -> tuple[float, float]:
    low, high = require.positive(a, low), require.positive(b, high)
    if not (low < high or (equal and low == high)):
        raise ValueError(f"{a} must be below {b}, so that noise grows, got {low} and {high}")
    return low, high
