"""The files of plugins: which there are, and whether bots may execute them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from ravesvc.common.text import user_name
from ravesvc.errors import Code, RaveError

# In the directory of plugins: new versions of its files, which are tried in a few rooms first.
CANARY_DIRECTORY = "canary"
# With this the names of files begin that plugins import, and that are none themselves.
HELPER_PREFIX = "_"
ROOT_UID = 0
_MAX_FILE_BYTES = 256 * 1024
_DIGEST_BYTES = 16


class FileVersion(NamedTuple):
    """One version of a file of plugins: the name of the file, and what tells its versions apart."""

    name: str
    digest: str


def paths(directory: Path) -> list[Path]:
    """The files of plugins, and those that they import, in a directory, by name. Raises OSError."""
    found = [path for path in directory.iterdir() if path.suffix == ".py"]
    return sorted(path for path in found if not path.name.startswith("."))


def described(path: Path) -> FileVersion:
    """A file of any owner, by name and digest. Raises OSError and `RaveError`."""
    return FileVersion(path.name, digest(_read(path)[0]))


def digest(content: bytes) -> str:
    """What tells one version of a file from all others."""
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


def has_digest(path: Path, wanted: str) -> bool:
    """Whether a file of any owner is that version; false for one that can't be read."""
    try:
        return digest(_read(path)[0]) == wanted
    except (OSError, RaveError):
        return False


def read(path: Path) -> bytes:
    """The content of a file of any owner. Raises `RaveError` (BadFile) with its path."""
    with naming(path):
        return _read(path)[0]


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within it what keeps the file from being read raises `RaveError` (BadFile) with its path."""
    try:
        yield
    except (OSError, RaveError) as error:
        raise RaveError(Code.BAD_FILE, f"{path}: {failure(error)}") from error


def read_trusted(path: Path, owners: AbstractSet[int]) -> bytes:
    """The content of a file of one of these users, which no other user may write. Raises OSError and `RaveError`."""
    content, found = _read(path)
    require_owner(found, owners)
    return content


def failure(error: OSError | RaveError) -> str:
    """What keeps a file from being looked at, in words."""
    if isinstance(error, RaveError):
        return str(error)
    hint = " (chmod go+rX)" if isinstance(error, PermissionError) else ""
    return f"it can't be read: {error.strerror}{hint}"


def require_owner(found: os.stat_result, owners: AbstractSet[int]) -> None:
    """Raise `RaveError` (BadFile) for a file or directory that others than these users may write."""
    if found.st_uid not in owners:
        allowed = [user_name(user) for user in sorted(owners, reverse=True)]
        text = f"it does not belong to {' or '.join(allowed)}"
        raise RaveError(Code.BAD_FILE, text, hint=f"chown {allowed[0]}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        whom = "root" if found.st_uid == ROOT_UID else "its owner"
        raise RaveError(Code.BAD_FILE, f"others than {whom} may write it", hint="chmod go-w")


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    # O_NONBLOCK: to open a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        # `open` refuses a directory, and would leave a descriptor that it was given open.
        with open(descriptor, "rb", closefd=False) as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise RaveError(Code.BAD_FILE, "it is no regular file")
            content = file.read(_MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MAX_FILE_BYTES:
        raise RaveError(Code.BAD_FILE, f"it is larger than {_MAX_FILE_BYTES // 1024} KiB")
    return content, found
