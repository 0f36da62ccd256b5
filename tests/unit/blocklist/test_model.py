from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.blocklist import model
from ravesvc.blocklist.model import (
    EDITOR,
    MAX_QUARANTINE_MS,
    NO_MEMORY,
    PERMANENT_REASONS,
    REASON_TEXTS,
    SERVICE,
    Block,
    BlocklistChange,
    BlocklistModel,
    HistoryEvent,
    MeshMemory,
    Reason,
    What,
    quarantine_ms,
)

MESH = "11111111-2222-4333-8444-555555555555"
OTHER = "22222222-2222-4333-8444-555555555555"
THIRD = "33333333-2222-4333-8444-555555555555"
HOUR = 3600 * 1000

RANKS = {Reason.HELD: 1, Reason.OPERATOR: 2, Reason.KICKED: 3}
TROUBLE = {Reason.CONNECTION_FAILURES, Reason.REJECTED, Reason.CRASHES, Reason.TOO_LARGE}


def block(
    reason: Reason = Reason.KICKED,
    until: int | None = None,
    *,
    mesh: str = MESH,
    since: int = 0,
    detail: str = "",
    actor: str = SERVICE,
    revision: int = 0,
) -> Block:
    return Block(mesh=mesh, reason=reason, since=since, until=until, detail=detail, actor=actor, revision=revision)


def found(blocks: BlocklistModel, mesh: str = MESH, now: int = 0) -> Block:
    entry = blocks.get(mesh, now)
    assert entry
    return entry


def saved(blocks: BlocklistModel) -> BlocklistModel:
    """What an operator who opens the file now would read."""
    blocks.revision += 1
    return BlocklistModel(list(blocks), blocks.memories, blocks.revision)


def edited(text: BlocklistModel, *entries: Block, without: str = "") -> BlocklistModel:
    """A text after an operator has added entries to it and removed others."""
    kept = {entry.mesh: entry for entry in text if entry.mesh != without} | {entry.mesh: entry for entry in entries}
    return BlocklistModel(kept.values(), text.memories, text.revision)


# What is in force.


def test_a_block_is_in_force_up_to_its_last_millisecond() -> None:
    failed, kicked = block(Reason.CONNECTION_FAILURES, 100), block(mesh=OTHER)
    blocks = BlocklistModel([failed, kicked])
    assert blocks.get(MESH, 100) == failed
    assert blocks.get(MESH, 101) is None
    assert blocks.get(OTHER, 2**60) == kicked
    assert blocks.get(THIRD, 0) is None
    assert blocks.in_force(100) == {MESH: failed, OTHER: kicked}
    assert blocks.in_force(101) == {OTHER: kicked}
    assert list(blocks) == [failed, kicked]


def test_the_next_end_is_the_earliest() -> None:
    assert BlocklistModel().next_end() is None
    assert BlocklistModel([block()]).next_end() is None
    ends = [block(Reason.GONE, 7), block(Reason.GONE, 5, mesh=OTHER), block(mesh=THIRD)]
    assert BlocklistModel(ends).next_end() == 5


def test_what_is_over_is_released_and_told_once() -> None:
    blocks = BlocklistModel([block(Reason.CRASHES, 100, detail="core dumped"), block(mesh=OTHER)])
    assert blocks.expire(100) == []
    released = block(Reason.CRASHES, 100, detail="core dumped")
    assert blocks.expire(101) == [BlocklistChange(what=What.RELEASED, block=released, actor=SERVICE)]
    assert blocks.expire(101) == []
    assert list(blocks) == [block(mesh=OTHER)]
    assert blocks.memory(MESH).history == (
        HistoryEvent(at=101, what=What.RELEASED, reason=Reason.CRASHES, actor=SERVICE, detail="core dumped"),
    )


def test_every_reason_has_words() -> None:
    assert REASON_TEXTS.keys() == set(Reason)
    assert block(Reason.GONE).describe() == "the mesh is gone"
    assert block(Reason.CRASHES, detail="exit status 1").describe() == "its process failed too often: exit status 1"


# Blocking.


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("duration", [50, None])
def test_a_block_says_all_there_is_to_say(reason: Reason, duration: int | None) -> None:
    blocks = BlocklistModel(revision=4)
    change = blocks.add(MESH, reason, 1000, duration, detail="why", actor="root")
    entry = Block(
        mesh=MESH,
        reason=reason,
        since=1000,
        until=None if reason in (Reason.KICKED, Reason.HELD) or duration is None else 1050,
        detail="why",
        actor="root",
        count=1,
        revision=5,
    )
    assert change == BlocklistChange(what=What.BLOCKED, block=entry, actor="root")
    assert list(blocks) == [entry]
    assert blocks.memory(MESH) == MeshMemory(
        blocks=reason in TROUBLE,
        quarantines=reason is Reason.CRASHES,
        at=1000,
        history=(HistoryEvent(at=1000, what=What.BLOCKED, reason=reason, actor="root", detail="why"),),
    )


