r"""Flow matching: a velocity that carries noise to data is learnt from pairs of both, by plain regression.

On the clock of the book t = 0 is data and t = 1 is noise. A pair is joined by x_t = α(t) x_0 + σ(t) x_1, and the
network learns the mean of dx_t/dt over all pairs that pass through a point (Lipman et al. 2023, arXiv:2210.02747;
Albergo and Vanden-Eijnden 2023, arXiv:2209.15571; Liu et al. 2023, arXiv:2209.03003).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.distributions import Distribution

from genlib import _arguments as require
from genlib._shapes import column, evaluating, like_parameters, squared
from genlib._times import Time, at, given, within
from genlib.flows import StandardNormal
from genlib.sde.flow import Field, log_prob, solve
from genlib.sde.noising import Noising

Pairs = tuple[Tensor, Tensor]
LEVELS = (-6.0, 4.0)  # the range of log(σ/α) that a network is told


class Path:
    """How data fade while noise comes in: x_t = α(t) x_0 + σ(t) x_1, with α(0) = 1 and σ(0) = 0.

    A time is a number, or a tensor of any shape, in [0, 1]; what is returned is of the same kind. A subclass has
    `alpha`, `sigma` and the slopes of both, per unit of time.

    Attributes:
        least: the first time at which a flow is asked, where data are still nearly themselves.
    """

    least = 0.0

    def alpha(self, t: Time) -> Time:
        """α(t)."""
        raise NotImplementedError

    def sigma(self, t: Time) -> Time:
        """σ(t)."""
        raise NotImplementedError

    def alpha_slope(self, t: Time) -> Time:
        """dα/dt."""
        raise NotImplementedError

    def sigma_slope(self, t: Time) -> Time:
        """dσ/dt."""
        raise NotImplementedError

    def between(self, x_0: Tensor, x_1: Tensor, t: Time) -> Pairs:
        """The place x_t and the velocity α′ x_0 + σ′ x_1 of each pair, all (B, *E); t is a number or (B,)."""
        _paired(x_0, x_1)
        place = at(self.alpha(t), x_0) * x_0 + at(self.sigma(t), x_0) * x_1
        return place, at(self.alpha_slope(t), x_0) * x_0 + at(self.sigma_slope(t), x_0) * x_1

    def from_score(self, score: Tensor, x: Tensor, t: Time) -> Tensor:
        r"""The mean velocity at x_t from ∇ log p_t(x_t), where noise is normal and drawn apart from the data.

        .. math:: v = \alpha' \hat x + \sigma' \hat\varepsilon, \qquad \hat\varepsilon = -\sigma \nabla \log p_t, \qquad
            \hat x = (x - \sigma \hat\varepsilon) / \alpha

        Args:
            score: (B, *E).
            x: (B, *E).
            t: a number or (B,), where α is above 0.
        """
        noise = -at(self.sigma(t), x) * require.same_shape("score", score, x)
        clean = (x - at(self.sigma(t), x) * noise) / at(self.alpha(t), x)
        return at(self.alpha_slope(t), x) * clean + at(self.sigma_slope(t), x) * noise

    def to_score(self, velocity: Tensor, x: Tensor, t: Time) -> Tensor:
        r"""∇ log p_t(x_t) from the mean velocity at x_t, where noise is normal and drawn apart from the data.

        .. math:: \nabla \log p_t = -\hat\varepsilon / \sigma, \qquad
            \hat\varepsilon = \frac{\alpha v - \alpha' x}{\alpha \sigma' - \alpha' \sigma}

        Args:
            velocity: (B, *E).
            x: (B, *E).
            t: a number or (B,), where σ is above 0.
        """
        alpha, sigma = at(self.alpha(t), x), at(self.sigma(t), x)
        d_alpha, d_sigma = at(self.alpha_slope(t), x), at(self.sigma_slope(t), x)
        noise = alpha * require.same_shape("velocity", velocity, x) - d_alpha * x
        return -noise / (sigma * (alpha * d_sigma - d_alpha * sigma))


class Straight(Path):
    """A straight line at constant speed: α = 1 − t, σ = t, so that each pair has the velocity x_1 − x_0."""

    def alpha(self, t: Time) -> Time:
        """1 − t."""
        return 1 - within(t)

    def sigma(self, t: Time) -> Time:
        """The time itself."""
        return within(t) + 0

    def alpha_slope(self, t: Time) -> Time:
        """−1."""
        return given(t, lambda t: -torch.ones_like(t))

    def sigma_slope(self, t: Time) -> Time:
        """1."""
        return given(t, torch.ones_like)


class Arc(Path):
    """A quarter of a circle, on which variance 1 stays 1: α = cos(πt/2), σ = sin(πt/2)."""

    def alpha(self, t: Time) -> Time:
        """cos(πt/2)."""
        return given(t, lambda t: (math.pi / 2 * t).cos())

    def sigma(self, t: Time) -> Time:
        """sin(πt/2)."""
        return given(t, lambda t: (math.pi / 2 * t).sin())

    def alpha_slope(self, t: Time) -> Time:
        """−π/2 sin(πt/2)."""
        return given(t, lambda t: -math.pi / 2 * (math.pi / 2 * t).sin())

    def sigma_slope(self, t: Time) -> Time:
        """π/2 cos(πt/2)."""
        return given(t, lambda t: math.pi / 2 * (math.pi / 2 * t).cos())


class Noised(Path):
    r"""The path of a noising process, so that diffusion is flow matching on a bent path.

    .. math:: \alpha' = a \alpha, \qquad \sigma' = a \sigma + \frac{g^2}{2 \sigma}

    σ′ may grow without bound as t → 0.

    Args:
        process: with α, σ, a and g.
        least: the first time at which a flow is asked, in (0, 1).

    Raises:
        ValueError: least does not lie in (0, 1).
    """

    def __init__(self, process: Noising, least: float = 1e-3) -> None:
        self.process, self.least = process, require.share("least", require.positive("least", least))

    def alpha(self, t: Time) -> Time:
        """α(t) of the process."""
        return self.process.scale(t)

    def sigma(self, t: Time) -> Time:
        """σ(t) of the process."""
        return self.process.deviation(t)

    def alpha_slope(self, t: Time) -> Time:
        """a(t) α."""
        return self.process.rate(t) * self.alpha(t)

    def sigma_slope(self, t: Time) -> Time:
        """a(t) σ + g²/(2σ), for t above 0."""
        return self.process.rate(t) * self.sigma(t) + self.process.size(t) ** 2 / (2 * self.sigma(t))


class ToldLevel(nn.Module):
    """A network that knows noise by its level becomes a velocity, (B, *E) and t (B,) → (B, *E).

    It is told log(σ/α), from −6 to 4, as the book's score networks are: close to the data a velocity changes with the
    logarithm of time, which is lost in t itself. On the straight path it is log(t/(1 − t)). There a level of 4 is t =
    0.98. All later times are told alike, so that the end at t = 1, where each sample starts, is learnt from enough of
    them.

    Args:
        net: (B, *E) and log(σ/α) (B,) → (B, *E), such as `genlib.nets.ScoreNet`.
        path: on which it is used.
    """

    def __init__(self, net: nn.Module, path: Path | None = None) -> None:
        super().__init__()
        self.net, self.path = net, Straight() if path is None else path

    def level(self, t: Tensor) -> Tensor:
        """log(σ/α), held between −6 and 4, (B,) → (B,)."""
        return (self.path.sigma(t).log() - self.path.alpha(t).log()).clamp(*LEVELS)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The velocity, (B, *E)."""
        return self.net(x, self.level(t))


class Preconditioned(ToldLevel):
    r"""The same, as a correction to the velocity that normal data would have.

    .. math:: v = \frac{\alpha \alpha' \tau^2 + \sigma \sigma'}{r^2}\, x
        - (\alpha \sigma' - \alpha' \sigma) \frac{\tau}{r} F\Bigl(\frac{x}{r}, \log \frac{\sigma}{\alpha}\Bigr), \qquad
        r^2 = \alpha^2 \tau^2 + \sigma^2

    F is that of `genlib.score.ScoreModel` (after Karras et al. 2022, arXiv:2206.00364): the same network is a score
    model and a velocity. It is meant for noise drawn apart from the data.

    Args:
        net: F, (B, *E) and log(σ/α) (B,) → (B, *E).
        path: on which it is used.
        spread: τ, how far the data's numbers lie from 0, in root mean square.

    Raises:
        ValueError: the spread is not above 0.
    """

    def __init__(self, net: nn.Module, path: Path | None = None, spread: float = 1.0) -> None:
        super().__init__(net, path)
        self.spread = require.positive("spread", spread)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The velocity, (B, *E)."""
        alpha, sigma = (column(f(t), x) for f in (self.path.alpha, self.path.sigma))
        d_alpha, d_sigma = (column(f(t), x) for f in (self.path.alpha_slope, self.path.sigma_slope))
        r = (alpha**2 * self.spread**2 + sigma**2).sqrt()
        lead = (alpha * d_alpha * self.spread**2 + sigma * d_sigma) / r**2
        return lead * x - (alpha * d_sigma - d_alpha * sigma) * self.spread / r * super().forward(x / r, t)


class FlowMatching(nn.Module):
    r"""A velocity v(x, t), learnt so that its flow carries noise to data.

    .. math:: \mathbb{E}\, \bigl\lVert v(x_t, t) - (\alpha' x_0 + \sigma' x_1) \bigr\rVert^2

    is least for the mean velocity of the pairs that pass through x_t at t, and that one has the marginals of x_t.

    Args:
        net: v, (B, *E) and t (B,) → (B, *E).
        event_shape: E.
        path: between data and noise; `Straight` when None.
        base: the noise, with ``sample`` and, for densities, ``log_prob``; standard normal when None.
        coupling: how a batch of data and one of noise are paired, such as `assign`; as they come when None.
    """

    def __init__(
        self,
        net: nn.Module,
        event_shape: Sequence[int],
        path: Path | None = None,
        base: Distribution | None = None,
        coupling: Callable[[Tensor, Tensor], Pairs] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.event_shape = net, torch.Size(event_shape)
        self.path = Straight() if path is None else path
        self.base = StandardNormal(self.event_shape) if base is None else base
        self.coupling = coupling

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """v(x, t), (B, *E) and a number or (B,) → (B, *E).

        Raises:
            ValueError: t lies outside [0, 1] or has another shape, or the network returns another shape than x.
        """
        t = _each_time(t, x)
        return require.same_shape("net", self.net(x, t), x)

    def loss(self, x: Tensor) -> Tensor:
        """Squared distance of v from the velocity of pairs with fresh noise, (B, *E) → (B,)."""
        x = require.batch("x", x, self.event_shape)
        pair = x, self._noise(len(x), None).to(x)
        return self.loss_of_pairs(*(pair if self.coupling is None else self.coupling(*pair)))

    def loss_of_pairs(self, x_0: Tensor, x_1: Tensor, t: Time | None = None) -> Tensor:
        """The same for given pairs, (B, *E) and (B, *E) → (B,).

        Args:
            x_0: data.
            x_1: noise.
            t: a number or (B,); None for one each, uniform, and together spread evenly. With t = 1 alone a model learns
                to make the whole way in one step of Euler, which distils the flow that made the pairs.

        Raises:
            ValueError: the batches differ in shape, or t lies outside [0, 1].
        """
        x_0, x_1 = require.batch("x_0", x_0, self.event_shape), require.batch("x_1", x_1, self.event_shape)
        t = _even_times(x_0, self.path.least) if t is None else _each_time(t, x_0)
        place, velocity = self.path.between(x_0, x_1, t)
        return squared(self.velocity(place, t) - velocity)

    def sample(
        self,
        shape: Sequence[int],
        steps: int = 8,
        method: str = "euler",
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw noise and follow the flow to data, (n,) → (n, *E).

        Args:
            shape: (n,).
            steps: evenly spaced in time.
            method: "euler", "heun" or "rk4", with one, two or four calls of the network a step.
            generator: draws from here instead of torch's global one.
        """
        return rectified(self, require.sample_count(shape), steps, method, generator=generator)[0]

    def log_prob(self, x: Tensor, steps: int = 30, *, probes: Tensor | None = None) -> Tensor:
        """Log-density of the model at any points, (B, *E) → (B,), in nats, by the flow from data to noise.

        The flow goes on to t = 1, so that the velocity has to be learnt at all times.

        Args:
            x: (B, *E).
            steps: N of the method of Runge and Kutta of order 4, with four calls each. Step k ends at (k/N)³: the
                velocity of sharp data changes fast where there is little noise.
            probes: for the divergence, as in `genlib.sde.divergence`; None for the exact one.

        Raises:
            ValueError: x is no batch of the model's shape and dtype, or the base has no ``log_prob``.
        """
        x = require.batch("x", x, self.event_shape)
        require.same_dtype("x", x, self.net)
        if not callable(getattr(self.base, "log_prob", None)):
            raise ValueError(f"base must have a method log_prob, got {type(self.base).__name__}")
        done = torch.linspace(0, 1, require.whole_number("steps", steps) + 1, dtype=torch.float64)
        times = self.path.least + (1 - self.path.least) * done**3
        with evaluating(self):
            return log_prob(
                self.velocity, x, times, _Stretched(self.base, self.path.sigma(1.0)), probes=probes
            )

    def _noise(self, n: int, generator: torch.Generator | None) -> Tensor:
        given = {} if generator is None else {"generator": generator}
        return self.base.sample((max(n, 1),), **given)[:n]  # a base draws at least one


class ConsistencyModel(nn.Module):
    r"""A network that leads each point of a flow to where the flow ends, in one step (Song et al. 2023).

    (arXiv:2303.01469.) The consistency function is that of the data at t = 0 by its form, and is taught to be the same
    at neighbours on one way of a teacher:

    .. math:: f(x, t) = x - t\, F(x, t), \qquad \bigl\lVert f(x_t, t) - \bar f(x_t - h\, v(x_t, t), t - h) \bigr\rVert^2

    with f̄ held fixed. F is the mean velocity on the way from t to 0.

    Args:
        net: F, (B, *E) and t (B,) → (B, *E).
        teacher: a trained model, of which a copy is kept.
        steps: 1/h.

    Raises:
        ValueError: steps is no whole number of at least 1.
    """

    def __init__(self, net: nn.Module, teacher: FlowMatching, steps: int = 20) -> None:
        super().__init__()
        self.net, self.event_shape = net, teacher.event_shape
        self.steps = require.whole_number("steps", steps)
        self.teacher = copy.deepcopy(teacher).requires_grad_(False)

    def ends(self, x: Tensor, t: Time) -> Tensor:
        """f(x, t), (B, *E) and a number or (B,) → (B, *E)."""
        t = _each_time(t, x)
        return x - column(t, x) * require.same_shape("net", self.net(x, t), x)

    def loss(self, x: Tensor) -> Tensor:
        """Squared distance of f from its neighbour's on the teacher's way, (B, *E) → (B,)."""
        x, teacher, h = require.batch("x", x, self.event_shape), self.teacher, 1 / self.steps
        t = h + (1 - h) * _even_times(x, 0.0)
        with evaluating(teacher):
            place, _ = teacher.path.between(x, teacher._noise(len(x), None).to(x), t)
            goal = self.ends(place - h * teacher.velocity(place, t), (t - h).clamp_min(0.0))
        return squared(self.ends(place, t) - goal)

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw noise and make one step, (n,) → (n, *E)."""
        with evaluating(self):
            noise = self.teacher._noise(require.sample_count(shape), generator).to(like_parameters(self))
            return self.ends(self.teacher.path.sigma(1.0) * noise, 1.0)


def assign(x_0: Tensor, x_1: Tensor) -> Pairs:
    """Pair two batches so that the sum of squared distances is least, (B, *E) and (B, *E) → the same, x_1 reordered.

    It is optimal transport within a batch (Tong et al. 2024, arXiv:2302.00482). Time grows as the cube of B.

    Raises:
        ValueError: the batches differ in size or shape.
    """
    _paired(x_0, x_1)
    cost = torch.cdist(x_0.detach().flatten(1), x_1.detach().flatten(1)).square()
    _, order = linear_sum_assignment(cost.cpu().numpy())
    return x_0, x_1[torch.from_numpy(order).to(x_1.device)]


class Way(NamedTuple):
    """Where points arrive (B, *E), the energy ∫‖v‖² dt of their ways (B,), and how far these bend (B,)."""

    x_0: Tensor
    energy: Tensor
    bend: Tensor


def ways(field: Field, x_1: Tensor, steps: int = 50, least: float = 0.0) -> Way:
    r"""Follow a flow from noise at t = 1 to data, and measure how straight its ways are (Liu et al. 2023).

    (arXiv:2209.03003.) A way bends by

    .. math:: \int_0^1 \lVert (x_1 - x_0) - v(x_t, t) \rVert^2\, dt = \int_0^1 \lVert v \rVert^2\, dt
        - \lVert x_1 - x_0 \rVert^2

    since v has the mean x_1 − x_0. It is 0 where one step of Euler makes no error. With `least` above 0, the way ends
    there, and 1 − least divides the last term.

    Args:
        field: v, (B, *E) and a number → (B, *E).
        x_1: (B, *E).
        steps: of the method of Runge and Kutta of order 4.
        least: the time at which the way ends.

    Raises:
        ValueError: x_1 is no batch of finite numbers, or steps is no whole number of at least 1.
    """
    x_1 = require.vectors("x_1", x_1)
    event = x_1.shape[1:]

    def both(state: Tensor, t: float) -> Tensor:
        v = field(state[:, :-1].unflatten(1, event), t).flatten(1)
        return torch.cat([v, -v.square().sum(1, keepdim=True)], 1)  # time runs backward

    start = torch.cat([x_1.flatten(1), x_1.new_zeros(len(x_1), 1)], 1)
    state = solve(both, start, _falling_times(steps, least), "rk4")
    x_0, energy = state[:, :-1].unflatten(1, event), state[:, -1]
    return Way(x_0, energy, energy - squared(x_1 - x_0) / (1 - least))


def rectified(
    model: FlowMatching,
    n: int,
    steps: int = 20,
    method: str = "heun",
    *,
    generator: torch.Generator | None = None,
) -> Pairs:
    """Pairs (x_0, x_1), both (n, *E), that the flow of a model connects (Liu et al. 2023, arXiv:2209.03003).

    A second model that learns from them by `FlowMatching.loss_of_pairs` has straighter ways.

    Args:
        model: a trained one.
        n: how many.
        steps, method: as in `FlowMatching.sample`.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: n or steps is no whole number of at least 1, or the method is unknown.
    """
    n, times = require.whole_number("n", n), _falling_times(steps, model.path.least)
    noise = model._noise(n, generator).to(like_parameters(model))
    with evaluating(model):
        return solve(model.velocity, model.path.sigma(1.0) * noise, times, method), noise


class _Stretched:
    """A distribution whose draws are multiplied by a number."""

    def __init__(self, base: Distribution, factor: float) -> None:
        self.base, self.factor = base, factor

    def log_prob(self, x: Tensor) -> Tensor:
        return self.base.log_prob(x / self.factor) - x.shape[1:].numel() * math.log(self.factor)


def _paired(x_0: Tensor, x_1: Tensor) -> None:
    require.vectors("x_0", x_0), require.vectors("x_1", x_1)
    if x_0.shape != x_1.shape:
        raise ValueError(
            f"x_1 must have the shape of x_0, {tuple(x_0.shape)}, to be paired with it, got {tuple(x_1.shape)}"
        )


def _each_time(t: Time, x: Tensor) -> Tensor:
    """One time for each example (B,), after checking that they lie in [0, 1]."""
    t = within(t)
    if isinstance(t, Tensor) and t.shape not in ((), x.shape[:1]):
        raise ValueError(f"t must be one number or have shape ({len(x)},), got {tuple(t.shape)}")
    return torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x))


def _even_times(x: Tensor, least: float) -> Tensor:
    """One time for each example, uniform in [least, 1), and together evenly spaced (B,)."""
    even = (torch.arange(len(x), device=x.device) / len(x) + torch.rand((), device=x.device)) % 1
    return least + (1 - least) * even.to(x)


def _falling_times(steps: int, least: float) -> list[float]:
    return torch.linspace(1, least, require.whole_number("steps", steps) + 1, dtype=torch.float64).tolist()
