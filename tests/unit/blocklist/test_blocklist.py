from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import logging
import math
import threading
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from ravesvc.blocklist import blocklist as module
from ravesvc.blocklist.blocklist import describe, log_change
from ravesvc.blocklist.file import BlockFile, from_json
from ravesvc.blocklist.model import EDITOR, SERVICE, Block, BlocklistChange, BlocklistModel, Reason, What
from ravesvc.common.log_fields import CAUSE_MESSAGE_IDS, MESSAGE_IDS, LogEvent, message_id
from tests.unit.blocklist_scene import (
    HOUR,
    MESH,
    OTHER,
    THIRD,
    Disk,
    Machine,
    Scene,
    edit,
    entries,
    errors,
    names,
    read,
    warnings,
    write,
)
from tests.unit.conftest import until

Run = Callable[[Coroutine[Any, Any, Any]], Any]


# Blocking and unblocking.


async def test_an_export_holds_for_another_machine_with_another_clock(tmp_path: Path) -> None:
    machine, another = Machine(), Machine()
    # Its clock was wrong when it was booted, and is right now: times on its steady scale differ.
    another.wall -= 5000
    here, there = Scene(tmp_path / "here.json", machine=machine), Scene(tmp_path / "there.json", machine=another)
    async with here, there:
        another.wall = machine.wall
        await here.blocks.add(MESH, Reason.KICKED)
        await here.blocks.add(OTHER, Reason.OPERATOR, seconds=60, detail="spam", actor="root")
        exported = here.blocks.export_entries()
        assert await there.blocks.import_exported(exported)
        assert there.blocks.export_entries() == [
            dataclasses.replace(block, revision=there.blocks._model.revision) for block in exported
        ]
        machine.sleep(61)
        another.sleep(61)
        assert [*here.blocks.in_force()] == [*there.blocks.in_force()] == [MESH]
        assert [block.mesh for block in here.blocks.export_entries()] == [MESH], "what is over is not exported"


async def test_a_block_is_on_disk_before_anybody_is_told(path: Path) -> None:
    machine = Machine()
    async with Scene(path, duration=60.5, machine=machine) as scene:
        saved = scene.blocks.add(MESH, Reason.GONE, detail="exit status 1")
        expected = Block(
            mesh=MESH,
            reason=Reason.GONE,
            since=1_700_000_000_000,
            until=1_700_000_060_500,
            detail="exit status 1",
            revision=scene.blocks._model.revision + 1,
        )
        # In force at once, but not announced yet.
        assert scene.blocks.get(MESH) == expected
        assert scene.blocks.in_force() == {MESH: expected}
        assert scene.heard == []
        assert scene.blocks.announced == {}
        assert await saved is True
        assert scene.heard == [BlocklistChange(what=What.BLOCKED, block=expected, actor=SERVICE)]
        assert scene.on_disk == [{MESH}]
        assert scene.blocks.announced == {MESH: expected}
        found = from_json(read(path), "it", machine.clock())
        assert list(found) == [expected]
        assert read(path.with_name("blocklist.json.saved")) == read(path)


