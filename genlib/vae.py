"""Variational autoencoders: a model with a hidden variable, and a second network that guesses it from the data.

Encoder, decoder and prior are modules that return a distribution, as in `torch.distributions`. What they are made of is
free: nothing has to be inverted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from genlib import _arguments as require
from genlib._random import drawing_from
from genlib._shapes import evaluating, like_parameters

_ROWS = 1_500  # how many draws, of all examples together, `VAE.bound` decodes at once


class LinearGaussian:
    r"""Probabilistic PCA, a model in which everything is known (Tipping and Bishop 1999).

    .. math:: z \sim \mathcal{N}(0, I_d), \qquad x \mid z \sim \mathcal{N}(W z + b,\ \sigma^2 I_D)

    Args:
        weight: W, (D, d).
        bias: b, (D,).
        sigma: standard deviation σ of the noise, above 0.
    """

    def __init__(self, weight: Tensor, bias: Tensor, sigma: float | Tensor) -> None:
        self.weight = require.real_tensor("weight", weight)
        if self.weight.ndim != 2 or 0 in self.weight.shape:
            raise ValueError(f"weight must have shape (D, d), got {tuple(self.weight.shape)}")
        self.bias = require.real_tensor("bias", bias, like=self.weight)
        D, d = self.weight.shape
        if self.bias.shape != (D,):
            raise ValueError(f"bias must have shape ({D},), got {tuple(self.bias.shape)}")
        require.positive("sigma", sigma)
        self.sigma = torch.as_tensor(sigma, dtype=self.weight.dtype, device=self.weight.device)
        self.event_shape = torch.Size([D])
        self.prior = MultivariateNormal(self.weight.new_zeros(d), torch.eye(d).to(self.weight))

    @classmethod
    def fit(cls, x: Tensor, latent: int) -> LinearGaussian:
        """The model of largest likelihood for the data x (n, D), with `latent` directions, fewer than D.

        Its weight spans the directions of largest variance, and its noise is the mean of the variances left over.

        Raises:
            ValueError: `latent` is not from 1 to D − 1, or the data have no variance left over.
        """
        x = require.points("x", x)
        if require.whole_number("latent", latent) >= x.shape[1]:
            raise ValueError(f"latent must be less than the {x.shape[1]} features, got {latent}")
        variances, directions = torch.linalg.eigh(torch.cov(x.T, correction=0))  # in rising order
        noise = variances[:-latent].mean()
        if noise <= torch.finfo(variances.dtype).eps * variances[-1]:
            raise ValueError("x must vary in more directions than `latent`, got no variance left over")
        stretch = (variances[-latent:] - noise).clamp(min=0).sqrt()
        return cls(directions[:, -latent:] * stretch, x.mean(0), noise.sqrt())

    def decode(self, z: Tensor) -> Independent:
        """p(x|z), for z (..., d)."""
        z = require.real_events("z", z, self.prior.event_shape).to(self.weight)
        return Independent(Normal(z @ self.weight.T + self.bias, self.sigma), 1)

    def marginal(self) -> LowRankMultivariateNormal:
        """p(x) = N(b, W Wᵀ + σ² I)."""
        noise = self.sigma.expand(len(self.bias)) ** 2
        return LowRankMultivariateNormal(self.bias, self.weight, noise, validate_args=False)

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z|x), for x (..., D): mean M⁻¹ Wᵀ(x − b) and covariance σ² M⁻¹, where M = Wᵀ W + σ² I."""
        x = require.real_events("x", x, self.event_shape).to(self.weight)
        d = self.weight.shape[1]
        precision = self.weight.T @ self.weight / self.sigma**2 + torch.eye(d).to(self.weight)  # M / σ²
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
        mean = (x - self.bias) @ self.weight @ covariance / self.sigma**2
        return MultivariateNormal(mean, covariance)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-evidence log p(x) in nats, exact, (B, D) → (B,)."""
        return self.marginal().log_prob(require.real_events("x", x, self.event_shape).to(self.weight))

    def elbo(self, x: Tensor, q: MultivariateNormal) -> Tensor:
        """E[log p(x|z)] − D_KL(q‖prior) for z ~ q, in nats, exact, (B, D) → (B,)."""
        x = require.real_events("x", x, self.event_shape).to(self.weight)
        if q.event_shape != self.prior.event_shape:
            wanted, got = tuple(self.prior.event_shape), tuple(q.event_shape)
            raise ValueError(f"q must have the event shape {wanted}, got {got}")
        blur = torch.einsum("Dd,...de,De->...", self.weight, q.covariance_matrix, self.weight)  # tr W S Wᵀ
        seen = self.decode(q.mean).log_prob(x) - 0.5 * blur / self.sigma**2
        return seen - kl_divergence(q, self.prior)

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw, (n,) → (n, D)."""
        with drawing_from(generator):
            return self.marginal().sample((require.sample_count(shape),))


