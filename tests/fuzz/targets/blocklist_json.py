"""blocklist.json, which people may edit."""

from __future__ import annotations

from ravesvc.blocklist.file import MAX_TEXT_CHARS, from_json, to_json
from ravesvc.common.steady_clock import Clock
from ravesvc.names import mesh_id

_CLOCK = Clock(wall=lambda: 1.8e9, boottime=lambda: 5000.0, boot="a-boot")


def check(data: bytes) -> None:
    """What is accepted is within bounds, can be written, and is the same when read again."""
    blocklist = from_json(data, "blocklist.json", _CLOCK)
    for block in blocklist:
        assert mesh_id(block.mesh) == block.mesh
        assert len(block.detail) <= MAX_TEXT_CHARS
        assert block.detail.isprintable()
        assert len(block.actor) <= MAX_TEXT_CHARS
        assert block.until is None or abs(block.until) <= 2**54
    text = to_json(blocklist, _CLOCK)
    text.encode()
    assert to_json(from_json(text, "blocklist.json", _CLOCK), _CLOCK) == text
