"""Mixtures: every probability against its own sum, every step of EM against what it must not lower."""

import math
import re
from itertools import pairwise

import pytest
import torch
from exactness import REAL, close, everything, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlib.data.lattices import states
from genlib.mixture import BernoulliMixture, CategoricalMixture, LevelMixture, Mixture, climb

SOME = settings(max_examples=12, deadline=None)
SEEDS = st.integers(0, 10**6)
SIZES = st.integers(1, 5)
PULLS = st.floats(0.01, 10.0)


def refused(message, job, *args, **kw):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        job(*args, **kw)


def mixture(components=3, dims=4, seed=0):
    draws = torch.rand(components, dims + 1, generator=seeded(seed), dtype=REAL)
    return BernoulliMixture(0.02 + 0.96 * draws[:, 1:], draws[:, 0] / draws[:, 0].sum())


def bits(n=30, dims=4, seed=0):
    return mixture(3, dims, seed + 1).sample((n,), generator=seeded(seed))


def test_one_probability_by_hand():
    model = BernoulliMixture(torch.tensor([[0.5, 0.25], [0.1, 0.9]], dtype=REAL), [0.2, 0.8])
    x = torch.tensor([[1, 0]])
    close(model.log_prob(x).exp(), torch.tensor([0.2 * 0.5 * 0.75 + 0.8 * 0.1 * 0.1], dtype=REAL))
    close(model.responsibilities(x), torch.tensor([[0.075, 0.008]], dtype=REAL) / 0.083)


@SOME
@given(SIZES, SIZES, SEEDS)
def test_all_states_sum_to_one_and_agree_with_torch(components, dims, seed):
    model, x = mixture(components, dims, seed), states(dims)
    coins = torch.distributions.Independent(torch.distributions.Bernoulli(model.probs), 1)
    truth = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(model.weights), coins)
    close(model.log_prob(x).exp().sum(), torch.ones((), dtype=REAL))
    close(model.log_prob(x), truth.log_prob(x.to(REAL)))
    close(model.loss(x), -model.log_prob(x), 0)


@SOME
@given(SIZES, SIZES, SEEDS)
def test_brute_force(components, dims, seed):
    model, x = mixture(components, dims, seed), everything(2, dims)
    joint = [
        [
            w * math.prod(p if bit else 1 - p for p, bit in zip(theta, row, strict=True))
            for w, theta in zip(model.weights.tolist(), model.probs.tolist(), strict=True)
        ]
        for row in x.tolist()
    ]
    joint = torch.tensor(joint, dtype=REAL)
    close(model.log_joint(x), joint.log())
    close(model.responsibilities(x), joint / joint.sum(1, keepdim=True))
    close(model.responsibilities(x).sum(1), torch.ones(len(x), dtype=REAL))


@SOME
@given(SIZES, SIZES, PULLS, SEEDS)
def test_a_step_never_lowers_the_penalised_likelihood(components, dims, pull, seed):
    model, x = mixture(components, dims, seed), bits(20, dims, seed)
    counts = 3 * torch.rand(20, generator=seeded(seed), dtype=REAL)
    before = model.penalised(x, pull, counts=counts)
    for _ in range(5):
        model = model.improved(x, pull, counts=counts)
        after = model.penalised(x, pull, counts=counts)
        assert after >= before - 1e-10 * before.abs()
        before = after


@settings(max_examples=2, deadline=None)
@given(st.floats(0.3, 10.0), SEEDS)
def test_where_steps_end_the_slope_is_zero(pull, seed):
    """At a rest of EM no small change of logits raises the penalised likelihood."""
    x = bits(40, 3, seed)
    model = BernoulliMixture.fit(x, 2, 1000, pull, generator=seeded(seed))
    logits = model.probs.logit().requires_grad_()
    scores = model.weights.clamp(min=1e-300).log().requires_grad_()
    BernoulliMixture(logits.sigmoid(), scores.softmax(0)).penalised(x, pull).backward()
    assert torch.cat([logits.grad.flatten(), scores.grad]).abs().max() < 1e-2


