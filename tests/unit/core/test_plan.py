from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.api.models import Mesh
from ravesvc.blocklist.model import Block, Reason
from ravesvc.core.plan import Action, BotLimits, Decision, PlanInput, enough, plan
from ravesvc.core.run_state import RunEnd, RunPhase, RunState

ACTIVE = RunState(phase=RunPhase.RUNNING, process=7)
FAILED = RunState(phase=RunPhase.ENDED, end=RunEnd())
STOPPING = RunState(phase=RunPhase.STOPPING)
RESTARTING = RunState(phase=RunPhase.WAITING)
ABSENT = RunState()
RESTING = "it has ended; a later round of discovery starts it again"

IDS = st.sampled_from([f"m{number}" for number in range(8)])
RUNS = st.dictionaries(IDS, st.builds(RunState, phase=st.sampled_from(RunPhase)))
REASONS = st.sampled_from(Reason)


def mesh(name: str, *, invited: bool = False) -> Mesh:
    return Mesh(name, None, "", invited, ())


def listing(*names: str) -> dict[str, Mesh]:
    return {name: mesh(name) for name in names}


def block(name: str, reason: Reason = Reason.KICKED) -> Block:
    return Block(mesh=name, reason=reason, since=0, until=None)


def decide(
    listed: Mapping[str, Mesh] | None,
    blocks: Mapping[str, Block],
    runs: Mapping[str, RunState],
    limit: int | None,
    *,
    per_user: int | None = None,
    trusted: AbstractSet[int] = frozenset(),
    **more: Any,
) -> tuple[Decision, ...]:
    limits = BotLimits(limit, per_user, trusted)
    return plan(PlanInput(listed=listed, blocks=blocks, runs=runs, limits=limits, **more))


def actions(decisions: tuple[Decision, ...]) -> dict[str, str]:
    return {decision.mesh: decision.action.value for decision in decisions}


LISTED = st.dictionaries(IDS, st.booleans()).map(
    lambda entries: {name: mesh(name, invited=invited) for name, invited in entries.items()}
)
BLOCKS = st.dictionaries(IDS, REASONS).map(
    lambda entries: {name: block(name, reason) for name, reason in entries.items()}
)


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(st.none() | LISTED, BLOCKS, RUNS, st.none() | st.integers(0, 9), st.sets(IDS))
def test_invariants(
    listed: dict[str, Mesh] | None,
    blocks: dict[str, Block],
    runs: dict[str, RunState],
    limit: int | None,
    resting: set[str],
) -> None:
    decisions = decide(listed, blocks, runs, limit, resting=resting)
    known = listed or {}
    # Everything is decided, and once.
    assert sorted(decision.mesh for decision in decisions) == sorted(known.keys() | runs.keys())
    for decision in decisions:
        run = runs.get(decision.mesh, ABSENT)
        assert decision.reason
        if decision.action is Action.START:
            assert decision.mesh in known
            assert decision.mesh not in blocks
            assert decision.mesh not in resting
            assert run.phase is RunPhase.ABSENT
            assert not run.runs
        elif decision.action in (Action.STOP, Action.KEEP):
            assert run.runs
        else:
            assert not run.runs
        if decision.mesh in blocks:
            assert decision.action in (Action.STOP, Action.SKIP)
            assert decision.reason == blocks[decision.mesh].describe()
        elif listed is None:
            # Nothing is known: nothing starts, and what runs goes on.
            assert decision.action is (Action.KEEP if run.runs else Action.SKIP)
        elif decision.mesh not in known:
            assert decision.action is (Action.STOP if run.runs else Action.SKIP)
    if listed is not None and limit is not None:
        assert sum(decision.action in (Action.START, Action.KEEP) for decision in decisions) <= limit
        # Also while the others are still on their way out.
        present = sum(run.present for run in runs.values())
        starts = sum(decision.action is Action.START for decision in decisions)
        assert starts == 0 or present + starts <= limit


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(LISTED, BLOCKS, RUNS, st.integers(0, 9))
def test_resting_delays_a_start_and_changes_nothing_else(
    listed: dict[str, Mesh], blocks: dict[str, Block], runs: dict[str, RunState], limit: int
) -> None:
    awake = decide(listed, blocks, runs, limit)
    all_rest = decide(listed, blocks, runs, limit, resting=listed.keys())
    for before, after in zip(awake, all_rest, strict=True):
        if before.action is Action.START:
            assert after == Decision(before.mesh, Action.SKIP, RESTING)
        elif after.reason != RESTING:
            assert after == before


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(LISTED, BLOCKS, RUNS)
def test_without_a_limit_everything_listed_and_not_blocked_runs(
    listed: dict[str, Mesh], blocks: dict[str, Block], runs: dict[str, RunState]
) -> None:
    found = actions(decide(listed, blocks, runs, None))
    for name in listed.keys() - blocks.keys():
        run = runs.get(name, ABSENT)
        if run.runs:
            assert found[name] == "keep"
        else:
            assert found[name] == ("start" if run.phase is RunPhase.ABSENT else "skip")


