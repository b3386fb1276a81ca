"""Variational autoencoders: the exact model, the networks, the priors, the bounds, and what is refused."""

import math
import re

import pytest
import torch
from exactness import FEW, REAL, STEADY, close, seeded
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import distributions as td
from torch import nn
from torch.nn import functional as F

from genlib import vae
from genlib.training import fit
from genlib.vae import (
    VAE,
    BernoulliNet,
    CategoricalNet,
    LinearGaussian,
    MixturePrior,
    NormalMeanNet,
    NormalNet,
    StandardPrior,
    active_units,
)

pytestmark = pytest.mark.usefixtures("double")

SEEDS = st.integers(0, 10**6)
SIZES = st.tuples(st.integers(1, 5), st.integers(1, 4))  # D, d: there may be more hidden numbers than seen


def draws(shape, seed=0, spread=1.0):
    return spread * torch.randn(shape, generator=seeded(seed), dtype=REAL)


def a_model(D=3, d=2, seed=0):
    sigma = 0.4 + torch.rand((), generator=seeded(seed + 2)).item()
    return LinearGaussian(draws((D, d), seed), draws(D, seed + 1), sigma)


def a_normal(shape, seed=0):
    """Normal distributions (*shape,) with any means and covariances."""
    root = draws((*shape, shape[-1]), seed + 1)
    return td.MultivariateNormal(draws(shape, seed), root @ root.mT + 0.1 * torch.eye(shape[-1]))


def assert_mean(values, expected):
    """The draws' mean is right within 4.5 standard errors (fixed seeds), and these are small enough to tell."""
    values, expected = values.detach(), torch.as_tensor(expected).item()
    error = values.std().item() / len(values) ** 0.5
    assert error < 0.05
    assert values.mean().item() == pytest.approx(expected, abs=4.5 * error)


# the linear-Gaussian model


@STEADY
@given(SEEDS, SIZES)
def test_joint_of_the_linear_model_factors_both_ways(seed, sizes):
    D, d = sizes
    model, x, z = a_model(D, d, seed), draws((4, D), seed, 2), draws((4, d), seed + 1, 2)
    forwards = model.prior.log_prob(z) + model.decode(z).log_prob(x)
    backwards = model.log_prob(x) + model.posterior(x).log_prob(z)
    assert forwards.shape == (4,)
    close(forwards, backwards, 1e-9)


@FEW
@given(SEEDS, SIZES)
def test_linear_model_against_conditioning_of_the_joint_normal(seed, sizes):
    D, d = sizes
    model, x = a_model(D, d, seed), draws((4, D), seed, 2)
    W, b, noise = model.weight, model.bias, model.sigma.item() ** 2
    joint = torch.cat([torch.cat([torch.eye(d), W.T], 1), torch.cat([W, W @ W.T + noise * torch.eye(D)], 1)])
    marginal = td.MultivariateNormal(b, joint[d:, d:])
    close(model.marginal().mean, b)
    close(model.marginal().covariance_matrix, joint[d:, d:])
    close(model.log_prob(x), marginal.log_prob(x), 1e-10)
    gain = torch.linalg.solve(joint[d:, d:], joint[d:, :d]).T
    posterior = model.posterior(x)
    close(posterior.mean, (x - b) @ gain.T, 1e-10)
    close(posterior.covariance_matrix, (joint[:d, :d] - gain @ joint[d:, :d]).expand(4, d, d), 1e-10)
    close(model.prior.mean, torch.zeros(d))
    close(model.prior.covariance_matrix, torch.eye(d))


@pytest.mark.parametrize("seed", range(3))
def test_evidence_and_posterior_against_quadrature(seed):
    model, x = a_model(2, 1, seed), draws((5, 2), seed)
    z = torch.linspace(-12, 12, 20_001)[:, None]
    joint = (model.prior.log_prob(z) + model.decode(z).log_prob(x[:, None])).exp()
    evidence = torch.trapezoid(joint, z[:, 0])
    close(model.log_prob(x), evidence.log(), 1e-9)
    mean = torch.trapezoid(joint * z[:, 0], z[:, 0]) / evidence
    square = torch.trapezoid(joint * z[:, 0] ** 2, z[:, 0]) / evidence
    close(model.posterior(x).mean[:, 0], mean, 1e-9)
    close(model.posterior(x).variance[:, 0], square - mean**2, 1e-9)


@STEADY
@given(SEEDS, SIZES)
def test_evidence_is_the_elbo_and_the_divergence_from_the_posterior(seed, sizes):
    D, d = sizes
    model, x = a_model(D, d, seed), draws((4, D), seed, 2)
    for q in (a_normal((4, d), seed), a_normal((d,), seed)):
        gap = td.kl_divergence(q, model.posterior(x))
        elbo = model.elbo(x, q)
        assert elbo.shape == (4,)
        assert (gap > 0).all()
        torch.testing.assert_close(elbo + gap, model.log_prob(x), rtol=1e-10, atol=1e-10)
    close(model.elbo(x, model.posterior(x)), model.log_prob(x), 1e-10)


def test_exact_elbo_is_the_mean_of_what_draws_say():
    model, x, q = a_model(), draws((1, 3)), a_normal((2,))
    z = q.expand((40_000,)).sample()
    seen = model.decode(z).log_prob(x) + model.prior.log_prob(z) - q.log_prob(z)
    assert_mean(seen, model.elbo(x, q))


