"""The table of scores in the plane, and the network that learns from it."""

import math

import pytest
import torch
from torch.nn.functional import silu

from genlib import data, nets, sde
from genlib._shapes import squared

FLOAT64 = {"dtype": torch.float64}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def brute(x, points, variance):
    """Score of normal bumps at points, by automatic differentiation of the log-density."""
    x = x.clone().requires_grad_()
    log_p = (-torch.cdist(x, points).square() / (2 * variance)[:, None]).logsumexp(1)
    return torch.autograd.grad(log_p.sum(), x)[0]


def on_cells(points, kappa, step):
    """Points moved to the middles of the cells that the table makes for them."""
    low = -(points.abs().max().item() + 3.5 * kappa)
    return low + step * ((points - low) / step).round()


@pytest.mark.parametrize("kappa", [0.05, 0.4, 2.0])
def test_scores_are_those_of_bumps_at_the_cells(kappa):
    points = torch.randn(9, 2, **FLOAT64) * torch.tensor([1.0, 0.4], **FLOAT64)  # rows are not columns
    step = min(kappa, 0.1)
    x, level, scores, _ = sde.NoisedTable(points, [kappa]).draw(500)
    assert (level == kappa).all()
    variance = level**2 - step**2 / 12
    torch.testing.assert_close(
        scores, brute(x, on_cells(points, kappa, step), variance), rtol=1e-7, atol=1e-7
    )


def test_scores_of_many_points_are_those_of_their_source():
    source = data.ring(scale=0.2)
    points, kappa = source.sample((400_000,)), 0.2
    x, _, scores, _ = sde.NoisedTable(points, [kappa]).draw(20_000)
    truth = source.noised(kappa).score(x)
    error = squared(scores - truth).mean() / squared(truth).mean()
    assert error < 1e-3


def test_bumps_are_narrower_by_what_rounding_adds():
    """Normal data of deviation κ, in cells as wide: without the correction the slope is 4 % off."""
    kappa = 0.1
    points = kappa * torch.randn(400_000, 2, **FLOAT64)
    x, _, scores, _ = sde.NoisedTable(points, [kappa]).draw(100_000)
    slope = -(scores * x).sum() / x.square().sum()
    assert slope.item() == pytest.approx(1 / (2 * kappa**2), rel=0.01)


@pytest.mark.parametrize("levels", [[0.1, 0.4, 1.6], [1.6, 0.4, 0.1]])
def test_draws_are_noisy_points_at_levels_by_their_shares(levels):
    points = torch.tensor([[1.0, -2.0]])
    table = sde.NoisedTable(points, levels, median=0.4, width=1.0)
    x, kappa, _, weight = table.draw(200_000)
    for end in (0, 2):
        assert (table.share[1] / table.share[end]).log().item() == pytest.approx(
            math.log(4) ** 2 / 2, rel=1e-4
        )
    for level, share in zip(table.levels, table.share, strict=True):
        here = kappa == level
        assert here.float().mean().item() == pytest.approx(share.item(), abs=1e-4)
        torch.testing.assert_close(weight[here], (level**2 / 6 / share).expand(int(here.sum())))
        noise = x[here] - points
        assert noise.mean(0).abs().max() < 0.03 * level  # a cell is no wider than a level
        wide = level**2 + min(level.item(), 0.1) ** 2 / 12
        torch.testing.assert_close(noise.var(0), wide.expand(2), rtol=0.02, atol=0)


def test_weights_give_the_loss_of_the_score_model_up_to_a_constant():
    """The table's loss of one score less that of another is the denoising loss's, on evenly spaced levels."""
    points = torch.randn(5000, 2)
    levels = torch.linspace(math.log(0.1), math.log(3.0), 60).exp()
    table = sde.NoisedTable(points, levels)
    x, kappa, scores, weight = table.draw(200_000)

    def loss(c):
        return (weight * squared(-c * x / (1 + kappa**2)[:, None] - scores)).mean()

    class Net(torch.nn.Module):
        def __init__(self, c):
            super().__init__()
            self.c = c

        def forward(self, z, u):  # s = −c x / r²
            return (1 - self.c) * u.exp()[:, None] * z

    process = sde.VarianceExploding(0.01, math.hypot(3.0, 0.01))
    losses = []
    for c in (0.5, 2.0):
        torch.manual_seed(1)
        model = sde.ScoreSDE(Net(c), (2,), process, 0.1)
        losses.append(model.loss(points.repeat(40, 1)).mean())
    assert (loss(2.0) - loss(0.5)).item() == pytest.approx((losses[1] - losses[0]).item(), rel=0.05)


