from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from ravesvc import names
from ravesvc.bot.backend import Counts, EntryPoint
from ravesvc.bot.command_names import Permission
from ravesvc.bus import Bus, Call, Interface, Variant, allow_all, method
from ravesvc.common.plugin_files import FileVersion
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.mesh import parent_client as backend_module
from ravesvc.mesh.parent_client import ParentClient
from tests.unit import fake_youtube as youtube
from tests.unit.bus_fakes import connected
from tests.unit.conftest import BusDaemon, until
from tests.unit.fake_parent import FakeParent, parent_on
from tests.unit.room_server import SESSION

if TYPE_CHECKING:
    from ravesvc.bot.backend import Backend

Run = Callable[[Any], Any]

UNANSWERED = "the service behind this bot does not answer (try again in a while)"
SENSELESS = "the service behind this bot gives an answer that makes no sense"

VIDEO = Video(provider="youtube", id=youtube.ID, url=f"https://youtu.be/{youtube.ID}", title="Näver", seconds=213.0)

CALLS: dict[str, Callable[[ParentClient], Awaitable[Any]]] = {
    "GetAdmins": lambda parent: parent.admins(),
    "GetPermissions": lambda parent: parent.permissions(),
    "GetCredentials": lambda parent: parent.session(),
    "GetEntryPoints": lambda parent: parent.entry_points(),
    "GetTriedPlugins": lambda parent: parent.tried_plugins(),
    "AddAdmin": lambda parent: parent.add_admin(1, 2),
    "RemoveAdmin": lambda parent: parent.remove_admin(1, 2),
    "GetChatForm": lambda parent: parent.chat_form(),
    "GetIgnoredUsers": lambda parent: parent.ignored_users(),
    "ReadDocument": lambda parent: parent.read_document("queue"),
    "WriteDocument": lambda parent: parent.write_document("queue", "{}"),
    "ReadShared": lambda parent: parent.read_shared("plugin-x"),
    "WriteShared": lambda parent: parent.write_shared("plugin-x", "{}", ""),
    "AppendHistory": lambda parent: parent.append_history("played", "{}"),
    "ReadHistory": lambda parent: parent.read_history("played", 5),
    "ForgetUser": lambda parent: parent.forget_user(1),
    "IgnoreUser": lambda parent: parent.ignore_user(1, 2),
    "UnignoreUser": lambda parent: parent.unignore_user(1, 2),
    "SetPermission": lambda parent: parent.set_permission(1, "ping", Permission.ADMIN, "Answers Pong."),
    "RemovePermission": lambda parent: parent.remove_permission(1, "ping"),
    "Refresh": lambda parent: parent.refresh(1),
    "Relogin": lambda parent: parent.relogin(1),
    "SearchVideos": lambda parent: parent.search_videos(1, "never"),
    "LookUpVideo": lambda parent: parent.look_up_video(1, "https://youtu.be/x"),
    "FetchPicture": lambda parent: parent.fetch_picture(1, VIDEO),
    "AllowLeave": lambda parent: parent.allow_leave(1),
    "LoginEnded": lambda parent: parent.login_ended(),
}


@contextlib.asynccontextmanager
async def asking(address: str, parent: Interface) -> AsyncIterator[ParentClient]:
    """The backend over one connection, of a parent on another."""
    async with parent_on(address, parent), connected(address) as (bus,):
        yield ParentClient(lambda: bus)


async def failure(asked: Awaitable[Any]) -> RaveError:
    with pytest.raises(RaveError) as caught:
        await asked
    return caught.value


async def test_it_is_what_the_admin_commands_want(bus_address: str) -> None:
    fake = FakeParent()
    async with asking(bus_address, fake) as parent:
        backend: Backend = parent
        assert await backend.add_admin(1, 2) is True
        assert await backend.add_admin(1, 2) is False
        assert await backend.add_admin(1, 3) is True
        assert await backend.remove_admin(1, 2) is True
        assert await backend.remove_admin(1, 2) is False
        await backend.set_permission(1, "ping", Permission.ADMIN, "Answers Pong.")
        await backend.set_permission(1, "leave", Permission.USER, "Goes.")
        assert await backend.remove_permission(1, "ping") is True
        assert await backend.remove_permission(1, "ping") is False
        await backend.set_permission(1, "info", Permission.ADMIN, "Tells.")
        assert await backend.refresh(1) == Counts(admins=1, permissions=2)
        assert await backend.relogin(1) == 600
        await backend.login_ended()
        await backend.allow_leave(7)
    assert ("AddAdmin", 1, 3) in fake.asked
    assert ("SetPermission", 1, "ping", True, "Answers Pong.") in fake.asked
    assert ("SetPermission", 1, "leave", False, "Goes.") in fake.asked
    assert fake.asked[-3:] == [("Relogin", 1), ("LoginEnded",), ("AllowLeave", 7)]


