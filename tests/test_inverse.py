"""Inverse problems: exact laws against quadrature and textbooks, draws against laws known in closed form."""

import itertools
import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from exactness import REAL, close, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import Independent, Normal

from genlib import inverse
from genlib.data import GaussianMixture
from genlib.inverse import (
    Linear,
    Measurement,
    MixturePosterior,
    ancestral,
    cleaned,
    guided,
    posterior_sampling,
    reconstruction,
    replacement,
    split_gibbs,
    twisted,
)
from genlib.metrics import sliced_wasserstein

SOME = settings(max_examples=12, deadline=None)
SEEDS = st.integers(0, 10**6)
NOISE = st.floats(0.4, 3.0)
LEVEL = st.floats(0.05, 4.0)
NO_NUMBERS_ABOVE_0 = [0, 0.0, -1.0, math.nan, math.inf, True, None, "1"]
NO_COUNTS = [0, -1, 2.0, True, None, "2"]
METHODS = {
    "guided": guided,
    "guided, with a spread": lambda *given, **kw: guided(*given, spread=0.7, **kw),
    "posterior sampling": posterior_sampling,
    "replacement": replacement,
    "twisted": twisted,
    "split Gibbs": lambda *given, **kw: split_gibbs(*given, couplings=[4.0, 0.7], **kw),
}
each = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def real(values):
    return torch.tensor(values, dtype=REAL)


def draws(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=REAL)


def falling(first, last, count):
    return torch.logspace(math.log10(first), math.log10(last), count, dtype=REAL)


def refused(message, job, *args, **kw):
    with pytest.raises(ValueError, match=re.escape(message)):
        job(*args, **kw)


def score_of(law):
    return lambda u, level: law.noised(level).score(u)


def mixture(dims, seed=0):
    """Three bumps of their own sizes and weights."""
    weights = real([0.5, 0.2, 0.3])
    return GaussianMixture(1.2 * draws(3, dims, seed=seed), real([0.5, 0.8, 0.6]), weights)


def bump(dims=2, spread=1.0, seed=0):
    return GaussianMixture(draws(1, dims, seed=seed), real(spread))


def cubic(noise=0.5):
    """A measurement that is not linear, (B, 2) → (B, 1)."""
    return Measurement(lambda x: x[:, :1] ** 3 + x[:, 1:], 2, 1, noise)


def lattice(dims, half=12.0, step=0.12):
    """Points (N, D), and the size of a cell; sums over them are exact for smooth densities of width 2 step or more."""
    axis = torch.arange(-half, half + step, step, dtype=REAL)
    return torch.cartesian_prod(*[axis] * dims).reshape(-1, dims), step**dims


def by_quadrature(prior, measurement, y):
    """The posterior on a lattice: points (N, D), log-densities (N,), and the size of a cell."""
    x, cell = lattice(*prior.event_shape)
    joint = prior.log_prob(x) + measurement.log_likelihood(y, x)
    return x, joint - joint.logsumexp(0) - math.log(cell), cell


def moments(x, weights=None):
    """Mean (D,) and covariance (D, D)."""
    weights = torch.full((len(x),), 1 / len(x), dtype=REAL) if weights is None else weights
    mean = weights @ x
    return mean, (x - mean).mT @ (weights[:, None] * (x - mean))


def agrees(x, mean, covariance, errors=5.0, slack=0.0):
    """A sample has this mean (D,) and covariance (D, D), within Monte Carlo error and `slack` beside it."""
    products = (x - mean)[:, :, None] * (x - mean)[:, None, :]
    for values, expected in ((x, mean), (products, covariance)):
        off, error = (values.mean(0) - expected).abs(), values.std(0) / math.sqrt(len(x))
        assert (off <= errors * error + slack).all(), (values.mean(0), expected, error)


def slope_by_autograd(function, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


def steps(levels):
    return itertools.pairwise(torch.as_tensor(levels).tolist())


def affine(score, level):
    """Slope and intercept in u of the clean mean, for a score in one dimension that is a straight line."""
    at_0, at_1 = (cleaned(score, real([[u]]), level).item() for u in (0.0, 1.0))
    return at_1 - at_0, at_0


def down(score, levels, mean, variance, mend=lambda mean, variance, end: (mean, variance)):
    """Mean and variance of the clean mean at the end of the ancestral chain, for such a score: no draws."""
    for level, end in steps(levels):
        q2, (by, shift) = (end / level) ** 2, affine(score, level)
        factor = q2 + (1 - q2) * by
        mean, variance = factor * mean + (1 - q2) * shift, factor**2 * variance + end**2 * (1 - q2)
        mean, variance = mend(mean, variance, end)
    by, shift = affine(score, float(levels[-1]))
    return by * mean + shift, by**2 * variance


# measurements


def test_a_measurement_is_its_function():
    x = draws(5, 2)
    close(cubic()(x), x[:, :1] ** 3 + x[:, 1:])


def test_a_linear_measurement_is_a_product():
    A, x = draws(2, 3), draws(5, 3, seed=1)
    m = Linear(A, 0.5)
    assert (m.size, m.dims, m.noise) == (2, 3, 0.5)
    close(m(x), torch.from_numpy(x.numpy() @ A.numpy().T))
    assert m(x.float()).dtype == torch.float32


def test_measuring_adds_noise_from_the_generator():
    m, x = Linear(draws(2, 3), 0.3), draws(4, 3, seed=1)
    close(m.measure(x, generator=seeded(5)), m(x) + 0.3 * draws(4, 2, seed=5))
    agrees(
        m.measure(x[:1].expand(20_000, 3), generator=seeded()), m(x[:1])[0], 0.09 * torch.eye(2, dtype=REAL)
    )
    double = Measurement(lambda x: x.double(), 3, 3, 0.3)  # the noise is in the dtype of y
    close(double.measure(x.float(), generator=seeded(5)), x.float().double() + 0.3 * draws(4, 3, seed=5))


@SOME
@given(SEEDS, NOISE)
def test_the_log_likelihood_is_that_of_independent_normals(seed, noise):
    x = draws(4, 2, seed=seed)
    for m in (Linear(draws(3, 2, seed=seed + 1), noise), cubic(noise)):
        y = draws(m.size, seed=seed + 2)
        law = Independent(Normal(m(x), real(noise)), 1)
        assert m.log_likelihood(y, x).shape == (4,)
        close(m.log_likelihood(y, x), law.log_prob(y), 1e-10)


@SOME
@given(SEEDS, NOISE, st.floats(0.0, 3.0))
def test_the_law_of_y_is_normal(seed, noise, spread):
    A, centre, y = draws(2, 3, seed=seed), draws(4, 3, seed=seed + 1), draws(2, seed=seed + 2)
    covariance = spread**2 * A.numpy() @ A.numpy().T + noise**2 * np.eye(2)
    expected = [stats.multivariate_normal((A @ c).numpy(), covariance).logpdf(y.numpy()) for c in centre]
    close(Linear(A, noise).law(centre, spread).log_prob(y), real(expected), 1e-9)


def test_the_law_of_y_takes_a_deviation_for_each_point():
    m, centre, spread = Linear(draws(2, 3), 0.4), draws(4, 3, seed=1), real([0.1, 1.0, 2.0, 3.0])
    together = m.law(centre, spread[:, None, None]).log_prob(real([0.3, -1.0]))
    alone = [
        m.law(c[None], s.item()).log_prob(real([0.3, -1.0])) for c, s in zip(centre, spread, strict=True)
    ]
    close(together, torch.cat(alone))


def test_without_spread_the_law_of_y_is_the_likelihood():
    m, x, y = Linear(draws(2, 3), 0.4), draws(4, 3, seed=1), draws(2, seed=2)
    close(m.law(x).log_prob(y), m.log_likelihood(y, x), 1e-11)


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 0), (1, 2, 3)])
def test_a_matrix_has_rows_and_columns(shape):
    refused(f"matrix must have shape (M, D) with M, D at least 1, got {shape}",
            Linear, torch.ones(shape, dtype=REAL), 1.0)  # fmt: skip


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_matrix_is_finite(bad):
    refused("matrix must hold finite numbers", Linear, real([[1.0, bad]]), 1.0)


