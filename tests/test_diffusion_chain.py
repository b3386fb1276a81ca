"""The Gaussian chain and its bound, and grey levels under a condition."""

import itertools
import math
import re

import pytest
import torch
from exactness import FEW, close, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from test_samplers import NO_COUNTS, NO_NUMBERS_ABOVE_0, about, draws, line
from test_sde_models import PICTURES, SHARES, NoTilt, Tilting, grey, modes, one_pixel
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from genlib import sde
from genlib.diffusion import chain

pytestmark = pytest.mark.usefixtures("double")

SEEDS = st.integers(0, 10**6)
PROCESSES = {
    "exploding": sde.VarianceExploding(0.05, 6.0),
    "preserving": sde.VariancePreserving(0.2, 7.0),
    "sub": sde.SubVariancePreserving(0.3, 9.0),
}
named = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


# The posterior of the chain


@named
@settings(FEW, max_examples=10)
@given(SEEDS, st.floats(0.05, 0.9), st.floats(0.05, 0.95))
def test_the_posterior_is_that_of_a_joint_normal_law(process, seed, before, share):
    """Two noisy points, of which the later is the earlier one, faded and with more noise."""
    t = before + share * (1 - before)
    x, noisy = draws((3, 2), seed), draws((3, 2), seed + 1, 3.0)
    early, late, fades = process.scale(before), process.scale(t), process.scale(t) / process.scale(before)
    more = process.deviation(t) ** 2 - (fades * process.deviation(before)) ** 2
    lower = torch.tensor([[process.deviation(before), 0.0], [fades * process.deviation(before), more**0.5]])
    cov = lower @ lower.T
    gain = cov[0, 1] / cov[1, 1]
    mean, variance = chain.posterior(x, noisy, process, t, before)
    close(mean, early * x + gain * (noisy - late * x), 1e-9)
    close(variance, cov[0, 0] - gain * cov[1, 0], 1e-9)


@named
def test_an_ancestral_step_draws_from_the_posterior_of_the_guess(process):
    x, noisy = draws((4, 3)), draws((4, 3), 1)

    def score(noisy, t):
        return (process.scale(t) * x - noisy) / process.deviation(t) ** 2

    step = sde.exponential(process, score, noisy, [0.8, 0.3], order=1, noise=1.0, generator=seeded(2))
    mean, variance = chain.posterior(x, noisy, process, 0.8, 0.3)
    close(step, mean + variance**0.5 * torch.randn(4, 3, generator=seeded(2)), 1e-10)


@named
def test_the_posterior_at_the_ends(process):
    x, noisy = draws((4, 3)), draws((4, 3), 1)
    mean, variance = chain.posterior(x, noisy, process, 0.5, 0.0)
    close(mean, x)
    close(variance, 0.0)
    mean, variance = chain.posterior(x, noisy, process, 0.5, 0.5)
    close(mean, noisy)
    close(variance, 0.0)


# Levels


@FEW
@given(st.floats(0.05, 1.0), st.floats(1.5, 40.0), st.floats(0.2, 9.0))
def test_even_levels_are_nested_and_cost_the_same(last, first, spread):
    levels = chain.even_levels(6, last, first, spread)
    close(levels[[0, -1]], torch.tensor([last, first]), 1e-9)
    assert (levels.diff() > 0).all()
    close(levels[::2], chain.even_levels(3, last, first, spread), 1e-9)
    told = [chain.capacity(level, spread) for level in levels.tolist()]
    close(torch.tensor(told).diff(), torch.full((6,), (told[-1] - told[0]) / 6), 1e-8)
    close(told[0], math.log(last**2 + spread**2) - 2 * math.log(last), 1e-9)


# Normal data, where everything is known


def best_guess(m, v):
    return lambda y, kappa: m + v / (v + kappa**2) * (y - m)


@settings(FEW, max_examples=10)
@given(SEEDS, st.sampled_from([(1,), (2,), (1, 3)]), st.floats(0.5, 3.0))
def test_the_terms_are_divergences_of_normal_laws(seed, event, slope):
    """As torch knows them: the law of the chain at the clean data against that at the guess."""
    x, levels = draws((3, *event), seed), torch.tensor([0.3, 0.8, 2.0])

    def guess(y, kappa):
        return (slope * y / (1 + kappa)).sin()

    terms, generator = chain.denoising_terms(guess, x, levels, generator=seeded(seed)), seeded(seed)
    process = sde.VarianceExploding(0.01, 5.0)
    for k, (low, high) in enumerate(itertools.pairwise(levels.tolist())):
        y = x + high * torch.randn(x.shape, generator=generator)
        truth, ours = (
            Normal(mean, variance**0.5)
            for mean, variance in (
                chain.posterior(clean, y, process, process.time(high), process.time(low))
                for clean in (x, guess(y, high))
            )
        )
        close(terms[:, k], kl_divergence(truth, ours).flatten(1).sum(1), 1e-7)


