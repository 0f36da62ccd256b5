"""The bot account's credentials file, in the format that the reference implementation writes.

Its keys are those of the documents in the store, too: exports have the same.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from ravesvc.common import fd_files, json_fields
from ravesvc.common.atomic_files import write_atomically
from ravesvc.common.text import user_name
from ravesvc.config.worker_settings import Session, normalise_token, user_of_peer
from ravesvc.errors import Code, RaveError
from ravesvc.store.model import Credentials

MAX_FILE_BYTES = 64 * 1024


def read_session(path: Path, *, owner: int | None = None) -> Session | None:
    """The session that a credentials file gives, or None when there is no such file.

    Raises `RaveError`: BadFile for a file that can't be used, LoginNeeded for one without a token. With `owner` (a
    user id) a file of another user is refused, as is anything but a plain file: root reads it out of a directory that
    an unprivileged user may write to, and must not be led to another file by a link.
    """
    credentials = _load(path, owner)
    if credentials is None:
        return None
    if credentials.session is None:
        missing = "userId" if credentials.auth_token else "authToken"
        raise RaveError(Code.LOGIN_NEEDED, f"{path} has no {missing}", hint="log in again", file=str(path))
    return credentials.session


def read_credentials(path: Path) -> Credentials | None:
    """What a credentials file holds, or None when there is no such file; raises `RaveError` (BadFile).

    When it was written is not in it.
    """
    credentials = _load(path, None)
    if credentials and not credentials.email:
        raise _unusable(path, _missing_email())
    return credentials


def parse_credentials(content: str | bytes, what: str) -> Credentials:
    """What the content of such a file says; `what` names it in the error. Raises `RaveError` (BadData)."""
    return from_object(json_fields.parse_object(content, what))


def read_handed(descriptor: int) -> Credentials:
    """The same for a file that another process has opened. Raises `RaveError` as `fd_files.read`, and BadData."""
    return parse_credentials(fd_files.read(descriptor, "the file", MAX_FILE_BYTES), "the file")


def is_private(path: Path) -> bool:
    """Whether only the owner of a file may read or write it; raises OSError."""
    return not stat.S_IMODE(path.lstat().st_mode) & 0o077


def write_credentials(path: Path, credentials: Credentials) -> None:
    """Replace the file; safe on disk when this returns. Raises `RaveError` (BadFile); the old file is whole then."""
    document = to_object(credentials)
    try:
        # Check that it can be read again. Otherwise the next start would take the file for damaged.
        from_object(document)
        write_atomically(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n", 0o600)
    except RaveError as e:
        text = f"{path} can't hold the credentials: {e.message}"
        raise RaveError(Code.BAD_FILE, text, hint="log in again", file=str(path), **e.attributes) from e
    except OSError as e:
        hint = f"the user {user_name(os.geteuid())} must be able to write in its directory"
        raise RaveError(Code.BAD_FILE, f"{path} can't be written: {e.strerror}", hint=hint, file=str(path)) from e


def to_object(credentials: Credentials) -> dict[str, Any]:
    """As a JSON object; what is not known is left out."""
    document = {
        "email": credentials.email,
        "deviceId": credentials.device_id,
        "ssaid": credentials.ssaid,
        "parseId": credentials.parse_id,
        "parseToken": credentials.parse_token,
        "authToken": credentials.auth_token,
        "userId": credentials.user_id,
        "peerId": credentials.peer_id,
    }
    return {key: value for key, value in document.items() if value not in ("", None)}


def from_object(source: json_fields.Object) -> Credentials:
    """What `to_object` has made; raises `RaveError` (BadData)."""
    credentials = _parse(source)
    if not credentials.email:
        raise _missing_email()
    return credentials


def _parse(source: json_fields.Object) -> Credentials:
    """The same, but a session needs no e-mail address: it may be missing."""
    # The reference implementation may leave the user out, and yet have it in the other id.
    user_id = json_fields.opt_int(source, "userId") or user_of_peer(source.get("peerId"))
    if user_id is not None and user_id < 0:
        raise RaveError(Code.BAD_DATA, "userId must be a user id", key="userId")
    email = json_fields.opt_str(source, "email") or ""
    if not email.isprintable():
        raise RaveError(Code.BAD_DATA, "email must be printable text", key="email")
    return Credentials(
        email=email,
        device_id=_word(json_fields.get_str(source, "deviceId"), "deviceId"),
        ssaid=_word(json_fields.get_str(source, "ssaid"), "ssaid"),
        parse_id=_opt_word(json_fields.opt_str(source, "parseId"), "parseId"),
        parse_token=_opt_word(json_fields.opt_str(source, "parseToken"), "parseToken"),
        auth_token=_opt_word(json_fields.opt_str(source, "authToken"), "authToken"),
        user_id=user_id,
    )


def _opt_word(text: str | None, key: str) -> str:
    """An id or token that may be unknown, without the prefix that tokens come with."""
    known = normalise_token(text or "")
    return known and _word(known, key)


def _word(text: str, key: str) -> str:
    """`text` if it can stand in a header."""
    if not re.fullmatch("[!-~]+", text):
        seen = "has other characters" if text else "is empty"
        raise RaveError(Code.BAD_DATA, f"{key} must be one word in ASCII, but {seen}", key=key)
    return text


def _missing_email() -> RaveError:
    return RaveError(Code.BAD_DATA, "email must be a text, but is missing", key="email")


def _load(path: Path, owner: int | None) -> Credentials | None:
    text = _read(path, owner)
    if text is None:
        return None
    try:
        return _parse(json_fields.parse_object(text, str(path)))
    except RaveError as e:
        raise _unusable(path, e) from e


def _unusable(path: Path, e: RaveError) -> RaveError:
    hint = "fix it, or move it away and log in again"
    return RaveError(Code.BAD_FILE, f"{path} can't be used: {e.message}", hint=hint, file=str(path), **e.attributes)


def _read(path: Path, owner: int | None) -> bytes | None:
    hint = f"it must be a plain file of the user {user_name(os.geteuid() if owner is None else owner)}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise RaveError(Code.BAD_FILE, f"{path} can't be opened: {e.strerror}", hint=hint, file=str(path)) from e
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or (owner is not None and status.st_uid != owner):
            raise RaveError(Code.BAD_FILE, f"{path} is not trusted", hint=hint, file=str(path))
        if status.st_size > MAX_FILE_BYTES:
            raise RaveError(Code.BAD_FILE, f"{path} is larger than {MAX_FILE_BYTES} bytes", file=str(path))
        return os.read(descriptor, MAX_FILE_BYTES)
    finally:
        os.close(descriptor)
