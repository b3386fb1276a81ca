"""Sources of sequences: the chain and the grammar against enumeration, agreement in English, prose, padding."""

import functools
import itertools
import math
import re
from collections import Counter
from pydoc_data.topics import topics

import numpy as np
import pytest
import scipy.stats
import torch
from exactness import FEW, REAL, STEADY, close, everything, seeded
from hypothesis import given
from hypothesis import strategies as st

from genlib.data import ALPHABET, Grammar, MarkovChain, Prose, english, pad, prose, until_end
from genlib.data import sequences as language

pytestmark = pytest.mark.usefixtures("double")

# MarkovChain


def a_table(symbols, order, seed=0):
    weights = torch.rand((symbols,) * (order + 1), generator=seeded(seed), dtype=REAL) ** 3 + 0.02
    return weights / weights.sum(-1, keepdim=True)


def chain_by_hand(table, length):
    """Probability of every sequence, {(x_1, ..., x_L): p}: contexts as tuples, and many steps from anywhere."""
    symbols, order = table.shape[-1], table.ndim - 1
    p = dict.fromkeys(itertools.product(range(symbols), repeat=order), symbols ** (-order))
    for _ in range(600):
        q = Counter()
        for h, mass in p.items():
            for k in range(symbols):
                q[(*h, k)[1:]] += mass * table[(*h, k)].item()
        p = q
    for _ in range(length - order):
        p = {
            (*x, k): mass * table[(*x[len(x) - order :], k)].item()
            for x, mass in p.items()
            for k in range(symbols)
        }
    return p


@pytest.mark.parametrize(
    ("symbols", "order", "length"), [(3, 1, 4), (3, 2, 4), (2, 3, 5), (2, 4, 5), (4, 1, 2)]
)
def test_chain_agrees_with_products_by_hand(symbols, order, length):
    table = a_table(symbols, order)
    chain, truth = MarkovChain(table, length), chain_by_hand(table, length)
    x = everything(symbols, length)
    assert (chain.order, chain.event_shape, chain.stationary.shape) == (order, (length,), (symbols,) * order)
    p = chain.log_prob(x).exp()
    assert p.shape == (len(x),)
    np.testing.assert_allclose(p, [truth[tuple(row)] for row in x.tolist()], rtol=0, atol=1e-12)
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    close(chain.entropy(), -(p * p.log()).sum())


@FEW
@given(st.integers(2, 3), st.integers(1, 2), st.integers(0, 10**6))
def test_chain_is_stationary_and_its_conditionals_are_those_of_the_joint(symbols, order, seed):
    length = 4
    chain, x = MarkovChain(a_table(symbols, order, seed), length), everything(symbols, length)
    joint = chain.log_prob(x).exp().reshape((symbols,) * length)
    for width in range(1, length):
        margins = [
            joint.sum([t for t in range(length) if not first <= t < first + width])
            for first in range(length - width + 1)
        ]
        for margin in margins[1:]:
            close(margin, margins[0])
    window = joint.sum(list(range(order, length)))
    close(window, chain.stationary)
    log_p = chain.log_conditionals(x)
    assert log_p.shape == (len(x), length, symbols)
    close(log_p.exp().sum(-1), torch.ones(len(x), length))
    for t in range(length):
        up_to = joint.sum(list(range(t + 1, length))) if t + 1 < length else joint
        conditional = up_to / up_to.sum(-1, keepdim=True)
        close(log_p[:, t].exp(), conditional[tuple(x[:, :t].T)].expand(len(x), -1))
    close(log_p.gather(-1, x[..., None]).squeeze(-1).sum(-1), chain.log_prob(x))


@STEADY
@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_entropy_rate_of_two_states_in_closed_form(a, b):
    def h(p):
        return -p * math.log(p) - (1 - p) * math.log1p(-p)

    chain = MarkovChain(torch.tensor([[1 - a, a], [b, 1 - b]]), 5)
    rate = (b * h(a) + a * h(b)) / (a + b)
    close(chain.stationary, torch.tensor([b, a]) / (a + b), 1e-11)
    close(chain.entropy_rate().item(), rate, 1e-11)
    close(chain.entropy().item(), h(a / (a + b)) + 4 * rate, 1e-10)


