"""How far is a model from the truth? Divergences in nats, and distances between samples with their noise floor."""

from __future__ import annotations

import math
import numbers
import statistics
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genlib import _arguments as require
from genlib.data import Source

Metric = Callable[[Tensor, Tensor], float]


class Estimate(NamedTuple):
    """A mean with its standard error, in the unit of what was averaged."""

    value: float
    stderr: float


class Modes(NamedTuple):
    """Counts (K,) of high-quality samples per mode, the number of modes with any, and the share of high quality."""

    counts: Tensor
    covered: int
    high_quality: float


class TwoSampleTest(NamedTuple):
    """Held-out accuracy of a classifier that tells two samples apart, and the p-value of "they are alike"."""

    accuracy: float
    p_value: float


class PrecisionRecall(NamedTuple):
    """Share of the samples that lie among the data, and share of the data that lie among the samples."""

    precision: float
    recall: float


class Comparison(NamedTuple):
    """A sample metric beside its noise floor: mean and standard deviation of the metric between two true samples."""

    value: float
    floor: float
    spread: float


def estimate(values: Tensor) -> Estimate:
    """Mean and standard error of independent values, (n,) → Estimate.

    Infinite values are allowed: the mean is then infinite and the standard error NaN.

    Raises:
        ValueError: `values` is not of shape (n,) with n ≥ 2, or holds NaN.
    """
    values = require.events("values", values, ()).detach().double()
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"values must have shape (n,) with n at least 2, got {tuple(values.shape)}")
    return Estimate(values.mean().item(), (values.std() / math.sqrt(len(values))).item())


@torch.no_grad()
def kl_to_truth(
    truth: Source, model: object, n: int = 10_000, *, generator: torch.Generator | None = None
) -> Estimate:
    """D_KL(truth‖model) in nats: the mean of log p − log q over n draws from the truth, with its standard error.

    Args:
        truth: an exact source.
        model: anything with ``log_prob``, (B, *E) → (B,).
        n: number of draws, at least 2.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: n < 2, the truth is no `Source`, or the model has no ``log_prob``, returns another shape or NaN.
    """
    n = require.whole_number("n", n, least=2)
    if not isinstance(truth, Source):
        raise ValueError(f"truth must be a Source, got {type(truth).__name__}")
    if not callable(getattr(model, "log_prob", None)):
        raise ValueError(f"model must have a method log_prob, got {type(model).__name__}")
    x = truth.sample((n,), generator=generator)
    log_q = model.log_prob(x)
    if not isinstance(log_q, Tensor) or log_q.shape != (n,):
        got = tuple(log_q.shape) if isinstance(log_q, Tensor) else type(log_q).__name__
        raise ValueError(f"model.log_prob must return shape ({n},), got {got}")
    if torch.isnan(log_q).any():
        raise ValueError(f"model.log_prob must not return NaN, got {int(torch.isnan(log_q).sum())} of them")
    return estimate(truth.log_prob(x) - log_q)


def bits_per_dim(nats: float | Tensor, dims: int) -> float | Tensor:
    """Turn nats per example into bits per dimension: nats / (dims · ln 2).

    Raises:
        ValueError: dims is not a whole number of at least 1.
    """
    return nats / (require.whole_number("dims", dims) * math.log(2))


def modes(x: Tensor, centres: Tensor, scale: float, radius: float = 3.0) -> Modes:
    """Count the samples near each centre. A sample is of high quality within `radius` standard deviations of one.

    True samples of round Gaussians in the plane score 1 − exp(−radius²/2) = 98.9 % at radius 3.

    Args:
        x: (n, D) sample.
        centres: (K, D).
        scale: standard deviation of a mode, in data units.
        radius: in standard deviations.

    Raises:
        ValueError: wrong shapes, NaN, or a scale or radius that is not above 0.
    """
    x, centres = require.points("x", x), require.points("centres", centres)
    if x.shape[1] != centres.shape[1]:
        raise ValueError(f"centres must have D = {x.shape[1]} like x, got D = {centres.shape[1]}")
    distance, nearest = _distances(x, centres.to(x)).min(-1)  # (n,), (n,)
    good = distance <= require.positive("radius", radius) * require.positive("scale", scale)
    counts = torch.bincount(nearest[good], minlength=len(centres))
    return Modes(counts, int((counts > 0).sum()), good.double().mean().item())


