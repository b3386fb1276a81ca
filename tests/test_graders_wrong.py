"""Wrong answers of a common kind are refused by every exercise, with a hint that does not tell the right one."""

import cmath
import itertools
import math
import re
import warnings

import numpy as np
import pytest
import torch
from test_graders_chains import LESSON as OF_CHAINS
from test_graders_chains import factor, lesson_before
from test_graders_chains import lesson_rest as in_a_row
from test_graders_gan import ANSWERS as OF_THE_GAME
from test_graders_gan_practice import ANSWERS as OF_PRACTICE
from test_graders_gan_practice import lesson_balance, precision, reach, rests
from test_graders_score import LESSON as OF_SCORES
from test_graders_scorecard import FAST as OF_THE_CARD
from test_graders_sde import LESSON as OF_CROWDS
from test_graders_sde import lesson_drift, lesson_flux, lesson_rate, lesson_slowest
from torch.distributions import Normal

from genlib import checks

F64 = {"dtype": torch.float64}


def kl(p, q):
    return torch.special.xlogy(p, p / torch.where(p > 0, q, 1.0)).sum(-1)


def conditional_kl(p, q):
    return p.sum(1) @ kl(p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True))


def outer(p):
    return p.sum(1, keepdim=True) * p.sum(0)


def information(p):
    return kl(p.flatten(), outer(p).flatten())


def jensen_shannon(p, q):
    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


def gumbel(logits, u):
    return (logits - (-u.log()).log()).argmax(-1)


def bells(mu1, sigma1, mu2, sigma2):
    return math.log(sigma2 / sigma1) + (sigma1**2 + (mu1 - mu2) ** 2) / (2 * sigma2**2) - 0.5


def lengths(stop):
    return torch.cat([stop.new_ones(1), (1 - stop).cumprod(0)[:-1]]) * stop


def resting(table):
    return torch.linalg.matrix_power(table.double(), 4096)[0].to(table)


def entropy_rate(table):
    return (resting(table) * torch.special.entr(table).sum(1)).sum()


def top_p(q, p, crosses=True):
    ranked, order = q.sort(descending=True)
    inside = ranked.cumsum(0) - crosses * ranked < p
    kept = torch.zeros_like(q)
    kept[order[inside]] = ranked[inside]
    return kept / kept.sum()


def gru(x, h, W, U, b, c, gate=torch.sigmoid, candidate=torch.tanh, exchanged=False):
    of_x, of_h = (x @ W.T + b).chunk(3, -1), (h @ U.T + c).chunk(3, -1)
    r, z = (gate(i + j) for i, j in zip(of_x[:2], of_h[:2], strict=True))
    r, z = (z, r) if exchanged else (r, z)
    return (1 - z) * candidate(of_x[2] + r * of_h[2]) + z * h


def viterbi(first, table, length):
    best = first.log()
    for _ in range(length - 1):
        best = (best[:, None] + table.log()).amax(0)
    return best.amax()


def mask(length, window):
    away = torch.arange(length)[:, None] - torch.arange(length)
    return (away >= 0) & (away < window)


def logit_normal(x, a, b):
    z = (torch.logit(x) - b) / a
    return Normal(0.0, 1.0).log_prob(z) - (abs(a) * x * (1 - x)).log()


def stack(layers, x, sign=1.0):
    total = 0
    for layer in reversed(layers):
        x, ladj = layer.inverse(x)
        total = total + ladj
    return Normal(0.0, 1.0).log_prob(x).sum(1) + sign * total


def radius(rho, alpha, beta):
    half = (rho - alpha - beta) / 2
    return half + (half**2 + alpha * rho).sqrt()


def leaky(z, a):
    return torch.where(z < 0, a * z, z), (z < 0).sum(1) * math.log(a)


def steepness(a, s):
    return s * math.exp(a**2 / (2 * s**2))


def gap(a, middle=0.5):
    u = (torch.arange(100_000, **F64) + 0.5) / 100_000
    return -torch.log1p(a * (u - middle)).mean().item()


def squeeze(x):
    return torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 2).flatten(1, 2)


def importance(log_w):
    return log_w.logsumexp(0) - math.log(len(log_w))


def slopes(x, alpha):
    p = alpha + (1 - 2 * alpha) * x
    return math.log(1 - 2 * alpha) - (p * (1 - p)).log()


def posterior(prior, likelihood):
    return prior * likelihood / (prior * likelihood).sum()


def normals(mu, sigma, m, s):
    return ((s / sigma).log() + (sigma**2 + (mu - m) ** 2) / (2 * s**2) - 0.5).sum(1)


def draw(rate, u):
    return -torch.log1p(-u) / rate


