"""scripts/execute.py, tried on small notebooks."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import genlib
from scripts import execute

WIDGETS = """\
import ipywidgets as widgets

slider = widgets.SelectionSlider(options=["a", "b"])
stack = widgets.Stack([widgets.HTML("<b>a</b>"), widgets.HTML("<b>b</b>")])
link = widgets.jslink((slider, "index"), (stack, "selected_index"))
hidden = widgets.jslink((widgets.IntSlider(), "value"), (widgets.IntSlider(), "value"))
widgets.VBox([slider, stack])"""


@pytest.fixture
def tree(tmp_path):
    """A tree with a folder of notebooks; returns a function that adds one."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_config.yml").write_text(
        'repository:\n  url: "https://example.org/book"\n', encoding="utf-8"
    )

    def add(name, *sources, **metadata):
        cells = [new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=[new_markdown_cell("# Text", id="text"), *cells]), path)
        return path

    return add


def read(path):
    return nbformat.read(path, as_version=4)


def test_outputs_are_stored_the_same_at_every_run(tree, tmp_path):
    path = tree("good", "print(1)\nprint(2, flush=True)\nprint(3)", "x = 20", "x + 1", WIDGETS)
    assert execute.main([], tmp_path) == 0
    first = path.read_bytes()
    nb = read(path)
    assert [cell.execution_count for cell in nb.cells[1:]] == [1, 2, 3, 4]
    assert [cell.id for cell in nb.cells] == ["text", "cell-0", "cell-1", "cell-2", "cell-3"]
    assert [output.text for output in nb.cells[1].outputs] == ["1\n2\n3\n"]
    assert nb.cells[3].outputs[0].data["text/plain"] == "21"
    assert all(cell.metadata == {} for cell in nb.cells)  # no time stamps
    assert nb.metadata.kernelspec.name == "python3"
    assert "version" not in nb.metadata.language_info
    nbformat.validate(nb)

    assert execute.main(["good"], tmp_path) == 0
    assert path.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["good.ipynb"]


def test_the_state_of_what_is_shown_is_stored_and_no_more(tree, tmp_path):
    path = tree("alive", WIDGETS)
    execute.main([], tmp_path)
    nb = read(path)
    models = nb.metadata.widgets[execute.STATE]["state"]
    (shown,) = execute.displayed_widgets(nb)
    assert models[shown]["model_name"] == "VBoxModel"
    kinds = sorted(model["model_name"] for model in models.values())
    assert kinds.count("HTMLModel") == 2
    assert kinds.count("SelectionSliderModel") == kinds.count("StackModel") == kinds.count("LinkModel") == 1
    assert "IntSliderModel" not in kinds
    (link,) = [model["state"] for model in models.values() if model["model_name"] == "LinkModel"]
    ends = [end[0].removeprefix("IPY_MODEL_") for end in (link["source"], link["target"])]
    assert [models[end]["model_name"] for end in ends] == ["SelectionSliderModel", "StackModel"]


def test_widgets_that_are_shown_no_more_leave_no_state(tree, tmp_path):
    path = tree("was_alive", WIDGETS)
    execute.main([], tmp_path)
    nb = read(path)
    nb.cells[1].source = WIDGETS + ";"
    nbformat.write(nb, path)
    execute.main([], tmp_path)
    assert "widgets" not in read(path).metadata


def test_a_failure_is_named_and_keeps_its_file_and_the_others(tree, tmp_path, capfd):
    good = tree("good", "print('stored')")
    bad = tree("bad", "print('before')", "def divide(x):\n    return x / 0\n\ndivide(1)", "print('after')")
    before = bad.read_bytes()
    assert execute.main([], tmp_path) == 1
    assert bad.read_bytes() == before
    assert read(good).cells[1].outputs[0].text == "stored\n"
    shown = capfd.readouterr().err
    assert "FAILED bad.ipynb, cell 2" in shown
    assert "| def divide(x):" in shown
    assert "ZeroDivisionError: division by zero" in shown
    assert "1 of 2 failed" in shown
    assert "good.ipynb" not in shown
    assert sorted(file.name for file in bad.parent.iterdir()) == ["bad.ipynb", "good.ipynb"]


def test_a_kernel_that_dies_is_a_failure(tree, tmp_path, capfd):
    path = tree("dies", "import os\n\nos._exit(1)")
    before = path.read_bytes()
    assert execute.main([], tmp_path) == 1
    assert path.read_bytes() == before
    assert "FAILED dies.ipynb, cell 1" in capfd.readouterr().err


