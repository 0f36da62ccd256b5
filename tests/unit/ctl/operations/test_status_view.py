"""The text of ravectl status; its looks on a terminal are in test_screens.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.ctl.operations import status_view
from ravesvc.ctl.operations.mesh_lookup import MeshRow
from ravesvc.ctl.operations.status_view import StatusFacts, StatusView
from ravesvc.ctl.ui import columns
from tests.unit.fake_service import WHEN_US

FIRST = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
SECOND = "9f8e7d6c-5b4a-4f3e-8d2c-1b0a4f3e2d1c"
THIRD = "0a0b0c0d-5b4a-4f3e-8d2c-1b0a4f3e2d1c"
REFUSED = "can't connect to wss.example.test:443: Connection refused"
MESHES = [
    MeshRow(THIRD, "", "blocked", "the bot was kicked", 0, 0, 0, outdated=False),
    MeshRow(FIRST, "Friday film night with popcorn", "connected", "", WHEN_US - 7_400_000_000, 12, 0, outdated=True),
    MeshRow(SECOND, "映画の夜", "disconnected", REFUSED, WHEN_US - 90_000_000, 3, 17, outdated=False),
]
STATUS = {
    "Version": "0.1.0",
    "Summary": "3 meshes, 1 disconnected, 1 connected, 1 blocked",
    "Store": "embedded",
    "Admins": 2,
    "Permissions": 1,
    "LastDiscoveryTimestamp": WHEN_US - 12_000_000,
}
MEMORY = {FIRST: 22_500_000, SECOND: 2 * 2**30}


def facts(meshes: list[MeshRow] = MESHES, **status: Any) -> StatusFacts:
    return StatusFacts(STATUS | status, meshes, MEMORY, WHEN_US / 1_000_000)


def drawn(view: StatusView) -> str:
    return "\n".join(columns.join(line) for line in view.lines())


IN_A_FILE = """\
rave-orchestrator 0.1.0: 3 meshes, 1 disconnected, 1 connected, 1 blocked
store embedded, last discovery 12s ago, 2 admins, 1 command permission
outdated processes: 1 (ravectl roll)

MESH      TITLE                           STATE         UP  USERS  MEM   RST  REASON
1c2d3e4f  Friday film night with popcorn  connected     2h  12     21M   0
9f8e7d6c  映画の夜                        disconnected  -   3      2.0G  17   can't connect to wss.example.test:443: Connection refused
0a0b0c0d                                  blocked       -   -      -     0    the bot was kicked"""  # noqa: E501

AT_80 = """\
rave-orchestrator 0.1.0: 3 meshes, 1 disconnected, 1 connected, 1 blocked
store embedded, last discovery 12s ago, 2 admins, 1 command permission
outdated processes: 1 (ravectl roll)

MESH      TITLE                           STATE         UP   USERS  MEM   RST
1c2d3e4f  Friday film night with popcorn  connected     2h   12     21M   0
9f8e7d6c  映画の夜                        disconnected  -    3      2.0G  17
            can't connect to wss.example.test:443: Connection refused
0a0b0c0d                                  blocked       -    -      -     0
            the bot was kicked"""

AT_40 = """\
rave-orchestrator 0.1.0: 3 meshes,
1 disconnected, 1 connected, 1 blocked
store embedded, last discovery 12s ago,
2 admins, 1 command permission
outdated processes: 1 (ravectl roll)

MESH      TITLE             STATE
1c2d3e4f  Friday film nig…  connected
9f8e7d6c  映画の夜          disconnected
            can't connect to wss.exampl…
