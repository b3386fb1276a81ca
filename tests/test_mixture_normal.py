"""Mixtures of normal distributions: densities against torch, steps against scikit-learn and against what they raise."""

import math
import re

import numpy as np
import pytest
import torch
from exactness import REAL, close, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture as Reference
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from genlib import data
from genlib.mixture import climb
from genlib.mixture.moments import Moments, blend
from genlib.mixture.normal import NormalMixture
from genlib.mixture.starts import lloyd, spread_out
from genlib.scorecard import recipe

SOME = settings(max_examples=12, deadline=None)
SEEDS = st.integers(0, 10**6)
KINDS = ("full", "tied", "diagonal", "round")
THEIRS = {"full": "full", "tied": "tied", "diagonal": "diag", "round": "spherical"}


def refused(message, job, *args, **kw):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        job(*args, **kw)


def mixture(kind="full", components=3, dims=2, seed=0, reach=2.0):
    g = seeded(seed)
    root = torch.randn(components, dims, dims, generator=g, dtype=REAL)
    full = root @ root.mT + 0.3 * torch.eye(dims, dtype=REAL)
    covariances = {
        "full": full,
        "tied": full[0],
        "diagonal": full.diagonal(dim1=1, dim2=2),
        "round": full[:, 0, 0],
    }[kind]
    weights = 0.2 + torch.rand(components, generator=g, dtype=REAL)
    means = reach * torch.randn(components, dims, generator=g, dtype=REAL)
    return NormalMixture(means, covariances, weights / weights.sum(), kind)


def rows(n=40, dims=2, seed=0):
    return mixture("full", 3, dims, seed + 1).sample((n,), generator=seeded(seed))


def holes(x, seed=0, share=0.3):
    seen = torch.rand(x.shape, generator=seeded(seed), dtype=REAL) > share
    seen[0] = True
    return seen


def alike(one, other, atol=1e-10):
    for name in ("means", "covariances", "weights"):
        close(getattr(one, name), getattr(other, name), atol)


# Densities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_densities_agree_with_torch(kind):
    model, x = mixture(kind, dims=3), rows(dims=3)
    parts = MultivariateNormal(model.means, model.covariance_matrices)
    truth = MixtureSameFamily(Categorical(model.weights), parts)
    close(model.log_prob(x), truth.log_prob(x))
    close(model.log_parts(x), parts.log_prob(x[:, None]))
    close(model.loss(x), -truth.log_prob(x))
    close(model.responsibilities(x).sum(1), torch.ones(len(x), dtype=REAL))
    close(model.responsibilities(x), (model.log_joint(x) - model.log_prob(x)[:, None]).exp())


def test_round_ones_are_the_source_of_the_book():
    source = data.grid(3, dtype=REAL)
    model = NormalMixture(source.means, source.scale**2, source.weights, "round")
    x = source.sample((50,), generator=seeded())
    close(model.log_prob(x), source.log_prob(x))


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(KINDS), SEEDS)
def test_densities_of_entries_seen_are_marginals(kind, seed):
    model, x = mixture(kind, dims=3, seed=seed), rows(8, dims=3, seed=seed)
    seen = holes(x, seed, 0.5)
    for row, mask in zip(x, seen, strict=True):
        if mask.any():
            covariance = model.covariance_matrices[:, mask][:, :, mask]
            parts = MultivariateNormal(model.means[:, mask], covariance).log_prob(row[mask])
            expected = (parts + model.weights.log()).logsumexp(0)
        else:
            expected = torch.zeros((), dtype=REAL)
        close(model.log_prob(row[None], mask[None])[0], expected, 1e-11)
    close(
        model.log_prob(x, seen), torch.cat([model.log_prob(x[n : n + 1], seen[n : n + 1]) for n in range(8)])
    )


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_exact_law(kind):
    """Distances of draws whitened by their component are chi-square, and components come by their weights."""
    model = mixture(kind, reach=100.0)
    x = model.sample((4_000,), generator=seeded(2))
    k = model.responsibilities(x).argmax(1)
    assert stats.chisquare(torch.bincount(k), 4_000 * model.weights).pvalue > 0.01
    gap = x - model.means[k]
    squared = (gap[:, None] @ torch.linalg.inv(model.covariance_matrices)[k] @ gap[..., None]).flatten()
    assert stats.kstest(squared, stats.chi2(2).cdf).pvalue > 0.01
    turned = torch.linalg.solve(torch.linalg.cholesky(model.covariance_matrices)[k], gap[..., None])[..., 0]
    assert abs(stats.pearsonr(turned[:, 0], turned[:, 1]).statistic) < 0.05


