"""Writing a file so that it has the old content or the new at any time, and renaming bad files out of the way."""

from __future__ import annotations

import glob
import logging
import os
import shlex
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ravesvc.common.text import user_name

_log = logging.getLogger(__name__)


def write_atomically(
    path: Path, content: str | bytes, mode: int, *, check: Callable[[], object] = lambda: None
) -> None:
    """Replace a file: temporary file beside it, fsync, rename, fsync of the directory; raises OSError.

    The content is safe on disk when this returns. A symbolic link at `path` is replaced, not followed. `check` is
    called right before the rename; if it raises, the old file stays.
    """
    with _beside(path, content, mode) as temporary:
        check()
        temporary.replace(path)


def write_new(path: Path, content: bytes, mode: int, group: int) -> None:
    """Make a new file that belongs to a group (its id); raises OSError, FileExistsError if the path is taken.

    It appears with all its content, which is safe on disk when this returns.
    """
    with _beside(path, content, mode) as temporary:
        os.chown(temporary, -1, group)
        # Unlike a rename, a link replaces nothing.
        path.hardlink_to(temporary)
        temporary.unlink()


def access_hint(directory: Path, elsewhere: str) -> str:
    """A hint for a directory, or files in it, that this process may not use; `elsewhere` is how to name another one.

    Often an earlier run as root has made them.
    """
    mine = user_name(os.geteuid())
    try:
        owner = user_name(directory.stat().st_uid)
    except OSError:
        return elsewhere
    if owner not in (mine, "root"):
        return f"it is for the user {owner} and root; {elsewhere}"
    if Path("~").expanduser() not in directory.parents:
        # It may be a directory of the system, whose owner must not be changed.
        return elsewhere
    word = shlex.quote(str(directory))
    whose = "belong to root" if owner == "root" else f"are closed to the user {mine}"
    return f"files in {word} {whose}: sudo chown -R {mine} {word} && chmod -R u+rwX {word}, or {elsewhere}"


def set_aside(path: Path, why: str = "damaged", *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Path:
    """Rename a file that can't be used to `<path>.<why>-<UTC time>`, and return that; raises OSError.

    If that name is taken, a number follows.
    """
    name = f"{path.name}.{why}-{clock().astimezone(UTC):%Y%m%dT%H%M%SZ}"
    kept, number = path.with_name(name), 1
    while True:
        try:
            rename_no_replace(path, kept)
        except FileExistsError:
            number += 1
            kept = path.with_name(f"{name}.{number}")
        else:
            return kept


def damaged(path: Path) -> list[Path]:
    """The files that `set_aside` has made of a damaged `path` since it was last good, the latest last."""
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.damaged-*"))


def retire_damaged(path: Path) -> None:
    """Rename what `damaged` finds to `<path>.old-damaged-<UTC time>`: `path` is good again, and does without them.

    They are kept for people. Otherwise a later loss of the file would look like the damage that is over.
    """
    for kept in damaged(path):
        retired = kept.with_name(kept.name.replace(f"{path.name}.damaged-", f"{path.name}.old-damaged-"))
        # Where that is not possible, they go on to count.
        with suppress(OSError):
            rename_no_replace(kept, retired)
            _log.info("%s is good again: %s is %s now", path, kept.name, retired.name)


def rename_no_replace(source: Path, target: Path) -> None:
    """Rename within a directory, to a name that is not taken; raises OSError (FileExistsError)."""
    # Not is_dir(), which follows a link, maybe to a place that we may not read.
    directory = stat.S_ISDIR(source.lstat().st_mode)
    # The name is created first: rename() alone would overwrite a file that another process makes meanwhile.
    if directory:
        target.mkdir(mode=0o700)
    else:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        source.rename(target)
    except OSError:
        (target.rmdir if directory else target.unlink)()
        raise
    sync(target.parent)


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
    sync(path.parent)


def sync(directory: Path) -> None:
    """Have what was renamed in a directory safe on disk; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
