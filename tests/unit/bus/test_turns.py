from __future__ import annotations

import asyncio
import os
import time

import pytest

from ravesvc.bus import Bus, Call, Interface, allow_all, method, newcomers, turns
from ravesvc.bus.errors import NAME_HAS_NO_OWNER, UNKNOWN_METHOD, DBusErrorReply
from ravesvc.bus.header import Header, MessageKind
from ravesvc.bus.message import NO_REPLY_EXPECTED
from ravesvc.bus.turns import Turn, Turns, metered
from ravesvc.common.token_bucket import Rate
from ravesvc.errors import Code, RaveError
from tests.unit.bus_fakes import connected, open_fds
from tests.unit.conftest import until

FRAME = bytes(100)


def call(sender: str, member: str = "Say", *, flags: int = 0) -> Header:
    return Header(kind=MessageKind.CALL, serial=1, flags=flags, sender=sender, member=member)


class FakeServer:
    """Serves each call in some seconds of its own work; what has been served is in `served`, by sender."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.served: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.flushing = asyncio.Event()
        self.written = asyncio.Event()
        self.written.set()

    def route(self, call: Header) -> str:
        if call.member == "Unknown":
            raise DBusErrorReply(UNKNOWN_METHOD, "no such method")
        return call.member

    def begin(
        self, call: Header, frame: bytes, fds: list[int], target: str, turn: Turn | None
    ) -> asyncio.Task[None] | None:
        while fds:
            os.close(fds.pop())
        self.served.append(call.sender)
        if turn:
            turn.charge(self.seconds)
        return asyncio.get_running_loop().create_task(asyncio.sleep(60)) if target == "Hang" else None

    async def flush(self) -> None:
        self.flushing.set()
        await self.written.wait()

    def refuse(self, call: Header, error_name: str, text: str) -> None:
        self.refused.append((call.sender, error_name.rpartition(".")[2]))


async def by_initial(sender: str) -> str | None:
    """The group of the connections of these tests: what their names begin with; root's has none."""
    return None if sender.startswith("root") else sender[0]


async def known(turns: Turns, server: FakeServer, *senders: str) -> None:
    """Let the groups of these be known, as they are after a call of each."""
    for sender in senders:
        turns.enter(call(sender), FRAME, [])
    await until(lambda: len(server.served) == len(senders))
    server.served.clear()


async def test_callers_take_turns() -> None:
    server = FakeServer()
    made = Turns(server, by_initial)
    await known(made, server, "a1", "a2", "b", "root")
    for _ in range(10):
        made.enter(call("a1"), FRAME, [])
        made.enter(call("a2"), FRAME, [])
    made.enter(call("b"), FRAME, [])
    made.enter(call("root"), FRAME, [])
    assert server.served == ["root"]
    await until(lambda: len(server.served) == 22)
    assert server.served.index("b") < 4
    await made.close()


def test_a_pace_allows_a_second_of_work_and_then_a_share_of_the_time() -> None:
    now = 1000.0
    pace = turns._Pace(4.0, lambda: now)
    pace.charge(0.6)
    assert pace.delay < 0
    assert not pace.idle
    pace.charge(0.6)
    assert pace.delay == pytest.approx(0.8)
    now += 0.8
    assert pace.delay == pytest.approx(0.0, abs=1e-6)
    pace.charge(0.1)
    assert pace.delay == pytest.approx(0.4)
    now += 100.0
    assert pace.idle
    pace.charge(1.1)
    assert pace.delay == pytest.approx(0.4), "what was not used in that time is not saved up"


async def test_who_has_to_wait_for_time_keeps_nobody_else_waiting() -> None:
    server = FakeServer(seconds=100.0)
    made = Turns(server, by_initial)
    made._all = turns._Pace(0.0)
    await known(made, server, "a", "b", "root")
    for sender in ("a", "b", "root"):
        made.enter(call(sender), FRAME, [])
    made.enter(call("c"), FRAME, [])  # a new one, which has not used anything
    await until(lambda: "c" in server.served)
    assert server.served == ["root", "c"]
    await made.close()


