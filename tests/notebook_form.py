"""The form that every lesson keeps, as small functions.

Each takes a notebook, and what else it must agree with, and returns complaints; an empty list says that all is well.
test_notebooks.py applies them to the lessons, and to broken notebooks that each of them must notice.
"""

from __future__ import annotations

import ast
import html
import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator

import nbformat
from nbformat import NotebookNode

from scripts.execute import package

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
PNG = "image/png"

FIRST_CELL = """\
# Nothing below runs without genlib, the book's helper package. On Google Colab this cell installs it.
import importlib.util
import sys

package = {package}
if package and "google.colab" in sys.modules:
    %pip install -q "{{package}}"
if importlib.util.find_spec("genlib") is None:
    what = package or "-e ."  # the dot is the book's folder
    raise ModuleNotFoundError(f"genlib is missing: pip install {{what}}")\
"""

MAX_BYTES = 2_000_000
MAX_MEDIAN_LINES, MAX_LINES = 8, 25
MIN_EXERCISES = 5
MIN_ALT_LETTERS = 30

# What a lesson must hold, and how its place is recognised: a heading, or a bold word that opens a line.
SECTIONS = {
    "goal": r"goal",
    "what you need": r"what you need",
    "what goes wrong": r"(what|where) .*(goes|go|went) wrong",
    "summary": r"summary",
    "exercises": r"exercises",
    "where the documents slip": r".*\bslips?\b",
    "where this leads": r".*\bleads?\b",
    "references": r"references|bibliography",
}
TIME = re.compile(
    r"^\*\*Time\*\*: about \d+ minutes to read and work through; the cells run in about (\d+ (?:s|min))\.$",
    re.M,
)


# What stands in a notebook -----------------------------------------------------------------------------------


def code_cells(nb: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """The code cells, with their places in the notebook."""
    return [(i, cell) for i, cell in enumerate(nb.cells) if cell.cell_type == "code"]


def outputs(nb: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """The stored outputs, with the places of their cells."""
    return ((i, output) for i, cell in code_cells(nb) for output in cell.outputs)


def prose(nb: NotebookNode) -> str:
    """The Markdown of a notebook, without what it shows as code."""
    return without_code("\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown"))


def without_code(text: str) -> str:
    """Markdown without fenced code (other directives stay), and with inline code emptied (roles stay)."""
    kept: list[str] = []
    directives: list[str] = []  # the fences of the directives around a line
    code = ""  # the fence of the code that a line stands in
    for line in text.splitlines():
        fence, info = re.match(r"[ \t]*(`{3,}|~{3,}|)(.*)", line).groups()
        info = info.strip()
        if code:
            code = "" if fence.startswith(code) and not info else code
            continue
        if fence and not info and directives and fence.startswith(directives[-1]):
            directives.pop()
        elif fence and re.match(r"\{(?!code)", info):
            directives.append(fence)
        elif fence:
            code = fence
            continue
        kept.append(line)
    inline = r"(\{[\w:.-]+\}`[^`]+`)|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)"
    return re.sub(inline, lambda match: match[1] or "``", "\n".join(kept))


def tree(source: str) -> ast.Module:
    """The syntax tree of a cell; lines for the shell and for IPython are left out."""
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M))


def calls(nb: NotebookNode, name: str) -> Iterator[tuple[int, str | None]]:
    """The calls of a function: the place of the cell, and the first argument if it is a literal string."""
    for i, cell in code_cells(nb):
        for node in ast.walk(tree(cell.source)):
            if isinstance(node, ast.Call) and name in (
                getattr(node.func, "id", ""),
                getattr(node.func, "attr", ""),
            ):
                first = node.args[0] if node.args else None
                literal = isinstance(first, ast.Constant) and isinstance(first.value, str)
                yield i, first.value if literal else None


def equations(text: str) -> list[tuple[str | None, str]]:
    """The displayed equations of a Markdown text: label (None if it has none) and TeX."""
    dollars = re.findall(r"\$\$(.+?)\$\$(?:[ \t]*\(([^)\s]+)\))?", text, flags=re.S)
    found = [(label or None, tex.strip()) for tex, label in dollars]
    rest = re.sub(r"\$\$.+?\$\$", "", text, flags=re.S)
    for _, body in re.findall(r"^(`{3,}|:{3,})\{math\}(.*?)^\1", rest, flags=re.S | re.M):
        label = re.search(r"^:(?:label|name):[ \t]*(\S+)", body, flags=re.M)
        found.append((label[1] if label else None, body.strip()))
    bare = re.findall(
        r"\\begin\{(?:equation|align|gather|multline)\*?\}.*?\\end|\\\[.*?\\\]", rest, flags=re.S
    )
    bare = [tex for tex in bare if not any(tex in body for _, body in found)]
    return found + [(None, tex) for tex in bare]


