"""Discrete latents: the book against k-means, gradients against those by hand, bounds against sums over all codes."""

import copy
import math
import re

import pytest
import torch
from exactness import REAL, close, everything, seeded
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import distributions as td
from torch import nn

from genlib import pixels
from genlib.latents import VQVAE, CodeBook, TwoLevels, perplexity, relaxed, straight_through
from genlib.mixture import Moments, blend, lloyd
from genlib.training import fit
from genlib.vae import NormalMeanNet, Terms

pytestmark = pytest.mark.usefixtures("double")

SOME = settings(max_examples=15, deadline=None)
SEEDS = st.integers(0, 10**6)
CODES, DIMS = st.integers(2, 6), st.integers(1, 3)
DECAYS = st.floats(0, 0.99)


def refused(message, job, *args, **kw):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        job(*args, **kw)


def draws(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=REAL)


def a_book(codes=3, dims=2, decay=0.9, seed=0):
    torch.manual_seed(seed)
    return CodeBook(codes, dims, decay)


# straight through


@SOME
@given(SEEDS, st.sampled_from([1e-8, 1.0, 1e8]))
def test_straight_through_has_the_one_value_and_the_other_gradient(seed, scale):
    value, slope = draws(4, seed=seed).requires_grad_(), (scale * draws(4, seed=seed + 1)).requires_grad_()
    out = straight_through(value, slope)
    assert torch.equal(out, value)
    weight = draws(4, seed=seed + 2)
    (weight * out.square()).sum().backward()
    close(slope.grad, 2 * weight * value.detach(), 0)
    assert value.grad is None


# relaxed draws


@SOME
@given(SEEDS, st.integers(1, 5), st.floats(0.05, 20))
def test_relaxed_draws_are_torchs_given_the_same_uniform_numbers(seed, categories, temperature):
    logits = 2 * draws(3, categories, seed=seed)
    ours = relaxed(logits, temperature, generator=seeded(seed))
    torch.manual_seed(seed)
    close(ours, td.RelaxedOneHotCategorical(torch.tensor(temperature), logits=logits).rsample(), 1e-10)
    close(ours.sum(-1), torch.ones(3))
    assert ours.shape == logits.shape


def test_relaxed_draws_become_draws_of_a_category():
    logits, n = torch.tensor([0.3, -1.0, 0.9]), 20_000
    many = logits.expand(n, 3)
    cold = relaxed(many, 1e-6, generator=seeded(4))
    kinds = cold.argmax(1)
    assert (cold.max(1).values > 1 - 1e-9).float().mean() > 0.999
    for temperature in (0.1, 1.0, 10.0):  # the largest entry is the same at each temperature
        assert torch.equal(relaxed(many, temperature, generator=seeded(4)).argmax(1), kinds)
    spread = [relaxed(many, t, generator=seeded(4)).max(1).values.mean() for t in (1e-2, 0.3, 1.0, 10.0, 1e4)]
    assert spread == sorted(spread, reverse=True)
    assert spread[-1] == pytest.approx(1 / 3, abs=1e-3)
    counts = torch.bincount(kinds, minlength=3)
    assert stats.chisquare(counts.numpy(), (n * logits.softmax(0)).numpy()).pvalue > 0.01


def test_gradients_pass_through_relaxed_draws():
    logits, weight = draws(2, 3).requires_grad_(), draws(2, 3, seed=1)
    assert torch.autograd.gradcheck(lambda a: relaxed(a, 0.7, generator=seeded()), logits)
    (weight * relaxed(logits, 0.7, generator=seeded())).sum().backward()
    y = relaxed(logits, 0.7, generator=seeded()).detach()
    close(logits.grad, y * (weight - (weight * y).sum(-1, keepdim=True)) / 0.7)


