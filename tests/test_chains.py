"""Markov chains: balance, Metropolis and Hastings, Gibbs, Hamiltonian steps, tempering, and diagnostics."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from exactness import FEW, REAL, close, seeded
from hypothesis import given
from hypothesis import strategies as st
from test_samplers import NO_BATCHES, NO_COUNTS, NO_NUMBERS_ABOVE_0, about, draws, wells
from torch.distributions import Gamma, MultivariateNormal

from genlib import data, samplers
from genlib.samplers import (
    Independence,
    LangevinStep,
    RandomWalk,
    autocorrelation,
    effective_sample_size,
    gibbs,
    hamiltonian,
    leapfrog,
    mala,
    metropolis_hastings,
    metropolised,
    normal_scores,
    spectral_gap,
    split_r_hat,
    stationary,
    tempering,
)

pytestmark = pytest.mark.usefixtures("double")

SEEDS = st.integers(0, 10**6)
SIZES = st.integers(1, 7)
EVENTS = [(1,), (3,), (2, 2), (1, 2, 2)]


def bell(x):
    return -0.5 * x.flatten(1).square().sum(1)


def bumpy(x):
    x = x.flatten(1)
    return -0.25 * (x**4).sum(1) + torch.sin(2 * x).sum(1)


def bumpy_score(x):
    return -(x**3) + 2 * torch.cos(2 * x)


def uneven_pair(apart=2.0, scale=0.5):
    return data.GaussianMixture(torch.tensor([[-apart], [apart]]), scale, [0.2, 0.8])


# Matrices


def laws(seed, *shape, holes=False):
    p = torch.rand(shape, generator=seeded(seed), dtype=REAL)
    if holes and shape[0] > 2:
        p[torch.rand(shape, generator=seeded(seed + 1)) < 0.3] = 0.0
        p[0] = p[0].clamp(min=0.1)
    return p / p.sum(0)


@FEW
@given(SEEDS, SIZES, st.booleans())
def test_metropolised_is_balanced_and_keeps_its_columns(seed, N, holes):
    Q, p = laws(seed, N, N, holes=holes), laws(seed + 2, N, holes=holes)
    P = metropolised(Q, p)
    close(P * p, (P * p).T, 1e-15)
    close(P.sum(0), torch.ones(N), 1e-14)
    close(P @ p, p, 1e-14)
    assert (P >= -1e-16).all()
    for i, j in itertools.product(range(N), repeat=2):
        if i != j and p[j] > 0:
            there, back = Q[i, j] * p[j], Q[j, i] * p[i]
            close(P[i, j], Q[i, j] * min(1.0, float(back / there)) if there > 0 else 0.0, 1e-14)


def test_metropolised_accepts_all_ways_out_of_a_place_that_the_target_does_not_have():
    Q, p = laws(3, 3, 3), torch.tensor([0.4, 0.6, 0.0])
    P = metropolised(Q, p)
    close(P[:2, 2], Q[:2, 2])
    close(P[2, :2], torch.zeros(2))


@FEW
@given(SEEDS, SIZES)
def test_stationary_is_where_powers_lead(seed, N):
    P = laws(seed, N, N)
    p = stationary(P)
    close(p, torch.linalg.matrix_power(P, 2000)[:, 0], 1e-9)
    close(P @ p, p, 1e-12)
    close(p.sum(), 1.0)


@FEW
@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_two_places(a, b):
    P = torch.tensor([[1 - a, b], [a, 1 - b]])
    close(stationary(P), torch.tensor([b, a]) / (a + b), 1e-10)
    close(spectral_gap(P), 1 - abs(1 - a - b), 1e-12)


def test_matrices_refuse():
    islands = torch.block_diag(torch.full((2, 2), 0.5), torch.full((2, 2), 0.5))
    with pytest.raises(ValueError, match="^P must have one law at rest, got several"):
        stationary(islands)
    assert spectral_gap(islands) == pytest.approx(0.0)
    assert spectral_gap(torch.ones(1, 1)) == 1.0
    good, p = laws(0, 3, 3), laws(1, 3)
    for bad, says in (
        (torch.ones(2, 3), "must have shape (N, N), got (2, 3)"),
        (torch.ones(3), "must have shape (N, N), got (3,)"),
        (good.T, "must hold probabilities, with columns that sum to 1"),
        (-good, "must hold probabilities, with columns that sum to 1"),
        (good * math.nan, "must hold finite numbers"),
    ):
        for name, call in (("P", stationary), ("P", spectral_gap), ("Q", lambda Q: metropolised(Q, p))):
            with pytest.raises(ValueError, match=f"^{name} {re.escape(says)}"):
                call(bad)
    for bad in (p[:2], p * 2, p[:, None]):
        with pytest.raises(ValueError, match="^p must "):
            metropolised(good, bad)


def test_matrices_work_in_float64_whatever_comes():
    P = laws(5, 4, 4).float()
    assert stationary(P).dtype == REAL
    assert metropolised(P, laws(6, 4).float()).dtype == REAL


# Metropolis and Hastings


class Factor:
    """y = x e^(0.8 ε): not symmetric."""

    def __init__(self, forgetful=False):
        self.forgetful = forgetful

    def draw(self, x, *, generator=None):
        return x * (0.8 * torch.randn(x.shape, generator=generator, dtype=x.dtype)).exp()

    def log_density(self, y, x):
        log_q = -((y.log() - x.log()) ** 2).sum(1) / (2 * 0.8**2)
        return log_q if self.forgetful else log_q - y.log().sum(1)


def proposals():
    return {
        "walk": RandomWalk(0.7),
        "independence": Independence(data.GaussianMixture(torch.zeros(1, 2), 1.5)),
        "langevin": LangevinStep(bumpy_score, 0.2),
    }


@pytest.mark.parametrize("name", ["walk", "independence", "langevin"])
def test_metropolis_hastings_is_its_formula(name):
    proposal, x = proposals()[name], draws((40, 2))
    before, seen = x.clone(), []
    end, share = metropolis_hastings(
        bumpy, proposal, x, 5, lambda k, x: seen.append((k, x)), generator=seeded(3)
    )
    generator, here, count = seeded(3), x, 0
    for k in range(1, 6):
        y = proposal.draw(here, generator=generator)
        u = torch.rand(40, generator=generator)
        ratio = (bumpy(y) + proposal.log_density(here, y)).exp() / (
            bumpy(here) + proposal.log_density(y, here)
        ).exp()
        accept = u < ratio
        here = torch.stack([b if yes else a for a, b, yes in zip(here, y, accept, strict=True)])
        count += int(accept.sum())
        assert seen[k - 1][0] == k
        close(seen[k - 1][1], here)
    close(end, here)
    close(share, count / 200)
    assert torch.equal(x, before)
    assert 0 < share < 1


@pytest.mark.parametrize("event", EVENTS)
def test_proposals_say_how_probable_their_draws_are(event):
    x, y = draws((5, *event)), draws((5, *event), 1)
    size = math.prod(event)
    for proposal, centre, deviation in (
        (RandomWalk(0.7), x, 0.7),
        (LangevinStep(bumpy_score, 0.2), x + 0.2 * bumpy_score(x), math.sqrt(0.4)),
    ):
        flat = MultivariateNormal(torch.zeros(size), deviation**2 * torch.eye(size))
        exact = flat.log_prob((y - centre).flatten(1))
        got = proposal.log_density(y, x)
        close(got - got[0], exact - exact[0], 1e-10)
        many = proposal.draw(x[:1].expand(40_000, *event), generator=seeded(1))
        about(many.flatten(1)[:, 0], centre[0].flatten()[0])
        about((many - centre[0]).flatten(1)[:, 0] ** 2, deviation**2)
    source = data.GaussianMixture(torch.randn(2, size), 0.8)
    if len(event) == 1:
        close(Independence(source).log_density(y, x), source.log_prob(y))
        assert Independence(source).draw(x, generator=seeded(2)).shape == x.shape


@pytest.mark.parametrize("event", EVENTS)
def test_with_langevin_steps_it_is_mala(event):
    x = draws((30, *event))
    ours = metropolis_hastings(bumpy, LangevinStep(bumpy_score, 0.15), x, 6, generator=seeded(4))
    theirs = mala(bumpy, x, 6, 0.15, generator=seeded(4))
    close(ours[0], theirs[0], 1e-10)
    close(ours[1], theirs[1])


@pytest.mark.parametrize(("forgetful", "shape"), [(False, 3.0), (True, 2.0)])
def test_a_proposal_that_is_not_symmetric_needs_its_density(forgetful, shape):
    target = Gamma(torch.tensor(3.0), torch.tensor(1.0))
    start = Gamma(torch.tensor(shape), torch.tensor(1.0)).sample((20_000, 1))

    def log_prob(x):
        return torch.where(x > 0, target.log_prob(x.clamp(min=1e-12)), -math.inf)[:, 0]

    torch.manual_seed(0)
    x, _ = metropolis_hastings(log_prob, Factor(forgetful), start, 20)
    about(x, shape)
    about((x - shape) ** 2, shape)


@pytest.mark.parametrize("name", ["walk", "independence", "langevin"])
def test_the_target_is_left_as_it_is(name):
    """Also by Langevin steps with the drift of another density."""
    torch.manual_seed(1)
    x, share = metropolis_hastings(bell, proposals()[name], torch.randn(20_000, 2), 15)
    assert 0.1 < share < 0.99
    for value, expected in ((x, 0.0), (x**2, 1.0), (x[:, 0] * x[:, 1], 0.0), (x**4, 3.0)):
        about(value, expected)


def test_the_target_is_reached_from_one_place():
    torch.manual_seed(1)
    x, _ = metropolis_hastings(bell, RandomWalk(1.2), torch.full((20_000, 2), 3.0), 60)
    for value, expected in ((x, 0.0), (x**2, 1.0), (x[:, 0] * x[:, 1], 0.0)):
        about(value, expected)


def test_walks_that_start_outside_of_the_support_enter_it_and_stay():
    def half(x):
        return torch.where(x > 0, -x, -math.inf)[:, 0]

    torch.manual_seed(2)
    x, _ = metropolis_hastings(half, RandomWalk(1.0), torch.full((3000, 1), -0.5), 60)
    assert (x > 0).all()
    about(x, 1.0, 6.0)
    stuck, share = metropolis_hastings(half, RandomWalk(0.1), torch.full((10, 1), -50.0), 3)
    assert share == 0
    close(stuck, torch.full((10, 1), -50.0))


def test_metropolis_hastings_refuses():
    x = draws((3, 2))

    class OnlyDraws:
        def draw(self, x, *, generator=None):
            return x

    class Unwritten(OnlyDraws):
        def log_density(self, y, x):
            raise NotImplementedError

    class Sampler:
        def sample(self, shape, *, generator=None):
            return torch.zeros(*shape, 2)

    for proposal in (OnlyDraws(), Unwritten(), Independence(Sampler())):
        says = "^proposal must have a density log_density\\(y, x\\), got "
        with pytest.raises(ValueError, match=says):
            metropolis_hastings(bell, proposal, x, 2)
    with pytest.raises(ValueError, match="^proposal must have a method draw\\(x\\), got int"):
        metropolis_hastings(bell, 3, x, 2)
    with pytest.raises(ValueError, match="^source must have a method sample, got int"):
        Independence(3)
    for bad in NO_NUMBERS_ABOVE_0:
        with pytest.raises(ValueError, match="^scale must be"):
            RandomWalk(bad)
        with pytest.raises(ValueError, match="^step must be"):
            LangevinStep(bumpy_score, bad)
    for bad, says in NO_BATCHES:
        with pytest.raises(ValueError, match=f"^x {re.escape(says)}"):
            metropolis_hastings(bell, RandomWalk(1.0), bad, 2)
    for bad in NO_COUNTS:
        with pytest.raises(ValueError, match="^steps must be"):
            metropolis_hastings(bell, RandomWalk(1.0), x, bad)
    with pytest.raises(ValueError, match=re.escape("log_prob must return shape (3,), got (3, 2)")):
        metropolis_hastings(lambda x: x, RandomWalk(1.0), x, 2)

    class Wide(RandomWalk):
        def draw(self, x, *, generator=None):
            return x[:, :1]

    class Full(RandomWalk):
        def log_density(self, y, x):
            return y

    class Lost(RandomWalk):
        def log_density(self, y, x):
            return torch.full((len(x),), math.nan)

    with pytest.raises(ValueError, match=re.escape("proposal.draw must return shape (3, 2), got (3, 1)")):
        metropolis_hastings(bell, Wide(1.0), x, 2)
    with pytest.raises(
        ValueError, match=re.escape("proposal.log_density must return shape (3,), got (3, 2)")
    ):
        metropolis_hastings(bell, Full(1.0), x, 2)
    with pytest.raises(RuntimeError, match="^the density of the proposal is not a number at step 1 of 2$"):
        metropolis_hastings(bell, Lost(1.0), x, 2)
    calls = itertools.count()
    with pytest.raises(RuntimeError, match="^the log-density is not a number at step 2 of 4$"):
        metropolis_hastings(lambda x: bell(x) * (math.nan if next(calls) == 2 else 1), RandomWalk(1.0), x, 4)


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
def test_chains_keep_the_dtype_and_draw_from_the_generator(dtype):
    x = draws((4, 2)).to(dtype)
    calls = {
        "metropolis": lambda g: metropolis_hastings(bell, RandomWalk(0.5), x, 3, generator=g)[0],
        "hamiltonian": lambda g: hamiltonian(bell, x, 3, 0.3, 4, generator=g)[0],
        "tempering": lambda g: tempering(bell, x, [1.0, 2.0], 3, 0.1, generator=g).points,
        "gibbs": lambda g: gibbs(
            [lambda x, g: torch.randn(x.shape, generator=g, dtype=x.dtype)], x, 2, generator=g
        ),
    }
    for name, call in calls.items():
        torch.manual_seed(0)
        state = torch.get_rng_state()
        first, again = call(seeded(1)), call(seeded(1))
        assert torch.equal(first, again), name
        assert torch.equal(torch.get_rng_state(), state), name
        assert not torch.equal(first, call(seeded(2))), name
        assert first.dtype == dtype
        assert not first.requires_grad
        assert call(None).shape == first.shape


# Gibbs


def test_gibbs_reaches_a_correlated_normal():
    c = 0.6
    noise = math.sqrt(1 - c**2)

    def first(x, g):
        return torch.stack([c * x[:, 1] + noise * torch.randn(len(x), generator=g), x[:, 1]], 1)

    def second(x, g):
        return torch.stack([x[:, 0], c * x[:, 0] + noise * torch.randn(len(x), generator=g)], 1)

    seen = []
    x = gibbs([first, second], torch.zeros(20_000, 2), 20, lambda k, x: seen.append(k), generator=seeded(0))
    assert seen == list(range(1, 21))
    for value, expected in ((x, 0.0), (x**2, 1.0), (x[:, 0] * x[:, 1], c)):
        about(value, expected)


def test_gibbs_goes_through_the_blocks_in_order():
    x = gibbs([lambda x, g: x + 1, lambda x, g: x * 2], torch.zeros(2, 1), 3)
    close(x, torch.full((2, 1), 14.0))


def test_gibbs_refuses():
    x = torch.zeros(2, 1)
    with pytest.raises(ValueError, match="^blocks must hold at least one function, got none"):
        gibbs([], x, 2)
    with pytest.raises(ValueError, match=re.escape("blocks[1] must return shape (2, 1), got (1, 2)")):
        gibbs([lambda x, g: x, lambda x, g: x.T], x, 2)
    for bad in NO_COUNTS:
        with pytest.raises(ValueError, match="^sweeps must be"):
            gibbs([lambda x, g: x], x, bad)


# Hamiltonian


@FEW
@given(SEEDS, st.integers(1, 6), st.floats(0.05, 0.4))
def test_leapfrog_keeps_volumes_and_can_be_reversed(seed, leaps, step):
    def roll(state):
        return torch.cat(leapfrog(bumpy_score, state[:1], state[1:], step, leaps))

    state = draws((2, 2), seed)
    jacobian = torch.func.jacrev(roll)(state).reshape(4, 4)
    close(torch.linalg.det(jacobian), 1.0, 1e-10)
    turn = torch.tensor([[1.0], [-1.0]])
    close(turn * roll(turn * roll(state)), state, 1e-10)


def test_leapfrog_is_its_three_lines():
    x, v, step = draws((5, 3)), draws((5, 3), 1), 0.3
    a, b = x, v
    for _ in range(4):
        b = b + step / 2 * bumpy_score(a)
        a = a + step * b
        b = b + step / 2 * bumpy_score(a)
    there = leapfrog(bumpy_score, x, v, step, 4)
    close(there[0], a)
    close(there[1], b)


def test_the_energy_error_of_leapfrog_is_of_second_order():
    x, v, errors = draws((200, 2)), draws((200, 2), 1), []
    for leaps in (10, 20, 40):
        a, b = leapfrog(bumpy_score, x, v, 1.0 / leaps, leaps)
        gap = -bumpy(a) + 0.5 * b.square().sum(1) + bumpy(x) - 0.5 * v.square().sum(1)
        errors.append(gap.square().mean().sqrt().log2())
    close(torch.stack(errors).diff(), torch.tensor([-2.0, -2.0]), 0.1)


@pytest.mark.parametrize("event", EVENTS)
def test_one_leap_is_a_langevin_step(event):
    x, e = draws((2000, *event)), 0.5
    ours, share = hamiltonian(bumpy, x, 1, e, 1, generator=seeded(5))
    theirs, accepted = mala(bumpy, x, 1, e**2 / 2, generator=seeded(5))
    close(ours, theirs, 1e-10)
    close(share, accepted)


def test_hamiltonian_is_its_formula():
    x, step, leaps = draws((50, 2)), 0.3, 5
    seen = []
    end, share = hamiltonian(bumpy, x, 3, step, leaps, lambda k, x: seen.append(x), generator=seeded(6))
    generator, here, count = seeded(6), x, 0
    for k in range(3):
        v = torch.randn(50, 2, generator=generator)
        u = torch.rand(50, generator=generator)
        y, w = leapfrog(bumpy_score, here, v, step, leaps)
        energy = -bumpy(here) + 0.5 * v.square().sum(1)
        accept = u < (energy + bumpy(y) - 0.5 * w.square().sum(1)).exp()
        here = torch.where(accept[:, None], y, here)
        count += int(accept.sum())
        close(seen[k], here, 1e-10)
    close(end, here, 1e-10)
    close(share, count / 150)


def test_hamiltonian_reaches_the_target():
    torch.manual_seed(0)
    nodes = torch.linspace(-3, 3, 2001)
    p = wells(nodes[:, None]).softmax(0)
    x, share = hamiltonian(wells, 0.5 * torch.randn(20_000, 1), 40, 0.25, 5)
    about(x**2, (p @ nodes**2).item())
    about(x**4, (p @ nodes**4).item())
    assert 0.5 < share < 1


def test_hamiltonian_refuses():
    x = draws((3, 2))
    for bad in NO_COUNTS:
        with pytest.raises(ValueError, match="^leaps must be"):
            hamiltonian(bell, x, 2, 0.1, bad)
        with pytest.raises(ValueError, match="^leaps must be"):
            leapfrog(bumpy_score, x, x, 0.1, bad)
        with pytest.raises(ValueError, match="^steps must be"):
            hamiltonian(bell, x, bad, 0.1, 2)
    for bad in NO_NUMBERS_ABOVE_0:
        with pytest.raises(ValueError, match="^step must be"):
            hamiltonian(bell, x, 2, bad, 2)
        with pytest.raises(ValueError, match="^step must be"):
            leapfrog(bumpy_score, x, x, bad, 2)
    with pytest.raises(ValueError, match="^v must return shape"):
        leapfrog(bumpy_score, x, x[:1], 0.1, 2)
    with pytest.raises(RuntimeError, match="^the score is not finite at leap 1 of 2$"):
        leapfrog(lambda x: x / 0, x, x, 0.1, 2)
    with pytest.raises(RuntimeError, match="^the log-density is not a number at step 1 of 2$"):
        hamiltonian(lambda x: bell(x) * math.nan, x, 2, 0.1, 2)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="^hamiltonian needs gradients"):
        hamiltonian(bell, x, 2, 0.1, 2)


# Tempering


def test_one_temperature_is_mala():
    x = draws((30, 2))
    ours = tempering(bumpy, x, [1.0], 5, 0.1, generator=seeded(7))
    theirs = mala(bumpy, x, 5, 0.1, generator=seeded(7))
    close(ours.points[0], theirs[0], 1e-10)
    close(ours.accepted, [theirs[1]], 1e-6)
    assert ours.swapped.shape == (0,)


def test_each_temperature_is_mala_for_its_own_law_until_points_are_exchanged():
    x, T = draws((2000, 1)), 4.0
    state = seeded(8)
    noise = torch.randn(4000, 1, generator=state)
    u = torch.rand(4000, generator=state).log()
    hot, step = x, 0.05

    def slope(x):
        return bumpy_score(x) / T

    y = hot + step * T * slope(hot) + math.sqrt(2 * step * T) * noise[2000:]
    back = -((hot - y - step * T * slope(y)) ** 2).sum(1) / (4 * step * T)
    there = -((y - hot - step * T * slope(hot)) ** 2).sum(1) / (4 * step * T)
    accept = u[2000:] < (bumpy(y) - bumpy(hot)) / T + back - there
    hot = torch.where(accept[:, None], y, hot)
    ours = tempering(bumpy, x, [1.0, T], 1, step, generator=seeded(8))  # pairs (1, 2), (3, 4), …: none here
    close(ours.points[1], hot, 1e-10)
    close(ours.accepted[1], accept.double().mean(), 1e-6)


def test_an_exchange_has_its_formula():
    x, T = draws((3000, 1), spread=2.0), 3.0
    ours = tempering(bumpy, x, [1.0, T], 2, 1e-12, generator=seeded(9))  # steps that lead nowhere
    assert ours.swapped[0] == 1  # equal points always exchange
    seen = []
    tempering(bumpy, x, [1.0, T], 6, 0.3, lambda k, x: seen.append(x), generator=seeded(9))
    assert len(seen) == 6

    generator, cold, hot, swaps = seeded(10), x, x, []
    for k in range(1, 7):
        noise = torch.randn(6000, 1, generator=generator)
        u = torch.rand(6000, generator=generator).log()
        moved = []
        for here, temperature, part in ((cold, 1.0, slice(3000)), (hot, T, slice(3000, None))):
            y = here + 0.3 * bumpy_score(here) + math.sqrt(0.6 * temperature) * noise[part]
            gap = ((y - here - 0.3 * bumpy_score(here)) ** 2 - (here - y - 0.3 * bumpy_score(y)) ** 2).sum(1)
            accept = u[part] < (bumpy(y) - bumpy(here) + gap / 1.2) / temperature
            moved.append(torch.where(accept[:, None], y, here))
        cold, hot = moved
        if k % 2 == 0:
            ratio = ((1 - 1 / T) * (bumpy(hot) - bumpy(cold))).exp()
            swap = torch.rand(3000, generator=generator) < ratio
            cold, hot = torch.where(swap[:, None], hot, cold), torch.where(swap[:, None], cold, hot)
            swaps.append(swap.double().mean())
    ours = tempering(bumpy, x, [1.0, T], 6, 0.3, generator=seeded(10))
    close(ours.points[0], cold, 1e-9)
    close(ours.points[1], hot, 1e-9)
    close(ours.swapped[0], torch.stack(swaps).mean(), 1e-6)


def by_hand(log_prob, x, T, steps, step, generator):
    """Tempering, walk by walk, with the random numbers in the same order."""
    R, B = len(T), len(x)
    walks = [[x[b].clone() for b in range(B)] for _ in T]

    def slope(y):
        return torch.func.grad(lambda y: log_prob(y[None])[0])(y)

    def proposal(y, at, t):  # its log-density, up to a constant
        return -((y - at - step * slope(at)) ** 2).sum() / (4 * step * t)

    def energy(y):
        return log_prob(y[None])[0]

    for k in range(1, steps + 1):
        noise = torch.randn((R * B, *x.shape[1:]), generator=generator).reshape(R, *x.shape)
        chance = torch.rand(R * B, generator=generator).reshape(R, B)
        for r, t in enumerate(T):
            for b, y in enumerate(walks[r]):
                new = y + step * slope(y) + math.sqrt(2 * step * t) * noise[r, b]
                gain = energy(new) / t + proposal(y, new, t) - energy(y) / t - proposal(new, y, t)
                if chance[r, b].log() < gain:
                    walks[r][b] = new
        for i in range(k % 2, R - 1, 2):
            chance = torch.rand(B, generator=generator)
            for b in range(B):
                low, high = walks[i][b], walks[i + 1][b]
                gain = (energy(high) - energy(low)) / T[i] + (energy(low) - energy(high)) / T[i + 1]
                if chance[b].log() < gain:
                    walks[i][b], walks[i + 1][b] = high, low
    return torch.stack([torch.stack(row) for row in walks])


@pytest.mark.parametrize("event", [(2,), (2, 2), (1, 2, 1)])
def test_tempering_is_what_one_does_walk_by_walk(event):
    def wavy(x):
        return (torch.cos(3 * x) - x**2 / 3).flatten(1).sum(1)

    x, T = draws((4, *event)), [1.0, 1.7, 3.0, 8.0]
    kept = x.clone()
    ours = tempering(wavy, x, T, 5, 0.15, generator=seeded(21))
    close(ours.points, by_hand(wavy, x, T, 5, 0.15, seeded(21)), 1e-10)
    close(x, kept, 0)


def test_tempering_finds_a_mode_and_gives_it_its_share():
    pair = uneven_pair(2.5, 0.4)
    start = torch.full((1500, 1), -2.5)
    torch.manual_seed(3)
    ours = tempering(pair.log_prob, start, [1.0, 3.0, 9.0, 27.0], 500, 0.06)
    share = (ours.points[0] > 0).double()
    about(share, 0.8)
    assert ours.points.shape == (4, 1500, 1)
    assert (ours.swapped > 0.2).all()
    assert (ours.accepted > 0.5).all()
    alone = tempering(pair.log_prob, start, [1.0], 300, 0.06).points[0]
    assert (alone < 0).all()


def test_tempering_refuses():
    x = draws((3, 2))
    for bad in ([1.0, 0.5], [2.0, 3.0], [1.0, 1.0], [0.0, 1.0], [-1.0], [], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="^temperatures must be above 0 and rise from 1, got "):
            tempering(bell, x, bad, 2, 0.1)
    with pytest.raises(ValueError, match="^temperatures must hold "):
        tempering(bell, x, [1.0, math.nan], 2, 0.1)
    for bad in NO_COUNTS:
        with pytest.raises(ValueError, match="^steps must be"):
            tempering(bell, x, [1.0, 2.0], bad, 0.1)
    for bad in NO_NUMBERS_ABOVE_0:
        with pytest.raises(ValueError, match="^step must be"):
            tempering(bell, x, [1.0, 2.0], 2, bad)


# Diagnostics


def wandering(seed, C, N, memory):
    rng = np.random.default_rng(seed)
    x, noise = np.zeros((C, N)), rng.normal(size=(C, N))
    x[:, 0] = noise[:, 0] / math.sqrt(1 - memory**2)
    for t in range(1, N):
        x[:, t] = memory * x[:, t - 1] + noise[:, t]
    return torch.from_numpy(x * math.sqrt(1 - memory**2))


def theirs(function, chains, method):
    return float(getattr(array_stats, function)(chains.numpy(), chain_axis=0, draw_axis=1, method=method))


CHAINS = st.builds(
    wandering, SEEDS, st.integers(1, 5), st.integers(4, 90), st.sampled_from([-0.8, 0.0, 0.5, 0.95])
)


@FEW
@given(CHAINS, st.sampled_from([0.0, 2.0]))
def test_diagnostics_agree_with_arviz(chains, apart):
    chains = chains + apart * torch.arange(len(chains))[:, None]
    even = chains[:, : chains.shape[1] // 2 * 2]  # ranks are those before the cut: no middle to leave out
    expected = theirs("ess", chains, "mean")
    assert effective_sample_size(chains) == pytest.approx(expected, rel=1e-8)
    expected = theirs("ess", even, "bulk")
    assert effective_sample_size(normal_scores(even)) == pytest.approx(expected, rel=1e-8)
    if len(chains) > 1:
        assert split_r_hat(chains) == pytest.approx(theirs("rhat", chains, "split"), rel=1e-10)
        halves = torch.cat(even.split(even.shape[1] // 2, 1))
        folded = (even - halves.median()).abs() if halves.numel() % 2 else (even - np.median(even)).abs()
        ours = max(split_r_hat(normal_scores(even)), split_r_hat(normal_scores(folded)))
        assert ours == pytest.approx(theirs("rhat", even, "rank"), rel=1e-8)


@pytest.mark.parametrize("memory", [-0.6, 0.0, 0.5, 0.9])
def test_a_walk_with_memory_is_worth_what_it_should(memory):
    chains = wandering(0, 50, 2000, memory)
    exact = chains.numel() * (1 - memory) / (1 + memory)
    assert effective_sample_size(chains) == pytest.approx(exact, rel=0.15)
    seen = autocorrelation(chains)
    close(seen[:8], memory ** torch.arange(8), 0.05)
    assert seen[0] == 1


def test_autocorrelation_by_hand():
    x = draws((2, 6))
    centred = x - x.mean()
    by_hand = [(centred[:, : 6 - k] * centred[:, k:]).mean() for k in range(6)]
    close(autocorrelation(x), torch.stack(by_hand) / by_hand[0], 1e-12)


def test_chains_that_disagree_are_told():
    agree = wandering(1, 4, 500, 0.3)
    assert split_r_hat(agree) < 1.02
    assert split_r_hat(agree + torch.arange(4)[:, None]) > 1.5
    drifting = agree + torch.linspace(0, 4, 500)  # all alike, but each half another
    assert split_r_hat(drifting) > 1.3
    assert effective_sample_size(drifting) < 50


def test_ranks_see_what_has_no_mean():
    heavy = torch.tan(math.pi * (torch.rand(4, 1000, generator=seeded(0)) - 0.5))
    assert 0.99 < split_r_hat(normal_scores(heavy)) < 1.01
    scores = normal_scores(heavy)
    close(scores.mean(), 0.0, 1e-10)
    close(scores, normal_scores(heavy**3), 1e-12)
    tied = normal_scores(torch.tensor([[1.0, 1.0, 2.0, 3.0]]))
    assert tied[0, 0] == tied[0, 1] < tied[0, 2] < tied[0, 3]


def test_diagnostics_refuse():
    for bad, says in (
        (torch.ones(4), "must have shape (C, N) with N at least 4, got (4,)"),
        (torch.ones(2, 3), "must have shape (C, N) with N at least 4, got (2, 3)"),
        (torch.ones(0, 5), "must have shape (C, N) with N at least 4, got (0, 5)"),
        (torch.full((2, 5), math.nan), "must hold finite numbers"),
    ):
        for call in (autocorrelation, effective_sample_size, split_r_hat, normal_scores):
            with pytest.raises(ValueError, match=f"^chains {re.escape(says)}"):
                call(bad)
    still = torch.ones(2, 8)
    with pytest.raises(ValueError, match="^chains must vary"):
        autocorrelation(still)
    assert math.isnan(effective_sample_size(still))
    assert math.isnan(split_r_hat(still))


def test_everything_is_offered():
    assert set(samplers.__all__) >= {"metropolis_hastings", "tempering", "hamiltonian", "gibbs", "langevin"}
