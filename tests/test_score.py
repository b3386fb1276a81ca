"""Scores: traces and losses against quadrature, the levels, and the dynamics against recursions that are exact."""

import inspect
import itertools
import math
import re
import subprocess
import sys

import pytest
import torch
from exactness import FEW, REAL, STEADY, close, double, seeded  # noqa: F401  (double is a fixture)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal

from genlib import samplers
from genlib import score as module
from genlib.data import GaussianMixture
from genlib.samplers import annealed_langevin, known, langevin, mala
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


# Langevin dynamics


@FEW
@given(SEEDS, st.sampled_from(EVENTS), st.floats(1e-3, 2.0), st.integers(1, 4))
def test_langevin_is_its_formula(seed, event, step, steps):
    net, x = a_net(event, seed), draws((3, *event), seed)
    before, seen = x.clone(), []
    torch.manual_seed(seed)
    result = langevin(net, x, steps, step, lambda k, points: seen.append((k, points.clone())))
    torch.manual_seed(seed)
    expected = x
    for k in range(1, steps + 1):
        with torch.no_grad():
            expected = expected + step * net(expected) + (2 * step) ** 0.5 * torch.randn_like(expected)
        assert seen[k - 1][0] == k
        close(seen[k - 1][1], expected)
    assert len(seen) == steps
    close(result, expected)
    assert torch.equal(x, before)
    assert result.shape == x.shape
    assert not result.requires_grad
    torch.manual_seed(seed)
    assert torch.equal(langevin(net, x, steps, step), result)


@pytest.mark.parametrize(("variance", "step"), [(1.0, 0.5), (0.5, 0.1), (2.0, 1.5)])
def test_langevin_is_left_with_a_variance_that_is_known(variance, step):
    torch.manual_seed(0)
    x = langevin(normal(variance), torch.zeros(40_000, 1), 60, step)
    about(x, 0.0)
    about(x**2, variance / (1 - step / (2 * variance)))


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
def test_walks_keep_the_dtype_and_need_no_gradient(dtype):
    net, x = a_net().to(dtype), draws((3, 2)).to(dtype)
    walks = (
        lambda x: langevin(net, x, 2, 0.1),
        lambda x: mala(lambda x: -0.5 * net(x).square().sum(1), x, 2, 0.1)[0],
        lambda x: annealed_langevin(lambda x, sigma: net(x), x, [1.0, 0.5], 2, 0.1),
    )
    for walk in walks:
        result = walk(x)
        assert (result.dtype, result.requires_grad, result.shape) == (dtype, False, x.shape)
        assert torch.is_grad_enabled()
        with torch.no_grad():
            walk(x)
            assert not torch.is_grad_enabled()
    assert all(p.grad is None for p in net.parameters())


def walks(x, steps=2, step=0.1):
    return {
        "langevin": lambda: langevin(normal(1.0), x, steps, step),
        "mala": lambda: mala(lambda x: -0.5 * x.square().sum(1), x, steps, step),
        "annealed_langevin": lambda: annealed_langevin(noisy_normal(1.0), x, [1.0, 0.5], steps, step),
    }


@pytest.mark.parametrize("name", walks(None))
def test_walks_refuse(name):
    x = draws((3, 2))
    for bad, says in NO_BATCHES:
        with pytest.raises(ValueError, match=f"^x {re.escape(says)}"):
            walks(bad)[name]()
    for steps in NO_COUNTS:
        with pytest.raises(ValueError, match="^steps must be a whole number of at least 1, got "):
            walks(x, steps)[name]()
    for step in NO_NUMBERS_ABOVE_0:
        with pytest.raises(ValueError, match="^step must be a .*above 0, got "):
            walks(x, 2, step)[name]()


