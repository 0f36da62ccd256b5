"""What is done with units by hand, and bots that have to be killed: a SystemdRunner under a reconciler."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ravesvc import names
from ravesvc.blocklist.model import Reason, What
from ravesvc.common.log_fields import LogEvent
from ravesvc.core.exit_policy import ExitVerdict
from ravesvc.core.run_state import RunEnd
from ravesvc.core.steps import MeshStep
from ravesvc.errors import Code, RaveError
from ravesvc.names import ExitStatus
from ravesvc.orchestrator import systemd_runner as systemd_runner_module
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until
from tests.unit.core.reconciler_site import OWN, Run, site_on, with_users
from tests.unit.fake_systemd import (
    DEAD,
    MESH,
    OTHER,
    RUNNING,
    ended,
    settle,
)
from tests.unit.mesh.test_worker_object import FakeWorker


async def test_a_job_that_does_not_end_is_told(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd_runner_module, "_JOB_TIMEOUT_S", 0.01)

    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.systemd.jobs_wait = True
        site.discover(MESH)
        await until(lambda: "has not finished" in site.shown[-1][2])
        assert site.reconciler.records[MESH].state == "starting"


@pytest.mark.parametrize("answer", [[], ["x", 1], [[[1]], 1], [[["1", "x"]], 1], [[[1, 2]], 1]])
async def test_a_bot_that_says_something_else_than_its_users(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: list[Any]
) -> None:
    async def call(*_: object) -> list[Any]:
        return answer

    async with site_on(bus_address, tmp_path) as site:
        monkeypatch.setattr(site.runner.workers, "call", call)
        with pytest.raises(RaveError, match="has not answered with its users") as e:
            await site.reconciler.users(MESH)
        assert e.value.code is Code.BAD_DATA


async def test_a_bot_of_a_program_that_can_not_log_more(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.bot(bus, MESH)
        monkeypatch.delitem(FakeWorker.methods, "SetDebug")
        with pytest.raises(RaveError, match="runs an older program") as e:
            await site.reconciler.set_debug(MESH, True)
        assert e.value.hint == "ravectl roll replaces it"
        assert MESH not in site.reconciler.records, "nothing is noted"


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


async def test_a_stranger_says_nothing(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        bot = await site.bot(bus, MESH)
        site.verified[bus.unique_name] = "session-1.scope"
        bot.emit("Kicked")
        await settle(bus, site.bus)
        assert site.blocklist.in_force() == {}
        assert site.reconciler.records[MESH].state == "disconnected"


async def test_a_unit_stopped_by_hand_is_held_until_somebody_starts_it(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.jobs_wait = True
        site.systemd.stop(MESH)
        await site.state(MESH, "stopping")
        await until(lambda: MESH in site.on_disk())
        site.systemd.finish(MESH)
        await site.state(MESH, "held")
        block = site.on_disk()[MESH]
        assert (block.reason, block.until, block.actor) == (Reason.HELD, None, "systemctl")
        site.systemd.jobs_wait = False
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


async def test_a_unit_started_by_hand_while_its_end_is_examined_runs_on(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examined = asyncio.Event()
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        apply = site.reconciler._exit_policy.apply

        async def wait_and_apply(mesh: str, end: RunEnd) -> ExitVerdict:
            await examined.wait()
            return await apply(mesh, end)

        monkeypatch.setattr(site.reconciler._exit_policy, "apply", wait_and_apply)
        await site.reconciler.stop_mesh(MESH, "alice")
        await site.state(MESH, "held")
        await site.idle()
        site.systemd.change(MESH, **{**ended(ExitStatus.CRASHED), "Result": "timeout"})
        await until(lambda: site.reconciler._steps[MESH] is MeshStep.EXAMINING)
        site.systemd.start(MESH)
        await site.state(MESH, "disconnected")
        examined.set()
        await site.idle()
        assert site.on_disk() == {}
        assert site.reconciler.records[MESH].run.runs


async def test_a_bot_that_says_it_stops_and_goes_on_is_held_when_it_is_stopped_by_hand(
    bus_address: str, tmp_path: Path
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.change(MESH, ActiveState="deactivating", SubState="stop-sigterm")
        await site.state(MESH, "stopping")
        await site.idle()
        assert site.on_disk() == {}
        site.systemd.jobs_wait = True
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
        site.systemd.jobs_wait = True
        site.systemd.restart(MESH)
        await site.state(MESH, "stopping")
        await site.idle()
        site.systemd.jobs_wait = False
        site.systemd.finish(MESH)
        await until(lambda: site.reconciler.records[MESH].run.process == 101)
        await site.idle()
        assert site.blocklist.in_force() == {}


async def test_a_restart_by_hand_that_systemd_refuses_is_no_hold(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        refused = {"ActiveState": "failed", "SubState": "failed", "Result": "start-limit-hit", "MainPID": 0}
        site.systemd.outcomes[MESH] = refused
        site.systemd.jobs_wait = True
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
        site.systemd.jobs_wait = True
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
        site.systemd.jobs_wait = True
        site.discover(MESH)
        await site.state(MESH, "starting")
        if verb:
            site.systemd.order_parent(verb)
        await site.reconciler.close()
        assert site.systemd.verbs[1:] == verbs
        site.systemd.parent.set(Job=[0, "/"])  # for the end of the test, which closes once more


async def test_all_bots_are_stopped_together_and_waited_for(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        for mesh in (MESH, OTHER):
            site.systemd.load(mesh, **RUNNING)
        await site.begin(MESH, OTHER)
        stopped = asyncio.create_task(site.runner.stop_all())
        await until(lambda: ("stop", names.TARGET_UNIT) in site.systemd.verbs)
        site.systemd.change(MESH, **DEAD)
        site.systemd.change(OTHER, ActiveState="deactivating", SubState="stop-sigterm")
        await site.idle()
        assert not stopped.done()
        site.systemd.change(OTHER, **DEAD)
        assert await stopped
        assert await site.runner.stop_all(), "there is none any more"


async def test_bots_that_do_not_stop_are_waited_for_no_longer_than_their_kill_takes(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        monkeypatch.setattr(site.runner, "_stop_all_timeout_s", 0.01)
        site.systemd.load(MESH, **RUNNING)
        await site.begin(MESH)
        assert not await site.runner.stop_all()


async def test_what_systemd_does_not_tell_is_said_and_changes_nothing(
    bus_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)

        async def silent() -> bool:
            raise RaveError(Code.TIMEOUT, "no answer")

        site.runner._monitor.draining = silent  # type: ignore[method-assign]
        site.runner._monitor.stopping_for_good = silent  # type: ignore[method-assign]
        site.systemd.jobs_wait = True
        site.systemd.stop(MESH)
        await until(lambda: f"Whether an operator has stopped mesh {MESH} could not be found out" in caplog.text)
        assert site.blocklist.in_force() == {}
    assert "Meshes may be left running: no answer" in caplog.text


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
        site.systemd.jobs_wait = True
        site.systemd.stop(MESH)
        await site.runner._end_stop(MESH)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("stop", MESH), ("kill", MESH)]
        # Its end is on its way to us.
        site.systemd.finish(MESH)
        await site.runner._end_stop(MESH)
        assert site.systemd.verbs.count(("kill", MESH)) == 1


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
        site.systemd.jobs_wait = True
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
            site.systemd.jobs_wait = True
            if verb == "restart":
                site.reconciler._unhealthy(MESH)
            site.discover(MESH, OTHER)
            await until(lambda: (verb, MESH) in site.systemd.verbs)
            (job,) = [job for job, (mesh, _) in site.systemd._jobs.items() if mesh == MESH]
            site.systemd._jobs[job] = (MESH, DEAD)
            site.systemd.finish(MESH, "canceled")
            await until(lambda: MESH in site.on_disk())
            assert (site.on_disk()[MESH].reason, site.on_disk()[MESH].actor) == (Reason.HELD, "systemctl")
            site.systemd.jobs_wait = False
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