def labels(text: str) -> list[str]:
    """Every label that a Markdown text gives away, to equations, figures, exercises or places, as often as it does."""
    given = [label for label, _ in equations(text) if label]
    rest = re.sub(r"^(`{3,}|:{3,})\{math\}.*?^\1", "", text, flags=re.S | re.M)
    given += re.findall(r"^:(?:label|name):[ \t]*(\S+)", rest, flags=re.M)
    return given + re.findall(r"^\(([^()\s]+)\)=[ \t]*$", rest, flags=re.M)


def figure_labels(nb: NotebookNode) -> list[str]:
    """The labels of the figures that code cells draw."""
    figures = (cell.metadata.get("mystnb", {}).get("figure", {}) for _, cell in code_cells(nb))
    return [figure["name"] for figure in figures if "name" in figure]


def exercises(text: str) -> list[str | None]:
    """The labels of the exercises, None where one has no label."""
    found = []
    for _, body in re.findall(r"^(`{3,}|:{3,})\{exercise(?:-start)?\}(.*?)^\1", text, flags=re.S | re.M):
        label = re.search(r"^:label:[ \t]*(\S+)", body, flags=re.M)
        found.append(label[1] if label else None)
    return found


# What a lesson says ------------------------------------------------------------------------------------------


def sections_complaints(nb: NotebookNode) -> list[str]:
    """The parts of a lesson, one title, and its times."""
    text = prose(nb)
    heads = re.findall(r"^#{1,6} +(.+?)\s*$|^\*\*(.+?)\*\*", text, flags=re.M)
    heads = [heading or bold for heading, bold in heads]
    missing = [
        name for name, rule in SECTIONS.items() if not any(re.match(rule, head, re.I) for head in heads)
    ]
    if "references" in missing and re.search(r"^[`:]{3,}\{bibliography\}", text, flags=re.M):
        missing.remove("references")
    said = [f"a lesson needs a part '{name}'" for name in missing]
    titles = len(re.findall(r"^# ", text, flags=re.M))
    if titles != 1:
        said.append(f"a lesson has one title, not {titles}")
    if not TIME.search(text):
        said.append(
            "no line '**Time**: about … minutes to read and work through; the cells run in about … s.'"
        )
    return said


def place_complaints(nb: NotebookNode, page: str, toc_pages: Iterable[str], front_page: str) -> list[str]:
    """The lesson is in the table of contents, and on the front page beside the time that it states itself."""
    said = [] if page in toc_pages else [f"{page} is not in _toc.yml"]
    name = page.rpartition("/")[2]
    link = rf"[(/<`]{re.escape(name)}(?:\.ipynb|\.html)?[)>`]"
    lines = [line for line in front_page.splitlines() if re.search(link, line)]
    stated = TIME.search(prose(nb))
    if not lines:
        said.append("the front page does not link to it")
    elif stated and not any(re.search(rf"(?<!\d){stated[1]}\b", line) for line in lines):
        said.append(f"the front page does not say '{stated[1]}' on the line of its link")
    return said


def equation_complaints(nb: NotebookNode) -> list[str]:
    """Every displayed equation has a label; each `eq:` is verified, in the source and in the stored outputs."""
    said, borne = [], set()
    for label, tex in equations(prose(nb)):
        if label is None:
            said.append(f"a displayed equation has no label: {tex[:60]!r}")
        elif not re.fullmatch(r"(eq|def):[a-z0-9-]+", label):
            said.append(f"the label of an equation must be eq:… or def:…, in lower case: {label!r}")
        else:
            borne.add(label)
    to_verify = {label for label in borne if label.startswith("eq:")}
    called = {(i, label) for i, label in calls(nb, "verify")}
    if any(label is None for _, label in called):
        said.append("verify must be called with its label as a literal string")
    verified = {label for _, label in called if label is not None}
    said += [f"no cell verifies {label}" for label in sorted(to_verify - verified)]
    said += [f"{label} is verified, but no equation bears it" for label in sorted(verified - to_verify)]
    stored = {
        (i, output.metadata.get("genlib", {}).get("label")) for i, output in outputs(nb) if holds(output)
    }
    said += [
        f"cell {i}: no stored output says that {label} holds"
        for i, label in sorted((i, label) for i, label in called if label and (i, label) not in stored)
    ]
    return said


