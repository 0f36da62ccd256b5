"""What plugins keep: over restarts, for rooms and users, within bounds, and until users are forgotten."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from ravesvc.bot.backend import MAX_DOCUMENT_BYTES
from ravesvc.bot.plugin_store import PluginStore, RoomPluginDocument, SharedPluginDocument, document_name
from ravesvc.errors import Code, RaveError
from ravesvc.store.room_document import is_name
from ravesvc.testing import FakeRoom, FakeService

ANN, BOB = 11, 12

SCORES = """
from ravesvc.commands import command, on_message

@command("point", "Gives a point.")
async def point(context):
    mine = await context.store.of(context.user_id).update("points", lambda points: points + 1, 0)
    all_points = await context.store.update("points", lambda points: points + 1, 0)
    await context.reply(f"{mine} of {all_points}")

@command("points", "Tells all points.")
async def points(context):
    users = await context.store.users()
    await context.reply(", ".join(str(values["points"]) for _, values in sorted(users.items())) or "none")

@on_message
async def hear(event):
    await event.store.set("last", event.message.text)
"""


class SlowService(FakeService):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.asked = asyncio.Event()
        self.fails = False

    async def read_document(self, name: str) -> str | None:
        text = await super().read_document(name)
        await self._wait()
        return text

    async def write_document(self, name: str, text: str) -> None:
        await self._wait()
        if self.fails:
            raise RaveError(Code.STORE, "the store can't be used")
        await super().write_document(name, text)

    async def _wait(self) -> None:
        self.asked.set()
        await self.go.wait()


def kept(service: FakeService) -> object:
    (text,) = service.documents.values()
    return json.loads(text)


async def test_values_are_kept_for_the_room_and_for_users_and_outlive_the_bot(tmp_path: Path) -> None:
    file = tmp_path / "scores.py"
    file.write_text(SCORES)
    async with FakeRoom() as room:
        room.load(file)
        assert await room.say("?points") == ["none"]
        assert await room.say("?point", user="Ann") == ["1 of 1"]
        assert await room.say("?point", user="Bob") == ["1 of 2"]
        await room.say("hello")
    assert list(room.service.documents) == ["plugin-scores"]
    async with FakeRoom() as other:
        other.service.documents = room.service.documents
        other.load(file)
        assert await other.say("?point", user="Ann") == ["2 of 3"]
        assert await other.say("?points") == ["2, 1"]
    assert kept(other.service) == {
        "room": {"points": 3, "last": "hello"},
        "users": {str(other.user_id("Ann")): {"points": 2}, str(other.user_id("Bob")): {"points": 1}},
    }


async def test_changes_at_the_same_time_follow_one_another() -> None:
    service = FakeService()
    store = PluginStore(RoomPluginDocument("x.py", service))
    await asyncio.gather(*(store.update("n", lambda n: n + 1, 0) for _ in range(20)))
    assert await store.get("n") == 20


async def test_what_is_returned_is_a_copy() -> None:
    store = PluginStore(RoomPluginDocument("x.py", FakeService()))
    await store.set("list", [1])
    (await store.get("list")).append(2)
    (await store.all())["more"] = 3
    assert await store.all() == {"list": [1]}
    await store.delete("list")
    await store.delete("list")
    assert await store.get("list", "none") == "none"


async def test_a_user_for_whom_nothing_is_kept_takes_no_place() -> None:
    service = FakeService()
    store = PluginStore(RoomPluginDocument("x.py", service))
    await store.of(ANN).set("n", 1)
    await store.of(BOB).set("n", 2)
    await store.of(ANN).delete("n")
    await store.of(ANN).delete("never there")
    assert kept(service) == {"users": {str(BOB): {"n": 2}}}


async def test_a_change_that_can_not_be_saved_has_not_happened() -> None:
    service = SlowService()
    service.go.set()
    store = PluginStore(RoomPluginDocument("x.py", service))
    await store.set("a", 1)
    service.fails = True
    with pytest.raises(RaveError):
        await store.set("a", 2)
    assert await store.get("a") == 1


@pytest.mark.parametrize("value", ["x" * MAX_DOCUMENT_BYTES, "é" * (MAX_DOCUMENT_BYTES // 2)])
async def test_what_is_too_large_is_refused_in_words(value: str) -> None:
    store = PluginStore(RoomPluginDocument("x.py", FakeService()))
    with pytest.raises(RaveError, match="at most 60 KiB in a room"):
        await store.set("a", value)
    with pytest.raises(RaveError, match="1 to 64 characters"):
        await store.set("a" * 65, 1)
    assert await store.all() == {}


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), "\ud800"])
async def test_what_json_can_not_be_is_an_error_of_the_author(value: object) -> None:
    store = PluginStore(RoomPluginDocument("x.py", FakeService()))
    with pytest.raises((TypeError, ValueError)):
        await store.set("a", value)
    assert await store.all() == {}


async def test_a_user_who_is_forgotten_is_not_written_back() -> None:
    """The service removes the user from its documents; here the bot must not bring them back."""
    service = FakeService()
    document = RoomPluginDocument("x.py", service)
    store = PluginStore(document)
    await store.of(ANN).set("n", 1)
    await store.set("winner", {"user": ANN})
    await store.of(BOB).set("n", 2)
    document.forget(ANN)
    await store.of(BOB).set("n", 3)
    assert kept(service) == {"room": {}, "users": {str(BOB): {"n": 3}}}
    await store.of(ANN).set("n", 4)
    assert await PluginStore(RoomPluginDocument("x.py", service)).of(ANN).get("n") == 4, "but may begin anew"


@pytest.mark.parametrize("step", ["read", "write"])
async def test_a_user_who_is_forgotten_in_the_middle_of_a_change_is_not_kept(step: str) -> None:
    service = SlowService()
    service.documents[document_name("x.py")] = json.dumps({"users": {str(ANN): {"n": 1}}})
    document = RoomPluginDocument("x.py", service)
    if step == "write":
        service.go.set()
        await document.read()
        service.go.clear()
        service.asked.clear()
    change = asyncio.create_task(PluginStore(document).set("a", 1))
    await service.asked.wait()
    document.forget(ANN)
    service.go.set()
    await change
    assert await document.read() == {"users": {}, "room": {"a": 1}}


WINNERS = """
from ravesvc.commands import command

