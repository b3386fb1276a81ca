"""Docstrings that read well in an editor also read well as reStructuredText.

In prose, |x| is a size and ``(n, *shape)`` is a shape; reStructuredText would take the bars for a substitution and
the star for the start of an emphasis. Fields of a named tuple are told in its docstring, so they get no entry of
their own that says "Alias for field number 0".
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx

# A literal or a role is left alone. A bar is escaped, and a star that opens a word and that no later star closes.
MARKUP = re.compile(r"(?P<quoted>(`+).+?\2)|(?<!\\)\||(?<![\w\\*])\*(?=\w)(?![^*]*\w\*)")


def escape_prose(lines: list[str]) -> list[str]:
    """Escape the bars and stars of a docstring's prose; the indented blocks of directives stay as they are."""
    escaped: list[str] = []
    block: int | None = None  # indent of the directive whose block we are in
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        if block is None and (line.lstrip().startswith(".. ") or line.rstrip().endswith("::")):
            block = indent
        escaped.append(line if block is not None else MARKUP.sub(_escape, line))
    return escaped


def _escape(found: re.Match[str]) -> str:
    """Put a backslash before a bar or a star."""
    return found[0] if found["quoted"] else "\\" + found[0]


def process(app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]) -> None:
    """Handle the event of autodoc that lets a docstring be changed, in place."""
    lines[:] = escape_prose(lines)


def skip(app: Sphinx, what: str, name: str, item: object, skipped: bool, options: object) -> bool | None:
    """Leave out the fields of named tuples; None leaves the decision to autodoc."""
    return True if (getattr(item, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    # After napoleon, which has the usual priority of 500.
    app.connect("autodoc-process-docstring", process, priority=600)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
