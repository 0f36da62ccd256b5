"""ravectl start, stop and restart wait until it is done."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from ravesvc.bus import Variant
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.main import main
from ravesvc.ctl.operations import mesh_run
from ravesvc.errors import Code, RaveError
from tests.unit.conftest import until
from tests.unit.fake_service import FakeManagerObject, FakeService, Terminal

MESH = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
MEMBERS = {"start": "StartMesh", "stop": "StopMesh", "restart": "RestartMesh"}


@pytest.fixture
def service(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    fake = FakeService(bus_address)
    fake.manager.meshes = [[MESH, "A film", "connected", "/"]]
    yield fake
    fake.stop()


@pytest.fixture
def manager(service: FakeService) -> FakeManagerObject:
    return service.manager


def _from(words: list[str], first: str) -> list[str]:
    """The words from this one on; none without it."""
    return words[words.index(first) :] if first in words else []


class Steps:
    """A mesh goes through states after an order is answered: the next one when ravectl has seen the last."""

    def __init__(self, *states: tuple[str, ...]) -> None:
        self._states = states

    async def __call__(self, manager: FakeManagerObject, mesh: str) -> None:
        manager.describe(mesh, *self._states[0])
        manager.later(self._go_on(manager, mesh))

    async def _go_on(self, manager: FakeManagerObject, mesh: str) -> None:
        for state in self._states[1:]:
            await self._seen(manager)
            manager.describe(mesh, *state)

    async def _seen(self, manager: FakeManagerObject) -> None:
        # A look that has begun before the last change has not seen it.
        begun = len(manager.looks)
        await until(lambda: "Plan" in _from(manager.looks[begun:], "DescribeMeshes"))


@pytest.mark.parametrize(
    ("verb", "steps", "waiting", "done"),
    [
        (
            "start",
            [
                ("stopped", "discovery lists it", "start"),
                ("starting",),
                ("disconnected",),
                ("disconnected", "no answer"),
                ("connected",),
            ],
            ["starting", "connecting", "connecting (no answer)"],
            "is connected",
        ),
        (
            "stop",
            [
                ("connected",),
                ("stopping", "it was stopped by an operator"),
                ("held", "it was stopped by an operator", "skip"),
            ],
            ["stopping"],
            "is stopped, and held until it is started",
        ),
        (
            "restart",
            [("disconnected",), ("connected",)],
            ["connecting"],
            "has a new process, and is connected",
        ),
    ],
)
def test_it_is_waited_until_it_is_done(
    manager: FakeManagerObject,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    steps: list[tuple[str, ...]],
    waiting: list[str],
    done: str,
) -> None:
    manager.order_script = Steps(*steps)
    assert main([verb, MESH]) == 0
    assert manager.asked[0] == (MEMBERS[verb], MESH)
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.partition(", 1:")[0] for line in lines] == [f"A film: {each}" for each in waiting]
    assert last == f"Mesh {MESH} (A film) {done}."


def test_a_mesh_without_a_title_is_waited_for_by_its_short_id(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.meshes = [[MESH, "", "connected", "/"]]
    manager.order_script = Steps(("starting",), ("connected",))
    assert main(["start", MESH]) == 0
    assert capsys.readouterr().out.startswith("1c2d3e4f: starting, 1:")


@pytest.mark.parametrize(
    ("verb", "state", "words"),
    [
        ("start", "connected", "runs already, and is connected"),
        ("stop", "held", "is stopped, and held until it is started"),
        ("restart", "connected", "has a new process, and is connected"),
    ],
)
def test_what_is_so_already_is_not_waited_for(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], verb: str, state: str, words: str
) -> None:
    manager.order_script = Steps((state,))
    assert main([verb, MESH]) == 0
    assert capsys.readouterr().out == f"Mesh {MESH} (A film) {words}.\n"


@pytest.mark.parametrize("verb", MEMBERS)
def test_a_refusal_is_all_that_happens(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    manager.error = RaveError(Code.BLOCKED, "the bot was kicked")
    assert main([verb, MESH]) == Exit.FAILED
    assert manager.asked == [(MEMBERS[verb], MESH)]
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "ravectl: the bot was kicked\n")


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_a_bot_that_does_not_connect_is_a_failure(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    manager.order_script = Steps(("starting",), ("failed", "", "skip"), ("blocked", "the bot was kicked", "skip"))
    assert main([verb, MESH]) == Exit.FAILED
    assert f"mesh {MESH} (A film) is not connected: it is blocked: the bot was kicked\n" in capsys.readouterr().err


def test_an_obstacle_to_all_meshes_is_not_waited_for(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.status["Obstacle"] = Variant("s", "login needed")
    manager.order_script = Steps(("disconnected", "there is no session"))
    assert main(["start", MESH]) == Exit.FAILED
    assert "is not connected: no mesh is started: login needed\n" in capsys.readouterr().err


def test_the_wait_is_bounded_and_says_for_what_it_was(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_run, "_TIMEOUT_S", 0.3)
    manager.order_script = Steps(("disconnected", "Connection refused"))
    assert main(["start", MESH]) == Exit.FAILED
    said = capsys.readouterr().err
    assert f"mesh {MESH} (A film) is not connected after 0 s: it is disconnected: Connection refused\n" in said
    assert f"ravectl explain {MESH}" in said


def test_a_service_that_goes_away_ends_the_waiting(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    class Vanishing(Steps):
        async def _go_on(self, manager: FakeManagerObject, mesh: str) -> None:
            await self._seen(manager)
            service._stop.set()

    service.manager.order_script = Vanishing(("starting",))
    assert main(["start", MESH]) == Exit.NOT_RUNNING
    assert "has gone away" in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "words"), [("start", "started"), ("stop", "stopped"), ("restart", "restarted")])
def test_ctrl_c_ends_the_waiting_alone(
    manager: FakeManagerObject,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    words: str,
) -> None:
    async def interrupt(manager: FakeManagerObject, mesh: str) -> None:
        manager.describe(mesh, "stopping")
        manager.later(press_ctrl_c())

    async def press_ctrl_c() -> None:
        await until(lambda: "A film: " in screen.getvalue())
        os.kill(os.getpid(), signal.SIGINT)

    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    manager.order_script = interrupt
    assert main([verb, MESH]) == Exit.INTERRUPTED
    assert capsys.readouterr().err == f"ravectl: no longer waiting: mesh {MESH} (A film) is being {words}\n"
    assert [each for each in manager.asked if isinstance(each, tuple)] == [(MEMBERS[verb], MESH)]


async def interrupt_before_the_answer(_: FakeManagerObject, __: str) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("start", "interrupted"),
        ("stop", "interrupted"),
        ("restart", f"no longer waiting: mesh {MESH} (A film) is being restarted, if that has begun"),
    ],
)
def test_ctrl_c_before_the_answer(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], verb: str, said: str
) -> None:
    manager.order_script = interrupt_before_the_answer
    assert main([verb, MESH]) == Exit.INTERRUPTED
    assert capsys.readouterr().err == f"ravectl: {said}\n"


# Without waiting


@pytest.mark.parametrize(
    ("verb", "state", "words"),
    [
        ("start", "stopped", "is being started"),
        ("start", "disconnected", "runs already, and is disconnected"),
        ("stop", "stopping", "is being stopped, and held until it is started"),
        ("restart", "disconnected", "is being restarted"),
    ],
)
def test_no_block_returns_when_the_order_is_given(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], verb: str, state: str, words: str
) -> None:
    manager.order_script = Steps((state,))
    assert main([verb, "--no-block", MESH]) == 0
    assert capsys.readouterr().out == f"Mesh {MESH} (A film) {words}.\n"
    manager.error = RaveError(Code.BLOCKED, "the bot was kicked")
    assert main([verb, "--no-block", MESH]) == Exit.FAILED
    assert "the bot was kicked" in capsys.readouterr().err


def test_a_restart_is_answered_late_and_begun_before(manager: FakeManagerObject) -> None:
    async def take_long(manager: FakeManagerObject, mesh: str) -> None:
        manager.describe(mesh, "stopping")
        await asyncio.sleep(20)

    manager.order_script = take_long
    begun = time.monotonic()
    assert main(["restart", "--no-block", MESH]) == 0
    assert time.monotonic() - begun < 10