def mmd(x: Tensor, y: Tensor, bandwidth: float | None = None) -> float:
    """Maximum mean discrepancy between two samples, in [0, √2] (Gretton et al. 2012, JMLR 13, 723-773, eq. 5).

    The kernel is the mean of five Gaussians whose widths are ¼, ½, 1, 2, 4 times the bandwidth. The biased estimate is
    used: it is never negative, and its noise floor falls as 1/√n. It needs memory for a few tables of n · m numbers.

    Args:
        x: (n, D) sample of the model.
        y: (m, D) sample of the truth.
        bandwidth: in data units; the median distance between points of `y` when None.

    Raises:
        ValueError: wrong shapes, NaN, a bandwidth that is not above 0, or None while most points of `y` coincide.
    """
    x, y = _samples(x, y)
    if bandwidth is None:
        bandwidth = torch.pdist(y[:2000]).median().item() if len(y) > 1 else 0.0
        if bandwidth == 0:
            raise ValueError("bandwidth must be given where the points of y coincide, got None")
    widths = require.positive("bandwidth", bandwidth) * x.new_tensor([0.25, 0.5, 1.0, 2.0, 4.0])

    def mean_kernel(a: Tensor, b: Tensor) -> Tensor:
        squared = _distances(a, b) ** 2  # (n, m)
        return torch.stack([torch.exp(-0.5 * squared / width**2).mean() for width in widths]).mean()

    squared_mmd = mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)
    return math.sqrt(max(squared_mmd.item(), 0.0))


def sliced_wasserstein(
    x: Tensor, y: Tensor, directions: int = 128, *, generator: torch.Generator | None = None
) -> float:
    """Sliced 2-Wasserstein distance in data units (Bonneel et al. 2015, doi:10.1007/s10851-014-0506-3).

    The samples are projected on random directions; in one dimension, sorting gives the distance exactly. In one
    dimension it *is* the 2-Wasserstein distance; a shift by v costs |v|/√D in root mean square over
    directions.

    Args:
        x: (n, D) sample.
        y: (n, D) sample of the same size.
        directions: number of random directions.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: wrong or unequal shapes, NaN, directions < 1.
    """
    x, y = _samples(x, y)
    if len(x) != len(y):
        raise ValueError(f"y must hold as many points as x, {len(x)}, got {len(y)}")
    count = require.whole_number("directions", directions)
    device = x.device if generator is None else generator.device
    theta = torch.randn((x.shape[1], count), generator=generator, device=device).to(x)  # (D, S)
    theta = theta / torch.linalg.vector_norm(theta, dim=0)
    gap = (x @ theta).sort(0).values - (y @ theta).sort(0).values  # (n, S)
    return math.sqrt((gap**2).mean().item())


