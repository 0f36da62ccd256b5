from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.systemd import notify
from ravesvc.systemd.notify import StatusSender, feed_watchdog, watchdog_interval

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The service manager's end."""
    abstract = f"ravesvc-test-{uuid.uuid4()}"
    address, variable = {
        "path": (str(tmp_path / "notify"),) * 2,
        "abstract": (f"\0{abstract}", f"@{abstract}"),
    }[request.param]
    monkeypatch.setenv("NOTIFY_SOCKET", variable)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(address)
        yield listener


def test_a_message_reaches_the_manager_in_one_piece(manager: socket.socket) -> None:
    notify.notify("READY=1", "STATUS=a\nMAINPID=1\rWATCHDOG=trigger\033[1m", "STATUS=\ud800ä")
    assert manager.recv(4096).decode() == "READY=1\nSTATUS=a?MAINPID=1?WATCHDOG=trigger?[1m\nSTATUS=?ä"
    with pytest.raises(BlockingIOError):
        manager.recv(4096)


def test_a_backslash_quotes_nothing_and_does_not_have_the_message_dropped(manager: socket.socket) -> None:
    notify.notify("STATUS=closed: a\\nb\\")
    assert manager.recv(4096) == rb"STATUS=closed: a\\nb" + b"\\" * 2


def test_a_status_that_was_sent_is_sendable_and_one_that_orders_a_terminal_about_is_not(
    manager: socket.socket,
) -> None:
    for text in ("Connected: a film", "\033[2J", "\u202e", "x" * 1000, ""):
        notify.notify(f"STATUS={text}")
        assert notify.sendable(manager.recv(4096).decode().removeprefix("STATUS="))
    assert not any(map(notify.sendable, ("\033[2J", "\u202e", "a\nb", "x" * 601)))


def test_outside_of_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_args: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", never)
    notify.notify("READY=1")
    notify.notify_reloading()


async def test_outside_of_systemd_nobody_waits_for_readiness() -> None:
    await notify.notify_ready()


def test_what_can_not_be_delivered_is_dropped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/" + "x" * 200)
    notify.notify("READY=1")


@pytest.mark.slow
def test_neither_a_full_queue_nor_a_want_of_descriptors_stops_the_program(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(10_000):
        notify.notify("STATUS=x")

    def none_left(*_args: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    notify.notify("STATUS=x")


@pytest.mark.slow
async def test_readiness_waits_for_a_manager_that_is_busy(manager: socket.socket) -> None:
    for _ in range(10_000):
        notify.notify("STATUS=x")
    ready = asyncio.create_task(notify.notify_ready())
    # A turn of the loop, so that it has tried.
    await asyncio.sleep(0)
    assert not ready.done()
    said = b""
    while said != b"READY=1":
        said = await asyncio.get_running_loop().sock_recv(manager, 4096)
    await ready


def test_a_reload_is_announced_with_the_time_of_its_begin(manager: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify.notify_reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    # In one message: systemd compares the time with that of its signal (Type=notify-reload).
    first, second = manager.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= after
    with pytest.raises(BlockingIOError):
        manager.recv(4096)


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        ("30000000", None, 15.0),
        ("30000000", "us", 15.0),
        ("30000000", "another", None),
        ("30000000", "", None),
        ("0", None, None),
        ("", None, None),
        (None, None, None),
        ("-1", None, None),
        ("²", None, None),
        ("soon", None, None),
    ],
)
def test_the_interval_is_half_of_the_limit(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, interval: float | None
) -> None:
    pids = {"us": str(os.getpid()), "another": str(os.getppid())}
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pids.get(pid or "", pid))):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert watchdog_interval() == interval


async def test_the_watchdog_is_fed_twice_per_limit(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")

    async def beats() -> list[float]:
        loop = asyncio.get_running_loop()
        feeder = asyncio.create_task(feed_watchdog())
        times = []
        for _ in range(4):
            assert await loop.sock_recv(manager, 100) == b"WATCHDOG=1"
            times.append(loop.time())
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)
        return times

    times = await beats()
    # A loaded machine may be late, but the timer is never early.
    assert 0.29 < times[-1] - times[0] < 5


async def test_a_process_that_is_not_watched_stays_silent(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getppid()))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(feed_watchdog(), 0.05)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


class Scene:
    """A sender with a manager and a clock of our own. `delivered` is when the manager got which status."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy = False
        self.delivered: list[tuple[float, str]] = []
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self.sender = StatusSender(self._take, self._call_later)

    def _take(self, status: str) -> bool:
        if not self.busy:
            self.delivered.append((self.now, status))
        return not self.busy

    def _call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        timer = (self.now + delay, callback)
        self._timers.append(timer)
        handle: Any = SimpleNamespace(cancel=lambda: self._timers.remove(timer))
        return cast(asyncio.TimerHandle, handle)

    def wait(self, until: float) -> None:
        while due := [timer for timer in self._timers if timer[0] <= until]:
            self._timers.remove(due[0])
            self.now = due[0][0]
            due[0][1]()
        self.now = until

    @property
    def waits(self) -> bool:
        return bool(self._timers)


def test_of_a_thousand_statuses_in_a_second_the_first_and_the_last_are_sent() -> None:
    scene = Scene()
    for number in range(1000):
        scene.wait(number / 1000)
        scene.sender.show(f"{number} users")
    scene.wait(10)
    assert scene.delivered == [(0, "0 users"), (1, "999 users")]
    assert not scene.waits, "a bot without news has no timer"
    scene.sender.show("alone")
    assert scene.delivered[2:] == [(10, "alone")], "after a while the next is sent at once"


@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from("ab"))))
def test_statuses_are_a_second_apart_differ_and_the_latest_is_sent_within_a_second(
    changes: list[tuple[float, str]],
) -> None:
    scene = Scene()
    for pause, status in changes:
        scene.wait(scene.now + pause)
        scene.sender.show(status)
    last = scene.now
    scene.wait(last + 10)
    assert all(second[0] - first[0] >= 1 - 1e-9 for first, second in pairwise(scene.delivered))
    assert all(first[1] != second[1] for first, second in pairwise(scene.delivered))
    if changes:
        when, status = scene.delivered[-1]
        assert status == changes[-1][1]
        assert when <= last + 1


def test_a_status_that_a_busy_manager_did_not_take_is_sent_again() -> None:
    scene = Scene()
    scene.busy = True
    scene.sender.show("Connected")
    scene.wait(2.5)
    scene.busy = False
    scene.wait(10)
    assert scene.delivered == [(3, "Connected")]
    assert not scene.waits


def test_a_closed_sender_sends_nothing_more() -> None:
    scene = Scene()
    scene.sender.show("Connected")
    scene.sender.show("Connected, 2 users")
    scene.sender.close()
    scene.wait(5)
    scene.sender.show("Connected, 3 users")
    scene.wait(10)
    assert [status for _, status in scene.delivered] == ["Connected"]


def test_it_is_told_whether_the_manager_took_it(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert notify.notify("STATUS=x")
    while notify.notify("STATUS=x"):
        pass
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not notify.notify("STATUS=x")
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert notify.notify("STATUS=x"), "there is nobody to send it to"
