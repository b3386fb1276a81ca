r"""Score-based models: networks that learn the slope of the log-density, and Langevin dynamics that draws with it.

A score is a function of a batch, (B, *E) → (B, *E): the gradient of log p(x) in x. A score with a noise level is a
function of a batch and a level σ above 0: the score of the data after normal noise of deviation σ was added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from genlib import _arguments as check

Score = Callable[[Tensor], Tensor]
NoisyScore = Callable[[Tensor, float], Tensor]
Hold = Callable[[Tensor, float], Tensor]


def trace(score: Score, x: Tensor) -> Tensor:
    """Trace of the score's Jacobian at each example, exact, (B, *E) → (B,).

    It takes as many passes backward as an example has numbers. The result can be differentiated.
    """
    x, s = _with_graph(score, x)
    event_shape = s.shape[1:]
    basis = torch.eye(event_shape.numel(), device=s.device, dtype=s.dtype).unflatten(1, event_shape)
    return sum(_quadratic(x, s, v.expand_as(s)) for v in basis)


def hutchinson(score: Score, x: Tensor, probes: int = 1) -> Tensor:
    """Unbiased estimate of `trace`: the mean of v · (J v) over random signs v, (B, *E) → (B,) (Hutchinson 1990).

    It takes one pass backward a probe.

    Raises:
        ValueError: probes is no whole number of at least 1, or the score has another shape than x.
    """
    count = check.whole_number("probes", probes)
    x, s = _with_graph(score, x)
    return sum(_quadratic(x, s, _signs(s)) for _ in range(count)) / count


def implicit_loss(score: Score, x: Tensor) -> Tensor:
    """tr ∇s(x) + ½ ‖s(x)‖², (B, *E) → (B,) (Hyvärinen 2005, JMLR 6, 695-709)."""
    return trace(score, x) + 0.5 * _squared(score(x))


def sliced_loss(score: Score, x: Tensor, probes: int = 1) -> Tensor:
    """The same with `hutchinson` for the trace, (B, *E) → (B,) (SSM-VR in Song et al. 2019, arXiv:1905.07088)."""
    return hutchinson(score, x, probes) + 0.5 * _squared(score(x))


def denoising_loss(score: Score, x: Tensor, sigma: float | Tensor) -> Tensor:
    """½ ‖s(x + σ ε) + ε / σ‖² with fresh normal ε, (B, *E) → (B,) (Vincent 2011, doi:10.1162/NECO_a_00142).

    Args:
        score: what is trained; its minimiser is the score of the noised data.
        x: clean data.
        sigma: deviation of the noise, one number or one for each example (B,).

    Raises:
        ValueError: sigma is not above 0 or has another shape, or x is no batch of finite real numbers.
    """
    x = _batch("x", x)
    sigma = _each(sigma, x)
    eps = torch.randn_like(x)
    return 0.5 * _squared(_checked(score(x + sigma * eps), x) + eps / sigma)


def denoise(score: Score, x: Tensor, sigma: float | Tensor) -> Tensor:
    """Mean of the clean data, given noisy x: x + σ² s(x), (B, *E) → (B, *E), with the score of the noised data.

    It is Tweedie's formula (Robbins 1956; Efron 2011, doi:10.1198/jasa.2011.tm11181).
    """
    return x + _each(sigma, x) ** 2 * _checked(score(x), x)


def geometric_levels(first: float, last: float, count: int) -> Tensor:
    """Noise levels (count,) from `first` down to `last`, each the same share of the one before it.

    Raises:
        ValueError: not first > last > 0, or count is no whole number of at least 2.
    """
    first, last = check.positive("first", first), check.positive("last", last)
    if not first > last:
        raise ValueError(f"first must be above last, so that the levels fall, got {first} and {last}")
    done = torch.linspace(0, 1, check.whole_number("count", count, 2), dtype=torch.float64)
    return _falling((first ** (1 - done) * last**done).to(torch.get_default_dtype()))


class ScoreModel(nn.Module):
    r"""A network for the scores at all noise levels (after Song and Ermon 2019, arXiv:1907.05600).

    It is the score that normal data would have, plus a correction by the network F:

    .. math:: s(x, \sigma) = -\frac{x}{r^2} + \frac{\tau}{\sigma r}\, F\Bigl(\frac{x}{r}, \log \sigma\Bigr), \qquad
        r^2 = \tau^2 + \sigma^2

    (after Karras et al. 2022, arXiv:2206.00364). So F sees and returns numbers of size 1 at every level.

    Args:
        net: F, (B, *E) and log σ (B,) → (B, *E); nothing else is asked of it.
        event_shape: E.
        levels: (L,) noise levels σ, falling.
        spread: τ, how far the data's numbers lie from 0, in root mean square.

    Raises:
        ValueError: the levels do not fall or are not above 0, or the spread is not above 0.
    """

    def __init__(
        self,
        net: nn.Module,
        event_shape: Sequence[int],
        levels: Tensor | Sequence[float],
        spread: float = 1.0,
    ) -> None:
        super().__init__()
        self.event_shape = torch.Size(event_shape)
        self.net, self.spread = net, check.positive("spread", spread)
        self.register_buffer("levels", _falling(levels))

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Score of the data noised to σ, (B, *E) and a number or (B,) → (B, *E)."""
        sigma = _each(sigma, x)
        r = (self.spread**2 + sigma**2).sqrt()
        log_sigma = sigma.log().flatten().expand(len(x))  # (B,)
        return -x / r**2 + self.spread / (sigma * r) * _checked(self.net(x / r, log_sigma), x)

    def loss(self, x: Tensor) -> Tensor:
        """σ² times the denoising loss at a random level for each example, (B, *E) → (B,)."""
        x = _batch("x", x)
        sigma = self.levels[torch.randint(len(self.levels), (len(x),), device=self.levels.device)]
        return sigma**2 * denoising_loss(lambda noisy: self.score(noisy, sigma), x, sigma)

    def sample(self, shape: Sequence[int], steps: int = 20, step: float = 0.1) -> Tensor:
        """Draw by `annealed_langevin` from noise of the first level, (n,) → (n, *E)."""
        shape = (check.sample_count(shape), *self.event_shape)
        start = self.levels[0] * torch.randn(shape, device=self.levels.device, dtype=self.levels.dtype)
        return annealed_langevin(self.score, start, self.levels, steps, step)


