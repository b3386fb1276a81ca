"""The slider over frames: every position has its picture, and the page needs nothing else."""

import base64
import io
import json
import re

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter
from ipywidgets.embed import dependency_state
from PIL import Image

from genlib import widgets
from genlib.widgets import FrameSlider, Picture, slider

FEW = settings(max_examples=10)


@pytest.fixture(autouse=True)
def tidy():
    before = dict(mpl.rcParams)
    yield
    left = plt.get_fignums()
    plt.close("all")
    assert dict(mpl.rcParams) == before
    assert not left, "figures were left open"


def paint(value):
    """A figure of 22 × 11 dots, all of one grey: quick to draw."""
    return plt.figure(figsize=(0.2, 0.1), facecolor=str(value))


def draw(value):
    figure, ax = plt.subplots(figsize=(2, 1))
    ax.bar([0], [value])
    ax.set_ylim(0, 1)
    return figure


def make(values=(0.1, 0.5, 0.9), **settings):
    given = {"name": "height", "alt": lambda v: f"A bar of height {v}."}
    return slider(draw, values, **{**given, **settings})


def pictures(widget):
    """The decoded picture and the alt text of each frame."""
    found = []
    for child in widget.stack.children:
        data, alt, width, height = re.fullmatch(
            r'<img src="data:image/png;base64,([^"]+)" alt="([^"]*)" width="(\d+)" height="(\d+)" style="[^"]+">',
            child.value,
        ).groups()
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.size == (int(width), int(height))
        found.append((image, alt))
    return found


@FEW
@given(st.data(), st.sampled_from(["height", "h ", "Größe <1>"]), st.integers(2, 256))
def test_one_frame_for_each_value_with_its_alt_text(choices, name, colours):
    values = choices.draw(st.lists(st.integers(0, 10), min_size=2, max_size=5, unique=True))
    start = choices.draw(st.integers(0, len(values) - 1))
    widget = slider(
        paint, [v / 10 for v in values], name=name, alt=lambda v: f"Grey of level {v} & no other.",
        position=lambda v: f"g = {v}", start=start, colours=colours,
    )  # fmt: skip
    assert isinstance(widget, FrameSlider)
    assert widget.slider.options == tuple(f"g = {v / 10}" for v in values)
    assert widget.slider.description == name
    assert widget.slider.continuous_update  # the picture follows while the handle is dragged
    assert (widget.slider.index, widget.stack.selected_index) == (start, start)
    assert list(widget.children) == [widget.slider, widget.stack]
    assert len(pictures(widget)) == len(values)
    for v, (image, alt) in zip(values, pictures(widget), strict=True):
        assert alt == f"Grey of level {v / 10} &amp; no other."
        assert image.size == (22, 11)
        assert np.asarray(image.convert("L")).mean() == pytest.approx(25.5 * v, abs=2)
    assert str(widget.slider.options[0]) in repr(widget)


@FEW
@given(st.lists(st.text("abc01 .", min_size=1), min_size=2, max_size=6, unique=True), st.data())
def test_frames_stand_in_their_order_and_start_where_they_are_told(positions, choices):
    frames = [Picture(f"{k}", f"Frame <{k}>.", 22, 11) for k in range(len(positions))]
    start = choices.draw(st.integers(0, len(positions) - 1))
    widget = FrameSlider(frames, positions, "t", start)
    assert [child.value for child in widget.stack.children] == [frame.html for frame in frames]
    assert widget.slider.options == tuple(positions)
    assert (widget.slider.value, widget.stack.selected_index) == (positions[start], start)
    assert repr(widget) == f"Slider “t”: {len(frames)} pictures, from {positions[0]} to {positions[-1]}"


@FEW
@given(
    st.integers(2, 4),
    st.integers(max_value=-1),
    st.integers(0, 9),
    st.integers(max_value=1),
    st.integers(257),
)
def test_numbers_out_of_range_are_refused(count, below, above, few, many):
    values, drawn = range(count), []
    for start in (below, count + above):
        with pytest.raises(ValueError, match=f"^start must be from 0 to {count - 1}, got {start}$"):
            slider(drawn.append, values, name="n", alt=str, start=start)
    for colours in (few, many):
        with pytest.raises(ValueError, match=f"^colours must be from 2 to 256, got {colours}$"):
            slider(drawn.append, values, name="n", alt=str, colours=colours)
    with pytest.raises(ValueError, match="^position must tell the values apart, got "):
        slider(drawn.append, values, name="n", alt=str, position=lambda v: v % (count - 1))
    assert not drawn  # all is checked before the first picture is drawn


def test_positions_are_the_values_themselves_by_default():
    assert make().slider.options == ("0.1", "0.5", "0.9")


def test_frames_show_the_drawing_in_order():
    images = [image for image, _ in pictures(make())]
    assert {image.size for image in images} == {(220, 110)}  # 2 × 1 inches at 110 dots
    ink = [np.mean(np.asarray(image.convert("L")) < 200) for image in images]
    assert ink[0] < ink[1] < ink[2]


