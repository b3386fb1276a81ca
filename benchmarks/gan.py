"""What the lessons on adversarial networks claim, over seeds.

    python benchmarks/gan.py grid      # 25 narrow modes, with R1 and without: about 30 minutes
    python benchmarks/gan.py choose    # weights of penalties on the ring, for the next: about 11 minutes
    python benchmarks/gan.py losses    # every loss on the ring, with and without momentum: about 15 minutes
    python benchmarks/gan.py films     # the film of the ring with R1 of several weights: about 2 minutes
    python benchmarks/gan.py digits    # handwritten digits, by every judge of the lesson: about 4 minutes

Each prints a Markdown table, on one core. Put `taskset -c 1` in front to hold it on that core. Seconds are of training
alone, as the clock on the wall has them.

The seeds of the tables are others than those on which settings were searched: 0 to 3 for the grid, 10 to 12 for the
losses, 100 to 105 for the films, 0 and 1 for the digits, these against the training images. The test images are not
used. The digits are judged against the validation images, which other people wrote; the row of the training images
shows what that costs.

With R1 all 25 modes were found on each of the seeds 100 to 116. At least 96 % of the samples were good on 15 of these
17 seeds; on 101 and 112 it was 94.3 and 94.8 %.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
from sklearn.svm import SVC
from torch import Tensor, nn

from genlib import data, gan, metrics, runs
from genlib.nets import Ink, Scaled, perceptron
from genlib.training import fresh_batches, minibatches

STEPS = 16_000
#: Loss, penalty and its weight, or the range to which weights are cut. Weights and range were chosen among
#: `WEIGHTS` on seeds 10 to 12, as `choose` does.
RECIPES: dict[str, tuple[str, str, float]] = {
    "minimax": ("minimax", "none", 0.0),
    "minimax, R1": ("minimax", "r1", 0.3),
    "non-saturating": ("non-saturating", "none", 0.0),
    "non-saturating, R1": ("non-saturating", "r1", 0.3),
    "non-saturating, R2": ("non-saturating", "r2", 0.3),
    "non-saturating, anywhere": ("non-saturating", "anywhere", 0.3),
    "DRAGAN": ("non-saturating", "dragan", 0.3),
    "least squares": ("least-squares", "none", 0.0),
    "least squares, R1": ("least-squares", "r1", 1.0),
    "Wasserstein, clipped": ("wasserstein", "clip", 0.1),
    "Wasserstein, slope 1": ("wasserstein", "wgan-gp", 1.0),
    "Wasserstein, slope at most 1": ("wasserstein", "wgan-lp", 1.0),
}
WEIGHTS = {
    "clip": (0.05, 0.1, 0.2),
    "wgan-gp": (0.1, 1.0, 10.0),
    "wgan-lp": (0.1, 1.0, 10.0),
} | dict.fromkeys(("r1", "r2", "anywhere", "dragan"), (0.3, 1.0, 3.0, 10.0))
MOMENTA, RATE, ROUNDS = (0.9, 0.0), 3e-3, 1000
JUDGED = (600, 700, 800, 900, 1000)  # after these rounds


def report(model: gan.GAN, source: data.GaussianMixture, n: int = 20_000) -> tuple[int, float, float]:
    """Modes covered, share of good samples, and KL of the modes in nats, of n samples."""
    counts, covered, quality = metrics.modes(model.sample((n,)), source.means, source.scale[0])
    if not covered:
        return covered, quality, float("inf")
    h = counts / counts.sum()
    return covered, quality, torch.xlogy(h, h * len(h)).sum().item()


def grid(seeds: Sequence[int]) -> None:
    """Print a row for each seed, with R1 and without."""
    source = data.grid()
    print("| penalty | seed | s | modes of 25 | good samples | KL of modes, nats |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, weight in (("R1, 10 → 0.001", (10.0, 0.001)), ("none", 0.0)):
        for seed in seeds:
            torch.manual_seed(seed)
            model = gan.GAN(perceptron(2, 2, (64,) * 3), perceptron(2, 1, (64,) * 3), 2)
            start = time.perf_counter()
            rates = {"lr": 5e-3, "critic_lr": 2.5e-3, "floor": 0.1, "average": 0.999, "progress": False}
            gan.fit(model, fresh_batches(source, 128), STEPS, weight=weight, **rates)
            seconds = time.perf_counter() - start
            covered, quality, kl = report(model, source)
            print(f"| {name} | {seed} | {seconds:.1f} | {covered} | {quality:.2%} | {kl:.4f} |", flush=True)


def anywhere(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """½ ‖∇f(x)‖² at random places of the square in which the ring lies: the control of R1 and R2."""
    return gan.r1(critic, 6 * torch.rand_like(real) - 3, fake)


def contest(
    recipe: str, weight: float, momentum: float, rate: float, seed: int, updates: int = 3
) -> dict[str, str | float]:
    """Train one pair on the ring and judge it after each of `JUDGED` rounds, on 5000 samples.

    Each round has `updates` of the critic. A row holds the fewest modes, the mean share of good samples and the largest
    KL of the modes.
    """
    loss, penalty, _ = RECIPES[recipe]
    torch.manual_seed(seed)
    source = data.ring()
    model = gan.GAN(
        perceptron(2, 2), perceptron(2, 1), 2, loss, penalty if penalty in gan.PENALTIES else "r1"
    )
    if penalty == "anywhere":
        model.penalty = anywhere
    seen = []

    def judge(k: int) -> None:
        if k in JUDGED:
            seen.append(report(model, source, 5000))

    rules = {"clip": weight} if penalty == "clip" else {"weight": weight}
    settings = {"lr": rate, "critic_steps": updates, "betas": (momentum, 0.999), "progress": False}
    gan.fit(model, fresh_batches(source, 128), ROUNDS, after=judge, **settings, **rules)
    modes, good, kl = zip(*seen, strict=True)
    row = {"recipe": recipe, "weight": weight, "momentum": momentum, "rate": rate, "seed": seed}
    return row | {"modes": min(modes), "good": round(sum(good) / len(good), 4), "kl": round(max(kl), 4)}


def plan(seeds: Sequence[int]) -> list[tuple[str, float, float, float, int]]:
    """What `losses` runs: every recipe; then R1, DRAGAN and both slopes with other weights; then other rates."""
    kinds = [(name, weight, RATE) for name, (_, _, weight) in RECIPES.items()]
    for name in ("non-saturating, R1", "DRAGAN", "Wasserstein, slope 1", "Wasserstein, slope at most 1"):
        _, penalty, chosen = RECIPES[name]
        kinds += [(name, weight, RATE) for weight in WEIGHTS[penalty] if weight != chosen]
    kinds += [
        (name, RECIPES[name][2], r) for name in ("non-saturating", "non-saturating, R1") for r in (1e-3, 1e-2)
    ]
    return [(name, w, momentum, r, seed) for name, w, r in kinds for momentum in MOMENTA for seed in seeds]


def losses(seeds: Sequence[int], store: bool = False) -> None:
    """Print a row for each run of the plan; store them for the lesson if asked."""
    print("| recipe | weight | momentum | rate | seed | fewest modes | good samples | largest KL, nats |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for settings in plan(seeds):
        rows.append(contest(*settings))
        print("| " + " | ".join(str(value) for value in rows[-1].values()) + " |", flush=True)
    if store:
        runs.save(runs.FOLDER / "ring_games.csv", rows, "made by: python benchmarks/gan.py losses --store")


def films(seeds: Sequence[int], store: bool = False) -> None:
    """Print a row for each run of the lesson's film, one update of the critic a round, with R1 of several weights."""
    print("| weight | seed | fewest modes | good samples | largest KL, nats |")
    print("| --- | --- | --- | --- | --- |")
    rows = []
    for weight in (0.0, 1.0, 3.0, 10.0):
        for seed in seeds:
            rows.append(contest("non-saturating, R1", weight, 0.9, RATE, seed, updates=1))
            row = rows[-1]
            print(f"| {weight:g} | {seed} | {row['modes']} | {row['good']} | {row['kl']} |", flush=True)
    if store:
        runs.save(runs.FOLDER / "ring_films.csv", rows, "made by: python benchmarks/gan.py films --store")


