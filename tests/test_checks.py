"""What `verify` lets pass and what it says; what graders tell the reader."""

import contextlib
import importlib
import io
import json
import math
import os
import re
import subprocess
import sys

import nbclient
import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genlib import checks
from genlib.checks import Case, claim, grade, grader, verify

STEADY = settings(max_examples=40)
NUMBERS = st.floats(-1e6, 1e6)


def passes(left, right, **settings):
    try:
        verify("eq:test", left, right, **settings)
    except AssertionError:
        return False
    return True


# what passes


@STEADY
@given(NUMBERS, NUMBERS, st.floats(0, 2), st.floats(0, 2), st.sampled_from(["==", "<=", ">="]))
def test_verify_by_its_definition(left, right, atol, rtol, relation):
    gap = {"==": abs(left - right), "<=": left - right, ">=": right - left}[relation]
    expected = left == right or max(gap, 0) <= atol + rtol * abs(right)
    assert passes(left, right, atol=atol, rtol=rtol, relation=relation) is expected


@st.composite
def tables(draw):
    """Two tables of one shape that agree in some places, and a tolerance."""
    shape = draw(st.lists(st.integers(1, 4), max_size=3))
    size = math.prod(shape)
    left = torch.tensor(draw(st.lists(NUMBERS, min_size=size, max_size=size)), dtype=torch.float64)
    gaps = st.sampled_from([0.0, 0.0, 1e-12, -0.01, 0.3, 100.0, math.inf, math.nan])
    gap = torch.tensor(draw(st.lists(gaps, min_size=size, max_size=size)), dtype=torch.float64)
    return left.reshape(shape), (left + gap).reshape(shape), draw(st.floats(0, 1))


@STEADY
@given(tables(), st.sampled_from(["==", "<=", ">="]), st.randoms(use_true_random=False))
def test_verify_looks_at_every_place_of_any_shape(table, relation, random):
    left, right, atol = table
    a, b = left.flatten().tolist(), right.flatten().tolist()
    holds = {
        "==": lambda x, y: abs(x - y) <= atol,
        "<=": lambda x, y: x - y <= atol,
        ">=": lambda x, y: y - x <= atol,
    }
    bad = [not holds[relation](x, y) for x, y in zip(a, b, strict=True)]
    order = random.sample(range(len(a)), len(a))
    swapped = {"==": "==", "<=": ">=", ">=": "<="}[relation]
    for one, other, said in (
        (left, right, relation),
        (np.flip(left.numpy()), np.flip(right.numpy()), relation),
        ([a[k] for k in order], [b[k] for k in order], relation),
        (right, left, swapped),
    ):
        assert passes(one, other, atol=atol, relation=said) is not any(bad)
    if any(bad):
        with pytest.raises(AssertionError, match=f"^eq:test does not hold at {sum(bad)} of {len(a)} places"):
            verify("eq:test", left, right, atol=atol, relation=relation)


@STEADY
@given(st.lists(st.integers(1, 4), max_size=3), st.lists(st.integers(1, 4), max_size=3))
def test_verify_compares_equal_shapes_or_one_number(one, other):
    left, right = torch.ones(one), torch.ones(other)
    if one == other or 1 in (left.numel(), right.numel()):
        verify("eq:test", left, right)
    else:
        with pytest.raises(ValueError, match="^left and right must have one shape, got ") as caught:
            verify("eq:test", left, right)
        assert str(caught.value).endswith(f"got {tuple(one)} and {tuple(other)}")


def test_defaults_are_tight_and_absolute():
    assert passes(1.0, 1.0 + 9e-11)
    assert not passes(1.0, 1.0 + 1.1e-10)
    assert not passes(1e6, 1e6 + 1e-6)
    assert passes(0.1 + 0.2, 0.3)


def test_relative_tolerance_is_relative_to_the_right():
    assert passes(11.0, 10.0, atol=0, rtol=0.1)
    assert not passes(10.0, 11.2, atol=0, rtol=0.1)
    assert passes(10.0, -11.0, rtol=2)
    assert not passes(1e-3, 0.0, rtol=0.5)


def test_bounds_may_be_missed_by_the_tolerance_alone():
    assert passes([1.0, 2.0], [2.0, 2.0], relation="<=")
    assert passes(1.0 + 1e-11, 1.0, relation="<=")
    assert not passes(1.1, 1.0, relation="<=")
    assert passes(100.0, 1.0, relation=">=")
    assert not passes(0.9, 1.0, relation=">=")
    assert passes(0.9, 1.0, relation=">=", atol=0.2)


