"""What the lesson on inverse problems claims, over seeds.

    python benchmarks/inverse.py distances    # seven methods on twelve problems: 4 minutes for five seeds
    python benchmarks/inverse.py ranks        # whether the draws are calibrated, on twenty problems: 5 minutes

Each prints Markdown tables, on one core. The prior is a mixture of five normals with deviation 0.4, whose centres lie
1.5 from 0 in each coordinate, so that posterior and noised score are exact. A seed draws the prior, the truth and what
is measured. Settings were chosen on seeds 0 and 1: 100 levels from 30 to 0.02, eight times as many particles as
draws, of which some are taken by lot, and the size of the steps of posterior sampling.

In `distances` 1000 draws are compared with 1000 of the exact posterior, by the sliced Wasserstein distance; the floor
is the mean of four other exact samples. `calls` counts how often the score was asked, for all draws at once.

In `ranks` 99 truths are drawn from the prior of a problem, and each is measured. 25 draws are made given y, of 200
particles for that method, with 50 levels, and 9 are taken. The truth's rank among them is found along the first row
of A. If truth and draws have one law given y, ranks are uniform on 0 to 9 (Talts et al. 2018, arXiv:1804.06788),
which a χ² test judges.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from scipy import stats
from torch import Tensor

from genlib import data, inverse, metrics
from genlib.score import geometric_levels

sys.path.insert(0, str(Path(__file__).parent))
from tables import asked, head, row, seeded

FLOAT64 = {"dtype": torch.float64}
DRAWS, PARTICLES = 1000, 8
LEVELS = geometric_levels(30.0, 0.02, 100).double()
COUPLINGS = geometric_levels(10.0, 0.1, 30).tolist()
TRUTHS, RANKS = 99, 9


def operators(dims: int, generator: torch.Generator) -> dict[str, inverse.Linear]:
    """Half of the numbers, means of two, a blur, and random sums, fewer than there are numbers."""
    eye = torch.eye(dims, **FLOAT64)
    place = torch.arange(dims, **FLOAT64)
    blur = (-((place[:, None] - place) ** 2) / 2).exp()
    few = max(1, dims // 4)
    random = torch.randn(few, dims, generator=generator, **FLOAT64) / math.sqrt(dims)
    return {
        "half": inverse.Linear(eye[: dims // 2], 0.1),
        "means of two": inverse.Linear(eye.reshape(dims // 2, 2, dims).mean(1), 0.1),
        "blur": inverse.Linear(blur / blur.sum(1, keepdim=True), 0.3),
        "random sums": inverse.Linear(random, 0.2),
    }


class Problem:
    """A prior, a measurement, a truth and what was measured of it."""

    def __init__(self, dims: int, kind: str, seed: int) -> None:
        generator = seeded(seed)
        means = 1.5 * torch.randn(5, dims, generator=generator, **FLOAT64)
        self.prior = data.GaussianMixture(means, 0.4, [0.3, 0.25, 0.2, 0.15, 0.1])
        self.measurement = operators(dims, generator)[kind]
        self.y = self.measured(self.prior.sample((1,), generator=generator), generator)[0]
        self.tau = self.prior.sample((4000,), generator=generator).square().mean().sqrt().item()
        self.calls, self.levels = 0, LEVELS

    def measured(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """What is measured of x."""
        return self.measurement.measure(x, generator=generator)

    def score(self, u: Tensor, level: float) -> Tensor:
        """The exact score of noised data, counted."""
        self.calls += 1
        return self.prior.noised(level).score(u)

    def posterior(self, y: Tensor | None = None) -> inverse.MixturePosterior:
        """The exact law of x given y."""
        return inverse.MixturePosterior(self.prior, self.measurement, self.y if y is None else y)

    def exact_slope(self, y: Tensor, u: Tensor, level: float) -> Tensor:
        """The slope of log p(y | u), exact."""
        return self.posterior(y).noised(level).score(u) - self.prior.noised(level).score(u)

    def draw(self, method: str, n: int, generator: torch.Generator, y: Tensor | None = None) -> Tensor:
        """n draws by a method."""
        y = self.y if y is None else y
        many = PARTICLES * n if method == "particles" else n
        call, settings = {
            "exact slope": (inverse.guided, {"slope": partial(self.exact_slope, y)}),
            "guess": (inverse.guided, {"spread": self.tau}),
            "posterior sampling": (inverse.posterior_sampling, {"size": 1.0}),
            "replacement": (inverse.replacement, {}),
            "half replaced": (inverse.replacement, {"share": 0.5}),
            "particles": (inverse.twisted, {"spread": self.tau}),
            "split": (inverse.split_gibbs, {"couplings": COUPLINGS}),
        }[method]
        x = call(self.score, self.measurement, y, many, self.levels, generator=generator, **settings)
        return x[torch.randperm(many, generator=generator)[:n]]


METHODS = (
    *("exact slope", "particles", "guess", "split"),
    *("posterior sampling", "replacement", "half replaced"),
)


def distances(seeds: Sequence[int]) -> None:
    """Print distances to the exact posterior over the floor, mean and largest over seeds, and calls."""
    print(head("numbers", "measured", "floor", *METHODS), flush=True)
    worst, calls = defaultdict(float), {}
    for dims in (2, 8, 32):
        for kind in operators(dims, seeded(0)):
            ratios, floors = defaultdict(list), []
            for seed in seeds:
                problem, generator = Problem(dims, kind, seed), seeded(seed)
                truth, *others = problem.posterior().sample((5 * DRAWS,), generator=generator).split(DRAWS)

                def distance(x: Tensor, truth: Tensor = truth) -> float:
                    return metrics.sliced_wasserstein(x, truth, generator=seeded(0))

                floor = statistics.fmean(map(distance, others))
                floors.append(floor)
                for method in METHODS:
                    problem.calls = 0
                    ratio = distance(problem.draw(method, DRAWS, generator)) / floor
                    ratios[method].append(ratio)
                    worst[method] = max(worst[method], ratio)
                    calls[method] = problem.calls
            shown = (f"{statistics.fmean(r):.1f} ({max(r):.1f})" for r in ratios.values())
            print(row(dims, kind, f"{statistics.fmean(floors):.3f}", *shown), flush=True)
    print(row("", "largest", "", *(f"{worst[m]:.1f}" for m in METHODS)))
    print(row("", "calls", "", *(calls[m] for m in METHODS)))


def uniform_p(problem: Problem, method: str, seed: int) -> float:
    """The χ² test's p of the ranks of truths, in a measured direction, among draws given what was measured of them."""
    generator, problem.levels = seeded(seed), LEVELS[::2]
    truths = problem.prior.sample((TRUTHS,), generator=generator)
    ranks, direction = [], problem.measurement.matrix[0]
    for truth, y in zip(truths, problem.measured(truths, generator), strict=True):
        x = problem.draw(method, 25, generator, y)[:RANKS]
        ranks.append(int((x @ direction < truth @ direction).sum()))
    return stats.chisquare(torch.bincount(torch.tensor(ranks), minlength=RANKS + 1).numpy()).pvalue


def ranks(seeds: Sequence[int]) -> None:
    """Print the p of ranks for the particles, the guess and replacement, a row for each problem."""
    methods: tuple[str, ...] = ("particles", "guess", "replacement")
    print(head("numbers", "measured", "seed", *methods), flush=True)
    below: dict[str, int] = defaultdict(int)
    for seed in seeds:
        for kind in operators(8, seeded(0)):
            found = {m: uniform_p(Problem(8, kind, seed), m, seed) for m in methods}
            for method, p in found.items():
                below[method] += p < 0.01
            print(row(8, kind, seed, *(f"{p:.3g}" for p in found.values())), flush=True)
    print(row("", "below 0.01", "", *(below[m] for m in methods)))


SEEDS = {"distances": [20, 21, 22, 23, 24], "ranks": [20, 21, 22, 23, 24]}


def main() -> None:
    """Print the table that the command line names."""
    chosen = asked(__doc__, SEEDS)
    tables: dict[str, Callable[[Sequence[int]], None]] = {"distances": distances, "ranks": ranks}
    tables[chosen.table](chosen.seeds)


if __name__ == "__main__":
    main()
