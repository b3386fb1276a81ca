"""The Ising model on a small lattice: images of two colours whose probabilities are known exactly.

Neighbours that are equal are more probable, the more so the colder the lattice is. What makes such a model hard is its
normaliser Z, a sum over all images. On a narrow lattice the sum can be done place by place, and then all is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import uniform
from genlib.data.sources import Source

# Where the infinite lattice begins to order: 2.269 (Onsager 1944, https://doi.org/10.1103/PhysRev.65.117).
CRITICAL = 2 / math.log(1 + math.sqrt(2))
WIDEST = 12  # places in a row: the sums run over two to this power boundaries
MOST = 20  # units whose states are listed: two to this power of them


def states(count: int, *, device: torch.device | str | None = None) -> Tensor:
    """All states of units that are 0 or 1, (2^count, count) int64, the last unit changing fastest.

    Raises:
        ValueError: count is no whole number from 1 to 20.
    """
    if require.whole_number("count", count) > MOST:
        raise ValueError(f"count must be at most {MOST} to list all states, got {count}")
    numbers, places = torch.arange(2**count, device=device), torch.arange(count, device=device)
    return numbers[:, None] >> places.flip(0) & 1


class Ising(Source):
    r"""Spins s = 2x − 1 of −1 and +1 on H × W places with free edges, without an outside field (Ising 1925).

    .. math:: p(x) = \frac{1}{Z} e^{-E(x)/T}, \quad E(x) = -\sum_{i \sim j} s_i s_j

    The sum runs over all pairs of neighbours, each taken once. A place depends on the places before it, row by row,
    through the last W of them alone: they are the *boundary* of what is known. So Z is a sum over one place after the
    other, for each of the 2^W boundaries (Kramers and Wannier 1941, https://doi.org/10.1103/PhysRev.60.252). It leaves
    behind the probability of each place given the places before it; samples are drawn from these, one by one, without
    a Markov chain. All is exact, in float64.

    Args:
        height, width: H and W, the width at most 12. A wide lattice can be laid on its side.
        temperature: T, in units of the coupling.
        device: where the source works; torch's default when None.

    Attributes:
        edges: number of pairs of neighbours. The lowest energy is −edges, where all spins are equal.
        log_partition: log Z in nats, a scalar.

    Raises:
        ValueError: a size is no whole number from 1 on, the width is above 12, the temperature is no finite number
            above 0 or so low that E/T overflows.
    """

    def __init__(
        self, height: int, width: int, temperature: float, *, device: torch.device | str | None = None
    ) -> None:
        self.height, self.width = require.whole_number("height", height), require.whole_number("width", width)
        if self.width > WIDEST:
            raise ValueError(f"width must be at most {WIDEST}, got {width}; the height may be larger")
        self.event_shape = torch.Size([self.height, self.width])
        self.edges = self.height * (self.width - 1) + (self.height - 1) * self.width
        self.temperature = require.positive("temperature", temperature)
        if math.isinf(2 * self.edges / self.temperature):
            raise ValueError(f"temperature must leave E/T finite, got {temperature!r}")
        self._boundaries = torch.arange(2**self.width, device=device)[
            :, None
        ]  # (2^W, 1), the last place in bit 0
        self._log_p = self._boundaries.new_empty(
            (self.height * self.width, 2**self.width, 2), dtype=torch.float64
        )
        log_rest = self._log_p.new_zeros(
            2**self.width
        )  # log of the sum over the places to come: there are none
        after = self._next(self._boundaries, torch.arange(2, device=device))  # (2^W, 2)
        for place in reversed(range(len(self._log_p))):
            logits = log_rest[after] - 2 * self._broken(place) / self.temperature  # (2^W, 2)
            log_rest = logits.logsumexp(-1)
            self._log_p[place] = logits - log_rest[:, None]
        self._log_z = log_rest[
            0
        ]  # of energies from the lowest one on, so that a cold lattice loses no digits
        self.log_partition = self._log_z + self.edges / self.temperature

    def energy(self, x: Tensor) -> Tensor:
        """Energy E, (B, H, W) int → (B,): pairs of neighbours that differ less those that are equal."""
        s = 2 * require.symbols("x", x, self.event_shape, 2).double() - 1
        down, right = s[..., 1:, :] * s[..., :-1, :], s[..., 1:] * s[..., :-1]
        return -down.sum((-2, -1)) - right.sum((-2, -1))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability in nats, exact, (B, H, W) int → (B,)."""
        return -(self.energy(x) + self.edges) / self.temperature - self._log_z

    def log_conditionals(self, x: Tensor) -> Tensor:
        """log P(· | the places before, row by row) in nats at every place, exact, (B, H, W) int → (B, H, W, 2)."""
        places = require.symbols("x", x, self.event_shape, 2).flatten(-2)  # (B, H W)
        boundary, out = torch.zeros_like(places[..., 0]), []
        for place, symbol in enumerate(places.unbind(-1)):
            out.append(self._log_p[place, boundary])
            boundary = self._next(boundary, symbol)
        return torch.stack(out, -2).unflatten(-2, self.event_shape)

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw images, exact and independent, (n,) → (n, H, W) int64."""
        u = uniform((require.sample_count(shape), len(self._log_p)), self._log_p, generator)
        boundary, drawn = torch.zeros_like(u[:, 0], dtype=torch.int64), []
        for place, log_p in enumerate(self._log_p[..., 1]):
            drawn.append((u[:, place] < log_p[boundary].exp()).long())
            boundary = self._next(boundary, drawn[-1])
        return torch.stack(drawn, -1).unflatten(-1, self.event_shape)

    def mean_energy(self) -> Tensor:
        """Expected energy E[E(x)], exact, a scalar."""
        broken, mass = self._log_z.new_zeros(()), self._empty()
        for place in range(len(self._log_p)):
            joint = self._joint(mass, place)
            broken += (joint * self._broken(place)).sum()
            mass = self._forget(joint)
        return 2 * broken - self.edges

    def entropy(self) -> Tensor:
        """Entropy log Z + E[E(x)]/T in nats, exact, a scalar."""
        return self._log_z + (self.mean_energy() + self.edges) / self.temperature

    def correlation(self) -> Tensor:
        """E[s_i s_j] of all pairs of places, exact, (H W, H W); place r W + c is the one in row r and column c."""
        spins = (2 * (self._boundaries[:, 0] & 1) - 1).double()  # (2^W,), of the last place
        out, mass = self._log_p.new_ones(2 * (len(self._log_p),)), self._empty()[None]
        for place in range(len(self._log_p)):
            mass = self._forget(
                self._joint(mass, place)
            )  # (1 + place, 2^W): p, p s_0, ..., p s_(place − 1), summed
            out[place, :place] = out[:place, place] = mass[1:] @ spins
            mass = torch.cat([mass, mass[:1] * spins])
        return out

    def states(self) -> Tensor:
        """All images, (2^(H W), H, W) int64, the last place changing fastest.

        Raises:
            ValueError: there are more than 16 places.
        """
        count = len(self._log_p)
        if count > 16:
            raise ValueError(f"height × width must be at most 16 to list all states, got {count}")
        return states(count, device=self._log_p.device).unflatten(-1, self.event_shape)

    def _next(self, boundary: Tensor, symbol: Tensor) -> Tensor:
        """The boundary after one more place: its oldest place goes, the symbol comes."""
        return (2 * boundary + symbol) % 2**self.width

    def _broken(self, place: int) -> Tensor:
        """How many of a place's edges to places before it join unequal spins, by boundary and symbol, (2^W, 2)."""
        symbol = torch.arange(2, device=self._boundaries.device)
        above, left = self._boundaries >> (self.width - 1), self._boundaries & 1
        broken = (place >= self.width) * (above ^ symbol) + (place % self.width > 0) * (left ^ symbol)
        return broken.double()

    def _empty(self) -> Tensor:
        """Law of the boundary before the first place, (2^W,): what is not there yet counts as 0."""
        return (self._boundaries[:, 0] == 0).double()

    def _joint(self, mass: Tensor, place: int) -> Tensor:
        """Weights of boundary and next symbol from those of the boundary, (..., 2^W) → (..., 2^W, 2)."""
        return mass[..., None] * self._log_p[place].exp()

    def _forget(self, joint: Tensor) -> Tensor:
        """Weights of the next boundary, (..., 2^W, 2) → (..., 2^W): the sum over the oldest place."""
        return joint.unflatten(-2, (2, -1)).sum(-3).flatten(-2)
