"""Figures show what they are given: heights, extents, labels; and they refuse what they cannot show."""

import contextlib
import itertools
import math
import re

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genlib import data, plotting
from genlib.training import History

BOX = ((-3.0, 3.0), (-2.0, 4.0))
FEW = settings(max_examples=10)
SEEDS = st.integers(0, 10_000)


@st.composite
def boxes(draw):
    left, bottom = draw(st.floats(-5, 5)), draw(st.floats(-5, 5))
    return ((left, left + draw(st.floats(0.5, 9))), (bottom, bottom + draw(st.floats(0.5, 9))))


@contextlib.contextmanager
def axes():
    """Axes for one example of many; the function under test must leave matplotlib's settings alone."""
    figure, ax = plt.subplots()
    before = dict(mpl.rcParams)
    yield ax
    assert dict(mpl.rcParams) == before
    plt.close(figure)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def unchanged():
    """No function but `use_style` changes matplotlib's settings; figures are closed after each test."""
    with mpl.rc_context():
        before = dict(mpl.rcParams)
        yield
        after = dict(mpl.rcParams)
    plt.close("all")
    assert before == after or "axes.prop_cycle" in {k for k in before if before[k] != after[k]}


@pytest.fixture
def ax():
    _, ax = plt.subplots()
    before = dict(mpl.rcParams)
    yield ax
    assert dict(mpl.rcParams) == before


def contrast(one, other):
    """The contrast of two colours as the web's accessibility guidelines define it, 1 to 21."""

    def luminance(colour):
        c = np.array(mpl.colors.to_rgb(colour))
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_style():
    plotting.use_style()
    cycle = plt.rcParams["axes.prop_cycle"].by_key()
    assert len(cycle["color"]) == len(set(cycle["color"])) == len(set(cycle["linestyle"])) == 4
    assert plt.rcParams["figure.constrained_layout.use"]
    assert plt.rcParams["image.cmap"] == "cividis"
    assert all(contrast(colour, "white") >= 3 for colour in cycle["color"])
    once = dict(mpl.rcParams)
    plotting.use_style()
    assert dict(mpl.rcParams) == once


@FEW
@given(st.floats(5, 30), st.floats(0.5, 5), st.booleans(), st.sampled_from(["gray", "viridis"]))
def test_style_is_the_same_whatever_was_set_before(size, width, ticks, colours):
    with mpl.rc_context():
        plotting.use_style()
        expected = dict(mpl.rcParams)
    kept = {"xtick.top": ticks}  # no matter of the style
    with mpl.rc_context({"font.size": size, "lines.linewidth": width, "image.cmap": colours, **kept}):
        plotting.use_style()
        assert dict(mpl.rcParams) == {**expected, **kept}


# bars


@FEW
@given(st.integers(1, 4), st.integers(1, 6), SEEDS)
def test_bars_have_the_heights_and_do_not_overlap(count, size, seed):
    probs = torch.randn(count, size, generator=seeded(seed)).softmax(-1)
    groups, symbols = {f"Q{i}": p for i, p in enumerate(probs)}, list("abcdef"[:size])
    with axes() as ax:
        assert plotting.bars(ax, groups, symbols) is ax
        assert [c.get_label() for c in ax.containers] == list(groups)
        for container, p in zip(ax.containers, probs, strict=True):
            assert [bar.get_height() for bar in container] == pytest.approx(p.tolist())
            assert {bar.get_y() for bar in container} == {0}
        for k in range(size):
            spans = [(c[k].get_x(), c[k].get_x() + c[k].get_width()) for c in ax.containers]
            assert all(left[1] < right[0] for left, right in itertools.pairwise(spans))
            assert (spans[0][0] + spans[-1][1]) / 2 == pytest.approx(k)
            assert spans[-1][1] < k + 0.5
        assert [text.get_text() for text in ax.get_xticklabels()] == symbols
        assert ax.get_ylabel() == "probability"
        assert (ax.get_legend() is not None) is (count > 1)
        looks = [(c[0].get_facecolor(), c[0].get_hatch()) for c in ax.containers]
        assert len({colour for colour, _ in looks}) == len({hatch for _, hatch in looks}) == count


