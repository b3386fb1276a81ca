"""How each family is trained on images: 8 × 8 handwritten digits, whole grey levels from 0 to 16.

A recipe's `train` makes a model from images (n, 8, 8) int64. The model draws such images, and says at most one thing
about them in nats: `log_prob`, the exact log-probability of the whole grey levels, or `bound`, a lower bound on it.
Every neural model has about 100,000 parameters, all its networks together. The networks are those of the lessons.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from genlib import _arguments as require
from genlib import data, flows, gan, score, sequence, vae
from genlib.discrete import Softmax, smoothed
from genlib.nets import ImageNet, Ink, Scaled, Tilt, perceptron
from genlib.scorecard.recipe import Mixture, Neighbours, Recipe
from genlib.training import fit, minibatches

LEVELS, PIXELS = 17, 64
ADAM = partial(torch.optim.Adam, betas=(0.9, 0.99))


def whole(x: Tensor) -> Tensor:
    """Rows of whole numbers as images, (B, 64) → (B, 8, 8) int64; what is no grey level goes to the ends."""
    return x.clamp(0, LEVELS - 1).long().reshape(-1, 8, 8)


class OfImages(nn.Module):
    """A model of images, whole grey levels (8, 8)."""

    event_shape = torch.Size([8, 8])


class Reading(OfImages):
    """Images that a sequence model reads and writes pixel by pixel, row by row.

    Args:
        writer: model of sequences of 64 grey levels.
    """

    def __init__(self, writer: sequence.Autoregressive) -> None:
        super().__init__()
        self.writer = writer

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability in nats, (B, 8, 8) int → (B,)."""
        x = require.symbols("x", x, self.event_shape, LEVELS).reshape(-1, PIXELS)
        return self.writer.log_prob(x) if len(x) else torch.zeros(0)

    def loss(self, x: Tensor) -> Tensor:
        """Nats per pixel, (B, 8, 8) int → (B,)."""
        return -self.log_prob(x) / PIXELS

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw, (n,) → (n, 8, 8) int64."""
        return whole(self.writer.sample(shape, PIXELS, generator=generator))


class Reshaped(OfImages):
    """A dequantised flow that works on another shape.

    Args:
        model: of whole numbers (*E), 64 of them.
    """

    def __init__(self, model: flows.Dequantised) -> None:
        super().__init__()
        self.model = model

    def loss(self, x: Tensor) -> Tensor:
        """Negative bound in nats for one draw of the noise, (B, 8, 8) int → (B,)."""
        return self.model.loss(self._as_seen(x))

    def bound(self, x: Tensor, draws: int = 20) -> Tensor:
        """Lower bound in nats with so many draws of the noise, (B, 8, 8) int → (B,)."""
        return self.model.bound(self._as_seen(x), draws)

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw, (n,) → (n, 8, 8) int64."""
        return self.model.sample(shape, generator=generator).reshape(-1, 8, 8)

    def _as_seen(self, x: Tensor) -> Tensor:
        return require.symbols("x", x, self.event_shape, LEVELS).reshape(len(x), *self.model.event_shape)


class WithBound(OfImages):
    """A variational autoencoder of images, seen from outside.

    Args:
        model: of images (8, 8).
    """

    def __init__(self, model: vae.VAE) -> None:
        super().__init__()
        self.model = model

    def bound(self, x: Tensor, draws: int = 200) -> Tensor:
        """Lower bound in nats with so many draws of z, (B, 8, 8) int → (B,)."""
        return self.model.bound(require.symbols("x", x, self.event_shape, LEVELS), draws)

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw, (n,) → (n, 8, 8) int64."""
        return self.model.sample(shape, generator=generator)


def decaying(parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
    """AdamW with the lesson's decay."""
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=0.2)


