"""The exercises of the lessons from score-based models in continuous time to flow matching: answers and slips."""

import math

import numpy as np
import torch
from scipy import integrate, optimize, stats

# References: each goes another way than the lesson.


def straight(t):
    """From the variance of x/α, which grows by g²/α²: a difference of κ²."""
    step = 1e-5

    def square(t):
        return (t / (1 - t)) ** 2

    near, far = (square(t + d) - square(t - d) for d in (step, 2 * step))
    return (1 - t) * math.sqrt((8 * near - far) / (12 * step))


def when(level, beta):
    """The variance obeys V' = β (1 − V) and the scale α' = −βα/2: run until their ratio is there."""

    def level_at(t):
        run = integrate.solve_ivp(
            lambda t, s: [-beta * s[0] / 2, beta * (1 - s[1])], (0, t), [1.0, 0.0], rtol=1e-10, atol=1e-12
        )
        return math.sqrt(run.y[1, -1]) / run.y[0, -1]

    return optimize.brentq(lambda t: level_at(t) - level, 1e-12, 30 / beta, xtol=1e-12) if level else 0.0


def clean(x, v, alpha, sigma):
    matrix = np.array([[alpha, sigma], [-sigma, alpha]])
    both = np.linalg.solve(matrix, np.stack([x.numpy().ravel(), v.numpy().ravel()]))
    return both[0].reshape(x.shape)


def enough(m2, nats, s0):
    def cost(last):
        return m2 / (2 * (last**2 - s0**2)) - nats

    return optimize.brentq(cost, s0 * (1 + 1e-12), 1e6, xtol=1e-12)


def two(w, s, log_p, s2, log_p2):
    """The slope of the log-density of both along a line, from densities that are straight in their logarithm."""

    def both(x):
        first, second = log_p + (s * x).sum(1), log_p2 + (s2 * x).sum(1)
        return torch.logaddexp(math.log(w) + first, math.log(1 - w) + second).sum()

    return torch.func.grad(both)(torch.zeros_like(s))


def width(v, kappa, q):
    """By quadrature over y and the noise."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()
    y = math.sqrt(v + kappa**2) * nodes[:, None]
    moved = q**2 * y + (1 - q**2) * v / (v + kappa**2) * y + q * kappa * math.sqrt(1 - q**2) * nodes
    return weights @ moved**2 @ weights


def home(y, v, kappa):
    """Down the flow dy/dκ = −κ · score, with the score of the normal law at each level."""

    def rate(k, y):
        return k * y / (v + k**2)

    if not kappa:
        return y
    return integrate.solve_ivp(rate, (kappa, 0), [y], method="DOP853", rtol=1e-11, atol=1e-13).y[0, -1]


def velocity(x, clean, alpha, sigma, da, ds):
    """From the drift, the noise and the score of data that are all at their mean: f x − g²/2 · score."""

    def log_p(x):
        return torch.distributions.Normal(alpha * clean, sigma).log_prob(x).sum()

    step = 1e-4
    (f, g2) = (
        (rule(step) - rule(-step)) / (2 * step)
        for rule in (
            lambda t: math.log(alpha + da * t),
            lambda t: alpha**2 * ((sigma + ds * t) / (alpha + da * t)) ** 2,
        )
    )
    return f * x - g2 / 2 * torch.func.grad(log_p)(x)


def log_change(A, t):
    """The volume of what the map from start to end makes of a cube."""
    return -torch.linalg.slogdet(torch.linalg.matrix_exp(t * A)).logabsdet


def price(s, D, kappa):
    """By quadrature over one dimension."""
    own, wide = stats.norm(0, s), stats.norm(0, math.hypot(s, kappa))

    def loss(x):
        return own.pdf(x) * (own.logpdf(x) - wide.logpdf(x))

    return D * integrate.quad(loss, -12 * s, 12 * s, epsabs=1e-12, epsrel=1e-12, limit=200)[0]


def bits(log_q, D, K):
    """Each pixel's share in the probability of the cell around an image: its density, over a level's width."""
    cells = np.linspace(0, 1, K)
    cell, _ = integrate.quad(lambda x: math.exp(log_q / D), *(cells[:2] - cells[1] / 2))
    return sum(-math.log2(cell) for _ in range(D)) / D


def flattery(s, a):
    """By quadrature over the shared part and over the draws."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    draws = a * nodes[:, None] + math.sqrt(s**2 - a**2) * nodes
    return weights @ np.log(np.exp(draws) @ weights)


def share(before, after):
    """The β after whose step what is left of the data is right."""
    return optimize.brentq(lambda beta: before * math.sqrt(1 - beta) - after, 0, 1, xtol=1e-14)


def start_cost(x, alpha):
    """The divergence as torch knows it, of laws with full covariances."""
    one = torch.eye(len(x), dtype=x.dtype)
    normal = torch.distributions.MultivariateNormal
    return torch.distributions.kl_divergence(
        normal(alpha * x, (1 - alpha**2) * one), normal(torch.zeros_like(x), one)
    )


def worth(v, low, high):
    """By quadrature over data and noise: two steps back by Bayes' rule, one from the data, one from the guess."""
    if low == high:
        return 0.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()
    x = math.sqrt(v) * nodes[:, None]
    y = x + high * nodes
    precision = np.array([1 / low**2, 1 / (high**2 - low**2)])
    guess = y / high**2 / (1 / v + 1 / high**2)
    right, own = ((precision[0] * clean + precision[1] * y) / precision.sum() for clean in (x, guess))
    return weights @ ((right - own) ** 2 * precision.sum() / 2) @ weights


def undo(x, clean, a, s, a2, s2):
    """The step down is a straight line in the point: find it from two points, and turn it around."""

    def down(x):
        return a2 * clean + s2 * (x - a * clean) / s

    start = down(torch.zeros_like(x))
    return (x - start) / (down(torch.ones_like(x)) - start)


def guided(x, m, v, w):
    """The slope of log p(x) + w log P(class | x)."""

    def tilted(x):
        one, other = (torch.distributions.Normal(mean, math.sqrt(v)).log_prob(x) for mean in (m, -m))
        both = torch.logaddexp(one, other)
        return (both + w * (one - both)).sum()

    return torch.func.grad(tilted)(x)


