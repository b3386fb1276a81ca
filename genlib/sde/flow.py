"""The probability flow: an ordinary differential equation whose crowd is that of a process, and its likelihood."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torch.distributions import Distribution
from torch.func import jvp, vmap

from genlib import _arguments as require
from genlib.sde.processes import Drift, Process

Field = Callable[[Tensor, float], Tensor]

METHODS = {
    "euler": ([[]], [1]),
    "heun": ([[], [1]], [1 / 2, 1 / 2]),
    "rk4": ([[], [1 / 2], [0, 1 / 2], [0, 0, 1]], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
}
"""Methods of Runge and Kutta. How a stage weighs those before it, and how the step weighs them all."""


class ProbabilityFlow:
    r"""The field of the flow with the same marginals as a process (Song et al. 2021, arXiv:2011.13456).

    .. math:: \frac{dx}{dt} = f(x, t) - \tfrac12\, g(t)^2\, \nabla \log p_t(x)

    Args:
        process: one whose noise is the same at all places.
        score: ∇ log p_t(x), (B, *E) and a number → (B, *E).

    Raises:
        ValueError: the score has another shape than x.
        RuntimeError: the score is not finite; the message names the time.
    """

    def __init__(self, process: Process, score: Drift) -> None:
        self.process, self.score = process, score

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """The velocity, (B, *E) → (B, *E)."""
        return self.process.drift(x, t) - self.process.noise(x, t) ** 2 / 2 * finite_score(self.score, x, t)


@torch.no_grad()
def solve(
    field: Field,
    x: Tensor,
    times: Tensor | Sequence[float],
    method: str = "heun",
    after: Callable[[int, float, Tensor], None] | None = None,
) -> Tensor:
    r"""Follow dx/dt = field(x, t) from the first time to the last, by a Runge-Kutta method with given steps.

    .. math:: k_i = v\Bigl(x + h \sum_j a_{ij} k_j,\ t + c_i h\Bigr), \qquad x \leftarrow x + h \sum_i b_i k_i

    The field is asked once, twice or four times in a step.

    Args:
        field: v, (B, *E) and a number → (B, *E).
        x: where the points start, (B, *E); it is not changed.
        times: (N + 1,) that rise, or that fall: then it goes backward.
        method: "euler", "heun" or "rk4", of order 1, 2 and 4.
        after: called with k, the time and the points after step k = 1, …, N.

    Raises:
        ValueError: x is no batch of finite numbers, the times neither rise nor fall, the method is unknown, or the
            field returns another shape.
        RuntimeError: the field is not finite; the message names the step and the time.
    """
    x, times = require.vectors("x", x), monotone(times)
    stages, weights = require.one_of("method", method, METHODS)
    for k, (t, end) in enumerate(itertools.pairwise(times), 1):
        h, slopes = end - t, []
        for row in stages:
            here = x + h * sum(a * s for a, s in zip(row, slopes, strict=True)) if row else x
            when = end if sum(row) == 1 else t + sum(row) * h
            slopes.append(_finite(field, here, when, f"step {k} of {len(times) - 1}"))
        x = x + h * sum(b * s for b, s in zip(weights, slopes, strict=True))
        if after is not None:
            after(k, end, x)
    return x


@torch.no_grad()
def integrate(
    field: Field,
    x: Tensor,
    start: float,
    end: float,
    *,
    tolerance: float = 1e-5,
    calls: int = 10_000,
) -> tuple[Tensor, int]:
    """The same with steps that adapt to their error: the method of Dormand and Prince, by SciPy's ``solve_ivp``.

    All points of a batch share their steps. Numbers are float64 on the way, as SciPy has them.

    Args:
        field: as in `solve`.
        x: where the points start, (B, *E).
        start, end: the times; end may be smaller.
        tolerance: of the error of a step, relative and absolute.
        calls: how often the field may be asked.

    Returns:
        The points (B, *E) at the end, and how often the field was asked.

    Raises:
        ValueError: x is no batch of finite numbers, the tolerance is not above 0, or start is end.
        RuntimeError: the calls do not suffice, or the field is not finite; the message says where it was.
    """
    x, tolerance = require.vectors("x", x), require.positive("tolerance", tolerance)
    start, end = require.finite("start", start), require.finite("end", end)
    if start == end:
        raise ValueError(f"start and end must differ, got {start} twice")
    asked, most = 0, require.whole_number("calls", calls)

    def slope(t: float, flat: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += 1
        if asked > most:
            raise RuntimeError(f"{most} calls do not lead from t = {start:g} to {end:g}: it is at {t:.6g}")
        points = torch.from_numpy(flat).to(x).reshape(x.shape)
        return _finite(field, points, t, f"call {asked}").double().cpu().numpy().ravel()

    flat = x.double().cpu().numpy().ravel()
    run = solve_ivp(slope, (start, end), flat, method="RK45", rtol=tolerance, atol=tolerance, t_eval=[end])
    if not run.success:
        raise RuntimeError(f"the flow from t = {start:g} to {end:g} cannot be followed: {run.message}")
    return torch.from_numpy(run.y[:, -1].copy()).to(x).reshape(x.shape), asked


def divergence(field: Field, x: Tensor, t: float, probes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""Velocity and divergence of a field, (B, *E) and (B,), by derivatives in forward direction.

    Args:
        field: (B, *E) and a number → (B, *E); each example moves by itself.
        x: (B, *E).
        t: the time.
        probes: None for the exact trace, with as many directions as an example has numbers; or random signs (P, B, *E)
            for the mean of v · (J v) over the P probes v (Hutchinson 1990), which is right in the mean.
    """
    event = x.shape[1:]
    if probes is None:
        directions = torch.eye(event.numel(), dtype=x.dtype, device=x.device).reshape(-1, 1, *event)
        directions = directions.expand(-1, *x.shape)
    else:
        directions = probes

    def along(v: Tensor) -> tuple[Tensor, Tensor]:
        velocity, change = jvp(lambda x: field(x, t), (x,), (v,))
        return velocity, (v * change).flatten(1).sum(1)

    with warnings.catch_warnings():  # of torch's own use of what it has deprecated
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        velocity, parts = vmap(along, out_dims=(None, 0), randomness="error")(directions)
    return velocity, parts.sum(0) if probes is None else parts.mean(0)


