"""Flows on images: layers, the boundary transform, convolutional conditioners, and models of whole numbers."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from bijections import (
    BRIEF,
    SEEDS,
    assert_gradients,
    assert_undone,
    assert_volumes,
    draws,
    shaken,
)
from exactness import FEW, REAL, close, seeded
from hypothesis import given
from hypothesis import strategies as st
from torch import distributions as td

from genlib.flows import (
    ActNorm,
    Affine,
    Conv1x1,
    Conv1x1LU,
    Coupling,
    Dequantised,
    Entrywise,
    Flow,
    HalfOfChannels,
    Histogram,
    Inverse,
    Logit,
    Probit,
    Spline,
    Squeeze,
    Stack,
    UniformNoise,
    channelwise,
    checkerboard,
)
from genlib.nets import ConvNet

pytestmark = pytest.mark.usefixtures("double")


def a_coupling(mask, function):
    return Coupling(mask, function, ConvNet(mask, function.count, 4))


# a layer, and the shapes of its latent examples
KINDS = {
    "actnorm": (lambda: ActNorm(3), (3, 2, 2)),
    "conv": (lambda: Conv1x1(3), (3, 1, 2)),
    "conv-lu": (lambda: Conv1x1LU(2), (2, 2, 3)),
    "checkerboard-affine": (lambda: a_coupling(checkerboard(3, 2), Affine()), (1, 3, 2)),
    "channelwise-spline": (lambda: a_coupling(channelwise(2, 2, 2), Spline(3, 2.0)), (2, 2, 2)),
    "squeeze": (lambda: Squeeze(), (4, 1, 2)),
    "unsqueeze": (lambda: Inverse(Squeeze()), (1, 4, 2)),
    "half-of-channels": (lambda: HalfOfChannels(ActNorm(2)), (4, 1, 2)),
    "half-of-features": (lambda: HalfOfChannels(Conv1x1(2)), (4,)),
    "logit": (lambda: Logit(0.05), (3,)),
    "logit-image": (lambda: Logit(), (1, 2, 2)),
    "probit": (lambda: Probit(0.01), (3,)),
    "probit-image": (lambda: Probit(), (1, 2, 2)),
    "histogram": (lambda: Entrywise(Histogram(4), torch.zeros(2, 4)), (2,)),
    "entrywise-spline": (lambda: Entrywise(Spline(3, 2.0), torch.zeros(1, 2, 2, 8)), (1, 2, 2)),
    "nested": (
        lambda: Stack(
            [
                HalfOfChannels(
                    Stack(
                        [a_coupling(~channelwise(2, 1, 2), Affine()), Conv1x1(2), HalfOfChannels(ActNorm(1))]
                    )
                ),
                Squeeze(),
                Inverse(a_coupling(checkerboard(2, 4), Spline(3))),
                Inverse(ActNorm(1)),
                Logit(0.1),
            ]
        ),
        (4, 1, 2),
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def a_layer(kind, seed=0, spread=0.6):
    torch.manual_seed(seed)
    return shaken(KINDS[kind][0](), seed, spread)


def latent_and_data(kind, layer, n, seed, dtype=REAL):
    """Two batches, neither of them an image of the other."""
    z, other = (draws((n, *KINDS[kind][1]), seed + i).to(dtype) for i in range(2))
    return z, layer(other)[0].detach()


@every_kind
@BRIEF
@given(SEEDS, st.sampled_from([0.2, 0.5]), st.integers(1, 3))
def test_each_direction_undoes_the_other(kind, seed, spread, n):
    layer = a_layer(kind, seed, spread)
    assert_undone(layer, *latent_and_data(kind, layer, n, seed))


@every_kind
@BRIEF
@given(SEEDS, st.sampled_from([0.2, 0.5]), st.integers(1, 2))
def test_ladj_is_the_log_determinant_of_the_jacobian(kind, seed, spread, n):
    layer = a_layer(kind, seed, spread)
    assert_volumes(layer, *latent_and_data(kind, layer, n, seed))


@every_kind
@pytest.mark.parametrize("seed", range(2))
def test_gradients_agree_with_finite_differences_in_both_directions(kind, seed):
    layer = a_layer(kind, seed)
    z, x = latent_and_data(kind, layer, 2, seed)
    assert_gradients(layer, z)
    assert_gradients(Inverse(layer), x)


@every_kind
@BRIEF
@given(SEEDS)
def test_float32_is_kept_and_undone_to_its_precision(kind, seed):
    layer = a_layer(kind, seed, 0.4).float()
    z, x = latent_and_data(kind, layer, 3, seed, torch.float32)
    assert_undone(layer, z, x, 1e-3)


@every_kind
def test_examples_of_a_batch_do_not_touch_each_other(kind):
    layer = a_layer(kind)
    for direction, batch in zip(
        (layer.forward, layer.inverse), latent_and_data(kind, layer, 3, 0), strict=True
    ):
        together, ladj = direction(batch)
        for i in range(3):
            alone, change = direction(batch[i : i + 1])
            close(alone[0], together[i])
            close(change[0], ladj[i])


@every_kind
def test_layers_refuse_nan_and_infinity(kind):
    layer = a_layer(kind)
    z, x = latent_and_data(kind, layer, 2, 0)
    for name, direction, batch in (("z", layer.forward, z), ("x", layer.inverse, x)):
        for bad in (math.nan, math.inf, -math.inf):
            batch[(-1,) * batch.ndim] = bad
            with pytest.raises(ValueError, match=f"^{name} must hold finite numbers"):
                direction(batch)


# layers on images


SQUASHED = {
    "logit": (Logit, td.SigmoidTransform()),
    "probit": (Probit, td.CumulativeDistributionTransform(td.Normal(0.0, 1.0))),
}
every_squash = pytest.mark.parametrize("kind", SQUASHED)


@every_squash
@FEW
@given(SEEDS, st.sampled_from([1e-6, 0.01, 0.2, 0.49]))
def test_boundary_transforms_agree_with_torch(kind, seed, alpha):
    make, squash = SQUASHED[kind]
    layer, z = make(alpha), draws((4, 3), seed)
    share = 1 / (1 - 2 * alpha)
    expected = td.ComposeTransform([squash, td.AffineTransform(-alpha * share, share)])
    x, ladj = layer(z)
    close(x, expected(z), 1e-11)
    close(ladj, expected.log_abs_det_jacobian(z, x).sum(1), 1e-11)
    back, other = layer.inverse(x)
    close(back, squash.inv(alpha + (1 - 2 * alpha) * x), 1e-7)
    close(back, z, 1e-7)
    close(other, -ladj, 1e-7)


@every_squash
@pytest.mark.parametrize("alpha", [1e-5, 0.01, 0.1, 0.4])
def test_boundary_transforms_take_the_ends_of_the_data(kind, alpha):
    make, squash = SQUASHED[kind]
    z, ladj = make(alpha).inverse(torch.tensor([[0.0], [0.5], [1.0]]))
    expected = squash.inv(torch.tensor([alpha, 0.5, 1 - alpha]))
    close(z[:, 0], expected, 1e-9)
    close(ladj, math.log(1 - 2 * alpha) - squash.log_abs_det_jacobian(expected, None), 1e-9)


@every_squash
def test_boundary_transforms_refuse(kind):
    make, _ = SQUASHED[kind]
    layer = make(0.1)  # the line has places from −0.125 to 1.125
    for x in ([[-0.1249, 1.1249]], [[0.0, 1.0]]):
        assert layer.inverse(torch.tensor(x))[0].isfinite().all()
    assert layer.inverse(torch.zeros(0, 2))[0].shape == (0, 2)
    for bad in (-0.1251, 1.1251, 9.0):
        with pytest.raises(ValueError, match=r"^x must lie between 0 and 1, got"):
            layer.inverse(torch.tensor([[0.5, bad]]))
    with pytest.raises(ValueError, match="^x must lie between"):
        Flow([layer], (2,)).log_prob(torch.tensor([[0.5, 3.0]]))
    for alpha in (0, -0.1, 0.5, 0.7, math.nan, math.inf, "1", True):
        with pytest.raises(ValueError, match="^alpha must"):
            make(alpha)


@FEW
@given(SEEDS, st.integers(2, 6))
def test_histogram_is_the_cumulative_distribution_of_its_bars(seed, bins):
    function, theta = Histogram(bins), draws(bins, seed)
    assert function.count == bins
    p = theta.exp() / theta.exp().sum()
    knots = np.concatenate([[0], np.cumsum(p.numpy())])
    edges = np.linspace(0, 1, bins + 1)
    x = torch.rand(30, generator=seeded(seed))
    z, log_slope = function.inverse(x, theta)
    close(z, np.interp(x.numpy(), edges, knots))
    close(log_slope, (bins * p[(bins * x).long()]).log())
    z = torch.rand(30, generator=seeded(seed + 1))
    x, log_slope = function.forward(z, theta)
    close(x, np.interp(z.numpy(), knots, edges), 1e-10)
    close(log_slope, -(bins * p[(bins * x).long()]).log(), 1e-10)


@FEW
@given(SEEDS, st.integers(2, 6))
def test_histogram_at_its_knots_and_beyond_its_ends(seed, bins):
    function, theta = Histogram(bins), draws(bins, seed)
    p = theta.softmax(-1)
    z, _ = function.inverse(torch.arange(bins + 1) / bins, theta)
    close(z, torch.cat([torch.zeros(1), p.cumsum(0)]))
    outside = torch.tensor([-3.0, -0.5, 1.5, 4.0])
    first, last = bins * p[0], bins * p[-1]
    z, log_slope = function.inverse(outside, theta)
    close(z, torch.stack([-3 * first, -0.5 * first, 1 + 0.5 * last, 1 + 3 * last]))
    close(log_slope, torch.stack([first, first, last, last]).log())
    back, log_slope = function.forward(z, theta)
    close(back, outside, 1e-10)
    close(log_slope, -torch.stack([first, first, last, last]).log())


@pytest.mark.parametrize("shape", [(1,), (3,), (1, 2, 2)])
def test_entrywise_gives_each_entry_its_own_parameters(shape):
    theta = draws((*shape, 8))
    layer, z = Entrywise(Spline(3), theta), draws((5, *shape), 1, 2)
    assert torch.equal(layer.theta, theta)
    assert layer.theta.data_ptr() != theta.data_ptr()
    for direction, change in ((layer.forward, Spline(3).forward), (layer.inverse, Spline(3).inverse)):
        x, ladj = direction(z)
        total = 0
        for place in itertools.product(*map(range, shape)):
            expected, log_slope = change(z[(slice(None), *place)], theta[place].expand(5, -1))
            close(x[(slice(None), *place)], expected)
            total = total + log_slope
        close(ladj, total)


def test_entrywise_and_histogram_refuse():
    for bins in (0, 1, 2.0, True):
        with pytest.raises(ValueError, match="^bins must be a whole number of at least 2"):
            Histogram(bins)
    for theta in (torch.zeros(4), torch.zeros(2, 3), torch.zeros(()), torch.zeros(4, 1)):
        with pytest.raises(ValueError, match=r"^theta must have shape \(\*E, 4\), got"):
            Entrywise(Histogram(4), theta)
    layer = Entrywise(Histogram(4), torch.zeros(2, 4))
    for direction in (layer.forward, layer.inverse):
        for shape in ((2,), (5, 3), (5, 1), (5, 2, 2)):
            with pytest.raises(ValueError, match=r"^[zx] must have shape \(B, 2\), got"):
                direction(torch.zeros(shape))
    with pytest.raises(ValueError, match="^theta must hold finite numbers"):
        Entrywise(Histogram(2), torch.tensor([[math.nan, 0.0]]))


@BRIEF
@given(SEEDS, st.sampled_from([1e-4, 0.05]))
def test_probit_and_histogram_make_a_table_of_probabilities(seed, alpha):
    p = draws((3, 4), seed).softmax(-1)
    flow = Flow([Probit(alpha), Entrywise(Histogram(4), p.log())], (3,))
    k = torch.randint(4, (6, 3), generator=seeded(seed))
    expected = p.log().expand(6, 3, 4).gather(-1, k[..., None])[..., 0].sum(-1) + 3 * math.log(1 - 2 * alpha)
    close(
        flow.log_prob((k + torch.rand(k.shape, generator=seeded(seed))) / 4), expected + 3 * math.log(4), 1e-9
    )
    model = Dequantised(flow, 4)
    close(model.elbo(k), expected, 1e-9)
    close(model.bound(k, 3), expected, 1e-9)


@BRIEF
@given(SEEDS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_squeeze_lays_blocks_of_pixels_into_channels(seed, channels, height, width):
    x = draws((2, channels, 2 * height, 2 * width), seed)
    z, ladj = Squeeze().inverse(x)
    assert z.shape == (2, 4 * channels, height, width)
    assert ladj.tolist() == [0, 0]
    for c, i, j in itertools.product(range(channels), range(height), range(width)):
        block = x[:, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        assert torch.equal(z[:, 4 * c : 4 * c + 4, i, j], block.flatten(1))
    assert torch.equal(Squeeze()(z)[0], x)


def test_squeeze_refuses():
    for shape in ((2, 1, 3, 2), (2, 1, 2, 3), (2, 2, 2), (2, 4), (2,), (2, 1, 1, 2, 2)):
        with pytest.raises(ValueError, match=r"^x must have shape \(B, C, H, W\) with even H and W, got"):
            Squeeze().inverse(torch.zeros(shape))
    for shape in ((2, 3, 2, 2), (2, 4, 2), (2, 4), (2,), (2, 4, 1, 2, 2)):
        with pytest.raises(ValueError, match=r"^z must have shape \(B, 4C, H, W\), got"):
            Squeeze()(torch.zeros(shape))


def test_half_of_the_channels_stay_as_they_are():
    inside = a_layer("conv")
    layer, z = HalfOfChannels(inside), draws((2, 6, 2, 2))
    for direction, own in ((layer.forward, inside.forward), (layer.inverse, inside.inverse)):
        x, ladj = direction(z)
        assert torch.equal(x[:, 3:], z[:, 3:])
        expected, change = own(z[:, :3])
        close(x[:, :3], expected)
        close(ladj, change)


def test_half_of_channels_refuses_odd_numbers():
    layer = HalfOfChannels(ActNorm(1))
    for direction in (layer.forward, layer.inverse, layer.initialise):
        for shape in ((2, 3, 2, 2), (2, 1), (2,)):
            with pytest.raises(ValueError, match="^x must have shape .* with an even C"):
                direction(torch.ones(shape))


@BRIEF
@given(SEEDS, st.integers(1, 4), st.integers(1, 3), st.integers(2, 3))
def test_initialise_makes_each_channel_standard(seed, channels, height, width):
    x = draws((5, channels, height, width), seed, 3) + 4 * torch.arange(channels)[:, None, None]
    layer = ActNorm(channels)
    z = layer.initialise(x)
    close(z, layer.inverse(x)[0])
    close(z.mean((0, 2, 3)), torch.zeros(channels), 1e-10)
    close(z.std((0, 2, 3), correction=0), torch.ones(channels), 1e-10)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 7.7, 255.0, -1e6])
@pytest.mark.parametrize("dtype", [torch.float32, REAL])
def test_initialise_refuses_a_constant_channel(value, dtype):
    """Rounding must not make a constant vary."""
    for n, channels in itertools.product((1, 5, 15, 1000), (1, 2)):
        x = draws((n, channels, 3, 1)).to(dtype)
        x[:, -1] = value
        layer = ActNorm(channels).to(dtype)
        with pytest.raises(
            ValueError, match="^x must vary in each channel by more than rounding does, got a spread of "
        ):
            layer.initialise(x)
        assert (layer.log_scale == 0).all()
        assert (layer.shift == 0).all()


def test_initialise_reaches_half_of_the_channels_and_what_stands_before_them():
    x = draws((30, 1, 4, 4), 1, 3) + 2
    first, inside = ActNorm(4), ActNorm(2)
    stack = Stack([first, HalfOfChannels(inside), Squeeze()])
    z = stack.initialise(x)
    squeezed = Squeeze().inverse(x)[0]
    close(inside.shift, squeezed[:, :2].mean((0, 2, 3)))
    close(first.shift, torch.cat([torch.zeros(2), squeezed[:, 2:].mean((0, 2, 3))]), 1e-10)
    close(z.mean((0, 2, 3)), torch.zeros(4), 1e-10)
    close(z.std((0, 2, 3), correction=0), torch.ones(4), 1e-10)
    close(z, stack.inverse(x)[0])


@pytest.mark.parametrize("kind", ["conv", "conv-lu"])
def test_matrix_layers_multiply_each_pixel(kind):
    layer = a_layer(kind)
    z = draws((2, *KINDS[kind][1]))
    x, ladj = layer(z)
    close(x, torch.einsum("ij,bjhw->bihw", layer.weight, z))
    close(ladj, (torch.linalg.slogdet(layer.weight).logabsdet * z[0, 0].numel()).expand(2))


@every_kind
def test_log_prob_by_the_change_of_variables(kind):
    layer = a_layer(kind, 3)
    _, x = latent_and_data(kind, layer, 2, 3)
    flow = Flow([layer], tuple(x.shape[1:]), None)
    latent, ladj = layer.inverse(x)
    expected = td.Normal(0.0, 1.0).log_prob(latent).flatten(1).sum(1) + ladj
    close(flow.log_prob(x), expected)


# whole numbers


def a_model(levels=4, seed=0, noise=None):
    return Dequantised(Flow([shaken(ActNorm(1), seed), Logit()], (1,)), levels, noise)


@torch.no_grad()
def masses(model, points=2000):
    """log Q of each whole number, by the midpoint rule."""
    u = (torch.arange(points) + 0.5) / points
    levels = model.levels
    log_q = [model.flow.log_prob((k + u)[:, None] / levels).exp().mean().log() for k in range(levels)]
    return torch.stack(log_q) - math.log(levels)


class Exact(torch.nn.Module):
    """Noise as the density itself distributes it within a cell: then each draw tells log Q without error."""

    def __init__(self, flow, levels):
        super().__init__()
        self.flow, self.levels = flow, levels

    @torch.no_grad()
    def forward(self, x):
        normal, edges = td.Normal(0.0, 1.0), torch.stack([x, x + 1]) / self.levels
        low, high = (normal.cdf(self.flow.inverse(edge)[0]) for edge in edges)
        v = torch.rand(x.shape)
        point = self.flow(normal.icdf(low + v * (high - low)))[0]
        log_r = self.flow.log_prob(point) - math.log(self.levels) - (high - low).log()[:, 0]
        return self.levels * point - x, log_r


class Tilted(torch.nn.Module):
    """Noise with the density 2u."""

    def forward(self, x):
        u = torch.rand(x.shape).sqrt()
        return u, (2 * u).log().flatten(1).sum(1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("levels", [2, 5])
def test_masses_of_whole_numbers_leave_what_lies_outside(levels, seed):
    model = a_model(levels, seed)
    total = masses(model).exp().sum().item()
    normal = td.Normal(0.0, 1.0)
    low, high = (normal.cdf(model.flow.inverse(torch.tensor([[end]]))[0]) for end in (0.0, 1.0))
    assert total == pytest.approx((high - low).item(), abs=1e-5)
    assert 0.5 < total < 1


@pytest.mark.parametrize("noise", [None, Tilted()])
@pytest.mark.parametrize("seed", range(2))
def test_bounds_lie_below_and_rise_towards_the_log_mass(noise, seed):
    torch.manual_seed(seed)
    model, n = a_model(4, seed, noise), 3000
    log_q = masses(model)
    with torch.no_grad():
        for k in range(4):
            x = torch.full((n, 1), k)
            values = [model.elbo(x), *(model.bound(x, draws) for draws in (5, 20))]
            means = [value.mean().item() for value in values]
            errors = [value.std().item() / math.sqrt(n) for value in values]
            assert all(mean <= log_q[k] + 5 * e for mean, e in zip(means, errors, strict=True))
            assert means[0] < means[1] < means[2] or max(errors) < 5e-3
            close(model.bound(torch.full((20, 1), k), 1000).mean(), log_q[k], 0.02)
            ratio = values[0].exp()  # its mean is Q itself
            close(ratio.mean(), log_q[k].exp(), 5 * ratio.std().item() / math.sqrt(n))


def test_the_exact_noise_closes_the_gap():
    flow = Flow([shaken(ActNorm(1)), Logit()], (1,))
    model = Dequantised(flow, 4, Exact(flow, 4))
    x = torch.arange(4).repeat(5)[:, None]
    for bound in (model.elbo(x), -model.loss(x), model.bound(x, 7)):
        close(bound.detach(), masses(model).repeat(5), 1e-5)


def test_one_draw_makes_the_bound_the_elbo():
    model, x = a_model(), torch.tensor([[0], [3], [1]])
    values = []
    for bound in (model.elbo, lambda x: model.bound(x, 1), lambda x: -model.loss(x)):
        torch.manual_seed(5)
        values.append(bound(x))
    close(values[1], values[0])
    close(values[2], values[0])
    torch.manual_seed(5)
    three = torch.stack([model.elbo(x) for _ in range(3)])
    torch.manual_seed(5)
    close(model.bound(x, 3), three.exp().mean(0).log())
    torch.manual_seed(5)
    twenty = torch.stack([model.elbo(x) for _ in range(20)])
    torch.manual_seed(5)
    close(model.bound(x), twenty.exp().mean(0).log())


def test_uniform_noise_is_uniform():
    torch.manual_seed(0)
    u, log_r = UniformNoise()(torch.zeros(500, 2, 3, dtype=torch.int64))
    assert (u.shape, log_r.shape) == ((500, 2, 3), (500,))
    assert (log_r == 0).all()
    assert (u >= 0).all()
    assert (u < 1).all()
    assert scipy.stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-3  # fixed seed


def test_gradients_reach_the_flow():
    model = a_model()
    model.loss(torch.tensor([[0], [3], [1]])).mean().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("levels", [2, 5])
def test_draws_are_whole_numbers_in_range_and_follow_the_masses(levels):
    model, n = a_model(levels, 1), 20_000
    x = model.sample((n,), generator=seeded(1))
    assert (x.shape, x.dtype, x.requires_grad) == ((n, 1), torch.int64, False)
    assert x.min() == 0
    assert x.max() == levels - 1
    real = model.flow.sample((n,), generator=seeded(1))
    assert real.min() < 0
    assert real.max() > 1
    assert torch.equal(x.to(REAL), (levels * real).floor().clamp(0, levels - 1))
    p = masses(model).exp()
    normal = td.Normal(0.0, 1.0)
    p[0] += normal.cdf(model.flow.inverse(torch.zeros(1, 1))[0]).item()  # cut off to the ends
    p[-1] += 1 - normal.cdf(model.flow.inverse(torch.ones(1, 1))[0]).item()
    counts = torch.bincount(x[:, 0], minlength=levels).numpy()
    assert scipy.stats.chisquare(counts, n * (p / p.sum()).numpy()).pvalue > 1e-3  # fixed seed
    cool = model.sample((9,), temperature=0.1, generator=seeded(2))
    expected = levels * model.flow.sample((9,), temperature=0.1, generator=seeded(2))
    expected = expected.floor().clamp(0, levels - 1)
    assert torch.equal(cool.to(REAL), expected)


def test_models_of_images_of_whole_numbers():
    layers = [
        Inverse(Squeeze()),
        Conv1x1LU(4),
        Squeeze(),
        a_coupling(checkerboard(2, 4), Affine()),
        ActNorm(1),
        Logit(),
    ]
    flow = shaken(Flow(layers, (1, 2, 4)))
    model = Dequantised(flow, 3)
    assert model.event_shape == (1, 2, 4)
    x = model.sample((6,), generator=seeded())
    assert x.shape == (6, 1, 2, 4)
    torch.manual_seed(1)
    u = torch.rand(6, 1, 2, 4)
    torch.manual_seed(1)
    close(model.elbo(x), flow.log_prob((x + u) / 3) - 8 * math.log(3))
    assert model.bound(x, 2).shape == (6,)


def test_a_flow_in_float32_takes_noise_in_float64():
    model = Dequantised(Flow([shaken(Conv1x1(2)), Logit()], (2,)), 4).float()
    x = torch.tensor([[0, 3], [1, 2]])
    for bound in (model.elbo(x), model.bound(x, 2)):
        assert bound.isfinite().all()
    assert model.sample((3,)).dtype == torch.int64


def test_noise_in_float32_loses_nothing_on_its_way_to_a_flow_in_float64():
    class Narrow(torch.nn.Module):
        def forward(self, x):
            u = torch.full(x.shape, 1 - 2**-24, dtype=torch.float32)  # the last number below 1
            return u, u.new_zeros(len(x))

    model = a_model(4, noise=Narrow())
    x = torch.arange(4)[:, None]
    close(model.elbo(x), model.flow.log_prob((x + (1 - 2**-24)) / 4) - math.log(4))


def test_dequantised_refuses():
    model = a_model(3)
    for method in (model.elbo, model.loss, model.bound):
        for x in (torch.tensor([[3]]), torch.tensor([[-1]])):
            with pytest.raises(ValueError, match="^x must lie between 0 and 2"):
                method(x)
        with pytest.raises(ValueError, match="^x must hold whole numbers"):
            method(torch.tensor([[1.0]]))
        with pytest.raises(ValueError, match="^x must have shape"):
            method(torch.tensor([[1, 2]]))
    for draws_ in (0, 1.5, True):
        with pytest.raises(ValueError, match="^draws must be a whole number of at least 1"):
            model.bound(torch.tensor([[1]]), draws_)
    for levels in (1, 0, 2.0):
        with pytest.raises(ValueError, match="^levels must be a whole number of at least 2"):
            Dequantised(model.flow, levels)
