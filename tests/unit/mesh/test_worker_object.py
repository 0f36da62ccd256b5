from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest

from ravesvc import names
from ravesvc.bot.command import Registry
from ravesvc.bot.last_step import LastStep
from ravesvc.bot.registration import registering
from ravesvc.bot.settings_keeper import SettingsKeeper
from ravesvc.bus import Bus, Call, Interface, SignalMessage, Variant, allow_all, method
from ravesvc.commands import setting
from ravesvc.config.worker_settings import Edition
from ravesvc.errors import Code, RaveError
from ravesvc.mesh import bus_membership as membership_module
from ravesvc.mesh.bus_link import BusLink
from ravesvc.mesh.bus_membership import BusMembership
from ravesvc.mesh.parent_link import Status
from ravesvc.mesh.worker_object import WorkerObject
from ravesvc.names import Announcement
from ravesvc.systemd import logging as log
from ravesvc.testing import FakeService
from tests.unit.bus_fakes import connected
from tests.unit.conftest import BusDaemon, until
from tests.unit.fake_systemd import MESH, settle

if TYPE_CHECKING:
    from ravesvc.bot.backend import Backend

STATUS = {"Version": "1.2.3", "SettingsDigest": "0123", "Users": 3}
SIGNALS = WorkerObject.signals


class FakeWorker(Interface):
    """A bot as the parent sees it, and one signal that it does not know. Silent while `gate` is shut."""

    interface = names.WORKER_INTERFACE
    signals: ClassVar = {**SIGNALS, "Boo": {}}

    def __init__(self) -> None:
        super().__init__(allow_all)
        self.restarts = 0
        self.debug: bool | None = None
        self.told: list[Announcement] = []
        self.forgotten: list[int] = []
        self.status: dict[str, tuple[str, Any]] = {}
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.users: list[list[Any]] = [[7, "Zoë\x1b"]]
        self.settings: dict[str, str] = {}

    @method(returns={"users": "a(ts)", "total": "u"})
    async def list_users(self, call: Call) -> tuple[list[list[Any]], int]:
        return self.users, 300

    @method(returns={"status": "a{sv}"})
    async def get_status(self, call: Call) -> dict[str, Variant]:
        self.asked += 1
        await self.gate.wait()
        return {name: Variant(*value) for name, value in self.status.items()}

    @method(returns={"settings": "a(ssss)", "total": "u"})
    async def list_settings(self, call: Call) -> tuple[list[list[str]], int]:
        return [self._setting(name) for name in self.settings], 600

    @method(takes={"name": "s"}, returns={"setting": "(ssss)"})
    async def get_setting(self, call: Call, name: str) -> list[str]:
        if name not in self.settings:
            raise RaveError(Code.INVALID_ARGUMENT, f"there is no setting {name}", hint="\x1b[2J" + "y" * 400)
        return self._setting(name)

    @method(takes={"name": "s", "value": "s"}, returns={"setting": "(ssss)"})
    async def change_setting(self, call: Call, name: str, value: str) -> list[str]:
        self.settings[name] = value
        return self._setting(name)

    def _setting(self, name: str) -> list[str]:
        return [name, self.settings[name], "What it is\n", "v" * 9999]

    @method()
    async def restart_connection(self, call: Call) -> None:
        self.restarts += 1

    @method(takes={"user": "t"})
    async def forget_user(self, call: Call, user: int) -> None:
        self.forgotten.append(user)
        await self.gate.wait()

    @method(takes={"debug": "b"})
    async def set_debug(self, call: Call, debug: bool) -> None:
        self.debug = debug

    @method()
    async def refresh_admins(self, call: Call) -> None:
        await self._refresh(Announcement.ADMINS)

    @method()
    async def refresh_permissions(self, call: Call) -> None:
        await self._refresh(Announcement.PERMISSIONS)

    @method()
    async def refresh_credentials(self, call: Call) -> None:
        await self._refresh(Announcement.CREDENTIALS)

    @method()
    async def refresh_commands(self, call: Call) -> None:
        await self._refresh(Announcement.COMMANDS)

    async def _refresh(self, what: Announcement) -> None:
        self.told.append(what)
        await self.gate.wait()


class BotUnderTest:
    """A worker on the bus, and what it was asked and told. Implements `WorkerControl`, but for the status."""

    mesh = MESH
    edition = Edition("1.2.3", "0123")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        monkeypatch.setattr(membership_module, "_FIRST_DELAY_S", 0.01)
        self.reconnects = 0
        self.new_peers = 0
        self.refreshed: list[Announcement] = []
        self.forgotten: list[int] = []
        self.service = FakeService()
        registry = Registry()
        with registering(registry):
            setting("sound", "What is played", default="gong")
        self.settings = SettingsKeeper(cast("Backend", self.service), lambda settings: None, registry)
        self.membership = BusMembership(MESH, self._make, self._on_new_peer)

    def _make(self) -> WorkerObject:
        return WorkerObject(lambda: {"Users": Variant("u", 3)}, self)

    def status(self) -> Status:
        raise NotImplementedError

    async def refresh(self, what: Announcement) -> None:
        self.refreshed.append(what)
        if what is Announcement.CREDENTIALS:
            raise RaveError(Code.LOGIN_NEEDED, "login needed")

    async def users(self) -> tuple[list[tuple[int, str]], int]:
        return [(7, "Zoë")], 300

    def reconnect(self) -> None:
        self.reconnects += 1

    def forget_user(self, user: int) -> None:
        self.forgotten.append(user)

    def on_new_peer(self) -> None:
        self._on_new_peer()

    def _on_new_peer(self) -> None:
        self.new_peers += 1
        self.membership.emit("Ready")


