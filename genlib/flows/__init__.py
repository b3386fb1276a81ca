"""Normalizing flows: densities made by bending a normal distribution through invertible layers.

A layer maps latent z to data x with ``forward`` and back with ``inverse``; both return the image and log|det J| of the
map just applied. `Flow` stacks layers on a standard normal base, and has ``log_prob``, ``sample`` and ``loss``.
"""

from genlib.flows.core import Flow, Inverse, Layer, Stack, StandardNormal
from genlib.flows.coupling import (
    Coupling,
    Entrywise,
    MaskedAutoregressive,
    Reverse,
    alternating,
    channelwise,
    checkerboard,
)
from genlib.flows.elementwise import Affine, Elementwise, Histogram, Spline
from genlib.flows.images import (
    Dequantised,
    HalfOfChannels,
    Logit,
    Probit,
    Squeeze,
    UniformNoise,
    front,
    glow,
    glow_step,
    image_splines,
)
from genlib.flows.layers import ActNorm, Conv1x1, Conv1x1LU, Planar, Radial, solve_increasing

__all__ = [
    "ActNorm",
    "Affine",
    "Conv1x1",
    "Conv1x1LU",
    "Coupling",
    "Dequantised",
    "Elementwise",
    "Entrywise",
    "Flow",
    "HalfOfChannels",
    "Histogram",
    "Inverse",
    "Layer",
    "Logit",
    "MaskedAutoregressive",
    "Planar",
    "Probit",
    "Radial",
    "Reverse",
    "Spline",
    "Squeeze",
    "Stack",
    "StandardNormal",
    "UniformNoise",
    "alternating",
    "channelwise",
    "checkerboard",
    "front",
    "glow",
    "glow_step",
    "image_splines",
    "solve_increasing",
]
