"""The networks: each against its own formula in plain torch, in float64, and free of the default device and dtype."""

import math

import pytest
import torch
from bijections import shaken
from exactness import FEW, STEADY, close, seeded
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from genlib.flows import channelwise, checkerboard
from genlib.nets import (
    MADE,
    MLP,
    ConvNet,
    ImageNet,
    Ink,
    MaskedLinear,
    Potential,
    Scaled,
    ScoreNet,
    Tilt,
    Together,
    perceptron,
    silent,
    waves,
)

pytestmark = pytest.mark.usefixtures("double")
SEEDS = st.integers(0, 10**6)


def draws(shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("hidden", [(), (5,), (4, 6)])
def test_conditioners_start_at_zero(hidden):
    net = MLP(2, 3, 4, hidden)
    assert net(draws((5, 2))).shape == (5, 3, 4)
    assert (net(draws((5, 2))) == 0).all()
    assert [linear.out_features for linear in net if isinstance(linear, torch.nn.Linear)] == [*hidden, 12]
    made = MADE(3, 4, hidden)
    assert made(draws((5, 3))).shape == (5, 3, 4)
    assert (made(draws((5, 3))) == 0).all()
    assert shaken(net)(draws((5, 2))).std() > 0.1


def test_conditioners_take_an_activation_and_dropout():
    def between(net):
        return [
            layer
            for layer in net
            if not isinstance(layer, torch.nn.Linear | torch.nn.Unflatten | torch.nn.Dropout)
        ]

    assert [type(layer) for layer in between(MLP(2, 1, 1, (3, 4)))] == [torch.nn.ReLU] * 2
    net = shaken(MLP(2, 3, 1, (50, 200), torch.nn.Tanh, 0.25))
    assert [type(layer) for layer in between(net)] == [torch.nn.Tanh] * 2
    x = draws((4, 2))
    a, b, last = (layer for layer in net if isinstance(layer, torch.nn.Linear))
    hidden = b(a(x).tanh()).tanh()
    close(net.eval()(x)[..., 0], last(hidden))
    net.train()
    torch.manual_seed(0)
    kept = torch.nn.functional.dropout(hidden, 0.25)
    assert 0.2 < (kept == 0).float().mean() < 0.3
    torch.manual_seed(0)
    close(net(x)[..., 0], last(kept))  # of the last hidden units, and nowhere else
    plain = shaken(MLP(2, 3, 1))
    assert torch.equal(plain.train()(x), plain(x))
    for dropout in (-0.1, 1.5):
        with pytest.raises(ValueError, match="dropout"):
            MLP(2, 3, 1, dropout=dropout)
        with pytest.raises(ValueError, match="dropout"):
            MADE(2, 3, dropout=dropout)


def test_dropout_leaves_out_the_last_hidden_units_of_made():
    net, x = shaken(MADE(3, 2, (20, 400), dropout=0.25)), draws((4, 3))
    first, second, last = (
        lambda x, layer=layer: x @ (layer.weight * layer.mask).T + layer.bias
        for layer in net
        if isinstance(layer, MaskedLinear)
    )
    hidden = second(first(x).relu()).relu()
    close(net.eval()(x), last(hidden).unflatten(1, (3, 2)))
    net.train()
    torch.manual_seed(0)
    kept = torch.nn.functional.dropout(hidden, 0.25)
    torch.manual_seed(0)
    close(net(x), last(kept).unflatten(1, (3, 2)))
    plain = shaken(MADE(3, 2))
    assert torch.equal(plain.train()(x), plain(x))


WIDTHS = st.sampled_from([(), (1,), (3, 2), (8,), (9, 5), (20, 6, 20)])


@FEW
@given(st.integers(2, 6), st.integers(1, 3), SEEDS, WIDTHS)
def test_outputs_of_made_see_earlier_entries_only(features, count, seed, hidden):
    net = shaken(MADE(features, count, hidden), seed)
    x = draws((12, features), seed)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x).sum(0), x, vectorize=True)
    jacobian = jacobian.movedim(2, 0)  # (B, D, count, D)
    for d in range(features):
        assert (jacobian[:, d, :, d:] == 0).all()


@STEADY
@given(st.integers(2, 9), st.integers(1, 3), st.lists(st.integers(1, 20), max_size=3))
def test_outputs_of_made_are_joined_to_all_earlier_entries(features, count, hidden):
    paths, net = torch.eye(features, dtype=torch.long), MADE(features, count, hidden)
    assert not hidden or net[0].mask.any(1).all()  # no unit is idle
    for layer in net:
        paths = layer.mask.long() @ paths if isinstance(layer, MaskedLinear) else paths
    joined = paths.unflatten(0, (features, count)) > 0
    earlier = torch.ones(features, features).tril(-1).bool()[:, None].expand(joined.shape)
    if min(hidden, default=features) >= features - 1:
        assert torch.equal(joined, earlier)
    else:  # too narrow for all of it, but never closed
        assert not (joined & ~earlier).any()
        assert joined[-1].any()