def test_relaxed_draws_take_their_numbers_from_the_generator_alone():
    logits, state = draws(2, 3), torch.get_rng_state()
    first, again, other = (relaxed(logits, 1.0, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert relaxed(logits.float(), 1.0).dtype == torch.float32


def test_relaxed_refuses():
    for bad in (0, -1.0, math.nan, math.inf, "1", True):
        refused("temperature must be a ", relaxed, torch.zeros(3), bad)
    for bad in (torch.tensor([0.0, math.nan]), torch.tensor([0.0, math.inf])):
        refused("logits must hold finite numbers", relaxed, bad, 1.0)
    for bad in (torch.tensor(1.0), torch.zeros(3, 0)):
        refused("logits must have shape (..., K) with K at least 1", relaxed, bad, 1.0)
    refused("slope must return shape (2,), got (3,)", straight_through, torch.zeros(2), torch.zeros(3))


# how many codes are in use


@SOME
@given(SEEDS, CODES, st.integers(1, 50))
def test_perplexity_lies_between_one_and_all(seed, K, n):
    codes = torch.randint(K, (n, 2), generator=seeded(seed))
    shares = torch.bincount(codes.flatten(), minlength=K).numpy() / (2 * n)
    value = perplexity(codes, K)
    assert value == pytest.approx(math.exp(stats.entropy(shares)), rel=1e-12)
    assert 1 - 1e-12 <= value <= min(K, len(codes.unique())) + 1e-12
    assert perplexity(codes.flatten().flip(0), K + 3) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("K", [1, 2, 7, 64])
def test_perplexity_at_its_ends(K):
    assert perplexity(torch.full((5, 2), K - 1), K) == 1
    assert perplexity(torch.arange(K).repeat(3), K) == pytest.approx(K, rel=1e-12)


def test_perplexity_refuses():
    refused("codes must lie between 0 and 2, got values from 0 to 3", perplexity, torch.arange(4), 3)
    refused("codes must lie between 0 and 2, got values from -1 to 0", perplexity, torch.tensor([-1, 0]), 3)
    refused("codes must hold whole numbers", perplexity, torch.zeros(3), 3)
    refused("codes must hold at least one code", perplexity, torch.zeros(0, 4, dtype=torch.long), 3)
    refused("K must be a whole number of at least 1", perplexity, torch.arange(2), 0)


# the book


@SOME
@given(SEEDS, CODES, DIMS)
def test_codes_are_the_nearest_vectors(seed, K, d):
    book, e = a_book(K, d, seed=seed), draws(4, 3, d, seed=seed)
    far = torch.tensor(
        [[[math.dist(v, c) for c in book.vectors.tolist()] for v in row] for row in e.tolist()]
    )
    codes = book(e)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, far.argmin(-1))
    assert torch.equal(book(e[0, 0]), codes[0, 0])
    assert torch.equal(book(book.vectors), torch.arange(K))
    assert torch.equal(book.lookup(codes), book.vectors[codes])
    assert book.lookup(codes[0, 0]).shape == (d,)
    close(book.log_near(e, 0.3), (-far.square() / 0.3).log_softmax(-1))
    close(book.log_near(e[0, 0], 0.3), book.log_near(e, 0.3)[0, 0])


def test_codes_drawn_near_become_nearest_or_any():
    book, e = a_book(4), draws(5, 2)
    close(book.log_near(e, 1e-9).exp(), nn.functional.one_hot(book(e), 4).to(e))
    close(book.log_near(e, 1e12).exp(), torch.full((5, 4), 0.25), 1e-9)
    assert torch.autograd.gradcheck(lambda e: book.log_near(e, 0.7), e.requires_grad_())


def test_quantised_vectors_are_the_books_and_gradients_the_encoders():
    book, e = a_book(), draws(2, 4, 2).requires_grad_()
    codes, z = book.quantised(e)
    assert torch.equal(codes, book(e))
    assert torch.equal(z, book.vectors[codes])
    z.pow(3).sum().backward()
    close(e.grad, 3 * book.vectors[codes].square(), 0)


@SOME
@given(SEEDS, CODES, DIMS)
def test_update_without_memory_is_a_step_of_k_means(seed, K, d):
    book, e = a_book(K, d, 0.0, seed), draws(30, d, seed=seed)
    assume(perplexity(book(e), K) > 1)
    before, used = book.vectors, torch.bincount(book(e), minlength=K) > 0
    book.update(e.reshape(5, 6, d))
    close(book.vectors, lloyd(e, before, 1)[0], 1e-10)
    close(book.size, torch.bincount(torch.cdist(e, before).argmin(1), minlength=K).to(REAL))
    assert torch.equal(book.vectors[~used], before[~used])
    assert not torch.equal(book.vectors[used], before[used])


@SOME
@given(SEEDS, CODES, DIMS, DECAYS)
def test_updates_blend_moments(seed, K, d, decay):
    book = a_book(K, d, decay, seed)
    moments = Moments(torch.ones(K), book.vectors, torch.zeros(K, d))
    for t in range(4):
        e, before = draws(7, d, seed=seed + t), book.vectors
        member = nn.functional.one_hot(book(e), K).T.to(e)
        size = member.sum(1)
        mean = member @ e / size.clamp(min=1)[:, None]
        moments = blend(moments, Moments(size, mean, torch.zeros(K, d)), 1 - decay)
        book.update(e)
        close(book.size, moments.size, 1e-10)
        close(book.total, moments.size[:, None] * moments.mean, 1e-10)
        close(book.vectors[size > 0], moments.mean[size > 0], 1e-10)
        assert torch.equal(book.vectors[size == 0], before[size == 0])


@pytest.mark.parametrize("seeds_count", [0, 1])
def test_a_falling_memory_is_macqueens_running_mean(seeds_count):
    """γ = 1 − 1/(t + 1) counts the first vectors as a row each; with γ = 1 − 1/t they do not count."""
    book, rows = a_book(4, 2, seed=2), draws(60, 2)
    centre, count = book.vectors.clone(), torch.full((4,), float(seeds_count))
    for t, row in enumerate(rows, start=1):
        k = (centre - row).square().sum(1).argmin()
        count[k] += 1
        centre[k] += (row - centre[k]) / count[k]
        book.decay = 1 - 1 / (t + seeds_count)
        book.update(row)
    close(book.vectors, centre, 1e-10)
    close(book.size, count / (60 + seeds_count), 1e-10)


def test_a_code_that_nobody_chooses_keeps_its_vector_for_ever():
    book = a_book(3, 2, 0.5).float()
    book.vectors[2] = book.total[2] = torch.tensor([1e3, 3e3])
    before = book.vectors[2].clone()
    for seed in range(200):  # its size is no number above 0 any more in float32
        book.update(draws(5, 2, seed=seed).float())
    assert book.size[2] == 0
    assert torch.equal(book.vectors[2], before)
    book.update(torch.tensor([[1e3, 2e3]]))
    close(book.vectors[2], torch.tensor([1e3, 2e3], dtype=torch.float32), 1e-3)


@SOME
@given(SEEDS, st.integers(2, 5))
def test_start_puts_codes_at_rest(seed, K):
    book, e = a_book(K, 2, 0.0, seed), draws(40, 2, seed=seed)
    book.start(e.reshape(4, 10, 2), generator=seeded(seed))
    member = nn.functional.one_hot(book(e), K).T.to(e)
    close(book.size, member.sum(1))
    close(book.total, member @ e, 1e-10)
    close(book.vectors, book.total / book.size[:, None], 1e-10)
    before = book.vectors
    book.update(e)
    close(book.vectors, before, 1e-10)


def test_start_and_revival_take_their_numbers_from_the_generator_alone():
    e, state = draws(40, 2), torch.get_rng_state()
    books = [CodeBook(6, 2) for _ in range(3)]
    torch.set_rng_state(state)
    for book, seed in zip(books, (1, 1, 5), strict=True):
        book.start(e, generator=seeded(seed))
        book.size[:3] = 0.0
        assert book.revive(e, generator=seeded(seed)) == 3
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(books[0].vectors, books[1].vectors)
    assert not torch.equal(books[0].vectors, books[2].vectors)


def test_start_with_fewer_different_rows_than_codes():
    book = a_book(4)
    book.start(torch.tensor([[0.0, 1.0]]).expand(6, 2))
    assert torch.isfinite(book.vectors).all()
    close(book.vectors, torch.tensor([[0.0, 1.0]]).expand(4, 2))
    assert book.size.sum() == 6


@SOME
@given(SEEDS, st.integers(0, 4))
def test_dead_codes_become_different_rows(seed, dead):
    book, e = a_book(5, 2, seed=seed), draws(3, 2, 2, seed=seed)
    book.size = torch.tensor([3.0, 0.7, 2.0, 9.0, 4.0])
    book.size[:dead] = torch.tensor([0.1, 0.4, 0.0, 0.49])[:dead]
    book.total = book.size[:, None] * book.vectors
    before, mean = copy.deepcopy(book), book.size.mean()
    assert book.revive(e, generator=seeded(seed)) == dead
    for name in ("vectors", "size", "total"):
        assert torch.equal(getattr(book, name)[dead:], getattr(before, name)[dead:])
    same = (book.vectors[:dead, None] == e.flatten(0, 1)).all(-1)
    assert same.any(1).all()
    assert (same.sum(0) <= 1).all()
    close(book.size[:dead], mean.expand(dead))
    close(book.total, book.size[:, None] * book.vectors)
    assert book.revive(e, 0.0) == 0


def test_revival_draws_rows_at_random():
    e, seen = torch.arange(6.0)[:, None], torch.zeros(6)
    for seed in range(200):
        book = a_book(2, 1)
        book.size = torch.tensor([0.0, 1.0])
        book.revive(e, generator=seeded(seed))
        seen += (book.vectors[0] == e)[:, 0]
    assert stats.chisquare(seen.numpy()).pvalue > 0.01


def test_the_book_carries_its_state_and_has_no_parameters():
    book, twin, e = a_book(), a_book(seed=1), draws(10, 2)
    book.update(e)
    twin.load_state_dict(book.state_dict())
    for each in (book, twin):
        each.update(e)
    assert torch.equal(book.vectors, twin.vectors)
    assert list(book.parameters()) == []
    close(book.total, book.size[:, None] * book.vectors)


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
def test_the_book_keeps_its_dtype(dtype):
    book, e = a_book().to(dtype), draws(8, 2)  # vectors in another dtype are converted
    for job in (book.start, book.update, book.revive):
        job(e)
        assert book.vectors.dtype == book.size.dtype == book.total.dtype == dtype
    assert book.log_near(e, 1.0).dtype == book.quantised(e.to(dtype))[1].dtype == dtype
    twin = a_book()
    for job in (twin.update, book.load_state_dict(a_book().state_dict()) and book.update):
        job(e)
    close(book.vectors.to(REAL), twin.vectors, 1e-5)


def test_the_book_refuses():
    for bad in (1, 0, 2.0, True, "2"):
        refused("codes must be a whole number of at least 2", CodeBook, bad, 3)
    for bad in (0, 1.5):
        refused("dims must be a whole number of at least 1", CodeBook, 3, bad)
    for bad in (1, 1.5, -0.1, math.nan, "0"):
        refused("decay must ", CodeBook, 3, 2, bad)
    book = a_book()
    near = lambda e: book.log_near(e, 1.0)  # noqa: E731
    for job in (book, book.quantised, near, book.update, book.start, book.revive):
        refused("e must have shape (..., 2), got (4, 3)", job, torch.zeros(4, 3))
        refused("e must have shape (..., 2), got ()", job, torch.zeros(()))
        refused("e must hold at least one vector, got shape (0, 2)", job, torch.zeros(0, 2))
        refused("e must not hold NaN, got 1 of them", job, torch.tensor([[0.0, 1.0], [1.0, math.nan]]))
        refused("e must hold finite numbers", job, torch.tensor([[0.0, math.inf]] * 4))
        refused("e must be a torch tensor, got list", job, [[0.0, 1.0]])
    for bad in (torch.tensor([0, 3]), torch.tensor([-1])):
        refused("codes must lie between 0 and 2, got values from", book.lookup, bad)
    refused("codes must hold whole numbers, got dtype", book.lookup, torch.zeros(2))
    refused("codes must be a torch tensor", book.lookup, [0, 1])
    for bad in (0, -1.0, math.nan):
        refused("temperature must be a finite number above 0", book.log_near, torch.zeros(2, 2), bad)
    refused("e must hold at least 3 vectors, one for each code, got 2", book.start, draws(2, 2))
    refused("least must be a finite number of at least 0", book.revive, draws(4, 2), -1.0)
    book.size *= 0
    refused("e must hold at least 3 vectors", book.revive, draws(2, 2))


# models whose sums over all codes can be written out


class Joined(nn.Module):
    """A net of several inputs, laid side by side."""

    def __init__(self, inputs, shape):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, math.prod(shape)), nn.Tanh(), nn.Unflatten(1, shape))

    def forward(self, *told):
        return 2 * self.net(torch.cat([part.flatten(1) for part in told], 1))


