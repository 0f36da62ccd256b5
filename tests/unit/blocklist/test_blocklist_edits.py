from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from ravesvc.blocklist import file as blockfile
from ravesvc.blocklist.model import EDITOR, SERVICE, Reason
from ravesvc.common.atomic_files import write_atomically
from tests.unit.blocklist_scene import (
    MESH,
    OTHER,
    THIRD,
    Disk,
    Machine,
    Scene,
    damaged,
    edit,
    entries,
    errors,
    names,
    read,
    remove,
    warnings,
    write,
)
from tests.unit.conftest import until


async def test_a_fresh_edit_is_taken_over_saved_and_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
        await scene.blocks.add(OTHER, Reason.HELD)
        edit(path, read(path), {THIRD: {"detail": "noise"}}, without=MESH)
        changes = scene.changes
        await scene.blocks.reload()
        assert scene.changes == changes + 1
        assert scene.blocks.in_force().keys() == {OTHER, THIRD}
        await until(lambda: len(scene.heard) == 4)
        assert sorted(scene.told[2:]) == [(MESH, "unblocked", EDITOR), (THIRD, "blocked", EDITOR)]
        assert scene.on_disk[2:] == [{OTHER, THIRD}] * 2
        assert scene.blocks.announced.keys() == {OTHER, THIRD}
        # It is ours now, with all that an entry has.
        assert entries(path)[THIRD]["actor"] == EDITOR
        assert "The blocklist was edited by hand: 2 entries changed" in caplog.messages
        assert warnings(caplog) == []


async def test_an_edit_may_give_a_block_an_end(path: Path) -> None:
    machine = Machine()
    async with Scene(path, machine=machine) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
        edit(path, read(path), {MESH: {"blockedUntil": 1_700_000_000_010}})
        await scene.blocks.reload()
        machine.sleep(0.011)
        await until(lambda: len(scene.heard) == 3)
        assert scene.told[2] == (MESH, "released", SERVICE)