@pytest.mark.parametrize("noise", NO_NUMBERS_ABOVE_0)
def test_noise_is_above_0(noise):
    refused("noise must be a", Linear, real([[1.0]]), noise)
    refused("noise must be a", Measurement, lambda x: x, 2, 2, noise)


@pytest.mark.parametrize("count", NO_COUNTS)
def test_sizes_are_counts(count):
    refused("dims must be a whole number of at least 1", Measurement, lambda x: x, count, 2, 1.0)
    refused("size must be a whole number of at least 1", Measurement, lambda x: x, 2, count, 1.0)


@pytest.mark.parametrize("m", [Linear(real([[1.0, 2.0]]), 1.0), cubic()], ids=["linear", "cubic"])
def test_points_of_another_shape_are_refused(m):
    for x in (draws(2), draws(4, 3), draws(4, 2, 2)):
        refused(f"x must have shape (B, 2), got {tuple(x.shape)}", m, x)
        refused("x must have shape (B, 2)", m.measure, x)
        refused("x must have shape (B, 2)", m.log_likelihood, real([0.0]), x)
    refused("x must have shape (B, 2), got list", m, [[1.0, 2.0]])
    refused("x must be of a floating dtype, got torch.int64", m, torch.ones(3, 2, dtype=torch.long))


def test_a_function_that_returns_another_shape_is_refused():
    for wrong, got in ((lambda x: x[:, 0], "(3,)"), (lambda x: x, "(3, 2)"), (lambda x: x[:1, :1], "(1, 1)")):
        refused(f"function must return (3, 1), got {got}", Measurement(wrong, 2, 1, 1.0), draws(3, 2))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (real([1.0, 2.0]), "y must have shape (1,), got (2,)"),
        (real([[1.0]]), "y must have shape (1,), got (1, 1)"),
        (real(1.0), "y must have shape (1,), got ()"),
        (real([math.nan]), "y must hold finite numbers"),
        (real([math.inf]), "y must hold finite numbers"),
        ("y", "y must hold numbers"),
    ],
)
def test_what_was_measured_is_checked(y, message):
    m, x, levels = Linear(real([[1.0, 2.0]]), 1.0), draws(3, 2), [2.0, 1.0]
    refused(message, m.log_likelihood, y, x)
    refused(message, m.given, y, x)
    refused(message, MixturePosterior, mixture(2), m, y)
    for spread in (0.0, 1.0):
        refused(message, reconstruction(score_of(mixture(2)), m, y, spread), x, 1.0)
    for method in METHODS.values():
        refused(message, method, score_of(mixture(2)), m, y, 3, real(levels))


def test_a_measurement_of_nan_is_refused_where_it_is_used():
    m = Linear(real([[1.0, 2.0]]), 1.0)
    y = m.measure(real([[math.nan, 0.0]]), generator=seeded())[0]
    refused("y must hold finite numbers, got NaN", MixturePosterior, mixture(2), m, y)


def test_what_was_measured_comes_in_the_dtype_that_is_asked_for():
    m = Linear(real([[1.0, 2.0]]), 1.0)
    assert m.given([1], draws(1)).dtype == REAL
    assert m.given(real([1.0]), draws(1).float()).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
def test_the_matrix_takes_the_dtype_of_what_it_meets(dtype):
    A, centre, x, y = draws(2, 3), draws(2, 3, seed=1), draws(5, 3, seed=2), draws(2, seed=3)
    for matrix in (A, A.float()):
        m, prior = Linear(matrix, 0.5), GaussianMixture(centre.to(dtype), 0.8)
        log_p = m.law(x.to(dtype), 0.7).log_prob(y.to(dtype))
        score = MixturePosterior(prior, m, y).score(x.to(dtype))
        assert log_p.dtype == score.dtype == dtype
        close(log_p.double(), Linear(A, 0.5).law(x, 0.7).log_prob(y), 1e-4)
        right = MixturePosterior(GaussianMixture(centre, 0.8), Linear(A, 0.5), y).score(x)
        close(score.double(), right, 1e-4)


# the exact posterior


@pytest.mark.parametrize("dims", [1, 2])
@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, noise=NOISE)
def test_the_posterior_is_the_prior_times_the_likelihood_over_the_evidence(dims, seed, noise):
    prior, m, y = (
        mixture(dims, seed),
        Linear(draws(dims, dims, seed=seed + 1), noise),
        draws(dims, seed=seed + 2),
    )
    x, log_density, _ = by_quadrature(prior, m, y)
    near = log_density > -60
    close(MixturePosterior(prior, m, y).log_prob(x)[near], log_density[near], 1e-10)


