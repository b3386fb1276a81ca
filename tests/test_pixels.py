"""Images pixel by pixel: who sees whom, sums over all images, samples against their law, heads against SciPy."""

import itertools
import math
import re
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from exactness import FEW, close, everything, seeded
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from genlib import coding, data, pixels
from genlib.conditional import Conditional
from genlib.nets import MADE
from genlib.pixels import (
    AnyOrder,
    ClassMixture,
    Histogram,
    InOrder,
    Logistics,
    MaskedConv,
    PixelCNN,
    Reader,
    Softmax,
    TwoStacks,
)
from genlib.sequence import truncate

pytestmark = pytest.mark.usefixtures("double")
SEEDS = st.integers(0, 10**6)
SHAPE, LEVELS = (2, 3), 3  # 729 images
SQUARE = (3, 3)  # 512 images of two levels
PRIOR = (0.35, 0.65)


class Dense(nn.Sequential):
    """Two numbers a pixel → `size` numbers a pixel, by one hidden layer for the whole image."""

    def __init__(self, shape, size, hidden=12):
        pixels = math.prod(shape)
        layers = [nn.Linear(2 * pixels, hidden), nn.Tanh(), nn.Linear(hidden, pixels * size)]
        super().__init__(nn.Flatten(), *layers, nn.Unflatten(1, (*shape, size)))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed))


def images(n, shape=SHAPE, levels=LEVELS, seed=0):
    return torch.randint(levels, (n, *shape), generator=seeded(seed))


def all_images(shape=SHAPE, levels=LEVELS):
    return everything(levels, math.prod(shape)).unflatten(1, shape)


def order_of(shape, seed=5):
    return torch.randperm(math.prod(shape), generator=seeded(seed))


def shaken(model, seed=0, spread=0.5):
    generator = seeded(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += spread * torch.randn(p.shape, generator=generator)
    return model.eval()


def histogram(shape, levels, curves=3):
    return Histogram(images(5, shape, levels, seed=9), levels, curves)


def cnn(head, shape=SHAPE, condition=0, blocks=2):
    return PixelCNN(head, shape, 6, blocks, condition=condition)


def in_order(shape, levels, order=None):
    places = math.prod(shape)
    order = order_of(shape) if order is None else order
    return InOrder(MADE(places, levels, (8 * places,)), Softmax(levels), shape, order)


def any_order(shape, levels, order=None):
    order = order_of(shape) if order is None else order
    return AnyOrder(Dense(shape, levels), Softmax(levels), shape, order)


def mixture(shape=SHAPE, levels=LEVELS, prior=PRIOR):
    return ClassMixture(cnn(Softmax(levels), shape, condition=3), torch.tensor(prior))


MODELS = {
    "softmax": lambda shape, levels: cnn(Softmax(levels), shape),
    "logistics": lambda shape, levels: cnn(Logistics(levels, 2), shape),
    "histogram": lambda shape, levels: cnn(histogram(shape, levels), shape),
    "told": lambda shape, levels: cnn(histogram(shape, levels), shape, 2),
    "no blocks": lambda shape, levels: cnn(Softmax(levels), shape, blocks=0),
    "two stacks": lambda shape, levels: TwoStacks(histogram(shape, levels), shape, 4, 3),
    "in order": in_order,
    "any order": any_order,
    "mixture": mixture,
}
every = pytest.mark.parametrize("name", MODELS)
HASTY = [name for name in MODELS if name != "any order"]  # whose loss is −log p(x)


def made(name, shape=SHAPE, levels=LEVELS, seed=0):
    torch.manual_seed(seed)
    model = shaken(MODELS[name](shape, levels), seed)
    return model.given(noise(1, 2, seed=seed)) if name == "told" else model


def rank(model):
    """At which step each pixel comes, (H W,), by hand."""
    return torch.tensor([model.order.tolist().index(pixel) for pixel in range(len(model.order))])


def influence(model, shape, levels):
    """Which pixels' conditionals (column) any change of a pixel (row) changes, (H W, H W) bool."""
    places = math.prod(shape)
    x = images(1, shape, levels, seed=2).flatten()
    same = x.repeat(places, 1).view(-1, *shape)  # in a batch as large, so that all is rounded alike
    out, sees = model.log_conditionals(same).flatten(1, 2), torch.zeros(places, places)
    for step in range(1, levels):
        changed = x.repeat(places, 1)
        changed.diagonal().copy_((x + step) % levels)
        others = model.log_conditionals(changed.view(-1, *shape)).flatten(1, 2)
        sees += (others != out).any(-1)
    return sees > 0


def follows(samples, log_p, levels=LEVELS, least=1e-4):
    """Samples (n, H, W) of images have these log-probabilities, in the order of `everything`; rare ones are pooled."""
    places = samples[0].numel()
    index = (samples.flatten(1) * levels ** torch.arange(places - 1, -1, -1)).sum(1)
    seen = torch.bincount(index, minlength=levels**places).double()
    expected = log_p.exp() * len(samples)
    assert abs(expected.sum() - len(samples)) < 1e-6 * len(samples)
    assert seen[log_p == -math.inf].sum() == 0
    rare = expected < 8
    seen, expected = (torch.cat([v[~rare], v[rare].sum()[None]]) for v in (seen, expected))
    if expected[-1] < 1e-9:
        seen, expected = seen[:-1], expected[:-1]
    return stats.chisquare(seen.numpy(), expected.numpy(), sum_check=False).pvalue > least


def completions(log_p, x, order, prefix):
    """The law of the images that begin with the prefix, from the joint law."""
    begins = (x.flatten(1)[:, order[: len(prefix)]] == prefix).all(1)
    return log_p.masked_fill(~begins, -math.inf).log_softmax(0)


def near(actual, expected):
    torch.testing.assert_close(actual.detach(), expected.detach(), rtol=1e-12, atol=1e-12)


def refused(message, job, *args, **settings):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        job(*args, **settings)


# heads


def test_a_softmax_head_takes_its_numbers_for_logits():
    head = Softmax(5)
    h = noise(2, 3, 4, 5)
    assert head.size == head.levels == 5
    assert torch.equal(head(h), h)


@FEW
@given(SEEDS, st.sampled_from([2, 3, 5, 17]), st.sampled_from([1, 2, 4]))
def test_logistics_are_differences_of_cdfs_with_open_ends(seed, levels, components):
    head = shaken(Logistics(levels, components), seed)
    assert (head.levels, head.size) == (levels, 3 * components)
    weight, centre, log_width = h = noise(3, 2, 1, 2, components, seed=seed)
    got = head(torch.cat(list(h), -1))
    inner = 2 * (np.arange(1, levels) - 0.5) / (levels - 1) - 1
    edges = np.concatenate([[-np.inf], inner, [np.inf]])
    loc, scale = (centre + head.start).detach().numpy()[..., None], np.exp(log_width.numpy() - 2)[..., None]
    p = np.diff(stats.logistic.cdf(edges, loc, scale), axis=-1)  # (2, 1, 2, C, K)
    close(got.exp(), (weight.softmax(-1)[..., None] * torch.from_numpy(p)).sum(-2))
    close(got.exp().sum(-1), torch.ones(2, 1, 2))


def exact_log_p(levels, centre, log_width):
    """log-probabilities of one logistic variable, rounded, with 320 digits."""
    with localcontext() as context:
        context.prec = 320
        edges = [(Decimal(2 * k - 1) / (levels - 1) - 1 - centre) for k in range(1, levels)]
        cdf = [1 / (1 + (-(e * (2 - Decimal(log_width)).exp())).exp()) for e in edges]
        cdf = [Decimal(0), *cdf, Decimal(1)]
        return torch.tensor([float((high - low).ln()) for low, high in itertools.pairwise(cdf)])


@pytest.mark.parametrize("levels", [2, 9])
@pytest.mark.parametrize("centre", [-30, 0, 2])
@pytest.mark.parametrize("log_width", [-1, 1, 20, 40])
def test_logistics_are_right_far_out_in_both_tails(levels, centre, log_width):
    head = Logistics(levels, 1)
    got = head(torch.tensor([0.7, centre, log_width]).view(1, 1, 1, 3)).flatten()
    near(got, exact_log_p(levels, centre, log_width))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [2, 17])
