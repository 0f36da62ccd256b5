"""A bot and its parent: who is asked when, what a change does, and how an admin sends the bot away."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest

from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from ravesvc.mesh import parent_sync, reconnect_policy
from ravesvc.mesh import worker as worker_module
from ravesvc.names import Announcement, ExitStatus
from ravesvc.room.room import Room
from ravesvc.simulator.mesh import SimulatedUser
from tests.unit.bot_scene import incident
from tests.unit.bot_under_test import BotUnderTest, bot_of, living
from tests.unit.bus_fakes import connected
from tests.unit.conftest import BusDaemon, until
from tests.unit.fake_parent import FakeParent, parent_on
from tests.unit.fake_systemd import settle
from tests.unit.simulator_server import Served, in_thread

pytestmark = pytest.mark.slow

Run = Callable[[Any], Any]

ANN = 100_000_001
NOT_YET = "The service behind this bot does not answer yet. Try again in a while (error "
INTERNALS = ("org.", "ravesvc", "DBus", ":1.", "/org", "Traceback")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, bus_address: str) -> None:
    monkeypatch.setattr(reconnect_policy, "_FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(parent_sync, "_SPREAD_S", 0.02)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)


@pytest.fixture
def mesh(served: Served) -> str:
    (made,) = served.control.create(title="A film")
    served.control.invite(made)
    return made


@pytest.fixture
def parent(served: Served) -> FakeParent:
    """A parent with the simulator's session, for which ann is an admin."""
    fake = FakeParent(served.session)
    fake.admin_users = {ANN}
    return fake


def another(served: Served, **changes: Any) -> Session:
    """A session that the simulator takes as well, with another token and perhaps another identity."""
    session = dataclasses.replace(served.session, auth_token="the-other-token", **changes)
    world = served.simulator.world
    world.sessions[session.auth_token] = dataclasses.replace(
        world.bot, id=session.user_id, device_id=session.device_id
    )
    return session


def peers(served: Served, mesh: str) -> list[str]:
    """The ids of the sockets in a mesh."""
    return [peer.user.peer_id for peer in served.simulator.world.mesh(mesh).peers.values() if peer.joined]


# The start.


async def test_the_parent_is_asked_before_the_mesh_is_entered_and_its_session_counts(
    served: Served, mesh: str, parent: FakeParent, bus_address: str
) -> None:
    parent.overrides = {"ping": True}
    parent.gates["GetPermissions"] = asyncio.Event()
    old = dataclasses.replace(served.session, auth_token="expired-long-ago")

    bot = BotUnderTest(served, mesh, 1, old)
    async with parent_on(bus_address, parent), living(bot):
        questions = [
            ("GetAdmins",),
            ("GetCredentials",),
            ("GetEntryPoints",),
            ("GetIgnoredUsers",),
            ("GetPermissions",),
            ("GetTriedPlugins",),
            ("ReadDocument", "settings"),
        ]
        await until(lambda: parent.waiting and ("Ready",) in bot.heard and len(parent.asked) >= len(questions))
        assert sorted(parent.asked) == questions
        assert not served.simulator.world.mesh(mesh).peers
        parent.gates["GetPermissions"].set()
        await bot.connects()
        await bot.says("Connected")
        assert bot.heard == [("Ready",), ("Connected",)]
        assert (await bot.answer("?ping", user="ann")) == ["Pong!"]
        assert "Only admins" in (await bot.answer("?ping", user="bob"))[0]
    assert served.control.violations() == [], "the old token was never used"


async def test_the_settings_of_a_room_are_taken_up_when_the_parent_tells_them_and_changed_with_it(
    served: Served, mesh: str, parent: FakeParent, bus_address: str
) -> None:
    parent.documents["settings"] = '{"lang": "de"}'
    parent.gates["ReadDocument"] = asyncio.Event()

    bot = BotUnderTest(served, mesh, 1, served.session)
    async with parent_on(bus_address, parent), living(bot):
        await bot.connects()
        assert await bot.answer("?hello", user="ann") == ["Hello, Ann!"], "until then the defaults hold"
        parent.gates["ReadDocument"].set()
        await until(lambda: bot.worker.settings.settings.lang == "de")
        assert await bot.answer("?hello", user="ann") == ["Hallo, Ann!"]
        (said,) = await bot.answer("?settings lang default", user="ann")
        assert said.startswith("Changed:")
        assert parent.documents["settings"] == "{}"


