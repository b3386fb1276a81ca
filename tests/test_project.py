"""The project's own files agree with each other, and its scripts keep their promises."""

import ast
import importlib.metadata
import json
import os
import re
import runpy
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from scripts import build, lock, test

ROOT = Path(__file__).resolve().parents[1]


# One set of dependencies: pyproject.toml, requirements.lock, environment.yml ---------------------------------


def dependency_complaints(wanted, lock_text, environment):
    """What the three files disagree on: the requirements, the text of the lock, the parsed environment."""
    said = []
    wanted = [Requirement(line) for line in wanted]
    names = [canonicalize_name(requirement.name) for requirement in wanted]
    said += [f"{name} is said twice in pyproject.toml" for name in set(names) if names.count(name) > 1]
    lines = [line for line in lock_text.splitlines() if line and not line.startswith("#")]
    odd = [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[a-z0-9.]+", line)]
    said += [f"the lock has a line that is no exact pin: {line}" for line in odd]
    pins = dict(line.split("==") for line in lines if line not in odd)
    if len(pins) + len(odd) != len(lines) or lines != sorted(lines, key=lambda line: line.split("==")[0]):
        said.append("the lock is not sorted, or names a package twice")
    for name, requirement in zip(names, wanted, strict=True):
        if name not in pins:
            said.append(f"{name} is not in the lock")
        elif not requirement.specifier.contains(Version(pins[name]), prereleases=True):
            said.append(f"the lock has {name} {pins[name]}, and pyproject.toml asks for {requirement}")
        if not any(spec.operator == ">=" for spec in requirement.specifier):
            said.append(f"{name} has no lower bound in pyproject.toml")
    conda = environment["dependencies"]
    if [line for line in conda if isinstance(line, str)] != ["python=3.11", "pip", "nodejs"]:
        said.append("environment.yml takes Python 3.11, pip and nodejs from conda, and nothing else")
    pip = [line for part in conda if isinstance(part, dict) for line in part["pip"]]
    if pip != ["-r requirements.lock", "-e ."]:
        said.append("environment.yml installs the lock and the project through pip, and nothing else")
    return said


WANTED = ["torch>=2.4", "PyYAML>=6"]
PINNED = "# comment\npyyaml==6.0.1\ntorch==2.13.0\n"
ENVIRONMENT = {"dependencies": ["python=3.11", "pip", "nodejs", {"pip": ["-r requirements.lock", "-e ."]}]}


def test_the_three_lists_of_dependencies_agree():
    wanted = lock.requirements(ROOT / "pyproject.toml")
    pinned = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert dependency_complaints(wanted, pinned, environment) == []


@pytest.mark.parametrize(
    ("wanted", "pinned", "environment", "word"),
    [
        ([*WANTED, "numpy>=1"], PINNED, ENVIRONMENT, "numpy is not in the lock"),
        (["torch>=3", "PyYAML>=6"], PINNED, ENVIRONMENT, "asks for torch>=3"),
        (["torch", "PyYAML>=6"], PINNED, ENVIRONMENT, "no lower bound"),
        ([*WANTED, "pyyaml>=5"], PINNED, ENVIRONMENT, "said twice"),
        (WANTED, PINNED + "zipp>=3\n", ENVIRONMENT, "no exact pin: zipp>=3"),
        (WANTED, PINNED.replace("2.13.0", "2.13.0+cpu"), ENVIRONMENT, "no exact pin"),
        (WANTED, "--index-url https://example.org\n" + PINNED, ENVIRONMENT, "no exact pin"),
        (WANTED, PINNED + "attrs==1\n", ENVIRONMENT, "not sorted"),
        (WANTED, PINNED, {"dependencies": ["python=3.11", "pip", "numpy"]}, "nothing else"),
        (
            WANTED,
            PINNED,
            {"dependencies": [*ENVIRONMENT["dependencies"], {"pip": ["numpy"]}]},
            "nothing else",
        ),
    ],
)
def test_disagreement_is_noticed(wanted, pinned, environment, word):
    assert dependency_complaints(WANTED, PINNED, ENVIRONMENT) == []
    assert any(word in said for said in dependency_complaints(wanted, pinned, environment))


def test_the_lock_holds_the_torch_that_is_chosen():
    assert lock.TORCH in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert f"pip install {lock.TORCH} " in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f" {lock.TORCH} " in (ROOT / ".github/actions/setup/action.yml").read_text(encoding="utf-8")


def test_pins_are_sorted_and_free_of_what_one_machine_needs():
    found = [("Torch", "2.13.0+cpu"), ("nvidia-cublas", "12.1"), ("triton", "3"), ("A_b.c", "1.0")]
    assert lock.pins(found) == {"a-b-c": "1.0", "torch": "2.13.0"}
    assert list(lock.pins(found)) == ["a-b-c", "torch"]


# The Pythons of the book -------------------------------------------------------------------------------------


def workflow(name="book"):
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))


