"""From noise back to data: solvers that use what is known of a noising process, and one that adapts its steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import normal
from genlib._shapes import squared
from genlib.sde.flow import finite_score, monotone
from genlib.sde.noising import Noising
from genlib.sde.processes import Drift, Reversed

After = Callable[[int, float, Tensor], None]


def cleaned(process: Noising, score: Drift, x: Tensor, t: float) -> Tensor:
    r"""Mean of the data, given x at time t, by Tweedie's formula, (B, *E) → (B, *E).

    .. math:: \mathbb{E}[x_0 \mid x] = \frac{x + \sigma^2\, \nabla \log p_t(x)}{\alpha}

    Raises:
        ValueError: the score has another shape than x.
        RuntimeError: the score is not finite; the message names the time.
    """
    return (x + process.deviation(t) ** 2 * finite_score(score, x, t)) / process.scale(t)


@torch.no_grad()
def exponential(
    process: Noising,
    score: Drift,
    x: Tensor,
    times: Tensor | Sequence[float],
    *,
    order: int = 2,
    noise: float = 0.0,
    after: After | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Solve all but the network exactly: steps in y = x/α from the level κ to a lower one, κ'.

    With D the mean of the clean data (`cleaned`), held for the step, and q = κ'/κ:

    .. math:: y \leftarrow q^{1 + \eta^2}\, y + \bigl(1 - q^{1 + \eta^2}\bigr)\, D
        + \kappa' \sqrt{1 - q^{2 \eta^2}}\, \varepsilon

    For η = 0 it follows the probability flow (DDIM, Song et al. 2021, arXiv:2010.02502), for η = 1 the reversed process
    (ancestral sampling, Ho et al. 2020, arXiv:2006.11239). With order 2, D is continued along a straight line in log κ
    through the last two (DPM-Solver++ 2M, Lu et al. 2022, arXiv:2211.01095). One call of the score a step.

    Args:
        process: any `Noising`.
        score: ∇ log p_t(x), (B, *E) and a number → (B, *E).
        x: the points at the first time, (B, *E).
        times: (N + 1,) falling, in [0, 1]. A last time of 0 ends at the mean of the clean data.
        order: 1 or 2.
        noise: η, at least 0.
        after: called with k, the time and the points after step k = 1, …, N.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: times that do not fall or leave [0, 1], another order, noise below 0, or a score of another shape.
        RuntimeError: the score is not finite; the message names the time.
    """
    x, times, eta = require.vectors("x", x), _falling(times), float(require.not_negative("noise", noise))
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    power, before = 1 + eta**2, None
    for k, (t, end) in enumerate(itertools.pairwise(times), 1):
        clean, level, last = cleaned(process, score, x, t), process.level(t), process.level(end)
        target, q = clean, last / level
        if order == 2 and before is not None and q > 0:  # how far D goes on, half a step ahead
            old, log_ratio = before
            target = clean + (clean - old) * math.log(q) / (2 * log_ratio)
        y = q**power * x / process.scale(t) + (1 - q**power) * target
        if eta:
            y = y + last * math.sqrt(1 - q ** (2 * eta**2)) * normal(x.shape, x, generator)
        x, before = process.scale(end) * y, (clean, math.log(q) if q > 0 else 0.0)
        if after is not None:
            after(k, end, x)
    return x


