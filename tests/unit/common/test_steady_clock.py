from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.common import steady_clock
from ravesvc.common.steady_clock import Clock, Stamp

DAY = 24 * 3600
BOOT = "0123456789abcdef0123456789abcdef"
OTHER_BOOT = "fedcba9876543210fedcba9876543210"
PROC = Path("/proc/sys/kernel/random/boot_id")


class Machine:
    """Its two clocks, in seconds: people set the one, the other goes on."""

    def __init__(self, wall: float = 1_700_000_000.0, boottime: float = 5000.0) -> None:
        self.wall = wall
        self.boottime = boottime

    def clock(self, boot: str = BOOT) -> Clock:
        return Clock(wall=lambda: self.wall, boottime=lambda: self.boottime, boot=boot)

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.boottime += seconds


def test_the_steady_scale_begins_where_the_wall_clock_is() -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.now() == 1_700_000_000_000
    machine.sleep(1.5)
    assert clock.now() == 1_700_000_001_500
    assert clock.jump() == 0


@pytest.mark.parametrize("jump", [DAY, -DAY, 2, -2])
def test_a_jump_of_the_wall_clock_does_not_move_the_steady_scale(jump: int) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.sleep(10)
    machine.wall += jump
    assert clock.now() == 1_700_000_010_000
    assert clock.jump() == jump * 1000
    machine.sleep(10)
    assert clock.now() == 1_700_000_020_000
    assert clock.jump() == jump * 1000
    machine.wall -= jump
    assert clock.jump() == 0


@pytest.mark.parametrize("slow", [1.0, -1.0, 0.1])
def test_a_slow_correction_is_no_jump(slow: float) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall += slow
    assert clock.jump() == 0
    assert clock.stamp().wall == clock.now()


def test_a_stamp_holds_one_moment_on_both_scales() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.sleep(10)
    machine.wall += DAY
    assert clock.stamp() == Stamp(wall=1_700_000_010_000 + DAY * 1000, boottime=5_010_000, boot=BOOT)


def test_times_beside_ones_own_stamp_are_as_far_ahead_as_the_wall_clock_was() -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.ahead(clock.stamp()) == 0
    machine.wall += DAY
    stamp = clock.stamp()
    machine.wall -= 3 * DAY
    assert clock.ahead(stamp) == DAY * 1000


@pytest.mark.parametrize(
    "stamp", [None, Stamp(wall=1, boottime=2, boot=OTHER_BOOT), Stamp(wall=1, boottime=2, boot="")]
)
def test_without_a_stamp_of_this_boot_times_are_as_the_wall_clock_has_them_now(stamp: Stamp | None) -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.ahead(stamp) == 0
    machine.wall += DAY
    assert clock.ahead(stamp) == DAY * 1000


def test_where_nobody_knows_the_boot_no_stamp_counts() -> None:
    machine = Machine()
    stamp = machine.clock("").stamp()
    assert stamp.boot == ""
    machine.wall += DAY
    clock = machine.clock("")
    assert clock.ahead(stamp) == 0
    # For who knows it, the same stamp would tell of the jump.
    assert machine.clock().ahead(Stamp(wall=stamp.wall, boottime=stamp.boottime, boot=BOOT)) == -DAY * 1000


JUMPS = st.integers(-DAY, DAY) | st.sampled_from([-DAY, DAY, 1, -1])
# With microseconds, as clocks have them.
WAITS = st.integers(0, 10 * DAY * 1_000_000).map(lambda microseconds: microseconds / 1_000_000)


@given(
    before=JUMPS,
    between=JUMPS,
    after=JUMPS,
    waits=st.tuples(WAITS, WAITS, WAITS),
    away=st.integers(-10 * DAY * 1000, 10 * DAY * 1000),
)
def test_a_time_in_a_file_is_the_same_point_in_time_to_a_later_process(
    before: int, between: int, after: int, waits: tuple[float, float, float], away: int
) -> None:
    machine = Machine()
    writer = machine.clock()
    machine.sleep(waits[0])
    machine.wall += before
    time_there = writer.now() + away
    written, stamp = time_there + writer.jump(), writer.stamp()
    machine.sleep(waits[1])
    machine.wall += between
    reader = machine.clock()
    machine.sleep(waits[2])
    machine.wall += after
    time_here = written - reader.ahead(stamp)
    # How far away it is by now, for both of them.
    assert time_here - reader.now() == time_there - writer.now()


@pytest.mark.slow
@given(st.lists(st.tuples(WAITS, JUMPS), max_size=8), st.integers(-10 * DAY * 1000, 10 * DAY * 1000))
def test_nor_does_it_wander_when_many_processes_hand_it_on(lives: list[tuple[float, int]], away: int) -> None:
    machine = Machine()
    clock = machine.clock()
    first, there = clock, clock.now() + away
    moved = there
    for wait, jump in lives:
        written, stamp = moved + clock.jump(), clock.stamp()
        machine.sleep(wait)
        machine.wall += jump
        clock = machine.clock()
        moved = written - clock.ahead(stamp)
    assert moved - clock.now() == there - first.now()


def test_a_time_from_before_a_boot_is_what_the_wall_clock_says() -> None:
    machine = Machine()
    writer = machine.clock()
    written, stamp = writer.now() + 60_000 + writer.jump(), writer.stamp()
    machine.sleep(30)
    machine.boottime = 1.0
    reader = machine.clock(OTHER_BOOT)
    assert written - reader.ahead(stamp) - reader.now() == 30_000


def test_the_clocks_of_the_machine_are_the_default() -> None:
    wall, boottime = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    stamp = Clock().stamp()
    assert 0 <= stamp.wall - int(wall * 1000) < 60_000
    assert 0 <= stamp.boottime - int(boottime * 1000) < 60_000


def test_the_unit_says_which_boot_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(steady_clock.BOOT_ID_VARIABLE, BOOT)
    assert Clock().stamp().boot == BOOT
    assert Clock(boot=OTHER_BOOT).stamp().boot == OTHER_BOOT


@pytest.mark.parametrize("said", [None, ""])
def test_else_the_kernel_says_it_in_the_form_that_the_unit_would(
    monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    monkeypatch.delenv(steady_clock.BOOT_ID_VARIABLE, raising=False)
    if said is not None:
        monkeypatch.setenv(steady_clock.BOOT_ID_VARIABLE, said)
    found = Clock().stamp().boot
    assert found == PROC.read_text().strip().replace("-", "")
    assert len(found) == 32
    assert set(found) <= set("0123456789abcdef")


def test_where_neither_does_the_boot_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, encoding: str | None = None) -> str:
        assert path == PROC
        assert encoding == "ascii"
        raise PermissionError

    monkeypatch.delenv(steady_clock.BOOT_ID_VARIABLE, raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)
        clock = Clock()
    assert clock.stamp().boot == ""