async def test_without_a_session_of_the_start_the_parents_will_do(
    served: Served, mesh: str, parent: FakeParent, bus_address: str
) -> None:
    bot = BotUnderTest(served, mesh, 1, None)
    async with parent_on(bus_address, parent), living(bot):
        await bot.connects()


@pytest.mark.parametrize("present", [False, True])
def test_without_any_session_it_ends_and_says_why(
    run: Run, served: Served, mesh: str, bus_address: str, present: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        bot = BotUnderTest(served, mesh, 3, None)
        async with parent_on(bus_address, FakeParent()) as away:
            if not present:
                await away.close()
            async with living(bot) as bus:
                assert await bot.ends() is ExitStatus.LOGIN_NEEDED
                await settle(bus)
                assert bot.words == ["Ready", "Error"]
                assert "session" in bot.heard[1][1]
                assert "ravectl login" in bot.heard[1][1]

    run(body())
    assert "The bot could not get everything" in caplog.text
    assert ("login needed" if present else "does not answer") in caplog.text
    assert served.control.violations() == [], "nothing was tried without a session"


async def test_a_silent_parent_delays_the_start_and_no_more(
    served: Served, mesh: str, parent: FakeParent, bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_PARENT_TIMEOUT_S", 0.05)
    gate = asyncio.Event()
    parent.gates = {"GetAdmins": gate, "GetCredentials": gate}

    async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, _):
        await bot.connects()
        for command in ("?listperms", "?ping"):
            assert (await bot.answer(command, user="ann"))[0].startswith(NOT_YET)
        gate.set()
        await until(lambda: bot.worker._bot.permissions)
        assert bot.worker._bot.permissions.admins == {ANN}
        assert "1 admin" in (await bot.answer("?listperms", user="ann"))[0]


async def test_while_no_parent_has_spoken_nothing_is_open_to_anybody(
    served: Served, mesh: str, parent: FakeParent, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An admin may have kept ?ping to admins."""
    parent.overrides = {"ping": True}

    with caplog.at_level(logging.INFO):
        async with bot_of(served, mesh) as (bot, _):
            await bot.connects()
            (refused,) = await bot.answer("?ping", user="bob")
            assert refused.startswith(NOT_YET)
            assert incident(refused) in caplog.text
            async with parent_on(bus_address, parent):
                await until(lambda: bot.worker._bot.permissions)
            assert "Only admins" in (await bot.answer("?ping", user="bob"))[0]


async def test_a_parent_that_says_that_nobody_knows_has_spoken(
    served: Served, mesh: str, parent: FakeParent, bus_address: str
) -> None:
    nobody_knows = RaveError(Code.STORE, "it is not known who is an admin")
    parent.failures = dict.fromkeys(("GetAdmins", "GetPermissions"), nobody_knows)

    async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, _):
        await bot.says("Connected")
        assert (await bot.answer("?ping", user="bob")) == ["Pong!"]
        assert "Only admins" in (await bot.answer("?listperms", user="ann"))[0]


# Parents that come and go.


@pytest.mark.slow
async def test_a_parent_that_comes_late_hears_of_the_bot_and_is_asked(
    served: Served, mesh: str, parent: FakeParent, bus_address: str
) -> None:
    async with bot_of(served, mesh) as (bot, _):
        await bot.says("Connected")
        number = await bot.connects()
        bot.heard.clear()
        assert (await bot.answer("?listperms", user="ann"))[0].startswith(NOT_YET)
        for admins in ({ANN}, {ANN, 5}):
            replaced = FakeParent(served.session)
            replaced.admin_users = admins
            async with parent_on(bus_address, replaced):
                await until(lambda: bot.worker._bot.permissions)
                await until(lambda admins=admins: bot.worker._bot.permissions.admins == admins)
                assert bot.heard == [("Ready",), ("Connected",)]
                bot.heard.clear()
        assert bot.worker._bot.permissions.admins == {ANN, 5}, "with the parent gone the last word counts"
        assert "2 admins" in (await bot.answer("?listperms", user="ann"))[0]
        assert await bot.connects() == number


async def test_a_change_is_in_force_when_the_bot_has_answered(
    served: Served, mesh: str, parent: FakeParent, bus_address: str
) -> None:
    async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, _):
        await bot.says("Connected")
        assert (await bot.answer("?ping", user="bob")) == ["Pong!"]
        parent.overrides = {"ping": True}
        await parent.announce(mesh, Announcement.PERMISSIONS)
        assert "Only admins" in (await bot.answer("?ping", user="bob"))[0]
        (bob,) = (user.id for user in served.simulator.world.users.values() if user.handle == "bob")
        parent.admin_users = {bob}
        await parent.announce(mesh, Announcement.ADMINS)
        assert (await bot.answer("?ping", user="bob")) == ["Pong!"]
        assert "Only admins" in (await bot.answer("?ping", user="ann"))[0]
        parent.failures["GetAdmins"] = RaveError(Code.STORE, "the database does not answer")
        with pytest.raises(RaveError) as caught:
            await parent.announce(mesh, Announcement.ADMINS)
        assert (caught.value.code, caught.value.attributes["said"]) == (
            Code.STORE,
            "the database does not answer",
        )
        assert bot.worker._bot.permissions.admins == {bob}


# Another session.


def test_another_token_leaves_the_connection_alone(
    run: Run,
    served: Served,
    mesh: str,
    parent: FakeParent,
    bus_address: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def body() -> None:
        async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, _):
            number = await bot.connects()
            await bot.says("Connected")
            await parent.announce(mesh, Announcement.CREDENTIALS)
            assert "new session" not in caplog.text, "it is the same"
            parent.session = another(served)
            del served.simulator.world.sessions[served.session.auth_token]
            await parent.announce(mesh, Announcement.CREDENTIALS)
            assert await bot.worker._names([ANN]) == {ANN: "Ann"}, "every request has the new one"
            assert await bot.connects() == number
            await in_thread(bot.control.drop, mesh)
            await in_thread(bot.control.wait, reconnected={mesh: number}, timeout=5)
            await until(lambda: bot.words == ["Ready", "Connected", "Disconnected", "Connected"])

    with caplog.at_level(logging.DEBUG):
        run(body())
    assert caplog.text.count("new session") == 1
    assert served.control.violations() == []
    assert served.session.auth_token not in caplog.text
    assert "the-other-token" not in caplog.text


@pytest.mark.parametrize("change", [{"device_id": "f" * 32}, {"user_id": 900_000_002}], ids=str)
async def test_another_identity_makes_another_connection(
    served: Served, mesh: str, parent: FakeParent, bus_address: str, change: dict[str, Any]
) -> None:
    async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, bus):
        await bot.connects()
        await bot.says("Connected")
        parent.session = another(served, **change)
        served.simulator.world.invite(
            served.simulator.world.mesh(mesh), SimulatedUser(parent.session.user_id, "other", "Other", "")
        )
        await parent.announce(mesh, Announcement.CREDENTIALS)
        await until(lambda: peers(served, mesh) == [parent.session and parent.session.peer_id])
        ended = (await in_thread(bot.control.mesh, mesh))["ended"][-1]
        assert (ended["code"], ended["by"]) == (1000, "client")
        await until(lambda: len(bot.heard) == 4)
        assert bot.words == ["Ready", "Connected", "Disconnected", "Connected"]
        await settle(bus)
        assert (await bot.answer("?ping", user="bob")) == ["Pong!"]


async def test_an_identity_that_changes_while_the_bot_is_being_let_in(
    served: Served, mesh: str, parent: FakeParent, bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = Room.open
    opened = 0

    async def slow_open(room: Room) -> None:
        nonlocal opened
        opened += 1
        await real_open(room)
        if opened == 1:
            parent.session = another(served, device_id="f" * 32)
            await parent.announce(mesh, Announcement.CREDENTIALS)

    monkeypatch.setattr(Room, "open", slow_open)

    async with parent_on(bus_address, parent), bot_of(served, mesh):
        await until(lambda: peers(served, mesh) == [f"{served.session.user_id}_{'f' * 32}"])
        assert opened == 2


async def test_a_session_that_is_refused_is_asked_for_again(
    served: Served, mesh: str, parent: FakeParent, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A login has crossed the attempt: the bot has the token of before, and the parent has not announced it yet."""

    with caplog.at_level(logging.INFO):
        async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, _):
            number = await bot.connects()
            await bot.says("Connected")
            parent.session = another(served)
            del served.simulator.world.sessions[served.session.auth_token]
            await in_thread(bot.control.drop, mesh)
            await in_thread(bot.control.wait, reconnected={mesh: number}, timeout=5)
            await until(lambda: bot.words == ["Ready", "Connected", "Disconnected", "Connected"])
    assert "has a new one" in caplog.text


@pytest.mark.parametrize("newer", [False, True])
async def test_a_session_that_is_refused_for_good_needs_a_login(
    served: Served, mesh: str, parent: FakeParent, bus_address: str, newer: bool
) -> None:
    served.control.fail("mesh", "401")
    asked = []

    async with parent_on(bus_address, parent), bot_of(served, mesh, 3) as (bot, bus):
        real = bot.worker._api.mesh

        async def crossed(mesh: str) -> Any:
            asked.append(mesh)
            if newer:
                parent.session = another(served)
            return await real(mesh)

        bot.worker._api.mesh = crossed  # type: ignore[method-assign]
        assert await bot.ends() is ExitStatus.LOGIN_NEEDED
        await settle(bus)
        assert bot.words == ["Ready", "Error"]
    assert len(asked) == (2 if newer else 1), "once more with another one, and not for ever"


# The admin commands, by way of the parent.


async def test_admin_commands_reach_the_parent(
    served: Served, mesh: str, parent: FakeParent, bus_address: str
) -> None:
    async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, _):
        await bot.says("Connected")

        def orders() -> list[tuple[Any, ...]]:
            """What it was asked to do; whether others know the form of chat is asked before each answer."""
            return [asked for asked in parent.asked if not asked[0].startswith("Get")]

        assert (await bot.answer("?admin 5", user="ann"))[0].startswith("Now an admin")
        assert orders()[-1] == ("AddAdmin", ANN, 5)
        await bot.answer("?setperm ping admin", user="ann")
        assert orders()[-1][:4] == ("SetPermission", ANN, "ping", True)
        await bot.answer("?refresh", user="ann")
        assert orders()[-1] == ("Refresh", ANN)


