"""Show a slider's picture where the slider itself cannot stand: without scripts, in print, or before it is ready.

A slider's output holds the widget and, beside it, the picture at its start with an alt text. MyST-NB would choose the
widget alone. Here the picture is written before it, and book.js takes it away when the slider stands.
"""

from __future__ import annotations

import json
import posixpath
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.images import get_image_size
from sphinx.writers.html5 import HTML5Translator

VIEW = "application/vnd.jupyter.widget-view+json"
PNG = "image/png"


class still(nodes.image):
    """A picture that keeps a slider's place."""


def with_alt_texts(notebook: dict[str, Any]) -> bool:
    """Copy the alt texts that outputs bear to their cells, where MyST-NB looks for them; say if there were any."""
    found = False
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if alt := output.get("metadata", {}).get(PNG, {}).get("alt"):
                cell["metadata"].setdefault("mystnb", {}).setdefault("image", {})["alt"] = alt
                found = True
    return found


def read_alt_texts(app: Sphinx, page: str, source: list[str]) -> None:
    """Do so for a notebook that Sphinx has just read."""
    if app.env.doc2path(page).endswith(".ipynb"):
        notebook = json.loads(source[0])
        if with_alt_texts(notebook):
            source[0] = json.dumps(notebook)


class KeepStills(SphinxPostTransform):
    """Put the picture of an output before its widget."""

    default_priority = 3  # MyST-NB chooses one kind of output at 4
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Find the outputs that hold both."""
        for bundle in self.document.findall(nodes.container):
            if bundle.get("nb_element") == "mime_bundle":
                kinds = {kind["mime_type"]: kind for kind in bundle.children}
                if kinds.keys() >= {VIEW, PNG}:
                    kinds[VIEW].insert(0, still(**kinds[PNG][0].attributes))


def visit_still(self: HTML5Translator, node: still) -> None:
    """Write the picture with its size, so that the page does not jump when it comes."""
    width, height = get_image_size(Path(self.builder.srcdir) / node["uri"])
    source = posixpath.join(self.builder.imgpath, quote(self.builder.images[node["uri"]]))
    sizes = {"width": width, "height": height}
    self.body.append(self.emptytag(node, "img", CLASS="still", src=source, alt=node["alt"], **sizes))


def depart_still(self: HTML5Translator, node: still) -> None:
    """Nothing is left to close."""


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_node(still, html=(visit_still, depart_still))
    app.connect("source-read", read_alt_texts)
    app.add_post_transform(KeepStills)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
