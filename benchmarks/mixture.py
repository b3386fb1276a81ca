"""What the lesson on mixtures claims, over seeds.

    python benchmarks/mixture.py recover    # how near a mixture comes to one that made the data: 3 seconds a seed
    python benchmarks/mixture.py starts     # how often a climb reaches the best end: 12 seconds a seed
    python benchmarks/mixture.py count      # how many components: half a minute a seed
    python benchmarks/mixture.py digits     # grey levels of digits: 15 seconds a seed
    python benchmarks/mixture.py deep       # layers against as many numbers without layers: 2 minutes a seed
    python benchmarks/mixture.py gradient   # layers by steps and by the gradient: a second a seed
    python benchmarks/mixture.py speed      # expectation and maximisation against gradients: half a minute a seed
    python benchmarks/mixture.py missing    # three entries in ten lost: 2 seconds a seed
    python benchmarks/mixture.py online     # one pass over the data: 2 seconds a seed

Each prints a Markdown table, on one core. All but digits is computed in float64. Seconds count what the process used,
and are of training alone. Each KL is of the truth to the model, in nats of a point, from 100,000 fresh points: one of
0.01 has a standard error of 0.0004, one of 0.001 of 0.00015.

Settings were chosen on seeds 0 to 4, those of digits on seeds 0 to 2 and on validation images. `recover` reports the
seeds of choice, 0 to 4, beside others. Seeds 20 to 24 are not quite fresh: earlier code was run there, and that of
`digits` on the test images, with two more settings of the parts.

In `recover` full covariances, as many as the truth has heaps, are the best of 10 starts by training likelihood, without
prior. The floor is half the number of free numbers over n: what the best fit costs on average.

In `starts` are 2000 points, 20 climbs from each kind of start, full covariances and a pull of 0.001. A climb reaches
the best end seen if it is less than 0.001 nats of a point below it.

In `count` are 400 points, full covariances, 4 starts and a pull of 0.01. `held out` is judged by 200 points more and
`KL` by the truth. Each cell is the K that is chosen and its KL.

In `digits` nats are of a test image, exact, of whole levels, with standard errors over the 447 images. A share of the
images counts as moved by up to a pixel, each of the nine ways equally much.

In `deep` are 3000 points. Both kinds are the best of 10 starts by penalised likelihood, with a pull of 0.001 and at
most 500 steps. The flat one is the likeliest of four shapes, each with as many numbers or a few more.

In `gradient` are 500 points of the ring and two layers of three maps. From the same start, 200 steps of expectation and
maximisation or 200 of Adam, at the rate of the lesson. Nats are of a training point.

In `speed` all methods start at the same mixture, and each runs for 2 seconds of the process, which count what it
computes for its own steps alone. Adam has the best of four rates, in time to 0.00001 nats, for each seed anew. The
apples are 400 of the lesson, told in units of 25 g from 170 g; the ring has 2000 points, full covariances, and a start
by k-means++. Gaps are nats of a row from the lowest so far to the lowest that any method reached. A dash says that a
method did not come so near: it is too slow, or has gone to another end.

In `missing` the truth, three heaps in four dimensions, is drawn by the seed, and 1000 rows lose three entries in ten at
random.

In `online` are 20,000 points of the ring, the first 200 of which make the start, and the others come in batches of 40,
each once. All data are seen 60 times. The models of a seed are judged by the same points.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from pathlib import Path

import torch
from torch import Generator, Tensor

from genlib import data, metrics
from genlib.mixture import (
    CategoricalMixture,
    DeepMixture,
    Layer,
    LevelMixture,
    Mixture,
    NormalMixture,
    PartsMixture,
    blend,
    climb,
)
from genlib.training import fit

sys.path.insert(0, str(Path(__file__).parent))
from tables import asked, head, row, seeded, shown, timed

FLOAT = {"dtype": torch.float64}


def truth_of(name: str) -> data.Source:
    """A source of points in the plane, in float64."""
    return data.source(name, **FLOAT)


def behind(truth: data.Source, model: Mixture, generator: Generator) -> float:
    """D_KL(truth‖model) in nats, on fresh points."""
    return metrics.kl_to_truth(truth, model, 100_000, generator=generator).value


def recover(seeds: Sequence[int]) -> None:
    """Print how near a mixture comes to one that made the data, beside what the best fit costs on average."""
    print(head("truth", "n", "seed", "floor", "KL", "KL / floor", "s"), flush=True)
    for name, K in (("ring", 8), ("grid", 25)):
        truth = truth_of(name)
        for n in (2000, 5000):
            for seed in seeds:
                generator = seeded(seed)
                x = truth.sample((n,), generator=generator)
                model, seconds = timed(partial(NormalMixture.fit, x, K, generator=generator))
                floor, kl = model.parameters_count / (2 * n), behind(truth, model, generator)
                cells = (f"{floor:.4f}", f"{kl:.4f}", f"{kl / floor:.2f}", f"{seconds:.1f}")
                print(row(name, n, seed, *cells), flush=True)


def starts(seeds: Sequence[int]) -> None:
    """Print which share of climbs reaches the best end seen, by where they start."""
    print(
        head("truth", "seed", "k-means++", "rows by lot", "the median climb by lot is lower by"), flush=True
    )
    for name, K in (("ring", 8), ("grid", 25)):
        for seed in seeds:
            generator = seeded(seed)
            x = truth_of(name).sample((2000,), generator=generator)
            far, lot = (heights(x, K, spread, generator) for spread in (True, False))
            gaps = [torch.maximum(far.max(), lot.max()) - ends for ends in (far, lot)]
            shares = [f"{(gap < 1e-3).double().mean():.2f}" for gap in gaps]
            print(row(name, seed, *shares, f"{gaps[1].median():.3f}"), flush=True)


def heights(x: Tensor, K: int, spread: bool, generator: Generator, climbs: int = 20) -> Tensor:
    """Where climbs end, in nats of a point, (climbs,)."""
    begin = partial(NormalMixture.started, x, K, spread=spread, generator=generator)
    ends = [climb(begin(), x, 500, pull=1e-3)[1][-1] for _ in range(climbs)]
    return torch.tensor(ends, **FLOAT) / len(x)


KS = (1, 2, 4, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 30)


def count(seeds: Sequence[int]) -> None:
    """Print how many components each criterion chooses, and the KL of that choice."""
    print(head("truth", "seed", "BIC", "held out", "KL"), flush=True)
    for name in ("ring", "pinwheel", "two_moons"):
        truth = truth_of(name)
        for seed in seeds:
            generator = seeded(seed)
            x, more = (truth.sample((n,), generator=generator) for n in (400, 200))
            costs = {}
            for K in KS:
                model = NormalMixture.fit(x, K, pull=0.01, starts=4, generator=generator)
                bic = 2 * model.loss(x).sum() + model.parameters_count * math.log(len(x))
                costs[K] = (bic.item(), model.loss(more).mean().item(), behind(truth, model, generator))
            chosen = [min(KS, key=lambda K, j=j: costs[K][j]) for j in range(3)]
            print(row(name, seed, *(f"{K}: {costs[K][-1]:.3f}" for K in chosen)), flush=True)


def of_digits(x: Tensor, generator: Generator) -> dict[str, Callable[[], Mixture]]:
    """How to learn each mixture of grey levels from images."""

    def learner(
        family: type[Mixture], *sizes: object, share: float = 0.0, **settings: object
    ) -> Callable[[], Mixture]:
        images, counts = data.shifts(x, share) if share else (x, None)
        return partial(family.fit, images, *sizes, levels=17, counts=counts, generator=generator, **settings)

    return {
        "one histogram": learner(CategoricalMixture, 1, steps=1),
        "20 histograms": learner(CategoricalMixture, 20, steps=40, pull=20.0),
        "100 bells": learner(LevelMixture, 100),
        "100 bells, share 0.2": learner(LevelMixture, 100, share=0.2),
        "200 bells, share 0.2": learner(LevelMixture, 200, share=0.2),
        "parts, 60 of 40, share 0.15": learner(PartsMixture, 60, 40, (2, 4), share=0.15),
    }


def digits(seeds: Sequence[int]) -> None:
    """Print the exact nats of whole levels of digits."""
    train, _, test = (part.images for part in data.digits())
    print(head("seed", "mixture", "numbers", "s", "test"), flush=True)
    for seed in seeds:
        for name, learn in of_digits(train, seeded(seed)).items():
            model, seconds = timed(learn)
            cells = (model.parameters_count, f"{seconds:.1f}", shown(model.loss(test)))
            print(row(seed, name, *cells), flush=True)


DUELS: dict[str, list[tuple[int, int]]] = {  # K and d of each layer
    "grid": [(5, 1), (5, 1)],
    "checkerboard": [(4, 2), (4, 2)],
    "pinwheel": [(5, 2), (3, 2)],
    "two_moons": [(4, 2), (4, 2)],
    "ring": [(4, 2), (4, 2)],
}


def shapes(x: Tensor, numbers: int, generator: Generator) -> NormalMixture:
    """The likeliest flat mixture of four shapes, each with the fewest components that have so many numbers."""
    found = []
    for kind in ("full", "tied", "diagonal", "round"):
        a, b = (NormalMixture.started(x, K, kind).parameters_count for K in (1, 2))
        K = 1 + math.ceil((numbers - a) / (b - a))
        found.append(NormalMixture.fit(x, K, kind, pull=1e-3, generator=generator))
    return max(found, key=lambda model: model.log_prob(x).mean().item())


def deep(seeds: Sequence[int]) -> None:
    """Print what a mixture in layers and a flat one of as many numbers cost."""
    print(head("truth", "seed", "layers", "numbers", "KL", "s", "flat", "numbers", "KL", "s"), flush=True)
    for name, sizes in DUELS.items():
        truth = truth_of(name)
        for seed in seeds:
            generator = seeded(seed)
            x = truth.sample((3000,), generator=generator)
            model, seconds = timed(partial(DeepMixture.fit, x, sizes, pull=1e-3, generator=generator))
            numbers = model.parameters_count
            cells = [sizes, numbers, f"{behind(truth, model, generator):.4f}", f"{seconds:.1f}"]
            flat, seconds = timed(partial(shapes, x, numbers, generator))
            cells += [f"{len(flat.weights)} {flat.kind}", flat.parameters_count]
            cells += [f"{behind(truth, flat, generator):.4f}", f"{seconds:.1f}"]
            print(row(name, seed, *cells), flush=True)


def gradient(seeds: Sequence[int]) -> None:
    """Print where a mixture in layers ends by either way of learning, from the same start."""
    print(head("seed", "start", "EM", "Adam"), flush=True)
    for seed in seeds:
        generator = seeded(seed)
        x = truth_of("ring").sample((500,), generator=generator)
        start = DeepMixture.started(x, [(3, 2), (3, 2)], generator=generator)
        raw = [
            [part.clone().requires_grad_() for part in (A, b, psi.log(), weights.log())]
            for A, b, psi, weights in start.layers
        ]

        def rebuilt(raw: list[list[Tensor]]) -> DeepMixture:
            return DeepMixture([Layer(A, b, psi.exp(), w.softmax(0)) for A, b, psi, w in raw])

        def loss(batch: Tensor, raw: list[list[Tensor]] = raw) -> Tensor:
            return rebuilt(raw).loss(batch)

        fit(loss, [part for layer in raw for part in layer], [x], 200, lr=0.05, progress=False)
        ends = (start, climb(start, x, 200, tol=0)[0], rebuilt(raw))
        print(row(seed, *(f"{model.log_prob(x).mean():.3f}" for model in ends)), flush=True)


Trace = tuple[Tensor, Tensor]  # seconds of the process, and nats of a row, after each pass
SECONDS, RATES, TIMES, GAPS = 2.0, (0.01, 0.03, 0.1, 0.3), (0.02, 0.1, 0.5, 2.0), (1e-3, 1e-5, 1e-8)


def apples(generator: Generator) -> tuple[Tensor, NormalMixture]:
    """The lesson's apples, (400, 1), and where its climb starts."""
    means, variances = torch.tensor([[-0.8], [0.8]], **FLOAT), torch.tensor([0.36, 0.64], **FLOAT)
    trees = NormalMixture(means, variances, [0.4, 0.6], "round")
    covariances = torch.tensor([[[0.48**2]], [[1.0]]], **FLOAT)
    start = NormalMixture(torch.tensor([[-1.2], [0.0]], **FLOAT), covariances)
    return trees.sample((400,), generator=generator), start


