"""Models on processes: a score at all levels, one of grey levels, and the network that both are built with."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from bijections import shaken
from exactness import FEW, REAL, close, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from test_samplers import NO_COUNTS, NO_NUMBERS_ABOVE_0, Timed, about, draws, line
from torch import nn
from torch.distributions import Independent, Normal
from torch.nn import functional as F

from genlib import sde
from genlib.nets import ImageNet, waves
from genlib.sde.levels import _moved

pytestmark = [
    pytest.mark.usefixtures("double"),
    pytest.mark.filterwarnings(
        "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
    ),  # torch's own jvp
]

EVENTS = [(1,), (2,), (2, 2), (1, 2, 2)]
PROCESSES = {
    "exploding": sde.VarianceExploding(0.05, 6.0),
    "preserving": sde.VariancePreserving(0.2, 7.0),
    "sub": sde.SubVariancePreserving(0.3, 9.0),
}
SEEDS = st.integers(0, 10**6)
named = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
drawn = st.sampled_from(list(PROCESSES.values()))


class Zero(nn.Module):
    def forward(self, x, log_sigma):
        return torch.zeros_like(x)


class Dropping(nn.Module):
    """What it returns in training depends on chance."""

    def __init__(self, outputs=1):
        super().__init__()
        self.drop, self.scale, self.outputs = nn.Dropout(0.5), nn.Parameter(torch.ones(())), outputs

    def forward(self, x, log_sigma, told=None):
        return self.drop(x.repeat(1, self.outputs)).sin() * self.scale


def a_model(process, event=(2,), net=None, last=0.3, spread=0.8):
    return sde.ScoreSDE(net or Timed(event), event, process, last, spread)


# ScoreSDE


@named
@pytest.mark.parametrize("event", EVENTS)
def test_the_score_by_hand(process, event):
    model, x = a_model(process, event), draws((3, *event))
    kappa = torch.tensor([0.3, 1.0, 2.5])
    r = (0.8**2 + kappa**2).sqrt().reshape(3, *[1] * len(event))
    column = kappa.reshape(r.shape)
    by_hand = -x / r**2 + 0.8 / (column * r) * model.net(x / r, kappa.log())
    close(model.score(x, kappa), by_hand)
    close(model.score(x, 1.0)[1], by_hand[1])


@named
def test_the_levels_are_the_first_and_the_last(process):
    model = a_model(process)
    close(model.levels, torch.tensor([process.level(1.0), 0.3]))
    assert model.last == 0.3
    assert model.spread == 0.8
    assert model.process is process
    assert model.event_shape == torch.Size([2])
    assert sde.ScoreSDE(Zero(), (2,), process, 0.3).spread == 1.0
    for bad in (process.level(1.0), 1e3):
        with pytest.raises(ValueError, match="^levels must fall"):
            a_model(process, last=bad)
    for bad in NO_NUMBERS_ABOVE_0:
        with pytest.raises(ValueError, match="^last must be"):
            a_model(process, last=bad)
        with pytest.raises(ValueError, match="^spread must be"):
            a_model(process, spread=bad)


@named
@pytest.mark.parametrize("event", EVENTS)
def test_the_loss_by_hand(process, event):
    model, x = a_model(process, event), draws((5, *event))
    torch.manual_seed(3)
    loss = model.loss(x)
    torch.manual_seed(3)
    low, high = math.log(0.3), math.log(process.level(1.0))
    kappa = (low + (high - low) * torch.rand(5)).exp()
    eps, column = torch.randn_like(x), kappa.reshape(5, *[1] * len(event))
    miss = model.score(x + column * eps, kappa) + eps / column
    close(loss, kappa**2 * miss.flatten(1).square().sum(1) / 2)
    loss.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
    close(kappa.min() >= 0.3, True)


@settings(FEW, max_examples=8)
@given(drawn, st.floats(0.1, 1.0), SEEDS, st.sampled_from(EVENTS))
def test_the_velocity_is_the_probability_flow_on_another_clock(process, t, seed, event):
    """z = x/(α r) and u = log κ move with t as the chain rule says."""
    model, x = a_model(process, event), draws((3, *event), seed)
    flow = sde.ProbabilityFlow(process, process.at_level(model.score))
    t = torch.tensor(t)

    def clock(x, t):
        kappa = process.level(t)
        return x / (process.scale(t) * (0.8**2 + kappa**2).sqrt()), kappa.log()

    (z, u), (dz, du) = torch.func.jvp(clock, (x, t), (flow(x, t.item()), torch.ones(())))
    close(model.velocity(z, u.item()), dz / du, 1e-9)


@named
def test_without_a_network_it_is_exact_for_normal_data(process):
    for event in EVENTS:
        model, x = a_model(process, event, Zero()), draws((4, *event))
        exact = Independent(Normal(torch.zeros(event), math.sqrt(0.8**2 + 0.3**2)), len(event))
        close(model.log_prob(x), exact.log_prob(x))
        close(model.log_prob(x, 1), exact.log_prob(x))


@named
@pytest.mark.parametrize("order", [1, 2])
def test_samples_without_a_network_by_hand(process, order):
    """Each step is a multiple of x: so is the sample of its first noise, down to the mean of clean data."""
    model = a_model(process, net=Zero())
    steps = 60
    start = torch.randn(7, 2, generator=seeded(1))
    size = math.sqrt(process.scale(1.0) ** 2 * 0.8**2 + process.deviation(1.0) ** 2)
    x = model.sample((7,), steps, order=order, generator=seeded(1))
    levels = [process.level(t) for t in process.schedule(steps - 1, 0.3)] + [0.0]
    y, before = size / process.scale(1.0), None
    for k, (level, after) in enumerate(itertools.pairwise(levels)):
        clean, q = y * 0.8**2 / (0.8**2 + level**2), after / level
        D = clean
        if order == 2 and k and after:
            D = clean + (clean - before) * math.log(q) / (2 * math.log(level / levels[k - 1]))
        y, before = q * y + (1 - q) * D, clean
    close(x, y * start, 1e-10)
    exact = 0.8**2 / math.sqrt(0.8**2 + 0.3**2)  # deviation of the clean mean at the last level
    close(y, exact, {1: 0.03, 2: 0.002}[order])
    about(model.sample((4000,), 100, noise=1.0, order=1, generator=seeded(2)) ** 2, exact**2, 4)
    one = model.sample((7,), 1, generator=seeded(1))
    kappa = process.level(1.0)
    close(one, size / process.scale(1.0) * 0.8**2 / (0.8**2 + kappa**2) * start, 1e-10)
    with pytest.raises(ValueError, match="^order must be 1 or 2"):
        model.sample((2,), order=3)


@named
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("noise", [0.0, 1.3])
def test_samples_are_those_of_the_exponential_solver(process, order, noise):
    model, run, generator = a_model(process), {"order": order, "noise": noise}, seeded(1)
    size = math.hypot(0.8 * process.scale(1.0), process.deviation(1.0))
    start, times = size * torch.randn(5, 2, generator=generator), [*process.schedule(3, 0.3), 0.0]
    by_hand = sde.exponential(
        process, process.at_level(model.score), start, times, generator=generator, **run
    )
    close(model.sample((5,), 4, generator=seeded(1), **run), by_hand)
    usual = order == 2 and noise == 0
    assert torch.allclose(model.sample((5,), 4, generator=seeded(1)), by_hand) == usual


def test_samples_draw_all_from_the_generator():
    model, state = a_model(PROCESSES["preserving"]), torch.get_rng_state()
    one, again, other = (model.sample((3,), 4, noise=0.7, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_samples_ask_the_network_once_a_step():
    asked = []

    class Counting(Zero):
        def forward(self, x, log_sigma):
            asked.append(log_sigma[0].item())
            return super().forward(x, log_sigma)

    model = a_model(PROCESSES["preserving"], net=Counting())
    for steps in (1, 2, 7):
        asked.clear()
        model.sample((3,), steps)
        assert len(asked) == steps
        assert asked == sorted(asked, reverse=True)
        close(asked[0], math.log(model.process.level(1.0)))
        if steps > 1:
            close(asked[-1], math.log(0.3))
    asked.clear()
    model.sample((3,))
    assert len(asked) == 20
    asked.clear()
    model.log_prob(draws((2, 2)), 3)
    assert len(asked) == 12
    close(asked[0], math.log(0.3))
    close(asked[-1], math.log(model.process.level(1.0)))


@named
def test_log_prob_is_that_of_the_probability_flow(process):
    """The same density in x, at the time of the last level, from the normal law at t = 1."""
    model, x = a_model(process), draws((4, 2))
    alpha, size = (
        process.scale(process.time(0.3)),
        math.hypot(0.8 * process.scale(1.0), process.deviation(1.0)),
    )
    flow = sde.ProbabilityFlow(process, process.at_level(model.score))
    times = process.schedule(8, 0.3, power=1e4)[::-1]
    base = Independent(Normal(torch.zeros(2), size), 1)
    ours = model.log_prob(x, 8)
    close(ours, sde.log_prob(flow, alpha * x, times, base) + 2 * math.log(alpha), 3e-3)
    assert (ours - a_model(process, net=Zero()).log_prob(x)).abs().mean() > 0.01
    assert not ours.requires_grad
    probes = sde.signs(100, x, seeded(0))
    close(model.log_prob(x, 1, probes=probes), model.log_prob(x, 1), 0.3)
    with pytest.raises(ValueError, match=re.escape("probes must have shape (P, 4, 2)")):
        model.log_prob(x, probes=probes[0])


def test_log_prob_of_a_network_is_a_density():
    model = a_model(PROCESSES["preserving"], (1,))
    x, h = line(-9, 9, 181)
    close(h * model.log_prob(x, 20).exp().sum(), 1.0, 1e-4)


def modes(model):
    return [part.training for part in model.modules()]


def test_drawing_and_judging_are_in_evaluation_mode_and_leave_the_mode():
    model, x = a_model(PROCESSES["sub"], net=Dropping()), draws((3, 2))
    model.train()
    model.net.eval()
    model.net.drop.train()
    before = modes(model)
    for call in (lambda: model.sample((3,), 3, generator=seeded(0)), lambda: model.log_prob(x, 2)):
        first, again = call(), call()
        assert torch.equal(first, again)
        assert modes(model) == before
        model.eval()
        assert torch.equal(first, call())
        model.train()
        model.net.training = False
    with pytest.raises(ValueError, match="^order"):
        model.sample((3,), order=7)
    assert modes(model) == before


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
def test_score_sde_works_in_its_own_precision(dtype):
    model, x = a_model(PROCESSES["preserving"]).to(dtype), draws((3, 2)).to(dtype)
    assert model.sample((3,), 3).dtype == dtype
    assert model.log_prob(x, 2).dtype == model.loss(x).dtype == dtype
    other = x.to(REAL if dtype == torch.float32 else torch.float32)
    for call in (model.log_prob, model.loss):
        with pytest.raises(ValueError, match=f"^x must be in {dtype} as the model is, got {other.dtype}"):
            call(other)


def test_score_sde_refuses():
    model = a_model(PROCESSES["sub"])
    for call in (model.log_prob, model.loss):
        with pytest.raises(ValueError, match=re.escape("x must have shape (B, 2), got (3, 3)")):
            call(torch.zeros(3, 3))
        with pytest.raises(ValueError, match="^x must hold finite numbers"):
            call(torch.full((1, 2), math.nan))
    for bad in NO_COUNTS:
        with pytest.raises(ValueError, match="^steps must be a whole number"):
            model.log_prob(draws((2, 2)), bad)
        with pytest.raises(ValueError, match="^steps must be a whole number"):
            model.sample((2,), bad)
    for bad in (3, (2, 2), ()):
        with pytest.raises(ValueError, match="^shape must be"):
            model.sample(bad)


# GreyScore

PICTURES = torch.tensor([[[0, 2]], [[1, 2]], [[0, 1]], [[3, 2]], [[0, 0]]])
SHARES = F.one_hot(PICTURES.flatten(1), 4).sum(0).double() + 0.03
SHARES = SHARES / SHARES.sum(1, keepdim=True)  # (2, 4)


class NoTilt(nn.Module):
    def forward(self, x, log_kappa, told):
        return x.new_zeros(len(x), 2 * x.shape[1])


class Tilting(nn.Module):
    """A smooth network (B, 2 H W) → (B, 4 H W) that says what it was asked."""

    def __init__(self, pixels=2, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.last = nn.Linear(2 * pixels + 3, 8), nn.Linear(8, 4 * pixels)
        self.asked = None

    def forward(self, x, log_kappa, told):
        self.asked = x, log_kappa, told
        return self.last(self.first(torch.cat([x, log_kappa[:, None], told], 1)).tanh())


def grey(net=None, images=PICTURES, **more):
    return sde.GreyScore(net or NoTilt(), images, 4, **{"last": 0.4, "first": 12.0, **more})


def one_pixel(net=None, **more):
    return grey(net, PICTURES[:, :, :1], **more)


def test_grey_score_starts_from_its_images():
    model = grey()
    close(model.log_h, SHARES.log())
    close(model.mean, SHARES @ torch.arange(4.0))
    close(model.k, torch.arange(4.0))
    deviations = [np.std(PICTURES[:, 0, d].numpy(), ddof=1) for d in range(2)]
    close(model.spread, math.sqrt((deviations[0] ** 2 + deviations[1] ** 2) / 2))
    t = [-1.0, -1 / 3, 1 / 3, 1.0]
    close(model.curves, torch.tensor([t, [v * v for v in t], [1, 0, 0, 0], [0, 0, 0, 1]]))
    assert model.event_shape == torch.Size([1, 2])
    assert [name for name, _ in model.named_parameters()] == ["curves"]
    usual = sde.GreyScore(NoTilt(), PICTURES)
    assert (usual.levels, usual.last, usual.first, usual.median, usual.moved) == (17, 0.5, 30.0, 3.0, 0.1)
    assert {name for name, _ in model.named_buffers()} == {"log_h", "k", "mean"}


@settings(FEW, max_examples=6)
@given(SEEDS, st.floats(0.1, 20.0))
def test_the_logits_by_hand(seed, size):
    model = grey(Tilting(seed=seed))
    with torch.no_grad():
        model.curves += 0.1 * draws((4, 4), seed)
    y, kappa = draws((3, 2), seed, 3.0), size * torch.tensor([0.5, 1.0, 2.0])
    moves = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [1.0, 1.0]])
    ours = model.logits(y, kappa, moves)
    x, log_kappa, told = model.net.asked
    close(told, moves)
    close(log_kappa, (kappa / 8).log())
    a = model.net(x, log_kappa, told)
    for b, d in itertools.product(range(3), range(2)):
        alone = [SHARES[d, k].log() - (y[b, d] - k) ** 2 / (2 * kappa[b] ** 2) for k in range(4)]
        alone = torch.stack(alone)
        mean = SHARES[d] @ torch.arange(4.0)
        close(x[b, d], (y[b, d] - mean) / (model.spread**2 + kappa[b] ** 2).sqrt(), 1e-10)
        p = alone.exp() / alone.exp().sum() if alone.max() > -600 else alone.softmax(0)
        close(x[b, 2 + d], (p @ torch.arange(4.0) - mean) / 4, 1e-10)
        tilt = sum(a[b, 2 * j + d] * model.curves[j] for j in range(4))
        close(ours[b, d], alone + tilt, 1e-9)
    model.logits(y, kappa)
    close(model.net.asked[2], torch.zeros(3, 2))
    p = model.logits(y, torch.full((3,), size)).softmax(-1)
    close(model.clean(y, size), p @ torch.arange(4.0))
    close(model.score(y, size), (model.clean(y, size) - y) / size**2, 1e-9)


def noised(y, kappa):
    """Log-density of the histograms with noise, each pixel by itself, (B, 2) → (B,)."""
    k = torch.arange(4.0)
    return torch.logsumexp(SHARES.log() + Normal(k, kappa).log_prob(y[..., None]), -1).sum(1)


@FEW
@given(SEEDS, st.floats(0.2, 20.0))
def test_without_a_network_the_score_is_that_of_the_histogram(seed, kappa):
    y = (1.5 + draws((5, 2), seed, 1.5 + kappa)).requires_grad_()
    (slope,) = torch.autograd.grad(noised(y, kappa).sum(), y)
    close(grey().score(y.detach(), kappa), slope, 1e-10)


def test_without_a_network_the_density_is_that_of_the_histogram():
    y = 1.5 + draws((6, 2), 1, 1.5)
    close(grey(first=20.0).log_density(y, 20), noised(y, 0.4), 1e-3)


def test_without_a_network_the_bound_is_tight():
    """Bayes' rule: log P(x|y) + log p(y) − log N(y; x, κ²) is log P(x), whichever y it is."""
    model, x = one_pixel(first=20.0), PICTURES[:, :, :1].repeat(6, 1, 1)
    exact = SHARES[0].log()[x.flatten()]
    close(model.elbo(x, 16, probes=None, generator=seeded(0)), exact, 5e-3)
    one, none = (model.elbo(x, 2, probes=probes, generator=seeded(0)) for probes in (1, None))
    close(one, none)  # one pixel: a sign squared is 1
    pair = grey(first=20.0).elbo(PICTURES, 16, probes=None)
    close(pair, (SHARES.log()[[0, 1], PICTURES[:, 0]]).sum(1), 5e-3)


