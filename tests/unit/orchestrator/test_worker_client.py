from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, ClassVar

import pytest

from ravesvc import names
from ravesvc.bus import Bus, Call, Interface, Variant, allow_all, connection, errors, method
from ravesvc.bus.header import MessageKind
from ravesvc.bus.message import Message, decode
from ravesvc.core.worker_events import read_event
from ravesvc.errors import Code, RaveError
from ravesvc.mesh.worker_object import WorkerObject
from ravesvc.names import Announcement
from ravesvc.orchestrator import worker_client as workers_module
from ravesvc.orchestrator.worker_client import Workers
from tests.unit.bus_fakes import connected, open_fds, send_anything
from tests.unit.conftest import until
from tests.unit.fake_systemd import MESH, OTHER, new_mesh, settle, systemd_on, with_process_fd

Run = Callable[[Any], Any]


class FakeBot(Interface):
    """What a bot exports."""

    interface = names.WORKER_INTERFACE
    signals: ClassVar = {"Ready": {}, "Connected": {}, "ConnectionFailed": {"attempt": "u", "error": "s"}}

    def __init__(self) -> None:
        super().__init__(allow_all)
        self.restarts = 0
        self.told: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @method(returns={"status": "a{sv}"})
    async def get_status(self, call: Call) -> dict[str, Variant]:
        return {"Connected": Variant("b", True), "Title": Variant("s", "A film")}

    @method()
    async def restart_connection(self, call: Call) -> None:
        self.restarts += 1
        if self.restarts > 1:
            raise RaveError(Code.CLOSED, "ending")

    @method()
    async def refresh_admins(self, call: Call) -> None:
        await self.gate.wait()
        self.told.append(call.member)

    @method()
    async def refresh_permissions(self, call: Call) -> None:
        raise RaveError(Code.NOT_RUNNING, "nobody answers")


def bot_on(bus: Bus, mesh: str) -> FakeBot:
    bot = FakeBot()
    bus.export(names.worker_path(mesh), bot)
    return bot


