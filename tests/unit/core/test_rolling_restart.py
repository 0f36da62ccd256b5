from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from ravesvc.blocklist.model import Block, Reason
from ravesvc.config.worker_settings import Edition
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.rolling_restart import RollingRestart
from ravesvc.core.run_state import RunPhase, RunState
from ravesvc.errors import Code, RaveError
from tests.unit.conftest import until

Run = Callable[[Coroutine[Any, Any, Any]], Any]

NEW, OLDER, OTHER_SETTINGS = Edition("2", "aa"), Edition("1", "aa"), Edition("2", "bb")
UP = RunState(phase=RunPhase.RUNNING, process=7)
STARTING = RunState(phase=RunPhase.STARTING, process=8)
ABSENT = RunState()


class FakeReconciler:
    """The fleet as a roll sees it: `restart_mesh` gives a mesh another process, which is not connected yet.

    Attributes:
        restarted: the meshes that were, in order.
        gate: a restart waits for it; set at first.
        failure: what the next restart fails with.
    """

    def __init__(self) -> None:
        self.records: dict[str, MeshState] = {}
        self.restarted: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def restart_mesh(self, mesh: str) -> None:
        self.restarted.append(mesh)
        await self.gate.wait()
        if self.failure:
            raise self.failure
        self.records[mesh].worker = WorkerState()


class Scene:
    """Outdated meshes, and what a roll says."""

    def __init__(self, *meshes: str, patience: float = 60.0) -> None:
        self.reconciler = FakeReconciler()
        self.progress: list[tuple[int, int, str]] = []
        self.ended: list[RaveError | None] = []
        self.roll = RollingRestart(
            self.reconciler,  # type: ignore[arg-type]
            NEW,
            reconnect_timeout_s=patience,
        )
        self.roll.progress.connect(lambda at: self.progress.append((at.done, at.total, at.mesh)))
        self.roll.ended.connect(self.ended.append)
        for mesh in meshes:
            self.add(mesh)

    def add(self, mesh: str, *, connected: bool = True, edition: Edition | None = OLDER) -> MeshState:
        record = self.reconciler.records[mesh] = MeshState(mesh, run=UP)
        if connected:
            record.worker.connect(1000.0)
        record.worker.edition = edition
        return record

    def connects(self, mesh: str) -> None:
        """The new process of a mesh is in it."""
        record = self.reconciler.records[mesh]
        record.worker.connect(1000.0)
        record.worker.edition = NEW
        self.roll.mesh_changed(record)

    async def replaces(self, *meshes: str) -> None:
        """These have been restarted so far, and the last one is being waited for."""
        await until(lambda: self.reconciler.restarted == list(meshes) and self.roll._current == meshes[-1])

    async def waits_for(self, mesh: str) -> None:
        await until(lambda: self.roll._current == mesh)

    async def ends(self) -> RaveError | None:
        await until(lambda: self.ended)
        (error,) = self.ended
        return error


@contextlib.asynccontextmanager
async def scene_of(*meshes: str, patience: float = 60.0) -> AsyncIterator[Scene]:
    scene = Scene(*meshes, patience=patience)
    try:
        yield scene
    finally:
        await scene.roll.close()


