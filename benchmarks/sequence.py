"""What the lesson on sequences claims, over seeds, and what its networks reach when they get more time.

    python benchmarks/sequence.py seeds    # the claims of the lesson, for seeds 0 to 4: about 10 minutes
    python benchmarks/sequence.py prose    # bits per character of longer runs: about 15 minutes
    python benchmarks/sequence.py prose --time 0.1   # the same with a tenth of the steps

Both print a Markdown table, row by row, on one core. Times are of training alone.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections.abc import Iterator
from functools import partial

import torch
from torch.nn import functional

from genlib import data, sequence
from genlib.training import fit, minibatches

ADAM = {"optimizer": partial(torch.optim.Adam, betas=(0.9, 0.95)), "clip": 1.0, "progress": False}

# name → (model, dropout or None for the Transformer, strips, window, steps, learning rate)
PROSE_RUNS = {
    "LSTM, 128 cells, as in the lesson": (partial(sequence.Recurrent, 96, 128), 0.0, 32, 32, 1_200, 1e-2),
    "LSTM, 128 cells": (partial(sequence.Recurrent, 96, 128), 0.1, 32, 32, 8_000, 1e-2),
    "LSTM, 256 cells": (partial(sequence.Recurrent, 96, 256, embedding=48), 0.25, 32, 32, 10_000, 6e-3),
    "plain recurrent, 250 units": (
        partial(sequence.Recurrent, 96, 250, cell="rnn"),
        0.1,
        32,
        32,
        8_000,
        5e-3,
    ),
    "Transformer, 2 blocks of width 80": (
        partial(sequence.Transformer, 96, 80, context=64),
        None,
        16,
        64,
        8_000,
        3e-3,
    ),
}


@torch.no_grad()
def bits(model: sequence.Autoregressive, part: dict[str, torch.Tensor]) -> float:
    """Bits per character of a part of the prose, each text read from its start."""
    model.eval()
    nats = sum(model.loss(x[None]).item() for x in part.values())
    return nats / sum(map(len, part.values())) / math.log(2)


def mean_kl(truth, model, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """D_KL of the next symbol at every place of true sequences, (B, L)."""
    with torch.no_grad():
        extra = () if mask is None else (mask,)
        p = truth.log_conditionals(x, *extra).exp()
        return (torch.special.xlogy(p, p) - p * model.log_conditionals(x, *extra)).sum(-1)


def chain_gap(seed: int) -> tuple[float, float]:
    """Gap of the LSTM to the entropy rate of a random chain, in nats per symbol, and the seconds it took."""
    torch.manual_seed(seed)
    chain = data.MarkovChain((1.5 * torch.randn(12, 12, 12).double()).softmax(-1), length=64)
    text, exam = chain.sample((40_000,)), chain.sample((500,))
    lstm = sequence.Recurrent(12, 80, embedding=24)
    start = time.perf_counter()
    fit(lambda x: lstm.loss(x) / 64, lstm, minibatches(text, 32), 1_050, lr=2e-2, **ADAM)
    seconds = time.perf_counter() - start
    return mean_kl(chain, lstm, exam)[:, 2:].mean().item(), seconds


def sentence_scores(seed: int) -> tuple[float, float, float]:
    """Share of grammatical sentences, D_KL per sentence in nats, and the seconds it took."""
    torch.manual_seed(seed)
    grammar = data.english(kinds=True)
    x = grammar.sample((40_000,))
    mask = data.until_end(x, grammar.end)
    writer = sequence.Recurrent(len(grammar.words), 64, embedding=16, end=grammar.end)

    def loss(batch):
        longest = int(batch[1].sum(1).max())
        return writer.loss(batch[0][:, :longest], batch[1][:, :longest]) / 8

    start = time.perf_counter()
    fit(loss, writer, minibatches((x, mask), 96), 2_000, lr=3e-2, **ADAM)
    seconds = time.perf_counter() - start
    written = writer.sample((1_000,), 80)
    right = grammar.log_prob(written, data.until_end(written, grammar.end)).isfinite().double().mean()
    exam = grammar.sample((4_000,))
    exam_mask = data.until_end(exam, grammar.end)
    kl = mean_kl(grammar, writer, exam, exam_mask)[exam_mask].sum() / len(exam)
    return right.item(), kl.item(), seconds


def prose_run(name: str, seed: int, share: float = 1.0) -> tuple[sequence.Autoregressive, int, float]:
    """Train one model of `PROSE_RUNS`: the model, its steps and the seconds they took."""
    make, dropout, rows, length, steps, lr = PROSE_RUNS[name]
    torch.manual_seed(seed)
    model = make() if dropout is None else make(dropout=dropout)
    batches = sequence.stretches(list(data.prose().train.values()), rows, length, 96)

    def window_loss(batch):
        return functional.cross_entropy(model(batch[0])[0].mT, batch[1], ignore_index=-1)

    loss = window_loss if dropout is None else sequence.carried(model)
    start = time.perf_counter()
    fit(loss, model, batches, max(1, round(share * steps)), lr=lr, **ADAM)
    return model, max(1, round(share * steps)), time.perf_counter() - start


def seeds_table() -> Iterator[str]:
    """The lesson's three training results for seeds 0 to 4."""
    prose = data.prose()
    training = list(prose.train.values())
    six = bits(sequence.NGram(96, 6).fit_counts(training), prose.test)
    yield (
        "| seed | gap to the entropy rate | s | grammatical of 1,000 | D_KL per sentence | s | LSTM, 6-gram (bits) |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for seed in range(5):
        gap, first = chain_gap(seed)
        right, kl, second = sentence_scores(seed)
        model, _, third = prose_run("LSTM, 128 cells, as in the lesson", seed)
        yield (
            f"| {seed} | {gap:.4f} | {first:.0f} | {right:.1%} | {kl:.4f} | {second:.0f} "
            f"| {bits(model, prose.test):.3f}, {six:.3f} ({third:.0f} s) |"
        )


def prose_table(share: float) -> Iterator[str]:
    """Bits per character of the longer runs, beside the 6-grams."""
    prose = data.prose()
    training = list(prose.train.values())
    yield "| model | parameters | steps | seconds | validation | test |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, order, discounts in (("6-gram", 6, 1), ("6-gram, modified", 6, 3), ("8-gram, modified", 8, 3)):
        model = sequence.NGram(96, order, discounts=discounts).fit_counts(training)
        yield f"| {name} | | | | {bits(model, prose.valid):.2f} | {bits(model, prose.test):.2f} |"
    for name in PROSE_RUNS:
        model, steps, seconds = prose_run(name, 0, share)
        size = sum(p.numel() for p in model.parameters())
        scores = f"{bits(model, prose.valid):.2f} | {bits(model, prose.test):.2f}"
        yield f"| {name} | {size:,} | {steps:,} | {seconds:.0f} | {scores} |"


def main() -> None:
    """Print the table that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=["seeds", "prose"])
    parser.add_argument("--time", type=float, default=1.0, help="share of the steps, for prose")
    chosen = parser.parse_args()
    if not 0 < chosen.time <= 1:
        parser.error(f"--time must lie in (0, 1], got {chosen.time}")
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, Python {platform.python_version()}, one of {os.cpu_count()} cores\n")
    for line in seeds_table() if chosen.table == "seeds" else prose_table(chosen.time):
        print(line, flush=True)


if __name__ == "__main__":
    main()
