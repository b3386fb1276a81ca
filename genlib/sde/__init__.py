"""Stochastic differential equations: processes, their simulation, and the Fokker-Planck equation on a grid.

A process moves points x (B, *E) by dx = f(x, t) dt + g(x, t) dW in the sense of Itô, with a drift f and a noise of size
g in each coordinate. Time t is a number of at least 0.
"""

from genlib.sde.backward import adaptive, cleaned, exponential, predictor_corrector
from genlib.sde.flow import ProbabilityFlow, divergence, integrate, log_prob, signs, solve
from genlib.sde.grid import Grid, at_rest, evolve
from genlib.sde.levels import GreyScore
from genlib.sde.model import ScoreSDE
from genlib.sde.noising import Noising, SubVariancePreserving, VarianceExploding, VariancePreserving
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
from genlib.sde.table import NoisedTable

__all__ = [
    "Brownian",
    "Diffusion",
    "GeometricBrownian",
    "GreyScore",
    "Grid",
    "Linear",
    "NoisedTable",
    "Noising",
    "OrnsteinUhlenbeck",
    "Overdamped",
    "ProbabilityFlow",
    "Process",
    "Reversed",
    "ScoreSDE",
    "SubVariancePreserving",
    "Underdamped",
    "VarianceExploding",
    "VariancePreserving",
    "adaptive",
    "at_rest",
    "cleaned",
    "divergence",
    "evolve",
    "exponential",
    "integrate",
    "log_prob",
    "predictor_corrector",
    "signs",
    "simulate",
    "solve",
]
