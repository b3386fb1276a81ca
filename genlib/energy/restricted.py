r"""Restricted Boltzmann machines: hidden units beside the seen ones, and weights between the two sides alone.

So each side is independent given the other, and sums over one side are products. What is left of Z is a sum over the
states of the smaller side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli
from torch.nn.functional import logsigmoid

from genlib import _arguments as require
from genlib.data.lattices import states
from genlib.energy._units import (
    ROWS,
    binary,
    drawn,
    listable,
    log_partition,
    parameter,
    softplus,
    tossed,
    units,
)

NUMBERS = 2**22  # so many numbers may stand in one tensor


class RBM(nn.Module):
    r"""A restricted machine: seen units v and hidden units h of 0 and 1 (Smolensky 1986).

    .. math:: p(v, h) = \frac{1}{Z} e^{-E(v, h)}, \qquad E(v, h) = -v^\top W h - b^\top v - c^\top h

    (Hinton 2002, doi:10.1162/089976602760128018.) At first W is normal of deviation 0.01, and b and c are 0.

    Args:
        visible, hidden: D and H.

    Attributes:
        weight: W, (D, H), a parameter.
        bias: b, (D,), likewise.
        hidden_bias: c, (H,), likewise.
        event_shape: (D,).

    Raises:
        ValueError: a size is no whole number of at least 1.
    """

    def __init__(self, visible: int, hidden: int) -> None:
        super().__init__()
        visible, hidden = require.whole_number("visible", visible), require.whole_number("hidden", hidden)
        self.weight = parameter(0.01 * torch.randn(visible, hidden))
        self.bias, self.hidden_bias = parameter(torch.zeros(visible)), parameter(torch.zeros(hidden))

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, hidden_bias: Tensor) -> RBM:
        """The machine with these parameters, of which it keeps copies: (D, H), (D,) and (H,).

        Raises:
            ValueError: the shapes do not fit, or a number is not finite.
        """
        weight = require.real_tensor("weight", weight)
        if weight.ndim != 2 or 0 in weight.shape:
            shape = tuple(weight.shape)
            raise ValueError(f"weight must have shape (D, H) with D, H at least 1, got {shape}")
        model = cls.__new__(cls)
        nn.Module.__init__(model)  # without first weights: nothing is drawn
        model.weight = parameter(weight)
        for name, value, size in zip(("bias", "hidden_bias"), (bias, hidden_bias), weight.shape, strict=True):
            value = require.real_tensor(name, value, like=weight)
            if value.shape != (size,):
                raise ValueError(f"{name} must have shape ({size},), got {tuple(value.shape)}")
            setattr(model, name, parameter(value))
        return model

    @property
    def event_shape(self) -> torch.Size:
        """Shape (D,) of what is seen."""
        return self.bias.shape

    def joint_energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E(v, h), (..., D) and (..., H) → (...), where the first dimensions broadcast.

        Raises:
            ValueError: v or h has another shape or holds something else than 0 and 1, here and wherever they are taken.
        """
        v, h = units("v", v, self.bias), units("h", h, self.hidden_bias)
        return -(v @ self.weight * h).sum(-1) - v @ self.bias - h @ self.hidden_bias

    def energy(self, v: Tensor) -> Tensor:
        """Free energy −log Σ_h exp(−E(v, h)) = −bᵀv − Σ_j log(1 + exp(c + Wᵀv)_j), (B, D) → (B,)."""
        v = binary("v", v, self.bias)
        return -v @ self.bias - softplus(v @ self.weight + self.hidden_bias).sum(1)

    def hidden(self, v: Tensor) -> Bernoulli:
        """The hidden units given the seen ones: the logits are Wᵀv + c, (B, H)."""
        return Bernoulli(logits=binary("v", v, self.bias) @ self.weight + self.hidden_bias)

    def visible(self, h: Tensor) -> Bernoulli:
        """The seen units given the hidden ones: the logits are W h + b, (B, D)."""
        return Bernoulli(logits=binary("h", h, self.hidden_bias) @ self.weight.mT + self.bias)

    def log_partition(self) -> Tensor:
        """Log Z in nats, exact, a scalar: a sum over the states of the smaller side.

        Raises:
            ValueError: both sides have more than 20 units, here and wherever Z is needed.
        """
        return log_partition(self.weight, self.bias, self.hidden_bias)

    def log_prob(self, v: Tensor) -> Tensor:
        """Log-probability in nats, exact, (B, D) → (B,)."""
        return -self.energy(v) - self.log_partition()

    def pseudo_log_prob(self, v: Tensor) -> Tensor:
        """Σ_i log p(v_i | all other seen units) in nats, (B, D) → (B,).

        With unit i turned over, v becomes v′; p(v_i | the others) is the logistic function of energy(v′) − energy(v).
        """
        rows = max(NUMBERS // self.weight.numel(), 1)
        return torch.cat([self._pseudo(part) for part in binary("v", v, self.bias).split(rows)])

    @torch.no_grad()
    def sample(
        self, shape: Sequence[int], sweeps: int | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw what is seen, (n,) → (n, D).

        Args:
            shape: (n,).
            sweeps: None draws the smaller side from its exact law, then the other given it. A number starts at fair
                coins and does so many sweeps of `move`.
            generator: draws from here instead of torch's global one.
        """
        n = require.sample_count(shape)
        if sweeps is not None:
            coins = tossed(self.bias.new_zeros(n, *self.event_shape), generator)
            return self.move(coins, sweeps, generator=generator)
        seen, hidden = self.weight.shape
        if hidden < seen:
            return tossed(
                self.visible(self.transposed().sample(shape, generator=generator)).logits, generator
            )
        listable(self.weight)
        listed = states(seen, device=self.bias.device)
        log_w = torch.cat([-self.energy(part) for part in listed.split(ROWS)])
        return listed[drawn(log_w, n, generator)].to(self.bias)

    @torch.no_grad()
    def move(self, v: Tensor, sweeps: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        """Gibbs sampling in blocks: draw h given v, then v given h, `sweeps` times, (B, D) → (B, D).

        Raises:
            ValueError: sweeps is no whole number of at least 1.
        """
        v = binary("v", v, self.bias)
        for _ in range(require.whole_number("sweeps", sweeps)):
            h = tossed(v @ self.weight + self.hidden_bias, generator)
            v = tossed(h @ self.weight.mT + self.bias, generator)
        return v

    def loss(self, v: Tensor, sweeps: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        """energy(v) − energy(v′), with v′ where `sweeps` of `move` lead from v, held fixed, (B, D) → (B,).

        Its gradient is that of contrastive divergence (Hinton 2002). Its value says little.
        """
        return self.energy(v) - self.energy(self.move(v, sweeps, generator=generator))

    def transposed(self) -> RBM:
        """The machine whose seen units are the hidden ones of this, with copies of the parameters."""
        return RBM.of(self.weight.mT, self.hidden_bias, self.bias)

    def _pseudo(self, v: Tensor) -> Tensor:
        field = v @ self.weight + self.hidden_bias  # (B, H)
        turned = 1 - 2 * v  # by how much each unit turns
        after = softplus(field[:, None] + turned[:, :, None] * self.weight)  # (B, D, H)
        gain = turned * self.bias + (after - softplus(field)[:, None]).sum(-1)  # energy(v) − energy(v′)
        return logsigmoid(-gain).sum(1)


def independent(x: Tensor, hidden: int) -> RBM:
    """The machine without weights and hidden biases that gives each seen unit its frequency in the data.

    Frequencies are (count + ½)/(n + 1), so none is 0 or 1. Its log Z and its samples are exact at any size. It is a
    place to start from, not to be trained: its weights stay 0.

    Args:
        x: data, (n, D) of 0 and 1.
        hidden: H.

    Raises:
        ValueError: there are no data, or they hold something else than 0 and 1.
    """
    if not isinstance(x, Tensor) or x.ndim != 2 or 0 in x.shape:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x must be a tensor of shape (n, D) with n, D at least 1, got {got}")
    like = x if x.is_floating_point() else torch.empty(0, device=x.device)
    count = binary("x", x, like.new_zeros(x.shape[1])).sum(0)
    zeros = count.new_zeros(x.shape[1], require.whole_number("hidden", hidden))
    return _Untied.of(zeros, ((count + 0.5) / (len(x) - count + 0.5)).log(), zeros[0]).requires_grad_(False)


class _Untied(RBM):
    """A machine without weights: every unit is a coin of its own."""

    def log_partition(self) -> Tensor:
        return softplus(self.bias).sum() + softplus(self.hidden_bias).sum()

    def sample(
        self, shape: Sequence[int], sweeps: int | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        return tossed(self.bias.expand(require.sample_count(shape), -1), generator)


def between(first: RBM, last: RBM) -> Callable[[float], RBM]:
    r"""The way β ∈ [0, 1] ↦ machine with the parameters (1 − β) first + β last.

    Their joint energies are mixed linearly, so the joint probabilities geometrically (Salakhutdinov and Murray 2008,
    doi:10.1145/1390156.1390266).

    Raises:
        ValueError: the machines have different sizes, or β lies outside [0, 1].
    """
    if first.weight.shape != last.weight.shape:
        sizes = " and ".join(str(tuple(machine.weight.shape)) for machine in (first, last))
        raise ValueError(f"first and last must have the same sizes, got {sizes}")

    def machine(beta: float) -> RBM:
        if not 0 <= require.finite("beta", beta) <= 1:
            raise ValueError(f"beta must lie in [0, 1], got {beta!r}")
        ends = zip(first.parameters(), last.parameters(), strict=True)
        return RBM.of(*((1 - beta) * start + beta * end for start, end in ends))

    return machine
