"""The real helper process with the real pystemd, on a private bus where we play systemd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ravesvc.bus import Bus, Call, Interface, allow_all, connection, method
from ravesvc.errors import Code, RaveError
from ravesvc.systemd import unit_control as units_module
from ravesvc.systemd.unit_control import Units
from tests.unit.bus_fakes import connected
from tests.unit.conftest import BusDaemon, until
from tests.unit.marking import marks_its_tests

UNIT = "rave-mesh@11111111-2222-4333-8444-555555555555.service"


class Manager(Interface):
    """As much of systemd as the verbs need."""

    interface = "org.freedesktop.systemd1.Manager"

    def __init__(self) -> None:
        super().__init__(allow_all)
        self.asked: list[tuple[Any, ...]] = []
        self.interactive: set[bool] = set()
        self.answer = asyncio.Event()
        self.answer.set()

    async def job(self, call: Call, *args: str) -> str:
        self.asked.append((call.member, *args))
        self.interactive.add(call.interactive)
        await self.answer.wait()
        if args[0].startswith("refused:"):
            _, name, text = args[0].split(":")
            raise RaveError(Code.UNIT, text, dbus=name)
        return f"/org/freedesktop/systemd1/job/{len(self.asked)}"

    @method(takes={"name": "s", "mode": "s"}, returns={"job": "o"})
    async def start_unit(self, call: Call, name: str, mode: str) -> str:
        return await self.job(call, name, mode)

    @method(takes={"name": "s", "mode": "s"}, returns={"job": "o"})
    async def stop_unit(self, call: Call, name: str, mode: str) -> str:
        return await self.job(call, name, mode)

    @method(takes={"name": "s", "mode": "s"}, returns={"job": "o"})
    async def try_restart_unit(self, call: Call, name: str, mode: str) -> str:
        return await self.job(call, name, mode)

    @method(takes={"name": "s"})
    async def reset_failed_unit(self, call: Call, name: str) -> None:
        await self.job(call, name)


@pytest.fixture(autouse=True)
@marks_its_tests("process")
def _system_bus(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    # systemd's error names are not ours; let the fake one choose.
    error_name = connection.errors.error_name
    monkeypatch.setattr(
        connection.errors, "error_name", lambda error: error.attributes.get("dbus") or error_name(error)
    )


@contextlib.asynccontextmanager
async def systemd(bus_address: str, *, timeout_s: float = 5.0) -> AsyncIterator[tuple[Manager, Units]]:
    async with connected(bus_address) as (bus,):
        manager = Manager()
        await appear(bus, manager)
        units = Units(timeout=timeout_s)
        try:
            yield manager, units
        finally:
            await units.close()


async def appear(bus: Bus, manager: Manager) -> None:
    bus.export("/org/freedesktop/systemd1", manager)
    await bus.request_name("org.freedesktop.systemd1")


async def test_verbs(bus_address: str) -> None:
    async with systemd(bus_address) as (manager, units):
        assert await units.start(UNIT) == "/org/freedesktop/systemd1/job/1"
        assert await units.stop(UNIT) == "/org/freedesktop/systemd1/job/2"
        assert await units.restart(UNIT) == "/org/freedesktop/systemd1/job/3"
        assert await units.reset_failed(UNIT) is None  # type: ignore[func-returns-value]
        assert manager.asked == [
            ("StartUnit", UNIT, "replace"),
            ("StopUnit", UNIT, "replace"),
            ("TryRestartUnit", UNIT, "replace"),
            ("ResetFailedUnit", UNIT),
        ]
        assert manager.interactive == {False}


@pytest.mark.parametrize(
    ("name", "code", "kept"),
    [
        ("org.freedesktop.systemd1.NoSuchUnit", Code.UNIT, "DBusNoSuchUnitError"),
        ("org.freedesktop.systemd1.UnitMasked", Code.UNIT, "org.freedesktop.systemd1.UnitMasked"),
        ("org.freedesktop.DBus.Error.AccessDenied", Code.ACCESS_DENIED, "DBusAccessDeniedError"),
        (
            "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
            Code.ACCESS_DENIED,
            "DBusInteractiveAuthorizationRequiredError",
        ),
    ],
)
async def test_refusals(bus_address: str, name: str, code: Code, kept: str) -> None:
    async with systemd(bus_address) as (_, units):
        unit = f"refused:{name}:The unit is not to be had."
        with pytest.raises(RaveError, match="The unit is not to be had") as e:
            await units.start(unit)
        assert e.value.code is code
        assert e.value.attributes == {"unit": unit, "error_name": kept}
        assert await units.start(UNIT)  # by the same helper
        assert units._calls == 2


async def test_many_at_once(bus_address: str) -> None:
    async with systemd(bus_address) as (manager, units):
        names = [f"u{n}.service" for n in range(40)]
        jobs = await asyncio.gather(*map(units.start, names))
        assert jobs == [f"/org/freedesktop/systemd1/job/{n}" for n in range(1, 41)]
        assert [asked[1] for asked in manager.asked] == names


async def test_a_slow_systemd_stops_nobody_else(bus_address: str) -> None:
    async with systemd(bus_address, timeout_s=0.5) as (manager, units):
        await units.start(UNIT)
        manager.answer.clear()
        start = time.monotonic()
        slow = asyncio.create_task(units.start(UNIT))
        await until(lambda: len(manager.asked) == 2)
        assert not slow.done()  # and we are here meanwhile
        with pytest.raises(RaveError) as e:
            await slow
        assert e.value.code is Code.TIMEOUT
        assert e.value.attributes["unit"] == UNIT
        assert time.monotonic() - start < 3
        manager.answer.set()
        assert await units.start(UNIT)
        assert units._calls == 3  # the helper has lived on


async def test_a_caller_that_gives_up(bus_address: str) -> None:
    async with systemd(bus_address) as (manager, units):
        manager.answer.clear()
        waiting = asyncio.create_task(units.start("first.service"))
        await until(lambda: manager.asked)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        manager.answer.set()
        # The next call gets its own answer, not the one that came too late.
        assert await units.start("second.service") == "/org/freedesktop/systemd1/job/2"


async def test_a_helper_that_dies_in_a_call(bus_address: str) -> None:
    async with systemd(bus_address) as (manager, units):
        manager.answer.clear()
        dying = asyncio.create_task(units.stop(UNIT))
        await until(lambda: manager.asked)
        assert units._helper
        os.kill(units._helper.pid, signal.SIGKILL)
        with pytest.raises(RaveError, match="the helper ended") as e:
            await dying
        assert (e.value.code, e.value.attributes) == (Code.UNIT, {"unit": UNIT})
        manager.answer.set()
        assert await units.stop(UNIT)


async def test_a_helper_that_died_between_calls(bus_address: str) -> None:
    async with systemd(bus_address) as (_, units):
        await units.start(UNIT)
        assert units._helper
        os.kill(units._helper.pid, signal.SIGKILL)
        await units._helper.wait()
        assert await units.start(UNIT)


async def test_a_helper_that_hangs(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine a helper takes its time to start.
    monkeypatch.setattr(units_module, "_HELPER_GRACE_S", 30)

    async with systemd(bus_address, timeout_s=0.3) as (_, units):
        await units.start(UNIT)
        assert units._helper
        with monkeypatch.context() as hasty:
            hasty.setattr(units_module, "_HELPER_GRACE_S", 0.2)
            os.kill(units._helper.pid, signal.SIGSTOP)
            with pytest.raises(RaveError, match="the helper hangs") as e:
                await units.start(UNIT)
            assert e.value.code is Code.TIMEOUT
        assert await units.start(UNIT)
        monkeypatch.setattr(units_module, "_HELPER_GRACE_S", 0.2)
        os.kill(units._helper.pid, signal.SIGSTOP)  # and at the end: killed by close


async def test_the_helper_is_replaced_now_and_then(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units_module, "_CALLS_PER_HELPER", 2)

    async with systemd(bus_address) as (_, units):
        helpers = set()
        for _ in range(5):
            await units.start(UNIT)
            assert units._helper
            helpers.add(units._helper.pid)
        assert len(helpers) == 3


async def test_closing(bus_address: str) -> None:
    async with systemd(bus_address) as (manager, units):
        manager.answer.clear()
        running = asyncio.create_task(units.start("running.service"))
        await until(lambda: manager.asked)
        waiting = asyncio.create_task(units.start("waiting.service"))
        await asyncio.sleep(0)
        closing = asyncio.create_task(units.close())
        await asyncio.sleep(0)
        manager.answer.set()
        assert await running
        with pytest.raises(RaveError, match="this service is ending"):
            await waiting
        await closing
        with pytest.raises(RaveError):
            await units.start(UNIT)
        assert len(manager.asked) == 1
    await Units().close()  # nothing was ever started


async def test_signals_to_the_whole_service_are_not_for_the_helper(bus_address: str) -> None:
    async with systemd(bus_address) as (_, units):
        await units.start(UNIT)
        assert units._helper
        pid = units._helper.pid
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        assert await units.start(UNIT)
        assert units._helper.pid == pid


async def test_the_bus_goes_and_comes_back(bus_daemon: BusDaemon) -> None:
    async with systemd(bus_daemon.address) as (_, units):
        await units.start(UNIT)
        bus_daemon.stop()
        for _ in range(2):
            with pytest.raises(RaveError) as e:
                await units.start(UNIT)
            assert e.value.code is Code.UNIT
        bus_daemon.socket.unlink()
        bus_daemon.start()
        async with connected(bus_daemon.address) as (bus,):
            await appear(bus, Manager())
            assert await units.start(UNIT)


async def test_no_systemd(bus_address: str) -> None:
    units = Units()
    try:
        with pytest.raises(RaveError, match=r"org\.freedesktop\.systemd1") as e:
            await units.start(UNIT)
        assert e.value.code is Code.UNIT
    finally:
        await units.close()
