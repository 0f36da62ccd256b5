from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import logging
import math
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ravesvc.blocklist import blocklist as module
from ravesvc.blocklist import file as blockfile
from ravesvc.blocklist.blocklist import Blocklist, await_saved, describe, log_change
from ravesvc.blocklist.file import BlockFile, from_json
from ravesvc.blocklist.model import EDITOR, SERVICE, Block, BlocklistChange, BlocklistModel, Reason, What
from ravesvc.common.atomic_files import write_atomically
from ravesvc.common.log_fields import LogEvent
from ravesvc.common.steady_clock import Clock
from ravesvc.errors import Code, RaveError
from tests.unit.conftest import until

Run = Callable[[Coroutine[Any, Any, Any]], Any]

MESH = "11111111-2222-4333-8444-555555555555"
OTHER = "22222222-2222-4333-8444-555555555555"
THIRD = "33333333-2222-4333-8444-555555555555"
HOUR = 3600
NONE: Mapping[str, Mapping[str, Any]] = {}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blocklist.json"


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, "ravesvc"):
        yield


class Machine:
    """Its two clocks, in seconds; they stand still until a test moves them."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.boottime = 5000.0

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.wall, boottime=lambda: self.boottime, boot="this")

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.boottime += seconds


class Scene:
    """A blocklist, and what is heard of it."""

    def __init__(
        self,
        path: Path,
        *,
        duration: float = 60,
        machine: Machine | None = None,
        retry: float = HOUR,
        pace: float = 0.01,
    ) -> None:
        self.path = path
        self.heard: list[BlocklistChange] = []
        self.on_disk: list[set[str]] = []
        self.changes = 0
        self.blocks = Blocklist(
            path,
            duration,
            machine.clock() if machine else Clock(),
            announce=self._announce,
            changed=self._changed,
            retry_s=retry,
            save_delay_s=pace,
        )

    def _announce(self, change: BlocklistChange) -> None:
        self.heard.append(change)
        self.on_disk.append(set(entries(self.path)))

    def _changed(self) -> None:
        self.changes += 1

    @property
    def told(self) -> list[tuple[str, str, str]]:
        return [(change.block.mesh, change.what.value, change.actor) for change in self.heard]

    async def __aenter__(self) -> Scene:
        await self.blocks.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.blocks.close()

    async def settled(self) -> None:
        """Everything that has changed is saved."""
        await until(lambda: not (self.blocks._scheduled_save or self.blocks._dirty or self.blocks._io.locked()))


def read(path: Path) -> str:
    return path.read_text()


def write(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


def names(path: Path) -> list[str]:
    """What is in the directory of the file."""
    return sorted(entry.name for entry in path.parent.iterdir())


def entries(path: Path) -> dict[str, Any]:
    """The entries in the file; none without a file."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())["blockedMeshes"]
    except FileNotFoundError:
        return {}
    return found


def edit(path: Path, base: str, changes: Mapping[str, Mapping[str, Any]] = NONE, *, without: str = "") -> None:
    """Save `base` in an editor, with entries taken out, and changed or put in by mesh id."""
    document = json.loads(base)
    document["blockedMeshes"].pop(without, None)
    for mesh, values in changes.items():
        entry = {"reason": "operator", "blockedAt": 1_700_000_000_000, "blockedUntil": None}
        document["blockedMeshes"][mesh] = document["blockedMeshes"].get(mesh, entry) | values
    path.write_text(json.dumps(document))


def damaged(path: Path) -> list[str]:
    return [kept.read_text() for kept in sorted(path.parent.glob("blocklist.json.damaged-*"))]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


class Disk:
    """Counts the saves; holds each of them until a test lets it go, or lets it fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.attempts = 0
        self.full = False
        # Edits of the file just before it is written, one each time.
        self.edits: list[Callable[[], object]] = []
        self.free = threading.Event()
        self.free.set()
        self._save = BlockFile.save
        monkeypatch.setattr(BlockFile, "save", lambda file, blocklist: self._slow(file, blocklist))
        monkeypatch.setattr(blockfile, "write_atomically", self._write)

    def _slow(self, file: BlockFile, blocklist: BlocklistModel) -> None:
        self.begun += 1
        assert self.free.wait(60)
        self._save(file, blocklist)

    def _write(self, path: Path, content: bytes, mode: int, *, check: Callable[[], object]) -> None:
        self.attempts += 1
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        if path.suffix == ".json" and self.edits:
            self.edits.pop(0)()
        write_atomically(path, content, mode, check=check)

    @contextlib.asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        """What is saved meanwhile takes until the end of this."""
        self.free.clear()
        try:
            yield
        finally:
            self.free.set()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(monkeypatch)
    yield disk
    disk.free.set()


# Blocking and unblocking.


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
            # The child says that it was kicked, and its unit fails before that is on disk.
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
async def test_what_a_child_says_can_be_read_again(path: Path, said: int, known: int) -> None:
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


# Edits by hand.


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
        What.RELEASED: "Mesh m is no longer blocked (its process failed too often: signal SIGSEGV)",
        What.UNBLOCKED: "Mesh m is unblocked by root (its process failed too often: signal SIGSEGV)",
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


@pytest.mark.parametrize(("count", "told"), [(100, 100), (101, 0)])
def test_a_list_that_was_taken_over_while_nobody_ran_is_not_told_entry_by_entry(
    path: Path, run: Run, caplog: pytest.LogCaptureFixture, count: int, told: int
) -> None:
    meshes = [str(uuid.UUID(int=number)) for number in range(count)]
    entry = {"reason": "kicked", "blockedAt": 1, "blockedUntil": None}
    write(path, json.dumps({"blockedMeshes": {mesh: {"meshId": mesh, **entry} for mesh in meshes}}))

    async def body() -> None:
        async with Scene(path) as scene:
            assert set(scene.blocks.announced) == set(meshes), "who looks sees all"
            await scene.settled()
            assert len(scene.heard) == told

    run(body())
    assert (f"{count} entries of the blocklist have changed" in caplog.text) == (told == 0)
