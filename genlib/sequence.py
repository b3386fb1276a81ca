"""Models of sequences: each symbol given the symbols before it.

All share one interface. `Autoregressive` turns the conditional distributions of a model into probabilities of whole
sequences, and into samples; `NGram`, `Recurrent` and `Transformer` say what the conditionals are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genlib import _arguments as require
from genlib._shapes import like_parameters
from genlib.discrete import inverse_cdf


def truncate(
    logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """Log-probabilities after temperature, top-k and top-p, (..., V) → (..., V); −inf for what was cut off.

    First the logits are divided by the temperature; then all but the k most probable symbols are cut off (Fan et al.
    2018, arXiv:1805.04833); then all but the nucleus, the fewest most probable symbols that hold a mass of at least p
    (Holtzman et al. 2020, arXiv:1904.09751). What is left is divided by its sum.

    Args:
        logits: unnormalised log-probabilities.
        temperature: above 0. Below 1 is surer, above 1 more modest.
        top_k: how many symbols to keep, at least 1; 1 is the greedy choice. None keeps all, as does k ≥ V.
        top_p: the mass to keep, in (0, 1]. None keeps all.

    Raises:
        ValueError: an argument is out of range.
    """
    log_q = (logits / require.positive("temperature", temperature)).log_softmax(-1)
    if top_k is not None:
        k = min(require.whole_number("top_k", top_k), log_q.shape[-1])
        kept = log_q.topk(k, -1).indices
        log_q = torch.full_like(log_q, -torch.inf).scatter(-1, kept, log_q.gather(-1, kept)).log_softmax(-1)
    if top_p is not None:
        if require.positive("top_p", top_p) > 1:
            raise ValueError(f"top_p must lie in (0, 1], got {top_p}")
        if top_p == 1:
            return log_q
        ranked, order = log_q.sort(dim=-1, descending=True, stable=True)
        mass_before = ranked.exp().cumsum(-1) - ranked.exp()
        ranked = ranked.masked_fill((mass_before >= top_p) & (mass_before > 0), -torch.inf)
        log_q = torch.empty_like(log_q).scatter(-1, order, ranked).log_softmax(-1)
    return log_q


class Autoregressive(nn.Module):
    """A distribution over sequences, as a product of conditionals: log Q(x) = Σ_t log Q(x_t | x_1, …, x_{t−1}).

    A subclass defines ``forward``: symbols (B, L) and a state → logits (B, L, V) of the symbol that follows each of
    them, and the state to go on from. The state holds what is remembered of earlier symbols, and is None at first. A
    sequence is read from the start symbol on, which is number V.

    Args:
        vocabulary: V, the number of symbols.
        end: the symbol that ends a sequence; None for sequences that are cut off at some length.
        length: L, the most symbols that `sample` draws unless it is told another number.

    Attributes:
        event_shape: (L,). Sequences may be shorter or longer; they are told apart from others by their symbols alone.
    """

    def __init__(self, vocabulary: int, end: int | None = None, length: int = 200) -> None:
        super().__init__()
        self.event_shape = torch.Size([require.whole_number("length", length)])
        self.vocabulary = require.whole_number("vocabulary", vocabulary)
        if end is not None and require.whole_number("end", end, 0) >= self.vocabulary:
            raise ValueError(f"end must lie between 0 and {self.vocabulary - 1}, got {end}")
        self.end = end
        self.about: nn.Linear | None = None  # what a condition says, in the space of the symbols' vectors
        self.told: Tensor | None = None

    def given(self, c: Tensor) -> Autoregressive:
        """The model of B sequences under conditions c (B, C); it shares its parameters with this one.

        Raises:
            ValueError: the model was made for another number C.
        """
        if self.about is None or c.shape[-1] != self.about.in_features:
            size = 0 if self.about is None else self.about.in_features
            raise ValueError(f"c must hold {size} numbers for each sequence, got {c.shape[-1]}")
        twin = copy.copy(self)
        twin.told = self.about(c)[:, None]  # (B, 1, size of a symbol's vector)
        return twin

    def _vectors(self, x: Tensor) -> Tensor:
        """The symbols' vectors, (B, L) → (B, L, ·); where there is a condition, each is moved by what it says."""
        if self.about is not None and self.told is None:
            raise ValueError(f"c must be given: the model was made for {self.about.in_features} numbers")
        return self.embed(x) if self.told is None else self.embed(x) + self.told

    def log_conditionals(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """log Q(· | the symbols before) in nats at every place, (B, L) → (B, L, V); arguments as in `log_prob`."""
        x, _ = require.sequences("x", x, mask, self.vocabulary, self.end)
        start = torch.full_like(x[:, :1], self.vocabulary)
        return self(torch.cat([start, x[:, :-1]], 1))[0].log_softmax(-1)

    def log_factors(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """log Q(x_t | x_1, …, x_{t−1}) in nats, (B, L) → (B, L), 0 where the mask is False; as in `log_prob`."""
        x, mask = require.sequences("x", x, mask, self.vocabulary, self.end)
        log_q = self.log_conditionals(x, mask).gather(-1, x[..., None])[..., 0]
        return log_q.masked_fill(~mask, 0)

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probability of sequences in nats, (B, L) → (B,).

        Args:
            x: (B, L) symbols 0 … V − 1, padded on the right with anything.
            mask: (B, L) bool, True for the symbols that count; all of them when None.

        Raises:
            ValueError: a symbol outside the vocabulary, an empty sequence, or rows of unequal lengths and no mask.
        """
        return self.log_factors(x, mask).sum(-1)

    def loss(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Negative log-likelihood in nats, per sequence, (B, L) → (B,)."""
        return -self.log_prob(x, mask)

    @torch.no_grad()
    def sample(
        self,
        shape: Sequence[int],
        length: int | None = None,
        *,
        prefix: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw symbol by symbol, (n,) → (n, L) int64.

        Args:
            shape: (n,).
            length: the most symbols in a row, the prefix and the end among them; that of `event_shape` when None. L is
                smaller when all rows ended.
            prefix: (P,) symbols that every row begins with, P below `length`.
            temperature, top_k, top_p: as in `truncate`, at every step.
            generator: draws from here instead of torch's global one.

        Returns:
            (n, L) symbols; what follows an end symbol is more of them (see `genlib.data.until_end`).
        """
        n, length = (
            require.sample_count(shape),
            require.whole_number("length", self.event_shape[0] if length is None else length),
        )
        device = like_parameters(self).device
        x = torch.full((n, 1), self.vocabulary, device=device)
        if prefix is not None:
            row, _ = require.sequences("prefix", prefix[None], None, self.vocabulary, self.end)
            x = torch.cat([x, row.to(device).expand(n, -1)], 1)
        if x.shape[1] > length:
            raise ValueError(f"length must be above that of the prefix, {x.shape[1] - 1}, got {length}")
        was_training, _ = self.training, self.eval()
        u = torch.rand((n, length), generator=generator, device=device)
        columns, state, new = list(x[:, 1:].unbind(1)), None, x
        ended = (
            x[:, -1] == self.end if self.end is not None else torch.zeros(n, dtype=torch.bool, device=device)
        )
        try:
            while len(columns) < length and not ended.all():
                logits, state = self(new, state)
                q = truncate(logits[:, -1], temperature=temperature, top_k=top_k, top_p=top_p).exp()
                drawn = inverse_cdf(q, u[:, len(columns)].to(q))
                if self.end is not None:
                    drawn = drawn.masked_fill(ended, self.end)
                    ended = drawn == self.end
                columns.append(drawn)
                new = drawn[:, None]
        finally:
            self.train(was_training)
        return torch.stack(columns, 1)


class Recurrent(Autoregressive):
    """A recurrent network: a state h_t that is computed from h_{t−1} and x_t, and a softmax on top of it.

    Args:
        vocabulary: V.
        hidden: size H of the state.
        cell: "rnn" for tanh units (Elman 1990), "lstm" for long short-term memory with a forget gate (Hochreiter and
            Schmidhuber 1997; Gers et al. 2000).
        embedding: size of a symbol's vector.
        forget_bias: bias of the LSTM's forget gates at the start. The larger it is, the longer an untrained cell
            remembers.
        dropout: share of the entries of the vectors and states, in (0, 1), that training sets to zero; 0 for none.
        end, length: as in `Autoregressive`.
        condition: C, how many numbers a condition holds; see `genlib.conditional.Conditional`.
    """

    def __init__(
        self,
        vocabulary: int,
        hidden: int,
        *,
        cell: str = "lstm",
        embedding: int = 32,
        forget_bias: float = 1.0,
        dropout: float = 0.0,
        end: int | None = None,
        length: int = 200,
        condition: int = 0,
    ) -> None:
        super().__init__(vocabulary, end, length)
        cells = {"rnn": nn.RNN, "lstm": nn.LSTM}
        if cell not in cells:
            raise ValueError(f"cell must be one of {', '.join(cells)}, got {cell!r}")
        hidden = require.whole_number("hidden", hidden)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.embed = nn.Embedding(self.vocabulary + 1, require.whole_number("embedding", embedding))
        self.rnn = cells[cell](embedding, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, self.vocabulary)
        if cell == "lstm":  # torch adds two biases; its gates stand in the order i, f, g, o
            with torch.no_grad():
                self.rnn.bias_ih_l0[hidden : 2 * hidden] = require.real_tensor("forget_bias", forget_bias)
                self.rnn.bias_hh_l0[hidden : 2 * hidden] = 0
        if require.whole_number("condition", condition, 0):
            self.about = nn.Linear(condition, embedding, bias=False)

    def forward(self, x: Tensor, state: object = None) -> tuple[Tensor, object]:
        """Logits of what follows, (B, L) → (B, L, V), and the state after the last symbol."""
        h, state = self.rnn(self.dropout(self._vectors(x)), state)  # (B, L, H)
        return self.out(self.dropout(h)), state


class Transformer(Autoregressive):
    """A causal Transformer: a place looks back at all places up to itself (Vaswani et al. 2017, arXiv:1706.03762).

    Places are counted from the start of a window of `context` symbols. A longer sequence is read in windows that
    overlap by half: past the first window each symbol is predicted from at least half a window of symbols.

    Args:
        vocabulary: V.
        width: size D of the vector at each place, a multiple of `heads`.
        layers: number of blocks: attention, then a network of two layers at each place.
        heads: number of attention maps in a block.
        context: length of the window, even.
        end, length: as in `Autoregressive`.
        condition: C, how many numbers a condition holds; see `genlib.conditional.Conditional`.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        *,
        layers: int = 2,
        heads: int = 4,
        context: int = 128,
        end: int | None = None,
        length: int = 200,
        condition: int = 0,
    ) -> None:
        super().__init__(vocabulary, end, length)
        width, heads = require.whole_number("width", width), require.whole_number("heads", heads)
        self.context = require.whole_number("context", context, 2)
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got {width} and {heads}")
        if context % 2:
            raise ValueError(f"context must be even, got {context}")
        self.embed = nn.Embedding(self.vocabulary + 1, width)
        self.place = nn.Parameter(torch.empty(context, width))
        for table in (self.embed.weight, self.place):
            nn.init.normal_(table, std=0.1)
        self.blocks = nn.Sequential(
            *(_Block(width, heads) for _ in range(require.whole_number("layers", layers)))
        )
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.vocabulary))
        if require.whole_number("condition", condition, 0):
            self.about = nn.Linear(condition, width, bias=False)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits of what follows, (B, L) → (B, L, V), and the state: all symbols so far."""
        seen = x if state is None else torch.cat([state, x], 1)
        t, total, parts = seen.shape[1] - x.shape[1], seen.shape[1], []
        half = self.context // 2
        while t < total:
            begin = max(
                0, half * ((t - self.context) // half + 1)
            )  # of the window that predicts what follows t
            window = seen[:, begin : begin + self.context]
            h = self.blocks(self._vectors(window) + self.place[: window.shape[1]])
            parts.append(self.out(h[:, t - begin :]))
            t = begin + self.context
        return torch.cat(parts, 1), seen


class _Block(nn.Module):
    """h + attention(h), then h + network(h), each with a LayerNorm in front."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor) -> Tensor:
        parts = self.query_key_value(self.norm_attention(h)).unflatten(-1, (3, self.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # (B, heads, L, D / heads) each
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.merge(mixed.transpose(1, 2).flatten(-2))  # (B, L, D)
        return h + self.network(self.norm_network(h))


class NGram(Autoregressive):
    r"""Counts of n symbols, with interpolated Kneser-Ney smoothing (Kneser and Ney 1995; Chen and Goodman 1999).

    .. math:: Q_n(w \mid h) = \frac{\max(c(hw) - D, 0)}{c(h)} + \frac{D\, N(h)}{c(h)}\, Q_{n-1}(w \mid h')

    Here h' is h without its oldest symbol and N(h) the number of different symbols seen after h. For n below the order,
    c(hw) is the number of different symbols seen before hw (its true count if hw opens a sequence); Q_0 is uniform. The
    discount of each n is D = n₁ / (n₁ + 2 n₂), where n_r grams have count r. Before anything is counted, Q is uniform.
    All is computed in 64 bits.

    Args:
        vocabulary: V.
        order: n, the number of symbols in a gram; (V + 1)^n must fit into 63 bits.
        discounts: 1, or 3 for the modified form of Chen and Goodman with other discounts for counts 1, 2 and above.
        end, length: as in `Autoregressive`.
    """

    def __init__(
        self, vocabulary: int, order: int, *, discounts: int = 1, end: int | None = None, length: int = 200
    ) -> None:
        super().__init__(vocabulary, end, length)
        self.order = require.whole_number("order", order)
        if (self.vocabulary + 1) ** self.order >= 2**63:
            raise ValueError(f"order must be smaller for {vocabulary} symbols: grams do not fit into 63 bits")
        if discounts not in (1, 3):
            raise ValueError(f"discounts must be 1 or 3, got {discounts!r}")
        self.discounts = discounts
        self._levels: list[_Level] = []

    def fit_counts(self, sequences: Sequence[Tensor]) -> NGram:
        """Count the grams of sequences, each (L,); what was counted before is forgotten."""
        rows = [
            require.sequences("sequences", row[None], None, self.vocabulary, self.end)[0] for row in sequences
        ]
        if not rows:
            raise ValueError("sequences must hold at least one sequence, got none")
        starts = rows[0].new_full((1, self.order), self.vocabulary)
        grams = torch.cat([torch.cat([starts[:, 1:], row], 1)[0].unfold(0, self.order, 1) for row in rows])
        base, start = self.vocabulary + 1, self.vocabulary
        codes, counts = self._codes(grams).unique(return_counts=True)
        levels = [_level(codes, counts, base, self.discounts)]
        for n in range(self.order - 1, 0, -1):
            codes, before = (codes % base**n).unique(return_counts=True)  # different symbols before
            raw_codes, raw = self._codes(grams[:, -n:]).unique(
                return_counts=True
            )  # the same grams, the same order
            opens = raw_codes // base ** (n - 1) == start
            levels.append(_level(codes, torch.where(opens, raw, before), base, self.discounts))
        self._levels = levels[::-1]
        return self

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log-probabilities of what follows, (B, L) → (B, L, V), and the state: the last symbols."""
        contexts, state = self._contexts(x, state)
        every = torch.arange(self.vocabulary, device=x.device).expand(*x.shape, -1)
        grams = torch.cat([contexts[:, :, None].expand(-1, -1, self.vocabulary, -1), every[..., None]], -1)
        return self._log_q(grams), state

    def log_factors(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """As in `Autoregressive`, looked up for the symbols in x alone, (B, L) → (B, L)."""
        x, mask = require.sequences("x", x, mask, self.vocabulary, self.end)
        start = torch.full_like(x[:, :1], self.vocabulary)
        contexts, _ = self._contexts(torch.cat([start, x[:, :-1]], 1), None)
        return self._log_q(torch.cat([contexts, x[..., None]], -1)).masked_fill(~mask, 0)

    def _contexts(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """The order − 1 symbols up to each of x and with it, (B, L) → (B, L, order − 1), and the last of them."""
        size = self.order - 1
        if state is None:
            state = x.new_full((len(x), size), self.vocabulary)
        line = torch.cat([state, x], 1)  # (B, size + L)
        return line[:, 1:].unfold(1, size, 1)[:, : x.shape[1]] if size else x.new_empty(*x.shape, 0), line[
            :, line.shape[1] - size :
        ]

    def _log_q(self, grams: Tensor) -> Tensor:
        """log Q of the last symbol of each gram given the others, (..., order) → (...)."""
        shape, grams = grams.shape[:-1], grams.flatten(0, -2)
        q = torch.full((len(grams),), 1 / self.vocabulary, dtype=torch.float64, device=grams.device)
        for n, level in enumerate(self._levels, 1):
            codes = self._codes(grams[:, self.order - n :])
            known = _find(level.contexts, codes // (self.vocabulary + 1))
            found = _find(level.codes, codes)
            share = torch.where(found >= 0, level.share[found], 0.0)
            q = torch.where(known >= 0, share + level.rest[known] * q, q)
        return q.log().reshape(shape)

    def _codes(self, grams: Tensor) -> Tensor:
        """Read the symbols of a gram as the digits of one number, (..., n) → (...)."""
        powers = (self.vocabulary + 1) ** torch.arange(grams.shape[-1] - 1, -1, -1, device=grams.device)
        return (grams * powers).sum(-1)


class _Level(NamedTuple):
    """Grams of one length: codes in order, the share of each; contexts in order, what each leaves to shorter grams."""

    codes: Tensor
    share: Tensor
    contexts: Tensor
    rest: Tensor


def _level(codes: Tensor, counts: Tensor, base: int, discounts: int) -> _Level:
    """Discount counts of grams, and divide them by the counts of their contexts."""
    discount = _discounts(counts, discounts)[counts.clamp(max=3)]
    contexts, context = (codes // base).unique(return_inverse=True)
    total = discount.new_zeros(len(contexts)).index_add_(0, context, counts.to(discount))
    taken = discount.new_zeros(len(contexts)).index_add_(0, context, discount)
    return _Level(codes, (counts - discount) / total[context], contexts, taken / total)


def _discounts(counts: Tensor, number: int) -> Tensor:
    """What is taken from a gram with count 0, 1, 2, and 3 or more: the estimates of Chen and Goodman (1999), § 3.2.

    Where too few grams have small counts for an estimate, it is ½ for each of them.
    """
    n = [int((counts == r).sum()) for r in range(5)]
    d = [0.0, 0.5, 0.5, 0.5]
    if n[1] and n[2]:
        one = n[1] / (n[1] + 2 * n[2])
        d = [0.0, one, one, one]
        if number == 3 and n[3] and n[4]:
            three = [0.0] + [r - (r + 1) * one * n[r + 1] / n[r] for r in (1, 2, 3)]
            d = three if min(three[1:]) > 0 else d
    return torch.tensor(d, dtype=torch.float64, device=counts.device)


def _find(table: Tensor, codes: Tensor) -> Tensor:
    """Place of each code in an ordered table, −1 where it is not there."""
    place = torch.searchsorted(table, codes).clamp(max=len(table) - 1)
    return torch.where(table[place] == codes, place, -1)


def stretches(
    documents: Sequence[Tensor],
    rows: int,
    length: int,
    vocabulary: int,
    *,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut documents into windows for `carried`, for ever: each batch goes on where the last one stopped.

    The documents are joined, each after a start symbol (number V). In each epoch the whole is cut, at a random place,
    into `rows` strips, which are read side by side.

    Args:
        documents: texts, each (L_i,).
        rows: strips in a batch.
        length: symbols in a window.
        vocabulary: V.

    Yields:
        inputs (rows, length), and targets (rows, length) that stand one symbol later; −1 where a document ends.
    """
    whole = [require.sequences("documents", text[None], None, vocabulary, None)[0][0] for text in documents]
    if not whole:
        raise ValueError("documents must hold at least one text, got none")
    start = whole[0].new_full((1,), vocabulary)
    line = torch.cat([part for text in whole for part in (start, text)])
    strip = len(line) // require.whole_number("rows", rows)
    if strip <= require.whole_number("length", length):
        raise ValueError(f"length must be below the {strip} symbols of a strip, got {length}")
    return _stretches(line, rows, strip, length, vocabulary, generator)


def _stretches(
    line: Tensor, rows: int, strip: int, length: int, vocabulary: int, generator: torch.Generator | None
) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        shift = int(torch.randint(len(line), (), generator=generator))
        strips = line.roll(shift)[: rows * strip].reshape(rows, strip)
        for t in range(0, strip - length, length):
            targets = strips[:, t + 1 : t + length + 1]
            yield strips[:, t : t + length], targets.masked_fill(targets == vocabulary, -1)


def carried(model: Recurrent) -> Callable[[tuple[Tensor, Tensor]], Tensor]:
    """Loss in nats per symbol for batches of `stretches`: it carries the state from window to window, not the gradient.

    This is backpropagation through time, truncated to one window (Williams and Peng 1990).
    """
    state = None

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        nonlocal state
        inputs, targets = batch
        logits, state = model(inputs, state)
        state = state.detach() if isinstance(state, Tensor) else tuple(part.detach() for part in state)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    return loss
