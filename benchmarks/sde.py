"""What the lessons on score-based diffusion claim, over seeds.

    python benchmarks/sde.py plane     # flow, two score models and kernels on four targets: 6 minutes a seed
    python benchmarks/sde.py samples   # samples of 20 calls beside their floors: 2 minutes
    python benchmarks/sde.py digits    # the model of whole grey levels, and annealed Langevin: 4 minutes a seed

Each prints a Markdown table, on one core. Seconds are of training alone and count what the process used, so that other
programs disturb them less. The settings of the plane were chosen on seed 0, those of the digits on seeds 0 to 2.

How `plane` is made fair. The flow makes its 950 steps on batches of 512 fresh points. A few steps of each model, by
turns, tell how many steps of a score model take 82 % of its time: the guess is noisy, and the time of the flow is a
bound. The table of targets is made of as many points as the flow sees, and its making counts. All are judged by the
same 10,000 fresh points; a kernel density estimate of the table's points by the first 2,000 of them.
"""

from __future__ import annotations

import copy
import itertools
import math
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from genlib import data, metrics, nets, score, sde
from genlib._shapes import squared
from genlib.scorecard.images import decaying
from genlib.training import fit, fresh_batches, minibatches

sys.path.insert(0, str(Path(__file__).parent))
from flows import COMMON, TARGETS, spline_flow
from score import DIGIT_LEVELS, STEP
from tables import asked, head, per_step, row, seeded, spent

FLOW_STEPS, BATCH = 950, 512
POINTS = FLOW_STEPS * BATCH
LAST, FIRST = 0.004, 5.0
PROCESS = sde.VarianceExploding(LAST / 10, math.hypot(FIRST, LAST / 10))
ADAM = {"lr": 7e-3, "optimizer": partial(torch.optim.Adam, fused=True), **COMMON}
DECAYING = partial(torch.optim.AdamW, weight_decay=0.2, betas=(0.9, 0.99), fused=True)
BANDWIDTHS = (0.008, 0.012, 0.018, 0.027, 0.04)


class InPlane:
    """A target with what all models of it share: the same points, scaled by mean and deviation of 2,048 of them."""

    def __init__(self, target: str, seed: int) -> None:
        self.source, self.seed = TARGETS[target](), seed
        torch.manual_seed(seed)
        self.few = next(fresh_batches(self.source, 2048, generator=seeded(3 * seed)))
        self.shift, self.scale = self.few.mean(0), self.few.std(0, correction=0)

    def standard(self, x: Tensor) -> Tensor:
        """Data (B, 2) → numbers of mean 0 and deviation 1."""
        return (x - self.shift) / self.scale

    def batches(self, size: int = BATCH) -> Iterable[Tensor]:
        """The stream of fresh points that every model sees."""
        return fresh_batches(self.source, size, generator=seeded(3 * self.seed + 1))

    def flow(self, model: nn.Module, steps: int = FLOW_STEPS) -> None:
        """Train the lesson's flow."""
        fit(model.loss, model, self.batches(), steps, lr=1e-2, **COMMON)

    def score_model(self) -> sde.ScoreSDE:
        """A score model of the standardised data."""
        return sde.ScoreSDE(nets.PlaneNet(), (2,), PROCESS, LAST)

    def denoising(self, model: sde.ScoreSDE, steps: int) -> None:
        """Train by the denoising loss on fresh points."""
        fit(lambda x: model.loss(self.standard(x)), model, self.batches(), steps, **ADAM)

    def table(self) -> sde.NoisedTable:
        """Targets from as many points as the flow sees."""
        points = self.source.sample((POINTS,), generator=seeded(3 * self.seed + 1))
        return sde.NoisedTable(self.standard(points), score.geometric_levels(FIRST, LAST, 28))

    @staticmethod
    def from_table(model: sde.ScoreSDE, table: sde.NoisedTable, steps: int) -> None:
        """Train by a table."""

        def loss(_: Tensor) -> Tensor:
            x, kappa, target, weight = table.draw(256)
            return weight * squared(model.score(x, kappa) - target)

        fit(loss, model, itertools.repeat(torch.zeros(1)), steps, **ADAM)

    def judges(self, n: int = 10_000) -> Tensor:
        """The points by which all are judged."""
        return self.source.sample((n,), generator=seeded(3 * self.seed + 2))

    def log_prob(self, model: sde.ScoreSDE, x: Tensor, steps: int = 28) -> Tensor:
        """Log-density of data by a score model, (B, 2) → (B,), in nats."""
        z = self.standard(x)
        return torch.cat([model.log_prob(part, steps) for part in z.split(1000)]) - self.scale.log().sum()

    def taught(self) -> tuple[sde.ScoreSDE, float, float]:
        """The model taught by a table within the flow's time, and the seconds of the flow's steps and of its own."""
        model, made = self.score_model(), []
        built = spent(lambda: made.append(self.table()))
        spares = spline_flow(self.few), copy.deepcopy(model)
        flow, step = per_step([partial(self.flow, spares[0]), partial(self.from_table, spares[1], *made)])
        steps = int((0.82 * FLOW_STEPS * flow - built) / step)
        return model, FLOW_STEPS * flow, built + spent(lambda: self.from_table(model, *made, steps))