def test_every_file_names_the_same_pythons():
    oldest, newest = lock.PYTHONS[0], lock.PYTHONS[-1]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["requires-python"] == f">={oldest}"
    assert settings["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert (ROOT / "requirements.lock").read_text(encoding="utf-8").startswith(lock.HEADER)
    assert ", ".join(lock.PYTHONS) in lock.HEADER
    assert f"They need Python {', '.join(lock.PYTHONS[:-1])} or {newest}" in (ROOT / "README.md").read_text(
        encoding="utf-8"
    )
    for job in ("notebooks", "rest"):
        assert workflow()["jobs"][job]["strategy"]["matrix"]["python"] == [oldest, newest]


def test_the_lock_is_whole_for_each_of_its_pythons():
    """Each package accepts these Pythons, and all that it asks for under them is in the lock."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    for python in lock.PYTHONS:
        around = {"python_version": python, "python_full_version": f"{python}.5", "extra": ""}
        for name in pinned:
            found = importlib.metadata.distribution(name)
            wanted = found.metadata["Requires-Python"]
            assert wanted is None or SpecifierSet(wanted).contains(f"{python}.5"), (name, python)
            for requirement in map(Requirement, found.requires or []):
                needed = requirement.marker is None or requirement.marker.evaluate(around)
                other = canonicalize_name(requirement.name)
                if needed and not lock.ACCELERATOR.match(other):
                    assert other in pinned, (name, python)
                    assert requirement.specifier.contains(pinned[other], prereleases=True), (name, other)


def test_the_published_site_waits_for_every_check():
    jobs = workflow()["jobs"]
    assert set(jobs["publish"]["needs"]) == set(jobs) - {"publish"}
    shards = jobs["notebooks"]["strategy"]["matrix"]["shard"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert runs == [
        f".ci/run notebooks --shard ${{{{ matrix.shard }}}}/{len(shards)}",
        ".ci/run lint units build pages",
    ]
    assert shards == list(range(1, len(shards) + 1))
    assert {part for run in runs for part in run.split() if part in test.PARTS} == set(test.PARTS)
    assert workflow("twice")["jobs"]["twice"]["steps"][-1]["run"] == "make twice"


# Every script ------------------------------------------------------------------------------------------------

SCRIPTS = sorted(
    path
    for folder in ("scripts", "benchmarks")
    for path in (ROOT / folder).glob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)


def state():
    """Every file of the project, with its time of change and its size."""
    folders = [
        ROOT / name
        for name in ("scripts", "benchmarks", "book", "genlib", "notebooks", "tests", ".test-passed")
    ]
    files = [path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.is_file()}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_help_helps_and_changes_nothing(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = state()
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0
    assert f"usage: {path.name}" in capsys.readouterr().out
    assert state() == before


def test_every_script_is_tried():
    assert {"build", "execute", "lessons", "lock", "test", "draw_cover", "speed", "flows"} <= {
        p.stem for p in SCRIPTS
    }


def encoding_complaints(text):
    """The lines of a program that read or write text and do not say in which encoding."""
    said = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        words = {word.arg: word.value for word in node.keywords}
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        owner = ast.unparse(node.func).rpartition(".")[0]
        modes = [*node.args, words.get("mode")]
        binary = any(
            isinstance(mode, ast.Constant) and re.fullmatch("[rwax]b", str(mode.value)) for mode in modes
        )
        reads = name in ("read_text", "write_text", "fdopen") or (
            name == "open" and owner not in ("Image", "tarfile")
        )
        if (reads and not binary and "encoding" not in words) or (
            {"text", "universal_newlines"} & set(words) and owner == "subprocess" and "encoding" not in words
        ):
            said.append(f"line {node.lineno}: {ast.unparse(node.func)}")
    return said


PROGRAMS = [
    path
    for folder in ("scripts", "benchmarks", "tests", "book/_ext", "genlib")
    for path in (ROOT / folder).rglob("*.py")
]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_text_has_a_stated_encoding(path):
    assert encoding_complaints(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("open('a')", 1),
        ("open('a', encoding='utf-8')", 0),
        ("open('a', 'rb')", 0),
        ("path.open(mode='wb')", 0),
        ("path.read_text()", 1),
        ("path.write_text('a')", 1),
        ("subprocess.run([], text=True)", 1),
        ("subprocess.run([], encoding='utf-8')", 0),
        ("Image.open('a')", 0),
    ],
)
def test_a_missing_encoding_is_noticed(text, count):
    assert len(encoding_complaints(text)) == count


def test_nothing_names_an_index_of_one_machine():
    for name in ("requirements.lock", "environment.yml", "pyproject.toml", "Makefile"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"find-links|index-url|file://", text), name


def test_versions_and_licences_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", project["version"])
    assert citation["license"] == project["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert "CC BY 4.0" in (ROOT / "LICENSE-TEXT.md").read_text(encoding="utf-8")


def test_the_readme_lists_every_target():
    rules = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {"book", "test", "execute", "lab", "serve", "clean", "lock", "format"} <= set(rules)
    assert [rule for rule in rules if f"`make {rule}" not in readme and rule != "help"] == []


# The map of the front page and the table of contents ---------------------------------------------------------


def parts_of_toc(text):
    """The parts between "Start here" and "Reference" with their lessons; a comment keeps an empty part's place."""
    parts = []
    for line in text.splitlines():
        if caption := re.match(r'  (?:# )?- caption: "?([^"]+)"?$', line):
            parts.append((caption[1], []))
        elif lesson := re.match(r"      - file: notebooks/(\w+)$", line):
            parts[-1][1].append(lesson[1])
    names = [name for name, _ in parts]
    return parts[names.index("Start here") + 1 : names.index("Reference")]


def cards_of_map(text):
    """The cards of the map: the name, its lessons with their seconds, its planned ones."""
    cards = []
    for name, body in re.findall(r"^:::\{card\} (.+)\n((?:(?!:::).*\n)*):::$", text, flags=re.M):
        lines = re.findall(r"^- (.*)$", body, flags=re.M)
        stand = [re.fullmatch(r"\[.+\]\(\.\./notebooks/(\w+)\.ipynb\) \{.+\}`(\d+) s`", x) for x in lines]
        planned = [re.fullmatch(r"\*\*.+\*\* \{.+\}`planned`", x) for x in lines]
        odd = [x for x, a, b in zip(lines, stand, planned, strict=True) if not a and not b]
        cards.append((name, [a.groups() for a in stand if a], sum(map(bool, planned)), odd))
    return cards


def map_complaints(toc, front, seconds):
    """What the map of the front page says otherwise than the table of contents and the lessons themselves."""
    parts, cards = parts_of_toc(toc), cards_of_map(front)
    if [name for name, _ in parts] != [name for name, *_ in cards]:
        return ["the map has other parts than _toc.yml, or another order"]
    said = []
    for (name, lessons), (_, shown, planned, odd) in zip(parts, cards, strict=True):
        said += [
            f"{name}: a line is neither a lesson with its time nor a planned one: {line}" for line in odd
        ]
        if lessons != [lesson for lesson, _ in shown]:
            said.append(f"{name}: the map has other lessons than _toc.yml, or another order")
        if not lessons and not planned:
            said.append(f"{name}: the map shows neither a lesson nor a planned one")
        said += [
            f"{lesson}: the map says {time} s" for lesson, time in shown if seconds.get(lesson) != int(time)
        ]
    return said


def test_the_map_shows_the_table_of_contents():
    toc, front = ((ROOT / name).read_text(encoding="utf-8") for name in ("_toc.yml", "book/index.md"))
    stated = re.compile(r"\*\*Time\*\*: .*the cells run in about (\d+) s\.")
    lessons = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "notebooks").glob("*.ipynb")}
    seconds = {name: int(stated.search(text)[1]) for name, text in lessons.items()}
    assert map_complaints(toc, front, seconds) == []
    assert {lesson for _, part in parts_of_toc(toc) for lesson in part} == set(lessons)


