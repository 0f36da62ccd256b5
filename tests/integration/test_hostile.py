"""A bot that executes a stranger's code: an own command plays it, in a real bot beside others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from ravesvc import names
from tests.integration.conftest import Figure, Site, eventually
from tests.integration.test_admins import says
from tests.integration.test_own_commands import drop, refresh

TAKEN_OVER = """
import json
from ravesvc.commands import command
from ravesvc.hostile import probes

@command("attack", "Tries all ways out of the sandbox, against the process with that number.")
async def attack(context):
    found = probes.attempt_all(int(context.args[0]))
    await context.reply(json.dumps({name: text for name, text in found.items() if text is not None}))
"""


@pytest.fixture
def taken_over(site: Site) -> Iterator[list[str]]:
    """Three meshes whose bots do what a stranger says."""
    meshes = site.run_fleet(3)
    drop(site, "attack.py", TAKEN_OVER)
    refresh(site)
    yield meshes
    site.sh(f"rm -f {names.COMMANDS_DIRECTORY}/attack.py")


def test_a_bot_that_was_taken_over_reaches_no_sibling_and_opens_no_door(
    site: Site, taken_over: list[str], figure: Figure
) -> None:
    first, sibling, _ = taken_over
    pids, connections = site.pids(taken_over), site.control.connections()
    possible = json.loads(says(site, first, "ann", f"?attack {pids[sibling]}"))
    assert possible == {}
    assert says(site, first, "ann", "?ping") == "Pong!", "and it works"
    assert (site.pids(taken_over), site.control.connections()) == (pids, connections)
    figure("a bot that was taken over reached no sibling and opened no door")


@pytest.fixture
def resolv_conf(site: Site) -> Iterator[Callable[[str], None]]:
    """Writes that file anew, as a network manager does."""
    site.sh("cp -a /etc/resolv.conf /run/resolv.conf.before 2>/dev/null || :")

    def write(text: str) -> None:
        site.sh(f"echo '{text}' > /etc/resolv.conf.new && mv /etc/resolv.conf.new /etc/resolv.conf")

    yield write
    site.sh("mv /run/resolv.conf.before /etc/resolv.conf 2>/dev/null || rm /etc/resolv.conf")


def test_bots_that_run_reach_a_name_server_that_is_new_and_none_that_was(
    site: Site, taken_over: list[str], resolv_conf: Callable[[str], None]
) -> None:
    first, sibling, _ = taken_over
    pids, connections = site.pids(taken_over), site.control.connections()

    def near() -> bool:
        return "near addresses" in json.loads(says(site, first, "ann", f"?attack {pids[sibling]}"))

    assert not near()
    # It is where the attack tries to get to.
    resolv_conf("nameserver 127.8.8.8")
    eventually(near, "what is a name server now is reached")
    resolv_conf("nameserver 127.0.0.53")
    eventually(lambda: not near(), "what is none any more is not")
    assert (site.pids(taken_over), site.control.connections()) == (pids, connections)


def test_what_bots_reach_stays_while_the_service_is_stopped_and_is_right_at_its_start(
    site: Site, resolv_conf: Callable[[str], None]
) -> None:
    def addresses(what: str) -> set[str]:
        return set(site.sh(f"systemctl show --value -p IPAddress{what} rave-mesh.slice").split())

    def follower() -> str:
        return site.sh("systemctl is-active rave-name-servers.path || :").strip()

    resolv_conf("nameserver 127.0.0.53")
    site.run_fleet(1)
    eventually(lambda: "127.0.0.53/32" in addresses("Allow"), "the name server is reached")
    denied = addresses("Deny")
    assert "127.0.0.0/8" in denied
    assert follower() == "active"
    site.sh("systemctl stop rave-orchestrator.service rave-meshes.target")
    eventually(lambda: follower() == "inactive", "nothing looks at name servers for no bots")
    # A bot that was started now, or does not stop yet, is kept from the same.
    assert addresses("Deny") == denied
    resolv_conf("nameserver 127.8.8.8")
    site.sh("systemctl start rave-orchestrator.service")
    assert addresses("Deny") == denied
    assert "127.8.8.8/32" in addresses("Allow")
    assert "127.0.0.53/32" not in addresses("Allow")
    assert follower() == "active"
