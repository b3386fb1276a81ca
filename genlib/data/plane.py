"""Densities in the plane, and mixtures of Gaussians in any dimension."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from genlib import _arguments as require
from genlib._random import normal, uniform
from genlib.data.sources import Source

Box = tuple[tuple[float, float], tuple[float, float]]
Device = torch.device | str | None


class PlanarSource(Source):
    """A density in the plane. Its entropy is a sum over a fine grid unless the subclass knows better.

    Attributes:
        box: ((left, right), (bottom, top)), which holds all of the mass up to about 1e-12.
        detail: length in data units over which the density changes; the grid's step is detail / 3.
    """

    event_shape = torch.Size([2])
    box: Box
    detail: float
    _like: Tensor  # has the source's device and dtype

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log-density in x, (B, 2) → (B, 2), by automatic differentiation of `log_prob`."""
        x = require.real_events("x", x, self.event_shape)
        return torch.func.grad(lambda x: self.log_prob(x).sum())(x)

    def entropy(self) -> Tensor:
        """Entropy in nats by the midpoint rule on a grid of step detail / 3 over `box`, summed in float64.

        The rule converges faster than any power of the step for smooth densities that vanish at the edge
        (Trefethen and Weideman 2014, SIAM Review 56, 385-458); the tests find it settled to 1e-5 nats.
        """
        total = torch.zeros((), dtype=torch.float64, device="cpu")
        for points, area in cells(self.box, self.detail / 3):
            log_p = self.log_prob(points.to(self._like)).double().cpu()
            total -= torch.special.xlogy(log_p.exp(), log_p.exp()).sum() * area
        return total.to(self._like)