def _deviation(log_sigma: Tensor) -> Tensor:
    """σ = e^(log σ), after checking that σ² stays a number above 0."""
    reach = math.log(torch.finfo(log_sigma.dtype).max) / 2
    if not require.holds(~(log_sigma.abs() >= reach).any()):  # NaN goes on to where it is named
        worst = max(log_sigma.detach().flatten().tolist(), key=abs)
        raise RuntimeError(
            f"log σ must lie between −{reach:.1f} and {reach:.1f}, got {worst:.4g}: scale the data to numbers of size 1"
        )
    return log_sigma.exp()


class NormalNet(nn.Module):
    """x → N(μ(x), diag σ(x)²): an encoder.

    Args:
        net: (B, *E) → (B, 2d): μ and log σ, side by side.

    `forward` raises RuntimeError when a σ is so large or so small that σ² is no number above 0 any more.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Independent:
        """(B, *E) → distribution of z (B, d); whole numbers become reals of the network's precision."""
        both = self.net(x if x.is_floating_point() else x.to(like_parameters(self)))
        if both.shape[-1] % 2:
            raise ValueError(f"net must return μ and log σ, an even number of values, got {both.shape[-1]}")
        mu, log_sigma = both.chunk(2, -1)
        return Independent(Normal(mu, _deviation(log_sigma), validate_args=False), 1)


class NormalMeanNet(nn.Module):
    """z → N(x̂(z), σ² I): a decoder of real numbers whose noise is the same everywhere.

    Args:
        net: (B, d) → (B, D), the mean x̂.
        sigma: standard deviation to start from, above 0.
        learn: train σ too; otherwise it stays fixed.
    """

    def __init__(self, net: nn.Module, sigma: float = 1.0, learn: bool = False) -> None:
        super().__init__()
        self.net = net
        start = torch.tensor(math.log(require.positive("sigma", sigma)))
        self.log_sigma = nn.Parameter(start, requires_grad=learn)

    def forward(self, z: Tensor) -> Independent:
        """(B, d) → distribution of x (B, D)."""
        return Independent(Normal(self.net(z), _deviation(self.log_sigma), validate_args=False), 1)


class BernoulliNet(nn.Module):
    """z → independent bits: a decoder of black and white images.

    Args:
        net: (B, d) → (B, *E) logits of the probability of a 1.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor) -> Independent:
        """(B, d) → distribution of x (B, *E)."""
        logits = self.net(z)
        return Independent(Bernoulli(logits=logits, validate_args=False), logits.ndim - 1)


class CategoricalNet(nn.Module):
    """z → independent whole numbers from 0 to K − 1: a decoder of images in grey levels.

    Args:
        net: (B, d) → (B, *E, K) logits.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor) -> Independent:
        """(B, d) → distribution of x (B, *E)."""
        logits = self.net(z)
        return Independent(Categorical(logits=logits, validate_args=False), logits.ndim - 2)


