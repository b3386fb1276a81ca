"""Sources of sequences: a Markov chain and a grammar that are known exactly.

A sequence is a row of whole numbers, its *tokens*. Where sequences differ in length they are padded on the right, and a
mask says which tokens count.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from genlib import _arguments as require
from genlib.data.sources import Source
from genlib.discrete import entropy, inverse_cdf


class MarkovChain(Source):
    """Sequences of L symbols in which the next one depends on the last few (Shannon 1948, §3).

    The chain runs in its stationary distribution: every stretch of it has the same law, the first one too.

    Args:
        probs: (K, ..., K, K) probabilities of the next symbol; the dimensions before the last are the symbols that it
            depends on, the oldest first. Two of them make a chain of order 2. All must be positive.
        length: L, the number of symbols in one draw, above the order.

    Attributes:
        order: how many symbols back the chain looks.
        stationary: (K, ..., K) probabilities of as many symbols as the order.
    """

    def __init__(self, probs: Tensor, length: int) -> None:
        self.probs = require.probabilities("probs", probs)
        if self.probs.ndim < 2 or len(set(self.probs.shape)) != 1 or (self.probs == 0).any():
            raise ValueError(
                f"probs must be positive and of shape (K, ..., K), got shape {tuple(self.probs.shape)}"
            )
        self.order, self.symbols = self.probs.ndim - 1, self.probs.shape[-1]
        self.event_shape = torch.Size([require.whole_number("length", length, self.order + 1)])
        self.stationary = self._stationary()

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw sequences, (n,) → (n, L) int64."""
        (length,) = self.event_shape
        u = torch.rand(
            (require.sample_count(shape), length),
            generator=generator,
            dtype=self.probs.dtype,
            device=self.probs.device,
        )
        context = inverse_cdf(self.stationary.flatten(), u[:, 0])  # (n,), as many symbols as the order in one
        drawn = list(torch.unravel_index(context, self.stationary.shape))
        for t in range(self.order, length):
            drawn.append(inverse_cdf(self.probs[tuple(drawn[-self.order :])], u[:, t]))
        return torch.stack(drawn, 1)

    def log_conditionals(self, x: Tensor) -> Tensor:
        """log P(· | the symbols before) in nats at every place, (B, L) → (B, L, K)."""
        x = require.symbols("x", x, self.event_shape, self.symbols)
        columns, out = x.unbind(-1), []
        for t in range(self.order):  # the first few places: margins of the stationary distribution
            joint = (
                self.stationary.sum(tuple(range(t + 1, self.order)))
                if t + 1 < self.order
                else self.stationary
            )
            out.append((joint / joint.sum(-1, keepdim=True))[columns[:t]])
        out[0] = out[0].expand(*x.shape[:-1], -1)
        out += [self.probs[columns[t - self.order : t]] for t in range(self.order, x.shape[-1])]
        return torch.stack(out, -2).log()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of sequences in nats, (B, L) → (B,)."""
        log_p = self.log_conditionals(x)
        return log_p.gather(-1, x.long()[..., None])[..., 0].sum(-1)

    def entropy_rate(self) -> Tensor:
        """Entropy of one more symbol, given those before it, in nats: the mean of the rows' entropies."""
        return (self.stationary * entropy(self.probs)).sum()

    def entropy(self) -> Tensor:
        """Entropy of a sequence of L symbols in nats, exact."""
        return entropy(self.stationary.flatten()) + (self.event_shape[0] - self.order) * self.entropy_rate()

    def _stationary(self) -> Tensor:
        """Solve π = πT over the contexts, with the sum 1 in place of one equation that the others imply."""
        contexts, symbols = self.probs[..., 0].numel(), self.symbols
        rows = self.probs.reshape(contexts, symbols).double()
        start = torch.arange(contexts, device=rows.device)
        move = rows.new_zeros(contexts, contexts)
        for k in range(symbols):  # the oldest symbol goes, symbol k comes
            move[start, (start * symbols + k) % contexts] += rows[:, k]
        system = move.T - torch.eye(contexts, dtype=rows.dtype, device=rows.device)
        system[-1] = 1
        right = rows.new_zeros(contexts)
        right[-1] = 1
        pi = torch.linalg.solve(system, right).clamp(min=0)
        return (pi / pi.sum()).to(self.probs).reshape(self.probs.shape[:-1])


