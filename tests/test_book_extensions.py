"""The book's own Sphinx extensions: their pure parts, and small books that are built with the real _config.yml."""

import json
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "book" / "_ext"))

book_api, book_assets, book_ledger = map(import_module, ("book_api", "book_assets", "book_ledger"))

PIECES = ["_config.yml", "book/_ext", "book/_static", "book/references.bib", "book/ledger.md"]
TOC = {"format": "jb-book", "root": "book/index", "parts": []}
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"


def markdown(source):
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def check(label, **changes):
    """A code cell with the output that `verify` leaves."""
    record = {
        "label": label,
        "relation": "==",
        "count": 3,
        "deviation": 2e-16,
        "atol": 1e-12,
        "rtol": 0.0,
    } | changes
    output = {
        "output_type": "display_data",
        "data": {"text/plain": f"{label} holds: 3 pairs agree, within 1e-12"},
        "metadata": {"genlib": record},
    }
    return {
        "cell_type": "code",
        "execution_count": 1,
        "metadata": {},
        "outputs": [output],
        "source": f'verify("{label}", a, b)',
    }


def notebook(*cells):
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [{"id": f"cell-{i}", **cell} for i, cell in enumerate(cells)]
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


# The ledger: from a notebook to its rows --------------------------------------------------------------------


def test_a_lesson_has_its_equations_in_order_with_their_checks():
    lesson = book_ledger.read_lesson(
        notebook(
            markdown(["# The *first* lesson\n", "\n", "$$ a = b $$ (eq:one)\n"]),
            check("eq:two", relation=">=", count=1, deviation=0.0, atol=1e-9),
            markdown("$$\na\n= b\n$$ (eq:two)\n\n$$ c = d $$ (def:three)"),
            check("eq:one", deviation=5e-13),
            check("eq:one", count=10, rtol=1e-6),
        )
    )
    assert lesson.title == "The first lesson"
    assert [equation.label for equation in lesson.equations] == ["eq:one", "eq:two"]
    one, two = lesson.equations
    assert (len(one.checks), one.values, one.deviation, one.claim) == (2, 13, 5e-13, "=")
    assert one.tolerance == "1e-12 + 1e-6 × size"
    assert (two.claim, two.tolerance, two.values) == ("≥", "1e-9", 1)
    assert (lesson.unchecked, lesson.unknown) == ((), ())


def test_an_equation_without_a_check_and_a_check_without_an_equation_are_told():
    lesson = book_ledger.read_lesson(
        notebook(markdown("$$ a $$ (eq:bare)"), check("eq:stray"), check("def:kl"))
    )
    assert lesson.unchecked == ("eq:bare",)
    assert lesson.unknown == ("eq:stray",)


@pytest.mark.parametrize(
    ("source", "labels"),
    [
        ("$$ x $$ (eq:a)\n\n$$ y $$(eq:b)", ["eq:a", "eq:b"]),
        ("```{math}\n:label: eq:a\nx = y\n```", ["eq:a"]),
        (":::{exercise} Title\n:label: ex:e\n\n$$ x $$ (eq:a)\n:::", ["eq:a"]),
        ("```python\n$$ x $$ (eq:no)\n```\n$$ y $$ (eq:a)", ["eq:a"]),
        ("~~~\n$$ x $$ (eq:no)\n~~~\n", []),
        ("By {eq}`eq:no` and $x$ (eq:no).", []),
        ("> $$ x $$ (eq:a)", ["eq:a"]),
        ("$$ x $$ (eq:a)\n\nAgain: $$ x $$ (eq:a)", ["eq:a"]),
    ],
)
def test_what_counts_as_a_labelled_equation(source, labels):
    lesson = book_ledger.read_lesson(notebook(markdown(source)))
    assert [equation.label for equation in lesson.equations] == labels


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0, "0"),
        (3.11e-16, "3.1e-16"),
        (1e-12, "1e-12"),
        (0.0123, "0.012"),
        (0.5, "0.5"),
        (1234.0, "1234"),
    ],
)
def test_numbers_are_short(value, shown):
    assert book_ledger.number(value) == shown


@pytest.mark.parametrize(
    ("atol", "rtol", "shown"),
    [(1e-12, 0.0, "1e-12"), (0.0, 1e-6, "1e-6 × size"), (1e-8, 0.05, "1e-8 + 0.05 × size"), (0.0, 0.0, "0")],
)
def test_tolerances_are_short(atol, rtol, shown):
    assert book_ledger.tolerance(atol, rtol) == shown


def test_the_summary_counts_and_admits_what_is_open():
    held = book_ledger.read_lesson(notebook(markdown("$$ a $$ (eq:a)"), check("eq:a", count=2000)))
    bare = book_ledger.read_lesson(notebook(markdown("$$ b $$ (eq:b)")))
    assert book_ledger.summary([held]) == "1 equation in 1 lesson, all of them checked, on 2,000 values."
    assert book_ledger.summary([held, bare]).startswith("2 equations in 2 lessons, 1 of them not checked")


# The packages of the pages' scripts -------------------------------------------------------------------------


