"""A function or a class that two lessons need stands in genlib: none is written alike in two places.

Names of arguments and local variables do not count, nor do docstrings, decorators and annotations.
"""

import ast
import json
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEAST = 3  # lines; shorter ones may well come twice


class Blank(ast.NodeTransformer):
    """Replaces each name by the number of its first appearance, and leaves out annotations."""

    def __init__(self):
        self.seen = {}

    def visit_Name(self, node):
        return ast.Name(self.seen.setdefault(node.id, f"name {len(self.seen)}"), node.ctx)

    def visit_arg(self, node):
        return ast.arg(self.seen.setdefault(node.arg, f"name {len(self.seen)}"))


def shape(node):
    """What a function or class does, whatever its names are."""
    node = ast.parse(ast.unparse(node)).body[0]
    node.name, node.decorator_list = "it", []
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef):
            part.returns = None
        if isinstance(part, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(part) is not None:
            part.body = part.body[1:] or [ast.Pass()]
    return ast.dump(Blank().visit(node))


def definitions(source):
    """The functions and classes of a piece of code that have something to say."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a magic command
        return
    for node in tree.body:
        record = isinstance(node, ast.ClassDef) and not any(
            isinstance(part, ast.FunctionDef) for part in node.body
        )
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not record:
            text = ast.unparse(node)
            if len(text.splitlines()) >= LEAST and "..." not in text:  # dots wait for a reader's answer
                yield node


def code_of(path):
    """The pieces of code of a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return [text]
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]


def written_twice(paths):
    """The names that stand in two files alike, with the files."""
    places = defaultdict(list)
    for path in paths:
        for source in code_of(path):
            for node in definitions(source):
                places[shape(node)].append((path.stem, node.name))
    return [found for found in places.values() if len({stem for stem, _ in found}) > 1]


def test_nothing_is_written_twice():
    lessons = sorted((ROOT / "notebooks").glob("*.ipynb"))
    modules = [path for path in sorted((ROOT / "genlib").rglob("*.py")) if "graders" not in path.parts]
    benchmarks = sorted((ROOT / "benchmarks").glob("*.py"))
    assert lessons
    assert written_twice([*lessons, *modules, *benchmarks]) == []


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        ('def g(b: int) -> int:\n    """Twice."""\n    c = 2 * b\n    return c', True),
        ("@decorated\ndef f(x):\n    y = 2 * x\n    return y", True),
        ("def f(x):\n    y = 3 * x\n    return y", False),
        ("def f(x):\n    y = 2 * x\n    return x", False),
    ],
)
def test_names_and_docstrings_do_not_count(tmp_path, other, alike):
    (tmp_path / "one.py").write_text("def f(x):\n    y = 2 * x\n    return y", encoding="utf-8")
    cells = [{"cell_type": "code", "source": ["%pip install x"]}, {"cell_type": "code", "source": [other]}]
    (tmp_path / "two.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert bool(written_twice([tmp_path / "one.py", tmp_path / "two.ipynb"])) == alike