def holds(output: NotebookNode) -> bool:
    """Whether an output is the line of a verified equation, with the record from which the ledger is made."""
    record = output.get("metadata", {}).get("genlib", {})
    line = output.get("data", {}).get("text/plain", "")
    keys = {"label", "relation", "count", "deviation", "atol", "rtol"}
    return keys <= set(record) and line.startswith(f"{record['label']} holds")


def duplicate_complaints(given: dict[str, list[str]]) -> list[str]:
    """No label is given away twice, on one page or on two; `given` has the labels of each page."""
    count = Counter(label for page_labels in given.values() for label in page_labels)
    return [
        f"{label} is given {number} times: {', '.join(page for page in given if label in given[page])}"
        for label, number in count.items()
        if number > 1
    ]


def reference_complaints(text: str, known: Iterable[str]) -> list[str]:
    """What {eq}, {ref}, {numref} and the links to places name exists somewhere in the book."""
    roles = re.findall(r"\{(?:eq|ref|numref|prf:ref)\}`([^`]+)`", text)
    named = [(re.search(r"<([^<>]+)>$", role) or [None, role])[1].strip() for role in roles]
    named += re.findall(r"\]\(#([^)\s]+)\)", text)
    known = {*known, "genindex", "search", "modindex"}
    return [f"nothing in the book is called {name}" for name in dict.fromkeys(named) if name not in known]


def citation_complaints(text: str, keys: Iterable[str]) -> list[str]:
    """What is cited is in the bibliography's file."""
    roles = re.findall(r"\{(?:foot)?cite(?::\w+)?\}`([^`]+)`", text)
    cited = [re.sub(r"\{.*?\}", "", key).strip() for role in roles for key in role.split(",")]
    return [f"{key} is not in references.bib" for key in dict.fromkeys(cited) if key not in set(keys)]


def exercise_complaints(nb: NotebookNode) -> list[str]:
    """At least five exercises; each with a label, a solution, and a grader that says 'right' of that solution."""
    text = prose(nb)
    found = exercises(text)
    said = ["an exercise has no label"] * found.count(None)
    named = [label for label in found if label]
    if len(found) < MIN_EXERCISES:
        said.append(f"a lesson has at least {MIN_EXERCISES} exercises, not {len(found)}")
    said += [
        f"the label of an exercise begins with ex:, not {label}" for label in named if label[:3] != "ex:"
    ]
    starts = re.findall(r"^[`:]{3,}\{solution-start\}[ \t]*(\S+)", text, flags=re.M)
    solved = starts + re.findall(r"^[`:]{3,}\{solution\}[ \t]*(\S+)", text, flags=re.M)
    ends = len(re.findall(r"^[`:]{3,}\{solution-end\}", text, flags=re.M))
    if len(starts) != ends:
        said.append(f"{len(starts)} solutions start and {ends} end")
    graded = {label for _, label in calls(nb, "grade")}
    shown = "".join(output.text for _, output in outputs(nb) if output.get("name") == "stdout")
    right = set(re.findall(r"^(\S+): right\b", shown, flags=re.M))
    for label in named:
        said += [f"{label} has no solution"] * (label not in solved)
        said += [f"no cell grades {label}"] * (label not in graded)
        said += [f"no stored output says that the solution of {label} is right"] * (label not in right)
    said += [
        f"a solution or a grade is for {label}, which no exercise bears"
        for label in {*solved, *graded} - {*named}
    ]
    return said


# What is stored ----------------------------------------------------------------------------------------------


def execution_complaints(nb: NotebookNode) -> list[str]:
    """Every code cell was run, once, in order, without an error, a warning or a progress bar."""
    said = []
    counts = [cell.execution_count for _, cell in code_cells(nb)]
    if counts != list(range(1, len(counts) + 1)):
        said.append(f"execution counts are not 1 to {len(counts)} in order: {counts}")
    for i, output in outputs(nb):
        text = output.get("text", "")
        if output.output_type == "error":
            said.append(f"cell {i} stores an error: {output.ename}")
        elif output.get("name") == "stderr":
            said.append(f"cell {i} stores what was written to stderr: {text.strip()[:80]!r}")
        elif re.search(r"\d+%\s*\||\bit/s\b|\r", text):
            said.append(f"cell {i} stores a progress bar")
    said += [f"cell {i} stores time stamps" for i, cell in code_cells(nb) if "execution" in cell.metadata]
    return said