def test_the_step_by_hand():
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], dtype=REAL)
    model, pull, mean = mixture(2, 2), 0.7, torch.tensor([2.5 / 4, 1.5 / 4], dtype=REAL)
    new, r = model.improved(x, pull), model.responsibilities(x)
    for k in range(2):
        total = sum(r[n, k] * x[n] for n in range(3))
        close(new.probs[k], (total + pull * mean) / (r[:, k].sum() + pull))
        close(new.weights[k], r[:, k].sum() / 3)


@SOME
@given(SIZES, PULLS, SEEDS)
def test_one_component_is_independent_coins(dims, pull, seed):
    x = bits(15, dims, seed)
    mean = (x.sum(0) + 0.5) / 16
    model = BernoulliMixture.fit(x, 1, 1, pull)
    close(model.probs[0], (x.sum(0) + pull * mean) / (15 + pull))
    coins = stats.bernoulli(model.probs[0].numpy()).logpmf(x.numpy()).sum(1)
    close(model.log_prob(x), torch.tensor(coins))


def test_counts_are_repetitions():
    x, counts = bits(12), torch.arange(12) % 3
    again = x.repeat_interleave(counts, 0)
    close(
        mixture().improved(x, 0.5, counts=counts).probs,
        mixture().improved(again, 0.5).probs,
    )
    close(mixture().penalised(x, 0.5, counts=counts), mixture().penalised(again, 0.5))


def test_a_known_mixture_is_recovered():
    truth = BernoulliMixture(
        torch.tensor([[0.9, 0.9, 0.9, 0.1, 0.1, 0.1], [0.1, 0.2, 0.1, 0.8, 0.9, 0.7]], dtype=REAL), [0.3, 0.7]
    )
    x = truth.sample((20_000,), generator=seeded())
    found = BernoulliMixture.fit(x, 2, 80, generator=seeded(1))
    order = found.weights.argsort()
    close(found.probs[order], truth.probs, 0.02)
    close(found.weights[order], truth.weights, 0.02)
    listed = states(6)
    gap = truth.log_prob(listed) - found.log_prob(listed)
    assert (truth.log_prob(listed).exp() * gap).sum() < 0.002  # nats


def test_draws_have_the_exact_law():
    model, x = mixture(), states(4)
    drawn = model.sample((20_000,), generator=seeded(1)).long()
    counts = torch.bincount(drawn @ torch.tensor([8, 4, 2, 1]), minlength=16)
    expected = 20_000 * model.log_prob(x).exp()
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 0.01


def test_generators_dtypes_and_no_global_state():
    x, before = bits(), torch.get_rng_state()
    first, second = (BernoulliMixture.fit(x, 3, generator=seeded(5)) for _ in range(2))
    close(first.probs, second.probs, 0)
    assert first.sample((3,), generator=seeded()).dtype == first.probs.dtype == REAL
    for kind in (torch.int64, torch.bool, torch.float32):
        assert BernoulliMixture.fit(x.to(kind), 2, generator=seeded()).probs.dtype == torch.float32
    assert torch.equal(torch.get_rng_state(), before)
    assert first.event_shape == (4,)


def test_fit_is_steps_of_improved():
    x = bits()
    start = BernoulliMixture.fit(x, 3, 0, generator=seeded(2))
    close(
        BernoulliMixture.fit(x, 3, 2, 0.3, generator=seeded(2)).probs,
        start.improved(x, 0.3).improved(x, 0.3).probs,
    )
    mean = (x.sum(0) + 0.5) / 31
    rows = (start.probs - 0.75 * mean) / 0.25
    assert all((x - row).abs().sum(1).min() < 1e-12 for row in rows)


def test_rows_that_do_not_count_start_no_component():
    x, counts = states(4), torch.zeros(16)
    counts[[3, 9]] = 2.0
    model = BernoulliMixture.fit(x, 2, 0, counts=counts)
    distances = (model.probs[:, None] - x[[3, 9]]).abs().sum(2)
    assert distances.argmin(0).sort().values.tolist() == [0, 1]
    refused("components must be at most the 2 rows", BernoulliMixture.fit, x, 3, counts=counts)


