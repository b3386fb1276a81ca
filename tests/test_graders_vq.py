"""The exercises of the lesson on discrete latents: right answers and common slips."""

import math
from collections import Counter

import pytest
import torch
from scipy.spatial import KDTree

from genlib import checks

F64 = {"dtype": torch.float64}

# References: each goes another way than the lesson.


def nearest(e, book):
    return torch.from_numpy(KDTree(book.numpy()).query(e.numpy())[1])


def new_code(count, total, rows, gamma):
    """A step from the old code towards each row."""
    code = total / count
    pull = (1 - gamma) / (gamma * count + (1 - gamma) * len(rows))
    return code + sum((pull * (row - code) for row in rows), torch.zeros_like(code))


def in_use(counts):
    """The geometric mean of one over the shares, taken over all that was chosen."""
    chosen = list(Counter(dict(enumerate(counts.int().tolist()))).elements())
    share = torch.tensor([counts[k] / len(chosen) for k in chosen], **F64)
    return math.prod((share ** (-1 / len(chosen))).tolist())


def slope(theta, f):
    return torch.func.grad(lambda t: (t.exp() * f).sum() / t.exp().sum())(theta)


def best_bound(joint):
    """Two codes at a time."""
    total = joint[:, 0]
    for column in joint.T[1:]:
        total = torch.logaddexp(total, column)
    return total


REFERENCES = [
    ("ex:vq-nearest", nearest),
    ("ex:vq-moving", new_code),
    ("ex:vq-perplexity", in_use),
    ("ex:vq-slope", slope),
    ("ex:vq-set", best_bound),
]


def lesson_new_code(count, total, rows, gamma):
    count = gamma * count + (1 - gamma) * len(rows)
    return (gamma * total + (1 - gamma) * rows.sum(0)) / count


def lesson_in_use(counts):
    share = counts / counts.sum()
    return (-torch.special.xlogy(share, share).sum()).exp()


def lesson_slope(theta, f):
    q = theta.softmax(0)
    return q * (f - q @ f)


LESSON = [
    ("ex:vq-nearest", lambda e, book: (e[:, None] - book).square().sum(2).argmin(1)),
    ("ex:vq-nearest", lambda e, book: (book.square().sum(1) - 2 * e @ book.T).argmin(1)),
    ("ex:vq-moving", lesson_new_code),
    ("ex:vq-perplexity", lesson_in_use),
    ("ex:vq-perplexity", lambda n: torch.distributions.Categorical(n[n > 0]).entropy().exp()),
    ("ex:vq-slope", lesson_slope),
    ("ex:vq-slope", lambda theta, f: (q := theta.softmax(0)) @ (torch.diag(f) - f[:, None] * q)),
    ("ex:vq-set", lambda joint: joint.logsumexp(1)),
]


def table(rule):
    """From a rule of all distances (n, K)."""
    return lambda e, book: rule((e[:, None] - book).norm(dim=2))


def moved(rule):
    """From a rule of the old count and sum, how many rows, their sum and mean, and γ; the old code without rows."""

    def answer(count, total, rows, gamma):
        if not len(rows):
            return total / count
        return rule(count, total, len(rows), rows.sum(0), rows.mean(0), gamma)

    return answer


def entropy(counts):
    return math.log(in_use(counts))


def sloped(rule):
    """From a rule of the probabilities, the costs and the mean cost."""
    return lambda theta, f: rule(q := theta.softmax(0), f, q @ f)


