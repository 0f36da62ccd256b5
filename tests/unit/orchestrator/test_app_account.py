"""The whole parent and its account and store: logging in, being refused, outages, and bots that follow."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ravesvc import names
from ravesvc.bot.backend import EntryPoint
from ravesvc.bus import Bus, Call, Interface, allow_all, method
from ravesvc.core import command_packages, inventory
from ravesvc.core import service as core_service
from ravesvc.core.rave_client import RaveClient
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement, ExitStatus
from ravesvc.orchestrator.systemd_runner import SystemdRunner
from ravesvc.orchestrator.worker_client import Workers
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.credentials_file import read_credentials
from ravesvc.store.model import Contents, Store
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until
from tests.unit.fake_store import DAMAGED, DOWN, FakeStore, admin, permission
from tests.unit.fake_systemd import DEAD, MESH, RUNNING, ended, settle
from tests.unit.parent_site import LOGIN_NEEDED, Site, call, get
from tests.unit.simulator_server import in_thread

pytestmark = pytest.mark.usefixtures("as_root")

Run = Callable[[Any], Any]

REFUSED = f"{LOGIN_NEEDED} (Rave refuses the session)"
STORE_AWAY = "the store can't be used, changes are refused"
ANN, BOB = 101, 102


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    """The parent's store is this one, and what went wrong is tried again at once."""
    fake = FakeStore()

    def make(*_: Any) -> Store:
        return fake

    def state(*args: Any, **more: Any) -> CachedStore:
        return CachedStore(*args, **more, retry_s=0.01, start_timeout_s=0.5)

    monkeypatch.setattr(core_service, "make_store", make)
    monkeypatch.setattr(core_service, "CachedStore", state)
    return fake


class BotUnderTest(Interface):
    """A bot that asks again when it is told to; `asked` is what it was told to ask, `known` the last answers."""

    interface = names.WORKER_INTERFACE

    signals: ClassVar = {"CommandErrors": {"errors": "as"}}

    def __init__(self, bus: Bus) -> None:
        super().__init__(allow_all)
        self.bus = bus
        self.asked: list[str] = []
        self.known: dict[str, Any] = {}
        bus.export(names.worker_path(MESH), self)

    async def ask(self, member: str, signature: str = "", *args: Any) -> Any:
        backend = (names.BUS_NAME, names.BACKEND_PATH, names.BACKEND_INTERFACE)
        answer = await self.bus.call(*backend, member, signature, *args, timeout=5)
        self.known[member] = answer[0] if len(answer) == 1 else answer
        return self.known[member]

    @method()
    async def refresh_admins(self, call: Call) -> None:
        self.asked.append(call.member)
        await self.ask("GetAdmins")

    @method()
    async def refresh_permissions(self, call: Call) -> None:
        self.asked.append(call.member)
        await self.ask("GetPermissions")

    @method()
    async def refresh_ignored(self, call: Call) -> None:
        self.asked.append(call.member)
        await self.ask("GetIgnoredUsers")

    @method()
    async def refresh_credentials(self, call: Call) -> None:
        self.asked.append(call.member)
        await self.ask("GetCredentials")

    @method()
    async def refresh_commands(self, call: Call) -> None:
        self.asked.append(call.member)
        await self.ask("GetEntryPoints")


