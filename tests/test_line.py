"""The real line: integrals that are known, and normal densities in float64."""

import math

import pytest
import torch
from exactness import REAL, STEADY, close
from hypothesis import given
from hypothesis import strategies as st

from genlib import line


@STEADY
@given(st.floats(-2, 2), st.floats(0.3, 2.0))
def test_integrals_of_a_normal_density_are_its_moments(mean, deviation):
    x, integral = line.grid(-20, 20, 4001)
    p = line.normal(mean, deviation).log_prob(x).exp()
    moments = integral(torch.stack([p, p * x, p * (x - mean) ** 2]))
    close(moments, torch.tensor([1.0, mean, deviation**2], dtype=REAL), 1e-12)


def test_places_and_the_trapezoid_rule():
    x, integral = line.grid(0.0, 3.0, 4)
    close(x, torch.arange(4, dtype=REAL))
    close(integral(x**2), torch.tensor(9.5, dtype=REAL))  # 0/2 + 1 + 4 + 9/2


def test_normal_is_in_float64_and_takes_tensors():
    p = line.normal(torch.tensor([0.0, 1.0]), 2.0)
    assert p.mean.dtype == REAL
    expected = torch.tensor([0.0, -1 / 8], dtype=REAL) - math.log(2 * math.sqrt(2 * math.pi))
    close(p.log_prob(torch.zeros(2, dtype=REAL)), expected)


@pytest.mark.parametrize(("settings", "name"), [((1, 1, 5), "low"), ((0, 1, 1), "count"), ((2, 1, 5), "low")])
def test_grid_refuses(settings, name):
    with pytest.raises(ValueError, match=f"^{name} must"):
        line.grid(*settings)
