"""Run notebooks headless and store their outputs in place: `python scripts/execute.py [name ...]`.

Without a name every notebook of notebooks/ is run, as many at a time as there are cores. A notebook that fails keeps
the file it had, byte for byte; the others are stored all the same, and the exit status is 1.

What is stored is the same from run to run and from machine to machine, so that a diff shows what changed: no time
stamps, no version of Python, numbered ids for the widgets.

Two trials store nothing: they run altered copies in a scratch folder, and print for each lesson its seconds and the
first cell that failed. --device cuda puts another device in the Settings cell. --twice runs every cell twice in a row,
as a reader does who comes back to it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import copy
import json
import os
import re
import signal
import sys
import tempfile
import time
import traceback
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from tqdm import tqdm

from genlib import __version__

ROOT = Path(__file__).resolve().parents[1]
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
LINKS = {"LinkModel", "DirectionalLinkModel"}
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


class NotebookFailed(Exception):
    """A notebook cannot be read, a cell raised, or its kernel died; the message names the cell, `where` briefly."""

    def __init__(self, message: str, where: str = "cannot be read") -> None:
        super().__init__(message)
        self.where = where


def repository_url(config: Path) -> str:
    """The book's one repository address, from `repository: url:` in _config.yml; empty while it is unset."""
    settings = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    return (settings.get("repository") or {}).get("url") or ""


def package(url: str) -> str:
    """What pip installs: genlib from the repository at this address, in this version; empty without an address."""
    return f"git+{url}@v{__version__}" if url else ""


def fill_in_package(nb: NotebookNode, url: str) -> None:
    """Write what pip installs into the first cell of a lesson."""
    line = f"package = {json.dumps(package(url))}"
    for cell in nb.cells:
        if cell.cell_type == "code" and cell.metadata.get("colab"):
            cell.source = re.sub(r"^package = .*$", lambda _: line, cell.source, flags=re.M)


def join_streams(nb: NotebookNode) -> None:
    """Join neighbouring pieces of one stream: where a kernel splits its text is chance."""
    for cell in nb.cells:
        joined: list[NotebookNode] = []
        for output in cell.get("outputs", []):
            last = joined[-1] if joined else {}
            if output.output_type == "stream" == last.get("output_type") and output.name == last.get("name"):
                last["text"] += output.text
            else:
                joined.append(output)
        if cell.cell_type == "code":
            cell.outputs = joined


def displayed_widgets(nb: NotebookNode) -> list[str]:
    """The model ids of the widgets in the outputs, in the order of the page."""
    outputs = (output for cell in nb.cells for output in cell.get("outputs", []))
    return [output.data[VIEW]["model_id"] for output in outputs if VIEW in output.get("data", {})]


