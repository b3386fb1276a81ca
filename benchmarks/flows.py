"""What the two lessons on flows claim, over seeds, and another library's spline flow at equal wall-clock time.

    python benchmarks/flows.py densities    # four densities, our flow and zuko's, 10 s each: about 20 minutes
    python benchmarks/flows.py densities --seconds 2 --seeds 0 1    # the same, shorter
    python benchmarks/flows.py distil       # teacher and student: about a minute
    python benchmarks/flows.py digits       # the flows on images: about 5 minutes
    python benchmarks/flows.py digits --variants    # and the spline flow with less care: about 12 minutes

Each prints Markdown tables, on one core, and at the end for how much of the time that core was ours. Put
`taskset -c 1` in front to hold it on that core. `densities` needs zuko (https://zuko.readthedocs.io), the others do
not: python -m pip install -e ".[bench]".

How `densities` is made fair. All models see the same batches of 512 fresh points, trained by the same loop, and are
judged on the same 50,000 fresh points. Sixty steps on a copy tell how many steps fit into the time; the run then makes
that many, and the table has the seconds that it really took. Zuko's flow comes in two forms: with its own settings (4
layers, 8 bins, bound 5, data as they are), and with those of the lesson (3 layers, 16 bins, bound 3.5, data scaled by
mean and deviation of 2,048 points). Both have about as many parameters as ours. Each runs with two learning rates, and
the summary takes whichever is better.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from genlib import data, flows, metrics
from genlib.discrete import smoothed
from genlib.nets import MADE, MLP
from genlib.training import fit, fresh_batches, minibatches

sys.path.insert(0, str(Path(__file__).parent))
from tables import head, row, seeded

LEVELS, PIXELS = 17, 64
COMMON = {"average": 0.99, "clip": 5.0, "progress": False}  # as in the lessons

TARGETS = {
    "ring": partial(data.ring, scale=0.2),
    "checkerboard": data.Checkerboard,
    "two moons": data.two_moons,
    "two spirals": data.two_spirals,
}


class Run(NamedTuple):
    """One training run: its size, its steps, the seconds they took, and D_KL(truth‖model)."""

    parameters: int
    steps: int
    seconds: float
    kl: metrics.Estimate


class Zuko(nn.Module):
    """A flow of zuko's with the names that `fit` and `kl_to_truth` use, behind a fixed shift and scale of the data.

    Args:
        flow: without context.
        shift, scale: (D,), subtracted from the data and divided by.
    """

    def __init__(self, flow: nn.Module, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.flow, self.shift, self.scale = flow, shift, scale

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, (B, D) → (B,)."""
        return self.flow().log_prob((x - self.shift) / self.scale) - self.scale.log().sum()

    def loss(self, x: Tensor) -> Tensor:
        """Negative log-likelihood in nats, (B, D) → (B,)."""
        return -self.log_prob(x)


def spline_flow(points: Tensor, bins: int = 16) -> flows.Flow:
    """The lesson's flow of three autoregressive spline layers, initialised from points (n, 2)."""
    layers = []
    for turned in (False, True, False):
        layer = flows.MaskedAutoregressive(2, flows.Spline(bins, bound=3.5), hidden=(60, 60))
        layers.append(flows.Stack([flows.Reverse(), layer, flows.Reverse()]) if turned else layer)
    flow = flows.Flow([*layers, flows.ActNorm(2)], (2,))
    flow.initialise(points)
    return flow


def zuko_flow(points: Tensor) -> Zuko:
    """Zuko's neural spline flow with its own bins and bound, on the data as they are."""
    from zuko.flows import NSF

    return Zuko(NSF(features=2, transforms=4, hidden_features=(64, 64)), torch.zeros(2), torch.ones(2))


def zuko_like_ours(points: Tensor, bins: int = 16) -> Zuko:
    """Zuko's neural spline flow with the lesson's layers, bins, bound and widths, on standardised data."""
    from zuko.flows import MAF
    from zuko.transforms import MonotonicRQSTransform

    # zuko's NSF is this MAF, but has no argument for the bound
    flow = MAF(
        features=2,
        transforms=3,
        hidden_features=(60, 60),
        univariate=partial(MonotonicRQSTransform, bound=3.5),
        shapes=[(bins,), (bins,), (bins - 1,)],
    )
    return Zuko(flow, points.mean(0), points.std(0, correction=0))


