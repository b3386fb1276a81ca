"""Graders of the lesson on discrete latents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from genlib.checks import Case, grader
from genlib.graders._tools import EXACT, asked, normal, telling, uniform


@grader("ex:vq-nearest")
def _nearest(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "A table (n, K) of distances; in each row, the place of the smallest."
    for seed, n, K, d in (
        (1, 30, 4, 3),
        (2, 7, 9, 3),
        (3, 1, 5, 2),
        (4, 12, 1, 4),
        (5, 20, 6, 1),
        (6, 40, 64, 16),
    ):
        e, book = normal(seed, n, d), 1.5 * normal(seed + 10, K, d)
        apart = torch.cdist(e, book, compute_mode="donot_use_mm_for_euclid_dist")  # (n, K)
        expected = apart.argmin(1)
        slips = {
            "That is the farthest code.": apart.argmax(1),
            "A large product is not a small distance.": (e @ book.T).argmax(1),
            "A small angle is not a small distance: lengths count too.": (
                (e @ book.T / book.norm(dim=1)).argmax(1)
            ),
            "The product counts twice: |e − c|² = |e|² − 2 e·c + |c|².": (
                (book.square().sum(1) - e @ book.T).argmin(1)
            ),
            "That is the shortest code, whatever the vector is.": (book.norm(dim=1).argmin().expand(n)),
            "Square the differences, or they cancel.": (e[:, None] - book).sum(2).argmin(1),
            "All numbers of a vector count, not the first alone.": (e[:, :1] - book[:, 0]).abs().argmin(1),
            "That is the nearest vector of each code: the axes are exchanged.": apart.argmin(0),
            "Those are distances: numbers of codes are asked.": apart.amin(1),
            "Those are squared distances: numbers of codes are asked.": apart.amin(1).square(),
            "That is the whole table of distances: where is the smallest of each row?": apart,
            "That is the whole table of squared distances: where is the smallest of each row?": apart.square(),
            "Each vector has its own nearest code: look along one axis, not through the whole table.": (
                apart.argmin()
            ),
            "That marks the codes with 0 and 1: their numbers are asked.": one_hot(expected, K),
            "Those are the codes themselves: their numbers are asked.": book[expected],
            "Codes are counted from 0.": expected + 1,
        }
        yield Case(
            f"{n} vector{'s' * (n > 1)} of {d}, {K} code{'s' * (K > 1)}",
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
        "That is what six equal cells cost, and what a normal number of variance 3 would: the bound lies lower.": (
            entropy
        ),
        "In nats, please: the natural logarithm.": expected / math.log(2),
        "Nats, please; and in bits that is what six equal cells cost: the bound lies lower.": math.log2(6),
        "The factor ½ is missing.": entropy - 2 * spread,
        "The mean squared error D stands in the logarithm.": entropy - 0.5 * math.log(2 * math.pi * math.e),
        "2πe belongs to the bound.": entropy - 0.5 * math.log(1 / 12),
        "The two have different signs.": entropy + spread,
        "It is no negative number.": -expected,
        "The number lies between 0 and 6, not between 0 and 1.": -spread,
        "That is what six equal cells lose against the bound.": spread,
        "The error is 1/12, not 12.": entropy - 0.5 * math.log(2 * math.pi * math.e * 12),
        "1/12 is a mean square: it is not squared once more.": (
            entropy - 0.5 * math.log(2 * math.pi * math.e / 144)
        ),
        "The entropy of the number is the logarithm of its width, not of its variance.": math.log(3) - spread,
        "An entropy has no factor ½ if it is that of a uniform number.": entropy / 2 - spread,
    }
    hint = (
        "The entropy of the number less that of a normal error with mean square 1/12. Three decimals, please."
    )
    yield Case("0 to 6, error 1/12", lambda: answer, expected, 6e-4, hint, telling(slips, expected))


@grader("ex:vq-moving")
def _moving(answer: Callable[[float, Tensor, Tensor, float], object]) -> Iterator[Case]:
    some = "First the moving count and the moving sum, each with γ; then one over the other. Try no rows at all, too."
    none = "Without rows both averages shrink by γ, and the code stays. (A mean of no rows is NaN.)"
    for seed, n, d, count, gamma in (
        (3, 5, 2, 3.0, 0.8),
        (4, 1, 2, 2.5, 0.99),
        (5, 0, 2, 3.0, 0.9),
        (6, 4, 3, 2.0, 0.0),
        (7, 30, 1, 0.01, 0.5),
        (8, 0, 1, 0.25, 0.5),
    ):
        total, rows = count * normal(seed, d), normal(seed + 10, n, d) + 1
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
            "New rows weigh 1 − γ, in both.": (gamma * total + rows.sum(0)) / (gamma * count + n),
            "The batch counts with as many rows as it has, not once.": (
                gamma * total + (1 - gamma) * rows.mean(0)
            )
            / (gamma * count + 1 - gamma),
            "The sum of the rows, not their mean.": (gamma * total + (1 - gamma) * rows.mean(0)) / new_count,
            "That divides by the rows of this batch: divide by the moving count.": new_total / n
            if n
            else new_total,
            "The old count and sum shrink by γ.": (total + (1 - gamma) * rows.sum(0))
            / (count + (1 - gamma) * n),
            "In the sum, too, new rows weigh 1 − γ.": (gamma * total + rows.sum(0)) / new_count,
            "In the count, too, new rows weigh 1 − γ.": new_total / (gamma * count + n),
            "The batch has as many rows as it has, not one: the count moves by n.": new_total
            / (gamma * count + 1 - gamma),
            "The sum moves too.": total / new_count,
            "That mixes old code and mean, however many rows there are.": gamma * total / count
            + (1 - gamma) * rows.mean(0),
            "That is the mean of the batch: the old rows count too.": rows.mean(0),
            "That is the moving count: the code is asked.": new_count,
            "The count stands below the line.": new_count / new_total,
            "A code has a number for each direction: add up the rows, not the whole table.": (
                gamma * total + (1 - gamma) * rows.sum()
            )
            / new_count,
        }
        slips = {slip: wrong for slip, wrong in telling(slips, expected).items() if not wrong.isnan().any()}
        yield Case(
            f"{n or 'no'} row{'s' * (n != 1)} of {d}, γ = {gamma}",
            asked(answer, count, total.clone(), rows.clone(), gamma),
            expected,
            1e-5,
            some if n else none,
            slips,
        )


@grader("ex:vq-perplexity")
def _perplexity(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    hint = (
        "Shares first, then their entropy in nats, then e to it. A code that was never chosen adds nothing."
    )
    for counts in (
        (5, 1, 3, 11, 2, 0),
        (4, 0, 4, 0),
        (0, 9, 0),
        (7, 7, 7, 7, 7),
        (3,),
        (1, 2000, 0, 30),
    ):
        n = torch.tensor(counts, **EXACT)
        p = n / n.sum()
        entropy = -torch.special.xlogy(p, p).sum()
        expected = entropy.exp()
        slips = {
            "That is the entropy: e to it is asked.": entropy,
            "The entropy is in nats: e to it, not 2 to it.": 2**entropy,
            "The entropy is in bits there: 2 to it, not e to it.": (entropy / math.log(2)).exp(),
            "That is the entropy in bits.": entropy / math.log(2),
            "0 log 0 is NaN as a number: a code that was never chosen adds 0.": (-(p * p.log()).sum()).exp(),
            "That is how many codes were chosen at all.": torch.count_nonzero(n),
            "That is how many codes the book has: how many are in use?": len(n),
            "That is the perplexity of another mean: one over the sum of squares.": 1 / p.square().sum(),
            "The sign is wrong: there are not fewer than one.": (-entropy).exp(),
            "That is minus the entropy: turn the sign, and take e to it.": -entropy,
            "A sum, not a mean over the codes.": (entropy / len(n)).exp(),
            "That is one over the largest share.": 1 / p.max(),
            "That is the share of the book in use: how many codes are that?": expected / len(n),
            "Counts are no shares: divide by their sum.": (-torch.special.xlogy(n, n).sum()).exp(),
            "A share is a count over the sum of all, not a softmax.": (
                torch.special.entr(n.softmax(0)).sum().exp()
            ),
            "One number for the book, not one for each code.": torch.special.entr(p).exp(),
            "Those are the shares: how even are they?": p,
        }
        if 0 not in counts:
            del slips["0 log 0 is NaN as a number: a code that was never chosen adds 0."]
        yield Case(
            f"counts {', '.join(map(str, counts))}",
            asked(answer, n.clone()),
            expected,
            1e-4,
            hint,
            telling(slips, expected),
        )


@grader("ex:vq-slope")
def _slope(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    plain = "How much does each code cost more than the mean, and how often is it drawn?"
    large = "e to such logits is infinite or 0 as a number: softmax takes the largest off before."
    for seed, K, name, scale, atol in (
        (6, 5, "", 1.0, 1e-5),
        (7, 2, "", 1.0, 1e-5),
        (8, 1, "", 1.0, 1e-5),
        (9, 4, "all cost the same", 1.0, 1e-5),
        (10, 4, "costs near 1000", 1.0, 1e-2),
        (11, 6, "logits up to 2000", 2000.0, 1e-4),
    ):
        theta, f = scale * normal(seed, K), 3 * uniform(seed + 10, K)
        if seed == 9:
            f[:] = 2
        if seed == 10:
            f = 1000 + f
        if seed == 11:
            theta = theta.clamp(-2000, 2000)
            theta[:2] = torch.tensor([2000, 1999], **EXACT)
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
            "q multiplies the whole difference, the mean too.": q * f - q @ f,
            "A larger logit makes all other codes rarer: that is the diagonal alone.": q * (1 - q) * f,
            "That is the table of all slopes of q: weigh it with the costs.": torch.diag(q)
            - torch.outer(q, q),
            "That is the slope of the logarithm of the mean cost.": expected / (q @ f),
            "The probabilities come from the logits, not from the costs.": f.softmax(0)
            * (theta - f.softmax(0) @ theta),
            "A code with a larger logit is more likely, not rarer.": (
                (-theta).softmax(0) * (f - (-theta).softmax(0) @ f)
            ),
            "Without the division q does not add up to 1.": theta.exp() * (f - theta.exp() @ f),
        }
        question = f"{K} code{'s' * (K > 1)}" + f", {name}" * bool(name)
        given = asked(answer, theta.clone(), f.clone())
        known = {} if scale > 1 else telling(slips, expected)
        yield Case(question, given, expected, atol, large if scale > 1 else plain, known)


@grader("ex:vq-set")
def _set(answer: Callable[[Tensor], object]) -> Iterator[Case]:
    hint = "log p(x) is the logarithm of a sum over all codes. What of a sum over some of them?"
    for seed, B, m, name in (
        (8, 4, 3, "one near −2000"),
        (9, 2, 1, ""),
        (10, 1, 5, ""),
        (11, 3, 4, "all near −2000"),
        (12, 3, 4, "some codes are impossible"),
        (13, 2, 6, "near 900"),
    ):
        joint = -80 + 2 * normal(seed, B, m)
        if seed == 8:
            joint[0] -= 1920
        if seed == 11:
            joint -= 1920
        if seed == 12:
            joint[:, 1] = -math.inf
        if seed == 13:
            joint += 980
        top = joint.amax(1, keepdim=True)
        share = joint.softmax(1)
        expected = joint.logsumexp(1)
        slips = {
            "No draws, but different codes: nothing is divided by m.": expected - math.log(m),
            "All of them count, not the best alone.": joint.amax(1),
            "That is the worst code of each image.": joint.amin(1),
            "A mean of logarithms is smaller than the logarithm of the sum.": joint.mean(1),
            "That is a bound that weighs all codes alike: a better one follows.": joint.mean(1) + math.log(m),
            "That is a mean with the best weights: their entropy is missing.": (
                (share * torch.where(share > 0, joint, 0.0)).sum(1)
            ),
            "Nothing is multiplied by m either: the sum is the bound.": expected + math.log(m),
            "Add the probabilities, not their logarithms.": joint.sum(1),
            "e to the −2000 is 0 as a number: take the largest out first.": joint.exp().sum(1).log(),
            "The largest that was taken out first is added at the end.": (joint - top).exp().sum(1).log(),
            "In nats, as the numbers that are given.": expected / math.log(2),
            "Those are the shares of the codes.": share,
            "One bound for each image: sum over the codes.": joint.logsumexp(0),
            "The sign is wrong: the logarithm of a probability.": -expected,
            "One bound for each image, not for all.": joint.logsumexp((0, 1)),
            "One bound for each image: no mean over them.": expected.mean(),
            "One bound for each image: they are not added up.": expected.sum(),
        }
        known = {} if seed == 12 else telling(slips, expected)
        images = f"each of {B} images" if B > 1 else "one image"
        question = f"{m} code{'s' * (m > 1)} for {images}" + f", {name}" * bool(name)
        yield Case(question, asked(answer, joint.clone()), expected, 1e-3, hint, known)


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
        "In bits, please: to base 2, not 10.": expected * math.log10(2),
        "In bits, please, and for each colour: that is in nats per pixel.": 3 * expected * math.log(2),
        "That is in nats for a whole image.": 32 * 32 * math.log(512),
        "In bits, please: that is what one code costs in nats.": math.log(512),
        "The other way up: bits over dimensions.": 1 / expected,
        "That is the share of a colour's eight bits: the bits are asked.": expected / 8,
        "It is no negative number.": -expected,
    }
    hint = "How many bits has a code, how many codes an image, and how many dimensions?"
    yield Case("32 × 32 codes of 512", lambda: answer, expected, 6e-4, hint, telling(slips, expected))
