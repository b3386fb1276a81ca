"""The scorecard: its own models against enumeration and references, its protocol, its table, and its runner."""

import csv
import functools
import importlib.util
import math
import os
import sys
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exactness import FEW, REAL, STEADY, close, everything, seeded
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.mixture import GaussianMixture as Reference
from sklearn.neighbors import KernelDensity
from torch import nn
from torch.distributions import (
    AffineTransform,
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)

from genlib import data, metrics, scorecard, sequence
from genlib.discrete import smoothed
from genlib.scorecard import MODELS, PROTOCOL, TARGETS, Recipe, Result, Row, images, points, protocol
from genlib.scorecard import table as tables
from genlib.scorecard.points import RECIPES, Bent, Cells, DigitByDigit, Table
from genlib.scorecard.protocol import COLUMNS, InDataUnits, run, turned_ring
from genlib.scorecard.recipe import Mixture, Neighbours

SEEDS = st.integers(0, 10**6)
STEPWISE = [name for name, recipe in RECIPES.items() if recipe.steps]
CLOCKS = {"seconds": None, "milliseconds": None}


def load_runner():
    path = Path(__file__).parents[1] / "benchmarks" / "scorecard.py"
    spec = importlib.util.spec_from_file_location("scorecard_runs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = load_runner()


@pytest.fixture
def double():
    """Only here and there: most of the scorecard works in float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(REAL)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def small(monkeypatch):
    """A run in a moment."""
    monkeypatch.setattr(protocol, "SEEN", 600)
    monkeypatch.setattr(protocol, "ASKED", 1200)
    monkeypatch.setattr(protocol, "SAMPLED", 200)


def draws(shape, seed=0, dtype=None):
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def centres(cells, dims):
    """The middle of every cell (bins^D, D)."""
    return (everything(cells.bins, dims) + 0.5) * cells.width - cells.reach


def frequencies_fit(counts, probs):
    """The counts are those of draws with these probabilities."""
    expected = probs * counts.sum()
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-4


# cells


@STEADY
@given(SEEDS, st.floats(0.1, 10.0), st.integers(1, 40), st.integers(1, 4))
def test_cells_index_undoes_spread(seed, reach, bins, dims):
    cells = Cells(reach, bins)
    cell = torch.randint(bins, (20, dims), generator=seeded(seed))
    torch.manual_seed(seed)
    x = cells.spread(cell.to(REAL))
    again, inside = cells.index(x)
    assert inside.all()
    assert torch.equal(again, cell)


def test_cells_spread_fills_the_whole_cell(double):
    cells = Cells(1.5, 3)
    torch.manual_seed(0)
    x = cells.spread(torch.tensor([[0, 2]]).expand(5000, 2))
    assert stats.kstest(x[:, 0].numpy(), stats.uniform(-1.5, 1).cdf).pvalue > 1e-4
    assert stats.kstest(x[:, 1].numpy(), stats.uniform(0.5, 1).cdf).pvalue > 1e-4


@STEADY
@given(st.floats(0.1, 10.0), st.integers(1, 40), st.lists(st.floats(-1, 1), min_size=1, max_size=4))
def test_cells_tile_the_cube(reach, bins, shares):
    cells, x = Cells(reach, bins), 0.999 * reach * torch.tensor([shares], dtype=REAL)
    cell, inside = cells.index(x)
    low = cell.double() * cells.width - reach
    assert inside.all()
    assert cells.width * bins == pytest.approx(2 * reach)
    assert (low <= x + 1e-9).all()
    assert (x <= low + cells.width + 1e-9).all()


def test_cells_tell_what_lies_outside():
    cells = Cells(2.0, 4)
    x = torch.tensor(
        [[-2.0, 0.0], [2.0, 0.0], [0.0, -2.01], [1.99, 1.99], [1e30, 0.0], [0.0, -1e30], [math.inf, 0.0]]
    )
    cell, inside = cells.index(x)
    assert inside.tolist() == [True, False, False, True, False, False, False]
    assert cell[0].tolist() == [0, 2]
    assert cell[3].tolist() == [3, 3]
    assert cell.min() >= 0
    assert cell.max() <= 3


@pytest.mark.parametrize("reach", [0.0, -1.0, math.inf, math.nan, None])
def test_reach_is_a_number_above_zero(reach):
    with pytest.raises(ValueError, match="^reach must be"):
        Cells(reach, 3)


@pytest.mark.parametrize("bins", [0, -1, 2.0, None])
def test_bins_are_a_whole_number(bins):
    with pytest.raises(ValueError, match="^bins must be a whole number"):
        Cells(1.0, bins)


# the table of cells


def a_table(seed=0, bins=4, reach=1.5):
    model = Table(Cells(reach, bins))
    model.softmax.logits.data = draws(bins**2, seed)
    return model


@FEW
@given(SEEDS, st.integers(1, 6), st.floats(0.2, 5.0))
def test_table_integrates_to_one(seed, bins, reach):
    model = a_table(seed, bins, reach).double()
    q = model.log_prob(centres(model.cells, 2).to(REAL)).exp()
    close(q.sum() * model.cells.width**2, torch.tensor(1.0, dtype=REAL))


def test_table_density_is_that_of_the_cell(double):
    model = a_table()
    share = model.softmax.probs[1 * 4 + 3] / 0.75**2
    close(model.log_prob(torch.tensor([[-0.7, 1.4]])).exp(), share[None].detach())  # row 1, column 3
    x, _ = model.number(torch.tensor([[-0.7, 1.4], [1.4, -0.7]]))
    assert x.tolist() == [7, 13]


def test_table_has_no_density_outside():
    outside = torch.tensor([[1.6, 0.0], [0.0, -1.6], [9.0, 9.0]])
    assert a_table().log_prob(outside).tolist() == [-math.inf] * 3


def test_table_draws_from_its_density(double):
    model = a_table()
    torch.manual_seed(1)
    x = model.sample((4000,))
    cell, inside = model.cells.index(x)
    assert x.shape == (4000, 2)
    assert inside.all()
    counts = torch.bincount(cell[:, 0] * 4 + cell[:, 1], minlength=16)
    frequencies_fit(counts, model.log_prob(centres(model.cells, 2)).exp().detach() * 0.75**2)


def test_table_recipe_chooses_the_addition_on_a_tenth_and_counts_all_points(double):
    x = draws((300, 2))
    model = points.table(x)
    cell, _ = Cells(1.25 * x.abs().max().item(), 100).index(x)
    number = cell[:, 0] * 100 + cell[:, 1]

    def logs(number, alpha):
        return smoothed(torch.bincount(number, minlength=10**4), alpha).log()

    alphas = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    best = max(alphas, key=lambda alpha: logs(number[30:], alpha)[number[:30]].sum().item())
    assert model.cells.reach == pytest.approx(1.25 * x.abs().max().item())
    close(model.softmax.logits.data, logs(number, best))


@pytest.mark.parametrize("dims", [1, 3, 8])
def test_table_recipe_needs_a_plane(dims):
    with pytest.raises(ValueError, match=f"^target must be in the plane for a table, got {dims} dimensions$"):
        RECIPES["table"](draws((50, dims)))


# coordinates written with two digits


def a_digit_writer(seed=0, base=2, dims=2, reach=1.5):
    torch.manual_seed(seed)
    return DigitByDigit(Cells(reach, base**2), dims, sequence.Recurrent(base, 4, embedding=2))


class Scripted(nn.Module):
    """Writes what it is told, and returns the length it was asked for."""

    def __init__(self, base, symbols):
        super().__init__()
        self.vocabulary, self.symbols = base, symbols

    def sample(self, shape, length, generator=None):
        assert self.symbols.shape == (*shape, length)
        return self.symbols

    def log_prob(self, x):
        return (x * torch.tensor([1000, 100, 10, 1])).sum(1).to(REAL)


@FEW
@given(SEEDS, st.sampled_from([(2, 1), (2, 2), (2, 3), (3, 2)]), st.floats(0.2, 5.0))
def test_two_digits_integrate_to_one_by_enumeration(seed, base_dims, reach):
    base, dims = base_dims
    model = a_digit_writer(seed, base, dims, reach).double()
    q = model.log_prob(centres(model.cells, dims).to(REAL)).exp()
    close(q.sum() * model.cells.width**dims, torch.tensor(1.0, dtype=REAL), 1e-9)


def test_two_digits_are_written_first_digits_first(double):
    cells = Cells(4.5, 9)  # each cell has side 1
    x = torch.tensor([[5 - 4.3, 7 - 4.3]])  # cells 5 = 12 and 7 = 21 in base 3
    log_q = DigitByDigit(cells, 2, Scripted(3, None)).log_prob(x)
    close(log_q, torch.tensor([1221.0]))


def test_two_digits_are_read_first_digits_first(double):
    model = DigitByDigit(Cells(4.5, 9), 2, Scripted(3, torch.tensor([[1, 2, 2, 1]])))
    cell, inside = model.cells.index(model.sample((1,)))
    assert inside.all()
    assert cell.tolist() == [[5, 7]]


def test_two_digits_have_no_density_outside():
    outside = torch.tensor([[1.6, 0.0], [0.0, -1.6]])
    assert a_digit_writer().log_prob(outside).tolist() == [-math.inf] * 2
    assert a_digit_writer().loss(outside).tolist() == [math.inf] * 2


def test_two_digits_draw_from_their_density(double):
    model = a_digit_writer(3)
    x = model.sample((4000,))
    cell, inside = model.cells.index(x)
    assert x.shape == (4000, 2)
    assert inside.all()
    counts = torch.bincount(cell[:, 0] * 4 + cell[:, 1], minlength=16)
    q = model.log_prob(centres(model.cells, 2)).exp().detach() * model.cells.width**2
    frequencies_fit(counts, q / q.sum())


def test_two_digits_loss_is_minus_the_log_density():
    model, x = a_digit_writer(), 0.4 * draws((7, 2))
    assert torch.equal(model.loss(x), -model.log_prob(x))


# networks


# recipes


@functools.cache
def trained(name, dims):
    torch.manual_seed(dims)
    x = draws((600, dims), dims) * 0.5 + draws((600, 1), 9).sign()
    return RECIPES[name](x, 0.003)


EACH = [(name, dims) for name in RECIPES for dims in (2, 3) if (name, dims) != ("table", 3)]


@pytest.mark.parametrize(("name", "dims"), EACH)
def test_recipe_gives_a_model_that_draws_points(name, dims):
    model = trained(name, dims)
    torch.manual_seed(0)
    x = model.sample((7,))
    assert x.shape == (7, dims)
    assert x.dtype == torch.float32
    assert torch.isfinite(x).all()
    assert len(x.unique(dim=0)) == 7
    assert not torch.equal(x, model.sample((7,)))
    torch.manual_seed(0)
    assert torch.equal(x, model.sample((7,)))


@pytest.mark.parametrize(("name", "dims"), EACH)
def test_recipe_says_of_densities_what_its_family_can(name, dims):
    model, x = trained(name, dims), 0.5 * draws((6, dims))
    exact = ("table", "recurrent", "affine flow", "spline flow", "kernels", "mixture")
    kind = protocol._density(model)
    assert kind == ("exact" if name in exact else "bound" if name == "VAE" else "none")
    if kind != "none":
        log_q = model.log_prob(x) if kind == "exact" else model.bound(x, 10)
        assert log_q.shape == (6,)
        assert log_q.dtype == torch.float32
        assert torch.isfinite(log_q).all()


@pytest.mark.parametrize(("name", "dims"), [(name, dims) for name, dims in EACH if name in STEPWISE])
def test_networks_have_about_ten_thousand_parameters(name, dims):
    model = trained(name, dims)
    assert 7_000 < protocol._size(model) < 13_000
    assert protocol._size(model) == sum(math.prod(p.shape) for p in model.parameters())


@pytest.mark.parametrize("dims", [2, 3])
def test_the_two_maps_have_equal_parameters(dims):
    shapes = [[p.shape for p in trained(name, dims).parameters()] for name in ("masked map", "free map")]
    assert shapes[0] == shapes[1]
    assert trained("masked map", dims).masked
    assert not trained("free map", dims).masked


@pytest.mark.parametrize("name", ["affine flow", "spline flow", "kernels", "mixture"])
def test_recipes_integrate_to_one_on_a_grid(name):
    model = trained(name, 2)
    nodes = data.lattice(((-8.0, 8.0), (-8.0, 8.0)), 250)
    with torch.no_grad():
        log_q = torch.cat([model.log_prob(part.float()) for part in nodes.split(20_000)])
    assert log_q.double().exp().sum().item() * 16**2 / len(nodes) == pytest.approx(1, abs=5e-3)


def test_recipes_of_the_table_are_those_of_the_modules():
    assert set(MODELS) == {"truth", *RECIPES, *images.RECIPES}
    assert MODELS[0] == "truth"
    assert len(set(MODELS)) == len(MODELS)
    for name, target in TARGETS.items():
        assert target.recipes is (images.RECIPES if name == "digits" else points.RECIPES)


@pytest.mark.parametrize(("share", "steps"), [(1.0, 1000), (0.25, 250), (1 / 16, 62), (1e-9, 1), (0.0016, 2)])
def test_recipe_takes_a_share_of_the_steps(share, steps):
    recipe = Recipe(lambda x, steps, **settings: (x, steps, settings), 1000, {"lr": 3})
    assert recipe("x", share) == ("x", steps, {"lr": 3})


def test_recipe_without_steps_gets_the_data_alone():
    recipe = Recipe(lambda *given, **settings: (given, settings), settings={"a": 1})
    assert recipe("x", 0.5) == (("x",), {"a": 1})


@pytest.mark.parametrize("share", [0, -1.0, math.nan, None])
def test_recipe_refuses_a_share(share):
    with pytest.raises(ValueError, match="^share must be"):
        Recipe(lambda x, steps: None, 10)(torch.ones(3, 2), share)


# maps trained without a density


def a_map(masked, dims, layer=None, seed=0):
    """A map in which one layer, or all, do something."""
    torch.manual_seed(seed)
    model = Bent(dims, masked).double()
    for i, net in enumerate(model.nets):
        if layer in (None, i):
            nn.init.normal_(net[-1].weight, std=0.3)
            nn.init.normal_(net[-1].bias, std=0.3)
    return model


def jacobian(model, z):
    return torch.autograd.functional.jacobian(lambda z: model(z[None])[0], z)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dims", [2, 3, 5])
def test_maps_start_as_the_identity(masked, dims):
    z = draws((6, dims))
    assert torch.equal(Bent(dims, masked)(z), z)


@pytest.mark.parametrize("dims", [2, 3, 5])
@pytest.mark.parametrize("layer", range(8))
def test_masked_layer_is_a_coupling(dims, layer, double):
    model, z = a_map(True, dims, layer), draws((4, dims))
    kept = (torch.arange(dims) % 2 == 0) == bool(model.mask[0].item() == layer % 2)
    x = model(z)
    close(x[:, kept], z[:, kept])
    assert (x[:, ~kept] != z[:, ~kept]).all()
    for point in z:
        J = jacobian(model, point)
        s = model.nets[layer](point * kept)[:dims]
        log_scale = (3 * torch.tanh(s / 3))[~kept]
        close(J[kept], torch.eye(dims)[kept])  # what is kept depends on itself alone
        close(J[~kept][:, ~kept], torch.diag(log_scale.exp()), 1e-10)
        close(torch.linalg.slogdet(J).logabsdet, log_scale.sum(), 1e-10)
        assert (J[~kept][:, kept] != 0).all()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("layer", [0, 1])
def test_free_layer_hides_nothing(dims, layer, double):
    J = jacobian(a_map(False, dims, layer), draws((4, dims))[0])
    assert (J != 0).all()
    assert (J - torch.eye(dims)).abs().min() > 1e-6


def test_masked_map_alternates_what_it_keeps():
    z = draws((4, 2), dtype=REAL)
    first, second = (a_map(True, 2, layer)(z) for layer in (0, 1))
    assert ((first == z).all(0) != (second == z).all(0)).all()


def test_masked_map_is_one_to_one_and_the_free_one_need_not_be(double):
    z = draws((200, 2))
    signs = {}
    for masked in (True, False):
        torch.manual_seed(0)
        model = Bent(2, masked)
        for net in model.nets:
            for layer in net[::2]:
                nn.init.normal_(layer.weight, std=0.8)
        signs[masked] = {torch.linalg.slogdet(jacobian(model, point)).sign.item() for point in z}
    assert signs == {True: {1.0}, False: {1.0, -1.0}}


def test_maps_scale_by_at_most_e_to_the_third(double):
    model = a_map(True, 2, 0)
    model.nets[0][-1].bias.data[:2] = 100.0
    assert jacobian(model, draws(2)).diagonal().max().item() == pytest.approx(math.exp(3))


@pytest.mark.parametrize("masked", [True, False])
def test_maps_learn_where_the_data_are(masked):
    torch.manual_seed(0)
    x = 0.3 * draws((1000, 2)) + torch.tensor([2.0, -1.0])
    model = points.bent(x, 300, lr=1e-2, batch=200, average=0.9, masked=masked)
    far = metrics.sliced_wasserstein(draws((1000, 2), 1), x, generator=seeded())
    made = model.sample((1000,))
    assert metrics.sliced_wasserstein(made, x, generator=seeded()) < 0.2 * far
    assert (made.std(0) / x.std(0) - 1).abs().max() < 0.3  # not all in one place


# a kernel density estimate


def kernel_log_prob(points, x, h):
    squared = torch.cdist(x, points).square()
    dims = x.shape[1]
    log_kernel = -0.5 * squared / h**2 - dims * math.log(h * math.sqrt(2 * math.pi))
    return log_kernel.logsumexp(1) - math.log(len(points))


@FEW
@given(SEEDS, st.integers(1, 5), st.floats(0.1, 2.0), st.integers(1, 40))
def test_kernels_agree_with_the_formula(seed, dims, h, n):
    seen, x = draws((n, dims), seed, REAL), draws((9, dims), seed + 1, REAL)
    log_q = Neighbours(seen, h).log_prob(x)
    assert log_q.dtype == REAL
    close(log_q, kernel_log_prob(seen, x, h), 1e-3)


def test_kernels_agree_with_scikit_learn_where_they_are_wide():
    seen, x = draws((300, 2), 0, REAL), draws((50, 2), 1, REAL)
    reference = KernelDensity(bandwidth=0.4).fit(seen.numpy()).score_samples(x.numpy())
    close(Neighbours(seen, 0.4).log_prob(x), torch.from_numpy(reference), 1e-10)


@pytest.mark.parametrize("spread", [0.02, 0.3, 3.0])
def test_kernels_take_the_bandwidth_that_is_best_on_the_first_tenth(spread):
    seen = spread * draws((100, 2), 4, REAL)
    hs = (0.01, 0.1, 0.5, 2.0)
    best = max(hs, key=lambda h: kernel_log_prob(seen[10:], seen[:10], h).sum().item())
    x = spread * draws((9, 2), 1, REAL)
    close(Neighbours.fit(seen, hs).log_prob(x), kernel_log_prob(seen, x, best), 1e-3)  # fitted to all


def test_kernels_of_another_tenth_would_choose_otherwise():
    """What lies in the first tenth decides: there the points are wide, elsewhere they coincide."""
    seen = torch.cat([3 * draws((10, 1), 0, REAL), 0.01 * draws((90, 1), 1, REAL)])
    assert Neighbours.fit(seen, (0.01, 3.0)).bandwidth == 3.0
    assert Neighbours.fit(seen.flip(0), (0.01, 3.0)).bandwidth == 0.01


def test_kernels_draw_from_their_density():
    torch.manual_seed(0)
    x = Neighbours(torch.tensor([[-3.0], [1.0]]), 0.5).sample((4000,))[:, 0]

    def cdf(x):
        return 0.5 * (stats.norm(-3, 0.5).cdf(x) + stats.norm(1, 0.5).cdf(x))

    assert stats.kstest(x.numpy(), cdf).pvalue > 1e-4


# a mixture of normal distributions


def clusters(n=300, seed=0, middles=((-4.0, 0.0), (4.0, 0.0), (0.0, 6.0))):
    which = torch.randint(len(middles), (n,), generator=seeded(seed))
    return torch.tensor(middles, dtype=REAL)[which] + 0.5 * draws((n, len(middles[0])), seed, REAL)


@pytest.mark.parametrize("covariance", ["full", "diag", "tied", "spherical"])
def test_mixture_log_prob_is_that_of_torch(covariance):
    torch.manual_seed(0)
    model, x = Mixture(clusters(), 3, covariance), draws((9, 2), 1, REAL)
    fitted = model.mixture
    shape = {"full": (3, 2, 2), "diag": (3, 2), "tied": (2, 2), "spherical": (3,)}[covariance]
    assert fitted.covariances_.shape == shape
    C = {
        "full": lambda c: c,
        "diag": torch.diag_embed,
        "tied": lambda c: c.expand(3, 2, 2),
        "spherical": lambda c: c[:, None, None] * torch.eye(2, dtype=REAL),
    }[covariance](torch.from_numpy(fitted.covariances_))
    expected = MixtureSameFamily(
        Categorical(torch.from_numpy(fitted.weights_)),
        MultivariateNormal(torch.from_numpy(fitted.means_), C),
    )
    close(model.log_prob(x), expected.log_prob(x), 1e-9)


@pytest.mark.parametrize(
    ("covariance", "count"), [("full", 17), ("diag", 14), ("tied", 11), ("spherical", 11)]
)
def test_mixture_counts_its_parameters(covariance, count):
    torch.manual_seed(0)  # three weights that sum to 1, three centres, and covariances
    assert Mixture(clusters(), 3, covariance).parameters_count == count


def test_mixture_of_one_is_the_normal_distribution_of_the_same_moments():
    x = clusters()
    C = torch.cov(x.T, correction=0) + 1e-5 * torch.eye(2, dtype=REAL)
    expected = MultivariateNormal(x.mean(0), C).log_prob(x)
    close(Mixture(x, 1, "full").log_prob(x), expected, 1e-9)


def test_mixture_agrees_with_scikit_learn_started_alike():
    torch.manual_seed(5)
    model = Mixture(clusters(), 3, "full")
    torch.manual_seed(5)
    seed = int(torch.randint(2**31, ()))
    reference = Reference(3, reg_covar=1e-5, max_iter=200, tol=1e-4, random_state=seed).fit(clusters())
    x = draws((9, 2), 1, REAL)
    close(model.log_prob(x), torch.from_numpy(reference.score_samples(x)), 1e-9)


def test_mixture_draws_in_no_order():
    torch.manual_seed(0)
    x = Mixture(clusters(), 3, "full").sample((900,))
    nearest = torch.cdist(x.double(), torch.tensor([[-4.0, 0], [4, 0], [0, 6]], dtype=REAL)).argmin(1)
    counts = nearest.bincount(minlength=3)
    changes = (nearest[1:] != nearest[:-1]).sum().item()
    assert (counts > 200).all()
    assert 500 < changes < 700  # two thirds of the time; three clusters in a row would change twice


def test_mixture_draws_from_its_density():
    torch.manual_seed(0)
    model = Mixture(clusters(), 3, "full")
    x = model.sample((4000,))
    m = model.mixture

    def cdf(x):
        sigmas = np.sqrt(m.covariances_[:, 0, 0])
        return sum(
            w * stats.norm(mu, s).cdf(x) for w, mu, s in zip(m.weights_, m.means_[:, 0], sigmas, strict=True)
        )

    assert stats.kstest(x[:, 0].numpy(), cdf).pvalue > 1e-4


def test_mixture_takes_what_is_best_on_the_first_tenth_and_fits_again_to_all():
    tried = []

    class Watched(Mixture):
        def __init__(self, x, components, covariance):
            self.choice, self.x = (components, covariance), x

        def log_prob(self, x):
            tried.append((self.choice, self.x, x))
            return torch.full((len(x),), {(2, "diag"): -1.0}.get(self.choice, -2.0))

    x = clusters(50)
    model = Watched.fit(x, (1, 2, 3), ("full", "diag"))
    assert model.choice == (2, "diag")
    assert model.x is x
    assert len(tried) == 6
    assert {choice for choice, _, _ in tried} == {(k, c) for k in (1, 2, 3) for c in ("full", "diag")}
    for _, seen, held_out in tried:
        assert torch.equal(held_out, x[:5])
        assert torch.equal(seen, x[5:])


def test_mixture_finds_the_clusters():
    torch.manual_seed(0)
    assert Mixture.fit(clusters(), (1, 3), ("spherical",)).mixture.n_components == 3


# targets


@pytest.mark.parametrize("dims", [8, 32])
def test_turned_ring_is_the_ring_in_a_plane(dims, double):
    turned, ring = turned_ring(dims), data.ring()
    assert turned.event_shape == (dims,)
    close(torch.cdist(turned.means, turned.means), torch.cdist(ring.means, ring.means), 1e-9)
    assert torch.linalg.matrix_rank(turned.means) == 2
    assert (turned.means.abs() > 1e-3).any(0).all()  # askew: it is seen in every coordinate
    close(turned.scale, ring.scale)


@pytest.mark.parametrize("dims", [8, 32])
def test_turned_ring_is_the_ring_times_noise(dims, double):
    turned, ring = turned_ring(dims), data.ring()
    basis = torch.linalg.lstsq(ring.means, turned.means).solution.T  # (D, 2)
    close(basis.T @ basis, torch.eye(2), 1e-9)
    x = turned.sample((50,), generator=seeded())
    flat = x @ basis
    rest = (x - flat @ basis.T).square().sum(1)
    normal = -0.5 * rest / 0.1**2 - (dims - 2) * math.log(0.1 * math.sqrt(2 * math.pi))
    close(turned.log_prob(x), ring.log_prob(flat) + normal, 1e-8)


def test_turned_ring_is_the_same_each_time():
    assert torch.equal(turned_ring(8).means, turned_ring(8).means)


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "digits"])
def test_targets_are_sources(name):
    source = TARGETS[name].source()
    assert isinstance(source, data.Source)
    assert source.event_shape == (int(name.split()[-1]) if name.startswith("ring in") else 2,)


def test_targets_cannot_be_changed():
    with pytest.raises(TypeError):
        TARGETS["ring"] = None


# data units


class Given:
    """A torch distribution as a model of standardised points."""

    def __init__(self, distribution):
        self.distribution = distribution

    def log_prob(self, x):
        return self.distribution.log_prob(x)

    def sample(self, shape):
        return self.distribution.sample(tuple(shape))


class OnlySamples:
    def __init__(self, distribution):
        self.sample = Given(distribution).sample


class Bounded(OnlySamples):
    """Says half a nat less than it could."""

    asked = None

    def __init__(self, distribution):
        super().__init__(distribution)
        self.distribution = distribution

    def bound(self, x, draws):
        type(self).asked = draws, len(x)
        return self.distribution.log_prob(x) - 0.5


def a_normal(mean, scale):
    return Independent(Normal(mean, scale), 1)


@STEADY
@given(SEEDS, st.integers(1, 5), st.floats(0.1, 10.0))
def test_density_in_data_units_is_that_of_torch(seed, dims, scale):
    mean, sigma = draws(dims, seed, REAL), draws(dims, seed + 1, REAL).exp()
    shift, x = 3 * draws(dims, seed + 2, REAL), draws((6, dims), seed + 3, REAL)
    base, scale = a_normal(mean, sigma), torch.tensor(scale, dtype=REAL)
    seen = InDataUnits(Given(base), shift, scale)
    reference = TransformedDistribution(base, AffineTransform(shift, scale.expand(dims), event_dim=1))
    close(seen.log_density("log_prob", x), reference.log_prob(x), 1e-8 * reference.log_prob(x).abs().max())
    torch.manual_seed(seed)
    ours = seen.sample((5,))
    torch.manual_seed(seed)
    close(ours, reference.sample((5,)))


def test_bounds_in_data_units_get_what_more_there_is():
    model = Bounded(a_normal(torch.zeros(2), torch.ones(2)))
    seen = InDataUnits(model, torch.zeros(2), torch.tensor(2.0))
    x = draws((4, 2))
    expected = a_normal(torch.zeros(2), torch.ones(2)).log_prob(x / 2) - 0.5 - 2 * math.log(2)
    close(seen.log_density("bound", x, 77), expected, 1e-5)
    assert Bounded.asked == (77, 4)


# one run


def fitted(kind=Given):
    return Recipe(lambda x: kind(a_normal(x.mean(0), x.std(0, correction=0))))


@pytest.mark.parametrize("name", ["truth", "table", "affine flow", "VAE", "GAN", "free map"])
def test_same_seed_same_row(name, small):
    torch.manual_seed(1)
    first = run(name, "pinwheel", 3, 0.002)
    torch.rand(17)
    second = run(name, "pinwheel", 3, 0.002)
    other = run(name, "pinwheel", 4, 0.002)
    assert replace(first.row, **CLOCKS) == replace(second.row, **CLOCKS)
    assert torch.equal(first.samples, second.samples)
    assert replace(first.row, **CLOCKS, seed=4) != replace(other.row, **CLOCKS)
    assert first.samples.shape == (200, 2)


def watched(monkeypatch, seed, noise):
    """What a model sees, is asked about and is compared with."""
    found = {}

    class Model(Given):
        def log_prob(self, x):
            found["asked"] = torch.cat([found.get("asked", x[:0]), x])
            return super().log_prob(x)

    def train(x):
        torch.rand(noise)
        found["seen"] = x
        return Model(a_normal(torch.zeros(2), torch.ones(2)))

    def compared(samples, true, judges):
        found["true"] = true
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(protocol, "_distances", compared)
        run("mine", "two moons", seed, recipe=Recipe(train))
    return found


def test_same_seed_same_data_for_every_model(small, monkeypatch):
    first, second = watched(monkeypatch, 0, 1), watched(monkeypatch, 0, 100)
    assert {name: len(x) for name, x in first.items()} == {"seen": 600, "asked": 1200, "true": 200}
    for name in first:
        assert torch.equal(first[name], second[name])


def test_other_seeds_other_data_and_no_part_is_another(small, monkeypatch):
    drawn, source = [], data.two_moons()
    sample = source.sample

    def watch(shape, *, generator):
        drawn.append(sample(shape, generator=generator))
        return drawn[-1]

    source.sample = watch
    goal = protocol.Target(lambda: source, RECIPES)
    monkeypatch.setattr(protocol, "TARGETS", {"two moons": goal})
    for seed in range(4):
        run("mine", "two moons", seed, recipe=fitted())
    x = torch.cat(drawn)
    assert len(x) == 4 * (600 + 1200 + 200)
    assert len(x.unique(dim=0)) == len(x)


def test_models_see_standardised_points(small, monkeypatch):
    for seed in range(3):
        x = watched(monkeypatch, seed, 1)["seen"]
        close(x.mean(0), torch.zeros(2), 1e-5)
        assert x.var(0, correction=0).mean().item() == pytest.approx(1, abs=1e-5)


def test_standardised_points_keep_their_shape(small, monkeypatch):
    x = watched(monkeypatch, 0, 1)["seen"]
    true = data.two_moons().sample((600,), generator=seeded(0))
    ratio = torch.pdist(true) / torch.pdist(x)
    assert ratio.std() < 1e-3 * ratio.mean()  # one scale for all coordinates


def test_divergence_of_a_normal_distribution_is_known(small, monkeypatch):
    monkeypatch.setattr(protocol, "SEEN", 20_000)
    monkeypatch.setattr(protocol, "ASKED", 10_000)
    row = run("mine", "ring", 0, recipe=fitted()).row
    variance = 2.0**2 / 2 + 0.1**2  # of each coordinate
    known = math.log(2 * math.pi * math.e * variance) - data.ring().entropy().item()
    assert row.density == "exact"
    assert 0 < row.kl_error < 0.02
    assert abs(row.kl - known) < 4 * row.kl_error
    assert row.told_apart > 0.6
    assert row.seconds >= 0
    assert row.milliseconds > 0


def test_standard_error_is_that_of_the_mean(small):
    errors = [run("mine", "ring", seed, recipe=fitted()).row for seed in range(6)]
    spread = torch.tensor([row.kl for row in errors]).std().item()
    assert 0.3 * spread < errors[0].kl_error < 4 * spread


def test_clock_counts_milliseconds_for_a_thousand_samples(small, monkeypatch):
    class Clock:
        now = 0.0

    class Slow(Given):
        def sample(self, shape):
            Clock.now += 0.5
            return super().sample(shape)

    def train(x):
        Clock.now += 7.0
        return Slow(a_normal(torch.zeros(2), torch.ones(2)))

    monkeypatch.setattr(protocol.time, "process_time", lambda: Clock.now)
    row = run("mine", "ring", 0, recipe=Recipe(train)).row
    assert row.seconds == 7.0
    assert row.milliseconds == pytest.approx(2500.0)  # 200 samples take half a second


@pytest.mark.parametrize("target", ["ring", "checkerboard", "ring in 8"])
def test_truth_is_at_the_noise_floor(target, monkeypatch):
    monkeypatch.setattr(protocol, "SAMPLED", 400)
    row = run("truth", target, 0).row
    source = TARGETS[target].source()
    floor = metrics.compare(
        metrics.mmd, source.sample((400,), generator=seeded(5)), source, 5, generator=seeded(6)
    )
    assert abs(row.told_apart - 0.5) < 0.06
    assert abs(row.mmd - floor.floor) < 6 * floor.spread
    assert row.density == "exact"
    assert row.kl is None
    assert row.parameters is None
    assert row.seconds is None


def test_bad_samples_are_far_from_the_floor(small):
    row = run("mine", "ring", 0, recipe=Recipe(lambda x: OnlySamples(a_normal(x[0], x.std(0))))).row
    truth = run("truth", "ring", 0).row
    assert row.told_apart > truth.told_apart + 0.1
    assert row.mmd > 2 * truth.mmd
    assert row.sliced > 2 * truth.sliced


def test_distances_are_those_of_the_metrics(small):
    found = run("truth", "ring", 1)
    true = data.ring().sample((200,), generator=seeded(3 * 1 + 2))
    judge = metrics.classifier_two_sample(found.samples, true, 0).accuracy
    assert found.row.mmd == metrics.mmd(found.samples, true)
    assert found.row.sliced == metrics.sliced_wasserstein(found.samples, true, 128, generator=seeded(0))
    assert found.row.told_apart == judge


def test_model_without_density(small):
    row = run("mine", "ring", 0, recipe=fitted(OnlySamples)).row
    assert row.density == "none"
    assert row.kl is None
    assert row.kl_error is None
    assert row.failed is None


def test_model_with_a_bound(small):
    bound, exact = (run("mine", "ring", 0, recipe=fitted(kind)).row for kind in (Bounded, Given))
    assert bound.density == "bound"
    assert Bounded.asked == (500, 200)
    assert abs(bound.kl - exact.kl - 0.5) < 4 * (bound.kl_error + exact.kl_error)  # half a nat is lost


@pytest.mark.parametrize("where", ["train", "sample"])
def test_run_that_breaks_down_is_told(where, small):
    def broken(*given):
        raise RuntimeError("the loss is nan at step 3 of 9")

    def train(x):
        model = OnlySamples(a_normal(x.mean(0), x.std(0)))
        model.sample = broken
        return model

    found = run("mine", "ring", 2, 0.5, recipe=Recipe(broken if where == "train" else train))
    assert found.samples is None
    assert found.row == Row("mine", "ring", 2, 0.5, failed="the loss is nan at step 3 of 9")


def spoilt(value):
    def sample(shape):
        x = torch.zeros(*shape, 2)
        x[3, 1] = value
        return x

    model = OnlySamples(a_normal(torch.zeros(2), torch.ones(2)))
    model.sample = sample
    return Recipe(lambda x: model)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_samples_that_are_not_finite_break_a_run_down(value, small):
    found = run("mine", "ring", 0, recipe=spoilt(value))
    assert found.samples is None
    assert "not finite" in found.row.failed
    assert found.row.mmd is None


@pytest.mark.parametrize("shape", [(199, 2), (200, 1, 2), (1, 200, 2), (1, 2)])
def test_samples_of_another_shape_are_refused(shape, small):
    class Odd:
        def sample(self, _):
            return torch.zeros(shape)

    with pytest.raises(ValueError, match=r"^model must draw samples of shape \(200, 2\)"):
        run("mine", "ring", 0, recipe=Recipe(lambda x: Odd()))


def test_parameters_are_counted(small):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))

        def sample(self, shape):
            return self.net(torch.randn(*shape, 2)).detach()

    assert run("mine", "ring", 0, recipe=Recipe(lambda x: Net())).row.parameters == 9 + 8
    assert run("table", "ring", 0).row.parameters == 10_000
    assert run("mine", "ring", 0, recipe=fitted()).row.parameters is None


@pytest.mark.parametrize("target", ["rings", "", None, 3])
def test_unknown_target_is_refused_with_the_choices(target):
    with pytest.raises(
        ValueError, match="^target must be one of checkerboard, digits, grid, pinwheel, ring, "
    ):
        run("truth", target, 0)


@pytest.mark.parametrize("model", ["vae", "", None, 3])
def test_unknown_model_is_refused_with_the_choices(model):
    with pytest.raises(
        ValueError, match="^model must be one of GAN, GAN with R1, VAE, affine flow, .*, truth"
    ):
        run(model, "ring", 0)


@pytest.mark.parametrize("model", ["masked map", "free map"])
def test_model_without_recipe_for_the_target_is_refused(model):
    with pytest.raises(ValueError, match="^model must be one of"):
        run(model, "digits", 0)


@pytest.mark.parametrize("target", ["ring in 8", "ring in 32"])
def test_table_has_no_recipe_outside_the_plane(target, small):
    with pytest.raises(ValueError, match="^target must be in the plane for a table"):
        run("table", target, 0)


@pytest.mark.parametrize("seed", [-1, 0.5, 1.0, True, None, "0"])
def test_seed_is_refused(seed):
    with pytest.raises(ValueError, match="^seed must be a whole number of at least 0, got"):
        run("truth", "ring", seed)


@pytest.mark.parametrize("share", [0, -0.5, 1.5, 1 + 1e-9, math.nan, math.inf, None, "1"])
def test_share_is_refused(share):
    with pytest.raises(ValueError, match="^share must"):
        run("table", "ring", 0, share)


# a run on digits


class Copier:
    """Draws images that it holds, and knows nothing but that there are 17 levels."""

    def __init__(self, images):
        self.images = images

    def sample(self, shape):
        return self.images[torch.randint(len(self.images), tuple(shape))]

    def log_prob(self, x):
        return torch.full((len(x),), -64 * math.log(17))


def test_digits_of_a_copier():
    found = run("mine", "digits", 0, recipe=Recipe(Copier))
    assert found.samples.shape == (1000, 8, 8)
    assert found.row.copies == 1.0
    assert found.row.density == "exact"
    assert found.row.nats == pytest.approx(64 * math.log(17), abs=1e-4)
    assert found.row.kl is None
    assert abs(found.row.told_apart - run("truth", "digits", 0).row.told_apart) < 0.1


def test_digits_of_one_who_has_seen_others():
    class Blind(Copier):
        bound = Copier.log_prob
        log_prob = property()

    found = run("mine", "digits", 0, recipe=Recipe(lambda x: Blind(data.digits().valid.images)))
    assert found.row.copies < 0.05
    assert found.row.density == "bound"
    assert found.row.nats == pytest.approx(64 * math.log(17), abs=1e-4)


def test_digits_of_noise_are_told_apart():
    class Noise:
        def sample(self, shape):
            return torch.randint(17, (*shape, 8, 8))

    row = run("mine", "digits", 0, recipe=Recipe(lambda x: Noise())).row
    assert row.told_apart > 0.95
    assert row.copies == 0
    assert row.density == "none"
    assert row.nats is None


def test_true_digits_are_training_images():
    found = run("truth", "digits", 0)
    assert found.row.density == "none"
    assert found.row.copies is None
    assert found.row.told_apart < 0.75
    true = data.digits().train.images
    assert torch.equal(found.samples.flatten(1).unique(dim=0), true.flatten(1).unique(dim=0))
    assert not torch.equal(found.samples, true)


def test_digits_of_another_shape_are_refused():
    with pytest.raises(
        ValueError, match=r"^model must draw samples of shape \(1000, 8, 8\), got \(1000, 8\)$"
    ):
        run("mine", "digits", 0, recipe=Recipe(lambda x: Copier(x[:, 0])))


# the file


def six(value):
    return float(f"{value:.6g}")


NUMBERS = st.none() | st.floats(allow_nan=False).map(six)
COUNTS = st.none() | st.integers(-(10**12), 10**12)
WORDS = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=30)
KEYS = st.tuples(
    st.sampled_from(MODELS),
    st.sampled_from(sorted(TARGETS)),
    st.integers(0, 10**6),
    st.floats(1e-6, 1).map(six),
)


@st.composite
def rows_of_runs(draw, least=0):
    keys = draw(st.lists(KEYS, min_size=least, max_size=5, unique=True))
    rows = []
    for key in keys:
        measured = {name: draw(NUMBERS) for name in COLUMNS[5:7] + COLUMNS[8:15]}
        words = {"density": draw(st.sampled_from([None, "exact", "bound", "none"])), "failed": draw(WORDS)}
        rows.append(Row(*key, parameters=draw(COUNTS), **measured, **words))
    return rows


ROWS = [
    Row("truth", "ring", 0, 1.0, density="exact", mmd=0.01, sliced=0.02, told_apart=0.5),
    Row("VAE", "ring", 0, 0.25, 9095, 6.02, 1.5, "bound", 0.3, 0.01, None, 0.02, 0.03, 0.55),
    Row("GAN", "digits", 4, 1.0, failed='the loss is "nan",\nat step 3'),
    Row("table", "grid", 1, 1.0, 10_000, 0.1, 0.2, "exact", math.inf, 0.1),
]


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "runs.csv"
    scorecard.save(ROWS, path)
    return path


@STEADY
@given(rows_of_runs())
def test_saved_rows_come_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "runs.csv"
    scorecard.save(rows, path)
    back = scorecard.load(path)
    assert back == rows
    for row in back:
        assert type(row.parameters) in (int, type(None))
        assert type(row.kl) in (float, type(None))
        assert type(row.seed) is int
        assert type(row.share) is float


@STEADY
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_saved_with_six_digits(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "six.csv"
    scorecard.save([replace(ROWS[0], kl=value)], path)
    assert scorecard.load(path)[0].kl == pytest.approx(value, rel=5e-6, abs=0)


def test_saved_file_has_a_line_for_each_run(stored):
    with stored.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    assert lines[0] == list(COLUMNS)
    assert [line[:4] for line in lines[1:]] == [
        [row.model, row.target, str(row.seed), f"{row.share:g}"] for row in ROWS
    ]


def test_saving_makes_the_folder_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a" / "b" / "runs.csv"
    scorecard.save(ROWS, path)
    scorecard.save(ROWS[:1], path)
    assert scorecard.load(path) == ROWS[:1]
    assert [file.name for file in path.parent.iterdir()] == ["runs.csv"]


def test_rows_may_be_a_generator(tmp_path):
    scorecard.save((row for row in ROWS), tmp_path / "runs.csv")
    assert scorecard.load(str(tmp_path / "runs.csv")) == ROWS


@pytest.mark.parametrize(
    "what", [(os, "fsync"), (Path, "replace"), (tables, "_written"), (tables, "_replace")]
)
def test_what_goes_wrong_in_writing_leaves_the_old_file(what, stored, monkeypatch):
    before = stored.read_bytes()

    def broken(*given):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(*what, broken)
        with pytest.raises(OSError, match="no space left"):
            scorecard.save(ROWS[:1], stored)
    assert stored.read_bytes() == before
    assert scorecard.load(stored) == ROWS


def test_what_goes_wrong_in_writing_samples_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "runs.csv"
    scorecard.save_samples({("VAE", "ring"): torch.ones(3, 2)}, path)

    def broken(*given):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="no space left"):
            scorecard.save_samples({}, path)
    assert set(scorecard.load_samples(path)) == {("VAE", "ring")}


def test_file_is_written_aside_and_put_in_place_when_whole(stored, monkeypatch):
    before, seen = stored.read_bytes(), []
    fsync = os.fsync

    def watched(number):
        seen.append(stored.read_bytes())
        fsync(number)

    monkeypatch.setattr(os, "fsync", watched)
    scorecard.save(ROWS[:1], stored)
    assert seen == [before]
    assert stored.read_bytes() != before


def cells(text, line, name, value):
    """The text with another value in one cell."""
    rows = list(csv.reader(text.splitlines(keepends=True)))
    rows[line - 1][COLUMNS.index(name)] = value
    return written(rows)


def written(rows):
    file = tables.io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def without(text, name):
    k = COLUMNS.index(name)
    return written([row[:k] + row[k + 1 :] for row in csv.reader(text.splitlines(keepends=True))])


DAMAGES = [
    (lambda t: t[:-1], "half written"),
    (lambda t: t[:-20], "half written"),
    (lambda t: "", "half written"),
    (lambda t: "\n", "columns are not those"),
    (lambda t: t[: t.index("\n") // 2] + "\n", "columns are not those"),
    (lambda t: t[:-12] + "\n", "line 5: damaged or half written, [0-9]+ cells where 19"),
    (lambda t: t.replace("\ntable,", "\n\ntable,"), "line 4: damaged or half written, 0 cells"),
    (lambda t: t[:-1] + ",7\n", "line 5: damaged or half written, 20 cells"),
    (lambda t: cells(t, 3, "kl", "0,3"), "line 3: damaged, kl is '0,3'"),
    (lambda t: cells(t, 3, "seed", "1.0"), "line 3: damaged, seed is '1.0'"),
    (lambda t: cells(t, 3, "kl", "nan"), "line 3: damaged, kl is not a number"),
    (lambda t: cells(t, 2, "share", "NaN"), "line 2: damaged, share is not a number"),
    (lambda t: without(t, "mmd"), r"columns are not those of protocol 1 \(mmd\)"),
    (lambda t: t.replace("mmd", "fid", 1), r"columns are not those of protocol 1 \(fid, mmd\)"),
    (lambda t: t.replace("mmd,sliced", "sliced,mmd"), "columns are not those of protocol 1$"),
    (
        lambda t: written([[*row, "9"] for row in csv.reader(t.splitlines(keepends=True))]),
        r"columns are not those of protocol 1 \(9\)",
    ),
    (lambda t: cells(t, 3, "protocol", "2"), "line 3: made by protocol 2, this is protocol 1"),
    (lambda t: cells(t, 3, "model", "vae"), "line 3: unknown model or target, 'vae' on 'ring'"),
    (lambda t: cells(t, 3, "target", "rings"), "line 3: unknown model or target, 'VAE' on 'rings'"),
    (lambda t: t + t.split("\n")[2] + "\n", "line 6: this run stands in the table twice"),
    *(
        (lambda t, name=name: cells(t, 3, name, ""), f"line 3: damaged, {name} is empty")
        for name in ("model", "target", "seed", "share", "torch", "python", "protocol")
    ),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damaged_file_is_refused_and_left_alone(damage, message, stored):
    rows = [row for row in ROWS if row.model != "GAN"]  # its message has two lines
    scorecard.save([*rows, replace(ROWS[3], seed=9)], stored)
    text = stored.read_text(encoding="utf-8")
    broken = damage(text)
    assert broken != text
    stored.write_text(broken, encoding="utf-8")
    before = stored.read_bytes()
    with pytest.raises(ValueError, match=message) as caught:
        scorecard.load(stored)
    assert str(stored) in str(caught.value)
    assert stored.read_bytes() == before


@STEADY
@given(rows_of_runs(least=1), st.floats(0, 1, exclude_max=True))
def test_file_cut_short_is_refused_or_holds_whole_runs(tmp_path_factory, rows, share):
    path = tmp_path_factory.mktemp("table") / "runs.csv"
    scorecard.save(rows, path)
    cut = path.read_bytes()[: int(share * path.stat().st_size)]
    path.write_bytes(cut)
    try:
        left = scorecard.load(path)
    except ValueError:
        assert path.read_bytes() == cut
    else:
        assert left == rows[: len(left)]
        assert len(left) < len(rows)


def test_no_text_is_refused(stored):
    stored.write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValueError, match="."):
        scorecard.load(stored)


def test_missing_file_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="^path must name a table of runs, got .*nothing.csv"):
        scorecard.load(tmp_path / "nothing.csv")
    with pytest.raises(FileNotFoundError):
        scorecard.load(tmp_path)


def test_loading_changes_nothing(stored):
    before, time = stored.read_bytes(), stored.stat().st_mtime_ns
    assert scorecard.load(stored) == ROWS
    assert stored.read_bytes() == before
    assert stored.stat().st_mtime_ns == time


def test_select_keeps_what_matches():
    assert scorecard.select(ROWS) == ROWS
    assert scorecard.select(ROWS, target="ring") == ROWS[:2]
    assert scorecard.select(ROWS, target="ring", share=1) == ROWS[:1]
    assert scorecard.select(ROWS, density=None) == ROWS[2:3]
    assert scorecard.select(iter(ROWS), seed=4, failed=ROWS[2].failed) == ROWS[2:3]


def test_select_refuses_unknown_columns_and_nothing():
    with pytest.raises(ValueError, match="^where must name columns, model, target, .*, got 'modell'$"):
        scorecard.select(ROWS, modell="VAE")
    with pytest.raises(
        ValueError, match="^where must leave a row, got none with {'model': 'VAE', 'seed': 3}$"
    ):
        scorecard.select(ROWS, model="VAE", seed=3)


def test_column_is_infinite_where_there_is_none():
    kl = scorecard.column(ROWS, "kl")
    assert kl.dtype == REAL
    assert kl.tolist() == [math.inf, 0.3, math.inf, math.inf]
    assert scorecard.column(iter(ROWS), "seed").tolist() == [0, 0, 4, 1]


@pytest.mark.parametrize("name", ["model", "failed", "torch", "density", "KL", "", None])
def test_column_of_no_numbers_is_refused(name):
    with pytest.raises(ValueError, match=f"^name must be that of a column of numbers, got {name!r}$"):
        scorecard.column(ROWS, name)


def test_a_new_family_may_have_later_versions_and_each_row_tells_its_own():
    now = (torch.__version__, ".".join(map(str, sys.version_info[:3])))
    rows = [
        replace(ROWS[0], model="VAE", torch="1.0.0"),
        replace(ROWS[1], model="GAN"),
        replace(ROWS[2], model="GAN"),
    ]
    assert scorecard.versions(rows) == {"VAE": ("1.0.0", now[1]), "GAN": now}
    assert scorecard.versions([]) == {}


@pytest.mark.parametrize("other", [{"torch": "1.0.0"}, {"python": "3.1.4"}])
def test_rows_of_one_family_have_one_version(other):
    message = f"^rows of {ROWS[0].model} were made with .* and with .*{next(iter(other.values()))}"
    with pytest.raises(ValueError, match=message):
        scorecard.versions([*ROWS, replace(ROWS[0], **other)])


def test_key_tells_runs_apart():
    assert scorecard.key(ROWS[1]) == ("VAE", "ring", 0, 0.25)
    assert scorecard.key(ROWS[1]) == scorecard.key(replace(ROWS[1], kl=9.0))
    for other in ({"model": "GAN"}, {"target": "grid"}, {"seed": 1}, {"share": 1.0}):
        assert scorecard.key(ROWS[1]) != scorecard.key(replace(ROWS[1], **other))


def test_rows_know_versions_and_protocol():
    assert ROWS[0].torch == torch.__version__
    assert ROWS[0].python == ".".join(map(str, sys.version_info[:3]))
    assert ROWS[0].protocol == PROTOCOL == 1
    assert tuple(asdict(ROWS[0])) == COLUMNS


def test_samples_come_back(tmp_path):
    path = tmp_path / "runs.csv"
    given = {
        ("VAE", "two moons"): draws((20, 2)),
        ("GAN with R1", "ring in 8"): 4 * draws((5, 8)),
        ("table", "digits"): torch.randint(17, (6, 8, 8)),
    }
    scorecard.save_samples(given, path)
    back = scorecard.load_samples(path)
    assert list(path.parent.iterdir()) == [path.with_suffix(".npz")]
    assert back.keys() == given.keys()
    for name, x in given.items():
        assert back[name].dtype == torch.float32
        torch.testing.assert_close(back[name], x.float(), rtol=0 if x.ndim == 3 else 5e-4, atol=1e-6)


# the runner

PLAN = list(runner.plan(range(5)))


def test_plan_names_each_run_once():
    assert len(set(PLAN)) == len(PLAN)


def test_plan_names_what_there_is():
    for model, target, _, share in PLAN:
        assert target in TARGETS
        assert model in MODELS
        assert model == "truth" or model in TARGETS[target].recipes
        assert 0 < share <= 1


def test_plan_gives_every_model_and_target_five_seeds():
    assert list(runner.SEEDS) == [0, 1, 2, 3, 4]
    seeds = {}
    for model, target, seed, share in PLAN:
        seeds.setdefault((model, target, share), set()).add(seed)
    assert set(map(frozenset, seeds.values())) == {frozenset(range(5))}
    for target, goal in TARGETS.items():
        high = target.startswith("ring in")
        left_out = {"table", "masked map", "free map"} if high else set()
        assert {m for m, t, _, _ in PLAN if t == target} == {"truth", *goal.recipes} - left_out


def test_plan_gives_the_shares_that_it_says():
    shares = {}
    for model, target, _, share in PLAN:
        shares.setdefault((model, target), set()).add(share)
    for (model, target), found in shares.items():
        if model in ("truth", "table", "kernels", "mixture"):
            assert found == {1.0}
        elif target.startswith("ring in") or model in ("masked map", "free map"):
            assert found == {0.25}
        elif target == "digits":
            assert found == {0.25, 1.0}
        else:
            assert found == {0.0625, 0.25, 1.0}


def test_plan_is_told_again_by_a_file(tmp_path):
    rows = [Row(*job) for job in PLAN]
    scorecard.save(rows, tmp_path / "runs.csv")
    assert [scorecard.key(row) for row in scorecard.load(tmp_path / "runs.csv")] == PLAN


JOBS = [
    ("truth", "ring", 0, 1.0),
    ("VAE", "ring", 0, 0.25),
    ("VAE", "ring", 0, 1.0),
    ("VAE", "ring", 1, 1.0),
    ("GAN", "digits", 0, 1.0),
    ("score", "grid", 0, 1.0),
]


class Pool:
    """Does the work at once, in this process."""

    made = ()

    def __init__(self, workers, mp_context=None):
        Pool.made = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def submit(self, work, job):
        Pool.made.append(job)
        future = Future()
        try:
            future.set_result(work(job))
        except KeyboardInterrupt as stop:
            future.set_exception(stop)
        return future

    def shutdown(self, cancel_futures):
        assert cancel_futures


def pretend(job):
    """A run that takes no time. One breaks down."""
    if job[0] == "score":
        return Result(Row(*job, failed="the loss is nan"), None)
    shape = (1000, 8, 8) if job[1] == "digits" else (2000, 2)
    return Result(Row(*job, mmd=0.5, told_apart=0.5), torch.full(shape, job[2] + 1))


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(runner, "as_completed", list)
    monkeypatch.setattr(runner, "plan", lambda seeds: [job for job in JOBS if job[2] in seeds])
    monkeypatch.setattr(runner, "one", pretend)
    return tmp_path / "out" / "runs.csv"


def stop_at(job):
    def one(asked):
        if asked == job:
            raise KeyboardInterrupt
        return pretend(asked)

    return one


def test_runner_makes_all_runs(pretended, capsys):
    runner.run([0, 1], pretended, 2)
    rows = scorecard.load(pretended)
    assert [scorecard.key(row) for row in rows] == sorted(JOBS)
    assert capsys.readouterr().out.startswith("6 runs in 0.0 minutes; 6 in ")
    kept = scorecard.load_samples(pretended)
    assert {name: tuple(x.shape) for name, x in kept.items()} == {
        ("truth", "ring"): (400, 2),
        ("VAE", "ring"): (400, 2),
        ("GAN", "digits"): (32, 8, 8),
    }
    assert kept["VAE", "ring"].unique().tolist() == [1.0]  # that of seed 0


def test_runner_takes_the_long_runs_first(pretended):
    runner.run([0, 1], pretended, 2)
    assert [job[3] for job in Pool.made] == [1.0] * 5 + [0.25]


def test_runner_saves_after_every_run(pretended, monkeypatch):
    counts, save = [], scorecard.save

    def watched(rows, path):
        save(rows, path)
        counts.append(len(scorecard.load(path)))

    monkeypatch.setattr(scorecard, "save", watched)
    runner.run([0, 1], pretended, 2)
    assert counts == [1, 2, 3, 4, 5, 6]


def test_runner_goes_on_where_it_stopped(pretended, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(runner, "one", stop_at(("GAN", "digits", 0, 1.0)))
        with pytest.raises(SystemExit, match="^stopped; 3 runs are saved in .*, the same command goes on$"):
            runner.run([0, 1], pretended, 2)
    first = scorecard.load(pretended)
    assert len(first) == 3
    runner.run([0, 1], pretended, 2)
    assert sorted(Pool.made) == sorted(set(JOBS) - set(map(scorecard.key, first)))
    assert sorted(map(scorecard.key, scorecard.load(pretended))) == sorted(JOBS)
    assert set(scorecard.load_samples(pretended)) == {("truth", "ring"), ("VAE", "ring"), ("GAN", "digits")}
    runner.run([0, 1], pretended, 2)
    assert Pool.made == []


def test_runner_goes_on_where_no_samples_are_kept(pretended):
    runner.run([1], pretended, 2)
    runner.run([0, 1], pretended, 2)
    assert sorted(map(scorecard.key, scorecard.load(pretended))) == sorted(JOBS)


@pytest.mark.parametrize("other", [{"torch": "1.0.0"}, {"python": "3.1.4"}])
def test_runner_refuses_to_mix_versions_within_a_family(other, pretended):
    runner.run([0], pretended, 2)
    scorecard.save([replace(row, **other) for row in scorecard.load(pretended)], pretended)
    before = [pretended.read_bytes(), pretended.with_suffix(".npz").read_bytes()]
    Pool.made = []
    with pytest.raises(ValueError, match="they would not compare"):
        runner.run([0, 1], pretended, 2)
    assert [pretended.read_bytes(), pretended.with_suffix(".npz").read_bytes()] == before
    assert Pool.made == []


def test_runner_adds_a_new_family_to_rows_of_earlier_versions(pretended):
    runner.run([0, 1], pretended, 2)
    earlier = [replace(row, torch="1.0.0") for row in scorecard.load(pretended) if row.model != "GAN"]
    scorecard.save(earlier, pretended)
    runner.run([0, 1], pretended, 2)
    rows = scorecard.load(pretended)
    assert sorted(map(scorecard.key, rows)) == sorted(JOBS)
    assert [row for row in rows if row.model != "GAN"] == sorted(earlier, key=scorecard.key)
    assert {row.torch for row in rows if row.model == "GAN"} == {torch.__version__}


def test_runner_refuses_a_damaged_file(pretended, monkeypatch, capsys):
    runner.run([0], pretended, 2)
    pretended.write_bytes(pretended.read_bytes()[:-5])
    before = pretended.read_bytes()
    monkeypatch.setattr(sys, "argv", ["scorecard.py", "run", "--out", str(pretended)])
    with pytest.raises(SystemExit) as caught:
        runner.main()
    assert caught.value.code == 2
    assert "half written" in capsys.readouterr().err
    assert pretended.read_bytes() == before


def test_runner_makes_a_run_on_one_core(small):
    threads = torch.get_num_threads()
    try:
        found = runner.one(("table", "ring", 1, 1.0))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    assert scorecard.key(found.row) == ("table", "ring", 1, 1.0)
    assert found.samples.shape == (200, 2)


TUNED = [name for name in STEPWISE if name not in runner.CONTROLS]


@pytest.mark.parametrize("model", TUNED)
def test_tuning_gives_every_family_as_many_settings_of_the_same_ranges(model):
    settings = runner.trials(model)
    assert len(settings) == runner.TRIALS
    assert settings == runner.trials(model)
    assert len({tuple(tried.values()) for tried in settings}) == len(settings)
    for tried in settings:
        assert tried.keys() == RECIPES[model].settings.keys()
        assert all(tried[name] in values for name, values in runner.SPACE.items())
        assert tried.get("weight", 10.0) in runner.WEIGHTS
    assert model == "GAN with R1" or settings == runner.trials("score")


@pytest.mark.parametrize("model", TUNED)
def test_settings_lie_in_the_ranges_of_the_tuning(model):
    settings = RECIPES[model].settings
    assert all(settings[name] in values for name, values in runner.SPACE.items())
    assert settings.get("weight", 10.0) in runner.WEIGHTS


@pytest.mark.parametrize("model", runner.CONTROLS)
def test_controls_have_the_settings_of_the_affine_flow(model):
    settings = {"masked": model == "masked map"} | RECIPES["affine flow"].settings
    assert RECIPES[model].settings == settings


# files and settings


def test_run_of_a_model_that_calls_data_impossible_can_be_stored(small, tmp_path):
    class Narrow(Given):
        def log_prob(self, x):
            return torch.where(x[:, 0] > 1, -math.inf, super().log_prob(x))

    row = replace(run("mine", "ring", 0, recipe=fitted(Narrow)).row, model="VAE")
    assert row.kl == math.inf
    scorecard.save([row], tmp_path / "runs.csv")
    assert scorecard.load(tmp_path / "runs.csv")[0].kl == math.inf


def test_breakdown_without_a_message_stays_one(tmp_path, small):
    def broken(x):
        raise RuntimeError

    row = replace(run("mine", "ring", 0, recipe=Recipe(broken)).row, model="VAE")
    scorecard.save([row], tmp_path / "runs.csv")
    assert scorecard.load(tmp_path / "runs.csv")[0].failed


def test_samples_keep_no_gradient(small):
    class Net(nn.Linear):
        def sample(self, shape):
            return self(torch.randn(*shape, 2))

    assert not run("mine", "ring", 0, recipe=Recipe(lambda x: Net(2, 2))).samples.requires_grad


def test_samples_of_too_few_coordinates_are_refused(small):
    class Flat:
        def sample(self, shape):
            return torch.zeros(*shape, 1)

    with pytest.raises(ValueError, match="^model must draw samples of shape"):
        run("mine", "ring", 0, recipe=Recipe(lambda x: Flat()))


def test_kernels_agree_with_the_formula_on_digits():
    x = data.digits().train.images.flatten(1).double()
    seen, held_out = x[100:], x[:100]
    close(Neighbours(seen, 1.357).log_prob(held_out), kernel_log_prob(seen, held_out, 1.357), 1e-3)


# images


@pytest.mark.parametrize("name", list(images.RECIPES))
def test_image_recipe_gives_a_model_of_images(name):
    recipe, x = images.RECIPES[name], data.digits().train.images[:200]
    torch.manual_seed(0)
    if name in ("mixture", "kernels"):
        pytest.skip("slow")
    model = recipe.train(x, 2, **recipe.settings) if recipe.steps else recipe.train(x)
    drawn = model.sample((5,))
    assert drawn.shape == (5, 8, 8)
    assert drawn.dtype == torch.int64
    assert drawn.min() >= 0
    assert drawn.max() <= 16
    kind = protocol._density(model)
    if kind != "none":
        with torch.no_grad():
            log_q = (model.log_prob if kind == "exact" else model.bound)(x[:3])
        assert log_q.shape == (3,)
        assert torch.isfinite(log_q).all()


# means of columns, and the ranks of a heat map


def test_mean_is_that_of_the_selected_rows():
    rows = [replace(ROWS[0], seed=seed, kl=float(seed)) for seed in range(5)]
    assert scorecard.mean(rows, "kl") == 2.0
    assert scorecard.mean(rows, "kl", seed=3) == 3.0


@pytest.mark.parametrize("where", [{"seed": 77}, {"failed": "the loss is not finite"}])
def test_mean_is_nan_where_a_number_is_missing(where):
    rows = [*ROWS, replace(ROWS[0], seed=5, kl=None, failed="the loss is not finite")]
    assert math.isnan(scorecard.mean(rows, "kl", **where))


def test_mean_names_what_it_does_not_know():
    with pytest.raises(ValueError, match="^where must name columns"):
        scorecard.mean(ROWS, "kl", colour="blue")
    with pytest.raises(ValueError, match="^name must be that of a column of numbers"):
        scorecard.mean(ROWS, "model")


@pytest.mark.parametrize(("name", "value"), [("density", "some"), ("share", 2.0), ("seed", -1)])
def test_loading_refuses_what_cannot_be(name, value, tmp_path):
    scorecard.save([replace(ROWS[0], **{name: value})], tmp_path / "runs.csv")
    with pytest.raises(ValueError, match="line 2: damaged"):
        scorecard.load(tmp_path / "runs.csv")


def test_saving_refuses_nan(stored):
    before = stored.read_bytes()
    with pytest.raises(ValueError, match="^rows must not hold NaN"):
        scorecard.save([replace(ROWS[0], kl=math.nan)], stored)
    assert stored.read_bytes() == before


def test_recipe_under_the_name_of_a_family_is_refused():
    with pytest.raises(ValueError, match="^model must be a new name"):
        run("VAE", "ring", 0, recipe=Recipe(lambda x: None))


def test_stored_rows_are_complete():
    """What the lesson reads: every run of the plan, made by the protocol of today."""
    rows = scorecard.load()
    assert {scorecard.key(row) for row in rows} == set(runner.plan(range(5)))
    assert not [row for row in rows if row.failed]


def test_loading_refuses_a_cell_that_is_too_long(stored):
    text = stored.read_text(encoding="utf-8")
    stored.write_text(text.replace("truth", "t" * 200_000, 1), encoding="utf-8")
    with pytest.raises(ValueError, match="is damaged"):
        scorecard.load(stored)
