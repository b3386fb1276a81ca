"""Deep energies and how they learn: against derivatives, sums and integrals, and losses of torch."""

import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from exactness import FEW, REAL, close, seeded
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn.functional import binary_cross_entropy_with_logits

from genlib import data, score
from genlib.energy.deep import EnergyModel, MultiScaleEnergy, Normalised
from genlib.energy.learning import Chains, contrast, noise_contrastive_loss
from genlib.nets import PlaneNet, Potential, ScoreNet, perceptron
from genlib.samplers import langevin
from genlib.score import ScoreModel

pytestmark = pytest.mark.usefixtures("double")
SEEDS = st.integers(0, 10**6)
LEVELS = [3.0, 1.0, 0.2]
NO_NUMBERS_ABOVE_0 = [0, -1.0, math.nan, math.inf, True, None, "1"]
BOX = ((-8.0, 8.0), (-8.0, 8.0))


def draws(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed))


def refused(message, job, *args, error=ValueError, **kw):
    with pytest.raises(error, match=re.escape(message)):
        job(*args, **kw)


@pytest.fixture(autouse=True)
def _reproducible():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def smooth(dims=2, width=8):
    return perceptron(dims, 1, (width, width), nn.SiLU)


def single_scale(spread=1.3):
    model = EnergyModel(smooth(), (2,), spread)
    nn.init.constant_(model.constant, 0.7)
    return model


def many_scales(spread=1.3):
    return MultiScaleEnergy(Potential(ScoreNet(2, 8)), (2,), LEVELS, spread)


def energies():
    """Every energy as a function of x alone, with its score and its module."""
    one, many = single_scale(), many_scales()
    yield one.energy, one.score, one
    for sigma in (0.3, torch.tensor([0.2, 0.5, 1.0, 2.0, 5.0])):
        yield partial(many.energy, sigma=sigma), partial(many.score, sigma=sigma), many


each = pytest.mark.parametrize("which", range(3), ids=["one level", "a level", "a level each"])


@pytest.fixture
def case(which):
    return list(energies())[which]


# energies and their scores


def test_energy_is_the_bowl_the_network_and_the_constant():
    model, x = single_scale(), draws(5, 2)
    close(model.energy(x), x.square().sum(1) / (2 * 1.3**2) + model.net(x)[:, 0] + 0.7)
    assert model.event_shape == (2,)
    flat = EnergyModel(lambda x: 0 * x[:, 0], (2,))
    close(flat.energy(x), x.square().sum(1) / 2)
    images = EnergyModel(lambda x: x.flatten(1).sum(1), (1, 2, 3))
    x = draws(4, 1, 2, 3)
    close(images.energy(x), (x**2 / 2 + x).flatten(1).sum(1))
    close(images.score(x), -x - 1)


@FEW
@given(SEEDS, st.floats(0.05, 9), st.floats(0.3, 3))
def test_multi_scale_energy_is_its_formula(seed, sigma, spread):
    model, x = many_scales(spread), draws(5, 2, seed=seed)
    r = math.hypot(sigma, spread)
    g = model.net(x / r, torch.full((5,), math.log(sigma)))
    close(model.energy(x, sigma), x.square().sum(1) / (2 * r**2) + spread / sigma * g, 1e-9)


def test_levels_may_differ_from_example_to_example():
    model, x, sigma = many_scales(), draws(4, 2), torch.tensor([0.2, 0.5, 1.0, 3.0])
    for law in (model.energy, model.score):
        close(law(x, sigma), torch.cat([law(x[i : i + 1], float(sigma[i])) for i in range(4)]))


@each
def test_score_is_minus_the_slope_of_the_energy(case):
    energy, slope, _ = case
    x, h = draws(5, 2), 1e-5
    for d in range(2):
        step = torch.zeros(2).index_fill(0, torch.tensor(d), h)
        close(slope(x)[:, d], -(energy(x + step) - energy(x - step)) / (2 * h), 1e-7)
    leaf = x.clone().requires_grad_()
    close(slope(x), -torch.autograd.grad(energy(leaf).sum(), leaf)[0])


