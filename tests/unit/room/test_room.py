"""A room after its opening: what comes in, what goes out, and how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from asyncio import sslproto
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ravesvc.common.picture import Media
from ravesvc.common.token_bucket import Rate
from ravesvc.errors import Code, RaveError
from ravesvc.room import chat_form, connection
from ravesvc.room.changes import PlaybackChanged, RoomKnown, UserKicked, VideoEnded, VotesChanged
from ravesvc.room.chat import ChatMessage, Mention, OwnMessages, Reaction
from ravesvc.room.chat_form import ChatForm, ChatForms
from ravesvc.room.close import CloseKind
from ravesvc.room.peer import Timings
from ravesvc.room.room import Room
from tests.unit.authority import Authority
from tests.unit.conftest import until
from tests.unit.room_server import NEVER, SESSION, Guest, Listener, make_room, mesh_server

Run = Callable[[Any], Any]
OWN = SESSION.user_id


@asynccontextmanager
async def opened(
    authority: Authority,
    after: Callable[[Guest], Awaitable[Any]],
    listener: Any = None,
    before: Callable[[Guest], Awaitable[Any]] | None = None,
    **other: Any,
) -> AsyncIterator[Room]:
    """A room that is open; its server runs `before`, lets it in, and runs `after`."""

    async def script(guest: Guest) -> None:
        if before:
            await before(guest)
        await guest.admit()
        await after(guest)
        await guest.hold()

    async with mesh_server(authority, script) as server:
        room = make_room(authority, server, listener, **other)
        await room.open()
        try:
            yield room
        finally:
            await room.close()


async def nothing(guest: Guest) -> None:
    pass


async def swallow(guest: Guest) -> None:
    """Read and never answer."""
    async for _ in guest.socket:
        pass


# State


async def test_joins_come_before_leaves_and_the_first_state_reports_nothing(authority: Authority) -> None:
    async def states(guest: Guest) -> None:
        await guest.users(1, "2", OWN)
        await guest.users(3, 2, str(OWN))
        await guest.say("done")

    listener = Listener()
    async with opened(authority, states, listener) as room:
        assert [await listener.next() for _ in range(3)] == [("joined", {3}), ("left", {1}), ("chat", "done")]
        assert room.users == {2, 3, OWN}


async def test_a_state_before_fully_joined(authority: Authority) -> None:
    async def early(guest: Guest) -> None:
        await guest.users(1)

    async def late(guest: Guest) -> None:
        await guest.users(1, 2)

    listener = Listener()
    async with opened(authority, late, listener, before=early) as room:
        room.set_initial_users([7])
        assert await listener.next() == ("joined", {2})


async def test_the_answer_of_the_api_is_the_baseline_if_it_comes_first(authority: Authority) -> None:
    listener, go = Listener(), asyncio.Event()

    async def state(guest: Guest) -> None:
        await go.wait()
        await guest.users(1, 2)

    async with opened(authority, state, listener) as room:
        assert room.users == frozenset()
        room.set_initial_users([1, 3])
        assert room.users == {1, 3}
        go.set()
        assert [await listener.next(), await listener.next()] == [("joined", {2}), ("left", {3})]


async def test_states_that_lack_parts_or_sense_change_nothing(authority: Authority) -> None:
    async def states(guest: Guest) -> None:
        await guest.users(1)
        await guest.state(users=[{"user_id": 2}])
        await guest.state(mesh_state={})
        await guest.state(users=[{"name": "x"}], mesh_state={})
        await guest.state(users="x", mesh_state={})
        await guest.notify("stateMessage", message="{")
        await guest.notify("stateMessage", message=None)
        await guest.notify("stateMessage", message="[" * 50_000)
        await guest.notify("stateMessage", message='{"users":[' + "9" * 5000 + '],"mesh_state":{}}')
        await guest.send(notification=True, method="stateMessage")
        await guest.notify("stateMessage", message={"users": [1, 4], "mesh_state": {}})

    listener = Listener()
    async with opened(authority, states, listener) as room:
        assert await listener.next() == ("joined", {4})
        assert room.users == {1, 4}


async def test_what_plays_is_told_in_order_and_a_partial_message_forgets_nothing(authority: Authority) -> None:
    async def states(guest: Guest) -> None:
        video = {"url": "https://a", "video_instance_id": "one", "status": "PLAY", "position": 5, "time": 1000}
        await guest.state(mesh_state=video, users=[1])
        await guest.state(mesh_state={**video, "status": "PAUS", "time": 2000})
        await guest.state(kicks=[8], votes=[{"url": "https://b", "users": [1]}])
        await guest.state(mesh_state={"status": "WAIT"})
        await guest.say("done")

    listener = Listener()
    async with opened(authority, states, listener) as room:
        assert await listener.next() == ("chat", "done")
        told = [listener.changes.get_nowait() for _ in range(listener.changes.qsize())]
        assert [type(change) for change in told] == [
            RoomKnown,
            PlaybackChanged,
            UserKicked,
            VotesChanged,
            VideoEnded,
        ]
        assert isinstance(ended := told[-1], VideoEnded)
        assert (ended.playback.url, ended.playback.status) == ("https://a", "PAUS")
        assert room.state.playback is None
        assert [vote.url for vote in room.state.votes] == ["https://b"]
        assert 2000 <= room.server_clock.now() < 2060


# Frames


async def test_frames_without_sense_are_dropped(authority: Authority) -> None:
    async def rubbish(guest: Guest) -> None:
        for text in ("", "{", "[]", "7", "null", "{}", "[" * 50_000, '{"a":' * 50_000, "9" * 6000):
            await guest.socket.send(text)
        await guest.socket.send(b'{"notification":true,"method":"kicked"}')
        await guest.send(response=True, id=123, ok=True)
        await guest.send(response=True, id=None)
        await guest.send(notification=True, method=5)
        await guest.notify("newPeer", peer={})
        await guest.notify("chatMessage", chat=5)
        await guest.notify("typing")
        await guest.say("still here \ud800")

    listener = Listener()
    async with opened(authority, rubbish, listener) as room:
        assert await listener.next() == ("chat", "still here ?")
        assert room.connected


def test_a_listener_that_fails_costs_nothing(
    run: Run, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(Listener):
        def on_chat(self, message: ChatMessage) -> None:
            super().on_chat(message)
            raise ZeroDivisionError

    async def talk(guest: Guest) -> None:
        await guest.say("a")
        await guest.say("b")

    async def body() -> None:
        listener = Faulty()
        async with opened(authority, talk, listener) as room:
            assert [await listener.next(), await listener.next()] == [("chat", "a"), ("chat", "b")]
            assert room.connected

    run(body())
    assert caplog.text.count("the handler of chatMessage failed") == 2


async def test_every_request_of_the_server_is_answered(authority: Authority) -> None:
    answers: list[dict[str, Any]] = []
    chat = {"from": "5_dev", "id": "m1", "chat": "both"}
    inner = json.dumps({"users": [1], "mesh_state": {}})

    async def ask(guest: Guest) -> None:
        await guest.send(request=True, id=1, method="newConsumer", data={"x": 1})
        await guest.send(request=True, id=2, method="newConsumer")
        await guest.send(request=True, notification=True, id=3, method="chatMessage", data=chat)
        await guest.send(request=True, id=4, method="stateMessage", data={"message": inner})
        await guest.send(request=True, id=5, method="chatMessage", data={"broken": True})
        answers.extend([await guest.receive() for _ in range(5)])
        await guest.notify("done")
        await guest.say("done")

    listener = Listener()
    async with opened(authority, ask, listener) as room:
        assert [await listener.next(), await listener.next()] == [("chat", "both"), ("chat", "done")]
        assert room.users == {1}
    unknown = {"response": True, "ok": False, "errorCode": 404, "errorReason": "unknown method"}
    granted = {"response": True, "ok": True, "data": {}}
    assert answers == [{**unknown, "id": 1}, {**unknown, "id": 2}] + [{**granted, "id": n} for n in (3, 4, 5)]


# Chat


async def test_a_chat_message_goes_out(authority: Authority) -> None:
    frames: list[dict[str, Any]] = []

    async def answer(guest: Guest) -> None:
        while True:
            frame = await guest.receive()
            frames.append(frame)
            if frame.get("request"):
                await guest.grant(frame)
            if len(frames) == 4:
                return

    async with opened(authority, answer, lang="de") as room:
        await room.typing()
        first = await room.chat("hi")
        await room.typing_stop()
        picture = Media("https://p.example/1", "image/png", "0.56")
        second = await room.chat("@ann 😀", reply_to="m0", mentions=[Mention(5, "ann")], media=[picture])
        assert room.is_own(first)
        assert room.is_own(second)
        assert not room.is_own("m0")
    typing, one, stop, two = frames
    assert typing == {"notification": True, "method": "typing", "data": {}}
    assert stop == {"notification": True, "method": "typing_stop", "data": {}}
    assert (one["request"], one["notification"], one["method"]) == (True, True, "chatMessage")
    assert one["data"] == {"chat": "hi", "id": first, "detected_lang": "de", "translations": {}}
    assert two["data"]["reply"] == "m0"
    assert two["data"]["user_metas"] == [{"handle": "ann", "id": 5}]
    assert two["data"]["chat"] == "@ann 😀"
    assert [media["url"] for media in two["data"]["media"]] == ["https://p.example/1"]
    assert first != second
    assert one["id"] != two["id"]


async def test_a_server_that_does_not_answer_chat(authority: Authority) -> None:
    async with opened(authority, swallow, timings=Timings(chat_answer_timeout_s=0.05)) as room:
        assert room.is_own(await room.chat("hi"))
        assert room._peer
        assert not room._peer._pending._futures


async def test_the_echo_is_an_answer(authority: Authority) -> None:
    async def echo(guest: Guest) -> None:
        frame = await guest.receive()
        await guest.notify("chatMessage", **frame["data"], **{"from": SESSION.peer_id})

    async with opened(authority, echo, timings=Timings(chat_answer_timeout_s=NEVER)) as room:
        async with asyncio.timeout(10):
            await room.chat("hi")


async def test_the_echo_may_have_another_id_and_is_not_passed_on(authority: Authority) -> None:
    async def echo(guest: Guest) -> None:
        frame = await guest.receive()
        await guest.notify("chatMessage", **{**frame["data"], "id": "server's", "from": SESSION.peer_id})
        await guest.grant(frame)
        # A message from another device of the account is no echo: only the peer id tells them apart.
        await guest.say("other device", **{"from": f"{OWN}_other"})

    listener, own = Listener(), OwnMessages()
    async with opened(authority, echo, listener, own_messages=own) as room:
        message_id = await room.chat("hi")
        assert await listener.next() == ("chat", "other device")
        assert room.is_own("server's")
        assert room.is_own(message_id)
        assert room.ids_of("server's") == room.ids_of(message_id) == {"server's", message_id}
    assert "server's" in own


async def test_a_reaction_goes_out_once_and_its_echo_is_no_message(authority: Authority) -> None:
    frames: list[dict[str, Any]] = []

    async def echo(guest: Guest) -> None:
        while True:
            frame = await guest.receive()
            frames.append(frame)
            data = frame["data"]
            if data.get("emoji"):
                await guest.notify("chatMessage", **{**data, "from": SESSION.peer_id})
                await guest.say("", emoji="👎", reaction="m0")
            else:
                await guest.grant(frame)

    listener, own = Listener(), OwnMessages()
    forms = ChatForms(None, time.monotonic)
    own.remember("theirs", "mine")
    async with opened(authority, echo, listener, own_messages=own, chat_forms=forms) as room:
        await room.chat("hi")
        waited_for = forms.next_due
        await room.send_reaction(Reaction("👍", "m0"))
        await room.send_reaction(Reaction("👍", "mine"))
        assert await listener.next() == ("chat", "")
        # The message still waits for its echo, which the one of the reaction is not.
        assert (forms.next_due, forms.known, forms.unshown) == (waited_for, False, 0)
    _message, first, second = frames
    assert (first["request"], first["notification"], first["method"]) == (True, True, "chatMessage")
    assert (first["data"]["chat"], first["data"]["emoji"], first["data"]["reaction"]) == ("", "👍", "m0")
    assert second["data"]["reaction"] == "theirs"
    assert len({each["data"]["id"] for each in frames}) == 3


async def test_a_reaction_is_said_in_the_form_that_the_server_takes(authority: Authority) -> None:
    notified = asyncio.Event()

    async def refuse(guest: Guest) -> None:
        while (frame := await guest.receive()).get("request"):
            await guest.send(response=True, id=frame["id"], ok=False, errorCode=400, errorReason="not a notification")
        notified.set()
        await guest.hold()

    async with opened(authority, refuse) as room:
        await room.send_reaction(Reaction("👍", "m0"))
        await notified.wait()
    with pytest.raises(RaveError) as caught:
        await room.send_reaction(Reaction("👍", "m0"))
    assert caught.value.code is Code.CLOSED


def test_a_server_that_shows_notifications_alone_is_learned(
    run: Run, authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(chat_form, "ECHO_WAIT_S", 0.2)
    frames: list[dict[str, Any]] = []

    async def serve(guest: Guest) -> None:
        while True:
            frame = await guest.receive()
            frames.append(frame)
            if frame.get("request"):
                await guest.grant(frame)
            else:
                await guest.notify("chatMessage", **{**frame["data"], "from": SESSION.peer_id})

    async def body() -> None:
        forms = ChatForms(None, time.monotonic)
        async with opened(authority, serve, chat_forms=forms) as room:
            first = await room.chat("one")
            await until(lambda: forms.known)
            second = await room.chat("two")
            await until(lambda: forms.next_due is None)
        told = [(frame["data"]["id"], bool(frame.get("request"))) for frame in frames]
        assert told == [(first, True), (first, False), (second, False)]
        async with opened(authority, serve, chat_forms=forms) as room:
            await room.chat("three")
            await until(lambda: len(frames) == 4)
        assert not frames[-1].get("request"), "the next connection knows"
        assert forms.unshown == 0

    run(body())
    assert caplog.text.count("shows chat that comes as a notification") == 1


async def test_a_server_that_refuses_the_form_gets_the_other_at_once(authority: Authority) -> None:
    async def serve(guest: Guest) -> None:
        frame = await guest.receive()
        await guest.send(response=True, id=frame["id"], ok=False, errorCode=400, errorReason="not a notification")
        again = await guest.receive()
        assert (again["data"], again.get("request")) == (frame["data"], None)
        await guest.notify("chatMessage", **{**again["data"], "from": SESSION.peer_id})

    forms = ChatForms(None, time.monotonic)
    async with opened(authority, serve, chat_forms=forms) as room:
        await room.chat("hi")
        await until(lambda: forms.known)
        assert forms.form is ChatForm.NOTIFICATION


@pytest.mark.parametrize("answer", [{"ok": False, "errorCode": 403, "errorReason": "muted"}, {"errorCode": 403}])
async def test_a_refused_chat_message(authority: Authority, answer: dict[str, Any]) -> None:
    async def refuse(guest: Guest) -> None:
        frame = await guest.receive()
        await guest.send(response=True, id=frame["id"], **answer)

    async with opened(authority, refuse) as room:
        with pytest.raises(RaveError) as caught:
            await room.chat("hi")
        assert caught.value.code is Code.REFUSED
        assert caught.value.attributes["error_code"] == 403
        assert room.connected


async def test_what_waits_fails_when_the_server_closes(authority: Authority) -> None:
    async def close(guest: Guest) -> None:
        await guest.receive()
        await guest.receive()
        await guest.socket.close(4000, "bye")

    async with opened(authority, close, timings=Timings(chat_answer_timeout_s=NEVER)) as room:
        async with asyncio.timeout(10):
            outcomes = await asyncio.gather(room.chat("a"), room.chat("b"), return_exceptions=True)
        assert [isinstance(e, RaveError) and e.code for e in outcomes] == [Code.CLOSED, Code.CLOSED]
        for send in (room.chat("c"), room.typing(), room.typing_stop()):
            with pytest.raises(RaveError) as caught:
                await send
            assert caught.value.code is Code.CLOSED


@pytest.mark.slow
async def test_a_server_that_takes_nothing(authority: Authority) -> None:
    release = asyncio.Event()

    async def deaf(guest: Guest) -> None:
        guest.socket.transport.pause_reading()
        await release.wait()
        guest.socket.transport.abort()

    timings = Timings(closing_timeout_s=0.2, chat_answer_timeout_s=0.1)
    async with opened(authority, deaf, timings=timings) as room:

        async def flood() -> None:
            while True:
                await room.chat("x" * 2**20)

        with pytest.raises(RaveError) as caught:
            await flood()
        assert caught.value.code is Code.TIMEOUT
        close = await room.run()
        assert close.kind is CloseKind.LOST
        assert close.reason == "the server does not read what it is sent"
        release.set()


@pytest.mark.slow
async def test_a_goodbye_to_a_server_that_takes_nothing(authority: Authority) -> None:
    release = asyncio.Event()

    async def deaf(guest: Guest) -> None:
        guest.socket.transport.pause_reading()
        await release.wait()
        guest.socket.transport.abort()

    timings = Timings(closing_timeout_s=0.5, chat_answer_timeout_s=0.01)
    async with opened(authority, deaf, timings=timings) as room:

        async def flood() -> None:
            while True:
                await room.chat("x" * 2**20)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flood(), 0.4)
        # The closing handshake finds no room in the buffer either.
        async with asyncio.timeout(10):
            await room.close()
        release.set()


@pytest.mark.slow
async def test_a_server_that_reads_no_answers_to_its_pings_is_left(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ping of 125 bytes has an answer of 131; unread they would fill the memory."""
    monkeypatch.setattr(connection, "_FRAME_RATE", Rate(10**9, 1e9))
    pings = (b"\x89\x7d" + b"x" * 125) * 1000
    sent = 0

    async def flood(guest: Guest) -> None:
        nonlocal sent
        guest.socket.transport.pause_reading()
        while sent < 500 << 20 and not guest.socket.transport.is_closing():
            guest.socket.transport.write(pings)
            sent += len(pings)
            await guest.socket.drain()

    async with opened(authority, flood) as room:
        close = await room.run()
        assert close.kind is CloseKind.LOST
        assert close.reason == "the server does not read what it is sent"
    # What the buffers of two sockets take, and not much of ours.
    assert sent < 50 << 20


