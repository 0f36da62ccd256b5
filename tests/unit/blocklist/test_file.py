from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.blocklist import file as blockfile
from ravesvc.blocklist.file import BlockFile, EditedMeanwhile, from_json, to_json
from ravesvc.blocklist.model import SERVICE, Block, BlocklistModel, HistoryEvent, MeshMemory, Reason, What
from ravesvc.common.atomic_files import write_atomically
from ravesvc.common.steady_clock import Clock
from ravesvc.common.text import printable, user_name
from ravesvc.errors import Code, RaveError

MESH = "11111111-2222-4333-8444-555555555555"
OTHER = "22222222-2222-4333-8444-555555555555"
DAY = 24 * 3600
# As the reference implementation writes it.
REFERENCE = """{
  "blockedMeshes": {
    "11111111-2222-4333-8444-555555555555": {
      "meshId": "11111111-2222-4333-8444-555555555555",
      "reason": "connection_failures",
      "blockedAt": 1700000000000,
      "blockedUntil": 1700003600000
    },
    "22222222-2222-4333-8444-555555555555": {
      "meshId": "22222222-2222-4333-8444-555555555555",
      "reason": "kicked",
      "blockedAt": 1700000000000,
      "blockedUntil": null
    }
  }
}
"""
FAILED = Block(mesh=MESH, reason=Reason.CONNECTION_FAILURES, since=1700000000000, until=1700003600000)
KICKED = Block(mesh=OTHER, reason=Reason.KICKED, since=1700000000000, until=None)