@torch.no_grad()
def langevin(
    score: Score, x: Tensor, steps: int, step: float, after: Callable[[int, Tensor], None] | None = None
) -> Tensor:
    r"""Langevin dynamics, unadjusted, from x (B, *E) to the points (B, *E) after the last step.

    .. math:: x \leftarrow x + \eta\, s(x) + \sqrt{2 \eta}\, \varepsilon

    Args:
        score: of the target.
        x: where the points start; it is not changed.
        steps: how many.
        step: η, in squared data units.
        after: called with k and the points after step k = 1, 2, …

    Raises:
        ValueError: x is no batch of finite numbers, steps is no whole number of at least 1, or step is not above 0.
        RuntimeError: the score is not finite; the message names the step.
    """
    x, steps, step = _batch("x", x), check.whole_number("steps", steps), check.positive("step", step)
    for k in range(1, steps + 1):
        x = _move(x, _finite(score(x), x, f"step {k} of {steps}"), step)
        if after is not None:
            after(k, x)
    return x


def mala(log_prob: Callable[[Tensor], Tensor], x: Tensor, steps: int, step: float) -> tuple[Tensor, float]:
    """Langevin dynamics, adjusted after Metropolis (Roberts and Tweedie 1996, doi:10.2307/3318418).

    Each step is a proposal. It is accepted with a probability that makes the target exactly stationary at any step.

    Args:
        log_prob: of the target, up to a constant, (B, *E) → (B,).
        x: where the points start (B, *E).
        steps: how many.
        step: η, in squared data units.

    Returns:
        The points after the last step, and the share of proposals that were accepted.

    Raises:
        ValueError: as in `langevin`, or log_prob returns another shape.
        RuntimeError: the score is not finite, or the log-density is NaN; the message names the step.
    """
    x, steps, step = _batch("x", x).detach(), check.whole_number("steps", steps), check.positive("step", step)
    accepted = 0.0
    here = _value_and_slope(log_prob, x, f"step 1 of {steps}")
    for k in range(1, steps + 1):
        with torch.no_grad():
            y = _move(x, here[1], step)
        there = _value_and_slope(log_prob, y, f"step {k} of {steps}")
        way = _log_step(y, x, here[1], step)  # log-density of the way there, up to a constant
        back = _log_step(x, y, there[1], step)
        accept = torch.rand_like(here[0]).log() < there[0] + back - here[0] - way  # (B,)
        x = torch.where(_column(accept, x), y, x)
        here = tuple(torch.where(_column(accept, b), b, a) for a, b in zip(here, there, strict=True))
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
) -> Tensor:
    """Langevin dynamics at one noise level after the other (after Song and Ermon 2019, arXiv:1907.05600, algorithm 1).

    At level σ the step is η = step · σ². After the last level the noise that is left is taken off by `denoise`, after
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

    Raises:
        ValueError: x is no batch of finite numbers, the levels do not fall or are not above 0, steps is no whole number
            of at least 1, or step is not above 0.
        RuntimeError: the score is not finite; the message names the step and the level.
    """
    x, steps, step = _batch("x", x), check.whole_number("steps", steps), check.positive("step", step)
    levels = _falling(levels).tolist()
    for i, sigma in enumerate(levels, 1):
        level = f"level {i} of {len(levels)} (σ = {sigma:.4g})"
        for k in range(1, steps + 1):
            s = _finite(score(x, sigma), x, f"step {k} of {steps} at {level}")
            x = _move(x, s, step * sigma**2)
            x = x if hold is None else _checked(hold(x, sigma), x, "hold")
        if after is not None:
            after(i, x)
    x = denoise(lambda x: _finite(score(x, sigma), x, f"the end of {level}"), x, sigma)
    x = x if hold is None else _checked(hold(x, 0.0), x, "hold")
    if after is not None:
        after(len(levels) + 1, x)
    return x