def holes(costs):
    """By quadrature over the time: each letter is hidden with probability t, a hidden one weighs 1/t."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    t, counts = (nodes + 1) / 2, np.arange(1, len(costs) + 1)
    chances = stats.binom.pmf(counts, len(costs), t[:, None])
    return weights / 2 @ (chances * counts / t[:, None] @ costs.double().numpy())


def arc(x0, x1, t):
    """By differentiating the path."""

    def path(t):
        return torch.cos(math.pi * t / 2) * x0 + torch.sin(math.pi * t / 2) * x1

    return torch.func.jacrev(path)(torch.tensor(t, dtype=x0.dtype))


def from_velocity(x, v, t):
    """The mean of the data solves two equations; around it lies noise of deviation t."""
    matrix = torch.tensor([[1 - t, t], [-1, 1]], dtype=x.dtype)
    clean = torch.linalg.solve(matrix, torch.stack([x.flatten(), v.flatten()]))[0].view_as(x)

    def log_p(x):
        return torch.distributions.Normal((1 - t) * clean, t).log_prob(x).sum()

    return torch.func.grad(log_p)(x)


def marginal(x, t, s):
    """A normal crowd on the line that spreads: each member goes with the deviation."""

    def log_width(t):
        return torch.log((1 - t) ** 2 * s**2 + t**2) / 2

    return x * torch.func.grad(log_width)(torch.tensor(t, dtype=x.dtype))


def pairs(x0, x1):
    """As a problem of assignment."""
    rows, columns = optimize.linear_sum_assignment((x0.numpy()[:, None] - x1.numpy()) ** 2)
    assert (np.diff(rows) == 1).all()
    return x1[torch.from_numpy(columns)]


def saved(m, s):
    """By quadrature: quantile to quantile, and all with all."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()
    ends = m + s * nodes
    return weights @ (nodes[:, None] - ends) ** 2 @ weights - weights @ (nodes - ends) ** 2


def landing(x1, s):
    half = x1 - marginal(x1, 1.0, s) / 2
    return half - marginal(half, 0.5, s) / 2


REFERENCES = [
    ("ex:ss-straight", straight),
    ("ex:ss-when", when),
    ("ex:ss-clean", clean),
    ("ex:ss-enough", enough),
    ("ex:ss-two", two),
    ("ex:ss-width", width),
    ("ex:pf-home", home),
    ("ex:pf-guess", velocity),
    ("ex:pf-linear", log_change),
    ("ex:pf-price", price),
    ("ex:pf-bits", bits),
    ("ex:pf-flatter", flattery),
    ("ex:dm-share", share),
    ("ex:dm-signal", start_cost),
    ("ex:dm-worth", worth),
    ("ex:dm-up", undo),
    ("ex:dm-guided", guided),
    ("ex:dm-holes", holes),
    ("ex:fm-arc", arc),
    ("ex:fm-score", from_velocity),
    ("ex:fm-normal", marginal),
    ("ex:fm-pairs", pairs),
    ("ex:fm-saved", saved),
    ("ex:fm-two", landing),
]


def lesson_two(w, s, log_p, s2, log_p2):
    first = torch.sigmoid(math.log(w / (1 - w)) + log_p - log_p2)[:, None]
    return first * s + (1 - first) * s2


def lesson_width(v, kappa, q):
    factor = q**2 + (1 - q**2) * v / (v + kappa**2)
    return factor**2 * (v + kappa**2) + q**2 * kappa**2 * (1 - q**2)


def lesson_velocity(x, clean, alpha, sigma, da, ds):
    return da * clean + ds * (x - alpha * clean) / sigma


def by_drift(x, clean, alpha, sigma, da, ds):
    f = da / alpha
    score = -(x - alpha * clean) / sigma**2
    return f * x - (ds * sigma - f * sigma**2) * score


def lesson_signal(x, alpha):
    rest = -(alpha**2) - math.log(1 - alpha**2)
    return (alpha**2 * x.square().sum() + len(x) * rest) / 2


def lesson_worth(v, low, high):
    return (1 / low**2 - 1 / high**2) / 2 * (v * high**2 / (v + high**2))


def lesson_undo(x, clean, a, s, a2, s2):
    return a * clean + s * (x - a2 * clean) / s2


def lesson_guided(x, m, v, w):
    plain = (m * torch.tanh(m * x / v) - x) / v
    return plain + w * ((m - x) / v - plain)


def by_chances(x, m, v, w):
    of_class = torch.sigmoid(2 * m * x / v)
    return (m * (2 * of_class - 1) - x) / v + 2 * w * m * (1 - of_class) / v


def lesson_arc(x0, x1, t):
    angle = math.pi / 2 * t
    return math.pi / 2 * (math.cos(angle) * x1 - math.sin(angle) * x0)


def by_clean(x, v, t):
    return ((1 - t) * (x - t * v) - x) / t**2


def lesson_marginal(x, t, s):
    return x * (t - (1 - t) * s**2) / ((1 - t) ** 2 * s**2 + t**2)


def lesson_pairs(x0, x1):
    paired = torch.empty_like(x1)
    paired[x0.argsort()] = x1.sort().values
    return paired


def by_ranks(x0, x1):
    return x1[x1.argsort()][x0.argsort().argsort()]


def lesson_landing(x1, s):
    half = x1 - lesson_marginal(x1, 1.0, s) / 2
    return half - lesson_marginal(half, 0.5, s) / 2


LESSON = [
    ("ex:ss-straight", lambda t: math.sqrt(2 * t / (1 - t))),
    ("ex:ss-straight", lambda t: (2 * t + 2 * t**2 / (1 - t)) ** 0.5),
    ("ex:ss-when", lambda level, beta: math.log(1 + level**2) / beta),
    ("ex:ss-clean", lambda x, v, alpha, sigma: (alpha * x - sigma * v) / (alpha**2 + sigma**2)),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(s0**2 + m2 / (2 * nats))),
    ("ex:ss-two", lesson_two),
    ("ex:ss-width", lesson_width),
    ("ex:pf-home", lambda y, v, kappa: y * math.sqrt(v / (v + kappa**2))),
    ("ex:pf-home", lambda y, v, kappa: y / (1 + kappa**2 / v) ** 0.5),
    ("ex:pf-guess", lesson_velocity),
    ("ex:pf-guess", by_drift),
    ("ex:pf-linear", lambda A, t: -t * torch.trace(A)),
    ("ex:pf-linear", lambda A, t: -float(torch.linalg.eigvals(A).sum().real) * t),
    (
        "ex:pf-price",
        lambda s, D, kappa: D / 2 * (math.log(1 + kappa**2 / s**2) - kappa**2 / (s**2 + kappa**2)),
    ),
    ("ex:pf-bits", lambda log_q, D, K: -log_q / (D * math.log(2)) + math.log2(K - 1)),
    ("ex:pf-bits", lambda log_q, D, K: -(log_q - D * math.log(K - 1)) / D / math.log(2)),
    ("ex:pf-flatter", lambda s, a: (s**2 - a**2) / 2),
    ("ex:dm-share", lambda before, after: 1 - (after / before) ** 2),
    ("ex:dm-share", lambda before, after: (before - after) * (before + after) / before**2),
    ("ex:dm-signal", lesson_signal),
    ("ex:dm-worth", lesson_worth),
    ("ex:dm-worth", lambda v, low, high: (high**2 / low**2 - 1) / 2 * v / (v + high**2)),
    ("ex:dm-up", lesson_undo),
    ("ex:dm-up", lambda x, clean, a, s, a2, s2: s / s2 * x + (a - s / s2 * a2) * clean),
    ("ex:dm-guided", lesson_guided),
    ("ex:dm-guided", by_chances),
    ("ex:dm-holes", lambda costs: costs.sum()),
    ("ex:dm-holes", lambda costs: sum(costs.tolist())),
    ("ex:fm-arc", lesson_arc),
    ("ex:fm-score", lambda x, v, t: -(x + (1 - t) * v) / t),
    ("ex:fm-score", by_clean),
    ("ex:fm-normal", lesson_marginal),
    ("ex:fm-pairs", lesson_pairs),
    ("ex:fm-pairs", by_ranks),
    ("ex:fm-saved", lambda m, s: 2 * s),
    ("ex:fm-saved", lambda m, s: m**2 + 1 + s**2 - (m**2 + (s - 1) ** 2)),
    ("ex:fm-two", lesson_landing),
    ("ex:fm-two", lambda x1, s: x1 * s**2 / (1 + s**2)),
]