def test_walks_refuse_scores_of_another_shape():
    x = draws((3, 2))
    for bad, got in ((x[:, 0], "(3,)"), (x[:, :1], "(3, 1)"), (x.T, "(2, 3)"), (None, "NoneType")):
        says = f"^score must return shape {re.escape(f'(3, 2), got {got}')}$"
        with pytest.raises(ValueError, match=says):
            langevin(lambda x, bad=bad: bad, x, 2, 0.1)
        with pytest.raises(ValueError, match=says):
            annealed_langevin(lambda x, sigma, bad=bad: bad, x, [1.0], 2, 0.1)


def failing(at, value, score):
    """A score that gives a bad value in one place the at-th time."""
    calls = itertools.count(1)

    def asked(x, *sigma):
        s = score(x, *sigma)
        if next(calls) == at:
            s = s.clone()
            s[-1, -1] = value
        return s

    return asked


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [1, 2, 5])
def test_langevin_names_the_step_whose_score_is_not_finite(at, value):
    x, seen = draws((3, 2)), []
    before = x.clone()
    with pytest.raises(RuntimeError, match=f"^the score is not finite at step {at} of 5$"):
        langevin(failing(at, value, normal(1.0)), x, 5, 0.1, lambda k, x: seen.append((k, x)))
    assert [k for k, _ in seen] == list(range(1, at))  # what came before was handed over
    assert all(points.isfinite().all() for _, points in seen)
    assert torch.equal(x, before)
    assert torch.is_grad_enabled()
    langevin(failing(6, value, normal(1.0)), x, 5, 0.1)  # asked as often as there are steps


# with a test of Metropolis


