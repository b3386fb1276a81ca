"""The project's own files agree with each other, and its scripts keep their promises."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
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
    assert f" {lock.TORCH} " in (ROOT / ".github/workflows/book.yml").read_text(encoding="utf-8")


def test_pins_are_sorted_and_free_of_what_one_machine_needs():
    found = [("Torch", "2.13.0+cpu"), ("nvidia-cublas", "12.1"), ("triton", "3"), ("A_b.c", "1.0")]
    assert lock.pins(found) == {"a-b-c": "1.0", "torch": "2.13.0"}
    assert list(lock.pins(found)) == ["a-b-c", "torch"]


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
        "  - url: https://example.org\n"
    )
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.html").touch()
    assert build.toc_pages(yaml.safe_load(toc.read_text())) == ["book/index", "a", "deep/b"]
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