def test_extreme_centres_and_widths_leave_numbers_and_gradients_finite(dtype, levels):
    head = Logistics(levels, 2).to(dtype)
    far = torch.tensor([-1000.0, -1.0, 0.0, 0.05, 1000.0])
    wide = torch.tensor([-50.0, -10.0, 0.0, 17.0, 50.0])
    centre, log_width = torch.cartesian_prod(far, wide).T
    other = torch.zeros(25)  # the second component
    rows = [noise(25), other - 300, centre, other, log_width, other]
    h = torch.stack(rows, -1).to(dtype).view(25, 1, 1, 6).requires_grad_()
    log_p = head(h)
    assert log_p.isfinite().all()
    close(log_p.exp().sum(-1).detach(), torch.ones(25, 1, 1, dtype=dtype), 20 * torch.finfo(dtype).eps)
    for k in range(levels):
        gradients = torch.autograd.grad(log_p[..., k].sum(), [h, head.start], retain_graph=True)
        assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("levels", [2, 17])
def test_histograms_without_tilts_are_smoothed_frequencies(levels):
    x = images(7, (2, 3), levels)
    head = Histogram(x, levels, 4)
    p = head(torch.zeros(1, 2, 3, 4)).softmax(-1)[0]
    for i, j, k in itertools.product(range(2), range(3), range(levels)):
        count = sum(int(image[i, j]) == k for image in x)
        close(p[i, j, k].detach(), (count + 0.5) / (7 + levels / 2))


@FEW
@given(SEEDS, st.sampled_from([2, 17]), st.sampled_from([1, 2, 3, 8]))
def test_histograms_are_tilted_by_their_curves(seed, levels, curves):
    head, a = Histogram(images(4, (2, 2), levels), levels, curves), noise(3, 2, 2, curves, seed=seed)
    u = torch.arange(levels) / (levels - 1)
    begin = [2 * u - 1, (2 * u - 1) ** 2, *(torch.cos(torch.pi * k * u) for k in range(3, 9))][:curves]
    close(head.curves.detach(), torch.stack(begin))
    assert head.size == curves
    shaken(head, seed)
    got = head(a).detach()
    for b, i, j in itertools.product(range(3), range(2), range(2)):
        tilt = sum(a[b, i, j, m] * head.curves[m] for m in range(curves))
        close(got[b, i, j], (head.log_h[i, j] + tilt).detach())


