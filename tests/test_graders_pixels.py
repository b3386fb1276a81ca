"""The exercises of the lesson on autoregressive models of images: right answers and common slips."""

import itertools
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.stats import logistic as scipy_logistic
from torch.distributions import Categorical, Normal
from torch.nn.functional import cross_entropy, logsigmoid, nll_loss, pad

from genlib import checks

# References: each goes another way than the lesson.


def mask(size, itself):
    """In the order of reading, place by place."""
    middle = (size // 2, size // 2)
    places = list(itertools.product(range(size), repeat=2))
    return torch.tensor([float(at < middle or (itself and at == middle)) for at in places]).view(size, size)


def field(size, dilations):
    """From the first place that is reached to the last, following all paths through the taps."""
    reached = {0}
    for d in dilations:
        reached = {place + d * tap for place in reached for tap in range(size)}
    return max(reached) - min(reached) + 1


def nll(logits, x):
    return -Categorical(logits=logits).log_prob(x).flatten(1).sum(1)


def logistic(mu, s, levels):
    """SciPy's cumulative function, from the side of the smaller tail."""
    law = scipy_logistic(float(mu), float(s))
    edges = [-math.inf, *(k + 0.5 for k in range(levels - 1)), math.inf]
    pairs = itertools.pairwise(edges)
    return [
        law.cdf(b) - law.cdf(a) if a + b < 2 * mu or levels == 1 else law.sf(a) - law.sf(b) for a, b in pairs
    ]


def classes(log_p, log_prior):
    """With decimal numbers, for which exp(−1000) is not 0."""
    table = [[Decimal(joint).exp() for joint in row] for row in (log_p + log_prior).tolist()]
    return torch.tensor([[float(p / sum(row)) for p in row] for row in table])


def bits(q, x):
    """With whole numbers: the width is above / below, exactly; then the first n with 2^−n at most half of it."""
    shares = [float(row[k]).as_integer_ratio() for row, k in zip(q, x, strict=True)]
    above, below = map(math.prod, zip(*shares, strict=True))
    least = max(0, below.bit_length() - above.bit_length())
    return next(n for n in itertools.count(least) if above << n >= 2 * below)


def narrow(low, width, q, k):
    """From all edges of the parts."""
    edges = [low + width * share for share in itertools.accumulate(q.tolist(), initial=0.0)]
    return edges[k], edges[k + 1] - edges[k]


REFERENCES = [
    ("ex:ai-mask", mask),
    ("ex:ai-field", field),
    ("ex:ai-nll", nll),
    ("ex:ai-logistic", logistic),
    ("ex:ai-bayes", classes),
    ("ex:ai-bits", bits),
    ("ex:ai-narrow", narrow),
]


def lesson_mask(size, itself):
    middle = size // 2
    seen = torch.zeros(size, size)
    seen[:middle] = 1
    seen[middle, : middle + itself] = 1
    return seen


def lesson_nll(logits, x):
    log_q = logits.log_softmax(-1)
    return -log_q.gather(-1, x[..., None]).squeeze(-1).sum((1, 2))


def lesson_logistic(mu, s, levels):
    edges = (torch.arange(1, levels) - 0.5 - mu) / s
    a = pad(edges, (1, 0), value=-math.inf)
    b = pad(edges, (0, 1), value=math.inf)
    return b.sigmoid() * (-a).sigmoid() * (1 - (a - b).exp())


def mirrored(mu, s, levels):
    """Each difference from the side where both numbers are small."""
    edges = (torch.arange(levels + 1) - 0.5 - mu) / s
    edges[0], edges[-1] = -math.inf, math.inf
    a, b = edges[:-1], edges[1:]
    right = (edges[:-1] > 0) | (edges[1:] > -edges[:-1])
    return torch.where(right, (-a).sigmoid() - (-b).sigmoid(), b.sigmoid() - a.sigmoid())


def from_logarithms(mu, s, levels):
    edges = (torch.arange(1, levels, dtype=torch.float64) - 0.5 - float(mu)) / float(s)
    below, above = pad(logsigmoid(edges), (0, 1)), pad(logsigmoid(-edges), (1, 0))
    gap = pad(edges.diff(), (1, 1), value=math.inf) if levels > 1 else torch.full((1,), math.inf)
    return (below + above).exp() * -torch.expm1(-gap)


def lesson_bits(q, x):
    cost = -q.gather(1, x[:, None]).log2().sum()
    return int(cost.ceil()) + 1


LESSON = [
    ("ex:ai-mask", lesson_mask),
    ("ex:ai-mask", lambda size, itself: torch.arange(size**2).view(size, size) < size**2 // 2 + itself),
    ("ex:ai-mask", lambda size, itself: mask(size, itself).int()),
    ("ex:ai-field", lambda size, dilations: 1 + sum((size - 1) * d for d in dilations)),
    ("ex:ai-field", lambda size, dilations: 1 + (size - 1) * torch.tensor(dilations).sum()),
    ("ex:ai-field", lambda size, dilations: float(field(size, dilations))),
    ("ex:ai-nll", lesson_nll),
    ("ex:ai-nll", lambda logits, x: cross_entropy(logits.movedim(-1, 1), x, reduction="none").sum((1, 2))),
    (
        "ex:ai-nll",
        lambda logits, x: (logits.logsumexp(-1) - logits.gather(-1, x[..., None])[..., 0]).sum((1, 2)),
    ),
    ("ex:ai-logistic", lesson_logistic),
    ("ex:ai-logistic", mirrored),
    ("ex:ai-logistic", from_logarithms),
    ("ex:ai-bayes", lambda log_p, log_prior: (log_p + log_prior).softmax(1)),
    (
        "ex:ai-bayes",
        lambda log_p, log_prior: ((j := log_p + log_prior) - torch.logsumexp(j, 1, keepdim=True)).exp(),
    ),
    (
        "ex:ai-bayes",
        lambda log_p, log_prior: (
            (w := (log_p - log_p.amax(1, keepdim=True)).exp() * log_prior.exp()) / w.sum(1, keepdim=True)
        ),
    ),
    ("ex:ai-bits", lesson_bits),
    ("ex:ai-bits", lambda q, x: math.ceil(1 - q[torch.arange(len(x)), x].log2().sum())),
    (
        "ex:ai-bits",
        lambda q, x: math.ceil(-sum(math.log(row[k]) for row, k in zip(q, x, strict=True)) / math.log(2)) + 1,
    ),
    ("ex:ai-narrow", lambda low, width, q, k: (low + width * q[:k].sum(), width * q[k])),
    ("ex:ai-narrow", lambda low, width, q, k: [low + width * sum(q[:k].tolist()), width * q[k].item()]),
    ("ex:ai-narrow", lambda low, width, q, k: (low + width * (q.cumsum(0)[k] - q[k]), width * float(q[k]))),
    ("ex:ai-narrow", lambda low, width, q, k: torch.stack([low + width * q[:k].sum(), width * q[k]])),
]


def seen(rule):
    """A mask from a rule of the rows and columns counted from the middle, and of `itself`."""

    def answer(size, itself):
        away = torch.arange(size) - size // 2
        return rule(away[:, None].expand(size, size), away.expand(size, size), itself)

    return answer


def priced(rule):
    """An answer from a rule of the log-probabilities of the levels that are there, (B, H, W)."""
    return lambda logits, x: rule(logits.log_softmax(-1).gather(-1, x[..., None])[..., 0])


def cut(F, *, shift=0.5):
    """Shares between open ends from a rule for what lies below v, given μ and s."""

    def answer(mu, s, levels):
        below = F(torch.arange(levels - 1, dtype=torch.float64) + shift, mu, s)
        return pad(pad(below, (1, 0)), (0, 1), value=1.0).diff()

    return answer


def usual(v, mu, s):
    return ((v - mu) / s).sigmoid()


def between(mu, s, levels):
    k = torch.arange(levels, dtype=torch.float64)
    return usual(k + 0.5, mu, s) - usual(k - 0.5, mu, s)


def density(mu, s, levels):
    at = usual(torch.arange(levels, dtype=torch.float64), mu, s)
    return at * (1 - at) / s


def one_closed(end):
    def answer(mu, s, levels):
        p = lesson_logistic(mu, s, levels).double()
        p[end] = between(mu, s, levels)[end]
        return p

    return answer


def joined(rule):
    """An answer from a rule of log p(x, c)."""
    return lambda log_p, log_prior: rule(log_p + log_prior)


def paid(rule):
    """An answer from a rule of −log2 of each pixel's probability."""
    return lambda q, x: rule(-q[torch.arange(len(x)), x].log2())


def whole(cost):
    return math.ceil(cost) + 1


def part(rule):
    """An answer from a rule of the low end, the width, what lies before symbol k, and its probability."""
    return lambda low, width, q, k: rule(low, width, q[:k].sum().item(), q[k].item())


SLIPS = [
    ("ex:ai-mask", lambda size, itself: mask(size, not itself), "only if `itself`"),
    ("ex:ai-mask", lambda size, itself: mask(size, False), "only if `itself`"),
    ("ex:ai-mask", lambda size, itself: mask(size, True), "only if `itself`"),
    ("ex:ai-mask", lambda size, itself: mask(size, itself).T, "first index is the row"),
    ("ex:ai-mask", lambda size, itself: mask(size, itself).flip(0), "rows below: row 0"),
    ("ex:ai-mask", lambda size, itself: mask(size, itself).flip(1), "not what is right of it"),
    ("ex:ai-mask", lambda size, itself: mask(size, itself).flip(0, 1), "comes after the middle"),
    ("ex:ai-mask", lambda size, itself: 1 - mask(size, itself), "they are exchanged"),
    (
        "ex:ai-mask",
        seen(lambda i, j, itself: ((i <= 0) & (j < 0)) | (itself & (i == 0) & (j == 0))),
        "end to end",
    ),
    ("ex:ai-mask", seen(lambda i, j, itself: (i < 0) | (itself & (i == 0) & (j == 0))), "is 1 too"),
    ("ex:ai-mask", seen(lambda i, j, itself: i <= 0), "right of the middle is 0"),
    (
        "ex:ai-mask",
        seen(lambda i, j, itself: (j < 0) | (itself & (i == 0) & (j == 0))),
        "Columns do not count",
    ),
    ("ex:ai-mask", lambda size, itself: torch.ones(size, size).tril(itself - 1), "of a sequence"),
    ("ex:ai-mask", lambda size, itself: mask(size, itself)[: size // 2 + 1], "rows below as well"),
    ("ex:ai-mask", lambda size, itself: mask(size, itself).flatten(), "mask is square"),
    ("ex:ai-mask", lambda size, itself: torch.ones(size, size), "Nothing is hidden"),
    ("ex:ai-field", lambda size, dilations: (size - 1) * sum(dilations), "1 is missing"),
    ("ex:ai-field", lambda size, dilations: sum(dilations), "sum of the dilations"),
    ("ex:ai-field", lambda size, dilations: 1 + sum(dilations), "as if it had 2 taps"),
    ("ex:ai-field", lambda size, dilations: size * sum(dilations), "is missing too"),
    ("ex:ai-field", lambda size, dilations: 1 + size * sum(dilations), "not size."),
    ("ex:ai-field", lambda size, dilations: 1 + (size - 1) * len(dilations), "taps lie d apart"),
    (
        "ex:ai-field",
        lambda size, dilations: math.prod(1 + (size - 1) * d for d in dilations),
        "not multiplied",
    ),
    ("ex:ai-field", lambda size, dilations: size ** len(dilations), "counts paths"),
    ("ex:ai-field", lambda size, dilations: field(size, dilations[-1:]), "last layer alone"),
    ("ex:ai-field", lambda size, dilations: max(field(size, [d]) for d in dilations), "widest layer alone"),
    ("ex:ai-field", lambda size, dilations: sum(field(size, [d]) for d in dilations), "not once a layer"),
    ("ex:ai-field", lambda size, dilations: size + (size - 1) * sum(dilations), "not size of them"),
    ("ex:ai-field", lambda size, dilations: 2 * field(size, dilations) - 1, "one side only"),
    (
        "ex:ai-field",
        lambda size, dilations: len(
            {sum(p) for p in itertools.product(*(range(0, size * d, d) for d in dilations))}
        ),
        "between two taps",
    ),
    ("ex:ai-nll", priced(lambda own: -own.mean((1, 2))), "their mean"),
    ("ex:ai-nll", priced(lambda own: -own.sum()), "not over the images"),
    ("ex:ai-nll", priced(lambda own: -own.sum((1, 2)).mean()), "no mean over the images"),
    ("ex:ai-nll", priced(lambda own: -own), "numbers of the pixels"),
    ("ex:ai-nll", priced(lambda own: own.sum((1, 2))), "sign is missing"),
    ("ex:ai-nll", priced(lambda own: -own.sum((1, 2)) / math.log(2)), "in bits"),
    (
        "ex:ai-nll",
        lambda logits, x: nll_loss(logits.movedim(-1, 1), x, reduction="none").sum((1, 2)),
        "no log-prob",
    ),
    ("ex:ai-nll", priced(lambda own: -own.exp().sum((1, 2))), "Those are probabilities"),
    ("ex:ai-nll", priced(lambda own: own.sum((1, 2)).exp()), "probability of each image"),
    (
        "ex:ai-nll",
        lambda logits, x: -logits.log_softmax(1).gather(-1, x[..., None]).sum((1, 2, 3)),
        "sum to 1 at each pixel",
    ),
    ("ex:ai-nll", lambda logits, x: cross_entropy(logits, x, reduction="none").sum((1, 2)), "not the second"),
    (
        "ex:ai-nll",
        lambda logits, x: cross_entropy(logits.view(len(x), -1, *x.shape[1:]), x, reduction="none").sum(
            (1, 2)
        ),
        "a reshape does not",
    ),
    ("ex:ai-nll", lambda logits, x: -logits.log_softmax(-1).amax(-1).sum((1, 2)), "not those of x"),
    ("ex:ai-nll", lambda logits, x: Categorical(logits=logits).entropy().sum((1, 2)), "That is the entropy"),
    ("ex:ai-nll", lambda logits, x: nll(logits.roll(1, -1), x), "one too small"),
    ("ex:ai-nll", lambda logits, x: nll(logits, x.transpose(1, 2)), "Rows and columns"),
    (
        "ex:ai-nll",
        lambda logits, x: -logits.log_softmax(-1).gather(1, x[:, None]).sum((1, 2, 3)),
        "along the last axis",
    ),
    (
        "ex:ai-nll",
        lambda logits, x: -logits.softmax(-1).gather(-1, x[..., None]).log().sum((1, 2, 3)),
        "exp of such",
    ),
    ("ex:ai-logistic", between, "last level all above"),
    ("ex:ai-logistic", lambda *given: (p := between(*given)) / p.sum(), "and not to all"),
    ("ex:ai-logistic", one_closed(0), "lower end is open too"),
    ("ex:ai-logistic", one_closed(-1), "upper end is open too"),
    ("ex:ai-logistic", cut(usual, shift=1.0), "not at k and k + 1"),
    ("ex:ai-logistic", cut(usual, shift=0.0), "not at k − 1 and k"),
    ("ex:ai-logistic", density, "density at each level"),
    ("ex:ai-logistic", lambda *given: (p := density(*given)) / p.sum(), "scaled to sum 1"),
    ("ex:ai-logistic", lambda *given: lesson_logistic(*given).cumsum(0), "below the lower one"),
    (
        "ex:ai-logistic",
        lambda mu, s, levels: usual(torch.arange(levels) + 0.5, mu, s),
        "has no upper edge",
    ),
    ("ex:ai-logistic", lambda *given: -lesson_logistic(*given), "not the other way"),
    ("ex:ai-logistic", lambda *given: lesson_logistic(*given).log(), "Those are logarithms"),
    ("ex:ai-logistic", cut(lambda v, mu, s: ((v - mu) * s).sigmoid()), "not multiplied"),
    ("ex:ai-logistic", cut(lambda v, mu, s: (v - mu).sigmoid()), "Where is the width"),
    ("ex:ai-logistic", cut(lambda v, mu, s: ((v - mu) / s**0.5).sigmoid()), "no root"),
    ("ex:ai-logistic", cut(lambda v, mu, s: ((v - mu) / s**2).sigmoid()), "s is not squared"),
    ("ex:ai-logistic", cut(lambda v, mu, s: ((v + mu) / s).sigmoid()), "the sign is wrong"),
    ("ex:ai-logistic", cut(lambda v, mu, s: (v / s).sigmoid()), "Where is the centre"),
    ("ex:ai-logistic", cut(lambda v, mu, s: Normal(mu, s).cdf(v)), "a normal variable"),
    ("ex:ai-logistic", cut(lambda v, mu, s: usual(v, mu, s * 3**0.5 / math.pi)), "standard deviation"),
    ("ex:ai-logistic", cut(usual), "But 1 − F(z) = F(−z) is not"),
    ("ex:ai-logistic", lambda *given: cut(usual)(*given).clamp(min=1e-12), "But 1 − F(z) = F(−z) is not"),
    ("ex:ai-logistic", cut(lambda v, mu, s: 1 - usual(-v, -mu, s)), "But 1 − F(z) = F(−z) is not"),
    (
        "ex:ai-logistic",
        lambda mu, s, levels: cut(lambda v, mu, s: usual(v, mu, s))(levels - 1 - mu, s, levels).flip(0),
        "F itself is not",
    ),
    ("ex:ai-bayes", lambda log_p, log_prior: log_p.softmax(1), "prior is missing"),
    (
        "ex:ai-bayes",
        lambda log_p, log_prior: (log_p + log_prior[: len(log_p), None]).softmax(1),
        "prior is missing",
    ),
    ("ex:ai-bayes", lambda log_p, log_prior: log_prior.exp().expand_as(log_p), "where is x"),
    ("ex:ai-bayes", joined(lambda joint: joint.softmax(0)), "the second axis"),
    ("ex:ai-bayes", joined(lambda joint: joint.exp() / joint.exp().sum(1, keepdim=True)), "0 / 0 is none"),
    ("ex:ai-bayes", joined(lambda joint: joint.exp()), "Each row has to sum"),
    (
        "ex:ai-bayes",
        joined(lambda joint: (p := (joint - joint.max()).exp()) / p.sum(1, keepdim=True)),
        "its own largest",
    ),
    ("ex:ai-bayes", joined(lambda joint: joint.log_softmax(1)), "Those are the logarithms"),
    ("ex:ai-bayes", joined(lambda joint: joint), "what is it, given x"),
    ("ex:ai-bayes", joined(lambda joint: joint.logsumexp(1)), "what divides"),
    ("ex:ai-bayes", lambda log_p, log_prior: (log_p + log_prior.exp()).softmax(1), "given already"),
    ("ex:ai-bayes", lambda log_p, log_prior: (log_p - log_prior).softmax(1), "not taken off"),
    ("ex:ai-bayes", lambda log_p, log_prior: log_p.softmax(1) * log_prior.exp(), "Scale after"),
    ("ex:ai-bayes", joined(lambda joint: 1.0 * (joint == joint.amax(1, keepdim=True))), "has not all"),
    ("ex:ai-bayes", joined(lambda joint: joint.argmax(1)), "of all are asked"),
    ("ex:ai-bayes", lambda log_p, log_prior: classes(log_p, 2 * log_prior), "counts once"),
    ("ex:ai-bits", paid(lambda cost: math.ceil(cost.sum())), "one bit too few"),
    ("ex:ai-bits", paid(lambda cost: math.floor(cost.sum()) + 1), "one bit too few"),
    ("ex:ai-bits", paid(lambda cost: math.floor(cost.sum())), "not down"),
    ("ex:ai-bits", paid(lambda cost: math.floor(cost.sum()) + 2), "leaves it as it is"),
    ("ex:ai-bits", paid(lambda cost: max(whole(cost.sum()), 2)), "An image that is certain"),
    ("ex:ai-bits", paid(lambda cost: cost.sum() + 1), "Bits are whole"),
    ("ex:ai-bits", paid(lambda cost: cost.sum()), "which whole number"),
    ("ex:ai-bits", paid(lambda cost: whole(cost.sum() * math.log(2))), "base 2"),
    ("ex:ai-bits", paid(lambda cost: cost.ceil().sum() + 1), "not at each pixel."),
    ("ex:ai-bits", paid(lambda cost: cost.ceil().sum()), "One bit is missing too"),
    ("ex:ai-bits", paid(lambda cost: (cost.ceil() + 1).sum()), "paid once"),
    ("ex:ai-bits", paid(lambda cost: whole(cost.mean())), "their mean"),
    ("ex:ai-bits", paid(lambda cost: whole(-(2**-cost).sum().log2())), "logarithm of a sum"),
    ("ex:ai-bits", paid(lambda cost: whole(-cost.sum())), "the sign is missing"),
    ("ex:ai-bits", lambda q, x: whole(len(x) * math.log2(q.shape[1])), "equally probable"),
    ("ex:ai-bits", lambda q, x: whole(Categorical(q).entropy().sum() / math.log(2)), "before x is known"),
    ("ex:ai-bits", lambda q, x: whole(-q.log2().sum()), "takes all levels"),
    ("ex:ai-bits", lambda q, x: -(-bits(q, x) // 8), "in bytes"),
    ("ex:ai-bits", lambda q, x: whole(-q[x, torch.arange(len(x))].log2().sum()), "they are exchanged"),
    ("ex:ai-bits", lambda q, x: whole(-q[:, x].log2().sum()), "takes all rows"),
    (
        "ex:ai-narrow",
        part(lambda low, width, before, p: (low + width * before, low + width * (before + p))),
        "upper end",
    ),
    (
        "ex:ai-narrow",
        part(lambda low, width, before, p: (low + width * (before + p), width * p)),
        "its own is not",
    ),
    (
        "ex:ai-narrow",
        part(lambda low, width, before, p: (low + width * p, width * p)),
        "their probabilities add up",
    ),
    ("ex:ai-narrow", part(lambda low, width, before, p: (low + before, width * p)), "The sum is a share"),
    ("ex:ai-narrow", part(lambda low, width, before, p: (width * before, width * p)), "old lower end"),
    ("ex:ai-narrow", part(lambda low, width, before, p: (low, width * p)), "lower end moves"),
    ("ex:ai-narrow", part(lambda low, width, before, p: (low + width * before, width)), "width shrinks"),
    ("ex:ai-narrow", part(lambda low, width, before, p: (low + width * before, p)), "The share of k is one"),
    (
        "ex:ai-narrow",
        part(lambda low, width, before, p: (low + width * before, width * (before + p))),
        "k alone",
    ),
    (
        "ex:ai-narrow",
        part(lambda low, width, before, p: (low + width * (1 - before - p), width * p)),
        "turned around",
    ),
    ("ex:ai-narrow", lambda *given: narrow(*given)[::-1], "comes first"),
    ("ex:ai-narrow", lambda *given: narrow(*given)[0], "lower end alone"),
    ("ex:ai-narrow", lambda *given: narrow(*given)[1], "the width alone"),
    ("ex:ai-narrow", lambda low, width, q, k: narrow(low, width, q, k - 1), "one too small"),
    (
        "ex:ai-narrow",
        part(lambda low, width, before, p: ((low + before) * width, width * p)),
        "the lower end is not",
    ),
]
LABELS = [label for label, _ in REFERENCES]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("empty", [..., None, lambda *given: None, lambda *given: ...])
def test_an_empty_answer_is_none(label, empty, said):
    assert said(label, empty).startswith("no answer yet")


ODD = [
    "text",
    b"",
    {},
    [],
    [[1.0], [1.0, 2.0]],
    [None],
    1j,
    10**400,
    object(),
    torch.tensor([1j]),
    np.array("a"),
]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_an_answer_of_a_bad_type_is_refused(label, odd, said):
    for answer in (odd, lambda *given: odd):
        assert said(label, answer).startswith("not yet")


KINDS = [
    lambda got: torch.as_tensor(got, dtype=torch.float64),
    lambda got: torch.as_tensor(got).float(),
    lambda got: torch.as_tensor(got, dtype=torch.float64).requires_grad_(),
    lambda got: torch.as_tensor(got).numpy(),
    lambda got: torch.as_tensor(got).tolist(),
    lambda got: torch.as_tensor(got).numpy()[::-1][::-1] if np.ndim(got) else np.float32(got),
]


@pytest.mark.parametrize(("label", "answer"), REFERENCES)
@pytest.mark.parametrize("kind", KINDS, ids=["double", "single", "graph", "numpy", "plain", "view"])
def test_right_answers_of_every_type_are_graded_right(label, answer, kind, said):
    assert said(label, lambda *given: kind(answer(*given))).startswith("right")


@pytest.mark.parametrize("label", LABELS)
def test_five_cases_at_least_each_with_a_hint(label):
    checks.grade(label, None)
    cases = list(checks._graders[label](lambda *given: None))
    assert len(cases) >= 5
    assert all(case.hint for case in cases)
    assert len({case.question for case in cases}) == len(cases)


def holds_file(low, width, n):
    """Whether [low, low + width) holds a whole [m, m + 1) / 2^n, with fractions."""
    m = math.ceil(low * 2**n)
    return Fraction(m + 1, 2**n) <= low + width


@pytest.mark.parametrize("cost", [0.0, 0.4, 1.0, 2.3, 5.0, 6.99])
def test_the_number_of_bits_is_enough_everywhere_and_no_fewer_are(cost):
    width, n = Fraction(2**-cost), whole(cost)
    places = [Fraction(i, 4096) + Fraction(shift, 2**40) for i in range(4097) for shift in (0, 1)]
    assert all(holds_file(low, width, n) for low in places)
    assert not all(holds_file(low, width, n - 1) for low in places)
