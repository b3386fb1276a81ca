"""Print how long things take, as a Markdown table: `python benchmarks/speed.py`.

Each notebook is run on one core, in a scratch folder, so that nothing in the tree changes. Then the build and each part
of the tests are timed. Nothing is asserted: a slow machine is no error.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts import execute, test  # noqa: E402


def processor() -> str:
    """The processor's own name, as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = []
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    elif sys.platform == "darwin":
        names = [subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"], text=True).strip()]
    return names[0] if names else platform.processor() or platform.machine()


def timed(command: list[str], **options) -> tuple[str, float]:
    """Run a command, keep its output to ourselves, and return what became of it and its seconds."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, **options)
    return "ok" if done.returncode == 0 else "FAILED", time.perf_counter() - start


def one_core() -> dict:
    """Options of a process that may use a single core."""
    options = {"env": execute.kernel_environment(threads=1)}
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


def main() -> None:
    """Measure and print."""
    rows = [
        (f"notebook {path.stem}, one core", notebook(path)) for path in execute.choose(ROOT / "notebooks", [])
    ]
    rows.append(("build", timed([sys.executable, "scripts/build.py"])))
    for part, (about, _) in test.PARTS.items():
        rows.append((f"test {part}: {about}", timed([sys.executable, "scripts/test.py", part])))

    print(f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| what | result | seconds |\n| --- | --- | ---: |")
    for what, (result, seconds) in rows:
        print(f"| {what} | {result} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
