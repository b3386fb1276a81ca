"""What a recipe is, and the two baselines that need no network."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import normal


class Sampler(Protocol):
    """What the scorecard asks of a trained model; it may have ``log_prob(x)`` or ``bound(x, draws)`` too."""

    def sample(self, shape: Sequence[int]) -> Tensor:
        """Draw, (n,) → (n, *E)."""


@dataclass(frozen=True)
class Recipe:
    """How a family is trained.

    Attributes:
        train: data, steps, and the settings by name → model. Without `steps` it gets the data alone.
        steps: updates that fill the budget of time, None for what is not trained step by step.
        settings: what was chosen by trying.
    """

    train: Callable[..., Sampler]
    steps: int | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    def __call__(self, x: Tensor, share: float = 1.0) -> Sampler:
        """Train on x (n, *E), for a share of the steps."""
        if self.steps is None:
            return self.train(x, **self.settings)
        return self.train(x, max(1, round(require.positive("share", share) * self.steps)), **self.settings)


class Neighbours:
    """A kernel density estimate with normal kernels (Parzen 1962): a mixture with a round component on each point.

    Args:
        x: (n, D) points, one kernel on each.
        bandwidth: deviation of the kernels.
    """

    parameters_count = 1

    def __init__(self, x: Tensor, bandwidth: float) -> None:
        self.x, self.bandwidth = require.points("x", x).double(), require.positive("bandwidth", bandwidth)
        self.event_shape = self.x.shape[1:]

    @classmethod
    def fit(cls, x: Tensor, bandwidths: Sequence[float]) -> Neighbours:
        """The bandwidth under which a tenth of the points, at most 500, is most likely, given the others."""
        held_out, seen = x[: min(len(x) // 10, 500)], x[len(x) // 10 :]
        best = max(bandwidths, key=lambda h: cls(seen, float(h)).log_prob(held_out).sum().item())
        return cls(x, float(best))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, (B, D) → (B,).

        It is written out, because scikit-learn's tree loses its accuracy where kernels are narrow (its issues 7492 and
        25799).
        """
        constant = x.shape[1] * math.log(self.bandwidth * math.sqrt(2 * math.pi)) + math.log(len(self.x))
        parts = []
        x = require.real_events("x", x, self.event_shape)
        for part in x.double().split(200):
            far = torch.cdist(part, self.x, compute_mode="donot_use_mm_for_euclid_dist") / self.bandwidth
            parts.append((-0.5 * far**2).logsumexp(1) - constant)
        return torch.cat(parts).to(x)

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw, (n,) → (n, D)."""
        which = torch.randint(len(self.x), (require.sample_count(shape),), generator=generator)
        centres = self.x[which]
        return (centres + self.bandwidth * normal(centres.shape, centres, generator)).float()


class Mixture:
    """A mixture of normal distributions, fitted by expectation and maximisation (Dempster et al. 1977).

    It is scikit-learn's and not `NormalMixture`, so that the baseline which all families are measured against is code
    that this book did not write. The tests hold the two together: the same steps, the same densities.

    Args:
        x: (n, D) points.
        components: how many.
        covariance: "full", "diag", "tied" or "spherical".
    """

    def __init__(self, x: Tensor, components: int, covariance: str) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        seed = int(torch.randint(2**31, ()))
        mixture = GaussianMixture(
            components, covariance_type=covariance, reg_covar=1e-5, tol=1e-4, random_state=seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # then it is what a hundred rounds have reached
            self.mixture = mixture.fit(x.double().numpy())
        self.parameters_count, self.event_shape = mixture._n_parameters(), x.shape[1:]

    @classmethod
    def fit(cls, x: Tensor, components: Sequence[int], covariances: Sequence[str]) -> Mixture:
        """The mixture under which a tenth of the points is most likely, given the others; fitted again to all.

        Of many points 5,000 make the choice, to keep within the time that others have.
        """
        few = x[:5000]
        held_out, seen = few[: len(few) // 10], few[len(few) // 10 :]

        def fits(choice: tuple[int, str]) -> float:
            return cls(seen, *choice).log_prob(held_out).sum().item()

        return cls(x, *max(itertools.product(components, covariances), key=fits))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, (B, D) → (B,)."""
        x = require.real_events("x", x, self.event_shape)
        if not len(x):
            return x.new_zeros(0)
        return torch.from_numpy(self.mixture.score_samples(x.double().numpy())).to(x)

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw, (n,) → (n, D)."""
        n = require.sample_count(shape)
        self.mixture.random_state = int(torch.randint(2**31, (), generator=generator))
        drawn = torch.from_numpy(self.mixture.sample(n)[0]).float()
        return drawn[torch.randperm(n, generator=generator)]  # scikit-learn returns them cluster by cluster
