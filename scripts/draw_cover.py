"""Draw the book's cover, its mark, and the figures of its first pages, as small SVG files.

    python scripts/draw_cover.py

The cover is computed, not painted: a known density P (genlib's pinwheel), the same samples carried from
noise to data, and below each stage its distance D_KL(P‖Q) in nats. The colours are those of Okabe and Ito, which
colour-blind readers tell apart. A page that holds a drawing inline lends it its own tones through CSS (--gm-p,
--gm-q, --gm-true, --gm-ink); a file opened alone falls back to tones that read on light and on dark. Fixed seeds
and no time stamps: the same versions draw the same bytes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import contourpy
import numpy as np
import torch

from genlib import data

STATIC = Path(__file__).resolve().parents[1] / "book" / "_static"
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#808080"
P_COLOUR, Q_COLOUR = f"var(--gm-p,{BLUE})", f"var(--gm-q,{VERMILLION})"
TRUE, INK = f"var(--gm-true,{GREEN})", f"var(--gm-ink,{GREY})"
MASS = (0.95, 0.75, 0.5, 0.25)  # each contour holds this share of the probability


def svg(width: float, height: float, title: str, body: list[str], description: str = "") -> str:
    """Wrap elements into one accessible SVG document; `title` is what a screen reader says."""
    about = f"<title>{title}</title>" + (f"<desc>{description}</desc>" if description else "")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img"'
    return f'{head} aria-label="{title}">{about}\n' + "\n".join(body) + "\n</svg>\n"


def path(points: np.ndarray, *, close: bool = False) -> str:
    """Path data through (N, 2) points, with one decimal."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f"M{steps}" + ("Z" if close else "")


def dots(points: np.ndarray, radius: float, colour: str, opacity: float = 1.0) -> str:
    """All dots as one path of zero-length strokes with round ends: a few bytes each."""
    steps = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
    style = f'fill="none" stroke="{colour}" stroke-width="{2 * radius:g}" stroke-linecap="round"'
    return f'<path d="{steps}" {style} opacity="{opacity:g}"/>'


def line(points: np.ndarray, colour: str, width: float = 2.5, extra: str = "") -> str:
    """An open curve through (N, 2) points."""
    style = f'fill="none" stroke="{colour}" stroke-width="{width:g}" stroke-linejoin="round"'
    return f'<path d="{path(points)}" {style} stroke-linecap="round" {extra}/>'


def text(x: float, y: float, words: str, extra: str = "", colour: str = INK) -> str:
    """Centred text in the font of the page."""
    style = f'font-family="inherit" text-anchor="middle" fill="{colour}"'
    return f'<text x="{x:g}" y="{y:g}" {style} {extra}>{words}</text>'


# The cover ------------------------------------------------------------------------------------------------

REACH, CELLS = 6.0, 360  # a square window, in data units, and cells along each side
SPREAD = 1.46  # standard deviation of the noise: that of the pinwheel along each axis
NOISE = (1.0, 0.5, 0.33, 0.18, 0.0)  # share of noise in each stage, from left to right


def window() -> tuple[np.ndarray, float]:
    """Midpoints along one side of the window, and the area of a cell."""
    step = 2 * REACH / CELLS
    return -REACH + step * (np.arange(CELLS) + 0.5), step**2


def noised(source: data.Source, noise: float) -> np.ndarray:
    """Density of Q, where x = √(1 − noise²) x₀ + noise · SPREAD · ε, on the window's grid.

    Adding Gaussian noise convolves with a Gaussian. In Fourier space that is one product, exact up to rounding.
    """
    side, area = window()
    x, y = np.meshgrid(side, side)
    if noise == 1.0:
        return np.exp(-(x**2 + y**2) / (2 * SPREAD**2)) / (2 * np.pi * SPREAD**2)
    shrink = math.sqrt(1 - noise**2)
    grid = torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2) / shrink)
    shrunk = source.log_prob(grid).exp().numpy().reshape(x.shape) / shrink**2
    k = 2 * np.pi * np.fft.fftfreq(CELLS, math.sqrt(area))
    damping = np.exp(-0.5 * (noise * SPREAD) ** 2 * (k[:, None] ** 2 + k[None, :] ** 2))
    return np.fft.ifft2(np.fft.fft2(shrunk) * damping).real


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """D_KL(P‖Q) in nats by the midpoint rule."""
    inside = p > 1e-12
    return float((p[inside] * np.log(p[inside] / q[inside])).sum() * window()[1])


Place = Callable[[np.ndarray], np.ndarray]  # (N, 2) data units -> (N, 2) units of the drawing