class Bits(nn.Module):
    """Vectors on one or two grids → 3 independent bits, as whole numbers."""

    def __init__(self, inputs):
        super().__init__()
        self.net = Joined(inputs, (3, 2))

    def forward(self, *told):
        return td.Independent(td.Categorical(logits=self.net(*told)), 1)


def a_prior(grid, levels=3, condition=0):
    prior = pixels.PixelCNN(pixels.Softmax(levels), grid, 3, 1, condition=condition)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape))
    return prior


def a_model(seed=0, decay=0.9):
    """3 bits through 2 codes of 3."""
    torch.manual_seed(seed)
    book, decoder = CodeBook(3, 2, decay), Bits(4)
    return VQVAE(Joined(3, (1, 2, 2)), book, decoder, a_prior((1, 2))).eval()


def two_levels(seed=0, decay=0.9):
    """3 bits through a code of 2 and 2 codes of 3."""
    torch.manual_seed(seed)
    top, bottom = CodeBook(2, 1, decay), CodeBook(3, 2, decay)
    nets = Joined(3, (1, 1, 1)), Joined(4, (1, 2, 2)), Bits(5)
    priors = a_prior((1, 1), 2), a_prior((1, 2), condition=1)
    return TwoLevels(nets[0], top, nets[1], bottom, nets[2], *priors).eval()