def growing(rule):
    """g from what the variance needs: a rule of t and of t²/(1 − t)."""
    return lambda t: math.sqrt(abs(rule(t, t**2 / (1 - t))))


def mixed(weight):
    def answer(w, s, log_p, s2, log_p2):
        first = weight(w, log_p, log_p2)[:, None]
        return first * s + (1 - first) * s2

    return answer


def step(factor, fresh):
    """The variance after a step, from its factor and its fresh noise."""
    return lambda v, k, q: factor(v, k, q) + fresh(v, k, q)


def whole(v, k, q):
    return (q**2 + (1 - q**2) * v / (v + k**2)) ** 2 * (v + k**2)


def noise(v, k, q):
    return q**2 * k**2 * (1 - q**2)


def nothing(v, k, q):
    return 0.0


def parts(rule):
    """A velocity from a rule of the point, the mean of the data, that of the noise and the slopes."""
    return lambda x, c, a, s, da, ds: rule(x, c, (x - a * c) / s, da, ds)


def paid(rule, wider=lambda s, k: s**2 + k**2):
    """A price from a rule of the dimensions, the logarithm and the share of the noise."""
    return lambda s, D, k: rule(D, math.log(wider(s, k) / s**2), 1 - s**2 / wider(s, k))


def both(rule):
    """A count of bits from a rule of its two parts, of D and of K."""
    return lambda log_q, D, K: rule(-log_q / D / math.log(2), math.log2(K - 1), D, K)


def told(rule):
    """A cost of the start from a rule of the signal, of D and of α²."""
    return lambda x, alpha: rule(alpha**2 * x.square().sum(), len(x), alpha**2) / 2


def weighed(rule):
    """A worth from a rule of the gain, the error at the upper level, v and both levels."""
    return lambda v, low, high: rule(1 / low**2 - 1 / high**2, v * high**2 / (v + high**2), v, low, high)


def louder(rule):
    """A guided score from a rule of the scores of the class, of both and of the other class, and of w."""

    def answer(x, m, v, w):
        return rule((m - x) / v, (m * torch.tanh(m * x / v) - x) / v, (-m - x) / v, w)

    return answer


def blended(rule):
    """A guided score with a rule of x, m and v for the mean of the classes, given x."""
    return lambda x, m, v, w: (1 - w) * (rule(x, m, v) - x) / v + w * (m - x) / v


def counted(rule):
    """A bound from a rule of the costs and of the numbers of holes."""
    return lambda costs: rule(costs, torch.arange(1, len(costs) + 1))


def turned(rule):
    """A velocity from a rule of data and noise, of cosine and sine."""
    return lambda x0, x1, t: rule(x0, x1, math.cos(math.pi / 2 * t), math.sin(math.pi / 2 * t))


def shared(above, below=lambda data, noise, v: data**2 * v + noise**2):
    """A marginal velocity from rules of the shares of data and noise and of the variance of the data."""
    return lambda x, t, s: x * above(1 - t, t, s**2) / below(1 - t, t, s**2)


def ranked(rule):
    """Pairs from a rule of x0, of x1, of the sorted x1 and of the ranks of x0."""
    return lambda x0, x1: rule(x0, x1, x1.sort().values, x0.argsort().argsort())


def greedy(x0, x1):
    free, ends = torch.ones_like(x1, dtype=torch.bool), torch.empty_like(x1)
    for i, start in enumerate(x0):
        nearest = torch.where(free, (x1 - start).abs(), math.inf).argmin()
        ends[i], free[nearest] = x1[nearest], False
    return ends


def slowed(rule):
    """A landing from a rule of the factor that the second step takes off, and of s²."""
    return lambda x1, s: x1 * rule((1 - s**2) / (1 + s**2), s**2)


def stepped(velocity, begins=(1.0, 0.5), sign=-1):
    """Two steps of size 1/2 with a velocity, from other times or the other way."""

    def answer(x1, s):
        for t in begins:
            x1 = x1 + sign * velocity(x1, t, s) / 2
        return x1

    return answer


