"""A score model of whole numbers: noise on grey levels, and a network that says which level was there."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from genlib import _arguments as require
from genlib._random import drawing_from, normal
from genlib._shapes import evaluating
from genlib.flows import StandardNormal
from genlib.sde.backward import exponential
from genlib.sde.flow import log_prob, signs
from genlib.sde.noising import VarianceExploding


class GreyScore(nn.Module):
    r"""Diffusion of images with grey levels k = 0, …, K − 1 (after Dieleman et al. 2022, arXiv:2211.15089).

    Noise lies on the levels themselves, y = x + κε. Without a network the posterior of a pixel would be its histogram,
    h, weighed by the noise. The network tilts it:

    .. math:: P(x_d = k \mid y) = \operatorname{softmax}_k \Bigl( \log h_{dk} - \frac{(y_d - k)^2}{2 \kappa^2}
        + \sum_j a_{dj}(y, \kappa)\, c_j(k) \Bigr), \qquad
        \nabla \log p_\kappa(y) = \frac{\mathbb{E}[x \mid y] - y}{\kappa^2}

    With classes, one network says what is there with and without being told the class: in training the class of some
    images is left out (Ho and Salimans 2022, arXiv:2207.12598).

    Args:
        net: a(y, κ): what a pixel shows and what it would be by itself, (B, 2 H W), log κ (B,), and by how many pixels
            the image was moved beside a 1 in the place of its class, all 0 where it is not told, (B, 2 + classes)
            → (B, 4 H W).
        images: (n, H, W) int64, for the histograms h, to which a small share of each level is added.
        levels: K.
        last, first: the smallest and the largest noise κ, in grey levels.
        median: half of the noise in training is below, in grey levels.
        moved: share of images that are moved by a pixel in training.
        classes: how many classes the images have; 0 for none.
        untold: share of images whose class is left out in training.

    Raises:
        ValueError: not 0 < last < first, moved or untold lies outside of [0, 1), or the images are fewer than two, all
            alike, or no levels.
    """

    def __init__(
        self,
        net: nn.Module,
        images: Tensor,
        levels: int = 17,
        *,
        last: float = 0.5,
        first: float = 30.0,
        median: float = 3.0,
        moved: float = 0.1,
        classes: int = 0,
        untold: float = 0.15,
    ) -> None:
        super().__init__()
        if not require.positive("last", last) < require.positive("first", first):
            raise ValueError(f"last must be below first, got {last} and {first}")
        if not isinstance(images, Tensor) or images.ndim != 3 or len(images) < 2:
            got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(f"images must be a tensor (n, H, W) with n at least 2, got {got}")
        self.event_shape, self.net = images.shape[1:], net
        self.levels = require.whole_number("levels", levels, 2)
        self.last, self.first = float(last), float(first)
        images = require.symbols("images", images, self.event_shape, levels)
        self.median, self.moved = require.positive("median", median), require.share("moved", moved)
        self.classes, self.untold = (
            require.whole_number("classes", classes, 0),
            require.share("untold", untold),
        )
        self.c, self.weight = None, 1.0  # what `forward` sets
        h = functional.one_hot(images.flatten(1), levels).sum(0) + 0.03  # (H W, K)
        k = torch.arange(levels, device=images.device, dtype=torch.get_default_dtype())
        h, t = h / h.sum(-1, keepdim=True), 2 * k / (levels - 1) - 1
        self.spread = images.flatten(1).to(k).std(0).square().mean().sqrt().item()  # τ
        if not self.spread > 0:
            raise ValueError("images must not all be alike")
        for name, value in {"log_h": h.log().to(k), "k": k, "mean": h.to(k) @ k}.items():
            self.register_buffer(name, value)
        self.curves = nn.Parameter(torch.stack([t, t**2, (k == 0).to(k), (k == levels - 1).to(k)]))

    def forward(self, c: Tensor, weight: float = 1.0) -> GreyScore:
        r"""The model of images of a class, or of B classes; it speaks like the model of all, and shares its network.

        A weight other than 1 leads further to the class, or less far (classifier-free guidance):

        .. math:: s_w(y) = s(y) + w\, \bigl( s(y \mid c) - s(y) \bigr)

        Args:
            c: classes () or (B,) int64. Samples then have the shape (n, B, H, W); x that is judged holds B images.
            weight: w; 0 tells no class.

        Raises:
            ValueError: c holds no such classes, or the weight is not finite.
        """
        c = require.symbols("c", c, (), self.classes)
        if c.ndim > 1 or not c.numel():
            raise ValueError(f"c must have shape () or (B,) with B at least 1, got {tuple(c.shape)}")
        given = copy.copy(self)  # the same parameters and parts
        given.c = functional.one_hot(c, self.classes).to(self.k)
        given.weight = require.finite("weight", weight)
        return given

    def _told(self, y: Tensor) -> Tensor:
        """The class of each as a 1 among zeros, all zeros where none is given, (B, …) → (B, classes)."""
        if self.c is None:
            return y.new_zeros(len(y), self.classes)
        rows = self.c.reshape(-1, self.classes)
        if self.c.ndim > 1 and len(y) % len(rows):
            raise ValueError(f"x must hold one image for each of the {len(rows)} classes, got {len(y)}")
        return rows.repeat(len(y) // len(rows), 1)

    def images(self, x: Tensor) -> Tensor:
        """Images (B, H, W) of levels, after checking that they are."""
        x = require.symbols("x", x, self.event_shape, self.levels)
        if x.ndim != 3:
            raise ValueError(f"x must have shape (B, *{tuple(self.event_shape)}), got {tuple(x.shape)}")
        return x

    def logits(
        self, y: Tensor, kappa: Tensor, moves: Tensor | None = None, c: Tensor | None = None
    ) -> Tensor:
        """Of P(x_d = k | y), (B, H W), κ (B,), moves (B, 2) and ones in place of classes (B, classes) → (B, H W, K)."""
        width = kappa[:, None]
        alone = self.log_h - ((y[..., None] - self.k) / width[..., None]).square() / 2
        shown = (y - self.mean) / (self.spread**2 + width**2).sqrt()
        guess = (alone.softmax(-1) @ self.k - self.mean) / 4
        moves = y.new_zeros(len(y), 2) if moves is None else moves
        told = torch.cat([moves, self._told(y) if c is None else c], 1)
        tilts = self.net(torch.cat([shown, guess], 1), (kappa / 8).log(), told)
        return alone + tilts.unflatten(1, (len(self.curves), -1)).transpose(1, 2) @ self.curves

    def clean(self, y: Tensor, kappa: float) -> Tensor:
        """Mean of the levels, given noisy ones, (B, H W) and a number → (B, H W)."""
        kappa = y.new_full((len(y),), kappa)
        told = self.logits(y, kappa).softmax(-1) @ self.k
        if self.c is None or self.weight == 1:
            return told
        untold = self.logits(y, kappa, c=y.new_zeros(len(y), self.classes)).softmax(-1) @ self.k
        return untold + self.weight * (told - untold)

    def score(self, y: Tensor, kappa: float) -> Tensor:
        """(E[x | y] − y) / κ², (B, H W) and a number → (B, H W)."""
        return (self.clean(y, kappa) - y) / kappa**2

    def loss(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Cross-entropy of the levels, given noisy ones, summed over pixels, (B, H, W) → (B,), in nats.

        The logarithm of the noise is logistic, spread evenly over the batch. Some images are moved, and the network is
        told. With classes c (B,) int64, the network is told most of them.
        """
        x = self.images(x)
        B, like = len(x), {"device": x.device, "dtype": self.k.dtype}
        move = torch.randint(-1, 2, (B, 2), device=x.device) * (torch.rand(B, 1, **like) < self.moved)
        x = _moved(x, move).flatten(1)
        share = (torch.randperm(B, device=x.device) + torch.rand(B, **like)) / B
        kappa = self.median * (0.6 * share.clamp(0.002, 0.998).logit()).exp()
        y = x + kappa[:, None] * torch.randn(x.shape, **like)
        if c is not None:
            if not isinstance(c, Tensor) or c.shape != (B,):
                got = tuple(c.shape) if isinstance(c, Tensor) else repr(c)
                raise ValueError(f"c must have shape ({B},), got {got}")
            c = functional.one_hot(require.symbols("c", c, (), self.classes), self.classes).to(y)
            c = c * (torch.rand(B, 1, **like) >= self.untold)
        logits = self.logits(y, kappa, move.to(y), c)
        return functional.cross_entropy(logits.transpose(1, 2), x, reduction="none").sum(1)

    def sample(
        self,
        shape: tuple[int],
        calls: int = 30,
        *,
        slope: Callable[[Tensor, float], Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw by `exponential` with noise, one call a step, and each level from its posterior, (n,) → (n, H, W).

        Args:
            shape: (n,).
            calls: of the network, at least 2.
            slope: noisy levels (B, H W) and κ → what is added to the score, (B, H W), such as the slope of log p(c | y)
                of a classifier (Dhariwal and Nichol 2021, arXiv:2105.05233).
            generator: draws from here instead of torch's global one.
        """
        shape = (require.sample_count(shape), *(() if self.c is None else self.c.shape[:-1]))
        count = math.prod(shape)
        process = VarianceExploding(self.last / 10, math.hypot(self.first, self.last / 10))
        start = normal((count, self.log_h.shape[0]), self.k, generator)
        start = self.mean + math.hypot(self.spread, self.first) * start
        times = process.schedule(require.whole_number("calls", calls, 2) - 1, self.last, power=3.0)

        def score(y: Tensor, kappa: float) -> Tensor:
            own = self.score(y, kappa)
            return own if slope is None else own + require.same_shape("slope", slope(y, kappa), own)

        with evaluating(self), drawing_from(generator):
            y = exponential(process, process.at_level(score), start, times, noise=1.0)
            p = self.logits(y, y.new_full((count,), self.last)).softmax(-1)
            return torch.multinomial(p.flatten(0, 1), 1).reshape(*shape, *self.event_shape)

    def log_density(self, y: Tensor, steps: int = 12, *, probes: Tensor | None = None) -> Tensor:
        """Log-density of levels with noise κ = last, by the probability flow, (B, H W) → (B,), in nats.

        Args:
            y: noisy levels.
            steps: of Runge and Kutta's method in log κ, four calls each.
            probes: for the divergence, as in `genlib.sde.divergence`; None for the exact one.
        """
        y = require.batch("y", y, self.mean.shape)
        ends = [math.log(self.last), math.log(self.first)]
        grid = torch.linspace(
            *ends, require.whole_number("steps", steps) + 1, dtype=torch.float64, device="cpu"
        )

        def velocity(w: Tensor, log_kappa: float) -> Tensor:  # of w = (y − mean) / r
            kappa = math.exp(log_kappa)
            r = math.hypot(self.spread, kappa)
            y = self.mean + r * w
            return (y - self.clean(y, kappa)) / r - w * (kappa / r) ** 2

        r = math.hypot(self.spread, self.last)
        base = StandardNormal(self.mean.shape)
        with evaluating(self):
            return log_prob(velocity, (y - self.mean) / r, grid, base, probes=probes) - len(
                self.mean
            ) * math.log(r)

    def elbo(
        self,
        x: Tensor,
        steps: int = 12,
        *,
        probes: int | None = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""A bound on log P(x) by one draw of noise, (B, H, W) → (B,), in nats.

        .. math:: \log P(x) \ge \mathbb{E}_{y = x + \kappa \varepsilon} \bigl[ \log P(x \mid y) + \log p_\kappa(y)
            - \log \mathcal{N}(y; x, \kappa^2) \bigr]

        Args:
            x: grey levels.
            steps: as in `log_density`.
            probes: how many random signs for the divergence; None for the exact one.
            generator: draws from here instead of torch's global one.
        """
        x = self.images(x).flatten(1)
        eps = normal(x.shape, self.k, generator)
        y = x + self.last * eps
        directions = None if probes is None else signs(probes, y, generator)
        with evaluating(self):
            level = self.logits(y, y.new_full((len(y),), self.last)).log_softmax(-1)
            decoded = level.gather(2, x[..., None])[..., 0].sum(1)
        noise = -(eps.square() / 2 + math.log(self.last) + math.log(2 * math.pi) / 2).sum(1)
        return decoded - noise + self.log_density(y, steps, probes=directions)


def _moved(x: Tensor, move: Tensor) -> Tensor:
    """Images (B, H, W), each moved by its (B, 2) of −1, 0 or 1 pixels; what comes in is 0."""
    B, H, W = x.shape
    rows, columns = (
        1 + torch.arange(n, device=x.device) + m[:, None] for n, m in zip((H, W), move.T, strict=True)
    )
    padded = functional.pad(x, (1, 1, 1, 1))
    return padded[torch.arange(B, device=x.device)[:, None, None], rows[:, :, None], columns[:, None]]