PATTERNS, STRINGS = everything(2, 3), everything(3, 2).reshape(9, 1, 2)


def joint(model, x=PATTERNS):
    """log p(x, z) for each x and all z, (B, 9) or (B, 18)."""
    if isinstance(model, VQVAE):
        log_prior, p = model.prior.log_prob(STRINGS), model.decode(STRINGS)
    else:
        top, bottom = torch.arange(2).repeat_interleave(9).reshape(18, 1, 1), STRINGS.repeat(2, 1, 1)
        below = model.prior_bottom.given(model.top.vectors[top].flatten(1))
        log_prior = model.prior_top.log_prob(top) + below.log_prob(bottom)
        p = model.decoder(model.top.vectors[top], model.bottom.vectors[bottom])
    return log_prior + p.log_prob(x[:, None])


def place(model, x):
    """Number of the encoder's codes among all z, (B,)."""
    codes = model.encode(x)
    top, bottom = (0, codes) if isinstance(model, VQVAE) else codes
    top = top if isinstance(top, int) else top.flatten()
    return 9 * top + bottom.flatten(1) @ torch.tensor([3, 1])


MAKERS = pytest.mark.parametrize("make", [a_model, two_levels])


@MAKERS
@pytest.mark.parametrize("seed", range(4))
def test_elbo_falls_short_by_the_posterior_of_the_encoders_codes(make, seed):
    model = make(seed)
    all_z = joint(model)
    log_p = all_z.logsumexp(1)
    close(log_p.exp().sum(), 1.0, 1e-10)  # so it is the model's log p(x)
    elbo = model.elbo(PATTERNS)
    posterior = (all_z - log_p[:, None])[torch.arange(8), place(model, PATTERNS)]
    close(log_p - elbo, -posterior, 1e-10)
    assert (elbo < log_p).all()