@FEW
@given(SEEDS, st.integers(2, 6), st.data())
def test_fit_agrees_with_scikit_learn(seed, D, data):
    latent, n = data.draw(st.integers(1, D - 1)), 40
    x = draws((n, D), seed) @ draws((D, D), seed + 1) + draws(D, seed + 2, 5)
    model, pca = LinearGaussian.fit(x, latent), PCA(latent, svd_solver="full").fit(x.numpy())
    # scikit-learn divides the covariance by n − 1, largest likelihood by n
    close(model.marginal().covariance_matrix, torch.tensor(pca.get_covariance()) * (n - 1) / n, 1e-8)
    close(model.bias, x.mean(0))
    close(model.sigma**2, pca.noise_variance_ * (n - 1) / n, 1e-9)
    pca.explained_variance_ *= (n - 1) / n
    pca.noise_variance_ *= (n - 1) / n
    close(model.log_prob(x), torch.tensor(pca.score_samples(x.numpy())), 1e-6)
    assert model.weight.shape == (D, latent)
    gram = model.weight.T @ model.weight
    close(
        gram, gram.diagonal().diag(), 1e-8
    )  # its columns are orthogonal, so the posterior's entries independent


@FEW
@given(SEEDS, st.sampled_from([(2, 1), (4, 1), (4, 2), (4, 3)]))
def test_fit_is_a_stationary_maximum(seed, sizes):
    D, latent = sizes
    x = draws((50, D), seed) @ draws((D, D), seed + 1) + draws(D, seed + 2)
    best = LinearGaussian.fit(x, latent)
    parts = [part.clone().requires_grad_() for part in (best.weight, best.bias, best.sigma)]
    top = LinearGaussian(*parts).log_prob(x).mean()
    for gradient, part in zip(torch.autograd.grad(top, parts), parts, strict=True):
        close(gradient * best.sigma, torch.zeros_like(part), 1e-7)
    for i, spread in enumerate((0.01, 0.03, 0.1, 0.3, 1.0)):
        weight, bias = (part + draws(part.shape, seed + i, spread) for part in (best.weight, best.bias))
        for other in (
            LinearGaussian(weight, best.bias, best.sigma),
            LinearGaussian(best.weight, bias, best.sigma),
            LinearGaussian(best.weight, best.bias, best.sigma * math.exp(spread)),
            LinearGaussian(best.weight, best.bias, best.sigma * math.exp(-spread)),
        ):
            assert other.log_prob(x).mean() < top


def test_fit_of_data_without_a_preferred_direction():
    for size in range(1, 60):  # the variances are equal, and their mean may be larger by a rounding
        corners = torch.cat([torch.eye(4), -torch.eye(4)]) * size / 7
        model = LinearGaussian.fit(corners, 1)
        close(model.weight, torch.zeros(4, 1), 1e-6)
        close(model.sigma, size / 14)


@FEW
@given(SEEDS, SIZES)
def test_gradients_reach_weight_bias_and_sigma(seed, sizes):
    D, d = sizes
    model, x, q, z = a_model(D, d, seed), draws((2, D), seed), a_normal((2, d), seed), draws((2, d), seed)
    parts = [part.clone().requires_grad_() for part in (model.weight, model.bias, model.sigma)]
    for f in (
        lambda *parts: LinearGaussian(*parts).log_prob(x),
        lambda *parts: LinearGaussian(*parts).elbo(x, q),
        lambda *parts: LinearGaussian(*parts).decode(z).log_prob(x),
        lambda *parts: LinearGaussian(*parts).posterior(x).log_prob(z),
    ):
        assert torch.autograd.gradcheck(f, parts, fast_mode=True)
    gradients = torch.autograd.grad(LinearGaussian(*parts).log_prob(x).sum(), parts)
    assert all(gradient.any() for gradient in gradients)


def test_linear_model_takes_any_leading_shape_and_whole_numbers():
    model, x, z = a_model(), draws((2, 4, 3)), draws((2, 4, 2))
    for method in (model.log_prob, lambda x: model.posterior(x).mean, lambda x: model.elbo(x, model.prior)):
        close(method(x).flatten(0, 1), method(x.flatten(0, 1)))
        close(method(x[0, 0]), method(x)[0, 0])
        close(method(torch.tensor([[1, 2, 3]])), method(torch.tensor([[1.0, 2, 3]])))
    assert model.posterior(x).batch_shape == (2, 4)
    assert model.decode(z).batch_shape == (2, 4)
    assert model.decode(z).event_shape == model.event_shape == (3,)
    listed = LinearGaussian([[1, 0], [0, 2], [1, 1]], [0, 0, 1], 1)
    assert listed.weight.dtype == listed.bias.dtype == listed.sigma.dtype == REAL


def test_draws_of_the_linear_model_have_its_moments():
    model, n = a_model(), 100_000
    torch.manual_seed(0)
    x = model.sample((n,))
    assert x.shape == (n, 3)
    assert not LinearGaussian(model.weight.requires_grad_(), model.bias, 1.0).sample((2,)).requires_grad
    covariance = model.marginal().covariance_matrix.detach()
    close(x.mean(0), model.bias, 5 * (covariance.max().item() / n) ** 0.5)
    close(x.T.cov(), covariance, 8 * covariance.max().item() / n**0.5)


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
def test_linear_model_keeps_its_dtype(dtype):
    model, x = LinearGaussian.fit(draws((20, 3)).to(dtype), 2), draws((4, 3))
    q = model.posterior(x)  # data in another dtype are converted
    results = (model.log_prob(x), q.mean, q.covariance_matrix, model.elbo(x, q), model.sample((3,)))
    for part in (
        *results,
        model.weight,
        model.bias,
        model.sigma,
        model.prior.mean,
        model.decode(q.mean).mean,
    ):
        assert part.dtype == dtype
    close(model.log_prob(x).to(REAL), LinearGaussian.fit(draws((20, 3)), 2).log_prob(x), 1e-4)