def keep_displayed_widgets(nb: NotebookNode, name: str) -> None:
    """Keep the state of the widgets that are shown, and of all that they need, under numbered ids.

    A kernel gives each widget a random id. Here they are numbered in the order in which the page reaches them, so
    that a second run stores the same bytes; `name` keeps those of two notebooks apart.
    """
    if "widgets" not in nb.metadata:
        return
    models: dict[str, Any] = nb.metadata.widgets[STATE]["state"]

    def needs(model: str) -> list[str]:
        found = re.findall(r'"IPY_MODEL_([^"]+)"', json.dumps(models[model], sort_keys=True))
        return [other for other in found if other in models]

    reached: dict[str, None] = {}  # a set that remembers the order
    waiting = [model for model in displayed_widgets(nb) if model in models]
    # A link is named by nobody, but belongs to the page when both its ends do.
    links = {model: set(needs(model)) for model, state in models.items() if state["model_name"] in LINKS}
    while waiting:
        model = waiting.pop(0)
        if model not in reached:
            reached[model] = None
            waiting += needs(model)
        if not waiting:
            waiting = [link for link, ends in links.items() if link not in reached and ends <= reached.keys()]

    if not reached:
        del nb.metadata["widgets"]
        return
    numbered = {model: uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {i}").hex for i, model in enumerate(reached)}
    text = json.dumps({numbered[model]: models[model] for model in reached})
    nb.metadata.widgets[STATE]["state"] = nbformat.from_dict(json.loads(_renamed(text, numbered)))
    for cell in nb.cells:
        if cell.get("outputs"):
            cell.outputs = [
                nbformat.from_dict(json.loads(_renamed(json.dumps(out), numbered))) for out in cell.outputs
            ]


def _renamed(text: str, names: dict[str, str]) -> str:
    return re.sub("|".join(map(re.escape, names)), lambda match: names[match[0]], text)


def keep_alt_texts(nb: NotebookNode) -> None:
    """Let the page have the alt text that the code wrote for its figure, in place of the one of an earlier run."""
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            if alt and VIEW not in output.data:
                cell.metadata.setdefault("mystnb", NotebookNode())["image"] = NotebookNode(alt=alt)


def forget_the_machine(nb: NotebookNode) -> None:
    """Leave out of the metadata what differs between machines and says nothing about the lesson."""
    nb.metadata["kernelspec"] = dict(KERNEL)
    nb.metadata.get("language_info", {}).pop("version", None)


def write(nb: NotebookNode, path: Path) -> None:
    """Write a notebook in one step: at any moment the file is the old one or the new one, never half of one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            nbformat.write(nb, file)
        os.chmod(name, path.stat().st_mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


async def run(path: Path, url: str, bar: tqdm) -> None:
    """Run one notebook and store it.

    Raises:
        NotebookFailed: it cannot be read, a cell raised, or the kernel died. The file is as it was.
    """
    try:
        nb = nbformat.read(path, as_version=4)
    except Exception as error:
        raise NotebookFailed(f"FAILED {path.name}: it cannot be read: {error}") from error
    nb.metadata.pop("widgets", None)
    fill_in_package(nb, url)
    current = 0

    def started(cell: NotebookNode, cell_index: int) -> None:
        nonlocal current
        current = cell_index

    def finished(cell: NotebookNode, cell_index: int, execute_reply: dict) -> None:
        bar.update()

    def leave_signals_alone(notebook: NotebookNode) -> None:
        # nbclient turns Ctrl-C into the end of one kernel; here it must end them all.
        with contextlib.suppress(NotImplementedError):  # Windows
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().remove_signal_handler(number)

    client = NotebookClient(
        nb,
        kernel_name=KERNEL["name"],
        timeout=None,
        startup_timeout=180,
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        resources={"metadata": {"path": str(path.parent)}},
        on_notebook_start=leave_signals_alone,
        on_cell_execute=started,
        on_cell_executed=finished,
    )
    try:
        await client.async_execute(env=kernel_environment())
    except Exception as error:
        if asyncio.current_task().cancelling():  # Ctrl-C, and not the notebook, ended the kernel
            raise asyncio.CancelledError from error
        where = nb.cells[current].metadata.get("trial", f"cell {current}")
        raise NotebookFailed(failure(path, nb, current, error), where) from error
    join_streams(nb)
    keep_displayed_widgets(nb, path.stem)
    keep_alt_texts(nb)
    forget_the_machine(nb)
    write(nb, path)


def kernel_environment() -> dict[str, str]:
    """The environment of a kernel that keeps to one core: on others that are busy, more threads wait for each other."""
    limits = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(limits, "1")}


def failure(path: Path, nb: NotebookNode, index: int, error: Exception) -> str:
    """Say which cell failed, what it says, and what Python said about it."""
    source = nb.cells[index].source if index < len(nb.cells) else ""
    lines = source.splitlines()
    excerpt = lines[:6] + [f"... ({len(lines) - 6} more lines)"] * (len(lines) > 6)
    if isinstance(error, CellExecutionError):
        said = "\n".join(nb.cells[index].outputs[-1].traceback)
    else:
        said = "".join(traceback.format_exception_only(error))
    said = re.sub(r"\x1b\[[0-9;]*m", "", said).strip()
    return "\n".join(
        [f"FAILED {path.name}, cell {index} (counted from 0):", *(f"    | {line}" for line in excerpt), said]
    )


def cells_to_run(path: Path) -> int:
    """How many cells the progress bar waits for."""
    try:
        nb = nbformat.read(path, as_version=4)
    except Exception:  # run() says what is wrong with it
        return 0
    return sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in nb.cells)


class Result(NamedTuple):
    """What became of a notebook: its file, its seconds, and the cell that failed, if one did."""

    path: Path
    seconds: float
    failed: str = ""


async def run_all(paths: list[Path], url: str, workers: int) -> list[Result]:
    """Run the notebooks, `workers` at a time, and return what became of each."""
    free = asyncio.Semaphore(workers)
    with tqdm(total=sum(map(cells_to_run, paths)), unit="cell", desc="executing", dynamic_ncols=True) as bar:

        async def one(path: Path) -> Result:
            async with free:
                start = time.perf_counter()
                try:
                    await run(path, url, bar)
                except NotebookFailed as error:
                    bar.write(f"\n{error}\n", file=sys.stderr)
                    return Result(path, time.perf_counter() - start, error.where)
                result = Result(path, time.perf_counter() - start)
                bar.write(f"ran {path.name} ({result.seconds:.0f} s)")
                return result

        return await asyncio.gather(*map(one, paths))


# Trials ------------------------------------------------------------------------------------------------------


def on_device(nb: NotebookNode, device: str) -> None:
    """Put another device into the Settings cell.

    Raises:
        ValueError: there is not exactly one line `device = "cpu"`.
    """
    line = re.compile(r'^device = "cpu"', flags=re.M)
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and line.search(cell.source)]
    if len(cells) != 1:
        raise ValueError(f'one cell must say device = "cpu", {len(cells)} do')
    cells[0].source = line.sub(lambda _: f"device = {json.dumps(device)}", cells[0].source)


def each_twice(nb: NotebookNode) -> None:
    """Put a copy after every code cell, and let both say which cell of the notebook they are."""
    doubled = []
    for i, cell in enumerate(nb.cells):
        doubled.append(cell)
        if cell.cell_type == "code":
            again = copy.deepcopy(cell)
            again.id = f"{cell.get('id', i)}-again"[-64:]
            cell.metadata["trial"], again.metadata["trial"] = f"cell {i}", f"cell {i}, second time"
            doubled.append(again)
    nb.cells = doubled


def trial(paths: list[Path], url: str, workers: int, device: str | None, twice: bool) -> list[Result]:
    """Run altered copies of the notebooks in a scratch folder and return what became of each."""
    with tempfile.TemporaryDirectory() as folder:
        copies, results = [], []
        for path in paths:
            try:
                nb = nbformat.read(path, as_version=4)
                if device:
                    on_device(nb, device)
                if twice:
                    each_twice(nb)
            except Exception as error:
                results.append(Result(path, 0.0, str(error)))
                continue
            copies.append(Path(folder) / path.name)
            nbformat.write(nb, copies[-1])
        return [*results, *asyncio.run(run_all(copies, url, workers))]


def table(results: list[Result]) -> str:
    """A Markdown table of lessons, seconds, and the cell that failed first."""
    width = max(len(result.path.stem) for result in results)
    rows = [
        f"| {'lesson':{width}} | seconds | first cell that failed |",
        f"| {'-' * width} | ------: | --- |",
    ]
    rows += [
        f"| {path.stem:{width}} | {seconds:7.0f} | {failed or 'none'} |" for path, seconds, failed in results
    ]
    return "\n".join(rows)


def choose(folder: Path, names: list[str]) -> list[Path]:
    """The notebooks of the folder that are named (with or without .ipynb), or all of them.

    Raises:
        ValueError: a name that no notebook has, or a folder without notebooks.
    """
    known = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    if not known:
        raise ValueError(f"no notebook in {folder}")
    wanted = [Path(name).name.removesuffix(".ipynb") for name in names] or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"no notebook is called {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(wanted)]


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the notebooks that the command line names and return the exit status."""
    parser = argparse.ArgumentParser(description="Run notebooks and store their outputs in place.")
    parser.add_argument(
        "names", nargs="*", metavar="name", help="a notebook, such as kl_cross_entropy (default: all)"
    )
    parser.add_argument("--workers", type=int, help="how many to run at a time (default: one a core)")
    parser.add_argument("--device", help="store nothing; try the notebooks on this device, such as cuda")
    parser.add_argument("--twice", action="store_true", help="store nothing; try every cell twice in a row")
    options = parser.parse_args(arguments)
    try:
        paths = choose(root / "notebooks", options.names)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    workers, url = (
        max(1, min(options.workers or os.cpu_count() or 1, len(paths))),
        repository_url(root / "_config.yml"),
    )
    print(f"==> executing {len(paths)} notebook(s), {workers} at a time", flush=True)
    try:
        if options.device or options.twice:
            results = trial(paths, url, workers, options.device, options.twice)
            print(table(results))
        else:
            results = asyncio.run(run_all(paths, url, workers))
    except KeyboardInterrupt:
        print("stopped: the notebooks that had not finished are as they were", file=sys.stderr)
        return 130
    failed = [result.path.name for result in results if result.failed]
    if failed:
        print(
            f"{len(failed)} of {len(paths)} failed and keep what they had: {', '.join(failed)}",
            file=sys.stderr,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
