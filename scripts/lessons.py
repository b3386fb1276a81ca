"""Run lessons and compare them with their stored outputs: `python scripts/lessons.py [name ...]`.

As many at a time as there are cores, up to four, and the longest first, so that the cores end together; how long a
lesson runs is what it states itself. It passes when every one of its code cells was run and gave the text that is
stored.

--changed leaves out the lessons that would do again what they did when they last passed. Each has a key: a SHA-256 over
its code cells, their tags and stored text, what it reaches of genlib (scripts/changed.py), the packages, Python, the
processor's kind, and how it is run. The keys of the lessons that passed are kept in .test-passed/.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.changed import Library  # noqa: E402
from scripts.execute import choose  # noqa: E402

NBVAL = ["-m", "pytest", "--nbval", "--color=no", "-p", "no:cacheprovider"]
NOT_COMPARED = (
    "image/png",
    "image/jpeg",
    "application/vnd.jupyter.widget-view+json",
)  # kinds of output, by nbval
PASSED = ".test-passed"  # the folder of the keys
WORKERS = min(4, os.cpu_count() or 1)


# The order ---------------------------------------------------------------------------------------------------


def seconds(path: Path) -> int:
    """How long the cells of a lesson run, as its line on time says; a minute if it says nothing."""
    said = re.search(r"the cells run in about (\d+) s", path.read_text(encoding="utf-8"))
    return int(said[1]) if said else 60


def longest_first(paths: list[Path]) -> list[Path]:
    """The lessons from the longest to the shortest, so that the cores end together."""
    return sorted(paths, key=lambda path: (-seconds(path), path.name))


def shard(paths: list[Path], part: int, parts: int) -> list[Path]:
    """The lessons of one of several machines that share them, `part` of 1 to `parts`: each goes to the least laden."""
    shares: list[list[Path]] = [[] for _ in range(parts)]
    laden = [0] * parts
    for path in longest_first(paths):
        least = laden.index(min(laden))
        shares[least].append(path)
        laden[least] += seconds(path)
    return shares[part - 1]


# What a run depends on ---------------------------------------------------------------------------------------


@functools.cache
def environment() -> dict[str, object]:
    """What all lessons depend on: packages, Python, the processor's kind, and how they are run."""
    import torch  # takes seconds: here, for who needs it

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]
    return {
        "lock": (ROOT / "requirements.lock").read_text(encoding="utf-8"),
        "installed": sorted(f"{found.name}=={found.version}" for found in importlib.metadata.distributions()),
        "python": sys.version,
        "system": [platform.system(), platform.machine(), torch.backends.cpu.get_cpu_capability()],
        "run": [NBVAL, settings],
    }


def compared(nb: nbformat.NotebookNode) -> list[object]:
    """What is run of a notebook and what its outputs are compared with; no prose, no pictures, no widgets."""

    def stored(output: nbformat.NotebookNode) -> dict[str, object]:
        kept = {
            key: value for key, value in output.items() if key not in ("data", "metadata", "execution_count")
        }
        data = output.get("data", {}).items()
        return {**kept, "data": {kind: text for kind, text in data if kind not in NOT_COMPARED}}

    cells = [cell for cell in nb.cells if cell.cell_type == "code"]
    return [nb.metadata.get("kernelspec", {}).get("name")] + [
        [cell.source, cell.metadata.get("tags"), cell.execution_count, list(map(stored, cell.outputs))]
        for cell in cells
    ]


def reached(code: str, library: Library) -> list[list[str]]:
    """The definitions that some code reaches: module, name and text."""
    return [[*item, library.text(item)] for item in sorted(library.reached(code))]


def key(path: Path, library: Library, around: dict[str, object]) -> str:
    """The SHA-256 of all that the result of a lesson depends on."""
    nb = nbformat.read(path, as_version=4)
    plain = TransformerManager().transform_cell  # without IPython's own syntax
    used = reached("\n".join(plain(cell.source) for cell in nb.cells if cell.cell_type == "code"), library)
    stored = library.data({module for module, _, _ in used})
    parts = {"cells": compared(nb), "genlib": used, "data": stored, "around": around}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def keys(paths: list[Path], root: Path) -> dict[Path, str]:
    """The keys of lessons; one that cannot be read has none, and its run says why."""
    found = {}
    with contextlib.suppress(SyntaxError):
        library = Library(root)
        for path in paths:
            with contextlib.suppress(Exception):
                found[path] = key(path, library, environment())
    return found


# What is remembered ------------------------------------------------------------------------------------------