# name → (what makes it from 2,048 points, learning rate)
OURS = "ours"
MODELS: dict[str, tuple[Callable[[Tensor], nn.Module], float]] = {
    OURS: (spline_flow, 1e-2),
    "zuko, rate 0.005": (zuko_flow, 5e-3),
    "zuko, rate 0.01": (zuko_flow, 1e-2),
    "zuko, our settings, rate 0.005": (zuko_like_ours, 5e-3),
    "zuko, our settings, rate 0.01": (zuko_like_ours, 1e-2),
}
RIVALS = {
    "zuko": ("zuko, rate 0.005", "zuko, rate 0.01"),
    "zuko with our settings": ("zuko, our settings, rate 0.005", "zuko, our settings, rate 0.01"),
}


def clocked(model: nn.Module, batches: Iterator[Tensor], steps: int, lr: float) -> float:
    """Train the model, and return the seconds it took."""
    start = time.perf_counter()
    fit(model.loss, model, batches, steps, lr=lr, **COMMON)
    return time.perf_counter() - start


def gap(source: data.Source, model: nn.Module, seed: int) -> metrics.Estimate:
    """D_KL(truth‖model) on 50,000 points, 5,000 at a time: the two spirals need a table of 2,304 numbers a point."""
    generator = torch.Generator().manual_seed(seed)
    parts = [metrics.kl_to_truth(source, model, 5_000, generator=generator) for _ in range(10)]
    values, errors = zip(*parts, strict=True)
    return metrics.Estimate(statistics.fmean(values), math.sqrt(sum(e**2 for e in errors)) / len(parts))


def density_run(source: data.Source, name: str, seed: int, seconds: float) -> Run:
    """Train one of `MODELS` for about so many seconds, and measure D_KL(truth‖model).

    A run whose loss becomes infinite or NaN counts as infinitely far.
    """
    make, lr = MODELS[name]
    torch.manual_seed(seed)

    def stream() -> Iterator[Tensor]:
        return fresh_batches(source, 512, generator=seeded(3 * seed + 1))

    model = make(next(fresh_batches(source, 2048, generator=seeded(3 * seed))))
    trial = copy.deepcopy(model)
    clocked(trial, stream(), 10, lr)  # the first steps are slower than the rest
    steps = max(1, round(60 * seconds / clocked(trial, stream(), 60, lr)))
    size = sum(p.numel() for p in model.parameters())
    start = time.perf_counter()
    try:
        took = clocked(model, stream(), steps, lr)
    except RuntimeError as error:  # the loss is not finite, most likely; go on with the others
        print(f"{name}, seed {seed}: {error}", file=sys.stderr)
        return Run(size, steps, time.perf_counter() - start, metrics.Estimate(math.inf, math.nan))
    return Run(size, steps, took, gap(source, model, 3 * seed + 2))


def written(estimate: metrics.Estimate, places: int = 4) -> str:
    """An estimate with its standard error, where it has one."""
    numbers = estimate if math.isfinite(estimate.stderr) else estimate[:1]
    return " ± ".join(f"{number:.{places}f}" for number in numbers)


def over_seeds(values: Sequence[float]) -> metrics.Estimate:
    """Mean over seeds with its standard error, which is NaN where there is none."""
    if len(values) == 1 or not all(map(math.isfinite, values)):
        return metrics.Estimate(sum(values) / len(values), math.nan)
    return metrics.estimate(torch.tensor(values, dtype=torch.float64))


def span(values: Sequence[float], pattern: str) -> str:
    """The least and the largest value, or one where they are written alike."""
    ends = dict.fromkeys(format(value, pattern) for value in (min(values), max(values)))
    return " to ".join(ends)


def densities_table(seeds: Sequence[int], seconds: float) -> Iterator[str]:
    """One table for each density, D_KL(truth‖model) in nats, and a summary."""
    results: dict[str, dict[str, list[Run]]] = {}
    for target, make in TARGETS.items():
        source, runs = make(), {name: [] for name in MODELS}
        for seed, name in itertools.product(seeds, MODELS):  # by turns, so that a slow minute hits all alike
            runs[name].append(density_run(source, name, seed, seconds))
        results[target] = runs
        yield f"**{target}**, D_KL(truth‖model) in nats ± standard error (of the mean: over seeds)\n"
        yield head(
            "model", "parameters", "ms per step", "steps", "seconds", *map("seed {}".format, seeds), "mean"
        )
        for name, done in runs.items():
            yield row(
                name,
                f"{done[0].parameters:,}",
                span([1000 * run.seconds / run.steps for run in done], ".1f"),
                span([run.steps for run in done], ",d"),
                span([run.seconds for run in done], ".1f"),
                *(written(run.kl) for run in done),
                written(over_seeds([run.kl.value for run in done])),
            )
        yield ""
    yield from densities_summary(results)


