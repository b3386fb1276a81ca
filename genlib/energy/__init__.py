r"""Energies: models that say how probable a thing is beside another, and leave open the sum over all things.

p(x) = exp(−E(x)) / Z, with E in nats. An energy is learned by the contrast of data and draws of the model, or of data
and noise. Machines of binary units are exact as long as they are small, and `ais` says how large Z is where nothing can
be listed; in the plane a sum over small cells does.
"""

from genlib.energy.annealing import ais, effective, log_mean
from genlib.energy.boltzmann import Boltzmann, hopfield, of_spins
from genlib.energy.deep import EnergyModel, MultiScaleEnergy, Normalised
from genlib.energy.learning import Chains, contrast, noise_contrastive_loss
from genlib.energy.restricted import RBM, between, independent
from genlib.energy.stacks import DeepBelief, DeepBoltzmann

__all__ = [
    "RBM",
    "Boltzmann",
    "Chains",
    "DeepBelief",
    "DeepBoltzmann",
    "EnergyModel",
    "MultiScaleEnergy",
    "Normalised",
    "ais",
    "between",
    "contrast",
    "effective",
    "hopfield",
    "independent",
    "log_mean",
    "noise_contrastive_loss",
    "of_spins",
]
