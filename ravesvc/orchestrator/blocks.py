"""The parent's blocklist: what is in force now, and every change of it saved before anybody is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from ravesvc.errors import RaveError
from ravesvc.store import blocklist
from ravesvc.store.blocklist import Block, Blocklist, Reason

log = logging.getLogger(__name__)

_FOR_EVER = (Reason.KICKED, Reason.HELD)


class Blocks:
    """Holds the blocklist and its file.

    Attributes:
        error: why the file could not be read, or None. Nothing is written then, so that whatever kicks it holds stay
            in it, and nothing may be joined.
    """

    def __init__(self, path: Path, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self.error: RaveError | None = None
        self._path = path
        self._seconds = seconds
        self._clock = clock
        try:
            self._list = blocklist.load(path)
        except RaveError as e:
            self.error = e
            self._list = Blocklist()

    def get(self, mesh: str) -> Block | None:
        """What blocks a mesh now."""
        return self._list.get(mesh, self._now())

    def in_force(self) -> dict[str, Block]:
        """Every block that is in force now, by mesh id."""
        return self._list.in_force(self._now())

    def add(self, mesh: str, reason: Reason, detail: str, actor: str = "service") -> bool:
        """Block a mesh, for ever or for `blocklist_duration`; tells whether that is safe on disk.

        A block that can't be saved holds as long as the parent runs, and is saved with the next change.
        """
        now = self._now()
        until = None if reason in _FOR_EVER else now + int(self._seconds * 1000)
        self._list.add(Block(mesh=mesh, reason=reason, since=now, until=until, detail=detail, actor=actor))
        return self._save()

    def remove(self, mesh: str) -> bool:
        """Unblock a mesh; tells whether that is safe on disk."""
        self._list.remove(mesh)
        return self._save()

    def drop_expired(self) -> list[Block]:
        """Remove what is over, and return it."""
        expired = self._list.drop_expired(self._now())
        if expired:
            self._save()
        return expired

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _save(self) -> bool:
        if self.error:
            return False
        try:
            blocklist.save(self._path, self._list)
        except RaveError as e:
            log.error("The blocklist could not be saved, it is kept in memory: %s", e)  # noqa: TRY400 - no traceback
            return False
        return True
