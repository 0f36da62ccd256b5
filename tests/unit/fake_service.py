"""The service as ravectl meets it: its manager on a bus, in a thread of its own."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import pytest

from ravesvc import names
from ravesvc.bus import Bus, Call, Interface, Variant, allow_all, method
from ravesvc.errors import Code, RaveError
from tests.unit.conftest import until

WHEN_US = 1_704_708_000_123_000
DUMP = '{"version": 1, "name": "Zoë"}\n'


class FakeManagerObject(Interface):
    """Answers as it is told to; `asked` is every change that was asked for."""

    interface = names.MANAGER_INTERFACE
    signals: ClassVar = {
        "RollProgress": {"done": "u", "total": "u", "id": "s"},
        "RollFinished": {"error": "s", "message": "s"},
        "DiscoveryFinished": {"round": "u", "meshes": "u", "error": "s"},
    }

    def __init__(self) -> None:
        super().__init__(allow_all)
        self.account = FakeAccountObject(self)
        self.asked: list[Any] = []
        self.interactive: set[bool] = set()
        self.error: RaveError | None = None
        self.changed = True
        self.may_save = True
        self.admins: list[list[int]] = []
        self.ignored: list[list[int]] = []
        self.chat_changes: list[list[Any]] = []
        self.conflicts: set[int] = set()
        self.permissions: list[list[Any]] = []
        self.status: dict[str, Variant] = {"CommandErrors": Variant("as", [])}
        self.set_status()
        self.login_script: Callable[[FakeManagerObject], Coroutine[Any, Any, None]] = succeed
        self.cancel_script: Callable[[FakeManagerObject], Coroutine[Any, Any, None]] = tell_cancelled
        self.meshes: list[list[str]] = []
        self.users: list[list[Any]] = []
        self.more = 0
        self.described: list[list[Any]] = []
        self.decisions: list[list[str]] = []
        self.lines: list[str] = []
        self.found = (0, "")
        self.round = 0
        self.round_script: Callable[[FakeManagerObject], Coroutine[Any, Any, None]] = find
        self.prompt_script: Callable[[FakeManagerObject], Coroutine[Any, Any, None]] = let_in
        self.answer = "taken"
        self.roll_script: Callable[[FakeManagerObject], Coroutine[Any, Any, None]] = roll_two
        self.background: set[asyncio.Task[None]] = set()

    def set_status(
        self, *, admins: int = 0, permissions: int = 0, account: bool = False, login: bool = True, step: str = ""
    ) -> None:
        self.status = {
            "Store": Variant("s", "embedded"),
            "StoreError": Variant("s", ""),
            "HasAccount": Variant("b", account),
            "LoginNeeded": Variant("b", login),
            "LoginStep": Variant("s", step),
            "Admins": Variant("u", admins),
            "Permissions": Variant("u", permissions),
            "CommandErrors": Variant("as", []),
        }

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something when the call that is being answered has been."""
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    def _note(self, call: Call, *what: Any) -> None:
        self.interactive.add(call.interactive)
        self.asked.append((call.member, *what) if what else call.member)
        if self.error:
            raise self.error

    @method(returns={"status": "a{sv}"})
    async def get_status(self, call: Call) -> dict[str, Variant]:
        self._note(call)
        return self.status

    @method(returns={"meshes": "a(ssso)"})
    async def list_meshes(self, call: Call) -> list[list[str]]:
        return self.meshes

    @method(returns={"meshes": "a(sssstuub)"})
    async def describe_meshes(self, call: Call) -> list[list[Any]]:
        self._note(call)
        return self.described

    @method(takes={"id": "s"})
    async def start_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        self._note(call, id)

    @method(takes={"id": "s"})
    async def stop_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        self._note(call, id)

    @method(takes={"id": "s"})
    async def restart_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        self._note(call, id)

    @method(takes={"id": "s"})
    async def reconnect_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        self._note(call, id)

    @method(takes={"id": "s"}, returns={"users": "a(tsb)", "total": "u"})
    async def list_users(self, call: Call, id: str) -> tuple[list[list[Any]], int]:  # noqa: A002
        self._note(call, id)
        return self.users, len(self.users) + self.more

    @method(takes={"id": "s", "debug": "b"})
    async def set_debug(self, call: Call, id: str, debug: bool) -> None:  # noqa: A002
        self._note(call, id, debug)

    @method(returns={"decisions": "a(sss)"})
    async def plan(self, call: Call) -> list[list[str]]:
        self._note(call)
        return self.decisions

    @method(takes={"id": "s"}, returns={"lines": "as", "details": "a{sv}"})
    async def explain(self, call: Call, id: str) -> tuple[list[str], dict[str, Variant]]:  # noqa: A002
        self._note(call, id)
        return self.lines, {"State": Variant("s", "connected")}

    @method(returns={"round": "u"})
    async def discover(self, call: Call) -> int:
        self._note(call)
        await self.prompt_script(self)
        self.round += 1
        self.later(self.round_script(self))
        return self.round

    @method(returns={"meshes": "u"})
    async def confirm_losses(self, call: Call) -> int:
        self._note(call)
        return 3

    @method(returns={"meshes": "u"})
    async def roll(self, call: Call) -> int:
        self._note(call)
        await self.prompt_script(self)
        self.later(self.roll_script(self))
        return 2

    @method()
    async def cancel_roll(self, call: Call) -> None:
        self._note(call)
        self.emit("RollFinished", "Cancelled", "the roll was cancelled")


