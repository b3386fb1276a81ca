"""One training core for the whole book, for one player or several, and streams of batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from IPython import get_ipython
from torch import Tensor, nn
from tqdm.auto import tqdm

from genlib import _arguments as require
from genlib.data import Source

Batch = Tensor | tuple[Tensor, ...] | list[Tensor]


@dataclass
class History:
    """What a run of `play` or `fit` left behind, one entry a finished step.

    Attributes:
        losses: player → mean loss of the batch in its last update of the step, in the unit of the loss (nats in this
            book).
        rate: share of the learning rate at the start.
        interrupted: True when the reader stopped the run; the models then hold what was learnt so far.
    """

    losses: dict[str, list[float]]
    rate: list[float] = field(default_factory=list, repr=False)
    interrupted: bool = False

    @property
    def loss(self) -> list[float]:
        """The losses of the only player."""
        (loss,) = self.losses.values()
        return loss


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
    if require.whole_number("size", size) > n:
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


def fresh_batches(source: Source, size: int, *, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Yield batches for ever: `size` new draws of a source, each time.

    Args:
        source: anything with ``sample``, (n,) → (n, *E).
        size: examples in a batch.
        generator: draws from here instead of torch's global one.

    Raises:
        ValueError: size is not a whole number of at least 1.
    """
    shape = (require.whole_number("size", size),)
    settings = {} if generator is None else {"generator": generator}
    return iter(lambda: source.sample(shape, **settings), None)


def fit(
    loss: Callable[[Batch], Tensor],
    model: nn.Module | Iterable[Tensor],
    batches: Iterable[Batch],
    steps: int,
    *,
    lr: float = 1e-3,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    clip: float | None = None,
    average: float | None = None,
    floor: float = 0.0,
    progress: bool = True,
) -> History:
    """Minimise the mean of a loss over batches: `play` with one player.

    Args:
        loss: batch → loss per example (B,) or a scalar; `fit` takes the mean.
        model: what to train: a module, or an iterable of leaf tensors. It is changed in place.
        batches, steps, floor, progress: as in `play`.
        lr, optimizer, clip, average: as in `Player`.

    Returns:
        The history of the run. An interrupt (Ctrl-C, or the stop button) ends the run early and returns it too.

    Raises:
        ValueError: a setting is out of range, there is nothing to train, or there are no batches.
        RuntimeError: the loss or its gradient is not finite. The message names the step, counted from 1, and the model
            holds what it had learnt before it.
    """
    if not callable(loss):
        raise ValueError(f"loss must be a function of a batch, got {type(loss).__name__}")
    settings = {"lr": lr, "optimizer": optimizer, "clip": clip, "average": average}
    player = Player("model", model, lambda batch, k: loss(batch), **settings)
    return play([player], batches, steps, floor=floor, progress=progress)


