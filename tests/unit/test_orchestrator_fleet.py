from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ravesvc import names
from ravesvc.api.models import Mesh, User
from ravesvc.bus import Bus
from ravesvc.errors import Code, RaveError
from ravesvc.names import ExitStatus
from ravesvc.orchestrator import fleet as fleet_module
from ravesvc.orchestrator import workers as workers_module
from ravesvc.orchestrator.blocks import Blocks
from ravesvc.orchestrator.discovery import Census
from ravesvc.orchestrator.fleet import Fleet
from ravesvc.orchestrator.record import Record
from ravesvc.store import blocklist
from ravesvc.store.blocklist import Block, Reason
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
from tests.unit.test_mesh_object import SIGNALS, FakeWorker

Run = Callable[[Any], Any]


def listed(*meshes: str) -> list[Mesh]:
    return [Mesh(mesh, "localhost:1", "A film", True, (User(1, "Ann"),)) for mesh in meshes]


class Site:
    """A fleet with its surroundings. `shown` is every state and reason that was told of a mesh."""

    def __init__(self, bus: Bus, systemd: FakeSystemd, path: Path, limit: int | None = None) -> None:
        self.bus = bus
        self.systemd = systemd
        self.path = path
        self.now = 1000.0
        self.units = FakeUnits(systemd)
        self.census = Census()
        self.blocks = Blocks(path, 60.0, lambda: self.now)
        self.shown: list[tuple[str, str, str]] = []
        self.left: list[str] = []
        self.rave_answers = True
        self.watchers: list[Callable[[Record], None]] = []
        self.verified: dict[str, str] = {}
        self.children: dict[str, FakeWorker] = {}
        self.fleet = Fleet(
            bus=bus,
            units=self.units,  # type: ignore[arg-type]
            census=self.census,
            blocks=self.blocks,
            limit=limit,
            changed=self._changed,
            leave=self._leave,
            answers=self._answers,
        )
        self.fleet.workers._unit_of = self._unit_of  # type: ignore[method-assign]

    async def _unit_of(self, sender: str) -> str:
        return self.verified[sender]

    def _changed(self, record: Record) -> None:
        if record.mesh in self.fleet.records:
            self.shown.append((record.mesh, record.state, record.reason))
        for watcher in self.watchers:
            watcher(record)

    async def _leave(self, mesh: str) -> None:
        self.left.append(mesh)

    async def _answers(self) -> bool:
        await asyncio.sleep(0)
        return self.rave_answers

    def discover(self, *meshes: str) -> None:
        self.census.observe(listed(*meshes))
        self.fleet.reconcile()

    async def state(self, mesh: str, state: str) -> None:
        await until(lambda: mesh in self.fleet.records and self.fleet.records[mesh].state == state)

    async def idle(self) -> None:
        """Everything has been said, and nothing is being done."""
        await settle(self.systemd.bus, self.bus)
        await until(lambda: not self.fleet._tasks)
        await settle(self.systemd.bus, self.bus)
        assert not self.fleet._tasks

    def on_disk(self) -> dict[str, Block]:
        return {block.mesh: block for block in blocklist.load(self.path)}

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
        yield site
        await site.fleet.close()


def no_space(path: Path, _: blocklist.Blocklist) -> None:
    """In the place of `blocklist.save`."""
    raise RaveError(Code.BAD_FILE, f"{path} can't be written: No space left on device")


# Starting and stopping.