def test_linear_model_refuses():
    weight, bias, model = draws((3, 2)), draws(3), a_model()
    for sigma in (0, -1.0, math.nan, math.inf, "1", True, torch.tensor(-1.0), torch.ones(3)):
        with pytest.raises(ValueError, match="^sigma must be a (finite )?number above 0"):
            LinearGaussian(weight, bias, sigma)
    for bad in (draws(3), draws((3, 2, 1)), draws((3, 0)), draws((0, 2))):
        with pytest.raises(ValueError, match=r"^weight must have shape \(D, d\), got \("):
            LinearGaussian(bad, bias, 1.0)
    for bad in (draws(2), draws((3, 1)), draws((1, 3)), torch.tensor(0.0)):
        with pytest.raises(ValueError, match=r"^bias must have shape \(3,\), got \("):
            LinearGaussian(weight, bad, 1.0)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="^weight must hold finite numbers"):
            LinearGaussian(weight * bad, bias, 1.0)
        with pytest.raises(ValueError, match="^bias must hold finite numbers"):
            LinearGaussian(weight, bias * bad, 1.0)
    for method in (model.log_prob, model.posterior, lambda x: model.elbo(x, model.prior)):
        with pytest.raises(ValueError, match="^x must not hold NaN, got 1 of them"):
            method(torch.tensor([[0.0, 1, math.nan]]))
        for shape in ((2, 2), (2, 1), (3, 1), (4,), ()):
            with pytest.raises(ValueError, match=r"^x must have shape \(..., 3\), got \("):
                method(torch.zeros(shape))
        with pytest.raises(ValueError, match="^x must be a torch tensor, got list"):
            method([[0.0, 1, 2]])
    for shape in ((), (2, 3), 5, (0,), (2.0,)):
        with pytest.raises(ValueError, match="shape"):
            model.sample(shape)


def test_fit_refuses():
    x = draws((20, 3))
    for latent in (0, -1, 1.0, True, "1"):
        with pytest.raises(ValueError, match="^latent must be a whole number of at least 1"):
            LinearGaussian.fit(x, latent)
    for latent in (3, 4):
        with pytest.raises(ValueError, match=f"^latent must be less than the 3 features, got {latent}"):
            LinearGaussian.fit(x, latent)
    for bad in (torch.zeros(4, 3), x[:1], torch.eye(3)[:1] * torch.arange(5.0)[:, None]):
        with pytest.raises(ValueError, match="^x must vary in more directions than `latent`"):
            LinearGaussian.fit(bad, 1)
    for bad in (draws(3), draws((0, 3)), draws((2, 3, 1)), x.tolist()):
        with pytest.raises(ValueError, match=r"^x must be a tensor of shape \(n, D\)"):
            LinearGaussian.fit(bad, 1)
    with pytest.raises(ValueError, match="^x must hold finite numbers"):
        LinearGaussian.fit(x * math.nan, 1)


def test_fit_refuses_points_on_a_line():
    for seed in range(20):
        line = draws((20, 1), seed) * draws((1, 3), seed + 1) + draws(3, seed + 2)
        with pytest.raises(ValueError, match="^x must vary in more directions"):
            LinearGaussian.fit(line, 1)


@pytest.mark.parametrize("name", ["q", "z"])
def test_linear_model_names_what_has_not_d_entries(name):
    model = a_model()
    with pytest.raises(ValueError, match=f"^{name} must"):
        model.elbo(draws((4, 3)), a_normal((3,))) if name == "q" else model.decode(draws((4, 3)))


# networks that return a distribution


class Constant(nn.Module):
    """A net that pays no attention: the same answer (*E) for each example."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(value.clone())

    def forward(self, x):
        return self.value.expand(len(x), *self.value.shape)


def linear(inputs, shape):
    """A net (B, inputs) → (B, *shape)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, math.prod(shape)), nn.Unflatten(1, shape))


@FEW
@given(SEEDS, st.integers(1, 4), st.sampled_from([(5,), (1, 8, 8)]))
def test_normal_net_reads_mean_and_log_deviation_side_by_side(seed, d, event):
    torch.manual_seed(seed)
    net, x, z = linear(math.prod(event), (2 * d,)), draws((3, *event), seed), draws((3, d), seed + 1)
    q, raw = NormalNet(net)(x), net(x)
    assert (q.batch_shape, q.event_shape) == ((3,), (d,))
    close(q.mean, raw[:, :d])
    close(q.stddev.log(), raw[:, d:])
    expected = -F.gaussian_nll_loss(raw[:, :d], z, (2 * raw[:, d:]).exp(), full=True, eps=0, reduction="none")
    close(q.log_prob(z), expected.sum(1), 1e-10)
    assert q.rsample().requires_grad


@FEW
@given(SEEDS, st.floats(0.05, 5))
def test_normal_mean_net_against_torch(seed, sigma):
    torch.manual_seed(seed)
    net, z, x = nn.Linear(2, 4), draws((3, 2), seed), draws((3, 4), seed + 1)
    p = NormalMeanNet(net, sigma)(z)
    assert (p.batch_shape, p.event_shape) == ((3,), (4,))
    expected = -F.gaussian_nll_loss(
        net(z), x, torch.full((3, 4), sigma**2), full=True, eps=0, reduction="none"
    )
    torch.testing.assert_close(p.log_prob(x), expected.sum(1), rtol=1e-12, atol=1e-10)
    close(p.stddev, torch.full((3, 4), sigma))


def test_deviation_of_a_normal_mean_net_is_trained_on_request():
    x, z = draws((4, 3)), draws((4, 2))
    for learn in (False, True):
        decoder = NormalMeanNet(nn.Linear(2, 3), 0.5, learn=learn)
        decoder(z).log_prob(x).sum().backward()
        assert decoder.log_sigma.requires_grad is learn
        assert (decoder.log_sigma.grad is not None) is learn
        close(decoder.log_sigma, math.log(0.5))
        assert "log_sigma" in decoder.state_dict()
    residual = (x - decoder.net(z)) / 0.5
    close(decoder.log_sigma.grad, (residual**2 - 1).sum(), 1e-10)
    default = NormalMeanNet(nn.Linear(2, 3))
    assert default.log_sigma == 0
    assert not default.log_sigma.requires_grad
    for sigma in (0, -1.0, math.nan, math.inf, "1", True):
        with pytest.raises(ValueError, match="^sigma must be a (finite )?number above 0"):
            NormalMeanNet(nn.Linear(2, 3), sigma)


