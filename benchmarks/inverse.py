"""What the lesson on inverse problems claims, over seeds.

    python benchmarks/inverse.py distances    # seven methods on twelve problems: 4 minutes for five seeds
    python benchmarks/inverse.py ranks        # whether the draws are calibrated, on twenty problems: 5 minutes
    python benchmarks/inverse.py rounds       # the split with more rounds: 5 minutes
    python benchmarks/inverse.py learnt       # particles with a learnt score beside the exact one: 4 minutes a seed
    python benchmarks/inverse.py digits       # whether draws of digits are too sure, and why: 10 minutes a seed

Each prints Markdown tables, on one core. The prior is a mixture of five normals with deviation 0.4, whose centres lie
1.5 from 0 in each coordinate, so that posterior and noised score are exact. A seed draws the prior, the truth and what
is measured. Settings were chosen on seeds 0 and 1: 100 levels from 30 to 0.02, eight times as many particles as
draws, of which some are taken by lot, and the size of the steps of posterior sampling.

In `distances` 1000 draws are compared with 1000 of the exact posterior, by the sliced Wasserstein distance; the floor
is the mean of four other exact samples. `calls` counts how often the score was asked, for all draws at once.

In `ranks` 99 truths are drawn from the prior of a problem, and each is measured. 25 draws are made given y, of 200
particles for that method, with 50 levels, and 9 are taken. The truth's rank among them is found along the first row
of A, and across: along the direction of which A tells least. If truth and draws have one law given y, ranks are uniform
on 0 to 9 (Talts et al. 2018, arXiv:1804.06788), which a χ² test judges.

In `learnt` one score is trained for each prior, by 3000 steps, and asked in all four problems of that prior.

In `digits` the score is that of the lesson. 50 truths are test images, or draws of the score itself by the same steps
without a measurement; these judge the method alone. `outside` is the share of ranks that are 0 or 9, among 9 draws, of
the ink of the lower half and eight random sums. Honest draws have 0.2, and a draw's squared error is twice that of the
mean of many.
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

from genlib import data, inverse, metrics, nets, sde
from genlib.score import geometric_levels
from genlib.training import fit, fresh_batches, minibatches

sys.path.insert(0, str(Path(__file__).parent))
from sde import DECAYING
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


class Yardstick:
    """How far draws lie from the exact posterior, over the floor."""

    def __init__(self, problem: Problem, generator: torch.Generator) -> None:
        self.truth, *others = problem.posterior().sample((5 * DRAWS,), generator=generator).split(DRAWS)
        self.floor = statistics.fmean(map(self.distance, others))

    def distance(self, x: Tensor) -> float:
        """Sliced Wasserstein distance to exact draws."""
        return metrics.sliced_wasserstein(x, self.truth, generator=seeded(0))

    def __call__(self, x: Tensor) -> float:
        """Its ratio to the floor."""
        return self.distance(x) / self.floor


def distances(seeds: Sequence[int]) -> None:
    """Print distances to the exact posterior over the floor, mean and largest over seeds, and calls."""
    print(head("numbers", "measured", "floor", *METHODS), flush=True)
    worst, calls = defaultdict(float), {}
    for dims in (2, 8, 32):
        for kind in operators(dims, seeded(0)):
            ratios, floors = defaultdict(list), []
            for seed in seeds:
                problem, generator = Problem(dims, kind, seed), seeded(seed)
                far = Yardstick(problem, generator)
                floors.append(far.floor)
                for method in METHODS:
                    problem.calls = 0
                    ratio = far(problem.draw(method, DRAWS, generator))
                    ratios[method].append(ratio)
                    worst[method] = max(worst[method], ratio)
                    calls[method] = problem.calls
            shown = (f"{statistics.fmean(r):.1f} ({max(r):.1f})" for r in ratios.values())
            print(row(dims, kind, f"{statistics.fmean(floors):.3f}", *shown), flush=True)
    print(row("", "largest", "", *(f"{worst[m]:.1f}" for m in METHODS)))
    print(row("", "calls", "", *(calls[m] for m in METHODS)))


def uniform_p(problem: Problem, method: str, seed: int) -> list[float]:
    """p of the χ² test of ranks, along a measured direction and across, among draws given what was measured."""
    generator, problem.levels = seeded(seed), LEVELS[::2]
    truths = problem.prior.sample((TRUTHS,), generator=generator)
    A = problem.measurement.matrix
    directions = torch.stack([A[0], torch.linalg.eigh(A.mT @ A).eigenvectors[:, 0]], 1)
    ranks = []
    for truth, y in zip(truths, problem.measured(truths, generator), strict=True):
        x = problem.draw(method, 25, generator, y)[:RANKS]
        ranks.append((x @ directions < truth @ directions).sum(0))
    counts = (torch.bincount(column, minlength=RANKS + 1) for column in torch.stack(ranks, 1))
    return [stats.chisquare(c.numpy()).pvalue for c in counts]


def ranks(seeds: Sequence[int]) -> None:
    """Print the p of ranks for the particles, the guess and replacement, a row for each problem."""
    columns = [
        (method, way) for method in ("particles", "guess", "replacement") for way in ("along", "across")
    ]
    print(head("numbers", "measured", "seed", *(f"{method} {way}" for method, way in columns)), flush=True)
    below = dict.fromkeys(columns, 0)
    for seed in seeds:
        for kind in operators(8, seeded(0)):
            found = [p for m in dict(columns) for p in uniform_p(Problem(8, kind, seed), m, seed)]
            for column, p in zip(columns, found, strict=True):
                below[column] += p < 0.01
            print(row(8, kind, seed, *(f"{p:.3g}" for p in found)), flush=True)
    print(row("", "below 0.01", "", *below.values()))


def rounds(seeds: Sequence[int]) -> None:
    """Print the distance over the floor of the split, with more and more rounds, mean and largest over seeds."""
    counts = (30, 100, 300)
    print(head("numbers", "measured", *(f"{count} rounds" for count in counts)), flush=True)
    for dims, kind in ((2, "half"), (2, "blur"), (8, "blur"), (8, "random sums")):
        cells = []
        for count in counts:
            ratios = []
            for seed in seeds:
                problem, generator = Problem(dims, kind, seed), seeded(seed)
                far = Yardstick(problem, generator)
                settings = {"couplings": geometric_levels(10.0, 0.1, count).tolist(), "generator": generator}
                ask = (problem.score, problem.measurement, problem.y, DRAWS, LEVELS)
                ratios.append(far(inverse.split_gibbs(*ask, **settings)))
            cells.append(f"{statistics.fmean(ratios):.1f} ({max(ratios):.1f})")
        print(row(dims, kind, *cells), flush=True)


def trained(prior: data.GaussianMixture, seed: int) -> Callable[[Tensor, float], Tensor]:
    """A score that learnt from draws of the prior."""
    torch.manual_seed(seed)
    plain = data.GaussianMixture(prior.means.float(), prior.scale.float(), prior.weights.float())
    (dims,) = prior.event_shape
    process = sde.VarianceExploding(LEVELS[-1].item(), LEVELS[0].item())
    spread = prior.sample((4000,)).square().mean().sqrt().item()
    net = nets.PlaneNet(dims, knee=0.1)
    learner = sde.ScoreSDE(net, (dims,), process, LEVELS[-1].item(), spread)
    fit(learner.loss, learner, fresh_batches(plain, 256), 3000, lr=5e-3, average=0.998, progress=False)
    learner.eval()
    return lambda u, level: learner.score(u.float(), level).double()


def learnt(seeds: Sequence[int]) -> None:
    """Print the distance over the floor of particles with the exact and the learnt score, mean and largest."""
    print(head("numbers", "measured", "exact", "learnt"), flush=True)
    for dims in (2, 8, 32):
        kinds = operators(dims, seeded(0))
        scores = {seed: trained(Problem(dims, "half", seed).prior, seed) for seed in seeds}
        for kind in kinds:
            ratios = defaultdict(list)
            for seed in seeds:
                problem, generator = Problem(dims, kind, seed), seeded(seed)
                far = Yardstick(problem, generator)
                ratios["exact"].append(far(problem.draw("particles", DRAWS, generator)))
                problem.score = scores[seed]
                ratios["learnt"].append(far(problem.draw("particles", DRAWS, generator)))
            cells = (f"{statistics.fmean(r):.1f} ({max(r):.1f})" for r in ratios.values())
            print(row(dims, kind, *cells), flush=True)


def digits(seeds: Sequence[int]) -> None:
    """Print how sure draws of digits are, for truths of the score itself and test images."""
    split, way, eye = data.digits(), geometric_levels(30.0, 0.5, 30), torch.eye(64)
    pooled = eye.reshape(4, 2, 4, 2, 64).mean((1, 3)).reshape(16, 64)
    cameras = {"upper half": inverse.Linear(eye[:32], 0.5), "2 × 2 means": inverse.Linear(pooled, 0.5)}
    print(
        head("seed", "measured", "method", "truths", "outside", "error of a draw / of the mean"), flush=True
    )
    for seed in seeds:
        torch.manual_seed(seed)
        artist = sde.GreyScore(nets.ImageNet(2, 4, told=2, gate_dropout=0.1), split.train.images)
        settings = {"lr": 6e-3, "average": 0.996, "optimizer": DECAYING, "progress": False}
        fit(artist.loss, artist, minibatches(split.train.images, 128), 430, **settings)
        artist.eval()

        def score(u: Tensor, level: float, artist: sde.GreyScore = artist) -> Tensor:
            return artist.score(u + artist.mean, level)

        sums = torch.cat([torch.randn(64, 8), (torch.arange(64) >= 32).float()[:, None]], 1)
        own = inverse.guided(score, cameras["upper half"], torch.zeros(32), 50, way, weight=0.0)
        truths = {"of the score": own, "test": split.test.images[:50].flatten(1).float() - artist.mean}
        for name, camera in cameras.items():
            for method, draw, n in (
                *(("particles", inverse.twisted, n) for n in (80, 320, 1280)),
                ("guess", inverse.guided, 80),
            ):
                for kind, x in truths.items():
                    ranks, errors = [], []
                    for truth, y in zip(x, camera.measure(x), strict=True):
                        found = draw(score, camera, y, n, way, spread=artist.spread)[torch.randperm(n)]
                        ranks.append((found[:RANKS] @ sums < truth @ sums).sum(0))
                        errors.append(
                            [(found - truth).square().mean(), (found.mean(0) - truth).square().mean()]
                        )
                    rank, error = torch.stack(ranks), torch.tensor(errors).mean(0)
                    outside = ((rank == 0) | (rank == RANKS)).float().mean()
                    cells = (f"{n} {method}", kind, f"{outside:.2f}", f"{error[0] / error[1]:.2f}")
                    print(row(seed, name, *cells), flush=True)


REPORTED = [20, 21, 22, 23, 24]
SEEDS = {
    **{"distances": REPORTED, "ranks": REPORTED, "rounds": REPORTED},
    **{"learnt": [20, 21, 22], "digits": [20]},
}


def main() -> None:
    """Print the table that the command line names."""
    chosen = asked(__doc__, SEEDS)
    tables: dict[str, Callable[[Sequence[int]], None]] = {
        **{"distances": distances, "ranks": ranks, "rounds": rounds},
        **{"learnt": learnt, "digits": digits},
    }
    tables[chosen.table](chosen.seeds)


if __name__ == "__main__":
    main()
