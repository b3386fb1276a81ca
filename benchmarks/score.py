"""What the lessons on scores claim, over seeds.

    python benchmarks/score.py ring     # error of a score learnt at one noise level: under a minute
    python benchmarks/score.py shares   # annealed and plain Langevin dynamics on unequal modes: about 2 minutes
    python benchmarks/score.py digits   # handwritten digits, with convolutions and without: about 6 minutes
    python benchmarks/score.py speed    # seconds for 1000 samples, beside other families: a few seconds

Each prints a Markdown table, on one core. Put `taskset -c 1` in front to hold it on that core. Seconds are of training
alone, as the clock on the wall has them.

The settings were searched on seeds 0 to 4, those of `digits` among some forty networks by the same judge that the table
reports. So the seeds here are others. The test images are not used.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from genlib import data, flows, gan, metrics, samplers, score
from genlib.nets import ImageNet, ScoreNet, perceptron
from genlib.scorecard.images import decaying
from genlib.training import fit, fresh_batches, minibatches

SHARES = [0.3, 0.05, 0.2, 0.05, 0.15, 0.05, 0.15, 0.05]
RING_LEVELS = score.geometric_levels(4.0, 0.03, 40)
DIGIT_LEVELS = score.geometric_levels(3.0, 0.05, 30)
STEP = 0.2


def clocked(loss: Callable[[Tensor], Tensor], model: nn.Module, *given: object, **settings: object) -> float:
    """Train, and return the seconds."""
    start = time.perf_counter()
    fit(loss, model, *given, progress=False, **settings)
    return time.perf_counter() - start


def ring(seeds: Sequence[int]) -> None:
    """Print the relative squared error of the learnt score for each seed, where data lie and over a square."""
    sigma = 0.1
    truth = data.ring().noised(sigma)
    print("| seed | s | relative error, noised data | over [−3, 3]² |")
    print("| --- | --- | --- | --- |")
    for seed in seeds:
        torch.manual_seed(seed)
        net = perceptron(2, 2, (64, 64, 64), nn.GELU)

        def s(x: Tensor, net: nn.Module = net) -> Tensor:
            return net(x) / sigma

        def loss(x: Tensor, s: score.Score = s) -> Tensor:
            return sigma**2 * score.denoising_loss(s, x, sigma)

        seconds = clocked(loss, net, fresh_batches(data.ring(), 1024), 2500, lr=1e-2, average=0.998)
        errors = []
        for x in (truth.sample((50_000,)), 6 * torch.rand(50_000, 2) - 3):
            exact = truth.score(x)
            errors.append(((s(x) - exact).square().sum() / exact.square().sum()).item())
        print(f"| {seed} | {seconds:.1f} | {errors[0]:.4f} | {errors[1]:.3f} |", flush=True)


def ring_model(source: data.GaussianMixture) -> tuple[score.ScoreModel, float]:
    """The lesson's model of the ring at all levels, trained, and the seconds."""
    spread = source.sample((50_000,)).square().mean().sqrt().item()
    model = score.ScoreModel(ScoreNet(2, 64), (2,), RING_LEVELS, spread)
    return model, clocked(model.loss, model, fresh_batches(source, 512), 4000, lr=1e-2, average=0.998)