def mala_by_hand(log_prob, x, steps, step):
    accepted = []

    def slope(x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(log_prob(x).sum(), x)[0]

    for _ in range(steps):
        deviation = math.sqrt(2 * step)
        y = x + step * slope(x) + deviation * torch.randn_like(x)
        u = torch.rand(len(x))
        onward = Normal(x + step * slope(x), deviation).log_prob(y).flatten(1).sum(1)
        back = Normal(y + step * slope(y), deviation).log_prob(x).flatten(1).sum(1)
        accept = u < (log_prob(y) + back - log_prob(x) - onward).exp()
        x = torch.stack([b if yes else a for a, b, yes in zip(x, y, accept, strict=True)])
        accepted.append(accept.double())
    return x, torch.stack(accepted).mean().item()


@pytest.mark.parametrize("event", [(1,), (2,), (2, 2)])
@pytest.mark.parametrize("step", [0.05, 0.5, 1.5])
def test_mala_by_hand(event, step):
    def log_prob(x):
        x = x.flatten(1)
        return -(0.25 * x**4 - 0.5 * x**2 + 0.3 * x).sum(1) - 0.2 * x.prod(1).sin()

    x = draws((30, *event))
    before = x.clone()
    torch.manual_seed(4)
    result, share = mala(log_prob, x, 6, step)
    torch.manual_seed(4)
    expected, expected_share = mala_by_hand(log_prob, x, 6, step)
    close(result, expected, 1e-10)
    assert isinstance(share, float)
    assert 0 < share < 1
    close(share, expected_share)
    assert torch.equal(x, before)


def wells(x):
    return -((x**2 - 1) ** 2).sum(1)


def from_wells(n, seed=0):
    """Independent draws of the double well, by quadrature of its distribution function, (n, 1)."""
    nodes, _ = line(-3, 3, 20_001)
    cdf = wells(nodes).exp().cumsum(0)
    u = torch.rand(n, generator=seeded(seed), dtype=REAL) * cdf[-1]
    return nodes[torch.searchsorted(cdf, u)] + (nodes[1] - nodes[0]) * (
        torch.rand(n, 1, generator=seeded(seed + 1)) - 0.5
    )


def test_mala_leaves_the_target_as_it_is_where_langevin_does_not():
    nodes, _ = line(-3, 3, 2001)
    p = wells(nodes).softmax(0)
    moments = [(p @ nodes[:, 0] ** power).item() for power in (2, 4)]
    start, step = from_wells(40_000), 0.15
    for power, moment in zip((2, 4), moments, strict=True):
        about(start**power, moment)
    torch.manual_seed(0)
    x, share = mala(wells, start, 8, step)
    assert 0.3 < share < 0.97
    for power, moment in zip((2, 4), moments, strict=True):
        about(x**power, moment)
    off = langevin(lambda x: -4 * x * (x**2 - 1), start[:, :1].clamp(-1.6, 1.6), 1, step)
    assert abs((off**4).mean() - moments[1]) > 10 * (off**4).std() / math.sqrt(len(off))


def test_mala_with_a_big_step_reaches_the_normal_that_langevin_misses():
    torch.manual_seed(0)
    start = 0.3 * torch.randn(20_000, 2) + 0.5
    x, share = mala(lambda x: -0.5 * x.square().sum(1) + 7.0, start, 60, 1.0)
    about(x, 0.0)
    about(x[:, 0] ** 2, 1.0)
    about(x[:, 0] ** 4, 3.0)
    about(x[:, 0] * x[:, 1], 0.0)
    assert 0 < share < 1
    x = langevin(normal(1.0), start, 60, 1.0)
    about(x[:, 0] ** 2, 2.0)


def test_mala_is_in_detailed_balance():
    """In the stationary state a step and its reversal are equally frequent."""
    start = from_wells(60_000, 2)
    torch.manual_seed(1)
    x, _ = mala(wells, start, 1, 0.2)
    for f, g in ((lambda x: x, lambda x: x**3), (lambda x: x**2, lambda x: x**4), (lambda x: x, torch.sin),
                 (lambda x: (x > 1).double(), lambda x: (x < 0.3).double())):  # fmt: skip
        about(f(start) * g(x) - g(start) * f(x), 0.0)


def test_mala_accepts_almost_all_small_steps():
    x = from_wells(2000)
    shares = []
    for step in (1e-5, 1e-2, 0.1, 1.0):
        torch.manual_seed(0)
        shares.append(mala(wells, x, 3, step)[1])
    assert shares[0] > 0.999
    assert shares == sorted(shares, reverse=True)
    assert all(0 <= share <= 1 for share in shares)
    assert mala(lambda x: -1e6 * x.square().sum(1), torch.zeros(5, 1), 2, 1.0)[1] == 0


def test_mala_never_leaves_the_support():
    def half_normal(x):
        return torch.where(x > 0, -0.5 * x**2, -math.inf)[:, 0]

    torch.manual_seed(0)
    x, share = mala(half_normal, torch.randn(10_000, 1).abs(), 10, 0.5)
    assert (x > 0).all()
    assert 0 < share < 1
    about(x**2, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("at", "named"), [(1, 1), (2, 1), (3, 2), (6, 5)])
def test_mala_names_the_step_whose_score_is_not_finite(at, named, value):
    calls = itertools.count(1)

    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.bad = next(calls) == at
            return -0.5 * x.square().sum(1)

        @staticmethod
        def backward(ctx, gradient):
            return torch.full((3, 2), value) if ctx.bad else torch.zeros(3, 2)

    with pytest.raises(RuntimeError, match=f"^the score is not finite at step {named} of 5$"):
        mala(Bad.apply, draws((3, 2)), 5, 0.1)


def test_mala_asks_for_the_density_once_a_step():
    asked = []
    mala(lambda x: asked.append(1) or -0.5 * x.square().sum(1), draws((3, 2)), 4, 0.1)
    assert len(asked) == 5


def test_mala_keeps_no_graph(monkeypatch):
    seen, uniform = [], samplers.uniform
    monkeypatch.setattr(
        samplers, "uniform", lambda shape, like, g: seen.append(like) or uniform(shape, like, g)
    )
    mala(wells, draws((3, 1)), 3, 0.1)
    assert len(seen) == 3
    assert not any(values.requires_grad for values in seen)


# one noise level after the other


def annealed_variance(variance, levels, steps, step, start):
    """Of each number, for normal data and their exact scores: every step is linear."""
    for sigma in levels:
        total = variance + sigma**2
        for _ in range(steps):
            start = (1 - step * sigma**2 / total) ** 2 * start + 2 * step * sigma**2
    return start * (variance / total) ** 2


@FEW
@given(SEEDS, st.sampled_from(EVENTS), st.floats(0.1, 3.0), st.floats(0.01, 1.5), st.integers(1, 4))
def test_one_level_is_langevin_and_then_denoise(seed, event, sigma, step, steps):
    net, x = Timed(event, seed), draws((3, *event), seed)

    def score(x, sigma):
        return net(x, torch.full((len(x),), sigma).log())

    before = x.clone()
    torch.manual_seed(seed)
    result = annealed_langevin(score, x, [sigma], steps, step)
    torch.manual_seed(seed)
    points = langevin(lambda x: score(x, sigma), x, steps, step * sigma**2)
    with torch.no_grad():
        assert torch.equal(result, denoise(lambda x: score(x, sigma), points, sigma))
    assert torch.equal(x, before)


def test_levels_come_in_order_and_after_is_told():
    seen, told = [], []

    def score(x, sigma):
        assert isinstance(sigma, float)
        seen.append((sigma, x.clone()))
        return -x / (1 + sigma**2)

    levels = [3.0, 1.0, 0.25]
    torch.manual_seed(0)
    x = annealed_langevin(
        score, draws((4, 2)), torch.tensor(levels), 2, 0.2, after=lambda i, x: told.append((i, x))
    )
    assert [sigma for sigma, _ in seen] == [3.0, 3.0, 1.0, 1.0, 0.25, 0.25, 0.25]  # once more at the end
    assert [i for i, _ in told] == [1, 2, 3, 4]
    assert torch.equal(told[0][1], seen[2][1])
    assert torch.equal(told[1][1], seen[4][1])
    assert torch.equal(told[2][1], seen[6][1])  # what is left to denoise
    assert torch.equal(told[3][1], x)
    close(x, told[2][1] * (1 - 0.25**2 / (1 + 0.25**2)))


def test_annealing_has_defaults_for_steps():
    signature = inspect.signature(annealed_langevin).parameters
    assert (signature["steps"].default, signature["step"].default) == (20, 0.1)
    asked = []
    annealed_langevin(lambda x, sigma: asked.append(sigma) or -x, draws((1, 1)), [2.0, 1.0])
    assert asked == [2.0] * 20 + [1.0] * 21


def test_several_levels_by_hand():
    levels, step, x = [2.0, 0.7], 0.3, draws((5, 2))
    torch.manual_seed(2)
    result = annealed_langevin(noisy_normal(0.5), x, levels, 3, step)
    torch.manual_seed(2)
    for sigma in levels:
        for _ in range(3):
            eta = step * sigma**2
            x = x - eta * x / (0.5 + sigma**2) + math.sqrt(2 * eta) * torch.randn_like(x)
    close(result, x - 0.49 * x / (0.5 + 0.49))


@pytest.mark.parametrize(("variance", "steps", "step"), [(1.0, 5, 0.2), (0.3, 3, 1.0)])
def test_annealing_of_normal_data_follows_the_exact_recursion(variance, steps, step):
    levels = [3.0, 1.0, 0.4]
    torch.manual_seed(0)
    x = annealed_langevin(noisy_normal(variance), 3 * torch.randn(60_000, 1), levels, steps, step)
    about(x, 0.0)
    about(x**2, annealed_variance(variance, levels, steps, step, 9.0))


def test_annealing_finds_the_weights_of_two_modes():
    source = GaussianMixture(torch.tensor([[-4.0], [4.0]], dtype=REAL), 0.3, [0.2, 0.8])
    levels = geometric_levels(10.0, 0.1, 12)
    torch.manual_seed(0)
    start = 10 * torch.randn(4000, 1)
    x = annealed_langevin(lambda x, sigma: source.noised(sigma).score(x), start, levels, 30, 0.1)
    assert abs((x > 0).double().mean() - 0.8) < 0.05
    close(x[x > 0].mean(), 4.0, 0.1)
    close(x[x < 0].mean(), -4.0, 0.1)


def test_hold_is_called_after_each_step_and_at_the_end():
    held, asked = [], []

    def hold(x, sigma):
        held.append((sigma, x.clone()))
        return torch.full_like(x, float(len(held)))

    def score(x, sigma):
        asked.append(x.clone())
        return torch.zeros_like(x)

    told = []
    x = annealed_langevin(score, draws((2, 2)), [2.0, 1.0], 2, 0.1, hold, lambda i, x: told.append(x))
    assert [sigma for sigma, _ in held] == [2.0, 2.0, 1.0, 1.0, 0.0]
    assert isinstance(held[-1][0], float)
    for k in range(1, 5):  # what it returns goes on
        assert torch.equal(asked[k], torch.full((2, 2), float(k)))
    assert torch.equal(x, torch.full((2, 2), 5.0))
    assert torch.equal(held[-1][1], torch.full((2, 2), 4.0))  # after the noise is off
    assert [points[0, 0].item() for points in told] == [2.0, 4.0, 5.0]


def test_hold_sees_the_points_after_the_move():
    x, seen = draws((3, 2)), []
    torch.manual_seed(0)
    annealed_langevin(noisy_normal(1.0), x, [2.0], 1, 0.1, lambda x, sigma: seen.append(x) or x)
    torch.manual_seed(0)
    moved = langevin(normal(5.0), x, 1, 0.4)
    close(seen[0], moved)
    close(seen[1], moved / 5)


def test_hold_must_keep_the_shape():
    for bad in (lambda x, sigma: x[:, :1], lambda x, sigma: x if sigma else x[0]):
        with pytest.raises(ValueError, match=r"must return shape \(3, 2\), got "):
            annealed_langevin(noisy_normal(1.0), draws((3, 2)), [2.0, 1.0], 2, 0.1, bad)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("at", "where"),
    [
        (1, "step 1 of 3 at level 1 of 2 (σ = 2.5)"),
        (3, "step 3 of 3 at level 1 of 2 (σ = 2.5)"),
        (5, "step 2 of 3 at level 2 of 2 (σ = 0.1235)"),
        (7, "the end of level 2 of 2 (σ = 0.1235)"),
    ],
)
def test_annealing_names_the_step_and_the_level_whose_score_is_not_finite(at, where, value):
    told, x = [], draws((3, 2))
    before = x.clone()
    with pytest.raises(RuntimeError, match=f"^the score is not finite at {re.escape(where)}$"):
        annealed_langevin(failing(at, value, noisy_normal(1.0)), x, [2.5, 0.12345], 3, 0.1,
                          after=lambda i, x: told.append(i))  # fmt: skip
    assert told == [i for i in (1, 2) if 3 * i < at]
    assert torch.equal(x, before)


