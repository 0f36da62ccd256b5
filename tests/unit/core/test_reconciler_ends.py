"""What follows from how bots end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ravesvc.blocklist.file import BlockFile
from ravesvc.blocklist.model import BlocklistModel, Reason, What
from ravesvc.core.plan import ALONE, Action
from ravesvc.errors import Code, RaveError
from ravesvc.names import FINAL_STATUSES, ExitStatus
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until
from tests.unit.core.reconciler_site import OWN, kick, no_space, no_turn, site_on, with_users
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


async def test_a_kick_is_on_disk_before_anybody_sees_it(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        bot = await site.bot(bus, MESH)
        bot.emit("Connected")
        await site.state(MESH, "connected")
        seen: list[bool] = []
        site.watchers.append(lambda record: seen.append(MESH in site.on_disk()) if record.block else None)
        bot.emit("Kicked")
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


async def test_the_title_of_a_blocked_mesh_outlives_the_service(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site:
        await site.begin(MESH)
        site.systemd.change(MESH, **ended(ExitStatus.KICKED))
        await site.state(MESH, "blocked")
        await site.idle()
    async with site_on(bus_address, tmp_path) as site:
        await site.begin()
        assert site.reconciler.records[MESH].title == "A film"
        assert site.reconciler.title(MESH) == "A film"
        assert site.reconciler.title(OTHER) == ""


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
        bot = await site.bot(bus, MESH)
        await site.blocklist.add(MESH, Reason.REJECTED)  # a lesser block does not stand in for a kick
        saves.clear()
        for _ in range(5):
            bot.emit("Kicked")
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


@pytest.mark.parametrize("status", sorted(FINAL_STATUSES - {ExitStatus.KICKED}))
async def test_a_bot_that_was_started_by_hand_after_the_end_in_its_note_runs_on(
    bus_address: str, tmp_path: Path, status: ExitStatus
) -> None:
    """The service was away for both. Only a kick outweighs what an operator did later."""

    async with site_on(bus_address, tmp_path) as site:
        note = site.path.with_name("ended") / f"{MESH}.{int(status)}"
        note.parent.mkdir()
        note.touch()
        site.systemd.load(MESH, **RUNNING)
        await site.begin(MESH)
        assert not note.exists()
        assert (site.on_disk(), site.blocklist.alone, site.systemd.verbs) == ({}, set(), [])
        assert site.reconciler.records[MESH].run.runs


async def test_how_a_bot_has_ended_last_outweighs_an_earlier_note(bus_address: str, tmp_path: Path) -> None:
    """An operator has started the unit once more by hand, and the bot was alone."""

    async with site_on(bus_address, tmp_path) as site:
        note = site.path.with_name("ended") / f"{MESH}.{int(ExitStatus.UNREACHABLE)}"
        note.parent.mkdir()
        note.touch()
        site.systemd.load(MESH, **ended(ExitStatus.ALONE))
        await site.begin(MESH)
        await until(lambda: not note.exists())
        await site.idle()
        assert (site.on_disk(), site.blocklist.alone) == ({}, {MESH})


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


@pytest.mark.slow
async def test_what_most_bots_meet_blocks_no_mesh_and_is_tried_again_later(bus_address: str, tmp_path: Path) -> None:
    third = new_mesh()

    async with site_on(bus_address, tmp_path) as site, connected(bus_address, 2) as buses:
        await site.begin(MESH, OTHER, third)
        for bus, mesh in zip(buses, (OTHER, third), strict=True):
            (await site.bot(bus, mesh)).emit("ConnectionFailed", 1, f"mesh {mesh}: 403")
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
        assert "it is tried again on " in decision.reason
        site.bots[third].emit("Connected")
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


@pytest.mark.slow
async def test_an_outage_uses_up_no_attempts(bus_address: str, tmp_path: Path) -> None:
    async with site_on(bus_address, tmp_path) as site, connected(bus_address) as (bus,):
        await site.begin(MESH)
        bot = await site.bot(bus, MESH)
        bot.emit("ConnectionFailed", 3, "no route")
        await until(lambda: site.saved().memory(MESH).failures == 3)
        site.rave_answers = False
        site.systemd.change(MESH, **ended(ExitStatus.UNREACHABLE))
        await site.state(MESH, "stopped")
        await until(lambda: site.saved().memory(MESH).failures == 0)
        await site.idle()


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
async def test_a_kicked_bot_that_dies_before_it_has_ended_is_not_started_again(
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
