"""What rooms remember: JSON that the bot of a mesh keeps with the parent, such as a queue, settings or a history.

The parent alone writes it, and keeps no copy in memory: what a bot asks for is read when it asks.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from ravesvc.errors import Code, RaveError

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
# Of lists and objects in each other.
_MAX_DEPTH = 16


class DocumentKind(StrEnum):
    """A document is written as a whole; a history is a list to which entries are added."""

    DOCUMENT = "document"
    HISTORY = "history"


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentSize:
    """A document without its text: `size` is what that has in bytes of UTF-8."""

    mesh: str
    kind: DocumentKind
    name: str
    size: int
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomDocument:
    """A document of a room. Mesh, kind and name tell documents apart; `text` is JSON."""

    mesh: str
    kind: DocumentKind
    name: str
    text: str
    updated_at: datetime


def is_name(text: str) -> bool:
    """Whether a document may have that name."""
    return _NAME.fullmatch(text) is not None


def parse(text: str) -> Any:
    """The list or object of a JSON text; raises `RaveError` (BadData), which quotes nothing, for any other text.

    Numbers are finite, and whole ones are integers: an id is spelled in one way.
    """
    try:
        value = json.loads(text, parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError):
        raise RaveError(Code.BAD_DATA, "it is not valid JSON") from None
    if not isinstance(value, (dict, list)):
        raise RaveError(Code.BAD_DATA, "it must be a JSON object or list")
    _check_depth(value)
    return value


def to_text(value: Any) -> str:
    """The shortest JSON of what `parse` has returned; raises `RaveError` (BadData) for what is no Unicode text."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise RaveError(Code.BAD_DATA, "it must be Unicode text")
    return text


def size(text: str) -> int:
    """Bytes of a text that `to_text` has made."""
    return len(text.encode())


def _number(text: str) -> int | float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("no number that JSON knows")
    return int(number) if number.is_integer() and abs(number) < 2**63 else number


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise RaveError(Code.BAD_DATA, f"it must not have more than {_MAX_DEPTH} lists and objects in each other")