# One step ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_one_step_agrees_with_scikit_learn(kind):
    model, x = mixture(kind, dims=3), rows(200, dims=3)
    precisions = (1 / model.covariances) if kind in ("diagonal", "round") else model.covariances.inverse()
    reference = Reference(
        3,
        covariance_type=THEIRS[kind],
        reg_covar=0,
        max_iter=1,
        weights_init=model.weights.numpy(),
        means_init=model.means.numpy(),
        precisions_init=precisions.numpy(),
    ).fit(x.numpy())
    new = model.improved(x)
    close(new.weights, torch.tensor(reference.weights_), 1e-8)
    close(new.means, torch.tensor(reference.means_), 1e-8)
    close(new.covariances, torch.tensor(reference.covariances_), 1e-8)
    assert new.parameters_count == reference._n_parameters()


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(KINDS), st.sampled_from([0.0, 0.1, 3.0]), st.booleans(), SEEDS)
def test_a_step_never_lowers_what_it_raises(kind, pull, missing, seed):
    model, x = mixture(kind, seed=seed), rows(60, seed=seed)
    counts = 0.5 + torch.rand(60, generator=seeded(seed), dtype=REAL)
    about = {"counts": counts, "seen": holes(x, seed) if missing else None}
    before = model.penalised(x, pull, **about)
    for _ in range(3):
        model = model.improved(x, pull, **about)
        after = model.penalised(x, pull, **about)
        assert after >= before - 1e-10 * before.abs()
        before = after


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_where_steps_end_the_slope_is_zero(kind, missing):
    x, pull = rows(50), 10.0
    seen = holes(x) if missing else None
    model, _ = climb(mixture(kind), x, 200, tol=1e-9, pull=pull, seen=seen)
    means, covariances = model.means.requires_grad_(), model.covariances.requires_grad_()
    scores = model.weights.log().requires_grad_()
    symmetric = (covariances + covariances.mT) / 2 if kind in ("full", "tied") else covariances
    NormalMixture(means, symmetric, scores.softmax(0), kind).penalised(x, pull, seen=seen).backward()
    for part in (means, covariances, scores):
        assert part.grad.abs().max() < 0.01


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_fishers_identity(kind, missing):
    """The slope of the log-likelihood is that of log p(x, k), averaged by responsibilities that are held fixed."""
    model, x = mixture(kind), rows()
    seen = holes(x) if missing else None

    def slope(height):
        parts = [model.means.clone(), model.covariances.clone(), model.weights.log()]
        parts = [part.requires_grad_() for part in parts]
        means, covariances, scores = parts
        moved = NormalMixture(means, covariances, scores.softmax(0), kind)
        return torch.autograd.grad(height(moved), parts)

    r = model.responsibilities(x, seen)
    exact = slope(lambda moved: moved.log_prob(x, seen).sum())
    for one, other in zip(exact, slope(lambda moved: (r * moved.log_joint(x, seen)).sum()), strict=True):
        close(one, other, 1e-10)
        assert one.abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_pull_is_further_rows_of_all_data(kind):
    """One component pulled by a is one component fitted to the data and to a / n copies of them more."""
    x, pull = rows(30), 7.5
    model = mixture(kind, 1)
    alike(model.improved(x, pull), model.improved(x))
    far = NormalMixture(
        torch.cat([model.means, torch.full((1, 2), 1e3, dtype=REAL)]),
        model.covariances
        if kind == "tied"
        else model.covariances.repeat(2, *[1] * (model.covariances.ndim - 1)),
        [1.0, 0.0],
        kind,
    )
    new = far.improved(x, pull)  # the second one has no row, so that it becomes the whole
    close(new.means[1], x.mean(0))
    whole = torch.cov(x.T, correction=0)
    expected = {"diagonal": whole.diag().diag(), "round": whole.trace() / 2 * torch.eye(2, dtype=REAL)}
    close(new.covariance_matrices[1], expected.get(kind, whole))
    close(new.weights, torch.tensor([1.0, 0.0], dtype=REAL))


