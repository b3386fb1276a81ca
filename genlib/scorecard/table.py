"""The table of all runs, as a file: read with care, and never left half written."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import get_type_hints

import numpy as np
import torch
from torch import Tensor

from genlib.scorecard.protocol import COLUMNS, MODELS, PROTOCOL, TARGETS, Row

STORED = Path(str(files("genlib.scorecard"))) / "results" / "runs.csv"
"""The runs that come with the book, made by ``python benchmarks/scorecard.py run``."""

KINDS = {
    name: next(kind for kind in (int, float, str) if kind.__name__ in str(hint))
    for name, hint in get_type_hints(Row).items()
}


def key(row: Row) -> tuple[str, str, int, float]:
    """What tells a run from others: model, target, seed and share."""
    return row.model, row.target, row.seed, row.share


def load(path: str | Path = STORED) -> list[Row]:
    """Read the rows of a file. The file is not changed.

    Raises:
        ValueError: the file is damaged or half written, was made by another protocol, or names an unknown model or
            target. The message names the line.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path must name a table of runs, got {path}: no such file")
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: it is no text") from error
    if not text.endswith("\n"):
        raise ValueError(f"{path} is half written: its last line has no end")
    try:
        head, *lines = csv.reader(io.StringIO(text, newline=""))
    except csv.Error as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if tuple(head) != COLUMNS:
        strange = sorted(set(head) ^ set(COLUMNS))
        raise ValueError(
            f"{path} is damaged or of another version: its columns are not those of protocol {PROTOCOL}"
            + f" ({', '.join(strange)})" * bool(strange)
        )
    rows = [_row(cells, f"{path}, line {number}") for number, cells in enumerate(lines, 2)]
    seen: set[tuple] = set()
    for number, row in enumerate(rows, 2):
        if key(row) in seen:
            raise ValueError(f"{path}, line {number}: this run stands in the table twice")
        seen.add(key(row))
    return rows


def select(rows: Iterable[Row], **where: object) -> list[Row]:
    """The rows whose cells have these values, as in ``select(rows, model="VAE", share=1)``.

    Raises:
        ValueError: a name is not that of a column, or no row is left.
    """
    found = _where(rows, where)
    if not found:
        raise ValueError(f"where must leave a row, got none with {where}")
    return found


def column(rows: Iterable[Row], name: str) -> Tensor:
    """One column as numbers (n,) float64; infinite where the run has none, as one that broke down.

    Raises:
        ValueError: the column is unknown or holds no numbers.
    """
    if KINDS.get(name) not in (int, float):
        raise ValueError(f"name must be that of a column of numbers, got {name!r}")
    cells = [getattr(row, name) for row in rows]
    return torch.tensor([math.inf if cell is None else cell for cell in cells], dtype=torch.float64)


def mean(rows: Iterable[Row], name: str, **where: object) -> float:
    """Mean of a column of numbers over the rows with these values; NaN without such rows, or if one lacks the number.

    Raises:
        ValueError: a name is not that of a column, or this one holds no numbers.
    """
    value = column(_where(rows, where), name).mean().item()
    return value if math.isfinite(value) else math.nan


def save(rows: Iterable[Row], path: str | Path) -> None:
    """Write the rows. The file is replaced as a whole, when all is written.

    Raises:
        ValueError: a row holds NaN. The file is not changed.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        if any(isinstance(value, float) and math.isnan(value) for value in asdict(row).values()):
            raise ValueError(f"rows must not hold NaN, got {row}")
        writer.writerow([_written(value) for value in asdict(row).values()])
    _replace(Path(path), text.getvalue().encode())


def load_samples(path: str | Path = STORED) -> dict[tuple[str, str], Tensor]:
    """Read the samples that lie beside a table: (model, target) → the first points or images of seed 0, full budget."""
    with np.load(Path(path).with_suffix(".npz")) as stored:
        return {
            tuple(name.split("/")): torch.from_numpy(stored[name].astype(np.float32)) for name in stored.files
        }


def save_samples(samples: Mapping[tuple[str, str], Tensor], path: str | Path) -> None:
    """Write samples beside a table, points with 16 bits each and grey levels with 8."""
    bits = {
        "/".join(name): x.numpy().astype(np.uint8 if x.ndim == 3 else np.float16)
        for name, x in samples.items()
    }
    packed = io.BytesIO()
    np.savez_compressed(packed, **bits)
    _replace(Path(path).with_suffix(".npz"), packed.getvalue())


def versions(rows: Iterable[Row]) -> dict[str, tuple[str, str]]:
    """Versions of torch and Python with which each model's rows were made; each row tells its own.

    A family that comes later may have later versions than the others. The rows of one family have one.

    Raises:
        ValueError: the rows of a model were made with different versions, so that its seeds and targets do not compare.
    """
    found: dict[str, tuple[str, str]] = {}
    for row in rows:
        made = (row.torch, row.python)
        if found.setdefault(row.model, made) != made:
            first, second = (
                f"torch {torch} and Python {python}" for torch, python in (found[row.model], made)
            )
            raise ValueError(
                f"rows of {row.model} were made with {first} and with {second}: they would not compare. Write to "
                "another file, or make all runs of this model again"
            )
    return found


def _where(rows: Iterable[Row], where: Mapping[str, object]) -> list[Row]:
    strange = [name for name in where if name not in COLUMNS]
    if strange:
        raise ValueError(f"where must name columns, {', '.join(COLUMNS)}, got {strange[0]!r}")
    return [row for row in rows if all(getattr(row, name) == value for name, value in where.items())]


def _row(cells: list[str], where: str) -> Row:
    if len(cells) != len(COLUMNS):
        raise ValueError(
            f"{where}: damaged or half written, {len(cells)} cells where {len(COLUMNS)} are expected"
        )
    values: dict[str, object] = {}
    for name, cell in zip(COLUMNS, cells, strict=True):
        try:
            values[name] = None if cell == "" else KINDS[name](cell)
        except ValueError as error:
            raise ValueError(f"{where}: damaged, {name} is {cell!r}") from error
        if isinstance(values[name], float) and math.isnan(values[name]):
            raise ValueError(f"{where}: damaged, {name} is not a number")
    for name in ("model", "target", "seed", "share", "torch", "python", "protocol"):
        if values[name] is None:
            raise ValueError(f"{where}: damaged, {name} is empty")
    row = Row(**values)
    if row.protocol != PROTOCOL:
        raise ValueError(
            f"{where}: made by protocol {row.protocol}, this is protocol {PROTOCOL}: the two do not compare"
        )
    if row.seed < 0 or not 0 < row.share <= 1 or row.density not in (None, "exact", "bound", "none"):
        raise ValueError(f"{where}: damaged, seed {row.seed}, share {row.share}, density {row.density!r}")
    if row.target not in TARGETS or row.model not in MODELS:
        raise ValueError(f"{where}: unknown model or target, {row.model!r} on {row.target!r}")
    return row


def _written(value: object) -> str:
    """A cell: floats with six digits."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another in one go, so that no interrupt can leave half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
