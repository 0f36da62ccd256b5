"""changes.json, the record of what was changed from rooms, as an earlier process or an operator has left it."""

from __future__ import annotations

from ravesvc.common import text_file
from ravesvc.names import mesh_id
from ravesvc.store.chat_change_log import read_text, to_text


def check(data: bytes) -> None:
    """What is accepted is the same when read again, and each change can be told on the bus and be undone."""
    following, changes = read_text(text_file.decode(data))
    assert read_text(to_text(following, changes)) == (following, changes)
    for change in changes:
        assert 0 < change.number < following < 2**63
        assert 0 <= change.user < 2**63
        assert change.at.timestamp() >= 0
        assert mesh_id(change.mesh) == change.mesh
        change.words.encode()