@MAKERS
def test_terms_are_those_of_the_elbo(make):
    model = make()
    terms, codes = model.terms(PATTERNS), model.encode(PATTERNS)
    close(-sum(terms), model.elbo(PATTERNS))
    assert all((term > 0).all() for term in terms)
    if isinstance(model, VQVAE):
        assert isinstance(terms, Terms)
        close(terms.distortion, -model.decode(codes).log_prob(PATTERNS))
        close(terms.rate, model.prior.loss(codes))
    else:
        close(terms.distortion, -model.decode(*codes).log_prob(PATTERNS))
        close(terms.rate_top, model.prior_top.loss(codes[0]))
        close(terms.rate_top, model.rates(*codes)[0])
        close(terms.rate_bottom, model.rates(*codes)[1])


def test_bottom_codes_are_told_the_top():
    """Vectors of a code come from its own book, and the prior below is one for each top code."""
    model = two_levels()
    rates = [model.rates(torch.full((9, 1, 1), k), STRINGS)[1] for k in range(2)]
    close(torch.stack(rates).neg().exp().sum(1), torch.ones(2), 1e-10)
    assert not torch.allclose(*rates)
    blind = []
    for seed in range(10):
        model = two_levels(seed)
        (top, bottom), x = model.encode(PATTERNS), PATTERNS.to(REAL)
        z = model.top.vectors[top]
        assert torch.equal(bottom, model.bottom(model.encode_bottom(x, z)))
        blind.append(torch.equal(bottom, model.bottom(model.encode_bottom(x, 0 * z))))
    assert not all(blind)


