"""Scores: traces and losses against quadrature, the levels and the model."""

import itertools
import math
import re
import subprocess
import sys

import pytest
import torch
from exactness import FEW, REAL, STEADY, close, seeded
from hypothesis import given
from hypothesis import strategies as st
from test_samplers import annealed_variance
from torch import nn
from torch.distributions import Normal

from genlib import score as module
from genlib.data import GaussianMixture
from genlib.samplers import annealed_langevin
from genlib.score import (
    ScoreModel,
    denoise,
    denoising_loss,
    geometric_levels,
    hutchinson,
    implicit_loss,
    sliced_loss,
    trace,
)

pytestmark = pytest.mark.usefixtures("double")

SEEDS = st.integers(0, 10**6)
SIGMAS = st.floats(0.05, 5.0)
EVENTS = [(1,), (2,), (2, 3), (1, 2, 2)]
NO_NUMBERS_ABOVE_0 = [0, 0.0, -1.0, math.nan, math.inf, True, None, "1", torch.ones(2)]
NO_COUNTS = [0, -1, 2.0, True, None, "2"]
NO_BATCHES = [
    (torch.ones(3), "must have shape (B, *E) with at least two dimensions, got (3,)"),
    (torch.ones(()), "must have shape (B, *E) with at least two dimensions, got ()"),
    (torch.ones(3, 2, dtype=torch.int64), "must be a tensor of real numbers, got torch.int64"),
    ([[1.0, 2.0]], "must be a tensor of real numbers, got list"),
    (torch.tensor([[1.0, math.nan]]), "must hold finite numbers, got NaN or infinity"),
    (torch.tensor([[1.0, math.inf]]), "must hold finite numbers, got NaN or infinity"),
]


def draws(shape, seed=0, spread=1.0):
    return spread * torch.randn(shape, generator=seeded(seed), dtype=REAL)


def a_net(event=(2,), seed=0):
    """A smooth score (B, *E) → (B, *E)."""
    torch.manual_seed(seed)
    size = math.prod(event)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size, 5), nn.Tanh(), nn.Linear(5, size), nn.Unflatten(1, event)
    )


class Timed(nn.Module):
    """A smooth network of x and log σ."""

    def __init__(self, event=(2,), seed=0):
        super().__init__()
        self.net = a_net(event, seed)
        self.event = event
        self.tilt = nn.Parameter(torch.tensor(0.3))

    def forward(self, x, log_sigma):
        assert log_sigma.shape == x.shape[:1]
        assert x.shape[1:] == self.event
        column = log_sigma.reshape(-1, *[1] * len(self.event))
        return self.net(x) * (1 + self.tilt * column.sin())


class Zero(nn.Module):
    def forward(self, x, log_sigma):
        return torch.zeros_like(x)


def linear(matrix):
    return lambda x: (x.flatten(1) @ matrix.T).reshape(x.shape)


def normal(variance):
    """The score of normal data, with no noise level."""
    return lambda x: -x / variance


def noisy_normal(variance):
    return lambda x, sigma: -x / (variance + sigma**2)


def jacobian_trace(score, x):
    def one(x):
        return score(x[None])[0]

    jacobians = torch.stack([torch.autograd.functional.jacobian(one, example) for example in x])
    size = x[0].numel()
    return jacobians.reshape(len(x), size, size).diagonal(dim1=1, dim2=2).sum(1)


def about(values, expected, errors=5.0):
    """The mean of independent values is what is expected, within Monte Carlo error."""
    values = values.flatten()
    error = values.std() / math.sqrt(len(values))
    assert abs(values.mean() - expected) < errors * error, (values.mean(), expected, error)


def line(low, high, size):
    """Nodes (size, 1) and the step of a sum that is exact for smooth densities that vanish at both ends."""
    nodes = torch.linspace(low, high, size)
    return nodes[:, None], nodes[1] - nodes[0]


WELLS = GaussianMixture(torch.tensor([[-1.0], [1.2]], dtype=REAL), torch.tensor([0.5, 0.7]), [0.4, 0.6])


