"""Show the launch, repository, edit and issue buttons only where they lead somewhere.

All of them need the repository's address, which `_config.yml` gives once, under ``repository: url:``. While it is
empty none is shown, so that no button is dead; with it, all of them appear.
"""

from __future__ import annotations

from sphinx.application import Sphinx
from sphinx.config import Config

BUTTONS = ["use_repository_button", "use_edit_page_button", "use_issues_button"]


def set_buttons(app: Sphinx, config: Config) -> None:
    """Switch every button that needs the repository on or off."""
    options = config.html_theme_options
    known = bool(options.get("repository_url"))
    options.update(dict.fromkeys(BUTTONS, known))
    if not known:
        options["launch_buttons"] = {}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("config-inited", set_buttons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
