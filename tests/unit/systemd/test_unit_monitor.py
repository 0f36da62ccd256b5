from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.errors import Code, RaveError
from ravesvc.systemd import unit_monitor as watch_module
from ravesvc.systemd.unit_monitor import UnitMonitor
from ravesvc.systemd.unit_state import UnitState
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until
from tests.unit.fake_systemd import MESH, OTHER, ROOT, RUNNING, FakeSystemd, ended, new_mesh, settle, systemd_on


class Watching:
    """A watch on a fake systemd; `told` is what it told."""

    def __init__(self, bus: Bus, systemd: FakeSystemd) -> None:
        self.bus = bus
        self.systemd = systemd
        self.told: list[tuple[str, UnitState]] = []
        self.watch = UnitMonitor(bus, lambda mesh, _, state: self.told.append((mesh, state)))

    async def settle(self) -> None:
        await settle(self.systemd.bus, self.bus)

    def interfere(self, moment: str, interference: Callable[[], Any]) -> None:
        """Once, right after the reply to a call with `moment` as its member or last argument, something happens."""
        real = self.bus.call
        waiting = [interference]

        async def call(*args: Any, **named: Any) -> list[Any]:
            reply = await real(*args, **named)
            if moment in (args[3], args[-1]) and waiting:
                waiting.pop()()
                await self.settle()
            return reply

        self.bus.call = call  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def watching(address: str) -> AsyncIterator[Watching]:
    async with systemd_on(address) as systemd, connected(address) as (bus,):
        here = Watching(bus, systemd)
        yield here
        await here.watch.close()


async def test_it_subscribes_before_it_lists_and_knows_what_is_loaded(bus_address: str) -> None:
    async with watching(bus_address) as here:
        here.systemd.load(MESH, **RUNNING, NRestarts=2)
        times = {"ExecMainExitTimestampMonotonic": 7, "InactiveExitTimestampMonotonic": 5}
        here.systemd.load(OTHER, **ended(80), **times)
        await here.watch.start()
        assert here.systemd.asked == ["Subscribe", "ListUnitsByPatterns"]
        assert here.watch.state(MESH) == UnitState(active="active", sub="running", main_pid=100, n_restarts=2)
        assert here.watch.states[OTHER] == UnitState(
            active="failed",
            sub="failed",
            result="exit-code",
            exec_main_code=1,
            exec_main_status=80,
            exec_main_exit_timestamp_monotonic=7,
            inactive_exit_timestamp_monotonic=5,
        )
        assert here.watch.state(new_mesh()) == UnitState()
        assert {mesh for mesh, _ in here.told} == {MESH, OTHER}
        assert len(here.told) == 2


async def test_changes_are_told_as_they_happen_and_repetitions_are_not(bus_address: str) -> None:
    async with watching(bus_address) as here:
        await here.watch.start()
        here.systemd.load(MESH)
        here.systemd.change(MESH, **RUNNING)
        await until(lambda: here.watch.state(MESH).active == "active")
        # Each change comes as two signals, one for the service and one for the unit.
        assert here.told[0] == (MESH, UnitState(main_pid=100))
        assert here.told[1] == (MESH, UnitState(active="active", sub="running", main_pid=100))
        here.systemd.bus.unexport(here.systemd.path(MESH))
        here.systemd.load(MESH)
        here.systemd.change(MESH, **RUNNING)
        await here.settle()
        assert len(here.told) == 2


@pytest.mark.parametrize(
    ("active", "sub"),
    [
        ("failed", "failed-before-auto-restart"),
        ("inactive", "dead-before-auto-restart"),
        ("activating", "auto-restart"),
        ("activating", "auto-restart-queued"),
    ],
)
async def test_on_its_way_to_a_restart_a_unit_runs_and_has_not_failed(
    bus_address: str, active: str, sub: str
) -> None:
    async with watching(bus_address) as here:
        here.systemd.load(MESH, **RUNNING)
        await here.watch.start()
        here.systemd.change(MESH, **{**ended(9, code=2), "ActiveState": active, "SubState": sub})
        await until(lambda: here.watch.state(MESH).active == active and here.watch.state(MESH).main_pid == 0)
        assert not any(state.failed for _, state in here.told)
        assert here.watch.state(MESH).running
        assert here.watch.state(MESH).restarting
        here.systemd.change(MESH, **ended(9, code=2))
        await until(lambda: here.watch.state(MESH).failed)
        assert not here.watch.state(MESH).running