async def test_pings_that_come_together_are_answered_together(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write costs TLS a record, and the loop its time."""
    pongs: list[bytes] = []
    write = sslproto._SSLProtocolTransport.write

    def note(transport: sslproto._SSLProtocolTransport, data: bytes) -> None:
        if data[:1] == b"\x8a":
            pongs.append(data)
        write(transport, data)

    monkeypatch.setattr(sslproto._SSLProtocolTransport, "write", note)

    async def ping(guest: Guest) -> None:
        guest.socket.transport.write(b"\x89\x00" * 100)
        await guest.hold()

    async with opened(authority, ping):
        await until(lambda: len(b"".join(pongs)) == 100 * len(b"\x8a\x80mask"))
    # They may come in two portions.
    assert len(pongs) <= 2


async def test_a_connection_that_breaks_while_we_send(authority: Authority) -> None:
    release = asyncio.Event()

    async def deaf(guest: Guest) -> None:
        guest.socket.transport.pause_reading()
        await release.wait()
        guest.socket.transport.abort()

    async def flood(room: Room) -> None:
        while True:
            await room.chat("x" * 2**20)

    async with opened(authority, deaf, timings=Timings(closing_timeout_s=NEVER, chat_answer_timeout_s=0.01)) as room:
        flooding = asyncio.create_task(flood(room))
        await asyncio.sleep(0.3)
        release.set()
        with pytest.raises(RaveError) as caught:
            await flooding
        assert caught.value.code is Code.CLOSED


# The end


async def test_we_close(authority: Authority) -> None:
    ends: list[Any] = []

    async def note(guest: Guest) -> None:
        ends.append(await guest.hold())

    async with opened(authority, note) as room:
        await asyncio.gather(room.close(1001, "stop"), room.close(1000, "too late to say"))
        end = await room.run()
        assert (end.kind, end.code, end.opened) == (CloseKind.LOCAL, 1001, True)
        assert end.reason == "stop"
        assert end is room.closed
    assert ends == [(1001, "stop")]


@pytest.mark.parametrize("early", [0.0, 5.0])
async def test_the_server_closes(authority: Authority, early: float) -> None:
    async def close(guest: Guest) -> None:
        await guest.socket.close(4000, "closed by\nthe server")

    async with opened(authority, close, timings=Timings(early_end_s=early)) as room:
        end = await room.run()
    assert end.kind is (CloseKind.REJECTED if early else CloseKind.LOST)
    assert end.code == 4000
    assert end.reason == "the server closed the connection with code 4000: closed by?the server"


async def test_the_age_is_taken_at_the_close_itself(authority: Authority) -> None:
    now, closed, release = [100.0], asyncio.Event(), asyncio.Event()

    async def close(guest: Guest) -> None:
        await guest.receive()
        # The close frame alone; the server forgets to hang up.
        guest.socket.transport.pause_reading()
        guest.socket.protocol.send_close(1000)
        guest.socket.send_data()
        closed.set()
        await release.wait()
        guest.socket.transport.abort()

    timings = Timings(silence_timeout_s=NEVER * 10, closing_timeout_s=0.3)
    async with opened(authority, close, clock=lambda: now[0], timings=timings) as room:
        now[0] = 103.0
        heard = room.last_received_at
        await room.typing()
        await closed.wait()
        while room.last_received_at == heard:  # noqa: ASYNC110 - nothing tells us when the frame is in
            await asyncio.sleep(0.01)
        now[0] = 200.0
        end = await room.run()
        release.set()
    assert (end.kind, end.code, end.held) == (CloseKind.REJECTED, 1000, 3.0)


async def test_the_connection_breaks(authority: Authority) -> None:
    async def cut(guest: Guest) -> None:
        guest.socket.transport.abort()

    async with opened(authority, cut) as room:
        end = await room.run()
        await room.close()
        assert all(task.get_name() != "room closer" for task in asyncio.all_tasks())
    assert (end.kind, end.code, end.reason) == (CloseKind.LOST, 1006, "the connection broke")


async def test_disconnected(authority: Authority) -> None:
    ends: list[Any] = []

    async def disconnect(guest: Guest) -> None:
        await guest.notify("disconnected")
        ends.append(await guest.hold())

    async with opened(authority, disconnect) as room:
        end = await room.run()
    assert (end.kind, end.reason) == (CloseKind.LOST, "the server said disconnected")
    assert ends[0][0] == 1000


async def notification(guest: Guest) -> None:
    await guest.notify("kicked")


async def request(guest: Guest) -> None:
    await guest.send(request=True, id=1, method="kicked")


async def state_by_number(guest: Guest) -> None:
    await guest.state(kicks=[5, OWN])


async def state_by_text(guest: Guest) -> None:
    await guest.state(kicks=[{"user_id": str(OWN)}], users=[{"user_id": 5}], mesh_state={})


KICKS = [notification, request, state_by_number, state_by_text]


@pytest.mark.parametrize("kick", KICKS)
async def test_kicked_and_left_open(authority: Authority, kick: Callable[[Guest], Awaitable[None]]) -> None:
    ends: list[Any] = []

    async def script(guest: Guest) -> None:
        await guest.users(5, OWN)
        await kick(guest)
        ends.append(await guest.hold())

    listener = Listener()
    async with opened(authority, script, listener) as room:
        end = await room.run()
        assert not room.connected
    assert (end.kind, end.code, end.reason) == (CloseKind.KICKED, 4003, "kicked")
    assert listener.rest() == [("kicked", None)]
    assert ends == [(4003, "kicked")]


@pytest.mark.parametrize("kick", KICKS)
@pytest.mark.parametrize("how", ["close", "cut"])
async def test_kicked_and_closed_at_once(
    authority: Authority, kick: Callable[[Guest], Awaitable[None]], how: str
) -> None:
    async def script(guest: Guest) -> None:
        await kick(guest)
        if how == "close":
            await guest.socket.close(1000)
        else:
            guest.socket.transport.close()

    listener = Listener()
    async with opened(authority, script, listener) as room:
        assert (await room.run()).kind is CloseKind.KICKED
    assert listener.rest() == [("kicked", None)]


async def test_kicked_twice_and_after_disconnected_is_kicked_once(authority: Authority) -> None:
    async def script(guest: Guest) -> None:
        await guest.notify("disconnected")
        for kick in KICKS:
            await kick(guest)
        await guest.say("?ping")
        await guest.users(1)
        await guest.users(2)

    listener = Listener()
    async with opened(authority, script, listener) as room:
        assert (await room.run()).kind is CloseKind.KICKED
    assert listener.rest() == [("kicked", None)]


# The watchdog


async def test_pings_go_out_and_unanswered_ones_do_no_harm(authority: Authority) -> None:
    pings: list[dict[str, Any]] = []

    async def count(guest: Guest) -> None:
        for n in range(4):
            frame = await guest.receive()
            pings.append(frame)
            if n == 0:
                await guest.grant(frame)
            if n == 1:
                await guest.send(response=True, id=frame["id"], ok=False, errorCode=404)
            await guest.notify("anything")
        await guest.say("enough")

    listener = Listener()
    async with opened(authority, count, listener, timings=Timings(ping_interval_s=0.05, answer_timeout_s=0.05)):
        assert await listener.next() == ("chat", "enough")
    assert all(ping["method"] == "clientPing" and ping["request"] and ping["data"] == {} for ping in pings)


@pytest.mark.parametrize("ping", [0.1, NEVER])
async def test_silence_ends_the_connection(authority: Authority, ping: float) -> None:
    ends: list[Any] = []

    async def ignore(guest: Guest) -> None:
        await swallow(guest)
        ends.append(guest.socket.close_code)

    timings = Timings(ping_interval_s=ping, silence_timeout_s=0.3, answer_timeout_s=NEVER)
    async with opened(authority, ignore, timings=timings) as room:
        end = await room.run()
    assert (end.kind, end.reason) == (CloseKind.LOST, "nothing heard from the server for 0.3 s")
    assert 0.3 <= end.held < 3
    assert ends == [1000]


@pytest.mark.slow
async def test_a_server_that_is_gone_without_a_word(authority: Authority) -> None:
    release = asyncio.Event()

    async def freeze(guest: Guest) -> None:
        guest.socket.transport.pause_reading()
        await release.wait()
        guest.socket.transport.abort()

    timings = Timings(ping_interval_s=0.1, silence_timeout_s=0.3, closing_timeout_s=0.2)
    async with opened(authority, freeze, timings=timings) as room:
        end = await room.run()
        release.set()
    assert (end.kind, end.code) == (CloseKind.LOST, 1006)
    assert end.held < 5


@pytest.mark.slow
async def test_any_frame_is_a_life_sign(authority: Authority) -> None:
    async def beat(guest: Guest) -> None:
        # Frames of the WebSocket itself, which no reader sees.
        for _ in range(15):
            await guest.socket.pong()
            await asyncio.sleep(0.1)

    loop = asyncio.get_running_loop()
    timings = Timings(ping_interval_s=NEVER, silence_timeout_s=0.9)
    async with opened(authority, beat, timings=timings) as room:
        start, heard = loop.time(), room.last_received_at
        await room.run()
        assert loop.time() - start > 1.5
        assert room.last_received_at > heard


async def test_before_it_opens(authority: Authority) -> None:
    room = make_room(authority, "localhost:1", clock=lambda: 7.0)
    assert (room.last_received_at, room.connected, room.closed) == (7.0, False, None)
    assert (room.users, room.own_user_id) == (frozenset(), OWN)
    await room.close()
