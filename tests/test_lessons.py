"""scripts/lessons.py and scripts/changed.py: the order of the lessons, and which of them must run again."""

import ast
import json
import re
import statistics
import tokenize
from io import StringIO
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from scripts import lessons
from scripts.changed import Library, Module, bound

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# What a lesson reaches, on a small package ---------------------------------------------------------------------

FILES = {
    "__init__": "__version__ = '1'\n",
    "shapes": """
        from genlib import helpers as h
        from genlib.helpers import half as halve
        WIDTH = 3
        def base(): return 1
        class Base: pass
        class Square(Base):
            def area(self): return side() ** 2
        def side(): return WIDTH
        def late():
            from genlib.helpers import only_late
            return only_late()
        def default(x=base()): return x
        def halved(): return halve(2)
        def doubled(): return h.double(2)
        def alone(): return 0
        """,
    "helpers": """
        def half(x): return x / 2
        def double(x): return 2 * x
        def only_late(): return 5
        def unused(): return 6
        """,
    "registry": """
        KNOWN = {}
        def register(function):
            KNOWN[function.__name__] = function
            return function
        @register
        def first(): return second()
        def second(): return 2
        def third(): return 3
        TABLE = dict(a=second)
        FIXED = {"a": 1}
        """,
    "late": "if True:\n    setting = 1\ndef f(): return 1\nf.mark = 2\n",
    "pack.__init__": "from genlib.pack.core import Thing as Renamed, make\n__all__ = ['Renamed', 'make']\n",
    "pack.core": """
        from ..helpers import double
        class Thing: pass
        def make(): return double(2)
        def other(): return 1
        """,
    "stored.__init__": "from genlib.stored.read import load\n",
    "stored.read": "def load(): return 1\ndef save(): return 2\n",
    "graders.__init__": "",
    "graders.one": """
        from genlib.checks import grader
        def helper(): return 1
        @grader('ex:one')
        def _(answer): helper()
        """,
    "graders.two": "from genlib.checks import grader\n@grader('ex:two')\ndef _(answer): pass\n",
    "checks": """
        import importlib
        def grader(label): return lambda function: function
        def grade(label, answer):
            import genlib.graders
            importlib.import_module("genlib.graders.one")
        def look(): return importlib.import_module("genlib.helpers")
        """,
}


def lay_out(text):
    lines = text.strip("\n").splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "".join(line[indent:] + "\n" for line in lines)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    root = tmp_path_factory.mktemp("package")
    for name, text in FILES.items():
        path = root / "genlib" / Path(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lay_out(text), encoding="utf-8")
    (root / "genlib" / "stored" / "results").mkdir()
    (root / "genlib" / "stored" / "results" / "runs.csv").write_text("1\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("code", "reached", "not_reached"),
    [
        ("import math", "", "shapes.base helpers.half"),
        (
            "from genlib import shapes\nshapes.Square()",
            "shapes.Square shapes.Base shapes.side shapes.WIDTH",
            "shapes.alone helpers.half",
        ),
        ("from genlib.shapes import halved as f\nf()", "shapes.halved helpers.half", "helpers.double"),
        ("from genlib import shapes as s\ns.doubled()", "helpers.double", "helpers.half"),
        ("import genlib.shapes as s\ns.late()", "helpers.only_late", "helpers.unused"),
        ("import genlib.shapes\ngenlib.shapes.default()", "shapes.default shapes.base", "shapes.alone"),
        ("from genlib import shapes\nf = shapes", "shapes.alone shapes.late", "helpers.unused"),
        ("from genlib import shapes\ngetattr(shapes, 'al' + 'one')", "shapes.alone", "helpers.unused"),
        ("from genlib.shapes import *", "shapes.alone shapes.WIDTH helpers.only_late", "helpers.unused"),
        (
            "from genlib import registry\nregistry.FIXED",
            "registry. registry.second registry.register",
            "",
        ),
        ("from genlib import registry\nregistry.FIXED", "registry.TABLE registry.KNOWN", "registry.third"),
        ("from genlib import late", "late. late.f", "helpers.half"),
        ("from genlib import pack\npack.Renamed()", "pack.core.Thing", "pack.core.make helpers.double"),
        ("from genlib.pack import make\nmake()", "pack.core.make helpers.double", "pack.core.Thing"),
        ("from genlib import pack\npack.core.other()", "pack.core.other", "pack.core.make"),
        ("from genlib import pack\npack.none", "pack.core.other pack.core.make", "shapes.alone"),
        (
            "from genlib.checks import grade\ngrade('ex:one', 1)",
            "graders.one.helper checks.grade",
            "helpers.half",
        ),
        ("from genlib.checks import grade\ngrade('ex:one', 1)", "graders.one._", "graders.two._"),
        ("from genlib.checks import look\nlook()", "helpers.unused shapes.alone", ""),
        ("eval('genlib')", "helpers.unused shapes.alone", ""),
        ("def f(:", "helpers.unused shapes.alone", ""),
        (
            "def f():\n    from genlib.helpers import half\n    return [half(x) for x in y]",
            "helpers.half",
            "helpers.double",
        ),
        ("from genlib import helpers\nf(1)(helpers.half).g", "helpers.half", "helpers.double"),
    ],
)
def test_what_code_reaches(package, code, reached, not_reached):
    found = {f"{module}.{name}".removeprefix("genlib.") for module, name in Library(package).reached(code)}
    assert set(reached.split()) <= found
    assert not set(not_reached.split()) & found


