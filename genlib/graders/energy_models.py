"""Graders of the lesson on energy models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import product

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, telling


@grader("ex:em-slope")
def _slope(answer: Callable[[float, float], object]) -> Iterator[Case]:
    hint = "What is the mean of −∂E/∂θ over the data, and what over the model? Which variance has the model?"
    for theta, s2 in ((0.7, 2.3), (3.0, 0.2), (2.0, 0.5), (0.01, 1.0), (100.0, 4.0)):
        x = torch.linspace(-12, 12, 4001, **EXACT) / math.sqrt(theta)
        positive, negative = -s2 / 2, (-theta * x**2 / 2).softmax(0) @ (x**2 / 2)
        expected = positive + negative
        slips = {
            "The data lower their energy, the model's draws raise theirs: the sign is wrong.": -expected,
            "The energy has a factor 1/2.": 2 * expected,
            "The positive phase alone is no slope: the constant depends on θ as well.": positive,
            "That is the negative phase alone: where are the data?": negative,
            "Both phases are added: one of them has the other sign.": negative - positive,
            "The variance of the model is not θ.": (theta - s2) / 2,
            "That is the deviation of the model: its variance counts.": (theta**-0.5 - s2) / 2,
            "The variance of the model has θ once.": (theta**-2 - s2) / 2,
            "The negative phase has a factor 1/2, too.": 2 * negative + positive,
            "The positive phase has a factor 1/2, too.": negative + 2 * positive,
            "s2 is a second moment: there is no root.": negative - math.sqrt(s2) / 2,
            "s2 is a second moment: it is not squared again.": negative - s2**2 / 2,
            "That is the mean log-likelihood: differentiate it.": (
                math.log(theta / (2 * math.pi)) / 2 - theta * s2 / 2
            ),
            "That is minus the mean energy: differentiate in θ.": -theta * s2 / 2,
            "That is where the slope is 0.": 1 / s2,
            "That is how far θ is from where the slope is 0.": 1 / s2 - theta,
            "That is the second derivative.": -(theta**-2) / 2,
        }
        given = asked(answer, theta, s2)
        yield Case(f"θ = {theta}, s2 = {s2}", given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:em-short")
def _short(answer: Callable[[float, float, float], object]) -> Iterator[Case]:
    plain = "Learning stops when the walks have the second moment of the data. Which variance have they after a step?"
    narrow = "The walks start narrower than the data: what must the step do, and which sign has θ then?"
    for v0, eta, s2, hint in (
        (3.0, 0.1, 0.8, plain),
        (4.0, 0.02, 0.5, plain),
        (1.5, 0.25, 0.6, plain),
        (0.5, 0.1, 2.0, narrow),
        (1.0, 0.25, 1.5, plain),
    ):
        low, high = -(s2 / v0 + 1) / eta, 1 / eta  # between them the variance falls
        for _ in range(100):
            middle = (low + high) / 2
            wide = (1 - eta * middle) ** 2 * v0 + 2 * eta > s2
            low, high = (middle, high) if wide else (low, middle)
        expected = middle
        left = s2 - 2 * eta
        slips = {
            "That is the larger one of the two.": 2 / eta - expected,
            "That is for walks at rest and small steps: here they take one.": 1 / s2,
            "That is for walks at rest: here they start with v0 and take one step.": (
                (1 - math.sqrt(left / s2)) / eta
            ),
            "The noise of the step is missing.": (1 - math.sqrt(s2 / v0)) / eta,
            "The noise of a step has the variance 2η, not η.": (1 - math.sqrt((s2 - eta) / v0)) / eta,
            "The noise adds to the variance of the walks: take it off that of the data.": (
                (1 - math.sqrt((s2 + 2 * eta) / v0)) / eta
            ),
            "2η is a variance: it is not squared.": (
                (1 - math.sqrt((s2 - 4 * eta**2) / v0)) / eta if s2 > 4 * eta**2 else math.inf
            ),
            "The variance has the factor 1 − ηθ twice: a root is missing.": (1 - left / v0) / eta,
            "θ stands in the factor with η before it: divide by η.": eta * expected,
            "The step goes downhill: the sign of θ is wrong.": -expected,
            "That is the factor 1 − ηθ: solve for θ.": math.sqrt(left / v0),
            "v0 and s2 are exchanged.": (
                (1 - math.sqrt((v0 - 2 * eta) / s2)) / eta if v0 > 2 * eta else math.inf
            ),
            "v0 is divided by, not multiplied with.": (1 - math.sqrt(left * v0)) / eta,
            "v0 is a variance already: it is not squared.": (1 - math.sqrt(left) / v0) / eta,
            "In the square there is a part with θ² as well.": (v0 - left) / (2 * eta * v0),
            "That is the variance of the model: θ is asked.": 1 / expected
            if abs(expected) > 1e-9
            else math.inf,
            "A step is η times the slope, and not half of that.": (
                2 * (1 - math.sqrt((s2 - eta) / v0)) / eta
            ),
            "That is the variance of the walks.": s2,
        }
        question = f"v0 = {v0}, η = {eta}, s2 = {s2}"
        given = asked(answer, v0, eta, s2)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:em-noise")
def _noise(answer: Callable[[Tensor, Tensor, float], object]) -> Iterator[Case]:
    plain = "Of all points that the judge sees, which share is data? Write down both densities, each with its share."
    large = "exp of such a number is 0: stay with logarithms."
    for seed, n, nu, level, atol, hint in (
        (1, 4, 5.0, -2.0, 1e-4, plain),
        (2, 3, 1.0, -2.0, 1e-4, plain),
        (3, 1, 0.25, -1.0, 1e-4, plain),
        (4, 5, 1000.0, -3.0, 1e-4, plain),
        (5, 3, 10.0, -1000.0, 1e-2, large),
    ):
        log_p, log_q = level + normal(seed, n), level + 1.5 * normal(seed + 20, n)
        data, noise = log_p - math.log1p(nu), log_q + math.log(nu / (1 + nu))
        either = torch.logaddexp(data, noise)
        expected = (data - either) - (noise - either)
        ratio = log_p - log_q
        slips = {
            "That is for as much noise as data.": ratio,
            "More noise makes data less likely: the sign of log ν is wrong.": ratio + math.log(nu),
            "ν multiplies the density of the noise: its logarithm is taken off.": ratio - nu,
            "ν multiplies q, not log q.": log_p - nu * log_q,
            "Both kinds have 1 + ν below, which cancels.": ratio - math.log1p(nu),
            "Data have the share 1/(1 + ν), noise ν/(1 + ν): only the second is there.": (
                ratio - math.log(nu / (1 + nu))
            ),
            "That is the logit that a point is noise.": -expected,
            "That is the probability: its logit is asked.": expected.sigmoid(),
            "That is the logarithm of the probability: its logit is asked.": data - either,
            "Noise is what data are compared with: log q is taken off.": log_p + log_q - math.log(nu),
            "The noise has a density, too.": log_p - math.log(nu),
            "That is the density of the noise alone: where are the data?": -noise,
            "That is the ratio: its logarithm is asked.": expected.exp(),
            "Nats come from the natural logarithm.": expected / math.log(2),
            "log ν has base e, as log p has.": ratio - math.log2(nu),
            "Logarithms are taken off, not divided.": log_p / (log_q + math.log(nu)),
            "Each point has its own logit.": expected.mean(),
        }
        points = f"{n} points" if n > 1 else "1 point"
        question = f"{points}, ν = {nu:g}" + ", log-densities near −1000" * (seed == 5)
        given = asked(answer, log_p.clone(), log_q.clone(), nu)
        known = telling(slips, expected) if hint is plain else {}
        yield Case(question, given, expected, atol, hint, known)


@grader("ex:em-rotate")
def _rotate(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    plain = "Which linear fields are slopes? For normal x the distance is a sum of squares of entries."
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], **EXACT)
    plus = normal(4, 3, 3)
    for name, A, hint in (
        ("3 × 3", normal(1, 3, 3), plain),
        ("5 × 5", 2 * normal(2, 5, 5), plain),
        ("a field that turns", 1.5 * turn, "Round and round: which part of that is a slope?"),
        ("a matrix that is symmetric", plus + plus.T, "That field is a slope already."),
        ("1 × 1", normal(5, 1, 1), plain),
    ):
        D = len(A)
        places = [(i, j) for i, j in product(range(D), repeat=2) if i <= j]
        basis = torch.zeros(len(places), D, D, **EXACT)
        for one, (i, j) in zip(basis, places, strict=True):
            one[i, j] = one[j, i] = 1
        shares = torch.linalg.lstsq(basis.flatten(1).T, A.flatten()[:, None]).solution[:, 0]
        expected = (shares[:, None, None] * basis).sum(0)
        upper, diagonal = A.triu(1), A.diagonal().diag()
        U, size, V = torch.linalg.svd(A)
        rates, directions = torch.linalg.eigh(expected)
        slips = {
            "That is the part that turns: the rest is a slope.": (A - A.T) / 2,
            "That is the part that turns, the other way round: neither is a slope.": (A.T - A) / 2,
            "Each entry and its mirror image are averaged: that is their sum.": A + A.T,
            "A has a part that turns: it is no slope.": A,
            "The transpose turns the other way round.": A.T,
            "What is beside the diagonal is not all lost.": diagonal,
            "The lower half counts as much as the upper one: that is the upper one, mirrored.": (
                upper + upper.T + diagonal
            ),
            "The upper half counts as much as the lower one: that is the lower one, mirrored.": (
                A.tril(-1) + A.tril(-1).T + diagonal
            ),
            "The diagonal stays as it is: it is halved here.": expected - diagonal / 2,
            "The diagonal stays as it is: it is doubled here.": expected + diagonal,
            "Beside the diagonal entries are averaged: those are sums.": 2 * expected - diagonal,
            "That is the matrix of the energy: its slope has the other sign.": -expected,
            "Symmetric, but it holds products of entries.": A.T @ A,
            "That keeps how far A stretches, not where it leads.": (V.T * size) @ V,
            "The nearest rotation is no slope.": U @ V,
            "Not all directions need the same factor.": A.trace() / D * torch.eye(D, **EXACT),
            "A slope may lead outwards as well: negative and positive directions both stay.": (
                (directions * rates.clamp(max=0)) @ directions.T
            ),
            "No slope at all is farther away than need be.": torch.zeros_like(A),
        }
        yield Case(name, asked(answer, A.clone()), expected, 1e-5, hint, telling(slips, expected))


@grader("ex:em-product")
def _product(answer: Callable[[float, float, float, float], object]) -> Iterator[Case]:
    hint = "Two parabolas add up to a parabola. How steep is it, and where is its lowest point?"
    for m, v, n, w in (
        (1.3, 0.7, -0.6, 2.2),
        (0.0, 1.0, 3.0, 1.0),
        (-2.0, 0.1, -2.0, 4.0),
        (40.0, 2.0, -60.0, 0.5),
        (0.5, 0.3, 9.0, 1e6),
    ):
        gain = v / (v + w)  # the second expert as a measurement of the first
        mean, variance = m + gain * (n - m), (1 - gain) * v
        expected = (mean, variance)
        loose = 1 / math.sqrt(v) + 1 / math.sqrt(w)
        slips = {
            "That is the law of the sum of two draws: here the energies add up.": (m + n, v + w),
            "Two experts are surer than one: variances do not add up.": (mean, v + w),
            "That is the mixture of both: a point must please both.": (
                (m + n) / 2,
                (v + w) / 2 + (m - n) ** 2 / 4,
            ),
            "The surer expert has the larger say.": ((m + n) / 2, variance),
            "The surer expert has the larger say: the weights are exchanged.": (
                (m * v + n * w) / (v + w),
                variance,
            ),
            "That is the precision: the variance is 1 over it.": (mean, 1 / variance),
            "That is the deviation: the variance is asked.": (mean, math.sqrt(variance)),
            "v and w are variances already.": (
                (m / v**2 + n / w**2) / (v**-2 + w**-2),
                1 / (v**-2 + w**-2),
            ),
            "v and w are variances: there is no root.": (
                (m / math.sqrt(v) + n / math.sqrt(w)) / loose,
                1 / loose,
            ),
            "That is the mean of the energies: their sum is twice as steep.": (mean, 2 * variance),
            "Variances are not multiplied: what happens to precisions?": (mean, v * w),
            "Variances are not averaged: what happens to precisions?": (mean, (v + w) / 2),
            "The sum of both pulls has to be divided by the precision.": (m / v + n / w, variance),
            "The mean is weighted, not a product.": (m * n, variance),
            "The mean comes first, then the variance.": (variance, mean),
            "That is the mean alone: the variance is asked as well.": mean,
            "That is the variance alone: the mean is asked as well.": variance,
            "That is the first expert: the second one says something, too.": (m, v),
            "That is the second expert: the first one says something, too.": (n, w),
            "Energies are added, not taken off.": (
                ((m / v - n / w) / (1 / v - 1 / w), 1 / (1 / v - 1 / w)) if v != w else (math.inf, math.inf)
            ),
        }
        question = f"m = {m}, v = {v}, n = {n}, w = {w:g}"
        given = asked(answer, m, v, n, w)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:em-classifier")
def _classifier(answer: Callable[[Tensor, int, int], object]) -> Iterator[Case]:
    plain = "Sum over the classes: what is the energy of an input alone? The constant is the same for both."
    large = "exp of such outputs is 0 or infinite as a number: logsumexp takes the largest off before."
    for seed, B, K, i, j, top, bottom, atol, hint in (
        (1, 5, 4, 3, 1, 0, 0, 1e-4, plain),
        (2, 2, 3, 0, 1, 0, 0, 1e-4, plain),
        (3, 4, 1, 2, 0, 0, 0, 1e-4, plain),
        (4, 3, 10, 1, 1, 0, 0, 1e-4, "Both are the same input."),
        (5, 3, 5, 2, 0, 995, 990, 1e-2, large),
        (6, 4, 3, 1, 3, 990, -990, 1e-2, large),
    ):
        f = torch.linspace(top, bottom, B, **EXACT)[:, None] + 2 * normal(seed, B, K)
        mine, other = f[i], f[j]
        expected = reduce(torch.logaddexp, mine) - reduce(torch.logaddexp, other)
        log_p = f.log_softmax(1)
        across = f.logsumexp(0)
        slips = {
            "A low energy is a high probability: the sign is wrong.": -expected,
            "That is the largest output alone: all classes add up.": mine.max() - other.max(),
            "Sum e^f over the classes, not f.": (mine - other).sum(),
            "Sum e^f over the classes; the mean of f is something else.": (mine - other).mean(),
            "Each class has its own ratio: sum over the classes before.": mine - other,
            "Sum over the classes of each input before you compare them.": (mine - other).logsumexp(0),
            "softmax has divided by the very sum that is asked: what is left says nothing of x.": 0.0
            * expected,
            "That is how sure the classifier is, not how probable the input.": log_p[i].max()
            - log_p[j].max(),
            "That is the difference of entropies of the classes.": (
                -(log_p[i].exp() * log_p[i]).sum() + (log_p[j].exp() * log_p[j]).sum()
            ),
            "That is the mean output, weighted with the class probabilities: the entropy is missing.": (
                mine @ log_p[i].exp() - other @ log_p[j].exp()
            ),
            "That is the ratio: its logarithm is asked.": expected.exp(),
            "That is of the first input alone: the second is missing.": mine.logsumexp(0),
            "The logarithm of a ratio is a difference.": mine.logsumexp(0) / other.logsumexp(0),
            "The logarithm of a ratio is a difference, not a sum.": mine.logsumexp(0) + other.logsumexp(0),
            "Bits come from another logarithm.": expected / math.log(2),
            "Rows are counted from 0: that is one too small.": (
                f[i - 1].logsumexp(0) - f[j - 1].logsumexp(0)
            ),
            "All inputs are asked in place of two.": f.logsumexp(1),
        }
        if max(i, j) < K:
            slips["Classes are the second axis: sum over them, not over the inputs."] = across[i] - across[j]
        classes = f"{K} classes" if K > 1 else "1 class"
        question = f"{B} inputs, {classes}, i = {i}, j = {j}" + f", outputs from {bottom} to {top}" * (
            top > 0
        )
        given = asked(answer, f.clone(), i, j)
        known = {} if hint is large else telling(slips, expected)
        yield Case(question, given, expected, atol, hint, known)


@grader("ex:em-typical")
def _typical(answer: Callable[[int], object]) -> Iterator[Case]:
    hint = "Each dimension adds x²/2, independent of the others. Which mean has that, and which variance?"
    x = torch.linspace(-12, 12, 4001, **EXACT)
    p = (-(x**2) / 2).softmax(0)
    one = p @ (x**2 / 2)
    spread = p @ (x**2 / 2 - one) ** 2
    for D in (64, 2, 1, 9, 1000):
        mean, deviation = (D * one).item(), (D * spread).sqrt().item()
        expected = (mean, deviation)
        slips = {
            "That is of the squared length: the energy has a half.": (2 * mean, 2 * deviation),
            "The energy has a half: the mean is twice too large.": (2 * mean, deviation),
            "The deviation is that of the squared length: the energy has a half.": (mean, 2 * deviation),
            "The second number is the variance: the deviation is its root.": (mean, deviation**2),
            "The half of the energy is squared in the variance, not in the deviation.": (mean, deviation / 2),
            "Variances add up over the dimensions, deviations do not.": (mean, D * spread.sqrt().item()),
            "That is one dimension: there are D.": (one.item(), spread.sqrt().item()),
            "That is the deviation of the mean energy of one dimension.": (mean, deviation / D),
            "The square of x has the variance 2, not 1.": (mean, math.sqrt(D) / 2),
            "The square of x has the variance 2, not 3: take off the square of its mean.": (
                mean,
                math.sqrt(3 * D) / 2,
            ),
            "That is the length of a draw: its energy is asked.": (math.sqrt(D), math.sqrt(0.5)),
            "The energy has no constant: log Z is none of it.": (
                mean + D * math.log(2 * math.pi) / 2,
                deviation,
            ),
            "The most frequent energy is not the mean one.": (mean - 1, deviation),
            "A draw lies higher in energy than the highest point of the density: the sign is wrong.": (
                -mean,
                deviation,
            ),
            "The highest point of the density has energy 0, but draws have more.": (0.0, deviation),
            "The energy of a draw is not always the same.": (mean, 0.0),
            "The mean comes first, then the deviation.": (deviation, mean),
            "That is the mean alone: the deviation is asked as well.": mean,
            "That is the deviation alone: the mean is asked as well.": deviation,
        }
        yield Case(f"D = {D}", asked(answer, D), expected, 1e-4, hint, telling(slips, expected))