def test_bars_take_what_a_model_gives(ax):
    probs = torch.nn.Parameter(torch.tensor([0.25, 0.75], dtype=torch.float64))
    plotting.bars(ax, {"Q": probs}, ["a", "b"])
    assert ax.containers[0][1].get_height() == 0.75


def test_bars_refuse(ax):
    p = torch.tensor([0.5, 0.5])
    for groups in ({}, {str(i): p for i in range(5)}):
        with pytest.raises(ValueError, match=f"^groups must hold 1 to 4 distributions, got {len(groups)}"):
            plotting.bars(ax, groups, ["a", "b"])
    with pytest.raises(ValueError, match=r"must have shape \(3,\), got \(2,\)"):
        plotting.bars(ax, {"Q": p}, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"must have shape \(2,\), got \(1, 2\)"):
        plotting.bars(ax, {"Q": p[None]}, ["a", "b"])
    with pytest.raises(ValueError, match="must hold finite numbers"):
        plotting.bars(ax, {"Q": torch.tensor([math.nan, 1.0])}, ["a", "b"])


# the plane


@FEW
@given(boxes(), st.integers(1, 30), SEEDS)
def test_density_is_exp_log_prob_the_right_way_up(box, size, seed):
    source = data.GaussianMixture(3 * torch.randn(2, 2, generator=seeded(seed)), 1.0)
    (left, right), (bottom, top) = box
    with axes() as ax:
        assert plotting.density(ax, source, box, size) is ax
        (image,) = ax.images
        shown = np.asarray(image.get_array())
        assert image.get_extent() == [left, right, bottom, top]
        assert image.origin == "lower"  # rows go up, columns to the right
        for row, column in itertools.product(range(size), repeat=2):
            if (row, column) in ((0, 0), (0, size - 1), (size - 1, 0), (size // 2, size // 3)):
                x = (
                    left + (right - left) * (column + 0.5) / size,
                    bottom + (top - bottom) * (row + 0.5) / size,
                )
                p = source.log_prob(torch.tensor(x)).exp().item()
                assert shown[row, column] == pytest.approx(p, rel=1e-4, abs=1e-12)
        assert shown.shape == (size, size)
        assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_aspect()) == ("$x_1$", "$x_2$", 1)
        assert "density" in ax.figure.axes[-1].get_ylabel()


def test_density_of_a_source_sums_to_one(ax):
    plotting.density(ax, data.GaussianMixture([[1.5, 3.0]], 0.3), BOX, 60)
    assert np.sum(ax.images[0].get_array()) * 0.1**2 == pytest.approx(1, abs=1e-3)


def test_density_asks_for_no_gradient_and_in_parts(ax):
    seen = []

    class Model:
        def log_prob(self, x):
            seen.append((tuple(x.shape), x.dtype, torch.is_grad_enabled()))
            return -(x**2).sum(-1)

    plotting.density(ax, Model(), BOX)
    assert sum(shape[0] for shape, _, _ in seen) == 200**2
    assert all(shape[0] <= 16384 and shape[1] == 2 for shape, _, _ in seen)
    assert {(dtype, grad) for _, dtype, grad in seen} == {(torch.float32, False)}


def test_density_shows_nothing_outside_the_support(ax):
    plotting.density(ax, data.Checkerboard(), ((-6.0, 6.0), (-6.0, 6.0)), 24)
    shown = np.asarray(ax.images[0].get_array())
    assert sorted(set(np.round(shown.ravel() * 32, 5))) == [0, 1]


def test_density_refuses(ax):
    for size in (0, 2.0, -1):
        with pytest.raises(ValueError, match="^size must"):
            plotting.density(ax, data.ring(), BOX, size)
    with pytest.raises(ValueError, match="^model must have a method log_prob, got int"):
        plotting.density(ax, 3, BOX)


@FEW
@given(st.integers(1, 50), boxes(), st.none() | st.just("samples"), SEEDS)
def test_points_are_where_they_are(n, box, label, seed):
    x = torch.randn(n, 2, generator=seeded(seed)).requires_grad_()
    with axes() as ax:
        assert plotting.points(ax, x, box, label, plotting.ORANGE) is ax
        (cloud,) = ax.collections
        np.testing.assert_allclose(cloud.get_offsets(), x.detach())
        assert label is None or cloud.get_label() == label
        assert mpl.colors.same_color(cloud.get_facecolor()[0][:3], plotting.ORANGE)
        assert (ax.get_xlim(), ax.get_ylim()) == box
        assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_aspect()) == ("$x_1$", "$x_2$", 1)