def test_the_pulled_step_by_hand():
    x, a, model = rows(), 0.7, mixture()
    new, r = model.improved(x, a), model.responsibilities(x)
    m, S0 = x.mean(0), torch.cov(x.T, correction=0)
    for k in range(3):
        mu = (r[:, k] @ x + a * m) / (r[:, k].sum() + a)
        S = sum(r[n, k] * torch.outer(x[n] - mu, x[n] - mu) for n in range(len(x)))
        close(new.means[k], mu)
        close(new.covariances[k], (S + a * (S0 + torch.outer(m - mu, m - mu))) / (r[:, k].sum() + a))
        close(new.weights[k], r[:, k].sum() / len(x))


def test_the_prior_is_the_mean_over_the_data():
    x = rows()
    for kind in KINDS:
        gaps = [
            model.penalised(x, 3.0) - model.log_prob(x).sum() - 3.0 * model.log_parts(x).mean(0).sum()
            for model in (mixture(kind, seed=1), mixture(kind, seed=2))
        ]
        close(gaps[0], gaps[1], 1e-10)


def test_kinds_are_nested():
    """Covariances of a simpler kind are those of a richer one with entries off the diagonal dropped, or averaged."""
    x, simple = rows(), mixture("round")
    full, diagonal = (
        NormalMixture(simple.means, covariances, simple.weights, kind)
        for kind, covariances in (
            ("full", simple.covariance_matrices),
            ("diagonal", simple.covariances[:, None].expand(3, 2)),
        )
    )
    close(full.log_prob(x), simple.log_prob(x))
    close(diagonal.log_prob(x), simple.log_prob(x))
    new = full.improved(x).covariances.diagonal(dim1=1, dim2=2)
    close(diagonal.improved(x).covariances, new)
    close(simple.improved(x).covariances, new.mean(1))
    tied = NormalMixture(simple.means, torch.eye(2, dtype=REAL), simple.weights, "tied")
    same = NormalMixture(simple.means, torch.eye(2, dtype=REAL).expand(3, 2, 2), simple.weights)
    parts = same.improved(x)
    close(tied.improved(x).covariances, torch.einsum("k,kde->de", parts.weights, parts.covariances))


def test_counts_are_repetitions():
    x, counts = rows(12), torch.arange(12) % 3
    again, model = x.repeat_interleave(counts, 0), mixture()
    alike(model.improved(x, 0.5, counts=counts), model.improved(again, 0.5))
    close(model.penalised(x, 0.5, counts=counts), model.penalised(again, 0.5))


def test_narrow_round_components_step_as_k_means():
    x = rows(60)
    centres = x[spread_out(x, 3, generator=seeded())]
    model = NormalMixture(centres, torch.full((3,), 1e-7, dtype=REAL), kind="round")
    close(model.improved(x).means, lloyd(x, centres, 1)[0])


# Missing entries ---------------------------------------------------------------------------------------------


def test_one_component_with_missing_entries_by_hand():
    model, x = mixture(components=1, dims=3), rows(15, dims=3)
    seen = holes(x)
    mu, S = model.means[0], model.covariances[0]
    guesses, lost = x.clone(), torch.zeros(3, 3, dtype=REAL)
    for n, s in enumerate(seen):
        gain = S[~s][:, s] @ torch.linalg.inv(S[s][:, s])
        guesses[n, ~s] = mu[~s] + gain @ (x[n, s] - mu[s])
        left = torch.zeros(3, 3, dtype=REAL)
        left[torch.outer(~s, ~s)] = (S[~s][:, ~s] - gain @ S[s][:, ~s]).flatten()
        lost += left
    unseen = torch.where(seen, x, torch.nan)
    close(model.filled(unseen, seen), guesses, 1e-10)
    new = model.improved(unseen, seen=seen)
    close(new.means[0], guesses.mean(0), 1e-10)
    close(new.covariances[0], torch.cov(guesses.T, correction=0) + lost / 15, 1e-10)
    diagonal = mixture("diagonal", 1, 3)
    guesses = torch.where(seen, x, diagonal.means)
    extra = (~seen).to(REAL).mean(0) * diagonal.covariances[0]
    close(diagonal.improved(unseen, seen=seen).covariances[0], guesses.var(0, correction=0) + extra)


