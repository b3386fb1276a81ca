"""One figure style, and the few plots that the lessons share.

Each function draws on the Axes that it is given and returns it. Colours are those of Okabe and Ito, which people with
any common form of colour blindness can tell apart; lines and bars also differ in dash, marker or hatch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor, nn

from genlib import _arguments as require
from genlib.data import Box, lattice
from genlib.training import History

BLUE, ORANGE, GREEN, PURPLE, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#56B4E9", "#5F6368"
_HATCHES = ("", "///", "...", "xx")
_PALE = LinearSegmentedColormap.from_list("pale", ["#FFFFFF", SKY])
_SHADES = LinearSegmentedColormap.from_list("shades", ["#EEF3F7", SKY, BLUE, "#003A5D"]).with_extremes(
    bad="#E4E6EA"
)


def use_style() -> None:
    """Set matplotlib's defaults to the style of the book. Call it once, at the top of a notebook."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.4),
            "figure.dpi": 130,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 11.5,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E4E6EA",
            "grid.linewidth": 0.8,
            "legend.frameon": False,
            "lines.linewidth": 2.0,
            "image.cmap": "cividis",
            "hatch.linewidth": 0.7,
            "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PURPLE])
            + cycler(linestyle=["-", "--", "-.", ":"]),
        }
    )


def bars(ax: Axes, groups: Mapping[str, Tensor], symbols: Sequence[str]) -> Axes:
    """Draw distributions over the same symbols as bars side by side, told apart by colour and hatch.

    Args:
        ax: where to draw.
        groups: name → (K,) probabilities, at most four.
        symbols: K names under the bars.

    Raises:
        ValueError: no group or more than four, or a group that does not hold K probabilities with sum 1.
    """
    if not 1 <= len(groups) <= len(_HATCHES):
        raise ValueError(f"groups must hold 1 to {len(_HATCHES)} distributions, got {len(groups)}")
    width, place = 0.8 / len(groups), np.arange(len(symbols))
    colours = (BLUE, ORANGE, GREEN, PURPLE)
    for i, (name, probs) in enumerate(groups.items()):
        height = require.probabilities(name, probs).detach().cpu().numpy()
        if height.shape != (len(symbols),):
            raise ValueError(f"{name} must have shape ({len(symbols)},), got {tuple(height.shape)}")
        middle = place + (i - (len(groups) - 1) / 2) * width
        ax.bar(
            middle, height, 0.92 * width, label=name, color=colours[i], hatch=_HATCHES[i], edgecolor="white"
        )
    ax.set_xticks(place, symbols)
    ax.set_ylabel("probability")
    ax.grid(axis="x", visible=False)
    if len(groups) > 1:
        ax.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=len(groups), handlelength=1.4, columnspacing=1.2
        )
    return ax


def density(
    ax: Axes, model: object, box: Box, size: int = 200, device: torch.device | str | None = None
) -> Axes:
    """Draw exp(log_prob) of a model or source in the plane.

    Args:
        ax: where to draw.
        model: anything with ``log_prob``, (B, 2) → (B,).
        box: ((left, right), (bottom, top)), in data units.
        size: cells along each axis.
        device: where the model works; torch's default when None.

    Raises:
        ValueError: size < 1, or the model has no ``log_prob``.
    """
    if not callable(getattr(model, "log_prob", None)):
        raise ValueError(f"model must have a method log_prob, got {type(model).__name__}")
    with torch.no_grad():
        own = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        cells = lattice(box, size).to(device, torch.get_default_dtype() if own is None else own.dtype)
        p = torch.cat([model.log_prob(part) for part in cells.split(16384)]).exp().cpu().numpy()  # (size²,)
    image = ax.imshow(
        p.reshape(size, size), origin="lower", extent=(*box[0], *box[1]), interpolation="bilinear"
    )
    ax.figure.colorbar(image, ax=ax, label="density (1 / unit²)", shrink=0.85)
    return _plane(ax)


def points(ax: Axes, x: Tensor, box: Box, label: str | None = None, colour: str = BLUE) -> Axes:
    """Draw a sample (n, 2) in the plane; `box` fixes the frame, so that figures can be compared.

    Raises:
        ValueError: `x` is not of shape (n, 2) or not finite.
    """
    x = require.points("x", x).detach().cpu().numpy()
    if x.shape[1] != 2:
        raise ValueError(f"x must have shape (n, 2), got {tuple(x.shape)}")
    ax.scatter(x[:, 0], x[:, 1], s=4, alpha=0.5, color=colour, linewidths=0, label=label)
    ax.set(xlim=box[0], ylim=box[1])
    return _plane(ax)


