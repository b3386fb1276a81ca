"""Print how long things take, as a Markdown table: `python benchmarks/speed.py [what ...]`.

    notebooks   each notebook on one core, in a scratch folder, so that nothing in the tree changes
    build       the site, from what is there
    parts       each part of the tests
    pages       the tests of each lesson's page in a browser
    lesson      all that concerns one lesson, flows: make test NB=flows
    changed     the lessons when nothing changed: make test PART=notebooks CHANGED=1

All of them unless told. Nothing is asserted: a slow machine is no error.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts import execute, test  # noqa: E402

WHAT = ["notebooks", "build", "parts", "pages", "lesson", "changed"]
LESSON = "flows"


def processor() -> str:
    """The processor's own name, as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = []
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    elif sys.platform == "darwin":
        names = [
            subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"], encoding="utf-8").strip()
        ]
    return names[0] if names else platform.processor() or platform.machine()


def timed(command: list[str], **options) -> tuple[str, float]:
    """Run a command, keep its output to ourselves, and return what became of it and its seconds."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, **options)
    return "ok" if done.returncode == 0 else "FAILED", time.perf_counter() - start


def one_core() -> dict:
    """Options of a process that may use a single core."""
    options = {"env": execute.kernel_environment()}
    if hasattr(os, "sched_setaffinity"):
        core = min(os.sched_getaffinity(0))
        options["preexec_fn"] = lambda: os.sched_setaffinity(0, {core})
    return options


def notebook(path: Path) -> tuple[str, float]:
    """Run a copy of one notebook on one core."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        (scratch / "notebooks").mkdir()
        shutil.copy(path, scratch / "notebooks")
        shutil.copy(ROOT / "_config.yml", scratch)
        run = f"import pathlib, sys; from scripts import execute; sys.exit(execute.main([], pathlib.Path({folder!r})))"
        return timed([sys.executable, "-c", run], **one_core())


def rows(what: str) -> Iterator[tuple[str, tuple[str, float]]]:
    """What was measured, its result and its seconds, row by row."""
    names = [path.stem for path in execute.choose(ROOT / "notebooks", [])]
    checks = [sys.executable, "scripts/test.py"]
    if what == "notebooks":
        for name in names:
            yield f"notebook {name}, one core", notebook(ROOT / "notebooks" / f"{name}.ipynb")
    elif what == "build":
        yield "build", timed([sys.executable, "scripts/build.py"])
    elif what == "parts":
        for part, (about, _) in test.PARTS.items():
            yield f"test {part}: {about}", timed([*checks, part])
    elif what == "pages":
        for name in names:
            yield f"page of {name}", timed([*checks, "pages", "--lesson", name])
    elif what == "lesson":
        yield f"test NB={LESSON}", timed([*checks, "--lesson", LESSON])
    else:
        timed([*checks, "notebooks", "--changed"])
        yield "test PART=notebooks CHANGED=1, nothing changed", timed([*checks, "notebooks", "--changed"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", help="what to measure, of the list above (default: all)")
    chosen = parser.parse_args().what or WHAT
    if unknown := [what for what in chosen if what not in WHAT]:
        parser.error(f"nothing is called {', '.join(unknown)}; there are: {', '.join(WHAT)}")
    print(f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| what | result | seconds |\n| --- | --- | ---: |")
    for what in chosen:
        for name, (result, seconds) in rows(what):
            print(f"| {name} | {result} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
