"""Graders of the lesson on normalizing flows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib import flows
from genlib.checks import Case, grader
from genlib.flows import Layer
from genlib.graders._tools import EXACT, asked, normal


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
        if a == 1:
            del slips["The slope of a z + b is missing."], slips["The slope of the sigmoid is missing."]
        expected = log_p - slope - math.log(abs(a))
        yield Case(f"a = {a}, b = {b}", asked(answer, x.clone(), a, b), expected, slips=slips)


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
        yield Case(question, _detached(answer, layers, x.clone()), log_p + ladj.detach(), slips=slips)


def _detached(answer: Callable[..., object], *arguments: object) -> Callable[[], object]:
    """The answer's reply without its gradient."""

    def ask() -> object:
        reply = answer(*arguments)
        if isinstance(reply, tuple | list):
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
        }
        yield Case(f"α = {alpha}, β = {beta}", asked(answer, rho.clone(), alpha, beta), r, slips=slips)


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
        }
        hint = "Positive entries stay as they are, negative ones are multiplied by a."
        yield Case(f"x for a = {a}", part(0), x, hint=hint)
        yield Case(f"ladj for a = {a}, D = {features}", part(1), negative * math.log(a), slips=slips)


@grader("ex:flows-steep")
def _steep(answer: Callable[..., object]) -> Iterator[Case]:
    for a, s in ((1.0, 1.0), (2.0, 0.7), (1.5, 0.4)):
        expected = s * math.exp(a**2 / (2 * s**2))
        slips = {
            "Upside down: the slope is p(0) / q(0).": 1 / expected,
            "The deviation s in front of the density of an island is missing.": expected / s,
            "Each island has weight ½, but there are two of them.": 2 * expected,
        }
        if s == 1:
            del slips["The deviation s in front of the density of an island is missing."]
        yield Case(f"a = {a}, s = {s}", asked(answer, a, s), expected, 1e-4 * expected, slips=slips)


@grader("ex:flows-passes")
def _passes(answer: object) -> Iterator[Case]:
    slips = {
        "That is for one layer. Each layer waits for the one before.": 784,
        "That is for the density. Sampling goes entry by entry.": 5,
        "An image has 28 · 28 entries.": 5 * 28,
    }
    yield Case("five layers, 784 pixels", lambda: answer, 5 * 784, 0.5, "Who has to wait for whom?", slips)
