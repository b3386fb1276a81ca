"""What the two lessons on variational autoencoders claim, over seeds.

    python benchmarks/vae.py linear    # a linear VAE against probabilistic PCA: under a minute
    python benchmarks/vae.py digits    # four models of the digits, 1,000 steps each: about 4 minutes

Each prints a Markdown table, on one core. Put `taskset -c 1` in front to hold it on that core. Seconds are of training
alone, as the clock on the wall has them.

The settings of the digits were chosen on the validation images. The test images are scored once, at the end of each
run. The models differ in two things: the prior, standard normal or a mixture of 20, and the warm-up of beta over the
first 30 % of the steps.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genlib import data, vae
from genlib.nets import Scaled, Tilt, perceptron
from genlib.training import fit, minibatches

LATENT, HIDDEN, STEPS, WARM = 16, 512, 1000, 300


class Run(NamedTuple):
    """One training run: its seconds, and nats per image, minus the ELBO and minus the bound with 500 draws."""

    seconds: float
    valid_elbo: float
    valid_bound: float
    test_elbo: float
    test_bound: float


def train(prior: nn.Module, warm: int) -> tuple[vae.VAE, float]:
    """A model of the digits, and the seconds that its training took."""
    images = data.digits().train.images
    guess = perceptron(64, 2 * LATENT, (HIDDEN,), nn.SiLU)
    tilts = perceptron(LATENT, 128, (HIDDEN,), nn.SiLU, dropout=0.1)
    for net in (guess, tilts):
        nn.init.zeros_(net[-1].bias)
    encoder = vae.NormalNet(nn.Sequential(Scaled(), guess))
    decoder = vae.CategoricalNet(nn.Sequential(tilts, Tilt(images)))
    model, step = vae.VAE(encoder, decoder, prior), itertools.count(1)

    def loss(x: Tensor) -> Tensor:
        return model.loss(data.shifted(x), min(1.0, next(step) / warm) if warm else 1.0)

    start = time.perf_counter()
    fit(loss, model, minibatches(images, 100), STEPS, lr=1.5e-2, progress=False)
    return model.eval(), time.perf_counter() - start


@torch.no_grad()
def score(model: vae.VAE, x: Tensor) -> tuple[float, float]:
    """Nats per image: minus the ELBO, mean of 50 draws, and minus the bound with 500 draws."""
    elbo = torch.stack([model.elbo(x).mean() for _ in range(50)]).mean()
    return -elbo.item(), -model.bound(x, 500).mean().item()


def digits(seeds: Sequence[int]) -> None:
    """Print a row for each model: mean over the seeds, and the worst seed's bound on the test images."""
    parts = data.digits()
    priors = {
        "standard normal": lambda: vae.StandardPrior(LATENT),
        "mixture of 20": lambda: vae.MixturePrior(LATENT, 20),
    }
    print("| prior | warm-up | s | valid −ELBO | valid −bound | test −ELBO | test −bound | worst seed |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for (name, prior), warm in itertools.product(priors.items(), (0, WARM)):
        runs = []
        for seed in seeds:
            torch.manual_seed(seed)
            model, seconds = train(prior(), warm)
            runs.append(Run(seconds, *score(model, parts.valid.images), *score(model, parts.test.images)))
        means = [statistics.mean(column) for column in zip(*runs, strict=True)]
        numbers = " | ".join(f"{mean:.2f}" for mean in means[1:])
        worst = max(run.test_bound for run in runs)
        print(
            f"| {name} | {'yes' if warm else 'no'} | {means[0]:.1f} | {numbers} | {worst:.2f} |", flush=True
        )


def linear(seeds: Sequence[int]) -> None:
    """Print what a linear VAE misses of the largest evidence, per feature, for each seed."""
    print("| seed | s | nats per feature below the largest evidence | bound below its evidence, nats |")
    print("| --- | --- | --- | --- |")
    for seed in seeds:
        torch.manual_seed(seed)
        axes = torch.linalg.qr(torch.randn(10, 3)).Q
        weight = axes * torch.tensor([3.0, 2.0, 1.2]) @ (torch.eye(3) - 2 / 3)
        x = vae.LinearGaussian(weight, torch.randn(10), 0.6).sample((2000,))
        decoder = vae.NormalMeanNet(nn.Linear(3, 10), learn=True)
        model = vae.VAE(vae.NormalNet(nn.Linear(10, 6)), decoder, vae.StandardPrior(3))
        start = time.perf_counter()
        settings = {"lr": 2e-2, "average": 0.99, "clip": 5.0, "progress": False}
        fit(model.loss, model, minibatches(x, 200), 3000, **settings)
        seconds = time.perf_counter() - start
        with torch.no_grad():
            parameters = decoder.net.weight.double(), decoder.net.bias, decoder.log_sigma.exp()
            evidence = vae.LinearGaussian(*parameters).log_prob(x.double()).mean()
            largest = vae.LinearGaussian.fit(x.double(), 3).log_prob(x.double()).mean()
            bound = torch.stack([model.elbo(x).mean() for _ in range(50)]).mean()
        print(f"| {seed} | {seconds:.1f} | {(largest - evidence) / 10:.5f} | {evidence - bound:.4f} |")


def main() -> None:
    """Print the table that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=["linear", "digits"])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)), help="0 to 4 unless told")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    {"linear": linear, "digits": digits}[chosen.table](chosen.seeds)


if __name__ == "__main__":
    main()