# what is known


@pytest.mark.parametrize("batched", [False, True])
def test_known_puts_the_values_where_they_belong(batched):
    where = torch.tensor([True, False, True])
    values = torch.tensor([5.0, math.nan, -7.0])
    x = draws((4, 3))
    if batched:
        where, values = where.expand(4, 3).clone(), values.expand(4, 3).clone()
        where[0], values[0] = torch.tensor([False, True, False]), torch.tensor([math.nan, 2.0, math.nan])
    hold, before = known(values, where), x.clone()
    close(hold(x, 0.0), torch.where(where, values, x), 0)
    torch.manual_seed(0)
    noisy = hold(x, 0.5)
    torch.manual_seed(0)
    close(noisy, torch.where(where, values + 0.5 * torch.randn_like(x), x))
    assert torch.equal(x, before)
    assert not torch.equal(hold(x, 0.5), noisy)  # fresh noise


def test_known_numbers_have_the_noise_of_the_level():
    hold = known(torch.tensor([3.0, 0.0]), torch.tensor([True, False]))
    torch.manual_seed(0)
    for sigma in (0.1, 2.0):
        x = hold(torch.zeros(20_000, 2), sigma)
        about(x[:, 0], 3.0)
        about((x[:, 0] - 3) ** 2, sigma**2)
        assert not x[:, 1].any()


