"""The Ising model: against sums over all images, a determinant that knows nothing of boundaries, chains and limits."""

import copy
import functools
import itertools
import math
import pickle

import numpy as np
import pytest
import scipy.stats
import torch
from exactness import FEW, REAL, close, everything, seeded
from hypothesis import given
from hypothesis import strategies as st

from genlib.data.lattices import CRITICAL, WIDEST, Ising
from genlib.data.sources import Source

SMALL = [(1, 1), (1, 2), (2, 1), (1, 7), (7, 1), (2, 2), (2, 3), (3, 2), (2, 5), (4, 3), (4, 4)]
TEMPERATURES = [1.5, CRITICAL, 3.5]
EXACT = 1e-11

lattices = pytest.mark.parametrize(
    ("height", "width", "temperature"),
    [(*shape, temperature) for shape in SMALL for temperature in TEMPERATURES],
    ids=lambda value: f"{value:.4g}",
)


def pairs(height, width):
    """All pairs of places at distance 1, each once."""
    places = list(itertools.product(range(height), range(width)))
    return [
        (i, j)
        for (i, (r, c)), (j, (q, d)) in itertools.combinations(enumerate(places), 2)
        if abs(r - q) + abs(c - d) == 1
    ]


@functools.cache
def images(height, width):
    """All images (2^N, H, W), their spins (2^N, N), and their energies pair by pair."""
    x = everything(2, height * width)
    s = 2 * x.to(REAL) - 1
    energy = torch.zeros(len(x), dtype=REAL)
    for i, j in pairs(height, width):
        energy -= s[:, i] * s[:, j]
    return x.reshape(-1, height, width), s, energy


def by_hand(height, width, temperature):
    """All images, their spins, energies, log Z and probabilities, by sums over the images."""
    x, s, energy = images(height, width)
    log_z = (-energy / temperature).logsumexp(0)
    return x, s, energy, log_z, (-energy / temperature - log_z).exp()


def log_z_of_loops(height, width, beta):
    """Kac and Ward's determinant: log Z as a sum over closed walks, from the directed edges of the plane lattice."""
    places = list(itertools.product(range(height), range(width)))
    steps = [
        ((r, c), (r + up, c + right))
        for r, c in places
        for up, right in ((0, 1), (0, -1), (1, 0), (-1, 0))
        if (r + up, c + right) in places
    ]
    start, end = (np.array(side) @ [1j, 1] for side in zip(*steps, strict=True))  # places as complex numbers
    turn = (end - start) / (end - start)[:, None]  # from each edge to each other, of modulus 1
    follows = (end[:, None] == start) & (start[:, None] != end)
    half = torch.from_numpy(np.where(follows, np.exp(0.5j * np.angle(turn)), 0))
    walks = torch.eye(len(steps), dtype=half.dtype) - beta.tanh() * half
    even = 0.5 * torch.linalg.slogdet(walks).logabsdet
    return len(places) * math.log(2) + len(steps) / 2 * beta.cosh().log() + even


def number(value):
    return torch.tensor(value, dtype=REAL)


# Sums over all images ------------------------------------------------------------------------------------------


@lattices
def test_probabilities_agree_with_the_sum_over_all_images(height, width, temperature):
    ising, (x, _, energy, log_z, p) = Ising(height, width, temperature), by_hand(height, width, temperature)
    assert torch.equal(ising.states(), x)
    assert ising.states().dtype == torch.int64
    assert ising.event_shape == (height, width)
    assert ising.edges == len(pairs(height, width)) == -energy.min()
    close(ising.energy(x), energy, 0)
    close(ising.log_partition, log_z, EXACT)
    close(ising.log_prob(x), -energy / temperature - log_z, EXACT)
    close(ising.log_prob(x).exp().sum(), number(1.0), EXACT)
    close(ising.mean_energy(), p @ energy, EXACT)
    close(ising.entropy(), -(p @ p.log()), EXACT)