def test_data_beside_a_module_count(package):
    library = Library(package)
    by_code = [
        library.data({name for name, _ in library.reached(f"from genlib import {x}")})
        for x in ("stored", "pack")
    ]
    assert [list(found) for found in by_code] == [["genlib/stored/results/runs.csv"], []]


# What a lesson reaches, on genlib ------------------------------------------------------------------------------


def code_of(path):
    nb = nbformat.read(path, as_version=4)
    plain = TransformerManager().transform_cell
    return "\n".join(plain(cell.source) for cell in nb.cells if cell.cell_type == "code")


@pytest.fixture(scope="module")
def library():
    return Library(ROOT)


def named(code, library):
    """The definitions that a lesson names itself, by its words alone: `module.name`, or a name that it imports."""
    words = [token.string for token in tokenize.generate_tokens(StringIO(code).readline)]
    text = " ".join(word for word in words if word.strip()).replace("import ( ", "import ")
    found = set()
    for module, held in library.modules.items():
        last = module.rpartition(".")[2]
        imported = re.findall(rf"from {module.replace('.', ' . ')} import ([\w ,]+)", text)
        for name in held.definitions:
            by_module = re.search(rf"(?<!\. ){last} \. {name}\b", text) and f"import {last}" in re.sub(
                r"(from genlib import )[\w ,]*?\b" + last + r"\b", rf"\1{last}", text
            )
            if by_module or any(name in names.replace(" ", "").split(",") for names in imported):
                found.add((module, name))
    return found


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_reaches_what_it_names(path, library):
    code = code_of(path)
    reached = library.reached(code)
    assert len(named(code, library)) > 5
    assert named(code, library) <= reached


def test_a_lesson_does_not_reach_everything(library):
    every = sum(len(module.definitions) for module in library.modules.values())
    counts = [len([name for _, name in library.reached(code_of(path)) if name]) for path in LESSONS]
    assert statistics.median(counts) < every / 2


def altered(text, names):
    """The text of a module in which some definitions do something else."""
    tree = ast.parse(text)
    for statement in tree.body:
        if not set(bound(statement)) & set(names):
            continue
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            statement.body.append(ast.Pass())
        else:
            statement.value = ast.Tuple([statement.value], ast.Load())
    return ast.unparse(ast.fix_missing_locations(tree))


