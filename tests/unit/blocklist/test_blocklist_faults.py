from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ravesvc.blocklist.blocklist import await_saved
from ravesvc.blocklist.file import BlockFile
from ravesvc.blocklist.model import SERVICE, BlocklistModel, Reason
from ravesvc.errors import Code, RaveError
from tests.unit.blocklist_scene import (
    MESH,
    OTHER,
    THIRD,
    Disk,
    Scene,
    damaged,
    edit,
    entries,
    errors,
    names,
    remove,
    warnings,
    write,
)
from tests.unit.conftest import until

# A disk that takes no more.


async def test_a_save_that_fails_is_told_and_the_block_holds(
    path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    async with Scene(path) as scene:
        changes = scene.changes
        disk.full = True
        assert await scene.blocks.add(MESH, Reason.KICKED) is False
        assert scene.blocks.save_error
        assert scene.blocks.save_error.code is Code.BAD_FILE
        assert scene.blocks.error is None
        assert scene.blocks.get(MESH)
        assert scene.told == [(MESH, "blocked", SERVICE)]
        assert scene.blocks.announced.keys() == {MESH}
        assert scene.changes == changes + 1
        # Said once for all that fail alike.
        assert await scene.blocks.add(OTHER, Reason.KICKED) is False
        assert scene.changes == changes + 1
        assert errors(caplog) == [
            "The blocklist can't be saved, it is kept in memory: "
            f"{path}.saved can't be written: No space left on device (free some space)"
        ]
        with pytest.raises(RaveError, match=f"done, but the blocklist could not be saved: mesh {MESH}") as e:
            await await_saved(MESH, scene.blocks.remove(MESH, "root"))
        assert e.value.code is Code.BAD_FILE
        assert e.value.attributes == {"mesh": MESH}
        disk.full = False
        await await_saved(MESH, scene.blocks.add(MESH, Reason.KICKED))


async def test_the_next_change_saves_what_could_not_be_saved(
    path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    async with Scene(path) as scene:
        disk.full = True
        assert await scene.blocks.add(MESH, Reason.KICKED) is False
        changes = scene.changes
        disk.full = False
        assert await scene.blocks.add(OTHER, Reason.KICKED) is True
        assert scene.blocks.save_error is None
        assert scene.changes == changes + 1
        assert entries(path).keys() == {MESH, OTHER}
        assert scene.told == [(MESH, "blocked", SERVICE), (OTHER, "blocked", SERVICE)], "each of them once"
        assert "The blocklist is saved again" in caplog.messages


async def test_asking_for_what_could_not_be_saved_tries_it_again(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        disk.full = True
        assert await scene.blocks.add(MESH, Reason.KICKED) is False
        assert await scene.blocks.add(MESH, Reason.KICKED) is False
        disk.full = False
        assert await scene.blocks.add(MESH, Reason.KICKED) is True
        assert entries(path).keys() == {MESH}
        assert len(scene.heard) == 1


async def test_without_another_change_it_is_tried_again_after_a_while(path: Path, disk: Disk) -> None:
    async with Scene(path, retry=0.01) as scene:
        disk.full = True
        assert await scene.blocks.add(MESH, Reason.KICKED) is False
        await until(lambda: disk.attempts >= 3)
        disk.full = False
        await until(lambda: scene.blocks.save_error is None)
        assert entries(path).keys() == {MESH}


async def test_it_is_not_tried_more_often_than_that(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        disk.full = True
        assert await scene.blocks.add(MESH, Reason.KICKED) is False
        for _ in range(100):
            await asyncio.sleep(0)
        assert disk.attempts == 1
        disk.full = False


async def test_another_reason_is_said_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Scene(path) as scene:
        for words in ("full", "full", "broken"):

            def fail(_file: BlockFile, _blocklist: BlocklistModel, words: str = words) -> None:
                raise RaveError(Code.BAD_FILE, words)

            monkeypatch.setattr(BlockFile, "save", fail)
            assert await scene.blocks.add(MESH, Reason.KICKED) is False
        assert [message.rpartition(" ")[2] for message in errors(caplog)] == ["full", "broken"]
        monkeypatch.undo()


async def test_who_no_longer_waits_disturbs_nobody(path: Path, disk: Disk) -> None:
    async with Scene(path) as scene:
        async with disk.slow():
            impatient, patient = scene.blocks.add(MESH, Reason.KICKED), scene.blocks.add(OTHER, Reason.KICKED)
            await until(lambda: disk.begun)
            impatient.cancel()
        assert await patient is True


# A file that can't be used.


async def test_a_list_that_can_not_be_read_at_the_start_is_kept_and_nothing_is_written(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, "a kick that must not be forgotten")
    async with Scene(path) as scene:
        assert scene.blocks.error
        assert scene.blocks.error.code is Code.BAD_FILE
        assert scene.changes == 1
        assert errors(caplog) == [f"No mesh is started: {scene.blocks.error}"]
        assert await scene.blocks.add(MESH, Reason.KICKED) is False
        assert scene.blocks.get(MESH)
        assert await scene.blocks.remove(MESH, "root") is False
        scene.blocks.record_failure(OTHER, 1, "refused")
        await until(lambda: not scene.blocks._wake.is_set())
        # Told all the same.
        assert scene.told == [(MESH, "blocked", SERVICE), (MESH, "unblocked", "root")]
    assert len(names(path)) == 1
    assert damaged(path) == ["a kick that must not be forgotten"]


async def test_a_restart_does_not_mend_it(path: Path) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(OTHER, Reason.HELD)
    write(path, "broken")
    for _ in range(2):
        async with Scene(path) as scene:
            assert scene.blocks.error
            # What was saved last is known, and better than nothing.
            assert scene.blocks.in_force().keys() == scene.blocks.announced.keys() == {OTHER}
    assert path.name not in names(path)


async def test_a_mended_file_is_taken_over_with_what_happened_meanwhile(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, "broken")
    async with Scene(path) as scene:
        assert await scene.blocks.add(MESH, Reason.KICKED) is False
        changes = scene.changes
        edit(path, '{"blockedMeshes": {}}', {THIRD: {"reason": "kicked"}})
        await scene.blocks.reload()
        assert scene.blocks.error is None
        assert scene.changes > changes
        await scene.settled()
        assert scene.blocks.save_error is None
        assert scene.blocks.in_force().keys() == entries(path).keys() == {MESH, THIRD}
        assert "The blocklist can be used again" in caplog.messages
        assert await scene.blocks.add(OTHER, Reason.KICKED) is True


async def test_who_takes_the_damaged_file_away_does_not_miss_it(path: Path) -> None:
    write(path, "broken")
    async with Scene(path) as scene:
        assert await scene.blocks.add(MESH, Reason.KICKED) is False
        (kept,) = names(path)
        remove(path.with_name(kept))
        await scene.blocks.reload()
        assert scene.blocks.error is None
        await scene.settled()
        assert entries(path).keys() == {MESH}


async def test_a_file_that_was_mended_badly_is_kept_aside_as_well(path: Path) -> None:
    write(path, "broken")
    async with Scene(path) as scene:
        first = scene.blocks.error
        write(path, "still broken")
        await scene.blocks.reload()
        assert scene.blocks.error
        assert scene.blocks.error is not first
        assert sorted(damaged(path)) == ["broken", "still broken"]
        assert path.name not in names(path)


async def test_what_could_not_be_used_is_left_until_somebody_restores_what_was_saved(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(OTHER, Reason.HELD)
    write(path, "broken")
    async with Scene(path) as scene:
        assert await scene.blocks.add(MESH, Reason.KICKED) is False
        changes = scene.changes
        assert await scene.blocks.restore() == 2
        assert scene.blocks.error is None
        assert scene.blocks.save_error is None
        assert scene.changes > changes
        assert entries(path).keys() == {MESH, OTHER}
        assert "The blocklist goes on as it was saved last" in warnings(caplog)
        assert await scene.blocks.add(THIRD, Reason.KICKED) is True
    # The damaged one is still there, and does no harm.
    assert damaged(path) == ["broken"]
    async with Scene(path) as scene:
        assert scene.blocks.error is None
        assert scene.blocks.in_force().keys() == {MESH, OTHER, THIRD}


@pytest.mark.parametrize("copy", [None, "broken as well"])
async def test_where_nothing_was_saved_last_there_is_nothing_to_restore(path: Path, copy: str | None) -> None:
    write(path, "a kick that must not be forgotten")
    if copy:
        write(path.with_name("blocklist.json.saved"), copy)
    for _ in range(2):
        async with Scene(path) as scene:
            assert scene.blocks.error
            assert "restore" not in scene.blocks.error.hint
            assert await scene.blocks.add(MESH, Reason.KICKED) is False
            with pytest.raises(RaveError, match="there is nothing that was saved last") as e:
                await scene.blocks.restore()
            assert e.value.code is Code.BAD_FILE
            assert '{"blockedMeshes": {}}' in e.value.hint
            assert scene.blocks.error
            assert path.name not in names(path)
    async with Scene(path) as scene:
        assert await scene.blocks.add(MESH, Reason.KICKED) is False
        # What the hint says.
        write(path, '{"blockedMeshes": {}}')
        await scene.blocks.reload()
        assert scene.blocks.error is None
        await scene.settled()
        assert entries(path).keys() == {MESH}
    assert damaged(path) == ["a kick that must not be forgotten"]


async def test_neither_file_nor_a_copy_that_can_be_used_is_no_empty_list(path: Path) -> None:
    write(path.with_name("blocklist.json.saved"), "a kick that must not be forgotten")
    for _ in range(2):
        async with Scene(path) as scene:
            assert scene.blocks.error
            assert await scene.blocks.add(MESH, Reason.KICKED) is False
    async with Scene(path) as scene:
        edit(path, '{"blockedMeshes": {}}', {THIRD: {"reason": "kicked"}})
        await scene.blocks.reload()
        await scene.settled()
    async with Scene(path) as scene:
        assert scene.blocks.error is None
        assert scene.blocks.in_force().keys() == {THIRD}


async def test_there_is_nothing_to_restore_when_nothing_is_wrong(path: Path) -> None:
    async with Scene(path) as scene:
        with pytest.raises(RaveError, match="there is nothing to restore") as e:
            await scene.blocks.restore()
        assert e.value.code is Code.INVALID_ARGUMENT


async def test_restoring_on_a_full_disk_changes_nothing(
    path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    async with Scene(path) as scene:
        await scene.blocks.add(OTHER, Reason.HELD)
    write(path, "broken")
    async with Scene(path) as scene:
        disk.full = True
        with pytest.raises(RaveError, match="No space left on device") as e:
            await scene.blocks.restore()
        assert e.value.code is Code.BAD_FILE
        assert scene.blocks.error
        assert path.name not in names(path)
        assert "The blocklist goes on as it was saved last" not in caplog.messages
        disk.full = False
        assert await scene.blocks.restore() == 1
        assert scene.blocks.error is None
        assert path.name in names(path)


async def test_restoring_takes_over_a_file_that_was_put_back_just_now(path: Path) -> None:
    write(path, "broken")
    async with Scene(path) as scene:
        edit(path, '{"blockedMeshes": {}}', {THIRD: {"reason": "kicked"}})
        assert await scene.blocks.restore() == 1
        assert entries(path).keys() == {THIRD}
