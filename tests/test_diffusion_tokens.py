"""Diffusion of symbols: bounds, posteriors and samples against enumeration of all sequences, orders and noises."""

import itertools
import math
import re

import pytest
import torch
from exactness import REAL, close, everything, seeded
from numpy.polynomial.legendre import leggauss
from torch import nn

from genlib.diffusion.tokens import Absorbing, Reader, Uniform

pytestmark = pytest.mark.usefixtures("double")

V, L = 2, 3
ROWS = everything(V, L)
TIMES = [(0.2, 0.0), (0.7, 0.4), (1.0, 0.5), (1.0, 0.0)]


class Table(nn.Module):
    """A net without any structure: free logits for each noisy sequence, tilted by the time."""

    def __init__(self, seed=0, vocabulary=V, length=L, size=1.5):
        super().__init__()
        self.base = vocabulary + 1
        shape = (self.base**length, length, vocabulary)
        self.logits = nn.Parameter(size * torch.randn(shape, generator=seeded(seed)))

    def forward(self, x, t):
        number = (x * self.base ** torch.arange(x.shape[1])).sum(1)
        return self.logits[number] * (1 + t)[:, None, None]


def a_joint(seed=5):
    """Probabilities of ROWS, (V^L,)."""
    return (1.5 * torch.randn(V**L, generator=seeded(seed))).softmax(0)


class Exact(nn.Module):
    """The clean symbol given what the other places show: a mask shows nothing, and noise shows x with q_t."""

    def __init__(self, joint, kind):
        super().__init__()
        self.joint, self.kind = joint, kind

    def forward(self, x, t):
        same = (x[:, None] == ROWS).to(REAL)  # (B, V^L, L)
        if self.kind is Absorbing:
            seen = torch.where((x == V)[:, None], 1.0, same)
        else:
            seen = (1 - t)[:, None, None] * same + t[:, None, None] / V
        out = torch.zeros(*x.shape, V)
        for place in range(L):
            others = [p for p in range(L) if p != place]
            weight = self.joint * seen[:, :, others].prod(-1)
            out[:, place] = weight @ nn.functional.one_hot(ROWS[:, place], V).to(REAL)
        return out.log()


def states(kind):
    return everything(V + (kind is Absorbing), L)


def chances(kind, x, t):
    """q(x_t | x) of all states, from the definition, (S,)."""
    seen = states(kind)
    if kind is Absorbing:
        each = torch.where(seen == V, t, torch.where(seen == x, 1 - t, 0.0))
    else:
        each = torch.where(seen == x, 1 - t + t / V, t / V)
    return each.prod(1)


def one_step(kind, s, t):
    """Transition matrix of one symbol from time s to time t, (K, K)."""
    stay = (1 - t) / (1 - s)
    if kind is Absorbing:
        matrix = stay * torch.eye(V + 1)
        matrix[:, V] += 1 - stay
        return matrix
    return stay * torch.eye(V) + (1 - stay) / V


def backward(model, kind, t, s):
    """p(x_s | x_t) of one place for every state at time t, by Bayes' rule with matrices, (S, L, K)."""
    seen = states(kind)
    share = (seen == V).to(REAL).mean(1) if kind is Absorbing else torch.full((len(seen),), t)
    pi = model.net(seen, share).softmax(-1).detach()  # (S, L, V)
    if kind is Absorbing:
        pi = torch.cat([pi, torch.zeros_like(pi[..., :1])], -1)
    reach = pi @ one_step(kind, 0.0, s)  # law of x_s, before x_t is seen
    weight = reach * one_step(kind, s, t)[:, seen].permute(1, 2, 0)
    if kind is Absorbing:  # a symbol that is seen stays
        weight[seen < V] = nn.functional.one_hot(seen[seen < V], V + 1).to(REAL)
    return weight / weight.sum(-1, keepdim=True)


