from __future__ import annotations

import os
import pwd

import pytest

from ravesvc.errors import RaveError
from ravesvc.orchestrator.dbus import callers as callers_module
from ravesvc.orchestrator.dbus.callers import Callers
from tests.unit.bus_fakes import connected


def account(name: str) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", 990, 990, "", "/", "/bin/false"))


@pytest.mark.parametrize(("user", "group"), [(0, None), (1000, "user 1000"), (990, "process {}")])
async def test_whom_a_connection_shares_its_turn_with(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, user: int, group: str | None
) -> None:
    monkeypatch.setattr(pwd, "getpwnam", account)

    async with connected(bus_address, 2) as (bus, caller):
        callers = Callers(bus)
        callers._users[caller.unique_name] = user
        assert await callers.group(caller.unique_name) == (group and group.format(os.getpid()))


async def test_the_bus_knows_the_user(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers_module, "_MAX_REMEMBERED_CALLERS", 1)

    async with connected(bus_address, 3) as (bus, *others):
        callers = Callers(bus)
        for each in others:
            assert await callers.user(each.unique_name) == os.geteuid()
        assert list(callers._users) == [others[1].unique_name]


async def test_one_that_has_gone_has_no_user_and_no_group(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", nobody)

    async with connected(bus_address, 1) as (bus,):
        callers = Callers(bus)
        assert await callers.user(":1.4711") is None
        with pytest.raises(RaveError):
            await callers.group(":1.4711")
