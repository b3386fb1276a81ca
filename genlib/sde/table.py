"""Training targets without noise, for scores in the plane: tables of what the denoising loss has in the mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import normal, uniform

MOST_CELLS = 2**24  # of one grid


class NoisedTable:
    r"""The score of points in the plane with normal noise, on a grid for each noise level.

    With noise of deviation κ, points x_1, …, x_n are a mixture of n normal bumps, and its score is known:

    .. math:: \nabla \log p_\kappa(x) = \frac{\sum_i w_i(x)\, (x_i - x)}{\kappa^2 \sum_i w_i(x)}, \qquad
        w_i(x) = e^{-\lVert x - x_i \rVert^2 / (2 \kappa^2)}

    The denoising loss has it in the mean: a fresh draw of its target is (x_i − x)/κ² for one i, with probability
    w_i / Σ w. Here the points are counted into square cells, C, and since a bump is a product over both coordinates,
    the sums at all cells are products of matrices, such as K C K with K_ab the bump between rows a and b.

    Counting rounds the points, which is noise of variance h²/12 for cells of width h: the bumps are narrower by as
    much, of variance κ² − h²/12. Cells are as wide as κ, but not wider than `cell`. Their number is a power of the
    dimension, hence the plane.

    Args:
        points: (n, 2), in data units, around 0 as the grids are.
        levels: (L,) noise levels κ, in data units, all above 0, that rise or that fall.
        cell: the largest width of a cell, in data units; a twentieth of the spread of the points or less.
        median, width: how often `draw` takes a level is normal in log κ, with this median and deviation.

    Attributes:
        levels: (L,).
        share: (L,) how often each is drawn.

    Raises:
        ValueError: the points are not (n, 2), the levels are not above 0 or turn around, or a grid would have more than
            2²⁴ cells.
    """

    def __init__(
        self,
        points: Tensor,
        levels: Tensor | Sequence[float],
        *,
        cell: float = 0.1,
        median: float = 0.183,
        width: float = 2.0,
    ) -> None:
        self.points, cell = require.batch("points", points, (2,)), require.positive("cell", cell)
        if not len(points):
            raise ValueError("points must hold at least one, got none")
        self.levels = _one_way(require.real_tensor("levels", levels, like=points))
        away = self.levels.log() - math.log(require.positive("median", median))
        self.share = (-0.5 * (away / require.positive("width", width)).square()).softmax(0)
        grids = [_Grid(points, kappa, min(kappa, cell)) for kappa in self.levels.tolist()]
        self._scores = torch.cat([grid.scores(points) for grid in grids])  # (all cells, 2)
        sizes = torch.tensor([grid.size for grid in grids], device=points.device)
        self._size, self._start = sizes, (sizes**2).cumsum(0) - sizes**2
        self._low, self._step = points.new_tensor([(grid.low, grid.step) for grid in grids]).T

    def draw(
        self, n: int, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        r"""Noisy points at random levels, and the score there: x (n, 2), κ (n,), scores (n, 2) and weights (n,).

        A place is rounded to the middle of its cell, and the score is the one there: rounding changes how often a place
        is seen, not what is said of it. Places beyond the grid, which ends 3.5 κ outside of the points, come to its
        edge. The weight is ½ κ² over how often the level is drawn, relative to all alike. So the mean of

        .. math:: \text{weight} \cdot \lVert s(x, \kappa) - \text{score} \rVert^2

        is that of `ScoreSDE.loss` for these points, less a constant, where the levels are evenly spaced in log κ.

        Args:
            n: how many.
            generator: draws from here instead of torch's global one.
        """
        n, like = require.whole_number("n", n), self.points
        rows = torch.randint(len(like), (n,), generator=generator, device=like.device)
        even = (torch.arange(n, device=like.device) + uniform((n,), like, generator)) / n
        level = torch.searchsorted(self.share.cumsum(0)[:-1], even)
        kappa = self.levels[level]
        x = like[rows] + kappa[:, None] * normal((n, 2), like, generator)
        low, step, size = self._low[level, None], self._step[level, None], self._size[level, None]
        place = ((x - low) / step).round().long().clamp_min(0).minimum(size - 1)  # (n, 2)
        scores = self._scores[self._start[level] + place[:, 0] * size[:, 0] + place[:, 1]]
        weight = kappa**2 / (2 * len(self.levels) * self.share[level])
        return low + step * place, kappa, scores, weight


class _Grid:
    """Square cells of width `step` around points (n, 2), with middles low + step · (0, …, size − 1) both ways."""

    def __init__(self, points: Tensor, kappa: float, step: float) -> None:
        reach = points.abs().max().item() + 3.5 * kappa
        self.kappa, self.step, self.low, self.size = kappa, step, -reach, math.ceil(2 * reach / step) + 1
        if self.size**2 > MOST_CELLS:
            raise ValueError(
                f"levels must be larger beside the points, or cell wider: at level {kappa:g}, points as far out as "
                f"{points.abs().max().item():g} need {self.size} × {self.size} cells of width {step:g}"
            )

    def counts(self, points: Tensor) -> Tensor:
        """How many points lie in each cell, (size, size)."""
        row, column = ((points - self.low) / self.step).round().long().T
        flat = torch.bincount(row * self.size + column, minlength=self.size**2)
        return flat.view(self.size, self.size).to(points)

    def scores(self, points: Tensor) -> Tensor:
        """Score of the noised points at the middle of each cell, row by row, (size², 2)."""
        middle = self.step * torch.arange(self.size, device=points.device, dtype=points.dtype)
        gap = middle - middle[:, None]  # (size, size), from the row's place to the column's
        variance = self.kappa**2 - self.step**2 / 12
        bump, count = (-(gap**2) / (2 * variance)).exp(), self.counts(points)
        slope, along = gap / variance * bump, count @ bump
        density = (bump @ along).clamp_min(torch.finfo(points.dtype).tiny)
        sums = torch.stack([slope @ along, bump @ count @ slope.T], -1)
        return (sums / density[..., None]).flatten(0, 1)


def _one_way(levels: Tensor) -> Tensor:
    steps = levels.diff()
    if levels.ndim != 1 or not len(levels) or not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(f"levels must have shape (L,) and all rise or all fall, got {levels.tolist()}")
    if not (levels > 0).all():
        raise ValueError(f"levels must be above 0, got {levels.min().item():g}")
    return levels.clone()