async def test_failures_in_the_chat_are_without_internals(
    served: Served, mesh: str, parent: FakeParent, bus_daemon: BusDaemon
) -> None:
    async with connected(bus_daemon.address) as (bus,), bot_of(served, mesh) as (bot, _):
        async with parent_on(bus_daemon.address, parent):
            await bot.says("Connected")
            await until(lambda: bot.worker._bot.permissions.admins == {ANN})
            parent.failures["Refresh"] = RaveError(Code.STORE, "the database does not answer", hint="wait")
            said = await bot.answer("?refresh", user="ann")
            parent.failures["Refresh"] = RaveError(Code.INTERNAL, "internal error, see the log", incident="01234567")
            said += await bot.answer("?refresh", user="ann")
        await settle(bus)
        said += await bot.answer("?refresh", user="ann")
        bus_daemon.stop()
        await until(lambda: bot.worker._link.membership.bus is None)
        said += await bot.answer("?refresh", user="ann")
        bus_daemon.start()
    unanswered = "The service behind this bot does not answer"
    starts = ["The database does not answer", "Internal error", unanswered, unanswered]
    for text, start in zip(said, starts, strict=True):
        assert text.startswith(start)
        assert not [each for each in INTERNALS if each in text], text
    assert said[1] == "Internal error, see the log (error 01234567)", "the cause has the same id"


