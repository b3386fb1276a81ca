"""Where a climb begins: rows far apart from each other, and the centres of clusters."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib.mixture.core import Mixture, climb, repetitions, rows_for


@torch.no_grad()
def spread_out(
    x: Tensor,
    components: int,
    *,
    counts: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Choose K rows far apart: k-means++ (Arthur and Vassilvitskii 2007, SODA, 1027-1035).

    The first is drawn by its count :math:`c_n`. Each further one is drawn by count and squared distance to the nearest
    centre so far,

    .. math:: P(n) \propto c_n \min_{j} \lVert x_n - x_j \rVert^2

    Where no row lies off the centres, one that is not yet chosen is drawn by its count.

    Args:
        x: data, (n, D).
        components: K, at most as many as there are rows that count.
        counts: how often each row counts, (n,); once when None.
        generator: draws from here instead of torch's global one.

    Returns:
        Numbers of the rows, (K,), none twice.

    Raises:
        ValueError: an argument is out of range.
    """
    x = require.points("x", x)
    counts = repetitions(x, counts)
    components = rows_for(components, counts)
    chosen = torch.multinomial(counts, 1, generator=generator)  # (1,)
    nearest = torch.full_like(counts, torch.inf)
    while len(chosen) < components:
        nearest = torch.minimum(nearest, (x - x[chosen[-1]]).square().sum(1))
        chance = counts * nearest
        if not chance.any():
            chance = counts.index_fill(0, chosen, 0)
        chosen = torch.cat([chosen, torch.multinomial(chance, 1, generator=generator)])
    return chosen


@torch.no_grad()
def lloyd(x: Tensor, centres: Tensor, steps: int = 100) -> tuple[Tensor, Tensor]:
    """k-means: rows go to their nearest centre, centres to the mean of their rows, until no row moves.

    The sum of squared distances never rises (Lloyd 1982, IEEE Trans. Inf. Theory 28, 129-137). A centre without rows
    stays where it is.

    Args:
        x: data, (n, D).
        centres: where to start, (K, D).
        steps: at most so many.

    Returns:
        Centres (K, D), and the number of each row's nearest one, (n,).

    Raises:
        ValueError: an argument is out of range.
    """
    x = require.points("x", x)
    centres = require.points("centres", centres).to(x)
    if centres.shape[1] != x.shape[1]:
        raise ValueError(f"centres must have shape (K, {x.shape[1]}), got {tuple(centres.shape)}")
    labels = nearest_centre(x, centres)
    for _ in range(require.whole_number("steps", steps, 0)):
        size = torch.bincount(labels, minlength=len(centres))[:, None]  # (K, 1)
        shift = torch.zeros_like(centres).index_add(0, labels, x - centres[labels])
        centres = centres + shift / size.clamp(min=1)
        before, labels = labels, nearest_centre(x, centres)
        if torch.equal(before, labels):
            break
    return centres, labels


def nearest_centre(x: Tensor, centres: Tensor) -> Tensor:
    """Number of the centre nearest to each row, (n, D), (K, D) → (n,)."""
    return torch.cdist(x, centres, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)


def highest(start: Callable[[], Mixture], x: Tensor, starts: int, steps: int, **settings: object) -> Mixture:
    """Climb from several starts and return the end of the highest `penalised`. A start that degenerates is dropped.

    Args:
        start: returns a model to start from, each time another one.
        x: data, (n, *E).
        starts: how many.
        steps, settings: of each climb, as in `climb`.

    Raises:
        RuntimeError: all starts degenerate.
    """
    best, top, error = None, -math.inf, None
    for _ in range(require.whole_number("starts", starts)):
        try:
            model, heights = climb(start(), x, steps, **settings)
        except RuntimeError as failed:
            error = failed
        else:
            best, top = (model, heights[-1]) if heights[-1] > top else (best, top)
    if best is None:
        raise RuntimeError(
            f"all {starts} starts degenerate: take fewer components, or pull above 0; the last: {error}"
        ) from error
    return best
