"""The tests of the Debian packages (debian/tests), as autopkgtest(1) runs them: on a machine with the packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from testbed.machine import Machine, needed_root

from tests.integration.conftest import CHECKOUT, LOGS, Site

TESTS = CHECKOUT / "debian/tests"


def fields(name: str) -> dict[str, str]:
    """A control file of one paragraph."""
    lines = (TESTS / name).read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines)


@pytest.fixture(scope="module")
def site(packages: list[Path]) -> Iterator[Site]:
    with Machine(needed_root(packages)) as machine:
        machine.copy_packages_in(packages, "/root/build")
        for file in TESTS.iterdir():
            machine.copy_in(file, f"/root/source/debian/tests/{file.name}")
        yield Site(machine)
        machine.save_logs(LOGS / "autopkgtest")


def test_the_control_file_names_all_scripts() -> None:
    control = fields("control")
    scripts = {file.name for file in TESTS.iterdir()} - {"control", "fleet"}
    assert set(control["Tests"].split(", ")) == scripts
    assert set(control["Depends"].split(", ")) == {"rave-orchestrator", "rave-simulator"}


@pytest.mark.parametrize("name", ["smoke", "upgrade", "removal"])
def test_script(site: Site, name: str) -> None:
    # Each finds the packages installed, whatever the one before has done.
    site.sh("DEBIAN_FRONTEND=noninteractive apt-get -q -y install /root/build/*.deb", timeout=180)
    package = "$(echo /root/build/rave-orchestrator_*.deb)"
    site.sh(f"cd /root/source && RAVE_ORCHESTRATOR={package} sh debian/tests/{name}", timeout=300)
