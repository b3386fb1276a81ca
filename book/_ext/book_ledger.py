"""The ledger: every labelled equation of the lessons, with the checks that hold it, read from the notebooks.

``{ledger}`` writes, for each notebook of the table of contents, a table of its ``eq:`` labels: how many checks and
values, the tolerance, and the largest deviation. These come from the metadata that `genlib.checks.verify` leaves on
its output. An equation without a check is a warning, and so is a check of an equation that no page shows: a strict
build fails on either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOGGER = logging.getLogger(__name__)

SIGNS = {"==": "=", "<=": "≤", ">=": "≥", "<": "<", ">": ">", "!=": "≠"}
HEADINGS = ["Equation", "Label", "Claim", "Checks", "Values", "Tolerance", "Deviation"]
WIDTHS = [10, 34, 8, 8, 10, 15, 15]

# A label after a displayed equation, `$$ … $$ (eq:name)`, or in a math directive, `:label: eq:name`.
LABEL = re.compile(r"\$\$[ \t]*\((eq:[^\s()]+)\)|^[ \t]*:label:[ \t]*(eq:\S+)", re.MULTILINE)
# A fenced block of plain code, which shows a label but bears none; a fence whose name stands in braces is a directive.
CODE = re.compile(
    r"^([ \t]*)(`{3,}|~{3,})(?!\s*\{)[^\n]*\n.*?(?:^[ \t]*\2[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL
)
TITLE = re.compile(r"^#[ \t]+(.+?)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Check:
    """One output of `verify`: what was compared, and how far the two sides lie apart."""

    label: str
    relation: str
    count: int
    deviation: float
    atol: float
    rtol: float


@dataclass(frozen=True)
class Equation:
    """One labelled equation with its checks, which are empty where no cell verifies it."""

    label: str
    checks: tuple[Check, ...]

    @property
    def claim(self) -> str:
        """The relations that were checked, as signs."""
        return " ".join(dict.fromkeys(SIGNS.get(check.relation, check.relation) for check in self.checks))

    @property
    def values(self) -> int:
        """How many pairs of numbers were compared."""
        return sum(check.count for check in self.checks)

    @property
    def tolerance(self) -> str:
        """The widest tolerance of the checks."""
        return tolerance(*max((check.atol, check.rtol) for check in self.checks))

    @property
    def deviation(self) -> float:
        """The largest deviation of the checks."""
        return max(check.deviation for check in self.checks)


@dataclass(frozen=True)
class Lesson:
    """What one notebook contributes: its title, its equations in reading order, and checks of unknown labels."""

    title: str
    equations: tuple[Equation, ...]
    unknown: tuple[str, ...]

    @property
    def unchecked(self) -> tuple[str, ...]:
        """The labels of equations that no output verifies."""
        return tuple(equation.label for equation in self.equations if not equation.checks)


def read_lesson(notebook: Mapping[str, Any]) -> Lesson:
    """Collect the equations of a notebook (its parsed JSON) and the checks stored in its outputs."""
    prose = "\n\n".join(
        CODE.sub("", text(cell)) for cell in notebook["cells"] if cell["cell_type"] == "markdown"
    )
    labels = dict.fromkeys(first or second for first, second in LABEL.findall(prose))
    checks: dict[str, list[Check]] = {}
    for check in stored_checks(notebook["cells"]):
        checks.setdefault(check.label, []).append(check)
    title = TITLE.search(prose)
    return Lesson(
        title=re.sub(r"[*`]", "", title[1]) if title else "",
        equations=tuple(Equation(label, tuple(checks.get(label, ()))) for label in labels),
        unknown=tuple(label for label in checks if label not in labels and label.startswith("eq:")),
    )


def stored_checks(cells: Iterable[Mapping[str, Any]]) -> Iterator[Check]:
    """Yield the checks in the metadata of the cells' outputs, in order."""
    for cell in cells:
        for output in cell.get("outputs", ()):
            found = output.get("metadata", {}).get("genlib")
            if found:
                yield Check(**{name: found[name] for name in Check.__dataclass_fields__})


def text(cell: Mapping[str, Any]) -> str:
    """Return a cell's source, which nbformat stores as one string or as a list of lines."""
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def number(value: float) -> str:
    """Write a deviation or a tolerance in at most two digits: 0, 0.012, 3.1e-16."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def tolerance(atol: float, rtol: float) -> str:
    """Write a tolerance: the absolute part, the relative part, or both."""
    parts = [number(atol)] if atol or not rtol else []
    return " + ".join(parts + ([f"{number(rtol)} × size"] if rtol else []))


def summary(lessons: Iterable[Lesson]) -> str:
    """Say in one sentence how much was checked, and whether something is left."""
    equations = [equation for lesson in lessons for equation in lesson.equations]
    taught = sum(1 for lesson in lessons if lesson.equations)
    open_ones = sum(not equation.checks for equation in equations)
    values = sum(equation.values for equation in equations)
    state = "all of them checked" if not open_ones else f"{open_ones} of them not checked"
    return f"{count(len(equations), 'equation')} in {count(taught, 'lesson')}, {state}, on {count(values, 'value')}."


def count(n: int, noun: str) -> str:
    """Write a number with its noun: 1 lesson, 1,204 values."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


