"""The exercises of the lessons on Boltzmann machines and energy models: right answers and common slips."""

import itertools
import math
from decimal import Decimal

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import chi2
from torch.distributions import Categorical, Normal
from torch.nn.functional import logsigmoid, softplus

from genlib import checks, energy

# References: each goes another way than the lesson.


def all_bits(n, low=0):
    return torch.tensor(list(itertools.product([low, 1], repeat=n)), dtype=torch.float64)


def of_bits(J, f):
    """The parabola through all spin energies, by least squares: pairs and single bits are its columns."""
    D = len(f)
    s = all_bits(D, -1)
    x = (s + 1) / 2
    pairs = list(itertools.combinations(range(D), 2))
    columns = torch.stack([torch.ones(len(x)).double(), *x.T, *(x[:, i] * x[:, j] for i, j in pairs)], 1)
    E = -((s @ J) * s).sum(1) / 2 - s @ f
    found = torch.linalg.lstsq(columns, -E[:, None]).solution[:, 0]
    W = torch.zeros_like(J)
    for (i, j), weight in zip(pairs, found[1 + D :], strict=True):
        W[i, j] = W[j, i] = weight
    return W, found[1 : 1 + D]


def change(x, i, W, b):
    """From the library's machine: the logit of one unit."""
    logit = energy.Boltzmann(W, b).conditional(x[None]).logits[0, i].item()
    return logit if x[i] else -logit


def free_energy(v, W, b, c):
    """As a product over hidden units, with decimal numbers, for which cosh is not infinite."""
    total = []
    for row in v.tolist():
        a = [
            sum(x * w for x, w in zip(row, column, strict=True)) + k
            for column, k in zip(W.T.tolist(), c.tolist(), strict=True)
        ]
        both = math.prod(Decimal(one).exp() + Decimal(-one).exp() for one in a)
        own = sum(x * bias for x, bias in zip(row, b.tolist(), strict=True))
        total.append(-own - float(both.ln()))
    return torch.tensor(total, dtype=torch.float64)


def given_hidden(h, W, b):
    """The lowest point of the energy, by going downhill."""

    def E(v):
        return ((v - b).square().sum(1) / 2 - torch.einsum("bi,ij,bj->b", v, W, h)).sum()

    v = h.new_zeros(len(h), len(b))
    for _ in range(40):
        v = v - 0.5 * torch.func.grad(E)(v)
    return v


def cd(v, w, W, c):
    """How the library's free energies change with the weights."""
    machine = energy.RBM.of(W, W.new_zeros(len(W)), c).requires_grad_(True)
    gap = machine.energy(w).mean() - machine.energy(v).mean()
    return torch.autograd.grad(gap, machine.weight)[0]


def weigh(changes, log_Z0):
    """With decimal numbers, for which exp is neither 0 nor infinite."""
    weights = [math.prod(Decimal(one).exp() for one in walk) for walk in changes.T.tolist()]
    return log_Z0 + float((sum(weights) / len(weights)).ln())


def layers(sizes):
    """Over both ways to colour the layers in turn."""
    return min(sum(itertools.compress(sizes, itertools.cycle(turn))) for turn in ((0, 1), (1, 0)))


def slope(theta, s2):
    """The log-likelihood from torch, differentiated."""
    theta = torch.tensor(float(theta), dtype=torch.float64, requires_grad=True)
    at = torch.tensor(s2, dtype=torch.float64).sqrt()
    return torch.autograd.grad(Normal(0, theta.rsqrt()).log_prob(at), theta)[0]


def short(v0, eta, s2):
    """With a search on the side where the factor 1 − ηθ is positive."""
    return brentq(
        lambda theta: (1 - eta * theta) ** 2 * v0 + 2 * eta - s2, -1000 / eta, 1 / eta, xtol=1e-13, rtol=1e-14
    )


def noise(log_p, log_q, nu):
    """With decimal numbers, from the probability that a point is data."""
    return torch.tensor(
        [
            float((Decimal(p).exp() / (Decimal(nu) * Decimal(q).exp())).ln())
            for p, q in zip(log_p.tolist(), log_q.tolist(), strict=True)
        ],
        dtype=torch.float64,
    )


def nearest(A):
    """The mean squared distance of the slope of x·Mx/2, by going downhill over all M."""

    def field(M):  # its matrix
        return torch.func.jacrev(torch.func.grad(lambda x: x @ M @ x / 2))(A.new_zeros(len(A)))

    def distance(M):
        return (A - field(M)).square().sum()

    M = torch.zeros_like(A)
    for _ in range(30):
        M = M - 0.3 * torch.func.grad(distance)(M)
    return field(M)


def product(m, v, n, w):
    """By quadrature around the lowest point, which a search over the line finds."""
    wide = 12 * min(v, w) ** 0.5
    x = torch.linspace(min(m, n), max(m, n), 200_001, dtype=torch.float64)
    log_p = Normal(m, v**0.5).log_prob(x) + Normal(n, w**0.5).log_prob(x)
    x = x[log_p.argmax()] + torch.linspace(-wide, wide, 8001, dtype=torch.float64)
    p = (Normal(m, v**0.5).log_prob(x) + Normal(n, w**0.5).log_prob(x)).softmax(0)
    mean = p @ x
    return mean.item(), (p @ (x - mean) ** 2).item()


def log_ratio(f, i, j):
    """With decimal numbers, for which exp is neither 0 nor infinite."""
    above, below = (sum(Decimal(one).exp() for one in f[k].tolist()) for k in (i, j))
    return float((above / below).ln())


