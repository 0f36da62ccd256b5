"""A picture that a command of the operator sends: its header says what it is."""

from __future__ import annotations

from ravesvc.common.picture import MAX_PIXELS, examine


def check(data: bytes) -> None:
    """What is accepted has a size within bounds."""
    form = examine(lambda at, size: data[at : at + size], len(data))
    assert 0 < form.width * form.height <= MAX_PIXELS
