from __future__ import annotations

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.core.outages import (
    FIRST_DELAY_S,
    LEAST_MESHES,
    MAX_DELAY_S,
    SETTLED_S,
    WINDOWS,
    Failure,
    FailureKind,
    Outages,
    common_cause,
)

ONE, TWO = "one.test:443", "two.test:443"
MESH = "11111111-2222-4333-8444-555555555555"
WINDOW = WINDOWS[FailureKind.CONNECTION]


class Clock:
    now = 5000.0

    def __call__(self) -> float:
        return self.now


def failed(*meshes: str, server: str = ONE, at: float = 0.0, words: str = "403") -> dict[str, Failure]:
    return {mesh: Failure(at, server, words) for mesh in meshes}


# The verdict.


def test_what_hits_most_meshes_is_nobodys_fault_among_them() -> None:
    verdict = common_cause("a", FailureKind.CONNECTION, failed("a", "b", "c"), {"d": ONE}, 1.0)
    assert verdict
    assert (verdict.server, verdict.meshes, verdict.of, verdict.words) == ("", {"a", "b", "c"}, 4, "403")
    assert not verdict.total
    assert verdict.describe() == "3 of 4 meshes can't be reached: 403"


def test_what_hits_all_of_one_server_is_that_servers() -> None:
    fine = dict.fromkeys("vwxyz", TWO)
    verdict = common_cause("a", FailureKind.CONNECTION, failed("a", "b", "c"), fine, 1.0)
    assert verdict
    assert (verdict.server, verdict.of, verdict.total) == (ONE, 3, True)
    assert verdict.describe() == "all meshes of one.test:443 can't be reached: 403"


@pytest.mark.parametrize(
    ("failures", "fine"),
    [
        (failed("a"), {}),
        (failed("a", "b"), {}),
        (failed("a", "b"), {"c": ONE}),
        (failed("a", "b", "c"), {"d": ONE, "e": ONE, "f": ONE}),
        (failed("a") | failed("b", "c", server=TWO), {"d": ONE, "e": TWO, "f": TWO}),
        (failed("b", "c", "d"), {"a": ONE}),
        (failed("a") | failed("b", "c", at=-WINDOW), {}),
    ],
    ids=["one", "two", "two-of-three", "half", "elsewhere", "not-itself", "long-ago"],
)
def test_what_hits_few_may_be_their_own_fault(failures: dict[str, Failure], fine: dict[str, str]) -> None:
    assert common_cause("a", FailureKind.CONNECTION, failures, fine, 1.0) is None


def test_processes_have_no_server() -> None:
    failures = failed("a", words="exit status 1") | failed("b", "c", server=TWO, words="exit status 1")
    verdict = common_cause("a", FailureKind.PROCESS, failures, {"d": ONE, "e": ONE}, 1.0)
    assert verdict
    assert verdict.describe() == "the processes of 3 of 5 meshes fail: exit status 1"


def test_the_words_are_those_of_most() -> None:
    failures = failed("a", words="timed out") | failed("b", "c", words="403")
    verdict = common_cause("a", FailureKind.CONNECTION, failures, {}, 1.0)
    assert verdict
    assert verdict.words == "403"


NAMES = st.sampled_from("abcdefgh")
SERVERS = st.sampled_from([ONE, TWO, ""])
FAILURES = st.dictionaries(NAMES, st.builds(Failure, st.floats(-500, 0), SERVERS, st.sampled_from(["x", "y"])))


@pytest.mark.slow
@given(NAMES, st.sampled_from(FailureKind), FAILURES, st.dictionaries(NAMES, SERVERS))
def test_whatever_is_known(mesh: str, kind: FailureKind, failures: dict[str, Failure], fine: dict[str, str]) -> None:
    verdict = common_cause(mesh, kind, failures, fine, 0.0)
    if verdict is None:
        return
    assert mesh in verdict.meshes
    assert len(verdict.meshes) >= LEAST_MESHES
    assert 2 * len(verdict.meshes) > verdict.of
    assert verdict.meshes <= {each for each, failure in failures.items() if -failure.at <= WINDOWS[kind]}
    # One more that fails never makes it the mesh's own fault.
    more = {**failures, "z": Failure(0.0, failures[mesh].server, "x")}
    assert common_cause(mesh, kind, more, fine, 0.0) is not None


# What lasts.


class Scene:
    def __init__(self) -> None:
        self.clock = Clock()
        self.outages = Outages(self.clock, lambda: 1_700_000_000.0 + self.clock.now)

    def fail(self, *meshes: str, server: str = ONE) -> bool:
        for mesh in meshes:
            self.outages.failed(mesh, FailureKind.CONNECTION, server, "403")
        return self.outages.judge(meshes[0], FailureKind.CONNECTION, {}) is not None

    def delay(self) -> float:
        """How long mesh a is held from now on."""
        begun = self.clock.now
        while self.outages.waiting(["a"]):
            self.clock.now += 1
        return self.clock.now - begun


def test_the_meshes_of_an_outage_are_tried_again_with_growing_delays() -> None:
    scene = Scene()
    delays = []
    for _ in range(8):
        assert scene.fail("a", "b", "c")
        # The others end a little later, which is no other try.
        scene.clock.now += 1
        scene.fail("b", "a", "c")
        scene.clock.now -= 1
        delays.append(scene.delay())
    assert delays == [10, 20, 40, 80, 160, 320, 600, 600]
    assert (delays[0], delays[-1]) == (FIRST_DELAY_S, MAX_DELAY_S)


