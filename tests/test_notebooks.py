"""The form of the lessons in notebooks/, and proof that each of its checks notices what it is for."""

import json
import re
from pathlib import Path

import nbformat
import notebook_form as form
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from scripts.build import toc_pages
from scripts.execute import package, repository_url

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = toc_pages(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
URL = repository_url(ROOT / "_config.yml")


def read(path):
    return nbformat.read(path, as_version=4)


def text_of(page):
    """The Markdown of a page of the book, be it a notebook or not."""
    notebook = ROOT / f"{page}.ipynb"
    if notebook.exists():
        return form.prose(read(notebook))
    return form.without_code((ROOT / f"{page}.md").read_text(encoding="utf-8"))


def labels_of(page):
    notebook = ROOT / f"{page}.ipynb"
    return form.labels(text_of(page)) + (form.figure_labels(read(notebook)) if notebook.exists() else [])


@pytest.fixture(scope="module")
def labels():
    return {page: labels_of(page) for page in PAGES}


@pytest.fixture(scope="module")
def cited():
    entries = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    return set(re.findall(r"^@\w+\{\s*([^,\s]+)", entries, flags=re.M))


# The lessons -------------------------------------------------------------------------------------------------


def test_there_is_a_lesson():
    assert LESSONS


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request):
    return request.param


def test_the_file_is_a_valid_notebook(lesson):
    raw = json.loads(lesson.read_text(encoding="utf-8"))
    assert (raw["nbformat"], raw["nbformat_minor"]) >= (4, 5)
    nbformat.validate(raw)


def test_place_in_the_book(lesson):
    front = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    assert form.place_complaints(read(lesson), f"notebooks/{lesson.stem}", PAGES, front) == []


@pytest.mark.parametrize(
    "check",
    [
        form.sections_complaints,
        form.equation_complaints,
        form.exercise_complaints,
        form.execution_complaints,
        form.image_complaints,
        form.widget_complaints,
        form.still_complaints,
        form.cell_complaints,
        form.size_complaints,
        form.portability_complaints,
    ],
    ids=lambda check: check.__name__.removesuffix("_complaints"),
)
def test_form(lesson, check):
    assert check(read(lesson)) == []


def test_settings(lesson):
    assert form.setting_complaints(read(lesson), URL) == []


# The book ----------------------------------------------------------------------------------------------------


def test_every_label_is_given_once(labels):
    assert form.duplicate_complaints(labels) == []


@pytest.mark.parametrize("page", PAGES)
def test_references_lead_somewhere(page, labels):
    known = [label for given in labels.values() for label in given]
    assert form.reference_complaints(text_of(page), known) == []


@pytest.mark.parametrize("page", PAGES)
def test_citations_are_in_the_bibliography(page, cited):
    assert form.citation_complaints(text_of(page), cited) == []


# The checks themselves: a small lesson in good form, and what is broken in it --------------------------------

ALT = "Two curves over x: the density P is flat, Q is narrow."
RECORD = {"label": "eq:tiny-sum", "relation": "==", "count": 3, "deviation": 0.0, "atol": 1e-10, "rtol": 0.0}
LINE = "eq:tiny-sum holds: 3 pairs agree, within 1e-10"


def exercise(number):
    label = f"ex:tiny-{number}"
    return [
        new_markdown_cell(f":::{{exercise}} A question\n:label: {label}\n\nHow many?\n:::"),
        new_markdown_cell(f":::{{solution-start}} {label}\n:class: dropdown\n:::"),
        new_code_cell(
            f'grade("{label}", 1)', outputs=[new_output("stream", name="stdout", text=f"{label}: right\n")]
        ),
        new_markdown_cell(":::{solution-end}\n:::"),
    ]


