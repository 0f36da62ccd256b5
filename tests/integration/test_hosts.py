"""Two hosts with one database: the other one is a record that is written as its service would."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import Site, eventually
from tests.integration.mongo import DATABASE_FILE, Mongo

# A beat, with time to spare.
BEAT = 60


@pytest.fixture
def mongo(site: Site) -> Iterator[Mongo]:
    server = Mongo(site)
    server.start()
    server.configure()
    yield server
    site.sh(f"systemctl stop rave-orchestrator; rm {DATABASE_FILE}")
    server.wipe()


def other_host(mongo: Mongo, seconds: float) -> None:
    """Another host has said so many seconds ago that it has the account."""
    when = {"$date": {"$numberLong": str(int((time.time() - seconds) * 1000))}}
    mongo.replace("hosts", {"_id": "orchestrator", "hostId": "f" * 32, "hostName": "elsewhere", "beatAt": when})


def record(mongo: Mongo) -> list[dict[str, Any]]:
    return mongo.documents().get("hosts", [])


def invite(site: Site) -> str:
    (mesh,) = site.control.create()
    site.control.invite(mesh)
    return mesh


def test_the_second_of_two_hosts_says_so_and_starts_nothing(site: Site, mongo: Mongo) -> None:
    mesh = invite(site)
    other_host(mongo, 60)
    site.sh("systemctl start rave-orchestrator")
    words = "this account already runs on host elsewhere (ravectl takeover moves it here)"
    assert words in site.manager("Status")
    for command in "systemctl status rave-orchestrator", "ravectl status":
        assert words in site.sh(command, check=False)
    assert words in site.sh("ravectl status --check || test $? = 2")
    assert words in site.sh("ravectl discover 2>&1", check=False)
    assert site.bots() == []
    assert record(mongo)[0]["hostId"] == "f" * 32
    site.sh("systemctl stop rave-orchestrator")
    assert record(mongo)[0]["hostId"] == "f" * 32, "what is another's stays"

    other_host(mongo, 121)
    site.sh("systemctl start rave-orchestrator")
    site.wait_state([mesh], "connected")
    (ours,) = record(mongo)
    assert ours["hostId"] not in ("f" * 32, site.sh("cat /etc/machine-id").strip())
    assert ours["hostName"] == site.sh("hostname").strip()
    before = site.pids([mesh])
    site.sh("systemctl restart rave-orchestrator")
    assert record(mongo)[0]["hostId"] == ours["hostId"], "nobody takes it in between"
    site.wait_state([mesh], "connected")
    assert site.pids([mesh]) == before
    site.sh("systemctl stop rave-orchestrator")
    assert record(mongo) == [], "another host need not wait"
    assert site.bots() == [], "the bots have left before"


def test_an_account_is_moved_from_host_to_host(site: Site, mongo: Mongo) -> None:
    mesh = invite(site)
    other_host(mongo, 0)
    site.sh("systemctl start rave-orchestrator")
    assert "from host elsewhere" in site.sh("ravectl takeover")
    assert "moves here from host elsewhere" in site.manager("Status")
    assert site.bots() == [], "the bots of the other host have time to leave"
    assert "No other host" in site.sh("ravectl takeover")
    site.wait_state([mesh], "connected", timeout=BEAT)

    other_host(mongo, 0)
    eventually(lambda: site.bots() == [], "bots leave when another host has taken over", BEAT)
    assert "already runs on host elsewhere" in site.manager("Status")
    assert site.sh("systemctl is-active rave-orchestrator").strip() == "active"

    other_host(mongo, 121)
    site.wait_state([mesh], "connected", timeout=BEAT)
    assert record(mongo)[0]["hostId"] != "f" * 32, "the other one has fallen silent"


def test_without_its_database_the_service_starts_and_looks_later(site: Site, mongo: Mongo) -> None:
    mesh = invite(site)
    site.sh("systemctl start rave-orchestrator")
    site.wait_state([mesh], "connected")
    site.sh("systemctl stop rave-orchestrator rave-meshes.target")
    other_host(mongo, 0)
    mongo.stop()
    site.sh("systemctl start rave-orchestrator")
    site.wait_state([mesh], "connected")
    mongo.start()
    other_host(mongo, 0)
    eventually(lambda: site.bots() == [], "it finds the other host", BEAT)