def test_known_numbers_are_exact_at_the_end_and_pull_the_others():
    """A normal pair with correlation 0.8: the mean of the other number follows a linear recursion."""
    covariance, levels = torch.tensor([[1.0, 0.8], [0.8, 1.0]]), geometric_levels(5.0, 0.05, 12)
    noised = {s: torch.linalg.inv(covariance + s**2 * torch.eye(2)) for s in levels.tolist()}
    hold, seen = known(torch.tensor([1.5, math.nan]), torch.tensor([True, False])), []
    torch.manual_seed(0)
    x = annealed_langevin(
        lambda x, sigma: -x @ noised[sigma],
        5 * torch.randn(20_000, 2),
        levels,
        20,
        0.3,
        hold,
        lambda i, x: seen.append(x),
    )
    assert (x[:, 0] == 1.5).all()
    for level, points in zip(levels, seen, strict=False):
        about((points[:, 0] - 1.5) ** 2, level**2)
    mean = torch.zeros(2)
    for level in levels.tolist():
        for _ in range(20):
            mean = mean - 0.3 * level**2 * noised[level] @ mean
            mean[0] = 1.5
    mean = mean - level**2 * noised[level] @ mean
    assert mean[1] > 1
    about(x[:, 1], mean[1])


def test_known_refuses():
    values = torch.zeros(3)
    for where, says in (
        (torch.tensor([1, 0, 1]), "must be a tensor of bool, got torch.int64"),
        (torch.tensor([1.0, 0.0, 1.0]), "must be a tensor of bool, got torch.float64"),
        ([True, False, True], "must be a tensor of bool, got list"),
        (None, "must be a tensor of bool, got NoneType"),
        (torch.ones(3, dtype=torch.bool), "must pass some entries and change others, got 3 of 3"),
        (torch.zeros(3, dtype=torch.bool), "must pass some entries and change others, got 0 of 3"),
    ):
        with pytest.raises(ValueError, match=f"^where {re.escape(says)}$"):
            known(values, where)