def kernels(points: Tensor, x: Tensor, bandwidth: float) -> Tensor:
    """Log-density of a kernel density estimate, (n, 2) and (B, 2) → (B,), in nats."""
    y, half = points.T.contiguous() / bandwidth, points.square().sum(1) / (2 * bandwidth**2)
    parts = []
    for part in (x / bandwidth).split(20):
        parts.append((part @ y - half - part.square().sum(1, keepdim=True) / 2).logsumexp(1))
    return torch.cat(parts) - math.log(2 * math.pi * bandwidth**2 * len(points))


def plane_run(target: str, seed: int, check: bool) -> dict[str, tuple[float, float, float]]:
    """D_KL(truth‖model), its standard error and the seconds, of each model.

    A check tells on the side by how much ten times the steps of the probability flow would move log-densities.
    """
    plane, results = InPlane(target, seed), {}
    x = plane.judges()
    truth = plane.source.log_prob(x)

    def judged(name: str, log_q: Tensor, seconds: float) -> None:
        results[name] = (*metrics.estimate(truth[: len(log_q)] - log_q), seconds)

    flow = spline_flow(plane.few)
    seconds = spent(lambda: plane.flow(flow))
    with torch.no_grad():
        judged("spline flow", flow.log_prob(x), seconds)

    denoiser = plane.score_model()
    spares = spline_flow(plane.few), copy.deepcopy(denoiser)
    a, b = per_step([partial(plane.flow, spares[0]), partial(plane.denoising, spares[1])])
    seconds = spent(lambda: plane.denoising(denoiser, int(0.82 * FLOW_STEPS * a / b)))
    judged("score, denoising", plane.log_prob(denoiser, x), seconds)

    model, _, seconds = plane.taught()
    judged("score, table", plane.log_prob(model, x), seconds)
    if check:
        move = (plane.log_prob(model, x[:300], 280) - plane.log_prob(model, x[:300])).abs()
        moves = f"ten times the steps move log-densities by at most {move.max():.1e}, mean {move.mean():.1e}"
        print(f"{target}, seed {seed}: {moves}", file=sys.stderr, flush=True)

    points = plane.source.sample((POINTS,), generator=seeded(3 * seed + 1))
    others = plane.source.sample((200,), generator=seeded(3 * seed + 4))
    z, chosen = plane.standard(points), plane.standard(others)
    best = max(BANDWIDTHS, key=lambda h: kernels(z, chosen, h).mean().item())
    start = time.process_time()
    log_q = kernels(z, plane.standard(x[:2000]), best) - plane.scale.log().sum()
    judged("kernels", log_q, time.process_time() - start)
    shown = {name: (round(kl, 4), round(error, 4), round(s, 1)) for name, (kl, error, s) in results.items()}
    print(target, seed, shown, f"bandwidth {best}", file=sys.stderr, flush=True)
    return results


def plane(seeds: Sequence[int]) -> None:
    """Print D_KL(truth‖model) in nats of flow, score models and kernels for each target and seed."""
    print(head("target", "model", "mean", *map("seed {}".format, seeds), "s"))
    for target in TARGETS:
        runs = [plane_run(target, seed, seed == seeds[0]) for seed in seeds]
        for name in runs[0]:
            values, errors, seconds = zip(*(run[name] for run in runs), strict=True)
            cells = [f"{value:.4f} ± {error:.4f}" for value, error in zip(values, errors, strict=True)]
            mean = f"{statistics.fmean(values):.4f}"
            print(row(target, name, mean, *cells, f"{statistics.fmean(seconds):.1f}"), flush=True)


def samples(seeds: Sequence[int]) -> None:
    """Print sliced Wasserstein distance and MMD over their floors, of samples by 20 calls."""
    print(head("target", "seed", "sliced Wasserstein / floor", "MMD / floor"))
    for seed, target in itertools.product(seeds, TARGETS):
        plane = InPlane(target, seed)
        model, _, _ = plane.taught()
        cells = []
        for metric in (metrics.sliced_wasserstein, metrics.mmd):
            crowds = [plane.shift + plane.scale * model.sample((2000,), 20) for _ in range(3)]
            found = [metrics.compare(metric, x, plane.source, 5) for x in crowds]
            value, floor = (statistics.fmean(part) for part in zip(*(f[:2] for f in found), strict=True))
            cells.append(f"{value:.4f} / {floor:.4f} = {value / floor:.2f}")
        print(row(target, seed, *cells), flush=True)