def densities_summary(results: dict[str, dict[str, list[Run]]]) -> Iterator[str]:
    """Our mean over seeds beside the better of zuko's two learning rates."""
    yield "**Summary**: mean over seeds in nats; of each pair of learning rates the one with the lower mean\n"
    yield head("target", OURS, *(cell for rival in RIVALS for cell in (rival, "less ours, seed by seed")))
    good = dict.fromkeys(RIVALS, 0)
    for target, runs in results.items():
        values = {name: [run.kl.value for run in done] for name, done in runs.items()}
        ours = values[OURS]
        cells = [written(over_seeds(ours))]
        for rival, names in RIVALS.items():
            theirs = min((values[name] for name in names), key=statistics.fmean)
            differences = [a - b for a, b in zip(theirs, ours, strict=True)]
            good[rival] += statistics.fmean(ours) <= statistics.fmean(theirs)
            cells += [written(over_seeds(theirs)), written(over_seeds(differences))]
        yield row(target, *cells)
    yield ""
    for rival, count in good.items():
        yield f"Ours is no worse than {rival} on {count} of {len(results)} targets."


WIDTH = 16  # numbers in a row of the noisy wave


def wave(n: int) -> Tensor:
    """Rows (n, WIDTH) in which each number depends on the one before."""
    x = [torch.randn(n)]
    for _ in range(1, WIDTH):
        x.append(torch.sin(1.2 * x[-1]) + 0.5 * torch.randn(n))
    return torch.stack(x, 1)


def log_wave(x: Tensor) -> Tensor:
    """Log-density of `wave` in nats, (B, WIDTH) → (B,)."""
    normal = torch.distributions.Normal
    rest = normal(torch.sin(1.2 * x[:, :-1]), 0.5).log_prob(x[:, 1:])
    return normal(0.0, 1.0).log_prob(x[:, 0]) + rest.sum(1)


def autoregressive() -> flows.MaskedAutoregressive:
    """The layer of which teacher and student are made."""
    return flows.MaskedAutoregressive(WIDTH, flows.Affine(), (128, 128))


def reverse_kl(student: flows.Flow, teacher: flows.Flow, z: Tensor) -> Tensor:
    """log q_S(x) − log q_T(x) at x = g_S(z), (B, WIDTH) → (B,)."""
    x, ladj = student(z)
    return student.base.log_prob(z) - ladj - teacher.log_prob(x)


def sampling_times(models: Sequence[flows.Flow], repeats: int = 51) -> list[list[float]]:
    """Seconds that each model takes for 1,000 rows, again and again, by turns."""
    times: list[list[float]] = [[] for _ in models]
    for _ in range(repeats + 3):
        for model, measured in zip(models, times, strict=True):
            start = time.perf_counter()
            model.sample((1000,))
            measured.append(time.perf_counter() - start)
    return [measured[3:] for measured in times]  # the first ones warm up


def distil_run(seed: int) -> tuple[metrics.Estimate, metrics.Estimate, float, list[list[float]]]:
    """Train teacher and student as in the lesson: both divergences, the seconds of training, the times of sampling."""
    torch.manual_seed(seed)
    start = time.perf_counter()
    teacher = flows.Flow([autoregressive()], (WIDTH,))
    fit(teacher.loss, teacher, (wave(256) for _ in itertools.count()), 1_200, lr=5e-3, **COMMON)
    student = flows.Flow([flows.Inverse(autoregressive()) for _ in range(2)], (WIDTH,))
    noise = (torch.randn(256, WIDTH) for _ in itertools.count())
    fit(lambda z: reverse_kl(student, teacher, z), student, noise, 1_500, lr=5e-3, **COMMON)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        x = wave(50_000)
        taught = metrics.estimate(log_wave(x) - teacher.log_prob(x))
        learnt = metrics.estimate(reverse_kl(student, teacher, torch.randn(50_000, WIDTH)))
    return taught, learnt, seconds, sampling_times([teacher, student])


