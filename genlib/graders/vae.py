"""Graders of the lesson on variational autoencoders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, telling, uniform


@grader("ex:vae-posterior")
def _posterior(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    for values in (
        ([0.5, 0.5], [0.9, 0.1]),
        ([0.3, 0.7], [0.6, 0.2]),
        ([0.2, 0.5, 0.3], [0.01, 0.002, 0.05]),
    ):
        prior, likelihood = torch.tensor(values, **EXACT)
        joint = prior * likelihood
        slips = {
            "That is the joint probability: divide by the evidence.": joint,
            "The prior is missing.": likelihood / likelihood.sum(),
            "That is the prior: the observation is not used.": prior,
        }
        expected = joint / joint.sum()
        slips |= {
            "Divide by the sum over the causes, not by the largest.": joint / joint.max(),
            "Dividing by the sum of the likelihoods forgets the prior there.": joint / likelihood.sum(),
            "Multiply the two, do not add them.": (prior + likelihood) / (prior + likelihood).sum(),
            "Those are logarithms: probabilities are asked.": expected.log(),
            "Prior and likelihood stand on the same side.": (prior / likelihood) / (prior / likelihood).sum(),
            "Scaling the weights to sum 1 needs no exponential.": joint.softmax(0),
        }
        question, hint = (
            f"{len(prior)} causes",
            "How probable are cause and observation together, and the latter alone?",
        )
        given = asked(answer, prior.clone(), likelihood.clone())
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:vae-elbo")
def _elbo(answer: object) -> Iterator[Case]:
    expected = 0.7 * math.log(0.45 / 0.7) + 0.3 * math.log(0.05 / 0.3)
    explain = 0.7 * math.log(0.9) + 0.3 * math.log(0.1)
    slips = {
        "That is the evidence; the guess is not the posterior.": math.log(0.5),
        "That is minus the bound.": -expected,
        "That is the divergence of the guess from the posterior.": math.log(0.5) - expected,
        "The divergence from the prior is missing.": explain,
        "The divergence from the prior is taken off, not added.": 2 * explain - expected,
        "The entropy of the guess is missing.": 0.7 * math.log(0.45) + 0.3 * math.log(0.05),
        "That is in bits.": expected / math.log(2),
        "The prior is missing.": explain - (0.7 * math.log(0.7) + 0.3 * math.log(0.3)),
        "The guess weighs the causes, not the prior.": (math.log(0.45 / 0.7) + math.log(0.05 / 0.3)) / 2,
        "The guess weighs the causes, not the posterior.": 0.9 * math.log(0.45 / 0.7)
        + 0.1 * math.log(0.05 / 0.3),
        "The causes are exchanged: the guess says 0 more often.": 0.3 * math.log(0.45 / 0.3)
        + 0.7 * math.log(0.05 / 0.7),
        "Average, do not just add up.": math.log(0.45 / 0.7) + math.log(0.05 / 0.3),
    }
    hint = "Which two logarithms does the bound compare, and who weighs the causes? Three decimals, please."
    yield Case("a guess of 0.7", lambda: answer, expected, 6e-4, hint, slips)


@grader("ex:vae-kl")
def _kl(answer: Callable[..., object]) -> Iterator[Case]:
    for seed, shape in ((1, (5, 3)), (2, (4, 1))):
        mu, m = normal(seed, *shape), normal(seed + 10, *shape)
        sigma, s = 0.3 + uniform(seed, *shape), 0.3 + uniform(seed + 10, *shape)
        terms = _divergence(mu, sigma, m, s)
        slips = {
            "The two are exchanged.": _divergence(m, s, mu, sigma).sum(1),
            "sigma and s are deviations, not variances.": _divergence(mu, sigma.sqrt(), m, s.sqrt()).sum(1),
            "The sign is wrong: a divergence is not negative.": -terms.sum(1),
            "The factor ½ is missing.": 2 * terms.sum(1),
            "That is the divergence from N(0, I).": _divergence(
                mu, sigma, torch.zeros_like(m), torch.ones_like(s)
            ).sum(1),
        }
        if shape[1] > 1:
            slips["The divergences must be added up over the entries."] = terms
            slips["Add over the entries, do not average."] = terms.mean(1)
        expected = terms.sum(1)
        distance = (mu - m) ** 2 / (2 * s**2)
        slips |= {
            "The means differ too.": (terms - distance).sum(1),
            "The deviations differ too.": distance.sum(1),
            "Square the distance of the means.": (terms - distance + (mu - m).abs() / (2 * s**2)).sum(1),
            "The sign of the logarithm is wrong.": (terms + 2 * (sigma / s).log()).sum(1),
            "The heights differ too: where is the logarithm?": (terms + (sigma / s).log()).sum(1),
            "A constant is missing: no distribution is far from itself.": (terms + 0.5).sum(1),
            "The variances are compared, and the distance is not measured in s.": (
                terms - distance + (mu - m) ** 2 / 2
            ).sum(1),
            "In nats, please: the natural logarithm.": expected / math.log(2),
            "One number for each example, not for the whole batch.": expected.sum(),
        }
        given = (mu.clone(), sigma.clone(), m.clone(), s.clone())
        hint = "Measure everything around m, in units of s. What is then the prior?"
        yield Case(f"shape {shape}", asked(answer, *given), expected, 1e-4, hint, telling(slips, expected))


def _divergence(mu: Tensor, sigma: Tensor, m: Tensor, s: Tensor) -> Tensor:
    return s.log() - sigma.log() + (sigma**2 + (mu - m) ** 2) / (2 * s**2) - 0.5


@grader("ex:vae-exponential")
def _exponential(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    u = uniform(1, 6)
    for rate in (1.0, 2.5):
        z = -torch.log1p(-u)
        slips = {
            "It must increase with u.": -u.log() / rate,
            "A large rate makes short times: divide.": z * rate,
            "That is negative.": -z / rate,
            "That is the density at u.": rate * torch.exp(-rate * u),
            "That is the distribution function: invert it.": -torch.expm1(-rate * u),
            "Invert the distribution function, not the density.": -(u / rate).log() / rate,
            "In nats, please: the natural logarithm.": z / rate / math.log(2),
        }
        hint = "Which share of the draws lies below z, and what has u to do with it?"
        yield Case(
            f"λ = {rate}",
            asked(answer, torch.tensor(rate, **EXACT), u.clone()),
            z / rate,
            1e-5,
            hint,
            telling(slips, z / rate),
        )
    for rate in (1.0, 2.5):
        yield Case(
            f"the slope in λ = {rate}",
            asked(_slope, answer, rate, u),
            torch.log1p(-u) / rate**2,
            1e-5,
            hint="Can torch follow the draw back to λ?",
        )


def _slope(answer: Callable[[Tensor, Tensor], Tensor], rate: float, u: Tensor) -> Tensor:
    """Slope of each draw in the rate, (n,)."""
    rates = torch.full_like(u, rate, requires_grad=True)
    z = answer(rates, u.clone())
    return torch.autograd.grad(z.sum(), rates)[0] if z.requires_grad else torch.full_like(u, math.nan)


@grader("ex:vae-score-variance")
def _score_variance(answer: Callable[[float, float, float], object]) -> Iterator[Case]:
    for f0, f1, p in ((0.0, 1.0, 0.5), (3.0, 1.0, 0.2), (10.0, 10.5, 0.7)):
        square = f1**2 / p + f0**2 / (1 - p)
        expected = square - (f1 - f0) ** 2
        slips = {
            "That is the mean of the square: subtract the square of the mean.": square,
            "That is the variance of f.": p * (1 - p) * (f1 - f0) ** 2,
            "That is the mean of the estimate.": f1 - f0,
            "That is the standard deviation.": math.sqrt(expected),
        }
        slips |= {
            "One of the two slopes is negative.": square - (f1 + f0) ** 2,
            "The sign is wrong: a variance is not negative.": -expected,
            "Weigh the squares with their chances.": f1**2 / p**2 + f0**2 / (1 - p) ** 2,
            "The two values of the cause are exchanged.": f0**2 / p + f1**2 / (1 - p) - (f1 - f0) ** 2,
            "Subtract the square of the mean, not the mean.": square - (f1 - f0),
            "Square the values of f.": abs(f1) / p + abs(f0) / (1 - p) - (f1 - f0) ** 2,
        }
        hint = "Which two values does the estimate take, and how often each?"
        question = f"f0 = {f0}, f1 = {f1}, p = {p}"
        yield Case(
            question,
            asked(answer, f0, f1, p),
            expected,
            1e-5 * max(1, expected),
            hint,
            telling(slips, expected),
        )


@grader("ex:vae-width")
def _width(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    for seed, n, D in ((1, 50, 4), (2, 7, 1)):
        x, mean = normal(seed, n, D), 0.5 * normal(seed + 10, n, D)
        squared = (x - mean).square()
        expected = squared.mean().sqrt().item()
        slips = {
            "That is the variance: take the root.": squared.mean().item(),
            "The mean of the distances is another number.": (x - mean).abs().mean().item(),
            "That is the deviation around the mean error; the errors count in full.": (x - mean).std().item(),
            "No mean was estimated here: divide by the number of errors.": (
                (squared.sum() / (squared.numel() - 1)).sqrt().item() if n * D > 1 else 0.0
            ),
            "Average, do not add up.": squared.sum().sqrt().item(),
            "There is no ½ in it.": (squared.mean() / 2).sqrt().item(),
            "That is the width of the data alone: the decoder has means.": x.std(correction=0).item(),
            "That is the logarithm of the width.": math.log(expected),
            "First the square, then the mean.": (x - mean).mean().abs().item(),
        }
        if D > 1:
            slips["Average over the examples too: one number."] = squared.mean(1).sqrt()
        slips |= {}
        if D > 1:
            slips["Average over the features too."] = squared.sum(1).mean().sqrt().item()
            slips["One number for all features, please."] = squared.mean(0).sqrt()
        given, hint = (
            asked(answer, x.clone(), mean.clone()),
            "Write the likelihood of all errors in s. Where is its slope 0?",
        )
        yield Case(f"{n} examples, D = {D}", given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:vae-effective")
def _effective(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    for seed, low, K in ((1, 0.0, 5), (2, -1000.0, 20)):
        log_w = low + 2 * normal(seed, K, 6)
        share = log_w.softmax(0)
        same = "What happens if all weights are scaled by one factor?"
        hint = "exp of such low numbers is 0: scale the weights first." if low else same
        slips = {
            "That is the share of the largest weight.": share.max(0).values,
            "That is one over the share of the largest weight.": 1 / share.max(0).values,
            "The weights must be scaled to sum 1, or divided by the square of their sum.": 1
            / (2 * log_w).exp().sum(0),
            "That is one over it.": share.square().sum(0),
            "That is the number of draws.": torch.full((6,), float(K), **EXACT),
            "Square the sum, too.": 1 / share.square().sum(0).sqrt(),
            "That is the share of the draws that count.": 1 / share.square().sum(0) / K,
            "That counts by entropy: squares are asked.": torch.special.entr(share).sum(0).exp(),
            "One number for each example, not for the whole batch.": (1 / share.square().sum(0)).mean(),
            "Sum over the draws, the first dimension.": 1 / log_w.softmax(1).square().sum(1),
        }
        yield Case(
            f"{K} draws near {low:g}",
            asked(answer, log_w.clone()),
            1 / share.square().sum(0),
            1e-4,
            hint,
            telling(slips, 1 / share.square().sum(0)),
        )
