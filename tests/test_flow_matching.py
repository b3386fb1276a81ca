"""Flow matching: paths, losses, couplings, ways, and what a flow says of densities."""

import itertools
import math
import re

import pytest
import torch
from exactness import close, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from test_samplers import NO_COUNTS, NO_NUMBERS_ABOVE_0
from torch import nn
from torch.distributions import MultivariateNormal
from torch.func import grad, jacrev, vmap

from genlib import sde
from genlib.data import GaussianMixture
from genlib.flow_matching import (
    Arc,
    ConsistencyModel,
    FlowMatching,
    Noised,
    Path,
    Preconditioned,
    Straight,
    ToldLevel,
    assign,
    rectified,
    ways,
)
from genlib.score import ScoreModel

pytestmark = [
    pytest.mark.usefixtures("double"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]

PATHS = {
    "straight": Straight(),
    "arc": Arc(),
    "exploding": Noised(sde.VarianceExploding(0.05, 6.0)),
    "preserving": Noised(sde.VariancePreserving(0.2, 7.0)),
    "sub": Noised(sde.SubVariancePreserving(0.3, 9.0)),
}
FEW = settings(max_examples=8, deadline=None)
SEEDS = st.integers(0, 10**6)
named = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
drawn = st.sampled_from(list(PATHS.values()))
times = st.floats(0.02, 0.98)


class Field(nn.Module):
    """A velocity that is a formula."""

    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, x, t):
        return self.formula(x, t.reshape(-1, *[1] * (x.ndim - 1)))


class Small(nn.Module):
    """A net with a few weights."""

    def __init__(self, dims=2, width=5):
        super().__init__()
        self.first, self.last = nn.Linear(dims + 1, width), nn.Linear(width, dims)

    def forward(self, x, t):
        return self.last(self.first(torch.cat([x, t[:, None]], 1)).tanh())


def draws(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed))


def refused(message, job, *args, **kw):
    with pytest.raises(ValueError, match=re.escape(message)):
        job(*args, **kw)


def mixture():
    means = torch.tensor([[1.0, 0.0], [-0.5, 0.8], [0.0, -1.2]])
    return GaussianMixture(means, torch.tensor([0.3, 0.5, 0.4]), torch.tensor([0.5, 0.2, 0.3]))


def noised(path, t):
    """Weights, means (3, 2) and variances (3,) of the mixture at time t."""
    m, a, s = mixture(), path.alpha(t), path.sigma(t)
    return m.weights, a * m.means, a**2 * m.scale**2 + s**2


def log_density(path, x, t):
    """Of one point (2,)."""
    weights, means, variance = noised(path, t)
    squares = (x - means).square().sum(1)
    return (weights.log() - squares / (2 * variance) - (2 * math.pi * variance).log()).logsumexp(0)


def mean_velocity(path, x, t):
    """Of one point (2,), by conditioning the pair on its place in each bump."""
    m, a, s = mixture(), path.alpha(t), path.sigma(t)
    weights, means, variance = noised(path, t)
    squares = (x - means).square().sum(1)
    share = (weights.log() - squares / (2 * variance) - variance.log()).softmax(0)[:, None]
    gap = (x - means) / variance[:, None]
    data = m.means + a * m.scale[:, None] ** 2 * gap
    return (share * (path.alpha_slope(t) * data + path.sigma_slope(t) * s * gap)).sum(0)


def normal_flow(spread):
    """The velocity of the straight path from N(0, I) to N(0, spread² I)."""
    return Field(lambda x, t: (t - (1 - t) * spread**2) / ((1 - t) ** 2 * spread**2 + t**2) * x)


# paths


@named
def test_a_path_begins_at_the_data(path):
    close(torch.tensor([path.alpha(0.0), path.sigma(0.0)]), torch.tensor([1.0, 0.0]))


def test_straight_and_arc_end_in_noise():
    for path in (Straight(), Arc()):
        close(torch.tensor([path.alpha(1.0), path.sigma(1.0)]), torch.tensor([0.0, 1.0]))
    t = torch.linspace(0, 1, 7)
    close(Arc().alpha(t) ** 2 + Arc().sigma(t) ** 2, torch.ones(7))


