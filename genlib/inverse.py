r"""Inverse problems: samples of x given y = A x + σ ε, from a score of x that never heard of A.

Everything is said for data with noise of level κ, u = x + κ ε, as in `genlib.score`: any process of `genlib.sde` is
that at another scale. By Bayes' rule the score of u given y is the score of u plus the slope of log p(y | u). That one
is the hard part: it is a mean over all clean x that may lie behind u. The methods differ in what they put in its place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.linalg import pinv, svd
from torch.nn.functional import pad

from genlib import _arguments as require
from genlib._random import normal, uniform
from genlib._shapes import squared
from genlib.data.plane import GaussianMixture

Field = Callable[[Tensor, float], Tensor]  # of u, (B, D), and κ → (B, D)
Levels = Tensor | Sequence[float]


class Measurement:
    r"""A measurement y = f(x) + σ ε of vectors.

    Args:
        function: f, (B, D) → (B, M).
        dims: D.
        size: M.
        noise: σ, in units of y.

    Raises:
        ValueError: a size is no whole number of at least 1, or the noise is not above 0.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], dims: int, size: int, noise: float) -> None:
        self.function, self.noise = function, require.positive("noise", noise)
        self.dims, self.size = require.whole_number("dims", dims), require.whole_number("size", size)

    def __call__(self, x: Tensor) -> Tensor:
        """f(x), (B, D) → (B, M)."""
        if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != self.dims:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"x must have shape (B, {self.dims}), got {got}")
        if not x.is_floating_point():
            raise ValueError(f"x must be of a floating dtype, got {x.dtype}")
        y = self.function(x)
        if y.shape != (len(x), self.size):
            raise ValueError(f"function must return ({len(x)}, {self.size}), got {tuple(y.shape)}")
        return y

    def measure(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """f(x) + σ ε, (B, D) → (B, M)."""
        y = self(x)
        return y + self.noise * normal(y.shape, y, generator)

    def given(self, y: object, like: Tensor) -> Tensor:
        """Return what was measured, (M,), after checking that it is finite, on the device and in the dtype of `like`.

        Raises:
            ValueError: y has another shape, or holds NaN or infinity.
        """
        y = require.real_tensor("y", y, like=like)
        if y.shape != (self.size,):
            raise ValueError(f"y must have shape ({self.size},), got {tuple(y.shape)}")
        return y

    def log_likelihood(self, y: Tensor, x: Tensor) -> Tensor:
        """log p(y | x) in nats, (M,) and (B, D) → (B,)."""
        off = squared(self.given(y, x) - self(x))
        return -off / (2 * self.noise**2) - self.size * math.log(self.noise * math.sqrt(2 * math.pi))


class Linear(Measurement):
    r"""A measurement y = A x + σ ε of vectors.

    Args:
        matrix: A, (M, D).
        noise: σ, in units of y.

    Raises:
        ValueError: the matrix has no such shape or is not finite, or the noise is not above 0.
    """

    def __init__(self, matrix: Tensor, noise: float) -> None:
        self.matrix = require.real_tensor("matrix", matrix)
        if self.matrix.ndim != 2 or 0 in self.matrix.shape:
            shape = tuple(self.matrix.shape)
            raise ValueError(f"matrix must have shape (M, D) with M, D at least 1, got {shape}")
        size, dims = self.matrix.shape
        super().__init__(self._times, dims, size, noise)

    def _times(self, x: Tensor) -> Tensor:
        return x @ self.matrix.to(x).mT

    def law(self, centre: Tensor, spread: Tensor | float = 0.0) -> MultivariateNormal:
        """N(A m, r² A Aᵀ + σ² I) of y, for normal x: mean m (B, D), deviation r, a number or (B, 1, 1).

        Raises:
            ValueError: the noise is so small beside the matrix that rounding makes the covariance singular.
        """
        A = self.matrix.to(centre)
        eye = torch.eye(self.size, dtype=A.dtype, device=A.device)
        cov = spread**2 * A @ A.mT + self.noise**2 * eye
        try:
            return MultivariateNormal(self(centre), cov, validate_args=False)
        except torch.linalg.LinAlgError:
            size = f"{A.abs().max().item():.3g} in {A.dtype}"
            raise ValueError(
                f"noise is too small beside a matrix of size {size}, got {self.noise!r}"
            ) from None


class MixturePosterior:
    r"""The exact law of x given y for a mixture of round normals and a linear measurement: a mixture again.

    Component k has the precision 1/s_k² + λ/σ² along each eigenvector of AᵀA, with λ its eigenvalue, and the weight
    w_k N(y; A m_k, s_k² A Aᵀ + σ² I), scaled to 1. Noise of level κ adds κ² to each variance.

    Args:
        prior: of x.
        measurement: linear.
        y: (M,).
        level: κ.
    """

    def __init__(self, prior: GaussianMixture, measurement: Linear, y: Tensor, level: float = 0.0) -> None:
        A, self.prior, self.measurement = _linear(measurement).to(prior.means), prior, measurement
        if prior.event_shape[0] != A.shape[1]:
            raise ValueError(f"prior must have {A.shape[1]} dimensions, got {prior.event_shape[0]}")
        self.y = measurement.given(y, prior.means)
        self.level = float(require.not_negative("level", level))
        self.event_shape = prior.event_shape
        curvature, told, self.basis = _said(measurement, self.y)
        inverse = prior.scale[:, None] ** -2  # (K, 1)
        pull = prior.means @ self.basis * inverse + told
        self.means = pull / (inverse + curvature)  # (K, D), in the basis
        self.variance = 1 / (inverse + curvature) + self.level**2
        evidence = measurement.law(prior.means, prior.scale[:, None, None]).log_prob(self.y)
        self.log_weights = (prior.weights.log() + evidence).log_softmax(0)

    def noised(self, level: float) -> MixturePosterior:
        """The law of u = x + κ ε given y."""
        level = float(require.not_negative("level", level))
        return MixturePosterior(self.prior, self.measurement, self.y, math.hypot(self.level, level))

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw points, (n,) → (n, D)."""
        n = require.sample_count(shape)
        k = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        eps = normal((n, *self.event_shape), self.means, generator)
        return (self.means[k] + self.variance[k].sqrt() * eps) @ self.basis.mT

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, exact, (B, D) → (B,)."""
        return self._parts(require.real_events("x", x, self.event_shape))[1].logsumexp(-1)

    def score(self, x: Tensor) -> Tensor:
        """Its slope in x, (B, D) → (B, D)."""
        away, parts = self._parts(require.real_events("x", x, self.event_shape))
        return -(parts.softmax(-1)[..., None] * away / self.variance).sum(-2) @ self.basis.mT

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """How far x lies from each centre, in the basis, (..., K, D), and log weight + log-density, (..., K)."""
        away = (x @ self.basis)[..., None, :] - self.means
        density = -0.5 * (away**2 / self.variance + (2 * math.pi * self.variance).log()).sum(-1)
        return away, self.log_weights + density


def cleaned(score: Field, u: Tensor, level: float) -> Tensor:
    """Mean of the clean data, u + κ² s(u, κ), (B, D) → (B, D)."""
    return u + level**2 * require.same_shape("score", score(u, level), u)


def ancestral(
    u: Tensor, clean: Tensor, level: float, end: float, generator: torch.Generator | None
) -> Tensor:
    r"""From level κ to κ′ as if the clean data were known, (B, D) → (B, D).

    .. math:: u' \mid u, x \sim \mathcal{N}\bigl(q^2 u + (1 - q^2)\, x,\ \kappa'^2 (1 - q^2)\bigr), \qquad
        q = \kappa' / \kappa
    """
    q2 = (end / level) ** 2
    return q2 * u + (1 - q2) * clean + end * math.sqrt(1 - q2) * normal(u.shape, u, generator)


def reconstruction(score: Field, measurement: Measurement, y: Tensor, spread: float = 0.0) -> Field:
    r"""The slope in u of a normal guess at log p(y | u), around the clean data's mean x̂ = E[x | u].

    .. math:: \nabla_u \log \mathcal{N}\bigl(y;\ A \hat x,\ r^2 A A^\top + \sigma^2 I\bigr), \qquad
        r^2 = \frac{\kappa^2 \tau^2}{\kappa^2 + \tau^2}

    With τ = 0 the mean is taken for the truth. Otherwise r is how far the truth lies from it if data are normal with
    deviation τ (ΠGDM, Song et al. 2023, https://openreview.net/forum?id=9_gsMA8MRKQ).

    Args:
        score: of data with noise, differentiable in u.
        measurement: linear, unless τ is 0.
        y: (M,).
        spread: τ.
    """
    look = _guess(score, measurement, y, spread)
    return lambda u, level: look(u, level)[2]


def _guess(
    score: Field, measurement: Measurement, y: Tensor, spread: float
) -> Callable[[Tensor, float], tuple[Tensor, Tensor, Tensor]]:
    """Of u and κ: the clean data's mean, the guessed log p(y | u), and its slope in u."""
    tau = float(require.not_negative("spread", spread))
    if tau:
        _linear(measurement)

    def look(u: Tensor, level: float) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            clean = cleaned(score, u, level)
            if tau:
                told = measurement.given(y, u)
                log_p = measurement.law(clean, level * tau / math.hypot(level, tau)).log_prob(told)
            else:
                log_p = measurement.log_likelihood(y, clean)
            (slope,) = torch.autograd.grad(log_p.sum(), u)
        return clean.detach(), log_p.detach(), slope

    return look


@torch.no_grad()
def guided(
    score: Field,
    measurement: Measurement,
    y: Tensor,
    n: int,
    levels: Levels,
    *,
    slope: Field | None = None,
    spread: float = 0.0,
    weight: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Go back by the score plus a slope that stands for that of log p(y | u), (n, D).

    Args:
        score: of data with noise, s(u, κ), (B, D) and a number → (B, D).
        measurement: of x.
        y: what was measured, (M,).
        n: how many draws.
        levels: κ, falling. The first is so large that data do not matter, the last below all that they show. Each is
            one call of the score; the draws end at the clean data's mean.
        slope: (u, κ) → (B, D); `reconstruction` with `spread` when None.
        spread: τ of `reconstruction`.
        weight: of the slope.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: levels that do not fall, a measurement of another shape, or one that is not linear and has to be.
        RuntimeError: the points leave the finite numbers; the message names the step and the level.
    """
    look, weight = _guess(score, measurement, y, spread), require.finite("weight", weight)

    def led(u: Tensor, level: float) -> Tensor:
        if slope is None:
            clean, _, lead = look(u, level)
        else:
            clean, lead = cleaned(score, u, level), require.same_shape("slope", slope(u, level), u)
        return clean + level**2 * weight * lead

    u, levels = _start(measurement, n, levels, generator)
    measurement.given(y, u)
    return _finite(led(_back(led, u, levels, generator), levels[-1]), len(levels), levels[-1])


@torch.no_grad()
def posterior_sampling(
    score: Field,
    measurement: Measurement,
    y: Tensor,
    n: int,
    levels: Levels,
    *,
    size: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""DPS: after each step of the score alone, a step that brings the guess nearer to y (Chung et al. 2023), (n, D).

    (arXiv:2209.14687.) With x̂ the clean data's mean before the step,

    .. math:: u' \leftarrow u' - \zeta\, \nabla_u \lVert y - f(\hat x(u)) \rVert

    Their size is ζ′/‖y − f(x̂)‖ on the squared distance, which is this one with ζ = 2ζ′. It is no slope of a
    log-likelihood: neither σ nor the length of the step is in it.

    Args:
        score, measurement, y, n, levels, generator: as in `guided`.
        size: ζ.
    """
    size, look = require.positive("size", size), _guess(score, measurement, y, 0.0)
    u, levels = _start(measurement, n, levels, generator)
    measurement.given(y, u)
    for k, (level, end) in enumerate(itertools.pairwise(levels), 1):
        clean, _, slope = look(u, level)  # the slope is that of −‖y − f(x̂)‖²/2σ²
        gap = (measurement.given(y, u) - measurement(clean)).norm(dim=1, keepdim=True)
        gap = gap.clamp_min(torch.finfo(gap.dtype).tiny)
        u = ancestral(u, clean, level, end, generator) + size * measurement.noise**2 * slope / gap
        u = _finite(u, k, level)
    return _finite(cleaned(score, u, levels[-1]), len(levels), levels[-1])


@torch.no_grad()
def replacement(
    score: Field,
    measurement: Linear,
    y: Tensor,
    n: int,
    levels: Levels,
    *,
    share: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Go back without guidance, and after each step put in what was measured, with noise of the level, (n, D).

    .. math:: u \leftarrow u + \lambda\, A^+ \bigl(y + \kappa A \varepsilon - A u\bigr)

    With λ = 1 the measured part is held; with less it is pulled (after Song et al. 2022, arXiv:2111.08005). Neither
    has the posterior as its law. What was not measured hears of y through the score alone, and σ is not looked at.

    Args:
        score, measurement, y, n, levels, generator: as in `guided`.
        share: λ, in (0, 1].
    """
    back = pinv(_linear(measurement))
    if require.positive("share", share) > 1:
        raise ValueError(f"share must lie in (0, 1], got {share!r}")

    def held(u: Tensor, level: float) -> Tensor:
        known = measurement.given(y, u) + level * measurement(normal(u.shape, u, generator))
        return u + share * (known - measurement(u)) @ back.to(u).mT

    u, levels = _start(measurement, n, levels, generator)
    u = _back(partial(cleaned, score), held(u, levels[0]), levels, generator, held)
    return _finite(held(cleaned(score, u, levels[-1]), 0.0), len(levels), levels[-1])


@torch.no_grad()
def twisted(
    score: Field,
    measurement: Measurement,
    y: Tensor,
    n: int,
    levels: Levels,
    *,
    spread: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Sequential Monte Carlo: particles that are guided, and weighed for what guidance did wrong, (n, D).

    (Wu et al. 2023, arXiv:2306.17775.) With ψ(u) for the guessed likelihood of `reconstruction`, a particle that goes
    from u to u′ is multiplied by

    .. math:: \frac{p(u' \mid u)\, \psi(u')}{\tilde p(u' \mid u)\, \psi(u)}

    with p for a step by the score alone and p̃ for the guided one, and at the last level ψ is the likelihood of the
    clean data's mean itself. With many particles the law is that of the reversed chain given y, whatever ψ was. A good
    ψ needs fewer of them.

    Args:
        score, measurement, y, levels, generator: as in `guided`.
        n: particles. All are returned; some are copies of others.
        spread: τ of the guess.

    Raises:
        ValueError: fewer than two levels, or as in `guided`.
        RuntimeError: no particle has any weight left, or as in `guided`.
    """
    look, at_last = _guess(score, measurement, y, spread), _guess(score, measurement, y, 0.0)
    u, levels = _start(measurement, n, levels, generator)
    if len(levels) < 2:
        raise ValueError(f"levels must hold at least 2, got {levels}")
    clean, log_psi, slope = look(u, levels[0])
    log_weight = log_psi
    for k, (level, end) in enumerate(itertools.pairwise(levels), 1):
        q2, last = (end / level) ** 2, k == len(levels) - 1
        push = (1 - q2) * level**2 * slope  # by which the guided step goes on further
        before, mean = log_psi, q2 * u + (1 - q2) * clean
        u = _finite(ancestral(u, clean + level**2 * slope, level, end, generator), k, level)
        log_ratio = (squared(u - mean - push) - squared(u - mean)) / (2 * end**2 * (1 - q2))
        clean, log_psi, slope = (at_last if last else look)(u, end)
        log_weight = log_weight + log_ratio + log_psi - before
        share = log_weight.softmax(0)
        if not share.isfinite().all():
            raise RuntimeError(
                f"no particle has any weight after step {k}, which starts at level {level:.6g}"
            )
        if last or 1 / share.square().sum() < n / 2:
            chosen = _drawn(share, generator)
            u, clean, log_psi, slope = u[chosen], clean[chosen], log_psi[chosen], slope[chosen]
            log_weight = torch.zeros_like(log_weight)
    return clean


@torch.no_grad()
def split_gibbs(
    score: Field,
    measurement: Linear,
    y: Tensor,
    n: int,
    levels: Levels,
    *,
    couplings: Levels,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Two variables on a spring, x for the measurement and z for the prior, drawn by turns; z is returned, (n, D).

    .. math:: p(x, z \mid y) \propto p(y \mid x)\, e^{-\lVert x - z \rVert^2 / 2 \rho^2}\, p(z)

    Given z, x is normal. Given x, z is what the score draws on its way back from level ρ (Vono et al. 2019,
    arXiv:1804.05809; Wu et al. 2024, arXiv:2405.18782). With one ρ for long, z has the law above, whose limit for
    ρ → 0 is the posterior.

    Args:
        score, measurement, y, n, generator: as in `guided`.
        levels: as in `guided`. A way back from ρ goes over the levels below ρ.
        couplings: ρ of each round.
    """
    _linear(measurement)
    if not isinstance(couplings, Sequence | Tensor) or not len(couplings):
        raise ValueError(f"couplings must hold at least one number, got {couplings!r}")
    z, levels = _start(measurement, n, levels, generator)
    curvature, told, basis = _said(measurement, measurement.given(y, z))
    for k, rho in enumerate([require.positive("couplings", rho) for rho in couplings], 1):
        precision = curvature + rho**-2
        x = (told + z @ basis / rho**2) / precision
        x = (x + normal(z.shape, z, generator) / precision.sqrt()) @ basis.mT
        way = [rho, *(level for level in levels if level < rho)]
        z = cleaned(score, _back(partial(cleaned, score), x, way, generator), way[-1])
        z = _finite(z, k, rho)
    return z


def _back(
    clean: Field, u: Tensor, levels: list[float], generator: torch.Generator | None, mend: Field | None = None
) -> Tensor:
    """Ancestral steps down the levels; `mend` is given where each one led, and its level."""
    for k, (level, end) in enumerate(itertools.pairwise(levels), 1):
        u = ancestral(u, clean(u, level), level, end, generator)
        u = _finite(u if mend is None else mend(u, end), k, level)
    return u


def _start(
    measurement: Measurement, n: int, levels: Levels, generator: torch.Generator | None
) -> tuple[Tensor, list[float]]:
    """Noise of the first level, (n, D), and the levels as numbers."""
    levels = require.falling("levels", levels)
    noise = normal((require.whole_number("n", n), measurement.dims), levels, generator)
    return levels[0] * noise, levels.tolist()


def _finite(u: Tensor, step: int, level: float) -> Tensor:
    if not u.isfinite().all():
        raise RuntimeError(f"the points are not finite after step {step}, which starts at level {level:.6g}")
    return u


def _linear(measurement: Measurement) -> Tensor:
    """The matrix of a linear measurement."""
    if not isinstance(measurement, Linear):
        raise ValueError(f"measurement must be linear, got {type(measurement).__name__}")
    return measurement.matrix


def _said(measurement: Linear, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What y says of x: AᵀA/σ² and Aᵀy/σ², both (D,), in the basis (D, D) of the singular vectors of A.

    Directions of which y says nothing have 0 exactly, however small σ is.
    """
    A = measurement.matrix.to(y)
    left, size, right = svd(A)
    size = size / measurement.noise
    told = size * (y @ left)[: len(size)] / measurement.noise
    unseen = (0, A.shape[1] - len(size))
    return pad(size**2, unseen), pad(told, unseen), right.mT


def _drawn(share: Tensor, generator: torch.Generator | None) -> Tensor:
    """Systematic resampling: indices (n,), each about n times its share, (n,) → (n,)."""
    n = len(share)
    places = (torch.arange(n, device=share.device) + uniform((1,), share, generator)) / n
    return torch.searchsorted(share.cumsum(0), places, right=True).clamp_max(n - 1)