@SOME
@given(SEEDS, NOISE, st.sampled_from([0.0, 0.3, 2.0]))
def test_the_score_is_the_slope_of_the_log_density(seed, noise, level):
    law = MixturePosterior(
        mixture(3, seed), Linear(draws(2, 3, seed=seed + 1), noise), draws(2, seed=seed + 2)
    )
    law = law.noised(level)
    x = 2 * draws(7, 3, seed=seed + 3)
    close(law.score(x), slope_by_autograd(law.log_prob, x), 1e-10)
    assert law.score(x[0]).shape == (3,)
    close(law.score(x[None]), law.score(x)[None], 1e-12)


@SOME
@given(SEEDS, NOISE, st.floats(0.3, 3.0))
def test_the_noised_posterior_is_a_convolution(seed, noise, level):
    prior, m, y = mixture(1, seed), Linear(draws(1, 1, seed=seed + 1), noise), draws(1, seed=seed + 2)
    x, log_density, cell = by_quadrature(prior, m, y)
    u = real([[-3.0], [-0.4], [0.0], [1.1], [2.5]])

    def convolved(u):
        return (log_density + Normal(x[:, 0], real(level)).log_prob(u)).logsumexp(1) + math.log(cell)

    law = MixturePosterior(prior, m, y).noised(level)
    close(law.log_prob(u), convolved(u), 1e-10)
    close(law.score(u), slope_by_autograd(convolved, u), 1e-10)


def test_noise_upon_noise_adds_its_variance():
    prior, m, y, x = mixture(2), Linear(draws(1, 2), 0.5), real([0.4]), draws(5, 2)
    once = MixturePosterior(prior, m, y, level=0.5).log_prob(x)
    close(MixturePosterior(prior, m, y).noised(0.3).noised(0.4).log_prob(x), once)
    close(MixturePosterior(prior, m, y).noised(0.5).log_prob(x), once)


@SOME
@given(SEEDS, NOISE)
def test_the_weights_are_those_of_the_prior_times_the_evidence_of_each_bump(seed, noise):
    prior, m, y = mixture(2, seed), Linear(draws(1, 2, seed=seed + 1), noise), draws(1, seed=seed + 2)
    A, x, cell = m.matrix, *lattice(2, half=10.0)
    parts = []
    for mean, scale, weight in zip(prior.means, prior.scale, prior.weights, strict=True):
        density = (-(x - mean).square().sum(1) / (2 * scale**2)).exp() / (2 * math.pi * scale**2)
        likelihood = (-((y - x @ A.mT) ** 2).sum(1) / (2 * noise**2)).exp()
        parts.append(weight * (density * likelihood).sum() * cell)
    parts = torch.stack(parts)
    close(MixturePosterior(prior, m, y).log_weights.exp(), parts / parts.sum(), 1e-10)


def test_a_bump_of_weight_0_stays_out():
    prior = GaussianMixture(draws(2, 2), real(0.5), real([1.0, 0.0]))
    law = MixturePosterior(prior, Linear(draws(1, 2), 0.5), real([0.4]))
    close(law.log_weights.exp(), real([1.0, 0.0]))
    assert law.score(draws(3, 2)).isfinite().all()


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_draws_have_the_mean_and_covariance_of_the_law(level):
    prior, m, y = mixture(2, seed=4), Linear(real([[1.0, -0.5]]), 0.8), real([0.3])
    x, log_density, cell = by_quadrature(prior, m, y)
    mean, covariance = moments(x, log_density.exp() * cell)
    sample = MixturePosterior(prior, m, y, level).sample((20_000,), generator=seeded())
    agrees(sample, mean, covariance + level**2 * torch.eye(2, dtype=REAL))


def textbook(prior, m, y):
    """Mean and covariance of the one bump given y, by numpy."""
    A, s2 = m.matrix.numpy(), prior.scale[0].item() ** 2
    covariance = np.linalg.inv(np.eye(A.shape[1]) / s2 + A.T @ A / m.noise**2)
    return covariance @ (prior.means[0].numpy() / s2 + A.T @ y.numpy() / m.noise**2), covariance


@SOME
@given(SEEDS, NOISE, st.integers(1, 4), st.integers(1, 4), LEVEL)
def test_one_bump_gives_the_normal_posterior_of_the_textbooks(seed, noise, M, D, level):
    prior, m, y = bump(D, 0.7, seed), Linear(draws(M, D, seed=seed + 1), noise), draws(M, seed=seed + 2)
    mean, covariance = textbook(prior, m, y)
    x = draws(5, D, seed=seed + 3)
    for kappa in (0.0, level):
        law = stats.multivariate_normal(mean, covariance + kappa**2 * np.eye(D))
        close(MixturePosterior(prior, m, y, kappa).log_prob(x), real(law.logpdf(x.numpy())), 1e-9)


@pytest.mark.parametrize("rows", [[[1.0, 1.0, 0.0]] * 2, [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.0, 0.0, 0.0]]])
def test_a_matrix_may_lack_rank(rows):
    prior, m = bump(3, 0.7), Linear(real(rows), 0.3)
    y = draws(m.size, seed=1)
    mean, covariance = textbook(prior, m, y)
    law = MixturePosterior(prior, m, y)
    x = draws(5, 3, seed=2)
    close(law.log_prob(x), real(stats.multivariate_normal(mean, covariance).logpdf(x.numpy())), 1e-9)
    agrees(law.sample((20_000,), generator=seeded()), torch.from_numpy(mean), torch.from_numpy(covariance))


@pytest.mark.parametrize("m", [Linear(draws(2, 2), 1e8), Linear(torch.zeros(1, 2, dtype=REAL), 0.1)])
def test_a_measurement_that_says_nothing_leaves_the_prior(m):
    prior, x = mixture(2), 2 * draws(9, 2, seed=3)
    law = MixturePosterior(prior, m, draws(m.size))
    close(law.log_prob(x), prior.log_prob(x), 1e-10)
    close(law.score(x), prior.score(x), 1e-10)
    close(law.noised(0.6).score(x), prior.noised(0.6).score(x), 1e-10)


def test_an_exact_measurement_leaves_no_doubt():
    law = MixturePosterior(mixture(2), Linear(real([[1.0, 2.0], [0.5, -1.0]]), 1e-6), real([1.0, 2.0]))
    known = torch.linalg.solve(real([[1.0, 2.0], [0.5, -1.0]]), real([1.0, 2.0]))
    close(law.sample((50,), generator=seeded()), known.expand(50, 2), 1e-4)


