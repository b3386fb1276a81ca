"""Checks that a reader can see: equations that are run, and exercises that are graded.

`verify` stands behind every displayed equation of the book, `claim` behind every measured statement, and `grade` behind
every exercise.
"""

from __future__ import annotations

import importlib
import numbers
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
import torch
from IPython import get_ipython
from IPython.display import display
from torch import Tensor

Relation = Literal["==", "<=", ">="]


def verify(
    label: str,
    left: object,
    right: object,
    *,
    atol: float = 1e-10,
    rtol: float = 0.0,
    relation: Relation = "==",
) -> None:
    """Assert that both sides of an equation agree, |left − right| ≤ atol + rtol |right|, and say so in one line.

    The line is the same on every machine. What differs from machine to machine, the largest deviation found, travels
    in the metadata of the output; the book's ledger is made from it.

    Args:
        label: of the equation, ``eq:…``.
        left, right: numbers, arrays or tensors of one shape, or a single number on one side.
        atol, rtol: absolute and relative tolerance.
        relation: "==" for an equation, "<=" or ">=" for a bound, which may be missed by the tolerance.

    Raises:
        AssertionError: the sides do not agree, or hold NaN. The message shows the worst place.
        ValueError: a label without ``eq:``, shapes that differ, nothing to compare, a bad tolerance or relation.
    """
    if not isinstance(label, str) or not label.startswith("eq:") or label == "eq:":
        raise ValueError(f"label must be 'eq:' and a name, got {label!r}")
    if relation not in ("==", "<=", ">="):
        raise ValueError(f"relation must be '==', '<=' or '>=', got {relation!r}")
    if not all(isinstance(size, numbers.Real) and 0 <= size < float("inf") for size in (atol, rtol)):
        raise ValueError(f"atol and rtol must be finite and not negative, got {atol!r} and {rtol!r}")
    a, b = _sides(left, right)
    excess = _excess(a, b, relation)
    allowed = atol + rtol * torch.where(b.isinf(), 0.0, b.abs())
    bad = ~(excess <= allowed)  # true for NaN as well
    if bad.any():
        worst = int(torch.where(bad, excess.nan_to_num(nan=torch.inf), -1.0).argmax())
        raise AssertionError(
            f"{label} does not hold at {int(bad.sum())} of {a.numel()} places. The worst is number {worst}: "
            f"left {a[worst].item():.10g}, right {b[worst].item():.10g}, "
            f"off by {excess[worst].item():.3g} where {allowed[worst].item():.3g} is allowed"
        )
    margin = " + ".join(f"{size:g}{kind}" for size, kind in ((atol, ""), (rtol, " relative")) if size)
    many = f"{a.numel()} pairs" if a.numel() > 1 else "both sides"
    verb = "agree" if relation == "==" else f"keep left {'≤' if relation == '<=' else '≥'} right"
    record = {
        "label": label,
        "relation": relation,
        "count": a.numel(),
        "deviation": excess.max().item(),
        "atol": atol,
        "rtol": rtol,
    }
    _show(f"{label} holds: {many} {verb}, {f'within {margin}' if margin else 'exactly'}", record)


def claim(statement: str, holds: object) -> None:
    """Print "statement: yes", or fail: for what is measured, where a figure would differ from machine to machine.

    Args:
        statement: what is claimed, in words and with its margin.
        holds: whether it does: a bool, or an array or tensor that holds one.

    Raises:
        AssertionError: it does not hold.
        ValueError: `holds` is no truth value, such as NaN or a text.
    """
    truth = np.asarray(holds.detach().cpu() if isinstance(holds, Tensor) else holds)
    if truth.dtype != bool or truth.size != 1:
        raise ValueError(f"holds must be true or false, got {holds!r}")
    if not truth.item():
        raise AssertionError(f"{statement}: no")
    _say(f"{statement}: yes")


class Case(NamedTuple):
    """One question of a grader.

    Attributes:
        question: what is asked, in words.
        ask: returns the reader's answer to it.
        expected: the right answer, a number or a tensor.
        atol: how far the answer may be off.
        hint: shown instead of the right answer when the answer is wrong.
        slips: common mistakes: what to say → the wrong answer that gives it away.
    """

    question: str
    ask: Callable[[], object]
    expected: object
    atol: float = 1e-6
    hint: str = ""
    slips: Mapping[str, object] = MappingProxyType({})


Grader = Callable[[object], Iterator[Case]]
_graders: dict[str, Grader] = {}


def grader(label: str) -> Callable[[Grader], Grader]:
    """Register the grader of an exercise: a function from the reader's answer to cases.

    Raises:
        ValueError: the label does not begin with ``ex:`` or has a grader already.
    """
    if not isinstance(label, str) or not label.startswith("ex:"):
        raise ValueError(f"label must begin with 'ex:' and be new, got {label!r}")

    def register(function: Grader) -> Grader:
        known = _graders.get(label, function)
        if known.__module__ != function.__module__:  # a module that is loaded again replaces its own
            raise ValueError(f"label must begin with 'ex:' and be new, got {label!r}")
        _graders[label] = function
        return function

    return register