@pytest.mark.parametrize("old", Reason)
@pytest.mark.parametrize("new", Reason)
def test_a_lesser_reason_gives_way_and_a_greater_one_does_not(old: Reason, new: Reason) -> None:
    blocks = BlocklistModel([block(old, since=1, until=None if old in PERMANENT_REASONS else 100)])
    before = blocks.memory(MESH)
    change = blocks.add(MESH, new, 50, 200)
    stays = RANKS.get(old, 0) > RANKS.get(new, 0) or (
        old is new and old in PERMANENT_REASONS | TROUBLE | {Reason.LEFT, Reason.GONE}
    )
    assert (change is None) is stays
    assert found(blocks, now=50).reason is (old if stays else new)
    assert found(blocks, now=50).since == (1 if stays else 50)
    assert (blocks.memory(MESH) == before) is stays


@pytest.mark.parametrize("new", Reason)
def test_what_is_over_stands_in_nobodys_way(new: Reason) -> None:
    blocks = BlocklistModel([block(Reason.OPERATOR, 49)])
    assert blocks.add(MESH, new, 50, 200)
    assert found(blocks, now=50).reason is new


@pytest.mark.parametrize("reason", Reason)
def test_a_kick_stays_until_somebody_lifts_it(reason: Reason) -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, 1)
    assert blocks.add(MESH, reason, 5, 1) is None
    assert blocks.expire(2**60) == []
    assert found(blocks, now=2**60).reason is Reason.KICKED
    assert blocks.remove(MESH, 6, "root")
    assert blocks.add(MESH, reason, 7, 1)


@pytest.mark.parametrize("reason", [Reason.KICKED, Reason.HELD])
def test_an_end_that_somebody_gave_a_kick_by_hand_is_no_end_of_the_next_one(reason: Reason) -> None:
    blocks = BlocklistModel([block(reason, 100)])
    assert blocks.add(MESH, reason, 50, None)
    assert found(blocks, now=2**60).until is None


# Counting.


@pytest.mark.parametrize("reason", sorted(TROUBLE))
def test_trouble_is_counted_until_a_connection_has_held(reason: Reason) -> None:
    blocks = BlocklistModel()
    counts = []
    for now in range(0, 4 * HOUR, HOUR):
        blocks.add(MESH, reason, now, 1)
        counts.append(found(blocks, now=now).count)
        blocks.expire(now + HOUR - 1)
    # A quarantine is longer each time, so some of these are still in force; that makes no difference.
    assert counts == [1, 2, 3, 4]
    assert blocks.reset_failures(MESH, 5 * HOUR) is True
    blocks.add(MESH, reason, 6 * HOUR, 1)
    assert found(blocks, now=6 * HOUR).count == 1


def test_different_troubles_add_up_and_only_crashes_make_quarantines_longer() -> None:
    blocks = BlocklistModel()
    for reason in (Reason.CONNECTION_FAILURES, Reason.REJECTED, Reason.CRASHES):
        blocks.add(MESH, reason, 0, 10)
    assert found(blocks).count == 3
    assert found(blocks).until == 10
    assert (blocks.memory(MESH).blocks, blocks.memory(MESH).quarantines) == (3, 1)


@pytest.mark.parametrize("reason", sorted(set(Reason) - TROUBLE))
def test_what_is_no_trouble_counts_for_one_and_forgets_nothing(reason: Reason) -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.CRASHES, 0, 10)
    blocks.add(MESH, Reason.CRASHES, 11, 10)
    blocks.add(MESH, reason, 12, 10)
    assert found(blocks, now=12).count == 1
    assert (blocks.memory(MESH).blocks, blocks.memory(MESH).quarantines) == (2, 2)


@pytest.mark.parametrize("reason", sorted(TROUBLE))
def test_what_is_learnt_twice_counts_once(reason: Reason) -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, reason, 0, 100)
    # By a parent that follows one which was killed between saving it and letting systemd forget it.
    assert blocks.add(MESH, reason, 5, 100) is None
    assert found(blocks, now=5).until == 100
    assert blocks.memory(MESH).blocks == 1


def test_one_meshs_trouble_is_not_anothers() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.CRASHES, 0, 10)
    blocks.add(OTHER, Reason.CRASHES, 0, 10)
    assert found(blocks, OTHER).count == 1
    assert blocks.reset_failures(MESH, 1)
    assert blocks.memory(OTHER).has_failures