@pytest.mark.parametrize("event", [(5,), (1, 8, 8), (2, 3)])
def test_bernoulli_net_against_binary_cross_entropy(event):
    net, z, x = linear(2, event), draws((3, 2)), (draws((3, *event), 1) > 0).to(REAL)
    p = BernoulliNet(net)(z)
    assert (p.batch_shape, p.event_shape) == ((3,), event)
    expected = F.binary_cross_entropy(net(z).sigmoid(), x, reduction="none").flatten(1).sum(1)
    close(-p.log_prob(x), expected, 1e-10)
    close(p.mean, net(z).sigmoid())
    certain = BernoulliNet(Constant(torch.full(event, 60.0)))(z)
    close(certain.log_prob(torch.zeros(3, *event)), torch.full((3,), -60.0 * math.prod(event)))
    assert p.sample().shape == (3, *event)


@pytest.mark.parametrize("event", [(5,), (1, 8, 8), (2, 3)])
def test_categorical_net_against_cross_entropy(event):
    net, z = linear(2, (*event, 17)), draws((3, 2))
    x = torch.randint(17, (3, *event), generator=seeded())
    p = CategoricalNet(net)(z)
    assert (p.batch_shape, p.event_shape) == ((3,), event)
    expected = F.cross_entropy(net(z).movedim(-1, 1), x, reduction="none").flatten(1).sum(1)
    close(-p.log_prob(x), expected, 1e-10)
    close(-p.log_prob(x.to(REAL)), expected, 1e-10)
    assert p.sample().shape == (3, *event)
    assert p.sample().max() <= 16


# priors


@FEW
@given(SEEDS, st.integers(1, 5))
def test_standard_prior_and_its_divergence(seed, d):
    prior, z = StandardPrior(d), draws((4, d), seed)
    close(prior().log_prob(z), -0.5 * (z**2 + math.log(2 * math.pi)).sum(1))
    assert (prior().batch_shape, prior().event_shape) == ((), (d,))
    mu, sigma = draws((4, d), seed + 1), draws((4, d), seed + 2).exp()
    divergence = td.kl_divergence(td.Independent(td.Normal(mu, sigma), 1), prior())
    close(divergence, 0.5 * (mu**2 + sigma**2 - 1 - 2 * sigma.log()).sum(1), 1e-10)
    assert not list(prior.parameters())
    assert not prior.state_dict()


def a_mixture(d, components, seed=0):
    prior = MixturePrior(d, components)
    with torch.no_grad():
        for i, parameter in enumerate(prior.parameters()):
            parameter.copy_(draws(parameter.shape, seed + i, 0.7))
    return prior


@FEW
@given(SEEDS, st.integers(1, 4), st.integers(1, 5))
def test_mixture_prior_by_hand(seed, d, components):
    prior, z = a_mixture(d, components, seed), draws((4, d), seed, 2)
    assert (prior().batch_shape, prior().event_shape) == ((), (d,))
    assert prior().log_prob(z).shape == (4,)
    for row, log_p in zip(z, prior().log_prob(z), strict=True):
        log_weights = prior.logits - prior.logits.exp().sum().log()
        squares = ((row - prior.mu) / prior.log_sigma.exp()) ** 2
        parts = -0.5 * (squares + math.log(2 * math.pi)) - prior.log_sigma
        close(log_p, (log_weights + parts.sum(1)).exp().sum().log(), 1e-9)


def test_mixture_prior_starts_from_equal_weights_and_drawn_means():
    torch.manual_seed(5)
    prior = MixturePrior(3, 7)
    torch.manual_seed(5)
    assert torch.equal(prior.mu, torch.randn(7, 3))
    assert torch.equal(prior.logits, torch.zeros(7))
    assert torch.equal(prior.log_sigma, torch.zeros(7, 3))
    assert all(parameter.requires_grad for parameter in prior.parameters())


def test_a_mixture_of_one_is_a_normal_distribution():
    prior, z = a_mixture(3, 1), draws((4, 3))
    expected = td.Independent(td.Normal(prior.mu[0], prior.log_sigma[0].exp()), 1)
    close(prior().log_prob(z), expected.log_prob(z))
    with torch.no_grad():
        prior.mu.zero_(), prior.log_sigma.zero_()
    close(prior().log_prob(z), StandardPrior(3)().log_prob(z))


def test_draws_of_a_mixture_prior_have_its_moments():
    prior, n = a_mixture(2, 3), 100_000
    torch.manual_seed(0)
    z = prior().sample((n,))
    prior.requires_grad_(False)
    weights = prior.logits.softmax(0)
    mean = weights @ prior.mu
    square = weights @ (prior.mu**2 + (2 * prior.log_sigma).exp())
    for j in range(2):
        assert_mean(z[:, j], mean[j])
        assert_mean(z[:, j] ** 2, square[j])


def test_priors_and_their_sizes_are_checked():
    for bad in (0, -1, 2.0, True, "2", None):
        with pytest.raises(ValueError, match="^latent must be a whole number of at least 1"):
            StandardPrior(bad)
        with pytest.raises(ValueError, match="^latent must be a whole number of at least 1"):
            MixturePrior(bad, 2)
        with pytest.raises(ValueError, match="^components must be a whole number of at least 1"):
            MixturePrior(2, bad)


# the bound


