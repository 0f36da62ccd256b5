"""What the packages do at installation, upgrade, removal and purge, on a machine of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from testbed.machine import Machine
from testbed.root import run_root

from ravesvc import names
from tests.integration.conftest import LOGS, Figure, Site, eventually

# Turns each .deb in /root/build into one with a higher version.
_REPACK = """
cd /root/build
for package in *.deb; do
    dpkg-deb --raw-extract "$package" tree
    sed -i 's/^Version: .*/&.1/; s/(= [^)]*/&.1/' tree/DEBIAN/control
    find tree -path '*/ravesvc/__init__.py' -exec sed -i 's/^__version__ = "[^"]*/&.1/' {} +
    dpkg-deb --build --root-owner-group -Znone tree "/root/upgrade/$package"
    rm -r tree
done
"""


@pytest.fixture(scope="module")
def site(packages: list[Path]) -> Iterator[Site]:
    with Machine(run_root()) as machine:
        for package in packages:
            machine.copy_in(package, f"/root/build/{package.name}")
        machine.run(["mkdir", "/root/upgrade"])
        yield Site(machine)
        machine.save_logs(LOGS / "packages")


def apt(site: Site, command: str) -> str:
    return site.sh(f"DEBIAN_FRONTEND=noninteractive apt-get -q -y {command}", timeout=180)


def test_first_install(site: Site) -> None:
    apt(site, "install /root/build/*.deb")
    assert site.sh("systemctl is-enabled rave-orchestrator").strip() == "enabled"
    assert site.sh("systemctl is-active rave-orchestrator", check=False).strip() == "inactive", (
        "the operator starts it"
    )
    assert site.sh("stat -c '%a %U:%G' /etc/rave/rave.yaml").strip() == "640 root:rave"
    site.sh("systemctl start rave-orchestrator")
    status = site.sh("systemctl status rave-orchestrator")
    assert "No mesh is started: client_identity.request_hash_key is not set" in status
    assert site.manager("Meshes") == 0
    site.sh("systemctl stop rave-orchestrator")


def test_upgrade_disturbs_no_mesh(site: Site, figure: Figure) -> None:
    site.set_up()
    meshes = site.run_fleet(20)
    pids, connections = site.pids(meshes), site.control.connections()
    parent = site.sh("systemctl show --value -p MainPID rave-orchestrator")
    site.sh(_REPACK, timeout=120)
    # Alone: an upgrade of the simulator restarts it, and with it every connection.
    site.sh("dpkg --force-depends --install /root/upgrade/rave-orchestrator_*.deb", timeout=120)
    assert site.sh("dpkg-query -W -f '${Version}' rave-orchestrator").endswith(".1")
    assert site.sh("systemctl show --value -p MainPID rave-orchestrator") != parent
    site.wait_state(meshes, "connected")
    assert site.pids(meshes) == pids
    assert site.control.connections() == connections
    # They run the program of before, until they are replaced one after another.
    version = site.manager("Version")
    assert version.endswith(".1")
    eventually(lambda: site.manager("Outdated") == 20, "all are outdated")
    begun = time.monotonic()
    assert "20 processes were outdated" in site.sh("ravectl roll", timeout=180)
    figure(f"20 processes were replaced after an upgrade in {time.monotonic() - begun:.0f} s")
    assert site.manager("Outdated") == 0
    site.wait_state(meshes, "connected")
    site.sh("dpkg --install /root/upgrade/rave-simulator_*.deb", timeout=120)
    site.sh("systemctl is-active rave-simulator rave-orchestrator")


def test_removal_stops_the_fleet(site: Site) -> None:
    # The new simulator knows nothing of the meshes of before.
    meshes = site.run_fleet(20)
    assert {names.mesh_unit(mesh) for mesh in meshes} <= set(site.children())
    apt(site, "remove rave-orchestrator")
    assert site.sh("systemctl list-units --plain --no-legend --state=active,activating,failed 'rave*'").strip() == ""
    assert site.sh("pgrep --full 'ravesv[c]' || true").strip() == ""
    assert "/etc/rave/rave.yaml" in site.sh("find /etc/rave"), "a removal keeps the configuration"


def test_purge_leaves_nothing(site: Site) -> None:
    apt(site, "purge rave-orchestrator rave-simulator")
    # Logs are the machine's; the users stay, because what they may have written elsewhere should have an owner.
    left = site.sh("find / -xdev -name '*rave*' -not -path '/root/*' -not -path '/var/log/*' -not -path '/proc/*'")
    assert left.split() == []
    assert site.sh("systemctl list-units --all --plain --no-legend 'rave*'").strip() == ""
    eventually(lambda: names.BUS_NAME not in site.sh("busctl list --no-legend"), "the bus name is gone")


def test_installed_again(site: Site) -> None:
    """Where the users are there already."""
    apt(site, "install /root/build/*.deb")
    site.set_up()
    (mesh,) = site.run_fleet(1)
    assert site.answers(mesh)