class GaussianMixture(PlanarSource):
    """Mixture of K round Gaussians in D dimensions.

    Args:
        means: (K, D) centres.
        scale: standard deviation, one number or (K,).
        weights: (K,) probabilities; equal when None.
    """

    def __init__(
        self,
        means: Tensor | Sequence[Sequence[float]],
        scale: float | Tensor = 1.0,
        weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        self.means = require.real_tensor("means", means)  # (K, D)
        if self.means.ndim != 2 or 0 in self.means.shape:
            raise ValueError(
                f"means must have shape (K, D) with K, D at least 1, got {tuple(self.means.shape)}"
            )
        count, dims = self.means.shape
        self.scale = require.real_tensor("scale", scale, like=self.means)  # (K,)
        if self.scale.shape not in ((), (count,)):
            raise ValueError(
                f"scale must be one number or have shape ({count},), got {tuple(self.scale.shape)}"
            )
        self.scale = self.scale.expand(count)
        if (self.scale <= 0).any():
            raise ValueError(f"scale must be above 0, got {self.scale.tolist()}")
        equal = [1 / count] * count
        self.weights = require.probabilities(
            "weights", equal if weights is None else weights, like=self.means
        )
        if self.weights.shape != (count,):
            raise ValueError(f"weights must have shape ({count},), got {tuple(self.weights.shape)}")
        self.event_shape = torch.Size([dims])
        self._like = self.means
        self.detail = self.scale.min().item()
        margin = 8 * self.scale.max().item()
        low, high = self.means.amin(0) - margin, self.means.amax(0) + margin
        self.box = tuple(zip(low.tolist(), high.tolist(), strict=True))

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw points, (n,) → (n, D)."""
        n = require.sample_count(shape)
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)  # (n,)
        eps = normal((n, self.event_shape[0]), self.means, generator)
        return self.means[k] + self.scale[k, None] * eps

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, exact, (B, D) → (B,)."""
        x = require.real_events("x", x, self.event_shape)
        return torch.logsumexp(self.weights.log() + _round_normal(x, self.means, self.scale), -1)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log-density in x, exact, (B, D) → (B, D): the pull of each centre, by its share."""
        x = require.real_events("x", x, self.event_shape)
        return _pull(x, self.weights.log(), self.means, self.scale)

    def noised(self, sigma: float) -> GaussianMixture:
        """The mixture after round normal noise of deviation `sigma` was added: the same, but wider."""
        sigma = require.positive("sigma", sigma)
        return GaussianMixture(self.means, (self.scale**2 + sigma**2).sqrt(), self.weights)

    def entropy(self) -> Tensor:
        """Entropy in nats: the closed form for one Gaussian, else a grid sum in the plane (see `PlanarSource`)."""
        if len(self.means) == 1:
            return self.event_shape[0] * (0.5 * math.log(2 * math.pi * math.e) + self.scale[0].log())
        if self.event_shape[0] != 2:
            raise NotImplementedError("entropy() of a mixture is known here for K = 1 or D = 2 only")
        return super().entropy()


class NoisyCurve(PlanarSource):
    """A point on a curve plus round Gaussian noise: x = c(t) + scale · eps.

    The density is a one-dimensional integral over the curve's parameter. Gauss-Legendre quadrature, with 16 nodes on
    each panel of at most four `scale` along the curve, gives it to about 1e-12 (relative) where it is not negligible.

    Args:
        curves: functions t (N,) → (N, 2), smooth on [0, 1]; each is chosen equally often.
        scale: standard deviation of the noise, in data units.
        power: t = u^(1/power) for uniform u; 1 is uniform in t, 2 puts more mass where t is large.
        device, dtype: where and in which precision the source works; torch's defaults when None.
    """

    def __init__(
        self,
        curves: Sequence[Callable[[Tensor], Tensor]],
        scale: float,
        *,
        power: float = 1.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.curves, self.power = tuple(curves), require.positive("power", power)
        if not self.curves:
            raise ValueError("curves must hold at least one function, got none")
        self.scale = require.positive("scale", scale)
        self._like = torch.empty(0, device=device, dtype=dtype)
        fine = [curve(torch.linspace(0, 1, 2001, dtype=torch.float64)) for curve in self.curves]
        speed = max(2000 * torch.linalg.vector_norm(path.diff(dim=0), dim=-1).max().item() for path in fine)
        t, w = _panels(math.ceil(speed / (4 * self.scale)))
        w = w * self.power * t ** (self.power - 1)  # density of t = u^(1/power)
        self._nodes = torch.cat([curve(t) for curve in self.curves]).to(self._like)  # (M, 2)
        self._log_weights = (w / len(self.curves)).log().repeat(len(self.curves)).to(self._like)  # (M,)
        self.detail = self.scale
        (left, bottom), (right, top) = torch.cat(fine).amin(0).tolist(), torch.cat(fine).amax(0).tolist()
        margin = 8 * self.scale
        self.box = ((left - margin, right + margin), (bottom - margin, top + margin))

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw points, (n,) → (n, 2)."""
        n = require.sample_count(shape)
        t = uniform((n,), self._like, generator) ** (1 / self.power)
        which = torch.randint(len(self.curves), (n,), generator=generator, device=self._like.device)
        x = torch.stack([curve(t) for curve in self.curves])[
            which, torch.arange(n, device=t.device)
        ]  # (n, 2)
        return x + self.scale * normal((n, 2), self._like, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats by quadrature along the curves, (B, 2) → (B,)."""
        x = require.real_events("x", x, self.event_shape)
        scale = self._nodes.new_tensor(self.scale)
        return torch.logsumexp(self._log_weights + _round_normal(x, self._nodes, scale), -1)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log-density in x, by the same quadrature, (B, 2) → (B, 2)."""
        x = require.real_events("x", x, self.event_shape)
        return _pull(x, self._log_weights, self._nodes, self._nodes.new_tensor(self.scale))


class Rings(PlanarSource):
    r"""Concentric circles plus round Gaussian noise, with a closed-form density.

    .. math:: p(x) = \sum_k \frac{w_k}{2\pi\sigma^2} e^{-(r^2 + R_k^2)/2\sigma^2} I_0(r R_k/\sigma^2), \quad r = |x|

    The weights are proportional to the radii, so that the rings are equally dense. The distance r is a Rice variable
    (Rice 1945, Bell System Technical Journal 24, 46-156).

    Args:
        radii: one radius a ring, in data units.
        scale: standard deviation σ of the noise.
        device, dtype: where and in which precision the source works; torch's defaults when None.
    """

    def __init__(
        self,
        radii: Sequence[float] = (1.0, 2.0, 3.0),
        scale: float = 0.1,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.scale = require.positive("scale", scale)
        self._like = torch.empty(0, device=device, dtype=dtype)
        self.radii = require.real_tensor("radii", radii, like=self._like)  # (K,)
        if self.radii.ndim != 1 or not len(self.radii) or (self.radii <= 0).any():
            raise ValueError(f"radii must be a list of numbers above 0, got {radii!r}")
        self.weights = self.radii / self.radii.sum()
        self.detail = self.scale
        reach = self.radii.max().item() + 8 * self.scale
        self.box = ((-reach, reach), (-reach, reach))

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw points, (n,) → (n, 2)."""
        n = require.sample_count(shape)
        radius = self.radii[torch.multinomial(self.weights, n, replacement=True, generator=generator)]
        angle = 2 * math.pi * uniform((n,), self.radii, generator)
        circle = torch.stack([angle.cos(), angle.sin()], -1)  # (n, 2)
        return radius[:, None] * circle + self.scale * normal((n, 2), self.radii, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, exact, (B, 2) → (B,)."""
        x = require.real_events("x", x, self.event_shape)
        r = torch.linalg.vector_norm(x, dim=-1)[..., None]  # (B, 1)
        bessel = torch.special.i0e(r * self.radii / self.scale**2).log()  # log of e^(-a) I_0(a)
        normal = -0.5 * ((r - self.radii) / self.scale) ** 2 - math.log(2 * math.pi * self.scale**2)
        return torch.logsumexp(self.weights.log() + normal + bessel, -1)


class Checkerboard(PlanarSource):
    """Uniform on the 8 dark squares, 2 units wide, of a 4 × 4 board on [−4, 4]².

    Args:
        device, dtype: where and in which precision the source works; torch's defaults when None.
    """

    def __init__(self, *, device: Device = None, dtype: torch.dtype | None = None) -> None:
        self._like = torch.empty(0, device=device, dtype=dtype)
        self.box = ((-4.0, 4.0), (-4.0, 4.0))
        self.detail = 2.0

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw points, (n,) → (n, 2)."""
        n = require.sample_count(shape)
        square = torch.randint(8, (n,), generator=generator, device=self._like.device)
        row = square // 2
        column = 2 * (square % 2) + row % 2
        corner = torch.stack([column, row], -1).to(self._like)  # (n, 2)
        x = 2 * (corner + uniform((n, 2), self._like, generator)) - 4
        # rounding can lift a point onto the next square's edge: put it back on its own
        return torch.minimum(x, torch.nextafter(2 * corner - 2, x.new_tensor(-math.inf)))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, exact, (B, 2) → (B,): −log 32 on dark squares, −inf elsewhere."""
        x = require.real_events("x", x, self.event_shape)
        square = torch.floor(x / 2) + 2  # exact, whatever the rounding
        inside = ((square >= 0) & (square < 4)).all(-1) & (square.sum(-1) % 2 == 0)
        return torch.where(inside, self._like.new_tensor(-math.log(32.0)).to(x.device), -math.inf)

    def entropy(self) -> Tensor:
        """Entropy log 32 in nats, exact."""
        return self._like.new_tensor(math.log(32.0))


class Pinwheel(PlanarSource):
    """Gaussian blades, twisted by an angle that grows with the distance from the centre.

    A blade is a Gaussian at distance 2 on the first axis, long along it and narrow across it. The twist turns the point
    at radius r by `twist` · r. A turn that depends on the radius alone keeps areas, so the density is exact.

    Args:
        blades: number of blades.
        along, across: standard deviations of a blade, in data units.
        twist: radians per unit of radius.
        device, dtype: where and in which precision the source works; torch's defaults when None.
    """

    def __init__(
        self,
        blades: int = 5,
        along: float = 0.5,
        across: float = 0.15,
        twist: float = 0.6,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.blades = require.whole_number("blades", blades)
        self.spread = (require.positive("along", along), require.positive("across", across))
        self.twist = require.finite("twist", twist)
        self._like = torch.empty(0, device=device, dtype=dtype)
        self.detail = min(self.spread)
        reach = 2 + 8 * max(self.spread)
        self.box = ((-reach, reach), (-reach, reach))

    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw points, (n,) → (n, 2)."""
        n = require.sample_count(shape)
        straight = normal((n, 2), self._like, generator) * self._like.new_tensor(self.spread)
        straight = straight + self._like.new_tensor([2.0, 0.0])
        blade = torch.randint(self.blades, (n,), generator=generator, device=self._like.device)
        radius = torch.linalg.vector_norm(straight, dim=-1)
        return _turn(straight, 2 * math.pi / self.blades * blade.to(self._like) + self.twist * radius)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, exact, (B, 2) → (B,)."""
        x = require.real_events("x", x, self.event_shape)
        radius = torch.linalg.vector_norm(x, dim=-1)[..., None]  # (B, 1)
        blade = torch.arange(self.blades, device=x.device, dtype=x.dtype)
        straight = _turn(
            x[..., None, :], -2 * math.pi / self.blades * blade - self.twist * radius
        )  # (B, K, 2)
        along, across = self.spread
        quadratic = ((straight[..., 0] - 2) / along) ** 2 + (straight[..., 1] / across) ** 2
        return torch.logsumexp(-0.5 * quadratic, -1) - math.log(2 * math.pi * along * across * self.blades)


def ring(
    modes: int = 8,
    radius: float = 2.0,
    scale: float = 0.1,
    weights: Tensor | Sequence[float] | None = None,
    *,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> GaussianMixture:
    """Gaussians on a circle, after the ring of Metz et al. 2017 (arXiv:1611.02163).

    Args:
        modes: number of Gaussians, the first at angle 0, counted anticlockwise.
        radius: of the circle, in data units.
        scale: standard deviation of each Gaussian.
        weights: (modes,) probabilities; equal when None.
        device, dtype: where and in which precision the source works; torch's defaults when None.
    """
    count, radius = require.whole_number("modes", modes), require.positive("radius", radius)
    angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    means = radius * torch.stack([angle.cos(), angle.sin()], -1)  # (K, 2)
    return GaussianMixture(means.to(torch.empty(0, device=device, dtype=dtype)), scale, weights)


def grid(
    side: int = 5,
    spacing: float = 2.0,
    scale: float = 0.05,
    *,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> GaussianMixture:
    """Gaussians of equal weight on a square grid around 0: by default 25, at −4, −2, 0, 2, 4.

    Args:
        side: Gaussians along each axis.
        spacing: distance of neighbours, in data units.
        scale: standard deviation of each Gaussian.
        device, dtype: where and in which precision the source works; torch's defaults when None.
    """
    count, spacing = require.whole_number("side", side), require.positive("spacing", spacing)
    line = spacing * (torch.arange(count, dtype=torch.float64) - (count - 1) / 2)
    means = torch.cartesian_prod(line, line)  # (side², 2)
    return GaussianMixture(means.to(torch.empty(0, device=device, dtype=dtype)), scale)


def two_moons(scale: float = 0.1, *, device: Device = None, dtype: torch.dtype | None = None) -> NoisyCurve:
    """Two interleaved half circles with Gaussian noise, in scikit-learn's geometry (`sklearn.datasets.make_moons`).

    Args:
        scale: standard deviation of the noise, in data units.
        device, dtype: where and in which precision the source works; torch's defaults when None.
    """
    return NoisyCurve([_upper_moon, _lower_moon], scale, device=device, dtype=dtype)


def two_spirals(
    scale: float = 0.1, turns: float = 1.5, *, device: Device = None, dtype: torch.dtype | None = None
) -> NoisyCurve:
    """Two arms of an Archimedean spiral, opposite each other, with Gaussian noise; they end at radius 3.

    Args:
        scale: standard deviation of the noise, in data units.
        turns: how often an arm winds around the centre.
        device, dtype: where and in which precision the source works; torch's defaults when None.
    """
    whole = 2 * math.pi * require.positive("turns", turns)
    arms = [partial(_arm, reach=reach, whole=whole) for reach in (3.0, -3.0)]
    return NoisyCurve(arms, scale, power=2.0, device=device, dtype=dtype)


def lattice(box: Box, size: int) -> Tensor:
    """Midpoints of size × size equal cells of a box, (size², 2) float64, the first coordinate running fastest."""
    size = require.whole_number("size", size)
    (left, right), (bottom, top) = _sides(box)
    middle = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    y, x = torch.meshgrid(bottom + (top - bottom) * middle, left + (right - left) * middle, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], -1)


def cells(box: Box, step: float) -> Iterator[tuple[Tensor, float]]:
    """Yield (midpoints (N, 2) float64, area of a cell): equal cells that tile a box, no wider than `step`.

    Their order is that of `lattice`; N is a few hundred, so that what is worked out for them stays small.
    """
    step = require.positive("step", step)
    widths = [high - low for low, high in _sides(box)]
    size = math.ceil(max(widths) / step)
    area = math.prod(width / size for width in widths)
    for points in lattice(box, size).split(512):
        yield points, area


def _upper_moon(t: Tensor) -> Tensor:
    """Half a circle, (N,) → (N, 2)."""
    return torch.stack([torch.cos(math.pi * t), torch.sin(math.pi * t)], -1)


def _lower_moon(t: Tensor) -> Tensor:
    """The other half, turned round and moved into the first, (N,) → (N, 2)."""
    return torch.stack([1 - torch.cos(math.pi * t), 0.5 - torch.sin(math.pi * t)], -1)


def _arm(t: Tensor, reach: float, whole: float) -> Tensor:
    """Archimedes' spiral that ends at radius |reach| after `whole` radians, (N,) → (N, 2)."""
    return reach * t[..., None] * torch.stack([torch.cos(whole * t), torch.sin(whole * t)], -1)


def _sides(box: Box) -> list[list[float]]:
    """Return the sides of a box, after checking that it has an inside."""
    sides = require.real_tensor("box", box, like=torch.empty(0, dtype=torch.float64, device="cpu"))
    if sides.shape != (2, 2) or not (sides[:, 0] < sides[:, 1]).all():
        raise ValueError(
            f"box must be ((left, right), (bottom, top)) with left < right and bottom < top, got {box}"
        )
    return sides.tolist()


def _panels(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss-Legendre quadrature on [0, 1], 16 on each of `count` equal panels, (16 count,)."""
    node, weight = map(torch.from_numpy, np.polynomial.legendre.leggauss(16))
    t = (torch.arange(count, dtype=torch.float64, device="cpu")[:, None] + (node + 1) / 2) / count
    return t.flatten(), (weight / (2 * count)).repeat(count)


def _round_normal(x: Tensor, means: Tensor, scale: Tensor) -> Tensor:
    """Log-density of each of K round Gaussians, (..., D) → (..., K)."""
    squared = sum((x[..., d, None] - means[:, d]) ** 2 for d in range(means.shape[-1]))  # (..., K)
    dims = means.shape[-1]
    return -0.5 * squared / scale**2 - dims * (scale.log() + 0.5 * math.log(2 * math.pi))


def _pull(x: Tensor, log_weights: Tensor, means: Tensor, scale: Tensor) -> Tensor:
    """Score of a mixture of K round Gaussians: the pull of each centre, by its share, (..., D) → (..., D)."""
    share = (log_weights + _round_normal(x, means, scale)).softmax(-1)  # (..., K)
    pull = share / scale**2
    return pull @ means.to(x) - pull.sum(-1, keepdim=True) * x


def _turn(x: Tensor, angle: Tensor) -> Tensor:
    """Rotate points (..., 2) anticlockwise by angles (...), in radians."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x[..., 0] - sin * x[..., 1], sin * x[..., 0] + cos * x[..., 1]], -1)