class FakeAccountObject(Interface):
    """The account beside it."""

    interface = names.ACCOUNT_INTERFACE
    signals: ClassVar = {
        "LoginProgress": {"step": "s", "seconds": "u"},
        "LoginFinished": {"error": "s", "message": "s"},
    }

    def __init__(self, manager: FakeManagerObject) -> None:
        super().__init__(allow_all)
        self._manager = manager

    @method(takes={"email": "s"}, returns={"seconds": "u"})
    async def login(self, call: Call, email: str) -> int:
        self._manager._note(call, email)
        await self._manager.login_script(self._manager)
        return 600

    @method()
    async def cancel_login(self, call: Call) -> None:
        self._manager._note(call)
        await self._manager.cancel_script(self._manager)

    @method(returns={"removed": "b"})
    async def logout(self, call: Call) -> bool:
        self._manager._note(call)
        return self._manager.changed

    @method(takes={"file": "h"}, returns={"answer": "s"})
    async def import_credentials(self, call: Call, file: int) -> str:
        self._manager._note(call, os.pread(file, os.fstat(file).st_size, 0).decode())
        return self._manager.answer


class FakePermissionsObject(Interface):
    """Admins, commands, ignored users and changes from rooms beside it."""

    interface = names.PERMISSIONS_INTERFACE

    def __init__(self, manager: FakeManagerObject) -> None:
        super().__init__(allow_all)
        self._manager = manager

    @method(returns={"admins": "a(ttt)"})
    async def list_admins(self, call: Call) -> list[list[int]]:
        self._manager._note(call)
        return self._manager.admins

    @method(takes={"user": "t"}, returns={"added": "b"})
    async def add_admin(self, call: Call, user: int) -> bool:
        self._manager._note(call, user)
        return self._manager.changed

    @method(takes={"user": "t"}, returns={"removed": "b"})
    async def remove_admin(self, call: Call, user: int) -> bool:
        self._manager._note(call, user)
        return self._manager.changed

    @method(returns={"command": "s", "seconds": "u"})
    async def issue_claim(self, call: Call) -> tuple[str, int]:
        self._manager._note(call)
        return "!claim ABCD-2345", 600

    @method(returns={"permissions": "a(sbst)"})
    async def list_permissions(self, call: Call) -> list[list[Any]]:
        self._manager._note(call)
        return self._manager.permissions

    @method(takes={"command": "s", "requires_admin": "b"})
    async def set_permission(self, call: Call, command: str, requires_admin: bool) -> None:
        self._manager._note(call, command, requires_admin)

    @method(takes={"command": "s"}, returns={"removed": "b"})
    async def remove_permission(self, call: Call, command: str) -> bool:
        self._manager._note(call, command)
        return self._manager.changed

    @method(returns={"users": "a(ttt)"})
    async def list_ignored_users(self, call: Call) -> list[list[int]]:
        self._manager._note(call)
        return self._manager.ignored

    @method(takes={"user": "t"}, returns={"ignored": "b"})
    async def ignore_user(self, call: Call, user: int) -> bool:
        self._manager._note(call, user)
        return self._manager.changed

    @method(takes={"user": "t"}, returns={"removed": "b"})
    async def unignore_user(self, call: Call, user: int) -> bool:
        self._manager._note(call, user)
        return self._manager.changed

    @method(returns={"changes": "a(ttstsb)"})
    async def list_chat_changes(self, call: Call) -> list[list[Any]]:
        self._manager._note(call)
        return self._manager.chat_changes

    @method(takes={"number": "t"}, returns={"undone": "b"})
    async def undo_chat_change(self, call: Call, number: int) -> bool:
        self._manager._note(call, number)
        if number in self._manager.conflicts:
            raise RaveError(Code.CONFLICT, f"change {number} can't be undone: it was changed again")
        return self._manager.changed


class FakeStoreObject(Interface):
    """The store beside it."""

    interface = names.STORE_INTERFACE

    def __init__(self, manager: FakeManagerObject) -> None:
        super().__init__(allow_all)
        self._manager = manager

    @method(returns={"text": "s"})
    async def export_(self, call: Call) -> str:
        self._manager._note(call)
        return DUMP

    @method(takes={"file": "h"})
    async def save(self, call: Call, file: int) -> None:
        self._manager._note(call)
        if not self._manager.may_save:
            raise RaveError(Code.ACCESS_DENIED, "root alone may do that")
        os.write(file, DUMP.encode())

    @method(takes={"file": "h"}, returns={"admins": "u", "permissions": "u"})
    async def import_(self, call: Call, file: int) -> tuple[int, int]:
        self._manager._note(call, os.pread(file, os.fstat(file).st_size, 0).decode())
        return 1, 3

    @method(returns={"admins": "u", "permissions": "u"})
    async def refresh(self, call: Call) -> tuple[int, int]:
        self._manager._note(call)
        return 2, 1

    @method(takes={"user": "t"}, returns={"entries": "u"})
    async def forget_user(self, call: Call, user: int) -> int:
        self._manager._note(call, user)
        return 3


