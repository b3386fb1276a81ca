"""The training loop: it finds known optima, keeps its promises about rates and averages, and stops well."""

import itertools
import math
import re

import nbclient
import nbformat
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from genlib import data
from genlib.discrete import Softmax
from genlib.training import (
    History,
    Player,
    RunningMean,
    endless,
    fit,
    fresh_batches,
    half_wave,
    minibatches,
    play,
    progress_bar,
)

STEADY = settings(max_examples=30)
SEEDS = st.integers(0, 10_000)
STARTS = st.lists(st.floats(-5, 5), min_size=1, max_size=3)
REAL = torch.float64


def weight(values=(0.0,)):
    return torch.tensor(values, dtype=REAL, requires_grad=True)


def sgd_path(gradient, w, rates, decay=None, clip=None):
    """Plain gradient descent by hand: the last weights, and the running average."""
    mean = w.clone()
    for k, rate in enumerate(rates):
        g = gradient(w, k)
        if clip is not None and g.norm() > clip:
            g = g * clip / g.norm()
        w = w - rate * g
        if decay is not None:
            d = min(decay, (1 + k) / (10 + k))
            mean = d * mean + (1 - d) * w
    return w, mean


# what is learnt


def test_finds_the_minimum_of_a_quadratic():
    w, target = weight([5.0, -3.0]), torch.tensor([1.0, 2.0], dtype=REAL)
    history = fit(lambda b: ((w - b) ** 2).sum(-1), [w], [target[None]], 600, lr=0.2, progress=False)
    torch.testing.assert_close(w.detach(), target, rtol=0, atol=1e-4)
    assert len(history.loss) == len(history.rate) == 600
    assert history.loss[0] == pytest.approx(16 + 25)
    assert not history.interrupted


def test_cross_entropy_falls_to_the_entropy():
    p = torch.tensor([0.1, 0.2, 0.3, 0.4])
    x = torch.arange(4).repeat_interleave((10 * p).round().long())
    model = Softmax(4)
    history = fit(model.loss, model, [x], 500, lr=0.1, progress=False)
    assert history.loss[-1] == pytest.approx(-(p * p.log()).sum().item(), abs=1e-5)
    torch.testing.assert_close(model.probs.detach(), p, rtol=0, atol=1e-3)


@STEADY
@given(st.integers(1, 12), st.floats(0.001, 0.3), st.floats(0, 1))
def test_rate_follows_the_cosine_down_to_the_floor(steps, lr, floor):
    w = weight()
    history = fit(lambda b: (w - b) ** 2, [w], [torch.ones(1)], steps, lr=lr, floor=floor, progress=False)
    expected = [max(0.5 * (1 + math.cos(math.pi * k / steps)), floor) for k in range(steps)]
    assert history.rate == pytest.approx(expected, rel=1e-12)


def test_the_rate_is_what_the_optimizer_uses():
    for floor in (0.0, 0.4, 1.0):
        w = weight([4.0])
        history = fit(
            lambda b, w=w: (w**2).sum(), [w], [torch.ones(1)], 7, lr=0.3, floor=floor, optimizer=torch.optim.SGD,
            progress=False,
        )  # fmt: skip
        expected, _ = sgd_path(
            lambda w, k: 2 * w, torch.tensor([4.0], dtype=REAL), [0.3 * r for r in history.rate]
        )
        torch.testing.assert_close(w.detach(), expected, rtol=1e-13, atol=0)


def test_adam_is_the_default_and_gradients_are_not_carried_over():
    ours, theirs = weight([2.0, -1.0]), weight([2.0, -1.0])
    fit(lambda b: (ours**4).sum(), [ours], [torch.ones(1)], 20, lr=0.1, floor=1.0, progress=False)
    reference = torch.optim.Adam([theirs], lr=0.1)
    for _ in range(20):
        reference.zero_grad()
        (theirs**4).sum().backward()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=0)


def test_default_rate():
    w = weight()
    assert fit(lambda b: (w - b) ** 2, [w], [torch.ones(1)], 2, progress=False).rate == pytest.approx(
        [1.0, 0.5]
    )


