"""What a room has been through: state messages in a row, whatever their order, and the clock that they give away."""

from __future__ import annotations

import contextlib
import dataclasses
import json

from ravesvc.errors import Code, RaveError
from ravesvc.room.server_clock import ServerClock
from ravesvc.room.state import StateMessage, parse_state
from ravesvc.room.tracker import RoomTracker
from tests.fuzz.rules import all_values, is_finite

_NOW_S = 1.8e9


def check(data: bytes) -> None:
    """The state stays one to calculate with, and a leader is one of the users."""
    tracker = RoomTracker()
    clock = ServerClock(steady=lambda: 1000.0, wall=lambda: _NOW_S)
    heard = 0
    for message in _messages(data):
        tracker.update(message)
        playback = tracker.state.playback
        if playback and playback.time is not None:
            clock.observe(playback.time)
        heard += 1
        assert is_finite(clock.now())
        assert tracker.state.leader is None or tracker.state.leader in tracker.state.users
        assert all(map(is_finite, all_values(dataclasses.astuple(tracker.state))))
        assert playback is None or is_finite(playback.position_at(clock.now()))
    if not heard:
        raise RaveError(Code.BAD_DATA, "no state")


def _messages(data: bytes) -> list[StateMessage]:
    """The states in a JSON list that can be read."""
    try:
        entries = json.loads(data)
    except (ValueError, RecursionError):
        raise RaveError(Code.BAD_DATA, "no JSON") from None
    found = []
    for entry in entries[:100] if isinstance(entries, list) else ():
        with contextlib.suppress(RaveError):
            found.append(parse_state({"message": entry}))
    return found
