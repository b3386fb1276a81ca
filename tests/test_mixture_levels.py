"""Mixtures of grey levels: probabilities against SciPy's normal law, steps of EM against what they must not lower."""

import math
import re
from itertools import pairwise

import pytest
import torch
from exactness import REAL, close, everything, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlib.mixture import LevelMixture, climb

SOME = settings(max_examples=12, deadline=None)
SEEDS = st.integers(0, 10**6)
SIZES = st.integers(1, 4)
LEVELS = st.integers(2, 6)
PULLS = st.floats(0.01, 10.0)


def refused(message, job, *args, error=ValueError, **kw):
    with pytest.raises(error, match="^" + re.escape(message)):
        job(*args, **kw)


def mixture(components=3, event=(2,), levels=5, seed=0):
    draws = torch.rand(3, components, *event, generator=seeded(seed), dtype=REAL)
    means, deviations = levels * (1.4 * draws[0] - 0.2), 0.2 + 2 * draws[1]
    weights = draws[2].reshape(components, -1)[:, 0] + 0.1
    return LevelMixture(means, deviations, weights / weights.sum(), levels=levels)


def pictures(n=40, event=(2,), levels=5, seed=0):
    return mixture(3, event, levels, seed + 1).sample((n,), generator=seeded(seed))


def one(mean, deviation, levels, dtype=REAL):
    return LevelMixture(
        torch.tensor([[mean]], dtype=dtype), torch.tensor([[deviation]], dtype=dtype), levels=levels
    )


def raw(model):
    """Parameters that are free, and the way from them to the model."""
    parts = model.means, model.deviations.log(), model.weights.log()
    parts = [part.clone().requires_grad_() for part in parts]
    means, logs, scores = parts
    return LevelMixture(means, logs.exp(), scores.softmax(0), levels=model.levels), parts


@SOME
@given(SIZES, LEVELS, SEEDS)
def test_the_levels_of_a_pixel_sum_to_one_and_agree_with_scipy(components, levels, seed):
    model = mixture(components, (), levels, seed)
    p = model.log_prob(torch.arange(levels)).exp()
    close(p.sum(), torch.ones((), dtype=REAL))
    law = stats.norm(model.means.numpy()[:, None], model.deviations.numpy()[:, None])
    edges = torch.arange(-1, levels).numpy() + 0.5
    cdf = torch.tensor(law.cdf(edges))
    cdf[:, 0], cdf[:, -1] = 0, 1
    close(model.log_parts(torch.arange(levels)).exp().T, cdf.diff(), 1e-13)


@SOME
@given(SIZES, SEEDS)
def test_all_pictures_sum_to_one(components, seed):
    x = everything(3, 4).reshape(-1, 2, 2)
    model = mixture(components, (2, 2), 3, seed)
    close(model.log_prob(x).exp().sum(), torch.ones((), dtype=REAL))
    joint = model.weights * torch.stack(
        [
            math.prod(table[i, j, x[:, i, j]] for i in range(2) for j in range(2))
            for table in model.log_table().exp()
        ],
        1,
    )
    close(model.log_joint(x).exp(), joint)
    close(model.responsibilities(x), joint / joint.sum(1, keepdim=True))


