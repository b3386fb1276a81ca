"""A model that is told the class makes one that is not, and a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from genlib import _arguments as require
from genlib._shapes import evaluating
from genlib.pixels.masked import PixelCNN
from genlib.pixels.model import Pixels, Reader, picked


class ClassMixture(Pixels):
    r"""A model that is told the class, and does not know it: log p(x) = log Σ_c p(c) p(x | c), exact.

    Its conditionals weigh the classes by what is seen so far, p(c | x_1, …, x_{t−1}). By Bayes' rule it classifies.

    Args:
        model: told the class as a 1 among C zeros, and perhaps more numbers, all 0 here.
        prior: p(c), (C,).
    """

    def __init__(self, model: PixelCNN, prior: Tensor) -> None:
        super().__init__(model.event_shape, model.levels)
        prior = require.probabilities("prior", prior)
        if prior.ndim != 1 or len(prior) > model.condition:
            raise ValueError(
                f"prior must have shape (C,) with C at most {model.condition}, got {tuple(prior.shape)}"
            )
        self.model = model
        self.register_buffer("log_prior", prior.log())

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(c) + log p(x | c) in nats, (B, H, W) → (B, C)."""
        given_each = picked(self._given_each(x), x).flatten(2).sum(-1)  # (C, B)
        return (self.log_prior.log_softmax(0)[:, None] + given_each).T

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability in nats, exact, (B, H, W) → (B,)."""
        return self.log_joint(x).logsumexp(1)

    def forward(self, x: Tensor) -> Tensor:
        """Log-conditionals, (B, H, W) → (B, H, W, K)."""
        given = self._given_each(x)  # (C, B, H, W, K)
        paid = picked(given, x).flatten(2)
        before = pad(paid.cumsum(-1)[..., :-1], (1, 0)).view(given.shape[:-1])  # log p(the pixels before | c)
        return _mixed(self.log_prior[:, None, None, None] + before, given)

    @torch.no_grad()
    def sample(
        self,
        shape: Sequence[int],
        *,
        prefix: Tensor | None = None,
        temperature: float = 1.0,
        cached: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw a class for each image, given the prefix, then the pixels given the class; as `Pixels.sample`."""
        n, reader = require.sample_count(shape), _MixtureReader(self, 1)
        with evaluating(self):
            for level in self._prefix(prefix):
                reader.log_q()
                reader.put(level[None])
        weights = reader.log_seen[:, 0].softmax(0)
        c = torch.multinomial(weights, n, replacement=True, generator=generator)
        told = self.model.given(self.each(1)[c])
        settings = {"temperature": temperature, "cached": cached, "generator": generator}
        return told.sample(shape, prefix=prefix, **settings)

    def reader(self, n: int) -> Reader:
        """As `Pixels.reader`, by the reader of the model that is told."""
        return _MixtureReader(self, n)

    def _given_each(self, x: Tensor) -> Tensor:
        """log p(· | the pixels before, c) with each class, (B, H, W) → (C, B, H, W, K)."""
        x = self._images(x)
        classes = len(self.log_prior)
        told = self.each(len(x))
        return self.model.given(told).log_conditionals(x.repeat(classes, 1, 1)).unflatten(0, (classes, -1))

    def each(self, n: int) -> Tensor:
        """Conditions that tell each class to n images, (C n, condition)."""
        eye = torch.eye(len(self.log_prior), self.model.condition).to(self.log_prior)
        return eye.repeat_interleave(n, 0)


class _MixtureReader(Reader):
    def __init__(self, model: ClassMixture, n: int) -> None:
        super().__init__(model, n)
        self.inner = model.model.given(model.each(n)).reader(n * len(model.log_prior))
        self.log_seen = model.log_prior[:, None].expand(-1, n)  # log p(c, the levels so far), (C, n)

    def log_q(self) -> Tensor:
        """log p(· | the levels so far) of the next pixel, (n, K)."""
        self.given = self.inner.log_q().unflatten(0, (len(self.log_seen), -1))  # (C, n, K)
        return _mixed(self.log_seen, self.given)

    def put(self, level: Tensor) -> None:
        """The level of that pixel, (n,)."""
        self.log_seen = self.log_seen + picked(self.given, level)
        self.inner.put(level.repeat(len(self.log_seen)))
        super().put(level)


def _mixed(log_weights: Tensor, given: Tensor) -> Tensor:
    """Mean over classes by weights that are scaled to 1, (C, …) and (C, …, K) → (…, K)."""
    return (log_weights.log_softmax(0)[..., None] + given).logsumexp(0)
