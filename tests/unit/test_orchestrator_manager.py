from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ravesvc import __version__, names
from ravesvc.api.models import Mesh
from ravesvc.bus import Bus, Call, Signal
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement, PolkitAction
from ravesvc.orchestrator.discovery import Discovery
from ravesvc.orchestrator.manager import ManagerObject
from ravesvc.orchestrator.record import Record, WorkerState
from ravesvc.orchestrator.state import State
from ravesvc.orchestrator.unit import UnitState
from ravesvc.store import dump
from ravesvc.store.store import Admin, CommandPermission, Contents
from tests.unit.bus_fakes import connected, open_fds
from tests.unit.conftest import until
from tests.unit.fake_store import DOWN, FakeCopy, FakeStore, admin, credentials, permission
from tests.unit.fake_systemd import MESH, OTHER, settle

Run = Callable[[Any], Any]

FILM = Mesh(MESH, "server.example:443", "A film", True, ())
ANN, BOB = 101, 102
WHEN = datetime(2024, 1, 8, 10, 0, 0, 123000, tzinfo=UTC)
WHEN_US = 1_704_708_000_123_000


class FakeFleet:
    """The fleet as the manager sees it."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.asked: list[tuple[str, str]] = []

    def start_mesh(self, mesh: str) -> None:
        self.asked.append(("start", mesh))
        if mesh == OTHER:
            raise RaveError(Code.BLOCKED, "the bot was kicked")

    def stop_mesh(self, mesh: str) -> None:
        self.asked.append(("stop", mesh))


class FakeAccount:
    """The account as the manager sees it."""

    def __init__(self) -> None:
        self.step = ""
        self.asked: list[str] = []
        self.state: State

    async def login(self, email: str) -> int:
        self.asked.append(email)
        return 600

    def cancel(self) -> None:
        self.asked.append("cancel")

    async def replace(self, contents: Contents) -> None:
        await self.state.replace(contents)


class Site:
    def __init__(self, bus: Bus, client: Bus) -> None:
        self.bus = bus
        self.client = client
        self.fleet = FakeFleet()
        self.account = FakeAccount()
        self.store = FakeStore()
        self.told: list[Announcement] = []
        self.state = State(self.store, self._tell, lambda: None, copy=FakeCopy(), retry=0.005)  # type: ignore[arg-type]
        self.account.state = self.state
        self.discovery = Discovery(self._read, 60.0, lambda: None)
        self.rights: list[tuple[str, str | None]] = []
        self.heard: list[Signal] = []
        self.manager = ManagerObject(
            self._authorize,  # type: ignore[arg-type]
            fleet=self.fleet,  # type: ignore[arg-type]
            discovery=self.discovery,
            state=self.state,
            account=self.account,  # type: ignore[arg-type]
            refresh=self._refresh,
        )
        bus.export(names.MANAGER_PATH, self.manager)

    async def _tell(self, announcement: Announcement) -> None:
        self.told.append(announcement)

    async def _refresh(self) -> None:
        await self.state.refresh()

    async def _read(self) -> list[Mesh]:
        return [FILM]

    async def _authorize(self, call: Call, action: str | None) -> None:
        self.rights.append((call.member, action))

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
            site.fleet.records = {OTHER: Record(OTHER), MESH: Record(MESH, listed=FILM)}
            assert await site.ask("ListMeshes") == [
                [
                    [MESH, "A film", "stopped", names.mesh_path(MESH)],
                    [OTHER, "", "stopped", names.mesh_path(OTHER)],
                ]
            ]
            assert await site.ask("GetMesh", "s", MESH) == [names.mesh_path(MESH)]
            await site.ask("StartMesh", "s", MESH)
            await site.ask("StopMesh", "s", OTHER)
            assert site.fleet.asked == [("start", MESH), ("stop", OTHER)]
            assert not site.discovery._asked.is_set()
            await site.ask("Discover")
            assert site.discovery._asked.is_set()
            read, operate = PolkitAction.READ, PolkitAction.OPERATE
            assert site.rights == [
                ("ListMeshes", read),
                ("GetMesh", read),
                ("StartMesh", operate),
                ("StopMesh", operate),
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
    ],
)
def test_what_is_refused_about_meshes(run: Run, bus_address: str, member: str, mesh: str, code: Code) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            error = await site.refused(member, "s", mesh)
            assert error.code is code
            assert error.attributes["error_name"] == f"org.ravesvc.Rave1.Error.{code}"

    run(body())


# What can be read.


UNSET = {
    "Version": __version__,
    "Status": "",
    "Meshes": 0,
    "Connected": 0,
    "DiscoveryError": "",
    "LastDiscoveryTimestamp": 0,
    "HeldBack": 0,
    "Store": "embedded",
    "StoreError": "",
    "HasAccount": False,
    "LoginNeeded": False,
    "LoginStep": "",
    "Admins": 0,
    "Permissions": 0,
}


def test_the_properties_and_the_end_of_a_round(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            assert await site.properties() == UNSET
            site.manager.discovery_finished()
            assert await site.said() == [("DiscoveryFinished", 0, "")]
            await site.discovery._one_round()
            connected = Record(MESH, unit=UnitState(active="active"), worker=WorkerState(connected=True))
            site.fleet.records = {MESH: connected, OTHER: Record(OTHER)}
            site.manager.show("2 meshes", login_needed=False)
            site.manager.discovery_finished()
            at = int(site.discovery.last_good * 1_000_000)
            changed = {"Status": "2 meshes", "Meshes": 2, "Connected": 1, "LastDiscoveryTimestamp": at}
            assert await site.said() == [
                ("PropertiesChanged", names.MANAGER_INTERFACE, changed, []),
                ("DiscoveryFinished", 1, ""),
            ]
            site.discovery.error = RaveError(Code.NETWORK, "no route", hint="wait")
            site.discovery.census.held_back = 3
            site.manager.show("2 meshes", login_needed=False)
            await asyncio.sleep(0)
            site.manager.discovery_finished()
            changed = {"DiscoveryError": "no route (wait)", "HeldBack": 3}
            assert await site.said() == [
                ("PropertiesChanged", names.MANAGER_INTERFACE, changed, []),
                ("DiscoveryFinished", 1, "no route (wait)"),
            ]

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


def test_the_status_is_every_property_and_a_count_of_states(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            assert await site.ask("GetStatus") == [{**UNSET, "States": {}}]
            connected = Record(MESH, unit=UnitState(active="active"), worker=WorkerState(connected=True))
            site.fleet.records = {MESH: connected, OTHER: Record(OTHER), "x": Record("x")}
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
            assert dump.from_json(text) == contents, "read anew"
            site.store.contents = Contents()
            await site.state.refresh()
            site.told.clear()
            with in_memory(text) as file:
                assert await site.ask("ImportStore", "h", file) == [1, 1]
            assert site.store.contents == contents
            assert sorted(site.told) == sorted(Announcement)
            with in_memory("{}") as file:
                assert (await site.refused("ImportStore", "h", file)).code is Code.BAD_DATA
            assert site.store.contents == contents
            assert set(site.rights) == {(m, PolkitAction.CREDENTIALS) for m in ("ExportStore", "ImportStore")}

    with caplog.at_level(logging.DEBUG):
        run(body())
    assert "bot@example.test" not in caplog.text
    assert credentials().auth_token not in caplog.text


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
            with in_memory(dump.to_json(contents)) as file:
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
                os.truncate(long, dump.MOST_BYTES + 1)
                for file, words in (
                    (reading, "not in a regular file"),
                    (directory, "not in a regular file"),
                    (long, "too long"),
                ):
                    error = await site.refused("ImportStore", "h", file)
                    assert (error.code, words in error.message) == (Code.INVALID_ARGUMENT, True), error
            with in_memory(dump.to_json(Contents())) as file:
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

    def read(descriptor: int) -> Contents:
        assert go_on.wait(20)
        return Contents(permissions=(permission("ping"),))

    monkeypatch.setattr(dump, "read", read)

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
