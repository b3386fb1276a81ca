"""Entropies, divergences, smoothing, inverse CDF and the models that are tables of probabilities."""

import itertools
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.naive_bayes import CategoricalNB

from genlib.discrete import NaiveBayes, Softmax, cross_entropy, entropy, inverse_cdf, kl_divergence, smoothed

STEADY = settings(max_examples=60)
REAL = torch.float64


def normalised(weights):
    """Turn weights, none negative and not all zero, into float64 probabilities."""
    w = torch.tensor(weights, dtype=REAL)
    return w / w.sum(-1, keepdim=True)


@st.composite
def distributions(draw, count=2, least=0):
    """Some distributions over the same 2 to 6 symbols; zeros occur unless `least` is 1."""
    size = draw(st.integers(2, 6))
    rows = st.lists(st.integers(least, 9), min_size=size, max_size=size).filter(any)
    return [normalised(draw(rows)) for _ in range(count)]


# entropy, cross-entropy, divergence


@STEADY
@given(distributions())
def test_agree_with_scipy_zeros_and_infinities_included(pair):
    p, q = pair
    torch.testing.assert_close(entropy(p).item(), scipy.special.entr(p.numpy()).sum(), rtol=0, atol=1e-12)
    expected = scipy.special.rel_entr(p.numpy(), q.numpy()).sum()
    torch.testing.assert_close(kl_divergence(p, q).item(), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        cross_entropy(p, q).item(), expected + scipy.stats.entropy(p.numpy()), rtol=0, atol=1e-12
    )


@STEADY
@given(distributions())
def test_cross_entropy_is_entropy_plus_divergence(pair):
    p, q = pair
    torch.testing.assert_close(cross_entropy(p, q), entropy(p) + kl_divergence(p, q), rtol=0, atol=1e-12)


@STEADY
@given(distributions())
def test_gibbs(pair):
    p, q = pair
    assert kl_divergence(p, q) >= -1e-14
    assert kl_divergence(p, p) == 0
    if (p - q).abs().max() > 1e-3:
        assert kl_divergence(p, q) > 1e-7
    # Pinsker: the divergence is at least half the squared L1 distance
    assert kl_divergence(p, q) >= 0.5 * (p - q).abs().sum() ** 2 - 1e-12


@STEADY
@given(distributions(1))
def test_entropy_lies_between_certainty_and_uniform(one):
    (p,) = one
    assert -1e-14 <= entropy(p) <= math.log(len(p)) + 1e-14
    uniform = torch.full_like(p, 1 / len(p))
    torch.testing.assert_close(entropy(uniform).item(), math.log(len(p)), rtol=0, atol=1e-14)
    torch.testing.assert_close(kl_divergence(p, uniform), math.log(len(p)) - entropy(p), rtol=0, atol=1e-12)


@STEADY
@given(distributions(), st.randoms(use_true_random=False))
def test_names_of_symbols_do_not_matter(pair, random):
    p, q = pair
    order = list(range(len(p)))
    random.shuffle(order)
    for measure in (kl_divergence, cross_entropy):
        torch.testing.assert_close(measure(p[order], q[order]), measure(p, q), rtol=0, atol=1e-12)
    torch.testing.assert_close(entropy(p[order]), entropy(p), rtol=0, atol=1e-12)


@STEADY
@given(distributions())
def test_merging_symbols_never_raises_the_divergence(pair):
    def merge(p):
        return torch.cat([p[:2].sum(0, keepdim=True), p[2:]])

    p, q = pair
    assert kl_divergence(merge(p), merge(q)) <= kl_divergence(p, q) + 1e-12
    assert entropy(merge(p)) <= entropy(p) + 1e-12


