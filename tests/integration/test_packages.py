"""What the packages do at installation, upgrade, removal and purge, on a machine of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from testbed.machine import Machine
from testbed.root import run_root

from ravesvc import names
from tests.integration.conftest import CHECKOUT, LOGS, Figure, Site, eventually
from tests.integration.test_shutdown import let_cling

# Each goes on from where the one before has left the machine, and most of them are of the fault table.
pytestmark = pytest.mark.faults

# Turns each .deb in /root/build into one with a higher version.
_REPACK = """
cd /root/build
for package in *.deb; do
    dpkg-deb --raw-extract "$package" tree
    sed -i 's/^Version: .*/&.1/; s/(= [^)]*/&.1/' tree/DEBIAN/control
    # With another option, and another default.
    sed -i 's/^#limit:.*/#limit: 50/; $a #brightness: 3' tree/usr/share/rave-orchestrator/rave.yaml || true
    find tree -path '*/ravesvc/version.py' -exec sed -i 's/^__version__ = "[^"]*/&.1/' {} +
    dpkg-deb --build --root-owner-group -Znone tree "/root/upgrade/$package"
    rm -r tree
done
"""

# Makes of the package one as 0.1.0 was: rave.yaml and a README are conffiles.
_REPACK_AS_BEFORE = """
dpkg-deb --raw-extract /root/build/rave-orchestrator_*.deb tree
sed -i 's/^Version: .*/Version: 0.1.0~before/' tree/DEBIAN/control
for name in rave.yaml commands.d/README; do
    echo '# as it was shipped' > tree/etc/rave/$name
    echo /etc/rave/$name >> tree/DEBIAN/conffiles
done
rm tree/DEBIAN/preinst
dpkg-deb --build --root-owner-group -Znone tree /root/before.deb
rm -r tree
"""
_CONFFILES = "dpkg-query --show --showformat '${Conffiles}' rave-orchestrator"
_YAML = "/etc/rave/rave.yaml"


@pytest.fixture(scope="module")
def site(packages: list[Path]) -> Iterator[Site]:
    with Machine(run_root()) as machine:
        machine.copy_packages_in(packages, "/root/build")
        machine.run(["mkdir", "/root/upgrade"])
        yield Site(machine)
        machine.save_logs(LOGS / "packages")


def apt(site: Site, command: str) -> str:
    return site.sh(f"DEBIAN_FRONTEND=noninteractive apt-get -q -y {command}", timeout=180)


def dpkg(site: Site, command: str, *, check: bool = True) -> str:
    """Where no operator is there to answer a question."""
    return site.sh(f"DEBIAN_FRONTEND=noninteractive dpkg {command} </dev/null", check=check, timeout=120)


def test_a_persons_account_called_rave_is_refused(site: Site) -> None:
    site.sh("groupadd -g 1000 rave && useradd -m -u 1000 -g rave -s /bin/bash rave")
    said = site.sh("apt-get -q -y install /root/build/*.deb", check=False, timeout=180)
    assert "a user rave exists already, and is no system account (UID 1000)" in said
    assert "nothing is installed" in said
    assert site.sh("dpkg-query -W -f '${db:Status-Abbrev}' rave-orchestrator", check=False)[:2] != "ii"
    assert site.sh("ls /etc/rave /var/lib/rave 2>/dev/null", check=False) == ""
    # The half of what the message says, and then all of it. (apt has got as far as the simulator, and takes it back.)
    site.sh("usermod --login dave --home /home/dave --move-home rave")
    apt(site, "--fix-broken install")
    said = site.sh("apt-get -q -y install /root/build/rave-orchestrator_*.deb", check=False, timeout=180)
    assert "a group rave exists already, and is no system group (GID 1000)" in said
    site.sh("groupmod --new-name dave rave")
    apt(site, "install /root/build/*.deb")
    assert site.sh("id -un 1000").strip() == "dave"
    assert 0 < int(site.sh("id -u rave")) < 1000
    assert site.sh("runuser -u dave -- head -c 1 /etc/rave/rave.yaml 2>&1", check=False).endswith(
        "Permission denied\n"
    )
    apt(site, "purge rave-orchestrator rave-simulator")
    site.sh("userdel --remove dave")


def test_an_account_that_was_adopted_is_refused_at_the_upgrade(site: Site) -> None:
    """As 0.1.0 did; once the person has another name the state goes over to the service's own user."""
    site.sh(_REPACK_AS_BEFORE)
    # In the place of the one that an earlier installation has left.
    site.sh("userdel rave || true; useradd --create-home --uid 1000 --user-group --shell /bin/bash rave")
    apt(site, "install /root/before.deb")
    site.sh("runuser -u rave -- install -m 600 /dev/null /var/lib/rave/state.db")
    assert "a user rave exists already" in dpkg(site, "--install /root/build/rave-orchestrator_*.deb", check=False)
    assert site.sh("dpkg-query -W -f '${db:Status-Abbrev}${Version}' rave-orchestrator") == "ii 0.1.0~before"
    site.sh("usermod --login dave --home /home/dave --move-home rave; groupmod --new-name dave rave")
    dpkg(site, "--install /root/build/rave-orchestrator_*.deb")
    assert site.sh("stat -c '%U:%G %a' /var/lib/rave /var/lib/rave/state.db").split("\n") == [
        "rave:rave 700",
        "rave:rave 600",
        "",
    ]
    assert site.sh("stat -c '%U:%G' /etc/rave/rave.yaml").strip() == "root:rave"
    apt(site, "purge rave-orchestrator")
    site.sh("userdel --remove dave")


