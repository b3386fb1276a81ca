"""What draws from a score or a log-density, step by step: Langevin dynamics, Markov chains, and their diagnostics.

A log-density is a function of a batch, (B, *E) → (B,), and is needed up to a constant only. A score is its gradient in
x, (B, *E) → (B, *E). A score with a noise level is a function of a batch and a level σ above 0: the score of the data
after normal noise of deviation σ was added. Each of the B points is a walk of its own.
"""

from genlib.samplers._slopes import LogProb, Score
from genlib.samplers.diagnostics import autocorrelation, effective_sample_size, normal_scores, split_r_hat
from genlib.samplers.langevin import annealed_langevin, capped, known, langevin, mala
from genlib.samplers.matrices import metropolised, spectral_gap, stationary
from genlib.samplers.metropolis import (
    Independence,
    LangevinStep,
    Proposal,
    RandomWalk,
    gibbs,
    hamiltonian,
    leapfrog,
    metropolis_hastings,
)
from genlib.samplers.tempering import Tempered, tempering

__all__ = [
    "Independence",
    "LangevinStep",
    "LogProb",
    "Proposal",
    "RandomWalk",
    "Score",
    "Tempered",
    "annealed_langevin",
    "autocorrelation",
    "capped",
    "effective_sample_size",
    "gibbs",
    "hamiltonian",
    "known",
    "langevin",
    "leapfrog",
    "mala",
    "metropolis_hastings",
    "metropolised",
    "normal_scores",
    "spectral_gap",
    "split_r_hat",
    "stationary",
    "tempering",
]