def test_the_bound_lies_below_what_it_bounds():
    """With a network: the mean of the bound over y is its integral, and P(x) is another integral."""
    model = one_pixel(Tilting(1, seed=3))
    y, h = line(-5, 8, 261)
    with torch.no_grad():
        density = model.log_density(y, 6)
        decoded = model.logits(y, torch.full((len(y),), 0.4)).log_softmax(-1)[:, 0]
    P = h * (density[:, None] + decoded).exp().sum(0)
    close(P.sum(), 1.0, 0.01)
    x = torch.arange(4).repeat_interleave(300).reshape(-1, 1, 1)
    bounds = model.elbo(x, 6, probes=None, generator=seeded(0)).reshape(4, 300)
    for k in range(4):
        noise = Normal(float(k), 0.4).log_prob(y[:, 0])
        bound = h * (noise.exp() * (decoded[:, k] + density - noise)).sum()
        assert bound < P[k].log() - 1e-4
        about(bounds[k], bound)


def test_log_density_of_a_network_is_a_density():
    y, h = line(-7, 10, 171)
    p = one_pixel(Tilting(1)).log_density(y, 8).exp()
    close(h * p.sum(), 1.0, 1e-3)
    assert (p - one_pixel().log_density(y, 8).exp()).abs().max() > 0.02