@pytest.fixture
def uncompiled(site: Site) -> Iterator[None]:
    """Installations leave the modules as they are: to compile them takes half of the time of each."""
    site.sh("ln -s /usr/bin/true /usr/local/bin/py3compile")
    yield
    site.sh("rm /usr/local/bin/py3compile")


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("edit", ["", "# mine", "deleted"])
def test_an_upgrade_from_when_rave_yaml_was_a_conffile(site: Site, edit: str) -> None:
    site.sh(_REPACK_AS_BEFORE)
    dpkg(site, "--install /root/before.deb")
    assert _YAML in site.sh(_CONFFILES)
    site.sh({"": "true", "deleted": f"rm {_YAML}"}.get(edit, f"echo '{edit}' >> {_YAML}"))
    before = site.sh(f"cat {_YAML}; stat -c '%a %U:%G' {_YAML}", check=False)
    dpkg(site, "--install /root/build/rave-orchestrator_*.deb")
    assert site.sh(f"cat {_YAML}; stat -c '%a %U:%G' {_YAML}", check=False) == before
    assert site.sh(_CONFFILES).split()[::2] == ["/etc/needrestart/conf.d/rave.conf"]
    assert site.sh("ls -A /etc/rave /etc/rave/commands.d").count("\n") == (4 if edit == "deleted" else 5)
    # Back, with the answer that keeps what is there, and to this version again.
    dpkg(site, "--force-confold --install /root/before.deb")
    dpkg(site, "--install /root/build/rave-orchestrator_*.deb")
    if edit != "deleted":
        assert site.sh(f"cat {_YAML}; stat -c '%a %U:%G' {_YAML}", check=False) == before
    apt(site, "purge rave-orchestrator")


@pytest.mark.usefixtures("uncompiled")
def test_an_upgrade_that_fails_keeps_rave_yaml(site: Site) -> None:
    site.sh(_REPACK_AS_BEFORE)
    dpkg(site, "--install /root/before.deb")
    site.sh(f"echo '# mine' >> {_YAML}")
    before = site.sh(f"cat {_YAML}")
    site.sh("dpkg-deb --raw-extract /root/build/rave-orchestrator_*.deb tree; echo exit 1 >> tree/DEBIAN/preinst")
    site.sh("dpkg-deb --build --root-owner-group -Znone tree /root/broken.deb; rm -r tree")
    assert "error processing" in dpkg(site, "--install /root/broken.deb", check=False)
    assert site.sh(f"cat {_YAML}") == before
    assert _YAML in site.sh(_CONFFILES)
    assert site.sh("dpkg-query -W -f '${db:Status-Abbrev}${Version}' rave-orchestrator") == "ii 0.1.0~before"
    # Removed, and then installed in this version: the file that a removal keeps is the operator's as well.
    dpkg(site, "--remove rave-orchestrator")
    dpkg(site, "--install /root/build/rave-orchestrator_*.deb")
    assert site.sh(f"cat {_YAML}") == before
    assert _YAML not in site.sh(_CONFFILES)
    apt(site, "purge rave-orchestrator")


