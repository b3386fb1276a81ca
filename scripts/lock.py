"""Resolve the dependencies of pyproject.toml into requirements.lock: `python scripts/lock.py`.

pip itself resolves them, as if nothing were installed. The lock holds names and exact versions, no addresses, so that
every index that carries the packages will do. It is made with the oldest Python of the book, and tried with the others.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
PYTHONS = ("3.11", "3.12", "3.13")  # the lock is made with the first, and installs on all of them

# torch is the one package whose version is chosen here. It weighs more than all the others together, and an open range
# lets pip pick a build that brings several GB of CUDA packages along; moving to another version is a decision.
TORCH = "torch==2.13.0"

# Parts of torch's build for NVIDIA cards. They are no dependencies of the book: the build of torch that a machine gets
# brings those that it needs.
ACCELERATOR = re.compile(r"(nvidia|cuda)-|triton$")

HEADER = """\
# Exact versions of all that the book needs, for Python {pythons}, made by `make lock` (scripts/lock.py)
# from the lower bounds in pyproject.toml. Do not edit: change pyproject.toml and make it again.
""".format(pythons=", ".join(PYTHONS))


def requirements(pyproject: Path) -> list[str]:
    """The dependencies of the package and of its extras, except those of the benchmarks alone, as they are written."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).items()
    return [*project["dependencies"], *(line for name, lines in extras if name != "bench" for line in lines)]


def resolve(wanted: list[str]) -> dict[str, str]:
    """Ask pip which versions it would install, and return them by normalised name."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "-qq"]
        command += ["--disable-pip-version-check", "--report", str(report)]
        subprocess.run([*command, *wanted], check=True)
        installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    return pins((item["metadata"]["name"], item["metadata"]["version"]) for item in installs)


def pins(found) -> dict[str, str]:
    """Normalise names, drop local versions (`+cpu`) and the accelerator's packages, and sort."""
    kept = {re.sub(r"[-_.]+", "-", name).lower(): version.partition("+")[0] for name, version in found}
    return {name: kept[name] for name in sorted(kept) if not ACCELERATOR.match(name)}


def try_with(python: str, lines: list[str]) -> None:
    """Ask pip whether another Python could install these lines.

    Raises:
        subprocess.CalledProcessError: it could not; pip has said why.
    """
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "lock.txt"
        listed.write_text("".join(lines), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "-qq"]
        command += ["--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--target", folder]
        subprocess.run([*command, "--python-version", python, "-r", str(listed)], check=True)


def main(arguments: list[str] | None = None) -> int:
    """Write requirements.lock and return the exit status."""
    about = "Resolve the dependencies of pyproject.toml into requirements.lock."
    argparse.ArgumentParser(description=about).parse_args(arguments)
    if "{}.{}".format(*sys.version_info) != PYTHONS[0]:
        this = sys.version.split()[0]
        print(f"error: the lock is made with Python {PYTHONS[0]}; this is {this}", file=sys.stderr)
        return 2
    print("==> resolving the dependencies of pyproject.toml (a minute or two)", flush=True)
    try:
        chosen = resolve([*requirements(ROOT / "pyproject.toml"), TORCH])
        lines = [f"{name}=={version}\n" for name, version in chosen.items()]
        for python in PYTHONS[1:]:
            print(f"==> trying the lock with Python {python}", flush=True)
            try_with(python, lines)
    except subprocess.CalledProcessError as error:
        print("error: pip found no set of versions; requirements.lock is as it was", file=sys.stderr)
        return error.returncode
    LOCK.write_text(HEADER + "".join(lines), encoding="utf-8", newline="\n")
    print(f"==> wrote {LOCK.name}: {len(lines)} packages; `make book` installs them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