class StandardPrior(nn.Module):
    """z ~ N(0, I_d).

    Args:
        latent: d, how many numbers z holds.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        zeros = torch.zeros(require.whole_number("latent", latent))
        self.register_buffer("mean", zeros, persistent=False)

    def forward(self) -> Independent:
        """Return the distribution of z (d,)."""
        return Independent(Normal(self.mean, torch.ones_like(self.mean), validate_args=False), 1)


class MixturePrior(nn.Module):
    """A mixture of K normal distributions with diagonal covariances, all of it trained.

    Args:
        latent: d, how many numbers z holds.
        components: K. The means start as draws from N(0, I), the deviations at 1, the weights equal.
    """

    def __init__(self, latent: int, components: int) -> None:
        super().__init__()
        shape = (require.whole_number("components", components), require.whole_number("latent", latent))
        self.logits = nn.Parameter(torch.zeros(components))
        self.mu = nn.Parameter(torch.randn(shape))
        self.log_sigma = nn.Parameter(torch.zeros(shape))

    def forward(self) -> MixtureSameFamily:
        """Return the distribution of z (d,)."""
        parts = Independent(Normal(self.mu, self.log_sigma.exp(), validate_args=False), 1)
        return MixtureSameFamily(
            Categorical(logits=self.logits, validate_args=False), parts, validate_args=False
        )


Given = Callable[[Tensor], Distribution]


class Terms(NamedTuple):
    """The two sides of the bound, for one draw of z; ELBO = −distortion − rate.

    Attributes:
        distortion: −log p(x|z) in nats, (B,): what it costs to say x to one who knows z.
        rate: D_KL(q(z|x)‖prior) in nats, (B,), exact where torch knows it, else log q(z|x) − log p(z) for the draw.
    """

    distortion: Tensor
    rate: Tensor


class VAE(nn.Module):
    r"""Variational autoencoder (Kingma and Welling 2014, arXiv:1312.6114; Rezende et al. 2014, arXiv:1401.4082).

    .. math:: \log p(x) \ge \mathbb{E}_{z \sim q(z|x)}[\log p(x|z)] - D_{KL}(q(z|x) \,\Vert\, p(z))

    Args:
        encoder: x (B, *E) → distribution q(z|x) with ``rsample``, such as `NormalNet`.
        decoder: z (B, d) → distribution p(x|z), such as `CategoricalNet`.
        prior: () → distribution p(z), such as `StandardPrior`.
    """

    def __init__(self, encoder: Given, decoder: Given, prior: nn.Module) -> None:
        super().__init__()
        self.encode, self.decode, self.prior = encoder, decoder, prior

    @property
    def event_shape(self) -> torch.Size:
        """Shape E of one example."""
        with evaluating(self.decode):
            start = like_parameters(self).new_zeros(1, *self.prior().event_shape)
            return self.decode(start).event_shape

    def terms(self, x: Tensor) -> Terms:
        """Distortion and rate, (B, *E) → (B,) each, for one draw of z.

        Raises:
            ValueError: x has the wrong shape, or the decoder cannot draw such values.
        """
        q, prior = self._guess(x)
        z = q.rsample()
        return Terms(-self._log_likelihood(x, z), _divergence(q, prior, z))

    def elbo(self, x: Tensor) -> Tensor:
        """Evidence lower bound in nats, for one draw of z, (B, *E) → (B,)."""
        distortion, rate = self.terms(x)
        return -distortion - rate

    def bound(self, x: Tensor, draws: int = 500) -> Tensor:
        """Importance-weighted bound in nats, (B, *E) → (B,) (Burda et al. 2016, arXiv:1509.00519).

        It is the logarithm of the mean of p(x, z) / q(z|x) over `draws` draws; it tends to log p(x) from below.
        """
        draws = require.whole_number("draws", draws)
        q, prior = self._guess(x)
        log_weights, most = [], max(1, _ROWS // len(x))
        for done in range(0, draws, most):
            z = q.rsample((min(most, draws - done),))  # (k, B, d)
            again = x.expand(len(z), *x.shape)  # (k, B, *E)
            seen = self._log_likelihood(again.flatten(0, 1), z.flatten(0, 1)).reshape(z.shape[:-1])  # (k, B)
            log_weights.append(seen + prior.log_prob(z) - q.log_prob(z))
        return torch.cat(log_weights).logsumexp(0) - math.log(draws)

    def loss(self, x: Tensor, beta: float = 1.0, free: float = 0.0) -> Tensor:
        """Distortion + β · rate in nats, per example, (B, *E) → (B,).

        Args:
            x: batch.
            beta: weight of the rate, at least 0. Only 1 gives minus the `elbo` (Higgins et al. 2017).
            free: nats for each entry of z below which the rate, averaged over the batch, costs nothing more (Kingma
                et al. 2016, arXiv:1606.04934). It needs independent entries in encoder and prior.

        Raises:
            ValueError: beta or free is negative, or x is no such batch; see `terms`.
        """
        require.not_negative("beta", beta)
        require.not_negative("free", free)
        if not free:
            distortion, rate = self.terms(x)
            return distortion + beta * rate
        q, prior = self._guess(x)
        if not (isinstance(q, Independent) and isinstance(prior, Independent)):
            raise ValueError("free must be 0 unless encoder and prior return an Independent distribution")
        each = kl_divergence(q.base_dist, prior.base_dist)  # (B, d)
        return -self._log_likelihood(x, q.rsample()) + beta * each.mean(0).clamp(min=free).sum()

    @torch.no_grad()
    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw z from the prior and then x given z, (n,) → (n, *E)."""
        with drawing_from(generator):
            z = self.prior().sample((require.sample_count(shape),))
            return self.decode(z).sample()

    def _guess(self, x: Tensor) -> tuple[Distribution, Distribution]:
        """Return q(z|x) for a batch x (B, *E), and the prior."""
        if not isinstance(x, Tensor) or x.ndim < 1 or not len(x):  # torch's own distributions refuse B = 0
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"x must be a tensor (B, *E) with B at least 1, got {got}")
        require.same_dtype("x", x, self.encode)
        try:
            q, prior = self.encode(x), self.prior()
        except RuntimeError as error:
            if x.shape[1:] == self.event_shape:
                raise
            wanted = ", ".join(["B", *map(str, self.event_shape)])
            raise ValueError(f"x must have shape ({wanted}), got {tuple(x.shape)}") from error
        if q.batch_shape != x.shape[:1]:
            raise ValueError(
                f"x must have shape (B, *E), got {tuple(x.shape)} for {tuple(q.batch_shape)} guesses"
            )
        if q.event_shape != prior.event_shape:
            got = f"{tuple(q.event_shape)} and {tuple(prior.event_shape)}"
            raise ValueError(f"encoder and prior must draw z of one shape, got {got}")
        return q, prior

    def _log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x|z) in nats, (B, *E), (B, d) → (B,)."""
        p = self.decode(z)
        if x.shape != p.batch_shape + p.event_shape:
            wanted = ", ".join(["B", *map(str, p.event_shape)])
            raise ValueError(f"x must have shape ({wanted}), got {tuple(x.shape)}")
        if not (p.support.check(x).all() and torch.isfinite(x).all()):
            raise ValueError(f"x must hold values that the decoder can draw, {p.support}, got others")
        return p.log_prob(x)


@torch.no_grad()
def active_units(model: VAE, x: Tensor, threshold: float = 0.01) -> int:
    """How many entries of z the encoder uses: those whose posterior mean varies over the data x (n, *E).

    Args:
        model: whose encoder gives a mean (n, d).
        x: data, at least two examples.
        threshold: the variance above which an entry counts as used (Burda et al. 2016, arXiv:1509.00519).
    """
    if len(x) < 2:
        raise ValueError(f"x must hold at least two examples, got {len(x)}")
    return int((model.encode(x).mean.var(0) > require.positive("threshold", threshold)).sum())


def _divergence(q: Distribution, prior: Distribution, z: Tensor) -> Tensor:
    """D_KL(q‖prior), (B,): the formula where there is one, else the draw's own log q(z) − log p(z)."""
    try:
        return kl_divergence(q, prior)
    except NotImplementedError:
        return q.log_prob(z) - prior.log_prob(z)
