"""Divergences against closed forms, distances between samples against brute force, and noise floors."""

import itertools
import math
import re

import numpy as np
import pytest
import scipy.optimize
import scipy.spatial
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neural_network import MLPClassifier

from genlib import data
from genlib.metrics import (
    bits_per_dim,
    classifier_two_sample,
    compare,
    estimate,
    kl_to_truth,
    mmd,
    modes,
    precision_recall,
    sliced_wasserstein,
    told_apart,
)

STEADY = settings(max_examples=30)
FEW = settings(STEADY, max_examples=10)
SEEDS = st.integers(0, 10_000)
REAL = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(n, dims=2, seed=0, dtype=REAL):
    return torch.randn(n, dims, dtype=dtype, generator=seeded(seed))


def gaussian(mean, scale):
    return data.GaussianMixture(torch.tensor([mean], dtype=REAL), scale)


@st.composite
def samples(draw, count=2, equal=False, most=12):
    """Some samples in the same 1 to 4 dimensions, of 2 to `most` points each."""
    dims, sizes = draw(st.integers(1, 4)), st.integers(2, most)
    first = draw(sizes)
    return [
        draw(st.floats(-1, 1)) + normal(first if equal else draw(sizes), dims, draw(SEEDS))
        for _ in range(count)
    ]


def shuffled(x, seed):
    return x[torch.randperm(len(x), generator=seeded(seed))]


# mean and standard error


@STEADY
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_estimate_agrees_with_numpy(values):
    value, stderr = estimate(torch.tensor(values, dtype=REAL))
    assert value == pytest.approx(np.mean(values), abs=1e-9)
    assert stderr == pytest.approx(scipy.stats.sem(values), abs=1e-9)


def test_estimate_is_summed_in_double_precision_and_survives_infinity():
    values = torch.full((1_000_000,), 0.1) + torch.tensor([1e4] + [0.0] * 999_999)
    assert estimate(values).value == pytest.approx(values.double().mean().item(), abs=1e-12)
    value, stderr = estimate(torch.tensor([1.0, math.inf]))
    assert value == math.inf
    assert math.isnan(stderr)
    assert estimate(torch.ones(3, requires_grad=True)) == (1.0, 0.0)


def test_estimate_refuses():
    for values in (
        torch.ones(1),
        torch.ones(2, 2),
        torch.tensor(1.0),
        torch.tensor([1.0, math.nan]),
        [1.0, 2.0],
    ):
        with pytest.raises(ValueError, match="^values must"):
            estimate(values)


# divergence from a known truth


@FEW
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=4), st.floats(0.8, 2.0), SEEDS)
def test_divergence_of_two_gaussians(mean, scale, seed):
    dims, shift = len(mean), sum(m**2 for m in mean)
    truth, model = gaussian([0.0] * dims, 1.0), gaussian(mean, scale)
    expected = dims * math.log(scale) + (dims + shift) / (2 * scale**2) - dims / 2
    got = kl_to_truth(truth, model, 5_000, generator=seeded(seed))
    assert abs(got.value - expected) <= 5 * got.stderr + 1e-12
    assert 0 <= got.stderr < 0.1


@STEADY
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any), st.integers(2, 200), SEEDS)
def test_divergence_of_the_truth_from_itself_is_exactly_zero(weights, n, seed):
    p, centres = torch.tensor(weights, dtype=REAL) / sum(weights), normal(len(weights), 3, seed)
    for truth in (
        data.Categorical(p),
        data.GaussianMixture(centres, 0.5, p),
        data.ring(len(p), weights=p, dtype=REAL),
    ):
        assert kl_to_truth(truth, truth, n, generator=seeded(seed)) == (0.0, 0.0)
    for truth in (data.Rings(), data.Checkerboard()):
        assert kl_to_truth(truth, truth, n, generator=seeded(seed)) == (0.0, 0.0)


def test_divergence_goes_from_truth_to_model_and_not_back():
    narrow, wide = gaussian([0.0], 1.0), gaussian([0.0], 2.0)
    forward = kl_to_truth(narrow, wide, 20_000, generator=seeded()).value
    reverse = kl_to_truth(wide, narrow, 20_000, generator=seeded()).value
    assert forward == pytest.approx(math.log(2) + 1 / 8 - 1 / 2, abs=0.02)
    assert reverse == pytest.approx(-math.log(2) + 4 / 2 - 1 / 2, abs=0.1)