def tiny(url=""):
    """A small lesson to which no check objects."""
    view = {form.VIEW: {"model_id": "a1", "version_major": 2, "version_minor": 0}, "text/plain": "VBox()"}
    still = {"data": {**view, form.PNG: "aGk="}, "metadata": {form.PNG: {"alt": f"{ALT} & more"}}}
    cells = [
        new_markdown_cell("# Tiny\n\n**Goal**: see.\n\n**What you need**: no more than `$$ this $$`."),
        new_markdown_cell(
            "**Time**: about 5 minutes to read and work through; the cells run in about 3 s.\n\n"
            "```python\nx = '$$ no equation $$'\n```"
        ),
        new_code_cell(
            form.FIRST_CELL.format(package=json.dumps(package(url))),
            metadata={"colab": True, "tags": ["remove-cell"]},
        ),
        new_code_cell('device = "cpu"  # or "cuda"'),
        new_markdown_cell("## A sum\n\n$$ 1 + 1 = 2 $$ (eq:tiny-sum)\n\nwith\n\n$$\na := 1\n$$ (def:tiny-a)"),
        new_code_cell(
            'verify("eq:tiny-sum", left, right)',
            outputs=[new_output("display_data", {"text/plain": LINE}, metadata={"genlib": dict(RECORD)})],
        ),
        new_code_cell(
            "plotting.lines(x, y)",
            metadata={"mystnb": {"image": {"alt": ALT}, "figure": {"name": "fig:tiny"}}},
            outputs=[new_output("display_data", {"image/png": "aGVsbG8="})],
        ),
        new_code_cell("widgets.slider(frames)", outputs=[new_output("display_data", **still)]),
        new_markdown_cell(
            "## What goes wrong\n\nSee {eq}`eq:tiny-sum` and `code` {cite:t}`gauss1809, rao1945`."
        ),
        new_markdown_cell("## Summary\n\nDone.\n\n## Exercises"),
        *[cell for number in range(form.MIN_EXERCISES) for cell in exercise(number)],
        new_markdown_cell(
            "## Where the documents slip\n\nNowhere.\n\n## Where this leads\n\nOn.\n\n## References"
        ),
    ]
    nb = new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for i, (_, cell) in enumerate(form.code_cells(nb)):
        cell.execution_count = i + 1
    frame = f'<img alt="{ALT} {{}}" src="data:image/png;base64,{{}}">'
    ends = ["IPY_MODEL_b1", "IPY_MODEL_b2"]
    models = {
        "a1": ("VBoxModel", {"_dom_classes": ["genlib-frames"], "children": ends}),
        "b1": ("SelectionSliderModel", {"index": 1}),
        "b2": ("StackModel", {"selected_index": 1, "children": ["IPY_MODEL_c1", "IPY_MODEL_c2"]}),
        "c1": ("HTMLModel", {"value": frame.format("", "aGVsbG8=")}),
        "c2": ("HTMLModel", {"value": frame.format("&amp; more", "aGk=")}),
    }
    models = {name: {"model_name": kind, "state": state} for name, (kind, state) in models.items()}
    nb.metadata["widgets"] = nbformat.from_dict({form.STATE: {"state": models}})
    return nb


def find(nb, start):
    """The first cell whose source begins so."""
    return next(cell for cell in nb.cells if cell.source.startswith(start))


def replace(nb, old, new):
    """Change the source of every cell; the change must find its place."""
    assert any(old in cell.source for cell in nb.cells)
    for cell in nb.cells:
        cell.source = cell.source.replace(old, new)


FRONT = "The lesson [Tiny](../notebooks/tiny.ipynb) runs in 3 s."
CHECKS = {
    "sections": form.sections_complaints,
    "place": lambda nb: form.place_complaints(nb, "notebooks/tiny", ["notebooks/tiny"], FRONT),
    "equation": form.equation_complaints,
    "exercise": form.exercise_complaints,
    "execution": form.execution_complaints,
    "image": form.image_complaints,
    "widget": form.widget_complaints,
    "still": form.still_complaints,
    "cell": form.cell_complaints,
    "size": form.size_complaints,
    "portability": form.portability_complaints,
    "setting": lambda nb: form.setting_complaints(nb, ""),
    "reference": lambda nb: form.reference_complaints(form.prose(nb), form.labels(form.prose(nb))),
    "citation": lambda nb: form.citation_complaints(form.prose(nb), ["gauss1809", "rao1945"]),
    "duplicate": lambda nb: form.duplicate_complaints({"tiny": form.labels(form.prose(nb))}),
}


