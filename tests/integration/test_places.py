"""Files and places that rave.yaml names, as service and bots see them: they work, or are named with the fix."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import Site, eventually

AUTHORITY = "/var/lib/rave-simulator/ca.pem"


def status(site: Site) -> str:
    return site.sh("systemctl show --value -p StatusText rave-orchestrator")


def check(site: Site) -> str:
    """What `ravectl config check` says, on both streams."""
    return site.sh("ravectl config check", check=False)


def trust(site: Site, path: str) -> None:
    """Have tls.ca_file name another file."""
    site.sh(f"sed -i 's#ca_file: .*#ca_file: {path}#' /etc/rave/rave.yaml")


@pytest.fixture
def stopped(site: Site) -> Iterator[Site]:
    """The service is not running; afterwards it runs no more, nor waits to be started again."""
    yield site
    site.sh("systemctl stop rave-orchestrator.service rave-meshes.target; systemctl reset-failed")


@pytest.mark.parametrize("path", ["/root/own-ca.pem", "/usr/local/share/ca-certificates/own.crt"])
def test_an_authority_that_root_alone_can_read_is_handed_over(stopped: Site, path: str) -> None:
    site = stopped
    site.sh(f"install -D -m 600 {AUTHORITY} {path}")
    try:
        trust(site, path)
        (mesh,) = site.run_fleet(1)
        assert site.answers(mesh)
        # A bot reads nothing but what the unit hands over.
        site.sh("systemctl stop rave-orchestrator.service rave-meshes.target")
        site.sh(f"rm {path}; systemctl start rave-mesh@{mesh}")
        site.control.wait(connected=[mesh])
    finally:
        site.sh(f"rm -f {path}")


def test_an_authority_that_can_not_be_used_is_named_by_check_and_start(stopped: Site) -> None:
    site = stopped
    site.sh(f"cat {AUTHORITY} /var/lib/rave-simulator/server.key > /root/both.pem; mkfifo /root/fifo")
    for path, words in [
        ("/root/none.pem", "No such file or directory"),
        ("/root/fifo", "it is no regular file"),
        ("/root/both.pem", "holds a private key"),
    ]:
        trust(site, path)
        assert f"tls.ca_file: {path}" in check(site)
        assert words in check(site)
        assert site.machine.run(["systemctl", "start", "rave-orchestrator"], check=False).returncode
        eventually(lambda path=path: path in status(site), "the status says it")  # type: ignore[misc]
        journal = site.sh("journalctl -o cat --no-pager -I -u rave-orchestrator")
        assert words in journal
        assert "PRIVATE KEY" not in journal
        assert "Traceback" not in journal
        # It waits to be started again: what is mended is taken then, without a hand.
    trust(site, AUTHORITY)
    (mesh,) = site.control.create()
    site.control.invite(mesh)
    site.control.wait(connected=[mesh], timeout=60)
    site.sh("rm /root/both.pem /root/fifo")