@lattices
def test_conditionals_are_those_of_the_joint(height, width, temperature):
    ising, (x, *_, p) = Ising(height, width, temperature), by_hand(height, width, temperature)
    log_p = ising.log_conditionals(x)
    assert log_p.shape == (*x.shape, 2)
    for place in range(height * width):
        margin = p.reshape(2**place, 2, -1).sum(-1)  # of the places before it, and of it
        expected = (margin / margin.sum(-1, keepdim=True)).repeat_interleave(len(x) // 2**place, 0)
        close(log_p.flatten(1, 2)[:, place].exp(), expected, EXACT)


@lattices
def test_correlations_are_those_of_the_joint(height, width, temperature):
    _, s, _, _, p = by_hand(height, width, temperature)
    close(Ising(height, width, temperature).correlation(), s.T @ (p[:, None] * s), EXACT)


@FEW
@given(st.integers(1, 3), st.integers(1, 3), st.floats(0.05, 50))
def test_any_temperature_by_the_sum_over_all_images(height, width, temperature):
    ising = Ising(height, width, temperature)
    x = ising.states()
    log_p = ising.log_conditionals(x).gather(-1, x[..., None]).sum((1, 2, 3))
    weight = -ising.energy(x) / temperature
    scale = 1e-13 * max(1, 12 / temperature)
    close(ising.log_partition, weight.logsumexp(0), 10 * scale)
    close(log_p, weight.log_softmax(0), 10 * scale)
    close(ising.log_prob(x), log_p, 10 * scale)
    close(ising.entropy(), torch.special.entr(log_p.exp()).sum(), EXACT)


# Larger lattices ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "temperature"),
    [(12, 12, CRITICAL)]
    + [(*shape, t) for shape in [(2, 2), (5, 7), (12, 1), (3, 12), (30, 2)] for t in TEMPERATURES],
)
def test_partition_function_and_energy_agree_with_the_determinant_of_kac_and_ward(height, width, temperature):
    ising, beta = Ising(height, width, temperature), number(1 / temperature).requires_grad_()
    log_z = log_z_of_loops(height, width, beta)
    (slope,) = torch.autograd.grad(log_z, beta)
    close(ising.log_partition, log_z.detach(), 1e-10)
    close(ising.mean_energy(), -slope, 1e-10)
    close(ising.entropy(), (log_z - slope / temperature).detach(), 1e-10)


@pytest.mark.parametrize(("height", "width"), [(1, 2), (1, 12), (2, 1), (300, 1)])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_chain_has_its_closed_form(height, width, temperature):
    ising, count, beta = Ising(height, width, temperature), height * width, 1 / temperature
    log_z = count * math.log(2) + (count - 1) * math.log(math.cosh(beta))
    close(ising.log_partition, number(log_z), 1e-10)
    close(ising.mean_energy(), number(-(count - 1) * math.tanh(beta)), 1e-10)
    far = torch.arange(count)
    close(ising.correlation(), number(math.tanh(beta)) ** (far - far[:, None]).abs(), EXACT)


def test_product_of_the_conditionals_is_the_probability_on_a_large_lattice():
    for height, width in ((12, 12), (5, 9), (9, 5), (30, 2)):
        ising = Ising(height, width, CRITICAL)
        far = torch.randint(2, (50, height, width), generator=seeded(1))
        x = torch.cat([ising.sample((50,), generator=seeded()), far])
        log_p = ising.log_conditionals(x)
        close(log_p.exp().sum(-1), torch.ones(x.shape, dtype=REAL))
        close(log_p.gather(-1, x[..., None]).sum((1, 2, 3)), ising.log_prob(x), 1e-10)


def test_mean_energy_is_the_sum_of_the_correlations_of_neighbours():
    ising = Ising(7, 9, 2.0)
    correlation = ising.correlation()
    close(ising.mean_energy(), -sum(correlation[i, j] for i, j in pairs(7, 9)), EXACT)
    close(correlation.diagonal(), torch.ones(63, dtype=REAL), 0)
    assert torch.linalg.eigvalsh(correlation).min() > 0
    assert (correlation > 0).all()  # Griffiths 1967: without a field, no pair of spins is against each other


def test_energy_of_a_place_falls_towards_onsagers_at_the_critical_temperature():
    sides = range(2, WIDEST + 1)
    energy = [Ising(side, side, CRITICAL).mean_energy().item() / side**2 for side in sides]
    assert all(-math.sqrt(2) < larger < smaller for smaller, larger in itertools.pairwise(energy))
    assert math.sinh(2 / CRITICAL) == pytest.approx(
        1, abs=1e-15
    )  # where both phases change places (Kramers, Wannier)


