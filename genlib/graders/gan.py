"""Graders of the lesson on adversarial networks: the game."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, telling, uniform


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


@grader("ex:gan-line")
def _line(answer: Callable[[Tensor, float, float, float], object]) -> Iterator[Case]:
    for seed, (a, b, s) in enumerate(((0.5, 2.0, 1.0), (1.5, -0.5, 0.6), (-1.0, 0.25, 3.0)), start=1):
        x = 2 * normal(seed, 5)
        on_data, on_made = ((x - a) / s).square() / 2, ((x - b) / s).square() / 2
        expected = on_made - on_data
        slips = {
            "The sign is wrong: f is high where data are.": -expected,
            "That is the best judge D: the critic is asked.": torch.sigmoid(expected),
            "That is the ratio of the densities; its logarithm is asked.": expected.exp(),
            "A normal log-density has a factor of one half.": 2 * expected,
            "The variance is s², not s.": s * expected,
            "The deviation counts too.": s**2 * expected,
            "The squares of x cancel, those of the means do not.": (a - b) * x / s**2,
            "f is 0 half-way between both means.": (a - b) * (x - a) / s**2,
        }
        yield Case(
            f"a = {a:g}, b = {b:g}, s = {s:g}",
            asked(answer, x.clone(), a, b, s),
            expected,
            1e-4,
            hint="Which two densities does the best critic compare, and how?",
            slips=telling(slips, expected),
        )


@grader("ex:gan-labels")
def _labels(answer: Callable[[Tensor, Tensor, float, float], object]) -> Iterator[Case]:
    for seed, (a, b) in enumerate(((1.0, 0.0), (1.0, -1.0), (0.9, 0.2), (-2.0, 3.0)), start=1):
        p, q = uniform(seed, 6), uniform(seed + 10, 6)
        p[0] = q[1] = 0.0
        expected = (p * a + q * b) / (p + q)
        slips = {
            "The labels are exchanged: a belongs to the data.": (p * b + q * a) / (p + q),
            "Divide by how much of both there is.": p * a + q * b,
            "The labels are not used.": p / (p + q),
            "Both labels count as much as their densities, not equally.": (p * 0 + a + b) / 2,
            "b is on the made ones alone: a difference of labels is something else.": (p * a - q * b)
            / (p + q),
            "Squared error asks for a mean; the more frequent label is something else.": torch.where(
                p > q, a, b
            ),
        }
        yield Case(
            f"labels {a:g} and {b:g}",
            asked(answer, p.clone(), q.clone(), a, b),
            expected,
            1e-4,
            hint="Where is p (f − a)² + q (f − b)² lowest? Differentiate by f.",
            slips=telling(slips, expected),
        )
