"""The disk: it may be full, and a process may be killed right before or after it writes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from tests.simulation.process import current

_WRITERS = ("ravesvc.blocklist.file.write_atomically", "ravesvc.core.scope_file.write_atomically")


class Disk:
    """Stands in the place of `write_atomically`, without the waits for a real disk.

    Attributes:
        full: whether nothing can be written.
        freed_at: when that was over, by the monotonic clock.
    """

    def __init__(self) -> None:
        self.full = False
        self.freed_at = 0.0

    def write(
        self, path: Path, content: str | bytes, mode: int, *, check: Callable[[], object] = lambda: None
    ) -> None:
        """See `write_atomically`."""
        process = current()
        assert process, "only the service writes"
        process.cross(f"is about to write {path.name}")
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        new = f"{path}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        os.write(descriptor, content.encode() if isinstance(content, str) else content)
        os.close(descriptor)
        check()
        os.replace(new, path)  # noqa: PTH105 - there are hundreds of writes in a day
        process.cross(f"has written {path.name}")

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Have the core write here."""
        with patch(_WRITERS[0], self.write), patch(_WRITERS[1], self.write):
            yield