@pytest.mark.parametrize("mask", [checkerboard(4, 3, 2), channelwise(3, 2, 2), ~checkerboard(1, 2)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_convnet_reads_an_image_with_holes(mask, count):
    net = ConvNet(mask, count, 4)
    passing, changing = int(mask.sum()), int((~mask).sum())
    a = draws((3, passing))
    assert torch.equal(net(a), torch.zeros(3, changing, count))
    net = shaken(net, 1)
    image = torch.zeros(3, *mask.shape)
    for i, place in enumerate(mask.nonzero().tolist()):
        image[(slice(None), *place)] = a[:, i]
    maps = net.layers(image)
    theta = net(a)
    assert theta.shape == (3, changing, count)
    for i, (c, row, column) in enumerate((~mask).nonzero().tolist()):
        close(theta[:, i], maps[:, count * c : count * (c + 1), row, column])
    assert theta.std() > 0.05


def test_convnet_refuses_masks():
    for mask in (torch.ones(1, 2, 2, dtype=torch.bool), torch.zeros(1, 2, 2, dtype=torch.bool)):
        with pytest.raises(ValueError, match="^mask must pass some entries and change others"):
            ConvNet(mask, 2)
    with pytest.raises(ValueError, match="^mask must be a tensor of bool"):
        ConvNet(torch.ones(1, 2, 2), 2)


def test_perceptron_has_no_activation_at_its_end():
    net = perceptron(3, 5, (7, 6), nn.Tanh)
    kinds = [type(layer) for layer in net]
    assert kinds == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert [layer.weight.shape for layer in net[::2]] == [(7, 3), (6, 7), (5, 6)]


def test_waves_are_sines_and_cosines():
    level = torch.tensor([0.3, -1.0])
    expected = [[f(k * v) for f in (math.sin, math.cos) for k in (0.5, 1, 2, 4)] for v in (0.3, -1.0)]
    close(waves(level), torch.tensor(expected), 1e-6)


def test_score_net_is_told_the_noise_level():
    torch.manual_seed(0)
    net, x = ScoreNet(3, 8), draws((4, 3))
    out = net(x, torch.zeros(4))
    assert out.shape == (4, 3)
    assert (out != net(x, torch.ones(4))).all()
    assert torch.allclose(out[2:], net(x[2:], torch.zeros(2)))


@STEADY
@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.integers(1, 6), max_size=3), SEEDS)
def test_perceptron_by_hand(inputs, outputs, hidden, seed):
    torch.manual_seed(seed)
    net, x = perceptron(inputs, outputs, hidden, nn.SiLU), draws((5, inputs), seed)
    h = x
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    for i, layer in enumerate(layers):
        h = h @ layer.weight.T + layer.bias
        h = h * torch.sigmoid(h) if i < len(layers) - 1 else h
    close(net(x), h)
    assert [layer.out_features for layer in layers] == [*hidden, outputs]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ((0, 1), "inputs"),
        ((1, 0), "outputs"),
        ((1, 1, (0,)), "hidden"),
        ((1, 1, (2,), nn.ReLU, 1.0), "dropout"),
    ],
)
def test_perceptron_refuses(settings, name):
    with pytest.raises(ValueError, match=f"^{name} must"):
        perceptron(*settings)


def test_silent_layers_say_nothing():
    for layer in (nn.Linear(3, 2), nn.Conv2d(3, 2, 1)):
        assert silent(layer) is layer
        assert not layer.weight.any()
        assert not layer.bias.any()


def test_convnet_by_hand():
    mask = checkerboard(4, 3, 2)
    net, a = shaken(ConvNet(mask, 3, 5)), draws((2, int(mask.sum())))
    image = torch.zeros(2, *mask.shape).masked_scatter(mask, a)
    first, second, last = (layer for layer in net.layers if isinstance(layer, nn.Conv2d))
    h = F.conv2d(image, first.weight, first.bias, padding=1).relu()
    h = torch.einsum("oi,bihw->bohw", second.weight[:, :, 0, 0], h) + second.bias[:, None, None]
    h = F.conv2d(h.relu(), last.weight, last.bias, padding=1)
    by_hand = h.reshape(2, 2, 3, 4, 3).movedim(2, -1)[:, ~mask]
    close(net(a), by_hand)


def test_scaled_and_ink_know_the_grey_levels():
    levels = torch.arange(17.0).repeat(2, 1)
    close(Scaled()(levels), torch.linspace(-1, 1, 17).expand(2, 17))
    assert Scaled()(torch.zeros(3, 8, 8)).shape == (3, 64)
    close(Ink()(torch.tensor([-1e3, 0.0, 1e3])), torch.tensor([0.0, 8.0, 16.0]))
    close(Ink()(torch.tensor([0.7])), torch.tensor([16 / (1 + math.exp(-0.7))]))