@each
def test_the_energy_is_what_the_score_adds_up_to_along_a_path(case):
    energy, slope, _ = case
    start, end = draws(5, 2), draws(5, 2, seed=1)
    nodes, weights = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(40))

    def work(path, speed):
        return sum(
            w / 2 * (slope(path(t)) * speed(t)).sum(1) for t, w in zip((nodes + 1) / 2, weights, strict=True)
        )

    straight = work(lambda t: torch.lerp(start, end, t), lambda t: end - start)
    bow = torch.tensor([0.3, -0.4])
    bent = work(
        lambda t: torch.lerp(start, end, t) + bow * t * (1 - t), lambda t: end - start + bow * (1 - 2 * t)
    )
    close(straight, energy(start) - energy(end), 1e-9)
    close(bent, straight, 1e-9)


def test_a_potential_has_no_curl_and_a_free_network_has():
    net, sigma = ScoreNet(2, 8), torch.tensor(0.3)

    def curl(model, x):
        j = jacobian(lambda x: model.score(x[None], sigma)[0], x)
        return (j[0, 1] - j[1, 0]).abs() / j.abs().max()

    for x in draws(5, 2):
        assert curl(MultiScaleEnergy(Potential(net), (2,), LEVELS), x) < 1e-13
        assert curl(ScoreModel(net, (2,), LEVELS), x) > 1e-4


class Pull(nn.Module):
    """F = −∇G by hand, for G(x, log σ) = Σ cos(x + log σ)."""

    def forward(self, x, log_sigma):
        return (x + log_sigma[:, None]).sin()


class Waves(nn.Module):
    def forward(self, x, log_sigma):
        return (x + log_sigma[:, None]).cos().sum(1)


@FEW
@given(SEEDS, st.floats(0.05, 9), st.floats(0.3, 3))
def test_the_score_is_that_of_a_score_model_whose_field_is_the_slope(seed, sigma, spread):
    x = 3 * draws(5, 2, seed=seed)
    free, bound = (
        kind(net, (2,), LEVELS, spread) for kind, net in ((ScoreModel, Pull()), (MultiScaleEnergy, Waves()))
    )
    close(bound.score(x, sigma), free.score(x, sigma), 1e-10)


@each
def test_score_needs_no_recording_but_gradients(case):
    energy, slope, _ = case
    x = draws(5, 2)
    recorded = slope(x)
    assert recorded.requires_grad
    assert energy(x).requires_grad
    assert not x.requires_grad
    with torch.no_grad():
        plain = slope(x)
    assert not plain.requires_grad
    close(plain, recorded, 0)
    with torch.inference_mode():
        refused("use torch.no_grad() instead", slope, x, error=RuntimeError)


@each
def test_the_score_can_be_differentiated_by_all_that_bends_it(case):
    _, slope, model = case
    slope(draws(5, 2)).square().sum().backward()
    at_rest = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    shifts = {"constant", "net.4.bias"} if isinstance(model, EnergyModel) else set()
    assert at_rest == shifts  # constants do not change a score


