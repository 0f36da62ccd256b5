"""The bot account's credentials file, in the format that the reference implementation writes."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from ravesvc import fields
from ravesvc.errors import Code, RaveError
from ravesvc.settings import Session, normalise_token

_MOST_BYTES = 64 * 1024
_HINT = "it must be a plain file of the user rave"


def read_session(path: Path, *, owner: int | None = None) -> Session | None:
    """The session that a credentials file gives, or None when there is no such file.

    Raises `RaveError`: BadFile for a file that can't be used, LoginNeeded for one without a token. With `owner` (a
    user id) a file of anybody else is refused, as is anything but a plain file: root reads it out of a directory that
    an unprivileged user may write to, and must not be led to another file by a link.
    """
    text = _read(path, owner)
    if text is None:
        return None
    try:
        source = fields.parse_object(text, str(path))
        token = normalise_token(fields.opt_str(source, "authToken") or "")
        user_id = fields.opt_int(source, "userId")
        session = Session(
            device_id=_word(fields.get_str(source, "deviceId"), "deviceId"),
            ssaid=_word(fields.get_str(source, "ssaid"), "ssaid"),
            user_id=user_id or 0,
            auth_token=token and _word(token, "authToken"),
        )
    except RaveError as e:
        hint = "mend it, or move it away and log in again"
        raise RaveError(
            Code.BAD_FILE, f"{path} can't be used: {e.message}", hint=hint, file=str(path), **e.attributes
        ) from e
    if not token or not user_id:
        missing = "authToken" if not token else "userId"
        raise RaveError(Code.LOGIN_NEEDED, f"{path} has no {missing}", hint="log in again", file=str(path))
    return session


def _word(text: str, key: str) -> str:
    """`text` if it can stand in a header."""
    if not re.fullmatch("[!-~]+", text):
        raise RaveError(Code.BAD_DATA, f"{key} must be one word in ASCII", key=key)
    return text


def _read(path: Path, owner: int | None) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise RaveError(Code.BAD_FILE, f"{path} can't be opened: {e.strerror}", hint=_HINT, file=str(path)) from e
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or (owner is not None and status.st_uid != owner):
            raise RaveError(Code.BAD_FILE, f"{path} is not trusted", hint=_HINT, file=str(path))
        if status.st_size > _MOST_BYTES:
            raise RaveError(Code.BAD_FILE, f"{path} is larger than {_MOST_BYTES} bytes", file=str(path))
        return os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)
