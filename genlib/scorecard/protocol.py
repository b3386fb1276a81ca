"""One run of the scorecard: draw the data, train, draw samples, and measure them against the truth."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from genlib import _arguments as require
from genlib import data, metrics
from genlib.scorecard import images, points
from genlib.scorecard.recipe import Recipe, Sampler

PROTOCOL = 1
"""Number of this way to measure. Rows with another number cannot be compared with these."""

SEEN, ASKED, SAMPLED = 20_000, 10_000, 2_000
"""Training points, fresh points for the divergence, and points in each of two samples that are compared."""


def turned_ring(dims: int) -> data.GaussianMixture:
    """The ring of eight Gaussians in a plane that lies askew in a space of D dimensions, with noise in all of them."""
    ring = data.ring()
    basis = torch.linalg.qr(torch.randn(dims, 2, generator=torch.Generator().manual_seed(dims))).Q
    return data.GaussianMixture(ring.means @ basis.T.to(ring.means), ring.scale[0])


@dataclass(frozen=True)
class Target:
    """What is to be learnt.

    Attributes:
        source: makes the exact source; None for the digits, whose truth is not known.
        recipes: name → recipe, for such data.
    """

    source: Callable[[], data.Source] | None
    recipes: Mapping[str, Recipe]


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "two moons": Target(data.two_moons, points.RECIPES),
        "checkerboard": Target(data.Checkerboard, points.RECIPES),
        "pinwheel": Target(data.Pinwheel, points.RECIPES),
        "ring": Target(data.ring, points.RECIPES),
        "grid": Target(data.grid, points.RECIPES),
        "ring in 8": Target(partial(turned_ring, 8), points.RECIPES),
        "ring in 32": Target(partial(turned_ring, 32), points.RECIPES),
        "digits": Target(None, images.RECIPES),
    }
)

JUDGES = {"points": 1, "digits": 5}
"""Classifiers that try to tell samples from data; their mean accuracy counts. Digits are few, so they have more."""

TRUTH = "truth"
"""The name under which true data themselves are measured, which gives the noise floor of every metric."""

MODELS = tuple(dict.fromkeys((TRUTH, *points.RECIPES, *images.RECIPES)))
"""The names of all models; one may work on points only, or on images only."""


@dataclass(frozen=True)
class Row:
    """One run. What does not apply is None.

    Attributes:
        model: its name.
        target: its name.
        seed: of the data, the training and the samples.
        share: of the budget of training time that was used.
        parameters: how many numbers were learnt, in all networks together.
        seconds: of training, on the processor's clock.
        milliseconds: for 1,000 samples, on the processor's clock.
        density: "exact", "bound" or "none".
        kl: D_KL(truth‖model) in nats; an upper bound of it where the density is a bound.
        kl_error: its standard error.
        nats: cost of an unseen image of a digit, −log p, or an upper bound of it.
        mmd: maximum mean discrepancy between samples and fresh true data.
        sliced: sliced Wasserstein distance between them, in data units.
        told_apart: accuracy of a classifier between them; 0.5 is the best.
        copies: share of the samples of digits that lie nearer to a training image than 99 of 100 of these lie to
            each other.
        failed: why there is no model, where the run broke down.
        torch: its version.
        python: its version.
        protocol: `PROTOCOL`.
    """

    model: str
    target: str
    seed: int
    share: float
    parameters: int | None = None
    seconds: float | None = None
    milliseconds: float | None = None
    density: str | None = None
    kl: float | None = None
    kl_error: float | None = None
    nats: float | None = None
    mmd: float | None = None
    sliced: float | None = None
    told_apart: float | None = None
    copies: float | None = None
    failed: str | None = None
    torch: str = torch.__version__
    python: str = platform.python_version()
    protocol: int = PROTOCOL


COLUMNS = tuple(field.name for field in fields(Row))


@dataclass(frozen=True)
class Result:
    """A row, with the samples (n, *E) behind it; none where the run broke down."""

    row: Row
    samples: Tensor | None


class InDataUnits:
    """A model of standardised points, seen from outside.

    Args:
        model: of (x − shift) / scale.
        shift: (D,).
        scale: one number.
    """

    def __init__(self, model: Sampler, shift: Tensor, scale: Tensor) -> None:
        self.model, self.shift, self.scale = model, shift, scale
        self.event_shape = shift.shape

    def log_density(self, name: str, x: Tensor, *more: int) -> Tensor:
        """What the model calls `name`, as a density in data units, (B, D) → (B,)."""
        log_q = getattr(self.model, name)((x - self.shift) / self.scale, *more)
        return log_q - x.shape[1] * self.scale.log()

    def sample(self, shape: Sequence[int], **settings: object) -> Tensor:
        """Draw, (n,) → (n, D); settings as the model takes them."""
        z = self.model.sample(shape, **settings)
        return self.shift + self.scale * _shaped(z, (*shape, *self.shift.shape))


def run(model: str, target: str, seed: int, share: float = 1.0, recipe: Recipe | None = None) -> Result:
    """Train a model on a target, and measure it.

    The same seed gives every model the same training data, and the same true data to be compared with.

    Args:
        model: one of `MODELS`; any other name where you give a recipe.
        target: one of `TARGETS`.
        seed: at least 0.
        share: of the recipe's steps, in (0, 1].
        recipe: how to train a model of your own, on standardised points or on images of digits. The model needs
            ``sample``; it may have ``log_prob(x)``, or ``bound(x, draws)``, on digits with a default for `draws`.

    Raises:
        ValueError: an unknown model or target, a model that this target has no recipe for, a seed or share out of
            range, or samples of another shape than the data.
    """
    goal, seed = require.one_of("target", target, TARGETS), require.whole_number("seed", seed, 0)
    if recipe is None:
        recipe = require.one_of("model", model, {TRUTH: None, **goal.recipes})
    elif model in MODELS:
        raise ValueError(f"model must be a new name where a recipe is given, got {model!r}")
    if require.positive("share", share) > 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    known = {"model": model, "target": target, "seed": seed, "share": float(share)}
    try:
        return _digits(recipe, known) if goal.source is None else _points(recipe, goal.source(), known)
    except RuntimeError as error:  # a loss, a gradient or a sample that is not finite
        if isinstance(error, NotImplementedError):
            raise
        return Result(Row(**known, failed=" ".join(str(error).split()) or "no reason given"), None)


@torch.no_grad()
def _points(recipe: Recipe | None, source: data.Source, known: dict) -> Result:
    """Run on points whose density is known."""
    seed = known["seed"]
    seen = source.sample((SEEN,), generator=torch.Generator().manual_seed(3 * seed))
    shift, scale = seen.mean(0), seen.var(0, correction=0).mean().sqrt()
    torch.manual_seed(seed)
    found: dict[str, object] = {}
    if recipe is None:
        model, density = source, "exact"
    else:
        inner, found["seconds"] = _clocked(lambda: recipe((seen - shift) / scale, known["share"]))
        model, density = InDataUnits(inner, shift, scale), _density(inner)
        found["parameters"] = _size(inner)
    samples, found["milliseconds"] = _drawn(model, SAMPLED, source.event_shape)
    fresh = torch.Generator().manual_seed(3 * seed + 1)
    if density != "none" and recipe is not None:
        x = source.sample((ASKED if density == "exact" else SAMPLED,), generator=fresh)
        name, more = ("log_prob", ()) if density == "exact" else ("bound", (500,))
        log_q = torch.cat([model.log_density(name, part, *more) for part in x.split(1000)])
        if torch.isnan(log_q).any():
            raise RuntimeError("the log-density is not a number")
        kl = metrics.estimate(source.log_prob(x) - log_q)
        found["kl"], found["kl_error"] = kl.value, kl.stderr if math.isfinite(kl.value) else None
    true = source.sample((SAMPLED,), generator=torch.Generator().manual_seed(3 * seed + 2))
    return Result(
        Row(**known, density=density, **found, **_distances(samples, true, JUDGES["points"])), samples
    )


@torch.no_grad()
def _digits(recipe: Recipe | None, known: dict) -> Result:
    """Run on the digits: trained on the training images, measured against the test images."""
    split = data.digits()
    torch.manual_seed(known["seed"])
    found: dict[str, object] = {}
    if recipe is None:
        model, density = None, "none"
        samples = split.train.images[torch.randperm(len(split.train.images))]
    else:
        model, found["seconds"] = _clocked(lambda: recipe(split.train.images, known["share"]))
        density, found["parameters"] = _density(model), _size(model)
        samples, found["milliseconds"] = _drawn(model, 1000, (8, 8))
    if density != "none":
        log_q = (model.log_prob if density == "exact" else model.bound)(split.test.images)
        found["nats"] = -log_q.double().mean().item()
        if math.isnan(found["nats"]):
            raise RuntimeError("the log-probability is not a number")
    x, seen, test = (part.flatten(1).float() for part in (samples, split.train.images, split.test.images))
    if recipe is not None:
        near = torch.cdist(seen, seen).fill_diagonal_(math.inf).min(1).values.quantile(0.01)
        found["copies"] = (torch.cdist(x, seen).min(1).values < near).double().mean().item()
    return Result(
        Row(**known, density=density, **found, **_distances(x[: len(test)], test, JUDGES["digits"])), samples
    )


def _drawn(model: Sampler, n: int, event_shape: Sequence[int]) -> tuple[Tensor, float]:
    """Return n samples, and the milliseconds for 1,000 of them."""
    samples, seconds = _clocked(lambda: model.sample((n,)))
    samples = _shaped(samples, (n, *event_shape)).detach()
    if not torch.isfinite(samples).all():
        raise RuntimeError("samples are not finite")
    return samples, 1e6 * seconds / n


def _shaped(samples: object, shape: Sequence[int]) -> Tensor:
    """Return what a model drew, after checking its shape."""
    if not isinstance(samples, Tensor) or samples.shape != torch.Size(shape):
        got = tuple(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
        raise ValueError(f"model must draw samples of shape {tuple(shape)}, got {got}")
    return samples


def _distances(x: Tensor, true: Tensor, judges: int) -> dict[str, float]:
    """The three distances between samples and true data."""
    directions = torch.Generator().manual_seed(0)
    return {
        "mmd": metrics.mmd(x, true),
        "sliced": metrics.sliced_wasserstein(x, true, 128, generator=directions),
        "told_apart": metrics.told_apart(x, true, judges),
    }


def _density(model: object) -> str:
    """What the model says about probabilities."""
    if hasattr(model, "log_prob"):
        return "exact"
    return "bound" if hasattr(model, "bound") else "none"


def _size(model: object) -> int | None:
    """How many numbers were learnt."""
    if isinstance(model, nn.Module):
        return sum(p.numel() for p in model.parameters())
    return getattr(model, "parameters_count", None)


def _clocked(work: Callable[[], object]) -> tuple[object, float]:
    """Return what the work returns, and the seconds that it took on the processor's clock."""
    start = time.process_time()
    with torch.enable_grad():
        result = work()
    return result, time.process_time() - start
