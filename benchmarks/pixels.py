"""What the lesson on autoregressive images claims, over seeds.

    python benchmarks/pixels.py digits      # exact likelihood of the digits, and a classifier: 1 minute a seed
    python benchmarks/pixels.py kinds       # nine models with the same time to learn: 4 minutes a seed
    python benchmarks/pixels.py orders      # two models in five orders of the pixels: 3 minutes a seed
    python benchmarks/pixels.py ising       # a lattice whose law is known: 1 minute for five seeds
    python benchmarks/pixels.py sampling    # draws with and without a cache: half a minute
    python benchmarks/pixels.py files       # digits in a file, beside general compressors: 2 minutes
    python benchmarks/pixels.py rates       # how the rates of `kinds` were chosen: 5 minutes a seed

Each prints Markdown tables, on one core. Seconds count what the process used, so that other programs disturb them less,
and are of training alone where there is training. All likelihoods are exact, in nats an image, of the 447 test images
in `digits`, `kinds` and `orders`; errors are standard errors over these images. The model of `digits` was chosen on
seeds 0 to 2 and on validation images, before the test images were seen.

In `digits` half of the training images are warped: turned, stretched, sheared and moved at 32 × 32 pixels, where the
ink is counted anew. Half are moved by up to a pixel. The network is told the class and what was done to an image, and
asked about images to which nothing was done. The class is summed out. The last rows are all models mixed over whole
images, naive Bayes (a histogram for each pixel and class, with the pseudo-count that is best for the validation
images), and a classifier that is no model of images, from the training images alone and with 33,000 that are warped or
moved.

How `kinds` is made fair. A few steps of each, by turns, tell how many take the same time. Six have the same head, and
all see the same images in batches of 128, none warped. Half of the images are moved where the model is told of it, and
30% where it is not. The learning rate of each is the one of three that was best for the validation images, in `rates`,
on seed 0 and with half the time. `train` is the likelihood of training images as they came. The network for any order
is asked row by row.

In `orders` the pixels of the digits are put into another order before masked convolutions see them as an image.
Each seed has a random order of its own.

In `ising` the divergence is a sum over all 65,536 states. `off` is how many standard errors the means of 10,000 samples
lie from the exact ones, the largest among energy, |magnetisation| and the correlation of opposite corners. Beside it
stands that of 10,000 exact draws.

In `files` a file holds the 447 test images, the model is not counted. `beyond` is what the file takes more than the
exact likelihood and 32 bits. General compressors get one byte a pixel.
"""

from __future__ import annotations

import bz2
import copy
import io
import lzma
import math
import multiprocessing
import sys
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from sklearn.svm import SVC
from torch import Tensor, nn
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate, one_hot, pad

from genlib import coding, data, discrete, nets, pixels, sequence
from genlib.training import fit, fresh_batches, minibatches

sys.path.insert(0, str(Path(__file__).parent))
from sde import DECAYING
from tables import asked, head, per_step, row, seeded, shown, spent

LEVELS, CLASSES, MOVES, WARPS, SHAPE = 17, 10, 8, 7, (8, 8)
SPLIT = data.digits()
PRIOR = torch.bincount(SPLIT.train.labels, minlength=CLASSES) / len(SPLIT.train.labels)
STEPS, BATCH = 1600, 128
SETTINGS = {"average": 0.998, "optimizer": DECAYING, "progress": False}
BRIEF = {**SETTINGS, "average": 0.99}  # for fewer steps
SECONDS, ORDER_SECONDS = 20.0, 15.0


def warped(images: Tensor, copies: int = 16) -> tuple[Tensor, Tensor]:
    """Turn, stretch, shear and move ink, and count it anew: (n, 8, 8) → (copies, n, 8, 8) and (copies, n, 7).

    Also return what was done to each: 1 and six numbers from −1 to 1.
    """
    n = len(images)
    large = interpolate(images[:, None].float(), size=(32, 32), mode="bicubic")
    large = (large / 2 - 3.5).clamp(0, 1)  # paper or ink
    found, done = [], []
    for _ in range(copies):
        u = 2 * torch.rand(6, n) - 1
        angle, x, y, shear = 0.175 * u[0], 1 + 0.105 * u[1], 1 + 0.105 * u[2], 0.14 * u[3]
        across = torch.stack([x * angle.cos(), x * (shear - angle.sin()), 0.14 * u[4]], 1)
        down = torch.stack([y * angle.sin(), y * angle.cos(), 0.14 * u[5]], 1)
        grid = affine_grid(torch.stack([across, down], 1), [n, 1, 32, 32], align_corners=False)
        ink = avg_pool2d(grid_sample(large, grid, align_corners=False), 4)  # (n, 1, 8, 8)
        found.append((16 * ink[:, 0]).round().long())
        done.append(torch.cat([torch.ones(1, n), u]).T)
    return torch.stack(found), torch.stack(done)