TOC = """\
  - caption: Start here
  - caption: "One: a"
    chapters:
      - file: notebooks/a
      - file: notebooks/b
  # - caption: Two
  - caption: Reference
"""
MAP = """\
:::{card} One: a
- [A](../notebooks/a.ipynb) {bdg-success-line}`3 s`
  *about a*
- [B](../notebooks/b.ipynb) {bdg-success-line}`4 s`
:::

:::{card} Two
- **C** {bdg-secondary-line}`planned`
:::
"""


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("One: a", "One", "other parts"),
        (MAP, MAP[MAP.index(":::{card} Two") :] + MAP[: MAP.index(":::{card} Two")], "other parts"),
        ("/a.ipynb", "/c.ipynb", "other lessons"),
        ("- [A](../notebooks/a.ipynb) {bdg-success-line}`3 s`\n", "", "other lessons"),
        ("`4 s`", "`40 s`", "b: the map says 40 s"),
        (" {bdg-success-line}`4 s`", "", "neither a lesson with its time"),
        ("- **C** {bdg-secondary-line}`planned`\n", "", "nor a planned one"),
    ],
)
def test_a_map_that_disagrees_is_noticed(old, new, word):
    assert map_complaints(TOC, MAP, {"a": 3, "b": 4}) == []
    assert any(word in said for said in map_complaints(TOC, MAP.replace(old, new), {"a": 3, "b": 4}))