def distil_table(seeds: Sequence[int]) -> Iterator[str]:
    """The lesson's teacher and student: divergences in nats, and milliseconds for 1,000 rows."""
    yield head(
        "seed",
        "D_KL(truth‖teacher)",
        "D_KL(student‖teacher)",
        "training, s",
        "teacher, ms per 1,000 rows",
        "student, ms per 1,000 rows",
        "speed-up",
    )
    summary = []
    for seed in seeds:
        taught, learnt, seconds, times = distil_run(seed)
        slow, fast = map(statistics.median, times)
        ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
        summary.append((taught.value, learnt.value, seconds, 1000 * slow, 1000 * fast, ratio))
        yield row(
            seed,
            written(taught),
            written(learnt),
            f"{seconds:.1f}",
            f"{1000 * slow:.2f}",
            f"{1000 * fast:.2f}",
            f"{ratio:.1f}",
        )
    taught, learnt, *rest = (list(column) for column in zip(*summary, strict=True))
    means = map(statistics.fmean, rest)
    cells = (format(mean, pattern) for mean, pattern in zip(means, (".1f", ".2f", ".2f", ".1f"), strict=True))
    yield row("mean", written(over_seeds(taught)), written(over_seeds(learnt)), *cells)


IMAGES = {"optimizer": partial(torch.optim.Adam, betas=(0.9, 0.99)), **COMMON}