def classifier_two_sample(x: Tensor, y: Tensor, seed: int = 0) -> TwoSampleTest:
    """Classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv:1610.06545).

    A network with one hidden layer learns to tell `x` from `y` on one half; its accuracy on the other half is near
    0.5 when the samples are alike. The p-value is the chance that a coin would do at least as well.

    Args:
        x: (n, D) sample.
        y: (n, D) sample of the same size.
        seed: of the split into halves and of the classifier.

    Raises:
        ValueError: wrong or unequal shapes, NaN, fewer than 20 points a sample.
    """
    from scipy.stats import binom
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = _samples(x, y)
    if len(x) != len(y) or len(x) < 20:
        raise ValueError(f"x and y must hold equally many points, at least 20, got {len(x)} and {len(y)}")
    seed = require.whole_number("seed", seed, least=0)
    points = torch.cat([x, y]).cpu().numpy()
    labels = np.arange(2).repeat(len(x))
    seen, held_out, seen_labels, answers = train_test_split(
        points, labels, test_size=0.5, stratify=labels, random_state=seed
    )
    network = MLPClassifier((64,), solver="lbfgs", alpha=1.0, max_iter=500, random_state=seed)
    judge = make_pipeline(StandardScaler(), network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a judge that stops early is a fair judge still
        judge.fit(seen, seen_labels)
    right = judge.predict(held_out) == answers
    return TwoSampleTest(float(right.mean()), float(binom.sf(right.sum() - 1, len(right), 0.5)))


def told_apart(x: Tensor, y: Tensor, judges: int = 3) -> float:
    """Mean accuracy of the classifiers of `classifier_two_sample` with seeds 0, 1, …; near 0.5 when x and y are alike.

    Args:
        x: (n, D) sample.
        y: (n, D) sample of the same size.
        judges: how many classifiers.

    Raises:
        ValueError: as in `classifier_two_sample`, or no judge.
    """
    seeds = range(require.whole_number("judges", judges))
    return statistics.fmean(classifier_two_sample(x, y, seed).accuracy for seed in seeds)


def precision_recall(x: Tensor, y: Tensor, k: int = 3) -> PrecisionRecall:
    """Precision and recall of a sample (Kynkäänniemi et al. 2019, arXiv:1904.06991).

    A point lies among the others if it is as near to one of them as that one's k-th nearest neighbour of its own kind.
    Precision falls when samples are bad, recall when a part of the data is missing. Both depend on the size of the
    sample: compare them with those of true data of that size.

    Args:
        x: (n, D) sample of the model.
        y: (m, D) sample of the truth.
        k: which neighbour, less than n and m.

    Raises:
        ValueError: wrong shapes, NaN, or k is not from 1 to the smaller size less 1.
    """
    x, y = _samples(x, y)
    if require.whole_number("k", k) >= min(len(x), len(y)):
        raise ValueError(
            f"k must be less than the {min(len(x), len(y))} points of the smaller sample, got {k}"
        )

    def among(points: Tensor, others: Tensor) -> float:
        reach = (
            _distances(others, others).kthvalue(k + 1, dim=1).values
        )  # (m,), the first is the point itself
        return (_distances(points, others) <= reach).any(1).double().mean().item()

    return PrecisionRecall(among(x, y), among(y, x))


def compare(
    metric: Metric,
    x: Tensor,
    truth: Source | Tensor,
    repeats: int = 10,
    *,
    generator: torch.Generator | None = None,
) -> Comparison:
    """A sample metric between model and truth, beside its noise floor.

    The floor is the same metric between two true samples of the same size. A model whose value lies within a few
    spreads of the floor cannot be told from the truth by this metric at this sample size.

    Args:
        metric: (n, D), (n, D) → float, such as `mmd` or `sliced_wasserstein`; or a part of what a function returns,
            as in ``lambda x, y: classifier_two_sample(x, y).accuracy``, or
            ``lambda x, _: modes(x, centres, scale).high_quality``.
        x: (n, D) sample of the model.
        truth: an exact source, or a tensor (m, D) of true data with m ≥ 2n.
        repeats: how many pairs of true samples make the floor, at least 2.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: wrong shapes, NaN, repeats < 2, too few true data, or a metric that returns no number.
    """
    x = require.points("x", x)
    repeats = require.whole_number("repeats", repeats, least=2)
    pairs = [_true_pair(truth, len(x), generator) for _ in range(repeats)]
    floor = [metric(a, b) for a, b in pairs]
    value = [metric(x, b) for _, b in pairs]
    for number in floor + value:
        if not isinstance(number, numbers.Real) or math.isnan(number):
            got = number if isinstance(number, numbers.Real) else type(number).__name__
            raise ValueError(f"metric must return one number, got {got}")
    return Comparison(float(np.mean(value)), float(np.mean(floor)), float(np.std(floor, ddof=1)))


def _true_pair(truth: Source | Tensor, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Two independent true samples (n, D): fresh draws, or disjoint random parts of the data."""
    if isinstance(truth, Source):
        return truth.sample((n,), generator=generator), truth.sample((n,), generator=generator)
    data = require.points("truth", truth)
    if len(data) < 2 * n:
        raise ValueError(f"truth must hold at least {2 * n} points for two samples of {n}, got {len(data)}")
    device = data.device if generator is None else generator.device
    order = torch.randperm(len(data), generator=generator, device=device).to(data.device)
    return data[order[:n]], data[order[n : 2 * n]]


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Distances (n, m) by differences: the faster way by products loses all digits far from the origin."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _samples(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Check two samples of points in the same space."""
    x, y = require.points("x", x), require.points("y", y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"y must have D = {x.shape[1]} like x, got D = {y.shape[1]}")
    return x, y.to(x)
