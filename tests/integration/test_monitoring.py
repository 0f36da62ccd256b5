"""What ravectl status says when the service does not run, and what monitoring is told."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ravesvc import names
from tests.integration.conftest import Site, eventually

DROP_IN = f"/run/systemd/system/{names.ORCHESTRATOR_UNIT}.d/broken.conf"


def check(site: Site, user: str = "") -> tuple[int, str]:
    """Exit status and line of the plug-in, which needs to be of the group rave-monitor."""
    user = user or site.watcher()
    said = site.sh('ravectl status --check && status=0 || status=$?; echo "exit $status"', user=user).splitlines()
    assert len(said) == 2, said
    assert said[0].isprintable()
    return int(said[1].split()[1]), said[0]


@pytest.fixture
def whole(site: Site) -> Iterator[Site]:
    """The site; its service is whole again at the end."""
    yield site
    site.sh(f"rm -f {DROP_IN}; systemctl daemon-reload; systemctl stop rave-orchestrator")


def test_monitoring_sees_what_needs_a_person(whole: Site) -> None:
    site = whole
    assert check(site)[0] == 2, "the service does not run"
    site.run_fleet(1)
    assert check(site) == (
        0,
        "RAVE OK - 1 of 1 mesh connected | meshes=1 connected=1 unhealthy=0 blocked=0 held=0 outdated=0",
    )
    site.control.fail("discovery", "500")
    eventually(lambda: "500" in site.manager("DiscoveryError"), "a round has failed")
    status, line = check(site)
    assert (status, "discovery fails" in line) == (1, True), line
    site.control.fail("discovery", "ok")
    site.control.expire(close=True)
    # At first it may be critical because no bot is connected: what a round finds is told after it.
    eventually(lambda: "login is needed" in check(site)[1], "the session is refused", timeout=60)
    assert check(site)[0] == 2
    assert "login is needed" in site.sh("systemctl status rave-orchestrator || true")
    site.sh("systemctl kill -s STOP rave-orchestrator")
    status, line = check(site)
    site.sh("systemctl kill -s CONT rave-orchestrator")
    assert (status, "does not answer" in line) == (2, True), line
    hidden = "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent ravectl status --check || echo $?"
    assert site.sh(hidden).splitlines()[-1] == "3"


def test_a_broken_configuration_is_shown_with_the_bots_that_run_on(whole: Site) -> None:
    site = whole
    meshes = site.run_fleet(2)
    before = site.pids(meshes)
    site.machine.run(["tee", "-a", "/etc/rave/rave.yaml"], input="max_proceses: 3\n")
    site.sh("systemctl restart rave-orchestrator", check=False)
    said = site.sh("ravectl status", check=False)
    # Every few seconds systemd starts it once more.
    assert "its configuration has a mistake" in said or "started again" in said
    assert "max_proceses" in said
    assert "systemctl start" not in said, "that would not help"
    assert all(mesh in said for mesh in meshes)
    status, line = check(site, "root")
    assert (status, "max_proceses" in line, "bots=2" in line) == (2, True, True), line
    other = site.sh("ravectl status", user=site.watcher(), check=False)
    assert all(mesh in other for mesh in meshes)
    assert "ravectl config check" in other
    for words in ("ravectl list", "ravectl admin list"):
        assert "ravectl config check" in site.sh(words, check=False)
    site.configure()
    site.sh("systemctl restart rave-orchestrator")
    assert site.pids(meshes) == before
    assert json.loads(site.sh("ravectl status --json"))["service"]["Meshes"] == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("User=nobody-at-all", "there is no user rave"),
        ("ExecStartPre=/nonexistent", "its program can't be run"),
        ("BindReadOnlyPaths=/nonexistent", "its sandbox can't be set up"),
    ],
)
def test_what_keeps_systemd_from_starting_it_is_told_in_words(whole: Site, settings: str, words: str) -> None:
    site = whole
    site.machine.run(["install", "-D", "-m", "644", "/dev/stdin", DROP_IN], input=f"[Service]\n{settings}\n")
    site.sh("systemctl daemon-reload; systemctl start rave-orchestrator", check=False)
    said = site.sh("ravectl status", check=False)
    assert words in said, said
    assert check(site)[0] == 2