def test_a_quarantine_doubles_up_to_a_cap_and_is_normal_again_after_a_healthy_run() -> None:
    blocks = BlocklistModel()
    now, took = 0, []
    for _ in range(7):
        blocks.add(MESH, Reason.CRASHES, now, HOUR)
        end = blocks.next_end()
        assert end is not None
        took.append((end - now) // HOUR)
        now = end + 1
        blocks.expire(now)
    assert took == [1, 2, 4, 8, 16, 24, 24]
    blocks.reset_failures(MESH, now)
    blocks.add(MESH, Reason.CRASHES, now, HOUR)
    assert found(blocks, now=now).until == now + HOUR


def test_a_quarantine_that_is_longer_than_the_cap_to_begin_with_stays_as_long() -> None:
    assert [quarantine_ms(3 * MAX_QUARANTINE_MS, number) for number in (1, 2, 100)] == [3 * MAX_QUARANTINE_MS] * 3


@pytest.mark.slow
@given(st.integers(1, 10 * MAX_QUARANTINE_MS), st.integers(1, 10**9))
def test_quarantines_never_shrink_and_stay_within_bounds(duration: int, number: int) -> None:
    assert duration <= quarantine_ms(duration, number) <= quarantine_ms(duration, number + 1)
    assert quarantine_ms(duration, number) <= max(duration, MAX_QUARANTINE_MS)
    assert quarantine_ms(duration, 1) == duration
    assert quarantine_ms(duration, 2) == min(2 * duration, max(duration, MAX_QUARANTINE_MS))


# Unblocking.


def test_who_unblocks_a_mesh_trusts_it_anew() -> None:
    blocks = BlocklistModel()
    blocks.record_failure(MESH, 2, "refused", 0)
    blocks.add(MESH, Reason.CRASHES, 0, HOUR, detail="signal SIGSEGV")
    entry = found(blocks)
    assert blocks.remove(MESH, 1, "root") == BlocklistChange(what=What.UNBLOCKED, block=entry, actor="root")
    assert blocks.remove(MESH, 2, "root") is None
    assert list(blocks) == []
    assert not blocks.memory(MESH).has_failures
    assert blocks.memory(MESH).at == 1
    assert [(event.what, event.actor, event.detail) for event in blocks.memory(MESH).history] == [
        (What.BLOCKED, SERVICE, "signal SIGSEGV"),
        (What.UNBLOCKED, "root", "signal SIGSEGV"),
    ]
    blocks.add(MESH, Reason.CRASHES, 3, HOUR)
    assert (found(blocks).count, found(blocks).until) == (1, 3 + HOUR)


def test_what_is_over_can_not_be_unblocked_but_is_released() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.CRASHES, 0, 10)
    assert blocks.remove(MESH, 11, "root") is None
    assert [change.what for change in blocks.expire(11)] == [What.RELEASED]
    assert blocks.memory(MESH).quarantines == 1


def test_the_end_of_a_block_is_not_the_end_of_the_trouble() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.CRASHES, 0, 10)
    blocks.expire(11)
    assert (blocks.memory(MESH).blocks, blocks.memory(MESH).quarantines) == (1, 1)
    assert blocks.memory(MESH).has_failures


# Memories.


def test_nothing_is_remembered_of_a_mesh_that_never_was_in_trouble() -> None:
    assert BlocklistModel().memory(MESH) is NO_MEMORY
    assert not NO_MEMORY.has_failures
    assert BlocklistModel().reset_failures(MESH, 5) is False


def test_failures_are_remembered_until_a_block_uses_them_up() -> None:
    blocks = BlocklistModel()
    assert blocks.record_failure(MESH, 1, "refused", 10) is True
    assert blocks.record_failure(MESH, 2, "timed out", 20) is True
    # A bot may say it more than once.
    assert blocks.record_failure(MESH, 2, "timed out", 25) is False
    assert blocks.memory(MESH) == MeshMemory(failures=2, failing_since=10, last_error="timed out", at=20)
    blocks.add(MESH, Reason.CONNECTION_FAILURES, 30, 10)
    assert (blocks.memory(MESH).failures, blocks.memory(MESH).failing_since) == (0, None)
    assert blocks.memory(MESH).last_error == "timed out"


def test_the_first_of_the_failures_is_remembered_until_they_are_over() -> None:
    blocks = BlocklistModel()
    for now in (10, 20, 30):
        blocks.record_failure(MESH, now // 10, "refused", now)
        assert blocks.memory(MESH).failing_since == 10
    blocks.record_failure(MESH, 0, "it was the server's fault", 40)
    assert blocks.memory(MESH).failing_since is None
    blocks.record_failure(MESH, 1, "refused", 50)
    assert blocks.memory(MESH).failing_since == 50
    blocks.reset_failures(MESH, 60)
    assert blocks.memory(MESH).failing_since is None


def test_a_block_that_stays_uses_nothing_up() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, None)
    blocks.record_failure(MESH, 2, "refused", 1)
    assert blocks.add(MESH, Reason.CONNECTION_FAILURES, 2, 10) is None
    assert blocks.memory(MESH).failures == 2