def test_not_a_number_never_passes():
    for left, right in (
        (math.nan, 1.0),
        (1.0, math.nan),
        (math.nan, math.nan),
        ([1.0, math.nan], [1.0, 2.0]),
    ):
        for relation in ("==", "<=", ">="):
            assert not passes(left, right, atol=1e9, rtol=10.0, relation=relation)


def test_infinities_agree_with_themselves_alone():
    inf = math.inf
    for relation in ("==", "<=", ">="):
        assert passes(inf, inf, relation=relation, rtol=0.5)
        assert passes(-inf, -inf, relation=relation, rtol=0.5)
    assert not passes(inf, -inf, rtol=0.5)
    assert not passes(1.0, inf, rtol=0.5)
    assert not passes(inf, 1.0, atol=1e300)
    assert passes(1.0, inf, relation="<=")
    assert passes(-inf, 1.0, relation="<=")
    assert not passes(inf, 1.0, relation="<=")
    assert passes(inf, 1.0, relation=">=")
    assert not passes(1.0, inf, relation=">=", rtol=0.5)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 1.0),
        (True, 1),
        (np.float32(0.5), torch.tensor(0.5)),
        (np.ones((2, 3)), torch.ones(2, 3)),
        (np.ones(3)[::-1], [1, 1, 1]),
        (np.broadcast_to(np.ones(1), 3), torch.ones(3)),
        (torch.ones(3, requires_grad=True), 1),
        (1.0, torch.ones(2, 2)),
        ([torch.tensor(1.0), torch.tensor(2.0)], (1, 2)),
        (torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.float64)),
    ],
)
def test_numbers_arrays_and_tensors_are_welcome(left, right):
    verify("eq:test", left, right)


def test_order_of_entries_matters():
    left = np.arange(6.0)
    assert passes(left[::-1], left.tolist()[::-1])
    assert passes(left.reshape(2, 3).T, [[0, 3], [1, 4], [2, 5]])
    assert not passes(left[::-1], left)


# what is refused


@pytest.mark.parametrize("label", ["kl", "def:kl", "ex:kl", "", None, 3, " eq:kl", "eq:"])
def test_labels_of_equations_only(label):
    with pytest.raises(ValueError, match="^label must"):
        verify(label, 1, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relation": "<"}, r"^relation must be '==', '<=' or '>=', got '<'"),
        ({"relation": None}, "^relation must"),
        ({"atol": -1e-9}, "^atol and rtol must be finite and not negative, got -1e-09 and 0.0"),
        ({"rtol": -1e-9}, "^atol and rtol must"),
        ({"atol": math.inf}, "^atol and rtol must"),
        ({"rtol": math.nan}, "^atol and rtol must"),
        ({"atol": "a"}, "^atol"),
    ],
)
def test_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        verify("eq:test", 1, 1, **settings)


def test_sides_that_cannot_be_compared():
    with pytest.raises(ValueError, match=r"^left and right must have one shape, got \(3,\) and \(2,\)"):
        verify("eq:test", [1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"^left and right must have one shape, got \(3,\) and \(3, 1\)"):
        verify("eq:test", torch.ones(3), torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"^left and right must have one shape, got \(2, 3\) and \(3, 2\)"):
        verify("eq:test", torch.ones(2, 3), torch.ones(3, 2))
    for empty in ([], torch.empty(0, 2)):
        with pytest.raises(ValueError, match="^left and right must not be empty"):
            verify("eq:test", empty, empty)
        with pytest.raises(ValueError, match="^left and right must not be empty"):
            verify("eq:test", empty, 1.0)
    for bad in ("a", None, object(), [1, [2]]):
        with pytest.raises(ValueError, match=f"^left must hold numbers, got {type(bad).__name__}"):
            verify("eq:test", bad, 1.0)
        with pytest.raises(ValueError, match=f"^right must hold numbers, got {type(bad).__name__}"):
            verify("eq:test", 1.0, bad)
    with pytest.raises(ValueError, match="^left must hold numbers, got complex"):
        verify("eq:test", 1j, 1.0)
    with pytest.raises(ValueError, match="^left must hold real numbers, got dtype torch.complex"):
        verify("eq:test", torch.tensor(1j), 1.0)


# what it says


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({}, "eq:kl holds: 3 pairs agree, within 1e-10"),
        ({"atol": 0.5, "rtol": 1e-6}, "eq:kl holds: 3 pairs agree, within 0.5 + 1e-06 relative"),
        ({"atol": 0, "rtol": 0.01}, "eq:kl holds: 3 pairs agree, within 0.01 relative"),
        ({"atol": 0}, "eq:kl holds: 3 pairs agree, exactly"),
        ({"relation": "<="}, "eq:kl holds: 3 pairs keep left ≤ right, within 1e-10"),
        ({"relation": ">="}, "eq:kl holds: 3 pairs keep left ≥ right, within 1e-10"),
    ],
)
def test_the_line(capsys, settings, line):
    """Word for word: the notebooks' stored outputs are compared with it."""
    verify("eq:kl", [1, 2, 3], [1, 2, 3], **settings)
    assert capsys.readouterr().out == line + "\n"


