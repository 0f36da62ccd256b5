from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ravesvc import names
from ravesvc.api.models import Mesh
from ravesvc.blocklist import file as blockfile
from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.blocklist.file import BlockFile
from ravesvc.blocklist.model import Block, BlocklistChange, BlocklistModel, Reason, What
from ravesvc.bus import Bus
from ravesvc.common.log_fields import LogEvent
from ravesvc.common.steady_clock import Clock
from ravesvc.config.advice import FOR_SERVICE
from ravesvc.config.worker_settings import Edition
from ravesvc.core import health as health_module
from ravesvc.core import reconciler as fleet_module
from ravesvc.core.inventory import Inventory
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.plan import ALONE, Action
from ravesvc.core.rave_pauses import Pauses
from ravesvc.core.reconciler import Reconciler
from ravesvc.core.start_policy import StartPolicy
from ravesvc.errors import Code, RaveError
from ravesvc.names import ExitStatus
from ravesvc.orchestrator import systemd_runner as systemd_runner_module
from ravesvc.orchestrator import worker_client as workers_module
from ravesvc.orchestrator.exit_notes import ExitNotes
from ravesvc.orchestrator.systemd_runner import SystemdRunner
from ravesvc.orchestrator.worker_log import log_news
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until
from tests.unit.fake_systemd import (
    DEAD,
    MESH,
    OTHER,
    RUNNING,
    FakeSystemd,
    FakeUnits,
    ended,
    new_mesh,
    settle,
    systemd_on,
)
from tests.unit.mesh.test_worker_object import SIGNALS, FakeWorker

Run = Callable[[Any], Any]


def listed(*meshes: str) -> list[Mesh]:
    # Each on a server of its own.
    return [Mesh(mesh, f"{mesh[:8]}:1", "A film", True, (1,)) for mesh in meshes]


# Ourselves, as a user.
OWN = 900000001


class Site:
    """A fleet with its surroundings. `shown` is every state and reason that was told of a mesh."""

    def __init__(self, bus: Bus, systemd: FakeSystemd, path: Path, limit: int | None = None) -> None:
        self.bus = bus
        self.systemd = systemd
        self.path = path
        self.now = 1000.0
        self.units = FakeUnits(systemd)
        self.inventory = Inventory()
        self.clock = Clock(wall=lambda: self.now, boottime=lambda: self.now, boot="b")
        self.changes: list[BlocklistChange] = []
        self.blocklist = Blocklist(
            path, 60.0, self.clock, announce=self._announced, changed=lambda: None, retry_s=3600
        )
        self.shown: list[tuple[str, str, str]] = []
        self.left: list[str] = []
        self.rave_answers = True
        self.watchers: list[Callable[[MeshState], None]] = []
        self.verified: dict[str, str] = {}
        self.children: dict[str, FakeWorker] = {}
        self.starts = StartPolicy("api.test", 0)
        self.runner = SystemdRunner(
            bus,
            self.units,  # type: ignore[arg-type]
            ExitNotes(path.with_name("ended")),
            stop_limit_s=15.0,
        )
        self.reconciler = Reconciler(
            runner=self.runner,
            inventory=self.inventory,
            blocklist=self.blocklist,
            limit=limit,
            interval=30.0,
            changed=self._changed,
            leave=self._leave,
            answers=self._answers,
            own_user=lambda: OWN,
            starts=self.starts,
            advice=FOR_SERVICE,
        )
        self.reconciler.reports.news.connect(log_news)
        self.runner.workers._unit_of = self._unit_of  # type: ignore[method-assign]

    async def _unit_of(self, sender: str) -> str:
        return self.verified[sender]

    def _changed(self, record: MeshState) -> None:
        if record.mesh in self.reconciler.records:
            self.shown.append((record.mesh, record.state, record.reason))
        for watcher in self.watchers:
            watcher(record)

    def _announced(self, change: BlocklistChange) -> None:
        self.changes.append(change)
        self.reconciler.block_changed(change)

    async def _leave(self, mesh: str) -> None:
        self.left.append(mesh)

    async def _answers(self) -> bool:
        await asyncio.sleep(0)
        return self.rave_answers

    def discover(self, *meshes: str) -> None:
        self.inventory.observe(listed(*meshes))
        self.reconciler.reconcile()

    async def begin(self, *meshes: str) -> None:
        """The fleet starts, and discovery has found these meshes."""
        await self.reconciler.start()
        self.discover(*meshes)
        await self.idle()

    async def state(self, mesh: str, state: str) -> None:
        await until(lambda: mesh in self.reconciler.records and self.reconciler.records[mesh].state == state)

    async def idle(self) -> None:
        """Everything has been said, and nothing is being done."""
        for _ in range(2):
            await settle(self.systemd.bus, self.bus)
            await until(lambda: not self.reconciler._tasks and not self.reconciler.health._asking)
            await until(lambda: not self.blocklist._unannounced and not self.blocklist._io.locked())
            await settle(self.systemd.bus, self.bus)
        assert not self.reconciler._tasks

    def saved(self) -> BlocklistModel:
        return (
            blockfile.from_json(self.path.read_text(), "it", self.clock) if self.path.exists() else BlocklistModel()
        )

    def on_disk(self) -> dict[str, Block]:
        return {block.mesh: block for block in self.saved()}

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.blocklist._expire()

    async def child(self, bus: Bus, mesh: str) -> FakeWorker:
        """The child of a mesh on the bus."""
        self.verified[bus.unique_name] = names.mesh_unit(mesh)
        child = self.children[mesh] = FakeWorker()
        bus.export(names.worker_path(mesh), child)
        await bus.request_name(names.worker_name(mesh))
        return child


@contextlib.asynccontextmanager
async def site_on(address: str, directory: Path, limit: int | None = None) -> AsyncIterator[Site]:
    async with systemd_on(address) as systemd, connected(address) as (bus,):
        site = Site(bus, systemd, directory / "blocklist.json", limit)
        await site.blocklist.start()
        try:
            yield site
        finally:
            await site.reconciler.close()
            await site.blocklist.close()


def no_space(_: BlockFile, blocklist: BlocklistModel) -> None:
    """In the place of `BlockFile.save`."""
    raise RaveError(Code.BAD_FILE, "it can't be written: No space left on device")


# Starting and stopping.


