"""Generative adversarial networks: a generator, and a critic that tells its samples from data.

Neither has a density. The generator turns noise into samples; the critic gives each example one number, high where it
takes the example for a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from genlib import _arguments as require
from genlib._random import normal
from genlib._shapes import evaluating, like_parameters
from genlib.training import History, Player, play, trainable


class Loss(NamedTuple):
    """What the two players make small, each a function of the critic's values f, (B,) → (B,).

    Attributes:
        real: what the critic pays for a real example.
        fake: what the critic pays for a made one.
        generator: what the generator pays for a made one.
    """

    real: Callable
    fake: Callable
    generator: Callable


def _surprise_of_real(f: Tensor) -> Tensor:
    """−log D."""
    return -logsigmoid(f)


def _surprise_of_fake(f: Tensor) -> Tensor:
    """−log(1 − D)."""
    return -logsigmoid(-f)


def _minus_surprise_of_fake(f: Tensor) -> Tensor:
    """log(1 − D)."""
    return logsigmoid(-f)


def _square_to_one(f: Tensor) -> Tensor:
    """(f − 1)²."""
    return (f - 1) ** 2


#: The losses by name. With D = sigmoid(f), logsigmoid(f) is log D and logsigmoid(−f) is log(1 − D).
#:
#: - "minimax" and "non-saturating": Goodfellow et al. 2014, arXiv:1406.2661.
#: - "least-squares": Mao et al. 2017, arXiv:1611.04076, with labels 1 for real and 0 for made, without the factor ½.
#: - "wasserstein": Arjovsky et al. 2017, arXiv:1701.07875.
LOSSES = MappingProxyType(
    {
        "minimax": Loss(_surprise_of_real, _surprise_of_fake, _minus_surprise_of_fake),
        "non-saturating": Loss(_surprise_of_real, _surprise_of_fake, _surprise_of_real),
        "least-squares": Loss(_square_to_one, torch.square, _square_to_one),
        "wasserstein": Loss(torch.neg, torch.positive, torch.neg),
    }
)


def gradient(critic: nn.Module, x: Tensor) -> Tensor:
    """The critic's gradient in x at each example, (B, *E) → (B, E) flat. It can be differentiated again."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (slopes,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return slopes.reshape(len(x), -1)