# who sees whom


@every
@pytest.mark.parametrize(("shape", "levels"), [(SHAPE, LEVELS), (SQUARE, 2), ((4, 5), 4)])
def test_no_pixel_sees_itself_or_one_after_it(name, shape, levels):
    model = made(name, shape, levels)
    sees, step = influence(model, shape, levels), rank(model)
    assert not sees[step[:, None] >= step].any()  # not a bit of the output changes


SEES_ALL = ["two stacks", "in order", "any order", "mixture"]


@pytest.mark.parametrize("name", SEES_ALL)
@pytest.mark.parametrize(("shape", "levels"), [(SHAPE, LEVELS), (SQUARE, 2)])
def test_every_pixel_before_is_seen(name, shape, levels):
    model = made(name, shape, levels)
    step = rank(model)
    assert torch.equal(influence(model, shape, levels), step[:, None] < step)


def seen_from(sees, pixel):
    """A picture of the pixels that one pixel sees, x itself, a string for each row."""
    row, column = pixel
    picture = [["#" if seen else "." for seen in line] for line in sees[:, row * 8 + column].view(8, 8)]
    picture[row][column] = "x"
    return ["".join(line) for line in picture]


def by_masks(blocks):
    """What each pixel of 8 × 8 sees through the windows of 5 and then of 3, (64, 64) bool."""
    first = [(-2, d) for d in range(-2, 3)] + [(-1, d) for d in range(-2, 3)] + [(0, -2), (0, -1)]
    inner = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0)]

    def through(window, found):
        return {
            (i, j): set().union(*(found.get((i + a, j + b), set()) for a, b in window))
            for i, j in itertools.product(range(8), range(8))
        }

    found = through(first, {(i, j): {(i, j)} for i, j in itertools.product(range(8), range(8))})
    for _ in range(blocks):
        found = through(inner, found)
    sees = torch.zeros(64, 64, dtype=torch.bool)
    for (i, j), those in found.items():
        for row, column in those:
            sees[row * 8 + column, i * 8 + j] = True
    return sees


@pytest.mark.parametrize("blocks", [0, 1, 2, 4])
def test_masked_convolutions_see_what_their_masks_say(blocks):
    model = shaken(cnn(Softmax(3), (8, 8), blocks=blocks))
    assert torch.equal(influence(model, (8, 8), 3), by_masks(blocks))


def test_masked_convolutions_have_a_blind_spot_at_the_upper_right():
    sees = influence(shaken(cnn(Softmax(3), (8, 8))), (8, 8), 3)
    nothing = 2 * ["........"]
    assert seen_from(sees, (5, 3)) == [
        "........",
        "########",
        "########",
        "#######.",
        "######..",
        "###x....",
        *nothing,
    ]
    assert seen_from(sees, (2, 0)) == ["####....", "###.....", "x.......", *nothing, *nothing, "........"]
    deep = influence(shaken(cnn(Softmax(3), (8, 8), blocks=8), spread=0.3), (8, 8), 3)
    assert seen_from(deep, (4, 0)) == [  # however many blocks there are
        "######..",
        "#####...",
        "####....",
        "###.....",
        "x.......",
        *nothing,
        "........",
    ]


@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_two_stacks_see_a_box_above_and_their_row_and_at_last_all(blocks):
    model = shaken(TwoStacks(Softmax(3), (8, 8), 4, blocks), 1)
    sees = influence(model, (8, 8), 3).view(8, 8, 8, 8)
    for i, j, row, column in itertools.product(range(8), repeat=4):
        above = i - 1 - blocks <= row < i and abs(column - j) <= blocks
        left = row == i and j - 1 - blocks <= column < j
        assert sees[row, column, i, j] == (above or left)
    if blocks == 7:
        assert torch.equal(sees.view(64, 64), torch.ones(64, 64).triu(1) > 0)


@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_masked_convolution_is_a_sum_over_its_window(size, itself):
    layer, x = shaken(MaskedConv(2, 3, size, itself=itself)), noise(1, 2, 4, 5)
    got, reach = layer(x), size // 2
    for i, j in itertools.product(range(4), range(5)):
        expected = layer.bias.clone()
        for a, b in itertools.product(range(-reach, 1), range(-reach, reach + 1)):
            seen = a < 0 or b < 0 or (b == 0 and itself)
            if seen and i + a >= 0 and 0 <= j + b < 5:
                expected = expected + layer.weight[:, :, reach + a, reach + b] @ x[0, :, i + a, j + b]
        close(got[0, :, i, j].detach(), expected.detach())


