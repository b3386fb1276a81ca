"""Models of sequences: what all share, each against a reference of its own, truncation, and windows of long texts."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import scipy.stats
import torch
from exactness import FEW, REAL, STEADY, close, everything, seeded
from hypothesis import assume, example, given
from hypothesis import strategies as st

from genlib.data import pad, until_end
from genlib.sequence import Autoregressive, NGram, Recurrent, Transformer, carried, stretches, truncate

pytestmark = pytest.mark.usefixtures("double")

# truncate


def truncated_by_hand(logits, temperature=1.0, k=None, p=None):
    """Probabilities of one distribution, and the mass before each symbol when the nucleus was cut."""
    w = [math.exp((logit - max(logits)) / temperature) for logit in logits]
    order = sorted(range(len(w)), key=lambda i: -w[i])
    kept = order if k is None else order[:k]
    total = sum(w[i] for i in kept)
    before = [sum(w[i] for i in kept[:j]) / total for j in range(len(kept))]
    if p is not None:
        kept = [i for i, mass in zip(kept, before, strict=True) if mass < p]
    total = sum(w[i] for i in kept)
    return [w[i] / total if i in kept else 0.0 for i in range(len(w))], before


LOGITS = st.lists(st.integers(-8, 8).map(lambda i: i / 2) | st.just(-math.inf), min_size=1, max_size=7)


@STEADY
@given(
    LOGITS,
    st.sampled_from([0.3, 1.0, 1.7]),
    st.none() | st.integers(1, 8),
    st.none() | st.floats(0.01, 0.999),
)
def test_truncate_by_hand(logits, temperature, k, p):
    assume(max(logits) > -math.inf)
    expected, before = truncated_by_hand(logits, temperature, k, p)
    assume(p is None or min(abs(mass - p) for mass in before) > 1e-9)
    log_q = truncate(torch.tensor(logits), temperature=temperature, top_k=k, top_p=p)
    q = log_q.exp()
    assert not log_q.isnan().any()
    assert q.sum().item() == pytest.approx(1, abs=1e-12)
    close(q.sort().values, torch.tensor(expected).sort().values)  # among equals any may be kept
    out = torch.tensor(logits)[q == 0]
    assert not len(out) or out.max() <= torch.tensor(logits)[q > 0].min()
    if len(set(logits)) == len(logits):
        close(q, torch.tensor(expected))


@STEADY
@given(LOGITS, st.sampled_from([0.5, 1.0, 2.0]))
def test_nothing_is_cut_by_p_one_and_large_k(logits, temperature):
    assume(max(logits) > -math.inf)
    logits = torch.tensor(logits)
    plain = (logits / temperature).log_softmax(-1)
    close(truncate(logits, temperature=temperature), plain)
    for k in (len(logits), len(logits) + 1, 10**6):
        close(truncate(logits, temperature=temperature, top_k=k), plain)
    close(truncate(logits, temperature=temperature, top_p=1.0), plain)
    close(truncate(logits, temperature=temperature, top_k=99, top_p=1), plain)


def test_p_one_keeps_what_rounding_would_cut():
    generator = seeded()
    for logits in (torch.tensor([0.0, -20, -30]), torch.randn(200, 96, generator=generator) * 4):
        for dtype in (torch.float32, torch.float64):
            assert truncate(logits.to(dtype), top_p=1.0).isfinite().all()


def test_truncate_is_greedy_at_k_one():
    logits = torch.tensor([[0.1, 3.0, -1.0], [2.0, -math.inf, 0.0]])
    expected = torch.tensor([[0.0, 1, 0], [1, 0, 0]])
    for options in ({"top_k": 1}, {"top_p": 1e-9}, {"top_p": 1e-300}, {"temperature": 1e-3}):
        assert torch.equal(truncate(logits, **options).exp(), expected)
        assert torch.equal(truncate(logits.float(), **options).exp(), expected.float())


def test_ties():
    q = truncate(torch.zeros(5), top_k=3).exp()
    assert sorted(q.tolist()) == pytest.approx([0, 0, 1 / 3, 1 / 3, 1 / 3])
    q = truncate(torch.zeros(5), top_p=0.5).exp()
    assert sorted(q.tolist()) == pytest.approx([0, 0, 1 / 3, 1 / 3, 1 / 3])
    q = truncate(torch.zeros(4), top_p=0.5).exp()  # the mass is reached, exactly, by two
    assert sorted(q.tolist()) == [0, 0, 0.5, 0.5]


def test_the_nucleus_is_taken_from_what_k_left_at_the_temperature():
    p = torch.tensor([0.4, 0.3, 0.2, 0.1])
    # of 4/7 and 3/7 the first alone holds 0.5, which of 0.4 and 0.3 it does not
    close(truncate(p.log(), top_k=2, top_p=0.5).exp(), torch.tensor([1.0, 0, 0, 0]))
    close(truncate(p.log(), top_p=0.5).exp(), torch.tensor([4 / 7, 3 / 7, 0, 0]))
    squared = p**2 / (p**2).sum()
    close(truncate(p.log(), temperature=0.5).exp(), squared)
    close(truncate(p.log(), temperature=0.5, top_p=0.5).exp(), torch.tensor([1.0, 0, 0, 0]))


def test_truncate_reads_each_row_for_itself():
    logits = torch.randn(2, 3, 5, generator=seeded())
    for options in ({"temperature": 0.7}, {"top_k": 2}, {"top_p": 0.6}, {"top_k": 4, "top_p": 0.7}):
        together = truncate(logits, **options)
        for i, j in itertools.product(range(2), range(3)):
            close(together[i, j], truncate(logits[i, j], **options))


def test_truncate_refuses():
    logits = torch.zeros(4)
    for name, values in {
        "temperature": (0, -1.0, math.nan, math.inf, "1", None, True),
        "top_k": (0, -1, 1.5, True, "2"),
        "top_p": (0, -0.1, 1.0001, 2, math.nan, "0.5", True),
    }.items():
        for value in values:
            with pytest.raises(ValueError, match=f"^{name} must"):
                truncate(logits, **{name: value})


# what all models share

KINDS = ["ngram", "ngram-1", "modified", "rnn", "lstm", "transformer"]


def a_model(kind, vocabulary=3, end=None, seed=0):
    """A model whose conditionals are far from uniform."""
    if kind in ("ngram", "ngram-1", "modified"):
        order, discounts = {"ngram": (3, 1), "ngram-1": (1, 1), "modified": (2, 3)}[kind]
        model = NGram(vocabulary, order, discounts=discounts, end=end)
        texts = [(torch.rand(9, generator=seeded(100 * seed + i)) ** 2 * vocabulary).long() for i in range(5)]
        if end is not None:
            texts = [text[mask] for text in texts for mask in until_end(text[None], end)]
        return model.fit_counts(texts)
    if kind == "transformer":
        model = Transformer(vocabulary, 8, layers=2, heads=2, context=4, end=end)
    else:
        model = Recurrent(vocabulary, 5, cell=kind, embedding=4, end=end)
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.6, generator=generator)
    return model


every_kind = pytest.mark.parametrize("kind", KINDS)
every_network = pytest.mark.parametrize("kind", ["rnn", "lstm", "transformer"])


@every_kind
def test_probabilities_of_all_sequences_sum_to_one(kind):
    model = a_model(kind)
    for length in (1, 2, 3, 6):
        x = everything(3, length)
        log_q = model.log_prob(x)
        assert log_q.shape == (len(x),)
        assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-12)
        log_p = model.log_conditionals(x)
        assert log_p.shape == (len(x), length, 3)
        close(log_p.exp().sum(-1), torch.ones(len(x), length))
        factors = model.log_factors(x)
        close(log_p.gather(-1, x[..., None])[..., 0], factors)
        close(factors.sum(-1), log_q)
        assert torch.equal(model.loss(x), -log_q)
    assert log_q.std() > 0.5


@every_kind
def test_ended_sequences_and_open_ones_sum_to_one(kind):
    model = a_model(kind, end=1)
    ended = [
        (*row, 1) for length in range(4) for row in itertools.product((0, 2), repeat=length)
    ]  # up to 4 symbols with the end
    open_ = list(itertools.product((0, 2), repeat=4))
    x, mask = pad([torch.tensor(row) for row in ended + open_], 7)
    p = model.log_prob(x, mask).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    close(model.loss(x, mask), -p.log())
    factors = model.log_factors(x, mask)
    close(factors.sum(-1), p.log())
    assert (factors[~mask] == 0).all()
    assert (factors[mask] < 0).all()


@every_kind
def test_one_symbol_after_the_other_gives_the_same(kind):
    model = a_model(kind)
    x = torch.randint(3, (2, 11), generator=seeded(1))
    x[:, 0] = 3
    whole, _ = model(x)
    assert whole.shape == (2, 11, 3)
    for sizes in ([1] * 11, [2, 3, 1, 5], [5, 4, 2], [1, 10], [4, 4, 3]):
        state, parts = None, []
        for part in x.split(sizes, 1):
            logits, state = model(part, state)
            parts.append(logits)
        close(torch.cat(parts, 1), whole)


@every_kind
def test_conditionals_are_those_of_the_forward_pass_after_the_start(kind):
    model = a_model(kind)
    x = torch.randint(3, (4, 9), generator=seeded(2))
    logits, _ = model(torch.cat([torch.full((4, 1), 3), x[:, :-1]], 1))
    close(model.log_conditionals(x), logits.log_softmax(-1))


@every_kind
def test_later_symbols_do_not_matter(kind):
    model = a_model(kind)
    x = torch.randint(3, (3, 9), generator=seeded(3))
    before = model.log_conditionals(x)
    for t in range(9):
        other = x.clone()
        other[:, t:] = (other[:, t:] + 1 + torch.randint(2, (3, 9 - t), generator=seeded(t))) % 3
        after = model.log_conditionals(other)
        assert torch.equal(before[:, : t + 1], after[:, : t + 1])
        if t < 8 and kind != "ngram-1":
            assert not torch.equal(before[:, t + 1], after[:, t + 1])


@every_kind
@pytest.mark.parametrize("end", [None, 0])
def test_padding_does_not_matter(kind, end):
    model = a_model(kind, end=end)
    texts = [[1, 2, 2, 1, 1, 2, 1], [2], [1, 1, 2, 0], [2, 2, 1, 2, 1, 0], [0]]
    x, mask = pad([torch.tensor(text) for text in texts])
    log_q = model.log_prob(x, mask)
    log_p = model.log_conditionals(x, mask)
    for i, text in enumerate(texts):
        alone = torch.tensor([text])
        close(log_q[i : i + 1], model.log_prob(alone))
        close(log_p[i : i + 1, : len(text)], model.log_conditionals(alone))
    for fill in (1, 2, -5, 10**6):
        filled = torch.where(mask, x, torch.tensor(fill))
        assert torch.equal(model.log_prob(filled, mask), log_q)
        assert torch.equal(model.log_conditionals(filled, mask)[mask], log_p[mask])


@every_kind
def test_samples_follow_the_probabilities(kind):
    model, n = a_model(kind), 8000
    x = model.sample((n,), 3, generator=seeded(6))
    assert (x.shape, x.dtype, x.requires_grad) == ((n, 3), torch.int64, False)
    counts = torch.bincount((x * torch.tensor([9, 3, 1])).sum(-1), minlength=27).tolist()
    expected = (n * model.log_prob(everything(3, 3)).exp()).tolist()
    rare = [i for i in range(27) if expected[i] < 5]
    observed = [counts[i] for i in range(27) if i not in rare] + [sum(counts[i] for i in rare) + 1]
    wanted = [expected[i] for i in range(27) if i not in rare] + [sum(expected[i] for i in rare) + 1]
    assert len(observed) > 12
    assert scipy.stats.chisquare(observed, wanted).pvalue > 1e-3  # fixed seed


@every_kind
def test_samples_with_an_end_follow_the_probabilities(kind):
    model, n = a_model(kind, end=1), 6000
    x = model.sample((n,), 3, generator=seeded(7))
    mask = until_end(x, 1)
    assert (x[~mask] == 1).all()
    ended = [
        row for row in everything(3, 3).tolist() if all(b == 1 for a, b in itertools.pairwise(row) if a == 1)
    ]
    keep = until_end(torch.tensor(ended), 1)
    expected = n * model.log_prob(torch.tensor(ended), keep).exp()
    assert expected.sum().item() == pytest.approx(n)
    counts = Counter(map(tuple, x.tolist()))
    observed = [counts[tuple(row)] for row in ended]
    assert sum(observed) == n
    order = expected.argsort().tolist()
    rare = [i for i in order if expected[i] < 5]
    common = [i for i in order if i not in rare]
    observed = [observed[i] for i in common] + [sum(observed[i] for i in rare) + 1]
    wanted = [expected[i].item() for i in common] + [sum(expected[i].item() for i in rare) + 1]
    assert scipy.stats.chisquare(observed, wanted).pvalue > 1e-3  # fixed seed


@every_kind
def test_samples_go_on_from_a_prefix(kind):
    model, n, prefix = a_model(kind), 5000, torch.tensor([2, 0, 1, 1])
    x = model.sample((n,), 5, prefix=prefix, generator=seeded(8))
    assert x.shape == (n, 5)
    assert (x[:, :4] == prefix).all()
    q = model.log_conditionals(x[:1])[0, 4].exp()
    observed = torch.bincount(x[:, 4], minlength=3).numpy()
    assert scipy.stats.chisquare(observed, n * q.detach().numpy()).pvalue > 1e-3  # fixed seed
    longer = model.sample((7,), 9, prefix=prefix[:1], generator=seeded(8))
    assert longer.shape == (7, 9)
    assert len(longer.unique(dim=0)) > 1


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.4}, {"top_k": 2}, {"top_p": 0.7}, {"top_k": 3, "top_p": 0.8, "temperature": 2.0}],
)
def test_samples_follow_truncated_conditionals(options):
    model, n = a_model("lstm", 4), 8000
    x = model.sample((n,), 2, generator=seeded(9), **options)
    pairs = everything(4, 2)
    log_q = truncate(model.log_conditionals(pairs), **options)
    q = log_q.gather(-1, pairs[..., None])[..., 0].sum(-1).exp()
    assert q.sum().item() == pytest.approx(1, abs=1e-12)
    counts = torch.bincount(4 * x[:, 0] + x[:, 1], minlength=16)
    assert (counts[q == 0] == 0).all()
    assert scipy.stats.chisquare(counts[q > 0].numpy(), n * q[q > 0].detach().numpy()).pvalue > 1e-3


@every_kind
def test_the_greedy_sample_is_the_argmax(kind):
    model = a_model(kind)
    x = model.sample((3,), 9, top_k=1)
    assert torch.equal(x, model.log_conditionals(x).argmax(-1))


@every_kind
def test_samples_repeat_with_a_generator(kind):
    model, state = a_model(kind, end=0), torch.get_rng_state()
    first, second = (model.sample((20,), 9, generator=seeded(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())


@every_kind
def test_sampling_stops_when_all_rows_have_ended(kind):
    model = a_model(kind, end=0)
    x = model.sample((20,), 400, generator=seeded(4))
    assert 2 < x.shape[1] < 400
    assert (x[:, -1] == 0).all()
    assert (x[:, -2] != 0).any()  # and not a step later
    assert (x[~until_end(x, 0)] == 0).all()
    assert a_model(kind).sample((3,), 40, generator=seeded(4)).shape == (3, 40)


@every_kind
def test_a_prefix_that_has_ended_is_not_continued(kind):
    model = a_model(kind, end=0)
    x = model.sample((40,), 6, prefix=torch.tensor([1, 2, 0]), generator=seeded(4))
    assert (x[:, :2] == torch.tensor([1, 2])).all()
    assert (x[:, 2:] == 0).all()


@every_kind
@pytest.mark.parametrize("training", [True, False])
def test_sampling_leaves_the_mode_as_it_was(kind, training):
    model = a_model(kind).train(training)
    model.sample((2,), 3, generator=seeded())
    assert all(module.training == training for module in model.modules())
    with pytest.raises(ValueError, match="^temperature must"):
        model.sample((2,), 3, temperature=0.0)
    assert all(module.training == training for module in model.modules())


def test_samples_are_drawn_without_dropout():
    model = Recurrent(3, 16, dropout=0.9)
    model.load_state_dict(Recurrent(3, 16).state_dict())
    plain = Recurrent(3, 16)
    plain.load_state_dict(model.state_dict())
    x = model.train().sample((50,), 9, generator=seeded())
    assert torch.equal(x, plain.sample((50,), 9, generator=seeded()))
    assert not torch.equal(model.loss(x), plain.loss(x))
    model.eval()
    assert torch.equal(model.loss(x), plain.loss(x))


@every_network
def test_every_parameter_gets_a_gradient(kind):
    model = a_model(kind)
    x = torch.randint(3, (6, 9), generator=seeded(5))
    x[0, 4] = 0
    model.loss(x).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if name not in ("embed.weight",):
            assert (parameter.grad != 0).any(), name
    assert (model.embed.weight.grad != 0).any(-1).all()  # every symbol and the start


@every_network
def test_gradient_agrees_with_differences(kind):
    model = a_model(kind)
    x = torch.randint(3, (3, 7), generator=seeded(6))
    model.loss(x).sum().backward()
    generator = seeded(7)
    for parameter in model.parameters():
        step = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            values = []
            for size in (1e-5, -2e-5):
                parameter += size * step
                values.append(model.loss(x).sum())
            parameter += 1e-5 * step
        close((values[0] - values[1]) / 2e-5, (parameter.grad * step).sum(), 1e-5)


@every_network
def test_fitting_lowers_the_loss(kind):
    torch.manual_seed(0)
    model = Transformer(3, 8, heads=2, context=4) if kind == "transformer" else Recurrent(3, 8, cell=kind)
    x = torch.randint(3, (1, 8), generator=seeded(8)).expand(2, -1)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    assert model.loss(x).mean() > 6
    for _ in range(50):
        optimiser.zero_grad()
        model.loss(x).mean().backward()
        optimiser.step()
    assert model.loss(x).mean() < 3


@every_kind
def test_models_refuse(kind):
    model, plain = a_model(kind, end=0), a_model(kind)
    for method in (plain.log_prob, plain.log_factors, plain.log_conditionals, plain.loss):
        for x in (
            torch.tensor([[0, 3]]),
            torch.tensor([[-1, 0]]),
            torch.zeros(2, 0, dtype=torch.int64),
            torch.zeros(0, 2, dtype=torch.int64),
            torch.tensor([0, 1]),
            torch.zeros(1, 2),
            [[]],
            None,
            "abc",
        ):
            with pytest.raises(ValueError, match="^x must"):
                method(x)
        with pytest.raises(ValueError, match="^mask must.*x has rows of unequal lengths"):
            method([torch.tensor([0, 1]), torch.tensor([1])])
        with pytest.raises(ValueError, match="^mask must"):
            method(torch.tensor([[0, 1]]), torch.tensor([[False, True]]))
        with pytest.raises(ValueError, match="^mask must"):
            method(torch.tensor([[0, 1]]), torch.tensor([[1, 1]]))
        with pytest.raises(ValueError, match="^x must"):
            method(torch.tensor([[0, 3]]), torch.tensor([[True, True]]))
    with pytest.raises(ValueError, match="^mask must be given where rows of x end"):
        model.log_prob(torch.tensor([[1, 0, 1]]))
    for shape in (3, (0,), (2, 2)):
        with pytest.raises(ValueError, match="shape"):
            plain.sample(shape, 3)
    for length in (0, 2.0, "3"):
        with pytest.raises(ValueError, match="^length must"):
            plain.sample((2,), length)
    with pytest.raises(ValueError, match="^length must be above that of the prefix, 2, got 2"):
        plain.sample((2,), 2, prefix=torch.tensor([0, 1]))
    for prefix in (
        torch.tensor([3]),
        torch.tensor([], dtype=torch.int64),
        torch.tensor([[0]]),
        torch.tensor(0),
    ):
        with pytest.raises(ValueError, match="^prefix must"):
            plain.sample((2,), 5, prefix=prefix)
    for name, value in {"temperature": 0, "top_k": 0, "top_p": 1.5}.items():
        with pytest.raises(ValueError, match=f"^{name} must"):
            plain.sample((2,), 3, **{name: value})


@every_kind
def test_single_precision_is_the_default(kind):
    torch.set_default_dtype(torch.float32)
    try:
        model = a_model(kind, end=1)
        x, mask = pad([torch.tensor([*row, 1]) for row in ((0, 2), (2,), (), (2, 2, 0, 2, 0, 0))])
        log_q = model.log_prob(x, mask)
        log_p = model.log_conditionals(x, mask)
        assert log_p.dtype == log_q.dtype == (REAL if isinstance(model, NGram) else torch.float32)
        sample = model.sample((50,), 6, top_p=0.9, top_k=3, generator=seeded())
        assert model.log_prob(sample, until_end(sample, 1)).isfinite().all()
    finally:
        torch.set_default_dtype(REAL)
    close(log_p.exp().sum(-1), torch.ones_like(log_p[..., 0]), 1e-12 if isinstance(model, NGram) else 1e-5)


@pytest.mark.parametrize(
    "make", [lambda *a, **k: NGram(*a, 2, **k), lambda *a, **k: Recurrent(*a, 4, **k), Autoregressive]
)
def test_vocabulary_and_end_are_checked(make):
    for vocabulary in (0, 2.0, True):
        with pytest.raises(ValueError, match="^vocabulary must"):
            make(vocabulary)
    for end in (3, -1, 1.0, True):
        with pytest.raises(ValueError, match="^end must"):
            make(3, end=end)
    assert make(3, end=2).end == 2
    assert make(3).end is None


# Recurrent


def recurrent_by_hand(model, cell, symbols):
    """Logits for one sequence, cell by cell in NumPy."""

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    w = {name: value.detach().numpy() for name, value in model.named_parameters()}
    size = w["rnn.weight_hh_l0"].shape[1]
    h, c, out = np.zeros(size), np.zeros(size), []
    for k in symbols:
        a = w["rnn.weight_ih_l0"] @ w["embed.weight"][k] + w["rnn.bias_ih_l0"]
        a = a + w["rnn.weight_hh_l0"] @ h + w["rnn.bias_hh_l0"]
        if cell == "rnn":
            h = np.tanh(a)
        else:
            i, f, g, o = a[:size], a[size : 2 * size], a[2 * size : 3 * size], a[3 * size :]
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        out.append(w["out.weight"] @ h + w["out.bias"])
    return np.array(out)


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_recurrent_by_hand(cell):
    model = a_model(cell, 4)
    x = torch.randint(4, (3, 8), generator=seeded(1))
    x[:, 0] = 4
    logits, _ = model(x)
    for row, actual in zip(x.tolist(), logits.detach().numpy(), strict=True):
        np.testing.assert_allclose(actual, recurrent_by_hand(model, cell, row), rtol=0, atol=1e-12)
    log_q = model.log_prob(x[:, 1:])
    for row, actual in zip(x.tolist(), log_q.tolist(), strict=True):
        by_hand = scipy.special.log_softmax(recurrent_by_hand(model, cell, row[:-1]), -1)
        assert actual == pytest.approx(sum(by_hand[t, k] for t, k in enumerate(row[1:])), abs=1e-12)


def test_sizes_of_the_recurrent_network():
    for cell, gates in (("rnn", 1), ("lstm", 4)):
        model = Recurrent(7, 5, cell=cell, embedding=3)
        assert model.embed.weight.shape == (8, 3)
        assert model.rnn.weight_hh_l0.shape == (gates * 5, 5)
        assert model.out.weight.shape == (7, 5)
    assert Recurrent(7, 5).embed.weight.shape == (8, 32)
    assert isinstance(Recurrent(7, 5).rnn, torch.nn.LSTM)


@pytest.mark.parametrize("bias", [-2, 0, 1.0, 6.0])
def test_forget_bias_is_the_whole_bias_of_the_forget_gates(bias):
    torch.manual_seed(0)
    model = Recurrent(3, 4, forget_bias=bias)
    torch.manual_seed(0)
    plain = Recurrent(3, 4)
    total = model.rnn.bias_ih_l0 + model.rnn.bias_hh_l0
    close(total[4:8].detach(), torch.full((4,), float(bias)))
    usual = plain.rnn.bias_ih_l0 + plain.rnn.bias_hh_l0
    close(usual[4:8].detach(), torch.ones(4))  # 1 when nothing is said
    others = [0, 1, 2, 3, *range(8, 16)]
    assert torch.equal(total[others], usual[others])
    assert (total[others].abs() > 0).all()
    assert (total[others].abs() < 1).all()
    assert model.rnn.bias_ih_l0.requires_grad


def test_an_untrained_cell_remembers_longer_with_a_larger_forget_bias():
    gaps = []
    for bias in (-2.0, 0.0, 2.0, 5.0):
        torch.manual_seed(1)
        model = Recurrent(3, 16, forget_bias=bias)
        x = torch.zeros(2, 20, dtype=torch.int64)
        x[1, 0] = 1
        _, (_, c) = model(x)
        gaps.append((c[0, 0] - c[0, 1]).norm().item())
    assert gaps == sorted(gaps)
    assert gaps[-1] > 100 * gaps[1]


def test_recurrent_refuses():
    with pytest.raises(ValueError, match="^cell must be one of rnn, lstm, got 'gru'"):
        Recurrent(3, 4, cell="gru")
    for hidden in (0, 1.5, True):
        with pytest.raises(ValueError, match="^hidden must"):
            Recurrent(3, hidden)
    for embedding in (0, 1.5, None):
        with pytest.raises(ValueError, match="^embedding must"):
            Recurrent(3, 4, embedding=embedding)
    for dropout in (-0.1, 1, 1.0, math.nan):
        with pytest.raises(ValueError, match="^dropout must"):
            Recurrent(3, 4, dropout=dropout)
    for bias in (math.nan, "1"):
        with pytest.raises(ValueError, match="^forget_bias must"):
            Recurrent(3, 4, forget_bias=bias)


def test_dropout_acts_on_vectors_and_states():
    torch.manual_seed(0)
    model = Recurrent(3, 200, embedding=100, dropout=0.5).train()
    seen = {}
    model.rnn.register_forward_hook(lambda _, inputs, __: seen.update(vectors=inputs[0]))
    model.out.register_forward_hook(lambda _, inputs, __: seen.update(states=inputs[0]))
    x = torch.randint(3, (4, 6), generator=seeded())
    model(x)
    assert set(seen) == {"vectors", "states"}
    for part in seen.values():
        assert 0.4 < (part == 0).double().mean() < 0.6
    model.eval()(x)
    assert (seen["states"] != 0).all()


# Transformer


def transformer_by_hand(model, symbols):
    """Logits for one sequence: for each place its own window, and attention as a sum over what is not later."""

    def norm(name, h):
        mean, var = h.mean(-1, keepdims=True), h.var(-1, keepdims=True)
        return (h - mean) / np.sqrt(var + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(name, h):
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    w = {name: value.detach().numpy() for name, value in model.named_parameters()}
    width, half, out = w["place"].shape[1], model.context // 2, []
    heads = model.blocks[0].heads
    size = width // heads
    for t in range(len(symbols)):
        begin = next(b for b in range(0, t + 1, half) if t - b < model.context)
        h = np.array([w["embed.weight"][k] + w["place"][i] for i, k in enumerate(symbols[begin : t + 1])])
        for layer in range(len(model.blocks)):
            name = f"blocks.{layer}"
            q, k, v = np.split(linear(f"{name}.query_key_value", norm(f"{name}.norm_attention", h)), 3, -1)
            mixed = np.zeros_like(h)
            for place, head in itertools.product(range(len(h)), range(heads)):
                part = slice(head * size, (head + 1) * size)
                scores = np.array([q[place, part] @ k[s, part] for s in range(place + 1)]) / math.sqrt(size)
                weights = np.exp(scores) / np.exp(scores).sum()
                mixed[place, part] = sum(weights[s] * v[s, part] for s in range(place + 1))
            h = h + linear(f"{name}.merge", mixed)
            inner = linear(f"{name}.network.0", norm(f"{name}.norm_network", h))
            inner = inner * scipy.stats.norm.cdf(inner)
            h = h + linear(f"{name}.network.2", inner)
        out.append(linear("out.1", norm("out.0", h[-1])))
    return np.array(out)


@pytest.mark.parametrize(("layers", "heads", "context"), [(1, 1, 8), (2, 2, 4), (1, 3, 2), (3, 1, 6)])
def test_transformer_by_hand(layers, heads, context):
    model = Transformer(4, 6, layers=layers, heads=heads, context=context)
    generator = seeded(layers)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5, generator=generator)
    x = torch.randint(4, (2, 11), generator=generator)
    x[:, 0] = 4
    logits, _ = model(x)
    for row, actual in zip(x.tolist(), logits.detach().numpy(), strict=True):
        np.testing.assert_allclose(actual, transformer_by_hand(model, row), rtol=0, atol=1e-11)


def test_transformer_looks_back_at_least_half_a_window():
    model = a_model("transformer")  # context 4
    x = torch.randint(3, (1, 12), generator=seeded(2))
    reach = [t + 1 - max(0, 2 * ((t - 2) // 2)) for t in range(12)]  # symbols that place t sees
    assert reach[:8] == [1, 2, 3, 4, 3, 4, 3, 4]
    base, _ = model(x)
    for s in range(12):
        other = x.clone()
        other[0, s] = (x[0, s] + 1) % 3
        changed = ((model(other)[0] - base).abs().amax(-1) > 0)[0].tolist()
        assert changed == [t >= s > t - reach[t] for t in range(12)]


def test_sizes_of_the_transformer():
    model = Transformer(7, 12, layers=3, heads=4, context=10)
    assert model.embed.weight.shape == (8, 12)
    assert model.place.shape == (10, 12)
    assert len(model.blocks) == 3
    assert model.blocks[0].network[0].weight.shape == (48, 12)
    usual = Transformer(7, 8)
    assert (len(usual.blocks), usual.blocks[0].heads, usual.context) == (2, 4, 128)
    assert 0.09 < Transformer(3, 64).place.std() < 0.11


def test_transformer_refuses():
    for name, values in {
        "width": (0, 1.5),
        "heads": (0, 1.5, True),
        "layers": (0, None),
        "context": (0, 1, 3, 2.0),
    }.items():
        for value in values:
            with pytest.raises(ValueError, match=f"^{name} must"):
                Transformer(**{"vocabulary": 3, "width": 8, "heads": 2, name: value})
    with pytest.raises(ValueError, match="^width must be a multiple of heads, got 6 and 4"):
        Transformer(3, 6, heads=4)


# NGram


class KneserNey:
    """The same model from dictionaries, a gram at a time."""

    def __init__(self, texts, vocabulary, order, discounts):
        self.vocabulary, self.order, begin = vocabulary, order, ("start",)
        raw = [Counter() for _ in range(order + 1)]
        before = [defaultdict(set) for _ in range(order + 1)]
        for text in texts:
            line = begin * (order - 1) + tuple(text)
            for last in range(order - 1, len(line)):
                for n in range(1, order + 1):
                    gram = line[last - n + 1 : last + 1]
                    raw[n][gram] += 1
                    if n < order:
                        before[n][gram].add(line[last - n])
        self.counts = [
            {
                gram: count if n == order or gram[0] == "start" else len(before[n][gram])
                for gram, count in raw[n].items()
            }
            for n in range(order + 1)
        ]
        self.discount = [self.estimate(counts.values(), discounts) for counts in self.counts]
        self.valid = all(0 < d <= r for taken in self.discount[1:] for r, d in enumerate(taken, 1))

    @staticmethod
    def estimate(counts, discounts):
        n = Counter(counts)
        if not (n[1] and n[2]):
            return 0.5, 0.5, 0.5
        y = n[1] / (n[1] + 2 * n[2])
        if discounts == 1 or not (n[3] and n[4]):
            return y, y, y
        return 1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]

    def q(self, w, h):
        """Probability of w after h, a tuple as long as the model looks back."""
        return self.at(len(h) + 1, w, h)

    def at(self, n, w, h):
        if n == 0:
            return 1 / self.vocabulary
        lower = self.at(n - 1, w, h[1:])
        after = {v: self.counts[n][(*h, v)] for v in range(self.vocabulary) if (*h, v) in self.counts[n]}
        if not after:
            return lower
        taken = {v: self.discount[n][min(count, 3) - 1] for v, count in after.items()}
        total = sum(after.values())
        own = max(after[w] - taken[w], 0) / total if w in after else 0.0
        return own + sum(taken.values()) / total * lower

    def conditionals(self, text):
        line = ("start",) * (self.order - 1) + tuple(text)
        size = self.order - 1
        return [[self.q(w, line[t : t + size]) for w in range(self.vocabulary)] for t in range(len(text))]


def zipf(n, length, vocabulary, seed):
    """Texts in which a few symbols are frequent, and follow each other."""
    generator = np.random.default_rng(seed)
    p = np.arange(1, vocabulary + 1) ** -1.3
    texts = []
    for _ in range(n):
        w, text = 0, []
        for _ in range(generator.integers(1, length)):
            known = generator.random() < 0.4
            w = (2 * w + 1) % vocabulary if known else int(generator.choice(vocabulary, p=p / p.sum()))
            text.append(w)
        texts.append(text)
    return texts


TEXTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=4)


@STEADY
@given(TEXTS, st.integers(1, 4), st.sampled_from([1, 3]), TEXTS)
@example([[0, 0, 0, 1, 1, 2]], 1, 3, [[3]])  # no count of 4, so one discount
def test_ngram_agrees_with_dictionaries(texts, order, discounts, others):
    reference = KneserNey(texts, 4, order, discounts)
    assume(reference.valid)
    model = NGram(4, order, discounts=discounts).fit_counts([torch.tensor(text) for text in texts])
    for text in texts + others:
        expected = np.log(reference.conditionals(text))
        actual = model.log_conditionals(torch.tensor([text]))[0]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11)
        log_q = model.log_prob(torch.tensor([text])).item()
        assert log_q == pytest.approx(sum(expected[t, w] for t, w in enumerate(text)), abs=1e-10)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("discounts", [1, 3])
def test_ngram_agrees_with_dictionaries_on_longer_texts(order, discounts):
    tried = 0
    for seed in range(2):
        texts = zipf(80, 20, 60, seed)
        reference = KneserNey(texts, 60, order, discounts)
        if not reference.valid:
            continue
        tried += 1
        assert {len(set(d)) for d in reference.discount[1:]} == {discounts}
        model = NGram(60, order, discounts=discounts).fit_counts([torch.tensor(text) for text in texts])
        for text in [*texts[:2], *zipf(2, 20, 60, 99)]:
            expected = np.log(reference.conditionals(text))
            actual = model.log_conditionals(torch.tensor([text]))[0]
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11)
    assert tried


@FEW
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=6),
    st.integers(1, 3),
    st.sampled_from([1, 3]),
)
def test_ngram_is_a_distribution_whatever_the_counts_of_counts(numbers, order, discounts):
    """The estimates of three discounts may leave the range from 0 to the count."""
    symbols, text = 0, []
    for count, grams in enumerate(numbers, 1):
        for _ in range(grams):
            text += [symbols] * count
            symbols += 1
    assume(text)
    model = NGram(symbols, order, discounts=discounts).fit_counts([torch.tensor(text)])
    p = model.log_conditionals(torch.tensor([text])).exp()
    assert (p > 0).all()
    close(p.sum(-1), torch.ones(1, len(text)))


def test_bigrams_by_hand():
    # grams: ^a ab ba ab bb; 4 different, one of them twice, so D = 3 / (3 + 2)
    model = NGram(3, 2).fit_counts([torch.tensor([0, 1, 0, 1, 1])])
    d = 3 / 5
    # before a: ^ and b; before b: a and b. Two counts of 2, none of 1, so ½ is taken from each
    lower = [1.5 / 4 + 1 / 4 / 3, 1.5 / 4 + 1 / 4 / 3, 1 / 4 / 3]
    expected = [
        [1 - d + d * lower[0], d * lower[1], d * lower[2]],
        [d / 2 * lower[0], (2 - d) / 2 + d / 2 * lower[1], d / 2 * lower[2]],
        [(1 - d + 2 * d * lower[0]) / 2, (1 - d + 2 * d * lower[1]) / 2, d * lower[2]],
    ]
    close(model.log_conditionals(torch.tensor([[0, 1, 2]])).exp()[0], torch.tensor(expected))
    # after c, which was never seen, the shorter grams decide
    close(model.log_conditionals(torch.tensor([[2, 0]])).exp()[0, 1], torch.tensor(lower))


def test_an_unseen_context_leaves_it_to_the_shorter_one():
    model = NGram(5, 3).fit_counts([torch.tensor(text) for text in zipf(6, 9, 4, 0)])
    x = torch.tensor([[4, 1, 0], [4, 4, 1]])
    after = model.log_conditionals(x)[:, 2]
    assert not torch.equal(after[0], after[1])
    lone = model.log_conditionals(torch.tensor([[4, 4, 4, 1, 0]]))[0, 4]
    close(after[0], lone)


def test_order_one_forgets_everything():
    model = NGram(4, 1).fit_counts([torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([3])])
    # counts 3, 2, 1, 1: D = 2 / (2 + 2 · 1)
    p = [2.5 / 7 + 2 / 7 / 4, 1.5 / 7 + 2 / 7 / 4, 0.5 / 7 + 2 / 7 / 4, 0.5 / 7 + 2 / 7 / 4]
    log_p = model.log_conditionals(torch.tensor([[3, 0, 1], [2, 2, 2]]))
    close(log_p.exp(), torch.tensor(p).expand(2, 3, 4))


def test_uniform_before_anything_is_counted():
    model = NGram(5, 3)
    x = torch.randint(5, (4, 6), generator=seeded())
    close(model.log_prob(x), torch.full((4,), -6 * math.log(5)))
    assert model.sample((2,), 4).shape == (2, 4)


def test_a_refit_forgets():
    first, second = ([torch.tensor(text) for text in zipf(5, 9, 4, seed)] for seed in (0, 1))
    x = torch.randint(4, (5, 6), generator=seeded())
    model = NGram(4, 3)
    assert model.fit_counts(first) is model
    after_first = model.log_prob(x)
    model.fit_counts(second)
    assert not torch.equal(model.log_prob(x), after_first)
    assert torch.equal(model.log_prob(x), NGram(4, 3).fit_counts(second).log_prob(x))
    assert torch.equal(model.fit_counts(first[::-1]).log_prob(x), after_first)  # their order does not matter


def test_sequences_are_counted_apart():
    a, b = torch.tensor([0, 1]), torch.tensor([2, 1])
    model = NGram(3, 2)
    apart = model.fit_counts([a, b]).log_conditionals(torch.tensor([[1, 2]]))[0, 1]
    joined = model.fit_counts([torch.cat([a, b])]).log_conditionals(torch.tensor([[1, 2]]))[0, 1]
    close(apart.exp().sum(), 1.0)
    assert joined[2] > apart[2]


def test_grams_that_just_fit():
    model = NGram(96, 9)  # 97^9 < 2^63 < 97^10
    text = torch.randint(96, (60,), generator=seeded())
    model.fit_counts([text])
    reference = KneserNey([text.tolist()], 96, 9, 1)
    expected = np.log(reference.conditionals(text[:12].tolist()))
    np.testing.assert_allclose(model.log_conditionals(text[None, :12])[0], expected, rtol=0, atol=1e-11)
    with pytest.raises(ValueError, match="^order must be smaller for 96 symbols"):
        NGram(96, 10)
    assert NGram(1, 62).order == 62
    with pytest.raises(ValueError, match="^order must"):
        NGram(1, 63)


def test_ngram_refuses():
    for order in (0, 2.0, True):
        with pytest.raises(ValueError, match="^order must"):
            NGram(3, order)
    for discounts in (0, 2, None, "1"):
        with pytest.raises(ValueError, match="^discounts must"):
            NGram(3, 2, discounts=discounts)
    model = NGram(3, 2, end=0)
    for texts in (
        [],
        [torch.tensor([1, 3])],
        [torch.tensor([1]), torch.tensor([], dtype=torch.int64)],
        [torch.tensor([1.0])],
        [torch.tensor([[1]])],
    ):
        with pytest.raises(ValueError, match="^sequences must"):
            model.fit_counts(texts)
    with pytest.raises(ValueError, match="rows of sequences end before"):
        model.fit_counts([torch.tensor([1, 0, 2])])


# stretches and carried


def documents(lengths):
    """Texts in which no symbol comes twice, and the size of their vocabulary."""
    numbers = iter(range(sum(lengths)))
    return [torch.tensor([next(numbers) for _ in range(length)]) for length in lengths], sum(lengths)


@FEW
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 10**6),
)
def test_windows_go_on_where_the_last_one_stopped(lengths, rows, length, seed):
    texts, vocabulary = documents(lengths)
    total = sum(lengths) + len(lengths)
    strip = total // rows
    assume(strip > length)
    follows = {a: b for text in texts for a, b in itertools.pairwise(text.tolist())}
    lasts, firsts = {int(text[-1]) for text in texts}, {int(text[0]) for text in texts}
    batches = stretches(texts, rows, length, vocabulary, generator=seeded(seed))
    windows = (strip - 1) // length  # every symbol of a strip but its last has a target
    for _ in range(2):
        epoch = [next(batches) for _ in range(windows)]
        for inputs, targets in epoch:
            assert inputs.shape == targets.shape == (rows, length)
            assert (inputs.dtype, targets.dtype) == (torch.int64, torch.int64)
            for a, b in zip(inputs.flatten().tolist(), targets.flatten().tolist(), strict=True):
                assert b in firsts if a == vocabulary else b == (-1 if a in lasts else follows[a])
        inputs, targets = (torch.cat(parts, 1) for parts in zip(*epoch, strict=True))
        assert torch.equal(inputs[:, 1:], targets[:, :-1].masked_fill(targets[:, :-1] < 0, vocabulary))
        seen = inputs[inputs != vocabulary]
        assert len(seen.unique()) == len(seen)  # no symbol twice in an epoch
        line = torch.cat([part for text in texts for part in (torch.tensor([vocabulary]), text)])
        strips = torch.cat([inputs, targets[:, -1:].masked_fill(targets[:, -1:] < 0, vocabulary)], 1)
        places = [
            next(p for p in range(total) if torch.equal(line.roll(-p)[: len(row)], row)) for row in strips
        ]
        steps = [(b - a) % total for a, b in itertools.pairwise(places)]
        assert steps == [strip] * (rows - 1)  # the strips lie side by side


def test_strips_begin_anywhere():
    texts, vocabulary = documents([3, 2])
    batches = stretches(texts, 1, 3, vocabulary, generator=seeded())
    begins = Counter(tuple(next(batches)[0][0].tolist()) for _ in range(1400))
    assert len(begins) == 7
    batches = stretches(texts, 1, 6, vocabulary, generator=seeded())
    begins = Counter(tuple(next(batches)[0][0].tolist()) for _ in range(1400))
    assert len(begins) == 7
    assert scipy.stats.chisquare(list(begins.values())).pvalue > 1e-3  # fixed seed


def test_stretches_repeat_with_a_generator():
    texts, vocabulary = documents([7, 9])
    state = torch.get_rng_state()
    first, second = (stretches(texts, 2, 3, vocabulary, generator=seeded(3)) for _ in range(2))
    for _ in range(9):
        for a, b in zip(next(first), next(second), strict=True):
            assert torch.equal(a, b)
    assert torch.equal(state, torch.get_rng_state())


def test_stretches_refuse_at_once():
    texts, vocabulary = documents([5, 4])
    for documents_ in (
        [],
        [torch.tensor([], dtype=torch.int64)],
        [torch.tensor([99])],
        [torch.tensor([0.5])],
    ):
        with pytest.raises(ValueError, match="^documents must"):
            stretches(documents_, 1, 2, vocabulary)
    for rows in (0, 1.5, True):
        with pytest.raises(ValueError, match="^rows must"):
            stretches(texts, rows, 2, vocabulary)
    for rows, length in ((1, 0), (1, 2.0), (1, 11), (2, 5), (50, 1)):
        with pytest.raises(ValueError, match="^length must"):
            stretches(texts, rows, length, vocabulary)
    assert next(stretches(texts, 1, 10, vocabulary))[0].shape == (1, 10)


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_the_state_is_carried_and_the_gradient_is_not(cell):
    model = a_model(cell, 12)
    texts, vocabulary = documents([5, 7])
    batches = stretches(texts, 2, 2, vocabulary, generator=seeded(2))
    (x1, y1), (x2, y2) = next(batches), next(batches)
    assert (torch.cat([y1, y2]) == -1).any()
    loss = carried(model)
    first = loss((x1, y1))
    first.backward()
    model.zero_grad()
    second = loss((x2, y2))  # the graph of the first is gone

    def by_hand(logits, targets):
        counts = targets >= 0
        log_q = logits.log_softmax(-1)[counts].gather(-1, targets[counts][:, None])
        return -log_q.sum() / counts.sum()

    whole, _ = model(torch.cat([x1, x2], 1))
    close(first.detach(), by_hand(whole[:, :2], y1).detach())
    close(second.detach(), by_hand(whole[:, 2:], y2).detach())
    assert abs(second - carried(model)((x2, y2))) > 1e-3
    assert abs(second - loss((x2, y2))) > 1e-4  # it goes on

    second.backward()
    actual = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    _, state = model(x1)
    state = tuple(part.detach() for part in state) if cell == "lstm" else state.detach()
    by_hand(model(x2, state)[0], y2).backward()
    cut = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    by_hand(model(torch.cat([x1, x2], 1))[0][:, 2:], y2).backward()
    full = [parameter.grad.clone() for parameter in model.parameters()]
    for a, b in zip(actual, cut, strict=True):
        close(a, b)
    assert max((a - b).abs().max() for a, b in zip(actual, full, strict=True)) > 1e-3


def test_carried_losses_do_not_share_their_state():
    model = a_model("lstm", 12)
    texts, vocabulary = documents([5, 7])
    batch = next(stretches(texts, 2, 3, vocabulary, generator=seeded()))
    one, other = carried(model), carried(model)
    fresh = one(batch)
    one(batch)
    assert torch.equal(other(batch), fresh)