def choose(seeds: Sequence[int]) -> None:
    """Print, for each recipe and weight, how many runs kept all modes, and the mean share of good samples."""
    print("| recipe | weight | runs with all modes and KL below 0.3 | good samples |")
    print("| --- | --- | --- | --- |")
    for name, (_, penalty, _) in RECIPES.items():
        for weight in WEIGHTS.get(penalty, ()):
            rows = [contest(name, weight, momentum, RATE, seed) for momentum in MOMENTA for seed in seeds]
            kept = sum(row["modes"] == 8 and row["kl"] < 0.3 for row in rows)
            good = sum(row["good"] for row in rows) / len(rows)
            print(f"| {name} | {weight} | {kept} of {len(rows)} | {good:.1%} |", flush=True)


class Digits:
    """The judges of the lesson on digits, each of them beside what copies and noise get from it."""

    def __init__(self) -> None:
        digits = data.digits()
        self.images = digits.train.images.flatten(1).float()  # (1000, 64)
        self.valid = digits.valid.images.flatten(1).float()  # (350, 64), by other writers
        self.reader = SVC(C=10).fit(self.images, digits.train.labels)
        self.shares = digits.train.labels.bincount() / 1000
        self.gaps = torch.cdist(self.images, self.images).fill_diagonal_(torch.inf).min(1).values
        self.close = self.gaps.quantile(0.01)

    def controls(self) -> dict[str, Tensor]:
        """Samples (1000, 64) of nothing trained: the images, copies of them, pixels drawn apart, and noise."""
        drawn = torch.randint(0, 1000, (1000, 64))
        return {
            "training images": self.images[torch.randperm(1000)],
            "copies, drawn again": self.images[torch.randint(0, 1000, (1000,))],
            "each pixel alone": self.images.gather(0, drawn),
            "noise": torch.randint(0, 17, (1000, 64)).float(),
        }

    def row(self, x: Tensor, *, themselves: bool = False) -> str:
        """The columns for a sample (1000, 64). `themselves`: it is the training images, in another order."""
        apart = metrics.told_apart(x[:350], self.valid)
        precision, recall = metrics.precision_recall(x[:350], self.valid)
        h = torch.bincount(torch.from_numpy(self.reader.predict(x)), minlength=10) / len(x)
        far = self.gaps if themselves else torch.cdist(x, self.images).min(1).values
        pair = (x[:500], x[500:]) if themselves else (x, self.images)
        return (
            f"{apart:.3f} | {precision:.2f} | {recall:.2f} | {torch.xlogy(h, h / self.shares).sum():.3f} | "
            f"{(far < self.close).float().mean():.1%} | {far.median():.1f} | {metrics.told_apart(*pair):.3f}"
        )


