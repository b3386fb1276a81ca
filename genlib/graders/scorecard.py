"""Graders of the lesson on the scorecard."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from genlib import data
from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, telling, uniform
from genlib.scorecard import Recipe, Result, run
from genlib.scorecard.recipe import Sampler


@grader("ex:sc-floor")
def _floor(answer: Callable[[Tensor, Tensor, int, int], object]) -> Iterator[Case]:
    hint = "In the mean of k over all pairs, how often does a point meet itself?"
    for seed, size, n, m in ((1, 2, 2, 3), (2, 3, 3, 2), (3, 5, 40, 10)):
        features = 2 * normal(seed, size, 3)
        k, p = features @ features.T, (2 * uniform(seed + 10, size)).softmax(0)
        alone, crossed = p @ k.diag(), p @ k @ p
        sizes, gap = 1 / n + 1 / m, alone - crossed
        expected = sizes * gap
        slips = {
            "Subtract what two independent points give.": sizes * alone,
            "The sizes differ: not 2/n.": 2 / n * gap,
            "The sizes differ: not 2/m.": 2 / m * gap,
            "Both samples are noisy, not only the first.": gap / n,
            "Both samples are noisy, not only the second.": gap / m,
            "Each sample has its own noise: not 1/(n + m).": gap / (n + m),
            "Each sample has its own noise: not 2/(n + m).": 2 * gap / (n + m),
            "That is the root: the squared discrepancy is asked.": expected.sqrt(),
            "The unbiased estimate gives 0; the biased one is asked.": 0.0,
            "Weigh the diagonal with p: symbols are not equally likely.": sizes * (k.diag().mean() - crossed),
            "Weigh the diagonal with p, do not just add it up.": sizes * (k.trace() - crossed),
            "A point meets itself: weigh the diagonal with p, not p².": sizes * (p**2 @ k.diag() - crossed),
            "The other way round: it is never negative.": -expected,
        }
        question, given = f"{size} symbols, n = {n}, m = {m}", asked(answer, k.clone(), p.clone(), n, m)
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:sc-stable")
def _stable(answer: Callable[[Tensor, float], object]) -> Iterator[Case]:
    for broken, distance, numbers in (
        (2, 0.3, (0.95, 0.15, 0.35, 2.2, 2.25, 0.25, 0.85, 0.35, 0.2, 0.3, 1.0)),
        (
            0,
            0.5,
            (
                0.875,
                0.5,
                1.375,
                2.75,
                0.875,
                0.25,
                2.0,
                2.125,
                1.0,
                1.625,
                1.875,
                1.5,
                0.625,
                0.75,
                0.375,
                0.75,
            ),
        ),
        (3, 0.4, (0.26, 0.73, 0.62, 0.68, 1.91, 0.57, 0.9, 0.53, 0.95, 0.35, 0.38)),
    ):
        ended = torch.tensor(numbers, **EXACT)
        count = len(ended) + broken
        values = torch.cat([ended[:2], ended.new_full((broken,), math.inf), ended[2:]])
        best = ended.min()

        def share(true: Tensor, count: int = count) -> Tensor:
            return true.sum().double() / count

        near = ended <= best + distance
        expected = share(near)
        slips = {
            "A seed that broke down counts in the total.": near.double().mean(),
            "Measure from the best, not from the mean.": share(ended <= ended.mean() + distance),
            "Measure from the best, not around the mean.": share((ended - ended.mean()).abs() <= distance),
            "Measure from the best, not from the worst.": share(ended >= ended.max() - distance),
            "Measure from the best, not from 0.": share(ended <= distance),
            "That is the number; the share is asked.": near.sum(),
            "The best seed itself counts.": share(near) - 1 / count,
            "The best seed itself counts, in the total too.": (near.sum() - 1) / (count - 1),
            "The distance is absolute, not relative to the best.": share(ended <= best * (1 + distance)),
            "“At most”: a seed at that very distance counts.": share(ended < best + distance),
            "That is the share that ends further off.": 1 - expected,
            "That is the share that did not break down.": len(ended) / count,
        }
        question = f"{count} seeds, {broken} of them broken, distance {distance}"
        given = asked(answer, values.clone(), distance)
        hint = "Which seeds are counted, and from which value is the distance measured?"
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:sc-front")
def _front(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "Look for a model that is left although another is as good in both and better in one."
    for cost, error in (
        ((1.0, 2.0, 3.0, 4.0, 2.5, 5.0), (9.0, 5.0, 4.0, 1.0, 6.0, 2.0)),
        ((2.0, 1.0, 4.0, 2.0, 3.0, 1.0, 5.0, 6.0), (5.0, 8.0, 3.0, 5.0, 5.0, 9.0, 2.0, 2.0)),
        ((0.5, 0.5, 0.5, 0.25), (3.0, 3.0, 4.0, 7.0)),
    ):
        models = torch.tensor([cost, error], **EXACT).T  # (M, 2)
        order, own = torch.arange(len(models)), torch.eye(len(models), dtype=torch.bool)
        as_good = (models[None] <= models[:, None]).all(2)  # (M, M): the second is as good as the first
        better = (models[None] < models[:, None]).all(2)
        beaten = as_good & ~as_good.T
        equal = as_good & as_good.T
        expected = ~beaten.any(1)
        slips = {
            "Tied in one and worse in the other is beaten too.": ~better.any(1),
            "Two equal models do not beat each other.": ~(as_good & ~own).any(1),
            "Two equal models do not beat each other: keep both.": expected
            & ~(equal & (order[None] < order[:, None])).any(1),
            "No model beats itself.": ~as_good.any(1),
            "These are the beaten ones.": ~expected,
            "Between the cheapest and the best there are others.": (models == models.min(0).values).any(1),
            "True or false for each model, not their numbers.": expected.nonzero().flatten(),
            "True or false for each model, not how many.": expected.sum(),
            "Smaller is better, in both.": ~beaten.any(0),
        }
        given = asked(answer, models[:, 0].clone(), models[:, 1].clone())
        yield Case(f"{len(models)} models", given, expected, 1e-6, hint, telling(slips, expected))


@grader("ex:sc-own")
def _own(answer: Callable[[Tensor], Sampler]) -> Iterator[Case]:
    yield from _own_in_space(answer)
    yield from _own_on_moons(answer)


def _own_in_space(answer: Callable[[Tensor], Sampler]) -> Iterator[Case]:
    """The model by itself, where every slip shows."""
    mixing = torch.tensor([[1.4, 0.0, 0.0], [1.0, 0.6, 0.0], [-0.4, 0.5, 0.5]], **EXACT)
    x = (uniform(1, 20_000, 3) - 0.5) @ mixing.T
    x = x - x.mean(0)
    x = x / x.var(0, correction=0).mean().sqrt()
    Sigma = x.T.cov(correction=0)
    ask, dims = torch.tensor([[0.0, 0, 0], [1, 1, 0], [-1, 0.5, 1], [0.3, -1, -0.6]], **EXACT), x.shape[1]
    variances, root = Sigma.diag().diag(), torch.linalg.cholesky(Sigma)

    def log_q(Sigma: Tensor) -> Tensor:
        return MultivariateNormal(torch.zeros(dims, **EXACT), Sigma).log_prob(ask)

    expected, log_det = log_q(Sigma), Sigma.logdet()
    slips = {
        "The coordinates are correlated: take the whole covariance.": log_q(variances),
        "That is the standard normal distribution: fit the covariance.": log_q(torch.eye(dims, **EXACT)),
        "The variance stands in the place of the deviation.": log_q(variances**2),
        "The covariance stands in the place of its root.": log_q(Sigma @ Sigma),
        "The covariance stands in the place of its inverse.": log_q(Sigma.inverse()),
        "The constant that makes the integral 1 is missing.": expected
        + (log_det + dims * math.log(2 * math.pi)) / 2,
        "The determinant of the covariance is missing.": expected + log_det / 2,
        "The powers of 2π are missing.": expected + dims * math.log(2 * math.pi) / 2,
        "The sign: log q is asked, not the cost.": -expected,
    }

    @functools.cache
    def model() -> Sampler:
        return _quietly(lambda: answer(x.float()))

    def said() -> object:
        if model() is None or model() is ...:
            return None
        return _quietly(lambda: model().log_prob(ask.float()))

    given = f"log_prob after train on {len(x)} points, D = {dims}"
    hint = "Compare log_prob with that of a normal distribution that has the mean and covariance of x."
    yield Case(given, said, expected, 0.02, hint, telling(slips, expected))

    slips = {
        "The coordinates are correlated: draw with the whole covariance.": variances,
        "That is the standard normal distribution: fit the covariance.": torch.eye(dims, **EXACT),
        "The variance stands in the place of the deviation.": variances**2,
        "The covariance stands in the place of its root.": Sigma @ Sigma,
        "The Cholesky factor is transposed.": root.T @ root,
    }

    def drawn() -> Tensor:
        n = 100_000
        samples = _quietly(lambda: model().sample((n,)))
        if not isinstance(samples, Tensor) or samples.shape != (n, dims):
            raise ValueError(f"sample(({n},)) must return a tensor of shape {(n, dims)}")
        return torch.cat([samples.mean(0)[None], samples.T.cov()])

    def moments(Sigma: Tensor) -> Tensor:
        return torch.cat([Sigma.new_zeros(1, dims), Sigma])

    slips = {slip: moments(wrong) for slip, wrong in slips.items()}
    hint = "Compare the mean and the covariance of the samples with those of x."
    yield Case("mean and covariance of the samples", drawn, moments(Sigma), 0.05, hint, slips)


def _own_on_moons(answer: Callable[[Tensor], Sampler]) -> Iterator[Case]:
    """The model in the scorecard."""
    apart = 0.25 - 2 / math.pi  # half of how much higher the lower moon's centre is, less than 0
    across, up = 0.5 + 0.25 + 0.01, 0.5 - 4 / math.pi**2 + apart**2 + 0.01
    Sigma = torch.tensor([[across, apart / 2], [apart / 2, up]], **EXACT)
    expected = (2 * math.pi * math.e * Sigma).logdet() / 2 - data.two_moons(**EXACT).entropy()

    @functools.cache
    def measured() -> Result:
        result = _quietly(lambda: run("my model", "two moons", 0, recipe=Recipe(answer)))
        if result.row.failed is not None:
            raise RuntimeError(result.row.failed)
        return result

    slips = {
        "The coordinates are correlated: take the whole covariance.": expected
        - (1 - Sigma[0, 1] ** 2 / (across * up)).log() / 2,
    }
    hint = "The divergence is known beforehand. Is the density the one that was fitted?"
    yield Case("D_KL on the two moons", lambda: measured().row.kl, expected, 0.05, hint, slips)
    question = "covariance of the samples on the two moons"
    hint = "Do the samples come from the distribution that was fitted?"
    yield Case(question, lambda: measured().samples.T.cov(), Sigma, 0.12, hint)


def _quietly(work: Callable[[], object]) -> object:
    """Work on the CPU, with random numbers that are the same each time; the reader's stream goes on as it was."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(0)
        return work()


@grader("ex:sc-checkerboard")
def _checkerboard(answer: object) -> Iterator[Case]:
    log_area, log_board = math.log(32), math.log(64)

    def entropy(det: float, dims: int = 2) -> float:
        """Of a normal distribution with this determinant of the covariance."""
        return (dims * math.log(2 * math.pi * math.e) + math.log(det)) / 2

    expected, alone = entropy(247 / 9) - log_area, entropy(256 / 9)
    slips = {
        "The two coordinates are correlated: board positions go together.": alone - log_area,
        "Half of the board is light: the area is 32.": expected + log_area - log_board,
        "The coordinates are correlated, and the dark area is 32.": alone - log_board,
        "In nats, please, not in bits.": expected / math.log(2),
        "A divergence is never negative.": -expected,
        "That is the entropy of the normal distribution alone.": entropy(247 / 9),
        "That is the entropy of the checkerboard alone.": log_area,
        "That is the divergence of one coordinate alone.": entropy(16 / 3, 1) - math.log(8),
        "That is the other direction.": math.inf,
    }
    hint = "The entropy of the normal distribution less that of the checkerboard, to three decimals."
    yield Case("D_KL in nats", lambda: answer, expected, 2e-3, hint, telling(slips, expected))
