"""Graders of the lesson on sequences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from genlib.checks import Case, grader
from genlib.discrete import entropy
from genlib.graders._tools import EXACT, asked, normal, telling


@grader("ex:seq-perplexity")
def _perplexity(answer: object) -> Iterator[Case]:
    slips = {
        "The 2.3 are bits, not nats.": math.exp(2.3),
        "That is the number in nats: a perplexity counts choices.": 2.3 * math.log(2),
        "One over it: that is how probable a character is.": 2**-2.3,
        "Bits count halvings, not tenths.": 10**2.3,
        "The other way: a bit is less than a nat.": math.exp(2.3 / math.log(2)),
        "That is the square of the bits.": 2.3**2,
    }
    yield Case(
        "perplexity of 2.3 bits",
        lambda: answer,
        2**2.3,
        5.5e-3,
        "How many equally likely characters are as surprising?",
        slips,
    )


@grader("ex:seq-lengths")
def _lengths(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    for stop in ([0.5, 0.5, 0.5], [0.3, 0.6, 0.2], [0.1, 0.7, 0.2, 1.0], [0.0, 1.0, 0.3], [0.25]):
        s = torch.tensor(stop, **EXACT)
        goes_on = torch.cat([s.new_ones(1), (1 - s).cumprod(0)])
        expected = goes_on[:-1] * s
        slips = {
            "These are the probabilities of going on, without the end.": goes_on[1:],
            "The factor for going on begins one place too early.": goes_on[1:] * s,
            "That is the chance to end there if the sentence gets so far.": s,
            "That is the chance of at most so many words.": expected.cumsum(0),
            "What is missing from one belongs to longer sentences.": expected / expected.sum(),
            "That is the chance to get so far.": goes_on[:-1],
            "Going on and ending are exchanged.": torch.cat([s.new_ones(1), s.cumprod(0)[:-1]]) * (1 - s),
            "The end may come at a place only once.": s.cumprod(0),
        }
        given, hint = asked(answer, s.clone()), "What must have happened before the end at place n?"
        yield Case(f"stop = {stop}", given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:seq-entropy-rate")
def _entropy_rate(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    a, b = 0.1, 0.4  # a chain of two states in closed form
    two = torch.tensor([[1 - a, a], [b, 1 - b]], **EXACT)
    chains = [("two states", two, torch.tensor([b, a], **EXACT) / (a + b))]
    for seed, size in ((1, 3), (2, 6)):
        table = (2 * normal(seed, size, size)).softmax(-1)
        system = torch.cat([table.T - torch.eye(size, **EXACT), torch.ones(1, size, **EXACT)])
        right = torch.cat([torch.zeros(size, **EXACT), torch.ones(1, **EXACT)])
        pi = torch.linalg.lstsq(system, right[:, None]).solution[:, 0]
        chains.append((f"a random chain of {size} states", table, pi / pi.sum()))
    for question, table, pi in chains:
        expected = (pi * entropy(table)).sum()
        slips = {
            "The rows must be weighted by the stationary distribution, not equally.": entropy(table).mean(),
            "That is the entropy of one symbol alone, without what came before.": entropy(pi),
            "That is in bits; the exercise asks for nats.": expected / math.log(2),
            "Average the rows, do not add them up.": entropy(table).sum(),
            "The next symbol is drawn from a row, not from a column.": (
                pi * torch.special.entr(table).sum(0)
            ).sum(),
            "That is the entropy of two symbols together.": expected + entropy(pi),
            "The sign is wrong: an entropy is not negative.": -expected,
            "That is the rate's perplexity.": expected.exp(),
            "One number is asked, not one for each symbol.": pi * entropy(table),
        }
        hint = "How often is the chain at each symbol, and how uncertain is it then of the next?"
        yield Case(question, asked(answer, table.clone()), expected, 1e-4, hint, telling(slips, expected))


@grader("ex:seq-top-p")
def _top_p(answer: Callable[[Tensor, float], object]) -> Iterator[Case]:
    full = [8, 32, 4, 16, 2, 1, 1]
    for seed, p in ((3, 0.5), (4, 0.8), (5, 0.95), (6, 1.0), (7, 0.01), (0, 0.75)):
        q = torch.tensor(full, **EXACT) / 64 if seed == 0 else (1.5 * normal(seed, 7)).softmax(-1)
        ranked, order = q.sort(descending=True)
        before = torch.empty_like(q).scatter(0, order, ranked.cumsum(0) - ranked)
        inside, also = before < p, torch.where(before <= p, q, 0.0)
        expected = torch.where(inside, q, 0.0) / q[inside].sum()
        fewer = torch.where(inside & (q > q[inside].min()), q, 0.0)
        in_order = torch.where(q.cumsum(0) - q < p, q, 0.0)
        slips = {
            "What is kept must be divided by its sum.": torch.where(inside, q, 0.0),
            "The symbols keep their places.": expected.sort(descending=True).values,
            "The most probable come first: sort.": in_order / in_order.sum(),
            "True or false is not enough: probabilities are asked.": inside,
            "That is the probability of the nucleus.": q[inside].sum(),
            "What is outside becomes zero.": q / q[inside].sum(),
            "As soon as p is reached, the nucleus is full.": also / also.sum(),
        }
        if fewer.sum() > 0:
            slips["The symbol that crosses the line belongs to the nucleus."] = fewer / fewer.sum()
        hint = "Take symbols, the most probable first, until they are enough."
        given = asked(answer, q.clone(), p)
        yield Case(f"seven symbols, p = {p}", given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:seq-gru")
def _gru(answer: Callable[..., object]) -> Iterator[Case]:
    for seed, batch, inputs, hidden in ((8, 3, 4, 5), (9, 1, 6, 2)):
        cell = nn.GRUCell(inputs, hidden, **EXACT)
        parts = [(name, tuple(value.shape)) for name, value in cell.named_parameters()]
        values = {name: normal(10 * seed + i, *shape) for i, (name, shape) in enumerate(parts)}
        cell.load_state_dict(values)
        x, h = normal(seed, batch, inputs), normal(seed + 100, batch, hidden)
        weights = [values[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        r, z, n = (x @ weights[0].T + weights[2]).chunk(3, -1)
        r_h, z_h, n_h = (h @ weights[1].T + weights[3]).chunk(3, -1)
        new, keep = (n + (r + r_h).sigmoid() * n_h).tanh(), (z + z_h).sigmoid()
        slips = {
            "z and 1 − z are exchanged.": keep * new + (1 - keep) * h,
            "The reset gate is missing.": (1 - keep) * (n + n_h).tanh() + keep * h,
            "Here the reset gate multiplies what U and c made of h, not h itself.": _gru_of_paper(
                x, h, *weights
            ),
            "The candidate n has a tanh.": (1 - keep) * (n + (r + r_h).sigmoid() * n_h).sigmoid() + keep * h,
            "r and z are exchanged: the rows are those of r, z, n.": (
                (1 - (r + r_h).sigmoid()) * (n + keep * n_h).tanh() + (r + r_h).sigmoid() * h
            ),
            "The bias of n within the brackets is c: b stands outside.": (
                (1 - keep) * (n + (r + r_h).sigmoid() * (n_h - weights[3][-hidden:])).tanh() + keep * h
            ),
            "That is the candidate alone: some of the old state is kept.": new,
            "The old state is missing.": (1 - keep) * new,
        }
        arguments = [value.clone() for value in (x, h, *weights)]
        question = f"B = {batch}, D = {inputs}, H = {hidden}"
        expected, hint = cell(x, h).detach(), "Compare it line by line: which gate acts on what?"
        yield Case(question, asked(answer, *arguments), expected, 1e-5, hint, telling(slips, expected))


def _gru_of_paper(x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The unit of Cho et al. (2014), whose reset gate multiplies the state before the matrix."""
    size = h.shape[-1]
    of_x = (x @ W.T + b).split(size, -1)
    r = (of_x[0] + h @ U[:size].T + c[:size]).sigmoid()
    z = (of_x[1] + h @ U[size : 2 * size].T + c[size : 2 * size]).sigmoid()
    n = (of_x[2] + (r * h) @ U[2 * size :].T + c[2 * size :]).tanh()
    return (1 - z) * n + z * h