def test_the_line_does_not_show_the_deviation(capsys):
    for gap in (0.0, 1e-13, 7e-11):
        verify("eq:kl", 1.0, 1.0 + gap)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["eq:kl holds: both sides agree, within 1e-10"] * 3


def test_the_error_shows_the_worst_place():
    with pytest.raises(AssertionError) as caught:
        verify("eq:kl", [1.0, 2.5, 3.0, 7.0], [1.0, 2.0, 4.0, 7.0], atol=0.01)
    message = str(caught.value)
    assert message.startswith("eq:kl does not hold at 2 of 4 places")
    assert "number 2: left 3, right 4, off by 1 where 0.01 is allowed" in message
    with pytest.raises(AssertionError, match=r"at 2 of 3 places.*number 1: left nan, right 2"):
        verify("eq:kl", [5.0, math.nan, 1.0], [1.0, 2.0, 1.0])
    with pytest.raises(AssertionError, match=r"at 1 of 2 places.*number 1: left 2, right 1"):
        # the first pair is further apart, and allowed to be
        verify("eq:kl", [1000.0, 2.0], [1050.0, 1.0], rtol=0.1)
    with pytest.raises(AssertionError, match=r"number 0: left 3, right 1, off by 2 where"):
        verify("eq:kl", 3.0, 1.0, relation="<=")