def test_colours_bound_the_palette():
    for colours in (2, 16, 64):
        for image, _ in pictures(make(colours=colours)):
            assert image.mode == "P"
            assert len(image.convert("RGB").getcolors()) <= colours
    assert len(pictures(make())[0][0].getcolors()) <= 64


def test_the_link_lives_in_the_page():
    widget = make()
    assert widget.link.source == (widget.slider, "index")
    assert widget.link.target == (widget.stack, "selected_index")
    assert widget.link.get_view_spec() is None or type(widget.link).__name__ == "Link"
    assert type(widget.link).__module__.startswith("ipywidgets")


def test_alt_text_is_escaped():
    widget = make(alt=lambda v: f'A "bar" < {v} & more')
    assert 'alt="A &quot;bar&quot; &lt; 0.1 &amp; more"' in widget.stack.children[0].value


VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.mark.parametrize("start", [0, 2])
def test_the_picture_that_shows_stands_beside_the_widget(start):
    widget = make(start=start, alt=lambda v: f'A "bar" < {v} & more')
    data, metadata = shown_by_ipython(widget)
    assert data.keys() == {"text/plain", "image/png", VIEW}
    assert data[VIEW]["model_id"] == widget.model_id
    assert f'src="data:image/png;base64,{data["image/png"]}"' in widget.stack.children[start].value
    assert metadata == {"image/png": {"alt": f'A "bar" < {(0.1, 0.5, 0.9)[start]} & more'}}
    widget.slider.index = 1  # with a kernel, a reader may show it again
    widget.stack.selected_index = 1
    assert f'base64,{shown_by_ipython(widget)[0]["image/png"]}"' in widget.stack.children[1].value


def shown_by_ipython(widget):
    """What IPython stores of a widget that ends a cell: its kinds of output, and their metadata."""
    return DisplayFormatter().format(widget)


def test_repr_is_short_and_stable():
    text = repr(make())
    assert text == repr(make()) == "Slider “height”: 3 pictures, from 0.1 to 0.9"


def test_state_holds_everything_that_a_page_needs():
    widget = make()
    state = dependency_state([widget])
    models = [entry["model_name"] for entry in state.values()]
    assert sorted(set(models)) == sorted(
        {"VBoxModel", "SelectionSliderModel", "StackModel", "HTMLModel", "LinkModel", "LayoutModel",
         "SliderStyleModel", "HTMLStyleModel"} & set(models)
    )  # fmt: skip
    assert models.count("HTMLModel") == 3
    assert models.count("LinkModel") == 1
    (link,) = (entry["state"] for entry in state.values() if entry["model_name"] == "LinkModel")
    assert link["source"] == [f"IPY_MODEL_{widget.slider.model_id}", "index"]
    assert link["target"] == [f"IPY_MODEL_{widget.stack.model_id}", "selected_index"]
    mentioned = set(re.findall(r"IPY_MODEL_([0-9a-f]+)", json.dumps(state)))
    assert mentioned <= set(state)
    assert len(json.dumps(state)) < 1_100_000


def test_a_headless_notebook_stores_the_state():
    source = """
import matplotlib.pyplot as plt
from genlib.widgets import slider
def draw(value):
    figure, ax = plt.subplots(figsize=(2, 1))
    ax.bar([0], [value])
    return figure
slider(draw, [1, 2], name="height", alt=lambda v: f"A bar of height {v}.")
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    (output,) = notebook.cells[0].outputs  # the figures themselves are not shown
    assert output.data["text/plain"] == "Slider “height”: 2 pictures, from 1 to 2"
    view = output.data[VIEW]["model_id"]
    still = base64.b64decode(output.data["image/png"])
    assert Image.open(io.BytesIO(still)).size == (220, 110)
    assert output.metadata == {"image/png": {"alt": "A bar of height 1."}}
    state = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    assert state[view]["model_name"] == "VBoxModel"
    assert "LinkModel" in [entry["model_name"] for entry in state.values()]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"values": []}, "^values must hold at least two positions, got 0"),
        ({"values": [1]}, "^values must hold at least two positions, got 1"),
        ({"start": 3}, "^start must be from 0 to 2, got 3"),
        ({"start": -1}, "^start must"),
        ({"start": 1.5}, "^start must"),
        ({"colours": 1}, "^colours must be from 2 to 256, got 1"),
        ({"colours": 257}, "^colours must"),
        ({"colours": 2.5}, "^colours must"),
        ({"alt": lambda v: ""}, "^alt must describe the picture, got ''"),
        ({"alt": lambda v: " \n"}, "^alt must"),
        ({"name": " "}, "^name must"),
        ({"position": lambda v: "same"}, "^position must"),
    ],
)
def test_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_pictures_have_a_limit(monkeypatch):
    size = sum(len(child.value) for child in make().stack.children)
    assert widgets.LIMIT == 1_000_000
    monkeypatch.setattr(widgets, "LIMIT", size)
    make()
    monkeypatch.setattr(widgets, "LIMIT", size - 1)
    with pytest.raises(ValueError, match=r"^values make 0\.\d\d MB of pictures, more than 1 MB"):
        make()


def test_values_may_be_an_array():
    assert make(np.array([0.25, 0.75])).slider.options == ("0.25", "0.75")
