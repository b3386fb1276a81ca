"""Mixtures in layers against brute force over their paths, and mixtures that a network reads off a condition."""

import itertools
import math
import re

import pytest
import torch
from exactness import REAL, close, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.decomposition import FactorAnalysis
from torch import nn
from torch.distributions import MultivariateNormal

from genlib import data
from genlib.mixture import climb
from genlib.mixture.deep import DeepMixture, Layer
from genlib.mixture.experts import MixtureDensityNet
from genlib.mixture.moments import blend
from genlib.mixture.normal import NormalMixture

SEEDS = st.integers(0, 10**6)
SHAPES = (((3, 1),), ((2, 2), (3, 1)), ((2, 3), (2, 2)), ((2, 2), (2, 2), (2, 1)))


def refused(message, job, *args, **kw):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        job(*args, **kw)


def deep(sizes=SHAPES[1], dims=2, seed=0):
    layers, g = [], seeded(seed)
    for K, d in sizes:
        weights = 0.3 + torch.rand(K, generator=g, dtype=REAL)
        maps = torch.randn(K, dims, d, generator=g, dtype=REAL)
        shifts = 2 * torch.randn(K, dims, generator=g, dtype=REAL)
        noise = 0.2 + torch.rand(K, dims, generator=g, dtype=REAL)
        layers.append(Layer(maps, shifts, noise, weights / weights.sum()))
        dims = d
    return DeepMixture(layers)


def rows(n=60, seed=0):
    return deep(seed=seed + 7).sample((n,), generator=seeded(seed))


def alike(one, other, atol=1e-10):
    for layer, twin in zip(one.layers, other.layers, strict=True):
        for part, copy in zip(layer, twin, strict=True):
            close(part, copy, atol)


def joint(model, path):
    """Mean and covariance of all numbers of a path, from the data to the top, as one normal vector."""
    sizes = [*(layer.maps.shape[1] for layer in model.layers), model.layers[-1].maps.shape[2]]
    ends = torch.tensor(sizes).cumsum(0).tolist()
    spans = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    mean, precision = torch.zeros(ends[-1], dtype=REAL), torch.zeros(ends[-1], ends[-1], dtype=REAL)
    precision[spans[-1], spans[-1]] = torch.eye(sizes[-1], dtype=REAL)
    for number in reversed(range(len(model.layers))):
        layer, k = model.layers[number], path[number]
        below, above = spans[number : number + 2]
        mean[below] = layer.maps[k] @ mean[above] + layer.shifts[k]
        root = torch.zeros(sizes[number], ends[-1], dtype=REAL)  # whitened ε as a function of all numbers
        root[:, below], root[:, above] = torch.eye(sizes[number], dtype=REAL), -layer.maps[k]
        precision += root.T @ torch.diag(1 / layer.noise[k]) @ root
    return mean, precision.inverse(), spans


def paths(model):
    return list(itertools.product(*(range(len(layer.maps)) for layer in model.layers)))


# Densities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SHAPES)
def test_the_density_is_a_sum_over_paths(sizes):
    model, x = deep(sizes), rows()
    parts = []
    for path in paths(model):
        mean, covariance, spans = joint(model, path)
        part = MultivariateNormal(mean[spans[0]], covariance[spans[0], spans[0]]).log_prob(x)
        weight = math.prod(layer.weights[k].item() for layer, k in zip(model.layers, path, strict=True))
        parts.append(part + math.log(weight))
    parts = torch.stack(parts, 1)
    close(model.paths, torch.tensor(paths(model)))
    close(model.log_joint(x), parts, 1e-11)
    close(model.log_prob(x), parts.logsumexp(1), 1e-11)
    close(model.responsibilities(x), parts.softmax(1), 1e-11)
    close(model.flat().log_prob(x), model.log_prob(x), 0)
    close(model.loss(x), -model.log_prob(x), 0)
    assert model.event_shape == (2,)
    assert model.parameters_count == sum(
        K * D * d + 2 * K * D + K - 1 for (K, D, d) in (layer.maps.shape for layer in model.layers)
    )


@pytest.mark.parametrize("sizes", SHAPES[1:])
def test_draws_layer_by_layer_have_the_flat_law(sizes):
    """Through each entry's own exact distribution function draws become uniform, and so through that of a sum."""
    model = deep(sizes)
    flat, x = model.flat(), model.sample((3_000,), generator=seeded(1))
    for v in torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, -0.8]], dtype=REAL):
        mean, spread = flat.means @ v, (v @ flat.covariances @ v).sqrt()
        uniform = torch.special.ndtr(((x @ v)[:, None] - mean) / spread) @ flat.weights
        assert stats.kstest(uniform, "uniform").pvalue > 0.01
    k = torch.arange(len(model.paths)).repeat_interleave(2_000)
    drawn = model._draw(k, seeded(2)).reshape(len(model.paths), 2_000, 2)
    error = (drawn.mean(1) - flat.means) / (flat.covariances.diagonal(dim1=1, dim2=2) / 2_000).sqrt()
    assert error.abs().max() < 4