async def test_a_failure_is_told_only_with_its_exit_status(bus_address: str) -> None:
    async with watching(bus_address) as here:
        here.systemd.load(MESH, **RUNNING)
        await here.watch.start()
        here.systemd.change(MESH, **ended(80))
        await until(lambda: here.watch.state(MESH).failed)
        assert {state.exec_main_status for _, state in here.told if state.failed} == {80}


@pytest.mark.slow
async def test_a_process_that_tells_systemd_something_all_the_time_is_suspect(bus_address: str) -> None:
    async with watching(bus_address) as here:
        here.systemd.load(MESH, **RUNNING)
        here.systemd.load(OTHER, **RUNNING)
        await here.watch.start()
        for number in range(150):
            here.systemd.change(MESH, StatusText=f"{number}")
        await here.settle()
        assert here.watch.state(MESH).suspect == "", "as many at once are no fault"
        for number in range(150):
            here.systemd.change(MESH, StatusText=f"again {number}")
        await here.settle()
        # On a slow machine the last of them may have found a token again.
        assert (MESH, "tells systemd more than any of ours") in [(mesh, unit.suspect) for mesh, unit in here.told]
        assert here.watch.state(OTHER).suspect == ""
        here.systemd.change(MESH, MainPID=102, StatusText="")
        await here.settle()
        assert here.watch.state(MESH).suspect == "", "another process begins anew"


@pytest.mark.slow
async def test_jobs_that_others_ask_for_are_no_fault_of_a_process(bus_address: str) -> None:
    async with watching(bus_address) as here:
        here.systemd.load(MESH, **RUNNING)
        await here.watch.start()
        for number in range(100):
            for job in ([number + 1, f"/job/{number}"], [0, "/"]):
                here.systemd.change(MESH, Job=job)
                here.systemd.change(MESH, NRestarts=2 * number + bool(job[0]))
            here.systemd.emit("JobRemoved", number, f"/job/{number}", names.mesh_unit(MESH), "done")
        await here.settle()
        assert here.watch.state(MESH).suspect == "", "such as systemctl start in a loop"


async def test_other_units_and_odd_names_do_not_matter(bus_address: str) -> None:
    async with watching(bus_address) as here:
        await here.watch.start()
        for unit in ("cron.service", "rave-mesh@odd.service", "rave-mesh@.service"):
            here.systemd.path = lambda _, unit=unit: f"{ROOT}/unit/{names.escape(unit)}"  # type: ignore[method-assign]
            here.systemd.load(MESH)
            here.systemd.change(MESH, **RUNNING)
            here.systemd.unload(MESH)
            here.systemd.emit("UnitRemoved", unit, "/")
            here.systemd.emit("JobRemoved", 1, "/job", unit, "done")
        await here.settle()
        assert here.told == []
        assert here.watch.states == {}


async def test_nobody_but_systemd_is_believed(bus_address: str) -> None:
    async with watching(bus_address) as here, connected(bus_address) as (stranger,):
        here.systemd.load(MESH, **RUNNING)
        await here.watch.start()
        forger = FakeSystemd(stranger)
        stranger.export(ROOT, forger)
        forger.load(MESH, **RUNNING)
        forger.change(MESH, **ended(80))
        forger.unload(MESH)
        forger.emit("Reloading", True)
        forger.emit("JobRemoved", 1, "/job", names.mesh_unit(MESH), "done")
        await settle(stranger, here.bus)
        assert len(here.told) == 1
        assert here.watch.state(MESH).active == "active"
        with pytest.raises(RaveError) as e:
            await here.watch.job("/job", MESH, 0.01)
        assert e.value.code is Code.TIMEOUT


async def test_a_unit_that_is_collected_is_as_if_it_had_never_been(bus_address: str) -> None:
    async with watching(bus_address) as here:
        here.systemd.load(MESH, **RUNNING)
        await here.watch.start()
        here.systemd.unload(MESH)
        await until(lambda: not here.watch.states)
        assert here.told[-1] == (MESH, UnitState())


