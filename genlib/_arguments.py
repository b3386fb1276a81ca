"""Checks of arguments: each raises ValueError, names the argument and says what was given."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from genlib._shapes import column

T = TypeVar("T")


def whole_number(name: str, value: object, least: int = 1) -> int:
    """Return `value` as an int of at least `least`; a float, a bool or text is refused."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def positive(name: str, value: object) -> float:
    """Return `value`, a number or a tensor that holds one, as a finite float above zero."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{name} must be a number above 0, got {value!r}")
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
    return number


def not_negative(name: str, value: object) -> Tensor | float:
    """Return `value`, a number or a tensor that holds one, after checking that it is finite and at least 0."""
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
    return value


def finite(name: str, value: object) -> float:
    """Return `value` as a finite float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def share(name: str, value: object) -> float:
    """Return `value` as a float from 0 to 1, 1 excluded."""
    number = float(not_negative(name, value))
    if number >= 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value!r}")
    return number


def one_of(name: str, value: object, choices: Mapping[str, T]) -> T:
    """Return the choice that `value` names."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(sorted(choices))}, got {value!r}")
    return choices[value]


def sample_count(shape: object) -> int:
    """Return n from the sample shape (n,)."""
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 1:
        raise ValueError(f"shape must be a tuple (n,) that holds one whole number, got {shape!r}")
    return whole_number("n in shape (n,)", shape[0])


def real_tensor(name: str, value: object, *, like: Tensor | None = None) -> Tensor:
    """Return `value` as a floating-point tensor without NaN or infinity, on the device and in the dtype of `like`."""
    try:
        if like is None:
            tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
        else:
            tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must hold numbers, got {value!r}") from error
    if tensor.is_complex():
        raise ValueError(f"{name} must hold real numbers, got dtype {tensor.dtype}")
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.get_default_dtype())
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} must hold finite numbers, got NaN or infinity in {_shown(tensor)}")
    return tensor


def probabilities(name: str, value: object, *, like: Tensor | None = None) -> Tensor:
    """Return `value` as a tensor whose last dimension holds probabilities that sum to 1 within 1e-5."""
    p = real_tensor(name, value, like=like)
    if p.ndim == 0 or p.shape[-1] == 0:
        raise ValueError(f"{name} must hold at least one probability, got shape {tuple(p.shape)}")
    if (p < 0).any():
        raise ValueError(f"{name} must not be negative, got {_shown(p)}")
    off = (p.sum(-1) - 1).abs().max().item() if p.numel() else 0.0
    if off > 1e-5:
        raise ValueError(f"{name} must sum to 1, got a sum that is off by {off:.2g} in {_shown(p)}")
    return p


def events(name: str, x: object, event_shape: Sequence[int]) -> Tensor:
    """Return the batch `x` after checking that it is a tensor (..., *event_shape) of real numbers, none NaN."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} must be a torch tensor, got {type(x).__name__}")
    event = tuple(event_shape)
    if len(event) > x.ndim or tuple(x.shape[x.ndim - len(event) :]) != event:
        wanted = "(..., " + ", ".join(map(str, event)) + ")"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(x.shape)}")
    if x.is_floating_point() and not holds(~torch.isnan(x).any()):
        raise ValueError(f"{name} must not hold NaN, got {int(torch.isnan(x).sum())} of them")
    return x


def real_events(name: str, x: object, event_shape: Sequence[int]) -> Tensor:
    """Like `events`; whole numbers become reals."""
    x = events(name, x, event_shape)
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def symbols(name: str, x: object, event_shape: Sequence[int], categories: int) -> Tensor:
    """Return the batch `x` as int64 after checking that it holds whole numbers from 0 to categories − 1."""
    x = events(name, x, event_shape)
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise ValueError(f"{name} must hold whole numbers, got dtype {x.dtype}")
    if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < categories:
        raise ValueError(
            f"{name} must lie between 0 and {categories - 1}, got values from {int(x.min())} to {int(x.max())}"
        )
    return x.long()


def bits(name: str, x: object, event_shape: Sequence[int]) -> Tensor:
    """Return the batch `x`, in its own dtype, after checking that it holds only 0 and 1."""
    x = events(name, x, event_shape)
    wrong = (x != 0) & (x != 1)
    if not holds(~wrong.any()):
        raise ValueError(f"{name} must hold only 0 and 1, got {x[wrong][0].item()}")
    return x


def sequences(name: str, x: object, mask: object, categories: int, end: int | None) -> tuple[Tensor, Tensor]:
    """Return the batch `x` as int64 (B, L) and its mask (B, L), True for the symbols that count.

    Without a mask all rows must be equally long, and an end symbol may stand last only. Symbols that do not count may
    be any.
    """
    if isinstance(x, Sequence) and not isinstance(x, str):
        try:
            rows = [torch.as_tensor(row) for row in x]
        except (TypeError, ValueError, RuntimeError):
            rows = []
        if len({len(row) for row in rows if row.ndim}) > 1:
            raise ValueError(f"mask must be given where {name} has rows of unequal lengths: pad them first")
        x = torch.stack(rows) if rows and all(row.ndim == 1 for row in rows) else x
    if not isinstance(x, Tensor) or x.ndim != 2 or 0 in x.shape:
        got = tuple(x.shape) if isinstance(x, Tensor) else repr(x)
        raise ValueError(f"{name} must be a tensor of shape (B, L) with B, L at least 1, got {got}")
    if mask is None:
        x = symbols(name, x, (), categories)
        if end is not None and (x[:, :-1] == end).any():
            raise ValueError(f"mask must be given where rows of {name} end before their last place")
        return x, torch.ones_like(x, dtype=torch.bool)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != x.shape:
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"mask must be bool and have the shape of {name}, {tuple(x.shape)}, got {got}")
    if not mask[:, 0].all() or (mask[:, 1:] & ~mask[:, :-1]).any():
        raise ValueError("mask must be True from the first place of each row to its end, then False")
    counted = symbols(name, x[mask], (), categories)
    return torch.zeros_like(mask, dtype=torch.long).masked_scatter(mask, counted), mask