def test_chain_without_memory_has_l_times_the_entropy():
    p = torch.tensor([0.5, 0.3, 0.2])
    for order in (1, 2):
        chain = MarkovChain(p.expand((3,) * (order + 1)), 6)
        close(chain.entropy(), -6 * (p * p.log()).sum())
        close(chain.entropy_rate(), -(p * p.log()).sum())


@pytest.mark.parametrize("order", [1, 2])
def test_chain_samples_follow_the_probabilities(order):
    chain, n = MarkovChain(a_table(3, order, 1), 4), 30_000
    x = chain.sample((n,), generator=seeded())
    assert (x.shape, x.dtype) == ((n, 4), torch.int64)
    places = (x * torch.tensor([27, 9, 3, 1])).sum(-1)
    expected = n * chain.log_prob(everything(3, 4)).exp()
    common = expected >= 5
    counts = torch.bincount(places, minlength=81)[common].numpy()
    rest = n - counts.sum(), n - expected[common].sum().item()  # all the rare ones together
    observed, expected = [*counts, rest[0] + 1], [*expected[common], rest[1] + 1]
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3  # fixed seed
    close(-chain.log_prob(x).mean(), chain.entropy(), 5 * chain.log_prob(x).std().item() / math.sqrt(n))


def test_chain_samples_repeat_with_a_generator():
    chain, state = MarkovChain(a_table(3, 2), 7), torch.get_rng_state()
    assert torch.equal(chain.sample((9,), generator=seeded(5)), chain.sample((9,), generator=seeded(5)))
    assert torch.equal(state, torch.get_rng_state())


def test_chain_keeps_its_dtype_and_reads_any_batch():
    chain = MarkovChain(a_table(3, 2).float(), 4)
    x = everything(3, 4)
    assert chain.log_prob(x).dtype == chain.entropy().dtype == chain.stationary.dtype == torch.float32
    assert chain.log_conditionals(x.reshape(9, 9, 4)).shape == (9, 9, 4, 3)
    assert torch.equal(chain.log_prob(x.reshape(9, 9, 4)).flatten(), chain.log_prob(x))
    assert chain.log_prob(x[5].to(torch.uint8)).item() == chain.log_prob(x)[5].item()


def test_chain_refuses():
    good = torch.full((2, 2), 0.5)
    for probs in (
        torch.tensor([0.5, 0.5]),
        torch.full((3, 2), 0.5),
        torch.full((2, 2, 3), 1 / 3),
        torch.eye(2),
        torch.full((2, 2), 0.6),
        torch.tensor([[1.5, -0.5], [0.5, 0.5]]),
        torch.tensor([[math.nan, 0.5], [0.5, 0.5]]),
    ):
        with pytest.raises(ValueError, match="^probs must"):
            MarkovChain(probs, 5)
    for probs, length in ((good, 1), (good, 0), (good, 2.0), (good, True), (torch.full((2, 2, 2), 0.5), 2)):
        with pytest.raises(ValueError, match="^length must"):
            MarkovChain(probs, length)
    chain = MarkovChain(good, 3)
    for x in (torch.zeros(2, 3), torch.full((2, 3), 2), torch.zeros(2, 4, dtype=torch.int64), [[0, 1, 0]]):
        for method in (chain.log_prob, chain.log_conditionals):
            with pytest.raises(ValueError, match="^x must"):
                method(x)
    with pytest.raises(ValueError, match="shape"):
        chain.sample(3)


# Grammar

FINITE = {
    "S": [(2, "a N T"), (1, "b N M T"), (0.5, "."), (1, "y T")],
    "N": [(1, "x"), (3, "y M")],
    "M": [(1, "x"), (1.5, "z")],
    "T": [(1, "."), (4, "x U")],
    "U": [(7, ".")],
}
NESTED = {
    "S": [(1, "a A T"), (2, "b T")],
    "A": [(1, "( A A"), (60, "o"), (2, "[ A B")],
    "B": [(1, "]"), (2, "o")],
    "T": [(15, "."), (1, "b S")],
}


