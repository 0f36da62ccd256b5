from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from ravesvc.bus import Bus, SignalMessage
from ravesvc.bus.header import Header, MessageKind
from ravesvc.bus.matching import Matches, fits, name_changes, parse
from ravesvc.bus.message import Message
from ravesvc.errors import Code, RaveError
from tests.unit.bus_fakes import connected
from tests.unit.conftest import BusDaemon

Run = Callable[[Any], Any]
TICK = "type='signal',interface='org.example.Clock'"
NAME = "org.example.Clock"


def tick(bus: Bus, number: int = 1, destination: str = "") -> None:
    bus._send(
        Message(
            kind=MessageKind.SIGNAL,
            serial=bus._next_serial(),
            destination=destination,
            path="/clock",
            interface=NAME,
            member="Tick",
            signature="u",
            body=[number],
        )
    )


async def settle(*buses: Bus) -> None:
    """Wait until what the first ones sent has been delivered to the others."""
    for bus in buses:
        await bus.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId")


def test_parse() -> None:
    assert parse("type='signal',member='A',arg0=''") == {"type": "signal", "member": "A", "arg0": ""}
    assert parse(name_changes("a.b"))["arg0"] == "a.b"


@pytest.mark.parametrize(
    "rule",
    [
        *["", "member='A'", "type='method_call'", "type='signal',arg1='x'", "type='signal',eavesdrop='true'"],
        *["nonsense", "type='signal',member=A", "type='signal' ,member='A'", "type='signal',member='a,b'"],
    ],
)
def test_rules_that_are_not_understood_are_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="not a rule"):
        parse(rule)


@pytest.mark.parametrize(
    ("rule", "fit"),
    [
        ("", True),
        ("member='Tick',interface='org.example.Clock',path='/a/b'", True),
        ("member='Tock'", False),
        ("interface='org.example.Cloc'", False),
        ("path='/a'", False),
        ("path_namespace='/a'", True),
        ("path_namespace='/a/b'", True),
        ("path_namespace='/'", True),
        ("path_namespace='/a/bc'", False),
        ("path_namespace='/a/b/c'", False),
        ("arg0='x.y'", True),
        ("arg0='x'", False),
        ("arg0namespace='x'", True),
        ("arg0namespace='x.y'", True),
        ("arg0namespace='x.'", False),
        ("arg0namespace='x.y.z'", False),
    ],
)
def test_fits(rule: str, fit: bool) -> None:
    message = Message(
        kind=MessageKind.SIGNAL,
        sender=":1.1",
        path="/a/b",
        interface=NAME,
        member="Tick",
        signature="s",
        body=["x.y"],
    )
    fields = parse(f"type='signal',{rule}" if rule else "type='signal'")
    assert fits(fields, message, ":1.1") is fit
    assert not fits(fields, message, ":1.2")
    assert not fits(fields, message, "")
    number = Message(
        kind=MessageKind.SIGNAL, sender=":1.1", path="/a/b", interface=NAME, member="Tick", signature="u", body=[1]
    )
    assert fits(fields, number, ":1.1") is (fit and "arg0" not in rule)


async def test_signals_reach_the_handlers_they_fit(bus_address: str) -> None:
    async with connected(bus_address, 3) as (one, two, listener):
        all_of_them: list[SignalMessage] = []
        of_two: list[SignalMessage] = []
        await listener.match(TICK, all_of_them.append)
        remove = await listener.match(f"{TICK},sender='{two.unique_name}'", of_two.append)
        tick(one, 1)
        tick(two, 2)
        await settle(one, two, listener)
        assert [(s.sender, *s.body) for s in all_of_them] == [(one.unique_name, 1), (two.unique_name, 2)]
        assert (of_two[0].path, of_two[0].interface, of_two[0].member) == ("/clock", NAME, "Tick")
        assert len(of_two) == 1
        await remove()
        tick(two, 3)
        await settle(two, listener)
        assert len(of_two) == 1
        assert len(all_of_them) == 3


async def test_a_named_sender_cannot_be_impersonated(bus_address: str) -> None:
    async with connected(bus_address, 4) as (owner, heir, forger, listener):
        heard: list[tuple[str, int]] = []
        rule = f"{TICK},sender='{NAME}'"
        remove = await listener.match(rule, lambda s: heard.append((s.sender, s.body[0])))
        tick(owner, 1, listener.unique_name)  # the name has no owner yet
        await owner.request_name(NAME)
        tick(owner, 2)
        tick(forger, 3)
        tick(forger, 4, listener.unique_name)  # past the daemon's filter
        await settle(owner, forger, listener)
        assert heard == [(owner.unique_name, 2)]
        await owner.call(
            "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ReleaseName", "s", NAME
        )
        await heir.request_name(NAME)
        tick(owner, 5, listener.unique_name)
        tick(heir, 6)
        await settle(owner, heir, listener)
        assert heard == [(owner.unique_name, 2), (heir.unique_name, 6)]
        await remove()
        assert not listener._matches._owners
        assert not listener._matches._tracked


