"""The control API through its client, and the log of events."""

from __future__ import annotations

import asyncio
import errno
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from ravesvc.errors import Code, RaveError
from ravesvc.simulator import client, serializers
from ravesvc.simulator.client import ALL, Control, _UnixConnection
from ravesvc.simulator.events import MAX_EVENTS, MAX_VIOLATIONS, EventLog
from ravesvc.simulator.fault_options import FaultOptions
from ravesvc.simulator.server import Simulator
from tests.unit.simulator_server import Served, ask, in_thread

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_meshes_are_made_in_numbers(served: Served) -> None:
    meshes = served.control.create(3, title="Film", kinds=["public"])
    state = served.control.state()
    assert list(state["meshes"]) == meshes
    assert all(mesh["title"] == "Film" and mesh["public"] for mesh in state["meshes"].values())


def test_verbs_take_one_several_or_all(served: Served) -> None:
    control = served.control
    one, two, three = control.create(3)
    control.invite(one)
    control.invite([two, three])
    assert all(mesh["invited"] for mesh in control.state()["meshes"].values())
    control.uninvite(ALL)
    assert not any(mesh["invited"] for mesh in control.state()["meshes"].values())
    control.remove([one, two])
    assert list(control.state()["meshes"]) == [three]


def test_users_come_and_go_in_one_event_each(served: Served) -> None:
    (mesh,) = served.control.create()
    served.control.join(mesh, "bea", "cy", "ann")
    served.control.part(mesh, "ann", "nobody")
    users = served.control.mesh(mesh)["users"]
    assert [(user["handle"], user["leader"]) for user in users] == [("bea", True), ("cy", False)]
    events = [(e["type"], e["users"]) for e in served.control.events() if "users" in e]
    assert events == [("joined", ["bea", "cy"]), ("left", ["ann"])]


def test_a_crowd_makes_the_state_of_a_mesh_large(served: Served) -> None:
    (mesh,) = served.control.create()
    served.control.crowd(mesh, 3, votes=2, history=2500)
    world = served.simulator.world
    state = json.loads(serializers.state_message(world.mesh(mesh), world.options)["data"]["message"])
    assert [user["user_id"] for user in state["users"]][1:] == [600_000_001, 600_000_002, 600_000_003]
    assert [vote["user_id"] for vote in state["votes"]] == [600_000_001, 600_000_002]
    assert [len(message["chat"]) for message in state["messages"]] == [1000, 1000, 500]
    assert len(serializers.users_of(world.mesh(mesh), world.options)) == 4
    served.control.crowd(mesh)
    state = json.loads(serializers.state_message(world.mesh(mesh), world.options)["data"]["message"])
    assert (len(state["users"]), state["votes"], state.get("messages")) == (1, [], None)


@pytest.mark.parametrize("size", [-1, 100_000_001])
def test_a_crowd_has_its_limits(served: Served, size: int) -> None:
    with pytest.raises(RaveError, match=f"users can't be {size}") as caught:
        served.control.crowd(ALL, size)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.invite("nothing"),
        lambda c: c.mesh("nothing"),
        lambda c: c.chat("nothing", "x"),
        lambda c: c.wait(connected=["nothing"]),
    ],
)
def test_an_unknown_mesh_is_an_error(served: Served, call: Callable[[Control], None]) -> None:
    with pytest.raises(RaveError, match="no mesh 'nothing'") as raised:
        call(served.control)
    assert raised.value.code is Code.NO_SUCH_MESH


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.create(0),
        lambda c: c.kick(ALL, notice="nobody"),
        lambda c: c.close(ALL, 1006),
        lambda c: c.refuse(ALL, status=200),
        lambda c: c.option("nothing", 1),
        lambda c: c.option("playback", "STOP"),
        lambda c: c.option("ping_delay", "-1"),
        lambda c: c.option("ping_delay", "nan"),
        lambda c: c.option("ping_delay", "soon"),
        lambda c: c.wait(timeout=-1),
    ],
)
def test_a_wrong_argument_is_an_error_in_words(served: Served, call: Callable[[Control], None]) -> None:
    with pytest.raises(RaveError) as raised:
        call(served.control)
    assert raised.value.code is Code.INVALID_ARGUMENT


def test_a_body_that_is_no_object_is_an_error(served: Served) -> None:
    connection = _UnixConnection(served.control_socket, 5)
    connection.request("POST", "/invite", "[]")
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["code"]) == (400, "BadData")
    connection.close()


def test_the_control_socket_is_for_its_group(served: Served) -> None:
    assert served.control_socket.stat().st_mode & 0o777 == 0o660


async def test_waiting_ends_with_the_state(served: Served) -> None:
    (mesh,) = served.control.create(kinds=["public"])

    waiting = asyncio.create_task(in_thread(served.control.wait, connected=[mesh], timeout=5))
    async with served.open(mesh) as ws:
        assert not waiting.done()
        await ask(ws, "fullyJoined")
        first = (await waiting)["meshes"][mesh]["connections"][0]["id"]
    await in_thread(served.control.wait, disconnected=[mesh], timeout=5)
    waiting = asyncio.create_task(in_thread(served.control.wait, reconnected={mesh: first}, timeout=5))
    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        assert (await waiting)["meshes"][mesh]["connections"][0]["id"] != first