async def test_what_is_listed_is_started_and_what_vanishes_is_stopped(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.discover(MESH, OTHER)
        assert {state for _, state, _ in site.shown} == {"stopped"}
        await site.idle()
        assert sorted(site.systemd.verbs) == sorted([("start", MESH), ("start", OTHER)])
        assert {record.state for record in site.reconciler.records.values()} == {"disconnected"}
        assert site.reconciler.records[MESH].run.process == 100
        for _ in range(3):
            site.discover(OTHER)
        await site.idle()
        assert site.systemd.verbs[2:] == [("stop", MESH)]
        assert site.reconciler.records[MESH].state == "stopped"
        site.systemd.unload(MESH)
        await site.idle()
        site.watchers.append(lambda record: gone.append(record.mesh) if record.mesh == MESH else None)
        gone: list[str] = []
        site.reconciler.reconcile()
        assert gone == [MESH]
        assert MESH not in site.reconciler.records
        assert site.reconciler.records.keys() == {OTHER}


async def test_it_is_known_which_bots_have_not_heard_whom_to_forget(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_BROADCAST_TIMEOUT_S", 0.2)

    async with site_on(bus_address, tmp_path) as site, connected(bus_address, 2) as (one, two):
        assert site.reconciler.in_use() is None
        await site.begin(MESH, OTHER)
        first, second = await site.child(one, MESH), await site.child(two, OTHER)
        assert await site.reconciler.forget_user(5) == {MESH, OTHER}, "neither is known yet"
        for child in (first, second):
            child.emit("Ready")
        await site.idle()
        assert await site.reconciler.forget_user(6) == set()
        second.gate.clear()
        assert await site.reconciler.forget_user(7) == {OTHER}
        assert (first.forgotten, second.forgotten) == ([6, 7], [6, 7])
        second.gate.set()
        for _ in range(3):
            site.discover(OTHER)
        assert site.reconciler.in_use() == {MESH, OTHER}, "what is about to stop is"
        await site.idle()
        site.systemd.unload(MESH)
        await site.idle()
        assert site.reconciler.in_use() == {OTHER}


async def test_nothing_is_done_twice_at_the_same_time(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.systemd.held = True
        for _ in range(3):
            site.discover(MESH)
        await site.state(MESH, "starting")
        site.discover(MESH)
        site.systemd.finish(MESH)
        await site.idle()
        await site.reconciler.stop_mesh(MESH, "alice")
        await site.reconciler.stop_mesh(MESH, "alice")
        await site.state(MESH, "stopping")
        await site.reconciler.stop_mesh(MESH, "alice")
        site.systemd.finish(MESH)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("stop", MESH)]
        assert site.reconciler.records[MESH].state == "held"


async def test_so_many_start_at_once(bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2 * (os.cpu_count() or 1) == fleet_module._STARTS_AT_ONCE
    monkeypatch.setattr(fleet_module, "_STARTS_AT_ONCE", 3)

    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.systemd.held = True
        meshes = [new_mesh() for _ in range(5)]
        site.discover(*meshes)
        await until(lambda: len(site.systemd.verbs) == 3)
        await settle(site.systemd.bus, site.bus)
        started = [mesh for _, mesh in site.systemd.verbs]
        assert started == meshes[:3], "the oldest first"
        site.systemd.finish(meshes[1])
        await until(lambda: len(site.systemd.verbs) == 4)
        await settle(site.systemd.bus, site.bus)
        assert len(site.systemd.verbs) == 4
        site.systemd.held = False
        for mesh in [mesh for mesh, _ in site.systemd._jobs.values()]:
            site.systemd.finish(mesh)
        await site.idle()
        assert len(site.systemd.verbs) == 5


async def test_no_more_run_than_the_limit(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path, limit=1) as site:
        await site.begin(MESH, OTHER)
        assert site.systemd.verbs == [("start", MESH)]
        assert [decision.action.value for decision in site.reconciler.plan()] == ["keep", "skip"]


async def test_a_verb_that_fails_is_told_and_tried_again_next_time(
    bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.units.errors = [RaveError(Code.ACCESS_DENIED, "polkit says no", hint="ask it")]
        site.discover(MESH)
        await site.idle()
        assert site.reconciler.records[MESH].worker.last_error == "polkit says no (ask it)"
        assert site.shown[-1] == (MESH, "stopped", "polkit says no (ask it)")
        assert f"Mesh {MESH}: polkit says no (ask it)" in caplog.text
        assert "Traceback" not in caplog.text
        site.discover(MESH)
        await site.idle()
        assert site.reconciler.records[MESH].state == "disconnected"


async def test_a_job_that_does_not_end_is_told(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd_runner_module, "_JOB_TIMEOUT_S", 0.01)

    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.systemd.held = True
        site.discover(MESH)
        await until(lambda: "has not finished" in site.shown[-1][2])
        assert site.reconciler.records[MESH].state == "starting"


async def test_a_unit_that_is_dead_after_its_start_is_told(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.systemd.outcomes[MESH] = DEAD
        site.discover(MESH)
        await site.idle()
        unit = names.mesh_unit(MESH)
        why = f"the process of mesh {MESH} did not start (journalctl -u {unit})"
        assert site.shown[-1] == (MESH, "stopped", why)
        assert site.systemd.verbs == [("start", MESH)], "not again and again"


async def test_closing_ends_what_is_under_way_and_leaves_the_children_alone(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.systemd.held = True
        site.discover(MESH)
        await site.state(MESH, "starting")
        site.discover(MESH, OTHER)  # of which nothing has begun yet
        await site.reconciler.close()
        assert site.systemd.verbs == [("start", MESH)]
        assert not site.reconciler._tasks


# An operator's word.


async def test_stop_holds_a_mesh_until_start(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        await site.reconciler.stop_mesh(MESH, "alice")
        assert (site.on_disk()[MESH].reason, site.on_disk()[MESH].actor) == (Reason.HELD, "alice")
        await site.idle()
        assert site.shown[-1] == (MESH, "held", "it was stopped by an operator")
        site.discover(MESH)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("stop", MESH)]
        await site.reconciler.start_mesh(MESH, "alice")
        assert site.on_disk() == {}
        await site.idle()
        assert site.systemd.verbs[2:] == [("start", MESH)]
        assert site.reconciler.records[MESH].state == "disconnected"
        await site.reconciler.start_mesh(MESH, "alice")  # without effect
        await site.idle()
        assert len(site.systemd.verbs) == 3


async def test_a_mesh_wanted_again_while_it_stops_is_started_after_that(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.held = True
        await site.reconciler.stop_mesh(MESH, "alice")
        await site.state(MESH, "stopping")
        await site.reconciler.start_mesh(MESH, "alice")
        site.systemd.held = False
        site.systemd.finish(MESH)
        await site.idle()
        assert [verb for verb, _ in site.systemd.verbs] == ["start", "stop", "start"]
        assert site.reconciler.records[MESH].state == "disconnected"


async def test_a_mesh_stopped_while_it_starts_is_stopped_after_that(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.systemd.held = True
        site.discover(MESH)
        await site.state(MESH, "starting")
        await site.reconciler.stop_mesh(MESH, "alice")
        site.systemd.held = False
        site.systemd.finish(MESH)
        await site.idle()
        assert [verb for verb, _ in site.systemd.verbs] == ["start", "stop"]
        assert site.reconciler.records[MESH].state == "held"


async def test_start_and_stop_refuse_what_they_cannot_do(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        for verb in (site.reconciler.start_mesh, site.reconciler.stop_mesh):
            with pytest.raises(RaveError) as e:
                await verb(MESH, "alice")
            assert e.value.code is Code.NO_SUCH_MESH
        site.blocklist.add(MESH, Reason.KICKED)
        site.discover(MESH)
        with pytest.raises(RaveError) as e:
            await site.reconciler.start_mesh(MESH, "alice")
        assert e.value.code is Code.BLOCKED
        await site.reconciler.stop_mesh(MESH, "alice")
        assert site.on_disk()[MESH].reason is Reason.KICKED, "a kick stays a kick"
        await site.idle()
        assert site.systemd.verbs == []


async def test_a_start_beyond_the_limit_is_refused_with_the_reason(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path, limit=1) as site:
        await site.reconciler.start()
        site.discover(MESH, OTHER)
        await site.reconciler.start_mesh(MESH, "alice")  # which is being started
        await site.idle()
        with pytest.raises(RaveError, match=r"max_processes \(1\) is reached") as e:
            await site.reconciler.start_mesh(OTHER, "alice")
        assert e.value.code is Code.BLOCKED
        await site.reconciler.start_mesh(MESH, "alice")  # which runs
        await site.idle()
        assert site.systemd.verbs == [("start", MESH)]


async def test_a_word_that_cannot_be_saved_is_in_force_but_told(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        with monkeypatch.context() as broken:
            broken.setattr(BlockFile, "save", no_space)
            with pytest.raises(RaveError) as e:
                await site.reconciler.stop_mesh(MESH, "alice")
            assert e.value.code is Code.BAD_FILE
            await site.idle()
            assert site.reconciler.records[MESH].state == "held"
            assert site.systemd.verbs == [("start", MESH), ("stop", MESH)]
            with pytest.raises(RaveError) as e:
                await site.reconciler.start_mesh(MESH, "alice")
            assert e.value.code is Code.BAD_FILE
            await site.idle()
            assert site.reconciler.records[MESH].state == "disconnected"
        await site.reconciler.stop_mesh(MESH, "alice")
        assert site.on_disk()[MESH].reason is Reason.HELD
        await site.idle()


async def test_reconnect_reaches_the_child(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        with pytest.raises(RaveError) as e:
            await site.reconciler.reconnect_mesh(MESH)
        assert e.value.code is Code.NOT_RUNNING
        child = await site.child(bus, MESH)
        await site.reconciler.reconnect_mesh(MESH)
        assert child.restarts == 1


async def test_a_child_that_connects_while_it_answers_is_connected(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        child = await site.child(bus, MESH)
        child.gate.clear()
        child.emit("Ready")
        await until(lambda: child.asked == 1)

        def connect() -> None:
            child.status = {"Connected": ("b", True)}
            child.emit("Connected")
            # The answer and the signal are there when the loop goes on, as on a busy machine.
            time.sleep(0.1)

        child.gate.set()
        asyncio.get_running_loop().call_soon(connect)
        await site.idle()
        assert site.reconciler.records[MESH].state == "connected"


async def test_a_child_tells_who_is_in_its_mesh(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.child(bus, MESH)
        assert await site.reconciler.users(MESH) == ([(7, "Zoë?")], 300)
        monkeypatch.delitem(FakeWorker.methods, "ListUsers")
        with pytest.raises(RaveError, match="runs an older program"):
            await site.reconciler.users(MESH)


@pytest.mark.parametrize("answer", [[], ["x", 1], [[[1]], 1], [[["1", "x"]], 1], [[[1, 2]], 1]])
async def test_a_child_that_says_something_else_than_its_users(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: list[Any]
) -> None:
    async def call(*_: object) -> list[Any]:
        return answer

    async with site_on(bus_address, tmp_path) as site:
        monkeypatch.setattr(site.runner.workers, "call", call)
        with pytest.raises(RaveError, match="has not answered with its users") as e:
            await site.reconciler.users(MESH)
        assert e.value.code is Code.BAD_DATA


async def test_a_child_of_a_program_that_can_not_log_more(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.child(bus, MESH)
        monkeypatch.delitem(FakeWorker.methods, "SetDebug")
        with pytest.raises(RaveError, match="runs an older program") as e:
            await site.reconciler.set_debug(MESH, True)
        assert e.value.hint == "ravectl roll replaces it"
        assert MESH not in site.reconciler.records, "nothing is noted"


async def test_a_child_that_logs_more_is_shown_as_such(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        with pytest.raises(RaveError) as e:
            await site.reconciler.set_debug(MESH, True)
        assert e.value.code is Code.NOT_RUNNING
        child = await site.child(bus, MESH)
        for debug in (True, False):
            await site.reconciler.set_debug(MESH, debug)
            assert child.debug is debug
            assert site.reconciler.records[MESH].worker.debug is debug


# Adoption.


async def test_a_plan_that_was_just_applied_is_not_applied_again(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin()
        plans: list[str] = []
        monkeypatch.setattr(site.reconciler, "plan", lambda: plans.append("a plan") or ())
        site.reconciler._schedule_apply()
        site.reconciler.apply_plan()
        await asyncio.sleep(0)
        assert plans == ["a plan"]


async def test_at_the_end_no_plan_is_applied_any_more(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin()
        plans: list[str] = []
        monkeypatch.setattr(site.reconciler, "plan", lambda: plans.append("a plan") or ())
        site.reconciler._schedule_apply()
        await site.reconciler.close()
        # A block that is saved by then would have it applied.
        site.reconciler._schedule_apply()
        await asyncio.sleep(0)
        assert plans == []


async def test_running_children_are_adopted_and_left_running(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address, 2) as (bus, silent):
        site.systemd.load(MESH, **RUNNING)
        site.systemd.load(OTHER, **RUNNING)
        child = await site.child(bus, MESH)
        site.verified[silent.unique_name] = names.mesh_unit(OTHER)
        await silent.request_name(names.worker_name(OTHER))
        child.status = {"Connected": ("b", True), "LastError": ("s", "")}
        await site.reconciler.start()
        worker = site.reconciler.records[MESH].worker
        assert worker.ready
        assert worker.connected
        assert worker.since > 0
        assert site.reconciler.records[MESH].state == "connected"
        # One that does not answer keeps nobody else from being adopted.
        assert site.reconciler.records[OTHER].state == "disconnected"
        child.emit("Disconnected", "the connection broke")
        await site.state(MESH, "disconnected")
        assert site.reconciler.records[MESH].reason == "the connection broke"
        await site.idle()
        assert site.systemd.verbs == []


@pytest.mark.slow
async def test_a_child_that_is_slow_to_answer_holds_up_nothing(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health_module, "_ADOPTION_S", 1.0)  # so long as the other one may take on a busy machine

    with caplog.at_level(logging.INFO):
        async with site_on(bus_address, tmp_path) as site, connected(bus_address, 2) as (bus, quick):
            for mesh, child_bus in ((MESH, bus), (OTHER, quick)):
                site.systemd.load(mesh, **RUNNING)
                child = await site.child(child_bus, mesh)
                child.status = {"Connected": ("b", True), "LastError": ("s", "")}
            child = site.children[MESH]
            child.gate.clear()
            async with asyncio.timeout(30):
                await site.reconciler.start()
            assert "1 of 2 running meshes answered" in caplog.text
            assert site.reconciler.records[MESH].state == "disconnected"
            assert site.reconciler.records[OTHER].state == "connected"
            await until(lambda: child.asked)
            for _ in range(3):
                site.discover(MESH, OTHER)
            await settle(site.bus, bus)
            assert child.asked == 1, "it is being waited for"
            child.gate.set()
            await until(lambda: site.shown[-1] == (MESH, "connected", ""))
            site.discover(MESH, OTHER)
            await site.idle()
            assert child.asked == 1
            assert site.systemd.verbs == []


async def test_a_child_that_did_not_answer_is_asked_again(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_CALL_TIMEOUT_S", 0.05)

    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        site.systemd.load(MESH, **RUNNING)
        child = await site.child(bus, MESH)
        child.status = {"Connected": ("b", True), "LastError": ("s", "a small\ntrouble" + "!" * 300)}
        child.gate.clear()
        await site.reconciler.start()
        assert not site.reconciler.records[MESH].worker.ready
        assert site.reconciler.records[MESH].state == "disconnected"
        child.gate.set()
        monkeypatch.setattr(workers_module, "_CALL_TIMEOUT_S", 10.0)
        site.discover(MESH)
        await until(lambda: site.shown[-1] == (MESH, "connected", ""))
        last_error = site.reconciler.records[MESH].worker.last_error
        assert last_error == ("a small?trouble" + "!" * 300)[:300]
        assert child.asked == 2


async def test_before_the_first_good_round_what_runs_goes_on_but_a_hold_holds(
    bus_address: str, tmp_path: Path
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        site.systemd.load(MESH, **RUNNING)
        site.systemd.load(OTHER, **RUNNING)
        await site.reconciler.start()
        await site.reconciler.stop_mesh(OTHER, "alice")
        await site.idle()
        assert site.systemd.verbs == [("stop", OTHER)]


# What is learnt.


async def test_a_kick_is_on_disk_before_anybody_sees_it(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        child = await site.child(bus, MESH)
        child.emit("Connected")
        await site.state(MESH, "connected")
        seen: list[bool] = []
        site.watchers.append(lambda record: seen.append(MESH in site.on_disk()) if record.block else None)
        child.emit("Kicked")
        await site.state(MESH, "disconnected")
        await until(lambda: site.changes)
        # By the signal alone, with the process still there.
        assert site.on_disk()[MESH].reason is Reason.KICKED
        assert site.on_disk()[MESH].until is None
        assert site.shown[-1] == (MESH, "disconnected", "the bot was kicked")
        assert all(MESH in site.on_disk() or "kicked" not in reason for _, _, reason in site.shown)
        assert seen
        assert all(seen)
        order: list[str] = []
        site.systemd.reset_failed = lambda mesh: order.append(str(site.on_disk()))  # type: ignore[method-assign]
        site.systemd.change(MESH, **ended(ExitStatus.KICKED))
        await until(lambda: site.left)
        assert len(order) == 1
        assert site.left == [MESH]
        await site.idle()
        assert site.reconciler.records[MESH].state == "blocked"


async def test_a_kick_is_learnt_from_the_exit_status_alone_saved_then_reset_then_left(
    bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        site.systemd.load(MESH, **ended(ExitStatus.KICKED))
        order: list[tuple[str, bool]] = []
        real = site.systemd.reset_failed

        def reset(mesh: str) -> None:
            order.append(("reset", MESH in site.on_disk()))
            real(mesh)

        site.systemd.reset_failed = reset  # type: ignore[method-assign]
        site.watchers.append(lambda record: order.append(("shown", MESH in site.on_disk())) if record.block else None)
        await site.reconciler.start()
        await until(lambda: site.left)
        await site.idle()
        assert order[0] == ("shown", True)
        assert [each for each in order if each[0] == "reset"] == [("reset", True)], "once"
        assert site.left == [MESH]
        assert [(change.what, change.block.reason) for change in site.changes] == [(What.BLOCKED, Reason.KICKED)]
        site.discover(MESH)
        await site.idle()
        assert site.systemd.verbs == [("reset-failed", MESH)], "it stays out"


async def test_a_kick_that_cannot_be_saved_leaves_the_failed_unit(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saves = []

    def refuse(file: BlockFile, blocklist: BlocklistModel) -> None:
        saves.append(blocklist)
        no_space(file, blocklist)

    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        with monkeypatch.context() as broken:
            broken.setattr(BlockFile, "save", refuse)
            site.systemd.change(MESH, **ended(ExitStatus.KICKED))
            await site.state(MESH, "blocked")
            await site.idle()
            assert len(saves) == 1, "not again and again"
            assert ("reset-failed", MESH) not in site.systemd.verbs
            assert site.left == []
            site.discover(MESH)
            await site.idle()
            assert len(saves) == 2
            assert [verb for verb, _ in site.systemd.verbs] == ["start"], "it is not joined either"
        site.discover(MESH)
        await site.idle()
        assert site.on_disk()[MESH].reason is Reason.KICKED
        assert site.systemd.verbs[1:] == [("reset-failed", MESH)]
        assert site.left == [MESH]
    assert "No space left on device" in caplog.text


async def test_a_kick_that_is_told_again_and_again_is_saved_once(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[BlocklistModel] = []
    real = BlockFile.save

    def save(file: BlockFile, blocklist: BlocklistModel) -> None:
        saves.append(blocklist)
        real(file, blocklist)

    monkeypatch.setattr(BlockFile, "save", save)

    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        child = await site.child(bus, MESH)
        await site.blocklist.add(MESH, Reason.REJECTED)  # a lesser block does not stand in for a kick
        saves.clear()
        for _ in range(5):
            child.emit("Kicked")
        await settle(bus, site.bus)
        await site.idle()
        assert site.on_disk()[MESH].reason is Reason.KICKED
        assert len(saves) == 1


async def test_a_reset_that_fails_is_told_and_waits_for_the_next_round(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        site.units.errors = [RaveError(Code.UNIT, "systemd is busy")] * 2
        site.systemd.load(MESH, **ended(ExitStatus.REJECTED))
        await site.reconciler.start()
        await site.idle()
        assert site.reconciler.records[MESH].worker.last_error == "systemd is busy"
        assert len(site.units.errors) == 1
        assert site.on_disk()[MESH].reason is Reason.REJECTED
        site.discover(MESH)
        await site.idle()
        site.discover(MESH)
        await site.idle()
        assert site.systemd.verbs == [("reset-failed", MESH)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (ended(ExitStatus.UNREACHABLE), Reason.CONNECTION_FAILURES),
        (ended(ExitStatus.REJECTED), Reason.REJECTED),
        ({**ended(ExitStatus.CRASHED), "NRestarts": 6}, Reason.CRASHES),
        ({**ended(9, code=2), "NRestarts": 6}, Reason.CRASHES),
    ],
)
async def test_other_ends_block_for_a_while(
    bus_address: str, tmp_path: Path, how: dict[str, Any], reason: Reason
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.change(MESH, **how)
        await site.state(MESH, "blocked")
        await site.idle()
        block = site.on_disk()[MESH]
        assert (block.reason, block.since, block.until) == (reason, 1_000_000, 1_060_000)
        assert site.left == []
        site.discover(MESH)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("reset-failed", MESH)]
        site.wait(61)
        site.discover(MESH)
        await site.idle()
        assert site.systemd.verbs[2:] == [("start", MESH)]
        assert site.on_disk() == {}


async def test_a_mesh_that_was_left_is_joined_again_when_the_bot_is_invited_again(
    bus_address: str, tmp_path: Path
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH, OTHER)
        site.systemd.change(MESH, **ended(ExitStatus.LEFT))
        await site.state(MESH, "blocked")
        await site.idle()
        assert site.on_disk()[MESH].until == 1_060_000
        record = site.reconciler.records[MESH]
        assert record.listed is None, "an old list is not today's"
        site.discover(MESH, OTHER)
        assert record.listed is None, "this list was late"
        site.discover(OTHER)
        site.discover(MESH, OTHER)
        await site.idle()
        assert site.systemd.verbs[-1] == ("start", MESH)
        assert site.on_disk() == {}


@pytest.mark.parametrize("lag", [0, 1, 2])
async def test_a_kick_that_is_lifted_is_no_invitation(bus_address: str, tmp_path: Path, lag: int) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH, OTHER)
        site.systemd.change(MESH, **ended(ExitStatus.KICKED))
        await site.state(MESH, "blocked")
        await site.idle()
        site.blocklist.remove(MESH, "root")
        before = list(site.systemd.verbs)
        for _ in range(lag):
            site.discover(MESH, OTHER)
        site.discover(OTHER)
        await site.idle()
        assert site.systemd.verbs == before
        with pytest.raises(RaveError, match="does not list"):
            await site.reconciler.start_mesh(MESH, "root")
        site.discover(MESH, OTHER)
        await site.idle()
        assert site.systemd.verbs == [*before, ("start", MESH)]


def with_users(mesh: str, *users: int) -> list[Mesh]:
    return [Mesh(mesh, None, "", True, tuple(users))]


async def test_a_bot_that_was_alone_comes_back_when_there_is_company(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.change(MESH, **ended(ExitStatus.ALONE))
        await site.state(MESH, "stopped")
        await site.idle()
        verbs = [("start", MESH), ("reset-failed", MESH)]
        assert site.systemd.verbs == verbs
        assert site.on_disk() == {}, "it is no block"
        assert json.loads(site.path.read_text())["meshes"][MESH]["alone"] is True
        for users in ((), (OWN,)):
            site.inventory.observe(with_users(MESH, *users))
            site.reconciler.reconcile()
            await site.idle()
            assert site.systemd.verbs == verbs
        record = site.reconciler.records[MESH]
        assert (record.state, record.reason) == ("stopped", ALONE)
        site.inventory.observe(with_users(MESH, OWN, 42))
        site.reconciler.reconcile()
        await site.idle()
        assert site.systemd.verbs == [*verbs, ("start", MESH)]
        assert site.blocklist.alone == set()


@pytest.mark.parametrize("how", ["ravectl", "systemctl"])
async def test_whoever_starts_a_bot_wants_it_there(bus_address: str, tmp_path: Path, how: str) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.blocklist.set_left_alone(MESH)
        await site.reconciler.start()
        site.inventory.observe(with_users(MESH, OWN))
        site.reconciler.reconcile()
        await site.idle()
        assert site.systemd.verbs == []
        if how == "ravectl":
            await site.reconciler.start_mesh(MESH, "root")
        else:
            site.systemd.load(MESH)
            site.systemd.change(MESH, **RUNNING)
        await until(lambda: site.blocklist.alone == set())
        site.inventory.observe(with_users(MESH, OWN))
        site.reconciler.reconcile()
        await site.idle()
        assert site.reconciler.records[MESH].run.runs


@pytest.mark.parametrize("state", [{}, RUNNING, ended(ExitStatus.KICKED)])
async def test_a_kick_that_systemd_has_forgotten_is_learnt_from_its_note(
    bus_address: str, tmp_path: Path, state: dict[str, Any]
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        note = site.path.with_name("ended") / f"{MESH}.{int(ExitStatus.KICKED)}"
        note.parent.mkdir()
        note.touch()
        if state:
            site.systemd.load(MESH, **state)
        await site.begin(MESH)
        assert site.on_disk()[MESH].reason is Reason.KICKED
        await until(lambda: not note.exists())
        await site.idle()
        assert site.left == [MESH]
        assert ("start", MESH) not in site.systemd.verbs
        # What an operator lifts afterwards no note brings back.
        site.blocklist.remove(MESH, "root")
        await site.reconciler._examine_ends_while_away()
        await site.idle()
        assert site.blocklist.get(MESH) is None


async def test_a_note_of_a_kick_outweighs_how_a_later_bot_has_ended(bus_address: str, tmp_path: Path) -> None:
    """An operator has started the unit once more by hand, and the bot was alone."""

    async with site_on(bus_address, tmp_path) as site:
        note = site.path.with_name("ended") / f"{MESH}.{int(ExitStatus.KICKED)}"
        note.parent.mkdir()
        note.touch()
        site.systemd.load(MESH, **ended(ExitStatus.ALONE))
        await site.begin(MESH)
        await until(lambda: not note.exists())
        assert site.on_disk()[MESH].reason is Reason.KICKED


async def test_a_note_decides_about_a_mesh_of_which_nothing_else_is_known(bus_address: str, tmp_path: Path) -> None:
    """The machine has booted since, and Rave does not list the mesh any more."""

    async with site_on(bus_address, tmp_path) as site:
        note = site.path.with_name("ended") / f"{MESH}.{int(ExitStatus.UNREACHABLE)}"
        note.parent.mkdir()
        note.touch()
        # The start waits for its answer.
        site.systemd.load(OTHER, **RUNNING)
        await site.begin(OTHER)
        await until(lambda: not note.exists())
        await site.idle()
        assert site.on_disk()[MESH].reason is Reason.CONNECTION_FAILURES


async def test_a_note_stays_until_what_it_says_is_on_disk(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        note = site.path.with_name("ended") / f"{MESH}.{int(ExitStatus.KICKED)}"
        note.parent.mkdir()
        note.touch()

        def full(*_: object) -> None:
            raise RaveError(Code.BAD_FILE, "the disk is full")

        monkeypatch.setattr(BlockFile, "save", full)
        await site.begin()
        await site.idle()
        assert note.exists()
        assert site.systemd.verbs == []


async def test_another_parent_knows_what_was_left(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        site.blocklist.add(MESH, Reason.KICKED)
        await site.begin(MESH, OTHER)
        site.blocklist.remove(MESH, "root")
        site.discover(MESH, OTHER)
        await site.idle()
        assert site.systemd.verbs == [("start", OTHER)]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (ended(ExitStatus.LOGIN_NEEDED), "Rave wants a new login"),
        ({**ended(0), "Result": "start-limit-hit"}, "started by hand too often"),
        (ended(1), "failed while it was being stopped"),
        ({**ended(9, code=2), "Result": "timeout", "NRestarts": 6}, "took too long"),
        (ended(ExitStatus.UNREACHABLE), "Rave does not answer"),
    ],
    ids=["login", "start-limit", "stop", "timeout", "rave"],
)
async def test_what_is_no_fault_of_a_mesh_blocks_nothing(
    bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: dict[str, Any], words: str
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.rave_answers = False
        site.systemd.change(MESH, **how)
        await until(lambda: ("reset-failed", MESH) in site.systemd.verbs)
        await site.idle()
        assert site.blocklist.in_force() == {}
        assert site.shown[-1][:2] == (MESH, "stopped")
        assert words in site.shown[-1][2]
        assert words in caplog.text
        site.discover(MESH)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("reset-failed", MESH), ("start", MESH)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "words"),
    [(ExitStatus.CONFIG, "could not use its settings"), (ExitStatus.NO_SETTINGS, "has reset OpenFile=")],
)
async def test_what_lacks_its_settings_is_not_started_every_round(
    bus_address: str, tmp_path: Path, status: ExitStatus, words: str
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        for _ in range(3):
            site.systemd.change(MESH, **ended(status))
            await until(lambda: site.systemd.verbs[-1] == ("reset-failed", MESH))
            await site.idle()
            begun = len(site.systemd.verbs)
            for _ in range(3):
                site.discover(MESH)
                await site.idle()
            assert site.systemd.verbs[begun:] == []
            assert words in site.shown[-1][2]
            assert site.blocklist.in_force() == {}
            # An operator need not wait.
            await site.reconciler.start_mesh(MESH, "uid 0")
            await until(lambda: site.systemd.verbs[-1] == ("start", MESH))
            await site.idle()


@pytest.mark.parametrize("noted", [False, True])
@pytest.mark.parametrize("status", [ExitStatus.CONFIG, ExitStatus.NO_SETTINGS])
async def test_what_lacked_its_settings_is_started_when_the_service_has_begun_anew(
    bus_address: str, tmp_path: Path, status: ExitStatus, noted: bool
) -> None:
    """It was told to restart the service for that; the process had ended a moment before."""

    async with site_on(bus_address, tmp_path) as site:
        if noted:
            note = site.path.with_name("ended") / f"{MESH}.{int(status)}"
            note.parent.mkdir()
            note.touch()
        else:
            site.systemd.load(MESH, **ended(status))
        await site.reconciler.start()
        await site.idle()
        site.discover(MESH)
        await site.idle()
        assert site.systemd.verbs[-1] == ("start", MESH)
        # From then on it is as ever.
        site.systemd.change(MESH, **ended(status))
        await until(lambda: site.systemd.verbs[-1] == ("reset-failed", MESH))
        await site.idle()
        site.discover(MESH)
        await site.idle()
        assert site.systemd.verbs[-1] == ("reset-failed", MESH)


async def test_of_an_unreachable_mesh_nothing_is_decided_before_rave_is_asked(
    bus_address: str, tmp_path: Path
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        site.reconciler._exit_policy._answers = lambda: answer  # type: ignore[assignment]
        site.systemd.change(MESH, **ended(ExitStatus.UNREACHABLE))
        await site.state(MESH, "failed")
        site.discover(MESH)
        await settle(site.systemd.bus, site.bus)
        assert site.blocklist.in_force() == {}
        assert site.systemd.verbs == [("start", MESH)]
        answer.set_result(True)
        await site.state(MESH, "blocked")
        await site.idle()
        assert site.on_disk()[MESH].reason is Reason.CONNECTION_FAILURES
        assert site.systemd.verbs == [("start", MESH), ("reset-failed", MESH)]


async def test_a_mesh_that_was_gone_is_joined_as_soon_as_rave_lists_it_again(
    bus_address: str, tmp_path: Path
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH, OTHER)
        site.systemd.change(MESH, **ended(ExitStatus.GONE))
        await site.state(MESH, "blocked")
        await site.idle()
        block = site.on_disk()[MESH]
        assert (block.reason, block.since, block.until) == (Reason.GONE, 1_000_000, 1_060_000)
        assert site.inventory.meshes
        assert MESH not in site.inventory.meshes
        del site.systemd.verbs[:]
        # What is done with others says nothing of it.
        await site.reconciler.stop_mesh(OTHER, "alice")
        await site.reconciler.start_mesh(OTHER, "alice")
        site.discover(OTHER)
        await site.idle()
        assert site.reconciler.records[MESH].state == "blocked"
        assert site.on_disk().keys() == {MESH}
        site.discover(MESH, OTHER)
        await site.idle()
        assert site.on_disk() == {}
        assert ("start", MESH) in site.systemd.verbs
        assert site.reconciler.records[MESH].state == "disconnected"


async def test_a_start_that_ends_in_a_failure_is_learnt_from(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.systemd.outcomes[MESH] = ended(ExitStatus.REJECTED)
        site.discover(MESH)
        await site.state(MESH, "blocked")
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("reset-failed", MESH)]
        assert site.on_disk()[MESH].reason is Reason.REJECTED


async def test_an_automatic_restart_is_no_failure(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        crash = ended(9, code=2)
        site.systemd.change(MESH, **{**crash, "SubState": "failed-before-auto-restart"})
        site.systemd.change(MESH, ActiveState="activating", SubState="auto-restart", NRestarts=1)
        await until(lambda: site.reconciler.records[MESH].run.restarts == 1)
        assert site.reconciler.records[MESH].state == "restarting"
        site.discover(MESH)
        site.systemd.change(MESH, **{**RUNNING, "MainPID": 101})
        await site.idle()
        assert site.systemd.verbs == [("start", MESH)]
        assert site.blocklist.in_force() == {}


# What the children say.


async def test_what_a_child_says_is_shown(bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert SIGNALS.keys() >= {"Ready", "ConnectionFailed", "Connected", "Error", "Disconnected", "Left", "Kicked"}
    with caplog.at_level(logging.INFO):
        async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
            await site.begin(MESH)
            child = await site.child(bus, MESH)

            async def say(signal: str, *args: Any) -> MeshState:
                before = len(site.shown)
                child.emit(signal, *args)
                await until(lambda: len(site.shown) > before)
                return site.reconciler.records[MESH]

            child.status = {"LastError": ("s", "none so far")}
            assert (await say("Ready")).worker.ready
            await until(lambda: site.reconciler.records[MESH].reason == "none so far")
            assert (await say("ConnectionFailed", 2, "no route")).reason == "no route"
            record = await say("Connected")
            assert (record.state, record.reason, record.worker.last_error) == ("connected", "", "")
            since = record.worker.since
            assert since > 1_600_000_000
            assert (await say("Error", "a small trouble")).state == "connected"
            assert record.worker.last_error == "a small trouble"
            assert (await say("CommandErrors", ["greet.py: it\nfails"])).worker.command_errors == (
                "greet.py: it?fails",
            )
            assert f"Own commands fail, first in mesh {MESH}: greet.py: it?fails" in caplog.text
            assert (await say("CommandErrors", [])).worker.command_errors == ()
            assert (await say("Disconnected", "the connection broke")).reason == "the connection broke"
            assert record.worker.since >= since
            assert (await say("Left", "the mesh is gone")).reason == "the mesh is gone"
            assert site.blocklist.in_force() == {}, "its exit status will tell"


@pytest.mark.parametrize(
    ("signal", "before"), [("Disconnected", ()), ("ConnectionFailed", (1,)), ("Error", ()), ("Left", ())]
)
def test_the_words_of_a_child_are_cut_and_control_nothing(
    run: Run,
    bus_address: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    signal: str,
    before: tuple[int, ...],
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
            await site.begin(MESH)
            child = await site.child(bus, MESH)
            child.emit(signal, *before, "\033[2J\nREADY=1 " + "x" * 400)
            await until(lambda: site.reconciler.records[MESH].worker.last_error)
            said = site.reconciler.records[MESH].worker.last_error
            assert said == ("?[2J?READY=1 " + "x" * 400)[:300]
            assert site.shown[-1] == (MESH, "disconnected", said)

    with caplog.at_level(logging.INFO):
        run(body())
    assert "\033" not in caplog.text
    assert "x" * 300 not in caplog.text


async def test_the_words_of_a_child_end_with_it_but_for_its_last_error(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        child = await site.child(bus, MESH)
        child.emit("Connected")
        child.emit("Error", "a small trouble")
        await until(lambda: site.reconciler.records[MESH].worker.last_error)
        site.systemd.change(MESH, MainPID=101)
        await until(lambda: site.reconciler.records[MESH].run.process == 101)
        assert site.shown[-1] == (MESH, "disconnected", "a small trouble")
        assert not site.reconciler.records[MESH].worker.ready


async def test_the_first_words_of_a_child_may_come_before_the_news_of_its_process(
    bus_address: str, tmp_path: Path
) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.reconciler.start()
        site.systemd.held = True
        site.discover(MESH)
        await site.state(MESH, "starting")
        child = await site.child(bus, MESH)
        child.status = {"Connected": ("b", True)}
        child.emit("Ready")
        child.emit("Connected")
        await until(lambda: site.reconciler.records[MESH].worker.connected)
        site.systemd.finish(MESH)
        await site.state(MESH, "connected")


async def test_a_stranger_says_nothing(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        child = await site.child(bus, MESH)
        site.verified[bus.unique_name] = "session-1.scope"
        child.emit("Kicked")
        await settle(bus, site.bus)
        assert site.blocklist.in_force() == {}
        assert site.reconciler.records[MESH].state == "disconnected"


# What others do with the units.


async def test_a_unit_stopped_by_hand_is_held_until_somebody_starts_it(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.held = True
        site.systemd.stop(MESH)
        await site.state(MESH, "stopping")
        await until(lambda: MESH in site.on_disk())
        site.systemd.finish(MESH)
        await site.state(MESH, "held")
        block = site.on_disk()[MESH]
        assert (block.reason, block.until, block.actor) == (Reason.HELD, None, "systemctl")
        site.systemd.held = False
        for _ in range(3):
            site.discover(MESH)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("stop", MESH)]
        site.systemd.start(MESH)
        await site.state(MESH, "disconnected")
        await site.idle()
        assert site.on_disk() == {}
        assert site.systemd.verbs[2:] == [("start", MESH)], "nobody stops it again"
        assert [(change.what, change.actor) for change in site.changes] == [
            (What.BLOCKED, "systemctl"),
            (What.UNBLOCKED, "systemctl"),
        ]


async def test_a_bot_that_says_it_stops_and_goes_on_is_held_when_it_is_stopped_by_hand(
    bus_address: str, tmp_path: Path
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.change(MESH, ActiveState="deactivating", SubState="stop-sigterm")
        await site.state(MESH, "stopping")
        await site.idle()
        assert site.on_disk() == {}
        site.systemd.held = True
        site.systemd.stop(MESH)
        await until(lambda: MESH in site.on_disk())
        site.systemd.finish(MESH)
        await site.state(MESH, "held")


async def test_the_place_of_a_mesh_stopped_by_hand_is_free(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path, limit=1) as site:
        await site.begin(MESH, OTHER)
        site.systemd.stop(MESH)
        await until(lambda: ("start", OTHER) in site.systemd.verbs)
        await site.idle()


async def test_a_restart_by_hand_is_no_hold(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.held = True
        site.systemd.restart(MESH)
        await site.state(MESH, "stopping")
        await site.idle()
        site.systemd.held = False
        site.systemd.finish(MESH)
        await until(lambda: site.reconciler.records[MESH].run.process == 101)
        await site.idle()
        assert site.blocklist.in_force() == {}


async def test_a_restart_by_hand_that_systemd_refuses_is_no_hold(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        refused = {"ActiveState": "failed", "SubState": "failed", "Result": "start-limit-hit", "MainPID": 0}
        site.systemd.outcomes[MESH] = refused
        site.systemd.held = True
        site.systemd.restart(MESH)
        # In one go: the restart is over before the parent has asked what kind of job it was.
        site.systemd.finish(MESH, "failed")
        await until(lambda: ("reset-failed", MESH) in site.systemd.verbs)
        await site.idle()
        assert site.blocklist.in_force() == {}
        assert "by hand too often" in site.reconciler.records[MESH].worker.last_error


@pytest.mark.parametrize("after", ["active", "deactivating"])
async def test_a_stop_of_everything_holds_nothing(bus_address: str, tmp_path: Path, after: str) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        if after == "active":
            site.systemd.move_target()
        else:
            site.systemd.target.set(ActiveState=after)
        site.systemd.held = True
        site.systemd.stop(MESH)
        await site.state(MESH, "stopping")
        await site.idle()
        site.systemd.finish(MESH)
        await site.state(MESH, "stopped")
        await site.idle()
        assert site.blocklist.in_force() == {}


async def test_a_stop_that_was_too_quick_to_be_looked_at_is_one(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.stop(MESH)
        await until(lambda: MESH in site.on_disk())
        assert site.on_disk()[MESH].reason is Reason.HELD
        await site.idle()


async def test_a_process_that_ends_by_itself_rests_until_the_next_round(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.change(MESH, ActiveState="deactivating", SubState="stop-sigterm")
        site.systemd.change(MESH, **DEAD, ExecMainCode=1)
        await site.state(MESH, "stopped")
        site.reconciler.apply_plan()
        await site.idle()
        assert site.systemd.verbs == [("start", MESH)]
        assert site.blocklist.in_force() == {}
        assert "later round" in site.reconciler.records[MESH].reason
        assert site.reconciler.records[MESH].last_exit == "exit status 0 (stopped)"
        site.discover(MESH)
        await site.idle()
        assert site.systemd.verbs[1:] == [("start", MESH)]


async def test_a_blocked_mesh_that_somebody_starts_is_stopped_again(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        await site.blocklist.add(MESH, Reason.KICKED)
        site.systemd.start(MESH)
        await until(lambda: ("stop", MESH) in site.systemd.verbs)
        await site.idle()
        assert site.on_disk()[MESH].reason is Reason.KICKED


@pytest.mark.parametrize(("verb", "verbs"), [("stop", [("stop", names.TARGET_UNIT)]), ("restart", []), ("", [])])
async def test_a_stop_for_good_stops_everything(
    bus_address: str, tmp_path: Path, verb: str, verbs: list[tuple[str, str]]
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.systemd.held = True
        site.discover(MESH)
        await site.state(MESH, "starting")
        if verb:
            site.systemd.order_parent(verb)
        await site.reconciler.close()
        assert site.systemd.verbs[1:] == verbs
        site.systemd.parent.set(Job=[0, "/"])  # for the end of the test, which closes once more


async def test_what_systemd_does_not_tell_is_said_and_changes_nothing(
    bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)

        async def silent() -> bool:
            raise RaveError(Code.TIMEOUT, "no answer")

        site.runner._monitor.draining = silent  # type: ignore[method-assign]
        site.runner._monitor.stopping_for_good = silent  # type: ignore[method-assign]
        site.systemd.held = True
        site.systemd.stop(MESH)
        await until(lambda: f"Whether an operator has stopped mesh {MESH} could not be found out" in caplog.text)
        assert site.blocklist.in_force() == {}
    assert "Meshes may be left running: no answer" in caplog.text


# Blocklist that end, and limits that are reached.


async def test_a_block_that_is_over_ends_without_waiting_for_a_round(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.change(MESH, **ended(ExitStatus.REJECTED))
        await site.state(MESH, "blocked")
        await site.idle()
        site.wait(61)
        await site.idle()
        assert site.systemd.verbs[-1] == ("start", MESH)
        assert site.saved().memory(MESH).blocks == 1, "it is counted"


async def test_a_mesh_takes_the_place_of_another_only_when_that_has_stopped(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path, limit=1) as site:
        await site.begin(MESH, OTHER)
        assert site.reconciler.records[OTHER].reason == "max_processes (1) is reached"
        site.systemd.held = True
        await site.reconciler.stop_mesh(MESH, "alice")
        await site.state(MESH, "stopping")
        await settle(site.systemd.bus, site.bus)
        assert ("start", OTHER) not in site.systemd.verbs
        assert "until another mesh has stopped" in site.reconciler.records[OTHER].reason
        site.systemd.held = False
        site.systemd.finish(MESH)
        await site.idle()
        assert site.systemd.verbs[2:] == [("start", OTHER)]


# Attempts, and connections that hold.


@pytest.mark.slow
async def test_attempts_are_counted_over_processes_until_a_connection_holds(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        child = await site.child(bus, MESH)
        child.emit("ConnectionFailed", 2, "no route")
        await until(lambda: site.saved().memory(MESH).failures == 2)
        assert site.saved().memory(MESH).last_error == "no route"
        child.emit("Connected")
        await site.state(MESH, "connected")
        child.emit("Disconnected", "the connection broke")
        await site.state(MESH, "disconnected")
        await site.idle()
        assert site.saved().memory(MESH).failures == 2, "it did not hold"
        child.emit("Connected")
        await site.state(MESH, "connected")
        site.reconciler.records[MESH].worker.connected_at -= 60
        child.emit("Disconnected", "the connection broke")
        await until(lambda: site.saved().memory(MESH).failures == 0)


@pytest.mark.slow
async def test_what_most_bots_meet_blocks_no_mesh_and_is_tried_again_later(bus_address: str, tmp_path: Path) -> None:
    third = new_mesh()

    async with site_on(bus_address, tmp_path) as site, connected(bus_address, 2) as buses:
        await site.begin(MESH, OTHER, third)
        for bus, mesh in zip(buses, (OTHER, third), strict=True):
            (await site.child(bus, mesh)).emit("ConnectionFailed", 1, f"mesh {mesh}: 403")
        await until(lambda: site.saved().memory(OTHER).failures and site.saved().memory(third).failures)
        site.systemd.change(MESH, **ended(ExitStatus.REJECTED))
        await until(lambda: ("reset-failed", MESH) in site.systemd.verbs)
        await site.idle()
        assert site.on_disk() == {}
        (sentence,) = site.starts.outages.sentences()
        assert sentence.startswith("all meshes can't be reached: mesh: 403 (since ")
        site.discover(MESH, OTHER, third)
        await site.idle()
        decision = site.reconciler.records[MESH].decision
        assert decision
        assert decision.action is Action.SKIP
        assert "it is tried again at " in decision.reason
        site.children[third].emit("Connected")
        await site.state(third, "connected")
        site.starts.outages._connected[third] -= 10
        assert site.starts.outages.sentences() == []
        site.discover(MESH, OTHER, third)
        await site.state(MESH, "disconnected")


async def test_processes_that_are_all_started_again_are_one_fault(bus_address: str, tmp_path: Path) -> None:
    meshes = (MESH, OTHER, new_mesh())

    async with site_on(bus_address, tmp_path) as site:
        await site.begin(*meshes)
        for mesh in meshes[1:]:
            site.systemd.change(mesh, **{**ended(1), "ActiveState": "activating", "SubState": "auto-restart"})
            await site.state(mesh, "restarting")
        site.systemd.change(MESH, **ended(1), NRestarts=6)
        await until(lambda: ("reset-failed", MESH) in site.systemd.verbs)
        await site.idle()
        assert site.on_disk() == {}
        assert "the processes of all meshes fail" in site.reconciler.records[MESH].reason


async def test_while_rave_asks_for_a_pause_nothing_is_started(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        child = await site.child(bus, MESH)
        child.emit("RateLimited", "stranger.test", 600)
        child.emit("RateLimited", "api.test", 600)
        await until(lambda: "api.test asks for a pause" in site.reconciler.records[MESH].reason)
        assert site.saved().memory(MESH).failures == 0, "that is no failure"
        site.inventory.observe(listed(MESH, OTHER))
        site.reconciler.reconcile()
        await site.idle()
        decision = site.reconciler.records[OTHER].decision
        assert decision
        assert decision.action is Action.SKIP
        assert "api.test asks for a pause until" in decision.reason
        assert site.reconciler.pause(OTHER)[0] > 290
        site.starts.pauses = Pauses()
        site.reconciler.reconcile()
        await site.state(OTHER, "disconnected")


@pytest.mark.slow
async def test_what_a_child_tells_when_asked_counts_as_what_it_says(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        site.systemd.load(MESH, **RUNNING)
        child = await site.child(bus, MESH)
        child.status = {
            "Connected": ("b", False),
            "Attempts": ("u", 2),
            "LastError": ("s", "no route"),
            "Version": ("s", "1.2.3"),
            "SettingsDigest": ("s", "0123"),
        }
        await site.reconciler.start()
        await until(lambda: site.saved().memory(MESH).failures == 2)
        assert site.reconciler.records[MESH].worker.edition == Edition("1.2.3", "0123")
        child.status = {"Connected": ("b", True), "ConnectedUSec": ("t", 61_000_000), "Attempts": ("u", 0)}
        await site.reconciler.health.ask(MESH)
        await until(lambda: site.saved().memory(MESH).failures == 0)
        assert site.reconciler.records[MESH].state == "connected"


@pytest.mark.slow
async def test_an_outage_uses_up_no_attempts(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        child = await site.child(bus, MESH)
        child.emit("ConnectionFailed", 3, "no route")
        await until(lambda: site.saved().memory(MESH).failures == 3)
        site.rave_answers = False
        site.systemd.change(MESH, **ended(ExitStatus.UNREACHABLE))
        await site.state(MESH, "stopped")
        await until(lambda: site.saved().memory(MESH).failures == 0)
        await site.idle()


# Health.


def test_a_child_that_does_not_answer_gets_another_process(
    run: Run, bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.begin(MESH)
            site.reconciler.records[MESH].worker.heard -= 61
            site.systemd.held = True
            await site.reconciler.health.ask(MESH)
            assert (MESH, "unhealthy", "its process does not answer") in site.shown
            await until(lambda: site.systemd.verbs[-1] == ("restart", MESH))
            site.reconciler._unhealthy(MESH)  # which is being done already
            site.systemd.held = False
            site.systemd.finish(MESH)
            await site.idle()
            assert [verb for verb, _ in site.systemd.verbs] == ["start", "restart"]
            assert site.reconciler.records[MESH].state == "disconnected"
            assert site.blocklist.in_force() == {}

    run(body())
    assert f"Restarting mesh {MESH}, because its process does not answer" in caplog.text


def test_a_bot_with_a_status_that_none_of_ours_sends_is_killed(
    run: Run, bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            site.systemd.load(OTHER, **RUNNING, StatusText="\033[2J")
            await site.begin(MESH, OTHER)
            site.systemd.change(MESH, StatusText="Connected: a film")
            await site.idle()
            assert ("kill", MESH) not in site.systemd.verbs
            for text in ("x" * 601, "it looks well", "\033]0;root\007"):
                site.systemd.change(MESH, StatusText=text)
                await site.idle()
            assert site.systemd.verbs.count(("kill", MESH)) == 1, "once for a process"
            assert site.systemd.verbs.count(("kill", OTHER)) == 1, "before we were there"
            site.systemd.change(MESH, MainPID=0, ActiveState="activating", SubState="auto-restart")
            site.systemd.change(MESH, MainPID=102, StatusText="")
            site.systemd.change(MESH, StatusText="\u202e")
            await site.idle()
            assert site.systemd.verbs.count(("kill", MESH)) == 2

    run(body())
    events = [
        record.rave_mesh for record in caplog.records if getattr(record, "rave_event", "") is LogEvent.TAKEN_OVER
    ]
    assert events.count(MESH) == 2


async def test_a_bot_that_survives_its_kill_is_killed_again(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may keep systemd so busy that the kill takes too long."""
    monkeypatch.setattr(systemd_runner_module, "_KILL_AGAIN_S", -1.0)

    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        for _ in range(2):
            site.runner._too_large(MESH)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("kill", MESH), ("kill", MESH)]


async def test_a_bot_that_sends_too_large_a_message_is_killed_once(
    bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        for _ in range(2):
            site.runner._too_large(MESH)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("kill", MESH)]
    (event,) = [record for record in caplog.records if getattr(record, "rave_event", "") is LogEvent.TAKEN_OVER]
    assert "has sent a message of more than 64 kB" in event.getMessage()


async def test_a_bot_that_does_not_stop_is_killed_and_one_that_has_stopped_is_not(
    bus_address: str, tmp_path: Path
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        await site.runner._end_stop(MESH)
        site.systemd.held = True
        site.systemd.stop(MESH)
        await site.runner._end_stop(MESH)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("stop", MESH), ("kill", MESH)]
        # Its end is on its way to us.
        site.systemd.finish(MESH)
        await site.runner._end_stop(MESH)
        assert site.systemd.verbs.count(("kill", MESH)) == 1


async def test_a_restart_is_for_what_runs(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        with pytest.raises(RaveError) as e:
            await site.reconciler.restart_mesh(MESH)
        assert e.value.code is Code.NOT_RUNNING
        site.discover(MESH)
        await site.idle()
        site.systemd.held = True
        restarting = asyncio.create_task(site.reconciler.restart_mesh(MESH))
        await site.state(MESH, "stopping")
        site.systemd.change(MESH, ActiveState="activating", SubState="start")
        await site.state(MESH, "starting")
        with pytest.raises(RaveError) as e:
            await site.reconciler.restart_mesh(MESH)
        assert e.value.code is Code.BUSY
        site.systemd.held = False
        site.systemd.finish(MESH)
        await restarting
        assert site.reconciler.records[MESH].run.process == 101


# What may change between a decision and its turn.


@contextlib.asynccontextmanager
async def no_turn(site: Site) -> AsyncIterator[None]:
    """Others are being started, as many as may be at a time."""
    async with contextlib.AsyncExitStack() as turns:
        for _ in range(fleet_module._STARTS_AT_ONCE):
            await turns.enter_async_context(site.reconciler._turn)
        yield


async def kick(site: Site, bus: Bus, mesh: str) -> None:
    """The child says so, and still has its process."""
    child = await site.child(bus, mesh)
    child.emit("Kicked")
    await until(lambda: mesh in site.on_disk())


async def test_a_mesh_that_is_blocked_while_it_waits_for_its_turn_is_not_started(
    bus_address: str, tmp_path: Path
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        async with no_turn(site):
            site.discover(MESH, OTHER)
            await site.reconciler.stop_mesh(MESH, "alice")
            await until(lambda: MESH in site.on_disk())
        await site.idle()
        assert site.systemd.verbs == [("start", OTHER)]
        assert site.reconciler.records[MESH].state == "held"


async def test_what_somebody_else_has_started_and_has_failed_since_is_learnt_from(
    bus_address: str, tmp_path: Path
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        async with no_turn(site):
            site.discover(MESH)
            site.systemd.start(MESH)
            await site.state(MESH, "disconnected")
            site.systemd.change(MESH, **ended(ExitStatus.KICKED))
            await site.state(MESH, "failed")
        await until(lambda: site.left)
        await site.idle()
        # Only the one by hand.
        assert site.systemd.verbs == [("start", MESH), ("reset-failed", MESH)]
        assert site.on_disk()[MESH].reason is Reason.KICKED


async def test_what_waits_for_its_turn_counts_for_the_limit(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path, limit=1) as site:
        await site.reconciler.start()
        site.systemd.held = True
        site.discover(MESH, OTHER)
        await site.state(MESH, "starting")
        await site.blocklist.add(MESH, Reason.OPERATOR, actor="alice")
        await settle(site.systemd.bus, site.bus)
        assert ("start", OTHER) not in site.systemd.verbs
        assert "until another mesh has stopped" in site.reconciler.records[OTHER].reason
        site.systemd.held = False
        site.systemd.finish(MESH)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("stop", MESH), ("start", OTHER)]


async def test_a_mesh_that_kicks_the_bot_before_its_restart_is_not_joined_again(
    bus_address: str, tmp_path: Path
) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        async with no_turn(site):
            restarting = asyncio.create_task(site.reconciler.restart_mesh(MESH))
            await kick(site, bus, MESH)
        with pytest.raises(RaveError, match="the bot was kicked"):
            await restarting
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("stop", MESH)]
        with pytest.raises(RaveError) as e:
            await site.reconciler.restart_mesh(MESH)
        assert e.value.code is Code.BLOCKED


async def test_what_fails_between_a_decision_and_its_step_is_learnt_from(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        await site.blocklist.add(MESH, Reason.KICKED)
        site.reconciler.apply_plan()
        # In the same turn of the event loop, so that the step has not begun.
        site.runner._monitor._merge(MESH, ended(ExitStatus.KICKED))
        site.systemd.change(MESH, **ended(ExitStatus.KICKED))
        await site.idle()
        assert ("reset-failed", MESH) in site.systemd.verbs
        assert site.left == [MESH]


async def test_what_ends_before_its_restart_is_learnt_from(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        async with no_turn(site):
            # Nothing was heard of it for a minute, so not of the kick either.
            site.reconciler._unhealthy(MESH)
            site.systemd.change(MESH, **ended(ExitStatus.KICKED))
            await site.state(MESH, "failed")
        await until(lambda: site.left)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("reset-failed", MESH)]
        assert site.on_disk()[MESH].reason is Reason.KICKED


@pytest.mark.parametrize(
    "again",
    [
        {"ActiveState": "activating", "SubState": "auto-restart", "MainPID": 0, "NRestarts": 1},
        {**RUNNING, "MainPID": 101, "NRestarts": 1},
    ],
)
async def test_a_kicked_child_that_dies_before_it_has_ended_is_not_started_again(
    bus_address: str, tmp_path: Path, again: dict[str, Any]
) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        await kick(site, bus, MESH)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH)], "it ends by itself"
        site.systemd.change(MESH, **again)
        await until(lambda: ("stop", MESH) in site.systemd.verbs)
        await site.idle()
        assert site.reconciler.records[MESH].state == "blocked"
        assert site.on_disk()[MESH].reason is Reason.KICKED


async def test_a_stop_that_fails_is_tried_again_but_not_at_once(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fleet_module, "_STOP_AGAIN_S", 0.1)

    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.units.errors = [RaveError(Code.ACCESS_DENIED, "polkit says no") for _ in range(1000)]
        begun = time.monotonic()
        await site.reconciler.stop_mesh(MESH, "alice")
        await until(lambda: caplog.text.count("polkit says no") == 3)
        assert time.monotonic() - begun >= 0.2
        site.units.errors.clear()
        await until(lambda: ("stop", MESH) in site.systemd.verbs)
        await site.idle()
        assert site.reconciler.records[MESH].state == "held"


# A stop by hand that is not seen as one process that ends.


async def test_a_stop_by_hand_during_the_wait_for_a_restart_is_a_hold(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        waiting = {"ActiveState": "activating", "SubState": "auto-restart", "MainPID": 0}
        site.systemd.change(MESH, **waiting)
        await site.state(MESH, "restarting")
        # systemd has nothing to stop, so that the unit is dead at once.
        site.systemd.change(MESH, **DEAD)
        await until(lambda: MESH in site.on_disk())
        assert site.on_disk()[MESH].reason is Reason.HELD
        site.discover(MESH)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH)]


async def test_the_end_of_the_wait_for_a_restart_is_no_hold(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.change(MESH, ActiveState="activating", SubState="auto-restart", MainPID=0)
        await site.state(MESH, "restarting")
        site.systemd.held = True
        # The job that restarts it stops it first.
        site.systemd.restart(MESH)
        site.systemd.change(MESH, **DEAD)
        await site.state(MESH, "stopped")
        await site.idle()
        site.systemd.finish(MESH)
        await site.state(MESH, "disconnected")
        await site.idle()
        assert site.blocklist.in_force() == {}


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_a_stop_by_hand_in_the_middle_of_our_own_start_is_a_hold(
    run: Run, bus_address: str, tmp_path: Path, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.begin(OTHER, *([MESH] if verb == "restart" else []))
            site.systemd.held = True
            if verb == "restart":
                site.reconciler._unhealthy(MESH)
            site.discover(MESH, OTHER)
            await until(lambda: (verb, MESH) in site.systemd.verbs)
            (job,) = [job for job, (mesh, _) in site.systemd._jobs.items() if mesh == MESH]
            site.systemd._jobs[job] = (MESH, DEAD)
            site.systemd.finish(MESH, "canceled")
            await until(lambda: MESH in site.on_disk())
            assert (site.on_disk()[MESH].reason, site.on_disk()[MESH].actor) == (Reason.HELD, "systemctl")
            site.systemd.held = False
            site.discover(MESH, OTHER)
            await site.idle()
            assert site.reconciler.records[MESH].state == "held"

    run(body())
    assert "did not start" not in caplog.text


@pytest.mark.parametrize("later", [True, False])
async def test_what_is_held_and_runs_was_started_since_or_not_stopped_yet(
    bus_address: str, tmp_path: Path, later: bool
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.blocklist.add(MESH, Reason.HELD, actor="alice")
        site.systemd.load(MESH, **RUNNING)
        held = site.blocklist.to_wall_us(site.blocklist.in_force()[MESH].since)
        site.systemd.units[MESH][0].set(ActiveEnterTimestamp=held + (1 if later else -1))
        await site.reconciler.start()
        await site.idle()
        assert site.systemd.verbs == ([] if later else [("stop", MESH)])
        assert (MESH in site.on_disk()) is not later


def test_a_hold_holds_when_systemd_does_not_tell_when_a_unit_was_started(
    run: Run, bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.blocklist.add(MESH, Reason.HELD, actor="alice")
            site.systemd.load(MESH, **RUNNING)

            async def untold(_: str) -> int:
                raise RaveError(Code.BUS, "no answer")

            site.runner._monitor.active_since = untold  # type: ignore[method-assign]
            await site.reconciler.start()
            await site.idle()
            assert site.systemd.verbs == [("stop", MESH)]

    run(body())
    assert "could not be found out: no answer" in caplog.text


@pytest.mark.slow
async def test_a_child_cannot_count_beyond_what_can_be_counted(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        child = await site.child(bus, MESH)
        child.emit("ConnectionFailed", 2**32 - 1, "no route")
        await until(lambda: site.saved().memory(MESH).failures == 2**32 - 1)
        site.runner._heard(MESH, "ConnectionFailed", [2**64 - 1, "no route"])
        await until(lambda: site.saved().memory(MESH).failures == 0)


def test_of_meshes_that_are_blocked_only_the_latest_have_a_record(
    run: Run, bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "_MAX_BLOCKED_SHOWN", 3)
    old = [new_mesh() for _ in range(5)]

    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.begin(MESH)
            for mesh in old:
                await site.blocklist.add(mesh, Reason.OPERATOR, seconds=100_000)
                site.now += 1
            site.reconciler.refresh()
            assert set(site.reconciler.records) == {MESH, *old[2:]}, "a listed one, and the latest of the others"
            assert site.reconciler.states.count("blocked") == 5
            # All are known, whether they have a record or not.
            found = site.reconciler.find(old[0])
            assert found
            assert (found.state, found.reason) == ("blocked", "it was blocked by an operator")
            assert site.reconciler.find(new_mesh()) is None
            # One without a record that is released needs none; what is blocked next has one.
            await site.blocklist.remove(old[0], "alice")
            assert old[0] not in site.reconciler.records
            assert site.reconciler.find(old[0]) is None
            later = [new_mesh() for _ in range(20)]
            for mesh in later:
                await site.blocklist.add(mesh, Reason.OPERATOR, seconds=100_000)
                site.now += 1
                assert mesh in site.reconciler.records
                assert len(site.reconciler.records) <= 1 + 2 * 3 + 1
            assert site.reconciler.health.silence(old[1]) == 0.0

    run(body())


def test_of_many_meshes_that_are_blocked_at_once_few_are_shown_even_for_a_moment(
    run: Run, bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "_MAX_BLOCKED_SHOWN", 3)
    many = [new_mesh() for _ in range(120)]

    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.begin(MESH)
            site.shown.clear()
            saved = []
            for mesh in many:
                saved.append(site.blocklist.add(mesh, Reason.OPERATOR, seconds=100_000))
                site.now += 1
            # One of them is shown already, and so it stays.
            saved.append(site.blocklist.add(MESH, Reason.OPERATOR, seconds=100_000))
            assert all(await asyncio.gather(*saved))
            assert len(site.changes) == 121, "each is announced"
            assert set(site.reconciler.records) == {MESH, *many[-3:]}
            assert {mesh for mesh, _, _ in site.shown} == set(site.reconciler.records)
            assert site.reconciler.states.count("blocked") == 120
            assert site.reconciler.find(many[0])

    run(body())