def sentences(rules, start="S", longest=12):
    """All sentences up to a length, {words: probability}, one choice after the other."""
    done, open_ = {}, [((), (start,), 1.0)]
    while open_:
        words, symbols, p = open_.pop()
        if not symbols:
            assert words not in done  # one derivation for each
            done[words] = p
        elif len(words) + len(symbols) <= longest:
            total = sum(weight for weight, _ in rules[symbols[0]])
            for weight, text in rules[symbols[0]]:
                word, *rest = text.split()
                open_.append(((*words, word), (*rest, *symbols[1:]), p * weight / total))
    return done


def rows(grammar, texts):
    return pad([grammar.encode(" ".join(words)) for words in texts])


def test_words_begin_with_the_end_and_go_on_by_the_alphabet():
    grammar = Grammar(FINITE)
    assert grammar.words == (".", "a", "b", "x", "y", "z")
    assert grammar.end == 0
    assert Grammar({"S": [(1, "b E")], "E": [(1, "~")]}, end="~").words == ("~", "b")


@FEW
@given(st.lists(st.integers(1, 9), min_size=11, max_size=11))
def test_finite_grammar_by_enumeration(weights):
    weight = iter(weights)
    rules = {symbol: [(next(weight), text) for _, text in options] for symbol, options in FINITE.items()}
    grammar, truth = Grammar(rules), sentences(rules)
    p = torch.tensor(list(truth.values()))
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    close(grammar.log_prob(*rows(grammar, truth)).exp(), p)
    close(grammar.entropy(), -(p * p.log()).sum())
    close(grammar.mean_length(), (p * torch.tensor([len(words) for words in truth]).to(p)).sum())


def test_recursive_grammar_by_a_long_enumeration():
    grammar, truth = Grammar(NESTED), sentences(NESTED, longest=15)
    p = torch.tensor(list(truth.values()))
    assert 1e-9 < 1 - p.sum() < 3e-6
    close(grammar.log_prob(*rows(grammar, truth)).exp(), p)
    entropy = -(p * p.log()).sum()
    assert 0 < grammar.entropy() - entropy < 40 * (1 - p.sum())
    length = (p * torch.tensor([len(words) for words in truth]).to(p)).sum()
    assert 0 < grammar.mean_length() - length < 40 * (1 - p.sum())


def test_start_may_be_another_symbol():
    grammar = Grammar(FINITE, start="T")
    assert grammar.log_prob(grammar.encode("x .")[None]).item() == pytest.approx(math.log(0.8), abs=1e-14)
    assert grammar.mean_length().item() == pytest.approx(1.8, abs=1e-14)


def test_log_prob_of_what_is_no_sentence():
    grammar = Grammar(FINITE)
    truth = sentences(FINITE)
    every = [words for length in range(1, 5) for words in itertools.product(grammar.words, repeat=length)]
    p = grammar.log_prob(*rows(grammar, every)).exp().tolist()
    np.testing.assert_allclose(p, [truth.get(words, 0.0) for words in every], rtol=0, atol=1e-14)
    for text in ("a x", "a", "x .", "a x . .", "y . x", "b x x"):
        x = grammar.encode(text)[None]
        assert grammar.log_prob(x, torch.ones_like(x, dtype=torch.bool)).item() == -math.inf
    with pytest.raises(ValueError, match="^mask must be given"):
        grammar.log_prob(grammar.encode("y . x")[None])


