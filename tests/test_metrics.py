"""Divergences against closed forms, distances between samples against brute force, and noise floors."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.spatial
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genlib import data
from genlib.metrics import (
    bits_per_dim,
    classifier_two_sample,
    compare,
    estimate,
    kl_to_truth,
    mmd,
    modes,
    sliced_wasserstein,
)

STEADY = settings(deadline=None, max_examples=40, derandomize=True)
REAL = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(n, dims=2, seed=0, dtype=REAL):
    return torch.randn(n, dims, dtype=dtype, generator=seeded(seed))


def gaussian(mean, scale):
    return data.GaussianMixture(torch.tensor([mean], dtype=REAL), scale)


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


@pytest.mark.parametrize(
    ("mean", "scale"), [([0.0, 0.0], 1.0), ([1.0, 0.5], 1.0), ([0.5, 0.0], 2.0), ([0.3, 0], 0.7)]
)
def test_divergence_of_two_gaussians(mean, scale):
    truth, model = gaussian([0.0, 0.0], 1.0), gaussian(mean, scale)
    shift = sum(m**2 for m in mean)
    expected = 2 * math.log(scale) + (2 + shift) / (2 * scale**2) - 1
    got = kl_to_truth(truth, model, 20_000, generator=seeded())
    assert abs(got.value - expected) <= 5 * got.stderr
    if expected:
        assert 0 < got.stderr < 0.05


def test_divergence_of_the_truth_from_itself_is_exactly_zero():
    for truth in (data.ring(), data.Rings(), data.Checkerboard(), data.Categorical([0.5, 0.5, 0.0])):
        assert kl_to_truth(truth, truth, 1000, generator=seeded()) == (0.0, 0.0)


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
    assert bits_per_dim(math.log(2), 1) == pytest.approx(1)
    torch.testing.assert_close(bits_per_dim(torch.tensor([math.log(4)]), 2), torch.tensor([1.0]))
    for dims in (0, -1, 2.0, None):
        with pytest.raises(ValueError, match="^dims must"):
            bits_per_dim(1.0, dims)


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


def test_mmd_agrees_with_loops():
    x, y = normal(9, 3, 1), 0.5 + normal(7, 3, 2)
    for bandwidth in (0.5, 2.0):
        assert mmd(x, y, bandwidth) == pytest.approx(mmd_by_loops(x, y, bandwidth), abs=1e-12)
    median = np.median(scipy.spatial.distance.pdist(y.numpy()))  # 21 pairs: an odd number
    assert mmd(x, y) == pytest.approx(mmd_by_loops(x, y, median), abs=1e-12)


def test_mmd_of_alike_and_far_samples():
    x, y = normal(40), normal(40, seed=1)
    assert mmd(x, x) == 0
    assert mmd(x, x[torch.randperm(40, generator=seeded())]) == pytest.approx(0, abs=1e-7)
    assert mmd(x, y, 1.0) == pytest.approx(mmd(y, x, 1.0), abs=1e-12)
    far = mmd(torch.zeros(5, 2), torch.zeros(5, 2) + 1e6, 1.0)
    assert far == pytest.approx(math.sqrt(2))
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


def test_sliced_wasserstein_on_a_line_is_exact():
    x, y = normal(50, 1), 2 + 3 * normal(50, 1, 1)
    expected = math.sqrt(((np.sort(x[:, 0].numpy()) - np.sort(y[:, 0].numpy())) ** 2).mean())
    for directions in (1, 7):
        assert sliced_wasserstein(x, y, directions, generator=seeded()) == pytest.approx(expected, abs=1e-12)
    # the best of all pairings, found by an assignment
    cost = (x - y.T).numpy()[:, :] ** 2
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    assert expected == pytest.approx(math.sqrt(cost[rows, columns].mean()), abs=1e-12)
    assert expected >= scipy.stats.wasserstein_distance(x[:, 0], y[:, 0]) - 1e-12


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_sliced_wasserstein_of_a_shift(dims):
    x, shift = normal(100, dims), torch.arange(1, dims + 1, dtype=REAL)
    expected = shift.norm().item() / math.sqrt(dims)
    got = sliced_wasserstein(x, x + shift, 20_000, generator=seeded())
    assert got == pytest.approx(expected, rel=0.02)


def test_sliced_wasserstein_of_alike_samples():
    x, y = normal(60), normal(60, seed=1)
    assert sliced_wasserstein(x, x[torch.randperm(60, generator=seeded())]) == 0
    there, back = (sliced_wasserstein(a, b, generator=seeded(2)) for a, b in ((x, y), (y, x)))
    assert there == pytest.approx(back, abs=1e-12)
    assert sliced_wasserstein(3 * x, 3 * y, generator=seeded(2)) == pytest.approx(3 * there)
    state = torch.get_rng_state()
    assert sliced_wasserstein(x, y, generator=seeded(2)) == there
    assert torch.equal(torch.get_rng_state(), state)
    assert sliced_wasserstein(x, y, generator=seeded(3)) != there


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


def test_classifier_p_value_is_the_tail_of_a_fair_coin():
    accuracy, p_value = classifier_two_sample(normal(50), normal(50, seed=1) + 0.8)
    right = round(accuracy * 50)
    assert p_value == pytest.approx(sum(math.comb(50, k) for k in range(right, 51)) / 2**50)
    assert classifier_two_sample(normal(50), normal(50, seed=1) + 0.8) == (accuracy, p_value)


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