def test_standard_error_is_the_spread_of_repetitions():
    truth, model = gaussian([0.0, 0.0], 1.0), gaussian([0.7, 0.0], 1.3)
    expected = 2 * math.log(1.3) + 2.49 / (2 * 1.69) - 1
    runs = [kl_to_truth(truth, model, 200, generator=seeded(seed)) for seed in range(300)]
    spread = np.std([run.value for run in runs], ddof=1)
    stated = np.mean([run.stderr for run in runs])
    assert spread == pytest.approx(stated, rel=0.15)  # 4 standard errors of a spread of 400
    covered = np.mean([abs(run.value - expected) < 1.96 * run.stderr for run in runs])
    assert 0.91 < covered < 0.98


def test_infinite_divergence():
    got = kl_to_truth(data.Categorical([0.5, 0.5]), data.Categorical([1.0, 0.0]), 100, generator=seeded())
    assert got.value == math.inf
    assert math.isnan(got.stderr)


def test_divergence_draws_n_from_the_generator_without_a_gradient():
    seen, truth = [], data.ring()

    class Model:
        def log_prob(self, x):
            seen.append((x, torch.is_grad_enabled()))
            return truth.log_prob(x)

    for _ in range(2):
        kl_to_truth(truth, Model(), 50, generator=seeded(3))
    assert torch.equal(seen[0][0], seen[1][0])
    assert seen[0][0].shape == (50, 2)
    assert not seen[0][1]
    kl_to_truth(truth, Model())
    assert len(seen[-1][0]) == 10_000


def test_divergence_refuses():
    class Wrong:
        def __init__(self, answer):
            self.log_prob = answer

    truth = data.ring()
    for n in (1, 0, 2.0):
        with pytest.raises(ValueError, match="^n must"):
            kl_to_truth(truth, truth, n)
    for model in (None, 3, object()):
        with pytest.raises(ValueError, match="^model must have a method log_prob, got"):
            kl_to_truth(truth, model, 10)
    for answer in (
        lambda x: x,
        lambda x: torch.zeros(()),
        lambda x: torch.zeros(len(x), 1),
        lambda x: [0.0] * 10,
    ):
        with pytest.raises(ValueError, match=r"^model.log_prob must return"):
            kl_to_truth(truth, Wrong(answer), 10)
    with pytest.raises(ValueError, match=r"^model.log_prob must not return NaN, got 10 of them"):
        kl_to_truth(truth, Wrong(lambda x: torch.full((len(x),), math.nan)), 10)


def test_bits_per_dim():
    assert bits_per_dim(64 * math.log(17), 64) == pytest.approx(math.log2(17))
    torch.testing.assert_close(bits_per_dim(torch.tensor([math.log(4)]), 2), torch.tensor([1.0]))


@STEADY
@given(
    st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(-9, 9), st.integers(1, 10_000), st.integers(1, 9)
)
def test_bits_per_dim_are_linear_and_shared_by_the_dimensions(a, b, c, dims, times):
    both = bits_per_dim(c * a + b, dims)
    assert both == pytest.approx(c * bits_per_dim(a, dims) + bits_per_dim(b, dims), abs=1e-8)
    assert bits_per_dim(a, times * dims) * times == pytest.approx(bits_per_dim(a, dims), rel=1e-12, abs=1e-12)
    assert bits_per_dim(c * dims * math.log(2), dims) == pytest.approx(c, rel=1e-12)


@STEADY
@given(st.integers(max_value=0) | st.floats() | st.booleans() | st.none())
def test_bits_per_dim_refuse(dims):
    with pytest.raises(ValueError, match=f"^dims must be a whole number .*, got {re.escape(repr(dims))}$"):
        bits_per_dim(1.0, dims)


# samples that are none


