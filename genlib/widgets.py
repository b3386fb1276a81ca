"""Interactive figures that live in a static page: a slider over pictures that were drawn beforehand.

Only links in JavaScript work where no kernel runs. So every frame is drawn in advance, and the slider's position picks
the frame that shows. Where no widget can stand (a page without scripts, a viewer of notebooks, a printed book), the
frame at the start takes its place.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

T = TypeVar("T")
LIMIT = 1_000_000


class Picture(NamedTuple):
    """A PNG in base64, what it shows in words, and its size in pixels."""

    png: str
    alt: str
    width: int
    height: int

    @property
    def html(self) -> str:
        """An <img> with the picture inside. With its size known, the page keeps its place while it loads."""
        size = f'width="{self.width}" height="{self.height}" style="max-width: 100%; height: auto"'
        return f'<img src="data:image/png;base64,{self.png}" alt="{html.escape(self.alt)}" {size}>'


class FrameSlider(ipywidgets.VBox):
    """A labelled slider above a stack of pictures, of which one shows. Arrow keys move it."""

    def __init__(self, pictures: Sequence[Picture], positions: Sequence[str], name: str, start: int) -> None:
        """Link the slider to the stack, in the page rather than in Python."""
        self.pictures = list(pictures)
        self.slider = ipywidgets.SelectionSlider(
            options=list(positions),
            index=start,
            description=name,
            continuous_update=True,
            style={"description_width": "initial"},
            layout={"width": "100%", "max_width": "640px"},
        )
        self.stack = ipywidgets.Stack(
            [ipywidgets.HTML(picture.html) for picture in pictures], selected_index=start
        )
        self.link = ipywidgets.jslink((self.slider, "index"), (self.stack, "selected_index"))
        super().__init__([self.slider, self.stack])
        self.add_class("genlib-frames")

    def __repr__(self) -> str:
        options = self.slider.options
        return (
            f"Slider “{self.slider.description}”: {len(options)} pictures, from {options[0]} to {options[-1]}"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Add the picture that shows, with its alt text, for whoever cannot show the widget."""
        picture = self.pictures[self.slider.index]
        data = super()._repr_mimebundle_(**kwargs)
        return {**data, "image/png": picture.png}, {"image/png": {"alt": picture.alt}}


def slider(
    draw: Callable[[T], Figure],
    values: Sequence[T],
    *,
    name: str,
    alt: Callable[[T], str],
    position: Callable[[T], str] = str,
    start: int = 0,
    colours: int = 64,
) -> FrameSlider:
    """Draw a figure for each value, and link the pictures to a slider that works with and without a kernel.

    Args:
        draw: value → figure; it is closed after it was drawn.
        values: the slider's positions, at least two.
        name: stands before the slider.
        alt: value → text that says what the picture shows, for those who cannot see it.
        position: value → text beside the slider.
        start: number of the frame that shows first.
        colours: size of each picture's palette; fewer make it smaller.

    Returns:
        A widget; let it be the last expression of a cell.

    Raises:
        ValueError: fewer than two values, start out of range, an empty alt text, colours outside 2 … 256, or more than
            1 MB of pictures.
    """
    if len(values) < 2:
        raise ValueError(f"values must hold at least two positions, got {len(values)}")
    if isinstance(start, bool) or not isinstance(start, int) or not 0 <= start < len(values):
        raise ValueError(f"start must be from 0 to {len(values) - 1}, got {start}")
    if isinstance(colours, bool) or not isinstance(colours, int) or not 2 <= colours <= 256:
        raise ValueError(f"colours must be from 2 to 256, got {colours}")
    if not name.strip():
        raise ValueError(f"name must say what the slider moves, got {name!r}")
    positions = [position(value) for value in values]
    if len(set(positions)) < len(positions):
        raise ValueError(f"position must tell the values apart, got {positions}")
    pictures = [_picture(draw, value, alt(value), colours) for value in values]
    size = sum(len(picture.html) for picture in pictures)
    if size > LIMIT:
        raise ValueError(
            f"values make {size / 1e6:.2f} MB of pictures, more than 1 MB: use fewer, or fewer colours"
        )
    return FrameSlider(pictures, positions, name, start)


def _picture(draw: Callable[[T], Figure], value: T, alt: str, colours: int) -> Picture:
    """Draw a figure in few colours, and close it."""
    if not alt.strip():
        raise ValueError(f"alt must describe the picture, got {alt!r}")
    figure = draw(value)
    png, small = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    plt.close(figure)
    image = Image.open(png).convert("RGB").quantize(colours)
    image.save(small, format="png", optimize=True)
    return Picture(base64.b64encode(small.getvalue()).decode(), alt, *image.size)
