"""What monitoring is told; the conditions are those of ravectl(1)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ravesvc.ctl.operations import verdict
from ravesvc.ctl.operations.mesh_lookup import MeshRow
from ravesvc.ctl.operations.verdict import Level, judge

NOW = 1_700_000_000.0
GOOD: dict[str, Any] = {
    "Obstacle": "",
    "LoginNeeded": False,
    "DiscoveryError": "",
    "LastDiscoveryTimestamp": 1,
    "StoreError": "",
    "BlocklistError": "",
    "HeldBack": 0,
    "CommandErrors": [],
    "Blocks": {},
}


def mesh(state: str = "connected", *, seconds: float = 10, outdated: bool = False) -> MeshRow:
    since = int((NOW - seconds) * 1_000_000)
    return MeshRow("id", "", state, "", since, 0, 0, outdated)


CONNECTED = mesh()


@pytest.mark.parametrize(
    ("status", "meshes", "level", "words"),
    [
        ({}, [CONNECTED, CONNECTED], Level.OK, "2 of 2 meshes connected"),
        ({}, [], Level.OK, "no mesh is listed"),
        ({"Blocks": {"kicked": 2}}, [CONNECTED, mesh("blocked"), mesh("blocked")], Level.OK, "1 of 1"),
        (
            {"Blocks": {"held": 1, "operator": 2}},
            [mesh("held"), mesh("blocked"), mesh("blocked")],
            Level.OK,
            "no bot runs: 2 blocked, 1 held",
        ),
        ({}, [mesh("stopped")], Level.OK, "no bot runs: 1 stopped"),
        ({}, [mesh("stopping")], Level.OK, "no bot runs: 1 stopping"),
        ({}, [CONNECTED, mesh("starting")], Level.OK, "1 of 2"),
        ({}, [mesh("starting")], Level.OK, "0 of 1"),
        ({}, [CONNECTED, mesh("disconnected", seconds=299)], Level.OK, ""),
        # Critical.
        ({"LoginNeeded": True, "Obstacle": "login needed"}, [], Level.CRITICAL, "login needed"),
        ({"LoginNeeded": True}, [CONNECTED], Level.CRITICAL, "Rave refuses the session"),
        ({"Obstacle": "identity.x is missing"}, [CONNECTED], Level.CRITICAL, "no mesh is started: identity.x"),
        ({}, [mesh("disconnected")], Level.CRITICAL, "none of 1 mesh is connected"),
        ({}, [mesh("failed"), mesh("restarting")], Level.CRITICAL, "none of 2 meshes"),
        ({"Blocks": {"rejected": 2, "kicked": 1}}, 3 * [mesh("blocked")], Level.CRITICAL, "none of 2 meshes"),
        ({"Outages": ["all meshes can't be reached: 403"]}, [mesh("stopped")], Level.CRITICAL, "be reached: 403"),
        # Warning.
        ({"Outages": ["3 of 4 meshes fail"]}, [CONNECTED], Level.WARNING, "3 of 4 meshes fail"),
        ({"Pauses": ["api.test asks for a pause"]}, [CONNECTED], Level.WARNING, "api.test asks for a pause"),
        ({}, [CONNECTED, mesh("disconnected", seconds=301)], Level.WARNING, "1 disconnected for more than 5 min"),
        ({}, [CONNECTED, mesh("unhealthy")], Level.WARNING, "1 unhealthy"),
        ({}, [CONNECTED, mesh("failed")], Level.WARNING, "1 failed"),
        ({}, [CONNECTED, mesh("restarting")], Level.WARNING, "1 waiting to be restarted"),
        ({"Blocks": {"crashes": 1}}, [CONNECTED, mesh("blocked")], Level.WARNING, "1 quarantined"),
        ({"Blocks": {"connection_failures": 1, "rejected": 1}}, [CONNECTED], Level.WARNING, "2 could not be reached"),
        ({"Blocks": {"too_large": 1}}, [CONNECTED], Level.WARNING, "1 too large for a bot"),
        ({}, [mesh(outdated=True)], Level.WARNING, "1 outdated"),
        ({"DiscoveryError": "HTTP 500"}, [CONNECTED], Level.WARNING, "discovery fails: HTTP 500"),
        ({"Outages": ["kicked from 6 meshes at once"]}, [CONNECTED], Level.WARNING, "kicked from 6 meshes at once"),
        ({"UnshownMessages": 2}, [CONNECTED], Level.WARNING, "2 messages not shown by a server"),
        ({"HeldBack": 7}, [CONNECTED], Level.WARNING, "the loss of 7 meshes"),
        ({"StoreError": "away"}, [CONNECTED], Level.WARNING, "the store can't be used: away"),
        ({"BlocklistError": "full"}, [CONNECTED], Level.WARNING, "the blocklist can't be saved: full"),
        ({"CommandErrors": ["a.py", "b.py"]}, [CONNECTED], Level.WARNING, "plugins fail: a.py"),
        ({"LastDiscoveryTimestamp": 0}, [CONNECTED], Level.WARNING, "no discovery yet"),
    ],
)
def test_each_condition(status: dict[str, Any], meshes: list[MeshRow], level: Level, words: str) -> None:
    found = judge(GOOD | status, meshes, NOW)
    assert found.level is level, found
    assert words in found.text


def test_what_is_shared_by_most_is_told_once() -> None:
    for meshes in [CONNECTED], [mesh("disconnected")]:
        assert judge(GOOD | {"Outages": ["403 for all"]}, meshes, NOW).text == "403 for all"


def test_the_worst_comes_first_and_all_of_it_is_told() -> None:
    found = judge(GOOD | {"StoreError": "away"}, [mesh("disconnected", seconds=9999)], NOW)
    assert found.level is Level.CRITICAL
    assert found.text.startswith("none of 1 mesh is connected; 1 disconnected for more than 5 min; the store")


def test_an_older_service_can_not_be_judged() -> None:
    assert judge({}, [CONNECTED], NOW).level is Level.UNKNOWN


def test_the_line_is_one_and_its_bar_begins_the_figures() -> None:
    status = GOOD | {"StoreError": "a|b\nc\x1b[2J" + "x" * 1000}
    line = judge(status, [CONNECTED, mesh("unhealthy")], NOW).line()
    assert line.isprintable()
    assert re.fullmatch(
        r"RAVE WARNING - [^|]*a/b\?c\?\[2Jx+ \| meshes=2 connected=1 unhealthy=1 blocked=0 held=0 outdated=0", line
    )
    assert len(line) < 700


def test_without_a_service() -> None:
    assert verdict.absent("it is not running", 3).line() == "RAVE CRITICAL - it is not running | bots=3"
    assert verdict.hung("it does not answer").line() == "RAVE CRITICAL - it does not answer"
    assert verdict.unknown("no bus").line() == "RAVE UNKNOWN - no bus"
    assert [int(level) for level in Level] == [0, 1, 2, 3]