@pytest.mark.parametrize(
    "memory",
    [MeshMemory(failures=1), MeshMemory(last_error="refused"), MeshMemory(blocks=1), MeshMemory(quarantines=1)],
)
def test_a_connection_that_held_ends_all_trouble_but_not_the_history(memory: MeshMemory) -> None:
    event = HistoryEvent(at=1, what=What.RELEASED, reason=Reason.GONE)
    history = MeshMemory(at=1, history=(event,))
    assert not history.has_failures
    blocks = BlocklistModel(memories={MESH: memory, OTHER: history})
    assert memory.has_failures
    assert blocks.reset_failures(MESH, 9) is True
    assert blocks.memory(MESH) == MeshMemory(at=9)
    assert blocks.reset_failures(MESH, 10) is False
    assert blocks.reset_failures(OTHER, 10) is False
    assert blocks.memories == {OTHER: history, MESH: MeshMemory(at=9)}


def test_the_memories_that_are_handed_out_and_in_are_copies() -> None:
    mine = {MESH: MeshMemory(failures=1)}
    blocks = BlocklistModel(memories=mine)
    mine.clear()
    blocks.memories.clear()
    assert blocks.memory(MESH).failures == 1


def test_a_mesh_that_somebody_has_put_into_the_list_has_a_history_like_any_other() -> None:
    blocks = BlocklistModel()
    blocks.merge_edit(BlocklistModel([block(detail="rude"), block(Reason.HELD, mesh=OTHER)]), 5)
    entered = HistoryEvent(at=5, what=What.BLOCKED, reason=Reason.KICKED, actor=EDITOR, detail="rude")
    assert blocks.memory(MESH) == blocks.memories[MESH] == MeshMemory(at=5, history=(entered,))
    kept = blocks.snapshot()
    blocks.remove(MESH, 9, "alice")
    lifted = HistoryEvent(at=9, what=What.UNBLOCKED, reason=Reason.KICKED, actor="alice", detail="rude")
    assert blocks.memory(MESH) == MeshMemory(at=9, history=(entered, lifted))
    assert kept.memory(MESH) == MeshMemory(at=5, history=(entered,)), "what is being saved stays as it was"
    assert not blocks.alone
    assert blocks.set_alone(OTHER, 10, alone=True)
    assert blocks.alone == {OTHER}
    assert [event.reason for event in blocks.memory(OTHER).history] == [Reason.HELD]


def test_the_last_events_are_kept() -> None:
    blocks = BlocklistModel()
    for now in range(0, 20, 2):
        blocks.add(MESH, Reason.OPERATOR, now, None, detail=str(now))
        blocks.remove(MESH, now + 1, "root")
    assert [event.at for event in blocks.memory(MESH).history] == list(range(10, 20))


MOST = model._MAX_MEMORIES


def test_the_oldest_memory_goes_when_there_are_too_many() -> None:
    blocks = BlocklistModel()
    for number in range(MOST):
        blocks.record_failure(f"m{number}", 1, "", number)
    # A mesh of which there is news is no longer the oldest.
    blocks.record_failure("m0", 2, "", MOST)
    blocks.record_failure("news", 1, "", MOST + 1)
    assert len(blocks.memories) == MOST
    assert blocks.memory("m1") is NO_MEMORY
    assert blocks.memory("m0").failures == 2
    assert blocks.memory("news").failures == 1


def test_a_blocked_mesh_is_remembered_however_old_it_is() -> None:
    blocks = BlocklistModel()
    blocks.add("blocked", Reason.KICKED, 0, None)
    for number in range(2 * MOST):
        blocks.record_failure(f"m{number}", 1, "", number)
    assert MOST < len(blocks.memories) <= MOST * 5 // 4 + 1
    assert blocks.memory("blocked").history
    blocks.remove("blocked", 2 * MOST, "root")
    assert blocks.memory("blocked").history[-1].what is What.UNBLOCKED


def test_more_blocks_than_memories_are_all_remembered() -> None:
    blocks = BlocklistModel()
    for number in range(MOST + 5):
        blocks.add(f"m{number}", Reason.KICKED, number, None)
    assert all(blocks.memory(f"m{number}").history for number in range(MOST + 5))


def test_however_many_are_blocked_the_failures_of_another_one_are_counted() -> None:
    blocks = BlocklistModel()
    for number in range(MOST):
        blocks.add(f"m{number}", Reason.KICKED, 0, None)
    blocks.record_failure(MESH, 2, "refused", 1)
    assert blocks.memory(MESH).failures == 2


def test_however_many_are_blocked_the_next_ones_quarantine_doubles() -> None:
    blocks = BlocklistModel()
    for number in range(MOST):
        blocks.add(f"m{number}", Reason.KICKED, 0, None)
    blocks.add(MESH, Reason.CRASHES, 0, 100)
    blocks.expire(101)
    blocks.add(MESH, Reason.CRASHES, 101, 100)
    assert found(blocks, now=101).until == 301