@pytest.mark.parametrize("event", [(1,), (2,), (3,)])
def test_the_steps_of_normal_data_cost_what_is_known(event):
    m, v, T = 0.7, 1.7, 5
    levels = chain.even_levels(T, 0.4, 6.0, v**0.5)
    step = (chain.capacity(0.4, v**0.5) - chain.capacity(6.0, v**0.5)) / T
    x = m + v**0.5 * draws((20_000, *event))
    terms = chain.denoising_terms(best_guess(m, v), x, levels, generator=seeded(1))
    limit = chain.denoising_terms(best_guess(m, v), x, levels, limit=True, spread=v**0.5, generator=seeded(1))
    for k in range(T):
        about(terms[:, k], event[0] / 2 * math.expm1(step))
        about(limit[:, k], event[0] / 2 * step)


def test_finite_chains_lose_in_proportion_to_one_over_their_length():
    """Per number, the terms above cost T (e^(L/T) − 1)/2, and L/2 in the limit: they lose L²/(4 T)."""
    v = 2.0
    L = chain.capacity(0.3, v**0.5) - chain.capacity(9.0, v**0.5)

    def cost(T):  # with the mean of |x − x̂|² in place of draws of it
        def guess(y, kappa):
            return torch.full_like(y, (v * kappa**2 / (v + kappa**2)) ** 0.5)

        return chain.denoising_terms(guess, torch.zeros(1, 1), chain.even_levels(T, 0.3, 9.0, v**0.5)).sum()

    losses = [cost(T) - L / 2 for T in (64, 128, 256)]
    assert losses[0] > losses[1] > losses[2] > 0
    close(losses[1] / losses[2], 2.0, 0.02)
    close(256 * losses[2], L**2 / 4, 0.02)


@settings(FEW, max_examples=5)
@given(st.floats(0.05, 1.0), st.floats(2.0, 30.0), st.floats(0.2, 9.0), st.floats(0.5, 5.0), SEEDS)
def test_the_limit_is_right_in_the_mean_whichever_the_spread(last, first, v, spread, seed):
    """For |x − x̂|² = v κ²/(v + κ²) the weight at the drawn level, over the density of its draw, integrates."""
    asked = []

    def guess(y, kappa):
        asked.append(kappa)
        return torch.full_like(y, (v * kappa**2 / (v + kappa**2)) ** 0.5)

    levels = chain.even_levels(300, last, first, spread)
    terms = chain.denoising_terms(
        guess, torch.zeros(1, 1), levels, limit=True, spread=spread, generator=seeded(seed)
    )
    exact = (math.log1p(v / last**2) - math.log1p(v / first**2)) / 2
    close(terms.sum() / exact, 1.0, 5e-3)
    asked = torch.tensor(asked)
    assert ((levels[:-1] <= asked) & (asked <= levels[1:])).all()


def test_the_parts_of_the_bound_of_normal_data_add_up_to_its_entropy():
    """Decoding by Bayes' rule; at m ± √v the prior's term is its mean over the data."""
    m, v, low, high = 0.7, 1.7, 0.4, 6.0
    x = m + v**0.5 * torch.tensor([[1.0, -1.0, 1.0]])
    prior = chain.prior_terms(x, high, m, math.hypot(v**0.5, high))
    steps = 3 / 2 * (chain.capacity(low, v**0.5) - chain.capacity(high, v**0.5))
    decoding = 3 * Normal(0.0, (v * low**2 / (v + low**2)) ** 0.5).entropy()
    close(prior + steps + decoding, 3 * Normal(m, v**0.5).entropy().reshape(1))


@FEW
@given(SEEDS, st.floats(0.2, 5.0), st.floats(0.2, 5.0))
def test_the_term_of_the_prior_as_torch_has_it(seed, level, deviation):
    x, mean = draws((4, 2, 3), seed), draws((2, 3), seed + 1)
    exact = kl_divergence(Normal(x, level), Normal(mean, deviation)).flatten(1).sum(1)
    close(chain.prior_terms(x, level, mean, deviation), exact, 1e-9)


# The bound of grey levels


