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


def median(x0, mu, sigma, t):
    """The mean of x and that of x², which grows at the rate 2μ + σ², say how wide a law of a normal logarithm is."""
    mean, second = x0 * math.exp(mu * t), x0**2 * math.exp((2 * mu + sigma**2) * t)
    return mean**2 / math.sqrt(second)


def flux(left, right, f, D, h):
    """From (e^(−vy) u)' = −e^(−vy) J, over the width."""
    left, right, f, D, h = map(float, (left, right, f, D, h))
    v = f / D
    return (D * left - D * right * math.exp(-v * h)) / integrate.quad(lambda y: math.exp(-v * y), 0, h)[0]


def at_rest(x, f, D):
    x, f, D = (part.double().numpy() for part in (x, f, D))
    u = np.exp(integrate.cumulative_trapezoid(f / D, x, initial=0))
    return u / D / integrate.trapezoid(u / D, x)


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


def lesson_rest(x, f, D):
    inside = torch.cumulative_trapezoid(f / D, x)
    p = torch.cat([torch.zeros_like(x[:1]), inside]).exp() / D
    return p / torch.trapezoid(p, x)


def careful_rest(x, f, D):  # no exponent is large
    log_u = torch.zeros_like(x)
    log_u[1:] = torch.cumulative_trapezoid(f / D, x)
    log_p = log_u - D.log()
    p = (log_p - log_p.max()).exp()
    return p / torch.trapezoid(p, x)


def lesson_slowest(k, gamma):
    return (gamma - math.sqrt(max(gamma**2 - 4 * k, 0.0))) / 2


def complex_slowest(k, gamma):
    return ((gamma - cmath.sqrt(gamma**2 - 4 * k)) / 2).real


def lesson_rate(a, b, T):
    return math.sqrt(8) * b / (2 * math.pi) * math.exp(-(b**2) / (4 * a * T))


REFERENCES = [
    ("ex:fp-square", square),
    ("ex:fp-median", median),
    ("ex:fp-wall", flux),
    ("ex:fp-rest", at_rest),
    ("ex:fp-swing", slowest),
    ("ex:fp-kramers", rate),
    ("ex:fp-back", back),
]
LESSON = [
    ("ex:fp-square", lambda y, k, g: g**2 - 2 * k * y),
    ("ex:fp-median", lambda x0, mu, sigma, t: x0 * math.exp((mu - sigma**2 / 2) * t)),
    ("ex:fp-median", lambda x0, mu, sigma, t: math.exp(math.log(x0) + (mu - sigma**2 / 2) * t)),
    ("ex:fp-wall", lesson_flux),
    ("ex:fp-wall", tensor_flux),
    ("ex:fp-rest", lesson_rest),
    ("ex:fp-rest", careful_rest),
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


def law(exponent=lambda f, D: f / D, front=lambda D: 1 / D, scale=torch.trapezoid):
    """The density at rest from another exponent, another factor in front, or another scale."""

    def answer(x, f, D):
        p = front(D) * torch.exp(
            torch.as_tensor(integrate.cumulative_trapezoid(exponent(f, D), x, initial=0))
        )
        return p / scale(p, x)

    return answer


def outside(x, f, D):
    p = torch.exp(torch.as_tensor(integrate.cumulative_trapezoid(f, x, initial=0)) / D) / D
    return p / torch.trapezoid(p, x)


def boxes(x, f, D):
    p = torch.exp(torch.cumsum(f / D, 0) * (x[1] - x[0])) / D
    return p / torch.trapezoid(p, x)


def without_first(x, f, D):
    p = torch.cumulative_trapezoid(f / D, x).exp() / D[1:]
    return p / torch.trapezoid(p, x[1:])


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
    ("ex:fp-median", lambda x0, mu, s, t: x0 * math.exp(mu * t), "That is the mean: "),
    ("ex:fp-median", lambda x0, mu, s, t: x0 * math.exp((mu + s**2 / 2) * t), "other sign"),
    ("ex:fp-median", lambda x0, mu, s, t: x0 * math.exp((mu - s**2) * t), "has a factor ½."),
    ("ex:fp-median", lambda x0, mu, s, t: x0 * math.exp((mu - s**2 / 4) * t), "once only"),
    ("ex:fp-median", lambda x0, mu, s, t: x0 * math.exp((mu - s / 2) * t), "Square"),
    ("ex:fp-median", lambda x0, mu, s, t: x0 * math.exp((mu - 1.5 * s**2) * t), "density is largest"),
    ("ex:fp-median", lambda x0, mu, s, t: x0 * math.exp(mu * t - s**2 / 2), "with the time, too"),
    ("ex:fp-median", lambda x0, mu, s, t: x0 * math.exp(mu * t - s**2 / 2 * t**0.5), "not with its root"),
    ("ex:fp-median", lambda x0, mu, s, t: x0 * math.exp(-(s**2) / 2 * t), "where is μ"),
    ("ex:fp-median", lambda x0, mu, s, t: median(1.0, mu, s, t), "not at 1"),
    ("ex:fp-median", lambda x0, mu, s, t: median(x0, mu, s, t) - x0, "start at x0"),
    ("ex:fp-median", lambda x0, mu, s, t: math.log(median(x0, mu, s, t)), "logarithm"),
    ("ex:fp-median", lambda x0, mu, s, t: x0 + x0 * (mu - s**2 / 2) * t, "compound"),
    ("ex:fp-median", lambda x0, mu, s, t: median(x0, mu, s, 1.0), "one unit"),
    ("ex:fp-median", lambda x0, mu, s, t: median(x0, mu, s, t) * math.exp(s * t**0.5), "typical kick"),
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
    ("ex:fp-rest", law(front=torch.ones_like), "in front of it"),
    ("ex:fp-rest", law(front=torch.rsqrt), "Stratonovich"),
    ("ex:fp-rest", law(front=lambda D: D), "does not multiply"),
    ("ex:fp-rest", law(lambda f, D: -f / D), "sign of the exponent"),
    ("ex:fp-rest", law(lambda f, D: f), "exponent is divided by D."),
    ("ex:fp-rest", law(lambda f, D: f * D), "not multiplied"),
    ("ex:fp-rest", outside, "inside of the integral"),
    ("ex:fp-rest", law(lambda f, D: 2 * f / D), "counted already"),
    ("ex:fp-rest", law(lambda f, D: f / D / 2), "too weak"),
    ("ex:fp-rest", law(lambda f, D: 0 * f), "Where is the drift"),
    ("ex:fp-rest", law(scale=lambda p, x: 1), "scale is missing"),
    ("ex:fp-rest", law(scale=lambda p, x: p.sum()), "not the sum"),
    ("ex:fp-rest", law(lambda f, D: f / D / (28 / 110)), "exponent takes the width"),
    ("ex:fp-rest", law(scale=lambda p, x: torch.trapezoid(p)), "makes it 1"),
    ("ex:fp-rest", boxes, "rectangles"),
    ("ex:fp-rest", without_first, "first place"),
    ("ex:fp-rest", lambda x, f, D: lesson_rest(x, f, D).log(), "logarithm"),
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
