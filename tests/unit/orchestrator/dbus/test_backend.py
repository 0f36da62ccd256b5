from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from ravesvc import names
from ravesvc.blocklist.model import MeshMemory
from ravesvc.bot.backend import EntryPoint
from ravesvc.bot.command_names import FIXED_COMMANDS
from ravesvc.bus import Bus, Call, Interface, allow_all, method
from ravesvc.common.log_fields import LogEvent
from ravesvc.common.plugin_files import FileVersion
from ravesvc.common.translation import RemoteText, load, translate
from ravesvc.common.video import Video
from ravesvc.config.media_settings import VideoOptions
from ravesvc.config.worker_settings import Session
from ravesvc.core import bot_requests
from ravesvc.core.admin_claims import Claims
from ravesvc.core.bot_requests import BotRequests
from ravesvc.core.chat_limits import ChatRules
from ravesvc.core.presence_check import PresenceCheck
from ravesvc.core.room_memory import RoomMemory
from ravesvc.core.video_requests import Videos
from ravesvc.errors import Code, RaveError
from ravesvc.media.video_list import read_videos
from ravesvc.names import Announcement
from ravesvc.orchestrator.dbus.backend import BackendObject
from ravesvc.orchestrator.worker_client import Workers
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.chat_change_log import NotRecordedError
from ravesvc.store.model import CommandPermission, Contents
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until
from tests.unit.fake_store import DOWN, FakeCopy, FakeRecord, FakeStore, admin, credentials, permission
from tests.unit.fake_systemd import MESH, OTHER

Run = Callable[[Any], Any]

ANN, BOB, EVE = 101, 102, 103
SESSION = credentials().session
assert SESSION

CHANGES = [
    ("AddAdmin", "tt", (BOB,)),
    ("RemoveAdmin", "tt", (BOB,)),
    ("IgnoreUser", "tt", (BOB,)),
    ("UnignoreUser", "tt", (BOB,)),
    ("SetPermission", "tsbs", ("ping", True, "Pongs.")),
    ("RemovePermission", "ts", ("ping",)),
    ("Refresh", "t", ()),
    ("Relogin", "t", ()),
]
VIDEOS = [
    ("SearchVideos", "ts", ("never",)),
    ("LookUpVideo", "ts", ("https://youtu.be/dQw4w9WgXcQ",)),
    ("FetchPicture", "tss", ("youtube", "dQw4w9WgXcQ")),
]
MEMORY = [
    ("ReadDocument", "s", ("queue",)),
    ("WriteDocument", "ss", ("queue", "{}")),
    ("ReadShared", "s", ("plugin-x",)),
    ("WriteShared", "sss", ("plugin-x", "{}", "")),
    ("AppendHistory", "ss", ("played", "{}")),
    ("ReadHistory", "su", ("played", 5)),
    ("ForgetUser", "t", (EVE,)),
]
READING = [
    "GetAdmins",
    "GetPermissions",
    "GetIgnoredUsers",
    "GetAttempts",
    "GetConnectAdvice",
    "GetChatForm",
    "GetEntryPoints",
    "GetTriedPlugins",
    "GetCredentials",
    "LoginEnded",
]


class FakeAccount:
    """The account as the backend sees it."""

    def __init__(self) -> None:
        self.session: Session | None = SESSION
        self.obstacle: RaveError | None = None
        self.asked: list[str] = []
        self.ended: RaveError | None = None

    async def login(self, email: str) -> int:
        self.asked.append(email)
        return 600

    async def login_ended(self) -> None:
        if self.ended:
            raise self.ended


class FakeBlocks:
    """The blocklist as the backend sees it."""

    def __init__(self) -> None:
        self.memories: dict[str, MeshMemory] = {}

    def memory(self, mesh: str) -> MeshMemory:
        return self.memories.get(mesh, MeshMemory())

    def failing_for(self, mesh: str) -> float:
        """As if it were 100 s."""
        since = self.memory(mesh).failing_since
        return 0.0 if since is None else 100.0 - since / 1000


VIDEO = Video(provider="youtube", id="dQw4w9WgXcQ", url="https://youtu.be/dQw4w9WgXcQ", title="Näver")


