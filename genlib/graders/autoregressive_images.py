"""Graders of the lesson on autoregressive models of images and arithmetic coding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from genlib.checks import Case, _tensor, grader
from genlib.graders._tools import EXACT, asked, normal, telling, uniform


@grader("ex:ai-mask")
def _mask(answer: Callable[[int, bool], object]) -> Iterator[Case]:
    hint = "Number the places row by row, as one reads. Which of them come before the middle?"
    for size, itself in ((5, False), (3, True), (1, False), (1, True), (7, True)):
        place = torch.arange(size**2, device="cpu").view(size, size)
        middle = size // 2
        row, column = place // size, place % size
        centre = (place == size**2 // 2) & itself
        seen = place < size**2 // 2 + itself
        expected = seen.double()
        slips = {
            "The middle itself is 1 only if `itself` is true.": place < size**2 // 2 + (not itself),
            "Rows and columns are exchanged: the first index is the row.": seen.T,
            "Those are the rows below: row 0 is the upper one.": seen.flip(0),
            "In the middle row, what is left of the middle is 1, not what is right of it.": seen.flip(1),
            "That is what comes after the middle.": seen.flip(0, 1),
            "1 is for what is seen, 0 for what is hidden: they are exchanged.": ~seen,
            "The rows above are 1 from end to end, not only on the left.": (
                ((row <= middle) & (column < middle)) | centre
            ),
            "In the middle row, what is left of the middle is 1 too.": (row < middle) | centre,
            "In the middle row, what is right of the middle is 0.": row <= middle,
            "Columns do not count in the rows above (all 1) and below (all 0).": (column < middle) | centre,
            "That is the triangle of a sequence: here the middle of a window looks around.": (
                column < row + itself
            ),
            "The mask has the rows below as well: they are 0.": seen[: middle + 1],
            "The mask is square: (size, size).": seen.flatten(),
            "Nothing is hidden there.": torch.ones_like(seen),
        }
        given = asked(answer, size, itself)
        yield Case(f"size = {size}, itself = {itself}", given, expected, 1e-6, hint, telling(slips, expected))


@grader("ex:ai-field")
def _field(answer: Callable[[int, list[int]], object]) -> Iterator[Case]:
    hint = "How far back does one layer look with its last tap? Layers add that up. How much is it with none?"
    for size, dilations in (
        (3, (1, 3, 20, 2)),
        (2, (1, 2, 4, 8)),
        (5, ()),
        (1, (3, 7)),
        (4, (6,)),
        (3, (1, 1, 1, 1, 1)),
    ):
        far, layers = sum(dilations), len(dilations)
        back = (size - 1) * far
        expected = 1 + back
        taps = (range(0, size * d, d) for d in dilations)
        slips = {
            "The own place counts as well: 1 is missing.": back,
            "That is the sum of the dilations: each layer has size taps.": far,
            "Between size taps there are size − 1 steps; there, each layer counts as if it had 2 taps.": 1
            + far,
            "From the first of size taps to the last there are size − 1 steps; the own place is missing too.": (
                size * far
            ),
            "From the first of size taps to the last there are size − 1 steps, not size.": 1 + size * far,
            "The dilations are missing: taps lie d apart.": 1 + (size - 1) * layers,
            "What layers add is summed, not multiplied.": math.prod(1 + (size - 1) * d for d in dilations),
            "That counts paths: many lead to one input.": size**layers,
            "That is the last layer alone.": 1 + (size - 1) * dilations[-1] if layers else 0,
            "That is the widest layer alone: the others add to it.": (
                1 + (size - 1) * max(dilations) if layers else 0
            ),
            "The own place counts once, not once a layer.": layers + back,
            "With no layer one input is seen, not size of them.": size + back,
            "Causal layers look to one side only.": 1 + 2 * back,
            "The places between two taps count as well.": len({sum(path) for path in product(*taps)}),
        }
        question = f"size = {size}, dilations = {list(dilations)}"
        given = asked(answer, size, list(dilations))
        yield Case(question, given, expected, 1e-6, hint, telling(slips, expected))


@grader("ex:ai-nll")
def _nll(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    plain = "Which axis holds the K levels? At each pixel, take the log-probability of its own level."
    large = "exp of such logits is 0 or infinite as a number: log_softmax takes the largest off before."
    for seed, shape, scale, atol, hint in (
        (1, (3, 4, 4, 4), 1.0, 1e-4, plain),
        (2, (2, 3, 5, 4), 1.0, 1e-4, plain),
        (3, (1, 2, 2, 7), 2.0, 1e-4, plain),
        (4, (4, 1, 1, 2), 1.0, 1e-4, plain),
        (5, (2, 3, 3, 3), 900.0, 1e-2, large),
    ):
        B, H, W, K = shape
        logits, x = scale * normal(seed, *shape), (K * uniform(seed + 20, B, H, W)).long()

        def own(numbers: Tensor, x: Tensor = x) -> Tensor:
            return numbers.gather(-1, x[..., None])[..., 0]

        log_q = logits.log_softmax(-1)
        expected = -own(log_q).sum((1, 2))
        slips = {
            "The pixels of an image add up: that is their mean.": expected / (H * W),
            "Each image has its own number: sum over its pixels, not over the images.": expected.sum(),
            "Each image has its own number: there is no mean over the images.": expected.mean(),
            "Those are the numbers of the pixels: add up those of each image.": -own(log_q),
            "That is the log-likelihood: the sign is missing.": -expected,
            "That is in bits: nats come from the natural logarithm.": expected / math.log(2),
            "Logits are no log-probabilities: scale them so that the probabilities sum to 1.": (
                -own(logits).sum((1, 2))
            ),
            "Those are probabilities: take their logarithms, then the sum.": -own(log_q.exp()).sum((1, 2)),
            "That is the probability of each image, and not −log of it.": (-expected).exp(),
            "The probabilities of the K levels sum to 1 at each pixel: the levels are the last axis.": (
                -own(logits.log_softmax(1)).sum((1, 2))
            ),
            "The levels are the last axis, not the second; a reshape does not move them there.": (
                cross_entropy(logits.reshape(B, K, H, W), x, reduction="none").sum((1, 2))
            ),
            "The most probable levels are not those of x.": -log_q.amax(-1).sum((1, 2)),
            "That is the entropy of the conditionals: where is x?": -(log_q.exp() * log_q).sum((1, 2, 3)),
            "Level 0 has the first logit: the index is one too small.": -own(log_q, (x - 1) % K).sum((1, 2)),
        }
        if H == W:
            slips["Rows and columns of x are exchanged."] = -own(log_q, x.mT).sum((1, 2))
        if H == K == W:
            slips["x chooses along the last axis, that of the levels."] = -log_q.gather(1, x[:, None]).sum(
                (1, 2, 3)
            )
        size = f"{B} images" if B > 1 else "1 image"
        question = f"{size} of {H} × {W} pixels, {K} levels" + (
            ", logits in the hundreds" if seed == 5 else ""
        )
        given = asked(answer, logits.clone(), x.clone())
        yield Case(question, given, expected, atol, hint, telling(slips, expected))


def _logarithm(ask: Callable[[], object]) -> Callable[[], object]:
    """The logarithm of the reply, if it holds numbers."""

    def asked() -> object:
        reply = ask()
        try:
            return _tensor("reply", reply).log()
        except ValueError:
            return reply

    return asked


@grader("ex:ai-logistic")
def _logistic(answer: Callable[[float, float, int], object]) -> Iterator[Case]:
    plain = "Level k has all that lies between k − 1/2 and k + 1/2; the first and the last have all beyond as well."
    above = "Here F rounds to 1 at every edge, and a difference of such numbers is lost. But 1 − F(z) = F(−z) is not."
    below = "Here 1 − F rounds to 1 at every edge, and a difference of such numbers is lost. F itself is not."
    for mu, s, levels, tail in (
        (2.3, 0.8, 6, ""),
        (-0.7, 1.5, 4, ""),
        (7.5, 0.25, 16, ""),
        (3.0, 0.4, 1, ""),
        (-20.0, 0.5, 4, above),
        (31.0, 0.5, 4, below),
    ):
        k = torch.arange(levels, **EXACT)
        edges = k[:-1] + 0.5

        def shares(below: Tensor) -> Tensor:
            """Between open ends, from what lies below each edge."""
            return torch.cat([below.new_zeros(1), below, below.new_ones(1)]).diff()

        z = torch.cat([k[:1] - math.inf, (edges - mu) / s, k[:1] + math.inf])
        log_p = logsigmoid(z[1:]) + logsigmoid(-z[:-1]) + (-torch.expm1(z[:-1] - z[1:])).log()
        p = log_p.exp()
        upto = ((k + 0.5 - mu) / s).sigmoid()
        closed = upto - ((k - 0.5 - mu) / s).sigmoid()
        at = ((k - mu) / s).sigmoid()
        density = at * (1 - at) / s
        slips = {
            "The ends are open: level 0 has all below 1/2, the last level all above its lower edge.": closed,
            "The ends are open: what lies outside goes to the level next to it, and not to all.": (
                closed / closed.sum()
            ),
            "The lower end is open too: level 0 has all below 1/2.": torch.where(k == 0, closed, p),
            "The upper end is open too: the last level has all above its lower edge.": (
                torch.where(k == levels - 1, closed, p)
            ),
            "Rounding goes to the nearest level: the edges lie at k ± 1/2, not at k and k + 1.": (
                shares(((edges + 0.5 - mu) / s).sigmoid())
            ),
            "Rounding goes to the nearest level: the edges lie at k ± 1/2, not at k − 1 and k.": (
                shares(((edges - 0.5 - mu) / s).sigmoid())
            ),
            "That is the density at each level: a level has all between its edges.": density,
            "A density that is scaled to sum 1 is not what lies between the edges.": density / density.sum(),
            "That is what lies below the upper edge: take off what lies below the lower one.": p.cumsum(0),
            "That is what lies below the upper edge, and the last level has no upper edge.": upto,
            "The lower edge is taken off the upper one, not the other way.": -p,
            "Those are logarithms: the probabilities are asked.": log_p,
            "The distance from μ is divided by s, not multiplied.": shares(((edges - mu) * s).sigmoid()),
            "Where is the width s?": shares((edges - mu).sigmoid()),
            "s is no variance: there is no root.": shares(((edges - mu) / math.sqrt(s)).sigmoid()),
            "s is not squared.": shares(((edges - mu) / s**2).sigmoid()),
            "The distance from μ is v − μ: the sign is wrong.": shares(((edges + mu) / s).sigmoid()),
            "Where is the centre μ?": shares((edges / s).sigmoid()),
            "That is a normal variable: F is the logistic function.": (
                shares(torch.special.ndtr((edges - mu) / s))
            ),
            "s is the width in F, not the standard deviation.": (
                shares(((edges - mu) * math.pi / (math.sqrt(3) * s)).sigmoid())
            ),
        }
        many = f"{levels} levels" if levels > 1 else "1 level"
        question = f"μ = {mu}, s = {s}, {many}"
        given = asked(answer, mu, s, levels)
        if tail:
            yield Case(f"log p for {question}", _logarithm(given), log_p, 1e-4, tail)
        else:
            yield Case(question, given, p, 1e-5, plain, telling(slips, p))


@grader("ex:ai-bayes")
def _bayes(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "Bayes' rule in logarithms: what is log p(x, c)? Each image then has a sum over the classes to divide by."
    for seed, C, bases, never in (
        (1, 3, (-1000.0, -2500.0, -900.0), False),
        (2, 2, (-1000.0, -1010.0, -800.0, -1200.0), False),
        (3, 5, (-1000.0,), False),
        (4, 1, (-1000.0, -1300.0), False),
        (5, 4, (-1000.0, -2000.0, -1500.0), True),
    ):
        B = len(bases)
        log_p = torch.tensor(bases, **EXACT)[:, None] + 1.5 * normal(seed, B, C)
        log_prior = (1.5 * normal(seed + 20, C)).log_softmax(0)
        if never:
            log_prior = torch.cat([log_prior.new_tensor([-math.inf]), log_prior[1:].log_softmax(0)])
        joint, prior = log_p + log_prior, log_prior.exp()
        expected = joint.softmax(1)
        off = (joint - joint.max()).exp()
        slips = {
            "The prior is missing.": log_p.softmax(1),
            "That is the prior: where is x?": prior.expand(B, C),
            "The sum to 1 goes over the classes of each image, the second axis.": joint.softmax(0),
            "exp(−1000) is 0 as a number, and 0 / 0 is none: scale the logarithms first.": joint * math.nan,
            "exp(−1000) is 0 as a number. Each row has to sum to 1.": 0 * off,
            "Each image has its own largest logarithm: take that off its row.": off
            / off.sum(1, keepdim=True),
            "Those are the logarithms of what is asked.": joint.log_softmax(1),
            "That is log p(x, c): what is it, given x?": joint,
            "That is log p(x): what divides, not what is asked.": joint.logsumexp(1),
            "The logarithm of the prior is given already: add it.": (log_p + prior).softmax(1),
            "The prior multiplies: its logarithm is added, not taken off.": (log_p - log_prior).softmax(1),
            "Scale after both factors are there: these do not sum to 1.": log_p.softmax(1) * prior,
            "The most probable class has not all of the probability.": (
                joint.argmax(1, keepdim=True) == torch.arange(C, device="cpu")
            ),
            "That is the most probable class: the probabilities of all are asked.": joint.argmax(1),
            "The prior counts once.": (joint + log_prior).softmax(1),
        }
        many = f"{B} images" if B > 1 else "1 image"
        question = f"{many}, {C} classes" if C > 1 else f"{many}, 1 class"
        question += ", one of them with prior 0" if never else ""
        given = asked(answer, log_p.clone(), log_prior.clone())
        yield Case(question, given, expected, 1e-3, hint, telling(slips, expected))


@grader("ex:ai-bits")
def _bits(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    plain = "How wide is the interval of the image? Then ask how small 2^−n must be for it to fit wherever that lies."
    whole = "If −log2 of the width is a whole number, rounding up leaves it as it is."
    certain = "An image that is certain has width 1. What does your rule say of it?"
    long = "The width is too small for a number: add up logarithms."
    dyadic = torch.tensor([0.5, 0.25, 0.125, 0.125], **EXACT)
    for name, q, x, hint in (
        ("9 pixels, 9 levels", (1.5 * normal(10, 9, 9)).softmax(1), (9 * uniform(11, 9)).long(), plain),
        ("5 pixels, probabilities 1/2, 1/4, 1/8 and 1/8", dyadic.repeat(5, 1), [1, 0, 3, 0, 2], whole),
        ("1 pixel, 2 levels", torch.tensor([[0.3, 0.7]], **EXACT), [1], plain),
        ("3 pixels, all certain", torch.eye(3, **EXACT), [0, 1, 2], certain),
        ("1600 pixels, 5 levels", normal(9, 1600, 5).softmax(1), (5 * uniform(10, 1600)).long(), long),
    ):
        x = torch.as_tensor(x, device="cpu")
        L, K = q.shape
        own = q.gather(1, x[:, None])[:, 0]
        cost = -own.log2()
        total = cost.sum().item()
        expected = math.ceil(total) + 1
        entropy = torch.special.entr(q).sum().item() / math.log(2)
        slips = {
            "That is one bit too few: round up, and add one, for all of the file's interval must fit.": (
                math.ceil(total)
            ),
            "Round up, not down, and add one.": math.floor(total),
            "Bits are whole: round up before the one is added.": total + 1,
            "That is −log2 of the width: which whole number of bits is enough?": total,
            "Bits come from the logarithm of base 2: those are nats.": math.ceil(total * math.log(2)) + 1,
            "One interval serves the whole image: round up once, not at each pixel.": cost.ceil().sum() + 1,
            "One interval serves the whole image: round up once, not at each pixel. One bit is missing too.": (
                cost.ceil().sum()
            ),
            "The file is one for all pixels: the last bit is paid once.": (cost.ceil() + 1).sum(),
            "Logarithms add up: that is their mean.": math.ceil(total / L) + 1,
            "Probabilities multiply, so their logarithms add up; that is the logarithm of a sum.": (
                math.ceil(-math.log2(own.sum())) + 1
            ),
            "A logarithm of a probability is negative: the sign is missing.": math.ceil(-total) + 1,
            "That is what K levels cost that are all equally probable.": math.ceil(L * math.log2(K)) + 1,
            "That is what is expected before x is known.": math.ceil(entropy) + 1,
            "That takes all levels: only the level that is there counts.": math.ceil(-q.log2().sum()) + 1
            if q.all()
            else math.inf,
            "That is in bytes.": math.ceil(expected / 8),
        }
        if name.startswith("9"):
            swapped = q[x, torch.arange(L, device="cpu")]
            slips |= {
                "Row t of q belongs to pixel t, and its level is the column: they are exchanged.": (
                    math.ceil(-swapped.log2().sum()) + 1
                ),
                "Each pixel has its own row of q: q[:, x] takes all rows for each.": (
                    math.ceil(-q[:, x].log2().sum()) + 1
                ),
            }
        given = asked(answer, q.clone(), x.clone())
        yield Case(name, given, expected, 1e-6, hint, telling(slips, expected))


@grader("ex:ai-narrow")
def _narrow(answer: Callable[[float, float, Tensor, int], object]) -> Iterator[Case]:
    hint = "Cut the interval into K parts, one for each symbol in its order. Where does part k begin, how wide is it?"
    for low, width, q, k in (
        (0.3, 0.4, (0.13, 0.28, 0.25, 0.14, 0.2), 2),
        (0.0, 1.0, (0.4, 0.1, 0.3, 0.2), 0),
        (0.6, 0.05, (0.5, 0.2, 0.3), 2),
        (0.125, 0.5, (1.0,), 0),
        (0.4, 0.2, (0.0, 0.55, 0.0, 0.45), 3),
    ):
        before, own = sum(q[:k]), q[k]
        upto = before + own
        start, part = low + width * before, width * own
        expected = (start, part)
        slips = {
            "The second number is the width, not the upper end.": (start, start + part),
            "The part of k begins where the symbols before it end: its own is not added.": (
                start + part,
                part,
            ),
            "The part begins after all symbols before k: their probabilities add up.": (low + part, part),
            "The sum is a share of the interval: multiply it by the width.": (low + before, part),
            "The old lower end is missing.": (width * before, part),
            "The lower end moves by what the symbols before k take.": (low, part),
            "The width shrinks to the share of k.": (start, width),
            "The share of k is one of the interval: multiply it by the width.": (start, own),
            "The width is that of k alone, without the symbols before it.": (start, width * upto),
            "Symbol 0 lies at the lower end: the order is turned around.": (low + width * (1 - upto), part),
            "The lower end comes first, then the width.": (part, start),
            "That is the lower end alone: the width is asked as well.": start,
            "That is the width alone: the lower end is asked as well.": part,
            "Symbols count from 0: that is one too small.": (
                (low + width * sum(q[: k - 1]), width * q[k - 1]) if k else (math.inf, math.inf)
            ),
            "Only the sum is multiplied by the width, the lower end is not.": ((low + before) * width, part),
        }
        question = f"low = {low}, width = {width}, q = {list(q)}, k = {k}"
        given = asked(answer, low, width, torch.tensor(q, **EXACT), k)
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))
