"""changes.json, the record of what was changed from rooms: the service reads it at its start."""

from __future__ import annotations

from ravesvc.errors import Code, RaveError
from ravesvc.store.chat_change_log import read_text, to_text


def check(data: bytes) -> None:
    """What is accepted can be written, and is the same when read again."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise RaveError(Code.BAD_DATA, "no UTF-8") from None
    following, changes = read_text(text)
    assert all(change.words for change in changes)
    assert len(changes) <= 1000
    written = to_text(following, changes)
    written.encode()
    assert read_text(written) == (following, changes)
