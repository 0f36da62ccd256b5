"""Hears of what other programs do to one file (inotify(7), by way of watchdog)."""

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

# A file is of interest when somebody has finished with it. Editors write in place, or rename another to its name.
_EVENTS = [FileClosedEvent, FileMovedEvent, FileDeletedEvent]


class FileWatch:
    """Calls `changed` in the event loop when somebody has written, replaced or removed the file."""

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path = path
        self._changed = changed
        self._observer: InotifyObserver | None = None

    async def start(self) -> None:
        """Begin to watch. Without a watch the service goes on: `systemctl reload` does the same by hand."""
        # Its module can be imported on Linux alone; elsewhere this program still has to say what it lacks.
        from watchdog.observers.inotify import InotifyObserver

        handler = _Handler(self._path, self._changed, asyncio.get_running_loop())
        try:
            # With full events what is moved in from another directory is told as such, and not as a file that is
            # being written. Some versions of watchdog ask the kernel here already, others when it is started.
            self._observer = InotifyObserver(generate_full_events=True)
            self._observer.schedule(handler, str(self._path.parent), event_filter=_EVENTS)
            await asyncio.to_thread(self._observer.start)
        except OSError as e:
            log.warning("Edits of %s are noticed at a reload only: %s", self._path, e.strerror)

    async def close(self) -> None:
        """Watch no more."""
        if not self._observer:
            return
        self._observer.stop()
        if self._observer.is_alive():
            await asyncio.to_thread(self._observer.join)


class _Handler(FileSystemEventHandler):
    """Lives in a thread of watchdog's."""

    def __init__(self, path: Path, changed: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        self._path = str(path)
        self._changed = changed
        self._loop = loop

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Somebody has done something in the directory."""
        if self._path in (event.src_path, event.dest_path):
            self._loop.call_soon_threadsafe(self._changed)
