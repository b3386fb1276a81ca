"""From data to noise and back: noising processes, the probability flow and its likelihood, solvers backward."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from exactness import FEW, REAL, close, seeded
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from test_samplers import NO_BATCHES, NO_COUNTS, NO_NUMBERS_ABOVE_0, a_net, about, draws, line
from torch.distributions import Independent, Normal

from genlib import sde
from genlib.data import GaussianMixture
from genlib.sde.backward import cleaned
from genlib.sde.flow import METHODS, monotone

pytestmark = [
    pytest.mark.usefixtures("double"),
    pytest.mark.filterwarnings(
        "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
    ),  # torch's own jvp
]

SEEDS = st.integers(0, 10**6)
EVENTS = [(1,), (3,), (2, 2), (1, 2, 2)]
PROCESSES = {
    "exploding": sde.VarianceExploding(0.05, 6.0),
    "preserving": sde.VariancePreserving(0.2, 7.0),
    "sub": sde.SubVariancePreserving(0.3, 9.0),
    "even": sde.VariancePreserving(3.0, 3.0),
    "sub, even": sde.SubVariancePreserving(4.0, 4.0),
}
TIMES = st.floats(0.02, 1.0)
START = GaussianMixture(
    torch.tensor([[-1.5], [1.0]], dtype=REAL), torch.tensor([0.4, 0.6]).double(), [0.3, 0.7]
)
FLAT = GaussianMixture(torch.tensor([[-1.5, 0.5], [1.0, 0.0]], dtype=REAL), 0.5, [0.3, 0.7])
NO_TIMES = [-0.1, 1.0001, math.nan, math.inf, True, None, "1"]

KINDS = ["exploding", "preserving", "sub"]

named = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
drawn = st.sampled_from(list(PROCESSES.values()))


def score_of(process, start):
    """∇ log p_t where the data are a mixture, in few operations."""

    def score(x, t):
        a, s = process.scale(t), process.deviation(t)
        variance = a**2 * start.scale**2 + s**2
        way = a * start.means - x[:, None]
        shares = (
            start.weights.log() - way.square().sum(-1) / variance / 2 - way.shape[-1] / 2 * variance.log()
        )
        return (shares.softmax(-1)[..., None] * way / variance[:, None]).sum(1)

    return score


def to_point(process, x0):
    """The score where all data are one point."""
    return lambda x, t: -(x - process.scale(t) * x0) / process.deviation(t) ** 2


def slope(formula, t):
    (slope,) = torch.autograd.grad((formula(t) + 0 * t).sum(), t, create_graph=True)
    return slope


def law(x, mean, deviation, weights):
    """Density of a mixture on the line, (B, 1) → (B,), of tensors that can be differentiated."""
    z = (x - mean) / deviation
    return (weights * (-(z**2) / 2).exp() / deviation).sum(1) / math.sqrt(2 * math.pi)


# Noising


@named
def test_scale_and_deviation_obey_their_equations(process):
    t = torch.linspace(0.01, 1, 13).requires_grad_()
    a, g = process.rate(t), process.size(t)
    close(slope(process.scale, t), a * process.scale(t), 1e-10)
    growth = slope(lambda t: process.deviation(t) ** 2, t)
    close(growth / g**2, (2 * a * process.deviation(t) ** 2 + g**2) / g**2, 1e-10)
    assert process.scale(0.0) == 1
    assert process.deviation(0.0) == 0
    close(process.level(t), process.deviation(t) / process.scale(t))
    close(process.log_snr(t), -2 * process.level(t).log())


def test_the_processes_are_their_formulas():
    t, exploding = 0.4, sde.VarianceExploding(0.1, 3.0)
    close(exploding.deviation(t), 0.1 * math.sqrt(30 ** (2 * t) - 1))
    close(exploding.size(t), 0.1 * 30**t * math.sqrt(2 * math.log(30)))
    preserving, sub = sde.VariancePreserving(0.5, 4.5), sde.SubVariancePreserving(0.5, 4.5)
    beta, faded = 0.5 + 4 * t, 0.5 * t + 2 * t**2
    close(preserving.beta(t), beta)
    close(preserving.faded(t), faded)
    close(preserving.scale(t), math.exp(-faded / 2))
    close(preserving.rate(t), -beta / 2)
    close(preserving.deviation(t), math.sqrt(1 - math.exp(-faded)))
    close(preserving.size(t), math.sqrt(beta))
    close(sub.scale(t), math.exp(-faded / 2))
    close(sub.deviation(t), 1 - math.exp(-faded))
    close(sub.size(t), math.sqrt(beta * (1 - math.exp(-2 * faded))))
    defaults = sde.VarianceExploding(), sde.VariancePreserving(), sde.SubVariancePreserving()
    assert [(p.first, p.last) for p in defaults] == [(0.01, 50.0), (0.1, 20.0), (0.1, 20.0)]


@FEW
@given(drawn, st.floats(0.0, 1.0))
def test_time_inverts_level(process, t):
    close(process.time(process.level(t)), t, 1e-11)
    times = torch.tensor([0.0, t, 1.0])
    close(process.time(process.level(times)), times, 1e-11)
    assert process.time(0.0) == 0
    assert isinstance(process.time(1), float)
    assert process.time(times.reshape(3, 1).float()).dtype == torch.float32


@FEW
@given(drawn, st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=4))
def test_a_time_may_be_a_number_or_a_tensor_of_any_shape(process, times):
    for ask in (process.scale, process.deviation, process.rate, process.size, process.level, process.log_snr):
        each = [ask(t) for t in times]
        assert all(isinstance(value, float) for value in each)
        every = ask(torch.tensor(times))
        close(every, torch.tensor(each))
        assert ask(torch.tensor(times).reshape(1, -1, 1)).shape == (1, len(times), 1)
        assert ask(torch.tensor(times[0])).shape == ()
        assert ask(torch.tensor(times, dtype=torch.float32)).dtype == torch.float32
        assert isinstance(ask(1), float)


@named
@pytest.mark.parametrize("event", EVENTS)
def test_drift_and_noise_are_rate_and_size(process, event):
    x, times = draws((3, *event)), torch.tensor([0.2, 0.7, 1.0])
    column = times.reshape(3, *[1] * len(event))
    close(process.drift(x, 0.3), process.rate(0.3) * x)
    close(process.noise(x, 0.3), process.size(0.3))
    close(process.drift(x, times), process.rate(column) * x)
    close(process.drift(x, times[1]), process.rate(0.7) * x)
    assert process.noise(x, times).shape == column.shape
    close(process.noise(x, times), process.size(column))
    for bad in (times[:2], times[None], column[0]):
        with pytest.raises(ValueError, match=re.escape("t must be one number or have shape (3,), got")):
            process.noise(x, bad)
    assert process.drift(x.float(), 0.3).dtype == torch.float32


def test_small_times_lose_no_digits():
    t = 1e-13
    for process, small in (
        (PROCESSES["exploding"], 0.05 * math.sqrt(2 * math.log(120) * t)),
        (PROCESSES["preserving"], math.sqrt(0.2 * t)),
        (PROCESSES["sub"], 0.3 * t),
    ):
        for ask in (process.deviation, process.level):
            close(ask(t) / small, 1.0, 1e-10)
            close(ask(torch.tensor(t)) / small, 1.0, 1e-10)
        close(process.time(small) / t, 1.0, 1e-10)
        close(process.log_snr(t), -2 * math.log(small), 1e-9)
    close(PROCESSES["sub"].size(t), 0.3 * math.sqrt(2 * t), 1e-13)
    sharp = sde.VariancePreserving(20.0, 20.0)  # and large ones: σ = 1 up to e^(−20)
    close(sharp.log_snr(1.0), math.log(math.exp(-20) / -math.expm1(-20)), 1e-9)


@FEW
@given(drawn, TIMES, SEEDS)
def test_kernel_and_marginal_obey_the_fokker_planck_equation(process, t, seed):
    t, x = torch.tensor(t, requires_grad=True), draws((12, 1), seed, 1.5).requires_grad_()
    alpha, sigma = process.scale(t), process.deviation(t)
    x0, spread, weights = draws((1, 1), seed + 1), START.scale, START.weights
    kernel = process.kernel(x0, t.item())
    close(law(x, alpha * x0, sigma, torch.ones(1)), kernel.log_prob(x).exp(), 1e-10)
    mixed = law(x, alpha * START.means.T, (alpha**2 * spread**2 + sigma**2).sqrt(), weights)
    close(mixed, process.marginal(START, t.item()).log_prob(x).exp())
    for p in (law(x, alpha * x0, sigma + 0.0, torch.ones(1)), mixed):
        if p is not mixed and sigma < 0.2:  # a peak: its second derivative is large
            continue
        p_x = torch.autograd.grad(p.sum(), x, create_graph=True)[0]
        p_xx = torch.autograd.grad(p_x.sum(), x, retain_graph=True)[0]
        speed = torch.stack([torch.autograd.grad(value, t, retain_graph=True)[0] for value in p])
        carried = process.rate(t) * (p + x[:, 0] * p_x[:, 0])
        close(speed, process.size(t) ** 2 / 2 * p_xx[:, 0] - carried, 1e-8)


@named
def test_a_simulated_crowd_has_the_law_of_the_kernel(process):
    times = process.time(torch.linspace(0, process.level(1.0) ** 0.5, 201) ** 2).tolist()
    x = sde.simulate(process, torch.full((6000, 1), 1.3), times, generator=seeded(0))
    end = process.kernel(torch.tensor([[1.3]]), 1.0)
    about(x, end.mean.item(), 4)
    about((x - end.mean) ** 2 / end.variance, 1.0, 4)


@FEW
@given(drawn, drawn, st.floats(0.02, 4.0))
def test_all_processes_have_one_law_at_equal_level(one, other, level):
    x0, scaled = draws((1, 3)), []
    for process in (one, other):
        if level > process.level(1.0):
            return
        t = process.time(level)
        kernel, mixed = process.kernel(x0, t), process.marginal(FLAT, t)
        alpha = process.scale(t)
        scaled.append([kernel.mean / alpha, kernel.stddev / alpha, mixed.means / alpha, mixed.scale / alpha])
    for a, b in zip(*scaled, strict=True):
        close(a, b, 1e-11)
    close(scaled[0][1], torch.full((1, 3), level), 1e-11)
    close(scaled[0][3], FLAT.noised(level).scale, 1e-11)


@named
@pytest.mark.parametrize("power", [1.0, 3.0, 7.0])
def test_the_schedule_spaces_a_power_of_the_level_evenly(process, power):
    times, first = process.schedule(5, 0.07, power=power), process.level(1.0)
    k = np.arange(6) / 5
    levels = (first ** (1 / power) + k * (0.07 ** (1 / power) - first ** (1 / power))) ** power
    close(process.level(torch.tensor(times)), torch.from_numpy(levels), 1e-10)
    assert times[0] == 1
    assert all(isinstance(t, float) for t in times)
    close(process.level(times[-1]), 0.07)
    assert (np.diff(times) < 0).all()
    assert process.schedule(5, 0.07) == process.schedule(5, 0.07, power=7.0)
    assert len(process.schedule(1, 0.07)) == 2
    close(process.level(torch.tensor(process.schedule(4, 0.1, power=1e7))).log().diff().std(), 0.0, 1e-5)


@named
def test_the_score_at_a_level_is_that_of_the_marginal(process):
    score, x = process.at_level(lambda x, level: FLAT.noised(level).score(x)), draws((4, 2))
    for t in (0.05, 0.5, 1.0):
        close(score(x, t), process.marginal(FLAT, t).score(x), 1e-10)
        close(score_of(process, FLAT)(x, t), process.marginal(FLAT, t).score(x), 1e-10)

    def normal(x, level):  # of data of variance 0.7, as `ScoreModel` has it
        return -x / (0.7 + torch.as_tensor(level).reshape(-1, 1) ** 2)

    t = torch.tensor([0.1, 0.4, 0.9, 1.0])
    each = process.at_level(normal)(x, t)
    for k in range(4):
        close(each[k], process.at_level(normal)(x, t[k].item())[k])


@named
def test_times_outside_are_refused_by_name(process):
    x = draws((2, 2))
    asks = [process.scale, process.deviation, process.rate, process.size, process.level, process.log_snr]
    asks += [lambda t: process.drift(x, t), lambda t: process.noise(x, t)]
    for ask in asks:
        for bad in NO_TIMES:
            with pytest.raises(ValueError, match=r"^t must lie in \[0, 1\], got " + re.escape(repr(bad))):
                ask(bad)
        with pytest.raises(ValueError, match=r"^t must lie in \[0, 1\], got from 0.5 to 1.5$"):
            ask(torch.tensor([0.5, 1.5]))
        with pytest.raises(ValueError, match=r"^t must lie in \[0, 1\], got from -0.25 to -0.25$"):
            ask(torch.tensor(-0.25))
    with pytest.raises(ValueError, match=r"^t must lie in \[0, 1\], got 2"):
        process.kernel(x, 2.0)
    with pytest.raises(ValueError, match="^t must be"):
        process.kernel(x, 0.0)
    for bad in (-1.0, math.nan, math.inf, None, True, "1"):
        with pytest.raises(ValueError, match="^level must be a"):
            process.time(bad)
    with pytest.raises(ValueError, match="^level must be at least 0, got -0.5"):
        process.time(torch.tensor([1.0, -0.5]))
    last = process.level(1.0)
    for bad in (1.01 * last, torch.tensor([0.5, 1.01]) * last):
        with pytest.raises(
            ValueError, match=f"^level must not be above that at t = 1, got {1.01 * last:.6g}"
        ):
            process.time(bad)
    assert process.time(last * (1 + 1e-8)) == 1  # by rounding


@named
def test_schedules_that_do_not_fall_are_refused(process):
    for bad in NO_COUNTS:
        with pytest.raises(ValueError, match="^steps must be a whole number"):
            process.schedule(bad, 0.1)
    for bad in NO_NUMBERS_ABOVE_0:
        with pytest.raises(ValueError, match="^last must be"):
            process.schedule(3, bad)
        with pytest.raises(ValueError, match="^power must be"):
            process.schedule(3, 0.1, power=bad)
    for bad in (process.level(1.0), 1e4):
        with pytest.raises(ValueError, match="^last must be below the level at t = 1, "):
            process.schedule(3, bad)


@pytest.mark.parametrize(
    "kind",
    [sde.VarianceExploding, sde.VariancePreserving, sde.SubVariancePreserving],
    ids=lambda k: k.__name__,
)
def test_noise_that_does_not_grow_is_refused(kind):
    for bad in NO_NUMBERS_ABOVE_0:
        with pytest.raises(ValueError, match="^first must be"):
            kind(bad, 1.0)
        with pytest.raises(ValueError, match="^last must be"):
            kind(1.0, bad)
    with pytest.raises(ValueError, match="^first must be below last, so that noise grows, got 2.0 and 1.0"):
        kind(2.0, 1.0)
    if kind is sde.VarianceExploding:
        with pytest.raises(ValueError, match="^first must be below last"):
            kind(1.0, 1.0)
    for name in ("rate", "size", "time", "scale", "deviation"):
        with pytest.raises(NotImplementedError):
            getattr(sde.Noising(), name)(0.5)


# The probability flow


def bend(x, t):
    return math.cos(3 * t) * x.sin() - 0.5 * t * x


def by_scipy(field, x, start, end, tolerance=1e-12, **more):
    def flat(t, v):
        return field(torch.from_numpy(v).reshape(x.shape), t).numpy().ravel()

    run = solve_ivp(flat, (start, end), x.numpy().ravel(), rtol=tolerance, atol=tolerance, **more)
    return torch.from_numpy(run.y[:, -1].copy()).reshape(x.shape), run


def orders(solver, sizes, exact):
    errors = torch.stack([(solver(n) - exact).abs().mean() for n in sizes])
    assert (errors > 1e-11).all()  # no rounding
    return -errors.log2().diff() / math.log2(sizes[1] / sizes[0])


@named
def test_the_probability_flow_is_its_formula(process):
    score, x = score_of(process, FLAT), draws((5, 2))
    flow = sde.ProbabilityFlow(process, score)
    close(flow(x, 0.3), process.rate(0.3) * x - process.size(0.3) ** 2 / 2 * score(x, 0.3))
    assert flow.process is process
    ornstein = sde.ProbabilityFlow(sde.OrnsteinUhlenbeck(1.3, 0.8), lambda x, t: -x / 0.8)
    close(ornstein(x, 0.4), torch.zeros(5, 2))  # at rest nothing flows


@named
def test_the_flow_carries_the_density(process):
    """∂p/∂t + ∇·(v p) = 0, by derivatives in x and t."""
    t, x = torch.tensor(0.35, requires_grad=True), draws((9, 1), 2, 1.5).requires_grad_()
    alpha, sigma = process.scale(t), process.deviation(t)
    p = law(x, alpha * START.means.T, (alpha**2 * START.scale**2 + sigma**2).sqrt(), START.weights)
    flow = sde.ProbabilityFlow(
        process, lambda x, t: torch.autograd.grad(p.log().sum(), x, create_graph=True)[0]
    )
    flux = flow(x, 0.35)[:, 0] * p
    speed = torch.stack([torch.autograd.grad(value, t, retain_graph=True)[0] for value in p])
    close(speed, -torch.autograd.grad(flux.sum(), x)[0][:, 0], 1e-8)


def test_the_probability_flow_names_what_is_wrong_with_a_score():
    process, x = PROCESSES["preserving"], draws((3, 2))
    with pytest.raises(ValueError, match=re.escape("score must return shape (3, 2), got (3, 1)")):
        sde.ProbabilityFlow(process, lambda x, t: x[:, :1])(x, 0.5)
    with pytest.raises(ValueError, match="^score must return shape"):
        sde.ProbabilityFlow(process, lambda x, t: None)(x, 0.5)
    for bad in (math.nan, math.inf):
        with pytest.raises(RuntimeError, match="^the score is not finite at t = 0.125$"):
            sde.ProbabilityFlow(process, lambda x, t, bad=bad: x.where(x < 0.5, bad))(x + 1, 0.125)


@pytest.mark.parametrize("event", EVENTS)
def test_a_step_of_each_method_by_hand(event):
    x, t, h = draws((3, *event)), 0.2, 0.15
    k1 = bend(x, t)
    close(sde.solve(bend, x, [t, t + h], "euler"), x + h * k1)
    heun = x + h / 2 * (k1 + bend(x + h * k1, t + h))
    close(sde.solve(bend, x, [t, t + h], "heun"), heun)
    close(sde.solve(bend, x, [t, t + h]), heun)
    k2 = bend(x + h / 2 * k1, t + h / 2)
    k3 = bend(x + h / 2 * k2, t + h / 2)
    k4 = bend(x + h * k3, t + h)
    close(sde.solve(bend, x, [t, t + h], "rk4"), x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))


@pytest.mark.parametrize("method", METHODS)
def test_solve_keeps_its_input_and_tells_each_step(method):
    x, times, seen, asked = draws((3, 2)), [0.9, 0.5, 0.1], [], []
    before = x.clone()

    def field(x, t):
        asked.append(t)
        return bend(x, t)

    end = sde.solve(field, x.requires_grad_(), times, method, lambda *now: seen.append(now))
    assert torch.equal(x, before)
    assert not end.requires_grad
    assert [now[:2] for now in seen] == [(1, 0.5), (2, 0.1)]
    assert torch.equal(seen[-1][2], end)
    close(seen[0][2], sde.solve(bend, x, times[:2], method))
    close(end, sde.solve(bend, seen[0][2], torch.tensor(times[1:]), method))
    assert len(asked) == 2 * {"euler": 1, "heun": 2, "rk4": 4}[method]
    assert set(asked) - {0.7, 0.5 + (0.1 - 0.5) / 2} <= set(times)  # the ends of a step are the very times
    assert sde.solve(bend, x.detach().float(), times, method).dtype == torch.float32


@pytest.fixture(scope="module")
def followed(double):
    """Two fields, their times, and where points then are."""
    x, process = draws((20, 2), 1, 2.0), PROCESSES["even"]
    flow = sde.ProbabilityFlow(process, score_of(process, FLAT))
    return x, [
        (bend, 0.0, 2.0, [40, 80], by_scipy(bend, x, 0.0, 2.0)[0]),
        (flow, 1.0, 0.1, [30, 60], sde.solve(flow, x, torch.linspace(1, 0.1, 201), "rk4")),
    ]


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_the_methods_have_their_orders(method, order, followed):
    x, cases = followed
    for field, start, end, sizes, exact in cases:
        slopes = orders(
            lambda n, f=field, a=start, b=end: sde.solve(f, x, torch.linspace(a, b, n + 1), method),
            sizes,
            exact,
        )
        close(slopes, torch.tensor([float(order)]), 0.15)


def test_backward_and_forward_is_a_round_trip():
    x = draws((6, 2))
    for process in map(PROCESSES.get, KINDS):
        flow, times = sde.ProbabilityFlow(process, score_of(process, FLAT)), process.schedule(20, 0.1)
        noised = sde.solve(flow, x, times[::-1], "rk4")
        assert (noised - x).abs().mean() > 0.3
        close(sde.solve(flow, noised, times, "rk4"), x, 3e-3)


def test_all_processes_flow_along_the_same_paths():
    x, ends = draws((6, 2), 3, 3.0), []
    for process in (PROCESSES["exploding"], PROCESSES["preserving"], PROCESSES["sub"]):
        flow, times = sde.ProbabilityFlow(process, score_of(process, FLAT)), process.schedule(60, 0.1)
        start = process.time(3.0)
        times = [start, *(t for t in times if t < start)]
        ends.append(sde.solve(flow, process.scale(start) * x, times, "rk4") / process.scale(times[-1]))
    close(ends[0], ends[1], 1e-6)
    close(ends[0], ends[2], 1e-6)


def test_solve_agrees_with_scipy():
    x, process = draws((4, 2, 1)), PROCESSES["preserving"]

    def field(x, t):
        return sde.ProbabilityFlow(process, score_of(process, FLAT))(x[..., 0], t)[..., None]

    exact, _ = by_scipy(field, x, 0.1, 1.0, 1e-9)
    close(sde.solve(field, x, torch.linspace(0.1, 1, 61), "rk4"), exact, 1e-6)


@pytest.mark.parametrize(("start", "end"), [(0.0, 2.0), (2.0, 0.5), (-1, 1)])
def test_integrate_is_scipys_method_and_counts(start, end):
    x, asked = draws((4, 2, 3)), []

    def field(x, t):
        assert x.shape[1:] == (2, 3)
        asked.append(t)
        return bend(x, t)

    for tolerance in (1e-3, 1e-8):
        asked.clear()
        before = x.clone()
        ours, calls = sde.integrate(field, x, start, end, tolerance=tolerance)
        assert calls == len(asked)
        assert torch.equal(x, before)
        theirs, run = by_scipy(bend, x, start, end, tolerance)
        assert calls == run.nfev
        close(ours, theirs)
        close(ours, by_scipy(bend, x, start, end)[0], 100 * tolerance)
    assert sde.integrate(bend, x, start, end)[1] == by_scipy(bend, x, start, end, 1e-5)[1].nfev
    assert sde.integrate(bend, x, start, end, tolerance=1e-8, calls=calls)[1] == calls
    with pytest.raises(
        RuntimeError,
        match=f"^{calls - 1} calls do not lead from t = {start:g} to {end:g}: it is at {asked[-1]:.6g}",
    ):
        sde.integrate(bend, x, start, end, tolerance=1e-8, calls=calls - 1)
    low, _ = sde.integrate(bend, x.float(), start, end)
    assert low.dtype == torch.float32
    assert not sde.integrate(bend, x.clone().requires_grad_(), start, end)[0].requires_grad


def failing(from_t, value=math.nan):
    return lambda x, t: torch.full_like(x, value) if t >= from_t else -x


def test_flows_name_where_a_field_is_not_finite():
    x = draws((3, 2))
    for value in (math.nan, math.inf):
        with pytest.raises(RuntimeError, match="^the field is not finite at step 3 of 4, t = 0.5$"):
            sde.solve(failing(0.5, value), x, [0.0, 0.1, 0.3, 0.5, 1.0])
        with pytest.raises(RuntimeError, match="^the field is not finite at call 1, t = 0.7$"):
            sde.integrate(failing(0.5, value), x, 0.7, 0.0)
    with pytest.raises(RuntimeError, match="^the flow from t = 0 to 5 cannot be followed: "):
        sde.integrate(lambda x, t: x**2, torch.ones(1, 1), 0.0, 5.0)  # it is infinite at t = 1


def test_flows_refuse():
    x, base = draws((3, 2)), Independent(Normal(torch.zeros(2), 1.0), 1)
    for bad, says in NO_BATCHES:
        for call in (
            lambda x: sde.solve(bend, x, [0.0, 1.0]),
            lambda x: sde.integrate(bend, x, 0.0, 1.0),
            lambda x: sde.log_prob(bend, x, [0.0, 1.0], base),
        ):
            with pytest.raises(ValueError, match=f"^x {re.escape(says)}"):
                call(bad)
    for bad in ([0.0, 0.0], [0.0, 1.0, 0.5], [1.0], [], [[0.0, 1.0]], [1.0, 0.5, 0.5]):
        for call in (lambda t: sde.solve(bend, x, t), lambda t: sde.log_prob(bend, x, t, base), monotone):
            with pytest.raises(
                ValueError, match="^times must hold at least two numbers that all rise or all fall"
            ):
                call(bad)
    with pytest.raises(ValueError, match="^times must hold finite numbers"):
        sde.solve(bend, x, [0.0, math.nan])
    assert monotone(torch.tensor([1, 0])) == [1.0, 0.0]
    for bad in ("midpoint", None, 4, "RK4"):
        with pytest.raises(ValueError, match="^method must be one of euler, heun, rk4, got "):
            sde.solve(bend, x, [0.0, 1.0], bad)
        with pytest.raises(ValueError, match="^method must be one of euler, heun, rk4, got "):
            sde.log_prob(bend, x, [0.0, 1.0], base, method=bad)
    with pytest.raises(ValueError, match=re.escape("field must return shape (3, 2), got (2,)")):
        sde.solve(lambda x, t: x[0], x, [0.0, 1.0])
    with pytest.raises(ValueError, match=re.escape("field must return shape (3, 2), got (2,)")):
        sde.integrate(lambda x, t: x[0], x, 0.0, 1.0)
    for bad in NO_NUMBERS_ABOVE_0:
        with pytest.raises(ValueError, match="^tolerance must be"):
            sde.integrate(bend, x, 0.0, 1.0, tolerance=bad)
    for bad in NO_COUNTS:
        with pytest.raises(ValueError, match="^calls must be a whole number"):
            sde.integrate(bend, x, 0.0, 1.0, calls=bad)
        with pytest.raises(ValueError, match="^count must be a whole number"):
            sde.signs(bad, x)
    with pytest.raises(ValueError, match="^start and end must differ, got 0.5 twice"):
        sde.integrate(bend, x, 0.5, 0.5)
    for name, times in (("start", (math.nan, 1.0)), ("end", (0.0, None))):
        with pytest.raises(ValueError, match=f"^{name} must be a finite number"):
            sde.integrate(bend, x, *times)
    for bad in (torch.ones(3, 2), torch.ones(1, 3, 1), torch.ones(1, 2, 2), [1.0], 3):
        with pytest.raises(ValueError, match=re.escape("probes must have shape (P, 3, 2)")):
            sde.log_prob(bend, x, [0.0, 1.0], base, probes=bad)


# Divergence and likelihood


def a_field(event, seed=0):
    net = a_net(event, seed)
    return lambda x, t: (1 + t) * net(x) + t * x


@pytest.mark.parametrize("event", EVENTS)
def test_the_divergence_is_the_trace_of_the_jacobian(event):
    field, x, size = a_field(event), draws((4, *event), 1), math.prod(event)
    velocity, spread = sde.divergence(field, x, 0.3)
    assert spread.shape == (4,)
    close(velocity, field(x, 0.3))
    for k in range(4):
        jacobian = torch.func.jacrev(lambda one: field(one[None], 0.3)[0])(x[k])
        close(spread[k], jacobian.reshape(size, size).trace())


@pytest.mark.parametrize("event", EVENTS)
def test_probes_are_right_in_the_mean(event):
    field, x, size = a_field(event), draws((3, *event), 1), math.prod(event)
    every = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=size))).reshape(-1, 1, *event)
    velocity, spread = sde.divergence(field, x, 0.3, every.expand(-1, 3, *event))
    exact = sde.divergence(field, x, 0.3)[1]
    close(velocity, field(x, 0.3))
    close(spread, exact)
    probes = sde.signs(2, x, seeded(4))
    alone = [sde.divergence(field, x, 0.3, probes[k : k + 1])[1] for k in range(2)]
    close(sde.divergence(field, x, 0.3, probes)[1], (alone[0] + alone[1]) / 2)
    for k in range(3):
        jacobian = torch.func.jacrev(lambda one: field(one[None], 0.3)[0])(x[k]).reshape(size, size)
        v = probes[0, k].flatten()
        close(alone[0][k], v @ jacobian @ v)


def test_the_divergence_of_what_draws_is_refused():
    with pytest.raises(RuntimeError, match="random"):
        sde.divergence(lambda x, t: x * torch.randn(2), draws((3, 2)), 0.3)


def test_signs_come_from_the_generator():
    x = draws((3, 2, 2)).float()
    state = torch.get_rng_state()
    probes = sde.signs(50, x, seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(probes, sde.signs(50, x, seeded(1)))
    assert not torch.equal(probes, sde.signs(50, x, seeded(2)))
    assert probes.shape == (50, 3, 2, 2)
    assert probes.dtype == torch.float32
    assert set(probes.flatten().tolist()) == {-1.0, 1.0}
    about(probes.double(), 0.0)


def standard(event, deviation=1.0):
    return Independent(Normal(torch.zeros(event), deviation), len(event))


@pytest.mark.parametrize("event", [(2,), (2, 2), (1, 2, 2)])
@pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.2)])
def test_log_prob_of_a_linear_field_is_exact(event, times):
    """Along dx/dt = A x the density gains exp(tr A) for each unit of time."""
    size = math.prod(event)
    A, x, duration = draws((size, size), 1, 0.5), draws((5, *event)), times[1] - times[0]
    grid, before = torch.linspace(*times, 31), x.clone()
    ours = sde.log_prob(lambda x, t: (x.flatten(1) @ A.T).reshape(x.shape), x, grid, standard(event, 1.3))
    end = (x.flatten(1) @ torch.linalg.matrix_exp(A * duration).T).reshape(x.shape)
    close(ours, standard(event, 1.3).log_prob(end) + duration * A.trace(), 1e-6)
    assert torch.equal(x, before)
    probes = sde.signs(1, x, seeded(0))
    v = probes[0].flatten(1)
    hidden = sde.log_prob(
        lambda x, t: (x.flatten(1) @ A.T).reshape(x.shape), x, grid, standard(event, 1.3), probes=probes
    )
    close(hidden - ours, duration * ((v @ A * v).sum(1) - A.trace()), 1e-10)


def test_a_field_that_draws_points_together_backward_gives_higher_density():
    """From the data outward a field that expands: the data lie closer together than their noise."""
    at, times = torch.zeros(1, 3), torch.linspace(0, 1, 21)
    denser = sde.log_prob(lambda x, t: 2 * x, at, times, standard((3,)))
    thinner = sde.log_prob(lambda x, t: -2 * x, at, times, standard((3,)))
    known = standard((3,)).log_prob(at)
    close(denser - known, torch.tensor([6.0]))
    close(thinner - known, torch.tensor([-6.0]))


@pytest.mark.parametrize("process", [PROCESSES[name] for name in KINDS], ids=KINDS)
def test_log_prob_of_a_mixture_is_exact(process):
    x, levels = draws((6, 2), 1, 1.5), torch.linspace(math.log(0.5), math.log(process.level(1.0)), 15).exp()
    times = [*process.time(levels).tolist()[:-1], 1.0]
    now = process.marginal(FLAT, times[0])
    flow = sde.ProbabilityFlow(process, score_of(process, FLAT))
    close(sde.log_prob(flow, x, times, process.marginal(FLAT, 1.0)), now.log_prob(x), 1e-4)


def test_log_prob_of_normal_data_is_exact():
    process, start, x = PROCESSES["preserving"], GaussianMixture([[0.0, 0.0]], 0.7), draws((6, 2), 1, 1.5)
    flow = sde.ProbabilityFlow(
        process, lambda x, t: -x / (0.49 * process.scale(t) ** 2 + process.deviation(t) ** 2)
    )
    ours = sde.log_prob(flow, x, torch.linspace(0, 1, 31), process.marginal(start, 1.0))
    close(ours, start.log_prob(x), 1e-6)


def test_log_prob_is_a_density():
    x, h = line(-12, 12, 401)
    p = sde.log_prob(a_field((1,), 3), x, torch.linspace(0, 1, 21), standard((1,), 0.8)).exp()
    close(h * p.sum(), 1.0, 1e-6)
    assert (p - standard((1,), 0.8).log_prob(x).exp()).abs().max() > 0.05
    ours = sde.log_prob(
        lambda x, t: -x, x.float(), [0.0, 0.5, 1.0], Independent(Normal(torch.zeros(1).float(), 1.0), 1)
    )
    assert ours.dtype == torch.float32
    assert not ours.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_log_prob_follows_the_point_and_the_density_by_one_method(method):
    field, x, times = a_field((2,)), draws((3, 2)), [0.0, 0.3, 1.0]
    ours = sde.log_prob(field, x, times, standard((2,)), method=method)
    close(
        sde.log_prob(field, x, times, standard((2,))),
        sde.log_prob(field, x, times, standard((2,)), method="rk4"),
    )
    if method == "euler":
        middle = x + 0.3 * field(x, 0.0)
        end = middle + 0.7 * field(middle, 0.3)
        gain = 0.3 * sde.divergence(field, x, 0.0)[1] + 0.7 * sde.divergence(field, middle, 0.3)[1]
        close(ours, standard((2,)).log_prob(end) + gain)
    else:
        fine = sde.log_prob(field, x, torch.linspace(0, 1, 13), standard((2,)), method=method)
        close(ours, fine, {"heun": 1.0, "rk4": 0.1}[method])


# Backward


@named
@pytest.mark.parametrize("event", EVENTS)
def test_the_clean_mean_is_that_of_bayes(process, event):
    x0, x = draws((3, *event)), draws((3, *event), 1)
    for t in (0.2, 1.0):
        a, s = process.scale(t), process.deviation(t)
        close(cleaned(process, to_point(process, x0), x, t), x0, 1e-10)
        data = cleaned(process, lambda x, t, a=a, s=s: -x / (0.49 * a**2 + s**2), x, t)
        close(data, 0.49 * a * x / (0.49 * a**2 + s**2), 1e-10)


@FEW
@given(drawn, st.floats(0.05, 0.45), st.floats(0.5, 1.0), st.sampled_from([0.0, 0.3, 1.0, 1.7]), SEEDS)
def test_a_step_is_exact_in_law_where_the_data_are_known(process, end, t, eta, seed):
    x0, x = draws((1, 2), seed), draws((4, 2), seed + 1)

    def step(x):
        return sde.exponential(
            process, to_point(process, x0), x, [t, end], noise=eta, order=1, generator=seeded(seed)
        )

    a, b, q = process.scale(t), process.scale(end), process.level(end) / process.level(t)
    eps = torch.randn(x.shape, generator=seeded(seed))
    kept, kick = q ** (1 + eta**2), process.level(end) * math.sqrt(1 - q ** (2 * eta**2))
    close(step(x), b * (x0 + kept * (x / a - x0) + kick * eps), 1e-10)
    fed = (step(x + 1) - step(x)).mean()  # and the law: a crowd of the kernel at t becomes that at the end
    still = step((a * x0).expand(4, 2)) - b * x0
    size = (still / eps).mean() if eta else torch.tensor(0.0)
    close(fed**2 * process.deviation(t) ** 2 + size**2, process.deviation(end) ** 2, 1e-9)


@pytest.mark.parametrize(
    "process", [PROCESSES["exploding"], PROCESSES["preserving"]], ids=["exploding", "preserving"]
)
def test_the_exponential_solver_has_its_orders(process):
    score, x = score_of(process, FLAT), draws((20, 2), 1) * process.deviation(1.0)
    flow = sde.ProbabilityFlow(process, score)
    exact = sde.solve(flow, x, process.schedule(80, 0.2, power=1e3), "rk4")
    for order in (1, 2):

        def solver(n, order=order):
            return sde.exponential(process, score, x, process.schedule(n, 0.2, power=1e3), order=order)

        close(orders(solver, [30, 60], exact), torch.tensor([float(order)]), 0.15)


@named
def test_the_second_order_by_hand(process):
    score, x, times = score_of(process, FLAT), draws((4, 2)), [1.0, 0.6, 0.45, 0.1]
    seen = []
    ours = sde.exponential(process, score, x, times, after=lambda *now: seen.append(now))
    y, lam = x / process.scale(1.0), [-math.log(process.level(t)) for t in times]  # λ = −log κ
    means = []
    for k in range(3):
        means.append(cleaned(process, score, y * process.scale(times[k]), times[k]))
        h = lam[k + 1] - lam[k]
        D = means[k]
        if k:
            r = (lam[k] - lam[k - 1]) / h
            D = (1 + 1 / (2 * r)) * means[k] - means[k - 1] / (2 * r)
        y = math.exp(-h) * y - math.expm1(-h) * D
        assert seen[k][:2] == (k + 1, times[k + 1])
        close(seen[k][2], process.scale(times[k + 1]) * y, 1e-10)
    close(ours, process.scale(0.1) * y, 1e-10)


def test_noise_of_one_is_ancestral_sampling():
    """The posterior of Ho et al. 2020 for the steps between four times, with the same random numbers."""
    process, times, x = PROCESSES["preserving"], [1.0, 0.7, 0.5, 0.2], draws((5, 2))
    score = score_of(process, FLAT)
    ours = sde.exponential(process, score, x, times, order=1, noise=1.0, generator=seeded(3))
    generator = seeded(3)
    for t, s in itertools.pairwise(times):
        kept_t, kept_s = process.scale(t) ** 2, process.scale(s) ** 2  # ᾱ
        beta = 1 - kept_t / kept_s
        x0 = cleaned(process, score, x, t)
        mean = (
            math.sqrt(kept_s) * beta / (1 - kept_t) * x0
            + math.sqrt(1 - beta) * (1 - kept_s) / (1 - kept_t) * x
        )
        x = mean + math.sqrt((1 - kept_s) / (1 - kept_t) * beta) * torch.randn(5, 2, generator=generator)
    close(ours, x)


@named
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("order", [1, 2])
def test_a_last_time_of_zero_ends_at_the_clean_mean(process, eta, order):
    score, x = score_of(process, FLAT), draws((4, 2))
    run = {"order": order, "noise": eta}
    before = sde.exponential(process, score, x, [1.0, 0.5, 0.3], generator=seeded(1), **run)
    end = sde.exponential(process, score, x, [1.0, 0.5, 0.3, 0.0], generator=seeded(1), **run)
    close(end, cleaned(process, score, before, 0.3))


SOLVERS = {
    "exponential": lambda *given, **more: sde.exponential(*given, [1.0, 0.6, 0.1], noise=0.5, **more),
    "predictor_corrector": lambda *given, **more: sde.predictor_corrector(*given, [1.0, 0.6, 0.1], **more),
    "adaptive": lambda *given, **more: sde.adaptive(*given, 0.1, tolerance=0.3, **more)[0],
}


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_solvers_draw_from_the_generator_and_keep_their_input(solver):
    process = PROCESSES["preserving"]
    for dtype in (torch.float32, REAL):
        x = draws((3, 2, 2)).to(dtype).requires_grad_()
        before, state = x.clone(), torch.get_rng_state()
        one, again, other = (
            solver(process, lambda x, t: -x, x, generator=seeded(seed)) for seed in (1, 1, 2)
        )
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(x, before)
        assert one.shape == x.shape
        assert one.dtype == dtype
        assert not one.requires_grad
    torch.manual_seed(5)
    one = solver(process, lambda x, t: -x, x)
    assert not torch.equal(one, solver(process, lambda x, t: -x, x))
    torch.manual_seed(5)
    assert torch.equal(one, solver(process, lambda x, t: -x, x))


@named
@pytest.mark.parametrize("corrections", [0, 1, 2])
def test_predictor_and_corrector_by_hand(process, corrections):
    x, times, seen, asked = draws((4, 2, 1)), [1.0, 0.6, 0.5], [], []

    def score(x, t):
        asked.append(t)
        return -x / (0.3 + t) + x.sin()

    ours = sde.predictor_corrector(
        process, score, x, times, snr=0.2, corrections=corrections, generator=seeded(2),
        after=lambda *now: seen.append(now),
    )  # fmt: skip
    assert asked == [1.0, *[0.6] * corrections, 0.6, *[0.5] * corrections]
    generator = seeded(2)
    for k in (1, 2):
        t, end = times[k - 1], times[k]
        h, g, a = t - end, process.size(t), process.rate(t)
        x = x - h * a * x + h * g**2 * score(x, t) + g * h**0.5 * torch.randn(4, 2, 1, generator=generator)
        for _ in range(corrections):
            s, z = score(x, end), torch.randn(4, 2, 1, generator=generator)
            ratio = z.reshape(4, 2).norm(dim=1).mean() / s.reshape(4, 2).norm(dim=1).mean()
            step = 2 * (0.2 * ratio) ** 2
            x = x + step * s + (2 * step) ** 0.5 * z
        assert seen[k - 1][:2] == (k, end)
        close(seen[k - 1][2], x, 1e-11)
    close(ours, x, 1e-11)
    if corrections == 1:
        usual = sde.predictor_corrector(process, score, ours, times, generator=seeded(2))
        again = sde.predictor_corrector(
            process, score, ours, times, snr=0.16, corrections=1, generator=seeded(2)
        )
        assert torch.equal(usual, again)


@named
def test_one_adaptive_step_by_hand(process):
    score, x, h = score_of(process, FLAT), draws((4, 2)), 0.005
    ours, asked = sde.adaptive(process, score, x, 1 - h, tolerance=10.0, generator=seeded(1))
    assert asked == 3
    z = torch.randn(4, 2, generator=seeded(1)) * math.sqrt(h)

    def back(x, t):
        return -process.rate(t) * x + process.size(t) ** 2 * score(x, t)

    g, late = process.size(1.0), process.size(1 - h)
    euler = x + h * back(x, 1.0) + g * z
    close(ours, x + h / 2 * (back(x, 1.0) + back(euler, 1 - h)) + (g + late) / 2 * z)


def test_adaptive_steps_by_hand():
    """Kept or drawn again by the error, and the length that follows from it, with both of its bounds."""
    process, factors, kept = PROCESSES["preserving"], [], []
    score = score_of(process, FLAT)

    def back(x, t):
        return -process.rate(t) * x + process.size(t) ** 2 * score(x, t)

    for tolerance, end in ((0.5, 0.0), (0.02, 0.7), (2e-5, 0.998)):
        x, generator = 0.5 * draws((5, 2)), seeded(1)
        ours, asked = sde.adaptive(process, score, x, end, tolerance=tolerance, generator=seeded(1))
        s, h, calls = 0.0, 0.01, 1
        while s < 1 - end:
            h = min(h, 1 - end - s)
            t, after = 1 - s, max(1 - s - h, 0.0)
            kick = math.sqrt(h) * torch.randn(5, 2, generator=generator)
            euler = x + h * back(x, t) + process.size(t) * kick
            slope = (back(x, t) + back(euler, after)) / 2
            heun = x + h * slope + (process.size(t) + process.size(after)) / 2 * kick
            error = ((heun - euler).norm() / heun.norm()).item()
            kept.append(error <= tolerance)
            calls += 1 + kept[-1]
            if kept[-1]:
                x, s = heun, s + h
            factors.append(min(5.0, max(0.2, 0.9 * math.sqrt(tolerance / error))))
            h *= factors[-1]
        close(ours, x, 1e-9)
        assert asked == calls
    assert set(kept) == {True, False}
    assert min(factors) == 0.2
    assert max(factors) == 5.0
    with pytest.raises(RuntimeError, match="^1 calls do not lead from t = 1 to 0.995: it is at 1$"):
        sde.adaptive(process, score, x, 0.995, tolerance=9.0, calls=1)


def test_the_adaptive_solver_errs_less_with_a_smaller_tolerance():
    process, start = PROCESSES["preserving"], GaussianMixture(torch.zeros(1, 1), 0.5)
    x = process.marginal(start, 1.0).sample((30_000,), generator=seeded(0))
    errors, costs, asked = [], [], []

    def score(x, t):
        asked.append(t)
        return -x / (0.25 * process.scale(t) ** 2 + process.deviation(t) ** 2)

    for tolerance in (0.5, 0.02):
        asked.clear()
        end, calls = sde.adaptive(process, score, x, 0.0, tolerance=tolerance, generator=seeded(1))
        assert calls == len(asked)
        errors.append(abs(end.std().item() - 0.5))
        costs.append(calls)
    assert errors[1] < 0.01 < errors[0]
    assert costs[1] > 3 * costs[0]
    run = {"tolerance": 0.5, "generator": seeded(1)}
    assert sde.adaptive(process, score, x, 0.0, calls=costs[0], **run)[1] == costs[0]
    half = costs[0] // 2
    with pytest.raises(RuntimeError, match=rf"^{half} calls do not lead from t = 1 to 0: it is at 0\.\d+$"):
        sde.adaptive(process, score, x, 0.0, calls=half, tolerance=0.5, generator=seeded(1))
    for most in range(2, 9):  # it never asks more often than it may
        asked.clear()
        with pytest.raises(RuntimeError, match=f"^{most} calls"):
            sde.adaptive(process, score, x[:50], 0.0, calls=most, generator=seeded(1))
        assert len(asked) <= most


@pytest.mark.parametrize("solver", [sde.exponential, sde.predictor_corrector], ids=lambda s: s.__name__)
def test_solvers_on_given_times_refuse(solver):
    process, x, score = PROCESSES["sub"], draws((3, 2)), lambda x, t: -x
    for bad, says in NO_BATCHES:
        with pytest.raises(ValueError, match=f"^x {re.escape(says)}"):
            solver(process, score, bad, [1.0, 0.5])
    for bad in ([0.5, 1.0], [1.5, 0.5], [0.5, -0.1]):
        with pytest.raises(ValueError, match=r"^times must fall and lie in \[0, 1\], got from "):
            solver(process, score, x, bad)
    for bad in ([1.0], [1.0, 0.5, 0.5], [1.0, 0.5, 0.7], []):
        with pytest.raises(ValueError, match="^times must hold at least two numbers"):
            solver(process, score, x, bad)
    with pytest.raises(ValueError, match=re.escape("score must return shape (3, 2), got (3, 1)")):
        solver(process, lambda x, t: x[:, :1], x, [1.0, 0.5])
    for value in (math.nan, math.inf):
        with pytest.raises(RuntimeError, match="^the score is not finite at t = 0.5$"):
            solver(
                process, lambda x, t, v=value: torch.full_like(x, v) if t <= 0.5 else -x, x, [1.0, 0.5, 0.2]
            )


def test_solvers_refuse_their_own():
    process, x, score = PROCESSES["sub"], draws((3, 2)), lambda x, t: -x
    for bad in (0, 3, 1.5, "2", None):
        with pytest.raises(ValueError, match="^order must be 1 or 2, got "):
            sde.exponential(process, score, x, [1.0, 0.5], order=bad)
    for bad in (-0.1, math.nan, None, "1", True):
        with pytest.raises(ValueError, match="^noise must be"):
            sde.exponential(process, score, x, [1.0, 0.5], noise=bad)
    for bad in NO_NUMBERS_ABOVE_0:
        with pytest.raises(ValueError, match="^snr must be"):
            sde.predictor_corrector(process, score, x, [1.0, 0.5], snr=bad)
        with pytest.raises(ValueError, match="^tolerance must be"):
            sde.adaptive(process, score, x, 0.1, tolerance=bad)
    for bad in (-1, 1.5, None, True):
        with pytest.raises(ValueError, match="^corrections must be a whole number of at least 0"):
            sde.predictor_corrector(process, score, x, [1.0, 0.5], corrections=bad)
    for bad in (1.0, -0.1, math.nan, None):
        with pytest.raises(ValueError, match="^end must"):
            sde.adaptive(process, score, x, bad)
    for bad in NO_COUNTS:
        with pytest.raises(ValueError, match="^calls must be a whole number"):
            sde.adaptive(process, score, x, 0.1, calls=bad)
    for bad, says in NO_BATCHES:
        with pytest.raises(ValueError, match=f"^x {re.escape(says)}"):
            sde.adaptive(process, score, bad, 0.1)
    with pytest.raises(ValueError, match="^score must return shape"):
        sde.adaptive(process, lambda x, t: x[:, :1], x, 0.1)
    with pytest.raises(RuntimeError, match="^the points are not finite after a step to t = 0.99$"):
        sde.adaptive(process, lambda x, t: torch.full_like(x, math.nan), x, 0.1)
    with pytest.raises(ValueError, match="^score must return shape"):
        cleaned(process, lambda x, t: x[:, :1], x, 0.5)
    with pytest.raises(RuntimeError, match="^the score is not finite at t = 0.25$"):
        cleaned(process, lambda x, t: x / 0, x, 0.25)
