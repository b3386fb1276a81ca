"""Generative adversarial networks: the losses, the penalties, the game of the two players, and what is refused."""

import copy
import itertools
import math
import re

import pytest
import torch
from exactness import FEW, REAL, STEADY, close, seeded
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.nn import functional as F

from genlib import gan
from genlib.gan import GAN, LOSSES, PENALTIES, fit
from genlib.training import History

pytestmark = pytest.mark.usefixtures("double")

SEEDS = st.integers(0, 10**6)
VALUES = st.lists(st.floats(-30, 30), min_size=1, max_size=5)
EVENTS = [(2,), (3, 2), (1, 8, 8)]
TOWARDS_ONE = ["wgan-gp", "wgan-lp", "dragan"]


def draws(shape, seed=0, spread=1.0):
    return spread * torch.randn(shape, generator=seeded(seed), dtype=REAL)


def a_critic(event=(2,), flat=False, seed=0):
    """A smooth critic (B, *E) → (B, 1), or (B,) when flat."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(event), 5), nn.Tanh(), nn.Linear(5, 1))
    return net.append(nn.Flatten(0)) if flat else net


def a_generator(event=(2,), seed=0, latent=3):
    torch.manual_seed(seed + 1)
    return nn.Sequential(
        nn.Linear(latent, 4), nn.Tanh(), nn.Linear(4, math.prod(event)), nn.Unflatten(1, event)
    )


def a_gan(event=(2,), loss="non-saturating", penalty="r1", flat=False, seed=0, kind=GAN):
    return kind(a_generator(event, seed), a_critic(event, flat, seed), 3, loss, penalty)


class Line(nn.Module):
    """f(x) = w · x, (B, *E) → (B,)."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.as_tensor(w, dtype=REAL))

    def forward(self, x):
        return x.flatten(1) @ self.w


class Bowl(nn.Module):
    """f(x) = ½ xᵀ A x with A symmetric, so that ∇f(x) = A x."""

    def __init__(self, root):
        super().__init__()
        self.root = nn.Parameter(root)

    def matrix(self):
        return self.root + self.root.T

    def forward(self, x):
        x = x.flatten(1)
        return 0.5 * ((x @ self.matrix()) * x).sum(1)


class Spy(nn.Module):
    """A critic that keeps where it is asked."""

    def __init__(self, critic):
        super().__init__()
        self.critic, self.seen = critic, []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.critic(x)


# the losses

bce, mse = F.binary_cross_entropy_with_logits, F.mse_loss


def against(cost, label, sign=1):
    return lambda f: sign * cost(f, torch.full_like(f, label), reduction="none")


IN_TORCH = {
    "minimax": (against(bce, 1), against(bce, 0), against(bce, 0, -1)),
    "non-saturating": (against(bce, 1), against(bce, 0), against(bce, 1)),
    "least-squares": (against(mse, 1), against(mse, 0), against(mse, 1)),
    "wasserstein": (lambda f: -f, lambda f: f, lambda f: -f),
}
SLOPES = {
    "minimax": (lambda f: -torch.sigmoid(-f), torch.sigmoid, lambda f: -torch.sigmoid(f)),
    "non-saturating": (lambda f: -torch.sigmoid(-f), torch.sigmoid, lambda f: -torch.sigmoid(-f)),
    "least-squares": (lambda f: 2 * f - 2, lambda f: 2 * f, lambda f: 2 * f - 2),
    "wasserstein": (lambda f: -torch.ones_like(f), torch.ones_like, lambda f: -torch.ones_like(f)),
}


def test_there_are_four_losses_and_five_penalties():
    assert set(LOSSES) == set(IN_TORCH)
    assert dict(PENALTIES) == {
        "r1": gan.r1,
        "r2": gan.r2,
        "wgan-gp": gan.wgan_gp,
        "wgan-lp": gan.wgan_lp,
        "dragan": gan.dragan,
    }
    for table in (LOSSES, PENALTIES):
        with pytest.raises(TypeError):
            table["other"] = None


@pytest.mark.parametrize("name", IN_TORCH)
@STEADY
@given(VALUES)
def test_losses_against_torch_and_their_slopes(name, values):
    for ours, theirs, slope in zip(LOSSES[name], IN_TORCH[name], SLOPES[name], strict=True):
        f = torch.tensor(values, dtype=REAL, requires_grad=True)
        loss = ours(f)
        assert loss.shape == f.shape
        exact = f.detach().abs().amax() < 20  # further out torch's softplus leaves exp(−20) out
        torch.testing.assert_close(loss, theirs(f), rtol=1e-12, atol=1e-12 if exact else 3e-9)
        (gradient,) = torch.autograd.grad(loss.sum(), f)
        torch.testing.assert_close(gradient, slope(f.detach()), rtol=1e-10, atol=1e-12 if exact else 3e-9)


@STEADY
@given(VALUES)
def test_the_minimax_game_has_zero_sum(values):
    f = torch.tensor(values, dtype=REAL)
    pays = LOSSES["minimax"]
    assert torch.equal(pays.generator(f), -pays.fake(f))
    close(LOSSES["non-saturating"].generator(f), -pays.generator(-f))


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
@pytest.mark.parametrize("name", IN_TORCH)
def test_losses_are_finite_far_out(name, dtype):
    for k, far in enumerate((-1000.0, 1000.0)):
        expected = {
            "minimax": [(1000, 0, 0), (0, 1000, -1000)],
            "non-saturating": [(1000, 0, 1000), (0, 1000, 0)],
            "least-squares": [(1001**2, 1e6, 1001**2), (999**2, 1e6, 999**2)],
            "wasserstein": [(1000, -1000, 1000), (-1000, 1000, -1000)],
        }[name][k]
        for ours, slope, value in zip(LOSSES[name], SLOPES[name], expected, strict=True):
            f = torch.tensor([far], dtype=dtype, requires_grad=True)
            loss = ours(f)
            assert loss.dtype == dtype
            assert loss.item() == value
            (gradient,) = torch.autograd.grad(loss.sum(), f)
            assert torch.equal(gradient, slope(f.detach()))


