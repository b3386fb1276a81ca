"""The exercises of the lesson on the Fokker-Planck equation: right answers and common slips."""

import cmath
import math

import numpy as np
import torch
from scipy import integrate
from torch.distributions import Normal

# References: each goes another way than the lesson.


def square(y, k, g):
    """The mean growth of the square in one short step; twice half a step, less a whole one, has no error in it."""

    def growth(step):
        kicks, shares = np.polynomial.hermite_e.hermegauss(5)
        moved = math.sqrt(y) * (1 - k * step) + g * math.sqrt(step) * kicks
        return ((moved**2 - y) @ shares / shares.sum()) / step

    return 2 * growth(0.05) - growth(0.1)


def bet(mu, sigma, r):
    """The share at which the logarithm grows most: where its growth, a parabola through three points, has its top."""

    def growth(c):  # of the logarithm of the whole sum
        return c * mu + (1 - c) * r - (c * sigma) ** 2 / 2

    low, middle, high = growth(-1.0), growth(0.0), growth(1.0)
    return (low - high) / (2 * (low - 2 * middle + high))


def flux(left, right, f, D, h):
    """From (e^(−vy) u)' = −e^(−vy) J, over the width."""
    left, right, f, D, h = map(float, (left, right, f, D, h))
    v = f / D
    return (D * left - D * right * math.exp(-v * h)) / integrate.quad(lambda y: math.exp(-v * y), 0, h)[0]


def drift_for(x, log_p, D):
    """What keeps the current f p − (D p)' at zero."""
    x = x.clone().requires_grad_()
    p = log_p(x).exp()
    (slope,) = torch.autograd.grad((D(x) * p).sum(), x)
    return (slope / p).detach()


def slowest(k, gamma):
    return -np.linalg.eigvals(np.array([[0.0, 1.0], [-k, -gamma]])).real.max()


def rate(a, b, T):
    U = np.polynomial.Polynomial([0, 0, -b, 0, a])
    left, top, _ = sorted(U.deriv().roots().real)
    curved = U.deriv(2)
    return math.sqrt(curved(left) * -curved(top)) / (2 * math.pi) * math.exp((U(left) - U(top)) / T)


def back(x, t, v):
    """The variance obeys V' = 2 − 2V, and the score is the slope of the normal law's logarithm."""
    wide = integrate.solve_ivp(lambda t, V: 2 - 2 * V, (0, t), [v], rtol=1e-10, atol=1e-12).y[0, -1]
    x = x.detach().double().clone().requires_grad_()
    (score,) = torch.autograd.grad(Normal(0.0, math.sqrt(wide)).log_prob(x).sum(), x)
    return x.detach() + 2 * score


# Answers a reader may write.


def lesson_flux(left, right, f, D, h):
    def B(w):
        return w / math.expm1(w) if w else 1.0

    w = f * h / D
    return D / h * (B(-w) * left - B(w) * right)


def tensor_flux(left, right, f, D, h):
    def B(w):
        return torch.where(w == 0, 1.0, w / torch.expm1(w))

    w = torch.as_tensor(f * h / D)
    return D / h * (B(-w) * left - B(w) * right)


def lesson_drift(x, log_p, D):
    def slope(function):
        return torch.func.grad(lambda x: function(x).sum())(x)

    return D(x) * slope(log_p) + slope(D)


def lesson_slowest(k, gamma):
    return (gamma - math.sqrt(max(gamma**2 - 4 * k, 0.0))) / 2


def complex_slowest(k, gamma):
    return ((gamma - cmath.sqrt(gamma**2 - 4 * k)) / 2).real


def lesson_rate(a, b, T):
    return math.sqrt(8) * b / (2 * math.pi) * math.exp(-(b**2) / (4 * a * T))


REFERENCES = [
    ("ex:fp-square", square),
    ("ex:fp-bet", bet),
    ("ex:fp-wall", flux),
    ("ex:fp-rest", drift_for),
    ("ex:fp-swing", slowest),
    ("ex:fp-kramers", rate),
    ("ex:fp-back", back),
]
LESSON = [
    ("ex:fp-square", lambda y, k, g: g**2 - 2 * k * y),
    ("ex:fp-bet", lambda mu, sigma, r: (mu - r) / sigma**2),
    ("ex:fp-wall", lesson_flux),
    ("ex:fp-wall", tensor_flux),
    ("ex:fp-rest", lesson_drift),
    ("ex:fp-swing", complex_slowest),
    ("ex:fp-swing", lesson_slowest),
    ("ex:fp-kramers", lesson_rate),
    ("ex:fp-back", lambda x, t, v: x - 2 * x / (1 + (v - 1) * math.exp(-2 * t))),
    ("ex:fp-back", lambda x, t, v: x * (1 - 2 / (v * math.exp(-2 * t) - math.expm1(-2 * t)))),
]