def test_a_block_adds_what_it_finds_to_what_it_has():
    block, h, c = shaken(pixels.Block(3, (1, 1), 2, 0.5)), noise(4, 3), noise(4, 2, seed=1)
    silu, look, back = nn.functional.silu, block.look, block.back
    itself = silu(h) @ look.weight[:, :, 1, 1].T + look.bias + block.told(c)[..., 0, 0]
    expected = h + silu(itself) @ back.weight[..., 0, 0].T + back.bias
    close(block(h[..., None, None], c)[..., 0, 0].detach(), expected.detach())


def test_stacks_keep_what_they_have_where_later_blocks_find_nothing():
    deep, x = shaken(TwoStacks(Softmax(3), SHAPE, 4, 3)), images(5)
    short = TwoStacks(Softmax(3), SHAPE, 4, 1).eval()
    short.load_state_dict({k: v for k, v in deep.state_dict().items() if k in short.state_dict()})
    assert not torch.allclose(deep.log_prob(x), short.log_prob(x))
    for layer in deep.back[1:]:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    close(deep.log_prob(x), short.log_prob(x))


# probabilities


@every
@pytest.mark.parametrize(("shape", "levels"), [(SHAPE, LEVELS), (SQUARE, 2)])
def test_the_probabilities_of_all_images_sum_to_1(name, shape, levels):
    with torch.no_grad():
        log_p = made(name, shape, levels).log_prob(all_images(shape, levels))
    close(log_p.exp().sum(), 1.0)
    assert log_p.std() > 0.5


@every
def test_a_log_probability_is_the_sum_of_its_factors(name):
    model, x = made(name), images(6)
    log_q, factors = model.log_conditionals(x).detach(), model.log_factors(x).detach()
    assert log_q.shape == (6, *SHAPE, LEVELS)
    close(log_q.exp().sum(-1), torch.ones(6, *SHAPE))
    for b, i, j in itertools.product(range(6), range(2), range(3)):
        assert factors[b, i, j] == log_q[b, i, j, x[b, i, j]]
    close(model.log_prob(x).detach(), factors.sum((1, 2)))
    if name in HASTY:
        assert torch.equal(model.loss(x), -model.log_prob(x))


def test_picked_takes_each_pixels_own_level():
    log_q, x = noise(2, 3, 4, 5, 6), images(3, (4, 5), 6)
    got = pixels.picked(log_q, x)
    assert got.shape == (2, 3, 4, 5)
    for a, b, i, j in itertools.product(range(2), range(3), range(4), range(5)):
        assert got[a, b, i, j] == log_q[a, b, i, j, x[b, i, j]]


@every
def test_conditionals_are_ratios_of_sums_over_images(name):
    """p(x_t | before) = Σ p(images with all up to t) / Σ p(images with all before t)."""
    model, x = made(name, SQUARE, 2), all_images(SQUARE, 2)
    p = model.log_prob(x).exp().detach()
    image = images(1, SQUARE, 2, seed=4)
    factors = model.log_factors(image).flatten().detach()
    agree = x.flatten(1) == image.flatten()
    for t, place in enumerate(model.order):
        before = agree[:, model.order[:t]].all(1)
        close(factors[place].exp(), p[before & agree[:, place]].sum() / p[before].sum())


@every
@pytest.mark.parametrize("plain", [True, False])
def test_readers_tell_the_conditionals_pixel_by_pixel(name, plain):
    model, x = made(name, (4, 5), 4), images(3, (4, 5), 4)
    reader = Reader(model, 3) if plain else model.reader(3)
    with torch.no_grad():
        expected = model.log_conditionals(x).flatten(1, 2)
        for t, place in enumerate(model.order):
            near(reader.log_q(), expected[:, place])
            reader.put(x.flatten(1)[:, place])
            assert reader.t == t + 1
    assert torch.equal(reader.x, x)


def test_only_what_is_new_is_computed_by_a_cached_reader():
    for name in ("told", "mixture"):
        model, calls = made(name, (4, 5), 4), []
        inner = model.model if name == "mixture" else model
        inner.first.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        x = model.sample((3,), generator=seeded())
        assert not calls
        assert torch.equal(model.sample((3,), cached=False, generator=seeded()), x)
        assert len(calls) == 20


@every
def test_with_and_without_the_cache_the_same_images_are_drawn(name):
    model = made(name, (4, 5), 4)
    for settings in ({}, {"prefix": torch.tensor([3, 0, 1]), "temperature": 0.6}):
        x = model.sample((40,), generator=seeded(3), **settings)
        assert torch.equal(model.sample((40,), cached=False, generator=seeded(3), **settings), x)
        assert x.dtype == torch.int64
        assert len(x.unique(dim=0)) > 20


# samples


@every
def test_samples_follow_the_law(name):
    model, x = made(name, SHAPE, 2), all_images(SHAPE, 2)
    drawn = model.sample((4000,), generator=seeded(1))
    assert follows(drawn, model.log_prob(x).detach(), 2)
    assert not follows(drawn, model.log_prob(x.flip(2)).detach(), 2)