@FEW
@given(st.integers(1, 4), st.floats(0.5, 3), SEEDS)
def test_ellipses_lie_so_many_deviations_out(count, deviations, seed):
    means = torch.randn(count, 2, generator=seeded(seed)).double().requires_grad_()
    a = torch.randn(count, 2, 2, generator=seeded(seed)).double()
    covariances = a @ a.mT + 0.1 * torch.eye(2).double()
    with axes() as ax:
        assert plotting.ellipses(ax, means, covariances, deviations) is ax
        *rims, crosses = ax.lines
        np.testing.assert_allclose(crosses.get_xydata(), means.detach())
        for rim, mean, covariance in zip(rims, means.detach(), covariances, strict=True):
            away = torch.from_numpy(rim.get_xydata()) - mean
            far = (away @ torch.linalg.inv(covariance) * away).sum(1).sqrt()
            np.testing.assert_allclose(far, deviations, rtol=1e-6)


def test_ellipses_refuse(ax):
    eye = torch.eye(2).expand(3, 2, 2)
    for means, covariances in (
        (torch.zeros(3, 3), eye),
        (torch.zeros(2, 2), eye),
        (torch.zeros(3, 2), eye[0]),
    ):
        with pytest.raises(ValueError, match="^means and covariances must"):
            plotting.ellipses(ax, means, covariances)
    with pytest.raises(ValueError, match="^deviations must"):
        plotting.ellipses(ax, torch.zeros(3, 2), eye, 0.0)


def test_points_refuse(ax):
    for x in (
        torch.zeros(3),
        torch.zeros(0, 2),
        torch.zeros(2, 3),
        torch.full((1, 2), math.nan),
        [[0.0, 0.0]],
    ):
        with pytest.raises(ValueError, match="^x must"):
            plotting.points(ax, x, BOX)


@FEW
@given(st.floats(0.5, 5), st.integers(2, 9), SEEDS)
def test_bent_grid_is_the_image_of_a_square_grid(reach, lines, seed):
    A = torch.randn(2, 2, generator=seeded(seed), requires_grad=True)
    with axes() as ax:
        assert plotting.bent_grid(ax, lambda z: z @ A.T, reach, lines, plotting.ORANGE) is ax
        assert len(ax.lines) == 2 * lines
        along, across = np.linspace(-reach, reach, 241), np.linspace(-reach, reach, lines)
        for i, line in enumerate(ax.lines):
            fixed = np.full(241, across[i % lines])
            z = np.stack([fixed, along] if i < lines else [along, fixed], 1)
            np.testing.assert_allclose(line.get_xydata(), z @ A.detach().double().numpy().T, atol=1e-4)
        assert mpl.colors.same_color(ax.lines[0].get_color(), plotting.ORANGE)


def test_bent_grid_refuses(ax):
    with pytest.raises(ValueError, match="^reach must"):
        plotting.bent_grid(ax, lambda z: z, reach=0)
    with pytest.raises(ValueError, match="^lines must"):
        plotting.bent_grid(ax, lambda z: z, lines=1)
    with pytest.raises(ValueError, match="^g must return shape"):
        plotting.bent_grid(ax, lambda z: z[:, :1])
    with pytest.raises(ValueError, match=r"^g\(z\) must hold finite numbers"):
        plotting.bent_grid(ax, lambda z: z * math.nan)


@FEW
@given(st.floats(0.5, 5), st.integers(2, 9), st.booleans(), SEEDS)
def test_field_draws_the_score_at_a_lattice(reach, size, under, seed):
    A = torch.randn(2, 2, generator=seeded(seed), requires_grad=True)
    box = ((-reach, reach), (-reach, 2 * reach))
    with axes() as ax:
        source = data.GaussianMixture([[0.0, 0.0]], 1.0) if under else None
        assert plotting.field(ax, lambda x: x @ A.T, box, size, source) is ax
        (arrows,) = (c for c in ax.collections if isinstance(c, mpl.quiver.Quiver))
        feet = data.lattice(box, size)
        np.testing.assert_allclose(arrows.XY, feet.numpy(), atol=1e-6)
        exact = feet @ A.detach().double().T
        drawn = torch.from_numpy(np.stack([arrows.U, arrows.V], 1)).double()
        np.testing.assert_allclose(drawn * drawn.norm(dim=1, keepdim=True), exact, atol=1e-4)
        assert len(ax.images) == under
        assert ax.get_xlim() == box[0]
        assert ax.get_ylim() == box[1]