@STEADY
@given(distributions(4), st.floats(0, 1))
def test_divergence_is_convex_in_the_pair(four, share):
    p, q, r, s = four
    mixed = kl_divergence(share * p + (1 - share) * r, share * q + (1 - share) * s)
    bound = scipy.special.xlogy(0, 0)
    for weight, value in ((share, kl_divergence(p, q)), (1 - share, kl_divergence(r, s))):
        bound += weight * value if weight else 0
    assert mixed <= bound + 1e-12


def test_chain_rule_for_independent_pairs():
    p, q, r, s = (normalised(w) for w in ([1, 2, 3], [3, 1, 1], [4, 1], [1, 1]))
    joint = kl_divergence(torch.outer(p, r).flatten(), torch.outer(q, s).flatten())
    torch.testing.assert_close(joint, kl_divergence(p, q) + kl_divergence(r, s), rtol=0, atol=1e-14)


def test_known_values():
    half, biased = normalised([1, 1]), normalised([1, 3])
    assert entropy(half).item() == pytest.approx(math.log(2), abs=1e-15)
    assert kl_divergence(half, biased).item() == pytest.approx(math.log(2) - 0.5 * math.log(3), abs=1e-15)
    assert kl_divergence(biased, half).item() == pytest.approx(0.75 * math.log(3) - math.log(2), abs=1e-15)
    assert cross_entropy(half, biased).item() == pytest.approx(0.5 * math.log(16 / 3), abs=1e-15)


def test_zeros_and_infinities():
    certain, half = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    assert entropy(certain) == 0
    assert kl_divergence(certain, half).item() == pytest.approx(math.log(2))
    assert kl_divergence(half, certain) == math.inf
    assert cross_entropy(half, certain) == math.inf
    assert cross_entropy(certain, certain) == 0
    assert kl_divergence(certain, certain) == 0
    assert kl_divergence(certain, torch.tensor([0.0, 1.0])) == math.inf


def test_batches_and_broadcasting():
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(4, 1, 5, generator=generator, dtype=REAL).softmax(-1)
    q = torch.rand(3, 5, generator=generator, dtype=REAL).softmax(-1)
    assert entropy(p).shape == (4, 1)
    for measure in (cross_entropy, kl_divergence):
        table = measure(p, q)
        assert table.shape == (4, 3)
        for i, j in itertools.product(range(4), range(3)):
            torch.testing.assert_close(table[i, j], measure(p[i, 0], q[j]), rtol=0, atol=1e-15)
    assert entropy(torch.empty(0, 3)).shape == (0,)
    assert kl_divergence(torch.empty(0, 3), torch.tensor([0.5, 0.25, 0.25])).shape == (0,)


def test_gradient_of_the_cross_entropy_in_the_logits():
    logits = torch.randn(6, dtype=REAL, generator=torch.Generator().manual_seed(1)).requires_grad_()
    p = normalised([1, 2, 0, 4, 0, 1])
    cross_entropy(p, logits.softmax(-1)).backward()
    torch.testing.assert_close(logits.grad, logits.detach().softmax(-1) - p, rtol=0, atol=1e-14)


@pytest.mark.parametrize("measure", [cross_entropy, kl_divergence])
def test_pairs_that_do_not_fit_are_refused(measure):
    with pytest.raises(ValueError, match=r"p and q must be over the same symbols, got K = 2 and 3"):
        measure(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.25, 0.25]))
    with pytest.raises(ValueError, match=r"p and q must be over the same symbols, got K = 1 and 2"):
        measure(torch.tensor([1.0]), torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match=r"p and q must broadcast, got shapes \(2, 2\) and \(3, 2\)"):
        measure(torch.full((2, 2), 0.5), torch.full((3, 2), 0.5))
    good = torch.tensor([0.5, 0.5])
    for bad in ([0.5, 0.6], [1.5, -0.5], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="^p must"):
            measure(torch.tensor(bad), good)
        with pytest.raises(ValueError, match="^q must"):
            measure(good, torch.tensor(bad))