@pytest.fixture(autouse=True)
def present(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ann and Bob are in every mesh, also in that of a bot with an id of which Rave knows nothing."""

    async def users(_access: RaveClient, _mesh: str) -> set[int]:
        return {ANN, BOB}

    monkeypatch.setattr(RaveClient, "users", users)


def new_bot(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> BotUnderTest:
    """A bot that the parent can verify."""

    async def unit_of(_workers: Workers, sender: str) -> str:
        return names.mesh_unit(MESH) if sender == bus.unique_name else "session-1.scope"

    monkeypatch.setattr(Workers, "_unit_of", unit_of)
    return BotUnderTest(bus)


async def log_in(site: Site, client: Bus, email: str = "") -> tuple[str, str]:
    """Log in, follow the link, and return how it ended."""
    finished: list[list[str]] = []
    rule = f"type='signal',interface='{names.ACCOUNT_INTERFACE}',member='LoginFinished'"
    end = await client.match(rule, lambda signal: finished.append([*signal.body]))
    await in_thread(site.served.control.option, "confirm", "0")
    (seconds,) = await call(client, "Login", "s", email)
    assert 500 < seconds <= 600
    await until(lambda: finished)
    await end()
    error, message = finished[0]
    return error, message


# Logging in.


async def test_from_nothing_to_meshes_by_a_login(
    site: Site, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    (mesh,) = site.served.control.create()
    site.served.control.invite(mesh)
    site.credentials.unlink()

    with caplog.at_level(logging.DEBUG):
        async with site.running(bus_address) as (systemd, client, _):
            assert site.manager.status.startswith(f"No mesh is started, because {LOGIN_NEEDED}")
            assert await get(client, "LoginNeeded") is True
            steps: list[str] = []
            rule = f"type='signal',interface='{names.ACCOUNT_INTERFACE}',member='LoginProgress'"
            await client.match(rule, lambda signal: steps.append(signal.body[0]))
            with pytest.raises(RaveError) as e:
                await call(client, "Login", "s", "")
            assert e.value.code is Code.LOGIN_NEEDED
            assert await log_in(site, client, "bot@example.test") == ("", "")
            assert list(dict.fromkeys(steps)) == ["sending", "waiting", "signing-in"]
            await until(lambda: ("start", mesh) in systemd.verbs)
            await until(lambda: site.manager.status == "1 mesh, 1 disconnected")
            assert await get(client, "LoginNeeded") is False
            assert await get(client, "LoginStep") == ""
            assert site.credentials.stat().st_mode & 0o777 == 0o600
            kept = read_credentials(site.credentials)
            assert kept
            assert kept.email == "bot@example.test"
            (text,) = await call(client, "Export")
            assert kept.auth_token in text, "the store has them, too"
        assert "bot@example.test" not in "".join(site.manager.said) + caplog.text
        assert kept.auth_token not in caplog.text


async def test_a_login_that_is_given_up(site: Site, bus_address: str) -> None:
    site.credentials.unlink()

    async with site.running(bus_address) as (_, client, _):
        finished: list[list[str]] = []
        rule = f"type='signal',interface='{names.ACCOUNT_INTERFACE}',member='LoginFinished'"
        await client.match(rule, lambda signal: finished.append([*signal.body]))
        await call(client, "Login", "s", "bot@example.test")
        await until(lambda: site.manager.said)
        assert await get(client, "LoginStep") == "waiting"
        with pytest.raises(RaveError) as e:
            await call(client, "Login", "s", "bot@example.test")
        assert e.value.code is Code.BUSY
        await call(client, "CancelLogin")
        await until(lambda: finished)
        assert finished[0][0] == "Cancelled"
        assert await get(client, "LoginStep") == ""
        assert await get(client, "LoginNeeded") is True


async def test_a_session_that_is_over_at_the_start(site: Site, bus_address: str) -> None:
    (mesh,) = site.served.control.create()
    site.served.control.invite(mesh)
    site.served.control.expire()
    before = site.credentials.read_text()

    async with site.running(bus_address) as (systemd, client, _):
        await site.manager.hears(f"{REFUSED}; 0 meshes")
        assert await get(client, "LoginNeeded") is True
        assert site.served.control.state()["listings"]["begun"] == 0, "it is asked whose it is first"
        assert json.loads(site.credentials.read_text()) == json.loads(before)
        assert systemd.verbs == []
        assert await log_in(site, client) == ("", "")
        await until(lambda: site.manager.status == "1 mesh, 1 disconnected")
        assert await get(client, "LoginNeeded") is False
        old, new = json.loads(before), json.loads(site.credentials.read_text())
        assert {key for key in old if old[key] != new[key]} == {"authToken", "parseToken"}


async def test_a_session_that_ends_in_mid_run_and_the_meshes_that_come_back_after_a_login(
    site: Site, bus_address: str
) -> None:
    (mesh,) = site.served.control.create()
    site.served.control.invite(mesh)

    async with site.running(bus_address) as (systemd, client, _):
        await site.manager.hears("1 mesh, 1 disconnected")
        await in_thread(site.served.control.expire)
        systemd.change(mesh, **ended(ExitStatus.LOGIN_NEEDED))
        await until(lambda: ("reset-failed", mesh) in systemd.verbs)
        await call(client, "Discover")
        await site.manager.hears(f"{REFUSED}; 1 mesh, 1 stopped")
        await call(client, "Discover")
        assert [verb for verb, _ in systemd.verbs] == ["start", "reset-failed"], "nobody is started to no end"
        for asked in ("self", "discovery"):
            await in_thread(site.served.control.fail, asked, "400")
        await call(client, "Discover")
        await site.manager.hears(f"{REFUSED}; 1 mesh, 1 stopped, discovery fails, stale since ")
        assert await get(client, "LoginNeeded") is True
        for asked in ("self", "discovery"):
            await in_thread(site.served.control.fail, asked, "ok")
        assert await log_in(site, client) == ("", "")
        await until(lambda: site.manager.status == "1 mesh, 1 disconnected")
        assert [verb for verb, _ in systemd.verbs] == ["start", "reset-failed", "start"]


async def test_credentials_that_name_somebody_else_start_nothing(site: Site, bus_address: str) -> None:
    site.served.control.invite(site.served.control.create())
    credentials = json.loads(site.credentials.read_text())
    ours = credentials["userId"]
    site.credentials.write_text(json.dumps({**credentials, "userId": ours + 1}))

    async with site.running(bus_address) as (systemd, client, _):
        told = f"the credentials are for user {ours + 1}, but Rave takes them for those of user {ours}"
        await site.manager.hears(told)
        assert site.manager.status.startswith("0 meshes, discovery fails, stale since ")
        assert await get(client, "LoginNeeded") is False
        assert systemd.verbs == []


async def test_another_account_has_meshes_of_its_own(site: Site, bus_address: str) -> None:
    meshes = site.served.control.create(3)
    site.served.control.invite(meshes)

    async with site.running(bus_address) as (systemd, client, _):
        await site.manager.hears("3 meshes, 3 disconnected")
        assert await log_in(site, client, "other@example.test") == ("", "")
        await until(lambda: sorted(systemd.verbs[3:]) == sorted(("stop", mesh) for mesh in meshes))
        assert await get(client, "HeldBack") == 0


async def test_without_an_account_its_meshes_are_stopped_until_it_is_back(site: Site, bus_address: str) -> None:
    meshes = site.served.control.create(3)
    site.served.control.invite(meshes)

    async with site.running(bus_address) as (systemd, client, _):
        await site.manager.hears("3 meshes, 3 disconnected")
        assert await call(client, "Logout") == [True]
        await until(lambda: sorted(systemd.verbs[3:]) == sorted(("stop", mesh) for mesh in meshes))
        assert await get(client, "LoginNeeded") is True
        assert await get(client, "HeldBack") == 0
        assert await call(client, "Logout") == [False]
        assert await log_in(site, client, "bot@example.test") == ("", "")
        await until(lambda: sorted(systemd.verbs[6:]) == sorted(("start", mesh) for mesh in meshes))


# The store.


async def test_while_the_store_is_away_the_credentials_of_the_file_will_do(
    site: Site, store: FakeStore, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    (mesh,) = site.served.control.create()
    site.served.control.invite(mesh)
    store.failure = DOWN

    async with site.running(bus_address) as (systemd, client, _):
        await site.manager.hears(f"STATUS=1 mesh, 1 disconnected; {STORE_AWAY}")
        assert systemd.verbs == [("start", mesh)]
        assert await get(client, "Error") == str(DOWN)
        (status,) = await call(client, "GetStatus")
        assert (status["StoreError"], status["States"]) == (str(DOWN), {"disconnected": 1})
        for member, signature, argument in ("AddAdmin", "t", ANN), ("Login", "s", "bot@example.test"):
            with pytest.raises(RaveError) as e:
                await call(client, member, signature, argument)
            assert e.value.code is Code.STORE
        store.failure = None
        await until(lambda: site.manager.status == "1 mesh, 1 disconnected")
        assert await get(client, "Error") == ""
        # The file fills the store.
        await until(lambda: store.contents.credentials)
        assert await call(client, "AddAdmin", "t", ANN) == [True]
        assert await get(client, "Admins") == 1
        store.failure = DOWN
        with pytest.raises(RaveError):
            await call(client, "AddAdmin", "t", BOB)
        await until(lambda: f"1 mesh, 1 disconnected; {STORE_AWAY}" in site.manager.status)
    assert caplog.text.count("The store can't be used") == 2, "each outage is told once"


async def test_with_neither_store_nor_file_it_waits_for_the_store(
    site: Site, store: FakeStore, bus_address: str
) -> None:
    (mesh,) = site.served.control.create()
    site.served.control.invite(mesh)
    stored = read_credentials(site.credentials)
    store.contents = Contents(credentials=stored)
    store.failure = DAMAGED
    site.credentials.unlink()

    async with site.running(bus_address) as (systemd, client, _):
        assert "No mesh is started: there are no credentials" in site.manager.status
        assert "the store can't be used, changes are refused: state.db is damaged" in site.manager.status
        assert await get(client, "LoginNeeded") is False, "they may be in the store"
        assert systemd.verbs == []
        store.failure = None
        await until(lambda: site.manager.status == "1 mesh, 1 disconnected")
        assert read_credentials(site.credentials) == stored


async def test_a_database_that_the_driver_does_not_take_is_a_configuration_error(
    site: Site, monkeypatch: pytest.MonkeyPatch, bus_address: str
) -> None:
    def make(*_: Any) -> Store:
        raise RaveError(Code.CONFIG, "database.json: options.nosuch is not an option")

    monkeypatch.setattr(core_service, "make_store", make)

    async with site.running(bus_address) as (_, _, parent):
        with pytest.raises(RaveError, match="nosuch") as e:
            await parent
        assert e.value.code is Code.CONFIG


@pytest.mark.parametrize(("engine", "verb"), [("mongodb", "stop"), ("mongodb", "restart"), ("embedded", "stop")])
async def test_the_account_is_released_when_the_last_bot_has_left(
    site: Site, store: FakeStore, bus_address: str, engine: str, verb: str
) -> None:
    store.engine = engine
    async with site.running(bus_address) as (systemd, _, parent):
        # The service may stop the bot by itself before, because no list has its mesh: then the stop takes its time.
        systemd.jobs_wait = True
        systemd.load(MESH)
        systemd.change(MESH, **RUNNING)
        await until(lambda: site.manager.status.startswith("1 mesh"))
        host = store.holder
        systemd.order_parent(verb)
        os.kill(os.getpid(), signal.SIGTERM)
        if (engine, verb) == ("mongodb", "stop"):
            await until(lambda: ("stop", names.TARGET_UNIT) in systemd.verbs)
            systemd.change(MESH, ActiveState="deactivating", SubState="stop-sigterm")
            # So many turns of the loop are enough to release the account too early.
            for _ in range(20):
                await settle(systemd.bus)
            assert (store.holder, parent.done()) == (host, False)
            assert "EXTEND_TIMEOUT_USEC=35000000" in site.manager.said
            systemd.change(MESH, **DEAD)
            await parent
            assert store.holder is None
        else:
            await parent
            assert store.holder == host


async def test_the_account_stays_while_a_bot_does_not_leave(
    site: Site, store: FakeStore, bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def in_vain(_: SystemdRunner) -> bool:
        return False

    monkeypatch.setattr(SystemdRunner, "stop_all", in_vain)
    store.engine = "mongodb"
    async with site.running(bus_address) as (systemd, _, parent):
        systemd.order_parent("stop")
        os.kill(os.getpid(), signal.SIGTERM)
        await parent
    assert store.holder
    assert "another host has to wait until the record of this one is void" in caplog.text


async def test_the_account_stays_if_systemd_does_not_tell_why_it_stops_the_service(
    site: Site, store: FakeStore, bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def silent(_: SystemdRunner) -> bool:
        raise RaveError(Code.TIMEOUT, "no answer")

    monkeypatch.setattr(SystemdRunner, "is_stopping_for_good", silent)
    store.engine = "mongodb"
    async with site.running(bus_address) as (_, _, parent):
        os.kill(os.getpid(), signal.SIGTERM)
        await parent
    assert store.holder
    assert "Bots have not left" not in caplog.text


async def test_what_the_engine_notices_by_itself_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch, bus_address: str
) -> None:
    fake = FakeStore()
    changed: list[Callable[[bool], None]] = []

    def make(database: object, path: Path, tell: Callable[[bool], None], _hint: str) -> Store:
        assert (database, path) == (None, site.state)
        changed.append(tell)
        return fake

    monkeypatch.setattr(core_service, "make_store", make)

    async with site.running(bus_address):
        await in_thread(site.served.control.wait, listings=1)
        fake.failure = DOWN
        changed[0](False)
        await until(lambda: f"0 meshes; {STORE_AWAY}" in site.manager.status)
        fake.failure = None
        changed[0](True)
        await until(lambda: site.manager.status == "0 meshes")


async def test_credentials_that_somebody_else_changes_in_the_store_are_followed(
    site: Site, store: FakeStore, bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "_MIN_INTERVAL_S", 0.0)
    site.served.control.invite(site.served.control.create())

    async with site.running(bus_address) as (systemd, client, _):
        await site.manager.hears("1 mesh, 1 disconnected")
        stored = store.contents.credentials
        assert stored

        async def put(**changed: Any) -> None:
            store.contents = Contents(credentials=dataclasses.replace(stored, **changed))
            await call(client, "Refresh")

        await put(auth_token="made-up-token")
        await site.manager.hears(f"{REFUSED}; 1 mesh, 1 disconnected")
        await put(auth_token="")
        gone = f"No mesh is started, because {LOGIN_NEEDED} (the credentials have no token); 1 mesh, 1 disconnected"
        await until(lambda: site.manager.status == gone)
        for _ in range(5):
            with pytest.raises(RaveError, match="the credentials have no token"):
                await call(client, "Discover")
        assert site.served.control.state()["listings"]["begun"] == 1
        await put()
        await until(lambda: site.manager.status == "1 mesh, 1 disconnected")
        assert len(systemd.verbs) == 1


# Bots.


def test_bots_follow_every_change_and_the_log_says_how_fast(
    run: Run,
    site: Site,
    store: FakeStore,
    bus_address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.contents = Contents(admins=(admin(ANN),), permissions=(permission("leave", requires_admin=False),))

    async def body() -> None:
        async with connected(bus_address) as (bus,), site.running(bus_address) as (_, client, _):
            await in_thread(site.served.control.wait, listings=1)
            bot = new_bot(bus, monkeypatch)
            assert await bot.ask("GetAdmins") == [ANN]
            assert await bot.ask("AddAdmin", "tt", ANN, BOB) is True
            assert bot.known["GetAdmins"] == [ANN, BOB]
            assert await call(client, "SetPermission", "sb", "ping", True) == []
            assert bot.known["GetPermissions"] == {"leave": False, "ping": True}
            await bot.ask("GetCredentials")
            before = bot.known["GetCredentials"]
            bot.asked.clear()
            assert await bot.ask("Relogin", "t", BOB) > 500
            await in_thread(site.served.control.confirm)
            assert await bot.ask("LoginEnded") == []
            after = bot.known["GetCredentials"]
            assert after == before | {"auth_token": after["auth_token"]}
            assert after != before
            assert bot.asked == ["RefreshCredentials"]
            with pytest.raises(RaveError) as e:
                await client.call(names.BUS_NAME, names.BACKEND_PATH, names.BACKEND_INTERFACE, "GetCredentials")
            assert e.value.code is Code.ACCESS_DENIED

    with caplog.at_level(logging.INFO):
        run(body())
    told = re.findall(r"reached (\d+) mesh in (\d+) ms", caplog.text)
    assert [number for number, _ in told] == ["1", "1", "1"]
    assert "The new permissions reached 1 mesh in " in caplog.text


async def test_a_refresh_renews_everything_whether_it_differs_or_not(
    site: Site, store: FakeStore, bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.contents = Contents(admins=(admin(ANN),))

    async with connected(bus_address) as (bus,), site.running(bus_address) as (_, client, _):
        await in_thread(site.served.control.wait, listings=1)
        bot = new_bot(bus, monkeypatch)
        await bot.ask("GetAdmins")
        assert await bot.ask("GetEntryPoints") == []
        await until(lambda: store.contents.credentials)
        site.credentials.unlink()
        found = [EntryPoint("greet", "greetings.commands", "1.0")]
        monkeypatch.setattr(command_packages, "find", lambda: found)
        store.contents = dataclasses.replace(store.contents, permissions=(permission("ping"),))
        assert await call(client, "Refresh") == [1, 1]
        assert sorted(set(bot.asked)) == sorted(Announcement)
        assert bot.known["GetEntryPoints"] == [["greet", "greetings.commands", "1.0"]]
        assert bot.known["GetPermissions"] == {"ping": True}
        assert site.credentials.exists()
        bot.asked.clear()
        assert await bot.ask("Refresh", "t", ANN) == [1, 1]
        assert sorted(bot.asked) == sorted(Announcement)
        store.failure = DOWN
        bot.asked.clear()
        with pytest.raises(RaveError, match="nothing can be read"):
            await call(client, "Refresh")
        assert bot.asked == ["RefreshCommands"], "commands need no store"
        store.failure = None


@pytest.mark.usefixtures("as_root")
async def test_plugins_that_fail_are_in_the_status(
    site: Site, bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(bus_address) as (bus,), site.running(bus_address) as (_, client, _):
        # The end of a round drops whatever is neither listed nor has a unit.
        while not await get(client, "LastDiscoveryTimestamp"):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        bot = new_bot(bus, monkeypatch)
        bot.emit("CommandErrors", ["greet.py, line 3: it fails"])
        await site.manager.hears("plugins fail: greet.py, line 3: it fails")
        bot.emit("CommandErrors", ["greet.py, line 3: it fails", "hail.py: it fails"])
        await site.manager.hears("plugins fail: greet.py, line 3: it fails (and 1 more)")
        assert await get(client, "CommandErrors") == ["greet.py, line 3: it fails", "hail.py: it fails"]
        bot.emit("CommandErrors", [])
        await until(lambda: "plugins" not in site.manager.status)


async def test_a_bot_that_does_not_follow_is_told_in_the_log(
    site: Site,
    store: FakeStore,
    bus_address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.contents = Contents(admins=(admin(ANN),))

    async with connected(bus_address) as (bus,), site.running(bus_address) as (_, client, _):
        await in_thread(site.served.control.wait, listings=1)
        bot = new_bot(bus, monkeypatch)
        await bot.ask("GetAdmins")
        bus.unexport(names.worker_path(MESH))
        assert await call(client, "AddAdmin", "t", BOB) == [True]
        assert "The new admins did not reach 1 mesh yet" in caplog.text


# The end.


@pytest.mark.parametrize("during", ["a login", "an outage", "a frozen store"])
async def test_it_ends_at_once_whatever_it_is_about(
    site: Site, store: FakeStore, bus_address: str, during: str
) -> None:
    if during == "an outage":
        store.failure = DOWN
    elif during != "a login":
        store.gate.clear()
    if during == "a login":
        site.credentials.unlink()

    async with site.running(bus_address) as (_, client, parent):
        if during == "a login":
            await call(client, "Login", "s", "bot@example.test")
            await in_thread(site.served.control.wait, polls=1)
        else:
            await in_thread(site.served.control.wait, listings=1)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await parent == ExitStatus.STOPPED
        assert loop.time() - begun < 2
        assert not store.is_open
        assert store.calls[-1] == "close"
        assert "STOPPING=1" in site.manager.said


async def test_it_ends_at_once_before_it_has_begun(site: Site, store: FakeStore, bus_address: str) -> None:
    store.gate.clear()

    async def end_early() -> None:
        await until(lambda: store.waiting_calls)
        os.kill(os.getpid(), signal.SIGTERM)

    ending = asyncio.create_task(end_early())
    async with site.running(bus_address) as (_, _, parent):
        assert await parent == ExitStatus.STOPPED
        assert "STOPPING=1" in site.manager.said
        assert "READY=1" not in site.manager.said
        assert store.calls[-1] == "close"
    await ending