def test_the_posterior_checks_what_it_is_given():
    prior, m, y = mixture(2), Linear(draws(1, 2), 0.5), real([0.4])
    refused("prior must have 2 dimensions, got 3", MixturePosterior, mixture(3), m, y)
    refused("measurement must be linear, got Measurement", MixturePosterior, prior, cubic(), y)
    for level in (-1.0, math.nan, math.inf, None, "1"):
        refused("level must be a", MixturePosterior, prior, m, y, level)
    law = MixturePosterior(prior, m, y)
    for job in (law.log_prob, law.score):
        refused("x must have shape (..., 2), got (3, 1)", job, draws(3, 1))
        refused("x must not hold NaN", job, real([[0.0, math.nan]]))
    for level in (-1.0, math.nan, math.inf, None, "1"):
        refused("level must be a", law.noised, level)
    refused("n in shape (n,) must be a whole number", law.sample, (0,))


def test_rounding_makes_no_variance_negative():
    # of some of these AᵀA the least eigenvalue comes out below 0, by more than σ²/s²
    prior, y = GaussianMixture(torch.zeros(1, 3, dtype=REAL), 1.0), real([0.5])
    for seed in range(5):
        m = Linear(draws(1, 3, seed=seed), 1e-8)
        assert (MixturePosterior(prior, m, y).variance > 0).all()
        z = split_gibbs(score_of(prior), m, y, 5, real([1.0, 0.5]), couplings=[3.0], generator=seeded())
        assert z.isfinite().all()


# steps


@SOME
@given(SEEDS, LEVEL)
def test_the_clean_mean_of_one_bump_lies_between_the_bump_and_the_point(seed, level):
    prior, u = bump(2, 0.7, seed), 2 * draws(5, 2, seed=seed + 1)
    share = 0.49 / (0.49 + level**2)
    close(cleaned(score_of(prior), u, level), share * u + (1 - share) * prior.means[0], 1e-11)


def test_the_clean_mean_is_that_by_quadrature():
    prior, u, level = mixture(1), real([[-1.5], [0.2], [2.0]]), 0.8
    x, _ = lattice(1)
    share = (prior.log_prob(x) + Normal(x[:, 0], real(level)).log_prob(u)).softmax(1)
    close(cleaned(score_of(prior), u, level), share @ x, 1e-10)


@SOME
@given(LEVEL, st.floats(0.0, 0.95), SEEDS)
def test_an_ancestral_step_is_its_formula(level, q, seed):
    end = q * level
    u, clean = draws(4, 2, seed=seed), draws(4, 2, seed=seed + 1)
    moved = ancestral(u, clean, level, end, seeded(seed))
    eps = draws(4, 2, seed=seed)
    close(moved, q**2 * u + (1 - q**2) * clean + math.sqrt(end**2 * (1 - q**2)) * eps, 1e-12)


@pytest.mark.parametrize(("level", "end"), [(2.0, 1.9), (3.0, 0.5), (1.0, 0.0)])
def test_ancestral_steps_to_a_known_point_keep_noise_of_the_level(level, end):
    x = real([0.7, -2.0]).expand(20_000, 2)
    moved = ancestral(x + level * draws(20_000, 2), x, level, end, seeded(1))
    agrees(moved, x[0], end**2 * torch.eye(2, dtype=REAL), slack=1e-12)


# slopes


@SOME
@given(SEEDS, NOISE, st.floats(0.3, 3.0), LEVEL)
def test_for_one_bump_and_its_spread_the_reconstruction_is_exact(seed, noise, tau, level):
    m, u, y = Linear(draws(2, 3, seed=seed), noise), draws(5, 3, seed=seed + 1), draws(2, seed=seed + 2)
    for mean in (torch.zeros(1, 3, dtype=REAL), draws(1, 3, seed=seed + 3)):
        prior = GaussianMixture(mean, real(tau))
        exact = MixturePosterior(prior, m, y).noised(level).score(u) - prior.noised(level).score(u)
        close(reconstruction(score_of(prior), m, y, tau)(u, level), exact, 1e-10)


@SOME
@given(SEEDS, NOISE, LEVEL)
def test_without_spread_the_reconstruction_takes_the_clean_mean_for_the_truth(seed, noise, level):
    prior, u, y = mixture(2, seed), draws(5, 2, seed=seed + 1), draws(1, seed=seed + 2)
    score = score_of(prior)
    for m in (Linear(draws(1, 2, seed=seed), noise), cubic(noise)):

        def by_hand(u, m=m):
            clean = u + level**2 * score(u, level)
            return -((y - m.function(clean)) ** 2).sum(1) / (2 * noise**2)

        expected = slope_by_autograd(by_hand, u)
        torch.testing.assert_close(reconstruction(score, m, y)(u, level), expected, rtol=1e-10, atol=1e-10)


def test_the_reconstruction_needs_no_gradient_switched_on_and_leaves_the_points_alone():
    u, m = draws(3, 2), cubic()
    slope = reconstruction(score_of(mixture(2)), m, real([0.3]))
    with torch.no_grad():
        inside = slope(u, 0.5)
    close(inside, slope(u, 0.5))
    assert not u.requires_grad
    assert not inside.requires_grad


def test_a_spread_needs_a_linear_measurement():
    score, y, levels = score_of(mixture(2)), real([0.3]), falling(5.0, 0.1, 4)
    refused("measurement must be linear, got Measurement", reconstruction, score, cubic(), y, 0.5)
    refused("measurement must be linear", guided, score, cubic(), y, 2, levels, spread=0.5)
    refused("measurement must be linear", twisted, score, cubic(), y, 2, levels)
    for job in (guided, posterior_sampling, lambda *given, **kw: twisted(*given, spread=0.0, **kw)):
        assert job(score, cubic(3.0), y, 2, levels, generator=seeded()).isfinite().all()


@pytest.mark.parametrize("spread", [-1.0, math.nan, math.inf, None, "1"])
def test_a_spread_is_at_least_0(spread):
    m, y = Linear(draws(1, 2), 0.5), real([0.3])
    refused("spread must be a", reconstruction, score_of(mixture(2)), m, y, spread)
    refused("spread must be a", guided, score_of(mixture(2)), m, y, 2, real([2.0, 1.0]), spread=spread)
    refused("spread must be a", twisted, score_of(mixture(2)), m, y, 2, real([2.0, 1.0]), spread=spread)


