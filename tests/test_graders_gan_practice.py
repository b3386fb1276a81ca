"""The exercises of the two lessons that train adversarial networks: right answers and common slips."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn.neighbors import NearestNeighbors
from test_graders_gan import ANSWERS as OF_THE_GAME

from genlib import checks, metrics


def balance(counts, p):
    return stats.entropy(counts, p)


def lesson_balance(counts, p):
    h = counts / counts.sum()
    return torch.xlogy(h, h / p).sum()


def good(dims):
    return stats.chi2(dims).cdf(9)


def lesson_good(dims):
    return torch.special.gammainc(torch.tensor(dims / 2), torch.tensor(4.5))


def rests(eta, gamma):
    """Both eigenvalues lie in the unit circle: |det| < 1 and |trace| < 1 + det (Jury's conditions)."""
    trace, det = 2 - eta * gamma, 1 - eta * gamma + eta**2 / 4
    return abs(det) < 1 and abs(trace) < 1 + det


def lesson_rests(eta, gamma):
    J = torch.tensor([[0.0, 0.5], [-0.5, -gamma]], dtype=torch.float64)
    return bool(torch.linalg.eigvals(torch.eye(2) + eta * J).abs().max() < 1)


def bridge(w):
    return 2 * stats.norm.cdf(0.425 * w) - 1


def reach(y, k):
    return NearestNeighbors(n_neighbors=k + 1).fit(y).kneighbors(y)[0][:, -1]


def precision(x, y, k):
    away = np.linalg.norm(x.numpy()[:, None] - y.numpy(), axis=2)
    return (away <= reach(y, k) + 1e-9).any(1).mean()


def copies(x, y, share):
    away = NearestNeighbors(n_neighbors=1).fit(y).kneighbors(x)[0][:, 0]
    return (away < np.quantile(reach(y, 1), share)).mean()


def errors(a, n):
    return (2 * n * a - n) / stats.binom(2 * n, 0.5).std()


ANSWERS = [
    ("ex:gat-balance", balance),
    ("ex:gat-balance", lesson_balance),
    ("ex:gat-chance", lambda n, K: K * (1 - 1 / K) ** n),
    ("ex:gat-chance", lambda n, K: K * math.exp(n * math.log1p(-1 / K))),
    ("ex:gat-good", good),
    ("ex:gat-good", lesson_good),
    ("ex:gat-friction", rests),
    ("ex:gat-friction", lesson_rests),
    ("ex:gat-bridge", bridge),
    ("ex:gat-bridge", lambda w: special.erf(0.425 * w / math.sqrt(2))),
    ("ex:god-precision", precision),
    ("ex:god-precision", lambda x, y, k: metrics.precision_recall(x, y, k).precision),
    ("ex:god-copies", copies),
    ("ex:god-average", 1151),
    ("ex:god-units", lambda gamma: gamma / 64),
    ("ex:god-chance", errors),
]


@pytest.mark.parametrize(("label", "answer"), ANSWERS)
def test_right_answers_are_graded_right(label, answer, said):
    assert said(label, answer).startswith("right")


@pytest.mark.parametrize(("label", "answer"), [pair for pair in ANSWERS if callable(pair[1])])
def test_right_answers_in_single_precision_are_graded_right(label, answer, said, single):
    assert said(label, single(answer)).startswith("right")


@pytest.mark.parametrize("label", sorted({label for label, _ in ANSWERS + OF_THE_GAME}))
def test_no_slip_is_the_right_answer(label):
    checks.grade(label, None)  # so that the graders are there
    for case in checks._graders[label](lambda *given: None):
        assert not [s for s, wrong in case.slips.items() if checks._matches(wrong, case.expected, case.atol)]


@pytest.mark.parametrize(
    ("label", "answer", "says"),
    [
        ("ex:gat-balance", lambda c, p: balance(p, c), "other direction"),
        ("ex:gat-balance", lambda c, p: balance(c, torch.ones_like(p)), "not equally likely"),
        ("ex:gat-balance", lambda c, p: torch.xlogy(c, c / p).sum(), "shares first"),
        ("ex:gat-balance", lambda c, p: stats.entropy(c), "where is p"),
        ("ex:gat-balance", lambda c, p: balance(c, p) + stats.entropy(c), "cross-entropy"),
        ("ex:gat-balance", lambda c, p: balance(c, p) / math.log(2), "nats"),
        ("ex:gat-balance", lambda c, p: torch.xlogy(c / c.sum(), c / c.sum() / p), "One number"),
        ("ex:gat-chance", lambda n, K: (1 - 1 / K) ** n, "there are K"),
        ("ex:gat-chance", lambda n, K: K - K * (1 - 1 / K) ** n, "are hit"),
        ("ex:gat-chance", lambda n, K: K * (1 - n / K), "all n samples"),
        ("ex:gat-chance", lambda n, K: K * math.exp(-n / K), "exact answer"),
        ("ex:gat-good", lambda dims: good(2), "in the plane"),
        ("ex:gat-good", lambda dims: 1 - good(dims), "outside"),
        ("ex:gat-good", lambda dims: good(1) ** dims, "cube"),
        ("ex:gat-good", lambda dims: stats.chi2(dims).cdf(3), "not 3"),
        ("ex:gat-friction", lambda eta, gamma: gamma > 0, "eigenvalues"),
        ("ex:gat-friction", lambda eta, gamma: gamma > eta / 4, "eigenvalues"),
        ("ex:gat-friction", lambda eta, gamma: True, "eigenvalues"),
        ("ex:gat-friction", lambda eta, gamma: not rests(eta, gamma), "eigenvalues"),
        ("ex:gat-bridge", lambda w: 2 * stats.norm.cdf(w / 2) - 1, "ends are good"),
        ("ex:gat-bridge", lambda w: 0.85 * w * stats.norm.pdf(0), "narrow"),
        ("ex:gat-bridge", lambda w: 1 - bridge(w), "share that is good"),
        ("ex:gat-bridge", lambda w: bridge(w) / 2, "two halves"),
        ("ex:gat-bridge", lambda w: bridge(2 * w), "2z/w"),
        ("ex:god-precision", lambda x, y, k: precision(y, x, k), "recall"),
        ("ex:god-precision", lambda x, y, k: precision(x, y, k - 1), "own neighbour"),
        ("ex:god-precision", lambda x, y, k: 1 - precision(x, y, k), "outside"),
        ("ex:god-precision", lambda x, y, k: len(x) * precision(x, y, k), "number"),
        ("ex:god-copies", lambda x, y, share: 0.0, "own nearest"),
        ("ex:god-copies", lambda x, y, share: 1 - copies(x, y, share), "further"),
        ("ex:god-copies", lambda x, y, share: len(x) * copies(x, y, share), "number"),
        ("ex:god-average", 1150, "hair above"),
        ("ex:god-average", 500, "1/e"),
        ("ex:god-average", 2301, "hundredth"),
        ("ex:god-units", lambda gamma: 64 * gamma, "other way"),
        ("ex:god-units", lambda gamma: gamma / 8, "square"),
        ("ex:god-units", lambda gamma: gamma, "units"),
        ("ex:god-chance", lambda a, n: errors(a, n / 2), "2n points"),
        ("ex:god-chance", lambda a, n: a - 0.5, "distance from one half"),
        ("ex:god-chance", lambda a, n: abs(errors(a, n)), "negative"),
        ("ex:god-chance", lambda a, n: errors(a, n) / 2, "not 1"),
    ],
)
def test_slips_are_named(label, answer, says, said):
    told = said(label, answer)
    assert told.startswith("not yet")
    assert says in told
