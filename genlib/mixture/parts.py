"""Deep mixtures of images: each component chooses, block by block, among patterns that all components share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import uniform
from genlib.discrete import inverse_cdf
from genlib.mixture._tables import histogram, one_hot
from genlib.mixture.core import none_empty, rows_for, weights_of
from genlib.mixture.levels import LevelMixture, Rounded, rounded, spread

MOST_PATHS = 100_000  # what `flat` writes out


class PartsMixture(Rounded):
    r"""A mixture in two layers: an image is cut into Q blocks, and a component chooses one of M patterns for each.

    .. math:: p(x) = \sum_h \pi_h \prod_q \sum_m A_q(m \mid h) \prod_{d \in q} P_{qm}(x_d)

    A pattern is a component of a `LevelMixture`: independent grey levels, each a rounded normal number. The components
    share the patterns and differ in their choices. A path picks a component and a pattern for each block, so the sum is
    an exact mixture over :math:`H M^Q` paths, of far fewer numbers than they are. It is a hierarchical latent class
    model (Zhang 2004, JMLR 5, 697-723) of grey levels.

    The blocks form a grid: G says how many there are along each axis, B how large they are, and the image has the
    shape E, with :math:`E_i = G_i B_i`. Images of 8 × 8 pixels in blocks of 2 × 4 have the grid (4, 2).

    Args:
        choices: A, (*G, H, M) probabilities of the patterns.
        means: μ, (*G, M, *B), in levels.
        deviations: σ, (*G, M, *B), above 0, in levels.
        weights: π, (H,) probabilities; equal when None.
        levels: V, at least 2.

    Attributes:
        choices: A, (*G, H, M).
        means: μ, (*G, M, *B).
        deviations: σ, (*G, M, *B).
        weights: π, (H,).
        levels: V.
        grid: G.
        event_shape: E.

    Raises:
        ValueError: a shape is another, a deviation is not above 0, choices or weights are no probabilities, or there
            are fewer than 2 levels.
    """

    def __init__(
        self,
        choices: Tensor,
        means: Tensor,
        deviations: Tensor,
        weights: Tensor | Sequence[float] | None = None,
        *,
        levels: int,
    ) -> None:
        super().__init__(means, deviations, levels)
        self.choices = require.probabilities("choices", choices, like=self.means)
        if self.choices.ndim < 2 or 0 in self.choices.shape:
            shape = tuple(self.choices.shape)
            raise ValueError(f"choices must have shape (*G, H, M) with H, M at least 1, got {shape}")
        *grid, components, patterns = self.choices.shape
        block = self.means.shape[len(grid) + 1 :]
        if self.means.shape != (*grid, patterns, *block) or len(block) != len(grid) or 0 in block:
            wanted = ", ".join(map(str, [*grid, patterns, "*B"]))
            got = tuple(self.means.shape)
            raise ValueError(f"means must have shape ({wanted}) with as many axes in B as in G, got {got}")
        self.weights = weights_of(weights, components, self.means)
        self.grid = torch.Size(grid)
        self.event_shape = torch.Size(g * b for g, b in zip(grid, block, strict=True))
        self._pixels = _pixels(grid, block, self.means.device)

    @classmethod
    def fit(
        cls,
        x: Tensor,
        components: int,
        patterns: int,
        block: Sequence[int],
        steps: int = 30,
        pull: float = 1.0,
        even: float = 5.0,
        *,
        levels: int,
        counts: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> PartsMixture:
        """Learn from images by so many steps of `improved`, (n, *E) of whole numbers from 0 to V − 1.

        The patterns of a block start with means at that block of rows drawn by lot, and with half the deviations of all
        data. Half of a component's choices start equal, the other half in proportion to eighth powers of uniform
        numbers, so that a few patterns have most of it. The model is in the dtype of counts where these are real, else
        in torch's default one.

        Args:
            x: images.
            components: H.
            patterns: M, at most as many as there are rows that count.
            block: B, a size for each axis of the images, which it divides.
            steps: how many; few of them are a way to stop early.
            pull, even: as in `improved`.
            levels: V, at least 2.
            counts: how often each row counts, (n,), not negative; once when None.
            generator: draws from here instead of torch's global one.

        Raises:
            ValueError: an argument is out of range, here and wherever it is taken.
            RuntimeError: as in `improved`.
        """
        levels = require.whole_number("levels", levels, 2)
        hot, counts = cls._data(x, levels, counts)
        components = require.whole_number("components", components)
        patterns = rows_for(patterns, counts, "patterns")
        grid = _grid(x.shape[1:], block)
        pixels = _pixels(grid, block, x.device)
        drawn = [torch.multinomial(counts, patterns, generator=generator) for _ in range(math.prod(grid))]
        rows = torch.stack(drawn).reshape(*grid, patterns, *[1] * len(grid))
        means = x.reshape(len(x), -1)[rows, pixels.unsqueeze(len(grid))].to(counts)
        _, variance = spread(histogram(hot, counts))
        deviations = variance.sqrt().flatten()[pixels].unsqueeze(len(grid)) / 2
        uneven = uniform((*grid, components, patterns), counts, generator) ** 8
        choices = (uneven / uneven.sum(-1, keepdim=True) + 1 / patterns) / 2
        start = cls(choices, means, deviations.expand_as(means), levels=levels)
        return start._after(steps, x, pull=pull, even=even, counts=counts)

    @property
    def parameters_count(self) -> int:
        """How many numbers are free, H − 1 weights, M − 1 choices of each component in each block, and the patterns.

        A pattern has a mean and a deviation for each of its pixels.
        """
        chosen = self.choices[..., 0].numel() * (self.choices.shape[-1] - 1)
        return len(self.weights) - 1 + chosen + 2 * self.means.numel()

    def log_parts(self, x: Tensor) -> Tensor:
        """log p(x | h) in nats of every component h, (B, *E) → (B, H).

        Raises:
            ValueError: x has another shape or holds another value, here and wherever x is taken.
        """
        return _log_parts(self._cut(x), self.log_table(), self.choices.log())

    def flat(self) -> LevelMixture:
        r"""The mixture over paths, of :math:`H M^Q` components, those of the first h first; it keeps gradients.

        Raises:
            ValueError: there are more than 100,000 paths.
        """
        Q, (H, M) = self.grid.numel(), self.choices.shape[-2:]
        if H * M**Q > MOST_PATHS:
            raise ValueError(f"flat writes out at most {MOST_PATHS} paths, got {H} · {M}^{Q}")
        picks = torch.cartesian_prod(*[torch.arange(M)] * Q).reshape(-1, Q)  # (M^Q, Q)
        every = torch.arange(Q)
        chosen = self.choices.reshape(Q, H, M)[every, :, picks].prod(1)  # (M^Q, H)

        def along(numbers: Tensor) -> Tensor:
            patterns = numbers.reshape(Q, M, -1)[every, picks].reshape(-1, *self._pixels.shape)
            return self._joined(patterns).repeat(H, *[1] * len(self.event_shape))

        weights = (self.weights * chosen).T.flatten()
        return LevelMixture(along(self.means), along(self.deviations), weights, levels=self.levels)

    @torch.no_grad()
    def improved(
        self, x: Tensor, pull: float = 1.0, even: float = 5.0, *, counts: Tensor | None = None
    ) -> PartsMixture:
        r"""One step of expectation and maximisation with three hidden things: h, the patterns, the unrounded numbers.

        .. math:: A_q(m \mid h) = \frac{N_{qhm} + b / M}{N_{qh} + b}, \qquad
            N_{qhm} = \sum_n p(h, m_q = m \mid x_n), \qquad N_{qh} = \sum_m N_{qhm}

        Each component's choices in a block are fitted as if it had chosen b times more, all patterns equally often. The
        patterns are fitted as in `LevelMixture.improved`, each to the rows in which it is chosen. The step never lowers
        `penalised` (Dempster, Laird and Rubin 1977, JRSS B 39, 1-38).

        The numbers of rows are slopes: by as much as the log-likelihood rises with the logarithm of a probability, so
        often what it is of is expected to happen (Darwiche 2003, Journal of the ACM 50, 280-305).

        Args:
            x: images, (n, *E).
            pull: a, at least 0. Each pattern is fitted as if a further rows, spread as all data are, were its own.
            even: b, at least 0.
            counts: how often each row counts, (n,); once when None.

        Raises:
            ValueError: pull or even is negative, or counts are negative or all 0; or pull is 0 and a deviation falls
                to 0.
            RuntimeError: pull is 0 and a pattern has no rows left, or even is 0 and a component has none; or
                torch.inference_mode() forbids slopes.
        """
        require.gradients("improved")
        pull, even = _not_negative(pull, even)
        counts = self._repetitions(x, self.levels, counts, self.weights)
        size, pairs, seen = self._counted(x, counts)
        none_empty(size, even, by="even")
        none_empty(pairs.sum(-2).flatten(), pull, of="pattern")
        choices = (pairs + even / pairs.shape[-1]) / (pairs.sum(-1, keepdim=True) + even)
        total = seen.sum(len(self.grid), keepdim=True)  # each row chooses one pattern in each block
        patterns = self._refitted(seen, total, pull)
        return PartsMixture(choices, *patterns, size / size.sum(), levels=self.levels)

    def penalised(
        self, x: Tensor, pull: float = 1.0, even: float = 5.0, *, counts: Tensor | None = None
    ) -> Tensor:
        r"""What `improved` raises, in nats, a scalar: log-likelihood and, but for a constant, log of a prior.

        .. math:: \sum_n \log p(x_n) + a \sum_{qmd} E[\log N(y; \mu_{qmd}, \sigma_{qmd}^2)]
            + \frac{b}{M} \sum_{qhm} \log A_q(m \mid h)

        Here y is as in `LevelMixture.penalised`. The prior of the choices is a Dirichlet distribution.
        """
        (pull, even), log_p = _not_negative(pull, even), self.log_prob(x)
        hot, counts = self._data(x, self.levels, counts, self.weights)
        total = histogram(hot, counts).reshape(-1, self.levels)[self._pixels].unsqueeze(len(self.grid))
        chosen = torch.xlogy(even / self.choices.shape[-1], self.choices).sum()
        return counts @ log_p + self._log_prior(total, pull) + chosen

    def _counted(self, x: Tensor, counts: Tensor) -> tuple[Tensor, ...]:
        """Expectation: in how many rows h is the component, (H,), and chooses m, (*G, H, M), and what m has seen.

        The latter is how often it sees each value at each pixel, (*G, M, *B, V).
        """
        hot, logs = self._cut(x), (self.weights.log(), self.choices.log(), self.log_table())
        weights, choices, table = logs = [log.detach().requires_grad_() for log in logs]
        with torch.enable_grad():
            log_p = (_log_parts(hot, table, choices) + weights).logsumexp(1)
            return torch.autograd.grad(counts @ log_p, logs)

    def _cut(self, x: Tensor) -> Tensor:
        """Cut images into one-hot blocks, (B, *E) → (Q, B, d V)."""
        x = self._batch(x).reshape(len(x), self.event_shape.numel())
        pixels = self._pixels.reshape(self.grid.numel(), 1, -1)  # (Q, 1, d)
        rows = torch.arange(len(x), device=x.device)[:, None]
        return one_hot(x[rows, pixels], self.levels, self.weights).flatten(2)

    def _joined(self, blocks: Tensor) -> Tensor:
        """Put blocks together, (n, *G, *B) → (n, *E)."""
        order = self._pixels.flatten().argsort()
        return blocks.reshape(-1, len(order))[:, order].reshape(-1, *self.event_shape)

    def _draw(self, k: Tensor, generator: torch.Generator | None) -> Tensor:
        choices, axes = self.choices[..., k, :], len(self.grid)  # (*G, n, M)
        m = inverse_cdf(choices, uniform(choices.shape[:-1], choices, generator))
        m = m.reshape(*m.shape, *[1] * axes)
        means, deviations = (part.take_along_dim(m, axes) for part in (self.means, self.deviations))
        return self._joined(rounded(means, deviations, self.levels, generator).movedim(axes, 0))


def _log_parts(hot: Tensor, log_table: Tensor, log_choices: Tensor) -> Tensor:
    """log p(x | h), from one-hot blocks (Q, n, d V), log P (*G, M, *B, V) and log A (*G, H, M) → (n, H)."""
    log_choices = log_choices.reshape(-1, *log_choices.shape[-2:])  # (Q, H, M)
    log_table = log_table.reshape(*log_choices[:, 0].shape, -1)  # (Q, M, d V)
    return _log_chosen(hot @ log_table.mT, log_choices).sum(0)


def _log_chosen(log_p: Tensor, log_choices: Tensor) -> Tensor:
    """log Σ A(m | h) p(m), a sum over patterns, (Q, n, M) and (Q, H, M) → (Q, n, H).

    It is a product of matrices, but where this underflows because a component shuns the patterns that fit.
    """
    top = log_p.detach().amax(-1, keepdim=True)
    p = (log_p - top).exp() @ log_choices.exp().mT
    lost = p < torch.finfo(p.dtype).tiny / torch.finfo(p.dtype).eps
    if not lost.any():
        return p.log() + top
    chosen = p.masked_fill(lost, 1).log() + top
    q, n, h = lost.nonzero(as_tuple=True)
    return chosen.index_put((q, n, h), (log_p[q, n] + log_choices[q, h]).logsumexp(-1))


def _grid(shape: Sequence[int], block: Sequence[int]) -> list[int]:
    """How many blocks lie along each axis of images of this shape."""
    sizes = [require.whole_number("each size of block", size) for size in block]
    if len(sizes) != len(shape) or any(e % b for e, b in zip(shape, sizes, strict=True)):
        raise ValueError(f"block must divide images of shape {tuple(shape)}, got {tuple(sizes)}")
    return [e // b for e, b in zip(shape, sizes, strict=True)]


def _pixels(grid: Sequence[int], block: Sequence[int], device: torch.device) -> Tensor:
    """Which pixel of the flattened image stands where in which block, (*G, *B)."""
    sizes = [size for pair in zip(grid, block, strict=True) for size in pair]  # G_1, B_1, G_2, B_2, …
    axes = range(len(sizes))
    pixels = torch.arange(math.prod(sizes), device=device).reshape(sizes)
    return pixels.permute((*axes[::2], *axes[1::2]))


def _not_negative(pull: object, even: object) -> tuple[float, float]:
    """Check what the priors count as."""
    return float(require.not_negative("pull", pull)), float(require.not_negative("even", even))
