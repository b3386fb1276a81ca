"""Flows: invertible layers, the stack of them, and the density that the stack gives to data."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from genlib import _arguments as require
from genlib.data import Source

Pair = tuple[Tensor, Tensor]


class Layer(nn.Module, ABC):
    """An invertible map g from latent z to data x, with the logarithm of its volume change.

    A subclass defines ``_forward`` and ``_inverse``; both return the image and ``ladj`` (B,), which is log|det J| of
    the map *just applied*. The public methods check their input once and then call these, so that what goes wrong
    inside a stack shows in the loss, where `genlib.training.fit` names the step.

    Attributes:
        event_shape: shape E of one example; an Ellipsis at the end stands for any further dimensions.
    """

    event_shape: tuple[object, ...] = (...,)

    def forward(self, z: Tensor) -> Pair:
        """Latent to data, (B, *E) → x (B, *E) and log|det ∂g/∂z| (B,).

        Raises:
            ValueError: z is no batch of finite real numbers of the layer's shape.
        """
        return self._forward(self._checked("z", z))

    def inverse(self, x: Tensor) -> Pair:
        """Data to latent, (B, *E) → z (B, *E) and log|det ∂g⁻¹/∂x| (B,).

        Raises:
            ValueError: x is no batch of finite real numbers of the layer's shape.
        """
        return self._inverse(self._checked("x", x))

    def initialise(self, x: Tensor) -> Tensor:
        """Let the layer choose its first parameters from a batch of data; returns the latent batch. Most do nothing."""
        return self.inverse(x)[0]

    def given(self, c: Tensor) -> Layer:
        """The layer for B examples under conditions c (B, C): itself, unless a network inside sees the condition."""
        return self

    @abstractmethod
    def _forward(self, z: Tensor) -> Pair: ...

    @abstractmethod
    def _inverse(self, x: Tensor) -> Pair: ...

    def _checked(self, name: str, x: object) -> Tensor:
        return require.batch(name, x, self.event_shape)


def with_parts(layer: Layer, /, **parts: nn.Module) -> Layer:
    """The same layer, with the same parameters, in which the named parts are others."""
    twin = copy.copy(layer)
    twin.__dict__["_modules"] = {**layer._modules, **parts}
    return twin


class Inverse(Layer):
    """A layer with its two directions exchanged. `initialise` leaves the parameters inside as they are.

    Args:
        layer: what is to be turned round.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer, self.event_shape = layer, layer.event_shape

    def given(self, c: Tensor) -> Layer:
        """The layer inside under the conditions."""
        return with_parts(self, layer=self.layer.given(c))

    def _forward(self, z: Tensor) -> Pair:
        return self.layer._inverse(z)

    def _inverse(self, x: Tensor) -> Pair:
        return self.layer._forward(x)


class Stack(Layer):
    r"""Layers one after the other, the first one nearest to the latent space.

    .. math:: z_{i+1} = g_i(z_i), \quad \log|\det J| = \textstyle\sum_i \log|\det \partial g_i(z_i) / \partial z_i|

    Args:
        layers: g_0 … g_{N−1}.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        if not len(self.layers):
            raise ValueError("layers must hold at least one layer, got none")

    def given(self, c: Tensor) -> Stack:
        """All layers under the conditions."""
        return with_parts(self, layers=nn.ModuleList(layer.given(c) for layer in self.layers))

    def path(self, z: Tensor) -> list[Tensor]:
        """The way of a latent batch to the data, (B, *E) → N + 1 batches z_0 … z_N."""
        states = [self._checked("z", z)]
        for layer in self.layers:
            states.append(layer._forward(states[-1])[0])
        return states

    def initialise(self, x: Tensor) -> Tensor:
        """Initialise the layers from the data side on, each from what the one before it made of the batch."""
        for layer in reversed(self.layers):
            x = layer.initialise(x)
        return x

    def _forward(self, z: Tensor) -> Pair:
        ladj = z.new_zeros(len(z))
        for layer in self.layers:
            z, change = layer._forward(z)
            ladj = ladj + change
        return z, ladj

    def _inverse(self, x: Tensor) -> Pair:
        ladj = x.new_zeros(len(x))
        for layer in reversed(self.layers):
            x, change = layer._inverse(x)
            ladj = ladj + change
        return x, ladj


class StandardNormal(nn.Module):
    """Independent standard normal entries: the usual base of a flow.

    Args:
        event_shape: shape E of one draw.
    """

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__()
        self.event_shape = torch.Size(require.whole_number("event_shape", size) for size in event_shape)
        if not self.event_shape:
            raise ValueError("event_shape must hold at least one size, got ()")
        self.register_buffer("_like", torch.empty(0), persistent=False)  # has the device and the dtype

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats, (B, *E) → (B,)."""
        z = require.events("z", z, self.event_shape)
        return -0.5 * (z.square().flatten(1).sum(1) + self.event_shape.numel() * math.log(2 * math.pi))

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw independently, (n,) → (n, *E)."""
        n = require.sample_count(shape)
        like = {"device": self._like.device, "dtype": self._like.dtype}
        return torch.randn((n, *self.event_shape), generator=generator, **like)


class Flow(Stack):
    """A normalizing flow: z comes from a simple base and x = g(z), so that log q(x) = log p(z) − log|det ∂g/∂z|.

    The formula is evaluated from the data side: z = g⁻¹(x), and ``ladj`` of the inverse is *added*.

    Args:
        layers: from latent to data, as in `Stack`; latent and data have the same shape.
        event_shape: shape E of one example.
        base: distribution of z with ``log_prob`` and ``sample``, such as a `genlib.data.Source`; standard normal when
            None.
    """

    def __init__(
        self, layers: Iterable[Layer], event_shape: Sequence[int], base: nn.Module | Source | None = None
    ) -> None:
        super().__init__(layers)
        self.event_shape = torch.Size(require.whole_number("event_shape", size) for size in event_shape)
        self.base = StandardNormal(self.event_shape) if base is None else base
        if tuple(self.base.event_shape) != self.event_shape:
            wanted, got = tuple(self.event_shape), tuple(self.base.event_shape)
            raise ValueError(f"base must have the event shape {wanted}, got {got}")

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, exact, (B, *E) → (B,)."""
        require.same_dtype("x", x, self)
        z, ladj = self.inverse(x)
        return self.base.log_prob(z) + ladj

    def loss(self, x: Tensor) -> Tensor:
        """Negative log-likelihood in nats, per example, (B, *E) → (B,)."""
        return -self.log_prob(x)

    def rsample(
        self, shape: Sequence[int], *, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw through which gradients flow to the parameters, (n,) → (n, *E).

        Args:
            shape: (n,).
            temperature: factor on z. Below 1 the draws keep nearer to the middle, and are no longer draws from q.
            generator: draws from here instead of torch's global one.
        """
        z = self.base.sample(shape, generator=generator)
        return self._forward(require.positive("temperature", temperature) * z)[0]

    @torch.no_grad()
    def sample(
        self, shape: Sequence[int], *, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw, (n,) → (n, *E), without gradient; arguments as in `rsample`."""
        return self.rsample(shape, temperature=temperature, generator=generator)