# guidance


def two_modes():
    """A prior of three bumps and a measurement that leaves two of them."""
    prior = GaussianMixture(
        real([[2.0, 1.0], [-1.5, 1.2], [0.0, -2.0]]), real([0.4, 0.6, 0.5]), real([0.3, 0.3, 0.4])
    )
    return prior, Linear(real([[0.2, 1.0]]), 0.5), real([1.0])


def exact_slope(prior, m, y):
    return lambda u, level: MixturePosterior(prior, m, y, level).score(u) - prior.noised(level).score(u)


def same_law(x, law):
    """A sample is as near to draws of a law as these are to each other, within a factor of 2."""
    true = [law.sample((len(x),), generator=seeded(seed)) for seed in (11, 12, 13)]
    near = [sliced_wasserstein(a, b, 32, generator=seeded()) for a, b in itertools.combinations(true, 2)]
    return sliced_wasserstein(x, true[0], 32, generator=seeded()) < 2 * sum(near) / 3


def test_guidance_by_the_exact_slope_draws_from_the_posterior():
    prior, m, y = two_modes()
    x = guided(score_of(prior), m, y, 2000, falling(30.0, 0.02, 100), slope=exact_slope(prior, m, y),
               generator=seeded())  # fmt: skip
    law = MixturePosterior(prior, m, y)
    assert same_law(x, law)
    assert not same_law(x, prior)
    points, log_density, cell = by_quadrature(prior, m, y)
    agrees(x, *moments(points, log_density.exp() * cell), slack=0.05)


def test_guidance_of_weight_0_draws_from_the_prior():
    prior, m, y = two_modes()
    levels = falling(30.0, 0.02, 100)
    x = guided(score_of(prior), m, y, 2000, levels, slope=exact_slope(prior, m, y), weight=0.0,
               generator=seeded())  # fmt: skip
    assert same_law(x, prior)
    free = guided(score_of(prior), m, y, 2000, levels, slope=lambda u, level: 0 * u, generator=seeded())
    assert torch.equal(x, free)


@pytest.mark.parametrize("weight", [1.0, 2.5, -0.3])
@pytest.mark.parametrize("spread", [0.0, 0.9])
def test_the_guided_chain_of_one_bump_has_the_law_of_its_formulas(spread, weight):
    prior, m, y = GaussianMixture(real([[0.5]]), real(0.9)), Linear(real([[1.3]]), 0.6), real([2.0])
    levels = real([6.0, 2.0, 1.0, 0.3])
    score = score_of(prior)

    def whole(u, level):
        s2, clean = 0.81 + level**2, (0.81 * u + 0.5 * level**2) / (0.81 + level**2)
        r2 = level**2 * spread**2 / (level**2 + spread**2)
        by = 1.3 * (2.0 - 1.3 * clean) / (1.3**2 * r2 + 0.36) * 0.81 / s2
        return (0.5 - u) / s2 + weight * by

    x = guided(score, m, y, 20_000, levels, spread=spread, weight=weight, generator=seeded())
    mean, variance = down(whole, levels, 0.0, 36.0)
    agrees(x, real([mean]), real([[variance]]))


@pytest.mark.parametrize("weight", [math.nan, math.inf, None, "1", True])
def test_the_weight_is_a_finite_number(weight):
    refused("weight must be a finite number", guided, score_of(mixture(2)), Linear(draws(1, 2), 0.5),
            real([0.3]), 2, real([2.0, 1.0]), weight=weight)  # fmt: skip


@pytest.mark.parametrize("wrong", [lambda u: u[:, :1], lambda u: u[0], lambda u: u[:1], lambda u: u.tolist()])
def test_a_slope_of_another_shape_is_refused(wrong):
    score, m, y = setting()
    refused("slope must return shape (3, 2), got", guided, score, m, y, 3, real([2.0, 1.0]),
            slope=lambda u, level: wrong(u))  # fmt: skip


@pytest.mark.parametrize(("y", "message"), [(real([1.0, 2.0]), "y must have shape (1,), got (2,)"),
                                            (real([math.nan]), "y must hold finite numbers")])  # fmt: skip
def test_what_was_measured_is_checked_beside_a_slope_of_ones_own(y, message):
    score, m, _ = setting()
    refused(message, guided, score, m, y, 3, real([2.0, 1.0]), slope=lambda u, level: 0 * u)


def test_one_level_is_one_call_of_the_score():
    prior, m, y = two_modes()
    calls = []

    def score(u, level):
        calls.append(level)
        return prior.noised(level).score(u)

    x = guided(score, m, y, 5, real([3.0]), slope=lambda u, level: 0 * u, generator=seeded())
    close(x, cleaned(score_of(prior), 3.0 * draws(5, 2), 3.0))
    assert calls == [3.0]
    calls.clear()
    guided(score, m, y, 5, real([3.0, 1.0, 0.5]), slope=lambda u, level: 0 * u)
    assert calls == [3.0, 1.0, 0.5]


# steps towards y


@pytest.mark.parametrize("m", [Linear(real([[1.0, -0.5], [0.3, 2.0]]), 0.5),
                               Measurement(lambda x: x**3, 2, 2, 0.1)], ids=["linear", "cubic"])  # fmt: skip
@pytest.mark.parametrize("size", [1.0, 0.2])
def test_posterior_sampling_takes_the_step_of_its_formula(m, size):
    prior, y, random = mixture(2), real([0.3, -0.7]), seeded(3)
    first, end = 2.0, 0.8
    u = first * torch.randn(4, 2, generator=random, dtype=REAL)
    eps = torch.randn(4, 2, generator=random, dtype=REAL)

    def mean(u, level):
        return u + level**2 * prior.noised(level).score(u)

    q2 = (end / first) ** 2
    moved = q2 * u + (1 - q2) * mean(u, first) + end * math.sqrt(1 - q2) * eps
    moved = moved - size * slope_by_autograd(lambda u: (y - m(mean(u, first))).square().sum(1).sqrt(), u)
    x = posterior_sampling(score_of(prior), m, y, 4, real([first, end]), size=size, generator=seeded(3))
    close(x, mean(moved, end), 1e-10)


def test_points_that_fit_y_take_no_step_towards_it():
    score, blind, levels = (
        score_of(mixture(2)),
        Linear(torch.zeros(1, 2, dtype=REAL), 0.5),
        falling(5.0, 0.1, 6),
    )
    free = guided(score, blind, real([0.0]), 20, levels, weight=0.0, generator=seeded())
    close(posterior_sampling(score, blind, real([0.0]), 20, levels, generator=seeded()), free)