@STEADY
@given(samples(equal=True), st.sampled_from([math.nan, math.inf, -math.inf]), SEEDS)
def test_samples_with_a_hole_or_another_width_are_refused(pair, bad, seed):
    x, y = pair
    hole, wide = x.clone(), torch.cat([x, x], 1)
    hole.view(-1)[seed % x.numel()] = bad
    for metric in (mmd, sliced_wasserstein, classifier_two_sample):
        with pytest.raises(ValueError, match="^x must hold finite numbers, got NaN or infinity in"):
            metric(hole, y)
        with pytest.raises(ValueError, match="^y must hold finite numbers, got NaN or infinity in"):
            metric(y, hole)
        with pytest.raises(
            ValueError, match=rf"^y must have D = {x.shape[1]} like x, got D = {wide.shape[1]}$"
        ):
            metric(x, wide)
        with pytest.raises(ValueError, match=r"^x must be a tensor of shape \(n, D\)"):
            metric(x[0], y)
    with pytest.raises(ValueError, match="^x must hold finite numbers"):
        modes(hole, y, 0.1)
    with pytest.raises(ValueError, match="^x must hold finite numbers"):
        compare(mmd, hole, data.ring())
    with pytest.raises(ValueError, match="^values must not hold NaN, got 1 of them$"):
        estimate(torch.cat([x.flatten(), torch.tensor([math.nan])]))


# modes


def test_modes_of_true_samples():
    ring, n = data.ring(), 50_000
    counts, covered, good = modes(ring.sample((n,), generator=seeded()), ring.means, 0.1)
    expected = 1 - math.exp(-4.5)
    assert abs(good - expected) < 5 * math.sqrt(expected * (1 - expected) / n)
    assert covered == 8
    assert counts.sum().item() == pytest.approx(good * n)
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert modes(
        ring.sample((n,), generator=seeded()), ring.means, 0.1, radius=1.0
    ).high_quality == pytest.approx(1 - math.exp(-0.5), abs=0.01)


def test_modes_by_hand():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    x = torch.tensor([[0.0, 0.0], [0.3, 0.0], [0.0, 0.31], [10.0, 0.2], [5.0, 5.0]])
    counts, covered, good = modes(x, centres, 0.1)
    assert counts.tolist() == [2, 1, 0]
    assert covered == 2
    assert good == pytest.approx(0.6)


@STEADY
@given(samples(), st.floats(0.05, 2.0), st.floats(0.5, 4.0), SEEDS)
def test_modes_agree_with_a_count_by_loops(pair, scale, radius, seed):
    x, centres = pair
    counts = [0] * len(centres)
    for point in x.tolist():
        distances = [math.dist(point, centre) for centre in centres.tolist()]
        if min(distances) <= radius * scale:
            counts[distances.index(min(distances))] += 1
    got = modes(x, centres, scale, radius)
    assert got.counts.tolist() == counts
    assert got.covered == sum(count > 0 for count in counts)
    assert got.high_quality == pytest.approx(sum(counts) / len(x))
    order = torch.randperm(len(centres), generator=seeded(seed))
    other = modes(shuffled(x, seed), centres[order], scale, radius)  # names and order do not matter
    assert torch.equal(other.counts, got.counts[order])
    assert other[1:] == got[1:]


def test_collapsed_and_worthless_samples():
    ring = data.ring()
    collapsed = modes(ring.means[:1].expand(100, 2), ring.means, 0.1)
    assert (collapsed.covered, collapsed.high_quality) == (1, 1.0)
    assert collapsed.counts.tolist() == [100, 0, 0, 0, 0, 0, 0, 0]
    worthless = modes(torch.zeros(100, 2), ring.means, 0.1)
    assert (worthless.covered, worthless.high_quality, worthless.counts.sum()) == (0, 0.0, 0)


def test_modes_do_not_depend_on_where_the_origin_is():
    x, centre = (
        (normal(500, dtype=torch.float32) + 1024) - 1024,
        torch.zeros(1, 2),
    )  # the shift rounds nothing
    here, there = modes(x, centre, 0.4), modes(x + 1024, centre + 1024, 0.4)
    assert there.high_quality == here.high_quality


def test_modes_refuse():
    x, centres = torch.zeros(5, 2), torch.zeros(3, 2)
    for bad in (torch.zeros(5), torch.zeros(0, 2), torch.full((5, 2), math.nan), [[0.0, 0.0]]):
        with pytest.raises(ValueError, match="^x must"):
            modes(bad, centres, 0.1)
        with pytest.raises(ValueError, match="^centres must"):
            modes(x, bad, 0.1)
    with pytest.raises(ValueError, match="^centres must have D = 2 like x, got D = 3"):
        modes(x, torch.zeros(3, 3), 0.1)
    for bad in (0.0, -1.0, math.nan, None):
        with pytest.raises(ValueError, match="^scale must"):
            modes(x, centres, bad)
        with pytest.raises(ValueError, match="^radius must"):
            modes(x, centres, 0.1, bad)


