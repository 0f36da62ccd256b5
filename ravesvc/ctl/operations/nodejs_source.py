"""The source of the Node.js bot, and the client identity as far as it says that plainly. It is read, never run.

That bot has no file for its identity: it is constants in the library, which go by names that differ from copy to
copy. They are found by what they are used for: the key of an HMAC, the value of a header.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ravesvc.common import text_file
from ravesvc.errors import Code, RaveError

_SOURCES = (".ts", ".js", ".mts", ".mjs", ".cts", ".cjs", ".tsx", ".jsx", ".json")
_MAX_FILES = 2000
_MAX_FILE_BYTES = 512 * 1024
_MAX_PLACES_SHOWN = 10
_PASSED_OVER = frozenset({"node_modules", "test", "tests", "coverage"})
_NO_SOURCES = frozenset(
    {
        *("package.json", "package-lock.json", "npm-shrinkwrap.json", "tsconfig.json"),
        *("credentials.json", "blocklist.json", "database.json"),
    }
)
# What a compiler has made of the rest.
_COMPILED = frozenset({"dist", "build", "out", "lib"})

STRING = r"""(?:"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)"""
_COMMENT = re.compile(rf"({STRING})|//[^\n]*|/\*[\s\S]*?\*/")
_ENVIRONMENT = r"(?:process\.env\.(?P<variable>\w+)\s*(?:\?\?|\|\|)\s*)?"
_NAME = r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*"


# What a value is used for, and what it has to look like.
_HEX_KEY = re.compile(r"[0-9A-Fa-f]{16,256}")
_ANY_WORD = re.compile(r"[!-~]{4,200}")
_HEADERS = {
    "X-Api-Key": ("mojo_api_key", _ANY_WORD),
    "X-Parse-Application-Id": ("parse_application_id", _ANY_WORD),
    "X-Parse-Installation-Id": ("parse_installation_id", re.compile(r"[0-9A-Fa-f-]{32,36}")),
    "X-Parse-App-Build-Version": ("app_build", re.compile(r"\d{1,10}")),
    "Client-Version": ("client_version", re.compile(r"\d[\w.]{0,30}")),
}
# What goes by our own name for it, in whichever spelling.
_NAMED = {
    "request_hash_key": _HEX_KEY,
    "mojo_api_key": _ANY_WORD,
    "mojo_redirect_url": re.compile(r"https://[!-~]{4,200}"),
    "parse_application_id": _ANY_WORD,
    "parse_installation_id": _HEADERS["X-Parse-Installation-Id"][1],
}
_USER_AGENT = re.compile(r"Rave/(?P<build>\d+) \((?P<version>[\w.]+)\) \(Android[ -~]{1,150}\)")
_REDIRECT = re.compile(r"https://[\w.-]+(?::\d+)?/[\w/.-]*mojoauth\b[\w/.-]*")


@dataclass(frozen=True, slots=True)
class FoundOption:
    """What a source says: `text` as it is to stand in rave.yaml, `where` with its line."""

    text: str = field(repr=False)
    where: str


@dataclass(slots=True)
class NodeSource:
    """One file, without its comments. `rank` orders files by how likely they hold what is in force."""

    name: str
    text: str = field(repr=False)
    rank: int

    def where(self, position: int) -> str:
        """A place in it, for people."""
        return f"{self.name}:{self.text.count(chr(10), 0, position) + 1}"


def read(directory: Path) -> list[NodeSource]:
    """The sources in the bot's directory. Raises nothing: a file that can't be read is skipped."""
    started = _started(directory)
    found = []
    for path in _paths(directory):
        try:
            text = text_file.read(path, _MAX_FILE_BYTES).decode(errors="replace")
        except OSError:
            continue
        name = path.relative_to(directory)
        text = _COMMENT.sub(lambda match: match[1] or re.sub(r"[^\n]", " ", match[0]), text)
        found.append(NodeSource(str(name), text, _rank(name, started)))
    return found


def identity(
    sources: list[NodeSource], environment: Mapping[str, str]
) -> tuple[dict[str, FoundOption], list[RaveError]]:
    """The same for the keys of `client_identity`; errors quote no value. `environment` is what its .env says."""
    found: dict[str, list[tuple[int, FoundOption]]] = {}

    def note(key: str, value: str, source: NodeSource, position: int) -> None:
        # A value from .env is in force wherever it is asked for.
        found.setdefault(key, []).append(
            (min(source.rank, 1), FoundOption(json.dumps(value), source.where(position)))
        )

    constants = _constants(sources, environment)
    for key, pattern in _NAMED.items():
        value = environment.get(key.upper(), "")
        if pattern.fullmatch(value):
            found[key] = [(0, FoundOption(json.dumps(value), ".env"))]
    for source in sources:
        for key, pattern, expression, position in _uses(source.text):
            for value in constants.values(expression):
                if pattern.fullmatch(value):
                    note(key, value, source, position)
        for match in _USER_AGENT.finditer(source.text):
            note("user_agent", match[0], source, match.start())
            note("app_build", match["build"], source, match.start())
            note("client_version", match["version"], source, match.start())
        for match in _REDIRECT.finditer(source.text):
            note("mojo_redirect_url", match[0], source, match.start())
    return settled(found, "client_identity.")


def environment(directory: Path) -> dict[str, str]:
    """What the file .env says; empty if there is none."""
    try:
        text = text_file.decode(text_file.read(directory / ".env", _MAX_FILE_BYTES))
    except (OSError, RaveError):
        return {}
    lines = re.finditer(r"^[ \t]*(?:export[ \t]+)?(\w+)[ \t]*=[ \t]*(.*?)[ \t\r]*$", text, re.MULTILINE)
    return {line[1]: _unquoted(line[2]) for line in lines}


def _unquoted(value: str) -> str:
    """A value of .env without its quotes, or the comment behind it."""
    if match := re.match(r"""(["'`])(.*?)\1""", value):
        return match[2]
    return re.sub(r"(?:^|[ \t]+)#.*", "", value).strip("\"'")


class _Constants:
    """Texts that have a name in the source, or stand in .env."""

    def __init__(self, named: dict[str, set[str]], environment: Mapping[str, str]) -> None:
        self._named = named
        self._environment = environment

    def values(self, expression: str) -> set[str]:
        """What a name or a literal may stand for."""
        match = re.fullmatch(rf"{_ENVIRONMENT}(?P<literal>{STRING})?(?P<name>{_NAME})?", expression.strip())
        if not match:
            return set()
        if match["variable"] in self._environment:
            return {self._environment[match["variable"]]}
        if match["literal"]:
            return {text_of(match["literal"])}
        name = match["name"] or ""
        if name.startswith("process.env."):
            return {self._environment.get(name.rpartition(".")[2], "")}
        return self._named.get(name.rpartition(".")[2], set())


def _constants(sources: Iterable[NodeSource], environment: Mapping[str, str]) -> _Constants:
    pattern = re.compile(
        rf"\b(?P<name>[A-Za-z_$][\w$]*)[\"']?\s*(?::\s*string\s*)?[:=]\s*{_ENVIRONMENT}(?P<value>{STRING})"
    )
    named: dict[str, set[str]] = {}
    for source in sources:
        for match in pattern.finditer(source.text):
            value = environment.get(match["variable"] or "", text_of(match["value"]))
            named.setdefault(match["name"], set()).add(value)
    return _Constants(named, environment)


def _uses(text: str) -> Iterator[tuple[str, re.Pattern[str], str, int]]:
    """Where a source uses something of the identity: key, what it looks like, the expression, and the place."""
    value = rf"(?P<value>{_ENVIRONMENT}{STRING}|{_NAME})"
    for match in re.finditer(rf"createHmac\(\s*[\"'`]sha256[\"'`]\s*,\s*{value}", text):
        yield "request_hash_key", _HEX_KEY, match["value"], match.start()
    for key, pattern in _NAMED.items():
        for match in re.finditer(rf"\b(?:{'|'.join(_spellings(key))})[\"']?\s*[:=]\s*{value}", text):
            yield key, pattern, match["value"], match.start()
    for header, (key, pattern) in _HEADERS.items():
        for match in re.finditer(rf"(?i)[\"']{header}[\"']\]?\s*[:=,]\s*{value}", text):
            yield key, pattern, match["value"], match.start()


def _spellings(key: str) -> list[str]:
    """The name of a key as a program in JavaScript may write it."""
    first, *rest = key.split("_")
    return [key, key.upper(), first + "".join(map(str.capitalize, rest))]


def settled(
    found: Mapping[str, list[tuple[int, FoundOption]]], prefix: str
) -> tuple[dict[str, FoundOption], list[RaveError]]:
    """Of each key the value of the best files, if these agree."""
    chosen, problems = {}, []
    for key, every in found.items():
        best = [each for rank, each in every if rank == min(rank for rank, _ in every)]
        if len({each.text for each in best}) == 1:
            chosen[key] = best[0]
        else:
            where = places(each.where for each in best)
            text = f"{prefix}{key} is not taken over: the old bot has several values ({where})"
            problems.append(RaveError(Code.BAD_FILE, text, hint="set the right one in rave.yaml", file=where))
    return chosen, problems


def places(found: Iterable[str]) -> str:
    """Places in sources, as many as fit on a line."""
    every = sorted(set(found))
    more = f" and {len(every) - _MAX_PLACES_SHOWN} more" if len(every) > _MAX_PLACES_SHOWN else ""
    return ", ".join(every[:_MAX_PLACES_SHOWN]) + more


def text_of(literal: str) -> str:
    """What a string of JavaScript stands for."""
    return re.sub(r"\\(.)", r"\1", literal[1:-1])


def _paths(directory: Path) -> Iterator[Path]:
    """The sources, at most so many; links are not followed."""
    left = _MAX_FILES
    for where, below, names in os.walk(directory):
        below[:] = sorted(name for name in below if name not in _PASSED_OVER and not name.startswith("."))
        for name in sorted(names):
            path = Path(where, name)
            source = name.endswith(_SOURCES) and not name.endswith(".d.ts") and name not in _NO_SOURCES
            if source and not path.is_symlink():
                yield path
                left -= 1
                if not left:
                    return


def _started(directory: Path) -> str:
    """What package.json says of how the bot is started."""
    try:
        document = json.loads(text_file.decode(text_file.read(directory / "package.json", _MAX_FILE_BYTES)))
        return f"{document.get('main', '')} {document.get('scripts', {}).get('start', '')}"
    except (OSError, RaveError, ValueError, AttributeError, RecursionError):
        return ""


def _rank(name: Path, started: str) -> int:
    if str(name) in started:
        return 0
    if _COMPILED.intersection(name.parts[:-1]):
        return 3
    # The library's own defaults are in src.
    return 2 if name.parts[0] == "src" else 1