@FEW
@given(drawn, times)
def test_the_slopes_are_derivatives(path, t):
    at = torch.tensor(t)
    close(torch.as_tensor(path.alpha_slope(at)), grad(path.alpha)(at), 1e-10)
    close(torch.as_tensor(path.sigma_slope(at)), grad(path.sigma)(at), 1e-10)


@named
def test_numbers_give_numbers_and_tensors_tensors(path):
    t = torch.tensor([0.2, 0.7])
    for f in (path.alpha, path.sigma, path.alpha_slope, path.sigma_slope):
        assert isinstance(f(0.2), float)
        assert f(t).shape == (2,)
        close(f(t), torch.tensor([f(0.2), f(0.7)]))


@named
def test_times_outside_are_refused(path):
    for f in (path.alpha, path.sigma, path.alpha_slope, path.sigma_slope):
        refused("t must lie in [0, 1], got 1.1", f, 1.1)
        refused("t must lie in [0, 1], got from -0.1 to 0.5", f, torch.tensor([-0.1, 0.5]))


@FEW
@given(drawn, times, SEEDS)
def test_the_velocity_of_a_pair_is_the_slope_of_its_place(path, t, seed):
    x_0, x_1, at = draws(3, 2, 2, seed=seed), draws(3, 2, 2, seed=seed + 1), torch.tensor(t)
    place, velocity = path.between(x_0, x_1, at.expand(3))
    moved, _ = path.between(x_0, x_1, (at + 1e-6).expand(3))
    back, _ = path.between(x_0, x_1, (at - 1e-6).expand(3))
    close(velocity, (moved - back) / 2e-6, 1e-5)
    close(path.between(x_0, x_1, t)[0], place)


def test_straight_pairs():
    x_0, x_1 = draws(4, 3), draws(4, 3, seed=1)
    place, velocity = Straight().between(x_0, x_1, 0.25)
    close(place, 0.75 * x_0 + 0.25 * x_1)
    close(velocity, x_1 - x_0)


def test_path_is_abstract():
    for name in ("alpha", "sigma", "alpha_slope", "sigma_slope"):
        with pytest.raises(NotImplementedError):
            getattr(Path(), name)(0.5)


@pytest.mark.parametrize("least", [*NO_NUMBERS_ABOVE_0, 1.0])
def test_least_lies_between(least):
    with pytest.raises(ValueError, match="least must"):
        Noised(sde.VariancePreserving(), least)


# what the mean velocity is


@FEW
@given(drawn, times, SEEDS)
def test_the_score_gives_the_mean_velocity(path, t, seed):
    x = draws(4, 2, seed=seed)
    score = torch.stack([grad(lambda x: log_density(path, x, t))(row) for row in x])
    expected = torch.stack([mean_velocity(path, row, t) for row in x])
    close(path.from_score(score, x, t), expected, 1e-9 * (1 + expected.abs().max().item()))
    close(path.to_score(expected, x, t), score, 1e-9 * (1 + score.abs().max().item()))


@FEW
@given(drawn, times, SEEDS)
def test_the_continuity_equation_holds(path, t, seed):
    """∂p/∂t + ∇ · (p v) = 0, divided by p."""
    x, t = draws(2, seed=seed), torch.tensor(t)
    change = grad(lambda t: log_density(path, x, t))(t)
    slope = grad(lambda x: log_density(path, x, t))(x)
    spread = jacrev(lambda x: mean_velocity(path, x, t))(x).trace()
    flux = spread + slope @ mean_velocity(path, x, t)
    close(change + flux, 0.0, 1e-9 * (1 + flux.abs().item()))


@pytest.mark.parametrize("name", ["exploding", "preserving", "sub"])
def test_on_a_process_it_is_the_probability_flow(name):
    path, x, t = PATHS[name], draws(5, 2), 0.4
    score = vmap(grad(lambda x: log_density(path, x, t)))
    flow = sde.ProbabilityFlow(path.process, lambda x, t: score(x))
    close(path.from_score(score(x), x, t), flow(x, t), 1e-10)


