"""Files that people edit: read within a bound, and decoded with or without a byte order mark."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from pathlib import Path

from ravesvc.errors import Code, RaveError

_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def read(path: str | Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`; raises OSError, whose `strerror` says why in words.

    Anything but a file is refused unread: a FIFO that no program writes to would hold the reader up for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        content = b""
        while chunk := os.read(descriptor, max_bytes + 1 - len(content)):
            content += chunk
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes // 1024} KiB")
    return content


def decode(content: bytes) -> str:
    """UTF-8 text without the byte order mark that some editors put before it.

    Raises `RaveError` (BadData), whose message goes on from the file's name: "is UTF-16, not UTF-8 text".
    """
    if content.startswith(_WIDE_MARKS):
        kind = "UTF-32" if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) else "UTF-16"
        raise RaveError(Code.BAD_DATA, f"is {kind}, not UTF-8 text", hint="save it as UTF-8")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        # Not chained: the exception has the content.
        raise RaveError(Code.BAD_DATA, "is not UTF-8 text", hint="save it as UTF-8") from None
