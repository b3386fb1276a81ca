"""Mixtures of shared patterns: sums over all paths written out, steps of EM against what they must not lower."""

import itertools
import math
import re
from itertools import pairwise

import pytest
import torch
from exactness import REAL, close, everything, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlib.mixture import LevelMixture, PartsMixture, climb

SOME = settings(max_examples=12, deadline=None)
SEEDS = st.integers(0, 10**6)
SIZES = st.integers(1, 3)
LEVELS = st.integers(2, 5)
PULLS = st.floats(0.01, 10.0)
SHAPES = st.sampled_from(
    [((), ()), ((3,), (1,)), ((2,), (2,)), ((1, 2), (2, 1)), ((2, 2), (1, 2)), ((1, 2, 1), (1, 1, 2))]
)


def refused(message, job, *args, error=ValueError, **kw):
    with pytest.raises(error, match="^" + re.escape(message)):
        job(*args, **kw)


def shares(*shape, generator):
    p = torch.rand(shape, generator=generator, dtype=REAL) + 0.1
    return p / p.sum(-1, keepdim=True)


def mixture(components=3, patterns=2, grid=(1, 2), block=(2, 1), levels=4, seed=0):
    g = seeded(seed)
    draws = torch.rand(2, *grid, patterns, *block, generator=g, dtype=REAL)
    means, deviations = levels * (1.4 * draws[0] - 0.2), 0.2 + 2 * draws[1]
    choices, weights = shares(*grid, components, patterns, generator=g), shares(components, generator=g)
    return PartsMixture(choices, means, deviations, weights, levels=levels)


def images(n=30, grid=(1, 2), block=(2, 1), levels=4, seed=0):
    return mixture(3, 3, grid, block, levels, seed + 1).sample((n,), generator=seeded(seed))


def numbers(n, seed=0):
    return 3 * torch.rand(n, generator=seeded(seed), dtype=REAL)


def same(first, second, atol=1e-12):
    for name in ("choices", "means", "deviations", "weights"):
        close(getattr(first, name).to(REAL), getattr(second, name).to(REAL), atol)


def raw(model):
    """Parameters that are free, and the way from them to the model."""
    parts = model.choices.log(), model.means, model.deviations.log(), model.weights.log()
    parts = [part.clone().requires_grad_() for part in parts]
    choices, means, logs, scores = parts
    return PartsMixture(choices.softmax(-1), means, logs.exp(), scores.softmax(0), levels=model.levels), parts