# One step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pull", [0.0, 0.7])
@pytest.mark.parametrize("sizes", SHAPES)
def test_the_step_against_brute_force(sizes, pull):
    """Condition all numbers of every path on each row; then each component is a weighted regression."""
    model, x = deep(sizes), rows(25)
    r = model.responsibilities(x)
    sums = [{} for _ in model.layers]  # of 1, z and z zᵀ, for z the numbers below and above
    for p, path in enumerate(paths(model)):
        mean, S, spans = joint(model, path)
        gain = S[:, spans[0]] @ S[spans[0], spans[0]].inverse()
        left = S - gain @ S[spans[0]]
        for n in range(len(x)):
            guess = mean + gain @ (x[n] - mean[spans[0]])
            second = torch.outer(guess, guess) + left
            for number, k in enumerate(path):
                part = slice(spans[number].start, spans[number + 1].stop)
                one, first, both = sums[number].get(k, (0.0, 0.0, 0.0))
                w = r[n, p]
                sums[number][k] = (one + w, first + w * guess[part], both + w * second[part, part])
    new = model.improved(x, pull)
    for number, (layer, found) in enumerate(zip(model.layers, sums, strict=True)):
        K, D, d = layer.maps.shape
        m = torch.cat([x.mean(0) if number == 0 else torch.zeros(D, dtype=REAL), torch.zeros(d, dtype=REAL)])
        s = torch.ones(D + d, dtype=REAL)
        if number == 0:
            s[:D] = x.var(0, correction=0)
        for k in range(K):
            one, first, both = found[k]
            close(new.layers[number].weights[k], one / len(x), 1e-10)
            one, first, both = one + pull, first + pull * m, both + pull * (torch.outer(m, m) + s.diag())
            design = torch.cat([first[D:, None].T, both[D:, D:]])  # of 1 and of the numbers above
            design = torch.cat([torch.cat([one[None], first[D:]])[:, None], design], 1)
            target = torch.cat([first[:D, None], both[:D, D:]], 1)
            fit = torch.linalg.solve(design, target.T).T
            close(new.layers[number].shifts[k], fit[:, 0], 1e-9)
            close(new.layers[number].maps[k], fit[:, 1:], 1e-9)
            close(new.layers[number].noise[k], (both[:D, :D] - fit @ target.T).diagonal() / one, 1e-9)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(SHAPES), st.sampled_from([0.0, 0.05, 2.0]), SEEDS)
def test_a_step_never_lowers_what_it_raises(sizes, pull, seed):
    model, x = deep(sizes, seed=seed), rows(seed=seed)
    counts = 0.5 + torch.rand(len(x), generator=seeded(seed), dtype=REAL)
    before = model.penalised(x, pull, counts=counts)
    for _ in range(4):
        model = model.improved(x, pull, counts=counts)
        after = model.penalised(x, pull, counts=counts)
        assert after >= before - 1e-10 * before.abs()
        before = after


@pytest.mark.parametrize("sizes", SHAPES[:2])
def test_where_steps_end_the_slope_is_zero(sizes):
    layers = deep(sizes, seed=3).layers
    apart = DeepMixture(
        [layer._replace(noise=0.1 * layer.noise, shifts=2 * layer.shifts) for layer in layers]
    )
    x, pull = apart.sample((60,), generator=seeded()), 3.0

    def slopes(model):
        parts = [part.clone() for layer in model.layers for part in (*layer[:3], layer.weights.log())]
        parts = [part.requires_grad_() for part in parts]
        layers = [Layer(*parts[i : i + 3], parts[i + 3].softmax(0)) for i in range(0, len(parts), 4)]
        return torch.autograd.grad(DeepMixture(layers).penalised(x, pull), parts)

    end, _ = climb(apart, x, 150, tol=1e-9, pull=pull)
    assert max(slope.abs().max() for slope in slopes(end)) < 0.06
    assert min(slope.abs().max() for slope in slopes(apart)) > 0.2


def test_fishers_identity():
    """Fisher's identity: the slope of log p(x) is that of log p(x, path), responsibilities held fixed."""
    model, x = deep(), rows()
    r = model.responsibilities(x)

    def slope(height):
        parts = [part.clone().requires_grad_() for layer in model.layers for part in layer[:3]]
        layers = [Layer(*parts[3 * i : 3 * i + 3], layer.weights) for i, layer in enumerate(model.layers)]
        return torch.autograd.grad(height(DeepMixture(layers)), parts)

    exact = slope(lambda moved: moved.log_prob(x).sum())
    for one, other in zip(exact, slope(lambda moved: (r * moved.log_joint(x)).sum()), strict=True):
        close(one, other, 1e-9)
        assert one.abs().max() > 0.01