def test_field_refuses(ax):
    with pytest.raises(ValueError, match="^size must"):
        plotting.field(ax, lambda x: x, BOX, size=0)
    with pytest.raises(ValueError, match="^score must return shape"):
        plotting.field(ax, lambda x: x[:, :1], BOX)
    with pytest.raises(ValueError, match=r"^score\(x\) must hold finite numbers"):
        plotting.field(ax, lambda x: x / 0, BOX)
    with pytest.raises(ValueError, match="^under must have a method log_prob"):
        plotting.field(ax, lambda x: x, BOX, under=3)


# loss curves


@FEW
@given(st.integers(1, 300), st.none() | st.floats(-1, 1), st.sampled_from(["nats", "bits"]), SEEDS)
def test_loss_curve_shows_each_loss_and_the_mean_over_two_percent(steps, least, unit, seed):
    loss = torch.rand(steps, generator=seeded(seed), dtype=torch.float64).tolist()
    window = max(1, int(0.02 * steps + 1e-9))
    with axes() as ax:
        assert plotting.loss_curve(ax, History({"model": loss}), least, unit) is ax
        each, mean, *floor = ax.lines
        np.testing.assert_array_equal(each.get_xdata(), np.arange(1, steps + 1))
        np.testing.assert_array_equal(each.get_ydata(), loss)
        np.testing.assert_array_equal(mean.get_xdata(), np.arange(window, steps + 1))
        means = [np.mean(loss[k : k + window]) for k in range(steps - window + 1)]
        np.testing.assert_allclose(mean.get_ydata(), means)
        assert [set(line.get_ydata()) for line in floor] == ([] if least is None else [{least}])
        assert len({line.get_linestyle() for line in (mean, *floor)}) == 1 + len(floor)
        names = ["each batch", f"mean of {window} steps", "least on fresh data"][: 2 + len(floor)]
        assert [text.get_text() for text in ax.get_legend().get_texts()] == names
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", f"loss ({unit})")


def test_loss_curve_refuses(ax):
    with pytest.raises(ValueError, match="^history must hold at least one step, got none"):
        plotting.loss_curve(ax, History({"model": []}))


# image sheets


@FEW
@given(
    st.integers(1, 7),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 20),
    st.booleans(),
)
def test_images(n, columns, height, width, levels, named):
    sheet = torch.arange(n)[:, None, None].expand(n, height, width)
    columns_shown, count = min(columns, n), math.ceil(n / columns)
    names = [f"row {i}" for i in range(count)]
    figure = plotting.images(sheet, columns, levels=levels, rows=names if named else None)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == n
    assert len(figure.axes) == count * columns_shown
    for i, ax in enumerate(shown):
        image = ax.images[0]
        np.testing.assert_array_equal(image.get_array(), np.full((height, width), i))
        assert image.get_clim() == (0, levels)
        assert image.get_cmap().name == "gray_r"  # 0 is white paper
        assert ax.get_subplotspec().get_geometry()[1] == columns_shown
    assert not any(ax.axison for ax in figure.axes)
    assert [strip.get_suptitle() for strip in figure.subfigs] == (names if named else [""] * count)
    plt.close(figure)


def test_images_defaults():
    figure = plotting.images(data.digits().test.images[:10])
    assert [ax.images[0].get_clim() for ax in figure.axes if ax.images] == [(0, 16)] * 10
    assert len(figure.axes) == 16
    assert {strip.get_suptitle() for strip in figure.subfigs} == {""}


