"""Models with a condition: each condition's distribution is right by itself, and a batch of them is each one alone."""

import itertools
import math

import pytest
import torch
from exactness import REAL, close, everything, seeded
from torch import nn

from genlib.conditional import Conditional
from genlib.flows import (
    Affine,
    Coupling,
    Flow,
    HalfOfChannels,
    Inverse,
    MaskedAutoregressive,
    Reverse,
    Spline,
    Squeeze,
    Stack,
    alternating,
    channelwise,
)
from genlib.nets import MADE, MLP, ConvNet
from genlib.sequence import Recurrent, Transformer
from genlib.training import fit

pytestmark = pytest.mark.usefixtures("double")


def draws(shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=REAL)


def shaken(module, seed=0, spread=0.5):
    generator = seeded(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(spread * torch.randn(p.shape, generator=generator, dtype=REAL))
    return module


def planar():
    """Couplings and autoregressive layers, turned round and stacked, under two numbers."""
    mask = alternating(2)
    layers = [
        Coupling(mask, Affine(1.0), MLP(1, 1, 2, (8,), nn.Tanh, condition=2)),
        Inverse(Coupling(~mask, Affine(1.0), MLP(1, 1, 2, (8,), nn.Tanh, condition=2))),
        Stack([Reverse(), MaskedAutoregressive(2, Spline(4, bound=3.0), (6,), condition=2)]),
    ]
    return Conditional(shaken(Flow(layers, (2,))), 2)


def on_images():
    mask = channelwise(2, 2, 2)
    inside = Coupling(mask, Affine(1.0), ConvNet(mask, 2, 4, condition=3))
    layers = [Inverse(Squeeze()), HalfOfChannels(inside), Squeeze()]
    return Conditional(shaken(Flow([Stack(layers)], (1, 4, 4))), 3)


FLOWS = {"planar": planar, "on images": on_images}
SEQUENCES = {
    "recurrent": lambda **k: Recurrent(3, 5, embedding=4, condition=2, **k),
    "plain recurrent": lambda **k: Recurrent(3, 5, cell="rnn", embedding=4, condition=2, **k),
    "Transformer": lambda **k: Transformer(3, 8, layers=1, heads=2, context=4, condition=2, **k),
}


@pytest.mark.parametrize("name", FLOWS)
def test_a_batch_of_conditions_is_each_one_alone(name):
    model = FLOWS[name]()
    x, c = draws((5, *model.event_shape)), draws((5, model.condition), 1)
    together = model(c).log_prob(x)
    close(together, torch.stack([model(c[i]).log_prob(x[i : i + 1])[0] for i in range(5)]))
    close(model.loss(x, c), -together)
    assert together.std() > 0.1
    assert not torch.allclose(together, model(c.flip(0)).log_prob(x))


@pytest.mark.parametrize("name", FLOWS)
def test_samples_and_their_round_trip(name):
    model = FLOWS[name]()
    c = draws((3, model.condition), 1)
    x = model(c).sample((4,), generator=seeded(2))
    assert x.shape == (4, 3, *model.event_shape)
    assert not x.requires_grad
    rows = c.repeat(4, 1)
    flow = model.model.given(rows)
    z, ladj = flow.inverse(x.flatten(0, 1))
    back, again = flow.forward(z)
    close(back, x.flatten(0, 1), 1e-9)
    close(ladj, -again, 1e-9)
    close(z, flow.base.sample((12,), generator=seeded(2)), 1e-9)  # row by row, in this order
    assert model(c[0]).sample((4,)).shape == (4, *model.event_shape)


@pytest.mark.parametrize("c", [(0.0, 0.0), (1.5, -0.5), (-2.0, 2.0)])
def test_each_density_in_the_plane_sums_to_one(c):
    model = planar()
    shaken(model, spread=0.25)
    line = torch.linspace(-10, 10, 601, dtype=REAL)
    p = model(torch.tensor(c, dtype=REAL)).log_prob(torch.cartesian_prod(line, line)).exp()
    close(p.sum() * (line[1] - line[0]) ** 2, 1.0, 2e-3)


def test_log_volume_against_autograd():
    model, c = planar(), draws((4, 2), 1)
    z = draws((4, 2))
    flow = model.model.given(c)
    _, ladj = flow.forward(z)
    jacobian = torch.autograd.functional.jacobian(lambda z: flow.forward(z)[0].sum(0), z).movedim(1, 0)
    close(ladj, torch.linalg.slogdet(jacobian).logabsdet, 1e-9)


def test_entries_of_made_see_the_condition_and_earlier_entries_only():
    for hidden in ((), (7,), (9, 20)):
        net, x, c = shaken(MADE(4, 2, hidden, condition=3)), draws((6, 4)), draws((6, 3), 1)
        by_x, by_c = torch.autograd.functional.jacobian(lambda x, c, net=net: net(x, c).sum(0), (x, c))
        by_x, by_c = by_x.movedim(2, 0), by_c.movedim(2, 0)  # (B, D, count, ·)
        for d in range(4):
            assert (by_x[:, d, :, d:] == 0).all()
            assert by_c[:, d].abs().sum() > 0  # the first one too
            if d:
                assert by_x[:, d, :, :d].abs().sum() > 0


def test_a_condition_that_is_a_choice_plugs_in_what_a_network_would_say():
    """With one hidden layer, the condition moves the bias: an unconditional network by hand."""
    net, x = shaken(MLP(2, 3, 2, (5,), condition=2)), draws((4, 2))
    plain = MLP(2, 3, 2, (5,))
    for c in (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])):
        with torch.no_grad():
            plain[0].weight.copy_(net[0].weight[:, :2])
            plain[0].bias.copy_(net[0].bias + net[0].weight[:, 2:] @ c)
            plain[2].load_state_dict(net[2].state_dict())
        close(net(x, c.expand(4, 2)), plain(x))


