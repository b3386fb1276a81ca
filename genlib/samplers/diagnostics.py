"""What can be said of chains that were run: how much they remember, what they are worth, and whether they agree.

Chains are (C, N): C walks of N steps, one number of interest at each. The formulas are those of Vehtari et al. 2021
(arXiv:1903.08008) and of ArviZ, with which they agree.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genlib import _arguments as require


def autocorrelation(chains: Tensor) -> Tensor:
    """Correlation of the chains with themselves k steps later, (C, N) → (N,), 1 at k = 0.

    Deviations are taken from the mean of all chains. A lag k is a mean over the N − k pairs that there are, so the last
    lags are noise.

    Raises:
        ValueError: as in `effective_sample_size`, or the chains do not vary.
    """
    chains = _chains(chains)
    C, N = chains.shape
    pairs = torch.arange(N, 0, -1).to(chains)
    covariance = _products(chains - chains.mean()).sum(0) / (C * pairs)
    if covariance[0] == 0:
        raise ValueError("chains must vary, got one number everywhere")
    return covariance / covariance[0]


def effective_sample_size(chains: Tensor) -> float:
    """How many independent draws the mean over the chains is worth.

    Each chain is cut in half. Correlations are summed in pairs, as long as the pairs are positive and made to fall
    (Geyer 1992, doi:10.1214/ss/1177011137). Chains that disagree count as correlated.

    Args:
        chains: (C, N), N at least 4.

    Returns:
        The number; NaN for chains that do not vary.

    Raises:
        ValueError: chains have another shape or are not finite.
    """
    halves = _halves(chains)
    M, n = halves.shape
    if halves.max() == halves.min():
        return math.nan
    covariance = (_products(halves - halves.mean(1, keepdim=True)) / n).mean(0)  # (n,)
    within = covariance[0] * n / (n - 1)
    total = covariance[0] + (halves.mean(1).var() if M > 1 else 0.0)
    rho = 1 - (within - covariance) / total
    rho[0] = 1.0
    pairs = rho[: n - n % 2].reshape(-1, 2).sum(1)  # (n // 2,)
    last = min(int((pairs > 0).cumprod(0).sum()), max((n - 3) // 2, 0))  # the first that is not positive
    tau = -1 + 2 * pairs[:last].cummin(0).values.sum()
    tau = tau + (rho[2 * last] if pairs[last] >= 0 else rho[2 * last].clamp(min=0))
    return float(M * n / tau.clamp(min=1 / math.log10(M * n)))


def split_r_hat(chains: Tensor) -> float:
    r"""Whether chains agree: close to 1 if so (Gelman and Rubin 1992, doi:10.1214/ss/1177011136), each cut in half.

    .. math:: \hat R = \sqrt{\frac{n - 1}{n} + \frac{B / n}{W}}

    with the mean W of the variances within the halves, of n steps each, and the variance B / n of their means.

    Args:
        chains: (C, N), N at least 4.

    Returns:
        The number; NaN for chains that do not vary.

    Raises:
        ValueError: chains have another shape or are not finite.
    """
    halves = _halves(chains)
    n = halves.shape[1]
    ratio = halves.mean(1).var() / halves.var(1).mean()
    return float(((n - 1) / n + ratio).sqrt())


def normal_scores(chains: Tensor) -> Tensor:
    """Each number replaced by the normal quantile of its rank among all, (C, N) → (C, N).

    What is then computed does not depend on the scale of the numbers, nor on whether they have a variance. Equal
    numbers share their mean rank.

    Raises:
        ValueError: as in `effective_sample_size`.
    """
    chains = _chains(chains)
    _, which, count = chains.unique(sorted=True, return_inverse=True, return_counts=True)
    last = count.cumsum(0)
    rank = (last - (count - 1) / 2).to(chains)[which]
    return torch.special.ndtri((rank - 0.375) / (chains.numel() + 0.25))


def _chains(chains: Tensor) -> Tensor:
    chains = require.real_tensor("chains", chains).detach().double()
    if chains.ndim != 2 or chains.shape[1] < 4 or not len(chains):
        raise ValueError(f"chains must have shape (C, N) with N at least 4, got {tuple(chains.shape)}")
    return chains


def _halves(chains: Tensor) -> Tensor:
    """Cut each chain in two of equal length, (C, N) → (2 C, N // 2); of an odd number the middle is left out."""
    chains = _chains(chains)
    half = chains.shape[1] // 2
    return torch.stack([chains[:, :half], chains[:, -half:]], 1).flatten(0, 1)


def _products(x: Tensor) -> Tensor:
    """Sums of the products of each row with itself k places later, (M, n) → (M, n), by Fourier transform."""
    n = x.shape[1]
    return torch.fft.irfft(torch.fft.rfft(x, n=2 * n).abs().square(), n=2 * n)[:, :n]
