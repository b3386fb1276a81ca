r"""Images pixel by pixel: each grey level given the levels of the pixels before it.

log p(x) = Σ_t log p(x_t | x_1, …, x_{t−1}), exact, in any order of the pixels that a model was made for. `Pixels` turns
conditionals into probabilities of images and into samples. The networks say what the conditionals are; a head turns a
few numbers a pixel into a distribution of its level.
"""

from genlib.pixels.classes import ClassMixture
from genlib.pixels.heads import Histogram, Logistics, Softmax
from genlib.pixels.masked import Bias, Block, CachedReader, MaskedConv, PixelCNN
from genlib.pixels.model import Pixels, Reader, picked
from genlib.pixels.orders import AnyOrder, InOrder
from genlib.pixels.stacks import TwoStacks, gated

__all__ = [
    "AnyOrder",
    "Bias",
    "Block",
    "CachedReader",
    "ClassMixture",
    "Histogram",
    "InOrder",
    "Logistics",
    "MaskedConv",
    "PixelCNN",
    "Pixels",
    "Reader",
    "Softmax",
    "TwoStacks",
    "gated",
    "picked",
]