class Player:
    """Someone who learns: parameters, and a loss that they are moved to make small.

    Args:
        name: for messages and for the history.
        model: what the player moves: a module, or an iterable of leaf tensors. It is changed in place.
        loss: batch and step k = 0, 1, … → loss per example (B,) or a scalar; the mean is taken.
        lr: learning rate at the start.
        optimizer: Adam by default (Kingma and Ba 2015, arXiv:1412.6980).
        updates: how many in each step. The first sees the batch that the player before has seen, each further one a new
            batch.
        clip: largest norm of the gradient; a longer one is shortened.
        average: decay in (0, 1) of a running average of the weights, which the model holds at the end (`RunningMean`).
        then: called after each update, for instance to cut the weights.

    Raises:
        ValueError: a setting is out of range, or there is nothing to train.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module | Iterable[Tensor],
        loss: Callable[[Batch, int], Tensor],
        *,
        lr: float = 1e-3,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        updates: int = 1,
        clip: float | None = None,
        average: float | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:
        self.name, self.loss, self.parameters = name, loss, trainable(model)
        self.lr, self.updates = require.positive("lr", lr), require.whole_number("updates", updates)
        self.longest = None if clip is None else require.positive("clip", clip)
        self.mean = None if average is None else RunningMean(self.parameters, average)
        self.optimizer, self.then = optimizer(self.parameters, lr=self.lr), then

    def move(self, batch: Batch, k: int, rate: float, when: str) -> float:
        """Take one step down the loss, at `rate` times the learning rate, and return the loss."""
        try:
            value = self.loss(batch, k).mean()
        except (ValueError, RuntimeError) as error:
            if type(error) not in (ValueError, RuntimeError) or when in str(error):
                raise  # an error of another kind, or one that says when already
            raise type(error)(f"{error} (in the {self.name}'s loss at {when})") from error
        paid = value.item()
        if not math.isfinite(paid):
            raise RuntimeError(f"the {self.name}'s loss is {paid} at {when}")
        self.optimizer.zero_grad()
        value.backward(inputs=self.parameters)
        norm = self.shorten().item()
        if not math.isfinite(norm):
            raise RuntimeError(f"the norm of the {self.name}'s gradient is {norm} at {when}")
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.lr
        self.optimizer.step()
        if self.then is not None:
            self.then()
        return paid

    def shorten(self) -> Tensor:
        """Cut the gradient to its largest norm, if there is one, and return the norm that it had."""
        if self.longest is not None:
            return nn.utils.clip_grad_norm_(self.parameters, self.longest)
        slopes = [p.grad.flatten() for p in self.parameters if p.grad is not None]
        return torch.cat(slopes or [torch.zeros(1)]).norm()  # clipping at infinity would also multiply by 1


def play(
    players: Sequence[Player],
    batches: Iterable[Batch],
    steps: int,
    *,
    floor: float = 0.0,
    after: Callable[[int], None] | None = None,
    progress: bool = True,
) -> History:
    r"""Let players learn in turn, each for its own loss.

    Args:
        players: in the order in which they move.
        batches: batches of tensors, moved to the first player's device; gone through again when they end. A batch that
            holds a single tensor, as torch's `TensorDataset` makes them, is given as that tensor.
        steps: how many times each player moves.
        floor: the learning rates fall as :math:`\tfrac12 (1 + \cos \pi k / \mathrm{steps})` at step k (Loshchilov and
            Hutter 2017, arXiv:1608.03983), but not below this share of their start: 1 keeps them constant.
        after: called with k after step k = 1, 2, …, for instance to keep samples; the weights are then the raw ones.
        progress: show a bar; it goes to the terminal or the notebook, and vanishes at the end.

    Returns:
        The history of the run. An interrupt (Ctrl-C, or the stop button) ends the run early and returns it too.

    Raises:
        ValueError: a setting is out of range, or there are no batches.
        RuntimeError: a loss or its gradient is not finite. The message names the player and the step, counted from 1,
            and the models hold what they had learnt before. Errors that a loss itself raises get the step added.
    """
    steps = require.whole_number("steps", steps)
    if float(require.not_negative("floor", floor)) > 1:
        raise ValueError(f"floor must lie between 0 and 1, got {floor}")
    feed = endless(batches, players[0].parameters[0].device)
    history = History({player.name: [] for player in players})
    bar = progress_bar(steps, progress)
    try:
        for k in bar:
            rate, when = max(half_wave(k / steps), floor), f"step {k + 1} of {steps}"
            batch, paid = next(feed), {}
            for player in players:
                for i in range(player.updates):
                    batch = next(feed) if i else batch
                    paid[player.name] = player.move(batch, k, rate, when)
            for player in players:
                history.losses[player.name].append(paid[player.name])
                if player.mean is not None:
                    player.mean.update(k)
            history.rate.append(rate)
            if k % 50 == 0:
                bar.set_postfix({f"{name}'s loss": f"{loss:.4g}" for name, loss in paid.items()})
            if after is not None:
                after(k + 1)
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        bar.close()
        for player in players:
            if player.mean is not None:
                player.mean.hand_over()
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
        if not 0 < require.positive("average", decay) < 1:
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
            if isinstance(batch, Tensor):
                yield batch.to(device)
            else:
                parts = tuple(part.to(device) for part in batch)
                yield parts if len(parts) > 1 else parts[0]
        if batch is None:
            raise ValueError(
                "batches must yield at least one batch, and again when gone through again, got none"
            )
