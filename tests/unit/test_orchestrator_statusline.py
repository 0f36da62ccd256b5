from __future__ import annotations

import time

import pytest

from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator.statusline import Situation, status_line

IDENTITY = RaveError(Code.IDENTITY, "Rave refuses us", hint="check the key")
NOON = time.mktime((2026, 11, 28, 12, 3, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("situation", "line"),
    [
        (Situation(), "0 meshes"),
        (Situation(waiting_for="Asking a server: checking"), "Asking a server: checking; 0 meshes"),
        (
            Situation(
                waiting_for="Asking", discovery_error=RaveError(Code.SERVER_ERROR, "HTTP 500"), stale_since=NOON
            ),
            "0 meshes, discovery fails, stale since 2026-11-28 12:03: HTTP 500",
        ),
        (Situation(states=["connected", "blocked", "connected"]), "3 meshes, 1 blocked, 2 connected"),
        (
            Situation(obstacle=RaveError(Code.CONFIG, "request_hash_key is not set", hint="set it")),
            "No mesh is started: request_hash_key is not set (set it)",
        ),
        (
            Situation(states=["connected"], obstacle=RaveError(Code.BAD_FILE, "broken"), discovery_error=None),
            "No mesh is started: broken; 1 meshes, 1 connected",
        ),
        (
            Situation(session_refused=True, discovery_error=RaveError(Code.UNAUTHORIZED, "401")),
            "login needed: run ravectl login EMAIL: Rave refuses the session; 0 meshes",
        ),
        (
            Situation(
                session_refused=True, session_proven=False, discovery_error=RaveError(Code.UNAUTHORIZED, "401")
            ),
            "login needed: run ravectl login EMAIL: Rave refuses the session, "
            "or client_identity.request_hash_key is wrong; 0 meshes",
        ),
        (
            Situation(session_refused=True, identity_refused=IDENTITY, discovery_error=IDENTITY),
            "No mesh is started: Rave refuses us (check the key); 0 meshes",
        ),
        (
            Situation(identity_refused=IDENTITY, obstacle=RaveError(Code.LOGIN_NEEDED, "login needed")),
            "No mesh is started: Rave refuses us (check the key)",
        ),
        (
            Situation(identity_refused=IDENTITY, obstacle=RaveError(Code.BAD_FILE, "broken")),
            "No mesh is started: broken",
        ),
        (
            Situation(discovery_error=RaveError(Code.SERVER_ERROR, "HTTP 500"), stale_since=NOON),
            "0 meshes, discovery fails, stale since 2026-11-28 12:03: HTTP 500",
        ),
        (
            Situation(losses_held_back=4, stale_since=NOON),
            "0 meshes, the loss of 4 is not believed, "
            "stale since 2026-11-28 12:03 (ravectl discover --confirm-losses)",
        ),
        (
            Situation(
                blocklist_unsaved=RaveError(Code.BAD_FILE, "no space"),
                store_error=RaveError(Code.STORE, "no answer"),
                command_errors=["a.py: x", "b.py: y"],
            ),
            "0 meshes; the blocklist can't be saved: no space; the store can't be used, "
            "changes are refused: no answer; own commands fail: a.py: x (and 1 more)",
        ),
    ],
)
def test_the_line(situation: Situation, line: str) -> None:
    assert status_line(situation) == line