def test_first_install(site: Site) -> None:
    apt(site, "install /root/build/*.deb")
    assert site.sh(f"cat {_YAML}") == (CHECKOUT / "config/rave.yaml").read_text()
    assert "\n#state_path: /root/.local/state/ravesvc/state.db\n" in site.sh("ravesvc --example-config")
    # Documents, and the types for those who check plugins; dpkg compresses the longer ones.
    found = [page.relative_to(CHECKOUT) for page in (CHECKOUT / "docs").rglob("*") if page.is_file()]
    # Tests that import a plugin may have left it compiled.
    pages = [str(page) for page in found if page.parent.name != "__pycache__"]
    shipped = site.sh("cd /usr/share/doc/rave-orchestrator; find -L docs -type f").replace(".gz", "").split()
    assert sorted(shipped) == sorted(pages)
    site.sh("test -e /usr/lib/python3/dist-packages/ravesvc/py.typed")
    # An extra of the wheel, which the service needs.
    assert "python3-pystemd" in site.sh("dpkg-query --show --showformat '${Depends}' rave-orchestrator")
    assert site.sh("systemctl is-enabled rave-orchestrator").strip() == "enabled"
    assert site.sh("systemctl is-active rave-orchestrator", check=False).strip() == "inactive", (
        "the operator starts it"
    )
    assert site.sh("stat -c '%a %U:%G' /etc/rave/rave.yaml").strip() == "640 root:rave"
    site.sh("systemctl start rave-orchestrator")
    status = site.sh("systemctl status rave-orchestrator")
    assert "No mesh is started: client_identity lacks request_hash_key, mojo_api_key, " in status
    # Status, check and login name all that has to be supplied, at once.
    said = [status, site.sh("ravectl config check", check=False), site.sh("ravectl login < /dev/null", check=False)]
    for key in "request_hash_key", "mojo_api_key", "mojo_redirect_url", "parse_application_id":
        assert all(key in each for each in said), (key, said)
    assert "is fine" not in said[1]
    assert site.machine.run(["ravectl", "config", "check"], check=False).returncode == 1
    assert site.manager("Meshes") == 0
    site.sh("systemctl stop rave-orchestrator")


def test_a_rave_yaml_that_is_missing(site: Site) -> None:
    """It is not made again behind the operator's back, and the message has the command that makes it."""
    site.sh(f"rm {_YAML}")
    dpkg(site, "--install /root/build/rave-orchestrator_*.deb")
    said = site.sh("ravectl config check", check=False)
    assert f"{_YAML} does not exist (install " in said
    site.sh(said[said.index("install ") : said.rindex(")")])
    assert f"{_YAML} has no mistake, but no bot starts until" in site.sh("ravectl config check", check=False)
    assert site.sh(f"stat -c '%a %U:%G' {_YAML}").strip() == "640 root:rave"


