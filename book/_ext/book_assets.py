"""Serve the pages' scripts from the site itself: MathJax, RequireJS and the html-manager of ipywidgets.

``npm ci`` puts the three packages into ``node_modules``; this extension copies the files that the pages use into
``_static/vendor`` and points Sphinx at them, so that a page asks no other host for anything. Where ``node_modules``
is missing, the public addresses that Sphinx and MyST-NB know are left as they are, and the build says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

SCOPE = "@jupyter-widgets/html-manager/dist"
MATHJAX = "vendor/mathjax/tex-chtml.js"
REQUIRE = "vendor/requirejs/require.js"
MANAGER = f"vendor/{SCOPE}/embed-amd.js"

# Folder in node_modules, folder in _static/vendor, and the files, which keep their place below the folder.
# MathJax fetches by itself: fonts, the TeX extensions that a formula names, and from its menu the spoken formulas.
# html-manager asks for its fonts below RequireJS's base address, which widgets.js sets: beside itself, or beside the
# modules that it brings, whichever of them is ready first.
PARTS = [
    (
        "mathjax/es5",
        "mathjax",
        ["tex-chtml.js", "output/chtml/fonts/woff-v2/*.woff", "input/tex/extensions/*.js"],
    ),
    ("mathjax/es5", "mathjax", ["a11y/*.js", "sre/mathmaps/base.json", "sre/mathmaps/en.json"]),
    ("mathjax", "mathjax", ["LICENSE"]),
    ("requirejs", "requirejs", ["require.js"]),
    (SCOPE, SCOPE, ["embed-amd.js", "embed.js.LICENSE.txt", "*.woff2"]),
    (SCOPE, "@jupyter-widgets", ["*.woff2"]),
]


def vendored_files(modules: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (source, place below ``_static/vendor``) of each file that the pages use.

    Raises:
        FileNotFoundError: a package is missing in `modules`, or holds no file of a name that is expected.
    """
    for origin, folder, patterns in PARTS:
        base = modules / origin
        for pattern in patterns:
            found = sorted(base.glob(pattern))
            if not found:
                raise FileNotFoundError(base / pattern)
            for source in found:
                yield source, Path(folder) / source.relative_to(base)


def use_own_copies(app: Sphinx, config: Config) -> None:
    """Point Sphinx and MyST-NB at the copies, or leave their public addresses and say so."""
    try:
        app.book_vendored = list(vendored_files(Path(app.srcdir) / "node_modules"))
    except FileNotFoundError as missing:
        app.book_vendored = []
        # Printed, not logged: a quiet build must say it too, and it is no warning that a strict build should fail on.
        print(
            f"==> {missing} is missing (npm ci): the pages will fetch their scripts from public addresses",
            flush=True,
        )
        return
    config.mathjax_path = MATHJAX
    # RequireJS first; then its base address, which html-manager's font addresses follow; then html-manager. The page
    # shows before they are there.
    config.nb_ipywidgets_js = {name: {"defer": "defer"} for name in (REQUIRE, "widgets.js", MANAGER)}


def copy_files(app: Sphinx) -> None:
    """Copy what is new or changed into the built site."""
    if app.builder.format != "html":
        return
    for source, place in app.book_vendored:
        target = Path(app.outdir) / "_static" / "vendor" / place
        if target.exists() and target.stat().st_mtime == source.stat().st_mtime:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    # Before MyST-NB reads its configuration, which it does on the same event with the usual priority of 500.
    app.connect("config-inited", use_own_copies, priority=400)
    app.connect("builder-inited", copy_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