def test_what_is_listed_is_started_and_what_vanishes_is_stopped(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.discover(MESH, OTHER)
            assert {state for _, state, _ in site.shown} == {"stopped"}
            await site.idle()
            assert sorted(site.systemd.verbs) == sorted([("start", MESH), ("start", OTHER)])
            assert {record.state for record in site.fleet.records.values()} == {"disconnected"}
            assert site.fleet.records[MESH].unit.main_pid == 100
            for _ in range(3):
                site.discover(OTHER)
            await site.idle()
            assert site.systemd.verbs[2:] == [("stop", MESH)]
            assert site.fleet.records[MESH].state == "stopped"
            site.systemd.unload(MESH)
            await site.idle()
            site.watchers.append(lambda record: gone.append(record.mesh) if record.mesh == MESH else None)
            gone: list[str] = []
            site.fleet.reconcile()
            assert gone == [MESH]
            assert MESH not in site.fleet.records
            assert site.fleet.records.keys() == {OTHER}

    run(body())


def test_nothing_is_done_twice_at_the_same_time(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.systemd.held = True
            for _ in range(3):
                site.discover(MESH)
            await site.state(MESH, "starting")
            site.discover(MESH)
            site.systemd.finish(MESH)
            await site.idle()
            site.fleet.stop_mesh(MESH)
            site.fleet.stop_mesh(MESH)
            await site.state(MESH, "stopping")
            site.fleet.stop_mesh(MESH)
            site.systemd.finish(MESH)
            await site.idle()
            assert site.systemd.verbs == [("start", MESH), ("stop", MESH)]
            assert site.fleet.records[MESH].state == "blocked"

    run(body())


def test_so_many_start_at_once(run: Run, bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2 * (os.cpu_count() or 1) == fleet_module._STARTS_AT_ONCE
    monkeypatch.setattr(fleet_module, "_STARTS_AT_ONCE", 3)

    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
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

    run(body())


def test_no_more_run_than_the_limit(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path, limit=1) as site:
            await site.fleet.start()
            site.discover(MESH, OTHER)
            await site.idle()
            assert site.systemd.verbs == [("start", MESH)]
            assert [decision.action.value for decision in site.fleet.plan()] == ["keep", "skip"]

    run(body())


def test_a_verb_that_fails_is_told_and_tried_again_next_time(
    run: Run, bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.units.errors = [RaveError(Code.ACCESS_DENIED, "polkit says no", hint="ask it")]
            site.discover(MESH)
            await site.idle()
            assert site.fleet.records[MESH].worker.last_error == "polkit says no (ask it)"
            assert site.shown[-1] == (MESH, "stopped", "polkit says no (ask it)")
            assert f"Mesh {MESH}: polkit says no (ask it)" in caplog.text
            assert "Traceback" not in caplog.text
            site.discover(MESH)
            await site.idle()
            assert site.fleet.records[MESH].state == "disconnected"

    run(body())


def test_a_job_that_does_not_end_is_told(
    run: Run, bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "_JOB_TIMEOUT", 0.01)

    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.systemd.held = True
            site.discover(MESH)
            await until(lambda: "has not finished" in site.shown[-1][2])
            assert site.fleet.records[MESH].state == "starting"

    run(body())


def test_a_unit_that_is_dead_after_its_start_is_told(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.systemd.outcomes[MESH] = DEAD
            site.discover(MESH)
            await site.idle()
            unit = names.mesh_unit(MESH)
            assert site.shown[-1] == (MESH, "stopped", f"{unit} did not start (journalctl -u {unit})")
            assert site.systemd.verbs == [("start", MESH)], "not again and again"

    run(body())


def test_closing_ends_what_is_under_way_and_leaves_the_children_alone(
    run: Run, bus_address: str, tmp_path: Path
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.systemd.held = True
            site.discover(MESH)
            await site.state(MESH, "starting")
            site.discover(MESH, OTHER)  # of which nothing has begun yet
            await site.fleet.close()
            assert site.systemd.verbs == [("start", MESH)]
            assert not site.fleet._tasks

    run(body())


# An operator's word.


def test_stop_holds_a_mesh_until_start(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            site.fleet.stop_mesh(MESH)
            assert (site.on_disk()[MESH].reason, site.on_disk()[MESH].actor) == (Reason.HELD, "operator")
            await site.idle()
            assert site.shown[-1] == (MESH, "blocked", "it was stopped by an operator")
            site.discover(MESH)
            await site.idle()
            assert site.systemd.verbs == [("start", MESH), ("stop", MESH)]
            site.fleet.start_mesh(MESH)
            assert site.on_disk() == {}
            await site.idle()
            assert site.systemd.verbs[2:] == [("start", MESH)]
            assert site.fleet.records[MESH].state == "disconnected"
            site.fleet.start_mesh(MESH)  # without effect
            await site.idle()
            assert len(site.systemd.verbs) == 3

    run(body())


def test_a_mesh_wanted_again_while_it_stops_is_started_after_that(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            site.systemd.held = True
            site.fleet.stop_mesh(MESH)
            await site.state(MESH, "stopping")
            site.fleet.start_mesh(MESH)
            site.systemd.held = False
            site.systemd.finish(MESH)
            await site.idle()
            assert [verb for verb, _ in site.systemd.verbs] == ["start", "stop", "start"]
            assert site.fleet.records[MESH].state == "disconnected"

    run(body())


def test_a_mesh_stopped_while_it_starts_is_stopped_after_that(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.systemd.held = True
            site.discover(MESH)
            await site.state(MESH, "starting")
            site.fleet.stop_mesh(MESH)
            site.systemd.held = False
            site.systemd.finish(MESH)
            await site.idle()
            assert [verb for verb, _ in site.systemd.verbs] == ["start", "stop"]
            assert site.fleet.records[MESH].state == "blocked"

    run(body())


def test_start_and_stop_refuse_what_they_cannot_do(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            for verb in (site.fleet.start_mesh, site.fleet.stop_mesh):
                with pytest.raises(RaveError) as e:
                    verb(MESH)
                assert e.value.code is Code.NO_SUCH_MESH
            site.blocks.add(MESH, Reason.KICKED, "")
            site.discover(MESH)
            with pytest.raises(RaveError) as e:
                site.fleet.start_mesh(MESH)
            assert e.value.code is Code.BLOCKED
            site.fleet.stop_mesh(MESH)
            assert site.on_disk()[MESH].reason is Reason.KICKED, "a kick stays a kick"
            await site.idle()
            assert site.systemd.verbs == []

    run(body())


def test_a_start_beyond_the_limit_is_refused_with_the_reason(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path, limit=1) as site:
            await site.fleet.start()
            site.discover(MESH, OTHER)
            site.fleet.start_mesh(MESH)  # which is being started
            await site.idle()
            with pytest.raises(RaveError, match=r"max_processes \(1\) is reached") as e:
                site.fleet.start_mesh(OTHER)
            assert e.value.code is Code.BLOCKED
            site.fleet.start_mesh(MESH)  # which runs
            await site.idle()
            assert site.systemd.verbs == [("start", MESH)]

    run(body())


def test_a_word_that_cannot_be_saved_is_in_force_but_told(
    run: Run, bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            with monkeypatch.context() as broken:
                broken.setattr(blocklist, "save", no_space)
                with pytest.raises(RaveError) as e:
                    site.fleet.stop_mesh(MESH)
                assert e.value.code is Code.BAD_FILE
                await site.idle()
                assert site.fleet.records[MESH].state == "blocked"
                assert site.systemd.verbs == [("start", MESH), ("stop", MESH)]
                with pytest.raises(RaveError) as e:
                    site.fleet.start_mesh(MESH)
                assert e.value.code is Code.BAD_FILE
                await site.idle()
                assert site.fleet.records[MESH].state == "disconnected"
                site.fleet.start_mesh(MESH)  # nothing to save
            site.fleet.stop_mesh(MESH)
            assert site.on_disk()[MESH].reason is Reason.HELD
            await site.idle()

    run(body())


def test_reconnect_reaches_the_child(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
            with pytest.raises(RaveError) as e:
                await site.fleet.reconnect_mesh(MESH)
            assert e.value.code is Code.NOT_RUNNING
            child = await site.child(bus, MESH)
            await site.fleet.reconnect_mesh(MESH)
            assert child.restarts == 1

    run(body())


# Adoption.


def test_running_children_are_adopted_and_left_running(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site, connected(bus_address, 2) as (bus, silent):
            site.systemd.load(MESH, **RUNNING)
            site.systemd.load(OTHER, **RUNNING)
            child = await site.child(bus, MESH)
            site.verified[silent.unique_name] = names.mesh_unit(OTHER)
            await silent.request_name(names.worker_name(OTHER))
            child.status = {"Connected": ("b", True), "LastError": ("s", "")}
            await site.fleet.start()
            worker = site.fleet.records[MESH].worker
            assert worker.ready
            assert worker.connected
            assert worker.since > 0
            assert site.fleet.records[MESH].state == "connected"
            # One that does not answer keeps nobody else from being adopted.
            assert site.fleet.records[OTHER].state == "disconnected"
            child.emit("Disconnected", "the connection broke")
            await site.state(MESH, "disconnected")
            assert site.fleet.records[MESH].reason == "the connection broke"
            await site.idle()
            assert site.systemd.verbs == []

    run(body())


def test_a_child_that_is_slow_to_answer_holds_up_nothing(
    run: Run, bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fleet_module, "_ADOPTION_TIMEOUT", 0.05)

    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site, connected(bus_address, 2) as (bus, quick):
            for mesh, child_bus in ((MESH, bus), (OTHER, quick)):
                site.systemd.load(mesh, **RUNNING)
                child = await site.child(child_bus, mesh)
                child.status = {"Connected": ("b", True), "LastError": ("s", "")}
            child = site.children[MESH]
            child.gate.clear()
            async with asyncio.timeout(5):
                await site.fleet.start()
            assert "1 of 2 running meshes have answered" in caplog.text
            assert site.fleet.records[MESH].state == "disconnected"
            assert site.fleet.records[OTHER].state == "connected"
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

    with caplog.at_level(logging.INFO):
        run(body())


def test_a_child_that_did_not_answer_is_asked_again(
    run: Run, bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers_module, "_CALL_TIMEOUT", 0.05)

    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
            site.systemd.load(MESH, **RUNNING)
            child = await site.child(bus, MESH)
            child.status = {"Connected": ("b", True), "LastError": ("s", "a small\ntrouble" + "!" * 300)}
            child.gate.clear()
            await site.fleet.start()
            assert f"The running child of mesh {MESH} does not answer" in caplog.text
            assert site.fleet.records[MESH].state == "disconnected"
            child.gate.set()
            monkeypatch.setattr(workers_module, "_CALL_TIMEOUT", 10.0)
            site.discover(MESH)
            await until(lambda: site.shown[-1] == (MESH, "connected", ""))
            last_error = site.fleet.records[MESH].worker.last_error
            assert last_error == ("a small?trouble" + "!" * 300)[:300]
            assert child.asked == 2

    run(body())


def test_before_the_first_good_round_what_runs_goes_on_but_a_hold_holds(
    run: Run, bus_address: str, tmp_path: Path
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            site.systemd.load(MESH, **RUNNING)
            site.systemd.load(OTHER, **RUNNING)
            await site.fleet.start()
            site.fleet.stop_mesh(OTHER)
            await site.idle()
            assert site.systemd.verbs == [("stop", OTHER)]

    run(body())


# What is learnt.


def test_a_kick_is_on_disk_before_anybody_sees_it(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            child = await site.child(bus, MESH)
            child.emit("Connected")
            await site.state(MESH, "connected")
            seen: list[bool] = []
            site.watchers.append(lambda record: seen.append(MESH in site.on_disk()) if record.block else None)
            child.emit("Kicked")
            await site.state(MESH, "disconnected")
            # By the signal alone, with the process still there.
            assert site.on_disk()[MESH].reason is Reason.KICKED
            assert site.on_disk()[MESH].until is None
            assert site.shown[-1] == (MESH, "disconnected", "the bot was kicked")
            assert seen
            assert all(seen)
            order: list[str] = []
            site.systemd.reset_failed = lambda mesh: order.append(str(site.on_disk()))  # type: ignore[method-assign]
            site.systemd.change(MESH, **ended(ExitStatus.KICKED))
            await until(lambda: site.left)
            assert len(order) == 1
            assert site.left == [MESH]
            await site.idle()
            assert site.fleet.records[MESH].state == "blocked"

    run(body())


def test_a_kick_is_learnt_from_the_exit_status_alone_saved_then_reset_then_left(
    run: Run, bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            site.systemd.load(MESH, **ended(ExitStatus.KICKED))
            order: list[tuple[str, bool]] = []
            real = site.systemd.reset_failed

            def reset(mesh: str) -> None:
                order.append(("reset", MESH in site.on_disk()))
                real(mesh)

            site.systemd.reset_failed = reset  # type: ignore[method-assign]
            site.watchers.append(
                lambda record: order.append(("shown", MESH in site.on_disk())) if record.block else None
            )
            await site.fleet.start()
            await until(lambda: site.left)
            await site.idle()
            assert order[0] == ("shown", True)
            assert [each for each in order if each[0] == "reset"] == [("reset", True)], "once"
            assert site.left == [MESH]
            assert caplog.text.count(f"Mesh {MESH} is blocked: the bot was kicked") == 1
            site.discover(MESH)
            await site.idle()
            assert site.systemd.verbs == [("reset-failed", MESH)], "it stays out"

    run(body())


def test_a_kick_that_cannot_be_saved_leaves_the_failed_unit(
    run: Run, bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saves = []

    def refuse(path: Path, blocks: blocklist.Blocklist) -> None:
        saves.append(path)
        no_space(path, blocks)

    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            with monkeypatch.context() as broken:
                broken.setattr(blocklist, "save", refuse)
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

    run(body())
    assert "No space left on device" in caplog.text


def test_a_kick_that_is_told_again_and_again_is_saved_once(
    run: Run, bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[Path] = []
    real = blocklist.save

    def save(path: Path, blocks: blocklist.Blocklist) -> None:
        saves.append(path)
        real(path, blocks)

    monkeypatch.setattr(blocklist, "save", save)

    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            child = await site.child(bus, MESH)
            site.blocks.add(MESH, Reason.REJECTED, "")  # a lesser block does not stand in for a kick
            saves.clear()
            for _ in range(5):
                child.emit("Kicked")
            child.emit("Boo")
            await settle(bus, site.bus)
            await site.idle()
            assert site.on_disk()[MESH].reason is Reason.KICKED
            assert len(saves) == 1

    run(body())


def test_a_reset_that_fails_is_told_and_waits_for_the_next_round(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            site.units.errors = [RaveError(Code.UNIT, "systemd is busy")] * 2
            site.systemd.load(MESH, **ended(ExitStatus.REJECTED))
            await site.fleet.start()
            await site.idle()
            assert site.fleet.records[MESH].worker.last_error == "systemd is busy"
            assert len(site.units.errors) == 1
            assert site.on_disk()[MESH].reason is Reason.REJECTED
            site.discover(MESH)
            await site.idle()
            site.discover(MESH)
            await site.idle()
            assert site.systemd.verbs == [("reset-failed", MESH)]

    run(body())


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (ended(ExitStatus.LEFT), Reason.LEFT),
        (ended(ExitStatus.UNREACHABLE), Reason.CONNECTION_FAILURES),
        (ended(ExitStatus.REJECTED), Reason.REJECTED),
        (ended(ExitStatus.CRASHED), Reason.CRASHES),
        (ended(9, code=2), Reason.CRASHES),
    ],
)
def test_other_ends_block_for_a_while(
    run: Run, bus_address: str, tmp_path: Path, how: dict[str, Any], reason: Reason
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            site.systemd.change(MESH, **how)
            await site.state(MESH, "blocked")
            await site.idle()
            block = site.on_disk()[MESH]
            assert (block.reason, block.since, block.until) == (reason, 1_000_000, 1_060_000)
            assert site.left == []
            assert (MESH in (site.census.meshes or {})) is not (reason is Reason.LEFT)
            site.discover(MESH)
            await site.idle()
            assert site.systemd.verbs == [("start", MESH), ("reset-failed", MESH)]
            site.now += 61
            site.discover(MESH)
            await site.idle()
            assert site.systemd.verbs[2:] == [("start", MESH)]
            assert site.on_disk() == {}

    run(body())


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (ended(ExitStatus.LOGIN_NEEDED), "Rave wants a new login"),
        (ended(ExitStatus.CONFIG), "could not use its settings"),
        (ended(243), "was not given settings and session"),
        ({**ended(0), "Result": "start-limit-hit", "NRestarts": 0}, "started by hand too often"),
        (ended(ExitStatus.UNREACHABLE), "Rave does not answer"),
    ],
    ids=["login", "config", "credentials", "start-limit", "rave"],
)
def test_what_is_no_fault_of_a_mesh_blocks_nothing(
    run: Run, bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: dict[str, Any], words: str
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            site.rave_answers = False
            site.systemd.change(MESH, **how)
            await until(lambda: ("reset-failed", MESH) in site.systemd.verbs)
            await site.idle()
            assert site.blocks.in_force() == {}
            assert site.shown[-1][:2] == (MESH, "stopped")
            assert words in site.shown[-1][2]
            assert words in caplog.text
            site.discover(MESH)
            await site.idle()
            assert site.systemd.verbs == [("start", MESH), ("reset-failed", MESH), ("start", MESH)]

    run(body())


def test_of_an_unreachable_mesh_nothing_is_decided_before_rave_is_asked(
    run: Run, bus_address: str, tmp_path: Path
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            site.fleet._answers = lambda: answer  # type: ignore[assignment]
            site.systemd.change(MESH, **ended(ExitStatus.UNREACHABLE))
            await site.state(MESH, "failed")
            site.discover(MESH)
            await settle(site.systemd.bus, site.bus)
            assert site.blocks.in_force() == {}
            assert site.systemd.verbs == [("start", MESH)]
            answer.set_result(True)
            await site.state(MESH, "blocked")
            await site.idle()
            assert site.on_disk()[MESH].reason is Reason.CONNECTION_FAILURES
            assert site.systemd.verbs == [("start", MESH), ("reset-failed", MESH)]

    run(body())


def test_a_mesh_that_was_gone_is_joined_as_soon_as_rave_lists_it_again(
    run: Run, bus_address: str, tmp_path: Path
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.discover(MESH, OTHER)
            await site.idle()
            site.systemd.change(MESH, **ended(ExitStatus.GONE))
            await site.state(MESH, "blocked")
            await site.idle()
            block = site.on_disk()[MESH]
            assert (block.reason, block.since, block.until) == (Reason.GONE, 1_000_000, 1_060_000)
            assert site.census.meshes
            assert MESH not in site.census.meshes
            del site.systemd.verbs[:]
            # What is done with others says nothing of it.
            site.fleet.stop_mesh(OTHER)
            site.fleet.start_mesh(OTHER)
            site.discover(OTHER)
            await site.idle()
            assert site.fleet.records[MESH].state == "blocked"
            assert site.on_disk().keys() == {MESH}
            site.discover(MESH, OTHER)
            assert site.on_disk() == {}
            await site.idle()
            assert ("start", MESH) in site.systemd.verbs
            assert site.fleet.records[MESH].state == "disconnected"

    run(body())


def test_a_start_that_ends_in_a_failure_is_learnt_from(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.systemd.outcomes[MESH] = ended(ExitStatus.REJECTED)
            site.discover(MESH)
            await site.state(MESH, "blocked")
            await site.idle()
            assert site.systemd.verbs == [("start", MESH), ("reset-failed", MESH)]
            assert site.on_disk()[MESH].reason is Reason.REJECTED

    run(body())


def test_an_automatic_restart_is_no_failure(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site:
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            crash = ended(9, code=2)
            site.systemd.change(MESH, **{**crash, "SubState": "failed-before-auto-restart"})
            site.systemd.change(MESH, ActiveState="activating", SubState="auto-restart", NRestarts=1)
            await until(lambda: site.fleet.records[MESH].unit.n_restarts == 1)
            assert site.fleet.records[MESH].state == "restarting"
            site.discover(MESH)
            site.systemd.change(MESH, **{**RUNNING, "MainPID": 101})
            await site.idle()
            assert site.systemd.verbs == [("start", MESH)]
            assert site.blocks.in_force() == {}

    run(body())


# What the children say.


def test_what_a_child_says_is_shown(
    run: Run, bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            child = await site.child(bus, MESH)

            async def say(signal: str, *args: Any) -> Record:
                before = len(site.shown)
                child.emit(signal, *args)
                await until(lambda: len(site.shown) > before)
                return site.fleet.records[MESH]

            assert (await say("Ready")).worker.ready
            assert (await say("ConnectionFailed", 2, "no route")).reason == "no route"
            record = await say("Connected")
            assert (record.state, record.reason, record.worker.last_error) == ("connected", "", "")
            since = record.worker.since
            assert since > 1_600_000_000
            assert (await say("Error", "a small trouble")).state == "connected"
            assert record.worker.last_error == "a small trouble"
            assert (await say("Disconnected", "the connection broke")).reason == "the connection broke"
            assert record.worker.since >= since
            assert (await say("Left", "the mesh is gone")).reason == "the mesh is gone"
            assert site.blocks.in_force() == {}, "its exit status will tell"
            await say("Boo")
            assert f"Mesh {MESH} sent an unknown signal Boo" in caplog.text

    assert SIGNALS.keys() >= {"Ready", "ConnectionFailed", "Connected", "Error", "Disconnected", "Left", "Kicked"}
    with caplog.at_level(logging.INFO):
        run(body())


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
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            child = await site.child(bus, MESH)
            child.emit(signal, *before, "\033[2J\nREADY=1 " + "x" * 400)
            await until(lambda: site.fleet.records[MESH].worker.last_error)
            said = site.fleet.records[MESH].worker.last_error
            assert said == ("?[2J?READY=1 " + "x" * 400)[:300]
            assert site.shown[-1] == (MESH, "disconnected", said)

    with caplog.at_level(logging.INFO):
        run(body())
    assert "\033" not in caplog.text
    assert "x" * 300 not in caplog.text


def test_the_words_of_a_child_end_with_it_but_for_its_last_error(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            child = await site.child(bus, MESH)
            child.emit("Connected")
            child.emit("Error", "a small trouble")
            await until(lambda: site.fleet.records[MESH].worker.last_error)
            site.systemd.change(MESH, MainPID=101)
            await until(lambda: site.fleet.records[MESH].unit.main_pid == 101)
            assert site.shown[-1] == (MESH, "disconnected", "a small trouble")
            assert not site.fleet.records[MESH].worker.ready

    run(body())


def test_the_first_words_of_a_child_may_come_before_the_news_of_its_process(
    run: Run, bus_address: str, tmp_path: Path
) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
            await site.fleet.start()
            site.systemd.held = True
            site.discover(MESH)
            await site.state(MESH, "starting")
            child = await site.child(bus, MESH)
            child.emit("Ready")
            child.emit("Connected")
            await until(lambda: site.fleet.records[MESH].worker.connected)
            site.systemd.finish(MESH)
            await site.state(MESH, "connected")

    run(body())


def test_a_stranger_says_nothing(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
            await site.fleet.start()
            site.discover(MESH)
            await site.idle()
            child = await site.child(bus, MESH)
            site.verified[bus.unique_name] = "session-1.scope"
            child.emit("Kicked")
            await settle(bus, site.bus)
            assert site.blocks.in_force() == {}
            assert site.fleet.records[MESH].state == "disconnected"

    run(body())