@pytest.mark.parametrize("far", [5.0, 40.0, 400.0])
@pytest.mark.parametrize("side", [-1, 1])
def test_far_tails(far, side):
    """A level far from the mean: between two bounds of the normal law's tail (Gordon 1941), and with finite slopes."""
    mean, deviation, levels, v = 10.0, 1.0, 21, 10
    model, parts = raw(one(mean - side * far * deviation, deviation, levels))
    log_p = model.log_prob(torch.tensor([[v]]))
    near, wide = far - 0.5, far + 0.5
    upper = -(near**2) / 2 - math.log(near * math.sqrt(2 * math.pi))
    least = math.log(near**2 / (near**2 + 1) * -math.expm1((near**2 - wide**2) / 2))
    assert upper + least - 1e-9 < log_p.item() < upper + 1e-9
    hi, lo = stats.norm.logcdf([-near, -wide])
    close(log_p, torch.tensor([hi + math.log1p(-math.exp(lo - hi))], dtype=REAL), 1e-12 * far**2)
    log_p.sum().backward()
    close(parts[0].grad.squeeze(), torch.tensor(side * far, dtype=REAL), 0.6)
    assert all(torch.isfinite(part.grad).all() for part in parts)


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
def test_every_level_is_finite_at_any_width(dtype):
    for deviation in (1e-3, 0.1, 1.0, 100.0):
        for mean in (-40.0, 0.0, 3.3, 7.5, 50.0):
            model, parts = raw(one(mean, deviation, 8, dtype))
            log_p = model.log_prob(torch.arange(8)[:, None])
            assert torch.isfinite(log_p).all()
            close(log_p.exp().sum().double(), torch.ones((), dtype=REAL), 1e-5)
            log_p.sum().backward()
            assert all(torch.isfinite(part.grad).all() for part in parts)
            close(model.log_prob(torch.tensor([[0], [7]])), log_p[[0, 7]], 0)


def test_a_mirror_changes_nothing():
    model, x = mixture(3, (2,), 5), everything(5, 2)
    mirrored = LevelMixture(4 - model.means, model.deviations, model.weights, levels=5)
    close(mirrored.log_prob(4 - x), model.log_prob(x))
    y, variance = model.unrounded()
    close(mirrored.unrounded()[0].flip(-1), 4 - y, 1e-10)
    close(mirrored.unrounded()[1].flip(-1), variance, 1e-10)


def test_float32_agrees_with_float64():
    model, x = mixture(3, (4, 4), 17), pictures(50, (4, 4), 17)
    single = LevelMixture(model.means.float(), model.deviations.float(), model.weights.float(), levels=17)
    close(single.log_prob(x).double() / model.log_prob(x), torch.ones(50, dtype=REAL), 1e-5)
    new, same = single.improved(x), model.improved(x)
    close(new.means.double(), same.means, 1e-4)
    close(new.deviations.double(), same.deviations, 1e-4)
    assert new.means.dtype == new.deviations.dtype == new.weights.dtype == torch.float32


@SOME
@given(st.floats(-2.0, 8.0), st.floats(0.15, 5.0), LEVELS)
def test_the_unrounded_number_is_a_truncated_normal_one(mean, deviation, levels):
    y, variance = one(mean, deviation, levels).unrounded()
    edges = [-math.inf, *(v + 0.5 for v in range(levels - 1)), math.inf]
    for v in range(levels):
        a, b = (edges[v] - mean) / deviation, (edges[v + 1] - mean) / deviation
        if not (-8 < a < 8 or -8 < b < 8):
            continue  # SciPy's variance is lost in rounding there
        truth = stats.truncnorm(a, b, mean, deviation)
        close(y[0, 0, v], torch.tensor(truth.mean(), dtype=REAL), 1e-8)
        close(variance[0, 0, v], torch.tensor(truth.var(), dtype=REAL), 1e-6)


@SOME
@given(SIZES, LEVELS, SEEDS)
def test_the_unrounded_numbers_have_the_mean_and_variance_of_the_normal_law(components, levels, seed):
    """The laws of total mean and variance."""
    model = mixture(components, (3,), levels, seed)
    p, (y, variance) = model.log_table().exp(), model.unrounded()
    close((p * y).sum(-1), model.means, 1e-10)
    close((p * (variance + (y - model.means[..., None]) ** 2)).sum(-1), model.deviations**2, 1e-10)


@pytest.mark.parametrize("deviation", [1e-3, 0.1, 1.0, 50.0])
def test_the_unrounded_number_stays_in_its_level(deviation):
    for dtype in (torch.float32, REAL):
        for mean in (-40.0, 2.0, 4.4, 60.0):
            y, variance = one(mean, deviation, 8, dtype).unrounded()
            assert ((y[0, 0, 1:-1] - torch.arange(1, 7)).abs() <= 0.5 + 1e-4).all()
            assert (variance[0, 0, 1:-1] <= 0.25).all()
            assert (variance >= 0).all()


