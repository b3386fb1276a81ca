"""Check everything, or what is named: `python scripts/test.py [part ...] [--lesson name ...]`.

The parts run one after the other, and a part that fails does not hide what the next ones have to say. The exit status
is 0 only if all of them pass. For a lesson the form, the build of its page and the page in a browser are checked while
its cells run.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.execute import choose  # noqa: E402

PYTEST = ["-m", "pytest"]
# What each part runs, in order; every command is an argument list for this Python.
PARTS: dict[str, tuple[str, list[list[str]]]] = {
    "lint": (
        "style of the code, in .py and .ipynb",
        [["-m", "ruff", "check", "."], ["-m", "ruff", "format", "--check", "."]],
    ),
    "units": (
        "genlib, the form of the notebooks, the project's own files",
        [[*PYTEST, "tests", "-m", "not browser", "-n", "2"]],
    ),
    "notebooks": (
        "every notebook is run and compared with its stored outputs",
        [["scripts/lessons.py"]],
    ),
    "build": ("strict build from nothing", [["scripts/build.py", "--strict"]]),
    "pages": ("the built pages in a real browser", [[*PYTEST, "tests", "-m", "browser", "-n", "2"]]),
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def parts_of(lessons: list[str], known: list[str]) -> dict[str, tuple[str, list[list[str]]]]:
    """The parts that concern some lessons alone; `known` are the names of all."""
    # pytest selects by a piece of a test's name, and the name of one lesson may be a piece of another's.
    longer = {lesson: [other for other in known if lesson in other and other != lesson] for lesson in lessons}
    chosen = " or ".join(
        " and not ".join([lesson, *(other for other in others if other not in lessons)])
        for lesson, others in longer.items()
    )
    form, pages = "tests/test_notebooks.py", ["tests/test_pages.py", "tests/test_pages_figures.py"]
    return {
        "notebooks": ("the cells are run and compared", [["scripts/lessons.py", *lessons]]),
        "units": ("the form of the notebook", [[*PYTEST, form, "-q", "-k", chosen]]),
        "build": ("strict build of the page", [["scripts/build.py", "--strict", *lessons]]),
        "pages": ("the page in a real browser", [[*PYTEST, *pages, "-q", "-m", "browser", "-k", chosen]]),
    }


def has_browser() -> bool:
    """Whether a Chromium that the page tests can drive is installed."""
    return any(map(shutil.which, BROWSERS))


@functools.cache
def scratch() -> tempfile.TemporaryDirectory:
    """A folder that lasts as long as this program."""
    return tempfile.TemporaryDirectory()


def environment() -> dict[str, str]:
    """The environment of the tests, in which a kernel starts without a word even if the home cannot be written."""
    found = {**os.environ}
    # Two processes share the cores; more threads than cores would make both wait.
    found.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))
    home = Path.home()
    if not (home.is_dir() and os.access(home, os.W_OK)):
        for name in ("MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
            found.setdefault(name, str(Path(scratch().name) / name.lower()))
    return found


def run(part: str, about: str, commands: list[list[str]], quiet: bool = False) -> tuple[str, str, float]:
    """Run one part; return what became of it (ok, FAILED or skipped), what a quiet one printed, and its seconds."""
    start = time.perf_counter()
    if not quiet:
        print(f"\n==> {part}: {about}", flush=True)
    if part == "pages" and not has_browser():
        needed = bool(os.environ.get("CI")) and os.environ["CI"] != "false"
        print("no Chromium is installed: the built pages are not tested" + " (an error under CI)" * needed)
        return "FAILED" if needed else "skipped", "", 0.0
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if quiet else {}
    done = [
        subprocess.run(
            [sys.executable, *line], cwd=ROOT, env=environment(), encoding="utf-8", errors="replace", **pipes
        )
        for line in commands
    ]
    result = "FAILED" if any(command.returncode for command in done) else "ok"
    return result, "".join(command.stdout or "" for command in done), time.perf_counter() - start


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line names, or all, and return the exit status."""
    parser = argparse.ArgumentParser(description="Check everything, or the parts that are named.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"one of: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--lesson", nargs="+", metavar="name", help="only what concerns these lessons")
    parser.add_argument(
        "--changed", action="store_true", help="run a lesson only if it changed since it passed"
    )
    parser.add_argument("--shard", metavar="K/N", help="run the K-th of N shares of the lessons, such as 1/4")
    options = parser.parse_args(arguments)
    parts = dict(PARTS)
    if options.lesson:
        try:
            lessons = [path.stem for path in choose(ROOT / "notebooks", options.lesson)]
        except ValueError as error:
            parser.error(str(error))
        parts = parts_of(lessons, [path.stem for path in choose(ROOT / "notebooks", [])])
    if unknown := [part for part in options.parts if part not in parts]:
        parser.error(f"no part is called {', '.join(unknown)}; there are: {', '.join(parts)}")
    named = options.parts or list(parts)
    if "notebooks" in named:
        about, [command] = parts["notebooks"]
        shard = ["--shard", options.shard] if options.shard else []
        parts["notebooks"] = about, [[*command, *["--changed"] * options.changed, *shard]]

    found = {}
    with ThreadPoolExecutor(1) as pool:
        # The cells of a lesson keep one core at work; the rest of what concerns it needs the other.
        beside = options.lesson and len(named) > 1 and "notebooks" in named
        cells = pool.submit(run, "notebooks", *parts["notebooks"], quiet=True) if beside else None
        for part in named:
            if not (beside and part == "notebooks"):
                found[part] = run(part, *parts[part])
        if cells:
            print(f"\n==> notebooks: {parts['notebooks'][0]}", flush=True)
            found["notebooks"] = cells.result()
            print(found["notebooks"][1], end="")
    print("\n==> summary")
    for part, (result, _, seconds) in found.items():
        print(f"{part:10} {result:8} {seconds:5.0f} s")
    return int(any(result == "FAILED" for result, _, _ in found.values()))


if __name__ == "__main__":
    sys.exit(main())