def known(values: Tensor, where: Tensor) -> Hold:
    """A `hold` for inpainting: puts the known numbers, with noise of the level, where they belong.

    Args:
        values: (*E) or (B, *E), looked at where they are known.
        where: bool of the same shape, True where they are known.

    Raises:
        ValueError: where is not bool, or True everywhere or nowhere; values have another shape or are not finite there.
    """
    where = check.mask("where", where)
    if not isinstance(values, Tensor) or values.shape != where.shape:
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"values must have the shape of where, {tuple(where.shape)}, got {got}")
    check.real_tensor("values", values[where])
    return lambda x, sigma: torch.where(where, values + sigma * torch.randn_like(x), x)


def _move(x: Tensor, s: Tensor, step: float) -> Tensor:
    """Take one step of Langevin dynamics."""
    return x + step * s + math.sqrt(2 * step) * torch.randn_like(x)


def _log_step(y: Tensor, x: Tensor, s: Tensor, step: float) -> Tensor:
    """Log-density of the step from x to y, up to a constant, (B,)."""
    return -_squared(y - x - step * s) / (4 * step)


def _value_and_slope(log_prob: Callable[[Tensor], Tensor], x: Tensor, when: str) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = log_prob(x)
        if not isinstance(value, Tensor) or value.shape != (len(x),):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"log_prob must return shape ({len(x)},), got {got}")
        (slope,) = torch.autograd.grad(value.sum(), x)
    if torch.isnan(value).any():
        raise RuntimeError(f"the log-density is not a number at {when}")
    return value.detach(), _finite(slope, x, when)


def _with_graph(score: Score, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and its score, so that the score can be differentiated by x."""
    x = _batch("x", x)
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        return x, _checked(score(x), x) + 0 * x  # so that a constant score has slope 0


def _quadratic(x: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """V · (J v) at each example, (B,)."""
    with torch.enable_grad():
        (vector,) = torch.autograd.grad((s * v).sum(), x, create_graph=True)
    return (vector * v).flatten(1).sum(1)


def _signs(like: Tensor) -> Tensor:
    return torch.randint_like(like, 2) * 2 - 1


def _squared(x: Tensor) -> Tensor:
    """Squared length of each example, (B, *E) → (B,)."""
    return x.flatten(1).square().sum(1)


def _column(values: Tensor, x: Tensor) -> Tensor:
    """Give (B,) as many dimensions as x has."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def _each(sigma: float | Tensor, x: Tensor) -> Tensor:
    """Return σ with as many dimensions as x, after checking that it is one number above 0 or one for each example."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(f"x must be a tensor of real numbers, got {getattr(x, 'dtype', type(x).__name__)}")
    sigma = check.real_tensor("sigma", sigma, like=x)
    if sigma.shape not in ((), (len(x),)):
        raise ValueError(f"sigma must be one number or have shape ({len(x)},), got {tuple(sigma.shape)}")
    if not check.holds((sigma > 0).all()):
        raise ValueError(f"sigma must be above 0, got {sigma.min().item():g}")
    return _column(sigma, x)


def _falling(levels: Tensor | Sequence[float]) -> Tensor:
    """Return the levels (L,) after checking that they fall and stay above 0."""
    levels = check.real_tensor("levels", levels)
    if levels.ndim != 1 or not len(levels):
        raise ValueError(f"levels must have shape (L,) with L at least 1, got {tuple(levels.shape)}")
    if not (levels > 0).all() or not (levels.diff() < 0).all():
        raise ValueError(f"levels must fall and stay above 0, got {levels.tolist()}")
    return levels.clone()


def _batch(name: str, x: object) -> Tensor:
    """Return x after checking that it is a batch (B, *E) of finite real numbers."""
    if isinstance(x, Tensor) and x.ndim < 2:
        raise ValueError(f"{name} must have shape (B, *E) with at least two dimensions, got {tuple(x.shape)}")
    return check.batch(name, x, (...,))


def _checked(s: Tensor, x: Tensor, name: str = "score") -> Tensor:
    """Return what a score gave, after checking its shape."""
    if not isinstance(s, Tensor) or s.shape != x.shape:
        got = tuple(s.shape) if isinstance(s, Tensor) else type(s).__name__
        raise ValueError(f"{name} must return shape {tuple(x.shape)}, got {got}")
    return s


def _finite(s: Tensor, x: Tensor, when: str) -> Tensor:
    if not torch.isfinite(_checked(s, x)).all():
        raise RuntimeError(f"the score is not finite at {when}")
    return s