# maximum mean discrepancy


def mmd_by_loops(x, y, bandwidth):
    def kernel(a, b):
        squared = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
        return sum(math.exp(-squared / (2 * (c * bandwidth) ** 2)) for c in (0.25, 0.5, 1, 2, 4)) / 5

    def mean(a, b):
        return sum(kernel(p, q) for p, q in itertools.product(a, b)) / (len(a) * len(b))

    x, y = x.tolist(), y.tolist()
    return math.sqrt(max(mean(x, x) + mean(y, y) - 2 * mean(x, y), 0))


@FEW
@given(samples(), st.floats(0.2, 3.0))
def test_mmd_agrees_with_loops(pair, bandwidth):
    x, y = pair
    assert mmd(x, y, bandwidth) == pytest.approx(mmd_by_loops(x, y, bandwidth), abs=1e-7)
    # torch's median is the lower one of the two in the middle
    median = np.quantile(scipy.spatial.distance.pdist(y.numpy()), 0.5, method="lower")
    assert mmd(x, y) == pytest.approx(mmd_by_loops(x, y, median), abs=1e-7)


@STEADY
@given(samples(3, most=30), st.floats(0.2, 3.0), st.floats(0.1, 10.0), SEEDS)
def test_mmd_is_a_distance_that_knows_no_order_no_origin_and_no_unit(three, bandwidth, unit, seed):
    x, y, z = three
    gap = mmd(x, y, bandwidth)
    assert 0 <= gap <= math.sqrt(2)
    assert mmd(x, x, bandwidth) == 0
    assert mmd(x, shuffled(x, seed), bandwidth) == pytest.approx(0, abs=1e-7)
    assert mmd(y, x, bandwidth) == pytest.approx(gap, abs=1e-7)
    assert gap <= mmd(x, z, bandwidth) + mmd(z, y, bandwidth) + 1e-7
    shift = normal(1, x.shape[1], seed)
    assert mmd(shuffled(x, seed) + shift, y + shift, bandwidth) == pytest.approx(gap, abs=1e-7)
    assert mmd(unit * x, unit * y, unit * bandwidth) == pytest.approx(gap, abs=1e-7)
    assert mmd(unit * x, unit * y) == pytest.approx(mmd(x, y), abs=1e-7)  # the median grows with the unit


def test_mmd_of_far_samples():
    x, y = normal(40), normal(40, seed=1)
    assert mmd(torch.zeros(5, 2), torch.zeros(5, 2) + 1e6, 1.0) == pytest.approx(math.sqrt(2))
    assert mmd(x, y + 0.5, 1.0) < mmd(x, y + 1.0, 1.0) < mmd(x, y + 2.0, 1.0)


def test_mmd_floor_falls_as_one_over_root_n():
    def floor(n):
        return np.mean([mmd(normal(n, seed=2 * s), normal(n, seed=2 * s + 1), 1.0) for s in range(40)])

    assert floor(50) / floor(200) == pytest.approx(2, rel=0.15)
    assert mmd(normal(200), normal(200, seed=1) + 0.5, 1.0) > 2.5 * floor(200)


def test_mmd_does_not_depend_on_where_the_origin_is():
    x, y = normal(300, dtype=torch.float32), normal(300, seed=1, dtype=torch.float32)
    x, y = ((z + 1024) - 1024 for z in (x, y))  # so that the shift itself rounds nothing
    assert mmd(x + 1024, y + 1024) == pytest.approx(mmd(x, y), abs=1e-5)


def test_mmd_refuses():
    x = normal(5)
    for bad in (torch.zeros(5), torch.zeros(0, 2), torch.full((5, 2), math.inf), None):
        with pytest.raises(ValueError, match="^x must"):
            mmd(bad, x)
        with pytest.raises(ValueError, match="^y must"):
            mmd(x, bad)
    with pytest.raises(ValueError, match="^y must have D = 2 like x, got D = 3"):
        mmd(x, normal(5, 3))
    for bad in (0.0, -1.0, math.nan, "a"):
        with pytest.raises(ValueError, match="^bandwidth must"):
            mmd(x, x, bad)
    for y in (torch.ones(5, 2), torch.ones(1, 2)):
        with pytest.raises(ValueError, match="^bandwidth must be given"):
            mmd(x, y)