@every
def test_a_prefix_is_kept_and_completed_by_the_conditional_law(name):
    model, x = made(name, SHAPE, 2), all_images(SHAPE, 2)
    prefix = torch.tensor([1, 0])
    drawn = model.sample((4000,), prefix=prefix, generator=seeded(2))
    assert (drawn.flatten(1)[:, model.order[:2]] == prefix).all()
    assert follows(drawn, completions(model.log_prob(x).detach(), x, model.order, prefix), 2)
    whole = images(1, SHAPE, 2, seed=8)
    prefix = whole.flatten()[model.order]
    assert torch.equal(model.sample((3,), prefix=prefix), whole.expand(3, 2, 3))
    nothing = model.sample((5,), prefix=prefix[:0], generator=seeded(4))
    assert torch.equal(nothing, model.sample((5,), generator=seeded(4)))


def test_the_class_is_drawn_given_the_prefix():
    """The prefix nearly settles the class, against the prior, and the class the pixels to come."""
    model, x = mixture(SHAPE, 2, (0.9, 0.1)), all_images(SHAPE, 2)
    shaken(model)
    with torch.no_grad():
        model.model.last.weight *= 4
    joint = model.log_joint(x).detach()  # (64, 2)
    for seed, prefix in enumerate(torch.cartesian_prod(torch.arange(2), torch.arange(2))):
        law = completions(joint.logsumexp(1), x, model.order, prefix)
        given_c = [completions(joint[:, c], x, model.order, prefix) for c in range(2)]
        careless = torch.logsumexp(torch.stack(given_c) + model.log_prior[:, None], 0)
        drawn = model.sample((4000,), prefix=prefix, generator=seeded(seed))
        assert follows(drawn, law, 2)
        if (law.exp() - careless.exp()).abs().sum() > 0.3:
            assert not follows(drawn, careless, 2)
            break
    else:
        pytest.fail("no prefix tells the class")


def law_at(model, x, temperature):
    """log-probabilities of images drawn at a temperature."""
    if isinstance(model, ClassMixture):
        each = [model.model.given(c[None]) for c in torch.eye(2, 3)]
        laws = [law_at(told, x, temperature) for told in each]
        return torch.logsumexp(torch.stack(laws) + model.log_prior[:, None], 0)
    log_q = truncate(model.log_conditionals(x), temperature=temperature)
    return pixels.picked(log_q, x).flatten(1).sum(1).detach()


@every
def test_a_temperature_divides_the_logits(name):
    model, x = made(name, SHAPE, 2), all_images(SHAPE, 2)
    drawn = model.sample((4000,), temperature=0.5, generator=seeded(5))
    assert follows(drawn, law_at(model, x, 0.5), 2)
    assert not follows(drawn, law_at(model, x, 1.0), 2)


def greedy(model, shape):
    x = torch.zeros(1, *shape, dtype=torch.long)
    for place in model.order:
        x.flatten(1)[:, place] = model.log_conditionals(x).flatten(1, 2)[:, place].argmax(-1)
    return x[0]


@every
def test_without_warmth_the_surest_level_is_taken(name):
    model = made(name)
    drawn = model.sample((50,), temperature=1e-6, generator=seeded()).unique(dim=0)
    if name == "mixture":
        expected = torch.stack([greedy(model.model.given(c[None]), SHAPE) for c in torch.eye(2, 3)])
        assert torch.equal(drawn, expected.unique(dim=0))
    else:
        assert torch.equal(drawn, greedy(model, SHAPE)[None])


@every
def test_dropout_is_out_while_drawing_and_in_again_after(name):
    model = made(name)
    x = model.sample((5,), generator=seeded())
    model.train()
    assert torch.equal(model.sample((5,), generator=seeded()), x)
    assert torch.equal(model.sample((5,), cached=False, generator=seeded()), x)
    assert all(part.training for part in model.modules())


@pytest.mark.parametrize("kind", [PixelCNN, TwoStacks])
def test_at_first_pixels_are_their_histograms(kind):
    shape, x = (3, 4), images(6, (3, 4), 5)
    model = kind(Histogram(x, 5, 4), shape)
    counts = nn.functional.one_hot(x, 5).sum(0) + 0.5
    p = (counts / 8.5).expand(6, 3, 4, 5).gather(-1, x[..., None])[..., 0]
    close(model.log_prob(x).detach(), p.log().sum((1, 2)))


@every
def test_every_parameter_learns(name):
    model = made(name).train()
    torch.manual_seed(0)
    model.loss(images(30)).mean().backward()
    for label, p in model.named_parameters():
        assert p.numel() == 0 or p.grad.abs().sum() > 0, label


# conditions


def test_under_many_conditions_each_image_has_its_own():
    model, c, x = shaken(cnn(Softmax(3), SHAPE, 2)), noise(5, 2), images(5)
    together = model.given(c)
    assert model.c is None
    assert all(a is b for a, b in zip(together.parameters(), model.parameters(), strict=True))
    alone = torch.stack([model.given(c[b : b + 1]).log_prob(x[b : b + 1])[0] for b in range(5)])
    close(together.log_prob(x).detach(), alone.detach())
    assert not torch.allclose(together.log_prob(x), model.given(c.flip(0)).log_prob(x))
    reader = together.reader(5)
    with torch.no_grad():
        for place, level in enumerate(x.flatten(1).T):
            close(reader.log_q(), together.log_conditionals(x).flatten(1, 2)[:, place])
            reader.put(level)
    whole = torch.tensor([[0, 1]])
    close(model.given(whole).log_prob(x), model.given(whole.double()).log_prob(x))  # one-hot, as it comes


