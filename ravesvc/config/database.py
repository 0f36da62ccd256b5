"""database.json -> `Database`: where MongoDB is, for those who have one. Without the file there is none.

The file is that of the reference implementation: `{"uri": "mongodb://...", "options": {...}}`. It holds a password,
so an error names file, line and key, never a value; all are reported. The driver has the last word on both keys: see
`ravesvc.store.factory`.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from ravesvc.common import text_file
from ravesvc.common.spelling import nearest
from ravesvc.common.text import printable
from ravesvc.config.advice import FOR_SERVICE
from ravesvc.errors import Code, RaveError

Option: TypeAlias = str | bool | int | float

_KEYS = ("uri", "options")
# A usual file has some hundred bytes.
_MAX_FILE_BYTES = 1024 * 1024
_SCHEMES = ("mongodb://", "mongodb+srv://")
_FIX_HINT = "fix it, or move it away to use the embedded store"

# Enough of JSON to tell where its keys stand.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:]')


@dataclass(frozen=True, kw_only=True, slots=True)
class Database:
    """What it takes to reach MongoDB.

    Attributes:
        path: of the file that says so; errors name it.
        uri: that of MongoDB.
        options: by the names that the driver's URI options have.
        lines: of the file, by key (`uri`, `options.tls`).
    """

    path: str
    uri: str = field(repr=False)
    options: Mapping[str, Option] = field(default_factory=dict, repr=False)
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    def problem(self, key: str, text: str, *, hint: str = "") -> RaveError:
        """What is wrong with a key, as an error (Config) that says where it stands."""
        return _wrong(self.path, self.lines, key, text, hint=hint)


def read(path: str | Path, closed: str = FOR_SERVICE.closed_database) -> tuple[Database | None, list[RaveError]]:
    """Read the file: the database, or None and every error (Config) in it; None without errors when there is none.

    `closed` is the hint for a file that can't be read, see `Advice`.
    """
    try:
        content = text_file.read(path, _MAX_FILE_BYTES)
    except FileNotFoundError:
        if Path(path).is_symlink():
            hint = "fix the link, or remove it to use the embedded store"
            return None, [RaveError(Code.CONFIG, f"{path} is a link to nowhere", hint=hint, file=str(path))]
        return None, []
    except OSError as e:
        hint = closed.format(file=shlex.quote(str(path)))
        return None, [RaveError(Code.CONFIG, f"{path} can't be read: {e.strerror}", hint=hint, file=str(path))]
    return parse(content, str(path))


def parse(content: bytes, path: str) -> tuple[Database | None, list[RaveError]]:
    """Read what the file at `path` says: the database, or None and every error (Config) in it."""
    try:
        text = text_file.decode(content)
        document = json.loads(text)
    except RaveError as e:
        problem = f"{path}:1: this is not JSON: the file {e.message}"
        return None, [RaveError(Code.CONFIG, problem, hint=e.hint, file=path, line=1)]
    except json.JSONDecodeError as e:
        problem = f"{path}:{e.lineno}: this is not JSON: {e.msg}"
        # Without its cause, which holds the whole text.
        return None, [RaveError(Code.CONFIG, problem, hint=_FIX_HINT, file=path, line=e.lineno)]
    except (ValueError, RecursionError):
        return None, [RaveError(Code.CONFIG, f"{path}:1: this is not JSON", hint=_FIX_HINT, file=path, line=1)]
    lines = _lines(text)
    if not isinstance(document, dict):
        return None, [_wrong(path, lines, "the file", 'must be an object: {"uri": "mongodb://host/database"}')]
    problems = [
        *(_wrong(path, lines, key, "is not an option", hint=_known(key)) for key in document if key not in _KEYS),
        *_uri_problems(path, lines, document.get("uri")),
        *_option_problems(path, lines, document.get("options")),
    ]
    problems.sort(key=lambda problem: int(problem.attributes["line"]))
    if problems:
        return None, problems
    return Database(path=path, uri=document["uri"], options=document.get("options") or {}, lines=lines), []


def _uri_problems(path: str, lines: Mapping[str, int], value: object) -> Iterator[RaveError]:
    if not isinstance(value, str) or not value.startswith(_SCHEMES) or not value.isprintable():
        problem = f"must be a text that begins with {' or '.join(_SCHEMES)}"
        yield _wrong(path, lines, "uri", problem, hint="such as mongodb://user:password@host:27017/rave-bot")


def _option_problems(path: str, lines: Mapping[str, int], value: object) -> Iterator[RaveError]:
    if value is None:
        return
    if not isinstance(value, dict):
        yield _wrong(path, lines, "options", 'must be an object, such as {"maxPoolSize": 10}')
        return
    for name, option in value.items():
        key = f"options.{name}"
        if not re.fullmatch("[A-Za-z]+", name):
            yield _wrong(path, lines, key, "is not an option", hint="options are those of MongoDB's URIs")
        elif not isinstance(option, (str, bool, int, float)):
            yield _wrong(path, lines, key, "must be a text, a number, true or false")
        elif isinstance(option, float) and not math.isfinite(option):
            yield _wrong(path, lines, key, "must be a finite number")


def _known(key: str) -> str:
    close = nearest(key, _KEYS)
    return f"did you mean {close}?" if close else "known here: " + ", ".join(_KEYS)


def _wrong(path: str, lines: Mapping[str, int], key: str, problem: str, *, hint: str = "") -> RaveError:
    # What is missing would stand in the object that begins the file.
    line = lines.get(key, 1)
    section, name = ("options.", key.removeprefix("options.")) if key.startswith("options.") else ("", key)
    shown = section + (printable(name, 40) or "an empty key")
    return RaveError(Code.CONFIG, f"{path}:{line}: {shown} {problem}", hint=hint, file=path, line=line, key=shown)


def _lines(text: str) -> dict[str, int]:
    """The line of each key of a JSON text, by the keys that lead there: `options.tls`."""
    lines: dict[str, int] = {}
    parents: list[str] = []
    word, place = "", 1
    line, seen = 1, 0
    for token in _TOKEN.finditer(text):
        line, seen = line + text.count("\n", seen, token.start()), token.start()
        match token[0]:
            case "{" | "[":
                parents.append(word)
            case "}" | "]":
                parents.pop()
            case ":":
                # The first parent is the object that all of it is.
                lines[".".join([*parents[1:], word])] = place
            case quoted:
                word, place = json.loads(quoted), line
    return lines