def marginal(model, kind, steps):
    """log-probability of each of ROWS under the chain of `steps` steps, from the product of its matrices."""
    seen = states(kind)
    law = chances(kind, ROWS[0], 1.0)  # noise
    for i in range(steps, 0, -1):
        p = backward(model, kind, i / steps, (i - 1) / steps)  # (S, L, K)
        move = torch.stack([p[:, place][:, seen[:, place]] for place in range(L)]).prod(0)  # (S, S)
        law = law @ move
    rows = [(seen == row).all(1).nonzero().item() for row in ROWS]
    return law[rows].log()


def bound(model, kind, steps):
    """The bound of ROWS without sampling, from the model's own terms, (V^L,)."""
    seen, total = states(kind), torch.zeros(len(ROWS))
    x, noisy = ROWS.repeat_interleave(len(seen), 0), seen.repeat(len(ROWS), 1)  # every pair
    with torch.no_grad():
        for i in range(1, steps + 1):
            chance = torch.stack([chances(kind, row, i / steps) for row in ROWS])  # (V^L, S)
            paid = model.divergence(x, noisy, i / steps, (i - 1) / steps).reshape(chance.shape)
            total += torch.where(chance > 0, chance * paid, 0.0).sum(1)
    return -total


def by_orders(net):
    """Mean over all orders of the autoregressive log-probability of ROWS, (V^L,)."""
    total = torch.zeros(len(ROWS))
    for order in itertools.permutations(range(L)):
        x = torch.full_like(ROWS, V)
        for place in order:
            share = (x == V).to(REAL).mean(1)
            log_p = net(x, share).log_softmax(-1)[:, place]
            total = total + log_p.gather(1, ROWS[:, place : place + 1])[:, 0].detach()
            x[:, place] = ROWS[:, place]
    return total / math.factorial(L)


def by_quadrature(model, count=60):
    """The limit of the uniform chain's bound, by Gauss-Legendre in √t, (V^L,)."""
    u, weights = (torch.as_tensor(part) for part in leggauss(count))
    u, weights = (u + 1) / 2, weights / 2
    seen, total = states(Uniform), torch.zeros(len(ROWS))
    x, noisy = ROWS.repeat_interleave(len(seen), 0), seen.repeat(len(ROWS), 1)  # every pair
    with torch.no_grad():
        for v, w in zip(u.tolist(), weights.tolist(), strict=True):
            chance = torch.stack([chances(Uniform, row, v * v) for row in ROWS])  # (V^L, S)
            total += w * 2 * v * (chance * model.slope(x, noisy, v * v).reshape(chance.shape)).sum(1)
    return -total


# noise


@pytest.mark.parametrize("kind", [Absorbing, Uniform])
def test_noised_has_the_law_of_the_formula(kind):
    model, n = kind(Table(), L, V), 10_000
    row, seen = torch.tensor([1, 0, 1]), states(kind)
    x = model.noised(row.expand(n, -1), 0.3, seeded())
    found = (x[:, None] == seen).all(-1).to(REAL).mean(0)
    p = chances(kind, row, 0.3)
    assert ((found - p).abs() <= 4.5 * (p * (1 - p) / n).sqrt() + 1e-12).all()
    assert torch.equal(model.noised(ROWS, 0.0), ROWS)
    t = torch.linspace(0, 1, len(ROWS))
    assert torch.equal(model.noised(ROWS, t, seeded(1)), model.noised(ROWS, t, seeded(1)))
    assert torch.equal(model.noised(ROWS, t, seeded(1))[0], ROWS[0])


def test_at_time_one_all_is_masked():
    assert (Absorbing(Table(), L, V).noised(ROWS, 1.0) == V).all()


# one step


@pytest.mark.parametrize("kind", [Absorbing, Uniform])
@pytest.mark.parametrize(("t", "s"), TIMES)
def test_divergence_of_a_step_by_matrices(kind, t, s):
    model, seen = kind(Table(), L, V), states(kind)
    p = backward(model, kind, t, s)
    for row in ROWS:
        possible = chances(kind, row, t) > 0
        from_clean, onward = one_step(kind, 0.0, s), one_step(kind, s, t)
        q = from_clean[row][None] * onward[:, seen].permute(1, 2, 0)  # (S, L, K)
        q = (q / q.sum(-1, keepdim=True))[possible]
        kl = (torch.special.xlogy(q, q) - torch.special.xlogy(q, p[possible])).sum((1, 2))
        noisy = seen[possible]
        close(model.divergence(row.expand_as(noisy), noisy, t, s).detach(), kl)


