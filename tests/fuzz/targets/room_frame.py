"""A text frame of a mesh's server: the frame, the state of a room and the chat messages in it."""

from __future__ import annotations

import contextlib
from dataclasses import astuple

from ravesvc.errors import RaveError
from ravesvc.room.chat import parse_chat
from ravesvc.room.frames import ErrorResponse, parse
from ravesvc.room.state import StateMessage, parse_state
from tests.fuzz.rules import all_values, is_finite


def check(data: bytes) -> None:
    """What is read of a frame is within its bounds."""
    frame = parse(data.decode(errors="surrogateescape"))
    if isinstance(frame, ErrorResponse):
        assert len(frame.reason) <= 200
        assert frame.reason.isprintable()
        return
    with contextlib.suppress(RaveError):
        _check_state(parse_state(frame.data))
    chat = parse_chat(frame.data)
    assert len(chat.id) <= 128
    assert len(chat.sender_peer) <= 128
    assert chat.sender is None or 0 < chat.sender < 2**63
    assert len(chat.media) <= 16
    # Log, bus and store take no half of a surrogate pair.
    for text in (chat.id, chat.sender_peer, chat.reply_to or "", chat.text):
        text.encode()


def _check_state(state: StateMessage) -> None:
    assert all(user > 0 for user in (*(state.users or ()), *(state.kicked or ())))
    assert len(state.votes or ()) <= 100
    assert len(state.opinions or ()) <= 2000
    for vote in state.votes or ():
        assert len(vote.url) <= 2000
        assert vote.count >= 0
    for value in all_values(astuple(state)):
        assert is_finite(value)