# Symmetries -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(2, 5), (12, 3), (9, 12), (12, 1)])
def test_a_lattice_on_its_side_is_the_same(height, width):
    ising, turned = Ising(height, width, CRITICAL), Ising(width, height, CRITICAL)
    x = ising.sample((20,), generator=seeded())
    close(turned.log_prob(x.mT), ising.log_prob(x), EXACT)
    close(turned.log_partition, ising.log_partition, EXACT)
    close(turned.mean_energy(), ising.mean_energy(), EXACT)
    close(turned.entropy(), ising.entropy(), EXACT)
    order = torch.arange(height * width).reshape(width, height).mT.flatten()
    close(turned.correlation()[order][:, order], ising.correlation(), EXACT)


@FEW
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.2, 20), st.integers(0, 10**6))
def test_colours_swapped_and_mirrors_change_nothing(height, width, temperature, seed):
    ising = Ising(height, width, temperature)
    x = torch.randint(2, (5, height, width), generator=seeded(seed))
    for twin in (1 - x, x.flip(-1), x.flip(-2), x.flip(-1, -2)):
        close(ising.energy(twin), ising.energy(x), 0)
    close(ising.log_conditionals(1 - x).flip(-1), ising.log_conditionals(x), EXACT)
    close(ising.log_conditionals(x)[:, 0, 0].exp(), torch.full((5, 2), 0.5, dtype=REAL))


def test_mirrors_change_no_correlation():
    correlation = Ising(5, 6, 2.0).correlation().reshape(5, 6, 5, 6)
    for dims in ((0, 2), (1, 3)):
        close(correlation.flip(dims), correlation)


# Limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (3, 5), (9, 7)])
@pytest.mark.parametrize("temperature", [1e8, 1e300])
def test_a_hot_lattice_is_uniform(height, width, temperature):
    ising, count = Ising(height, width, temperature), height * width
    x = torch.randint(2, (9, height, width), generator=seeded())
    close(ising.entropy(), number(count * math.log(2)), EXACT)
    close(ising.log_prob(x), torch.full((9,), -count * math.log(2), dtype=REAL), 1e-5)
    close(ising.correlation(), torch.eye(count, dtype=REAL), 1e-7)
    assert abs(ising.mean_energy()) < 1e-5


@pytest.mark.parametrize(("height", "width"), [(1, 2), (2, 2), (3, 5), (9, 7)])
@pytest.mark.parametrize("temperature", [0.02, 1e-6, 1e-300])
def test_a_cold_lattice_has_two_states(height, width, temperature):
    ising, whole = Ising(height, width, temperature), torch.ones(1, height, width, dtype=torch.int64)
    both = torch.cat([whole, 0 * whole])
    close(ising.entropy(), number(math.log(2)))
    close(ising.log_prob(both), torch.full((2,), -math.log(2), dtype=REAL))
    close(ising.mean_energy(), number(-1.0 * ising.edges), 0)
    close(ising.correlation(), torch.ones(2 * (height * width,), dtype=REAL))
    x = ising.sample((200,), generator=seeded())
    assert (x == x[:, :1, :1]).all()
    assert 70 < x[:, 0, 0].sum() < 130
    torch.testing.assert_close(ising.log_partition, number(ising.edges / temperature + math.log(2)))
    assert not ising.log_conditionals(both).isnan().any()


# Samples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(2, 2), (2, 3), (3, 2), (1, 5), (5, 1)])
@pytest.mark.parametrize("temperature", [1.5, 3.5])
def test_samples_have_the_exact_frequencies(height, width, temperature):
    ising = Ising(height, width, temperature)
    x = ising.sample((20_000,), generator=seeded())
    assert (x.shape, x.dtype) == ((20_000, height, width), torch.int64)
    powers = 2 ** torch.arange(height * width).flip(0)
    counts = torch.bincount((x.flatten(1) * powers).sum(-1), minlength=2 ** (height * width))
    expected = 20_000 * ising.log_prob(ising.states()).exp()
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize(("side", "n"), [(4, 20_000), (10, 4_000)])
def test_means_over_samples_lie_within_their_errors(side, n):
    ising = Ising(side, side, CRITICAL)
    x = ising.sample((n,), generator=seeded())
    s = 2.0 * x.flatten(1).double() - 1
    for drawn, exact in (
        (ising.energy(x), ising.mean_energy()),
        (-ising.log_prob(x), ising.entropy()),
        (s[:, 0] * s[:, -1], ising.correlation()[0, -1]),
        (s.mean(-1) ** 2, ising.correlation().mean()),
        (s.mean(-1), number(0.0)),
    ):
        assert abs(drawn.mean() - exact) < 4 * drawn.std() / math.sqrt(n)


