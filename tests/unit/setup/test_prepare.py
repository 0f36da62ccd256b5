from __future__ import annotations

import gc
import json
import os
import pwd
import runpy
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ravesvc import names
from ravesvc.config import rave_yaml
from ravesvc.config.media_settings import MediaSettings
from ravesvc.config.worker_settings import Edition, MeshSettings, Session, digest
from ravesvc.ctl.main import main as ravectl
from ravesvc.setup import places, prepare
from ravesvc.version import __version__
from tests.unit.authority import Authority
from tests.unit.fake_manager import FakeManager

pytestmark = pytest.mark.slow

KEY = "hush-key"
TOKEN = "hush-token"


class Machine:
    """The files that the step reads and writes, and a systemctl that keeps a diary."""

    def __init__(self, root: Path) -> None:
        self.config = root / "etc/rave.yaml"
        self.settings = root / "run/rave/settings.json"
        self.session = root / "run/rave/session.json"
        self.media = root / "run/rave/media.json"
        self.authorities = root / "run/rave/authorities.pem"
        self.allowed = root / "run/rave/allowed-addresses"
        self.drop_in = root / "run/system/rave-mesh@.service.d/50-rave-yaml.conf"
        self.service_drop_in = root / "run/system/rave-orchestrator.service.d/50-rave-yaml.conf"
        self.resolv_conf = root / "etc/resolv.conf"
        self.credentials = root / "lib/credentials.json"
        self.database = root / "etc/database.json"
        self.systemctl = root / "systemctl"
        self.busctl = root / "busctl"
        self._diary = root / "diary"
        for file in (self.config, self.credentials):
            file.parent.mkdir()
        self.configure()
        self.log_in()
        self.let_systemctl_end_with(0)
        self.let_busctl_end_with(0)

    def configure(self, more: str = "") -> None:
        text = (
            f"client_identity: {{request_hash_key: {KEY}}}\n"
            f"credentials_path: {self.credentials}\ndatabase_config_path: {self.database}\n{more}"
        )
        self.config.write_text(text)

    def log_in(self) -> None:
        credentials = {"deviceId": "d" * 32, "ssaid": "5" * 16, "userId": 900000001, "authToken": f"r:{TOKEN}"}
        self.credentials.write_text(json.dumps(credentials))

    def let_systemctl_end_with(self, status: int) -> None:
        self.systemctl.write_text(f'#!/bin/sh\necho "$@" >> {self._diary}\nexit {status}\n')
        self.systemctl.chmod(0o755)

    def let_busctl_end_with(self, status: int) -> None:
        """It calls the service; what bots are given at that moment is noted with the call."""
        self.busctl.write_text(
            f'#!/bin/sh\necho "$@" >> {self._diary}\ncp {self.settings} {self.called_with}\nexit {status}\n'
        )
        self.busctl.chmod(0o755)

    @property
    def called_with(self) -> Path:
        return self._diary.with_name("called-with.json")

    @property
    def diary(self) -> list[str]:
        return self._diary.read_text().splitlines() if self._diary.exists() else []

    @property
    def reloads(self) -> list[str]:
        """All but what is said of addresses, which is said at each run."""
        return [line for line in self.diary if not line.startswith("set-property ")]

    @property
    def slice(self) -> dict[str, list[str]]:
        """What bots reach and what not, as systemd has it by now: an empty value takes back those before."""
        found: dict[str, list[str]] = {"IPAddressAllow": [], "IPAddressDeny": []}
        for line in self.diary:
            for name, value in (word.split("=") for word in line.split() if "=" in word):
                found[name] = [*found[name], value] if value else []
        return found


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """The step runs with the unit's umask, and has one of its own."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(names, "CONFIG_FILE", str(made.config))
    monkeypatch.setattr(names, "SETTINGS_FILE", str(made.settings))
    monkeypatch.setattr(names, "SESSION_FILE", str(made.session))
    monkeypatch.setattr(names, "MEDIA_SETTINGS_FILE", str(made.media))
    monkeypatch.setattr(names, "AUTHORITIES_FILE", str(made.authorities))
    monkeypatch.setattr(names, "ALLOWED_ADDRESSES_FILE", str(made.allowed))
    monkeypatch.setattr(prepare, "DROP_IN", made.drop_in)
    monkeypatch.setattr(prepare, "SERVICE_DROP_IN", made.service_drop_in)
    monkeypatch.setattr(prepare, "STOP_DROP_IN", tmp_path / "stop.d" / "50-rave-yaml.conf")
    monkeypatch.setattr(prepare, "RESOLV_CONF", made.resolv_conf)
    # Temporary directories are in /tmp, which the service does not see.
    monkeypatch.setattr(places, "HIDDEN", {Path("/home"): ""})
    monkeypatch.setattr(prepare, "SYSTEMCTL", str(made.systemctl))
    monkeypatch.setattr(prepare, "BUSCTL", str(made.busctl))
    us = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(pwd, "getpwnam", {"rave": us}.__getitem__)
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_bots_get_settings_and_session(machine: Machine) -> None:
    machine.configure("lang: de\n")
    assert prepare.main() == 0
    settings = rave_yaml.load(machine.config).mesh_settings()
    assert MeshSettings.from_json(machine.settings.read_text()) == settings
    assert (settings.lang, settings.identity.request_hash_key) == ("de", KEY)
    assert Session.from_json(machine.session.read_text()) == Session(
        device_id="d" * 32, ssaid="5" * 16, user_id=900000001, auth_token=TOKEN
    )
    assert MediaSettings.from_json(machine.media.read_text()) == rave_yaml.load(machine.config).media_settings()
    assert mode(machine.settings) == mode(machine.session) == mode(machine.media) == 0o600


def test_the_proxy_of_the_units_environment_reaches_the_bots(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://bot:hush-password@proxy.lan:3128")
    assert prepare.main() == 0
    proxy = MeshSettings.from_json(machine.settings.read_text()).proxy
    assert proxy
    assert (proxy.host, proxy.port, proxy.user, proxy.password) == ("proxy.lan", 3128, "bot", "hush-password")
    monkeypatch.setenv("HTTPS_PROXY", "socks5://bot:hush-password@proxy.lan:1080")
    assert prepare.main() == names.ExitStatus.CONFIG
    said = capsys.readouterr().err
    assert "the environment variable HTTPS_PROXY must be an HTTP proxy" in said
    assert "hush" not in said


@pytest.mark.slow
def test_what_the_bots_get_is_the_edition_that_the_parent_compares_them_with(machine: Machine) -> None:
    for text in "", "watchdog: 7s\nlang: de\n", 'command_prefix: ["ä"]\n':
        machine.configure(text)
        assert prepare.main() == 0
        # A bot digests the bytes of its credential.
        told = machine.settings.read_bytes().decode()
        assert rave_yaml.load(machine.config).edition() == Edition(__version__, digest(told))


def test_service_and_bots_get_the_authorities_that_root_has_read(
    machine: Machine, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.configure(f"tls: {{ca_file: {authority.ca_file}}}\n")
    assert prepare.main() == 0
    said = f"tls.ca_file: {authority.ca_file} was read, its certificate alone will be trusted\n"
    assert capfd.readouterr().err == said
    pem = authority.ca_file.read_text()
    assert (machine.authorities.read_text(), mode(machine.authorities)) == (pem, 0o644)
    assert MeshSettings.from_json(machine.settings.read_text()).tls.authorities == pem
    # The service, which can't read the file, compares its bots with the same settings.
    service = rave_yaml.load(machine.config).with_authorities(pem)
    assert service.edition().digest == digest(machine.settings.read_text())
    machine.configure()
    assert prepare.main() == 0
    assert not machine.authorities.exists()


def test_authorities_that_can_not_be_used_are_told_as_ravectl_tells_it(
    machine: Machine, authority: Authority, manager: FakeManager, capfd: pytest.CaptureFixture[str]
) -> None:
    key = authority.key_file.read_text()
    machine.config.with_name("both.pem").write_text(authority.ca_file.read_text() + key)
    machine.configure(f"limit: 0\ntls:\n  ca_file: {machine.config.with_name('both.pem')}\n")
    assert prepare.main() == 78
    said = capfd.readouterr().err
    _, line = said.splitlines()
    assert line.startswith(
        f"{machine.config}:6: tls.ca_file: {machine.config.with_name('both.pem')} holds a private key"
    )
    assert key.splitlines()[1] not in line
    (status,) = manager.said
    assert status.startswith(f"STATUS=Not started: {machine.config}:4: limit must be")
    assert status.endswith(" (and 1 more)")
    assert not machine.authorities.exists()
    assert ravectl(["config", "check", str(machine.config)]) == 1
    assert capfd.readouterr().err == said


def test_systemd_gets_the_drop_in_that_everybody_may_read(machine: Machine) -> None:
    machine.configure("process_restart_delay: 4s\nmax_process_restarts: 2\nshutdown_timeout: 1.5s\nwatchdog: 1min\n")
    assert prepare.main() == 0
    assert machine.reloads == ["daemon-reload"]
    assert mode(machine.drop_in) == 0o644
    assert mode(machine.drop_in.parent) == 0o755
    text = machine.drop_in.read_text()
    assert text.startswith(f"# Written by rave-orchestrator.service at its start, from {machine.config}.")
    assert text.splitlines()[1:] == [
        "[Unit]",
        # Three starts, each with its delay and a minute to fail in.
        "StartLimitIntervalSec=192s",
        "StartLimitBurst=3",
        "[Service]",
        "RestartSec=4000ms",
        "TimeoutStopSec=1500ms",
        "WatchdogSec=60000ms",
    ]


def test_the_sandbox_opens_for_places_outside_of_the_state_directory(machine: Machine, tmp_path: Path) -> None:
    odd = tmp_path / 'disk "one" 100% \\'
    odd.mkdir()
    (tmp_path / "link").symlink_to(odd)
    machine.configure(f"state_path: {tmp_path}/link/state.db\nblocklist_persist_path: {tmp_path}/lib/b.json\n")
    assert prepare.main() == 0
    header, *lines = machine.service_drop_in.read_text().splitlines()
    assert str(machine.config) in header
    quoted = str(tmp_path) + '/disk \\"one\\" 100%% \\\\'
    assert lines == ["[Service]", f'ReadWritePaths="-{quoted}"', f'ReadWritePaths="-{tmp_path}/lib"']
    assert machine.reloads == ["daemon-reload"]
    # Back again.
    machine.config.write_text("credentials_path: /var/lib/rave/credentials.json\n")
    assert prepare.main() == 0
    assert not machine.service_drop_in.exists()
    assert machine.reloads == ["daemon-reload"] * 2


def test_a_place_that_the_service_can_not_use_keeps_it_from_starting(
    machine: Machine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.configure(f"state_path: {tmp_path}/none/state.db\n")
    assert prepare.main() == 78
    said = capfd.readouterr().err
    assert said == (
        f"{machine.config}:4: state_path: the directory {tmp_path}/none does not exist "
        f"(install -d -o rave -g rave -m 0700 {tmp_path}/none)\n"
    )
    assert not machine.settings.exists()


def test_the_drop_in_holds_no_secret(machine: Machine) -> None:
    prepare.main()
    assert "hush" in machine.settings.read_text()
    assert "hush" in machine.session.read_text()
    assert "hush" not in machine.drop_in.read_text()


def test_a_second_run_touches_nothing(machine: Machine) -> None:
    files = (machine.settings, machine.session, machine.drop_in)
    prepare.main()
    before = [file.stat() for file in files]
    assert prepare.main() == 0
    assert [file.stat().st_ino for file in files] == [status.st_ino for status in before]
    assert machine.reloads == ["daemon-reload"]


def test_a_change_is_written_and_reloaded(machine: Machine) -> None:
    prepare.main()
    machine.configure("watchdog: 7s\n")
    assert prepare.main() == 0
    assert "WatchdogSec=7000ms" in machine.drop_in.read_text()
    assert machine.reloads == ["daemon-reload"] * 2


def test_a_file_of_ours_that_was_spoilt_is_written_anew(machine: Machine) -> None:
    prepare.main()
    machine.settings.write_bytes(b"\xff")
    assert prepare.main() == 0
    assert MeshSettings.from_json(machine.settings.read_text())


def test_without_credentials_no_session_is_left(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    prepare.main()
    machine.credentials.unlink()
    assert prepare.main() == 0
    assert not machine.session.exists()
    assert machine.settings.exists()
    assert not capfd.readouterr().err
    assert prepare.main() == 0


def test_credentials_that_can_not_be_used_are_told_and_do_no_harm(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare.main()
    machine.credentials.write_text(f'{{"authToken": "{TOKEN}"')
    assert prepare.main() == 0
    assert not machine.session.exists()
    err = capfd.readouterr().err
    assert f"{machine.credentials} can't be used" in err
    assert TOKEN not in err


def test_credentials_of_somebody_else_are_not_handed_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stranger = pwd.struct_passwd(("rave", "x", os.getuid() + 1, 0, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", {"rave": stranger}.__getitem__)
    # Whatever the stranger is asked for, they may.
    monkeypatch.setattr(places, "_TEST", "/usr/bin/true")
    assert prepare.main() == 0
    assert not machine.session.exists()
    assert "is not trusted" in capfd.readouterr().err


def test_without_a_user_rave_nobody_is_trusted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pwd, "getpwnam", {}.__getitem__)
    assert prepare.main() == 0
    assert not machine.session.exists()
    assert "there is no user rave (systemd-sysusers makes it)" in capfd.readouterr().err


def test_a_bad_configuration_changes_nothing(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    machine.configure("limit: 0\nwatchdg: 1\n")
    assert prepare.main() == 78
    err = capfd.readouterr().err
    assert f"{machine.config}:4: limit must be" in err
    assert f"{machine.config}:5: watchdg is not an option (did you mean watchdog?)" in err
    assert KEY not in err
    assert not machine.settings.exists()
    assert not machine.drop_in.exists()
    assert machine.diary == []


def test_every_mistake_is_told_as_ravectl_tells_it(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    machine.configure("limit: 0\nwatchdg: 1\n")
    machine.database.write_text('{\n"url": "mongodb://hush",\n"options": {"tls": null}}')
    assert prepare.main() == 78
    said = capfd.readouterr().err
    assert [line.split(" ")[:2] for line in said.splitlines()] == [
        [f"{machine.config}:4:", "limit"],
        [f"{machine.config}:5:", "watchdg"],
        [f"{machine.database}:1:", "uri"],
        [f"{machine.database}:2:", "url"],
        [f"{machine.database}:3:", "options.tls"],
    ]
    assert ravectl(["config", "check", str(machine.config)]) == 1
    assert capfd.readouterr().err == said


def test_what_is_hardly_meant_is_told_as_ravectl_tells_it_and_keeps_nothing_from_starting(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.configure("blocklist_duration: 3600000\n")
    assert prepare.main() == 0
    said = capfd.readouterr().err
    assert said.startswith(
        f"{machine.config}:4: blocklist_duration: 3600000 means 3600000 seconds, that is 41 days ("
    )
    assert said.count("\n") == 1
    machine.config.parent.chmod(0o755)
    machine.config.chmod(0o644)
    assert prepare.main() == 0
    first, second = capfd.readouterr().err.splitlines(keepends=True)
    assert first == said
    assert second.startswith(f"{machine.config}: its mode 0644 lets all users read what is secret: ")
    ravectl(["config", "check", str(machine.config)])
    assert capfd.readouterr().err.startswith(f"warning: {first}warning: {second}")


def test_what_the_driver_does_not_take_is_told_before_the_start(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.configure("limit: 0\n")
    machine.database.write_text('{"uri": "mongodb://hush:hush-password@host",\n"options": {"maxPool": 5}}')
    assert prepare.main() == 78
    first, second = capfd.readouterr().err.splitlines()
    assert first.startswith(f"{machine.config}:4: limit must be")
    assert second.startswith(f"{machine.database}:2: options.maxPool is not taken by the driver")
    assert "hush" not in second


def test_a_bad_database_is_a_bad_configuration(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    machine.database.write_text('{"uri": "mongodb://user:hush@')
    assert prepare.main() == 78
    err = capfd.readouterr().err
    assert str(machine.database) in err
    assert "hush" not in err
    assert not machine.settings.exists()


def test_the_database_is_no_business_of_the_bots(machine: Machine) -> None:
    machine.database.write_text('{"uri": "mongodb://user:hush-password@localhost/rave-bot"}')
    assert prepare.main() == 0
    for file in (machine.settings, machine.session, machine.drop_in):
        assert "hush-password" not in file.read_text()


def test_bots_reach_nothing_near_but_name_servers_and_what_rave_yaml_names(machine: Machine) -> None:
    machine.configure("allow_addresses: 10.1.0.0/16\n")
    machine.resolv_conf.write_text("nameserver 127.0.0.53\n")
    assert prepare.main() == 0
    assert all(line.startswith("set-property --runtime rave-mesh.slice IP") for line in machine.diary[1:])
    assert machine.slice["IPAddressAllow"] == ["127.0.0.53", "10.1.0.0/16"]
    denied = machine.slice["IPAddressDeny"]
    assert {"127.0.0.0/8", "10.0.0.0/8"} < set(denied)
    machine.resolv_conf.write_text("nameserver fe80::1%eth0\n")
    assert prepare.follow_name_servers() == 0
    assert machine.slice == {"IPAddressAllow": ["fe80::1", "10.1.0.0/16"], "IPAddressDeny": denied}


def test_new_name_servers_leave_bots_what_the_last_start_allowed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # rave-name-servers.service has another environment than rave-orchestrator.service, for which the proxy is set.
    with monkeypatch.context() as service:
        service.setenv("HTTPS_PROXY", "http://192.168.1.9:3128")
        assert prepare.main() == 0
    # In force after the next start.
    machine.configure("allow_addresses: 10.1.0.0/16\n")
    machine.resolv_conf.write_text("nameserver 192.168.1.1\n")
    assert prepare.follow_name_servers() == 0
    assert machine.slice["IPAddressAllow"] == ["192.168.1.1", "192.168.1.9/32"]


def test_name_servers_are_followed_before_the_first_start(machine: Machine) -> None:
    machine.resolv_conf.write_text("nameserver 192.168.1.1\n")
    assert prepare.follow_name_servers() == 0
    assert machine.slice == {"IPAddressAllow": ["192.168.1.1"], "IPAddressDeny": []}


def test_name_servers_that_change_meanwhile_are_reached(machine: Machine) -> None:
    machine.resolv_conf.write_text("nameserver 192.168.1.1\n")
    # They change while systemd takes over those before.
    script = machine.systemctl.read_text()
    new = f"echo nameserver 192.168.1.2 > {machine.resolv_conf}"
    machine.systemctl.write_text(script.replace("#!/bin/sh\n", f"#!/bin/sh\n{new}\n"))
    assert prepare.follow_name_servers() == 0
    assert machine.slice["IPAddressAllow"] == ["192.168.1.2"]


def test_nothing_is_looked_up_for_the_addresses(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    # By root, at each start, and before there may be a name server.
    def look_up(*_arguments: object) -> None:
        raise AssertionError("a name is looked up")

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    machine.configure("proxy: http://proxy.lan:3128\nservers: {api: 'https://rave.lan'}\n")
    assert prepare.main() == 0
    assert prepare.follow_name_servers() == 0
    assert "10.0.0.0/8" not in machine.slice["IPAddressDeny"]


def test_bots_run_where_systemd_can_not_keep_them_from_addresses(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert prepare.main() == 0
    assert not capfd.readouterr().err
    machine.let_systemctl_end_with(1)
    assert prepare.main() == 0
    assert capfd.readouterr().err == (
        "systemd did not take IPAddressDeny= of rave-mesh.slice: bots may reach what is near them; "
        "'sudo ravectl doctor' shows what is missing\n"
    )
    # What is allowed is tried first: without it bots would have no name servers.
    assert "IPAddressAllow=" in machine.diary[-1]
    # rave-name-servers.service fails, and is listed by systemctl --failed.
    assert prepare.follow_name_servers() == 1
    assert f"bots may not reach the servers of {machine.resolv_conf}" in capfd.readouterr().err


def test_a_failed_reload_is_an_error_and_tried_again(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    machine.let_systemctl_end_with(1)
    assert prepare.main() == 78
    assert f"systemd did not read {machine.drop_in}" in capfd.readouterr().err
    machine.let_systemctl_end_with(0)
    assert prepare.main() == 0
    assert machine.reloads == ["daemon-reload"] * 2
    assert machine.drop_in.exists()


def test_a_place_that_can_not_be_written_to_is_named(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    machine.settings.parent.parent.mkdir()
    machine.settings.parent.write_text("a file where a directory belongs")
    assert prepare.main() == 78
    assert f"{machine.authorities} can't be removed: Not a directory" in capfd.readouterr().err
    machine.settings.parent.unlink()
    machine.settings.mkdir(parents=True)
    assert prepare.main() == 78
    assert f"{machine.settings} can't be written: Is a directory" in capfd.readouterr().err


RELOAD = f"call {names.BUS_NAME} {names.MANAGER_PATH} {names.MANAGER_INTERFACE} Reload s"


def test_a_reload_leaves_settings_for_new_bots_and_then_tells_the_service(machine: Machine) -> None:
    prepare.main()
    machine.configure("lang: de\nlimit: 7\nwatchdog: 7s\nservers: {api: 'https://other.test'}\n")
    assert prepare.reload() == 0
    told = machine.settings.read_text()
    settings = MeshSettings.from_json(told)
    assert (settings.lang, settings.identity.request_hash_key) == ("de", KEY)
    # These wait for a restart, for the service as well.
    assert settings.watchdog == 30
    assert settings.servers.api != "https://other.test"
    assert (mode(machine.settings), machine.called_with.read_text()) == (0o600, told)
    assert machine.reloads[1:] == [f"--system --quiet {RELOAD} {digest(told)}"]


def test_a_reload_that_the_service_refuses_leaves_the_settings_as_they_were(machine: Machine) -> None:
    prepare.main()
    before = machine.settings.read_text()
    machine.configure("lang: de\n")
    machine.let_busctl_end_with(1)
    assert prepare.reload() == 1
    assert machine.called_with.read_text() != before
    assert machine.settings.read_text() == before


def test_a_reload_with_a_mistake_says_it_and_changes_nothing(
    machine: Machine, manager: FakeManager, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare.main()
    before, diary = machine.settings.read_text(), machine.diary
    machine.configure("lang: de\nlimit: 0\n")
    capfd.readouterr()
    assert prepare.reload() == 78
    assert capfd.readouterr().err == f"{machine.config}:5: limit must be a whole number from 1 to 100\n"
    assert (machine.settings.read_text(), machine.diary) == (before, diary)
    # The service runs on, so its status is its own.
    assert manager.said == []


def test_a_reload_needs_the_settings_that_are_in_force(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    assert prepare.reload() == 78
    hint = "(systemctl restart rave-orchestrator writes it anew)"
    assert f"{machine.settings} can't be used" in (said := capfd.readouterr().err)
    assert hint in said


def test_run_as_a_program(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.config.unlink()
    monkeypatch.setattr(sys, "argv", ["ravesvc.setup"])
    try:
        with pytest.raises(SystemExit) as e:
            runpy.run_module("ravesvc.setup", run_name="__main__")
    finally:
        # These tests go on, unlike that program.
        gc.enable()
    assert e.value.code == 78


@pytest.mark.process
def test_it_imports_no_event_loop() -> None:
    """It runs before every start, and for each reload."""
    code = "import sys, ravesvc.setup.prepare; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
