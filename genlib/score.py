r"""Score-based models: networks that learn the slope of the log-density.

A score is a function of a batch, (B, *E) → (B, *E): the gradient of log p(x) in x. A score with a noise level is a
function of a batch and a level σ above 0: the score of the data after normal noise of deviation σ was added.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genlib import _arguments as require
from genlib._random import normal
from genlib._shapes import squared
from genlib.samplers import Score, annealed_langevin


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
    count = require.whole_number("probes", probes)
    x, s = _with_graph(score, x)
    return sum(_quadratic(x, s, _signs(s)) for _ in range(count)) / count


def implicit_loss(score: Score, x: Tensor) -> Tensor:
    """tr ∇s(x) + ½ ‖s(x)‖², (B, *E) → (B,) (Hyvärinen 2005, JMLR 6, 695-709)."""
    return trace(score, x) + 0.5 * squared(score(x))


def sliced_loss(score: Score, x: Tensor, probes: int = 1) -> Tensor:
    """The same with `hutchinson` for the trace, (B, *E) → (B,) (SSM-VR in Song et al. 2019, arXiv:1905.07088)."""
    return hutchinson(score, x, probes) + 0.5 * squared(score(x))


def denoising_loss(score: Score, x: Tensor, sigma: float | Tensor) -> Tensor:
    """½ ‖s(x + σ ε) + ε / σ‖² with fresh normal ε, (B, *E) → (B,) (Vincent 2011, doi:10.1162/NECO_a_00142).

    Args:
        score: what is trained; its minimiser is the score of the noised data.
        x: clean data.
        sigma: deviation of the noise, one number or one for each example (B,).

    Raises:
        ValueError: sigma is not above 0 or has another shape, or x is no batch of finite real numbers.
    """
    x = require.vectors("x", x)
    sigma = require.positive_each("sigma", sigma, x)
    eps = torch.randn_like(x)
    return 0.5 * squared(require.same_shape("score", score(x + sigma * eps), x) + eps / sigma)


def denoise(score: Score, x: Tensor, sigma: float | Tensor) -> Tensor:
    """Mean of the clean data, given noisy x: x + σ² s(x), (B, *E) → (B, *E), with the score of the noised data.

    It is Tweedie's formula (Robbins 1956; Efron 2011, doi:10.1198/jasa.2011.tm11181).
    """
    return x + require.positive_each("sigma", sigma, x) ** 2 * require.same_shape("score", score(x), x)


def geometric_levels(first: float, last: float, count: int) -> Tensor:
    """Noise levels (count,) from `first` down to `last`, each the same share of the one before it.

    Raises:
        ValueError: not first > last > 0, or count is no whole number of at least 2.
    """
    first, last = require.positive("first", first), require.positive("last", last)
    if not first > last:
        raise ValueError(f"first must be above last, so that the levels fall, got {first} and {last}")
    done = torch.linspace(0, 1, require.whole_number("count", count, 2), dtype=torch.float64)
    return require.falling("levels", (first ** (1 - done) * last**done).to(torch.get_default_dtype()))


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
        self.net, self.spread = net, require.positive("spread", spread)
        self.register_buffer("levels", require.falling("levels", levels))

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Score of the data noised to σ, (B, *E) and a number or (B,) → (B, *E)."""
        require.same_dtype("x", x, self.net)
        sigma = require.positive_each("sigma", sigma, x)
        r = (self.spread**2 + sigma**2).sqrt()
        log_sigma = sigma.log().flatten().expand(len(x))  # (B,)
        return -x / r**2 + self.spread / (sigma * r) * require.same_shape(
            "net", self.net(x / r, log_sigma), x
        )

    def loss(self, x: Tensor) -> Tensor:
        """σ² times the denoising loss at a random level for each example, (B, *E) → (B,)."""
        x = require.batch("x", x, self.event_shape)
        sigma = self.levels[torch.randint(len(self.levels), (len(x),), device=self.levels.device)]
        return sigma**2 * denoising_loss(lambda noisy: self.score(noisy, sigma), x, sigma)

    def sample(
        self,
        shape: Sequence[int],
        steps: int = 20,
        step: float = 0.1,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw by `genlib.samplers.annealed_langevin` from noise of the first level, (n,) → (n, *E)."""
        start = normal((require.sample_count(shape), *self.event_shape), self.levels, generator)
        return annealed_langevin(
            self.score, self.levels[0] * start, self.levels, steps, step, generator=generator
        )


def _with_graph(score: Score, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and its score, so that the score can be differentiated by x."""
    require.gradients("the trace of a score")
    x = require.vectors("x", x)
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        return x, require.same_shape("score", score(x), x) + 0 * x  # so that a constant score has slope 0


def _quadratic(x: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """V · (J v) at each example, (B,)."""
    with torch.enable_grad():
        (vector,) = torch.autograd.grad((s * v).sum(), x, create_graph=True)
    return (vector * v).flatten(1).sum(1)


def _signs(like: Tensor) -> Tensor:
    return torch.randint_like(like, 2) * 2 - 1
