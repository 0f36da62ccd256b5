from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.core.room_history import MAX_ENTRIES, MAX_ENTRY_BYTES, MAX_HISTORY_BYTES, added, entries, since
from ravesvc.store.room_document import DocumentKind, RoomDocument, size, to_text


def history(text: str) -> RoomDocument:
    return RoomDocument(
        mesh="a", kind=DocumentKind.HISTORY, name="played", text=text, updated_at=datetime.fromtimestamp(0, UTC)
    )


def test_what_is_no_entry_is_left_out() -> None:
    assert entries(None) == []
    text = '[1,{"time":"x"},{"time":"5"},{"time":true},{"time":0.5},{},[],{"time":5,"a":1},{"time":7}]'
    assert entries(history(text)) == [
        {"time": 5, "a": 1},
        {"time": 7},
    ]


@pytest.mark.parametrize("text", ["", "{}", "nonsense", "1", "[", '{"time":5}'])
def test_a_text_that_is_no_history_has_none(text: str) -> None:
    assert entries(history(text)) == []


def test_old_entries_are_left_out() -> None:
    assert since([{"time": 1}, {"time": 2}, {"time": 3}], 1.5) == [{"time": 2}, {"time": 3}]


@pytest.mark.slow
@given(st.lists(st.integers(0, MAX_ENTRY_BYTES - 30), max_size=30))
def test_a_history_stays_within_its_limits_and_keeps_the_latest(lengths: list[int]) -> None:
    all_of_them: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, length in enumerate(lengths):
        entry = {"time": number, "text": "x" * length}
        all_of_them.append(entry)
        found = added(found, entry)
        assert size(to_text(found)) <= MAX_HISTORY_BYTES
        assert found == all_of_them[len(all_of_them) - len(found) :]
        # No more went than had to.
        if len(found) < len(all_of_them):
            assert size(to_text(all_of_them[-len(found) - 1 :])) > MAX_HISTORY_BYTES


def test_a_history_has_so_many_entries() -> None:
    found: list[dict[str, Any]] = []
    for number in range(MAX_ENTRIES + 5):
        found = added(found, {"time": number})
    assert [entry["time"] for entry in found] == list(range(5, MAX_ENTRIES + 5))