def test_waiting_in_vain_says_for_what(served: Served) -> None:
    meshes = served.control.create(7)
    with pytest.raises(RaveError, match=f"still waiting for 8: {meshes[0]} connected") as raised:
        served.control.wait(connected=meshes, listings=1, timeout=0.05)
    assert raised.value.code is Code.TIMEOUT
    with pytest.raises(RaveError, match="reconnected"):
        served.control.wait(reconnected={meshes[0]: 1}, timeout=0)


def test_listings_are_awaited(served: Served) -> None:
    def look() -> None:
        for _ in range(2):
            served.call("GET", served.listing())

    looking = threading.Thread(target=look)
    looking.start()
    assert served.control.wait(listings=2, timeout=5)["listings"]["completed"] == 2
    looking.join()


def test_nobody_answers_a_chat(served: Served) -> None:
    (mesh,) = served.control.create()
    assert served.control.chat(mesh, "?ping", user="bea", wait=0.05) == []
    assert [user["handle"] for user in served.control.mesh(mesh)["users"]] == ["ann", "bea"]


def test_events_are_numbered_and_awaited(served: Served) -> None:
    (mesh,) = served.control.create()
    (event,) = served.control.events()
    assert (event["seq"], event["type"], event["mesh"]) == (1, "created", mesh)
    assert served.control.events(1) == []
    started = time.monotonic()
    inviting = threading.Timer(0.05, served.control.invite, [mesh])
    inviting.start()
    assert [e["type"] for e in served.control.events(1, wait=5)] == ["invited"]
    assert time.monotonic() - started < 4
    inviting.join()


@pytest.mark.parametrize(
    ("socket_of_the_service", "start"),
    [("nothing", "systemctl start rave-simulator"), ("another", "rave-simulator serve")],
)
def test_without_a_simulator_the_error_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, socket_of_the_service: str, start: str
) -> None:
    monkeypatch.setattr(client, "SERVICE_SOCKET", tmp_path / socket_of_the_service)
    path = tmp_path / "nothing"
    with pytest.raises(RaveError) as raised:
        Control(path).state()
    assert raised.value.code is Code.NETWORK
    assert str(raised.value) == f"no simulator answers at {path} ({start} starts one)"


def test_a_simulator_of_another_user_is_no_missing_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: socket.socket, path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(RaveError, match=f"you may not use {tmp_path}") as raised:
        Control(tmp_path).state()
    assert raised.value.code is Code.ACCESS_DENIED


def test_a_server_that_speaks_no_json_is_no_simulator(tmp_path: Path) -> None:
    path = tmp_path / "other"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(10_000)
                client.sendall(b"hello\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(RaveError, match="no simulator answers") as raised:
            Control(path).state()
        thread.join()
    assert isinstance(raised.value.__cause__, http.client.HTTPException)


async def test_a_port_that_is_taken_is_an_error_in_words(served: Served, tmp_path: Path) -> None:
    port = int(served.server.rpartition(":")[2])
    second = Simulator(
        served.state_dir, served.account, host="127.0.0.1", port=port, control=tmp_path / "second.sock"
    )
    with pytest.raises(RaveError, match="can't listen") as raised:
        await second.start()
    assert raised.value.code is Code.NETWORK


# The log by itself.


async def test_the_log_is_bounded_and_its_numbers_go_on() -> None:
    log = EventLog(lambda: 5.0)
    for number in range(MAX_EVENTS + 10):
        log.record("x", number=number)
    events = log.after(0)
    assert len(events) == MAX_EVENTS
    assert (events[-1]["seq"], events[0]["seq"], events[0]["at"]) == (MAX_EVENTS + 10, 11, 5.0)
    assert [e["seq"] for e in log.after(MAX_EVENTS + 8)] == [MAX_EVENTS + 9, MAX_EVENTS + 10]
    assert log.after(MAX_EVENTS + 99) == []
    for number in range(MAX_VIOLATIONS + 1):
        log.violation("here", str(number))
    assert len(log.violations) == MAX_VIOLATIONS


async def test_who_waits_is_woken_by_each_event() -> None:
    log = EventLog()
    waiting = asyncio.create_task(log.wait_until(lambda: log.seq >= 3, 5))
    for _ in range(3):
        await asyncio.sleep(0)
        assert not waiting.done()
        log.record("x")
    assert await waiting is True
    assert await log.wait_until(lambda: False, 0.01) is False


def test_every_option_is_shown(run: Run) -> None:
    options = FaultOptions()
    options.set("ping_delay", "2.5")
    options.set("echo_ids", "replaced")
    shown = options.to_json()
    assert (shown["ping_delay"], shown["echo_ids"], shown["refused_methods"]) == (2.5, "replaced", "")
