"""Everything printed in the README is executed here, in the order in which it stands there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from testbed.machine import Machine, installed_root, needed_root
from testbed.root import run_root

from ravesvc import names
from tests.integration.conftest import CHECKOUT, Site, eventually
from tests.integration.manual import README, commands
from tests.integration.test_admins import says
from tests.integration.test_plugins import GREET

ADDRESS = "bot@example.test"


@pytest.fixture
def fresh(packages: list[Path]) -> Iterator[Machine]:
    """A machine where nothing is installed yet, with the packages where the README has them."""
    with Machine(run_root()) as machine:
        machine.copy_packages_in(packages, "/root/build")
        yield machine


@pytest.fixture
def prepared(packages: list[Path]) -> Iterator[Machine]:
    """The same, but what they depend on is installed: that takes most of the time."""
    with Machine(needed_root(packages)) as machine:
        machine.copy_packages_in(packages, "/root/build")
        yield machine


def sh(machine: Machine, command: str) -> str:
    script = f"cd /root && export DEBIAN_FRONTEND=noninteractive && {command}"
    if command == "ravectl login":
        # At a terminal, where it asks.
        on_terminal = ["script", "--quiet", "--return", "--command", script, "/dev/null"]
        return machine.run(on_terminal, input=f"{ADDRESS}\n", timeout=180).stdout
    return machine.run(["sh", "-ec", script], timeout=180).stdout


def test_install_and_daily_life(fresh: Machine) -> None:
    install = commands("Install it on Debian 13")
    second = install.index("systemctl start rave-simulator") - 1
    with_simulator = install[second:]
    assert f"ravectl login                                   # the simulator's account is {ADDRESS}" in README
    for command in with_simulator:
        said = sh(fresh, command.replace("apt install", "apt-get install -y"))
    assert "Pong" in said
    said = "".join(sh(fresh, command) for command in commands("Admins and permissions"))
    assert "info" in said
    said = "".join(sh(fresh, command) for command in commands("Commands of your own"))
    assert "Hello, " in said
    daily = commands("Daily life")
    assert daily[-1].startswith("systemctl stop")
    for command in daily[:-1]:
        sh(fresh, command)
    listing = "systemctl list-units --plain --no-legend 'rave-mesh@*'"
    eventually(lambda: "running" in sh(fresh, listing), "the mesh is up again after StopMesh and StartMesh")
    sh(fresh, daily[-1])
    eventually(lambda: not sh(fresh, listing), "every bot has gone")


def test_install_with_an_account(prepared: Machine) -> None:
    """The first block; the account is one on a simulator."""
    install = commands("Install it on Debian 13")
    own = install[: install.index("systemctl start rave-simulator") - 1]
    sh(prepared, own[0].replace("apt install", "apt-get install -y"))
    sh(prepared, "apt-get install -y ./build/rave-simulator_*.deb && systemctl start rave-simulator")
    sh(prepared, "rave-simulator config > new.yaml && rave-simulator option confirm 0")
    sh(prepared, "printf '#!/bin/sh\\ncat /root/new.yaml > \"$1\"\\n' > /usr/local/bin/editor")
    sh(prepared, "chmod +x /usr/local/bin/editor")
    for command in own[1:]:
        if command.startswith("journalctl -f"):
            # It goes on for ever; that it began is what there is to see.
            command = f"timeout 5 {command} || test $? = 124"
        said = sh(prepared, command)
    assert "rave-orchestrator" in said


def test_move_to_another_machine(packages: list[Path]) -> None:
    """The other machine is this one after a purge, so that it has the same Rave."""
    move = commands("Move to another machine")
    there = move.index("systemctl disable --now rave-orchestrator") + 1
    with Machine(installed_root(packages)) as machine:
        site = Site(machine)
        site.set_up()
        kicked, other = meshes = site.run_fleet(2)
        site.sh("ravectl admin add 100000002; ravectl perm set info admin")
        site.machine.run(["tee", f"{names.COMMANDS_DIRECTORY}/greet.py"], input=GREET)
        site.control.kick(kicked)
        site.wait_state([kicked], "blocked")
        shown = [site.sh(f"ravectl {what} list") for what in ("admin", "perm", "blocklist")]
        for command in move[:there]:
            sh(machine, command)
        site.control.wait(disconnected=meshes)
        # The simulator, which depends on it, has to run on.
        machine.run(["dpkg", "--purge", "--force-depends", "rave-orchestrator"], timeout=180)
        assert site.sh("ls -A /etc/rave /var/lib/rave 2>/dev/null || true") == ""
        (package,) = [path for path in packages if "orchestrator" in path.name]
        machine.copy_in(package, f"/var/tmp/{package.name}")
        machine.run(["dpkg", "--install", f"/var/tmp/{package.name}"], timeout=180)
        site.control.invite([kicked])
        for command in move[there:]:
            sh(machine, command)
        site.control.wait(connected=[other])
        assert says(site, other, "ann", "?greet") == "Hello, Ann!"
        site.wait_rounds(2)
        assert [site.sh(f"ravectl {what} list") for what in ("admin", "perm", "blocklist")] == shown
        assert list(site.control.connections()) == [other], "the bot stays out of where it was kicked"
        assert site.sh("cd /root; ls store.json etc-rave.tar 2>/dev/null || true") == ""
        assert site.control.violations() == []


def test_on_a_laptop(prepared: Machine) -> None:
    """The second terminal, with the packages; nothing of them runs but the simulator."""
    sh(prepared, "apt-get install -y ./build/rave-orchestrator_*.deb ./build/rave-simulator_*.deb")
    sh(prepared, "systemctl start rave-simulator")
    _, *prepare, last = terminals(commands("On a laptop, without systemd"))[1]
    for command in prepare:
        sh(prepared, command)
    for command in last, last.partition(" --login")[0]:
        sh(prepared, f"exec >log.txt 2>&1; {command} & echo $! >pid.txt")
        sh(prepared, "rave-simulator wait $(cat mesh.txt)")
        assert "Pong" in sh(prepared, "rave-simulator chat $(cat mesh.txt) '?ping' --wait 20")
        assert "Refreshed: 1 admin" in sh(prepared, "rave-simulator chat $(cat mesh.txt) '?refresh' --wait 20")
        sh(prepared, "kill -INT $(cat pid.txt); tail --pid=$(cat pid.txt) -f /dev/null")
        said = sh(prepared, "cat log.txt")
        mesh = sh(prepared, "cat mesh.txt").strip()
        assert f"[{mesh}] [Mesh 1] INFO Ended: stopped" in said
        assert "WARNING" not in said
    assert {"credentials.json", "state.db"} <= set(sh(prepared, "ls ~/.local/state/ravesvc").split())


def terminals(lines: list[str]) -> list[list[str]]:
    """The lines of the chapter about laptops, by the terminal that they are typed in."""
    _, second, third = [index for index, line in enumerate(lines) if line == ". ~/rave-venv/bin/activate"]
    return [lines[:second], lines[second:third], lines[third:]]


def test_demo() -> None:
    demo = subprocess.run(["make", "demo"], cwd=CHECKOUT, check=False, capture_output=True, text=True, timeout=600)
    print(demo.stdout)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    # A make within make adds lines of its own.
    assert "\nAll of it was seen.\n" in demo.stdout


def test_the_two_commands_exist() -> None:
    for command in commands("Try it"):
        subprocess.run([*command.split(), "--dry-run"], cwd=CHECKOUT, check=True, capture_output=True)