def shares(seeds: Sequence[int]) -> None:
    """Print how far the modes' shares and the samples are from the truth, for each seed and sampler."""
    source = data.ring(weights=SHARES)
    print(
        "| sampler | seed | s | largest error of a share (10,000 samples) | MMD / floor (2000) | good samples |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for seed in seeds:
        torch.manual_seed(seed)
        model, seconds = ring_model(source)
        start = RING_LEVELS[0] * torch.randn(10_000, 2)
        for name, x in (
            ("annealed, learnt", model.sample((10_000,), 20, STEP)),
            ("plain, exact score", samplers.langevin(source.score, start, 800, 0.003)),
        ):
            found = torch.cdist(x, source.means).argmin(1).bincount(minlength=8) / len(x)
            off = (found - source.weights).abs().max()
            gap = metrics.compare(metrics.mmd, x[:2000], source)
            good = metrics.modes(x, source.means, 0.1).high_quality
            row = f"{off:.4f} | {gap.value:.4f} / {gap.floor:.4f} = {gap.value / gap.floor:.2f} | {good:.2%}"
            print(f"| {name} | {seed} | {seconds:.1f} | {row} |", flush=True)


def dense() -> ScoreNet:
    """Three dense layers of 256."""
    return ScoreNet(64, 256)


def digits(seeds: Sequence[int]) -> None:
    """Print the judges of the lesson for each seed, with convolutions and without."""
    split = data.digits()
    images, valid = (part.images.flatten(1).float() for part in (split.train, split.valid))
    mean, spread = images.mean(0), (images / 8).std(0).square().mean().sqrt().item()
    near = torch.cdist(images, images).fill_diagonal_(torch.inf).min(1).values
    print(
        "| network | seed | s | told apart | precision | recall | nearer than 1 % of images | least, median distance |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(f"| images | | | | | | 1.0% | {near.min():.1f}, {near.median():.1f} |")
    for name, net, steps, lr, K in (
        ("convolutions", ImageNet, 1500, 6e-3, 4),
        ("dense", dense, 6000, 4e-3, 10),
    ):
        for seed in seeds:
            torch.manual_seed(seed)
            model = score.ScoreModel(net(), (64,), DIGIT_LEVELS, spread)
            batches = minibatches((images - mean) / 8, 128)
            settings = {"lr": lr, "average": 0.998, "optimizer": decaying}
            seconds = clocked(model.loss, model, batches, steps, **settings)
            model.eval()
            x = (8 * model.sample((1000,), K, STEP) + mean).round().clamp(0, 16)
            tests = [metrics.classifier_two_sample(x, images, seed=s).accuracy for s in range(5)]
            precision, recall = metrics.precision_recall(x[:350], valid)
            far = torch.cdist(x, images).min(1).values
            copies = (far < near.quantile(0.01)).float().mean()
            row = f"{statistics.mean(tests):.3f} | {precision:.2f} | {recall:.2f} | {copies:.1%}"
            distances = f"{far.min():.1f}, {far.median():.1f}"
            print(f"| {name} | {seed} | {seconds:.1f} | {row} | {distances} |", flush=True)


def speed(seeds: Sequence[int]) -> None:
    """Print milliseconds for 1000 samples of models of the lessons' sizes, untrained: the least of five runs."""
    torch.manual_seed(seeds[0])
    plane = perceptron(2, 2)
    hidden = [nn.Linear(16, 128), nn.BatchNorm1d(128), nn.ReLU()]
    hidden += [nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU()]
    splines = [flows.MaskedAutoregressive(2, flows.Spline(16, bound=3.5), hidden=(60, 60)) for _ in range(3)]
    digit_model = score.ScoreModel(ImageNet(), (64,), DIGIT_LEVELS).eval()
    models = {
        "plane: adversarial network": gan.GAN(plane, plane, 2).sample,
        "plane: flow of three splines": flows.Flow(splines, (2,)).sample,
        "plane: annealed Langevin, 801 passes": score.ScoreModel(ScoreNet(2, 64), (2,), RING_LEVELS).sample,
        "digits: adversarial network": gan.GAN(nn.Sequential(*hidden, nn.Linear(128, 64)), plane, 16)
        .eval()
        .sample,
        "digits: annealed Langevin, 121 passes": lambda shape: digit_model.sample(shape, 4, STEP),
    }
    print("| model | ms for 1000 samples |")
    print("| --- | --- |")
    for name, sample in models.items():
        times = []
        for _ in range(5):
            start = time.perf_counter()
            sample((1000,))
            times.append(time.perf_counter() - start)
        print(f"| {name} | {1000 * min(times):.1f} |", flush=True)


def main() -> None:
    """Print the table that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tables = {"ring": ring, "shares": shares, "digits": digits, "speed": speed}
    parser.add_argument("table", choices=list(tables))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5, 10)), help="5 to 9 unless told")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    tables[chosen.table](chosen.seeds)


if __name__ == "__main__":
    main()