@pytest.mark.parametrize("bad", [[0.5, 0.6], [1.5, -0.5], [math.nan, 1.0], []])
def test_entropy_refuses(bad):
    with pytest.raises(ValueError, match="^p must"):
        entropy(torch.tensor(bad))


# smoothing


@STEADY
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.floats(0.01, 10))
def test_smoothing_by_hand(counts, alpha):
    q = smoothed(torch.tensor(counts, dtype=REAL), alpha)
    n, k = sum(counts), len(counts)
    expected = [(count + alpha) / (n + alpha * k) for count in counts]
    np.testing.assert_allclose(q.numpy(), expected, rtol=1e-13)
    assert q.sum().item() == pytest.approx(1, abs=1e-13)


def test_smoothing_keeps_frequencies_and_tends_to_uniform():
    counts = torch.tensor([[3, 1, 0], [0, 2, 2]])
    torch.testing.assert_close(smoothed(counts, 0), torch.tensor([[0.75, 0.25, 0], [0, 0.5, 0.5]]))
    torch.testing.assert_close(smoothed(counts, 1e9), torch.full((2, 3), 1 / 3))
    torch.testing.assert_close(smoothed(torch.zeros(4), 0.5), torch.full((4,), 0.25))


def test_smoothing_refuses():
    for counts in (torch.tensor([1.0, -1.0]), torch.tensor(3.0), torch.tensor([math.nan, 1.0])):
        with pytest.raises(ValueError, match="^counts must"):
            smoothed(counts, 1.0)
    for alpha in (-1, math.nan, math.inf, "1", None):
        with pytest.raises(ValueError, match="^alpha must"):
            smoothed(torch.ones(3), alpha)
    with pytest.raises(ValueError, match="^alpha must be above 0 where counts are all zero"):
        smoothed(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), 0)
    with pytest.raises(ValueError, match="^counts must"):
        smoothed(torch.empty(0), 1.0)


# inverse CDF


@STEADY
@given(distributions(1), st.floats(0, 1, exclude_max=True))
def test_inverse_cdf_is_the_first_symbol_whose_cumulative_exceeds_u(one, u):
    (p,) = one
    cdf = p.cumsum(-1) / p.sum()
    assume((cdf - u).abs().min() > 1e-12)
    k = inverse_cdf(p, torch.tensor(u, dtype=REAL))
    assert k.dtype == torch.int64
    assert k.item() == next(i for i, c in enumerate(cdf.tolist()) if c > u)


@STEADY
@given(distributions(1), st.sampled_from([0.0, 1 - 2**-24, 1 - 2**-53]))
def test_inverse_cdf_never_draws_what_cannot_occur(one, u):
    for p in (one[0], one[0].float()):
        k = inverse_cdf(p, torch.tensor([u], dtype=REAL))
        assert 0 <= k < len(p)
        assert p[k] > 0


def test_inverse_cdf_at_the_steps():
    p = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    u = torch.tensor([0.0, 0.2499, 0.25, 0.5, 0.7499, 0.75, 1 - 2**-24])
    assert inverse_cdf(p, u).tolist() == [1, 1, 3, 3, 3, 4, 4]


def test_inverse_cdf_survives_a_sum_that_rounding_left_below_one():
    p = torch.full((17,), 1 / 17) * (1 - 5e-6)
    assert inverse_cdf(p, torch.tensor([0.0, 1 - 2**-24])).tolist() == [0, 16]


def test_inverse_cdf_frequencies():
    p = torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=REAL)
    u = (torch.arange(10_000, dtype=REAL) + 0.5) / 10_000
    assert torch.bincount(inverse_cdf(p, u), minlength=4).tolist() == [1000, 0, 6000, 3000]


def test_inverse_cdf_shapes():
    p = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])  # (3, K)
    u = torch.rand(7, 3, generator=torch.Generator().manual_seed(0))
    k = inverse_cdf(p, u)
    assert k.shape == (7, 3)
    assert (k[:, 0] == 0).all()
    assert (k[:, 1] == 1).all()
    assert torch.equal(k[:, 2], (u[:, 2] >= 0.5).long())
    assert inverse_cdf(p[0], torch.rand(())).shape == ()


