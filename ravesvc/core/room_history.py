"""The history of a room: a list of JSON objects with the time of each, the oldest first. Pure."""

from __future__ import annotations

from typing import Any, TypeAlias

from ravesvc.errors import RaveError
from ravesvc.store.room_document import RoomDocument, parse, size, to_text

# A JSON object; `time` is in seconds since the epoch.
Entry: TypeAlias = dict[str, Any]

MAX_ENTRIES = 200
# Bytes of JSON, of all entries and of one.
MAX_HISTORY_BYTES = 32 * 1024
MAX_ENTRY_BYTES = 4 * 1024


def entries(document: RoomDocument | None) -> list[Entry]:
    """Those of a history; what is none of ours, as a hand in a database may have left it, has none."""
    try:
        found = parse(document.text) if document else []
    except RaveError:
        return []
    # Not by `fields`, which takes a time that is a text, too: entries are compared by it as it stands.
    return [entry for entry in found if isinstance(entry, dict) and type(entry.get("time")) is int]


def since(found: list[Entry], time: float) -> list[Entry]:
    """Those from a time on, in seconds since the epoch."""
    return [entry for entry in found if entry["time"] >= time]


def added(found: list[Entry], entry: Entry) -> list[Entry]:
    """With one more at the end, and without as many of the oldest as leaves the history within its limits."""
    kept = [*found, entry][-MAX_ENTRIES:]
    # The brackets of the list, and a comma for each.
    left = MAX_HISTORY_BYTES - 2
    for number, each in enumerate(reversed(kept)):
        left -= size(to_text(each)) + 1
        if left < 0:
            return kept[-number:] if number else []
    return kept
