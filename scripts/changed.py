"""What a lesson reaches of genlib, found by reading the code and not by running it.

From the names that the lesson uses, each top-level definition leads to those that it names, across modules, through
re-exports and through imports inside functions. Of every module on the way the statements that act at import count as
well: imports, decorated definitions, assignments with a call. In doubt too much is taken: a module that is used as a
value (`getattr(module, name)`) counts as a whole, and so does a module of graders that holds the label of one of the
lesson's exercises. Comments and layout do not count, docstrings do.

A definition that no lesson reaches can still break the import of its module; that is left to the unit tests.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

# What these lead to is not written in the code: they reach everything.
DYNAMIC = {"__import__", "eval", "exec", "globals", "import_module", "importlib.import_module"}
GRADE = ("genlib.checks", "grade")  # imports every module of graders, and uses the one that holds the label

Chain = tuple[str, ...]  # a dotted name: flows.core.Flow
Item = tuple[str, str]  # a module and a name in it; without a name, what the module does when it is imported


class Module:
    """The statements of a module, sorted.

    Args:
        text: of the module.
        package: that its relative imports start from.
    """

    def __init__(self, text: str, package: str = "") -> None:
        tree = ast.parse(text)
        self.definitions: dict[str, list[ast.stmt]] = defaultdict(list)
        self.always: list[ast.stmt] = []
        self.aliases: dict[str, set[tuple[str, Chain]]] = defaultdict(
            set
        )  # a name: from where, and what of it
        self.imports: set[str] = set()
        for statement in tree.body:
            names = bound(statement)
            for name in names:
                self.definitions[name].append(statement)
            words = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not words and (not names or acts(statement)):
                self.always.append(statement)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports.add(alias.name)
                    first = alias.name.partition(".")[0]
                    self.aliases[alias.asname or first].add((alias.name if alias.asname else first, ()))
            elif isinstance(node, ast.ImportFrom):
                around = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
                source = ".".join([*around, *filter(None, [node.module])])
                for alias in node.names:
                    self.imports.add(f"{source}.{alias.name}")
                    self.aliases[alias.asname or alias.name].add((source, (alias.name,)))


def bound(statement: ast.stmt) -> list[str]:
    """The names that a definition or an assignment binds; none for any other statement."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return []
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    parts = [part for target in targets for part in getattr(target, "elts", [target])]
    return [part.id for part in parts] if all(isinstance(part, ast.Name) for part in parts) else []


def acts(statement: ast.stmt) -> bool:
    """Whether a definition may do something at import: it is decorated, or assigned with a call."""
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        return any(isinstance(node, ast.Call) for node in ast.walk(statement))
    return bool(statement.decorator_list)


def chains(node: ast.AST) -> Iterator[Chain]:
    """The dotted names in a piece of code, each as long as it goes."""
    tail: Chain = ()
    while isinstance(node, ast.Attribute):
        node, tail = node.value, (node.attr, *tail)
    if isinstance(node, ast.Name):
        yield (node.id, *tail)
    for child in ast.iter_child_nodes(node):
        yield from chains(child)