def heaps(generator: Generator) -> tuple[Tensor, NormalMixture]:
    """Points of the ring, (2000, 2), and a start by k-means++."""
    x = truth_of("ring").sample((2000,), generator=generator)
    return x, NormalMixture.started(x, 8, generator=generator)


def by_steps(x: Tensor, model: NormalMixture) -> Trace:
    """Expectation and maximisation; what each step reached is computed off the clock."""
    seconds, nats = [0.0], [model.loss(x).mean()]
    while seconds[-1] < SECONDS:
        began = time.process_time()
        model = model.improved(x)
        seconds.append(seconds[-1] + time.process_time() - began)
        nats.append(model.loss(x).mean())
    return torch.tensor(seconds), torch.stack(nats)


def by_slopes(
    x: Tensor, model: NormalMixture, optimizer: type[torch.optim.Optimizer], **settings: object
) -> Trace:
    """Gradients in logarithms of weights, means, and Cholesky factors with logarithms on their diagonals."""
    factor = torch.linalg.cholesky(model.covariances)
    raw = [
        model.weights.log(),
        model.means,
        factor.tril(-1) + factor.diagonal(dim1=1, dim2=2).log().diag_embed(),
    ]
    raw = [part.clone().requires_grad_() for part in raw]
    player, seconds, nats = optimizer(raw, **settings), [], []

    def closure() -> Tensor:
        player.zero_grad()
        logits, means, lower = raw
        factor = lower.tril(-1) + lower.diagonal(dim1=1, dim2=2).exp().diag_embed()
        loss = NormalMixture(means, factor @ factor.mT, logits.softmax(0)).loss(x).mean()
        seconds.append(time.process_time() - began)
        nats.append(loss.detach())
        loss.backward()
        return loss

    began = time.process_time()
    while not seconds or seconds[-1] < SECONDS:
        player.step(closure)
    return torch.tensor(seconds), torch.stack(nats)


