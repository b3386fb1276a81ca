"""Graders of the lesson on discrete latents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, telling, uniform


@grader("ex:vq-nearest")
def _nearest(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "A table (n, K) of distances; in each row, the place of the smallest."
    for seed, n, K in ((1, 30, 4), (2, 7, 9)):
        e, book = normal(seed, n, 3), 1.5 * normal(seed + 10, K, 3)
        apart = torch.cdist(e, book, compute_mode="donot_use_mm_for_euclid_dist")  # (n, K)
        expected = apart.argmin(1)
        slips = {
            "That is the farthest code.": apart.argmax(1),
            "A large product is not a small distance.": (e @ book.T).argmax(1),
            "Square the differences, or they cancel.": (e[:, None] - book).sum(2).argmin(1),
            "All numbers of a vector count, not the first alone.": (e[:, :1] - book[:, 0]).abs().argmin(1),
            "That is the nearest vector of each code: the axes are exchanged.": apart.argmin(0),
            "Those are distances: numbers of codes are asked.": apart.amin(1),
            "Those are squared distances: numbers of codes are asked.": apart.amin(1).square(),
            "Those are the codes themselves: their numbers are asked.": book[expected],
            "Codes are counted from 0.": expected + 1,
        }
        yield Case(
            f"{n} vectors, {K} codes",
            asked(answer, e.clone(), book.clone()),
            expected,
            1e-6,
            hint,
            telling(slips, expected),
        )


@grader("ex:vq-least")
def _least(answer: object) -> Iterator[Case]:
    entropy, spread = math.log(6), 0.5 * math.log(2 * math.pi * math.e / 12)
    expected = entropy - spread
    slips = {
        "That is what six equal cells cost: the bound lies lower.": entropy,
        "In nats, please: the natural logarithm.": expected / math.log(2),
        "The factor ½ is missing.": entropy - 2 * spread,
        "The mean squared error D stands in the logarithm.": entropy - 0.5 * math.log(2 * math.pi * math.e),
        "2πe belongs to the bound.": entropy - 0.5 * math.log(1 / 12),
        "The two have different signs.": entropy + spread,
        "It is no negative number.": -expected,
        "The number lies between 0 and 6, not between 0 and 1.": -spread,
    }
    hint = (
        "The entropy of the number less that of a normal error with mean square 1/12. Three decimals, please."
    )
    yield Case("0 to 6, error 1/12", lambda: answer, expected, 6e-4, hint, telling(slips, expected))


@grader("ex:vq-moving")
def _moving(answer: Callable[[float, Tensor, Tensor, float], object]) -> Iterator[Case]:
    hint = "First the moving count and the moving sum, each with γ; then one over the other. Try no rows at all, too."
    for seed, n, count, gamma in ((3, 5, 4.0, 0.8), (4, 1, 2.5, 0.99), (5, 0, 3.0, 0.9)):
        total, rows = count * normal(seed, 2), normal(seed + 10, n, 2) + 1
        new_count = gamma * count + (1 - gamma) * n
        new_total = gamma * total + (1 - gamma) * rows.sum(0)
        expected = new_total / new_count
        slips = {
            "Nothing has moved.": total / count,
            "The count moves too.": new_total / count,
            "That is the moving sum: divide by the count.": new_total,
            "γ is what is kept, 1 − γ what is new.": ((1 - gamma) * total + gamma * rows.sum(0))
            / ((1 - gamma) * count + gamma * n),
            "Old rows must be forgotten: γ is not used.": (total + rows.sum(0)) / (count + n),
            "New rows weigh 1 − γ.": (gamma * total + rows.sum(0)) / (gamma * count + n),
            "The batch counts with as many rows as it has, not once.": (
                gamma * total + (1 - gamma) * rows.mean(0)
            )
            / (gamma * count + 1 - gamma),
            "The sum of the rows, not their mean.": (gamma * total + (1 - gamma) * rows.mean(0)) / new_count,
            "That mixes old code and mean, however many rows there are.": gamma * total / count
            + (1 - gamma) * rows.mean(0),
            "That is the mean of the batch: the old rows count too.": rows.mean(0),
        }
        slips = {slip: wrong for slip, wrong in slips.items() if not wrong.isnan().any()}
        yield Case(
            f"{n} rows, γ = {gamma}",
            asked(answer, count, total.clone(), rows.clone(), gamma),
            expected,
            1e-6,
            hint,
            telling(slips, expected),
        )


@grader("ex:vq-perplexity")
def _perplexity(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    hint = (
        "Shares first, then their entropy in nats, then e to it. A code that was never chosen adds nothing."
    )
    for counts in ([5.0, 1.0, 3.0, 11.0, 2.0], [4.0, 0.0, 4.0, 0.0], [0.0, 9.0, 0.0]):
        n = torch.tensor(counts, **EXACT)
        p = n / n.sum()
        entropy = -torch.special.xlogy(p, p).sum()
        slips = {
            "That is the entropy: e to it is asked.": entropy,
            "The entropy is in nats: e to it, not 2 to it.": 2**entropy,
            "That is the entropy in bits.": entropy / math.log(2),
            "That is how many codes were chosen at all.": torch.count_nonzero(n),
            "That is the perplexity of another mean: one over the sum of squares.": 1 / p.square().sum(),
            "The sign is wrong: there are not fewer than one.": (-entropy).exp(),
            "A sum, not a mean over the codes.": (entropy / len(n)).exp(),
            "That is one over the largest share.": 1 / p.max(),
        }
        yield Case(
            f"counts {', '.join(f'{count:.0f}' for count in counts)}",
            asked(answer, n.clone()),
            entropy.exp(),
            1e-6,
            hint,
            telling(slips, entropy.exp()),
        )


@grader("ex:vq-slope")
def _slope(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "How much does each code cost more than the mean, and how often is it drawn?"
    for seed, K in ((6, 5), (7, 2)):
        theta, f = normal(seed, K), 3 * uniform(seed + 10, K)
        q = theta.softmax(0)
        expected = q * (f - q @ f)
        slips = {
            "The mean cost is missing: it has to be taken off.": q * f,
            "How often each is drawn is missing.": f - q @ f,
            "The sign is wrong: a dear code has a positive slope.": -expected,
            "The mean is one over draws: weigh by q.": q * (f - f.mean()),
            "That is the slope with respect to q.": f,
            "Those are the probabilities.": q,
            "That is q², once too often.": q * expected,
            "q is a softmax of the logits.": theta * (f - theta @ f),
            "That is the mean cost.": q @ f,
        }
        yield Case(
            f"{K} codes",
            asked(answer, theta.clone(), f.clone()),
            expected,
            1e-6,
            hint,
            telling(slips, expected),
        )


@grader("ex:vq-set")
def _set(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    hint = "log p(x) is the logarithm of a sum over all codes. What of a sum over some of them?"
    for seed, B, m in ((8, 4, 3), (9, 2, 1)):
        joint = -80 + 2 * normal(seed, B, m)
        joint[0] -= 1920
        expected = joint.logsumexp(1)
        slips = {
            "No draws, but different codes: nothing is divided by m.": expected - math.log(m),
            "All of them count, not the best alone.": joint.amax(1),
            "A mean of logarithms is smaller than the logarithm of the sum.": joint.mean(1),
            "Add the probabilities, not their logarithms.": joint.sum(1),
            "e to the −2000 is 0 as a number: take the largest out first.": joint.exp().sum(1).log(),
            "One bound for each image: sum over the codes.": joint.logsumexp(0),
            "The sign is wrong: the logarithm of a probability.": -expected,
            "One bound for each image, not for all.": joint.logsumexp((0, 1)),
        }
        yield Case(
            f"{m} codes for each of {B} images",
            asked(answer, joint.clone()),
            expected,
            1e-3,
            hint,
            telling(slips, expected),
        )


@grader("ex:vq-left-out")
def _left_out(answer: object) -> Iterator[Case]:
    expected = 32 * 32 * math.log2(512) / (128 * 128 * 3)
    slips = {
        "In bits, please: the logarithm to base 2.": expected * math.log(2),
        "A dimension is one colour of one pixel: there are three colours.": 3 * expected,
        "That is for a whole image.": 32 * 32 * 9,
        "Codes per dimension: how many bits has each?": expected / 9,
        "That is what one code costs.": 9,
        "There are 32 × 32 codes, not 32.": expected / 32,
        "512 messages cost the logarithm of 512.": expected / 9 * 512,
    }
    hint = "How many bits has a code, how many codes an image, and how many dimensions?"
    yield Case("32 × 32 codes of 512", lambda: answer, expected, 6e-4, hint, telling(slips, expected))