def test_upgrade_disturbs_no_mesh(site: Site, figure: Figure) -> None:
    site.set_up()
    meshes = site.run_fleet(10)
    pids, connections = site.pids(meshes), site.control.connections()
    parent = site.sh("systemctl show --value -p MainPID rave-orchestrator")
    options = site.sh(f"cat {_YAML}")
    site.sh(_REPACK, timeout=120)
    # Alone: an upgrade of the simulator restarts it, and with it every connection.
    dpkg(site, "--force-depends --install /root/upgrade/rave-orchestrator_*.deb")
    # Its shipped options are others; those of the operator stay, and no operator is asked.
    assert "#brightness" in site.sh("cat /usr/share/doc/rave-orchestrator/examples/rave.yaml")
    assert site.sh(f"cat {_YAML}; ls -A /etc/rave") == f"{options}commands.d\nrave.yaml\n"
    assert site.sh("dpkg-query -W -f '${Version}' rave-orchestrator").endswith(".1")
    assert site.sh("systemctl show --value -p MainPID rave-orchestrator") != parent
    site.wait_state(meshes, "connected")
    assert site.pids(meshes) == pids
    assert site.control.connections() == connections
    # They run the program of before, until they are replaced one after another.
    version = site.manager("Version")
    assert version.endswith(".1")
    eventually(lambda: site.manager("Outdated") == 10, "all are outdated")
    begun = time.monotonic()
    assert "10 outdated processes replaced" in site.sh("ravectl roll", timeout=180)
    figure(f"10 processes were replaced after an upgrade in {time.monotonic() - begun:.0f} s")
    assert site.manager("Outdated") == 0
    site.wait_state(meshes, "connected")
    site.sh("dpkg --install /root/upgrade/rave-simulator_*.deb", timeout=120)
    site.sh("systemctl is-active rave-simulator rave-orchestrator")


def test_removal_stops_the_fleet_with_a_bot_that_clings(site: Site, figure: Figure) -> None:
    # The new simulator knows nothing of the meshes of before.
    meshes = site.run_fleet(10)
    assert {names.mesh_unit(mesh) for mesh in meshes} <= set(site.bots())
    let_cling(site, meshes[0])
    pids = site.pids(meshes)
    begun = time.monotonic()
    dpkg(site, "--install /root/upgrade/rave-orchestrator_*.deb")
    upgraded = time.monotonic()
    site.wait_state(meshes[1:], "connected")
    assert site.pids(meshes) == pids, "an upgrade leaves even that one alone"
    removing = time.monotonic()
    apt(site, "remove rave-orchestrator")
    removed = time.monotonic() - removing
    figure(f"with a bot that clings an upgrade takes {upgraded - begun:.1f} s, and a removal {removed:.1f} s")
    # shutdown_timeout, five seconds more, and what a removal takes.
    assert removed < 10 + 5 + 15
    site.break_program(meshes[0], "")
    assert site.sh("systemctl list-units --plain --no-legend --state=active,activating,failed 'rave*'").strip() == ""
    assert site.sh("pgrep --full 'ravesv[c]' || true").strip() == ""
    assert _YAML in site.sh("find /etc/rave"), "a removal keeps the configuration"


def test_purge_leaves_nothing(site: Site) -> None:
    apt(site, "purge rave-orchestrator rave-simulator")
    # Logs are the machine's; the users stay, because what they may have written elsewhere should have an owner.
    left = site.sh("find / -xdev -name '*rave*' -not -path '/root/*' -not -path '/var/log/*' -not -path '/proc/*'")
    assert left.split() == []
    assert site.sh("find /run -xdev -name '*rave*'").split() == []
    assert site.sh("systemctl list-units --all --plain --no-legend 'rave*'").strip() == ""
    eventually(lambda: names.BUS_NAME not in site.sh("busctl list --no-legend"), "the bus name is gone")


def test_installed_again(site: Site) -> None:
    """Where the users are there already."""
    apt(site, "install /root/build/*.deb")
    site.set_up()
    (mesh,) = site.run_fleet(1)
    assert site.answers(mesh)


def test_a_purge_empties_a_state_directory_that_is_a_mount(site: Site) -> None:
    site.sh("systemctl stop rave-orchestrator rave-meshes.target; mkdir /data; mv /var/lib/rave /data/rave")
    site.sh("mkdir /var/lib/rave; mount --bind /data/rave /var/lib/rave")
    site.set_options(state_path="/srv/state/state.db")
    site.sh("install -d -o rave -m 700 /srv/state; systemctl start rave-orchestrator")
    apt(site, "purge rave-orchestrator rave-simulator")
    assert site.sh("ls -A /data/rave; dpkg -l rave-orchestrator 2>&1 | grep ^.c || true") == ""
    assert not site.machine.path("/run/systemd/system/rave-orchestrator.service.d/50-rave-yaml.conf").exists()
    # A place that the operator has chosen is the operator's.
    assert "state.db" in site.sh("ls /srv/state").split()