# the trace


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("seed", range(2))
def test_trace_is_that_of_the_jacobian(event, seed):
    net, x = a_net(event, seed), draws((4, *event), seed + 1)
    t = trace(net, x)
    assert t.shape == (4,)
    close(t, jacobian_trace(net, x))
    for k in range(4):  # each example has its own
        close(trace(net, x[k : k + 1]), t[k : k + 1])


@STEADY
@given(SEEDS, st.integers(1, 5))
def test_trace_of_a_linear_score(seed, D):
    A, x = draws((D, D), seed), draws((3, D), seed + 1)
    close(trace(linear(A), x), A.trace().expand(3))


def test_trace_of_a_known_field():
    x = draws((5, 2))
    a, b = x.T
    close(trace(lambda x: torch.stack([x[:, 0] ** 3 * x[:, 1], x.prod(1).sin()], 1), x),
          3 * a**2 * b + a * (a * b).cos())  # fmt: skip


@pytest.mark.parametrize("event", [(2,), (2, 3)])
def test_losses_can_be_differentiated_in_the_parameters(event):
    net, x = a_net(event), draws((3, *event), 1)
    names, values = zip(*net.named_parameters(), strict=True)
    inputs = [value.detach().clone().requires_grad_() for value in values]

    def under(loss):
        def paid(*values):
            torch.manual_seed(0)
            parameters = dict(zip(names, values, strict=True))
            return loss(lambda x: torch.func.functional_call(net, parameters, (x,)), x)

        return paid

    for loss in (trace, hutchinson, implicit_loss, sliced_loss, lambda s, x: denoising_loss(s, x, 0.7)):
        assert torch.autograd.gradcheck(under(loss), inputs)
        gradients = torch.autograd.grad(under(loss)(*inputs).sum(), inputs, allow_unused=True)
        last = gradients[-1]
        assert (last is None or not last.any()) == (loss in (trace, hutchinson))  # a shift has no trace
        assert all(gradient.any() for gradient in gradients[:-1])


@pytest.mark.parametrize("measure", [trace, hutchinson, implicit_loss, sliced_loss])
def test_traces_need_no_gradient_mode_and_leave_their_input_alone(measure):
    net, x = a_net(), draws((3, 2))
    before = x.clone()
    torch.manual_seed(0)
    expected = measure(net, x)
    with torch.no_grad():
        torch.manual_seed(0)
        close(measure(net, x), expected)
        assert not torch.is_grad_enabled()
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert all(p.grad is None for p in net.parameters())
    asks = x.clone().requires_grad_()
    torch.manual_seed(0)
    close(measure(net, asks), expected)
    assert asks.grad is None