@pytest.mark.parametrize("name", CHECKS)
def test_no_check_objects_to_good_form(name):
    assert CHECKS[name](tiny()) == []


def outputs_of(start):
    return lambda nb: find(nb, start).outputs[0]


BREAKS = {
    # name of the break: (the check that must notice, a word of what it says, what is done to the lesson)
    "no goal": ("sections", "goal", lambda nb: replace(nb, "**Goal**", "Goal")),
    "no summary": ("sections", "summary", lambda nb: replace(nb, "## Summary", "## Sum")),
    "no references": ("sections", "references", lambda nb: replace(nb, "## References", "## Books")),
    "two titles": ("sections", "title", lambda nb: replace(nb, "## A sum", "# A sum")),
    "no time": ("sections", "Time", lambda nb: replace(nb, "about 3 s.", "a while.")),
    "other time": ("place", "'4 s'", lambda nb: replace(nb, "about 3 s.", "about 4 s.")),
    "longer time": ("place", "'13 s'", lambda nb: replace(nb, "about 3 s.", "about 13 s.")),
    "bare equation": ("equation", "no label", lambda nb: replace(nb, " (eq:tiny-sum)", "")),
    "bare directive": ("equation", "no label", lambda nb: replace(nb, "## A sum", "```{math}\n1\n```")),
    "bare align": (
        "equation",
        "no label",
        lambda nb: replace(nb, "## A sum", "\\begin{align}\n1\n\\end{align}"),
    ),
    "odd label": ("equation", "must be eq:", lambda nb: replace(nb, "(eq:tiny-sum)", "(sum)")),
    "not verified": ("equation", "no cell verifies", lambda nb: replace(nb, "verify(", "print(")),
    "verify in a comment": ("equation", "no cell verifies", lambda nb: replace(nb, "verify(", "# verify(")),
    "verify in a string": ("equation", "no cell verifies", lambda nb: replace(nb, "verify", "'verify'")),
    "label in a variable": (
        "equation",
        "literal",
        lambda nb: replace(nb, 'verify("eq:tiny-sum"', "verify(label"),
    ),
    "stray verify": ("equation", "no equation bears", lambda nb: replace(nb, "(eq:tiny-sum)", "(eq:other)")),
    "no stored line": ("equation", "no stored", lambda nb: find(nb, "verify").outputs.clear()),
    "other stored line": (
        "equation",
        "no stored",
        lambda nb: outputs_of("verify")(nb).data.update({"text/plain": "no"}),
    ),
    "no record": ("equation", "no stored", lambda nb: outputs_of("verify")(nb).metadata.clear()),
    "four exercises": (
        "exercise",
        "at least 5",
        lambda nb: replace(nb, ":::{exercise} A question\n:label: ex:tiny-0", ""),
    ),
    "exercise without label": ("exercise", "no label", lambda nb: replace(nb, ":label: ex:tiny-0", "")),
    "no solution": ("exercise", "no solution", lambda nb: replace(nb, ":::{solution-start} ex:tiny-1", "")),
    "solution of nothing": (
        "exercise",
        "no exercise bears",
        lambda nb: replace(nb, "{solution-start} ex:tiny-1", "{solution-start} ex:tiny-9"),
    ),
    "solution without end": (
        "exercise",
        "end",
        lambda nb: nb.cells.remove(find(nb, ":::{solution-end}")),
    ),
    "not graded": ("exercise", "no cell grades", lambda nb: replace(nb, 'grade("ex:tiny-1"', 'print("a"')),
    "solution is wrong": (
        "exercise",
        "is right",
        lambda nb: outputs_of('grade("ex:tiny-1"')(nb).update(text="ex:tiny-1: not yet. right"),
    ),
    "null count": ("execution", "counts", lambda nb: find(nb, "device").update(execution_count=None)),
    "out of order": ("execution", "counts", lambda nb: find(nb, "device").update(execution_count=9)),
    "error": (
        "execution",
        "error",
        lambda nb: find(nb, "device").outputs.append(
            new_output("error", ename="ValueError", evalue="", traceback=[])
        ),
    ),
    "warning": (
        "execution",
        "stderr",
        lambda nb: find(nb, "device").outputs.append(new_output("stream", name="stderr", text="Warning")),
    ),
    "progress bar": (
        "execution",
        "progress",
        lambda nb: find(nb, "device").outputs.append(
            new_output("stream", name="stdout", text=" 50%|##  | 1/2")
        ),
    ),
    "time stamps": ("execution", "time", lambda nb: find(nb, "device").metadata.update(execution={})),
    "no alt": ("image", "missing", lambda nb: find(nb, "plotting").metadata.clear()),
    "short alt": (
        "image",
        "short",
        lambda nb: find(nb, "plotting").metadata.mystnb.image.update(alt="A plot."),
    ),
    "empty phrase": (
        "image",
        "should say",
        lambda nb: find(nb, "plotting").metadata.mystnb.image.update(alt="Image of " + ALT),
    ),
    "alt of an earlier run": (
        "image",
        "execute the notebook",
        lambda nb: outputs_of("plotting")(nb).update(metadata={form.PNG: {"alt": ALT + ", or not"}}),
    ),
    "two images": (
        "image",
        "one image a cell",
        lambda nb: find(nb, "plotting").outputs.append(new_output("display_data", {"image/png": "aGk="})),
    ),
    "html image": (
        "image",
        "<img>",
        lambda nb: find(nb, "device").outputs.append(
            new_output("display_data", {"text/html": "<img src='a'>"})
        ),
    ),
    "markdown image": ("image", "Markdown", lambda nb: replace(nb, "## A sum", "![](a.png)")),
    "frame without alt": (
        "image",
        "widget",
        lambda nb: form.widget_state(nb)["c2"].state.update(value="<img src='a'>"),
    ),
    "image model": ("image", "Image", lambda nb: form.widget_state(nb)["c2"].update(model_name="ImageModel")),
    "still with short alt": (
        "image",
        "short",
        lambda nb: outputs_of("widgets")(nb).metadata[form.PNG].update(alt="A plot."),
    ),
    "no state": ("widget", "without state", lambda nb: nb.metadata.pop("widgets")),
    "half a state": ("widget", "b2", lambda nb: form.widget_state(nb).pop("b2")),
    "no still": ("still", "no image/png", lambda nb: outputs_of("widgets")(nb).data.pop(form.PNG)),
    "still of another frame": (
        "still",
        "is not the frame",
        lambda nb: outputs_of("widgets")(nb).data.update({form.PNG: "aGVsbG8="}),
    ),
    "still without alt": ("still", "alt text", lambda nb: outputs_of("widgets")(nb).metadata.clear()),
    "still with another alt": (
        "still",
        "alt text",
        lambda nb: outputs_of("widgets")(nb).metadata[form.PNG].update(alt=ALT),
    ),
    "two starts": ("still", "start", lambda nb: form.widget_state(nb)["b1"].state.update(index=0)),
    "long cell": ("cell", "26 lines", lambda nb: replace(nb, "plotting.lines(x, y)", "x = 1\n" * 26)),
    "long cells": ("cell", "median", lambda nb: replace(nb, "grade(", "x = 1\n" * 9 + "grade(")),
    "semicolon": (
        "cell",
        "semicolon",
        lambda nb: replace(nb, "plotting.lines(x, y)", "plotting.lines(x, y);\n"),
    ),
    "empty cell": ("cell", "empty", lambda nb: find(nb, "device").update(source=" \n")),
    "no id": ("cell", "no id", lambda nb: nb.cells[1].pop("id")),
    "same id": ("cell", "have the id", lambda nb: nb.cells[1].update(id=nb.cells[0].id)),
    "other kernel": ("cell", "python3", lambda nb: nb.metadata.kernelspec.update(name="mine")),
    "two megabytes": (
        "size",
        "MB",
        lambda nb: outputs_of("plotting")(nb).data.update({"image/png": "a" * 2_000_000}),
    ),
    "home": ("portability", "absolute", lambda nb: replace(nb, "left", 'open("/home/me/x")')),
    "path in an output": (
        "portability",
        "absolute",
        lambda nb: outputs_of("grade")(nb).update(text="saved in /tmp/x.png\n"),
    ),
    "install": (
        "portability",
        "installs",
        lambda nb: replace(nb, "plotting", "%pip install torch\nplotting"),
    ),
    "shell": ("portability", "shell", lambda nb: replace(nb, "plotting", "!ls\nplotting")),
    "download": ("portability", "downloads", lambda nb: replace(nb, "plotting", "urlretrieve(a)\nplotting")),
    "other repository": (
        "setting",
        "looks for genlib",
        lambda nb: replace(nb, 'package = ""', 'package = "x"'),
    ),
    "colab not first": (
        "setting",
        "looks for genlib",
        lambda nb: nb.cells.insert(0, new_code_cell("import torch")),
    ),
    "colab in the page": (
        "setting",
        "remove-cell",
        lambda nb: find(nb, "# Nothing below").metadata.tags.clear(),
    ),
    "no device": ("setting", "Settings", lambda nb: replace(nb, "device =", "seed =")),
    "stored on a GPU": ("setting", "Settings", lambda nb: replace(nb, '"cpu"  #', '"cuda"  #')),
    "device named twice": ("setting", "names a device", lambda nb: replace(nb, "frames", 'device="cpu"')),
    "dead reference": ("reference", "eq:none", lambda nb: replace(nb, "{eq}`eq:tiny-sum`", "{eq}`eq:none`")),
    "dead link": ("reference", "nowhere", lambda nb: replace(nb, "Done.", "[Done](#nowhere).")),
    "dead citation": ("citation", "rao1946", lambda nb: replace(nb, "rao1945", "rao1946")),
    "label twice": ("duplicate", "2 times", lambda nb: replace(nb, "def:tiny-a", "eq:tiny-sum")),
}