0a0b0c0d                    blocked
            the bot was kicked"""


def test_in_a_file() -> None:
    assert drawn(status_view.for_file(facts())) == IN_A_FILE


@pytest.mark.parametrize(("cells", "text"), [(80, AT_80), (40, AT_40)])
def test_a_narrow_terminal_has_reasons_below_their_meshes(cells: int, text: str) -> None:
    assert drawn(status_view.for_terminal(facts(), cells)) == text


def test_a_wide_terminal_has_a_column_for_reasons() -> None:
    titles, *rows = drawn(status_view.for_terminal(facts(), 110)).splitlines()[4:]
    assert titles == "MESH      TITLE                     STATE         UP   USERS  MEM   RST  REASON"
    assert rows[0] == "1c2d3e4f  Friday film night with …  connected     2h   12     21M   0"
    assert rows[1].endswith("  can't connect to wss.example.test:44…")
    assert len(rows) == 3


@pytest.mark.parametrize("cells", [80, 160])
def test_a_column_is_no_narrower_than_it_was(cells: int) -> None:
    before = status_view.for_terminal(facts(), cells)
    short = [mesh._replace(title="Film", restarts=0) for mesh in MESHES]
    after = status_view.for_terminal(facts(short), cells, before.widths())
    assert after.widths()[:7] == before.widths()[:7]
    assert status_view.for_terminal(facts(short), cells).widths() != before.widths()


def test_widths_of_another_layout_are_left_alone() -> None:
    wide = status_view.for_terminal(facts(), 160)
    for cells in (40, 60, 80):
        there = status_view.for_terminal(facts(), cells)
        assert columns.width(columns.join(there.titles[0])) <= cells
        assert status_view.for_terminal(facts(), cells, wide.widths()[:2]).widths() == there.widths()


WORDS = st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs", "Cc", "Cf"]), max_size=80)


@pytest.mark.slow
@given(st.lists(st.tuples(WORDS, WORDS), max_size=4), WORDS, st.integers(32, 200))
def test_nothing_is_wider_than_the_terminal(found: list[tuple[str, str]], status: str, cells: int) -> None:
    meshes = [
        MeshRow(f"{number:08d}{FIRST[8:]}", title, "disconnected", reason, 0, 99_999, 100, outdated=False)
        for number, (title, reason) in enumerate(found)
    ]
    for line in status_view.for_terminal(facts(meshes, Summary=status), cells).lines():
        assert columns.width(columns.join(line)) <= cells


def test_without_meshes_there_is_no_table() -> None:
    nothing = StatusFacts({"Version": "0.1.0", "Summary": "No mesh is started", "Store": "mongodb"}, [], {}, 0.0)
    for view in (status_view.for_file(nothing), status_view.for_terminal(nothing, 80)):
        assert drawn(view) == (
            "rave-orchestrator 0.1.0: No mesh is started\n"
            "store mongodb, no discovery yet, 0 admins, 0 command permissions"
        )


def test_a_plugin_that_fails_and_an_edit_of_rave_yaml_have_a_line_each() -> None:
    error, note = "/etc/rave/commands.d/a.py, line 3: no", "rave.yaml has changed (lang): reload it"
    more = {"Status": f"3 meshes; plugins fail: {error}; {note}", "CommandErrors": [error], "ConfigNote": note}
    first, _, *others = drawn(status_view.for_file(facts([], **more))).splitlines()
    assert first == "rave-orchestrator 0.1.0: 3 meshes, 1 disconnected, 1 connected, 1 blocked"
    assert others == [f"plugins: {error}", note]


def test_an_older_service_says_all_in_its_status() -> None:
    older = StatusFacts({"Version": "0.1.0", "Status": "0 meshes"}, [], {}, 0.0)
    assert drawn(status_view.for_file(older)).startswith("rave-orchestrator 0.1.0: 0 meshes\n")


def test_what_the_last_reload_applied_is_named_while_processes_are_outdated() -> None:
    shown = drawn(status_view.for_file(facts(ReloadedOptions=["lang", "limit"])))
    assert "\noutdated processes: 1 (ravectl roll)\napplied by the last reload: lang, limit\n" in shown
    replaced = [mesh._replace(outdated=False) for mesh in MESHES]
    assert "applied" not in drawn(status_view.for_file(facts(replaced, ReloadedOptions=["lang", "limit"])))


def test_ids_are_as_long_as_tells_them_apart() -> None:
    twin = FIRST[:12] + "f" + FIRST[13:]
    shown = drawn(status_view.for_file(facts([MESHES[1], MESHES[1]._replace(id=twin)])))
    assert FIRST[:13] in shown
    assert twin[:13] in shown
    assert FIRST[:14] not in shown


def test_blocked_meshes_that_are_not_shown_are_counted() -> None:
    shown = [MESHES[0]]
    view = status_view.for_file(facts(shown, States={"blocked": 20_001, "connected": 1}))
    assert drawn(view).endswith("\nand 20000 more on the blocklist: ravectl blocklist list")
    assert not status_view.for_file(facts(shown, States={"blocked": 1})).foot


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (7200, "2h"), (90_000, "1d")]
)
def test_ages(seconds: float, text: str) -> None:
    assert status_view.age(seconds) == text