class FakeMeshObject(Interface):
    """The object of a mesh, with some of its properties."""

    interface = names.MESH_INTERFACE
    properties: ClassVar = {"Id": "s", "Title": "s", "Invited": "b", "Users": "u", "SinceTimestamp": "t"}


class FakeBlocklistObject(Interface):
    """The blocklist beside it."""

    interface = names.BLOCKLIST_INTERFACE

    def __init__(self, manager: FakeManagerObject) -> None:
        super().__init__(allow_all)
        self._manager = manager
        self.entries: list[list[Any]] = []
        self.events: list[list[Any]] = []

    @method(returns={"entries": "a(ssttssu)"})
    async def list_entries(self, call: Call) -> list[list[Any]]:
        return self.entries

    @method(returns={"total": "u", "permanent": "u", "temporary": "u"})
    async def get_stats(self, call: Call) -> tuple[int, int, int]:
        return 5, 3, 2

    @method(takes={"id": "s"}, returns={"events": "a(tssss)"})
    async def get_history(self, call: Call, id: str) -> list[list[Any]]:  # noqa: A002
        return self.events

    @method(takes={"id": "s", "usec": "t", "detail": "s"})
    async def block(self, call: Call, id: str, usec: int, detail: str) -> None:  # noqa: A002
        self._manager._note(call, id, usec, detail)

    @method(takes={"id": "s"}, returns={"unblocked": "b"})
    async def unblock(self, call: Call, id: str) -> bool:  # noqa: A002
        self._manager._note(call, id)
        return self._manager.changed

    @method(takes={"entries": "a(sstts)"}, returns={"taken": "u", "over": "u"})
    async def import_entries(self, call: Call, entries: list[list[Any]]) -> tuple[int, int]:
        self._manager._note(call, *map(tuple, entries))
        known = {entry[0] for entry in self.entries}
        over = [entry for entry in entries if entry[3] and entry[3] < WHEN_US]
        new = [entry for entry in entries if entry not in over and entry[0] not in known]
        self.entries += [[*entry, "ann", 1] for entry in new]
        return len(new), len(over)

    @method(returns={"entries": "u"})
    async def restore(self, call: Call) -> int:
        self._manager._note(call)
        return 4


async def find(manager: FakeManagerObject) -> None:
    """A round ends."""
    manager.emit("DiscoveryFinished", manager.round, *manager.found)


async def let_in(_: FakeManagerObject) -> None:
    """Polkit asks nobody."""


async def roll_two(manager: FakeManagerObject) -> None:
    """Both of two are replaced."""
    for number, mesh in enumerate(("first", "second", "")):
        manager.emit("RollProgress", number, 2, mesh)
    manager.emit("RollFinished", "", "")


async def begin(manager: FakeManagerObject) -> None:
    """The mail is sent."""
    manager.account.emit("LoginProgress", "sending", 600)
    manager.account.emit("LoginProgress", "waiting", 600)


async def succeed(manager: FakeManagerObject) -> None:
    """All of a login, with two looks whether the link was followed."""
    await begin(manager)

    async def rest() -> None:
        manager.account.emit("LoginProgress", "waiting", 598)
        manager.account.emit("LoginProgress", "signing-in", 598)
        manager.account.emit("LoginFinished", "", "")

    manager.later(rest())


async def tell_cancelled(manager: FakeManagerObject) -> None:
    manager.account.emit("LoginFinished", "Cancelled", "the login was cancelled")


class FakeService:
    """The manager under the service's name. `do` runs a function in its loop."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(), debug=True))
        self._thread.start()
        assert self._started.wait(10)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.bus = await Bus.connect(self._address)
        self.manager = FakeManagerObject()
        self.blocklist = FakeBlocklistObject(self.manager)
        beside = (self.manager.account, FakePermissionsObject(self.manager), FakeStoreObject(self.manager))
        self.bus.export(names.MANAGER_PATH, self.manager, *beside, self.blocklist)
        await self.bus.request_name(names.BUS_NAME)
        self._started.set()
        await self._stop.wait()
        await until(lambda: not self.manager.background)
        await self.bus.close()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
        assert not self._thread.is_alive()


class Terminal(io.StringIO):
    """Somebody sits here."""

    def isatty(self) -> bool:
        return True


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """What somebody types."""
    monkeypatch.setattr(sys, "stdin", Terminal(text))