def test_codes_are_drawn_together(monkeypatch):
    """Bottom codes follow the top code of their own example."""
    model, seen, n = two_levels(3), [], 8000
    with torch.no_grad():
        model.prior_bottom.told.weight *= 3
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda *codes: seen.extend(codes) or decode(*codes))
    model.sample((n,), generator=seeded(1))
    top, bottom = seen
    counts = torch.bincount(9 * top.flatten() + bottom.flatten(1) @ torch.tensor([3, 1]), minlength=18)
    every = torch.arange(2).repeat_interleave(9).reshape(18, 1, 1), STRINGS.repeat(2, 1, 1)
    p = (-sum(model.rates(*every))).exp().detach()
    apart = p.reshape(2, 9).sum(1, keepdim=True) * p.reshape(2, 9).sum(0)
    assert (p.log() - apart.flatten().log()).abs().max() > 0.3  # the levels are not independent
    assert stats.chisquare(counts.numpy(), (n * p / p.sum()).numpy()).pvalue > 0.01


@torch.no_grad()
@pytest.mark.parametrize("temperature", [3.0, 10.0])
def test_bound_rises_to_the_evidence(temperature):
    model = a_model(1)
    log_p, means, errors = joint(model).logsumexp(1), [], []
    torch.manual_seed(0)
    for draws_, times in ((1, 2000), (20, 100)):
        many = model.bound(PATTERNS.repeat(times, 1), draws_, temperature).reshape(times, 8)
        means.append(many.mean(0))
        errors.append(4 * many.std(0) / times**0.5)
    assert (means[0] < means[1] + errors[1]).all()
    assert (means[1] < log_p + errors[1]).all()
    assert (log_p - means[0] > errors[0]).any()
    close(model.bound(PATTERNS, 10_000, temperature), log_p, 0.04)


def test_mean_of_the_weights_is_the_evidence():
    """With one draw, e to the bound has the mean p(x), whatever the temperature; a wrong law of the draws has not."""
    model = a_model(2)
    torch.manual_seed(0)
    for temperature in (2.0, 10.0):
        weights = model.bound(PATTERNS.repeat(4000, 1), 1, temperature).exp().reshape(4000, 8)
        error = weights.std(0) / 4000**0.5
        assert ((weights.mean(0) - joint(model).logsumexp(1).exp()).abs() < 4.5 * error).all()
        assert (error < 0.02).all()


def test_bound_in_the_cold_is_the_elbo_and_one_draw_a_weight():
    model = a_model()
    for times in (1, 3, 200, 300):  # in blocks of 187
        close(model.bound(PATTERNS, times, 1e-9), model.elbo(PATTERNS), 1e-10)
    torch.manual_seed(3)
    blocks = model.bound(PATTERNS[:1].repeat(1000, 1), 3)  # a draw at a time
    assert blocks.shape == (1000,)
    weights = joint(model, PATTERNS[:1])[0] - model.book.log_near(
        model.encoder(PATTERNS[:1].to(REAL))[0, 0], 1.0
    )[(0, 1), STRINGS[:, 0]].sum(1)
    torch.manual_seed(3)
    ones = model.bound(PATTERNS[:1].repeat(50, 1), 1)
    assert ((ones[:, None] - weights).abs().min(1).values < 1e-10).all()


@MAKERS
@pytest.mark.parametrize("commitment", [0.0, 0.25, 2.0])
def test_gradients_of_the_loss_by_hand(make, commitment):
    """For the encoder: those of the distortion at the code, passed on, and those of the commitment."""
    model = make(1)
    x, nets = (
        PATTERNS.to(REAL),
        [model.encoder] if make is a_model else [model.encode_top, model.encode_bottom],
    )
    own = [parameter for net in nets for parameter in net.parameters()]
    loss = model.loss(PATTERNS, commitment)
    got = torch.autograd.grad(loss.sum(), own, retain_graph=True)
    decoders = torch.autograd.grad(loss.sum(), model.decoder.parameters(), retain_graph=True)

    books = [model.book] if make is a_model else [model.top, model.bottom]
    e, codes, at, told = [], [], [], ()
    for net, book in zip(nets, books, strict=True):
        e.append(net(x, *told))
        codes.append(book.vectors[book(e[-1])])
        at.append(codes[-1].clone().requires_grad_())
        told = (at[-1],)
    distortion = -model.decoder(*at).log_prob(x)
    far = sum((a - c).square().sum((1, 2, 3)) for a, c in zip(e, codes, strict=True))
    close(loss, distortion + commitment * far)
    slopes = torch.autograd.grad(distortion.sum(), at, retain_graph=True)
    push = [slope + 2 * commitment * (a - c).detach() for slope, a, c in zip(slopes, e, codes, strict=True)]
    if make is two_levels:  # what the lower encoder is told passes its gradient to the upper one
        push[0] = push[0] + torch.autograd.grad(e[1], at[0], push[1], retain_graph=True)[0]
    by_hand = [
        slope
        for net, a, p in zip(nets, e, push, strict=True)
        for slope in torch.autograd.grad(a, list(net.parameters()), p, retain_graph=True)
    ]
    for ours, theirs in zip(got, by_hand, strict=True):
        close(ours, theirs, 1e-10)
    for ours, theirs in zip(
        decoders, torch.autograd.grad(distortion.sum(), model.decoder.parameters()), strict=True
    ):
        close(ours, theirs, 1e-10)
    assert any(slope.any() for slope in got)


