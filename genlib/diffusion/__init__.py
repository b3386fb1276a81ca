"""Diffusion models: chains of hidden variables from data to noise, of numbers and of symbols, and their bounds."""

from genlib.diffusion.chain import Bound, bound, denoising_terms, even_levels, posterior, prior_terms
from genlib.diffusion.tokens import Absorbing, Reader, Uniform

__all__ = [
    "Absorbing",
    "Bound",
    "Reader",
    "Uniform",
    "bound",
    "denoising_terms",
    "even_levels",
    "posterior",
    "prior_terms",
]