def test_slopes_are_means_of_the_unrounded_numbers():
    """Fisher's identity: the slope of log p is the mean slope of what is hidden."""
    model, x = mixture(3, (2,), 5), pictures(30)
    free, (means, logs, _) = raw(model)
    free.log_prob(x).sum().backward()
    r, (y, variance) = model.responsibilities(x), model.unrounded()
    for k in range(3):
        for d in range(2):
            off = y[k, d, x[:, d]] - model.means[k, d]
            square = (variance[k, d, x[:, d]] + off**2) / model.deviations[k, d] ** 2
            close(means.grad[k, d], (r[:, k] * off).sum() / model.deviations[k, d] ** 2, 1e-10)
            close(logs.grad[k, d], (r[:, k] * (square - 1)).sum(), 1e-10)


@SOME
@given(SIZES, LEVELS, PULLS, SEEDS)
def test_a_step_never_lowers_the_penalised_likelihood(components, levels, pull, seed):
    model, x = mixture(components, (2,), levels, seed), pictures(20, (2,), levels, seed)
    counts = 3 * torch.rand(20, generator=seeded(seed), dtype=REAL)
    heights = climb(model, x, 6, tol=0, pull=pull, counts=counts)[1]
    assert all(b >= a - 1e-10 * abs(a) for a, b in pairwise(heights))


def test_without_a_pull_the_likelihood_rises():
    x = pictures(60, (3,), 9)
    model, heights = climb(mixture(2, (3,), 9, 5), x, 30, tol=0, pull=0.0)
    close(torch.tensor(heights[-1], dtype=REAL), model.log_prob(x).sum(), 1e-10)
    assert all(b >= a - 1e-10 for a, b in pairwise(heights))
    assert heights[-1] > heights[0] + 1


@SOME
@given(SIZES, LEVELS, PULLS, SEEDS)
def test_the_slope_is_zero_where_a_step_rests_and_nowhere_else(components, levels, pull, seed):
    """The slope of what a step raises is the step itself, but for positive factors."""
    model, x = mixture(components, (2,), levels, seed), pictures(20, (2,), levels, seed)
    counts = 3 * torch.rand(20, generator=seeded(seed), dtype=REAL)
    free, (means, logs, scores) = raw(model)
    free.penalised(x, pull, counts=counts).backward()
    new, rows = model.improved(x, pull, counts=counts), counts @ model.responsibilities(x) + pull
    variance, shift = model.deviations**2, new.means - model.means
    close(means.grad, rows[:, None] * shift / variance, 1e-9)
    close(logs.grad, rows[:, None] * ((new.deviations**2 + shift**2) / variance - 1), 1e-8)
    close(scores.grad, counts.sum() * (new.weights - model.weights), 1e-10)


def test_the_step_by_hand():
    x, model, pull = pictures(6), mixture(2), 0.7
    new, r, (y, variance) = model.improved(x, pull), model.responsibilities(x), model.unrounded()
    for k in range(2):
        close(new.weights[k], r[:, k].mean())
        for d in range(2):
            column = x[:, d].to(REAL)
            m, s = column.mean(), column.var(correction=0) + 1 / 12
            rows = r[:, k].sum() + pull
            mean = ((r[:, k] * y[k, d, x[:, d]]).sum() + pull * m) / rows
            square = variance[k, d, x[:, d]] + (y[k, d, x[:, d]] - mean) ** 2
            close(new.means[k, d], mean)
            close(
                new.deviations[k, d] ** 2,
                ((r[:, k] * square).sum() + pull * (s + (m - mean) ** 2)) / rows,
            )


def test_the_prior_is_further_rows_of_the_data():
    """Its log is a times the mean log density that numbers with the data's mean and variance have."""
    x, model = pictures(30), mixture(2)
    prior = model.penalised(x, 2.5) - model.penalised(x, 0.0)
    column = x.to(REAL)
    spread = math.sqrt(3) * (column.var(0, correction=0) + 1 / 12).sqrt()
    nodes = torch.tensor([-1.0, 0.0, 1.0], dtype=REAL)[
        :, None
    ]  # three points have the mean and variance of all
    y, share = column.mean(0) + nodes * spread, torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=REAL)
    law = torch.distributions.Normal(model.means[:, None], model.deviations[:, None])
    close(prior, 2.5 * (share @ law.log_prob(y)).sum(), 1e-10)


