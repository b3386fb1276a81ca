"""Samplers: plain, adjusted and annealed Langevin dynamics against recursions that are exact."""

import importlib
import inspect
import itertools
import math
import re

import pytest
import torch
from exactness import FEW, REAL, close, seeded
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal

from genlib._shapes import column
from genlib.data import GaussianMixture
from genlib.samplers import annealed_langevin, capped, known, langevin, mala
from genlib.score import (
    denoise,
    geometric_levels,
)

pytestmark = pytest.mark.usefixtures("double")

SEEDS = st.integers(0, 10**6)
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


def linear(matrix):
    return lambda x: (x.flatten(1) @ matrix.T).reshape(x.shape)


def normal(variance):
    """The score of normal data, with no noise level."""
    return lambda x: -x / variance


def noisy_normal(variance):
    return lambda x, sigma: -x / (variance + sigma**2)


def about(values, expected, errors=5.0):
    """The mean of independent values is what is expected, within Monte Carlo error."""
    values = values.flatten()
    error = values.std() / math.sqrt(len(values))
    assert abs(values.mean() - expected) < errors * error, (values.mean(), expected, error)


def line(low, high, size):
    """Nodes (size, 1) and the step of a sum that is exact for smooth densities that vanish at both ends."""
    nodes = torch.linspace(low, high, size)
    return nodes[:, None], nodes[1] - nodes[0]


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
    module = importlib.import_module("genlib.samplers.langevin")  # the package has the function by this name
    seen, uniform = [], module.uniform
    monkeypatch.setattr(
        module, "uniform", lambda shape, like, g: seen.append(like) or uniform(shape, like, g)
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


def test_known_and_hold_say_what_is_wrong():
    where = torch.tensor([True, False])
    for values in ([1.0, 2.0], torch.zeros(3), torch.tensor([math.nan, 0.0])):
        with pytest.raises(ValueError, match="^values must"):
            known(values, where)
    assert known(torch.tensor([0.0, math.nan]), where)(torch.ones(4, 2), 0.0)[0].tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="^hold must return shape"):
        annealed_langevin(lambda x, s: -x, torch.zeros(2, 2), [1.0], 1, 0.1, hold=lambda x, s: x[0])


# generators, and modes of torch


def test_samplers_draw_from_a_generator_and_leave_the_global_one_alone():
    x, where = torch.zeros(4, 2), torch.tensor([True, False])
    calls = [
        lambda g: langevin(normal(1.0), x, 3, 0.1, generator=g),
        lambda g: mala(lambda x: -0.5 * x.square().sum(1), x, 3, 0.1, generator=g)[0],
        lambda g: annealed_langevin(noisy_normal(1.0), x, [2.0, 1.0], 3, 0.1, generator=g),
        lambda g: known(x[0], where, generator=g)(x, 2.0),
    ]
    for call in calls:
        state = torch.get_rng_state()
        drawn = call(seeded(5))
        assert torch.equal(drawn, call(seeded(5)))
        assert not torch.equal(drawn, call(seeded(6)))
        assert torch.equal(state, torch.get_rng_state())
        torch.manual_seed(5)
        assert torch.equal(drawn, call(None))  # the same numbers as from the global generator


def test_mala_says_that_it_needs_gradients():
    with (
        torch.inference_mode(),
        pytest.raises(RuntimeError, match=r"^mala needs gradients, which torch\.inf"),
    ):
        mala(lambda x: -0.5 * x.square().sum(1), torch.zeros(2, 2), 1, 0.1)
    with torch.no_grad():
        mala(lambda x: -0.5 * x.square().sum(1), torch.zeros(2, 2), 1, 0.1)


def test_capped_arrows_keep_their_direction_and_short_ones_their_length():
    x = (
        torch.randn(200, 2, 3, dtype=torch.float64)
        * torch.logspace(-3, 3, 200, dtype=torch.float64)[:, None, None]
    )
    s = capped(lambda x: -x, 1.5)(x)
    length, before = s.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1)
    torch.testing.assert_close(length, before.clamp(max=1.5))
    torch.testing.assert_close(s * column(before / length, s), -x)
    assert capped(torch.zeros_like, 1.0)(x).eq(0).all()  # not 0 / 0


def test_capped_refuses_a_length_and_a_score_that_are_none():
    with pytest.raises(ValueError, match="longest must be a finite number above 0"):
        capped(lambda x: -x, 0.0)
    with pytest.raises(ValueError, match="score must return shape"):
        capped(lambda x: x[:1], 1.0)(torch.zeros(3, 2))
