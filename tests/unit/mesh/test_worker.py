"""The real worker against the simulator over TLS, on a private bus."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.errors import RaveError
from ravesvc.mesh import parent_sync, reconnect_policy
from ravesvc.mesh import worker as worker_module
from ravesvc.mesh.solitude import Solitude
from ravesvc.names import ExitStatus
from ravesvc.room.changes import Change, PlaybackChanged, RoomKnown, UsersJoined, UsersLeft, VideoEnded
from ravesvc.room.room import Room
from ravesvc.simulator.client import Control
from ravesvc.systemd import notify
from tests.unit.bot_under_test import EDITION, BotUnderTest, ask, bot_of
from tests.unit.bus_fakes import connected
from tests.unit.conftest import BusDaemon, until
from tests.unit.fake_manager import FakeManager
from tests.unit.fake_parent import FakeParent, parent_on
from tests.unit.fake_systemd import settle
from tests.unit.simulator_server import Served, in_thread

Run = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, bus_address: str) -> None:
    monkeypatch.setattr(reconnect_policy, "_FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(parent_sync, "_SPREAD_S", 0.02)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)


@pytest.fixture
def every_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """No status waits for the end of a second, in which another may replace it."""
    monkeypatch.setattr(notify, "STATUS_INTERVAL_S", 0.0)


@pytest.fixture
def mesh(served: Served) -> str:
    (made,) = served.control.create(title="A film")
    served.control.invite(made)
    return made


def parent_of(served: Served) -> contextlib.AbstractAsyncContextManager[Bus]:
    """A parent that knows no admins and nothing in particular."""
    return parent_on(os.environ["DBUS_SYSTEM_BUS_ADDRESS"], FakeParent(served.session))


@pytest.mark.slow
async def test_what_the_server_does_not_show_is_counted(served: Served, mesh: str, manager: FakeManager) -> None:
    async with parent_of(served), bot_of(served, mesh) as (bot, bus):
        await bot.connects()
        await bot.says("Connected")
        for option, value in (("refused_methods", "chatMessage"), ("chat_form", "request")):
            await in_thread(bot.control.option, option, value)
        assert await in_thread(lambda: bot.control.chat(mesh, "?ping", wait=0.3)) == []
        # The answer, and the words for its failure.
        await manager.hears("2 users; 2 messages had no echo")
        (status,) = await ask(bus, mesh, "GetStatus")
        assert status["UnshownMessages"] == 2
        await in_thread(bot.control.option, "refused_methods", "")
        (answer,) = await bot.answer("?ping")
        assert answer.startswith("Pong")


async def test_the_form_of_chat_that_others_have_learned_saves_the_wait(served: Served, mesh: str) -> None:
    parent = FakeParent(served.session)
    parent.chat_form = "notification"

    address = os.environ["DBUS_SYSTEM_BUS_ADDRESS"]
    async with parent_on(address, parent), bot_of(served, mesh) as (bot, bus):
        await bot.connects()
        await in_thread(bot.control.option, "chat_form", "notification")
        (answer,) = await bot.answer("?ping")
        assert answer.startswith("Pong")

        async def known() -> bool:
            (status,) = await ask(bus, mesh, "GetStatus")
            return bool(status["ChatForm"] == "notification")

        while not await known():
            pass
        asked = parent.times("GetChatForm")
        assert asked >= 1
        await bot.answer("?ping")
        assert parent.times("GetChatForm") == asked, "what is known is not asked for"


@pytest.mark.usefixtures("every_status")
async def test_it_connects_says_so_everywhere_answers_and_stops(
    served: Served, mesh: str, manager: FakeManager
) -> None:
    async with parent_of(served), bot_of(served, mesh) as (bot, bus):
        number = await bot.connects()
        await bot.says("Connected")
        assert bot.heard == [("Ready",), ("Connected",)]
        assert manager.said[0] == "READY=1"
        await manager.hears("STATUS=Connected to localhost (A film), 2 users")
        assert f"STATUS=Connecting to {served.server}" in manager.said
        (answer,) = await bot.answer("?ping")
        assert answer.startswith("Pong")
        (status,) = await ask(bus, mesh, "GetStatus")
        assert 0 < status.pop("ConnectedUSec") < 60_000_000
        # Known as soon as the echo of the answer is here.
        assert status.pop("ChatForm") in ("", "request")
        assert status == {
            "Connected": True,
            "Title": "A film",
            "Server": "localhost",
            "Users": 2,
            "Reconnects": 0,
            "Attempts": 0,
            "LastError": "",
            "Plugins": [],
            "CommandErrors": [],
            "UnshownMessages": 0,
            "Debug": logging.getLogger().isEnabledFor(logging.DEBUG),
            "Version": EDITION.version,
            "SettingsDigest": EDITION.digest,
        }
        await in_thread(bot.control.join, mesh, "bob", "carl")
        await manager.hears("4 users")
        await in_thread(bot.control.part, mesh, "bob")
        await manager.hears("3 users")
        bot.stopped.set()
        assert await bot.ends() is ExitStatus.STOPPED
        close = await bot.last_close()
        assert (close["id"], close["code"], close["by"]) == (number, 1000, "client")
        assert manager.said[-2:] == ["STOPPING=1", "STATUS=Ending"]
        assert await in_thread(bot.control.violations) == []


@pytest.mark.slow
async def test_a_status_in_a_second_is_enough_for_a_room_where_users_come_and_go_all_the_time(
    served: Served, mesh: str, manager: FakeManager
) -> None:
    def churn(control: Control) -> None:
        for _ in range(50):
            control.join(mesh, "bob")
            control.part(mesh, "bob")
        control.join(mesh, "bob", "carl", "dora")

    async with parent_of(served), bot_of(served, mesh) as (bot, _):
        await bot.connects()
        await manager.hears("2 users")
        statuses, begun = len(manager.statuses), time.monotonic()
        await in_thread(churn, bot.control)
        await manager.hears("5 users")
        took = time.monotonic() - begun
        assert len(manager.statuses) - statuses <= took / notify.STATUS_INTERVAL_S + 1


@pytest.mark.parametrize("close", ["after", "before", "not"])
async def test_a_kick_is_said_and_is_the_exit_status(served: Served, mesh: str, close: str) -> None:
    async with bot_of(served, mesh, 3) as (bot, bus):
        await bot.connects()
        await in_thread(bot.control.kick, mesh, close=close)
        assert await bot.ends() is ExitStatus.KICKED
        await settle(bus)
        members = [member for member, *_ in bot.heard]
        assert members.count("Kicked") == 1
        if close != "before":
            # At once and last of all; when the server closes first, the next connection tells.
            assert members == ["Ready", "Connected", "Kicked"]


async def test_a_kick_outweighs_a_stop_at_the_same_time(
    served: Served, mesh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bot_of(served, mesh) as (bot, _):
        await bot.connects()
        real = bot.worker.on_kicked

        def stop_too() -> None:
            real()
            bot.stopped.set()

        monkeypatch.setattr(bot.worker, "on_kicked", stop_too)
        await in_thread(bot.control.kick, mesh, close="not")
        assert await bot.ends() is ExitStatus.KICKED


@pytest.mark.slow
async def test_it_leaves_when_the_last_human_has_left_and_stays_invited(served: Served, mesh: str) -> None:
    async with bot_of(served, mesh) as (bot, _):
        bot.worker._departure._solitude = Solitude(0.3)
        await bot.connects()
        await bot.says("Connected")
        await in_thread(bot.control.join, mesh, "bob")
        await in_thread(bot.control.part, mesh, "ann")
        await until(lambda: bot.worker.status().users == 2)
        assert bot.worker._departure._solitude.leave_at is None
        await in_thread(bot.control.part, mesh, "bob")
        assert await bot.ends() is ExitStatus.ALONE
        assert ("Left", "it was alone there") in bot.heard
        assert (await bot.last_close())["code"] == 1000
        state = await in_thread(bot.control.mesh, mesh)
        assert state["invited"], "the invitation stays"
        assert await in_thread(bot.control.violations) == []


async def test_it_stays_when_somebody_returns_and_counts_over_connections(served: Served, mesh: str) -> None:
    async with bot_of(served, mesh) as (bot, _):
        bot.worker._departure._solitude = solitude = Solitude(60)
        await bot.connects()
        await bot.says("Connected")
        await in_thread(bot.control.part, mesh, "ann")
        await until(lambda: solitude.leave_at)
        before = solitude.leave_at
        bot.worker.reconnect()
        await until(lambda: bot.words.count("Connected") == 2)
        assert solitude.leave_at == before
        assert bot.worker._departure._timer
        await in_thread(bot.control.join, mesh, "ann")
        await until(lambda: solitude.leave_at is None)
        assert bot.worker._departure._timer is None
        bot.stopped.set()
        assert await bot.ends() is ExitStatus.STOPPED


@pytest.mark.slow
async def test_it_stays_in_a_room_that_was_empty_when_it_came(served: Served, mesh: str) -> None:
    served.control.part(mesh, "ann")
    async with bot_of(served, mesh) as (bot, _):
        bot.worker._departure._solitude = Solitude(0.05)
        await bot.connects()
        await bot.says("Connected")
        await asyncio.sleep(0.3)
        assert bot.worker._departure._solitude.leave_at is None
        assert not bot.running.done()


async def test_an_end_outweighs_a_stop_at_the_same_time(served: Served, mesh: str) -> None:
    served.control.remove(mesh)
    async with bot_of(served, mesh) as (bot, _):
        real = bot.worker._connections._failed

        def stop_too(*args: Any) -> ExitStatus | None:
            bot.stopped.set()
            return real(*args)

        bot.worker._connections._failed = stop_too  # type: ignore[method-assign]
        assert await bot.ends() is ExitStatus.GONE


async def test_a_mesh_that_is_gone_from_the_start(served: Served, mesh: str) -> None:
    served.control.remove(mesh)
    async with bot_of(served, mesh, 3) as (bot, bus):
        assert await bot.ends() is ExitStatus.GONE
        await settle(bus)
        assert bot.heard == [("Ready",), ("Left", "the mesh is gone")]


async def test_a_mesh_that_goes_while_we_are_in_it(served: Served, mesh: str) -> None:
    async with bot_of(served, mesh, 3) as (bot, bus):
        await bot.connects()
        await in_thread(bot.control.remove, mesh)
        assert await bot.ends() is ExitStatus.GONE
        await settle(bus)
        assert [member for member, *_ in bot.heard] == ["Ready", "Connected", "Disconnected", "Left"]


@pytest.mark.usefixtures("every_status")
def test_after_so_many_attempts_it_gives_up(
    run: Run, served: Served, mesh: str, manager: FakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        served.control.refuse(mesh, status=503)
        async with bot_of(served, mesh, 2) as (bot, bus):
            assert await bot.ends() is ExitStatus.UNREACHABLE
            await settle(bus)
            assert [said[:2] for said in bot.heard] == [
                ("Ready",),
                ("ConnectionFailed", 1),
                ("ConnectionFailed", 2),
            ]
            assert "503" in bot.heard[-1][2]
            assert any(re.match(r"STATUS=Not connected, next attempt in 0 s: .*503", said) for said in manager.said)

    with caplog.at_level(logging.DEBUG):
        run(body())
    assert served.session.auth_token not in caplog.text


@pytest.mark.usefixtures("every_status")
async def test_what_it_waits_for_is_in_its_status_and_why_after_the_first_attempt(
    served: Served, mesh: str, manager: FakeManager
) -> None:
    served.control.fail("mesh", "503", times=1)
    async with parent_of(served), bot_of(served, mesh) as (bot, _):
        await manager.hears(f"STATUS=Asking localhost: reading mesh {mesh}")
        why = "the server has a problem (HTTP 503)"
        failed = f"STATUS=reading mesh {mesh} failed: {why}; next attempt in 1 s"
        await manager.hears(failed)
        await bot.connects()
        await manager.hears("STATUS=Connected to localhost")
        await bot.answer("?info")
        said = [text for text in manager.said if text.startswith("STATUS=")]
        assert said[0] == "STATUS=Asking the orchestrator for session and permissions"
        assert [failed in text for text in said[:4]] == [False, False, True, False]
        assert not any("Asking" in text for text in said[4:]), "names are looked up while it is connected"


@pytest.mark.parametrize("how", [{"status": 403}, {"after_open": 0.0}], ids=["upgrade", "after-open"])
async def test_a_server_that_does_not_want_us_is_told_apart(served: Served, mesh: str, how: dict[str, Any]) -> None:
    served.control.refuse(mesh, **how)
    async with bot_of(served, mesh, 2) as (bot, bus):
        assert await bot.ends() is ExitStatus.REJECTED
        await settle(bus)
        failures = [said[1] for said in bot.heard if said[0] == "ConnectionFailed"]
        assert failures == [1, 2]


async def test_shown_out_soon_after_the_connection_counts_as_a_rejection(served: Served, mesh: str) -> None:
    async with bot_of(served, mesh, 1) as (bot, bus):
        await bot.connects()
        await bot.says("Connected")
        await in_thread(bot.control.close, mesh, 4000)
        assert await bot.ends() is ExitStatus.REJECTED
        await settle(bus)
        assert [said[0] for said in bot.heard[2:]] == ["Disconnected", "ConnectionFailed"]


async def test_a_refused_session_needs_a_login(served: Served, mesh: str) -> None:
    served.control.fail("mesh", "401")
    async with bot_of(served, mesh, 3) as (bot, bus):
        assert await bot.ends() is ExitStatus.LOGIN_NEEDED
        await settle(bus)
        assert [member for member, *_ in bot.heard] == ["Ready", "Error"]


async def test_a_mesh_without_a_server_is_tried_again(
    served: Served, mesh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bot_of(served, mesh, 1) as (bot, bus):
        real = bot.worker._api.mesh

        async def without_server(mesh: str) -> Any:
            return dataclasses.replace(await real(mesh), server=None)

        monkeypatch.setattr(bot.worker._api, "mesh", without_server)
        assert await bot.ends() is ExitStatus.UNREACHABLE
        await settle(bus)
        assert bot.heard[-1] == ("ConnectionFailed", 1, "Rave names no server for the mesh")


async def test_a_mesh_on_a_port_that_bots_may_not_connect_to_is_told_with_the_option(
    served: Served, mesh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bot_of(served, mesh, 1) as (bot, bus):
        real = bot.worker._api.mesh

        async def elsewhere(mesh: str) -> Any:
            return dataclasses.replace(await real(mesh), server="room.test:25")

        monkeypatch.setattr(bot.worker._api, "mesh", elsewhere)
        assert await bot.ends() is ExitStatus.UNREACHABLE
        await settle(bus)
        port = served.server.partition(":")[2]
        assert bot.heard[-1] == (
            "ConnectionFailed",
            1,
            f"can't connect to room.test:25: bots connect to port {port} alone"
            " (add 25 to connect_ports in rave.yaml, then restart rave-orchestrator and run ravectl roll)",
        )


async def test_a_lost_connection_is_replaced(served: Served, mesh: str, manager: FakeManager) -> None:
    async with parent_of(served), bot_of(served, mesh) as (bot, bus):
        first = await bot.connects()
        await bot.says("Connected")
        await in_thread(bot.control.drop, mesh)
        await in_thread(bot.control.wait, reconnected={mesh: first}, timeout=5)
        await until(lambda: bot.heard.count(("Connected",)) == 2)
        assert [said[0] for said in bot.heard] == ["Ready", "Connected", "Disconnected", "Connected"]
        assert "the connection broke" in bot.heard[2][1]
        (status,) = await ask(bus, mesh, "GetStatus")
        assert (status["Connected"], status["Reconnects"], status["LastError"]) == (True, 1, "")
        assert (await bot.answer("?ping"))[0].startswith("Pong")


@pytest.mark.parametrize("first_state", ["after", "before"])
async def test_each_connection_tells_the_bot_what_plays_and_then_what_changes(
    served: Served, mesh: str, first_state: str
) -> None:
    served.control.option("first_state", first_state)
    told: list[Change] = []
    # Depending on the order, our own coming is heard of.
    company = (UsersJoined, UsersLeft)

    def last(kind: type[Change]) -> bool:
        return bool(told) and isinstance(told[-1], kind)

    async with parent_of(served), bot_of(served, mesh) as (bot, _):
        bot.worker._bot.watch(lambda change: told.append(change) if not isinstance(change, company) else None)
        number = await bot.connects()
        await until(lambda: last(RoomKnown))
        await in_thread(bot.control.playback, mesh, "pause", position=9)
        await until(lambda: last(PlaybackChanged))
        learned = bot.worker._connections._server_clock
        assert learned.known
        await in_thread(bot.control.drop, mesh)
        await in_thread(bot.control.wait, reconnected={mesh: number}, timeout=5)
        await until(lambda: last(RoomKnown))
        assert isinstance(known := told[-1], RoomKnown)
        assert known.state.playback
        assert (known.state.playback.status, known.state.playback.position) == ("PAUS", 9)
        assert bot.worker._connections._server_clock is learned
        await in_thread(bot.control.video, mesh)
        await until(lambda: last(VideoEnded))
        assert [type(change) for change in told] == [RoomKnown, PlaybackChanged, RoomKnown, VideoEnded]


async def test_restart_connection_opens_another(served: Served, mesh: str) -> None:
    async with parent_of(served), bot_of(served, mesh) as (bot, bus):
        first = await bot.connects()
        await bot.says("Connected")
        await ask(bus, mesh, "RestartConnection")
        await in_thread(bot.control.wait, reconnected={mesh: first}, timeout=5)
        ended = (await in_thread(bot.control.mesh, mesh))["ended"][-1]
        assert (ended["code"], ended["reason"], ended["by"]) == (1000, "Reconnecting", "client")
        assert (await bot.answer("?ping"))[0].startswith("Pong")


async def test_restart_connection_ends_the_wait_for_the_next_attempt(
    served: Served, mesh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect_policy, "_FIRST_DELAY_S", 60.0)

    served.control.refuse(mesh, status=503)
    async with bot_of(served, mesh, 3) as (bot, bus):
        await until(lambda: [said[0] for said in bot.heard] == ["Ready", "ConnectionFailed"])
        (status,) = await ask(bus, mesh, "GetStatus")
        assert (status["Connected"], status["Attempts"], status["Users"]) == (False, 1, 0)
        assert status["ConnectedUSec"] == 0
        await in_thread(bot.control.accept, mesh)
        await ask(bus, mesh, "RestartConnection")
        await bot.connects()
        await bot.says("Connected")
        # Whether this one lasts is not known yet.
        (status,) = await ask(bus, mesh, "GetStatus")
        assert (status["Connected"], status["Attempts"]) == (True, 1)
        monkeypatch.setattr(worker_module, "STABLE_AFTER_S", 0.0)
        (status,) = await ask(bus, mesh, "GetStatus")
        assert status["Attempts"] == 0


async def test_attempts_of_earlier_processes_count(served: Served, mesh: str) -> None:
    served.control.refuse(mesh, status=503)
    parent = FakeParent(served.session)
    parent.attempts = 2
    async with parent_on(os.environ["DBUS_SYSTEM_BUS_ADDRESS"], parent), bot_of(served, mesh, 3) as (bot, _):
        assert await bot.ends() is ExitStatus.UNREACHABLE
        await until(lambda: len(bot.heard) == 2)
        assert [said[:2] for said in bot.heard] == [("Ready",), ("ConnectionFailed", 3)]


async def test_an_account_that_is_in_the_mesh_already_is_told_so(served: Served, mesh: str) -> None:
    async with bot_of(served, mesh) as (bot, bus):
        await bot.connects()
        await settle(bus)
        async with bot_of(served, mesh) as (second, other):
            assert await second.ends() is ExitStatus.ELSEWHERE
            await settle(other)
            (said,) = {said[2] for said in second.heard if said[0] == "ConnectionFailed"}
            assert "the same account is in the mesh already, it is probably connected elsewhere" in said
            assert "403" in said


@pytest.mark.parametrize("where", ["api", "server"])
def test_a_pause_that_rave_asks_for_is_kept_and_told(
    run: Run, served: Served, mesh: str, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    async def body() -> None:
        if where == "api":
            served.control.fail("mesh", "429", retry_after=600)
        else:
            served.control.refuse(mesh, status=429)
        async with bot_of(served, mesh, 1) as (bot, bus):
            await until(lambda: len(bot.heard) == 2)
            await settle(bus)
            seconds = 600 if where == "api" else 30
            assert bot.heard == [("Ready",), ("RateLimited", "localhost", seconds)]
            (status,) = await ask(bus, mesh, "GetStatus")
            assert status["Attempts"] == 0
            assert status["LastError"].startswith("localhost asks for a pause until ")
            assert "429" in status["LastError"]

    run(body())
    assert caplog.text.count("No connection") == 1


async def test_the_bot_asks_for_nothing_during_a_pause_either(served: Served, mesh: str) -> None:
    async with bot_of(served, mesh) as (bot, bus):
        await bot.connects()
        served.control.fail("users", "429", retry_after=600)
        with pytest.raises(RaveError, match="429"):
            await bot.worker._names([2])
        served.control.fail("users", "ok")
        with pytest.raises(RaveError, match="asks for a pause until"):
            await bot.worker._names([2])
        with pytest.raises(RaveError, match="asks for a pause until"):
            await bot.worker._bot._rave.kick(2)
        await settle(bus)
        assert bot.heard[-1] == ("RateLimited", "localhost", 600)


async def test_a_pause_that_the_parent_knows_of_comes_before_the_first_attempt(served: Served, mesh: str) -> None:
    parent = FakeParent(served.session)
    parent.pause_usec = 600_000_000
    async with (
        parent_on(os.environ["DBUS_SYSTEM_BUS_ADDRESS"], parent),
        bot_of(served, mesh, 1) as (bot, _),
    ):
        await bot.says("Disconnected", "api.test: pause")
        assert served.simulator.world.mesh(mesh).peers == {}


@pytest.mark.slow
async def test_nothing_is_asked_of_rave_while_the_parent_knows_of_a_pause(served: Served, mesh: str) -> None:
    parent = FakeParent(served.session)
    parent.pause_usec = 50_000
    async with (
        parent_on(os.environ["DBUS_SYSTEM_BUS_ADDRESS"], parent),
        bot_of(served, mesh, 1) as (bot, bus),
    ):
        await until(lambda: parent.times("GetConnectAdvice") >= 2)
        assert served.simulator.world.mesh(mesh).peers == {}
        await until(lambda: len(bot.heard) == 2)
        assert bot.heard == [("Ready",), ("Disconnected", "api.test: pause")], "said once"
        parent.pause_usec = 0
        await bot.connects()
        await settle(bus)


async def test_a_stop_while_it_is_being_let_in(served: Served, mesh: str) -> None:
    served.control.option("joined_delay", 30)
    async with bot_of(served, mesh) as (bot, _):
        await until(lambda: served.simulator.world.mesh(mesh).peers)
        bot.stopped.set()
        assert await bot.ends() is ExitStatus.STOPPED


@pytest.mark.slow
async def test_without_a_bus_the_mesh_is_served_and_the_bot_announces_itself_later(
    served: Served, mesh: str, bus_daemon: BusDaemon
) -> None:
    bus_daemon.stop()
    bot = BotUnderTest(served, mesh, 1, served.session)
    bot.running = asyncio.create_task(bot.worker.run(bot.stopped))
    number = await bot.connects()
    assert (await bot.answer("?ping"))[0].startswith("The service behind this bot does not answer yet")
    for _ in range(2):
        bus_daemon.start()
        bot.heard.clear()
        async with parent_of(served), connected(bus_daemon.address) as (bus,):
            await bus.match(f"type='signal',interface='{names.WORKER_INTERFACE}'", bot.listen)
            await bot.says("Connected")
            assert bot.heard == [("Ready",), ("Connected",)]
            (status,) = await ask(bus, mesh, "GetStatus")
            assert status["Connected"] is True
            await until(lambda: bot.worker._bot.permissions)
        bus_daemon.stop()
        assert (await bot.answer("?ping"))[0].startswith("Pong")
    assert await in_thread(bot.control.connections) == {mesh: number}
    bot.stopped.set()
    assert await bot.ends() is ExitStatus.STOPPED
    bus_daemon.start()


async def test_names_are_looked_up_for_the_bot(served: Served, mesh: str) -> None:
    async with bot_of(served, mesh) as (bot, _):
        await bot.connects()
        (ann,) = (user.id for user in served.simulator.world.users.values() if user.handle == "ann")
        assert await bot.worker._names([ann]) == {ann: "Ann"}


async def test_a_bug_in_the_life_of_a_mesh_is_a_crash_that_closes_what_is_open(
    served: Served, mesh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Room) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Room, "run", broken)

    bot = BotUnderTest(served, mesh, 1, served.session)
    with pytest.raises(ZeroDivisionError):
        await bot.worker.run(bot.stopped)
    assert (await bot.last_close())["code"] == 1000


async def test_what_is_said_just_after_the_server_let_us_in_is_heard(
    served: Served, mesh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to fullyJoined and a command may come in the same packet."""
    real_open = Room.open

    async def slow_open(room: Room) -> None:
        await real_open(room)
        await in_thread(served.control.chat, mesh, "?ping")
        # The command has arrived when a request that was sent after it is answered.
        assert (await in_thread(served.control.ask, mesh, "later"))["response"]

    monkeypatch.setattr(Room, "open", slow_open)

    async with parent_of(served), bot_of(served, mesh) as (bot, _):
        await bot.says("Connected")
        await until(lambda: any("Pong" in event.get("text", "") for event in served.control.events()))
