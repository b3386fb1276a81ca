"""Write the page at the top of the site: it leads to the front page, which lies in a folder of its own.

Without it, sphinx-external-toc writes a bare tag: no title, no language, and nothing to follow where redirects are off.
The page asks for no icon: it is left before one could arrive.
"""

from __future__ import annotations

import html
from pathlib import Path

from sphinx.application import Sphinx

PAGE = """<!DOCTYPE html>
<html lang="en-GB">
  <head>
    <meta charset="utf-8">
    <title>{title}</title>
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta http-equiv="refresh" content="0; url={front}">
    <link rel="icon" href="data:,">
  </head>
  <body>
    <p><a href="{front}">{title}</a></p>
  </body>
</html>
"""


def write_top(app: Sphinx, failure: Exception | None) -> None:
    """Write index.html, unless the build failed or makes no HTML."""
    if failure is None and app.builder.format == "html":
        front = app.builder.get_target_uri(app.config.root_doc)
        page = PAGE.format(title=html.escape(app.config.html_title), front=front)
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    # Before sphinx-external-toc, which writes its own page only where there is none.
    app.connect("build-finished", write_top, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