@pytest.mark.parametrize("name", BREAKS)
def test_broken_form_is_noticed(name):
    check, word, damage = BREAKS[name]
    nb = tiny()
    damage(nb)
    complaints = CHECKS[check](nb)
    assert any(word in complaint for complaint in complaints), complaints


def test_a_lesson_must_be_in_the_table_of_contents_and_on_the_front_page():
    assert form.place_complaints(tiny(), "notebooks/tiny", [], FRONT) == ["notebooks/tiny is not in _toc.yml"]
    said = form.place_complaints(
        tiny(), "notebooks/tiny", ["notebooks/tiny"], "[Tin](../notebooks/tin.ipynb) 3 s"
    )
    assert said == ["the front page does not link to it"]


def test_a_label_on_two_pages_is_noticed():
    assert form.duplicate_complaints({"a": ["eq:x"], "b": ["eq:x"]}) == ["eq:x is given 2 times: a, b"]


def test_code_is_no_text():
    text = (
        "a\n```{math}\n:label: eq:a\nx\n```\n{eq}`eq:a` or `$$ b $$`\n```python\n$$ c $$\n```\n$$ d $$ (eq:d)"
    )
    assert [label for label, _ in form.equations(form.without_code(text))] == ["eq:d", "eq:a"]
    assert "{eq}`eq:a`" in form.without_code(text)