async def test_what_the_parent_knows_is_read(bus_address: str) -> None:
    fake = FakeParent(SESSION)
    async with asking(bus_address, fake) as parent:
        assert await parent.admins() == frozenset()
        assert await parent.permissions() == {}
        fake.admin_users, fake.overrides = {5, 2**63 - 1}, {"ping": True, "leave": False}
        assert await parent.admins() == {5, 2**63 - 1}
        assert await parent.permissions() == {"ping": Permission.ADMIN, "leave": Permission.USER}
        assert await parent.session() == SESSION
        assert await parent.entry_points() == []
        fake.entry_points = [["greet", "greetings", "1.0"], ["sing", "songs", ""]]
        assert await parent.entry_points() == [
            EntryPoint("greet", "greetings", "1.0"),
            EntryPoint("sing", "songs", ""),
        ]
        fake.tried_plugins = [["greet.py", "aa"]]
        assert await parent.tried_plugins() == [FileVersion("greet.py", "aa")]


async def test_videos_and_pictures_are_read(bus_address: str) -> None:
    fake = FakeParent()
    fake.videos, fake.picture = [VIDEO, VIDEO], youtube.PNG
    async with asking(bus_address, fake) as parent:
        backend: Backend = parent
        assert await backend.search_videos(1, "never") == [VIDEO, VIDEO]
        assert await backend.look_up_video(1, VIDEO.url) == VIDEO
        with await backend.fetch_picture(1, VIDEO) as picture:
            assert (picture.mime, picture.width, picture.height) == ("image/png", 320, 180)
            assert b"".join(picture.chunks()) == youtube.PNG
        fake.picture = b"<html>"
        assert (await failure(backend.fetch_picture(1, VIDEO))).code is Code.BAD_DATA
        fake.videos = []
        assert str(await failure(backend.look_up_video(1, VIDEO.url))) == SENSELESS
    assert ("FetchPicture", 1, "youtube", youtube.ID) in fake.asked


async def test_a_room_remembers(bus_address: str) -> None:
    fake = FakeParent(SESSION)
    async with asking(bus_address, fake) as parent:
        backend: Backend = parent
        assert await backend.read_document("queue") is None
        largest = '["' + "ü" * 30718 + '"]'
        await backend.write_document("queue", largest)
        assert await backend.read_document("queue") == largest
        await backend.append_history("played", "{}")
        assert await backend.read_history("played", 5) == ["{}"]
        assert await backend.forget_user(7) == 3
        asked = len(fake.asked)
        for call in (backend.write_document("queue", largest + " "), backend.append_history("p", largest + " ")):
            error = await failure(call)
            assert (error.code, error.message) == (
                Code.INVALID_ARGUMENT,
                "a room can keep no more than 60 KiB of that",
            )
        assert len(fake.asked) == asked, "the bus would have dropped it, without a word"


@pytest.mark.parametrize("member", CALLS)
@pytest.mark.parametrize(
    ("failing", "words"),
    [
        (RaveError(Code.LAST_ADMIN, "somebody has to remain an admin", hint="make another"), "... (make another)"),
        (RaveError(Code.ACCESS_DENIED, "user 1 is no admin"), "user 1 is no admin"),
        (RaveError(Code.STORE, "the database does not answer"), "the database does not answer"),
        (RaveError(Code.TIMEOUT, "Rave did not answer in 15 s"), "Rave did not answer in 15 s"),
    ],
    ids=lambda value: value.code if isinstance(value, RaveError) else "",
)
async def test_failures_are_in_the_parents_words(
    bus_address: str, member: str, failing: RaveError, words: str
) -> None:
    fake = FakeParent(SESSION)
    fake.failures[member] = failing
    async with asking(bus_address, fake) as parent:
        error = await failure(CALLS[member](parent))
    assert (error.code, str(error)) == (failing.code, words.replace("...", failing.message))


async def test_the_id_of_the_parents_log_line_is_no_part_of_its_words(bus_address: str) -> None:
    fake = FakeParent(SESSION)
    fake.failures["Refresh"] = RaveError(Code.STORE, "the store can't be used", incident="0123abcd")
    fake.failures["Relogin"] = RaveError(Code.BUSY, "a login is under way", hint="error 0123abcd")
    async with asking(bus_address, fake) as parent:
        error = await failure(parent.refresh(1))
        assert (error.code, str(error)) == (Code.STORE, "the store can't be used")
        assert error.incident == "0123abcd"
        error = await failure(parent.relogin(1))
        assert str(error) == "a login is under way (error 0123abcd)"
        assert error.incident == ""