class FakeMedia:
    """The helper; `descriptors` are those that it has given away."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self.asked: list[tuple[str, ...]] = []

    async def search(self, words: str) -> list[Video]:
        self.asked.append(("search", words))
        return [VIDEO, VIDEO]

    async def look_up(self, link: str) -> Video:
        self.asked.append(("look_up", link))
        return VIDEO

    async def picture(self, provider: str, video_id: str) -> int:
        self.asked.append(("picture", provider, video_id))
        descriptor = os.memfd_create("picture", os.MFD_CLOEXEC)
        os.write(descriptor, b"a picture")
        self.descriptors.append(descriptor)
        return descriptor


class BotUnderTest(Interface):
    """A bot that asks again when it is told to; `known` is what it has been answered."""

    interface = names.WORKER_INTERFACE

    def __init__(self, bus: Bus, parent: Bus, mesh: str) -> None:
        super().__init__(allow_all)
        self.bus = bus
        self.parent = parent
        self.known: dict[str, Any] = {}
        bus.export(names.worker_path(mesh), self)

    async def ask(self, member: str, signature: str = "", *args: Any) -> Any:
        """What the backend answers."""
        path = names.BACKEND_PATH
        interface = names.BACKEND_INTERFACE
        answer = await self.bus.call(self.parent.unique_name, path, interface, member, signature, *args, timeout=5)
        return answer[0] if len(answer) == 1 else answer

    @method()
    async def refresh_admins(self, call: Call) -> None:
        self.known["admins"] = await self.ask("GetAdmins")

    @method()
    async def refresh_permissions(self, call: Call) -> None:
        self.known["permissions"] = await self.ask("GetPermissions")

    @method(takes={"user": "t"})
    async def forget_user(self, call: Call, user: int) -> None:
        self.known.setdefault("forgotten", []).append(user)

    @method()
    async def refresh_credentials(self, call: Call) -> None:
        self.known["credentials"] = await self.ask("GetCredentials")


class Site:
    """The backend over a store in memory, two bots, and a stranger."""

    def __init__(self, parent: Bus, bot: Bus, other: Bus, stranger: Bus, admins_by_chat: str = "admins") -> None:
        self.store = FakeStore(
            Contents(admins=(admin(ANN),), permissions=(permission("leave", requires_admin=False),))
        )
        self.state = CachedStore(
            self.store,
            self._tell,
            lambda: None,
            copy=FakeCopy(),  # type: ignore[arg-type]
            record=FakeRecord(),
            retry_s=0.005,
        )
        self.account = FakeAccount()
        self.workers = Workers(parent, lambda *_: None, lambda _: None)
        self.units = {
            bot.unique_name: names.mesh_unit(MESH),
            other.unique_name: names.mesh_unit(OTHER),
            stranger.unique_name: "session-1.scope",
        }
        self.workers._unit_of = self._unit_of  # type: ignore[method-assign]
        self.refreshed = 0
        self.blocks = FakeBlocks()
        self.claims = Claims("ask the host")
        self.present = {MESH: {ANN, BOB, EVE}, OTHER: {ANN, BOB, EVE}}
        self.rave_error: RaveError | None = None
        self.rave_asked = 0
        presence = PresenceCheck(self._users)
        self.rules = ChatRules(admins_by_chat=admins_by_chat, hourly_changes_per_mesh=10, hourly_changes=30)
        self.memory = RoomMemory(
            self.state, 3600, in_use=lambda: None, tell_forget=self._tell_forget, presence=presence
        )
        self.paused: set[str] = set()
        self.source = FakeMedia()
        requests = BotRequests(
            self.blocks,  # type: ignore[arg-type]
            self.state,
            self.account,  # type: ignore[arg-type]
            self.claims,
            self.memory,
            presence,
            self.rules,
            self._refresh,
            pause=lambda mesh: (90.0, "api.test asks for a pause") if mesh in self.paused else (0.0, ""),
            chat_form=lambda mesh: "notification",
            tried_plugins=lambda mesh: [FileVersion(f"{mesh}.py", "aa")],
        )
        self.requests = requests
        backend = BackendObject(
            self.workers,
            requests,
            Videos(self.source, VideoOptions(searches_per_user=2)),
        )
        parent.export(names.BACKEND_PATH, backend)
        self.bot = BotUnderTest(bot, parent, MESH)
        self.other = BotUnderTest(other, parent, OTHER)
        self.stranger = BotUnderTest(stranger, parent, MESH)

    async def _unit_of(self, sender: str) -> str:
        if sender not in self.units:
            raise RaveError(Code.BUS, "no such process")
        return self.units[sender]

    async def _users(self, mesh: str) -> set[int]:
        self.rave_asked += 1
        if self.rave_error:
            raise self.rave_error
        return self.present[mesh]

    async def _tell_forget(self, user: int) -> set[str]:
        return {MESH, OTHER} - await self.workers.forget_user(user)

    async def _tell(self, announcement: Announcement) -> None:
        await self.workers.tell(announcement)

    async def _refresh(self) -> None:
        self.refreshed += 1
        await self.state.refresh()


@contextlib.asynccontextmanager
async def site_on(address: str, *, loaded: bool = True, admins_by_chat: str = "admins") -> AsyncIterator[Site]:
    async with connected(address, 4) as (parent, bot, other, stranger):
        site = Site(parent, bot, other, stranger, admins_by_chat)
        if not loaded:
            site.store.failure = DOWN
        await site.state.start()
        try:
            yield site
        finally:
            site.store.failure = None
            await site.state.close()
            await site.workers.close()


async def refused(bot: BotUnderTest, member: str, signature: str = "", *args: Any) -> RaveError:
    with pytest.raises(RaveError) as e:
        await bot.ask(member, signature, *args)
    return e.value


async def test_a_bot_learns_what_it_needs_and_no_more(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        assert await site.bot.ask("GetAdmins") == [ANN]
        assert await site.bot.ask("GetPermissions") == {"leave": False}
        assert await site.bot.ask("GetCredentials") == {
            "device_id": SESSION.device_id,
            "ssaid": SESSION.ssaid,
            "user_id": SESSION.user_id,
            "auth_token": SESSION.auth_token,
        }
        assert Session.from_object(await site.bot.ask("GetCredentials")) == SESSION
        assert await site.bot.ask("GetEntryPoints") == []
        site.requests.entry_points.append(EntryPoint("greet", "greetings.commands", "1.0"))
        assert await site.bot.ask("GetEntryPoints") == [["greet", "greetings.commands", "1.0"]]
        assert await site.bot.ask("GetTriedPlugins") == [[f"{MESH}.py", "aa"]]


async def test_a_bot_learns_how_many_attempts_of_earlier_ones_have_failed(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        assert await site.bot.ask("GetAttempts") == 0
        site.blocks.memories[MESH] = MeshMemory(failures=2, failing_since=70_000, last_error="no route to host")
        assert await site.bot.ask("GetAttempts") == 2
        assert await site.other.ask("GetAttempts") == 0, "each of its own mesh"
        failures, failing_usec, *pause = await site.bot.ask("GetConnectAdvice")
        assert (failures, failing_usec, pause) == (2, 30_000_000, [0, ""])
        site.paused = {OTHER}
        assert await site.other.ask("GetConnectAdvice") == [0, 0, 90_000_000, "api.test asks for a pause"]


async def test_a_blocklist_may_tell_more_attempts_than_the_bus_takes(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        site.blocks.memories[MESH] = MeshMemory(failures=2**60)
        assert await site.bot.ask("GetAttempts") == 2**32 - 1


async def test_what_nobody_could_type_does_not_reach_a_bot(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        nul = CommandPermission(
            command="\0", requires_admin=True, description="", updated_at=admin(1).added_at, updated_by=0
        )
        site.store.contents = Contents(admins=(admin(ANN),), permissions=(nul, permission("ping")))
        await site.state.refresh()
        assert await site.bot.ask("GetPermissions") == {"ping": True}


@pytest.mark.parametrize("obstacle", [None, RaveError(Code.CONFIG, "no key"), RaveError(Code.STORE, "no store")])
async def test_without_a_session_a_bot_is_told_why(bus_address: str, obstacle: RaveError | None) -> None:
    async with site_on(bus_address) as site:
        site.account.session, site.account.obstacle = None, obstacle
        error = await refused(site.bot, "GetCredentials")
        assert error.code is (obstacle.code if obstacle else Code.LOGIN_NEEDED)


def test_a_change_in_one_mesh_is_answered_when_all_have_followed(
    run: Run, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            for bot in (site.bot, site.other):
                await bot.ask("GetAdmins")  # from then on it is known
            assert await site.bot.ask("AddAdmin", "tt", ANN, BOB) is True
            assert site.bot.known == site.other.known == {"admins": [ANN, BOB]}
            (added,) = [each for each in site.store.contents.admins if each.user_id == BOB]
            assert added.added_by == ANN
            assert await site.other.ask("AddAdmin", "tt", BOB, BOB) is False
            assert await site.other.ask("SetPermission", "tsbs", BOB, "Ping", True, "Pongs.\n") == []
            assert site.bot.known["permissions"] == {"leave": False, "ping": True}
            (ping,) = [each for each in site.store.contents.permissions if each.command == "ping"]
            assert (ping.description, ping.updated_by) == ("Pongs.?", BOB)
            assert await site.bot.ask("RemovePermission", "ts", ANN, "ping") is True
            assert await site.bot.ask("RemovePermission", "ts", ANN, "ping") is False
            assert site.other.known["permissions"] == {"leave": False}
            assert await site.bot.ask("RemoveAdmin", "tt", ANN, BOB) is True
            assert await site.bot.ask("RemoveAdmin", "tt", ANN, BOB) is False
            assert site.other.known["admins"] == [ANN]
            assert site.stranger.known == {}

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("bot_requests")]
    assert said == [
        f"User {ANN} in mesh {MESH} has made user {BOB} an admin",
        f"User {BOB} in mesh {OTHER} has set the command ping to be for admins only",
        f"User {ANN} in mesh {MESH} has undone what was set for the command ping",
        f"User {ANN} in mesh {MESH} has removed the admin {BOB}",
    ], "a line for each change, with its who and where"


async def test_videos_and_their_pictures_reach_a_bot(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        assert read_videos(await site.bot.ask("SearchVideos", "ts", EVE, "never")) == [VIDEO, VIDEO]
        assert read_videos(await site.bot.ask("LookUpVideo", "ts", EVE, VIDEO.url)) == [VIDEO]
        descriptor = await site.bot.ask("FetchPicture", "tss", EVE, *VIDEO.key)
        assert os.pread(descriptor, 100, 0) == b"a picture"
        os.close(descriptor)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(site.source.descriptors[0])
        assert site.source.asked == [("search", "never"), ("look_up", VIDEO.url), ("picture", *VIDEO.key)]
        await site.bot.ask("SearchVideos", "ts", EVE, "never")
        error = await refused(site.bot, "SearchVideos", "ts", EVE, "never")
        assert error.code is Code.RATE_LIMITED
        # What a bot claims of a user counts in its own room alone.
        await site.other.ask("SearchVideos", "ts", EVE, "never")


@pytest.mark.parametrize("member", [*READING, "AllowLeave", *(call[0] for call in (*CHANGES, *VIDEOS, *MEMORY))])
@pytest.mark.parametrize("unit", ["session-1.scope", names.ORCHESTRATOR_UNIT, None])
async def test_who_is_no_bot_gets_nothing(bus_address: str, member: str, unit: str | None) -> None:
    async with site_on(bus_address) as site:
        if unit is None:
            del site.units[site.stranger.bus.unique_name]
        else:
            site.units[site.stranger.bus.unique_name] = unit
        # Owning the name of a bot proves nothing.
        await site.stranger.bus.request_name(names.worker_name(MESH))
        changes = {name: (signature, args) for name, signature, args in [*CHANGES, ("AllowLeave", "t", ()), *VIDEOS]}
        signature, args = changes.get(member, ("", ()))
        arguments = (ANN, *args) if signature else ()
        for name, signature_, args_ in MEMORY:
            if name == member:
                signature, arguments = signature_, args_
        error = await refused(site.stranger, member, signature, *arguments)
        assert error.code is Code.ACCESS_DENIED
        assert site.store.calls == ["open", "read"]
        assert site.account.asked == []
        assert site.refreshed == 0
        assert site.source.asked == []


def test_every_method_is_among_those_tested() -> None:
    assert set(BackendObject.methods) == {
        *(*READING, "AllowLeave", "ClaimAdmin"),
        *(call[0] for call in (*CHANGES, *VIDEOS, *MEMORY)),
    }


@pytest.mark.parametrize(("member", "signature", "args"), CHANGES, ids=[change[0] for change in CHANGES])
@pytest.mark.parametrize("actor", [EVE, BOB, 0, 2**64 - 1])
async def test_a_user_who_is_no_admin_changes_nothing_whatever_their_bot_thinks(
    bus_address: str,
    caplog: pytest.LogCaptureFixture,
    member: str,
    signature: str,
    args: tuple[Any, ...],
    actor: int,
) -> None:
    async with site_on(bus_address) as site:
        former = admin(BOB)
        former = type(former)(user_id=BOB, added_by=0, added_at=former.added_at, active=False)
        site.store.contents = Contents(admins=(admin(ANN), former), permissions=site.store.contents.permissions)
        await site.state.refresh()
        error = await refused(site.bot, member, signature, actor, *args)
        assert error.code is Code.ACCESS_DENIED
        assert str(error.attributes["said"]).startswith("only admins may ")
        assert site.store.calls == ["open", "read", "read"]
        assert site.account.asked == []
        assert site.refreshed == 0
        assert f"User {actor} in mesh {MESH} may not " in caplog.text


@pytest.mark.parametrize(
    ("member", "signature", "args"),
    [*CHANGES, ("ClaimAdmin", "ts", ("AAAA-AAAA",))],
    ids=[*(change[0] for change in CHANGES), "ClaimAdmin"],
)
@pytest.mark.parametrize(
    "error",
    [
        None,
        RaveError(Code.NETWORK, "api.test can't be reached"),
        RaveError(Code.RATE_LIMITED, "api.test asks for a pause of 90 s"),
        RaveError(Code.SERVER_ERROR, "api.test answers 502"),
    ],
    ids=str,
)
async def test_a_bot_acts_for_no_admin_whom_rave_does_not_list_in_its_room(
    bus_address: str, member: str, signature: str, args: tuple[Any, ...], error: RaveError | None
) -> None:
    async with site_on(bus_address) as site:
        site.claims.issue()
        site.present[MESH], site.rave_error = {EVE}, error
        said = await refused(site.bot, member, signature, ANN, *args)
        if error:
            assert said.code in (Code.NETWORK, Code.RATE_LIMITED)
            assert "it can't be checked who is in this room" in said.message
            assert "api.test" not in said.message
        else:
            assert said.code is Code.ACCESS_DENIED
            assert "Rave does not list you" in said.message
        assert site.store.calls == ["open", "read"]
        assert (site.account.asked, site.refreshed) == ([], 0)


def test_a_bot_changes_so_much_in_an_hour_whatever_it_is(
    run: Run, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            for number in range(7):
                await site.bot.ask("AddAdmin", "tt", ANN, 1000 + number)
            await site.bot.ask("SetPermission", "tsbs", ANN, "ping", True, "")
            await site.bot.ask("Refresh", "t", ANN)
            await site.bot.ask("Relogin", "t", ANN)
            calls, logins = list(site.store.calls), list(site.account.asked)
            for member, signature, args in CHANGES:
                error = await refused(site.bot, member, signature, ANN, *args)
                assert error.code is Code.RATE_LIMITED, member
                assert translate(RemoteText(error.attributes["said"]), load("de")).startswith("von diesem Raum aus")
            assert (site.store.calls, site.account.asked) == (calls, logins)
            # Those of another mesh have their own, and who is no admin takes none of it away.
            for _ in range(30):
                assert (await refused(site.other, "Refresh", "t", EVE)).code is Code.ACCESS_DENIED
            assert await site.other.ask("AddAdmin", "tt", ANN, BOB) is True

    with caplog.at_level(logging.INFO):
        run(body())
    changes = [each for each in caplog.records if getattr(each, "rave_event", None) is LogEvent.CHANGED]
    assert [each.rave_mesh for each in changes] == [MESH] * 10 + [OTHER]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("member", "signature", "args"), CHANGES, ids=[change[0] for change in CHANGES])
def test_each_change_is_an_event_with_its_mesh(
    run: Run,
    bus_address: str,
    caplog: pytest.LogCaptureFixture,
    member: str,
    signature: str,
    args: tuple[Any, ...],
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            if member == "RemoveAdmin":
                await site.state.add_admin(BOB, 0)
            elif member == "UnignoreUser":
                await site.state.ignore_user(BOB, 0)
            elif member == "RemovePermission":
                await site.state.set_permission("ping", True, "", 0)
            await site.other.ask(member, signature, ANN, *args)

    with caplog.at_level(logging.INFO):
        run(body())
    (event,) = [each for each in caplog.records if getattr(each, "rave_event", None) is LogEvent.CHANGED]
    assert event.rave_mesh == OTHER  # type: ignore[attr-defined]
    assert f"User {ANN} in mesh {OTHER} " in event.getMessage()


def test_a_code_is_an_event_and_can_be_undone(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    """The user who reads it in the room first can use it, a bot that was taken over before all others."""

    async def body() -> None:
        async with site_on(bus_address) as site:
            assert await site.bot.ask("ClaimAdmin", "ts", EVE, site.claims.issue()) is True
            assert site.state.owners == {EVE}
            (change,) = site.state.chat_changes
            assert (change.mesh, change.user) == (MESH, EVE)
            assert await site.state.undo(change.number) is True
            assert site.state.owners == frozenset()

    with caplog.at_level(logging.INFO):
        run(body())
    (event,) = [each for each in caplog.records if getattr(each, "rave_event", None) is LogEvent.CHANGED]
    assert event.rave_mesh == MESH  # type: ignore[attr-defined]


def test_a_code_of_an_owner_changes_nothing_and_is_no_event(
    run: Run, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            await site.state.add_admin(EVE, EVE)
            assert await site.bot.ask("ClaimAdmin", "ts", EVE, site.claims.issue()) is False
            assert not site.state.chat_changes

    with caplog.at_level(logging.INFO):
        run(body())
    assert not [each for each in caplog.records if getattr(each, "rave_event", None) is LogEvent.CHANGED]


async def test_admins_remove_each_other_and_no_owner(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        await site.state.add_admin(ANN, ANN)
        await site.bot.ask("AddAdmin", "tt", ANN, BOB)
        await site.bot.ask("AddAdmin", "tt", BOB, EVE)
        error = await refused(site.bot, "RemoveAdmin", "tt", EVE, ANN)
        assert error.code is Code.ACCESS_DENIED
        assert "an owner can't be removed" in error.message
        assert await site.bot.ask("RemoveAdmin", "tt", EVE, BOB) is True
        assert site.state.admins == {ANN, EVE}


async def test_where_owners_alone_make_and_remove_admins_other_admins_do_neither(bus_address: str) -> None:
    async with site_on(bus_address, admins_by_chat="owners") as site:
        await site.state.add_admin(ANN, ANN)
        assert await site.bot.ask("AddAdmin", "tt", ANN, BOB) is True
        for member, user in (("AddAdmin", EVE), ("RemoveAdmin", BOB)):
            error = await refused(site.bot, member, "tt", BOB, user)
            assert error.code is Code.ACCESS_DENIED
            assert str(error.attributes["said"]).startswith("only owners may ")
        assert await site.bot.ask("SetPermission", "tsbs", BOB, "ping", True, "") == []
        assert await site.bot.ask("RemoveAdmin", "tt", ANN, BOB) is True


@pytest.mark.parametrize("code", [Code.UNAUTHORIZED, Code.NOT_RUNNING])
async def test_a_login_can_be_asked_for_while_rave_refuses_the_session(bus_address: str, code: Code) -> None:
    async with site_on(bus_address) as site:
        site.rave_error = RaveError(code, "no good session")
        assert await site.bot.ask("Relogin", "t", ANN) == 600
        assert (await refused(site.bot, "Relogin", "t", EVE)).code is Code.ACCESS_DENIED


@pytest.mark.parametrize(
    ("permissions", "actor", "allowed"),
    [
        # what is set for the command -> who may send the bot away
        ([], ANN, True),
        ([], BOB, False),
        ([], 0, False),
        ([permission("leave", requires_admin=True)], ANN, True),
        ([permission("leave", requires_admin=True)], BOB, False),
        ([permission("leave", requires_admin=False)], BOB, True),
        ([permission("leave", requires_admin=False)], 0, True),
        ([permission("ping", requires_admin=False)], BOB, False),
    ],
)
async def test_who_may_send_the_bot_away(
    bus_address: str,
    caplog: pytest.LogCaptureFixture,
    permissions: list[CommandPermission],
    actor: int,
    allowed: bool,
) -> None:
    with caplog.at_level(logging.INFO):
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(admin(ANN),), permissions=tuple(permissions))
            await site.state.refresh()
            # It is still the last word while the store is away.
            site.store.failure = DOWN
            with contextlib.suppress(RaveError):
                await site.state.refresh()
            if allowed:
                assert await site.bot.ask("AllowLeave", "t", actor) == []
                assert f"User {actor} sends the bot away from mesh {MESH}" in caplog.text
            else:
                error = await refused(site.bot, "AllowLeave", "t", actor)
                assert error.code is Code.ACCESS_DENIED
                assert error.attributes["said"] == "only admins may send the bot away"
                assert f"User {actor} in mesh {MESH} may not send the bot away" in caplog.text


@pytest.mark.parametrize("command", sorted(FIXED_COMMANDS))
async def test_a_fixed_command_can_not_be_changed(bus_address: str, command: str) -> None:
    async with site_on(bus_address) as site:
        for error in (
            await refused(site.bot, "SetPermission", "tsbs", ANN, command, False, ""),
            await refused(site.bot, "RemovePermission", "ts", ANN, command.upper()),
        ):
            assert error.code is Code.INVALID_ARGUMENT
            assert "can't be changed" in str(error)
        assert site.store.calls == ["open", "read"]


@pytest.mark.parametrize(
    ("member", "signature", "args"),
    [
        ("AddAdmin", "tt", (0,)),
        ("RemoveAdmin", "tt", (2**63,)),
        ("SetPermission", "tsbs", ("two words", True, "")),
        ("RemovePermission", "ts", ("",)),
    ],
)
async def test_arguments_are_checked(bus_address: str, member: str, signature: str, args: tuple[Any, ...]) -> None:
    async with site_on(bus_address) as site:
        assert (await refused(site.bot, member, signature, ANN, *args)).code is Code.INVALID_ARGUMENT
        assert site.store.calls == ["open", "read"]


async def test_the_last_admin_stays(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        error = await refused(site.bot, "RemoveAdmin", "tt", ANN, ANN)
        assert error.code is Code.LAST_ADMIN
        assert await site.bot.ask("GetAdmins") == [ANN]


async def test_while_the_store_is_away_what_is_known_serves_and_changes_are_refused(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        site.store.failure = DOWN
        with contextlib.suppress(RaveError):
            await site.state.refresh()
        assert await site.bot.ask("GetAdmins") == [ANN]
        assert await site.bot.ask("GetPermissions") == {"leave": False}
        for member, signature, args in CHANGES[:5]:
            error = await refused(site.bot, member, signature, ANN, *args)
            assert error.code is Code.STORE, member
        assert (await refused(site.bot, "AddAdmin", "tt", EVE, EVE)).code is Code.ACCESS_DENIED


async def test_while_nothing_is_known_nobody_is_an_admin(bus_address: str) -> None:
    async with site_on(bus_address, loaded=False) as site:
        for member in ("GetAdmins", "GetPermissions"):
            error = await refused(site.bot, member)
            assert error.code is Code.STORE
            assert DOWN.message in str(error)
        for member, signature, args in [*CHANGES, ("AllowLeave", "t", ())]:
            assert (await refused(site.bot, member, signature, ANN, *args)).code is Code.STORE
        assert site.account.asked == []
        assert await site.bot.ask("GetCredentials"), "those of the file"
        site.store.failure = None
        # It asked, so it is told.
        await until(lambda: site.bot.known.get("admins") == [ANN])


async def test_refresh_reads_what_somebody_else_has_changed(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        site.store.contents = Contents(admins=(admin(ANN), admin(BOB)), permissions=())
        assert await site.bot.ask("Refresh", "t", ANN) == [2, 0]
        assert site.refreshed == 1
        assert site.bot.known == {"admins": [ANN, BOB], "permissions": {}}


async def test_a_login_begins_with_the_accounts_address_and_its_end_can_be_waited_for(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        assert await site.bot.ask("Relogin", "t", ANN) == 600
        assert site.account.asked == [""]
        assert await site.bot.ask("LoginEnded") == []
        site.account.ended = RaveError(Code.NOT_CONFIRMED, "the link was not followed in time")
        error = await refused(site.bot, "LoginEnded")
        assert error.code is Code.NOT_CONFIRMED
        assert error.attributes["said"] == "the link was not followed in time"


async def test_changes_of_many_at_once_are_all_kept(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        names_ = [f"command-{number}" for number in range(20)]
        await asyncio.gather(
            *(
                (site.bot if number % 2 else site.other).ask("SetPermission", "tsbs", ANN, name, True, "")
                for number, name in enumerate(names_)
            )
        )
        expected = {"leave": False, **dict.fromkeys(names_, True)}
        assert site.bot.known["permissions"] == site.other.known["permissions"] == expected


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RaveError(Code.LAST_ADMIN, "the last admin can't be removed"), "the last admin can't be removed"),
        (
            RaveError(Code.STORE, "changes can't be saved: /var/lib/x is full", refused="changes can't be saved"),
            "changes can't be saved: the store can't be used now (error ",
        ),
        (
            RaveError(Code.FORBIDDEN, "Rave refuses", hint="check client_identity.mojo_api_key in /etc/x"),
            "Rave refuses the login (error ",
        ),
        (
            RaveError(Code.NETWORK, "mojo.example can't be reached"),
            "Rave can't be reached (error ",
        ),
        (RaveError(Code.CONFIG, "/etc/x lacks a key"), "that has failed (error "),
        (
            NotRecordedError(Code.STORE, "/var/lib/x/changes.json can't be written", file="/var/lib/x/changes.json"),
            "changes from rooms can't be noted: changes.json can't be written (error ",
        ),
    ],
)
def test_the_chat_hears_no_internals_and_the_log_does(
    caplog: pytest.LogCaptureFixture, error: RaveError, told: str
) -> None:
    with pytest.raises(RaveError) as raised, bot_requests._in_chat_words("some mesh"):
        raise error
    if str(error) == told:
        assert str(raised.value) == told
        assert caplog.text == ""
    else:
        incident = raised.value.incident
        assert f"{raised.value} (error " == told
        assert f"some mesh has failed (error {incident}): {error}" in caplog.text


async def test_a_bot_that_was_taken_over_can_not_fill_the_store(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bot_requests._MAX_ENTRIES == 500
    monkeypatch.setattr(bot_requests, "_MAX_ENTRIES", 1)

    async with site_on(bus_address) as site:
        for member, signature, args in (
            ("AddAdmin", "tt", (EVE,)),
            ("SetPermission", "tsbs", ("ping", True, "")),
        ):
            error = await refused(site.bot, member, signature, ANN, *args)
            assert error.code is Code.INVALID_ARGUMENT
            assert "as many as the chat may make" in str(error)
        # What is there already may change.
        await site.bot.ask("SetPermission", "tsbs", ANN, "leave", True, "")
        assert await site.bot.ask("AddAdmin", "tt", ANN, ANN) is False


async def test_a_code_makes_an_admin_of_whom_all_meshes_know(
    bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with site_on(bus_address) as site:
            assert await site.other.ask("GetAdmins") == [ANN]
            code = site.claims.issue()
            assert await site.bot.ask("ClaimAdmin", "ts", EVE, code.lower()) is True
            assert site.other.known["admins"] == [ANN, EVE]
            again = await refused(site.bot, "ClaimAdmin", "ts", BOB, code)
            assert again.code is Code.ACCESS_DENIED
            assert "ask the host" in str(again)
            assert code not in caplog.text
            assert code.replace("-", "") not in caplog.text


async def test_wrong_codes_count_in_all_meshes_together(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        code = site.claims.issue()
        for bot in (site.bot, site.other, site.bot, site.other, site.bot):
            assert (await refused(bot, "ClaimAdmin", "ts", EVE, "AAAA-AAAA")).code is Code.ACCESS_DENIED
        assert (await refused(site.other, "ClaimAdmin", "ts", EVE, code)).code is Code.ACCESS_DENIED
        assert site.state.admins == {ANN}


async def test_a_code_that_could_not_be_used_stays_good(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        code = site.claims.issue()
        site.store.failure = DOWN
        assert (await refused(site.bot, "ClaimAdmin", "ts", EVE, code)).code is Code.STORE
        site.store.failure = None
        await site.state.refresh()
        assert (await refused(site.bot, "ClaimAdmin", "ts", 0, code)).code is Code.INVALID_ARGUMENT
        assert (await refused(site.stranger, "ClaimAdmin", "ts", EVE, code)).code is Code.ACCESS_DENIED
        assert await site.bot.ask("ClaimAdmin", "ts", EVE, code) is True


async def test_a_room_remembers_what_its_bot_writes_and_no_bot_reads_that_of_another(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        assert await site.bot.ask("ReadDocument", "s", "queue") == [False, ""]
        await site.bot.ask("WriteDocument", "ss", "queue", '{ "a": 1 }')
        assert await site.bot.ask("ReadDocument", "s", "queue") == [True, '{"a":1}']
        assert await site.other.ask("ReadDocument", "s", "queue") == [False, ""]
        await site.bot.ask("AppendHistory", "ss", "played", '{"title":"one"}')
        (entry,) = await site.bot.ask("ReadHistory", "su", "played", 5)
        assert json.loads(entry)["title"] == "one"
        assert await site.other.ask("ReadHistory", "su", "played", 5) == []
        for text, why in (("{", "not valid JSON"), ("1", "object or list")):
            error = await refused(site.bot, "WriteDocument", "ss", "queue", text)
            assert error.code is Code.INVALID_ARGUMENT
            assert why in error.message


async def test_all_rooms_share_a_document_of_which_each_writes_the_version_it_has_read(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        assert await site.bot.ask("ReadShared", "s", "plugin-x") == ["", ""]
        assert await site.bot.ask("WriteShared", "sss", "plugin-x", '{ "a": 1 }', "") is True
        text, version = await site.other.ask("ReadShared", "s", "plugin-x")
        assert text == '{"a":1}'
        assert await site.bot.ask("WriteShared", "sss", "plugin-x", "{}", "") is False
        assert await site.other.ask("WriteShared", "sss", "plugin-x", "{}", version) is True


def test_a_user_who_wants_it_is_forgotten_everywhere_and_not_named_in_the_log(
    run: Run, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            for bot in (site.bot, site.other):
                await bot.ask("WriteDocument", "ss", "queue", f'[{{"user":{EVE}}},{{"user":{BOB}}}]')
            assert await site.bot.ask("ForgetUser", "t", EVE) == 2
            for bot in (site.bot, site.other):
                assert bot.known == {"forgotten": [EVE]}
                assert await bot.ask("ReadDocument", "s", "queue") == [True, f'[{{"user":{BOB}}}]']
            assert (await refused(site.bot, "ForgetUser", "t", 0)).code is Code.INVALID_ARGUMENT
            assert (await refused(site.bot, "ForgetUser", "t", 5)).code is Code.ACCESS_DENIED
            error = await refused(site.bot, "ForgetUser", "t", ANN)
            assert error.code is Code.INVALID_ARGUMENT
            assert translate(RemoteText(error.attributes["said"]), load("de")) == (
                "du bist Admin und kannst nicht vergessen werden (lass dir dieses Recht zuerst entziehen)"
            )

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("bot_requests")]
    assert said == [f"A user in mesh {MESH} is forgotten: 2 entries"]


async def test_a_store_that_is_away_is_told_in_words_for_the_room(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        site.store.failure = DOWN
        for member, signature, args in MEMORY:
            error = await refused(site.bot, member, signature, *args)
            assert error.code is Code.STORE
            assert "the store can't be used now" in error.message
            assert DOWN.message not in error.message


def test_an_outage_is_logged_once_and_not_whenever_a_bot_asks_for_its_memory(
    run: Run, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.failure = DOWN
            with contextlib.suppress(RaveError):
                await site.state.refresh()
            caplog.clear()
            for _ in range(2):
                error = await refused(site.bot, "ReadDocument", "s", "queue")
                assert error.code is Code.STORE
                assert error.message.endswith("the store can't be used now")

    run(body())
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