# Edits by hand.


def test_an_edit_that_changes_nothing_changes_nothing() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, None, detail="x", actor="root")
    blocks.add(OTHER, Reason.CRASHES, 0, 100)
    text = saved(blocks)
    before = list(blocks), blocks.memories
    assert blocks.merge_edit(text, 50) == ([], [], [])
    assert (list(blocks), blocks.memories) == before
    assert blocks.revision == text.revision


def test_a_fresh_edit_takes_entries_out() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, None, detail="x")
    blocks.add(OTHER, Reason.HELD, 0, None)
    entry = found(blocks)
    changes, kept, _ = blocks.merge_edit(edited(saved(blocks), without=MESH), 5)
    assert changes == [BlocklistChange(what=What.UNBLOCKED, block=entry, actor=EDITOR)]
    assert kept == []
    assert [entry.mesh for entry in blocks] == [OTHER]
    assert blocks.memory(MESH).history[-1] == HistoryEvent(
        at=5, what=What.UNBLOCKED, reason=Reason.KICKED, actor=EDITOR, detail="x"
    )


def test_a_fresh_edit_puts_entries_in() -> None:
    blocks = BlocklistModel()
    text = saved(blocks)
    typed = block(Reason.OPERATOR, 100, actor="whoever they say", detail="noise")
    changes, kept, _ = blocks.merge_edit(edited(text, typed), 5)
    entry = block(Reason.OPERATOR, 100, actor=EDITOR, detail="noise", revision=text.revision + 1)
    assert changes == [BlocklistChange(what=What.BLOCKED, block=entry, actor=EDITOR)]
    assert kept == []
    assert list(blocks) == [entry]
    assert blocks.memory(MESH).history == (
        HistoryEvent(at=5, what=What.BLOCKED, reason=Reason.OPERATOR, actor=EDITOR, detail="noise"),
    )


@pytest.mark.parametrize(
    "changed",
    [
        block(Reason.OPERATOR, 10_000),
        block(Reason.CRASHES, 10_000 + 5001),
        block(Reason.CRASHES, 10_000 - 5001),
        block(Reason.CRASHES),
        block(Reason.CRASHES, 10_000, detail="other words"),
    ],
)
def test_a_fresh_edit_changes_entries(changed: Block) -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.CRASHES, 0, 10_000)
    changes, kept, _ = blocks.merge_edit(edited(saved(blocks), changed), 5)
    assert [(change.what, change.actor) for change in changes] == [(What.BLOCKED, EDITOR)]
    assert kept == []
    entry = found(blocks)
    assert entry.is_same_as(changed)
    assert (entry.actor, entry.revision) == (EDITOR, blocks.revision + 1)


@pytest.mark.parametrize("until", [10_000 + 5000, 10_000 - 5000])
def test_a_clock_that_was_corrected_a_little_is_no_edit(until: int) -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.CRASHES, 0, 10_000)
    assert blocks.merge_edit(edited(saved(blocks), block(Reason.CRASHES, until)), 5) == ([], [], [])
    assert found(blocks).until == 10_000


def test_an_end_may_be_taken_from_an_entry_or_given_to_it() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, None)
    assert not block(Reason.KICKED, 10).is_same_as(found(blocks))
    blocks.merge_edit(edited(saved(blocks), block(Reason.KICKED, 10)), 5)
    assert found(blocks).until == 10
    blocks.merge_edit(edited(saved(blocks), block(Reason.KICKED)), 5)
    assert found(blocks).until is None
    assert blocks.get(MESH, 11)


def test_a_stale_edit_does_not_forget_a_kick_that_it_can_not_know() -> None:
    blocks = BlocklistModel()
    blocks.add(OTHER, Reason.OPERATOR, 0, None)
    stale = edited(saved(blocks), without=OTHER)
    blocks.add(MESH, Reason.KICKED, 1, None)
    kick = found(blocks)
    for _ in range(3):
        saved(blocks)
    changes, kept, _ = blocks.merge_edit(stale, 5)
    assert [(change.what, change.block.mesh) for change in changes] == [(What.UNBLOCKED, OTHER)]
    assert kept == [kick]
    assert list(blocks) == [kick]


def test_a_kick_of_which_the_text_is_not_yet_written_is_newer_than_any_text() -> None:
    blocks = BlocklistModel()
    text = saved(blocks)
    blocks.add(MESH, Reason.KICKED, 1, None)
    assert blocks.merge_edit(text, 5) == ([], [found(blocks)], [])


