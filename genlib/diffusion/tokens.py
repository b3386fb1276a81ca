r"""Diffusion of sequences of symbols, with masks or with random symbols (Austin et al. 2021, arXiv:2107.03006).

The clock runs from t = 0, data, to t = 1, noise. Each symbol is noised on its own, and is untouched at time t with
probability 1 − t. That clock is no loss: in the limit of many steps the bound is the same for every clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from genlib import _arguments as require
from genlib._random import uniform
from genlib._shapes import evaluating, like_parameters
from genlib.discrete import inverse_cdf

Net = Callable[[Tensor, Tensor], Tensor]


class _Tokens(nn.Module):
    """What both kinds of noise share: the bound as a sum over steps, or in the limit of many steps.

    A subclass defines `noised`, `divergence` and `sample`, and ``_estimate``: clean x (B, L) and uniform numbers (B,) →
    an unbiased estimate (B,) of the negative bound in the limit.
    """

    def __init__(self, net: Net, length: int, vocabulary: int) -> None:
        super().__init__()
        self.event_shape = torch.Size([require.whole_number("length", length)])
        self.vocabulary = require.whole_number("vocabulary", vocabulary)
        self.net = net

    def loss(self, x: Tensor) -> Tensor:
        """Unbiased estimate of −`elbo` in the limit of many steps, in nats, per example, (B, L) → (B,).

        Each example is seen once, at a random noise level; the levels are spread evenly over the batch.
        """
        x = self._clean(x)
        return self._estimate(x, self._spread(1, len(x))[0])

    def elbo(
        self, x: Tensor, steps: int | None = None, draws: int = 1, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Unbiased estimate of a lower bound on log P(x) in nats, (B, L) → (B,).

        Args:
            x: symbols 0 … V − 1.
            steps: T, the steps of the chain, all of which are added up: T passes of the network for each draw. None
                for the limit of infinitely many: one pass for each draw.
            draws: how many noisy versions of each example are seen. In the limit their levels are spread evenly.
            generator: draws from here instead of torch's global one.

        Raises:
            ValueError: a symbol outside the vocabulary, or a number that is not whole or below 1.
        """
        x, draws = self._clean(x), require.whole_number("draws", draws)
        with evaluating(self):
            if steps is None:
                levels = self._spread(draws, len(x), generator)
                return -sum(self._estimate(x, u, generator) for u in levels) / draws
            T = require.whole_number("steps", steps)
            total = self._like.new_zeros(len(x))
            for i in [*range(1, T + 1)] * draws:
                noisy = self.noised(x, i / T, generator)
                total = total + self.divergence(x, noisy, i / T, (i - 1) / T)
            return -total / draws

    @property
    def _like(self) -> Tensor:
        return like_parameters(self)

    def _clean(self, x: object) -> Tensor:
        return _rows(require.symbols("x", x, self.event_shape, self.vocabulary))

    def _log_clean(self, noisy: Tensor, t: Tensor) -> Tensor:
        """log π: the network's log-probabilities of the clean symbols, (B, L) and (B,) → (B, L, V)."""
        logits = self.net(noisy, t)
        wanted = self._like.new_empty(()).expand(*noisy.shape, self.vocabulary)
        return require.same_shape("net", logits, wanted).log_softmax(-1)

    def _spread(self, draws: int, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Uniform numbers (draws, count): each column has one in each of `draws` parts of (0, 1).

        Within a part they are spread evenly over the row.
        """
        like = self._like
        order = uniform((draws, count), like, generator).argsort(1)
        within = (order + uniform((draws, count), like, generator)) / count
        part = torch.arange(draws, device=like.device)[:, None]
        tiny = torch.finfo(like.dtype).eps
        return ((part + within) / draws).clamp(tiny, 1 - tiny)


class Absorbing(_Tokens):
    r"""Each symbol is replaced by a mask, number V, with probability t.

    A step back from t to s uncovers each masked symbol with probability (t − s)/t and draws it from the network π. So
    the chain of T steps, and its limit, pay

    .. math:: -\log P(x) \le \sum_{i=1}^{T} \frac1i\, \mathbb{E} \sum_{l\ \text{masked}} -\log \pi_l(x_l \mid x_{i/T})
        \;\longrightarrow\; \mathbb{E}_{k}\, \frac{L}{k} \sum_{l\ \text{masked}} -\log \pi_l(x_l \mid x \text{ with } k
        \text{ masks}),

    k uniform from 1 to L. The limit is the mean of the autoregressive log-probabilities over all orders of the symbols
    (Hoogeboom et al. 2022, arXiv:2110.02037), and the 1/t-weighted cross-entropy (Sahoo et al. 2024, arXiv:2406.07524).

    Args:
        net: symbols (B, L) from 0 to V and the share of masks (B,) → logits (B, L, V) of the clean symbols.
        length: L.
        vocabulary: V.
    """

    def noised(self, x: Tensor, t: float | Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw x_t, (B, L) and a time or (B,) → (B, L); masks are number V."""
        x = self._clean(x)
        hidden = uniform(x.shape, self._like, generator) < _times("t", t, x, self._like)
        return x.masked_fill(hidden, self.vocabulary)

    def divergence(self, x: Tensor, noisy: Tensor, t: float | Tensor, s: float | Tensor) -> Tensor:
        """D_KL(q(x_s | x_t, x) ‖ p(x_s | x_t)) in nats for s < t, (B, L), (B, L) and times → (B,)."""
        x, noisy = self._clean(x), self._noisy(noisy)
        t, s = _step(t, s, x, self._like)
        return ((t - s) / t)[:, 0] * self._hidden_loss(x, noisy)

    @torch.no_grad()
    def sample(
        self, shape: Sequence[int], steps: int | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw, (n,) → (n, L) int64.

        Args:
            shape: (n,).
            steps: T passes of the network; each step uncovers several symbols at once, independently. None for the
                limit: the symbols are uncovered one at a time, in a random order, in L passes.
            generator: draws from here instead of torch's global one.
        """
        n, (length,) = require.sample_count(shape), self.event_shape
        T = length if steps is None else require.whole_number("steps", steps)
        turn = uniform((n, length), self._like, generator)
        order = turn.argsort(1).argsort(1)
        due = (
            order if steps is None else (turn * T).long()
        )  # the step, counted from t = 0, that uncovers a place
        x = torch.full((n, length), self.vocabulary, device=turn.device)
        with evaluating(self):
            for i in reversed(range(T)):
                rows, places = (due == i).nonzero(as_tuple=True)
                if len(rows):
                    q = self._log_clean(x, self._share(x))[rows, places].exp()
                    x[rows, places] = inverse_cdf(q, uniform((len(rows),), q, generator))
        return x

    def _estimate(self, x: Tensor, u: Tensor, generator: torch.Generator | None = None) -> Tensor:
        length = x.shape[1]
        k = (u * length).long() + 1  # (B,), from 1 to L
        rank = uniform(x.shape, self._like, generator).argsort(1).argsort(1)
        noisy = x.masked_fill(rank < k[:, None], self.vocabulary)
        return length / k * self._hidden_loss(x, noisy)

    def _hidden_loss(self, x: Tensor, noisy: Tensor) -> Tensor:
        """Σ over masked places of −log π(x), (B,)."""
        log_pi = self._log_clean(noisy, self._share(noisy)).gather(-1, x[..., None])[..., 0]
        return -log_pi.masked_fill(noisy != self.vocabulary, 0).sum(1)

    def _share(self, noisy: Tensor) -> Tensor:
        return (noisy == self.vocabulary).to(self._like).mean(1)

    def _noisy(self, noisy: object) -> Tensor:
        return _rows(require.symbols("noisy", noisy, self.event_shape, self.vocabulary + 1))


class Uniform(_Tokens):
    r"""Each symbol is kept with probability α = 1 − t, and is drawn anew from all V symbols otherwise.

    The network says π, what a clean symbol may be *before* the noisy symbol a at its own place is looked at; Bayes'
    rule adds that. With q_t(y | x) = α [y = x] + (1 − α)/V, and π_t the same for x drawn from π, a step back has

    .. math:: q(x_s \mid x_t, x) = q(x_t \mid x_s) \frac{q_s(x_s \mid x)}{q_t(x_t \mid x)}, \qquad
        p(x_s \mid x_t) = q(x_t \mid x_s) \frac{\pi_s(x_s)}{\pi_t(x_t)}.

    The second is Σ_x q(x_s | x_t, x) p(x | x_t) with p(x | x_t) ∝ π(x) q_t(x_t | x). In the limit of many steps a jump
    from a to y has the rates ρ/((1 − t) V) and μ/((1 − t) V), with ρ = q_t(y | x)/q_t(a | x) and μ = π_t(y)/π_t(a), and
    the bound is

    .. math:: -\log P(x) \le \int_0^1 \frac{dt}{(1 - t) V}\, \mathbb{E} \sum_l \sum_{y \ne a}
        \Bigl(\rho \log\frac{\rho}{\mu} - \rho + \mu\Bigr)

    (Campbell et al. 2022, arXiv:2205.14987; Lou et al. 2024, arXiv:2310.16834). Were π to stand for p(x | x_t) itself,
    the limit would be infinite, unless it is exactly 0 or 1 at t = 0.

    Args:
        net: symbols (B, L) from 0 to V − 1 and times (B,) → logits (B, L, V) of π.
        length: L.
        vocabulary: V.
    """

    def noised(self, x: Tensor, t: float | Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw x_t, (B, L) and a time or (B,) → (B, L)."""
        x = self._clean(x)
        anew = uniform(x.shape, self._like, generator) < _times("t", t, x, self._like)
        return torch.where(anew, self._any(x.shape, generator), x)

    def divergence(self, x: Tensor, noisy: Tensor, t: float | Tensor, s: float | Tensor) -> Tensor:
        """D_KL(q(x_s | x_t, x) ‖ p(x_s | x_t)) in nats for s < t, (B, L), (B, L) and times → (B,)."""
        x, noisy = self._clean(x), self._noisy(noisy)
        t, s = _step(t, s, x, self._like)
        log_x, log_pi = self._certain(x), self._log_clean(noisy, t[:, 0])  # (B, L, V) each
        log_q, log_p = (self._back(log_clean, noisy, t, s) for log_clean in (log_x, log_pi))
        q = log_q.exp()
        return torch.where(q > 0, q * (log_q - log_p), 0.0).sum((1, 2))

    def slope(self, x: Tensor, noisy: Tensor, t: float | Tensor) -> Tensor:
        """The integrand of the limit, in nats per unit of time, for 0 < t < 1, (B, L), (B, L) and times → (B,)."""
        x, noisy = self._clean(x), self._noisy(noisy)
        t = _times("t", t, x, self._like)
        if not ((t > 0) & (t < 1)).all():
            raise ValueError(f"t must lie between 0 and 1, both excluded, got {t.flatten().tolist()}")
        log_rho, log_mu = (
            self._ratios(log_clean, noisy, t)
            for log_clean in (self._certain(x), self._log_clean(noisy, t[:, 0]))
        )
        d = log_mu - log_rho  # ρ log ρ/μ − ρ + μ = ρ (e^d − 1 − d), which is 0 at y = a
        return (log_rho.exp() * (d.expm1() - d)).sum((1, 2)) / ((1 - t[:, 0]) * self.vocabulary)

    @torch.no_grad()
    def sample(
        self, shape: Sequence[int], steps: int = 64, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw, (n,) → (n, L) int64, in `steps` passes of the network; each step draws all symbols independently."""
        n, T = require.sample_count(shape), require.whole_number("steps", steps)
        x = self._any((n, *self.event_shape), generator)
        with evaluating(self):
            for i in range(T, 0, -1):
                t, s = _step(i / T, (i - 1) / T, x, self._like)
                q = self._back(self._log_clean(x, t[:, 0]), x, t, s).exp()
                x = inverse_cdf(q, uniform(x.shape, q, generator))
        return x

    def _estimate(self, x: Tensor, u: Tensor, generator: torch.Generator | None = None) -> Tensor:
        t = u**2  # so that small noise, where few symbols are wrong, is seen more often
        return 2 * u * self.slope(x, self.noised(x, t, generator), t)

    def _mixed(self, log_clean: Tensor, t: Tensor) -> Tensor:
        """log of (1 − t) · probabilities + t/V, (B, L, V) and (B, 1) → (B, L, V)."""
        t = t[..., None]
        return torch.logaddexp(log_clean + (-t).log1p(), (t / self.vocabulary).log())

    def _ratios(self, log_clean: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """log of how much more probable y is than the noisy symbol at time t, (B, L, V)."""
        log_t = self._mixed(log_clean, t)
        return log_t - log_t.gather(-1, noisy[..., None])

    def _back(self, log_clean: Tensor, noisy: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """log q(x_t | x_s) + log of the law of x_s, less the logarithm of its sum over x_s, (B, L, V)."""
        forth = self._mixed(self._certain(noisy), 1 - (1 - t) / (1 - s))  # log q(x_t | x_s) is symmetric
        return (forth + self._mixed(log_clean, s)).log_softmax(-1)

    def _certain(self, x: Tensor) -> Tensor:
        """Log-probabilities of the law that is sure of x: 0 there and −∞ elsewhere, (B, L) → (B, L, V)."""
        return nn.functional.one_hot(x, self.vocabulary).to(self._like).log()

    def _any(self, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        return torch.randint(self.vocabulary, tuple(shape), generator=generator, device=self._like.device)

    def _noisy(self, noisy: object) -> Tensor:
        return _rows(require.symbols("noisy", noisy, self.event_shape, self.vocabulary))


class Reader(nn.Module):
    """A network of convolutions that look both ways, symbols (B, L) from 0 to V and t (B,) → logits (B, L, V).

    Each block multiplies two convolutions and adds the result to what it was given, h + W (A h · B h): a product says
    what two neighbours mean together (compare the gates of Dauphin et al. 2017, arXiv:1612.08083). A convolution with
    dilation d reads five places that lie d apart, so that dilations 1, 2, 4 reach 14 places to each side.

    Args:
        vocabulary: V; number V is the mask.
        width: size of the vector at each place.
        dilations: one block for each.
        length: L. If given, a dense network of all L places at once follows the blocks, for what holds at a distance.
        timed: whether t is looked at. Masks are counted without it.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int = 48,
        *,
        dilations: Sequence[int] = (1, 2),
        length: int | None = None,
        timed: bool = False,
    ) -> None:
        super().__init__()
        vocabulary, width = (
            require.whole_number("vocabulary", vocabulary),
            require.whole_number("width", width),
        )
        self.embed = nn.Embedding(vocabulary + 1, width)
        nn.init.normal_(self.embed.weight, std=0.5)
        self.clock = nn.Linear(8, width) if timed else None
        self.blocks = nn.Sequential(*(_Block(width, require.whole_number("dilation", d)) for d in dilations))
        self.whole = None
        if length is not None:
            length, narrow, hidden = require.whole_number("length", length), 24, 256
            self.whole = nn.Sequential(
                *(nn.LayerNorm(width), nn.Linear(width, narrow), nn.Flatten()),
                *(nn.Linear(length * narrow, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()),
                *(nn.Linear(hidden, length * width), nn.Unflatten(1, (length, width))),
            )
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, vocabulary))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Logits, (B, L) and (B,) → (B, L, V)."""
        h = self.embed(x)  # (B, L, width)
        if self.clock is not None:
            waves = torch.arange(8, device=t.device) * math.pi * t[:, None].sqrt()  # (B, 8)
            h = h + self.clock(waves.cos())[:, None]
        h = self.blocks(h)
        return self.out(h if self.whole is None else h + self.whole(h))


class _Block(nn.Module):
    """h + W (A h · B h), A and B convolutions over five places, with a LayerNorm in front."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm, self.merge = nn.LayerNorm(width), nn.Linear(width, width)
        self.near = nn.Conv1d(width, 2 * width, 5, padding=2 * dilation, dilation=dilation)

    def forward(self, h: Tensor) -> Tensor:
        a, b = self.near(self.norm(h).mT).chunk(2, 1)  # (B, width, L) each
        return h + self.merge((a * b).mT)


def _rows(x: Tensor) -> Tensor:
    """Return x after checking that it is (B, L)."""
    if x.ndim != 2:
        raise ValueError(f"x must have shape (B, L), got {tuple(x.shape)}")
    return x


def _times(name: str, t: object, x: Tensor, like: Tensor) -> Tensor:
    """Return times as a column (B, 1), after checking that they are one number or (B,), all from 0 to 1."""
    t = require.real_tensor(name, t, like=like)
    if t.shape not in ((), (len(x),)):
        raise ValueError(f"{name} must be one number or have shape ({len(x)},), got {tuple(t.shape)}")
    if not ((t >= 0) & (t <= 1)).all():
        raise ValueError(f"{name} must lie in [0, 1], got values from {t.min().item()} to {t.max().item()}")
    return t.expand(len(x))[:, None]


def _step(t: object, s: object, x: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the times of a step back as columns (B, 1), after checking that s < t."""
    t, s = _times("t", t, x, like), _times("s", s, x, like)
    if not (s < t).all():
        raise ValueError(f"s must be before t, got {s.flatten().tolist()} and {t.flatten().tolist()}")
    return t, s
