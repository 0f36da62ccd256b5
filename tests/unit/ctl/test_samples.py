"""The samples in ravectl(1) are what ravectl prints.

`GOLDEN=write pytest tests/unit/ctl/test_samples.py` writes them anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ravesvc.api.models import Mesh
from ravesvc.blocklist.model import Block, MeshMemory, Reason
from ravesvc.bus import Variant
from ravesvc.core.explain import ExplainInput, explain
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.plan import Action, Decision
from ravesvc.core.run_state import RunState
from ravesvc.ctl.main import main
from ravesvc.ctl.operations import memory
from ravesvc.doctor import checks, machine, sandbox
from ravesvc.doctor.finding import held
from tests.unit.conftest import BusDaemon
from tests.unit.fake_service import FakeManagerObject, FakeService

SAMPLES = Path(__file__).parents[3] / "packaging/man/samples"

FILM = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
TALK = "7a8b9c0d-1e2f-4a3b-9c4d-5e6f7a8b9c0d"
KICKED = "e1f2a3b4-c5d6-4e7f-8a9b-0c1d2e3f4a5b"
MORNING_US = int(datetime(2026, 11, 29, 9, 30, tzinfo=UTC).timestamp()) * 1_000_000
MINUTE_US = 60_000_000
ANN, BOB = 100000001, 100000002

COMMANDS = {
    "status": ["status"],
    "list": ["list"],
    "users": ["users", FILM],
    "explain": ["explain", KICKED],
    "plan": ["plan"],
    "discover": ["discover"],
    "roll": ["roll"],
    "blocklist-list": ["blocklist", "list"],
    "blocklist-history": ["blocklist", "history", KICKED],
    "login": ["login", "bot@example.org"],
    "admin-list": ["admin", "list"],
    "admin-claim": ["admin", "claim"],
    "admin-undo": ["admin", "undo"],
    "perm-list": ["perm", "list"],
    "ignore-list": ["ignore", "list"],
    "store-info": ["store", "info"],
    "doctor": ["doctor"],
}


@pytest.fixture
def service(bus_daemon: BusDaemon, utc: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    """A service with two rooms, of which one can't be reached, and a third from which its bot was kicked."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_daemon.address)
    monkeypatch.setattr(memory, "used", lambda: {FILM: 19 << 20, TALK: 18 << 20})
    fake = FakeService(bus_daemon.address)
    fill_meshes(fake)
    fill_store(fake)
    yield fake
    fake.stop()


def fill_meshes(fake: FakeService) -> None:
    manager, now_us = fake.manager, time.time_ns() // 1000
    states = [(FILM, "Film night", "connected"), (TALK, "Talk", "disconnected"), (KICKED, "Old room", "blocked")]
    manager.meshes = [[*state, "/"] for state in states]
    reasons = ["", "connection lost: no answer", "the bot was kicked"]
    numbers = [(now_us - 190 * MINUTE_US, 12, 0, True), (now_us, 4, 1, False), (0, 0, 0, False)]
    manager.described = [
        [*state, reason, *facts] for state, reason, facts in zip(states, reasons, numbers, strict=True)
    ]
    manager.users = [[ANN, "Ann", True], [BOB, "Bob", False]]
    manager.found = (2, "")
    manager.roll_script = roll
    manager.decisions = [
        [FILM, "keep", "discovery lists it, and it runs"],
        [KICKED, "skip", "the bot was kicked"],
    ]
    manager.lines = explain(after_a_kick())
    fake.blocklist.entries = [
        [KICKED, "kicked", MORNING_US, 0, "", "service", 1],
        [TALK, "operator", MORNING_US + 5 * MINUTE_US, MORNING_US + 90 * MINUTE_US, "spam", "ann", 1],
    ]
    fake.blocklist.titles = {KICKED: "Old room", TALK: "Talk"}
    fake.blocklist.events = [
        [MORNING_US - 30 * MINUTE_US, "blocked", "held", "ann", ""],
        [MORNING_US - 20 * MINUTE_US, "unblocked", "held", "ann", ""],
        [MORNING_US, "blocked", "kicked", "service", ""],
    ]


def after_a_kick() -> ExplainInput:
    block = Block(mesh=KICKED, reason=Reason.KICKED, since=1, until=None)
    decision = Decision(KICKED, Action.SKIP, block.describe())
    return ExplainInput(
        record=MeshState(
            KICKED,
            former=Mesh(KICKED, None, "Old room", True, ()),
            block=block,
            run=RunState(),
            worker=WorkerState(),
            decision=decision,
            last_exit="exit status 80 (kicked)",
        ),
        decision=decision,
        memory=MeshMemory(),
        retry=0,
        blocked_since=MORNING_US,
        last_discovery=MORNING_US + 188 * MINUTE_US,
        discovery_error=None,
        outdated=False,
        silence=0.0,
    )


async def roll(manager: FakeManagerObject) -> None:
    for number, mesh in enumerate((FILM, TALK, "")):
        manager.emit("RollProgress", number, 2, mesh)
    manager.emit("RollFinished", "", "")


def fill_store(fake: FakeService) -> None:
    manager, now_us = fake.manager, time.time_ns() // 1000
    manager.set_status(admins=2, permissions=1, account=True, login=False)
    manager.status |= {
        "Version": Variant("s", "0.2.0"),
        "Summary": Variant("s", "3 meshes, 1 connected, 1 blocked"),
        "LastDiscoveryTimestamp": Variant("t", now_us - 2 * MINUTE_US),
    }
    manager.admins = [[ANN, ANN, MORNING_US], [BOB, ANN, MORNING_US + 20 * MINUTE_US]]
    manager.ignored = [[100000007, 0, MORNING_US]]
    manager.permissions = [["ping", True, "", MORNING_US]]
    manager.chat_changes = [
        [17, MORNING_US, FILM, ANN, f"made user {BOB} an admin", False],
        [18, MORNING_US + MINUTE_US, FILM, BOB, "set the command ping to be for admins only", False],
    ]


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a fine network and too little memory."""
    found = [
        checks.resolver("api.example.org", 2, 0.1, ""),
        *checks.families("api.example.org", {"IPv4": ""}),
        checks.clock(0.2, synchronized=True),
        checks.memory(1 << 30, 25),
    ]
    monkeypatch.setattr(machine, "examine", lambda _: found)
    monkeypatch.setattr(sandbox, "attack", lambda: [held("files of others", "refused: Permission denied")])


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_sample_is_what_ravectl_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(COMMANDS[name])
    printed = capsys.readouterr()
    assert printed.err == ""
    file = SAMPLES / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        file.write_text(printed.out)
    assert printed.out == file.read_text()


def test_every_sample_is_compared() -> None:
    assert {file.stem for file in SAMPLES.iterdir()} == set(COMMANDS)