class LearntNoise(nn.Module):
    """Uniform noise, bent pixel by pixel by splines that a network chooses from the image."""

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.spline = flows.Spline(bins=2, bound=1.0)
        self.net = MLP(PIXELS, PIXELS, self.spline.count, (hidden,), nn.SiLU, 0.3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Whole numbers (B, *E) → u (B, *E) and log r(u|x) (B,)."""
        theta = self.net(x.flatten(1) / 8 - 1).reshape(*x.shape, -1)
        v, log_slope = self.spline.forward(2 * torch.rand(x.shape) - 1, theta)
        return (v + 1) / 2, -log_slope.flatten(1).sum(1)


class Whole(nn.Module):
    """Round data in [0, 1) down to whole levels, around 0."""

    def forward(self, v: Tensor) -> Tensor:
        """(B, PIXELS) → (B, PIXELS)."""
        return (LEVELS * v).floor() / 8 - 1


class FiveWays(nn.Module):
    """Tilt the usual shares of the levels in five ways, by amounts that a network chooses.

    Args:
        shares: (8, 8, LEVELS), the usual ones.
    """

    def __init__(self, shares: Tensor) -> None:
        super().__init__()
        t = torch.linspace(-1, 1, LEVELS)
        ways = [t, t**2, t**3, (t == -1).float(), (t == 1).float()]
        self.register_buffer("ways", torch.stack(ways))  # (5, LEVELS)
        self.register_buffer("usual", shares.log().flatten(0, 1))  # (PIXELS, LEVELS)

    def forward(self, amounts: Tensor) -> Tensor:
        """(B, PIXELS, 5) → logits (B, PIXELS, LEVELS)."""
        return self.usual + amounts @ self.ways


def pixelwise(shares: Tensor) -> flows.Dequantised:
    """The lesson's autoregressive flow of histograms."""
    layer = flows.MaskedAutoregressive(PIXELS, flows.Histogram(LEVELS))
    layer.net = nn.Sequential(Whole(), MADE(PIXELS, 5, hidden=(512,), dropout=0.5), FiveWays(shares))
    return flows.Dequantised(flows.Flow([flows.Probit(), layer], (PIXELS,)), LEVELS)


class DigitRun(NamedTuple):
    """A trained model of digits, the shape in which it wants them, its free parameters and its seconds of training."""

    model: flows.Dequantised
    shape: tuple[int, ...]
    parameters: int
    seconds: float


def train_digits(
    model: flows.Dequantised, steps: int, lr: float, share: float = 0.3, part: nn.Module | None = None
) -> DigitRun:
    """Train a model, or a part of it, on batches of 100 images of which a share is shifted."""
    images, shape = data.digits().train.images, tuple(model.event_shape)
    part = model if part is None else part
    batches = (data.shifted(x, share).reshape(-1, *shape) for x in minibatches(images, 100))
    size = sum(p.numel() for p in part.parameters() if p.requires_grad)
    start = time.perf_counter()
    if steps:
        fit(model.loss, part, batches, steps, lr=lr, **IMAGES)
    return DigitRun(model, shape, size, time.perf_counter() - start)


def digit_runs(seed: int, variants: bool) -> Iterator[tuple[str, DigitRun]]:
    """Train the lesson's models one after the other, each from the same seed."""
    images = data.digits().train.images
    shares = smoothed(functional.one_hot(images, LEVELS).sum(0).double(), 0.5).float()
    soft = 0.5 * shares + 0.5 / LEVELS
    torch.manual_seed(seed)
    yield (
        "independent",
        train_digits(flows.Dequantised(flows.Flow(flows.front(shares), (8, 8)), LEVELS), 0, 0),
    )

    torch.manual_seed(seed)
    model = flows.glow(soft)
    model.flow.initialise((images[:, None] + torch.rand(len(images), 1, 8, 8)) / LEVELS)
    plain = train_digits(model, 600, 4e-3)
    yield "Glow", plain
    torch.manual_seed(seed)
    noisy = flows.Dequantised(model.flow.requires_grad_(False), LEVELS, LearntNoise())
    learnt = train_digits(noisy, 300, 4e-3, part=noisy.noise)
    both = plain.parameters + learnt.parameters, plain.seconds + learnt.seconds
    yield "Glow, learnt noise", DigitRun(noisy, plain.shape, *both)

    settings = {"spline flow": ({}, 0.3)}
    if variants:
        settings |= {
            "spline flow, no dropout": ({"dropout": 0.0}, 0.3),
            "spline flow, no shifts": ({}, 0.0),
            "spline flow, neither": ({"dropout": 0.0}, 0.0),
            "spline flow, 8 bins": ({"bins": 8}, 0.3),
        }
    for name, (options, share) in settings.items():
        torch.manual_seed(seed)
        yield name, train_digits(flows.image_splines(soft, **options), 600, 6e-3, share)
    torch.manual_seed(seed)
    yield "autoregressive", train_digits(pixelwise(shares), 600, 8e-3)


@torch.no_grad()
def nats(model: flows.Dequantised, x: Tensor, draws: int = 20) -> tuple[float, float]:
    """Nats per image of whole numbers: mean over the draws of the noise, and the importance-weighted bound."""
    model.eval()
    log_w = torch.stack([model.elbo(x) for _ in range(draws)]).double()  # (draws, B)
    return -log_w.mean().item(), math.log(draws) - log_w.logsumexp(0).mean().item()


def digits_table(seeds: Sequence[int], variants: bool) -> Iterator[str]:
    """One row for each seed and model: nats per image with one draw of the noise and with 20; then the means."""
    digits = data.digits()
    results: dict[str, list[tuple[float, ...]]] = {}
    sizes: dict[str, int] = {}
    columns = ("seconds", "valid, one draw", "valid, 20 draws", "test, one draw", "test, 20 draws")
    yield head("seed", "model", *columns)
    for seed in seeds:
        for name, run in digit_runs(seed, variants):
            torch.manual_seed(seed)
            parts = [part.images.reshape(-1, *run.shape) for part in (digits.valid, digits.test)]
            values = run.seconds, *nats(run.model, parts[0]), *nats(run.model, parts[1])
            results.setdefault(name, []).append(values)
            sizes[name] = run.parameters
            yield row(seed, name, f"{values[0]:.1f}", *(f"{value:.2f}" for value in values[1:]))
    yield "\n**Summary**: mean over seeds in nats per image; training seconds of Glow are in those of its noise too\n"
    yield head("model", "parameters", *columns)
    for name, rows in results.items():
        seconds, *values = ([*column] for column in zip(*rows, strict=True))
        cells = (written(over_seeds(value), 2) for value in values)
        yield row(name, f"{sizes[name]:,}", span(seconds, ".1f"), *cells)


def main() -> None:
    """Print the table that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=["densities", "distil", "digits"])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)), help="0 to 4 unless told")
    parser.add_argument("--seconds", type=float, default=10.0, help="time of each run, for densities")
    parser.add_argument("--variants", action="store_true", help="spline flow with less care too, for digits")
    chosen = parser.parse_args()
    if not 0 < chosen.seconds < math.inf:
        parser.error(f"--seconds must be above 0, got {chosen.seconds}")
    if min(chosen.seeds) < 0:
        parser.error(f"--seeds must not be below 0, got {min(chosen.seeds)}")
    torch.set_num_threads(1)
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    if chosen.table == "densities":
        try:
            import zuko
        except ImportError:
            parser.error(
                'densities compares with zuko, which is missing: python -m pip install -e ".[bench]"'
            )
        versions += f", zuko {zuko.__version__}"
    print(f"{versions}, one of {os.cpu_count()} cores\n")
    lines = {
        "densities": lambda: densities_table(chosen.seeds, chosen.seconds),
        "distil": lambda: distil_table(chosen.seeds),
        "digits": lambda: digits_table(chosen.seeds, chosen.variants),
    }[chosen.table]()
    start, used = time.perf_counter(), time.process_time()
    for line in lines:
        print(line, flush=True)
    share = (time.process_time() - used) / (time.perf_counter() - start)
    warning = "" if share > 0.95 else "; other programs disturbed it, and the times mean little"
    print(f"\nThe core was ours for {share:.0%} of the time{warning}.")


if __name__ == "__main__":
    main()