def put(library, name, text):
    """Give a module of a library another text."""
    package = name if library.places[name].stem == "__init__" else name.rpartition(".")[0]
    library.texts[name], library.modules[name] = text, Module(text, package)
    library.next.cache_clear()
    library.text.cache_clear()


def test_every_definition_counts_in_what_is_hashed(library):
    count = 0
    for module, held in library.modules.items():
        other = Module(altered(library.texts[module], held.definitions)).definitions
        for name, nodes in held.definitions.items():
            assert [*map(ast.dump, other[name])] != [*map(ast.dump, nodes)], (module, name)
            count += 1
    assert count > 300


@pytest.fixture(scope="module")
def written():
    """The library with every module written by ast.unparse, so that a change in one place is a change there alone."""
    library = Library(ROOT)
    for name, text in library.texts.items():
        put(library, name, ast.unparse(ast.parse(text)))
    return library


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_change_in_what_a_lesson_names_changes_what_it_reaches(path, written):
    """One definition of every module, the last of the alphabet."""
    code = code_of(path)
    before = lessons.reached(code, written)
    for module, name in dict(sorted(named(code, written))).items():
        text = written.texts[module]
        put(written, module, altered(text, [name]))
        assert lessons.reached(code, written) != before, (module, name)
        put(written, module, text)
    assert lessons.reached(code, written) == before


# The key -------------------------------------------------------------------------------------------------------


def lesson(**changes):
    """A small lesson that uses shapes.halved of the small package."""
    stored = new_output("stream", name="stdout", text=changes.get("printed", "1.0\n"))
    picture = new_output(
        "display_data", {"image/png": changes.get("picture", "aGk="), "text/plain": "<Figure>"}
    )
    record = new_output(
        "display_data", {"text/plain": "eq:a holds"}, metadata={"genlib": changes.get("record", 1e-16)}
    )
    source = changes.get("source", "from genlib import shapes\nprint(shapes.halved())")
    code = new_code_cell(
        source, id="a", execution_count=changes.get("count", 1), outputs=[stored, picture, record]
    )
    code.metadata.update(
        tags=changes.get("tags", []), mystnb={"image": {"alt": changes.get("alt", "A line.")}}
    )
    return new_notebook(cells=[new_markdown_cell(changes.get("prose", "# Title"), id="b"), code])


@pytest.fixture
def key_of(package, tmp_path):
    def key_of(around=1, **changes):
        path = tmp_path / "small.ipynb"
        nbformat.write(lesson(**changes), path)
        return lessons.key(path, Library(package), {"around": around})

    return key_of


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"source": "from genlib import shapes\nprint(shapes.halved(), 1)"}, True),
        ({"source": "from genlib import shapes\nprint(shapes.halved())  # NBVAL_SKIP"}, True),
        ({"printed": "2.0\n"}, True),
        ({"tags": ["nbval-ignore-output"]}, True),
        ({"count": None}, True),
        ({"around": 2}, True),
        ({"prose": "# Another title"}, False),
        ({"picture": "aGkh"}, False),
        ({"alt": "Two lines."}, False),
        ({"record": 2e-16}, False),
    ],
)
def test_what_counts_in_a_key(key_of, change, counts):
    assert (key_of(**change) != key_of()) == counts


@pytest.mark.parametrize(
    ("place", "old", "new", "counts"),
    [
        ("shapes.py", "halve(2)", "halve(3)", True),
        ("helpers.py", "x / 2", "x / 3", True),
        ("helpers.py", "2 * x", "3 * x", False),
        ("helpers.py", "def half(x): return x / 2", "# half\ndef half(x):\n    return (x / 2)", False),
        ("shapes.py", "import half as halve", "import double as halve", True),
        ("shapes.py", "def alone(): return 0", "def alone(): return 1", False),
        ("shapes.py", "def alone(): return 0", "def alone(): return 0\nprint(1)", True),
        ("registry.py", "return 2", "return 3", False),
        ("stored/results/runs.csv", "1", "2", False),
    ],
)
def test_which_change_of_the_package_counts(package, key_of, place, old, new, counts):
    path = package / "genlib" / place
    text, before = path.read_text(encoding="utf-8"), key_of()
    assert old in text
    try:
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        assert (key_of() != before) == counts
    finally:
        path.write_text(text, encoding="utf-8")
    assert key_of() == before