def test_log_density_follows_the_score():
    """By the flow of variance-exploding noise, dy/dκ = −κ s(y, κ), from a normal law of deviation r at the first."""
    model, y = grey(Tilting(), first=5.0), 1.5 + draws((3, 2))

    def field(y, log_kappa):
        kappa = math.exp(log_kappa)
        return -(kappa**2) * model.score(y, kappa)

    times = torch.linspace(math.log(0.4), math.log(5.0), 9)
    base = Independent(Normal(model.mean, math.hypot(model.spread, 5.0)), 1)
    ours, probes = model.log_density(y, 8), sde.signs(3, y, seeded(0))
    close(ours, sde.log_prob(field, y, times, base), 2e-3)
    assert not ours.requires_grad
    every = torch.tensor([[1.0, 1.0], [1.0, -1.0]])[:, None].expand(-1, 3, -1)
    close(model.log_density(y, 2, probes=every), model.log_density(y, 2, probes=every[[1, 0]]))
    assert not torch.equal(model.log_density(y, 2, probes=probes), model.log_density(y, 2))


def test_images_are_moved_by_hand():
    x = torch.randint(1, 9, (9, 3, 4), generator=seeded(0))
    moves = torch.tensor(list(itertools.product([-1, 0, 1], repeat=2)))
    moved = _moved(x, moves).numpy()
    for picture, (down, right), ours in zip(x.numpy(), moves.tolist(), moved, strict=True):
        by_hand = np.zeros((3, 4), dtype=int)
        for i, j in itertools.product(range(3), range(4)):
            if 0 <= i + down < 3 and 0 <= j + right < 4:
                by_hand[i, j] = picture[i + down, j + right]
        assert (ours == by_hand).all()
    padded = np.pad(x.numpy()[-1], 1)  # the last one is moved by (1, 1)
    assert (moved[-1] == padded[2:5, 2:6]).all()