def test_invited_meshes_come_first_then_the_oldest() -> None:
    listed = listing("a", "b", "c") | {"d": mesh("d", invited=True), "e": mesh("e", invited=True)}
    order = [decision.mesh for decision in decide(listed, {}, {"z": ABSENT, "y": ABSENT}, 3)]
    assert order == ["d", "e", "a", "b", "c", "y", "z"]
    assert actions(decide(listed, {}, {"c": ACTIVE}, 4)) == {
        "d": "start",
        "e": "start",
        "a": "start",
        "b": "skip",
        "c": "stop",
    }


def test_the_limit_says_why() -> None:
    assert decide(listing("a", "b"), {}, {}, 1)[1] == Decision("b", Action.SKIP, "max_processes (1) is reached")
    assert decide(listing("a", "b"), {}, {"b": ACTIVE}, 1)[1] == Decision(
        "b", Action.STOP, "max_processes (1) is reached"
    )


def made_by(user: int | None, *names: str) -> dict[str, Mesh]:
    return {name: Mesh(name, None, "", True, (), user) for name in names}


def test_one_user_takes_no_more_than_a_share() -> None:
    listed = made_by(7, "a", "b", "c") | made_by(8, "d") | made_by(None, "e", "f", "g")
    decisions = decide(listed, {"a": block("a")}, {"c": ACTIVE}, None, per_user=1)
    started = dict.fromkeys("bdefg", "start")
    assert actions(decisions) == {"a": "skip", **started, "c": "stop"}
    assert decisions[2].reason == "max_meshes_per_user (1) is reached by user 7, who has made it"
    assert "stop" not in actions(decide(listed, {}, {"c": ACTIVE}, None)).values()


def test_of_trusted_users_there_may_be_any_number() -> None:
    listed = made_by(7, "a", "b", "c") | made_by(8, "d", "e")
    decisions = decide(listed, {}, {}, None, per_user=1, trusted={7})
    assert actions(decisions) == dict.fromkeys("abcd", "start") | {"e": "skip"}
    assert enough(listed.values(), {}, set(), set(), BotLimits(4, 1, {7}))
    assert not enough(listed.values(), {}, set(), set(), BotLimits(5, 1, {7}))


def test_meshes_of_one_user_do_not_fill_the_beginning_of_a_list() -> None:
    flood, other = made_by(7, "a", "b", "c"), made_by(8, "d")
    assert not enough(flood.values(), {}, set(), set(), BotLimits(2, 1))
    assert enough((flood | other).values(), {}, set(), set(), BotLimits(2, 1))
    assert enough(flood.values(), {}, set(), set(), BotLimits(2))


@pytest.mark.parametrize("run", [ACTIVE, STOPPING, RESTARTING])
@pytest.mark.parametrize("why", ["the limit", "a block", "not listed"])
def test_a_place_is_taken_until_who_had_it_has_stopped(run: RunState, why: str) -> None:
    listed = {"new": mesh("new", invited=True)} | ({} if why == "not listed" else listing("old"))
    blocks = {"old": block("old")} if why == "a block" else {}
    waits = Decision("new", Action.SKIP, "max_processes (1) is reached until another mesh has stopped")
    decisions = decide(listed, blocks, {"old": run}, 1)
    assert decisions[0] == waits
    assert actions(decisions)["old"] == ("stop" if run.runs else "skip")
    assert actions(decide(listed, blocks, {"old": ABSENT}, 1))["new"] == "start"
    assert actions(decide(listed, blocks, {"old": run}, None))["new"] == "start", "without a limit no mesh waits"


def test_no_more_start_than_there_are_places() -> None:
    listed = {name: mesh(name, invited=True) for name in "abc"} | listing("x", "y")
    runs = {"x": ACTIVE, "y": STOPPING}
    assert actions(decide(listed, {}, runs, 3)) == {"a": "start", "b": "skip", "c": "skip", "x": "stop", "y": "skip"}


def test_more_may_run_than_the_limit_says_when_it_was_lowered_until_they_have_stopped() -> None:
    runs = {"a": ACTIVE, "b": ACTIVE, "c": ACTIVE}
    assert actions(decide(listing("a", "b", "c"), {}, runs, 1)) == {"a": "keep", "b": "stop", "c": "stop"}


def test_what_has_ended_by_itself_rests_and_keeps_its_place() -> None:
    decisions = decide(listing("a", "b"), {}, {"a": ABSENT}, 1, resting={"a"})
    assert decisions == (
        Decision("a", Action.SKIP, RESTING),
        Decision("b", Action.SKIP, "max_processes (1) is reached"),
    )
    # Resting is for what would start: what runs again, or is to be left alone, is told as such.
    assert decide(listing("a"), {}, {"a": ACTIVE}, None, resting={"a"})[0].action is Action.KEEP
    assert decide(listing("a"), {"a": block("a")}, {}, None, resting={"a"})[0].reason == "the bot was kicked"


def test_a_blocked_mesh_takes_nobodys_place() -> None:
    assert actions(decide(listing("a", "b"), {"a": block("a")}, {}, 1)) == {"a": "skip", "b": "start"}