# Leaving.


async def test_an_admin_sends_the_bot_away(
    served: Served, mesh: str, parent: FakeParent, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, bus):
            await bot.says("Connected")
            await bot.connects()
            assert (await bot.answer("?leave", user="ann")) == ["Goodbye!"]
            assert await bot.ends() is ExitStatus.LEFT
            close = await bot.last_close()
            assert (close["code"], close["by"]) == (1000, "client")
            await settle(bus)
            assert bot.heard == [("Ready",), ("Connected",), ("Left", "an admin said so")]
            made = served.simulator.world.mesh(mesh)
            assert (made.invited, [user.handle for user in made.users()]) == (set(), ["ann"])
    assert "as an admin has ordered" in caplog.text


async def test_the_goodbye_is_out_before_anything_is_left(
    served: Served, mesh: str, parent: FakeParent, bus_address: str
) -> None:
    async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, _):
        await bot.says("Connected")
        real = bot.worker._api.leave

        async def leave(mesh: str) -> None:
            said = [event.get("text") for event in await in_thread(bot.control.events)]
            assert "Goodbye!" in said
            await real(mesh)

        bot.worker._api.leave = leave  # type: ignore[method-assign]
        await bot.answer("?leave", user="ann")
        assert await bot.ends() is ExitStatus.LEFT