def commit(root: Path) -> str:
    """The commit of the working tree, marked when it holds changes; "no commit" without git."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        said = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8").stdout.strip()
    except OSError:
        said = ""
    return said or "no commit"


def remembered(name: str, folder: Path) -> dict[str, str]:
    """The key under which a lesson last passed, and the commit; empty if there is none, or if the file is damaged."""
    try:
        found = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    whole = isinstance(found, dict) and all(isinstance(found.get(part), str) for part in ("key", "commit"))
    return found if whole else {}


def remember(name: str, folder: Path, record: dict[str, object]) -> None:
    """Keep the record of a lesson that passed."""
    folder.mkdir(exist_ok=True)
    waiting = folder / f".{name}.tmp"
    waiting.write_text(json.dumps(record), encoding="utf-8")
    waiting.replace(folder / f"{name}.json")


def forget(name: str, folder: Path) -> None:
    """Drop the record of a lesson that failed."""
    (folder / f"{name}.json").unlink(missing_ok=True)


# The run -----------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What became of a lesson: whether it passed, how many cells did, its seconds, and what was printed."""

    passed: bool
    cells: int
    seconds: float
    output: str


def check(path: Path) -> Outcome:
    """Run one lesson in a process of its own and compare it."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *NBVAL, str(path)],
        cwd=ROOT,
        env={"OMP_NUM_THREADS": "1", **os.environ},  # the other cores have lessons of their own
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)  # the colours of a kernel's traceback
    counted = re.findall(r"(\d+) passed", output.splitlines()[-1] if output else "")
    cells = int(counted[0]) if counted else 0
    passed = done.returncode == 0
    if passed and cells != (wanted := code_cells(path)):
        passed, output = False, f"{output}\nonly {cells} of {wanted} code cells were checked\n"
    return Outcome(passed, cells, time.perf_counter() - start, output)


def code_cells(path: Path) -> int:
    """How many code cells a notebook has."""
    return sum(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells)


def run(paths: list[Path], changed: bool = False, root: Path = ROOT) -> int:
    """Check lessons, remember those that pass, say what became of each, and return the exit status.

    Args:
        paths: of the lessons.
        changed: leave out those that passed under the key that they have now.
        root: the folder that holds genlib and the keys.
    """
    folder, now, had = root / PASSED, commit(root), keys(paths, root)
    before = {path: remembered(path.stem, folder) for path in paths}
    same = [path for path in paths if changed and path in had and before[path].get("key") == had[path]]
    waiting = longest_first([path for path in paths if path not in same])
    cells, failed = 0, []
    with ThreadPoolExecutor(WORKERS) as pool:
        running = {pool.submit(check, path): path for path in waiting}
        try:
            for done in as_completed(running):
                path, outcome = running[done], done.result()
                word = "ok" if outcome.passed else "FAILED"
                print(f"{word:7} {path.stem:24} {outcome.cells:4} cells {outcome.seconds:5.0f} s", flush=True)
                cells += outcome.cells
                if not outcome.passed:
                    failed.append(path.stem)
                    forget(path.stem, folder)
                    print(f"{outcome.output}\n", flush=True)
                elif path in had and keys([path], root) == {path: had[path]}:  # nobody edited it meanwhile
                    record = {"key": had[path], "commit": now, "seconds": round(outcome.seconds, 1)}
                    remember(path.stem, folder, record)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for path in same:
        print(f"as was  {path.stem:24} passed at {before[path]['commit']}")
    print(f"{len(waiting)} lessons ran, {cells} cells passed; {len(same)} stood unchanged")
    if failed:
        print(f"FAILED: {', '.join(sorted(failed))}")
    return int(bool(failed))


def main(arguments: list[str] | None = None) -> int:
    """Check the lessons that the command line names, or all, and return the exit status."""
    parser = argparse.ArgumentParser(description="Run lessons and compare them with their stored outputs.")
    parser.add_argument("names", nargs="*", metavar="name", help="a lesson, such as flows (default: all)")
    parser.add_argument(
        "--changed", action="store_true", help="only those that changed since they last passed"
    )
    parser.add_argument("--shard", metavar="K/N", help="the K-th of N shares of equal length, such as 1/4")
    options = parser.parse_args(arguments)
    try:
        paths = choose(ROOT / "notebooks", options.names)
    except ValueError as error:
        parser.error(str(error))
    if options.shard:
        said = re.fullmatch(r"(\d+)/(\d+)", options.shard)
        if not said or not 1 <= int(said[1]) <= int(said[2]):
            parser.error(f"--shard must be like 1/4, got {options.shard}")
        paths = shard(paths, int(said[1]), int(said[2]))
    try:
        return run(paths, options.changed)
    except KeyboardInterrupt:
        print("stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
