r"""What all mixtures share: a hidden component is drawn, then the data given it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from genlib import _arguments as require


class Mixture(ABC):
    r"""K components with weights, :math:`p(x) = \sum_k \pi_k\, p(x \mid k)`.

    A family says what its components are: `log_parts`, how they are drawn, and one step of expectation and
    maximisation. What follows by the sum and by Bayes' rule stands here.

    Attributes:
        weights: π, (K,).
        event_shape: E, the shape of one example.
    """

    weights: Tensor
    event_shape: torch.Size

    @property
    @abstractmethod
    def parameters_count(self) -> int:
        """How many numbers are free. The weights have K − 1 of them."""

    @abstractmethod
    def log_parts(self, x: Tensor) -> Tensor:
        """log p(x | k) in nats of every component k, (B, *E) → (B, K).

        Raises:
            ValueError: x has another shape or holds what no example may hold, here and wherever x is taken.
        """

    @abstractmethod
    def improved(self, x: Tensor, pull: float, *, counts: Tensor | None = None) -> Self:
        """One step of expectation and maximisation, which never lowers `penalised`.

        Args:
            x: data, (n, *E).
            pull: a, at least 0. Each component is fitted as if a further rows, spread as all data are, were its own.
            counts: how often each row counts, (n,); once when None.

        Raises:
            ValueError: an argument is out of range.
            RuntimeError: a component has no rows left, and pull is 0.
        """

    @abstractmethod
    def penalised(self, x: Tensor, pull: float, *, counts: Tensor | None = None) -> Tensor:
        """What `improved` raises, in nats, a scalar: log-likelihood and, but for a constant, log of a prior."""

    @abstractmethod
    def _draw(self, k: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw one example from each of these components, (n,) → (n, *E)."""

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, k) in nats of every component k, (B, *E) → (B, K)."""
        return self.log_parts(x) + self.weights.log()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability in nats, exact, (B, *E) → (B,)."""
        return self.log_joint(x).logsumexp(1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """p(k | x), by Bayes' rule, (B, *E) → (B, K)."""
        return self.log_joint(x).softmax(1)

    def loss(self, x: Tensor) -> Tensor:
        """Negative log-likelihood in nats, (B, *E) → (B,)."""
        return -self.log_prob(x)

    @torch.no_grad()
    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw components, then an example from each, (n,) → (n, *E)."""
        n = require.sample_count(shape)
        return self._draw(
            torch.multinomial(self.weights, n, replacement=True, generator=generator), generator
        )


@torch.no_grad()
def climb(
    model: Mixture, x: Tensor, steps: int = 1000, *, tol: float = 1e-6, **settings: object
) -> tuple[Mixture, list[float]]:
    """Take steps of `improved` until they hardly raise `penalised` (Dempster, Laird and Rubin 1977, JRSS B 39, 1-38).

    Args:
        model: where to start.
        x: data, (n, *E).
        steps: at most so many.
        tol: the climb ends after a step that raised `penalised` by less than this many nats for each row that counts.
            All steps are taken where it is 0.
        settings: go to `improved` and to `penalised`, such as pull and counts.

    Returns:
        The model at the end, and `penalised` at the start and after each step.

    Raises:
        ValueError: steps or tol is out of range, or something that the model refuses.
        RuntimeError: a component has no rows left, and nothing pulls it back.
    """
    steps, tol = require.whole_number("steps", steps, 0), float(require.not_negative("tol", tol))
    heights = [model.penalised(x, **settings).item()]
    least = tol * float(repetitions(x, settings.get("counts")).sum())
    for _ in range(steps):
        model = model.improved(x, **settings)
        heights.append(model.penalised(x, **settings).item())
        if tol and heights[-1] - heights[-2] < least:
            break
    return model, heights


def weights_of(weights: Tensor | Sequence[float] | None, components: int, like: Tensor) -> Tensor:
    """Return the weights (K,), equal when None, in the dtype of `like`, after checking that they are probabilities."""
    if weights is None:
        return like.new_full((components,), 1 / components)
    weights = require.probabilities("weights", weights, like=like)
    if weights.shape != (components,):
        raise ValueError(f"weights must have shape ({components},), got {tuple(weights.shape)}")
    return weights


def repetitions(x: Tensor, counts: Tensor | None, like: Tensor | None = None) -> Tensor:
    """Return how often each row of x counts, (n,), once when None.

    They are reals in the dtype of `like`, or of the first of x and counts that is real.
    """
    reals = (t for t in (like, x, counts) if isinstance(t, Tensor) and t.is_floating_point())
    like = next(reals, torch.empty(0)).new_empty(0, device=x.device)
    if counts is None:
        return like.new_ones(len(x))
    counts = require.real_tensor("counts", counts, like=like)
    if counts.shape != (len(x),) or (counts < 0).any() or not counts.any():
        raise ValueError(
            f"counts must hold {len(x)} numbers, none negative and not all 0, got {counts.tolist()}"
        )
    return counts


def rows_for(components: int, counts: Tensor, name: str = "components") -> int:
    """Return how many components are asked for, after checking that as many rows count."""
    rows = int((counts > 0).sum())
    if require.whole_number(name, components) > rows:
        raise ValueError(f"{name} must be at most the {rows} rows that count, got {components}")
    return components


def none_empty(size: Tensor, pull: float = 0.0, *, of: str = "component", by: str = "pull") -> Tensor:
    """Return how many rows the components have, (K,), after checking that none has lost all where nothing pulls.

    What they are, and what could pull them, may have other names.

    Raises:
        RuntimeError: pull is 0, and a component has no row, or so little of one that its mean is lost in rounding.
    """
    if pull == 0 and not (size > torch.finfo(size.dtype).tiny / torch.finfo(size.dtype).eps).all():
        k = size.argmin().item()
        raise RuntimeError(f"{of} {k} has no rows left: start elsewhere, or {by} above 0 keeps it")
    return size
