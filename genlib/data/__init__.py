"""Sources whose truth is known, and real data: what every model of the book is measured against.

A `Source` is an exact distribution with the names and shapes of `torch.distributions`: ``sample((n,))``,
``log_prob(x)`` and ``entropy()`` in nats. An exact target can therefore stand in for a model in any plot, metric or
check. Each source lives on a device and in a dtype, and draws there.

Real data stand beside them: handwritten digits and English prose. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable

from genlib import _arguments as require
from genlib.data.digits import Digits, Split, blurred, digits, moved, shifted, shifts
from genlib.data.lattices import CRITICAL, Ising, states
from genlib.data.plane import (
    Box,
    Checkerboard,
    GaussianMixture,
    NoisyCurve,
    Pinwheel,
    PlanarSource,
    Rings,
    cells,
    grid,
    lattice,
    ring,
    two_moons,
    two_spirals,
)
from genlib.data.prose import ALPHABET, Prose, prose
from genlib.data.sequences import Grammar, MarkovChain, english, pad, until_end
from genlib.data.sources import Categorical, Source

__all__ = [
    "ALPHABET",
    "CRITICAL",
    "SOURCES",
    "Box",
    "Categorical",
    "Checkerboard",
    "Digits",
    "GaussianMixture",
    "Grammar",
    "Ising",
    "MarkovChain",
    "NoisyCurve",
    "Pinwheel",
    "PlanarSource",
    "Prose",
    "Rings",
    "Source",
    "Split",
    "blurred",
    "cells",
    "digits",
    "english",
    "grid",
    "lattice",
    "moved",
    "pad",
    "prose",
    "ring",
    "shifted",
    "shifts",
    "source",
    "states",
    "two_moons",
    "two_spirals",
    "until_end",
]

SOURCES: dict[str, Callable[..., Source]] = {
    "categorical": Categorical,
    "ring": ring,
    "grid": grid,
    "checkerboard": Checkerboard,
    "two_moons": two_moons,
    "pinwheel": Pinwheel,
    "two_spirals": two_spirals,
    "rings": Rings,
}


def source(name: str, **settings: object) -> Source:
    """Make a source by its name, one of `SOURCES`; the settings are those of its own constructor.

    Raises:
        ValueError: the name is unknown.
    """
    return require.one_of("name", name, SOURCES)(**settings)