@grader("ex:seq-most-probable")
def _most_probable(answer: Callable[[Tensor, Tensor, int], object]) -> Iterator[Case]:
    trap = torch.tensor([[0.4, 0.3, 0.3], [0.05, 0.9, 0.05], [0.3, 0.3, 0.4]], **EXACT)
    chains = [(torch.tensor([0.5, 0.4, 0.1], **EXACT), trap, 4)]
    for seed, size, length in ((11, 3, 5), (12, 4, 1), (13, 5, 4)):
        tables = normal(seed, size + 1, size).softmax(-1)
        chains.append((tables[0], tables[1:], length))
    for first, table, length in chains:
        rows = torch.cartesian_prod(*[torch.arange(len(first), device="cpu")] * length).reshape(-1, length)
        scores = first.log()[rows[:, 0]] + table.log()[rows[:, :-1], rows[:, 1:]].sum(-1)
        best, last = scores.max(), first.argmax()
        greedy = first.log()[last]
        for _ in range(length - 1):
            greedy, last = greedy + table[last].log().max(), table[last].argmax()
        slips = {"That is a probability; the exercise asks for its logarithm.": best.exp()}
        if greedy < best - 1e-9:
            slips["That is the greedy sequence. Another one is more probable."] = greedy
        slips["That is a sequence of one symbol more."] = (
            (scores[:, None] + table.log()[rows[:, -1]]).max() if length > 1 else best.exp()
        )
        question = f"K = {len(first)}, L = {length}"
        turned = first.log()[rows[:, 0]] + table.T.log()[rows[:, :-1], rows[:, 1:]].sum(-1)
        slips |= {
            "Row a of the table belongs to the symbol before, column b to the next.": turned.max(),
            "The first symbol has a probability too.": (scores - first.log()[rows[:, 0]]).max(),
            "The most probable sequence is asked, not the least probable.": scores.min(),
            "Each symbol depends on the one before: the best steps need not fit together.": first.log().max()
            + (length - 1) * table.log().max(),
            "Take the best over the symbol before, do not add up.": scores.logsumexp(0),
            "The sign is wrong: a logarithm of a probability is not positive.": -best,
            "Add up the logarithms, do not average.": best / length,
            "In nats, please: the natural logarithm.": best / math.log(2),
        }
        hint = "Which sequence is best if its last symbol is given? And with one symbol more?"
        given = asked(answer, first.clone(), table.clone(), length)
        yield Case(question, given, best, 1e-5, hint, telling(slips, best))


@grader("ex:seq-mask")
def _mask(answer: Callable[[int, int], object]) -> Iterator[Case]:
    for length, window in ((4, 4), (6, 2), (5, 1), (3, 9)):
        ones = torch.ones(length, length, device="cpu")
        ahead, expected = ones.tril(), ones.tril().triu(1 - window)
        slips = {
            "This looks ahead. Row t, column s: place t may look at s only if s ≤ t.": expected.T,
            "The window is one place too wide: the own place counts.": ahead.triu(-window),
            "The own place may be looked at.": ahead.tril(-1).triu(1 - window),
        }
        question = f"L = {length}, window = {window}"
        slips |= {
            "The window is one place too narrow: the own place counts.": ahead.triu(2 - window),
            "Those are the places that may not be looked at.": 1 - expected,
            "The window is missing.": ahead,
            "Nobody may look ahead: the window goes back only.": ones.tril(window - 1).triu(1 - window),
            "The window is missing, and places look ahead.": ones,
        }
        hint = "Take one row: at which columns does its place look?"
        yield Case(question, asked(answer, length, window), expected, 1e-6, hint, telling(slips, expected))