@pytest.mark.parametrize("rules", [FINITE, NESTED])
def test_grammar_conditionals_are_those_of_the_enumeration(rules):
    grammar = Grammar(rules)
    truth = sentences(rules, longest=14)
    mass = Counter()
    for words, p in truth.items():
        for t in range(len(words) + 1):
            mass[words[:t]] += p
    short = [words for words in truth if len(words) <= 6]
    x, mask = rows(grammar, short)
    log_p = grammar.log_conditionals(x, mask)
    assert log_p.shape == (*x.shape, len(grammar.words))
    for i, words in enumerate(short):
        for t in range(len(words)):
            before = words[:t]
            expected = [mass[(*before, word)] / mass[before] for word in grammar.words]
            np.testing.assert_allclose(log_p[i, t].exp(), expected, rtol=0, atol=3e-4)
    close(log_p.exp().sum(-1)[mask], torch.ones(int(mask.sum())))
    chained = log_p.gather(-1, x[..., None])[..., 0].masked_fill(~mask, 0).sum(-1)
    close(chained, grammar.log_prob(x, mask))
    assert log_p[~mask].isnan().all()


def test_grammar_conditionals_after_what_cannot_stand_there():
    grammar = Grammar(FINITE)
    x = grammar.encode("a b x . x")[None]
    log_p = grammar.log_conditionals(x, torch.ones_like(x, dtype=torch.bool))[0]
    assert not log_p[:2].isnan().any()
    assert log_p[1, x[0, 1]] == -math.inf  # b cannot stand after a
    assert log_p[2:].isnan().all()
    x = grammar.encode("y . x x")[None]
    log_p = grammar.log_conditionals(x, torch.ones_like(x, dtype=torch.bool))[0]
    assert not log_p[:2].isnan().any()
    assert log_p[2:].isnan().all()


def test_padding_of_sentences_does_not_matter():
    grammar, truth = Grammar(FINITE), list(sentences(FINITE))
    x, mask = rows(grammar, truth)
    noise = torch.where(mask, x, torch.randint(-9, 99, x.shape, generator=seeded()))
    assert not torch.equal(x, noise)
    assert torch.equal(grammar.log_prob(x, mask), grammar.log_prob(noise, mask))
    assert torch.equal(grammar.log_conditionals(x, mask)[mask], grammar.log_conditionals(noise, mask)[mask])
    assert grammar.decode(noise, mask) == [" ".join(words) for words in truth]


def test_grammar_samples_follow_the_probabilities():
    grammar, truth, n = Grammar(FINITE), sentences(FINITE), 15_000
    x = grammar.sample((n,), generator=seeded(1))
    assert (x.dtype, len(x)) == (torch.int64, n)
    assert x.shape[1] == max(map(len, truth))
    mask = until_end(x, grammar.end)
    assert (x[~mask] == grammar.end).all()
    counts = Counter(grammar.decode(x, mask))
    texts = [" ".join(words) for words in truth]
    assert set(counts) <= set(texts)
    observed, expected = [counts[text] for text in texts], [n * p for p in truth.values()]
    assert min(expected) > 5
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3  # fixed seed


