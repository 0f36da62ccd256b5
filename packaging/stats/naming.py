"""Names and words: classes of one name, constants without a unit, sentences without an actor."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatch

from source import Module

# They hide who acts, or on what.
HIDDEN_ACTORS = re.compile(
    r"(?<![a-z])(who(m)?ever|whatever|(some|no|any|every)body|(some|any|every)one)(?![a-z])", re.IGNORECASE
)
# What people read besides the texts in the program.
PAGES = (
    "README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "packaging/man/*.[0-9]",
    "packaging/man/*.in",
    "packaging/man/*.py",
    "config/rave.yaml",
)
_TIME_UNITS = {"NS", "US", "USEC", "MS", "MILLISECONDS", "S", "SECONDS", "MINUTES", "HOURS", "DAYS"}
_SIZE_UNITS = {"BITS", "BYTES", "KB", "KIB", "MB", "MIB", "CHARS", "LINES", "PX", "PIXELS"}
# What has no unit.
_PURE_NUMBERS = {"PERCENT", "RATIO", "SHARE", "FACTOR", "EPSILON", "PER", "THRESHOLD", "BOUND", "MAGNITUDE"}
UNITS = frozenset(_TIME_UNITS | _SIZE_UNITS | _PURE_NUMBERS)
# A constant with one of these in its name is a time or a size, whatever its value looks like.
_MEASURES = frozenset(
    ["TIMEOUT", "DELAY", "INTERVAL", "PAUSE", "GRACE", "PATIENCE", "WAIT", "LENGTH", "SIZE", "LONGEST", "LARGEST"]
)
# They say neither what is bounded nor in what unit.
_VAGUE = frozenset(["LONGEST", "LARGEST", "MOST", "PATIENCE"])
_CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")


def classes_of_one_name(modules: Collection[Module]) -> dict[str, list[str]]:
    """The names of classes that more than one module defines, and where."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].setdefault(module.path, f"{module.path}:{node.lineno}")
    return {name: list(places.values()) for name, places in sorted(found.items()) if len(places) > 1}


def constants(module: Module) -> Iterator[tuple[str, ast.expr, str]]:
    """Name, value and place of each constant of a module."""
    for node in module.tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if _CONSTANT.fullmatch(name):
                yield name, value, f"{module.path}:{node.lineno}"
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                for target, value in zip(targets, values, strict=False):
                    if isinstance(target, ast.Name) and _CONSTANT.fullmatch(target.id):
                        yield target.id, value, f"{module.path}:{node.lineno}"
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if _CONSTANT.fullmatch(name):
                yield name, value, f"{module.path}:{node.lineno}"


def lacks_unit(name: str, value: ast.expr) -> bool:
    """Whether a constant is a time or a size, as far as can be told, and its name does not say in what unit.

    A name such as `_LONGEST` never does. A number with a point is taken for a time. A shift by ten bits or more, or a
    power of two from 1024 on, is taken for a size, unless the name ends with what is counted (`MAX_CONNECTIONS`).
    """
    words = name.strip("_").split("_")
    if not _is_number(value):
        return False
    if not _VAGUE.isdisjoint(words):
        return True
    if not UNITS.isdisjoint(words):
        return False
    nodes = list(ast.walk(value))
    if any(isinstance(node, ast.Constant) and isinstance(node.value, float) for node in nodes):
        return True
    named = {word for node in nodes if isinstance(node, ast.Name) for word in node.id.split("_")}
    if not _MEASURES.isdisjoint(words) or not UNITS.isdisjoint(named):
        return True
    return any(_is_size(node) for node in nodes) and not name.endswith("S")


def hidden_actors(module: Module) -> Iterator[str]:
    """Where a docstring or a text of the program (help, log, errors, chat) has such a word."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from hidden_in(node.value, module.path, node.lineno)


def hidden_in_pages(files: Mapping[str, str]) -> Iterator[str]:
    """The same in what people read besides."""
    for path, text in sorted(files.items()):
        if any(fnmatch(path, pattern) for pattern in PAGES):
            yield from hidden_in(text, path, 1)


def hidden_in(text: str, path: str, first_line: int) -> Iterator[str]:
    """Place and word of each in a text that begins on that line of a file."""
    for found in HIDDEN_ACTORS.finditer(text):
        yield f"{path}:{first_line + text.count(chr(10), 0, found.start())}: {found[0]}"


def _is_number(value: ast.expr) -> bool:
    match value:
        case ast.Constant(value=int() | float()):
            return not isinstance(value.value, bool)
        case ast.BinOp(left=left, right=right):
            return _is_number(left) and _is_number(right)
        case ast.UnaryOp(operand=operand):
            return _is_number(operand)
        case ast.Name(id=name):
            return bool(_CONSTANT.fullmatch(name))
    return False


def _is_size(node: ast.AST) -> bool:
    match node:
        case ast.BinOp(op=ast.LShift(), right=ast.Constant(value=int(bits))):
            return bits >= 10
        case ast.BinOp(left=ast.Constant(value=2), op=ast.Pow(), right=ast.Constant(value=int(bits))):
            return 10 <= bits <= 30
        case ast.Constant(value=int(number)):
            return 2**10 <= number <= 2**28 and number.bit_count() == 1
    return False