async def test_nothing_is_served_that_could_not_be_answered() -> None:
    server = FakeServer()
    made = Turns(server, by_initial)
    await known(made, server, "a", "root")
    server.written.clear()
    server.flushing.clear()
    made.enter(call("a"), FRAME, [])
    await server.flushing.wait()
    made.enter(call("root"), FRAME, [])
    assert server.served == ["root"]
    server.written.set()
    await until(lambda: server.served == ["root", "a"])
    await made.close()


async def test_a_queue_has_a_bound_and_so_have_its_errors(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is, none is added meanwhile.
    monkeypatch.setattr(turns, "_REFUSAL_RATE", Rate(turns._REFUSAL_RATE.burst, 1e-9))
    server = FakeServer()
    made = Turns(server, by_initial)
    await known(made, server, "a", "b")
    server.written.clear()
    for _ in range(1000):
        made.enter(call("a"), FRAME, [])
        made.enter(call("b", flags=NO_REPLY_EXPECTED), FRAME, [])
    refused = [name for sender, name in server.refused if sender == "a"]
    assert refused == ["LimitsExceeded"] * turns._REFUSAL_RATE.burst
    assert ("b", "LimitsExceeded") not in server.refused
    server.written.set()
    await until(lambda: len(server.served) == 2 * turns._MAX_WAITING_CALLS)
    # One word about each.
    assert [record.getMessage()[:10] for record in caplog.records] == ["a calls mo", "b calls mo"]
    await made.close()


async def test_large_calls_fill_a_queue_sooner() -> None:
    server = FakeServer()
    made = Turns(server, by_initial)
    await known(made, server, "a")
    server.written.clear()
    for _ in range(8):
        made.enter(call("a"), bytes(64 * 1024), [])
    assert len(server.refused) == 4
    await made.close()


async def test_what_the_header_refuses_is_refused_at_once_and_not_for_ever() -> None:
    server = FakeServer()
    made = Turns(server, by_initial)
    await known(made, server, "a", "root")
    for _ in range(100):
        made.enter(call("a", "Unknown"), FRAME, [])
    assert server.refused == [("a", "UnknownMethod")] * turns._REFUSAL_RATE.burst
    made.enter(call("root", "Unknown"), FRAME, [])
    assert server.refused[-1] == ("root", "UnknownMethod")
    assert server.served == []
    await made.close()


async def test_so_many_methods_of_a_caller_run_at_once() -> None:
    server = FakeServer()
    made = Turns(server, by_initial)
    await known(made, server, "a", "b")
    for _ in range(turns._MAX_RUNNING_CALLS + 5):
        made.enter(call("a", "Hang"), FRAME, [])
    await until(lambda: len(server.served) == turns._MAX_RUNNING_CALLS)
    made.enter(call("b"), FRAME, [])
    await until(lambda: "b" in server.served)
    assert server.served.count("a") == turns._MAX_RUNNING_CALLS
    await made.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def test_the_group_of_a_connection_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_MAX_CACHED_GROUPS", 1)
    asked = []

    answer = asyncio.Event()

    async def group(sender: str) -> str | None:
        asked.append(sender)
        await answer.wait()
        return None

    server = FakeServer()
    made = Turns(server, group)
    made.enter(call("root1"), FRAME, [])
    made.enter(call("root1"), FRAME, [])
    answer.set()
    await until(lambda: len(server.served) == 2)
    made.enter(call("root1"), FRAME, [])
    assert asked == ["root1"]
    for sender in ("root2", "root1"):
        made.enter(call(sender), FRAME, [])
        await until(lambda: server.served[-1] == sender)  # noqa: B023
    assert asked == ["root1", "root2", "root1"]
    await made.close()


async def test_a_group_that_can_not_be_told_is_asked_for_again() -> None:
    """Root, while the bus answers too late: it takes turns for now, and not for the life of its connection."""

    answers: list[str | RaveError | None] = [RaveError(Code.TIMEOUT, "no answer"), None]

    async def group(sender: str) -> str | None:
        answer = answers.pop(0)
        if isinstance(answer, RaveError):
            raise answer
        return answer

    server = FakeServer()
    made = Turns(server, group)
    made.enter(call("root"), FRAME, [])
    await until(lambda: server.served == ["root"])
    server.written.clear()
    made.enter(call("root"), FRAME, [])
    await until(lambda: server.served == ["root", "root"])
    assert not answers
    await made.close()


async def test_who_has_gone_is_not_served() -> None:
    """Nor does it get a turn: there is a new connection each time."""

    before = open_fds()
    server = FakeServer()

    async def group(sender: str) -> str | None:
        raise RaveError(Code.BUS, "it has gone", error_name=NAME_HAS_NO_OWNER)

    made = Turns(server, group)
    made.enter(call("a"), FRAME, [os.dup(0)])
    await until(lambda: not made._newcomers._tasks)
    assert open_fds() == before
    assert not server.served + server.refused
    assert not made._callers
    await made.close()


async def test_callers_who_have_nothing_to_wait_for_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_DROP_IDLE_FROM", 2)

    server = FakeServer()
    made = Turns(server, by_initial)
    for sender in "abcdef":
        await known(made, server, sender)
        await until(lambda: not any(caller.work for caller in made._callers.values()))
    assert len(made._callers) <= 2
    await made.close()


async def test_descriptors_are_closed_wherever_a_call_ends() -> None:
    before = open_fds()
    server = FakeServer()
    made = Turns(server, by_initial)
    await known(made, server, "a", "root")
    made.enter(call("a", "Unknown"), FRAME, [os.dup(0)])
    made.enter(call("root", "Unknown"), FRAME, [os.dup(0)])
    server.written.clear()
    for _ in range(turns._MAX_WAITING_CALLS + 2):
        made.enter(call("a"), FRAME, [os.dup(0)])
    for _ in range(newcomers._MAX_HELD + 2):
        made.enter(call("new"), FRAME, [os.dup(0)])
    await made.close()
    assert open_fds() == before


async def test_each_step_is_charged() -> None:
    charged: list[float] = []

    async def works() -> None:
        time.sleep(0.02)  # noqa: ASYNC251 - it is to keep the loop busy
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="that"):
            await fails()

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("that")

    await metered(works(), charged.append)
    assert len(charged) == 3
    assert charged[0] >= 0.02
    charged.clear()

    async def wrapped() -> None:
        await metered(asyncio.sleep(60), charged.append)  # type: ignore[arg-type]

    task = asyncio.create_task(wrapped())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(charged) == 2