@pytest.mark.parametrize("moved", [0.0, 0.6])
def test_the_grey_loss_by_hand(moved):
    model, x = grey(Tilting(), moved=moved, median=2.0), PICTURES.repeat(4, 1, 1)
    torch.manual_seed(5)
    loss = model.loss(x)
    told = model.net.asked[2]
    torch.manual_seed(5)
    move = torch.randint(-1, 2, (20, 2)) * (torch.rand(20, 1) < moved)
    share = ((torch.randperm(20) + torch.rand(20)) / 20).clamp(0.002, 0.998)
    kappa = 2.0 * (share / (1 - share)) ** 0.6
    x = _moved(x, move).flatten(1)
    y = x + kappa[:, None] * torch.randn(20, 2)
    close(told, move.double())
    assert bool(told.any()) == bool(moved)
    log_p = model.logits(y, kappa, move.double()).log_softmax(-1)
    close(loss, -log_p.gather(2, x[..., None])[..., 0].sum(1), 1e-11)
    assert (kappa < 2.0).sum() == 10  # half of the noise is below the median
    loss.sum().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_the_noise_in_training_has_bounds():
    """Each 500th of the logistic's law lies at its bound: with 2000 images that is four of them, at either end."""
    model = grey(Tilting())
    torch.manual_seed(0)
    model.loss(PICTURES.repeat(400, 1, 1))
    kappa, bound = 8 * model.net.asked[1].exp(), (0.002 / 0.998) ** 0.6
    close(kappa.sort()[0][:4] / 3.0, torch.full((4,), bound))
    close(kappa.sort()[0][-4:] / 3.0, torch.full((4,), 1 / bound), 1e-9)


