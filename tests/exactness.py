"""What the tests of sequences share: float64 as the default, generators, and exact comparison."""

import itertools

import torch
from hypothesis import settings

STEADY = settings(max_examples=60)
FEW = settings(STEADY, max_examples=25)
REAL = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def close(actual, expected, atol=1e-12):
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), rtol=0, atol=atol)


def everything(symbols, length):
    return torch.tensor(list(itertools.product(range(symbols), repeat=length)))