def first(trace: Trace, nats: float) -> float:
    """Seconds until a trace is that low, infinite where it never is."""
    return trace[0][trace[1] <= nats].min().item() if (trace[1] <= nats).any() else math.inf


def lowest(trace: Trace, seconds: float) -> float:
    """The lowest nats of a trace by then."""
    return trace[1][trace[0] <= seconds].min().item()


def rivals(x: Tensor, start: NormalMixture) -> tuple[dict[str, Trace], float]:
    """The traces of the methods by their names, and the lowest nats that any reached."""
    search = {"max_iter": 5, "line_search_fn": "strong_wolfe", "tolerance_grad": 0, "tolerance_change": 0}
    adams = {f"Adam, {rate}": by_slopes(x, start, torch.optim.Adam, lr=rate) for rate in RATES}
    traces = {"EM": by_steps(x, start), "L-BFGS": by_slopes(x, start, torch.optim.LBFGS, **search)}
    best = min(lowest(trace, math.inf) for trace in (*traces.values(), *adams.values()))
    name = min(adams, key=lambda name: (first(adams[name], best + 1e-5), lowest(adams[name], math.inf)))
    return {**traces, name: adams[name]}, best


def speed(seeds: Sequence[int]) -> None:
    """Print how near three methods come in equal time, and how long they take to come near."""
    gaps = (f"gap, {seconds:g} s" for seconds in TIMES)
    print(head("data", "seed", "method", *gaps, *(f"ms to {gap:g}" for gap in GAPS), "ms a pass"), flush=True)
    for name, start in (("apples", apples), ("ring", heaps)):
        for seed in seeds:
            traces, best = rivals(*start(seeded(seed)))
            for method, trace in traces.items():
                left = (f"{lowest(trace, seconds) - best:.0e}" for seconds in TIMES)
                took = (1000 * first(trace, best + gap) for gap in GAPS)
                cells = (f"{ms:.0f}" if ms < math.inf else "–" for ms in took)
                a_pass = f"{1000 * trace[0][-1] / len(trace[0]):.2f}"
                print(row(name, seed, method, *left, *cells, a_pass), flush=True)