def test_the_slope_of_a_loss_through_the_score_is_right():
    """Denoising, by differences."""
    model, x = single_scale(), draws(5, 2)
    weight = model.net[0].weight

    def loss():
        torch.manual_seed(3)
        return score.denoising_loss(model.score, x, 0.5).mean()

    loss().backward()
    h = 1e-5
    for place in ((0, 0), (3, 1)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[place] += sign * h
            values.append(loss().item())
            with torch.no_grad():
                weight[place] -= sign * h
        close(weight.grad[place], (values[0] - values[1]) / (2 * h), 1e-7)


def test_the_score_has_a_trace():
    model, x = single_scale(), draws(5, 2)
    hessian = [jacobian(lambda x: model.score(x[None])[0], x).trace() for x in x]
    close(score.trace(model.score, x), torch.stack(hessian))
    x = x.requires_grad_()
    assert torch.autograd.grad(model.score(x).sum(), x)[0].abs().sum() > 0


def test_multi_scale_energy_learns_and_draws_as_a_score_model():
    torch.manual_seed(0)
    model, x = MultiScaleEnergy(Potential(PlaneNet(2, 16, 8)), (2,), LEVELS, 1.0), data.ring().sample((64,))
    assert model.loss(x).shape == (64,)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(100):
        optimiser.zero_grad()
        loss = model.loss(x).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:5])
    drawn = model.sample((3,), generator=seeded())
    assert drawn.shape == (3, 2)
    close(drawn, model.sample((3,), generator=seeded()), 0)


def test_walks_along_the_score_are_told_of_when_they_fly_apart():
    model = EnergyModel(lambda x: 0 * x[:, 0], (2,), 0.1)
    x = langevin(model.score, draws(20_000, 2), 200, 1e-3, generator=seeded())
    close(x.std(0), torch.full((2,), 0.1 / math.sqrt(1 - 0.05)), 2e-3)  # of the walk with this step
    refused("not finite at step", langevin, model.score, draws(3, 2), 400, 1.0, error=RuntimeError)


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
def test_energies_keep_the_dtype(dtype):
    x = draws(3, 2).to(dtype)
    for model, args in ((single_scale().to(dtype), ()), (many_scales().to(dtype), (0.5,))):
        assert model.energy(x, *args).dtype == dtype
        assert model.score(x, *args).dtype == dtype
        other = {torch.float32: REAL, REAL: torch.float32}[dtype]
        for law in (model.energy, model.score):
            refused(f"x must be in {dtype} as the model is, got {other}", law, x.to(other), *args)


@pytest.mark.parametrize("law", ["energy", "score"])
def test_energies_refuse_what_is_no_batch(law):
    for model, args in ((single_scale(), ()), (many_scales(), (0.5,))):
        call = getattr(model, law)
        for x, got in [
            (draws(3, 3), "torch.float64 (3, 3)"),
            (draws(2), "torch.float64 (2,)"),
            (draws(3, 2, 1), "torch.float64 (3, 2, 1)"),
            (torch.zeros(3, 2, dtype=torch.long), "torch.int64 (3, 2)"),
            ([[1.0, 2.0]], "list"),
        ]:
            message = f"x must be a tensor of real numbers of shape (B, 2), got {got}"
            refused(message, call, x, *args)
    refused("sigma must be above 0, got -1", getattr(many_scales(), law), draws(3, 2), -1.0)
    refused(
        "sigma must be one number or have shape (3,)", getattr(many_scales(), law), draws(3, 2), [1.0, 2.0]
    )


def test_energies_refuse_what_is_no_number():
    x = draws(3, 2)
    for model in (EnergyModel(lambda x: x, (2,)), MultiScaleEnergy(lambda x, _: x, (2,), LEVELS)):
        args = () if isinstance(model, EnergyModel) else (0.5,)
        for law in (model.energy, model.score):
            refused("net must return shape (3,), got (3, 2)", law, x, *args)
    refused("got float", EnergyModel(lambda x: 0.0, (2,)).energy, x)
    for wrong in (math.nan, math.inf):
        model = EnergyModel(lambda x, w=wrong: torch.where(x[:, 0] > 0, w, x[:, 0]), (2,))
        x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]])
        refused("energy is not finite at 2 of 3 examples", model.energy, x, error=RuntimeError)
        many = MultiScaleEnergy(lambda x, _, w=wrong: torch.where(x[:, 0] > 0, w, x[:, 0]), (2,), LEVELS)
        refused("energy is not finite at 2 of 3 examples", many.energy, x, 0.5, error=RuntimeError)
    for spread in NO_NUMBERS_ABOVE_0:
        refused("spread must be", EnergyModel, smooth(), (2,), spread)
        refused("spread must be", MultiScaleEnergy, smooth(), (2,), LEVELS, spread)
    refused("levels must fall", MultiScaleEnergy, smooth(), (2,), [1.0, 2.0])


