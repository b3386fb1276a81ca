"""Check everything: `python scripts/test.py [part ...]`.

The parts run one after the other, and a part that fails does not hide what the next ones have to say. The exit status
is 0 only if all of them pass.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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
        [[*PYTEST, "--nbval", "notebooks", "-n", "2", "--dist", "loadscope"]],
    ),
    "build": ("strict build from nothing", [["scripts/build.py", "--strict"]]),
    "pages": ("the built pages in a real browser", [[*PYTEST, "tests", "-m", "browser", "-n", "2"]]),
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def has_browser() -> bool:
    """Whether a Chromium that the page tests can drive is installed."""
    return any(map(shutil.which, BROWSERS))


def run(part: str) -> str:
    """Run one part and return what became of it: ok, FAILED or skipped."""
    about, commands = PARTS[part]
    print(f"\n==> {part}: {about}", flush=True)
    if part == "pages" and not has_browser():
        needed = bool(os.environ.get("CI")) and os.environ["CI"] != "false"
        print("no Chromium is installed: the built pages are not tested" + " (an error under CI)" * needed)
        return "FAILED" if needed else "skipped"
    # Two kernels share the cores; more threads than cores would make both wait.
    limit = str(max(1, (os.cpu_count() or 1) // 2))
    environment = {"OMP_NUM_THREADS": limit, **os.environ} if part in ("units", "notebooks") else None
    statuses = [
        subprocess.run([sys.executable, *line], cwd=ROOT, env=environment).returncode for line in commands
    ]
    return "FAILED" if any(statuses) else "ok"


def main(arguments: list[str] | None = None) -> int:
    """Run the parts that the command line names, or all, and return the exit status."""
    parser = argparse.ArgumentParser(description="Check everything, or the parts that are named.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"one of: {', '.join(PARTS)} (default: all)")
    named = parser.parse_args(arguments).parts or list(PARTS)
    unknown = [part for part in named if part not in PARTS]
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}; there are: {', '.join(PARTS)}")

    rows = []
    for part in named:
        start = time.perf_counter()
        rows.append((part, run(part), time.perf_counter() - start))
    print("\n==> summary")
    for part, result, seconds in rows:
        print(f"{part:10} {result:8} {seconds:5.0f} s")
    return int(any(result == "FAILED" for _, result, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
