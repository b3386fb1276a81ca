"""The exercises of the lesson on discrete latents: right answers and common slips."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from torch.distributions import Categorical, Normal
from torch.nn.functional import cosine_similarity, one_hot

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
    largest = theta.max()
    return torch.func.grad(lambda t: ((t - largest).exp() * f).sum() / (t - largest).exp().sum())(theta)


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


def new_code_by_a_step(count, total, rows, gamma):
    code = total / count
    if len(rows) == 0:
        return code
    share = (1 - gamma) * len(rows) / (gamma * count + (1 - gamma) * len(rows))
    return code + share * (rows.mean(0) - code)


def lesson_in_use(counts):
    share = counts / counts.sum()
    return (-torch.special.xlogy(share, share).sum()).exp()


def lesson_slope(theta, f):
    q = theta.softmax(0)
    return q * (f - q @ f)


LESSON = [
    ("ex:vq-nearest", lambda e, book: (e[:, None] - book).square().sum(2).argmin(1)),
    ("ex:vq-nearest", lambda e, book: (book.square().sum(1) - 2 * e @ book.T).argmin(1)),
    ("ex:vq-nearest", lambda e, book: (e[:, None] - book).norm(dim=2).argmin(1)),
    ("ex:vq-nearest", lambda e, book: torch.stack([(row - book).square().sum(1).argmin() for row in e])),
    ("ex:vq-moving", lesson_new_code),
    ("ex:vq-moving", new_code_by_a_step),
    ("ex:vq-perplexity", lesson_in_use),
    ("ex:vq-perplexity", lambda n: Categorical(n[n > 0]).entropy().exp()),
    ("ex:vq-perplexity", lambda n: torch.prod((p := n / n.sum()) ** -p)),
    ("ex:vq-perplexity", lambda n: 2 ** -((p := n / n.sum()) * (p + 1e-12).log2()).sum()),
    ("ex:vq-slope", lesson_slope),
    ("ex:vq-slope", lambda theta, f: (q := theta.softmax(0)) @ (torch.diag(f) - f[:, None] * q)),
    ("ex:vq-slope", lambda theta, f: torch.func.grad(lambda t: t.softmax(0) @ f)(theta)),
    ("ex:vq-set", lambda joint: joint.logsumexp(1)),
    ("ex:vq-set", lambda joint: (top := joint.amax(1)) + (joint - top[:, None]).exp().sum(1).log()),
    ("ex:vq-set", lambda joint: joint.amax(1) - joint.log_softmax(1).amax(1)),
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
    ("ex:vq-nearest", table(lambda d: d.square().argmax(1)), "farthest"),
    ("ex:vq-nearest", lambda e, book: cosine_similarity(e[:, None], book, dim=2).argmax(1), "small angle"),
    ("ex:vq-nearest", lambda e, book: (book.square().sum(1) - e @ book.T).argmin(1), "counts twice"),
    ("ex:vq-nearest", lambda e, book: book.norm(dim=1).argmin().repeat(len(e)), "shortest code"),
    ("ex:vq-nearest", table(lambda d: d), "whole table of distances"),
    ("ex:vq-nearest", table(lambda d: d.square()), "whole table of squared"),
    ("ex:vq-nearest", table(lambda d: d.argmin()), "along one axis"),
    ("ex:vq-nearest", lambda e, book: one_hot(nearest(e, book), len(book)), "with 0 and 1"),
    ("ex:vq-moving", lambda count, total, rows, gamma: total / count, "Nothing has moved"),
    ("ex:vq-moving", moved(lambda N, S, n, s, m, g: (g * S + (1 - g) * s) / n), "by the rows of this batch"),
    (
        "ex:vq-moving",
        moved(lambda N, S, n, s, m, g: (S + (1 - g) * s) / (N + (1 - g) * n)),
        "old count and sum shrink",
    ),
    ("ex:vq-moving", moved(lambda N, S, n, s, m, g: (g * S + s) / (g * N + (1 - g) * n)), "In the sum, too"),
    (
        "ex:vq-moving",
        moved(lambda N, S, n, s, m, g: (g * S + (1 - g) * s) / (g * N + n)),
        "In the count, too",
    ),
    (
        "ex:vq-moving",
        moved(lambda N, S, n, s, m, g: (g * S + (1 - g) * s) / (g * N + 1 - g)),
        "the count moves by n",
    ),
    ("ex:vq-moving", moved(lambda N, S, n, s, m, g: S / (g * N + (1 - g) * n)), "The sum moves too"),
    ("ex:vq-moving", moved(lambda N, S, n, s, m, g: g * N + (1 - g) * n), "moving count: the code"),
    ("ex:vq-moving", lambda *given: 1 / new_code(*given), "below the line"),
    (
        "ex:vq-moving",
        moved(lambda N, S, n, s, m, g: (g * S + (1 - g) * s.sum()) / (g * N + (1 - g) * n)),
        "not the whole table",
    ),
    (
        "ex:vq-moving",
        lambda N, S, rows, g: (
            (code := S / N) + (1 - g) * len(rows) / (g * N + (1 - g) * len(rows)) * (rows.mean(0) - code)
        ),
        "no rows is NaN",
    ),
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
    ("ex:vq-perplexity", lambda n: math.exp(entropy(n) / math.log(2)), "2 to it, not e"),
    ("ex:vq-perplexity", lambda n: (-(p := n / n.sum()) @ p.log()).exp(), "0 log 0"),
    ("ex:vq-perplexity", lambda n: len(n), "codes the book has"),
    ("ex:vq-perplexity", lambda n: -entropy(n), "minus the entropy"),
    ("ex:vq-perplexity", lambda n: in_use(n) / len(n), "share of the book"),
    ("ex:vq-perplexity", lambda n: (-torch.xlogy(n, n).sum()).exp(), "Counts are no shares"),
    ("ex:vq-perplexity", lambda n: Categorical(logits=n).entropy().exp(), "not a softmax"),
    ("ex:vq-perplexity", lambda n: (p := n / n.sum()) ** -p, "not one for each code"),
    ("ex:vq-perplexity", lambda n: n / n.sum(), "how even"),
    ("ex:vq-slope", sloped(lambda q, f, F: q * f), "mean cost is missing"),
    ("ex:vq-slope", sloped(lambda q, f, F: q * f - F), "whole difference"),
    ("ex:vq-slope", sloped(lambda q, f, F: q * (1 - q) * f), "the diagonal alone"),
    ("ex:vq-slope", sloped(lambda q, f, F: torch.diag(q) - q[:, None] * q), "table of all slopes"),
    ("ex:vq-slope", sloped(lambda q, f, F: q * (f / F - 1)), "logarithm of the mean"),
    ("ex:vq-slope", lambda theta, f: slope(f, theta), "not from the costs"),
    ("ex:vq-slope", lambda theta, f: slope(-theta, f), "more likely"),
    ("ex:vq-slope", lambda theta, f: (w := theta.exp()) * (f - w @ f), "Without the division"),
    (
        "ex:vq-slope",
        lambda theta, f: (q := theta.exp() / theta.exp().sum()) * (f - q @ f),
        "infinite or 0 as a number",
    ),
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
    ("ex:vq-set", lambda joint: joint.amin(1), "worst code"),
    ("ex:vq-set", lambda joint: joint.mean(1) + math.log(joint.shape[1]), "all codes alike"),
    ("ex:vq-set", lambda joint: (joint.softmax(1) * joint).sum(1), "entropy is missing"),
    ("ex:vq-set", lambda joint: joint.logsumexp(1) + math.log(joint.shape[1]), "Nothing is multiplied"),
    ("ex:vq-set", lambda joint: (joint - joint.amax(1, True)).logsumexp(1), "added at the end"),
    ("ex:vq-set", lambda joint: joint.logsumexp(1) / math.log(2), "In nats"),
    ("ex:vq-set", lambda joint: joint.softmax(1), "shares of the codes"),
    ("ex:vq-set", lambda joint: joint.logsumexp(1).mean(), "no mean over them"),
    ("ex:vq-set", lambda joint: joint.logsumexp(1).sum(), "not added up"),
]

LABELS = [label for label, _ in REFERENCES]
NUMBERS = {
    "ex:vq-least": [
        (math.log(6), "six equal cells cost"),
        (0.5 * math.log(3 * 12), "variance 3"),
        (math.log2(6), "in bits that is what"),
        (1.6153 / math.log(2), "natural logarithm"),
        (math.log(6) + 0.1765, "different signs"),
        (-1.6153, "no negative"),
        (-0.1765, "not between 0 and 1"),
    ],
    "ex:vq-left-out": [
        (0.1875 * math.log(2), "base 2"),
        (32 * 32 * 9 / 128**2, "three colours"),
        (32 * 32 * math.log(512) / 128**2, "nats per pixel"),
        (32 * 32 / (128 * 128 * 3), "how many bits has each"),
        (32 * 32 * 512 / (128 * 128 * 3), "the logarithm of 512"),
        (32 * 32 * 9, "whole image"),
        (0.1875 * math.log10(2), "not 10"),
    ],
}
RIGHT = {"ex:vq-least": 1.6153, "ex:vq-left-out": 0.1875}
ROUGH = {"ex:vq-least": [1.615, "1.61"], "ex:vq-left-out": [0.1875, "0.19"]}


@pytest.mark.parametrize("label", NUMBERS)
def test_numbers(label, said):
    right = RIGHT[label]
    for answer in (
        right,
        torch.tensor(right),
        torch.tensor(right, **F64),
        np.float32(right),
        np.array(right),
    ):
        assert said(label, answer) == "right"
    accepted, refused = ROUGH[label]
    assert said(label, accepted) == "right"
    assert said(label, float(refused)).startswith("not yet")
    for wrong, says in NUMBERS[label]:
        assert says in said(label, wrong)
    assert said(label, 77.7).endswith(next(iter(checks._graders[label](0))).hint)


@pytest.mark.parametrize("label", NUMBERS)
def test_every_slip_of_a_number_is_named_and_none_is_another(label, said):
    checks.grade(label, None)
    (case,) = checks._graders[label](0)
    assert len(case.slips) >= 10
    for slip, wrong in case.slips.items():
        assert said(label, wrong).endswith(slip)


def test_the_least_rate_from_its_parts(said):
    spread = Normal(0.0, math.sqrt(1 / 12)).entropy().item()
    assert said("ex:vq-least", math.log(6) - spread) == "right"


@pytest.mark.parametrize("label", [*LABELS, *NUMBERS])
@pytest.mark.parametrize("empty", [..., None])
def test_an_empty_answer_is_none(label, empty, said):
    assert said(label, empty).startswith("no answer yet")
    if label in LABELS:
        assert said(label, lambda *given: empty).startswith("no answer yet")


ODD = [
    *("text", b"", {}, [[1.0], [1.0, 2.0]], [None], 1j, 10**400, object(), torch.tensor([1j])),
    *(np.array("a"), (torch.ones(3), "text"), (1.0, None)),
]


@pytest.mark.parametrize("label", [*LABELS, *NUMBERS])
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_an_answer_that_holds_no_numbers_is_told_so(label, odd, said):
    told = said(label, odd if label in NUMBERS else lambda *given: odd)
    assert told.startswith("not yet")
    assert "The answer must hold numbers, of shape (" in told


@pytest.mark.parametrize("label", [*LABELS, *NUMBERS])
@pytest.mark.parametrize("odd", [(), [], torch.ones(2, 3, 7)], ids=["tuple", "list", "tensor"])
def test_an_answer_of_another_shape_is_told_the_right_one(label, odd, said):
    assert "The shape must be (" in said(label, odd if label in NUMBERS else lambda *given: odd)


@pytest.mark.parametrize("label", LABELS)
def test_a_number_where_a_function_is_asked_is_no_crash(label, said):
    assert said(label, 3.0).startswith("not yet")


KINDS = [
    lambda got: torch.as_tensor(got, dtype=torch.float64),
    lambda got: torch.as_tensor(got).float(),
    lambda got: torch.as_tensor(got, dtype=torch.float64).requires_grad_(),
    lambda got: torch.as_tensor(got).numpy(),
    lambda got: torch.as_tensor(got).tolist(),
]


@pytest.mark.parametrize(("label", "answer"), REFERENCES)
@pytest.mark.parametrize("kind", KINDS, ids=["double", "single", "graph", "numpy", "plain"])
def test_right_answers_of_every_type_are_graded_right(label, answer, kind, said):
    assert said(label, lambda *given: kind(answer(*given))).startswith("right")


@pytest.mark.parametrize("label", LABELS)
def test_five_cases_at_least_each_with_a_hint(label):
    checks.grade(label, None)
    cases = list(checks._graders[label](lambda *given: None))
    assert len(cases) >= 5
    assert all(case.hint for case in cases)
    assert len({case.question for case in cases}) == len(cases)
    assert len(cases[0].slips) >= 10


def test_codes_move_towards_the_rows_and_stay_without_any():
    total, rows = torch.tensor([2.0, -1.0], **F64), torch.tensor([[3.0, 0.5], [1.0, 2.0]], **F64)
    torch.testing.assert_close(new_code(4.0, total, rows, 0.0), rows.mean(0))
    torch.testing.assert_close(new_code(4.0, total, rows[:0], 0.7), total / 4)


def test_more_codes_never_make_the_bound_worse_and_all_codes_give_the_evidence():
    joint = torch.linspace(-9, -3, 12, **F64).view(2, 6)
    bounds = torch.stack([best_bound(joint[:, :m]) for m in range(1, 7)])
    assert (bounds.diff(dim=0) > 0).all()
    torch.testing.assert_close(bounds[-1].exp(), joint.exp().sum(1))