@FEW
@given(st.floats(0.02, 0.8), SEEDS)
def test_straight_and_exploding_are_one_flow_in_two_coordinates(t, seed):
    """x = α z, so that dx/dt = α′ z + α (dz/dτ) (dτ/dt), where both have one level at t and τ."""
    straight, process = Straight(), sde.VarianceExploding(0.05, 6.0)
    t, z = torch.tensor(t), draws(4, 2, seed=seed)
    alpha, when = straight.alpha(t), lambda t: process.time(straight.sigma(t) / straight.alpha(t))
    score = vmap(grad(lambda x: log_density(Noised(process), x, when(t))))(z)
    dz = sde.ProbabilityFlow(process, lambda x, _: score)(z, when(t).item())
    expected = straight.alpha_slope(t) * z + alpha * dz * grad(when)(t)
    close(straight.from_score(score / alpha, alpha * z, t.item()), expected, 1e-8)


@FEW
@given(drawn, SEEDS)
def test_the_loss_of_pairs_and_that_of_the_mean_have_one_gradient(path, seed):
    """Three data points: the mean over pairs at a place is a sum over them, integrated over places by Gauss-Hermite."""
    import numpy as np

    torch.manual_seed(seed)
    points, t, model = draws(3, 1, seed=seed), 0.6, FlowMatching(Small(1), (1,), path)
    a, s = path.alpha(t), path.sigma(t)
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(60))
    x_0, x_1 = points.repeat_interleave(60, 0), nodes.repeat(3)[:, None]
    weight = weights.repeat(3) / weights.sum() / 3
    of_pairs = (weight * model.loss_of_pairs(x_0, x_1, t)).sum()

    place = a * x_0 + s * x_1
    share = (-(place - a * points.T).square() / (2 * s**2)).softmax(1)  # (180, 3)
    mean_x0 = share @ points
    mean = path.alpha_slope(t) * mean_x0 + path.sigma_slope(t) * (place - a * mean_x0) / s
    of_mean = (weight * (model.velocity(place, t) - mean).square().sum(1)).sum()
    for one, other in zip(
        torch.autograd.grad(of_pairs, list(model.net.last.parameters())),
        torch.autograd.grad(of_mean, list(model.net.last.parameters())),
        strict=True,
    ):
        close(one, other, 1e-7 * (1 + one.abs().max().item()))
    assert of_pairs > of_mean + 1e-3


# the model


@named
def test_the_loss_by_hand(path):
    model, x_0, x_1 = FlowMatching(Small(), (2,), path), draws(4, 2), draws(4, 2, seed=1)
    t = torch.tensor([0.1, 0.4, 0.6, 0.9])
    loss = model.loss_of_pairs(x_0, x_1, t)
    for i in range(4):
        k = t[i].item()
        place = path.alpha(k) * x_0[i] + path.sigma(k) * x_1[i]
        goal = path.alpha_slope(k) * x_0[i] + path.sigma_slope(k) * x_1[i]
        close(loss[i], (model.net(place[None], t[i : i + 1])[0] - goal).square().sum(), 1e-9)


def test_times_of_the_loss_are_uniform_and_even():
    seen = []
    model = FlowMatching(Field(lambda x, t: seen.append(t.flatten()) or x), (2,), PATHS["preserving"])
    for _ in range(200):
        model.loss(draws(10, 2))
    close(torch.stack(seen).sort(1).values.diff(dim=1), torch.full((200, 9), 0.0999), 1e-9)
    first = torch.stack(seen)[:, 0]  # uniform for one example too
    assert 1e-3 <= first.min() < 0.03
    assert 0.97 < first.max() < 1
    assert abs(first.mean() - 0.5) < 0.07
    assert abs(first.std() - 12**-0.5) < 0.04


