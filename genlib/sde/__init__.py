"""Stochastic differential equations: processes, their simulation, and the Fokker-Planck equation on a grid.

A process moves points x (B, *E) by dx = f(x, t) dt + g(x, t) dW in the sense of Itô, with a drift f and a noise of size
g in each coordinate. Time t is a number of at least 0.
"""

from genlib.sde.grid import Grid, at_rest, evolve
from genlib.sde.processes import (
    Brownian,
    Diffusion,
    GeometricBrownian,
    Linear,
    OrnsteinUhlenbeck,
    Overdamped,
    Process,
    Reversed,
    Underdamped,
)
from genlib.sde.simulate import simulate

__all__ = [
    "Brownian",
    "Diffusion",
    "GeometricBrownian",
    "Grid",
    "Linear",
    "OrnsteinUhlenbeck",
    "Overdamped",
    "Process",
    "Reversed",
    "Underdamped",
    "at_rest",
    "evolve",
    "simulate",
]