def clouds(generator: Generator) -> NormalMixture:
    """Three heaps in four dimensions, of which all entries hang together."""
    slopes = torch.randn(3, 4, 4, generator=generator, **FLOAT)
    covariances = 0.5 * slopes @ slopes.mT + 0.1 * torch.eye(4, **FLOAT)
    return NormalMixture(2 * torch.randn(3, 4, generator=generator, **FLOAT), covariances)


def ways(x: Tensor, seen: Tensor, generator: Generator) -> Iterator[tuple[str, NormalMixture]]:
    """Mixtures learnt from rows of which some entries are lost, by the way."""
    fit = partial(NormalMixture.fit, components=3, pull=0.01, generator=generator)
    yield "whole rows", fit(x[seen.all(1)])
    yield "column means", fit(torch.where(seen, x, (x * seen).sum(0) / seen.sum(0)))
    model = best = fit(x, seen=seen)
    for _ in range(40):
        model = model.improved(model.filled(x, seen), 0.01)
    yield "no doubt", model
    yield "EM", best
    yield "nothing lost", fit(x)


def missing(seeds: Sequence[int]) -> None:
    """Print the KL of five ways to learn from a table with missing entries."""
    print(head("seed", "whole rows", "column means", "no doubt", "EM", "nothing lost"), flush=True)
    for seed in seeds:
        generator = seeded(seed)
        truth = clouds(generator)
        x, fresh = (truth.sample((n,), generator=generator) for n in (1000, 100_000))
        seen = torch.rand(x.shape, generator=generator) > 0.3
        kls = ((truth.log_prob(fresh) + model.loss(fresh)).mean() for _, model in ways(x, seen, generator))
        print(row(seed, *(f"{kl:.3f}" for kl in kls)), flush=True)