def run(*sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    return [cell.outputs for cell in notebook.cells]


def test_in_a_notebook_the_metadata_hold_the_record():
    equal, bound, failed = run(
        "import torch\nfrom genlib.checks import verify\n"
        "verify('eq:kl-name', torch.tensor([1.0, 2.0, 3.5]).double(), [1.0, 2.25, 3.0], atol=0.5, rtol=1e-3)",
        "verify('eq:kl-bound', [1.0, 1.5], [2.0, float('inf')], relation='<=')",
        "try:\n    verify('eq:kl-name', 1, 2)\nexcept AssertionError:\n    pass",
    )
    assert [output.output_type for output in equal] == ["display_data"]
    assert dict(equal[0].data) == {
        "text/plain": "eq:kl-name holds: 3 pairs agree, within 0.5 + 0.001 relative"
    }
    assert equal[0].metadata["genlib"] == {
        "label": "eq:kl-name", "relation": "==", "count": 3, "deviation": 0.5, "atol": 0.5, "rtol": 0.001
    }  # fmt: skip
    assert bound[0].metadata["genlib"] == {
        "label": "eq:kl-bound", "relation": "<=", "count": 2, "deviation": 0.0, "atol": 1e-10, "rtol": 0.0
    }  # fmt: skip
    assert failed == []
    json.dumps(equal)


# claims


@pytest.mark.parametrize("holds", [True, np.True_, torch.tensor(True), torch.tensor(2.0) > 1.0])
def test_claims_that_hold(holds, capsys):
    claim("KL below 0.02 nats", holds)
    assert capsys.readouterr().out == "KL below 0.02 nats: yes\n"


@pytest.mark.parametrize("holds", [False, np.False_, torch.tensor(False), math.nan < 1])
def test_claims_that_do_not_hold(holds, capsys):
    with pytest.raises(AssertionError, match="^KL below 0.02 nats: no$"):
        claim("KL below 0.02 nats", holds)
    assert capsys.readouterr().out == ""


@STEADY
@given(st.text(), st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_claims_say_yes_or_fail(statement, left, right):
    """The whole statement is said, whatever signs it holds; no other word is."""
    for holds in (left < right, torch.tensor(left, dtype=torch.float64) < right):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            if holds:
                claim(statement, holds)
            else:
                with pytest.raises(AssertionError) as caught:
                    claim(statement, holds)
                assert str(caught.value) == f"{statement}: no"
        assert out.getvalue() == (f"{statement}: yes\n" if left < right else "")


# graders


@contextlib.contextmanager
def no_graders_kept():
    """Graders that are registered within are gone afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "_graders", dict(checks._graders))
        yield


def heard(label, answer):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        grade(label, answer)
    return out.getvalue().removeprefix(f"{label}: ").removesuffix("\n")


@STEADY
@given(
    st.lists(
        st.tuples(NUMBERS, st.sampled_from([0.0, 0.5, -0.5, 2.0, -1e9, math.nan])), min_size=1, max_size=5
    )
)
def test_grade_is_right_when_every_case_is_and_names_the_first_that_is_not(cases):
    with no_graders_kept():

        @grader("ex:test-any")
        def questions(answer):
            for k, (expected, _) in enumerate(cases):
                yield Case(f"case {k}", lambda k=k: answer(k), expected, atol=1.0)

        verdict = heard("ex:test-any", lambda k: cases[k][0] + cases[k][1])
        whole = heard("ex:test-any", lambda k: torch.tensor(cases[k][0], dtype=torch.float64))
    wrong = [k for k, (_, gap) in enumerate(cases) if not abs(gap) <= 1]
    right = "right" if len(cases) == 1 else f"right, in all {len(cases)} cases"
    assert whole == right
    if wrong:
        assert verdict.startswith(f"not yet. case {wrong[0]}: got ")
    else:
        assert verdict == right


@STEADY
@given(st.lists(st.integers(1, 4), max_size=3), st.lists(st.integers(1, 4), max_size=3), NUMBERS)
def test_grade_asks_for_the_shape(asked, given_shape, number):
    with no_graders_kept():
        grader("ex:test-any")(lambda answer: iter([Case("f", lambda: answer, torch.full(asked, number))]))
        verdict = heard("ex:test-any", torch.full(given_shape, number))
    if asked == given_shape:
        assert verdict == "right"
    else:
        assert verdict.endswith(f"The shape must be {tuple(asked)}, not {tuple(given_shape)}.")


@STEADY
@given(st.text().filter(lambda label: not label.startswith("ex:")), st.text(min_size=1))
def test_a_label_is_registered_once_and_known_by_its_beginning(other, name):
    with pytest.raises(ValueError, match="^label must begin with 'ex:' and be new, got ") as caught:
        grader(other)
    assert str(caught.value).endswith(f"got {other!r}")
    with no_graders_kept():
        label = f"ex:test {name}"
        with pytest.raises(ValueError, match="^label must be one of .*, got ") as caught:
            grade(label, 1)
        assert str(caught.value).endswith(f"got {label!r}")
        grader(label)(lambda answer: iter([Case("n", lambda: answer, 3)]))
        assert heard(label, 3) == "right"

        def elsewhere(answer):
            yield Case("n", lambda: answer, 3)

        elsewhere.__module__ = "another_module"
        with pytest.raises(ValueError, match="^label must begin with 'ex:' and be new, got "):
            grader(label)(elsewhere)


def test_a_module_of_graders_can_be_loaded_again():
    module = importlib.import_module("genlib.graders.gan_training")
    importlib.reload(module)
    assert heard("ex:gat-chance", lambda n, K: K * (1 - 1 / K) ** n).startswith("right")


def test_grading_loads_the_graders_of_one_lesson():
    code = """
import sys
from genlib.checks import grade
grade("ex:gat-chance", None)
print(sorted(name for name in sys.modules if name.startswith("genlib.") and name.count(".") == 2))
print([name for name in sys.modules if name in ("genlib.flows", "genlib.vae", "genlib.score", "genlib.sequence")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=120)
    waiting, graders, families = done.stdout.splitlines()
    assert waiting == "ex:gat-chance: no answer yet"
    assert graders == "['genlib.graders._tools', 'genlib.graders.gan_training']"
    assert families == "[]"


@pytest.fixture
def exercise():
    """Exercises of our own, gone after the test: f(x) = x² for two numbers and a tensor, and a number."""
    with no_graders_kept():

        @grader("ex:test-square")
        def square(answer):
            yield Case("f(2)", lambda: answer(2.0), 4.0)
            yield Case("f(3)", lambda: answer(3.0), 9.0, 0.5, "Square it.")
            yield Case("f of a tensor", lambda: answer(torch.tensor([1.0, 2.0])), torch.tensor([1.0, 4.0]))

        @grader("ex:test-number")
        def number(answer):
            yield Case("the number", lambda: answer, math.pi, 0.01)

        yield square


def test_right_answers(exercise, said):
    assert said("ex:test-square", lambda x: x**2) == "right, in all 3 cases"
    for answer in (3.14, np.float64(3.145), torch.tensor(3.14, requires_grad=True)):
        assert said("ex:test-number", answer) == "right"


def test_wrong_answers(exercise, said):
    assert said("ex:test-square", lambda x: 2 * x) == "not yet. f(3): got 6. Square it."
    assert said("ex:test-square", lambda x: -x) == "not yet. f(2): got -2. Right: 4."
    last = said("ex:test-square", lambda x: x * abs(x) if isinstance(x, float) else x)
    assert last == "not yet. f of a tensor: got [1, 2]. Right: [1, 4]."
    assert said("ex:test-number", 3.2) == "not yet. the number: got 3.2. Right: 3.142."
    assert said("ex:test-number", math.nan).startswith("not yet. the number: got nan")
    assert said("ex:test-number", "pi").startswith("not yet. the number: got an object of type str")
    wrong_shape = said("ex:test-number", torch.zeros(3, 3))
    assert wrong_shape.startswith("not yet. the number: got ")
    assert "shape (3, 3)" in wrong_shape


def test_tolerance_belongs_to_the_case(exercise, said):
    assert said("ex:test-number", math.pi + 0.009) == "right"
    assert said("ex:test-number", math.pi - 0.011).startswith("not yet")
    assert said("ex:test-square", lambda x: x**2 + 2e-6).startswith("not yet. f(2)")


def test_no_answer_yet(exercise, said):
    def raises(x):
        raise NotImplementedError

    for answer in (..., None, raises):
        assert said("ex:test-square", answer) == "no answer yet"
    for answer in (lambda x: ..., lambda x: None):
        assert said("ex:test-square", answer) == "no answer yet: the function returns nothing"


def test_an_answer_that_fails_is_told_why(exercise, said):
    verdict = said("ex:test-square", lambda x: x / 0)
    assert verdict.startswith("not yet. f(2): the answer raised ZeroDivisionError: ")
    assert said("ex:test-square", 3.0).startswith("not yet. f(2): the answer raised TypeError")


def test_an_answer_of_the_wrong_shape_is_told_so(exercise, said):
    verdict = said("ex:test-number", torch.tensor([math.pi]))
    assert verdict.startswith("not yet")
    assert "shape" in verdict


def test_unknown_exercise(exercise):
    with pytest.raises(
        ValueError, match=r"^label must be one of .*ex:test-number, ex:test-square.*, got 'ex:other'"
    ):
        grade("ex:other", 1)


def registered():
    return sorted(checks._homes())


@pytest.mark.parametrize("label", registered())
def test_every_grader_waits_for_an_answer_and_knows_a_wrong_one(label, said):
    importlib.import_module(checks._homes()[label])
    for answer in (..., None):
        assert said(label, answer) == "no answer yet"
    for answer in (123.456, lambda *_, **__: 123.456, lambda *_, **__: torch.zeros(0), "text"):
        assert said(label, answer).startswith("not yet")
    # a function without a body, where a function is asked for
    empty = said(label, lambda *_, **__: ...)
    assert empty.startswith("no answer yet: ") or "got an object of type function" in empty
    cases = list(checks._graders[label](lambda *_, **__: 0))
    assert cases
    assert all(case.question.strip() and case.atol > 0 for case in cases)
    assert re.fullmatch(r"ex:[a-z0-9]+(-[a-z0-9]+)+", label)


# the exercises of the lesson on KL and cross-entropy


def kl(p, q):
    return torch.special.xlogy(p, p / torch.where(p > 0, q, 1.0)).sum(-1)


def conditional_kl(p, q):
    rows = kl(p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True))
    return p.sum(1) @ rows


def mutual_information(p):
    return kl(p.flatten(), (p.sum(1, keepdim=True) * p.sum(0)).flatten())


def jensen_shannon(p, q):
    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


def gumbel_argmax(logits, u):
    return (logits - torch.log(-torch.log(u))).argmax(-1)


def gaussian_kl(mu1, sigma1, mu2, sigma2):
    return math.log(sigma2 / sigma1) + (sigma1**2 + (mu1 - mu2) ** 2) / (2 * sigma2**2) - 0.5


RAIN, SUN = torch.tensor([0.09, 0.14, 0.05, 0.02]) / 0.3, torch.tensor([0.22, 0.06, 0.02, 0.2]) / 0.5


@pytest.mark.parametrize(
    ("label", "answer"),
    [
        ("ex:kl-bits", (RAIN * (RAIN / SUN).log2()).sum()),
        ("ex:kl-bits", 0.92),
        ("ex:kl-chain-rule", conditional_kl),
        ("ex:kl-mutual-information", mutual_information),
        ("ex:kl-jensen-shannon", jensen_shannon),
        ("ex:kl-gumbel", gumbel_argmax),
        ("ex:kl-gaussians", gaussian_kl),
    ],
)
def test_right_answers_are_graded_right(label, answer, said):
    assert said(label, answer).startswith("right")


def sampled(p, n):
    """Right in distribution, but not from the given u; the seed gets the grader's first question right."""
    return torch.multinomial(p, n, True, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("label", "answer", "says"),
    [
        ("ex:kl-bits", kl(RAIN, SUN), "in nats"),
        ("ex:kl-bits", kl(SUN, RAIN) / math.log(2), "other direction"),
        ("ex:kl-bits", 0.88, "Which divergence"),
        ("ex:kl-chain-rule", lambda p, q: conditional_kl(q, p), "exchanged"),
        ("ex:kl-chain-rule", lambda p, q: kl(p.flatten(), q.flatten()), "whole tables"),
        ("ex:kl-chain-rule", lambda p, q: kl(p.sum(1), q.sum(1)), "first term"),
        ("ex:kl-mutual-information", lambda p: mutual_information(p) / math.log(2), "in bits"),
        (
            "ex:kl-mutual-information",
            lambda p: (p * (p / (p.sum(1, keepdim=True) * p.sum(0))).log()).sum(),
            "0 log 0",
        ),
        ("ex:kl-jensen-shannon", lambda p, q: 2 * jensen_shannon(p, q), "factor ½"),
        ("ex:kl-gumbel", lambda logits, u: (logits + torch.log(-torch.log(u))).argmax(-1), "signs"),
        ("ex:kl-gumbel", lambda logits, u: sampled(logits.softmax(0), len(u)), "Not every"),
        ("ex:kl-gaussians", lambda a, b, c, d: gaussian_kl(c, d, a, b), "KL(N(0, 2²)"),
        ("ex:kl-gaussians", lambda a, b, c, d: gaussian_kl(a, b, c, d) + 0.5, "KL(N(0, 1²)"),
    ],
)
def test_common_slips_are_named(label, answer, says, said):
    verdict = said(label, answer)
    assert verdict.startswith("not yet")
    assert says in verdict


@pytest.mark.parametrize("holds", [math.nan, "no", 1, None, torch.tensor([True, True]), torch.tensor(1.0)])
def test_a_claim_is_true_or_false(holds):
    with pytest.raises(ValueError, match="^holds must be true or false, got "):
        claim("the sky is blue", holds)


# Terminals -----------------------------------------------------------------------------------------------------

SAYS = """
from genlib.checks import claim, grade, verify
verify("eq:a", 1, 2, relation="<=")
claim("Σ is ≥ 0", True)
"""


@pytest.mark.parametrize(
    ("code", "bound", "claimed"),
    [
        ("utf-8", "keep left ≤ right", "Σ is ≥ 0: yes"),
        ("cp1252", "keep left <= right", r"\u03a3 is >= 0: yes"),
        ("ascii", "keep left <= right", r"\u03a3 is >= 0: yes"),
    ],
)
def test_a_terminal_that_lacks_a_sign_fails_no_check(code, bound, claimed):
    environment = {**os.environ, "PYTHONIOENCODING": code}
    done = subprocess.run([sys.executable, "-c", SAYS], env=environment, capture_output=True, encoding=code)
    assert done.returncode == 0, done.stderr
    assert bound in done.stdout
    assert claimed in done.stdout