def test_a_kick_that_came_again_is_not_the_one_that_was_taken_out() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, None)
    stale = edited(saved(blocks), without=MESH)
    blocks.remove(MESH, 1, "root")
    saved(blocks)
    blocks.add(MESH, Reason.KICKED, 2, None)
    saved(blocks)
    changes, kept, _ = blocks.merge_edit(stale, 5)
    assert changes == []
    assert kept == [found(blocks)]


def test_a_stale_edit_does_not_weaken_a_kick_either() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.CRASHES, 0, 100)
    stale = edited(saved(blocks), block(Reason.CRASHES, 50))
    blocks.add(MESH, Reason.KICKED, 1, None)
    kick = found(blocks)
    assert blocks.merge_edit(stale, 5) == ([], [kick], [])
    assert found(blocks) == kick


def test_a_stale_edit_does_not_bring_back_what_was_lifted_since() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, None)
    blocks.add(OTHER, Reason.OPERATOR, 0, None, actor="root")
    stale = saved(blocks)
    lifted = found(blocks)
    blocks.remove(MESH, 1, "root")
    for _ in range(3):
        changes, kept, refused = blocks.merge_edit(edited(stale, block(Reason.HELD, mesh=THIRD)), 5)
        assert [change.block.mesh for change in changes] in ([THIRD], [])
        assert kept == []
        assert refused == [lifted]
        assert {entry.mesh for entry in blocks} == {OTHER, THIRD}
        stale = BlocklistModel(list(edited(stale, found(blocks, THIRD))), stale.memories, stale.revision)
        saved(blocks)


def test_what_is_typed_is_taken_though_it_was_lifted_before() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, None)
    stale = saved(blocks)
    blocks.remove(MESH, 1, "root")
    changes, _, refused = blocks.merge_edit(edited(stale, block(Reason.OPERATOR), without=MESH), 5)
    assert [(change.what, change.actor) for change in changes] == [(What.BLOCKED, EDITOR)]
    assert refused == []


def test_a_text_without_a_revision_brings_nothing_back_that_was_lifted() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, None)
    stale = saved(blocks)
    lifted = found(blocks)
    blocks.remove(MESH, 1, "root")
    saved(blocks)
    assert blocks.merge_edit(BlocklistModel(stale, revision=0), 5) == ([], [], [lifted])


def test_who_has_seen_that_an_entry_is_gone_may_bring_it_back_and_its_author_with_it() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, None)
    blocks.add(OTHER, Reason.OPERATOR, 0, None, actor="root")
    old = saved(blocks)
    blocks.remove(MESH, 1, "root")
    blocks.remove(OTHER, 1, "root")
    seen = saved(blocks)
    changes, kept, refused = blocks.merge_edit(edited(seen, *old), 5)
    assert {change.block.mesh: change.actor for change in changes} == {MESH: SERVICE, OTHER: "root"}
    assert kept == refused == []
    # They came with this edit, so an older one can't take them away again.
    assert {entry.revision for entry in blocks} == {blocks.revision + 1}


def test_what_was_lifted_and_came_again_is_kept_and_not_refused() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, None)
    stale = saved(blocks)
    blocks.remove(MESH, 1, "root")
    blocks.add(MESH, Reason.HELD, 2, None)
    assert blocks.merge_edit(stale, 5) == ([], [found(blocks)], [])


def test_the_memory_of_what_was_lifted_is_bounded_and_the_latest_are_in_it() -> None:
    blocks = BlocklistModel()
    for number in range(MOST + 1):
        blocks.add(f"m{number}", Reason.OPERATOR, 0, None)
    stale = saved(blocks)
    # The first one is lifted once more at the end.
    for number in [*range(MOST), 0, MOST]:
        blocks.add("m0", Reason.OPERATOR, 1, None)
        blocks.remove(f"m{number}", 1, "root")
    blocks.remove("m0", 2, "root")
    assert len(blocks._unblocked_in_revision) == MOST
    changes, _, refused = blocks.merge_edit(stale, 5)
    assert [change.block.mesh for change in changes] == ["m1"]
    assert len(refused) == MOST


def test_an_edit_with_no_revision_knows_nothing_of_ours() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, None)
    saved(blocks)
    kick = found(blocks)
    typed = BlocklistModel([block(Reason.OPERATOR, mesh=OTHER)])
    changes, kept, _ = blocks.merge_edit(typed, 5)
    assert [(change.block.mesh, change.actor) for change in changes] == [(OTHER, EDITOR)]
    assert kept == [kick]
    assert {entry.mesh for entry in blocks} == {MESH, OTHER}


def test_the_first_file_is_taken_over_as_it_is() -> None:
    blocks = BlocklistModel()
    changes, kept, _ = blocks.merge_edit(
        BlocklistModel([block(), block(Reason.CONNECTION_FAILURES, 100, mesh=OTHER)]), 5
    )
    assert {change.block.mesh: change.block.reason for change in changes} == {
        MESH: Reason.KICKED,
        OTHER: Reason.CONNECTION_FAILURES,
    }
    assert kept == []
    assert {entry.revision for entry in blocks} == {1}