def test_stored_data_count(package, key_of):
    source = "from genlib import stored\nstored.load()"
    path, before = package / "genlib" / "stored" / "results" / "runs.csv", key_of(source=source)
    path.write_text("2\n", encoding="utf-8")
    assert key_of(source=source) != before
    path.write_text("1\n", encoding="utf-8")


def test_what_all_lessons_depend_on():
    around = lessons.environment()
    assert set(around) == {"lock", "installed", "python", "system", "run"}
    assert "torch==" in around["lock"]
    assert any(name.startswith("torch==") for name in around["installed"])
    assert "--nbval" in json.dumps(around["run"])
    assert "filterwarnings" in json.dumps(around["run"])
    assert all(around["system"])


# What is remembered --------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A tree with two small lessons; `tree.run` checks them, and `tree.ran` says which ones it ran."""
    (tmp_path / "genlib").mkdir()
    (tmp_path / "genlib" / "__init__.py").write_text("def f(): return 1\n", encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(lessons, "environment", dict)

    class Tree:
        def __init__(self):
            self.root, self.result, self.paths, self.ran = tmp_path, {}, {}, []

        def add(self, name, source="print(1)", stored="1\n"):
            output = new_output("stream", name="stdout", text=stored)
            cell = new_code_cell(source, execution_count=1, outputs=[output], id="a")
            self.paths[name] = tmp_path / "notebooks" / f"{name}.ipynb"
            nb = new_notebook(cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "P"}})
            nbformat.write(nb, self.paths[name])

        def run(self, changed=True):
            self.ran = []
            return lessons.run(list(self.paths.values()), changed, tmp_path)

    tree = Tree()

    def check(path):
        tree.ran.append(path.stem)
        return lessons.Outcome(tree.result.get(path.stem, True), 3, 1.0, "what was printed")

    monkeypatch.setattr(lessons, "check", check)
    tree.add("one")
    tree.add("two", "from genlib import f\nprint(f())")
    return tree


def test_what_passed_is_not_run_again(tree, capsys):
    assert tree.run() == 0
    assert sorted(tree.ran) == ["one", "two"]
    assert tree.run() == 0
    assert tree.ran == []
    assert "0 lessons ran, 0 cells passed; 2 stood unchanged" in capsys.readouterr().out
    assert tree.run(changed=False) == 0
    assert sorted(tree.ran) == ["one", "two"]


def test_what_changed_is_run_again(tree, capsys):
    tree.run(changed=False)
    (tree.root / "genlib" / "__init__.py").write_text("def f(): return 2\n", encoding="utf-8")
    capsys.readouterr()
    assert tree.run() == 0
    assert tree.ran == ["two"]
    shown = capsys.readouterr().out
    assert re.search(r"as was +one +passed at \S", shown)
    assert "1 lessons ran, 3 cells passed; 1 stood unchanged" in shown


def test_what_failed_is_run_until_it_passes(tree, capsys):
    tree.run()
    tree.result["one"] = False
    assert tree.run(changed=False) == 1
    shown = capsys.readouterr().out
    assert "what was printed" in shown
    assert "FAILED: one" in shown
    assert tree.run() == 1
    assert tree.ran == ["one"]
    tree.result["one"] = True
    assert tree.run() == 0
    assert tree.ran == ["one"]
    assert tree.run() == 0
    assert tree.ran == []