def test_grammar_samples_repeat_with_a_generator():
    grammar, state = Grammar(NESTED), torch.get_rng_state()
    first, second = (grammar.sample((50,), generator=seeded(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(3)
    assert torch.equal(grammar.sample((50,)), first)
    torch.set_rng_state(state)


def test_no_sentence_is_cut():
    longest = max(map(len, sentences(FINITE)))
    assert Grammar(FINITE, length=longest).sample((300,), generator=seeded()).shape == (300, longest)
    with pytest.raises(RuntimeError, match=f"longer than the {longest - 1} words"):
        Grammar(FINITE, length=longest - 1).sample((300,), generator=seeded())
    assert Grammar(FINITE).event_shape == (200,)


def test_texts_and_numbers():
    grammar = Grammar(FINITE)
    x = grammar.encode("a  x\n.")
    assert x.tolist() == [1, 3, 0]
    assert x.dtype == torch.int64
    assert grammar.decode(x[None]) == ["a x ."]
    with pytest.raises(ValueError, match=r"^text must.*\['dog', 'cat'\]"):
        grammar.encode("a dog x cat .")
    for empty in ("", "  \n"):
        with pytest.raises(ValueError, match="^text must"):
            grammar.encode(empty)


END = {"E": [(1, ".")]}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"S": [(1, "a E"), (2, "a S")]} | END, "^rules of S must begin with different words"),
        ({"S": [(1, "a T E")], "T": [(1, "x"), (1, "x T")]} | END, "^rules of T must begin with different"),
        ({"S": [(0, "a E"), (1, "b E")]} | END, "^weight of a rule of S must"),
        ({"S": [(1, "a E"), (-1, "b E")]} | END, "^weight of a rule of S must"),
        ({"S": [(math.nan, "a E")]} | END, "^weight of a rule of S must"),
        ({"S": [("1", "a E")]} | END, "^weight of a rule of S must"),
        ({"S": []}, "^rules of S must each hold"),
        ({"S": [(1, " ")]}, "^rules of S must each hold"),
        ({"S": [(1, "a b E")]} | END, "^rules of S must be a word, then symbols"),
        ({"S": [(1, "E E")]} | END, "^rules of S must be a word, then symbols"),
        ({"S": [(1, "a E"), (1, "b")]} | END, "^end must"),  # a sentence without the end
        ({"S": [(1, "a E E")]} | END, "^end must"),  # the end inside
        ({"S": [(1, "a T E")], "T": [(1, "x"), (1, ".")]} | END, "^end must"),
        ({"S": [(1, "a T E")], "T": [(1, "x U")], "U": [(1, "y"), (1, ".")]} | END, "^end must"),
        ({"S": [(1, "a T")], "T": [(1, "b U")], "U": [(1, "c S E"), (1, ".")]} | END, "^end must"),
        ({"S": [(1, "a E"), (1, ". E")]} | END, "^end must"),
        ({"S": [(1, "a")]}, "^end must"),
        ({"S": [(1, "a E")], "E": [(1, "!")]}, "^end must"),
        ({"S": [(1, "a S")]}, "^rules must end"),
        ({"S": [(1, "a A E")], "A": [(1, "( A A"), (1, "o")]} | END, "^rules must end"),
        (
            {"S": [(1, "a A E")], "A": [(3, "( B B"), (1, "o")], "B": [(3, "( A"), (1, "o")]} | END,
            "^rules must",
        ),
        ({"S": [(1, "a A E")], "A": [(2, "( A A"), (1, "o")]} | END, "^rules must end"),
    ],
)
def test_grammar_refuses(rules, message):
    with pytest.raises(ValueError, match=message):
        Grammar(rules)


@pytest.mark.parametrize("children", range(2, 13))
def test_a_grammar_on_the_edge_has_no_finite_length(children):
    """A symbol makes one of itself on average: its expected length is infinite, whatever rounding says."""
    edge = {"S": [(1, "a A E")], "A": [(1, "(" + " A" * children), (children - 1, "o")]} | END
    with pytest.raises(ValueError, match="^rules must end"):
        Grammar(edge)
    below = edge | {"A": [(1, "(" + " A" * children), (children, "o")]}
    assert Grammar(below).mean_length().item() == pytest.approx(children + 3, rel=1e-9)


def test_end_may_stand_where_only_a_last_symbol_leads():
    grammar = Grammar({"S": [(1, "a T T2")], "T": [(1, "x"), (1, "y T")], "T2": [(1, "x T2"), (2, ".")]})
    assert grammar.mean_length().item() == pytest.approx(1 + 2 + 1.5, abs=1e-13)


def test_grammar_refuses_other_arguments():
    with pytest.raises(ValueError, match="^start must be one of the symbols S, N, M, T, U, got 'X'"):
        Grammar(FINITE, start="X")
    with pytest.raises(ValueError, match="^end must"):
        Grammar(FINITE, end="x")
    for length in (0, 2.0, None):
        with pytest.raises(ValueError, match="^length must"):
            Grammar(FINITE, length=length)
    grammar = Grammar(FINITE)
    for method in (grammar.log_prob, grammar.log_conditionals, grammar.decode):
        with pytest.raises(ValueError, match="^x must"):
            method(torch.tensor([[1, 6]]))
        with pytest.raises(ValueError, match="^mask must"):
            method([torch.tensor([1]), torch.tensor([1, 2])])
    for shape in ((0,), 5):
        with pytest.raises(ValueError, match="shape"):
            grammar.sample(shape)


# english