@pytest.mark.parametrize("size", NO_NUMBERS_ABOVE_0)
def test_the_size_of_a_step_is_above_0(size):
    refused("size must be a", posterior_sampling, score_of(mixture(2)), cubic(), real([0.3]), 2,
            real([2.0, 1.0]), size=size)  # fmt: skip


# replacement


def test_replacement_returns_what_was_measured():
    y, mask = real([0.7, -1.1]), Linear(torch.eye(4, dtype=REAL)[[0, 2]], 0.3)
    x = replacement(score_of(mixture(4)), mask, y, 50, falling(20.0, 0.1, 12), generator=seeded())
    close(x[:, [0, 2]], y.expand(50, 2))
    assert (x[:, [1, 3]].std(0) > 0.1).all()


def test_replacement_by_any_matrix_fits_y():
    m, y = Linear(draws(2, 4), 0.3), real([0.7, -1.1])
    x = replacement(score_of(mixture(4)), m, y, 50, falling(20.0, 0.1, 12), generator=seeded())
    close(m(x), y.expand(50, 2), 1e-10)


@pytest.mark.parametrize("share", [1.0, 0.6, 0.05])
def test_replacement_of_one_bump_has_the_law_of_its_formulas(share):
    levels, y, spread = real([1.2, 1.0, 0.8, 0.4]), 1.4, real([0.8, 1.5])

    def score(u, level):
        return -u / (spread**2 + level**2)

    def alone(scale):
        return lambda u, level: -u / (scale**2 + level**2)

    def mend(mean, variance, end):
        return (1 - share) * mean + share * y, (1 - share) ** 2 * variance + share**2 * end**2

    twice = Linear(real([[2.0, 0.0]]), 0.3)
    x = replacement(score, twice, real([2 * y]), 20_000, levels, share=share, generator=seeded())
    seen, spread_seen = mend(*down(alone(0.8), levels, *mend(0.0, 1.44, 1.2), mend), 0.0)
    hidden, spread_hidden = down(alone(1.5), levels, 0.0, 1.44)
    agrees(x, real([seen, hidden]), torch.diag(real([spread_seen, spread_hidden])), slack=1e-12)


def test_what_is_independent_of_the_measured_keeps_its_prior():
    mask, law = Linear(real([[1.0, 0.0]]), 0.3), GaussianMixture(real([[0.0]]), real(0.8))
    modes = GaussianMixture(real([[-2.0], [1.0]]), real([0.4, 0.6]), real([0.7, 0.3]))

    def score(u, level):
        return torch.cat([law.noised(level).score(u[:, :1]), modes.noised(level).score(u[:, 1:])], 1)

    x = replacement(score, mask, real([1.4]), 2000, falling(30.0, 0.02, 100), generator=seeded())
    assert same_law(x[:, 1:], modes)


@pytest.mark.parametrize("share", [*NO_NUMBERS_ABOVE_0, 1.01, 7])
def test_the_share_is_at_most_1(share):
    refused("share must", replacement, score_of(mixture(2)), Linear(draws(1, 2), 0.5), real([0.3]), 2,
            real([2.0, 1.0]), share=share)  # fmt: skip


def test_a_share_above_1_is_told():
    refused("share must lie in (0, 1], got 1.01", replacement, *setting(), 2, real([2.0, 1.0]), share=1.01)


# particles


@pytest.fixture
def shares(monkeypatch):
    """The shares of the particles each time that they are drawn anew."""
    seen, drawn = [], inverse._drawn

    def watched(share, generator):
        seen.append(share)
        return drawn(share, generator)

    monkeypatch.setattr(inverse, "_drawn", watched)
    return seen


def test_with_the_right_guess_all_particles_weigh_the_same(shares):
    prior, m, y = GaussianMixture(real([[0.0, 0.0]]), real(1.2)), Linear(real([[1.0, 0.5]]), 0.7), real([1.5])
    x = twisted(score_of(prior), m, y, 1000, falling(40.0, 0.01, 200), spread=1.2, generator=seeded())
    assert len(shares) == 1  # at the end alone
    assert 1 / shares[0].square().sum() > 980
    assert len(x.unique(dim=0)) > 900
    mean, covariance = textbook(prior, m, y)
    agrees(x, torch.from_numpy(mean), torch.from_numpy(covariance), slack=0.02)


@pytest.mark.parametrize(("spread", "times"), [(0.5, 3), (1.0, 1), (3.0, 1)])
def test_particles_have_the_law_of_the_reversed_chain_given_y_whatever_the_guess(shares, spread, times):
    prior, m, y = GaussianMixture(real([[0.5]]), real(0.9)), Linear(real([[1.3]]), 0.3), 2.0
    levels = real([4.0, 2.5, 1.5, 1.0, 0.8, 0.6, 0.4])
    x = twisted(score_of(prior), m, real([y]), 20_000, levels, spread=spread, generator=seeded())
    assert len(shares) == times  # drawn anew, the end included
    assert spread > 0.5 or 1 / shares[-1].square().sum() > 0.6 * len(x)  # each kept its own slope
    mean, variance = down(score_of(prior), levels, 0.0, 16.0)
    after = 1 / (1 / variance + 1.3**2 / 0.09)
    agrees(x, real([after * (mean / variance + 1.3 * y / 0.09)]), real([[after]]), errors=6)


@pytest.mark.parametrize("spread", [0.5, 1.0, 3.0])
def test_particles_find_the_shares_of_two_modes_whatever_the_guess(spread):
    prior = GaussianMixture(real([[-2.0, 0.0], [2.0, 1.0]]), real([0.5, 0.5]), real([0.7, 0.3]))
    m, y = Linear(real([[0.1, 0.8]]), 0.5), real([0.6])
    right = MixturePosterior(prior, m, y).log_weights.exp()[1].item()
    assert abs(right - 0.3) > 0.1  # the evidence is not equal
    n = 4000
    x = twisted(score_of(prior), m, y, n, falling(30.0, 0.02, 80), spread=spread, generator=seeded())
    found = (x[:, 0] > 0).double().mean().item()
    assert abs(found - right) < 5 * math.sqrt(right * (1 - right) / n) + 0.02, (found, right)