def test_the_loss_draws_noise_and_pairs_it():
    calls = []

    def coupling(x_0, x_1):
        calls.append((x_0, x_1))
        return x_0, x_0 + 1

    model = FlowMatching(Field(lambda x, t: torch.ones_like(x)), (2, 2), coupling=coupling)
    x = draws(6, 2, 2)
    close(model.loss(x), torch.zeros(6))
    close(calls[0][0], x)
    assert calls[0][1].shape == x.shape
    assert FlowMatching(model.net, (2, 2)).loss(x).min() > 0


def test_the_noise_of_losses_is_that_of_the_base():
    """Data at 0 and a base that is nearly a point: all places lie on the line between."""
    seen, end = [], torch.tensor([5.0, -3.0])
    net = Field(lambda x, t: seen.append(x / t) or 0 * x)
    model = FlowMatching(net, (2,), base=GaussianMixture(end[None], 1e-9))
    torch.manual_seed(0)
    for learner in (model, ConsistencyModel(net, model)):
        learner.loss(torch.zeros(4, 2))
        close(seen[-1], end.expand(4, 2), 1e-7)


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_the_flow_of_normal_data_is_known(spread):
    model = FlowMatching(normal_flow(spread), (3,))
    x_1 = draws(5, 3)
    x = model.sample((5,), 60, "rk4", generator=seeded())
    close(x, spread * x_1, 1e-6)
    close(rectified(model, 5, 2, "rk4", generator=seeded())[1], x_1)
    points = 1.5 * spread * draws(5, 3, seed=2)
    exact = MultivariateNormal(torch.zeros(3), spread**2 * torch.eye(3)).log_prob(points)
    close(model.log_prob(points, 20), exact, 1e-4)


@pytest.mark.parametrize("path", [Straight(), Noised(sde.VarianceExploding(0.3, 2.0), 0.01)])
def test_densities_of_a_mixture(path):
    """The mean velocity of a mixture, and the density of the mixture itself."""

    def mean(x, t):
        return vmap(lambda row: mean_velocity(path, row, t.flatten()[0]))(x)

    weights, means, variance = noised(path, 1.0)
    end = GaussianMixture(means / path.sigma(1.0), variance.sqrt() / path.sigma(1.0), weights)
    model, x = FlowMatching(Field(mean), (2,), path, end), draws(3, 2)
    exact = torch.stack([log_density(path, row, path.least) for row in x])
    errors = [(model.log_prob(x, steps) - exact).abs().max().item() for steps in (6, 12)]
    assert errors[1] < 1e-3
    assert errors[1] < errors[0] / 8  # of order 4


def test_densities_with_probes_are_right_in_the_mean():
    matrix = torch.tensor([[0.3, 0.5], [-0.2, 0.4]])
    model = FlowMatching(Field(lambda x, t: x @ matrix.T), (2,))
    x = draws(3, 2)
    both = torch.tensor([[1.0, 1.0], [1.0, -1.0]])[:, None].expand(
        2, 3, 2
    )  # cancels what is off the diagonal
    exact = model.log_prob(x, 5)
    close(model.log_prob(x, 5, probes=both), exact)
    assert (model.log_prob(x, 5, probes=both[:1]) - exact).abs().min() > 0.1


