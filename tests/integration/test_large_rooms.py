"""Rooms of thousands: taken as they are, or left alone with the reason."""

from __future__ import annotations

import re

from tests.integration.conftest import Site, eventually
from tests.integration.test_blocklist import entries

# What a bot may take, see MemoryMax= of its unit.
_MOST_MEMORY = 192 << 20
_LIMIT = 6 << 20


def _ended(site: Site, mesh: str) -> int:
    """How many connections of the bot have ended there."""
    return len(site.control.mesh(mesh)["ended"])


def test_a_room_of_thousands_keeps_its_bot(site: Site) -> None:
    large, _ = meshes = site.run_fleet(2)
    pids, connections = site.pids(meshes), site.control.connections()
    # A state of some three million bytes, sent to the one that is there.
    site.control.crowd(large, 10_000, votes=2_000, history=1_500_000)
    eventually(lambda: "10002 users" in site.unit(large, "StatusText"), "it knows how many are there")
    assert site.answers(large)
    assert (site.pids(meshes), site.control.connections()) == (pids, connections)
    # And to one that comes.
    site.control.drop(large)
    site.control.wait(reconnected={large: connections[large]}, timeout=30)
    assert site.answers(large)
    assert _ended(site, large) == 1
    assert int(site.sh(f"awk '/^VmHWM/ {{ print $2 }}' /proc/{pids[large]}/status")) << 10 < _MOST_MEMORY
    assert entries(site) == {}


def test_messages_beyond_the_limit_are_a_block_with_the_reason(site: Site) -> None:
    site.set_options(blocklist_duration="15s")
    large, other = site.run_fleet(2)
    connections = site.control.connections()
    site.control.crowd(large, history=_LIMIT + 1_000_000)
    site.wait_state([large], "blocked")
    assert _ended(site, large) == 1
    reason, since, until, detail, *_ = entries(site)[large]
    assert (reason, until - since) == ("too_large", 15_000_000)
    assert f"where {_LIMIT} are the limit" in detail
    assert "its messages are too large: a message of " in site.sh(f"ravectl explain {large}")
    assert re.search(
        r"too_large .* a message of \d+ bytes, where \d+ are the limit", site.sh("ravectl blocklist list")
    )
    # Once more, as it is met at the door; then it is as it was.
    eventually(lambda: _ended(site, large) == 2, "it is tried again when its time is over", 40)
    site.control.crowd(large)
    eventually(lambda: large in site.control.connections(), "it is back", 60)
    assert site.control.connections()[other] == connections[other]


def test_a_parent_that_was_away_learns_that_messages_are_too_large(site: Site) -> None:
    (large,) = site.run_fleet(1)
    site.sh("systemctl kill --signal=STOP rave-orchestrator")
    site.control.crowd(large, history=_LIMIT + 1)
    eventually(lambda: site.unit(large, "ActiveState") == "failed", "it has ended")
    site.kill_parent()
    eventually(lambda: entries(site).get(large, [""])[0] == "too_large", "it is learnt")
    assert "its messages are too large" in site.sh(f"ravectl explain {large}")