SINGULAR, PLURAL = {"dog", "cow", "gull", "seal"}, {"dogs", "cows", "gulls", "seals"}
PLAIN_S, PLAIN_P = {"sleeps", "sings", "waits"}, {"sleep", "sing", "wait"}
TAKING_S, TAKING_P = {"sees", "likes", "chases"}, {"see", "like", "chase"}
OTHER = dict(zip(sorted(PLAIN_S | TAKING_S), sorted(PLAIN_P | TAKING_P), strict=True))
OTHER |= {plural: singular for singular, plural in OTHER.items()}


class Reader:
    """Reads a sentence of `english` from left to right; fails where a verb does not agree with its noun."""

    def __init__(self, text):
        self.words, self.pairs, self.depth = text.split(), 0, 0

    def take(self, *sets):
        for i, words in enumerate(sets):
            if self.words and self.words[0] in words:
                self.words.pop(0)
                return i
        raise AssertionError(f"{sorted(set().union(*sets))} should come, not {self.words}")

    def sees(self, words):
        return bool(self.words) and self.words[0] in words

    def noun_phrase(self):
        """Return whether the noun is plural."""
        determiner = self.take({"the"}, {"every"}, {"many"})
        while self.sees({"old", "small"}):
            self.take({"old", "small"})
        plural = self.take(SINGULAR, PLURAL)
        assert plural == (plural, 0, 1)[determiner]
        return plural

    def verb(self, plural):
        """Return whether the verb takes an object."""
        self.pairs += 1
        return self.take((PLAIN_S, PLAIN_P)[plural], (TAKING_S, TAKING_P)[plural])

    def relative(self, plural, depth=1):
        if not self.sees({"that"}):
            return
        self.take({"that"})
        self.depth = max(self.depth, depth)
        if self.sees({"the", "every", "many"}):  # "that the cows ... chase"
            inner = self.noun_phrase()
            self.relative(inner, depth + 1)
            assert self.verb(inner) == 1
        elif self.verb(plural):
            self.noun_phrase()

    def sentence(self):
        plural = self.noun_phrase()
        self.relative(plural)
        if self.verb(plural):
            plural = self.noun_phrase()
            self.relative(plural)
        if self.sees({"today"}):
            self.take({"today"})
        self.take({"."})
        assert not self.words
        return self


@functools.cache
def some_english(kinds=False, n=1500):
    grammar = english(kinds=kinds)
    x = grammar.sample((n,), generator=seeded(4))
    return grammar, x, until_end(x, grammar.end)


def test_subjects_and_verbs_agree_over_clauses_inside_clauses():
    grammar, x, mask = some_english()
    read = [Reader(text).sentence() for text in grammar.decode(x, mask)]
    assert max(reader.depth for reader in read) >= 2
    assert max(reader.pairs for reader in read) >= 4
    assert grammar.log_prob(x, mask).isfinite().all()


def test_a_verb_of_the_wrong_number_makes_no_sentence():
    grammar, x, mask = some_english()
    wrong, right = [], 0
    for text in grammar.decode(x[:300], mask[:300]):
        words = text.split()
        for t, word in enumerate(words):
            if word in OTHER:
                wrong.append((*words[:t], OTHER[word], *words[t + 1 :]))
                right += 1
    assert right > 350
    assert (grammar.log_prob(*rows(grammar, wrong)) == -math.inf).all()


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("the dog that the cows that every gull sees chase sleeps .", True),
        ("many small old seals that chase the gull wait today .", True),
        ("every cow that sleeps likes many dogs that the gull that sings sees .", True),
        ("the dog sleeps .", True),
        ("the dog that the cows that every gull sees chases sleeps .", False),
        ("the dog that the cows that every gull sees chase sleep .", False),
        ("the dog that the cows that every gull see chase sleeps .", False),
        ("every dogs sleep .", False),
        ("many dog sleeps .", False),
        ("the dog sees .", False),
        ("the dog sleeps the cow .", False),
        ("the dog that sleeps .", False),
        ("the dog today .", False),
        ("the dog sleeps", False),
    ],
)
def test_sentences_that_are_english_and_others(text, good):
    grammar = english()
    assert grammar.log_prob(grammar.encode(text)[None]).isfinite().item() == good
    if good:
        Reader(text).sentence()
    else:
        with pytest.raises(AssertionError):
            Reader(text).sentence()