@pytest.mark.parametrize(("method", "calls"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_calls_of_a_sample(method, calls):
    asked = []
    model = FlowMatching(Field(lambda x, t: asked.append(t) or x), (2,))
    assert model.sample((3,), 4, method).shape == (3, 2)
    assert len(asked) == 4 * calls


def test_a_step_of_euler_goes_from_noise_to_data():
    model = FlowMatching(Field(lambda x, t: 3 + 0 * x + t), (2,))
    close(model.sample((3,), 1, generator=seeded()), draws(3, 2) - 4)
    close(model.sample((3,), 2, generator=seeded()), draws(3, 2) - 3.75)


def test_another_base_and_events():
    base = GaussianMixture([[5.0, 5.0]], 0.1)
    model = FlowMatching(Field(lambda x, t: 0 * x), (2,), base=base)
    close(model.sample((4,), generator=seeded()), base.sample((4,), generator=seeded()))
    x = base.sample((3,))
    close(model.log_prob(x, 2), base.log_prob(x))
    images = FlowMatching(Field(lambda x, t: t * x), (2, 3))
    assert images.sample((4,)).shape == (4, 2, 3)
    assert images.loss(draws(4, 2, 3)).shape == images.log_prob(draws(4, 2, 3), 3).shape == (4,)


def test_a_path_that_ends_in_more_noise_than_the_base_and_begins_late():
    """On `Noised`, σ(1) is not 1, and the flow goes from there to `least`."""
    path = Noised(sde.VarianceExploding(0.1, 3.0), 0.25)
    wide = math.sqrt(3.0**2 - 0.1**2)
    model = FlowMatching(Field(lambda x, t: 2 + 0 * x), (2,), path)
    noise = draws(5, 2)
    close(model.sample((5,), 3, generator=seeded()), wide * noise - 1.5)
    x_0, x_1 = rectified(model, 5, 3, generator=seeded())
    close(x_0, wide * noise - 1.5)
    close(x_1, noise)
    normal = MultivariateNormal(-1.5 * torch.ones(2), wide**2 * torch.eye(2))
    close(model.log_prob(noise, 2), normal.log_prob(noise))
    short = ConsistencyModel(Field(lambda x, t: 2 + 0 * x), model)
    close(short.sample((5,), generator=seeded()), wide * noise - 2)


def test_times_of_densities_are_dense_at_the_data():
    seen = []
    path = Noised(sde.VarianceExploding(0.1, 3.0), 0.2)
    model = FlowMatching(Field(lambda x, t: seen.append(t[0].item()) or 0 * x), (2,), path)
    model.log_prob(draws(1, 2), 2)
    close(sorted({round(t, 12) for t in seen}), torch.tensor([0.2, 0.25, 0.3, 0.65, 1.0]))


def test_a_flow_is_followed_in_evaluation_mode_without_gradient():
    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.size = nn.Parameter(torch.ones(()))

        def forward(self, x, t):
            return 0 * x + (5 if self.training else self.size)

    model = FlowMatching(Moody(), (2,)).train()
    x = model.sample((3,), generator=seeded())
    close(x, draws(3, 2) - 1)
    close(model.log_prob(x, 2), model.base.log_prob(x + 1))
    short = ConsistencyModel(Moody(), model, 4).train()
    close(short.sample((3,), generator=seeded()), x)
    short.net.forward = lambda x, t: 1 + 0 * x * short.net.size  # the teacher's own, in evaluation mode
    close(short.loss(x), torch.zeros(3))
    assert not x.requires_grad
    assert model.net.training
    assert short.net.training


def test_single_precision_stays_single():
    model = FlowMatching(Small().float(), (2,), Noised(sde.VarianceExploding(0.1, 3.0)))
    x = draws(4, 2).float()
    short = ConsistencyModel(Small().float(), model)
    for made in (model.loss(x), model.sample((4,)), model.log_prob(x, 2), short.loss(x), short.sample((4,))):
        assert made.dtype == torch.float32


def test_the_wrong_is_refused():
    model, x = FlowMatching(Small(), (2,)), draws(4, 2)
    for steps in NO_COUNTS:
        refused("steps must be a whole number of at least 1", model.sample, (3,), steps)
        refused("steps must be a whole number of at least 1", model.log_prob, x, steps)
        refused("steps must be a whole number of at least 1", ways, model.velocity, x, steps)
        refused("steps must be a whole number of at least 1", ConsistencyModel, Small(), model, steps)
        refused("n must be a whole number of at least 1", rectified, model, steps)
    refused("method must be one of euler, heun, rk4, got 'midpoint'", model.sample, (3,), 2, "midpoint")
    refused("t must lie in [0, 1], got 1.5", model.velocity, x, 1.5)
    refused("t must lie in [0, 1], got from -1 to -1", model.loss_of_pairs, x, x, -torch.ones(4))
    refused("t must be one number or have shape (4,), got (3,)", model.velocity, x, torch.ones(3))
    refused("x must have shape (B, 2), got (4, 3)", model.loss, draws(4, 3))
    refused("x must have shape (B, 2), got (4, 3)", model.log_prob, draws(4, 3))
    refused("x_1 must have shape (B, 2), got (4, 3)", model.loss_of_pairs, x, draws(4, 3))
    unequal = "x_1 must have the shape of x_0, (4, 2), to be paired with it, got (3, 2)"
    refused(unequal, model.loss_of_pairs, x, draws(3, 2))
    refused(unequal, assign, x, draws(3, 2))
    refused("x must be in torch.float64", model.log_prob, x.float())
    wrong = FlowMatching(Field(lambda x, t: x[:, :1]), (2,))
    refused("net must return shape (4, 2), got (4, 1)", wrong.velocity, x, 0.5)

    class Draws:
        def sample(self, shape, generator=None):
            return torch.ones(*shape, 2)

    refused(
        "base must have a method log_prob, got Draws", FlowMatching(Small(), (2,), base=Draws()).log_prob, x
    )


# what networks are told


@named
def test_a_preconditioned_net_is_the_score_model_in_another_coordinate(path):
    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Parameter(torch.ones(()))

        def forward(self, x, level):
            return (x.flip(1) + level[:, None]).sin() * self.one

    net, x, t = Seen(), draws(5, 2), torch.linspace(0.05, 0.9, 5)
    alpha, kappa = path.alpha(t), path.sigma(t) / path.alpha(t)
    score = ScoreModel(net, (2,), [1.0], 0.7).score(x / alpha[:, None], kappa) / alpha[:, None]
    close(Preconditioned(net, path, 0.7)(x, t), path.from_score(score, x, t), 1e-9)


def test_without_a_net_it_is_the_flow_of_normal_data():
    class Zero(nn.Module):
        def forward(self, x, level):
            return 0 * x

    x = draws(4, 2)
    for t in (0.0, 0.3, 1.0):
        at = torch.full((4,), t)
        close(Preconditioned(Zero(), spread=2.0)(x, at), normal_flow(2.0)(x, at))
    refused("spread must be a finite number above 0", Preconditioned, Zero(), None, 0.0)


def test_the_level_is_the_logit_within_bounds():
    told = ToldLevel(nn.Identity())
    t = torch.tensor([0.0, 0.01, 0.5, 0.9, 1.0])
    close(told.level(t), torch.tensor([-6.0, math.log(1 / 99), 0.0, math.log(9), 4.0]))
    close(ToldLevel(nn.Identity(), Arc()).level(t), (math.pi / 2 * t).tan().log().clamp(-6, 4), 1e-12)
    seen = ToldLevel(Field(lambda x, level: x + level))
    close(seen(torch.zeros(5, 1), t)[:, 0], told.level(t))


# pairs


@FEW
@given(st.integers(1, 6), SEEDS)
def test_the_assignment_is_the_best_of_all(n, seed):
    x_0, x_1 = draws(n, 2, seed=seed), draws(n, 2, seed=seed + 1)
    first, second = assign(x_0, x_1)
    best = min((x_0 - x_1[list(order)]).square().sum().item() for order in itertools.permutations(range(n)))
    close((first - second).square().sum(), best, 1e-10)


@FEW
@given(st.integers(1, 40), SEEDS)
def test_the_assignment_is_a_permutation_and_no_longer(n, seed):
    x_0, x_1 = draws(n, 2, 2, seed=seed), draws(n, 2, 2, seed=seed + 1)
    first, second = assign(x_0, x_1)
    close(first, x_0, 0.0)
    close(second.flatten(1).sort(0).values, x_1.flatten(1).sort(0).values, 0.0)
    assert sorted(map(tuple, second.flatten(1).tolist())) == sorted(map(tuple, x_1.flatten(1).tolist()))
    assert (first - second).square().sum() <= (x_0 - x_1).square().sum() + 1e-10


# ways


def test_energy_and_bend_of_a_known_flow():
    """Straight at constant speed; and a way x = x_1 (1 + t²)/2, with v = x_1 t."""
    x_1 = draws(4, 2)
    straight = ways(lambda x, t: torch.full_like(x, 2.0), x_1)
    close(straight.x_0, x_1 - 2)
    close(straight.energy, torch.full((4,), 8.0))
    close(straight.bend, torch.zeros(4))
    square = x_1.square().sum(1)
    bent = ways(lambda x, t: 2 * t * x / (1 + t**2), x_1, 100)
    close(bent.x_0, x_1 / 2, 1e-8)
    close(bent.energy, square / 3, 1e-7)
    close(bent.bend, square / 12, 1e-7)  # ∫ (½ − t)² dt
    part = ways(lambda x, t: torch.full_like(x, 2.0), x_1, least=0.25)
    close(part.x_0, x_1 - 1.5)
    close(part.bend, torch.zeros(4))


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_rectified_pairs_of_normal_data_are_straight(spread):
    """The first flow scales, with bent speed; pairs (spread x_1, x_1) have a flow that one step follows exactly."""
    first = FlowMatching(normal_flow(spread), (2,))
    assert ways(first.velocity, draws(6, 2)).bend.min() > 1e-4
    x_0, x_1 = rectified(first, 6, 60, "rk4", generator=seeded())
    close(x_0, spread * x_1, 1e-6)
    factor = 1 - spread
    second = FlowMatching(Field(lambda x, t: factor * x / ((1 - t) * spread + t)), (2,))
    close(second.loss_of_pairs(x_0, x_1), torch.zeros(6), 1e-10)
    close(ways(second.velocity, x_1, 60).bend, torch.zeros(6), 1e-10)
    close(second.sample((6,), 1, generator=seeded()), x_0, 1e-6)


def test_one_step_is_learnt_from_pairs_at_the_noise_alone():
    x_0, x_1 = draws(5, 2), draws(5, 2, seed=1)
    model = FlowMatching(Small(), (2,))
    step = x_1 - model.velocity(x_1, 1.0)
    close(model.loss_of_pairs(x_0, x_1, 1.0), (step - x_0).square().sum(1))


# consistency


def test_a_consistency_function_begins_as_it_must_and_is_learnt():
    teacher = FlowMatching(Field(lambda x, t: 2 * t + 0 * x), (2,))  # x(t) = x(0) + t²
    exact = ConsistencyModel(Field(lambda x, t: t + 0 * x), teacher, 1000)
    x = draws(50, 2)
    close(exact.ends(x, 0.0), x)
    close(exact.ends(x + 0.49, 0.7), x)
    assert exact.loss(x).max() < 1e-11  # the step of Euler is off by h²
    close(exact.sample((5,), generator=seeded()), draws(5, 2) - 1)
    assert ConsistencyModel(Field(lambda x, t: 2 * t + 0 * x), teacher, 10).loss(x).mean() > 1e-3


def test_the_teacher_and_the_neighbour_are_held_fixed():
    teacher = FlowMatching(Small(), (2,))
    model = ConsistencyModel(Small(), teacher, 4)
    learns = {id(p) for p in model.parameters() if p.requires_grad}
    assert learns == {id(p) for p in model.net.parameters()}
    torch.manual_seed(0)
    model.loss(draws(6, 2)).sum().backward()
    assert all(p.grad is None for p in [*teacher.parameters(), *model.teacher.parameters()])
    assert all(p.requires_grad for p in teacher.parameters())  # the model holds a copy
    torch.manual_seed(0)
    shift, x_1 = torch.rand(()), teacher.base.sample((6,))
    t = 1 / 4 + 3 / 4 * ((torch.arange(6) / 6 + shift) % 1)
    place, _ = Straight().between(draws(6, 2), x_1, t)
    goal = model.ends(place - teacher.velocity(place, t) / 4, t - 1 / 4).detach()
    (by_hand,) = torch.autograd.grad((model.ends(place, t) - goal).square().sum(), model.net.last.weight)
    close(model.net.last.weight.grad, by_hand, 1e-9)