@pytest.mark.parametrize("event", [(1,), (2,), (3,), (2, 2)])
def test_hutchinson_over_all_signs_is_the_trace(event, monkeypatch):
    net, x, size = a_net(event), draws((3, *event)), math.prod(event)
    every = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=size))).reshape(-1, 1, *event)
    signs = iter(every)
    monkeypatch.setattr(module, "_signs", lambda like: next(signs).expand_as(like))
    estimate = hutchinson(net, x, len(every))
    close(estimate, trace(net, x))
    assert next(signs, None) is None  # each was asked once
    for probes in (1, 2):  # one probe after the other: they average
        signs = iter(every)
        parts = [hutchinson(net, x, probes) for _ in range(len(every) // probes)]
        close(torch.stack(parts).mean(0), trace(net, x))


def test_signs_are_signs():
    for dtype in (torch.float32, REAL):
        signs = module._signs(torch.zeros(4000, 2, 3, dtype=dtype))
        assert (signs.dtype, signs.shape) == (dtype, (4000, 2, 3))
        assert signs.unique().tolist() == [-1, 1]
        assert abs(signs.mean()) < 5 / math.sqrt(signs.numel())
        assert abs((signs[:, 0] * signs[:, 1]).mean()) < 5 / math.sqrt(signs.numel() / 2)


@pytest.mark.parametrize("probes", [1, 4])
def test_hutchinson_is_unbiased_with_the_variance_of_what_lies_off_the_diagonal(probes):
    A = torch.tensor([[1.0, 0.5, -0.2], [0.1, -2.0, 0.4], [0.9, 0.3, 0.7]])
    S = (A + A.T) / 2
    torch.manual_seed(0)
    estimates = hutchinson(linear(A), torch.zeros(20_000, 3), probes)
    about(estimates, A.trace())
    expected = 2 * (S.square().sum() - S.diagonal().square().sum()) / probes
    about((estimates - A.trace()) ** 2, expected)
    close(hutchinson(linear(S.diagonal().diag()), torch.zeros(3, 3), probes), S.trace().expand(3))


@pytest.mark.parametrize("probes", NO_COUNTS)
def test_probes_are_a_whole_number(probes):
    for measure in (hutchinson, sliced_loss):
        with pytest.raises(ValueError, match="^probes must be a whole number of at least 1, got "):
            measure(a_net(), draws((3, 2)), probes)


@pytest.mark.parametrize(
    "measure", [trace, hutchinson, implicit_loss, sliced_loss, lambda s, x: denoising_loss(s, x, 1.0)]
)
def test_losses_refuse_what_is_no_batch_and_scores_of_another_shape(measure):
    for x, says in NO_BATCHES:
        with pytest.raises(ValueError, match=f"^x {re.escape(says)}"):
            measure(lambda x: x, x)
    for score, got in (
        (lambda x: x.sum(1), "(3,)"),
        (lambda x: x[:, :1], "(3, 1)"),
        (lambda x: 0.0, "float"),
    ):
        with pytest.raises(ValueError, match=f"^score must return shape {re.escape(f'(3, 2), got {got}')}$"):
            measure(score, draws((3, 2)))


# the losses


def test_implicit_loss_is_the_trace_and_half_the_square():
    net, x = a_net((2, 3)), draws((4, 2, 3))
    square = net(x).square().sum((1, 2))
    close(implicit_loss(net, x), jacobian_trace(net, x) + square / 2)
    torch.manual_seed(0)
    estimate = hutchinson(net, x, 3)
    torch.manual_seed(0)
    close(sliced_loss(net, x, 3), estimate + square / 2)
    torch.manual_seed(1)
    once = hutchinson(net, x, 1)
    torch.manual_seed(1)
    close(sliced_loss(net, x), once + square / 2)


@FEW
@given(SEEDS)
def test_implicit_loss_by_parts(seed):
    """Hyvärinen 2005, theorem 1: the Fisher divergence less a constant of the data."""
    net = a_net((1,), seed)
    x, step = line(-9, 10, 2001)
    p, slope = WELLS.log_prob(x).exp() * step, WELLS.score(x)
    divergence = 0.5 * p @ (net(x) - slope).square()[:, 0]
    constant = 0.5 * p @ slope.square()[:, 0]
    close(p @ implicit_loss(net, x) + constant, divergence, 1e-8)


def test_implicit_loss_of_a_linear_score_is_least_at_minus_the_inverse_covariance():
    root = torch.tensor([[1.0, 0.4, 0.0], [0.0, 0.7, -0.5], [0.2, 0.0, 1.3]])
    covariance = root @ root.T
    points = math.sqrt(3) * torch.cat([root.T, -root.T])  # their covariance is exactly that
    close(points.T @ points / len(points), covariance)
    A = (-torch.linalg.inv(covariance)).requires_grad_()
    least = implicit_loss(linear(A), points).mean()
    close(least, -0.5 * torch.linalg.inv(covariance).trace())
    (gradient,) = torch.autograd.grad(least, A)
    close(gradient, torch.zeros(3, 3), 1e-12)
    other = A.detach() + draws((3, 3), spread=0.1)
    assert implicit_loss(linear(other), points).mean() > least


@FEW
@given(SEEDS, st.sampled_from(EVENTS), SIGMAS)
def test_denoising_loss_is_its_formula(seed, event, sigma):
    net, x = a_net(event, seed), draws((4, *event), seed)
    several = 0.1 + draws(4, seed).abs()
    for level in (sigma, torch.tensor(sigma), several):
        torch.manual_seed(seed)
        loss = denoising_loss(net, x, level)
        torch.manual_seed(seed)
        eps = torch.randn_like(x)
        assert loss.shape == (4,)
        for k in range(4):
            s = float(torch.as_tensor(level).expand(4)[k])
            value = net((x[k] + s * eps[k])[None])[0]
            close(loss[k], 0.5 * sum((a + e / s) ** 2 for a, e in zip(value.flatten(), eps[k].flatten(), strict=True)),
                  1e-9)  # fmt: skip


def test_denoising_loss_draws_fresh_noise():
    x = torch.zeros(1000, 2)
    torch.manual_seed(0)
    first, second = (denoising_loss(lambda x: 0 * x, x, 1.0) for _ in range(2))
    assert not torch.equal(first, second)
    about(first, 1.0)  # ½ E‖ε‖², as many degrees of freedom as numbers
    about(second, 1.0)


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_denoising_teaches_the_score_of_the_noised_data(sigma, monkeypatch):
    """Vincent 2011: its slope in the parameters is that of the explicit objective, of the noised density."""
    a = torch.tensor([0.3, -0.8, 0.2], requires_grad=True)

    def score(x):
        return a[0] + a[1] * x + a[2] * (2 * x).sin()

    x, x_step = line(-6, 7.5, 271)
    eps, eps_step = line(-8, 8, 321)
    pairs = torch.cartesian_prod(x[:, 0], eps[:, 0])
    weight = (WELLS.log_prob(pairs[:, :1]) + Normal(0.0, 1.0).log_prob(pairs[:, 1])).exp() * x_step * eps_step
    monkeypatch.setattr(torch, "randn_like", lambda like: pairs[:, 1:])
    loss = weight @ denoising_loss(score, pairs[:, :1], sigma)
    y, y_step = line(-14, 15, 4001)
    noised = WELLS.noised(sigma)
    q, slope = noised.log_prob(y).exp() * y_step, noised.score(y)
    explicit = 0.5 * q @ (score(y) - slope).square()[:, 0]
    constant = 0.5 * (1 / sigma**2 - q @ slope.square()[:, 0])
    close(loss, explicit + constant, 1e-8)
    (ours,), (theirs,) = (torch.autograd.grad(value, a) for value in (loss, explicit))
    close(ours, theirs, 1e-8)


@pytest.mark.parametrize(("D", "variance", "sigma"), [(1, 1.0, 0.5), (2, 0.3, 1.0), (2, 2.0, 0.2)])
def test_what_is_left_of_the_denoising_loss_at_the_exact_score(D, variance, sigma, monkeypatch):
    node, weight = (
        torch.tensor([-math.sqrt(3), 0, math.sqrt(3)]),
        torch.tensor([1 / 6, 2 / 3, 1 / 6]),
    )  # Gauss
    points = torch.cartesian_prod(*[node] * (2 * D))
    weights = torch.cartesian_prod(*[weight] * (2 * D)).prod(1)
    monkeypatch.setattr(torch, "randn_like", lambda like: points[:, D:])
    loss = denoising_loss(normal(variance + sigma**2), math.sqrt(variance) * points[:, :D], sigma)
    close(weights @ loss, 0.5 * (D / sigma**2 - D / (variance + sigma**2)), 1e-10)


@pytest.mark.parametrize(
    ("sigma", "says"),
    [
        (0.0, "must be above 0, got 0"),
        (-1.5, "must be above 0, got -1.5"),
        (torch.tensor([1.0, 0.0, 1.0]), "must be above 0, got 0"),
        (torch.tensor([1.0, 2.0, -3.0]), "must be above 0, got -3"),
        (math.nan, "must hold finite numbers, got NaN or infinity in nan"),
        (math.inf, "must hold finite numbers, got NaN or infinity in inf"),
        (torch.ones(2), "must be one number or have shape (3,), got (2,)"),
        (torch.ones(1), "must be one number or have shape (3,), got (1,)"),
        (torch.ones(3, 1), "must be one number or have shape (3,), got (3, 1)"),
        ("a", "must hold numbers, got 'a'"),
        (None, "must hold numbers, got None"),
    ],
)
def test_sigma_is_refused(sigma, says):
    x, model = draws((3, 2)), ScoreModel(Zero(), (2,), [1.0])
    for call in (
        lambda: denoising_loss(lambda x: x, x, sigma),
        lambda: denoise(lambda x: x, x, sigma),
        lambda: model.score(x, sigma),
    ):
        with pytest.raises(ValueError, match=f"^sigma {re.escape(says)}$"):
            call()


@STEADY
@given(SEEDS, st.integers(1, 4), st.integers(1, 3), SIGMAS)
def test_denoise_is_the_mean_given_the_noisy_point(seed, components, D, sigma):
    means, scale = draws((components, D), seed, 2.0), 0.2 + draws(components, seed + 1).abs()
    weights = torch.softmax(draws(components, seed + 2), 0)
    y = draws((5, D), seed + 3, 2.0)
    wide = (scale**2 + sigma**2).sqrt()
    posterior = (weights.log() + Normal(means, wide[:, None]).log_prob(y[:, None]).sum(-1)).softmax(
        1
    )  # (B, K)
    kept = (scale**2 / wide**2)[:, None]
    each = means + kept * (y[:, None] - means)  # (B, K, D)
    expected = (posterior[..., None] * each).sum(1)
    source = GaussianMixture(means, scale, weights)
    close(denoise(source.noised(sigma).score, y, sigma), expected)


def test_denoise_takes_a_level_for_each_example_and_any_shape():
    x, sigma = draws((3, 2, 2)), torch.tensor([0.5, 1.0, 2.0])
    result = denoise(lambda x: x + 1, x, sigma)
    for k in range(3):
        close(result[k], x[k] + sigma[k] ** 2 * (x[k] + 1))
    with pytest.raises(ValueError, match=r"^score must return shape \(3, 2, 2\), got \(3,\)$"):
        denoise(lambda x: x[:, 0, 0], x, 1.0)


# the levels


@STEADY
@given(st.floats(1e-3, 1e3), st.floats(1.01, 1e4), st.integers(2, 30))
def test_geometric_levels_fall_by_the_same_share(last, ratio, count):
    first = last * ratio
    levels = geometric_levels(first, last, count)
    assert (levels.shape, levels.dtype) == ((count,), REAL)
    torch.testing.assert_close(levels[0].item(), first, rtol=0, atol=0)
    torch.testing.assert_close(levels[-1].item(), last, rtol=1e-15, atol=0)
    share = (last / first) ** (1 / (count - 1))
    torch.testing.assert_close(levels[1:] / levels[:-1], torch.full((count - 1,), share), rtol=1e-12, atol=0)


def test_geometric_levels_have_the_default_dtype_and_exact_ends():
    torch.set_default_dtype(torch.float32)
    try:
        for first, last, count in ((10.0, 0.01, 10), (3, 0.1, 7), (49.0, 1.0, 2)):
            levels = geometric_levels(first, last, count)
            assert levels.dtype == torch.float32
            assert levels[0] == torch.tensor(first, dtype=torch.float32)
            assert levels[-1] == torch.tensor(last, dtype=torch.float32)
    finally:
        torch.set_default_dtype(REAL)
    close(geometric_levels(4.0, 1.0, 3), [4.0, 2.0, 1.0])


def test_geometric_levels_refuse():
    for bad in NO_NUMBERS_ABOVE_0:
        with pytest.raises(ValueError, match="^first must be a "):
            geometric_levels(bad, 0.1, 3)
        with pytest.raises(ValueError, match="^last must be a "):
            geometric_levels(1.0, bad, 3)
    for first, last in ((1.0, 1.0), (0.5, 1.0)):
        says = f"first must be above last, so that the levels fall, got {first} and {last}"
        with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
            geometric_levels(first, last, 3)
    for count in [1, *NO_COUNTS]:
        with pytest.raises(ValueError, match="^count must be a whole number of at least 2, got "):
            geometric_levels(1.0, 0.1, count)


NO_LEVELS = [
    ([], "must have shape (L,) with L at least 1, got (0,)"),
    (1.0, "must have shape (L,) with L at least 1, got ()"),
    ([[2.0, 1.0]], "must have shape (L,) with L at least 1, got (1, 2)"),
    ([1.0, 1.0], "must fall and stay above 0, got [1.0, 1.0]"),
    ([1.0, 2.0], "must fall and stay above 0, got [1.0, 2.0]"),
    ([3.0, 1.0, 2.0], "must fall and stay above 0, got [3.0, 1.0, 2.0]"),
    ([1.0, 0.0], "must fall and stay above 0, got [1.0, 0.0]"),
    ([1.0, -1.0], "must fall and stay above 0, got [1.0, -1.0]"),
    ([2.0, math.nan], "must hold finite numbers, got NaN or infinity in [2.0, nan]"),
    ([math.inf, 1.0], "must hold finite numbers, got NaN or infinity in [inf, 1.0]"),
    ("a", "must hold numbers, got 'a'"),
    (None, "must hold numbers, got None"),
]


@pytest.mark.parametrize(("levels", "says"), NO_LEVELS)
def test_levels_are_refused(levels, says):
    for call in (
        lambda: ScoreModel(Zero(), (2,), levels),
        lambda: annealed_langevin(noisy_normal(1.0), draws((3, 2)), levels),
    ):
        with pytest.raises(ValueError, match=f"^levels {re.escape(says)}$"):
            call()


# the model


@STEADY
@given(SEEDS, st.sampled_from(EVENTS), SIGMAS, st.floats(0.1, 5.0))
def test_without_a_correction_the_score_is_that_of_normal_data(seed, event, sigma, spread):
    model, x = ScoreModel(Zero(), event, [2.0, 1.0], spread), draws((3, *event), seed)
    expected = -x / (spread**2 + sigma**2)
    close(model.score(x, sigma), expected, 1e-13 * (1 + expected.abs().max()))


@STEADY
@given(SEEDS, st.sampled_from(EVENTS), SIGMAS, st.floats(0.1, 5.0), st.floats(0.1, 5.0))
def test_the_right_correction_gives_the_score_of_normal_data_of_another_variance(
    seed, event, sigma, spread, s
):
    class Right(nn.Module):
        def forward(self, u, log_sigma):  # u = x / r
            sigma = log_sigma.exp().reshape(-1, *[1] * len(event))
            return sigma / spread * u * (1 - (spread**2 + sigma**2) / (s**2 + sigma**2))

    model, x = ScoreModel(Right(), event, [2.0, 1.0], spread), draws((3, *event), seed)
    expected = -x / (s**2 + sigma**2)
    tolerance = 1e-11 * (1 + x.abs().max().item() / min(spread, s) ** 2)
    close(model.score(x, sigma), expected, tolerance)
    close(model.score(x, torch.full((3,), sigma)), expected, tolerance)


def test_the_network_sees_numbers_of_size_1_and_the_logarithm_of_the_level():
    seen = []

    class Spy(nn.Module):
        def forward(self, x, log_sigma):
            seen.append((x, log_sigma))
            return torch.ones_like(x)

    model, x = ScoreModel(Spy(), (2, 2), [1.0], 3.0), draws((3, 2, 2))
    sigma = torch.tensor([4.0, 1.0, 0.5])
    score = model.score(x, sigma)
    ((u, log_sigma),) = seen
    r = torch.tensor([5.0, math.sqrt(10), math.sqrt(9.25)])
    close(log_sigma, sigma.log())
    for k in range(3):
        close(u[k], x[k] / r[k])
        close(score[k], -x[k] / r[k] ** 2 + 3 / (sigma[k] * r[k]))
    model.score(x, 4.0)
    close(seen[1][1], torch.full((3,), math.log(4.0)))
    assert ScoreModel(Spy(), (2,), [1.0]).spread == 1.0


@pytest.mark.parametrize("event", EVENTS)
def test_a_level_and_the_same_level_for_each_example(event):
    model, x = ScoreModel(Timed(event), event, [2.0, 1.0], 0.7), draws((4, *event))
    score = model.score(x, 0.6)
    assert score.shape == x.shape
    close(model.score(x, torch.tensor(0.6)), score)
    close(model.score(x, torch.full((4,), 0.6)), score)
    several = torch.tensor([0.2, 0.6, 1.0, 3.0])
    score = model.score(x, several)
    for k in range(4):
        close(model.score(x[k : k + 1], several[k].item()), score[k : k + 1])
        close(model.score(x[k : k + 1], several[k : k + 1]), score[k : k + 1])


@pytest.mark.parametrize("event", EVENTS)
def test_loss_is_denoising_at_levels_drawn_evenly(event):
    levels = torch.tensor([3.0, 1.0, 0.4])
    model, x = ScoreModel(Timed(event), event, levels, 0.8), draws((6, *event))
    torch.manual_seed(3)
    loss = model.loss(x)
    torch.manual_seed(3)
    sigma = levels[torch.randint(3, (6,))]
    eps = torch.randn_like(x)
    assert len(sigma.unique()) > 1
    assert loss.shape == (6,)
    for k in range(6):
        s = sigma[k]
        off = model.score((x[k] + s * eps[k])[None], s.item())[0] + eps[k] / s
        close(loss[k], s**2 * off.square().sum() / 2)


def test_loss_meets_every_level_equally_often():
    levels = torch.tensor([3.0, 1.0, 0.4])
    model, n = ScoreModel(Zero(), (1,), levels), 30_000
    seen = []
    model.net.forward = lambda x, log_sigma: seen.append(log_sigma) or torch.zeros_like(x)
    torch.manual_seed(0)
    model.loss(torch.zeros(n, 1))
    for level in levels:
        about(((seen[0] - level.log()).abs() < 1e-12).double(), 1 / 3)


def test_loss_of_the_exact_score_is_known():
    model = ScoreModel(Zero(), (3,), [0.5], 2.0)  # exact for normal data of deviation 2
    torch.manual_seed(0)
    about(model.loss(2 * torch.randn(20_000, 3)), 0.5 * 3 * 4 / 4.25)


@pytest.mark.parametrize("event", EVENTS)
def test_gradient_reaches_every_parameter(event):
    model = ScoreModel(Timed(event), event, [2.0, 1.0])
    model.loss(draws((8, *event))).sum().backward()
    assert list(dict(model.named_parameters())) == [
        f"net.{name}" for name, _ in Timed(event).named_parameters()
    ]
    assert all(p.grad.any() and p.grad.isfinite().all() for p in model.parameters())


def test_loss_refuses_what_is_no_batch_and_a_network_of_another_shape():
    model = ScoreModel(Zero(), (2,), [1.0])
    for x, says in NO_BATCHES:
        with pytest.raises(ValueError, match=f"^x {re.escape(says)}"):
            model.loss(x)
    model.net.forward = lambda x, log_sigma: x[:, :1]
    for call in (lambda: model.loss(draws((3, 2))), lambda: model.score(draws((3, 2)), 1.0)):
        with pytest.raises(ValueError, match=r"^net must return shape \(3, 2\), got \(3, 1\)$"):
            call()


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
@pytest.mark.parametrize("event", EVENTS)
def test_sample_has_the_shape_and_the_dtype_of_the_model(event, dtype):
    model = ScoreModel(Timed(event), event, [2.0, 1.0]).to(dtype)
    x = model.sample((3,), steps=2)
    assert (x.shape, x.dtype, x.requires_grad) == ((3, *event), dtype, False)
    assert x.device == model.levels.device
    assert x.isfinite().all()
    assert model.levels.dtype == dtype
    score = model.score(x, 0.5)
    assert (score.dtype, score.requires_grad) == (dtype, True)
    assert model.loss(x).dtype == dtype


def test_sample_is_annealed_from_noise_of_the_first_level():
    model = ScoreModel(Timed(), (2,), [3.0, 1.0, 0.4], 0.6)
    for settings in ({}, {"steps": 3}, {"steps": 3, "step": 0.3}, {"step": 0.02}):
        torch.manual_seed(1)
        x = model.sample((4,), **settings)
        torch.manual_seed(1)
        start = 3.0 * torch.randn(4, 2)
        expected = annealed_langevin(
            model.score, start, [3.0, 1.0, 0.4], **({"steps": 20, "step": 0.1} | settings)
        )
        assert torch.equal(x, expected)
    assert torch.is_grad_enabled()
    for shape in ((0,), (2, 2), (), 3, (2.0,), (-1,)):
        with pytest.raises(ValueError, match="shape"):
            model.sample(shape)


def test_sample_draws_normal_data():
    s, levels = 1.5, [4.0, 1.5, 0.5, 0.2]
    model = ScoreModel(Zero(), (1,), levels, s)
    torch.manual_seed(0)
    x = model.sample((60_000,), 10, 0.3)
    about(x, 0.0)
    about(x**2, annealed_variance(s**2, levels, 10, 0.3, levels[0] ** 2))


def test_state_dict_holds_the_levels():
    first = ScoreModel(Timed(seed=1), (2,), [3.0, 1.0])
    second = ScoreModel(Timed(seed=2), (2,), [5.0, 4.0])
    assert "levels" in first.state_dict()
    assert first.levels.tolist() == [3.0, 1.0]
    second.load_state_dict(first.state_dict())
    assert second.levels.tolist() == [3.0, 1.0]
    x = draws((3, 2))
    close(second.score(x, 0.5), first.score(x, 0.5))
    assert first.event_shape == (2,)
    assert isinstance(first.event_shape, torch.Size)
    assert ScoreModel(Zero(), [2, 3], [1.0]).event_shape == (2, 3)
    assert ScoreModel(Zero(), (2,), geometric_levels(2.0, 1.0, 3)).levels.shape == (3,)
    assert ScoreModel(Zero(), (2,), [3, 2, 1]).levels.dtype == REAL


@pytest.mark.parametrize("spread", NO_NUMBERS_ABOVE_0)
def test_spread_is_above_0(spread):
    with pytest.raises(ValueError, match="^spread must be a "):
        ScoreModel(Zero(), (2,), [1.0], spread)


def test_implicit_loss_can_be_differentiated_by_x():
    x = torch.randn(6, 1).requires_grad_()
    (slope,) = torch.autograd.grad(module.implicit_loss(lambda x: x**3, x).sum(), x)
    close(slope, (6 * x + 3 * x**5).detach())


def test_a_constant_score_has_trace_zero():
    constant = torch.randn(3)
    close(module.trace(lambda x: constant.expand_as(x), torch.randn(4, 3)), torch.zeros(4))
    assert module.trace(lambda x: 2 * x, torch.empty(0, 3)).shape == (0,)


def test_whole_numbers_are_refused():
    model = module.ScoreModel(torch.nn.Identity(), (2,), [2.0, 1.0])
    whole = torch.ones(3, 2, dtype=torch.int64)
    for ask in (lambda: model.score(whole, 1.5), lambda: module.denoise(lambda x: x, whole, 0.5)):
        with pytest.raises(ValueError, match="^x must be a tensor of real numbers"):
            ask()


def test_models_do_not_share_their_levels():
    levels = torch.tensor([2.0, 1.0])
    model = module.ScoreModel(torch.nn.Identity(), (2,), levels)
    model.levels.mul_(2)
    close(levels, torch.tensor([2.0, 1.0]))


def test_levels_that_rounding_makes_equal_are_refused():
    with pytest.raises(ValueError, match="^levels must fall"):
        module.geometric_levels(1.0, 1 - 1e-16 * 2, 4)
    assert module.geometric_levels(49.0, 1.0, 2)[-1] == 1


# the module


def test_importing_scores_needs_no_plotting():
    code = """
import sys, genlib.score
print([name for name in sys.modules if "matplotlib" in name or "plotting" in name or "IPython" in name])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)
    assert done.stdout == "[]\n", done.stderr


def test_the_trace_says_that_it_needs_gradients():
    for ask in (module.trace, module.hutchinson, module.implicit_loss, module.sliced_loss):
        with torch.inference_mode(), pytest.raises(RuntimeError, match="needs gradients, which torch"):
            ask(lambda x: -x, torch.zeros(2, 2))
