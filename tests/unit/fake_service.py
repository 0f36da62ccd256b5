"""The service as ravectl meets it: its manager on a bus, in a thread of its own."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from ravesvc import names
from ravesvc.bus import Bus, Call, Interface, Variant, allow_all
from ravesvc.bus.message import default_value
from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator.dbus.account import AccountObject
from ravesvc.orchestrator.dbus.blocklist import BlocklistObject
from ravesvc.orchestrator.dbus.canary import CanaryObject
from ravesvc.orchestrator.dbus.manager import ManagerObject
from ravesvc.orchestrator.dbus.mesh import MeshObject
from ravesvc.orchestrator.dbus.permissions import PermissionsObject
from ravesvc.orchestrator.dbus.store import StoreObject
from tests.unit.conftest import until

WHEN_US = 1_704_708_000_123_000
DUMP = '{"version": 1, "name": "Zoë"}\n'


# What ravectl asks on its way to a change.
_LOOKED_UP = ("ListMeshes", "DescribeMeshes", "ListEntries", "DescribeEntries", "GetStats", "GetHistory")


class FakeObject(Interface):
    """The methods and signals that the service declares. Each call is noted, and answered.

    A subclass has a coroutine for a method that needs an answer of its own: with the name of the one that the service
    has, and the arguments. All others answer with `manager.changed` for a boolean, with zero or nothing for all else.
    """

    manager: FakeManagerObject
    _functions: ClassVar[dict[str, str]]

    def __init_subclass__(cls, *, declared: type[Interface]) -> None:
        super().__init_subclass__()
        cls.interface, cls.signals, cls.properties = declared.interface, declared.signals, declared.properties
        cls._functions = {name: each.function.__name__ for name, each in declared.methods.items()}
        cls.methods = {name: replace(each, function=cls._answer) for name, each in declared.methods.items()}

    async def _answer(self, call: Call, *arguments: Any) -> Any:
        kinds = self.methods[call.member].takes.values()
        if call.member not in _LOOKED_UP:
            self.manager.note(call, *(noted(kind, each) for kind, each in zip(kinds, arguments, strict=True)))
        own = vars(type(self)).get(self._functions[call.member])
        if own:
            return await own(self, *arguments)
        kinds = self.methods[call.member].returns.values()
        returned = [self.manager.changed if kind == "b" else default_value(kind) for kind in kinds]
        return returned[0] if len(returned) == 1 else tuple(returned) or None


def noted(kind: str, argument: Any) -> Any:
    """An argument as it is compared: that of a file is what is in it."""
    return os.pread(argument, os.fstat(argument).st_size, 0).decode() if kind == "h" else argument


class FakeManagerObject(FakeObject, declared=ManagerObject):
    """Answers as it is told to; `asked` is every change that was asked for."""

    def __init__(self) -> None:
        super().__init__(allow_all)
        self.manager = self
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
        self.status: dict[str, Variant] = {}
        self.set_status()
        self.login_script: Callable[[FakeManagerObject], Coroutine[Any, Any, None]] = succeed
        self.cancel_script: Callable[[FakeManagerObject], Coroutine[Any, Any, None]] = tell_cancelled
        self.canary_ends = ("in-force", "")
        self.meshes: list[list[str]] = []
        self.users: list[list[Any]] = []
        self.more = 0
        self.settings: dict[str, str] = {}
        self.described: list[list[Any]] = []
        self.looks: list[str] = []
        self.decisions: list[list[str]] = []
        self.lines: list[str] = []
        self.details = {"State": Variant("s", "connected")}
        self.found = (0, "")
        self.round = 0
        self.round_script: Callable[[FakeManagerObject], Coroutine[Any, Any, None]] = find
        self.prompt_script: Callable[[FakeManagerObject], Coroutine[Any, Any, None]] = let_in
        self.answer = "taken"
        self.roll_script: Callable[[FakeManagerObject], Coroutine[Any, Any, None]] = roll_two
        self.order_script: Callable[[FakeManagerObject, str], Coroutine[Any, Any, None]] = obey
        self.background: set[asyncio.Task[None]] = set()
        self._changes = 0

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
            "Plugins": Variant("a(sssu)", []),
            "CommandErrors": Variant("as", []),
        }

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something when the call that is being answered has been."""
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    def note(self, call: Call, *what: Any) -> None:
        self.interactive.add(call.interactive)
        self.asked.append((call.member, *what) if what else call.member)
        if self.error:
            raise self.error

    async def get_status(self) -> dict[str, Variant]:
        return self.status

    async def list_meshes(self) -> list[list[str]]:
        return self.meshes

    async def describe_meshes(self) -> list[list[Any]]:
        self.looks.append("DescribeMeshes")
        return self.described

    async def list_users(self, _: str) -> tuple[list[list[Any]], int]:
        return self.users, len(self.users) + self.more

    async def list_settings(self, _: str) -> tuple[list[list[str]], int]:
        return [self._setting(name) for name in self.settings], len(self.settings) + 1

    async def get_setting(self, _: str, name: str) -> list[str]:
        return self._setting(name)

    async def change_setting(self, _: str, name: str, value: str) -> list[str]:
        self.settings[name] = value
        return self._setting(name)

    def _setting(self, name: str) -> list[str]:
        return [name, self.settings[name], f"About {name}", "any text"]

    async def plan(self) -> list[list[str]]:
        self.looks.append("Plan")
        return self.decisions

    async def start_mesh(self, mesh: str) -> None:
        await self.order_script(self, mesh)

    async def stop_mesh(self, mesh: str) -> None:
        await self.order_script(self, mesh)

    async def restart_mesh(self, mesh: str) -> None:
        await self.order_script(self, mesh)

    def describe(self, mesh: str, state: str, reason: str = "", action: str = "keep") -> None:
        """Let a mesh be in a state, and the plan do something with it."""
        self.described = [each for each in self.described if each[0] != mesh]
        self.described.append([mesh, "A film", state, reason, WHEN_US, 0, 0, False])
        self.decisions = [[mesh, action, "the plan says so"]]
        # It announces that something has changed.
        self._changes += 1
        self.set(Status=f"change {self._changes}")

    async def explain(self, _: str) -> tuple[list[str], dict[str, Variant]]:
        return self.lines, self.details

    async def discover(self) -> int:
        await self.prompt_script(self)
        self.round += 1
        self.later(self.round_script(self))
        return self.round

    async def confirm_losses(self) -> int:
        return 3

    async def roll(self) -> int:
        await self.prompt_script(self)
        self.later(self.roll_script(self))
        return 2

    async def cancel_roll(self) -> None:
        self.emit("RollFinished", "Cancelled", "the roll was cancelled")


