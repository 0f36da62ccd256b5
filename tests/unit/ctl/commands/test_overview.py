"""ravectl status, list and show."""

from __future__ import annotations

import fcntl
import json
import os
import select
import struct
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from ravesvc import names
from ravesvc.bus import Variant, allow_all
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.main import main
from ravesvc.ctl.operations import memory, watch_run
from ravesvc.ctl.operations.mesh_lookup import MeshRow
from ravesvc.ctl.ui import columns, mesh_facts
from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator.dbus.manager import _DETAILS
from ravesvc.orchestrator.dbus.mesh import MeshObject
from tests.unit.fake_service import WHEN_US, FakeManagerObject, FakeMeshObject, FakeService, Terminal

FIRST = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
SECOND = "9f8e7d6c-5b4a-4f3e-8d2c-1b0a4f3e2d1c"
THIRD = "0a0b0c0d-5b4a-4f3e-8d2c-1b0a4f3e2d1c"

MESHES = [
    MeshRow(THIRD, "", "blocked", "the bot was kicked", 0, 0, 0, outdated=False),
    MeshRow(FIRST, "Friday film night with popcorn", "connected", "", WHEN_US - 7_400_000_000, 12, 0, outdated=True),
    MeshRow(
        SECOND,
        "映画の夜",
        "disconnected",
        "can't connect to wss.example.test:443: Connection refused",
        WHEN_US - 90_000_000,
        3,
        17,
        outdated=False,
    ),
]
STATUS = {
    "Version": "0.1.0",
    "Status": "3 meshes, 1 disconnected, 1 connected, 1 blocked",
    "Store": "embedded",
    "Admins": 2,
    "Permissions": 1,
    "LastDiscoveryTimestamp": WHEN_US - 12_000_000,
}

# The command.


@pytest.fixture
def service(bus_address: str, utc: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    monkeypatch.setattr(memory, "used", lambda: {FIRST: 22_500_000})
    fake = FakeService(bus_address)
    fake.manager.meshes = [[mesh.id, mesh.title, mesh.state, "/"] for mesh in MESHES]
    fake.manager.described = [list(mesh) for mesh in MESHES]
    kinds = {str: "s", int: "t"}
    fake.manager.status = {name: Variant(kinds[type(value)], value) for name, value in STATUS.items()}
    yield fake
    fake.stop()


@pytest.fixture
def manager(service: FakeService) -> FakeManagerObject:
    return service.manager


@pytest.mark.usefixtures("service")
def test_status_into_a_file_is_wide_and_has_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "Friday film night with popcorn  connected" in out
    assert "21M" in out
    assert "Connection refused\n" in out
    assert "\033" not in out


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
@pytest.mark.usefixtures("service")
def test_status_on_a_terminal(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], coloured: bool) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["status"]) == 0
    shown = terminal.getvalue()
    assert ("\033[32mconnected   \033[0m" in shown) is coloured
    assert ("\033[35mblocked     \033[0m" in shown) is coloured
    plain = shown.replace("\033[0m", "")
    for colour in ("32", "33", "35"):
        plain = plain.replace(f"\033[{colour}m", "")
    assert max(columns.width(line) for line in plain.splitlines()[3:]) <= 80


@pytest.mark.usefixtures("service")
def test_status_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["service"]["Store"] == "embedded"
    assert [mesh["Id"] for mesh in document["meshes"]] == [THIRD, FIRST, SECOND]
    assert document["meshes"][1] == {
        "Id": FIRST,
        "Title": "Friday film night with popcorn",
        "State": "connected",
        "Reason": "",
        "SinceTimestamp": WHEN_US - 7_400_000_000,
        "Users": 12,
        "Restarts": 0,
        "Outdated": True,
        "MemoryCurrent": 22_500_000,
    }
    assert document["meshes"][2]["MemoryCurrent"] is None


@pytest.mark.usefixtures("service")
def test_to_watch_takes_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--watch"]) == Exit.FAILED
    assert "--watch is for a terminal" in capsys.readouterr().err


