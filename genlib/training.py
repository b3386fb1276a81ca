"""One training loop for the whole book."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from IPython import get_ipython
from torch import Tensor, nn
from tqdm.auto import tqdm

from genlib import _arguments as check

Batch = Tensor | tuple[Tensor, ...] | list[Tensor]


@dataclass
class History:
    """What a run of `fit` left behind.

    Attributes:
        loss: mean loss of the batch at each finished step, in the unit of the loss (nats in this book).
        lr: learning rate at each finished step.
        interrupted: True when the reader stopped the run; the model then holds what was learnt so far.
    """

    loss: list[float] = field(default_factory=list, repr=False)
    lr: list[float] = field(default_factory=list, repr=False)
    interrupted: bool = False


def minibatches(
    data: Tensor | tuple[Tensor, ...], size: int, *, generator: torch.Generator | None = None
) -> Iterator[Batch]:
    """Yield batches for ever: the data in a new random order each epoch, a last smaller batch left out.

    Args:
        data: tensor (n, ...), or a tuple of tensors with the same n; batches have the same form.
        size: examples in a batch, at most n.
        generator: shuffles from here instead of torch's global one.

    Raises:
        ValueError: size is not a whole number from 1 to n, or the tensors differ in length.
    """
    if not isinstance(data, Tensor | tuple | list):
        raise ValueError(f"data must be a tensor or a tuple of tensors, got {type(data).__name__}")
    tensors = (data,) if isinstance(data, Tensor) else tuple(data)
    if not all(isinstance(part, Tensor) and part.ndim for part in tensors):
        raise ValueError("data must hold tensors of at least one dimension, got something else among them")
    lengths = {len(part) for part in tensors}
    if len(lengths) != 1:
        raise ValueError(f"data must hold tensors of one length, got lengths {sorted(lengths)}")
    n = lengths.pop()
    if check.whole_number("size", size) > n:
        raise ValueError(f"size must be at most the {n} examples there are, got {size}")
    return _shuffled(tensors, isinstance(data, Tensor), n, size, generator)


def _shuffled(
    tensors: tuple[Tensor, ...], single: bool, n: int, size: int, generator: torch.Generator | None
) -> Iterator[Batch]:
    device = tensors[0].device if generator is None else generator.device
    while True:
        order = torch.randperm(n, generator=generator, device=device).to(tensors[0].device)
        for rows in order.split(size)[: n // size]:
            yield tensors[0][rows] if single else tuple(tensor[rows] for tensor in tensors)


def fit(
    loss: Callable[[Batch], Tensor],
    model: nn.Module | Iterable[Tensor],
    batches: Iterable[Batch],
    steps: int,
    *,
    lr: float = 1e-3,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    cosine: bool = True,
    clip: float | None = None,
    average: float | None = None,
    progress: bool = True,
) -> History:
    r"""Minimise the mean of a loss over batches.

    Args:
        loss: batch → loss per example (B,) or a scalar; `fit` takes the mean.
        model: what to train: a module, or an iterable of leaf tensors. It is changed in place.
        batches: batches of tensors, moved to the model's device; gone through again when they end.
        steps: how many updates to make.
        lr: learning rate at the start.
        optimizer: Adam by default (Kingma and Ba 2015, arXiv:1412.6980).
        cosine: let the rate fall as :math:`\tfrac12 (1 + \cos \pi k / \mathrm{steps})` at step k (Loshchilov and Hutter
            2017, arXiv:1608.03983); constant when False.
        clip: largest norm of the gradient; a longer one is shortened.
        average: decay in (0, 1) of a running average of the weights (after Polyak and Juditsky 1992), which the
            model holds at the end; at step k the decay is at most (1 + k)/(10 + k), so that the start is forgotten.
        progress: show a bar; it goes to the terminal or the notebook, and vanishes at the end.

    Returns:
        The history of the run. An interrupt (Ctrl-C, or the stop button) ends the run early and returns it too.

    Raises:
        ValueError: a setting is out of range, there is nothing to train, or there are no batches.
        RuntimeError: the loss or its gradient is not finite. The message names the step, counted from 1, and the model
            holds what it had learnt before it.
    """
    if not callable(loss):
        raise ValueError(f"loss must be a function of a batch, got {type(loss).__name__}")
    parameters = trainable(model)
    steps, lr = check.whole_number("steps", steps), check.positive("lr", lr)
    longest = math.inf if clip is None else check.positive("clip", clip)
    mean = None if average is None else RunningMean(parameters, average)
    stepper, history = optimizer(parameters, lr=lr), History()
    feed = endless(batches, parameters[0].device)
    bar = progress_bar(steps, progress)
    try:
        for k in bar:
            rate = lr * half_wave(k / steps) if cosine else lr
            for group in stepper.param_groups:
                group["lr"] = rate
            value = loss(next(feed)).mean()
            if not math.isfinite(value.item()):
                raise RuntimeError(f"the loss is {value.item()} at step {k + 1} of {steps}")
            stepper.zero_grad()
            value.backward()
            norm = nn.utils.clip_grad_norm_(parameters, longest)
            if not math.isfinite(norm.item()):
                raise RuntimeError(f"the gradient's norm is {norm.item()} at step {k + 1} of {steps}")
            stepper.step()
            if mean is not None:
                mean.update(k)
            history.loss.append(value.item())
            history.lr.append(rate)
            if k % 50 == 0:
                bar.set_postfix(loss=f"{value.item():.4g}")
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        bar.close()
        if mean is not None:
            mean.hand_over()
    return history


class RunningMean:
    """A running average of parameters (after Polyak and Juditsky 1992).

    Args:
        parameters: leaf tensors.
        decay: in (0, 1).

    Raises:
        ValueError: the decay is out of range.
    """

    def __init__(self, parameters: list[Tensor], decay: float) -> None:
        if not 0 < check.positive("average", decay) < 1:
            raise ValueError(f"average must lie between 0 and 1, got {decay}")
        self.parameters, self.decay = parameters, decay
        self.mean = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, k: int) -> None:
        """Take in the parameters after step k = 0, 1, …: mean ← d · mean + (1 − d) · parameters.

        Here d = min(decay, (1 + k)/(10 + k)), so that the start is forgotten.
        """
        for mean, parameter in zip(self.mean, self.parameters, strict=True):
            mean.lerp_(parameter, 1 - min(self.decay, (1 + k) / (10 + k)))

    @torch.no_grad()
    def hand_over(self) -> None:
        """Parameters ← mean."""
        for parameter, mean in zip(self.parameters, self.mean, strict=True):
            parameter.copy_(mean)


def half_wave(done: float) -> float:
    """½ (1 + cos π · done): from 1 at the start of a run to 0 at its end."""
    return 0.5 * (1 + math.cos(math.pi * done))


def progress_bar(steps: int, progress: bool) -> tqdm:
    """Count the steps, with a bar where somebody can see it."""
    return tqdm(range(steps), disable=not (progress and _watched()), leave=False)


def _watched() -> bool:
    """Return whether somebody can see a bar: a notebook that is run headless is refused any input by its runner."""
    shell = get_ipython()
    return getattr(getattr(shell, "kernel", None), "_allow_stdin", True)


def trainable(model: nn.Module | Iterable[Tensor]) -> list[Tensor]:
    """Return the leaf tensors that want a gradient."""
    if isinstance(model, Tensor) or not isinstance(model, nn.Module | Iterable):
        raise ValueError(f"model must be a module or a list of tensors, got {type(model).__name__}")
    given = list(model.parameters() if isinstance(model, nn.Module) else model)
    parameters = [p for p in given if isinstance(p, Tensor) and p.requires_grad]
    if not parameters:
        raise ValueError(f"model must hold a tensor that requires a gradient, got {len(given)} without")
    return parameters


def endless(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Go through the batches again and again, on the device."""
    if not isinstance(batches, Iterable):
        raise ValueError(f"batches must be an iterable of batches, got {type(batches).__name__}")
    return _endless(batches, device)


def _endless(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    while True:
        batch = None
        for batch in batches:
            yield batch.to(device) if isinstance(batch, Tensor) else tuple(part.to(device) for part in batch)
        if batch is None:
            raise ValueError(
                "batches must yield at least one batch, and again when gone through again, got none"
            )