def test_slope_is_what_short_steps_pay():
    model, seen = Uniform(Table(), L, V), states(Uniform)
    for row in ROWS[::3]:
        x = row.expand_as(seen)
        short = [model.divergence(x, seen, 0.4, 0.4 - h).detach() / h for h in (1e-4, 5e-5)]
        close(2 * short[1] - short[0], model.slope(x, seen, 0.4).detach(), atol=1e-6)


# bounds


@pytest.mark.parametrize("kind", [Absorbing, Uniform])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_bound_lies_below_the_chain_s_own_log_probability(kind, steps, seed):
    model = kind(Table(seed), L, V)
    low, exact = bound(model, kind, steps), marginal(model, kind, steps)
    close(exact.exp().sum(), 1.0)
    assert (low <= exact + 1e-12).all()
    assert low.exp().sum() <= 1 + 1e-12
    if steps == 1 and kind is Absorbing:
        close(low, exact)  # all is masked at time 1: there is one path
    else:
        assert (low < exact - 1e-4).any()


def agrees(drawn, expected, sharp):
    """Whether repeated estimates (n, V^L) have the expected mean, with standard errors of at most `sharp`."""
    error = drawn.std(0) / len(drawn) ** 0.5
    assert (error < sharp).all()
    assert ((drawn.mean(0) - expected).abs() < 4.5 * error).all()


@pytest.mark.parametrize(("kind", "sharp"), [(Absorbing, 0.03), (Uniform, 0.05)])
def test_elbo_of_a_chain_is_an_unbiased_estimate(kind, sharp):
    model, n = kind(Table(2, size=0.5), L, V), 2_000
    drawn = model.elbo(ROWS.repeat(n, 1), 3, generator=seeded(3)).reshape(n, -1)
    agrees(drawn, bound(model, kind, 3), sharp)


def test_elbo_and_loss_of_masks_are_unbiased_estimates_of_the_limit():
    model, n = Absorbing(Table(2, size=0.5), L, V), 6_000
    exact = by_orders(model.net)
    agrees(model.elbo(ROWS.repeat(n, 1), generator=seeded(3)).reshape(n, -1), exact, 0.02)
    torch.manual_seed(3)
    agrees(model.loss(ROWS.repeat(n, 1)).detach().reshape(n, -1), -exact, 0.02)


def test_elbo_and_loss_of_random_symbols_have_the_limit_as_mean(monkeypatch):
    model = Uniform(Table(2, size=0.5), L, V)
    exact = by_quadrature(model)
    u, weights = (torch.as_tensor(part) for part in leggauss(60))
    u, weights = (u + 1) / 2, weights / 2
    seen = states(Uniform)
    x, noisy = ROWS.repeat_interleave(len(seen), 0), seen.repeat(len(ROWS), 1)  # every pair
    for call, sign in ((model.elbo, 1), (model.loss, -1)):
        total = torch.zeros(len(ROWS))
        for v, w in zip(
            u, weights, strict=True
        ):  # the number that the estimate draws, and its noise, in turn
            monkeypatch.setattr(model, "_spread", lambda draws, count, *_, v=v: v.expand(draws, count))
            given = []
            monkeypatch.setattr(model, "noised", lambda x, t, *_, given=given: given.append(t) or noisy)
            paid = call(x).detach().reshape(len(ROWS), -1)
            chance = torch.stack([chances(Uniform, row, given[0][0]) for row in ROWS])
            total += w * (chance * paid).sum(1)
        close(sign * total, exact, atol=1e-9)
    monkeypatch.undo()
    u = model._spread(4, 5_000, seeded(1))
    assert (u.sort(1).values.diff(dim=1) < 2 / 5_000).all()
    assert ((u.mean(1) - (torch.arange(4) + 0.5) / 4).abs() < 1e-4).all()