# learning


def test_the_slope_of_a_contrast_is_the_positive_less_the_negative_phase():
    weight, bias = draws(3, 3, seed=1).requires_grad_(), draws(3, seed=2).requires_grad_()
    x, y = draws(7, 3), draws(11, 3, seed=3)
    loss = contrast(lambda x: -0.5 * ((x @ weight) * x).sum(1) - x @ bias, x, y)
    assert loss.shape == (7,)
    loss.mean().backward()
    close(weight.grad, -0.5 * (x.T @ x / 7 - y.T @ y / 11))
    close(bias.grad, -(x.mean(0) - y.mean(0)))


def test_the_slope_of_a_contrast_is_that_of_the_log_likelihood():
    """On four states all means are sums."""
    table, p = draws(4).requires_grad_(), torch.tensor([0.1, 0.2, 0.3, 0.4])
    states = torch.arange(4)
    (exact,) = torch.autograd.grad(-(p * (-table).log_softmax(0)).sum(), table)
    law = (-table).softmax(0).detach()
    phases = [
        torch.autograd.grad(contrast(table.__getitem__, states[i : i + 1], states[:1]).sum(), table)[0]
        for i in states
    ]
    by_sums = sum(q * g for q, g in zip(p, phases, strict=True)) - sum(
        q * g for q, g in zip(law, phases, strict=True)
    )
    close(by_sums, exact)


def test_no_slope_goes_back_through_the_draws():
    y, model = draws(4, 2).requires_grad_(), single_scale()
    contrast(model.energy, draws(3, 2), y).sum().backward()
    assert y.grad is None
    noise_contrastive_loss(model.energy, model.energy, draws(4, 2), y).sum().backward()
    assert y.grad is None


def test_contrast_refuses():
    x, y = draws(3, 2), draws(4, 2)
    refused("energy must return shape (3,), got (3, 2)", contrast, lambda x: x, x, y)
    refused("energy must return shape (3,), got (3, 1)", contrast, lambda x: x[:, :1], x, y)
    refused("energy must return shape (3,), got float", contrast, lambda x: 0.0, x, y)
    refused("y must be a tensor (B, *E) with B at least 1, got (0, 2)", contrast, lambda x: x[:, 0], x, y[:0])
    refused("x must be a tensor (B, *E) with B at least 1, got list", contrast, lambda x: x[:, 0], [1.0], y)
    for broken in (x, y):

        def energy(z, broken=broken):
            return torch.full((len(z),), math.nan if len(z) == len(broken) else 0.0)

        message = f"energy is not finite at {len(broken)} of {len(broken)} examples"
        refused(message, contrast, energy, x, y, error=RuntimeError)


def expected_loss(log_model, p, q):
    """The loss of a table in expectation, by sums over the states."""
    states = torch.arange(len(p))
    pairs = torch.cartesian_prod(states, states)
    loss = noise_contrastive_loss(log_model.__getitem__, q.log().__getitem__, *pairs.T)
    return (p[pairs[:, 0]] * q[pairs[:, 1]] * loss).sum()


@FEW
@given(SEEDS, st.integers(2, 6))
def test_noise_contrastive_estimation_is_right_where_the_table_is_the_log_density(seed, count):
    p, q = draws(count, seed=seed).softmax(0), draws(count, seed=seed + 1).softmax(0)
    truth = p.log().requires_grad_()
    loss = expected_loss(truth, p, q)
    close(torch.autograd.grad(loss, truth)[0], torch.zeros(count), 1e-14)
    m = (p + q) / 2  # the least loss is 2 log 2 − 2 JS
    js = 0.5 * (p * (p / m).log()).sum() + 0.5 * (q * (q / m).log()).sum()
    close(loss, 2 * math.log(2) - 2 * js)
    for shift in draws(3, count, seed=seed + 2):
        assert expected_loss(truth + shift, p, q) > loss