def test_places_beyond_the_grid_come_to_its_edge():
    table = sde.NoisedTable(torch.zeros(1, 2, **FLOAT64), [1.0, 2.0])
    x, kappa, scores, _ = table.draw(100_000)
    torch.testing.assert_close(scores, -x / (kappa**2 - 0.1**2 / 12)[:, None], rtol=1e-9, atol=1e-9)
    for level in (1.0, 2.0):
        here = x[kappa == level]
        assert here.min().item() == pytest.approx(-3.5 * level)
        assert 3.5 * level - 1e-9 < here.max() < 3.5 * level + 0.11


def test_the_table_keeps_its_own_levels():
    levels = torch.tensor([0.1, 1.0])
    table = sde.NoisedTable(torch.zeros(2, 2), levels)
    levels += 1
    torch.testing.assert_close(table.levels, torch.tensor([0.1, 1.0]))


def test_the_last_level_takes_what_rounding_leaves(monkeypatch):
    table = sde.NoisedTable(torch.zeros(1, 2), [0.1, 0.3, 1.0])
    table.share = table.share * (1 - 1e-6)  # a sum of many is not 1 exactly
    monkeypatch.setattr("genlib.sde.table.uniform", lambda shape, like, generator: like.new_ones(shape))
    torch.testing.assert_close(table.draw(1)[1], torch.tensor([1.0]))


def test_same_generator_same_draws():
    table = sde.NoisedTable(torch.randn(50, 2), [0.1, 1.0])
    state = torch.get_rng_state()
    a, b = (table.draw(20, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
    assert [tuple(p.shape) for p in a] == [(20, 2), (20,), (20, 2), (20,)]


@pytest.mark.parametrize(
    ("points", "levels", "settings", "message"),
    [
        (torch.zeros(4, 3), [0.1], {}, "points must have shape"),
        (torch.zeros(0, 2), [0.1], {}, "points must hold at least one"),
        (torch.tensor([[0.0, math.nan]]), [0.1], {}, "points must hold finite"),
        (torch.zeros(4, 2), [0.0, 0.1], {}, "levels must be above 0"),
        (torch.zeros(4, 2), [0.1, 0.3, 0.2], {}, "levels must have shape"),
        (torch.zeros(4, 2), [0.1, 0.1], {}, "levels must have shape"),
        (torch.zeros(4, 2), [], {}, "levels must have shape"),
        (torch.ones(4, 2), [1e-5], {}, "levels must be larger"),
        (torch.zeros(4, 2), [0.1], {"cell": 0.0}, "cell must be"),
        (torch.zeros(4, 2), [0.1], {"width": -1.0}, "width must be"),
    ],
)
def test_bad_input_is_named(points, levels, settings, message):
    with pytest.raises(ValueError, match=message):
        sde.NoisedTable(points, levels, **settings)


def test_plane_net_by_hand():
    """Waves beside the numbers, a bias of each layer that knows the level, two sums, and the fading."""
    net = nets.PlaneNet(3, width=8, waves=5, knee=0.2).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, u = torch.randn(6, 3, **FLOAT64), torch.randn(6, **FLOAT64)
    angle, (a, b, c) = x @ net.places, net.level(nets.waves(u)).split(8, 1)
    h = silu(net.hidden[0](torch.cat([x, angle.sin(), angle.cos()], 1)) + a)
    h = h + silu(net.hidden[1](h) + b)
    h = h + silu(net.hidden[2](h) + c)
    fade = (1 + (0.2 / u.exp()) ** 2) ** -0.5
    torch.testing.assert_close(net(x, u), fade[:, None] * net.last(h))
    net.knee = nets.PlaneNet(knee=None).knee
    torch.testing.assert_close(net(x, u), net.last(h))
    assert nets.PlaneNet(waves=5000).places.std().item() == pytest.approx(2, rel=0.03)
    for bad in (0, 1.5, None):
        with pytest.raises(ValueError, match="waves must be a whole number"):
            nets.PlaneNet(waves=bad)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's jvp
def test_plane_net_starts_at_zero_fades_and_has_forward_derivatives():
    net = nets.PlaneNet(2, width=16, waves=4)
    x, u = torch.randn(7, 2), torch.full((7,), -3.0)
    assert (net(x, u) == 0).all()
    torch.nn.init.normal_(net.last.weight)
    assert net(x, torch.full((7,), math.log(1e-5))).norm() < 1e-2 * net(x, u).norm()
    velocity, divergence = sde.divergence(lambda z, t: net(z, z.new_full((len(z),), t)), x, -3.0)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: net(z[None], u[:1])[0]))(x)
    torch.testing.assert_close(velocity, net(x, u))
    torch.testing.assert_close(divergence, jacobian.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="knee must be"):
        nets.PlaneNet(knee=0.0)