def test_the_bound_by_hand():
    model = grey(Tilting())
    for limit in (False, True):
        b, generator = chain.bound(model, PICTURES, 3, limit=limit, generator=seeded(1)), seeded(1)
        x, levels = PICTURES.flatten(1), chain.even_levels(3, 0.4, 12.0, model.spread)
        more = {"limit": limit, "spread": model.spread}
        close(
            b.denoising, chain.denoising_terms(model.clean, x.double(), levels, generator=generator, **more)
        )
        y = x + 0.4 * torch.randn(5, 2, generator=generator)
        log_p = model.logits(y, torch.full((5,), 0.4)).log_softmax(-1)
        close(b.decoding, -log_p.gather(2, x[..., None])[..., 0].sum(1))
        far = Normal(model.mean, math.hypot(model.spread, 12.0))
        close(b.prior, kl_divergence(Normal(x.double(), 12.0), far).sum(1))
        close(b.elbo, -(b.decoding + b.denoising.sum(1) + b.prior))
        assert [tuple(part.shape) for part in b] == [(5,), (5, 3), (5,)]


def by_quadrature(model, levels):
    """Mean of the terms of the chain and of decoding over their noise, for each level of one pixel, (4, T), (4,)."""
    z, h = line(-8, 8, 401)  # noise in units of its size
    p, k = h * Normal(0.0, 1.0).log_prob(z[:, 0]).exp(), torch.arange(4.0)
    terms = []
    with torch.no_grad():
        for low, high in itertools.pairwise(levels.tolist()):
            x = torch.stack([model.clean(v + high * z, high)[:, 0] for v in k])
            terms.append((low**-2 - high**-2) / 2 * ((x - k[:, None]) ** 2 @ p))
        low, decoding = levels[0].item(), []
        for v in range(4):
            log_p = model.logits(v + low * z, torch.full((len(z),), low)).log_softmax(-1)[:, 0, v]
            decoding.append(-(log_p @ p))
    return torch.stack(terms, 1), torch.stack(decoding)


def test_the_bound_lies_below_the_probability_that_the_chain_gives():
    """The chain of one pixel, integrated step by step on a line, with a network that errs."""
    model, T = one_pixel(Tilting(1, seed=3), first=4.0), 3
    levels = chain.even_levels(T, 0.4, 4.0, model.spread)
    y, h = line(-20, 23, 1401)
    p = Normal(model.mean, math.hypot(model.spread, 4.0)).log_prob(y).exp()[:, 0]
    with torch.no_grad():
        for low, high in list(itertools.pairwise(levels.tolist()))[::-1]:
            q = (low / high) ** 2
            mean, deviation = q * y + (1 - q) * model.clean(y, high), low * (1 - q) ** 0.5
            p = h * p @ Normal(mean, deviation).log_prob(y.T).exp()
        P = h * p @ model.logits(y, torch.full((len(y),), 0.4)).softmax(-1)[:, 0]
    close(P.sum(), 1.0, 1e-6)
    terms, decoding = by_quadrature(model, levels)
    far = chain.prior_terms(torch.arange(4.0)[:, None], 4.0, model.mean, math.hypot(model.spread, 4.0))
    exact = -(terms.sum(1) + decoding + far)
    assert (exact < P.log() - 1e-3).all()
    for k in range(4):
        b = chain.bound(model, torch.full((1500, 1, 1), k), T, limit=False, generator=seeded(k))
        about(b.elbo, exact[k])


def test_longer_chains_bound_better_and_the_limit_best():
    """Without a network the guess is the best there is: the limit is log P(x) but for the prior."""
    model = one_pixel(first=20.0)
    far = chain.prior_terms(torch.arange(4.0)[:, None], 20.0, model.mean, math.hypot(model.spread, 20.0))
    costs = []
    for T in (2, 4, 8, 16, 64, 128):
        terms, decoding = by_quadrature(model, chain.even_levels(T, 0.4, 20.0, model.spread))
        costs.append(SHARES[0] @ (terms.sum(1) + decoding + far))
    entropy = -(SHARES[0] @ SHARES[0].log())
    assert all(a > b for a, b in itertools.pairwise(costs))
    assert costs[-1] > entropy
    close(2 * costs[-1] - costs[-2], entropy, 1e-3)
    for k in range(4):
        b = chain.bound(model, torch.full((2000, 1, 1), k), 12, generator=seeded(k))
        assert (b.elbo.mean() - SHARES[0, k].log()).abs() < 4 * b.elbo.std() / 2000**0.5 + 1e-3