async def test_a_reload_of_systemd_ends_nothing_and_is_followed_by_a_new_list(bus_address: str) -> None:
    async with watching(bus_address) as here:
        here.systemd.load(MESH, **RUNNING)
        here.systemd.load(OTHER, **RUNNING)
        await here.watch.start()
        here.told.clear()
        here.systemd.emit("Reloading", True)
        here.systemd.unload(MESH)
        here.systemd.unload(OTHER)
        await here.settle()
        assert here.told == []
        assert here.watch.states.keys() == {MESH, OTHER}
        # What happens during the reload is seen after it, also without a signal.
        here.systemd.load(MESH, **ended(83))
        here.systemd.emit("Reloading", False)
        await until(lambda: OTHER not in here.watch.states)
        assert here.watch.state(MESH).exec_main_status == 83
        assert here.watch.state(MESH).failed
        assert {mesh: state.active for mesh, state in here.told} == {MESH: "failed", OTHER: "inactive"}
        here.systemd.unload(MESH)
        await until(lambda: not here.watch.states)


async def test_a_reload_during_the_list_after_a_reload_is_followed_by_another_list(bus_address: str) -> None:
    async with watching(bus_address) as here:
        await here.watch.start()

        def reload_again() -> None:
            here.systemd.emit("Reloading", True)
            here.systemd.load(MESH, **RUNNING)
            here.systemd.emit("Reloading", False)

        here.interfere("ListUnitsByPatterns", reload_again)
        here.systemd.emit("Reloading", False)
        await until(lambda: here.watch.state(MESH).active == "active")
        await here.settle()
        assert here.systemd.asked.count("ListUnitsByPatterns") == 3