def one_pass(start: NormalMixture, first: Tensor, batches: Sequence[Tensor], power: float) -> NormalMixture:
    """On-line steps with shares of the −power of t, from 2 on."""
    model, sums = start, start.moments(first)
    for t, x in enumerate(batches, 2):
        sums = blend(sums, model.moments(x), t**-power)
        model = model.maximised(sums)
    return model


def after(start: NormalMixture, x: Tensor, steps: int) -> NormalMixture:
    """So many steps with all data."""
    return reduce(lambda model, _: model.improved(x), range(steps), start)


def online(seeds: Sequence[int]) -> None:
    """Print the KL after one pass over the data, and after 60 steps with all of them."""
    print(head("seed", "start", "1 / t", "s", "t to the −0.6", "s", "all data", "s"), flush=True)
    truth = truth_of("ring")
    for seed in seeds:
        generator = seeded(seed)
        x = truth.sample((20_000,), generator=generator)
        start = NormalMixture.fit(x[:200], 8, pull=0.01, generator=generator)
        passed = partial(one_pass, start, x[:200], x[200:].split(40))
        jobs = (partial(passed, 1.0), partial(passed, 0.6), partial(after, start, x, 60))
        cells = [f"{behind(truth, start, seeded(1000 + seed)):.4f}"]
        for job in jobs:
            model, seconds = timed(job)
            cells += [f"{behind(truth, model, seeded(1000 + seed)):.5f}", f"{seconds:.1f}"]
        print(row(seed, *cells), flush=True)


REPORTED = [20, 21, 22, 23, 24]
TABLES: dict[str, tuple[Callable[[Sequence[int]], None], list[int]]] = {
    "recover": (recover, [0, 1, 2, 3, 4, *REPORTED]),
    "starts": (starts, REPORTED),
    "count": (count, REPORTED),
    "digits": (digits, REPORTED),
    "deep": (deep, REPORTED[:3]),
    "gradient": (gradient, list(range(20, 32))),
    "speed": (speed, REPORTED),
    "missing": (missing, REPORTED),
    "online": (online, REPORTED),
}


def main() -> None:
    """Print the table that the command line names."""
    chosen = asked(__doc__, {name: seeds for name, (_, seeds) in TABLES.items()})
    TABLES[chosen.table][0](chosen.seeds)


if __name__ == "__main__":
    main()
