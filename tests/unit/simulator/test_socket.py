"""Rave over WebSocket, with a raw client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from ravesvc.errors import Code, RaveError
from ravesvc.simulator import peer
from tests.unit.simulator_server import Served, ask, in_thread, receive, state_of, until

CHAT = {"chat": "hello", "id": "aaaaaaaa-0000-4000-8000-000000000001", "detected_lang": "en", "translations": {}}


@pytest.fixture
def mesh(served: Served) -> str:
    (made,) = served.control.create()
    served.control.invite(made)
    return made


def words(served: Served) -> list[str]:
    return [violation["what"] for violation in served.control.violations()]


async def joined(ws: ClientConnection) -> dict[str, Any]:
    """fullyJoined; returns the first state after it."""
    assert (await ask(ws, "fullyJoined"))["ok"] is True
    return await state_of(ws)


async def notify(ws: ClientConnection, method: str, **data: Any) -> None:
    await ws.send(json.dumps({"notification": True, "method": method, "data": data}))


async def closed(ws: ClientConnection) -> tuple[int | None, str | None]:
    """Close code and reason of a connection that ends now; 1006 without a close frame."""
    async with asyncio.timeout(5):
        await ws.wait_closed()
    return ws.close_code, ws.close_reason


# The door.


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"subprotocols": None}, 403),
        ({"headers": {"Authorization": "Bearer x"}}, 401),
        ({"headers": {"API-Version": "4.0"}}, 400),
        ({"query": {"roomId": "x"}}, 400),
        ({"query": {"roomId": "x", "peerId": "1_2"}}, 403),
    ],
)
async def test_a_wrong_opening_is_refused_and_written_down(
    served: Served, mesh: str, changed: dict[str, Any], status: int
) -> None:
    with pytest.raises(InvalidStatus) as raised:
        await served.open(mesh, **changed)
    assert raised.value.response.status_code == status
    assert len(words(served)) == 1


@pytest.mark.slow
async def test_an_opening_of_a_closed_or_unknown_mesh_is_refused(served: Served) -> None:
    (private,) = served.control.create()

    for mesh, status in ((private, 403), ("unknown", 404)):
        with pytest.raises(InvalidStatus) as raised:
            await served.open(mesh)
        assert raised.value.response.status_code == status
    assert words(served) == []
    assert [e["status"] for e in served.control.events() if e["type"] == "refused"] == [403, 404]


async def test_a_mesh_for_friends_is_entered_by_friends(served: Served) -> None:
    (mesh,) = served.control.create(kinds=["friends"])

    with pytest.raises(InvalidStatus) as raised:
        await served.open(mesh)
    assert raised.value.response.status_code == 403
    served.control.befriend("ann")
    served.control.befriend("botty", "ann")
    async with served.open(mesh) as ws:
        await joined(ws)
    assert words(served) == []


async def test_a_second_peer_with_the_same_id_is_refused(served: Served, mesh: str) -> None:
    async with served.open(mesh):
        with pytest.raises(InvalidStatus) as raised:
            await served.open(mesh)
        assert raised.value.response.status_code == 403
    assert words(served) == [], "an account may run in two places, and none of them knows"


async def test_the_same_peer_may_be_in_several_meshes(served: Served) -> None:
    one, other = served.control.create(2, kinds=["public"])

    async with served.open(one) as first, served.open(other) as second:
        await joined(first)
        await joined(second)
        assert set(await in_thread(served.control.connections)) == {one, other}


def test_a_call_of_the_root_without_an_upgrade_is_refused(served: Served, mesh: str) -> None:
    headers = {"Sec_WebSocket_Protocol": "protoo", "API_Version": "4"}
    url = f"/?roomId={mesh}&peerId={served.session.peer_id}"
    assert served.raw("GET", url, **headers).status == 400


async def test_refusals_are_counted(served: Served, mesh: str) -> None:
    served.control.refuse(mesh, status=503, times=1)

    with pytest.raises(InvalidStatus) as raised:
        await served.open(mesh)
    assert raised.value.response.status_code == 503
    async with served.open(mesh) as ws:
        await joined(ws)


async def test_a_refusal_without_a_count_lasts_until_accept(served: Served, mesh: str) -> None:
    served.control.refuse(mesh)

    for _ in range(3):
        with pytest.raises(InvalidStatus):
            await served.open(mesh)
    await in_thread(served.control.accept, mesh)
    async with served.open(mesh) as ws:
        await joined(ws)


async def test_a_socket_can_be_closed_right_after_opening(served: Served, mesh: str) -> None:
    served.control.refuse(mesh, after_open=0.01, code=4005)

    async with served.open(mesh) as ws:
        assert await closed(ws) == (4005, "rejected")


# Frames.


async def test_fully_joined_is_answered_before_the_first_state(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        assert ws.subprotocol == "protoo"
        await ws.send(json.dumps({"request": True, "id": 7, "method": "fullyJoined", "data": {}}))
        assert await receive(ws) == {"response": True, "id": 7, "ok": True, "data": {}}
        state = await state_of(ws)
    assert [user["is_leader"] for user in state["users"]] == [True, False]
    assert state["users"][1]["user_id"] == served.session.user_id
    assert state["mesh_state"]["status"] == "PLAY"
    assert state["kicks"] == []
    assert words(served) == []


async def test_the_first_state_can_come_before_or_never(served: Served, mesh: str) -> None:
    await in_thread(served.control.option, "first_state", "before")
    async with served.open(mesh) as ws:
        await until(ws, "stateMessage")
        await ask(ws, "fullyJoined")
    await in_thread(served.control.option, "first_state", "never")
    await in_thread(served.control.wait, disconnected=[mesh])
    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        await ws.send(json.dumps({"request": True, "id": 8, "method": "clientPing", "data": {}}))
        assert (await receive(ws))["id"] == 8


async def test_states_can_lack_parts_and_be_written_otherwise(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        control = served.control
        for part in ("users", "mesh_state"):
            await in_thread(control.option, "state_parts", f"no-{part}")
            await in_thread(control.join, mesh, f"user-{part}")
            assert part not in await state_of(ws)
        await in_thread(control.option, "state_parts", "all")
        await in_thread(control.option, "user_ids", "text")
        await in_thread(control.option, "kicks_form", "objects")
        await in_thread(control.option, "playback", "none")
        await in_thread(control.option, "state_form", "object")
        await in_thread(control.kick, mesh, close="not")
        message = (await until(ws, "stateMessage"))["message"]
        assert message["kicks"] == [{"user_id": str(served.session.user_id)}]
        assert message["mesh_state"]["status"] == "WAIT"
        assert "url" not in message["mesh_state"]
        assert all(isinstance(user["user_id"], str) for user in message["users"])


async def test_answers_can_be_late_or_missing(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        await in_thread(served.control.option, "ping_delay", "never")
        await ws.send(json.dumps({"request": True, "id": 1, "method": "clientPing", "data": {}}))
        await in_thread(served.control.option, "ping_delay", "0.05")
        assert (await ask(ws, "clientPing", 2))["ok"] is True
        await in_thread(served.control.option, "ping_delay", "30")
        await ws.send(json.dumps({"request": True, "id": 1, "method": "clientPing", "data": {}}))
        await in_thread(served.control.option, "ping_delay", "0")
        assert (await ask(ws, "clientPing", 2))["ok"] is True
        assert (await in_thread(served.control.mesh, mesh))["connections"][0]["pings"] == 4
    assert words(served) == ["a request has the id of another one that is still unanswered"]


@pytest.mark.parametrize("form", ["false", "absent"])
async def test_requests_can_be_refused(served: Served, mesh: str, form: str) -> None:
    served.control.option("refused_methods", "fullyJoined,chatMessage")
    served.control.option("refusal_ok", form)

    async with served.open(mesh) as ws:
        answer = await ask(ws, "fullyJoined")
        assert answer["errorCode"] == 403
        assert answer.get("ok") is (False if form == "false" else None)


@pytest.mark.parametrize(
    "text",
    [
        *("no json", "[]", "{}", '{"notification": true, "method": "dance"}', '{"response": true, "id": 9}'),
        *('{"request": true, "id": "1", "method": "clientPing"}', '{"request": true, "id": 1}'),
        *('{"request": true, "id": 6, "method": "dance"}', '{"request": true, "id": 1, "method": "x", "data": 1}'),
        '{"request": true, "id": 6, "method": "chatMessage", "data": {"chat": "before fullyJoined"}}',
    ],
)
async def test_a_wrong_frame_is_written_down_and_the_socket_stays(served: Served, mesh: str, text: str) -> None:
    async with served.open(mesh) as ws:
        await ws.send(text)
        await ws.send(b"binary frames are passed over")
        await joined(ws)
    assert len(words(served)) == 1


async def test_chat_reaches_everybody_and_its_sender(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        await ws.send(
            json.dumps({"request": True, "notification": True, "id": 5, "method": "chatMessage", "data": CHAT})
        )
        echo = await receive(ws)
        assert echo["data"] == {**CHAT, "from": served.session.peer_id}
        assert await receive(ws) == {"response": True, "id": 5, "ok": True, "data": {}}
        await notify(ws, "chatMessage", **CHAT)
        assert (await receive(ws))["data"]["chat"] == "hello"
        await in_thread(served.control.option, "echo_ids", "replaced")
        await notify(ws, "chatMessage", **CHAT)
        assert (await receive(ws))["data"]["id"] != CHAT["id"]
    assert words(served) == []


async def test_reactions_go_both_ways(served: Served, mesh: str) -> None:
    reaction = {"chat": "", "id": "r", "emoji": "👍", "reaction": CHAT["id"]}
    async with served.open(mesh) as ws:
        await joined(ws)
        with pytest.raises(RaveError, match="nothing to react to"):
            await in_thread(served.control.react, mesh, "👍")
        await notify(ws, "chatMessage", **CHAT)
        assert (await receive(ws))["data"]["chat"] == "hello"
        await notify(ws, "chatMessage", **reaction)
        assert (await receive(ws))["data"] == {**reaction, "from": served.session.peer_id}
        assert await in_thread(served.control.react, mesh, "👎") == []
        seen = (await until(ws, "chatMessage"))["from"], (await in_thread(served.control.events))[-1]
        await notify(ws, "chatMessage", **{**reaction, "emoji": ""})
        await ask(ws, "clientPing")
    assert (seen[1]["type"], seen[1]["user"], seen[1]["emoji"], seen[1]["to"]) == (
        "reaction",
        "ann",
        "👎",
        CHAT["id"],
    )
    assert seen[0] != served.session.peer_id
    assert words(served) == ["reaction without emoji"]


@pytest.mark.parametrize(
    ("form", "request_is", "notified"),
    [("both", (True, 1), 1), ("request", (True, 1), 0), ("notification", (True, 0), 1), ("refusing", (False, 0), 1)],
)
async def test_chat_is_shown_in_the_forms_that_the_option_says(
    served: Served, mesh: str, form: str, request_is: tuple[bool, int], notified: int
) -> None:
    def shown() -> int:
        return sum(event["type"] == "chat" for event in served.control.events())

    await in_thread(served.control.option, "chat_form", form)
    async with served.open(mesh) as ws:
        await joined(ws)
        frame = {"request": True, "notification": True, "id": 5, "method": "chatMessage", "data": CHAT}
        await ws.send(json.dumps(frame))
        while (answer := await receive(ws)).get("id") != 5:
            pass
        assert (answer["ok"], await in_thread(shown)) == request_is
        await notify(ws, "chatMessage", **CHAT)
        await ask(ws, "clientPing")
        assert await in_thread(shown) == request_is[1] + notified


async def test_a_message_may_be_delivered_twice_and_its_echo_come_late(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        await in_thread(served.control.option, "chat_copies", "2")
        await in_thread(served.control.option, "echo_delay", "0.05")
        await notify(ws, "chatMessage", **CHAT)
        await ws.send(json.dumps({"request": True, "id": 7, "method": "clientPing", "data": {}}))
        assert (await receive(ws))["id"] == 7
        assert [(await receive(ws))["data"]["chat"] for _ in range(2)] == ["hello", "hello"]


@pytest.mark.parametrize("missing", ["chat", "id", "detected_lang", "translations"])
async def test_an_incomplete_chat_message_is_refused(served: Served, mesh: str, missing: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        answer = await ask(ws, "chatMessage", **{key: value for key, value in CHAT.items() if key != missing})
        assert answer["errorCode"] == 403
    assert words(served) == [f"chatMessage without {missing}"]


async def test_typing_reaches_the_others_only(served: Served) -> None:
    (mesh,) = served.control.create(kinds=["public"])
    world = served.simulator.world
    bea = world.sessions["beas-token"] = world.user("bea")
    hers = {"query": {"roomId": mesh, "peerId": bea.peer_id}, "headers": {"Authorization": "Bearer beas-token"}}

    async with served.open(mesh, **hers) as other, served.open(mesh) as ws:
        await joined(other)
        await joined(ws)
        await notify(ws, "typing")
        await notify(ws, "typing_stop")
        assert await until(other, "typing") == {"from": served.session.peer_id}
        assert await until(other, "typing_stop") == {"from": served.session.peer_id}
        await ws.send(json.dumps({"request": True, "id": 2, "method": "clientPing", "data": {}}))
        assert (await receive(ws)).get("id") == 2
    assert [e["type"] for e in served.control.events() if e["type"].startswith("typing")] == ["typing", "typing_stop"]


@pytest.mark.slow
async def test_the_bots_answer_is_awaited(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        waiting = asyncio.create_task(in_thread(served.control.chat, mesh, "?ping", wait=5, answers=2))
        said = await until(ws, "chatMessage")
        assert said["chat"] == "?ping"
        assert said["from"].startswith("100000001_")
        await notify(ws, "chatMessage", **{**CHAT, "reply": "something else"})
        await notify(ws, "chatMessage", **{**CHAT, "chat": "Po", "reply": said["id"]})
        await notify(ws, "chatMessage", **{**CHAT, "chat": "ng", "reply": said["id"]})
        assert await waiting == ["Po", "ng"]


async def test_a_request_of_the_server_is_answered_or_not(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        waiting = asyncio.create_task(in_thread(served.control.ask, mesh, "newConsumer", {"x": 1}))
        frame = await receive(ws)
        assert (frame["request"], frame["method"], frame["data"]) == (True, "newConsumer", {"x": 1})
        answer = {"response": True, "id": frame["id"], "ok": False, "errorCode": 404}
        await ws.send(json.dumps(answer))
        assert await waiting == answer
        with pytest.raises(RaveError) as raised:
            await in_thread(served.control.ask, mesh, "newConsumer", timeout=0.05)
        assert raised.value.code is Code.TIMEOUT
    with pytest.raises(RaveError, match="the bot is not connected"):
        served.control.ask(mesh, "newConsumer")


# The end of a connection.


def ended(served: Served, mesh: str) -> dict[str, Any]:
    state = served.control.wait(disconnected=[mesh], timeout=5)
    (end,) = state["meshes"][mesh]["ended"]
    return {key: end[key] for key in ("code", "reason", "by")}


async def test_the_clients_close_code_is_remembered(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        assert len((await in_thread(served.control.mesh, mesh))["users"]) == 2
        await ws.close(4003, "kicked")
    assert ended(served, mesh) == {"code": 4003, "reason": "kicked", "by": "client"}
    assert len(served.control.mesh(mesh)["users"]) == 1


async def test_a_close_frame_without_a_code_is_1005(served: Served, mesh: str) -> None:
    ws = await served.open(mesh)
    ws.protocol.send_close()
    ws.transport.write(b"".join(ws.protocol.data_to_send()))
    await closed(ws)
    assert ended(served, mesh) == {"code": 1005, "reason": "", "by": "client"}


async def test_a_client_that_vanishes_is_1006(served: Served, mesh: str) -> None:
    ws = await served.open(mesh)
    await joined(ws)
    ws.transport.abort()
    await closed(ws)
    assert ended(served, mesh) == {"code": 1006, "reason": "lost", "by": "network"}


async def test_a_connection_is_cut(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        await in_thread(served.control.drop, mesh)
        assert (await closed(ws))[0] == 1006
    assert ended(served, mesh) == {"code": 1006, "reason": "cut", "by": "server"}


async def test_a_socket_is_closed_with_a_code_after_a_word_of_it(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        await in_thread(served.control.close, mesh, 4000, reason="bye", announced=True)
        assert (await receive(ws))["method"] == "disconnected"
        assert await closed(ws) == (4000, "bye")
    assert ended(served, mesh) == {"code": 4000, "reason": "bye", "by": "server"}


async def test_a_removed_mesh_closes_its_sockets(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        await in_thread(served.control.remove, mesh)
        assert (await receive(ws))["method"] == "disconnected"
        assert (await closed(ws))[0] == 4000


async def test_silence_ends_a_connection(served: Served, mesh: str) -> None:
    served.control.option("silence_limit", 0.05)

    async with served.open(mesh) as ws:
        assert await closed(ws) == (4000, "silent")
    assert words(served) == ["silent for 0.05 s"]


async def test_without_a_limit_silence_is_borne(served: Served, mesh: str) -> None:
    served.control.option("silence_limit", "never")

    async with served.open(mesh) as ws:
        await joined(ws)
    assert served.control.state()["options"]["silence_limit"] == "never"


async def test_a_frame_that_is_too_large_ends_the_connection(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        await notify(ws, "typing", x="x" * 300_000)
        assert (await closed(ws))[0] == 1009


@pytest.mark.slow
async def test_a_client_that_reads_nothing_is_cut_off(
    served: Served, mesh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "_MAX_OUTBOX_FRAMES", 10)

    ws = await served.open(mesh, max_queue=1)
    await joined(ws)
    ws.transport.pause_reading()
    # More than the kernel keeps for a connection, then more than the outbox takes.
    for _ in range(40):
        await in_thread(served.control.chat, mesh, "x" * 900_000)
    await in_thread(served.control.wait, disconnected=[mesh], timeout=5)
    ws.transport.abort()
    await closed(ws)
    assert ended(served, mesh) == {"code": 1006, "reason": "cut", "by": "server"}


# Kicks.


@pytest.mark.parametrize(("notice", "methods"), [("both", 2), ("notification", 2), ("state", 1)])
async def test_a_kick_is_told_and_the_socket_closed(served: Served, mesh: str, notice: str, methods: int) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        await in_thread(served.control.kick, mesh, notice=notice)
        frames = [await receive(ws) for _ in range(methods)]
        assert [frame["method"] for frame in frames] == ["kicked", "stateMessage"][-methods:]
        kicks = json.loads(frames[-1]["data"]["message"])["kicks"]
        assert kicks == ([] if notice == "notification" else [served.session.user_id])
        assert await closed(ws) == (4000, "kicked")
    assert len(served.control.mesh(mesh)["users"]) == 1
    assert served.control.mesh(mesh)["invited"] == [served.session.user_id]


async def test_a_kick_can_close_without_a_word(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        await in_thread(served.control.kick, mesh, close="before")
        with pytest.raises(ConnectionClosedError):
            await receive(ws)
        assert ws.close_code == 4000
    async with served.open(mesh) as ws:
        assert served.session.user_id in (await joined(ws))["kicks"], "whoever comes back hears of it"
    await in_thread(served.control.invite, mesh)
    async with served.open(mesh) as ws:
        assert (await joined(ws))["kicks"] == []


async def test_a_kicked_peer_that_is_not_closed_hears_and_says_nothing(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await joined(ws)
        await in_thread(served.control.kick, mesh, close="not")
        await until(ws, "stateMessage")
        await in_thread(served.control.chat, mesh, "is he gone?")
        assert (await ask(ws, "chatMessage", **CHAT))["errorCode"] == 403
        await ws.close(4003)
    assert words(served) == []
    assert ended(served, mesh)["code"] == 4003


def test_who_is_not_there_cannot_be_kicked(served: Served, mesh: str) -> None:
    with pytest.raises(RaveError, match="botty is not in the mesh"):
        served.control.kick(mesh)


async def test_the_simulators_end_closes_every_socket(served: Served) -> None:
    meshes = served.control.create(5, kinds=["public"])

    sockets = [await served.open(mesh) for mesh in meshes]
    for ws in sockets:
        await joined(ws)
    await in_thread(served.stop)
    assert {await closed(ws) for ws in sockets} == {(1001, "the simulator stops")}
    with pytest.raises(ConnectionClosed):
        await sockets[0].send("x")
