"""An export of the store, and permissions.json, which has its form: what `ravectl store import` is given."""

from __future__ import annotations

from ravesvc.errors import Code, RaveError
from ravesvc.store import export


def check(data: bytes) -> None:
    """What is accepted can be written, and is the same when read again."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise RaveError(Code.BAD_DATA, "no UTF-8") from None
    found = export.from_json(text)
    written = export.to_json(found)
    written.encode()
    assert export.to_json(export.from_json(written)) == written
