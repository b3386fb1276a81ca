"""The handwritten digits: real data, in three fixed parts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from genlib import _arguments as require
from genlib._random import uniform


class Split(NamedTuple):
    """Images (n, 8, 8) int64 with grey levels 0 to 16, and their labels (n,) int64, 0 to 9."""

    images: Tensor
    labels: Tensor


class Digits(NamedTuple):
    """The handwritten digits in three fixed parts: 1000, 350 and 447 images."""

    train: Split
    valid: Split
    test: Split


def digits(device: torch.device | str = "cpu") -> Digits:
    """Load the 1,797 handwritten digits that ship with scikit-learn, split 1000 / 350 / 447 in stored order.

    They are 8 × 8 counts of ink, whole numbers from 0 to 16: the test part of the optical digits of Alpaydin and Kaynak
    (1998, UCI Machine Learning Repository). The split is this book's. Nothing is downloaded, nothing is shuffled, so
    figures compare with others on the same split.
    """
    from sklearn.datasets import load_digits

    stored = load_digits()
    images = torch.from_numpy(stored.images).long().to(device)  # (1797, 8, 8)
    labels = torch.from_numpy(stored.target).long().to(device)  # (1797,)
    parts = zip(images.split((1000, 350, 447)), labels.split((1000, 350, 447)), strict=True)
    return Digits(*(Split(*part) for part in parts))


def blurred(x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Add noise, uniform from −½ to ½, to grey levels in real numbers, (B, *E) → (B, *E); rounding takes it off."""
    return x + uniform(x.shape, x, generator) - 0.5


def shifted(x: Tensor, share: float = 0.3, *, generator: torch.Generator | None = None) -> Tensor:
    """Move a share of the images by up to one pixel, each of the nine ways equally often, (B, H, W) → (B, H, W).

    What leaves the image is lost, and what comes in is 0: paper without ink.

    Args:
        x: images.
        share: how many move, from 0 to 1.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: x is no batch of images, or the share lies outside [0, 1].
    """
    return moved(x, share, generator=generator)[0]


def shifts(x: Tensor, share: float = 0.3) -> tuple[Tensor, Tensor]:
    """All that `shifted` may make of the images, and how often: for models that take weighted rows.

    Args:
        x: images, (B, H, W).
        share: as in `shifted`.

    Returns:
        The nine ways of each image (9B, H, W), and how often each counts (9B,): those of an image sum to 1.

    Raises:
        ValueError: as in `shifted`.
    """
    share = _share(x, share)
    height, width = x.shape[1:]
    wide = pad(x, (1, 1, 1, 1))
    ways = [wide[:, r : r + height, c : c + width] for r in range(3) for c in range(3)]
    counts = torch.full((9, len(x)), share / 9, device=x.device)
    counts[4] += 1 - share  # the one that does not move
    return torch.cat(ways), counts.flatten()


def moved(
    x: Tensor, share: float = 0.3, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """`shifted`, and by how many rows and columns each image went, (B, H, W) → (B, H, W) and (B, 2)."""
    share = _share(x, share)
    n, height, width = x.shape
    where = {"generator": generator, "device": x.device}
    move = torch.randint(-1, 2, (2, n, 1), **where) * (torch.rand(n, 1, **where) < share)
    rows = 1 + torch.arange(height, device=x.device) + move[0]  # (B, H)
    columns = 1 + torch.arange(width, device=x.device) + move[1]  # (B, W)
    which = torch.arange(n, device=x.device)[:, None, None]
    return pad(x, (1, 1, 1, 1))[which, rows[:, :, None], columns[:, None, :]], move[..., 0].T


def _share(x: object, share: object) -> float:
    """Return the share of the images that move, after checking it and the images."""
    if not isinstance(x, Tensor) or x.ndim != 3:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x must have shape (B, H, W), got {got}")
    share = float(require.not_negative("share", share))
    if share > 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    return share
