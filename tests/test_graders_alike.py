"""What every grader of the lessons on scores, chains and stochastic equations keeps, tried on answers and slips."""

import itertools
import math

import pytest
import test_graders_chains as chains
import test_graders_diffusion as diffusion
import test_graders_energy as energies
import test_graders_inverse as inverse
import test_graders_mixtures as mixtures
import test_graders_pixels as pixels
import test_graders_score as scores
import test_graders_sde as crowds
import test_graders_vq as books
import torch

from genlib import checks

REFERENCES = [
    *scores.REFERENCES,
    *chains.REFERENCES,
    *crowds.REFERENCES,
    *diffusion.REFERENCES,
    *inverse.REFERENCES,
    *pixels.REFERENCES,
    *energies.REFERENCES,
    *mixtures.REFERENCES,
    *books.REFERENCES,
]
LESSON = [
    *scores.LESSON,
    *chains.LESSON,
    *crowds.LESSON,
    *diffusion.LESSON,
    *inverse.LESSON,
    *pixels.LESSON,
    *energies.LESSON,
    *mixtures.LESSON,
    *books.LESSON,
]
SLIPS = [
    *scores.SLIPS,
    *chains.SLIPS,
    *crowds.SLIPS,
    *diffusion.SLIPS,
    *inverse.SLIPS,
    *pixels.SLIPS,
    *energies.SLIPS,
    *mixtures.SLIPS,
    *books.SLIPS,
]
LABELS = [label for label, _ in REFERENCES]
ALL_TRIED = [
    label
    for label, _ in (
        *scores.REFERENCES,
        *crowds.REFERENCES,
        *diffusion.REFERENCES,
        *inverse.REFERENCES,
        *pixels.REFERENCES,
        *energies.REFERENCES,
        *mixtures.REFERENCES,
        *books.REFERENCES,
    )
]
PLAIN = [pair for pair in LESSON if pair[1] is not crowds.complex_slowest]  # that one takes no tensors


def in_tensors(answer):
    """The same answer, worked out with float32 tensors where numbers are given."""
    return lambda *given: answer(*(torch.tensor(part) if isinstance(part, float) else part for part in given))


def cases(label, answer=lambda *given: None):
    checks.grade(label, None)  # so that the graders are there
    return list(checks._graders[label](answer))


@pytest.mark.parametrize(("label", "answer"), REFERENCES + LESSON)
def test_right_answers_are_graded_right(label, answer, said):
    assert said(label, answer) == f"right, in all {len(cases(label))} cases"


@pytest.mark.parametrize(("label", "answer"), REFERENCES)
def test_what_is_expected_agrees_with_the_reference(label, answer):
    for case in cases(label, answer):
        got, expected = (torch.as_tensor(side, dtype=torch.float64) for side in (case.ask(), case.expected))
        torch.testing.assert_close(got, expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize(("label", "answer"), LESSON)
def test_right_answers_in_single_precision_are_graded_right(label, answer, said, single):
    assert said(label, single(answer)).startswith("right")


@pytest.mark.parametrize(("label", "answer"), PLAIN)
def test_right_answers_in_tensors_are_graded_right(label, answer, said):
    assert said(label, in_tensors(answer)).startswith("right")


@pytest.mark.parametrize(("label", "answer"), LESSON)
def test_answers_that_change_what_they_are_given_are_graded_right(label, answer, said):
    def spoiling(*given):
        got = answer(*given)
        got = got.clone() if isinstance(got, torch.Tensor) else got
        for part in given:
            if isinstance(part, torch.Tensor):
                part.fill_(math.nan if part.is_floating_point() else 1)
        return got

    assert said(label, spoiling).startswith("right")


@pytest.mark.parametrize("label", LABELS)
def test_questions_are_the_same_numbers_on_every_device(label):
    with torch.device("meta"):
        there = cases(label)
    for here, case in zip(cases(label), there, strict=True):
        torch.testing.assert_close(torch.as_tensor(here.expected), torch.as_tensor(case.expected))


@pytest.mark.parametrize("label", LABELS)
def test_no_slip_is_the_right_answer(label):
    for case in cases(label):
        assert not [s for s, wrong in case.slips.items() if checks._matches(wrong, case.expected, case.atol)]


@pytest.mark.parametrize("label", LABELS)
def test_the_first_question_tells_all_slips_apart(label):
    first, *rest = cases(label)
    assert all(case.slips.keys() <= first.slips.keys() for case in rest)
    for (one, wrong), (other, also) in itertools.combinations(first.slips.items(), 2):
        assert not checks._matches(wrong, also, 2 * first.atol), f"{one} / {other}"


@pytest.mark.parametrize(("label", "answer"), LESSON)
def test_a_wrong_answer_that_is_no_slip_gets_a_hint(label, answer, said):
    def wrong(*given):
        got = answer(*given)
        if isinstance(got, tuple):
            return tuple(0.37 + 1.618 * part for part in got)
        return 0.37 + 1.618 * torch.as_tensor(got, dtype=torch.float64)

    told, first = said(label, wrong), cases(label)[0]
    assert told.startswith(f"not yet. {first.question}")
    assert told.endswith(first.hint)
    assert first.hint


@pytest.mark.parametrize("label", LABELS)
def test_another_shape_is_told(label, said):
    told = said(label, lambda *given: torch.zeros(2, 3, 7))
    assert f"shape must be {tuple(torch.as_tensor(cases(label)[0].expected).shape)}" in told


@pytest.mark.parametrize(("label", "answer", "says"), SLIPS)
def test_slips_are_named(label, answer, says, said):
    told = said(label, answer)
    assert told.startswith("not yet")
    assert says in told


@pytest.mark.parametrize("label", ALL_TRIED)
def test_every_slip_is_tried(label, said):
    told = [said(label, answer) for tried, answer, _ in SLIPS if tried == label]
    assert not [slip for slip in cases(label)[0].slips if not any(text.endswith(slip) for text in told)]
