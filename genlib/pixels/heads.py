"""Heads: a few numbers a pixel, (B, H, W, size), become logits of its level, (B, H, W, levels)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, pad

from genlib import _arguments as require


class Softmax(nn.Module):
    """A logit for each level. It assumes nothing, and does not know that 7 lies between 6 and 8.

    Args:
        levels: K.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = self.size = require.whole_number("levels", levels, 2)

    def forward(self, h: Tensor) -> Tensor:
        """(B, H, W, K) → the same."""
        return h


class Logistics(nn.Module):
    """A mixture of logistic variables, rounded to whole levels (PixelCNN++, Salimans et al. 2017, arXiv:1701.05517).

    What lies below 0 counts as 0, and what lies above K − 1 as K − 1. Near levels get near probabilities.

    Args:
        levels: K.
        components: C; each has a weight, a centre and a width.
    """

    def __init__(self, levels: int, components: int = 3) -> None:
        super().__init__()
        self.levels = require.whole_number("levels", levels, 2)
        self.size = 3 * require.whole_number("components", components)
        self.start = nn.Parameter(torch.linspace(-1, 1, components + 2)[1:-1])  # of the centres
        edges = torch.arange(1, levels) - 0.5  # between the levels
        self.register_buffer("edges", 2 * edges / (levels - 1) - 1, persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """(B, H, W, 3 C) → log-probabilities (B, H, W, K)."""
        log_weight, centre, log_width = h.unflatten(-1, (3, -1)).unbind(-2)  # (B, H, W, C)
        z = (self.edges - (centre + self.start)[..., None]) * (2 - log_width)[
            ..., None
        ].exp()  # (…, C, K − 1)
        below, above = pad(logsigmoid(z), (0, 1)), pad(logsigmoid(-z), (1, 0))  # of the upper, the lower edge
        inner = pad(-(z[..., 1:] - z[..., :-1]), (1, 1), value=-math.inf)
        log_p = below + above + (-torch.expm1(inner)).log()  # log(F(b) − F(a)), stable in both tails
        return (log_weight.log_softmax(-1)[..., None] + log_p).logsumexp(-2)


class Histogram(nn.Module):
    r"""Each pixel's histogram, tilted: the logit of level k is log h_k + Σ_j a_j c_j(k).

    With all a = 0 the pixels are independent. The curves c are smooth at first, t, t² and cosines, and learnt.

    Args:
        images: (n, H, W) int64, for the histograms, half an image added to each level.
        levels: K.
        curves: how many numbers a for a pixel.
    """

    def __init__(self, images: Tensor, levels: int = 17, curves: int = 8) -> None:
        super().__init__()
        self.levels, self.size = (
            require.whole_number("levels", levels, 2),
            require.whole_number("curves", curves),
        )
        images = require.symbols("images", images, images.shape[1:], levels)
        counts = nn.functional.one_hot(images, levels).sum(0) + 0.5  # (H, W, K)
        self.log_h = nn.Parameter((counts / counts.sum(-1, keepdim=True)).log())
        u = torch.linspace(0, 1, levels, device=images.device)
        smooth = [2 * u - 1, (2 * u - 1) ** 2, *((math.pi * k * u).cos() for k in range(3, curves + 1))]
        self.curves = nn.Parameter(torch.stack(smooth[:curves]))  # (size, K)

    def forward(self, h: Tensor) -> Tensor:
        """(B, H, W, size) → logits (B, H, W, K)."""
        return self.log_h + h @ self.curves
