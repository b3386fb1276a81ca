"""Boltzmann machines of binary units: every sum against its own list of states, every draw against the exact law."""

import copy
import itertools
import math
import re

import pytest
import torch
from exactness import REAL, close, everything, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genlib import data
from genlib.energy import (
    RBM,
    Boltzmann,
    Chains,
    DeepBelief,
    DeepBoltzmann,
    ais,
    between,
    contrast,
    effective,
    hopfield,
    independent,
    log_mean,
    of_spins,
    restricted,
)
from genlib.energy import _units as inside

SOME = settings(max_examples=10, deadline=None)
SEEDS = st.integers(0, 10**6)
SIZES = st.integers(1, 4)
TEMPERATURES = st.floats(0.3, 4.0)
NO_COUNTS = [0, -1, 2.0, True, None, "2"]
NOT_BINARY = [torch.tensor([[0.0, 0.5, 1.0]]), torch.tensor([[0, 2, 1]]), torch.tensor([[0.0, -1.0, 1.0]])]


def real(values):
    return torch.tensor(values, dtype=REAL)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=REAL)


def refused(message, job, *args, **kw):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        job(*args, **kw)


def couplings(dims, seed=0):
    upper = normal(dims, dims, seed=seed).triu(1)
    return upper + upper.mT


def machine(dims=3, temperature=1.0, seed=0):
    return Boltzmann(couplings(dims, seed), normal(dims, seed=seed + 1), temperature)


def rbm(seen=3, hidden=2, seed=0):
    return RBM.of(
        *(normal(*size, seed=seed + i) for i, size in enumerate([(seen, hidden), (seen,), (hidden,)]))
    )


def belief(seed=0):
    return DeepBelief(rbm(3, 2, seed), rbm(2, 4, seed + 10))


def deep(seen=3, first=2, second=4, seed=0):
    model = DeepBoltzmann(seen, first, second).double()
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=seed + i))
    return model


def all_of(count):
    return everything(2, count)


def log_sum(values):
    """Plainly, number by number."""
    return math.log(math.fsum(math.exp(value) for value in values))


def fits(x, p):
    """Whether draws (n, D) have the probabilities p (2^D,): Pearson's test, which the truth fails once in a million."""
    index = (x.long() * 2 ** torch.arange(x.shape[1]).flip(0)).sum(1)
    counts = torch.bincount(index, minlength=len(p)).double()
    off = ((counts - len(x) * p) ** 2 / (len(x) * p)).sum().item()
    return off < stats.chi2.isf(1e-6, len(p) - 1)


def block_matrix(model):
    """T[v, v′] of one block sweep of a restricted machine, from its two conditionals."""
    seen, hidden = all_of(len(model.bias)), all_of(len(model.hidden_bias))
    up = torch.stack([model.hidden(v[None]).log_prob(hidden.to(REAL)).sum(1).exp() for v in seen])
    down = torch.stack([model.visible(h[None]).log_prob(seen.to(REAL)).sum(1).exp() for h in hidden])
    return (up @ down).detach()


# The list of states --------------------------------------------------------------------------------------------


@given(count=st.integers(1, 8))
def test_states_are_all_there_in_order(count):
    x = data.states(count)
    assert x.dtype == torch.int64
    assert torch.equal(x, all_of(count))


def test_only_few_units_list_their_states():
    assert data.states(20)[-2:].tolist() == [[1] * 19 + [0], [1] * 20]
    refused("count must be at most 20 to list all states, got 21", data.states, 21)
    for count in NO_COUNTS:
        refused("count must be a whole number of at least 1", data.states, count)


# Machines whose units are all seen -----------------------------------------------------------------------------


@SOME
@given(dims=SIZES, temperature=TEMPERATURES, seed=SEEDS)
def test_a_machine_is_its_energies(dims, temperature, seed):
    model, x = machine(dims, temperature, seed), all_of(dims)
    energies = [
        -sum(model.weight[i, j] * s[i] * s[j] for i, j in itertools.combinations(range(dims), 2)).item()
        - sum(b * on for b, on in zip(model.bias.tolist(), s, strict=True))
        if dims > 1
        else -model.bias.item() * s[0]
        for s in x.tolist()
    ]
    close(model.energy(x), real(energies))
    log_z = log_sum([-energy / temperature for energy in energies])
    close(model.log_partition(), real(log_z))
    close(model.log_prob(x), -real(energies) / temperature - log_z)
    close(model.log_prob(x).exp().sum(), real(1.0))
    assert torch.equal(model.loss(x), -model.log_prob(x))


@SOME
@given(dims=SIZES, temperature=TEMPERATURES, seed=SEEDS)
def test_conditionals_and_pseudo_likelihood_are_those_of_the_law(dims, temperature, seed):
    model, x = machine(dims, temperature, seed), all_of(dims)
    p = model.log_prob(x).exp()
    expected = []
    for row in x:
        pair = [[row.clone(), row.clone()] for _ in range(dims)]
        for i, (off, on) in enumerate(pair):
            off[i], on[i] = 0, 1
        places = [[(x == state).all(1).nonzero().item() for state in two] for two in pair]
        expected.append(torch.stack([p[on] / (p[off] + p[on]) for off, on in places]))
    on = torch.stack(expected)
    close(model.conditional(x).probs, on)
    close(model.pseudo_log_prob(x), torch.where(x == 1, on, 1 - on).log().sum(1))