def test_samples_without_a_network_have_the_histogram():
    x = grey().sample((3000,), 30, generator=seeded(0))
    assert x.shape == (3000, 1, 2)
    assert x.dtype == torch.int64
    counts = F.one_hot(x[:, 0], 4).double()
    assert ((counts.mean(0) - SHARES).abs() < 0.03).all()
    together = F.one_hot(x[:, 0, 0] * 4 + x[:, 0, 1], 16).double().mean(0).reshape(4, 4)
    assert ((together - SHARES[0][:, None] * SHARES[1]).abs() < 0.03).all()


def test_grey_samples_by_hand():
    model, generator = grey(Tilting()), seeded(1)
    ours = model.sample((200,), 4, generator=seeded(1))
    y = model.mean + math.hypot(model.spread, 12.0) * torch.randn(200, 2, generator=generator)
    process = sde.VarianceExploding(0.04, math.hypot(12.0, 0.04))
    times = process.schedule(3, 0.4, power=3.0)
    score = process.at_level(model.score)
    with torch.no_grad():
        y = sde.exponential(process, score, y, times, noise=1.0, generator=generator)
        p = model.logits(y, torch.full((200,), 0.4)).softmax(-1)
    by_hand = torch.multinomial(p.flatten(0, 1), 1, generator=generator)
    assert torch.equal(ours, by_hand.reshape(200, 1, 2))


