"""Graders of the lesson on normalizing flows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from genlib import flows
from genlib.checks import Case, grader
from genlib.flows import Layer
from genlib.graders._tools import EXACT, asked, normal, telling


def _shaken(layer: Layer, seed: int) -> Layer:
    """The layer in float64 with random parameters that do not depend on torch's global generator."""
    for i, parameter in enumerate(layer.double().to("cpu").parameters()):
        parameter.data = 0.5 * normal(100 * seed + i, *parameter.shape)
    return layer


@grader("ex:flows-logit-normal")
def _logit_normal(answer: Callable[..., object]) -> Iterator[Case]:
    for seed, a, b in ((1, 1.0, 0.0), (2, 2.5, -0.7), (3, -0.6, 1.1)):
        x = torch.sigmoid(normal(seed, 6))
        z = (torch.logit(x) - b) / a
        log_p = -0.5 * z**2 - 0.5 * math.log(2 * math.pi)
        slope = (x * (1 - x)).log()
        expected = log_p - slope - math.log(abs(a))
        slips = {
            "The density must be divided by the slope, not multiplied.": log_p + slope + math.log(abs(a)),
            "The slope of a z + b is missing.": log_p - slope,
            "That is the density of z. The slope of the map is missing.": log_p,
            "The slope of the sigmoid is missing.": log_p - math.log(abs(a)),
            "That is the density; its logarithm is asked for.": (log_p - slope - math.log(abs(a))).exp(),
            "The constant of the normal density, log 2π / 2, is missing.": log_p
            - slope
            - math.log(abs(a))
            + 0.5 * math.log(2 * math.pi),
        }
        slips |= {
            "The logit is not the whole way back: a and b come before it.": (
                -0.5 * torch.logit(x) ** 2 - 0.5 * math.log(2 * math.pi) - slope - math.log(abs(a))
            ),
            "The square has a factor ½.": 2 * log_p + 0.5 * math.log(2 * math.pi) - slope - math.log(abs(a)),
            "Each number has a log-density of its own: do not add up.": expected.sum(),
            "The sign is wrong: the log-density is asked, not the cost.": -expected,
        }
        hint = "Go back to z first. By how much does each of the two maps stretch there?"
        given = asked(answer, x.clone(), a, b)
        yield Case(f"a = {a}, b = {b}", given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:flows-stack")
def _stack(answer: Callable[..., object]) -> Iterator[Case]:
    for seed, features, count in ((1, 2, 1), (2, 3, 3), (3, 4, 5)):
        kinds = [flows.ActNorm, flows.Planar, flows.Radial, flows.ActNorm, flows.Planar]
        layers = [_shaken(kind(features), 10 * seed + i) for i, kind in enumerate(kinds[:count])]
        x = normal(seed, 5, features)
        flow = flows.Flow(layers, (features,)).double().to("cpu")
        z, ladj = flow.inverse(x)
        log_p = flow.base.log_prob(z).detach()
        constant = 0.5 * features * math.log(2 * math.pi)
        slips = {
            "The sign of ladj is wrong: that of the inverse is added.": log_p - ladj.detach(),
            "The log-determinants are missing.": log_p,
            "The constant of the normal density, D/2 log 2π, is missing.": log_p + ladj.detach() + constant,
            "The constant of the normal density must be taken D times.": log_p
            + ladj.detach()
            + constant * (1 - 1 / features),
        }
        there, change = flow(x)
        slips["That is the way from latent to data. A density needs the way back."] = (
            flow.base.log_prob(there) + change
        ).detach()
        if count > 1:
            order, total = x, 0
            for layer in layers:
                order, change = layer.inverse(order)
                total = total + change
            slips["The way back goes through the last layer first."] = (
                flow.base.log_prob(order) + total
            ).detach()
        question = f"{count} layers, D = {features}"
        expected = log_p + ladj.detach()
        slips["Each point has a log-density of its own: do not add up."] = expected.sum()
        slips["That is the density; its logarithm is asked."] = expected.exp()
        slips["The sign is wrong: the log-density is asked, not the cost."] = -expected
        hint = "Which point of the latent space leads to x, and how did the space stretch on the way?"
        given = _detached(answer, layers, x.clone())
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


def _detached(answer: Callable[..., object], *arguments: object) -> Callable[[], object]:
    """The answer's reply without its gradient."""

    def ask() -> object:
        reply = answer(*arguments)
        if isinstance(reply, tuple | list) and any(np.ndim(part) > 0 for part in reply):
            raise TypeError("the function returns several things; the log-density (B,) alone is asked for")
        return reply.detach() if isinstance(reply, Tensor) else reply

    return ask


@grader("ex:flows-radial")
def _radial(answer: Callable[..., object]) -> Iterator[Case]:
    for seed, alpha, beta in ((1, 1.0, 2.0), (2, 0.5, -0.4), (3, 2.0, -1.5)):
        r = torch.cat([normal(seed, 6).abs() * 3, torch.zeros(1, **EXACT)])
        rho = r + beta * r / (alpha + r)
        half = (rho - alpha - beta) / 2
        slips = {
            "That is the other root, which is negative.": half - (half**2 + alpha * rho).sqrt(),
            "That is the way there, not the way back.": rho + beta * rho / (alpha + rho),
            "Changing the sign of β does not undo the map.": rho - beta * rho / (alpha + rho),
            "The sign of β is wrong in the equation.": half
            + beta
            + ((half + beta) ** 2 + alpha * rho).sqrt(),
            "A factor ½ is missing.": 2 * r,
            "Under the root, the product of the roots is not weighed right.": half
            + (half**2 + 4 * alpha * rho).sqrt(),
            "That is the radius that is added, not the old one.": rho - r,
        }
        hint = "Clear the fraction. Which kind of equation is it for r, and which solution is a distance?"
        given = asked(answer, rho.clone(), alpha, beta)
        yield Case(f"α = {alpha}, β = {beta}", given, r, 1e-5, hint, telling(slips, r))


@grader("ex:flows-leaky")
def _leaky(answer: Callable[..., object]) -> Iterator[Case]:
    for seed, a, features in ((1, 0.2, 3), (2, 1.7, 5)):
        z = normal(seed, 6, features)
        x, negative = torch.where(z < 0, a * z, z), (z < 0).sum(1)

        def part(index: int, z: Tensor = z, a: float = a) -> Callable[[], object]:
            def ask() -> object:
                reply = answer(z.clone(), a)
                return reply[index] if isinstance(reply, tuple | list) else reply

            return ask

        slips = {
            "The logarithm of a is missing: ladj is a log-determinant.": a**negative,
            "The sign is wrong: ladj belongs to the way from z to x.": -negative * math.log(a),
            "The logarithms must be added up over the entries.": torch.where(z < 0, math.log(a), 0.0),
            "The logarithms must be added up, not averaged.": negative * math.log(a) / features,
            "The function must return x and ladj.": x,
            "Only negative entries are stretched.": features * math.log(a) + 0.0 * negative,
            "Those are the entries that stay: count the others.": (features - negative) * math.log(a),
            "One number for each point, not for the whole batch.": negative.sum() * math.log(a),
            "That is the number of stretched entries.": negative,
        }
        hint = "Positive entries stay as they are, negative ones are multiplied by a."
        wrong = {
            "The two sides of 0 are exchanged.": torch.where(z < 0, z, a * z),
            "Negative entries are multiplied, not divided.": torch.where(z < 0, z / a, z),
            "Positive entries stay as they are.": a * z,
            "The sign stays: the function is increasing.": torch.where(z < 0, -a * z, z),
        }
        yield Case(f"x for a = {a}", part(0), x, 1e-5, hint, telling(wrong, x))
        expected, hint = negative * math.log(a), "The Jacobian is diagonal. What stands on the diagonal?"
        question = f"ladj for a = {a}, D = {features}"
        yield Case(question, part(1), expected, 1e-5, hint, telling(slips, expected))


@grader("ex:flows-steep")
def _steep(answer: Callable[..., object]) -> Iterator[Case]:
    for a, s in ((1.0, 1.0), (2.0, 0.7), (1.5, 0.4)):
        expected = s * math.exp(a**2 / (2 * s**2))
        slips = {
            "Upside down: the flow must thin out the middle.": 1 / expected,
            "The deviation s in front of the density of an island is missing.": expected / s,
            "Each island has weight ½, but there are two of them.": 2 * expected,
            "The two islands add up at 0.": expected / 2,
            "The exponent of a normal density has a factor ½.": s * math.exp(a**2 / s**2),
            "Square the deviation in the exponent.": s * math.exp(a**2 / (2 * s)),
            "Square the distance of the island in the exponent.": s * math.exp(a / (2 * s**2)),
            "That is the logarithm of the slope.": math.log(expected),
            "The density of the latent at 0 is missing.": expected * math.sqrt(2 * math.pi),
            "The sign in the exponent is wrong.": s * math.exp(-(a**2) / (2 * s**2)),
        }
        hint = "How much mass lies in a small piece around 0, before and after?"
        given = asked(answer, a, s)
        yield Case(f"a = {a}, s = {s}", given, expected, 1e-4 * expected, hint, telling(slips, expected))


@grader("ex:flows-passes")
def _passes(answer: object) -> Iterator[Case]:
    slips = {
        "That is for one layer. Each layer waits for the one before.": 784,
        "That is for the density. Sampling goes entry by entry.": 5,
        "An image has more entries than a row has.": 5 * 28,
        "Layers wait for each other: do not add.": 784 + 5,
        "The first entry takes a pass too.": 5 * 783,
        "No pass is needed after the last entry.": 5 * 785,
        "The layers stand one after the other, they do not branch.": 784**5,
    }
    yield Case("five layers, 784 pixels", lambda: answer, 5 * 784, 0.5, "Who has to wait for whom?", slips)