def image_complaints(nb: NotebookNode) -> list[str]:
    """Every image says in words what it shows: in outputs, in Markdown, and in the frames of widgets.

    A figure's alt text stands in its cell's metadata; a slider, and a cell that ends in `plotting.show`, write it into
    the output's own.
    """
    said = []
    for i, cell in code_cells(nb):
        data = [output.get("data", {}) for output in cell.outputs]
        images = sum(any(kind.startswith("image/") for kind in kinds) for kinds in data)
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        own = [output.metadata.get(PNG, {}).get("alt", "") for output in cell.outputs if "metadata" in output]
        if alt and any(own) and alt not in own:
            said.append(
                f"cell {i}: the page's alt text is not the one that its code wrote; execute the notebook"
            )
        alt = next(filter(None, own), alt)
        if images > 1:
            said.append(f"cell {i} shows {images} images, and a cell has one alt text: one image a cell")
        elif images and (why := poor_alt(alt)):
            said.append(f"cell {i}: the alt text of its image {why}: {alt!r}")
        text = "\n".join(kinds.get("text/html", "") for kinds in data)
        said += [f"cell {i}: {complaint}" for complaint in html_image_complaints(text)]
    for alt in re.findall(r"!\[([^\]]*)\]\(", prose(nb)):
        if why := poor_alt(alt):
            said.append(f"the alt text of an image in Markdown {why}: {alt!r}")
    for model in widget_state(nb).values():
        said += [f"widget: {text}" for text in html_image_complaints(str(model["state"].get("value", "")))]
        if model["model_name"] == "ImageModel":
            said.append("widget: an Image has no alt text; put an <img alt=…> into an HTML widget")
    return said


def html_image_complaints(text: str) -> list[str]:
    """Every <img> of a piece of HTML has alt text of substance."""
    said = []
    for tag in re.findall(r"<img\b[^>]*>", text):
        found = re.search(r"""\balt=(?:"([^"]*)"|'([^']*)')""", tag)
        alt = (found[1] or found[2] or "") if found else ""
        if why := poor_alt(alt):
            said.append(f"the alt text of an <img> {why}: {alt!r}")
    return said


def poor_alt(alt: str) -> str:
    """What is wrong with an alt text; empty if nothing is."""
    if not alt.strip():
        return "is missing"
    if len(alt.strip()) < MIN_ALT_LETTERS:
        return "is too short to say what is seen"
    if re.match(r"(an? )?(image|picture|figure|plot) (of|showing)\b", alt.strip(), re.I):
        return "should say what is seen, not that it is an image"
    return ""


def widget_state(nb: NotebookNode) -> dict[str, NotebookNode]:
    """The stored widget models by id."""
    return nb.metadata.get("widgets", {}).get(STATE, {}).get("state", {})


def widget_complaints(nb: NotebookNode) -> list[str]:
    """Every widget that is shown has its state stored, with all that the state refers to, so that the page is alive."""
    models = widget_state(nb)
    shown = [
        (i, output.data[VIEW]["model_id"]) for i, output in outputs(nb) if VIEW in output.get("data", {})
    ]
    said = [f"cell {i} shows a widget without state" for i, model in shown if model not in models]
    needed = set(re.findall(r'"IPY_MODEL_([^"]+)"', json.dumps(models)))
    said += [
        f"the state of a widget needs model {model}, which is not stored"
        for model in sorted(needed - set(models))
    ]
    return said


def still_complaints(nb: NotebookNode) -> list[str]:
    """Every slider stores, beside its view, the picture at which it starts and that picture's alt text."""
    models, said = widget_state(nb), []

    def state(name: str) -> NotebookNode:
        return models[name.removeprefix("IPY_MODEL_")]["state"]

    for i, output in outputs(nb):
        view = output.get("data", {}).get(VIEW, {}).get("model_id")
        if view not in models or "genlib-frames" not in state(view).get("_dom_classes", []):
            continue
        slider, stack = map(state, state(view)["children"])
        if slider["index"] != stack["selected_index"]:
            said.append(f"cell {i}: the slider and its pictures start at different places")
        frame = state(stack["children"][slider["index"]])["value"]
        shown = {name: html.unescape(text) for name, text in re.findall(r'\b(src|alt)="([^"]*)"', frame)}
        if PNG not in output.data:
            said.append(f"cell {i}: the slider has no {PNG} for pages without widgets")
        elif shown["src"] != f"data:{PNG};base64,{output.data[PNG].strip()}":
            said.append(f"cell {i}: the {PNG} of the slider is not the frame at which it starts")
        if output.metadata.get(PNG, {}).get("alt") != shown["alt"]:
            said.append(f"cell {i}: the {PNG} of the slider has not the alt text of its first frame")
    return said