def test_a_component_without_rows_stays_possible():
    model = BernoulliMixture(torch.tensor([[0.5, 0.5], [0.2, 0.2]], dtype=REAL), [1.0, 0.0])
    x = states(2)
    assert torch.isfinite(model.log_prob(x)).all()
    new = model.improved(x)
    close(new.weights, torch.tensor([1.0, 0.0], dtype=REAL))
    close(new.probs[1], torch.full((2,), 0.5, dtype=REAL))


def test_what_is_refused():
    model, x = mixture(), bits()
    for job in (model.log_prob, model.responsibilities, model.loss, model.improved, model.penalised):
        refused("x must hold only 0 and 1, got 0.5", job, torch.full((2, 4), 0.5))
    refused("x must hold only 0 and 1, got 2.0", BernoulliMixture.fit, 2 * torch.ones(3, 4), 2)
    refused("x must", model.log_prob, torch.zeros(2, 3))
    refused("x must be a tensor of shape (n, D)", BernoulliMixture.fit, torch.zeros(4), 1)
    refused("x must be a tensor of shape (n, D)", BernoulliMixture.fit, torch.zeros(0, 4), 1)
    refused("components must be a whole number", BernoulliMixture.fit, x, 0)
    refused("components must be at most the 30 rows", BernoulliMixture.fit, x, 31)
    refused("steps must be a whole number", BernoulliMixture.fit, x, 2, -1)
    refused("pull must be", BernoulliMixture.fit, x, 2, 1, 0.0)
    refused("pull must be", model.improved, x, -1.0)
    refused("counts must hold 30 numbers", model.improved, x, counts=torch.ones(3))
    refused("counts must hold 30 numbers", model.improved, x, counts=-torch.ones(30))
    refused("counts must hold 30 numbers", model.improved, x, counts=torch.zeros(30))
    refused("probs must have shape (K, D)", BernoulliMixture, torch.tensor([0.5]))
    refused("probs must lie above 0 and below 1, got 0.5 to 1", BernoulliMixture, torch.tensor([[0.5, 1.0]]))
    refused("probs must lie above 0 and below 1, got 0 to 0.5", BernoulliMixture, torch.tensor([[0.0, 0.5]]))
    refused("weights must have shape (2,), got (1,)", BernoulliMixture, torch.full((2, 2), 0.5), [1.0])
    refused("weights must", BernoulliMixture, torch.full((2, 2), 0.5), [0.7, 0.7])
    refused("shape must be", model.sample, 3)


def symbols_mixture(components=3, event=(2,), levels=3, seed=0):
    draws = 0.05 + torch.rand(components, *event, levels, generator=seeded(seed), dtype=REAL)
    weights = draws.reshape(components, -1)[:, 0]
    return CategoricalMixture(draws / draws.sum(-1, keepdim=True), weights / weights.sum())


def symbols(n=30, event=(2,), levels=3, seed=0):
    return symbols_mixture(3, event, levels, seed + 1).sample((n,), generator=seeded(seed))


@SOME
@given(SIZES, SIZES, PULLS, SEEDS)
def test_symbols_of_two_kinds_are_bits(components, dims, pull, seed):
    model, x = mixture(components, dims, seed), bits(20, dims, seed).long()
    same = CategoricalMixture(torch.stack([1 - model.probs, model.probs], -1), model.weights)
    counts = 0.1 + torch.rand(20, generator=seeded(seed), dtype=REAL)
    close(same.log_prob(x), model.log_prob(x))
    close(same.responsibilities(x), model.responsibilities(x))
    close(same.penalised(x, pull, counts=counts), model.penalised(x, pull, counts=counts), 1e-10)
    new, other = same.improved(x, pull, counts=counts), model.improved(x, pull, counts=counts)
    close(new.probs[..., 1], other.probs)
    close(new.weights, other.weights)
    assert same.parameters_count == model.parameters_count == components - 1 + components * dims
    fits = [
        CategoricalMixture.fit(x, 2, 3, pull, levels=2, counts=counts, generator=seeded(seed)),
        BernoulliMixture.fit(x, 2, 3, pull, counts=counts, generator=seeded(seed)),
    ]
    close(fits[0].probs[..., 1], fits[1].probs)


