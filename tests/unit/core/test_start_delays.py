"""Meshes that rest: until the next round, or longer each time."""

from __future__ import annotations

from ravesvc.core.start_delays import StartDelays


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_has_ended_rests_until_the_next_round() -> None:
    rests = StartDelays(Clock())
    rests.add("a")
    rests.add("b")
    assert set(rests.meshes) == {"a", "b"}
    rests.end("b")
    assert set(rests.meshes) == {"a"}
    rests.round_finished()
    assert not rests.meshes
    rests.end("never rested")


def test_what_fails_again_rests_longer_each_time() -> None:
    clock = Clock()
    rests = StartDelays(clock)
    delays = []
    for _ in range(9):
        delays.append(rests.back_off("a"))
        # Its unit's end may be told twice.
        rests.add("a")
        clock.now += delays[-1] - 1
        rests.round_finished()
        assert set(rests.meshes) == {"a"}
        clock.now += 1
        rests.round_finished()
        assert not rests.meshes
    assert delays == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    rests.back_off("a")
    rests.end("a")
    assert not rests.meshes
    assert rests.back_off("a") == 60
