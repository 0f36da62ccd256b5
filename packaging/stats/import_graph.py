"""Which module imports which, and the circles in that."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeAlias

from source import Module

Graph: TypeAlias = Mapping[str, AbstractSet[str]]


class Import(NamedTuple):
    """One import of ours by ours: the modules' names, and the file and line where it stands."""

    source: str
    target: str
    place: str


def imports(modules: Collection[Module]) -> list[Import]:
    """All of them: also those for type checkers, those inside of functions, and those by a literal name."""
    known = {module.name for module in modules}
    return [
        Import(module.name, target, f"{module.path}:{line}")
        for module in modules
        for name, line in _imported(module.tree)
        if (target := _module_of(name, known))
    ]


def graph(found: Collection[Import]) -> Graph:
    """Modules, and what each imports."""
    return _graph((each.source, each.target) for each in found)


def package_graph(found: Collection[Import]) -> Graph:
    """The same of packages: what is directly below the root, and the root itself."""
    pairs = ((package(each.source), package(each.target)) for each in found)
    return _graph((source, target) for source, target in pairs if source != target)


def package(module: str) -> str:
    """The package of a module: `ravesvc.store` for `ravesvc.store.engines.mongo`."""
    return ".".join(module.split(".")[:2])


def circles(of: Graph) -> list[frozenset[str]]:
    """Groups in which each imports each, directly or by way of others; the largest first."""
    reached = {name: _reached(name, of) for name in of}
    groups = {
        frozenset(other for other in reached[name] if name in reached.get(other, ()))
        for name in of
        if name in reached[name]
    }
    return sorted(groups, key=lambda group: (-len(group), sorted(group)))


def _graph(pairs: Iterator[tuple[str, str]]) -> Graph:
    found = defaultdict(set)
    for source, target in pairs:
        found[source].add(target)
    return found


def _reached(start: str, of: Graph) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = of.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


def _imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """What is imported, by its dotted name, and the line."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((each.name, node.lineno) for each in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from ((f"{module}.{each.name}", node.lineno) for each in names)
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                yield name, node.lineno


def _module_of(name: str, known: Collection[str]) -> str | None:
    """The module that an imported name is, or is in."""
    return next((each for each in (name, name.rpartition(".")[0]) if each in known), None)