@pytest.mark.parametrize("member", CALLS)
async def test_without_a_parent_nobody_answers(bus_address: str, member: str) -> None:
    async with connected(bus_address) as (bus,):
        error = await failure(CALLS[member](ParentClient(lambda: bus)))
        assert (error.code, str(error)) == (Code.NOT_RUNNING, UNANSWERED)
        assert names.BUS_NAME in str(error.attributes["why"]), "for the log"


async def test_without_a_bus_nobody_answers(bus_daemon: BusDaemon) -> None:
    error = await failure(ParentClient(lambda: None).refresh(1))
    assert (error.code, str(error)) == (Code.NOT_RUNNING, UNANSWERED)
    async with connected(bus_daemon.address) as (bus,):
        bus_daemon.stop()
        error = await failure(ParentClient(lambda: bus).refresh(1))
        assert (error.code, str(error)) == (Code.NOT_RUNNING, UNANSWERED)
    bus_daemon.start()


async def test_a_parent_that_is_silent_or_goes_away_does_not_answer(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "_READ_TIMEOUT_S", 0.01)

    fake = FakeParent()
    fake.gates = {"GetAdmins": asyncio.Event(), "LoginEnded": asyncio.Event()}
    async with connected(bus_address) as (bus,):
        parent = ParentClient(lambda: bus)
        async with parent_on(bus_address, fake):
            error = await failure(parent.admins())
            assert (error.code, str(error)) == (Code.NOT_RUNNING, UNANSWERED)
            ended = asyncio.create_task(parent.login_ended())
            await until(lambda: fake.waiting == 2)
        error = await failure(ended)
        assert (error.code, str(error)) == (Code.NOT_RUNNING, UNANSWERED)


class Older(Interface):
    """A parent that knows none of the methods."""

    interface = names.BACKEND_INTERFACE


def test_the_words_of_the_bus_reach_nobody(run: Run, bus_address: str, bus_daemon: BusDaemon) -> None:
    async def body() -> None:
        async with asking(bus_address, Older(allow_all)) as parent:
            error = await failure(parent.refresh(1))
            assert (error.code, str(error)) == (Code.NOT_RUNNING, UNANSWERED)
            assert "Refresh" in str(error.attributes["why"])

    run(body())
    config = bus_daemon.config.read_text()
    refusal = f'<deny send_destination="{names.BUS_NAME}" send_type="method_call"/></policy>'
    bus_daemon.stop()
    bus_daemon.config.write_text(config.replace("</policy>", refusal))
    bus_daemon.start()

    async def refused() -> None:
        async with asking(bus_address, FakeParent()) as parent:
            error = await failure(parent.refresh(1))
            assert (error.code, str(error)) == (Code.NOT_RUNNING, UNANSWERED)
            assert "Rejected send message" in str(error.attributes["why"])

    run(refused())


@pytest.mark.parametrize("user", [-1, 2**64])
async def test_a_value_that_does_not_fit_is_told_apart(bus_address: str, user: int) -> None:
    async with asking(bus_address, FakeParent()) as parent:
        error = await failure(parent.add_admin(1, user))
        assert (error.code, str(error)) == (Code.INVALID_ARGUMENT, "that is no value to work with")


def parent_saying(signature: str, *values: Any) -> Interface:
    """A parent that answers every question with these values."""
    returns = {f"value{position}": kind for position, kind in enumerate(signature.split())}

    class Saying(Interface):
        interface = names.BACKEND_INTERFACE

        @method(returns=returns)
        async def get_admins(self, call: Call) -> Any:
            return values[0] if len(values) == 1 else values

        @method(returns=returns)
        async def get_permissions(self, call: Call) -> Any:
            return values[0] if len(values) == 1 else values

        @method(returns=returns)
        async def get_credentials(self, call: Call) -> Any:
            return values[0] if len(values) == 1 else values

        @method(returns=returns)
        async def get_entry_points(self, call: Call) -> Any:
            return values[0] if len(values) == 1 else values

        @method(returns=returns)
        async def get_tried_plugins(self, call: Call) -> Any:
            return values[0] if len(values) == 1 else values

        @method(returns=returns, takes={"actor": "t", "user": "t"})
        async def add_admin(self, call: Call, actor: int, user: int) -> Any:
            return values[0] if len(values) == 1 else values

        @method(returns=returns, takes={"actor": "t"})
        async def refresh(self, call: Call, actor: int) -> Any:
            return values[0] if len(values) == 1 else values

        @method(returns=returns, takes={"actor": "t", "words": "s"})
        async def search_videos(self, call: Call, actor: int, words: str) -> Any:
            return values[0] if len(values) == 1 else values

        @method(returns=returns, takes={"actor": "t", "provider": "s", "id": "s"})
        async def fetch_picture(self, call: Call, actor: int, provider: str, video_id: str) -> Any:
            return values[0] if len(values) == 1 else values

        @method(returns=returns, takes={"actor": "t"})
        async def relogin(self, call: Call, actor: int) -> Any:
            return values[0] if len(values) == 1 else values

    return Saying(allow_all)


