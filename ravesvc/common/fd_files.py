"""Files that another process has opened and handed over: for content that is too long or too secret for a message."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, MutableMapping

from ravesvc.common import text_file
from ravesvc.errors import Code, RaveError

_FIRST_DESCRIPTOR = 3


def handed_over(environ: MutableMapping[str, str], known: Collection[str]) -> dict[str, int]:
    """The descriptors that systemd hands over, by name, of the names in `known` (sd_listen_fds(3)).

    Others may come from a drop-in. The variables are removed from `environ`: a program that we start must not take
    the descriptors for its own.
    """
    pid, count, listed = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    given = listed.split(":") if listed else []
    if pid != str(os.getpid()) or count != str(len(given)):
        return {}
    return {name: number for number, name in enumerate(given, _FIRST_DESCRIPTOR) if name in known}


def read(descriptor: int, what: str, max_bytes: int) -> str:
    """The text of a file from its start, independent of the file position.

    It blocks as long as the disk does. `what` names it in errors, which quote nothing. Raises `RaveError`:
    InvalidArgument if it is no regular file, can't be read, or is longer than `max_bytes`; BadData if it is not
    UTF-8.
    """
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            # A pipe, for example, may never end.
            hint = "save it in a file first"
            raise RaveError(Code.INVALID_ARGUMENT, f"{what} is not in a regular file", hint=hint)
        if status.st_size > max_bytes:
            text = f"{what} is too long: {status.st_size} bytes, where {max_bytes} are the most"
            raise RaveError(Code.INVALID_ARGUMENT, text)
        content = _first(descriptor, status.st_size)
    except OSError as e:
        raise RaveError(Code.INVALID_ARGUMENT, f"{what} can't be read: {e.strerror}") from e
    try:
        return text_file.decode(content)
    except RaveError as e:
        raise RaveError(Code.BAD_DATA, f"{what} {e.message}", hint=e.hint) from None


def _first(descriptor: int, size: int) -> bytes:
    content = b""
    while chunk := os.pread(descriptor, size - len(content), len(content)):
        content += chunk
    return content