def ellipses(
    ax: Axes, means: Tensor, covariances: Tensor, deviations: float = 2.0, colour: str = ORANGE
) -> Axes:
    """Draw normal distributions in the plane: a cross at each mean, and the ellipse so many deviations around it.

    Args:
        ax: where to draw.
        means: (K, 2).
        covariances: (K, 2, 2), positive definite.
        deviations: how far out the ellipses lie.
        colour: of crosses and ellipses.

    Raises:
        ValueError: a shape is another, or deviations are not above 0.
    """
    means = require.points("means", means).detach().cpu()
    covariances = require.real_tensor("covariances", covariances).detach().cpu()
    if means.shape[1] != 2 or covariances.shape != (len(means), 2, 2):
        shapes = f"{tuple(means.shape)} and {tuple(covariances.shape)}"
        raise ValueError(f"means and covariances must have shapes (K, 2) and (K, 2, 2), got {shapes}")
    angle = torch.linspace(0, 2 * math.pi, 100).to(covariances)
    circle = require.positive("deviations", deviations) * torch.stack([angle.cos(), angle.sin()])  # (2, 100)
    for mean, factor in zip(means, torch.linalg.cholesky(covariances), strict=True):
        ax.plot(*(mean[:, None] + factor @ circle), "-", color=colour, linewidth=1.5)
    ax.plot(*means.T, "x", color=colour, markersize=5)
    return ax


def field(
    ax: Axes,
    score: Callable[[Tensor], Tensor],
    box: Box,
    size: int = 17,
    under: object | None = None,
    colour: str = ORANGE,
) -> Axes:
    """Draw a score as arrows. Lengths are squashed: an arrow twice as long stands for a score four times as large.

    Args:
        ax: where to draw.
        score: (B, 2) → (B, 2).
        box: ((left, right), (bottom, top)), in data units.
        size: arrows along each axis.
        under: anything with ``log_prob``, whose density is drawn below the arrows in pale blue.
        colour: of the arrows.

    Raises:
        ValueError: size < 1, the score returns another shape or is not finite, or `under` has no ``log_prob``.
    """
    feet = lattice(box, size).float()  # (size², 2)
    with torch.no_grad():
        arrows = require.points("score(x)", score(feet)).cpu()
        if arrows.shape != feet.shape:
            raise ValueError(f"score must return shape {tuple(feet.shape)}, got {tuple(arrows.shape)}")
        if under is not None:
            if not callable(getattr(under, "log_prob", None)):
                raise ValueError(f"under must have a method log_prob, got {type(under).__name__}")
            p = under.log_prob(lattice(box, 120).float()).exp().cpu().numpy()
            extent = (*box[0], *box[1])
            ax.imshow(
                p.reshape(120, 120), origin="lower", extent=extent, interpolation="bilinear", cmap=_PALE
            )
    length = torch.linalg.vector_norm(arrows, dim=1, keepdim=True)
    squashed = arrows / length.sqrt().clamp(min=1e-12)
    longest = 1.3 * (box[0][1] - box[0][0]) / size
    scale = squashed.norm(dim=1).max().clamp(min=1e-12).item() / longest
    ax.quiver(
        *feet.cpu().numpy().T,
        *squashed.numpy().T,
        angles="xy",
        scale_units="xy",
        scale=scale,
        color=colour,
        width=0.005,
    )
    ax.set(xlim=box[0], ylim=box[1])
    return _plane(ax)


def bent_grid(
    ax: Axes, g: Callable[[Tensor], Tensor], reach: float = 3.0, lines: int = 13, colour: str = GREY
) -> Axes:
    """Draw what a map of the plane makes of a square grid.

    Args:
        ax: where to draw.
        g: map of points, (n, 2) → (n, 2).
        reach: the grid covers [−reach, reach]².
        lines: how many lines in each direction.
        colour: of the lines.

    Raises:
        ValueError: reach is not above 0, lines < 2, or g returns another shape.
    """
    reach = require.positive("reach", reach)
    along = torch.linspace(-reach, reach, 241)
    across = torch.linspace(-reach, reach, require.whole_number("lines", lines, 2))
    grid = torch.cartesian_prod(across, along)  # (lines · 241, 2), one line after the other
    with torch.no_grad():
        bent = [require.points("g(z)", g(z)) for z in (grid, grid.flip(1))]
    for x in bent:
        if x.shape != grid.shape:
            raise ValueError(f"g must return shape {tuple(grid.shape)}, got {tuple(x.shape)}")
        for line in x.cpu().unflatten(0, (lines, -1)):
            ax.plot(*line.T, color=colour, linewidth=0.6, linestyle="-", alpha=0.8)
    return _plane(ax)