def test_fine_levels_are_hardly_rounded():
    """One step is that of a mixture of normal laws; at rest the variance lacks 1/12 (Sheppard 1898)."""
    law = torch.tensor([90.0, 150.0]) + 12 * torch.randn(800, 2, generator=seeded())
    x = law.round().long()
    means = torch.tensor([[80.0, 140.0], [100.0, 160.0]], dtype=REAL)
    model = LevelMixture(means, torch.full((2, 2), 15.0, dtype=REAL), [0.4, 0.6], levels=256)
    new, y = model.improved(x, 0.0), x.to(REAL)
    normals = torch.distributions.Independent(torch.distributions.Normal(means, model.deviations), 1)
    r = (normals.log_prob(y[:, None]) + model.weights.log()).softmax(1)
    plain = r.T @ y / r.sum(0)[:, None]
    close(new.means, plain, 0.02)
    close(new.weights, r.mean(0), 1e-3)
    for k in range(2):
        variance = (r[:, k] @ (y - plain[k]) ** 2) / r[:, k].sum()
        close(new.deviations[k] ** 2, variance, 0.2)
    rest = climb(LevelMixture(means[:1], model.deviations[:1], levels=256), x, 20, tol=0, pull=0.0)[0]
    close(rest.means[0], y.mean(0), 1e-5)
    close(rest.deviations[0] ** 2, y.var(0, correction=0) - 1 / 12, 1e-3)


def test_one_component_is_the_rounded_normal_law():
    x = pictures(40, (3,), 5)
    model = LevelMixture.fit(x, 1, 50, 0.1, levels=5)
    law, v = stats.norm(model.means[0].numpy(), model.deviations[0].numpy()), x.numpy()
    upper, lower = law.cdf(v + 0.5), law.cdf(v - 0.5)
    upper[v == 4], lower[v == 0] = 1, 0
    close(model.log_prob(x).double(), torch.tensor(upper - lower).log().sum(1), 1e-4)
    close(model.weights, torch.ones(1), 0)


def test_two_levels_are_bits():
    model = mixture(2, (3,), 2)
    theta = torch.distributions.Normal(model.means, model.deviations).cdf(torch.tensor(0.5, dtype=REAL))
    close(model.log_table().exp(), torch.stack([theta, 1 - theta], -1))


def test_counts_are_repetitions():
    x, counts = pictures(12), torch.arange(12) % 3
    again = x.repeat_interleave(counts, 0)
    new, same = mixture().improved(x, 0.5, counts=counts), mixture().improved(again, 0.5)
    close(new.means, same.means)
    close(new.deviations, same.deviations)
    close(new.weights, same.weights)
    close(mixture().penalised(x, 0.5, counts=counts), mixture().penalised(again, 0.5), 1e-10)


def test_draws_have_the_exact_law():
    model, x = mixture(3, (2,), 4), everything(4, 2)
    drawn = model.sample((20_000,), generator=seeded(1))
    counts = torch.bincount(drawn @ torch.tensor([4, 1]), minlength=16)
    expected = 20_000 * model.log_prob(x).exp()
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 0.01


def test_a_known_mixture_is_recovered():
    means = torch.tensor([[1.0, 2.0, 6.0], [5.0, 7.0, 3.0]], dtype=REAL)
    deviations = torch.tensor([[1.0, 0.5, 1.5], [1.2, 2.0, 0.7]], dtype=REAL)
    truth = LevelMixture(means, deviations, [0.3, 0.7], levels=9)
    x, counts = truth.sample((20_000,), generator=seeded()).unique(dim=0, return_counts=True)
    found = LevelMixture.fit(x, 2, 100, levels=9, counts=counts.to(REAL), generator=seeded(1))
    order = found.weights.argsort()
    close(found.means[order], truth.means, 0.06)
    close(found.deviations[order], truth.deviations, 0.06)
    close(found.weights[order], truth.weights, 0.02)