def test_tilt_by_hand():
    images = torch.randint(17, (30, 8, 8), generator=seeded(1))
    net, tilts = Tilt(images).double(), draws((4, 128))
    logits = net(tilts)
    assert logits.shape == (4, 8, 8, 17)
    for b, row, column in ((0, 0, 0), (3, 2, 5), (1, 7, 7)):
        counts = torch.tensor([(images[:, row, column] == k).sum() + 0.5 for k in range(17)])
        t = (torch.arange(17) - 8) / 8
        a, c = tilts[b].reshape(8, 8, 2)[row, column]
        expected = (counts / counts.sum()).log() + a * t + c * t**2
        close(logits[b, row, column], expected, 1e-6)
    close(net(torch.zeros(1, 128)).softmax(-1).sum(-1), torch.ones(1, 8, 8), 1e-6)
    small = Tilt(torch.randint(5, (9, 2, 3)), levels=5)
    assert small(torch.zeros(2, 12)).shape == (2, 2, 3, 5)


def test_score_net_by_hand():
    torch.manual_seed(0)
    net, x, level = ScoreNet(3, 8), draws((4, 3)), draws((4,))
    first, second, third = net.hidden
    w = waves(level)
    h = F.gelu(first(torch.cat([x, w], 1)))
    h = h + F.gelu(second(torch.cat([h, w], 1)))
    h = h + F.gelu(third(torch.cat([h, w], 1)))
    close(net(x, level), net.last(torch.cat([h, w], 1)))


def test_image_net_by_hand():
    """Each of its three sums, each gate, each place where the level comes in."""
    net, x, level = shaken(ImageNet(), spread=0.4).eval(), draws((3, 64)), draws((3,))
    w = waves(level)
    fine = net.first(x.reshape(3, 1, 8, 8))
    coarse = net.down(F.silu(fine)) + net.level(w).reshape(3, 48, 1, 1)
    seen = F.silu(coarse)
    gate = F.silu(net.whole(torch.cat([seen.reshape(3, -1), w], 1)))
    coarse = coarse + F.silu(net.near(seen) + net.back(gate).reshape(3, 48, 4, 4))
    raised = net.up(F.silu(coarse)).reshape(3, 16, 2, 2, 4, 4)
    fine = fine + raised.permute(0, 1, 4, 2, 5, 3).reshape(3, 16, 8, 8)
    fine = fine + net.mix(F.silu(fine))
    close(net(x, level), net.last(F.silu(fine)).reshape(3, 64))


def test_image_net_starts_without_weights_at_its_end_and_drops_units_in_training():
    torch.manual_seed(0)
    net, x = ImageNet(), draws((3, 64))
    out = net.eval()(x, torch.zeros(3))
    close(out, net.last.bias.expand(3, 64))
    net = shaken(net)
    assert not torch.equal(net.train()(x, torch.zeros(3)), net(x, torch.zeros(3)))
    assert torch.equal(net.eval()(x, torch.zeros(3)), net(x, torch.zeros(3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constants_follow_the_input_and_not_the_defaults(dtype):
    level = torch.zeros(2, dtype=dtype)
    assert waves(level).dtype == dtype
    assert waves(level.to("meta")).device.type == "meta"
    with torch.device("meta"):
        assert waves(level).device.type == "cpu"
    net = ScoreNet(2, 4).to(dtype)
    assert net(torch.zeros(2, 2, dtype=dtype), level).dtype == dtype


def test_a_potential_is_minus_the_product_of_the_place_and_the_field():
    field, x, level = ScoreNet(3, 8), draws((4, 3)), draws((4,))
    net = Potential(field)
    close(net(x, level), -torch.einsum("bd,bd->b", x, field(x, level)))
    assert {name.split(".")[0] for name, _ in net.named_parameters()} == {"field"}
    images = draws((4, 1, 2, 3))
    close(Potential(lambda x, _: 2 * x)(images, level), -2 * images.square().sum((1, 2, 3)))
    with pytest.raises(ValueError, match=r"^field must return shape \(4, 3\), got \(4, 1\)$"):
        Potential(lambda x, _: x[:, :1])(x, level)


def test_the_slope_of_a_potential_is_the_field_and_what_its_turning_adds():
    field, x, level = ScoreNet(3, 8), draws((3,)).requires_grad_(), draws((1,))
    (slope,) = torch.autograd.grad(Potential(field)(x[None], level)[0], x)
    turning = torch.autograd.functional.jacobian(lambda x: field(x[None], level)[0], x)
    close(-slope, field(x[None], level)[0] + turning.T @ x)


def test_inputs_together_are_laid_side_by_side():
    a, b = draws((4, 2, 3)), draws((4, 1))
    close(Together(torch.nn.Identity())(a, b), torch.cat([a.reshape(4, 6), b], 1))