def paths(model, x):
    """Which blocks there are, and log p(x, h, patterns) of every path, (B,), pixel by pixel."""
    grid, axes = model.grid, len(model.grid)
    block = model.means.shape[axes + 1 :]
    H, M = model.choices.shape[-2:]
    table, blocks = model.log_table(), list(itertools.product(*map(range, grid)))
    found = {}
    for h in range(H):
        for picks in itertools.product(range(M), repeat=len(blocks)):
            log_p = model.weights[h].log().expand(len(x))
            for q, m in zip(blocks, picks, strict=True):
                log_p = log_p + model.choices[(*q, h, m)].log()
            for pixel in itertools.product(*map(range, model.event_shape)):
                q = tuple(i // b for i, b in zip(pixel, block, strict=True))
                d = tuple(i % b for i, b in zip(pixel, block, strict=True))
                log_p = log_p + table[(*q, picks[blocks.index(q)], *d)][x[(slice(None), *pixel)]]
            found[h, picks] = log_p
    return blocks, found


@SOME
@given(SIZES, SIZES, SHAPES, LEVELS, SEEDS)
def test_the_sum_over_all_paths(components, patterns, shape, levels, seed):
    model, x = mixture(components, patterns, *shape, levels, seed), images(8, *shape, levels, seed)
    _, found = paths(model, x)
    close(model.log_prob(x), torch.stack(list(found.values())).logsumexp(0), 1e-10)
    for h in range(components):
        one = torch.stack([log_p for (k, _), log_p in found.items() if k == h]).logsumexp(0)
        close(model.log_joint(x)[:, h], one, 1e-10)
    flat = model.flat()
    close(flat.log_joint(x), torch.stack(list(found.values()), 1), 1e-10)
    assert flat.event_shape == model.event_shape == x.shape[1:]
    assert len(flat.weights) == components * patterns ** math.prod(shape[0])


@SOME
@given(SIZES, SIZES, SEEDS)
def test_all_images_sum_to_one(components, patterns, seed):
    x = everything(3, 4).reshape(-1, 2, 2)
    model = mixture(components, patterns, (2, 1), (1, 2), 3, seed)
    close(model.log_prob(x).exp().sum(), torch.ones((), dtype=REAL))
    close(model.log_parts(x).exp().sum(0), torch.ones(components, dtype=REAL))


@SOME
@given(SIZES, SHAPES, SEEDS)
def test_one_pattern_a_block_is_a_product(components, shape, seed):
    """The components cannot differ then."""
    model, x = mixture(components, 1, *shape, 4, seed), images(8, *shape, 4, seed)
    whole = x.reshape(8, -1)
    product = sum(
        LevelMixture(mean[None], deviation[None], levels=4).log_prob(whole[:, d])
        for d, (mean, deviation) in enumerate(
            zip(model.flat().means[0].flatten(), model.flat().deviations[0].flatten(), strict=True)
        )
    )
    close(model.log_parts(x), product[:, None].expand(-1, components), 1e-10)


def test_one_component_is_a_product_of_mixtures():
    model, x = mixture(1, 3, (2, 1), (1, 2)), images(20, (2, 1), (1, 2))
    blocks = [
        LevelMixture(model.means[q, 0, :, 0], model.deviations[q, 0, :, 0], model.choices[q, 0, 0], levels=4)
        for q in range(2)
    ]
    close(model.log_prob(x), sum(block.log_prob(x[:, q]) for q, block in enumerate(blocks)), 1e-10)
    new = model.improved(x, 0.7, 0.0)
    for q, block in enumerate(blocks):
        better = block.improved(x[:, q], 0.7)
        close(new.means[q, 0, :, 0], better.means, 1e-10)
        close(new.deviations[q, 0, :, 0], better.deviations, 1e-10)
        close(new.choices[q, 0, 0], better.weights, 1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
@pytest.mark.parametrize("narrow", [1.0, 0.02])
def test_one_block_whose_components_have_a_pattern_each_is_a_mixture_of_levels(dtype, narrow):
    """Where patterns are narrow, those that are not chosen would underflow in a product of matrices."""
    whole = mixture(1, 3, (1, 1), (2, 2), 30)
    means, deviations = whole.means[0, 0].to(dtype), narrow * whole.deviations[0, 0].to(dtype)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=dtype)
    plain = LevelMixture(means, deviations, weights, levels=30)
    x = plain.sample((20,), generator=seeded())
    model = PartsMixture(
        torch.eye(3, dtype=dtype)[None, None], means[None, None], deviations[None, None], weights, levels=30
    )
    atol = 1e-10 if dtype == REAL else 1e-4
    assert (plain.log_parts(x).diff().abs().max() > 1000) == (narrow < 1)
    close(model.log_parts(x) / plain.log_parts(x), torch.ones(20, 3, dtype=dtype), atol)
    a, b = model.improved(x, 0.5, 0.0), plain.improved(x, 0.5)
    close(a.choices[0, 0], torch.eye(3, dtype=dtype), 0 if dtype == REAL else 1e-6)
    close(a.means[0, 0], b.means, atol)
    close(a.deviations[0, 0], b.deviations, atol)
    close(a.weights, b.weights, atol)


def test_components_that_shun_what_fits():
    """Two blocks call for different components, and each must then take a pattern that hardly fits."""
    for dtype, atol in ((torch.float32, 1e-3), (REAL, 1e-9)):
        means = torch.tensor([[[2.0], [28.0]], [[2.0], [28.0]]], dtype=dtype)
        choices = torch.tensor([[[1.0, 0.0], [0.25, 0.75]], [[0.0, 1.0], [1.0, 0.0]]], dtype=dtype)
        model = PartsMixture(choices, means, 0.3 + 0 * means, [0.4, 0.6], levels=31)
        x = torch.tensor([[2, 2], [28, 28], [2, 28], [28, 2]])
        flat = model.flat()
        close(model.log_prob(x), flat.log_prob(x), 10 * atol)
        assert model.log_prob(x).min() < -1000
        new, r = model.improved(x, 1.0, 1.0), flat.responsibilities(x).reshape(4, 2, 2, 2)
        close(new.weights, r.sum((0, 2, 3)) / 4, atol)
        pairs = torch.stack([r.sum((0, 3)), r.sum((0, 2))])
        close(new.choices, (pairs + 0.5) / (pairs.sum(-1, keepdim=True) + 1), atol)
        assert torch.isfinite(new.log_prob(x)).all()


def test_float32_agrees_with_float64():
    shape = (2, 2), (2, 2), 17
    model, x = mixture(4, 3, *shape), images(50, *shape)
    single = PartsMixture(
        model.choices.float(), model.means.float(), model.deviations.float(), model.weights.float(), levels=17
    )
    close(single.log_prob(x).double() / model.log_prob(x), torch.ones(50, dtype=REAL), 1e-5)
    new = single.improved(x)
    same(new, model.improved(x), 1e-4)
    assert {part.dtype for part in (new.choices, new.means, new.deviations, new.weights)} == {torch.float32}


@SOME
@given(SIZES, SIZES, SHAPES, PULLS, st.sampled_from([0.0, 0.1, 5.0]), SEEDS)
def test_a_step_never_lowers_the_penalised_likelihood(components, patterns, shape, pull, even, seed):
    model, x = mixture(components, patterns, *shape, 4, seed), images(20, *shape, 4, seed)
    heights = climb(model, x, 5, tol=0, pull=pull, even=even, counts=numbers(20, seed))[1]
    assert all(b >= a - 1e-10 * abs(a) for a, b in pairwise(heights))


def test_without_priors_the_likelihood_rises():
    x = images(80)
    model, heights = climb(mixture(2, 2, seed=5), x, 10, tol=0, pull=0.0, even=0.0)
    close(torch.tensor(heights[-1], dtype=REAL), model.log_prob(x).sum(), 1e-10)
    assert all(b >= a - 1e-10 for a, b in pairwise(heights))
    assert heights[-1] > heights[0] + 1


@SOME
@given(SIZES, SIZES, SHAPES, PULLS, PULLS, SEEDS)
def test_the_slope_is_zero_where_a_step_rests_and_nowhere_else(components, patterns, shape, pull, even, seed):
    """The slope of what a step raises is the step itself, but for positive factors."""
    model, x = mixture(components, patterns, *shape, 4, seed), images(20, *shape, 4, seed)
    counts, axes = numbers(20, seed), len(shape[0])
    free, (choices, means, logs, scores) = raw(model)
    free.penalised(x, pull, even, counts=counts).backward()
    new = model.improved(x, pull, even, counts=counts)
    rows = counts @ model.responsibilities(x)
    close(scores.grad, counts.sum() * (new.weights - model.weights), 1e-9)
    close(choices.grad, (rows + even)[:, None] * (new.choices - model.choices), 1e-9)
    chosen = (new.choices * (rows + even)[:, None] - even / patterns).sum(-2)  # rows of each pattern, (*G, M)
    chosen = chosen.reshape(*chosen.shape, *[1] * axes) + pull
    variance, shift = model.deviations**2, new.means - model.means
    close(means.grad, chosen * shift / variance, 1e-8)
    close(logs.grad, chosen * ((new.deviations**2 + shift**2) / variance - 1), 1e-7)


def test_the_step_by_hand():
    """From the probabilities of all paths, pixel by pixel."""
    model, x, pull, even = mixture(2, 2, (1, 2), (2, 1)), images(7), 0.7, 1.3
    blocks, found = paths(model, x)
    r = dict(zip(found, torch.stack(list(found.values()), 1).softmax(1).T, strict=True))
    new, (y, variance) = model.improved(x, pull, even), model.unrounded()
    for h in range(2):
        close(new.weights[h], sum(p.mean() for (k, _), p in r.items() if k == h))
        for number, q in enumerate(blocks):
            pairs = [
                sum(p.sum() for (k, picks), p in r.items() if (k, picks[number]) == (h, m)) for m in range(2)
            ]
            for m in range(2):
                close(new.choices[(*q, h, m)], (pairs[m] + even / 2) / (sum(pairs) + even))
    for number, q in enumerate(blocks):
        for m, i in itertools.product(range(2), range(2)):
            p = sum(p for (_, picks), p in r.items() if picks[number] == m)  # (n,)
            pixel = x[:, i, q[1]]
            centre, width = pixel.to(REAL).mean(), pixel.to(REAL).var(correction=0) + 1 / 12
            at = (*q, m, i, 0)
            mean = ((p * y[at][pixel]).sum() + pull * centre) / (p.sum() + pull)
            square = variance[at][pixel] + (y[at][pixel] - mean) ** 2
            close(new.means[at], mean)
            close(
                new.deviations[at] ** 2,
                ((p * square).sum() + pull * (width + (centre - mean) ** 2)) / (p.sum() + pull),
            )


def test_the_prior_of_the_choices_is_a_dirichlet_distribution():
    x, model, other = images(20), mixture(3, 4), mixture(3, 4, seed=9)
    law = torch.distributions.Dirichlet(torch.full((4,), 1 + 2.5 / 4, dtype=REAL))
    gains = [m.penalised(x, 0.5, 2.5) - m.penalised(x, 0.5, 0.0) for m in (model, other)]
    close(gains[0] - gains[1], law.log_prob(model.choices).sum() - law.log_prob(other.choices).sum(), 1e-10)


def test_the_prior_of_the_patterns_is_that_of_a_mixture_of_levels():
    x, model = images(20), mixture(2, 3)
    prior = model.penalised(x, 2.0, 0.0) - model.penalised(x, 0.0, 0.0)
    expected = 0.0
    for q in range(2):
        block = LevelMixture(model.means[0, q], model.deviations[0, q], levels=4)
        expected += block.penalised(x[:, :, q : q + 1], 2.0) - block.penalised(x[:, :, q : q + 1], 0.0)
    close(prior, expected, 1e-10)


def test_counts_are_repetitions():
    x, counts = images(12), torch.arange(12) % 3
    again = x.repeat_interleave(counts, 0)
    same(mixture().improved(x, 0.5, counts=counts), mixture().improved(again, 0.5))
    close(mixture().penalised(x, 0.5, counts=counts), mixture().penalised(again, 0.5), 1e-10)


def test_draws_have_the_exact_law():
    model, x = mixture(3, 3, (2, 1), (1, 2), 3), everything(3, 4).reshape(-1, 2, 2)
    drawn = model.sample((20_000,), generator=seeded(1))
    counts = torch.bincount(drawn.flatten(1) @ torch.tensor([27, 9, 3, 1]), minlength=81)
    expected = 20_000 * model.log_prob(x).exp()
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 0.01


def test_draws_of_blocks_stand_in_their_place():
    means = torch.arange(12.0).reshape(2, 2, 1, 3, 1)
    model = PartsMixture(torch.ones(2, 2, 1, 1), means, torch.full_like(means, 1e-3), levels=12)
    image = torch.tensor([[0, 3], [1, 4], [2, 5], [6, 9], [7, 10], [8, 11]])
    assert model.event_shape == image.shape
    assert (model.sample((3,)) == image).all()
    close(model.log_prob(image[None]), torch.zeros(1), 1e-6)
    close(model.flat().means[0], image.float(), 0)


def test_a_known_mixture_is_recovered():
    """Two components that differ only in which patterns go together."""
    means = torch.tensor([[1.0, 7.0], [7.0, 1.0], [1.0, 7.0]], dtype=REAL)[..., None]
    choices = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]] * 3, dtype=REAL)
    truth = PartsMixture(choices, means, torch.ones_like(means), [0.4, 0.6], levels=9)
    x, counts = truth.sample((20_000,), generator=seeded()).unique(dim=0, return_counts=True)
    found = PartsMixture.fit(
        x, 2, 2, (1,), 150, 0.1, 0.1, levels=9, counts=counts.to(REAL), generator=seeded(1)
    )
    h, m = found.weights.argsort(), ((found.means - truth.means[:, :1]).abs()).argsort(1)
    close(found.weights[h], truth.weights, 0.03)
    close(found.means.take_along_dim(m, 1), truth.means, 0.1)
    close(found.choices[:, h].take_along_dim(m.mT, 2), truth.choices, 0.03)


