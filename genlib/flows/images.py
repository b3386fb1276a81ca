"""Flows on images: dequantisation, the boundary transform, squeezing, and two finished models of small images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from genlib import _arguments as require
from genlib.flows.core import Flow, Inverse, Layer, Pair, Stack, with_parts
from genlib.flows.coupling import Coupling, Entrywise, channelwise, checkerboard
from genlib.flows.elementwise import Affine, Histogram, Spline
from genlib.flows.layers import ActNorm, Conv1x1LU
from genlib.nets import MLP, ConvNet


class Logit(Layer):
    r"""Bring data between 0 and 1 to the whole line (after Dinh et al. 2016, section 4.1, with both ends kept away).

    .. math:: z = \mathrm{logit}\bigl(\alpha + (1 - 2 \alpha)\, x\bigr)

    Args:
        alpha: keeps the ends away from infinity, between 0 and ½.
    """

    def __init__(self, alpha: float = 0.01) -> None:
        super().__init__()
        self.alpha = _margin(alpha)

    def _forward(self, z: Tensor) -> Pair:
        return _widened(torch.sigmoid(z), self.alpha), self._ladj(z)

    def _inverse(self, x: Tensor) -> Pair:
        z = torch.logit(_narrowed(x, self.alpha))
        return z, -self._ladj(z)

    def _ladj(self, z: Tensor) -> Tensor:
        log_slope = functional.logsigmoid(z) + functional.logsigmoid(-z) - math.log(1 - 2 * self.alpha)
        return log_slope.flatten(1).sum(1)


class Probit(Layer):
    r"""The same with the quantile function of the normal distribution; uniform data become normal, up to α.

    .. math:: z = \Phi^{-1}\bigl(\alpha + (1 - 2 \alpha)\, x\bigr)

    Args:
        alpha: keeps the ends away from infinity, between 0 and ½.
    """

    def __init__(self, alpha: float = 1e-5) -> None:
        super().__init__()
        self.alpha = _margin(alpha)

    def _forward(self, z: Tensor) -> Pair:
        return _widened(torch.special.ndtr(z), self.alpha), self._ladj(z)

    def _inverse(self, x: Tensor) -> Pair:
        z = torch.special.ndtri(_narrowed(x, self.alpha))
        return z, -self._ladj(z)

    def _ladj(self, z: Tensor) -> Tensor:
        log_slope = -0.5 * (z.square() + math.log(2 * math.pi)) - math.log(1 - 2 * self.alpha)
        return log_slope.flatten(1).sum(1)


class Squeeze(Layer):
    """Trade space for channels: latent (4C, H/2, W/2) to data (C, H, W), each 2 × 2 block of pixels from 4 channels.

    It moves entries and keeps volumes (Dinh et al. 2016, section 3.6).
    """

    def _forward(self, z: Tensor) -> Pair:
        if z.ndim != 4 or z.shape[1] % 4:
            raise ValueError(f"z must have shape (B, 4C, H, W), got {tuple(z.shape)}")
        return functional.pixel_shuffle(z, 2), z.new_zeros(len(z))

    def _inverse(self, x: Tensor) -> Pair:
        if x.ndim != 4 or x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(f"x must have shape (B, C, H, W) with even H and W, got {tuple(x.shape)}")
        return functional.pixel_unshuffle(x, 2), x.new_zeros(len(x))


class HalfOfChannels(Layer):
    """Apply a layer to the first half of the channels, and leave the others as they are.

    This is the multi-scale architecture (Dinh et al. 2016, section 3.6): half of the entries reach the base early.

    Args:
        layer: works on (C / 2, H, W), and keeps that shape.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def given(self, c: Tensor) -> Layer:
        """The layer inside under the conditions."""
        return with_parts(self, layer=self.layer.given(c))

    def initialise(self, x: Tensor) -> Tensor:
        """Initialise the layer inside from the half that it sees."""
        first, rest = self._halves(x)
        return torch.cat([self.layer.initialise(first), rest], 1)

    def _forward(self, z: Tensor) -> Pair:
        first, rest = self._halves(z)
        x, ladj = self.layer._forward(first)
        return torch.cat([x, rest], 1), ladj

    def _inverse(self, x: Tensor) -> Pair:
        first, rest = self._halves(x)
        z, ladj = self.layer._inverse(first)
        return torch.cat([z, rest], 1), ladj

    @staticmethod
    def _halves(x: Tensor) -> Pair:
        if x.ndim < 2 or x.shape[1] % 2:
            raise ValueError(f"x must have shape (B, C, ...) with an even C, got {tuple(x.shape)}")
        return x.chunk(2, 1)


class UniformNoise(nn.Module):
    """Dequantisation by uniform noise u in [0, 1), whose log-density is 0 (Theis et al. 2016, arXiv:1511.01844)."""

    def forward(self, x: Tensor) -> Pair:
        """Whole numbers (B, *E) → u (B, *E) and log r(u|x) (B,)."""
        u = torch.rand(x.shape, device=x.device, dtype=torch.get_default_dtype())
        return u, u.new_zeros(len(x))