def grade(label: str, answer: object) -> None:
    """Tell the reader whether the answer to an exercise is right, and if not, where it fails.

    Args:
        label: of the exercise, ``ex:…``.
        answer: a number, a tensor or a function, as the exercise asks; ``...`` while there is none.

    Raises:
        ValueError: no exercise has this label.
    """
    if label not in _graders:
        homes = _homes()
        if label not in homes:
            raise ValueError(f"label must be one of {', '.join(sorted({*homes, *_graders}))}, got {label!r}")
        importlib.import_module(homes[label])
    _say(f"{label}: {_verdict(_graders[label], answer)}")


def _homes() -> dict[str, str]:
    """Label → module of each grader that comes with the book, read from the sources: none of them is imported."""
    import genlib.graders

    found = {}
    for finder, name, _ in pkgutil.iter_modules(genlib.graders.__path__, "genlib.graders."):
        source = finder.find_spec(name).loader.get_source(name)
        found |= dict.fromkeys(re.findall(r'^@grader\("(ex:[^"]+)"\)', source, flags=re.M), name)
    return found


def _verdict(questions: Grader, answer: object) -> str:
    """Return "no answer yet", "right" or "not yet" with the first case that fails."""
    if answer is None or answer is ...:
        return "no answer yet"
    count = 0
    for case in questions(answer):
        try:
            got = case.ask()
        except NotImplementedError:
            return "no answer yet"
        except Exception as error:
            return f"not yet. {case.question}: the answer raised {type(error).__name__}: {error}"
        if got is None or got is ...:
            return "no answer yet" + ": the function returns nothing" * callable(answer)
        if not _matches(got, case.expected, case.atol):
            return f"not yet. {case.question}: got {_short(got)}. {_advice(case, got)}"
        count += 1
    return "right" if count == 1 else f"right, in all {count} cases"


def _advice(case: Case, got: object) -> str:
    """Name the mistake if it is a common one, else give the hint or the right answer."""
    for slip, wrong in case.slips.items():
        if _matches(got, wrong, case.atol, equal_nan=True):
            return slip
    try:
        shape = _tensor("got", got).shape
    except ValueError:
        return f"The answer must hold numbers, of shape {tuple(np.shape(case.expected))}."
    if shape != np.shape(case.expected):
        return f"The shape must be {tuple(np.shape(case.expected))}, not {tuple(shape)}."
    return case.hint or f"Right: {_short(case.expected)}."


def _matches(got: object, expected: object, atol: float, *, equal_nan: bool = False) -> bool:
    """Return whether an answer has the right shape and values; infinities must be equal."""
    try:
        a, b = _tensor("got", got), _tensor("expected", expected)
    except ValueError:
        return False
    return a.shape == b.shape and bool(torch.isclose(a, b, 0.0, atol, equal_nan).all())


def _short(value: object) -> str:
    """Print a number or a small tensor with four digits, anything else by its shape or type."""
    try:
        tensor = _tensor("value", value)
    except ValueError:
        return f"an object of type {type(value).__name__}"
    if tensor.ndim == 0:
        return f"{tensor.item():.4g}"
    if tensor.ndim > 1 or tensor.numel() > 8:
        return f"a tensor of shape {tuple(tensor.shape)}"
    return "[" + ", ".join(f"{number:.4g}" for number in tensor.tolist()) + "]"


def _sides(left: object, right: object) -> tuple[Tensor, Tensor]:
    """Return both sides as flat float64 tensors of one length."""
    a, b = _tensor("left", left), _tensor("right", right)
    if a.shape != b.shape and a.numel() != 1 and b.numel() != 1:
        raise ValueError(f"left and right must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    if 0 in (a.numel(), b.numel()):
        raise ValueError(
            f"left and right must not be empty, got shapes {tuple(a.shape)} and {tuple(b.shape)}"
        )
    size = max(a.numel(), b.numel())
    return a.flatten().expand(size), b.flatten().expand(size)


def _excess(a: Tensor, b: Tensor, relation: Relation) -> Tensor:
    """By how much each pair misses the relation; equal infinities miss it by 0."""
    gap = {"==": (a - b).abs(), "<=": a - b, ">=": b - a}[relation]
    return torch.where(a == b, 0.0, gap).clamp(min=0)


def _tensor(name: str, value: object) -> Tensor:
    """Return numbers as a float64 tensor on the CPU, whatever torch's default dtype and device are."""
    if isinstance(value, Tensor) and value.is_complex():
        raise ValueError(f"{name} must hold real numbers, got dtype {value.dtype}")
    if isinstance(value, np.ndarray):
        value = value.copy()  # torch refuses a reversed array, and warns of one that is read-only
    try:
        if isinstance(value, Tensor) and value.layout != torch.strided:
            value = value.to_dense()
        return torch.as_tensor(value, dtype=torch.float64, device="cpu").detach()
    except Exception as error:  # whatever an object raises that is asked for its numbers
        raise ValueError(f"{name} must hold numbers, got {type(value).__name__}") from error


def _show(line: str, record: dict[str, object]) -> None:
    """Print the line; in a notebook, keep the record in the metadata of the output."""
    if get_ipython() is None:
        _say(line)
    else:
        display({"text/plain": line}, raw=True, metadata={"genlib": record})


def _say(line: str) -> None:
    """Print a line; a sign that the terminal cannot show is written in ASCII, for the check itself has passed."""
    code = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        line.encode(code)
    except UnicodeEncodeError:
        line = line.replace("≤", "<=").replace("≥", ">=").encode(code, "backslashreplace").decode(code)
    print(line)
