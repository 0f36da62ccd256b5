"""The words of a command line of ravectl, which scripts fill with what they were given."""

from __future__ import annotations

import contextlib
import io
import json
import re

from ravesvc.ctl import command_line
from ravesvc.errors import Code, RaveError

_STYLE = re.compile("\x1b\\[[0-9;]*m")


def check(data: bytes) -> None:
    """It is understood, or refused by words that control no terminal."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            command_line.parse(_words(data))
    except SystemExit:
        for line in _STYLE.sub("", said.getvalue()).split("\n"):
            assert line.isprintable(), line
        raise RaveError(Code.INVALID_ARGUMENT, "refused") from None


def _words(data: bytes) -> list[str]:
    """The texts in a JSON list, as the kernel would hand them over: bytes without NUL."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise RaveError(Code.BAD_DATA, "no JSON") from None
    words = [word for word in found if isinstance(word, str)] if isinstance(found, list) else []
    return [word.encode(errors="replace").decode().replace("\0", "") for word in words]