# sliced Wasserstein


@STEADY
@given(st.integers(1, 20), st.floats(-3, 3), st.floats(0.1, 3), st.integers(1, 7), SEEDS)
def test_sliced_wasserstein_on_a_line_is_exact(n, shift, scale, directions, seed):
    """The best of all pairings, found by an assignment."""
    x, y = normal(n, 1, seed), shift + scale * normal(n, 1, seed + 1)
    cost = (x - y.T).numpy() ** 2
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    got = sliced_wasserstein(x, y, directions, generator=seeded(seed))
    assert got == pytest.approx(math.sqrt(cost[rows, columns].mean()), abs=1e-9)
    assert got >= scipy.stats.wasserstein_distance(x[:, 0], y[:, 0]) - 1e-9


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_sliced_wasserstein_of_a_shift(dims):
    x, shift = normal(100, dims), torch.arange(1, dims + 1, dtype=REAL)
    expected = shift.norm().item() / math.sqrt(dims)
    got = sliced_wasserstein(x, x + shift, 20_000, generator=seeded())
    assert got == pytest.approx(expected, rel=0.02)


@STEADY
@given(samples(3, equal=True, most=30), st.floats(0.1, 10.0), st.integers(1, 40), SEEDS)
def test_sliced_wasserstein_is_a_distance_that_grows_with_the_unit(three, unit, directions, seed):
    def distance(a, b):
        return sliced_wasserstein(a, b, directions, generator=seeded(seed))

    x, y, z = three
    gap, shift = distance(x, y), normal(1, x.shape[1], seed)
    assert gap >= 0
    assert distance(x, shuffled(x, seed)) == pytest.approx(0, abs=1e-12)
    assert distance(y, x) == pytest.approx(gap, abs=1e-12)
    assert gap <= distance(x, z) + distance(z, y) + 1e-12
    assert distance(shuffled(x, seed) + shift, y + shift) == pytest.approx(gap, abs=1e-12)
    assert distance(unit * x, unit * y) == pytest.approx(unit * gap, abs=1e-12)
    # no projection moves a point by more than the point moves
    assert gap <= math.sqrt(((x - y) ** 2).sum(-1).mean()) + 1e-12
    assert distance(x, x + shift) <= shift.norm() + 1e-12


def test_sliced_wasserstein_repeats_with_a_generator():
    x, y, state = normal(60), normal(60, seed=1), torch.get_rng_state()
    first, again, other = (sliced_wasserstein(x, y, generator=seeded(seed)) for seed in (2, 2, 3))
    assert first == again
    assert first != other
    assert torch.equal(torch.get_rng_state(), state)


def test_sliced_wasserstein_refuses():
    x = normal(5)
    with pytest.raises(ValueError, match="^y must hold as many points as x, 5, got 4"):
        sliced_wasserstein(x, x[:4])
    with pytest.raises(ValueError, match="^y must have D = 2"):
        sliced_wasserstein(x, normal(5, 3))
    with pytest.raises(ValueError, match="^x must"):
        sliced_wasserstein(x * math.nan, x)
    for bad in (0, 2.0, True):
        with pytest.raises(ValueError, match="^directions must"):
            sliced_wasserstein(x, x, bad)


# classifier two-sample test


@given(st.integers(6, 40), st.integers(6, 40), st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6))
@settings(max_examples=40)
def test_precision_and_recall_against_trees(n, m, dims, k, seed):
    """By k-d trees and counting: a point is among others if it lies in the ball around one of them."""
    x, y = normal(n, dims, seed=seed), 0.5 + normal(m, dims, seed=seed + 1)

    def among(points, others):
        tree = scipy.spatial.cKDTree(others)
        reach = tree.query(others, [k + 1])[0][:, 0]
        inside = [
            any(math.dist(p, o) <= r * (1 + 1e-12) for o, r in zip(others, reach, strict=True))
            for p in points
        ]
        return np.mean(inside)

    expected = among(x.tolist(), y.tolist()), among(y.tolist(), x.tolist())
    assert precision_recall(x, y, k) == pytest.approx(expected, abs=1e-12)
    assert precision_recall(y, x, k) == pytest.approx(expected[::-1], abs=1e-12)


