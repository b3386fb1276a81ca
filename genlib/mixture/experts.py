"""A mixture whose weights, means and deviations a network reads off a condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from genlib import _arguments as require
from genlib._shapes import like_parameters
from genlib.vae import _deviation


class MixtureDensityNet(nn.Module):
    r"""Mixture density network (Bishop 1994, Aston University, NCRG/94/004).

    .. math:: p(x \mid c) = \sum_k \pi_k(c)\, \mathcal{N}\bigl(x;\ \mu_k(c),\ \operatorname{diag} \sigma_k(c)^2\bigr)

    Args:
        net: (B, *C) → (B, K (1 + 2D)): K logits of the weights, then K D means, then K D numbers log σ.
        components: K.
        dims: D, how many numbers x holds.

    Attributes:
        event_shape: (D,).

    `forward` raises RuntimeError when a σ is so large or so small that σ² is no number above 0 any more.
    """

    def __init__(self, net: nn.Module, components: int, dims: int = 1) -> None:
        super().__init__()
        self.net = net
        self.components = require.whole_number("components", components)
        self.event_shape = torch.Size([require.whole_number("dims", dims)])

    def forward(self, c: Tensor) -> MixtureSameFamily:
        """(B, *C) → distribution of x (B, D); whole numbers become reals of the network's precision.

        Raises:
            ValueError: the network returns another number of values.
        """
        out = self.net(c if c.is_floating_point() else c.to(like_parameters(self)))
        K, (D,) = self.components, self.event_shape
        if out.ndim != 2 or out.shape[1] != K * (1 + 2 * D):
            raise ValueError(f"net must return shape (B, {K * (1 + 2 * D)}), got {tuple(out.shape)}")
        logits, mu, log_sigma = out.split([K, K * D, K * D], 1)
        mu, sigma = mu.reshape(-1, K, D), _deviation(log_sigma).reshape(-1, K, D)
        parts = Independent(Normal(mu, sigma, validate_args=False), 1)
        return MixtureSameFamily(Categorical(logits=logits, validate_args=False), parts, validate_args=False)

    def loss(self, x: Tensor, c: Tensor) -> Tensor:
        """−log p(x|c) in nats, (B, D), (B, *C) → (B,).

        Raises:
            ValueError: x has another shape or holds NaN.
        """
        x = require.real_events("x", x, self.event_shape)
        p = self(c)
        if x.shape[:-1] != p.batch_shape:
            raise ValueError(f"x must have a row for each of the {len(c)} conditions, got {tuple(x.shape)}")
        return -p.log_prob(x)