H = math.pi / 2
SLIPS = [
    ("ex:ss-straight", lambda t: 2 * t / (1 - t), "g², not g"),
    ("ex:ss-straight", growing(lambda t, u: 2 * t), "make good for both"),
    ("ex:ss-straight", growing(lambda t, u: 2 * t + u), "twice as fast"),
    ("ex:ss-straight", lambda t: 1.0, "not the deviation"),
    ("ex:ss-straight", growing(lambda t, u: t + 2 * u), "is not t."),
    ("ex:ss-straight", growing(lambda t, u: 2 * t - 2 * u), "not take off"),
    ("ex:ss-straight", lambda t: 1 / (1 - t), "up to its sign"),
    ("ex:ss-straight", lambda t: t / (1 - t), "noise-to-signal"),
    ("ex:ss-straight", growing(lambda t, u: 2 * t + 2 * t**2), "not of α itself"),
    ("ex:ss-when", lambda level, beta: 2 * when(level, beta), "not with B/2"),
    ("ex:ss-when", lambda level, beta: math.log(1 + level) / beta, "square it"),
    ("ex:ss-when", lambda level, beta: math.log(1 + level**2), "That is B"),
    ("ex:ss-when", lambda level, beta: math.log(1 + level**2) * beta, "it divides"),
    ("ex:ss-when", lambda level, beta: level**2 / beta, "small noise"),
    ("ex:ss-when", lambda level, beta: level / beta**0.5, "nothing fades"),
    ("ex:ss-when", lambda level, beta: 2 * math.log(max(level, 1e-9)) / beta, "large noise"),
    (
        "ex:ss-when",
        lambda level, beta: -math.log(1 - level**2) / beta if level < 1 else math.inf,
        "the deviation σ",
    ),
    ("ex:ss-when", lambda level, beta: -when(level, beta), "runs forward"),
    ("ex:ss-when", lambda level, beta: 2 * math.asinh(level / 2) / beta, "sub-VP"),
    ("ex:ss-clean", lambda x, v, a, s: (s * x + a * v) / (a**2 + s**2), "mean of the noise"),
    ("ex:ss-clean", lambda x, v, a, s: a * x - s * v, "is not 1 here"),
    ("ex:ss-clean", lambda x, v, a, s: (a * x + s * v) / (a**2 + s**2), "sign of v"),
    ("ex:ss-clean", lambda x, v, a, s: (x - s * v) / a, "v for the noise"),
    ("ex:ss-clean", lambda x, v, a, s: (s * x - a * v) / (a**2 + s**2), "exchanged"),
    ("ex:ss-clean", lambda x, v, a, s: (a * x - s * v) / math.hypot(a, s), "not by its root"),
    ("ex:ss-clean", lambda x, v, a, s: (s * v - a * x) / (a**2 + s**2), "sign of all"),
    ("ex:ss-clean", lambda x, v, a, s: -(s * x + a * v) / (a**2 + s**2) / s, "a score"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(m2 / (2 * nats)), "not among it"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(max(m2 / (2 * nats) - s0**2, 0)), "not taken off"),
    ("ex:ss-enough", lambda m2, nats, s0: s0**2 + m2 / (2 * nats), "square of the size"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(s0**2 + m2 / nats), "factor 2"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(s0**2 + nats / (2 * m2)), "upside down"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(s0**2 + m2**2 / (2 * nats)), "already"),
    ("ex:ss-enough", lambda m2, nats, s0: s0 + math.sqrt(m2 / (2 * nats)), "not sizes"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(s0**2 + m2 / (2 * nats)) / s0, "ratio of both"),
    ("ex:ss-enough", lambda m2, nats, s0: math.sqrt(s0**2 + (m2 / (2 * nats)) ** 2), "square of the level"),
    ("ex:ss-two", lambda w, s, p, s2, p2: w * s + (1 - w) * s2, "depend on the place"),
    ("ex:ss-two", mixed(lambda w, p, p2: torch.sigmoid(p - p2)), "half and half"),
    (
        "ex:ss-two",
        mixed(lambda w, p, p2: torch.sigmoid(math.log(1 / w - 1) + p2 - p)),
        "densities are exchanged",
    ),
    ("ex:ss-two", lambda w, s, p, s2, p2: s + s2, "do not add up"),
    ("ex:ss-two", mixed(lambda w, p, p2: torch.sigmoid(math.log(1 / w - 1) + p - p2)), "the second the rest"),
    ("ex:ss-two", mixed(lambda w, p, p2: w * p / (w * p + (1 - w) * p2)), "not as they are"),
    (
        "ex:ss-two",
        lambda w, s, p, s2, p2: w * p.exp()[:, None] * s + (1 - w) * p2.exp()[:, None] * s2,
        "sum to 1",
    ),
    ("ex:ss-two", mixed(lambda w, p, p2: (math.log(w / (1 - w)) + p > p2).to(p)), "alone"),
    ("ex:ss-width", lambda v, k, q: v + q**2 * k**2, "should have"),
    ("ex:ss-width", step(whole, nothing), "fresh noise is missing"),
    ("ex:ss-width", step(lambda v, k, q: q**2 * (v + k**2) + (1 - q**2) * v, noise), "by its square"),
    ("ex:ss-width", step(lambda v, k, q: whole(v, k, q) / (v + k**2) * k**2, noise), "and of the noise"),
    ("ex:ss-width", lambda v, k, q: math.sqrt(whole(v, k, q) + noise(v, k, q)), "deviation."),
    ("ex:ss-width", step(lambda v, k, q: v + k**2, noise), "a part of y is noise"),
    ("ex:ss-width", step(lambda v, k, q: q**4 * (v + k**2), noise), "is not 0"),
    ("ex:ss-width", step(whole, lambda v, k, q: k**2 * (1 - q**2)), "lower level"),
    (
        "ex:ss-width",
        step(lambda v, k, q: (q + (1 - q) * v / (v + k**2)) ** 2 * (v + k**2), noise),
        "q², not q",
    ),
    (
        "ex:ss-width",
        step(lambda v, k, q: (q**2 + (1 - q**2) * (v / (v + k**2)) ** 0.5) ** 2 * (v + k**2), noise),
        "not in the deviation",
    ),
    ("ex:pf-home", lambda y, v, k: y * v / (v + k**2), "mean of the clean data"),
    ("ex:pf-home", lambda y, v, k: y * math.sqrt((v + k**2) / v), "way from level 0"),
    ("ex:pf-home", lambda y, v, k: y * (v + k**2) / v, "and too far"),
    ("ex:pf-home", lambda y, v, k: y, "so the point moves"),
    ("ex:pf-home", lambda y, v, k: y - k, "noise's deviation"),
    ("ex:pf-home", lambda y, v, k: y * v**0.5 / (v**0.5 + k), "not deviations"),
    ("ex:pf-home", lambda y, v, k: y * v / math.sqrt(v**2 + k**2), "a variance already"),
    ("ex:pf-home", lambda y, v, k: y * math.sqrt(v / (v + k)), "square it"),
    ("ex:pf-home", lambda y, v, k: y * math.sqrt(v), "deviation is not 1"),
    ("ex:pf-home", lambda y, v, k: y / math.sqrt(v + k**2), "variance is 1"),
    ("ex:pf-home", lambda y, v, k: y * math.sqrt(k**2 / (v + k**2)), "exchanged"),
    ("ex:pf-home", lambda y, v, k: 0.0, "crowd's mean"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: da * c), "noise changes"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: ds * n), "data's part"),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: da * x / a, "score is missing"),
    (
        "ex:pf-guess",
        lambda x, c, a, s, da, ds: da / a * x + 2 * (ds / s - da / a) * (x - a * c),
        "way back with noise",
    ),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: ds * x / s, "Not all of x"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: -da * c - ds * n), "as time grows"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: da * c - ds * n), "sign of its part"),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: (x - c) / s, "straight way"),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: da * c + ds * (x - c) / s, "lacks α"),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: da * c + ds * (x - a * c), "own deviation is 1"),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: -(x - a * c) / s**2, "That is the score"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: n), "mean of the noise"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: da * x + ds * n), "x is not the data"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: ds * c + da * n), "exchanged"),
    ("ex:pf-guess", lambda x, c, a, s, da, ds: da / a * c + ds * (x - a * c) / s, "faded data"),
    ("ex:pf-guess", parts(lambda x, c, n, da, ds: (da * c + ds * n).sum(1)), "nothing to sum"),
    ("ex:pf-linear", lambda A, t: t * torch.trace(A), "the sign is wrong"),
    ("ex:pf-linear", lambda A, t: -t * torch.det(A), "a rate, not a map"),
    ("ex:pf-linear", lambda A, t: -torch.log(torch.det(A).abs()), "is not A."),
    ("ex:pf-linear", lambda A, t: -torch.logdet(torch.eye(len(A)) + t * A), "one long step"),
    ("ex:pf-linear", lambda A, t: -torch.trace(A), "with the time"),
    ("ex:pf-linear", lambda A, t: -t * (A**2).sum() ** 0.5, "a norm of A"),
    ("ex:pf-linear", lambda A, t: -t * A.diagonal().mean(), "no mean"),
    ("ex:pf-linear", lambda A, t: -t * A.sum(), "off the diagonal"),
    ("ex:pf-linear", lambda A, t: torch.exp(-t * torch.trace(A)), "factor of the density"),
    ("ex:pf-linear", lambda A, t: -t * A.diagonal().abs().sum(), "can balance"),
    ("ex:pf-linear", lambda A, t: -t * torch.trace(A) / 2, "no half"),
    ("ex:pf-linear", lambda A, t: 0.0, "keeps volumes"),
    ("ex:pf-price", lambda s, D, k: D / 2 * (k**2 / s**2 - math.log(1 + k**2 / s**2)), "other direction"),
    ("ex:pf-price", paid(lambda D, log, share: (log - share) / 2), "one dimension"),
    ("ex:pf-price", paid(lambda D, log, share: D * (log - share)), "half of that"),
    ("ex:pf-price", paid(lambda D, log, share: D / 2 * log), "entropies differ"),
    ("ex:pf-price", paid(lambda D, log, share: -D / 2 * share), "costs as well"),
    ("ex:pf-price", paid(lambda D, log, share: D / 2 * (log + share)), "something back"),
    ("ex:pf-price", lambda s, D, k: price(math.sqrt(s), D, k), "s is a deviation"),
    ("ex:pf-price", lambda s, D, k: price(s, D, math.sqrt(k)), "κ is a deviation"),
    (
        "ex:pf-price",
        paid(lambda D, log, share: D / 2 * (log - share), lambda s, k: (s + k) ** 2),
        "not deviations",
    ),
    ("ex:pf-price", lambda s, D, k: price(s, D, k) / math.log(2), "in bits"),
    (
        "ex:pf-price",
        lambda s, D, k: D / 2 * (math.log(2 * math.pi * (s**2 + k**2)) + s**2 / (s**2 + k**2)),
        "their own density",
    ),
    ("ex:pf-price", lambda s, D, k: -price(s, D, k), "never wins"),
    ("ex:pf-price", paid(lambda D, log, share: D / 2 * log - share / 2), "goes with D"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own + math.log2(K)), "neighbours"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own), "no probability"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own + 8), "8 bits"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own - offset), "smaller than the density"),
    ("ex:pf-bits", lambda log_q, D, K: -log_q / D + math.log(K - 1), "That is in nats"),
    ("ex:pf-bits", lambda log_q, D, K: -log_q / D + math.log2(K - 1), "log_q is in nats"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own + math.log(K - 1)), "the cell is in nats"),
    ("ex:pf-bits", both(lambda own, offset, D, K: D * own + offset), "all pixels together"),
    ("ex:pf-bits", both(lambda own, offset, D, K: D * (own + offset)), "whole image"),
    ("ex:pf-bits", both(lambda own, offset, D, K: offset - own), "sign of log_q"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own + offset / D), "not shared out"),
    ("ex:pf-bits", both(lambda own, offset, D, K: own * math.log(2) ** 2 + offset), "other way round"),
    ("ex:pf-bits", both(lambda own, offset, D, K: -own - offset), "logarithm of the probability"),
    ("ex:pf-flatter", lambda s, a: s**2 / 2, "all draws share"),
    ("ex:pf-flatter", lambda s, a: a**2 / 2, "the other one"),
    ("ex:pf-flatter", lambda s, a: (s - a) ** 2 / 2, "not deviations"),
    ("ex:pf-flatter", lambda s, a: s - a, "with squares"),
    ("ex:pf-flatter", lambda s, a: math.sqrt(s**2 - a**2), "That is the deviation"),
    ("ex:pf-flatter", lambda s, a: s**2 - a**2, "That is the variance"),
    ("ex:pf-flatter", lambda s, a: 0.0, "is not the mean"),
    ("ex:pf-flatter", lambda s, a: (a**2 - s**2) / 2, "is above the mean"),
    ("ex:pf-flatter", lambda s, a: (s**2 + a**2) / 2, "contained in s"),
    ("ex:pf-flatter", lambda s, a: (s - a) / 2, "Half a deviation"),
    ("ex:pf-flatter", lambda s, a: math.exp((s**2 - a**2) / 2), "factor of the likelihood"),
    ("ex:pf-flatter", lambda s, a: (s**2 - a**2) / (2 * math.log(2)), "in bits"),
    ("ex:dm-share", lambda before, after: (after / before) ** 2, "β is the rest"),
    ("ex:dm-share", lambda before, after: after / before, "factor of the data, not β"),
    ("ex:dm-share", lambda before, after: 1 - after / before, "not its square"),
    ("ex:dm-share", lambda before, after: 1 - math.sqrt(after / before), "no second root"),
    ("ex:dm-share", lambda before, after: 1 - after**2, "whole chain"),
    ("ex:dm-share", lambda before, after: before**2 - after**2, "noise it finds"),
    ("ex:dm-share", lambda before, after: 1 - (before / after) ** 2, "α falls"),
    ("ex:dm-share", lambda before, after: math.sqrt(1 - (after / before) ** 2), "fresh noise"),
    ("ex:dm-share", lambda before, after: 2 * math.log(before / after), "no exponential"),
    ("ex:dm-share", lambda before, after: (after / before) ** 2 - 1, "sign is wrong"),
    ("ex:dm-share", lambda before, after: before - after, "Steps multiply"),
    ("ex:dm-signal", lambda x, alpha: 2 * lesson_signal(x, alpha), "half is missing"),
    ("ex:dm-signal", told(lambda signal, D, a2: signal), "narrower than what"),
    ("ex:dm-signal", told(lambda signal, D, a2: D * (-a2 - math.log(1 - a2))), "is not 0"),
    (
        "ex:dm-signal",
        lambda x, alpha: lesson_signal(x, alpha) + (alpha - alpha**2) * x.square().sum() / 2,
        "its square has α²",
    ),
    (
        "ex:dm-signal",
        told(lambda signal, D, a2: signal**0.5 + D * (-a2 - math.log(1 - a2))),
        "with its square",
    ),
    ("ex:dm-signal", told(lambda signal, D, a2: signal - a2 - math.log(1 - a2)), "not one alone"),
    (
        "ex:dm-signal",
        told(lambda signal, D, a2: signal / (1 - a2) + D * (1 / (1 - a2) - 1 + math.log(1 - a2))),
        "other direction",
    ),
    ("ex:dm-signal", told(lambda signal, D, a2: signal - D * (a2 - math.log(1 - a2))), "higher density"),
    ("ex:dm-signal", told(lambda signal, D, a2: signal - D * (a2 + math.log(1 - a2) / 2)), "not of a dev"),
    (
        "ex:dm-signal",
        told(lambda signal, D, a2: signal + D * ((1 - a2) ** 2 - 1 - math.log((1 - a2) ** 2))),
        "not the deviation.",
    ),
    ("ex:dm-signal", told(lambda signal, D, a2: signal + D * (1 - a2 - math.log(1 - a2))), "−1 is missing"),
    ("ex:dm-signal", told(lambda signal, D, a2: signal - D * math.log(1 - a2)), "closer to 0"),
    ("ex:dm-signal", told(lambda signal, D, a2: signal + D * (a2 - math.log(1 - a2))), "1 is negative"),
    ("ex:dm-signal", lambda x, alpha: lesson_signal(x, alpha) / len(x), "no mean"),
    ("ex:dm-signal", lambda x, alpha: lesson_signal(x, alpha) / math.log(2), "in bits"),
    (
        "ex:dm-signal",
        lambda x, alpha: ((alpha * x) ** 2 - alpha**2 - math.log(1 - alpha**2)) / 2,
        "One number is asked",
    ),
    ("ex:dm-signal", lambda x, alpha: -lesson_signal(x, alpha), "not negative: the sign"),
    (
        "ex:dm-worth",
        weighed(lambda gain, e, v, low, high: gain / 2 * v / (1 + v / low**2)),
        "upper level, and",
    ),
    ("ex:dm-worth", weighed(lambda gain, e, v, low, high: gain * e), "half is missing"),
    ("ex:dm-worth", weighed(lambda gain, e, v, low, high: -gain / 2 * e), "sign is wrong"),
    ("ex:dm-worth", weighed(lambda gain, e, v, low, high: gain / 2 * v), "nothing but the mean"),
    ("ex:dm-worth", weighed(lambda gain, e, v, low, high: gain / 2 * high**2), "shrinks it"),
    ("ex:dm-worth", weighed(lambda gain, e, v, low, high: gain / 2 * (v - e)), "not of its error"),
    ("ex:dm-worth", weighed(lambda gain, e, v, low, high: gain / 2 * e**0.5), "not its root"),
    ("ex:dm-worth", weighed(lambda gain, e, v, low, high: (1 / low - 1 / high) / 2 * e), "of the level."),
    (
        "ex:dm-worth",
        weighed(lambda gain, e, v, low, high: gain / 2 * v * high / (v + high)),
        "to be squared",
    ),
    ("ex:dm-worth", lambda v, low, high: lesson_worth(v**2, low, high), "variance already"),
    (
        "ex:dm-worth",
        lambda v, low, high: (math.log1p(v / low**2) - math.log1p(v / high**2)) / 2,
        "infinitely many",
    ),
    (
        "ex:dm-worth",
        weighed(lambda gain, e, v, low, high: (high**2 / low**2 - 1) / 2 * e),
        "guessed noise",
    ),
    ("ex:dm-worth", weighed(lambda gain, e, v, low, high: e / low**2 / 2), "not paid again"),
    ("ex:dm-worth", weighed(lambda gain, e, v, low, high: (high**2 - low**2) / 2 * e), "not of κ²"),
    ("ex:dm-worth", weighed(lambda gain, e, v, low, high: gain / 2 * e / math.log(2)), "in bits"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: a2 * c + s2 * (x - a * c) / s, "more step down"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: x, "point itself"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: a * c + (x - a2 * c), "share as well"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: a * c + s * (x - c) / s2, "missing in the noise"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: a * c + s * (x - a * c) / s2, "has α' of the data"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: c + s * (x - a2 * c) / s2, "have faded to α"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: a2 * c + s * (x - a2 * c) / s2, "share α, not α'"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: a * x / a2, "fades as the data do"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: s * x / s2, "Not all of x' is noise."),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: a * c + s * x / s2, "take the data off"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: a * c + s2 * (x - a2 * c) / s, "upside down"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: a * c + s * (x - a2 * c) / s2**2, "not with its square"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: a * c - s * (x - a2 * c) / s2, "sign of the noise"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: (x - a2 * c) / s2, "noise alone"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: s * (x - a2 * c) / s2, "part is missing"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: a * c + (x - a2 * c) / s2, "lacks σ"),
    ("ex:dm-up", lambda x, c, a, s, a2, s2: undo(x, c, a, (1 - a**2) ** 0.5, a2, s2), "need not be 1"),
    (
        "ex:dm-guided",
        louder(lambda told, both, other, w: told + w * (told - both)),
        "one difference too many",
    ),
    ("ex:dm-guided", louder(lambda told, both, other, w: both + w * told), "slope of the classifier"),
    ("ex:dm-guided", louder(lambda told, both, other, w: w * both + (1 - w) * told), "they are exchanged"),
    ("ex:dm-guided", louder(lambda told, both, other, w: both - w * (told - both)), "has the wrong sign"),
    ("ex:dm-guided", louder(lambda told, both, other, w: w * (told - both)), "both is missing"),
    ("ex:dm-guided", louder(lambda told, both, other, w: w * told), "w times"),
    ("ex:dm-guided", louder(lambda told, both, other, w: told), "score of the class: where"),
    ("ex:dm-guided", louder(lambda told, both, other, w: both), "classes together: where"),
    ("ex:dm-guided", louder(lambda told, both, other, w: w * told + (1 - w) * other), "The rest is"),
    ("ex:dm-guided", louder(lambda told, both, other, w: both + w * (told - other)), "not to the other"),
    ("ex:dm-guided", blended(lambda x, m, v: 0 * x), "no mean of the two"),
    ("ex:dm-guided", blended(lambda x, m, v: torch.tanh(m * x / v)), "m is missing"),
    ("ex:dm-guided", blended(lambda x, m, v: m * torch.tanh(m * x / v / 2)), "is 2 m x / v"),
    ("ex:dm-guided", blended(lambda x, m, v: m * torch.tanh(2 * m * x / v)), "half the logarithm"),
    ("ex:dm-guided", blended(lambda x, m, v: m * torch.tanh(m * x)), "depends on v"),
    ("ex:dm-guided", lambda x, m, v, w: guided(x, -m, v, w), "class at −m"),
    ("ex:dm-guided", lambda x, m, v, w: guided(x, m, v**2, w), "variance already"),
    ("ex:dm-guided", lambda x, m, v, w: v * guided(x, m, v, w), "v is missing"),
    ("ex:dm-guided", lambda x, m, v, w: -guided(x, m, v, w), "leads towards the data"),
    ("ex:dm-guided", lambda x, m, v, w: guided(x, m, v, w).sum(), "nothing to sum"),
    ("ex:dm-holes", counted(lambda costs, k: costs.mean()), "nats a letter"),
    ("ex:dm-holes", counted(lambda costs, k: k.to(costs) @ costs), "not all k of them"),
    ("ex:dm-holes", counted(lambda costs, k: (costs / k).sum()), "nothing to divide"),
    ("ex:dm-holes", counted(lambda costs, k: len(k) * costs[-1]), "with none seen"),
    ("ex:dm-holes", counted(lambda costs, k: len(k) * costs[0]), "too much is known"),
    ("ex:dm-holes", counted(lambda costs, k: costs[-1]), "first letter of an order alone"),
    ("ex:dm-holes", counted(lambda costs, k: costs[0]), "last letter of an order alone"),
    ("ex:dm-holes", counted(lambda costs, k: costs[:-1].sum()), "with all hidden"),
    ("ex:dm-holes", counted(lambda costs, k: costs[1:].sum()), "with one hidden"),
    ("ex:dm-holes", counted(lambda costs, k: k.to(costs) @ costs / k.sum() * len(k)), "count alike"),
    ("ex:dm-holes", counted(lambda costs, k: len(k) * costs.sum()), "once for each"),
    ("ex:dm-holes", counted(lambda costs, k: costs.sum() / 2), "no half"),
    ("ex:dm-holes", counted(lambda costs, k: -costs.sum()), "costs are positive"),
    ("ex:dm-holes", counted(lambda costs, k: costs.sum() / math.log(2)), "in bits"),
    ("ex:dm-holes", counted(lambda costs, k: costs.mean().exp()), "perplexity"),
    ("ex:dm-holes", counted(lambda costs, k: costs.cumsum(0)), "after each letter"),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: c * x1 - s * x0), "π/2 is missing"),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: H * c * x1 - s * x0), "data's part has"),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: c * x1 - H * s * x0), "noise's part has"),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: 2 * H * (c * x1 - s * x0)), "π/2, not π."),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: H * (c * x1 + s * x0)), "The data fade: the sign"),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: -H * (c * x1 + s * x0)), "The noise grows: the sign"),
    ("ex:fm-arc", lambda x0, x1, t: x1 - x0, "on the straight path"),
    ("ex:fm-arc", lambda x0, x1, t: H * (x1 - x0), "velocity changes"),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: c * x0 + s * x1), "not its velocity"),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: H * (c * x0 + s * x1)), "differentiate"),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: H * (s * x1 - c * x0)), "Sine and cosine"),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: H * (c * x0 - s * x1)), "both are exchanged"),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: H * (s * x0 - c * x1)), "towards the noise"),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: -H * s * x0), "noise grows as well"),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: H * c * x1), "data fade as well"),
    ("ex:fm-arc", lambda x0, x1, t: 2 * lesson_arc(x0, x1, 2 * t), "πt/2, not πt"),
    ("ex:fm-arc", lambda x0, x1, t: math.cos(t) * x1 - math.sin(t) * x0, "πt/2, not t."),
    ("ex:fm-arc", turned(lambda x0, x1, c, s: -(H**2) * (c * x0 + s * x1)), "acceleration"),
    ("ex:fm-arc", lambda x0, x1, t: lesson_arc(x0, x1, t).sum(1), "nothing to sum"),
    ("ex:fm-score", lambda x, v, t: x + (1 - t) * v, "mean of the noise."),
    ("ex:fm-score", lambda x, v, t: -x - (1 - t) * v, "how wide"),
    ("ex:fm-score", lambda x, v, t: x - t * v, "mean of the data."),
    ("ex:fm-score", lambda x, v, t: (x + (1 - t) * v) / t, "away from the data"),
    ("ex:fm-score", lambda x, v, t: -(x - t * v) / t, "not of that of the data"),
    ("ex:fm-score", lambda x, v, t: -(x + (1 - t) * v) / t**2, "by t once"),
    ("ex:fm-score", lambda x, v, t: -x / (1 - t) - v, "and that is t"),
    ("ex:fm-score", lambda x, v, t: -(x + v) / t, "factor of v is missing"),
    ("ex:fm-score", lambda x, v, t: -(x + t * v) / t, "takes the time"),
    ("ex:fm-score", lambda x, v, t: ((1 - t) * v - x) / t, "sign of v"),
    ("ex:fm-score", lambda x, v, t: -x / t**2, "Not all of x is noise"),
    ("ex:fm-score", lambda x, v, t: -x / t, "takes x for the noise"),
    ("ex:fm-score", lambda x, v, t: -(x - (x - t * v)) / t**2, "faded as well"),
    ("ex:fm-score", lambda x, v, t: -(x - t * v) / (1 - t), "begins with the noise"),
    ("ex:fm-score", lambda x, v, t: -(1 - t) * (x + (1 - t) * v) / t, "x / (1 − t)"),
    ("ex:fm-score", lambda x, v, t: (-(x + (1 - t) * v) / t).sum(1), "nothing to sum"),
    (
        "ex:fm-normal",
        lambda x, t, s: x * (t - (1 - t) * s) / ((1 - t) ** 2 * s + t**2),
        "deviation: square it.",
    ),
    (
        "ex:fm-normal",
        lambda x, t, s: x * (t - (1 - t) * s) / ((1 - t) ** 2 * s**2 + t**2),
        "in the numerator as well",
    ),
    (
        "ex:fm-normal",
        lambda x, t, s: x * (t - (1 - t) * s**2) / ((1 - t) ** 2 * s + t**2),
        "variance of x as well",
    ),
    ("ex:fm-normal", shared(lambda data, noise, v: data * v - noise), "towards the noise"),
    ("ex:fm-normal", shared(lambda data, noise, v: noise), "mean of the noise alone"),
    ("ex:fm-normal", shared(lambda data, noise, v: data * v), "mean of the data alone"),
    ("ex:fm-normal", shared(lambda data, noise, v: noise + data * v), "sum of both means"),
    (
        "ex:fm-normal",
        shared(lambda data, noise, v: noise - data * v, lambda data, noise, v: data * v + noise),
        "squares of the shares",
    ),
    (
        "ex:fm-normal",
        shared(lambda data, noise, v: noise - data * v, lambda data, noise, v: 1),
        "by the variance of x.",
    ),
    (
        "ex:fm-normal",
        shared(
            lambda data, noise, v: noise - data * v, lambda data, noise, v: math.hypot(data * v**0.5, noise)
        ),
        "not by its deviation",
    ),
    ("ex:fm-normal", lambda x, t, s: 2 * marginal(x, t, s), "twice the rate"),
    ("ex:fm-normal", shared(lambda data, noise, v: -1), "That is the score"),
    ("ex:fm-normal", shared(lambda data, noise, v: 1 - v), "missing in the numerator"),
    ("ex:fm-normal", lambda x, t, s: -marginal(x, 1 - t, s), "t = 0 is the data"),
    ("ex:fm-normal", lambda x, t, s: marginal(x, 1 - t, s), "are exchanged"),
    ("ex:fm-normal", lambda x, t, s: x / t, "all at 0"),
    ("ex:fm-normal", lambda x, t, s: (t - (1 - t) * s**2) / ((1 - t) ** 2 * s**2 + t**2), "depends on x"),
    ("ex:fm-pairs", ranked(lambda x0, x1, best, ranks: best), "x0 itself is not"),
    ("ex:fm-pairs", ranked(lambda x0, x1, best, ranks: x1), "by chance"),
    ("ex:fm-pairs", ranked(lambda x0, x1, best, ranks: -(-x1).sort().values[ranks]), "as long as can be"),
    ("ex:fm-pairs", ranked(lambda x0, x1, best, ranks: best[x0.argsort()]), "not its ranks"),
    ("ex:fm-pairs", ranked(lambda x0, x1, best, ranks: x1[ranks]), "sorted first."),
    ("ex:fm-pairs", ranked(lambda x0, x1, best, ranks: x1[x0.argsort()]), "then the sort of x0 undone"),
    ("ex:fm-pairs", ranked(lambda x0, x1, best, ranks: x1.argsort()[ranks]), "not their places"),
    ("ex:fm-pairs", lambda x0, x1: pairs(x1, x0), "x0 in the order of x1"),
    ("ex:fm-pairs", lambda x0, x1: x0.sort().values, "x0, sorted"),
    ("ex:fm-pairs", lambda x0, x1: x1[torch.cdist(x0[:, None], x1[:, None]).argmin(1)], "no one comes twice"),
    ("ex:fm-pairs", greedy, "long ways to the last"),
    ("ex:fm-pairs", lambda x0, x1: pairs(x0, x1) - x0, "ends are asked"),
    ("ex:fm-pairs", lambda x0, x1: x1.sort(descending=True).values, "from the largest on"),
    ("ex:fm-saved", lambda m, s: s, "2 is missing"),
    ("ex:fm-saved", lambda m, s: m**2 + 1 + s**2, "with independent pairs: how"),
    ("ex:fm-saved", lambda m, s: m**2 + (s - 1) ** 2, "how much is saved"),
    ("ex:fm-saved", lambda m, s: 1 + s**2, "have a rest as well"),
    ("ex:fm-saved", lambda m, s: (s - 1) ** 2, "still have to go"),
    ("ex:fm-saved", lambda m, s: 2 * s**2, "not squared here"),
    ("ex:fm-saved", lambda m, s: s**2, "That is the variance"),
    ("ex:fm-saved", lambda m, s: 2 * s**0.5, "there is no root"),
    ("ex:fm-saved", lambda m, s: (s - 1) ** 2 - 1 - s**2, "sign is wrong"),
    ("ex:fm-saved", lambda m, s: (1 + s) ** 2 - (1 - s) ** 2, "against the worst"),
    (
        "ex:fm-saved",
        lambda m, s: math.sqrt(m**2 + 1 + s**2) - math.hypot(m, 1 - s),
        "not their roots",
    ),
    ("ex:fm-saved", lambda m, s: 2 * s / (m**2 + 1 + s**2), "share that is saved"),
    ("ex:fm-saved", lambda m, s: m**2 + 1 + s**2 - (s - 1) ** 2, "m² is not saved"),
    ("ex:fm-saved", lambda m, s: 2 * m * s, "has to go by m"),
    ("ex:fm-saved", lambda m, s: abs(s**2 - 1), "something to save"),
    ("ex:fm-two", slowed(lambda off, v: v**0.5), "infinitely many"),
    ("ex:fm-two", stepped(marginal, (1.0, 1.0), -2), "own velocity"),
    ("ex:fm-two", stepped(marginal, (1.0,)), "first step alone"),
    ("ex:fm-two", lambda x1, s: landing(x1, s**0.5), "square it"),
    ("ex:fm-two", stepped(marginal, sign=1), "takes the velocity off"),
    ("ex:fm-two", stepped(marginal, (0.0, 0.5), 1), "from t = 0 to 1"),
    ("ex:fm-two", stepped(marginal, (0.5, 0.0)), "not at its end"),
    ("ex:fm-two", slowed(lambda off, v: 1 - 0.5 - off), "not at x1"),
    ("ex:fm-two", lambda x1, s: x1 - marginal(x1 - marginal(x1, 1.0, s) / 2, 0.5, s), "of its middle"),
    (
        "ex:fm-two",
        stepped(lambda x, t, s: x * (t - (1 - t) * s**2) / ((1 - t) * s**2 + t)),
        "are a quarter",
    ),
    ("ex:fm-two", slowed(lambda off, v: 0.5 + 1 - off), "do not add up"),
    ("ex:fm-two", stepped(lambda x, t, s: x * (t - (1 - t) * s**2)), "has it below"),
    ("ex:fm-two", slowed(lambda off, v: (v / (1 + v)) ** 0.5), "no root"),
    ("ex:fm-two", slowed(lambda off, v: v), "missing below"),
    ("ex:fm-two", lambda x1, s: s**2 / (1 + s**2), "where does x1 lead"),
    ("ex:fm-two", slowed(lambda off, v: -v / (1 + v)), "sign is wrong"),
]