def digits(seeds: Sequence[int]) -> None:
    """Print a row for each seed: with R1, without, from twenty images alone, and controls that learn nothing."""
    judges = Digits()
    print(
        "| sample | seed | s | told from validation | precision | recall | KL of classes, nats | too near | "
        "nearest, grey levels | told from training |"
    )
    print("| --- " * 10 + "|")
    for seed in seeds:
        torch.manual_seed(seed)
        for name, x in judges.controls().items():
            print(
                f"| {name} | {seed} | | {judges.row(x, themselves=name == 'training images')} |", flush=True
            )
    few = judges.images[:20].repeat(7, 1)  # so that a batch of 128 is full
    recipes = {
        "R1": (64.0, 4000, judges.images),
        "no penalty": (0.0, 4000, judges.images),
        "R1, twenty images": (64.0, 1200, few),
    }
    for name, (weight, steps, images) in recipes.items():
        for seed in seeds:
            torch.manual_seed(seed)
            hidden = [nn.Linear(16, 128), nn.BatchNorm1d(128), nn.ReLU()]
            hidden += [nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU()]
            generator = nn.Sequential(*hidden, nn.Linear(128, 64), Ink())
            model = gan.GAN(generator, nn.Sequential(Scaled(), perceptron(64, 1, (128, 128))), 16)
            start = time.perf_counter()
            settings = {"lr": 6e-3, "average": 0.998, "progress": False}
            gan.fit(model, map(data.blurred, minibatches(images, 128)), steps, weight=weight, **settings)
            seconds = time.perf_counter() - start
            x = model.eval().sample((1000,)).round()
            print(f"| {name} | {seed} | {seconds:.1f} | {judges.row(x)} |", flush=True)


def main() -> None:
    """Print the table that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tables = {
        "grid": (grid, range(100, 120)),
        "choose": (choose, range(10, 13)),
        "losses": (losses, range(5)),
        "films": (films, range(200, 212)),
        "digits": (digits, range(2, 7)),
    }
    parser.add_argument("table", choices=list(tables))
    parser.add_argument(
        "--store", action="store_true", help="keep the runs of `losses` or `films` for the lesson"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        help="unless told: 100 to 119, 10 to 12, 0 to 4, 200 to 211 or 2 to 6",
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    table, seeds = tables[chosen.table]
    options = {"store": True} if chosen.store else {}
    table(chosen.seeds or seeds, **options)


if __name__ == "__main__":
    main()