@torch.no_grad()
def log_prob(
    field: Field,
    x: Tensor,
    times: Tensor | Sequence[float],
    base: Distribution,
    *,
    method: str = "rk4",
    probes: Tensor | None = None,
) -> Tensor:
    r"""Log-density at points of the first time, when that of the last time is known, (B, *E) → (B,), in nats.

    .. math:: \log p_0(x_0) = \log p_1(x_1) + \int_0^1 \nabla \cdot v(x_t, t)\, dt

    (Chen et al. 2018, arXiv:1806.07366). The points and the integral are followed together.

    Args:
        field: v, as in `solve`.
        x: at the first time.
        times: as in `solve`.
        base: with ``log_prob``, (B, *E) → (B,), at the last time.
        method: as in `solve`.
        probes: as in `divergence`; the same on the whole way.

    Raises:
        ValueError: as in `solve`, or the probes do not fit.
        RuntimeError: as in `solve`.
    """
    x = require.vectors("x", x)
    if probes is not None and (not isinstance(probes, Tensor) or probes.shape[1:] != x.shape):
        raise ValueError(f"probes must have shape (P, {', '.join(map(str, x.shape))})")
    flat, event = x.flatten(1), x.shape[1:]

    def both(state: Tensor, t: float) -> Tensor:
        velocity, spread = divergence(field, state[:, :-1].unflatten(1, event), t, probes)
        return torch.cat([velocity.flatten(1), spread[:, None]], 1)

    state = solve(both, torch.cat([flat, flat.new_zeros(len(x), 1)], 1), times, method)
    return base.log_prob(state[:, :-1].unflatten(1, event)) + state[:, -1]


def signs(count: int, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Random signs (P, B, *E) like a batch x, for `divergence`.

    Raises:
        ValueError: count is no whole number of at least 1.
    """
    shape = (require.whole_number("count", count), *x.shape)
    return 2.0 * torch.randint(2, shape, generator=generator, device=x.device).to(x) - 1


def finite_score(score: Drift, x: Tensor, t: float) -> Tensor:
    """Return a score at x (B, *E) and t after checking that it has the shape of x and is finite."""
    s = require.same_shape("score", score(x, t), x)
    if not require.holds(torch.isfinite(s).all()):
        raise RuntimeError(f"the score is not finite at t = {t:.6g}")
    return s


def monotone(times: Tensor | Sequence[float]) -> list[float]:
    """Return times (N + 1,) as numbers after checking that they all rise or all fall."""
    exact = torch.empty(0, dtype=torch.float64, device="cpu")  # a list is not rounded to single precision
    times = require.real_tensor("times", times, like=exact)
    steps = times.diff()
    if times.ndim != 1 or len(times) < 2 or not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(
            f"times must hold at least two numbers that all rise or all fall, got {times.tolist()}"
        )
    return times.tolist()


def _finite(field: Field, x: Tensor, t: float, when: str) -> Tensor:
    velocity = require.same_shape("field", field(x, t), x)
    if not torch.isfinite(velocity).all():
        raise RuntimeError(f"the field is not finite at {when}, t = {t:.6g}")
    return velocity
