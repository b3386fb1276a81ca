"""Stochastic differential equations: exact laws, orders of the schemes, reversal, and the grid."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from exactness import FEW, REAL, close, seeded
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats
from test_samplers import NO_BATCHES, NO_NUMBERS_ABOVE_0, about, draws
from torch.distributions import Normal, kl_divergence

from genlib import data, sde
from genlib.sde.grid import _bernoulli

pytestmark = pytest.mark.usefixtures("double")

SEEDS = st.integers(0, 10**6)
TIMES = st.floats(0.01, 3.0)
EVENTS = [(1,), (3,), (2, 2), (1, 2, 2)]
BELOW_0 = [-1.0, -1e-9, math.nan, math.inf, None, "1", True]


def f(x, t):
    return torch.sin(x) - 0.5 * x * (1 + t)


def g(x, t):
    return 0.7 + 0.2 * torch.cos(x + t)


def pair(dims=1):
    means = torch.tensor([[-1.5], [1.0]]).expand(2, dims)
    return data.GaussianMixture(means, 0.4, [0.3, 0.7])


def linear():
    return {
        "relaxation": sde.OrnsteinUhlenbeck(0.7, 1.8),
        "motion": sde.Brownian(1.3),
    }


# Simulation


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("stratonovich", [False, True])
@pytest.mark.parametrize("given_kicks", [False, True])
def test_simulate_is_its_formula(event, stratonovich, given_kicks):
    x, times = draws((4, *event)), [0.2, 0.3, 0.55, 1.0]
    before, kicks, seen = x.clone(), draws((3, 4, *event), 1), []
    increments = kicks * torch.tensor(times).diff().sqrt().reshape(3, *[1] * x.ndim) if given_kicks else None
    end = sde.simulate(
        sde.Diffusion(f, g), x, times, lambda *now: seen.append(now),
        increments=increments, stratonovich=stratonovich, generator=seeded(2),
    )  # fmt: skip
    generator, here = seeded(2), x
    for k, (t, later) in enumerate(itertools.pairwise(times), 1):
        dt = later - t
        z = kicks[k - 1] if given_kicks else torch.randn(4, *event, generator=generator)
        dW = math.sqrt(dt) * z
        predicted = here + f(here, t) * dt + g(here, t) * dW
        mean_f = (f(here, t) + f(predicted, later)) / 2
        mean_g = (g(here, t) + g(predicted, later)) / 2
        here = here + mean_f * dt + mean_g * dW if stratonovich else predicted
        assert seen[k - 1][0] == k
        close(seen[k - 1][1], later)
        close(seen[k - 1][2], here)
    close(end, here)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
def test_simulate_keeps_the_dtype_and_draws_from_the_generator(dtype):
    x, times = draws((4, 2)).to(dtype), torch.linspace(0, 1, 5)
    process = sde.OrnsteinUhlenbeck()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, again = (sde.simulate(process, x, times, generator=seeded(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.dtype == dtype
    assert not sde.simulate(process, x.requires_grad_(), times).requires_grad


@pytest.mark.parametrize(
    "noise", [0.5, torch.tensor([0.5, 0.5]), torch.full((4, 1), 0.5), torch.full((4, 2), 0.5)]
)
def test_noise_may_be_one_number_or_one_for_each_coordinate(noise):
    x, times = draws((4, 2)), [0.0, 0.5, 1.0]
    ours = sde.simulate(sde.Diffusion(f, lambda x, t: noise), x, times, generator=seeded(3))
    close(ours, sde.simulate(sde.Diffusion(f, 0.5), x, times, generator=seeded(3)))


def test_noise_of_zero_is_an_ordinary_equation():
    x = sde.simulate(sde.Diffusion(lambda x, t: -x, 0.0), torch.ones(1, 1), torch.linspace(0, 1, 1001))
    close(x[0, 0], (1 - 0.001) ** 1000)


def broken(at, value, place):
    calls = itertools.count(1)

    def asked(x, t):
        bad = next(calls) == at
        out = f(x, t) if place == "drift" else g(x, t)
        return out.masked_fill(torch.eye(*out.shape, dtype=bool), value) if bad else out

    return sde.Diffusion(asked, g) if place == "drift" else sde.Diffusion(f, asked)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["drift", "noise"])
def test_simulate_names_the_step_and_the_time_of_what_is_not_finite(place, value):
    x, times = draws((3, 2)), torch.linspace(0, 1, 6)
    with pytest.raises(RuntimeError, match=rf"^the {place} is not finite at step 3 of 5, t = 0\.4$"):
        sde.simulate(broken(3, value, place), x, times)
    with pytest.raises(RuntimeError, match=r"^the points are not finite after step 1 of 1, t = 0$"):
        sde.simulate(sde.Diffusion(lambda x, t: torch.full_like(x, 1e308), 0.0), x, [0.0, 1e10])


def test_simulate_refuses():
    x, process = draws((3, 2)), sde.OrnsteinUhlenbeck()
    for bad, says in NO_BATCHES:
        with pytest.raises(ValueError, match=f"^x {re.escape(says)}"):
            sde.simulate(process, bad, [0.0, 1.0])
    for bad in ([0.0, 0.0], [1.0, 0.5], [0.0], [], [[0.0, 1.0]]):
        with pytest.raises(ValueError, match="^times must hold at least two numbers that rise"):
            sde.simulate(process, x, bad)
    with pytest.raises(ValueError, match="^times must hold finite numbers"):
        sde.simulate(process, x, [0.0, math.nan])
    for shape in ((1, 3), (2, 3, 2), (1, 3, 1)):
        with pytest.raises(ValueError, match=re.escape("increments must have shape (1, 3, 2), got")):
            sde.simulate(process, x, [0.0, 1.0], increments=torch.zeros(shape))
    with pytest.raises(ValueError, match=re.escape("drift must return shape (3, 2), got (3,)")):
        sde.simulate(sde.Diffusion(lambda x, t: x[:, 0], 1.0), x, [0.0, 1.0])
    for bad in (torch.ones(3), torch.ones(4, 3, 2)):
        with pytest.raises(ValueError, match=re.escape("noise must broadcast to shape (3, 2), got")):
            sde.simulate(sde.Diffusion(f, lambda x, t, bad=bad: bad), x, [0.0, 1.0])


# Orders


def paths(process, exact, sizes, x0, seed, extra=None):
    """Mean distance from the exact end for each number of steps, all from the same kicks."""
    finest = max(sizes) * 2
    kicks = torch.randn(finest, 3000, 1, generator=seeded(seed)) / math.sqrt(finest)
    truth, errors = exact(kicks), []
    for n in sizes:
        coarse = kicks.unflatten(0, (n, -1)).sum(1)
        x = sde.simulate(process, torch.full((3000, 1), x0), torch.linspace(0, 1, n + 1), increments=coarse)
        errors.append((x - truth).abs().mean())
    return torch.stack(errors)


def test_strong_order_is_one_half_where_noise_depends_on_the_place_and_one_where_not():
    sizes = [16, 32, 64, 128]
    process = sde.GeometricBrownian(0.4, 0.9)
    slopes = -paths(process, lambda dW: process.solution(1.0, 1.0, dW.sum(0)), sizes, 1.0, 0).log2().diff()
    close(slopes.mean(), 0.5, 0.1)

    process = sde.OrnsteinUhlenbeck()

    def exact(kicks):  # each kick and what is left of its inside are jointly normal
        d = 1 / len(kicks)
        part = -math.expm1(-d) / d
        rest = math.sqrt(-math.expm1(-2 * d) / 2 - part**2 * d)
        inside = part * kicks + rest * torch.randn(kicks.shape, generator=seeded(8))
        age = 1 - d * torch.arange(1, len(kicks) + 1)[:, None, None]
        return 2 * math.exp(-1) + math.sqrt(2) * ((-age).exp() * inside).sum(0)

    slopes = -paths(process, exact, sizes, 2.0, 1).log2().diff()
    close(slopes.mean(), 1.0, 0.1)


def test_euler_is_ito_and_heun_is_stratonovich():
    process, x, times = sde.GeometricBrownian(0.2, 0.6), torch.ones(60_000, 1), torch.linspace(0, 1, 51)
    about(sde.simulate(process, x, times, generator=seeded(0)), math.exp(0.2), 6)
    heun = sde.simulate(process, x, times, stratonovich=True, generator=seeded(0))
    about(heun, math.exp(0.2 + 0.6**2 / 2), 6)


def test_the_crowd_has_order_one():
    """Kicks of three sizes have the moments of normal ones up to the fifth, so that no chance is left."""
    sizes, chances = torch.tensor([-math.sqrt(3), 0.0, math.sqrt(3)]), torch.tensor([1 / 6, 2 / 3, 1 / 6])
    for process, x0, exact in (
        (sde.GeometricBrownian(0.4, 0.7), 1.2, 1.44 * math.exp(2 * 0.4 * 0.15 + 0.7**2 * 0.15)),
        (sde.OrnsteinUhlenbeck(1.5, 0.8), 0.0, 0.8 * -math.expm1(-2 * 1.5 * 0.15)),
    ):
        errors = []
        for n in (2, 4, 8):
            every = torch.cartesian_prod(*[torch.arange(3)] * n)  # (3^n, n)
            kicks = sizes[every].T[..., None] * math.sqrt(0.15 / n)
            start, times = torch.full((len(every), 1), x0), torch.linspace(0, 0.15, n + 1)
            x = sde.simulate(process, start, times, increments=kicks)
            errors.append((chances[every].prod(1) @ x[:, 0] ** 2 - exact).abs())
        close(torch.stack(errors).log2().diff(), torch.tensor([-1.0, -1.0]), 0.1)


def test_euler_has_the_moments_of_its_recursion():
    process, d = sde.OrnsteinUhlenbeck(1.5, 0.8), 0.2
    x = sde.simulate(process, torch.full((60_000, 1), 2.0), torch.linspace(0, 1, 6), generator=seeded(1))
    kept = 1 - 1.5 * d
    about(x, 2 * kept**5)
    about((x - 2 * kept**5) ** 2, sum(kept ** (2 * k) for k in range(5)) * 2 * 1.5 * 0.8 * d)


# Processes with an exact law


@FEW
@given(TIMES, st.sampled_from(["relaxation", "motion"]))
def test_scale_and_deviation_obey_their_equations(t, name):
    process, tiny = linear()[name], 1e-5
    x = torch.ones(1, 1)
    rate, size = process.drift(x, t).item(), process.noise(x, t)
    scale = (process.scale(t + tiny) - process.scale(t - tiny)) / (2 * tiny)
    close(scale, rate * process.scale(t), 1e-8)
    grown = (process.deviation(t + tiny) ** 2 - process.deviation(t - tiny) ** 2) / (2 * tiny)
    close(grown, 2 * rate * process.deviation(t) ** 2 + size**2, 1e-7)
    assert process.scale(0.0) == 1
    assert process.deviation(0.0) == 0


@FEW
@given(TIMES, TIMES, st.sampled_from(["relaxation", "motion"]))
def test_two_stretches_are_one(s, t, name):
    process = linear()[name]
    close(process.scale(s) * process.scale(t), process.scale(s + t))
    both = process.scale(t) ** 2 * process.deviation(s) ** 2 + process.deviation(t) ** 2
    close(both, process.deviation(s + t) ** 2)


@pytest.mark.parametrize("event", EVENTS)
def test_the_kernel_is_normal_over_the_event(event):
    x0, process = draws((3, *event)), linear()["relaxation"]
    law, x = process.kernel(x0, 0.6), draws((3, *event), 1)
    assert law.event_shape == event
    assert law.batch_shape == (3,)
    by_hand = Normal(process.scale(0.6) * x0, process.deviation(0.6)).log_prob(x).flatten(1).sum(1)
    close(law.log_prob(x), by_hand)
    end = sde.simulate(
        process, x0[:1].expand(30_000, *event), torch.linspace(0, 0.6, 61), generator=seeded(0)
    )
    about(end.flatten(1)[:, 0], law.mean[0].flatten()[0].item(), 6)


def test_relaxation_forgets_its_start():
    law = sde.OrnsteinUhlenbeck(2.0, 0.7).kernel(torch.full((1, 1), 5.0), 20.0).base_dist
    assert kl_divergence(law, Normal(torch.zeros(1, 1), math.sqrt(0.7))).item() < 1e-12


@FEW
@given(TIMES, SEEDS, st.sampled_from(["relaxation", "motion"]))
def test_the_marginal_of_a_mixture_obeys_the_fokker_planck_equation(t, seed, name):
    process, tiny = linear()[name], 3e-4
    t, x = t + 0.3, draws((20, 1), seed)

    def p(x, t=t):
        return process.marginal(pair(), t).log_prob(x).exp()

    def slope(h, x):
        return torch.func.grad(lambda x: h(x).sum())(x)

    near, far = (p(x, t + d) - p(x, t - d) for d in (tiny, 2 * tiny))
    speed = (8 * near - far) / (12 * tiny)  # exact to the fourth order
    carried = slope(lambda x: process.drift(x, t)[:, 0] * p(x), x)[:, 0]
    spread = slope(lambda x: slope(p, x)[:, 0], x)[:, 0] * process.noise(x, t) ** 2 / 2
    close(speed, spread - carried, 1e-9)


def test_the_marginal_at_time_zero_is_the_start():
    start = pair(3)
    for process in linear().values():
        now = process.marginal(start, 0.0)
        close(now.means, start.means)
        close(now.scale, start.scale)
        close(now.weights, start.weights)


def test_growth_is_log_normal():
    process = sde.GeometricBrownian(0.3, 0.7)
    x0, x, t = torch.tensor([[1.5]]), torch.tensor([[0.4], [1.0], [3.0]]), 0.8
    exact = stats.lognorm(0.7 * math.sqrt(t), scale=1.5 * math.exp((0.3 - 0.7**2 / 2) * t))
    close(
        process.kernel(x0.expand(3, 1), t).log_prob(x), torch.from_numpy(exact.logpdf(x[:, 0].numpy())), 1e-10
    )
    about(process.solution(1.5, t, math.sqrt(t) * draws((50_000, 1))), 1.5 * math.exp(0.3 * t))
    w = torch.tensor([0.3])
    close(process.solution(2.0, t, w).log(), math.log(2) + (0.3 - 0.245) * t + 0.7 * w)
    close(process.drift(x, t), 0.3 * x)
    close(process.noise(x, t), 0.7 * x)


def test_processes_refuse():
    for bad in NO_NUMBERS_ABOVE_0:
        for make in (
            lambda v: sde.OrnsteinUhlenbeck(v),
            lambda v: sde.OrnsteinUhlenbeck(1.0, v),
            lambda v: sde.Brownian(v),
            lambda v: sde.GeometricBrownian(0.1, v),
            lambda v: sde.Overdamped(f, v),
            lambda v: sde.Underdamped(f, v),
            lambda v: sde.Underdamped(f, 1.0, v),
            lambda v: sde.Reversed(sde.Brownian(), f, v),
        ):
            with pytest.raises(ValueError, match="^(rate|temperature|size|volatility|friction|end) must be"):
                make(bad)
    for bad in (math.nan, math.inf, None, "1", True):
        with pytest.raises(ValueError, match="^growth must be a finite number"):
            sde.GeometricBrownian(bad, 0.2)
    for process in linear().values():
        for bad in BELOW_0:
            for call in (process.scale, process.deviation):
                with pytest.raises(ValueError, match="^t must be"):
                    call(bad)
            with pytest.raises(ValueError, match="^t must be"):
                process.marginal(pair(), bad)
            with pytest.raises(ValueError, match="^t must be"):
                process.kernel(torch.ones(1, 1), bad)
        with pytest.raises(ValueError, match="^start must be a GaussianMixture, got Checkerboard"):
            process.marginal(data.Checkerboard(), 1.0)
    with pytest.raises(ValueError, match="^t must be above 0"):
        sde.GeometricBrownian(0.1, 0.2).kernel(torch.ones(1, 1), 0.0)
    with pytest.raises(ValueError, match="^x0 must be above 0"):
        sde.GeometricBrownian(0.1, 0.2).kernel(torch.zeros(1, 1), 1.0)
    with pytest.raises(ValueError, match="^drift must be a function of x and t, got 3"):
        sde.Diffusion(3, 1.0)
    for bad in BELOW_0:
        with pytest.raises(ValueError, match="^noise must be"):
            sde.Diffusion(f, bad)
    with pytest.raises(ValueError, match=re.escape("x must have shape (B, 2, *E), places and velocities")):
        sde.Underdamped(f, 1.0).drift(torch.ones(3, 2), 0.0)
    with pytest.raises(ValueError, match="^force must return shape"):
        sde.Underdamped(lambda x: x[:, :0], 1.0).drift(torch.ones(3, 2, 1), 0.0)
    for name in ("scale", "deviation"):
        with pytest.raises(NotImplementedError):
            getattr(sde.Linear(), name)(1.0)


# Langevin


def test_an_overdamped_crowd_rests_at_the_power_of_the_target():
    process = sde.Overdamped(lambda x: -x / 0.5, 1.7)
    x = sde.simulate(
        process, torch.randn(30_000, 2, generator=seeded(0)), torch.linspace(0, 4, 401), generator=seeded(1)
    )
    step = 0.01 / 0.5
    about(x**2, 0.5 * 1.7 / (1 - step / 2))
    close(process.drift(x, 0.0), -2 * x)
    close(process.noise(x, 0.0), math.sqrt(3.4))


def test_an_underdamped_crowd_has_the_covariance_of_lyapunov():
    k, friction, T = 1.7, 0.9, 0.6
    process = sde.Underdamped(lambda x: -k * x, friction, T)
    A = np.array([[0, 1], [-k, -friction]])
    exact = linalg.solve_continuous_lyapunov(A, -np.diag([0, 2 * friction * T]))
    close(torch.from_numpy(exact), torch.tensor([[T / k, 0], [0, T]]), 1e-12)
    start = torch.randn(8000, 2, 1, generator=seeded(0)) * torch.tensor([T / k, T]).sqrt()[:, None]
    x = sde.simulate(process, start, torch.linspace(0, 5, 1001), generator=seeded(1))
    about(x[:, 0] ** 2, T / k, 6)
    about(x[:, 1] ** 2, T, 6)
    about(x[:, 0] * x[:, 1], 0.0, 6)
    state = draws((3, 2, 2))
    close(process.drift(state, 0.0)[:, 0], state[:, 1])
    close(process.drift(state, 0.0)[:, 1], -k * state[:, 0] - friction * state[:, 1])
    noise = process.noise(state, 0.0).expand_as(state)
    close(noise[:, 0], torch.zeros(3, 2))
    close(noise[:, 1], torch.full((3, 2), math.sqrt(2 * friction * T)))


# Reversed


def test_the_reversed_drift_is_its_formula():
    process = sde.Diffusion(f, lambda x, t: 0.5 + t)
    back = sde.Reversed(process, lambda x, t: -x * (1 + t), 2.0)
    x = draws((5, 2))
    close(back.drift(x, 0.3), -f(x, 1.7) + 2.2**2 * -x * 2.7)
    close(back.noise(x, 0.3), 2.2)
    close(back.drift(x, 2.0 + 1e-16), -f(x, 0.0) - 0.25 * x)
    with pytest.raises(ValueError, match="^the time of the backward clock must not exceed end = 2, got 2.5"):
        back.drift(x, 2.5)
    with pytest.raises(ValueError, match="^score must return shape"):
        sde.Reversed(process, lambda x, t: x[:, :1], 1.0).drift(x, 0.1)


def test_noise_of_the_place_is_not_reversed():
    growth = sde.GeometricBrownian(0.1, 0.4)
    back = sde.Reversed(growth, lambda x, t: -x, 1.0)
    with pytest.raises(
        ValueError, match="^the noise of a process that is reversed must be the same at all places x"
    ):
        back.drift(torch.tensor([[1.0], [2.0]]), 0.3)
    kinetic = sde.Reversed(sde.Underdamped(lambda x: -x, 0.7), lambda x, t: -x, 1.0)
    state = draws((4, 2, 3))
    close(kinetic.drift(state, 0.3)[:, 0], -state[:, 1])
    close(kinetic.drift(state, 0.3)[:, 1], state[:, 0] + 0.7 * state[:, 1] - 1.4 * state[:, 1])


def test_a_balanced_process_at_rest_is_its_own_reversal():
    process = sde.OrnsteinUhlenbeck(1.3, 0.8)
    back, x = sde.Reversed(process, lambda x, t: -x / 0.8, 1.0), draws((5, 2))
    close(back.drift(x, 0.4), process.drift(x, 0.4))


def test_reversed_noise_gives_back_the_data():
    process, start = sde.OrnsteinUhlenbeck(), pair(2)

    def score(x, t):
        return process.marginal(start, t).score(x)

    x = process.marginal(start, 1.5).sample((8000,), generator=seeded(0))
    x = sde.simulate(sde.Reversed(process, score, 1.5), x, torch.linspace(0, 1.5, 301), generator=seeded(1))
    about((x[:, 0] > -0.25).double(), 0.7, 6)
    about(x[:, 0], -0.45 + 0.7, 6)
    about(x[:, 1] ** 2, 0.3 * 1.5**2 + 0.7 + 0.16, 8)


# Grid


def normal_cells(grid, mean, deviation):
    edges = stats.norm(mean, deviation).cdf(grid.edges.numpy())
    return torch.from_numpy(np.diff(edges))


def test_a_grid_is_cut_into_equal_cells():
    grid = sde.Grid(-1.0, 2.0, 6)
    close(grid.edges, torch.linspace(-1, 2, 7))
    close(grid.centres, torch.linspace(-0.75, 1.75, 6))
    assert grid.width == pytest.approx(0.5)


def test_masses_are_those_of_the_distribution_function():
    grid = sde.Grid(-7.0, 7.0, 60)
    bell = data.GaussianMixture(torch.tensor([[0.4]]), 0.9)
    close(grid.masses(bell), normal_cells(grid, 0.4, 0.9), 1e-9)
    with pytest.raises(
        ValueError, match=r"^the grid must hold the mass, but 0\.0\d+ of it lies outside \[-2, 2\]$"
    ):
        sde.Grid(-2.0, 2.0, 60).masses(bell)


def test_masses_refuse_what_the_cells_cannot_hold():
    grid = sde.Grid(-1.0, 1.0, 20)
    narrow = data.GaussianMixture(torch.zeros(1, 1) + 0.05, 0.005)
    with pytest.raises(ValueError, match="^the cells must be narrower than what the density does"):
        grid.masses(narrow)

    class Column:
        def log_prob(self, x):
            return torch.zeros_like(x)

    with pytest.raises(ValueError, match=re.escape("log_prob must return shape (100,), got (100, 1)")):
        grid.masses(Column())


@FEW
@given(SEEDS, st.integers(2, 30), st.floats(0.1, 1e4), st.booleans())
def test_the_grid_loses_no_mass_and_no_cell_turns_negative(seed, cells, strength, uneven):
    grid = sde.Grid(-1.0, 1.5, cells)
    drift = strength * draws((cells - 1,), seed)
    diffusion = (lambda x: (0.5 + x**2) * 1.3) if uneven else 0.7
    L = grid.generator(lambda x: drift, diffusion)
    scale = L.abs().max()
    close(L.sum(0) / scale, torch.zeros(cells), 1e-14)
    off = L - L.diag().diag()
    assert (off >= 0).all()
    start = torch.zeros(cells)
    start[seed % cells] = 1.0
    m = sde.evolve(L, start, 0.3)
    close(m.sum(), 1.0, 1e-9)
    assert m.min() > -1e-12
    if torch.cat([L.diag(1), L.diag(-1)]).min() > 0:  # no rate has rounded to zero
        rest = sde.at_rest(L)
        close(rest.sum(), 1.0, 1e-12)
        assert (rest >= 0).all()
        close(L @ rest / scale, torch.zeros(cells), 1e-12)


def test_the_matrix_by_hand():
    grid = sde.Grid(0.0, 0.9, 3)
    L = grid.generator(lambda x: 2.0 - x, lambda x: 1 + x)
    h = 0.3
    for i, wall in enumerate((0.3, 0.6)):
        w = (2 - wall) * h / (1 + wall)
        left, right = grid.centres[i], grid.centres[i + 1]
        close(L[i + 1, i], -w / math.expm1(-w) * (1 + left) / h**2, 1e-10)
        close(L[i, i + 1], w / math.expm1(w) * (1 + right) / h**2, 1e-10)
    assert L[0, 2] == L[2, 0] == 0


def test_without_drift_it_is_the_second_difference():
    L = sde.Grid(0.0, 1.0, 4).generator(torch.zeros_like, 0.5)
    close(L, torch.tensor([[-1, 1, 0, 0], [1, -2, 1, 0], [0, 1, -2, 1], [0, 0, 1, -1]]) * 0.5 * 16)


@FEW
@given(st.floats(-30, 30), TIMES, TIMES)
def test_evolve_is_the_exponential(pull, s, t):
    grid = sde.Grid(-3.0, 3.0, 12)
    L = grid.generator(lambda x: pull - x, 0.6)
    m = torch.softmax(draws((12,)), 0)
    close(sde.evolve(L, m, t), torch.from_numpy(linalg.expm((L * t).numpy())) @ m, 1e-9)
    close(sde.evolve(L, sde.evolve(L, m, s), t), sde.evolve(L, m, s + t), 1e-9)
    close(sde.evolve(L, m, 0.0), m)


def test_the_grid_is_of_second_order_in_the_cell():
    process, t, gaps, rests = sde.OrnsteinUhlenbeck(), 0.4, [], []
    for cells in (100, 200, 400):
        grid = sde.Grid(-7.0, 7.0, cells)
        L = grid.generator(lambda x: -x, 1.0)
        m = sde.evolve(L, grid.masses(pair()), t)
        gaps.append(0.5 * (m - grid.masses(process.marginal(pair(), t))).abs().sum())
        rests.append(0.5 * (sde.at_rest(L) - normal_cells(grid, 0, 1)).abs().sum())
    assert gaps[-1] < 1e-3
    for errors in (gaps, rests):
        close(torch.stack(errors).log2().diff(), torch.tensor([-2.0, -2.0]), 0.1)


def test_rest_has_the_diffusion_below_it():
    gaps, grid = [], None
    for cells in (200, 400, 800):
        grid = sde.Grid(-4.0, 4.0, cells)
        L = grid.generator(lambda x: -x, lambda x: 1 + 0.5 * torch.sin(x))
        fine = torch.linspace(-4, 4, 100_001)
        D = 1 + 0.5 * torch.sin(fine)
        p = torch.cat([torch.zeros(1), torch.cumulative_trapezoid(-fine / D, fine)]).exp() / D
        p = p / torch.trapezoid(p, fine)
        exact = torch.from_numpy(np.interp(grid.centres, fine, p))
        gaps.append((sde.at_rest(L) / grid.width - exact).abs().max())
    close(torch.stack(gaps).log2().diff(), torch.tensor([-2.0, -2.0]), 0.1)


def test_rest_under_a_drift_beyond_the_range_of_numbers():
    grid = sde.Grid(-1.0, 1.0, 8)
    L = grid.generator(lambda x: -1e5 * (x - 0.3), 1.0)  # one valley: all mass ends in the cell around 0.3
    rest = sde.at_rest(L)
    close(rest, torch.eye(8)[5], 1e-12)
    close(L @ rest, torch.zeros(8), 1e-9)
    pulled = sde.at_rest(grid.generator(lambda x: torch.where(x.abs() < 0.6, 2 - 3 * x, -1e5 * x), 1.0))
    free = sde.at_rest(sde.Grid(-0.75, 0.75, 6).generator(lambda x: 2 - 3 * x, 1.0))
    close(pulled[1:7], free, 1e-12)
    close(pulled[[0, 7]], torch.zeros(2), 1e-200)
    with pytest.raises(ValueError, match="^L must have one law at rest"):
        sde.at_rest(grid.generator(lambda x: 1e5 * x, 1.0))


def test_bernoulli_is_right_near_zero_and_far_out():
    w = torch.tensor([0.0, 1e-12, -1e-9, 9e-5, 1.1e-4, -1e-4, 1.0, -1.0, 50.0, -50.0, 800.0, -800.0])
    series = 1 - w / 2 + w**2 / 12 - w**4 / 720
    close(_bernoulli(w)[:6], series[:6], 1e-15)
    close(_bernoulli(w)[6:8], torch.tensor([1 / (math.e - 1), math.e / (math.e - 1)]), 1e-15)
    assert _bernoulli(w).isfinite().all()
    assert _bernoulli(w)[-2] == 0
    close(_bernoulli(w)[-1], 800.0)
    close(_bernoulli(-w), _bernoulli(w) + w, 1e-12)


def test_grids_refuse():
    for low, high in ((0.0, math.inf), (math.nan, 1.0), (None, 1.0), (0.0, "1")):
        with pytest.raises(ValueError, match="^(low|high) must be a finite number"):
            sde.Grid(low, high, 4)
    for low, high in ((1.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ValueError, match="^low must be below high"):
            sde.Grid(low, high, 4)
    for bad in (1, 0, 2.5, None, True):
        with pytest.raises(ValueError, match="^cells must be a whole number of at least 2"):
            sde.Grid(0.0, 1.0, bad)
    grid = sde.Grid(0.0, 1.0, 4)
    for bad in (0.0, -1.0, math.nan, None):
        with pytest.raises(ValueError, match="^diffusion must be"):
            grid.generator(torch.zeros_like, bad)
    with pytest.raises(ValueError, match=r"^diffusion must be above 0, got 0"):
        grid.generator(torch.zeros_like, lambda x: (x - 0.25).abs())
    with pytest.raises(ValueError, match=r"^diffusion must be above 0, got -0\.25"):
        grid.generator(torch.zeros_like, lambda x: 0.5 - x)
    with pytest.raises(ValueError, match=re.escape("drift must return shape (3,), got (2,)")):
        grid.generator(lambda x: x[1:], 1.0)
    with pytest.raises(RuntimeError, match=r"^the drift is not finite at x = 0\.5$"):
        grid.generator(lambda x: 1 / (x - 0.5), 1.0)
    with pytest.raises(RuntimeError, match=r"^the diffusion is not finite at x = 0\.25$"):
        grid.generator(torch.zeros_like, lambda x: 1 / (x - 0.25) ** 2)
    L, m = grid.generator(torch.zeros_like, 1.0), torch.full((4,), 0.25)
    for bad_L, bad_m in ((L[:3], m), (L, m[:3]), (L, m[:, None])):
        with pytest.raises(ValueError, match="^L and mass must have shapes"):
            sde.evolve(bad_L, bad_m, 1.0)
    for bad in BELOW_0:
        with pytest.raises(ValueError, match="^time must be"):
            sde.evolve(L, m, bad)
    for bad in (L[:3], torch.rand(4, 4)):
        with pytest.raises(ValueError, match="^L must have shape"):
            sde.at_rest(bad)