@MAKERS
def test_books_learn_in_training_alone_and_priors_not_at_all(make):
    model = make()
    books = [part for part in model.modules() if isinstance(part, CodeBook)]
    before = [copy.deepcopy(book) for book in books]
    for job in (model.loss, model.elbo, model.encode, *([model.bound] if make is a_model else [])):
        job(PATTERNS)
    for book, old in zip(books, before, strict=True):
        assert torch.equal(book.vectors, old.vectors)
        assert torch.equal(book.size, old.size)
    quiet = model.loss(PATTERNS)
    x, first = PATTERNS.to(REAL), books[0]
    e = [(model.encoder if make is a_model else model.encode_top)(x)]
    if make is two_levels:
        e.append(model.encode_bottom(x, first.lookup(first(e[0]))))
    model.train()
    loss = model.loss(PATTERNS)
    close(loss, quiet)  # with the vectors before the update
    for book, old, rows in zip(books, before, e, strict=True):
        old.update(rows)
        assert torch.equal(book.vectors, old.vectors)
        assert torch.equal(book.size, old.size)
        assert not book.vectors.requires_grad
    loss.sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) is name.startswith("prior"), name


@MAKERS
def test_training_lowers_the_loss(make):
    model, before = make(decay=0.9).train(), make().loss(PATTERNS).mean()
    torch.manual_seed(0)
    fit(model.loss, model, [PATTERNS], 40, lr=0.03, progress=False)
    assert model.eval().loss(PATTERNS).mean() < before - 0.3


@MAKERS
def test_samples_have_the_law_of_the_model(make):
    model, n = make(3), 8000
    x = model.sample((n,), generator=seeded(2))
    assert x.shape == (n, 3)
    assert model.event_shape == (3,)
    counts = torch.bincount(x @ torch.tensor([4, 2, 1]), minlength=8)
    expected = n * joint(model).logsumexp(1).exp()
    assert stats.chisquare(counts.numpy(), (expected * (n / expected.sum())).detach().numpy()).pvalue > 0.01
    state = torch.get_rng_state()
    assert torch.equal(model.sample((9,), generator=seeded(1)), model.sample((9,), generator=seeded(1)))
    assert torch.equal(torch.get_rng_state(), state)
    assert not x.requires_grad


@MAKERS
def test_modes_stay_as_they_were(make):
    model = make()
    model.decoder.net.net.append(nn.BatchNorm1d(3))  # which cannot learn from one example
    before = copy.deepcopy(model.train().state_dict())
    assert model.event_shape == (3,)
    assert all(part.training for part in model.modules())
    assert all(torch.equal(part, before[name]) for name, part in model.state_dict().items())


@MAKERS
@pytest.mark.parametrize("dtype", [torch.float32, REAL])
def test_models_keep_their_dtype(make, dtype):
    model = make().to(dtype)
    for x in (PATTERNS, PATTERNS.to(dtype)):
        for value in (model.elbo(x), model.loss(x), *model.terms(x)):
            assert value.dtype == dtype
    if make is a_model:
        assert model.bound(PATTERNS, 3).dtype == dtype
    model.train().loss(PATTERNS).sum().backward()
    assert all(tensor.dtype == dtype for tensor in model.state_dict().values())
    assert model.sample((2,)).dtype == torch.int64