def test_draws_are_spread_over_the_numbers_of_masks():
    seen = []

    def net(x, t):
        seen.append((x == V).sum(1))
        close(t, seen[-1] / L)
        return torch.zeros(*x.shape, V)

    model = Absorbing(net, L, V)
    model.elbo(ROWS, draws=2 * L, generator=seeded())
    counts = torch.stack(seen).sort(0).values
    assert (counts == torch.tensor([1, 1, 2, 2, 3, 3])[:, None]).all()
    seen.clear()
    model.loss(ROWS[:6])  # one a row: spread over the batch
    assert seen[0].sort().values.tolist() == [1, 1, 2, 2, 3, 3]


def test_numbers_are_uniform_within_their_own_parts():
    """Each of 4 rows has its quarter, and each of 5000 columns its slot in there, at a uniform place of it."""
    u = Absorbing(Table(), L, V)._spread(4, 5_000, seeded(1)).sort(1).values
    place = 20_000 * u - torch.arange(20_000).reshape(4, 5_000)
    assert place.min() > -1e-9
    assert place.max() < 1 + 1e-9
    assert ((place.mean(1) - 1 / 2).abs() < 4.5 / (12 * 5_000) ** 0.5).all()
    assert ((place.var(1) - 1 / 12).abs() < 0.005).all()


@pytest.mark.parametrize("extreme", [0.0, 1.0])
def test_numbers_lie_between_zero_and_one(monkeypatch, extreme):
    """Both excluded, whatever is drawn and rounded."""
    model = Uniform(Table(), L, V)
    monkeypatch.setattr(
        "genlib.diffusion.tokens.uniform", lambda shape, like, g: like.new_full(shape, extreme)
    )
    u = model._spread(2, 3)
    assert ((u > 0) & (u < 1)).all()


@pytest.mark.parametrize("kind", [Absorbing, Uniform])
def test_elbo_of_a_chain_is_the_mean_over_its_draws(kind):
    model, generator = kind(Table(), L, V), seeded(1)
    alone = torch.stack([model.elbo(ROWS, 3, generator=generator) for _ in range(4)])
    assert (alone.std(0) > 0).any()
    close(model.elbo(ROWS, 3, draws=4, generator=seeded(1)), alone.mean(0))


@pytest.mark.parametrize("draws", [1, 2, 7])
def test_a_guess_without_knowledge_costs_the_logarithm_of_all_sequences(draws):
    model = Absorbing(lambda x, t: torch.zeros(*x.shape, V), L, V)
    close(model.elbo(ROWS, draws=draws), torch.full((len(ROWS),), -L * math.log(V)))


def test_masks_are_the_mean_over_all_orders():
    net = Table(4)
    model, seen = Absorbing(net, L, V), states(Absorbing)
    hidden = (seen == V).sum(1)
    for row, expected in zip(ROWS, by_orders(net), strict=True):
        fits = ((seen == V) | (seen == row)).all(1) & (hidden > 0)
        t = 0.5
        ce = model.divergence(
            row.expand(int(fits.sum()), -1), seen[fits], t, 0.0
        ).detach()  # step to 0: all at once
        k = hidden[fits].to(REAL)
        chance = torch.tensor([1 / math.comb(L, int(i)) for i in k]) / L
        close(-(chance * L / k * ce).sum(), expected)


def test_the_exact_conditionals_reach_the_log_probability():
    joint = a_joint()
    close(by_orders(Exact(joint, Absorbing)), joint.log())


def test_the_exact_conditionals_pay_the_entropy_in_the_mean_for_random_symbols():
    joint = a_joint()
    limit = by_quadrature(Uniform(Exact(joint, Uniform), L, V))
    close((joint * limit).sum(), (joint * joint.log()).sum(), atol=1e-5)
    assert limit.exp().sum() <= 1


@pytest.mark.parametrize("kind", [Absorbing, Uniform])
def test_the_limit_is_reached_with_order_one(kind):
    model = kind(Table(6), L, V)
    limit = by_orders(model.net) if kind is Absorbing else by_quadrature(model)
    gaps = [(bound(model, kind, T) - limit) for T in (32, 64)]
    assert gaps[1].abs().max() < 0.2
    worst = gaps[1].abs().argmax()
    assert (gaps[0][worst] / gaps[1][worst]).item() == pytest.approx(2, abs=0.2)


