"""Fold what bears the class ``dropdown``, such as a solution, into ``<details>``, which needs no script.

The browser folds and unfolds it, by mouse and keyboard; book.css prints it open, and book.js opens it where a link
leads to it.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.writers.html5 import HTML5Translator


class fold(nodes.General, nodes.Element):
    """A part that is folded at first: a summary, and what it hides."""


class summary(nodes.General, nodes.Element):
    """The line of a fold that always shows."""


class FoldDropdowns(SphinxPostTransform):
    """Turn every admonition of the class ``dropdown`` into a fold under its title."""

    default_priority = 200  # after sphinx_exercise has written the titles
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Replace the admonitions; their labels and the other classes stay."""
        for node in list(self.document.findall(nodes.Admonition)):
            if "dropdown" in node["classes"] and isinstance(node[0], nodes.title):
                title, *content = node.children
                classes = [name for name in node["classes"] if name != "dropdown"]
                folded = fold(ids=node["ids"], classes=[*classes, "admonition", "fold"])
                folded += [summary("", *title.children, classes=["admonition-title"]), *content]
                node.parent.replace(node, folded)  # replace_self would bring the class back


def visit_fold(self: HTML5Translator, node: fold) -> None:
    """Open the element."""
    self.body.append(self.starttag(node, "details"))


def depart_fold(self: HTML5Translator, node: fold) -> None:
    """Close the element."""
    self.body.append("</details>\n")


def visit_summary(self: HTML5Translator, node: summary) -> None:
    """Open the element."""
    self.body.append(self.starttag(node, "summary", ""))


def depart_summary(self: HTML5Translator, node: summary) -> None:
    """Close the element."""
    self.body.append("</summary>\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_node(fold, html=(visit_fold, depart_fold))
    app.add_node(summary, html=(visit_summary, depart_summary))
    app.add_post_transform(FoldDropdowns)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
