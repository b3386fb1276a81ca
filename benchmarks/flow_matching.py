"""What the lesson on flow matching claims, over seeds.

    python benchmarks/flow_matching.py calls      # samples of few calls: flow matching and diffusion
    python benchmarks/flow_matching.py coupled    # eight normals to two moons, ours and torchcfm
    python benchmarks/flow_matching.py densities  # D_KL(truth‖model) of one network, as score and as velocity

Each prints Markdown tables, on one core. Seconds are of training alone and count what the process used. `coupled`
compares with torchcfm (https://github.com/atong01/conditional-flow-matching): python -m pip install -e ".[bench]".

How `calls` is made fair. All networks have one shape, `nets.PlaneNet` of width 128, whose output fades near the data
for scores alone; one learning rate, chosen for both kinds on seeds 0 and 1; and all models have about equal time.
Their steps are fixed, so that a run can be repeated: measured once, by turns, a step took 2.6 ms with the pairing,
1.3 ms with independent or given pairs and 1.2 ms for diffusion, and `STEPS` has how many fit into 4 s. Rectified flow
has half of the time for its first flow; the making of its pairs is not counted. Flows make steps of Euler. Diffusion
makes its calls by the exponential integrator of order 1 (DDIM) and of order 2, on a schedule for few calls that was
chosen on seeds 0 and 1: its last step starts at the level 0.15, in units of the data's deviation. A flow of
independent pairs is a diffusion in other coordinates, so that one network is sampled in both ways, and the rows tell
what the solver does. All samples of a target and seed are compared with the same 10,000 true points, and the floor is
the mean of three other true samples.

In `coupled` both models pair by exact optimal transport within a batch, and make 500 steps on the same data.

In `densities` both models have the same weights at the start, 2,000 steps, and the same draws of the same table of
targets, made of as many points as in `benchmarks/sde.py plane`. A squared error of the velocity is one of the score
times (κ + κ²)², and the weight makes up for it. Densities are followed from κ = 0.004 to 5 in 28 steps that are even in
log κ: of the score model in its own coordinate, of the other along the straight path.
"""

from __future__ import annotations

import copy
import itertools
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from genlib import data, metrics, nets, score, sde
from genlib._shapes import evaluating, squared
from genlib.flow_matching import FlowMatching, Preconditioned, ToldLevel, assign, rectified, ways
from genlib.training import fit, fresh_batches

sys.path.insert(0, str(Path(__file__).parent))
from flows import TARGETS
from sde import ADAM, FIRST, LAST, InPlane
from tables import asked, head, row, seeded, spent

BATCH = 128
FEW = {**ADAM, "lr": 1.5e-2, "average": 0.998}
STEPS = {"optimal transport": 1540, "independent pairs": 3000, "diffusion": 3250, "rectified": (1500, 1500)}
LEVELS = {"last": 0.15, "power": 7.0}  # of the schedule of diffusion, for few calls
SHORT = sde.VarianceExploding(0.002, FIRST)
COUPLED_STEPS, TABLE_STEPS = 500, 2000
LEAST = LAST / (1 + LAST)  # the time of the last level on the straight path


def trained(
    model: nn.Module,
    loss: Callable[[nn.Module, Tensor], Tensor],
    batches: Callable[[], Iterable[Tensor]],
    steps: int,
    **settings: object,
) -> float:
    """Train, and return the seconds of the process that it took."""
    return spent(lambda: fit(partial(loss, model), model, batches(), steps, **settings))


def net() -> ToldLevel:
    """The velocity of `calls` and `coupled`."""
    return ToldLevel(nets.PlaneNet(knee=None))


def models_of_few_calls(plane: InPlane) -> Iterable[tuple[str, nn.Module, float]]:
    """Four models of equal width and about equal time, with the seconds."""

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        return model.loss(plane.standard(x))

    batches = partial(plane.batches, BATCH)
    for name, make in {
        "optimal transport": lambda: FlowMatching(net(), (2,), coupling=assign),
        "independent pairs": lambda: FlowMatching(net(), (2,)),
        "diffusion": lambda: sde.ScoreSDE(nets.PlaneNet(), (2,), SHORT, 0.02),
    }.items():
        torch.manual_seed(plane.seed)
        model = make()
        yield name, model, trained(model, loss, batches, STEPS[name], **FEW)

    torch.manual_seed(plane.seed)
    first = FlowMatching(net(), (2,))
    steps_first, steps_second = STEPS["rectified"]
    spent_first = trained(first, loss, batches, steps_first, **FEW)
    pairs = torch.stack(rectified(first, 20_000, 15, generator=seeded(plane.seed)), 1)  # (n, 2, 2)
    second = copy.deepcopy(first)

    def some() -> Iterable[Tensor]:
        rows = seeded(plane.seed)
        while True:
            yield pairs[torch.randint(len(pairs), (BATCH,), generator=rows)]

    spent_second = trained(second, lambda m, x: m.loss_of_pairs(*x.unbind(1)), some, steps_second, **FEW)
    yield "rectified", second, spent_first + spent_second