def way(move: Tensor) -> Tensor:
    """Which of eight ways an image went, (B, 2) → (B, 8); all 0 where it stayed."""
    told = one_hot(3 * (move[:, 0] + 1) + move[:, 1] + 1, MOVES + 1).float()
    return torch.cat([told[:, :4], told[:, 5:]], 1)


def mixed(model: pixels.PixelCNN) -> pixels.ClassMixture:
    """The classes summed out."""
    return pixels.ClassMixture(model, PRIOR).eval()


def tuned(seed: int, steps: int = STEPS) -> tuple[pixels.ClassMixture, float]:
    """The model of the digits, and seconds of training, warps among them."""
    torch.manual_seed(seed)
    images, labels = SPLIT.train
    model = pixels.PixelCNN(pixels.Histogram(images), SHAPE, condition=CLASSES + MOVES + WARPS)

    def train() -> None:
        bank, done = warped(images)

        def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
            rows, label = batch
            which, use = torch.randint(len(bank), rows.shape), torch.rand(len(rows)) < 0.5
            x = torch.where(use[:, None, None], bank[which, rows], images[rows])
            x, move = data.moved(x, 0.5)
            warp = done[which, rows] * use[:, None]
            return model.given(torch.cat([one_hot(label, CLASSES), way(move), warp], 1)).loss(x)

        fit(loss, model, minibatches((torch.arange(len(images)), labels), BATCH), steps, lr=1e-2, **SETTINGS)

    seconds = spent(train)
    return mixed(model.requires_grad_(False)), seconds


def naive(labels: Tensor, classes: int) -> discrete.NaiveBayes:
    """Counts for each class, with the pseudo-count of five that is best for the validation images."""
    models = [
        discrete.NaiveBayes(LEVELS, SHAPE, classes).fit_counts(SPLIT.train.images, labels, alpha)
        for alpha in (0.01, 0.03, 0.1, 0.3, 1.0)
    ]
    return max(models, key=lambda model: model.log_prob(SPLIT.valid.images).mean())


def judged(joint: Tensor, log_prior: Tensor) -> tuple[str, ...]:
    """From log p(c) + log p(x | c) of test images, (n, C): nats, nats given the class, bits a pixel, accuracy."""
    labels = SPLIT.test.labels
    nats = -joint.logsumexp(1)
    told = log_prior[labels] - joint[torch.arange(len(joint)), labels]
    right = (joint.argmax(1) == labels).float().mean()
    return shown(nats), shown(told), f"{nats.mean() / math.log(2) / 64:.3f}", f"{right:.1%}"


