from __future__ import annotations

import asyncio
import contextlib
import pwd
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from ravesvc.bus import Bus, Call, Interface, allow_all, method
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus import polkit as polkit_module
from ravesvc.orchestrator.dbus.callers import Callers
from ravesvc.orchestrator.dbus.polkit import AccessCheck
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until

Run = Callable[[Any], Any]


class FakePolkit(Interface):
    """polkit's access; `answer` is what it says to everything, once `gate` is open."""

    interface = "org.freedesktop.PolicyKit1.Authority"

    def __init__(self) -> None:
        super().__init__(allow_all)
        self.answer = True
        self.asked: list[tuple[Any, ...]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @method(
        takes={"subject": "(sa{sv})", "action": "s", "details": "a{ss}", "flags": "u", "cancellation": "s"},
        returns={"result": "(bba{ss})"},
    )
    async def check_authorization(self, call: Call, *args: Any) -> list[Any]:
        self.asked.append(args)
        await self.gate.wait()
        if args[1] == "unknown":
            raise RaveError(Code.INTERNAL, "Action unknown is not registered")
        return [self.answer, True, {}]


def calling(sender: str, *, interactive: bool = False) -> Call:
    return Call(sender=sender, interactive=interactive, path="/", member="StopMesh")


def let_user_be(bus: Bus, user: int) -> list[float]:
    """For this connection, all others belong to a user; returns the time-outs of its calls of polkit."""
    real, timeouts = bus.call, []

    async def call(*args: Any, **named: Any) -> list[Any]:
        if args[3] == "CheckAuthorization":
            timeouts.append(named["timeout"])
        reply = await real(*args, **named)
        return [user] if args[3] == "GetConnectionUnixUser" else reply

    bus.call = call  # type: ignore[method-assign]
    return timeouts


def become(access: AccessCheck, user: int) -> None:
    """For this access, all others belong to a user from now on; a real connection never changes its own."""
    let_user_be(access._bus, user)
    access._callers._users.clear()


@contextlib.asynccontextmanager
async def polkit_on(address: str, user: int) -> AsyncIterator[tuple[FakePolkit, AccessCheck, Bus, list[float]]]:
    async with connected(address, 3) as (service, bus, caller):
        polkit = FakePolkit()
        service.export("/org/freedesktop/PolicyKit1/Authority", polkit)
        await service.request_name("org.freedesktop.PolicyKit1")
        timeouts = let_user_be(bus, user)
        yield polkit, AccessCheck(bus, Callers(bus)), caller, timeouts


async def test_root_needs_nobodys_leave(bus_address: str) -> None:
    async with polkit_on(bus_address, 0) as (polkit, access, caller, _):
        polkit.answer = False
        await access(calling(caller.unique_name), PolkitAction.OPERATE)
        assert polkit.asked == []


@pytest.mark.parametrize("interactive", [False, True])
async def test_polkit_decides_on_others_by_their_bus_name(bus_address: str, interactive: bool) -> None:
    async with polkit_on(bus_address, 1000) as (polkit, access, caller, timeouts):
        call = calling(caller.unique_name, interactive=interactive)
        await access(call, PolkitAction.OPERATE)
        subject = ["system-bus-name", {"name": caller.unique_name}]
        assert polkit.asked == [(subject, "org.ravesvc.Rave1.operate", {}, int(interactive), "")]
        # A person types a password, a program does not.
        assert timeouts == [120.0 if interactive else 25.0]
        polkit.answer = False
        with pytest.raises(RaveError) as e:
            await access(call, PolkitAction.READ)
        assert e.value.code is Code.ACCESS_DENIED
        assert str(e.value) == "StopMesh needs the right org.ravesvc.Rave1.read (try as root, or with sudo)"
        assert len(polkit.asked) == 2, "nothing is remembered: a right may end"


@pytest.mark.parametrize("user", [0, 1000])
async def test_a_method_that_names_no_right_is_open_to_nobody(bus_address: str, user: int) -> None:
    async with polkit_on(bus_address, user) as (polkit, access, caller, _):
        with pytest.raises(RaveError) as e:
            await access(calling(caller.unique_name), None)
        assert e.value.code is Code.ACCESS_DENIED
        assert polkit.asked == []


async def test_a_caller_that_has_vanished_is_not_taken_for_root(bus_address: str) -> None:
    async with polkit_on(bus_address, 0) as (polkit, access, _, _):
        polkit.answer = False
        with pytest.raises(RaveError) as e:
            await access(calling(":1.4711"), PolkitAction.READ)
        assert e.value.code is Code.ACCESS_DENIED


async def test_without_polkit_only_root_passes(bus_address: str) -> None:
    async with connected(bus_address, 2) as (bus, caller):
        access = AccessCheck(bus, Callers(bus))
        let_user_be(bus, 1000)
        with pytest.raises(RaveError) as e:
            await access(calling(caller.unique_name), PolkitAction.READ)
        assert e.value.code is Code.ACCESS_DENIED
        assert "is polkit installed and running? root may do it all the same" in str(e.value)
        become(access, 0)
        await access(calling(caller.unique_name), PolkitAction.READ)


async def test_a_polkit_that_fails_refuses(bus_address: str) -> None:
    async with polkit_on(bus_address, 1000) as (_, access, caller, _):
        with pytest.raises(RaveError, match="Action unknown is not registered") as e:
            await access(calling(caller.unique_name), "unknown")
        assert e.value.code is Code.ACCESS_DENIED


SLOTS = pytest.mark.parametrize(
    ("interactive", "per_user", "total"), [(True, 4, 16), (False, 12, 48)], ids=["prompts", "checks"]
)


async def fill(polkit: FakePolkit, access: AccessCheck, call: Call, number: int) -> list[asyncio.Task[None]]:
    """Have so many more calls wait for polkit."""
    before = len(polkit.asked)
    waiting = [asyncio.create_task(access(call, PolkitAction.OPERATE)) for _ in range(number)]
    await until(lambda: len(polkit.asked) == before + number)
    return waiting


async def refused(polkit: FakePolkit, access: AccessCheck, call: Call) -> str:
    """Why a call is refused, of which polkit hears nothing."""
    before = len(polkit.asked)
    with pytest.raises(RaveError) as e:
        await asyncio.wait_for(access(call, PolkitAction.OPERATE), 5)
    assert e.value.code is Code.RATE_LIMITED
    assert len(polkit.asked) == before
    return e.value.message


@SLOTS
def test_one_user_leaves_slots_to_the_others(
    run: Run, bus_address: str, *, interactive: bool, per_user: int, total: int
) -> None:
    async def body() -> None:
        async with polkit_on(bus_address, 1000) as (polkit, access, caller, _):
            polkit.gate.clear()
            call = calling(caller.unique_name, interactive=interactive)
            waiting = await fill(polkit, access, call, per_user)
            assert await refused(polkit, access, call) == "too many of your calls wait for polkit"
            become(access, 1001)
            waiting += await fill(polkit, access, call, 1)
            # Who types no password does not wait for those who do, nor the other way round.
            become(access, 1000)
            other = calling(caller.unique_name, interactive=not interactive)
            waiting += await fill(polkit, access, other, 1)
            polkit.gate.set()
            await asyncio.gather(*waiting)
            await access(call, PolkitAction.OPERATE)

    run(body())


@SLOTS
def test_strangers_together_do_not_keep_root_waiting(
    run: Run, bus_address: str, *, interactive: bool, per_user: int, total: int
) -> None:
    async def body() -> None:
        async with polkit_on(bus_address, 1000) as (polkit, access, caller, _):
            polkit.gate.clear()
            call = calling(caller.unique_name, interactive=interactive)
            waiting = []
            for user in range(1000, 1000 + total // per_user):
                become(access, user)
                waiting += await fill(polkit, access, call, per_user)
            become(access, 2000)
            assert await refused(polkit, access, call) == "too many callers wait for polkit"
            become(access, 0)
            await access(call, PolkitAction.OPERATE)
            assert not any(task.done() for task in waiting)
            polkit.gate.set()
            await asyncio.gather(*waiting)
            become(access, 2000)
            await access(call, PolkitAction.OPERATE)

    run(body())


@pytest.mark.parametrize(("user", "name"), [(0, "root"), (4711, "user 4711")])
async def test_whoever_calls_has_a_name_for_people(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, user: int, name: str
) -> None:
    def getpwuid(number: int) -> pwd.struct_passwd:
        assert threading.current_thread() is not threading.main_thread(), "a directory service may take its time"
        if number:
            raise KeyError(number)
        return pwd.struct_passwd(("root", "x", 0, 0, "", "/root", "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)

    async with polkit_on(bus_address, user) as (polkit, access, caller, _):
        assert await access.actor(calling(caller.unique_name)) == name
        assert polkit.asked == []


async def test_whoever_has_called_and_vanished_has_no_name(bus_address: str) -> None:
    async with polkit_on(bus_address, 0) as (_, access, _, _):
        assert await access.actor(calling(":1.4711")) == "a caller who is gone"


def test_the_flag_is_polkits() -> None:
    # CheckAuthorizationFlags of the polkit D-Bus API.
    assert polkit_module._ALLOW_USER_INTERACTION == 0x1