async def test_the_future_and_the_announcement_wait_for_the_disk(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        async with disk.slow():
            saved = scene.blocks.add(MESH, Reason.KICKED)
            await until(lambda: disk.begun)
            assert not saved.done()
            assert scene.heard == []
            assert scene.blocks.announced == {}
        assert await saved is True
        assert scene.told == [(MESH, "blocked", SERVICE)]


async def test_many_changes_during_one_slow_save_cost_one_more(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        async with disk.slow():
            first = scene.blocks.add(MESH, Reason.KICKED)
            await until(lambda: disk.begun == 1)
            meshes = [f"{number:08x}-2222-4333-8444-555555555555" for number in range(50)]
            others = [scene.blocks.add(mesh, Reason.CRASHES) for mesh in meshes]
            scene.blocks.record_failure(THIRD, 1, "refused")
            others.append(scene.blocks.remove(meshes.pop(), "root"))
        assert await first is True
        assert await asyncio.gather(*others) == [True] * 51
        assert disk.begun == 2
        assert set(entries(path)) == {MESH, *meshes}
        assert len(scene.heard) == 1 + 51
        assert scene.blocks.announced.keys() == {MESH, *meshes}


async def test_the_kicks_of_late_are_told_by_the_wall_clock(path: Path) -> None:
    machine = Machine()
    now, long_ago = machine.wall, "44444444-2222-4333-8444-555555555555"
    times = {
        MESH: ("kicked", now - 60),
        OTHER: ("kicked", now - 90),
        THIRD: ("held", now - 30),
        long_ago: ("kicked", now - 2 * HOUR),
    }
    text = {
        mesh: {"reason": reason, "blockedAt": int(at * 1000), "blockedUntil": None}
        for mesh, (reason, at) in times.items()
    }
    path.write_text(json.dumps({"blockedMeshes": text}))

    async with Scene(path, machine=machine) as scene:
        assert scene.blocks.block_starts(Reason.KICKED, HOUR) == [now - 90, now - 60]
        assert scene.blocks.block_starts(Reason.KICKED, 3 * HOUR) == [now - 2 * HOUR, now - 90, now - 60]
        # Setting the clock makes nothing older.
        machine.wall += 5 * HOUR
        assert scene.blocks.block_starts(Reason.KICKED, HOUR) == [now - 90 + 5 * HOUR, now - 60 + 5 * HOUR]
        await scene.blocks.remove(MESH, "alice")
        assert scene.blocks.block_starts(Reason.KICKED, HOUR) == [now - 90 + 5 * HOUR]


async def test_changes_in_one_turn_cost_one_save(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        await asyncio.gather(*[scene.blocks.add(mesh, Reason.KICKED) for mesh in (MESH, OTHER, THIRD)])
        assert disk.begun == 1


async def test_what_changes_nothing_is_saved_already(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        assert scene.blocks.remove(MESH, "root").result() is True
        scene.blocks.reset_failures(MESH)
        assert path.name not in names(path)
        await scene.blocks.add(MESH, Reason.KICKED)
        assert scene.blocks.add(MESH, Reason.CRASHES).result() is True
        assert disk.begun == 1
        assert len(scene.heard) == 1


async def test_what_is_only_remembered_is_saved_once_in_a_while(path: Path, disk: Disk) -> None:
    async with Scene(path, pace=0.2) as scene:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in range(1, 100):
            scene.blocks.record_failure(MESH, number, "too many requests")
            scene.blocks.record_failure(OTHER, number, "too many requests")
            await asyncio.sleep(0.004)
        scene.blocks.reset_failures(OTHER)
        await scene.settled()
        assert 1 <= disk.begun <= (loop.time() - begun) / 0.2
        assert json.loads(read(path))["meshes"][MESH]["failures"] == 99
        assert json.loads(read(path))["meshes"][OTHER]["failures"] == 0


async def test_a_block_does_not_wait_and_takes_with_it_what_does(path: Path, disk: Disk) -> None:
    async with Scene(path, pace=HOUR) as scene:
        scene.blocks.record_failure(OTHER, 2, "refused")
        # No other change makes this one wait.
        assert scene.blocks.remove(MESH, "root").result() is True
        assert await scene.blocks.add(MESH, Reason.KICKED) is True
        assert json.loads(read(path))["meshes"][OTHER]["failures"] == 2
        await scene.settled()
        assert disk.begun == 1


async def test_what_is_remembered_while_that_is_being_saved_is_saved_afterwards(path: Path, disk: Disk) -> None:
    async with Scene(path, pace=0.01) as scene:
        async with disk.slow():
            saved = scene.blocks.add(MESH, Reason.KICKED)
            await until(lambda: disk.begun)
            scene.blocks.record_failure(OTHER, 2, "refused")
        await saved
        await scene.settled()
        assert json.loads(read(path))["meshes"][OTHER]["failures"] == 2


async def test_a_failure_that_is_known_is_no_news(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        scene.blocks.record_failure(MESH, 2, "refused")
        await scene.settled()
        scene.blocks.record_failure(MESH, 2, "refused")
        await scene.settled()
        assert disk.begun == 1


@pytest.mark.parametrize("what", ["failed", "held"])
async def test_what_is_only_remembered_is_saved_at_the_end_at_the_latest(path: Path, what: str) -> None:
    async with Scene(path, pace=HOUR) as scene:
        await scene.blocks.add(MESH, Reason.CRASHES)
        if what == "failed":
            scene.blocks.record_failure(MESH, 2, "refused")
        else:
            scene.blocks.reset_failures(MESH)
    memory = json.loads(read(path))["meshes"][MESH]
    assert (memory["failures"], memory["quarantines"]) == ((2, 1) if what == "failed" else (0, 0))
    # The writer has ended, so this is not saved.
    scene.blocks.record_failure(MESH, 3, "refused")
    assert scene.blocks._scheduled_save is None


async def test_what_changes_nothing_waits_for_what_has_changed_before(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        async with disk.slow():
            first, again = scene.blocks.add(MESH, Reason.KICKED), scene.blocks.add(MESH, Reason.KICKED)
            await until(lambda: disk.begun)
            assert not first.done()
            assert not again.done()
        assert await first is True
        assert await again is True
        assert disk.begun == 1


async def test_also_when_that_is_being_saved(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        async with disk.slow():
            # The bot says that it was kicked, and its unit fails before that is on disk.
            scene.blocks.add(MESH, Reason.KICKED)
            await until(lambda: disk.begun)
            disk.full = True
            again = scene.blocks.add(MESH, Reason.KICKED)
            assert not again.done(), "its unit would be reset, and nothing else knows of the kick"
        assert await again is False
        disk.full = False


@pytest.mark.parametrize("reason", Reason)
async def test_kicks_and_holds_are_for_ever_and_all_else_for_as_long_as_configured(
    path: Path, reason: Reason
) -> None:
    machine = Machine()
    async with Scene(path, machine=machine) as scene:
        await scene.blocks.add(MESH, reason, actor="operator")
        found = scene.blocks.get(MESH)
        assert found
        assert found.actor == "operator"
        machine.sleep(60)
        assert scene.blocks.get(MESH)
        machine.sleep(0.001)
        assert bool(scene.blocks.get(MESH)) is (reason in (Reason.KICKED, Reason.HELD))
        assert bool(scene.blocks.in_force()) is bool(scene.blocks.get(MESH))


@pytest.mark.parametrize(("seconds", "left"), [(math.inf, None), (0.5, 500), (7200, 7_200_000)])
async def test_a_block_lasts_as_long_as_it_is_told_to(path: Path, seconds: float, left: int | None) -> None:
    machine = Machine()
    async with Scene(path, machine=machine) as scene:
        await scene.blocks.add(MESH, Reason.OPERATOR, seconds=seconds)
        found = scene.blocks.get(MESH)
        assert found
        assert found.until == (None if left is None else 1_700_000_000_000 + left)
        assert entries(path)[MESH]["blockedUntil"] == found.until


async def test_unblocking_is_saved_and_told(path: Path) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
        await scene.blocks.add(OTHER, Reason.HELD)
        assert await scene.blocks.remove(MESH, "root") is True
        assert scene.blocks.get(MESH) is None
        assert scene.told[2:] == [(MESH, "unblocked", "root")]
        assert scene.on_disk[2:] == [{OTHER}]
        assert scene.blocks.announced.keys() == {OTHER}


async def test_a_thousand_changes_hold_up_nobody_and_are_told_in_order_before_the_answer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meshes = [f"{number:08x}-2222-4333-8444-555555555555" for number in range(1000)]

    async with Scene(path) as scene:
        shown, told = scene.blocks.announced, [0]
        # What the file says each time would take longer than the rest.
        monkeypatch.setattr(scene.blocks, "_announce", scene.heard.append)
        saved = [scene.blocks.add(mesh, Reason.OPERATOR) for mesh in meshes]
        saved.append(scene.blocks.remove(meshes[0], "root"))
        later: asyncio.Future[bool] | None = None
        while not saved[-1].done():
            await asyncio.sleep(0)
            if scene.heard and later is None:
                # It changes in the midst of it.
                later = scene.blocks.remove(meshes[-1], "root")
            told.append(len(scene.heard))
        assert max(after - before for before, after in itertools.pairwise(told)) <= 50
        assert later
        assert not later.done()
        assert told[-1] == 1001
        assert await later is True
        assert [mesh for mesh, _, _ in scene.told] == [*meshes, meshes[0], meshes[-1]]
        assert scene.blocks.announced is shown
        assert list(shown) == meshes[1:-1]
        assert entries(path).keys() == shown.keys()


async def test_who_waits_is_answered_when_announcing_fails_and_so_is_who_asks_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_change: BlocklistChange) -> None:
        raise LookupError("nobody has foreseen this")

    scene = Scene(path)
    monkeypatch.setattr(scene.blocks, "_announce", fail)
    await scene.blocks.start()
    work = asyncio.create_task(scene.blocks.work())
    assert await scene.blocks.add(MESH, Reason.KICKED) is True
    with pytest.raises(LookupError):
        await work
    assert entries(path).keys() == {MESH}
    # The writer has ended, so this is not saved.
    assert scene.blocks.add(MESH, Reason.KICKED).result() is True
    assert scene.blocks.add(OTHER, Reason.KICKED).result() is False
    await scene.blocks.close()


async def test_who_waits_is_answered_when_saving_fails_as_nobody_has_foreseen(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    go_on = threading.Event()

    def fail(_file: BlockFile, _blocklist: BlocklistModel) -> None:
        begun.set()
        go_on.wait(60)
        raise LookupError("nobody has foreseen this")

    scene = Scene(path)
    await scene.blocks.start()
    monkeypatch.setattr(BlockFile, "save", fail)
    work = asyncio.create_task(scene.blocks.work())
    first = scene.blocks.add(MESH, Reason.KICKED)
    await until(begun.is_set)
    second = scene.blocks.add(OTHER, Reason.KICKED)
    go_on.set()
    with pytest.raises(LookupError):
        await work
    assert await first is False
    assert await second is False
    assert scene.blocks.add(MESH, Reason.KICKED).result() is False
    await scene.blocks.close()


async def test_the_work_ends_with_the_list_and_who_no_longer_waits_for_it_does_not_end_it(path: Path) -> None:
    scene = Scene(path)
    await scene.blocks.start()
    impatient, patient = asyncio.create_task(scene.blocks.work()), asyncio.create_task(scene.blocks.work())
    await asyncio.sleep(0)
    impatient.cancel()
    assert await scene.blocks.add(MESH, Reason.KICKED) is True
    assert not patient.done()
    await scene.blocks.close()
    await patient
    assert impatient.cancelled()


async def test_failures_and_their_end_are_saved_without_being_told(path: Path) -> None:
    machine = Machine()
    async with Scene(path, machine=machine) as scene:
        scene.blocks.record_failure(MESH, 2, "refused")
        assert scene.blocks.memory(MESH).failures == 2
        await scene.settled()
    async with Scene(path, machine=machine) as scene:
        assert (scene.blocks.memory(MESH).failures, scene.blocks.memory(MESH).last_error) == (2, "refused")
        scene.blocks.reset_failures(MESH)
        await scene.settled()
        assert scene.heard == []
    async with Scene(path, machine=machine) as scene:
        assert not scene.blocks.memory(MESH).has_failures


@pytest.mark.parametrize(
    ("said", "known"), [(2**63, 2**32 - 1), (2**64 - 1, 2**32 - 1), (-5, 0), (True, 1), (2**32 - 1, 2**32 - 1)]
)
async def test_what_a_bot_says_can_be_read_again(path: Path, said: int, known: int) -> None:
    machine = Machine()
    async with Scene(path, machine=machine) as scene:
        scene.blocks.record_failure(MESH, said, "refused\nby\x1b[1m" + "x" * 1000)
        await scene.blocks.add(OTHER, Reason.CRASHES, detail="y\n" * 1000)
    async with Scene(path, machine=machine) as scene:
        assert scene.blocks.error is None
        memory = scene.blocks.memory(MESH)
        assert (memory.failures, type(memory.failures)) == (known, int)
        assert memory.last_error == "refused?by?[1m" + "x" * 286
        # An unchanged entry is no edit, however long it was.
        edit(path, read(path), {THIRD: {}})
        await scene.blocks.reload()
        await until(lambda: scene.heard)
        assert scene.told == [(THIRD, "blocked", EDITOR)]


async def test_a_new_parent_finds_what_the_old_one_saved(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    async with Scene(path, machine=machine) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
        await scene.blocks.add(OTHER, Reason.CRASHES)
        before = scene.blocks.in_force()
    machine.sleep(10)
    async with Scene(path, machine=machine) as scene:
        assert scene.blocks.error is None
        assert scene.blocks.in_force() == before
        assert scene.blocks.announced == before
        assert scene.heard == []
    assert warnings(caplog) == errors(caplog) == []


async def test_an_entry_keeps_the_title_of_its_mesh(path: Path) -> None:
    machine = Machine()
    async with Scene(path, machine=machine) as scene:
        scene.titles = {MESH: "Film\x1b[2J night\n" + "x" * 1000, THIRD: "Talk"}
        await scene.blocks.add(MESH, Reason.KICKED)
        await scene.blocks.add(OTHER, Reason.CRASHES)
        edit(path, read(path), {THIRD: {}})
        await scene.blocks.reload()
        scene.titles = {}
    async with Scene(path, machine=machine) as scene:
        titles = {mesh: block.title for mesh, block in scene.blocks.in_force().items()}
        assert titles == {MESH: "Film?[2J night?" + "x" * 285, OTHER: "", THIRD: "Talk"}
        # An unchanged entry is no edit, however long its title was.
        assert scene.heard == []


async def test_a_file_without_titles_is_read(path: Path) -> None:
    edit(path, '{"blockedMeshes": {}}', {MESH: {}})
    async with Scene(path) as scene:
        assert [block.title for block in scene.blocks.in_force().values()] == [""]


async def test_nobody_is_said_to_have_edited_what_nobody_has(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
    async with Scene(path):
        pass
    assert not [message for message in caplog.messages if "edited by hand" in message]


@pytest.mark.parametrize("jump", [24 * HOUR, -24 * HOUR])
async def test_a_clock_that_jumps_releases_nobody_and_keeps_nobody_longer(path: Path, jump: int) -> None:
    machine = Machine()
    async with Scene(path, machine=machine) as scene:
        await scene.blocks.add(MESH, Reason.CRASHES)
        machine.wall += jump
        machine.sleep(30)
        assert scene.blocks.get(MESH)
        await scene.blocks.add(OTHER, Reason.KICKED)
    machine.wall -= 2 * jump
    async with Scene(path, machine=machine) as scene:
        assert scene.blocks.get(MESH)
        machine.sleep(30)
        assert scene.blocks.get(MESH)
        machine.sleep(0.001)
        assert scene.blocks.get(MESH) is None
        assert scene.blocks.get(OTHER)


def test_a_time_is_shown_as_the_wall_clock_has_it(path: Path) -> None:
    machine = Machine()
    blocks = Scene(path, machine=machine).blocks
    assert blocks.to_wall_us(1_700_000_000_000) == 1_700_000_000_000_000
    machine.wall += 24 * HOUR
    assert blocks.to_wall_us(1_700_000_000_000) == 1_700_086_400_000_000
    machine.wall = 0
    assert blocks.to_wall_us(5000) == 0
    # D-Bus can't tell a time before the epoch, nor one of more than 64 bits.
    assert blocks.to_wall_us(-(2**62)) == 0
    assert blocks.to_wall_us(2**62) == 2**53 * 1000 < 2**64


# The end of a block.


async def test_a_block_ends_by_itself(path: Path) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(OTHER, Reason.KICKED)
        await scene.blocks.add(THIRD, Reason.OPERATOR, seconds=HOUR)
        await scene.blocks.add(MESH, Reason.OPERATOR, seconds=0.05)
        await until(lambda: len(scene.heard) == 4)
        assert scene.told[3] == (MESH, "released", SERVICE)
        assert scene.on_disk[3] == {OTHER, THIRD}
        assert scene.blocks.announced.keys() == {OTHER, THIRD}
        assert [event.what.value for event in scene.blocks.memory(MESH).history] == ["blocked", "released"]


async def test_the_timer_is_set_for_the_next_end_whatever_comes_and_goes(path: Path) -> None:
    async with Scene(path) as scene:
        scene.blocks.add(MESH, Reason.OPERATOR, seconds=0.05)
        timer = scene.blocks._timer
        scene.blocks.add(MESH, Reason.OPERATOR, seconds=HOUR)
        assert timer
        assert timer.cancelled()
        scene.blocks.add(OTHER, Reason.OPERATOR, seconds=0.1)
        scene.blocks.add(THIRD, Reason.OPERATOR, seconds=0.02)
        await until(lambda: len(scene.heard) == 6)
        assert scene.told[4:] == [(THIRD, "released", SERVICE), (OTHER, "released", SERVICE)]
        assert scene.blocks.get(MESH)
        assert scene.blocks._timer
        await scene.blocks.remove(MESH, "root")
        assert scene.blocks._timer is None


async def test_what_ended_while_nobody_ran_is_released_at_the_start(path: Path) -> None:
    machine = Machine()
    async with Scene(path, machine=machine) as scene:
        await scene.blocks.add(MESH, Reason.OPERATOR)
    machine.sleep(61)
    async with Scene(path, machine=machine) as scene:
        assert scene.blocks.in_force() == {}
        assert scene.blocks.announced == {}
        await until(lambda: scene.heard)
        assert scene.told == [(MESH, "released", SERVICE)]
        assert entries(path) == {}


async def test_the_end_is_looked_at_again_when_the_machine_may_have_slept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_TIMER_S", 0.01)

    machine = Machine()
    async with Scene(path, duration=HOUR, machine=machine) as scene:
        await scene.blocks.add(MESH, Reason.OPERATOR)
        timer = scene.blocks._timer
        await until(lambda: scene.blocks._timer is not timer)
        assert len(scene.heard) == 1
        machine.sleep(HOUR + 1)
        await until(lambda: len(scene.heard) == 2)
        assert scene.told[1] == (MESH, "released", SERVICE)


# The end.


async def test_what_is_not_saved_yet_is_saved_at_the_end(path: Path) -> None:
    scene = Scene(path)
    await scene.blocks.start()
    saved = scene.blocks.add(MESH, Reason.KICKED)
    scene.blocks.record_failure(OTHER, 2, "refused")
    await scene.blocks.close()
    assert saved.result() is True
    assert entries(path).keys() == {MESH}
    assert json.loads(read(path))["meshes"][OTHER]["failures"] == 2


async def test_what_could_not_be_saved_is_tried_once_more_at_the_end(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        disk.full = True
        assert await scene.blocks.add(MESH, Reason.KICKED) is False
        disk.full = False
    assert entries(path).keys() == {MESH}


async def test_a_full_disk_does_not_delay_the_end(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        disk.full = True
        saved = scene.blocks.add(MESH, Reason.KICKED)
    assert saved.result() is False
    assert disk.attempts == 1


async def test_a_save_under_way_is_waited_for_and_so_is_what_changed_meanwhile(path: Path, disk: Disk) -> None:
    scene = Scene(path)
    await scene.blocks.start()
    async with disk.slow():
        first = scene.blocks.add(MESH, Reason.KICKED)
        await until(lambda: disk.begun)
        second = scene.blocks.add(OTHER, Reason.KICKED)
        closing = asyncio.create_task(scene.blocks.close())
        await asyncio.sleep(0)
        assert not closing.done()
    await closing
    assert (first.result(), second.result()) == (True, True)
    assert entries(path).keys() == {MESH, OTHER}


async def test_nothing_ends_after_the_end(path: Path) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.OPERATOR)
        timer = scene.blocks._timer
    assert timer
    assert timer.cancelled()


async def test_one_that_never_was_started_can_be_closed(path: Path) -> None:
    await Scene(path).blocks.close()
    assert names(path) == []


# In words.


def test_a_change_in_words() -> None:
    block = Block(mesh="m", reason=Reason.CRASHES, since=0, until=1, detail="signal SIGSEGV")
    words = {what: describe(BlocklistChange(what=what, block=block, actor="root")) for what in What}
    assert words == {
        What.BLOCKED: "Mesh m is blocked by root: its process failed too often: signal SIGSEGV",
        What.RELEASED: "Mesh m is no longer blocked (the reason was: its process failed too often: signal SIGSEGV)",
        What.UNBLOCKED: "Mesh m is unblocked by root (the reason was: its process failed too often: signal SIGSEGV)",
    }


def test_a_hold_in_words(caplog: pytest.LogCaptureFixture) -> None:
    held = Block(mesh="m", reason=Reason.HELD, since=0, until=None)
    with caplog.at_level(logging.INFO):
        for what in What.BLOCKED, What.UNBLOCKED:
            log_change(BlocklistChange(what=what, block=held, actor="root"))
    assert caplog.messages == [
        "Mesh m was stopped by root, and is held until it is started",
        "Mesh m is no longer held: it was started by root",
    ]
    assert [vars(record)["rave_event"] for record in caplog.records] == [LogEvent.HELD, LogEvent.UNBLOCKED]


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.HELD])
def test_a_kick_and_a_refusal_are_explained_apart(caplog: pytest.LogCaptureFixture, reason: Reason) -> None:
    block = Block(mesh="m", reason=reason, since=0, until=None)
    with caplog.at_level(logging.INFO):
        for what in What.BLOCKED, What.UNBLOCKED:
            log_change(BlocklistChange(what=what, block=block, actor="root"))
    blocked, unblocked = map(message_id, caplog.records)
    usual = MESSAGE_IDS[LogEvent.BLOCKED]
    assert blocked == CAUSE_MESSAGE_IDS.get((LogEvent.BLOCKED, reason), usual)
    explained_apart = reason in (Reason.KICKED, Reason.OPERATOR, Reason.REJECTED, Reason.TOO_LARGE)
    assert (blocked != usual) is explained_apart
    assert unblocked == MESSAGE_IDS[LogEvent.UNBLOCKED]


@pytest.mark.parametrize(("count", "told"), [(100, 100), (101, 0)])
def test_a_list_that_was_taken_over_while_nobody_ran_is_not_told_entry_by_entry(
    path: Path, run: Run, caplog: pytest.LogCaptureFixture, count: int, told: int
) -> None:
    meshes = [str(uuid.UUID(int=number)) for number in range(1, count + 1)]
    entry = {"reason": "kicked", "blockedAt": 1, "blockedUntil": None}
    write(path, json.dumps({"blockedMeshes": {mesh: {"meshId": mesh, **entry} for mesh in meshes}}))

    async def body() -> None:
        async with Scene(path) as scene:
            assert set(scene.blocks.announced) == set(meshes), "who looks sees all"
            await scene.settled()
            assert len(scene.heard) == told

    run(body())
    assert ("Changed in the blocklist since it was last read" in caplog.text) == (told == 0)