def score_of(flow: FlowMatching) -> Callable[[Tensor, float], Tensor]:
    """The score of noised data at y, (B, 2), and a level κ, from a velocity on the straight path.

    It is followed at x = (1 − t) y with t = κ/(1 + κ).
    """

    def score(y: Tensor, kappa: float) -> Tensor:
        t = kappa / (1 + kappa)
        x = (1 - t) * y
        return (1 - t) * flow.path.to_score(flow.velocity(x, t), x, t)

    return score


def backward(model: nn.Module, n: int, calls: int, seed: int, order: int = 2) -> Tensor:
    """Samples (n, 2) of some calls of a score model, or a flow of independent pairs: exponential integrator."""
    score = score_of(model) if isinstance(model, FlowMatching) else model.score
    start = math.hypot(1, FIRST) * torch.randn(n, 2, generator=seeded(seed))
    times = [*SHORT.schedule(calls - 1, **LEVELS), 0.0] if calls > 1 else [1.0, 0.0]
    with torch.no_grad():
        return sde.exponential(SHORT, SHORT.at_level(score), start, times, order=order)


def forward(model: FlowMatching, n: int, calls: int, seed: int) -> Tensor:
    """Samples (n, 2) of some calls by even steps of Euler."""
    return model.sample((n,), calls, generator=seeded(seed))


WAYS = {  # how the samples of a model are drawn: the name of a row, and what draws
    "optimal transport": {"assigned": forward},
    "independent pairs": {"by lot": forward, "by lot, order 2": backward},
    "rectified": {"rectified": forward},
    "diffusion": {"diffusion, order 1": partial(backward, order=1), "diffusion, order 2": backward},
}


def over_seeds(values: Sequence[float], digits: int = 3) -> str:
    """Mean ± deviation."""
    return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def calls(seeds: Sequence[int], targets: Sequence[str]) -> None:
    """Print sliced Wasserstein distances to the truth by calls of the network, beside the floor, in data units."""
    counts = (1, 2, 4, 8, 16)
    columns = ("floor", *(f"{k} calls" for k in counts), "s")
    print(head("target", "model", "seed", *columns))
    found = defaultdict(list)  # of target and model, a row for each seed
    for target, seed in itertools.product(targets, seeds):
        plane = InPlane(target, seed)
        truth, *others = plane.source.sample((40_000,), generator=seeded(3 * seed + 2)).split(10_000)

        def distance(x: Tensor, truth: Tensor = truth) -> float:
            return metrics.sliced_wasserstein(x, truth, generator=seeded(0))

        floor = statistics.fmean(map(distance, others))
        for trained_as, model, took in models_of_few_calls(plane):
            for name, draw in WAYS[trained_as].items():
                crowds = (plane.shift + plane.scale * draw(model, 10_000, k, seed) for k in counts)
                values = [floor, *map(distance, crowds), took]
                found[target, name].append(values)
                print(row(target, name, seed, *(f"{v:.3f}" for v in values)), flush=True)
    if len(seeds) > 1:
        print("\nMean ± deviation over seeds\n")
        print(head("target", "model", *columns))
        for (target, name), rows in found.items():
            print(row(target, name, *map(over_seeds, zip(*rows, strict=True))), flush=True)


def velocity_loss(model: FlowMatching, table: sde.NoisedTable) -> Tensor:
    """Squared distance of a velocity on the straight path from that of a table's scores, weighted alike, (256,).

    Level κ is the time t = κ/(1 + κ), and the place x of the table is (1 − t) x.
    """
    x, kappa, slope, weight = table.draw(256)
    t = kappa / (1 + kappa)
    x, slope = (1 - t)[:, None] * x, slope / (1 - t)[:, None]
    gap = model.velocity(x, t) - model.path.from_score(slope, x, t)
    return weight / (kappa * (1 + kappa)) ** 2 * squared(gap)


def log_prob(model: FlowMatching, plane: InPlane, x: Tensor) -> Tensor:
    """Log-density of data by the flow on the straight path up to the level 5, (B, 2) → (B,), in nats."""
    kappa = score.geometric_levels(FIRST, LAST, 29).flip(0).double()
    times, scale = kappa / (1 + kappa), 1 - LEAST
    base = Independent(Normal(torch.zeros(2), math.hypot(1, FIRST) / (1 + FIRST)), 1)
    with evaluating(model):
        z = scale * plane.standard(x)
        log_z = torch.cat([sde.log_prob(model.velocity, part, times, base) for part in z.split(1000)])
    return log_z + 2 * math.log(scale) - plane.scale.log().sum()