def test_precision_and_recall_of_the_data_themselves_are_1():
    x = normal(50, 3)
    assert precision_recall(x, x) == (1.0, 1.0)
    assert precision_recall(x, x + 100) == (0.0, 0.0)


def test_a_missing_mode_costs_recall_and_a_stray_one_precision():
    left, right = normal(200, 2), normal(200, 2, seed=1) + 50
    both = torch.cat([left, right])
    precision, recall = precision_recall(normal(200, 2, seed=2), both)
    assert precision > 0.8
    assert 0.4 < recall < 0.5
    precision, recall = precision_recall(both, normal(200, 2, seed=2))
    assert 0.4 < precision < 0.5
    assert recall > 0.8


def test_precision_and_recall_refuse():
    x = normal(5, 2)
    for k in (0, 5, 2.0):
        with pytest.raises(ValueError, match="^k must"):
            precision_recall(x, normal(9, 2), k)
    with pytest.raises(ValueError, match="^y must have D = 2"):
        precision_recall(x, normal(9, 3))
    with pytest.raises(ValueError, match="^x must"):
        precision_recall(torch.full((5, 2), math.nan), x)


def test_classifier_cannot_tell_alike_samples_apart():
    results = [
        classifier_two_sample(normal(200, seed=2 * s), normal(200, seed=2 * s + 1), s) for s in range(4)
    ]
    accuracies = [accuracy for accuracy, _ in results]
    assert np.mean(accuracies) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(800))
    assert max(p for _, p in results) > 0.05


@pytest.mark.parametrize("seed", range(6))
def test_classifier_tells_far_samples_apart(seed):
    accuracy, p_value = classifier_two_sample(normal(200), normal(200, seed=1) + 3, seed)
    assert accuracy > 0.94  # the best that can be done is 0.983
    assert p_value < 1e-20


def test_classifier_sees_more_than_means():
    accuracy, p_value = classifier_two_sample(normal(300), 4 * normal(300, seed=1))
    assert accuracy > 0.7
    assert p_value < 1e-6


@FEW
@given(st.integers(20, 40), st.integers(1, 3), st.floats(0, 2), SEEDS)
def test_classifier_p_value_is_the_tail_of_a_fair_coin(n, dims, shift, seed):
    x, y = normal(n, dims, seed), normal(n, dims, seed + 1) + shift
    accuracy, p_value = classifier_two_sample(x, y, seed)
    right = round(accuracy * n)  # half of the 2n points are held out
    assert accuracy * n == pytest.approx(right)
    assert p_value == pytest.approx(sum(math.comb(n, k) for k in range(right, n + 1)) / 2**n)
    assert classifier_two_sample(x, y, seed) == (accuracy, p_value)


def test_classifier_refuses():
    with pytest.raises(
        ValueError, match="^x and y must hold equally many points, at least 20, got 30 and 29"
    ):
        classifier_two_sample(normal(30), normal(29))
    with pytest.raises(
        ValueError, match="^x and y must hold equally many points, at least 20, got 19 and 19"
    ):
        classifier_two_sample(normal(19), normal(19))
    with pytest.raises(ValueError, match="^y must have D = 2"):
        classifier_two_sample(normal(30), normal(30, 3))
    for seed in (-1, 0.5):
        with pytest.raises(ValueError, match="^seed must"):
            classifier_two_sample(normal(30), normal(30), seed)
    accuracy, p_value = classifier_two_sample(normal(20), normal(20, seed=1))
    assert 0 <= accuracy <= 1
    assert 0 <= p_value <= 1


# noise floor


def test_compare_with_a_source():
    truth = data.ring(dtype=REAL)
    same = compare(mmd, truth.sample((100,), generator=seeded(9)), truth, 10, generator=seeded())
    assert abs(same.value - same.floor) < 3 * same.spread
    far = compare(mmd, truth.sample((100,), generator=seeded(9)) + 0.5, truth, 10, generator=seeded())
    assert far.value > far.floor + 4 * far.spread
    assert far[1:] == same[1:]