def test_a_file_that_is_no_notebook_is_a_failure(tree, tmp_path, capfd):
    good = tree("good", "print('stored')")
    broken = good.with_name("broken.ipynb")
    broken.write_text("{", encoding="utf-8")
    assert execute.main([], tmp_path) == 1
    assert broken.read_text(encoding="utf-8") == "{"
    assert "FAILED broken.ipynb" in capfd.readouterr().err
    assert read(good).cells[1].outputs


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_an_interrupt_ends_every_kernel_and_keeps_every_file(tree, tmp_path):
    source = (
        "from pathlib import Path\nimport os, time\n\n"
        "Path('{}').write_text(str(os.getpid()), encoding='utf-8')\ntime.sleep(60)"
    )
    paths = [tree(name, source.format(name)) for name in ("one", "two")]
    before = [path.read_bytes() for path in paths]
    main = f"execute.main(['--workers=2'], pathlib.Path({str(tmp_path)!r}))"
    code = f"import pathlib; from scripts import execute; {main}"
    root = Path(execute.__file__).parents[1]
    running = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stderr=subprocess.PIPE, encoding="utf-8"
    )
    marks = [path.with_suffix("") for path in paths]
    deadline = time.monotonic() + 60
    while (
        not all(mark.exists() and mark.read_text(encoding="utf-8") for mark in marks)
        and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    kernels = [int(mark.read_text(encoding="utf-8")) for mark in marks]
    running.send_signal(signal.SIGINT)
    _, shown = running.communicate(timeout=60)
    assert "stopped" in shown
    assert "FAILED" not in shown
    assert [path.read_bytes() for path in paths] == before
    for kernel in kernels:
        with pytest.raises(ProcessLookupError):
            os.kill(kernel, 0)


def test_one_notebook_can_be_named(tree, tmp_path):
    one, other = tree("one", "1"), tree("other", "2")
    before = other.read_bytes()
    assert execute.main(["notebooks/one.ipynb"], tmp_path) == 0
    assert read(one).cells[1].execution_count == 1
    assert other.read_bytes() == before


def test_an_unknown_name_lists_the_known(tree, tmp_path, capsys):
    tree("one", "1")
    tree("two", "2")
    assert execute.main(["three"], tmp_path) != 0
    assert "no notebook is called three; there are: one, two" in capsys.readouterr().err


def test_the_first_cell_gets_the_books_own_version(tree, tmp_path):
    path = tree("colab", 'package = ""\nprint(package)', 'package = "mine"')
    nb = read(path)
    nb.cells[1].metadata["colab"] = True
    nbformat.write(nb, path)
    execute.main([], tmp_path)
    cells = read(path).cells
    wanted = f"git+https://example.org/book@v{genlib.__version__}"
    assert cells[1].source == f'package = "{wanted}"\nprint(package)'
    assert cells[2].source == 'package = "mine"'


@pytest.mark.parametrize("text", ["", "repository:\n", 'repository: {url: ""}\n', "repository: {url: }\n"])
def test_no_repository_is_an_empty_address(tmp_path, text):
    (tmp_path / "_config.yml").write_text(text, encoding="utf-8")
    assert execute.repository_url(tmp_path / "_config.yml") == ""


def test_a_kernel_keeps_to_one_core(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert execute.kernel_environment()["OMP_NUM_THREADS"] == "1"


# Trials, which store nothing ---------------------------------------------------------------------------------


def stored(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_trial_on_another_device_says_which_cell_failed_and_stores_nothing(tree, tmp_path, capfd):
    tree("good", 'device = "cpu"  # or "cuda"', "import torch\nassert torch.zeros(1, device=device).is_meta")
    tree("bad", 'device = "cpu"', "1 / 0", "2")
    tree("none", "1")
    before = stored(tmp_path)
    assert execute.main(["--device", "meta"], tmp_path) == 1
    assert stored(tmp_path) == before
    shown = capfd.readouterr()
    assert re.search(r"\| good +\| +\d+ \| none +\|", shown.out)
    assert re.search(r"\| bad +\| +\d+ \| cell 2 +\|", shown.out)
    assert re.search(r'\| none +\| +0 \| one cell must say device = "cpu", 0 do \|', shown.out)
    assert "ZeroDivisionError" in shown.err
    assert "2 of 3 failed" in shown.err


def test_every_cell_can_be_run_twice(tree, tmp_path, capfd):
    tree("good", "x = 1", "y = x + 1\nassert y == 2")
    tree("adds", "x = 1", "x = x + 1\nassert x == 2", "x")
    before = stored(tmp_path)
    assert execute.main(["--twice", "good", "adds"], tmp_path) == 1
    assert stored(tmp_path) == before
    shown = capfd.readouterr().out
    assert re.search(r"\| good +\| +\d+ \| none +\|", shown)
    assert re.search(r"\| adds +\| +\d+ \| cell 2, second time +\|", shown)


def test_the_settings_cell_alone_gets_the_device():
    cells = [new_code_cell('device = "cpu"  # or "cuda"\nother = "cpu"'), new_markdown_cell('device = "cpu"')]
    nb = new_notebook(cells=cells)
    execute.on_device(nb, "cuda")
    assert nb.cells[0].source == 'device = "cuda"  # or "cuda"\nother = "cpu"'
    assert nb.cells[1].source == 'device = "cpu"'