def test_what_is_about_to_start_has_its_place_already() -> None:
    starting = frozenset({"b"})
    assert decide(listing("a", "b"), {}, {}, 1, starting=starting) == (
        Decision("a", Action.SKIP, "max_processes (1) is reached until another mesh has stopped"),
        Decision("b", Action.SKIP, "max_processes (1) is reached"),
    )
    assert decide(listing("b"), {}, {}, 1, starting=starting) == (
        Decision("b", Action.KEEP, "discovery lists it, and it is about to be started"),
    )
    assert actions(decide(listing("a", "b"), {"b": block("b")}, {}, 1, starting=starting)) == {
        "a": "skip",
        "b": "skip",
    }


def test_a_mesh_between_two_states_keeps_its_place() -> None:
    assert actions(decide(listing("a", "b"), {}, {"a": FAILED}, 1)) == {"a": "skip", "b": "skip"}


def test_a_failed_unit_is_examined_before_it_is_started_again() -> None:
    assert decide(listing("a"), {}, {"a": FAILED}, None) == (
        Decision("a", Action.SKIP, "its last run is being examined"),
    )


def test_a_unit_that_stops_is_waited_for() -> None:
    assert decide(listing("a"), {}, {"a": STOPPING}, None) == (Decision("a", Action.SKIP, "it is stopping"),)


def test_a_crash_loop_is_left_to_systemd_or_stopped() -> None:
    assert actions(decide(listing("a"), {}, {"a": RESTARTING}, None)) == {"a": "keep"}
    assert actions(decide({}, {}, {"a": RESTARTING}, None)) == {"a": "stop"}


def test_before_the_first_round_a_block_still_stops() -> None:
    runs = {"a": ACTIVE, "b": ACTIVE, "c": ABSENT}
    assert decide(None, {"a": block("a")}, runs, 1) == (
        Decision("a", Action.STOP, "the bot was kicked"),
        Decision("b", Action.KEEP, "it runs, and discovery has not answered yet"),
        Decision("c", Action.SKIP, "discovery has not answered yet"),
    )


def test_what_the_last_list_lacks_runs_on_and_is_not_started() -> None:
    decisions = decide(listing("a", "b", "c"), {}, {"a": ACTIVE}, 1, missing={"a", "b"})
    assert actions(decisions) == {"a": "keep", "b": "skip", "c": "skip"}
    assert [each.reason for each in decisions] == [
        "discovery listed it until lately, and it runs",
        "the last list of discovery lacks it",
        "max_processes (1) is reached",
    ]
    assert actions(decide(listing("a", "b"), {}, {}, 1, missing={"a"})) == {"a": "skip", "b": "start"}, (
        "it takes no place"
    )


def test_what_was_not_read_yet_may_be_listed() -> None:
    decisions = decide(listing("a"), {}, {"x": ACTIVE, "y": ABSENT}, None, whole=False)
    assert actions(decisions) == {"a": "start", "x": "keep", "y": "skip"}
    assert decisions[1].reason == "it runs, and discovery has not read its whole list yet"


def test_an_empty_mesh_that_was_left_takes_no_place() -> None:
    decisions = decide(listing("a", "b"), {}, {}, 1, alone={"a"})
    assert actions(decisions) == {"a": "skip", "b": "start"}
    assert decisions[0].reason == "the bot left because it was alone; it comes back when there is company"
    assert actions(decide(listing("a"), {}, {"a": ACTIVE}, 1, alone={"a"})) == {"a": "keep"}, "started by hand"


def test_what_was_read_comes_before_what_was_not_unless_that_runs() -> None:
    listed = listing("a", "b", "c")
    assert actions(decide(listed, {}, {}, 1, unread={"a"})) == {"a": "skip", "b": "start", "c": "skip"}
    assert actions(decide(listed, {}, {"a": ACTIVE}, 1, unread={"a"})) == {"a": "keep", "b": "skip", "c": "skip"}
    assert actions(decide(listing("a"), {}, {}, 1, unread={"a"})) == {"a": "start"}


def test_enough_is_what_runs_and_as_many_as_may_run() -> None:
    found = list(listing("a", "b", "c").values())
    assert enough(found, {}, set(), set(), BotLimits(3))
    assert not enough(found, {}, set(), set(), BotLimits(4))
    assert not enough(found, {}, set(), set(), BotLimits(None))
    assert not enough(found, {"a": block("a")}, set(), set(), BotLimits(3))
    assert not enough(found, {}, set(), {"a"}, BotLimits(3))
    assert enough(found, {}, {"a", "b"}, set(), BotLimits(3))
    assert not enough(found, {}, {"a", "z"}, set(), BotLimits(3)), "what runs must not be lost by not being read"
    assert enough(found, {"z": block("z")}, {"z"}, set(), BotLimits(3))


def test_what_is_not_listed_any_more_stops() -> None:
    assert decide({}, {}, {"a": ACTIVE}, None) == (Decision("a", Action.STOP, "discovery does not list it any more"),)


def test_what_runs_and_should_is_kept() -> None:
    assert decide(listing("a", "b"), {}, {"a": ACTIVE}, None) == (
        Decision("a", Action.KEEP, "discovery lists it, and it runs"),
        Decision("b", Action.START, "discovery lists it"),
    )
