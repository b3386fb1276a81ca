"""What the benchmarks share: rows of Markdown tables, seconds, seeds, and the command line that names a table."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from genlib.metrics import estimate

T = TypeVar("T")


def row(*cells: object) -> str:
    """One row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(*names: str) -> str:
    """The first two rows of a table."""
    return f"{row(*names)}\n{row(*['---'] * len(names))}"


def seeded(seed: int) -> torch.Generator:
    """A generator that begins there: the same batches for every model."""
    return torch.Generator().manual_seed(seed)


def spent(job: Callable[[], object]) -> float:
    """Seconds of the process that a job takes."""
    start = time.process_time()
    job()
    return time.process_time() - start


def timed(job: Callable[[], T]) -> tuple[T, float]:
    """What a job makes, and seconds of the process."""
    made: list[T] = []
    seconds = spent(lambda: made.append(job()))
    return made[0], seconds


def shown(values: Tensor, digits: int = 2) -> str:
    """Mean ± standard error over examples."""
    mean, error = estimate(values)
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def per_step(jobs: Sequence[Callable[[int], object]], rounds: int = 3, steps: int = 12) -> list[float]:
    """Least seconds a step of each job, by turns."""
    for job in jobs:
        job(5)  # the first steps are slower than the rest
    times = [[spent(partial(job, steps)) / steps for job in jobs] for _ in range(rounds)]
    return [min(column) for column in zip(*times, strict=True)]


def asked(
    about: str | None, seeds: Mapping[str, Sequence[int]], **options: Mapping[str, object]
) -> argparse.Namespace:
    """Read which table the command line names, and its seeds, and let torch keep to one core.

    Args:
        about: what the benchmark is; the docstring of its module.
        seeds: of each table, unless told.
        options: further options by name, as `ArgumentParser.add_argument` takes them.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(seeds))
    parser.add_argument("--seeds", type=int, nargs="+", help="fresh ones unless told")
    for name, settings in options.items():
        parser.add_argument(f"--{name}", **settings)
    chosen = parser.parse_args()
    chosen.seeds = chosen.seeds or list(seeds[chosen.table])
    torch.set_num_threads(1)
    return chosen
