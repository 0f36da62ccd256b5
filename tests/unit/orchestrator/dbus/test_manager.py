from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ravesvc import names
from ravesvc.api.models import Listing, Mesh
from ravesvc.blocklist.model import Block, MeshMemory, Reason
from ravesvc.bus import Bus, SignalMessage
from ravesvc.bus.message import Message
from ravesvc.config.worker_settings import Edition
from ravesvc.core.account import OfferResult
from ravesvc.core.admin_claims import Claims
from ravesvc.core.health import Stats
from ravesvc.core.host_record import HostRecord
from ravesvc.core.inventory import Discovery
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.plan import Action, Decision
from ravesvc.core.presence_check import PresenceCheck
from ravesvc.core.rolling_restart import RollingRestart
from ravesvc.core.room_memory import RoomMemory
from ravesvc.core.run_state import RunPhase, RunState
from ravesvc.core.start_policy import StartPolicy
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement, PolkitAction
from ravesvc.orchestrator.dbus import manager as manager_module
from ravesvc.orchestrator.dbus.manager import ManagerObject
from ravesvc.store import export
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.chat_change import ChatUser
from ravesvc.store.credentials_file import to_object
from ravesvc.store.model import Admin, CommandPermission, Contents, Credentials, Host
from ravesvc.version import __version__
from tests.unit.bus_fakes import connected, open_fds
from tests.unit.conftest import until
from tests.unit.fake_authority import FakeAuthority
from tests.unit.fake_store import DOWN, FakeCopy, FakeRecord, FakeStore, admin, credentials, permission
from tests.unit.fake_systemd import MESH, OTHER, settle

Run = Callable[[Any], Any]

FILM = Mesh(MESH, "server.example:443", "A film", True, ())
ANN, BOB = 101, 102
WHEN = datetime(2024, 1, 8, 10, 0, 0, 123000, tzinfo=UTC)
WHEN_US = 1_704_708_000_123_000


class FakeHealth:
    """Health as the manager sees it: everybody has been silent for so many seconds."""

    seconds = 1.5

    def stats(self) -> Stats:
        return Stats(total=21, healthy=15, unhealthy=1, connected=11, disconnected=4, stopped=5)

    def silence(self, mesh: str) -> float:
        return self.seconds


class FakeFleet:
    """The fleet as the manager sees it; `decisions` is its plan."""

    def __init__(self) -> None:
        self.records: dict[str, MeshState] = {}
        self.decisions: tuple[Decision, ...] = ()
        self.asked: list[tuple[Any, ...]] = []
        self.health = FakeHealth()

    @property
    def states(self) -> list[str]:
        return [record.state for record in self.records.values()]

    def find(self, mesh: str) -> MeshState | None:
        return self.records.get(mesh)

    def plan(self) -> tuple[Decision, ...]:
        return self.decisions

    def reconcile(self) -> None:
        self.asked.append(("reconcile",))

    async def start_mesh(self, mesh: str, actor: str) -> None:
        self.asked.append(("start", mesh, actor))
        if mesh == OTHER:
            raise RaveError(Code.BLOCKED, "the bot was kicked")

    async def stop_mesh(self, mesh: str, actor: str) -> None:
        self.asked.append(("stop", mesh, actor))

    async def restart_mesh(self, mesh: str) -> None:
        self.asked.append(("restart", mesh))
        if mesh == OTHER:
            raise RaveError(Code.NOT_RUNNING, "it does not run")

    async def set_debug(self, mesh: str, debug: bool) -> None:
        self.asked.append(("debug", mesh, debug))

    async def users(self, mesh: str) -> tuple[list[tuple[int, str]], int]:
        return [(ANN, "Ann"), (BOB, "Bob")], 300