def digits(seeds: Sequence[int]) -> None:
    """Print the judges of digits for samples of the model of grey levels and of its controls, and its bound in nats."""
    split = data.digits()
    images, valid = (part.images.flatten(1).float() for part in (split.train, split.valid))
    near = torch.cdist(images, images).fill_diagonal_(torch.inf).min(1).values.quantile(0.01)

    def judged(x: Tensor) -> str:
        told = metrics.told_apart(x, images, 5)
        precision, recall = metrics.precision_recall(x[:350], valid)
        copies = (torch.cdist(x, images).min(1).values < near).float().mean()
        return f"{told:.3f} | {precision:.2f} | {recall:.2f} | {copies:.1%}"

    print(head("model", "seed", "s", "calls", "told apart", "precision", "recall", "near copies"))
    bounds = []
    for seed in seeds:
        torch.manual_seed(seed)
        grey = sde.GreyScore(nets.ImageNet(2, 4, told=2, gate_dropout=0.1), split.train.images)
        settings = {"lr": 6e-3, "average": 0.998, "optimizer": DECAYING, "progress": False}
        batches = minibatches(split.train.images, 128)
        seconds = spent(lambda g=grey, b=batches, s=settings: fit(g.loss, g, b, 1100, **s))
        grey.eval()
        x = grey.sample((1000,), 30).flatten(1).float()
        print(f"| grey levels | {seed} | {seconds:.1f} | 30 | {judged(x)} |", flush=True)
        for name, calls, x, seconds in annealed(images, seed):
            print(f"| {name} | {seed} | {seconds:.1f} | {calls} | {judged(x)} |", flush=True)
        bounds.append(row(seed, *bound(grey, split.test.images, seed)))
        print(bounds[-1], file=sys.stderr, flush=True)
    print("\nNats per image, a bound on the test images, by one draw of noise\n")
    few = ("first 100, 12 steps, 8 probes", "first 100, exact", "first 100, exact: s")
    print(head("seed", "447 images, 12 steps, 1 probe", "36 steps, 1 probe", *few))
    print("\n".join(bounds))


def bound(model: sde.GreyScore, images: Tensor, seed: int) -> list[str]:
    """Nats per image of all images, with 12 steps and with 36, and of a hundred, with 8 probes and exact."""

    def nats(x: Tensor, steps: int, probes: int | None) -> str:
        value = metrics.estimate(-model.elbo(x, steps, probes=probes, generator=seeded(seed)))
        return f"{value.value:.2f} ± {value.stderr:.2f}"

    cells = [nats(images, 12, 1), nats(images, 36, 1), nats(images[:100], 12, 8)]
    start = time.process_time()
    return [*cells, nats(images[:100], 12, None), f"{time.process_time() - start:.1f}"]


def annealed(images: Tensor, seed: int) -> Iterable[tuple[str, int, Tensor, float]]:
    """Samples (1000, 64) of the lesson's score model, by annealed Langevin dynamics and by the reversed process."""
    mean, spread = images.mean(0), (images / 8).std(0).square().mean().sqrt().item()
    torch.manual_seed(seed)
    model = score.ScoreModel(nets.ImageNet(), (64,), DIGIT_LEVELS, spread)
    settings = {"lr": 6e-3, "average": 0.998, "optimizer": decaying, "progress": False}
    batches = minibatches((images - mean) / 8, 128)
    seconds = spent(lambda: fit(model.loss, model, batches, 1500, **settings))
    model.eval()
    first, last = DIGIT_LEVELS[0].item(), DIGIT_LEVELS[-1].item()
    process = sde.VarianceExploding(last / 10, math.hypot(first, last / 10))
    start = math.hypot(spread, first) * torch.randn(1000, 64)
    times = [*process.schedule(29, last, power=3.0), 0.0]
    with torch.no_grad():
        for name, calls, x in (
            ("annealed Langevin", 121, model.sample((1000,), 4, STEP)),
            (
                "the same, reversed process",
                30,
                sde.exponential(process, process.at_level(model.score), start, times, noise=1.0),
            ),
        ):
            yield name, calls, (8 * x + mean).round().clamp(0, 16), seconds


SEEDS = {"plane": [24, 25, 26, 27, 28], "samples": [24], "digits": [23, 24, 25]}


def main() -> None:
    """Print the table that the command line names."""
    chosen = asked(__doc__, SEEDS)
    {"plane": plane, "samples": samples, "digits": digits}[chosen.table](chosen.seeds)


if __name__ == "__main__":
    main()