def test_a_wall_without_drift_gets_a_hint_of_its_own(said):
    def careless(left, right, f, D, h):  # 0/0
        w = f * h / D
        return D / h * (-w / torch.expm1(-w) * left - w / torch.expm1(w) * right)

    told = said("ex:fp-wall", careless)
    assert "f = 0.0" in told
    assert told.endswith("what current remains?")


def test_a_particle_that_swings_gets_a_hint_of_its_own(said):
    told = said("ex:fp-swing", lambda k, gamma: (gamma - np.sqrt(complex(gamma**2 - 4 * k))) / 2)
    assert "γ = 1.1" in told
    assert "which part" in told
    told = said("ex:fp-swing", lambda k, gamma: (gamma - torch.tensor(gamma**2 - 4 * k).sqrt()) / 2)
    assert "root is imaginary" in told


def slope(function, x):
    return torch.func.grad(lambda x: function(x).sum())(x)


def pull(rule):
    """A drift from the slopes of log p and of D, from D itself, and from p."""
    return lambda x, log_p, D: rule(slope(log_p, x), slope(D, x), D(x), log_p(x).exp())


def crossed(plus, minus, front=lambda D, h: D / h):
    """The flux from two factors, each a function of w = f h / D."""

    def answer(left, right, f, D, h):
        w = f * h / D
        return front(D, h) * (plus(w) * left + minus(w) * right)

    return answer


def B(w):
    return w / math.expm1(w) if w else 1.0


def with_w(w):
    return lambda p, q, f, D, h: D / h * (B(-w(f, D, h)) * p - B(w(f, D, h)) * q)


def pulled(variance, f=lambda x: x, squared=2.0):
    return lambda x, t, v: f(x) - squared * x / variance(t, v)


def spread(t, v):
    return 1 + (v - 1) * math.exp(-2 * t)


def none(x):
    return 0 * x