class Listening:
    """Workers whose senders belong to the units that the test says; `gate` holds up the answer."""

    def __init__(self, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bus = bus
        self.heard: list[tuple[Any, ...]] = []
        self.units: dict[str, str] = {}
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.too_large: list[str] = []
        self.workers = Workers(bus, self._hear, self.too_large.append)
        monkeypatch.setattr(self.workers, "_unit_of", self._unit_of)

    def _hear(self, mesh: str, member: str, body: Sequence[Any]) -> None:
        self.heard.append((mesh, member, *body))

    async def _unit_of(self, sender: str) -> str:
        self.asked.append(sender)
        await self.gate.wait()
        if sender not in self.units:
            raise RaveError(Code.BUS, "no such process")
        return self.units[sender]


@contextlib.asynccontextmanager
async def listening(
    address: str, monkeypatch: pytest.MonkeyPatch, bots: int = 1
) -> AsyncIterator[tuple[Listening, list[Bus]]]:
    async with connected(address, 1 + bots) as (bus, *others):
        here = Listening(bus, monkeypatch)
        await here.workers.start()
        yield here, others
        await here.workers.close()


async def test_signals_are_passed_on_in_their_order_once_the_sender_is_verified(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.units[bus.unique_name] = names.mesh_unit(MESH)
        here.gate.clear()
        bot = bot_on(bus, MESH)
        bot.emit("Ready")
        bot.emit("ConnectionFailed", 1, "no route")
        bot.emit("Connected")
        await settle(bus, here.bus)
        assert here.heard == []
        here.gate.set()
        said = [(MESH, "Ready"), (MESH, "ConnectionFailed", 1, "no route"), (MESH, "Connected")]
        await until(lambda: here.heard == said)
        bot.emit("Ready")
        await settle(bus, here.bus)
        assert here.heard == [*said, (MESH, "Ready")]
        assert here.asked == [bus.unique_name], "once for a connection"


@pytest.mark.parametrize(
    "unit", ["session-3.scope", "rave-mesh@odd.service", names.mesh_unit(OTHER)], ids=["user", "odd", "other-mesh"]
)
async def test_a_forger_is_ignored_and_remembered(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, unit: str
) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.units[bus.unique_name] = unit
        bot = bot_on(bus, MESH)
        # Owning the name proves nothing.
        await bus.request_name(names.worker_name(MESH))
        bot.emit("Connected")
        await settle(bus, here.bus)
        await until(lambda: not here.workers._waiting)
        for _ in range(3):
            bot.emit("Connected")
        await settle(bus, here.bus)
        assert here.heard == []
        assert here.asked == [bus.unique_name], "asked about once, however much it says"
        assert caplog.text.count(f"A signal for mesh {MESH} is ignored: it came from unit {unit}") == 1


async def test_a_verified_bot_cannot_speak_for_another_mesh(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(bus_address, monkeypatch, 2) as (here, (bus, other)):
        here.units = {bus.unique_name: names.mesh_unit(MESH), other.unique_name: names.mesh_unit(OTHER)}
        bot_on(bus, MESH).emit("Ready")
        bot_on(other, OTHER).emit("Ready")
        await until(lambda: len(here.heard) == 2)
        bot_on(other, MESH).emit("Connected")
        await settle(other, here.bus)
        await until(lambda: not here.workers._waiting)
        assert sorted(here.heard) == sorted([(MESH, "Ready"), (OTHER, "Ready")])


async def test_a_second_connection_of_a_bot_takes_nothing_over_while_the_first_is_there(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(bus_address, monkeypatch, 3) as (here, (first, second, third)):
        here.units = dict.fromkeys((each.unique_name for each in (first, second, third)), names.mesh_unit(MESH))
        bot_on(first, MESH).emit("Ready")
        await until(lambda: here.heard == [(MESH, "Ready")])
        for _ in range(3):
            bot_on(second, MESH).emit("ConnectionFailed", 1, "not the bot")
            await settle(second, here.bus)
            await until(lambda: not here.workers._waiting)
            second.unexport(names.worker_path(MESH))
        with pytest.raises(RaveError) as caught:
            await here.workers.mesh_of(second.unique_name)
        assert caught.value.code is Code.ACCESS_DENIED
        assert here.heard == [(MESH, "Ready")]
        assert (await here.workers.status(MESH)).connected
        assert caplog.text.count("A second connection") == 1
        await first.close()
        bot_on(third, MESH).emit("Connected")
        await until(lambda: here.heard == [(MESH, "Ready"), (MESH, "Connected")])
        assert await here.workers.mesh_of(third.unique_name) == MESH


async def test_a_bot_that_also_speaks_for_another_mesh_is_heard_only_until_then(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.units[bus.unique_name] = names.mesh_unit(MESH)
        here.gate.clear()
        own, stolen = bot_on(bus, MESH), bot_on(bus, OTHER)
        own.emit("Ready")
        stolen.emit("Connected")
        own.emit("Connected")
        await settle(bus, here.bus)
        here.gate.set()
        await until(lambda: not here.workers._waiting)
        assert here.heard == [(MESH, "Ready")]
        own.emit("Connected")
        await settle(bus, here.bus)
        assert here.heard == [(MESH, "Ready")]


async def test_a_sender_that_cannot_be_verified_is_ignored_but_no_forger(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        bot = bot_on(bus, MESH)
        bot.emit("Ready")
        await settle(bus, here.bus)
        await until(lambda: not here.workers._waiting)
        here.units[bus.unique_name] = names.mesh_unit(MESH)
        bot.emit("Connected")
        await until(lambda: here.heard)
        assert here.heard == [(MESH, "Connected")]


async def test_what_waits_for_verification_is_bounded_however_many_meshes_are_named(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_MAX_WAITING", 3)

    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.units[bus.unique_name] = names.mesh_unit(MESH)
        here.gate.clear()
        bot = bot_on(bus, MESH)
        for number in range(5):
            bot.emit("ConnectionFailed", number, "")
        for _ in range(20):
            bot_on(bus, new_mesh()).emit("Ready")
        await settle(bus, here.bus)
        assert len(here.workers._tasks) == 1
        here.gate.set()
        await until(lambda: not here.workers._waiting)
        assert [said[2] for said in here.heard] == [0, 1, 2]


LARGE = {
    "signal": {"kind": MessageKind.SIGNAL, "path": names.worker_path(MESH), "interface": "org.example.None"},
    "call": {"kind": MessageKind.CALL, "path": "/", "interface": names.BACKEND_INTERFACE},
}


def send_large(bus: Bus, to: Bus, what: str) -> None:
    fields: dict[str, Any] = LARGE[what]
    bus._send(
        Message(serial=99, destination=to.unique_name, member="Error", signature="s", body=["x" * 70_000], **fields)
    )


@pytest.mark.parametrize("what", LARGE)
async def test_a_bot_that_sends_what_none_of_ours_does_is_told(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Over whatever connection: its own one says nothing, and has said nothing."""

    async with listening(bus_address, monkeypatch, 2) as (here, (bus, second)):
        here.units = {each.unique_name: names.mesh_unit(MESH) for each in (bus, second)}
        bot_on(bus, MESH).emit("Ready")
        await until(lambda: here.heard)
        send_anything(monkeypatch)
        send_large(second, here.bus, what)
        await until(lambda: here.too_large)
        assert here.too_large == [MESH]
        assert here.heard == [(MESH, "Ready")]


def test_who_is_no_bot_is_asked_about_once(
    run: Run, bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers_module, "_MAX_SUSPECTS", 1)
    monkeypatch.setattr(workers_module, "_MAX_CLEARED", 1)

    async def body() -> None:
        async with listening(bus_address, monkeypatch, 3) as (here, (root, other, gone)):
            here.units = {each.unique_name: "session-1.scope" for each in (root, other)}
            here.gate.clear()
            for sender in root, root, other:
                send_large(sender, here.bus, "call")
                await settle(sender, here.bus)
            assert here.asked == [root.unique_name], "one at a time"
            here.gate.set()
            for sender in root, other, gone:
                await until(lambda: not here.workers._suspects)
                send_large(sender, here.bus, "call")
                await settle(sender, here.bus)
            assert here.asked == [each.unique_name for each in (root, other, gone)]
            await until(lambda: not here.workers._suspects)
            assert list(here.workers._cleared) == [other.unique_name]
            assert here.too_large == []

    with caplog.at_level(logging.DEBUG):
        run(body())
    assert "is not known: " in caplog.text


async def test_the_memory_of_forgers_is_bounded(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "_MAX_REJECTED_SENDERS", 2)

    async with listening(bus_address, monkeypatch, 3) as (here, buses):
        here.units = {bus.unique_name: "x.service" for bus in buses}
        for bus in buses:
            bot_on(bus, MESH).emit("Ready")
            await settle(bus, here.bus)
            await until(lambda: not here.workers._waiting)
        assert list(here.workers._rejected_senders) == [bus.unique_name for bus in buses[1:]]


@pytest.mark.parametrize("path", ["/worker", "/worker/nothing", "/worker/_31/x", "/elsewhere"])
async def test_other_paths_are_nobody(bus_address: str, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        bot = FakeBot()
        bus.export(names.MANAGER_PATH + path, bot)
        bot.emit("Ready")
        await settle(bus, here.bus)
        assert here.asked == []


async def test_closing_stops_what_is_being_verified(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.gate.clear()
        bot_on(bus, MESH).emit("Ready")
        await until(lambda: here.asked)
        await here.workers.close()
        assert here.heard == []
        assert here.workers._waiting == {}


# Calls.


async def test_a_bot_is_found_by_its_name_verified_and_remembered(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.units[bus.unique_name] = names.mesh_unit(MESH)
        bot = bot_on(bus, MESH)
        await bus.request_name(names.worker_name(MESH))
        assert (await here.workers.status(MESH)).connected
        await here.workers.call(MESH, "RestartConnection")
        assert bot.restarts == 1
        with pytest.raises(RaveError, match="ending") as e:
            await here.workers.call(MESH, "RestartConnection")
        assert e.value.code is Code.CLOSED, "the bot's own error"
        bot.emit("Connected")
        await settle(bus, here.bus)
        assert here.heard == [(MESH, "Connected")]
        assert here.asked == [bus.unique_name]
        here.workers.forget(MESH)
        here.workers.forget(OTHER)
        await here.workers.status(MESH)
        assert here.asked == [bus.unique_name] * 2


@pytest.mark.parametrize(("said", "undelivered"), [("", True), ("I am full", None)])
async def test_a_call_that_the_bus_refuses_has_not_reached_the_bot(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, said: str, undelivered: bool | None
) -> None:
    """The bus says so in the same way as a bot would, but without a text of the bot."""

    async def refuse(*_: Any, **__: Any) -> list[Any]:
        raise RaveError(Code.BUS, "it was refused", error_name=errors.LIMITS_EXCEEDED, said=said)

    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.workers._senders[MESH] = bus.unique_name
        monkeypatch.setattr(here.workers._bus, "call", refuse)
        with pytest.raises(RaveError) as raised:
            await here.workers.status(MESH)
        assert raised.value.attributes.get("undelivered") is undelivered


async def test_a_bot_that_has_announced_itself_is_called_without_its_name(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(bus_address, monkeypatch, 2) as (here, (bus, thief)):
        here.units = {bus.unique_name: names.mesh_unit(MESH), thief.unique_name: "session-1.scope"}
        bot = bot_on(bus, MESH)
        bot.emit("Ready")
        await until(lambda: here.heard)
        stolen = bot_on(thief, MESH)
        await thief.request_name(names.worker_name(MESH))
        await here.workers.call(MESH, "RestartConnection")
        assert (bot.restarts, stolen.restarts) == (1, 0)


@pytest.mark.parametrize(
    ("owned", "unit", "text"),
    [
        (False, "", "the bot of mesh {mesh} can't be reached now (try again in some seconds)"),
        (True, "", "the bot of mesh {mesh} could not be verified: no such process"),
        (True, "session-1.scope", "another process has the name of the bot of mesh {mesh}"),
        (True, names.mesh_unit(OTHER), "another process has the name of the bot of mesh {mesh}"),
    ],
)
async def test_what_is_not_the_bot_is_not_called(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, owned: bool, unit: str, text: str
) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        bot = bot_on(bus, MESH)
        if owned:
            await bus.request_name(names.worker_name(MESH))
        if unit:
            here.units[bus.unique_name] = unit
        with pytest.raises(RaveError) as e:
            await here.workers.call(MESH, "RestartConnection")
        assert e.value.code is Code.NOT_RUNNING
        assert str(e.value) == text.format(mesh=MESH)
        assert bot.restarts == 0


# Callers.


async def test_a_caller_is_verified_once_and_its_mesh_is_known_from_then_on(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.units[bus.unique_name] = names.mesh_unit(MESH)
        bot = bot_on(bus, MESH)
        assert await here.workers.mesh_of(bus.unique_name) == MESH
        assert await here.workers.mesh_of(bus.unique_name) == MESH
        await here.workers.call(MESH, "RestartConnection")
        assert bot.restarts == 1
        assert here.asked == [bus.unique_name]


@pytest.mark.parametrize("unit", ["session-3.scope", "rave-mesh@odd.service", names.ORCHESTRATOR_UNIT])
async def test_a_caller_from_elsewhere_is_refused_and_remembered(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, unit: str
) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.units[bus.unique_name] = unit
        for _ in range(2):
            with pytest.raises(RaveError) as e:
                await here.workers.mesh_of(bus.unique_name)
            assert e.value.code is Code.ACCESS_DENIED
        assert here.asked == [bus.unique_name]
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert unit in record.getMessage()
        assert await here.workers.tell(Announcement.ADMINS) == (0, 0)


async def test_a_caller_that_cannot_be_verified_is_refused_this_time(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        with pytest.raises(RaveError) as e:
            await here.workers.mesh_of(bus.unique_name)
        assert e.value.code is Code.ACCESS_DENIED
        assert not caplog.records, "a bot could do that again and again"
        here.units[bus.unique_name] = names.mesh_unit(MESH)
        assert await here.workers.mesh_of(bus.unique_name) == MESH


async def test_a_bot_that_has_spoken_for_another_mesh_is_refused(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.units[bus.unique_name] = names.mesh_unit(MESH)
        assert await here.workers.mesh_of(bus.unique_name) == MESH
        bot_on(bus, OTHER).emit("Connected")
        await until(lambda: bus.unique_name in here.workers._rejected_senders)
        with pytest.raises(RaveError) as e:
            await here.workers.mesh_of(bus.unique_name)
        assert e.value.code is Code.ACCESS_DENIED


# Telling them all.


async def test_all_bots_are_told_at_once(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(bus_address, monkeypatch, 3) as (here, (bus, other, stranger)):
        here.units = {bus.unique_name: names.mesh_unit(MESH), other.unique_name: names.mesh_unit(OTHER)}
        bots = [bot_on(bus, MESH), bot_on(other, OTHER)]
        forged = bot_on(stranger, new_mesh())
        assert await here.workers.tell(Announcement.ADMINS) == (0, 0)
        bots[0].emit("Ready")
        await until(lambda: here.heard)
        await here.workers.mesh_of(other.unique_name)
        for bot in bots:
            bot.gate.clear()
        telling = asyncio.create_task(here.workers.tell(Announcement.ADMINS))
        await settle(here.bus, bus, other)
        assert not telling.done()
        for bot in bots:
            bot.gate.set()
        assert await telling == (2, 0)
        assert [bot.told for bot in bots] == [["RefreshAdmins"], ["RefreshAdmins"]]
        assert forged.told == []


def test_who_fails_or_hangs_or_is_gone_does_not_hold_up_the_others(
    run: Run, bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers_module, "_BROADCAST_TIMEOUT_S", 0.05)
    monkeypatch.setattr(workers_module, "_TOLD_AT_ONCE", 1)

    async def body() -> None:
        async with listening(bus_address, monkeypatch, 3) as (here, (bus, other, gone)):
            here.units = {
                bus.unique_name: names.mesh_unit(MESH),
                other.unique_name: names.mesh_unit(OTHER),
                gone.unique_name: names.mesh_unit(new_mesh()),
            }
            bot, late = bot_on(bus, MESH), bot_on(other, OTHER)
            for each in (bus, other, gone):
                await here.workers.mesh_of(each.unique_name)
            await gone.close()
            assert await here.workers.tell(Announcement.PERMISSIONS) == (0, 3)
            assert "nobody answers" in caplog.text
            bot.gate.clear()
            told, failed = await here.workers.tell(Announcement.ADMINS)
            assert (bot.told, told + failed) == ([], 3)
            # Those behind the one that hangs are notified all the same, if later.
            bot.gate.set()
            await until(lambda: bot.told and late.told)
            await until(lambda: not here.workers._tasks)

    with caplog.at_level(logging.DEBUG):
        run(body())
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG and "mesh" in record.message]


async def test_closing_stops_what_is_being_told(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.units[bus.unique_name] = names.mesh_unit(MESH)
        bot = bot_on(bus, MESH)
        await here.workers.mesh_of(bus.unique_name)
        bot.gate.clear()
        telling = asyncio.create_task(here.workers.tell(Announcement.ADMINS))
        await settle(here.bus, bus)
        await here.workers.close()
        assert await telling == (0, 1)
        assert await here.workers.tell(Announcement.ADMINS) == (0, 0)
        bot.gate.set()
        await settle(bus)


async def test_the_calls_under_way_stay_below_what_the_bus_allows(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workers_module._TOLD_AT_ONCE + workers_module._VERIFIED_AT_ONCE < 128 - 40
    monkeypatch.setattr(workers_module, "_VERIFIED_AT_ONCE", 2)

    async with connected(bus_address) as (bus,):
        workers = Workers(bus, lambda *_: None, lambda _: None)
        under_way, most, gate = 0, 0, asyncio.Event()

        async def call(*args: Any, **named: Any) -> list[Any]:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await gate.wait()
            under_way -= 1
            return [{}]

        bus.call = call  # type: ignore[method-assign]
        asking = [asyncio.create_task(workers.mesh_of(f":1.{number}")) for number in range(5)]
        await until(lambda: under_way == 2)
        gate.set()
        assert {type(result) for result in await asyncio.gather(*asking, return_exceptions=True)} == {RaveError}
        assert most == 2
        await workers.close()


# Whose process a connection is.


async def test_the_unit_of_a_connection_is_asked_by_process_descriptor(bus_address: str) -> None:
    async def body() -> None:
        async with systemd_on(bus_address) as systemd, connected(bus_address, 2) as (bus, bot):
            heard: list[tuple[Any, ...]] = []
            workers = Workers(bus, lambda mesh, member, body: heard.append((mesh, member, *body)), lambda _: None)
            await workers.start()
            sleeper = await asyncio.create_subprocess_exec("sleep", "60")
            try:
                systemd.unit_of_process = {sleeper.pid: names.mesh_unit(MESH), os.getpid(): "session-1.scope"}
                with_process_fd(bus, {bot.unique_name: sleeper.pid})
                before = open_fds()
                bot_on(bot, MESH).emit("Ready")
                await until(lambda: heard)
                assert heard == [(MESH, "Ready")]
                assert await workers._unit_of(bot.unique_name) == names.mesh_unit(MESH)
                systemd.unit_of_process.clear()
                with pytest.raises(RaveError):
                    await workers._unit_of(bot.unique_name)
                await settle(systemd.bus)
                assert open_fds() == before
            finally:
                sleeper.kill()
                await sleeper.wait()
            await workers.close()

    await body()


async def test_a_daemon_that_does_not_tell_processes_verifies_nobody(
    bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with connected(bus_address, 2) as (bus, bot):
            heard: list[Any] = []
            workers = Workers(bus, lambda *said: heard.append(said), lambda _: None)
            await workers.start()

            async def untold(*args: Any, **named: Any) -> list[Any]:
                reply = await Bus.call(bus, *args, **named)
                if args[3] == "GetConnectionCredentials":
                    reply[0].pop("ProcessFD", None)
                return reply

            bus.call = untold  # type: ignore[method-assign]
            bot_on(bot, MESH).emit("Ready")
            await settle(bot, bus)
            await until(lambda: not workers._waiting)
            assert heard == []
            assert "the message bus does not tell the process of a connection" in caplog.text
            await workers.close()


async def test_a_status_that_is_none_is_an_error(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Liar(Interface):
        interface = names.WORKER_INTERFACE

        @method(returns={"status": "s", "more": "u"})
        async def get_status(self, call: Call) -> tuple[str, int]:
            return "fine", 1

    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.units[bus.unique_name] = names.mesh_unit(MESH)
        await bus.request_name(names.worker_name(MESH))
        bus.export(names.worker_path(MESH), Liar(allow_all))
        with pytest.raises(RaveError) as e:
            await here.workers.status(MESH)
        assert e.value.code is Code.BAD_DATA


async def test_changes_that_wait_for_their_turn_are_told_once(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_TOLD_AT_ONCE", 1)

    async with listening(bus_address, monkeypatch, 2) as (here, (bus, other)):
        here.units = {bus.unique_name: names.mesh_unit(MESH), other.unique_name: names.mesh_unit(OTHER)}
        mute, bot = bot_on(bus, MESH), bot_on(other, OTHER)
        for each in (bus, other):
            await here.workers.mesh_of(each.unique_name)
        mute.gate.clear()
        telling = [asyncio.create_task(here.workers.tell(Announcement.ADMINS)) for _ in range(64)]
        await settle(here.bus, bus)
        # One call to the mute is under way, one waits in case that was too early; all wait for the other bot.
        assert len(here.workers._tasks) <= 3
        mute.gate.set()
        assert set(await asyncio.gather(*telling)) == {(2, 0)}
        assert bot.told == ["RefreshAdmins"]
        await until(lambda: not here.workers._tasks)
        assert here.workers._to_broadcast == {}


def test_a_bot_that_says_too_much_is_not_listened_to_for_a_while(
    run: Run, bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with listening(bus_address, monkeypatch, 2) as (here, (bus, other)):
            here.units = {bus.unique_name: names.mesh_unit(MESH), other.unique_name: names.mesh_unit(OTHER)}
            bot, quiet = bot_on(bus, MESH), bot_on(other, OTHER)
            for each in (bus, other):
                await here.workers.mesh_of(each.unique_name)
            for _ in range(100):
                bot.emit("Ready")
            quiet.emit("Ready")
            await settle(bus, other, here.bus)
            # Which of two connections is read first is up to the bus.
            assert sorted(here.heard) == sorted([*[(MESH, "Ready")] * 32, (OTHER, "Ready")])
            # Time passes.
            here.workers._budgets[MESH]._at -= 2
            for _ in range(10):
                bot.emit("Connected")
            await settle(bus, here.bus)
            assert here.heard[33:] == [(MESH, "Connected")] * 2
            here.workers.forget(MESH)
            assert here.workers._budgets.keys() == {OTHER}

    run(body())
    assert caplog.text.count(f"The bot of mesh {MESH} sends too many signals") == 2


def test_the_signals_are_those_of_a_worker() -> None:
    declared = {member: "".join(arguments.values()) for member, arguments in WorkerObject.signals.items()}
    assert declared == workers_module._SIGNATURES


@pytest.mark.parametrize(("member", "signature"), workers_module._SIGNATURES.items())
def test_each_signal_is_an_event(member: str, signature: str) -> None:
    values = {"s": ["a text"], "us": [3, "a text"], "su": ["a host", 3], "as": [["a text"]], "": []}
    assert read_event(member, values[signature]) is not None


@pytest.mark.slow
@pytest.mark.parametrize("verified", [True, False])
async def test_of_a_signal_that_no_bot_would_send_nothing_is_decoded(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, verified: bool
) -> None:
    """One of 60 kB took some 80 ms, and nothing bounded how many there were."""

    async def body() -> None:
        async with listening(bus_address, monkeypatch) as (here, (bus,)):
            here.units[bus.unique_name] = names.mesh_unit(MESH)
            if verified:
                await here.workers.mesh_of(bus.unique_name)
            decoded = []
            monkeypatch.setattr(connection, "decode", lambda frame, fds: decoded.append(frame) or decode(frame, fds))

            def say(member: str, signature: str, *body: Any) -> None:
                bus._emit(names.worker_path(MESH), names.WORKER_INTERFACE, member, signature, *body)

            say("Ready", "as", ["x"] * 7000)
            say("Error", "as", ["x"] * 7000)
            say("Error", "s", "x" * 60_000)
            say("CommandErrors", "as", ["x"] * 7000)
            say("CommandErrors", "as", ["x"] * 120_000)
            say("Unheard", "")
            await settle(bus, here.bus)
            assert [frame for frame in decoded if frame[1] == MessageKind.SIGNAL] == []
            say("Error", "s", "true")
            await until(lambda: here.heard == [(MESH, "Error", "true")])

    await body()


async def test_large_signals_count_for_several(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.units[bus.unique_name] = names.mesh_unit(MESH)
        await here.workers.mesh_of(bus.unique_name)
        errors = ["x" * 1200] * 16  # of the largest that a bot sends
        for _ in range(10):
            bus._emit(names.worker_path(MESH), names.WORKER_INTERFACE, "CommandErrors", "as", errors)
        await settle(bus, here.bus)
        assert here.heard == [(MESH, "CommandErrors", errors)] * 3


async def test_an_answer_that_no_bot_would_give_is_not_read(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Talker(Interface):
        interface = names.WORKER_INTERFACE

        @method(returns={"status": "a{sv}"})
        async def get_status(self, call: Call) -> dict[str, Variant]:
            return {"Title": Variant("s", "x" * 64 * 1024)}

    async with listening(bus_address, monkeypatch) as (here, (bus,)):
        here.units[bus.unique_name] = names.mesh_unit(MESH)
        await bus.request_name(names.worker_name(MESH))
        bus.export(names.worker_path(MESH), Talker(allow_all))
        with pytest.raises(RaveError) as e:
            await here.workers.status(MESH)
        assert e.value.code is Code.BAD_DATA