def test_grey_samples_ask_the_network_once_a_call_and_once_more():
    asked = []

    class Counting(NoTilt):
        def forward(self, x, log_kappa, told):
            asked.append(8 * log_kappa[0].exp())
            assert not told.any()
            return super().forward(x, log_kappa, told)

    for calls in (2, 5):
        asked.clear()
        grey(Counting()).sample((3,), calls)
        assert len(asked) == calls
        levels = np.linspace(12 ** (1 / 3), 0.4 ** (1 / 3), calls) ** 3
        close(torch.stack(asked)[:-1], torch.from_numpy(levels[:-1]), 1e-5)
        close(asked[-1], 0.4)
    asked.clear()
    grey(Counting()).sample((3,))
    assert len(asked) == 30


def test_grey_draws_come_from_the_generator():
    model = grey(Tilting())
    state = torch.get_rng_state()
    for call in (
        lambda g: model.sample((40,), 4, generator=g),
        lambda g: model.elbo(PICTURES, 1, generator=g),
        lambda g: model.elbo(PICTURES, 1, probes=3, generator=g),
    ):
        assert torch.equal(call(seeded(1)), call(seeded(1)))
        assert not torch.equal(call(seeded(1)), call(seeded(2)))
    assert torch.equal(torch.get_rng_state(), state)


