"""What the lesson on diffusion models claims, over seeds.

    python benchmarks/diffusion.py tokens     # masks, random symbols and an LSTM on a known chain: 1 minute a seed
    python benchmarks/diffusion.py digits     # bounds and samples of digits, with classes: 3 minutes a seed
    python benchmarks/diffusion.py grammar    # how many sentences are grammatical: 6 minutes a seed

Each prints Markdown tables, on one core. Seconds are of training alone and count what the process used, so that other
programs disturb them less. The settings of `tokens` and `grammar` were chosen on seeds 0 and 1, those of the digits on
seeds 0 to 2 and on validation images.

How `tokens` is made fair. All models see batches of the same sequences and are judged by the same fresh ones. A few
steps of each, by turns, tell how many steps of the LSTM and of the Transformer take the time of the model of masks. The
probabilities of these two are exact; the others are judged by their bounds, so that their gap holds that of the bound
too.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from sklearn.svm import SVC
from torch import Tensor, nn

from genlib import data, diffusion, metrics, nets, sde, sequence
from genlib.training import fit, minibatches

sys.path.insert(0, str(Path(__file__).parent))
from sde import DECAYING
from tables import asked, head, per_step, row, seeded, shown, spent

SYMBOLS, PLACES = 4, 16
ADAM = {"optimizer": partial(torch.optim.Adam, betas=(0.9, 0.95), fused=True), "clip": 1.0, "progress": False}
TOKENS = {"lr": 1e-2, "average": 0.99, **ADAM}
LSTM = {"lr": 2e-2, **ADAM}
TRANSFORMER = {"lr": 5e-3, "average": 0.99, **ADAM}
STEPS, BATCH = 2000, 64

WORDS = 10  # of a sentence at most
GRAMMAR = {"lr": 4e-3, "average": 0.9995, **ADAM}
GRAMMAR_STEPS, GRAMMAR_BATCH = 24_000, 128

WEIGHTS = (1.0, 1.25, 2.0)  # of the class; samples of the second are told apart


def training(model: nn.Module, x: Tensor, batch: int, settings: dict) -> Callable[[int], object]:
    """A function that trains the model for some steps, by the loss per place."""
    return lambda steps: fit(
        lambda b: model.loss(b) / x.shape[1], model, minibatches(x, batch), steps, **settings
    )


def tokens(seeds: Sequence[int]) -> None:
    """Print the gap between cross-entropy, or its bound, and entropy, in nats a symbol, on a chain of order 2."""
    print(head("seed", "entropy", "model", "steps", "s", "gap"), flush=True)
    for seed in seeds:
        torch.manual_seed(seed)
        table = (1.5 * torch.randn(SYMBOLS, SYMBOLS, SYMBOLS).double()).softmax(-1)
        chain = data.MarkovChain(table, length=PLACES)
        text, exam = chain.sample((60_000,)), chain.sample((1000,))
        lstm = sequence.Recurrent(SYMBOLS, 64, embedding=16)
        transformer = sequence.Transformer(SYMBOLS, 48, context=PLACES)
        masks = diffusion.Absorbing(diffusion.Reader(SYMBOLS), PLACES, SYMBOLS)
        noise = diffusion.Uniform(diffusion.Reader(SYMBOLS, timed=True), PLACES, SYMBOLS)

        def train(model: nn.Module, settings: dict, text: Tensor = text) -> Callable[[int], object]:
            return training(model, text, BATCH, settings)

        models = {
            "masks": (masks, TOKENS),
            "random symbols": (noise, TOKENS),
            "LSTM": (lstm, LSTM),
            "Transformer": (transformer, TRANSFORMER),
        }
        spares = [train(copy.deepcopy(model), settings) for model, settings in models.values()]
        cost = per_step([spares[0], *spares[2:]])
        steps = [STEPS, STEPS, *(int(STEPS * cost[0] / other) for other in cost[1:])]
        truth = chain.log_prob(exam)
        for (name, (model, settings)), count in zip(models.items(), steps, strict=True):
            seconds = spent(partial(train(model, settings), count))
            with torch.no_grad():
                exact = isinstance(model, sequence.Autoregressive)
                log_q = model.log_prob(exam) if exact else model.elbo(exam, draws=32)
            gap = shown((truth - log_q) / PLACES, 4)
            print(
                row(seed, f"{chain.entropy() / PLACES:.3f}", name, count, f"{seconds:.1f}", gap), flush=True
            )


def digits(seeds: Sequence[int]) -> None:
    """Print bounds of test images in nats, and the judges of samples of 20 calls, of the model told its classes."""
    split = data.digits()
    images, valid = (part.images.flatten(1).float() for part in (split.train, split.valid))
    labels, test = split.train.labels, split.test.images
    reader = SVC(C=10).fit(images.numpy(), labels.numpy())
    right = reader.score(split.test.images.flatten(1).numpy(), split.test.labels.numpy())
    rows = []
    print(f"Nats per image, bounds on the {len(test)} test images\n")
    print(
        head("seed", "s", "limit", "T = 128", "T = 32", "flow, 12 steps", "limit, given the class"),
        flush=True,
    )
    for seed in seeds:
        torch.manual_seed(seed)
        net = nets.ImageNet(2, 4, told=12, gate_dropout=0.1)
        grey = sde.GreyScore(net, split.train.images, classes=10)
        settings = {"lr": 6e-3, "average": 0.998, "optimizer": DECAYING, "progress": False}
        batches = minibatches((split.train.images, labels), 128)
        seconds = spent(
            lambda g=grey, b=batches, s=settings: fit(lambda pair: g.loss(*pair), g, b, 1100, **s)
        )
        grey.eval()

        def chain(model: sde.GreyScore, T: int, limit: bool, seed: int = seed) -> str:
            found = diffusion.bound(model, test, T, limit=limit, generator=seeded(seed))
            return shown(-found.elbo, 2)

        bounds = [chain(grey, 64, True), chain(grey, 128, False), chain(grey, 32, False)]
        bounds += [
            shown(-grey.elbo(test, 12, generator=seeded(seed)), 2),
            chain(grey(split.test.labels), 64, True),
        ]
        print(row(seed, f"{seconds:.1f}", *bounds), flush=True)
        for weight in WEIGHTS:
            (x,) = grey(labels, weight).sample((1,), 20, generator=seeded(seed))
            x = x.flatten(1).float()
            named = (reader.predict(x.numpy()) == labels.numpy()).mean()
            order = torch.randperm(len(x), generator=seeded(seed))[:350]
            precision, recall = metrics.precision_recall(x[order], valid)
            told = f"{metrics.told_apart(x, images, 5):.3f}"
            rows.append(row(seed, weight, told, f"{named:.1%}", f"{precision:.2f}", f"{recall:.2f}"))
            print(rows[-1], file=sys.stderr, flush=True)
    print(f"\nSamples of 20 calls; the machine that names them is right for {right:.1%} of the test images\n")
    print(head("seed", "weight", "told apart", "named as asked", "precision", "recall"))
    print("\n".join(rows))


def agreement() -> data.Grammar:
    """Sentences whose verb agrees with a noun before a relative clause: 4,536 of at most ten words, of 17 words."""
    nouns, verbs = ("dog", "cow", "gull"), {"s": ("sleeps", "waits", "sees"), "p": ("sleep", "wait", "see")}
    rules = {"end": [(1, ".")]}
    for role, then in {"S": "clause-{}", "object": "end", "inner": "see-{}", "last": ""}.items():
        after = {
            n: [f"{noun}{'s' if n == 'p' else ''} {then.format(n)}".strip() for noun in nouns] for n in "sp"
        }
        for numbers in ("sp", "s", "p"):
            rules[f"{role}-{numbers}"] = [(1, option) for n in numbers for option in after[n]]
        rules[role] = [(2, f"the {role}-sp"), (1, f"every {role}-s"), (1, f"many {role}-p")]
    for n, (sleep, wait, see) in verbs.items():
        rules[f"see-{n}"] = [(1, see)]
        rules[f"verb-{n}"] = [(1, f"{sleep} end"), (1, f"{wait} end"), (2, f"{see} object")]
        rules[f"clause-{n}"] = [*rules[f"verb-{n}"], (4, f"that relative-{n} verb-{n}")]
        rules[f"relative-{n}"] = [(1, sleep), (1, wait), (2, f"{see} last"), *rules["inner"]]
    return data.Grammar({name: rules[name] for name in ("S", *sorted(rules.keys() - {"S", "inner"}))})


def short(grammar: data.Grammar, n: int) -> tuple[Tensor, Tensor, float]:
    """Sentences of at most `WORDS` words, those that are among n, (B, L), with their mask, and their share."""
    x = grammar.sample((n,))
    mask = data.until_end(x, grammar.end)
    kept = mask.sum(1) <= WORDS
    return x[kept][:, :WORDS], mask[kept][:, :WORDS], kept.float().mean().item()


def grammatical(grammar: data.Grammar) -> tuple[str, str, str]:
    """Seconds, share of 4000 drawn sentences that are grammatical, and the gap of the bound.

    The gap is in nats a sentence, to the log-probability of sentences of that length at most.
    """
    vocabulary = len(grammar.words)
    x, _, share = short(grammar, 400_000)
    model = diffusion.Absorbing(diffusion.Reader(vocabulary, length=WORDS), WORDS, vocabulary)
    seconds = spent(partial(training(model, x, GRAMMAR_BATCH, GRAMMAR), GRAMMAR_STEPS))
    written = model.sample((4000,))
    right = grammar.log_prob(written, data.until_end(written, grammar.end)).isfinite().double().mean()
    exam, mask, _ = short(grammar, 1000)
    gap = shown(grammar.log_prob(exam, mask) - math.log(share) - model.elbo(exam, draws=20), 3)
    return f"{seconds:.1f}", f"{right:.1%}", gap


def grammar(seeds: Sequence[int]) -> None:
    """Print the share of grammatical sentences among 4000, and the gap in nats a sentence, on two grammars."""
    print(head("seed", "grammar", "words", "s", "grammatical", "gap"), flush=True)
    for seed in seeds:
        for name, source in (("one clause", agreement()), ("english", data.english())):
            torch.manual_seed(seed)
            print(row(seed, name, len(source.words), *grammatical(source)), flush=True)


SEEDS = {"tokens": [22, 23, 24], "digits": [20, 21, 22, 23, 24], "grammar": [25, 26, 27]}


def main() -> None:
    """Print the table that the command line names."""
    chosen = asked(__doc__, SEEDS)
    {"tokens": tokens, "digits": digits, "grammar": grammar}[chosen.table](chosen.seeds)


if __name__ == "__main__":
    main()