def digits(seeds: Sequence[int]) -> None:
    """Print likelihoods of test images in nats, and how often Bayes' rule finds the class."""
    images, labels = SPLIT.test
    print(head("seed", "s", "nats", "nats, given the class", "bits a pixel", "accuracy"), flush=True)
    joints = []
    for seed in seeds:
        model, seconds = tuned(seed)
        joints.append(model.log_joint(images))
        print(row(seed, f"{seconds:.1f}", *judged(joints[-1], PRIOR.log())), flush=True)
    together = torch.stack(joints).logsumexp(0) - math.log(len(joints))
    print(row("mixed", "", *judged(together, PRIOR.log())))
    bayes = naive(SPLIT.train.labels, CLASSES)
    print(row("naive Bayes", "", *judged(bayes.log_joint(images), bayes.prior.logits.log_softmax(-1))))
    torch.manual_seed(seeds[0])
    drawn, named = SPLIT.train
    more = torch.cat([drawn, warped(drawn)[0].flatten(0, 1)])
    more = torch.cat([more, data.shifted(more, 0.5)])
    for name, x in {"SVC": drawn, "SVC, warps and moves": more}.items():
        reader = SVC(C=10).fit(x.flatten(1).numpy(), named.repeat(len(x) // len(named)).numpy())
        right = reader.score(images.flatten(1).numpy(), labels.numpy())
        print(row(name, "", "", "", "", f"{right:.1%}"))


class Grid(nn.Module):
    """Convolutions for `pixels.AnyOrder`, (B, 2, 8, 8) → (B, 8, 8, outputs)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.net = nets.ImageNet(2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Look around each pixel; the noise level is always the same."""
        return self.net(x.flatten(1), x.new_zeros(len(x))).unflatten(1, (-1, *SHAPE)).movedim(1, -1)


class Sentence(pixels.Pixels):
    """The pixels as words of a causal Transformer."""

    def __init__(self) -> None:
        super().__init__(SHAPE, LEVELS)
        self.net = sequence.Transformer(LEVELS, 32, layers=2, context=64)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 8, 8) int64 → logits (B, 8, 8, 17)."""
        return self.net.log_conditionals(x.flatten(1)).unflatten(1, SHAPE)


class Pupil:
    """A model of the digits, taught without warps: it is told classes and shifts if it was made for them.

    Args:
        model: fresh.
        lr: learning rate.
        order: in which pixels are put into an image for a model of rows.
    """

    def __init__(self, model: pixels.Pixels, lr: float, order: Tensor | None = None) -> None:
        self.model, self.lr, self.order = model, lr, torch.arange(64) if order is None else order
        self.told = getattr(model, "condition", 0)

    def put(self, x: Tensor) -> Tensor:
        """Images in the order of the model."""
        return x.flatten(1)[:, self.order].view_as(x)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Nats of shifted images."""
        images, labels = batch
        x, move = data.moved(images, 0.5 if self.told else 0.3)
        parts = {0: [], MOVES: [way(move)], CLASSES + MOVES: [one_hot(labels, CLASSES), way(move)]}[self.told]
        model = self.model.given(torch.cat(parts, 1)) if parts else self.model
        return model.loss(self.put(x))

    def train(self, steps: int) -> None:
        """So many steps."""
        fit(self.loss, self.model, minibatches(tuple(SPLIT.train), BATCH), steps, lr=self.lr, **BRIEF)

    @torch.no_grad()
    def nats(self, images: Tensor) -> Tensor:
        """−log p of images as they come, exact, (n, 8, 8) → (n,)."""
        model = self.model.eval()
        if self.told == CLASSES + MOVES:
            model = mixed(model)
        elif self.told:
            model = model.given(torch.zeros(len(images), self.told))
        return -model.log_prob(self.put(images))


def histograms() -> pixels.Histogram:
    """The head of most models."""
    return pixels.Histogram(SPLIT.train.images)


def masked(make: Callable[[], nn.Module], condition: int) -> pixels.PixelCNN:
    """Masked convolutions with a new head."""
    return pixels.PixelCNN(make(), SHAPE, condition=condition)


def dense(order: Tensor | None = None) -> pixels.InOrder:
    """A masked dense network."""
    return pixels.InOrder(nets.MADE(64, 8, (256,)), histograms(), SHAPE, order)


KINDS: dict[str, tuple[Callable[[], pixels.Pixels], float]] = {  # with the rate chosen
    "PixelCNN, classes": (partial(masked, histograms, CLASSES + MOVES), 1e-2),
    "… softmax": (partial(masked, partial(pixels.Softmax, LEVELS), CLASSES + MOVES), 1e-2),
    "… logistics": (partial(masked, partial(pixels.Logistics, LEVELS, 5), CLASSES + MOVES), 1e-2),
    "PixelCNN": (partial(masked, histograms, MOVES), 1e-2),
    "two stacks": (lambda: pixels.TwoStacks(histograms(), SHAPE), 1e-2),
    "MADE": (dense, 2e-3),
    "any order": (lambda: pixels.AnyOrder(Grid(8), histograms(), SHAPE), 1e-2),
    "Transformer": (Sentence, 5e-3),
    "PixelCNN, told nothing": (partial(masked, histograms, 0), 1e-2),
}
RATES = (2e-3, 5e-3, 1e-2)


def lengths(pupils: Sequence[Pupil], seconds: float) -> list[int]:
    """How many steps of each take these seconds."""
    return [int(seconds / cost) for cost in per_step([copy.deepcopy(pupil).train for pupil in pupils])]


def kinds(seeds: Sequence[int]) -> None:
    """Print likelihoods of test images, of models with the same time to learn."""
    print(head("seed", "model", "parameters", "rate", "steps", "s", "train", "test"), flush=True)
    for seed in seeds:
        torch.manual_seed(seed)
        pupils = [Pupil(make(), rate) for make, rate in KINDS.values()]
        for name, pupil, steps in zip(KINDS, pupils, lengths(pupils, SECONDS), strict=True):
            seconds = spent(partial(pupil.train, steps))
            size = sum(p.numel() for p in pupil.model.parameters())
            train, test = pupil.nats(SPLIT.train.images[:447]), pupil.nats(SPLIT.test.images)
            cells = (f"{size:,}", pupil.lr, steps, f"{seconds:.1f}", f"{train.mean():.2f}", shown(test))
            print(row(seed, name, *cells), flush=True)


def rates(seeds: Sequence[int]) -> None:
    """Print likelihoods of validation images, of the models of `kinds` with half the time."""
    print(head("seed", "model", *RATES), flush=True)
    for seed in seeds:
        counts = lengths([Pupil(make(), RATES[0]) for make, _ in KINDS.values()], SECONDS / 2)
        for (name, (make, _)), steps in zip(KINDS.items(), counts, strict=True):
            cells = []
            for rate in RATES:
                torch.manual_seed(seed)
                pupil = Pupil(make(), rate)
                pupil.train(steps)
                cells.append(f"{pupil.nats(SPLIT.valid.images).mean():.2f}")
            print(row(seed, name, *cells), flush=True)


def ways(seed: int) -> dict[str, Tensor]:
    """Orders of the 64 places."""
    places = torch.arange(64).view(SHAPE)
    snake = places.clone()
    snake[1::2] = places[1::2].flip(1)
    return {
        **{
            "rows": places.flatten(),
            "columns": places.T.flatten(),
            "from the last": places.flatten().flip(0),
        },
        **{"snake": snake.flatten(), "random": torch.randperm(64, generator=seeded(seed))},
    }


def orders(seeds: Sequence[int]) -> None:
    """Print likelihoods of test images, of two networks in orders of the pixels."""
    print(head("seed", "order", "PixelCNN", "MADE"), flush=True)
    for seed in seeds:
        counts = []
        for name, order in ways(seed).items():
            torch.manual_seed(seed)
            images = SPLIT.train.images.flatten(1)[:, order].view(-1, *SHAPE)
            cnn = masked(partial(pixels.Histogram, images), MOVES)
            pupils = [Pupil(cnn, KINDS["PixelCNN"][1], order), Pupil(dense(order), KINDS["MADE"][1])]
            counts = counts or lengths(pupils, ORDER_SECONDS)  # the same for all orders
            for pupil, steps in zip(pupils, counts, strict=True):
                pupil.train(steps)
            print(row(seed, name, *(shown(pupil.nats(SPLIT.test.images)) for pupil in pupils)), flush=True)
        print(row(seed, "steps", *counts), flush=True)


def observed(lattice: data.Ising, x: Tensor) -> Tensor:
    """Energy, |magnetisation| and the correlation of opposite corners, (n, H, W) → (n, 3)."""
    s = 2.0 * x.double() - 1
    corners = (s[:, 0, 0] * s[:, -1, -1] + s[:, 0, -1] * s[:, -1, 0]) / 2
    return torch.stack([lattice.energy(x), s.mean((1, 2)).abs(), corners], 1)


def ising(seeds: Sequence[int]) -> None:
    """Print the divergence from a lattice in nats, and how far means of samples are off."""
    print(head("T", "seed", "s", "divergence", "off", "off, exact draws"), flush=True)
    for temperature in (1.5, data.CRITICAL, 3.5):
        lattice = data.Ising(4, 4, temperature)
        states = lattice.states()
        log_p = lattice.log_prob(states)
        exact = log_p.exp() @ observed(lattice, states)

        def off(x: Tensor, lattice: data.Ising = lattice, exact: Tensor = exact) -> str:
            seen = observed(lattice, x)
            return f"{((seen.mean(0) - exact) / seen.std(0)).abs().max() * len(x) ** 0.5:.1f}"

        for seed in seeds:
            torch.manual_seed(seed)
            model = pixels.InOrder(nets.MADE(16, 2, (128,)), pixels.Softmax(2), (4, 4))
            settings = {"lr": 1e-2, "average": 0.99, "progress": False}
            batches = fresh_batches(lattice, 512)
            seconds = spent(lambda m=model, b=batches, s=settings: fit(m.loss, m, b, 1500, **s))
            model.double().eval()
            with torch.no_grad():
                log_q = torch.cat([model.log_prob(part) for part in states.split(8192)])
            kl = (log_p.exp() * (log_p - log_q)).sum()
            far = off(model.sample((10_000,))), off(lattice.sample((10_000,)))
            print(row(f"{temperature:.3f}", seed, f"{seconds:.1f}", f"{kl:.5f}", *far), flush=True)


def sampling(seeds: Sequence[int]) -> None:
    """Print seconds for 1000 digits in float64, with nothing kept and with all kept, and how many are equal."""
    print(head("seed", "plain", "cached", "ratio", "equal"), flush=True)
    for seed in seeds:
        torch.manual_seed(seed)
        pupil = Pupil(KINDS["PixelCNN, classes"][0](), 1e-2)
        pupil.train(200)
        labels = torch.arange(1000) % CLASSES
        told = torch.cat([one_hot(labels, CLASSES), torch.zeros(1000, MOVES)], 1).double()
        model, drawn = pupil.model.double().given(told), {}

        def draw(cached: bool, model: pixels.Pixels = model, drawn: dict = drawn, seed: int = seed) -> None:
            drawn[cached] = model.sample((1000,), cached=cached, generator=seeded(seed))

        plain, quick = spent(partial(draw, False)), spent(partial(draw, True))
        equal = (drawn[False] == drawn[True]).flatten(1).all(1).sum().item()
        print(row(seed, f"{plain:.1f}", f"{quick:.2f}", f"{plain / quick:.0f}", equal), flush=True)


class Counts:
    """Naive Bayes pixel by pixel, for a file: the classes are weighed by what is seen so far."""

    event_shape, levels, order = SHAPE, LEVELS, torch.arange(64)

    def __init__(self, bayes: discrete.NaiveBayes) -> None:
        self.log_prior = bayes.prior.logits.detach().double().log_softmax(-1)
        logits = torch.stack([likelihood.logits for likelihood in bayes.likelihoods])
        self.log_q = logits.detach().double().log_softmax(-1)  # (C, 8, 8, 17)

    def log_conditionals(self, x: Tensor) -> Tensor:
        """Log-conditionals, (n, 8, 8) → (n, 8, 8, 17)."""
        given = self.log_q[:, None].expand(-1, len(x), -1, -1, -1)
        paid = pixels.picked(given, x).flatten(2)  # (C, n, 64)
        before = pad(paid.cumsum(-1)[..., :-1], (1, 0)).unflatten(-1, SHAPE)
        weight = (self.log_prior[:, None, None, None] + before).log_softmax(0)
        return (weight[..., None] + given).logsumexp(0)


def read(model: object, file: bytes) -> tuple[int, list]:
    """In another process, with two threads: how many there are, and the images of a file."""
    torch.set_num_threads(2)
    return torch.get_num_threads(), coding.decompress(model, file).tolist()


def general(images: Tensor) -> dict[str, bytes]:
    """What general compressors make of one byte a pixel."""
    grey, png = images.to(torch.uint8), io.BytesIO()
    Image.fromarray(grey.flatten(0, 1).numpy()).save(png, "PNG", optimize=True)
    plain = grey.numpy().tobytes()
    return {
        **{"zlib": zlib.compress(plain, 9), "bz2": bz2.compress(plain, 9), "PNG": png.getvalue()},
        "lzma": lzma.compress(plain, preset=9 | lzma.PRESET_EXTREME),
    }


def files(seeds: Sequence[int]) -> None:
    """Print bytes of files of the test images, and whether they are read back."""
    images, _ = SPLIT.test
    labels = SPLIT.train.labels
    print(head("seed", "file", "bytes", "bits a pixel", "likelihood", "beyond", "read", "two threads"))

    def bits(size: int) -> str:
        return f"{8 * size / images.numel():.3f}"

    for name, file in general(images).items():
        print(row("", name, f"{len(file):,}", bits(len(file)), *[""] * 4), flush=True)
    models = [
        ("", "histograms", Counts(naive(torch.zeros_like(labels), 1))),
        ("", "naive Bayes", Counts(naive(labels, CLASSES))),
    ]
    models += [(seed, "PixelCNN", tuned(seed)[0].double()) for seed in seeds]
    for seed, name, model in models:
        file = coding.compress(model, images)
        nats = -pixels.picked(model.log_conditionals(images), images).sum().item()
        exact = nats / math.log(2) / 8
        same = torch.equal(coding.decompress(model, file), images)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            threads, again = pool.apply(read, (model, file))
        cells = (f"{exact:,.1f}", f"{(len(file) - exact - 4) / exact:.3%}", "equal" if same else "other")
        shared = f"{threads}: {'equal' if again == images.tolist() else 'other'}"
        print(row(seed, name, f"{len(file):,}", bits(len(file)), *cells, shared), flush=True)


REPORTED = [20, 21, 22, 23, 24]
SEEDS = {
    **{"digits": REPORTED, "kinds": [20, 21, 22], "orders": [20, 21], "ising": REPORTED},
    **{"sampling": [20], "files": [20], "rates": [0, 1]},
}


def main() -> None:
    """Print the table that the command line names."""
    chosen = asked(__doc__, SEEDS)
    tables: dict[str, Callable[[Sequence[int]], None]] = {
        **{"digits": digits, "kinds": kinds, "orders": orders, "ising": ising},
        **{"sampling": sampling, "files": files, "rates": rates},
    }
    tables[chosen.table](chosen.seeds)


if __name__ == "__main__":
    main()