# samples


def frequencies(x):
    return (x[:, None] == ROWS).all(-1).to(REAL).mean(0)


@pytest.mark.parametrize(("kind", "steps"), [(Absorbing, None), (Absorbing, 2), (Uniform, 2), (Uniform, 5)])
def test_samples_have_the_law_of_the_chain(kind, steps):
    net = Table(7)
    model, n = kind(net, L, V), 15_000
    drawn = model.sample((n,), steps, generator=seeded(2))
    assert drawn.shape == (n, L)
    assert drawn.dtype == torch.int64
    if steps is None:  # the mean over orders of the probability, not of its logarithm
        p = torch.zeros(len(ROWS))
        for order in itertools.permutations(range(L)):
            x, log_p = torch.full_like(ROWS, V), torch.zeros(len(ROWS))
            for place in order:
                log_q = net(x, (x == V).to(REAL).mean(1)).log_softmax(-1)[:, place].detach()
                log_p = log_p + log_q.gather(1, ROWS[:, place : place + 1])[:, 0]
                x[:, place] = ROWS[:, place]
            p = p + log_p.exp() / math.factorial(L)
    else:
        p = marginal(model, kind, steps).exp()
    assert ((frequencies(drawn) - p).abs() < 4.5 * (p * (1 - p) / n).sqrt()).all()


def test_the_exact_conditionals_draw_the_joint():
    joint, n = a_joint(), 3_000
    drawn = Absorbing(Exact(joint, Absorbing), L, V).sample((n,), generator=seeded(4))
    assert ((frequencies(drawn) - joint).abs() < 4.5 * (joint * (1 - joint) / n).sqrt()).all()
    drawn = Uniform(Exact(joint, Uniform), L, V).sample((n,), 30, generator=seeded(4))
    assert (frequencies(drawn) - joint).abs().max() < 0.04
    at_once = Absorbing(Exact(joint, Absorbing), L, V).sample((n,), 1, generator=seeded(4))
    assert (frequencies(at_once) - joint).abs().max() > 0.05  # independent symbols


def test_a_generator_decides_and_the_mode_is_kept():
    model = Absorbing(Reader(3, 8), 4, 3).train()
    once, again = (model.sample((5,), generator=seeded(1)) for _ in range(2))
    assert torch.equal(once, again)
    assert model.net.training
    x = torch.zeros(2, 4, dtype=torch.int64)
    assert torch.equal(model.elbo(x, generator=seeded(2)), model.elbo(x, generator=seeded(2)))
    assert not model.elbo(x).requires_grad
    assert model.net.training


@pytest.mark.parametrize("kind", [Absorbing, Uniform])
def test_all_draws_come_from_the_generator(kind):
    model, state = kind(Table(), L, V), torch.get_rng_state()
    for call in (
        lambda g: model.noised(ROWS, 0.5, g),
        lambda g: model.elbo(ROWS, generator=g),
        lambda g: model.elbo(ROWS, draws=3, generator=g),
        lambda g: model.elbo(ROWS, 2, draws=2, generator=g),
        lambda g: model.sample((40,), generator=g),
        lambda g: model.sample((40,), 2, generator=g),
    ):
        assert torch.equal(call(seeded(1)), call(seeded(1)))
        assert not torch.equal(call(seeded(1)), call(seeded(2)))
        assert torch.equal(torch.get_rng_state(), state)


# Reader


def test_reader_by_hand():
    torch.manual_seed(0)
    net = Reader(5, 8, dilations=(1, 3), length=6, timed=True)
    x, t = torch.randint(6, (4, 6)), torch.rand(4)
    waves = torch.stack([(math.pi * k * t.sqrt()).cos() for k in range(8)], 1)
    h = net.embed.weight[x] + net.clock(waves)[:, None]
    for block, d in zip(net.blocks, (1, 3), strict=True):
        padded = nn.functional.pad(block.norm(h), (0, 0, 2 * d, 2 * d))
        read = [padded[:, j * d : j * d + 6] @ block.near.weight[:, :, j].T for j in range(5)]
        a, b = (sum(read) + block.near.bias).chunk(2, -1)
        h = h + block.merge(a * b)
    close(net(x, t), net.out(h + net.whole(h)), 1e-11)


