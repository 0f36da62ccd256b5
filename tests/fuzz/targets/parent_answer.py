"""What the parent answers to a bot: a program of ours, if perhaps of another version."""

from __future__ import annotations

import contextlib
from typing import cast

from ravesvc.bus import Bus
from ravesvc.errors import RaveError
from ravesvc.mesh.parent_client import ParentClient
from tests.fuzz.rules import bus_body, finished


class _Answering:
    """A bus on which every call has the same answer."""

    def __init__(self, body: list[object]) -> None:
        self._body = body

    async def call(self, *_words: object, **_limits: object) -> list[object]:
        """See `Bus`."""
        return self._body


def check(data: bytes) -> None:
    """Each question gets an answer of its type, or fails in words."""
    bus = cast("Bus", _Answering(bus_body(data)))
    parent = ParentClient(lambda: bus)
    understood = 0
    for question in (
        parent.admins(), parent.permissions(), parent.ignored_users(), parent.connect_advice(), parent.chat_form(),
        parent.entry_points(), parent.tried_plugins(), parent.session(),
        parent.add_admin(1, 2), parent.refresh(1), parent.relogin(1),
        parent.search_videos(1, "x"), parent.look_up_video(1, "x"), parent.read_document("x"),
        parent.read_history("x", 1), parent.forget_user(1),
    ):  # fmt: skip
        with contextlib.suppress(RaveError):
            finished(question)
            understood += 1
    if not understood:
        finished(parent.admins())
