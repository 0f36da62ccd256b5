from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from ravesvc.core.status_line import Situation, status_line, summary
from ravesvc.errors import Code, RaveError

IDENTITY = RaveError(Code.IDENTITY, "Rave refuses us", hint="check the key")
NOON = datetime(2026, 11, 28, 12, 3, tzinfo=UTC).timestamp()

pytestmark = pytest.mark.usefixtures("utc")


@pytest.mark.parametrize(
    ("situation", "line"),
    [
        (Situation(), "0 meshes"),
        (Situation(waiting_for="Asking a server: checking"), "Asking a server: checking; 0 meshes"),
        (
            Situation(
                waiting_for="Asking", discovery_error=RaveError(Code.SERVER_ERROR, "HTTP 500"), stale_since=NOON
            ),
            "0 meshes, discovery fails, stale since 2026-11-28 at 12:03:00 UTC: HTTP 500",
        ),
        (Situation(states=["connected", "blocked", "connected"]), "3 meshes, 2 connected, 1 blocked"),
        (Situation(states=["a state to come", "connected"]), "2 meshes, 1 connected, 1 a state to come"),
        (
            Situation(states=["held", "connected", "blocked", "disconnected", "failed", "stopped", "unhealthy"]),
            "7 meshes, 1 unhealthy, 1 failed, 1 disconnected, 1 connected, 1 stopped, 1 held, 1 blocked",
        ),
        (
            Situation(obstacle=RaveError(Code.CONFIG, "request_hash_key is not set", hint="set it")),
            "No mesh is started: request_hash_key is not set (set it)",
        ),
        (
            Situation(obstacle=RaveError(Code.LOGIN_NEEDED, "a login is needed: log in", hint="none yet")),
            "No mesh is started, because a login is needed: log in (none yet)",
        ),
        (
            Situation(states=["connected"], obstacle=RaveError(Code.BAD_FILE, "broken"), discovery_error=None),
            "No mesh is started: broken; 1 mesh, 1 connected",
        ),
        (
            Situation(session_refused=True, discovery_error=RaveError(Code.UNAUTHORIZED, "401")),
            "a login is needed: run ravectl login (Rave refuses the session); 0 meshes",
        ),
        (
            Situation(
                session_refused=True, session_proven=False, discovery_error=RaveError(Code.UNAUTHORIZED, "401")
            ),
            "a login is needed: run ravectl login (Rave refuses the session, "
            "or client_identity.request_hash_key is wrong); 0 meshes",
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
            "0 meshes, discovery fails, stale since 2026-11-28 at 12:03:00 UTC: HTTP 500",
        ),
        (
            Situation(states=["connected"], list_too_long="the list has more than 100 pages"),
            "1 mesh, 1 connected, the list has more than 100 pages",
        ),
        (
            Situation(losses_held_back=4, stale_since=NOON),
            "0 meshes, the loss of 4 is not believed, "
            "stale since 2026-11-28 at 12:03:00 UTC (ravectl discover --confirm-losses)",
        ),
        (
            Situation(
                blocklist_unsaved=RaveError(Code.BAD_FILE, "no space"),
                store_error=RaveError(Code.STORE, "no answer"),
                command_errors=["a.py: x", "b.py: y"],
            ),
            "0 meshes; the blocklist can't be saved: no space; the store can't be used, "
            "changes are refused: no answer; plugins fail: a.py: x (and 1 more)",
        ),
    ],
)
def test_the_line(situation: Situation, line: str) -> None:
    assert status_line(situation) == line


def test_the_summary_leaves_out_what_has_lines_of_its_own() -> None:
    situation = Situation(unshown=3, command_errors=["a.py: x"], config_note="rave.yaml has changed")
    assert summary(situation) == "0 meshes; messages that were not shown by a server: 3"
    assert status_line(situation) == f"{summary(situation)}; plugins fail: a.py: x; rave.yaml has changed"


@pytest.mark.parametrize(
    ("offsets", "number"),
    [
        ([0, 0.2, 1], 3),
        ([0, 5, 10], 3),
        ([-900, 0, 0.1, 0.2, 0.3, 5000], 4),
        ([0, 1], 0),
        ([0, 11, 22, 33, 44], 0),
    ],
)
def test_kicks_from_everywhere_are_one_event(offsets: list[float], number: int) -> None:
    line = status_line(Situation(kicks=[NOON + offset for offset in offsets]))
    if number:
        assert f"kicked from {number} meshes at once on 2026-11-28 at 12:03:00 UTC (" in line
        assert "ravectl blocklist remove --reason kicked" in line
    else:
        assert "kicked" not in line


@pytest.mark.parametrize("apart", [0, 60])
def test_many_kicks_are_counted_in_no_time(apart: int) -> None:
    begun = time.perf_counter()
    status_line(Situation(kicks=[NOON + apart * number for number in range(20_000)]))
    assert time.perf_counter() - begun < 1


def test_outages_and_pauses_are_said_and_what_follows_from_a_pause_is_not() -> None:
    situation = Situation(
        states=["disconnected"],
        outages=["all meshes can't be reached: 403"],
        pauses=["api.test asks for a pause until 12:10:00"],
        discovery_error=RaveError(Code.RATE_LIMITED, "api.test asks for a pause until 12:10:00"),
    )
    assert status_line(situation) == (
        "1 mesh, 1 disconnected; all meshes can't be reached: 403; api.test asks for a pause until 12:10:00"
    )


def test_a_line_has_an_end() -> None:
    line = status_line(Situation(pauses=[f"host-{number} asks for a pause" for number in range(9)]))
    assert line.endswith("; host-2 asks for a pause; and 6 more like that")