def test_reader_sees_its_places_and_the_time_if_told():
    x, t = torch.zeros(2, 16, dtype=torch.int64), torch.tensor([0.1, 0.9])
    for timed in (False, True):
        torch.manual_seed(0)
        net = Reader(5, 8, dilations=(1, 2), timed=timed)
        out = net(x, t)
        assert out.shape == (2, 16, 5)
        assert torch.equal(out[0], out[1]) is not timed
        for changed in (0, 7, 15):
            other = x.clone()
            other[:, changed] = 5
            moved = (net(other, t) - out).abs().amax((0, 2)) > 1e-9
            assert torch.equal(moved, (torch.arange(16) - changed).abs() <= 6)
            whole = Reader(5, 8, dilations=(1,), length=16)
            assert ((whole(other, t) - whole(x, t)).abs().amax((0, 2)) > 1e-9).all()


@pytest.mark.parametrize("kind", [Absorbing, Uniform])
def test_the_loss_trains_every_parameter(kind):
    torch.manual_seed(0)
    model = kind(Reader(5, 8, length=6, timed=kind is Uniform), 6, 5)
    model.loss(torch.randint(5, (64, 6))).mean().backward()
    for name, p in model.named_parameters():
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name


# errors


def refused(message):
    return pytest.raises(ValueError, match=re.escape(message))


@pytest.mark.parametrize("kind", [Absorbing, Uniform])
def test_errors(kind):
    model = kind(Table(), L, V)
    for bad in (-0.1, 1.5):
        with refused("t must lie in [0, 1], got values from"):
            model.noised(ROWS, bad)
    with refused("t must be one number or have shape (8,), got (2,)"):
        model.noised(ROWS, torch.zeros(2))
    with refused("s must be before t"):
        model.divergence(ROWS, ROWS, 0.5, 0.5)
    with refused("s must lie in [0, 1]"):
        model.divergence(ROWS, ROWS, 0.5, -0.5)
    for steps in (0, 1.5, True):
        with refused("steps must be a whole number of at least 1"):
            model.elbo(ROWS, steps)
        with refused("steps must be a whole number of at least 1"):
            model.sample((2,), steps)
    with refused("draws must be a whole number of at least 1"):
        model.elbo(ROWS, draws=0)
    for call in (model.loss, model.elbo, lambda x: model.noised(x, 0.5)):
        with refused("x must lie between 0 and 1"):
            call(ROWS + 1)
        with refused("x must have shape (..., 3)"):
            call(ROWS[:, :2])
        with refused("x must have shape (B, L)"):
            call(ROWS[0])
        with refused("x must hold whole numbers"):
            call(ROWS.double())
    with refused("noisy must lie between 0 and"):
        model.divergence(ROWS, ROWS + 2, 0.5, 0.2)
    with refused("n in shape (n,)"):
        model.sample((0,))
    with refused("net must return shape (8, 3, 2), got (8, 3, 3)"):
        kind(lambda x, t: torch.zeros(*x.shape, 3), L, V).loss(ROWS)
    for name, sizes in {"length": (0, V), "vocabulary": (L, 0)}.items():
        with refused(f"{name} must be a whole number of at least 1"):
            kind(Table(), *sizes)


def test_errors_of_slope_and_reader():
    for t in (0.0, 1.0):
        with refused("t must lie between 0 and 1, both excluded"):
            Uniform(Table(), L, V).slope(ROWS, ROWS, t)
    for name, settings in {
        "vocabulary": {"vocabulary": 0},
        "width": {"width": 0},
        "dilation": {"dilations": (1, 0)},
        "length": {"length": 0},
    }.items():
        with refused(f"{name} must be a whole number of at least 1"):
            Reader(**{"vocabulary": 3} | settings)
