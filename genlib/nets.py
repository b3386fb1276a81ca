"""The networks of the book: dense, masked and convolutional ones, and what stands before or behind them.

None of them knows what it is for: a model gives it its meaning. What a lesson writes out in full view stands here too,
and the lesson checks that both agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import gelu, pixel_shuffle, silu

from genlib import _arguments as require


def perceptron(
    inputs: int,
    outputs: int,
    hidden: Sequence[int] = (64, 64),
    activation: type[nn.Module] = nn.ReLU,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Dense layers with an activation between them, (B, inputs) → (B, outputs).

    Args:
        inputs, outputs: numbers that come in and go out.
        hidden: width of each hidden layer.
        activation: what stands behind each of them.
        dropout: share of the last hidden units that is left out in training.

    Raises:
        ValueError: a width is no whole number of at least 1, or the dropout lies outside [0, 1).
    """
    sizes = [
        *(require.whole_number("inputs", inputs), *(require.whole_number("hidden", n) for n in hidden)),
        require.whole_number("outputs", outputs),
    ]
    layers = [layer for i, o in itertools.pairwise(sizes) for layer in (nn.Linear(i, o), activation())][:-1]
    if require.share("dropout", dropout):
        layers.insert(-1, nn.Dropout(dropout))
    return nn.Sequential(*layers)


def silent(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """Set the weights and biases of a layer to zero, and return it."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Together(nn.Module):
    """A network of several inputs: they are flattened and laid side by side, (B, ...), (B, ...), … → whatever.

    Args:
        net: (B, numbers of all inputs) → whatever.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> Tensor:
        """Flatten, join, and pass on."""
        return self.net(torch.cat([x.flatten(1) for x in inputs], 1))


class Told(nn.Module):
    """A network with its condition filled in.

    Args:
        net: (B, inputs), (B, C) → whatever.
        c: (B, C).
    """

    def __init__(self, net: nn.Module, c: Tensor) -> None:
        super().__init__()
        self.net, self.c = net, c

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) → whatever."""
        return self.net(x, self.c)


def _check_condition(c: Tensor | None, size: int) -> None:
    got = 0 if c is None else c.shape[-1]
    if got != size:
        raise ValueError(f"c must hold {size} numbers for each example, got {got}")


def _beside(x: Tensor, c: Tensor | None) -> Tensor:
    """Put the condition beside the input, (B, N) and (B, C) → (B, N + C)."""
    return x if c is None else torch.cat([x, c], 1)


class MLP(nn.Sequential):
    """A conditioner for vectors: (B, inputs) → (B, outputs, count), zero at first.

    Args:
        inputs: numbers that pass the coupling unchanged.
        outputs: numbers that it changes.
        count: parameters for each of them, as in `genlib.flows.Elementwise.count`.
        hidden, activation: as in `perceptron`.
        dropout: as in `perceptron`. A coupling with it can be inverted in ``eval()`` mode only, since each pass leaves
            out others.
        condition: C, how many numbers of a condition (B, C) it sees too.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        count: int,
        hidden: Sequence[int] = (64, 64),
        activation: type[nn.Module] = nn.ReLU,
        dropout: float = 0.0,
        *,
        condition: int = 0,
    ) -> None:
        condition = require.whole_number("condition", condition, 0)
        layers = perceptron(inputs + condition, outputs * count, hidden, activation, dropout)
        silent(layers[-1])
        super().__init__(*layers, nn.Unflatten(1, (outputs, count)))
        self.condition = condition

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """(B, inputs) → (B, outputs, count)."""
        _check_condition(c, self.condition)
        return super().forward(_beside(x, c))


