"""Files that are whole at any time, the old content or the new, and bad ones that are kept, never overwritten."""

from __future__ import annotations

import os
import shlex
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ravesvc.common.text import user_name


def write_atomically(
    path: Path, content: str | bytes, mode: int, *, check: Callable[[], object] = lambda: None
) -> None:
    """Replace a file: temporary file beside it, fsync, rename, fsync of the directory; raises OSError.

    The content is safe on disk when this returns. A symbolic link at `path` is replaced, not followed. `check` is
    called when there is nothing left to do but to rename; what it raises leaves the old file there.
    """
    with _beside(path, content, mode) as temporary:
        check()
        temporary.replace(path)


def write_anew(path: Path, content: bytes, mode: int, group: int) -> None:
    """Make a file of a group (its id) where there is nothing; raises OSError, FileExistsError if there is something.

    It appears with all its content, which is safe on disk when this returns.
    """
    with _beside(path, content, mode) as temporary:
        os.chown(temporary, -1, group)
        # Unlike a rename it replaces nothing.
        path.hardlink_to(temporary)
        temporary.unlink()


def way_in(directory: Path, elsewhere: str) -> str:
    """A hint for a directory, or files in it, that this process may not use; `elsewhere` is how to name another one.

    It is often root who has left them behind.
    """
    mine = user_name(os.geteuid())
    try:
        owner = user_name(directory.stat().st_uid)
    except OSError:
        return elsewhere
    if owner not in (mine, "root"):
        return f"it is for the user {owner} and root; {elsewhere}"
    if Path("~").expanduser() not in directory.parents:
        # It may be one of the system, which is not to be given away.
        return elsewhere
    word = shlex.quote(str(directory))
    whose = "belong to root" if owner == "root" else f"are closed to the user {mine}"
    return f"files in {word} {whose}: sudo chown -R {mine} {word} && chmod -R u+rwX {word}, or {elsewhere}"


def set_aside(path: Path, why: str = "damaged", *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Path:
    """Rename what is of no more use here to `<path>.<why>-<UTC time>`, and return that; raises OSError.

    The name is one that nothing has: should it be taken, a number follows.
    """
    name = f"{path.name}.{why}-{clock().astimezone(UTC):%Y%m%dT%H%M%SZ}"
    kept, number = path.with_name(name), 1
    while True:
        try:
            rename_anew(path, kept)
        except FileExistsError:
            number += 1
            kept = path.with_name(f"{name}.{number}")
        else:
            return kept


def rename_anew(source: Path, target: Path) -> None:
    """Rename to a name in the same directory that nothing has; raises OSError (FileExistsError)."""
    # Not is_dir(), which follows a link to where we may not look.
    directory = stat.S_ISDIR(source.lstat().st_mode)
    # The name is taken first: rename() would overwrite whatever comes there in between.
    if directory:
        target.mkdir(mode=0o700)
    else:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        source.rename(target)
    except OSError:
        (target.rmdir if directory else target.unlink)()
        raise
    _sync(target.parent)


@contextmanager
def _beside(path: Path, content: str | bytes, mode: int) -> Iterator[Path]:
    """A file with this content in the same directory, to be moved to `path`."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        yield Path(temporary)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