async def ask(bus: Bus, member: str, signature: str = "", *args: Any) -> list[Any]:
    where = names.worker_name(MESH), names.worker_path(MESH), names.WORKER_INTERFACE
    return await bus.call(*where, member, signature, *args)


async def test_a_bot_is_on_the_bus_under_its_name(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bot = BotUnderTest(monkeypatch, bus_address)
    async with connected(bus_address) as (bus,):
        heard: list[SignalMessage] = []
        await bus.match(f"type='signal',interface='{names.WORKER_INTERFACE}'", heard.append)
        bot.membership.emit("Error", "nobody hears it yet")
        await bot.membership.join()
        bot.membership.emit("Disconnected", "the connection broke")
        assert await ask(bus, "GetStatus") == [STATUS]
        assert await ask(bus, "ListUsers") == [[[7, "Zoë"]], 300]
        assert await ask(bus, "RestartConnection") == []
        assert await ask(bus, "ForgetUser", "t", 7) == []
        assert bot.forgotten == [7]
        assert bot.reconnects == 1
        for what in Announcement.ADMINS, Announcement.PERMISSIONS, Announcement.IGNORED, Announcement.COMMANDS:
            assert await ask(bus, what) == []
        with pytest.raises(RaveError, match="login needed") as caught:
            await ask(bus, Announcement.CREDENTIALS)
        assert caught.value.code is Code.LOGIN_NEEDED
        assert sorted(bot.refreshed) == sorted(Announcement)
        said = [(signal.path, signal.member, *signal.body) for signal in heard]
        path = names.worker_path(MESH)
        assert said == [(path, "Ready"), (path, "Disconnected", "the connection broke")]
        bot.membership.emit("ConnectionFailed", 5, "x" * 100_000)
        bot.membership.emit("Left", "last words")
        await bot.membership.leave()
        await bot.membership.leave()
        await settle(bus)
        assert [*heard[-2].body] == [5, "x" * 300], "no more than the parent keeps"
        assert [*heard[-1].body] == ["last words"], "what was said is sent before it goes"
        with pytest.raises(RaveError):
            await ask(bus, "GetStatus")
        bot.membership.emit("Error", "nobody hears it any more")
        await settle(bus)
        assert len(heard) == 4


async def test_no_text_of_a_status_is_longer_than_the_parent_keeps() -> None:
    """Strangers write them, and a bot whose answer has more than 64 KiB is killed."""
    long = "x" * 70_000
    status = Status(
        connected=False,
        lasted=0.0,
        title=long,
        server=long,
        users=0,
        reconnects=0,
        attempts=1,
        last_error=long,
        plugins=(),
        command_errors=(),
        unshown=0,
        chat_form="",
    )

    link = BusLink(
        SimpleNamespace(mesh=MESH, on_new_peer=lambda: None, status=lambda: status),
        {},
        LastStep(b"", lambda what, where: None),
    )  # type: ignore[arg-type]
    texts = [each.value for each in link._status().values() if each.signature == "s"]
    assert sorted(map(len, texts)) == [0, 300, 300, 300]


async def test_a_bot_logs_as_much_as_it_is_told_to(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        bot = BotUnderTest(monkeypatch, bus_address)
        async with connected(bus_address) as (bus,):
            await bot.membership.join()
            for debug in (True, False):
                assert await ask(bus, "SetDebug", "b", debug) == []
                assert log.debug_enabled() is debug
            assert logging.getLogger().level == logging.INFO
            await bot.membership.leave()


async def test_settings_are_told_and_changed(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bot = BotUnderTest(monkeypatch, bus_address)
    async with connected(bus_address) as (bus,):
        await bot.membership.join()
        sound = ["plugin.sound", "gong", "What is played", "text of up to 500 characters"]
        settings, total = await ask(bus, "ListSettings")
        assert total == len(settings)
        assert settings[-1] == sound
        assert settings[0][:2] == ["prefix", "default"]
        assert await ask(bus, "ChangeSetting", "ss", "plugin.sound", "bell " * 20) == [
            [sound[0], ("bell " * 20).strip(), *sound[2:]]
        ]
        assert (await ask(bus, "GetSetting", "s", "plugin.sound"))[0][1] == ("bell " * 20).strip()
        assert (await ask(bus, "ListSettings"))[0][-1][1] == ("bell " * 12)[:59].rstrip() + "…"
        with pytest.raises(RaveError) as e:
            await ask(bus, "ChangeSetting", "ss", "games", "blue")
        told = e.value.code, e.value.attributes["said"]
        assert told == (Code.INVALID_ARGUMENT, "the setting games can't be blue (it can be: on, off)")
        assert list(bot.service.documents) == ["settings"]
        await bot.membership.leave()


async def test_without_its_name_a_bot_is_heard_all_the_same(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bot = BotUnderTest(monkeypatch, bus_address)
    async with connected(bus_address) as (bus,):
        heard: list[SignalMessage] = []
        await bus.match(f"type='signal',interface='{names.WORKER_INTERFACE}'", heard.append)
        await bus.request_name(names.worker_name(MESH))
        await bot.membership.join()
        assert "Another process has this bot's name" in caplog.text
        # By the policy of the system bus the parent may call none but those who own such a name, or wait for it.
        queued = "ListQueuedOwners", "s", names.worker_name(MESH)
        daemon = "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"
        assert len((await bus.call(*daemon, *queued))[0]) == 2
        keeping = asyncio.create_task(bot.membership.keep())
        bot.membership.emit("Kicked")
        await until(lambda: len(heard) == 2)
        assert [signal.member for signal in heard] == ["Ready", "Kicked"]
        assert len({signal.sender for signal in heard}) == 1
        path, interface = names.worker_path(MESH), names.WORKER_INTERFACE
        assert await bus.call(heard[0].sender, path, interface, "GetStatus") == [STATUS]
        assert bot.new_peers == 1, "it does not come and go"
        keeping.cancel()
        await asyncio.wait([keeping])
        await bot.membership.leave()


async def test_a_bot_that_cannot_get_on_the_bus_leaves_no_connection_behind(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = BotUnderTest(monkeypatch, bus_address)

    def fail() -> WorkerObject:
        raise RaveError(Code.INTERNAL, "no object")

    bot.membership._make_object = fail
    async with connected(bus_address) as (bus,):
        gone: list[str] = []
        # Unique names that lose their owner.
        rule = "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0namespace=':1'"
        await bus.match(rule, lambda signal: gone.append(signal.body[0]) if not signal.body[2] else None)
        with pytest.raises(RaveError, match="no object"):
            await bot.membership.join()
        assert bot.new_peers == 0
        await until(lambda: gone)


async def test_a_bot_comes_back_to_a_new_bus_and_announces_itself_there(
    bus_daemon: BusDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = BotUnderTest(monkeypatch, bus_daemon.address)
    await bot.membership.join()
    keeping = asyncio.create_task(bot.membership.keep())
    for met in (2, 3):
        bus_daemon.stop()
        await until(lambda: bot.membership.bus is None)
        bot.membership.emit("Error", "lost")  # must not fail
        bus_daemon.start()
        await until(lambda met=met: bot.new_peers == met)
        async with connected(bus_daemon.address) as (bus,):
            assert await ask(bus, "GetStatus") == [STATUS]
    keeping.cancel()
    await asyncio.wait([keeping])
    await bot.membership.leave()


async def test_without_a_bus_it_tries_ever_more_slowly(
    bus_daemon: BusDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = BotUnderTest(monkeypatch, bus_daemon.address)
    bus_daemon.stop()
    monkeypatch.setattr(membership_module, "_MAX_DELAY_S", 0.05)
    real, delays = asyncio.sleep, []

    async def sleep(delay: float) -> None:
        delays.append(delay)
        await real(0)

    monkeypatch.setattr(membership_module.random, "random", lambda: 0.5)
    with monkeypatch.context() as quick:
        quick.setattr(membership_module.asyncio, "sleep", sleep)
        keeping = asyncio.create_task(bot.membership.keep())
        while len(delays) < 5:
            await real(0.001)
    assert delays[:5] == [0.01, 0.02, 0.04, 0.05, 0.05]
    bus_daemon.start()
    await until(lambda: bot.new_peers)
    keeping.cancel()
    await asyncio.wait([keeping])
    await bot.membership.leave()


async def test_jitter_spreads_the_returns(bus_daemon: BusDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    bot = BotUnderTest(monkeypatch, bus_daemon.address)
    delays: list[float] = []

    async def sleep(delay: float) -> None:
        delays.append(delay)
        raise asyncio.CancelledError

    monkeypatch.setattr(membership_module.asyncio, "sleep", sleep)
    for jitter in (0.0, 0.999):
        monkeypatch.setattr(membership_module.random, "random", lambda jitter=jitter: jitter)
        with pytest.raises(asyncio.CancelledError):
            await bot.membership.keep()
    assert delays == pytest.approx([0.005, 0.01499])


async def test_a_bot_meets_every_parent_that_comes(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bot = BotUnderTest(monkeypatch, bus_address)
    await bot.membership.join()
    assert bot.new_peers == 1, "the bus itself"
    for met in (2, 3):
        async with connected(bus_address, 2) as (parent, other):
            await other.request_name(names.worker_name("somebody else"))
            await parent.request_name(names.BUS_NAME)
            await until(lambda met=met: bot.new_peers == met)
        assert bot.membership.bus
        await settle(bot.membership.bus)
        assert bot.new_peers == met, "one that goes is none"
    await bot.membership.leave()
    assert bot.membership.bus is None
