"""All bots in one process, against the simulator over TLS; without a message bus."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ravesvc
from ravesvc import BotManager, commands
from ravesvc.common import machine
from ravesvc.core import host_record, inventory, outages
from ravesvc.errors import Code, RaveError
from ravesvc.mesh import parent_sync, reconnect_policy
from ravesvc.mesh.connect_loop import ConnectLoop
from ravesvc.mesh.worker import Worker
from ravesvc.simulator.account import YOUTUBE_KEY
from ravesvc.single import manager as manager_module
from ravesvc.single import task_runner
from ravesvc.single.app import RoomHealth
from ravesvc.store.engines.sqlite import SqliteStore
from ravesvc.store.model import Host
from tests.unit.conftest import until
from tests.unit.connect_proxy import proxying
from tests.unit.marking import marks_its_tests
from tests.unit.simulator_server import Served, in_thread
from tests.unit.single_site import GREET, SingleSite

Run = Callable[[Any], Any]

ANN = 100_000_001

SLOW = """
import asyncio
from ravesvc.commands import command

@command("greet", "Takes its time.")
async def greet(context):
    await context.send("Wait")
    await asyncio.sleep(0.2)
    await context.send("Good day")
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect_policy, "_FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(parent_sync, "_SPREAD_S", 0.02)
    monkeypatch.setattr(inventory, "_MIN_INTERVAL_S", 0.05)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)


@pytest.fixture
@marks_its_tests("slow")
def site(tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> SingleSite:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return SingleSite(tmp_path, served)


@pytest.fixture(autouse=True)
def _forget_modules() -> Any:
    yield
    for name in [name for name in sys.modules if name.startswith("rave_commands_")]:
        del sys.modules[name]


def test_what_is_hardly_meant_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "rave.yaml"
    file.write_text("blocklist_duration: 3600000\nclient_identity: {request_hash_key: 0a}\n")
    file.parent.chmod(0o755)
    file.chmod(0o644)
    assert BotManager.from_config(file).settings.blocklist_duration == 3600000
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"{file}:1: blocklist_duration: 3600000 means 3600000 seconds, that is 41 days (")
    assert second.endswith(f"client_identity.request_hash_key (chmod 0600 {file})")


async def test_it_joins_what_it_is_invited_to_answers_and_says_goodbye(site: SingleSite) -> None:
    (other,) = await in_thread(site.control.create, title="Another")
    await in_thread(site.control.invite, other)
    manager = BotManager.from_config()
    assert manager.rooms == {}
    async with site.running(manager):
        await site.connected(site.mesh, other)
        await until(lambda: [room.state for room in manager.rooms.values()] == ["connected"] * 2)
        for mesh in site.mesh, other:
            (answer,) = await site.say("?ping", mesh=mesh)
            assert answer.startswith("Pong")
        await in_thread(site.control.uninvite, other)
        close = await site.last_close(other)
        assert (close["code"], close["by"]) == (1000, "client")
        await until(lambda: manager.rooms.keys() == {site.mesh})
        assert manager.rooms[site.mesh].state == "connected"
    close = await site.last_close()
    assert (close["code"], close["by"]) == (1000, "client")
    assert await in_thread(site.control.violations) == []
    assert manager.rooms == {}
    assert (site.state / "state.db").exists()
    assert site.state.stat().st_mode & 0o777 == 0o755, "it was there before"