class FakeBlocks:
    """The blocklist as the manager sees it: times in milliseconds, an hour ahead of the clock on the wall."""

    def __init__(self) -> None:
        self.memories: dict[str, MeshMemory] = {}
        self.announced: dict[str, Block] = {}
        self.error: RaveError | None = None
        self.save_error: RaveError | None = None

    def memory(self, mesh: str) -> MeshMemory:
        return self.memories.get(mesh, MeshMemory())

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
        self.fleet = FakeFleet()
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
        self.blocks = FakeBlocks()
        self.roll = FakeRoll()
        self.authority = FakeAuthority()
        self.rights = self.authority.rights
        self.heard: list[SignalMessage] = []
        self.claims = Claims("")
        self.forgotten: list[int] = []
        self.memory = RoomMemory(
            self.state, 3600, in_use=lambda: None, tell_forget=self._tell_forget, presence=PresenceCheck(self._users)
        )
        self.starts = StartPolicy("api.test", 0)
        self.hosts = HostRecord(self.store, Host(id="1", name="here"), lambda: None)
        self.manager = ManagerObject(
            self.authority,  # type: ignore[arg-type]
            fleet=self.fleet,  # type: ignore[arg-type]
            discovery=self.discovery,
            blocks=self.blocks,  # type: ignore[arg-type]
            roll=self.roll,  # type: ignore[arg-type]
            state=self.state,
            account=self.account,  # type: ignore[arg-type]
            claims=self.claims,
            memory=self.memory,
            starts=self.starts,
            hosts=self.hosts,
            prefix="?",
            refresh=self._refresh,
        )
        bus.export(names.MANAGER_PATH, self.manager)

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
        return await self._call(names.MANAGER_INTERFACE, member, signature, *args)

    async def refused(self, member: str, signature: str = "", *args: Any) -> RaveError:
        with pytest.raises(RaveError) as e:
            await self.ask(member, signature, *args)
        return e.value

    async def properties(self) -> dict[str, Any]:
        (values,) = await self._call("org.freedesktop.DBus.Properties", "GetAll", "s", names.MANAGER_INTERFACE)
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


# Meshes.