def loss_curve(ax: Axes, history: History, floor: float | None = None, unit: str = "nats") -> Axes:
    """Draw the loss over the steps, its running mean over 2 % of them, and the least that is possible on average.

    Args:
        ax: where to draw.
        history: from `genlib.training.fit`, with at least one step.
        floor: what the loss on fresh examples cannot go below on average, such as an entropy.
        unit: of the loss.

    Raises:
        ValueError: the history is empty.
    """
    if not history.loss:
        raise ValueError("history must hold at least one step, got none")
    loss = np.asarray(history.loss)
    window = max(1, len(loss) // 50)
    steps = np.arange(1, len(loss) + 1)
    ax.plot(steps, loss, color=SKY, linewidth=0.6, alpha=0.6, linestyle="-", label="each batch")
    smooth = np.convolve(loss, np.ones(window) / window, mode="valid")
    ax.plot(steps[window - 1 :], smooth, color=BLUE, linestyle="-", label=f"mean of {window} steps")
    if floor is not None:
        ax.axhline(floor, color=ORANGE, linestyle="--", label="least on fresh data")
    ax.set(xlabel="step", ylabel=f"loss ({unit})")
    ax.legend()
    return ax


def heat_map(
    ax: Axes,
    values: Tensor,
    rows: Sequence[str],
    columns: Sequence[str],
    patterns: str | Sequence[str] = "{:.2f}",
    larger_is_better: bool | Sequence[bool] = False,
    shades: Tensor | None = None,
) -> Axes:
    """Draw a table of numbers, shaded by rank within each column: the darkest is the best.

    Args:
        ax: where to draw.
        values: (R, C); NaN makes a grey cell with a dash.
        rows: R names.
        columns: C names, written above.
        patterns: how a number is written, for all columns or for each.
        larger_is_better: for all columns or for each.
        shades: (R, C) numbers from 0, pale, to 1, dark, in place of the ranks.

    Raises:
        ValueError: shades of another shape, or not one name, pattern and direction for each row or column.
    """
    values = torch.as_tensor(values, dtype=torch.float64)
    size = (len(rows), len(columns))
    patterns = [patterns] * size[1] if isinstance(patterns, str) else list(patterns)
    upward = [larger_is_better] * size[1] if isinstance(larger_is_better, bool) else list(larger_is_better)
    if values.shape != size or len(patterns) != size[1] or len(upward) != size[1]:
        raise ValueError(f"values must have shape {size}, with a pattern and a direction for each column")
    if shades is None:
        shades = ranks(torch.where(torch.tensor(upward), -values, values))
    if shades.shape != size:
        raise ValueError(f"shades must have shape {size}, got {tuple(shades.shape)}")
    ax.imshow(shades.numpy(), cmap=_SHADES, vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values.numpy()):
        text = "–" if math.isnan(value) else patterns[j].format(value)
        ink = "white" if shades[i, j] > 0.55 else "black"
        ax.text(j, i, text, ha="center", va="center", color=ink, fontsize=9.5)
    ax.set_xticks(range(size[1]), columns)
    ax.set_yticks(range(size[0]), rows)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.set_xticks(np.arange(size[1] + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(size[0] + 1) - 0.5, minor=True)
    ax.tick_params(which="minor", length=0)
    ax.grid(which="major", visible=False)
    ax.grid(which="minor", color="white", linewidth=2)
    ax.spines[:].set_visible(False)
    return ax


def ranks(cost: Tensor) -> Tensor:
    """Share of the others in the column that each number beats by being smaller, (R, C) → (R, C); NaN for NaN.

    The smallest has 1, the largest 0, equal numbers the same; a number alone in its column has 1.
    """
    beaten = (cost[None] > cost[:, None]).sum(1)  # (R, C)
    others = (~cost.isnan()).sum(0) - 1
    return torch.where(others > 0, beaten / others.clamp(min=1), 1.0).where(~cost.isnan(), math.nan)


def images(sheet: Tensor, columns: int = 8, levels: int = 16, rows: Sequence[str] | None = None) -> Figure:
    """Draw grey images as a sheet, ink dark on white paper.

    Args:
        sheet: (n, H, W) grey levels, 0 for paper.
        columns: images in a row.
        levels: the darkest grey level.
        rows: a name for each row, written above it.

    Raises:
        ValueError: wrong shape, NaN, columns < 1, or not one name a row.
    """
    sheet = require.real_tensor("sheet", sheet).detach().cpu().numpy()
    if sheet.ndim != 3 or 0 in sheet.shape:
        raise ValueError(f"sheet must have shape (n, H, W), got {tuple(sheet.shape)}")
    require.positive("levels", levels)
    columns = min(require.whole_number("columns", columns), len(sheet))
    count = -(-len(sheet) // columns)
    if rows is not None and len(rows) != count:
        raise ValueError(f"rows must hold {count} names, got {len(rows)}")
    figure = plt.figure(figsize=(6.4, count * (6.4 / columns + (0.25 if rows else 0.0))))
    for i, strip in enumerate(figure.subfigures(count, 1, squeeze=False).flat):
        if rows is not None:
            strip.suptitle(rows[i], x=0.01, ha="left", fontsize=10.5)
        for ax, image in zip(
            strip.subplots(1, columns, squeeze=False).flat, sheet[i * columns :], strict=False
        ):
            ax.imshow(image, cmap="gray_r", vmin=0, vmax=levels)
    for ax in figure.axes:
        ax.set_axis_off()
    return figure


def show(figure: Figure, alt: str) -> None:
    """Show a figure with a text for readers who cannot see it, in a cell whose alt text holds numbers that were drawn.

    The text travels in the metadata of the output; when the notebook is stored it becomes the alt text of the page.

    Args:
        figure: it is shown once and closed.
        alt: what is seen, in words, with numbers of the values that are drawn.

    Raises:
        ValueError: alt says nothing.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt must say what is seen, got {alt!r}")
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def _plane(ax: Axes) -> Axes:
    """Label the axes of a picture of the plane and give both the same scale."""
    ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    ax.grid(visible=False)
    return ax
