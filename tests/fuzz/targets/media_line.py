"""A line between the service and the video helper, of either direction, and the settings file of the helper."""

from __future__ import annotations

import contextlib

from ravesvc.config.media_settings import MediaSettings
from ravesvc.errors import RaveError
from ravesvc.media.links import MAX_LINK_CHARS
from ravesvc.media.messages import MAX_PICTURE_BYTES, MediaRequest, read_answer


def check(data: bytes) -> None:
    """What is accepted of each kind is within bounds, and the same when read again."""
    with contextlib.suppress(RaveError):
        settings = MediaSettings.from_json(data.decode(errors="surrogateescape"))
        assert MediaSettings.from_json(settings.to_json()) == settings
    with contextlib.suppress(RaveError):
        request = MediaRequest.from_bytes(data)
        assert len(request.text) <= MAX_LINK_CHARS
        assert MediaRequest.from_bytes(request.to_bytes()) == request
    answer = read_answer(data)
    if isinstance(answer, RaveError):
        assert len(answer.message) <= 300
        assert answer.message.isprintable()
        return
    assert answer.picture_bytes is None or 0 < answer.picture_bytes <= MAX_PICTURE_BYTES
    assert read_answer(answer.to_bytes()) == answer