def typical(D):
    """Twice the energy has SciPy's law χ²."""
    return chi2(D).mean() / 2, chi2(D).std() / 2


REFERENCES = [
    ("ex:bm-spins", of_bits),
    ("ex:bm-flip", change),
    ("ex:bm-cosh", free_energy),
    ("ex:bm-normal", given_hidden),
    ("ex:bm-cd", cd),
    ("ex:bm-weigh", weigh),
    ("ex:bm-layers", layers),
    ("ex:em-slope", slope),
    ("ex:em-short", short),
    ("ex:em-noise", noise),
    ("ex:em-rotate", nearest),
    ("ex:em-product", product),
    ("ex:em-classifier", log_ratio),
    ("ex:em-typical", typical),
]


def lesson_of_bits(J, f):
    return 4 * J, 2 * f - 2 * J.sum(1)


def lesson_change(x, i, W, b):
    return -(1 - 2 * x[i]) * (W[i] @ x + b[i])


def by_energies(x, i, W, b):
    def E(x):
        return -x @ W @ x / 2 - b @ x

    before = E(x)
    x[i] = 1 - x[i]
    return E(x) - before


def lesson_free_energy(v, W, b, c):
    a = v @ W + c
    return -v @ b - torch.logaddexp(a, -a).sum(1)


def by_softplus(v, W, b, c):
    a = v @ W + c
    return -(v @ b + (a + softplus(-2 * a)).sum(1))


def lesson_cd(v, w, W, c):
    up, down = torch.sigmoid(v @ W + c), torch.sigmoid(w @ W + c)
    return (v.T @ up - w.T @ down) / len(v)


def cd_by_autograd(v, w, W, c):
    W = W.detach().requires_grad_()
    contrast = -softplus(v @ W + c).sum(1).mean() + softplus(w @ W + c).sum(1).mean()
    return -torch.autograd.grad(contrast, W)[0]


def lesson_weigh(changes, log_Z0):
    log_w = changes.sum(0)
    return log_Z0 + log_w.logsumexp(0) - math.log(len(log_w))


def lesson_short(v0, eta, s2):
    return (1 - math.sqrt((s2 - 2 * eta) / v0)) / eta


def lesson_product(m, v, n, w):
    precision = 1 / v + 1 / w
    return (m / v + n / w) / precision, 1 / precision


def lesson_log_ratio(f, i, j):
    E = -f.logsumexp(1)
    return E[j] - E[i]


LESSON = [
    ("ex:bm-spins", lesson_of_bits),
    ("ex:bm-spins", lambda J, f: (4 * J, 2 * (f - J @ torch.ones_like(f)))),
    ("ex:bm-flip", lesson_change),
    ("ex:bm-flip", by_energies),
    ("ex:bm-cosh", lesson_free_energy),
    ("ex:bm-cosh", by_softplus),
    ("ex:bm-normal", lambda h, W, b: b + h @ W.T),
    ("ex:bm-normal", lambda h, W, b: torch.stack([W @ row + b for row in h])),
    ("ex:bm-cd", lesson_cd),
    ("ex:bm-cd", cd_by_autograd),
    ("ex:bm-weigh", lesson_weigh),
    ("ex:bm-weigh", lambda changes, log_Z0: energy.log_mean(changes.sum(0)) + log_Z0),
    ("ex:bm-layers", lambda sizes: min(sum(sizes[::2]), sum(sizes[1::2]))),
    ("ex:em-slope", lambda theta, s2: 0.5 * (1 / theta - s2)),
    ("ex:em-short", lesson_short),
    ("ex:em-noise", lambda log_p, log_q, nu: log_p - log_q - math.log(nu)),
    ("ex:em-rotate", lambda A: (A + A.mT) / 2),
    ("ex:em-rotate", lambda A: A - (A - A.T) / 2),
    ("ex:em-product", lesson_product),
    ("ex:em-product", lambda m, v, n, w: [(m * w + n * v) / (v + w), v * w / (v + w)]),
    ("ex:em-classifier", lesson_log_ratio),
    ("ex:em-classifier", lambda f, i, j: f[i].logsumexp(0) - f[j].logsumexp(0)),
    ("ex:em-typical", lambda D: (D / 2, math.sqrt(D / 2))),
]


def spun(W=lambda J: 4 * J, b=lambda own, f: 2 * f - 2 * own):
    """A pair from a rule of J, and one of the sums of its rows and of f."""
    return lambda J, f: (W(J), b(J.sum(1), f))


def turned(rule):
    """A change from a rule of the unit, what the others tell it, and its b."""
    return lambda x, i, W, b: rule(x[i], W[i] @ x, b[i])


def machine_energy(x, W, b):
    return energy.Boltzmann(W, b).energy(x[None])[0].detach()


def after(x, i):
    y = x.clone()
    y[i] = 1 - y[i]
    return y


def freed(rule):
    """F from a rule of what b says of v, and of what each hidden unit hears."""
    return lambda v, W, b, c: rule(-v @ b, v @ W + c)


def log_cosh(a):
    return a.cosh().log()


def stepped(rule):
    """A step from a rule of data, walks, and what the hidden units hear from both."""
    return lambda v, w, W, c: rule(v, w, v @ W + c, w @ W + c)


def at(x, hidden):
    """The mean of the products."""
    return torch.einsum("bi,bj->bij", x, hidden).mean(0)


def weighed(rule):
    """An estimate from a rule of the logarithms of the weights, and of that of the first constant."""
    return lambda changes, log_Z0: rule(changes.sum(0), log_Z0)


def moments(rule):
    """A pair from a rule of the mean and the variance that are right, and of all that is given."""
    return lambda *given: rule(*lesson_product(*given), *given)


