from __future__ import annotations

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.core.rave_pauses import CLAIM_AGAIN_S, MAX_CLAIMED_S, Pace, Pauses

API, ELSEWHERE = "api.test", "rooms.test"
MESH, OTHER = "mesh-1", "mesh-2"


class Clock:
    now = 5000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    def __init__(self) -> None:
        self.clock = Clock()
        self.counted = 0
        # At midnight UTC of some day, whatever the time zone says of that.
        self.pauses = Pauses(self._count, self.clock, lambda: 1_700_000_000.0)

    def _count(self) -> None:
        self.counted += 1


def test_without_a_wish_there_is_no_pause() -> None:
    pauses = Scene().pauses
    assert (pauses.asked(API), pauses.left([API]), pauses.words(API)) == (0.0, (0.0, ""), "")
    assert (pauses.all_words(), pauses.any()) == ([], False)


def test_what_we_are_asked_for_holds_to_its_end() -> None:
    scene = Scene()
    scene.pauses.ask(API, 600)
    scene.clock.now += 599
    assert scene.pauses.asked(API) == 1.0
    assert scene.pauses.left([ELSEWHERE, API])[0] == 1.0
    assert scene.pauses.left([ELSEWHERE]) == (0.0, "")
    assert scene.pauses.any()
    scene.clock.now += 1
    assert (scene.pauses.asked(API), scene.pauses.any(), scene.counted) == (0.0, False, 1)


def test_a_shorter_wish_shortens_no_longer_one() -> None:
    scene = Scene()
    scene.pauses.ask(API, 600)
    scene.pauses.ask(API, 5)
    assert scene.pauses.asked(API) == 600


def test_the_words_name_host_and_end() -> None:
    scene = Scene()
    scene.pauses.ask(API, 60)
    scene.pauses.claim(ELSEWHERE, MESH, 60)
    ours, claimed = scene.pauses.all_words()
    assert ours.startswith("api.test asks for a pause until ")
    assert claimed.startswith("rooms.test asks for a pause until ")
    assert not ours.endswith("says")
    assert claimed.endswith(", as a bot says")


def test_a_claim_holds_up_starts_for_minutes_and_nothing_else() -> None:
    scene = Scene()
    assert scene.pauses.claim(API, MESH, 3600)
    assert scene.pauses.left([API])[0] == MAX_CLAIMED_S
    assert scene.pauses.asked(API) == 0.0, "the parent makes sure itself"
    scene.clock.now += MAX_CLAIMED_S
    assert not scene.pauses.any()


def test_a_bot_that_was_taken_over_can_not_hold_up_the_fleet_for_long() -> None:
    scene = Scene()
    held = 0
    for _ in range(3600):
        scene.pauses.claim(API, MESH, 3600)
        held += scene.pauses.any()
        scene.clock.now += 1
    assert held <= 3600 * MAX_CLAIMED_S / CLAIM_AGAIN_S


def test_another_bots_claim_counts() -> None:
    scene = Scene()
    scene.pauses.claim(API, MESH, 3600)
    scene.clock.now += MAX_CLAIMED_S
    assert not scene.pauses.claim(API, MESH, 3600)
    assert scene.pauses.claim(API, OTHER, 60)
    assert scene.pauses.left([API])[0] == 60
    assert not scene.pauses.claim(ELSEWHERE, "mesh-3", 0), "that is none"


def test_what_is_remembered_is_bounded() -> None:
    scene = Scene()
    for number in range(3000):
        scene.pauses.ask(f"host-{number}", 10)
    assert len(scene.pauses.all_words()) == 1000
    scene.clock.now += 10
    scene.pauses.ask(API, 10)
    assert len(scene.pauses.all_words()) == 1, "those that are over make room"
    for number in range(10_002):
        scene.pauses.claim(API, f"mesh-{number}", 1)
    assert scene.pauses.claim(API, "mesh-0", 1), "that one was forgotten"


def started(pace: Pace, clock: Clock, seconds: float) -> int:
    """How many are started within so many seconds, by a caller that waits as it is asked to."""
    end, count = clock.now + seconds, 0
    while clock.now < end:
        wait = pace.take()
        count += wait == 0
        clock.now += wait
    return count


def test_as_many_as_the_machine_starts() -> None:
    pace = Pace(0, Clock())
    assert [pace.take() for _ in range(10_000)] == [0.0] * 10_000
    pace.slow_down()
    assert pace.take() == 0.0


def test_the_pace_is_kept() -> None:
    clock = Clock()
    pace = Pace(300, clock)
    assert started(pace, clock, 60) == pytest.approx(300 + 50, abs=2), "some seconds' worth of them at once"
    assert started(pace, clock, 60) == pytest.approx(300, abs=2)


def test_a_pause_halves_it_and_it_comes_back() -> None:
    clock = Clock()
    pace = Pace(300, clock)
    started(pace, clock, 60)
    for _ in range(500):
        # All bots were refused at the same time.
        pace.slow_down()
    assert started(pace, clock, 30) == pytest.approx(75, rel=0.1)
    clock.now += Pace.RECOVERY
    started(pace, clock, 60)
    assert started(pace, clock, 60) == pytest.approx(300, abs=2)


@hypothesis.settings(deadline=None)
@given(st.integers(1, 100_000), st.lists(st.floats(0, 700), max_size=50))
def test_however_often_it_is_slowed_down_it_goes_on(per_minute: int, gaps: list[float]) -> None:
    clock = Clock()
    pace = Pace(per_minute, clock)
    for gap in gaps:
        clock.now += gap
        pace.slow_down()
        wait = pace.take()
        assert 0 <= wait <= 60 / per_minute / Pace.SLOWEST + 1e-6
