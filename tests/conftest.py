"""What all tests share. HYPOTHESIS_PROFILE=explore draws fresh examples; without it they are the same on every run."""

import os

import pytest
import torch
from hypothesis import settings

from genlib.checks import grade

settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "fixed")


@pytest.fixture(scope="module")
def double():
    """Make float64 the default, and put back what was."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def said(capsys):
    """A function that returns what the grader of an exercise says of an answer."""

    def said(label, answer):
        grade(label, answer)
        out = capsys.readouterr().out
        assert out.endswith("\n")
        assert out.startswith(f"{label}: ")
        return out.removeprefix(f"{label}: ").removesuffix("\n")

    return said


@pytest.fixture(scope="session")
def single():
    """A function that makes of an answer the same answer, worked out in float32."""

    def single(answer):
        return lambda *given: answer(
            *(part.float() if isinstance(part, torch.Tensor) else part for part in given)
        )

    return single
