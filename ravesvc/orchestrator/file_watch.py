"""Notices when another program changes a file (inotify(7), through watchdog)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.events import (
    FileClosedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)

if TYPE_CHECKING:
    from watchdog.observers.inotify import InotifyObserver

log = logging.getLogger(__name__)

# An editor writes a file in place and closes it, or renames another file to its name. Events before that, as each
# write, do not matter.
_EVENTS = [FileClosedEvent, FileMovedEvent, FileDeletedEvent]


class FileWatch:
    """Calls `changed` in the event loop when a program has written, replaced or removed the file."""

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path = path
        self._changed = changed
        self._observer: InotifyObserver | None = None

    async def start(self) -> None:
        """Begin to watch. If that fails it is logged, and an operator can use `systemctl reload` after an edit."""
        # Imported here, as it exists only on Linux; elsewhere the program must still be able to say what it lacks.
        from watchdog.observers.inotify import InotifyObserver

        handler = _Handler(self._path, self._changed, asyncio.get_running_loop())
        try:
            # With full events a file that is moved in from another directory is reported as moved, not as created.
            # Some versions of watchdog call the kernel in `schedule`, others in `start`.
            self._observer = InotifyObserver(generate_full_events=True)
            self._observer.schedule(handler, str(self._path.parent), event_filter=_EVENTS)
            await asyncio.to_thread(self._observer.start)
        except OSError as e:
            log.warning("Edits of %s are noticed at a reload only: %s", self._path, e.strerror)

    async def close(self) -> None:
        """Stop watching."""
        if not self._observer:
            return
        self._observer.stop()
        if self._observer.is_alive():
            await asyncio.to_thread(self._observer.join)


class _Handler(FileSystemEventHandler):
    """Runs in a thread of watchdog."""

    def __init__(self, path: Path, changed: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        self._path = str(path)
        self._changed = changed
        self._loop = loop

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Handle an event of the directory; those of other files are ignored."""
        if self._path in (event.src_path, event.dest_path):
            self._loop.call_soon_threadsafe(self._changed)