async def test_whoever_may_not_leave_stays(served: Served, mesh: str, parent: FakeParent, bus_address: str) -> None:
    async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, bus):
        number = await bot.connects()
        await bot.says("Connected")
        await in_thread(bot.control.fail, "leave", "403")
        goodbye, failed = await bot.answer("?leave", user="ann", answers=2)
        assert goodbye == "Goodbye!"
        assert failed.startswith("Leaving mesh")
        await settle(bus)
        assert bot.heard == [("Ready",), ("Connected",)]
        assert await bot.connects() == number
        assert (await bot.answer("?ping", user="bob")) == ["Pong!"]
        await in_thread(bot.control.fail, "leave", "ok")
        await bot.answer("?leave", user="ann")
        assert await bot.ends() is ExitStatus.LEFT


async def test_strangers_send_nobody_away(served: Served, mesh: str, parent: FakeParent, bus_address: str) -> None:
    async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, _):
        await bot.says("Connected")
        assert "Only admins" in (await bot.answer("?leave", user="bob"))[0]
        assert not bot.running.done()


async def test_the_parent_has_the_last_word_on_who_sends_the_bot_away(
    served: Served, mesh: str, parent: FakeParent, bus_address: str
) -> None:
    """A bot may be behind: the right may have gone meanwhile."""
    parent.failures["AllowLeave"] = RaveError(Code.ACCESS_DENIED, "only admins may send the bot away")

    async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, _):
        await bot.says("Connected")
        (said,) = await bot.answer("?leave", user="ann")
        assert said.startswith("Only admins may send the bot away (error ")
        assert ("AllowLeave", ANN) in parent.asked
        assert (await bot.answer("?ping", user="bob")) == ["Pong!"]
        assert not bot.running.done()


@pytest.mark.parametrize("kicked", ["before", "after"])
async def test_only_the_first_end_counts(
    served: Served, mesh: str, parent: FakeParent, bus_address: str, kicked: str
) -> None:
    async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, bus):
        await bot.says("Connected")
        real = bot.worker._api.leave

        async def leave(mesh: str) -> None:
            await real(mesh)
            if kicked == "before":
                bot.worker.on_kicked()

        bot.worker._api.leave = leave  # type: ignore[method-assign]
        await bot.worker._departure.leave_on_order()
        bot.worker.on_kicked()
        bot.stopped.set()
        assert await bot.ends() is (ExitStatus.KICKED if kicked == "before" else ExitStatus.LEFT)
        await settle(bus)
        assert bot.words[2:] == (["Kicked"] if kicked == "before" else ["Left"])


async def test_a_server_that_cuts_the_connection_on_leaving_changes_nothing(
    served: Served, mesh: str, parent: FakeParent, bus_address: str
) -> None:
    async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, bus):
        await bot.says("Connected")
        real = bot.worker._departure.set_exit_status

        def cut_off(status: ExitStatus, signal: str, *args: str) -> None:
            real(status, signal, *args)
            assert bot.worker._room
            room = bot.worker._room
            assert room._peer
            room._peer.abort()

        bot.worker._departure.set_exit_status = cut_off  # type: ignore[method-assign]
        await bot.answer("?leave", user="ann")
        assert await bot.ends() is ExitStatus.LEFT
        await settle(bus)
        assert bot.words == ["Ready", "Connected", "Left"]
