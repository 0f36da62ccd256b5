"""What a bot finds in the store of its room: the queue, the settings, the hits of searches."""

from __future__ import annotations

import contextlib

from ravesvc.bot.hits import Hits
from ravesvc.bot.queue import Queue, QueueLimits
from ravesvc.bot.room_settings import RoomSettings
from ravesvc.errors import RaveError

_LIMITS = QueueLimits()


def check(data: bytes) -> None:
    """Each keeps what can be read of it, within its limits, and is the same when it is written and read again."""
    text = data.decode(errors="replace")
    with contextlib.suppress(RaveError):
        settings = RoomSettings.from_json(text)
        assert RoomSettings.from_json(settings.to_json()) == settings
    with contextlib.suppress(RaveError):
        hits = Hits.from_json(text)
        assert Hits.from_json(hits.to_json()) == hits
    queue = Queue.from_json(text, _LIMITS)
    assert len(queue.entries) <= _LIMITS.total
    assert Queue.from_json(queue.to_json(), _LIMITS) == queue