# The interface --------------------------------------------------------------------------------------------------


def test_it_is_a_source_in_float64_whatever_the_default():
    ising = Ising(2, 3, 2.0)
    assert isinstance(ising, Source)
    x, again = (ising.sample((7,), generator=seeded(3)) for _ in range(2))
    assert torch.equal(x, again)
    assert not torch.equal(x, ising.sample((7,), generator=seeded(4)))
    assert torch.get_default_dtype() == torch.float32
    results = [ising.log_prob(x), ising.energy(x), ising.log_conditionals(x), ising.log_partition]
    results += [ising.entropy(), ising.mean_energy(), ising.correlation()]
    assert {result.dtype for result in results} == {REAL}
    assert ising.log_partition.shape == ising.entropy().shape == ising.mean_energy().shape == ()
    close(ising.log_prob(x.byte()), ising.log_prob(x), 0)
    close(ising.log_conditionals(x.int()), ising.log_conditionals(x), 0)
    for say, event in ((ising.log_prob, ()), (ising.energy, ()), (ising.log_conditionals, (2, 3, 2))):
        assert say(x[:0]).shape == (0, *event)
        close(say(x[:6].reshape(2, 3, 2, 3)), say(x[:6]).reshape(2, 3, *event), 0)
    for twin in (copy.deepcopy(ising), pickle.loads(pickle.dumps(ising))):
        assert torch.equal(twin.sample((7,), generator=seeded(3)), x)
    with torch.device("meta"):  # the default device is no part of a source
        assert ising.sample((2,), generator=seeded()).device.type == ising.states().device.type == "cpu"
        assert ising.correlation().device.type == ising.log_conditionals(x).device.type == "cpu"
        assert Ising(2, 2, 1.0, device="cpu").entropy().device.type == "cpu"


def test_what_is_no_lattice_is_refused_by_name():
    for size in (0, -1, 2.0, True, "3", None):
        with pytest.raises(ValueError, match="^height must be a whole number of at least 1, got "):
            Ising(size, 3, 1.0)
        with pytest.raises(ValueError, match="^width must be a whole number of at least 1, got "):
            Ising(3, size, 1.0)
    with pytest.raises(ValueError, match="^width must be at most 12, got 13"):
        Ising(2, 13, 1.0)
    for temperature in (0, 0.0, -1.0, math.inf, math.nan, "1", True, None):
        with pytest.raises(ValueError, match="^temperature must be a (finite )?number above 0, got "):
            Ising(2, 2, temperature)
    with pytest.raises(ValueError, match="^temperature must leave E/T finite, got 1e-308"):
        Ising(2, 3, 1e-308)


def test_what_is_no_image_is_refused_by_name():
    ising = Ising(2, 3, 1.0)
    wrong = (
        torch.zeros(4, 3, 2, dtype=torch.int64),
        torch.zeros(4, 2, 3, 1, dtype=torch.int64),
        torch.zeros(6, dtype=torch.int64),
        torch.zeros(4, 2, 3),
        torch.full((4, 2, 3), 2),
        torch.full((4, 2, 3), -1),
        [[[0, 1, 0], [1, 1, 1]]],
    )
    for x in wrong:
        for say in (ising.energy, ising.log_prob, ising.log_conditionals):
            with pytest.raises(ValueError, match="^x must "):
                say(x)
    for shape in (3, (0,), (2, 2), "3", (2.0,)):
        with pytest.raises(ValueError, match="shape"):
            ising.sample(shape)


def test_only_small_lattices_list_their_states():
    assert Ising(16, 1, 1.0).states().shape == (65536, 16, 1)
    with pytest.raises(ValueError, match="^height × width must be at most 16 to list all states, got 18"):
        Ising(3, 6, 1.0).states()
