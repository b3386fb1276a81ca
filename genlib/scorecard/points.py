"""How each family is trained on points of a space: 20,000 of them, around 0 and of size 1 in every coordinate.

A recipe's `train` makes a model from points (n, D). Every model has about 10,000 parameters, all its networks together,
as far as the family allows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from genlib import _arguments as require
from genlib import flows, gan, score, sequence, vae
from genlib._random import normal
from genlib.discrete import Softmax, smoothed
from genlib.nets import MLP, ScoreNet, perceptron, silent
from genlib.scorecard.recipe import Mixture, Neighbours, Recipe
from genlib.training import fit, minibatches


class Cells:
    """A cube [−reach, reach)^D cut into equal cells.

    Args:
        reach: half the cube's side.
        bins: cells along each axis.
    """

    def __init__(self, reach: float, bins: int) -> None:
        self.reach, self.bins = require.positive("reach", reach), require.whole_number("bins", bins)
        self.width = 2 * self.reach / self.bins

    def index(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cell of each coordinate (n, D) int64, and whether the point lies in the cube (n,)."""
        cell = ((x + self.reach) / self.width).floor().long()
        return cell.clamp(0, self.bins - 1), ((cell >= 0) & (cell < self.bins)).all(-1)

    def spread(self, cell: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw a uniform point in each cell, (n, D) int64 → (n, D)."""
        u = torch.rand(cell.shape, generator=generator, device=cell.device)
        return (cell + u) * self.width - self.reach


class Table(nn.Module):
    """A softmax over all cells of a square, uniform inside each cell.

    Args:
        cells: of the square.
    """

    event_shape = torch.Size([2])

    def __init__(self, cells: Cells) -> None:
        super().__init__()
        self.cells, self.softmax = cells, Softmax(cells.bins**2)

    def number(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the cell of each point, and whether there is one, (n, 2) → (n,), (n,)."""
        cell, inside = self.cells.index(x)
        return cell[:, 0] * self.cells.bins + cell[:, 1], inside

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, (B, 2) → (B,)."""
        number, inside = self.number(require.real_events("x", x, self.event_shape))
        return torch.where(inside, self.softmax.log_prob(number) - 2 * math.log(self.cells.width), -torch.inf)

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw, (n,) → (n, 2)."""
        number = self.softmax.sample(shape, generator=generator)
        cell = torch.stack([number // self.cells.bins, number % self.cells.bins], -1)
        return self.cells.spread(cell, generator)


class DigitByDigit(nn.Module):
    """Coordinates as numbers of two digits, which a sequence model writes: first digits first.

    Args:
        cells: base² along each axis.
        dims: D.
        writer: model of sequences of 2 D symbols.
    """

    def __init__(self, cells: Cells, dims: int, writer: sequence.Autoregressive) -> None:
        super().__init__()
        self.cells, self.dims, self.writer = cells, dims, writer
        self.event_shape = torch.Size([dims])
        self.base = writer.vocabulary

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, (B, D) → (B,)."""
        cell, inside = self.cells.index(require.real_events("x", x, self.event_shape))
        symbols = torch.cat([cell // self.base, cell % self.base], 1)  # (B, 2 D)
        if not len(x):
            return x.new_zeros(0)
        log_q = self.writer.log_prob(symbols) - self.dims * math.log(self.cells.width)
        return torch.where(inside, log_q, -torch.inf)

    def loss(self, x: Tensor) -> Tensor:
        """Negative log-density in nats, (B, D) → (B,)."""
        return -self.log_prob(x)

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw, (n,) → (n, D)."""
        first, second = self.writer.sample(shape, 2 * self.dims, generator=generator).chunk(2, 1)
        return self.cells.spread(first * self.base + second, generator)


def table(x: Tensor) -> Table:
    """A softmax over 100 × 100 cells. The best addition to the counts is found on a tenth held out."""
    if x.shape[1] != 2:
        raise ValueError(f"target must be in the plane for a table, got {x.shape[1]} dimensions")
    model = Table(Cells(_reach(x), 100))
    number, _ = model.number(x)
    seen, held_out = number[len(x) // 10 :], number[: len(x) // 10]

    def log_q(number: Tensor, alpha: float) -> Tensor:
        return smoothed(torch.bincount(number, minlength=100**2), alpha).log()

    best = max((0.003, 0.01, 0.03, 0.1, 0.3, 1.0), key=lambda a: log_q(seen, a)[held_out].sum().item())
    model.softmax.logits.data = log_q(number, best)
    return model


def rnn(x: Tensor, steps: int, lr: float, batch: int, average: float) -> DigitByDigit:
    """An LSTM that writes each coordinate with two digits of base 32."""
    writer = sequence.Recurrent(32, 32, embedding=16)
    model = DigitByDigit(Cells(_reach(x), 32**2), x.shape[1], writer)
    fit(model.loss, model, minibatches(x, batch), steps, lr=lr, average=average, clip=5.0, progress=False)
    return model


def affine_flow(x: Tensor, steps: int, lr: float, batch: int, average: float) -> flows.Flow:
    """Eight affine couplings."""
    mask = flows.alternating(x.shape[1])
    layers = []
    for i in range(8):
        kept = mask if i % 2 else ~mask
        inputs = int(kept.sum())
        net = MLP(inputs, x.shape[1] - inputs, 2, (32, 32), nn.SiLU)
        layers.append(flows.Coupling(kept, flows.Affine(), net))
    return _flow(layers, x, steps, lr, batch, average)


def spline_flow(x: Tensor, steps: int, lr: float, batch: int, average: float) -> flows.Flow:
    """Three autoregressive layers of splines."""
    layers = []
    for i in range(3):
        layer = flows.MaskedAutoregressive(x.shape[1], flows.Spline(10, bound=3.5), hidden=(32, 32))
        layers.append(flows.Stack([flows.Reverse(), layer, flows.Reverse()]) if i == 1 else layer)
    return _flow(layers, x, steps, lr, batch, average)


def _flow(
    layers: list[flows.Layer], x: Tensor, steps: int, lr: float, batch: int, average: float
) -> flows.Flow:
    flow = flows.Flow([*layers, flows.ActNorm(x.shape[1])], (x.shape[1],))
    flow.initialise(x[:2048])
    fit(flow.loss, flow, minibatches(x, batch), steps, lr=lr, average=average, clip=5.0, progress=False)
    return flow


def autoencoder(x: Tensor, steps: int, lr: float, batch: int, average: float) -> vae.VAE:
    """Two latent numbers; the decoder's noise is learnt."""
    encoder = vae.NormalNet(perceptron(x.shape[1], 4, (64, 64), nn.SiLU))
    decoder = vae.NormalMeanNet(perceptron(2, x.shape[1], (64, 64), nn.SiLU), sigma=0.3, learn=True)
    model = vae.VAE(encoder, decoder, vae.StandardPrior(2))
    fit(model.loss, model, minibatches(x, batch), steps, lr=lr, average=average, clip=5.0, progress=False)
    return model


def adversarial(
    x: Tensor, steps: int, lr: float, batch: int, average: float, weight: float | tuple[float, float] = 0.0
) -> gan.GAN:
    """Generator and critic with three layers of 48, and as many latent numbers as coordinates; R1 costs `weight`."""
    D = x.shape[1]
    model = gan.GAN(perceptron(D, D, (48,) * 3), perceptron(D, 1, (48,) * 3), D)
    settings = {"lr": lr, "critic_lr": lr / 2, "average": average, "floor": 0.1, "progress": False}
    gan.fit(model, minibatches(x, batch), steps, weight=weight, **settings)
    return model


def score_model(x: Tensor, steps: int, lr: float, batch: int, average: float) -> score.ScoreModel:
    """One network for the scores at 40 noise levels."""
    model = score.ScoreModel(ScoreNet(x.shape[1], 64), x.shape[1:], score.geometric_levels(3.0, 0.01, 40))
    fit(model.loss, model, minibatches(x, batch), steps, lr=lr, average=average, progress=False)
    return model


class Bent(nn.Module):
    """Eight affine couplings; without their masks, each network sees and moves the whole point.

    Args:
        dims: D.
        masked: whether each coupling hides from its network what it moves, and moves only that.
    """

    def __init__(self, dims: int, masked: bool) -> None:
        super().__init__()
        self.event_shape, self.masked = torch.Size([dims]), masked
        self.nets = nn.ModuleList(perceptron(dims, 2 * dims, (32, 32), nn.SiLU) for _ in range(8))
        self.register_buffer("mask", flows.alternating(dims).float())
        for net in self.nets:
            silent(net[-1])

    def forward(self, z: Tensor) -> Tensor:
        """(B, D) → (B, D)."""
        for i, net in enumerate(self.nets):
            kept = (self.mask if i % 2 else 1 - self.mask) if self.masked else torch.zeros_like(self.mask)
            s, m = net(z * kept if self.masked else z).chunk(2, 1)
            z = z * kept + (1 - kept) * (z * (3 * torch.tanh(s / 3)).exp() + m)
        return z

    @torch.no_grad()
    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw, (n,) → (n, D)."""
        return self(normal((require.sample_count(shape), *self.event_shape), self.mask, generator))


def bent(x: Tensor, steps: int, lr: float, batch: int, average: float, masked: bool) -> Bent:
    """A map of noise to data that is trained without a density, by the sliced Wasserstein distance of two batches."""
    model = Bent(x.shape[1], masked)

    def loss(real: Tensor) -> Tensor:
        theta = torch.randn(x.shape[1], 32)
        theta = theta / theta.norm(dim=0)
        made = model(torch.randn_like(real))
        return ((made @ theta).sort(0).values - (real @ theta).sort(0).values).square().mean()

    fit(loss, model, minibatches(x, batch), steps, lr=lr, average=average, clip=5.0, progress=False)
    return model


def kernels(x: Tensor) -> Neighbours:
    """A kernel density estimate; the best bandwidth is found on a tenth held out."""
    return Neighbours.fit(x, np.geomspace(0.01, 0.6, 14))


def mixture(x: Tensor) -> Mixture:
    """A mixture of normal distributions; the best number is found on a tenth held out."""
    return Mixture.fit(x, (4, 8, 16, 32, 64), ("full",))


def _reach(x: Tensor) -> float:
    """Half the side of a cube that holds the points and some room around them."""
    return 1.25 * x.abs().max().item()


BEST = {"lr": 2e-2, "batch": 512, "average": 0.998}  # what was best for most of them

RECIPES: dict[str, Recipe] = {
    "table": Recipe(table),
    "recurrent": Recipe(rnn, 1550, {"lr": 2e-2, "batch": 128, "average": 0.998}),
    "affine flow": Recipe(affine_flow, 615, BEST),
    "spline flow": Recipe(spline_flow, 540, BEST),
    "VAE": Recipe(autoencoder, 2130, BEST),
    "GAN": Recipe(adversarial, 1800, {"lr": 1e-2, "batch": 512, "average": 0.998}),
    "GAN with R1": Recipe(adversarial, 1270, {"lr": 5e-3, "batch": 512, "average": 0.998, "weight": 1.0}),
    "score": Recipe(score_model, 2630, BEST),
    "kernels": Recipe(kernels),
    "mixture": Recipe(mixture),
    "masked map": Recipe(bent, 710, BEST | {"masked": True}),
    "free map": Recipe(bent, 710, BEST | {"masked": False}),
}