def test_grey_score_judges_in_evaluation_mode_and_leaves_the_mode():
    model = grey(Dropping(2))
    model.train()
    y = draws((3, 2))
    for call in (
        lambda: model.sample((9,), 3, generator=seeded(0)),
        lambda: model.log_density(y, 1),
        lambda: model.elbo(PICTURES, 1, generator=seeded(0)),
    ):
        first = call()
        assert torch.equal(first, call())
        assert all(modes(model))
        model.eval()
        assert torch.equal(first, call())
        model.train()
    assert not torch.equal(model.loss(PICTURES), model.loss(PICTURES))


def test_a_slope_is_added_to_the_score_of_samples():
    """What is missing from the score to that of one image leads there; a slope of 0 changes nothing."""
    model, image = grey(last=0.15), torch.tensor([[3.0, 1.0]])

    def draw(slope=None):
        return model.sample((50,), 12, slope=slope, generator=torch.Generator().manual_seed(3))

    led = draw(lambda y, kappa: (image - y) / kappa**2 - model.score(y, kappa))
    assert (led == image.long()).all()
    assert torch.equal(draw(lambda y, kappa: torch.zeros_like(y)), draw())
    with pytest.raises(ValueError, match="^slope must"):
        draw(lambda y, kappa: y[:, :1])


def test_grey_score_refuses():
    for bad in NO_NUMBERS_ABOVE_0:
        for name in ("last", "first", "median"):
            with pytest.raises(ValueError, match=f"^{name} must be"):
                grey(**{name: bad})
    for last, first in ((2.0, 1.0), (1.0, 1.0)):
        with pytest.raises(ValueError, match=f"^last must be below first, got {last} and {first}"):
            grey(last=last, first=first)
    for bad in (1.0, -0.1, math.nan, None):
        with pytest.raises(ValueError, match="^moved must"):
            grey(moved=bad)
    for bad in (1, 0, 2.0, None):
        with pytest.raises(ValueError, match="^levels must be a whole number of at least 2"):
            sde.GreyScore(NoTilt(), PICTURES, bad)
    model = grey()
    for call in (model.loss, model.elbo):
        with pytest.raises(ValueError, match="^x must hold whole numbers, got dtype torch.float64"):
            call(PICTURES.double())
        with pytest.raises(ValueError, match="^x must lie between 0 and 3, got values from 0 to 4"):
            call(PICTURES + (PICTURES == 3))
        with pytest.raises(ValueError, match=re.escape("x must have shape (..., 1, 2), got (5, 2, 1)")):
            call(PICTURES.transpose(1, 2))
    for bad in (0, 1, 2.0, None):
        with pytest.raises(ValueError, match="^calls must be a whole number of at least 2"):
            model.sample((2,), bad)
    for bad in NO_COUNTS:
        with pytest.raises(ValueError, match="^steps must be a whole number"):
            model.log_density(draws((2, 2)), bad)
        if bad is not None:
            with pytest.raises(ValueError, match="^count must be a whole number"):
                model.elbo(PICTURES, probes=bad)
    with pytest.raises(ValueError, match=re.escape("probes must have shape (P, 2, 2)")):
        model.log_density(draws((2, 2)), probes=torch.ones(2, 2))
    with pytest.raises(ValueError, match="^shape must be"):
        model.sample((2, 2))