async def test_a_stale_edit_does_not_forget_a_kick(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(OTHER, Reason.HELD)
        opened = read(path)
        await scene.blocks.add(MESH, Reason.KICKED)
        edit(path, opened, without=OTHER)
        await scene.blocks.reload()
        await scene.settled()
        assert scene.blocks.in_force().keys() == {MESH}
        # Who opens the file again sees what is in force.
        assert entries(path).keys() == {MESH}
        assert set(warnings(caplog)) == {
            f"The entry of mesh {MESH} in the blocklist stays (the bot was kicked): it is newer than the text "
            "that was edited; ravectl blocklist remove takes it out"
        }
        assert scene.told[2:] == [(OTHER, "unblocked", EDITOR)]


async def test_a_stale_edit_does_not_bring_back_what_was_unblocked(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
        opened = read(path)
        await scene.blocks.remove(MESH, "root")
        edit(path, opened, {OTHER: {}})
        await scene.blocks.reload()
        await scene.settled()
        assert scene.blocks.in_force().keys() == entries(path).keys() == {OTHER}
        assert warnings(caplog) == [
            f"The entry of mesh {MESH} in the blocklist stays out (the bot was kicked): it was lifted after the "
            "text was written that was edited; ravectl blocklist add blocks it again"
        ]
        assert scene.told[2:] == [(OTHER, "blocked", EDITOR)]


async def test_an_edit_just_before_a_save_is_merged_and_not_overwritten(path: Path) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(OTHER, Reason.HELD)
        edit(path, read(path), {THIRD: {}}, without=OTHER)
        assert await scene.blocks.add(MESH, Reason.KICKED) is True
        assert scene.blocks.in_force().keys() == entries(path).keys() == {MESH, THIRD}
        assert sorted(scene.told[1:]) == [
            (MESH, "blocked", SERVICE),
            (OTHER, "unblocked", EDITOR),
            (THIRD, "blocked", EDITOR),
        ]


async def test_an_edit_while_the_file_is_being_written_is_taken_over_and_all_saved_again(
    path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(OTHER, Reason.HELD)
        text = read(path)
        disk.begun = 0
        disk.edits = [
            lambda: edit(path, text, {THIRD: {"detail": "noise"}}),
            lambda: edit(path, text, {THIRD: {"detail": "noise"}}, without=OTHER),
        ]
        assert await scene.blocks.add(MESH, Reason.KICKED) is True
        assert disk.begun == 3
        assert scene.blocks.in_force().keys() == entries(path).keys() == {MESH, THIRD}
        assert read(path.with_name("blocklist.json.saved")) == read(path)
        assert scene.told[1:] == [
            (MESH, "blocked", SERVICE),
            (THIRD, "blocked", EDITOR),
            (OTHER, "unblocked", EDITOR),
        ]
        assert scene.on_disk[1:] == [{MESH, THIRD}] * 3
        await scene.settled()
        assert disk.begun == 3
    assert not [name for name in names(path) if name.startswith(".")]


async def test_a_broken_edit_while_the_file_is_being_written_is_kept_aside(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(OTHER, Reason.HELD)
        disk.edits = [lambda: write(path, "nonsense")]
        assert await scene.blocks.add(MESH, Reason.KICKED) is True
        assert damaged(path) == ["nonsense"]
        assert entries(path).keys() == {MESH, OTHER}


async def test_a_list_that_is_too_large_is_kept_in_memory_until_something_is_taken_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(OTHER, Reason.HELD, detail="x" * 300)
        before = read(path)
        monkeypatch.setattr(blockfile, "_MAX_FILE_BYTES", len(before))
        for mesh in (MESH, THIRD):
            saved = scene.blocks.add(mesh, Reason.KICKED, detail="y" * 300)
        assert await saved is False
        assert scene.blocks.save_error
        assert "remove" in scene.blocks.save_error.hint
        assert scene.blocks.error is None
        assert scene.blocks.in_force().keys() == {MESH, OTHER, THIRD}
        assert read(path) == before
        scene.blocks.remove(THIRD, "root")
        assert await scene.blocks.remove(OTHER, "root") is True
        assert scene.blocks.save_error is None
        assert entries(path).keys() == {MESH}
    async with Scene(path) as scene:
        assert scene.blocks.error is None
        assert scene.blocks.in_force().keys() == {MESH}
    assert damaged(path) == []


async def test_an_edit_during_a_save_is_not_lost_either(
    path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(OTHER, Reason.HELD)
        opened = read(path)
        async with disk.slow():
            saved = scene.blocks.add(MESH, Reason.KICKED)
            await until(lambda: disk.begun == 2)
            reread = asyncio.create_task(scene.blocks.reload())
            for _ in range(50):
                await asyncio.sleep(0.001)
            assert not reread.done(), "it waits for the save"
        assert await saved is True
        edit(path, opened, without=OTHER)
        await reread
        assert scene.blocks.in_force().keys() == {MESH}
        assert len(set(warnings(caplog))) == 1


async def test_our_own_writing_is_no_edit(path: Path, disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
        caplog.clear()
        await scene.blocks.reload()
        await scene.settled()
        assert disk.begun == 1
        assert caplog.messages == []


async def test_a_broken_edit_is_kept_aside_and_the_list_written_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
        write(path, "{\n  nonsense")
        await scene.blocks.reload()
        await until(path.exists)
        await scene.settled()
        assert scene.blocks.error is None
        assert scene.blocks.in_force().keys() == entries(path).keys() == {MESH}
        assert damaged(path) == ["{\n  nonsense"]
        (message,) = errors(caplog)
        assert message.startswith(f"An edit of the blocklist is not taken over: {path} can't be used: ")
        assert "line 2" in message
        assert f"it is kept as {path}.damaged-" in message
        assert await scene.blocks.add(OTHER, Reason.KICKED) is True


async def test_a_broken_edit_just_before_a_save_is_kept_aside_too(path: Path) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
        write(path, "nonsense")
        assert await scene.blocks.add(OTHER, Reason.KICKED) is True
        assert damaged(path) == ["nonsense"]
        assert entries(path).keys() == {MESH, OTHER}


async def test_a_file_that_was_removed_is_written_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
        remove(path)
        await scene.blocks.reload()
        await until(path.exists)
        assert scene.blocks.error is None
        assert entries(path).keys() == {MESH}
        assert warnings(caplog) == [
            "blocklist.json was removed; it is written again, ravectl blocklist remove takes entries out"
        ]


async def test_a_file_that_never_was_is_not_written_for_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Scene(path) as scene:
        await scene.blocks.reload()
        await scene.settled()
    assert names(path) == []
    assert caplog.messages == []


async def test_edits_of_the_time_when_nobody_ran_are_taken_over(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(OTHER, Reason.HELD)
        opened = read(path)
        await scene.blocks.add(MESH, Reason.KICKED)
    edit(path, opened, {THIRD: {}}, without=OTHER)
    async with Scene(path) as scene:
        assert scene.blocks.in_force().keys() == scene.blocks.announced.keys() == {MESH, THIRD}
        await until(lambda: len(scene.heard) == 2)
        assert entries(path).keys() == {MESH, THIRD}
        assert len(set(warnings(caplog))) == 1


async def test_a_file_that_was_removed_while_nobody_ran_is_written_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
    remove(path)
    async with Scene(path) as scene:
        assert scene.blocks.in_force().keys() == {MESH}
        await until(path.exists)
        assert len(set(warnings(caplog))) == 1


async def test_the_first_file_of_a_user_is_taken_over(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit(path, '{"blockedMeshes": {}}', {MESH: {"reason": "kicked"}})
    async with Scene(path) as scene:
        assert scene.blocks.in_force().keys() == {MESH}
        await until(lambda: scene.heard)
        assert entries(path)[MESH]["revision"] == 1
    assert not [message for message in caplog.messages if "edited" in message]


async def test_a_parent_that_was_killed_between_both_files_forgets_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(OTHER, Reason.HELD)
        with monkeypatch.context() as patch:

            def write(target: Path, content: bytes, mode: int, *, check: Callable[[], object]) -> None:
                if target == path:
                    raise OSError(errno.EIO, "killed")
                write_atomically(target, content, mode, check=check)

            patch.setattr(blockfile, "write_atomically", write)
            assert await scene.blocks.add(MESH, Reason.KICKED) is False
            await scene.blocks.close()
    async with Scene(path) as scene:
        assert scene.blocks.in_force().keys() == {MESH, OTHER}
        await scene.settled()
        assert read(path.with_name("blocklist.json.saved")) == read(path)


async def test_an_edit_is_taken_over_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
        write(path, '{"blockedMeshes": {}}')
        await scene.blocks.reload()
        await scene.settled()
        assert len(warnings(caplog)) == 1
        assert len([message for message in caplog.messages if "edited by hand" in message]) == 1


async def test_an_edit_that_can_not_be_saved_is_not_tried_again_at_once(
    path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
        disk.full = True
        edit(path, read(path), {OTHER: {}})
        await scene.blocks.reload()
        await until(lambda: scene.blocks.save_error)
        attempts = disk.attempts
        # There are ten turns of the event loop in an attempt, at the most.
        for _ in range(100):
            await asyncio.sleep(0.001)
        disk.full = False
        assert disk.attempts == attempts
        assert len([message for message in caplog.messages if "edited by hand" in message]) == 1


async def test_a_broken_edit_that_can_neither_be_renamed_nor_replaced_is_not_tried_again_at_once(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> Path:
        raise OSError(errno.EROFS, "Read-only file system")

    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
        disk.full = True
        monkeypatch.setattr(blockfile, "set_aside", refuse)
        write(path, "nonsense")
        await scene.blocks.reload()
        await until(lambda: scene.blocks.save_error)
        attempts = disk.attempts
        for _ in range(100):
            await asyncio.sleep(0.001)
        disk.full = False
        assert disk.attempts == attempts


async def test_what_is_unblocked_after_an_edit_stays_so_while_that_can_not_be_saved(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(MESH, Reason.KICKED)
        disk.full = True
        edit(path, read(path), {OTHER: {}})
        await scene.blocks.reload()
        assert scene.blocks.get(OTHER)
        assert await scene.blocks.remove(OTHER, "root") is False
        found = scene.blocks.get(OTHER)
        disk.full = False
        assert found is None