class Operator(threading.Thread):
    """Sits at a pseudo-terminal, waits for each text, and then does something. `shown` is all that was written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: tuple[str, Callable[[Operator], object]]) -> None:
        super().__init__()
        self._steps = steps
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 120, 0, 0))
        self._keyboard, self._screen = os.fdopen(slave, "r"), os.fdopen(os.dup(slave), "w")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdin", self._keyboard)
        monkeypatch.setattr(sys, "stdout", self._screen)
        self.shown = ""
        self._missed = ""

    def run(self) -> None:
        for text, act in self._steps:
            begun = len(self.shown)
            while text not in self.shown[begun:]:
                if not self._read(10):
                    # Else the test would wait as well.
                    self._missed = text
                    self.type("q")
                    return
            act(self)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def _read(self, timeout: float) -> bool:
        ready = bool(select.select([self._master], [], [], timeout)[0])
        if ready:
            self.shown += os.read(self._master, 65536).decode()
        return ready

    def __enter__(self) -> Operator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join()
        while self._read(0):
            pass
        self._keyboard.close()
        self._screen.close()
        os.close(self._master)
        assert not self._missed


@pytest.mark.slow
@pytest.mark.usefixtures("service")
def test_what_is_watched_is_scrolled_until_q(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = "rows 1-2 of 3", "rows 2-3 of 3"
    keys = [
        (first, "\x1b[B"),
        (second, "\x1b[5~"),
        (first, "\x1b[F"),
        (second, "\x1b[A"),
        (first, "\x1b[6~"),
        (second, "\x1b[H"),
        (first, "q"),
    ]
    with Operator(monkeypatch, *((text, partial(Operator.type, keys=typed)) for text, typed in keys)) as operator:
        assert main(["status", "--watch"]) == 0
    assert operator.shown.startswith("\x1b[?1049h\x1b[?25l\x1b[?7l")
    assert operator.shown.endswith("\x1b[?7h\x1b[?25h\x1b[?1049l")


@pytest.mark.slow
def test_a_change_is_drawn_until_the_service_goes(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch_run, "_REDRAW_PAUSE_S", 0.01)

    def change() -> None:
        service.manager.described[1][2] = "starting"
        service.manager.set(Status="another")

    def in_service(what: Callable[[], None]) -> Callable[[Operator], object]:
        return lambda _: service._loop.call_soon_threadsafe(what)

    with Operator(monkeypatch, ("connected", in_service(change)), ("starting", in_service(service._stop.set))):
        assert main(["status", "--watch"]) == Exit.NOT_RUNNING
    assert "has gone away" in capsys.readouterr().err


def test_a_list(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert capsys.readouterr().out == (
        f"{THIRD}  blocked\n{FIRST}  connected     Friday film night with popcorn\n{SECOND}  disconnected  映画の夜\n"
    )
    manager.meshes = []
    assert main(["list"]) == 0
    assert capsys.readouterr().out == "There are no meshes.\n"


def show(service: FakeService, **values: object) -> None:
    """Export the object of a mesh."""
    mesh = FakeMeshObject(allow_all)
    mesh.set(Id=FIRST, **values)
    service._loop.call_soon_threadsafe(service.bus.export, names.mesh_path(FIRST), mesh)
    service.manager.lines = ["It runs."]


@pytest.mark.parametrize(
    ("state", "users"), [("held", "-"), ("blocked", "-"), ("stopped", "-"), ("failed", "-"), ("restarting", "12")]
)
def test_who_is_in_a_mesh_without_a_bot_is_not_known(
    service: FakeService, capsys: pytest.CaptureFixture[str], state: str, users: str
) -> None:
    show(service, State=state, Users=12)
    assert main(["show", FIRST]) == 0
    assert f"\nUsers:              {users}\n" in capsys.readouterr().out


def test_one_mesh(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    running = {"State": "connected", "Healthy": True, "MainPID": 4711, "Users": 12, "SinceTimestamp": WHEN_US}
    show(
        service, Title="Friday", Server="a.test:443", Invited=True, Unit="rave-mesh@x.service", Debug=True, **running
    )
    assert main(["show", FIRST[:4]]) == 0
    assert capsys.readouterr().out == (
        f"Mesh:               {FIRST}\n"
        "Title:              Friday\n"
        "State:              connected\n"
        "Reason:             -\n"
        "Healthy:            yes\n"
        "Users:              12\n"
        "Connected since:    2024-01-08 10:00 UTC\n"
        "Invited:            yes\n"
        "Server:             a.test:443\n"
        "Unit:               rave-mesh@x.service\n"
        "Process:            4711\n"
        "Automatic restarts: 0\n"
        "Outdated:           no\n"
        "Debug logging:      yes\n"
        "\n"
        "It runs.\n"
    )
    assert main(["show", "--json", FIRST]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document.keys() == MeshObject.properties.keys()
    assert document["SinceTimestamp"] == WHEN_US


@pytest.mark.parametrize(
    ("state", "healthy", "words"),
    [
        ("connected", True, "yes"),
        ("disconnected", True, "yes"),
        ("unhealthy", False, "no"),
        *((state, True, "-") for state in ("blocked", "held", "stopped", "starting", "restarting", "failed")),
    ],
)
def test_what_does_not_run_is_not_healthy(
    service: FakeService, capsys: pytest.CaptureFixture[str], state: str, healthy: bool, words: str
) -> None:
    show(service, State=state, Healthy=healthy)
    assert main(["show", FIRST]) == 0
    assert f"\nHealthy:            {words}\n" in capsys.readouterr().out


def test_a_mesh_that_is_blocked_and_has_no_object(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    service.manager.lines = ["It is on the blocklist."]
    service.manager.details = {
        "State": Variant("s", "blocked"),
        "Action": Variant("s", ""),
        "BlockReason": Variant("s", "kicked"),
        "BlockActor": Variant("s", "service"),
        "BlockSinceTimestamp": Variant("t", WHEN_US),
        "NextRetryTimestamp": Variant("t", 0),
    }
    assert main(["show", FIRST]) == 0
    # What `explain` has for programs stands in for the properties.
    assert capsys.readouterr().out == (
        f"Mesh:               {FIRST}\n"
        "State:              blocked\n"
        "Reason:             kicked\n"
        "Blocked by:         service\n"
        "Blocked since:      2024-01-08 10:00 UTC\n"
        "Next try:           -\n"
        "\n"
        "It is on the blocklist.\n"
    )
    assert main(["show", "--json", FIRST]) == 0
    assert json.loads(capsys.readouterr().out).keys() == service.manager.details.keys()


def test_each_property_has_a_label() -> None:
    assert mesh_facts.PROPERTY_LABELS.keys() == MeshObject.properties.keys()
    assert mesh_facts.BLOCK_LABELS.keys() <= {"Id", *_DETAILS}


def test_a_refusal_is_told(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    manager.error = RaveError(Code.ACCESS_DENIED, "no")
    assert main(["status"]) == Exit.DENIED
    assert "you may not do that" in capsys.readouterr().err
