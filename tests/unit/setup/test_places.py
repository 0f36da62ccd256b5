"""Files and directories that rave.yaml names, as the service sees them."""

from __future__ import annotations

import dataclasses
import os
import pwd
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ravesvc import names
from ravesvc.config import rave_yaml
from ravesvc.config.options import Config
from ravesvc.errors import Code, RaveError
from ravesvc.setup import places, state_directory

SHIPPED = places.HIDDEN
# Any user who is not root.
RAVE = pwd.struct_passwd(("nobody", "x", 65534, 65534, "", "/", "/bin/false"))

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to find out what another user may do")


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state directory is elsewhere, and temporary directories are seen by the service."""
    monkeypatch.setattr(state_directory, "PATH", tmp_path / "lib")
    monkeypatch.setattr(places, "HIDDEN", {tmp_path / "home": "ProtectHome", Path("/root"): ""})
    monkeypatch.setattr(names, "COMMANDS_DIRECTORY", str(tmp_path / "commands.d"))


@pytest.fixture
def rave(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], None]:
    """There is a user rave, who may use nothing but what it is given."""
    monkeypatch.setattr(pwd, "getpwnam", {"rave": RAVE}.__getitem__)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o001 == 0:
            path.chmod(path.stat().st_mode | 0o001)
    return lambda path: os.chown(path, RAVE.pw_uid, RAVE.pw_gid)


def text(tmp_path: Path, **options: object) -> str:
    """Every place in the state directory, but for those that are given."""
    own = {key: f"{tmp_path}/lib/{key}" for key in ("state_path", "blocklist_persist_path", "credentials_path")}
    return "".join(f"{key}: {value}\n" for key, value in (own | options).items())


def settings(tmp_path: Path, **options: object) -> Config:
    read, problems = rave_yaml.read(text(tmp_path, **options), "/x/rave.yaml")
    assert read, problems
    return read


def refused(tmp_path: Path, **options: object) -> RaveError:
    (error,) = places.directories(settings(tmp_path, **options))
    assert error.code is Code.CONFIG
    return error


def test_the_state_directory_is_systemds(tmp_path: Path) -> None:
    assert places.directories(settings(tmp_path)) == []
    assert places.opened(settings(tmp_path)) == []


def test_directories_outside_of_it_are_to_be_opened_once_each(tmp_path: Path) -> None:
    made = tmp_path / "disk"
    made.mkdir()
    (tmp_path / "link").symlink_to(made)
    found = settings(tmp_path, state_path=made / "state.db", credentials_path=tmp_path / "link/c.json")
    assert places.directories(found) == []
    assert places.opened(found) == [made]


@pytest.mark.parametrize(("place", "words"), [("none", "does not exist"), ("none/deeper", "does not exist")])
def test_a_directory_that_is_missing_is_told_once_with_what_makes_it(tmp_path: Path, place: str, words: str) -> None:
    where = tmp_path / place
    error = refused(tmp_path, state_path=where / "state.db", blocklist_persist_path=where / "blocklist.json")
    assert str(error) == (
        f"/x/rave.yaml:1: state_path: the directory {where} {words} (install -d -o rave -g rave -m 0700 {where})"
    )
    subprocess.run(error.hint.replace("-o rave -g rave", "").split(), check=True)
    assert places.directories(settings(tmp_path, state_path=where / "state.db")) == []


def test_a_file_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file is no directory" in refused(tmp_path, state_path=tmp_path / "file/state.db").message


def test_what_the_sandbox_hides_is_refused_wherever_a_link_leads_there_from(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home/anna", tmp_path / "disk"
    home.mkdir(parents=True)
    elsewhere.mkdir()
    (tmp_path / "link").symlink_to(home)
    (home / "link").symlink_to(elsewhere)
    for directory in (home, tmp_path / "link", home / "link", home / "none"):
        error = refused(tmp_path, credentials_path=directory / "credentials.json")
        assert f"{directory} is hidden from the service by its sandbox" in error.message


def test_what_the_sandbox_hides_is_what_its_unit_says() -> None:
    unit = (Path(__file__).parents[3] / "units/rave-orchestrator.service").read_text()
    found = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    settings = [each for each in SHIPPED.values() if each]
    assert settings
    assert all(found[each] in ("yes", "disconnected") for each in settings)
    assert Path("/home") in SHIPPED


@pytest.mark.parametrize(("said", "hidden"), [("yes", True), ("tmpfs", True), ("", True), ("no", False)])
def test_an_operator_may_have_opened_the_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, hidden: bool
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(
        f'#!/bin/sh\ntest "$*" = "show --value -p ProtectHome rave-orchestrator.service" && echo {said}\n'
    )
    systemctl.chmod(0o755)
    monkeypatch.setattr(places, "_SYSTEMCTL", str(systemctl))
    (tmp_path / "home").mkdir()
    problems = places.directories(settings(tmp_path, state_path=tmp_path / "home/state.db"))
    assert bool(problems) is hidden


def test_a_directory_in_the_place_of_a_file_is_told_with_a_name_for_the_file(tmp_path: Path) -> None:
    made = tmp_path / "disk"
    made.mkdir()
    error = refused(tmp_path, blocklist_persist_path=f"{made}/")
    assert f"blocklist_persist_path: {made} is a directory (name a file in it: {made}/blocklist.json)" in str(error)


def test_two_options_with_one_file_are_told(tmp_path: Path) -> None:
    error = refused(tmp_path, blocklist_persist_path=f"{tmp_path}/lib/state_path")
    assert f"blocklist_persist_path: {tmp_path}/lib/state_path is that of state_path as well" in error.message


@pytest.mark.slow
@root_only
def test_what_the_user_may_not_do_is_told_with_what_lets_it(tmp_path: Path, rave: Callable[[Path], None]) -> None:
    closed, inner = tmp_path / "closed", tmp_path / "closed/inner"
    inner.mkdir(parents=True)
    closed.chmod(0o755)
    error = refused(tmp_path, state_path=inner / "state.db")
    assert f"the user rave can't write to {inner}" in error.message
    assert error.hint == f"chown rave: {inner} && chmod 0700 {inner}"
    rave(inner)
    assert places.directories(settings(tmp_path, state_path=inner / "state.db")) == []
    closed.chmod(0o700)
    error = refused(tmp_path, state_path=inner / "state.db")
    assert f"the user rave can't enter {closed}" in error.message
    subprocess.run(error.hint.split(), check=True)
    assert places.directories(settings(tmp_path, state_path=inner / "state.db")) == []


@root_only
def test_an_authority_that_root_alone_can_read_is_handed_over(tmp_path: Path, rave: Callable[[Path], None]) -> None:
    open_to_all, own, hidden = tmp_path / "open.pem", tmp_path / "own.pem", tmp_path / "home/ca.pem"
    hidden.parent.mkdir()
    for path, mode in [(open_to_all, 0o644), (own, 0o600), (hidden, 0o644)]:
        path.touch()
        path.chmod(mode)
    assert places.handed_over(settings(tmp_path)) == []
    assert places.handed_over(settings(tmp_path, tls=f"{{ca_file: {open_to_all}}}")) == []
    for path in own, hidden:
        (remark,) = places.handed_over(settings(tmp_path, tls=f"{{ca_file: {path}}}"))
        assert remark.startswith(f"{path} is read by root")


@pytest.mark.process
@pytest.mark.slow
@root_only
def test_a_configuration_of_root_alone_is_told(
    tmp_path: Path, rave: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, database = tmp_path / "rave.yaml", tmp_path / "database.json"
    database.write_text('{"uri": "mongodb://bot:hush@localhost"}')
    file.write_text(text(tmp_path, database_config_path=database))
    monkeypatch.setattr(names, "CONFIG_FILE", str(file))
    for path in (file, database):
        path.chmod(0o600)
    read, problems = rave_yaml.examine(file)
    assert read, problems
    first, second = places.directories(read)
    assert str(first) == (f"{file} can't be read by the user rave (chown root:rave {file} && chmod 0640 {file})")
    assert second.message == f"{file}:4: database_config_path: {database} can't be read by the user rave"
    for path in (file, database):
        path.chmod(0o644)
    assert places.directories(read) == []
    # The directory may be what is closed.
    closed = tmp_path / "etc"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(places, "CONFIGURATION", closed)
    monkeypatch.setattr(names, "CONFIG_FILE", str(file.rename(closed / "rave.yaml")))
    read, problems = rave_yaml.examine(names.CONFIG_FILE)
    assert read, problems
    (error,) = places.directories(read)
    assert str(error) == f"the user rave can't enter {closed} (chgrp rave {closed} && chmod 0750 {closed})"


def test_a_database_in_a_home_directory_would_be_overlooked(tmp_path: Path) -> None:
    file, database = tmp_path / "rave.yaml", tmp_path / "home/database.json"
    database.parent.mkdir()
    database.write_text('{"uri": "mongodb://localhost"}')
    file.write_text(text(tmp_path, database_config_path=database))
    read, _ = rave_yaml.examine(file)
    assert read
    (error,) = places.directories(read)
    assert error.message.startswith(f"{file}:4: database_config_path: {database} is hidden")


def test_a_link_in_the_place_of_the_state_directory_is_told_with_the_way_that_works(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "lib").symlink_to("data")
    error = refused(tmp_path)
    assert f"{tmp_path}/lib is a symbolic link" in error.message
    assert f"mount --bind {tmp_path}/data {tmp_path}/lib" in error.hint
    assert f"{tmp_path}/data {tmp_path}/lib none bind 0 0" in error.hint


def test_something_else_than_a_file_is_told(tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    lib.mkdir()
    os.mkfifo(lib / "state_path")
    os.mkfifo(lib / "blocklist_persist_path")
    (lib / "credentials_path").symlink_to("elsewhere")
    assert [problem.message.partition(f": {lib}/")[2] for problem in places.files(settings(tmp_path))] == [
        "state_path is no regular file",
        "blocklist_persist_path is no regular file",
        "credentials_path is a symbolic link, which is not followed",
    ]


@root_only
def test_a_file_of_root_is_told(tmp_path: Path, rave: Callable[[Path], None]) -> None:
    lib = tmp_path / "lib"
    lib.mkdir(mode=0o755)
    state = lib / "state_path"
    state.touch(mode=0o600)
    (problem,) = places.files(settings(tmp_path))
    assert f"state_path: the user rave can't use {state} (chown rave: {state})" in str(problem)
    rave(state)
    assert places.files(settings(tmp_path)) == []


def test_plugins_that_bots_can_not_read_are_told(tmp_path: Path) -> None:
    directory = tmp_path / "commands.d"
    directory.mkdir()
    directory.chmod(0o750)
    for name, mode in [("good.py", 0o644), ("bad.py", 0o600), ("README", 0o600)]:
        (directory / name).touch()
        (directory / name).chmod(mode)
    assert list(map(str, places.files(settings(tmp_path)))) == [
        f"{directory} can't be read by the bots (chmod 0755 {directory})",
        f"{directory}/bad.py can't be read by the bots (chmod 0644 {directory}/bad.py)",
    ]


def youtube_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, mode: int = 0o600) -> Config:
    """Settings that go with a key file, and what is not about it is right."""
    key = tmp_path / "youtube.key"
    if content is not None:
        key.write_text(content)
        key.chmod(mode)
    monkeypatch.setattr(places, "_plugins", list)
    found = settings(tmp_path, videos="{providers: [youtube, link]}")
    return dataclasses.replace(found, videos=dataclasses.replace(found.videos, youtube_key_path=key))


def test_a_key_that_is_used_without_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert places.files(youtube_key(tmp_path, monkeypatch, "AIza0123456789-_\n")) == []


@pytest.mark.parametrize(
    ("content", "mode", "problem", "hint"),
    [
        (None, 0, "videos.providers: youtube needs {key}, which does not exist", "take youtube out"),
        ("AIza0123456789", 0o640, "{key} can be read by others than root", "chmod 0600 {key}"),
        ("AIza0123456789", 0o604, "{key} can be read by others than root", "chmod 0600 {key}"),
        ("hush hush hush", 0o600, "{key}: there is no key of the YouTube Data API in it", "the key alone"),
        ("", 0o600, "{key}: there is no key of the YouTube Data API in it", "the key alone"),
        ("x" * 5000, 0o600, "{key} can't be read: it is larger than 4 KiB", ""),
    ],
)
def test_what_is_wrong_with_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, mode: int, problem: str, hint: str
) -> None:
    (found,) = places.files(youtube_key(tmp_path, monkeypatch, content, mode))
    key = str(tmp_path / "youtube.key")
    assert problem.format(key=key) in found.message
    assert hint.format(key=key) in found.hint
    assert "hush" not in str(found)


def test_without_a_key_the_default_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = youtube_key(tmp_path, monkeypatch, None)
    assert places.files(dataclasses.replace(found, lines={})) == []