def test_images_refuse():
    for sheet in (torch.zeros(4, 4), torch.zeros(0, 4, 4), torch.full((1, 2, 2), math.nan), "a"):
        with pytest.raises(ValueError, match="^sheet must"):
            plotting.images(sheet)
    for columns in (0, 2.0):
        with pytest.raises(ValueError, match="^columns must"):
            plotting.images(torch.zeros(2, 4, 4), columns)
    with pytest.raises(ValueError, match="^rows must hold 2 names, got 1"):
        plotting.images(torch.zeros(9, 4, 4), rows=["a"])
    for levels in (0, -1):
        with pytest.raises(ValueError, match="^levels must"):
            plotting.images(torch.zeros(2, 4, 4), levels=levels)
    assert not plt.get_fignums()


@FEW
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.sampled_from([math.nan, math.inf]), SEEDS)
def test_holes_and_wrong_shapes_are_refused_everywhere(shape, bad, seed):
    hole = torch.zeros(shape)
    hole.view(-1)[seed % hole.numel()] = bad
    with axes() as ax:
        with pytest.raises(ValueError, match="^Q must hold finite numbers, got NaN or infinity in"):
            plotting.bars(ax, {"Q": hole}, ["a"])
        with pytest.raises(ValueError, match="^x must"):
            plotting.points(ax, hole, BOX)
        if len(shape) != 2 or shape[1] != 2:
            with pytest.raises(ValueError, match=f"^x must .* got {re.escape(str(tuple(shape)))}$"):
                plotting.points(ax, torch.zeros(shape), BOX)
        assert not ax.has_data()
    with pytest.raises(ValueError, match="^sheet must hold finite numbers, got NaN or infinity in"):
        plotting.images(hole)
    if len(shape) != 3:
        with pytest.raises(ValueError, match=f"^sheet must .* got {re.escape(str(tuple(shape)))}$"):
            plotting.images(torch.zeros(shape))


def test_colours_differ_in_lightness_from_paper():
    for colour in (plotting.BLUE, plotting.ORANGE, plotting.GREEN, plotting.PURPLE, plotting.GREY):
        assert contrast(colour, "white") >= 3


# heat_map


def test_ranks_are_shares_of_the_others_that_are_larger():
    cost = torch.tensor([[3.0, 1.0], [1.0, math.nan], [2.0, math.nan], [1.0, math.nan]])
    expected = torch.tensor([[0, 1], [2 / 3, math.nan], [1 / 3, math.nan], [2 / 3, math.nan]])
    assert torch.allclose(plotting.ranks(cost), expected, equal_nan=True)


def test_heat_map_writes_each_number_and_shades_the_best_darkest():
    figure, ax = plt.subplots()
    values = torch.tensor([[1.0, 30.0], [2.0, 40.0], [math.nan, 50.0]])
    plotting.heat_map(ax, values, ["a", "b", "c"], ["x", "y"], ["{:.1f}", "{:.0f} %"], [False, True])
    assert [text.get_text() for text in ax.texts] == ["1.0", "30 %", "2.0", "40 %", "–", "50 %"]
    shades = ax.images[0].get_array()
    assert shades[0, 0] == 1
    assert shades[2, 1] == 1
    assert shades[1, 0] == shades[0, 1] == 0
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]
    plt.close(figure)


@pytest.mark.parametrize("more", [{"patterns": ["{:.1f}"]}, {"larger_is_better": [True]}])
def test_heat_map_wants_one_pattern_and_direction_a_column(more):
    figure, ax = plt.subplots()
    with pytest.raises(ValueError, match="^values must have shape"):
        plotting.heat_map(ax, torch.zeros(2, 2), ["a", "b"], ["x", "y"], **more)
    with pytest.raises(ValueError, match="^values must have shape"):
        plotting.heat_map(ax, torch.zeros(3, 2), ["a", "b"], ["x", "y"])
    plt.close(figure)


def test_show_writes_the_alt_text_into_the_output_and_closes(monkeypatch):
    shown = []
    monkeypatch.setattr(plotting, "display", lambda *things, **options: shown.append((things, options)))
    figure = plt.figure()
    plotting.show(figure, "Three dots in a row.")
    assert shown == [((figure,), {"metadata": {"image/png": {"alt": "Three dots in a row."}}})]
    assert not plt.fignum_exists(figure.number)


@pytest.mark.parametrize("alt", ["", "  ", None, 3])
def test_show_wants_words(alt):
    with pytest.raises(ValueError, match="^alt must"):
        plotting.show(plt.figure(), alt)
    plt.close("all")