@command("win", "Counts a win.")
async def win(context):
    mine = await context.shared.of(context.user_id).update("wins", lambda wins: wins + 1, 0)
    of_all = await context.shared.update("wins", lambda wins: wins + 1, 0)
    await context.reply(f"{mine} of {of_all}, here {await context.store.update('wins', lambda wins: wins + 1, 0)}")
"""


async def test_what_is_kept_for_all_rooms_is_seen_in_all_of_them(tmp_path: Path) -> None:
    file = tmp_path / "winners.py"
    file.write_text(WINNERS)
    async with FakeRoom() as room, FakeRoom() as other:
        other.service.shared = room.service.shared
        room.load(file)
        other.load(file)
        assert await room.say("?win", user="Ann") == ["1 of 1, here 1"]
        assert await other.say("?win", user="Ann") == ["2 of 2, here 1"]
        assert await room.say("?win", user="Bob") == ["1 of 3, here 2"]
    assert list(room.service.shared) == ["plugin-winners"]


async def test_changes_of_several_rooms_at_the_same_time_are_all_kept() -> None:
    class Rooms(FakeService):
        """Another task may go on before each answer."""

        async def read_shared(self, name: str) -> tuple[str, str]:
            await asyncio.sleep(0)
            return await super().read_shared(name)

    service = Rooms()
    stores = [PluginStore(SharedPluginDocument("x.py", service)) for _ in range(6)]
    await asyncio.gather(*(store.update("n", lambda n: n + 1, 0) for store in stores for _ in range(3)))
    assert await stores[0].get("n") == 18


async def test_a_change_that_others_are_always_quicker_with_is_given_up() -> None:
    class Busy(FakeService):
        async def write_shared(self, name: str, text: str, version: str) -> bool:
            return False

    store = PluginStore(SharedPluginDocument("x.py", Busy()))
    with pytest.raises(RaveError, match=r"other rooms change the same at this moment \(try again\)"):
        await store.set("n", 1)


async def test_a_user_who_is_forgotten_is_not_written_back_for_all_rooms() -> None:
    """The service has yet to remove the user from its documents."""
    service = FakeService()
    document = SharedPluginDocument("x.py", service)
    store = PluginStore(document)
    await store.of(ANN).set("n", 1)
    await store.of(BOB).set("n", 2)
    document.forget(ANN)
    assert await store.users() == {BOB: {"n": 2}}
    await store.of(BOB).set("n", 3)
    assert json.loads(service.shared["plugin-x"]) == {"users": {str(BOB): {"n": 3}}}
    await store.of(ANN).set("n", 4)
    assert await store.of(ANN).get("n") == 4, "but may begin anew"


@pytest.mark.parametrize(
    "source", ["/etc/rave/commands.d/greet.py", "greetings.commands", "x" * 30 + ".py", "Größe.py"]
)
def test_each_plugin_has_a_document_of_its_own(source: str) -> None:
    assert is_name(document_name(source))
    assert document_name(source) != document_name(source.replace("e", "f").replace("x", "y"))


@pytest.mark.parametrize("make", [RoomPluginDocument, SharedPluginDocument])
async def test_a_user_without_values_is_no_user(make: type[RoomPluginDocument] | type[SharedPluginDocument]) -> None:
    store = PluginStore(make("x.py", FakeService()))
    await store.of(ANN).set("n", 1)
    await store.of(ANN).delete("n")
    await store.of(BOB).delete("n")
    assert await store.users() == {}


async def test_what_no_user_id_can_be_is_left_out() -> None:
    service = FakeService()
    service.shared["plugin-x"] = json.dumps({"users": {"9" * 5000: {"n": 1}, "x": {"n": 1}, str(BOB): {"n": 2}}})
    assert await PluginStore(SharedPluginDocument("x.py", service)).users() == {BOB: {"n": 2}}