class Grammar(Source):
    """Sentences from a grammar with probabilities, in which a word always says which rule made it.

    A rule turns a symbol into a word followed by symbols. No two rules of a symbol begin with the same word (a *simple*
    grammar: Korenjak and Hopcroft 1966). So the words of a sentence determine its rules, and its probability is their
    product. Sentences end in one word that stands nowhere else.

    Args:
        rules: symbol → rules, each a weight and a text: a word, then symbols, separated by spaces. A word is what is
            no symbol. The weights of a symbol are divided by their sum.
        start: the symbol that makes a sentence.
        end: the word that ends every sentence.
        length: L, the longest sentence that `sample` may meet, in words with the end.

    Attributes:
        words: the V words, in alphabetical order after `end`, which is number 0.
        end: 0.

    Raises:
        ValueError: two rules of a symbol begin alike, a weight is not above 0, a sentence may end without `end` or have
            it inside, or the expected length of a sentence is infinite.
    """

    def __init__(
        self,
        rules: Mapping[str, Sequence[tuple[float, str]]],
        start: str = "S",
        end: str = ".",
        length: int = 200,
    ) -> None:
        if start not in rules:
            raise ValueError(f"start must be one of the symbols {', '.join(rules)}, got {start!r}")
        self.start, self.end = start, 0
        self.event_shape = torch.Size([require.whole_number("length", length)])
        parsed = {symbol: [(weight, *text.split()) for weight, text in rules[symbol]] for symbol in rules}
        self._check(parsed, end)
        words = {word for options in parsed.values() for _, word, *_ in options}
        self.words = (end, *sorted(words - {end}))
        self._number = {word: i for i, word in enumerate(self.words)}
        self._rules = {}  # symbol → the probabilities of its rules, and word → (log-probability, symbols)
        for symbol, options in parsed.items():
            p = torch.tensor([weight for weight, *_ in options], dtype=torch.float64, device="cpu")
            log_p = (p / p.sum()).log().tolist()
            self._rules[symbol] = {
                self._number[word]: (share, tuple(rest))
                for share, (_, word, *rest) in zip(log_p, options, strict=True)
            }
        self._moments()

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw sentences, (n,) → (n, L') int64, padded with `end`; L' is the length of the longest.

        Raises:
            RuntimeError: a sentence grew longer than L words. Nothing is cut.
        """
        n, numbers = require.sample_count(shape), _uniform(generator)
        return pad([self._derive(numbers) for _ in range(n)], self.end)[0]

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probability of sentences in nats, (B, L) → (B,); −inf for what the grammar cannot make.

        Args:
            x: (B, L) words, padded on the right; a row without its end is no sentence.
            mask: (B, L) bool, True for the words that count; all of them when None.
        """
        x, mask = require.sequences("x", x, mask, len(self.words), self.end)
        scores = []
        for row, keep in zip(x.tolist(), mask.sum(-1).tolist(), strict=True):
            steps = list(self._parse(row[:keep]))
            complete = len(steps) == keep and not steps[-1][2]
            scores.append(sum(log_p for _, log_p, _ in steps) if complete else -torch.inf)
        return torch.tensor(scores, dtype=torch.get_default_dtype(), device=x.device)

    def log_conditionals(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """log P(· | the words before) in nats at every place, (B, L) → (B, L, V).

        It is NaN where nothing can follow: after the end of a sentence, or after a word that cannot stand there.
        """
        x, mask = require.sequences("x", x, mask, len(self.words), self.end)
        table = {symbol: torch.full((len(self.words),), -torch.inf, device="cpu") for symbol in self._rules}
        for symbol, options in self._rules.items():
            for word, (log_p, _) in options.items():
                table[symbol][word] = log_p
        out = torch.full((*x.shape, len(self.words)), torch.nan, device="cpu")
        for i, (row, keep) in enumerate(zip(x.tolist(), mask.sum(-1).tolist(), strict=True)):
            for t, (symbol, _, _) in enumerate(self._parse(row[:keep])):
                out[i, t] = table[symbol]
        return out.to(x.device)

    def entropy(self) -> Tensor:
        """Entropy of a sentence in nats, exact: Σ over symbols of (how often) · (entropy of the choice of rule)."""
        return torch.tensor(self._entropy)

    def mean_length(self) -> Tensor:
        """Expected number of words in a sentence, with the end, exact."""
        return torch.tensor(self._mean_length)

    def decode(self, x: Tensor, mask: Tensor | None = None) -> list[str]:
        """Turn rows of words (B, L) into texts."""
        x, mask = require.sequences("x", x, mask, len(self.words), self.end)
        return [
            " ".join(self.words[i] for i in row[:keep])
            for row, keep in zip(x.tolist(), mask.sum(-1).tolist(), strict=True)
        ]

    def encode(self, text: str) -> Tensor:
        """Turn a text of known words, separated by spaces, into numbers (L,)."""
        unknown = [word for word in text.split() if word not in self._number]
        if unknown or not text.strip():
            raise ValueError(f"text must hold words of the grammar only, got {unknown or text!r}")
        return torch.tensor([self._number[word] for word in text.split()])

    def _parse(self, row: Sequence[int]) -> Iterator[tuple[str, float, list[str]]]:
        """Yield the symbol that made each word, the log-probability of its rule, and what is still to come.

        Stops at the first word that cannot stand there, after the symbol that could not make it.
        """
        stack = [self.start]
        for word in row:
            if not stack:
                return
            symbol = stack.pop()
            log_p, rest = self._rules[symbol].get(word, (-torch.inf, ()))
            stack += reversed(rest)
            yield symbol, log_p, list(stack)
            if log_p == -torch.inf:
                return

    def _derive(self, numbers: Iterator[float]) -> Tensor:
        """Make one sentence from uniform numbers."""
        stack, words = [self.start], []
        while stack:
            ends, options = self._choices[stack.pop()]
            word, rest = options[bisect.bisect(ends, next(numbers))]
            words.append(word)
            stack += reversed(rest)
            if len(words) > self.event_shape[0]:
                raise RuntimeError(f"a sentence grew longer than the {self.event_shape[0]} words allowed")
        return torch.tensor(words)

    def _check(self, parsed: Mapping[str, Sequence[tuple]], end: str) -> None:
        """Refuse rules that are not those of a simple grammar whose sentences end in `end` and nowhere else."""
        for symbol, options in parsed.items():
            if not options or any(len(option) < 2 for option in options):
                raise ValueError(f"rules of {symbol} must each hold a weight and a word, got {options}")
            firsts = [word for _, word, *_ in options]
            if len(set(firsts)) < len(firsts):
                raise ValueError(f"rules of {symbol} must begin with different words, got {firsts}")
            for weight, word, *rest in options:
                require.positive(f"weight of a rule of {symbol}", weight)
                if word in parsed or any(part not in parsed for part in rest):
                    raise ValueError(f"rules of {symbol} must be a word, then symbols, got {(word, *rest)}")
        closing, inside = (
            {self.start},
            set(),
        )  # symbols that come last in a sentence, and those that come before
        while True:
            rules = [rule for symbol in closing for rule in parsed[symbol]]
            last = {rest[-1] for _, _, *rest in rules if rest}
            inner = {part for _, _, *rest in rules for part in rest[:-1]}
            inner |= {part for symbol in inside for _, _, *rest in parsed[symbol] for part in rest}
            if last <= closing and inner <= inside:
                break
            closing, inside = closing | last, inside | inner
        ends = all((word == end) == (not rest) for _, word, *rest in rules)
        if not ends or any(word == end for symbol in inside for _, word, *_ in parsed[symbol]):
            raise ValueError(
                f"end must be the last word of every sentence and stand nowhere else, got {end!r}"
            )

    def _moments(self) -> None:
        """Solve for the mean length and the entropy: both add up what one rule gives over the rules that are used.

        With M[i, j] the expected number of symbols j in a rule of i, a sentence uses (1 − M)⁻¹[start, j] times symbol j
        (Grenander 1976, Pattern Synthesis, ch. 2).
        """
        place = {symbol: i for i, symbol in enumerate(self._rules)}
        size = len(place)
        moved = torch.zeros(size, size, dtype=torch.float64, device="cpu")
        choice = torch.zeros(
            size, dtype=torch.float64, device="cpu"
        )  # entropy of the choice among a symbol's rules
        for symbol, options in self._rules.items():
            for log_p, rest in options.values():
                choice[place[symbol]] -= math.exp(log_p) * log_p
                for part in rest:
                    moved[place[symbol], place[part]] += math.exp(log_p)
        if torch.linalg.eigvals(moved).abs().max() > 1 - 1e-9:
            raise ValueError("rules must end: with these the expected length of a sentence is infinite")
        used = torch.linalg.inv(torch.eye(size).to(moved) - moved)[
            place[self.start]
        ]  # how often, in a sentence
        self._mean_length, self._entropy = used.sum().item(), (used * choice).sum().item()
        self._choices = {}  # symbol → where the shares of its rules end on [0, 1), and the rules
        for symbol, options in self._rules.items():
            ends = list(itertools.accumulate(math.exp(log_p) for log_p, _ in options.values()))
            self._choices[symbol] = (ends[:-1], [(word, rest) for word, (_, rest) in options.items()])


_NOUNS = {"s": ("dog", "cow", "gull", "seal"), "p": ("dogs", "cows", "gulls", "seals")}
_VERBS = {"s": ("sleeps", "sings", "waits"), "p": ("sleep", "sing", "wait")}
_VERBS_WITH_OBJECT = {"s": ("sees", "likes", "chases"), "p": ("see", "like", "chase")}


def english(*, kinds: bool = False) -> Grammar:
    """Sentences about animals, with agreement of subject and verb over a distance, and with clauses inside clauses.

    A relative clause may stand between a noun and its verb, and another one inside it. In "the dog that the cows that
    every gull sees chase sleeps ." each verb agrees with its own noun, the last verb with the first noun.

    Args:
        kinds: whether each sentence begins with a word for its kind, ``farm`` or ``sea``, both equally probable. Dogs
            and cows are more frequent in the first, gulls and seals in the second.
    """
    if not kinds:
        return Grammar(_english("", (4, 3, 2, 1)))
    rules = {"S": [(1, "farm subject-farm"), (1, "sea subject-sea")]}
    return Grammar(rules | _english("-farm", (6, 5, 1, 1)) | _english("-sea", (1, 1, 5, 6)))


def _english(kind: str, weights: Sequence[float]) -> dict[str, list[tuple[float, str]]]:
    """Rules for sentences whose four nouns have these weights; s and p in a symbol's name mean singular and plural."""
    rules: dict[str, list[tuple[float, str]]] = {}

    def phrase(role: str, then: str) -> list[tuple[float, str]]:
        """Rules of a noun phrase, a determiner with or without adjectives and a noun, after which `then` follows."""
        for name, numbers in (("any", "sp"), ("s", "s"), ("p", "p")):
            nouns = [
                (weight / len(numbers), f"{noun} {then}-{number}" if then else noun)
                for number in numbers
                for noun, weight in zip(_NOUNS[number], weights, strict=True)
            ]
            adjectives = [(0.1 * sum(weights), f"{word} {role}-{name}") for word in ("old", "small")]
            rules[f"{role}-{name}"] = nouns + adjectives
        return [(5, f"the {role}-any"), (3, f"every {role}-s"), (2, f"many {role}-p")]

    rules["subject" if kind else "S"] = phrase("subject", "clause")
    rules["object"] = phrase("object", "close")
    rules["inner-object"] = phrase("inner-object", "")
    inner_subject = phrase("inner-subject", "inner")
    rules["end"] = [(1, ".")]
    for n in "sp":
        # What may follow a noun or verb of number n, up to the end of the sentence or of the relative clause.
        rules[f"verb-{n}"] = [(3, f"{verb} close") for verb in _VERBS[n]]
        rules[f"verb-{n}"] += [(2, f"{verb} object") for verb in _VERBS_WITH_OBJECT[n]]
        rules[f"clause-{n}"] = [*rules[f"verb-{n}"], (6, f"that relative-{n} verb-{n}")]
        rules[f"relative-{n}"] = [(2, verb) for verb in _VERBS[n]] + inner_subject
        rules[f"relative-{n}"] += [(1, f"{verb} inner-object") for verb in _VERBS_WITH_OBJECT[n]]
        rules[f"inner-verb-{n}"] = [(1, verb) for verb in _VERBS_WITH_OBJECT[n]]
        rules[f"inner-{n}"] = [*rules[f"inner-verb-{n}"], (0.6, f"that relative-{n} inner-verb-{n}")]
        rules[f"close-{n}"] = [(4, "."), (1, "today end"), (1, f"that relative-{n} end")]
    rules["close"] = [(4, "."), (1, "today end")]

    def renamed(text: str) -> str:
        word, *symbols = text.split()
        return " ".join([word, *(symbol + kind for symbol in symbols)])

    return {
        symbol if symbol == "S" else symbol + kind: [(weight, renamed(text)) for weight, text in options]
        for symbol, options in rules.items()
    }


def pad(sequences: Sequence[Tensor], fill: int = 0) -> tuple[Tensor, Tensor]:
    """Put sequences of different lengths into one batch, [(L_i,), ...] → (B, L) and the mask (B, L) of what counts.

    Raises:
        ValueError: there is no sequence, or one is empty or no row of whole numbers.
    """
    rows = [require.symbols("sequences", row, (), math.inf) for row in sequences]
    if not rows or any(row.ndim != 1 or not len(row) for row in rows):
        raise ValueError("sequences must hold at least one tensor, each of shape (L,) with L at least 1")
    mask = nn.utils.rnn.pad_sequence(
        [torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True
    )
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill), mask


def until_end(x: Tensor, end: int) -> Tensor:
    """Mask of what comes up to the first `end` in each row and with it, (B, L) → (B, L) bool."""
    return ((x == end).cumsum(-1) - (x == end).long()) == 0


def _uniform(generator: torch.Generator | None) -> Iterator[float]:
    """Uniform numbers in [0, 1) without end, drawn in blocks."""
    device = torch.get_default_device() if generator is None else generator.device
    while True:
        yield from torch.rand(4096, generator=generator, device=device, dtype=torch.float64).tolist()