def test_a_text_of_a_revision_that_was_never_written_takes_nothing_out() -> None:
    """An old backup, of a list that was begun anew since."""
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, None)
    text = saved(blocks)
    backup = BlocklistModel([block(Reason.OPERATOR, mesh=OTHER)], revision=text.revision + 50)
    changes, kept, _ = blocks.merge_edit(backup, 5)
    assert [change.block.mesh for change in changes] == [OTHER]
    assert [entry.mesh for entry in kept] == [MESH]
    assert blocks.revision == text.revision


def test_where_there_is_nothing_a_text_brings_its_memories_and_its_revision() -> None:
    before = BlocklistModel()
    before.add(MESH, Reason.CRASHES, 0, 100)
    before.record_failure(OTHER, 2, "refused", 2)
    file = saved(before)
    after = BlocklistModel()
    after.merge_edit(file, 5)
    assert after.revision == file.revision
    assert after.memory(OTHER).failures == 2
    assert after.memory(MESH).quarantines == 1
    # What changes from here on is newer than that text.
    after.add(OTHER, Reason.KICKED, 6, None)
    assert found(after, OTHER).revision == file.revision + 1


def test_a_snapshot_is_the_next_revision_and_stays_as_it_is() -> None:
    blocks = BlocklistModel(revision=4)
    blocks.add(MESH, Reason.KICKED, 0, None)
    snapshot = blocks.snapshot()
    assert (snapshot.revision, blocks.revision) == (5, 5)
    blocks.add(OTHER, Reason.KICKED, 0, None)
    assert [entry.mesh for entry in snapshot] == [MESH]
    assert found(blocks, OTHER).revision == 6


def test_entries_of_an_edit_that_are_over_count_as_none() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.KICKED, 0, None)
    over = [block(Reason.KICKED, 4), block(Reason.OPERATOR, 4, mesh=OTHER)]
    changes, kept, _ = blocks.merge_edit(edited(saved(blocks), *over), 5)
    assert [(change.what, change.block.mesh, change.actor) for change in changes] == [(What.UNBLOCKED, MESH, EDITOR)]
    assert kept == []
    assert list(blocks) == []


def test_what_is_over_here_is_released_by_the_service_and_not_by_the_editor() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.CRASHES, 0, 10)
    text = saved(blocks)
    changes, kept, _ = blocks.merge_edit(text, 11)
    assert [(change.what, change.actor) for change in changes] == [(What.RELEASED, SERVICE)]
    assert kept == []
    assert list(blocks) == []


def test_what_is_over_here_may_be_blocked_longer() -> None:
    blocks = BlocklistModel()
    blocks.add(MESH, Reason.CRASHES, 0, 10)
    changes, _, _ = blocks.merge_edit(edited(saved(blocks), block(Reason.CRASHES, HOUR)), 11)
    assert [change.what for change in changes] == [What.RELEASED, What.BLOCKED]
    assert found(blocks, now=11).until == HOUR


def test_an_edit_can_not_take_memories_away_but_brings_those_that_are_not_here() -> None:
    blocks = BlocklistModel()
    blocks.record_failure(MESH, 2, "refused", 0)
    text = saved(blocks)
    edit = BlocklistModel([], {MESH: MeshMemory(failures=0), OTHER: MeshMemory(failures=7)}, text.revision)
    blocks.merge_edit(edit, 5)
    assert blocks.memory(MESH).failures == 2
    assert blocks.memory(OTHER).failures == 7
    blocks.merge_edit(BlocklistModel(revision=text.revision), 5)
    assert blocks.memory(OTHER).failures == 7


REASONS = st.sampled_from(Reason)
ENDS = st.none() | st.integers(0, 40)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from([MESH, OTHER, THIRD]), REASONS, ENDS),
        st.tuples(st.just("remove"), st.sampled_from([MESH, OTHER, THIRD]), REASONS, ENDS),
        st.tuples(st.just("save"), st.just(""), REASONS, ENDS),
    ),
    max_size=12,
)


def play(blocks: BlocklistModel, steps: list[tuple[str, str, Reason, int | None]], now: int) -> None:
    for what, mesh, reason, duration in steps:
        if what == "add":
            blocks.add(mesh, reason, now, duration)
        elif what == "remove":
            blocks.remove(mesh, now, "root")
        else:
            saved(blocks)