def test_noise_contrastive_estimation_learns_the_constant():
    """All but the constant is right from the start; it is learnt where the slope is 0."""
    p, q = torch.tensor([0.2, 0.7, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    energy = -p.log() - 1.9  # log Z = 1.9

    def slope(a):
        a = torch.tensor(a, requires_grad=True)
        return torch.autograd.grad(expected_loss(-energy - a, p, q), a)[0].item()

    close(optimize.brentq(slope, -5, 5, xtol=1e-13), 1.9, 1e-12)


def test_the_constant_of_a_model_learns_its_log_z():
    """The energy of a Gaussian is right but for the constant."""
    model = EnergyModel(lambda x: 0 * x[:, 0], (2,), 0.8)
    noise = data.GaussianMixture([[0.0, 0.0]], 1.0)
    x, y = 0.8 * draws(40_000, 2), draws(40_000, 2, seed=1)
    log_z = math.log(2 * math.pi * 0.8**2)
    optimiser = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = noise_contrastive_loss(lambda x: -model.energy(x), noise.log_prob, x, y).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    close(model.constant.detach(), log_z, 0.02)


def test_the_loss_is_logistic_regression():
    model, noise = single_scale(), data.GaussianMixture([[0.0, 0.0]], 2.0)
    x, y = draws(6, 2), noise.sample((6,), generator=seeded(1))
    loss = noise_contrastive_loss(lambda x: -model.energy(x), noise.log_prob, x, y)
    logits = torch.cat([-model.energy(z) - noise.log_prob(z) for z in (x, y)])
    labels = torch.tensor([1.0] * 6 + [0.0] * 6)
    close(loss.mean(), 2 * binary_cross_entropy_with_logits(logits, labels))
    close(
        loss, binary_cross_entropy_with_logits(logits, labels, reduction="none").unflatten(0, (2, 6)).sum(0)
    )


def test_noise_contrastive_loss_refuses():
    def first(x):
        return x[:, 0]

    x, y = draws(3, 2), draws(4, 2)
    refused("x and y must have one shape, got (3, 2) and (4, 2)", noise_contrastive_loss, first, first, x, y)
    refused("log_model must return shape (3,), got (3, 2)", noise_contrastive_loss, lambda x: x, first, x, x)
    refused("log_noise must return shape (3,), got (3, 2)", noise_contrastive_loss, first, lambda x: x, x, x)
    refused("x must be a tensor", noise_contrastive_loss, first, first, x[:0], x[:0])
    nothing = torch.full((3,), -math.inf)
    message = "log_noise is not finite at 3 of 3 examples"
    refused(message, noise_contrastive_loss, first, lambda _: nothing, x, x, error=RuntimeError)
    message = "log_model is not finite at 3 of 3 examples"
    refused(message, noise_contrastive_loss, lambda _: nothing, first, x, x, error=RuntimeError)


# walks that go on


def stay(x, *, generator):
    return x


def drift(x, *, generator):
    return x + 10


def noisy(x, *, generator):
    return x + torch.randn(x.shape, generator=generator)


def numbered(count):
    return torch.arange(count, dtype=REAL)[:, None]


def test_all_walks_are_drawn_in_order_and_go_on():
    points = numbered(5)
    chains = Chains(points)
    close(chains.draw(5, drift), numbered(5) + 10, 0)
    first = chains.points
    close(chains.draw(5, drift), numbered(5) + 20, 0)
    close(chains.points, numbered(5) + 20, 0)
    close(first, numbered(5) + 10, 0)  # what was looked at before stays
    close(points, numbered(5), 0)
    assert chains.steps == 2


def test_points_are_a_copy():
    points = numbered(3)
    chains = Chains(points)
    points += 1
    close(chains.points, numbered(3), 0)
    drawn = chains.draw(3, stay)
    drawn += 1
    close(chains.points, numbered(3), 0)
    chains.draw(2, lambda x, *, generator: x.add_(0))
    close(chains.points, numbered(3), 0)


@FEW
@given(SEEDS, st.integers(1, 9))
def test_some_walks_are_drawn_by_lot_and_put_back(seed, count):
    chains = Chains(numbered(10))
    drawn = chains.draw(count, drift, generator=seeded(seed))
    assert len(drawn.unique()) == count
    moved = chains.points[:, 0] >= 10
    close(chains.points[:, 0] - 10 * moved, numbered(10)[:, 0], 0)
    close(chains.points[moved].flatten(), drawn.flatten().sort().values, 0)


def test_each_walk_is_drawn_as_often():
    chains, generator = Chains(torch.zeros(5, 1)), seeded()
    for _ in range(2000):
        chains.draw(2, lambda x, *, generator: x + 1, generator=generator)
    assert chains.points.sum() == 4000
    assert (chains.points - 800).abs().max() < 5 * math.sqrt(2000 * 0.4 * 0.6)


def test_walks_start_afresh_as_often_as_is_said():
    def start(n, generator):
        return 100 + torch.rand(n, 1, generator=generator)

    def never(n, generator):
        raise AssertionError

    for chains in (Chains(numbered(4), never), Chains(numbered(4), never, 1e-12)):
        close(chains.draw(4, stay), numbered(4), 0)
    anew = Chains(numbered(4), start, 1.0).draw(4, stay, generator=seeded())
    assert (anew >= 100).all()
    assert len(anew.unique()) == 4
    many = Chains(numbered(4000), lambda n, generator: -torch.ones(n, 1), 0.3)
    drawn = many.draw(4000, stay, generator=seeded())
    again = drawn[:, 0] < 0
    assert abs(again.double().mean() - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 4000)
    close(drawn[~again], numbered(4000)[~again], 0)
    close(many.points, drawn, 0)


def test_fresh_walks_are_moved_too():
    chains = Chains(numbered(4), lambda n, generator: torch.full((n, 1), 50.0), 1)
    close(chains.draw(4, drift), torch.full((4, 1), 60.0), 0)


def test_walks_are_reproducible():
    def run():
        chains = Chains(numbered(20), lambda n, generator: torch.randn(n, 1, generator=generator), 0.2)
        generator = seeded(5)
        return [chains.draw(7, noisy, generator=generator) for _ in range(5)]

    for one, other in zip(run(), run(), strict=True):
        close(one, other, 0)


def test_walks_record_no_gradient():
    model = single_scale()
    chains = Chains(draws(6, 2).requires_grad_())
    drawn = chains.draw(6, lambda x, *, generator: x + 0.1 * model.score(x))
    assert not drawn.requires_grad
    assert not chains.points.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
def test_walks_keep_the_dtype(dtype):
    chains = Chains(torch.zeros(4, 2, dtype=dtype), lambda n, generator: torch.zeros(n, 2), 0.5)
    assert chains.draw(3, lambda x, *, generator: x.double()).dtype == dtype
    assert chains.points.dtype == dtype
    assert Chains(torch.tensor([[True], [False]])).draw(2, stay).tolist() == [[1.0], [0.0]]


def test_walks_at_rest_keep_their_law():
    model = EnergyModel(lambda x: 0 * x[:, 0], (2,))
    chains, generator = Chains(torch.zeros(4000, 2)), seeded()
    walk = partial(langevin, model.score, steps=10, step=0.1)
    for _ in range(6):
        x = chains.draw(4000, lambda x, *, generator: walk(x, generator=generator), generator=generator)
    close(x.std(0), torch.full((2,), 1 / math.sqrt(1 - 0.05)), 0.06)


def test_lost_walks_are_told_of_and_not_kept():
    chains = Chains(numbered(3))
    chains.draw(3, drift)
    for wrong in (math.nan, math.inf):
        message = "the walks are not finite after step 2"
        refused(message, chains.draw, 3, lambda x, *, generator, w=wrong: x * w, error=RuntimeError)
    close(chains.points, numbered(3) + 10, 0)
    assert chains.steps == 1


def test_chains_refuse():
    some = numbered(3)
    for fresh in (-0.1, 1.1, math.nan, True, "0", None):
        refused("fresh must", Chains, some, stay, fresh)
    refused("fresh must lie in [0, 1], got 1.5", Chains, some, stay, 1.5)
    refused("start must be a function where fresh is above 0, got None", Chains, some, fresh=0.1)
    refused("points must be a tensor (B, *E) with B at least 1, got (0, 1)", Chains, some[:0])
    refused("points must hold finite numbers", Chains, some / 0)
    for count in (0, 2.0, True, None, -1):
        refused("count must be a whole number of at least 1", Chains(some).draw, count, stay)
    refused("count must be at most the number of walks, 3, got 4", Chains(some).draw, 4, stay)
    refused("move must return shape (3, 1), got (3,)", Chains(some).draw, 3, lambda x, *, generator: x[:, 0])
    crooked = Chains(some, lambda n, generator: torch.zeros(n, 2), 1.0)
    refused("start must return shape (3, 1), got (3, 2)", crooked.draw, 3, stay)


# the law of an energy in the plane


@FEW
@given(st.floats(0.3, 0.9), st.floats(0.3, 0.9), st.floats(-0.8, 0.8), st.floats(-5, 5))
def test_log_z_of_a_gaussian(a, b, rho, constant):
    covariance = torch.tensor([[a**2, rho * a * b], [rho * a * b, b**2]])
    precision = covariance.inverse()
    law = Normalised(lambda x: 0.5 * ((x @ precision) * x).sum(1) + constant, BOX, 0.1)
    close(law.log_partition, math.log(2 * math.pi) + 0.5 * covariance.logdet() - constant, 1e-10)
    close(law.entropy(), math.log(2 * math.pi * math.e) + 0.5 * covariance.logdet(), 1e-10)


def test_a_model_is_normalised():
    """Against Gauss and Legendre's quadrature."""
    model = single_scale()
    law = Normalised(model.energy, ((-12, 12), (-10, 11)), 0.2)

    nodes, weights = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(80))
    x = torch.cartesian_prod(12 * nodes, 12 * nodes)
    total = 144 * (torch.outer(weights, weights).flatten() * law.log_prob(x).exp()).sum()
    close(total.detach(), 1.0, 1e-9)
    assert not law.log_partition.requires_grad
    close(law.score(x[:5]), model.score(x[:5]))
    close(law.log_prob(x[:5]).detach() + model.energy(x[:5]).detach(), -law.log_partition.expand(5))


@pytest.mark.parametrize("source", [data.ring(dtype=REAL), data.GaussianMixture(draws(3, 2).double(), 0.5)])
def test_the_law_of_a_source_is_its_own(source):
    law = Normalised(lambda x: 3 - source.log_prob(x), source.box, source.detail / 3)
    close(law.log_partition, -3.0, 1e-9)
    x = source.sample((50,), generator=seeded())
    close(law.log_prob(x), source.log_prob(x), 1e-9)
    close(law.score(x), source.score(x), 1e-9)
    close(law.entropy(), source.entropy(), 1e-9)
    assert law.event_shape == source.event_shape
    assert law.box == source.box
    close(law.detail, source.detail)


def test_draws_of_a_law_have_its_moments():
    mean, scales = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 1.0])
    law = Normalised(lambda x: 0.5 * ((x - mean) / scales).square().sum(1), ((-3, 5), (-10, 6)), 0.05)
    x = law.sample((40_000,), generator=seeded())
    assert ((x.mean(0) - mean).abs() < 5 * scales / 200).all()
    assert ((x.std(0) - scales).abs() < 5 * scales / 280).all()
    close(x, law.sample((40_000,), generator=seeded()), 0)
    assert len(x.unique(dim=0)) == len(x)


