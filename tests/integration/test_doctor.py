"""ravectl doctor on a booted machine: a hostile bot in the real sandbox, beside bots that run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ravesvc import names
from ravesvc.hostile.probes import PROBES
from tests.integration.conftest import Site, eventually

LEAK = "/run/systemd/system/rave-mesh@.service.d/60-leak.conf"


@pytest.fixture
def drop_in(site: Site) -> Iterator[Callable[[str], None]]:
    """Adds a line to the unit of all bots, as an operator would."""

    def add(line: str) -> None:
        site.sh(f"install -D -m 644 /dev/stdin {LEAK} <<'E'\n[Service]\n{line}\nE\nsystemctl daemon-reload")

    yield add
    site.sh(f"rm {LEAK}; systemctl daemon-reload")


def diagnosis(site: Site, user: str | None = None) -> dict[str, dict[str, Any]]:
    """The findings by name."""
    told = json.loads(site.sh("ravectl doctor --json || :", user=user))
    return {each["name"]: each for each in told["findings"]}


def test_a_hostile_bot_in_the_real_sandbox(site: Site) -> None:
    meshes = site.run_fleet(2)
    pids, connections = site.pids(meshes), site.control.connections()
    found = diagnosis(site)
    assert {name: found[name]["why"] for name in PROBES if found[name]["state"] != "held"} == {}
    assert {found[name]["state"] for name in ("DNS", "IPv4", "Rave", "bus", "memory")} == {"held"}
    # The fleet has noticed nothing, and nothing is left.
    assert (site.pids(meshes), site.control.connections()) == (pids, connections)
    assert sorted(site.bots()) == sorted(map(names.mesh_unit, meshes))
    assert site.sh("ls /run/rave | grep doctor || :") == ""
    assert site.sh("journalctl -q -u rave-orchestrator --grep doctor || :") == ""


@pytest.mark.parametrize("interrupt", ["INT", "TERM", "HUP"])
def test_one_that_is_interrupted_leaves_nothing(site: Site, interrupt: str) -> None:
    meshes = site.run_fleet(1)
    pids = site.pids(meshes)
    # A shell has what it runs in the background ignore SIGINT.
    status = site.sh(
        f"env --default-signal=INT ravectl doctor >/dev/null 2>&1 & p=$!\n"
        f"until systemctl is-active -q {names.DOCTOR_SIBLING_UNIT}; do sleep .01; done\n"
        f"kill -{interrupt} $p; wait $p || echo $?"
    )
    assert status.strip() == "130"
    assert_nothing_left(site, meshes)
    assert site.pids(meshes) == pids


def test_two_at_once_take_turns(site: Site) -> None:
    meshes = site.run_fleet(1)
    pids = site.pids(meshes)
    told = site.sh("for n in 1 2; do ravectl doctor --json >/tmp/$n & done; wait; cat /tmp/1; echo ,; cat /tmp/2")
    for each in json.loads(f"[{told}]"):
        assert [found["name"] for found in each["findings"] if found["why"] == "refused"] == list(PROBES)
    assert_nothing_left(site, meshes)
    assert site.pids(meshes) == pids


def assert_nothing_left(site: Site, meshes: list[str]) -> None:
    assert sorted(site.bots()) == sorted(map(names.mesh_unit, meshes))
    assert site.sh("systemctl list-units --failed --plain --no-legend") == ""
    assert site.sh("ls /run/rave /var/lib/rave/ended | grep doctor || :") == ""


def test_what_a_drop_in_opens_is_told_with_the_drop_in(site: Site, drop_in: Callable[[str], None]) -> None:
    drop_in("SystemCallFilter=")
    found = diagnosis(site)
    # Not all: a bot gives up some of it by itself.
    opened = [found[name] for name in PROBES if found[name]["state"] == "not held"]
    assert opened
    assert all(each["why"].startswith("it can ") and LEAK in each["hint"] for each in opened)


def test_a_sandbox_that_can_not_be_set_up_is_told(site: Site, drop_in: Callable[[str], None]) -> None:
    drop_in("RootDirectory=/nonexistent")
    found = diagnosis(site)
    assert found["sandbox"]["fatal"]
    assert "does not start" in found["sandbox"]["why"]
    assert site.sh("systemctl list-units --failed --plain --no-legend 'rave-mesh@*'") == ""
    # systemd has heard of the failure, and nothing has noted it as that of a bot.
    noting = names.ended_unit("doctor-sibling")
    eventually(lambda: site.sh(f"journalctl -q -u {noting}"), "systemd has done what OnFailure= says")
    eventually(lambda: site.sh(f"systemctl is-active {noting} || :").strip() == "inactive", "it has ended")
    assert_nothing_left(site, [])


def test_who_is_not_root_is_told_so(site: Site) -> None:
    found = diagnosis(site, user="nobody")
    assert found["sandbox"]["hint"] == "sudo ravectl doctor"
    assert "kill" not in found