def test_fit_is_steps_of_improved():
    x, settings = images(20, (2, 2), (1, 2)), {"levels": 4, "generator": None}
    job = lambda *rest: PartsMixture.fit(x, 5, 3, (1, 2), *rest, **settings | {"generator": seeded(2)})  # noqa: E731
    start, again = job(0), job(2, 0.3, 0.7)
    same(again, start.improved(x, 0.3, 0.7).improved(x, 0.3, 0.7), 0)
    assert start.event_shape == (2, 4)
    assert start.grid == (2, 2)
    assert start.choices.shape == (2, 2, 5, 3)
    for r, c, m in itertools.product(range(2), range(2), range(3)):
        rows = x[:, r : r + 1, 2 * c : 2 * c + 2]
        assert (start.means[r, c, m] == rows).flatten(1).all(1).any()
        close(start.deviations[r, c, m], (rows.float().var(0, correction=0) + 1 / 12).sqrt() / 2, 1e-6)
    assert start.choices.min() > 1 / 6 - 1e-6
    close(start.weights, torch.full((5,), 0.2), 1e-6)
    assert start.sample((3,), generator=seeded()).shape == (3, 2, 4)
    assert start.sample((3,)).dtype == torch.int64
    assert start.parameters_count == 4 + 4 * 5 * 2 + 2 * 4 * 3 * 2


