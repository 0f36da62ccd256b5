"""Reading the files in the config directory of the Node.js bot."""

from __future__ import annotations

from pathlib import Path

from ravesvc.blocklist import file
from ravesvc.blocklist.model import Block, Reason
from ravesvc.common import json_fields, text_file
from ravesvc.errors import Code, RaveError
from ravesvc.names import mesh_id
from ravesvc.store.credentials_file import parse_credentials
from ravesvc.store.model import Credentials

CREDENTIALS = "credentials.json"
BLOCKLIST = "blocklist.json"
DATABASE = "database.json"
NAMES = (CREDENTIALS, BLOCKLIST, DATABASE)

# Far more than that bot writes.
_MAX_FILE_BYTES = 16 * 1024 * 1024

_UNREADABLE = "unreadable entry of the old bot"
_FIX_HINT = "fix it, and run this again: what is taken over already stays"


def read(path: Path) -> bytes | None:
    """What a file holds; None if there is none. Raises `RaveError` (BadFile)."""
    try:
        return text_file.read(path, _MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        hint = "try as root, or with sudo" if isinstance(e, PermissionError) else ""
        raise RaveError(Code.BAD_FILE, f"{path} can't be read: {e.strerror}", hint=hint, file=str(path)) from e


def account(content: bytes, path: Path) -> Credentials:
    """The account in a credentials.json, its tokens without `r:`. Raises `RaveError` (BadFile)."""
    try:
        return parse_credentials(content, "it")
    except RaveError as e:
        # Not chained: what is below may have the content.
        raise _bad(path, e.message, hint="fix it, or log in instead: ravectl login") from None


def blocks(content: bytes, path: Path, now: int) -> tuple[list[Block], list[RaveError]]:
    """The entries of a blocklist.json, and a problem for each invalid one.

    An invalid entry blocks its mesh for ever: it may have been a kick. Times, also `now`, are
    milliseconds since the epoch. Raises `RaveError` (BadFile) for what is no blocklist.
    """
    try:
        entries = json_fields.get_object(json_fields.parse_object(content, "it"), "blockedMeshes")
    except RaveError as e:
        raise _bad(path, e.message) from e
    found, problems = [], []
    for mesh, entry in entries.items():
        try:
            found.append(file.read_entry(mesh, entry, now))
        except RaveError as e:
            text = f"{path}: the entry of {mesh[:80]!r} can't be taken over: {e.message}"
            hint = f"{e.hint or _FIX_HINT}; or: ravectl blocklist add MESH"
            if _is_mesh(mesh):
                found.append(Block(mesh=mesh, reason=Reason.OPERATOR, since=now, until=None, detail=_UNREADABLE))
                text = f"{path}: the entry of {mesh} can't be read: {e.message}; the mesh is blocked for ever"
                hint = f"to undo it: ravectl blocklist remove {mesh}"
            problems.append(RaveError(Code.BAD_FILE, text, hint=hint, file=str(path)))
    return found, problems


def _is_mesh(text: str) -> bool:
    try:
        mesh_id(text)
    except RaveError:
        return False
    return True


def _bad(path: Path, reason: str, *, hint: str = _FIX_HINT) -> RaveError:
    return RaveError(Code.BAD_FILE, f"{path} can't be used: {reason}", hint=hint, file=str(path))