def batch(name: str, x: object, event_shape: Sequence[object]) -> Tensor:
    """Return the batch `x` after checking that it is a real tensor (B, *event_shape) without NaN or infinity.

    An Ellipsis at the end of the event's shape stands for any further dimensions.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} must be a tensor of real numbers, got {got}")
    sizes = tuple(event_shape)
    any_more = bool(sizes) and sizes[-1] is ...
    sizes = sizes[:-1] if any_more else sizes
    fits = x.ndim > len(sizes) if any_more else x.ndim == 1 + len(sizes)
    if not fits or tuple(x.shape[1 : 1 + len(sizes)]) != sizes:
        wanted = ", ".join(["B", *map(str, sizes)] + ["..."] * any_more)
        raise ValueError(f"{name} must have shape ({wanted}), got {tuple(x.shape)}")
    if not holds(torch.isfinite(x).all()):
        raise ValueError(f"{name} must hold finite numbers, got NaN or infinity in {_shown(x)}")
    return x


def same_shape(name: str, value: object, x: Tensor) -> Tensor:
    """Return what a function of the batch `x` gave, after checking that it is a tensor of the batch's shape."""
    if not isinstance(value, Tensor) or value.shape != x.shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must return shape {tuple(x.shape)}, got {got}")
    return value


def positive_each(name: str, value: object, x: Tensor) -> Tensor:
    """Return `value`, one number above 0 or one for each example of x, (B,), with as many dimensions as x."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(f"x must be a tensor of real numbers, got {getattr(x, 'dtype', type(x).__name__)}")
    value = real_tensor(name, value, like=x)
    if value.shape not in ((), (len(x),)):
        raise ValueError(f"{name} must be one number or have shape ({len(x)},), got {tuple(value.shape)}")
    if not holds((value > 0).all()):
        raise ValueError(f"{name} must be above 0, got {value.min().item():g}")
    return column(value, x)


def falling(name: str, levels: object) -> Tensor:
    """Return `levels` as a tensor (L,) of its own, after checking that they fall and stay above 0."""
    levels = real_tensor(name, levels)
    if levels.ndim != 1 or not len(levels):
        raise ValueError(f"{name} must have shape (L,) with L at least 1, got {tuple(levels.shape)}")
    if not (levels > 0).all() or not (levels.diff() < 0).all():
        raise ValueError(f"{name} must fall and stay above 0, got {levels.tolist()}")
    return levels.clone()


def vectors(name: str, x: object) -> Tensor:
    """Return `x` after checking that it is a batch (B, *E) of finite real numbers, E not empty."""
    if isinstance(x, Tensor) and x.ndim < 2:
        raise ValueError(f"{name} must have shape (B, *E) with at least two dimensions, got {tuple(x.shape)}")
    return batch(name, x, (...,))


def same_dtype(name: str, x: object, model: object) -> None:
    """Raise ValueError if `x` holds real numbers in another dtype than the parameters of a module do."""
    own = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if own is not None and isinstance(x, Tensor) and x.is_floating_point() and x.dtype != own.dtype:
        raise ValueError(f"{name} must be in {own.dtype} as the model is, got {x.dtype}")


def gradients(name: str) -> None:
    """Raise RuntimeError where torch forbids the gradients that `name` needs."""
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            f"{name} needs gradients, which torch.inference_mode() forbids: use torch.no_grad() instead"
        )


def holds(condition: Tensor) -> bool:
    """Return whether a condition holds; True inside torch.func.vmap, where no value can be looked at."""
    try:
        return bool(condition)
    except RuntimeError:
        return True


def mask(name: str, value: object) -> Tensor:
    """Return `value` after checking that it is a bool tensor that is True somewhere and False somewhere."""
    if not isinstance(value, Tensor) or value.dtype != torch.bool:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must be a tensor of bool, got {got}")
    if value.all() or not value.any():
        raise ValueError(
            f"{name} must pass some entries and change others, got {int(value.sum())} of {value.numel()}"
        )
    return value


def points(name: str, x: object) -> Tensor:
    """Return the sample `x` after checking that it is a non-empty tensor (n, D) of finite numbers."""
    if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[0] < 1 or x.shape[1] < 1:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} must be a tensor of shape (n, D) with n, D at least 1, got {got}")
    return real_tensor(name, x)


def _shown(tensor: Tensor) -> str:
    """Return the tensor's values if they are few, else its shape."""
    return str(tensor.tolist()) if tensor.numel() <= 8 else f"a tensor of shape {tuple(tensor.shape)}"