@STEADY
@given(STARTS, st.integers(1, 25), st.floats(0.01, 0.3), st.floats(0.01, 0.999))
def test_average_agrees_with_a_loop_by_hand(values, steps, lr, decay):
    w, start = weight(values), torch.tensor(values, dtype=REAL)
    batches = [torch.full_like(start, k) for k in range(5)]
    history = fit(
        lambda b: ((w - b) ** 2).sum(), [w], batches, steps, lr=lr, average=decay, optimizer=torch.optim.SGD,
        progress=False,
    )  # fmt: skip
    _, mean = sgd_path(
        lambda w, k: 2 * (w - batches[k % 5]), start, [lr * rate for rate in history.rate], decay
    )
    torch.testing.assert_close(w.detach(), mean, rtol=1e-11, atol=1e-12)
    assert w.requires_grad


@STEADY
@given(STARTS, st.floats(0.1, 20.0), st.integers(1, 5))
def test_clip_shortens_the_gradient(values, clip, steps):
    w, start = weight(values), torch.tensor(values, dtype=REAL)
    history = fit(
        lambda b: 0.5 * (w**2).sum(), [w], [torch.ones(1)], steps, lr=0.1, clip=clip, optimizer=torch.optim.SGD,
        progress=False,
    )  # fmt: skip
    expected, _ = sgd_path(lambda w, k: w, start, [0.1 * rate for rate in history.rate], clip=clip)
    torch.testing.assert_close(w.detach(), expected, rtol=1e-5, atol=1e-5)  # torch divides by the norm + 1e-6
    longest = sum(0.1 * rate * clip for rate in history.rate)
    assert (w.detach() - start).norm() <= longest + 1e-12


@STEADY
@given(STARTS, st.integers(1, 10), st.integers(1, 4), st.floats(0.01, 0.3))
def test_history_holds_the_mean_loss_of_each_batch_before_its_step(values, steps, count, lr):
    w, by_hand = weight(values), torch.tensor(values, dtype=REAL)
    batches = [torch.arange(k + 2, dtype=REAL)[:, None].expand(-1, len(values)) for k in range(count)]
    history = fit(
        lambda b: ((w - b) ** 2).sum(-1), [w], batches, steps, lr=lr, floor=1.0, optimizer=torch.optim.SGD,
        progress=False,
    )  # fmt: skip
    losses = []
    for k in range(steps):
        batch = batches[k % count]
        losses.append(((by_hand - batch) ** 2).sum(-1).mean().item())
        by_hand = by_hand - lr * 2 * (by_hand - batch).mean(0)
    assert history.loss == pytest.approx(losses, rel=1e-9, abs=1e-12)
    assert history == History({"model": history.loss}, [1.0] * steps, interrupted=False)
    assert history != History({"model": history.loss}, [1.0] * steps, interrupted=True)
    torch.testing.assert_close(w.detach(), by_hand, rtol=1e-9, atol=1e-12)


def test_clip_looks_at_all_parameters_together():
    a, b = weight([3.0]), weight([4.0])
    fit(
        lambda _: 0.5 * (a**2 + b**2), [a, b], [torch.ones(1)], 1, lr=1.0, clip=1.0,
        optimizer=torch.optim.SGD, progress=False,
    )  # fmt: skip
    assert (a.item(), b.item()) == pytest.approx((3 - 0.6, 4 - 0.8), abs=1e-5)


def test_parameters_may_be_an_iterable_and_frozen_ones_stay():
    a, frozen = weight([1.0]), torch.ones(1)
    fit(lambda b: (a - b) ** 2, (p for p in (a, frozen)), [torch.zeros(1)], 3, progress=False)
    assert a.item() < 1
    assert frozen.item() == 1
    layer = torch.nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    before = layer.bias.clone()
    fit(lambda b: layer(b) ** 2, layer, [torch.ones(4, 2)], 3, progress=False)
    assert torch.equal(layer.bias, before)


# the parts that other loops use too