class Ledger(SphinxDirective):
    """``{ledger}``: a summary, then a section with a table for each lesson of the table of contents."""

    def run(self) -> list[nodes.Node]:
        """Read the lessons and build what stands on the page."""
        self.env.note_dependency(str(Path(self.config.external_toc_path).absolute()))
        lessons = {docname: self._read(docname) for docname in self._notebooks()}
        if not any(lesson.equations for lesson in lessons.values()):
            return [nodes.paragraph(text="No lesson of this book shows an equation yet.")]
        line = nodes.paragraph(
            "", "", nodes.strong(text=summary(list(lessons.values()))), classes=["ledger-summary"]
        )
        return [line, *(self._section(name, lesson) for name, lesson in lessons.items() if lesson.equations)]

    def _notebooks(self) -> list[str]:
        """Return the notebooks of the table of contents, in its order."""
        site = self.env.external_site_map
        names = [name.removesuffix(".ipynb") for name in in_order(site, site.root)]
        return [
            name
            for name in names
            if name in self.env.found_docs and self.env.doc2path(name).endswith(".ipynb")
        ]

    def _read(self, docname: str) -> Lesson:
        """Read a notebook, remember it as a source of this page, and warn of what is not held."""
        path = self.env.doc2path(docname)
        self.env.note_dependency(path)
        lesson = read_lesson(json.loads(Path(path).read_text(encoding="utf-8")))
        for label in lesson.unchecked:
            LOGGER.warning(
                "equation %s is verified by no stored output", label, location=docname, type="ledger"
            )
        for label in lesson.unknown:
            LOGGER.warning("%s is verified, but no equation bears it", label, location=docname, type="ledger")
        return lesson

    def _section(self, docname: str, lesson: Lesson) -> nodes.section:
        """Build the section of one lesson: its title, a link to it, and the table."""
        title = lesson.title or docname
        section = nodes.section("", nodes.title(text=title), names=[nodes.fully_normalize_name(title)])
        self.state.document.note_implicit_target(section, section)
        checks = sum(len(equation.checks) for equation in lesson.equations)
        values = sum(equation.values for equation in lesson.equations)
        sizes = [(len(lesson.equations), "equation"), (checks, "check"), (values, "value")]
        line = f": {', '.join(count(*size) for size in sizes)}."
        link = self._link("std", "doc", "/" + docname, "The lesson", explicit=True)
        section += nodes.paragraph("", "", link, nodes.Text(line))
        section += self._table(lesson)
        return section

    def _table(self, lesson: Lesson) -> nodes.table:
        """Build the table of one lesson."""
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in WIDTHS), cols=len(WIDTHS))
        group += nodes.thead("", row(nodes.Text(heading) for heading in HEADINGS))
        group += nodes.tbody("", *(self._row(equation) for equation in lesson.equations))
        return nodes.table("", group, classes=["ledger"])

    def _row(self, equation: Equation) -> nodes.row:
        """Build the row of one equation."""
        link = self._link("math", "eq", equation.label, equation.label)
        label = nodes.literal(text=equation.label)
        if not equation.checks:
            return row([link, label, *(nodes.Text(cell) for cell in ("", "0", "0", "", "not checked"))])
        held = [equation.claim, f"{len(equation.checks):,}", f"{equation.values:,}"]
        return row([link, label, *map(nodes.Text, [*held, equation.tolerance, number(equation.deviation)])])

    def _link(self, domain: str, role: str, target: str, shown: str, explicit: bool = False) -> pending_xref:
        """Return a reference that Sphinx resolves once every page is read; `explicit` keeps the text that is given."""
        words = nodes.Text(shown) if explicit else nodes.literal(text=shown)
        about = {"refdomain": domain, "reftype": role, "reftarget": target, "refdoc": self.env.docname}
        link = pending_xref("", words, **about, refexplicit=explicit, refwarn=True)
        self.set_source_info(link)
        return link


def in_order(site: Mapping[str, Any], document: Any) -> Iterator[str]:
    """Yield the pages below a document of the table of contents, in reading order."""
    for tree in document.subtrees:
        for item in tree.items:
            if isinstance(item, str) and item in site:
                yield str(item)
                yield from in_order(site, site[item])


def row(cells: Iterable[nodes.Node]) -> nodes.row:
    """Return a row of a table with one paragraph in each cell."""
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_directive("ledger", Ledger)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