@pytest.mark.parametrize("name", SEQUENCES)
def test_probabilities_of_all_sequences_sum_to_one_under_each_condition(name):
    model = Conditional(shaken(SEQUENCES[name]()), 2)
    x, c = everything(3, 3), draws((2, 2), 1)
    p, q = (model(row).log_prob(x).exp() for row in c)
    for total in (p.sum(), q.sum()):
        close(total, 1.0, 1e-10)
    assert (p - q).abs().max() > 1e-2
    rows = c[torch.arange(27) % 2]
    close(model(rows).log_prob(x), torch.where(torch.arange(27) % 2 == 0, p, q).log(), 1e-10)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, 2] = False
    close(model(c[0]).log_prob(x, mask).exp()[::3].sum(), 1.0, 1e-10)


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_are_drawn_under_their_condition(name):
    model = Conditional(shaken(SEQUENCES[name](), 3), 2)
    c = 3 * draws((2, 2), 1)
    x = model(c).sample((4000,), generator=seeded(1), length=2)
    assert x.shape == (4000, 2, 2)
    pairs = torch.tensor(list(itertools.product(range(3), repeat=2)))
    for i in range(2):
        p = model(c[i]).log_prob(pairs).exp()
        seen = (x[:, i, None] == pairs).all(-1).double().mean(0)
        assert (seen - p).abs().max() < 5 * 0.5 / math.sqrt(4000)


def test_gradients_reach_networks_and_condition():
    model, x, c = planar(), draws((5, 2)), draws((5, 2), 1).requires_grad_()
    model.loss(x, c).mean().backward()
    assert c.grad.abs().min() > 0
    assert all(p.grad is not None for p in model.parameters())
    model = Conditional(shaken(SEQUENCES["recurrent"]()), 2)
    model.loss(everything(3, 2), draws((9, 2)).requires_grad_()).mean().backward()
    assert model.model.about.weight.grad.abs().max() > 0


def test_nothing_is_left_behind_in_the_model():
    for model in (planar(), Conditional(shaken(SEQUENCES["recurrent"]()), 2)):
        names = set(model.state_dict())
        model(draws((2,), 1))
        assert set(model.state_dict()) == names
    with pytest.raises(ValueError, match="^c must be given: the model was made for 2 numbers"):
        model.model.log_prob(everything(3, 2))
    with pytest.raises(ValueError, match="^c must hold 2 numbers for each example, got 0"):
        planar().model.log_prob(draws((3, 2)))


def test_a_normal_whose_mean_and_width_follow_the_condition_is_learnt():
    torch.manual_seed(0)
    flow = Flow([Coupling(alternating(2), Affine(), MLP(1, 1, 2, (32, 32), condition=1)), Reverse()], (2,))
    model = Conditional(flow, 1)

    def truth(c):  # entry 0 after entry 1 and c; the other is standard normal
        return torch.distributions.Normal(torch.sin(2 * c), 0.3 + 0.2 * c.abs())

    def batches():
        while True:
            c = 2 * torch.rand(256, 1) - 1
            yield torch.cat([truth(c).sample(), torch.randn(256, 1)], 1), c

    fit(lambda batch: model.loss(*batch), model, batches(), 500, lr=1e-2, progress=False)
    c = 2 * torch.rand(20_000, 1) - 1
    x = torch.cat([truth(c).sample(), torch.randn(20_000, 1)], 1)
    exact = truth(c).log_prob(x[:, :1])[:, 0] + torch.distributions.Normal(0.0, 1.0).log_prob(x[:, 1])
    with torch.no_grad():
        assert (exact - model(c).log_prob(x)).mean() < 0.02


@pytest.mark.parametrize("c", [torch.zeros(3), torch.zeros(2, 3), torch.zeros(1, 2, 2), [0.0, 1.0], 1.0])
def test_conditions_of_another_shape_are_refused(c):
    with pytest.raises(ValueError, match=r"^c must have shape \(2,\) or \(B, 2\), got "):
        planar()(c)


def test_what_does_not_fit_is_refused():
    model = planar()
    with pytest.raises(ValueError, match="^c must not hold NaN"):
        model(torch.tensor([0.0, math.nan]))
    with pytest.raises(ValueError, match="^x must hold one example for each of the 3 conditions, got 2"):
        model(torch.zeros(3, 2)).log_prob(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="^condition must"):
        Conditional(model.model, 0)
    with pytest.raises(ValueError, match="^c must hold 0 numbers for each sequence, got 2"):
        Recurrent(3, 4).given(torch.zeros(1, 2))
