"""database.json -> `Database`: where MongoDB is, for those who have one. Without the file there is none.

The file is that of the reference implementation: `{"uri": "mongodb://...", "options": {...}}`. It holds a password,
so an error names file and key, never a value. The driver has the last word on both, when the store is made.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ravesvc.errors import Code, RaveError
from ravesvc.words import printable

Option: TypeAlias = str | bool | int | float

_KEYS = ("uri", "options")
_SCHEMES = ("mongodb://", "mongodb+srv://")
_MEND = "mend it, or move it away to use the embedded store"


@dataclass(frozen=True, kw_only=True, slots=True)
class Database:
    """What it takes to reach MongoDB.

    Attributes:
        path: of the file that says so; errors name it.
        uri: that of MongoDB.
        options: by the names that the driver's URI options have.
    """

    path: str
    uri: str = field(repr=False)
    options: Mapping[str, Option] = field(default_factory=dict, repr=False)


def load(path: str | Path) -> Database | None:
    """Read the file; None when there is none. Raises `RaveError` (Config)."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        if Path(path).is_symlink():
            hint = "mend the link, or remove it to use the embedded store"
            raise RaveError(Code.CONFIG, f"{path} is a link to nowhere", hint=hint, file=str(path)) from e
        return None
    except OSError as e:
        hint = f"it must be a file of root:rave with mode 0640: chown root:rave {path} && chmod 0640 {path}"
        raise RaveError(Code.CONFIG, f"{path} can't be read: {e.strerror}", hint=hint, file=str(path)) from e
    except json.JSONDecodeError as e:
        text = f"{path}:{e.lineno}: this is not JSON: {e.msg}"
        # Without its cause, which holds the whole text.
        raise RaveError(Code.CONFIG, text, hint=_MEND, file=str(path), line=e.lineno) from None
    except (ValueError, RecursionError):
        raise RaveError(Code.CONFIG, f"{path}: this is not JSON in UTF-8", hint=_MEND, file=str(path)) from None
    if not isinstance(document, dict):
        raise _wrong(path, "the file", 'must be an object: {"uri": "mongodb://host/database"}')
    for key in document:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {close[0]}?" if close else "known here: " + ", ".join(_KEYS)
            raise _wrong(path, _name(key), "is not an option", hint=hint)
    uri, options = _uri(path, document.get("uri")), _options(path, document.get("options"))
    return Database(path=str(path), uri=uri, options=options)


def _uri(path: str | Path, value: object) -> str:
    if not isinstance(value, str) or not value.startswith(_SCHEMES) or not value.isprintable():
        example = "mongodb://user:password@host:27017/rave-bot"
        raise _wrong(
            path, "uri", f"must be a text that begins with {' or '.join(_SCHEMES)}", hint=f"such as {example}"
        )
    return value


def _options(path: str | Path, value: Any) -> dict[str, Option]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(path, "options", 'must be an object, such as {"maxPoolSize": 10}')
    for key, option in value.items():
        if not re.fullmatch("[A-Za-z]+", key):
            raise _wrong(
                path, f"options.{_name(key)}", "is not an option", hint="options are those of MongoDB's URIs"
            )
        if not isinstance(option, (str, bool, int, float)):
            raise _wrong(path, f"options.{key}", "must be a text, a number, true or false")
    return value


def _wrong(path: str | Path, key: str, problem: str, *, hint: str = "") -> RaveError:
    return RaveError(Code.CONFIG, f"{path}: {key} {problem}", hint=hint, file=str(path), key=key)


def _name(key: str) -> str:
    return printable(key, 40) or "an empty key"