def test_inverse_cdf_refuses():
    p = torch.tensor([0.5, 0.5])
    for u in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="^u must"):
            inverse_cdf(p, torch.tensor([0.5, u]))
    with pytest.raises(ValueError, match="^probs must"):
        inverse_cdf(torch.tensor([0.5, 0.6]), torch.tensor(0.5))
    for shape in ((5,), (), (5, 1)):
        with pytest.raises(ValueError, match="^u must"):
            inverse_cdf(p.expand(3, 2), torch.zeros(shape))


# Softmax


def a_softmax(categories, event_shape, seed=0):
    model = Softmax(categories, event_shape).double()
    with torch.no_grad():
        model.logits.normal_(generator=torch.Generator().manual_seed(seed))
    return model


def everything(categories, event_shape):
    """All examples there are, (K^|E|, *E)."""
    size = math.prod(event_shape)
    rows = list(itertools.product(range(categories), repeat=size))
    return torch.tensor(rows).reshape(len(rows), *event_shape)


@pytest.mark.parametrize("event_shape", [(), (3,), (2, 2)])
def test_softmax_starts_uniform_and_is_normalised(event_shape):
    x = everything(3, event_shape)
    fresh = Softmax(3, event_shape)
    assert fresh.logits.shape == (*event_shape, 3)
    torch.testing.assert_close(fresh.log_prob(x).detach(), torch.full((len(x),), -math.log(len(x))))
    log_q = a_softmax(3, event_shape).log_prob(x)
    assert log_q.shape == (len(x),)
    assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-13)