SLIPS = [
    ("ex:fp-square", lambda y, k, g: -2 * k * y, "rule of school"),
    ("ex:fp-square", lambda y, k, g: 0.5 * g**2 - 2 * k * y, "is not 1"),
    ("ex:fp-square", lambda y, k, g: 2 * g**2 - 2 * k * y, "factor ½"),
    ("ex:fp-square", lambda y, k, g: g - 2 * k * y, "square its size"),
    ("ex:fp-square", lambda y, k, g: -(g**2) - 2 * k * y, "not down"),
    ("ex:fp-square", lambda y, k, g: g**2, "Where is the pull"),
    ("ex:fp-square", lambda y, k, g: g**2 + 2 * k * y, "sign of the pull"),
    ("ex:fp-square", lambda y, k, g: g**2 - k * y, "is not x."),
    ("ex:fp-square", lambda y, k, g: -k * y, "than the place"),
    ("ex:fp-square", lambda y, k, g: g**2 - 2 * k * y**2, "already"),
    ("ex:fp-square", lambda y, k, g: g**2 - 2 * k * y**0.5, "both have"),
    ("ex:fp-square", lambda y, k, g: 2 * g * y**0.5, "size of the noise"),
    ("ex:fp-square", lambda y, k, g: g**2 / 2 / k, "is zero"),
    ("ex:fp-bet", lambda mu, s, r: mu / s**2, "must beat it"),
    ("ex:fp-bet", lambda mu, s, r: 2 * bet(mu, s, r), "no faster"),
    ("ex:fp-bet", lambda mu, s, r: bet(mu, s, r) / 2, "factor ½"),
    ("ex:fp-bet", lambda mu, s, r: (mu - r) / s, "unit of risk"),
    ("ex:fp-bet", lambda mu, s, r: (mu - r) * s, "Square"),
    ("ex:fp-bet", lambda mu, s, r: mu - r, "noise cost"),
    ("ex:fp-bet", lambda mu, s, r: 1.0, "maximises the mean"),
    ("ex:fp-bet", lambda mu, s, r: (r - mu) / s**2, "sign is wrong"),
    ("ex:fp-bet", lambda mu, s, r: r + (mu - r) ** 2 / 2 / s**2, "not the share"),
    ("ex:fp-bet", lambda mu, s, r: mu - s**2 / 2, "whole sum in the game"),
    ("ex:fp-bet", lambda mu, s, r: s**2 / (mu - r) if mu != r else 0.0, "upside down"),
    ("ex:fp-bet", lambda mu, s, r: min(1.0, max(0.0, bet(mu, s, r))), "cut off"),
    ("ex:fp-wall", lambda p, q, f, D, h: f * (p + q) / 2 - D * (q - p) / h, "obvious guess"),
    ("ex:fp-wall", lambda p, q, f, D, h: f * (p if f > 0 else q) - D * (q - p) / h, "wind"),
    ("ex:fp-wall", crossed(B, lambda w: -B(-w)), "signs of w"),
    ("ex:fp-wall", lambda p, q, f, D, h: lesson_flux(q, p, -f, D, h), "to the right: the sign"),
    ("ex:fp-wall", crossed(lambda w: B(-w), lambda w: -B(w), lambda D, h: 1 / h), "u is not"),
    ("ex:fp-wall", crossed(lambda w: B(-w), lambda w: -B(w), lambda D, h: D), "Divide by the width."),
    ("ex:fp-wall", crossed(lambda w: B(-w), lambda w: -B(w), lambda D, h: D / h**2), "once only"),
    ("ex:fp-wall", with_w(lambda f, D, h: f * h), "v is not the drift"),
    ("ex:fp-wall", with_w(lambda f, D, h: f / D), "v times the width"),
    ("ex:fp-wall", lambda p, q, f, D, h: D * (p - q) / h, "without any drift"),
    ("ex:fp-wall", lambda p, q, f, D, h: f * (p + q) / 2, "drift alone"),
    ("ex:fp-wall", crossed(lambda w: B(-w), B), "difference"),
    ("ex:fp-wall", lambda p, q, f, D, h: lesson_flux(p, 0.0, f, D, h), "comes back"),
    ("ex:fp-wall", crossed(B, lambda w: -B(w)), "same factor"),
    ("ex:fp-rest", pull(lambda s, b, d, p: d * s), "made good"),
    ("ex:fp-rest", pull(lambda s, b, d, p: d * s + b / 2), "Stratonovich"),
    ("ex:fp-rest", pull(lambda s, b, d, p: d * s - b), "drive it out"),
    ("ex:fp-rest", pull(lambda s, b, d, p: s + b), "multiplied by D."),
    ("ex:fp-rest", pull(lambda s, b, d, p: s / d + b), "not divided"),
    ("ex:fp-rest", pull(lambda s, b, d, p: s), "same noise everywhere"),
    ("ex:fp-rest", pull(lambda s, b, d, p: b), "Where is the law"),
    ("ex:fp-rest", pull(lambda s, b, d, p: 2 * (d * s + b)), "half of g² already"),
    ("ex:fp-rest", pull(lambda s, b, d, p: (d * s + b) / 2), "counted already"),
    ("ex:fp-rest", pull(lambda s, b, d, p: -d * s - b), "sign of all"),
    ("ex:fp-rest", pull(lambda s, b, d, p: d * s * p + b), "not that of p"),
    ("ex:fp-rest", pull(lambda s, b, d, p: (d * s + b) * p), "current"),
    ("ex:fp-rest", pull(lambda s, b, d, p: d * s + b / d), "not divided by D"),
    ("ex:fp-rest", lambda x, log_p, D: drift_for(x, log_p, D).sum(), "do not add"),
    ("ex:fp-swing", lambda k, c: k / c, "limit of strong"),
    ("ex:fp-swing", lambda k, c: c - slowest(k, c), "fast rate"),
    ("ex:fp-swing", lambda k, c: c / 2, "creeps"),
    ("ex:fp-swing", lambda k, c: abs(c**2 - 4 * k) ** 0.5, "takes off"),
    ("ex:fp-swing", lambda k, c: abs(c**2 / 4 - k) ** 0.5, "a frequency"),
    ("ex:fp-swing", lambda k, c: c, "velocity"),
    ("ex:fp-swing", lambda k, c: c - max(c**2 - 4 * k, 0) ** 0.5, "divided by 2."),
    ("ex:fp-swing", lambda k, c: slowest(k, c) / 2, "once only"),
    ("ex:fp-swing", lambda k, c: -slowest(k, c), "positive"),
    ("ex:fp-swing", lambda k, c: slowest(k / 4, c), "4 is missing"),
    ("ex:fp-swing", lambda k, c: slowest(k**2, c), "k is not squared"),
    ("ex:fp-swing", lambda k, c: slowest(-k, c), "taken off"),
    ("ex:fp-swing", lambda k, c: k**0.5, "only one part"),
    ("ex:fp-swing", lambda k, c: 1 / slowest(k, c), "inverse"),
    ("ex:fp-kramers", lambda a, b, T: rate(a, b, 1.0), "divided by the temperature"),
    ("ex:fp-kramers", lambda a, b, T: rate(a, b, T / 2), "lower than one of them"),
    ("ex:fp-kramers", lambda a, b, T: rate(a, b, T / 3), "opposite signs"),
    ("ex:fp-kramers", lambda a, b, T: math.sqrt(20) * b / 2 / math.pi * math.exp(-(b**2) / 4 / a / T), "slope is zero"),
    ("ex:fp-kramers", lambda a, b, T: rate(a, b, -T), "seldom"),
    ("ex:fp-kramers", lambda a, b, T: rate(a, b, 2 * T), "not divided by 2T"),
    ("ex:fp-kramers", lambda a, b, T: 4 * b / 2 / math.pi * math.exp(-(b**2) / 4 / a / T), "the valley twice"),
    ("ex:fp-kramers", lambda a, b, T: 2 * b / 2 / math.pi * math.exp(-(b**2) / 4 / a / T), "the top twice"),
    ("ex:fp-kramers", lambda a, b, T: 8 * b**2 / 2 / math.pi * math.exp(-(b**2) / 4 / a / T), "Take the root"),
    ("ex:fp-kramers", lambda a, b, T: rate(a, b, T) * 2 * math.pi, "by 2π."),
    ("ex:fp-kramers", lambda a, b, T: rate(a, b, T) * 2, "not by π"),
    ("ex:fp-kramers", lambda a, b, T: rate(a, b, T) / 2, "one way"),
    ("ex:fp-kramers", lambda a, b, T: 1 / rate(a, b, T), "mean time"),
    ("ex:fp-kramers", lambda a, b, T: math.exp(-(b**2) / 4 / a / T), "Where are the curvatures"),
    ("ex:fp-kramers", lambda a, b, T: math.sqrt(8) * b / 2 / math.pi, "Where is the barrier"),
    ("ex:fp-kramers", lambda a, b, T: math.sqrt(32) * b / 2 / math.pi * math.exp(-b / T), "lesson's two"),
    ("ex:fp-kramers", lambda a, b, T: T * rate(a, b, T), "exponent only"),
    ("ex:fp-kramers", lambda a, b, T: a / b * rate(a, b, T), "exchanged"),
    ("ex:fp-back", pulled(spread, none), "alone, twice"),
    ("ex:fp-back", pulled(spread, none, 1.0), "two parts"),
    ("ex:fp-back", pulled(spread, lambda x: -x), "changes its sign"),
    ("ex:fp-back", pulled(spread, squared=1.0), "g is √2"),
    ("ex:fp-back", pulled(spread, squared=2**0.5), "not by g"),
    ("ex:fp-back", pulled(spread, squared=-2.0), "leads back"),
    ("ex:fp-back", lambda x, t, v: -back(x, t, v), "sign of all"),
    ("ex:fp-back", lambda x, t, v: x, "without the score"),
    ("ex:fp-back", lambda x, t, v: -x, "at rest"),
    ("ex:fp-back", pulled(lambda t, v: v), "score of the data"),
    ("ex:fp-back", lambda x, t, v: back(x, t / 2, v), "factor of the mean"),
    ("ex:fp-back", lambda x, t, v: back(x, t, 0.0), "noise only"),
    ("ex:fp-back", pulled(lambda t, v: v * math.exp(-2 * t)), "noise adds"),
    ("ex:fp-back", pulled(lambda t, v: v * math.exp(-2 * t) + 2 * t), "noise that was added"),
    ("ex:fp-back", pulled(lambda t, v: v + 2 * t), "for ever"),
    ("ex:fp-back", pulled(lambda t, v: v + 1 - math.exp(-2 * t)), "counted as it is"),
    ("ex:fp-back", pulled(lambda t, v: v + (1 - v) * math.exp(-2 * t)), "exchanged"),
    ("ex:fp-back", pulled(lambda t, v: spread(t, v) ** 0.5), "not by the deviation"),
    ("ex:fp-back", lambda x, t, v: back(x, t, v**2), "variance already"),
    ("ex:fp-back", lambda x, t, v: back(x, t, v).sum(), "do not add"),
]  # fmt: skip