def test_one_component_is_factor_analysis():
    g = seeded(2)
    loadings = torch.randn(5, 2, generator=g, dtype=REAL)
    noise = 0.3 + torch.rand(5, generator=g, dtype=REAL)
    truth = DeepMixture([Layer(loadings[None], torch.ones(1, 5, dtype=REAL), noise[None], [1.0])])
    x = truth.sample((300,), generator=g)
    reference = FactorAnalysis(2, tol=1e-12, max_iter=20_000, svd_method="lapack").fit(x.numpy())
    model = DeepMixture.fit(x, [(1, 2)], starts=1, steps=500, tol=1e-8, generator=g)
    close(model.log_prob(x).mean(), torch.tensor(reference.score(x.numpy())), 1e-5)
    close(model.flat().covariances[0], torch.tensor(reference.get_covariance()), 0.02)
    close(model.layers[0].shifts[0], x.mean(0), 1e-8)


def test_blended_halves_and_counts():
    model, x = deep(), rows(60)
    halves = blend(model.moments(x[:20]), model.moments(x[20:]), 0.5)
    alike(model.maximised(halves), model.improved(x), 1e-9)
    counts = torch.arange(60) % 3
    again = x.repeat_interleave(counts, 0)
    alike(model.improved(x, 0.5, counts=counts), model.improved(again, 0.5), 1e-9)
    close(model.penalised(x, 0.5, counts=counts), model.penalised(again, 0.5), 1e-9)


def test_single_precision_far_from_zero():
    model, x = deep(), rows(400)
    (maps, shifts, noise, weights), *rest = model.layers
    far = Layer(maps.float(), (shifts + 1e4).float(), noise.float(), weights)
    far = DeepMixture([far, *(Layer(*(part.float() for part in layer)) for layer in rest)])
    shifted = (x + 1e4).float()
    exact, new = model.improved(shifted.to(REAL) - 1e4, 0.5), far.improved(shifted, 0.5)
    close(new.layers[0].noise.to(REAL), exact.layers[0].noise, 5e-3)
    close(new.layers[0].shifts.to(REAL) - 1e4, exact.layers[0].shifts, 5e-3)


# Learning ----------------------------------------------------------------------------------------------------


def test_rows_times_columns_are_found():
    """Nine clusters on a grid, by three components and three above them."""
    source = data.grid(3, dtype=REAL, scale=0.1)
    x = source.sample((300,), generator=seeded())
    model = DeepMixture.fit(x, [(3, 1), (3, 1)], pull=0.01, starts=3, steps=40, tol=1e-3, generator=seeded(1))
    assert torch.cdist(source.means, model.flat().means).amin(1).max() < 0.1
    assert (source.log_prob(x) - model.log_prob(x)).mean() < 0.1  # nats
    assert len(model.paths) == 9


def test_no_global_state():
    x, before = rows(), torch.get_rng_state()
    pair = [DeepMixture.started(x, [(2, 2), (2, 1)], steps=2, pull=0.1, generator=seeded(5)) for _ in "ab"]
    alike(*pair, 0)
    assert pair[0].sample((3,), generator=seeded()).dtype == REAL
    assert torch.equal(torch.get_rng_state(), before)


def test_what_goes_wrong_is_named():
    x, model = rows(), deep(((2, 1),))
    (layer,) = model.layers
    far = DeepMixture([layer._replace(shifts=layer.shifts + torch.tensor([[0.0], [1e5]]))])
    with pytest.raises(RuntimeError, match="component 1 has no rows left"):
        far.improved(x)
    kept = far.improved(x, 2.0)
    close(kept.layers[0].maps[1], torch.zeros(2, 1, dtype=REAL))
    close(kept.layers[0].shifts[1], x.mean(0))
    close(kept.layers[0].noise[1], x.var(0, correction=0))
    flat = x.clone()
    flat[:, 1] = 3.0
    steady = DeepMixture([layer._replace(shifts=torch.tensor([[0.0, 3.0]] * 2), noise=1e-3 * layer.noise)])
    with pytest.raises(RuntimeError, match=r"component \d of layer 0 has noise that is not above 0"):
        climb(steady, flat, 300, tol=0)
    refused("x must vary in every entry", DeepMixture.fit, flat, [(2, 1)])