def test_flat_keeps_gradients():
    model, x = mixture(), images()
    grads = []
    for law in (lambda m: m, PartsMixture.flat):
        free, parts = raw(model)
        law(free).log_prob(x).sum().backward()
        grads.append([part.grad for part in parts])
    for a, b in zip(*grads, strict=True):
        close(a, b, 1e-9)


def test_no_global_state():
    before = torch.get_rng_state()
    x = images()
    first, second = (PartsMixture.fit(x, 3, 2, (2, 1), 3, levels=4, generator=seeded(5)) for _ in range(2))
    same(first, second, 0)
    assert first.improved(x).means.requires_grad is False
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


def test_without_rows():
    means = torch.tensor([[1.0], [1e4]], dtype=REAL)
    choices = torch.eye(2, dtype=REAL)
    model = PartsMixture(choices, means[:, 0], torch.ones(2, dtype=REAL), levels=4)
    x = torch.arange(3)
    refused(
        "component 1 has no rows left: start elsewhere, or even",
        model.improved,
        x,
        1.0,
        0.0,
        error=RuntimeError,
    )
    refused(
        "pattern 1 has no rows left: start elsewhere, or pull",
        model.improved,
        x,
        0.0,
        1.0,
        error=RuntimeError,
    )
    new = model.improved(x, 0.5, 2.0)
    close(new.means[1], torch.ones((), dtype=REAL))
    close(new.choices, torch.tensor([[4 / 5, 1 / 5], [1 / 2, 1 / 2]], dtype=REAL))
    assert torch.isfinite(new.log_prob(x)).all()
    with torch.inference_mode():
        refused("improved needs gradients", model.improved, x, error=RuntimeError)