def test_real_data_and_a_grid_of_nothing():
    """z may be one code, and x any numbers."""
    torch.manual_seed(0)
    decoder = NormalMeanNet(nn.Linear(2, 3), 0.5)
    prior = td.Categorical(logits=torch.zeros(4))  # has log_prob and sample, and an event_shape
    model = VQVAE(nn.Linear(3, 2), CodeBook(4, 2), decoder, Wrapped(prior))
    x = draws(5, 3)
    parts = td.Independent(td.Normal(decoder.net(model.book.vectors), 0.5), 1)
    exact = td.MixtureSameFamily(prior, parts).log_prob(x)
    assert (model.elbo(x) < exact).all()
    close(model.bound(x, 20_000, 2.0), exact, 0.1)
    assert model.encode(x).shape == (5,)
    assert model.sample((6,)).shape == (6, 3)


class Wrapped(nn.Module):
    """One code, from a distribution of torch."""

    def __init__(self, p):
        super().__init__()
        self.p, self.event_shape = p, torch.Size()
        self.log_prob = p.log_prob

    def sample(self, shape, *, generator=None):
        return self.p.sample(shape)


@MAKERS
def test_models_refuse(make):
    model = make()
    jobs = [model.encode, model.terms, model.elbo, model.loss]
    for job in [*jobs, model.bound] if make is a_model else jobs:
        refused("x must be a tensor (B, *E) with B at least 1, got (0, 3)", job, PATTERNS[:0])
        refused("x must be a tensor (B, *E) with B at least 1, got ()", job, torch.tensor(1))
        refused("x must be a torch tensor, got list", job, PATTERNS.tolist())
        refused("x must have shape (B, 3), got (8, 2)", job, PATTERNS[:, :2])
        refused("x must not hold NaN, got 1 of them", job, torch.tensor([[0.0, 1.0, math.nan]]))
        refused("x must be in torch.float64 as the model is, got torch.float32", job, PATTERNS.float())
    for job in [*jobs[1:], model.bound] if make is a_model else jobs[1:]:
        refused("x must have shape (B, 3), got (4, 3, 1)", job, PATTERNS[:4, :, None])
        refused("x must hold values that the decoder can draw", job, 2 * PATTERNS)
    for bad in (-0.1, math.nan, "1"):
        refused("commitment must be a ", model.loss, PATTERNS, bad)
    for bad in ((), (2, 3), 5, (0,)):
        with pytest.raises(ValueError, match="shape"):
            model.sample(bad)
    codes = STRINGS + 1
    refused("codes must lie between 0 and", model.decode, *([codes] if make is a_model else [codes, STRINGS]))


def test_bound_refuses():
    for bad in (0, 1.5, True):
        refused("draws must be a whole number of at least 1", a_model().bound, PATTERNS, bad)
    for bad in (0, -1.0, math.inf):
        refused("temperature must be a finite number above 0", a_model().bound, PATTERNS, 3, bad)


def test_parts_that_do_not_fit_are_named():
    model, two = a_model(), two_levels()
    parts = (model.encoder, model.book, model.decoder)
    refused("prior must have 3 levels as the book has codes, got 4", VQVAE, *parts, a_prior((1, 2), 4))
    parts = (two.encode_top, two.top, two.encode_bottom, two.bottom, two.decoder)
    other = (two.prior_bottom, two.prior_top)
    refused("prior_top must have 2 levels as the book has codes, got 3", TwoLevels, *parts, *other)
    priors = (two.prior_top, a_prior((1, 2), 4, 1))
    refused("prior_bottom must have 3 levels as the book has codes, got 4", TwoLevels, *parts, *priors)
    model.encoder = Joined(3, (1, 2, 3))
    refused("encoder must return shape (8, 1, 2, 2), got (8, 1, 2, 3)", model.loss, PATTERNS)
    two.encode_bottom = Joined(4, (1, 3, 2))
    refused("encode_bottom must return shape (8, 1, 2, 2), got (8, 1, 3, 2)", two.encode, PATTERNS)
    two.encode_top = Joined(3, (2, 1))
    refused("encode_top must return shape (8, 1, 1, 1), got (8, 2, 1)", two.elbo, PATTERNS)


def test_an_encoders_own_error_is_not_hidden():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("no memory")

    model = a_model()
    model.encoder = Broken()
    with pytest.raises(RuntimeError, match="^no memory"):
        model.encode(PATTERNS)