@SOME
@given(SIZES, st.integers(1, 4), SEEDS)
def test_all_tables_of_symbols_sum_to_one_and_agree_with_torch(components, levels, seed):
    model, x = symbols_mixture(components, (3,), levels, seed), everything(levels, 3)
    coins = torch.distributions.Independent(torch.distributions.Categorical(model.probs), 1)
    truth = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(model.weights), coins)
    close(model.log_prob(x).exp().sum(), torch.ones((), dtype=REAL))
    close(model.log_prob(x), truth.log_prob(x))
    close(model.loss(x), -model.log_prob(x), 0)


@SOME
@given(SIZES, st.integers(2, 5), PULLS, SEEDS)
def test_a_step_with_symbols_never_lowers_the_penalised_likelihood(components, levels, pull, seed):
    model, x = symbols_mixture(components, (2, 2), levels, seed), symbols(20, (2, 2), levels, seed)
    counts = 3 * torch.rand(20, generator=seeded(seed), dtype=REAL)
    heights = climb(model, x, 5, tol=0, pull=pull, counts=counts)[1]
    assert all(b >= a - 1e-10 * abs(a) for a, b in pairwise(heights))


@SOME
@given(SIZES, st.integers(2, 5), PULLS, SEEDS)
def test_the_slope_is_zero_where_a_step_with_symbols_rests_and_nowhere_else(components, levels, pull, seed):
    """The slope of what a step raises is the step itself, but for positive factors."""
    model, x = symbols_mixture(components, (2,), levels, seed), symbols(20, (2,), levels, seed)
    counts = 3 * torch.rand(20, generator=seeded(seed), dtype=REAL)
    logits, scores = model.probs.log().requires_grad_(), model.weights.log().requires_grad_()
    free = CategoricalMixture(logits.softmax(-1), scores.softmax(0))
    free.penalised(x, pull, counts=counts).backward()
    new, rows = model.improved(x, pull, counts=counts), counts @ model.responsibilities(x) + pull
    close(logits.grad, rows[:, None, None] * (new.probs - model.probs), 1e-10)
    close(scores.grad, counts.sum() * (new.weights - model.weights), 1e-10)


def test_the_step_with_symbols_by_hand():
    x, model, pull = symbols(7), symbols_mixture(2), 0.7
    new, r = model.improved(x, pull), model.responsibilities(x)
    for k in range(2):
        close(new.weights[k], r[:, k].mean())
        for d in range(2):
            for v in range(3):
                seen = (x[:, d] == v).to(REAL)
                mean = (seen.sum() + 1 / 3) / 8
                close(new.probs[k, d, v], (r[:, k] @ seen + pull * mean) / (r[:, k].sum() + pull))


def test_counts_of_symbols_are_repetitions():
    x, counts = symbols(12), torch.arange(12) % 3
    again, model = x.repeat_interleave(counts, 0), symbols_mixture()
    close(model.improved(x, 0.5, counts=counts).probs, model.improved(again, 0.5).probs)
    close(model.penalised(x, 0.5, counts=counts), model.penalised(again, 0.5))


def test_draws_of_symbols_have_the_exact_law():
    model, x = symbols_mixture(), everything(3, 2)
    drawn = model.sample((20_000,), generator=seeded(1))
    assert drawn.dtype == torch.int64
    counts = torch.bincount(drawn @ torch.tensor([3, 1]), minlength=9)
    expected = 20_000 * model.log_prob(x).exp()
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 0.01


def test_shapes_and_types_of_symbols():
    for event in ((), (3,), (2, 2)):
        x = symbols(20, event)
        model = CategoricalMixture.fit(x, 2, 2, levels=3, generator=seeded())
        assert model.event_shape == event
        assert model.probs.shape == (2, *event, 3)
        assert model.probs.dtype == torch.float32
        assert model.log_prob(x).shape == (20,)
        assert model.sample((5,)).shape == (5, *event)
        assert model.parameters_count == 1 + 2 * math.prod(event) * 2
    counts = torch.ones(20, dtype=REAL)
    assert CategoricalMixture.fit(x, 2, levels=3, counts=counts).probs.dtype == REAL