def test_compare_by_hand():
    """The metric is the mean of x: constant for the model, known for the truth."""
    truth = torch.arange(12.0)[:, None]
    seen = []

    def metric(a, b):
        seen.append((a, b))
        return a.mean().item()

    x = torch.full((4, 1), 100.0)
    value, floor, spread = compare(metric, x, truth, 5, generator=seeded())
    assert len(seen) == 10
    floors = [a.mean().item() for a, _ in seen if a.max() < 50]
    assert value == 100
    assert floor == pytest.approx(np.mean(floors))
    assert spread == pytest.approx(np.std(floors, ddof=1))
    for a, b in seen:
        assert a.shape == b.shape == (4, 1)
        assert len(set(a.flatten().tolist()) | set(b.flatten().tolist())) == (8 if a.max() < 50 else 5)
    assert len({tuple(a.flatten().tolist()) for a, _ in seen}) == 6  # fresh parts each time


@FEW
@given(st.integers(5, 20), st.integers(0, 9), st.integers(2, 5), st.floats(0.1, 10), st.booleans(), SEEDS)
def test_compare_follows_the_metric_and_the_floor_is_not_negative(n, more, repeats, unit, exact, seed):
    x = normal(n, 2, seed)
    truth = data.ring(dtype=REAL) if exact else normal(2 * n + more, 2, seed + 1)

    def run(metric, x):
        return compare(metric, x, truth, repeats, generator=seeded(seed))

    value, floor, spread = run(mmd, x)
    assert min(value, floor, spread) >= 0
    assert run(mmd, shuffled(x, seed)) == pytest.approx((value, floor, spread), abs=1e-9)
    # twice the metric, twice the answer; one more, one more: but the spread does not feel a shift
    stretched = run(lambda a, b: unit * mmd(a, b) + 1, x)
    assert stretched == pytest.approx((unit * value + 1, unit * floor + 1, unit * spread), abs=1e-9)
    _, of_another, spread_of_another = run(mmd, x + 5)
    assert (of_another, spread_of_another) == (floor, spread)  # the floor does not look at the model


def test_compare_repeats_with_a_generator_whatever_the_metric():
    truth, x, state = data.ring(), normal(50, dtype=torch.float32), torch.get_rng_state()
    first, second = (compare(mmd, x, truth, 3, generator=seeded(1)) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)


def test_compare_refuses():
    x = normal(10)
    for repeats in (1, 0, 2.0):
        with pytest.raises(ValueError, match="^repeats must"):
            compare(mmd, x, data.ring(), repeats)
    with pytest.raises(ValueError, match="^truth must hold at least 20 points for two samples of 10, got 19"):
        compare(mmd, x, normal(19))
    assert compare(mmd, x, normal(20)).floor >= 0
    with pytest.raises(ValueError, match="^truth must"):
        compare(mmd, x, torch.full((20, 2), math.nan))
    with pytest.raises(ValueError, match="^x must"):
        compare(mmd, torch.zeros(10), data.ring())
    for answer in (None, "0.5", torch.zeros(1), 1j):
        with pytest.raises(ValueError, match=f"^metric must return one number, got {type(answer).__name__}"):
            compare(lambda a, b, answer=answer: answer, x, data.ring())


def test_the_judge_is_scikit_learns_network_with_these_settings():
    """Every "told apart" of the book rests on its 64 units, its weight decay of 1 and its halves."""
    x, y, seed = normal(60), normal(60, seed=1) + 0.4, 3
    points, labels = torch.cat([x, y]).numpy(), np.arange(2).repeat(60)
    halves = StratifiedShuffleSplit(1, test_size=0.5, random_state=seed)
    ((seen, held_out),) = halves.split(points, labels)
    mean, spread = points[seen].mean(0), points[seen].std(0)
    judge = MLPClassifier(hidden_layer_sizes=64, solver="lbfgs", alpha=1.0, max_iter=500, random_state=seed)
    judge.fit((points[seen] - mean) / spread, labels[seen])
    right = judge.score((points[held_out] - mean) / spread, labels[held_out])
    assert classifier_two_sample(x, y, seed).accuracy == right


def test_told_apart_is_the_mean_over_judges():
    x, y = normal(50), normal(50, seed=1) + 0.5
    each = [classifier_two_sample(x, y, seed).accuracy for seed in range(3)]
    assert told_apart(x, y) == pytest.approx(np.mean(each))
    assert told_apart(x, y, 1) == each[0]
    with pytest.raises(ValueError, match="^judges must be a whole number"):
        told_apart(x, y, 0)