LONG = "x" * 70_000


@pytest.mark.parametrize(
    "ask",
    [
        lambda parent: parent.search_videos(1, LONG),
        lambda parent: parent.look_up_video(1, LONG),
        lambda parent: parent.claim_admin(1, LONG),
        lambda parent: parent.set_permission(1, LONG, Permission.ADMIN, LONG),
        lambda parent: parent.write_document("queue", LONG),
        lambda parent: parent.append_history("played", LONG),
    ],
)
async def test_what_would_pass_for_a_bot_that_was_taken_over_is_not_sent(
    bus_address: str, ask: Callable[[ParentClient], Awaitable[Any]]
) -> None:
    """A bot whose call has more than 64 kB is killed, and a user of its room decides how long a text is."""

    large: list[str] = []
    async with parent_on(bus_address, FakeParent()) as bus, connected(bus_address) as (own,):
        bus.on_large_message(large.append)
        parent = ParentClient(lambda: own)
        assert (await failure(ask(parent))).code is Code.INVALID_ARGUMENT
        assert await parent.admins() == frozenset()
    assert not large


NO_TOKEN = {"device_id": Variant("s", "d"), "ssaid": Variant("s", ""), "user_id": Variant("t", 5)}


@pytest.mark.parametrize(
    ("member", "signature", "values"),
    [
        ("GetAdmins", "s", ["5"]),
        ("GetAdmins", "as", [["5"]]),
        ("GetAdmins", "at", [[2**63]]),
        ("GetAdmins", "ab", [[True]]),
        ("GetAdmins", "at at", [[5], [6]]),
        ("GetPermissions", "as", [["ping"]]),
        ("GetPermissions", "a{si}", [{"ping": 1}]),
        ("GetPermissions", "a{ib}", [{1: True}]),
        ("GetCredentials", "s", ["token"]),
        ("GetCredentials", "a{sv}", [NO_TOKEN]),
        ("GetEntryPoints", "s", ["greetings"]),
        ("GetEntryPoints", "a(ss)", [[["greet", "greetings"]]]),
        ("GetEntryPoints", "a(ssu)", [[["greet", "greetings", 1]]]),
        ("GetTriedPlugins", "as", [["greet.py"]]),
        ("GetTriedPlugins", "a(ss)", [[["../greet.py", "aa"]]]),
        ("AddAdmin", "u", [1]),
        ("AddAdmin", "b b", [True, True]),
        ("Refresh", "u", [1]),
        ("Refresh", "u s", [1, "2"]),
        ("Relogin", "s", ["600"]),
        ("SearchVideos", "u", [1]),
        ("SearchVideos", "s", ["nonsense"]),
        ("SearchVideos", "s", ["[]"]),
        ("SearchVideos", "s", ['{"videos": [{"provider": "youtube", "id": "../"}]}']),
        ("FetchPicture", "s", ["x"]),
        ("Relogin", "u u", [600, 1]),
    ],
)
async def test_an_answer_that_makes_no_sense(
    bus_address: str, member: str, signature: str, values: list[Any]
) -> None:
    async with connected(bus_address) as (bus,), parent_on(bus_address, parent_saying(signature, *values)):
        error = await failure(CALLS[member](ParentClient(lambda: bus)))
        assert (error.code, str(error)) == (Code.BAD_DATA, SENSELESS)


async def test_a_bus_that_comes_back_is_asked(bus_address: str) -> None:
    buses: list[Bus | None] = [None]
    parent = ParentClient(lambda: buses[-1])
    async with parent_on(bus_address, FakeParent(SESSION)), connected(bus_address) as (bus,):
        assert (await failure(parent.session())).code is Code.NOT_RUNNING
        buses.append(bus)
        assert await parent.session() == SESSION
