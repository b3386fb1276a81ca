"""Figures show what they are given: heights, extents, labels; and they refuse what they cannot show."""

import itertools
import math

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from genlib import data, plotting
from genlib.training import History

BOX = ((-3.0, 3.0), (-2.0, 4.0))


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


# bars


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_bars_have_the_heights_and_do_not_overlap(ax, count):
    groups = {f"Q{i}": torch.tensor([0.1 * i, 0.5, 0.5 - 0.1 * i]) for i in range(count)}
    assert plotting.bars(ax, groups, ["a", "b", "c"]) is ax
    assert [c.get_label() for c in ax.containers] == list(groups)
    for container, probs in zip(ax.containers, groups.values(), strict=True):
        assert [bar.get_height() for bar in container] == pytest.approx(probs.tolist())
    for k in range(3):
        spans = [(c[k].get_x(), c[k].get_x() + c[k].get_width()) for c in ax.containers]
        assert all(left[1] < right[0] for left, right in itertools.pairwise(spans))
        assert (spans[0][0] + spans[-1][1]) / 2 == pytest.approx(k)
        assert spans[-1][1] < k + 0.5
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b", "c"]
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


def test_density_is_exp_log_prob_the_right_way_up(ax):
    source = data.GaussianMixture([[1.5, 3.0]], 0.3)
    assert plotting.density(ax, source, BOX, 60) is ax
    (image,) = ax.images
    shown = np.asarray(image.get_array())
    assert shown.shape == (60, 60)
    assert image.get_extent() == [-3, 3, -2, 4]
    assert image.origin == "lower"
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    assert -3 + 6 * (column + 0.5) / 60 == pytest.approx(1.5, abs=0.11)
    assert -2 + 6 * (row + 0.5) / 60 == pytest.approx(3.0, abs=0.11)
    assert shown.sum() * 0.1**2 == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(shown.ravel(), source.log_prob(data.lattice(BOX, 60).float()).exp(), rtol=1e-5)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_aspect()) == ("$x_1$", "$x_2$", 1)
    assert "density" in ax.figure.axes[-1].get_ylabel()


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


def test_points_are_where_they_are(ax):
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert plotting.points(ax, x, BOX, "samples", plotting.ORANGE) is ax
    (cloud,) = ax.collections
    np.testing.assert_allclose(cloud.get_offsets(), x.detach())
    assert cloud.get_label() == "samples"
    assert mpl.colors.same_color(cloud.get_facecolor()[0][:3], plotting.ORANGE)
    assert (ax.get_xlim(), ax.get_ylim()) == BOX
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_aspect()) == ("$x_1$", "$x_2$", 1)


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


# loss curves


def test_loss_curve(ax):
    loss = np.random.default_rng(0).random(200).tolist()
    assert plotting.loss_curve(ax, History(loss=loss, lr=[0.1] * 200), floor=0.25) is ax
    each, mean, floor = ax.lines
    np.testing.assert_array_equal(each.get_xdata(), np.arange(1, 201))
    np.testing.assert_array_equal(each.get_ydata(), loss)
    np.testing.assert_array_equal(mean.get_xdata(), np.arange(4, 201))  # 2 % of 200 steps
    np.testing.assert_allclose(mean.get_ydata(), [np.mean(loss[k : k + 4]) for k in range(197)])
    assert set(floor.get_ydata()) == {0.25}
    assert floor.get_linestyle() != mean.get_linestyle()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "each batch",
        "mean of 4 steps",
        "least on fresh data",
    ]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss (nats)")


def test_short_loss_curves(ax):
    plotting.loss_curve(ax, History(loss=[3.0, 1.0]), unit="bits")
    assert len(ax.lines) == 2
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [3, 1])
    assert ax.get_ylabel() == "loss (bits)"
    with pytest.raises(ValueError, match="^history must hold at least one step, got none"):
        plotting.loss_curve(ax, History())


# image sheets


@pytest.mark.parametrize(("n", "columns", "count"), [(5, 3, 2), (3, 8, 1), (8, 8, 1), (9, 8, 2), (1, 1, 1)])
def test_images(n, columns, count):
    sheet = torch.arange(n)[:, None, None].expand(n, 4, 5)
    figure = plotting.images(sheet, columns, levels=10, rows=[f"row {i}" for i in range(count)])
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == n
    assert len(figure.axes) == count * min(columns, n)
    for i, ax in enumerate(shown):
        image = ax.images[0]
        np.testing.assert_array_equal(image.get_array(), np.full((4, 5), i))
        assert image.get_clim() == (0, 10)
        assert image.get_cmap().name == "gray_r"  # 0 is white paper
        assert ax.get_subplotspec().get_geometry()[1] == min(columns, n)
    assert not any(ax.axison for ax in figure.axes)
    assert [strip.get_suptitle() for strip in figure.subfigs] == [f"row {i}" for i in range(count)]


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


def test_colours_differ_in_lightness_from_paper():
    for colour in (plotting.BLUE, plotting.ORANGE, plotting.GREEN, plotting.PURPLE, plotting.GREY):
        assert contrast(colour, "white") >= 3