def test_packages_are_pinned_and_the_lock_names_no_host():
    wanted = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name, version in (wanted["dependencies"] | wanted["devDependencies"]).items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
        assert lock[f"node_modules/{name}"]["version"] == version
    assert [name for name, package in lock.items() if "resolved" in package] == []
    assert [name for name, package in lock.items() if name and "integrity" not in package] == []


# Docstrings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "escaped"),
    [
        ("|left − right| ≤ atol", r"\|left − right\| ≤ atol"),
        ("``|x|`` and `|y|` stay", "``|x|`` and `|y|` stay"),
        ("(B, *E) → (B,)", r"(B, \*E) → (B,)"),
        ("an *open* book, a **bold** one", "an *open* book, a **bold** one"),
        (r"already \| and \*args", r"already \| and \*args"),
        ("2 * 3", "2 * 3"),
    ],
)
def test_prose_of_docstrings_is_escaped(line, escaped):
    assert book_api.escape_prose([line]) == [escaped]


def test_directives_of_docstrings_stay():
    lines = [".. math:: |x|", "", "   |y|", "", "|z|"]
    assert book_api.escape_prose(lines) == [*lines[:4], r"\|z\|"]


# Small books, built with the real configuration -------------------------------------------------------------


@pytest.fixture
def small_book(tmp_path):
    """A function that makes and builds a book of one lesson, and returns its html folder, status and messages."""

    def build(*cells, url="", modules=()):
        for piece in PIECES:
            place = tmp_path / piece
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / piece).is_dir() else shutil.copy2
            copy(ROOT / piece, place)
        config = yaml.safe_load((tmp_path / "_config.yml").read_text(encoding="utf-8"))
        config["repository"]["url"] = url
        (tmp_path / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        toc = TOC | {
            "parts": [{"numbered": True, "chapters": [{"file": "notebooks/one"}, {"file": "book/ledger"}]}]
        }
        (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
        (tmp_path / "book" / "index.md").write_text("# Front\n", encoding="utf-8")
        (tmp_path / "notebooks").mkdir()
        lesson = notebook(markdown("# One\n\n$$ a = b $$ (eq:one)"), *cells)
        (tmp_path / "notebooks" / "one.ipynb").write_text(json.dumps(lesson), encoding="utf-8")
        for name in modules:
            place = tmp_path / "node_modules" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("", encoding="utf-8")
        command = [
            sys.executable,
            "-c",
            JUPYTER_BOOK,
            "build",
            "-q",
            "-W",
            "-n",
            "--keep-going",
            str(tmp_path),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")
        return tmp_path / "_build" / "html", done.returncode, done.stdout + done.stderr

    return build


def vendored_names():
    """One file for each pattern of the copied packages."""
    return [
        f"{origin}/{pattern.replace('*', 'a')}"
        for origin, _, patterns in book_assets.PARTS
        for pattern in patterns
    ]


def test_without_an_address_no_button_is_shown_and_without_npm_the_build_says_so(small_book):
    html, status, said = small_book(check("eq:one"))
    assert status == 0, said
    assert "the pages will fetch their scripts from public addresses" in said
    page = (html / "notebooks" / "one.html").read_text(encoding="utf-8")
    assert "https://cdn.jsdelivr.net/npm/mathjax@3" in page
    assert not any(word in page for word in ("mybinder", "colab.research", "/edit/", "issues/new", "thebe"))
    ledger = (html / "book" / "ledger.html").read_text(encoding="utf-8")
    assert "1 equation in 1 lesson, all of them checked, on 3 values." in ledger
    assert "2e-16" in ledger
    assert re.search(r'href="\.\./notebooks/one\.html#equation-eq-one">(<[^>]*>)*\(1\.1\)<', ledger)


def test_with_an_address_every_button_leads_to_it_and_scripts_come_from_the_site(small_book):
    html, status, said = small_book(
        check("eq:one"), url="https://github.com/someone/a-book", modules=vendored_names()
    )
    assert status == 0, said
    assert "public addresses" not in said
    page = (html / "notebooks" / "one.html").read_text(encoding="utf-8")
    for address in (
        "https://mybinder.org/v2/gh/someone/a-book/main?urlpath=lab/tree/notebooks/one.ipynb",
        "https://colab.research.google.com/github/someone/a-book/blob/main/notebooks/one.ipynb",
        "https://github.com/someone/a-book/edit/main/notebooks/one.ipynb",
        "https://github.com/someone/a-book/issues/new",
        'href="https://github.com/someone/a-book"',
    ):
        assert address in page, address
    assert 'src="../_static/vendor/mathjax/tex-chtml.js' in page
    assert "jsdelivr" not in page
    assert "thebe" not in page
    vendor = html / "_static" / "vendor"
    copied = [
        path for _, folder, _ in book_assets.PARTS for path in (vendor / folder).rglob("*") if path.is_file()
    ]
    assert {path.name for path in copied} == {Path(name).name for name in vendored_names()}


def test_an_equation_that_nothing_verifies_fails_a_strict_build(small_book):
    _, status, said = small_book(check("eq:other"))
    assert status != 0
    assert "equation eq:one is verified by no stored output" in said
    assert "eq:other is verified, but no equation bears it" in said
