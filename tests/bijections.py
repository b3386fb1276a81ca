"""What the tests of flows share: random parameters, Jacobians by autograd, and the laws of an invertible map."""

import torch
from exactness import REAL, close, seeded
from hypothesis import settings
from hypothesis import strategies as st

from genlib.flows import Conv1x1

BRIEF = settings(max_examples=8)
SEEDS = st.integers(0, 10**6)
SPREADS = st.sampled_from([0.2, 0.6, 1.0])


def draws(shape, seed=0, spread=1.0):
    return spread * torch.randn(shape, generator=seeded(seed), dtype=REAL)


def shaken(module, seed=0, spread=0.6):
    """Draw every parameter at random; a square matrix moves away from its rotation, and stays invertible."""
    generator = seeded(seed)
    near_start = {id(layer.weight) for layer in module.modules() if type(layer) is Conv1x1}
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            inputs = noise[0].numel() if noise.ndim > 1 else 1
            if id(parameter) in near_start:
                parameter += spread * noise / 3 / inputs**0.5
            else:
                parameter.copy_(spread * noise * min(1, 2 / inputs**0.5))
    return module


def jacobians(f, x):
    """The matrix of all derivatives of each example, (B, *E) → (B, |E|, |E|)."""
    rows = torch.autograd.functional.jacobian(lambda x: f(x)[0].flatten(1).sum(0), x.detach(), vectorize=True)
    return rows.flatten(2).movedim(0, 1)


def jacobians_by_vmap(f, x):
    """The same by torch.func, in which no layer can look at a value."""
    rows = torch.func.vmap(torch.func.jacrev(lambda x: f(x[None])[0].flatten()))(x)
    return rows.flatten(2)


def assert_undone(layer, z, x, atol=1e-7):
    """Each direction undoes the other, and the two volume changes cancel."""
    for first, second, start in ((layer.forward, layer.inverse, z), (layer.inverse, layer.forward, x)):
        there, ladj = first(start)
        back, other = second(there)
        assert back.shape == start.shape
        assert ladj.shape == other.shape == (len(start),)
        assert there.dtype == ladj.dtype == back.dtype == other.dtype == start.dtype
        close(back, start, atol)
        close(other, -ladj, atol)


def assert_volumes(layer, z, x):
    """Both directions report the log-determinant of the matrix of all derivatives."""
    for direction, start in ((layer.forward, z), (layer.inverse, x)):
        close(direction(start)[1], torch.linalg.slogdet(jacobians(direction, start)).logabsdet, 1e-8)


def assert_gradients(layer, start, *, fast=True):
    """Gradients of image and volume change, in the input and in all parameters, agree with finite differences."""
    names, values = zip(*layer.named_parameters(), strict=True) if list(layer.parameters()) else ((), ())

    def f(start, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (start,))

    inputs = [value.detach().clone().requires_grad_() for value in (start, *values)]
    assert torch.autograd.gradcheck(f, inputs, fast_mode=fast)