@SOME
@given(dims=SIZES, temperature=TEMPERATURES, seed=SEEDS)
def test_the_gradient_of_the_likelihood_is_data_phase_less_model_phase(dims, temperature, seed):
    model = machine(dims, temperature, seed)
    x = (normal(7, dims, seed=seed) > 0).to(REAL)
    p, listed = model.log_prob(all_of(dims)).exp().detach(), all_of(dims).to(REAL)
    mean, second = p @ listed, sum(w * torch.outer(s, s) for w, s in zip(p, listed, strict=True))
    told = model.moments()
    close(told[0], mean)
    close(told[1], second)
    model.log_prob(x).mean().backward()
    close(model.bias.grad, (x.mean(0) - mean) / temperature)
    off_diagonal = 1 - torch.eye(dims, dtype=REAL)
    close(model.weight.grad, off_diagonal * (x.mT @ x / 7 - second) / (2 * temperature))


def test_learning_keeps_the_weights_symmetric_and_finds_the_moments():
    model, x = (
        Boltzmann(torch.zeros(3, 3, dtype=REAL), torch.zeros(3, dtype=REAL)),
        all_of(3)[[0, 3, 5, 7, 7, 6, 2]],
    )
    optimiser = torch.optim.LBFGS(model.parameters(), lr=1, max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = model.loss(x).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert torch.equal(model.weight, model.weight.mT)
    assert not model.weight.diagonal().any()
    mean, second = model.moments()
    close(mean, x.double().mean(0), 1e-4)
    close(second, x.mT.double() @ x.double() / 7, 1e-4)


def test_what_is_not_symmetric_does_not_count():
    model, x = machine(), all_of(3)
    before = model.log_prob(x)
    with torch.no_grad():
        model.weight += torch.diag(normal(3)) + couplings(3, 5).triu() - couplings(3, 5).tril()
    assert not torch.equal(model.weight, model.weight.mT)
    close(model.log_prob(x), before)
    x = x.repeat(4000, 1)
    assert torch.equal(model.move(x, generator=seeded()), machine().move(x, generator=seeded()))


@pytest.mark.parametrize("temperature", [0.5, 1.0, data.CRITICAL, 10.0])
def test_the_ising_model_is_a_boltzmann_machine(temperature):
    ising = data.Ising(3, 3, temperature)
    places = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    near = ((places[:, None] - places).abs().sum(-1) == 1).to(REAL)
    model, x = of_spins(near, temperature), ising.states()
    close(model.log_prob(x.flatten(1)), ising.log_prob(x), 1e-10)
    close(
        model.energy(x.flatten(1)) - ising.energy(x),
        torch.full((512,), float(ising.edges), dtype=REAL),
        1e-10,
    )
    spins = 2 * x.flatten(1).to(REAL) - 1
    close(model.log_prob(x.flatten(1)).exp() @ (spins[:, :1] * spins), ising.correlation()[0], 1e-10)


def test_a_memory_has_the_energy_of_its_spins_and_keeps_its_patterns():
    patterns = torch.sign(normal(3, 40, seed=4))
    memory, x = hopfield(patterns, 1e-3), (patterns + 1) / 2
    s = torch.sign(normal(6, 40, seed=9))
    J = sum(torch.outer(xi, xi) for xi in patterns) / 40
    spin_energy = [-sum(J[i, j] * r[i] * r[j] for i, j in itertools.combinations(range(40), 2)) for r in s]
    gap = memory.energy((s + 1) / 2) - torch.stack(spin_energy)
    close(gap, gap[:1].expand(6), 1e-10)
    assert torch.equal(memory.move(x, 5, generator=seeded()), x)
    damaged = x.clone()
    damaged[:, :4] = 1 - damaged[:, :4]
    assert torch.equal(memory.move(damaged, 5, generator=seeded()), x)
    assert (memory.energy(damaged) > memory.energy(x)).all()
    small = hopfield(patterns[:1, :5])
    best = all_of(5)[small.log_prob(all_of(5)).argmax()]
    assert torch.equal(best, x[0, :5].long()) or torch.equal(best, 1 - x[0, :5].long())


def test_a_sweep_is_one_unit_after_the_other_and_leaves_the_law_at_rest():
    model, x = machine(3, 1.3), all_of(3)
    p, matrix = model.log_prob(x).exp().detach(), torch.eye(8, dtype=REAL)
    on = model.conditional(x).probs.detach()
    for i in range(3):
        step = torch.zeros(8, 8, dtype=REAL)
        for place, row in enumerate(x):
            for value in (0, 1):
                other = row.clone()
                other[i] = value
                target = (x == other).all(1).nonzero().item()
                step[place, target] += on[place, i] if value else 1 - on[place, i]
        matrix = matrix @ step
    close(p @ matrix, p)
    for sweeps in (1, 2):
        law = torch.linalg.matrix_power(matrix, sweeps)
        for place, row in enumerate(x):
            moved = model.move(row.expand(4000, 3), sweeps, generator=seeded(10 * sweeps + place))
            assert fits(moved, law[place])


@pytest.mark.parametrize(
    "make", [lambda: machine(4, 0.7), lambda: rbm(3, 2), lambda: rbm(2, 4), belief, deep]
)
def test_exact_samples_have_their_probabilities(make):
    model = make()
    (size,) = model.event_shape
    x = model.sample((40_000,), generator=seeded())
    assert x.dtype == REAL
    assert not x.requires_grad
    assert fits(x, model.log_prob(all_of(size)).exp().detach())


# Restricted machines -------------------------------------------------------------------------------------------


@SOME
@given(seen=SIZES, hidden=SIZES, seed=SEEDS)
def test_a_restricted_machine_is_its_joint_energies(seen, hidden, seed):
    model, v, h = rbm(seen, hidden, seed), all_of(seen), all_of(hidden)
    W, b, c = (parameter.tolist() for parameter in model.parameters())
    joint = [
        [
            -sum(W[i][j] * s[i] * t[j] for i in range(seen) for j in range(hidden))
            - sum(b[i] * s[i] for i in range(seen))
            - sum(c[j] * t[j] for j in range(hidden))
            for t in h.tolist()
        ]
        for s in v.tolist()
    ]
    close(torch.stack([model.joint_energy(row.expand(len(h), -1), h) for row in v]), real(joint))
    close(model.joint_energy(v[:, None], h), real(joint))
    close(model.energy(v), real([-log_sum([-energy for energy in row]) for row in joint]))
    log_z = log_sum([-energy for row in joint for energy in row])
    close(model.log_partition(), real(log_z))
    close(model.log_prob(v).exp(), (-real(joint) - log_z).exp().sum(1))
    p = (-real(joint) - log_z).exp()
    close(model.hidden(v).probs, p @ h.to(REAL) / p.sum(1, keepdim=True))
    close(model.visible(h).probs, p.mT @ v.to(REAL) / p.sum(0)[:, None])
    marginal = p.sum(1)
    expected = []
    for place, row in enumerate(v):
        turned = [(v == row ^ one).all(1).nonzero().item() for one in torch.eye(seen, dtype=torch.int64)]
        expected.append(
            sum((marginal[place] / (marginal[place] + marginal[other])).log() for other in turned)
        )
    close(model.pseudo_log_prob(v), torch.stack(expected))


@SOME
@given(seen=SIZES, hidden=SIZES, seed=SEEDS)
def test_the_gradient_of_a_restricted_machine_is_data_phase_less_model_phase(seen, hidden, seed):
    model, x = rbm(seen, hidden, seed), (normal(6, seen, seed=seed) > 0).to(REAL)
    v, h = all_of(seen).to(REAL), all_of(hidden).to(REAL)
    W, b, c = (parameter.detach() for parameter in model.parameters())
    joint = (v @ W @ h.mT + (v @ b)[:, None] + h @ c).flatten().softmax(0).view(len(v), len(h))
    up = model.hidden(x).probs.detach()
    model.log_prob(x).mean().backward()
    close(model.weight.grad, x.mT @ up / 6 - v.mT @ joint @ h)
    close(model.bias.grad, x.mean(0) - joint.sum(1) @ v)
    close(model.hidden_bias.grad, up.mean(0) - joint.sum(0) @ h)


def test_the_sum_over_many_states_is_that_over_few_and_so_is_its_gradient():
    wide = rbm(6, 14)  # 14 hidden units: more states than are looked at in one piece
    weight, bias, hidden_bias = (
        parameter.detach().clone().requires_grad_() for parameter in wide.parameters()
    )
    by_hidden = inside.log_sum(
        lambda h: h @ hidden_bias + inside.softplus(h @ weight.mT + bias).sum(1), 14, weight
    )
    close(by_hidden, wide.log_partition(), 1e-11)
    with torch.no_grad():
        close(wide.log_partition(), by_hidden.detach(), 1e-11)
    for slope, other in zip(
        torch.autograd.grad(by_hidden, [weight, bias, hidden_bias]),
        torch.autograd.grad(wide.log_partition(), list(wide.parameters())),
        strict=True,
    ):
        close(slope, other, 1e-11)
    many = machine(13)
    mean, second = many.moments()
    close(many.sample((20_000,), generator=seeded()).mean(0), mean, 0.025)
    close(second.diagonal(), mean, 1e-12)


def test_large_arguments_lose_no_digits():
    close(
        inside.softplus(real([-800.0, 0.0, 25.0, 800.0])),
        real([0.0, math.log(2), 25 + 1.388794e-11, 800.0]),
        1e-15,
    )
    model = RBM.of(real([[25.0]]), real([0.0]), real([0.0]))
    close(model.energy(torch.ones(1, 1)), real([-25 - math.log1p(math.exp(-25))]), 1e-15)


def test_a_block_sweep_is_in_detailed_balance_and_the_walks_follow_it():
    model, v = rbm(3, 2), all_of(3)
    p, matrix = model.log_prob(v).exp().detach(), block_matrix(model)
    close(p[:, None] * matrix, (p[:, None] * matrix).mT)
    close(p @ matrix, p)
    for sweeps in (1, 2):
        law = torch.linalg.matrix_power(matrix, sweeps)
        for place, row in enumerate(v):
            assert fits(
                model.move(row.expand(4000, 3), sweeps, generator=seeded(10 * sweeps + place)), law[place]
            )


def test_draws_by_sweeps_start_at_fair_coins():
    model = rbm(3, 2)
    for sweeps in (1, 3):
        law = torch.full((8,), 1 / 8, dtype=REAL) @ torch.linalg.matrix_power(block_matrix(model), sweeps)
        assert fits(model.sample((20_000,), sweeps, generator=seeded(sweeps)), law)


def test_the_loss_has_the_gradient_of_contrastive_divergence():
    model, v = rbm(3, 2), all_of(3)
    model.loss(v, 2, generator=seeded(1)).sum().backward()
    after = model.move(v, 2, generator=seeded(1))
    up, up_after = (model.hidden(x).probs.detach() for x in (v, after))
    close(model.weight.grad, after.mT @ up_after - v.double().mT @ up)
    close(model.bias.grad, after.sum(0) - v.double().sum(0))
    close(model.hidden_bias.grad, up_after.sum(0) - up.sum(0))
    close(model.loss(v, 2, generator=seeded(1)), model.energy(v) - model.energy(after))


def test_the_layers_can_be_exchanged():
    model, h = rbm(3, 2), all_of(2)
    turned = model.transposed()
    close(turned.log_partition(), model.log_partition())
    close(turned.hidden(h).probs, model.visible(h).probs)
    p = torch.stack([-model.joint_energy(all_of(3), row.expand(8, 2)) for row in h]).logsumexp(1)
    close(turned.log_prob(h), p - model.log_partition())
    with torch.no_grad():
        turned.weight += 1
    close(model.weight, rbm(3, 2).weight)


def test_first_weights_are_small_and_in_the_default_precision():
    torch.manual_seed(0)
    model = RBM(60, 50)
    assert model.event_shape == (60,)
    assert abs(model.weight.std().item() - 0.01) < 0.0005
    assert not model.bias.any()
    assert not model.hidden_bias.any()
    assert {name for name, _ in model.named_parameters()} == {"weight", "bias", "hidden_bias"}
    state = torch.get_rng_state()
    twin = RBM.of(*model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(twin.weight, model.weight)
    assert all(parameter.requires_grad for parameter in twin.parameters())


def test_a_machine_of_frequencies():
    x = torch.tensor([[1, 0, 1], [1, 0, 0], [1, 0, 1]])
    model = independent(x.double(), 2)
    expected = real([3.5 / 4, 0.5 / 4, 2.5 / 4])
    close(model.visible(all_of(2)).probs, expected.expand(4, 3))
    v = all_of(3)
    close(model.log_prob(v).exp(), torch.where(v == 1, expected, 1 - expected).prod(1))
    assert not model.weight.any()
    assert not model.hidden_bias.any()
    assert independent(x, 4).weight.shape == (3, 4)
    assert independent(x.bool(), 1).bias.dtype == torch.float32


@SOME
@given(beta=st.floats(0, 1), seed=SEEDS)
def test_between_two_machines_energies_are_mixed_and_probabilities_geometric(beta, seed):
    first, last = rbm(3, 2, seed), rbm(3, 2, seed + 7)
    path = between(first, last)
    v = all_of(3).repeat_interleave(4, 0)
    h = all_of(2).repeat(8, 1)
    mixed = (1 - beta) * first.joint_energy(v, h) + beta * last.joint_energy(v, h)
    close(path(beta).joint_energy(v, h), mixed)
    ends = [(-end.joint_energy(v, h)).softmax(0) for end in (first, last)]
    geometric = ends[0] ** (1 - beta) * ends[1] ** beta
    close((-path(beta).joint_energy(v, h)).softmax(0), geometric / geometric.sum())
    for where, end in ((0, first), (1.0, last)):
        assert all(map(torch.equal, path(where).parameters(), end.parameters()))


# Weights of annealed walks --------------------------------------------------------------------------------------


class Scripted:
    """A machine whose moves follow a script: so that all paths can be walked, each once."""

    def __init__(self, machine, script):
        self.energy, self.script = machine.energy, script

    def move(self, x, *, generator=None):
        return self.script.pop(0)


def walked(ends, betas):
    """log w of all paths (x_0, …, x_{K−1}) over the states of what is seen, and the places of their states."""
    v = all_of(len(ends[0].bias))
    places = torch.tensor(list(itertools.product(range(len(v)), repeat=len(betas) - 1)))
    x = [v[place] for place in places.unbind(1)]
    script = x[1:]
    log_w = ais(lambda beta: Scripted(between(*ends)(beta), script), betas, x[0])
    assert not script  # there is one move after each weight but the last
    return log_w, places


def chances(ends, betas, places):
    """Probability of each path after its first state."""
    p = torch.ones(len(places), dtype=REAL)
    for k, beta in enumerate(betas[1:-1]):
        p = p * block_matrix(between(*ends)(beta))[places[:, k], places[:, k + 1]]
    return p


@pytest.mark.parametrize(
    "betas", [[0.0, 1.0], [0.0, 0.3, 1.0], [0.0, 0.2, 0.7, 1.0], [1.0, 0.6, 0.1, 0.0], [0.2, 0.9]]
)
def test_the_mean_weight_over_all_paths_is_the_ratio_of_the_normalisers(betas):
    ends = rbm(2, 3, 1), rbm(2, 3, 5)
    first, last = between(*ends)(betas[0]), between(*ends)(betas[-1])
    log_w, places = walked(ends, betas)
    start = first.log_prob(all_of(2)).exp().detach()[places[:, 0]]
    mean = (start * chances(ends, betas, places) * log_w.exp()).sum()
    close(mean, (last.log_partition() - first.log_partition()).exp().detach())


def test_walks_back_from_a_point_tell_the_probability_that_walks_stop_there():
    ends, betas, v = (rbm(2, 3, 1), rbm(2, 3, 5)), [0.0, 0.2, 0.7, 1.0], all_of(2)
    forward = ends[0].log_prob(v).exp().detach()
    for beta in betas[1:-1]:
        forward = forward @ block_matrix(between(*ends)(beta))
    log_w, places = walked(ends, betas[::-1])
    weights = chances(ends, betas[::-1], places) * log_w.exp()
    mean = torch.stack([weights[places[:, 0] == place].sum() for place in range(4)])
    told = (-ends[1].energy(v) - ends[0].log_partition()).exp().detach() * mean
    close(told, forward)
    assert (told - ends[1].log_prob(v).exp()).abs().max() > 0.01  # it is not the machine's own law


def test_one_jump_is_importance_sampling():
    first, last, v = rbm(3, 2, 1), rbm(3, 2, 5), all_of(3)
    close(ais(between(first, last), [0.0, 1.0], v), (first.energy(v) - last.energy(v)).detach())


def test_walks_find_the_normaliser_within_their_error_from_both_sides():
    torch.manual_seed(0)
    data_points = (normal(50, 6, seed=3) > 0.3).double()
    first, last = independent(data_points, 4), rbm(6, 4, 2)
    path, betas = between(first, last), torch.linspace(0, 1, 12)
    truth = (last.log_partition() - first.log_partition()).item()
    up = ais(path, betas, first.sample((4000,), generator=seeded()), generator=seeded(1))
    down = ais(path, betas.flip(0), last.sample((4000,), generator=seeded(2)), generator=seeded(3))
    assert up.dtype == REAL
    for log_w, log_ratio in ((up, truth), (down, -truth)):
        w = (log_w - log_ratio).exp()
        assert abs(w.mean().item() - 1) < 4 * w.std().item() / math.sqrt(4000)
        assert w.std() > 0.05
    assert up.mean() < truth < -down.mean()
    longer = ais(
        path, torch.linspace(0, 1, 120), first.sample((4000,), generator=seeded()), generator=seeded(1)
    )
    assert effective(longer) > effective(up)
    assert (longer - truth).exp().std() < (up - truth).exp().std() / 2


def test_machines_of_seen_units_are_annealed_too():
    def path(beta):
        return Boltzmann(beta * couplings(4), beta * normal(4, seed=1))

    start = path(0.0).sample((4000,), generator=seeded())
    log_w = ais(path, torch.linspace(0, 1, 10), start, generator=seeded(1))
    w = (log_w + 4 * math.log(2) - path(1.0).log_partition()).exp()
    assert abs(w.mean().item() - 1) < 4 * w.std().item() / math.sqrt(4000)


def test_means_and_numbers_of_weights():
    log_w = normal(5, 3)
    close(log_mean(log_w), log_w.exp().mean(0).log())
    close(log_mean(log_w, 1), log_w.exp().mean(1).log())
    close(log_mean(log_w[:, 0] + 2000), log_mean(log_w[:, 0]) + 2000)
    w = log_w.exp()
    close(effective(log_w), w.sum(0) ** 2 / (w**2).sum(0))
    close(effective(log_w, 1), w.sum(1) ** 2 / (w**2).sum(1))
    close(effective(torch.full((7,), -1500.0, dtype=REAL)), real(7.0), 1e-10)
    close(effective(real([0.0, -math.inf, -math.inf])), real(1.0))


# Two layers ----------------------------------------------------------------------------------------------------


def test_a_belief_net_sums_over_its_hidden_units():
    model, v, h = belief(), all_of(3), all_of(2)
    down = torch.stack([model.bottom.visible(row[None]).log_prob(v.to(REAL)).sum(1) for row in h])
    top = model.top.log_prob(h)
    close(model.log_prob(v).exp(), top.exp() @ down.exp())
    close(model.log_prob(v).exp().sum(), real(1.0))


def test_a_belief_net_with_the_same_machine_turned_round_on_top_is_that_machine():
    bottom, v = rbm(3, 2), all_of(3)
    model = DeepBelief(bottom, bottom.transposed())
    close(model.log_prob(v), bottom.log_prob(v))
    for seed in range(5):  # q is the posterior: the bound is tight at each draw
        close(model.elbo(v, generator=seeded(seed)), bottom.log_prob(v))


def test_the_bound_of_a_belief_net_is_one_on_average():
    model, v, h = belief(), all_of(3), all_of(2)
    q = model.bottom.hidden(v)
    log_q = torch.stack([q.log_prob(row.to(REAL)).sum(1) for row in h])
    log_p = torch.stack([model.bottom.visible(row[None]).log_prob(v.to(REAL)).sum(1) for row in h])
    terms = (log_p + model.top.log_prob(h)[:, None] - log_q).detach()
    mean = (log_q.exp().detach() * terms).sum(0)
    spread = ((log_q.exp().detach() * (terms - mean) ** 2).sum(0) / 4000).sqrt()
    drawn = model.elbo(v.repeat(4000, 1), generator=seeded()).view(4000, 8).mean(0).detach()
    assert ((drawn - mean).abs() < 4.5 * spread).all()
    assert (mean < model.log_prob(v)).all()
    one = model.elbo(v, generator=seeded(1)).detach()
    assert all((term - terms[:, i]).abs().min() < 1e-12 for i, term in enumerate(one))


def test_the_slope_of_the_bound_in_the_top_is_that_of_the_draws():
    model, v = belief(), all_of(3)
    model.elbo(v, generator=seeded()).sum().backward()
    h = inside.tossed(model.bottom.hidden(v).logits.detach(), seeded())
    twin = copy.deepcopy(model.top)
    twin.zero_grad()
    twin.log_prob(h).sum().backward()
    close(model.top.weight.grad, twin.weight.grad)


def test_a_belief_net_by_sweeps_goes_on_from_the_top():
    model = belief()
    law = torch.full((4,), 1 / 4, dtype=REAL) @ torch.linalg.matrix_power(block_matrix(model.top), 2)
    down = torch.stack(
        [model.bottom.visible(h[None]).log_prob(all_of(3).to(REAL)).sum(1).exp() for h in all_of(2)]
    )
    assert fits(model.sample((20_000,), 2, generator=seeded()), (law @ down).detach())


@SOME
@given(seen=SIZES, first=SIZES, second=SIZES, seed=SEEDS)
def test_a_deep_machine_is_its_energies(seen, first, second, seed):
    model = deep(seen, first, second, seed)
    W, U, b, c, d = (
        getattr(model, name).tolist() for name in ("weight", "upper", "bias", "first_bias", "second_bias")
    )
    states = all_of(seen + first + second)
    v, h, u = states.split([seen, first, second], 1)

    def energy(s, t, r):
        return (
            -sum(W[i][j] * s[i] * t[j] for i in range(seen) for j in range(first))
            - sum(U[j][k] * t[j] * r[k] for j in range(first) for k in range(second))
            - sum(x * y for x, y in zip(b + c + d, s + t + r, strict=True))
        )

    expected = [energy(*parts) for parts in zip(v.tolist(), h.tolist(), u.tolist(), strict=True)]
    close(model.energy(v, h, u), real(expected))
    grid = model.energy(all_of(seen)[:, None, None], all_of(first)[:, None], all_of(second))
    close(grid.flatten(), real(expected))
    folded = model.folded()
    close(folded.joint_energy(h, torch.cat([v, u], 1)), real(expected))
    log_z = log_sum([-value for value in expected])
    close(model.log_partition(), real(log_z))
    close(folded.log_partition(), real(log_z))
    close(model.log_prob(all_of(seen)).exp(), (-real(expected) - log_z).exp().view(2**seen, -1).sum(1))


def test_the_energy_of_means_is_the_mean_energy():
    model, v = deep(), all_of(3)[5:6]
    means = torch.rand(1, 6, generator=seeded(), dtype=REAL)
    hidden = all_of(6)
    p = torch.where(hidden == 1, means, 1 - means).prod(1)
    energies = model.energy(v.expand(64, 3), *hidden.split([2, 4], 1))
    close(p @ energies, model.energy(v, *means.split([2, 4], 1))[0])
    h, u = model.mean_field(v, 2)
    q = torch.where(hidden == 1, torch.cat([h, u], 1), 1 - torch.cat([h, u], 1)).prod(1)
    bound = q @ (-energies - q.log()) - model.log_partition()
    close(model.elbo(v, steps=2)[0], bound)


@SOME
@given(seed=SEEDS)
def test_the_bound_of_a_deep_machine_rises_with_its_steps_and_stays_below(seed):
    model, v = deep(3, 3, 4, seed), all_of(3)
    bounds = torch.stack([model.elbo(v, steps=steps) for steps in (1, 2, 3, 5, 10, 30)]).detach()
    assert (bounds.diff(dim=0) > -1e-12).all()
    assert (bounds <= model.log_prob(v)).all()
    h, u = model.mean_field(v, 3)
    close(u, (model.second_bias + h @ model.upper).sigmoid())
    before = model.mean_field(v, 2)[1]
    close(h, (model.first_bias + v.to(REAL) @ model.weight + before @ model.upper.mT).sigmoid())
    close(
        model.mean_field(v, 1)[0],
        (model.first_bias + v.to(REAL) @ model.weight + model.upper.sum(1) / 2).sigmoid(),
    )
    close(model.elbo(v, 0.0), model.elbo(v) + model.log_partition())


def test_the_bound_is_tight_without_upper_weights():
    model, v = deep(), all_of(3)
    with torch.no_grad():
        model.upper.zero_()
    close(model.elbo(v, steps=1), model.log_prob(v))


def test_the_gradient_of_a_deep_machine_is_data_phase_less_model_phase():
    model, x = deep(), all_of(3)[[1, 4, 6]]
    v, h, u = all_of(9).to(REAL).split([3, 2, 4], 1)
    energy = model.energy(v, h, u).detach()
    p = (-energy).softmax(0)
    model.log_prob(x).mean().backward()
    posterior = torch.zeros_like(p)
    for row in x:
        here = (v == row).all(1)
        posterior[here] += (-energy[here]).softmax(0) / 3
    close(model.weight.grad, v.mT @ ((posterior - p)[:, None] * h))
    close(model.upper.grad, h.mT @ ((posterior - p)[:, None] * u))
    close(model.bias.grad, (posterior - p) @ v)
    close(model.first_bias.grad, (posterior - p) @ h)
    close(model.second_bias.grad, (posterior - p) @ u)


def test_the_contrast_has_the_slope_of_the_bound_where_the_chains_are_at_rest():
    model, x = deep(), all_of(3)[[1, 4, 6]]
    model.elbo(x).mean().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    h = all_of(2)
    value = model.contrast(x, h)
    close(value, model.energy(x, *model.mean_field(x)) - model.folded().energy(h).mean())
    p = model.folded().log_prob(h).exp().detach()
    sum(w * model.contrast(x, row[None]).mean() for w, row in zip(p, h, strict=True)).backward()
    for parameter, slope in zip(model.parameters(), expected, strict=True):
        close(parameter.grad, -slope)


def test_a_deep_machine_moves_its_first_layer_in_blocks():
    model = deep()
    h, matrix = all_of(2), torch.zeros(4, 4, dtype=REAL)
    log_p = -model.energy(*all_of(9).split([3, 2, 4], 1)).detach()
    joint = log_p.exp().view(8, 4, 16)  # v, h, u
    for v, u in itertools.product(range(8), range(16)):
        given_h, given_rest = joint[v, :, u] / joint.sum((0, 2)), joint[v, :, u] / joint[v, :, u].sum()
        matrix += given_h[:, None] * given_rest
    for place, row in enumerate(h):
        assert fits(model.move(row.expand(4000, 2), generator=seeded(place)), matrix[place])
    law = torch.full((4,), 1 / 4, dtype=REAL) @ torch.linalg.matrix_power(matrix, 2)
    down = (joint.sum(2) / joint.sum((0, 2))).mT  # (h, v)
    assert fits(model.sample((20_000,), 2, generator=seeded()), law @ down)
    close(model.visible(h).log_prob(all_of(3).to(REAL)[:, None]).sum(-1).exp().mT, down)


def test_machines_learn_by_walks_that_go_on():
    torch.manual_seed(0)
    truth = rbm(4, 2, 3)
    x = truth.sample((2000,), generator=seeded())
    model = RBM(4, 2).double()
    deeper = DeepBoltzmann(4, 2, 2).double()
    walks, deep_walks = Chains(x[:200]), Chains(torch.zeros(200, 2, dtype=REAL))
    optimiser = torch.optim.Adam([*model.parameters(), *deeper.parameters()], 0.1)
    before = [machine.log_prob(x).mean().item() for machine in (model, deeper)]
    for _ in range(100):
        loss = contrast(model.energy, x, walks.draw(200, model.move, generator=seeded(walks.steps))).mean()
        loss = (
            loss
            + deeper.contrast(
                x, deep_walks.draw(200, deeper.move, generator=seeded(1000 + walks.steps))
            ).mean()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    best = truth.log_prob(x).mean().item()
    for machine, start in zip((model, deeper), before, strict=True):
        assert best - machine.log_prob(x).mean().item() < 0.25 * (best - start)


# All together --------------------------------------------------------------------------------------------------

ALL = {"Boltzmann": machine, "RBM": rbm, "deep belief": belief, "deep Boltzmann": deep}
each = pytest.mark.parametrize("make", ALL.values(), ids=ALL)


def says(model):
    """What the model says of x."""
    names = (
        "log_prob",
        "loss",
        "elbo",
        "energy",
        "pseudo_log_prob",
        "conditional",
        "hidden",
        "move",
        "mean_field",
    )
    names = [name for name in names if hasattr(model, name)]
    if isinstance(model, DeepBoltzmann):
        names = ["log_prob", "elbo", "mean_field"]
    return [getattr(model, name) for name in names]


@each
def test_bools_whole_numbers_and_reals_are_the_same(make):
    model, v = make(), all_of(3)
    assert isinstance(model.event_shape, torch.Size)
    for same in (v.bool(), v.to(torch.uint8), v.float(), v.double()):
        assert torch.equal(model.log_prob(same), model.log_prob(v))
        assert model.log_prob(same).dtype == REAL
    if hasattr(model, "loss"):
        assert model.loss(v.bool()).shape == (8,)
    single = model.float()
    assert single.log_prob(v).dtype == single.sample((2,)).dtype == torch.float32


@each
def test_no_examples_are_no_numbers(make):
    model = make()
    for say in says(model):
        told = say(torch.zeros(0, 3))
        for part in told if isinstance(told, tuple) else (getattr(told, "logits", told),):
            assert len(part) == 0


@each
def test_what_is_not_binary_or_of_another_shape_is_refused(make):
    model = make()
    name = "x" if isinstance(model, Boltzmann) else "v"
    for say in says(model):
        for wrong, got in zip(NOT_BINARY, ("0.5", "2", "-1.0"), strict=True):
            refused(f"{name} must hold only 0 and 1, got {got}", say, wrong)
        refused(f"{name} must not hold NaN", say, torch.full((1, 3), math.nan))
        refused(f"{name} must have shape (..., 3), got (2, 4)", say, torch.zeros(2, 4))
        refused(f"{name} must have shape (B, 3), got (3,)", say, torch.zeros(3))
        refused(f"{name} must be a torch tensor, got list", say, [[0, 1, 0]])


@each
def test_a_generator_decides_the_draws(make):
    model, state = make(), torch.get_rng_state()
    draw = model.sample
    assert torch.equal(draw((50,), generator=seeded(1)), draw((50,), generator=seeded(1)))
    assert not torch.equal(draw((50,), generator=seeded(1)), draw((50,), generator=seeded(2)))
    assert torch.equal(torch.get_rng_state(), state)
    for shape in (3, (0,), (2, 2), "3"):
        with pytest.raises(ValueError, match="^(n in )?shape"):
            draw(shape)


@each
def test_numbers_of_sweeps_are_checked(make):
    model = make()
    for sweeps in NO_COUNTS:
        if hasattr(model, "move"):
            x = torch.zeros(1, 2 if isinstance(model, DeepBoltzmann) else 3)
            refused("sweeps must be a whole number of at least 1", model.move, x, sweeps)
        if sweeps is not None and not isinstance(model, Boltzmann):
            refused("sweeps must be a whole number of at least 1", model.sample, (2,), sweeps)
    if isinstance(model, DeepBoltzmann):
        refused("steps must be a whole number of at least 1", model.mean_field, torch.zeros(1, 3), 0)
        refused(
            "h must lie in [0, 1], got 0 to 1.5",
            model.energy,
            all_of(3)[:1],
            real([[0, 1.5]]),
            all_of(4)[:1],
        )
        refused(
            "u must have shape (..., 4), got (1, 3)",
            model.energy,
            all_of(3)[:1],
            all_of(2)[:1],
            all_of(3)[:1],
        )
        refused("h must hold only 0 and 1, got 0.5", model.contrast, all_of(3), torch.full((1, 2), 0.5))
        refused("h must hold only 0 and 1, got 0.5", model.visible, torch.full((1, 2), 0.5))


def test_settings_are_checked():
    W, b = couplings(3), torch.zeros(3)
    refused("weight must have shape (D, D) with D at least 1, got (2, 3)", Boltzmann, W[:2], b)
    refused("weight must have shape (D, D) with D at least 1, got (0, 0)", Boltzmann, W[:0, :0], b[:0])
    refused("weight must be symmetric, got entries that differ by", Boltzmann, W.triu(), b)
    refused("weight must have a diagonal of 0, got [1.0, 1.0, 1.0]", Boltzmann, W + torch.eye(3), b)
    refused("bias must have shape (3,), got (2,)", Boltzmann, W, b[:2])
    refused("weight must hold finite numbers", Boltzmann, W / 0, b)
    for temperature in (0, -1.0, math.nan, math.inf, True, None, "1"):
        refused("temperature must be a", Boltzmann, W, b, temperature)
        refused("temperature must be a", hopfield, torch.ones(1, 3), temperature)
    refused("patterns must hold only −1 and +1, got 0.0", hopfield, torch.tensor([[1.0, 0.0]]))
    refused("patterns must have shape (K, D) with K, D at least 1, got (3,)", hopfield, torch.ones(3))
    for size in NO_COUNTS:
        refused("visible must be a whole number of at least 1", RBM, size, 2)
        refused("hidden must be a whole number of at least 1", RBM, 2, size)
        refused("hidden must be a whole number of at least 1", independent, torch.ones(2, 2), size)
        for i, name in enumerate(("visible", "first", "second")):
            refused(
                f"{name} must be a whole number of at least 1", DeepBoltzmann, *[2] * i, size, *[2] * (2 - i)
            )
    refused("weight must have shape (D, H) with D, H at least 1, got (3,)", RBM.of, b, b, b)
    refused("bias must have shape (3,), got (2,)", RBM.of, W, b[:2], b)
    refused("hidden_bias must have shape (3,), got (2,)", RBM.of, W, b, b[:2])
    refused("x must hold only 0 and 1, got 0.5", independent, torch.tensor([[0.5]]), 1)
    refused(
        "x must be a tensor of shape (n, D) with n, D at least 1, got (0, 2)",
        independent,
        torch.ones(0, 2),
        1,
    )
    refused(
        "top must have as many seen units as bottom has hidden ones, got 2 and 3",
        DeepBelief,
        rbm(3, 2),
        rbm(3, 2),
    )
    refused("first and last must have the same sizes, got (3, 2) and (2, 3)", between, rbm(3, 2), rbm(2, 3))
    path = between(rbm(), rbm())
    for beta in (-0.1, 1.1):
        refused(f"beta must lie in [0, 1], got {beta}", path, beta)
    refused("beta must be a finite number, got nan", path, math.nan)


def test_large_machines_name_their_sizes():
    many = Boltzmann(torch.zeros(21, 21), torch.zeros(21))
    for job in (
        many.log_partition,
        many.moments,
        lambda: many.sample((2,)),
        lambda: many.log_prob(torch.zeros(1, 21)),
    ):
        refused("the machine must have at most 20 units to list all states, got 21", job)
    wide = RBM(22, 21)
    for job in (wide.log_partition, lambda: wide.sample((2,)), lambda: wide.transposed().sample((2,))):
        with pytest.raises(
            ValueError, match="^one side of the machine must have at most 20 units .*, got 2[12] × 2[12]$"
        ):
            job()
    assert wide.sample((2,), 3).shape == (2, 22)
    assert wide.pseudo_log_prob(torch.zeros(2, 22)).shape == (2,)
    assert many.pseudo_log_prob(torch.zeros(2, 21)).tolist() == pytest.approx([-21 * math.log(2)] * 2)
    for model in (DeepBelief(RBM(3, 21), RBM(21, 2)), DeepBoltzmann(3, 21, 2)):
        refused(
            "h must have at most 20 units to list all its states, got 21", model.log_prob, torch.zeros(1, 3)
        )


@pytest.mark.parametrize("sizes", [(30, 2), (2, 30)])
def test_the_smaller_side_is_listed(sizes):
    model = RBM(*sizes)
    with torch.no_grad():
        model.weight.zero_()
    assert model.log_partition().item() == pytest.approx(32 * math.log(2), rel=1e-6)
    assert model.sample((3,)).shape == (3, sizes[0])


def test_pseudo_likelihood_in_pieces_is_the_same(monkeypatch):
    model, v = rbm(3, 2), all_of(3)
    whole = model.pseudo_log_prob(v)
    for numbers in (13, 1):
        monkeypatch.setattr(restricted, "NUMBERS", numbers)
        close(model.pseudo_log_prob(v), whole)


def test_machines_keep_copies_of_their_parameters():
    given = [couplings(3), normal(3), normal(3)]
    for model in (Boltzmann(*given[:2]), RBM.of(*given)):
        for parameter, value in zip(model.parameters(), given, strict=False):
            assert torch.equal(parameter, value)
            assert parameter.data_ptr() != value.data_ptr()


def test_ways_and_weights_are_checked():
    path, v = between(rbm(), rbm(seed=3)), all_of(3)
    for betas in ([0.5], [], 0.5, [[0.0, 1.0]]):
        refused("betas must have shape (K + 1,) with K at least 1", ais, path, betas, v)
    for betas in ([-0.1, 1.0], [0.0, 1.1]):
        refused("betas must lie in [0, 1]", ais, path, betas, v)
    for betas in ([0.0, 0.5, 0.5, 1.0], [0.0, 0.7, 0.3, 1.0], [1.0, 0.0, 0.5]):
        refused("betas must rise or fall all the way", ais, path, betas, v)
    refused("betas must hold finite numbers", ais, path, [0.0, math.nan], v)
    refused("v must hold only 0 and 1", ais, path, [0.0, 1.0], v / 2)
    for job in (log_mean, effective):
        refused("log_w must hold at least one weight, got shape (0,)", job, torch.empty(0))
        refused("log_w must hold at least one weight, got shape ()", job, torch.tensor(1.0))
        refused("log_w must not hold NaN", job, torch.tensor([math.nan]))

    class Wrong:
        def __init__(self, value):
            self.energy = lambda x: value

        def move(self, x, *, generator=None):
            return x

    refused("energy must return shape (8,), got ()", ais, lambda beta: Wrong(torch.zeros(())), [0.0, 1.0], v)
    with pytest.raises(RuntimeError, match="^the weights are not numbers after step 2, at beta 1$"):
        ais(lambda beta: Wrong(torch.full((8,), math.nan if beta == 1 else 0.0)), [0.0, 0.5, 1.0], v)


def test_independent_units_have_an_exact_z_and_samples_at_any_size():
    x = (torch.rand(300, 64, generator=seeded(0)) < 0.3).double()
    simple = independent(x, 200)
    frequencies = (x.sum(0) + 0.5) / 301
    law = torch.distributions.Bernoulli(frequencies)
    torch.testing.assert_close(simple.log_prob(x), law.log_prob(x).sum(1))
    drawn = simple.sample((20_000,), generator=seeded(1))
    assert ((drawn.mean(0) - frequencies).abs() < 5 * (frequencies * (1 - frequencies) / 20_000).sqrt()).all()
    assert torch.equal(drawn, simple.sample((20_000,), generator=seeded(1)))
    little = independent(x[:, :3], 4)  # where the sum can be listed too
    listed = RBM.of(little.weight, little.bias, little.hidden_bias)
    torch.testing.assert_close(little.log_partition(), listed.log_partition())
    assert not any(value.requires_grad for value in simple.parameters())