async def test_the_proxy_of_the_environment_is_used(site: SingleSite, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxying() as front:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{front.port}")
        async with site.running():
            await site.connected()
    assert {request.split()[1] for request in front.asked} == {site.served.server}
    assert len(front.asked) >= 3, "the list of meshes, the mesh, its socket"


async def test_no_more_rooms_than_the_limit(site: SingleSite) -> None:
    site.configure(max_processes=1)

    (other,) = await in_thread(site.control.create)
    await in_thread(site.control.invite, other)
    async with site.running() as manager:
        await until(lambda: len(manager.rooms) == 2)
        await until(lambda: "connected" in [room.state for room in manager.rooms.values()])
        (first,) = [mesh for mesh, room in manager.rooms.items() if room.state == "connected"]
        (second,) = {site.mesh, other} - {first}
        assert manager.rooms[second].reason == "max_processes (1) is reached"
        await in_thread(site.control.kick, first)
        await site.connected(second)


async def test_strangers_invitations_take_no_more_than_the_memory_allows(
    site: SingleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: 128 * 2**20)

    more = await in_thread(site.control.create, 6)
    await in_thread(site.control.invite, more)
    async with site.running() as manager:
        await until(lambda: len(manager.rooms) == 7)
        await until(lambda: [room.state for room in manager.rooms.values()].count("connected") == 3)
        beyond = [room.reason for room in manager.rooms.values() if room.state != "connected"]
        assert beyond == ["max_processes (3) is reached"] * 4


async def test_one_user_gets_no_more_bots_than_a_share(site: SingleSite) -> None:
    site.configure(max_meshes_per_user=2)

    await in_thread(site.control.invite, await in_thread(site.control.create, 3))
    async with site.running() as manager:
        await until(lambda: len(manager.rooms) == 4)
        await until(lambda: [room.state for room in manager.rooms.values()].count("connected") == 2)
        beyond = [room.reason for room in manager.rooms.values() if room.state != "connected"]
        assert len(beyond) == 2
        assert all("max_meshes_per_user (2) is reached by user" in reason for reason in beyond)


async def test_a_kick_is_kept_and_the_mesh_not_joined_again(site: SingleSite) -> None:
    async with site.running() as manager:
        await site.connected()
        await in_thread(site.control.kick, site.mesh)
        await until(lambda: site.mesh in manager.rooms and manager.rooms[site.mesh].state == "blocked")
        assert site.blocked()[site.mesh]["reason"] == "kicked"
        assert site.blocked()[site.mesh]["blockedUntil"] is None
        await until(lambda: manager.rooms[site.mesh].last_exit == "kicked")
    await in_thread(site.control.invite, site.mesh)
    listings = (await in_thread(site.control.state))["listings"]["completed"]
    async with site.running() as manager:
        await in_thread(site.control.wait, listings=listings + 2)
        assert manager.rooms[site.mesh].reason == "the bot was kicked"
        assert await in_thread(site.control.connections) == {}


async def test_what_can_not_be_reached_is_counted_blocked_and_released(site: SingleSite) -> None:
    site.configure(max_connection_attempts=2, blocklist_duration="1s")

    (other,) = await in_thread(site.control.create)
    await in_thread(site.control.invite, other)
    await in_thread(site.control.refuse, site.mesh, status=503)
    async with site.running() as manager:
        await site.connected(other)
        await until(lambda: site.mesh in manager.rooms and manager.rooms[site.mesh].state == "blocked")
        assert site.blocked()[site.mesh]["reason"] == "connection_failures"
        await in_thread(site.control.accept, site.mesh)
        await site.connected()
        await until(lambda: manager.rooms[site.mesh].state == "connected")


async def test_while_rave_does_not_answer_no_mesh_is_to_blame(
    site: SingleSite, caplog: pytest.LogCaptureFixture
) -> None:
    site.configure(max_connection_attempts=1)

    async with site.running() as manager:
        await site.connected()
        await in_thread(site.control.fail, "discovery", "400")
        await in_thread(site.control.refuse, site.mesh, status=503)
        await until(lambda: manager._app and manager._app._service.discovery.error)
        await in_thread(site.control.drop, site.mesh)
        await until(lambda: manager.rooms[site.mesh].reason == "Rave does not answer")
        assert manager.rooms[site.mesh].state == "stopped"
        await in_thread(site.control.accept, site.mesh)
        await in_thread(site.control.fail, "discovery", "ok")
        await site.connected()
    assert site.blocked() == {}


def test_a_server_that_turns_all_away_is_no_fault_of_the_meshes(
    run: Run, site: SingleSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.configure(max_connection_attempts=1)
    monkeypatch.setattr(outages, "FIRST_DELAY_S", 0.5)

    async def body() -> None:
        meshes = [site.mesh, *await in_thread(site.control.create, 2)]
        for mesh in meshes[1:]:
            await in_thread(site.control.invite, mesh)
        async with site.running() as manager:
            await site.connected(*meshes)
            for mesh in meshes:
                await in_thread(site.control.refuse, mesh, status=403)
            await in_thread(site.control.drop, meshes)
            await until(lambda: all("all meshes" in manager.rooms[mesh].reason for mesh in meshes))
            assert site.blocked() == {}
            for mesh in meshes:
                await in_thread(site.control.accept, mesh)
            await site.connected(*meshes)
        assert site.blocked() == {}

    run(body())
    assert caplog.text.count("no mesh is blocked for that") == 1


async def test_an_account_that_runs_elsewhere_is_told_so_and_blocks_nothing(
    site: SingleSite, caplog: pytest.LogCaptureFixture
) -> None:
    site.configure(max_connection_attempts=1)

    async with site.served.open(site.mesh) as socket:
        await socket.send(json.dumps({"request": True, "id": 1, "method": "fullyJoined", "data": {}}))
        await socket.recv()
        async with site.running() as manager:
            await until(lambda: "connected to it elsewhere" in _reason(manager, site.mesh))
            assert site.blocked() == {}
    assert "the same account is in the mesh already" in caplog.text


def _reason(manager: BotManager, mesh: str) -> str:
    return manager.rooms[mesh].reason if mesh in manager.rooms else ""


async def test_a_pause_that_rave_asks_for_is_kept(site: SingleSite) -> None:
    (other,) = await in_thread(site.control.create)
    async with site.running() as manager:
        await site.connected()
        await in_thread(site.control.fail, "mesh", "429", retry_after=2)
        await in_thread(site.control.drop, [site.mesh])
        await until(lambda: "asks for a pause" in manager.rooms[site.mesh].reason)
        await in_thread(site.control.invite, other)
        await until(lambda: "asks for a pause" in _reason(manager, other))
        assert manager.rooms[other].state == "stopped"
        await in_thread(site.control.fail, "mesh", "ok")
        await site.connected(site.mesh, other)
    assert site.blocked() == {}


async def test_an_edit_of_the_blocklist_counts_from_the_next_round_on(site: SingleSite) -> None:
    async with site.running() as manager:
        await site.connected()
        file = site.state / "blocklist.json"
        entry = {"meshId": site.mesh, "reason": "operator", "blockedAt": 1, "blockedUntil": None}
        file.write_text(json.dumps({"blockedMeshes": {site.mesh: entry}}))
        assert (await site.last_close())["code"] == 1000
        await until(lambda: manager.rooms[site.mesh].state == "blocked" and "revision" in file.read_text())
        file.write_text(json.dumps({**json.loads(file.read_text()), "blockedMeshes": {}}))
        await site.connected()


async def test_the_rooms_of_friends_are_joined(site: SingleSite) -> None:
    site.configure(mesh_mode="friends")
    (room,) = await in_thread(site.control.create, kinds=["friends"])
    await in_thread(site.control.befriend, "ann")
    await in_thread(site.control.befriend, "botty", "ann")
    async with site.running() as manager:
        await site.connected(room)
        assert manager.rooms.keys() == {room}
    assert await in_thread(site.control.violations) == []


async def test_a_program_stops_one_room_and_starts_it_again(site: SingleSite) -> None:
    (other,) = await in_thread(site.control.create)
    await in_thread(site.control.invite, other)
    manager = BotManager.from_config(site.file)

    @manager.command("linger", "Takes its time to end.")
    async def linger(context: Any) -> None:
        await context.reply("I am busy")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.5)

    async with site.running(manager):
        await site.connected(site.mesh, other)
        assert await site.say("?linger") == ["I am busy"]
        await manager.stop_room(site.mesh)
        assert manager.rooms[site.mesh].state == "held", "no longer stopping when the call returns"
        assert manager.rooms[other].state == "connected"
        assert (await site.last_close())["code"] == 1000
    async with site.running(manager):
        await site.connected(other)
        assert manager.health(site.mesh).state == "held"
        await manager.start_room(site.mesh)
        await site.connected(site.mesh, other)
    assert site.blocked() == {}


async def test_a_program_unblocks_a_room_after_a_kick(site: SingleSite) -> None:
    async with site.running() as manager:
        await site.connected()
        await in_thread(site.control.kick, site.mesh)
        await until(lambda: manager.rooms[site.mesh].state == "blocked")
        # Lists that have the mesh no more: the next one that has it shows a new invitation.
        listings = (await in_thread(site.control.state))["listings"]["completed"]
        await in_thread(site.control.wait, listings=listings + 2)
        with pytest.raises(RaveError) as refused:
            await manager.start_room(site.mesh)
        assert refused.value.code is Code.BLOCKED
        assert refused.value.hint.startswith(f'BotManager.unblock("{site.mesh}") unblocks it')
        assert await manager.unblock(site.mesh)
        assert site.blocked() == {}, "it is saved when the call returns"
        await in_thread(site.control.invite, site.mesh)
        await site.connected()
        assert not await manager.unblock(site.mesh)


async def test_a_program_reads_the_health_of_one_room_and_of_all(site: SingleSite) -> None:
    (other,) = await in_thread(site.control.create)
    await in_thread(site.control.invite, other)
    manager = BotManager.from_config(site.file)
    with pytest.raises(RaveError, match="the bots do not run"):
        manager.health(site.mesh)
    async with site.running(manager):
        await site.connected(site.mesh, other)
        await until(lambda: manager.health_stats().connected == 2)
        assert manager.health(site.mesh) == RoomHealth("connected", healthy=True, reason="")
        await in_thread(site.control.kick, site.mesh)
        await until(lambda: manager.health(site.mesh).state == "blocked")
        assert manager.health(site.mesh) == RoomHealth("blocked", healthy=False, reason="the bot was kicked")
        assert manager.health_stats()._asdict() == {
            "total": 2, "healthy": 1, "unhealthy": 0, "connected": 1, "disconnected": 0, "stopped": 1
        }  # fmt: skip
        with pytest.raises(RaveError, match="there is no mesh"):
            manager.health("11111111-2222-4333-8444-555555555555")
        with pytest.raises(RaveError, match="is not a mesh id"):
            manager.health("A film")


async def test_a_program_reads_and_changes_the_settings_of_a_room(
    site: SingleSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (other,) = await in_thread(site.control.create)
    await in_thread(site.control.invite, other)
    manager = BotManager.from_config(site.file)
    with manager.registering():
        greeting = commands.setting("greeting", "What users are told", default="Hello")

        @commands.command("hey", "Greets.")
        async def hey(context: commands.Context) -> None:
            await context.reply(greeting.of(context))

    with pytest.raises(RaveError, match="the bots do not run"):
        await manager.room_settings(site.mesh)

    async def says(mesh: str) -> list[str]:
        async with asyncio.timeout(30):
            # Until the service has told it the permissions a bot runs no command.
            while "does not answer yet" in (said := await in_thread(hey_of_ann, mesh))[0]:
                pass
        return said

    def hey_of_ann(mesh: str) -> list[str]:
        return site.control.chat(mesh, "?hey", user="ann", wait=15)

    async with site.running(manager):
        await site.connected(site.mesh, other)
        changed = await manager.change_room_setting(site.mesh, "this-program.greeting", "Hi there")
        assert changed.value == "Hi there"
        assert f"this program has set this-program.greeting of mesh {site.mesh}: Hi there" in caplog.messages
        assert (await says(site.mesh), await says(other)) == (["Hi there"], ["Hello"])
        values = {each.name: each.value for each in await manager.room_settings(site.mesh)}
        assert (values["this-program.greeting"], values["lang"]) == ("Hi there", "default")
        with pytest.raises(RaveError, match="there is no setting colour"):
            await manager.change_room_setting(site.mesh, "colour", "red")
    async with site.running(manager):
        await site.connected(site.mesh, other)
        assert await says(site.mesh) == ["Hi there"]


async def test_a_mesh_that_is_gone_and_comes_back_is_joined_again(site: SingleSite) -> None:
    (other,) = await in_thread(site.control.create)
    await in_thread(site.control.invite, other)
    await in_thread(site.control.fail, "mesh", "404", times=1)
    async with site.running():
        # One of the two is told that its mesh does not exist, and the next round lists it all the same.
        await site.connected(site.mesh, other)


async def test_plugins_and_what_admins_say_hold_in_all_rooms(site: SingleSite) -> None:
    site.own("greet.py", GREET)

    (other,) = await in_thread(site.control.create)
    await in_thread(site.control.invite, other)
    async with site.running() as manager:
        await site.connected(site.mesh, other)
        assert manager._app
        (refused,) = await site.say("?refresh")
        assert "There is no admin yet: the program shows a code" in refused
        assert await site.say(f"?claim {manager.first_claim()}") == ["You are an admin now, in all rooms"]
        assert manager.first_claim() == ""
        assert await site.say("?whoami") == [f"Your user id is {ANN}, and you are an admin"]
        assert await site.say("?greet") == ["Hello, Ann!"]
        assert (await site.say("?setperm greet admin"))[0].startswith("The command greet is for admins only now")
        (refused,) = await site.say("?greet", mesh=other, user="bob")
        assert refused.startswith("Only admins may use ?greet")
        assert (await site.say("?removeperm greet"))[0].startswith("The command greet is for all users again")
        site.own("hail.py", GREET.replace("greet", "hail"))
        site.own("broken.py", "1 +")
        assert await site.say("?refresh") == [
            "Refreshed: 1 admin, 0 command permissions\n• Plugins that fail to load, as the log explains: broken.py"
        ]
        assert await site.say("?hail", mesh=other, user="bob") == ["Hello, Bob!"]
        assert (await site.say("?admin 5"))[0].startswith("Now an admin: User 5")
        assert (await site.say("?admin 5 remove"))[0].startswith("No longer an admin: User 5")
        assert (await site.say("?leave", mesh=other))[0].startswith("Goodbye!")
        await until(lambda: manager.rooms[other].state == "blocked")
        assert site.blocked()[other]["reason"] == "left"


async def test_a_program_has_plugins_read_again_and_waits_until_the_bot_has_answered(site: SingleSite) -> None:
    site.own("greet.py", GREET)
    manager = BotManager.from_config(site.file)
    with pytest.raises(RaveError, match="the bots do not run"):
        await manager.refresh()
    async with site.running(manager):
        await site.connected()
        site.own("greet.py", SLOW)
        await manager.refresh()
        await in_thread(site.control.chat, site.mesh, "?greet")
        await in_thread(site.control.ask, site.mesh, "after that message", {}, 5)
        await manager.settle(site.mesh)
        said = [each["text"] for each in await in_thread(site.control.events) if each["type"] == "chat"]
        assert said == ["?greet", "Wait", "Good day"]
        with pytest.raises(RaveError, match="does not run"):
            await manager.settle("11111111-2222-4333-8444-555555555555")


THANKS = """
from _words import thanks
from ravesvc.commands import command, on_reaction

@command("thank", "Thanks the user who asks.")
async def thank(context):
    asker = await context.member()
    await context.react("👍")
    await context.reply(f"{thanks}, {asker.mention}", mentions=[asker])

@on_reaction
async def reacted(event):
    await event.reply(f"{event.emoji} {event.replies_to_bot}")
"""


async def test_plugins_react_mention_and_share_a_file(site: SingleSite) -> None:
    site.own("_words.py", "thanks = 'Thanks'\n")
    site.own("thank.py", THANKS)
    async with site.running() as manager:
        await site.connected()
        assert await site.say("?thank") == ["Thanks, @Ann"]
        assert await in_thread(site.control.react, site.mesh, "❤️", user="bob", wait=5) == ["❤️ True"]
        events = await in_thread(site.control.events)
        assert [(each["user"], each["emoji"]) for each in events if each["type"] == "reaction"] == [
            ("botty", "👍"),
            ("bob", "❤️"),
        ]
        assert [each["mentions"] for each in events if each.get("text") == "Thanks, @Ann"] == [["Ann"]]
        site.own("_words.py", "thanks = 'Cheers'\n")
        await manager.refresh()
        assert await site.say("?thank") == ["Cheers, @Ann"]
    assert site.control.violations() == []


async def test_what_goes_wrong_behind_a_command_is_told_with_its_id(
    site: SingleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site.running() as manager:
        await site.connected()
        assert manager._app
        state = manager._app._service.state
        await manager.add_admin(ANN)

        async def fail() -> None:
            raise RaveError(Code.BAD_FILE, "/home/ann/state.db is damaged", hint="mend it")

        monkeypatch.setattr(state, "refresh", fail)
        (told,) = await site.say("?refresh")
        assert told.startswith("The store can't be used now (error ")


async def test_commands_of_the_program_are_in_all_rooms(site: SingleSite) -> None:
    manager = BotManager.from_config(site.file)
    heard: list[Any] = []

    @manager.command("add", "Adds two numbers.", cooldown=0)
    async def add(context: Any, *numbers: int) -> None:
        await context.reply(str(sum(numbers)))

    with manager.registering():

        @commands.on_connected
        async def met(event: Any) -> None:
            heard.append(event.mesh_id)

    with pytest.raises(RaveError, match="there is a command ping already: it belongs to the bot itself"):
        manager.command("ping", "Pongs.")(add)
    with pytest.raises(RaveError, match="the command add needs a description"):
        manager.command("add", "")

    async with site.running(manager):
        await site.connected()
        assert await site.say("?add 2 3") == ["5"]
        assert (await site.say("?add two"))[0].startswith("“two” is no whole number. Write ?add [numbers ...]")
        assert (await site.say("?ping"))[0].startswith("Pong")
        assert heard == [site.mesh]


def test_a_bot_that_crashes_leaves_the_others_alone_and_comes_back(
    run: Run, site: SingleSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.configure(max_process_restarts=2)
    left = {site.mesh: 2}
    real = ConnectLoop._connect_once

    async def connect_once(loop: ConnectLoop) -> Any:
        if left.get(loop.mesh, 0):
            left[loop.mesh] -= 1
            raise ZeroDivisionError
        return await real(loop)

    monkeypatch.setattr(ConnectLoop, "_connect_once", connect_once)

    async def body() -> None:
        (other,) = await in_thread(site.control.create)
        await in_thread(site.control.invite, other)
        async with site.running() as manager:
            await site.connected(site.mesh, other)
            number = (await in_thread(site.control.connections))[other]
            await until(lambda: manager.rooms[site.mesh].state == "connected")
            assert manager.rooms[site.mesh].run.restarts == 2
            left[site.mesh] = 1
            await in_thread(site.control.drop, site.mesh)
            await until(lambda: manager.rooms[site.mesh].state == "blocked")
            entry = site.blocked()[site.mesh]
            assert (entry["reason"], entry["detail"]) == (
                "crashes",
                "3 times in a row; it has crashed: ZeroDivisionError",
            )
            assert (await in_thread(site.control.connections)) == {other: number}
            assert (await site.say("?ping", mesh=other))[0].startswith("Pong")

    run(body())
    assert caplog.text.count("The bot has crashed") == 3


async def test_a_bot_that_is_kicked_and_crashes_does_not_come_back(
    site: SingleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives = 0

    async def connect_once(loop: ConnectLoop) -> Any:
        nonlocal lives
        lives += 1
        loop._link.emit("Kicked")
        raise ZeroDivisionError

    monkeypatch.setattr(ConnectLoop, "_connect_once", connect_once)

    async with site.running() as manager:
        await until(lambda: site.mesh in manager.rooms and manager.rooms[site.mesh].state == "blocked")
        assert site.blocked()[site.mesh]["reason"] == "kicked"
        assert manager.rooms[site.mesh].last_exit == "stopped"
    assert lives == 1


async def test_a_bot_is_stopped_while_it_waits_after_a_crash(
    site: SingleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.configure(process_restart_delay="1h")

    async def connect_once(loop: ConnectLoop) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(ConnectLoop, "_connect_once", connect_once)

    async with site.running() as manager:
        await until(lambda: site.mesh in manager.rooms and manager.rooms[site.mesh].state == "restarting")
    assert site.blocked() == {}


def test_a_crash_after_a_long_life_is_the_first_one(
    run: Run, site: SingleSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.configure(max_process_restarts=1)
    monkeypatch.setattr(task_runner, "STABLE_AFTER_S", 0.0)
    crashes = 0

    async def connect_once(loop: ConnectLoop) -> Any:
        nonlocal crashes
        crashes += 1
        raise ZeroDivisionError

    monkeypatch.setattr(ConnectLoop, "_connect_once", connect_once)

    async def body() -> None:
        async with site.running():
            await until(lambda: crashes == 4)

    run(body())
    assert "The bot is started again in 0.1 s" in caplog.text
    assert "0.2 s" not in caplog.text


async def test_a_crash_while_it_is_stopped_and_a_fault_of_ours_are_no_ones_fault(
    site: SingleSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = Worker._close

    async def close(worker: Worker) -> None:
        await real(worker)
        raise ZeroDivisionError

    async def apply(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        async with site.running() as manager:
            await site.connected()
            patch.setattr(Worker, "_close", close)
    assert site.blocked() == {}
    async with site.running(manager):
        await site.connected()
        assert manager._app
        monkeypatch.setattr(manager._app._service.reconciler._exit_policy, "apply", apply)
        await in_thread(site.control.kick, site.mesh)
        await until(lambda: "internal error" in caplog.text)
        await until(lambda: manager.rooms[site.mesh].state == "blocked")


async def test_one_that_takes_too_long_to_say_goodbye_is_cut_off(
    site: SingleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.configure(shutdown_timeout="1s")
    monkeypatch.setattr(task_runner, "_STOP_GRACE_S", -0.9)

    async with site.running():
        await site.connected()
        real = Worker._close

        async def slow(worker: Worker) -> None:
            try:
                await asyncio.sleep(30)
            finally:
                await real(worker)

        monkeypatch.setattr(Worker, "_close", slow)


def test_a_bot_that_does_not_follow_is_not_waited_for(
    run: Run, site: SingleSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(task_runner, "_BROADCAST_TIMEOUT_S", 0.05)
    failures: list[BaseException | None] = [None, RaveError(Code.STORE, "away"), ZeroDivisionError()]

    async def refresh(worker: Worker, what: Any) -> None:
        failure = failures.pop(0)
        if failure:
            raise failure
        await asyncio.Event().wait()

    async def body() -> None:
        async with site.running() as manager:
            await site.connected()
            assert manager._app
            with monkeypatch.context() as patch:
                patch.setattr(Worker, "refresh", refresh)
                for _ in range(3):
                    await manager._app._runner.broadcast(task_runner.Announcement.ADMINS)

    with caplog.at_level(logging.DEBUG):
        run(body())
    assert "It has not followed: away" in caplog.text
    assert "It could not read the change" in caplog.text


async def test_without_an_account_it_says_what_to_do(site: SingleSite) -> None:
    site.credentials.unlink()

    with pytest.raises(RaveError) as raised:
        await BotManager.from_config(site.file).start()
    assert raised.value.code is Code.LOGIN_NEEDED
    assert str(raised.value) == (
        "there is no account: there are no credentials yet (log in with ravesvc --login EMAIL, "
        f"or put a credentials.json there: {site.credentials})"
    )
    site.credentials.write_text(site.served.account.credentials())
    async with site.running():
        await site.connected()


async def test_without_the_keys_or_with_a_damaged_blocklist_it_does_not_start(site: SingleSite) -> None:
    (site.state / "blocklist.json").write_text("{")

    manager = BotManager.from_config(site.file)
    with pytest.raises(RaveError) as raised:
        await manager.start()
    assert raised.value.code is Code.BAD_FILE
    assert raised.value.hint.startswith("fix it and put it back, or, to begin with an empty list on purpose")
    (site.state / "blocklist.json.saved").write_text('{"blockedMeshes": {}}')
    with pytest.raises(RaveError) as raised:
        await manager.start()
    assert (
        raised.value.hint
        == f"fix it and put it back, or copy {site.state}/blocklist.json.saved there, which was saved last"
    )
    (site.state / "blocklist.json.saved").rename(site.state / "blocklist.json")
    text = site.file.read_text()
    site.file.write_text("\n".join(line for line in text.splitlines() if "request_hash_key" not in line))
    with pytest.raises(RaveError, match=r"request_hash_key \(.*\) is not set") as raised:
        await BotManager.from_config(site.file).start()
    assert raised.value.hint.startswith("set what is missing in /")


async def test_only_one_at_a_time(site: SingleSite) -> None:
    async with site.running() as manager:
        with pytest.raises(RaveError, match="another process runs with the files in") as raised:
            await BotManager.from_config(site.file).start()
        assert raised.value.code is Code.BUSY
        assert await manager.add_admin(ANN)
        for again in manager.start, lambda: manager.login("bot@example.test"):
            with pytest.raises(RaveError, match="the bots run already"):
                await again()
    await manager.stop()
    assert not await manager.add_admin(ANN)
    with pytest.raises(RaveError, match="0 is not a user id"):
        await manager.add_admin(0)
    await BotManager.from_config(site.file).stop()


async def test_a_place_that_can_not_be_written(site: SingleSite) -> None:
    site.configure(state_path="/proc/nowhere/state.db")

    with pytest.raises(RaveError, match="/proc/nowhere can't be written: ") as raised:
        await BotManager.from_config(site.file).start()
    assert raised.value.code is Code.BAD_FILE


def test_no_configuration(site: SingleSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert manager_module.default_config() == tmp_path / ".config/ravesvc/rave.yaml"
    with pytest.raises(RaveError, match=r"/\.config/ravesvc/rave\.yaml does not exist"):
        BotManager.from_config()


async def test_a_login_then_all_as_ever(site: SingleSite, caplog: pytest.LogCaptureFixture) -> None:
    site.credentials.unlink()
    site.own("greet.py", GREET)

    with caplog.at_level(logging.INFO):
        (other,) = await in_thread(site.control.create)
        await in_thread(site.control.invite, other)
        manager = BotManager.from_config(site.file)
        entering = asyncio.create_task(manager.login("bot@example.test"))
        await in_thread(site.control.wait, mail=True)
        await until(lambda: "A mail is on its way: follow the link in it within 10 minutes" in caplog.text)
        await in_thread(site.control.confirm)
        await entering
        async with site.running(manager):
            await site.connected(site.mesh, other)
            assert await site.say("?greet") == ["Hello, Ann!"]
            assert manager._app
            await manager.add_admin(ANN)
            await in_thread(site.control.expire)
            await in_thread(site.control.drop, other)
            await until(lambda: manager.rooms[other].reason == "Rave wants a new login")
            await until(lambda: "Rave refuses the session: log in with ravesvc" in caplog.text)
            await in_thread(site.control.option, "confirm", 0)
            mailed = await in_thread(site.control.chat, site.mesh, "?relogin", user="ann", wait=20, answers=2)
            assert mailed[0].startswith("A mail with a link is on its way")
            assert mailed[1] == "Logged in again"
            await site.connected(other)


async def test_another_account_and_none(site: SingleSite, caplog: pytest.LogCaptureFixture) -> None:
    async with site.running() as manager:
        await site.connected()
        app = manager._app
        assert app
        app._service.discovery.inventory.enter("lists of another account")
        app._service._account_changed()
        assert app._service.discovery.inventory.meshes is None
        assert "what is listed takes the place of the former ones" in caplog.text
        # However often it is scheduled, the plan is carried out once.
        app._service.reconciler._apply.schedule()
        app._service.reconciler._apply.schedule()
        service = app._service
        service._login_ended(RaveError(Code.CANCELLED, "the login was cancelled"))
        app._service.account.session, app._service.account.obstacle = (
            None,
            RaveError(Code.STORE, "the store is away"),
        )
        app._service._account_changed()
        assert "No mesh is started: the store is away" in caplog.text
        assert app._service.discovery.obstacle is app._service.account.obstacle


def test_it_runs_until_a_signal(run: Run, site: SingleSite) -> None:
    async def body() -> None:
        manager = BotManager.from_config(site.file)
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            running = asyncio.create_task(manager.run())
            await site.connected()
            os.kill(os.getpid(), number)
            await running
            assert (await site.last_close())["code"] == 1000
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        running = asyncio.create_task(manager.run())
        await site.connected()
        os.kill(os.getpid(), signal.SIGHUP)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await site.last_close())["code"] == 1000
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    # Tests that run under nohup(1) inherit it ignored.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        run(body())
    finally:
        signal.signal(signal.SIGHUP, before)


def test_it_runs_in_another_thread(run: Run, site: SingleSite) -> None:
    async def inside() -> None:
        manager = BotManager.from_config(site.file)
        running = asyncio.create_task(manager.run())
        await site.connected()
        await manager.stop()
        await running

    async def body() -> None:
        await in_thread(run, inside())

    asyncio.run(body())


async def test_what_ends_it_is_raised(site: SingleSite, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(inventory.Discovery, "run", fail)

    with pytest.raises(ZeroDivisionError):
        await BotManager.from_config(site.file).run()


def test_the_package_has_nothing_else_of_that_kind() -> None:
    with pytest.raises(AttributeError, match="module 'ravesvc' has no attribute 'MeshBlocklist'"):
        _ = ravesvc.MeshBlocklist


async def test_another_host_with_the_same_database(site: SingleSite, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Host(id="2", name="elsewhere")
    registered = {"now": other}

    async def register_host(_: SqliteStore, host: Host) -> Host:
        return registered.get("now", host)

    monkeypatch.setattr(SqliteStore, "register_host", register_host)
    monkeypatch.setattr(host_record, "BEAT_S", 0.05)
    manager = BotManager.from_config(site.file)
    with pytest.raises(RaveError, match="already runs on host elsewhere") as e:
        await manager.start()
    assert e.value.code is Code.BUSY
    registered.clear()
    await manager.start()
    await site.connected()
    registered["now"] = other
    assert manager._working
    with pytest.raises(RaveError, match="already runs on host elsewhere"):
        await manager._working


async def test_a_room_remembers_and_forgets_a_user_who_wants_it(site: SingleSite) -> None:
    async with site.running() as manager:
        await site.connected()
        (said,) = await site.say("?whoami", user="bob")
        bob = int(said.removeprefix("Your user id is ").partition(",")[0])
        assert manager._app
        parent = manager._app._runner._parent(site.mesh)
        await parent.write_document("notes", f'[{{"user":{bob}}},{{"user":{ANN}}}]')
        await parent.append_history("noted", f'{{"user":{bob}}}')
    async with site.running() as manager:
        await site.connected()
        assert manager._app
        parent = manager._app._runner._parent(site.mesh)
        assert len(await parent.read_history("noted", 5)) == 1, "also after a restart"
        assert (await site.say("?forgetme", user="bob"))[0].endswith("write ?forgetme yes")
        assert await site.say("?forgetme yes", user="bob") == ["Removed: 2 entries about you"]
        assert await parent.read_document("notes") == f'[{{"user":{ANN}}}]'
        assert await parent.read_history("noted", 5) == []


async def test_videos_are_had_without_a_helper(site: SingleSite) -> None:
    key = site.file.with_name("youtube.key")
    key.write_text(YOUTUBE_KEY)

    async with site.running() as manager:
        await site.connected()
        app = manager._app
        assert app
        parent = app._runner._parent(site.mesh)
        first, *_ = await parent.search_videos(ANN, "a")
        assert first.seconds
        assert await parent.look_up_video(ANN, first.url) == first
        with await parent.fetch_picture(ANN, first) as picture:
            assert picture.mime == "image/jpeg"
    assert (site.state / "videos.db").exists()
    key.write_text("no key at all")
    async with site.running() as manager:
        app = manager._app
        assert app
        with pytest.raises(RaveError, match="key of the YouTube Data API"):
            await app._runner._parent(site.mesh).search_videos(ANN, "what was not searched for yet")
