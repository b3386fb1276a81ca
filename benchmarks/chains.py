"""What the lessons on chains and on the Fokker-Planck equation claim, over seeds.

    python benchmarks/chains.py shares   # parallel tempering and plain Langevin dynamics on the ring: about a minute
    python benchmarks/chains.py escape   # counted rates over a barrier, beside Kramers and the gap: about 2 minutes
    python benchmarks/chains.py ridge    # what a walk on a narrow ridge is worth at each setting: about 3 minutes

Each prints a Markdown table, on one core. The settings were chosen on seeds 0 to 3; those here are others.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from genlib import data, samplers, sde

SHARES = [0.3, 0.05, 0.2, 0.05, 0.15, 0.05, 0.15, 0.05]
LADDER = [1.0, 3.0, 9.0, 27.0]
STEPS, STEP, WALKERS = 1000, 0.006, 600
FLOAT64 = {"dtype": torch.float64}


def shares(seeds: Sequence[int]) -> None:
    """Print the largest error of a share for each seed, of walks that exchange and of walks that do not."""
    ring = data.ring(weights=SHARES)

    def count(x: Tensor) -> Tensor:
        return torch.cdist(x, ring.means).argmin(1).bincount(minlength=8)

    print("| seed | tempering: largest error | looks a point | s | Langevin, as many looks |")
    print("| --- | --- | --- | --- | --- |")
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        x = 2 * torch.randn(WALKERS, 2, generator=generator)
        seen: list[Tensor] = []

        def keep(k: int, points: Tensor, seen: list[Tensor] = seen) -> None:
            if k > STEPS // 2 and k % 10 == 0:
                seen.append(count(points))

        start = time.perf_counter()
        samplers.tempering(ring.log_prob, x, LADDER, STEPS, STEP, keep, generator=generator)
        seconds = time.perf_counter() - start
        found = torch.stack(seen).sum(0) / (len(seen) * WALKERS)
        looks = STEPS * len(LADDER)
        plain = count(samplers.langevin(ring.score, x, looks, STEP, generator=generator)) / WALKERS
        gaps = [(share - ring.weights).abs().max() for share in (found, plain)]
        print(f"| {seed} | {gaps[0]:.4f} | {looks} | {seconds:.1f} | {gaps[1]:.3f} |")


def escape(seeds: Sequence[int]) -> None:
    """Print counted rates over barriers of U = h (x² − 1)² at T = 1, divided by Kramers' formula."""
    print("| barrier | gap / Kramers | counted / Kramers, mean of the seeds | smallest | largest |")
    print("| --- | --- | --- | --- | --- |")
    for h in (4.0, 5.0, 6.0, 7.0, 8.0):

        def slope(x: Tensor, h: float = h) -> Tensor:
            return -4 * h * x * (x**2 - 1)

        kramers = math.sqrt(32) * h / (2 * math.pi) * math.exp(-h)
        L = sde.Grid(-2.2, 2.2, 300).generator(slope, 1.0)
        gap = -torch.linalg.eigvals(L).real.sort(descending=True).values[1] / 2
        ratios = [counted(h, kramers, slope, seed) / kramers for seed in seeds]
        spread = " | ".join(f"{f(ratios):.3f}" for f in (statistics.mean, min, max))
        print(f"| {h:g} | {gap / kramers:.3f} | {spread} |")


def counted(h: float, kramers: float, slope: object, seed: int) -> float:
    """The rate from the share on the right at two moments, as in the lesson."""
    generator = torch.Generator().manual_seed(seed)
    n, time_, step = round(12_000 * math.exp((8 - h) / 2)), 0.1 / kramers, 0.25 / (8 * h)
    left = sde.Grid(-2.5, 0.0, 2000)
    m = (-h * (left.centres**2 - 1) ** 2).exp().cumsum(0)
    places = torch.searchsorted(m / m[-1], torch.rand(n, dtype=torch.float64, generator=generator))
    x, N, seen = left.centres[places][:, None].float(), round(time_ / step), []

    def count(k: int, t: float, x: Tensor) -> None:
        if k in (N // 6, N):
            seen.append((t, math.log(1 - 2 * (x > 0).double().mean().item())))

    clock = torch.linspace(0, time_, N + 1)
    sde.simulate(sde.Overdamped(slope), x, clock, count, stratonovich=True, generator=generator)
    (early, before), (late, after) = seen
    return (before - after) / (2 * (late - early))


def ridge(seeds: Sequence[int]) -> None:
    """Print what 60,000 looks of 40 walks are worth on a ridge of correlation 0.99, for each method and setting."""
    c = 0.99
    law = MultivariateNormal(torch.zeros(2, **FLOAT64), torch.tensor([[1, c], [c, 1]], **FLOAT64))
    precision, looks = law.precision_matrix, 1500

    def log_prob(x: Tensor) -> Tensor:
        return -0.5 * ((x @ precision) * x).sum(1)

    def worth(seed: int, walk: Callable[..., object]) -> float:
        torch.manual_seed(seed)
        track: list[Tensor] = []
        walk(law.sample((40,)), lambda k, x: track.append(x.sum(1)))
        return samplers.effective_sample_size(torch.stack(track, 1))

    def line(name: str, setting: str, walk: Callable[..., object]) -> None:
        sizes = [worth(seed, walk) for seed in seeds]
        print(f"| {name} | {setting} | {statistics.mean(sizes):.0f} | {min(sizes):.0f} | {max(sizes):.0f} |")

    print("| method | setting | worth draws, mean of the seeds | smallest | largest |")
    print("| --- | --- | --- | --- | --- |")
    for scale in (0.2, 0.4, 0.8, 1.6, 2.4):
        step = samplers.RandomWalk(scale)
        line(
            "random walk",
            f"width {scale}",
            lambda x, keep, step=step: samplers.metropolis_hastings(log_prob, step, x, looks, keep),
        )
    for step in (0.08, 0.12, 0.17, 0.24):
        line(
            "MALA",
            f"step {step}",
            lambda x, keep, step=step: samplers.hamiltonian(log_prob, x, looks, step, 1, keep),
        )
    for step, leaps in ((0.08, 20), (0.12, 10), (0.12, 15), (0.12, 20), (0.12, 30), (0.16, 15), (0.16, 20)):
        line(
            "Hamiltonian",
            f"step {step}, {leaps} leaps",
            lambda x, keep, step=step, leaps=leaps: samplers.hamiltonian(
                log_prob, x, looks // leaps, step, leaps, keep
            ),
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["shares", "escape", "ridge"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[20, 21, 22, 23, 24])
    given = parser.parse_args()
    torch.set_num_threads(1)
    {"shares": shares, "escape": escape, "ridge": ridge}[given.what](given.seeds)


if __name__ == "__main__":
    main()