def test_the_condition_is_weighed_at_each_pixel():
    bias, c = shaken(pixels.Bias(3, (2, 2), 4)), noise(5, 4)
    expected = [bias.always + sum(row[k] * bias.weight[k] for k in range(4)) for row in c]
    close(bias(c).detach(), torch.stack(expected).detach())
    plain = shaken(pixels.Bias(3, (2, 2)))
    assert torch.equal(plain(None), plain.always[None])


def test_a_conditional_model_speaks_for_several_conditions():
    base, c = shaken(cnn(Softmax(2), SHAPE, 2), 3), 2 * noise(2, 2, seed=1)
    model, x = Conditional(base, 2), all_images(SHAPE, 2)
    assert model.event_shape == SHAPE
    laws = [model(row).log_prob(x).detach() for row in c]
    drawn = model(c).sample((3000,), generator=seeded(1))
    assert drawn.shape == (3000, 2, *SHAPE)
    for b, law in enumerate(laws):
        close(law.exp().sum(), 1.0)
        assert follows(drawn[:, b], law, 2)
        assert not follows(drawn[:, b], laws[1 - b], 2)
    pair = x[[5, 40]]
    close(model(c).log_prob(pair).detach(), torch.stack([laws[0][5], laws[1][40]]))
    close(model.loss(pair, c), -model(c).log_prob(pair))
    begun = model(c[0]).sample((4,), prefix=torch.tensor([1, 1]), temperature=0.5, generator=seeded())
    assert (begun[:, 0, :2] == 1).all()


# orders


def test_in_another_order_it_is_the_model_of_the_pixels_in_that_order():
    order = order_of(SHAPE)
    net = shaken(MADE(6, 3, (12, 12)))
    moved, plain = (InOrder(net, Softmax(3), SHAPE, o) for o in (order, None))
    x = all_images()
    in_a_row = x.flatten(1)[:, order].view_as(x)
    close(moved.log_prob(x), plain.log_prob(in_a_row))
    factors = moved.log_factors(x).flatten(1)
    close(factors[:, order], plain.log_factors(in_a_row).flatten(1))
    assert not torch.allclose(moved.log_prob(x), plain.log_prob(x))
    assert torch.equal(plain.order, torch.arange(6))


def test_a_head_keeps_to_its_pixels_in_any_order():
    """All tilts 0: each pixel has its own histogram, whenever it comes."""
    head = histogram(SHAPE, 3)
    x, h = images(4), head.log_h.detach()
    expected = h.expand(4, *h.shape).gather(-1, x[..., None])[..., 0]
    silent = Dense(SHAPE, 3)
    nn.init.zeros_(silent[3].weight)
    nn.init.zeros_(silent[3].bias)
    for model in (
        InOrder(MADE(6, 3, (12,)), head, SHAPE, order_of(SHAPE)),
        AnyOrder(silent, head, SHAPE, order_of(SHAPE)),
    ):
        close(model.log_factors(x).detach(), expected)


def test_what_any_order_sees_is_levels_and_a_mask():
    model, x = made("any order"), images(4)
    seen = images(4, levels=2, seed=3) > 0
    inputs = []
    model.net.register_forward_hook(lambda _, given, out: inputs.append(given[0]))
    logits = model.given_seen(x, seen)
    close(inputs[0][:, 0], torch.where(seen, x - 1.0, 0.0))
    assert torch.equal(inputs[0][:, 1], seen.double())
    assert torch.equal(model.given_seen(torch.where(seen, x, 2 - x), seen), logits)


def all_orders(model, x):
    """log p(x) in each order, (orders, B)."""
    places = itertools.permutations(range(math.prod(model.event_shape)))
    return torch.stack([model.ordered(torch.tensor(order)).log_prob(x) for order in places]).detach()


def test_each_order_is_a_law_of_its_own():
    model, x = made("any order", (2, 2), 3), all_images((2, 2), 3)
    log_p = all_orders(model, x)
    assert len(log_p) == 24
    close(log_p.exp().sum(1), torch.ones(24))
    assert (log_p[0] - log_p[1]).abs().max() > 0.01
    assert torch.equal(model.ordered(model.order).log_prob(x), model.log_prob(x))
    order = torch.tensor([2, 0, 3, 1])
    other = model.ordered(order)
    assert torch.equal(other.order, order)
    assert other.net is model.net
    assert other.head is model.head
    drawn = other.sample((4000,), generator=seeded())
    assert follows(drawn, other.log_prob(x).detach())


@pytest.mark.parametrize(("shape", "n"), [((1, 3), 20_000), ((2, 2), 40_000)])
def test_the_loss_of_any_order_is_right_in_the_mean(shape, n):
    model = shaken(any_order(shape, 3), 1, 1.5)
    for x in images(2, shape, 3, seed=6):
        exact = -all_orders(model, x[None]).mean()
        torch.manual_seed(0)
        with torch.no_grad():
            loss = model.loss(x.expand(n, *shape))
        assert loss.shape == (n,)
        assert abs(loss.mean() - exact) < 4.5 * loss.std() / math.sqrt(n)
        assert 4.5 * loss.std() / math.sqrt(n) < 0.03 * exact  # so that this says something
    steps = {round(value, 9) for value in loss.tolist()}
    sets = 2 ** math.prod(shape) - 1  # of the unseen
    assert len(steps) <= sets


