"""What a bot asks of Rave for its room, against a real HTTPS server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from ravesvc.api.client import Api
from ravesvc.api.dial import Ports
from ravesvc.api.internet import Internet
from ravesvc.api.models import Opinion, Privacy, Profile
from ravesvc.api.room_api import MODERATION_RATE, OTHER_RATE, PLAYING_RATE, HttpRoomApi
from ravesvc.api.upload import Uploads
from ravesvc.bot.room_api import RoomApi
from ravesvc.common import translation
from ravesvc.common.video import Video
from ravesvc.config.worker_options import DEFAULT_API, ClientIdentity, Servers, Tls, UnconfirmedCalls
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from tests.unit.api_server import Asked, Reply, Server, serving
from tests.unit.authority import Authority

MESH = "11111111-2222-4333-8444-555555555555"
RAVE_ID = "99999999-2222-4333-8444-555555555555"
INSTANCE = "77777777-2222-4333-8444-555555555555"
URL = f"https://api.red.wemesh.ca/videos/youtube/{RAVE_ID}"
NOW = 1700000000.25
DEVICE = "secretdevice"
VIDEO = Video(
    provider="youtube",
    id="dQw4w9WgXcQ",
    url="https://www.youtube.com/watch?v=dQw4w9WgXcQ",
    title="Zoë sings",
    author="Zoë",
    seconds=3723.6,
    thumbnail="https://i.example/t.jpg",
    views=12,
)
FINE = Reply(body={"success": True})
OPEN = {"isPublic": True, "isFriend": False, "isLocal": False, "playMode": "VOTE", "voipMode": "OFF"}
INVITED_ONLY = Privacy(public=False, friends=False, local=False)
REGISTERED = Reply(body={"data": {"id": RAVE_ID}})

Run = Callable[[Any], Any]
Question = Callable[[RoomApi], Awaitable[Any]]
Ask = Callable[..., Any]

VOTE: Question = lambda rave: rave.vote(URL)  # noqa: E731 - a name for what many tests ask
KICK: Question = lambda rave: rave.kick(900000002)  # noqa: E731
CLOSE: Question = lambda rave: rave.set_privacy(INVITED_ONLY)  # noqa: E731

# Each order: what is asked for, and the method, path, query and body of its request.
ORDERS: dict[str, tuple[Question, str, str, dict[str, str], Any]] = {
    "vote": (VOTE, "POST", f"/meshes/{MESH}/votes", {}, {"deviceId": DEVICE, "time": NOW, "url": URL}),
    "clear_votes": (lambda rave: rave.clear_votes(), "POST", f"/meshes/{MESH}/votes/clear", {}, None),
    "like": (
        lambda rave: rave.like(URL, INSTANCE),
        "PUT",
        f"/meshes/{MESH}/likeskip",
        {},
        {"opinion": "LIKE", "url": URL, "videoInstanceId": INSTANCE},
    ),
    "vote_skip": (
        lambda rave: rave.vote_skip(URL, INSTANCE),
        "PUT",
        f"/meshes/{MESH}/likeskip",
        {},
        {"opinion": "SKIP", "url": URL, "videoInstanceId": INSTANCE},
    ),
    "withdraw": (
        lambda rave: rave.withdraw(Opinion.SKIP, URL, INSTANCE),
        "DELETE",
        f"/meshes/{MESH}/likeskip",
        {"opinion": "SKIP", "url": URL, "videoInstanceId": INSTANCE},
        None,
    ),
    "play": (
        lambda rave: rave.set_playback(61.5, playing=True),
        "PUT",
        f"/meshes/{MESH}/state",
        {},
        {"position": 61.5, "state": "PLAY", "time": NOW},
    ),
    "pause": (
        lambda rave: rave.set_playback(0, playing=False),
        "PUT",
        f"/meshes/{MESH}/state",
        {},
        {"position": 0, "state": "PAUS", "time": NOW},
    ),
    "end_video": (lambda rave: rave.end_video(), "POST", f"/meshes/{MESH}/state/endstream", {}, None),
    "kick": (
        KICK,
        "POST",
        f"/meshes/{MESH}/kick",
        {},
        {"deviceId": DEVICE, "ids": [900000002], "includeOnline": False},
    ),
    "mute": (lambda rave: rave.mute(7), "POST", f"/meshes/{MESH}/mute/7", {}, {}),
    "unmute": (lambda rave: rave.unmute(7), "POST", f"/meshes/{MESH}/unmute/7", {}, {}),
    "transfer_leadership": (
        lambda rave: rave.transfer_leadership(7),
        "POST",
        f"/meshes/{MESH}/transferleadership",
        {},
        {"newLeaderId": 7},
    ),
}


@asynccontextmanager
async def opened(server: Server, authority: Authority, slept: list[float], **more: Any) -> AsyncIterator[HttpRoomApi]:
    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    api = Api(
        servers=Servers(api=server.url, parse="", mojo=""),
        identity=ClientIdentity(request_hash_key="k", user_agent="u", client_version="1"),
        session=Session(device_id=DEVICE, ssaid="s", user_id=900000001, auth_token="secrettoken"),
        tls=Tls(ca_file=str(authority.ca_file)),
        sleep=sleep,
        rng=lambda: 1.0,
    )
    unconfirmed = more.pop("unconfirmed", UnconfirmedCalls())
    try:
        yield HttpRoomApi(
            api, MESH, unconfirmed, Uploads(Internet(Tls(), None, "", Ports((), ""))), wall=lambda: NOW, **more
        )
    finally:
        await api.close()


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def ask(authority: Authority, slept: list[float], run: Run) -> Ask:
    """`ask(server, question)`: the outcome of one question."""

    def asking(server: Server, question: Question, **more: Any) -> Any:
        async def main() -> Any:
            async with opened(server, authority, slept, **more) as rave:
                return await question(rave)

        return run(main())

    return asking


def fails(ask: Ask, server: Server, question: Question, **more: Any) -> RaveError:
    with pytest.raises(RaveError) as caught:
        ask(server, question, **more)
    shown = f"{caught.value!r} {caught.value} {caught.value.attributes} {caught.value.__context__!r}"
    assert "secret" not in shown
    return caught.value


def sent(asked: Asked) -> Any:
    return json.loads(asked.body) if asked.body else None


# Requests as they arrive.


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_as_it_arrives(name: str, authority: Authority, ask: Ask) -> None:
    question, method, path, query, body = ORDERS[name]
    with serving(authority, FINE) as server:
        assert ask(server, question) is None
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.query, sent(asked)) == (method, path, query, body)
    assert {"request-hash", "authorization", "client-version"} <= asked.headers.keys()


def test_a_video_is_registered_and_its_url_is_what_votes_name(authority: Authority, ask: Ask) -> None:
    with serving(authority, REGISTERED) as server:
        assert ask(server, lambda rave: rave.register(VIDEO)) == URL
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/videos/youtube")
    assert sent(asked) == {
        "providerId": "dQw4w9WgXcQ",
        "title": "Zoë sings",
        "author": "Zoë",
        "description": None,
        "duration": "PT1H2M4S",
        "isLive": False,
        "maturity": "G",
        "thumbnail": "https://i.example/t.jpg",
        "thumbnails": {"animated": None, "channel": None, "high": "https://i.example/t.jpg"},
        "url": VIDEO.url,
        "videoTags": [],
        "viewCount": 12,
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "PT0H0M0S"), (59.4, "PT0H0M59S"), (59.6, "PT0H1M0S"), (3599.5, "PT1H0M0S"), (604800.0, "PT168H0M0S")],
)
def test_a_length_has_always_three_parts(seconds: float | None, text: str, authority: Authority, ask: Ask) -> None:
    with serving(authority, REGISTERED) as server:
        ask(server, lambda rave: rave.register(replace(VIDEO, seconds=seconds)))
    assert sent(server.asked[0])["duration"] == text


def test_what_is_not_known_of_a_video_is_null(authority: Authority, ask: Ask) -> None:
    stream = Video(provider="youtube", id="x", url="https://y.example/x", live=True, mature=True)
    with serving(authority, REGISTERED) as server:
        ask(server, lambda rave: rave.register(stream))
    found = sent(server.asked[0])
    assert (found["author"], found["thumbnail"], found["thumbnails"]) == (None, None, None)
    assert (found["isLive"], found["maturity"], found["title"]) == (True, "18+", "")


def test_a_video_of_another_provider(authority: Authority, ask: Ask) -> None:
    with serving(authority, REGISTERED) as server:
        found = ask(server, lambda rave: rave.register(replace(VIDEO, provider="vimeo")))
    assert found == f"{DEFAULT_API}/videos/vimeo/{RAVE_ID}"
    assert server.asked[0].path == "/videos/vimeo"


@pytest.mark.parametrize(
    ("media_url", "base"),
    [
        ("https://other.example:8443/videos/youtube/1", "https://other.example:8443"),
        ("http://other.example/videos/youtube/1", DEFAULT_API),
        ("https://user:secret@other.example/videos/youtube/1", DEFAULT_API),
        ("https://other.example", DEFAULT_API),
        (None, DEFAULT_API),
    ],
)
def test_the_host_of_urls_may_be_that_of_the_room(
    media_url: str | None, base: str, authority: Authority, ask: Ask
) -> None:
    playing = Reply(body={"data": {"id": MESH, "mediaUrl": media_url}})
    with serving(authority, REGISTERED, playing) as server:
        unconfirmed = UnconfirmedCalls(video_host="room")
        found = ask(server, lambda rave: rave.register(VIDEO), unconfirmed=unconfirmed)
    assert found == f"{base}/videos/youtube/{RAVE_ID}"
    assert [asked.path for asked in server.asked] == ["/videos/youtube", f"/meshes/{MESH}"]


def test_the_time_of_a_vote_may_be_in_milliseconds(authority: Authority, ask: Ask) -> None:
    with serving(authority, FINE) as server:
        ask(server, VOTE, unconfirmed=UnconfirmedCalls(vote_time="milliseconds"))
    assert sent(server.asked[0])["time"] == 1700000000250


def test_who_finds_the_room(authority: Authority, ask: Ask) -> None:
    with serving(authority, Reply(body={"data": OPEN | {"isLocal": True, "users": []}})) as server:
        assert ask(server, lambda rave: rave.privacy()) == Privacy(public=True, friends=False, local=True)
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("GET", f"/meshes/{MESH}")


@pytest.mark.parametrize("wrong", [{"isPublic": None}, {"isFriend": "no"}, {"isLocal": 0}])
def test_who_finds_the_room_is_not_guessed(wrong: dict[str, Any], authority: Authority, ask: Ask) -> None:
    with serving(authority, Reply(body={"data": OPEN | wrong})) as server:
        assert fails(ask, server, lambda rave: rave.privacy()).code is Code.BAD_DATA


@pytest.mark.parametrize(
    ("told", "sent_on"),
    [(OPEN, {"playMode": "VOTE", "voipMode": "OFF"}), ({"playMode": "LEADER"}, {"playMode": "LEADER"}), ({}, {})],
)
def test_a_change_of_who_finds_the_room_leaves_other_settings_as_they_are(
    told: dict[str, Any], sent_on: dict[str, Any], authority: Authority, ask: Ask
) -> None:
    with serving(authority, Reply(body={"data": told}), FINE) as server:
        ask(server, lambda rave: rave.set_privacy(Privacy(public=False, friends=True, local=False)))
    read, changed = server.asked
    assert (read.method, read.path) == ("GET", f"/meshes/{MESH}")
    assert (changed.method, changed.path) == ("PUT", f"/meshes/{MESH}")
    assert sent(changed) == {"isPublic": False, "isFriend": True, "isLocal": False, **sent_on}


def test_a_profile(authority: Authority, ask: Ask) -> None:
    told = {"profile": {"displayName": "Ann\x1b[2J", "handle": "ann", "country": "DE"}, "bio": {"bio": "a\nb"}}
    with serving(authority, Reply(body={"data": told})) as server:
        found = ask(server, lambda rave: rave.profile(7))
    assert found == Profile(name="Ann?[2J", handle="ann", country="DE", bio="a?b")
    (asked,) = server.asked
    assert (asked.path, asked.query) == ("/profiles/7", {"exclude": "false", "clientVersion": "1"})


def test_a_profile_that_says_nothing(authority: Authority, ask: Ask) -> None:
    with serving(authority, Reply(body={"data": {"profile": {}, "bio": None}})) as server:
        assert ask(server, lambda rave: rave.profile(7)) == Profile(name="", handle="", country="", bio="")


# Refusals in words.


def refusing(status: int) -> Reply:
    return Reply(status, {"error": {"code": 1, "message": "secrettoken is odd"}})


@pytest.mark.parametrize(
    ("name", "reply", "code", "text"),
    [
        (
            "vote",
            refusing(404),
            Code.NOT_FOUND,
            "voting for the video failed: this video is unknown to Rave",
        ),
        (
            "vote",
            refusing(403),
            Code.FORBIDDEN,
            "voting for the video failed: Rave does not let the bot do that in this room",
        ),
        (
            "like",
            refusing(400),
            Code.BAD_REQUEST,
            "liking the video failed: Rave does not take this video",
        ),
        (
            "kick",
            refusing(403),
            Code.FORBIDDEN,
            "kicking that user failed: only the leader can do that"
            " (the leader can make the bot the leader in the app)",
        ),
        (
            "mute",
            Reply(200, {"success": False}),
            Code.REFUSED,
            "muting that user failed: Rave refuses, most likely because only the leader can do that"
            " (the leader can make the bot the leader in the app)",
        ),
        (
            "transfer_leadership",
            refusing(404),
            Code.NOT_FOUND,
            "making that user the leader failed: Rave finds no such user in this room",
        ),
        (
            "play",
            refusing(404),
            Code.NOT_FOUND,
            "playing from there failed: Rave finds nothing that plays in this room",
        ),
        (
            "end_video",
            refusing(401),
            Code.UNAUTHORIZED,
            "ending the video failed: the session is not valid (HTTP 401, error 1) (log in again)",
        ),
        (
            "vote",
            Reply(302, headers={"Location": "https://stranger.example/"}),
            Code.BAD_DATA,
            "voting for the video failed: the server wants to redirect us, which is not followed (HTTP 302)",
        ),
    ],
)
def test_a_refusal_says_what_was_tried_and_why_not(
    name: str, reply: Reply, code: Code, text: str, authority: Authority, ask: Ask
) -> None:
    with serving(authority, reply) as server:
        error = fails(ask, server, ORDERS[name][0])
    assert (error.code, str(error)) == (code, text)
    assert error.attributes["status"] == reply.status
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("replies", "code", "text"),
    [
        (
            [Reply(body={"data": OPEN}), refusing(403)],
            Code.FORBIDDEN,
            "changing who finds this room failed: only the leader can do that"
            " (the leader can make the bot the leader in the app)",
        ),
        (
            [Reply(body={"data": OPEN}), Reply(200, {"success": False})],
            Code.REFUSED,
            "changing who finds this room failed: Rave refuses, most likely because only the leader can do that"
            " (the leader can make the bot the leader in the app)",
        ),
        ([refusing(404)], Code.NOT_FOUND, "changing who finds this room failed: Rave finds no such room"),
    ],
)
def test_a_room_that_may_not_be_changed(
    replies: list[Reply], code: Code, text: str, authority: Authority, ask: Ask
) -> None:
    with serving(authority, *replies) as server:
        error = fails(ask, server, CLOSE)
    assert (error.code, str(error)) == (code, text)
    assert len(server.asked) == len(replies)


def test_a_change_of_a_room_that_may_have_been_carried_out_is_not_repeated(authority: Authority, ask: Ask) -> None:
    with serving(authority, Reply(body={"data": OPEN}), refusing(500), FINE) as server:
        assert fails(ask, server, CLOSE).code is Code.SERVER_ERROR
    assert [asked.method for asked in server.asked] == ["GET", "PUT"]


def test_a_refusal_to_register_names_the_provider(authority: Authority, ask: Ask) -> None:
    with serving(authority, refusing(404)) as server:
        error = fails(ask, server, lambda rave: rave.register(replace(VIDEO, provider="vimeo")))
    assert error.message == "giving Rave the video failed: Rave takes no videos of this provider"


@pytest.mark.parametrize(
    "answer",
    [{}, {"data": {}}, {"data": {"id": ""}}, {"data": {"id": "../x"}}, {"data": {"id": "x" * 65}}, {"data": [7]}],
)
def test_no_vote_without_an_id(answer: Any, authority: Authority, ask: Ask) -> None:
    async def play(rave: RoomApi) -> None:
        await rave.vote(await rave.register(VIDEO))

    with serving(authority, Reply(body=answer)) as server:
        error = fails(ask, server, play)
    assert error.code is Code.BAD_DATA
    assert error.message.startswith("giving Rave the video failed: ")
    assert [asked.path for asked in server.asked] == ["/videos/youtube"]


@pytest.mark.parametrize(
    "question",
    [
        lambda rave: rave.vote(""),
        lambda rave: rave.vote("http://x.example/1"),
        lambda rave: rave.vote("https://x.example/\n"),
        lambda rave: rave.vote("https://x.example/" + "x" * 2000),
        lambda rave: rave.like(URL, ""),
        lambda rave: rave.vote_skip(URL, "x" * 65),
        lambda rave: rave.withdraw(Opinion.LIKE, "", INSTANCE),
        lambda rave: rave.set_playback(-1, playing=True),
        lambda rave: rave.set_playback(float("nan"), playing=True),
        lambda rave: rave.kick(0),
        lambda rave: rave.mute(-7),
        lambda rave: rave.profile(0),
    ],
)
def test_what_makes_no_sense_is_never_sent(question: Question, authority: Authority, ask: Ask) -> None:
    with serving(authority) as server:
        assert fails(ask, server, question).code is Code.INVALID_ARGUMENT
    assert server.asked == []


@pytest.mark.parametrize(
    ("switch", "question"),
    [
        ("playback", ORDERS["play"][0]),
        ("end_video", ORDERS["end_video"][0]),
        ("clear_votes", ORDERS["clear_votes"][0]),
        ("other_providers", lambda rave: rave.register(replace(VIDEO, provider="vimeo"))),
        ("profiles", lambda rave: rave.profile(7)),
        ("privacy", CLOSE),
    ],
)
def test_what_is_switched_off_says_by_which_option(
    switch: str, question: Question, authority: Authority, ask: Ask
) -> None:
    with serving(authority, REGISTERED) as server:
        unconfirmed = UnconfirmedCalls(**{switch: False})
        error = fails(ask, server, question, unconfirmed=unconfirmed)
        assert server.asked == []
        ask(server, lambda rave: rave.register(VIDEO), unconfirmed=unconfirmed)
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message.endswith("is switched off for this bot")
    assert f"unconfirmed_calls.{switch} " in error.hint


# What is tried again, and how often anything is asked.


@pytest.mark.parametrize("reply", [refusing(500), Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{")])
def test_an_order_that_may_have_been_carried_out_is_not_repeated(
    reply: Reply, authority: Authority, ask: Ask, slept: list[float]
) -> None:
    with serving(authority, reply, FINE) as server:
        assert fails(ask, server, KICK).code in (Code.SERVER_ERROR, Code.NETWORK)
    assert len(server.asked) == 1
    assert slept == []


def test_one_that_came_too_soon_is(authority: Authority, ask: Ask, slept: list[float]) -> None:
    slow_down = Reply(429, {"error": {"code": 2015}}, {"Retry-After": "2"})
    with serving(authority, slow_down, FINE) as server:
        ask(server, KICK)
    assert len(server.asked) == 2
    assert slept == [3.0]


def test_a_long_pause_is_told_at_once(authority: Authority, ask: Ask, slept: list[float]) -> None:
    with serving(authority, Reply(429, None, {"Retry-After": "6"}), FINE) as server:
        error = fails(ask, server, KICK)
    assert (error.code, error.attributes["retry_after"]) == (Code.RATE_LIMITED, 6.0)
    assert len(server.asked) == 1
    assert slept == []


def test_a_server_that_hangs_is_not_waited_for_for_ever(
    authority: Authority, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ravesvc.api.client.REQUEST_TIMEOUT_S", 0.2)
    with serving(authority, FINE) as server:
        server.hang()
        error = fails(ask, server, VOTE)
    assert (error.code, error.message) == (
        Code.TIMEOUT,
        "voting for the video failed: localhost did not answer in time",
    )


async def test_a_bot_asks_no_more_than_so_often(authority: Authority, slept: list[float]) -> None:
    now = 0.0

    with serving(authority, FINE) as server:
        async with opened(server, authority, slept, clock=lambda: now) as rave:
            for _ in range(MODERATION_RATE.burst):
                await rave.mute(7)
            with pytest.raises(RaveError) as caught:
                await rave.kick(7)
            assert caught.value.code is Code.RATE_LIMITED
            assert caught.value.attributes == {"retry_after": 2}
            assert str(caught.value) == (
                "kicking that user has to wait: the bot has asked Rave for a lot in this room (try again in 2 s)"
            )
            now = 2.0
            await rave.kick(7)
            with pytest.raises(RaveError):
                await rave.kick(7)
    assert len(server.asked) == MODERATION_RATE.burst + 1


async def test_likes_leave_calls_for_the_queue_and_both_leave_some_for_moderation(
    authority: Authority, slept: list[float]
) -> None:
    async def use_up(calls: int, call: Callable[[], Awaitable[object]]) -> None:
        for _ in range(calls):
            await call()
        with pytest.raises(RaveError) as caught:
            await call()
        assert caught.value.code is Code.RATE_LIMITED

    with serving(authority, FINE) as server:
        async with opened(server, authority, slept, clock=lambda: 0.0) as rave:
            await use_up(OTHER_RATE.burst, lambda: rave.like(URL, INSTANCE))
            await use_up(PLAYING_RATE.burst, lambda: rave.vote(URL))
            await use_up(MODERATION_RATE.burst, lambda: rave.kick(7))


def test_what_is_around_a_request_may_refuse_it_and_sees_it_fail(authority: Authority, ask: Ask) -> None:
    seen: list[Code] = []

    @contextmanager
    def watching() -> Iterator[None]:
        try:
            yield
        except RaveError as e:
            seen.append(e.code)
            raise

    @contextmanager
    def refusing_all() -> Iterator[None]:
        raise RaveError(Code.RATE_LIMITED, "Rave wants a pause")
        yield

    with serving(authority, refusing(403)) as server:
        fails(ask, server, KICK, asking=watching)
        assert fails(ask, server, KICK, asking=refusing_all).message == "Rave wants a pause"
    assert seen == [Code.FORBIDDEN]
    assert len(server.asked) == 1


async def test_a_question_that_is_cancelled_leaves_the_next_one_a_connection(
    authority: Authority, slept: list[float]
) -> None:
    with serving(authority, FINE) as server:
        async with opened(server, authority, slept) as rave:
            server.hang()
            first = asyncio.create_task(rave.vote(URL))
            await asyncio.to_thread(server.arrived.wait, 5)
            first.cancel()
            await asyncio.wait([first])
            server.release()
            await rave.kick(7)
    assert [asked.path.rpartition("/")[2] for asked in server.asked] == ["votes", "kick"]


def test_a_refusal_can_be_said_in_the_language_of_the_room(authority: Authority, ask: Ask) -> None:
    with serving(authority, refusing(403)) as server:
        error = fails(ask, server, KICK)
    german = translation.load("de")
    said = [translation.translate(text, german) for text in (error.message, error.hint)]
    assert said == [
        "diesen Nutzer hinauswerfen ging nicht: das kann nur der Leiter",
        "der Leiter kann den Bot in der App zum Leiter machen",
    ]
