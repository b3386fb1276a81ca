"""Markov chains with few places, as matrices, in float64.

Column j of a matrix P holds the chances to go from place j to each place, so P @ q moves a whole crowd q by one step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genlib import _arguments as require

CLOSE = 1e-9  # how near to 1 a length must be to count as 1


def stationary(P: Tensor) -> Tensor:
    """The law at rest, P p = p, for a chain that has only one, (N, N) → (N,).

    Raises:
        ValueError: P is not square, has a negative entry or a column that does not sum to 1, or there is more than one
            law at rest (the places are not connected).
    """
    P = _chain("P", P)
    _, sizes, basis = torch.linalg.svd(P - torch.eye(len(P)).to(P))
    if len(P) > 1 and sizes[-2] < CLOSE:
        raise ValueError("P must have one law at rest, got several: its places are not connected")
    p = basis[-1] / basis[-1].sum()
    return p.clamp(min=0) / p.clamp(min=0).sum()


def spectral_gap(P: Tensor) -> float:
    """1 − |λ₂|, from the second largest length of an eigenvalue: 0 if the chain never forgets, 1 if it does at once.

    Raises:
        ValueError: P is not square, has a negative entry or a column that does not sum to 1.
    """
    lengths = torch.linalg.eigvals(_chain("P", P)).abs().sort(descending=True).values
    return 1 - lengths[1].item() if len(lengths) > 1 else 1.0


def metropolised(Q: Tensor, p: Tensor) -> Tensor:
    r"""Metropolis and Hastings as a matrix: proposals Q (N, N), accepted so that p (N,) is balanced.

    .. math:: P_{ij} = Q_{ij} \min\Bigl(1, \frac{Q_{ji}\, p_i}{Q_{ij}\, p_j}\Bigr) \quad (i \ne j)

    What is refused stays, on the diagonal.

    Raises:
        ValueError: Q is not square, has a negative entry or a column that does not sum to 1, or p holds no (N,)
            probabilities.
    """
    Q = _chain("Q", Q)
    p = require.probabilities("p", p, like=Q)
    if p.shape != (len(Q),):
        raise ValueError(f"p must have shape ({len(Q)},), got {tuple(p.shape)}")
    there = Q * p  # traffic from j to i, as proposed
    accepted = torch.where(p > 0, torch.minimum(there, there.T) / p, Q)
    accepted = accepted - accepted.diag().diag()
    return accepted + (1 - accepted.sum(0)).diag()


def _chain(name: str, P: Tensor) -> Tensor:
    """Return P in float64 after checking that its columns are laws."""
    P = require.real_tensor(name, P).double()
    if P.ndim != 2 or P.shape[0] != P.shape[1] or not len(P):
        raise ValueError(f"{name} must have shape (N, N), got {tuple(P.shape)}")
    if (P < 0).any() or (P.sum(0) - 1).abs().max() > 1e-6:
        raise ValueError(f"{name} must hold probabilities, with columns that sum to 1")
    return P