class Shelf(Interface):
    """Has much to tell."""

    interface = "org.example.Shelf"

    @method(returns={"books": "as"}, takes={"count": "u"})
    async def list_books(self, call: Call, count: int) -> list[str]:
        await asyncio.sleep(0)
        if count == 0:
            raise ValueError("empty")
        return ["a book"] * count


@pytest.mark.slow
async def test_over_a_bus(bus_address: str) -> None:
    """Three connections of one user ask for much, and root is answered in between."""

    async with connected(bus_address, 5) as (service, root, *greedy):
        service.export("/shelf", Shelf(allow_all))
        service.object_manager("/")
        names = {each.unique_name: "user 7" for each in greedy}

        async def group(sender: str) -> str | None:
            return names.get(sender)

        service.take_turns(Turns(service, group))

        async def ask(bus: Bus, count: int) -> int:
            what = (service.unique_name, "/shelf", Shelf.interface, "ListBooks", "u", count)
            (books,) = await bus.call(*what, timeout=50)  # on a slow machine, under coverage
            return len(books)

        asking = [asyncio.create_task(ask(bus, 3000)) for bus in greedy for _ in range(20)]
        assert await ask(root, 1) == 1
        assert not all(task.done() for task in asking)
        assert await asyncio.gather(*asking) == [3000] * 60
        managed = (service.unique_name, "/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        assert list((await greedy[0].call(*managed))[0]) == ["/shelf"]
        with pytest.raises(RaveError, match="internal error"):
            await ask(greedy[0], 0)
