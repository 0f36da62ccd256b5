"""Texts with which callers on the bus, and users by way of bots, name things: commands, codes, documents."""

from __future__ import annotations

import contextlib

from ravesvc.core import validation
from ravesvc.core.admin_claims import Claims
from ravesvc.errors import RaveError
from ravesvc.store import room_document
from ravesvc.store.model import command_key


def check(data: bytes) -> None:
    """What is accepted means the same when it is said again; no code is guessed."""
    text = data.decode(errors="replace").replace("\0", "")
    described = validation.description(text, "ping")
    assert described.isprintable()
    assert validation.description(described, "ping") == described
    if room_document.is_name(text):
        assert text.isascii()
    _check_claim(text)
    name = validation.command(text)
    assert validation.command(name) == name
    assert command_key(name) == name


def _check_claim(text: str) -> None:
    claims = Claims("ravectl admin claim")
    code = claims.issue()
    with contextlib.suppress(RaveError), claims.redeeming(text):
        raise AssertionError("a code was guessed")
    # One wrong attempt takes no right away from the user who has the code.
    with claims.redeeming(code):
        pass