def size_complaints(nb: NotebookNode) -> list[str]:
    """The file stays small."""
    size = len(nbformat.writes(nb).encode())
    return (
        [f"{size / 1e6:.1f} MB; a lesson stays under {MAX_BYTES / 1e6:.0f} MB"] if size >= MAX_BYTES else []
    )


def cell_complaints(nb: NotebookNode) -> list[str]:
    """Cells are short, none is empty, and each has an id of its own."""
    lines = {
        i: sum(bool(line.strip()) for line in cell.source.splitlines())
        for i, cell in code_cells(nb)
        if not cell.metadata.get("colab")
    }
    said = [f"cell {i} has {n} lines; {MAX_LINES} at most" for i, n in lines.items() if n > MAX_LINES]
    if lines and statistics.median(lines.values()) > MAX_MEDIAN_LINES:
        said.append(
            f"the median cell has {statistics.median(lines.values()):g} lines; {MAX_MEDIAN_LINES} at most"
        )
    # Without a history, as under nbval, IPython shows the value in spite of the semicolon.
    ends = [i for i, cell in code_cells(nb) if cell.source.rstrip().endswith(";")]
    said += [f"cell {i} ends in a semicolon, which hides its value only sometimes; write _ = …" for i in ends]
    said += [f"cell {i} is empty" for i, cell in enumerate(nb.cells) if not cell.source.strip()]
    ids = [cell.get("id") for cell in nb.cells]
    said += [f"cell {i} has no id" for i, name in enumerate(ids) if not name]
    said += [
        f"{number} cells have the id {name}" for name, number in Counter(ids).items() if name and number > 1
    ]
    if nb.metadata.get("kernelspec", {}).get("name") != "python3":
        said.append("the kernel is not python3")
    return said


def setting_complaints(nb: NotebookNode, url: str) -> list[str]:
    """The first code cell is the one for Colab, and one Settings cell says which device to use."""
    said = []
    code = [cell for _, cell in code_cells(nb)]
    first = code[0] if code else nbformat.from_dict({"source": "", "metadata": {}})
    if first.source != FIRST_CELL.format(package=json.dumps(package(url))):
        said.append(
            "the first code cell is not the one that looks for genlib, with the repository of _config.yml"
        )
    if not first.metadata.get("colab") or "remove-cell" not in first.metadata.get("tags", []):
        said.append("the cell that looks for genlib needs the tag remove-cell and the metadata colab")
    devices = [line for cell in code for line in re.findall(r"^device = .*$", cell.source, flags=re.M)]
    if len(devices) != 1 or not devices[0].startswith('device = "cpu"'):
        said.append(f'one Settings cell says device = "cpu"; found: {devices}')
    for i, cell in code_cells(nb):
        if re.search(r"""\.cuda\(|device=["']|\.to\(["'](cpu|cuda)""", cell.source):
            said.append(f"cell {i} names a device; it should use the one of the Settings cell")
    return said


def portability_complaints(nb: NotebookNode) -> list[str]:
    """Nothing in a notebook is bound to one machine, fetches anything, or installs anything."""
    said = []
    for i, cell in enumerate(nb.cells):
        stored = "".join(
            output.get("text", "") + json.dumps([v for k, v in output.get("data", {}).items() if "text" in k])
            for output in cell.get("outputs", [])
        )
        if path := re.search(
            r"(?<![\w:/.])(/(home|root|Users|tmp|mnt)/\S+|[A-Z]:\\\\?\w+)", cell.source + stored
        ):
            said.append(f"cell {i} holds an absolute path: {path[0]}")
        if cell.cell_type == "code" and not cell.metadata.get("colab"):
            if re.search(r"^\s*!|\bpip3? install\b|\bconda install\b", cell.source, flags=re.M):
                said.append(f"cell {i} calls the shell or installs something")
            if re.search(r"urlopen|urlretrieve|requests\.get|download=True|fetch_openml|hf_hub", cell.source):
                said.append(f"cell {i} downloads something")
    return said
