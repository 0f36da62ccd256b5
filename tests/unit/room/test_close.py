from __future__ import annotations

import pytest

from ravesvc.room.close import CloseKind, End, classify, describe


@pytest.mark.parametrize(
    ("code", "held", "by_peer", "kind"),
    [
        (1000, 0.0, True, CloseKind.REJECTED),
        (4000, 4.999, True, CloseKind.REJECTED),
        (1008, 0.1, True, CloseKind.REJECTED),
        (1005, 0.1, True, CloseKind.REJECTED),
        (1000, 5.0, True, CloseKind.LOST),
        (4000, 3600.0, True, CloseKind.LOST),
        (1006, 0.1, False, CloseKind.LOST),
        (1000, 0.1, False, CloseKind.LOST),
        (1001, 0.1, True, CloseKind.LOST),
        (1011, 0.1, True, CloseKind.LOST),
        (1012, 0.1, True, CloseKind.LOST),
        (1013, 0.1, True, CloseKind.LOST),
    ],
)
def test_kinds(code: int, held: float, by_peer: bool, kind: CloseKind) -> None:
    assert classify(End(code, "", held, by_peer), early=5.0) is kind


@pytest.mark.parametrize("by_peer", [True, False])
def test_what_is_too_large_is_so_however_it_ends(by_peer: bool) -> None:
    end = End(1009, "", 0.1, by_peer, too_large=9_000_000)
    assert classify(end, early=5.0) is CloseKind.TOO_LARGE
    assert describe(end) == "a message of 9000000 bytes, where 6291456 are the limit"


def test_words() -> None:
    assert describe(End(1006, "", 1.0, False)) == "the connection broke"
    assert describe(End(1006, "frame too long", 1.0, False)) == "the connection broke: frame too long"
    assert describe(End(1006, "", 1.0, False, fault="the server floods")) == "the server floods"
    assert describe(End(4000, "", 1.0, True)) == "the server closed the connection with code 4000"
    assert describe(End(4000, "bye", 1.0, True)) == "the server closed the connection with code 4000: bye"
