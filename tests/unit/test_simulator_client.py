"""The product's own client against the simulator: neither may find a mistake in the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from ravesvc.api.client import Api
from ravesvc.api.listing import ListReader, all_of_it
from ravesvc.api.models import MeshMode
from ravesvc.api.tls import context
from ravesvc.errors import RaveError
from ravesvc.room.chat import ChatMessage
from ravesvc.room.close import CloseKind
from ravesvc.room.room import Room
from ravesvc.settings import Servers, Tls
from tests.unit.simulator_server import Served, in_thread

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Bot:
    """Answers every message with its text."""

    def __init__(self) -> None:
        self.room: Room | None = None
        self.tasks: list[asyncio.Task[str]] = []
        self.seen: list[object] = []

    def on_chat(self, message: ChatMessage) -> None:
        assert self.room
        self.tasks.append(asyncio.create_task(self.room.chat(f"heard {message.text}", reply_to=message.id)))

    def on_joined(self, users: frozenset[int]) -> None:
        self.seen.append(("joined", len(users)))

    def on_left(self, users: frozenset[int]) -> None:
        self.seen.append(("left", len(users)))

    def on_change(self, change: object) -> None:
        """It is about the video, not about users."""

    def on_kicked(self) -> None:
        self.seen.append("kicked")


def made_api(served: Served) -> Api:
    base = f"https://{served.server}"
    return Api(
        servers=Servers(api=base, parse=f"{base}/parse", mojo=f"{base}/mojo"),
        identity=served.account.identity,
        session=served.session,
        tls=Tls(ca_file=str(served.home.ca_file)),
        sleep=lambda _: asyncio.sleep(0),
    )


def test_listing_names_and_leaving(served: Served, run: Run) -> None:
    meshes = served.control.create(5, title="Film")
    (public,) = served.control.create(kinds=["public"])
    served.control.invite(meshes)
    served.control.option("page_size", 2)

    async def body() -> None:
        api = made_api(served)
        lists = ListReader(partial(api.page, lang="en"))
        try:
            assert [mesh.id for mesh in (await lists.read(MeshMode.INVITED, 20, all_of_it)).meshes] == meshes
            every = await lists.read(MeshMode.ALL, 20, all_of_it)
            assert {mesh.id for mesh in every.meshes} == {*meshes, public}
            mesh = await api.mesh(meshes[0])
            assert (mesh.server, mesh.title) == (served.server, "Film")
            names = await api.users([user.id for user in mesh.users])
            assert [user.display_name for user in names.values()] == ["Ann"]
            await api.leave(meshes[0])
            assert len((await lists.read(MeshMode.INVITED, 20, all_of_it)).meshes) == 4
            await in_thread(served.control.fail, "discovery", "half-page")
            with pytest.raises(RaveError):
                await lists.read(MeshMode.INVITED, 20, all_of_it)
        finally:
            await api.close()

    run(body())
    assert served.control.violations() == []


def test_a_room_from_the_first_word_to_the_kick(served: Served, run: Run) -> None:
    (mesh,) = served.control.create()
    served.control.invite(mesh)

    async def body() -> None:
        bot = Bot()
        tls = context(Tls(ca_file=str(served.home.ca_file)), "localhost")
        room = bot.room = Room(
            mesh_id=mesh, server=served.server, session=served.session, ssl_context=tls, listener=bot
        )
        await room.open()
        running = asyncio.create_task(room.run())
        assert await in_thread(served.control.chat, mesh, "?ping", wait=5) == ["heard ?ping"]
        await room.typing()
        await room.typing_stop()
        await in_thread(served.control.join, mesh, "bea", "cy")
        await in_thread(served.control.part, mesh, "bea")
        assert (await in_thread(served.control.ask, mesh, "newConsumer"))["ok"] is False
        await in_thread(served.control.kick, mesh)
        close = await running
        assert close.kind is CloseKind.KICKED
        assert bot.seen == [("joined", 2), ("left", 1), "kicked"]
        await asyncio.gather(*bot.tasks)

    run(body())
    assert served.control.violations() == []


def test_leaving_by_itself_closes_with_1000(served: Served, run: Run) -> None:
    (mesh,) = served.control.create(kinds=["public"])

    async def body() -> None:
        tls = context(Tls(ca_file=str(served.home.ca_file)), "localhost")
        room = Room(mesh_id=mesh, server=served.server, session=served.session, ssl_context=tls, listener=Bot())
        await room.open()
        running = asyncio.create_task(room.run())
        await room.close()
        assert (await running).kind is CloseKind.LOCAL

    run(body())
    (end,) = served.control.wait(disconnected=[mesh])["meshes"][mesh]["ended"]
    assert (end["code"], end["by"]) == (1000, "client")