def test_the_bound_draws_from_its_generator_in_evaluation_mode():
    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x, log_kappa, told):
            return self.drop(x.repeat(1, 2))

    model, state = grey(Dropping()), torch.get_rng_state()
    one, two, other = (chain.bound(model, PICTURES, 2, generator=seeded(k)).elbo for k in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert not one.requires_grad
    assert all(modes(model))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_chain_refuses():
    x, process = draws((2, 2)), PROCESSES["exploding"]
    for t, before in ((0.0, 0.0), (0.3, 0.5), (1.2, 0.5), (0.5, -0.1), (math.nan, 0.1)):
        with pytest.raises(ValueError, match="^times must obey"):
            chain.posterior(x, x, process, t, before)
    with pytest.raises(ValueError, match="^noisy must"):
        chain.posterior(x, draws((2, 3)), process, 0.5, 0.2)
    for bad in NO_NUMBERS_ABOVE_0:
        with pytest.raises(ValueError, match="^level must be"):
            chain.capacity(bad, 1.0)
        with pytest.raises(ValueError, match="^spread must be"):
            chain.capacity(1.0, bad)
        with pytest.raises(ValueError, match="^deviation must be"):
            chain.prior_terms(x, 1.0, 0.0, bad)
    for last in (2.0, 1.0):
        with pytest.raises(ValueError, match=f"^last must be below first, got {last} and 1.0"):
            chain.even_levels(3, last, 1.0, 1.0)
    for bad in NO_COUNTS:
        with pytest.raises(ValueError, match="^steps must be a whole number"):
            chain.even_levels(bad, 0.1, 1.0, 1.0)
        with pytest.raises(ValueError, match="^steps must be a whole number"):
            chain.bound(grey(), PICTURES, bad)
    for bad in ([1.0, 0.5], [0.0, 1.0], [1.0, 1.0]):
        with pytest.raises(ValueError, match="^levels must rise"):
            chain.denoising_terms(best_guess(0, 1), x, torch.tensor(bad))
    with pytest.raises(ValueError, match="^clean must return shape"):
        chain.denoising_terms(lambda y, kappa: y[:1], x, torch.tensor([0.5, 1.0]))
    with pytest.raises(ValueError, match=re.escape("x must have shape (..., 1, 2), got (5, 2, 1)")):
        chain.bound(grey(), PICTURES.transpose(1, 2))


# Grey levels with classes


class Told(Tilting):
    """What it says depends on what it is told."""

    def forward(self, x, log_kappa, told):
        size = told[:, 2:] @ torch.linspace(-1.0, 1.5, told.shape[1] - 2) if told.shape[1] > 2 else 0
        return super().forward(x, log_kappa, told[:, :2]) + torch.as_tensor(size).reshape(-1, 1)


def with_classes(net=None, **more):
    return grey(net or Told(), classes=3, **more)


CLASSES = torch.tensor([0, 2, 1, 1, 0])


def test_a_class_is_told_beside_the_moves():
    asked = []

    class Listening(NoTilt):
        def forward(self, x, log_kappa, told):
            asked.append(told)
            return super().forward(x, log_kappa, told)

    model, y = with_classes(Listening()), draws((5, 2))
    model.clean(y, 1.0)
    model(CLASSES).clean(y, 1.0)
    model(torch.tensor(2)).clean(y, 1.0)
    ones = F.one_hot(CLASSES, 3).double()
    for told, c in zip(
        asked, (torch.zeros(5, 3), ones, torch.tensor([0.0, 0.0, 1.0]).expand(5, 3)), strict=True
    ):
        close(told, torch.cat([torch.zeros(5, 2), c], 1))
    asked.clear()
    for weight, calls in ((1.0, 1), (0.0, 2), (1.5, 2)):
        model(CLASSES, weight).clean(y, 1.0)
        assert len(asked) == calls
        asked.clear()


@settings(FEW, max_examples=8)
@given(SEEDS, st.floats(-1.0, 4.0))
def test_guidance_goes_on_along_the_difference_of_two_scores(seed, weight):
    model, y = with_classes(), draws((5, 2), seed, 2.0)
    told, untold = model(CLASSES).score(y, 1.3), model.score(y, 1.3)
    assert (told - untold).abs().max() > 1e-3
    close(model(CLASSES, weight).score(y, 1.3), untold + weight * (told - untold), 1e-10)
    close(model(CLASSES, 0.0).score(y, 1.3), untold, 1e-10)


def test_the_condition_leaves_the_model_as_it_was():
    model, y = with_classes(), draws((5, 2))
    before = model.clean(y, 1.0)
    given_ = model(CLASSES, 2.0)
    assert given_.net is model.net
    assert given_.curves is model.curves
    close(model.clean(y, 1.0), before)
    assert model.weight == 1.0
    with torch.no_grad():
        model.curves *= 1.5
    assert (given_.clean(y, 1.0) - with_classes()(CLASSES, 2.0).clean(y, 1.0)).abs().max() > 1e-3


def test_each_image_is_judged_and_drawn_under_its_class():
    model = with_classes()
    several, x = model(CLASSES), PICTURES
    for say in (
        lambda m, x: m.elbo(x, 1, probes=1, generator=seeded(0)),
        lambda m, x: chain.bound(m, x, 2, generator=seeded(0)).elbo,
    ):
        ours = say(several, x)
        for k in range(3):
            own = k == CLASSES
            close(ours[own], say(model(torch.tensor(k)), x)[own], 1e-10)
        assert (ours - say(model, x)).abs().min() > 1e-6
    assert model(torch.tensor(1)).sample((7,), 3).shape == (7, 1, 2)
    x = model(torch.tensor([0, 2])).sample((400,), 5, generator=seeded(0)).double()
    assert x.shape == (400, 2, 1, 2)
    for i, k in enumerate((0, 2)):
        alone = model(torch.tensor(k)).sample((400,), 5, generator=seeded(1)).double()
        error = ((alone.var(0) + x[:, i].var(0)) / 400).sqrt()
        assert ((alone.mean(0) - x[:, i].mean(0)).abs() < 4 * error).all()
    assert ((x[:, 0].mean(0) - x[:, 1].mean(0)).abs() > 0.2).any()


@pytest.mark.parametrize("untold", [0.0, 0.4])
def test_the_loss_leaves_classes_out(untold):
    model, x, c = with_classes(untold=untold, moved=0.0), PICTURES.repeat(40, 1, 1), CLASSES.repeat(40)
    heard = []
    model.net.register_forward_hook(lambda net, given, out: heard.append(given[2][:, 2:]))
    torch.manual_seed(1)
    loss = model.loss(x, c)
    kept = heard[0].any(1)
    assert ((heard[0] == F.one_hot(c, 3)).all(1) == kept).all()
    assert abs(1 - kept.double().mean() - untold) < 0.12
    assert (untold == 0) == bool(kept.all())
    torch.manual_seed(1)
    alone = model.loss(x)  # the same noise: the share is drawn last
    assert not heard[1].any()
    close(loss[~kept], alone[~kept])
    assert (loss[kept] - alone[kept]).abs().max() > 1e-3
    torch.manual_seed(1)
    model(c).loss(x)
    assert torch.equal(heard[2], F.one_hot(c, 3).double())


def test_classes_are_checked():
    for bad in (-1, 1.5, None):
        with pytest.raises(ValueError, match="^classes must be a whole number of at least 0"):
            grey(classes=bad)
    for bad in (1.0, -0.1, None):
        with pytest.raises(ValueError, match="^untold must"):
            grey(classes=3, untold=bad)
    model = with_classes()
    with pytest.raises(ValueError, match="^c must lie between 0 and 2, got values from 3 to 3"):
        model(torch.tensor(3))
    with pytest.raises(ValueError, match="^c must lie between 0 and -1"):
        grey()(torch.tensor(0))
    with pytest.raises(ValueError, match="^c must hold whole numbers, got dtype torch.float64"):
        model(torch.tensor(1.0))
    with pytest.raises(ValueError, match="^c must be a torch tensor, got int"):
        model(1)
    for bad in (torch.zeros(2, 2, dtype=torch.long), torch.zeros(0, dtype=torch.long)):
        with pytest.raises(ValueError, match="^c must have shape"):
            model(bad)
    with pytest.raises(ValueError, match="^weight must be a finite number, got nan"):
        model(CLASSES, math.nan)
    for bad in (CLASSES[:4], 1, CLASSES[:, None]):
        with pytest.raises(ValueError, match=re.escape("c must have shape (5,)")):
            model.loss(PICTURES, bad)
    with pytest.raises(ValueError, match="^c must lie between 0 and 2"):
        model.loss(PICTURES, CLASSES + 1)
    with pytest.raises(ValueError, match="^x must hold one image for each of the 4 classes, got 5"):
        model(CLASSES[:4]).elbo(PICTURES, 2)
