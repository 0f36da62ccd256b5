"""Texts with which callers on the bus, and users by way of bots, name things: commands, codes, documents."""

from __future__ import annotations

import contextlib

from ravesvc.errors import RaveError
from ravesvc.orchestrator import arguments
from ravesvc.orchestrator.claims import Claims
from ravesvc.store import room_document
from ravesvc.store.store import command_key


def check(data: bytes) -> None:
    """What is accepted means the same when it is said again; no code is guessed."""
    text = data.decode(errors="replace").replace("\0", "")
    described = arguments.description(text, "ping")
    assert described.isprintable()
    assert arguments.description(described, "ping") == described
    if room_document.is_name(text):
        assert text.isascii()
    _check_claim(text)
    name = arguments.command(text)
    assert arguments.command(name) == name
    assert command_key(name) == name


def _check_claim(text: str) -> None:
    claims = Claims("ravectl admin claim")
    code = claims.issue()
    with contextlib.suppress(RaveError), claims.redeeming(text):
        raise AssertionError("a code was guessed")
    # One wrong attempt takes no right away from whoever has the code.
    with claims.redeeming(code):
        pass