# the module


def test_importing_scores_needs_no_plotting():
    code = """
import sys, genlib.score
print([name for name in sys.modules if "matplotlib" in name or "plotting" in name or "IPython" in name])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr


# what a first reading found


def test_mala_refuses_a_log_density_of_another_shape():
    x = torch.randn(5, 1)
    for log_prob in (lambda x: -x.square().sum(), lambda x: -x.square()):
        with pytest.raises(ValueError, match=r"^log_prob must return shape \(5,\)"):
            mala(log_prob, x, 2, 0.1)


def test_mala_stops_at_a_log_density_that_is_no_number():
    def log_prob(x):
        return torch.where(x[:, 0] > -torch.inf, math.nan, 0.0) + 0 * x[:, 0]

    with pytest.raises(RuntimeError, match=r"step 1 of 2"):
        mala(log_prob, torch.randn(5, 1), 2, 0.1)


def test_mala_leaves_no_graph():
    x, _ = mala(lambda x: -x.square().sum(1), torch.randn(5, 1).requires_grad_(), 3, 0.1)
    assert not x.requires_grad


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


def test_known_and_hold_say_what_is_wrong():
    where = torch.tensor([True, False])
    for values in ([1.0, 2.0], torch.zeros(3), torch.tensor([math.nan, 0.0])):
        with pytest.raises(ValueError, match="^values must"):
            known(values, where)
    assert known(torch.tensor([0.0, math.nan]), where)(torch.ones(4, 2), 0.0)[0].tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="^hold must return shape"):
        annealed_langevin(lambda x, s: -x, torch.zeros(2, 2), [1.0], 1, 0.1, hold=lambda x, s: x[0])
