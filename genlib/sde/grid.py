"""The Fokker-Planck equation of one coordinate on a grid of cells: no mass is lost, and no cell turns negative."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from genlib import _arguments as require

Field = Callable[[Tensor], Tensor]
SLACK = 1e-6  # how far the mass on a grid may be from 1


class Grid:
    """Equal cells from `low` to `high`, in float64.

    Attributes:
        edges: (N + 1,) walls of the cells; nothing passes the first and the last.
        centres: (N,) their middles.
        width: of a cell.

    Raises:
        ValueError: low and high are not finite, low is not below high, or fewer than two cells.
    """

    def __init__(self, low: float, high: float, cells: int) -> None:
        if not require.finite("low", low) < require.finite("high", high):
            raise ValueError(f"low must be below high, got {low} and {high}")
        count = require.whole_number("cells", cells, 2)
        self.edges = torch.linspace(low, high, count + 1, dtype=torch.float64)
        self.centres = (self.edges[1:] + self.edges[:-1]) / 2
        self.width = (high - low) / count

    def masses(self, source: object) -> Tensor:
        """Mass of each cell (N,), by five nodes of Gauss and Legendre.

        Args:
            source: has ``log_prob``, (B, 1) → (B,).

        Raises:
            ValueError: more than a millionth of the mass lies outside, the cells are too wide for the density, or
                ``log_prob`` returns another shape.
        """
        nodes, weights = (torch.from_numpy(a).to(self.edges) for a in np.polynomial.legendre.leggauss(5))
        x = self.centres[:, None] + self.width / 2 * nodes  # (N, 5)
        log_p = source.log_prob(x.reshape(-1, 1))
        if log_p.shape != (x.numel(),):
            raise ValueError(f"log_prob must return shape ({x.numel()},), got {tuple(log_p.shape)}")
        mass = log_p.double().exp().reshape(x.shape) @ weights * self.width / 2
        total = mass.sum().item()
        if total > 1 + SLACK:
            raise ValueError(
                f"the cells must be narrower than what the density does: its mass comes out as {total:.6g}"
            )
        if not total >= 1 - SLACK:
            low, high = self.edges[0].item(), self.edges[-1].item()
            raise ValueError(
                f"the grid must hold the mass, but {1 - total:.2g} of it lies outside [{low:g}, {high:g}]"
            )
        return mass

    def generator(self, drift: Field, diffusion: Field | float) -> Tensor:
        r"""The matrix L of dm/dt = L m for the masses m of the cells, (N, N).

        .. math:: \frac{\partial p}{\partial t} = -\frac{\partial J}{\partial x}, \qquad
            J = f p - \frac{\partial (D p)}{\partial x}, \qquad D = \tfrac12 g^2

        Through the wall between two cells flows (Scharfetter and Gummel 1969, doi:10.1109/T-ED.1969.16566; Chang and
        Cooper 1970, doi:10.1016/0021-9991(70)90001-X)

        .. math:: J = \frac{B(-w)\, D_l p_l - B(w)\, D_r p_r}{h}, \quad w = \frac{f h}{D}, \quad
            B(w) = \frac{w}{e^w - 1}

        so columns sum to zero, and what is off the diagonal is not negative, however strong the drift.

        Args:
            drift: f, places (M,) → (M,); taken at the walls.
            diffusion: D, above 0, one number or places (M,) → (M,); taken at walls and middles.

        Raises:
            ValueError: the diffusion is not above 0, or one of the two returns another shape.
            RuntimeError: drift or diffusion is not finite; the message names a place.
        """
        walls, h = self.edges[1:-1], self.width
        f = _field("drift", drift, walls)
        at_walls, at_middles = (_positive("diffusion", diffusion, x) for x in (walls, self.centres))
        w = f * h / at_walls
        right = _bernoulli(-w) * at_middles[:-1] / h**2  # from each cell to the next
        left = _bernoulli(w) * at_middles[1:] / h**2  # and back
        L = right.diag(-1) + left.diag(1)
        return L - L.sum(0).diag()


def evolve(L: Tensor, mass: Tensor, time: float) -> Tensor:
    """The masses (N,) after a time, exp(L · time) @ mass: exact in time.

    Rounding grows with |L| · time: 1e-10 where that is a million, as with cells of 1/50 over a time of 200.

    Raises:
        ValueError: L is not (N, N), mass is not (N,), or time is below 0.
    """
    L, mass = require.real_tensor("L", L), require.real_tensor("mass", mass)
    if L.ndim != 2 or L.shape[0] != L.shape[1] or mass.shape != L.shape[:1]:
        raise ValueError(
            f"L and mass must have shapes (N, N) and (N,), got {tuple(L.shape)}, {tuple(mass.shape)}"
        )
    return torch.linalg.matrix_exp(L * float(require.not_negative("time", time))) @ mass


def at_rest(L: Tensor) -> Tensor:
    """The masses (N,) at rest, L m = 0, of a grid: no current flows through any wall.

    Where the drift is so strong that a rate rounds to zero, a wall lets pass one way only, and all mass ends in the
    cells that none leaves.

    Raises:
        ValueError: L is not (N, N), a cell gives to one that is no neighbour, or there are two such groups of cells, so
            that the law at rest depends on the start.
    """
    L = require.real_tensor("L", L)
    if L.ndim != 2 or L.shape[0] != L.shape[1] or L.triu(2).any() or L.tril(-2).any():
        raise ValueError("L must have shape (N, N), and a cell must give to its neighbours only")
    up, down = L.diag(-1), L.diag(1)  # through each wall
    first = int((down == 0).nonzero().max()) + 1 if (down == 0).any() else 0
    last = int((up == 0).nonzero().min()) if (up == 0).any() else len(L) - 1
    if first > last:
        raise ValueError(
            "L must have one law at rest, but no mass passes between two groups of cells: with a drift that strong, "
            "the cells must be narrower"
        )
    inner = slice(first, last)
    log_m = torch.cat(
        [L.new_zeros(1), (up[inner].log() - down[inner].log()).cumsum(0)]
    )  # as much goes up as down
    mass = L.new_zeros(len(L))
    mass[first : last + 1] = torch.softmax(log_m, 0)
    return mass


def _bernoulli(w: Tensor) -> Tensor:
    """w / (e^w − 1), 1 at 0, without overflow."""
    small = w.abs() < 1e-4
    safe = torch.where(small, 1.0, w)
    return torch.where(small, 1 - w / 2 + w**2 / 12, safe / torch.expm1(safe))


def _field(name: str, function: Field | float, x: Tensor) -> Tensor:
    """Values (M,) of a function at the places x (M,), all finite."""
    values = function(x) if callable(function) else torch.full_like(x, require.positive(name, function))
    values = require.same_shape(name, values, x)
    if not torch.isfinite(values).all():
        raise RuntimeError(f"the {name} is not finite at x = {x[~torch.isfinite(values)][0].item():.6g}")
    return values.double()


def _positive(name: str, function: Field | float, x: Tensor) -> Tensor:
    values = _field(name, function, x)
    if (values <= 0).any():
        raise ValueError(f"{name} must be above 0, got {values.min().item():.3g}")
    return values
