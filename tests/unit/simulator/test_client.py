"""The product's own client against the simulator: neither may find a mistake in the other."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import pytest

from ravesvc.api import client
from ravesvc.api.client import Api
from ravesvc.api.listing import ListReader, all_of_it
from ravesvc.api.models import MeshMode
from ravesvc.api.tls import context
from ravesvc.common.token_bucket import Rate
from ravesvc.config.worker_options import Servers, Tls
from ravesvc.errors import Code, RaveError
from ravesvc.room import connection
from ravesvc.room.changes import (
    Change,
    LeaderChanged,
    OpinionsChanged,
    PlaybackChanged,
    RoomKnown,
    UserKicked,
    VideoChanged,
    VideoEnded,
    VoteOriginatorChanged,
    VotesChanged,
)
from ravesvc.room.chat import ChatMessage
from ravesvc.room.close import CloseKind
from ravesvc.room.room import Room
from ravesvc.simulator.fault_options import FLOOD_KINDS
from tests.unit.conftest import until
from tests.unit.loop_turns import MAX_TURN_S, turns
from tests.unit.simulator_server import Served, in_thread


class Bot:
    """Answers every message with its text."""

    def __init__(self) -> None:
        self.room: Room | None = None
        self.tasks: list[asyncio.Task[str]] = []
        self.seen: list[object] = []
        self.changes: asyncio.Queue[Change] = asyncio.Queue()

    def on_chat(self, message: ChatMessage) -> None:
        assert self.room
        self.tasks.append(asyncio.create_task(self.room.chat(f"heard {message.text}", reply_to=message.id)))

    def on_joined(self, users: frozenset[int]) -> None:
        self.seen.append(("joined", len(users)))

    def on_left(self, users: frozenset[int]) -> None:
        self.seen.append(("left", len(users)))

    def on_change(self, change: Change) -> None:
        self.changes.put_nowait(change)

    def on_kicked(self) -> None:
        self.seen.append("kicked")


def made_api(served: Served) -> Api:
    base = f"https://{served.server}"
    return Api(
        servers=Servers(api=base, parse=f"{base}/parse", mojo=f"{base}/mojo"),
        identity=served.account.identity,
        session=served.session,
        tls=Tls(ca_file=str(served.state_dir.ca_file)),
        sleep=lambda _: asyncio.sleep(0),
    )


@pytest.mark.slow
async def test_listing_names_and_leaving(served: Served) -> None:
    meshes = served.control.create(5, title="Film")
    (public,) = served.control.create(kinds=["public"])
    served.control.invite(meshes)
    served.control.option("page_size", 2)

    api = made_api(served)
    lists = ListReader(partial(api.page, lang="en"))
    try:
        assert [mesh.id for mesh in (await lists.read(MeshMode.INVITED, 20, all_of_it)).meshes] == meshes
        every = await lists.read(MeshMode.ALL, 20, all_of_it)
        assert {mesh.id for mesh in every.meshes} == {*meshes, public}
        mesh = await api.mesh(meshes[0])
        assert (mesh.server, mesh.title) == (served.server, "Film")
        names = await api.users(mesh.users)
        assert [user.display_name for user in names.values()] == ["Ann"]
        await api.leave(meshes[0])
        assert len((await lists.read(MeshMode.INVITED, 20, all_of_it)).meshes) == 4
        await in_thread(served.control.fail, "discovery", "half-page")
        with pytest.raises(RaveError):
            await lists.read(MeshMode.INVITED, 20, all_of_it)
    finally:
        await api.close()
    assert served.control.violations() == []


async def test_a_room_from_the_first_word_to_the_kick(served: Served) -> None:
    (mesh,) = served.control.create()
    served.control.invite(mesh)

    bot = Bot()
    tls = context(Tls(ca_file=str(served.state_dir.ca_file)), "localhost")
    room = bot.room = Room(mesh_id=mesh, server=served.server, session=served.session, ssl_context=tls, listener=bot)
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
    assert served.control.violations() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "code", "words"),
    [
        ("many-values", Code.BAD_DATA, "the answer has 1000003 values"),
        ("deep", Code.BAD_DATA, "data must be a list"),
        ("negative-chunk", Code.BAD_DATA, "is not proper HTTP"),
        ("no-end", Code.BAD_DATA, "the answer does not end"),
        ("trickle", Code.TIMEOUT, "did not answer in time"),
    ],
)
async def test_a_hostile_answer_is_an_error_in_words_and_holds_nothing_up(
    served: Served, monkeypatch: pytest.MonkeyPatch, mode: str, code: Code, words: str
) -> None:
    monkeypatch.setattr(client, "REQUEST_TIMEOUT_S", 1.0 if mode == "trickle" else 15.0)
    served.control.fail("discovery", mode)

    tls = Tls(ca_file=str(served.state_dir.ca_file))
    servers = Servers(api=f"https://{served.server}", parse="", mojo="")
    api = Api(servers=servers, identity=served.account.identity, session=served.session, tls=tls, sleep=_no_pause)
    try:
        with turns() as found, pytest.raises(RaveError, match=words) as caught:
            await api.page(MeshMode.INVITED, 20, None, "en")
    finally:
        await api.close()
    assert caught.value.code is code
    assert found.longest < MAX_TURN_S


async def _no_pause(_seconds: float) -> None:
    pass


@pytest.mark.slow
@pytest.mark.parametrize("kind", FLOOD_KINDS)
async def test_a_room_that_is_flooded(served: Served, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(connection, "_FRAME_RATE", Rate(500, 20))
    (mesh,) = served.control.create(kinds=["public"])

    tls = context(Tls(ca_file=str(served.state_dir.ca_file)), "localhost")
    room = Room(mesh_id=mesh, server=served.server, session=served.session, ssl_context=tls, listener=Bot())
    await room.open()
    await in_thread(served.control.flood, mesh, kind)
    assert (await room.run()).reason.startswith("the server sends")
    assert served.control.violations() == []


SHAPES: list[dict[str, str]] = [
    {},
    {"user_ids": "text", "state_form": "object"},
    {"kicks_form": "objects", "cleared_form": "objects", "voters_form": "objects", "likeskips_form": "totals"},
    {"instance_key": "videoInstanceId"},
    {"instance_key": "instance"},
    {"instance_key": "none", "first_state": "before"},
]


@pytest.mark.parametrize("shapes", SHAPES, ids=lambda shapes: ",".join(shapes.values()) or "usual")
async def test_what_plays_is_told_in_the_same_way_whatever_the_messages_look_like(
    served: Served, shapes: dict[str, str]
) -> None:
    for name, value in {"playback": "none", **shapes}.items():
        served.control.option(name, value)
    (mesh,) = served.control.create(kinds=["public"])
    control = served.control

    bot = Bot()
    tls = context(Tls(ca_file=str(served.state_dir.ca_file)), "localhost")
    room = Room(mesh_id=mesh, server=served.server, session=served.session, ssl_context=tls, listener=bot)

    async def told(expected: type[Change], act: Any = None, *arguments: Any, **named: Any) -> Any:
        """The next change, after `act` was called in a thread."""
        if act:
            await in_thread(act, *arguments, **named)
        async with asyncio.timeout(5):
            change = await bot.changes.get()
        assert type(change) is expected, change
        return change

    await room.open()
    assert (await told(RoomKnown)).state.playback is None
    started = await told(VideoChanged, control.vote, mesh, "sim-lantern")
    assert (started.before, started.after.playing, bool(started.after.instance_id)) == (
        None,
        True,
        shapes.get("instance_key") != "none",
    )
    ann = (await told(VoteOriginatorChanged)).after
    paused = await told(PlaybackChanged, control.playback, mesh, "pause", position=40)
    assert (paused.after.status, paused.after.position, paused.after.url) == ("PAUS", 40, started.after.url)
    assert (await told(OpinionsChanged, control.judge, mesh, "like")).likes == {ann}
    (vote,) = (await told(VotesChanged, control.vote, mesh, "sim-harbour")).after
    assert (vote.users, vote.count) == ({ann}, 1)
    assert (await told(VotesChanged, control.clear_votes, mesh)).after == ()
    assert await told(LeaderChanged, control.leader, mesh, "botty") == LeaderChanged(ann, room.own_user_id)
    await in_thread(control.join, mesh, "bea")
    await until(lambda: len(room.users) == 3)
    (bea,) = room.users - {ann, room.own_user_id}
    kick = {"deviceId": served.session.device_id, "ids": [bea], "includeOnline": False}
    assert (await told(UserKicked, served.call, "POST", f"/meshes/{mesh}/kick", kick)).user == bea
    other = await told(VideoChanged, control.video, mesh, "sim-volcano")
    assert (other.before, other.after.position) == (paused.after, 0)
    assert room.state.likes == frozenset()
    await told(VoteOriginatorChanged)
    await told(OpinionsChanged)
    assert (await told(VideoEnded, control.video, mesh)).playback == other.after
    assert room.state.playback is None
    assert room.server_clock.known
    assert abs(room.server_clock.now() - time.time()) < 5
    await room.close()
    assert served.control.violations() == []


async def test_leaving_by_itself_closes_with_1000(served: Served) -> None:
    (mesh,) = served.control.create(kinds=["public"])

    tls = context(Tls(ca_file=str(served.state_dir.ca_file)), "localhost")
    room = Room(mesh_id=mesh, server=served.server, session=served.session, ssl_context=tls, listener=Bot())
    await room.open()
    running = asyncio.create_task(room.run())
    await room.close()
    assert (await running).kind is CloseKind.LOCAL
    (end,) = served.control.wait(disconnected=[mesh])["meshes"][mesh]["ended"]
    assert (end["code"], end["by"]) == (1000, "client")