def a_vae(prior=None, *, images=False, d=2, seed=0):
    """Random networks: for vectors (B, 5), or for images (B, 1, 8, 8) in 17 grey levels."""
    torch.manual_seed(seed)
    if images:
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 2 * d))
        decoder = CategoricalNet(linear(d, (1, 8, 8, 17)))
    else:
        encoder, decoder = nn.Linear(5, 2 * d), NormalMeanNet(nn.Linear(d, 5), 0.7, learn=True)
    return VAE(NormalNet(encoder), decoder, prior or StandardPrior(d))


def pixels(n=3):
    return torch.randint(17, (n, 1, 8, 8), generator=seeded()).to(REAL)


EITHER = pytest.mark.parametrize("images", [False, True])


def a_batch(images):
    return pixels() if images else draws((3, 5))


class FromModel(nn.Module):
    """The linear-Gaussian model as a VAE's three parts, of which the encoder may be any."""

    def __init__(self, distribution):
        super().__init__()
        self.distribution = distribution

    def forward(self, given):
        return self.distribution(given)


def as_vae(model, encoder=None, *, by_draw=False):
    """The VAE whose evidence is the model's; `by_draw` hides from torch what prior it is."""
    d = len(model.prior.mean)
    prior = MixturePrior(d, 1) if by_draw else StandardPrior(d)
    if by_draw:
        with torch.no_grad():
            prior.mu.zero_()
    return VAE(FromModel(encoder or model.posterior), FromModel(model.decode), prior)


def a_fitted():
    """A model with independent entries in its posterior, and that posterior as an encoder."""
    model = LinearGaussian.fit(draws((40, 3)) @ draws((3, 3), 1), 2)

    def encoder(x):
        q = model.posterior(x)
        return td.Independent(td.Normal(q.mean, q.stddev), 1)

    return model, encoder