@pytest.mark.parametrize("kind", [BernoulliMixture, CategoricalMixture, LevelMixture])
def test_a_loss_has_slopes_in_what_the_model_is_built_of(kind):
    x = bits(10).long()
    start = torch.rand(2, 4, generator=seeded(), dtype=REAL).requires_grad_()
    scores = torch.zeros(2, dtype=REAL, requires_grad=True)

    def loss(start, scores):
        if kind is LevelMixture:
            return kind(start, start.exp(), scores.softmax(0), levels=2).loss(x).mean()
        theta = start.sigmoid()
        probs = theta if kind is BernoulliMixture else torch.stack([theta, 1 - theta], -1)
        return kind(probs, scores.softmax(0)).loss(x).mean()

    assert torch.autograd.gradcheck(loss, (start, scores))
    slopes = torch.func.grad(loss, (0, 1))(start, scores)
    loss(start, scores).backward()
    close(slopes[0], start.grad, 1e-14)
    close(slopes[1], scores.grad, 1e-14)


class Steady(Mixture):
    """Rises by one nat for each of five steps, then falls, and counts its steps."""

    def __init__(self, steps=0):
        self.steps, self.weights, self.event_shape = steps, torch.ones(1), torch.Size([1])

    def improved(self, x, pull=0.0, *, counts=None):
        return Steady(self.steps + 1)

    def penalised(self, x, pull=0.0, *, counts=None):
        return torch.tensor(5.0 - abs(5 - self.steps) + pull)

    parameters_count = log_parts = _draw = None


def test_a_climb_ends_where_steps_hardly_raise():
    x = torch.zeros(10, 1)
    model, heights = climb(Steady(), x, tol=0.05)
    assert (model.steps, heights) == (6, [0, 1, 2, 3, 4, 5, 4])
    assert climb(Steady(), x, tol=0.11)[0].steps == 1  # 1 nat is less than 0.11 for each of 10 rows
    assert climb(Steady(), x, tol=0.11, counts=torch.full((10,), 0.5))[0].steps == 6
    assert climb(Steady(), x, 3)[0].steps == 3
    assert climb(Steady(), x, 9, tol=0)[0].steps == 9
    assert climb(Steady(), x, 0, pull=2.0)[1] == [2.0]
    refused("steps must be a whole number", climb, Steady(), x, -1)
    refused("tol must be a finite number of at least 0", climb, Steady(), x, tol=-1.0)


def test_a_climb_is_steps_of_improved():
    x, model = bits(), mixture()
    end, heights = climb(model, x, 2, tol=0, pull=0.3)
    steps = [model, model.improved(x, 0.3), model.improved(x, 0.3).improved(x, 0.3)]
    close(end.probs, steps[-1].probs, 0)
    close(torch.tensor(heights, dtype=REAL), torch.stack([step.penalised(x, 0.3) for step in steps]), 0)


def test_what_symbols_refuse():
    model, x = symbols_mixture(), symbols()
    for job in (model.log_prob, model.responsibilities, model.improved, model.penalised):
        refused("x must hold whole numbers", job, torch.zeros(2, 2))
        refused("x must lie between 0 and 2, got values from 0 to 3", job, torch.tensor([[0, 3]]))
        refused("x must have shape (B, 2)", job, torch.tensor([0, 1]))
    refused("x must be a tensor of shape (n, *E)", CategoricalMixture.fit, x[:0], 1, levels=3)
    refused("levels must be a whole number", CategoricalMixture.fit, x, 1, levels=0)
    refused("components must be at most the 30 rows", CategoricalMixture.fit, x, 31, levels=3)
    refused("pull must be", model.improved, x, 0.0)
    refused("counts must hold 30 numbers", model.improved, x, counts=torch.ones(3))
    refused("probs must have shape (K, *E, V)", CategoricalMixture, torch.ones(1))
    refused("probs must be above 0", CategoricalMixture, torch.tensor([[0.0, 1.0]]))
    refused("probs must sum to 1", CategoricalMixture, torch.tensor([[0.5, 0.6]]))
    refused("weights must have shape (1,)", CategoricalMixture, torch.tensor([[0.5, 0.5]]), [0.5, 0.5])
