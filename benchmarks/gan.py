"""What the lessons on adversarial networks claim, over seeds.

    python benchmarks/gan.py grid      # 25 narrow modes, with R1 and without: about 7 minutes
    python benchmarks/gan.py losses    # every loss on the ring, with and without momentum: about 3 minutes
    python benchmarks/gan.py digits    # handwritten digits, with R1 and without: about 3 minutes

Each prints a Markdown table, on one core. Put `taskset -c 1` in front to hold it on that core. Seconds are of training
alone, as the clock on the wall has them.

The settings of the grid were searched on seeds 0 to 3, those of the losses on seeds 10 to 12, those of the digits on
seeds 0 and 1 against the training images. The test images are not used.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from genlib import data, gan, metrics
from genlib.scorecard.images import Ink, Scaled
from genlib.training import minibatches

STEPS = 16_000
RECIPES: dict[str, tuple[str, str, dict[str, float]]] = {
    "minimax": ("minimax", "r1", {}),
    "non-saturating": ("non-saturating", "r1", {}),
    "least squares": ("least-squares", "r1", {}),
    "Wasserstein, cut": ("wasserstein", "r1", {"clip": 0.05}),
    "Wasserstein, slope 1": ("wasserstein", "wgan-gp", {"weight": 1.0}),
    "DRAGAN": ("non-saturating", "dragan", {"weight": 1.0}),
    "R1": ("non-saturating", "r1", {"weight": 3.0}),
}


def network(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    """Hidden layers of 64 with ReLU, as in the lesson."""
    layers: list[nn.Module] = [nn.Linear(inputs, 64), nn.ReLU()]
    for _ in range(hidden - 1):
        layers += [nn.Linear(64, 64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, outputs))


def draws(source: data.Source) -> Iterator[Tensor]:
    """Batches of 128 for ever."""
    while True:
        yield source.sample((128,))


def report(model: gan.GAN, source: data.GaussianMixture) -> tuple[int, float, float]:
    """Modes covered, share of good samples, and KL of the modes in nats, of 20,000 samples."""
    counts, covered, quality = metrics.modes(model.sample((20_000,)), source.means, source.scale[0])
    if not covered:
        return covered, quality, float("inf")
    h = counts / counts.sum()
    return covered, quality, torch.xlogy(h, h * len(h)).sum().item()


def grid(seeds: Sequence[int]) -> None:
    """Print a row for each seed, with R1 and without."""
    source = data.grid()
    print("| penalty | seed | s | modes of 25 | good samples | KL of modes, nats |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, weight in (("R1, 10 → 0.001", (10.0, 0.001)), ("none", 0.0)):
        for seed in seeds:
            torch.manual_seed(seed)
            model = gan.GAN(network(2, 2, 3), network(2, 1, 3), 2)
            start = time.perf_counter()
            rates = {"lr": 5e-3, "critic_lr": 2.5e-3, "floor": 0.1, "average": 0.999, "progress": False}
            gan.fit(model, draws(source), STEPS, weight=weight, **rates)
            seconds = time.perf_counter() - start
            covered, quality, kl = report(model, source)
            print(f"| {name} | {seed} | {seconds:.1f} | {covered} | {quality:.2%} | {kl:.4f} |", flush=True)


def losses(seeds: Sequence[int]) -> None:
    """Print a row for each recipe, with momentum and without."""
    source = data.ring()
    print("| momentum | recipe | s a run | complete | modes | good samples | KL of modes, nats |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for betas in ((0.9, 0.999), (0.0, 0.999)):
        for name, (loss, penalty, rules) in RECIPES.items():
            runs, start = [], time.perf_counter()
            for seed in seeds:
                torch.manual_seed(seed)
                model = gan.GAN(network(2, 2, 2), network(2, 1, 2), 2, loss, penalty)
                settings = {"lr": 3e-3, "critic_steps": 3, "betas": betas, "progress": False}
                gan.fit(model, draws(source), 240, **settings, **rules)
                runs.append(report(model, source))
            seconds = (time.perf_counter() - start) / len(runs)
            covered, good, kl = zip(*runs, strict=True)
            complete = sum(run[0] == 8 and run[2] < 0.3 for run in runs)
            spread = f"{min(good):.0%} to {max(good):.0%} | {min(kl):.2f} to {max(kl):.2f}"
            modes = " ".join(map(str, covered))
            print(
                f"| {betas[0]} | {name} | {seconds:.1f} | {complete} of {len(runs)} | {modes} | {spread} |",
                flush=True,
            )


def digits(seeds: Sequence[int]) -> None:
    """Print a row for each seed, with R1 and without."""
    images = data.digits().train.images.flatten(1).float()
    print("| penalty | seed | s | told apart from data | precision | recall | nearest image, grey levels |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, weight in (("R1", 64.0), ("none", 0.0)):
        for seed in seeds:
            torch.manual_seed(seed)
            hidden = [nn.Linear(16, 128), nn.BatchNorm1d(128), nn.ReLU()]
            hidden += [nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU()]
            critic = nn.Sequential(Scaled(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
            model = gan.GAN(
                nn.Sequential(*hidden, nn.Linear(128, 64), Ink()), critic.append(nn.Linear(128, 1)), 16
            )
            start = time.perf_counter()
            settings = {"lr": 6e-3, "average": 0.998, "progress": False}
            batches = map(data.blurred, minibatches(images, 128))
            gan.fit(model, batches, 4000, weight=weight, **settings)
            seconds = time.perf_counter() - start
            x = model.eval().sample((1000,)).round()
            tests = [metrics.classifier_two_sample(x, images, seed=split).accuracy for split in range(3)]
            precision, recall = metrics.precision_recall(x, images)
            far = torch.cdist(x, images).min(1).values.median()
            row = f"{statistics.mean(tests):.3f} | {precision:.3f} | {recall:.3f} | {far:.1f}"
            print(f"| {name} | {seed} | {seconds:.1f} | {row} |", flush=True)


def main() -> None:
    """Print the table that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=["grid", "losses", "digits"])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)), help="0 to 4 unless told")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    {"grid": grid, "losses": losses, "digits": digits}[chosen.table](chosen.seeds)


if __name__ == "__main__":
    main()
