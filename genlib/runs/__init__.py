"""Stored runs: what a lesson compares and cannot train again within its minute.

Each file is made by the benchmark that its rows name in the first line, which is a comment.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path

FOLDER = Path(str(files("genlib.runs")))


def load(name: str) -> list[dict[str, str | float]]:
    """Read the rows of a stored table; what reads as a number is one.

    Args:
        name: of the file, without its suffix, such as "ring_games".

    Raises:
        ValueError: there is no such table.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.csv"))
    if name not in known:
        raise ValueError(f"name must be one of {', '.join(known)}, got {name!r}")
    path = FOLDER / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        lines = (line for line in file if not line.startswith("#"))
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(lines)]


def save(path: Path, rows: Iterable[Mapping[str, str | float]], made_by: str) -> None:
    """Write rows of one form, after a comment that says what made them.

    Raises:
        ValueError: there are no rows.
    """
    rows = list(rows)
    if not rows:
        raise ValueError("rows must hold at least one row")
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# {made_by}\n")
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