def told(rule):
    """A number from a rule of both rows of outputs."""
    return lambda f, i, j: rule(f[i], f[j])


def entropies(a, b):
    return Categorical(logits=a).entropy() - Categorical(logits=b).entropy()


def cover(sizes):
    """The fewest units so that no two layers beside each other are left out, from layer to layer."""
    without, with_it = 0, 0
    for size in sizes:
        without, with_it = with_it, min(without, with_it) + size
    return min(without, with_it)


SLIPS = [
    ("ex:bm-spins", spun(b=lambda own, f: 2 * f), "from each partner"),
    ("ex:bm-spins", spun(b=lambda own, f: -2 * own), "outer field is missing"),
    ("ex:bm-spins", spun(b=lambda own, f: f - 2 * own), "field counts twice"),
    ("ex:bm-spins", spun(b=lambda own, f: 2 * (f + own)), "partners add has the other sign"),
    ("ex:bm-spins", spun(b=lambda own, f: -2 * (f + own)), "Bit 1 is the spin 1"),
    ("ex:bm-spins", spun(b=lambda own, f: 2 * f - 4 * own), "half is forgotten"),
    ("ex:bm-spins", spun(b=lambda own, f: 2 * f - own), "undoes the half"),
    ("ex:bm-spins", spun(b=lambda own, f: 2 * f - 2 * own.sum()), "its own partners"),
    ("ex:bm-spins", spun(lambda J: 2 * J), "2 from each of them"),
    ("ex:bm-spins", spun(lambda J: 8 * J), "a half in front as well"),
    ("ex:bm-spins", spun(lambda J: J), "not the same for spins"),
    ("ex:bm-spins", spun(lambda J: -4 * J), "likes stay likes"),
    ("ex:bm-spins", spun(lambda J: 4 * J.triu()), "on both sides"),
    ("ex:bm-spins", lambda J, f: (J / 4, f / 2 + J.sum(1) / 4), "from bits to spins"),
    ("ex:bm-spins", lambda J, f: (J, f), "as they were"),
    ("ex:bm-spins", lambda J, f: lesson_of_bits(J, f)[::-1], "W comes first"),
    ("ex:bm-spins", lambda J, f: lesson_of_bits(J, f)[0], "W alone"),
    ("ex:bm-spins", lambda J, f: lesson_of_bits(J, f)[1], "b alone"),
    ("ex:bm-flip", turned(lambda x, heard, b: (1 - 2 * x) * (heard + b)), "sign is wrong"),
    ("ex:bm-flip", turned(lambda x, heard, b: -heard - b), "sign is wrong"),
    ("ex:bm-flip", turned(lambda x, heard, b: (2 * x - 1) * heard), "liking b is missing"),
    ("ex:bm-flip", turned(lambda x, heard, b: (2 * x - 1) * b), "others are missing"),
    ("ex:bm-flip", turned(lambda x, heard, b: (2 * x - 1) * (heard / 2 + b)), "which undoes the half"),
    ("ex:bm-flip", turned(lambda x, heard, b: (2 * x - 1) * (2 * heard + b)), "a half in front"),
    ("ex:bm-flip", turned(lambda x, heard, b: 2 * (2 * x - 1) * (heard + b)), "only a spin"),
    ("ex:bm-flip", turned(lambda x, heard, b: -(1 - x) * (heard + b)), "has hidden it"),
    ("ex:bm-flip", turned(lambda x, heard, b: heard + b), "sign is wrong"),
    ("ex:bm-flip", lambda x, i, W, b: machine_energy(after(x, i), W, b), "energy afterwards"),
    ("ex:bm-flip", lambda x, i, W, b: machine_energy(x, W, b), "energy before: where"),
    ("ex:bm-flip", lambda x, i, W, b: -(1 - 2 * x) * (x @ W + b), "every unit"),
    ("ex:bm-flip", lambda x, i, W, b: -(1 - 2 * x[i]) * (W[i].sum() + b[i]), "only if they are on"),
    ("ex:bm-flip", lambda x, i, W, b: -(1 - 2 * x[i]) * (W[i] @ x + (b * x).sum()), "own b changes"),
    ("ex:bm-flip", lambda x, i, W, b: lesson_change(x, i - 1, W, b), "the one before"),
    ("ex:bm-flip", lambda *given: torch.tensor(-change(*given)).sigmoid(), "a chance"),
    ("ex:bm-flip", lambda *given: math.exp(-change(*given)), "the factor"),
    ("ex:bm-cosh", freed(lambda own, a: own - (1 + a.exp()).log().sum(1)), "not 0"),
    ("ex:bm-cosh", freed(lambda own, a: own - log_cosh(a).sum(1)), "twice the cosh"),
    ("ex:bm-cosh", freed(lambda own, a: own - math.log(2) - log_cosh(a).sum(1)), "own factor 2"),
    ("ex:bm-cosh", lambda v, W, b, c: free_energy(v, W, -b, c), "sign of b"),
    ("ex:bm-cosh", lambda v, W, b, c: free_energy(v, W, 0 * b, c), "a bias b"),
    ("ex:bm-cosh", lambda v, W, b, c: free_energy(v, W, b, 0 * c), "a bias c"),
    ("ex:bm-cosh", lambda *given: -free_energy(*given), "is minus that"),
    ("ex:bm-cosh", freed(lambda own, a: own + (2 * a.cosh()).log().sum(1)), "sign of their part"),
    ("ex:bm-cosh", freed(lambda own, a: own - torch.maximum(a, -a).sum(1)), "best state"),
    ("ex:bm-cosh", freed(lambda own, a: own - (1 + (2 * a).exp()).log().sum(1)), "and −a in front"),
    ("ex:bm-cosh", freed(lambda own, a: own - torch.log1p((-2 * abs(a)).exp()).sum(1)), "leaves |a|"),
    ("ex:bm-cosh", freed(lambda own, a: own - (2 * a.sum(1).cosh()).log()), "not what is in them"),
    ("ex:bm-cosh", freed(lambda own, a: own - (2 * a.cosh()).log().mean(1)), "their mean"),
    ("ex:bm-cosh", freed(lambda own, a: own[:, None] - (2 * a.cosh()).log()), "summed away"),
    ("ex:bm-cosh", lambda *given: free_energy(*given).sum(), "own free energy"),
    ("ex:bm-cosh", freed(lambda own, a: own - (a.exp() + (-a).exp()).sum(1)), "logarithm of the sum is"),
    ("ex:bm-cosh", freed(lambda own, a: own - (a * a.tanh()).sum(1)), "entropy of the hidden"),
    ("ex:bm-cosh", lambda *given: (-free_energy(*given)).exp(), "e^−F"),
    ("ex:bm-cosh", lambda v, W, b, c: lesson_free_energy(v, W.mT, b, c), "columns to hidden"),
    ("ex:bm-cosh", freed(lambda own, a: own - (2 * a.cosh()).log().sum(1)), "is infinite"),
    ("ex:bm-cosh", freed(lambda own, a: own - (a.exp() + (-a).exp()).log().sum(1)), "is infinite"),
    ("ex:bm-normal", lambda h, W, b: torch.sigmoid(b + h @ W.T), "no coin"),
    ("ex:bm-normal", lambda h, W, b: h @ W.T, "it is missing"),
    ("ex:bm-normal", lambda h, W, b: torch.stack([b] * len(h)), "where is h"),
    ("ex:bm-normal", lambda h, W, b: b - h @ W.T, "sign of W"),
    ("ex:bm-normal", lambda h, W, b: h @ W.T - b, "not what it is drawn away"),
    ("ex:bm-normal", lambda h, W, b: b + h @ W.T / 2, "which undoes the half"),
    ("ex:bm-normal", lambda h, W, b: b + 2 * h @ W.T, "no factor is left"),
    ("ex:bm-normal", lambda h, W, b: b + torch.sigmoid(h @ W.T), "σ is for coins"),
    ("ex:bm-normal", lambda h, W, b: torch.tanh(b + h @ W.T), "no tanh"),
    ("ex:bm-normal", lambda h, W, b: b * (h @ W.T), "add up."),
    ("ex:bm-normal", lambda h, W, b: (b + h @ W.T) / 2, "is their mean"),
    ("ex:bm-normal", lambda h, W, b: given_hidden(torch.ones_like(h), W, b), "that are on"),
    ("ex:bm-normal", lambda h, W, b: b + h.mean(0) @ W.T, "own mean of v"),
    ("ex:bm-normal", lambda h, W, b: b[:, None] + W @ h.T, "(B, D)"),
    ("ex:bm-normal", lambda h, W, b: given_hidden(h, W, b).sum(1), "of D places"),
    ("ex:bm-normal", lambda h, W, b: b + h @ W, "transposed"),
    ("ex:bm-cd", lambda v, w, W, c: cd(w, v, W, c), "sign is wrong"),
    ("ex:bm-cd", lambda v, w, W, c: len(v) * cd(v, w, W, c), "not sums"),
    ("ex:bm-cd", lambda v, w, W, c: cd(v, 0 * w, W, c), "walks are missing"),
    ("ex:bm-cd", lambda v, w, W, c: cd(0 * v, w, W, c), "data are missing"),
    ("ex:bm-cd", lambda v, w, W, c: cd(v, 0 * w, W, c) + cd(w, 0 * v, W, c), "Both parts are added"),
    ("ex:bm-cd", stepped(lambda v, w, up, down: at(v - w, up.sigmoid())), "are of the data"),
    ("ex:bm-cd", stepped(lambda v, w, up, down: at(v - w, down.sigmoid())), "are of the walks"),
    (
        "ex:bm-cd",
        stepped(lambda v, w, up, down: at(v, down.sigmoid()) - at(w, up.sigmoid())),
        "are exchanged",
    ),
    (
        "ex:bm-cd",
        stepped(
            lambda v, w, up, down: (
                torch.outer(v.mean(0), up.sigmoid().mean(0)) - torch.outer(w.mean(0), down.sigmoid().mean(0))
            )
        ),
        "not a product of means",
    ),
    ("ex:bm-cd", stepped(lambda v, w, up, down: at(v, up) - at(w, down)), "σ is missing"),
    (
        "ex:bm-cd",
        stepped(
            lambda v, w, up, down: at(v, up.sigmoid().round()) - at(w, down.sigmoid().round()),
        ),
        "above a half",
    ),
    ("ex:bm-cd", stepped(lambda v, w, up, down: at(v, up.tanh()) - at(w, down.tanh())), "not tanh"),
    ("ex:bm-cd", lambda v, w, W, c: cd(v, w, W, 0 * c), "have a bias"),
    ("ex:bm-cd", stepped(lambda v, w, up, down: (up.sigmoid() - down.sigmoid()).mean(0)), "step for c"),
    ("ex:bm-cd", lambda v, w, W, c: v.mean(0) - w.mean(0), "step for b"),
    ("ex:bm-cd", lambda *given: cd(*given) / 2, "no half"),
    ("ex:bm-cd", lambda *given: cd(*given).T, "(D, H)"),
    ("ex:bm-cd", lambda v, w, W, c: lesson_cd(v, w, W.T, c), "hears v W"),
    ("ex:bm-weigh", weighed(lambda log_w, log_Z0: log_Z0 + log_w.mean()), "too low"),
    ("ex:bm-weigh", weighed(lambda log_w, log_Z0: log_Z0 + log_w.exp().sum().log()), "averaged, not summed"),
    (
        "ex:bm-weigh",
        lambda changes, log_Z0: log_Z0 + changes.sum(0).logsumexp(0) - math.log(len(changes)),
        "not of steps",
    ),
    (
        "ex:bm-weigh",
        lambda changes, log_Z0: log_Z0 + changes.sum(0).logsumexp(0) - math.log(changes.numel()),
        "one walk are multiplied",
    ),
    ("ex:bm-weigh", lambda changes, log_Z0: weigh(changes, 0.0), "first constant is missing"),
    ("ex:bm-weigh", lambda changes, log_Z0: weigh(changes, -log_Z0), "its logarithm is added"),
    ("ex:bm-weigh", lambda changes, log_Z0: weigh(changes, math.log(log_Z0)), "given already"),
    ("ex:bm-weigh", lambda changes, log_Z0: weigh(-changes, log_Z0), "their sign stays"),
    ("ex:bm-weigh", lambda changes, log_Z0: log_Z0 - weigh(-changes, 0.0), "from walks down"),
    ("ex:bm-weigh", lambda changes, log_Z0: weigh(changes.T, log_Z0), "along the second"),
    (
        "ex:bm-weigh",
        lambda changes, log_Z0: log_Z0 + changes.exp().mean(1).log().sum(),
        "average at each step",
    ),
    (
        "ex:bm-weigh",
        lambda changes, log_Z0: log_Z0 + (changes.exp().sum() / changes.shape[1]).log(),
        "added up first",
    ),
    ("ex:bm-weigh", lambda changes, log_Z0: weigh(changes / len(changes), log_Z0), "added up, not averaged"),
    ("ex:bm-weigh", weighed(lambda log_w, log_Z0: log_Z0 + log_w.amax()), "best walk"),
    (
        "ex:bm-weigh",
        weighed(lambda log_w, log_Z0: log_Z0 + log_w.mean() + log_w.var(correction=0) / 2),
        "logarithms are normal",
    ),
    ("ex:bm-weigh", weighed(lambda log_w, log_Z0: math.exp(log_Z0) * log_w.exp().mean()), "Z itself"),
    ("ex:bm-weigh", weighed(lambda log_w, log_Z0: log_Z0 + log_w), "one from all"),
    (
        "ex:bm-weigh",
        weighed(lambda log_w, log_Z0: log_Z0 + log_w.logsumexp(0) / len(log_w)),
        "before the log",
    ),
    ("ex:bm-weigh", weighed(lambda log_w, log_Z0: log_Z0 + log_w.exp().mean().log()), "0 or infinite"),
    (
        "ex:bm-weigh",
        weighed(lambda log_w, log_Z0: log_Z0 + (log_w.exp() + 1e-9).mean().log()),
        "0 or infinite",
    ),
    ("ex:bm-layers", lambda sizes: max(sum(sizes[::2]), sum(sizes[1::2])), "smaller side"),
    ("ex:bm-layers", lambda sizes: sum(sizes[::2]), "smaller side"),
    ("ex:bm-layers", lambda sizes: sum(sizes[1::2]), "smaller side"),
    ("ex:bm-layers", sum, "summed away"),
    ("ex:bm-layers", lambda sizes: sizes[0], "first one alone"),
    ("ex:bm-layers", lambda sizes: sum(sizes[1:]), "All hidden layers"),
    ("ex:bm-layers", min, "smallest layer"),
    ("ex:bm-layers", lambda sizes: sum(sizes) - max(sizes), "without the largest"),
    ("ex:bm-layers", lambda sizes: min(sizes[:2]), "first two layers"),
    ("ex:bm-layers", lambda sizes: sum(sorted(sizes)[: len(sizes) // 2]), "half of the layers"),
    ("ex:bm-layers", cover, "every second layer is listed"),
    ("ex:bm-layers", lambda sizes: 2 ** layers(sizes), "how many states"),
    ("ex:bm-layers", lambda sizes: sizes[-1], "not the last"),
    ("ex:bm-layers", lambda sizes: len(sizes[1::2]), "count their units"),
    ("ex:bm-layers", lambda sizes: sum(sizes) / 2, "half of all units"),
    ("ex:bm-layers", lambda sizes: min(math.prod(sizes[::2]), math.prod(sizes[1::2])), "units add up"),
    (
        "ex:bm-layers",
        lambda sizes: layers(sizes) if len(sizes) > 1 else sizes[0],
        "with one layer, what must be listed",
    ),
    ("ex:em-slope", lambda theta, s2: -slope(theta, s2), "sign is wrong"),
    ("ex:em-slope", lambda theta, s2: 2 * slope(theta, s2), "energy has a factor"),
    ("ex:em-slope", lambda theta, s2: -s2 / 2, "positive phase alone"),
    ("ex:em-slope", lambda theta, s2: 0.5 / theta, "negative phase alone"),
    ("ex:em-slope", lambda theta, s2: 0.5 * (1 / theta + s2), "Both phases are added"),
    ("ex:em-slope", lambda theta, s2: 0.5 * (theta - s2), "is not θ"),
    ("ex:em-slope", lambda theta, s2: 0.5 * (1 / math.sqrt(theta) - s2), "deviation of the model"),
    ("ex:em-slope", lambda theta, s2: 0.5 * (1 / theta**2 - s2), "has θ once"),
    ("ex:em-slope", lambda theta, s2: 1 / theta - s2 / 2, "negative phase has a factor"),
    ("ex:em-slope", lambda theta, s2: 1 / (2 * theta) - s2, "positive phase has a factor"),
    ("ex:em-slope", lambda theta, s2: slope(theta, s2**0.5), "no root"),
    ("ex:em-slope", lambda theta, s2: slope(theta, s2**2), "not squared again"),
    (
        "ex:em-slope",
        lambda theta, s2: Normal(0.0, theta**-0.5).log_prob(torch.tensor(s2) ** 0.5),
        "log-likel",
    ),
    ("ex:em-slope", lambda theta, s2: -theta * s2 / 2, "minus the mean energy"),
    ("ex:em-slope", lambda theta, s2: 1 / s2, "where the slope is 0"),
    ("ex:em-slope", lambda theta, s2: 1 / s2 - theta, "how far θ"),
    ("ex:em-slope", lambda theta, s2: -0.5 / theta**2, "second derivative"),
    ("ex:em-short", lambda v0, eta, s2: (1 + math.sqrt((s2 - 2 * eta) / v0)) / eta, "larger one"),
    ("ex:em-short", lambda v0, eta, s2: 1 / s2, "small steps"),
    ("ex:em-short", lambda v0, eta, s2: short(s2, eta, s2), "start with v0"),
    ("ex:em-short", lambda v0, eta, s2: short(v0, eta, s2 + 2 * eta), "noise of the step is missing"),
    ("ex:em-short", lambda v0, eta, s2: short(v0, eta, s2 + eta), "2η, not η"),
    ("ex:em-short", lambda v0, eta, s2: short(v0, eta, s2 + 4 * eta), "noise adds"),
    ("ex:em-short", lambda v0, eta, s2: short(v0, eta, s2 + 2 * eta - 4 * eta**2), "2η is a variance"),
    ("ex:em-short", lambda v0, eta, s2: (1 - (s2 - 2 * eta) / v0) / eta, "a root is missing"),
    ("ex:em-short", lambda v0, eta, s2: 1 - math.sqrt((s2 - 2 * eta) / v0), "divide by η"),
    ("ex:em-short", lambda *given: -short(*given), "sign of θ"),
    ("ex:em-short", lambda v0, eta, s2: math.sqrt((s2 - 2 * eta) / v0), "solve for θ"),
    ("ex:em-short", lambda v0, eta, s2: short(s2, eta, v0), "are exchanged"),
    ("ex:em-short", lambda v0, eta, s2: short(1 / v0, eta, s2), "not multiplied with"),
    ("ex:em-short", lambda v0, eta, s2: short(v0**2, eta, s2), "not squared"),
    ("ex:em-short", lambda v0, eta, s2: (v0 + 2 * eta - s2) / (2 * eta * v0), "part with θ²"),
    ("ex:em-short", lambda *given: 1 / short(*given), "variance of the model"),
    ("ex:em-short", lambda v0, eta, s2: short(v0, eta / 2, s2), "not half of that"),
    ("ex:em-short", lambda v0, eta, s2: s2, "variance of the walks"),
    ("ex:em-short", lambda *given: max(lesson_short(*given), 0.0), "start narrower"),
    ("ex:em-short", lambda *given: abs(lesson_short(*given)), "sign of θ"),
    ("ex:em-noise", lambda log_p, log_q, nu: log_p - log_q, "as much noise as data"),
    ("ex:em-noise", lambda log_p, log_q, nu: log_p - log_q + math.log(nu), "sign of log ν"),
    ("ex:em-noise", lambda log_p, log_q, nu: log_p - log_q - nu, "its logarithm is taken"),
    ("ex:em-noise", lambda log_p, log_q, nu: log_p - nu * log_q, "not log q"),
    ("ex:em-noise", lambda log_p, log_q, nu: noise(log_p, log_q, 1 + nu), "which cancels"),
    ("ex:em-noise", lambda log_p, log_q, nu: noise(log_p, log_q, nu / (1 + nu)), "only the second"),
    ("ex:em-noise", lambda *given: -noise(*given), "is noise"),
    ("ex:em-noise", lambda p, q, nu: p.exp() / (p.exp() + nu * q.exp()), "is the probability"),
    ("ex:em-noise", lambda *given: logsigmoid(noise(*given)), "logarithm of the probability"),
    ("ex:em-noise", lambda log_p, log_q, nu: noise(log_p, -log_q, nu), "log q is taken off"),
    ("ex:em-noise", lambda log_p, log_q, nu: noise(log_p, 0 * log_q, nu), "has a density, too"),
    ("ex:em-noise", lambda log_p, log_q, nu: math.log((1 + nu) / nu) - log_q, "where are the data"),
    ("ex:em-noise", lambda p, q, nu: p.exp() / (nu * q.exp()), "is the ratio"),
    ("ex:em-noise", lambda *given: noise(*given) / math.log(2), "natural logarithm"),
    ("ex:em-noise", lambda log_p, log_q, nu: log_p - log_q - math.log2(nu), "base e"),
    ("ex:em-noise", lambda log_p, log_q, nu: log_p / (log_q + math.log(nu)), "not divided"),
    ("ex:em-noise", lambda *given: noise(*given).mean(), "own logit"),
    ("ex:em-noise", lambda p, q, nu: (p.exp() / (nu * q.exp())).log(), "stay with logarithms"),
    ("ex:em-noise", lambda p, q, nu: torch.logit(p.exp() / (p.exp() + nu * q.exp())), "stay with logarithms"),
    ("ex:em-rotate", lambda A: (A - A.T) / 2, "the rest is a slope"),
    ("ex:em-rotate", lambda A: (A.T - A) / 2, "the other way round: neither"),
    ("ex:em-rotate", lambda A: A + A.T, "is their sum"),
    ("ex:em-rotate", lambda A: A, "it is no slope"),
    ("ex:em-rotate", lambda A: A.T, "transpose turns"),
    ("ex:em-rotate", lambda A: torch.diag(A.diag()), "not all lost"),
    ("ex:em-rotate", lambda A: A.triu() + A.triu(1).T, "is the upper one"),
    ("ex:em-rotate", lambda A: A.tril() + A.tril(-1).T, "is the lower one"),
    ("ex:em-rotate", lambda A: nearest(A - A.diag().diag() / 2), "is halved here"),
    ("ex:em-rotate", lambda A: nearest(A + A.diag().diag()), "is doubled here"),
    ("ex:em-rotate", lambda A: A + A.T - A.diag().diag(), "those are sums"),
    ("ex:em-rotate", lambda A: -nearest(A), "matrix of the energy"),
    ("ex:em-rotate", lambda A: A.T @ A, "products of entries"),
    (
        "ex:em-rotate",
        lambda A: (
            (pair := torch.linalg.eigh(A.T @ A)).eigenvectors
            @ pair.eigenvalues.sqrt().diag()
            @ pair.eigenvectors.T
        ),
        "how far A stretches",
    ),
    ("ex:em-rotate", lambda A: torch.linalg.svd(A).U @ torch.linalg.svd(A).Vh, "nearest rotation"),
    ("ex:em-rotate", lambda A: A.diag().mean() * torch.eye(len(A)), "same factor"),
    (
        "ex:em-rotate",
        lambda A: sum(
            min(rate, 0) * torch.outer(way, way)
            for rate, way in zip(*(lambda e: (e[0], e[1].T))(torch.linalg.eigh(nearest(A))), strict=True)
        ),
        "lead outwards",
    ),
    ("ex:em-rotate", lambda A: 0 * A, "No slope at all"),
    ("ex:em-product", lambda m, v, n, w: (m + n, v + w), "sum of two draws"),
    ("ex:em-product", moments(lambda x, s, m, v, n, w: (x, v + w)), "do not add up"),
    (
        "ex:em-product",
        lambda m, v, n, w: ((m + n) / 2, (v + w + m**2 + n**2) / 2 - (m + n) ** 2 / 4),
        "the mixture",
    ),
    ("ex:em-product", moments(lambda x, s, m, v, n, w: ((m + n) / 2, s)), "larger say."),
    (
        "ex:em-product",
        moments(lambda x, s, m, v, n, w: (lesson_product(m, w, n, v)[0], s)),
        "weights are exchanged",
    ),
    ("ex:em-product", moments(lambda x, s, m, v, n, w: (x, 1 / s)), "is the precision"),
    ("ex:em-product", moments(lambda x, s, m, v, n, w: (x, s**0.5)), "is the deviation"),
    ("ex:em-product", lambda m, v, n, w: lesson_product(m, v**2, n, w**2), "variances already"),
    ("ex:em-product", lambda m, v, n, w: lesson_product(m, v**0.5, n, w**0.5), "no root"),
    ("ex:em-product", lambda m, v, n, w: lesson_product(m, 2 * v, n, 2 * w), "twice as steep"),
    ("ex:em-product", moments(lambda x, s, m, v, n, w: (x, v * w)), "not multiplied"),
    ("ex:em-product", moments(lambda x, s, m, v, n, w: (x, (v + w) / 2)), "not averaged"),
    ("ex:em-product", moments(lambda x, s, m, v, n, w: (m / v + n / w, s)), "divided by the precision"),
    ("ex:em-product", moments(lambda x, s, m, v, n, w: (m * n, s)), "not a product"),
    ("ex:em-product", moments(lambda x, s, m, v, n, w: (s, x)), "mean comes first"),
    ("ex:em-product", moments(lambda x, s, m, v, n, w: x), "mean alone"),
    ("ex:em-product", moments(lambda x, s, m, v, n, w: s), "variance alone"),
    ("ex:em-product", lambda m, v, n, w: (m, v), "first expert"),
    ("ex:em-product", lambda m, v, n, w: (n, w), "second expert"),
    ("ex:em-product", lambda m, v, n, w: lesson_product(m, v, n, -w), "not taken off"),
    ("ex:em-classifier", lambda f, i, j: log_ratio(f, j, i), "sign is wrong"),
    ("ex:em-classifier", told(lambda a, b: a.amax() - b.amax()), "largest output alone"),
    ("ex:em-classifier", told(lambda a, b: a.sum() - b.sum()), "not f."),
    ("ex:em-classifier", told(lambda a, b: a.mean() - b.mean()), "something else"),
    ("ex:em-classifier", told(lambda a, b: a - b), "own ratio"),
    ("ex:em-classifier", told(lambda a, b: (a - b).exp().sum().log()), "before you compare"),
    ("ex:em-classifier", lambda f, i, j: lesson_log_ratio(f.log_softmax(1), i, j), "divided by the very sum"),
    (
        "ex:em-classifier",
        lambda f, i, j: (f.softmax(1).amax(1)[i] / f.softmax(1).amax(1)[j]).log(),
        "how sure",
    ),
    ("ex:em-classifier", told(entropies), "entropies"),
    (
        "ex:em-classifier",
        told(lambda a, b: a @ a.softmax(0) - b @ b.softmax(0)),
        "entropy is missing",
    ),
    ("ex:em-classifier", lambda *given: math.exp(log_ratio(*given)), "is the ratio"),
    ("ex:em-classifier", told(lambda a, b: a.exp().sum().log()), "second is missing"),
    ("ex:em-classifier", told(lambda a, b: a.logsumexp(0) / b.logsumexp(0)), "is a difference."),
    ("ex:em-classifier", told(lambda a, b: a.logsumexp(0) + b.logsumexp(0)), "not a sum"),
    ("ex:em-classifier", lambda *given: log_ratio(*given) / math.log(2), "Bits"),
    ("ex:em-classifier", lambda f, i, j: log_ratio(f, i - 1, j - 1), "one too small"),
    ("ex:em-classifier", lambda f, i, j: f.exp().sum(1).log(), "in place of two"),
    ("ex:em-classifier", lambda f, i, j: log_ratio(f.T, i, j), "over the inputs"),
    ("ex:em-classifier", told(lambda a, b: (a.exp().sum() / b.exp().sum()).log()), "takes the largest off"),
    (
        "ex:em-classifier",
        told(lambda a, b: (a.exp().sum() + 1e-12).log() - (b.exp().sum() + 1e-12).log()),
        "takes the largest off",
    ),
    ("ex:em-typical", lambda D: (D, math.sqrt(2 * D)), "of the squared length: the energy"),
    ("ex:em-typical", lambda D: (D, math.sqrt(D / 2)), "twice too large"),
    ("ex:em-typical", lambda D: (D / 2, math.sqrt(2 * D)), "deviation is that of"),
    ("ex:em-typical", lambda D: (D / 2, D / 2), "is the variance"),
    ("ex:em-typical", lambda D: (D / 2, math.sqrt(2 * D) / 4), "squared in the variance"),
    ("ex:em-typical", lambda D: (D / 2, D / math.sqrt(2)), "deviations do not"),
    ("ex:em-typical", lambda D: typical(1), "there are D"),
    ("ex:em-typical", lambda D: (D / 2, 1 / math.sqrt(2 * D)), "mean energy of one dimension"),
    ("ex:em-typical", lambda D: (D / 2, math.sqrt(D) / 2), "not 1"),
    ("ex:em-typical", lambda D: (D / 2, math.sqrt(3 * D / 4)), "not 3"),
    ("ex:em-typical", lambda D: (math.sqrt(D), math.sqrt(1 / 2)), "length of a draw"),
    (
        "ex:em-typical",
        lambda D: (D * Normal(0.0, 1.0).entropy().item(), math.sqrt(D / 2)),
        "log Z is none",
    ),
    ("ex:em-typical", lambda D: (D / 2 - 1, math.sqrt(D / 2)), "most frequent"),
    ("ex:em-typical", lambda D: (-D / 2, math.sqrt(D / 2)), "sign is wrong"),
    ("ex:em-typical", lambda D: (0, math.sqrt(D / 2)), "draws have more"),
    ("ex:em-typical", lambda D: (D / 2, 0.0), "not always the same"),
    ("ex:em-typical", lambda D: typical(D)[::-1], "mean comes first"),
    ("ex:em-typical", lambda D: D / 2, "mean alone"),
    ("ex:em-typical", lambda D: math.sqrt(D / 2), "deviation alone"),
]
LABELS = [label for label, _ in REFERENCES]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("empty", [..., None, lambda *given: None, lambda *given: ...])
def test_an_empty_answer_is_none(label, empty, said):
    assert said(label, empty).startswith("no answer yet")


ODD = [
    *("text", b"", {}, [], [[1.0], [1.0, 2.0]], [None], 1j, 10**400, object(), torch.tensor([1j])),
    *(np.array("a"), (torch.ones(2, 2), "text"), (torch.ones(2, 2), torch.ones(3)), (1.0, None), ()),
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
@pytest.mark.parametrize("pair", [tuple, list])
def test_right_answers_of_every_type_are_graded_right(label, answer, kind, pair, said):
    def other(*given):
        got = answer(*given)
        if label == "ex:bm-spins":
            return pair(map(kind, got))
        return kind(torch.as_tensor(got).detach())

    assert said(label, other).startswith("right")


@pytest.mark.parametrize("label", LABELS)
def test_five_cases_at_least_each_with_a_hint(label):
    checks.grade(label, None)
    cases = list(checks._graders[label](lambda *given: None))
    assert len(cases) >= 5
    assert all(case.hint for case in cases)
    assert len({case.question for case in cases}) == len(cases)


@pytest.mark.parametrize("label", LABELS)
def test_ten_slips_at_least_are_known(label):
    checks.grade(label, None)
    assert len(next(iter(checks._graders[label](lambda *given: None))).slips) >= 10


@pytest.mark.parametrize("shape", [(4, 4), (5, 5), (4, 1)])
def test_a_pair_that_is_no_machine_is_told_the_shape(shape, said):
    told = said("ex:bm-spins", lambda J, f: (J, torch.zeros(shape)))
    assert "(5, 4)" in told
    assert told.startswith("not yet")


def test_the_right_machine_of_bits_has_the_probabilities_of_the_spins():
    J = torch.tensor([[0.0, 0.7, -0.4], [0.7, 0.0, 1.1], [-0.4, 1.1, 0.0]], dtype=torch.float64)
    f = torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64)
    s = all_bits(3, -1)
    right = (((s @ J) * s).sum(1) / 2 + s @ f).log_softmax(0)
    bits = energy.Boltzmann(*of_bits(J, f)).log_prob((s + 1) / 2)
    torch.testing.assert_close(bits.detach(), right)