@SOME
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30).filter(lambda p: sum(p) > 0.1), SEEDS)
def test_each_particle_is_drawn_as_often_as_its_share_says(weights, seed):
    share = real(weights) / sum(weights)
    chosen = inverse._drawn(share, seeded(seed))
    n = len(share)
    assert chosen.shape == (n,)
    counts = chosen.bincount(minlength=n)
    assert ((counts - n * share).abs() < 1 + 1e-9).all()


def test_shares_that_round_to_less_than_1_point_at_no_particle_beyond_the_last():
    chosen = [inverse._drawn(0.9 * real([0.4, 0.6]), seeded(seed)) for seed in range(20)]
    assert torch.cat(chosen).max() == 1


def test_particles_are_drawn_without_bias():
    share = real([0.1, 0.35, 0.0, 0.55])
    random = seeded()
    counts = sum(inverse._drawn(share, random).bincount(minlength=4) for _ in range(1000))
    close(counts / 1000, (4 * share).float(), 0.06)


def test_particles_need_a_step():
    refused("levels must hold at least 2, got [2.0]", twisted, *setting(), 5, real([2.0]))


def test_particles_without_any_weight_are_an_error():
    prior, y = GaussianMixture(real([[0.0, 0.0]]), real(1.0)), real([1.0])
    steep, flat = (
        Measurement(function, 2, 1, 0.1)
        for function in (lambda x: x[:, :1] * 1e200, lambda x: 0 * x[:, :1] + 1e200)
    )
    for m, said in ((steep, "the points are not finite"), (flat, "no particle has any weight")):
        with pytest.raises(RuntimeError, match=re.escape(f"{said} after step 1, which starts at level 4")):
            twisted(score_of(prior), m, y, 5, real([4.0, 2.0, 1.0]), spread=0.0, generator=seeded())


# a spring between data and measurement


@pytest.mark.parametrize("rho", [0.4, 1.0])
def test_with_one_coupling_for_long_split_gibbs_has_the_law_of_both_variables(rho):
    prior, m = GaussianMixture(real([[0.5, -0.3, 0.2]]), real(0.9)), Linear(draws(2, 3), 0.6)
    y = real([1.5, -0.4])
    # x integrated out, y is normal about A z with the variance σ² + ρ² A Aᵀ
    A, centre = m.matrix.numpy(), prior.means[0].numpy()
    other = A.T @ np.linalg.inv(0.36 * np.eye(2) + rho**2 * A @ A.T)
    covariance = np.linalg.inv(np.eye(3) / 0.81 + other @ A)
    mean = covariance @ (centre / 0.81 + other @ y.numpy())

    def score(u, level):
        return (prior.means - u) / (0.81 + level**2)

    levels = falling(0.99 * rho, 0.08, 100)
    z = split_gibbs(score, m, y, 5000, levels, couplings=[rho] * 12, generator=seeded())
    agrees(z, torch.from_numpy(mean), torch.from_numpy(covariance), slack=0.03)


@pytest.mark.parametrize(("noise", "couplings"), [(0.6, [3.5, 1.2, 0.5, 0.2]), (6.0, [0.5])])
def test_each_round_of_split_gibbs_has_the_law_of_its_formulas(noise, couplings):
    prior, m, y = GaussianMixture(real([[0.5]]), real(0.9)), Linear(real([[1.3]]), noise), 2.0
    levels = real([3.0, 1.2, 0.8, 0.3])
    mean, variance = 0.0, 9.0
    for rho in couplings:
        precision = 1.3**2 / noise**2 + rho**-2
        mean = (1.3 * y / noise**2 + mean / rho**2) / precision
        variance = variance / (rho**2 * precision) ** 2 + 1 / precision
        way = [rho, *(level for level in levels.tolist() if level < rho)]
        mean, variance = down(score_of(prior), way, mean, variance)
    z = split_gibbs(score_of(prior), m, real([y]), 20_000, levels, couplings=couplings, generator=seeded())
    agrees(z, real([mean]), real([[variance]]))


@pytest.mark.parametrize("rho", NO_NUMBERS_ABOVE_0)
def test_couplings_are_above_0(rho):
    refused("couplings must be a", split_gibbs, lambda u, level: pytest.fail("a round came before the check"),
            Linear(draws(1, 2), 0.5), real([0.3]), 2, real([2.0, 1.0]), couplings=[1.0, rho])  # fmt: skip


# what all have in common


def setting():
    return score_of(mixture(2)), Linear(real([[1.0, -0.5]]), 0.5), real([0.4])


@each
def test_a_generator_decides_the_draws_and_the_global_one_stays(method):
    levels, state = falling(5.0, 0.1, 6), torch.get_rng_state()
    x = method(*setting(), 20, levels, generator=seeded(1))
    assert x.shape == (20, 2)
    assert x.dtype == REAL
    assert x.isfinite().all()
    assert not x.requires_grad
    assert torch.equal(x, method(*setting(), 20, levels, generator=seeded(1)))
    assert not torch.equal(x, method(*setting(), 20, levels, generator=seeded(2)))
    assert torch.equal(torch.get_rng_state(), state)


@each
def test_without_a_generator_the_global_one_decides(method):
    levels = falling(5.0, 0.1, 6)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        x = method(*setting(), 20, levels)
    close(x, method(*setting(), 20, levels, generator=seeded(3)))


def test_the_law_draws_from_its_generator():
    m, state = setting()[1], torch.get_rng_state()
    law = MixturePosterior(mixture(2), m, real([0.4]))
    for job in (lambda g: law.sample((9,), generator=g), lambda g: m.measure(draws(9, 2), generator=g)):
        assert torch.equal(job(seeded(1)), job(seeded(1)))
        assert not torch.equal(job(seeded(1)), job(seeded(2)))
    assert torch.equal(torch.get_rng_state(), state)


@each
def test_a_score_that_is_infinite_is_told_with_its_step_and_level(method):
    _, m, y = setting()

    def score(u, level):
        return -u / (1 + level**2) + (math.inf if level == 1 else 0)

    with pytest.raises(RuntimeError) as error:
        method(score, m, y, 3, real([4.0, 2.0, 1.0, 0.5]), generator=seeded())
    step = (2, 2) if "no particle" in str(error.value) else (3, 1)
    assert str(error.value).endswith("after step {}, which starts at level {}".format(*step))


def infinite_at_one_point_of_the_last_level(u, level):
    score = -u / (1 + level**2)
    score[0, 0] += math.inf if level == 0.51234 else 0.0
    return score