SLIPS = [
    ("ex:vq-nearest", table(lambda d: d.argmax(1)), "farthest"),
    ("ex:vq-nearest", lambda e, book: (e @ book.T).argmax(1), "large product"),
    ("ex:vq-nearest", lambda e, book: (e[:, None] - book).sum(2).argmin(1), "cancel"),
    ("ex:vq-nearest", lambda e, book: (e[:, :1] - book[:, 0]).square().argmin(1), "not the first alone"),
    ("ex:vq-nearest", table(lambda d: d.argmin(0)), "axes are exchanged"),
    ("ex:vq-nearest", table(lambda d: d.amin(1)), "Those are distances"),
    ("ex:vq-nearest", table(lambda d: d.square().amin(1)), "squared distances"),
    ("ex:vq-nearest", lambda e, book: book[nearest(e, book)], "the codes themselves"),
    ("ex:vq-nearest", table(lambda d: d.argmin(1) + 1), "counted from 0"),
    ("ex:vq-moving", lambda count, total, rows, gamma: total / count, "Nothing has moved"),
    ("ex:vq-moving", moved(lambda N, S, n, s, m, g: (g * S + (1 - g) * s) / N), "The count moves too"),
    ("ex:vq-moving", moved(lambda N, S, n, s, m, g: g * S + (1 - g) * s), "divide by the count"),
    (
        "ex:vq-moving",
        moved(lambda N, S, n, s, m, g: ((1 - g) * S + g * s) / ((1 - g) * N + g * n)),
        "γ is what is kept",
    ),
    ("ex:vq-moving", moved(lambda N, S, n, s, m, g: (S + s) / (N + n)), "must be forgotten"),
    ("ex:vq-moving", moved(lambda N, S, n, s, m, g: (g * S + s) / (g * N + n)), "New rows weigh"),
    (
        "ex:vq-moving",
        moved(lambda N, S, n, s, m, g: (g * S + (1 - g) * m) / (g * N + 1 - g)),
        "as many rows as it has",
    ),
    (
        "ex:vq-moving",
        moved(lambda N, S, n, s, m, g: (g * S + (1 - g) * m) / (g * N + (1 - g) * n)),
        "The sum of the rows",
    ),
    ("ex:vq-moving", moved(lambda N, S, n, s, m, g: g * S / N + (1 - g) * m), "however many rows"),
    ("ex:vq-moving", moved(lambda N, S, n, s, m, g: m), "mean of the batch"),
    ("ex:vq-perplexity", entropy, "That is the entropy: e"),
    ("ex:vq-perplexity", lambda n: 2 ** entropy(n), "not 2 to it"),
    ("ex:vq-perplexity", lambda n: entropy(n) / math.log(2), "entropy in bits"),
    ("ex:vq-perplexity", lambda n: (n > 0).sum(), "chosen at all"),
    ("ex:vq-perplexity", lambda n: n.sum() ** 2 / n.square().sum(), "sum of squares"),
    ("ex:vq-perplexity", lambda n: 1 / in_use(n), "sign is wrong"),
    ("ex:vq-perplexity", lambda n: in_use(n) ** (1 / len(n)), "not a mean over the codes"),
    ("ex:vq-perplexity", lambda n: n.sum() / n.max(), "largest share"),
    ("ex:vq-slope", sloped(lambda q, f, F: q * f), "mean cost is missing"),
    ("ex:vq-slope", sloped(lambda q, f, F: f - F), "How often"),
    ("ex:vq-slope", sloped(lambda q, f, F: q * (F - f)), "sign is wrong"),
    ("ex:vq-slope", sloped(lambda q, f, F: q * (f - f.mean())), "weigh by q"),
    ("ex:vq-slope", sloped(lambda q, f, F: f), "with respect to q"),
    ("ex:vq-slope", sloped(lambda q, f, F: q), "Those are the probabilities"),
    ("ex:vq-slope", sloped(lambda q, f, F: q**2 * (f - F)), "once too often"),
    ("ex:vq-slope", lambda theta, f: theta * (f - theta @ f), "softmax of the logits"),
    ("ex:vq-slope", sloped(lambda q, f, F: F), "That is the mean cost"),
    ("ex:vq-set", lambda joint: joint.logsumexp(1) - math.log(joint.shape[1]), "divided by m"),
    ("ex:vq-set", lambda joint: joint.max(1).values, "not the best alone"),
    ("ex:vq-set", lambda joint: joint.mean(1), "mean of logarithms"),
    ("ex:vq-set", lambda joint: joint.sum(1), "Add the probabilities"),
    ("ex:vq-set", lambda joint: joint.exp().sum(1).log(), "is 0 as a number"),
    ("ex:vq-set", lambda joint: joint.logsumexp(0), "sum over the codes"),
    ("ex:vq-set", lambda joint: -joint.logsumexp(1), "sign is wrong"),
    ("ex:vq-set", lambda joint: joint.flatten().logsumexp(0), "not for all"),
]

NUMBERS = {
    "ex:vq-least": (1.6153, 1.7918, "six equal cells cost"),
    "ex:vq-left-out": (0.1875, 0.13, "base 2"),
}


@pytest.mark.parametrize("label", NUMBERS)
def test_numbers(label, said):
    right, wrong, says = NUMBERS[label]
    assert said(label, right) == "right"
    assert said(label, torch.tensor(right)) == "right"
    assert says in said(label, wrong)
    assert said(label, 77.7).endswith(next(iter(checks._graders[label](0))).hint)


@pytest.mark.parametrize("label", NUMBERS)
def test_every_slip_of_a_number_is_named_and_none_is_another(label, said):
    checks.grade(label, None)
    (case,) = checks._graders[label](0)
    for slip, wrong in case.slips.items():
        assert said(label, wrong).endswith(slip)


def test_the_least_rate_from_its_parts(said):
    spread = torch.distributions.Normal(0.0, math.sqrt(1 / 12)).entropy().item()
    assert said("ex:vq-least", math.log(6) - spread) == "right"
