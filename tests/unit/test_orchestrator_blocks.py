from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ravesvc.errors import Code
from ravesvc.orchestrator.blocks import Blocks
from ravesvc.store import blocklist
from ravesvc.store.blocklist import Block, Reason

MESH = "11111111-2222-4333-8444-555555555555"
OTHER = "22222222-2222-4333-8444-555555555555"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blocklist.json"


def on_disk(path: Path) -> list[Block]:
    return list(blocklist.load(path))


def test_a_block_is_on_disk_before_anybody_is_told(path: Path) -> None:
    blocks = Blocks(path, 60.5, Clock())
    assert blocks.add(MESH, Reason.CRASHES, "exit status 1")
    expected = Block(mesh=MESH, reason=Reason.CRASHES, since=1_000_000, until=1_060_500, detail="exit status 1")
    assert on_disk(path) == [expected]
    assert blocks.get(MESH) == expected
    assert blocks.in_force() == {MESH: expected}


@pytest.mark.parametrize("reason", Reason)
def test_kicks_and_holds_are_for_ever(path: Path, reason: Reason) -> None:
    clock = Clock()
    blocks = Blocks(path, 60, clock)
    blocks.add(MESH, reason, "", actor="operator")
    found = blocks.get(MESH)
    assert found
    assert found.actor == "operator"
    clock.now = 1060.0
    assert blocks.get(MESH)
    clock.now = 1060.1
    assert bool(blocks.get(MESH)) is (reason in (Reason.KICKED, Reason.HELD))
    assert bool(blocks.in_force()) is bool(blocks.get(MESH))


def test_the_real_clock_is_the_default(path: Path) -> None:
    blocks = Blocks(path, 60)
    blocks.add(MESH, Reason.CRASHES, "")
    found = blocks.get(MESH)
    assert found
    assert found.since > 1_700_000_000_000


def test_what_is_over_goes_from_disk_too(path: Path) -> None:
    clock = Clock()
    blocks = Blocks(path, 60, clock)
    blocks.add(MESH, Reason.GONE, "")
    blocks.add(OTHER, Reason.KICKED, "")
    assert blocks.drop_expired() == []
    clock.now += 61
    assert [block.mesh for block in blocks.drop_expired()] == [MESH]
    assert [block.mesh for block in on_disk(path)] == [OTHER]


def test_nothing_is_written_when_nothing_is_over(path: Path) -> None:
    Blocks(path, 60, Clock()).drop_expired()
    assert not path.exists()


def test_removing_is_saved(path: Path) -> None:
    blocks = Blocks(path, 60, Clock())
    blocks.add(MESH, Reason.KICKED, "")
    assert blocks.remove(MESH)
    assert blocks.get(MESH) is None
    assert on_disk(path) == []


def test_a_new_parent_finds_what_the_old_one_saved(path: Path) -> None:
    Blocks(path, 60, Clock()).add(MESH, Reason.KICKED, "")
    again = Blocks(path, 60, Clock())
    assert again.error is None
    assert again.in_force().keys() == {MESH}


def test_a_file_that_can_not_be_read_is_never_overwritten(path: Path) -> None:
    path.write_text("a kick that must not be forgotten")
    blocks = Blocks(path, 60, Clock())
    assert blocks.error
    assert blocks.error.code is Code.BAD_FILE
    assert blocks.add(MESH, Reason.KICKED, "") is False
    assert blocks.remove(OTHER) is False
    assert blocks.get(MESH)
    assert path.read_text() == "a kick that must not be forgotten"


def test_a_block_that_can_not_be_saved_holds_and_is_saved_with_the_next(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = path.parent / "state"
    blocks = Blocks(directory / "blocklist.json", 60, Clock())
    with caplog.at_level(logging.ERROR):
        assert blocks.add(MESH, Reason.KICKED, "") is False
    assert "The blocklist could not be saved, it is kept in memory" in caplog.text
    assert blocks.get(MESH)
    directory.mkdir()
    assert blocks.add(OTHER, Reason.GONE, "") is True
    assert [block.mesh for block in on_disk(directory / "blocklist.json")] == [MESH, OTHER]