class Machine:
    """Its two clocks, in seconds."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.boottime = 5000.0

    def clock(self, boot: str = "this") -> Clock:
        return Clock(wall=lambda: self.wall, boottime=lambda: self.boottime, boot=boot)

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.boottime += seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blocklist.json"


@pytest.fixture
def clock() -> Clock:
    return Machine().clock()


@pytest.fixture
def file(path: Path, clock: Clock) -> BlockFile:
    return BlockFile(path, clock)


def copy_of(path: Path) -> Path:
    return path.with_name("blocklist.json.saved")


def damaged(path: Path) -> list[str]:
    """What was kept aside."""
    return [kept.read_text() for kept in sorted(path.parent.glob("blocklist.json.damaged-*"))]


def everything(blocks: BlocklistModel) -> tuple[list[Block], list[tuple[str, MeshMemory]], int]:
    return list(blocks), list(blocks.memories.items()), blocks.revision


def entry(**changes: Any) -> str:
    """A text with one entry, changed."""
    return json.dumps({"blockedMeshes": {MESH: {"reason": "kicked", "blockedAt": 1, "blockedUntil": None} | changes}})


def memory(**changes: Any) -> str:
    """A text with one memory."""
    return json.dumps({"blockedMeshes": {}, "meshes": {MESH: changes}})


def event(**changes: Any) -> str:
    """A text with one event in a history, changed."""
    return memory(history=[{"at": 1, "what": "blocked", "reason": "kicked"} | changes])


# The text.


def test_the_reference_file_is_understood(clock: Clock) -> None:
    assert everything(from_json(REFERENCE, "it", clock)) == ([FAILED, KICKED], [], 0)


def test_the_reference_would_understand_ours(clock: Clock) -> None:
    ours = json.loads(to_json(BlocklistModel([FAILED, KICKED], revision=3), clock))
    theirs = json.loads(REFERENCE)
    for mesh, expected in theirs["blockedMeshes"].items():
        entry = ours["blockedMeshes"][mesh]
        assert {key: entry[key] for key in expected} == expected
        assert entry.keys() - expected.keys() == {"detail", "actor", "count", "revision", "title"}
    assert ours.keys() - theirs.keys() == {"revision", "saved", "meshes"}
    assert ours["revision"] == 3
    assert ours["saved"] == {"wall": 1_700_000_000_000, "boottime": 5_000_000, "boot": "this"}


def test_the_file_is_for_people(clock: Clock) -> None:
    text = to_json(
        BlocklistModel([Block(mesh=MESH, reason=Reason.HELD, since=1, until=None, detail="für später")]), clock
    )
    assert '\n    "11111111-2222-4333-8444-555555555555": {\n      "meshId": ' in text
    assert "für später" in text
    assert text.endswith("}\n")


# What can be reckoned with however the clocks are set.
TIMES = st.integers(2 * DAY * 1000 - 2**53, 2**53 - 2 * DAY * 1000)
# What has begun by now, on a machine that is new.
PAST = st.integers(2 * DAY * 1000 - 2**53, 1_700_000_000_000)
COUNTS = st.integers(0, 2**32 - 1)
WORDS = st.text(max_size=300).map(lambda text: printable(text, 300))
ACTORS = st.text(min_size=1, max_size=300).map(lambda text: printable(text, 300))
MESHES = st.uuids().map(str)
EVENTS = st.builds(
    HistoryEvent,
    at=TIMES,
    what=st.sampled_from(What),
    reason=st.sampled_from(Reason),
    actor=ACTORS,
    detail=WORDS,
)
MEMORIES = st.builds(
    MeshMemory,
    failures=COUNTS,
    failing_since=st.none() | TIMES,
    last_error=WORDS,
    blocks=COUNTS,
    quarantines=COUNTS,
    at=TIMES,
    history=st.lists(EVENTS, max_size=3).map(tuple),
)
BLOCKS = st.builds(
    Block,
    mesh=MESHES,
    reason=st.sampled_from(Reason),
    since=PAST,
    until=st.none() | TIMES,
    detail=WORDS,
    actor=ACTORS,
    count=st.integers(1, 2**32 - 1),
    revision=COUNTS,
    title=WORDS,
)
LISTS = st.builds(
    BlocklistModel,
    st.lists(BLOCKS, unique_by=lambda block: block.mesh, max_size=3),
    st.dictionaries(MESHES, MEMORIES, max_size=3),
    COUNTS,
)


@pytest.mark.slow
@given(LISTS, st.sampled_from([0, DAY, -DAY]), st.sampled_from([0, DAY, -DAY]))
def test_a_list_survives_the_file_whatever_the_wall_clock_does(before: BlocklistModel, first: int, then: int) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall += first
    text = to_json(before, clock)
    text.encode()
    machine.wall += then
    assert everything(from_json(text, "it", clock)) == everything(before)


@pytest.mark.slow
@given(LISTS)
def test_what_is_read_is_written_as_it_was(before: BlocklistModel) -> None:
    clock = Machine().clock()
    text = to_json(before, clock)
    assert to_json(from_json(text, "it", clock), clock) == text


STEPS = st.lists(
    st.tuples(MESHES, st.sampled_from(Reason), st.integers(0, 2**32 - 1), st.none() | st.integers(0, 10**15), WORDS),
    max_size=5,
)


@pytest.mark.slow
@given(
    revision=st.integers(-5, 2**63 - 1),
    counts=st.dictionaries(st.sampled_from(["failures", "blocks", "quarantines"]), st.integers(-5, 2**63 - 1)),
    count=st.integers(-5, 2**63 - 1),
    words=st.text() | st.just("x\n" * 1000),
    steps=STEPS,
)
def test_whatever_was_typed_and_came_to_it_can_be_written_and_read_again(
    revision: int, counts: dict[str, int], count: int, words: str, steps: list[Any]
) -> None:
    clock = Machine().clock()
    text = json.loads(entry(detail=words, actor=words, count=count, revision=revision))
    text |= {"revision": revision, "meshes": {MESH: counts | {"lastError": words}}}
    blocks = BlocklistModel()
    blocks.merge_edit(from_json(json.dumps(text), "it", clock), clock.now())
    blocks.add(MESH, Reason.OPERATOR, clock.now(), None)
    blocks.remove(MESH, clock.now(), "root")
    for number, (mesh, reason, failures, duration, error) in enumerate(steps):
        blocks.record_failure(mesh, failures, error, clock.now())
        blocks.add(mesh if number % 2 else MESH, reason, clock.now(), duration, detail=error)
        blocks = blocks.snapshot()
    text = to_json(blocks, clock)
    assert everything(from_json(text.encode(), "it", clock)) == everything(blocks)


def test_counting_ends_where_it_could_not_be_read_again(clock: Clock) -> None:
    text = json.loads(memory(blocks=2**63 - 1, quarantines=2**63 - 1, failures=2**63 - 1))
    text["revision"] = 2**63 - 1
    blocks = BlocklistModel()
    blocks.merge_edit(from_json(json.dumps(text), "it", clock), clock.now())
    blocks.add(MESH, Reason.CRASHES, clock.now(), 1000)
    blocks = blocks.snapshot()
    assert (blocks.memory(MESH).blocks, blocks.memory(MESH).quarantines) == (2**32 - 1, 2**32 - 1)
    assert everything(from_json(to_json(blocks, clock), "it", clock)) == everything(blocks)


@pytest.mark.parametrize("words", ["a\n<3>b", "a\x1b[2Jb", "x" * 301])
def test_words_that_somebody_has_typed_are_made_fit_for_a_log(clock: Clock, words: str) -> None:
    text = json.loads(entry(detail=words, actor=words))
    text["meshes"] = {MESH: json.loads(event(detail=words, actor=words))["meshes"][MESH] | {"lastError": words}}
    blocks = from_json(json.dumps(text), "it", clock)
    (block,) = blocks
    (told,) = blocks.memory(MESH).history
    fit = printable(words, 300)
    assert fit != words
    assert {block.detail, block.actor, told.detail, told.actor, blocks.memory(MESH).last_error} == {fit}


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_jump_of_the_clock_does_not_change_what_is_left_of_a_block(path: Path, jump: int) -> None:
    machine = Machine()
    writer = machine.clock()
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.CRASHES, writer.now(), 3600_000)
    BlockFile(path, writer).save(blocks)
    machine.sleep(600)
    machine.wall += jump
    reader = machine.clock()
    loaded = BlockFile(path, reader).load_copy()
    end = loaded.next_end()
    assert end is not None
    assert end - reader.now() == 3000_000
    # People read the time that their clock shows.
    assert (
        json.loads(to_json(loaded, reader))["blockedMeshes"][MESH]["blockedUntil"] == int(machine.wall + 3000) * 1000
    )


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_jump_while_we_run_moves_what_is_written_and_not_what_is_meant(jump: int) -> None:
    machine = Machine()
    clock = machine.clock()
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.CRASHES, clock.now(), 3600_000)
    machine.wall += jump
    text = to_json(blocks, clock)
    assert json.loads(text)["blockedMeshes"][MESH]["blockedUntil"] == (1_700_003_600 + jump) * 1000
    assert list(from_json(text, "it", clock)) == list(blocks)


def test_after_a_boot_the_wall_clock_counts() -> None:
    machine = Machine()
    clock = machine.clock()
    text = to_json(BlocklistModel([FAILED]), clock)
    machine.sleep(600)
    machine.boottime = 1.0
    assert list(from_json(text, "it", machine.clock("another"))) == [FAILED]


@pytest.mark.parametrize(("wall", "boottime"), [(2**63 - 1, 5_000_000), (1, -(2**63 - 1))])
def test_a_stamp_that_cannot_be_true_moves_no_time(clock: Clock, wall: int, boottime: int) -> None:
    written = json.loads(to_json(BlocklistModel([KICKED]), clock))
    written["saved"] |= {"wall": wall, "boottime": boottime}
    (block,) = from_json(json.dumps(written), "the file", clock)
    assert block == KICKED


@pytest.mark.parametrize("stamped", [True, False])
def test_a_clock_that_is_not_set_yet_after_a_boot_makes_no_block_longer(stamped: bool) -> None:
    machine = Machine()
    clock = machine.clock()
    blocks = BlocklistModel([KICKED])
    blocks.add(MESH, Reason.CRASHES, clock.now(), 3600_000)
    written = json.loads(to_json(blocks, clock))
    if not stamped:
        del written["saved"]
    text = json.dumps(written)
    for boot in range(3):
        # It is behind each time, and NTP sets it after a minute.
        machine.wall, machine.boottime = 1_700_000_000.0 - 400 * DAY, 1.0
        clock = machine.clock(f"boot {boot}")
        blocks = from_json(text, "it", clock)
        assert blocks.next_end() == clock.now() + 3600_000
        block = blocks.get(MESH, clock.now())
        assert block
        assert block.since == clock.now()
        assert blocks.get(OTHER, 2**60)
        machine.sleep(60)
        machine.wall += 400 * DAY
        text = to_json(blocks, clock)
        # A parent that follows in the same boot reckons with what is left.
        follower = machine.clock(f"boot {boot}")
        assert from_json(text, "it", follower).next_end() == follower.now() + 3540_000


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_an_entry_that_is_typed_after_a_jump_of_the_clock_is_no_longer_than_it_says(jump: int) -> None:
    machine = Machine()
    clock = machine.clock()
    opened = json.loads(to_json(BlocklistModel(), clock))
    machine.wall += jump
    now = int(machine.wall) * 1000
    opened["blockedMeshes"][MESH] = {"reason": "operator", "blockedAt": now, "blockedUntil": now + 3600_000}
    (block,) = from_json(json.dumps(opened), "it", clock)
    assert block.until is not None
    assert block.until <= clock.now() + 3600_000


def test_an_end_may_be_typed_that_is_farther_away_than_the_first_one() -> None:
    machine = Machine()
    clock = machine.clock()
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.CRASHES, clock.now(), 3600_000)
    written = json.loads(to_json(blocks, clock))
    machine.sleep(600)
    (same,) = from_json(json.dumps(written), "it", clock)
    assert [same] == list(blocks)
    written["blockedMeshes"][MESH]["blockedUntil"] += DAY * 1000
    (longer,) = from_json(json.dumps(written), "it", clock)
    assert longer.until == 1_700_003_600_000 + DAY * 1000
    assert not longer.is_same_as(same)


FAR = [2**53 + 1, 2**63 - 1, -(2**53) - 1, 1 - 2**63]


@pytest.mark.parametrize("far", FAR)
@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_time_too_far_away_to_reckon_with_can_be_written_and_read_again(far: int, jump: int) -> None:
    machine = Machine()
    clock = machine.clock()
    text = json.loads(event(at=far))
    text["meshes"][MESH]["at"] = far
    text["blockedMeshes"] = json.loads(entry(blockedAt=far, blockedUntil=far))["blockedMeshes"]
    blocks = from_json(json.dumps(text), "it", clock)
    for _ in range(3):
        machine.wall += jump
        blocks = from_json(to_json(blocks, clock), "it", clock)
    (block,) = blocks
    memory = blocks.memory(MESH)
    for time in (block.since, memory.at, memory.history[0].at):
        assert abs(time - far) < abs(far)
        assert (time < 0) is (far < 0)
    # The largest number means for ever.
    assert block.until is None if far > 0 else block.until == block.since


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"it is not valid JSON \(line 1: Expecting value\)"),
        (REFERENCE.replace("null", ""), r"it is not valid JSON \(line 14: Expecting value\)"),
        (REFERENCE.replace("},", "}"), r"it is not valid JSON \(line 9: Expecting ',' delimiter\)"),
        ("[" * 100_000, "it is not valid JSON$"),
        ("[]", "it must be an object, but is a list"),
        ("{}", "blockedMeshes must be an object, but is missing"),
        ('{"blockedMeshes": []}', "blockedMeshes must be an object, but is a list"),
        ('{"blockedMeshes": {"x": {}}}', "'x' is not a mesh id"),
        (f'{{"blockedMeshes": {{"{MESH.upper()}": {{}}}}}}'.replace("1", "A"), "is not a mesh id"),
        (f'{{"blockedMeshes": {{"{MESH}": 1}}}}', f"{MESH} must be an object, but is a int"),
        (entry(reason="bored"), f"the entry of {MESH} says 'bored' where it may say connection_failures, kicked, .*"),
        (entry(reason="x" * 500), f"the entry of {MESH} says '{'x' * 80}' where"),
        (entry(reason=None), "reason must be a text, but is missing"),
        (entry(blockedAt=None), "blockedAt must be an integer, but is missing"),
        (entry(blockedUntil="soon"), "blockedUntil must be an integer, but is a str"),
        (entry(blockedUntil=1.5), "blockedUntil must be an integer, but is a float"),
        (entry(blockedUntil=True), "blockedUntil must be an integer, but is a bool"),
        (entry(blockedUntil=2**63), "blockedUntil must be an integer"),
        (entry(detail=1), "detail must be a text, but is a int"),
        (entry(actor=1), "actor must be a text"),
        (entry(count="many"), "count must be an integer"),
        (entry(revision=[]), "revision must be an integer"),
        ('{"blockedMeshes": {}, "revision": "new"}', "revision must be an integer"),
        ('{"blockedMeshes": {}, "saved": 5}', "saved must be an object"),
        ('{"blockedMeshes": {}, "saved": {"boottime": 1, "boot": "this"}}', "wall must be an integer"),
        ('{"blockedMeshes": {}, "saved": {"wall": 1, "boot": "this"}}', "boottime must be an integer"),
        ('{"blockedMeshes": {}, "saved": {"wall": 1, "boottime": 1}}', "boot must be a text"),
        ('{"blockedMeshes": {}, "meshes": []}', "meshes must be an object"),
        ('{"blockedMeshes": {}, "meshes": {"x": {}}}', "'x' is not a mesh id"),
        (f'{{"blockedMeshes": {{}}, "meshes": {{"{MESH}": 1}}}}', f"{MESH} must be an object"),
        (memory(failures="many"), "failures must be an integer"),
        (memory(lastError=1), "lastError must be a text"),
        (memory(blocks="many"), "blocks must be an integer"),
        (memory(quarantines="many"), "quarantines must be an integer"),
        (memory(at="now"), "at must be an integer"),
        (memory(history={}), "history must be a list"),
        (memory(history=[1]), "an event must be an object"),
        (event(at=None), "at must be an integer"),
        (event(what="invited"), "the entry of an event says 'invited' where it may say blocked, released, unblocked"),
        (event(reason="bored"), "the entry of an event says 'bored' where it may say"),
        (event(actor=1), "actor must be a text"),
        (event(detail=1), "detail must be a text"),
    ],
)
def test_one_bad_entry_spoils_the_whole(text: str, words: str, clock: Clock) -> None:
    with pytest.raises(RaveError, match=words) as e:
        from_json(text, "it", clock)
    assert e.value.code in (Code.BAD_DATA, Code.INVALID_ARGUMENT)


def test_what_people_leave_out_has_a_meaning(clock: Clock) -> None:
    (block,) = from_json(entry(actor=""), "it", clock)
    assert block == Block(mesh=MESH, reason=Reason.KICKED, since=1, until=None, actor=SERVICE, count=1, revision=0)
    blocks = from_json(memory(), "it", clock)
    assert blocks.memories == {MESH: MeshMemory()}
    assert from_json(event(actor=""), "it", clock).memory(MESH).history == (
        HistoryEvent(at=1, what=What.BLOCKED, reason=Reason.KICKED, actor=SERVICE, detail=""),
    )


def test_numbers_below_any_sense_count_as_the_least(clock: Clock) -> None:
    text = json.loads(entry(count=-5, revision=-5))
    text |= {"revision": -5, "meshes": {MESH: {"failures": -1, "blocks": -1, "quarantines": -1}}}
    blocks = from_json(json.dumps(text), "it", clock)
    (block,) = blocks
    assert (block.count, block.revision, blocks.revision) == (1, 0, 0)
    assert blocks.memories == {MESH: MeshMemory()}


@pytest.mark.parametrize("number", [2**32, 2**63 - 1])
def test_numbers_above_any_sense_count_as_the_most(clock: Clock, number: int) -> None:
    text = json.loads(entry(count=number, revision=number))
    text |= {"revision": number, "meshes": {MESH: dict.fromkeys(["failures", "blocks", "quarantines"], number)}}
    blocks = from_json(json.dumps(text), "it", clock)
    (block,) = blocks
    most = 2**32 - 1
    assert (block.count, block.revision, blocks.revision) == (most, most, most)
    assert blocks.memories == {MESH: MeshMemory(failures=most, blocks=most, quarantines=most)}


def test_half_of_a_surrogate_pair_does_not_keep_the_list_from_being_saved(clock: Clock, file: BlockFile) -> None:
    text = json.loads(entry(detail="\ud800", actor="\ud800"))
    text |= {"meshes": json.loads(event(detail="\udfff"))["meshes"]}
    blocks = from_json(json.dumps(text), "it", clock)
    file.save(blocks)
    (block,) = file.load_copy()
    assert (block.detail, block.actor) == ("?", "?")
    assert file.load_copy().memory(MESH).history[0].detail == "?"


# The file, and its copy.


def test_what_is_saved_is_loaded(path: Path, clock: Clock, file: BlockFile) -> None:
    blocks = BlocklistModel([FAILED, KICKED], revision=7)
    file.save(blocks)
    for saved in (path, copy_of(path)):
        assert saved.read_text() == to_json(blocks, clock)
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert everything(file.load_copy()) == everything(blocks)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["blocklist.json", "blocklist.json.saved"]


def test_each_save_has_the_histories_as_they_are_now(path: Path) -> None:
    wall = 1_700_000_000.0
    clock = Clock(wall=lambda: wall, boottime=lambda: 5000.0, boot="this")
    file, blocks = BlockFile(path, clock), BlocklistModel()
    for change in (
        lambda: blocks.add(MESH, Reason.HELD, 1000, None),
        lambda: blocks.remove(MESH, 2000, "alice"),
        lambda: blocks.record_failure(MESH, 1, "no answer", 3000),
        lambda: blocks.add(MESH, Reason.OPERATOR, 4000, None),
    ):
        change()
        for jump in (0, DAY):
            wall += jump
            file.save(blocks)
            assert path.read_text() == to_json(blocks, clock)
    file.save(BlocklistModel())
    assert path.read_text() == to_json(BlocklistModel(), clock)


def test_before_anything_was_saved_there_is_nothing(
    path: Path, file: BlockFile, caplog: pytest.LogCaptureFixture
) -> None:
    assert everything(file.load_copy()) == ([], [], 0)
    assert file.read_edit() is None
    assert file.is_missing()
    assert not file.has_unread_edit()
    assert caplog.messages == []
    assert list(path.parent.iterdir()) == []


def test_our_own_text_is_no_edit(path: Path, clock: Clock, file: BlockFile) -> None:
    file.save(BlocklistModel([KICKED]))
    assert file.read_edit() is None
    assert not file.has_unread_edit()
    assert not file.is_missing()
    # It may be another one's, who has been here before.
    assert BlockFile(path, clock).has_unread_edit()
    found = BlockFile(path, clock).read_edit()
    assert found
    assert list(found) == [KICKED]


def test_what_somebody_has_written_since_is_an_edit(path: Path, clock: Clock, file: BlockFile) -> None:
    file.save(BlocklistModel([KICKED]))
    path.write_text(REFERENCE)
    assert file.has_unread_edit()
    found = file.read_edit()
    assert found
    assert list(found) == [FAILED, KICKED]
    # The copy knows nothing of it.
    assert list(BlockFile(path, clock).load_copy()) == [KICKED]
    file.save(found)
    assert not file.has_unread_edit()


def test_an_edit_is_told_once(path: Path, clock: Clock, file: BlockFile) -> None:
    file.save(BlocklistModel([KICKED]))
    path.write_text(REFERENCE)
    assert file.read_edit()
    assert not file.has_unread_edit()
    assert file.read_edit() is None


def test_a_file_that_was_removed_is_no_edit(path: Path, clock: Clock, file: BlockFile) -> None:
    file.save(BlocklistModel([KICKED]))
    path.unlink()
    assert file.is_missing()
    assert not file.has_unread_edit()
    assert file.read_edit() is None
    assert list(file.load_copy()) == [KICKED]


def test_a_link_that_leads_nowhere_is_not_missing(path: Path, file: BlockFile) -> None:
    path.symlink_to("nowhere")
    assert not file.is_missing()


BAD = [
    (b"\xff", "it is not valid JSON"),
    (
        b'{\n  "blockedMeshes": {\n',
        r"it is not valid JSON \(line 3: Expecting property name enclosed in double quotes\)",
    ),
    (entry(reason="bored").encode(), "the entry of .* says 'bored'"),
    (b'{"blockedMeshes": {"x": {}}}', "'x' is not a mesh id"),
]


@pytest.mark.parametrize(("content", "words"), BAD)
def test_a_file_that_can_not_be_used_is_kept_aside(path: Path, file: BlockFile, content: bytes, words: str) -> None:
    path.write_bytes(content)
    with pytest.raises(RaveError, match=f"{path} can't be used: {words}.*; it is kept as {path}.damaged-") as e:
        file.read_edit()
    assert e.value.code is Code.BAD_FILE
    assert e.value.attributes == {"file": str(path)}
    # There is nothing to go on with.
    assert "restore" not in e.value.hint
    assert '{"blockedMeshes": {}}' in e.value.hint
    assert not path.exists()
    (kept,) = path.parent.glob("blocklist.json.damaged-*")
    assert kept.read_bytes() == content


def test_two_damaged_files_are_both_kept(path: Path, file: BlockFile) -> None:
    for text in ("one", "two"):
        path.write_text(text)
        with pytest.raises(RaveError):
            file.read_edit()
    assert sorted(damaged(path)) == ["one", "two"]


def test_while_a_damaged_one_is_there_a_missing_file_is_no_empty_list(
    path: Path, clock: Clock, file: BlockFile
) -> None:
    file.save(BlocklistModel([KICKED]))
    path.write_text("broken")
    with pytest.raises(RaveError):
        file.read_edit()
    (kept,) = path.parent.glob("blocklist.json.damaged-*")
    later = BlockFile(path, clock)
    later.load_copy()
    with pytest.raises(RaveError, match=f"{path} is missing; what was there is kept as {kept}") as e:
        later.read_edit()
    assert e.value.code is Code.BAD_FILE
    assert "ravectl blocklist restore" in e.value.hint
    # Mended and put back.
    kept.rename(path)
    path.write_text(REFERENCE)
    found = later.read_edit()
    assert found
    assert list(found) == [FAILED, KICKED]


def test_once_the_list_was_saved_an_old_damaged_one_hinders_nobody(path: Path, clock: Clock, file: BlockFile) -> None:
    path.with_name("blocklist.json.damaged-20200101T000000Z").write_text("broken")
    file.save(BlocklistModel([KICKED]))
    path.unlink()
    assert file.read_edit() is None


@pytest.mark.parametrize("removed", [["blocklist.json"], ["blocklist.json", "blocklist.json.saved"]])
def test_after_a_good_start_an_old_damaged_one_counts_no_more(
    path: Path, clock: Clock, file: BlockFile, removed: list[str]
) -> None:
    for name in "blocklist.json", "blocklist.json.saved":
        path.with_name(f"{name}.damaged-20200101T000000Z").write_text(name)
    file.save(BlocklistModel([KICKED]))
    start = BlockFile(path, clock)
    start.load_copy()
    assert start.read_edit() is None
    for name in removed:
        path.with_name(name).unlink()
    later = BlockFile(path, clock)
    assert list(later.load_copy()) == ([] if len(removed) == 2 else [KICKED])
    assert later.read_edit() is None, "as if there had never been another"
    for name in "blocklist.json", "blocklist.json.saved":
        assert path.with_name(f"{name}.old-damaged-20200101T000000Z").read_text() == name


def test_after_a_second_damage_the_file_counts_that_was_kept_then(path: Path, clock: Clock, file: BlockFile) -> None:
    old = path.with_name("blocklist.json.damaged-20990101T000000Z")
    old.write_text("the first damage, by a clock that was wrong")
    file.save(BlocklistModel([KICKED]))
    start = BlockFile(path, clock)
    start.load_copy()
    start.read_edit()
    path.write_text("broken")
    with pytest.raises(RaveError):
        start.read_edit()
    (kept,) = path.parent.glob("blocklist.json.damaged-*")
    later = BlockFile(path, clock)
    later.load_copy()
    with pytest.raises(RaveError, match=f"what was there is kept as {kept}"):
        later.read_edit()
    # In its own process the file keeps the name that the message has.
    later.save(BlocklistModel([KICKED]))
    assert later.read_edit() is None
    assert kept.read_text() == "broken"


def test_the_latest_of_several_damaged_ones_is_named(path: Path, file: BlockFile) -> None:
    for year in (2021, 2023, 2022):
        path.with_name(f"blocklist.json.damaged-{year}0101T000000Z").write_text("broken")
    with pytest.raises(RaveError, match=r"kept as .*damaged-2023"):
        file.read_edit()


def test_a_directory_in_the_files_place_is_kept_aside_too(path: Path, file: BlockFile) -> None:
    path.mkdir()
    (path / "something").write_text("precious")
    assert file.has_unread_edit()
    with pytest.raises(RaveError, match="can't be used: Is a directory; it is kept as "):
        file.read_edit()
    (kept,) = path.parent.iterdir()
    assert (kept / "something").read_text() == "precious"


def fail(number: int, text: str | None) -> Callable[..., Any]:
    def function(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, text)

    return function


def test_a_file_that_may_not_be_read_is_kept_aside(
    path: Path, file: BlockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("secret")
    # Root may read everything.
    monkeypatch.setattr(blockfile, "_read", fail(errno.EACCES, "Permission denied"))
    assert file.has_unread_edit()
    with pytest.raises(RaveError, match="can't be used: Permission denied; it is kept as"):
        file.read_edit()
    assert damaged(path) == ["secret"]


def test_an_error_without_words_is_told_all_the_same(
    path: Path, file: BlockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("secret")

    def refuse(_path: Path) -> bytes:
        raise OSError("out of paper")

    monkeypatch.setattr(blockfile, "_read", refuse)
    with pytest.raises(RaveError, match="can't be used: out of paper; "):
        file.read_edit()


def test_a_file_that_can_not_even_be_renamed_stays_and_both_reasons_are_told(
    path: Path, file: BlockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("broken")
    monkeypatch.setattr(blockfile, "set_aside", fail(errno.EROFS, "Read-only file system"))
    with pytest.raises(RaveError, match=r"not valid JSON .*; it can't be renamed: Read-only file system") as e:
        file.read_edit()
    assert e.value.code is Code.BAD_FILE
    assert path.read_text() == "broken"


def test_a_file_that_is_too_large_is_not_read_into_memory(
    path: Path, file: BlockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockfile, "_MAX_FILE_BYTES", len(REFERENCE))
    path.write_text(REFERENCE)
    assert file.read_edit()
    path.write_text(REFERENCE + " ")
    assert file.has_unread_edit()
    with pytest.raises(RaveError, match=r"can't be used: it is larger than .*; it is kept as"):
        file.read_edit()
    assert damaged(path) == [REFERENCE + " "]


@pytest.mark.slow
def test_what_ten_thousand_meshes_need_is_not_too_large(clock: Clock) -> None:
    meshes = [f"{number:08x}-2222-4333-8444-555555555555" for number in range(10_000)]
    event = HistoryEvent(at=clock.now(), what=What.BLOCKED, reason=Reason.CONNECTION_FAILURES, detail="x" * 300)
    blocks = BlocklistModel(
        [Block(mesh=mesh, reason=Reason.KICKED, since=clock.now(), until=None, detail="x" * 300) for mesh in meshes],
        {mesh: MeshMemory(last_error="x" * 300, at=clock.now(), history=(event,) * 10) for mesh in meshes[:1000]},
    )
    assert len(to_json(blocks, clock).encode()) < blockfile._MAX_FILE_BYTES


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not valid JSON (line 1: Expecting value)"),
        (b"\xff", "is not valid JSON"),
        (entry(reason="bored").encode(), f"the entry of {MESH} says 'bored'"),
        (b"x" * 200, "it is larger than"),
    ],
)
def test_a_copy_that_can_not_be_used_is_kept_aside(
    path: Path,
    file: BlockFile,
    content: bytes,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    copy_of(path).write_bytes(content)
    with monkeypatch.context() as patch:
        patch.setattr(blockfile, "_MAX_FILE_BYTES", 150)
        assert everything(file.load_copy()) == ([], [], 0)
    assert not file.has_copy
    (kept,) = path.parent.iterdir()
    assert kept.name.startswith("blocklist.json.saved.damaged-")
    (message,) = caplog.messages
    assert message.startswith(f"{path}.saved, the copy of the blocklist, can't be used: ")
    assert message.endswith(f"; it is kept as {kept}")
    assert words in message
    # The list may have been lost with it: that is none that is empty, at this start and the next one.
    for _ in range(2):
        with pytest.raises(RaveError, match=f"{path} is missing; what was there is kept as {kept}") as e:
            file.read_edit()
        assert e.value.code is Code.BAD_FILE
        assert "restore" not in e.value.hint
        assert '{"blockedMeshes": {}}' in e.value.hint
        file = BlockFile(path, file._clock)
        assert everything(file.load_copy()) == ([], [], 0)
    # Begun anew on purpose.
    path.write_text('{"blockedMeshes": {}}')
    assert file.read_edit()
    file.save(BlocklistModel([KICKED]))
    (kept,) = path.parent.glob("blocklist.json.saved.old-damaged-*")
    assert kept.read_bytes() == content
    file = BlockFile(path, file._clock)
    path.unlink()
    assert list(file.load_copy()) == [KICKED]
    assert file.read_edit() is None


def test_a_copy_that_can_not_be_used_does_not_matter_where_the_file_is_good(path: Path, file: BlockFile) -> None:
    copy_of(path).write_text("broken")
    path.write_text(REFERENCE)
    file.load_copy()
    found = file.read_edit()
    assert found
    assert list(found) == [FAILED, KICKED]


def test_a_copy_that_can_not_even_be_renamed_is_not_overwritten_either(
    path: Path, file: BlockFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    copy_of(path).write_text("broken")
    with monkeypatch.context() as patch:
        patch.setattr(blockfile, "set_aside", fail(errno.EROFS, "Read-only file system"))
        file.load_copy()
        assert caplog.messages[-1].endswith("; it can't be renamed: Read-only file system")
        with pytest.raises(RaveError, match=f"{path} is missing; what was there is kept as {copy_of(path)}"):
            file.read_edit()
        with pytest.raises(RaveError, match=r"\.saved can't be written: Read-only file system"):
            file.save(BlocklistModel([KICKED]))
    assert copy_of(path).read_text() == "broken"
    file.save(BlocklistModel([KICKED]))
    (kept,) = path.parent.glob("blocklist.json.saved.damaged-*")
    assert kept.read_text() == "broken"
    assert file.has_copy
    assert list(BlockFile(path, file._clock).load_copy()) == [KICKED]


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, f"the user {user_name(os.getuid())} must be able to write in its directory"),
    ],
)
@pytest.mark.parametrize("which", ["blocklist.json", "blocklist.json.saved"])
def test_a_disk_that_takes_no_more_leaves_both_files_whole(
    path: Path, clock: Clock, file: BlockFile, monkeypatch: pytest.MonkeyPatch, number: int, hint: str, which: str
) -> None:
    before, after = BlocklistModel([KICKED]), BlocklistModel([FAILED])
    old, new = to_json(before, clock), to_json(after, clock)
    file.save(before)

    def write_some(path: Path, content: bytes, mode: int, *, check: Callable[[], object]) -> None:
        if path.name == which:
            raise OSError(number, "it says no")
        write_atomically(path, content, mode, check=check)

    with monkeypatch.context() as patch:
        patch.setattr(blockfile, "write_atomically", write_some)
        with pytest.raises(RaveError, match=f"{path.with_name(which)} can't be written: it says no") as e:
            file.save(after)
    assert e.value.code is Code.BAD_FILE
    assert e.value.hint == hint
    assert e.value.attributes == {"file": str(path.with_name(which))}
    assert path.read_text() == old
    assert copy_of(path).read_text() == (new if which == path.name else old)
    # Either text is our own.
    assert file.read_edit() is None
    assert not file.has_unread_edit()
    file.save(after)
    assert path.read_text() == copy_of(path).read_text() == new


EVENTFUL = BlocklistModel(
    [KICKED],
    {
        MESH: MeshMemory(
            failures=2,
            at=5,
            history=(HistoryEvent(at=5, what=What.BLOCKED, reason=Reason.GONE, detail="x" * 300),) * 10,
        ),
        OTHER: MeshMemory(
            at=5, history=(HistoryEvent(at=5, what=What.BLOCKED, reason=Reason.KICKED, detail="x" * 300),) * 10
        ),
    },
    7,
)


def test_of_a_list_that_is_too_large_to_be_read_again_the_histories_are_left_out(
    path: Path, clock: Clock, file: BlockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = len(to_json(EVENTFUL, clock).encode())
    monkeypatch.setattr(blockfile, "_MAX_FILE_BYTES", largest)
    file.save(EVENTFUL)
    assert path.stat().st_size == largest
    path.unlink()
    monkeypatch.setattr(blockfile, "_MAX_FILE_BYTES", largest - 1)
    file.save(EVENTFUL)
    for _ in range(2):
        assert not file.has_unread_edit()
        found = BlockFile(path, clock).load_copy()
        assert everything(found) == ([KICKED], [(MESH, MeshMemory(failures=2, at=5))], 7)
        file.save(found)
    # In memory they go on.
    assert len(EVENTFUL.memory(OTHER).history) == 10


def test_a_list_that_is_too_large_all_the_same_is_not_written(
    path: Path, clock: Clock, file: BlockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.save(EVENTFUL)
    before = path.read_text()
    monkeypatch.setattr(blockfile, "_MAX_FILE_BYTES", 200)
    with pytest.raises(RaveError, match=r"can't be written: \d+ bytes are more than would be read again") as e:
        file.save(EVENTFUL)
    assert e.value.code is Code.BAD_FILE
    assert "ravectl blocklist remove" in e.value.hint
    assert path.read_text() == copy_of(path).read_text() == before


@pytest.mark.parametrize("text", [REFERENCE, "broken"])
def test_an_edit_that_comes_while_the_copy_is_written_is_not_overwritten(
    path: Path, file: BlockFile, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    file.save(BlocklistModel([KICKED]))

    def write(target: Path, content: bytes, mode: int, *, check: Callable[[], object]) -> None:
        write_atomically(target, content, mode, check=check)
        if target == copy_of(path):
            path.write_text(text)

    with monkeypatch.context() as patch:
        patch.setattr(blockfile, "write_atomically", write)
        with pytest.raises(EditedMeanwhile):
            file.save(BlocklistModel([FAILED]))
    assert path.read_text() == text
    assert file.has_unread_edit()
    assert sorted(found.name for found in path.parent.iterdir()) == ["blocklist.json", "blocklist.json.saved"]


def test_a_directory_that_is_gone_is_told(tmp_path: Path, clock: Clock) -> None:
    file = BlockFile(tmp_path / "no" / "blocklist.json", clock)
    with pytest.raises(RaveError, match=r"no/blocklist.json.saved can't be written: No such file"):
        file.save(BlocklistModel())
    assert file.read_edit() is None


def test_what_an_entry_says_already_is_not_written_twice(clock: Clock) -> None:
    """Of thousands that were blocked once this is half of the file, and of the time that it takes to read it."""
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.CRASHES, clock.now(), 1000, detail="again and again")
    text = to_json(blocks, clock)
    assert set(json.loads(text)["meshes"][MESH]) == {"at", "blocks", "quarantines"}
    back = from_json(text, "it", clock)
    assert back.memories == blocks.memories
    assert back.memory(MESH).history[0].detail == "again and again"
    # What has happened before is not in the entry.
    blocks.remove(MESH, clock.now(), "alice")
    blocks.add(MESH, Reason.CRASHES, clock.now(), 1000)
    text = to_json(blocks, clock)
    assert len(json.loads(text)["meshes"][MESH]["history"]) == 3
    assert from_json(text, "it", clock).memories == blocks.memories