@STEADY
@given(STARTS, st.integers(1, 30), st.floats(0.01, 0.999), SEEDS)
def test_running_mean_by_hand_and_handed_over(values, steps, decay, seed):
    a, b = weight(values), torch.tensor([[2.0]], requires_grad=True)  # of two dtypes
    path = torch.randn(steps, len(values) + 1, generator=torch.Generator().manual_seed(seed), dtype=REAL)
    running, mean = RunningMean([a, b], decay), [p.detach().clone() for p in (a, b)]
    for k, step in enumerate(path):
        with torch.no_grad():
            a += step[:-1]
            b += step[-1]
        raw = a.detach().clone()
        running.update(k)
        assert torch.equal(a, raw)  # until it is handed over the mean stays apart
        d = min(decay, (1 + k) / (10 + k))
        mean = [d * m + (1 - d) * p.detach() for m, p in zip(mean, (a, b), strict=True)]
    running.hand_over()
    torch.testing.assert_close(a.detach(), mean[0], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(b.detach(), mean[1], rtol=1e-5, atol=1e-6)
    assert a.requires_grad
    assert b.requires_grad
    assert (a.is_leaf, b.is_leaf, b.dtype, b.shape) == (True, True, torch.float32, (1, 1))


def test_running_mean_starts_from_the_parameters_and_keeps_its_own():
    w = weight([4.0])
    running = RunningMean([w], 0.5)
    with torch.no_grad():
        w.zero_()
    running.hand_over()
    assert w.item() == 4
    running.update(0)
    running.hand_over()
    with torch.no_grad():
        w.zero_()
    running.hand_over()  # twice gives the same
    assert w.item() == 4


@pytest.mark.parametrize("decay", [0, 0.0, 1, 1.0, 1.5, -0.1, math.nan, math.inf, True, "0.9", None])
def test_running_mean_refuses(decay):
    with pytest.raises(ValueError, match=f"^average must .*, got {re.escape(repr(decay))}$"):
        RunningMean([weight()], decay)


@STEADY
@given(st.floats(0, 1))
def test_half_wave_falls_from_one_to_zero(done):
    assert half_wave(0) == 1
    assert half_wave(1) == 0
    assert half_wave(0.5) == pytest.approx(0.5)
    assert half_wave(done) == pytest.approx(math.cos(math.pi * done / 2) ** 2, abs=1e-15)
    assert half_wave(done) + half_wave(1 - done) == pytest.approx(1)


def test_progress_bar_counts_the_steps(capsys):
    for progress in (True, False):
        bar = progress_bar(4, progress)
        assert list(bar) == [0, 1, 2, 3]
        bar.close()
        out, err = capsys.readouterr()
        assert out == ""
        assert ("/4" in err) == progress
        assert err.endswith("\r") == progress


@pytest.mark.parametrize("stdin", [True, False])
def test_progress_bar_shows_in_a_notebook_that_somebody_runs(stdin, monkeypatch):
    class Shell:
        class kernel:
            _allow_stdin = stdin

    monkeypatch.setattr("genlib.training.get_ipython", lambda: Shell)
    for progress in (True, False):
        bar = progress_bar(2, progress)
        assert bar.disable == (not (progress and stdin))
        bar.close()


@STEADY
@given(st.integers(1, 4), st.integers(0, 12))
def test_endless_goes_round(count, taken):
    feed = endless([torch.full((2,), float(k)) for k in range(count)], torch.device("cpu"))
    assert [next(feed)[0].item() for _ in range(taken)] == [k % count for k in range(taken)]


def test_endless_moves_batches_and_opens_those_of_a_single_tensor():
    feed = endless([torch.ones(2), (torch.ones(2), torch.ones(3)), [torch.ones(1)]], torch.device("meta"))
    one, pair, single = (next(feed) for _ in range(3))
    assert one.device.type == single.device.type == "meta"
    assert [part.shape for part in pair] == [(2,), (3,)]
    assert all(part.device.type == "meta" for part in pair)
    assert type(pair) is tuple
    assert single.shape == (1,)


def test_the_usual_loader_of_torch_trains_a_model():
    x = torch.arange(4).repeat_interleave(torch.tensor([1, 2, 3, 4]))
    model = Softmax(4)
    fit(model.loss, model, DataLoader(TensorDataset(x), batch_size=10), 300, lr=0.1, progress=False)
    torch.testing.assert_close(model.probs.detach(), torch.arange(1, 5) / 10, rtol=0, atol=1e-3)


@pytest.mark.parametrize("batches", [None, 3, len])
def test_endless_refuses_what_cannot_be_gone_through_at_once(batches):
    with pytest.raises(ValueError, match="^batches must be an iterable of batches, got "):
        endless(batches, torch.device("cpu"))  # not at the first batch only


def test_endless_ends_where_nothing_comes():
    for batches, count in (([], 0), (iter([torch.ones(1)]), 1)):
        feed = endless(batches, torch.device("cpu"))
        for _ in range(count):
            next(feed)
        with pytest.raises(ValueError, match="^batches must yield at least one batch, and again"):
            next(feed)


# batches


def test_a_finite_iterable_is_gone_through_again():
    w, seen = weight(), []
    batches = [torch.tensor([float(k)]) for k in range(3)]
    fit(lambda b: seen.append(b.item()) or (w - b) ** 2, [w], batches, 8, progress=False)
    assert seen == [0, 1, 2, 0, 1, 2, 0, 1]


def test_batches_are_drawn_one_by_one_and_no_more_than_needed():
    w, drawn = weight(), []

    def endless():
        while True:
            drawn.append(1)
            yield torch.ones(1)

    fit(lambda b: (w - b) ** 2, [w], endless(), 5, progress=False)
    assert len(drawn) == 5


def test_a_one_shot_generator_lasts_as_long_as_it_lasts():
    w = weight()
    fit(lambda b: (w - b) ** 2, [w], (torch.ones(1) for _ in range(3)), 3, progress=False)
    with pytest.raises(ValueError, match="^batches must yield at least one batch, and again"):
        fit(lambda b: (w - b) ** 2, [w], (torch.ones(1) for _ in range(3)), 4, progress=False)


@pytest.mark.parametrize("batches", [[], (), iter([])])
def test_no_batches(batches):
    w = weight()
    with pytest.raises(ValueError, match="^batches must yield at least one batch"):
        fit(lambda b: (w - b) ** 2, [w], batches, 4, progress=False)


def test_tuples_of_tensors_are_batches_too():
    w, seen = weight(), []
    pair = (torch.ones(2), torch.zeros(2, dtype=torch.int64))
    for batch in (pair, list(pair)):
        fit(lambda b: seen.append([p.dtype for p in b]) or (w - b[0]) ** 2, [w], [batch], 1, progress=False)
    assert seen == [[torch.float32, torch.int64]] * 2


def test_batches_move_to_the_device_of_the_model():
    """The meta device computes shapes alone, so the run ends where the loss is read; by then the batch has moved."""
    w, seen = torch.zeros(1, device="meta", requires_grad=True), []
    with pytest.raises(RuntimeError):
        fit(lambda b: seen.append(b.device.type) or (w - b) ** 2, [w], [torch.ones(1)], 1, progress=False)
    with pytest.raises(RuntimeError):
        fit(lambda b: seen.append(b[1].device.type) or w**2, [w], [(torch.ones(1),) * 2], 1, progress=False)
    assert seen == ["meta", "meta"]


@STEADY
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_minibatches_are_a_permutation_each_epoch(n, size, seed):
    data = torch.arange(n)
    if size > n:
        with pytest.raises(ValueError, match=f"^size must be at most the {n} examples there are, got {size}"):
            minibatches(data, size)
        return
    feed = minibatches(data, size, generator=torch.Generator().manual_seed(seed))
    epochs = [[next(feed) for _ in range(n // size)] for _ in range(3)]
    for epoch in epochs:
        assert all(len(batch) == size for batch in epoch)
        rows = torch.cat(epoch).tolist()
        assert len(set(rows)) == len(rows) == size * (n // size)
    again = minibatches(data, size, generator=torch.Generator().manual_seed(seed))
    assert all(torch.equal(next(again), batch) for epoch in epochs for batch in epoch)


@STEADY
@given(st.integers(1, 20), st.lists(st.integers(1, 3), max_size=2), st.booleans(), SEEDS)
def test_minibatches_keep_rows_together(n, shape, single, seed):
    x = torch.arange(n)
    y = (2 * x).reshape(n, *[1] * len(shape)).expand(n, *shape)
    feed = minibatches(
        (x,) if single else (x, y), max(1, n // 2), generator=torch.Generator().manual_seed(seed)
    )
    state = torch.get_rng_state()
    for _ in range(4):
        batch = next(feed)
        assert isinstance(batch, tuple)
        assert len(batch) == (1 if single else 2)
        assert torch.equal(batch[-1], x[batch[0]] if single else y[batch[0]])
    assert torch.equal(torch.get_rng_state(), state)


def test_minibatches_shuffle_anew_each_epoch():
    x = torch.arange(100)
    feed = minibatches(x, 50, generator=torch.Generator().manual_seed(0))
    first, second = (torch.cat([next(feed), next(feed)]) for _ in range(2))
    assert not torch.equal(first, x)
    assert not torch.equal(first, second)


def test_minibatches_use_the_global_generator_by_default():
    torch.manual_seed(3)
    first = next(minibatches(torch.arange(50), 50))
    torch.manual_seed(3)
    assert torch.equal(next(minibatches(torch.arange(50), 50)), first)


@STEADY
@given(
    st.integers(max_value=0) | st.floats() | st.booleans() | st.none(), st.integers(0, 9), st.integers(0, 9)
)
def test_minibatches_refuse(size, n, m):
    x, y = torch.arange(n), torch.arange(m)
    with pytest.raises(ValueError, match=f"^size must be a whole number .*, got {re.escape(repr(size))}$"):
        minibatches(x, size)  # at once, not at the first batch
    if n != m:
        with pytest.raises(ValueError, match="^data must hold tensors of one length, got ") as caught:
            minibatches((x, y), 1)
        assert str(caught.value).endswith(f"got lengths {sorted((n, m))}")
    for strange in ((), torch.tensor(n), n):
        with pytest.raises(ValueError, match="^data must"):
            minibatches(strange, 1)


# how it stops


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_weights(bad):
    w, steps = weight([1.0]), []

    def loss(b):
        steps.append(w.item())
        return (w - b) ** 2 + (bad if len(steps) == 4 else 0)

    with pytest.raises(RuntimeError, match=re.escape(f"the model's loss is {bad} at step 4 of 10")):
        fit(loss, [w], [torch.zeros(1)], 10, lr=0.1, progress=False)
    assert w.item() == steps[-1]
    assert w.item() != 1.0


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("bad", ["inf", "nan"])
def test_a_gradient_that_is_not_finite_names_the_step_and_keeps_the_weights(clip, bad):
    w, seen = weight([3.0]), []

    def loss(b):
        seen.append(w.item())
        zero = w - w.detach()
        steep = (
            zero.sqrt() if bad == "inf" else zero.abs().sqrt()
        )  # at 0 the slope of √ is infinite, of |·| 0
        return steep if len(seen) == 3 else w**2

    with pytest.raises(RuntimeError, match=rf"gradient.* {bad} at step 3 of 5"):
        fit(loss, [w], [torch.zeros(1)], 5, lr=0.1, clip=clip, progress=False)
    assert w.item() == seen[-1]


@pytest.mark.parametrize("average", [None, 0.5])
def test_an_interrupt_returns_what_was_learnt(average):
    w, calls = weight([4.0]), []

    def loss(b):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return (w**2).sum()

    history = fit(
        loss, [w], [torch.ones(1)], 100, lr=0.2, floor=1.0, average=average, optimizer=torch.optim.SGD,
        progress=False,
    )  # fmt: skip
    assert history.interrupted
    assert len(history.loss) == len(history.rate) == 5
    last, mean = sgd_path(lambda w, k: 2 * w, torch.tensor([4.0], dtype=REAL), [0.2] * 5, average or 0.5)
    torch.testing.assert_close(w.detach(), last if average is None else mean, rtol=1e-12, atol=0)


def test_an_error_leaves_the_averaged_weights():
    w, calls = weight([4.0]), []

    def loss(b):
        calls.append(1)
        return (w**2).sum() * (math.nan if len(calls) == 6 else 1)

    with pytest.raises(RuntimeError, match="step 6 of 9"):
        fit(
            loss,
            [w],
            [torch.ones(1)],
            9,
            lr=0.2,
            floor=1.0,
            average=0.5,
            optimizer=torch.optim.SGD,
            progress=False,
        )
    _, mean = sgd_path(lambda w, k: 2 * w, torch.tensor([4.0], dtype=REAL), [0.2] * 5, 0.5)
    torch.testing.assert_close(w.detach(), mean, rtol=1e-12, atol=0)


def test_an_interrupt_before_the_first_step_changes_nothing():
    w = weight([4.0])

    def loss(b):
        raise KeyboardInterrupt

    history = fit(loss, [w], [torch.ones(1)], 3, average=0.9, progress=False)
    assert history == History({"model": []}, [], True)
    assert w.item() == 4


def test_histories_are_not_shared():
    History({"model": []}).rate.append(1.0)
    assert History({"model": []}) == History(losses={"model": []}, rate=[], interrupted=False)


def test_the_loss_is_that_of_the_only_player():
    assert History({"model": [1.0, 2.0]}).loss == [1.0, 2.0]
    with pytest.raises(ValueError, match="to unpack"):
        _ = History({"one": [], "other": []}).loss


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"steps": True}, "steps"),
        ({"lr": 0.0}, "lr"),
        ({"lr": -1e-3}, "lr"),
        ({"lr": math.nan}, "lr"),
        ({"clip": 0.0}, "clip"),
        ({"clip": -1.0}, "clip"),
        ({"clip": "a"}, "clip"),
        ({"average": 0.0}, "average"),
        ({"average": 1.0}, "average"),
        ({"average": 1.5}, "average"),
        ({"average": True}, "average"),
        ({"average": math.nan}, "average"),
        ({"model": []}, "model"),
        ({"model": [torch.ones(1)]}, "model"),
        ({"model": torch.nn.Flatten()}, "model"),
        ({"model": ["a"]}, "model"),
        ({"model": torch.ones(2, requires_grad=True)}, "model"),
        ({"model": torch.tensor(1.0, requires_grad=True)}, "model"),
        ({"batches": None}, "batches"),
        ({"batches": 3}, "batches"),
    ],
)
def test_settings_are_refused_by_name(settings, name):
    w = weight()
    given = {
        "loss": lambda b: (w - b) ** 2,
        "model": [w],
        "batches": [torch.ones(1)],
        "steps": 3,
        "progress": False,
    }
    with pytest.raises(ValueError, match=f"^{name} must"):
        fit(**{**given, **settings})
    assert w.item() == 0


@STEADY
@given(st.floats(max_value=0) | st.just(math.inf) | st.just(math.nan), st.integers(max_value=0) | st.floats())
def test_rates_and_counts_out_of_range_are_refused(number, count):
    w = weight()
    for setting in ({"lr": number}, {"clip": number}, {"average": number}):
        (name,) = setting
        with pytest.raises(ValueError, match=f"^{name} must .*, got {re.escape(repr(number))}$"):
            fit(lambda b: (w - b) ** 2, [w], [torch.ones(1)], 3, progress=False, **setting)
    with pytest.raises(ValueError, match=f"^steps must be a whole number .*, got {re.escape(repr(count))}$"):
        fit(lambda b: (w - b) ** 2, [w], [torch.ones(1)], count, progress=False)
    assert w.item() == 0


# the bar


def test_the_bar_goes_to_stderr_and_vanishes(capsys):
    w = weight()
    fit(lambda b: (w - b) ** 2, [w], [torch.ones(1)], 120, lr=0.01)
    out, err = capsys.readouterr()
    assert out == ""
    assert "120/120" in err or "/120" in err
    assert "model's loss=" in err
    assert err.endswith("\r")
    assert "\n" not in err
    assert err.split("\r")[-2].strip() == ""  # the last thing written is blank


def test_no_bar_when_none_is_wanted(capsys):
    w = weight()
    fit(lambda b: (w - b) ** 2, [w], [torch.ones(1)], 3, progress=False)
    assert capsys.readouterr() == ("", "")


def test_the_bar_is_closed_after_an_error(capsys):
    w = weight()
    with pytest.raises(RuntimeError, match="step 1 of 5"):
        fit(lambda b: w * math.nan, [w], [torch.ones(1)], 5)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\r")


def test_a_notebook_that_is_run_headless_stores_nothing_of_the_bar():
    source = """
import torch
from genlib.training import fit
w = torch.zeros(1, requires_grad=True)
history = fit(lambda b: (w - b) ** 2, [w], [torch.ones(1)], 200)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    assert notebook.cells[0].outputs == []
    assert not notebook.metadata.get("widgets", {})


# several players


def a_game(updates=(1, 1), **settings):
    """Three players, one number each; each writes down what it sees, and pays the square of its gap to the batch."""
    seen, numbers = [], [weight([float(i)]) for i in range(len(updates))]

    def pays(i):
        def loss(batch, k):
            seen.append((i, k, batch.item()))
            return (numbers[i] - batch) ** 2

        return loss

    players = [
        Player(f"player {i}", [number], pays(i), lr=0.1 * (i + 1), updates=updates[i], **settings)
        for i, number in enumerate(numbers)
    ]
    return players, numbers, seen


def test_players_move_in_turn_and_only_repeated_updates_see_new_batches():
    players, _, seen = a_game((2, 1, 3))
    play(players, map(torch.tensor, itertools.count(0.0)), 2, progress=False)
    assert seen == [
        *[(0, 0, 0), (0, 0, 1), (1, 0, 1), (2, 0, 1), (2, 0, 2), (2, 0, 3)],
        *[(0, 1, 4), (0, 1, 5), (1, 1, 5), (2, 1, 5), (2, 1, 6), (2, 1, 7)],
    ]


@STEADY
@given(st.integers(1, 8), st.floats(0, 1), SEEDS)
def test_each_player_goes_its_own_way_as_if_alone(steps, floor, seed):
    x = torch.randn(steps, 1, generator=torch.Generator().manual_seed(seed), dtype=REAL)
    players, numbers, _ = a_game((1, 1, 1), optimizer=torch.optim.SGD, average=0.5)
    history = play(players, list(x), steps, floor=floor, progress=False)
    for i, number in enumerate(numbers):
        alone = weight([float(i)])
        settings = {"lr": 0.1 * (i + 1), "optimizer": torch.optim.SGD, "average": 0.5, "floor": floor}
        paid = fit(lambda b, w=alone: (w - b) ** 2, [alone], list(x), steps, progress=False, **settings)
        torch.testing.assert_close(number, alone, rtol=0, atol=0)
        assert history.losses[f"player {i}"] == paid.loss
        assert history.rate == paid.rate


def test_what_comes_after_an_update_and_after_a_step():
    told = []
    w = weight([1.0])
    player = Player("one", [w], lambda b, k: w**2, updates=2, then=lambda: told.append("update"))
    play([player], [torch.ones(1)], 2, after=told.append, progress=False)
    assert told == ["update", "update", 1, "update", "update", 2]


def test_the_player_who_breaks_down_is_named_and_the_others_keep_what_they_learnt():
    first, second = weight([1.0]), weight([2.0])
    players = [
        Player("one", [first], lambda b, k: first**2),
        Player("other", [second], lambda b, k: second**2 / (0 if k == 2 else 1)),
    ]
    with pytest.raises(RuntimeError, match="^the other's loss is inf at step 3 of 5$"):
        play(players, [torch.ones(1)], 5, progress=False)
    assert first.item() < 1 - 2e-3
    assert 1.9 < second.item() < 2


# streams


def test_fresh_batches_are_the_draws_of_the_source():
    ring, one, other = data.ring(), torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    stream = fresh_batches(ring, 5, generator=one)
    for _ in range(3):
        assert torch.equal(next(stream), ring.sample((5,), generator=other))
    torch.manual_seed(1)
    batch = next(fresh_batches(ring, 4))
    torch.manual_seed(1)
    assert torch.equal(batch, ring.sample((4,)))


@pytest.mark.parametrize("size", [0, 2.0, True, "3"])
def test_fresh_batches_refuse(size):
    with pytest.raises(ValueError, match="^size must be a whole number"):
        fresh_batches(data.ring(), size)


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_an_error_of_the_loss_itself_gets_the_step_and_keeps_what_was_learnt(kind):
    w, calls = torch.nn.Parameter(torch.zeros(2)), []

    def loss(x):
        calls.append(w.detach().clone())
        if len(calls) == 3:
            raise kind("the energy is none")
        return (x * w).sum(1)

    message = "the energy is none (in the model's loss at step 3 of 9)"
    with pytest.raises(kind, match=re.escape(message)) as caught:
        fit(loss, [w], [torch.ones(4, 2)], 9, progress=False)
    assert str(caught.value.__cause__) == "the energy is none"
    assert torch.equal(w, calls[-1])
    assert (calls[-1] != 0).all()


def test_an_error_of_the_loss_that_names_the_step_or_is_of_another_kind_stays_as_it_is():
    def loss(x):
        raise error

    w = torch.nn.Parameter(torch.zeros(2))
    for error in (RuntimeError("no score at step 1 of 9"), KeyError("missing"), NotImplementedError("later")):
        with pytest.raises(type(error)) as caught:
            fit(loss, [w], [torch.ones(4, 2)], 9, progress=False)
        assert caught.value is error
