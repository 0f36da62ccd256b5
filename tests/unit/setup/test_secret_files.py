"""Which files with secrets others may read, by their mode."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from ravesvc.config import rave_yaml
from ravesvc.config.advice import FOR_ONE_PROCESS
from ravesvc.config.rave_yaml import Places
from ravesvc.setup import secret_files

SECRET = "hush4711"
KEY = f"client_identity: {{request_hash_key: {SECRET}}}\n"


def warnings(file: Path, text: str, mode: int, places: Places | None = None, directory: int = 0o755) -> list[str]:
    file.write_text(text)
    file.chmod(mode)
    file.parent.chmod(directory)
    settings, problems = rave_yaml.examine(file, places or Places(configuration=file.parent))
    assert settings, problems
    return list(secret_files.readable(settings))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rave.yaml"


def test_a_file_that_all_users_can_read(file: Path) -> None:
    closed = f"(chown root:rave {file} && chmod 0640 {file})"
    (warning,) = warnings(file, f"{KEY}proxy: http://bot:{SECRET}@proxy.lan:3128\n", 0o644)
    secrets = "client_identity.request_hash_key, the password in proxy"
    assert warning == f"{file}: its mode 0644 lets all users read what is secret: {secrets} {closed}"


@pytest.mark.parametrize("mode", [0o644, 0o604])
def test_in_a_closed_directory_others_read_nothing(file: Path, mode: int) -> None:
    assert warnings(file, KEY, mode, directory=0o700) == []
    assert warnings(file, KEY, mode, directory=0o711)


def test_one_process_is_told_what_its_user_may_do(file: Path) -> None:
    (warning,) = warnings(file, KEY, 0o604, Places(configuration=file.parent, advice=FOR_ONE_PROCESS))
    assert "its mode 0604" in warning
    assert warning.endswith(f"(chmod 0600 {file})")


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_file_of_its_user_is_closed(file: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each user has a group with its own name, as Debian makes it.
    own = grp.struct_group((pwd.getpwuid(os.getuid()).pw_name, "x", 0, []))
    monkeypatch.setattr(grp, "getgrgid", lambda _: own)
    assert warnings(file, KEY, mode) == []


@pytest.mark.parametrize(("group", "told"), [("rave", False), ("staff", True)])
def test_a_group_may_be_that_of_the_service(
    file: Path, group: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grp, "getgrgid", lambda _: grp.struct_group((group, "x", 1, [])))
    found = warnings(file, KEY, 0o640)
    assert bool(found) == told
    assert all("lets the group staff read" in each for each in found)


@pytest.mark.parametrize("text", ["", "client_identity: {user_agent: x}\n", "proxy: http://proxy.lan:3128\n"])
def test_without_a_secret_all_may_read(file: Path, text: str) -> None:
    assert warnings(file, text, 0o644) == []


def test_a_secret_of_the_environment_is_in_no_file(file: Path) -> None:
    file.write_text("")
    file.chmod(0o644)
    settings = rave_yaml.load(file)
    proxied = rave_yaml.with_environment(settings, {"HTTPS_PROXY": f"http://bot:{SECRET}@proxy.lan:3128"})
    assert list(secret_files.readable(proxied)) == []


@pytest.mark.parametrize(
    ("document", "secret"),
    [
        (f'{{"uri": "mongodb://bot:{SECRET}@localhost/bot"}}', "the password in uri"),
        (f'{{"uri": "mongodb://a", "options": {{"password": "{SECRET}"}}}}', "options.password"),
        ('{"uri": "mongodb://localhost:27017/bot"}', ""),
        ('{"uri": "mongodb://bot@localhost/bot"}', ""),
    ],
)
def test_the_password_of_a_database(file: Path, document: str, secret: str) -> None:
    database = file.with_name("database.json")
    database.write_text(document)
    database.chmod(0o644)
    found = warnings(file, f"database_config_path: {database}\n", 0o644)
    assert [each.partition(" (")[0] for each in found] == (
        [f"{database}: its mode 0644 lets all users read what is secret: {secret}"] if secret else []
    )
    assert SECRET not in "".join(found)