@pytest.mark.parametrize("kinds", [False, True])
def test_moments_of_english_agree_with_a_sample(kinds):
    grammar, x, mask = some_english(kinds)
    log_p, length = grammar.log_prob(x, mask), mask.sum(-1).double()
    root = math.sqrt(len(x))
    close(-log_p.mean(), grammar.entropy(), 4.5 * log_p.std().item() / root)
    close(length.mean(), grammar.mean_length(), 4.5 * length.std().item() / root)


def test_kinds_are_equally_probable_and_differ_in_their_animals():
    grammar, x, mask = some_english(True)
    texts = grammar.decode(x, mask)
    first = grammar.log_conditionals(x[:1], mask[:1])[0, 0].exp()
    assert {grammar.words[i]: first[i].item() for i in first.nonzero()[:, 0]} == pytest.approx(
        {"farm": 0.5, "sea": 0.5}, abs=1e-15
    )
    share = {}
    for kind in ("farm", "sea"):
        of_kind = [text for text in texts if text.startswith(kind + " ")]
        for text in of_kind:
            Reader(text.removeprefix(kind)).sentence()
        words = Counter(word.rstrip("s") for text in of_kind for word in text.split())
        farm, sea = words["dog"] + words["cow"], words["gull"] + words["seal"]
        share[kind] = farm / (farm + sea)
    assert share["farm"] > 0.7
    assert share["sea"] < 0.3