def score_variance(f0, f1, rho):
    return f1**2 / rho + f0**2 / (1 - rho) - (f1 - f0) ** 2


def width(x, mean):
    return (x - mean).square().mean().sqrt()


def effective(log_w):
    return 1 / log_w.softmax(0).square().sum(0)


def tilted(h, a, b):
    level = torch.arange(17, dtype=h.dtype) / 8 - 1
    weight = h * (a * level + b * level**2).exp()
    return weight / weight.sum()


def paid(rates, free):
    return rates.mean(0).clamp(min=free).sum()


def vamp(z, mu, sigma):
    return Normal(mu, sigma).log_prob(z[:, None]).sum(2).logsumexp(1) - math.log(len(mu))


def used(means):
    return (means.var(0) > 0.01).sum()


def alternating(eta, gamma):
    """The rule for two players who take turns."""
    first, second = np.array([[1, eta / 2], [0, 1]]), np.array([[1, 0], [-eta / 2, 1 - eta * gamma]])
    return np.abs(np.linalg.eigvals(second @ first)).max() < 1


RAIN, SUN = torch.tensor([9, 14, 5, 2], **F64) / 30, torch.tensor([22, 6, 2, 20], **F64) / 50
BITS = (64 * math.log(17) - 96.0) / (64 * math.log(2))
ELBO = 0.7 * math.log(0.45 / 0.7) + 0.3 * math.log(0.05 / 0.3)
RIGHT = [
    *(("ex:kl-bits", kl(RAIN, SUN) / math.log(2)), ("ex:kl-chain-rule", conditional_kl)),
    *(("ex:kl-mutual-information", information), ("ex:kl-jensen-shannon", jensen_shannon)),
    *(("ex:kl-gumbel", gumbel), ("ex:kl-gaussians", bells)),
    *(("ex:seq-perplexity", 2**2.3), ("ex:seq-lengths", lengths), ("ex:seq-entropy-rate", entropy_rate)),
    *(("ex:seq-top-p", top_p), ("ex:seq-gru", gru), ("ex:seq-most-probable", viterbi), ("ex:seq-mask", mask)),
    *(("ex:flows-logit-normal", logit_normal), ("ex:flows-stack", stack), ("ex:flows-radial", radius)),
    *(("ex:flows-leaky", leaky), ("ex:flows-steep", steepness), ("ex:flows-passes", 3920)),
    *(("ex:img-bits", BITS), ("ex:img-gap", gap), ("ex:img-squeeze", squeeze)),
    *(("ex:img-importance", importance), ("ex:img-logit", lambda x, alpha: slopes(x, alpha).sum(1))),
    *(("ex:vae-posterior", posterior), ("ex:vae-elbo", ELBO), ("ex:vae-kl", normals)),
    *(("ex:vae-exponential", draw), ("ex:vae-score-variance", score_variance), ("ex:vae-width", width)),
    *(("ex:vae-effective", effective), ("ex:vad-tilt", tilted), ("ex:vad-holes", 15 - math.log(350))),
    *(("ex:vad-width", 4), ("ex:vad-free", paid), ("ex:vad-vamp", vamp), ("ex:vad-active", used)),
]
ALL = dict([*OF_THE_GAME, *OF_PRACTICE, *OF_SCORES, *OF_CHAINS, *OF_CROWDS, *OF_THE_CARD, *RIGHT])
EVERY = sorted(checks._homes())
SLOW = {"ex:sc-own"}  # it trains nothing, but draws 100,000 points


def cases(label):
    checks.grade(label, None)  # so that the graders are there
    return list(checks._graders[label](lambda *given: None))


@pytest.mark.parametrize(("label", "answer"), RIGHT)
def test_right_answers_are_graded_right(label, answer, said):
    assert said(label, answer).startswith("right")


@pytest.mark.parametrize(("label", "answer"), [pair for pair in RIGHT if pair[0] != "ex:flows-stack"])
def test_right_answers_in_single_precision_are_graded_right(label, answer, said, single):
    assert said(label, single(answer) if callable(answer) else np.float32(answer)).startswith("right")


def of_type(answer, kind):
    """The answer, or the answers of the function, as another type."""
    if not callable(answer):
        return kind(answer)

    def other(*given):
        got = answer(*given)
        return tuple(map(kind, got)) if isinstance(got, tuple) else kind(got)

    return other


SLOPED = {"ex:gad-penalty", "ex:vae-exponential"}  # which torch must be able to follow


