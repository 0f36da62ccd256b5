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
        assert check(site) == (
            "/etc/rave/rave.yaml is fine.\n"
            f"{path} is read by root at a start of the service, which hands its certificates to service and bots.\n"
        )
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


def test_a_state_elsewhere_is_used_from_the_next_start_on(stopped: Site) -> None:
    site = stopped
    site.sh("install -d -o rave -m 700 /srv/state '/srv/block list'")
    try:
        (mesh,) = site.run_fleet(1)
        site.set_options(state_path="/srv/state/state.db", blocklist_persist_path="/srv/block list/blocklist.json")
        assert check(site) == "/etc/rave/rave.yaml is fine.\n"
        # The very restart that reads the option opens the sandbox for it.
        site.sh("systemctl restart rave-orchestrator")
        assert "Trouble:              none" in site.sh("ravectl store info")
        site.sh(f"ravectl admin add 100000001; ravectl blocklist add {mesh}")
        assert site.sh("ls '/srv/block list'").split() == ["blocklist.json", "blocklist.json.saved"]
        assert "state.db" in site.sh("ls /srv/state").split()
        assert site.sh("systemctl show --value -p ReadWritePaths rave-orchestrator").strip()
    finally:
        site.sh("systemctl stop rave-orchestrator; rm -r /srv/state '/srv/block list'")
    # Without the options nothing of it is left.
    site.configure()
    site.sh("systemctl start rave-orchestrator")
    assert not site.sh("systemctl show --value -p ReadWritePaths rave-orchestrator").strip()


def test_a_place_that_the_service_can_not_use_is_named_by_check_and_start(stopped: Site) -> None:
    site = stopped
    site.sh("install -d -o rave /home/bot; install -d -m 755 /srv/of-root; touch /srv/file; mkdir /srv/disk")
    site.sh("mount -t tmpfs -o ro tmpfs /srv/disk")
    try:
        for directory, words in [
            ("/home/bot", "/home/bot is hidden from the service by its sandbox"),
            ("/var/tmp", "/var/tmp is hidden from the service by its sandbox"),
            ("/srv/none", "does not exist (install -d -o rave -g rave -m 0700 /srv/none)"),
            ("/srv/file", "/srv/file is no directory"),
            ("/srv/of-root", "the user rave can't write to /srv/of-root (chown rave: /srv/of-root"),
            ("/srv/disk", "/srv/disk is on a file system that is mounted read-only"),
        ]:
            site.configure()
            site.set_options(credentials_path=f"{directory}/credentials.json")
            said = check(site)
            assert "/etc/rave/rave.yaml:" in said
            assert words in said
            assert site.machine.run(["systemctl", "start", "rave-orchestrator"], check=False).returncode
            eventually(lambda said=said: said.strip() in status(site), "the status says it")  # type: ignore[misc]
            site.sh("systemctl stop rave-orchestrator")
    finally:
        site.sh("umount /srv/disk; rm -r /home/bot /srv/*")


def test_a_link_in_the_place_of_the_state_directory_is_told_with_the_way_that_works(stopped: Site) -> None:
    site = stopped
    site.sh("mkdir -p /data; mv /var/lib/rave /data/rave; ln -s /data/rave /var/lib/rave")
    try:
        assert site.machine.run(["systemctl", "start", "rave-orchestrator"], check=False).returncode
        for said in check(site), site.sh("ravectl status", check=False):
            assert "/var/lib/rave is a symbolic link, which systemd refuses" in said
            assert "mount --bind /data/rave /var/lib/rave" in said
        # What the words say works.
        mend = check(site).partition("use a bind mount: ")[2].partition("; in /etc/fstab")[0]
        site.sh(f"systemctl stop rave-orchestrator; {mend}; systemctl start rave-orchestrator")
        assert "Trouble:              none" in site.sh("ravectl store info")
    finally:
        site.sh("systemctl stop rave-orchestrator; umount /var/lib/rave || true; rm -d /var/lib/rave")
        site.sh("mv /data/rave /var/lib/rave; rmdir /data")


def test_files_from_an_editor_of_windows_are_read(stopped: Site) -> None:
    site = stopped
    (mesh,) = site.control.create()
    site.control.invite(mesh)
    files = "/etc/rave/rave.yaml /var/lib/rave/credentials.json /var/lib/rave/blocklist.json"
    site.sh("echo '{\"blockedMeshes\": {}}' > /var/lib/rave/blocklist.json")
    site.sh(f"sed -i -e '1s/^/\\xef\\xbb\\xbf/' -e 's/$/\\r/' {files}; chown rave /var/lib/rave/*")
    assert check(site) == "/etc/rave/rave.yaml is fine.\n"
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=[mesh])
    # Of this start alone: the machine has seen files that can't be used.
    start = "$(systemctl show --value -p InvocationID rave-orchestrator)"
    said = site.sh(f"journalctl --no-pager -o cat _SYSTEMD_INVOCATION_ID={start}")
    assert said
    assert "can't be used" not in said


def test_a_rave_yaml_that_all_users_can_read_is_warned_about(site: Site) -> None:
    site.run_fleet(1)
    site.sh("chmod 0755 /etc/rave; chmod 0644 /etc/rave/rave.yaml; systemctl restart rave-orchestrator")
    mend = "chown root:rave /etc/rave/rave.yaml && chmod 0640 /etc/rave/rave.yaml"
    for said in check(site), site.machine.journal("-u", "rave-orchestrator"):
        assert "/etc/rave/rave.yaml: its mode 0644 lets all users read what is secret: client_identity." in said
        assert f"({mend})" in said
    site.sh(f"{mend}; chmod 0750 /etc/rave")
    assert check(site) == "/etc/rave/rave.yaml is fine.\n"
