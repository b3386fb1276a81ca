"""Build the book from the stored outputs of its notebooks: `python scripts/build.py [--strict [lesson ...]]`.

--strict starts from nothing, and fails if there was a warning. With the names of lessons it starts from nothing for
their pages alone; of the others it reads again what changed. Every page of _toc.yml must be there at the end, because a
build can end well and leave a page out.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
HTML = BUILD / "html"
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"  # it cannot be called with python -m


def toc_pages(entry: Any) -> list[str]:
    """The pages that a table of contents lists, without suffix, in its order."""
    if isinstance(entry, list):
        return [page for item in entry for page in toc_pages(item)]
    if not isinstance(entry, dict):
        return []
    own = [
        str(entry[key]).removesuffix(".md").removesuffix(".ipynb") for key in ("root", "file") if key in entry
    ]
    return own + [page for value in entry.values() for page in toc_pages(value)]


def missing_pages(toc: Path, html: Path) -> list[str]:
    """The pages of the table of contents that were not built."""
    pages = toc_pages(yaml.safe_load(toc.read_text(encoding="utf-8")))
    return [page for page in pages if not (html / f"{page}.html").is_file()]


def build(strict: bool, lessons: list[str]) -> int:
    """Build the site and return the exit status."""
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", "-q", str(ROOT)]
    if strict:
        # What an earlier build left behind hides warnings: Sphinx does not look again at a page that did not change.
        for lesson in lessons:
            (BUILD / ".doctrees" / "notebooks" / f"{lesson}.doctree").unlink(missing_ok=True)
        if not lessons:
            shutil.rmtree(BUILD, ignore_errors=True)
        command += ["--warningiserror", "--keep-going"]
    return subprocess.run(command, cwd=ROOT).returncode


def main(arguments: list[str] | None = None) -> int:
    """Build, check that nothing is missing, say where to look, and return the exit status."""
    parser = argparse.ArgumentParser(description="Build the book into _build/html.")
    parser.add_argument("--strict", action="store_true", help="start from nothing and fail on warnings")
    parser.add_argument("lessons", nargs="*", metavar="lesson", help="whose pages alone start from nothing")
    options = parser.parse_args(arguments)
    if options.lessons and not options.strict:
        parser.error("lessons are named for --strict alone")
    afresh = f" ({', '.join(options.lessons)})" if options.lessons else ""
    print(
        "==> building the site" + f" from nothing{afresh}, warnings are errors" * options.strict, flush=True
    )
    start = time.perf_counter()
    status = build(options.strict, options.lessons)
    missing = missing_pages(ROOT / "_toc.yml", HTML)
    if missing:
        print(f"error: pages of _toc.yml were not built: {', '.join(missing)}", file=sys.stderr)
    if status or missing:
        print("error: the build failed; the messages above say why", file=sys.stderr)
        return 1
    print(f"==> built in {time.perf_counter() - start:.0f} s: {(HTML / 'index.html').as_uri()}")
    print("    `make serve` shows it on http://localhost:8000")
    return 0


if __name__ == "__main__":
    sys.exit(main())