def test_fit_is_steps_of_improved():
    x, pull = pictures(20, (2, 2)), 0.3
    start = LevelMixture.fit(x, 3, 0, levels=5, generator=seeded(2))
    again = LevelMixture.fit(x, 3, 2, pull, levels=5, generator=seeded(2))
    close(again.means, start.improved(x, pull).improved(x, pull).means, 0)
    rows = (start.means - 0.75 * x.float().mean(0)) / 0.25
    assert all((x - row).flatten(1).abs().sum(1).min() < 1e-4 for row in rows)
    close(start.deviations, (x.float().var(0, correction=0) + 1 / 12).sqrt().expand(3, 2, 2), 1e-6)
    assert start.event_shape == (2, 2)
    assert start.sample((3,), generator=seeded()).shape == (3, 2, 2)
    assert start.sample((3,)).dtype == torch.int64
    assert start.parameters_count == 2 + 2 * 3 * 4


def test_no_global_state():
    before = torch.get_rng_state()
    x = pictures()
    first, second = (LevelMixture.fit(x, 3, levels=5, generator=seeded(5)) for _ in range(2))
    close(first.means, second.means, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_component_without_rows():
    means = torch.tensor([[1.0], [1e4]], dtype=REAL)
    model = LevelMixture(means, torch.ones(2, 1, dtype=REAL), levels=4)
    x = torch.arange(3)[:, None]
    refused("component 1 has no rows left", model.improved, x, 0.0, error=RuntimeError)
    new = model.improved(x, 0.5)
    close(new.means[1], torch.ones(1, dtype=REAL))
    close(new.deviations[1] ** 2, torch.tensor([2 / 3 + 1 / 12], dtype=REAL))
    assert torch.isfinite(new.log_prob(x)).all()


def test_pixels_that_never_change_keep_a_width():
    x = torch.zeros(20, 2, dtype=torch.long)
    model, heights = climb(LevelMixture.fit(x, 2, 0, levels=17), x, 200, tol=0, pull=1.0)
    assert math.isfinite(heights[-1])
    assert model.deviations.min() > 0.05


def test_what_is_refused():
    model, x, flat = mixture(), pictures(), torch.ones(2, 3)
    for job in (model.log_prob, model.responsibilities, model.loss, model.improved, model.penalised):
        refused("x must hold whole numbers", job, torch.zeros(2, 2))
        refused("x must lie between 0 and 4", job, torch.full((2, 2), 5))
        refused("x must have shape (..., 2)", job, torch.zeros(2, 3, dtype=torch.long))
        refused("x must have shape (B, 2)", job, torch.zeros(2, dtype=torch.long))
    refused("x must be a tensor of shape (n, *E)", LevelMixture.fit, x[:0], 1, levels=5)
    refused("x must be a tensor of shape (n, *E)", LevelMixture.fit, [[1]], 1, levels=5)
    refused("x must lie between 0 and 3", LevelMixture.fit, torch.full((2, 2), 4), 1, levels=4)
    refused("levels must be a whole number of at least 2", LevelMixture.fit, x, 1, levels=1)
    refused("levels must be a whole number of at least 2", LevelMixture, flat, flat, levels=1)
    refused("components must be at most the 40 rows", LevelMixture.fit, x, 41, levels=5)
    refused("steps must be a whole number", LevelMixture.fit, x, 2, -1, levels=5)
    refused("pull must be", model.improved, x, -1.0)
    refused("pull must be", model.penalised, x, -1.0)
    refused("counts must hold 40 numbers", model.improved, x, counts=torch.ones(3))
    refused("means must have shape (K, *E)", LevelMixture, torch.tensor(1.0), torch.tensor(1.0), levels=3)
    refused("means must hold finite numbers", LevelMixture, flat / 0, flat, levels=3)
    refused("deviations must have the shape of means", LevelMixture, flat, torch.ones(2), levels=3)
    refused("deviations must be above 0, got 0", LevelMixture, flat, 0 * flat, levels=3)
    refused("weights must have shape (2,)", LevelMixture, flat, flat, [1.0], levels=3)
    refused("shape must be", model.sample, 3)
