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
from ipywidgets.embed import dependency_state
from PIL import Image

from genlib import widgets
from genlib.widgets import FrameSlider, slider


@pytest.fixture(autouse=True)
def tidy():
    before = dict(mpl.rcParams)
    yield
    left = plt.get_fignums()
    plt.close("all")
    assert dict(mpl.rcParams) == before
    assert not left, "figures were left open"


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
        data, alt = re.fullmatch(
            r'<img src="data:image/png;base64,([^"]+)" alt="([^"]*)">', child.value
        ).groups()
        found.append((Image.open(io.BytesIO(base64.b64decode(data))), alt))
    return found


def test_one_frame_for_each_value_with_its_alt_text():
    widget = make(position=lambda v: f"h = {v}")
    assert isinstance(widget, FrameSlider)
    assert widget.slider.options == ("h = 0.1", "h = 0.5", "h = 0.9")
    assert widget.slider.description == "height"
    assert widget.slider.continuous_update  # the picture follows while the handle is dragged
    assert [alt for _, alt in pictures(widget)] == [f"A bar of height {v}." for v in (0.1, 0.5, 0.9)]
    assert list(widget.children) == [widget.slider, widget.stack]
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


@pytest.mark.parametrize("start", [0, 1, 2])
def test_start(start):
    widget = make(start=start)
    assert (widget.slider.index, widget.stack.selected_index) == (start, start)


def test_alt_text_is_escaped():
    widget = make(alt=lambda v: f'A "bar" < {v} & more')
    assert 'alt="A &quot;bar&quot; &lt; 0.1 &amp; more"' in widget.stack.children[0].value


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
    view = output.data["application/vnd.jupyter.widget-view+json"]["model_id"]
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
