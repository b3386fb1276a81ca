"""What the lesson on Boltzmann machines claims of digits of black and white, over seeds.

    python benchmarks/boltzmann.py bits        # six models of bits: 2 minutes a seed
    python benchmarks/boltzmann.py constant    # log Z by walks, beside the exact one: 1 minute a seed
    python benchmarks/boltzmann.py rules       # five rules to learn by: 1 minute a seed
    python benchmarks/boltzmann.py stacks      # two layers of hidden units: 2 minutes a seed

Each prints Markdown tables, on one core. Seconds count what the process used, and are of training alone unless told.
Nats are of an image; `train` are the first 447 training images as they came, errors are standard errors over the 447
test images. Pixels are 1 from half the ink on (`threshold`), or with the ink as their probability, drawn once and for
all (`draw`).

Settings were chosen on seeds 0 to 2, mostly on seed 0 alone, and on validation images. Test images are used for these
tables alone.

In `bits` log Z of 200 units is from 500 walks of 1000 steps, all else is exact, but the autoencoder's nats are a bound
from 500 draws. Images are moved by up to a pixel; a few trials decided how many of them, for each model.

In `constant` walks go up from independent units, so that log Z comes out too low on average, and down from exact draws,
so that it comes out too high; the last column is seconds of the walks up. In the second table nothing is summed, and
walks down start where 500 chains stand after 1000 sweeps more: that they agree is a check, no bound. `log p` is the
mean of 50 test images with log Z from the walks up, and `arrives` that of the logarithm of the probability that a walk
up ends at the image, from 20 walks down from each.

In `rules` all machines have 12 units, 2000 steps with one rate, and no weight decay. Persistent chains do one sweep a
step.

In `stacks` a belief net keeps the machine of 12 units below and has 64 units above, which learn by exact likelihood.
Boltzmann machines of two layers learn by mean field and persistent chains. Likelihoods are exact, but those of
machines of 24 and 76 units, from 500 walks. The bound is minus the mean of `elbo`.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from genlib import data, energy, nets, pixels, vae
from genlib.mixture import BernoulliMixture
from genlib.training import fit, minibatches

sys.path.insert(0, str(Path(__file__).parent))
from sde import DECAYING
from tables import asked, head, row, shown, timed

T = TypeVar("T")
Loss = Callable[[Tensor], Tensor]
SIDE, DIMS, BATCH, SHARE = 8, 64, 100, 0.15
DECAY = {"threshold": 1e-3, "draw": 3e-3}  # how much |W|²/2 costs


def bits(kind: str) -> list[Tensor]:
    """Training, validation and test images of 0 and 1, (n, 8, 8) each."""
    generator = torch.Generator().manual_seed(0)

    def cut(grey: Tensor) -> Tensor:
        return grey >= 8 if kind == "threshold" else torch.rand(grey.shape, generator=generator) < grey / 16

    return [cut(part.images).float() for part in data.digits()]


def taught(
    model: nn.Module, loss: Loss, x: Tensor, steps: int, share: float, size: int = BATCH, **settings: object
) -> None:
    """Train on images of which a share is moved by a pixel."""

    def moved(images: Tensor) -> Tensor:
        return loss(data.shifted(images, share))

    fit(moved, model, minibatches(x, size), steps, progress=False, **settings)
    model.eval().requires_grad_(False)


# Machines: units, rules, log Z.


def started(x: Tensor, hidden: int) -> energy.RBM:
    """A machine whose seen units have the biases of independent ones, and normal weights of deviation 0.1."""
    model = energy.RBM(DIMS, hidden)
    nn.init.normal_(model.weight, std=0.1)
    with torch.no_grad():
        model.bias.copy_(logits(x))
    return model


def logits(x: Tensor) -> Tensor:
    """Of the frequency of each pixel, (64,)."""
    return x.flatten(1).mean(0).clamp(0.01, 0.99).logit()


def walks(x: Tensor) -> energy.Chains:
    """Persistent chains that start at independent pixels."""
    return energy.Chains(torch.bernoulli(logits(x).sigmoid().expand(BATCH, -1)))


def machine(x: Tensor, hidden: int, decay: float, steps: int = 3000) -> energy.RBM:
    """A restricted machine learnt with persistent chains of five sweeps a step."""
    model, chains = started(x, hidden), walks(x)
    move = partial(model.move, sweeps=5)

    def loss(images: Tensor) -> Tensor:
        contrast = energy.contrast(model.energy, images.flatten(1), chains.draw(BATCH, move))
        return contrast + 0.5 * decay * model.weight.square().sum()

    taught(model, loss, x, steps, SHARE, lr=3e-2, average=0.999)
    return model


class Way:
    """From independent units to a machine, in 1000 steps, and back.

    Args:
        machine: at the end.
        x: images whose pixels the independent units have the frequencies of.
    """

    def __init__(self, machine: energy.RBM, x: Tensor) -> None:
        self.machine, self.hidden = machine, len(machine.hidden_bias)
        self.first = energy.independent(x.flatten(1), self.hidden)
        self.path, self.betas = energy.between(self.first, machine), torch.linspace(0, 1, 1001)
        self.log_first = (self.hidden * math.log(2) + softplus(self.first.bias).sum()).item()

    def up(self, count: int) -> float:
        """Log Z from walks that start at independent units; below it on average."""
        start = self.first.visible(torch.zeros(count, self.hidden)).sample()
        return self.log_first + energy.log_mean(energy.ais(self.path, self.betas, start)).item()

    def down(self, v: Tensor) -> float:
        """Log Z from walks that start at draws of the machine; above it on average where these are exact."""
        return self.log_first - energy.log_mean(energy.ais(self.path, self.betas.flip(0), v)).item()

    def arrives(self, v: Tensor, count: int) -> Tensor:
        """Log of the probability that a walk up ends at v, by so many walks down from each, (B, 64) → (B,)."""
        log_w = energy.ais(self.path, self.betas.flip(0), v.repeat_interleave(count, 0))
        return energy.log_mean(log_w.view(-1, count), 1) - self.machine.energy(v) - self.log_first


def exact(model: energy.RBM) -> Callable[[Tensor], Tensor]:
    """−log p of images, (n, 8, 8) → (n,), with the exact log Z."""
    log_z = model.log_partition()
    return lambda images: log_z + model.energy(images.flatten(1))


def annealed(model: energy.RBM, x: Tensor) -> Callable[[Tensor], Tensor]:
    """−log p of images with log Z from 500 walks."""
    log_z = Way(model, x).up(500)
    return lambda images: log_z + model.energy(images.flatten(1))


# Other models of bits: x → how to get −log p of images.


def mixture(x: Tensor, components: int, pull: float, steps: int, share: float) -> BernoulliMixture:
    """A mixture; a share of the images counts as moved, each of the nine ways equally much."""
    every, counts = data.shifts(x, share)
    return BernoulliMixture.fit(every.flatten(1), components, steps, pull, counts=counts)


def dense(x: Tensor, hidden: int, dropout: float, share: float, steps: int) -> nn.Module:
    """A masked dense network."""
    model = pixels.InOrder(nets.MADE(DIMS, 2, (hidden,), dropout), pixels.Softmax(2), (SIDE, SIDE))
    settings = {"lr": 5e-3, "average": 0.99, "optimizer": DECAYING}
    taught(model, model.loss, x.long(), steps, share, 128, **settings)
    return model


def convolutions(x: Tensor, width: int, dropout: float, share: float, steps: int) -> nn.Module:
    """Masked convolutions."""
    model = pixels.PixelCNN(pixels.Softmax(2), (SIDE, SIDE), width, dropout=dropout)
    settings = {"lr": 1e-2, "average": 0.99, "optimizer": DECAYING}
    taught(model, model.loss, x.long(), steps, share, 128, **settings)
    return model


def coder(x: Tensor, latent: int, dropout: float, share: float, steps: int, average: float) -> nn.Module:
    """A variational autoencoder whose decoder starts at independent pixels."""
    encoder = nn.Sequential(nn.Flatten(), nets.perceptron(DIMS, 2 * latent, (256,), nn.SiLU))
    decoder = nets.perceptron(latent, DIMS, (256,), nn.SiLU, dropout=dropout)
    with torch.no_grad():
        decoder[-1].bias.copy_(logits(x))
    decoder = nn.Sequential(decoder, nn.Unflatten(1, (SIDE, SIDE)))
    model = vae.VAE(vae.NormalNet(encoder), vae.BernoulliNet(decoder), vae.StandardPrior(latent))
    taught(model, model.loss, x, steps, share, 128, lr=3e-3, average=average)
    return model


CHOSEN: dict[str, dict[str, dict[str, object]]] = {
    "threshold": {
        "mixture": {"components": 200, "pull": 1.0, "steps": 3, "share": 0.1},
        "MADE": {"hidden": 256, "dropout": 0.5, "share": 0.15, "steps": 1500},
        "PixelCNN": {"width": 32, "dropout": 0.25, "share": 0.3, "steps": 800},
        "VAE": {"latent": 16, "dropout": 0.1, "share": 0.1, "steps": 2500, "average": 0.99},
    },
    "draw": {
        "mixture": {"components": 30, "pull": 6.0, "steps": 20, "share": 0.0},
        "MADE": {"hidden": 256, "dropout": 0.5, "share": 0.15, "steps": 1500},
        "PixelCNN": {"width": 32, "dropout": 0.25, "share": 0.3, "steps": 800},
        "VAE": {"latent": 16, "dropout": 0.1, "share": 0.1, "steps": 2500, "average": 0.99},
    },
}


def learnt(kind: str, name: str, x: Tensor) -> tuple[Loss, float]:
    """−log p of images under a model of `bits` that learnt from x, and seconds of training."""
    make, judge = {
        "RBM, 200 units": (partial(machine, hidden=200, decay=DECAY[kind]), partial(annealed, x=x)),
        "RBM, 20 units": (partial(machine, hidden=20, decay=DECAY[kind]), exact),
        "mixture": (mixture, lambda model: lambda images: model.loss(images.flatten(1))),
        "MADE": (dense, lambda model: lambda images: model.loss(images.long())),
        "PixelCNN": (convolutions, lambda model: lambda images: model.loss(images.long())),
        "VAE": (coder, lambda model: lambda images: -model.bound(images, 500)),
    }[name]
    model, seconds = timed(partial(make, x, **CHOSEN[kind].get(name, {})))
    return judge(model), seconds


MODELS = ("RBM, 200 units", "RBM, 20 units", "mixture", "MADE", "PixelCNN", "VAE")


@torch.no_grad()
def judged(nats: Loss, parts: Sequence[Tensor]) -> tuple[str, ...]:
    """Nats of training, validation and test images."""
    train, valid, test = parts
    return f"{nats(train[:447]).mean():.2f}", f"{nats(valid).mean():.2f}", shown(nats(test))


def all_bits(seeds: Sequence[int]) -> None:
    """Print the nats of six models of bits."""
    print(head("bits", "seed", "model", "s", "train", "valid", "test"), flush=True)
    for kind in DECAY:
        parts = bits(kind)
        for seed in seeds:
            for name in MODELS:
                torch.manual_seed(seed)
                nats, seconds = learnt(kind, name, parts[0])
                print(row(kind, seed, name, f"{seconds:.1f}", *judged(nats, parts)), flush=True)


def constant(seeds: Sequence[int]) -> None:
    """Print what walks say of log Z, of a machine that is summed and of one that is not."""
    print(head("bits", "seed", "log Z", "s", "walks", "up − log Z", "down − log Z", "down − up", "s"))
    large = []
    for kind in DECAY:
        parts = bits(kind)
        for seed in seeds:
            torch.manual_seed(seed)
            model = machine(parts[0], 20, DECAY[kind])
            log_z, seconds = timed(copy.deepcopy(model).double().log_partition)
            way = Way(model, parts[0])
            for count in (100, 500):
                up, cost = timed(partial(way.up, count))
                down = way.down(model.sample((count,)))
                gaps = (f"{gap:+.3f}" for gap in (up - log_z, down - log_z, down - up))
                print(
                    row(kind, seed, f"{log_z:.3f}", f"{seconds:.1f}", count, *gaps, f"{cost:.1f}"), flush=True
                )
            large.append((kind, seed, *of_large(kind, seed, parts)))
    print()
    print(head("bits", "seed", "up", "down − up", "up again − up", "log p", "arrives", "log p − arrives"))
    for cells in large:
        print(row(*cells))


def of_large(kind: str, seed: int, parts: Sequence[Tensor]) -> tuple[str, ...]:
    """The cells of a machine of 200 units."""
    torch.manual_seed(seed)
    model = machine(parts[0], 200, DECAY[kind])
    way, v = Way(model, parts[0]), parts[2][:50].flatten(1)
    up = way.up(500)
    long = model.move(walks(parts[0]).points.repeat(5, 1), 1000)
    gaps = (way.down(long) - up, way.up(500) - up)
    log_p = -model.energy(v) - up
    arrives = way.arrives(v, 20)
    told = (f"{log_p.mean():.2f}", f"{arrives.mean():.2f}", shown(log_p - arrives))
    return (f"{up:.3f}", *(f"{gap:+.3f}" for gap in gaps), *told)


def rules(seeds: Sequence[int]) -> None:
    """Print the exact nats of machines of 12 units that learnt by five rules, with the same steps and rate."""
    print(head("bits", "seed", "rule", "s", "train", "valid", "test"), flush=True)
    for kind in DECAY:
        parts = bits(kind)
        for seed in seeds:
            for rule in RULES:
                torch.manual_seed(seed)
                model, seconds = timed(partial(ruled, rule, parts[0]))
                print(row(kind, seed, rule, f"{seconds:.1f}", *judged(exact(model), parts)), flush=True)


Rule = Callable[[energy.RBM, energy.Chains, Tensor], Tensor]
RULES: dict[str, Rule] = {
    "exact": lambda model, chains, v: -model.log_prob(v),
    "persistent": lambda model, chains, v: energy.contrast(model.energy, v, chains.draw(BATCH, model.move)),
    "CD-10": lambda model, chains, v: model.loss(v, 10),
    "CD-1": lambda model, chains, v: model.loss(v, 1),
    "pseudo-likelihood": lambda model, chains, v: -model.pseudo_log_prob(v),
}


def ruled(rule: str, x: Tensor) -> energy.RBM:
    """A machine of 12 units that learnt by a rule."""
    model, chains = started(x, 12), walks(x)

    def loss(images: Tensor) -> Tensor:
        return RULES[rule](model, chains, images.flatten(1))

    taught(model, loss, x, 2000, SHARE, lr=1e-2, average=0.99)
    return model


def raised(bottom: energy.RBM, x: Tensor, steps: int = 2000) -> energy.DeepBelief:
    """A belief net whose top learnt by exact likelihood from hidden units that the bottom draws given images."""
    belief = energy.DeepBelief(bottom, bottom.transposed())

    def loss(images: Tensor) -> Tensor:
        return -belief.top.log_prob(belief.bottom.hidden(images.flatten(1)).sample())

    taught(belief.top, loss, x, steps, SHARE, lr=1e-2, average=0.99)
    return belief


def deep(x: Tensor, second: int, steps: int = 3000, lr: float = 1e-2) -> energy.DeepBoltzmann:
    """A machine of 12 and `second` hidden units, by mean field and persistent chains of five sweeps a step."""
    model = energy.DeepBoltzmann(DIMS, 12, second)
    for weight in (model.weight, model.upper):
        nn.init.normal_(weight, std=0.1)
    with torch.no_grad():
        model.bias.copy_(logits(x))
    chains, move = energy.Chains(torch.randint(0, 2, (BATCH, 12))), partial(model.move, sweeps=5)

    def loss(images: Tensor) -> Tensor:
        return model.contrast(images.flatten(1), chains.draw(BATCH, move), 10)

    taught(model, loss, x, steps, SHARE, lr=lr, average=0.999)
    return model


def listed(model: energy.DeepBelief | energy.DeepBoltzmann) -> Loss:
    """−log p of images, exact."""
    return lambda images: -model.log_prob(images.flatten(1))


def built(kind: str, x: Tensor, test: Tensor) -> Iterator[tuple[str, float, Loss, Tensor | None]]:
    """Machines by name: seconds of training, −log p of images, and a bound on log p of test images."""
    for hidden in (24, 76, 12):
        single, seconds = timed(partial(machine, x, hidden, DECAY[kind]))
        yield f"RBM, {hidden}", seconds, exact(single) if hidden == 12 else annealed(single, x), None
    tied = energy.DeepBelief(single, single.transposed())
    yield "belief net at the start", 0.0, listed(tied), tied.elbo(test.repeat(20, 1))
    belief, seconds = timed(partial(raised, single, x))
    yield "belief net, 12 and 64", seconds, listed(belief), belief.elbo(test.repeat(20, 1))
    for second in (12, 64):
        double, seconds = timed(partial(deep, x, second))
        yield f"Boltzmann, 12 and {second}", seconds, listed(double), double.elbo(test)


def stacks(seeds: Sequence[int]) -> None:
    """Print the nats of two layers of hidden units, and of one layer of as many."""
    print(head("bits", "seed", "machine", "s", "train", "valid", "test", "bound, test"), flush=True)
    for kind in DECAY:
        parts = bits(kind)
        for seed in seeds:
            torch.manual_seed(seed)
            for name, seconds, nats, bound in built(kind, parts[0], parts[2].flatten(1)):
                last = "" if bound is None else f"{-bound.mean():.2f}"
                print(row(kind, seed, name, f"{seconds:.1f}", *judged(nats, parts), last), flush=True)


REPORTED = [20, 21, 22, 23, 24]
TABLES: dict[str, Callable[[Sequence[int]], None]] = {
    "bits": all_bits,
    "constant": constant,
    "rules": rules,
    "stacks": stacks,
}


def main() -> None:
    """Print the table that the command line names."""
    chosen = asked(__doc__, dict.fromkeys(TABLES, REPORTED))
    TABLES[chosen.table](chosen.seeds)


if __name__ == "__main__":
    main()
