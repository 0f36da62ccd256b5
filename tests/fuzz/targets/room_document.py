"""What a bot asks the parent to keep of its room."""

from __future__ import annotations

from ravesvc.store import room_document
from tests.fuzz.rules import all_values, is_finite


def check(data: bytes) -> None:
    """What is accepted is finite, can be stored, and is the same when read again."""
    value = room_document.parse(data.decode(errors="surrogateescape"))
    for each in all_values(value):
        assert is_finite(each)
    text = room_document.to_text(value)
    assert room_document.size(text) == len(text.encode())
    assert room_document.to_text(room_document.parse(text)) == text
