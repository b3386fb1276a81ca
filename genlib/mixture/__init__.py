r"""Mixtures: a hidden component is drawn, then the data given it. They are learned by expectation and maximisation.

`Mixture` is what they share and `climb` learns them. Components are independent symbols (`BernoulliMixture`,
`CategoricalMixture`), rounded normal numbers (`LevelMixture`), choices of patterns that are such numbers
(`PartsMixture`), normal laws (`NormalMixture`) or normal laws in layers (`DeepMixture`). In a `MixtureDensityNet` a
network says from a condition what the components are.
"""

from genlib.mixture.core import Mixture, climb
from genlib.mixture.deep import DeepMixture, Layer
from genlib.mixture.discrete import BernoulliMixture, CategoricalMixture
from genlib.mixture.experts import MixtureDensityNet
from genlib.mixture.levels import LevelMixture
from genlib.mixture.moments import Moments, blend
from genlib.mixture.normal import NormalMixture
from genlib.mixture.parts import PartsMixture
from genlib.mixture.starts import lloyd, spread_out

__all__ = [
    "BernoulliMixture",
    "CategoricalMixture",
    "DeepMixture",
    "Layer",
    "LevelMixture",
    "Mixture",
    "MixtureDensityNet",
    "Moments",
    "NormalMixture",
    "PartsMixture",
    "blend",
    "climb",
    "lloyd",
    "spread_out",
]
