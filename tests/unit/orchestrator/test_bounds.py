"""What the bot of one mesh, once it was taken over, gets out of calling the parent as often as it can.

It names an admin who is in its room. Each method of the interface for bots stands here with what bounds it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from ravesvc.common.log_fields import LogEvent
from ravesvc.common.log_limit import PER_MESH, LogLimit, by_mesh
from ravesvc.errors import RaveError
from ravesvc.names import ALL_MESHES
from ravesvc.orchestrator.dbus.backend import BackendObject
from tests.unit.fake_systemd import MESH, OTHER
from tests.unit.orchestrator.dbus.test_backend import ANN, BOB, EVE, Site, site_on

CALLS = 200
# Entries of the journal about a mesh in a burst, and the one that says that there is more.
LOGGED = 61

READS = frozenset({"read", "list_documents", "read_document", "read_room"})


@dataclass(frozen=True)
class Bound:
    """How a method is called, and how often at most the calls get as far as each of these."""

    signature: str = ""
    args: tuple[Any, ...] = ()
    most: Mapping[str, int] = field(default_factory=dict)


# Ten in an hour, whatever they are, and Rave is asked once for all of them.
TEN = {"writes": 10, "store reads": 20, "Rave": 1, "events": 10}

BOUNDS = {
    # Of the parent's memory, and of the bot's own mesh.
    "GetAdmins": Bound(),
    "GetPermissions": Bound(),
    "GetIgnoredUsers": Bound(),
    "GetAttempts": Bound(),
    "GetConnectAdvice": Bound(),
    "GetChatForm": Bound(),
    "GetEntryPoints": Bound(),
    "GetTriedPlugins": Bound(),
    "GetCredentials": Bound(),
    # One login is under way at most, and this begins none.
    "LoginEnded": Bound(),
    # What the bot can do without asking.
    "AllowLeave": Bound("t", (ANN,)),
    # What admins change in all meshes.
    "AddAdmin": Bound("tt", (ANN, BOB), TEN),
    "RemoveAdmin": Bound("tt", (ANN, BOB), TEN),
    "IgnoreUser": Bound("tt", (ANN, 777), TEN),
    "UnignoreUser": Bound("tt", (ANN, 777), TEN),
    "SetPermission": Bound("tsbs", (ANN, "ping", True, ""), TEN),
    "RemovePermission": Bound("ts", (ANN, "ping"), TEN),
    "Refresh": Bound("t", (ANN,), TEN | {"refreshes": 10}),
    "Relogin": Bound("t", (ANN,), TEN | {"logins": 10}),
    # Five wrong codes void the one that was issued.
    "ClaimAdmin": Bound("ts", (EVE, "AAAA-AAAA"), {"Rave": 1}),
    # The limits of a user, as the fixture has them; those of a room and of the host have tests of their own.
    "SearchVideos": Bound("ts", (EVE, "never"), {"requests": 2}),
    "LookUpVideo": Bound("ts", (EVE, "https://youtu.be/dQw4w9WgXcQ"), {"requests": 12}),
    "FetchPicture": Bound("tss", (EVE, "youtube", "dQw4w9WgXcQ"), {"requests": 12}),
    # Of the bot's own room. A burst, and what comes to it in the seconds that this takes on a busy machine.
    "ReadDocument": Bound("s", ("queue",), {"store reads": 120}),
    "ReadHistory": Bound("su", ("played", 5), {"store reads": 120}),
    "WriteDocument": Bound("ss", ("queue", "{}"), {"writes": 50, "store reads": 50}),
    "ReadShared": Bound("s", ("plugin-x",), {"store reads": 120}),
    "WriteShared": Bound("sss", ("plugin-x", "{}", ""), {"writes": 50, "store reads": 100}),
    "AppendHistory": Bound("ss", ("played", "{}"), {"writes": 50, "store reads": 100}),
    # Of a user whom Rave lists in the room.
    "ForgetUser": Bound("t", (EVE,), {"writes": 3, "store reads": 12, "Rave": 1}),
}


async def _burst(site: Site, member: str, bound: Bound) -> None:
    for _ in range(CALLS // 50):
        calls = (site.bot.ask(member, bound.signature, *bound.args) for _ in range(50))
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if member == "FetchPicture" and isinstance(answer, int):
                os.close(answer)
            assert not isinstance(answer, BaseException) or isinstance(answer, RaveError), answer


def _effects(site: Site, records: list[logging.LogRecord]) -> Counter[str]:
    """How far calls have got, by what there is to spare."""
    calls = Counter(site.store.calls)
    reads = sum(number for call, number in calls.items() if call in READS)
    return Counter(
        {
            "writes": calls.total() - reads,
            "store reads": reads,
            "refreshes": site.refreshed,
            "logins": len(site.account.asked),
            "requests": len(site.source.asked),
            "Rave": site.rave_asked,
            "events": sum(getattr(each, "rave_event", None) is LogEvent.CHANGED for each in records),
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("member", BackendObject.methods)
async def test_what_the_bot_of_one_mesh_gets_is_bounded(
    bus_address: str, caplog: pytest.LogCaptureFixture, member: str
) -> None:
    assert member in BOUNDS, "a method that has no bound here may have none at all"
    bound = BOUNDS[member]

    with caplog.at_level(logging.INFO):
        async with site_on(bus_address) as site:
            site.claims.issue()
            site.store.calls.clear()
            await _burst(site, member, bound)
            limit = LogLimit(by_mesh, PER_MESH)
            logged = [each for each in caplog.records if each.levelno >= logging.INFO and limit.filter(each)]
            excess = _effects(site, logged) - Counter(bound.most)
            assert not excess, f"{member} gets further than it may: {excess}"
            assert len(logged) <= LOGGED
            assert {document[0] for document in site.store.documents} <= {MESH, ALL_MESHES}, "no other room's"
            await _insist_on_others(site)


async def _insist_on_others(site: Site) -> None:
    """The bot of another mesh has all that it had."""
    assert await site.other.ask("SetPermission", "tsbs", ANN, "pong", True, "") == []
    assert await site.other.ask("SearchVideos", "ts", EVE, "never")
    assert await site.other.ask("WriteDocument", "ss", "queue", "[]") == []
    assert site.store.documents.keys() >= {(OTHER, "document", "queue")}


def test_nothing_stands_here_that_is_no_method() -> None:
    assert BOUNDS.keys() <= BackendObject.methods.keys()