def test_the_meshes(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.fleet.records = {OTHER: MeshState(OTHER), MESH: MeshState(MESH, listed=FILM)}
            assert await site.ask("ListMeshes") == [
                [
                    [MESH, "A film", "stopped", names.mesh_path(MESH)],
                    [OTHER, "", "stopped", names.mesh_path(OTHER)],
                ]
            ]
            site.fleet.records[MESH].worker.since = 2.5
            assert await site.ask("DescribeMeshes") == [
                [
                    [MESH, "A film", "stopped", "", 2_500_000, len(FILM.users), 0, False],
                    [OTHER, "", "stopped", "", 0, 0, 0, False],
                ]
            ]
            assert await site.ask("GetMesh", "s", MESH) == [names.mesh_path(MESH)]
            await site.ask("StartMesh", "s", MESH)
            await site.ask("StopMesh", "s", OTHER)
            await site.ask("RestartMesh", "s", MESH)
            await site.ask("SetDebug", "sb", MESH, True)
            asked = [("start", MESH, "ann"), ("stop", OTHER, "ann"), ("restart", MESH), ("debug", MESH, True)]
            assert site.fleet.asked == asked
            assert not site.discovery._asked.is_set()
            site.discovery.round = 6
            assert await site.ask("Discover") == [7]
            assert site.discovery._asked.is_set()
            read, operate = PolkitAction.READ, PolkitAction.OPERATE
            assert site.rights == [
                ("ListMeshes", read),
                ("DescribeMeshes", read),
                ("GetMesh", read),
                ("StartMesh", operate),
                ("StopMesh", operate),
                ("RestartMesh", operate),
                ("SetDebug", operate),
                ("Discover", operate),
            ]

    run(body())


@pytest.mark.parametrize(
    ("member", "mesh", "code"),
    [
        ("GetMesh", MESH, Code.NO_SUCH_MESH),
        ("GetMesh", "x", Code.INVALID_ARGUMENT),
        ("GetMesh", MESH.upper(), Code.INVALID_ARGUMENT),
        ("StartMesh", "", Code.INVALID_ARGUMENT),
        ("StartMesh", OTHER, Code.BLOCKED),
        ("StopMesh", f"{MESH}.service", Code.INVALID_ARGUMENT),
        ("RestartMesh", MESH[:-1], Code.INVALID_ARGUMENT),
        ("RestartMesh", OTHER, Code.NOT_RUNNING),
        ("Explain", MESH, Code.NO_SUCH_MESH),
        ("Explain", "x", Code.INVALID_ARGUMENT),
    ],
)
def test_what_is_refused_about_meshes(run: Run, bus_address: str, member: str, mesh: str, code: Code) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            error = await site.refused(member, "s", mesh)
            assert error.code is code
            assert error.attributes["error_name"] == f"org.ravesvc.Rave1.Error.{code}"

    run(body())


# Why it is as it is.


def test_the_plan_is_told_with_its_reasons(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            assert await site.ask("Plan") == [[]]
            site.fleet.decisions = (
                Decision(MESH, Action.START, "discovery lists it"),
                Decision(OTHER, Action.SKIP, "it could not be reached: no route\nto host" + "x" * 1000),
            )
            long = "it could not be reached: no route?to host"
            assert await site.ask("Plan") == [
                [[MESH, "start", "discovery lists it"], [OTHER, "skip", long + "x" * (500 - len(long))]]
            ]
            assert site.rights == [("Plan", PolkitAction.READ)] * 2
            assert site.fleet.asked == [], "nothing is done"

    run(body())


@pytest.fixture
def _utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_utc")
def test_one_answer_explains_a_mesh_that_is_blocked(run: Run, bus_address: str) -> None:
    block = Block(
        mesh=MESH,
        reason=Reason.CONNECTION_FAILURES,
        since=1_700_003_600_000,
        until=1_700_007_200_000,
        detail="no route to host",
        count=2,
    )

    async def body() -> None:
        async with site_on(bus_address) as site:
            site.discovery.last_good = 1_699_999_000.0
            site.discovery.error = RaveError(Code.NETWORK, "no route", hint="wait")
            site.blocks.memories[MESH] = MeshMemory(blocks=2, failures=1, last_error="no route to host")
            site.fleet.decisions = (
                Decision(OTHER, Action.KEEP, "it runs"),
                Decision(MESH, Action.SKIP, "it could not be reached: no route to host"),
            )
            film = Mesh(MESH, "server.example:443", "A\nfilm", True, ())
            site.fleet.records = {OTHER: MeshState(OTHER), MESH: MeshState(MESH, listed=film, block=block)}
            lines, details = await site.ask("Explain", "s", MESH)
            assert lines == [
                f"Mesh {MESH} (A?film) is blocked: it could not be reached: no route to host.",
                "Discovery lists it as an invitation, last read on 2023-11-14 at 21:56.",
                "Discovery fails now, so what was known goes on: no route.",
                "It was put on the blocklist on 2023-11-14 at 22:13, by service: it could not be reached: "
                "no route to host, 2 times in a row.",
                "1 failed attempt since a connection last held: no route to host.",
                "Its unit is inactive (dead).",
                "Next: it is tried again on 2023-11-14 at 23:13.",
            ]
            told = {name: details[name] for name in ("State", "Action", "Blocks", "Attempts", "Outdated")}
            assert told == {"State": "blocked", "Action": "skip", "Blocks": 2, "Attempts": 1, "Outdated": False}
            assert details["BlockSinceTimestamp"] == 1_700_000_000_000_000
            assert details["NextRetryTimestamp"] == 1_700_003_600_000_000
            assert details["LastDiscoveryTimestamp"] == 1_699_999_000_000_000
            assert details["SilenceUSec"] == 1_500_000
            assert site.rights == [("Explain", PolkitAction.READ)]

    run(body())


@pytest.mark.parametrize("blocked", [True, False])
def test_a_mesh_may_be_in_no_plan_and_a_block_without_an_end(run: Run, bus_address: str, blocked: bool) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            record = site.fleet.records[MESH] = MeshState(MESH)
            if blocked:
                record.block = Block(mesh=MESH, reason=Reason.KICKED, since=3_600_001, until=None)
            site.roll.old = [MESH]
            _, details = await site.ask("Explain", "s", MESH)
            assert (details["Action"], details["NextRetryTimestamp"], details["Outdated"]) == ("", 0, True)
            assert details["BlockSinceTimestamp"] == (1000 if blocked else 0)

    run(body())


def test_the_health_of_all(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            assert await site.ask("GetHealthStats") == [21, 15, 1, 11, 4, 5]
            assert site.rights == [("GetHealthStats", PolkitAction.READ)]
            assert list(ManagerObject.methods["GetHealthStats"].returns) == list(Stats._fields)

    run(body())


# A roll.


def test_a_roll_is_begun_and_cancelled(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.roll.old = [MESH, OTHER]
            assert await site.ask("Roll") == [2]
            assert (await site.refused("Roll")).code is Code.BUSY
            assert await site.ask("CancelRoll") == []
            assert site.roll.asked == ["start", "start", "cancel"]
            assert site.rights == [(member, PolkitAction.OPERATE) for member in ("Roll", "Roll", "CancelRoll")]

    run(body())


def test_a_roll_is_followed_by_signals(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.manager.roll_progress(0, 1, MESH)
            site.manager.roll_progress(1, 1, "")
            site.manager.roll_finished(None)
            site.manager.roll_finished(RaveError(Code.NOT_RUNNING, "it is not connected again", hint="look"))
            assert await site.said() == [
                ("RollProgress", 0, 1, MESH),
                ("RollProgress", 1, 1, ""),
                ("RollFinished", "", ""),
                ("RollFinished", "NotRunning", "it is not connected again (look)"),
            ]

    run(body())


@pytest.mark.parametrize("cancelled", [True, False])
def test_the_answer_to_a_roll_comes_before_all_that_is_told_of_it(
    run: Run, bus_address: str, *, cancelled: bool
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            roll = RollingRestart(site.fleet, Edition("1", ""))  # type: ignore[arg-type]
            roll.progress.connect(lambda at: site.manager.roll_progress(at.done, at.total, at.mesh))
            roll.ended.connect(site.manager.roll_finished)
            site.manager._roll = roll
            sent: list[str] = []
            send = site.bus._send

            def note(message: Message) -> None:
                sent.append(message.member or message.kind.name)
                if cancelled:
                    roll.cancel()
                send(message)

            site.bus._send = note  # type: ignore[method-assign]
            assert await site.ask("Roll") == [0]
            await until(lambda: "RollFinished" in sent)
            assert [each for each in sent if each != "PropertiesChanged"] == [
                "RETURN",
                *([] if cancelled else ["RollProgress"]),
                "RollFinished",
            ]

    run(body())


# A round.


@pytest.mark.parametrize("code", [Code.CONFIG, Code.LOGIN_NEEDED, Code.STORE, Code.BAD_FILE])
def test_a_round_that_can_not_begin_is_refused_with_what_is_in_the_way(
    run: Run, bus_address: str, code: Code
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.discovery.hold(RaveError(code, "that is in the way", hint="mend it"))
            error = await site.refused("Discover")
            assert error.code is code
            assert "that is in the way (mend it)" in str(error)
            assert not site.discovery._asked.is_set()
            site.discovery.release()
            assert await site.ask("Discover") == [1]

    run(body())


# Losses that are true.


def test_losses_are_confirmed_and_carried_out_at_once(
    run: Run, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            other = Mesh(OTHER, None, "", True, ())
            site.discovery.census.observe([FILM, other])
            site.discovery.census.observe([])
            assert site.discovery.census.held_back == 2
            assert await site.ask("ConfirmLosses") == [2]
            assert site.discovery.census.meshes == {}
            assert site.fleet.asked == [("reconcile",)]
            assert await site.ask("ConfirmLosses") == [0]
            assert site.rights == [("ConfirmLosses", PolkitAction.OPERATE)] * 2

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("manager")]
    assert said[0] == "An operator confirms the loss of 2 meshes"


# What can be read.


UNSET = {
    "Version": __version__,
    "Status": "",
    "Meshes": 0,
    "Connected": 0,
    "Unhealthy": 0,
    "Outdated": 0,
    "DiscoveryError": "",
    "LastDiscoveryTimestamp": 0,
    "StaleSinceTimestamp": 0,
    "HeldBack": 0,
    "Store": "embedded",
    "StoreError": "",
    "HasAccount": False,
    "LoginNeeded": False,
    "IdentityMissing": [],
    "LoginStep": "",
    "Admins": 0,
    "Permissions": 0,
    "UnshownMessages": 0,
    "CommandErrors": [],
}


def test_the_properties_and_the_end_of_a_round(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            assert await site.properties() == UNSET
            site.manager.discovery_finished()
            assert await site.said() == [("DiscoveryFinished", 0, 0, "")]
            site.discovery.round = 7
            await site.discovery._one_round()
            worker = WorkerState(connected=True, command_errors=("b.py: it fails", "a.py: it fails"))
            connected = MeshState(MESH, run=RunState(phase=RunPhase.RUNNING), worker=worker)
            other = MeshState(OTHER, worker=WorkerState(command_errors=("a.py: it fails",)))
            site.fleet.records = {MESH: connected, OTHER: other}
            site.manager.show("2 meshes", login_needed=False)
            site.manager.discovery_finished()
            at = int(site.discovery.last_good * 1_000_000)
            changed = {"Status": "2 meshes", "Meshes": 2, "Connected": 1, "LastDiscoveryTimestamp": at}
            changed["CommandErrors"] = ["a.py: it fails", "b.py: it fails"]
            assert await site.said() == [
                ("PropertiesChanged", names.MANAGER_INTERFACE, changed, []),
                ("DiscoveryFinished", 7, 1, ""),
            ]
            site.discovery.error = RaveError(Code.NETWORK, "no route", hint="wait")
            site.discovery._known_until = 1.5
            site.discovery.census.held_back = 3
            site.manager.show("2 meshes", login_needed=False)
            await asyncio.sleep(0)
            site.manager.discovery_finished()
            changed = {"DiscoveryError": "no route (wait)", "StaleSinceTimestamp": 1_500_000, "HeldBack": 3}
            assert await site.said() == [
                ("PropertiesChanged", names.MANAGER_INTERFACE, changed, []),
                ("DiscoveryFinished", 7, 1, "no route (wait)"),
            ]

    run(body())


def test_how_many_are_not_well_or_old_are_properties_too(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            hung = MeshState(MESH, run=RunState(phase=RunPhase.RUNNING), worker=WorkerState(healthy=False))
            site.fleet.records = {MESH: hung, OTHER: MeshState(OTHER)}
            site.roll.old = [MESH, OTHER]
            site.manager.show("2 meshes", login_needed=False)
            assert await site.properties() == UNSET | {
                "Status": "2 meshes",
                "Meshes": 2,
                "Unhealthy": 1,
                "Outdated": 2,
            }

    run(body())


def test_store_and_login_are_properties_too(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(
                credentials=credentials(), admins=(admin(ANN), admin(BOB)), permissions=(permission("ping"),)
            )
            await site.state.refresh()
            site.store.failure = DOWN
            with contextlib.suppress(RaveError):
                await site.state.refresh()
            site.account.step = "waiting"
            site.manager.show("no mesh", login_needed=True)
            assert await site.properties() == UNSET | {
                "Status": "no mesh",
                "StoreError": str(DOWN),
                "HasAccount": True,
                "LoginNeeded": True,
                "LoginStep": "waiting",
                "Admins": 2,
                "Permissions": 1,
            }

    run(body())


def test_credentials_that_make_no_sense_are_an_account_all_the_same(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(unusable="email must be a text")
            await site.state.refresh()
            site.manager.show("no mesh", login_needed=True)
            assert (await site.properties())["HasAccount"] is True

    run(body())


def test_a_refused_identity_is_an_obstacle(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            for code, obstacle in [
                (Code.IDENTITY, "refused (check it)"),
                (Code.CLOCK, "refused (check it)"),
                (Code.NETWORK, ""),
            ]:
                site.discovery.error = RaveError(code, "refused", hint="check it")
                (status,) = await site.ask("GetStatus")
                assert status["Obstacle"] == obstacle

    run(body())


def test_the_status_is_every_property_and_a_count_of_states(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            counts: dict[str, Any] = {"States": {}, "Blocks": {}, "Outages": [], "Pauses": []}
            assert await site.ask("GetStatus") == [{**UNSET, **counts, "BlocklistError": "", "Obstacle": ""}]
            connected = MeshState(MESH, run=RunState(phase=RunPhase.RUNNING), worker=WorkerState(connected=True))
            site.fleet.records = {MESH: connected, OTHER: MeshState(OTHER), "x": MeshState("x")}
            (status,) = await site.ask("GetStatus")
            assert status["States"] == {"connected": 1, "stopped": 2}
            assert site.rights == [("GetStatus", PolkitAction.READ)] * 2

    run(body())


# The login.


def test_a_login_is_begun_and_given_up(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            assert await site.ask("Login", "s", "bot@example.test") == [600]
            assert await site.ask("CancelLogin") == []
            assert site.account.asked == ["bot@example.test", "cancel"]
            assert site.rights == [(member, PolkitAction.CREDENTIALS) for member in ("Login", "CancelLogin")]

    run(body())


def test_the_account_is_logged_out(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            assert await site.ask("Logout") == [True]
            assert await site.ask("Logout") == [False]
            assert site.rights == [("Logout", PolkitAction.CREDENTIALS)] * 2

    run(body())


def test_a_login_is_followed_by_signals(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.manager.login_progress("waiting", 599.6)
            site.manager.login_progress("signing-in", -0.7)
            site.manager.login_finished(None)
            site.manager.login_finished(RaveError(Code.NOT_CONFIRMED, "too late", hint="try again"))
            assert await site.said() == [
                ("LoginProgress", "waiting", 600),
                ("LoginProgress", "signing-in", 0),
                ("LoginFinished", "", ""),
                ("LoginFinished", "NotConfirmed", "too late (try again)"),
            ]

    run(body())


# The store.


def test_ignored_users(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(Admin(user_id=ANN, added_by=ANN, added_at=WHEN),))
            await site.state.refresh()
            site.told.clear()
            assert await site.ask("ListIgnoredUsers") == [[]]
            assert await site.ask("IgnoreUser", "t", BOB) == [True]
            assert await site.ask("IgnoreUser", "t", BOB) == [False]
            ((shown,),) = await site.ask("ListIgnoredUsers")
            assert shown[:2] == [BOB, 0]
            assert (await site.refused("IgnoreUser", "t", ANN)).code is Code.INVALID_ARGUMENT
            assert (await site.refused("IgnoreUser", "t", 0)).code is Code.INVALID_ARGUMENT
            assert await site.ask("UnignoreUser", "t", BOB) == [True]
            assert await site.ask("UnignoreUser", "t", BOB) == [False]
            assert site.told == [Announcement.IGNORED] * 2

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("manager")]
    assert said == [f"An operator has had user {BOB} ignored", f"An operator has user {BOB} no longer ignored"]


def test_an_operator_undoes_what_was_changed_from_a_room(
    run: Run, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(Admin(user_id=ANN, added_by=ANN, added_at=WHEN),))
            await site.state.refresh()
            assert await site.ask("ListChatChanges") == [[]]
            await site.state.add_admin(BOB, ANN, actor=ChatUser(ANN, MESH))
            await site.state.set_permission("ping", True, "", ANN, actor=ChatUser(ANN, MESH))
            site.told.clear()
            ((first, second),) = await site.ask("ListChatChanges")
            assert first[0] == 1
            assert abs(first[1] / 1_000_000 - time.time()) < 60
            assert first[2:] == [MESH, ANN, f"made user {BOB} an admin", False]
            assert await site.ask("UndoChatChange", "t", 1) == [True]
            assert await site.ask("UndoChatChange", "t", 1) == [False]
            assert site.state.admins == {ANN}
            assert site.told == [Announcement.ADMINS], "bots know at once"
            assert [each[5] for each in (await site.ask("ListChatChanges"))[0]] == [True, False]
            await site.ask("SetPermission", "sb", "ping", False)
            assert (await site.refused("UndoChatChange", "t", second[0])).code is Code.CONFLICT
            assert (await site.refused("UndoChatChange", "t", 3)).code is Code.INVALID_ARGUMENT

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("manager")]
    assert said[0] == "An operator has undone change 1, which was made from a room"


def test_an_operator_has_a_user_forgotten(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(Admin(user_id=ANN, added_by=BOB, added_at=WHEN),))
            await site.state.refresh()
            await site.memory.write_document("mesh", "queue", f'{{"served":[{BOB},{ANN}]}}')
            assert await site.ask("ForgetUser", "t", BOB) == [2]
            assert site.forgotten == [BOB]
            assert await site.memory.read_document("mesh", "queue") == f'{{"served":[{ANN}]}}'
            assert (await site.refused("ForgetUser", "t", ANN)).code is Code.INVALID_ARGUMENT
            assert (await site.refused("ForgetUser", "t", 0)).code is Code.INVALID_ARGUMENT

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("manager")]
    assert said == ["An operator has had a user forgotten"]


def test_admins(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.told.clear()
            former = Admin(user_id=100, added_by=0, added_at=WHEN, active=False)
            site.store.contents = Contents(admins=(former, Admin(user_id=ANN, added_by=ANN, added_at=WHEN)))
            await site.state.refresh()
            assert await site.ask("ListAdmins") == [[[ANN, ANN, WHEN_US]]]
            assert await site.ask("AddAdmin", "t", BOB) == [True]
            assert await site.ask("AddAdmin", "t", BOB) == [False]
            assert site.told == [Announcement.ADMINS] * 2
            (added,) = [each for each in site.store.contents.admins if each.user_id == BOB]
            assert added.added_by == BOB, "nobody else has"
            assert await site.ask("RemoveAdmin", "t", ANN) == [True]
            assert await site.ask("RemoveAdmin", "t", ANN) == [False]
            assert (await site.refused("RemoveAdmin", "t", BOB)).code is Code.LAST_ADMIN
            assert (await site.refused("AddAdmin", "t", 0)).code is Code.INVALID_ARGUMENT
            assert (await site.refused("RemoveAdmin", "t", 0)).code is Code.INVALID_ARGUMENT
            ((shown,),) = await site.ask("ListAdmins")
            assert shown[:2] == [BOB, BOB]
            assert set(site.rights) == {
                ("ListAdmins", PolkitAction.READ),
                ("AddAdmin", PolkitAction.ADMINS),
                ("RemoveAdmin", PolkitAction.ADMINS),
            }

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("manager")]
    assert said == [f"An operator has made user {BOB} an admin", f"An operator has removed the admin {ANN}"]


def test_permissions(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(
                permissions=(
                    CommandPermission(
                        command="ping", requires_admin=True, description="Pongs.\0", updated_at=WHEN, updated_by=ANN
                    ),
                )
            )
            await site.state.refresh()
            assert await site.ask("ListPermissions") == [[["ping", True, "Pongs.?", WHEN_US]]]
            assert await site.ask("SetPermission", "sb", "Ping", False) == []
            assert await site.ask("SetPermission", "sb", "dance", True) == []
            (shown,) = await site.ask("ListPermissions")
            assert [each[:3] for each in shown] == [["dance", True, "Command: dance"], ["ping", False, "Pongs.?"]]
            assert all(each[3] > WHEN_US for each in shown)
            assert {each.updated_by for each in site.store.contents.permissions} == {0}
            assert await site.ask("RemovePermission", "s", "PING") == [True]
            assert await site.ask("RemovePermission", "s", "ping") == [False]
            for member, signature, args in ("SetPermission", "sb", (True,)), ("RemovePermission", "s", ()):
                for command in ("admin", "two words", ""):
                    error = await site.refused(member, signature, command, *args)
                    assert error.code is Code.INVALID_ARGUMENT
            assert set(site.rights) == {
                ("ListPermissions", PolkitAction.READ),
                ("SetPermission", PolkitAction.ADMINS),
                ("RemovePermission", PolkitAction.ADMINS),
            }

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("manager")]
    assert said == [
        "An operator has set the command ping to be for everybody",
        "An operator has set the command dance to be for admins only",
        "An operator has undone what was set for the command ping",
    ]


def test_refresh_counts(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(admin(ANN),), permissions=(permission("a"), permission("b")))
            assert await site.ask("Refresh") == [1, 2]
            assert site.rights == [("Refresh", PolkitAction.OPERATE)]

    run(body())


def test_all_that_the_store_holds_can_be_moved(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    contents = Contents(
        credentials=credentials(),
        admins=(
            Admin(user_id=ANN, added_by=0, added_at=WHEN),
            Admin(user_id=BOB, added_by=0, added_at=WHEN, active=False),
        ),
        permissions=(permission("ping"),),
    )

    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = contents
            (text,) = await site.ask("ExportStore")
            assert export.from_json(text).contents == contents, "read anew"
            site.store.contents = Contents()
            await site.state.refresh()
            site.told.clear()
            with in_memory(text) as file:
                assert await site.ask("ImportStore", "h", file) == [1, 1]
            assert site.store.contents == contents
            assert sorted(site.told) == [Announcement.ADMINS, Announcement.CREDENTIALS, Announcement.PERMISSIONS]
            with in_memory("{}") as file:
                assert (await site.refused("ImportStore", "h", file)).code is Code.BAD_DATA
            assert site.store.contents == contents
            assert set(site.rights) == {(m, PolkitAction.CREDENTIALS) for m in ("ExportStore", "ImportStore")}

    with caplog.at_level(logging.DEBUG):
        run(body())
    assert "bot@example.test" not in caplog.text
    assert credentials().auth_token not in caplog.text


def test_what_rooms_remember_can_be_moved(run: Run, bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            for name in ("queue", "settings"):
                await site.memory.write_document(MESH, name, f'["{name}"]')
            kept = dict(site.store.documents)
            (text,) = await site.ask("ExportStore")
            with in_memory("x" * 100_000) as file:
                assert await site.ask("SaveStore", "h", file) == []
                assert os.pread(file, 100_000, 0).decode() == text
                await site.memory.write_document(OTHER, "queue", "[]")
                await site.memory.write_document(MESH, "queue", "[]")
                await site.ask("ImportStore", "h", file)
            assert site.store.documents == kept
            with in_memory(export.to_json(Contents())) as file:
                await site.ask("ImportStore", "h", file)
            assert site.store.documents == kept, "that file says nothing of them"
            monkeypatch.setattr(manager_module, "_MAX_MESSAGE", 20)
            error = await site.refused("ExportStore")
            assert error.code is Code.TOO_LARGE
            before = open_fds()
            reading, writing = os.pipe()
            assert (await site.refused("SaveStore", "h", writing)).code is Code.INVALID_ARGUMENT
            os.close(reading)
            os.close(writing)
            await until(lambda: open_fds() == before)

    run(body())


def test_an_account_is_offered_as_a_file(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            before = open_fds()
            document = {**to_object(credentials()), "authToken": "r: auth-token-of-bot", "parseToken": "r:parse"}
            with in_memory(json.dumps(document)) as file:
                assert await site.ask("ImportCredentials", "h", file) == ["taken"]
            assert site.account.offered == credentials(parse_token="parse"), "tokens have no prefix"
            reading, writing = os.pipe()
            with in_memory('{"email": "bot@example.test"}') as bad, in_memory("") as long:
                os.truncate(long, 64 * 1024 + 1)
                for file, code, words in (
                    (bad, Code.BAD_DATA, "deviceId must be a text"),
                    (long, Code.INVALID_ARGUMENT, "the file is too long"),
                    (reading, Code.INVALID_ARGUMENT, "the file is not in a regular file"),
                ):
                    error = await site.refused("ImportCredentials", "h", file)
                    assert (error.code, words in error.message) == (code, True), error
            os.close(reading)
            os.close(writing)
            await until(lambda: open_fds() == before)
            assert set(site.rights) == {("ImportCredentials", PolkitAction.CREDENTIALS)}

    with caplog.at_level(logging.DEBUG):
        run(body())
    assert "auth-token-of-bot" not in caplog.text
    assert "bot@example.test" not in caplog.text


@contextlib.contextmanager
def in_memory(text: str) -> Iterator[int]:
    """The descriptor of a file with this text, whose owner is at its end."""
    file = os.memfd_create("dump")
    try:
        os.write(file, text.encode())
        yield file
    finally:
        os.close(file)


def test_credentials_that_make_no_sense_are_not_silently_left_out(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(unusable="email must be a text", admins=(admin(ANN),))
            error = await site.refused("ExportStore")
            assert error.code is Code.BAD_DATA
            assert "not all of the store can be exported: email must be a text (mend it, or log in" in error.message

    run(body())


def test_a_store_may_be_longer_than_a_message(run: Run, bus_address: str) -> None:
    contents = Contents(admins=tuple(admin(user) for user in range(1, 2001)))

    async def body() -> None:
        async with site_on(bus_address) as site:
            with in_memory(export.to_json(contents)) as file:
                assert os.fstat(file).st_size > 3 * 64 * 1024
                assert await site.ask("ImportStore", "h", file) == [2000, 0]
            assert site.store.contents == contents

    run(body())


def test_nothing_but_a_file_is_imported_and_none_stays_open(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(admin(ANN),))
            await site.state.refresh()
            before = open_fds()
            reading, writing = os.pipe()
            directory = os.open(tmp_path, os.O_RDONLY)
            with in_memory("") as long:
                os.truncate(long, export.MAX_FILE_BYTES + 1)
                for file, words in (
                    (reading, "not in a regular file"),
                    (directory, "not in a regular file"),
                    (long, "too long"),
                ):
                    error = await site.refused("ImportStore", "h", file)
                    assert (error.code, words in error.message) == (Code.INVALID_ARGUMENT, True), error
            with in_memory(export.to_json(Contents())) as file:
                site.store.failure = DOWN
                assert (await site.refused("ImportStore", "h", file)).code is Code.STORE
            for file in (reading, writing, directory):
                os.close(file)
            await until(lambda: open_fds() == before)
            assert [each.user_id for each in site.store.contents.admins] == [ANN]

    run(body())


def test_the_others_are_served_while_a_file_is_read(
    run: Run, bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def read(descriptor: int) -> export.Dump:
        assert go_on.wait(20)
        return export.Dump(contents=Contents(permissions=(permission("ping"),)))

    monkeypatch.setattr(export, "read", read)

    async def body() -> None:
        async with site_on(bus_address) as site:
            with in_memory("") as file:
                asked = asyncio.create_task(site.ask("ImportStore", "h", file))
                await until(lambda: site.rights)
                await site.ask("GetStatus")
                assert not asked.done()
                go_on.set()
                assert await asked == [0, 1]

    run(body())


def test_while_the_store_is_away_lists_are_from_the_last_copy(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(admin(ANN),), permissions=(permission("ping"),))
            await site.state.refresh()
            site.store.failure = DOWN
            for member, signature, args in (
                ("Refresh", "", ()),
                ("ExportStore", "", ()),
                ("AddAdmin", "t", (BOB,)),
                ("RemoveAdmin", "t", (ANN,)),
                ("SetPermission", "sb", ("ping", False)),
                ("RemovePermission", "s", ("ping",)),
            ):
                assert (await site.refused(member, signature, *args)).code is Code.STORE, member
            assert [each[0] for each in (await site.ask("ListAdmins"))[0]] == [ANN]
            assert [each[0] for each in (await site.ask("ListPermissions"))[0]] == ["ping"]

    run(body())


def test_while_nothing_is_known_nothing_is_made_up(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with connected(bus_address, 2) as (bus, client):
            site = Site(bus, client)
            for member, signature, args in (
                ("ListAdmins", "", ()),
                ("ListPermissions", "", ()),
                ("SetPermission", "sb", ("ping", False)),
            ):
                error = await site.refused(member, signature, *args)
                assert error.code is Code.STORE
                assert "not open yet" in str(error)

    run(body())


def test_users_of_a_mesh_and_which_of_them_are_admins(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.fleet.records[MESH] = MeshState(MESH)
            await site.state.add_admin(ANN, ANN)
            assert await site.ask("ListUsers", "s", MESH) == [[[ANN, "Ann", True], [BOB, "Bob", False]], 300]
            with pytest.raises(RaveError) as e:
                await site.ask("ListUsers", "s", OTHER)
            assert e.value.code is Code.NO_SUCH_MESH

    run(body())


def test_a_code_to_claim_with_is_shown_and_not_logged(
    run: Run, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            command, seconds = await site.ask("IssueClaim")
            assert seconds == 600
            code = command.removeprefix("?claim ")
            with site.claims.redeeming(code):
                assert site.rights == [("IssueClaim", PolkitAction.ADMINS)]
            assert code not in caplog.text
            assert "has got a code" in caplog.text
            site.store.failure = DOWN
            with pytest.raises(RaveError, match="changes can't be saved: ") as e:
                await site.ask("IssueClaim")
            assert e.value.code is Code.STORE
            assert caplog.text.count("has got a code") == 1

    with caplog.at_level(logging.DEBUG):
        run(body())