def test_others_are_not_held() -> None:
    scene = Scene()
    scene.fail("a", "b", "c")
    assert scene.outages.waiting(iter("abcd")).keys() == {"a", "b", "c"}
    assert "it is tried again on " in scene.outages.waiting(["a"])["a"]
    (sentence,) = scene.outages.sentences()
    assert sentence.startswith("all meshes can't be reached: 403 (since ")
    assert sentence.endswith(", trying again with back-off)")


def test_one_that_stays_connected_ends_it() -> None:
    scene = Scene()
    scene.fail("a", "b", "c")
    scene.outages.connected("b")
    scene.clock.now += SETTLED_S - 1
    assert scene.outages.sentences()
    scene.clock.now += 1
    assert (scene.outages.waiting("abc"), scene.outages.sentences()) == ({}, [])
    assert not scene.fail("a"), "that one fails no more"


def test_one_that_is_let_in_only_to_be_shown_out_does_not() -> None:
    scene = Scene()
    scene.fail("a", "b", "c")
    for lost in (lambda: scene.outages.disconnected("b"), lambda: scene.fail("b")):
        scene.outages.connected("b")
        scene.clock.now += 1
        lost()
        scene.clock.now += SETTLED_S
        assert scene.outages.sentences()
    assert scene.fail("a"), "it counts among those that fail"


def test_it_ends_by_itself_when_nothing_fails_any_more() -> None:
    scene = Scene()
    for mesh in "abc":
        scene.outages.failed(mesh, FailureKind.PROCESS, ONE, "exit status 1")
    assert scene.outages.judge("a", FailureKind.PROCESS, {})
    scene.clock.now += FIRST_DELAY_S + WINDOWS[FailureKind.PROCESS]
    assert scene.outages.sentences()
    scene.clock.now += 1
    assert scene.outages.sentences() == []


def test_an_operator_need_not_wait() -> None:
    scene = Scene()
    scene.fail("a", "b", "c")
    for mesh in "abc":
        scene.outages.release(mesh)
    assert scene.outages.waiting("abc") == {}
    assert scene.outages.sentences()
    scene.outages.connected("b")
    scene.clock.now += SETTLED_S
    assert scene.outages.sentences() == [], "they had been right"


def test_one_that_was_released_waits_again_after_another_failure() -> None:
    scene = Scene()
    scene.fail("a", "b", "c")
    scene.outages.release("a")
    scene.clock.now += FIRST_DELAY_S
    scene.fail("a", "b", "c")
    assert scene.outages.waiting("a").keys() == {"a"}


def test_a_process_that_runs_well_for_a_while_ends_it() -> None:
    scene = Scene()
    for mesh in "abc":
        scene.outages.failed(mesh, FailureKind.PROCESS, ONE, "exit status 1")
    assert scene.outages.judge("a", FailureKind.PROCESS, {})
    scene.outages.connected("b")
    scene.outages.stable("x")
    assert scene.outages.sentences()
    scene.outages.stable("b")
    assert scene.outages.sentences() == []


def test_it_ends_with_its_last_mesh() -> None:
    scene = Scene()
    scene.fail("a", "b", "c")
    for mesh in "abc":
        scene.outages.forget(mesh)
    assert scene.outages.sentences() == []


def test_a_mesh_that_is_no_more_holds_nothing() -> None:
    scene = Scene()
    scene.fail("a", "b", "c")
    scene.outages.forget("a")
    assert scene.outages.waiting("abc").keys() == {"b", "c"}


def test_a_change_that_concerns_all_ends_everything() -> None:
    scene = Scene()
    scene.fail("a", "b", "c")
    scene.outages.clear()
    assert (scene.outages.waiting("abc"), scene.outages.sentences()) == ({}, [])
    assert not scene.fail("a")


def test_the_name_of_one_mesh_is_no_part_of_the_cause() -> None:
    scene = Scene()
    for mesh in (MESH, "b", "c"):
        scene.outages.failed(mesh, FailureKind.CONNECTION, None, f"reading mesh {mesh} failed: no access (HTTP 403)")
    verdict = scene.outages.judge(MESH, FailureKind.CONNECTION, {})
    assert verdict
    assert verdict.words == "reading mesh failed: no access (HTTP 403)"


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["fail", "connect", "lose", "forget", "wait"]), NAMES), max_size=80))
def test_whatever_happens_nothing_is_held_for_longer_than_the_most(events: list[tuple[str, str]]) -> None:
    scene = Scene()
    for what, mesh in events:
        if what == "fail":
            scene.fail(mesh)
        elif what == "connect":
            scene.outages.connected(mesh)
        elif what == "lose":
            scene.outages.disconnected(mesh)
        elif what == "forget":
            scene.outages.forget(mesh)
        else:
            scene.clock.now += 100
        assert all(outage.retry_at - scene.clock.now <= MAX_DELAY_S for outage in scene.outages._outages.values())
    scene.clock.now += MAX_DELAY_S
    assert scene.outages.waiting("abcdefgh") == {}