async def test_an_owner_from_before_is_known(bus_address: str) -> None:
    async with connected(bus_address, 2) as (owner, listener):
        await owner.request_name(NAME)
        heard: list[SignalMessage] = []
        rule = f"{TICK},sender='{NAME}'"
        first, second = await asyncio.gather(listener.match(rule, heard.append), listener.match(rule, heard.append))
        tick(owner)
        await settle(owner, listener)
        assert len(heard) == 2
        await first()
        tick(owner)
        await settle(owner, listener)
        assert len(heard) == 3
        await second()


async def test_a_forged_change_of_owner_is_not_believed(bus_address: str) -> None:
    async with connected(bus_address, 3) as (owner, forger, listener):
        await owner.request_name(NAME)
        heard: list[SignalMessage] = []
        await listener.match(f"{TICK},sender='{NAME}'", heard.append)
        forger._send(
            Message(
                kind=MessageKind.SIGNAL,
                serial=forger._next_serial(),
                destination=listener.unique_name,
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="NameOwnerChanged",
                signature="sss",
                body=[NAME, owner.unique_name, forger.unique_name],
            )
        )
        tick(forger, 1, listener.unique_name)
        await settle(forger, listener)
        assert heard == []


async def test_a_signal_reaches_the_handlers_that_accept_it(bus_address: str) -> None:
    async with connected(bus_address, 2) as (sender, listener):
        heard: list[int] = []
        refused: list[SignalMessage] = []
        asked: list[str] = []

        def refuse(header: Header, size: int) -> bool:
            asked.append(header.member)
            return False

        await listener.match(TICK, lambda s: heard.append(s.body[0]))
        await listener.match(TICK, refused.append, refuse)
        tick(sender, 1)
        tick(sender, 2)
        await settle(sender, listener)
        assert heard == [1, 2]
        assert not refused
        assert asked == ["Tick", "Tick"]


def test_a_failing_handler_harms_nobody(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with connected(bus_address, 2) as (sender, listener):
            heard: list[SignalMessage] = []

            def fail(signal: SignalMessage) -> None:
                raise RuntimeError("a bug")

            await listener.match(TICK, fail)
            await listener.match(TICK, heard.append)
            tick(sender)
            tick(sender)
            await settle(sender, listener)
            assert len(heard) == 2

    run(body())
    assert [r.levelno for r in caplog.records] == [logging.ERROR] * 2
    assert "handler of the signal Tick failed" in caplog.text


async def test_a_rule_that_the_daemon_refuses_leaves_nothing(bus_address: str) -> None:
    async with connected(bus_address) as (bus,):
        for rule in (f"{TICK},path='no path'", f"{TICK},sender='{NAME}',path='no path'"):
            with pytest.raises(RaveError) as e:
                await bus.match(rule, print)
            assert e.value.attributes["error_name"] == "org.freedesktop.DBus.Error.MatchRuleInvalid"
        with pytest.raises(RaveError):
            await bus.match(f"{TICK},sender='not a name'", print)
        assert (bus._matches._rules, dict(bus._matches._tracked), bus._matches._owners) == ([], {}, {})


async def test_match_on_a_lost_bus(bus_daemon: BusDaemon) -> None:
    async with connected(bus_daemon.address) as (bus,):
        remove = await bus.match(f"{TICK},sender='{NAME}'", print)
        bus_daemon.process.kill()
        await bus.lost
        await remove()
        with pytest.raises(RaveError) as e:
            await bus.match(TICK, print)
        assert e.value.code is Code.BUS


@pytest.mark.parametrize("step", ["AddMatch 1", "GetNameOwner 1", "AddMatch 2"])
@pytest.mark.parametrize("problem", [asyncio.CancelledError(), RaveError(Code.TIMEOUT, "no answer")])
async def test_a_match_that_fails_half_way_leaves_nothing(step: str, problem: BaseException) -> None:
    asked: list[str] = []

    async def ask(member: str, argument: str) -> list[Any]:
        asked.append(member)
        if f"{member} {asked.count(member)}" == step:
            raise problem
        return [":1.1"] if member == "GetNameOwner" else []

    matches = Matches(ask)
    with pytest.raises(type(problem)):
        await matches.add(f"{TICK},sender='{NAME}'", print)
    assert (matches._rules, dict(matches._tracked), matches._owners) == ([], {}, {})
    assert asked.count("RemoveMatch") == (step != "AddMatch 1")  # the daemon has no other rule of ours to lose


async def test_a_change_of_owner_outruns_the_answer_to_our_question() -> None:
    async def ask(member: str, argument: str) -> list[Any]:
        if member == "GetNameOwner":
            matches.dispatch(
                Message(
                    kind=MessageKind.SIGNAL,
                    sender="org.freedesktop.DBus",
                    member="NameOwnerChanged",
                    body=[NAME, ":1.1", ":1.2"],
                ),
                [],
            )
        return [":1.1"]

    matches = Matches(ask)
    await matches.add(f"{TICK},sender='{NAME}'", print)
    assert matches._owners == {NAME: ":1.2"}
