from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ravesvc.common.translation import RemoteText, load, translate
from ravesvc.core import room_quota
from ravesvc.core.room_quota import RoomQuota
from ravesvc.errors import RaveError
from ravesvc.names import ALL_MESHES
from ravesvc.store.room_document import DocumentKind, DocumentSize

DOCUMENT, HISTORY = DocumentKind.DOCUMENT, DocumentKind.HISTORY
KIB = 1024


def sized(mesh: str, name: str, size: int, kind: DocumentKind = DOCUMENT) -> DocumentSize:
    return DocumentSize(mesh=mesh, kind=kind, name=name, size=size, updated_at=datetime.fromtimestamp(0, UTC))


def refusal(quota: RoomQuota, mesh: str, name: str, size: int, kind: DocumentKind = DOCUMENT) -> str:
    """Why a document is refused; empty if it is not."""
    try:
        quota.insist(mesh, kind, name, size)
    except RaveError as e:
        return f"{e.code}: {e}"
    return ""


def test_a_document_has_a_largest_size() -> None:
    quota = RoomQuota([])
    assert refusal(quota, "a", "queue", 60 * KIB) == ""
    assert refusal(quota, "a", "queue", 60 * KIB + 1) == (
        "InvalidArgument: this is too much to be kept: 61 KiB, and 60 KiB are allowed (remove something first)"
    )


def test_what_becomes_smaller_is_always_allowed() -> None:
    quota = RoomQuota([sized("a", "queue", 90 * KIB), sized("a", "hits", 1000 * KIB)])
    assert refusal(quota, "a", "queue", 90 * KIB) == ""
    assert refusal(quota, "a", "queue", 90 * KIB + 1)
    assert "keeps 1090 KiB already" in refusal(quota, "a", "other", 1)


def test_a_room_has_so_much_and_others_have_theirs() -> None:
    quota = RoomQuota(
        [sized("a", f"name-{number}", 60 * KIB) for number in range(15)]
        + [sized("a", f"name-{number}", 60 * KIB, HISTORY) for number in range(2)]
    )
    assert refusal(quota, "a", "three", 4 * KIB) == ""
    assert "keeps 1020 KiB already, and may not keep more than 1024 KiB" in refusal(quota, "a", "three", 4 * KIB + 1)
    assert refusal(quota, "b", "three", 60 * KIB) == ""
    quota.note("a", HISTORY, "name-1", 1)
    assert refusal(quota, "a", "three", 60 * KIB) == ""


def test_a_plugin_has_so_much_in_all_rooms_and_others_have_theirs() -> None:
    quota = RoomQuota([sized(f"room-{number}", "plugin-quiz", 60 * KIB) for number in range(170)])
    assert refusal(quota, "a", "plugin-quiz", 40 * KIB) == ""
    assert "this plugin keeps as much in all rooms as it may" in refusal(quota, "a", "plugin-quiz", 40 * KIB + 1)
    assert refusal(quota, "a", "plugin-poll", 60 * KIB) == ""
    assert refusal(quota, "room-3", "queue", 60 * KIB) == ""
    quota.note("room-3", DOCUMENT, "plugin-quiz", 1)
    assert refusal(quota, "a", "plugin-quiz", 60 * KIB) == ""


def test_what_all_rooms_share_is_bounded_like_a_room() -> None:
    quota = RoomQuota(sized(ALL_MESHES, f"plugin-{number}", 1) for number in range(16))
    assert "all rooms together keep as much as they may" in refusal(quota, ALL_MESHES, "plugin-quiz", 1)
    quota = RoomQuota(sized(ALL_MESHES, f"plugin-{number}", 70 * KIB) for number in range(15))
    assert "all rooms together keep as much as they may" in refusal(quota, ALL_MESHES, "plugin-quiz", 1)


@pytest.mark.parametrize("kind", DocumentKind)
def test_a_room_has_so_many_of_a_kind(kind: DocumentKind) -> None:
    quota = RoomQuota(sized("a", f"name-{number}", 1, kind) for number in range(16))
    assert "keeps 16 of those" in refusal(quota, "a", "another", 1, kind)
    assert refusal(quota, "a", "name-3", 2, kind) == ""
    (other,) = set(DocumentKind) - {kind}
    assert refusal(quota, "a", "another", 1, other) == ""


def test_when_the_host_is_full_small_rooms_may_still_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_quota, "_MAX_HOST_BYTES", 100 * KIB)
    quota = RoomQuota([sized("a", "queue", 60 * KIB), sized("b", "queue", 40 * KIB)])
    assert "all rooms together" in refusal(quota, "a", "hits", 1)
    assert "all rooms together" in refusal(quota, "b", "hits", 1)
    assert refusal(quota, "c", "queue", 16 * KIB) == ""
    assert "all rooms together" in refusal(quota, "c", "queue", 16 * KIB + 1)
    quota.note("a", DOCUMENT, "queue", 10 * KIB)
    assert refusal(quota, "b", "hits", 50 * KIB) == ""


def test_the_room_is_told_in_its_language() -> None:
    quota = RoomQuota(
        [
            *(sized("a", f"name-{number}", 1) for number in range(16)),
            *(sized("b", f"name-{number}", 64 * KIB) for number in range(16)),
        ]
    )
    german = load("de")
    said = [
        translate(RemoteText(refusal(quota, *asked).partition(": ")[2]), german)
        for asked in (("a", "one", 61 * KIB), ("a", "one", 1), ("b", "three", 60 * KIB, HISTORY))
    ]
    assert said == [
        "das ist zu viel zum Speichern: 61 KiB, und erlaubt sind 60 KiB (entferne zuerst etwas)",
        "dieser Raum hat schon 16 davon gespeichert, mehr dürfen es nicht sein (entferne zuerst etwas)",
        "dieser Raum hat schon 1024 KiB gespeichert, und mehr als 1024 KiB dürfen es nicht sein"
        " (entferne zuerst etwas)",
    ]
