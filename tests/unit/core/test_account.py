"""Where the credentials come from: the store, the file, or neither."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from ravesvc.errors import Code
from ravesvc.store.credentials_file import read_credentials, write_credentials
from ravesvc.store.model import Contents, Credentials
from tests.unit.conftest import until
from tests.unit.core.account_site import (
    OTHERS,
    OURS,
    Site,
    lines,
    plain,
    site,
)
from tests.unit.fake_store import DAMAGED, DOWN, credentials


@pytest.mark.parametrize(
    ("stored", "file", "used", "store_after", "file_after", "aside"),
    [
        # store, file -> what is used, what the store holds, what the file holds, how many files are kept aside
        (None, None, None, None, None, 0),
        (None, OURS, OURS, OURS, OURS, 0),
        (None, "{bad", None, None, "{bad", 0),
        (OURS, None, OURS, OURS, OURS, 0),
        (OURS, OURS, OURS, OURS, OURS, 0),
        (OURS, OTHERS, OURS, OURS, OURS, 0),
        (OURS, "{bad", OURS, OURS, OURS, 1),
        ("down", None, None, None, None, 0),
        ("down", OURS, OURS, None, OURS, 0),
        ("down", "{bad", None, None, "{bad", 0),
        ("damaged", None, None, None, None, 0),
        ("damaged", OURS, OURS, None, OURS, 0),
    ],
)
async def test_who_wins(
    stored: Credentials | str | None,
    file: Credentials | str | None,
    used: Credentials | None,
    store_after: Credentials | None,
    file_after: Credentials | str | None,
    aside: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    made = Site(tmp_path)
    if isinstance(stored, str):
        made.store.failure = DOWN if stored == "down" else DAMAGED
    else:
        made.store.contents = Contents(credentials=stored)
    if isinstance(file, str):
        made.path.write_text(file)
    elif file:
        write_credentials(made.path, file)
    await made.state.start()
    await made.account.adopt()
    session = made.account.session
    assert session == (used and used.session)
    assert (made.account.obstacle is None) == (session is not None)
    assert plain(made.store.contents.credentials) == store_after
    if isinstance(file_after, str):
        assert made.path.read_text() == file_after
    else:
        assert plain(read_credentials(made.path)) == file_after
    assert len(made.kept_aside()) == aside
    assert [each.read_text() for each in made.kept_aside()] == ["{bad"] * aside
    assert made.changes == 1
    for secret in ("example.test", "token-of", "device-of", "ssaid-of"):
        assert secret not in caplog.text + str(made.account.obstacle)
    assert "token-of" not in repr(session)
    await made.account.adopt()  # nothing new
    assert made.changes == 1
    await made.state.close()


async def test_without_credentials_a_login_is_needed(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        obstacle = made.account.obstacle
        assert obstacle
        assert obstacle.code is Code.LOGIN_NEEDED
        assert str(obstacle) == "a login is needed: run ravectl login (there are no credentials yet)"


async def test_a_store_that_had_none_is_not_to_blame(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        made.store.failure = DOWN
        made.state.reachable(False)
        await made.account.adopt()
        assert made.account.obstacle
        assert made.account.obstacle.code is Code.LOGIN_NEEDED


async def test_a_damaged_file_is_kept_and_that_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with site(tmp_path, OURS, "{bad") as made:
        (kept,) = made.kept_aside()
        (line,) = lines(caplog)
        assert line.startswith(f"{made.path} can't be used: ")
        assert line.endswith(f"; it is kept as {kept}, and written anew from the store")


async def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    async with site(tmp_path, file="{bad") as made:
        obstacle = made.account.obstacle
        assert obstacle
        assert obstacle.code is Code.LOGIN_NEEDED
        assert str(obstacle).startswith(f"a login is needed: run ravectl login ({made.path} can't be used: ")


@pytest.mark.parametrize(("known", "what"), [({"auth_token": ""}, "token"), ({"user_id": None}, "user id")])
@pytest.mark.parametrize("where", ["store", "file"])
async def test_credentials_that_are_not_enough(known: dict[str, Any], what: str, where: str, tmp_path: Path) -> None:
    half = credentials(**known)
    async with site(tmp_path, **{"stored" if where == "store" else "file": half}) as made:
        obstacle = made.account.obstacle
        assert obstacle
        assert obstacle.code is Code.LOGIN_NEEDED
        assert str(obstacle) == f"a login is needed: run ravectl login (the credentials have no {what})"
        # Address and device are worth keeping.
        assert plain(made.store.contents.credentials) == half == plain(read_credentials(made.path))


UNUSABLE = "document bot_credentials of credentials can't be used: email must be a text"


@pytest.mark.parametrize("file", [None, OURS, "{bad"])
async def test_credentials_in_the_store_that_make_no_sense(file: Credentials | str | None, tmp_path: Path) -> None:
    made = Site(tmp_path)
    made.store.contents = Contents(unusable=UNUSABLE)
    if isinstance(file, str):
        made.path.write_text(file)
    elif file:
        write_credentials(made.path, file)
    await made.state.start()
    await made.account.adopt()
    assert made.store.contents == Contents(unusable=UNUSABLE), "a login alone takes their place"
    obstacle = made.account.obstacle
    if file is OURS:
        assert made.account.session == OURS.session
    else:
        assert obstacle
        assert obstacle.code is Code.LOGIN_NEEDED
        assert UNUSABLE in str(obstacle)
        assert (f"{made.path} can't be used" in str(obstacle)) == (file is not None)
    await made.login()
    assert made.account.obstacle is None
    assert made.state.unusable == ""
    assert made.state.credentials == made.store.contents.credentials
    await made.account.close()
    await made.state.close()


@pytest.mark.parametrize(("file", "why"), [(None, "does not exist"), ("{bad", "can't be used")])
async def test_a_store_that_is_away_may_have_them(file: str | None, why: str, tmp_path: Path) -> None:
    made = Site(tmp_path)
    if file:
        made.path.write_text(file)
    made.store.failure = DOWN
    made.store.contents = Contents(credentials=OURS)
    await made.state.start()
    await made.account.adopt()
    obstacle = made.account.obstacle
    assert obstacle
    assert obstacle.code is Code.STORE
    assert obstacle.message.startswith("there are no credentials: the server does not answer; ")
    assert why in obstacle.message
    made.store.failure = None
    await until(lambda: made.account.session == OURS.session)
    assert made.account.obstacle is None
    assert plain(read_credentials(made.path)) == OURS
    await made.state.close()


async def test_the_file_fills_a_store_that_comes_late(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = Site(tmp_path)
    write_credentials(made.path, OURS)
    made.store.failure = DOWN
    await made.state.start()
    await made.account.adopt()
    assert made.account.session == OURS.session
    assert made.store.contents.credentials is None
    made.store.failure = None
    await until(lambda: lines(caplog))
    assert plain(made.store.contents.credentials) == OURS
    assert made.changes == 1
    assert lines(caplog) == [f"The store has loaded the credentials from {made.path}"]
    await made.state.close()


async def test_a_store_that_fails_while_it_is_filled_is_filled_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(tmp_path) as made:
        write_credentials(made.path, OURS)
        made.store.failure = DOWN
        await made.account.adopt()
        assert made.account.session == OURS.session
        assert made.store.contents.credentials is None
        assert [line.partition(": ")[0] for line in lines(caplog)] == [
            f"The credentials of {made.path} are not in the store yet"
        ]
        made.store.failure = None
        await until(lambda: made.store.contents.credentials)
        assert plain(made.store.contents.credentials) == OURS


async def test_a_store_that_comes_late_wins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = Site(tmp_path)
    write_credentials(made.path, OTHERS)
    made.store.contents = Contents(credentials=OURS)
    made.store.failure = DOWN
    await made.state.start()
    await made.account.adopt()
    assert made.account.session == OTHERS.session
    made.store.failure = None
    await until(lambda: made.account.session == OURS.session)
    assert made.changes == 2
    assert plain(read_credentials(made.path)) == OURS
    assert lines(caplog) == [f"{made.path} differs from the store, which wins: the file is written anew"]
    await made.state.close()


async def test_the_file_is_written_only_when_it_differs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with site(tmp_path, OURS, OURS) as made:
        before = made.path.stat()
        await made.account.adopt()
        assert made.path.stat() == before
        assert lines(caplog) == []
        made.path.unlink()
        await made.account.adopt()
        assert plain(read_credentials(made.path)) == OURS
        assert made.path.stat().st_mode & 0o777 == 0o600
        assert lines(caplog) == []


@pytest.mark.parametrize("stored", [None, OURS])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
async def test_a_file_that_is_open_to_others_is_closed(
    mode: int, stored: Credentials | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "credentials.json"
    write_credentials(path, OURS)
    path.chmod(mode)
    made = Site(tmp_path)
    made.store.contents = Contents(credentials=stored)
    await made.state.start()
    await made.account.adopt()
    assert path.stat().st_mode & 0o777 == 0o600
    assert plain(read_credentials(path)) == OURS == plain(made.store.contents.credentials)
    assert lines(caplog) == [f"{path} was open to others than its owner: it is written anew"]
    await made.state.close()


@pytest.mark.parametrize("file", [None, "{bad"])
async def test_a_copy_that_cannot_be_written_is_no_obstacle(
    file: str | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.rename", full)
    monkeypatch.setattr("pathlib.Path.rename", full)
    monkeypatch.setattr("pathlib.Path.replace", full)
    monkeypatch.setattr("os.replace", full)

    async with site(tmp_path, OURS, file) as made:
        assert made.account.session == OURS.session
        assert lines(caplog)
        assert {line.partition(":")[0] for line in lines(caplog)} == {
            "The copy of the credentials could not be renewed"
        }
        assert "No space left on device" in lines(caplog)[0]
        if file:
            assert made.path.read_text() == file  # never overwritten


async def test_without_an_identity_there_is_no_session(tmp_path: Path) -> None:
    async with site(tmp_path, OURS, request_hash_key="") as made:
        assert made.account.session is None
        assert made.account.obstacle
        assert made.account.obstacle.code is Code.CONFIG
        assert "client_identity lacks request_hash_key (" in str(made.account.obstacle)
        assert plain(read_credentials(made.path)) == OURS  # the file follows nevertheless


async def test_without_what_a_login_takes_it_is_not_sent_for(tmp_path: Path) -> None:
    async with site(tmp_path, mojo_api_key="") as made:
        assert made.account.obstacle
        assert made.account.obstacle.code is Code.LOGIN_NEEDED
        said = str(made.account.obstacle)
        assert "a login is needed, for which client_identity lacks mojo_api_key (" in said
        assert "run ravectl login" not in said
        assert "there are no credentials yet" in said
        assert made.account.identity_missing == ["mojo_api_key"]