class FakeAccountObject(FakeObject, declared=AccountObject):
    """The account beside it."""

    def __init__(self, manager: FakeManagerObject) -> None:
        super().__init__(allow_all)
        self.manager = manager

    async def login(self, _: str) -> int:
        await self.manager.login_script(self.manager)
        return 600

    async def cancel_login(self) -> None:
        await self.manager.cancel_script(self.manager)

    async def import_credentials(self, _: int) -> str:
        return self.manager.answer


class FakePermissionsObject(FakeObject, declared=PermissionsObject):
    """Admins, commands, ignored users and changes from rooms beside it."""

    def __init__(self, manager: FakeManagerObject) -> None:
        super().__init__(allow_all)
        self.manager = manager

    async def list_admins(self) -> list[list[int]]:
        return self.manager.admins

    async def issue_claim(self) -> tuple[str, int]:
        return "?claim ABCD-2345", 600

    async def list_permissions(self) -> list[list[Any]]:
        return self.manager.permissions

    async def list_ignored_users(self) -> list[list[int]]:
        return self.manager.ignored

    async def list_chat_changes(self) -> list[list[Any]]:
        return self.manager.chat_changes

    async def undo_chat_change(self, number: int) -> bool:
        if number in self.manager.conflicts:
            raise RaveError(Code.CONFLICT, f"change {number} can't be undone: it was changed again")
        return self.manager.changed