# ImageNet


def test_image_net_with_more_numbers_at_a_pixel_by_hand():
    net = shaken(ImageNet(2, 3, 2, 0.5), spread=0.4).eval()
    x, level, told = draws((3, 128)), draws((3,)), draws((3, 2), 1)
    w = torch.cat([waves(level), told], 1)
    fine = net.first(x.reshape(3, 2, 8, 8))
    coarse = net.down(F.silu(fine)) + net.level(w).reshape(3, 48, 1, 1)
    seen = F.silu(coarse)
    gate = F.silu(net.whole(torch.cat([seen.reshape(3, -1), w], 1)))
    coarse = coarse + F.silu(net.near(seen) + net.back(gate).reshape(3, 48, 4, 4))
    fine = fine + F.pixel_shuffle(net.up(F.silu(coarse)), 2)
    fine = fine + net.mix(F.silu(fine))
    close(net(x, level, told), net.last(F.silu(fine)).reshape(3, 3 * 64))


def test_image_net_has_the_numbers_it_was_given():
    usual = {name: tuple(p.shape) for name, p in ImageNet().named_parameters()}
    more = {name: tuple(p.shape) for name, p in ImageNet(2, 4, told=3).named_parameters()}
    differ = {name for name in usual if usual[name] != more[name]}
    assert differ == {"first.weight", "last.weight", "last.bias", "level.weight", "whole.weight"}
    assert more["first.weight"] == (16, 2, 3, 3)
    assert more["last.weight"] == (4, 16, 3, 3)
    assert more["level.weight"] == (48, 11)
    assert usual["level.weight"] == (48, 8)
    assert more["whole.weight"] == (64, 16 * 48 + 11)
    net = ImageNet(2, 4, told=3)
    assert net(draws((5, 128)), torch.zeros(5), torch.zeros(5, 3)).shape == (5, 256)
    assert (net.last.weight == 0).all()


def test_image_net_leaves_out_numbers_of_its_gate_in_training_alone():
    net, x = shaken(ImageNet(gate_dropout=0.5), spread=0.4), draws((3, 64))
    net.drop.p = 0.0
    level = torch.zeros(3)
    still = net.eval()(x, level)
    assert torch.equal(still, net(x, level))
    torch.manual_seed(0)
    moved = net.train()(x, level)
    assert not torch.allclose(moved, still)
    seen = {}
    net.gate_drop.register_forward_hook(lambda part, given, out: seen.update(given=given[0], out=out))
    net.whole.register_forward_hook(lambda part, given, out: seen.update(whole=out))
    torch.manual_seed(0)
    assert torch.equal(net(x, level), moved)
    close(seen["given"], F.silu(seen["whole"]))
    assert seen["given"].shape == (3, 64)
    out = seen["out"] == 0
    assert 0.3 < out.double().mean() < 0.7
    close(seen["out"][~out], 2 * seen["given"][~out])
    whole = shaken(ImageNet(), spread=0.4).train()
    whole.drop.p = 0.0
    close(whole(x, level), still)  # without the argument nothing is left out


def test_image_net_leaves_out_a_tenth_of_what_it_sees_in_training():
    net, seen = shaken(ImageNet(), spread=0.4).train(), []
    net.near.register_forward_pre_hook(lambda part, given: seen.append(given[0]))
    torch.manual_seed(0)
    net(draws((20, 64)), torch.zeros(20))
    about((seen[0] == 0).double(), 0.1)


def test_grey_score_works_with_the_image_net():
    images = torch.randint(0, 17, (6, 8, 8), generator=seeded(0))
    model = sde.GreyScore(ImageNet(2, 4, told=2), images)
    shaken(model.net, spread=0.2)
    assert model.loss(images).shape == (6,)
    assert model.sample((2,), 2).shape == (2, 8, 8)
    assert model.elbo(images[:2], 1).isfinite().all()
