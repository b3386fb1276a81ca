"""Graders of the lesson on Boltzmann machines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import pairwise, product

import torch
from torch import Tensor
from torch.nn.functional import softplus

from genlib.checks import Case, _tensor, grader
from genlib.graders._tools import EXACT, asked, normal, telling, uniform


def _symmetric(seed: int, size: int) -> Tensor:
    """Normal numbers W_ij = W_ji, with 0 on the diagonal."""
    upper = normal(seed, size, size).triu(1)
    return upper + upper.T


def _bits(seed: int, *shape: int) -> Tensor:
    return (uniform(seed, *shape) < 0.5).double()


def _stacked(ask: Callable[[], object]) -> Callable[[], object]:
    """The reply, as one table if it is a pair of a table and a row."""

    def asked() -> object:
        reply = ask()
        if isinstance(reply, tuple | list) and len(reply) == 2:
            try:
                return torch.cat([torch.atleast_2d(_tensor("reply", part)) for part in reply])
            except (ValueError, RuntimeError):
                return reply
        return reply

    return asked


@grader("ex:bm-spins")
def _spins(answer: Callable[[Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "Put in s = 2x − 1 and sort: what stands with two bits, and what with a single one?"
    for seed, D, coupled, field in ((1, 4, 1, 1), (2, 3, 1, 0), (3, 5, 0, 1), (4, 1, 1, 1), (5, 7, 0.3, 2)):
        J, f = coupled * _symmetric(seed, D), field * normal(seed + 20, D)

        def energy(*on: int, J: Tensor = J, f: Tensor = f) -> Tensor:
            """Of the spins, where those alone are up."""
            s = -torch.ones_like(f)
            s[list(on)] = 1
            return -(s @ J @ s) / 2 - f @ s

        def both(W: Tensor, b: Tensor) -> Tensor:
            return torch.cat([W, b[None]])

        W, b = torch.zeros_like(J), torch.zeros_like(f)
        for i in range(D):
            b[i] = energy() - energy(i)
            for j in set(range(D)) - {i}:
                W[i, j] = energy(i) + energy(j) - energy(i, j) - energy()
        partners = J.sum(1)
        expected = both(W, b)
        slips = {
            "Spins are coupled, so single bits also get something from each partner.": both(W, 2 * f),
            "The outer field is missing.": both(W, -2 * partners),
            "s = 2x − 1: the outer field counts twice.": both(W, f - 2 * partners),
            "What the partners add has the other sign.": both(W, 2 * f + 2 * partners),
            "Bit 1 is the spin 1: the field has the other sign.": both(W, -2 * f - 2 * partners),
            "In b the half is forgotten: each pair stands twice in the sum.": both(W, 2 * f - 4 * partners),
            "Each pair stands twice in the sum, which undoes the half: in b a factor 2 is missing.": (
                both(W, 2 * f - partners)
            ),
            "Each unit has its own partners: that is the sum over all pairs.": both(W, 2 * f - 2 * J.sum()),
            "Both spins are doubled: W gets 2 from each of them.": both(2 * J, b),
            "W has a half in front as well: it is not halved or doubled on its own.": both(8 * J, b),
            "Couplings are not the same for spins and bits: only b is changed.": both(J, b),
            "W has the sign of J: likes stay likes.": both(-W, b),
            "W is symmetric: each pair stands on both sides.": both(W.triu(), b),
            "That is the way from bits to spins.": both(J / 4, f / 2 + partners / 4),
            "Those are J and f as they were.": both(J, f),
            "W comes first, then b.": torch.cat([b[None], W]),
            "That is W alone: b is asked as well.": W,
            "That is b alone: W is asked as well.": b,
        }
        units = f"{D} units" if D > 1 else "1 unit"
        question = f"{units}{'' if field else ', no field'}{'' if coupled else ', no couplings'}"
        given = _stacked(asked(answer, J.clone(), f.clone()))
        question += ", W with b as its last row"
        yield Case(question, given, expected, 1e-5, hint, telling(slips, expected))


@grader("ex:bm-flip")
def _flip(answer: Callable[[Tensor, int, Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "Which terms of the energy hold this unit? Is it turned on or off?"
    for seed, D, i, on in ((1, 6, 2, 1), (2, 5, 0, 0), (3, 1, 0, 1), (4, 4, 3, 0), (5, 40, 17, 1)):
        W, b, x = _symmetric(seed, D), normal(seed + 20, D), _bits(seed + 40, D)
        x[i] = on
        if seed == 4:
            x[:] = 0

        def energy(x: Tensor, W: Tensor = W, b: Tensor = b) -> Tensor:
            return -(x @ W @ x) / 2 - b @ x

        y = x.clone()
        y[i] = 1 - on
        turn = 2 * on - 1
        told = W[i] @ x
        expected = energy(y) - energy(x)
        slips = {
            "The sign is wrong: what speaks for a unit lowers the energy if it is turned on.": -expected,
            "The own liking b is missing.": turn * told,
            "The others are missing.": turn * b[i],
            "Each pair stands twice in the sum, which undoes the half.": turn * (told / 2 + b[i]),
            "Each pair counts once: the sum has a half in front.": turn * (2 * told + b[i]),
            "A bit changes by 1; only a spin changes by 2.": 2 * expected,
            "Being turned off is a change as well: the new value 0 has hidden it.": (
                (on - 1) * (told + b[i])
            ),
            "That is the energy afterwards: take off the energy before.": energy(y),
            "That is the energy before: where is the change?": energy(x),
            "That is the change for every unit: one is asked.": (2 * x - 1) * (W @ x + b),
            "Partners count only if they are on.": turn * (W[i].sum() + b[i]),
            "Only the unit's own b changes anything.": turn * (told + b @ x),
            "Units count from 0: that is the one before.": (2 * x[i - 1] - 1) * (W[i - 1] @ x + b[i - 1]),
            "That is a chance: the change of energy is asked.": expected.neg().sigmoid(),
            "That is the factor by which the probability changes: its logarithm is minus the change.": (
                expected.neg().exp()
            ),
        }
        units = f"{D} units" if D > 1 else "1 unit"
        question = f"{units}, unit {i} is {'on' if on else 'off'}" + ", and so are all others" * (seed == 4)
        given = asked(answer, x.clone(), i, W.clone(), b.clone())
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:bm-cosh")
def _cosh(answer: Callable[[Tensor, Tensor, Tensor, Tensor], object]) -> Iterator[Case]:
    plain = "Sum e^−E over both values of one hidden unit. What is the logarithm of that sum?"
    large = "cosh of such a number is infinite: take the larger of both exponents out of the sum before."
    for seed, B, D, H, scale, atol, hint in (
        (1, 3, 4, 4, 1.0, 1e-4, plain),
        (2, 5, 3, 6, 1.0, 1e-4, plain),
        (3, 1, 2, 1, 2.0, 1e-4, plain),
        (4, 4, 1, 3, 0.0, 1e-4, plain),
        (5, 3, 4, 2, 500.0, 1e-2, large),
    ):
        W, b, c = scale * normal(seed, D, H), normal(seed + 20, D), scale * normal(seed + 40, H)
        v = _bits(seed + 60, B, D)
        h = torch.tensor(list(product([-1, 1], repeat=H)), **EXACT)
        expected = -(v @ W @ h.T + (v @ b)[:, None] + h @ c).logsumexp(1)
        a, own = v @ W + c, -(v @ b)
        both = torch.logaddexp(a, -a)
        slips = {
            "That is for hidden bits: the other value is −1, not 0.": own - softplus(a).sum(1),
            "The sum of both is twice the cosh.": own - (both - math.log(2)).sum(1),
            "Each hidden unit has its own factor 2.": own - (both - math.log(2)).sum(1) - math.log(2),
            "What speaks for v lowers its energy: the sign of b is wrong.": -own - both.sum(1),
            "The visible units have a bias b as well.": -both.sum(1),
            "The hidden units have a bias c as well.": (
                own - torch.logaddexp(v @ W, -(v @ W)).sum(1) if scale else math.inf * own
            ),
            "That is the logarithm of the sum: the free energy is minus that.": -expected,
            "The hidden units lower the energy: the sign of their part is wrong.": own + both.sum(1),
            "That is the best state of the hidden units alone: the others add to the sum.": (
                own - a.abs().sum(1)
            ),
            "Taking e^−a out of the sum leaves 1 + e^2a, and −a in front.": own - softplus(2 * a).sum(1),
            "Taking e^|a| out of the sum leaves |a| in front.": own - softplus(-2 * a.abs()).sum(1),
            "Each hidden unit has its own sum: the logarithms add up, not what is in them.": (
                own - torch.logaddexp(a.sum(1), -a.sum(1))
            ),
            "The hidden units add up: that is their mean.": own - both.mean(1),
            "The hidden units have to be summed away: there is one number for each v.": own[:, None] - both,
            "Each v has its own free energy: sum over the hidden units alone.": expected.sum(),
            "The logarithm of the sum is missing.": own - 2 * a.clamp(-20, 20).cosh().sum(1),
            "That is the mean energy: the entropy of the hidden units is missing.": own
            - (a * a.tanh()).sum(1),
            "That is e^−F: its logarithm is asked, with a minus.": (-expected).exp(),
        }
        if D == H:
            slips["Rows of W belong to visible units, columns to hidden ones."] = own - torch.logaddexp(
                v @ W.T + c, -(v @ W.T + c)
            ).sum(1)
        many = f"{B} states" if B > 1 else "1 state"
        question = f"{many}, {D} visible and {H} hidden" + {0.0: ", W and c are 0", 500.0: ", large W"}.get(
            scale, ""
        )
        given = asked(answer, v.clone(), W.clone(), b.clone(), c.clone())
        known = telling(slips, expected) if hint is plain else {}
        yield Case(question, given, expected, atol, hint, known)


@grader("ex:bm-normal")
def _normal(answer: Callable[[Tensor, Tensor, Tensor], object]) -> Iterator[Case]:
    hint = "Given h, the energy is a parabola in each v. Complete the square: where is its lowest point?"
    for seed, B, D, H in ((1, 3, 4, 4), (2, 5, 2, 3), (3, 1, 3, 1), (4, 4, 1, 2), (5, 2, 6, 5)):
        W, b, h = normal(seed, D, H), normal(seed + 20, D), _bits(seed + 40, B, H)
        if seed == 4:
            h[:] = 0
        x = torch.linspace(-20, 20, 4001, **EXACT)
        told = h @ W.T
        log_p = -((x - b[:, None]) ** 2) / 2 + told[..., None] * x  # (B, D, 4001)
        expected = log_p.softmax(-1) @ x
        slips = {
            "v is a real number, no coin: there is no σ in its mean.": expected.sigmoid(),
            "b is what v is with all hidden units off: it is missing.": told,
            "That is b alone: where is h?": b.expand(B, D),
            "The hidden units pull v along: the sign of W is wrong.": b - told,
            "b is where v rests, not what it is drawn away from.": told - b,
            "In the square, the mixed part has a factor 2, which undoes the half.": b + told / 2,
            "The mixed part of the square has a factor 2, the energy a half: no factor is left.": (
                b + 2 * told
            ),
            "v is pulled by W h itself: σ is for coins.": b + told.sigmoid(),
            "v may be as large as it likes: there is no tanh.": expected.tanh(),
            "b and W h add up.": b * told,
            "b and W h add up: that is their mean.": expected / 2,
            "Only hidden units that are on pull.": (b + W.sum(1)).expand(B, D),
            "Each h has its own mean of v.": expected.mean(0),
            "A row for each h: (B, D).": expected.T,
            "v has a mean of its own in each of D places.": expected.sum(1),
        }
        if D == H:
            slips["Rows of W belong to visible units: W has to be transposed."] = b + h @ W
        many = f"{B} states" if B > 1 else "1 state"
        question = f"{many}, {D} visible and {H} hidden" + ", all of them off" * (seed == 4)
        given = asked(answer, h.clone(), W.clone(), b.clone())
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:bm-cd")
def _cd(answer: Callable[[Tensor, Tensor, Tensor, Tensor], object]) -> Iterator[Case]:
    hint = (
        "Differentiate the free energy: what is its slope in one weight? Take means over data and over walks."
    )
    for seed, B, D, H, name in (
        (1, 5, 3, 3, ""),
        (2, 4, 2, 5, ""),
        (3, 1, 4, 2, ""),
        (4, 3, 3, 4, "the walks stand at the data"),
        (5, 6, 5, 1, "a weight of 1000"),
    ):
        W, c = normal(seed, D, H), normal(seed + 20, H)
        v, w = _bits(seed + 40, B, D), _bits(seed + 60, B, D)
        if seed == 4:
            w = v.flip(0)
        if seed == 5:
            W[0] = 1000

        h = torch.tensor(list(product([0, 1], repeat=H)), **EXACT)

        def mean(v: Tensor, W: Tensor = W, c: Tensor = c, h: Tensor = h) -> Tensor:
            """Of the products of visible and hidden units, over all states of the hidden ones."""
            return v.T @ ((v @ W + c) @ h.T).softmax(1) @ h / len(v)

        expected = mean(v) - mean(w)
        tell, told = v @ W + c, w @ W + c
        up, down = tell.sigmoid(), told.sigmoid()
        slips = {
            "The energy is lowered at the data and raised at the walks: the sign is wrong.": -expected,
            "Take means over the examples, not sums.": v.T @ up - w.T @ down,
            "The walks are missing.": v.T @ up / B,
            "The data are missing.": -(w.T @ down) / B,
            "Both parts are added: the walks are taken off.": (v.T @ up + w.T @ down) / B,
            "Each walk has hidden units of its own: those are of the data.": (v - w).T @ up / B,
            "The data have hidden units of their own: those are of the walks.": (v - w).T @ down / B,
            "Hidden units and walks are exchanged.": (v.T @ down - w.T @ up) / B,
            "Products first, then the mean: not a product of means.": (
                v.mean(0)[:, None] * up.mean(0) - w.mean(0)[:, None] * down.mean(0)
            ),
            "A hidden unit is on with a chance: σ is missing.": (v.T @ tell - w.T @ told) / B,
            "The chance itself counts, not whether it is above a half.": (
                (v.T @ (tell > 0).double() - w.T @ (told > 0).double()) / B
            ),
            "Hidden units are bits, not spins: σ, not tanh.": (v.T @ tell.tanh() - w.T @ told.tanh()) / B,
            "The hidden units have a bias c.": (v.T @ (v @ W).sigmoid() - w.T @ (w @ W).sigmoid()) / B,
            "That is the step for c.": (up - down).mean(0),
            "That is the step for b.": (v - w).mean(0),
            "Each pair of units stands once in W: there is no half.": expected / 2,
            "Rows belong to visible units, columns to hidden ones: (D, H).": expected.T,
        }
        if D == H:
            off = (v @ W.T + c).sigmoid(), (w @ W.T + c).sigmoid()
            slips["A hidden unit hears v W, not W v."] = (v.T @ off[0] - w.T @ off[1]) / B
        size = f"{B} examples" if B > 1 else "1 example"
        question = f"{size}, {D} visible and {H} hidden" + f", {name}" * bool(name)
        given = asked(answer, v.clone(), w.clone(), W.clone(), c.clone())
        yield Case(question, given, expected, 1e-4, hint, telling(slips, expected))


@grader("ex:bm-weigh")
def _weigh(answer: Callable[[Tensor, float], object]) -> Iterator[Case]:
    plain = (
        "Each walk has a weight: a product. The mean of the weights is without bias; then take the logarithm."
    )
    large = "exp of such a sum is 0 or infinite as a number: take the largest out before."
    for seed, K, B, log_Z0, level, atol, hint in (
        (1, 4, 6, 5.3, 0.3, 1e-4, plain),
        (2, 3, 3, -2.0, 0.0, 1e-4, plain),
        (3, 7, 1, 1.5, 0.0, 1e-4, plain),
        (4, 1, 5, 0.7, 1.0, 1e-4, plain),
        (5, 10, 4, 30.0, 100.0, 1e-2, large),
        (6, 10, 8, 40.0, -100.0, 1e-2, large),
    ):
        changes = level + normal(seed, K, B)
        log_w = changes.sum(0)
        expected = log_Z0 + reduce(torch.logaddexp, log_w) - math.log(B)
        mean = log_w.mean()
        slips = {
            "That is the mean of the logarithms, which is too low: the weights have to be averaged.": (
                log_Z0 + mean
            ),
            "The weights are averaged, not summed: divide by the number of walks.": expected + math.log(B),
            "Divide by the number of walks, not of steps.": expected + math.log(B) - math.log(K),
            "Divide by the number of walks alone: the steps of one walk are multiplied.": (
                expected - math.log(K)
            ),
            "The first constant is missing: the weights tell the ratio.": expected - log_Z0,
            "The weights tell Z over the first one: its logarithm is added.": expected - 2 * log_Z0,
            "The logarithm of the first constant is given already.": (
                expected - log_Z0 + math.log(log_Z0) if log_Z0 > 0 else math.inf
            ),
            "The changes are E before less E after already: their sign stays.": (
                log_Z0 + (-log_w).logsumexp(0) - math.log(B)
            ),
            "That is the bound from walks down, for weights the other way.": (
                log_Z0 - (-log_w).logsumexp(0) + math.log(B)
            ),
            "The steps of a walk follow along the first axis, the walks along the second.": (
                log_Z0 + changes.sum(1).logsumexp(0) - math.log(K)
            ),
            "Each walk keeps its weight to the end: do not average at each step.": (
                log_Z0 + (changes.logsumexp(1) - math.log(B)).sum()
            ),
            "The changes of one walk are added up first.": log_Z0
            + changes.flatten().logsumexp(0)
            - math.log(B),
            "The changes of one walk are added up, not averaged.": (
                log_Z0 + changes.mean(0).logsumexp(0) - math.log(B)
            ),
            "That is the best walk alone.": log_Z0 + log_w.max(),
            "That is right if logarithms are normal: take the mean of the weights themselves.": (
                log_Z0 + mean + log_w.var(correction=0) / 2
            ),
            "That is Z itself: its logarithm is asked.": expected.exp(),
            "Each walk has its own estimate: one from all is asked.": log_Z0 + log_w,
            "The division comes before the logarithm.": log_Z0 + log_w.logsumexp(0) / B,
        }
        walks = f"{B} walks" if B > 1 else "1 walk"
        steps = f"{K} steps" if K > 1 else "1 step"
        question = f"{walks} of {steps}, log Z0 = {log_Z0}" + ", large changes" * (abs(level) > 50)
        given = asked(answer, changes.clone(), log_Z0)
        known = telling(slips, expected) if hint is plain else {}
        yield Case(question, given, expected, atol, hint, known)


@grader("ex:bm-layers")
def _layers(answer: Callable[[list[int]], object]) -> Iterator[Case]:
    plain = "Fold it: which layers stand on one side, which on the other? Either side may be listed."
    alone = "Units of one layer are not tied to each other: with one layer, what must be listed?"
    for sizes, hint in (
        ((20, 7, 22, 25, 5, 31), plain),
        ((64, 12, 12), plain),
        ((5, 9), plain),
        ((8, 30, 6, 7, 9), plain),
        ((7,), alone),
        ((10, 10, 10, 10), plain),
    ):
        sides: list[list[int]] = [[], []]
        for depth, size in enumerate(sizes):
            sides[depth % 2].append(size)
        expected, other = sorted(map(sum, sides))
        total = sum(sizes)
        # Any choice of layers with none left beside another.
        chosen = (
            sum(size for size, taken in zip(sizes, choice, strict=True) if taken)
            for choice in product([0, 1], repeat=len(sizes))
            if all(a or b for a, b in pairwise(choice))
        )
        slips = {
            "List the smaller side.": other,
            "One side can be summed away: not all units must be listed.": total,
            "Both sides have more than one layer: the first one alone is no side.": sizes[0],
            "All hidden layers together are no side: neighbours are tied to each other.": total - sizes[0],
            "That is the smallest layer: the others of its side must be listed, too.": min(sizes),
            "That is without the largest layer: all others of its side are summed away, too.": (
                total - max(sizes)
            ),
            "Only the first two layers are looked at.": min(sizes[:2]) if len(sizes) > 1 else math.inf,
            "That lists half of the layers, the smallest ones: some of the others are neighbours.": (
                sum(sorted(sizes)[: len(sizes) // 2])
            ),
            "That lists some neighbours as well. It is fewer, but here every second layer is listed.": (
                min(chosen)
            ),
            "That is how many states: the number of units is asked.": 2.0**expected,
            "The visible layer is the first one, not the last: which layers stand on its side?": sizes[-1],
            "That is the number of layers on one side: count their units.": len(sizes) // 2,
            "That is half of all units: the sides differ.": total / 2,
            "Layers lie side by side: their units add up.": min(map(math.prod, sides)),
        }
        given = asked(answer, list(sizes))
        known = telling(slips, expected) if len(sizes) > 1 else {}
        yield Case(f"sizes = {list(sizes)}", given, expected, 1e-6, hint, known)