class FakeCanaryObject(FakeObject, declared=CanaryObject):
    """The canary beside it."""

    def __init__(self, manager: FakeManagerObject) -> None:
        super().__init__(allow_all)
        self.manager = manager
        self.set(State="none")

    async def try_(self, meshes: list[str], hold_usec: int) -> None:
        self.manager.later(self._finish(*self.manager.canary_ends))

    async def _finish(self, state: str, reason: str) -> None:
        self.emit("Finished", state, reason)


class FakeStoreObject(FakeObject, declared=StoreObject):
    """The store beside it."""

    def __init__(self, manager: FakeManagerObject) -> None:
        super().__init__(allow_all)
        self.manager = manager

    async def export_(self) -> str:
        return DUMP

    async def save(self, file: int) -> None:
        if not self.manager.may_save:
            raise RaveError(Code.ACCESS_DENIED, "root alone may do that")
        os.write(file, DUMP.encode())

    async def import_(self, _: int) -> tuple[int, int]:
        return 1, 3

    async def refresh(self) -> tuple[int, int]:
        return 2, 1

    async def forget_user(self, _: int) -> int:
        return 3


class FakeMeshObject(Interface):
    """The object of a mesh, with its properties."""

    interface = names.MESH_INTERFACE
    properties: ClassVar = MeshObject.properties


class FakeBlocklistObject(FakeObject, declared=BlocklistObject):
    """The blocklist beside it."""

    def __init__(self, manager: FakeManagerObject) -> None:
        super().__init__(allow_all)
        self.manager = manager
        self.entries: list[list[Any]] = []
        self.titles: dict[str, str] = {}
        self.events: list[list[Any]] = []

    async def list_entries(self) -> list[list[Any]]:
        return self.entries

    async def describe_entries(self) -> list[list[Any]]:
        return [[mesh, self.titles.get(mesh, ""), *more] for mesh, *more in self.entries]

    async def get_stats(self) -> tuple[int, int, int]:
        return 5, 3, 2

    async def get_history(self, _: str) -> list[list[Any]]:
        return self.events

    async def import_entries(self, entries: list[list[Any]]) -> tuple[int, int]:
        known = {entry[0] for entry in self.entries}
        over = [entry for entry in entries if entry[3] and entry[3] < WHEN_US]
        new = [entry for entry in entries if entry not in over and entry[0] not in known]
        self.entries += [[*entry, "ann", 1] for entry in new]
        return len(new), len(over)

    async def restore(self) -> int:
        return 4


async def obey(manager: FakeManagerObject, mesh: str) -> None:
    """An order is carried out at once."""
    manager.describe(mesh, "held" if manager.asked[-1][0] == "StopMesh" else "connected")


async def find(manager: FakeManagerObject) -> None:
    """A round ends."""
    manager.emit("DiscoveryFinished", manager.round, *manager.found)


async def let_in(_: FakeManagerObject) -> None:
    """Polkit asks for no password."""


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
    """The manager under the service's name."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        assert self._started.wait(10)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.bus = await Bus.connect(self._address)
        self.manager = FakeManagerObject()
        self.blocklist = FakeBlocklistObject(self.manager)
        beside = (self.manager.account, FakePermissionsObject(self.manager), FakeStoreObject(self.manager))
        self.canary = FakeCanaryObject(self.manager)
        self.bus.export(names.MANAGER_PATH, self.manager, *beside, self.blocklist, self.canary)
        await self.bus.request_name(names.BUS_NAME)
        self._started.set()
        await self._stop.wait()
        await until(lambda: not self.manager.background)
        await self.bus.close()

    def show_canary(
        self, state: str, reason: str = "", files: Sequence[Sequence[str]] = (("greet.py", "a", ""),)
    ) -> None:
        """Let the canary be, or have been, about these files in two meshes."""

        async def show() -> None:
            meshes, when = ["a", "b"], WHEN_US
            self.canary.set(State=state, Reason=reason, Files=files, Meshes=meshes, Began=when, Ends=when)

        asyncio.run_coroutine_threadsafe(show(), self._loop).result()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
        assert not self._thread.is_alive()


class Terminal(io.StringIO):
    """A terminal with an operator at it."""

    def isatty(self) -> bool:
        return True


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have the operator type a text."""
    monkeypatch.setattr(sys, "stdin", Terminal(text))
