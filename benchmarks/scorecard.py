"""The scorecard's runs: every family on every target, over seeds.

    python benchmarks/scorecard.py run     # all runs into genlib/scorecard/results/runs.csv: about 40 minutes
    python benchmarks/scorecard.py tune    # how the settings on points were chosen: about 12 minutes

`run` works on two cores, one run on each, and saves after every run. Stop it with Ctrl-C, and the same command goes on
where it stopped. Seconds are those of the processor's clock, so another program at work disturbs them little.

`tune` gave every family that is trained step by step the same care: six settings drawn at random from the same
ranges, each with the full budget of time (six seconds when it was done) on two targets. The judge is D_KL where there
is a density, and a classifier where there is none. Its seed is 100, so its data are not those of `run`. It prints a
Markdown table, and changes nothing; the best settings stand in `genlib.scorecard.points`. The two controls have those
of the affine flow.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
from tqdm import tqdm

from genlib import scorecard
from genlib.scorecard import points

SEEDS = range(5)
SHARES = (1 / 16, 1 / 4, 1.0)
BUDGET = 5.0  # seconds of training on points; on digits it is 16
CONTROLS = ("masked map", "free map")
KEPT = {"digits": 32}  # samples to show; 400 points elsewhere


def plan(seeds: Sequence[int]) -> Iterator[tuple[str, str, int, float]]:
    """All runs: model, target, seed and share of the budget.

    Everything is run with the full budget, except that the rings in higher dimensions and the two controls get a
    quarter. On points of the plane and on digits, parts of the budget are run too.
    """
    for target, goal in scorecard.TARGETS.items():
        high = target.startswith("ring in")
        for (model, recipe), seed in itertools.product(
            ((scorecard.TRUTH, None), *goal.recipes.items()), seeds
        ):
            if high and model in ("table", *CONTROLS):
                continue  # a table of 100 cells along each of 8 axes has 10^16
            if recipe is None or recipe.steps is None:
                shares = (1.0,)
            elif high or model in CONTROLS:
                shares = (1 / 4,)
            else:
                shares = (1 / 4, 1.0) if target == "digits" else SHARES
            yield from ((model, target, seed, share) for share in shares)


def one(job: tuple[str, str, int, float]) -> scorecard.Result:
    """Make one run, on one core."""
    torch.set_num_threads(1)
    return scorecard.run(*job)


def pool(workers: int) -> ProcessPoolExecutor:
    """Processes that keep to one core each: scikit-learn's threads would wait for each other, and burn the clock."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def run(seeds: Sequence[int], path: Path, workers: int) -> None:
    """Make all runs that the table does not have yet, and save after each."""
    rows, samples = [], {}
    if path.exists():
        rows = scorecard.load(path)
        if path.with_suffix(".npz").exists():
            samples = scorecard.load_samples(path)
    done = set(map(scorecard.key, rows))
    todo = [job for job in plan(seeds) if job not in done]
    scorecard.versions([*rows, *(scorecard.Row(*job) for job in todo)])  # refuses to mix them within a model
    todo.sort(key=lambda job: -job[3])  # the long ones first, so that both cores end together
    start = time.perf_counter()
    with pool(workers) as processes:
        futures = [processes.submit(one, job) for job in todo]
        try:
            for future in tqdm(as_completed(futures), total=len(todo), unit="run"):
                row, drawn = future.result().row, future.result().samples
                if row.seed == 0 and row.share == 1 and drawn is not None:
                    samples[row.model, row.target] = drawn[: KEPT.get(row.target, 400)]
                    scorecard.save_samples(samples, path)
                rows.append(row)
                scorecard.save(sorted(rows, key=scorecard.key), path)
        except KeyboardInterrupt:
            processes.shutdown(cancel_futures=True)
            raise SystemExit(
                f"stopped; {len(rows)} runs are saved in {path}, the same command goes on"
            ) from None
    print(f"{len(todo)} runs in {(time.perf_counter() - start) / 60:.1f} minutes; {len(rows)} in {path}")


SPACE = {"lr": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2), "batch": (128, 256, 512), "average": (0.99, 0.998)}
WEIGHTS = (10.0, 1.0, 0.1, (10.0, 0.001))  # of the penalty, for the one family that has it
TUNED_ON, TRIALS, TUNING_SEED = ("checkerboard", "ring"), 6, 100


def trials(model: str) -> list[dict[str, object]]:
    """The settings to try for a family: different draws from the ranges."""
    space = SPACE | ({"weight": WEIGHTS} if "weight" in points.RECIPES[model].settings else {})
    every = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(TUNING_SEED))
    return [every[i] for i in order[:TRIALS].tolist()]


def steps_for(recipe: scorecard.Recipe, seconds: float) -> int:
    """How many steps of a recipe fit into so many seconds, on points of the plane."""
    x = torch.randn(scorecard.protocol.SEEN, 2)
    times = []
    for steps in (
        20,
        20,
        120,
    ):  # the first is slower, and the difference of the others leaves out what is done once
        start = time.process_time()
        recipe.train(x, steps, **recipe.settings)
        times.append(time.process_time() - start)
    return round(100 * seconds / (times[2] - times[1]))


def trial(job: tuple[str, dict[str, object]]) -> tuple[str, dict[str, object], int, list[float]]:
    """Try one setting of a family on each target: D_KL where there is a density, else how surely it is told apart."""
    torch.set_num_threads(1)
    torch.manual_seed(TUNING_SEED)
    model, settings = job
    recipe = dataclasses.replace(points.RECIPES[model], settings=settings)
    recipe = dataclasses.replace(recipe, steps=steps_for(recipe, BUDGET))
    rows = [scorecard.run(f"{model}, tried", on, TUNING_SEED, recipe=recipe).row for on in TUNED_ON]
    judged = [row.told_apart if row.kl is None else row.kl for row in rows]
    return model, settings, recipe.steps, [math.inf if value is None else value for value in judged]


def tune(models: Sequence[str], workers: int) -> None:
    """Print every trial."""
    print(f"| family | settings | steps in {BUDGET:g} s | {' | '.join(TUNED_ON)} | mean |")
    print("| --- " * (4 + len(TUNED_ON)) + "|")
    jobs = [(model, settings) for model in models for settings in trials(model)]
    with pool(workers) as processes:
        for model, settings, steps, found in processes.map(trial, jobs):
            told = ", ".join(f"{name} {value}" for name, value in settings.items())
            cells = " | ".join(f"{value:.4f}" for value in (*found, statistics.fmean(found)))
            print(f"| {model} | {told} | {steps} | {cells} |", flush=True)


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stepwise = [name for name, recipe in points.RECIPES.items() if recipe.steps and name not in CONTROLS]
    parser.add_argument("what", choices=["run", "tune"])
    parser.add_argument("--out", type=Path, default=scorecard.STORED, help="the table, for run")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="0 to 4 unless told")
    parser.add_argument("--models", nargs="+", default=stepwise, choices=stepwise, help="for tune")
    parser.add_argument("--workers", type=int, default=2, help="how many cores; 2 unless told")
    chosen = parser.parse_args()
    try:
        if chosen.what == "run":
            run(chosen.seeds, chosen.out, chosen.workers)
        else:
            tune(chosen.models, chosen.workers)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
