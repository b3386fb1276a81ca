"""The exercises of the lessons on variational autoencoders: right answers are graded right, common slips are named."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

LEVEL = torch.arange(17, dtype=torch.float64) / 8 - 1


def posterior(prior, likelihood):
    return Categorical(prior * likelihood).probs


def divergence(mu, sigma, m, s):
    return kl_divergence(Independent(Normal(mu, sigma), 1), Independent(Normal(m, s), 1))


def quantile(rate, u):
    return torch.distributions.Exponential(torch.as_tensor(rate)).icdf(u)


def score_variance(f0, f1, rho):
    estimates = torch.tensor([-f0 / (1 - rho), f1 / rho], dtype=torch.float64)
    chance = Bernoulli(torch.tensor(rho, dtype=torch.float64))
    weights = chance.log_prob(torch.tensor([0.0, 1.0], dtype=torch.float64)).exp()
    mean = (weights * estimates).sum()
    return (weights * (estimates - mean) ** 2).sum()


def width(x, mean):
    return torch.nn.functional.mse_loss(x, mean) ** 0.5


def effective(log_w):
    w = (log_w - log_w.amax(0)).exp()
    return w.sum(0) ** 2 / (w**2).sum(0)


def tilted(h, a, b):
    weight = h * torch.exp(a * LEVEL.to(h) + b * LEVEL.to(h) ** 2)
    return weight / weight.sum()


def paid(rates, free):
    return torch.maximum(rates.mean(0), torch.tensor(free)).sum()


def vamp(z, mu, sigma):
    equal = Categorical(torch.ones_like(mu[:, 0]))
    return MixtureSameFamily(equal, Independent(Normal(mu, sigma), 1)).log_prob(z)


FUNCTIONS = {
    "ex:vae-posterior": posterior,
    "ex:vae-kl": divergence,
    "ex:vae-score-variance": score_variance,
    "ex:vae-width": width,
    "ex:vae-effective": effective,
    "ex:vad-tilt": tilted,
    "ex:vad-free": paid,
    "ex:vad-vamp": vamp,
    "ex:vad-active": lambda means: int((means.std(0) > 0.1).sum()),
}
ELBO = math.log(0.5) - kl_divergence(Bernoulli(torch.tensor(0.7)), Bernoulli(torch.tensor(0.9))).item()
NUMBERS = {"ex:vae-elbo": ELBO, "ex:vad-holes": 15 - math.log(350), "ex:vad-width": 4}


@pytest.mark.parametrize(("label", "answer"), [*FUNCTIONS.items(), *NUMBERS.items()])
def test_right_answers_are_graded_right(label, answer, said):
    assert said(label, answer).startswith("right")


@pytest.mark.parametrize("label", sorted(set(FUNCTIONS) - {"ex:vae-posterior"}))
def test_right_answers_in_single_precision_are_graded_right(label, said, single):
    assert said(label, single(FUNCTIONS[label])).startswith("right")


def test_draws_with_a_slope_are_graded_right_and_without_one_are_not(said):
    assert said("ex:vae-exponential", quantile).startswith("right")
    assert "follow the draw" in said("ex:vae-exponential", lambda rate, u: quantile(rate, u).detach())


@pytest.mark.parametrize(
    ("label", "answer", "says"),
    [
        ("ex:vae-posterior", lambda prior, likelihood: prior * likelihood, "divide by the evidence"),
        ("ex:vae-posterior", lambda prior, likelihood: prior, "observation is not used"),
        ("ex:vae-posterior", lambda prior, likelihood: Categorical(likelihood).probs, "prior is missing"),
        ("ex:vae-elbo", math.log(0.5), "evidence"),
        ("ex:vae-elbo", -ELBO, "minus the bound"),
        ("ex:vae-elbo", math.log(0.5) - ELBO, "from the posterior"),
        ("ex:vae-elbo", ELBO / math.log(2), "bits"),
        ("ex:vae-elbo", 0.7 * math.log(0.9) + 0.3 * math.log(0.1), "from the prior is missing"),
        ("ex:vae-elbo", 0.7 * math.log(0.45) + 0.3 * math.log(0.05), "entropy"),
        ("ex:vae-kl", lambda mu, sigma, m, s: divergence(m, s, mu, sigma), "exchanged"),
        ("ex:vae-kl", lambda *given: -divergence(*given), "sign"),
        ("ex:vae-kl", lambda *given: 2 * divergence(*given), "½"),
        (
            "ex:vae-kl",
            lambda mu, sigma, m, s: divergence(mu, sigma, 0 * m, torch.ones_like(s)),
            "from N(0, I)",
        ),
        ("ex:vae-kl", lambda *given: divergence(*given) / given[0].shape[1], "do not average"),
        ("ex:vae-exponential", lambda rate, u: quantile(rate, 1 - u), "increase with u"),
        ("ex:vae-exponential", lambda rate, u: -quantile(rate, u), "negative"),
        ("ex:vae-exponential", lambda rate, u: rate**2 * quantile(rate, u), "divide"),
        (
            "ex:vae-score-variance",
            lambda f0, f1, rho: score_variance(f0, f1, rho) + (f1 - f0) ** 2,
            "square of the mean",
        ),
        ("ex:vae-score-variance", lambda f0, f1, rho: rho * (1 - rho) * (f1 - f0) ** 2, "variance of f"),
        ("ex:vae-width", lambda x, mean: width(x, mean) ** 2, "root"),
        ("ex:vae-width", lambda x, mean: (x - mean).abs().mean(), "another number"),
        ("ex:vae-width", lambda x, mean: (x - mean).square().mean(0).sqrt(), "One number"),
        ("ex:vae-width", lambda x, mean: (x - mean).square().sum(1).mean().sqrt(), "features"),
        ("ex:vae-effective", lambda log_w: log_w.exp().sum(0) ** 2 / log_w.exp().square().sum(0), "scale"),
        ("ex:vae-effective", lambda log_w: 1 / effective(log_w), "one over it"),
        ("ex:vae-effective", lambda log_w: log_w.softmax(0).amax(0), "share of the largest"),
        ("ex:vad-tilt", lambda h, a, b: h * (a * LEVEL + b * LEVEL**2).exp(), "sum to 1"),
        ("ex:vad-tilt", lambda h, a, b: (a * LEVEL + b * LEVEL**2).softmax(0), "histogram is missing"),
        ("ex:vad-tilt", lambda h, a, b: tilted(h, b, a), "exchanged"),
        ("ex:vad-tilt", lambda h, a, b: (h + a * LEVEL + b * LEVEL**2).softmax(0), "logarithm"),
        ("ex:vad-holes", math.log(350), "what is left"),
        ("ex:vad-holes", 15.0, "some may be"),
        ("ex:vad-width", 8, "root"),
        ("ex:vad-width", 1, "other way"),
        ("ex:vad-free", lambda rates, free: rates.clamp(min=free).mean(0).sum(), "First the mean"),
        ("ex:vad-free", lambda rates, free: rates.mean(0).sum().clamp(min=free), "for each cause"),
        ("ex:vad-free", lambda rates, free: (rates.mean(0) - free).clamp(min=0).sum(), "stays at λ"),
        ("ex:vad-free", lambda rates, free: rates.sum(0).clamp(min=free).sum(), "not the sum"),
        ("ex:vad-vamp", lambda z, mu, sigma: vamp(z, mu, sigma) + math.log(len(mu)), "number of answers"),
        (
            "ex:vad-vamp",
            lambda z, mu, sigma: Normal(mu, sigma).log_prob(z[:, None]).sum(2).exp().mean(1).log(),
            "logsumexp",
        ),
        (
            "ex:vad-vamp",
            lambda z, mu, sigma: Normal(mu, sigma).log_prob(z[:, None]).sum(2).mean(1),
            "mean of the logarithms",
        ),
        ("ex:vad-active", lambda means: (means.square().mean(0) > 0.01).sum(), "must change"),
        ("ex:vad-active", lambda means: (means.std(0) > 0.01).sum(), "not a deviation"),
    ],
)
def test_slips_are_named(label, answer, says, said):
    told = said(label, answer)
    assert told.startswith("not yet")
    assert says in told
