r"""Machines with two layers of hidden units.

A belief net is a restricted machine whose hidden units get a better law, that of a second machine: its samples go down
from there. A Boltzmann machine of two layers has weights in both directions at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli

from genlib import _arguments as require
from genlib.data.lattices import MOST
from genlib.energy._units import binary, log_partition, log_sum, softplus, tossed, units
from genlib.energy.restricted import RBM


class DeepBelief(nn.Module):
    r"""p(v) = Σ_h p(v | h) p(h), with v given h from one restricted machine and h from another.

    (Hinton, Osindero and Teh 2006, doi:10.1162/neco.2006.18.7.1527.) With ``top = bottom.transposed()`` it is the
    bottom machine itself, and each better top raises a lower bound on log p(v).

    Args:
        bottom: D × H.
        top: H × K.

    Attributes:
        event_shape: (D,).

    Raises:
        ValueError: the sizes do not fit.
    """

    def __init__(self, bottom: RBM, top: RBM) -> None:
        super().__init__()
        if bottom.hidden_bias.shape != top.bias.shape:
            sizes = f"{len(bottom.hidden_bias)} and {len(top.bias)}"
            raise ValueError(f"top must have as many seen units as bottom has hidden ones, got {sizes}")
        self.bottom, self.top = bottom, top

    @property
    def event_shape(self) -> torch.Size:
        """Shape (D,) of what is seen."""
        return self.bottom.event_shape

    def log_prob(self, v: Tensor) -> Tensor:
        """Log-probability in nats, exact, by all states of h, (B, D) → (B,).

        Raises:
            ValueError: v has another shape or holds something else than 0 and 1, or h has more than 20 units.
        """
        v, bottom = binary("v", v, self.bottom.bias), self.bottom

        def joint(h: Tensor) -> Tensor:
            """log p(v, h) + log Z of the top, (S, B)."""
            logits = h @ bottom.weight.mT + bottom.bias
            return logits @ v.mT - (softplus(logits).sum(1) + self.top.energy(h))[:, None]

        return log_sum(joint, *_few(bottom.hidden_bias)) - self.top.log_partition()

    def elbo(self, v: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Lower bound on log p(v) in nats, log p(v, h) − log q(h | v) at one draw h of q, (B, D) → (B,).

        q is what the bottom machine says of h given v. The bound holds on average. The draw has no gradient, so the
        slope is right in the parameters of the top alone.

        Raises:
            ValueError: v has another shape or holds something else than 0 and 1, or Z of the top is out of reach.
        """
        v = binary("v", v, self.bottom.bias)
        q = self.bottom.hidden(v)
        h = tossed(q.logits.detach(), generator)
        log_p = self.bottom.visible(h).log_prob(v).sum(1) + self.top.log_prob(h)
        return log_p - q.log_prob(h).sum(1)

    @torch.no_grad()
    def sample(
        self, shape: Sequence[int], sweeps: int | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw h from the top, exactly or by so many sweeps as in `RBM.sample`, then v given h, (n,) → (n, D)."""
        h = self.top.sample(shape, sweeps, generator=generator)
        return tossed(self.bottom.visible(h).logits, generator)


class DeepBoltzmann(nn.Module):
    r"""Seen units v and two layers of hidden units, h and u (Salakhutdinov and Hinton 2009, AISTATS 5, 448-455).

    .. math:: p(v, h, u) = \frac{1}{Z} e^{-E(v, h, u)}, \qquad
        E(v, h, u) = -v^\top W h - h^\top U u - b^\top v - c^\top h - d^\top u

    Given h, all of v and u are independent: it is a restricted machine between h and (v, u), and chains need to hold h
    alone. At first W and U are normal of deviation 0.01, and b, c and d are 0.

    Args:
        visible, first, second: sizes D, H and K of v, h and u.

    Attributes:
        weight: W, (D, H), a parameter.
        upper: U, (H, K), likewise.
        bias: b, (D,), likewise.
        first_bias: c, (H,), likewise.
        second_bias: d, (K,), likewise.
        event_shape: (D,).

    Raises:
        ValueError: a size is no whole number of at least 1.
    """

    def __init__(self, visible: int, first: int, second: int) -> None:
        super().__init__()
        for name, size in (("visible", visible), ("first", first), ("second", second)):
            require.whole_number(name, size)
        below, above = RBM(visible, first), RBM(first, second)
        self.weight, self.upper = below.weight, above.weight
        self.bias, self.first_bias, self.second_bias = below.bias, above.bias, above.hidden_bias

    @property
    def event_shape(self) -> torch.Size:
        """Shape (D,) of what is seen."""
        return self.bias.shape

    def energy(self, v: Tensor, h: Tensor, u: Tensor) -> Tensor:
        """E(v, h, u), (..., D), (..., H) and (..., K) → (...), where the first dimensions broadcast.

        h and u may be means from 0 to 1: E is linear in each unit, so it is then the mean over independent units.

        Raises:
            ValueError: v, h or u has another shape or holds other numbers, here and wherever they are taken.
        """
        v = units("v", v, self.bias)
        h, u = _means("h", h, self.first_bias), _means("u", u, self.second_bias)
        pairs = (v @ self.weight * h).sum(-1) + (h @ self.upper * u).sum(-1)
        return -pairs - v @ self.bias - h @ self.first_bias - u @ self.second_bias

    def folded(self) -> RBM:
        """The restricted machine that sees h and whose hidden units are (v, u), with copies of the parameters."""
        return RBM.of(*self._folded())

    def log_partition(self) -> Tensor:
        """Log Z in nats, exact, a scalar.

        Raises:
            ValueError: h has more than 20 units, and so have v and u together.
        """
        return log_partition(*self._folded())

    def log_prob(self, v: Tensor) -> Tensor:
        """Log-probability in nats, exact, by all states of h, (B, D) → (B,).

        Raises:
            ValueError: h has more than 20 units.
        """
        field = binary("v", v, self.bias) @ self.weight + self.first_bias  # (B, H)

        def joint(h: Tensor) -> Tensor:
            """log Σ_u exp(−E(v, h, u)) but for bᵀv, (S, B)."""
            return h @ field.mT + softplus(h @ self.upper + self.second_bias).sum(1)[:, None]

        log_p = log_sum(joint, *_few(self.first_bias))
        return log_p + binary("v", v, self.bias) @ self.bias - self.log_partition()

    @torch.no_grad()
    def mean_field(self, v: Tensor, steps: int = 30) -> tuple[Tensor, Tensor]:
        """Means of h (B, H) and u (B, K) of the independent units q that come near p(h, u | v), by turns.

        The means of u start at ½. Each step sets those of h to the best for u, then those of u to the best for h, so it
        never lowers the `elbo`.

        Raises:
            ValueError: steps is no whole number of at least 1.
        """
        v = binary("v", v, self.bias)
        field, u = v @ self.weight + self.first_bias, v.new_full((len(v), len(self.second_bias)), 0.5)
        for _ in range(require.whole_number("steps", steps)):
            h = (field + u @ self.upper.mT).sigmoid()
            u = (h @ self.upper + self.second_bias).sigmoid()
        return h, u

    def elbo(self, v: Tensor, log_partition: Tensor | float | None = None, steps: int = 30) -> Tensor:
        """Lower bound on log p(v) in nats, −E[E(v, h, u)] + H(q) − log Z with q of `mean_field`, (B, D) → (B,).

        The means have no gradient, so the slope is that of the bound for a fixed q.

        Args:
            v: what is seen.
            log_partition: log Z or an estimate of it; exact when None.
            steps: of `mean_field`.
        """
        h, u = self.mean_field(v, steps)
        log_z = self.log_partition() if log_partition is None else log_partition
        return _entropy(h) + _entropy(u) - self.energy(v, h, u) - log_z

    def contrast(self, v: Tensor, h: Tensor, steps: int = 30) -> Tensor:
        """Energy at the data, with the means of `mean_field`, minus the mean free energy of chains, (B, D) → (B,).

        Its gradient is the positive minus the negative phase. The chains enter by −log Σ_{v, u} exp(−E(v, h, u)).

        Args:
            v: data.
            h: where the chains of `move` are, (C, H).
            steps: of `mean_field`.
        """
        h = binary("h", h, self.first_bias)
        seen = softplus(h @ self.weight.mT + self.bias).sum(1)
        upper = softplus(h @ self.upper + self.second_bias).sum(1)
        free = seen + upper + h @ self.first_bias  # log of the sum over v and u, (C,)
        return self.energy(v, *self.mean_field(v, steps)) + free.mean()

    def visible(self, h: Tensor) -> Bernoulli:
        """The seen units given the first hidden ones: the logits are W h + b, (B, D)."""
        return Bernoulli(logits=binary("h", h, self.first_bias) @ self.weight.mT + self.bias)

    @torch.no_grad()
    def move(self, h: Tensor, sweeps: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        """Gibbs sampling in blocks: draw v and u given h, then h given both, `sweeps` times, (B, H) → (B, H)."""
        return self.folded().move(h, sweeps, generator=generator)

    @torch.no_grad()
    def sample(
        self, shape: Sequence[int], sweeps: int | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw h, exactly or by so many sweeps as in `RBM.sample`, then v given h, (n,) → (n, D)."""
        h = self.folded().sample(shape, sweeps, generator=generator)
        return tossed(self.visible(h).logits, generator)

    def _folded(self) -> tuple[Tensor, Tensor, Tensor]:
        both = torch.cat([self.bias, self.second_bias])
        return torch.cat([self.weight.mT, self.upper], 1), self.first_bias, both


def _few(bias: Tensor) -> tuple[int, Tensor]:
    if len(bias) > MOST:
        raise ValueError(f"h must have at most {MOST} units to list all its states, got {len(bias)}")
    return len(bias), bias


def _means(name: str, x: Tensor, like: Tensor) -> Tensor:
    x = require.events(name, x, like.shape)
    if not require.holds(((x >= 0) & (x <= 1)).all()):
        raise ValueError(f"{name} must lie in [0, 1], got {x.min().item():g} to {x.max().item():g}")
    return x.to(like.dtype)


def _entropy(mean: Tensor) -> Tensor:
    """Entropy in nats of independent units with these means, (B, n) → (B,)."""
    return -(torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).sum(1)