@pytest.mark.parametrize("kind", KINDS)
def test_all_seen_is_no_mask(kind):
    model, x = mixture(kind), rows()
    seen = torch.ones_like(x, dtype=torch.bool)
    alike(model.improved(x, 0.3, seen=seen), model.improved(x, 0.3), 0)
    close(model.log_prob(x, seen), model.log_prob(x), 0)
    close(model.filled(x, seen), x, 0)
    seen[3, 1] = False  # the rows before it still say the same
    close(model.log_prob(x, seen)[:3], model.log_prob(x)[:3])


def test_what_is_filled_is_the_mean_over_components():
    model, x = mixture(), rows(5)
    seen = torch.tensor([[True, False]]).expand(5, 2)
    S, r = model.covariances, model.responsibilities(x, seen)
    lines = model.means[:, 1] + S[:, 1, 0] / S[:, 0, 0] * (x[:, :1] - model.means[:, 0])  # (n, K)
    close(model.filled(x, seen)[:, 1], (r * lines).sum(1))
    close(model.filled(x, ~seen & False), (model.weights @ model.means).expand(5, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_further_rows_have_the_mean_and_variance_of_what_is_seen(kind):
    x, counts = rows(), 1 + torch.arange(40, dtype=REAL) % 3
    seen = holes(x)
    size, mean, scatter = mixture(kind).further(
        torch.where(seen, x, torch.nan), 2.5, counts=counts, seen=seen
    )
    variances = scatter if scatter.ndim == 1 else scatter.diagonal()
    for d in range(2):
        column, weight = x[seen[:, d], d], counts[seen[:, d]]
        assert mean[d].item() == pytest.approx(np.average(column, weights=weight))
        spread = np.average((column - mean[d]) ** 2, weights=weight)
        assert variances[d].item() == pytest.approx(2.5 * spread)
    close(size, torch.tensor(2.5, dtype=REAL))


def test_a_mixture_is_recovered_although_entries_are_missing():
    truth = mixture("full", 2, reach=4.0, seed=3)
    x = truth.sample((2_000,), generator=seeded())
    model = NormalMixture.fit(x, 2, starts=1, tol=1e-4, seen=holes(x), generator=seeded(1))
    order = (truth.means[:, None] - model.means).norm(dim=2).argmin(1)
    close(model.means[order], truth.means, 0.25)
    fresh = truth.sample((4_000,), generator=seeded(5))
    assert (truth.log_prob(fresh) - model.log_prob(fresh)).mean() < 0.02  # nats


# Moments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_two_halves_blend_to_the_whole(kind):
    model, x = mixture(kind), rows(60)
    whole, first, second = (model.moments(part) for part in (x, x[:20], x[20:]))
    mixed = blend(first, second, 0.5)
    for one, other in zip(mixed, (whole.size / 2, whole.mean, whole.scatter / 2), strict=True):
        close(one, other, 1e-11)
    alike(model.maximised(mixed), model.improved(x))
    for share, end in ((0.0, first), (1.0, second)):
        for one, other in zip(blend(first, second, share), end, strict=True):
            close(one, other, 1e-11)


def test_many_rows_are_taken_in_blocks():
    model, x = mixture(components=3), rows(20_000)
    r = model.responsibilities(x)
    size, mean, scatter = model.moments(x)
    close(size, r.sum(0), 1e-8)
    close(mean, r.T @ x / size[:, None], 1e-10)
    gap = x[:, None] - mean
    close(scatter, torch.einsum("nk,nkd,nke->kde", r, gap, gap), 1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_far_from_zero(kind):
    near, x = mixture(kind), rows(500)
    far = NormalMixture(near.means.float() + 1e4, near.covariances.float(), near.weights.float(), kind)
    shifted = (x + 1e4).float()
    exact = near.improved(shifted.to(REAL) - 1e4, 0.5)
    new = far.improved(shifted, 0.5)
    assert new.means.dtype == torch.float32
    close(new.means.to(REAL) - 1e4, exact.means, 2e-3)
    close(new.covariances.to(REAL), exact.covariances, 5e-3)


# Starts ------------------------------------------------------------------------------------------------------


def test_rows_far_apart_have_the_exact_law():
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=REAL)
    counts = torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=REAL)
    expected, g = torch.zeros(4, 4, 4, dtype=REAL), seeded(1)
    for i in range(4):
        first = counts[i] / counts.sum()
        d1 = counts * (x - x[i]).square()[:, 0]
        for j in set(range(4)) - {i}:
            d2 = counts * torch.minimum((x - x[i]).square(), (x - x[j]).square())[:, 0]
            expected[i, j] = first * d1[j] / d1.sum() * d2 / d2.sum()
    drawn = torch.stack([spread_out(x, 3, counts=counts, generator=g) for _ in range(4_000)])
    found = torch.bincount(drawn @ torch.tensor([16, 4, 1]), minlength=64)
    possible = expected.flatten() > 0
    assert found[~possible].sum() == 0
    assert stats.chisquare(found[possible], 4_000 * expected.flatten()[possible]).pvalue > 0.01


def test_equal_rows_are_chosen_once_each():
    assert spread_out(torch.zeros(5, 2), 5, generator=seeded()).sort().values.tolist() == list(range(5))
    refused("components must be at most the 5 rows", spread_out, torch.zeros(5, 2), 6)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), SEEDS)
