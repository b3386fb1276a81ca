"""Graders of the lesson on adversarial networks: the game."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, real, telling, uniform


@grader("ex:gan-shares")
def _shares(answer: Callable[[Tensor, Tensor, float], object]) -> Iterator[Case]:
    for seed, r in ((1, 0.8), (2, 0.25), (3, 0.001), (4, 0.999)):
        p, q = uniform(seed, 6), uniform(seed + 10, 6)
        p[0] = q[1] = 0.0
        real, fake = r * p, (1 - r) * q
        expected = _share(real, fake)
        slips = {
            "That is the best judge for equal shares: r is not used.": _share(p, q),
            "The shares are exchanged: r is the share of the real ones.": _share((1 - r) * p, r * q),
            "That is the share of the made ones.": _share(fake, real),
            "The made ones have a share too, 1 − r.": _share(real, q),
            "r weighs each density, not the answer.": r * _share(p, q),
            "That is a critic: apply the sigmoid.": real.log() - fake.log(),
            "That is a ratio of real to made; the share of the real ones is asked.": real / fake,
            "That is how many there are, real and made: which share of them is real?": real + fake,
        }
        yield Case(
            f"r = {r}",
            asked(answer, p.clone(), q.clone(), r),
            expected,
            hint="Count what lies at one place: how much of it is real?",
            slips=telling(slips, expected),
        )


def _share(real: Tensor, fake: Tensor) -> Tensor:
    return real / (real + fake)


@grader("ex:gan-kl")
def _kl(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    high, low = 1000 + normal(2, 4000), -1000 + normal(12, 2000)
    high[0], low[0] = -1000.0, 1000.0  # there log(sigmoid(f)) is −∞
    modest = 1 + 2 * normal(1, 6), -0.5 + normal(11, 4)
    for question, (f_real, f_fake), atol in (
        ("6 examples, 4 samples", modest, 1e-5),
        ("|f| near 1000", (high, low), 2e-3),
    ):
        on_real, on_fake = functional.logsigmoid(f_real), functional.logsigmoid(-f_fake)
        V, kl = on_real.mean() + on_fake.mean(), f_real.mean()
        js = (V + math.log(4)) / 2
        fooled = on_real.mean() + functional.logsigmoid(f_fake).mean()
        pooled = 2 * torch.cat([on_real, on_fake]).mean()
        careless = f_real.sigmoid().log().mean() + (1 - f_fake.sigmoid()).log().mean()
        slips = {
            "The first is D_KL(q ‖ p): average over the real examples.": (-f_fake.mean(), js),
            "The KL divergence is an average over the real examples.": (f_fake.mean(), js),
            "The sign of the KL divergence is wrong.": (-kl, js),
            "The KL divergence comes first.": (js, kl),
            "The second is the value V: solve for the divergence.": (kl, V),
            "The second is twice the Jensen-Shannon divergence.": (kl, 2 * js),
            "The sign of the constant is wrong.": (kl, (V - math.log(4)) / 2),
            "The constant is too small: there are two means.": (kl, (V + math.log(2)) / 2),
            "On samples it is log(1 − D).": (kl, (fooled + math.log(4)) / 2),
            "Examples and samples have a mean each: their numbers may differ.": (
                kl,
                (pooled + math.log(4)) / 2,
            ),
            "In nats, please: the natural logarithm.": (kl / math.log(2), js / math.log(2)),
            "The logarithm of a sigmoid that is 0 is −∞: use softplus or logsigmoid.": (
                kl,
                (careless + math.log(4)) / 2,
            ),
        }
        slips = {slip: torch.stack(wrong) for slip, wrong in slips.items()}
        hint = "What does the best critic know of p and q? And what is V with it? Keep large f finite."
        given = (f_real.clone(), f_fake.clone())
        expected = torch.stack([kl, js])
        yield Case(question, asked(answer, *given), expected, atol, hint, telling(slips, expected))


@grader("ex:gan-hinge")
def _hinge(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    close = ((0.6, 0.599), (0.299, 0.3), (0.0501, 0.05), (2.0, 2.0001))
    for p, q in ((0.3, 0.1), (0.05, 0.35), (0.31, 0.3), (0.4, 0.41), (5.0, 0.001), *close):
        expected = 1.0 if p > q else -1.0
        slips = {
            "The other way round: where p is larger, f should be high.": -expected,
            "That is the smallest cost; where does the critic reach it?": 2 * min(p, q),
            "That is the slope of the cost; where does it lead?": q - p,
            "That is the best judge of the first game.": p / (p + q),
            "That is the best critic of the first game.": math.log(p / q),
            "That is the best critic of a game with squares.": (p - q) / (p + q),
            "At 0 nothing is told apart: follow the slope of the cost.": 0.0,
        }
        given = (torch.tensor(value, **EXACT) for value in (p, q))
        hint = "Draw the cost p max(0, 1 − f) + q max(0, 1 + f) over f. Where is it lowest?"
        yield Case(f"p = {p}, q = {q}", asked(answer, *given), expected, 1e-4, hint, telling(slips, expected))


@grader("ex:gan-rest")
def _rest(answer: Callable[[float], object]) -> Iterator[Case]:
    hint = "The slower part remains. A root of a negative number is imaginary: it swings, and does not fall."
    for gamma in (2.5, 0.5, 1.0, 4.0, 0.0):
        root = cmath.sqrt(gamma**2 / 4 - 1 / 4)
        expected = gamma / 2 - root.real
        slips = {
            "That part dies first: the slower one remains.": gamma / 2 + root.real,
            "Beyond γ = 1 the root is real, and counts.": gamma / 2,
            "The sign is wrong: the distance falls, so r is not negative.": -expected,
            "Only the real part makes it fall, not the absolute value.": abs(root - gamma / 2),
            "That is how fast it swings.": root.imag,
            "The root of a negative number is imaginary: it has no real part.": gamma / 2 - abs(root),
            "That is the rate of the squared distance.": 2 * expected,
            "That is the factor by which it falls; its rate is asked.": math.exp(-expected),
        }
        yield Case(f"γ = {gamma}", real(asked(answer, gamma)), expected, 1e-3, hint, telling(slips, expected))


@grader("ex:gan-w1")
def _w1(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "Look at two neighbours among all the points: how much earth must pass between them, and how far?"
    for question, x, y in (
        ("5 and 3 points", normal(1, 5), 2 + 3 * normal(11, 3)),
        ("6 and 6 points", 2 * normal(2, 6), normal(12, 6)),
        ("8 and 5 whole numbers", (3 * uniform(3, 8)).floor(), (5 * uniform(13, 5)).floor()),
        ("1 and 4 points", normal(4, 1), normal(14, 4)),
        ("equal shares", torch.tensor([1, 0, 0], **EXACT), torch.tensor([0, 1, 0, 0, 1, 0], **EXACT)),
    ):
        n, m = len(x), len(y)
        way = (x.repeat_interleave(m).sort().values - y.repeat_interleave(n).sort().values).abs()
        expected, few = way.mean(), min(n, m)
        edges = torch.cat([x, y]).sort().values
        pairs = (x.sort().values[:few] - y.sort().values[:few]).abs()
        more = ((x[:, None] <= edges).sum(0) - (y[:, None] <= edges).sum(0)).abs()
        counted = (more[:-1] * edges.diff()).sum()
        between = (x[:, None] - y).abs()
        slips = {
            "Pairs of single points leave some behind: split their weights.": pairs.mean(),
            "Sort first: the order in a sample means nothing.": (x[:few] - y[:few]).abs().mean(),
            "That is the distance of the means: earth must not cancel.": (x.mean() - y.mean()).abs(),
            "Take absolute values before you add up: earth must not cancel.": -(x.mean() - y.mean()).abs(),
            "That is the mean over all pairs; the cheapest plan is asked.": between.mean(),
            "Each point goes to its nearest: then some get too much.": between.min(1).values.mean(),
            "Each sample has total weight 1: divide its counts by its size.": counted,
            "That is the mean of the squares.": way.square().mean(),
            "That is the root of the mean square.": way.square().mean().sqrt(),
        }
        yield Case(
            question, asked(answer, x.clone(), y.clone()), expected, 1e-5, hint, telling(slips, expected)
        )


@grader("ex:gan-penalty")
def _penalty(answer: Callable[..., object]) -> Iterator[Case]:
    for seed, B, steep in ((1, 6, 1.0), (2, 4, 0.2), (3, 1, 2.0)):
        real, fake, u = normal(seed, B, 3), 0.5 + normal(seed + 10, B, 3), uniform(seed, B, 1)
        critic = _critic(steep)
        slopes = _gradient(critic, u * real + (1 - u) * fake)
        length = slopes.norm(dim=1)
        expected = _off(length)
        exchanged, at_data, at_samples = (
            _off(_gradient(critic, x).norm(dim=1)) for x in (u * fake + (1 - u) * real, real, fake)
        )
        slips = {
            "u belongs to the real example, 1 − u to the sample.": exchanged,
            "Those are slopes at the data, not between data and samples.": at_data,
            "Those are slopes at the samples, not between data and samples.": at_samples,
            "The penalty is on the distance of the length from 1.": length.square().mean(),
            "Slopes below 1 are punished too.": (length - 1).clamp(min=0).square().mean(),
            "Take the root: the length, not its square, is compared with 1.": _off(length.square()),
            "That is the mean distance from 1; its square is asked.": (length - 1).abs().mean(),
            "First the square, then the mean.": _off(length.mean()),
            "Each example has a gradient of its own, a row, with its own length.": _off(slopes.norm()),
            "One length for each example: sum over the features.": _off(slopes.norm(dim=0)),
            "The length is that of the whole gradient, not of its entries.": _off(slopes.abs()),
            "Differentiate the sum: the mean makes every slope B times too small.": _off(length / B),
            "Average over the batch, do not add up.": (length - 1).square().sum(),
            "Average over the batch: one number, please.": (length - 1).square(),
        }
        given = (critic, real.clone(), fake.clone(), u.clone())
        hint = "The gradient is taken in the points between data and samples, one for each example."
        yield Case(f"a batch of {B}", asked(answer, *given), expected, 1e-4, hint, telling(slips, expected))
    steep = torch.tensor(1.5, **EXACT, requires_grad=True)
    length = steep.detach() * _gradient(_critic(1.0), u * real + (1 - u) * fake).norm(dim=1)

    def learnt() -> Tensor:
        return torch.autograd.grad(answer(_critic(steep), real.clone(), fake.clone(), u.clone()), steep)[0]

    slope = (2 * (length - 1) * length / steep.detach()).mean()
    hint = "Let the penalty be differentiated again, in the critic's parameters."
    yield Case("its slope in a parameter of the critic", learnt, slope, 1e-4, hint)


def _critic(steep: float | Tensor) -> Callable[[Tensor], Tensor]:
    """A smooth critic of points in three dimensions, (B, 3) → (B,)."""

    def critic(x: Tensor) -> Tensor:
        a, b, c = x.unbind(-1)
        return steep * (torch.sin(a - 2 * b) + 0.3 * c**2 + 0.5 * a * c)

    return critic


def _gradient(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(critic(x).sum(), x)[0]


def _off(length: Tensor) -> Tensor:
    return (length - 1).square().mean()