# classes


def test_a_mixture_is_a_sum_over_classes_and_classifies_by_bayes():
    model, x = made("mixture"), images(6)
    told = [model.model.given(c.expand(6, 3)) for c in torch.eye(2, 3)]
    joint = torch.stack([math.log(p) + t.log_prob(x) for p, t in zip(PRIOR, told, strict=True)], 1).detach()
    close(model.log_joint(x).detach(), joint)
    close(model.log_prob(x).detach(), joint.exp().sum(1).log())
    posterior = joint.exp() / joint.exp().sum(1, keepdim=True)
    close(model.log_joint(x).softmax(1).detach(), posterior)
    assert (posterior - torch.tensor(PRIOR)).abs().max() > 0.1


def test_a_class_that_never_comes_is_left_out():
    model, x = shaken(mixture(prior=(0.0, 1.0))), images(6)
    alone = model.model.given(torch.eye(2, 3)[1:])
    close(model.log_prob(x), alone.log_prob(x))
    close(model.log_conditionals(x), alone.log_conditionals(x))
    model.loss(x).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_prior_in_float32_leaves_a_model_in_float64_exact():
    model = ClassMixture(cnn(Softmax(3), condition=3), torch.full((3,), 1 / 3, dtype=torch.float32))
    shaken(model.double())
    with torch.no_grad():
        close(model.log_prob(all_images()).exp().sum(), 1.0)


def test_one_class_is_told_as_a_one():
    model = mixture()
    assert torch.equal(model.each(2), torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]]))


# what is refused


def bad_order(order):
    return lambda: any_order((2, 2), 2, order)


