"""The state directory: certificates, secrets, and what is printed from them."""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ravesvc.common.text import user_name
from ravesvc.errors import Code, RaveError
from ravesvc.simulator import certificates
from ravesvc.simulator.account import SimulatedAccount
from ravesvc.simulator.state_dir import StateDir


@pytest.fixture
def shared_path() -> Iterator[Path]:
    """A directory that other users may enter.

    `tmp_path` is none: each run of pytest closes the directory above it again, also while another run uses it.
    """
    with tempfile.TemporaryDirectory(prefix="ravesvc-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_init_makes_everything_with_its_rights(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path / "state")
    state_dir.init()
    rights = {path.name: mode(path) for path in state_dir.directory.iterdir()}
    assert rights == {"ca.pem": 0o644, "server.pem": 0o644, "server.key": 0o600, "account.json": 0o600}


def test_init_keeps_what_is_there(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    state_dir.init()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    state_dir.init()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_init_replaces_an_incomplete_set_as_a_whole(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    state_dir.init()
    old = state_dir.ca_file.read_bytes()
    state_dir.certificate.unlink()
    state_dir.init()
    assert state_dir.ca_file.read_bytes() != old
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(state_dir.certificate, state_dir.key)


def test_a_failed_openssl_leaves_no_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / certificates.CA_FILE).write_text("old")
    monkeypatch.setattr(certificates, "_NEW_KEY", ("-no-such-option",))
    with pytest.raises(RaveError, match="openssl req failed") as raised:
        certificates.create(tmp_path)
    assert raised.value.code is Code.BAD_FILE
    assert not list(tmp_path.iterdir())


def test_without_openssl_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RaveError, match="apt install openssl"):
        StateDir(tmp_path).init()


def test_a_directory_that_cannot_be_made_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RaveError, match="can't be set up: Not a directory"):
        StateDir(tmp_path / "file" / "state").init()


def test_without_init_there_is_no_account(tmp_path: Path) -> None:
    with pytest.raises(RaveError, match="rave-simulator init") as raised:
        StateDir(tmp_path).account()
    assert raised.value.code is Code.BAD_FILE


@pytest.mark.process
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else needs root")
def test_as_root_init_works_as_the_owner_of_the_directory(shared_path: Path) -> None:
    state = shared_path / "state"
    state.mkdir()
    os.chown(state, 65534, 65534)
    code = (
        "import sys; from pathlib import Path; from ravesvc.simulator.cli import main;"
        f"sys.exit(main(['--state-dir', {str(state)!r}, 'init']))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
    assert {path.stat().st_uid for path in state.iterdir()} == {65534}


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize(("verb", "failed"), [("init", "can't be set up"), ("config", "account.json can't be read")])
def test_what_root_has_left_is_named_with_the_mend(
    shared_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, failed: str
) -> None:
    monkeypatch.setenv("HOME", str(shared_path.parent))
    if verb == "config":
        StateDir(shared_path).init()
    code = (
        "import os, sys; from ravesvc.simulator import cli, state_dir; os.setgroups([]); os.setuid(65534);"
        f"sys.exit(cli.main(['--state-dir', {str(shared_path)!r}, {verb!r}]))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, cwd=Path(__file__).parents[3], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert f"{failed}: Permission denied (files in {shared_path} belong to root" in done.stderr
    assert f": sudo chown -R {user_name(65534)} {shared_path} && chmod " in done.stderr


def test_becoming_the_owner_of_nothing_changes_nobody(tmp_path: Path) -> None:
    before = os.geteuid()
    StateDir(tmp_path / "missing").become_owner()
    assert os.geteuid() == before


def test_accounts_are_random_and_survive_their_file() -> None:
    one, other = SimulatedAccount.generate(), SimulatedAccount.generate()
    assert one.session.auth_token != other.session.auth_token
    assert one.identity.request_hash_key != other.identity.request_hash_key
    assert SimulatedAccount.from_json(one.to_json()) == one


def test_an_account_shows_no_secret() -> None:
    account = SimulatedAccount.generate()
    for secret in (account.session.auth_token, account.identity.request_hash_key, account.email):
        assert secret not in repr(account)


def test_the_credentials_have_the_fields_of_a_login() -> None:
    account = SimulatedAccount.generate()
    document = json.loads(account.credentials())
    assert set(document) == {
        *("email", "deviceId", "ssaid", "parseId", "parseToken", "authToken", "userId", "peerId"),
    }
    assert document["peerId"] == f"{document['userId']}_{document['deviceId']}"
    assert len(document["deviceId"]) == 32
    assert len(document["ssaid"]) == 16


def test_the_config_is_yaml_that_names_every_server() -> None:
    account = SimulatedAccount.generate()
    text = account.config(server="localhost:8443", ca_file="/x/ca.pem", discovery_interval="2s")
    document = yaml.safe_load(text)
    assert document["servers"] == {
        "api": "https://localhost:8443",
        "parse": "https://localhost:8443/parse",
        "mojo": "https://localhost:8443/mojo",
    }
    assert document["videos"] == {
        "youtube_api": "https://localhost:8443/youtube/v3",
        "youtube_oembed": "https://localhost:8443/oembed",
        "picture_hosts": ["localhost:8443"],
    }
    assert document["client_identity"]["request_hash_key"] == account.identity.request_hash_key
    assert document["client_identity"]["app_build"] == "1"
    assert document["tls"] == {"ca_file": "/x/ca.pem"}
    assert document["discovery_interval"] == "2s"
    assert document["command_prefix"] == ["?"]