# the best critic


def tables(seed, symbols):
    p, q = (torch.softmax(draws(symbols, seed + k), 0) for k in range(2))
    return p, q


def mean_critic_loss(model, p, q):
    """Mean over real ~ p and made ~ q, both one-hot, exactly."""
    symbols = len(p)
    real = torch.eye(symbols).repeat_interleave(symbols, 0)
    fake = torch.eye(symbols).repeat(symbols, 1)
    return ((p[:, None] * q).flatten() * model.critic_loss(real, fake)).sum()


def best(p, q, loss):
    """The critic's values at its minimum, and that minimum."""
    critic = nn.Linear(len(p), 1, bias=False)
    nn.init.zeros_(critic.weight)
    model = GAN(nn.Linear(1, len(p)), critic, 1, loss)
    optimizer = torch.optim.LBFGS(
        critic.parameters(),
        max_iter=300,
        tolerance_grad=1e-11,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        value = mean_critic_loss(model, p, q)
        value.backward()
        return value

    optimizer.step(closure)
    return critic.weight.detach()[0], mean_critic_loss(model, p, q).item()


def twice_jsd(p, q):
    m = (p + q) / 2
    return (p * (p / m).log()).sum() + (q * (q / m).log()).sum()


@pytest.mark.parametrize("loss", ["minimax", "non-saturating"])
@pytest.mark.parametrize("seed", range(3))
def test_best_critic_is_the_log_ratio_and_its_value_the_jensen_shannon_divergence(loss, seed):
    p, q = tables(seed, 2 + seed)
    f, value = best(p, q, loss)
    close(f, p.log() - q.log(), 1e-7)
    close(-value, -math.log(4) + twice_jsd(p, q), 1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_best_critic_of_least_squares_is_the_share_of_the_data(seed):
    p, q = tables(seed, 2 + seed)
    f, value = best(p, q, "least-squares")
    close(f, p / (p + q), 1e-7)
    close(value, (p * q / (p + q)).sum(), 1e-12)


@FEW
@given(SEEDS, st.integers(2, 6))
def test_slope_of_the_generator_at_the_best_critic(seed, symbols):
    """Goodfellow et al. 2014, theorem 1; Arjovsky and Bottou 2017, theorem 2.5."""
    p, q = tables(seed, symbols)
    logits = q.log().requires_grad_()
    q = logits.softmax(0)
    f = (p.log() - q.log()).detach()
    reverse = (q * (q / p).log()).sum()
    for name, divergence in (
        ("minimax", twice_jsd(p, q)),
        ("non-saturating", reverse - twice_jsd(p, q)),
        ("wasserstein", reverse),
    ):
        model = GAN(nn.Linear(1, symbols), Line(f), 1, name)
        (ours,) = torch.autograd.grad(
            (q * model.generator_loss(torch.eye(symbols))).sum(), logits, retain_graph=True
        )
        (expected,) = torch.autograd.grad(divergence, logits, retain_graph=True)
        close(ours, expected, 1e-12)


# what each player pays


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("loss", IN_TORCH)
def test_what_the_players_pay_by_hand(loss, event, flat):
    model = a_gan(event, loss, flat=flat)
    real, fake = draws((4, *event), 1), draws((4, *event), 2)
    of_real, of_fake, of_generator = IN_TORCH[loss]
    values = [model.critic(x).flatten() for x in (real, fake)]
    for x, f in zip((real, fake), values, strict=True):
        assert model.value(x).shape == (4,)
        close(model.value(x), f)
    critic_loss, generator_loss = model.critic_loss(real, fake), model.generator_loss(fake)
    assert critic_loss.shape == generator_loss.shape == (4,)
    close(critic_loss, of_real(values[0]) + of_fake(values[1]))
    close(generator_loss, of_generator(values[1]))
    weighted = model.critic_loss(real, fake, 0.7)
    assert weighted.shape == (4,)
    for k in range(4):  # each example pays for itself
        one = slice(k, k + 1)
        close(model.critic_loss(real[one], fake[one], 0.7), weighted[one])
        close(model.generator_loss(fake[one]), generator_loss[one])


@pytest.mark.parametrize("loss", ["minimax", "non-saturating", "least-squares"])
def test_players_pay_for_plain_numbers(loss):
    """Examples may be single numbers, (B,)."""

    class Cubic(nn.Module):
        def forward(self, x):
            return x**3

    model = GAN(nn.Linear(1, 1), Cubic(), 1, loss)
    real, fake = draws(5), draws(5, 1)
    of_real, of_fake, of_generator = IN_TORCH[loss]
    close(model.critic_loss(real, fake), of_real(real**3) + of_fake(fake**3))
    close(model.generator_loss(fake), of_generator(fake**3))


def test_names_choose_the_loss_and_the_penalty():
    for name in LOSSES:
        assert a_gan(loss=name).pays is LOSSES[name]
    for name in PENALTIES:
        assert a_gan(penalty=name).penalty is PENALTIES[name]
    model = GAN(a_generator(), a_critic(), 3)
    assert model.pays is LOSSES["non-saturating"]
    assert model.penalty is gan.r1
    assert model.latent == 3


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", IN_TORCH)
def test_gradients_reach_the_player_who_pays(loss, penalty):
    model = a_gan(loss=loss, penalty=penalty)
    fake = model.rsample((4,))
    paid = model.critic_loss(draws((4, 2)), fake, 2.0).sum()
    none = torch.autograd.grad(
        paid, [fake, *model.generator.parameters()], retain_graph=True, allow_unused=True
    )
    assert all(gradient is None for gradient in none)
    some = torch.autograd.grad(paid, list(model.critic.parameters()), allow_unused=True)
    assert all(
        gradient.any() for gradient in some[:-1]
    )  # the last is a shift, which wasserstein does not see
    assert loss == "wasserstein" or some[-1].any()
    paid = model.generator_loss(model.rsample((4,))).sum()
    assert all(gradient.any() for gradient in torch.autograd.grad(paid, list(model.generator.parameters())))
    assert fake.requires_grad  # the caller's tensors stay as they were
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_weight_of_the_penalty(penalty, event):
    model = a_gan(event, penalty=penalty)
    real, fake = draws((4, *event), 1), draws((4, *event), 2)

    def paid(*weight):
        torch.manual_seed(0)
        return model.critic_loss(real, fake, *weight)

    torch.manual_seed(0)
    fine = PENALTIES[penalty](model.critic, real, fake)
    assert fine.shape == (4,)
    assert fine.any() or penalty == "wgan-lp"
    assert torch.equal(paid(), paid(0.0))
    for weight in (0.3, 1, 10.0):
        close(paid(weight) - paid(0), weight * fine)


def test_no_weight_asks_for_no_penalty():
    model = a_gan()
    model.penalty = lambda *_: pytest.fail("a penalty without weight")
    model.critic_loss(draws((4, 2)), draws((4, 2)), 0)
    model.critic_loss(draws((4, 2)), draws((4, 2)))


def test_the_penalty_sees_real_and_fake_in_this_order():
    model, seen = a_gan(), []
    real, fake = draws((4, 2), 1), draws((4, 2), 2)
    model.penalty = lambda critic, *xs: seen.extend([critic(xs[0]), *xs]) or torch.arange(4.0)
    close(model.critic_loss(real, fake, 2.0) - model.critic_loss(real, fake), 2 * torch.arange(4.0))
    assert torch.equal(seen[0], model.value(real))
    assert torch.equal(seen[1], real)
    assert torch.equal(seen[2], fake)


# the penalties


@FEW
@given(SEEDS, st.sampled_from(EVENTS), st.floats(0.01, 3))
def test_penalties_of_a_line(seed, event, length):
    w = draws(math.prod(event), seed)
    critic = Line(length * w / w.norm())
    real, fake = draws((3, *event), seed + 1), draws((3, *event), seed + 2)
    expected = {
        "r1": length**2 / 2,
        "r2": length**2 / 2,
        "wgan-gp": (length - 1) ** 2,
        "wgan-lp": max(length - 1, 0.0) ** 2,
        "dragan": (length - 1) ** 2,
    }
    for name, penalty in PENALTIES.items():
        close(penalty(critic, real, fake), torch.full((3,), expected[name]), 1e-10)


def penalty_by_hand(name, slopes):
    length = slopes.flatten(1).square().sum(1).sqrt()
    return {
        "r1": length**2 / 2,
        "r2": length**2 / 2,
        "wgan-gp": (length - 1) ** 2,
        "wgan-lp": torch.where(length > 1, (length - 1) ** 2, 0.0),
        "dragan": (length - 1) ** 2,
    }[name]


@FEW
@given(SEEDS, st.integers(1, 4), st.floats(0.1, 2))
def test_penalties_of_a_bowl(seed, D, spread):
    spy = Spy(Bowl(draws((D, D), seed, spread)))
    real, fake = draws((6, D), seed + 1), draws((6, D), seed + 2)
    for name, penalty in PENALTIES.items():
        spy.seen.clear()
        fine = penalty(spy, real, fake)
        (x,) = spy.seen
        close(fine, penalty_by_hand(name, x @ spy.critic.matrix()), 1e-9)


@pytest.mark.parametrize("event", EVENTS)
def test_gradient_against_finite_differences(event):
    critic, x, step = a_critic(event), draws((3, *event)), 1e-5
    slopes = gan.gradient(critic, x)
    assert slopes.shape == (3, math.prod(event))
    for k, direction in enumerate(torch.eye(math.prod(event)).reshape(-1, *event)):
        with torch.no_grad():
            rise = critic(x + step * direction) - critic(x - step * direction)
        close(slopes[:, k], rise[:, 0] / (2 * step), 1e-9)
    assert not x.requires_grad


@pytest.mark.parametrize("steep", [0.5, 3.0])
@pytest.mark.parametrize("event", EVENTS[:2])
@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_can_be_differentiated_in_the_critic(name, event, steep):
    critic = a_critic(event)
    real, fake = draws((4, *event), 1), draws((4, *event), 2)
    factor = steep / gan.gradient(critic, real).detach().norm(dim=1).mean()
    with torch.no_grad():
        critic[-1].weight *= factor
    names, values = zip(*critic.named_parameters(), strict=True)

    def fine(*values):
        torch.manual_seed(0)
        return PENALTIES[name](
            lambda x: torch.func.functional_call(critic, dict(zip(names, values, strict=True)), (x,)),
            real,
            fake,
        )

    inputs = [value.detach().clone().requires_grad_() for value in values]
    assert torch.autograd.gradcheck(fine, inputs)
    gradients = torch.autograd.grad(fine(*inputs).sum(), inputs, allow_unused=True)
    assert gradients[-1] is None or not gradients[-1].any()  # a shift costs nothing
    assert all(gradient.any() for gradient in gradients[:-1]) or (name == "wgan-lp" and steep < 1)


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_do_not_reach_the_examples(name):
    real, fake = draws((4, 2), 1).requires_grad_(), draws((4, 2), 2).requires_grad_()
    fine = PENALTIES[name](a_critic(), real, fake).sum()
    assert torch.autograd.grad(fine, (real, fake), allow_unused=True) == (None, None)


@pytest.mark.parametrize("name", PENALTIES)
def test_a_flat_critic_has_finite_gradients(name):
    for critic in (a_critic(), Line(torch.zeros(2))):
        with torch.no_grad():
            for parameter in critic.parameters():
                parameter.zero_()
        fine = PENALTIES[name](critic, draws((4, 2), 1), draws((4, 2), 2))
        close(fine, torch.full((4,), 1.0 if name in ("wgan-gp", "dragan") else 0.0))
        gradients = torch.autograd.grad(fine.sum(), list(critic.parameters()), allow_unused=True)
        assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_r2_is_asked_at_the_samples_alone():
    critic, fake = a_critic(), draws((4, 2))
    for seed in range(2):
        assert torch.equal(gan.r2(critic, draws((4, 2), seed), fake), gan.r1(critic, fake, fake))


def test_r1_is_asked_at_the_data_alone():
    spy, real = Spy(a_critic()), draws((4, 2))
    first, second = (gan.r1(spy, real, draws((4, 2), seed)) for seed in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(x, real) for x in spy.seen)


@pytest.mark.parametrize("penalty", [gan.wgan_gp, gan.wgan_lp])
@pytest.mark.parametrize("event", EVENTS)
def test_wasserstein_penalties_are_asked_between_an_example_and_its_partner(penalty, event):
    n, spy = 2000, Spy(a_critic(event))
    real, fake = draws((n, *event), 1), 5 + draws((n, *event), 2)
    torch.manual_seed(0)
    penalty(spy, real, fake)
    (x,) = spy.seen
    assert x.shape == real.shape
    share = ((x - real) / (fake - real)).flatten(1)
    close(share, share.median(1, keepdim=True).values.expand_as(share), 1e-9)  # on the line, at one place
    share = share[:, 0]
    assert (share >= 0).all()
    assert (share <= 1).all()
    assert stats.kstest(share.numpy(), "uniform").pvalue > 0.01
    penalty(spy, real, fake)
    assert not torch.allclose(spy.seen[1], x)


def test_dragan_is_asked_near_the_data():
    n, spy = 20_000, Spy(a_critic())
    real = draws((n, 2), 1) * torch.tensor([1.0, 4.0]) + torch.tensor([3.0, -2.0])
    torch.manual_seed(0)
    gan.dragan(spy, real, real + math.nan)  # made examples do not matter
    noise = spy.seen[0] - real
    for column in noise.T:  # equally wide in all directions
        width = 0.5 * real.std().item()
        assert stats.kstest(column.numpy() / width, "norm").pvalue > 0.01
    assert abs(torch.corrcoef(noise.T)[0, 1]) < 0.03
    gan.dragan(spy, real, real)
    assert not torch.allclose(spy.seen[1], spy.seen[0])


@pytest.mark.parametrize("name", TOWARDS_ONE)
def test_penalties_keep_float32_and_draw_nothing_for_r1(name):
    critic = a_critic().float()
    real, fake = draws((4, 2), 1).float(), draws((4, 2), 2).float()
    assert PENALTIES[name](critic, real, fake).dtype == torch.float32
    state = torch.get_rng_state()
    assert gan.r1(critic, real, fake).dtype == torch.float32
    assert torch.equal(torch.get_rng_state(), state)


# samples


@pytest.mark.parametrize("event", EVENTS)
def test_samples_are_the_generator_of_standard_normal_noise(event):
    model, noise = a_gan(event), []
    model.generator.register_forward_pre_hook(lambda _, given: noise.append(given[0]))
    for draw in (model.sample, model.rsample):
        x = draw((2000,))
        assert x.shape == (2000, *event)
        z = noise[-1]
        assert z.shape == (2000, 3)
        assert torch.equal(x, model.generator(z))
        noise.pop()
        assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 0.01
    assert not torch.equal(noise[0], noise[1])
    torch.manual_seed(5)
    first = model.sample((4,))
    torch.manual_seed(5)
    assert torch.equal(model.rsample([4]), first)


def test_only_rsample_has_a_gradient():
    model = a_gan()
    assert not model.sample((3,)).requires_grad
    gradients = torch.autograd.grad(model.rsample((3,)).sum(), list(model.generator.parameters()))
    assert all(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
def test_samples_have_the_dtype_and_the_device_of_the_generator(dtype):
    model = a_gan().to(dtype)
    assert model.sample((2,)).dtype == model.rsample((2,)).dtype == dtype
    assert model.sample((2,)).device.type == "cpu"
    model.generator.to("meta")
    assert model.sample((2,)).device.type == "meta"
    assert model.rsample((2,)).dtype == dtype


def test_parts_are_registered():
    model = a_gan()
    assert dict(model.named_children()) == {"generator": model.generator, "critic": model.critic}
    other = a_gan(seed=7)
    other.load_state_dict(model.state_dict())
    close(other.value(draws((3, 2))), model.value(draws((3, 2))))


# the game


class Watched(GAN):
    """Keeps each call of a player's loss: who, on what, and all parameters at that time."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.calls, self.trouble, self.noise = [], {}, []
        self.generator.register_forward_pre_hook(lambda _, given: self.noise.append(given[0].clone()))

    def note(self, who, loss, **facts):
        self.calls.append({"who": who, **facts, **snapshot(self)})
        count = sum(call["who"] == who for call in self.calls)
        trouble = self.trouble.get((who, count))
        if trouble == "interrupt":
            raise KeyboardInterrupt
        if trouble in ("slope inf", "slope nan"):
            zero = sum(p.sum() for p in getattr(self, who).parameters())
            zero = zero - zero.detach()
            return loss + (zero.sqrt() if trouble == "slope inf" else zero.abs().sqrt())
        return loss if trouble is None else loss + trouble

    def critic_loss(self, real, fake, weight=0.0):
        loss = super().critic_loss(real, fake, weight)
        return self.note(
            "critic", loss, real=real, fake=fake.detach().clone(), weight=weight, paid=loss.mean().item()
        )

    def generator_loss(self, fake):
        loss = super().generator_loss(fake)
        return self.note("generator", loss, fake=fake, paid=loss.mean().item())


def snapshot(model):
    return {
        f"{name} weights": torch.cat(
            [p.detach().flatten() for p in getattr(model, name).parameters()]
        ).clone()
        for name in ("generator", "critic")
    }


def batches_of(count, size=4, event=(2,), seed=5):
    return [draws((size, *event), seed + k) for k in range(count)]


def run(model, batches=None, steps=4, **settings):
    torch.manual_seed(0)
    return fit(model, batches_of(3) if batches is None else batches, steps, progress=False, **settings)


def by_hand(
    model, noise, batches, steps, *, betas, lr, critic_lr, critic_steps, weights, clip, average, floor
):
    """The game with torch's own losses and optimisers, on noise that is given; `model` is trained in place."""
    of_real, of_fake, of_generator = next(IN_TORCH[name] for name in LOSSES if LOSSES[name] == model.pays)
    generator, critic = model.generator, model.critic
    movers = [
        torch.optim.Adam(part.parameters(), lr=rate, betas=betas, eps=1e-8)
        for part, rate in ((generator, lr), (critic, critic_lr))
    ]
    noise, feed, paid = iter(noise), 0, {"critic": [], "generator": []}
    mean = [p.detach().clone() for p in generator.parameters()]
    for k in range(steps):
        rate = max((1 + math.cos(math.pi * k / steps)) / 2, floor)
        movers[0].param_groups[0]["lr"], movers[1].param_groups[0]["lr"] = rate * lr, rate * critic_lr
        for _ in range(critic_steps):
            real = batches[feed % len(batches)].clone().requires_grad_()
            feed += 1
            fake = generator(next(noise)).detach()
            f = critic(real).flatten()
            (slopes,) = torch.autograd.grad(f.sum(), real, create_graph=True)
            loss = of_real(f).mean() + of_fake(critic(fake).flatten()).mean()
            loss = loss + weights[k] * slopes.pow(2).flatten(1).sum(1).mean() / 2
            movers[1].zero_grad()
            loss.backward()
            movers[1].step()
            if clip is not None:
                with torch.no_grad():
                    for p in critic.parameters():
                        p.copy_(p.clip(-clip, clip))
        paid["critic"].append(loss.item())
        loss = of_generator(critic(generator(next(noise))).flatten()).mean()
        movers[0].zero_grad()
        loss.backward()
        movers[0].step()
        paid["generator"].append(loss.item())
        d = min(average or 1, (1 + k) / (10 + k))
        mean = [d * m + (1 - d) * p.detach() for m, p in zip(mean, generator.parameters(), strict=True)]
    if average is not None:
        with torch.no_grad():
            for p, m in zip(generator.parameters(), mean, strict=True):
                p.copy_(m)
    return paid


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        ("minimax", {}),
        ("minimax", {"betas": (0.5, 0.999)}),
        ("non-saturating", {"weight": 0.5, "average": 0.9}),
        ("non-saturating", {"weight": (3.0, 0.3), "critic_steps": 2, "floor": 1.0, "average": 0.15}),
        ("least-squares", {"lr": 0.03, "critic_lr": 0.01, "weight": (0.1, 1.0)}),
        ("wasserstein", {"clip": 0.2, "critic_steps": 3, "critic_lr": 0.2}),
        ("wasserstein", {"weight": 10, "floor": 0.3, "critic_steps": 2}),
    ],
)
def test_the_game_against_a_loop_by_hand(loss, settings):
    steps, batches = 7, batches_of(5)
    model = a_gan(loss=loss, kind=Watched)
    other = copy.deepcopy(model)
    settings = {"lr": 0.05, **settings}
    history = run(model, batches, steps, **settings)
    weight = settings.get("weight", 0)
    first, last = weight if isinstance(weight, tuple) else (weight, weight)
    expected = by_hand(
        other,
        model.noise,
        batches,
        steps,
        betas=settings.get("betas", (0.0, 0.99)),
        lr=settings["lr"],
        critic_lr=settings.get("critic_lr", settings["lr"]),
        critic_steps=settings.get("critic_steps", 1),
        weights=[
            math.exp(math.log(first) + k / (steps - 1) * math.log(last / first)) if first else 0
            for k in range(steps)
        ],
        clip=settings.get("clip"),
        average=settings.get("average"),
        floor=settings.get("floor", 0.0),
    )
    for part in ("generator weights", "critic weights"):
        close(snapshot(model)[part], snapshot(other)[part], 1e-10)
    close(torch.tensor(history.losses["critic"]), torch.tensor(expected["critic"]), 1e-10)
    close(torch.tensor(history.losses["generator"]), torch.tensor(expected["generator"]), 1e-10)
    assert not history.interrupted


def test_default_rate():
    """Adam's first step is as long as the rate, in each entry."""
    model = a_gan()
    before = snapshot(model)
    run(model, steps=1)
    for part, weights in snapshot(model).items():
        close((weights - before[part]).abs().max(), 1e-3, 1e-6)


@pytest.mark.parametrize("critic_steps", [1, 3])
def test_players_move_in_turn_and_only_themselves(critic_steps):
    model = a_gan(kind=Watched)
    run(model, lr=0.01, critic_steps=critic_steps, weight=1.0)
    assert [call["who"] for call in model.calls] == (["critic"] * critic_steps + ["generator"]) * 4
    states = [*model.calls, snapshot(model)]
    for before, after in itertools.pairwise(states):
        for part in ("generator", "critic"):
            stays = torch.equal(before[f"{part} weights"], after[f"{part} weights"])
            assert stays == (before["who"] != part)


@pytest.mark.parametrize("critic_steps", [1, 2, 3])
def test_each_update_of_the_critic_sees_a_new_batch_and_each_update_new_samples(critic_steps):
    model, batches = a_gan(kind=Watched), [draws((size, 2), size) for size in (3, 4, 5, 6)]
    run(model, batches, 5, critic_steps=critic_steps)
    by_critic = [call for call in model.calls if call["who"] == "critic"]
    for k, call in enumerate(by_critic):
        assert torch.equal(call["real"], batches[k % 4])
    sizes = [len(call["fake"]) for call in model.calls]
    assert [call["who"] for call in model.calls] == 5 * (critic_steps * ["critic"] + ["generator"])
    assert [tuple(z.shape) for z in model.noise] == [(size, 3) for size in sizes]
    for k, call in enumerate(call for call in model.calls if call["who"] == "generator"):
        assert len(call["fake"]) == len(by_critic[(k + 1) * critic_steps - 1]["real"])
        assert call["fake"].requires_grad
    flat = torch.cat(model.noise).flatten()
    assert len(flat.unique()) == len(flat)


@pytest.mark.parametrize("floor", [-0.1, 1.1, math.nan, "half", None])
def test_a_floor_outside_0_to_1_is_refused(floor):
    with pytest.raises(ValueError, match="floor"):
        run(a_gan(), floor=floor)


def test_samples_that_are_not_finite_stop_the_run():
    model = a_gan()
    before = snapshot(model)["critic weights"].clone()
    with torch.no_grad():
        next(model.generator.parameters()).fill_(math.inf)
    with pytest.raises(RuntimeError, match="samples are not finite at step 1 of 3"):
        run(model, steps=3)
    assert torch.equal(snapshot(model)["critic weights"], before)


def test_no_batch_is_drawn_that_is_not_needed():
    drawn = []
    run(a_gan(), (drawn.append(1) or batch for batch in batches_of(9)), 3, critic_steps=3)
    assert len(drawn) == 9


def test_the_weight_falls_geometrically():
    for weight in ((8.0, 0.5), [8.0, 0.5], (0.5, 8)):
        model = a_gan(kind=Watched)
        run(model, steps=4, weight=weight, critic_steps=2)
        seen = [call["weight"] for call in model.calls if call["who"] == "critic"]
        assert seen[0] == seen[1] == weight[0]
        assert seen[-1] == pytest.approx(weight[1])
        assert seen == pytest.approx(
            [weight[0] * (weight[1] / weight[0]) ** (k / 3) for k in range(4) for _ in "ab"]
        )
    for weight in (0, 0.7, 3):
        model = a_gan(kind=Watched)
        run(model, weight=weight)
        assert {call["weight"] for call in model.calls if call["who"] == "critic"} == {weight}
    model = a_gan(kind=Watched)
    run(model)
    assert {call["weight"] for call in model.calls if call["who"] == "critic"} == {0}


@pytest.mark.parametrize("clip", [0.01, 0.1])
def test_clip_keeps_the_critic_within(clip):
    model = a_gan(loss="wasserstein", kind=Watched)
    before = snapshot(model)
    assert before["critic weights"].abs().max() > clip
    run(model, lr=0.05, clip=clip, critic_steps=2)
    for call in model.calls[1:]:
        assert call["critic weights"].abs().max() <= clip
        assert (call["critic weights"].abs() < clip).any()
    assert snapshot(model)["critic weights"].abs().max() <= clip
    assert snapshot(model)["generator weights"].abs().max() > 0.1
    free = a_gan(loss="wasserstein")
    run(free, lr=0.05)
    assert snapshot(free)["critic weights"].abs().max() > 0.1


def test_frozen_parameters_stay():
    model = a_gan()
    model.critic[1].bias.requires_grad_(False)
    model.generator[0].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    run(model, clip=0.01, average=0.5)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert set(before) - changed == {"critic.1.bias", "generator.0.weight"}


@pytest.mark.parametrize("average", [0.1, 0.9])
def test_average_is_handed_over_at_the_end(average):
    model = a_gan(kind=Watched)
    raw, mean = [], snapshot(model)["generator weights"]
    run(model, lr=0.05, average=average, after=lambda k: raw.append(snapshot(model)))
    for k, weights in enumerate(raw):
        d = min(average, (1 + k) / (10 + k))
        mean = d * mean + (1 - d) * weights["generator weights"]
        if k + 1 < len(raw):  # until then the generator plays with its raw weights
            assert torch.equal(model.calls[2 * k + 2]["generator weights"], weights["generator weights"])
    close(snapshot(model)["generator weights"], mean)
    assert torch.equal(snapshot(model)["critic weights"], raw[-1]["critic weights"])
    plain = a_gan()
    run(plain, lr=0.05)
    assert torch.equal(snapshot(plain)["generator weights"], raw[-1]["generator weights"])


def test_after_is_called_once_a_step():
    model, seen = a_gan(kind=Watched), []
    run(model, steps=5, critic_steps=2, after=lambda k: seen.append((k, len(model.calls))))
    assert seen == [(k, 3 * k) for k in range(1, 6)]


def test_history_holds_the_last_losses_of_each_step():
    model = a_gan(kind=Watched, penalty="wgan-gp")
    history = run(model, steps=5, critic_steps=2, weight=2.0)
    paid = [call["paid"] for call in model.calls]
    assert history.losses["critic"] == paid[1::3]
    assert history.losses["generator"] == paid[2::3]
    assert history.losses == {"critic": paid[1::3], "generator": paid[2::3]}
    assert all(type(value) is float for value in history.losses["critic"] + history.losses["generator"])


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_same_seed_gives_the_same_run(penalty):
    runs = []
    for _ in range(2):
        model = a_gan(penalty=penalty)
        runs.append((run(model, weight=1.0), snapshot(model)))
    (first, weights), (second, again) = runs
    assert first == second
    assert all(torch.equal(weights[part], again[part]) for part in weights)


@pytest.mark.parametrize("dtype", [torch.float32, REAL])
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_points_and_images_of_both_dtypes(penalty, event, dtype):
    model = a_gan(event, penalty=penalty, flat=dtype == REAL).to(dtype)
    batches = [batch.to(dtype) for batch in batches_of(2, event=event)]
    history = run(model, batches, 2, weight=1.0, average=0.5)
    assert [len(losses) for losses in history.losses.values()] == [2, 2]
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert model.sample((2,)).dtype == dtype


def test_batches_move_to_the_device_of_the_generator():
    """The meta device computes shapes alone, so the run ends where a number is read; by then the batch has moved."""
    model, seen = a_gan().to("meta"), []
    model.critic_loss = lambda real, *_: seen.append(real.device.type) or real.sum()
    with pytest.raises(RuntimeError):
        run(model)
    assert seen == ["meta"]


class Point(nn.Module):
    """The generator of the Dirac-GAN: all its samples are one number."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([theta]))

    def forward(self, z):
        return self.theta.expand(len(z), 1)


def dirac(steps=400, **settings):
    """Mescheder et al. 2018: data at 0, a generator at θ, a critic f(x) = ψ x. Rest is θ = ψ = 0."""
    model, path = GAN(Point(1.0), Line([0.0]), 1), []
    run(
        model,
        [torch.zeros(1, 1)],
        steps,
        lr=0.02,
        floor=1.0,
        after=lambda k: path.append((model.generator.theta.item(), model.critic.w.item())),
        **settings,
    )
    return model, torch.tensor(path).norm(dim=1)


def test_the_dirac_gan_comes_to_rest_only_with_a_penalty():
    (_, free), (_, calm) = dirac(), dirac(weight=1.0)
    assert free[-100:].min() > 0.15
    assert calm[-100:].max() < 1e-4


def test_the_average_of_the_dirac_gan_lies_nearer_to_rest():
    model, free = dirac(average=0.99)
    assert abs(model.generator.theta.item()) < 0.2 * free[-100:].min()


def test_training_finds_the_mean_of_the_data():
    torch.manual_seed(0)
    generator = nn.Linear(1, 1)
    critic = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    data = (3 + 0.5 * torch.randn(256, 1, generator=seeded(k)) for k in range(10**6))
    model = GAN(generator, critic, 1)
    run(model, data, 400, lr=0.03, weight=0.3, average=0.97)
    assert generator.bias.item() == pytest.approx(3, abs=0.3)


# how it stops


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("who", "count", "step"), [("critic", 1, 1), ("critic", 4, 2), ("generator", 3, 3)])
def test_a_loss_that_is_not_finite_names_the_player_and_the_step(who, count, step, bad):
    model = a_gan(kind=Watched)
    model.trouble[who, count] = bad
    with pytest.raises(RuntimeError, match=f"^the {who}'s loss is {bad} at step {step} of 6$"):
        run(model, steps=6, critic_steps=2)
    for part, weights in snapshot(model).items():
        assert torch.equal(weights, model.calls[-1][part])
    assert model.calls[-1]["who"] == who


@pytest.mark.parametrize("bad", ["inf", "nan"])
@pytest.mark.parametrize(("who", "count", "step"), [("critic", 1, 1), ("critic", 4, 2), ("generator", 3, 3)])
def test_a_gradient_that_is_not_finite_names_the_player_and_the_step(who, count, step, bad):
    model = a_gan(kind=Watched)
    model.trouble[who, count] = f"slope {bad}"
    with pytest.raises(
        RuntimeError, match=f"^the norm of the {who}'s gradient is {bad} at step {step} of 6$"
    ):
        run(model, steps=6, critic_steps=2)
    for part, weights in snapshot(model).items():
        assert torch.equal(weights, model.calls[-1][part])


@pytest.mark.parametrize("average", [None, 0.5])
@pytest.mark.parametrize("where", ["critic", "generator", "after"])
def test_an_interrupt_returns_what_was_learnt(where, average):
    model, raw = a_gan(kind=Watched), [snapshot(a_gan())]

    def after(k):
        raw.append(snapshot(model))
        if where == "after" and k == 3:
            raise KeyboardInterrupt

    model.trouble[where, 4] = "interrupt"
    history = run(model, steps=9, lr=0.05, average=average, after=after)
    assert history.interrupted
    paid = [call["paid"] for call in model.calls]
    assert history.losses["critic"] == paid[0:6:2]
    assert history.losses["generator"] == paid[1:6:2]
    mean = raw[0]["generator weights"]
    for k, weights in enumerate(raw[1:]):
        d = min(0.5, (1 + k) / (10 + k))
        mean = d * mean + (1 - d) * weights["generator weights"]
    close(snapshot(model)["generator weights"], raw[3]["generator weights"] if average is None else mean)


@pytest.mark.parametrize("where", ["critic", "generator"])
def test_an_interrupt_before_the_first_step_leaves_the_generator(where):
    model = a_gan(kind=Watched)
    model.trouble[where, 1] = "interrupt"
    history = run(model, average=0.5)
    assert history == History({"critic": [], "generator": []}, [], True)
    assert torch.equal(snapshot(model)["generator weights"], model.calls[0]["generator weights"])


def test_an_error_leaves_the_averaged_generator():
    model, other = a_gan(kind=Watched), a_gan(kind=Watched)
    model.trouble["critic", 4] = math.nan
    other.trouble["critic", 4] = "interrupt"
    with pytest.raises(RuntimeError, match="step 4 of 9"):
        run(model, steps=9, average=0.5)
    run(other, steps=9, average=0.5)
    close(snapshot(model)["generator weights"], snapshot(other)["generator weights"])
    assert not torch.equal(snapshot(model)["generator weights"], model.calls[-1]["generator weights"])


def test_a_one_shot_generator_lasts_as_long_as_it_lasts():
    run(a_gan(), (batch for batch in batches_of(6)), 3, critic_steps=2)
    with pytest.raises(ValueError, match="^batches must yield at least one batch, and again"):
        run(a_gan(), (batch for batch in batches_of(5)), 3, critic_steps=2)


@pytest.mark.parametrize("batches", [[], (), iter([])])
def test_no_batches(batches):
    with pytest.raises(ValueError, match="^batches must yield at least one batch"):
        run(a_gan(), batches)


def test_the_bar_goes_to_stderr_and_only_if_wanted(capsys):
    fit(a_gan(), batches_of(1), 3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "/3" in err
    assert err.endswith("\r")
    fit(a_gan(), batches_of(1), 3, progress=False)
    assert capsys.readouterr() == ("", "")
    model = a_gan(kind=Watched)
    model.trouble["critic", 1] = math.nan
    with pytest.raises(RuntimeError, match="step 1 of 3"):
        fit(model, batches_of(1), 3)
    assert capsys.readouterr().err.endswith("\r")


# what is refused


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2.0}, "steps"),
        ({"steps": True}, "steps"),
        ({"lr": 0.0}, "lr"),
        ({"lr": -1e-3}, "lr"),
        ({"lr": math.nan}, "lr"),
        ({"critic_lr": 0.0}, "critic_lr"),
        ({"critic_lr": -1.0}, "critic_lr"),
        ({"critic_lr": "a"}, "critic_lr"),
        ({"critic_steps": 0}, "critic_steps"),
        ({"critic_steps": 1.5}, "critic_steps"),
        ({"critic_steps": None}, "critic_steps"),
        ({"weight": -0.1}, "weight"),
        ({"weight": math.nan}, "weight"),
        ({"weight": math.inf}, "weight"),
        ({"weight": None}, "weight"),
        ({"weight": "a"}, "weight"),
        ({"weight": (1.0,)}, "weight"),
        ({"weight": (1.0, 0.5, 0.1)}, "weight"),
        ({"weight": ()}, "weight"),
        ({"weight": (0.0, 1.0)}, "weight"),
        ({"weight": (1.0, 0.0)}, "weight"),
        ({"weight": (1.0, -1.0)}, "weight"),
        ({"weight": [1.0, math.inf]}, "weight"),
        ({"clip": 0.0}, "clip"),
        ({"clip": -1.0}, "clip"),
        ({"average": 0.0}, "average"),
        ({"average": 1.0}, "average"),
        ({"average": math.nan}, "average"),
        ({"average": True}, "average"),
        ({"average": 1.5}, "average"),
        ({"batches": None}, "batches"),
        ({"batches": 3}, "batches"),
    ],
)
def test_settings_are_refused_by_name(settings, name):
    model = a_gan()
    before = snapshot(model)
    with pytest.raises(ValueError, match=f"^{name} must"):
        fit(**{"model": model, "batches": batches_of(1), "steps": 3, "progress": False, **settings})
    assert all(torch.equal(before[part], weights) for part, weights in snapshot(model).items())


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.0, 1.0), (-0.1, 0.9), (0.0, -0.1)])
def test_betas_out_of_range_are_refused(betas):
    with pytest.raises(ValueError, match="beta"):
        run(a_gan(), betas=betas)


@pytest.mark.parametrize("player", ["generator", "critic"])
def test_a_player_without_parameters_cannot_learn(player):
    model = a_gan()
    getattr(model, player).requires_grad_(False)
    with pytest.raises(ValueError, match="must hold a tensor that requires a gradient"):
        run(model)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(0, 2), r"must hold at least one example, got shape \(0, 2\)"),
        (torch.zeros(3, 0), r"must hold at least one example, got shape \(3, 0\)"),
        (torch.zeros(0), r"must hold at least one example, got shape \(0,\)"),
        (torch.tensor(1.0), r"must have shape \(B\), got \(\)"),
        (torch.tensor([[0.0, math.nan]]), "must hold finite numbers"),
        (torch.tensor([[0.0, math.inf]]), "must hold finite numbers"),
        (torch.ones(4, 2, dtype=torch.int64), "must be a tensor of real numbers, got torch.int64"),
        (torch.ones(4, dtype=torch.int64), "must be a tensor of real numbers, got torch.int64"),
        (torch.ones(4, 2, dtype=torch.bool), "must be a tensor of real numbers, got torch.bool"),
        ([[0.0, 1.0]], "must be a tensor of real numbers, got list"),
        (None, "must be a tensor of real numbers, got NoneType"),
    ],
)
def test_what_is_no_batch_is_refused_by_name(bad, message):
    model = a_gan()
    good = draws(bad.shape if isinstance(bad, torch.Tensor) else (1, 2))
    with pytest.raises(ValueError, match=f"^real {message}"):
        model.critic_loss(bad, good)
    fine = good if good.numel() and good.ndim else draws((1, 2))
    with pytest.raises(ValueError, match=f"^fake {message}"):
        model.critic_loss(fine, bad)
    with pytest.raises(ValueError, match=f"^fake {message}"):
        model.generator_loss(bad)


@pytest.mark.parametrize(
    ("real", "fake"), [((4, 2), (3, 2)), ((4, 2), (4, 3)), ((4, 2), (4, 2, 1)), ((4, 2), (4,))]
)
def test_real_and_fake_have_one_shape(real, fake):
    expected = f"real and fake must have one shape, got {real} and {fake}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        a_gan().critic_loss(draws(real), draws(fake))


@pytest.mark.parametrize("weight", [-1.0, -1e-9, math.nan, math.inf, None, "a", True])
def test_weights_are_refused(weight):
    with pytest.raises(ValueError, match="^weight must"):
        a_gan().critic_loss(draws((4, 2)), draws((4, 2)), weight)


@pytest.mark.parametrize("bad", ["hinge", "", None, 3, ["r1"]])
def test_unknown_names(bad):
    listed = "least-squares, minimax, non-saturating, wasserstein"
    with pytest.raises(ValueError, match=f"^loss must be one of {listed}, got {re.escape(repr(bad))}$"):
        GAN(a_generator(), a_critic(), 3, bad)
    listed = "dragan, r1, r2, wgan-gp, wgan-lp"
    with pytest.raises(ValueError, match=f"^penalty must be one of {listed}, got {re.escape(repr(bad))}$"):
        GAN(a_generator(), a_critic(), 3, penalty=bad)


@pytest.mark.parametrize("latent", [0, -1, 2.0, True, None])
def test_latent_is_a_whole_number(latent):
    with pytest.raises(ValueError, match=f"^latent must be a whole number of at least 1, got {latent!r}$"):
        GAN(a_generator(), a_critic(), latent)


@pytest.mark.parametrize(
    ("end", "shape"), [(nn.Linear(1, 2, dtype=REAL), (8, 2)), (nn.Unflatten(1, (1, 1)), (8, 1, 1))]
)
def test_a_critic_gives_each_example_one_number(end, shape):
    model = GAN(a_generator(), a_critic().append(end), 3)
    real, fake = draws((4, 2)), draws((4, 2), 1)
    expected = f"critic must return shape (8,) or (8, 1), got {shape}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        model.critic_loss(real, fake)
    with pytest.raises(ValueError, match="^critic must return shape"):
        model.generator_loss(fake)


@pytest.mark.parametrize("shape", [(0,), (-1,), (2, 3), (), 5, "5", (2.0,), None])
def test_sample_shapes_are_refused(shape):
    for draw in (a_gan().sample, a_gan().rsample):
        with pytest.raises(ValueError, match="shape"):
            draw(shape)


def test_nothing_global_changes():
    default = torch.get_default_dtype()
    run(a_gan(), weight=1.0, average=0.5)
    assert torch.get_default_dtype() == default
    assert torch.is_grad_enabled()