def r1(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """½ ‖∇f(x)‖² at real examples, (B,) (Mescheder et al. 2018, arXiv:1801.04406)."""
    return 0.5 * gradient(critic, real).square().sum(1)


def r2(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """½ ‖∇f(x)‖² at made examples, (B,) (Mescheder et al. 2018, arXiv:1801.04406)."""
    return 0.5 * gradient(critic, fake).square().sum(1)


def wgan_gp(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """(‖∇f(x)‖ − 1)² somewhere between a real and a made example, (B,) (Gulrajani et al. 2017, arXiv:1704.00028)."""
    return (gradient(critic, _between(real, fake)).norm(dim=1) - 1) ** 2


def wgan_lp(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """max(‖∇f(x)‖ − 1, 0)² at such places, (B,) (Petzka et al. 2018, arXiv:1709.08894)."""
    return (gradient(critic, _between(real, fake)).norm(dim=1) - 1).clamp(min=0) ** 2


def _between(real: Tensor, fake: Tensor) -> Tensor:
    """Return a random place on the line from each real example to a made one."""
    u = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
    return torch.lerp(real, fake, u)


def dragan(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """(‖∇f(x)‖ − 1)² near real examples, (B,) (Kodali et al. 2017, arXiv:1705.07215).

    Near means: with normal noise added, half as wide as the numbers in the batch are spread.
    """
    near = real + 0.5 * real.std(correction=0) * torch.randn_like(real)
    return (gradient(critic, near).norm(dim=1) - 1) ** 2


PENALTIES = MappingProxyType({"r1": r1, "r2": r2, "wgan-gp": wgan_gp, "wgan-lp": wgan_lp, "dragan": dragan})


class GAN(nn.Module):
    r"""Generative adversarial network (Goodfellow et al. 2014, arXiv:1406.2661).

    .. math:: \min_G \max_D\ \mathbb{E}[\log D(x)] + \mathbb{E}[\log (1 - D(G(z)))], \qquad D = \sigma(f)

    for the minimax loss; the others change what is summed.

    Args:
        generator: z (B, d) → x (B, *E).
        critic: x (B, *E) → f (B,) or (B, 1), high for real.
        latent: d, how many standard normal numbers z holds.
        loss: one of `LOSSES`.
        penalty: one of `PENALTIES`; it counts as much as the weight in `critic_loss` says.

    Raises:
        ValueError: an unknown name, or `latent` is no whole number of at least 1.
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        latent: int,
        loss: str = "non-saturating",
        penalty: str = "r1",
    ) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic
        self.latent = require.whole_number("latent", latent)
        self.pays: Loss = require.one_of("loss", loss, LOSSES)
        self.penalty = require.one_of("penalty", penalty, PENALTIES)

    def value(self, x: Tensor) -> Tensor:
        """The critic's f(x), (B, *E) → (B,); with the first two losses sigmoid(f) is the probability of real."""
        require.same_dtype("x", x, self.critic)
        f = self.critic(x)
        if f.shape not in ((len(x),), (len(x), 1)):
            raise ValueError(f"critic must return shape ({len(x)},) or ({len(x)}, 1), got {tuple(f.shape)}")
        return f.flatten()

    def critic_loss(self, real: Tensor, fake: Tensor, weight: float = 0.0) -> Tensor:
        """What the critic makes small, (B, *E), (B, *E) → (B,).

        Args:
            real: data.
            fake: as many samples of the generator; no gradient goes back through them.
            weight: of the penalty, at least 0.

        Raises:
            ValueError: real and fake differ in shape, are empty or not finite, or the weight is negative.
        """
        real, fake = _batch("real", real), _batch("fake", fake).detach()
        if real.shape != fake.shape:
            raise ValueError(
                f"real and fake must have one shape, got {tuple(real.shape)} and {tuple(fake.shape)}"
            )
        require.not_negative("weight", weight)
        f_real, f_fake = self.value(torch.cat([real, fake])).chunk(2)
        loss = self.pays.real(f_real) + self.pays.fake(f_fake)
        return loss + weight * self.penalty(self.value, real, fake) if weight else loss

    def generator_loss(self, fake: Tensor) -> Tensor:
        """What the generator makes small, for its samples, (B, *E) → (B,)."""
        return self.pays.generator(self.value(_batch("fake", fake)))

    @property
    def event_shape(self) -> torch.Size:
        """Shape E of one sample."""
        with evaluating(self.generator):
            return self.generator(like_parameters(self).new_zeros(1, self.latent)).shape[1:]

    def rsample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw G(z) with a gradient, (n,) → (n, *E)."""
        z = normal((require.sample_count(shape), self.latent), like_parameters(self), generator)
        return self.generator(z)

    @torch.no_grad()
    def sample(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
        """Draw G(z), (n,) → (n, *E)."""
        return self.rsample(shape, generator=generator)


def fit(
    model: GAN,
    batches: Iterable[Tensor],
    steps: int,
    *,
    lr: float = 1e-3,
    critic_lr: float | None = None,
    critic_steps: int = 1,
    weight: float | tuple[float, float] = 0.0,
    clip: float | None = None,
    betas: tuple[float, float] = (0.0, 0.99),
    average: float | None = None,
    floor: float = 0.0,
    after: Callable[[int], None] | None = None,
    progress: bool = True,
) -> History:
    r"""Let critic and generator learn in turn, with Adam.

    Args:
        model: what to train, in place.
        batches: real examples (B, *E), gone through again when they end. Each update of the critic takes a new batch,
            and each update of either player as many new samples.
        steps: how many updates of the generator.
        lr: learning rate at the start.
        critic_lr: that of the critic; the same when None.
        critic_steps: updates of the critic before each update of the generator.
        weight: of the penalty. Two numbers above 0 are the first and the last; in between it falls geometrically.
        clip: after each of its updates, the critic's parameters are cut to [−clip, clip] (Arjovsky et al. 2017).
        betas: how slowly Adam forgets the gradients and their squares. The first is momentum; it makes two players who
            circle each other circle wider.
        average: decay in (0, 1) of a running average of the generator's weights, which it holds at the end; see
            `genlib.training.RunningMean`.
        floor: both rates fall along half a cosine wave, but not below this share of their start; see
            `genlib.training.play`. Above 0 the players never come to rest, so combine it with an average.
        after: called with k after step k = 1, 2, …, for instance to keep samples; the weights are then the raw ones.
        progress: show a bar; it goes to the terminal or the notebook, and vanishes at the end.

    Returns:
        The history of the run, of the players "critic" and "generator". An interrupt (Ctrl-C, or the stop button) ends
        the run early and returns it too.

    Raises:
        ValueError: a setting is out of range, or there are no batches.
        RuntimeError: a loss, its gradient or a sample is not finite. The message names the player and the step, counted
            from 1, and the model holds what it had learnt before.
    """
    steps, weights = require.whole_number("steps", steps), _falling(weight)
    critic_lr = lr if critic_lr is None else require.positive("critic_lr", critic_lr)
    adam = partial(torch.optim.Adam, betas=tuple(map(float, betas)), fused=True)

    def critic_loss(real: Tensor, k: int) -> Tensor:
        fake = _finite(model.sample((len(_batch("real", real)),)), k, steps)
        return model.critic_loss(real, fake, weights(k / max(steps - 1, 1)))

    def generator_loss(real: Tensor, k: int) -> Tensor:
        # new samples, because the critic has just learnt the others
        return model.generator_loss(_finite(model.rsample((len(real),)), k, steps))

    critic = Player(
        "critic",
        model.critic,
        critic_loss,
        lr=critic_lr,
        optimizer=adam,
        updates=require.whole_number("critic_steps", critic_steps),
        then=None if clip is None else partial(_cut, model.critic, require.positive("clip", clip)),
    )
    generator = Player("generator", model.generator, generator_loss, lr=lr, optimizer=adam, average=average)
    return play([critic, generator], batches, steps, floor=floor, after=after, progress=progress)


@torch.no_grad()
def _cut(critic: nn.Module, limit: float) -> None:
    """Cut the parameters that learn to [−limit, limit]."""
    for parameter in trainable(critic):
        parameter.clamp_(-limit, limit)


def _finite(fake: Tensor, k: int, steps: int) -> Tensor:
    """Return the generator's samples after checking that they are finite."""
    if not require.holds(torch.isfinite(fake).all()):
        raise RuntimeError(f"the generator's samples are not finite at step {k + 1} of {steps}")
    return fake


def _falling(weight: float | tuple[float, float]) -> Callable[[float], float]:
    """Return the weight as a function of the share of the run that is done."""
    if not isinstance(weight, tuple | list):
        constant = float(require.not_negative("weight", weight))
        return lambda done: constant
    if len(weight) != 2:
        raise ValueError(f"weight must be a number, or the first and the last of a run, got {weight!r}")
    first, last = (require.positive("weight", end) for end in weight)
    return lambda done: first * (last / first) ** done


def _batch(name: str, x: object) -> Tensor:
    """Return x after checking that it is a batch (B, *E) of finite real numbers, B at least 1."""
    x = require.batch(name, x, (...,)) if isinstance(x, Tensor) and x.ndim > 1 else require.batch(name, x, ())
    if not x.numel():
        raise ValueError(f"{name} must hold at least one example, got shape {tuple(x.shape)}")
    return x