def test_no_images_have_no_likelihood():
    assert mixture().log_parts(images()[:0]).shape == (0, 3)


def test_what_is_refused():
    model, x = mixture(), images()
    for job in (model.log_prob, model.responsibilities, model.loss, model.improved, model.penalised):
        refused("x must hold whole numbers", job, torch.zeros(2, 2, 2))
        refused("x must lie between 0 and 3", job, torch.full((2, 2, 2), 4))
        refused("x must have shape (..., 2, 2)", job, torch.zeros(2, 3, 2, dtype=torch.long))
        refused("x must have shape (B, 2, 2)", job, torch.zeros(2, 2, dtype=torch.long))
    for job in (model.improved, model.penalised):
        refused("x must be a tensor of shape (n, *E)", job, x[:0])
        refused("pull must be", job, x, -1.0)
        refused("even must be", job, x, 1.0, -1.0)
        refused("counts must hold 30 numbers", job, x, counts=torch.ones(3))

    def fit(x=x, components=2, patterns=2, block=(2, 1), *rest, levels=4, **kw):
        return PartsMixture.fit(x, components, patterns, block, *rest, levels=levels, **kw)

    refused("x must be a tensor of shape (n, *E)", fit, x[:0])
    refused("x must lie between 0 and 3", fit, x + 4)
    refused("levels must be a whole number of at least 2", fit, levels=1)
    refused("components must be a whole number", fit, x, 0)
    refused("patterns must be a whole number", fit, x, 2, 0)
    refused("patterns must be at most the 30 rows", fit, x, 2, 31)
    refused("block must divide images of shape (2, 2), got (2, 3)", fit, x, 2, 2, (2, 3))
    refused("block must divide images of shape (2, 2), got (2,)", fit, x, 2, 2, (2,))
    refused("each size of block must be a whole number", fit, x, 2, 2, (2, 0))
    refused("steps must be a whole number", fit, x, 2, 2, (2, 1), -1)

    choices, means = torch.full((1, 2, 3, 2), 0.5), torch.ones(1, 2, 2, 2, 1)
    assert PartsMixture(choices, means, means, levels=4).event_shape == (2, 2)
    new = PartsMixture
    refused("choices must sum to 1", new, 2 * choices, means, means, levels=4)
    refused("choices must have shape (*G, H, M)", new, torch.ones(1), means, means, levels=4)
    refused("means must have shape (1, 2, 2, *B)", new, choices, means[0], means[0], levels=4)
    refused("means must have shape (1, 2, 2, *B)", new, choices, means[:, :, :1], means[:, :, :1], levels=4)
    refused("means must have shape (1, 2, 2, *B)", new, choices, means[..., 0], means[..., 0], levels=4)
    refused("means must have shape (1, 2, 2, *B)", new, choices, means[..., :0], means[..., :0], levels=4)
    refused("deviations must have the shape of means", new, choices, means, means[0], levels=4)
    refused("deviations must be above 0, got 0", new, choices, means, 0 * means, levels=4)
    refused("weights must have shape (3,)", new, choices, means, means, [1.0], levels=4)
    refused("levels must be a whole number of at least 2", new, choices, means, means, levels=1)
    refused("shape must be", model.sample, 3)
    refused("flat writes out at most 100000 paths, got 1 · 2^17", mixture(1, 2, (17,), (1,)).flat)