class Dequantised(nn.Module):
    r"""A model of whole numbers 0 … K − 1, made from a density on the unit cube (Theis et al. 2016, arXiv:1511.01844).

    .. math:: Q(x) = \int_{[0, 1)^D} q\bigl((x + u) / K\bigr)\, K^{-D}\, du

    The integral is not known; `elbo` and `bound` are lower bounds of log Q(x) on average.

    Args:
        flow: density q of D real numbers, of data in [0, 1).
        levels: K, how many whole numbers there are.
        noise: draws u given x and says log r(u|x); `UniformNoise` when None.
    """

    def __init__(self, flow: Flow, levels: int, noise: nn.Module | None = None) -> None:
        super().__init__()
        self.flow, self.levels = flow, require.whole_number("levels", levels, 2)
        self.noise = UniformNoise() if noise is None else noise
        self.event_shape = flow.event_shape

    def elbo(self, x: Tensor) -> Tensor:
        """log q((x + u) / K) − D log K − log r(u|x) for one draw of u, in nats, (B, *E) int → (B,)."""
        x = require.symbols("x", x, self.event_shape, self.levels)
        u, log_r = self.noise(x)
        u = u.to(next(self.flow.parameters(), u))  # before the sum, which would round it
        cell = self.event_shape.numel() * math.log(self.levels)
        return self.flow.log_prob((x + u) / self.levels) - cell - log_r

    def bound(self, x: Tensor, draws: int = 20) -> Tensor:
        """Importance-weighted bound in nats, (B, *E) int → (B,) (Burda et al. 2016, arXiv:1509.00519).

        It is the logarithm of the mean of e^elbo over `draws` draws; it tends to log Q(x) from below.
        """
        terms = [self.elbo(x) for _ in range(require.whole_number("draws", draws))]
        return torch.stack(terms).logsumexp(0) - math.log(draws)

    def loss(self, x: Tensor) -> Tensor:
        """Negative `elbo` in nats, per example, (B, *E) → (B,)."""
        return -self.elbo(x)

    @torch.no_grad()
    def sample(
        self, shape: Sequence[int], *, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw from the flow and round down, (n,) → (n, *E) int64.

        What the flow puts outside [0, 1) goes to the ends. These draws follow Q as far as nothing lies there.
        """
        x = self.flow.sample(shape, temperature=temperature, generator=generator)
        return (self.levels * x).floor().clamp(0, self.levels - 1).long()


def front(probs: Tensor) -> list[Layer]:
    """The fixed layers from the line to the unit cube under which independent pixels with histograms are normal.

    Args:
        probs: (*E, K) shares of the K grey levels at each pixel, none of them 0.
    """
    curves = Entrywise(Histogram(probs.shape[-1]), probs.log())
    return [Probit(), curves.requires_grad_(False)]


def glow_step(channels: int, size: int, hidden: int = 64) -> list[Layer]:
    """One step of Glow on (channels, size, size): coupling, 1 × 1 convolution, actnorm (Kingma and Dhariwal 2018)."""
    mask = channelwise(channels, size, size)
    net = ConvNet(mask, count=2, hidden=hidden)
    return [Coupling(mask, Affine(limit=2.0), net), Conv1x1LU(channels), ActNorm(channels)]


def glow(probs: Tensor, steps: int = 4, hidden: int = 64) -> Dequantised:
    """A small Glow for images of one channel (Kingma and Dhariwal 2018, arXiv:1807.03039).

    Its steps work at half the size, those nearest to the latent space on half of the channels at a quarter.

    Args:
        probs: (H, W, K) shares of the K grey levels at each pixel, from which the flow starts.
        steps: at each of the two sizes.
        hidden: channels inside a coupling's network.
    """
    height, width, levels = probs.shape
    if height != width or height % 4:
        raise ValueError(
            f"probs must be of square images with a side that 4 divides, got {tuple(probs.shape)}"
        )
    coarse = [layer for _ in range(steps) for layer in glow_step(8, height // 4, hidden)]
    inside = Stack([Inverse(Squeeze()), *coarse, Squeeze()])
    outer = [layer for _ in range(steps) for layer in glow_step(4, height // 2, hidden)]
    squeezed = Stack([Inverse(Squeeze()), HalfOfChannels(inside), *outer, Squeeze()])
    return Dequantised(Flow([squeezed, *front(probs[None])], (1, height, width)), levels)


def image_splines(
    probs: Tensor, bins: int = 3, dropout: float = 0.3, hidden: Sequence[int] = (128, 128)
) -> Dequantised:
    """Eight spline couplings for images: checkerboard, rows, columns and halves, each with both colours.

    Args:
        probs: (H, W, K) shares of the K grey levels at each pixel, from which the flow starts; H and W are even.
        bins: of each spline.
        dropout, hidden: of each network, as in `genlib.nets.MLP`.
    """
    height, width, levels = probs.shape
    if height % 2 or width % 2:
        raise ValueError(f"probs must be of images with even sides, got {tuple(probs.shape)}")
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    patterns = (checkerboard(height, width)[0], row % 2 == 0, column % 2 == 0, row < height // 2)
    spline, half = Spline(bins, bound=3.0, least=0.05), height * width // 2
    couplings = [
        Coupling(mask, spline, MLP(half, half, spline.count, hidden, nn.SiLU, dropout))
        for pattern in patterns
        for mask in (pattern, ~pattern)
    ]
    return Dequantised(Flow([*couplings, *front(probs)], (height, width)), levels)


def _margin(alpha: float) -> float:
    """Check that alpha lies between 0 and 1/2."""
    if require.positive("alpha", alpha) >= 0.5:
        raise ValueError(f"alpha must lie between 0 and 1/2, got {alpha}")
    return float(alpha)


def _narrowed(x: Tensor, alpha: float) -> Tensor:
    """Map [0, 1] into [alpha, 1 − alpha]; what lies so far outside that the line has no place for it is refused."""
    p = alpha + (1 - 2 * alpha) * x
    if not require.holds(((p > 0) & (p < 1)).all()):
        raise ValueError(f"x must lie between 0 and 1, got {x.min().item():g} to {x.max().item():g}")
    return p


def _widened(p: Tensor, alpha: float) -> Tensor:
    return (p - alpha) / (1 - 2 * alpha)