def test_what_is_edited_while_it_runs_is_not_remembered(tree, monkeypatch):
    check = lessons.check

    def edits(path):
        if path.stem == "one":
            tree.add("one", "print(1) or None")
        return check(path)

    monkeypatch.setattr(lessons, "check", edits)
    assert tree.run() == 0
    monkeypatch.setattr(lessons, "check", check)
    tree.run()
    assert tree.ran == ["one"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"key": 1, "commit": "a"}', '{"commit": "a"}', "\xff"]
)
def test_a_damaged_record_is_none(tree, text):
    tree.run()
    (tree.root / lessons.PASSED / "one.json").write_text(text, encoding="latin-1")
    assert lessons.remembered("one", tree.root / lessons.PASSED) == {}
    assert tree.run() == 0
    assert tree.ran == ["one"]


def test_what_cannot_be_read_is_run(tree):
    tree.paths["one"].write_text("{", encoding="utf-8")
    assert lessons.keys(list(tree.paths.values()), tree.root).keys() == {tree.paths["two"]}
    tree.run()
    tree.run()
    assert tree.ran == ["one"]
    (tree.root / "genlib" / "__init__.py").write_text("def f(:\n", encoding="utf-8")
    tree.run()
    assert sorted(tree.ran) == ["one", "two"]


def test_the_folder_of_keys_is_ignored_by_git():
    assert f"/{lessons.PASSED}/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


# The run -------------------------------------------------------------------------------------------------------


def test_a_lesson_passes_when_all_its_cells_do(tree, monkeypatch):
    monkeypatch.undo()
    outcome = lessons.check(tree.paths["one"])
    assert (outcome.passed, outcome.cells) == (True, 1), outcome.output


def test_a_lesson_that_differs_fails_and_says_where(tree, monkeypatch):
    monkeypatch.undo()
    tree.add("one", "print(2)", "1\n")
    nb = nbformat.read(tree.paths["one"], as_version=4)
    nb.cells += [
        new_code_cell("1 / 0", execution_count=2, id="b"),
        new_code_cell("3", execution_count=3, id="c"),
    ]
    nbformat.write(nb, tree.paths["one"])
    outcome = lessons.check(tree.paths["one"])
    assert not outcome.passed
    assert "mismatch" in outcome.output
    assert "ZeroDivisionError" in outcome.output
    assert "\x1b" not in outcome.output


def test_a_cell_that_is_left_out_is_no_pass(tree, monkeypatch):
    monkeypatch.undo()
    tree.add("one", "# NBVAL_SKIP\nprint(1)")
    outcome = lessons.check(tree.paths["one"])
    assert not outcome.passed
    assert "only 0 of 1 code cells were checked" in outcome.output


# The order -----------------------------------------------------------------------------------------------------


@pytest.fixture
def timed(tmp_path):
    def timed(*times):
        paths = [tmp_path / f"lesson{i}.ipynb" for i in range(len(times))]
        for path, time in zip(paths, times, strict=True):
            path.write_text(f"the cells run in about {time} s" if time else "", encoding="utf-8")
        return paths

    return timed


def test_the_longest_lesson_comes_first(timed):
    paths = timed(20, 90, None, 30, 90)
    assert lessons.longest_first(paths) == [paths[i] for i in (1, 4, 2, 3, 0)]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_lesson_says_its_time(path):
    assert re.search(r"the cells run in about \d+ s", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("parts", [1, 2, 4, 7, 50])
def test_shards_hold_every_lesson_once_and_are_even(parts):
    shares = [lessons.shard(LESSONS, i + 1, parts) for i in range(parts)]
    assert sorted(path for share in shares for path in share) == LESSONS
    assert shares == [lessons.shard(LESSONS[::-1], i + 1, parts) for i in range(parts)]
    lengths = [sum(map(lessons.seconds, share)) for share in shares]
    assert max(lengths) - min(lengths) <= max(map(lessons.seconds, LESSONS))


@pytest.mark.parametrize("said", ["0/4", "5/4", "1", "a/b", "1/0"])
def test_a_shard_that_is_none_is_refused(said, capsys):
    with pytest.raises(SystemExit):
        lessons.main(["--shard", said])
    assert "must be like 1/4" in capsys.readouterr().err