@torch.no_grad()
def predictor_corrector(
    process: Noising,
    score: Drift,
    x: Tensor,
    times: Tensor | Sequence[float],
    *,
    snr: float = 0.16,
    corrections: int = 1,
    after: After | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""A step of the reversed process, then Langevin steps that mend its law (Song et al. 2021, arXiv:2011.13456).

    The size of a Langevin step is set by the lengths of the noise and of the score, means over the batch:

    .. math:: x \leftarrow x + \epsilon\, s + \sqrt{2 \epsilon}\, z, \qquad
        \epsilon = 2 \Bigl(r\, \frac{\lVert z \rVert}{\lVert s \rVert}\Bigr)^2

    It asks for the score once a step, and once for each correction.

    Args:
        process, score, x, times, after, generator: as in `exponential`.
        snr: r.
        corrections: Langevin steps after each step.

    Raises:
        ValueError: as in `exponential`, or snr is not above 0.
        RuntimeError: the score is not finite; the message names the time.
    """
    x, times = require.vectors("x", x), _falling(times)
    r, corrections = require.positive("snr", snr), require.whole_number("corrections", corrections, 0)

    for k, (t, end) in enumerate(itertools.pairwise(times), 1):
        g, h = process.size(t), t - end
        x = x + h * (g**2 * finite_score(score, x, t) - process.drift(x, t))
        x = x + g * math.sqrt(h) * normal(x.shape, x, generator)
        for _ in range(corrections):
            s, z = finite_score(score, x, end), normal(x.shape, x, generator)
            step = 2 * (r * squared(z).sqrt().mean() / squared(s).sqrt().mean()) ** 2
            x = x + step * s + (2 * step).sqrt() * z
        if after is not None:
            after(k, end, x)
    return x


@torch.no_grad()
def adaptive(
    process: Noising,
    score: Drift,
    x: Tensor,
    end: float,
    *,
    tolerance: float = 0.02,
    calls: int = 2000,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, int]:
    r"""The reversed process from t = 1 to `end` with steps that adapt (after Jolicoeur-Martineau et al. 2021).

    (arXiv:2105.14080.) Two steps from the same point with the same noise, that of Euler and that of Heun, tell the
    error by their difference: its root mean square over the batch, in units of the crowd's own at that time. A step is
    kept where it is below the tolerance, and the next one has the length

    .. math:: h \leftarrow 0.9\, h \cdot (\text{tolerance} / \text{error})^{1/2}

    within a factor of 5. A step that is refused is drawn again: what is kept is then not exactly a path of the process.

    Args:
        process, score, x, generator: as in `exponential`; x is at t = 1.
        end: the last time, in [0, 1).
        tolerance: above 0.
        calls: how often the score may be asked.

    Returns:
        The points (B, *E) at the end, and how often the score was asked.

    Raises:
        ValueError: end lies outside of [0, 1), or the tolerance is not above 0.
        RuntimeError: the calls do not suffice; the message says where it was.
    """
    x, end = require.vectors("x", x), require.share("end", end)
    tolerance, most = require.positive("tolerance", tolerance), require.whole_number("calls", calls)
    back, s, h, asked = Reversed(process, score, 1.0), 0.0, 0.01, 1
    here = back.drift(x, s)
    while s < 1 - end:
        if asked + 2 > most:  # a step asks once, or twice where it is kept
            raise RuntimeError(f"{most} calls do not lead from t = 1 to {end:g}: it is at {1 - s:.6g}")
        h = min(h, 1 - end - s)
        g, kick = process.size(1 - s), math.sqrt(h) * normal(x.shape, x, generator)
        late = process.size(max(1 - s - h, 0.0))
        euler = x + h * here + g * kick
        there, asked = back.drift(euler, s + h), asked + 1
        heun = x + h / 2 * (here + there) + (g + late) / 2 * kick
        size = (squared(heun).mean() / heun[0].numel()).sqrt()
        error = ((squared(heun - euler).mean() / heun[0].numel()).sqrt() / size).item()
        if not math.isfinite(error):
            raise RuntimeError(f"the points are not finite after a step to t = {1 - s - h:.6g}")
        if error <= tolerance:
            x, s = heun, s + h
            here, asked = back.drift(x, s), asked + 1
        h *= min(5.0, max(0.2, 0.9 * math.sqrt(tolerance / max(error, 1e-12))))
    return x, asked


def _falling(times: Tensor | Sequence[float]) -> list[float]:
    times = monotone(times)
    if times[0] < times[-1] or times[0] > 1 or times[-1] < 0:
        raise ValueError(f"times must fall and lie in [0, 1], got from {times[0]:.6g} to {times[-1]:.6g}")
    return times