async def test_a_list_that_fails_after_a_reload_is_reported(
    bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with watching(bus_address) as here:
            await here.watch.start()

            async def broken(*args: Any, **named: Any) -> list[Any]:
                raise RaveError(Code.BUS, "no answer")

            here.bus.call = broken  # type: ignore[method-assign]
            here.systemd.emit("Reloading", False)
            await until(lambda: "could not be listed again after a reload of systemd: no answer" in caplog.text)
            del here.bus.call


# What is read while signals arrive.


@pytest.mark.parametrize("moment", ["ListUnitsByPatterns", "MainPID", "ExecMainStatus"])
@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
async def test_a_list_that_was_overtaken_by_a_signal_is_dropped(bus_address: str, moment: str, known: bool) -> None:
    async with watching(bus_address) as here:
        if known:
            here.systemd.load(MESH, **RUNNING)
        await here.watch.start()
        if not known:
            here.systemd.load(MESH, **RUNNING)
        here.interfere(moment, lambda: here.systemd.change(MESH, **ended(80)))
        await here.watch.relist()
        assert here.watch.state(MESH).failed
        assert here.watch.state(MESH).exec_main_status == 80
        assert [state.active for _, state in here.told].count("failed") == 1


async def test_a_unit_that_ends_and_is_collected_during_the_list_does_not_come_back(bus_address: str) -> None:
    async with watching(bus_address) as here:
        await here.watch.start()
        here.systemd.load(MESH, **RUNNING)

        def end() -> None:
            here.systemd.change(MESH, ActiveState="inactive", SubState="dead", MainPID=0)

        here.interfere("ListUnitsByPatterns", end)
        await here.watch.relist()
        assert here.watch.states == {}


async def test_a_unit_that_is_loaded_during_the_list_stays(bus_address: str) -> None:
    async with watching(bus_address) as here:
        here.systemd.load(OTHER)
        await here.watch.start()

        def begin() -> None:
            here.systemd.load(MESH)
            here.systemd.change(MESH, **RUNNING)

        here.interfere("ListUnitsByPatterns", begin)
        await here.watch.relist()
        assert here.watch.state(MESH).active == "active"


@pytest.mark.parametrize("moment", ["LoadUnit", "ActiveState", "SubState", "NRestarts"])
async def test_the_look_after_a_job_that_was_overtaken_by_a_signal_is_dropped(bus_address: str, moment: str) -> None:
    async with watching(bus_address) as here:
        await here.watch.start()
        job = here.systemd.start(MESH)
        here.interfere(moment, lambda: here.systemd.change(MESH, **ended(82)))
        assert await here.watch.job(job, MESH, 5) == "done"
        state = here.watch.state(MESH)
        assert (state.active, state.sub, state.exec_main_status, state.main_pid) == ("failed", "failed", 82, 0)


# Jobs.


async def test_a_job_is_awaited_and_its_unit_read_afterwards(bus_address: str) -> None:
    async with watching(bus_address) as here:
        await here.watch.start()
        here.systemd.jobs_wait = True
        waiting = asyncio.create_task(here.watch.job(here.systemd.start(MESH), MESH, 5))
        await until(lambda: here.watch.state(MESH).active == "activating")
        await here.settle()
        assert not waiting.done()
        # Neither the change nor the job's result is trusted: "done" comes with a unit that has failed since.
        here.interfere("LoadUnit", lambda: here.systemd._set(MESH, ended(1)))
        here.systemd.finish(MESH, "done")
        assert await waiting == "done"
        assert here.watch.state(MESH).failed


async def test_a_job_that_ended_before_anybody_asked_is_not_waited_for(bus_address: str) -> None:
    async with watching(bus_address) as here:
        await here.watch.start()
        job = here.systemd.start(MESH)
        await until(lambda: here.watch.state(MESH).active == "active")
        await here.settle()
        assert await here.watch.job(job, MESH, 0) == "done"
        assert here.watch.state(MESH).main_pid == 100
        with pytest.raises(RaveError):
            # A path is used once: the next manager counts from 1 again.
            await here.watch.job(job, MESH, 0)


async def test_several_may_wait_for_one_job(bus_address: str) -> None:
    async with watching(bus_address) as here:
        await here.watch.start()
        here.systemd.jobs_wait = True
        job = here.systemd.start(MESH)
        waiting = [asyncio.create_task(here.watch.job(job, MESH, 5)) for _ in range(2)]
        await here.settle()
        here.systemd.finish(MESH, "canceled")
        assert await asyncio.gather(*waiting) == ["canceled", "canceled"]


async def test_the_results_that_nobody_asked_for_are_bounded(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "_MAX_ENDED_JOBS", 3)

    async with watching(bus_address) as here:
        await here.watch.start()
        for number in range(5):
            here.systemd.emit("JobRemoved", number, f"/job/{number}", names.mesh_unit(MESH), "done")
        await here.settle()
        assert list(here.watch._ended) == ["/job/2", "/job/3", "/job/4"]


async def test_a_job_that_does_not_end_is_given_up(bus_address: str) -> None:
    async with watching(bus_address) as here:
        await here.watch.start()
        here.systemd.jobs_wait = True
        job = here.systemd.start(MESH)
        with pytest.raises(RaveError) as e:
            await here.watch.job(job, MESH, 0.01)
        assert e.value.code is Code.TIMEOUT
        assert str(e.value) == f"systemd has not finished with rave-mesh@{MESH}.service after 0.01 s"
        assert e.value.attributes["mesh"] == MESH
        here.systemd.finish(MESH)
        await here.settle()
        await here.watch.job(job, MESH, 0)
        assert here.watch.state(MESH).active == "active"


async def test_without_systemd_there_is_nothing_to_watch(bus_address: str) -> None:
    async with connected(bus_address) as (bus,):
        with pytest.raises(RaveError) as e:
            await UnitMonitor(bus, lambda mesh, before, after: None).start()
        assert e.value.code is Code.BUS


async def test_the_job_of_a_unit_is_known_and_what_it_does(bus_address: str) -> None:
    async with watching(bus_address) as here:
        here.systemd.jobs_wait = True
        here.systemd.load(OTHER, **RUNNING)
        listed = here.systemd.stop(OTHER)
        await here.watch.start()
        assert here.watch.state(OTHER).job == listed
        assert await here.watch.job_type(listed) == "stop"
        job = here.systemd.start(MESH)
        await until(lambda: here.watch.state(MESH).job == job)
        assert await here.watch.job_type(job) == "start"
        here.systemd.finish(MESH)
        await until(lambda: here.watch.state(MESH).job == "/")
        assert await here.watch.job_type(job) == "", "it is over"


async def test_whether_everything_is_being_stopped(bus_address: str) -> None:
    async with watching(bus_address) as here:
        await here.watch.start()
        assert await here.watch.draining() is False
        here.systemd.start(MESH)
        assert await here.watch.draining() is False
        assert here.watch.drained_lately is False
        # It was, and is up again already.
        here.systemd.move_target()
        assert await here.watch.draining() is False
        assert here.watch.drained_lately is True
        here.watch._target_job_at -= 5
        assert here.watch.drained_lately is False
        here.systemd.target.set(Job=[7, f"{ROOT}/job/7"])
        assert await here.watch.draining() is True
        here.systemd.target.set(Job=[0, "/"], ActiveState="deactivating")
        assert await here.watch.draining() is True