def test_k_means_agrees_with_scikit_learn(components, seed):
    x = rows(80, seed=seed)
    start = x[spread_out(x, components, generator=seeded(seed))]
    centres, labels = lloyd(x, start)
    reference = KMeans(components, init=start.numpy(), n_init=1, tol=0, algorithm="lloyd").fit(x.numpy())
    close(centres, torch.tensor(reference.cluster_centers_), 1e-10)
    assert np.array_equal(labels, reference.labels_)
    again, _ = lloyd(x, centres)
    close(again, centres)


def test_a_centre_without_rows_stays():
    x = torch.tensor([[0.0], [1.0]])
    centres, labels = lloyd(x, torch.tensor([[0.2], [9.0]]))
    assert centres.tolist() == [[0.5], [9.0]]
    assert labels.tolist() == [0, 0]
    refused("centres must have shape (K, 1), got (2, 3)", lloyd, x, torch.zeros(2, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_climb_starts_from(kind):
    x = rows(50)
    model = NormalMixture.started(x, 4, kind, generator=seeded())
    close(model.means, x[spread_out(x, 4, generator=seeded())], 0)
    near = torch.cdist(x, model.means).square().amin(1).sum()
    whole = torch.cov(x.T, correction=0) * near / (x - x.mean(0)).square().sum()
    expected = {"diagonal": whole.diag().diag(), "round": whole.trace() / 2 * torch.eye(2, dtype=REAL)}
    close(model.covariance_matrices, expected.get(kind, whole).expand(4, 2, 2))
    lot = NormalMixture.started(x, 4, kind, spread=False, generator=seeded())
    close(lot.means, x[torch.multinomial(torch.ones(50, dtype=REAL), 4, generator=seeded())], 0)
    assert NormalMixture.started(x, 50, kind, generator=seeded()).means.shape == (50, 2)


def test_the_grid_is_found():
    source = data.grid(3, dtype=REAL)
    x = source.sample((2_000,), generator=seeded())
    for seed in range(2):
        model = NormalMixture.fit(x, 9, "round", starts=3, generator=seeded(seed))
        assert torch.cdist(source.means, model.means).amin(1).max() < 0.03
        assert model.log_prob(x).mean() > source.log_prob(x).mean()


# What goes wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "diagonal", "round"])
def test_a_component_on_one_row_is_named(kind):
    x = torch.cat([rows(30), torch.tensor([[50.0, 50.0]], dtype=REAL)])
    start = mixture(kind, 2)
    narrow = NormalMixture(torch.stack([start.means[0], x[-1]]), start.covariances, kind=kind)
    with pytest.raises(RuntimeError, match=r"component 1 has shrunk onto too few rows.*pull keeps it wide"):
        climb(narrow, x, 50)
    model, heights = climb(narrow, x, 20, pull=0.1)
    assert math.isfinite(heights[-1])
    assert model.weights[1] > 0.03
    with pytest.raises(RuntimeError, match="all 2 starts degenerate: take fewer components, or pull above 0"):
        NormalMixture.fit(x[:6], 6, kind, starts=2, generator=seeded())
    assert NormalMixture.fit(x[:6], 6, kind, pull=0.5, starts=1, steps=5, generator=seeded()).means.shape == (
        6,
        2,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_covariance_that_is_only_rounding_is_named(kind):
    """Of variance 1 in one direction and 1e-16 in the other, or in both where there is one for all directions."""
    narrow = torch.tensor([1e-16 if kind == "round" else 1.0, 1e-16], dtype=REAL)
    scatter = torch.stack([torch.ones(2, dtype=REAL), narrow] if kind != "tied" else [narrow, narrow])
    scatter = scatter.diag_embed() if kind in ("full", "tied") else scatter
    means = torch.tensor([[0.0, 3.0], [1.0, -3.0]], dtype=REAL)
    which = "the components have" if kind == "tied" else "component 1 has"
    with pytest.raises(RuntimeError, match=f"^{which} shrunk onto too few rows"):
        mixture(kind, 2).maximised(Moments(torch.ones(2, dtype=REAL), means, scatter))


def test_an_empty_component_is_named():
    model = NormalMixture(torch.tensor([[0.0, 0.0], [1e4, 0.0]], dtype=REAL), torch.ones(2), kind="round")
    with pytest.raises(RuntimeError, match="component 1 has no rows left"):
        model.improved(rows())
    new = model.improved(rows(), 0.1)
    close(new.weights, torch.tensor([1.0, 0.0], dtype=REAL))
    assert math.isfinite(new.penalised(rows(), 0.1))


def test_the_best_start_is_kept():
    x = rows(60)
    g = seeded(4)
    ends = [climb(NormalMixture.started(x, 3, generator=g), x, 8, pull=1.0)[1][-1] for _ in range(4)]
    model = NormalMixture.fit(x, 3, pull=1.0, starts=4, steps=8, generator=seeded(4))
    close(model.penalised(x, 1.0), torch.tensor(max(ends), dtype=REAL), 1e-9)


def test_torch_can_differentiate_twice():
    model, x = mixture(), rows(4)
    score = torch.func.vmap(torch.func.grad(lambda row: model.log_prob(row[None])[0]))(x)
    x.requires_grad_()
    close(score, torch.autograd.grad(model.log_prob(x).sum(), x)[0])
    curved = torch.func.jacrev(
        torch.func.jacrev(
            lambda means: NormalMixture(means, model.covariances, model.weights).log_prob(x.detach()).sum()
        )
    )
    assert curved(model.means).shape == (3, 2, 3, 2)


def test_no_global_state_and_dtypes():
    x, before = rows(), torch.get_rng_state()
    first, second = (NormalMixture.fit(x, 2, starts=1, steps=3, generator=seeded(5)) for _ in range(2))
    alike(first, second, 0)
    assert first.sample((3,), generator=seeded()).dtype == REAL
    assert torch.equal(torch.get_rng_state(), before)
    assert first.event_shape == (2,)
    assert first.log_prob(torch.zeros(2, 2, dtype=torch.int64)).dtype == REAL
    assert NormalMixture.fit(x.float(), 2, starts=1, generator=seeded()).means.dtype == torch.float32


def test_what_is_refused():
    model, x, eye = mixture(), rows(), torch.eye(2, dtype=REAL)
    means = torch.zeros(2, 2, dtype=REAL)
    refused("kind must be one of", NormalMixture, means, eye, kind="oval")
    refused("covariances must have shape (2, 2, 2), got (2, 2)", NormalMixture, means, eye)
    bad = torch.stack([eye, torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=REAL)])
    refused("covariances must be positive definite, that of component 1", NormalMixture, means, bad)
    refused("covariances must be positive definite", NormalMixture, means, bad[1], kind="tied")
    refused(
        "covariances must be positive definite, that of component 1",
        NormalMixture,
        means,
        torch.tensor([1.0, 0.0]),
        kind="round",
    )
    skew = torch.stack([eye, torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=REAL)])
    refused("covariances must be symmetric", NormalMixture, means, skew)
    refused("covariances must hold finite", NormalMixture, means, torch.nan * bad)
    refused("weights must sum to 1", NormalMixture, means, torch.ones(2), [0.5, 0.6], "round")
    refused("weights must have shape (2,)", NormalMixture, means, torch.ones(2), [1.0], "round")
    refused("means must", NormalMixture, torch.zeros(2), eye)
    holed = torch.where(holes(x), x, torch.nan)
    for job in (
        model.log_prob,
        model.moments,
        model.improved,
        model.penalised,
        lambda x: NormalMixture.fit(x, 2),
    ):
        refused("x must", job, torch.zeros(3))
        refused("x must", job, holed)
        refused("x must", job, x / 0)
    refused("x must not hold NaN: give `seen`", model.improved, holed)
    refused("seen must be bool", model.improved, x, seen=torch.ones(2, 2))
    refused("seen must be bool", model.log_prob, x, x > torch.zeros(3, 1, 1))
    nothing = torch.ones_like(x, dtype=torch.bool)
    nothing[:, 1] = False
    refused(
        "seen must show an entry of each column, got none of column 1", model.improved, x, 1.0, seen=nothing
    )
    refused("pull must be", model.improved, x, -1.0)
    refused("counts must hold 40", model.improved, x, counts=torch.ones(3))
    refused("components must be at most the 40 rows", NormalMixture.fit, x, 41)
    refused("starts must be", NormalMixture.fit, x, 2, starts=0)
    refused("kind must be", NormalMixture.fit, x, 2, "oval")
    refused("x must vary in every direction", NormalMixture.fit, x[:, :1].expand(-1, 2), 2)
    part = Moments(torch.ones(1), torch.zeros(1, 2), torch.zeros(1, 2))
    refused("share must lie between 0 and 1", blend, part, part, 1.5)


def test_a_component_that_loses_all_rows_stays_finite_where_something_pulls():
    """Its size falls through the subnormal numbers, whose inverse is infinite."""
    x, variances = torch.linspace(-1, 1, 21, dtype=REAL)[:, None], torch.ones(2, dtype=REAL)
    for offset in torch.linspace(36.0, 40.0, 41, dtype=REAL):
        means = torch.stack([torch.zeros_like(offset), offset])[:, None]
        new = NormalMixture(means, variances, kind="round").improved(x, 0.1)
        assert torch.isfinite(new.means).all()
        assert torch.isfinite(new.covariances).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_baseline_of_the_scorecard_has_the_same_densities(kind):
    x = rows().float()
    theirs = recipe.Mixture(x, 3, THEIRS[kind])
    means, covariances = theirs.mixture.means_, theirs.mixture.covariances_
    ours = NormalMixture(*map(torch.from_numpy, (means, covariances, theirs.mixture.weights_)), kind)
    close(theirs.log_prob(x.double()), ours.log_prob(x.double()), 1e-10)
    assert theirs.parameters_count == ours.parameters_count


def test_kernels_are_a_round_component_on_each_row():
    x, bandwidth = rows(), 0.3
    kernels = NormalMixture(x, torch.full((len(x),), bandwidth**2, dtype=REAL), kind="round")
    close(recipe.Neighbours(x, bandwidth).log_prob(2 * x), kernels.log_prob(2 * x), 1e-10)