def test_draws_fill_the_cells_of_a_box_that_is_no_square():
    board = ((0.0, 4.0), (-1.0, 1.0))
    law = Normalised(lambda x: torch.where(x[:, 0] < 1, 0.0, math.inf), board, 1.0)
    close(law.log_partition, math.log(2.0), 1e-12)
    close(law.entropy(), math.log(2.0), 1e-12)
    x = law.sample((5000,), generator=seeded())
    assert (x[:, 0] >= 0).all()
    assert (x[:, 0] < 1).all()
    assert (x[:, 1].abs() < 1).all()
    close(x.var(0), torch.tensor([1 / 12, 4 / 12]), 0.02)
    close(x.mean(0), torch.tensor([0.5, 0.0]), 0.05)
    assert law.log_prob(torch.tensor([[2.0, 0.0]])) == -math.inf


def test_a_law_works_in_the_dtype_it_is_told():
    model = single_scale().float()
    law = Normalised(model.energy, BOX, 0.2, dtype=torch.float32)
    assert law.sample((3,)).dtype == torch.float32
    assert law.log_prob(law.sample((3,))).dtype == torch.float32
    assert law.entropy().dtype == torch.float32
    assert law.log_partition.dtype == REAL
    close(law.log_partition, Normalised(model.double().energy, BOX, 0.2).log_partition, 1e-5)