def contours(
    x: np.ndarray,
    y: np.ndarray,
    density: np.ndarray,
    place: Place,
    colour: str = P_COLOUR,
    opacity: float = 0.2,
) -> list[str]:
    """Nested filled regions of highest density, each holding a share of the probability (MASS)."""
    area = (x[1] - x[0]) * (y[1] - y[0])
    ranked = np.sort(density.ravel())[::-1]
    held = np.cumsum(ranked) * area
    lines = contourpy.contour_generator(x, y, density)
    shapes = []
    for mass in MASS:
        level = ranked[np.searchsorted(held, mass)]
        outline = "".join(path(place(ring[:-1:2]), close=True) for ring in lines.lines(level))
        shapes.append(f'<path d="{outline}" fill="{colour}" fill-rule="evenodd" fill-opacity="{opacity:g}"/>')
    return shapes


def cover() -> str:
    """Five stages from noise to data, with the exact density behind the samples and the divergence below."""
    panel, height, drop = 200.0, 236.0, 98.0
    scale = 96 / 4.1
    source = data.source("pinwheel", across=0.24, dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    x0 = source.sample((320,), generator=generator).numpy()
    eps = torch.randn(x0.shape, generator=generator, dtype=torch.float64).numpy()
    truth = noised(source, 0.0)
    body = [
        "<style>.gm-nats{font-size:17px}.gm-unit{font-size:17px}.gm-tick{stroke-width:4}"
        "@media(max-width:600px){.gm-nats{font-size:34px}.gm-unit{display:none}.gm-tick{stroke-width:7}}</style>"
    ]
    values = []
    for i, noise in enumerate(NOISE):
        centre = np.array([panel * (i + 0.5), drop])
        density = noised(source, noise)
        x = math.sqrt(1 - noise**2) * x0 + noise * SPREAD * eps
        x = x[np.linalg.norm(x, axis=1) < 4.05]

        def place(points: np.ndarray, centre: np.ndarray = centre) -> np.ndarray:
            return centre + scale * points * (1, -1)

        body += contours(window()[0], window()[0], density, place)
        body.append(dots(place(x), 1.5, Q_COLOUR, 0.85))
        value = divergence(truth, density)
        values.append(f"{value:.2f}")
        label = f"{value:.2f}" if noise else "0"
        nudge = 0 if noise else -16  # room for the tick
        unit = '<tspan class="gm-unit"> nats</tspan>'
        body.append(text(centre[0] + nudge, height - 11, label + unit, 'class="gm-nats"'))
    x, y = panel * 4.5 + 29, height - 17
    tick = np.array([[x - 10, y], [x - 3, y + 7], [x + 11, y - 10]])
    body.append(line(tick, TRUE, 4, 'class="gm-tick"'))
    title = "Noise becomes data in five stages. The exact density stands behind the samples of each stage."
    told = f"The divergence from the data falls from {values[0]} nats to {', '.join(values[1:-1])} and 0."
    return svg(5 * panel, height, f"{title} {told}", body)


# The mark -------------------------------------------------------------------------------------------------


def bell(x: np.ndarray, centre: float, spread: float) -> np.ndarray:
    """A Gaussian bump of height 1 that is cut off where it has fallen to 0.02."""
    return np.maximum(np.exp(-0.5 * ((x - centre) / spread) ** 2) - 0.02, 0) / 0.98


def mark(title: str, spread: float, gap: float, base: float, cut: float) -> str:
    """Two densities P and Q, what they share, and a tick cut out of it, so that any paper does."""
    size, top = 64, 63 - base
    x = np.linspace(0, size, 257)
    p, q = bell(x, size / 2 - gap, spread), bell(x, size / 2 + gap, spread)
    tick = np.array([[-7.5, -14.4], [-2.1, -8.2], [8, -22]]) * (base / 54) + (size / 2, base)
    hole = f'<path fill="#fff" d="M0 0h{size}v{size}H0z"/>' + line(tick, "#000", cut)
    body = [f'<defs><mask id="gm-cut">{hole}</mask></defs>', '<g mask="url(#gm-cut)">']
    for height, colour in ((p, BLUE), (q, VERMILLION), (np.minimum(p, q), GREEN)):
        curve = np.stack([x, base - (base - top) * height], -1)
        rise, fall = np.flatnonzero(height)[[0, -1]]
        curve = curve[rise - 1 : fall + 2]
        body.append(f'<path d="{path(curve, close=True)}" fill="{colour}"/>')
    return svg(size, size, title, [*body, "</g>"])


# Three families, one density ------------------------------------------------------------------------------

MOONS = ((-1.62, 2.62), (-1.02, 1.52))  # the part of the plane that is shown
UNIT = 50.0  # drawing units to a data unit


def on_page(points: np.ndarray) -> np.ndarray:
    """Data units of the two moons to drawing units, y upwards."""
    return UNIT * (points - (MOONS[0][0], MOONS[1][1])) * (1, -1)


def lattice(columns: int, rows: int) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Midpoints along both axes, and all pairs of them as (rows · columns, 2)."""
    (left, right), (bottom, top) = MOONS
    x = left + (right - left) * (np.arange(columns) + 0.5) / columns
    y = bottom + (top - bottom) * (np.arange(rows) + 0.5) / rows
    return x, y, torch.from_numpy(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2))


def draw_explicit(source: data.Source, colour: str = P_COLOUR, opacity: float = 0.2) -> list[str]:
    """The density itself."""
    x, y, points = lattice(260, 156)
    density = source.log_prob(points).exp().numpy().reshape(len(y), len(x))
    return contours(x, y, density, on_page, colour, opacity)


def draw_implicit(source: data.Source) -> list[str]:
    """Samples and nothing else."""
    points = source.sample((420,), generator=torch.Generator().manual_seed(2)).numpy()
    return [dots(on_page(points), 1.5, Q_COLOUR)]


def draw_score(source: data.Source) -> list[str]:
    """The gradient of the log-density, as arrows; long ones are cut short, and the moons are only hinted at."""
    _, _, points = lattice(17, 10)
    score = source.score(points)
    length = score.norm(dim=-1, keepdim=True)
    step = (score / length * 11 * torch.tanh(length / 12)).numpy() * (1, -1)
    shaft = []
    for tip, arrow in zip(on_page(points.numpy()) + step / 2, step, strict=True):
        across = np.array([-arrow[1], arrow[0]])
        barbs = [tip - 0.4 * arrow + 0.26 * across, tip, tip - 0.4 * arrow - 0.26 * across]
        shaft.append(path(np.array([tip - arrow, tip])) + path(np.array(barbs)))
    style = f'fill="none" stroke="{TRUE}" stroke-width="1.3" stroke-linecap="round"'
    return [*draw_explicit(source, TRUE, 0.09), f'<path d="{"".join(shaft)}" {style}/>']


def families() -> dict[str, str]:
    """The same two moons as each family of models holds them: a density, samples, a score."""
    source = data.source("two_moons", scale=0.16, dtype=torch.float64)
    (left, right), (bottom, top) = MOONS
    told = {
        "explicit": ("Two moons as a density: nested shaded regions.", draw_explicit),
        "implicit": ("Two moons as samples: a cloud of dots.", draw_implicit),
        "score": ("Two moons as a score: arrows that point uphill, towards the moons.", draw_score),
    }
    size = (UNIT * (right - left), UNIT * (top - bottom))
    return {f"family_{name}.svg": svg(*size, title, draw(source)) for name, (title, draw) in told.items()}


# A month of weather --------------------------------------------------------------------------------------

WET_AFTER = (0.25, 0.45)  # probability of rain after a dry day, and after a wet one
DAYS = 30


def weather(draw: Callable[[float], bool]) -> list[bool]:
    """Days one after the other: `draw` turns the probability of rain into rain or none."""
    days = [draw(WET_AFTER[0])]
    while len(days) < DAYS:
        days.append(draw(WET_AFTER[days[-1]]))
    return days


def month() -> str:
    """Thirty days of the world, of a model that always takes the likelier day, and of one that draws."""
    rng = np.random.default_rng(6)

    def sampled(p: float) -> bool:
        return bool(rng.random() < p)

    rows = {
        "The world": weather(sampled),
        "A model that takes the likelier day": weather(lambda p: p > 0.5),
        "A model that draws": weather(sampled),
    }
    pitch, width = 22.0, 22.0 * DAYS
    body = []
    for i, (name, days) in enumerate(rows.items()):
        y = 70.0 * i + 46
        count = f": {sum(days)} wet days"
        words = text(2, y - 19, name + count, 'class="gm-row"')
        x = pitch * (np.arange(DAYS) + 0.5)
        places = np.stack([x, np.full(DAYS, y)], -1)
        wet = np.array(days)
        body += [words, dots(places[~wet], 2.2, INK), dots(places[wet], 7.5, P_COLOUR)]
    body.append(
        "<style>.gm-row{font-size:15px;text-anchor:start}@media(max-width:600px){.gm-row{font-size:25px}}</style>"
    )
    title = "Three rows of thirty days, wet days as large dots. " + " ".join(
        f"{name}: {sum(days)} wet." for name, days in rows.items()
    )
    return svg(width, 202, title, body)


def main() -> None:
    """Write the drawings and say where."""
    argparse.ArgumentParser(
        description="Draw the cover, the mark and the figures of the first pages."
    ).parse_args()
    title = "Generative Models, Verified"
    drawings = {
        "cover.svg": cover(),
        "logo.svg": mark(title, spread=8.3, gap=7, base=54, cut=5),
        "favicon.svg": mark(title, spread=9.3, gap=5.5, base=59, cut=7),
        "month.svg": month(),
        **families(),
    }
    STATIC.mkdir(parents=True, exist_ok=True)
    for name, drawing in drawings.items():
        (STATIC / name).write_text(drawing, encoding="utf-8", newline="\n")
        print(f"book/_static/{name}: {len(drawing.encode()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