def test_softmax_log_prob_is_a_sum_over_the_entries():
    model = a_softmax(4, (2, 3))
    x = torch.randint(4, (5, 2, 3), generator=torch.Generator().manual_seed(2))
    expected = torch.distributions.Categorical(logits=model.logits).log_prob(x).sum((-1, -2))
    torch.testing.assert_close(model.log_prob(x), expected, rtol=0, atol=1e-13)
    assert torch.equal(model.loss(x), -model.log_prob(x))
    assert model.log_prob(x[0]).shape == ()
    torch.testing.assert_close(model.log_prob(x.reshape(5, 1, 2, 3))[:, 0], expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(model.probs, model.logits.softmax(-1))


@pytest.mark.parametrize("event_shape", [(), (3,)])
def test_softmax_gradient_is_softmax_minus_one_hot(event_shape):
    model = a_softmax(5, event_shape)
    x = torch.randint(5, (7, *event_shape), generator=torch.Generator().manual_seed(3))
    model.loss(x).mean().backward()
    expected = model.probs.detach() - torch.nn.functional.one_hot(x, 5).double().mean(0)
    torch.testing.assert_close(model.logits.grad, expected, rtol=0, atol=1e-14)


def test_softmax_samples_follow_the_probabilities():
    model, n = a_softmax(4, (2,)), 40_000
    x = model.sample((n,), generator=torch.Generator().manual_seed(4))
    assert (x.shape, x.dtype) == ((n, 2), torch.int64)
    for entry in range(2):
        counts = torch.bincount(x[:, entry], minlength=4).numpy()
        expected = n * model.probs[entry].detach().numpy()
        assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3  # fixed seed
    both = torch.bincount(4 * x[:, 0] + x[:, 1], minlength=16).numpy()
    joint = n * torch.outer(*model.probs.detach()).flatten().numpy()
    assert scipy.stats.chisquare(both, joint).pvalue > 1e-3
    assert not x.requires_grad


def test_softmax_samples_repeat_with_a_generator():
    model, state = a_softmax(4, (2,)), torch.get_rng_state()
    first, second = (model.sample((9,), generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("event_shape", [(), (3,), (2, 2)])
def test_fit_counts_agrees_with_numpy(event_shape):
    x = torch.randint(4, (60, *event_shape), generator=torch.Generator().manual_seed(6))
    for alpha in (0.0, 0.5, 1.0):
        model = Softmax(4, event_shape).double()
        assert model.fit_counts(x, alpha) is model
        table = x.reshape(60, -1).numpy()
        for entry, q in enumerate(model.probs.detach().reshape(-1, 4).numpy()):
            counts = np.bincount(table[:, entry], minlength=4)
            np.testing.assert_allclose(q, (counts + alpha) / (60 + 4 * alpha), atol=1e-14)


def test_fit_counts_is_the_maximum_of_the_likelihood():
    generator = torch.Generator().manual_seed(7)
    x = torch.randint(3, (50, 2), generator=generator)
    model = Softmax(3, (2,)).double().fit_counts(x)
    best = model.loss(x).mean()
    (gradient,) = torch.autograd.grad(best, model.logits)
    assert gradient.abs().max() < 1e-14
    for _ in range(100):
        other = Softmax(3, (2,)).double()
        with torch.no_grad():
            step = torch.randn(2, 3, dtype=REAL, generator=generator)
            other.logits.copy_(model.logits + 0.1 * step)
        assert other.loss(x).mean() > best


def test_unseen_symbols_cost_infinitely_much_until_smoothed():
    x = torch.tensor([0, 0, 1])
    model = Softmax(3).fit_counts(x)
    assert model.log_prob(torch.tensor([2])) == -math.inf
    assert (model.sample((1000,), generator=torch.Generator().manual_seed(8)) != 2).all()
    assert model.fit_counts(x, 1.0).log_prob(torch.tensor([2])).item() == pytest.approx(math.log(1 / 6))


def test_softmax_refuses():
    for categories in (0, -1, 2.0, True, "3"):
        with pytest.raises(ValueError, match="^categories must"):
            Softmax(categories)
    for event_shape in ((0,), (2.5,), (3, -1)):
        with pytest.raises(ValueError, match="^event_shape must"):
            Softmax(3, event_shape)
    model = Softmax(3, (4,))
    for method in (model.log_prob, model.loss, model.fit_counts):
        for x in (torch.zeros(2, 4), torch.zeros(2, 3, dtype=torch.int64), torch.full((2, 4), 3), [[0] * 4]):
            with pytest.raises(ValueError, match="^x must"):
                method(x)
    with pytest.raises(ValueError, match="shape"):
        model.sample((0,))
    with pytest.raises(ValueError, match="^alpha must"):
        model.fit_counts(torch.zeros(2, 4, dtype=torch.int64), -1.0)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (4, 4, 4)])
def test_fit_counts_wants_exactly_one_batch_dimension(shape):
    """One example without a batch would otherwise be spread over all entries in silence."""
    with pytest.raises(ValueError, match="^x must"):
        Softmax(3, (4,)).fit_counts(torch.zeros(shape, dtype=torch.int64), 1.0)


# NaiveBayes


def labelled(n, categories, size, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(categories, (n, size), generator=generator)
    return x, torch.arange(n) % classes


def a_naive_bayes():
    x, y = labelled(40, 3, 2, 2)
    return NaiveBayes(3, (2,), 2).double().fit_counts(x, torch.cat([y[:20], y[:20] * 0]), 1.0)


def test_naive_bayes_by_enumeration():
    model, x = a_naive_bayes(), everything(3, (2,))
    prior = model.prior.probs.detach()
    tables = torch.stack([q.probs for q in model.likelihoods]).detach()  # (C, D, K)
    joint = torch.stack(
        [prior[c] * tables[c, 0, x[:, 0]] * tables[c, 1, x[:, 1]] for c in range(2)], -1
    )  # (9, C)
    torch.testing.assert_close(model.log_joint(x), joint.log(), rtol=0, atol=1e-13)
    torch.testing.assert_close(model.log_prob(x), joint.sum(-1).log(), rtol=0, atol=1e-13)
    posterior = joint / joint.sum(-1, keepdim=True)
    torch.testing.assert_close(model.log_posterior(x), posterior.log(), rtol=0, atol=1e-13)
    assert torch.equal(model.loss(x), -model.log_prob(x))
    assert model.log_prob(x).exp().sum().item() == pytest.approx(1, abs=1e-13)


def test_naive_bayes_agrees_with_scikit_learn():
    x, y = labelled(90, 4, 5, 3)
    model = NaiveBayes(4, (5,), 3).double().fit_counts(x, y, 0.7)
    reference = CategoricalNB(alpha=0.7, min_categories=4).fit(x.numpy(), y.numpy())
    # the classes are equally frequent, where smoothing leaves the prior as it is
    np.testing.assert_allclose(
        model.log_joint(x).detach(), reference.predict_joint_log_proba(x.numpy()), atol=1e-12
    )
    np.testing.assert_allclose(
        model.log_posterior(x).detach(), reference.predict_log_proba(x.numpy()), atol=1e-12
    )


def test_naive_bayes_prior_is_smoothed_too():
    x, _ = labelled(10, 3, 2, 2)
    y = torch.tensor([0] * 8 + [1] * 2)
    for alpha in (0.5, 3.0):
        model = NaiveBayes(3, (2,), 2).double().fit_counts(x, y, alpha)
        expected = [(8 + alpha) / (10 + 2 * alpha), (2 + alpha) / (10 + 2 * alpha)]
        np.testing.assert_allclose(model.prior.probs.detach(), expected, atol=1e-14)


def test_naive_bayes_samples_follow_the_joint():
    model, n = a_naive_bayes(), 40_000
    x = model.sample((n,), generator=torch.Generator().manual_seed(9))
    assert (x.shape, x.dtype) == ((n, 2), torch.int64)
    counts = torch.bincount(3 * x[:, 0] + x[:, 1], minlength=9).numpy()
    expected = n * model.log_prob(everything(3, (2,))).exp().detach().numpy()
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3  # fixed seed
    again = model.sample((n,), generator=torch.Generator().manual_seed(9))
    assert torch.equal(x, again)


def test_naive_bayes_learns_a_dependence_that_independent_pixels_miss():
    x = torch.tensor([[0, 0], [1, 1]] * 20)
    y = x[:, 0]
    conditional = NaiveBayes(2, (2,), 2).fit_counts(x, y, 0.1)
    independent = Softmax(2, (2,)).fit_counts(x, 0.1)
    assert conditional.loss(x).mean() < 0.75 < 1.3 < independent.loss(x).mean()
    assert (conditional.log_posterior(x).argmax(-1) == y).all()


def test_naive_bayes_refuses():
    x, y = labelled(8, 3, 2, 2)
    model = NaiveBayes(3, (2,), 2)
    with pytest.raises(ValueError, match="^y must hold one label for each of the 8 rows of x, got 7"):
        model.fit_counts(x, y[:7], 1.0)
    with pytest.raises(ValueError, match="^y must"):
        model.fit_counts(x, y + 1, 1.0)
    with pytest.raises(ValueError, match="^y must"):
        model.fit_counts(x, y.float(), 1.0)
    with pytest.raises(ValueError, match="^x must"):
        model.fit_counts(x + 1, y, 1.0)
    with pytest.raises(ValueError, match="alpha"):
        model.fit_counts(x, y * 0, 0.0)
    with pytest.raises(ValueError, match="^x must"):
        model.log_joint(x.float())
    with pytest.raises(ValueError, match="shape"):
        model.sample(3)
    with pytest.raises(ValueError, match="^classes must"):
        NaiveBayes(3, (2,), 0)
    with pytest.raises(ValueError, match="^categories must"):
        NaiveBayes(0, (2,), 2)
