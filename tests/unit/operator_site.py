"""What operators meet on the bus, over fakes of what it stands for: the manager and the objects beside it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from ravesvc import names
from ravesvc.api.models import Listing, Mesh
from ravesvc.blocklist.model import Block, MeshMemory
from ravesvc.bus import Bus, Interface, SignalMessage
from ravesvc.config.options import Config
from ravesvc.core.account import OfferResult
from ravesvc.core.admin_claims import Claims
from ravesvc.core.host_record import HostRecord
from ravesvc.core.inventory import Discovery
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.plan import Decision
from ravesvc.core.presence_check import PresenceCheck
from ravesvc.core.reconciler import Reconciler
from ravesvc.core.room_memory import RoomMemory
from ravesvc.core.start_policy import StartPolicy
from ravesvc.core.worker_status import SettingInfo
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement
from ravesvc.orchestrator.config_changes import ConfigFile
from ravesvc.orchestrator.dbus.account import AccountObject
from ravesvc.orchestrator.dbus.manager import ManagerObject
from ravesvc.orchestrator.dbus.permissions import PermissionsObject
from ravesvc.orchestrator.dbus.store import StoreObject
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.model import Contents, Credentials, Host
from tests.unit.bus_fakes import connected
from tests.unit.fake_access import FakeAccessCheck
from tests.unit.fake_store import FakeCopy, FakeRecord, FakeStore
from tests.unit.fake_systemd import MESH, OTHER, settle

Run = Callable[[Any], Any]

FILM = Mesh(MESH, "server.example:443", "A film", True, ())
LANG = SettingInfo("lang", "de", "The language of answers", "de, en")
ANN, BOB = 101, 102
WHEN = datetime(2024, 1, 8, 10, 0, 0, 123000, tzinfo=UTC)
WHEN_US = 1_704_708_000_123_000


class FakeHealth:
    """Health as the manager sees it: every bot has been silent for so many seconds."""

    seconds = 1.5

    def silence(self, mesh: str) -> float:
        return self.seconds


class FakeReconciler:
    """The fleet as the manager sees it; `decisions` is its plan. What it is asked for is noted, and does nothing."""

    def __init__(self) -> None:
        self.records: dict[str, MeshState] = {}
        self.decisions: tuple[Decision, ...] = ()
        self.asked: list[tuple[Any, ...]] = []
        self.health = FakeHealth()
        self.blocked_only = 0  # meshes on the blocklist that have no record

    def __getattr__(self, name: str) -> Callable[..., Any]:
        asynchronous = inspect.iscoroutinefunction(getattr(Reconciler, name))

        def note(*arguments: Any) -> Coroutine[Any, Any, None] | None:
            self.asked.append((name, *arguments))
            return asyncio.sleep(0) if asynchronous else None

        return note

    @property
    def states(self) -> list[str]:
        return [record.state for record in self.records.values()] + ["blocked"] * self.blocked_only

    def find(self, mesh: str) -> MeshState | None:
        return self.records.get(mesh)

    def plan(self) -> tuple[Decision, ...]:
        return self.decisions

    async def start_mesh(self, mesh: str, actor: str) -> None:
        self.asked.append(("start_mesh", mesh, actor))
        if mesh == OTHER:
            raise RaveError(Code.BLOCKED, "the bot was kicked")

    async def restart_mesh(self, mesh: str) -> None:
        self.asked.append(("restart_mesh", mesh))
        if mesh == OTHER:
            raise RaveError(Code.NOT_RUNNING, "it does not run")

    async def settings(self, mesh: str) -> tuple[list[SettingInfo], int]:
        self.asked.append(("settings", mesh))
        return [LANG], 3

    async def setting(self, mesh: str, name: str) -> SettingInfo:
        self.asked.append(("setting", mesh, name))
        return LANG

    async def change_setting(self, mesh: str, name: str, value: str, actor: str) -> SettingInfo:
        self.asked.append(("change_setting", mesh, name, value, actor))
        return LANG

    async def users(self, mesh: str) -> tuple[list[tuple[int, str]], int]:
        return [(ANN, "Ann"), (BOB, "Bob")], 300


class FakeBlocks:
    """The blocklist as the manager sees it: times in milliseconds, an hour ahead of the clock on the wall."""

    def __init__(self) -> None:
        self.memories: dict[str, MeshMemory] = {}
        self.announced: dict[str, Block] = {}
        self.exported: list[Block] = []
        self.imported: list[Block] = []
        self.error: RaveError | None = None
        self.save_error: RaveError | None = None

    def memory(self, mesh: str) -> MeshMemory:
        return self.memories.get(mesh, MeshMemory())

    def export_entries(self) -> list[Block]:
        return self.exported

    def import_exported(self, blocks: Sequence[Block]) -> asyncio.Future[bool]:
        self.imported += blocks
        saved = asyncio.get_running_loop().create_future()
        saved.set_result(self.save_error is None)
        return saved

    def to_wall_us(self, time_ms: int) -> int:
        return (time_ms - 3_600_000) * 1000


class FakeRoll:
    """The meshes in `old` run an old program."""

    def __init__(self) -> None:
        self.old: list[str] = []
        self.asked: list[str] = []

    def outdated(self) -> list[str]:
        return self.old

    def is_outdated(self, record: MeshState) -> bool:
        return record.mesh in self.old

    def start(self) -> int:
        self.asked.append("start")
        if self.asked.count("start") > 1:
            raise RaveError(Code.BUSY, "a roll is under way")
        return len(self.old)

    def cancel(self) -> None:
        self.asked.append("cancel")


class FakeAccount:
    """The account as the manager sees it."""

    def __init__(self) -> None:
        self.step = ""
        self.identity_missing: list[str] = []
        self.asked: list[str] = []
        self.state: CachedStore

    async def login(self, email: str) -> int:
        self.asked.append(email)
        return 600

    def cancel(self) -> None:
        self.asked.append("cancel")

    async def replace(self, contents: Contents) -> None:
        await self.state.replace(contents)

    async def forget(self) -> bool:
        self.asked.append("forget")
        return self.asked.count("forget") == 1

    async def offer(self, credentials: Credentials) -> OfferResult:
        self.offered = credentials
        return OfferResult.TAKEN


class Site:
    def __init__(self, bus: Bus, client: Bus) -> None:
        self.bus = bus
        self.client = client
        self.reconciler = FakeReconciler()
        self.account = FakeAccount()
        self.store = FakeStore()
        self.told: list[Announcement] = []
        self.state = CachedStore(
            self.store,
            self._tell,
            lambda: None,
            copy=FakeCopy(),  # type: ignore[arg-type]
            record=FakeRecord(),
            retry_s=0.005,
        )
        self.account.state = self.state
        self.discovery = Discovery(self._read, 60.0, lambda: None)
        self.blocklist = FakeBlocks()
        self.roll = FakeRoll()
        self.access = FakeAccessCheck()
        self.rights = self.access.rights
        self.heard: list[SignalMessage] = []
        self.claims = Claims("")
        self.forgotten: list[int] = []
        self.memory = RoomMemory(
            self.state, 3600, in_use=lambda: None, tell_forget=self._tell_forget, presence=PresenceCheck(self._users)
        )
        self.starts = StartPolicy("api.test", 0)
        self.hosts = HostRecord(self.store, Host(id="1", name="here"), lambda: None)
        access: Any = self.access
        core_account: Any = self.account
        self.account_object = AccountObject(access, core_account, self.state)
        self.permissions = PermissionsObject(access, self.state, self.claims, "?")
        self.store_object = StoreObject(
            access,
            self.state,
            core_account,
            self.memory,
            self.blocklist,  # type: ignore[arg-type]
            self._refresh,
        )
        self.manager = ManagerObject(
            access,
            reconciler=self.reconciler,  # type: ignore[arg-type]
            discovery=self.discovery,
            blocklist=self.blocklist,  # type: ignore[arg-type]
            roll=self.roll,  # type: ignore[arg-type]
            state=self.state,
            account=self.account_object,
            permissions=self.permissions,
            starts=self.starts,
            hosts=self.hosts,
            config_file=ConfigFile(Config(), lambda _: None),
        )
        self.objects: list[Interface] = [self.manager, self.account_object, self.permissions, self.store_object]
        bus.export(names.MANAGER_PATH, *self.objects)

    async def _users(self, mesh: str) -> set[int]:
        return set()

    async def _tell_forget(self, user: int) -> tuple[str, ...]:
        self.forgotten.append(user)
        return ()

    async def _tell(self, announcement: Announcement) -> None:
        self.told.append(announcement)

    async def _refresh(self) -> None:
        await self.state.refresh()

    async def _read(self) -> Listing:
        return Listing((FILM,))

    async def ask(self, member: str, signature: str = "", *args: Any) -> list[Any]:
        """Call a method of the interface that has it."""
        (interface,) = [each.interface for each in self.objects if member in each.methods]
        return await self._call(interface, member, signature, *args)

    async def refused(self, member: str, signature: str = "", *args: Any) -> RaveError:
        with pytest.raises(RaveError) as e:
            await self.ask(member, signature, *args)
        return e.value

    async def properties(self, interface: str = names.MANAGER_INTERFACE) -> dict[str, Any]:
        (values,) = await self._call("org.freedesktop.DBus.Properties", "GetAll", "s", interface)
        return dict(values)

    async def _call(self, interface: str, member: str, signature: str, *args: Any) -> list[Any]:
        path = names.MANAGER_PATH
        return await self.client.call(self.bus.unique_name, path, interface, member, signature, *args)

    async def said(self) -> list[tuple[Any, ...]]:
        await settle(self.bus, self.client)
        heard, self.heard[:] = [(signal.member, *signal.body) for signal in self.heard], []
        return heard


@contextlib.asynccontextmanager
async def site_on(address: str) -> AsyncIterator[Site]:
    async with connected(address, 2) as (bus, client):
        site = Site(bus, client)
        await client.match(f"type='signal',sender='{bus.unique_name}'", site.heard.append)
        await site.state.start()
        await asyncio.sleep(0)  # what is told at the start is told
        try:
            yield site
        finally:
            site.store.failure = None
            await site.state.close()


@contextlib.contextmanager
def in_memory(text: str) -> Iterator[int]:
    """The descriptor of a file with this text, whose owner is at its end."""
    file = os.memfd_create("dump")
    try:
        os.write(file, text.encode())
        yield file
    finally:
        os.close(file)