async def a_few_turns() -> None:
    """Whatever could happen now has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


# Who is outdated.


@pytest.mark.parametrize(
    ("run_state", "edition", "outdated"),
    [
        (UP, OLDER, True),
        (UP, OTHER_SETTINGS, True),
        (UP, Edition("1", ""), True),
        (STARTING, OLDER, True),
        (UP, NEW, False),
        (UP, Edition("2", "aa"), False),
        # It has not told yet.
        (UP, None, False),
        # What is stopped, or about to, is up to date when it starts.
        (ABSENT, OLDER, False),
        (RunState(phase=RunPhase.STOPPING), OLDER, False),
        (RunState(phase=RunPhase.ENDED), OLDER, False),
    ],
)
async def test_who_runs_another_program_or_other_settings_is_outdated(
    run_state: RunState, edition: Edition | None, outdated: bool
) -> None:
    async with scene_of() as scene:
        record = scene.add("a", edition=edition)
        record.run = run_state
        assert scene.roll.is_outdated(record) is outdated
        assert scene.roll.outdated() == (["a"] if outdated else [])


async def test_those_that_are_connected_come_first_and_else_the_order_is_that_of_the_fleet() -> None:
    async with scene_of() as scene:
        for mesh, connected in ("a", False), ("c", True), ("b", True), ("e", False), ("d", True):
            scene.add(mesh, connected=connected)
        assert scene.roll.outdated() == ["c", "b", "d", "a", "e"]


# The way of a roll.


def test_each_is_replaced_when_the_one_before_is_connected_again(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with scene_of("a", "b", "c") as scene:
            scene.add("new", edition=NEW)
            assert scene.roll.start() == 3
            assert scene.reconciler.restarted == [], "the answer comes first"
            await scene.replaces("a")
            # Neither time nor what others do is the sign.
            scene.roll.mesh_changed(scene.reconciler.records["b"])
            scene.roll.mesh_changed(scene.reconciler.records["a"])
            await a_few_turns()
            assert scene.reconciler.restarted == ["a"]
            scene.connects("a")
            await scene.replaces("a", "b")
            scene.roll.mesh_changed(scene.reconciler.records["a"])
            await a_few_turns()
            assert scene.reconciler.restarted == ["a", "b"]
            scene.connects("b")
            await scene.replaces("a", "b", "c")
            assert scene.ended == []
            scene.connects("c")
            assert await scene.ends() is None
            assert scene.progress == [(0, 3, "a"), (1, 3, "b"), (2, 3, "c"), (3, 3, "")]
            assert scene.roll.outdated() == []

    with caplog.at_level(logging.INFO):
        run(body())
    assert caplog.messages == [
        "Replacing the process of mesh a, 1 of 3",
        "Replacing the process of mesh b, 2 of 3",
        "Replacing the process of mesh c, 3 of 3",
        "The roll is done",
    ]


async def test_one_that_is_connected_before_the_restart_returns_is_not_waited_for() -> None:
    async with scene_of("a", "b") as scene:
        restart = scene.reconciler.restart_mesh

        async def quick(mesh: str) -> None:
            await restart(mesh)
            scene.connects(mesh)

        scene.reconciler.restart_mesh = quick  # type: ignore[method-assign]
        scene.roll.start()
        assert await scene.ends() is None
        assert scene.reconciler.restarted == ["a", "b"]


async def test_a_roll_with_nothing_to_do_ends_at_once() -> None:
    async with scene_of() as scene:
        scene.add("new", edition=NEW)
        assert scene.roll.start() == 0
        assert await scene.ends() is None
        assert scene.progress == [(0, 0, "")]
        assert scene.reconciler.restarted == []


async def test_one_that_was_not_connected_before_is_not_waited_for() -> None:
    async with scene_of("a") as scene:
        scene.add("b", connected=False)
        scene.add("c", connected=False)
        scene.roll.start()
        await scene.replaces("a")
        scene.connects("a")
        assert await scene.ends() is None
        assert scene.reconciler.restarted == ["a", "b", "c"]
        assert not scene.reconciler.records["b"].worker.connected


@pytest.mark.parametrize("what", ["gone", "up to date", "stopped"])
async def test_a_mesh_that_needs_it_no_more_when_its_turn_comes_is_skipped(what: str) -> None:
    async with scene_of("a", "b", "c") as scene:
        assert scene.roll.start() == 3
        await scene.replaces("a")
        if what == "gone":
            del scene.reconciler.records["b"]
        elif what == "up to date":
            scene.reconciler.records["b"].worker.edition = NEW
        else:
            scene.reconciler.records["b"].run = ABSENT
        scene.connects("a")
        await scene.replaces("a", "c")
        scene.connects("c")
        assert await scene.ends() is None
        assert scene.progress == [(0, 3, "a"), (2, 3, "c"), (3, 3, "")]


async def test_what_becomes_outdated_meanwhile_is_left_for_the_next_roll() -> None:
    async with scene_of("a") as scene:
        scene.roll.start()
        await scene.replaces("a")
        scene.add("b")
        scene.connects("a")
        assert await scene.ends() is None
        assert scene.reconciler.restarted == ["a"]
        scene.ended.clear()
        assert scene.roll.start() == 1
        await scene.replaces("a", "b")
        scene.connects("b")
        assert await scene.ends() is None


# What stops it.


@pytest.mark.parametrize(
    ("run_state", "block", "words"),
    [
        (RunState(phase=RunPhase.ENDED), None, "it is failed"),
        (ABSENT, None, "it is stopped"),
        (ABSENT, Block(mesh="a", reason=Reason.KICKED, since=0, until=None), "the bot was kicked"),
    ],
)
def test_it_stops_at_the_first_that_is_lost(
    run: Run, caplog: pytest.LogCaptureFixture, run_state: RunState, block: Block | None, words: str
) -> None:
    async def body() -> None:
        async with scene_of("a", "b") as scene:
            scene.roll.start()
            await scene.replaces("a")
            record = scene.reconciler.records["a"]
            record.run, record.block = run_state, block
            scene.roll.mesh_changed(record)
            error = await scene.ends()
            assert error
            assert error.code is Code.NOT_RUNNING
            assert error.message == f"mesh a is not connected again: {words}"
            assert error.hint == "ravectl explain a, then roll again"
            assert error.attributes == {"mesh": "a"}
            assert scene.reconciler.restarted == ["a"]
            assert scene.progress == [(0, 2, "a")]

    run(body())
    assert caplog.messages == [
        f"The roll has stopped: mesh a is not connected again: {words} (ravectl explain a, then roll again)"
    ]


@pytest.mark.parametrize("run_state", [STARTING, RunState(phase=RunPhase.STOPPING), UP])
async def test_on_its_way_back_a_mesh_may_look_like_anything(run_state: RunState) -> None:
    async with scene_of("a", "b") as scene:
        scene.roll.start()
        await scene.replaces("a")
        record = scene.reconciler.records["a"]
        record.run = run_state
        record.worker.fail("no route to host")
        scene.roll.mesh_changed(record)
        await a_few_turns()
        assert scene.ended == []
        record.run = UP
        scene.connects("a")
        await scene.replaces("a", "b")


async def test_its_patience_has_an_end() -> None:

    async with scene_of("a", "b", patience=0.02) as scene:
        scene.roll.start()
        await scene.replaces("a")
        scene.reconciler.records["a"].worker.fail("no route to host")
        error = await scene.ends()
        assert error
        assert error.code is Code.NOT_RUNNING
        assert error.message == "mesh a is not connected again: no route to host"
        assert scene.reconciler.restarted == ["a"]


async def test_a_connection_that_nobody_has_told_of_counts_in_the_end() -> None:
    async with scene_of("a", patience=0.02) as scene:
        scene.roll.start()
        await scene.replaces("a")
        scene.reconciler.records["a"].worker.connect(1000.0)
        assert await scene.ends() is None


@pytest.mark.parametrize("code", [Code.NOT_RUNNING, Code.BUSY])
async def test_it_stops_at_a_mesh_that_can_not_be_restarted(code: Code) -> None:
    async with scene_of("a", "b") as scene:
        scene.reconciler.failure = RaveError(code, "mesh a is being started or stopped")
        scene.roll.start()
        assert await scene.ends() is scene.reconciler.failure
        assert scene.reconciler.restarted == ["a"]


async def test_it_stops_at_a_mesh_whose_old_process_is_still_there_after_the_restart() -> None:
    async with scene_of("a", "b") as scene:

        async def in_vain(mesh: str) -> None:
            """systemd refuses; the mesh goes on with the process that it has."""
            scene.reconciler.records[mesh].worker.fail("the system refuses")

        scene.reconciler.restart_mesh = in_vain  # type: ignore[method-assign]
        scene.roll.start()
        error = await scene.ends()
        assert error
        assert error.code is Code.NOT_RUNNING
        assert scene.progress == [(0, 2, "a")]


async def test_a_mesh_that_is_forgotten_while_it_restarts_is_no_fault_of_ours() -> None:
    async with scene_of("a", "b") as scene:
        restart = scene.reconciler.restart_mesh

        async def last(mesh: str) -> None:
            await restart(mesh)
            del scene.reconciler.records[mesh]

        scene.reconciler.restart_mesh = last  # type: ignore[method-assign]
        scene.roll.start()
        error = await scene.ends()
        assert error is None or error.code is Code.NOT_RUNNING


def test_a_fault_of_ours_ends_it_as_internal_and_is_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with scene_of("a", "b") as scene:
            scene.reconciler.failure = ZeroDivisionError("a secret of ours")
            scene.roll.start()
            error = await scene.ends()
            assert error
            assert error.code is Code.INTERNAL
            assert str(error) == "the roll failed by a fault of the service (the journal says more)"
            # Another one may be begun.
            scene.reconciler.failure = None
            scene.ended.clear()
            assert scene.roll.start() == 2
            await scene.replaces("a", "a")

    run(body())
    fault = next(record for record in caplog.records if record.getMessage() == "A roll has failed")
    assert fault.levelno == logging.ERROR
    assert fault.exc_info
    assert isinstance(fault.exc_info[1], ZeroDivisionError)


async def test_there_is_one_at_a_time() -> None:
    async with scene_of("a", "b") as scene:
        scene.roll.start()
        with pytest.raises(RaveError) as e:
            scene.roll.start()
        assert e.value.code is Code.BUSY
        await scene.replaces("a")
        with pytest.raises(RaveError) as e:
            scene.roll.start()
        assert str(e.value) == "a roll is under way (wait for its end, or cancel it)"
        assert scene.ended == []
        for mesh in "ab":
            await scene.waits_for(mesh)
            scene.connects(mesh)
        assert await scene.ends() is None
        assert scene.roll.start() == 0


# Its end before its time.


async def test_a_roll_that_is_cancelled_while_a_mesh_comes_back_replaces_no_more() -> None:
    async with scene_of("a", "b") as scene:
        scene.roll.start()
        await scene.replaces("a")
        scene.roll.cancel()
        error = await scene.ends()
        assert error
        assert (error.code, error.message) == (Code.CANCELLED, "the roll was cancelled")
        scene.connects("a")
        await a_few_turns()
        assert scene.reconciler.restarted == ["a"]
        # Another one goes on where this one stopped.
        scene.ended.clear()
        assert scene.roll.start() == 1
        await scene.replaces("a", "b")


@pytest.mark.parametrize("begun", [False, True])
async def test_a_roll_may_be_cancelled_at_any_time(begun: bool) -> None:
    async with scene_of("a", "b") as scene:
        scene.reconciler.gate.clear()
        scene.roll.start()
        if begun:
            await until(lambda: scene.reconciler.restarted)
        scene.roll.cancel()
        error = await scene.ends()
        assert error
        assert error.code is Code.CANCELLED
        assert scene.reconciler.restarted == (["a"] if begun else [])


async def test_there_need_be_none_to_cancel() -> None:
    async with scene_of() as scene:
        scene.roll.cancel()
        await scene.roll.close()
        assert scene.ended == []
        scene.roll.start()
        await scene.ends()
        scene.roll.cancel()
        await scene.roll.close()
        assert scene.ended == [None], "it is over already"


async def test_closing_waits_for_the_end() -> None:
    scene = Scene("a", "b")
    scene.roll.start()
    await scene.replaces("a")
    await scene.roll.close()
    assert [error.code for error in scene.ended if error] == [Code.CANCELLED]
    assert scene.roll.start() == 1
    await scene.roll.close()