class Rounded(OfImages):
    """A model of real numbers whose samples are rounded to grey levels. It says nothing about probabilities.

    Args:
        model: of 64 numbers.
        scale, shift: bring its samples to grey levels.
        settings: further arguments of its `sample`.
    """

    def __init__(
        self,
        model: nn.Module,
        scale: float = 1.0,
        shift: Tensor | float = 0.0,
        settings: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.model, self.scale, self.shift, self.settings = model, scale, shift, settings

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw, (n,) → (n, 8, 8) int64."""
        x = self.model.sample(shape, *self.settings, generator=generator)
        return whole((self.scale * x + self.shift).round())


class RoundedDown:
    """A density of images with uniform noise on the grey levels, as a model of the whole levels below.

    Args:
        density: of 64 numbers from 0 to 17.
    """

    event_shape = torch.Size([8, 8])

    def __init__(self, density: Neighbours | Mixture) -> None:
        self.density, self.parameters_count = density, density.parameters_count

    def bound(self, x: Tensor, draws: int = 20) -> Tensor:
        """Lower bound in nats with so many draws of the noise, (B, 8, 8) int → (B,).

        The probability of an image is the mean density of its cell, which has volume 1, and what the ends of the scale
        get from outside.
        """
        x = require.symbols("x", x, self.event_shape, LEVELS)
        log_q = [self.density.log_prob(dequantised(x)) for _ in range(require.whole_number("draws", draws))]
        return torch.stack(log_q).logsumexp(0) - math.log(len(log_q))

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw, (n,) → (n, 8, 8) int64."""
        return whole(self.density.sample(shape, generator=generator).floor())


def dequantised(x: Tensor) -> Tensor:
    """Rows with uniform noise above the grey levels, (B, 8, 8) int → (B, 64)."""
    return x.flatten(1) + torch.rand(len(x), PIXELS, dtype=torch.float64)


def shuffled(x: Tensor) -> Tensor:
    """Images in a new order: they are stored writer by writer, and a tenth held out should be like the rest."""
    return x[torch.randperm(len(x))]


def table(x: Tensor) -> Softmax:
    """A histogram for each pixel; the best addition to the counts is found on a tenth held out.

    It costs fewer nats on the validation images than counts of grams of one to five pixels in reading order.
    """
    x = shuffled(x)
    held_out, seen = x[: len(x) // 10], x[len(x) // 10 :]

    def fits(alpha: float) -> float:
        return Softmax(LEVELS, (8, 8)).fit_counts(seen, alpha).log_prob(held_out).sum().item()

    return Softmax(LEVELS, (8, 8)).fit_counts(x, max((0.01, 0.03, 0.1, 0.3, 1.0), key=fits)).eval()


def rnn(
    x: Tensor, steps: int, lr: float, batch: int, average: float, dropout: float, share: float
) -> Reading:
    """An LSTM of 140 cells; a share of the images is shifted."""
    model = Reading(sequence.Recurrent(LEVELS, 140, embedding=32, dropout=dropout))
    batches = (data.shifted(part, share) for part in minibatches(x, batch))
    settings = {"lr": lr, "average": average, "optimizer": ADAM, "clip": 1.0, "progress": False}
    fit(model.loss, model, batches, steps, **settings)
    return model.eval()


def affine_flow(x: Tensor, steps: int, lr: float, batch: int, average: float, share: float) -> Reshaped:
    """The lesson's Glow; a share of the images is shifted."""
    model = flows.glow(_soft(x))
    model.flow.initialise((x[:, None] + torch.rand(len(x), 1, 8, 8)) / LEVELS)
    return _flow(model, x, steps, lr, batch, average, share)


def spline_flow(x: Tensor, steps: int, lr: float, batch: int, average: float, share: float) -> Reshaped:
    """The lesson's spline couplings with narrower networks; a share of the images is shifted."""
    return _flow(flows.image_splines(_soft(x), hidden=(40, 40)), x, steps, lr, batch, average, share)


def _soft(x: Tensor) -> Tensor:
    """Shares of the levels at each pixel, half of them spread evenly, (n, 8, 8) int → (8, 8, LEVELS)."""
    shares = smoothed(one_hot(x, LEVELS).sum(0).double(), 0.5).float()
    return 0.5 * shares + 0.5 / LEVELS


def _flow(
    flow: flows.Dequantised, x: Tensor, steps: int, lr: float, batch: int, average: float, share: float
) -> Reshaped:
    model = Reshaped(flow)
    batches = (data.shifted(part, share) for part in minibatches(x, batch))
    settings = {"lr": lr, "average": average, "optimizer": ADAM, "clip": 5.0, "progress": False}
    fit(model.loss, model, batches, steps, **settings)
    return model.eval()


def autoencoder(x: Tensor, steps: int, lr: float, batch: int, share: float) -> WithBound:
    """The lesson's autoencoder with 400 hidden units; the weight of the rate rises over the first 30 % of the steps."""
    guess = perceptron(PIXELS, 2 * 16, (400,), nn.SiLU)
    tilts = perceptron(16, 2 * PIXELS, (400,), nn.SiLU, dropout=0.1)
    for net in (guess, tilts):
        nn.init.zeros_(net[-1].bias)
    encoder = vae.NormalNet(nn.Sequential(Scaled(), guess))
    decoder = vae.CategoricalNet(nn.Sequential(tilts, Tilt(x)))
    model, count = vae.VAE(encoder, decoder, vae.MixturePrior(16, 20)), itertools.count(1)

    def loss(part: Tensor) -> Tensor:
        return model.loss(data.shifted(part, share), min(1.0, next(count) / (0.3 * steps)))

    fit(loss, model, minibatches(x, batch), steps, lr=lr, progress=False)
    return WithBound(model).eval()


def adversarial(x: Tensor, steps: int, lr: float, batch: int, average: float, weight: float = 0.0) -> Rounded:
    """The lesson's two networks with layers of 192; the critic's gradient costs `weight` (R1)."""
    sizes = itertools.pairwise((16, 192, 192))
    hidden = [layer for i, o in sizes for layer in (nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU())]
    generator = nn.Sequential(*hidden, nn.Linear(192, PIXELS), Ink())
    model = gan.GAN(generator, nn.Sequential(Scaled(), perceptron(PIXELS, 1, (192, 192))), 16)
    batches = (data.blurred(part) for part in minibatches(x.flatten(1).float(), batch))
    gan.fit(model, batches, steps, lr=lr, average=average, weight=weight, progress=False)
    return Rounded(model).eval()


def score_model(x: Tensor, steps: int, lr: float, batch: int, average: float) -> Rounded:
    """The lesson's network for the scores at 30 noise levels; samples take 4 steps of Langevin dynamics at each."""
    rows = x.flatten(1).float()
    mean, spread = rows.mean(0), (rows / 8).std(0).square().mean().sqrt().item()
    model = score.ScoreModel(ImageNet(), (PIXELS,), score.geometric_levels(3.0, 0.05, 30), spread)
    settings = {"lr": lr, "average": average, "optimizer": decaying, "progress": False}
    fit(model.loss, model, minibatches((rows - mean) / 8, batch), steps, **settings)
    return Rounded(model, 8.0, mean, (4, 0.2)).eval()


def kernels(x: Tensor) -> RoundedDown:
    """A kernel density estimate; the best bandwidth is found on a tenth held out."""
    return RoundedDown(Neighbours.fit(dequantised(shuffled(x)), np.geomspace(0.8, 3.0, 16)))


def mixture(x: Tensor) -> RoundedDown:
    """A mixture of normal distributions; the best number and kind are found on a tenth held out."""
    return RoundedDown(
        Mixture.fit(dequantised(shuffled(x)), (5, 10, 20, 40), ("full", "diag", "tied", "spherical"))
    )


RECIPES: dict[str, Recipe] = {
    "table": Recipe(table),
    "recurrent": Recipe(rnn, 680, {"lr": 2e-2, "batch": 32, "average": 0.99, "dropout": 0.2, "share": 0.3}),
    "affine flow": Recipe(affine_flow, 475, {"lr": 4e-3, "batch": 100, "average": 0.99, "share": 0.3}),
    "spline flow": Recipe(spline_flow, 585, {"lr": 6e-3, "batch": 100, "average": 0.99, "share": 0.3}),
    "VAE": Recipe(autoencoder, 2800, {"lr": 1.5e-2, "batch": 100, "share": 0.6}),
    "GAN": Recipe(adversarial, 2700, {"lr": 8e-4, "batch": 128, "average": 0.998}),
    "GAN with R1": Recipe(adversarial, 2100, {"lr": 6e-3, "batch": 128, "average": 0.998, "weight": 64.0}),
    "score": Recipe(score_model, 1010, {"lr": 6e-3, "batch": 128, "average": 0.998}),
    "kernels": Recipe(kernels),
    "mixture": Recipe(mixture),
}