REFUSED = {
    "order twice": (bad_order(torch.tensor([0, 1, 1, 3])), "order must be a permutation of 0 to 3, got [0,"),
    "order too short": (bad_order(torch.arange(3)), "order must be a permutation of 0 to 3, got [0, 1, 2]"),
    "order from 1": (bad_order(torch.arange(1, 5)), "order must be a permutation of 0 to 3, got [1,"),
    "order in rows": (bad_order(torch.arange(4).view(2, 2)), "order must be a permutation of 0 to 3"),
    "order of MADE": (
        lambda: in_order((2, 2), 2, torch.zeros(4).long()),
        "order must be a permutation of 0 to 3",
    ),
    "new order": (
        lambda: any_order((2, 2), 2).ordered(torch.tensor([3, 2, 1])),
        "order must be a permutation of 0 to 3",
    ),
    "event shape": (lambda: cnn(Softmax(3), (0, 3)), "event_shape must be a whole number of at least 1"),
    "levels of softmax": (lambda: Softmax(1), "levels must be a whole number of at least 2, got 1"),
    "levels of logistics": (lambda: Logistics(2.0), "levels must be a whole number of at least 2, got 2.0"),
    "components": (lambda: Logistics(3, 0), "components must be a whole number of at least 1, got 0"),
    "levels of histogram": (lambda: Histogram(images(2), 1), "levels must be a whole number of at least 2"),
    "curves": (lambda: Histogram(images(2), 3, 0), "curves must be a whole number of at least 1"),
    "images of histogram": (lambda: Histogram(3 + images(2), 3), "images must lie between 0 and 2, got"),
    "size": (lambda: MaskedConv(1, 1, 4, itself=True), "size must be odd, got 4"),
    "size 0": (lambda: MaskedConv(1, 1, 0, itself=True), "size must be a whole number of at least 1, got 0"),
    "width": (lambda: PixelCNN(Softmax(3), SHAPE, 0), "width must be a whole number of at least 1, got 0"),
    "blocks": (lambda: cnn(Softmax(3), blocks=-1), "blocks must be a whole number of at least 0, got -1"),
    "dropout": (lambda: PixelCNN(Softmax(3), SHAPE, dropout=1.0), "dropout must lie in [0, 1), got 1.0"),
    "condition": (lambda: cnn(Softmax(3), condition=-1), "condition must be a whole number of at least 0"),
    "width of stacks": (
        lambda: TwoStacks(Softmax(3), SHAPE, 0),
        "width must be a whole number of at least 1",
    ),
    "blocks of stacks": (
        lambda: TwoStacks(Softmax(3), SHAPE, blocks=0),
        "blocks must be a whole number of at least 1",
    ),
    "dropout of stacks": (
        lambda: TwoStacks(Softmax(3), SHAPE, dropout=-0.1),
        "dropout must be a finite number of at least 0",
    ),
    "c of another size": (
        lambda: cnn(Softmax(3), condition=2).given(torch.zeros(1, 3)),
        "c must have shape (B, 2), got (1, 3)",
    ),
    "prior too long": (
        lambda: ClassMixture(cnn(Softmax(3), condition=2), torch.full((4,), 0.25)),
        "prior must have shape (C,) with C at most 2, got (4,)",
    ),
    "prior in rows": (
        lambda: ClassMixture(cnn(Softmax(3), condition=2), torch.full((1, 2), 0.5)),
        "prior must have shape (C,) with C at most 2, got (1, 2)",
    ),
    "prior that sums to 2": (
        lambda: ClassMixture(cnn(Softmax(3), condition=2), torch.ones(2)),
        "prior must sum to 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_cannot_be_are_refused(name):
    job, message = REFUSED[name]
    refused(message, job)


@every
def test_images_that_fit_no_model_are_refused(name):
    model = made(name)
    says = [model.log_prob, model.log_conditionals, model.log_factors, model.loss]
    for say in [*says, model.log_joint] if name == "mixture" else says:
        refused("x must lie between 0 and 2, got values from 0 to 3", say, images(9, levels=4))
        refused("x must lie between 0 and 2, got values from -1 to 1", say, images(9) - 1)
        refused("x must have shape (..., 2, 3), got (2, 3, 2)", say, images(2, (3, 2)))
        refused("x must have shape (B, 2, 3), got (2, 3)", say, images(1)[0])
        refused("x must have shape (B, 2, 3), got (1, 1, 2, 3)", say, images(1)[None])
        refused("x must hold whole numbers, got dtype torch.float64", say, images(2).double())


@every
def test_samples_that_cannot_be_drawn_are_refused(name):
    draw = made(name).sample
    long, state = torch.zeros(7, dtype=torch.long), torch.get_rng_state()
    refused("prefix must have shape (P,) with P at most 6, got (7,)", draw, (2,), prefix=long)
    refused("prefix must have shape (P,) with P at most 6, got (1, 2)", draw, (2,), prefix=long[None, :2])
    refused("prefix must lie between 0 and 2, got values from 3 to 3", draw, (2,), prefix=long[:2] + 3)
    refused("prefix must lie between 0 and 2, got values from -1 to -1", draw, (2,), prefix=long[:2] - 1)
    refused("prefix must hold whole numbers, got dtype", draw, (2,), prefix=torch.zeros(2))
    refused("prefix must be a torch tensor, got list", draw, (2,), prefix=[0, 1])
    refused("shape must be a tuple (n,)", draw, 2)
    assert torch.equal(torch.get_rng_state(), state)
    for temperature in (0, -1.0, math.nan, math.inf, True, "1"):
        refused("temperature must be a", draw, (2,), temperature=temperature)


def test_a_condition_that_is_missing_is_told():
    model, message = cnn(Softmax(3), condition=2), "c must be given: the model was made for 2 numbers"
    refused(message, model.log_prob, images(2))
    refused(message, model.sample, (2,), cached=False)
    refused(message, model.sample, (2,))  # the cached reader does not go through the whole network
    refused(message, model.reader, 2)


# by how much an image was moved


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_moved_images_went_as_far_as_is_told(share):
    x = images(300, (8, 7), 17)
    out, way = data.moved(x, share, generator=seeded(1))
    assert torch.equal(data.shifted(x, share, generator=seeded(1)), out)
    assert way.shape == (300, 2)
    assert not way.is_floating_point()
    framed = nn.functional.pad(x, (1, 1, 1, 1))
    for image, frame, (i, j) in zip(out, framed, way.tolist(), strict=True):
        rolled = frame.roll(
            (-i, -j), (0, 1)
        )  # i rows up and j columns to the left; what leaves the frame is 0
        assert torch.equal(image, rolled[1:-1, 1:-1])
    counts = {pair: way.tolist().count(list(pair)) for pair in itertools.product((-1, 0, 1), repeat=2)}
    assert (way != 0).any(1).sum() == 300 - counts[0, 0]
    if share == 0:
        assert counts[0, 0] == 300
    else:
        assert min(counts.values()) > 0
        assert abs(counts[0, 0] / 300 - (1 - share * 8 / 9)) < 0.1


# files


@pytest.mark.parametrize("name", ["histogram", "logistics", "told", "mixture", "in order"])
def test_files_are_read_back_by_the_cached_reader(name, monkeypatch):
    model = made(name, (4, 4), 5)
    x = model.sample((6,), generator=seeded())
    file = coding.compress(model, x)
    bits = -model.log_prob(x).sum().item() / math.log(2)
    assert bits <= 8 * len(file) < bits + 8 * 35
    asked = []
    told = pixels.CachedReader.log_q
    monkeypatch.setattr(pixels.CachedReader, "log_q", lambda self: asked.append(1) or told(self))
    assert torch.equal(coding.decompress(model, file), x)
    assert len(asked) == (0 if name == "in order" else 16)
    other = made(name, (4, 4), 5, seed=1)
    with pytest.raises(ValueError, match="file is damaged, or model is not the one"):
        coding.decompress(other, file)


def test_a_model_in_float32_that_is_told_writes_files_too():
    model, x = cnn(Softmax(3), condition=2).float(), images(4)
    shaken(model.double()).float()
    told = model.given(noise(4, 2).float())
    assert torch.equal(coding.decompress(told, coding.compress(told, x)), x)
