"""Flows on vectors: each layer against its Jacobian and its inverse, the densities, and what is refused."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from bijections import (
    BRIEF,
    SEEDS,
    SPREADS,
    assert_gradients,
    assert_undone,
    assert_volumes,
    draws,
    jacobians,
    jacobians_by_vmap,
    shaken,
)
from exactness import FEW, REAL, STEADY, close, seeded
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import distributions as td

from genlib.data import ring
from genlib.flows import (
    ActNorm,
    Affine,
    Conv1x1,
    Conv1x1LU,
    Coupling,
    Flow,
    Inverse,
    MaskedAutoregressive,
    Planar,
    Radial,
    Reverse,
    Spline,
    Stack,
    StandardNormal,
    alternating,
    channelwise,
    checkerboard,
    solve_increasing,
)
from genlib.nets import MADE, MLP

pytestmark = pytest.mark.usefixtures("double")


def a_mask(d, seed):
    """Some entries pass and some change, at random places."""
    mask = torch.rand(d, generator=seeded(seed)) < 0.5
    first, second = torch.randperm(d, generator=seeded(seed))[:2]
    mask[first], mask[second] = True, False
    return mask


def a_coupling(d, function, seed, hidden=(6,)):
    mask = a_mask(d, seed)
    passing = int(mask.sum())
    return Coupling(mask, function, MLP(passing, d - passing, function.count, hidden))


KINDS = {
    "planar": lambda d, seed: Planar(d),
    "radial": lambda d, seed: Radial(d),
    "actnorm": lambda d, seed: ActNorm(d),
    "conv": lambda d, seed: Conv1x1(d),
    "conv-lu": lambda d, seed: Conv1x1LU(d),
    "coupling-affine": lambda d, seed: a_coupling(d, Affine(), seed),
    "coupling-spline": lambda d, seed: a_coupling(d, Spline(3, 2.0), seed),
    "autoregressive-affine": lambda d, seed: MaskedAutoregressive(d, Affine(2.0), (7, 5)),
    "autoregressive-spline": lambda d, seed: MaskedAutoregressive(d, Spline(4, 3.0, 0.01), (6,)),
    "reverse": lambda d, seed: Reverse(),
    "inverse": lambda d, seed: Inverse(MaskedAutoregressive(d, Affine(), (6,))),
    "inverse-planar": lambda d, seed: Inverse(Planar(d)),
    "stack": lambda d, seed: Stack([Planar(d), Conv1x1(d), Reverse(), a_coupling(d, Affine(), seed)]),
    "nested": lambda d, seed: Stack(
        [
            Inverse(Stack([a_coupling(d, Spline(3), seed), ActNorm(d), Radial(d)])),
            Stack([Conv1x1LU(d), Inverse(Inverse(Planar(d)))]),
        ]
    ),
}
FROM_ONE = ("planar", "radial", "actnorm", "conv", "conv-lu", "inverse-planar")
every_kind = pytest.mark.parametrize("kind", KINDS)


def a_layer(kind, d=3, seed=0, spread=0.6):
    torch.manual_seed(seed)
    return shaken(KINDS[kind](d, seed), seed, spread)


# what all layers share


@every_kind
@BRIEF
@given(st.data(), SEEDS, SPREADS, st.integers(1, 4))
def test_each_direction_undoes_the_other(kind, data, seed, spread, n):
    d = data.draw(st.integers(1 if kind in FROM_ONE else 2, 6))
    assert_undone(a_layer(kind, d, seed, spread), draws((n, d), seed, 2), draws((n, d), seed + 1, 2))


@every_kind
@BRIEF
@given(st.data(), SEEDS, SPREADS, st.integers(1, 3))
def test_ladj_is_the_log_determinant_of_the_jacobian(kind, data, seed, spread, n):
    d = data.draw(st.integers(1 if kind in FROM_ONE else 2, 4))
    assert_volumes(a_layer(kind, d, seed, spread), draws((n, d), seed, 2), draws((n, d), seed + 1, 2))


@every_kind
@pytest.mark.parametrize("seed", range(2))
def test_gradients_agree_with_finite_differences_in_both_directions(kind, seed):
    layer = a_layer(kind, 3, seed)
    assert_gradients(layer, draws((3, 3), seed))
    assert_gradients(Inverse(layer), draws((3, 3), seed + 1))


@every_kind
@BRIEF
@given(SEEDS)
def test_float32_is_kept_and_undone_to_its_precision(kind, seed):
    layer = a_layer(kind, 4, seed, 0.4).float()
    assert_undone(layer, draws((5, 4), seed).float(), draws((5, 4), seed + 1).float(), atol=2e-4)


@every_kind
def test_examples_of_a_batch_do_not_touch_each_other(kind):
    layer, x = a_layer(kind), draws((4, 3))
    for direction in (layer.forward, layer.inverse):
        together, ladj = direction(x)
        for i in range(4):
            alone, change = direction(x[i : i + 1])
            close(alone[0], together[i])
            close(change[0], ladj[i])


@every_kind
def test_jacobians_by_vmap_are_the_same(kind):
    layer, x = a_layer(kind), draws((3, 3))
    for direction in (layer.forward, layer.inverse):
        close(jacobians_by_vmap(direction, x), jacobians(direction, x), 1e-10)


@every_kind
def test_inputs_are_not_changed(kind):
    layer, x = a_layer(kind), draws((4, 3))
    before = x.clone()
    layer(x), layer.inverse(x)
    assert torch.equal(x, before)


@every_kind
def test_layers_refuse_what_is_no_batch_of_finite_numbers(kind):
    layer = a_layer(kind)
    for name, direction in (("z", layer.forward), ("x", layer.inverse)):
        for bad in (math.nan, math.inf, -math.inf):
            with pytest.raises(ValueError, match=f"^{name} must hold finite numbers"):
                direction(torch.tensor([[0.0, 1, 2], [0, bad, 0]]))
        for bad in ([[0.0, 1, 2]], torch.zeros(2, 3, dtype=torch.int64), np.zeros((2, 3)), None):
            with pytest.raises(ValueError, match=f"^{name} must be a tensor of real numbers"):
                direction(bad)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("reverse", "stack", "nested")])
def test_layers_refuse_wrong_shapes(kind):
    layer = a_layer(kind)
    for shape in ((3,), (2, 4), (2, 1), (), (3, 2)):
        for name, direction in (("z", layer.forward), ("x", layer.inverse)):
            with pytest.raises(
                ValueError, match=rf"^{name} must have shape \(B, 3.*got \({', '.join(map(str, shape))}"
            ):
                direction(torch.zeros(shape))


def test_most_layers_do_nothing_when_initialised():
    x = draws((5, 3))
    for kind in ("planar", "conv-lu", "coupling-affine", "autoregressive-affine", "inverse"):
        layer = a_layer(kind)
        before = [parameter.clone() for parameter in layer.parameters()]
        close(layer.initialise(x), layer.inverse(x)[0])
        assert all(map(torch.equal, before, layer.parameters()))


# functions of one number


def by_autograd(f, x, theta):
    """Images, and the logarithms of their derivatives."""
    x = x.detach().requires_grad_()
    y, _ = f(x, theta)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), slope.log()


@FEW
@given(SEEDS, st.floats(0.1, 5))
def test_affine_agrees_with_torch(seed, limit):
    function, z, theta = Affine(limit), draws(20, seed), draws((20, 2), seed + 1, 4)
    scale = torch.tensor([math.exp(limit * math.tanh(t / limit)) for t in theta[:, 0].tolist()])
    transform = td.AffineTransform(theta[:, 1], scale)
    x, log_slope = function.forward(z, theta)
    close(x, transform(z))
    close(log_slope, transform.log_abs_det_jacobian(z, x))
    assert (log_slope.abs() <= limit).all()
    back, log_slope = function.inverse(x, theta)
    close(back, transform.inv(x), 1e-9)
    close(log_slope, transform.inv.log_abs_det_jacobian(x, back))


def durkan(z, theta, bins, bound, least):
    """Knots, and value and derivative at z, as in section 3.1 of Durkan et al. 2019."""

    def lengths(raw):
        total = sum(math.exp(r) for r in raw)
        return [2 * bound * (least + (1 - least * bins) * math.exp(r) / total) for r in raw]

    def knots(raw):
        return [-bound + sum(lengths(raw)[:k]) for k in range(bins)] + [bound]

    xs, ys = knots(theta[:bins]), knots(theta[bins : 2 * bins])
    offset = math.log(math.exp(1 - least) - 1)
    slopes = [1, *(least + math.log(1 + math.exp(t + offset)) for t in theta[2 * bins :]), 1]
    if not -bound < z < bound:
        return xs, ys, slopes, z, 1
    k = max(k for k in range(bins) if xs[k] <= z)
    s = (ys[k + 1] - ys[k]) / (xs[k + 1] - xs[k])
    t = (z - xs[k]) / (xs[k + 1] - xs[k])
    below = s + (slopes[k + 1] + slopes[k] - 2 * s) * t * (1 - t)
    value = ys[k] + (ys[k + 1] - ys[k]) * (s * t**2 + slopes[k] * t * (1 - t)) / below
    slope = s**2 * (slopes[k + 1] * t**2 + 2 * s * t * (1 - t) + slopes[k] * (1 - t) ** 2) / below**2
    return xs, ys, slopes, value, slope


SPLINES = st.tuples(st.integers(2, 6), st.sampled_from([0.7, 1.0, 3.0]), st.sampled_from([1e-3, 0.01, 0.1]))


@FEW
@given(SPLINES, SEEDS, st.sampled_from([0.3, 1.0, 2.5]))
def test_spline_agrees_with_plain_python(options, seed, spread):
    function, (_, bound, _) = Spline(*options), options
    theta = draws((12, function.count), seed, spread)
    z = draws(12, seed + 1, bound)
    x, log_slope = function.forward(z, theta)
    back, other = function.inverse(x, theta)
    for i in range(12):
        *_, value, slope = durkan(z[i].item(), theta[i].tolist(), *options)
        close(x[i], value, 1e-11)
        close(log_slope[i], math.log(slope), 1e-9)
    close(back, z, 1e-9)
    close(other, -log_slope, 1e-8)


@FEW
@given(SPLINES, SEEDS)
def test_spline_runs_through_its_knots_without_a_step_or_a_corner(options, seed):
    function, bins = Spline(*options), options[0]
    theta = draws(function.count, seed)
    xs, ys, slopes, *_ = durkan(0.0, theta.tolist(), *options)
    assert min(np.diff(xs)) >= 2 * options[1] * options[2]
    assert min(np.diff(ys)) >= 2 * options[1] * options[2]
    theta = theta.expand(bins + 1, -1)
    for shift in (-1e-9, 0, 1e-9):
        x, log_slope = function.forward(torch.tensor(xs) + shift, theta)
        close(x, torch.tensor(ys), 1e-7)
        close(log_slope.exp(), torch.tensor(slopes, dtype=REAL), 1e-5)
        z, log_slope = function.inverse(torch.tensor(ys) + shift, theta)
        close(z, torch.tensor(xs), 1e-5)
        close(-log_slope, torch.tensor(slopes, dtype=REAL).log(), 1e-4)


@FEW
@given(SPLINES, SEEDS, st.sampled_from([0.5, 2.0, 8.0]))
def test_spline_increases_and_keeps_to_its_interval(options, seed, spread):
    function, (_, bound, _) = Spline(*options), options
    theta = draws(function.count, seed, spread).expand(801, -1)
    z = torch.linspace(-1.5 * bound, 1.5 * bound, 801)
    for direction in (function.forward, function.inverse):
        x, log_slope = direction(z, theta)
        assert (x.diff() > 0).all()
        assert log_slope.isfinite().all()
        outside = z.abs() >= bound
        assert torch.equal(x[outside], z[outside])
        assert (log_slope[outside] == 0).all()
        assert (x[~outside].abs() <= bound).all()
        close(log_slope, by_autograd(direction, z, theta)[1], 1e-8)


@FEW
@given(SPLINES, SEEDS)
def test_spline_is_the_identity_at_both_ends_with_slope_one(options, seed):
    function, (_, bound, _) = Spline(*options), options
    theta = draws(function.count, seed).expand(2, -1)
    ends = torch.tensor([-bound, bound])
    inside = ends * (1 - 1e-10)
    for direction in (function.forward, function.inverse):
        x, log_slope = direction(ends, theta)
        assert torch.equal(x, ends)
        assert (log_slope == 0).all()
        x, log_slope = direction(inside, theta)
        close(x, inside, 1e-9)
        close(log_slope, torch.zeros(2), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
@pytest.mark.parametrize("seed", [0, 4])
def test_spline_is_solved_where_slopes_differ_widely(dtype, seed):
    """The inverse is off by few units in the last place of x, however flat or steep the bins."""
    function, n, generator = Spline(5, 2.0), 40_000, seeded(seed)
    theta = (8 * torch.randn(n, function.count, generator=generator)).to(dtype)
    x = (4 * torch.rand(n, generator=generator) - 2).to(dtype)
    assert all(part.isfinite().all() for part in function.forward(x, theta))
    z, log_slope = function.inverse(x, theta)
    assert log_slope.isfinite().all()
    back, _ = function.forward(z.double(), theta.double())
    close(back, x.double(), 2**16 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("function", [Affine(), Spline(), Spline(2, 1.5, 0.2), Spline(30, 7.0)])
def test_zero_parameters_give_the_identity(function):
    z = torch.linspace(-10, 10, 301)
    theta = torch.zeros(301, function.count)
    for direction in (function.forward, function.inverse):
        x, log_slope = direction(z, theta)
        close(x, z, 1e-13)
        close(log_slope, torch.zeros(301), 1e-13)


@pytest.mark.parametrize("function", [Affine(1.5), Spline(5, 2.0, 0.01)])
def test_functions_take_any_leading_shape(function):
    z, theta = draws((2, 3, 4)), draws((2, 3, 4, function.count), 1)
    for direction in (function.forward, function.inverse):
        x, log_slope = direction(z, theta)
        assert x.shape == log_slope.shape == (2, 3, 4)
        flat, change = direction(z.flatten(), theta.flatten(0, -2))
        assert torch.equal(flat, x.flatten())
        assert torch.equal(change, log_slope.flatten())


def test_functions_refuse():
    for limit in (0, -1.0, math.nan, math.inf, "1", True):
        with pytest.raises(ValueError, match="^limit must"):
            Affine(limit)
        with pytest.raises(ValueError, match="^bound must"):
            Spline(bound=limit)
        with pytest.raises(ValueError, match="^least must"):
            Spline(least=limit)
    for bins in (0, 1, 2.0, True, "8"):
        with pytest.raises(ValueError, match="^bins must be a whole number of at least 2"):
            Spline(bins)
    for bins, least in ((2, 0.5), (8, 0.125), (4, 0.9)):
        with pytest.raises(ValueError, match=f"^least must be below 1 / bins = {1 / bins:g}, got {least}"):
            Spline(bins, least=least)
    assert Spline(2, least=0.4999).count == 5


# planar and radial


@FEW
@given(SEEDS, st.integers(1, 5))
def test_planar_by_hand(seed, d):
    layer, z = a_layer("planar", d, seed, 1.0), draws((3, d), seed)
    w, u = layer.w.tolist(), layer.u.tolist()
    along = sum(a * b for a, b in zip(w, u, strict=True))
    push = -1 + math.log(1 + math.exp(along))
    u_hat = [b + (push - along) * a / sum(a * a for a in w) for a, b in zip(w, u, strict=True)]
    close(layer.u_hat(), torch.tensor(u_hat))
    x, ladj = layer(z)
    for i, row in enumerate(z.tolist()):
        bend = math.tanh(sum(a * b for a, b in zip(w, row, strict=True)) + layer.b.item())
        close(x[i], torch.tensor([a + b * bend for a, b in zip(row, u_hat, strict=True)]))
        close(ladj[i], math.log(1 + (1 - bend**2) * push), 1e-11)


@STEADY
@given(SEEDS, st.integers(1, 5), st.sampled_from([0.1, 1.0, 2.0]))
def test_planar_constraint_changes_the_direction_along_w_only(seed, d, spread):
    layer = a_layer("planar", d, seed, spread)
    assert layer.u_hat() @ layer.w > -1
    change = layer.u_hat() - layer.u
    close(change * layer.w.square().sum(), (change @ layer.w) * layer.w, 1e-9)


def on_the_ridge(layer, n, d, seed):
    """Points around w·z + b = 0, where the bend is steepest, the first one on it."""
    z = draws((n, d), seed)
    z[0] = 0
    distance = (z @ layer.w + layer.b) / layer.w.square().sum()
    z = z - distance[:, None] * layer.w * torch.linspace(1, 0, n, dtype=z.dtype)[:, None]
    return z.detach()


@STEADY
@given(SEEDS, st.integers(1, 5), st.sampled_from([3.0, 10.0, 30.0]), st.booleans())
def test_planar_stays_invertible_for_large_parameters(seed, d, spread, single):
    layer = a_layer("planar", d, seed, spread)
    assume(layer.w @ layer.u > (-80 if single else -700))  # e^(w·u) is a number
    z = on_the_ridge(layer, 6, d, seed)
    layer, z = (layer.float(), z.float()) if single else (layer, z)
    length = layer.u.norm() * layer.w.norm() + 1
    assert layer.u_hat() @ layer.w > -1 - 8 * torch.finfo(z.dtype).eps * length
    for direction in (layer.forward, layer.inverse):
        image, ladj = direction(z)
        assert image.isfinite().all()
        assert ladj.isfinite().all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("d", [1, 3])
def test_gradients_of_the_numerical_inverse(seed, d):
    """In x, w, u and b, each entry on its own; the root is found without a graph."""
    layer = a_layer("planar", d, seed, 1.0)
    assert_gradients(Inverse(layer), draws((3, d), seed, 2), fast=False)
    x = draws((4, d), seed).requires_grad_()
    z, ladj = layer.inverse(x)
    assert z.requires_grad
    assert ladj.requires_grad
    close(torch.linalg.inv(jacobians(layer.forward, z)), jacobians(layer.inverse, x), 1e-9)


@FEW
@given(SEEDS, st.integers(1, 5))
def test_radial_by_hand(seed, d):
    layer, z = a_layer("radial", d, seed, 1.0), draws((3, d), seed)
    alpha = math.exp(layer.log_alpha.item())
    beta = math.log(1 + math.exp(layer.raw_beta.item())) - alpha
    close(torch.stack(layer.alpha_beta()), torch.tensor([alpha, beta]))
    x, ladj = layer(z)
    centre = layer.centre.tolist()
    for i, row in enumerate(z.tolist()):
        r = math.dist(row, centre)
        h = beta / (alpha + r)
        close(x[i], torch.tensor([a + h * (a - c) for a, c in zip(row, centre, strict=True)]))
        slope = 1 + h - beta * r / (alpha + r) ** 2  # Rezende and Mohamed 2015, eq. 14
        close(ladj[i], (d - 1) * math.log(1 + h) + math.log(slope), 1e-11)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_radial_at_its_centre(d):
    layer = a_layer("radial", d, 3)
    z = layer.centre.detach().expand(2, d) + torch.tensor([[0.0], [1e-12]])
    assert_undone(layer, z, z)
    alpha, beta = layer.alpha_beta()
    close(layer(z)[1][0], d * (1 + beta / alpha).log())
    layer.inverse(z[:1])[1].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize("raw", [-300.0, -80, -40, -20, 20, 40, 300])
@pytest.mark.parametrize("log_alpha", [-5.0, 0, 3, 8])
def test_radial_stays_invertible_for_large_parameters(raw, log_alpha):
    layer = a_layer("radial", 3)
    with torch.no_grad():
        layer.raw_beta.fill_(raw)
        layer.log_alpha.fill_(log_alpha)
    alpha, beta = layer.alpha_beta()
    assert beta >= -alpha
    z = torch.cat([layer.centre[None], layer.centre + draws((5, 3))]).detach()
    for direction in (layer.forward, layer.inverse):
        image, ladj = direction(z)
        assert image.isfinite().all()
        assert ladj.isfinite().all()
    close(layer.inverse(layer(z)[0])[0], z, 1e-6)


def test_radial_starts_as_the_identity():
    layer, z = Radial(3), draws((5, 3))
    x, ladj = layer(z)
    close(x, z)
    close(ladj, torch.zeros(5))


@STEADY
@given(st.floats(0.01, 8), st.sampled_from([-1, 1]), st.sampled_from([torch.float32, REAL]))
def test_solve_increasing_is_as_exact_as_its_halvings_or_the_numbers_allow(root, sign, dtype):
    root = torch.tensor([sign * root, 1.0], dtype=dtype)

    def f(a):  # increasing, after rounding too
        return a.abs() * a + a

    low, high = torch.full((2,), -9.0, dtype=dtype), torch.full((2,), 20.0, dtype=dtype)
    found = solve_increasing(f, f(root), low, high)
    assert found.dtype == dtype
    info = torch.finfo(dtype)
    close(found, root, 29 * 2.0**-info.bits + 4 * info.eps * root.abs().max().item())


def test_solve_increasing_at_the_ends_and_on_a_step():
    low, high = torch.zeros(3), torch.ones(3)
    close(
        solve_increasing(lambda a: a, torch.tensor([0.0, 1.0, 0.3]), low, high),
        torch.tensor([0, 1, 0.3]),
        1e-15,
    )
    close(solve_increasing(lambda a: (a > 0.25).to(a.dtype), torch.full((3,), 0.5), low, high), low + 0.25)
    close(solve_increasing(lambda a: 2 * a, high, low, low + 8), low + 0.5, 1e-15)


# normalisation and matrices


@FEW
@given(SEEDS, st.integers(1, 5), st.integers(2, 30), st.floats(0.01, 100), st.floats(-50, 50))
def test_initialise_makes_each_channel_standard(seed, d, n, scale, shift):
    x = draws((n, d), seed, scale) * torch.arange(1, d + 1) + shift
    layer = a_layer("actnorm", d, seed)
    z = layer.initialise(x)
    close(z, layer.inverse(x)[0])
    assert not z.requires_grad
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-7)
    np.testing.assert_allclose(z.numpy().std(0), 1, atol=1e-7)
    np.testing.assert_allclose(layer.shift.detach(), x.numpy().mean(0), atol=1e-9)
    np.testing.assert_allclose(layer.log_scale.detach(), np.log(x.numpy().std(0)), atol=1e-9)


def test_actnorm_scales_and_shifts_each_channel():
    layer, z = a_layer("actnorm"), draws((4, 3))
    x, ladj = layer(z)
    expected = td.AffineTransform(layer.shift, layer.log_scale.exp(), event_dim=1)
    close(x, expected(z))
    close(ladj, expected.log_abs_det_jacobian(z, x))


@STEADY
@given(st.floats(-1e6, 1e6), st.integers(1, 40), st.sampled_from([torch.float32, REAL]))
def test_initialise_refuses_a_constant_channel(value, n, dtype):
    x = draws((n, 2)).to(dtype)
    x[:, 1] = value
    layer = ActNorm(2).to(dtype)
    with pytest.raises(
        ValueError, match="^x must vary in each channel by more than rounding does, got a spread of 0 "
    ):
        layer.initialise(x)
    assert (layer.log_scale == 0).all()
    assert (layer.shift == 0).all()


def test_a_stack_is_initialised_from_the_data_side():
    x = 3 * draws((40, 3)) + torch.tensor([5.0, -2, 0])
    first, last = ActNorm(3), ActNorm(3)
    middle = a_layer("coupling-affine")
    stack = Stack([first, middle, last])
    z = stack.initialise(x)
    close(last.shift, x.mean(0))
    between = middle.inverse((x - x.mean(0)) / x.std(0, correction=0))[0]
    close(first.shift, between.mean(0), 1e-10)
    close(first.log_scale, between.std(0, correction=0).log(), 1e-10)
    close(z, stack.inverse(x)[0])
    close(z.mean(0), torch.zeros(3), 1e-10)
    close(z.std(0, correction=0), torch.ones(3), 1e-10)


@pytest.mark.parametrize("kind", [Conv1x1, Conv1x1LU])
@BRIEF
@given(SEEDS, st.integers(1, 5))
def test_matrix_layers_multiply_and_agree_with_torch(kind, seed, d):
    weight = draws((d, d), seed) + 2 * torch.eye(d)
    layer, z = kind(d, weight), draws((4, d), seed)
    close(layer.weight, weight)
    layer = shaken(layer, seed)
    weight = layer.weight.detach()
    x, ladj = layer(z)
    close(x, torch.stack([weight @ row for row in z]), 1e-10)
    close(ladj, torch.linalg.slogdet(weight).logabsdet.expand(4), 1e-9)
    back, _ = layer.inverse(x)
    close(back, x @ torch.linalg.inv(weight).T, 1e-9)


@pytest.mark.parametrize("kind", [Conv1x1, Conv1x1LU])
def test_matrix_layers_start_from_a_random_rotation_or_what_is_given(kind):
    torch.manual_seed(0)
    weights = [kind(4).weight.detach() for _ in range(30)]
    for weight in weights:
        close(weight @ weight.T, torch.eye(4))
    assert not torch.equal(weights[0], weights[1])
    assert {kind(1).weight.item() for _ in range(30)} == {-1.0, 1.0}  # both, so no direction is preferred
    assert {round(torch.det(weight).item()) for weight in weights} == {-1, 1}
    for given_ in ([[1, 2], [3, 4]], torch.tensor([[1.0, 2], [3, 4]])):
        layer = kind(2, given_)
        close(layer.weight, torch.tensor([[1.0, 2], [3, 4]]))
        shaken(layer)
    assert given_.tolist() == [[1, 2], [3, 4]]


@FEW
@given(SEEDS, st.integers(1, 5), st.sampled_from([1.0, 5.0, 30.0]))
def test_the_lu_form_never_becomes_singular(seed, d, spread):
    layer = Conv1x1LU(d)
    lower_before, permutation, sign = layer.weight.detach(), layer.permutation.clone(), layer.sign.clone()
    layer = shaken(layer, seed, spread)
    assert torch.equal(layer.permutation, permutation)
    assert torch.equal(layer.sign, sign)
    assert torch.equal(sign.abs(), torch.ones(d))
    ladj = layer(draws((2, d)))[1]
    assert ladj.isfinite().all()
    close(ladj, layer.log_diagonal.sum().expand(2), 1e-11)
    lower, upper = layer._factors()
    assert torch.equal(lower.diagonal(), torch.ones(d))
    assert torch.equal(lower.triu(1), torch.zeros(d, d))
    assert torch.equal(upper.tril(-1), torch.zeros(d, d))
    close(layer.weight, permutation @ lower @ upper)
    assert layer.weight.det().sign() == lower_before.det().sign() or spread > 1  # rounding wins for wild ones


def test_the_lu_form_keeps_its_zeros_while_it_is_trained():
    layer = shaken(Conv1x1LU(4))
    sum(part.sum() for part in layer(draws((3, 4)))).backward()
    assert (layer.lower.grad.triu() == 0).all()
    assert (layer.upper.grad.tril() == 0).all()
    assert (layer.lower.grad.tril(-1) != 0).sum() == (layer.upper.grad.triu(1) != 0).sum() == 6


@pytest.mark.parametrize("kind", [Conv1x1, Conv1x1LU])
def test_matrix_layers_refuse(kind):
    for weight in (torch.zeros(2, 2), torch.tensor([[1.0, 2], [2, 4]]), [[1.0, 1], [1, 1 + 1e-16]]):
        with pytest.raises(ValueError, match=r"^weight must be invertible, got a matrix of rank [01]"):
            kind(2, weight)
    for weight in (torch.eye(3), torch.ones(2), torch.ones(2, 3), 1.0):
        with pytest.raises(ValueError, match=r"^weight must have shape \(2, 2\)"):
            kind(2, weight)
    for weight in ([[math.nan, 0], [0, 1]], [[math.inf, 0], [0, 1]]):
        with pytest.raises(ValueError, match="^weight must hold finite numbers"):
            kind(2, weight)


@pytest.mark.parametrize("kind", [Planar, Radial, ActNorm, Conv1x1, Conv1x1LU])
def test_sizes_are_refused(kind):
    for size in (0, -1, 2.0, True, "2"):
        with pytest.raises(ValueError, match="^(features|channels) must be a whole number of at least 1"):
            kind(size)


# couplings and autoregressive layers


def test_masks_of_vectors_and_images():
    assert alternating(5).tolist() == [True, False, True, False, True]
    assert checkerboard(2, 3).tolist() == [[[True, False, True], [False, True, False]]]
    board = checkerboard(4, 3, 2)
    assert board.shape == (2, 4, 3)
    for c, i, j in itertools.product(range(2), range(4), range(3)):
        assert board[c, i, j] == ((i + j) % 2 == 0)
    assert channelwise(3, 1, 2).tolist() == [[[True, True]], [[False, False]], [[False, False]]]
    assert channelwise(4, 2, 3)[:, 0, 0].tolist() == [True, True, False, False]
    assert channelwise(4, 2, 3).shape == (4, 2, 3)
    assert checkerboard(1, 2).tolist() == [[[True, False]]]


def test_masks_that_split_nothing_are_refused():
    for features in (1, 0, 2.0):
        with pytest.raises(ValueError, match="^features must be a whole number of at least 2"):
            alternating(features)
        with pytest.raises(ValueError, match="^channels must be a whole number of at least 2"):
            channelwise(features, 2, 2)
    with pytest.raises(ValueError, match="^height and width must give at least two pixels"):
        checkerboard(1, 1, 3)
    for name, size in itertools.product(("height", "width", "channels"), (0, 1.5)):
        with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least 1"):
            checkerboard(**{"height": 2, "width": 2, "channels": 1, name: size})
    for name in ("height", "width"):
        with pytest.raises(ValueError, match=f"^{name} must"):
            channelwise(**{"channels": 2, "height": 2, "width": 2, name: 0})
    net = MLP(1, 1, 2)
    for mask in (torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)):
        with pytest.raises(
            ValueError, match=r"^mask must pass some entries and change others, got [03] of 3"
        ):
            Coupling(mask, Affine(), net)
    for mask in (torch.tensor([1, 0]), torch.tensor([1.0, 0.0]), [True, False], None):
        with pytest.raises(ValueError, match="^mask must be a tensor of bool"):
            Coupling(mask, Affine(), net)


@BRIEF
@given(st.integers(2, 6), SEEDS, st.booleans())
def test_coupling_passes_some_entries_which_decide_on_the_others(d, seed, spline):
    function = Spline(3) if spline else Affine()
    layer, z = shaken(a_coupling(d, function, seed), seed), draws((4, d), seed)
    mask = a_mask(d, seed)
    for direction, change in ((layer.forward, function.forward), (layer.inverse, function.inverse)):
        x, ladj = direction(z)
        assert torch.equal(x[:, mask], z[:, mask])
        expected, log_slope = change(z[:, ~mask], layer.net(z[:, mask]))
        close(x[:, ~mask], expected)
        close(ladj, log_slope.sum(1))
        jacobian = jacobians(direction, z)
        assert (jacobian[:, ~mask][:, :, ~mask] - torch.diag_embed(log_slope.exp())).abs().max() < 1e-9
        assert (jacobian[:, ~mask][:, :, mask] != 0).any()


def test_couplings_take_masks_of_any_shape():
    mask = torch.tensor([[[True, False], [False, False]], [[False, True], [True, True]]])
    layer, z = shaken(Coupling(mask, Affine(), MLP(4, 4, 2, (5,)))), draws((3, 2, 2, 2))
    x, ladj = layer(z)
    s, m = Affine()._scale_shift(layer.net(z[:, mask]))
    expected = z.clone()
    expected[:, ~mask] = z[:, ~mask] * s.exp() + m
    close(x, expected)
    close(ladj, s.sum(1))
    assert_undone(layer, z, x.detach())


@pytest.mark.parametrize("function", [Affine(), Spline(4)])
def test_autoregressive_jacobians_are_triangular_and_reverse_turns_them(function):
    layer, x = shaken(MaskedAutoregressive(4, function, (30,)), 1), draws((20, 4))
    later = torch.ones(4, 4).triu(1).bool()
    for direction in (layer.forward, layer.inverse):
        jacobian = jacobians(direction, x)
        assert (jacobian[:, later] == 0).all()
        assert (jacobian[:, later.T] != 0).any(0).all()
        assert (jacobian.diagonal(dim1=1, dim2=2) > 0).all()
    after, before = Stack([layer, Reverse()]), Stack([Reverse(), layer])
    close(jacobians(after.forward, x), jacobians(layer.forward, x).flip(1))
    close(jacobians(before.forward, x), jacobians(layer.forward, x.flip(1)).flip(2))


def test_autoregressive_layer_by_hand():
    layer, z = shaken(MaskedAutoregressive(3, Affine(), (6,))), draws((1, 3))
    x, total = [], 0
    for d in range(3):
        seen = torch.zeros(1, 3)
        seen[0, :d] = torch.tensor(x)
        raw_s, m = layer.net(seen)[0, d].tolist()
        s = 3 * math.tanh(raw_s / 3)
        x.append(z[0, d].item() * math.exp(s) + m)
        total += s
    image, ladj = layer(z)
    close(image[0], torch.tensor(x))
    close(ladj[0], total)


def test_reverse_puts_the_last_entry_first():
    x, ladj = Reverse()(torch.tensor([[1.0, 2, 3], [4, 5, 6]]))
    assert x.tolist() == [[3, 2, 1], [6, 5, 4]]
    assert ladj.tolist() == [0, 0]


def test_autoregressive_layers_refuse():
    for features in (1, 0, 2.0, True):
        with pytest.raises(ValueError, match="^features must be a whole number of at least 2"):
            MaskedAutoregressive(features, Affine())
        with pytest.raises(ValueError, match="^features must be a whole number of at least 2"):
            MADE(features, 2)
    for hidden in ((0,), (4, 2.5)):
        with pytest.raises(ValueError, match="^hidden must"):
            MADE(3, 2, hidden)


# stacks, flows and their densities


@BRIEF
@given(SEEDS)
def test_stack_applies_its_layers_in_turn_and_path_shows_the_way(seed):
    layers = [a_layer(kind, 3, seed) for kind in ("planar", "autoregressive-affine", "conv", "radial")]
    stack, z = Stack(layers), draws((4, 3), seed)
    states, total = [z], 0
    for layer in layers:
        x, ladj = layer(states[-1])
        states.append(x)
        total = total + ladj
    path = stack.path(z)
    assert len(path) == 5
    assert torch.equal(path[0], z)
    for actual, expected in zip(path, states, strict=True):
        close(actual, expected)
    x, ladj = stack(z)
    assert torch.equal(path[-1], x)
    close(ladj, total)
    with pytest.raises(ValueError, match="^z must hold finite"):
        stack.path(z * math.nan)


def test_inverse_exchanges_the_directions():
    layer, x = a_layer("planar"), draws((4, 3))
    for a, b in ((Inverse(layer).forward, layer.inverse), (Inverse(layer).inverse, layer.forward)):
        for actual, expected in zip(a(x), b(x), strict=True):
            assert torch.equal(actual, expected)
    assert Inverse(layer).event_shape == (3,)
    assert list(Inverse(layer).parameters())


def test_stacks_refuse_to_be_empty():
    for make in (Stack, lambda layers: Flow(layers, (2,))):
        for nothing in ([], (), iter([])):
            with pytest.raises(ValueError, match="^layers must hold at least one layer, got none"):
                make(nothing)


@pytest.mark.parametrize("shape", [(2,), (3, 2)])
def test_base_agrees_with_torch(shape):
    base, z = StandardNormal(shape), draws((5, *shape), 0, 2)
    expected = td.Independent(td.Normal(torch.zeros(shape), 1.0), len(shape)).log_prob(z)
    close(base.log_prob(z), expected)
    assert base.sample((7,)).shape == (7, *shape)
    assert base.sample((7,)).dtype == REAL
    assert base.float().sample((7,)).dtype == torch.float32
    z = StandardNormal((50,)).sample((400,), generator=seeded())
    assert scipy.stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3  # fixed seed


def test_any_distribution_can_be_the_base():
    base = ring(modes=3, dtype=REAL)
    flow, x = Flow([shaken(Conv1x1(2)), shaken(ActNorm(2))], (2,), base), draws((5, 2), 0, 2)
    z, ladj = flow.inverse(x)
    close(flow.log_prob(x), base.log_prob(z) + ladj)
    expected = flow(0.5 * base.sample((6,), generator=seeded(1)))[0]
    close(flow.sample((6,), temperature=0.5, generator=seeded(1)), expected)
    with pytest.raises(ValueError, match=r"^base must have the event shape \(3,\), got \(2,\)"):
        Flow([ActNorm(3)], (3,), base)
    with pytest.raises(ValueError, match=r"^base must have the event shape \(2,\), got \(3,\)"):
        Flow([ActNorm(2)], (2,), StandardNormal((3,)))


@pytest.mark.parametrize("kind", [Conv1x1, Conv1x1LU])
@BRIEF
@given(SEEDS, st.integers(1, 4))
def test_a_flow_of_matrices_is_a_multivariate_normal(kind, seed, d):
    flow, x = Flow([shaken(kind(d), seed), shaken(ActNorm(d), seed)], (d,)), draws((5, d), seed, 2)
    matrix, norm = flow.layers
    root = norm.log_scale.exp()[:, None] * matrix.weight
    expected = td.MultivariateNormal(norm.shift, root @ root.T).log_prob(x)
    close(flow.log_prob(x), expected, 1e-7)


def a_flow(kind, d=2, seed=0, spread=0.6):
    return Flow([a_layer(kind, d, seed, spread), a_layer("actnorm", d, seed + 1, 0.4)], (d,))


@every_kind
@BRIEF
@given(SEEDS)
def test_log_prob_by_the_change_of_variables(kind, seed):
    flow, x = a_flow(kind, 3, seed), draws((3, 3), seed)
    z, _ = flow.inverse(x)
    volume = torch.linalg.slogdet(jacobians(flow.forward, z)).logabsdet
    log_q = flow.log_prob(x)
    assert log_q.shape == (3,)
    log_p = td.Normal(0.0, 1.0).log_prob(z).sum(1)
    close(log_q, log_p - volume, 1e-7)
    assert torch.equal(flow.loss(x), -log_q)


@pytest.mark.parametrize("kind", ["planar", "radial", "actnorm", "conv", "conv-lu", "inverse-planar"])
@pytest.mark.parametrize("seed", range(3))
def test_densities_on_the_line_integrate_to_one(kind, seed):
    flow = a_flow(kind, 1, seed, 1.0)
    x = torch.linspace(-60, 60, 200_001)
    total = torch.trapezoid(flow.log_prob(x[:, None]).exp(), x)
    assert total.item() == pytest.approx(1, abs=1e-4)


@torch.no_grad()
def on_a_grid(flow, n=320):
    """Probability of each cell of a square grid on the plane (n, n), and how far it reaches from 0."""
    reach = 1.3 * flow.sample((5000,), generator=seeded(7)).abs().max().item()
    x = (torch.arange(n) + 0.5) * (2 * reach / n) - reach
    density = flow.log_prob(torch.cartesian_prod(x, x)).exp()
    return density.reshape(n, n) * (2 * reach / n) ** 2, reach


@every_kind
def test_densities_on_the_plane_integrate_to_one(kind):
    mass, _ = on_a_grid(a_flow(kind, 2, 1, 0.4))
    assert mass.sum().item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("kind", ["planar", "radial", "coupling-spline", "autoregressive-affine", "stack"])
def test_draws_follow_the_density(kind):
    flow, n = a_flow(kind, 2, 2, 0.4), 20_000
    x = flow.sample((n,), generator=seeded(1))
    assert (x.shape, x.requires_grad) == ((n, 2), False)
    mass, reach = on_a_grid(flow)
    edges = torch.linspace(-reach, reach, 41)  # cells of 8 × 8
    expected = n * mass.reshape(40, 8, 40, 8).sum((1, 3))
    observed = torch.histogramdd(x, [edges, edges]).hist
    often = expected > 20
    assert often.sum() > 30
    observed, expected = (
        torch.cat([t[often], n - t[often].sum()[None]]).numpy() for t in (observed, expected)
    )
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3  # fixed seed


def test_draws_repeat_with_a_generator_and_leave_the_global_one():
    flow, state = a_flow("stack"), torch.get_rng_state()
    first, second = (flow.sample((9,), generator=seeded(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, flow.sample((9,), generator=seeded(4)))
    assert not torch.equal(flow.sample((9,)), flow.sample((9,)))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2])
def test_temperature_scales_the_latent_draws(temperature):
    flow = a_flow("planar")
    z = flow.base.sample((9,), generator=seeded(3))
    expected = flow(temperature * z)[0]
    close(flow.sample((9,), temperature=temperature, generator=seeded(3)), expected)
    close(flow.rsample((9,), temperature=temperature, generator=seeded(3)), expected)


def test_gradients_flow_through_rsample_and_not_through_sample():
    flow = Flow([shaken(ActNorm(2))], (2,))
    z = flow.base.sample((50,), generator=seeded(2))
    x = flow.rsample((50,), generator=seeded(2))
    x.square().mean().backward()
    (layer,) = flow.layers
    close(layer.shift.grad, x.detach().mean(0))
    close(layer.log_scale.grad, (x * z * layer.log_scale.exp()).detach().mean(0))
    assert not flow.sample((3,)).requires_grad
    assert flow.sample((3,)).grad_fn is None


def test_every_parameter_learns_from_the_loss_and_from_draws():
    for kind in KINDS:
        flow = Flow([shaken(KINDS[kind](3, 0), 5), shaken(ActNorm(3))], (3,))
        for loss in (flow.loss(draws((200, 3))), flow.rsample((200,), generator=seeded()) ** 3):
            flow.zero_grad()
            loss.mean().backward()
            for name, parameter in flow.named_parameters():
                assert parameter.grad is not None, (kind, name)
                assert parameter.grad.isfinite().all(), (kind, name)
                assert parameter.grad.any() or name.endswith(("lower", "upper")) or "net" in name, (
                    kind,
                    name,
                )


def test_a_flow_learns_a_correlated_normal():
    generator = seeded(6)
    x = torch.randn(400, 2, generator=generator) @ torch.tensor([[1.0, 0.8], [0, 0.5]]) + torch.tensor(
        [3.0, -1]
    )
    torch.manual_seed(0)
    flow = Flow([ActNorm(2), Conv1x1LU(2), ActNorm(2)], (2,))
    flow.initialise(x)
    before = flow.loss(x).mean().item()
    optimiser = torch.optim.LBFGS(flow.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = flow.loss(x).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    best = td.MultivariateNormal(x.mean(0), x.T.cov(correction=0)).log_prob(x).mean().item()
    assert flow.loss(x).mean().item() == pytest.approx(-best, abs=1e-5)
    assert before > -best + 0.05


def test_parameters_can_be_stored_and_read_back():
    x = draws((4, 3))
    for kind in KINDS:
        flow = a_flow(kind, 3, 0)
        other = a_flow(kind, 3, 0)
        shaken(other, 9)
        other.load_state_dict(flow.state_dict())
        close(other.log_prob(x), flow.log_prob(x))
    one, other = Conv1x1LU(4, torch.eye(4).flip(0)), Conv1x1LU(4, -torch.eye(4))
    other.load_state_dict(one.state_dict())  # signs and permutation are part of it
    assert torch.equal(other.weight, one.weight)


def test_flows_in_float32():
    flow = a_flow("nested", 3, 0, 0.3).float()
    x = flow.sample((5,), generator=seeded())
    assert x.dtype == torch.float32
    assert flow.log_prob(x).dtype == torch.float32
    close(flow.log_prob(x).double(), flow.double().log_prob(x.double()), 1e-3)


def test_flows_refuse():
    flow = a_flow("planar", 2)
    for method in (flow.log_prob, flow.loss, flow.inverse):
        for bad in (math.nan, math.inf, -math.inf):
            with pytest.raises(ValueError, match="^x must hold finite numbers"):
                method(torch.tensor([[0.0, bad]]))
        for shape in ((2,), (1, 3), (), (1, 2, 1)):
            with pytest.raises(ValueError, match=r"^x must have shape \(B, 2\), got"):
                method(torch.zeros(shape))
        with pytest.raises(ValueError, match="^x must be a tensor of real numbers, got torch.int64"):
            method(torch.zeros(2, 2, dtype=torch.int64))
    for temperature in (0, -1, math.nan, math.inf, "1", True):
        for draw in (flow.sample, flow.rsample):
            with pytest.raises(ValueError, match="^temperature must"):
                draw((2,), temperature=temperature)
    for shape in ((), (2, 3), 5, (0,), (2.0,)):
        with pytest.raises(ValueError, match="shape"):
            flow.sample(shape)
    for event_shape in ((0,), (2.0,), (True, 2)):
        with pytest.raises(ValueError, match="^event_shape must be a whole number of at least 1"):
            Flow([Planar(2)], event_shape)


# what lies outside a spline


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [3e38, 1e20, 1e6, 4.0])
def test_values_outside_a_spline_meet_neither_formula_nor_gradient(dtype, far):
    spline = Spline(6, bound=3.0)
    x = torch.tensor([far, -far, 0.4, -2.9], dtype=dtype, requires_grad=True)
    theta = draws((4, spline.count)).to(dtype).requires_grad_()
    for way in (spline.forward, spline.inverse):
        y, log_slope = way(x, theta)
        assert torch.equal(y[:2], x[:2])
        assert torch.equal(log_slope[:2], torch.zeros(2, dtype=dtype))
        by_x, by_theta = torch.autograd.grad(y.sum() + log_slope.sum(), (x, theta))
        assert torch.equal(by_x[:2], torch.ones(2, dtype=dtype))
        assert torch.equal(by_theta[:2], torch.zeros_like(by_theta[:2]))
        assert torch.isfinite(by_theta).all()
        assert by_theta[2:].abs().sum(1).min() > 0
        alone, _ = way(x[2:], theta[2:])
        assert torch.equal(y[2:], alone)


def test_a_spline_whose_inputs_are_all_outside_learns_nothing():
    flow = Flow([Coupling(alternating(2), Spline(5, bound=1.0), MLP(1, 1, 14))], (2,))
    x = 50 + draws((8, 2))
    flow.loss(x).mean().backward()
    assert all((p.grad == 0).all() for p in flow.parameters())


def test_the_smallest_bins_of_a_spline_are_a_thousandth():
    spline = Spline(4, bound=1.0)
    theta = torch.zeros(spline.count)
    theta[0], theta[4] = -100.0, -100.0  # the first bin as narrow and as low as may be
    x, _ = spline.forward(torch.tensor([-1 + 2e-3]), theta[None])
    close(x, torch.tensor([-1 + 2e-3]), 1e-12)  # its right end, 2 · bound · least from the left
    theta[8:] = -100.0  # the flattest knots
    _, log_slope = spline.forward(torch.tensor([-1 + 2e-3]), theta[None])
    close(log_slope, torch.tensor([math.log(1e-3)]), 1e-9)


@pytest.mark.parametrize("layer", [Conv1x1, Conv1x1LU])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_matrices_say_in_which_precision_they_can_be_solved(layer, dtype):
    layer = layer(3).to(dtype)
    for way in (layer.forward, layer.inverse):
        with pytest.raises(ValueError, match=f"^weight must be in float32 or float64.*, got {dtype}$"):
            way(torch.ones(2, 3, dtype=dtype))


def test_initialise_refuses_a_channel_that_varies_by_rounding_only():
    x = draws((50, 2)).float()
    x[:, 1] = 1 + 1e-7 * x[:, 1]
    with pytest.raises(ValueError, match=r"^x must vary in each channel .* around 1 in channel 1$"):
        ActNorm(2).initialise(x)
    x[:, 1] -= 1  # small, but no rounding
    assert (ActNorm(2).initialise(x).std(0, correction=0) - 1).abs().max() < 1e-3