@pytest.mark.parametrize("label", sorted(set(ALL) - SLOPED))
@pytest.mark.parametrize(
    "kind",
    [
        lambda got: torch.as_tensor(got, **F64).detach(),
        lambda got: torch.as_tensor(got).detach().numpy(),
        lambda got: np.asarray(torch.as_tensor(got).detach()).tolist(),
        lambda got: torch.as_tensor(got).float().detach(),
    ],
    ids=["tensor", "numpy", "plain", "single"],
)
def test_right_answers_of_every_type_are_graded_right(label, kind, said):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert said(label, of_type(ALL[label], kind)).startswith("right")


@pytest.mark.parametrize(
    "kind",
    [complex, np.complex128, np.complex64, torch.tensor, lambda z: torch.tensor(z, dtype=torch.complex64)],
)
def test_a_complex_rate_without_imaginary_part_is_right(kind, said):
    rate = ALL["ex:gad-rest"]
    assert said("ex:gad-rest", lambda gamma: kind(complex(float(rate(gamma)), 0.0))).startswith("right")
    told = said("ex:gad-rest", lambda gamma: kind(complex(float(rate(gamma)), 0.3)))
    assert told.startswith("not yet")
    assert "which part" in told


WRONG = [
    ("ex:gat-friction", lambda eta, gamma: eta / 4 < gamma < 2 / eta),
    ("ex:gat-friction", lambda eta, gamma: eta / 4 < gamma <= 2 / eta + eta / 4),
    ("ex:gat-friction", lambda eta, gamma: gamma > eta / 4),
    ("ex:gat-friction", lambda eta, gamma: gamma < 2 / eta),
    ("ex:gat-friction", lambda eta, gamma: gamma < 2 / eta + eta / 8),
    ("ex:gat-friction", lambda eta, gamma: eta / 4 < gamma < 2 / eta + eta / 16),
    ("ex:gat-friction", lambda eta, gamma: eta / 8 < gamma < 2 / eta + eta / 8),
    ("ex:gat-friction", lambda eta, gamma: eta / 2 < gamma < 2 / eta + eta / 8),
    ("ex:gat-friction", lambda eta, gamma: 0 < gamma < 2 / eta),
    ("ex:gat-friction", lambda eta, gamma: 0 < gamma < 2 / eta - eta / 4),
    ("ex:gat-friction", lambda eta, gamma: abs(1 - eta * gamma + eta**2 / 4) < 1),
    ("ex:gat-friction", lambda eta, gamma: abs(2 - eta * gamma) < 2 - eta * gamma + eta**2 / 4),
    ("ex:gat-friction", lambda eta, gamma: rests(2 * eta, gamma)),
    ("ex:gat-friction", lambda eta, gamma: rests(eta, 2 * gamma)),
    ("ex:gat-friction", lambda eta, gamma: 1.0),
    ("ex:gat-friction", alternating),
    ("ex:gat-balance", lambda c, p: lesson_balance(c, p) / len(p)),
    ("ex:gat-balance", lambda c, p: -lesson_balance(c, p)),
    ("ex:gat-balance", lambda c, p: ((h := c / c.sum()) * (h / p).log()).nansum() * 2),
    ("ex:gat-chance", lambda n, K: K * (1 - 1 / K) ** (n - 1)),
    ("ex:gat-chance", lambda n, K: K * (1 - (1 / K) ** n)),
    ("ex:gat-chance", lambda n, K: K * (1 / K) ** n),
    ("ex:gat-good", lambda dims: 1 - math.exp(-4.5)),
    ("ex:gat-good", lambda dims: math.erf(3 / math.sqrt(2))),
    ("ex:gat-good", lambda dims: torch.special.gammainc(torch.tensor(dims / 2), torch.tensor(9.0))),
    ("ex:gat-bridge", lambda w: math.erf(0.425 * w)),
    ("ex:gat-bridge", lambda w: math.erf(0.85 * w / math.sqrt(2))),
    ("ex:gat-bridge", lambda w: 0.85 * math.erf(w / 2 / math.sqrt(2))),
    ("ex:god-precision", lambda x, y, k: (torch.cdist(x, y) < torch.from_numpy(reach(y, k))).any(1).double().mean()),
    ("ex:god-precision", lambda x, y, k: precision(x, y, k + 1)),
    ("ex:god-precision", lambda x, y, k: precision(x, y, 1)),
    ("ex:god-precision", lambda x, y, k: 1.0),
    ("ex:god-copies", lambda x, y, s: (torch.cdist(x, y).amin(1) <= np.quantile(reach(y, 1), s)).double().mean()),
    ("ex:god-copies", lambda x, y, s: (torch.cdist(x, y).amin(1) < np.quantile(reach(y, 1), 1 - s)).double().mean()),
    ("ex:god-copies", lambda x, y, s: (torch.cdist(x, y).amin(1) < np.quantile(reach(y, 2), s)).double().mean()),
    ("ex:god-average", 1152),
    ("ex:god-average", 115),
    ("ex:god-average", math.log(0.1) / math.log(0.998)),
    ("ex:god-units", lambda gamma: 8 * gamma),
    ("ex:god-units", lambda gamma: gamma / 256),
    ("ex:god-units", lambda gamma: gamma / 16),
    ("ex:god-chance", lambda a, n: (a - 0.5) * 2 * n),
    ("ex:god-chance", lambda a, n: (a - 0.5) / (0.25 / (2 * n) ** 0.5)),
    ("ex:god-chance", lambda a, n: (a - 0.5) / (a * (1 - a) / (2 * n)) ** 0.5),
    ("ex:gan-hinge", lambda p, q: (100 * (p - q)).clamp(-1, 1)),
    ("ex:gan-hinge", lambda p, q: (1000 * (p - q)).clamp(-1, 1)),
    ("ex:gan-hinge", lambda p, q: torch.tanh(1000 * (p - q))),
    ("ex:gan-hinge", lambda p, q: (100 * (p / q).log()).clamp(-1, 1)),
    ("ex:gan-hinge", lambda p, q: (p > 0.25) * 2.0 - 1),
    ("ex:gan-shares", lambda p, q, r: p / (p + q * r)),
    ("ex:gan-shares", lambda p, q, r: (r * p + (1 - r) * q) / 2),
    ("ex:gan-shares", lambda p, q, r: r * p / (r * p + (1 - r) * q).sum()),
    ("ex:gad-rest", lambda gamma: gamma / 2 - math.sqrt(max(gamma**2 / 4 - 1, 0))),
    ("ex:gad-rest", lambda gamma: min(gamma / 2, 0.5)),
    ("ex:gad-rest", lambda gamma: gamma - math.sqrt(max(gamma**2 - 1, 0))),
    ("ex:kl-bits", kl(RAIN, SUN) * math.log(2)),
    ("ex:kl-bits", -kl(RAIN, SUN) / math.log(2)),
    ("ex:kl-bits", (RAIN * (RAIN / SUN).log10()).sum()),
    ("ex:kl-chain-rule", lambda p, q: conditional_kl(p.T, q.T)),
    ("ex:kl-chain-rule", lambda p, q: conditional_kl(p, q) / math.log(2)),
    ("ex:kl-chain-rule", lambda p, q: -conditional_kl(p, q)),
    ("ex:kl-chain-rule", lambda p, q: conditional_kl(p, q) / len(p)),
    ("ex:kl-mutual-information", lambda p: kl(outer(p).flatten(), p.flatten())),
    ("ex:kl-mutual-information", lambda p: -information(p)),
    ("ex:kl-mutual-information", lambda p: information(p) / p.numel()),
    ("ex:kl-mutual-information", lambda p: 0.0),
    ("ex:kl-jensen-shannon", lambda p, q: jensen_shannon(p, q) / math.log(2)),
    ("ex:kl-jensen-shannon", lambda p, q: kl(p, (p + q) / 2)),
    ("ex:kl-jensen-shannon", lambda p, q: jensen_shannon(p, q) ** 0.5),
    ("ex:kl-gumbel", lambda logits, u: (logits + u).argmax(-1)),
    ("ex:kl-gumbel", lambda logits, u: (logits - u.log()).argmax(-1)),
    ("ex:kl-gumbel", lambda logits, u: (logits - (-u.log()).log()).argmin(-1)),
    ("ex:kl-gumbel", lambda logits, u: gumbel(logits.softmax(0), u)),
    ("ex:kl-gumbel", lambda logits, u: gumbel(logits, 1 - u)),
    ("ex:kl-gaussians", lambda a, b, c, d: 2 * bells(a, b, c, d)),
    ("ex:kl-gaussians", lambda a, b, c, d: bells(a, b**0.5, c, d**0.5)),
    ("ex:kl-gaussians", lambda a, b, c, d: bells(a, b, c, d) + 2 * math.log(b / d)),
    ("ex:kl-gaussians", lambda a, b, c, d: bells(a, b, c, d) / math.log(2)),
    ("ex:seq-perplexity", math.exp(2.3)),
    ("ex:seq-perplexity", 10**2.3),
    ("ex:seq-perplexity", 2**-2.3),
    ("ex:seq-lengths", lambda stop: stop),
    ("ex:seq-lengths", lambda stop: lengths(stop).cumsum(0)),
    ("ex:seq-lengths", lambda stop: lengths(stop) / lengths(stop).sum()),
    ("ex:seq-lengths", lambda stop: (1 - stop).cumprod(0) * stop),
    ("ex:seq-entropy-rate", lambda table: torch.special.entr(table).sum()),
    ("ex:seq-entropy-rate", lambda table: (resting(table) * torch.special.entr(table).sum(0)).sum()),
    ("ex:seq-entropy-rate", lambda table: entropy_rate(table) / math.log(2)),
    ("ex:seq-top-p", lambda q, p: top_p(q, p, crosses=False)),
    ("ex:seq-top-p", lambda q, p: top_p(q, p).sort(descending=True).values),
    ("ex:seq-top-p", lambda q, p: torch.where(q > 1 - p, q, 0.0) / q.sum()),
    ("ex:seq-top-p", lambda q, p: q),
    ("ex:seq-top-p", lambda q, p: top_p(q, p + 1e-9)),
    ("ex:seq-gru", lambda *given: gru(*given, candidate=torch.sigmoid)),
    ("ex:seq-gru", lambda *given: gru(*given, exchanged=True)),
    ("ex:seq-gru", lambda *given: gru(*given, gate=torch.tanh)),
    ("ex:seq-most-probable", lambda first, table, L: viterbi(first, table.T, L)),
    ("ex:seq-most-probable", lambda first, table, L: viterbi(first, table, L + 1)),
    ("ex:seq-most-probable", lambda first, table, L: viterbi(first, table, L) / L),
    ("ex:seq-most-probable", lambda first, table, L: viterbi(torch.ones_like(first), table, L)),
    ("ex:seq-mask", lambda L, window: mask(L, window + 1)),
    ("ex:seq-mask", lambda L, window: mask(L, window - 1)),
    ("ex:seq-mask", lambda L, window: mask(L, window).T),
    ("ex:seq-mask", lambda L, window: mask(L, L)),
    ("ex:flows-logit-normal", lambda x, a, b: logit_normal(x, a, -b)),
    ("ex:flows-logit-normal", lambda x, a, b: logit_normal(x, 1.0, 0.0)),
    ("ex:flows-logit-normal", lambda x, a, b: logit_normal(x, a, b).mean()),
    ("ex:flows-stack", lambda layers, x: stack(layers, x, -1.0)),
    ("ex:flows-stack", lambda layers, x: stack(layers, x, 0.0)),
    ("ex:flows-stack", lambda layers, x: stack(layers, x).mean()),
    ("ex:flows-radial", lambda rho, alpha, beta: radius(rho, alpha, -beta)),
    ("ex:flows-radial", lambda rho, alpha, beta: rho - beta * rho / (alpha + rho)),
    ("ex:flows-radial", lambda rho, alpha, beta: 2 * radius(rho, alpha, beta)),
    ("ex:flows-leaky", lambda z, a: (leaky(z, a)[0], (z >= 0).sum(1) * math.log(a))),
    ("ex:flows-leaky", lambda z, a: (a * z, leaky(z, a)[1])),
    ("ex:flows-leaky", lambda z, a: (leaky(z, a)[0], leaky(z, a)[1].sum())),
    ("ex:flows-leaky", lambda z, a: (leaky(z, a)[0], (z < 0).sum(0) * math.log(a))),
    ("ex:flows-steep", lambda a, s: s * math.exp(a**2 / s**2)),
    ("ex:flows-steep", lambda a, s: steepness(a, s) / 2),
    ("ex:flows-steep", lambda a, s: steepness(a, s) / s),
    ("ex:flows-passes", 140),
    ("ex:flows-passes", 789),
    ("ex:flows-passes", 5 * 783),
    ("ex:img-bits", (64 * math.log(16) - 96.0) / (64 * math.log(2))),
    ("ex:img-bits", (math.log(17) - 96.0) / math.log(2)),
    ("ex:img-bits", -BITS),
    ("ex:img-gap", lambda a: 0.0),
    ("ex:img-gap", lambda a: gap(a, middle=0.0)),
    ("ex:img-gap", lambda a: a**2 / 24),
    ("ex:img-gap", lambda a: gap(a) / math.log(2)),
    ("ex:img-squeeze", lambda x: x.reshape(len(x), -1, x.shape[2] // 2, x.shape[3] // 2)),
    ("ex:img-squeeze", lambda x: squeeze(x.flip(2))),
    ("ex:img-squeeze", lambda x: squeeze(x).flip(1)),
    ("ex:img-importance", lambda log_w: log_w.amax(0)),
    ("ex:img-importance", lambda log_w: importance(log_w) - math.log(len(log_w))),
    ("ex:img-importance", lambda log_w: importance(log_w.T)),
    ("ex:img-importance", lambda log_w: log_w.logsumexp(0) - math.log(log_w.shape[1])),
    ("ex:img-logit", lambda x, alpha: slopes(x, alpha).mean(1)),
    ("ex:img-logit", lambda x, alpha: slopes(x, 0.0).sum(1)),
    ("ex:img-logit", lambda x, alpha: slopes(x, alpha).sum(0)),
    ("ex:img-logit", lambda x, alpha: slopes(x, alpha / 2).sum(1)),
    ("ex:vae-posterior", lambda prior, likelihood: prior * likelihood / likelihood.sum()),
    ("ex:vae-posterior", lambda prior, likelihood: (prior * likelihood).softmax(0)),
    ("ex:vae-posterior", lambda prior, likelihood: (prior * likelihood).sum()),
    ("ex:vae-posterior", lambda prior, likelihood: posterior(1 - prior, likelihood)),
    ("ex:vae-elbo", 0.3 * math.log(0.45 / 0.3) + 0.7 * math.log(0.05 / 0.7)),
    ("ex:vae-elbo", ELBO / math.log(10)),
    ("ex:vae-elbo", 0.9 * math.log(0.45 / 0.7) + 0.1 * math.log(0.05 / 0.3)),
    ("ex:vae-kl", lambda mu, sigma, m, s: normals(m, sigma, m, s)),
    ("ex:vae-kl", lambda *given: normals(*given) / math.log(2)),
    ("ex:vae-kl", lambda *given: normals(*given).mean()),
    ("ex:vae-exponential", lambda rate, u: draw(rate, u) / math.log(2)),
    ("ex:vae-exponential", lambda rate, u: -torch.expm1(-rate * u)),
    ("ex:vae-exponential", lambda rate, u: draw(1 / rate, u)),
    ("ex:vae-score-variance", lambda f0, f1, p: f1**2 / p + f0**2 / (1 - p) - (f1 + f0) ** 2),
    ("ex:vae-score-variance", lambda f0, f1, p: score_variance(f1, f0, p)),
    ("ex:vae-score-variance", lambda f0, f1, p: f1**2 / p + f0**2 / (1 - p)),
    ("ex:vae-width", lambda x, mean: (x - mean).std()),
    ("ex:vae-width", lambda x, mean: ((x - mean).square().sum() / (x.numel() - 1)).sqrt()),
    ("ex:vae-width", lambda x, mean: x.std(correction=0)),
    ("ex:vae-effective", lambda log_w: 1 / log_w.softmax(1).square().sum(1)),
    ("ex:vae-effective", lambda log_w: torch.special.entr(log_w.softmax(0)).sum(0).exp()),
    ("ex:vae-effective", lambda log_w: effective(log_w) / len(log_w)),
    ("ex:vae-effective", lambda log_w: effective(log_w / 2)),
    ("ex:vad-tilt", lambda h, a, b: tilted(h, -a, -b)),
    ("ex:vad-tilt", lambda h, a, b: tilted(h, a + b, 0.0)),
    ("ex:vad-tilt", lambda h, a, b: tilted(h, a, b).log()),
    ("ex:vad-holes", 15 - math.log2(350)),
    ("ex:vad-holes", math.log(350) - 15),
    ("ex:vad-holes", 15 - math.log10(350)),
    ("ex:vad-width", 16),
    ("ex:vad-width", math.sqrt(8)),
    ("ex:vad-width", 1),
    ("ex:vad-free", lambda rates, free: rates.mean(0).sum()),
    ("ex:vad-free", lambda rates, free: (rates.mean(0) + free).sum()),
    ("ex:vad-free", lambda rates, free: rates.mean(0).clamp(min=free).mean()),
    ("ex:vad-vamp", lambda z, mu, sigma: vamp(z, mu, sigma.sqrt())),
    ("ex:vad-vamp", lambda z, mu, sigma: vamp(z, mu, sigma) + math.log(len(mu))),
    ("ex:vad-vamp", lambda z, mu, sigma: vamp(z, mu, sigma).sum()),
    ("ex:vad-active", lambda means: 2),
    ("ex:vad-active", lambda means: (means.var(0) > 0.1).sum()),
    ("ex:vad-active", lambda means: (means.var(1) > 0.01).sum()),
    ("ex:vad-active", lambda means: means.var(0) > 0.01),
    ("ex:lg-convention", lambda step: 1 / (1 - step / 8)),
    ("ex:lg-two-state", lambda a, b, n: a / (a + b) * (1 - a - b) ** n),
    ("ex:lg-forget", lambda start, step: round(math.log(0.01 / start) / math.log(1 - step))),
    ("ex:al-kl", lambda ratio, dims: 0.5 * (ratio**2 - 1 - math.log(ratio)) * dims),
    ("ex:al-weight", lambda deviation, sigma: sigma**2 * deviation**2 / (2 * (deviation**2 + sigma**2))),
    ("ex:sm-hutchinson", lambda A: 2 * (A.square().sum() - A.diagonal().square().sum())),
    ("ex:mc-rest", lambda up, down, N: in_a_row(up + 0.1, down, N)),
    ("ex:mc-rest", lambda up, down, N: in_a_row(up, down, N).cumsum(0)),
    ("ex:mc-rest", lambda up, down, N: in_a_row(math.exp(up), math.exp(down), N)),
    ("ex:mc-rest", lambda up, down, N: in_a_row(up, down, 2 * N)[:N]),
    ("ex:mc-barker", lambda p_i, p_j, forth, back: back * p_i / (back * p_i + p_j)),
    ("ex:mc-barker", lambda p_i, p_j, forth, back: back * p_i),
    ("ex:mc-barker", lambda p_i, p_j, forth, back: min(1.0, p_i / p_j)),
    ("ex:mc-barker", lambda p_i, p_j, forth, back: p_i / (p_i + p_j) * back / (back + forth)),
    ("ex:mc-factor", lambda x, y, k: factor(x, y, k - 0.5)),
    ("ex:mc-factor", lambda x, y, k: factor(y, x, k)),
    ("ex:mc-factor", lambda x, y, k: factor(x, y, k).clamp(min=-1)),
    ("ex:mc-factor", lambda x, y, k: (k * (y.log() - x.log()) - (y - x) / k).clamp(max=0)),
    ("ex:mc-worth", lambda a, N: N * (1 - a**2)),
    ("ex:mc-worth", lambda a, N: N * (1 - a) ** 2),
    ("ex:mc-worth", lambda a, N: N / (1 + a / (1 - a))),
    ("ex:mc-worth", lambda a, N: math.sqrt(N * (1 - a) / (1 + a))),
    ("ex:mc-spins", lambda b: math.tanh(b) * math.exp(-b)),
    ("ex:mc-spins", lambda b: math.tanh(b) ** 2 / 2),
    ("ex:mc-spins", lambda b: abs(math.tanh(b))),
    ("ex:mc-spins", lambda b: math.sinh(b) ** 2),
    ("ex:mc-leap", lambda x, v, step, score: lesson_before(x, v, step / 2, score)),
    ("ex:mc-leap", lambda x, v, step, score: lesson_before(x, v, step, lambda x: x)),
    ("ex:mc-leap", lambda x, v, step, score: lesson_before(x, -v, step, score)),
    ("ex:mc-leap", lambda x, v, step, score: lesson_before(*lesson_before(x, v, step, score), step, score)),
    ("ex:mc-exchange", lambda E_x, E_y, F_x, F_y: math.exp(-abs(E_x - E_y + F_y - F_x))),
    ("ex:mc-exchange", lambda E_x, E_y, F_x, F_y: float(E_x + F_y > E_y + F_x)),
    ("ex:mc-exchange", lambda E_x, E_y, F_x, F_y: math.exp(min(0.0, (E_x - E_y) * (F_x - F_y)))),
    ("ex:mc-exchange", lambda E_x, E_y, F_x, F_y: math.exp(min(0.0, E_x - E_y) + min(0.0, F_y - F_x))),
    ("ex:fp-square", lambda y, k, g: g - 2 * k * y),
    ("ex:fp-square", lambda y, k, g: 2 * k * y - g**2),
    ("ex:fp-square", lambda y, k, g: (g - k * y**0.5) ** 2),
    ("ex:fp-square", lambda y, k, g: abs(g**2 - 2 * k * y)),
    ("ex:fp-bet", lambda mu, sigma, r: (mu - r) / (mu + r)),
    ("ex:fp-bet", lambda mu, sigma, r: (mu + r) / sigma**2),
    ("ex:fp-bet", lambda mu, sigma, r: mu / sigma**2 - r),
    ("ex:fp-bet", lambda mu, sigma, r: abs(mu - r) / sigma**2),
    ("ex:fp-wall", lambda left, right, f, D, h: lesson_flux(left, right, f, D, 2 * h)),
    ("ex:fp-wall", lambda left, right, f, D, h: lesson_flux(left, right, f, D / 2, h)),
    ("ex:fp-wall", lambda left, right, f, D, h: lesson_flux(right, left, f, D, h)),
    ("ex:fp-wall", lambda left, right, f, D, h: f * (left * D + right * D) / 2 - D * (right - left) / h),
    ("ex:fp-wall", lambda left, right, f, D, h: max(lesson_flux(left, right, f, D, h), 0.0)),
    ("ex:fp-rest", lambda x, log_p, D: lesson_drift(x, log_p, lambda x: D(x).sqrt())),
    ("ex:fp-rest", lambda x, log_p, D: lesson_drift(x, lambda x: -log_p(x), D)),
    ("ex:fp-rest", lambda x, log_p, D: lesson_drift(x, log_p, lambda x: D(x).mean() + 0 * x)),
    ("ex:fp-rest", lambda x, log_p, D: lesson_drift(x, lambda x: 2 * log_p(x), D)),
    ("ex:fp-rest", lambda x, log_p, D: torch.zeros_like(x)),
    ("ex:fp-swing", lambda k, gamma: k / gamma * (1 + k / gamma**2) if gamma else 0.0),
    ("ex:fp-swing", lambda k, gamma: min(gamma / 2, k / gamma) if gamma else 0.0),
    ("ex:fp-swing", lambda k, gamma: max(lesson_slowest(k, gamma), 0.2)),
    ("ex:fp-swing", lambda k, gamma: abs(gamma - cmath.sqrt(gamma**2 - 4 * k)) / 2),
    ("ex:fp-swing", lambda k, gamma: lesson_slowest(2 * k, gamma)),
    ("ex:fp-kramers", lambda a, b, T: lesson_rate(b, a, T)),
    ("ex:fp-kramers", lambda a, b, T: lesson_rate(2 * a, b, T)),
    ("ex:fp-kramers", lambda a, b, T: lesson_rate(a, b, T) / T),
    ("ex:fp-kramers", lambda a, b, T: lesson_rate(a, b, T) * math.sqrt(3)),
    ("ex:fp-back", lambda x, t, v: x - 2 * x / (v + t)),
    ("ex:fp-back", lambda x, t, v: x - 2 * x / (1 + (v - 1) * math.exp(-4 * t))),
    ("ex:fp-back", lambda x, t, v: x - x / (1 + (v - 1) * math.exp(-2 * t)) ** 2),
    ("ex:fp-back", lambda x, t, v: 2 * x - x / (1 + (v - 1) * math.exp(-2 * t))),
]  # fmt: skip


@pytest.mark.parametrize(("label", "answer"), WRONG)
def test_wrong_answers_are_refused_with_a_hint_that_does_not_tell(label, answer, said):
    told = said(label, answer)
    assert told.startswith("not yet")
    assert "Right: " not in told


@pytest.mark.parametrize("label", EVERY)
def test_no_slip_is_the_right_answer(label):
    for case in cases(label):
        assert not [s for s, wrong in case.slips.items() if checks._matches(wrong, case.expected, case.atol)]


@pytest.mark.parametrize("label", EVERY)
def test_every_question_has_a_hint_and_none_holds_the_right_number(label):
    for case in cases(label):
        assert case.hint
        right = torch.as_tensor(case.expected, dtype=torch.float64)
        if right.ndim == 0 and not float(right).is_integer():
            for text in (case.hint, *case.slips):
                numbers = [float(n) for n in re.findall(r"\d+\.\d+", text)]
                assert not [n for n in numbers if abs(n - right) < 0.01]


@pytest.mark.parametrize("label", EVERY)
def test_three_slips_at_least_are_known(label):
    assert label == "ex:gat-friction" or max(len(case.slips) for case in cases(label)) >= 3


class Odd:
    def __array__(self, *given, **named):
        raise RuntimeError("no numbers")

    def __float__(self):
        raise OverflowError("too large")


ODD = [
    *(
        "text",
        b"bytes",
        {},
        {"a": 1.0},
        set(),
        [],
        (),
        [[1.0], [1.0, 2.0]],
        [None],
        [..., 1.0],
        object(),
        Odd(),
    ),
    *(10**400, -(10**400), 1j, complex(math.nan, 0), [1j], True, math.nan, math.inf, -math.inf, -1, range(3)),
    *(
        np.array("a"),
        np.array([None]),
        np.array([1j, 2]),
        np.zeros((2, 0)),
        np.ma.masked,
        np.float16(1),
        np.nan,
    ),
    *(torch.zeros(0), torch.zeros(2, 3, 4), torch.eye(3).to_sparse(), torch.zeros(2, device="meta")),
    *(torch.tensor(1j), torch.tensor([math.nan]), torch.ones(2, requires_grad=True), torch.tensor(True)),
    *(int, len, lambda: 1, iter([1.0]), [torch.ones(1, requires_grad=True)], type("T", (), {})),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("label", sorted(set(EVERY) - SLOW))
def test_odd_answers_get_a_verdict(label, said):
    for odd in ODD:
        for answer in (odd, lambda *given, odd=odd: odd):
            told = said(label, answer)
            assert told.startswith(("not yet", "no answer yet")), odd


@pytest.mark.filterwarnings("ignore")
def test_odd_answers_get_a_verdict_from_the_game_of_own_models(said):
    for odd, of in itertools.product(ODD[:8], (lambda odd: odd, lambda odd: lambda x: odd)):
        assert said("ex:sc-own", of(odd)).startswith(("not yet", "no answer yet"))