def test_a_law_refuses():
    def bowl(x):
        return x.square().sum(1)

    for box in (((1, 1), (0, 1)), ((0, 1), (2, 1)), ((0, 1),), (0, 1), ((0, 1), (0, 1), (0, 1))):
        refused("box must be ((left, right), (bottom, top))", Normalised, bowl, box, 0.1)
    for box in (None, "box", ((0, math.inf), (0, 1)), ((0, math.nan), (0, 1))):
        refused("box must hold", Normalised, bowl, box, 0.1)
    for step in NO_NUMBERS_ABOVE_0:
        refused("step must be", Normalised, bowl, BOX, step)
    refused("energy must return shape (512,), got (512, 2)", Normalised, lambda x: x, BOX, 0.5)
    for wrong, got in ((math.nan, "nan"), (math.inf, "-inf"), (-math.inf, "inf")):
        message = f"Z must be finite and above 0, got log Z = {got}"
        refused(message, Normalised, lambda x, w=wrong: 0 * x[:, 0] + w, BOX, 0.5, error=RuntimeError)
    law = Normalised(bowl, BOX, 0.5)
    refused("shape must be a tuple (n,)", law.sample, 3)
    refused("x must have shape (..., 2), got (4, 3)", law.log_prob, draws(4, 3))


@FEW
@given(st.floats(-9, 9), st.floats(-9, 9), st.floats(0.1, 9), st.floats(0.1, 9), st.floats(0.2, 3))
def test_cells_tile_the_box(left, bottom, width, height, step):
    box = ((left, left + width), (bottom, bottom + height))
    points, areas = zip(*data.cells(box, step), strict=True)
    x = torch.cat(points)
    close(len(x) * areas[0], width * height, 1e-9)
    side = round(math.sqrt(len(x)))
    close(x, data.lattice(box, side), 0)
    assert max(width, height) / side <= step * (1 + 1e-9)
    assert side == 1 or max(width, height) / (side - 1) > step * (1 - 1e-9)
    assert all(len(part) <= 512 for part in points)