def densities(seeds: Sequence[int], targets: Sequence[str]) -> None:
    """Print D_KL(truth‖model) in nats of one network taught as a score and as a velocity, from the same draws."""
    print(head("target", "seed", "learns", "D_KL", "s"))
    for target, seed in itertools.product(targets, seeds):
        plane = InPlane(target, seed)
        x, table = plane.judges(5000), plane.table()
        truth = plane.source.log_prob(x)

        def judged(name: str, log_q: Tensor, took: float, before: tuple = (target, seed, truth)) -> None:
            target, seed, truth = before
            kl = metrics.estimate(truth - log_q)
            print(row(target, seed, name, f"{kl.value:.4f} ± {kl.stderr:.4f}", f"{took:.1f}"), flush=True)

        torch.manual_seed(seed)
        of_score = plane.score_model()
        flow = FlowMatching(Preconditioned(copy.deepcopy(of_score.net)), (2,))

        torch.manual_seed(seed)
        took = spent(lambda m=of_score, p=plane, t=table: p.from_table(m, t, TABLE_STEPS))
        judged("score", plane.log_prob(of_score, x), took)

        torch.manual_seed(seed)
        nothing = partial(itertools.repeat, torch.zeros(1))
        took = trained(flow, lambda m, _, t=table: velocity_loss(m, t), nothing, TABLE_STEPS, **ADAM)
        judged("velocity", log_prob(flow, plane, x), took)


def wasserstein(x: Tensor, y: Tensor) -> float:
    """2-Wasserstein distance of two samples of one size, in data units."""
    cost = torch.cdist(x, y).square().numpy()
    return math.sqrt(cost[linear_sum_assignment(cost)].mean())


def coupled(seeds: Sequence[int], _: Sequence[str]) -> None:
    """Print 2-Wasserstein distance and energy of ways, eight normals to two moons."""
    try:
        from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
    except ImportError as error:
        raise SystemExit('torchcfm is missing: python -m pip install -e ".[bench]"') from error
    moons, base = data.two_moons(), data.ring(scale=0.2)
    matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)

    def theirs(model: FlowMatching, x: Tensor) -> Tensor:
        noise = base.sample((len(x),))
        t, place, velocity = matcher.sample_location_and_conditional_flow(x, noise)
        return squared(model.velocity(place, t) - velocity)

    losses = {"ours": lambda model, x: model.loss(x), "torchcfm": theirs}
    columns = ("2-Wasserstein", "floor", "energy", "least energy", "bend", "s")
    print(head("pairs by", "seed", *columns))
    found = defaultdict(list)
    for seed in seeds:
        truth, other, start = (
            source.sample((1500,), generator=seeded(3 * seed + k))
            for k, source in enumerate((moons, moons, base))
        )
        floor, least = wasserstein(other, truth), wasserstein(start, truth) ** 2
        for name, loss in losses.items():
            torch.manual_seed(seed)
            model = FlowMatching(net(), (2,), base=base, coupling=assign)
            batches = partial(fresh_batches, moons, BATCH, generator=seeded(seed))
            took = trained(model, loss, batches, COUPLED_STEPS, **FEW)
            way = ways(lambda x, t, m=model: m.velocity(x, t).detach(), start, 25)
            energy, bend = way.energy.mean().item(), way.bend.mean().item()
            values = [wasserstein(way.x_0, truth), floor, energy, least, bend, took]
            found[name].append(values)
            print(row(name, seed, *(f"{v:.3f}" for v in values)), flush=True)
    if len(seeds) > 1:
        print("\nMean ± deviation over seeds\n")
        print(head("pairs by", *columns))
        for name, rows in found.items():
            print(row(name, *map(over_seeds, zip(*rows, strict=True))), flush=True)


FRESH = [25, 26, 27, 28, 29]
SEEDS = {"calls": FRESH, "coupled": FRESH, "densities": [24, 25]}
CHOSEN = {"calls": ["two moons", "ring"]}


def main() -> None:
    """Print the table that the command line names."""
    about = {"nargs": "+", "choices": list(TARGETS), "help": "of calls and densities"}
    chosen = asked(__doc__, SEEDS, targets=about)
    targets = chosen.targets or CHOSEN.get(chosen.table, list(TARGETS))
    {"calls": calls, "coupled": coupled, "densities": densities}[chosen.table](chosen.seeds, targets)


if __name__ == "__main__":
    main()