class MaskedLinear(nn.Linear):
    """A linear layer some of whose weights are held at zero.

    Args:
        mask: (outputs, inputs) bool, True for the weights that are free.
    """

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) → (B, outputs)."""
        return functional.linear(x, self.weight * self.mask, self.bias)


class MADE(nn.Sequential):
    """A network whose output for entry d sees the entries before d only (Germain et al. 2015, arXiv:1502.03509).

    Each hidden unit has a number from 1 to D − 1; a unit may look at units of at most its number, and the output for
    entry d at units below d. The numbers are spread evenly. A layer of fewer than D − 1 units leaves numbers out: some
    outputs then see a little less than they might.

    Args:
        features: D, at least 2.
        count: outputs an entry, (B, D) → (B, D, count); zero at first.
        hidden: width of each hidden layer.
        dropout: share of the last hidden units that is left out in training.
        condition: C, how many numbers of a condition (B, C) all outputs see. They come before the entries: their number
            is 0, and hidden units have numbers from 0 on.
    """

    def __init__(
        self,
        features: int,
        count: int,
        hidden: Sequence[int] = (64, 64),
        dropout: float = 0.0,
        *,
        condition: int = 0,
    ) -> None:
        condition = require.whole_number("condition", condition, 0)
        rank = torch.arange(1, require.whole_number("features", features, 2) + 1)  # of the entries, 1 … D
        layers: list[nn.Module] = []
        before = torch.cat([rank, rank.new_zeros(condition)])
        numbers = features if condition else features - 1
        for size in hidden:
            size = require.whole_number("hidden", size)
            unit = features - 1 - torch.arange(size) * numbers // size  # D − 1 … 1, or … 0
            layers += [MaskedLinear(unit[:, None] >= before), nn.ReLU()]
            before = unit
        last = silent(MaskedLinear((rank[:, None] > before).repeat_interleave(count, 0)))
        super().__init__(*layers, nn.Dropout(dropout), last, nn.Unflatten(1, (features, count)))
        self.condition = condition

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """(B, D) → (B, D, count)."""
        _check_condition(c, self.condition)
        return super().forward(_beside(x, c))


class ConvNet(nn.Module):
    """A conditioner for images: it sees the entries that pass as an image with holes, and reads off those that change.

    Args:
        mask: (C, H, W) bool, True for the entries that pass.
        count: parameters for each entry that changes; zero at first.
        hidden: channels of both hidden layers.
        condition: C, how many numbers of a condition (B, C) it sees too, each as a channel of its own.
    """

    def __init__(self, mask: Tensor, count: int, hidden: int = 32, *, condition: int = 0) -> None:
        super().__init__()
        self.condition = require.whole_number("condition", condition, 0)
        mask = require.mask("mask", mask)
        self.shape, self.count = tuple(mask.shape), count
        self.register_buffer("passing", mask.flatten().nonzero()[:, 0], persistent=False)
        self.register_buffer("changing", (~mask).flatten().nonzero()[:, 0], persistent=False)
        last = silent(nn.Conv2d(hidden, self.shape[0] * count, 3, padding=1))
        self.layers = nn.Sequential(
            nn.Conv2d(self.shape[0] + self.condition, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            last,
        )

    def forward(self, passing: Tensor, c: Tensor | None = None) -> Tensor:
        """(B, entries that pass) → (B, entries that change, count)."""
        _check_condition(c, self.condition)
        image = passing.new_zeros(len(passing), math.prod(self.shape)).index_copy(1, self.passing, passing)
        image = image.reshape(-1, *self.shape)
        if c is not None:  # the same at every pixel
            image = torch.cat([image, c[:, :, None, None].expand(-1, -1, *self.shape[1:])], 1)
        theta = self.layers(image)  # (B, C · count, H, W)
        theta = theta.unflatten(1, (self.shape[0], self.count)).movedim(2, -1)  # (B, C, H, W, count)
        return theta.flatten(1, 3)[:, self.changing]


class Scaled(nn.Module):
    """Grey levels (B, 8, 8) or (B, 64), 0 to 16 → numbers from −1 to 1 (B, 64)."""

    def forward(self, x: Tensor) -> Tensor:
        """Scale and flatten."""
        return x.flatten(1) / 8 - 1


class Ink(nn.Module):
    """Real numbers → grey levels from 0 to 16."""

    def forward(self, h: Tensor) -> Tensor:
        """Squash."""
        return 16 * torch.sigmoid(h)


class Tilt(nn.Module):
    """Two numbers a pixel tilt its histogram: (B, 2 H W) → logits (B, H, W, K).

    The logit of level k is log h_k + a t_k + b t_k², with t_k = k/8 − 1, from −1 to 1 for the grey levels 0 to 16.

    Args:
        images: (n, H, W) int64, from which the histograms h start, half an image added to each level.
        levels: K.

    Attributes:
        log_h: (H, W, K) parameter.
        curves: (2, K) parameter, t and t² at first.
    """

    def __init__(self, images: Tensor, levels: int = 17) -> None:
        super().__init__()
        counts = functional.one_hot(images, levels).sum(0) + 0.5  # (H, W, K)
        self.log_h = nn.Parameter((counts / counts.sum(-1, keepdim=True)).log())
        t = torch.arange(levels, device=images.device) / 8 - 1
        self.curves = nn.Parameter(torch.stack([t, t**2]))

    def forward(self, tilts: Tensor) -> Tensor:
        """Add the tilts to the logarithm of the histogram."""
        return self.log_h + tilts.reshape(-1, *self.log_h.shape[:-1], 2) @ self.curves


def waves(log_sigma: Tensor) -> Tensor:
    """The noise level as sines and cosines of ½, 1, 2 and 4 times its logarithm, (B,) → (B, 8)."""
    powers = torch.arange(-1, 3, device=log_sigma.device, dtype=log_sigma.dtype)
    angle = log_sigma[:, None] * 2**powers  # (B, 4)
    return torch.cat([angle.sin(), angle.cos()], 1)


class ScoreNet(nn.Module):
    """Three dense layers that are told the noise level.

    Args:
        dims: D.
        width: of each layer.
    """

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(n + 8, width) for n in (dims, width, width))
        self.last = nn.Linear(width + 8, dims)

    def forward(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """Points (B, D) and log σ (B,) → (B, D)."""
        level = waves(log_sigma)
        for i, layer in enumerate(self.hidden):
            h = gelu(layer(torch.cat([x, level], 1)))
            x = x + h if i else h
        return self.last(torch.cat([x, level], 1))


class ImageNet(nn.Module):
    """Convolutions for images of 8 × 8 pixels, told the noise level, and one dense layer for the whole.

    The image is seen at two sizes. What is found at 4 × 4 places is added to what is seen at 8 × 8. The
    last layer starts without weights.

    Args:
        inputs, outputs: numbers that come in and go out at each pixel.
        told: how many numbers it is told beside the noise level.
        gate_dropout: share of the dense layer's numbers that is left out in training.
    """

    def __init__(self, inputs: int = 1, outputs: int = 1, told: int = 0, gate_dropout: float = 0.0) -> None:
        super().__init__()
        self.told = require.whole_number("told", told, 0)
        self.first = nn.Conv2d(inputs, 16, 3, padding=1)
        self.down = nn.Conv2d(16, 48, 2, stride=2)
        self.level = nn.Linear(8 + told, 48)
        self.near = nn.Conv2d(48, 48, 3, padding=1)
        self.whole = nn.Linear(16 * 48 + 8 + told, 64)
        self.back = nn.Linear(64, 16 * 48)
        self.up = nn.Conv2d(48, 4 * 16, 1)
        self.mix = nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Conv2d(16, outputs, 3, padding=1)
        self.drop, self.gate_drop = nn.Dropout(0.1), nn.Dropout(gate_dropout)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, log_sigma: Tensor, c: Tensor | None = None) -> Tensor:
        """Images (B, 64 inputs), log σ (B,) and what it is told (B, told) → (B, 64 outputs), pixels last."""
        _check_condition(c, self.told)
        level = _beside(waves(log_sigma), c)
        fine = self.first(x.reshape(len(x), self.first.in_channels, 8, 8))
        coarse = self.down(silu(fine)) + self.level(level)[:, :, None, None]
        seen = self.drop(silu(coarse))
        gate = self.gate_drop(silu(self.whole(torch.cat([seen.flatten(1), level], 1))))
        coarse = coarse + silu(self.near(seen) + self.back(gate).view_as(seen))
        fine = fine + pixel_shuffle(self.up(silu(coarse)), 2)
        fine = fine + self.mix(silu(fine))
        return self.last(silu(fine)).flatten(1)


class PlaneNet(nn.Module):
    """Three dense layers on a few numbers and on waves over them, told the noise level.

    The waves are sines and cosines of learnt projections: fine structure is seen at once (after Tancik et al. 2020,
    arXiv:2006.10739). Each layer has a bias that depends on the level, and the last one starts at zero. For a score
    model what comes out is multiplied by σ/√(σ² + knee²), so that little is said where there is little noise.

    Args:
        dims: D.
        width: of each layer.
        waves: how many projections.
        knee: the level below which the output fades, in the unit of σ. None if it does not, as for a velocity, which
            is there at all times.
    """

    def __init__(self, dims: int = 2, width: int = 128, waves: int = 32, knee: float | None = 0.03) -> None:
        super().__init__()
        self.knee = None if knee is None else require.positive("knee", knee)
        self.places = nn.Parameter(2 * torch.randn(dims, require.whole_number("waves", waves)))
        self.level = nn.Linear(8, 3 * width)
        self.hidden = nn.ModuleList(nn.Linear(n, width, bias=False) for n in (dims + 2 * waves, width, width))
        self.last = silent(nn.Linear(width, dims))

    def forward(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """Points (B, D) and log σ (B,) → (B, D)."""
        angle = x @ self.places
        x = torch.cat([x, angle.sin(), angle.cos()], 1)
        for i, (layer, bias) in enumerate(
            zip(self.hidden, self.level(waves(log_sigma)).chunk(3, 1), strict=True)
        ):
            h = silu(layer(x) + bias)
            x = x + h if i else h
        if self.knee is None:
            return self.last(x)
        sigma = log_sigma.exp()[:, None]
        return sigma / (sigma**2 + self.knee**2).sqrt() * self.last(x)


class Potential(nn.Module):
    r"""A field of vectors made one number, whose slope is a field again.

    .. math:: G(x, \log \sigma) = -\langle x, F(x, \log \sigma)\rangle, \qquad -\nabla G = F + (\nabla F)^\top x

    Where F itself is the slope of nothing, −∇G still is one (Salimans and Ho 2021,
    openreview.net/forum?id=9AS-TF2jRNb).

    Args:
        field: F, (B, *E) and log σ (B,) → (B, *E), such as a `ScoreNet` or a `PlaneNet`.
    """

    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.field = field

    def forward(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """Points (B, *E) and log σ (B,) → (B,)."""
        return -(x * require.same_shape("field", self.field(x, log_sigma), x)).flatten(1).sum(1)