@pytest.mark.parametrize("name", [name for name in METHODS if name != "twisted"])
def test_one_point_where_the_score_is_infinite_at_the_last_level_is_told_too(name):
    _, m, y = setting()
    step, level = (1, 4) if name == "split Gibbs" else (4, 0.51234)
    said = f"^the points are not finite after step {step}, which starts at level {level}$"
    with pytest.raises(RuntimeError, match=said):
        METHODS[name](infinite_at_one_point_of_the_last_level, m, y, 3, real([4.0, 2.0, 1.0, 0.51234]),
                      generator=seeded())  # fmt: skip


def test_a_particle_where_the_score_is_infinite_at_the_last_level_is_not_drawn():
    _, m, y = setting()
    x = twisted(infinite_at_one_point_of_the_last_level, m, y, 3, real([4.0, 2.0, 1.0, 0.51234]),
                generator=seeded())  # fmt: skip
    assert x.isfinite().all()


@pytest.mark.parametrize(
    ("method", "options"),
    [(guided, {"slope": None, "spread": 0.0, "weight": 1.0}), (posterior_sampling, {"size": 1.0}),
     (replacement, {"share": 1.0}), (twisted, {"spread": 1.0})],
)  # fmt: skip
def test_options_that_are_left_out(method, options):
    levels = falling(5.0, 0.1, 6)
    x = method(*setting(), 20, levels, generator=seeded())
    assert torch.equal(x, method(*setting(), 20, levels, **options, generator=seeded()))


@pytest.mark.parametrize(
    "method", [*METHODS.values(), partial(guided, slope=lambda u, level: -u)],
    ids=[*METHODS, "guided, with a slope of one's own"],
)  # fmt: skip
def test_draws_keep_no_graph_of_a_score_that_learns(method):
    _, m, y = setting()
    spread = real(1.0).requires_grad_()

    def score(u, level):
        return -u / (spread**2 + level**2)

    assert not method(score, m, y, 3, falling(5.0, 0.1, 4), generator=seeded()).requires_grad


@each
def test_draws_come_in_the_dtype_of_the_levels(method):
    _, m, y = setting()
    single = score_of(GaussianMixture(torch.zeros(1, 2), 1.0))
    x = method(single, m, y, 3, falling(5.0, 0.1, 4).float(), generator=seeded())
    assert x.dtype == torch.float32


@each
@pytest.mark.parametrize("bad", [[1.0, 2.0], [1.0, 1.0], [1.0, 0.0], [1.0, -1.0], [], [[2.0, 1.0]],
                                 [math.inf, 1.0], [math.nan]], ids=str)  # fmt: skip
def test_levels_fall_and_stay_above_0(method, bad):
    refused("levels must", method, *setting(), 3, real(bad))


@each
@pytest.mark.parametrize("n", NO_COUNTS)
def test_n_is_a_count(method, n):
    refused("n must be a whole number of at least 1", method, *setting(), n, real([2.0, 1.0]))


@each
@pytest.mark.parametrize("wrong", [lambda u: u[:, :1], lambda u: u[0], lambda u: u[:1], lambda u: u.mT,
                                   lambda u: u.tolist()])  # fmt: skip
def test_a_score_of_another_shape_is_refused(method, wrong):
    _, m, y = setting()
    refused(
        "score must return shape (3, 2), got", method, lambda u, level: wrong(-u), m, y, 3, real([2.0, 1.0])
    )


@pytest.mark.parametrize("method", [METHODS[name] for name in ("replacement", "split Gibbs", "twisted")])
def test_some_methods_need_a_linear_measurement(method):
    refused("measurement must be linear, got Measurement", method, setting()[0], cubic(), real([0.3]), 3,
            real([2.0, 1.0]))  # fmt: skip


def test_too_little_noise_beside_a_matrix_without_full_rank_is_told():
    twice = Linear(-torch.ones(2, 3, dtype=REAL), 1e-9)
    prior = GaussianMixture(torch.zeros(1, 3, dtype=REAL), 1.0)
    with pytest.raises(
        ValueError, match="noise is too small beside a matrix of size 1 in torch.float64, got 1e-09"
    ) as error:
        MixturePosterior(prior, twice, real([1.0, 1.0]))
    assert error.value.__suppress_context__  # no word of Cholesky


def wide_camera(noise, dtype):
    return Linear(draws(2, 5).to(dtype), noise), draws(2, seed=1).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (REAL, 1e-12)])
@pytest.mark.parametrize("noise", [0.3, 1e-3, 1e-6])
def test_what_was_not_measured_stays_as_it_was_however_small_the_noise(noise, dtype, tolerance):
    camera, y = wide_camera(noise, dtype)
    law = MixturePosterior(GaussianMixture(torch.ones(1, 5, dtype=dtype), 1.0), camera, y)
    A, m = camera.matrix.to(REAL), torch.ones(5, dtype=REAL)
    gain = A.mT @ torch.linalg.inv(A @ A.mT + noise**2 * torch.eye(2, dtype=REAL))
    assert torch.equal(law.variance[0].sort().values[2:], torch.ones(3, dtype=dtype))
    close((law.means[0] @ law.basis.mT).to(REAL), m + gain @ (y.to(REAL) - A @ m), atol=tolerance)


def test_split_gibbs_leaves_alone_what_was_not_measured_however_small_the_noise():
    camera, y = wide_camera(1e-6, torch.float32)
    levels = falling(20.0, 0.05, 150).float()
    z = split_gibbs(
        lambda u, level: -u / (1 + level**2), camera, y, 4000, levels, couplings=[20.0], generator=seeded()
    )
    unseen = torch.linalg.svd(camera.matrix).Vh[2:]
    close((z @ unseen.mT).var(0), torch.full((3,), 1.0), atol=0.1)


@pytest.mark.parametrize("couplings", [[], 0.5, None, torch.empty(0)])
def test_couplings_hold_at_least_one_number(couplings):
    camera, y = wide_camera(0.5, REAL)
    refused("couplings must hold at least one number", split_gibbs, lambda u, level: u, camera, y, 2,
            real([2.0, 1.0]), couplings=couplings)  # fmt: skip


def test_posterior_sampling_looks_at_y_even_with_one_level():
    camera, _ = wide_camera(0.5, REAL)
    refused("y must", posterior_sampling, lambda u, level: -u, camera, "nonsense", 2, real([1.0]))