@pytest.mark.slow
@given(
    before=STEPS,
    since=STEPS,
    entries=st.dictionaries(st.sampled_from([MESH, OTHER, THIRD]), st.tuples(REASONS, ENDS)),
)
def test_after_an_edit_each_entry_is_either_newer_or_what_the_edit_says(
    before: list[tuple[str, str, Reason, int | None]],
    since: list[tuple[str, str, Reason, int | None]],
    entries: dict[str, tuple[Reason, int | None]],
) -> None:
    blocks = BlocklistModel()
    play(blocks, before, 10)
    base = saved(blocks).revision
    play(blocks, since, 20)
    ours = blocks.in_force(30)
    edit = BlocklistModel(
        [block(reason, until, mesh=mesh) for mesh, (reason, until) in entries.items()], revision=base
    )
    changes, kept, _ = blocks.merge_edit(edit, 30)
    assert blocks.expire(30) == []
    theirs = edit.in_force(30)
    after = blocks.in_force(30)
    for mesh in (MESH, OTHER, THIRD):
        old, wanted, new = ours.get(mesh), theirs.get(mesh), after.get(mesh)
        if old and old.revision > base:
            assert new == old
            assert (old in kept) is not (wanted is not None and wanted.is_same_as(old))
        elif wanted:
            assert new
            assert new.is_same_as(wanted)
        else:
            assert new is None
        told = [change for change in changes if change.block.mesh == mesh and change.what is not What.RELEASED]
        assert bool(told) is (new != old)
    # The same edit once more says nothing new.
    again, still_kept, _ = blocks.merge_edit(edit, 30)
    assert again == []
    assert set(still_kept) >= set(kept)


@pytest.mark.slow
@given(before=STEPS, since=STEPS)
def test_saving_an_older_text_of_ours_blocks_nothing_that_somebody_has_unblocked_since(
    before: list[tuple[str, str, Reason, int | None]], since: list[tuple[str, str, Reason, int | None]]
) -> None:
    blocks = BlocklistModel()
    play(blocks, before, 10)
    text = saved(blocks)
    lifted = set()
    for step in since:
        if step[0] == "remove" and blocks.get(step[1], 20):
            lifted.add(step[1])
        play(blocks, [step], 20)
    changes, _, refused = blocks.merge_edit(text, 30)
    assert not {change.block.mesh for change in changes if change.what is What.BLOCKED} & lifted
    assert {entry.mesh for entry in refused} <= lifted


# Entries of another list.


def test_an_entry_of_another_list_is_taken_as_it_is() -> None:
    blocks = BlocklistModel(revision=4)
    theirs = block(Reason.CONNECTION_FAILURES, HOUR, since=-5, detail="no route", actor="root")
    change = blocks.import_entry(theirs, 10)
    assert change
    assert change.what is What.BLOCKED
    assert (
        found(blocks)
        == change.block
        == block(Reason.CONNECTION_FAILURES, HOUR, since=-5, detail="no route", actor="root", revision=5)
    )
    assert blocks.memory(MESH).history == (
        HistoryEvent(at=10, what=What.BLOCKED, reason=Reason.CONNECTION_FAILURES, actor="root", detail="no route"),
    )
    assert not blocks.memory(MESH).has_failures
    assert blocks.import_entry(theirs, 10) is None, "it is here already"


def test_an_entry_that_is_over_is_not_taken() -> None:
    blocks = BlocklistModel()
    assert blocks.import_entry(block(Reason.CRASHES, 9), 10) is None
    assert list(blocks) == []
    assert blocks.import_entry(block(Reason.CRASHES, 10), 10), "in its last millisecond"


@pytest.mark.parametrize("ours", Reason)
@pytest.mark.parametrize("theirs", Reason)
def test_the_weightier_reason_stays(ours: Reason, theirs: Reason) -> None:
    blocks = BlocklistModel([block(ours, HOUR)])
    taken = blocks.import_entry(block(theirs, HOUR), 0) is not None
    assert taken is (RANKS.get(theirs, 0) > RANKS.get(ours, 0))
    assert found(blocks).reason is (theirs if taken else ours)


@pytest.mark.parametrize(
    ("ours", "theirs", "taken"),
    [
        (HOUR, 2 * HOUR, True),
        (HOUR, HOUR + 5000, False),  # clocks differ a little
        (HOUR, HOUR + 5001, True),
        (2 * HOUR, HOUR, False),
        (HOUR, None, True),
        (None, HOUR, False),
        (None, None, False),
    ],
)
def test_of_two_with_a_like_reason_the_longer_one_stays(ours: int | None, theirs: int | None, taken: bool) -> None:
    blocks = BlocklistModel([block(Reason.GONE, ours)])
    assert (blocks.import_entry(block(Reason.CRASHES, theirs), 0) is not None) is taken
    assert found(blocks).until == (theirs if taken else ours)


def test_an_entry_of_ours_that_is_over_stands_in_nobodys_way() -> None:
    blocks = BlocklistModel([block(Reason.OPERATOR, 5)])
    assert blocks.import_entry(block(Reason.GONE, 20), 10)
