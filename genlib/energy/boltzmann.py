r"""A Boltzmann machine: units that are 0 or 1, and an energy of pairs that says how probable their states are.

All units are seen, so it is learned from its moments. What is hard is the normaliser Z. Small machines list all states,
and then everything is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli

from genlib import _arguments as require
from genlib.data.lattices import MOST, states
from genlib.energy._units import ROWS, binary, drawn, log_sum, other, parameter, tossed


class Boltzmann(nn.Module):
    r"""Units x of 0 and 1, all seen (Ackley, Hinton and Sejnowski 1985, doi:10.1207/s15516709cog0901_7).

    .. math:: p(x) = \frac{1}{Z} e^{-E(x)/T}, \qquad E(x) = -\tfrac12\, x^\top W x - b^\top x

    W stands in all formulas as its symmetric part without the diagonal. So gradients are symmetric too, and steps of an
    optimiser keep W as it should be. A pair's two weights share its gradient, half for each.

    Args:
        weight: W, (D, D), symmetric with a diagonal of 0.
        bias: b, (D,).
        temperature: T.

    Attributes:
        weight: W, a parameter, an own copy.
        bias: b, likewise.
        event_shape: (D,).

    Raises:
        ValueError: a shape is another, the weights are not symmetric or have a diagonal, a number is not finite, or the
            temperature is not above 0.
    """

    def __init__(self, weight: Tensor, bias: Tensor, temperature: float = 1.0) -> None:
        super().__init__()
        weight = require.real_tensor("weight", weight)
        bias = require.real_tensor("bias", bias, like=weight)
        if weight.ndim != 2 or not len(weight) or weight.shape[0] != weight.shape[1]:
            raise ValueError(f"weight must have shape (D, D) with D at least 1, got {tuple(weight.shape)}")
        if not torch.allclose(weight, weight.mT):
            off = (weight - weight.mT).abs().max().item()
            raise ValueError(f"weight must be symmetric, got entries that differ by {off:.3g}")
        if weight.diagonal().any():
            raise ValueError(f"weight must have a diagonal of 0, got {weight.diagonal().tolist()}")
        if bias.shape != weight.shape[:1]:
            raise ValueError(f"bias must have shape ({len(weight)},), got {tuple(bias.shape)}")
        self.weight, self.bias = parameter(weight), parameter(bias)
        self.temperature = require.positive("temperature", temperature)

    @property
    def event_shape(self) -> torch.Size:
        """Shape (D,) of one state."""
        return self.bias.shape

    def energy(self, x: Tensor) -> Tensor:
        """E, not divided by T, (B, D) → (B,).

        Raises:
            ValueError: x has another shape or holds something else than 0 and 1, here and wherever x is taken.
        """
        x = binary("x", x, self.bias)
        return -0.5 * (x @ self._couplings() * x).sum(1) - x @ self.bias

    def log_partition(self) -> Tensor:
        """Log Z in nats, exact, a scalar.

        Raises:
            ValueError: there are more than 20 units, here and wherever all states are summed.
        """
        return log_sum(lambda x: -self.energy(x) / self.temperature, *self._listed())

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability in nats, exact, (B, D) → (B,)."""
        return -self.energy(x) / self.temperature - self.log_partition()

    def loss(self, x: Tensor) -> Tensor:
        """Negative log-likelihood in nats, (B, D) → (B,)."""
        return -self.log_prob(x)

    def conditional(self, x: Tensor) -> Bernoulli:
        """Each unit given all others: the logits are (W x + b)/T, (B, D)."""
        x = binary("x", x, self.bias)
        return Bernoulli(logits=(x @ self._couplings() + self.bias) / self.temperature)

    def pseudo_log_prob(self, x: Tensor) -> Tensor:
        """Σ_i log p(x_i | all others) in nats, (B, D) → (B,) (Besag 1975, doi:10.2307/2987782)."""
        return self.conditional(x).log_prob(binary("x", x, self.bias)).sum(1)

    @torch.no_grad()
    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw states, exact and independent, (n,) → (n, D)."""
        size, like = self._listed()
        listed = states(size, device=like.device)
        log_w = torch.cat([-self.energy(part) / self.temperature for part in listed.split(ROWS)])
        return listed[drawn(log_w, require.sample_count(shape), generator)].to(like)

    @torch.no_grad()
    def move(self, x: Tensor, sweeps: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        """Gibbs sampling: draw one unit after the other given all others, `sweeps` times, (B, D) → (B, D).

        (Geman and Geman 1984, doi:10.1109/TPAMI.1984.4767596.)

        Raises:
            ValueError: sweeps is no whole number of at least 1.
        """
        x, weight = binary("x", x, self.bias).clone(), self._couplings()
        for _ in range(require.whole_number("sweeps", sweeps)):
            for i, (w, b) in enumerate(zip(weight, self.bias, strict=True)):
                x[:, i] = tossed((x @ w + b) / self.temperature, generator)
        return x

    @torch.no_grad()
    def moments(self) -> tuple[Tensor, Tensor]:
        """E[x], (D,), and E[x xᵀ], (D, D), exact."""
        size, like = self._listed()
        log_z, mean, second = self.log_partition(), torch.zeros_like(self.bias), torch.zeros_like(self.weight)
        for x in states(size, device=like.device).split(ROWS):
            p, x = (-self.energy(x) / self.temperature - log_z).exp(), x.to(like)
            mean += p @ x
            second += (p * x.mT) @ x
        return mean, second

    def _couplings(self) -> Tensor:
        symmetric = (self.weight + self.weight.mT) / 2
        return symmetric - symmetric.diagonal().diag()

    def _listed(self) -> tuple[int, Tensor]:
        (size,) = self.event_shape
        if size > MOST:
            raise ValueError(f"the machine must have at most {MOST} units to list all states, got {size}")
        return size, self.bias


def of_spins(couplings: Tensor, temperature: float = 1.0) -> Boltzmann:
    r"""The machine whose spins s = 2x − 1 have the energy −½ sᵀ J s, up to a constant: W = 4J and b = −2 J 1.

    With J = 1 between neighbours it is the Ising model; with normal J a spin glass (Sherrington and Kirkpatrick 1975,
    doi:10.1103/PhysRevLett.35.1792).

    Args:
        couplings: J, (D, D), symmetric with a diagonal of 0.
        temperature: T.
    """
    couplings = require.real_tensor("couplings", couplings)
    return Boltzmann(4 * couplings, -2 * couplings.sum(-1), temperature)


def hopfield(patterns: Tensor, temperature: float = 1.0) -> Boltzmann:
    r"""A memory: each pattern ξ is a dip of the energy (Hopfield 1982, doi:10.1073/pnas.79.8.2554).

    .. math:: E = -\tfrac12 \sum_{i \ne j} J_{ij} s_i s_j + \text{const}, \qquad
        J = \frac{1}{D} \sum_k \xi_k \xi_k^\top, \qquad s = 2x - 1

    Args:
        patterns: ξ, (K, D) of −1 and +1.
        temperature: T.

    Raises:
        ValueError: the patterns have another shape or hold other numbers.
    """
    patterns = require.real_tensor("patterns", patterns)
    if patterns.ndim != 2 or 0 in patterns.shape:
        shape = tuple(patterns.shape)
        raise ValueError(f"patterns must have shape (K, D) with K, D at least 1, got {shape}")
    if not (patterns.abs() == 1).all():
        raise ValueError(f"patterns must hold only −1 and +1, got {other(patterns, (-1, 1))}")
    couplings = patterns.mT @ patterns / patterns.shape[1]
    return of_spins(couplings - couplings.diagonal().diag(), temperature)