class Library:
    """A package as its text tells it.

    Args:
        root: the folder that holds the package.
        package: its name.
    """

    def __init__(self, root: Path, package: str = "genlib") -> None:
        self.root, self.package = root, package
        self.texts: dict[str, str] = {}
        self.places: dict[str, Path] = {}
        self.modules: dict[str, Module] = {}
        for path in sorted((root / package).rglob("*.py")):
            folder = ".".join(path.parent.relative_to(root).parts)
            name = folder if path.stem == "__init__" else f"{folder}.{path.stem}"
            self.places[name] = path
            self.texts[name] = path.read_text(encoding="utf-8")
            self.modules[name] = Module(self.texts[name], folder)

    def reached(self, code: str) -> set[Item]:
        """All that a piece of code can use of the package."""
        try:
            start = Module(code)
        except SyntaxError:
            return set(self.whole(self.package))
        waiting = [*self.used(start, ast.parse(code), ("", ""))]
        waiting += [item for name in start.imports for item in self.imported(name)]
        for label in re.findall(r"ex:[\w-]+", code):
            holds = re.compile(rf"""["']{label}["']""").search
            graders = [name for name in self.texts if name.startswith(f"{self.package}.graders.")]
            waiting += [item for name in graders if holds(self.texts[name]) for item in self.whole(name)]
        found: set[Item] = set()
        while waiting:
            item = waiting.pop()
            if item not in found:
                found.add(item)
                waiting += self.next(item)
        return found

    @functools.lru_cache(None)  # noqa: B019 (a library lives as long as the program)
    def next(self, item: Item) -> frozenset[Item]:
        """What a definition leads to at once."""
        return frozenset(self.steps(item))

    def steps(self, item: Item) -> Iterator[Item]:
        """The same, one by one, with repetitions."""
        name, definition = item
        module = self.modules[name]
        yield from self.imported(name)
        if not definition:
            for other in module.imports:
                yield from self.imported(other)
        for statement in module.definitions[definition] if definition else module.always:
            yield from self.used(module, statement, item)

    def imported(self, name: str) -> Iterator[Item]:
        """What acts when a module is imported: it and the packages around it."""
        if name.endswith(".*"):
            yield from self.whole(name[:-2])
        while name:
            if name in self.modules:
                yield name, ""
            name = name.rpartition(".")[0]

    def whole(self, name: str) -> Iterator[Item]:
        """All that a module or a package holds."""
        for other, module in self.modules.items():
            if f"{other}.".startswith(f"{name}."):
                yield from ((other, definition) for definition in ["", *module.definitions])

    def used(self, module: Module, code: ast.AST, where: Item) -> Iterator[Item]:
        """What a piece of a module's code names."""
        for chain in chains(code):
            hidden = DYNAMIC & {chain[0], ".".join(chain[:2])} or chain[-1] == "__subclasses__"
            if hidden and where != GRADE:
                yield from self.whole(self.package)
            if where[0] and chain[0] in module.definitions:
                yield where[0], chain[0]
            for source, taken in module.aliases.get(chain[0], ()):
                yield from self.taken(source, taken + chain[1:])

    def taken(self, name: str, chain: Chain, seen: frozenset = frozenset()) -> Iterator[Item]:
        """What a dotted name stands for that is taken from a module."""
        if name not in self.modules or (name, chain) in seen or chain[:1] == ("*",):
            return
        if not chain:
            yield from self.whole(name)
            return
        module, inner = self.modules[name], f"{name}.{chain[0]}"
        if chain[0] in module.definitions:
            yield name, chain[0]
        for source, first in module.aliases.get(chain[0], ()):
            yield from self.taken(source, first + chain[1:], seen | {(name, chain)})
        yield from self.taken(inner, chain[1:])
        known = chain[0] in module.definitions or chain[0] in module.aliases or inner in self.modules
        if not known and chain[0] not in ("__path__", "__name__"):
            yield from self.whole(name)

    @functools.lru_cache(None)  # noqa: B019 (a library lives as long as the program)
    def text(self, item: Item) -> str:
        """A definition, without comments and layout."""
        module = self.modules[item[0]]
        return "\n".join(map(ast.dump, module.definitions[item[1]] if item[1] else module.always))

    def data(self, names: set[str]) -> dict[str, str]:
        """The digests of the files that lie beside modules and are no code, such as stored results."""
        folders = {self.places[name].parent for name in names}
        found = {}
        for path in sorted((self.root / self.package).rglob("*")):
            owner = next(place for place in path.parents if (place / "__init__.py").exists())
            if owner in folders and path.is_file() and path.suffix not in (".py", ".pyc"):
                content = path.read_bytes()
                found[path.relative_to(self.root).as_posix()] = hashlib.sha256(content).hexdigest()
        return found