@EITHER
@pytest.mark.parametrize("mixture", [False, True])
def test_terms_by_hand_for_the_same_draw(images, mixture):
    model = a_vae(a_mixture(2, 3) if mixture else None, images=images)
    x = a_batch(images)
    torch.manual_seed(7)
    distortion, rate = model.terms(x)
    torch.manual_seed(7)
    mu, log_sigma = model.encode.net(x).chunk(2, 1)
    z = mu + log_sigma.exp() * torch.randn(3, 2)
    if mixture:
        log_q = td.Normal(mu, log_sigma.exp()).log_prob(z).sum(1)
        expected = log_q - model.prior().log_prob(z)
    else:
        expected = 0.5 * (mu**2 + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum(1)
    assert distortion.shape == rate.shape == (3,)
    close(rate, expected, 1e-10)
    close(distortion, -model.decode(z).log_prob(x), 1e-10)


@EITHER
def test_elbo_is_minus_distortion_minus_rate(images):
    model, x = a_vae(images=images), a_batch(images)
    torch.manual_seed(3)
    terms = model.terms(x)
    torch.manual_seed(3)
    elbo = model.elbo(x)
    assert elbo.shape == (3,)
    assert elbo.dtype == REAL
    close(elbo, -terms.distortion - terms.rate)


@pytest.mark.parametrize("by_draw", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_elbo_is_unbiased_and_in_the_mean_below_the_evidence(by_draw, seed):
    model, x, n = a_model(seed=seed), draws((1, 3), seed), 40_000
    root = draws((2, 2), seed, 0.3)
    q = td.MultivariateNormal(
        model.posterior(x).mean[0] + draws(2, seed, 0.2), 0.15 * torch.eye(2) + root @ root.T
    )
    if not by_draw:
        q = td.Independent(td.Normal(q.mean, q.stddev), 1)
    torch.manual_seed(seed)
    elbo = as_vae(model, lambda x: q.expand((len(x),)), by_draw=by_draw).elbo(x.expand(n, 3))
    exact = model.elbo(
        x, td.MultivariateNormal(q.mean, q.variance.diag() if not by_draw else q.covariance_matrix)
    )
    assert_mean(elbo, exact)
    assert exact < model.log_prob(x) - 0.01


def test_elbo_has_no_variance_where_the_encoder_is_the_posterior():
    model, x = a_model(), draws((50, 3))
    one = as_vae(model, by_draw=True)
    for _ in range(2):
        close(one.elbo(x), model.log_prob(x), 1e-10)
        for k in (1, 2, 9):
            close(one.bound(x, k), model.log_prob(x), 1e-10)


def test_elbo_with_the_exact_rate_has_the_evidence_as_its_mean_at_the_posterior():
    model, encoder = a_fitted()
    x, n = draws((1, 3)), 40_000
    torch.manual_seed(0)
    distortion, rate = as_vae(model, encoder).terms(x.expand(n, 3))
    assert rate.std() < 1e-12
    assert_mean(-distortion - rate, model.log_prob(x))
    for k in (1, 4):  # the importance weights use the draw's own rate, so that nothing varies
        close(as_vae(model, encoder).bound(x, k), model.log_prob(x), 1e-10)


def test_rate_by_draws_has_the_divergence_as_its_mean():
    prior, n = a_mixture(1, 3), 40_000
    encoder = NormalNet(Constant(torch.tensor([0.8, -0.4])))
    model = VAE(encoder, NormalMeanNet(nn.Linear(1, 3)), prior)
    torch.manual_seed(0)
    rate = model.terms(torch.zeros(n, 3)).rate.detach()
    z, q = torch.linspace(-12, 12, 20_001), td.Normal(0.8, math.exp(-0.4))
    integrand = q.log_prob(z).exp() * (q.log_prob(z) - prior().log_prob(z[:, None]))
    assert_mean(rate, torch.trapezoid(integrand, z))


class Listed:
    """A normal distribution (B, d) that draws from a list (K, B, d), one after the other."""

    def __init__(self, normal, z):
        self.rest, self.log_prob = z, normal.log_prob
        self.batch_shape, self.event_shape = normal.batch_shape, normal.event_shape

    def rsample(self, shape=()):
        n = shape[0] if shape else 1
        some, self.rest = self.rest[:n], self.rest[n:]
        assert len(some) == n
        return some if shape else some[0]


@EITHER
@pytest.mark.parametrize("rows", [1, 3, 4, 6, 7, 10_000])
def test_bound_by_hand_however_many_are_decoded_at_once(images, rows, monkeypatch):
    monkeypatch.setattr(vae, "_ROWS", rows)
    for mixture in (False, True):
        model, x = a_vae(a_mixture(2, 3) if mixture else None, images=images), a_batch(images)
        q, z = model.encode(x), draws((5, 3, 2))
        decoded = []
        listed = VAE(FromModel(lambda x, q=q, z=z: Listed(q, z)), FromModel(model.decode), model.prior)
        listed.decode.register_forward_hook(lambda *_, z=decoded: z.append(len(_[1][0])))
        actual = listed.bound(x, 5)
        log_weights = [
            model.decode(some).log_prob(x) + model.prior().log_prob(some) - q.log_prob(some) for some in z
        ]
        expected = torch.stack(log_weights).exp().mean(0).log() if not images else None
        if images:
            top = torch.stack(log_weights).amax(0)
            expected = top + (torch.stack(log_weights) - top).exp().mean(0).log()
        assert actual.shape == (3,)
        close(actual, expected, 1e-9)
        assert sum(decoded) == 15
        assert max(decoded) <= max(rows, 3)
        assert len(decoded) == math.ceil(5 / max(1, rows // 3))


def test_bound_rises_with_the_draws_to_the_evidence():
    model, n = a_model(), 4000
    x = draws((1, 3))
    q = td.MultivariateNormal(model.posterior(x).mean[0] + 0.3, 0.6 * torch.eye(2))
    one, means = as_vae(model, lambda x: q.expand((len(x),))), []
    torch.manual_seed(0)
    for k in (1, 2, 4, 16, 64):
        values = one.bound(x.expand(n, 3), k)
        means.append(values.mean().item())
        if k == 1:
            assert_mean(values, model.elbo(x, q))
    log_p = model.log_prob(x).item()
    assert means == sorted(means)
    assert means[1] > means[0] + 0.1
    assert means[-1] < log_p
    assert means[-1] == pytest.approx(log_p, abs=0.05)
    close(one.bound(x, 100_000), model.log_prob(x), 0.02)


def test_bound_uses_many_draws_unless_told():
    model, seen = a_vae(), []
    model.decode.register_forward_hook(lambda *_: seen.append(len(_[1][0])))
    model.bound(draws((3, 5)))
    assert sum(seen) == 1500


def test_examples_keep_their_place_in_the_bound():
    model, x = a_model(), draws((40, 3), 0, 3)
    one = as_vae(model, lambda x: td.MultivariateNormal(model.posterior(x).mean, 0.5 * torch.eye(2)))
    torch.manual_seed(0)
    close(one.bound(x, 5000), model.log_prob(x), 0.3)


# training


def differentiable(model, f):
    """Gradients of f in all trained parameters agree with finite differences, for draws that stay the same."""
    names, values = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)

    class Method(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            torch.manual_seed(0)
            return f(self.model)

    def call(*values):
        renamed = {f"model.{name}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(Method(), renamed, ())

    gradients = torch.autograd.grad(call(*values).sum(), values)
    assert all(gradient.any() for gradient in gradients), names
    inputs = [value.detach().clone().requires_grad_() for value in values]
    return torch.autograd.gradcheck(call, inputs, fast_mode=True)


@pytest.mark.parametrize("mixture", [False, True])
def test_gradients_reach_every_parameter(mixture):
    model, x = a_vae(a_mixture(2, 3) if mixture else None), draws((3, 5))
    assert differentiable(model, lambda model: model.elbo(x))
    assert differentiable(model, lambda model: model.bound(x, 4))
    assert differentiable(model, lambda model: model.loss(x, 0.5))
    if not mixture:
        assert differentiable(model, lambda model: model.loss(x, 2, 0.01))


def test_parts_are_registered():
    model = a_vae(a_mixture(2, 3))
    names = {name.partition(".")[0] for name, _ in model.named_parameters()}
    assert names == {"encode", "decode", "prior"}
    other = a_vae(a_mixture(2, 3, 5), seed=9)
    other.load_state_dict(model.state_dict())
    x = draws((3, 5))
    values = []
    for one in (model, other):
        torch.manual_seed(0)
        values.append(one.bound(x, 3))
    assert torch.equal(*values)


@EITHER
@FEW
@given(SEEDS, st.floats(0, 5), st.floats(0.01, 3))
def test_loss_by_hand(images, seed, beta, free):
    model, x = a_vae(images=images, seed=seed), a_batch(images)

    def again(f):
        torch.manual_seed(seed)
        return f(model)

    distortion, rate = again(lambda model: model.terms(x))
    close(again(lambda model: model.loss(x)), -again(lambda model: model.elbo(x)))
    close(again(lambda model: model.loss(x, beta)), distortion + beta * rate, 1e-10)
    close(again(lambda model: model.loss(x, beta=0)), distortion)
    mu, log_sigma = model.encode.net(x).detach().chunk(2, 1)
    each = 0.5 * (mu**2 + (2 * log_sigma).exp() - 1 - 2 * log_sigma)  # (B, d)
    paid = sum(max(free, each[:, j].mean().item()) for j in range(2))
    loss = again(lambda model: model.loss(x, beta, free))
    assert loss.shape == (3,)
    close(loss, distortion + beta * paid, 1e-9)
    tiny = again(lambda model: model.loss(x, beta, 1e-9))
    close(tiny.mean(), (distortion + beta * rate).mean(), 1e-8)
    close(again(lambda model: model.loss(x, torch.tensor(beta), torch.tensor(free))), loss)


def test_free_nats_cost_nothing_and_pull_at_nothing():
    encoder, x = NormalNet(nn.Linear(5, 4)), draws((30, 5))
    with torch.no_grad():  # the first entry of z differs from the prior by more than a nat, the second hardly
        encoder.net.weight.mul_(0.1)
        encoder.net.bias.copy_(torch.tensor([2.0, 0.1, 0.0, 0.0]))
    model = VAE(encoder, NormalMeanNet(Constant(torch.zeros(5))), StandardPrior(2))  # it looks at no z

    def pull(free):
        model.zero_grad()
        model.loss(x, 1.0, free).mean().backward()
        return encoder.net.bias.grad.clone()

    assert pull(0.0).all()
    assert pull(1e-6).all()
    assert (pull(0.5) != 0).tolist() == [True, False, True, False]
    assert not pull(10.0).any()
    close(pull(1e-6), pull(0.0))
    close(pull(0.5)[0], encoder(x).mean[:, 0].mean())
    distortion = model.terms(x).distortion
    close(model.loss(x, 3.0, 10.0), distortion + 3 * 2 * 10)


def test_training_reaches_the_evidence_of_the_linear_model():
    x = draws((60, 3)) @ draws((3, 3), 1)
    best, encoder = LinearGaussian.fit(x, 2), nn.Linear(3, 4)
    torch.manual_seed(0)
    model = VAE(NormalNet(encoder), NormalMeanNet(nn.Linear(2, 3), best.sigma), StandardPrior(2))
    with torch.no_grad():
        gain = best.posterior(torch.eye(3)).mean - best.posterior(torch.zeros(3)).mean
        model.decode.net.weight.copy_(best.weight), model.decode.net.bias.copy_(best.bias)
        encoder.weight.copy_(torch.cat([gain.T, torch.zeros(2, 3)]))
        q = best.posterior(torch.zeros(3))
        encoder.bias.copy_(torch.cat([q.mean, q.stddev.log()]))
    close(model.bound(x, 3), best.log_prob(x), 1e-9)
    model.zero_grad()
    model.loss(x.repeat(2000, 1)).mean().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.abs().max() < 0.1, name


# draws, dtypes, state


def test_draws_of_a_vae_have_the_moments_of_its_model():
    model, n = a_model(), 100_000
    torch.manual_seed(0)
    x = as_vae(model).sample((n,))
    assert x.shape == (n, 3)
    covariance = model.marginal().covariance_matrix
    close(x.mean(0), model.bias, 5 * (covariance.max().item() / n) ** 0.5)
    close(x.T.cov(), covariance, 8 * covariance.max().item() / n**0.5)


@pytest.mark.parametrize("mixture", [False, True])
def test_draws_of_images(mixture):
    model = a_vae(a_mixture(2, 3) if mixture else None, images=True)
    x = model.sample((7,))
    assert x.shape == (7, 1, 8, 8)
    assert not x.requires_grad
    assert 0 <= x.min() <= x.max() <= 16
    assert model.elbo(x.to(REAL)).shape == (7,)
    for shape in ((), (2, 3), 5, (0,), (2.0,)):
        with pytest.raises(ValueError, match="shape"):
            model.sample(shape)
    vectors = a_vae().sample((4,))
    assert (vectors.requires_grad, vectors.shape) == (False, (4, 5))


@EITHER
@pytest.mark.parametrize("mixture", [False, True])
def test_float32_stays_float32(images, mixture):
    model = a_vae(a_mixture(2, 3) if mixture else None, images=images).float()
    x = a_batch(images).float()
    values = [*model.terms(x), model.elbo(x), model.bound(x, 3), model.loss(x, 0.5)]
    values += [] if mixture else [model.loss(x, 2, 0.1)]
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in values)
    if not images:
        assert model.sample((2,)).dtype == torch.float32


def test_nothing_global_changes():
    model, exact, x = a_vae(images=True), a_model(), draws((4, 3))
    before = (torch.get_default_dtype(), torch.is_grad_enabled(), model.training)
    state = torch.get_rng_state()
    exact.log_prob(x), exact.elbo(x, exact.posterior(x)), exact.marginal(), LinearGaussian.fit(x, 1)
    active_units(model, pixels()), StandardPrior(3)().log_prob(x), model.encode(pixels())
    assert torch.equal(state, torch.get_rng_state())
    model.sample((2,)), model.bound(pixels(), 2), model.loss(pixels(), 1, 0.1), exact.sample((2,))
    assert before == (torch.get_default_dtype(), torch.is_grad_enabled(), model.training)
    images = pixels()
    model.elbo(images), model.bound(images, 2)
    assert torch.equal(images, pixels())


# entries in use


def test_active_units_counts_the_means_that_vary():
    scale = torch.tensor([1.0, 0.11, 0.09, 0.0, -2.0])
    x = torch.tensor([[-1.0], [1.0]]).repeat(500, 1)  # variance 1.001
    encoder = FromModel(lambda x: td.Independent(td.Normal(x * scale + 7, 1.0), 1))
    model = VAE(encoder, NormalMeanNet(nn.Linear(5, 1)), StandardPrior(5))
    assert active_units(model, x) == 3
    assert active_units(model, x, 0.005) == 4
    assert active_units(model, x, 1.5) == 1
    assert active_units(model, x, 100.0) == 0
    assert type(active_units(model, x)) is int
    exact = torch.tensor([[0.0], [2.0]])  # variance 2
    assert active_units(model, exact, 2.0) == 1
    for threshold in (0, -1, math.nan, math.inf, True, "1"):
        with pytest.raises(ValueError, match="^threshold must"):
            active_units(model, x, threshold)


def test_a_dead_entry_is_not_active():
    model, x = a_vae(d=3), draws((200, 5))
    with torch.no_grad():
        model.encode.net.weight[1] = 0
    assert active_units(model, x) == 2
    with torch.no_grad():
        model.encode.net.weight[:3] = 0
        model.encode.net.weight[3:] = 5  # deviations that vary are no means that vary
    assert active_units(model, x) == 0


# what is refused


def test_a_vae_refuses_values_that_its_decoder_cannot_draw():
    grey, real = a_vae(images=True), a_vae()
    bits = VAE(grey.encode, BernoulliNet(linear(2, (1, 8, 8))), grey.prior)
    corner = torch.zeros(2, 1, 8, 8)
    cases = [(grey, corner + 17), (grey, corner - 1), (grey, corner + 0.5), (grey, corner * math.nan)]
    cases += [(bits, corner + 2), (bits, corner + 0.5), (bits, corner - 1), (bits, corner * math.nan)]
    cases += [(real, torch.full((2, 5), number)) for number in (math.nan, math.inf, -math.inf)]
    for model, x in cases:
        for part in (x, torch.cat([x[:1], torch.zeros_like(x[:1])])):
            for method in (
                model.terms,
                model.elbo,
                model.bound,
                model.loss,
                lambda x, m=model: m.loss(x, 1, 0.1),
            ):
                with pytest.raises(
                    ValueError, match="^x must (hold values that the decoder can draw|not hold NaN)"
                ):
                    method(part)
    for x in (corner, corner + 16):
        assert grey.elbo(x).isfinite().all()
    for x in (corner, corner + 1):
        assert bits.elbo(x).isfinite().all()


def test_a_vae_refuses_numbers_that_make_no_sense():
    model, x = a_vae(), draws((3, 5))
    for bad in (-1, -1e-9, math.nan, math.inf, "1", True, None):
        with pytest.raises(ValueError, match="^beta must be a (finite )?number of at least 0"):
            model.loss(x, beta=bad)
        with pytest.raises(ValueError, match="^free must be a (finite )?number of at least 0"):
            model.loss(x, free=bad)
    for bad in (0, -1, 2.0, True, "5", None):
        with pytest.raises(ValueError, match="^draws must be a whole number of at least 1"):
            model.bound(x, bad)


@pytest.mark.parametrize("method", ["terms", "elbo", "bound", "loss"])
def test_a_vae_refuses_x_of_another_shape_than_its_decoder_draws(method):
    narrow = a_vae()
    narrow.encode = NormalNet(nn.Linear(1, 4))  # which takes such x, and torch would broadcast them
    for model, x in (
        (a_vae(images=True), pixels()[:, 0]),  # (3, 8, 8) against (3, 1, 8, 8)
        (a_vae(images=True), pixels().flatten(1)),
        (narrow, draws((3, 1))),
        (a_vae(), draws(())),
    ):
        with pytest.raises(ValueError, match="^x must (have shape|be a tensor)"):
            model.bound(x, 3) if method == "bound" else getattr(model, method)(x)


@EITHER
def test_a_vae_refuses_what_is_no_batch(images):
    model, x = a_vae(images=images), a_batch(images)
    for method in (model.elbo, model.loss, lambda x: model.bound(x, 3), lambda x: model.loss(x, 1, 0.1)):
        for bad in (x[0], x[:0]):
            with pytest.raises(ValueError, match="^x must (have shape|be a tensor)"):
                method(bad)


def test_a_vae_refuses_an_encoder_and_a_prior_of_two_sizes():
    model, x = a_vae(), draws((3, 5))
    for d in (1, 3):
        model.encode = NormalNet(nn.Linear(5, 2 * d))
        for method in (model.elbo, lambda x: model.bound(x, 3), lambda x: model.loss(x, 1, 0.1)):
            with pytest.raises(
                ValueError, match=rf"^encoder and prior must draw z of one shape, got \({d},\)"
            ):
                method(x)


def test_normal_net_refuses_an_odd_number_of_values():
    with pytest.raises(ValueError, match="^net must return .* an even number of values, got 3"):
        NormalNet(nn.Linear(5, 3))(draws((2, 5)))


def test_free_nats_need_independent_entries():
    x = draws((3, 5))
    exact = as_vae(a_model())  # its encoder is correlated
    for model, data in ((a_vae(a_mixture(2, 3)), x), (exact, x[:, :3])):
        with pytest.raises(ValueError, match="^free must be 0 unless"):
            model.loss(data, 1.0, 0.1)


def test_active_units_needs_two_examples():
    for n in (0, 1):
        with pytest.raises(ValueError, match=f"^x must hold at least two examples, got {n}"):
            active_units(a_vae(), draws((n, 5)))


# numbers that are too large


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_deviation_that_is_no_number_says_what_to_do(dtype):
    reach = {torch.float32: 44.3, torch.float64: 354.8}[dtype]
    for log_sigma in (reach, -reach):
        both = torch.tensor([[0.0, log_sigma]], dtype=dtype)
        q = vae.NormalNet(nn.Identity())(both)
        assert torch.isfinite(q.log_prob(q.mean))
        for wrong in (1.02 * log_sigma, 1e3 * log_sigma):
            message = f"^log σ must lie between .*, got {re.escape(format(wrong, '.4g'))}: scale the data"
            with pytest.raises(RuntimeError, match=message):
                vae.NormalNet(nn.Identity())(torch.tensor([[0.0, wrong]], dtype=dtype))
    noise = vae.NormalMeanNet(nn.Identity(), learn=True)
    noise.log_sigma.data.fill_(500.0)
    with pytest.raises(RuntimeError, match="^log σ must lie between .*, got 500: scale the data"):
        noise(torch.zeros(1, 2))


def test_training_on_data_far_from_size_1_stops_with_advice():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 4))
    model = vae.VAE(vae.NormalNet(net), vae.NormalMeanNet(nn.Linear(2, 2)), vae.StandardPrior(2))
    x = 1e4 * torch.randn(100, 2)
    with pytest.raises(RuntimeError, match="scale the data to numbers of size 1"):
        fit(model.loss, model, [x], 5, progress=False)
