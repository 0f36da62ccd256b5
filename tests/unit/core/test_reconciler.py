"""What is started and stopped, and when."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from ravesvc import names
from ravesvc.blocklist.file import BlockFile
from ravesvc.blocklist.model import Reason
from ravesvc.core import reconciler as reconciler_module
from ravesvc.core.plan import Action
from ravesvc.core.rave_pauses import Pauses
from ravesvc.errors import Code, RaveError
from ravesvc.names import ExitStatus
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until
from tests.unit.core.reconciler_site import Run, listed, no_space, no_turn, site_on
from tests.unit.fake_systemd import (
    DEAD,
    MESH,
    OTHER,
    RUNNING,
    ended,
    new_mesh,
    settle,
)

pytestmark = pytest.mark.slow


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


async def test_nothing_is_done_twice_at_the_same_time(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.systemd.jobs_wait = True
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
    assert 2 * (os.cpu_count() or 1) == reconciler_module._STARTS_AT_ONCE
    monkeypatch.setattr(reconciler_module, "_STARTS_AT_ONCE", 3)

    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.systemd.jobs_wait = True
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
        site.systemd.jobs_wait = False
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


async def test_closing_ends_what_is_under_way_and_leaves_the_bots_alone(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.systemd.jobs_wait = True
        site.discover(MESH)
        await site.state(MESH, "starting")
        site.discover(MESH, OTHER)  # of which nothing has begun yet
        await site.reconciler.close()
        assert site.systemd.verbs == [("start", MESH)]
        assert not site.reconciler._tasks


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
        site.systemd.jobs_wait = True
        await site.reconciler.stop_mesh(MESH, "alice")
        await site.state(MESH, "stopping")
        await site.reconciler.start_mesh(MESH, "alice")
        site.systemd.jobs_wait = False
        site.systemd.finish(MESH)
        await site.idle()
        assert [verb for verb, _ in site.systemd.verbs] == ["start", "stop", "start"]
        assert site.reconciler.records[MESH].state == "disconnected"


async def test_a_mesh_stopped_while_it_starts_is_stopped_after_that(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        site.systemd.jobs_wait = True
        site.discover(MESH)
        await site.state(MESH, "starting")
        await site.reconciler.stop_mesh(MESH, "alice")
        site.systemd.jobs_wait = False
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
        assert str(e.value) == (
            f"mesh {MESH} stays blocked, because the bot was kicked "
            f"(ravectl blocklist remove {MESH} unblocks it, then invite the bot again)"
        )
        await site.reconciler.stop_mesh(MESH, "alice")
        assert site.on_disk()[MESH].reason is Reason.KICKED, "a kick stays a kick"
        with pytest.raises(RaveError, match="does not run, because the bot was kicked"):
            await site.reconciler.restart_mesh(MESH)
        site.discover(OTHER)
        await site.reconciler.stop_mesh(OTHER, "alice")
        with pytest.raises(RaveError) as e:
            await site.reconciler.restart_mesh(OTHER)
        assert e.value.code is Code.BLOCKED
        assert str(e.value) == (
            f"mesh {OTHER} does not run, because it was stopped by an operator (ravectl start {OTHER} starts it)"
        )
        await site.idle()
        assert site.systemd.verbs == []


async def test_a_start_that_fails_as_the_last_one_did_is_told_anew(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        masked = RaveError(Code.UNIT, "the unit is masked")
        site.units.errors += [masked, masked]
        await site.begin(MESH)
        record = site.reconciler.records[MESH]
        assert (record.state, record.reason) == ("stopped", "the unit is masked")
        site.shown.clear()
        await site.reconciler.start_mesh(MESH, "alice")
        await site.idle()
        reasons = [reason for _, _, reason in site.shown]
        assert "discovery lists it" in reasons
        assert reasons[-1] == "the unit is masked"


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


async def test_a_mesh_takes_the_place_of_another_only_when_that_has_stopped(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path, limit=1) as site:
        await site.begin(MESH, OTHER)
        assert site.reconciler.records[OTHER].reason == "max_processes (1) is reached"
        site.systemd.jobs_wait = True
        await site.reconciler.stop_mesh(MESH, "alice")
        await site.state(MESH, "stopping")
        await settle(site.systemd.bus, site.bus)
        assert ("start", OTHER) not in site.systemd.verbs
        assert "until another mesh has stopped" in site.reconciler.records[OTHER].reason
        site.systemd.jobs_wait = False
        site.systemd.finish(MESH)
        await site.idle()
        assert site.systemd.verbs[2:] == [("start", OTHER)]


async def test_while_rave_asks_for_a_pause_nothing_is_started(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        bot = await site.bot(bus, MESH)
        bot.emit("RateLimited", "stranger.test", 600)
        bot.emit("RateLimited", "api.test", 600)
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


async def test_a_restart_is_for_what_runs(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.reconciler.start()
        with pytest.raises(RaveError) as e:
            await site.reconciler.restart_mesh(MESH)
        assert e.value.code is Code.NOT_RUNNING
        site.discover(MESH)
        await site.idle()
        site.systemd.jobs_wait = True
        restarting = asyncio.create_task(site.reconciler.restart_mesh(MESH))
        await site.state(MESH, "stopping")
        site.systemd.change(MESH, ActiveState="activating", SubState="start")
        await site.state(MESH, "starting")
        with pytest.raises(RaveError) as e:
            await site.reconciler.restart_mesh(MESH)
        assert e.value.code is Code.BUSY
        site.systemd.jobs_wait = False
        site.systemd.finish(MESH)
        await restarting
        assert site.reconciler.records[MESH].run.process == 101


async def test_a_restart_whose_process_ends_at_once_is_an_error(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.outcomes[MESH] = ended(ExitStatus.CONFIG)
        with pytest.raises(RaveError, match=f"the new process of mesh {MESH} has ended"):
            await site.reconciler.restart_mesh(MESH)
        await site.idle()


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


async def test_what_waits_for_its_turn_counts_for_the_limit(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path, limit=1) as site:
        await site.reconciler.start()
        site.systemd.jobs_wait = True
        site.discover(MESH, OTHER)
        await site.state(MESH, "starting")
        await site.blocklist.add(MESH, Reason.OPERATOR, actor="alice")
        await settle(site.systemd.bus, site.bus)
        assert ("start", OTHER) not in site.systemd.verbs
        assert "until another mesh has stopped" in site.reconciler.records[OTHER].reason
        site.systemd.jobs_wait = False
        site.systemd.finish(MESH)
        await site.idle()
        assert site.systemd.verbs == [("start", MESH), ("stop", MESH), ("start", OTHER)]


async def test_a_stop_that_fails_is_tried_again_but_not_at_once(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reconciler_module, "_STOP_AGAIN_S", 0.1)

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


def test_of_meshes_that_are_blocked_only_the_latest_have_a_record(
    run: Run, bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler_module, "_MAX_BLOCKED_SHOWN", 3)
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
    monkeypatch.setattr(reconciler_module, "_MAX_BLOCKED_SHOWN", 3)
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
