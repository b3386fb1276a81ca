"""Discrete latents: an image becomes a few numbers of codes, and a model of the codes becomes a model of images.

A grid of vectors (B, *G, d) stands for an image x (B, *E), where G is the grid's shape, such as (4, 4). Codes (B, *G)
are whole numbers from 0 to K − 1, and say which vectors of a book these are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent
from torch.nn.functional import one_hot

from genlib import _arguments as require
from genlib._random import drawing_from, uniform
from genlib._shapes import evaluating, like_parameters, squared
from genlib.discrete import entropy
from genlib.mixture import lloyd, spread_out
from genlib.vae import Terms

_ROWS = 1_500  # how many draws, of all examples together, `VQVAE.bound` decodes at once


def straight_through(value: Tensor, slope: Tensor) -> Tensor:
    """The value of the one with the gradient of the other (Bengio et al. 2013, arXiv:1308.3432).

    Args:
        value: what comes out, to the last bit.
        slope: a finite tensor of the same shape. Gradients pass to it as if it had come out; none pass to `value`.

    Raises:
        ValueError: the shapes differ.
    """
    require.same_shape("slope", slope, value)
    return value.detach() + (slope - slope.detach())


def relaxed(logits: Tensor, temperature: float, *, generator: torch.Generator | None = None) -> Tensor:
    r"""Draw soft one-hot rows, (..., K) → (..., K), through which gradients pass to the logits.

    .. math:: y = \operatorname{softmax}\frac{\text{logits} + g}{\tau}, \qquad g_k = -\log(-\log u_k)

    As τ falls to 0 the row becomes a draw of a category, written one-hot (Jang et al. 2017, arXiv:1611.01144; Maddison
    et al. 2017, arXiv:1611.00712).

    Args:
        logits: unnormalised log-probabilities of K categories, finite.
        temperature: τ, above 0.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: logits hold no numbers or NaN, or the temperature is not above 0.
    """
    logits, temperature = require.real_tensor("logits", logits), require.positive("temperature", temperature)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have shape (..., K) with K at least 1, got {tuple(logits.shape)}")
    u = uniform(logits.shape, logits, generator).clamp(min=torch.finfo(logits.dtype).tiny)
    return ((logits - (-u.log()).log()) / temperature).softmax(-1)


def perplexity(codes: Tensor, K: int) -> float:
    """How many of K codes are in use: e to the entropy of their shares. It is 1 for one code, K for all equally often.

    Args:
        codes: whole numbers from 0 to K − 1, of any shape.
        K: how many codes there are.

    Raises:
        ValueError: codes are none, or out of range.
    """
    codes = require.symbols("codes", codes, (), require.whole_number("K", K))
    if not codes.numel():
        raise ValueError(f"codes must hold at least one code, got shape {tuple(codes.shape)}")
    counts = torch.bincount(codes.flatten()).double()  # of others the share is 0
    return entropy(counts / counts.sum()).exp().item()


class CodeBook(nn.Module):
    """K vectors of d numbers. A vector is replaced by the nearest of them (van den Oord et al. 2017, arXiv:1711.00937).

    No gradient trains the vectors. Each follows the mean of the rows that choose it, as in k-means, and old rows are
    forgotten.

    Args:
        codes: K, at least 2.
        dims: d.
        decay: γ of the moving averages, at least 0 and below 1.

    Attributes:
        vectors: (K, d), draws from N(0, I) at first.
        size: moving average of how many rows each code has, (K,), 1 at first.
        total: moving average of the sum of these rows, (K, d). Vectors are total / size.
        decay: γ. It may be changed at any time.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, codes: int, dims: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = require.share("decay", decay)
        shape = (require.whole_number("codes", codes, 2), require.whole_number("dims", dims))
        self.register_buffer("vectors", torch.randn(shape))
        self.register_buffer("size", torch.ones(codes))
        self.register_buffer("total", self.vectors.clone())

    def forward(self, e: Tensor) -> Tensor:
        """Number of the nearest code, (..., d) → (...).

        Raises:
            ValueError: e is empty, has another last dimension, or holds NaN or infinity. So say all methods.
        """
        return self._distances(self._checked(e).detach()).argmin(-1)

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors of the codes, (...) → (..., d).

        Raises:
            ValueError: codes are no whole numbers from 0 to K − 1.
        """
        return self.vectors[require.symbols("codes", codes, (), len(self.vectors))]

    def quantised(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest codes and their vectors, (..., d) → (...) and (..., d).

        Gradients pass from the vectors to e as if nothing had been replaced: `straight_through`.
        """
        codes = self(e)
        return codes, straight_through(self.lookup(codes), e)

    def log_near(self, e: Tensor, temperature: float) -> Tensor:
        r"""Log-probability in nats of codes drawn near e, (..., d) → (..., K).

        .. math:: q(k) \propto \exp\frac{-\lVert e - c_k \rVert^2}{\tau}

        Raises:
            ValueError: the temperature τ is not above 0, or e is refused.
        """
        temperature = require.positive("temperature", temperature)
        return (-self._distances(self._checked(e)).square() / temperature).log_softmax(-1)

    @torch.no_grad()
    def update(self, e: Tensor) -> None:
        r"""Let the codes follow rows e (..., d), of which n_k choose code k.

        .. math:: N_k \leftarrow \gamma N_k + (1 - \gamma)\, n_k, \qquad
            S_k \leftarrow \gamma S_k + (1 - \gamma) \sum_{e \to k} e, \qquad c_k = S_k / N_k

        With γ = 0 it is a step of k-means. A code that no row chooses keeps its vector.
        """
        keep, rows = self.decay, self._at_least(1, e)
        chosen = one_hot(self(rows), len(self.vectors)).to(rows)  # (n, K)
        count = chosen.sum(0)
        self.size = keep * self.size + (1 - keep) * count
        self.total = keep * self.total + (1 - keep) * chosen.T @ rows
        self._follow(count > 0)

    @torch.no_grad()
    def start(self, e: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Put the codes at the centres of clusters of the rows e (..., d): `spread_out`, then `lloyd`.

        Sizes and totals become those of the clusters. So give it about as many rows as `update` gets: with more of them
        the codes move more slowly at first.

        Raises:
            ValueError: there are fewer rows than codes, or e is refused.
        """
        rows = self._at_least(len(self.vectors), e)
        seeds = spread_out(rows, len(self.vectors), generator=generator)
        self.vectors, labels = lloyd(rows, rows[seeds])
        chosen = one_hot(labels, len(self.vectors)).to(rows)  # (n, K)
        self.size, self.total = chosen.sum(0), chosen.T @ rows
        self._follow(self.size > 0)

    @torch.no_grad()
    def revive(self, e: Tensor, least: float = 0.5, *, generator: torch.Generator | None = None) -> int:
        """Move codes with a size below `least` to rows of e (..., d), each to another one, drawn at random.

        Their sizes become the mean size. So a code that nobody chose gets a second chance where data are. `least`
        should lie well below the mean, which tends to the number of rows in an update over K.

        Returns:
            How many codes have moved.

        Raises:
            ValueError: `least` is negative, there are fewer rows than codes to move, or e is refused.
        """
        dead = self.size < require.not_negative("least", least)
        rows = self._at_least(int(dead.sum()), e)
        drawn = torch.randperm(len(rows), generator=generator, device=rows.device)[: int(dead.sum())]
        self.size = torch.where(dead, self.size.mean(), self.size)
        self.vectors = self.vectors.index_put((dead,), rows[drawn])
        self.total = torch.where(dead[:, None], self.size[:, None] * self.vectors, self.total)
        return len(drawn)

    def _follow(self, moved: Tensor) -> None:
        """Put the codes that have rows, (K,) bool, at the mean of them."""
        mean = self.total / self.size.clamp(min=torch.finfo(self.size.dtype).tiny)[:, None]
        self.vectors = torch.where(moved[:, None], mean, self.vectors)

    def _distances(self, e: Tensor) -> Tensor:
        """‖e − c_k‖, (..., d) → (..., K)."""
        exact = "donot_use_mm_for_euclid_dist"
        far = torch.cdist(e.reshape(-1, e.shape[-1]), self.vectors, compute_mode=exact)
        return far.reshape(*e.shape[:-1], len(self.vectors))

    def _checked(self, e: Tensor) -> Tensor:
        """Return e, (..., d), in the book's dtype."""
        e = require.events("e", e, self.vectors.shape[1:])
        if not e.numel():
            raise ValueError(f"e must hold at least one vector, got shape {tuple(e.shape)}")
        return require.real_tensor("e", e, like=self.vectors)

    def _at_least(self, n: int, e: Tensor) -> Tensor:
        """Return e, (..., d), as rows (n, d) after checking that there are enough."""
        e = self._checked(e)
        rows = e.reshape(-1, e.shape[-1])
        if len(rows) < n:
            raise ValueError(f"e must hold at least {n} vectors, one for each code, got {len(rows)}")
        return rows


class VQVAE(nn.Module):
    r"""An autoencoder through codes, and a model of the codes (van den Oord et al. 2017, arXiv:1711.00937).

    .. math:: \log p(x) = \log \sum_z p(z)\, p(x|z) \ge \log p(z) + \log p(x|z) \quad \text{for every } z

    Encoder, book and decoder are trained by `loss`. The prior is trained afterwards on the codes that `encode` gives.

    Args:
        encoder: x (B, *E) → (B, *G, d). Whole numbers reach it as reals.
        book: d numbers a vector.
        decoder: (B, *G, d) → distribution p(x|z), such as `genlib.vae.CategoricalNet`.
        prior: model p(z) of codes (B, *G), such as `genlib.pixels.PixelCNN`.

    Raises:
        ValueError: the prior has another number of levels than the book has codes.
    """

    def __init__(
        self, encoder: nn.Module, book: CodeBook, decoder: Callable[[Tensor], Distribution], prior: nn.Module
    ) -> None:
        super().__init__()
        self.encoder, self.book, self.decoder = encoder, book, decoder
        self.prior = _of_levels("prior", prior, book)

    @property
    def event_shape(self) -> torch.Size:
        """Shape E of one example."""
        with evaluating(self.decoder):
            return self.decode(
                self.book.size.new_zeros((1, *self.prior.event_shape), dtype=torch.long)
            ).event_shape

    def encode(self, x: Tensor) -> Tensor:
        """Codes, (B, *E) → (B, *G) int64.

        Raises:
            ValueError: x has the wrong shape, or the encoder does not return (B, *G, d).
        """
        return self.book(self._vectors(x))

    def decode(self, codes: Tensor) -> Distribution:
        """p(x|z), for codes (B, *G)."""
        return self.decoder(self.book.lookup(codes))

    def terms(self, x: Tensor) -> Terms:
        """Distortion −log p(x|z) and rate −log p(z) of the encoder's codes z, in nats, (B, *E) → (B,) each.

        Nothing is drawn: q(z|x) is a point.

        Raises:
            ValueError: x has the wrong shape, or the decoder cannot draw such values.
        """
        codes = self.encode(x)
        return Terms(-_log_likelihood(self.decode(codes), x), -self.prior.log_prob(codes))

    def elbo(self, x: Tensor) -> Tensor:
        """log p(z) + log p(x|z) in nats for the encoder's codes z, (B, *E) → (B,).

        It lies below log p(x) by −log p(z|x).
        """
        distortion, rate = self.terms(x)
        return -distortion - rate

    def bound(self, x: Tensor, draws: int = 500, temperature: float = 1.0) -> Tensor:
        """Importance-weighted bound in nats, (B, *E) → (B,) (Burda et al. 2016, arXiv:1509.00519).

        It is the logarithm of the mean of p(z) p(x|z) / q(z|x) over `draws` draws of codes from `CodeBook.log_near`,
        place by place. It tends to log p(x) from below, and to `elbo` as the temperature falls to 0.

        Raises:
            ValueError: draws is no whole number of at least 1, the temperature is not above 0, or x is refused.
        """
        draws, e = require.whole_number("draws", draws), self._vectors(x)
        _same_event(x, self.event_shape)
        near = Categorical(logits=self.book.log_near(e, temperature), validate_args=False)
        q = Independent(near, e.ndim - 2)
        log_weights, most = [], max(1, _ROWS // len(x))
        for done in range(0, draws, most):
            z = q.sample((min(most, draws - done),))  # (k, B, *G)
            again, codes = x.expand(len(z), *x.shape).flatten(0, 1), z.flatten(0, 1)
            joint = self.prior.log_prob(codes) + _log_likelihood(self.decode(codes), again)
            log_weights.append(joint.reshape(z.shape[:2]) - q.log_prob(z))
        return torch.cat(log_weights).logsumexp(0) - math.log(draws)

    def loss(self, x: Tensor, commitment: float = 0.25) -> Tensor:
        r"""What encoder and decoder minimise, per example, (B, *E) → (B,).

        .. math:: -\log p(x|z) + \beta \sum_{\text{places}} \lVert e - c \rVert^2

        Gradients pass through the codes c to the encoder's vectors e; c itself gets none. In training mode the book is
        then updated with e. The prior has no part in it.

        Args:
            x: batch.
            commitment: β, at least 0: what it costs to stay far from the codes.

        Raises:
            ValueError: commitment is negative, or x is refused; see `terms`.
        """
        require.not_negative("commitment", commitment)
        e = self._vectors(x)
        codes, z = self.book.quantised(e)
        distortion = -_log_likelihood(self.decoder(z), x)
        far = squared(e - self.book.lookup(codes))
        if self.training:
            self.book.update(e)
        return distortion + commitment * far

    @torch.no_grad()
    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw codes from the prior and then x given them, (n,) → (n, *E)."""
        codes = self.prior.sample((require.sample_count(shape),), generator=generator)
        with drawing_from(generator):
            return self.decode(codes).sample()

    def _vectors(self, x: Tensor) -> Tensor:
        """What the encoder says, (B, *E) → (B, *G, d)."""
        return _grid(self, "encoder", self.prior, self.book, x)


class LevelTerms(NamedTuple):
    """What the bound of `TwoLevels` consists of; ELBO = −distortion − rate_top − rate_bottom.

    Attributes:
        distortion: −log p(x|z) in nats, (B,).
        rate_top: −log p(top codes) in nats, (B,).
        rate_bottom: −log p(bottom codes | top codes) in nats, (B,).
    """

    distortion: Tensor
    rate_top: Tensor
    rate_bottom: Tensor


class TwoLevels(nn.Module):
    r"""Codes on two grids: a small one for the whole, a larger one for what it leaves open.

    (VQ-VAE-2, Razavi et al. 2019, arXiv:1906.00446.)

    .. math:: \log p(x) \ge \log p(z_{top}) + \log p(z_{bottom} | z_{top}) + \log p(x | z_{top}, z_{bottom})

    Args:
        encode_top: x (B, *E) → (B, *T, d_top), T the small grid. Whole numbers reach it as reals.
        top: book of the small grid.
        encode_bottom: x (B, *E) and top vectors (B, *T, d_top) → (B, *G, d).
        bottom: book of the larger grid.
        decoder: top vectors and bottom vectors (B, *G, d) → distribution p(x|z).
        prior_top: model of top codes (B, *T).
        prior_bottom: model of bottom codes (B, *G) whose ``given(c)`` takes the top vectors as c (B, C), such as
            `genlib.pixels.PixelCNN`.

    Raises:
        ValueError: a prior has another number of levels than its book has codes.
    """

    def __init__(
        self,
        encode_top: nn.Module,
        top: CodeBook,
        encode_bottom: nn.Module,
        bottom: CodeBook,
        decoder: Callable[[Tensor, Tensor], Distribution],
        prior_top: nn.Module,
        prior_bottom: nn.Module,
    ) -> None:
        super().__init__()
        self.encode_top, self.top, self.encode_bottom, self.bottom = encode_top, top, encode_bottom, bottom
        self.decoder = decoder
        self.prior_top = _of_levels("prior_top", prior_top, top)
        self.prior_bottom = _of_levels("prior_bottom", prior_bottom, bottom)

    @property
    def event_shape(self) -> torch.Size:
        """Shape E of one example."""
        with evaluating(self.decoder):
            start = self.top.size.new_zeros(1, dtype=torch.long)
            codes = (start.expand(1, *p.event_shape) for p in (self.prior_top, self.prior_bottom))
            return self.decode(*codes).event_shape

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Top and bottom codes, (B, *E) → (B, *T) and (B, *G) int64.

        Raises:
            ValueError: x has the wrong shape, or an encoder does not return vectors on its grid.
        """
        top = self.top(self._top(x))
        return top, self.bottom(self._bottom(x, self.top.lookup(top)))

    def decode(self, top: Tensor, bottom: Tensor) -> Distribution:
        """p(x|z), for codes (B, *T) and (B, *G)."""
        return self.decoder(self.top.lookup(top), self.bottom.lookup(bottom))

    def rates(self, top: Tensor, bottom: Tensor) -> tuple[Tensor, Tensor]:
        """−log p(top) and −log p(bottom | top) in nats, (B, *T) and (B, *G) → (B,) each: what the priors minimise."""
        return -self.prior_top.log_prob(top), -self._below(top).log_prob(bottom)

    def terms(self, x: Tensor) -> LevelTerms:
        """Distortion and rates of the encoders' codes in nats, (B, *E) → (B,) each. Nothing is drawn.

        Raises:
            ValueError: x has the wrong shape, or the decoder cannot draw such values.
        """
        codes = self.encode(x)
        return LevelTerms(-_log_likelihood(self.decode(*codes), x), *self.rates(*codes))

    def elbo(self, x: Tensor) -> Tensor:
        """log p(z) + log p(x|z) in nats for the encoders' codes z, (B, *E) → (B,).

        It lies below log p(x) by −log p(z|x).
        """
        return -sum(self.terms(x))

    def loss(self, x: Tensor, commitment: float = 0.25) -> Tensor:
        """As `VQVAE.loss`, with a commitment on each level, (B, *E) → (B,).

        Raises:
            ValueError: commitment is negative, or x is refused; see `terms`.
        """
        require.not_negative("commitment", commitment)
        high = self._top(x)
        top, z_top = self.top.quantised(high)
        low = self._bottom(x, z_top)
        bottom, z_bottom = self.bottom.quantised(low)
        distortion = -_log_likelihood(self.decoder(z_top, z_bottom), x)
        far = squared(high - self.top.lookup(top)) + squared(low - self.bottom.lookup(bottom))
        if self.training:
            self.top.update(high)
            self.bottom.update(low)
        return distortion + commitment * far

    @torch.no_grad()
    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw top codes, bottom codes given them, and x given both, (n,) → (n, *E)."""
        top = self.prior_top.sample((require.sample_count(shape),), generator=generator)
        bottom = self._below(top).sample((len(top),), generator=generator)
        with drawing_from(generator):
            return self.decode(top, bottom).sample()

    def _below(self, top: Tensor) -> nn.Module:
        """The model of bottom codes, given top codes (B, *T)."""
        return self.prior_bottom.given(self.top.lookup(top).flatten(1))

    def _top(self, x: Tensor) -> Tensor:
        """What the upper encoder says, (B, *E) → (B, *T, d_top)."""
        return _grid(self, "encode_top", self.prior_top, self.top, x)

    def _bottom(self, x: Tensor, z: Tensor) -> Tensor:
        """What the lower encoder says, (B, *E) and (B, *T, d_top) → (B, *G, d)."""
        return _grid(self, "encode_bottom", self.prior_bottom, self.bottom, x, z)


def _of_levels(name: str, prior: nn.Module, book: CodeBook) -> nn.Module:
    """Return the prior after checking its levels, where it says how many they are, against the book."""
    levels, codes = getattr(prior, "levels", None), len(book.vectors)
    if levels not in (None, codes):
        raise ValueError(f"{name} must have {codes} levels as the book has codes, got {levels}")
    return prior


def _grid(
    model: VQVAE | TwoLevels, name: str, prior: nn.Module, book: CodeBook, x: Tensor, *told: Tensor
) -> Tensor:
    """What the model's encoder of that name says of a batch x (B, *E), after checking both: (B, *G, d)."""
    x, encoder = require.events("x", x, ()), getattr(model, name)
    if x.ndim < 1 or not len(x):  # torch's own distributions refuse B = 0
        raise ValueError(f"x must be a tensor (B, *E) with B at least 1, got {tuple(x.shape)}")
    require.same_dtype("x", x, encoder)
    wanted = (len(x), *prior.event_shape, book.vectors.shape[1])
    try:
        e = encoder(x if x.is_floating_point() else x.to(like_parameters(encoder)), *told)
    except RuntimeError:
        _same_event(x, model.event_shape)
        raise
    if e.shape != wanted:
        _same_event(x, model.event_shape)
        raise ValueError(f"{name} must return shape {wanted}, got {tuple(e.shape)}")
    return e


def _same_event(x: Tensor, event_shape: torch.Size) -> None:
    """Raise ValueError if x is no batch (B, *event_shape)."""
    if x.shape[1:] != event_shape:
        wanted = ", ".join(["B", *map(str, event_shape)])
        raise ValueError(f"x must have shape ({wanted}), got {tuple(x.shape)}")


def _log_likelihood(p: Distribution, x: Tensor) -> Tensor:
    """Log p(x) in nats of a batch (B, *E) → (B,), after checking that p can draw it."""
    _same_event(x, p.event_shape)
    if not (p.support.check(x).all() and torch.isfinite(x).all()):
        raise ValueError(f"x must hold values that the decoder can draw, {p.support}, got others")
    return p.log_prob(x)