def test_what_is_refused():
    x, model = rows(), deep()
    low, high = model.layers
    refused("layers must hold at least one", DeepMixture, [])
    refused(
        "layers must fit: below takes 2 numbers, above gives 3",
        DeepMixture,
        [low, *deep(((2, 1),), 3).layers],
    )
    refused("maps must have shape (K, D, d)", DeepMixture, [low._replace(maps=torch.ones(2, 2))])
    refused("shifts must have shape (2, 2)", DeepMixture, [low._replace(shifts=torch.ones(3, 2))])
    refused("noise must have shape (2, 2)", DeepMixture, [low._replace(noise=torch.ones(2))])
    refused("noise must be above 0, got 0", DeepMixture, [low._replace(noise=0 * low.noise)])
    refused("weights must sum to 1", DeepMixture, [low._replace(weights=[0.5, 0.6])])
    refused("weights must have shape (3,)", DeepMixture, [low, high._replace(weights=[1.0])])
    for job in (model.log_prob, model.improved, model.penalised, lambda x: DeepMixture.fit(x, [(2, 1)])):
        refused("x must", job, torch.zeros(3))
        refused("x must", job, x * torch.nan)
    refused("pull must be", model.improved, x, -1.0)
    refused("counts must hold 60", model.improved, x, counts=torch.ones(3))
    refused("components must be at most the 60 rows", DeepMixture.fit, x, [(61, 1)])
    refused("d in sizes must be at most the 2 numbers below, got 3", DeepMixture.fit, x, [(2, 3)])
    refused("starts must be", DeepMixture.fit, x, [(2, 1)], starts=0)


# A network that says what the components are -----------------------------------------------------------------


def test_a_mixture_density_by_hand():
    net, c = nn.Linear(3, 4 * 5).double(), torch.randn(7, 3, generator=seeded(), dtype=REAL)
    model, x = MixtureDensityNet(net, 4, 2), torch.randn(7, 2, generator=seeded(1), dtype=REAL)
    out = net(c)
    for n in range(7):
        weights = out[n, :4].exp() / out[n, :4].exp().sum()
        density = 0.0
        for k in range(4):
            mu, sigma = out[n, 4 + 2 * k : 6 + 2 * k], out[n, 12 + 2 * k : 14 + 2 * k].exp()
            z = (x[n] - mu) / sigma
            density = density + weights[k] * ((-z.square() / 2).exp() / sigma / math.sqrt(2 * math.pi)).prod()
        close(model.loss(x, c)[n], -density.log())
    p = model(c)
    assert p.batch_shape == (7,)
    assert p.event_shape == model.event_shape == (2,)
    close(p.log_prob(x), -model.loss(x, c), 0)
    fixed = nn.Linear(1, 6).double()
    with torch.no_grad():
        fixed.weight.zero_()
        fixed.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0, 0.1, -0.4]))
    flat = NormalMixture(
        [[-1.0], [2.0]], torch.tensor([0.1, -0.4]).mul(2).exp(), [0.26894142, 0.73105858], "round"
    )
    y = torch.linspace(-2, 3, 7, dtype=REAL)[:, None]
    close(MixtureDensityNet(fixed, 2).loss(y, torch.zeros(7, 1, dtype=REAL)), flat.loss(y).to(REAL), 1e-6)


def test_a_mixture_density_learns_two_branches():
    g = seeded()
    c = 2 * torch.rand(200, 1, generator=g, dtype=REAL) - 1
    x = torch.where(torch.rand(200, 1, generator=g) < 0.3, c, -c) + 0.05 * torch.randn(
        200, 1, generator=g, dtype=REAL
    )
    model = MixtureDensityNet(nn.Linear(1, 6).double(), 2)
    with torch.no_grad():
        model.net.weight.copy_(0.1 * torch.tensor([[0.0], [0.0], [1.0], [-1.0], [0.0], [0.0]]))
        model.net.bias.zero_()
    optimiser = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(200):
        optimiser.zero_grad()
        model.loss(x, c).mean().backward()
        optimiser.step()
    slopes = model.net.weight[2:4, 0].detach()
    close(slopes, torch.tensor([1.0, -1.0], dtype=REAL), 0.05)
    weights = model(torch.zeros(1, 1, dtype=REAL)).mixture_distribution.probs[0].detach()
    close(weights, torch.tensor([0.3, 0.7], dtype=REAL), 0.12)


def test_what_a_mixture_density_refuses():
    c = torch.zeros(3, 2)
    refused("components must be", MixtureDensityNet, nn.Identity(), 0)
    refused("dims must be", MixtureDensityNet, nn.Identity(), 2, 0)
    refused("net must return shape (B, 6), got (3, 5)", MixtureDensityNet(nn.Linear(2, 5), 2), c)
    model = MixtureDensityNet(nn.Linear(2, 6), 2)
    refused("x must have shape", model.loss, torch.zeros(3, 2), c)
    refused("x must have a row for each of the 3 conditions", model.loss, torch.zeros(4, 1), c)
    refused("x must not hold NaN", model.loss, torch.full((3, 1), torch.nan), c)
    nn.init.constant_(model.net.bias, 200.0)
    with pytest.raises(RuntimeError, match="log σ must lie between"):
        model(c)