def test_entropy_of_two_kinds_is_one_bit_more_than_their_mean(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(language, "Grammar", lambda rules: rules)
        rules = english(kinds=True)
    whole = english(kinds=True)
    parts = [Grammar(rules, start=text.split()[1]) for _, text in rules["S"]]
    assert len(parts) == 2
    close(whole.entropy(), math.log(2) + (parts[0].entropy() + parts[1].entropy()) / 2)
    close(whole.mean_length(), 1 + (parts[0].mean_length() + parts[1].mean_length()) / 2)


# prose


@functools.cache
def the_prose(repeats=False):
    return prose(repeats=repeats)


def paragraphs(part):
    return [block for x in part.values() for block in Prose.decode(x).removesuffix("\n").split("\n")]


def test_alphabet():
    assert len(ALPHABET) == len(set(ALPHABET)) == 96
    assert ALPHABET[0] == "\n"
    assert ALPHABET[1:].isprintable()
    assert ALPHABET.isascii()


@pytest.mark.parametrize("repeats", [False, True])
def test_prose_is_tidy(repeats):
    for part in the_prose(repeats):
        assert len(part) >= 2
        for x in part.values():
            assert x.dtype == torch.int64
            assert 0 <= x.min() <= x.max() < 96
            text = Prose.decode(x)
            assert text.endswith("\n")
            for block in text[:-1].split("\n"):
                assert re.search(r"\w", block)
                assert block == " ".join(block.split())
            assert torch.equal(Prose.encode(text), x)
        assert {"\n", " "} < set("".join(map(Prose.decode, part.values())))


def plain(text):
    for strange, usual in {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."}.items():
        text = text.replace(strange, usual)
    return " ".join("".join(c if c.isascii() else "?" for c in text).split())


def test_prose_holds_the_whole_of_its_topics_with_repeats():
    for part in the_prose(True):
        for topic, x in part.items():
            original, blocks = plain(topics[topic]), Prose.decode(x)[:-1].split("\n")
            place = 0
            for block in blocks:
                place = original.index(block, place) + len(block)
            assert sum(map(len, blocks)) > 0.95 * len(original)


def test_parts_share_no_topic_and_no_paragraph():
    parts = the_prose()
    assert len(set().union(*parts)) == sum(map(len, parts))
    for held_out in ("valid", "test"):
        others = [getattr(parts, name) for name in parts._fields if name != held_out]
        elsewhere = {block for part in others for block in paragraphs(part)}
        assert not {block for block in paragraphs(getattr(parts, held_out)) if len(block) >= 40} & elsewhere
    short = [Counter(block for block in paragraphs(part) if len(block) < 40) for part in parts]
    assert set(short[0]) & (set(short[1]) | set(short[2]))  # these may come again


def test_repeats_stand_in_several_parts():
    with_repeats, without = the_prose(True), the_prose()
    long = [{block for block in paragraphs(part) if len(block) >= 40} for part in with_repeats]
    assert len(long[0] & (long[1] | long[2])) > 5
    assert [list(part) for part in with_repeats] == [list(part) for part in without]
    for full, new in zip(with_repeats, without, strict=True):
        for topic in full:
            assert len(new[topic]) <= len(full[topic])
            kept = Counter(Prose.decode(new[topic]).split("\n"))
            assert kept <= Counter(Prose.decode(full[topic]).split("\n"))


def test_the_fourth_and_the_sixth_of_seven_topics_are_held_out():
    parts = the_prose()
    texts = {topic: Prose.decode(x) for part in parts for topic, x in part.items()}
    size = {topic: len(text) - text.count("\n") for topic, text in texts.items()}
    assert min(size.values()) >= 200
    order = sorted(size, key=lambda topic: (-size[topic], topic))
    assert list(parts.test) == order[3::7]
    assert list(parts.valid) == order[5::7]
    assert list(parts.train) == [topic for i, topic in enumerate(order) if i % 7 not in (3, 5)]


def test_prose_is_always_the_same():
    again = prose()
    for part, other in zip(the_prose(), again, strict=True):
        assert list(part) == list(other)
        assert all(torch.equal(part[topic], other[topic]) for topic in part)


@STEADY
@given(st.text(ALPHABET, min_size=1))
def test_text_survives_encoding(text):
    x = Prose.encode(text)
    assert x.shape == (len(text),)
    assert Prose.decode(x) == text


def test_encode_refuses():
    with pytest.raises(ValueError, match=r"^text must.*\['\\t', 'é'\]"):
        Prose.encode("caf\u00e9\t")
    with pytest.raises(ValueError, match="^text must"):
        Prose.encode("")


# pad, until_end

ROWS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=5)


@STEADY
@given(ROWS, st.integers(-2, 7))
def test_pad_by_hand(lists, fill):
    x, mask = pad([torch.tensor(row) for row in lists], fill)
    longest = max(map(len, lists))
    assert x.tolist() == [row + [fill] * (longest - len(row)) for row in lists]
    assert mask.tolist() == [[t < len(row) for t in range(longest)] for row in lists]
    assert (x.dtype, mask.dtype) == (torch.int64, torch.bool)


def test_pad_fills_with_zero_and_reads_any_whole_numbers():
    x, _ = pad([torch.tensor([3, 2], dtype=torch.uint8), torch.tensor([1])])
    assert x.tolist() == [[3, 2], [1, 0]]


def test_pad_refuses():
    for sequences in (
        [],
        [torch.tensor([1]), torch.tensor([], dtype=torch.int64)],
        [torch.tensor([[1]])],
        [torch.tensor(1)],
        [torch.tensor([1.0])],
        [torch.tensor([True])],
        [torch.tensor([-1])],
        [[1, 2]],
    ):
        with pytest.raises(ValueError, match="^sequences must"):
            pad(sequences)


@STEADY
@given(ROWS, st.integers(0, 5))
def test_until_end_by_hand(lists, end):
    x, _ = pad([torch.tensor(row) for row in lists], 5)
    expected = [[end not in row[:t] for t in range(len(row))] for row in x.tolist()]
    assert until_end(x, end).tolist() == expected
    assert until_end(x, end).dtype == torch.bool


@STEADY
@given(st.lists(st.lists(st.integers(1, 5), max_size=5), min_size=1, max_size=5))
def test_until_end_undoes_padding_with_the_end(lists):
    x, mask = pad([torch.tensor([*row, 0]) for row in lists], 0)
    assert torch.equal(until_end(x, 0), mask)
