from __future__ import annotations

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.api.models import Mesh
from ravesvc.orchestrator.plan import Action, Decision, plan
from ravesvc.orchestrator.unit import UnitState
from ravesvc.store.blocklist import Block, Reason

ACTIVE = UnitState(active="active", sub="running", main_pid=7)
FAILED = UnitState(active="failed", result="exit-code")
STOPPING = UnitState(active="deactivating")
RESTARTING = UnitState(active="activating", sub="auto-restart")
LOADED = UnitState()

IDS = st.sampled_from([f"m{number}" for number in range(8)])
STATES = st.sampled_from(["active", "activating", "reloading", "refreshing", "deactivating", "inactive", "failed"])
SUBS = st.sampled_from(["", "auto-restart", "failed-before-auto-restart", "dead-before-auto-restart"])
UNITS = st.dictionaries(IDS, st.builds(UnitState, active=STATES, sub=SUBS))
REASONS = st.sampled_from(Reason)


def mesh(name: str, *, invited: bool = False) -> Mesh:
    return Mesh(name, None, "", invited, ())


def listing(*names: str) -> dict[str, Mesh]:
    return {name: mesh(name) for name in names}


def block(name: str, reason: Reason = Reason.KICKED) -> Block:
    return Block(mesh=name, reason=reason, since=0, until=None)


def actions(decisions: tuple[Decision, ...]) -> dict[str, str]:
    return {decision.mesh: decision.action.value for decision in decisions}


LISTED = st.dictionaries(IDS, st.booleans()).map(
    lambda entries: {name: mesh(name, invited=invited) for name, invited in entries.items()}
)
BLOCKS = st.dictionaries(IDS, REASONS).map(
    lambda entries: {name: block(name, reason) for name, reason in entries.items()}
)


@hypothesis.settings(deadline=None)
@given(st.none() | LISTED, BLOCKS, UNITS, st.none() | st.integers(0, 9))
def test_invariants(
    listed: dict[str, Mesh] | None, blocks: dict[str, Block], units: dict[str, UnitState], limit: int | None
) -> None:
    decisions = plan(listed, blocks, units, limit)
    known = listed or {}
    # Everything is decided, and once.
    assert sorted(decision.mesh for decision in decisions) == sorted(known.keys() | units.keys())
    for decision in decisions:
        unit = units.get(decision.mesh, LOADED)
        assert decision.reason
        if decision.action is Action.START:
            assert decision.mesh in known
            assert decision.mesh not in blocks
            assert unit.active == "inactive"
            assert not unit.running
        elif decision.action in (Action.STOP, Action.KEEP):
            assert unit.running
        else:
            assert not unit.running
        if decision.mesh in blocks:
            assert decision.action in (Action.STOP, Action.SKIP)
            assert decision.reason == blocks[decision.mesh].describe()
        elif listed is None:
            # Nobody knows: nothing starts, and what runs goes on.
            assert decision.action is (Action.KEEP if unit.running else Action.SKIP)
        elif decision.mesh not in known:
            assert decision.action is (Action.STOP if unit.running else Action.SKIP)
    if listed is not None and limit is not None:
        assert sum(decision.action in (Action.START, Action.KEEP) for decision in decisions) <= limit


@hypothesis.settings(deadline=None)
@given(LISTED, BLOCKS, UNITS)
def test_without_a_limit_everything_listed_and_not_blocked_runs(
    listed: dict[str, Mesh], blocks: dict[str, Block], units: dict[str, UnitState]
) -> None:
    found = actions(plan(listed, blocks, units, None))
    for name in listed.keys() - blocks.keys():
        unit = units.get(name, LOADED)
        if unit.running:
            assert found[name] == "keep"
        else:
            assert found[name] == ("start" if unit.active == "inactive" else "skip")


def test_invited_meshes_come_first_then_the_oldest() -> None:
    listed = listing("a", "b", "c") | {"d": mesh("d", invited=True), "e": mesh("e", invited=True)}
    order = [decision.mesh for decision in plan(listed, {}, {"z": LOADED, "y": LOADED}, 3)]
    assert order == ["d", "e", "a", "b", "c", "y", "z"]
    assert actions(plan(listed, {}, {"c": ACTIVE}, 3)) == {
        "d": "start",
        "e": "start",
        "a": "start",
        "b": "skip",
        "c": "stop",
    }


def test_the_limit_says_why() -> None:
    assert plan(listing("a", "b"), {}, {}, 1)[1] == Decision("b", Action.SKIP, "max_processes (1) is reached")


def test_a_blocked_mesh_takes_nobodys_place() -> None:
    assert actions(plan(listing("a", "b"), {"a": block("a")}, {}, 1)) == {"a": "skip", "b": "start"}


def test_a_mesh_between_two_states_keeps_its_place() -> None:
    assert actions(plan(listing("a", "b"), {}, {"a": FAILED}, 1)) == {"a": "skip", "b": "skip"}


def test_a_failed_unit_is_examined_before_it_is_started_again() -> None:
    assert plan(listing("a"), {}, {"a": FAILED}, None) == (
        Decision("a", Action.SKIP, "its last run is being examined"),
    )


def test_a_unit_that_stops_is_waited_for() -> None:
    assert plan(listing("a"), {}, {"a": STOPPING}, None) == (Decision("a", Action.SKIP, "it is stopping"),)


def test_a_crash_loop_is_left_to_systemd_or_stopped() -> None:
    assert actions(plan(listing("a"), {}, {"a": RESTARTING}, None)) == {"a": "keep"}
    assert actions(plan({}, {}, {"a": RESTARTING}, None)) == {"a": "stop"}


def test_before_the_first_round_a_block_still_stops() -> None:
    units = {"a": ACTIVE, "b": ACTIVE, "c": LOADED}
    assert plan(None, {"a": block("a")}, units, 1) == (
        Decision("a", Action.STOP, "the bot was kicked"),
        Decision("b", Action.KEEP, "it runs, and discovery has not answered yet"),
        Decision("c", Action.SKIP, "discovery has not answered yet"),
    )


def test_what_is_not_listed_any_more_stops() -> None:
    assert plan({}, {}, {"a": ACTIVE}, None) == (Decision("a", Action.STOP, "discovery does not list it any more"),)


def test_what_runs_and_should_is_kept() -> None:
    assert plan(listing("a", "b"), {}, {"a": ACTIVE}, None) == (
        Decision("a", Action.KEEP, "discovery lists it, and it runs"),
        Decision("b", Action.START, "discovery lists it"),
    )
