"""The exercises of the lessons on flows: right answers are graded right, and common slips are named."""

import math

import pytest
import torch
from torch.nn import functional


def logit_normal(x, a, b):
    base = torch.distributions.Normal(x.new_tensor(b), abs(a))
    sigmoid = torch.distributions.SigmoidTransform()
    return torch.distributions.TransformedDistribution(base, sigmoid).log_prob(x)


def stack_log_prob(layers, x):
    total = 0
    for layer in layers[::-1]:
        x, ladj = layer.inverse(x)
        total = total + ladj
    return torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1) + total


def old_distance(rho, alpha, beta):
    c = rho - alpha - beta
    return (c + (c**2 + 4 * alpha * rho).sqrt()) / 2


def leaky(z, a):
    x = functional.leaky_relu(z, a)
    return x, torch.where(z < 0, math.log(a), 0.0).sum(1)


def steepness(a, s):
    density = torch.distributions.Normal(torch.tensor([a, -a]), s).log_prob(torch.zeros(2)).exp().mean()
    return (1 / math.sqrt(2 * math.pi) / density).item()


def gap(a):
    u = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    return -torch.trapezoid(torch.log1p(a * (u - 0.5)), u).item()


def importance(log_w):
    top = log_w.amax(0)
    return (log_w - top).exp().mean(0).log() + top


def logit_ladj(x, alpha):
    p = alpha + (1 - 2 * alpha) * x
    return (math.log(1 - 2 * alpha) - p.log() - (1 - p).log()).sum(1)


BITS = (64 * math.log(17) - 96) / 64 / math.log(2)


@pytest.mark.parametrize(
    ("label", "answer"),
    [
        ("ex:flows-logit-normal", logit_normal),
        ("ex:flows-stack", stack_log_prob),
        ("ex:flows-radial", old_distance),
        ("ex:flows-leaky", leaky),
        ("ex:flows-leaky", lambda z, a: list(leaky(z, a))),
        ("ex:flows-steep", steepness),
        ("ex:flows-passes", 3920),
        ("ex:img-bits", BITS),
        ("ex:img-bits", 1.922),
        ("ex:img-gap", gap),
        ("ex:img-squeeze", lambda x: functional.pixel_unshuffle(x, 2)),
        ("ex:img-importance", importance),
        ("ex:img-importance", lambda log_w: importance(log_w.float())),
        ("ex:img-importance", lambda log_w: log_w.float().logsumexp(0) - math.log(len(log_w))),
        ("ex:img-logit", logit_ladj),
    ],
)
def test_right_answers_are_graded_right(label, answer, said):
    assert said(label, answer).startswith("right")


def forward_stack(layers, x):
    total = 0
    for layer in layers[::-1]:
        x, ladj = layer.forward(x)
        total = total + ladj
    return torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1) + total


@pytest.mark.parametrize(
    ("label", "answer", "says"),
    [
        (
            "ex:flows-logit-normal",
            lambda x, a, b: logit_normal(x, a, b) + 2 * (x * (1 - x)).log() + 2 * math.log(abs(a)),
            "not multiplied",
        ),
        (
            "ex:flows-logit-normal",
            lambda x, a, b: logit_normal(x, a, b) + math.log(abs(a)),
            "slope of a z + b",
        ),
        ("ex:flows-logit-normal", lambda x, a, b: logit_normal(x, a, b).exp(), "its logarithm"),
        (
            "ex:flows-logit-normal",
            lambda x, a, b: logit_normal(x, a, b) + 0.5 * math.log(2 * math.pi),
            "constant",
        ),
        ("ex:flows-stack", forward_stack, "way back"),
        ("ex:flows-stack", lambda layers, x: stack_log_prob(layers[::-1], x), "last layer first"),
        ("ex:flows-stack", lambda layers, x: layers[0].inverse(x), "several things"),
        ("ex:flows-radial", lambda rho, a, b: rho + b * rho / (a + rho), "way there"),
        ("ex:flows-radial", lambda rho, a, b: rho - a - b - old_distance(rho, a, b), "other root"),
        ("ex:flows-leaky", lambda z, a: (leaky(z, a)[0], -leaky(z, a)[1]), "sign"),
        ("ex:flows-leaky", lambda z, a: leaky(z, a)[0], "x and ladj"),
        ("ex:flows-leaky", lambda z, a: (leaky(z, a)[0], leaky(z, a)[1] / z.shape[1]), "averaged"),
        ("ex:flows-leaky", lambda z, a: (z, leaky(z, a)[1]), "Positive entries"),
        ("ex:flows-steep", lambda a, s: 1 / steepness(a, s), "Upside down"),
        ("ex:flows-steep", lambda a, s: 2 * steepness(a, s), "two of them"),
        ("ex:flows-passes", 784, "one layer"),
        ("ex:flows-passes", 5, "density"),
        ("ex:flows-passes", 7, "Who has to wait"),
        ("ex:img-bits", -96 / 64 / math.log(2), "unit"),
        ("ex:img-bits", BITS * math.log(2), "nats per dimension"),
        ("ex:img-bits", 3.0, "How large"),
        ("ex:img-gap", lambda a: -gap(a), "never negative"),
        (
            "ex:img-squeeze",
            lambda x: functional.pixel_unshuffle(x.transpose(2, 3), 2).transpose(2, 3),
            "exchanged",
        ),
        (
            "ex:img-squeeze",
            lambda x: torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1),
            "stand together",
        ),
        ("ex:img-importance", lambda log_w: log_w.mean(0), "one draw"),
        ("ex:img-importance", lambda log_w: log_w.logsumexp(0), "number of draws"),
        ("ex:img-importance", lambda log_w: log_w.exp().mean(0).log(), "logsumexp"),
        ("ex:img-logit", lambda x, alpha: -logit_ladj(x, alpha), "sign"),
        ("ex:img-logit", lambda x, alpha: logit_ladj(x, alpha) - math.log(1 - 2 * alpha), "How steep"),
    ],
)
def test_common_slips_are_named(label, answer, says, said):
    verdict = said(label, answer)
    assert verdict.startswith("not yet")
    assert says in verdict