# scripts/build.py --------------------------------------------------------------------------------------------


def test_every_page_of_the_table_of_contents_must_be_built(tmp_path):
    toc = tmp_path / "_toc.yml"
    toc.write_text(
        "root: book/index\n"
        "parts:\n"
        "- caption: file\n"
        "  chapters:\n"
        "  - file: a\n"
        "    sections: [{file: deep/b.md}]\n"
        "  - url: https://example.org\n",
        encoding="utf-8",
    )
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.html").touch()
    assert build.toc_pages(yaml.safe_load(toc.read_text(encoding="utf-8"))) == ["book/index", "a", "deep/b"]
    assert build.missing_pages(toc, tmp_path) == ["a", "deep/b"]


def test_a_build_that_leaves_a_page_out_fails(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(build, "build", lambda strict, lessons: 0)
    monkeypatch.setattr(build, "HTML", tmp_path)
    assert build.main([]) == 1
    assert "book/index" in capsys.readouterr().err


# scripts/test.py ---------------------------------------------------------------------------------------------


@pytest.fixture
def two_parts(monkeypatch):
    fails, passes = ["-c", "raise SystemExit(1)"], ["-c", "pass"]
    monkeypatch.setattr(test, "PARTS", {"one": ("fails", [fails, passes]), "two": ("passes", [passes])})


@pytest.mark.usefixtures("two_parts")
def test_a_part_that_fails_hides_no_other(capfd):
    assert test.main([]) == 1
    shown = capfd.readouterr().out
    assert re.search(r"one +FAILED", shown)
    assert re.search(r"two +ok", shown)


@pytest.mark.usefixtures("two_parts")
def test_one_part_can_be_named(capfd):
    assert test.main(["two"]) == 0
    assert "one" not in capfd.readouterr().out.split("==> summary")[1]
    with pytest.raises(SystemExit):
        test.main(["three"])


@pytest.mark.parametrize(
    ("ci", "status", "word"), [("", 0, "skipped"), ("true", 1, "FAILED"), ("false", 0, "skipped")]
)
def test_a_missing_browser_is_an_error_under_ci_only(monkeypatch, capfd, ci, status, word):
    monkeypatch.setattr(test, "has_browser", lambda: False)
    monkeypatch.setenv("CI", ci)
    assert test.main(["pages"]) == status
    shown = capfd.readouterr().out
    assert "no Chromium is installed" in shown
    assert re.search(rf"pages +{word}", shown)


def test_an_unknown_lesson_lists_the_known(capsys):
    with pytest.raises(SystemExit):
        test.main(["--lesson", "flow"])
    shown = capsys.readouterr().err
    assert "no notebook is called flow; there are: " in shown
    assert "flows, flows_on_images" in shown


@pytest.mark.parametrize(
    ("lessons", "tests"),
    [
        (["flows"], ["a[flows]"]),
        (["flows_on_images"], ["a[flows_on_images]"]),
        (["flows", "gan"], ["a[flows]", "a[gan]"]),
        (["flows", "flows_on_images"], ["a[flows]", "a[flows_on_images]"]),
    ],
)
def test_the_tests_of_a_lesson_are_its_own(lessons, tests):
    known = ["flows", "flows_on_images", "gan", "gan_training"]
    for part in ("units", "pages"):
        _, [command] = test.parts_of(lessons, known)[part]
        chosen = command[command.index("-k") + 1]
        expression = re.sub(r"\b(?!and\b|or\b|not\b)\w+", lambda word: f"({word[0]!r} in name)", chosen)
        assert [f"a[{name}]" for name in known if eval(expression, {"name": name})] == tests


def test_all_that_concerns_a_lesson_is_run_beside_its_cells(monkeypatch, capfd):
    parts = {
        "notebooks": ("cells", [["-c", "print('the cells')"]]),
        "build": ("page", [["-c", "print('the page'); raise SystemExit(1)"]]),
    }
    monkeypatch.setattr(test, "parts_of", lambda lessons, known: dict(parts))
    assert test.main(["--lesson", "flows"]) == 1
    shown = capfd.readouterr().out
    assert shown.index("the page") < shown.index("the cells") < shown.index("==> summary")
    assert re.search(r"build +FAILED", shown)
    assert re.search(r"notebooks +ok", shown)


def test_changes_and_shards_reach_the_lessons(monkeypatch):
    ran = {}
    monkeypatch.setattr(
        test, "run", lambda part, about, commands, quiet=False: ran.update({part: commands}) or ("ok", "", 0)
    )
    test.main(["lint", "notebooks", "--changed", "--shard", "1/4"])
    assert ran["notebooks"] == [["scripts/lessons.py", "--changed", "--shard", "1/4"]]
    assert ran["lint"] == test.PARTS["lint"][1]


def test_without_a_home_that_can_be_written_the_tools_get_another_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert "MPLCONFIGDIR" not in test.environment()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for name in ("MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        assert Path(test.environment()[name]).parent.is_dir()
    monkeypatch.setenv("MPLCONFIGDIR", "mine")
    assert test.environment()["MPLCONFIGDIR"] == "mine"


# The errata ----------------------------------------------------------------------------------------------------

ENTRY = re.compile(
    r"\(e(?P<target>\d+)\)=\n\((?P<anchor>errata-[a-z-]+)\)=\n\n"
    r"\*\*E(?P<number>\d+)\. [^\n]+\*\*\n: (?P<has>[^\n]+)\n\n"
    r"  \*Right:\* [^\n]+\n\n"
    r"  \*Why:\* [^\n]+\n"
)
DOCUMENT = r"\[\d{3}\]\(#document-\d{3}\)"
VERDICT = re.compile(rf"\*In ({DOCUMENT}(?:, {DOCUMENT})*), (?:wrong|loose):\* ")


def errata_complaints(text):
    """What is wrong with the form of the errata: numbers, verdicts, quotations, and the links to the documents."""
    said = []
    entries = list(ENTRY.finditer(text))
    numbers = sorted(int(entry["number"]) for entry in entries)
    titles = re.findall(r"^\*\*E\d", text, flags=re.M)
    if numbers != list(range(1, len(titles) + 1)):
        said.append("an entry lacks its anchors, Right or Why, or the numbers have gaps")
    if len({entry["anchor"] for entry in entries}) != len(entries):
        said.append("two entries share an anchor")
    named = {}
    for entry in entries:
        number = f"E{entry['number']}"
        if entry["target"] != entry["number"]:
            said.append(f"{number} has another number in its anchor")
        verdicts = list(VERDICT.finditer(entry["has"]))
        if not verdicts or verdicts[0].start() or len(verdicts) != entry["has"].count("*In "):
            said.append(f"{number} does not say which document is wrong or loose")
            continue
        ends = [verdict.start() for verdict in verdicts[1:]] + [len(entry["has"])]
        for verdict, end in zip(verdicts, ends, strict=True):
            if not re.search(r'"[^"]+"|\$[^$]+\$', entry["has"][verdict.end() : end]):
                said.append(f"{number} quotes nothing")
            for document, target in re.findall(r"\[(\d{3})\]\(#document-(\d{3})\)", verdict[1]):
                if document != target:
                    said.append(f"{number} leads to document {target} under the name of {document}")
                named.setdefault(document, set()).add((int(entry["number"]), f"#{entry['anchor']}"))
        if '"' not in entry["has"]:
            said.append(f"{number} has no words of the document")
        if entry["has"].count('"') % 2:
            said.append(f"{number} leaves a quotation open")
    for document, listed in re.findall(
        r"\(document-(\d{3})\)=\n\n.*?Entries: ([^\n]+)\.\n", text, flags=re.S
    ):
        links = re.findall(r"\[E(\d+)\]\((#[a-z-]+)\)", listed)
        if [(int(number), anchor) for number, anchor in links] != sorted(named.pop(document, ())):
            said.append(f"the list of document {document} is not that of the entries that name it")
    return said + [f"document {document} has no list of entries" for document in named]


def errata_links(text):
    """The pairs of number and anchor by which a text leads to entries of the errata."""
    return set(re.findall(r"\[entry E(\d+)\]\(#(errata-[a-z-]+)\)", text))


ERRATA = """\
(document-000)=

**000**
: The post.

  Entries: [E1](#errata-one).

(e1)=
(errata-one)=

**E1. One**
: *In [000](#document-000), wrong:* "one is two".

  *Right:* One.

  *Why:* We counted.
"""


def test_every_entry_of_the_errata_has_its_parts():
    assert errata_complaints((ROOT / "book" / "errata.md").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("", "", ""),
        ("(e1)=\n", "", "anchors"),
        ("(e1)=", "(e2)=", "another number"),
        ("E1. One", "E2. One", "gaps"),
        ("  *Why:* We counted.\n", "", "Why"),
        ("wrong:*", "odd:*", "wrong or loose"),
        ("#document-000", "#document-001", "under the name of 000"),
        ('"one is two"', "one is two", "quotes nothing"),
        ('two"', 'two" "', "open"),
        ("Entries: [E1](#errata-one)", "Entries: [E2](#errata-one)", "the list of document 000"),
        ("(document-000)=", "(document-001)=", "document 000 has no list"),
    ],
)
def test_a_fault_in_the_errata_is_noticed(old, new, word):
    said = errata_complaints(ERRATA.replace(old, new, 1) if old else ERRATA)
    assert any(word in complaint for complaint in said) if word else said == []


def test_the_lessons_lead_to_the_entries_they_name():
    text = (ROOT / "book" / "errata.md").read_text(encoding="utf-8")
    entries = {(entry["number"], entry["anchor"]) for entry in ENTRY.finditer(text)}
    used = errata_links(text)
    for lesson in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
        used |= errata_links("\n".join("".join(cell["source"]) for cell in cells))
    assert used
    assert used <= entries
