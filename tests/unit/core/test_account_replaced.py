"""Credentials that are offered, replaced or forgotten, and what becomes of the file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ravesvc.core.account import OfferResult
from ravesvc.errors import Code, RaveError
from ravesvc.store.credentials_file import read_credentials, write_credentials
from ravesvc.store.model import Contents, Credentials
from tests.unit.core.account_site import (
    ELSE,
    OTHERS,
    OURS,
    Run,
    Site,
    failure,
    lines,
    plain,
    site,
)
from tests.unit.fake_store import DOWN, admin, credentials


@pytest.mark.parametrize(
    ("stored", "file", "answer", "after"),
    [
        (None, None, OfferResult.TAKEN, OURS),
        (None, "{bad", OfferResult.TAKEN, OURS),
        (None, ELSE, OfferResult.OTHER, ELSE),
        (None, OURS, OfferResult.SAME, OURS),
        (OURS, None, OfferResult.SAME, OURS),
        (ELSE, None, OfferResult.OTHER, ELSE),
        (credentials("BOT@example.test", auth_token="newer"), None, OfferResult.SAME, "newer"),
        (credentials("moved@example.test", auth_token="newer"), None, OfferResult.SAME, "newer"),
        (credentials("moved@example.test", user_id=None), None, OfferResult.OTHER, ""),
    ],
)
def test_an_account_that_is_there_stays(
    stored: Credentials | None,
    file: Credentials | str | None,
    answer: OfferResult,
    after: Credentials | str,
    run: Run,
    tmp_path: Path,
) -> None:
    async def body() -> None:
        async with site(tmp_path) as made:
            if isinstance(file, str):
                made.path.write_text(file)
            elif file:
                # It is laid there while the service runs.
                write_credentials(made.path, file)
            if stored:
                await made.state.save_credentials(stored)
            before = plain(made.store.contents.credentials)
            assert await made.account.offer(OURS) is answer
            found = plain(made.store.contents.credentials)
            if isinstance(after, Credentials):
                assert found == after
            else:
                assert found == before
                assert found
                assert found.auth_token == after or not after
            assert plain(read_credentials(made.path)) == found
            session = made.account.session
            assert session == (found and found.session)
            # Once more.
            again = OfferResult.SAME if answer is OfferResult.TAKEN else answer
            assert await made.account.offer(OURS) is again
            assert plain(made.store.contents.credentials) == found

    run(body())


async def test_a_session_that_could_not_be_used_is_new_at_the_next_look(tmp_path: Path) -> None:
    made = Site(tmp_path)
    write_credentials(made.path, OURS)
    unusable = RaveError(Code.BAD_FILE, "no request can be made")

    def fail() -> None:
        raise unusable

    made.account._changed, changed = fail, made.account._changed
    for _ in range(2):
        assert await failure(made.account.adopt()) is unusable
        assert (made.account.session, made.account.obstacle) == (None, None)
    made.account._changed = changed
    await made.account.adopt()
    assert made.used == [OURS.device_id]
    await made.state.close()


async def test_an_account_of_which_no_sense_can_be_made_stays_too(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        made.store.contents = Contents(unusable="email must be a text")
        await made.state.refresh()
        assert await made.account.offer(OURS) is OfferResult.OTHER
        assert made.store.contents == Contents(unusable="email must be a text")


async def test_an_offer_needs_the_store(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        made.store.failure = DOWN
        assert (await failure(made.account.offer(OURS))).code is Code.STORE
        assert not made.path.exists()
        made.store.failure = None


@pytest.mark.parametrize("stored", [None, OURS])
@pytest.mark.parametrize("file", [None, OURS, "{bad"])
async def test_when_everything_is_replaced_the_file_does_not_bring_the_account_back(
    stored: Credentials | None, file: Credentials | str | None, tmp_path: Path
) -> None:
    new = Contents(admins=(admin(5),))

    async with site(tmp_path, stored, file) as made:
        content = made.path.read_text() if made.path.exists() else None
        await made.account.replace(new)
        assert made.store.contents == made.state.contents == new
        assert made.account.session is None
        assert made.account.obstacle
        assert made.account.obstacle.code is Code.LOGIN_NEEDED
        assert not made.path.exists()
        assert [each.read_text() for each in made.kept_aside("replaced")] == ([content] if content else [])
    async with site(tmp_path, None) as again:
        assert again.account.session is None, "it stays like that"


@pytest.mark.parametrize("stored", [None, OURS])
@pytest.mark.parametrize("file", [None, OURS, "{bad"])
async def test_an_account_that_is_forgotten_stays_so(
    stored: Credentials | None, file: Credentials | str | None, tmp_path: Path
) -> None:
    async with site(tmp_path, stored) as made:
        if isinstance(file, str):
            made.path.write_text(file)
        elif file:
            # It is laid there while the service runs.
            write_credentials(made.path, file)
        made.store.contents = dataclasses.replace(made.store.contents, admins=(admin(5),))
        await made.state.refresh()
        assert await made.account.forget() is bool(stored or file == OURS)
        assert made.store.contents == made.state.contents == Contents(admins=(admin(5),))
        assert made.account.session is None
        assert made.account.obstacle
        assert made.account.obstacle.code is Code.LOGIN_NEEDED
        assert not made.path.exists()
        assert len(made.kept_aside("replaced")) == bool(stored or file)
        assert await made.account.forget() is False
    async with site(tmp_path) as again:
        assert again.account.session is None, "it stays like that"


async def test_a_login_that_is_under_way_does_not_bring_the_account_back(tmp_path: Path) -> None:
    async with site(tmp_path, OURS) as made:
        made.rave.sent.set()
        await made.account.login("")
        assert await made.account.forget() is True
        assert (await failure(made.account.login_ended())).code is Code.CANCELLED
        assert not made.state.has_account


async def test_an_account_that_can_not_be_forgotten_now(tmp_path: Path) -> None:
    async with site(tmp_path, OURS) as made:
        made.store.failure = DOWN
        assert (await failure(made.account.forget())).code is Code.STORE
        assert plain(read_credentials(made.path)) == OURS
        assert made.account.session == OURS.session


async def test_an_account_that_its_file_brings_back_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    async with site(tmp_path, OURS) as made:
        monkeypatch.setattr("ravesvc.core.account.set_aside", full)
        error = await failure(made.account.forget())
        assert error.code is Code.BAD_FILE
        assert (
            str(error) == f"{made.path} can't be set aside, and has filled the store again (remove it, and try again)"
        )
        assert made.account.session == OURS.session


async def test_an_account_that_is_imported_is_the_one_of_the_file_too(tmp_path: Path) -> None:
    async with site(tmp_path, OURS) as made:
        await made.account.replace(Contents(credentials=OTHERS))
        assert made.account.session == OTHERS.session
        assert plain(read_credentials(made.path)) == OTHERS
        assert made.kept_aside("replaced") == []


async def test_a_replacement_that_fails_leaves_the_file_alone(tmp_path: Path) -> None:
    async with site(tmp_path, OURS) as made:
        made.store.failure = DOWN
        assert (await failure(made.account.replace(Contents()))).code is Code.STORE
        assert plain(read_credentials(made.path)) == OURS
        assert made.account.session == OURS.session


async def test_a_file_that_cannot_be_set_aside_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    async with site(tmp_path, OURS) as made:
        monkeypatch.setattr("ravesvc.core.account.set_aside", full)
        await made.account.replace(Contents())
        assert made.account.session == OURS.session
        told = f"{made.path} fills the store again, because it can't be set aside: No space left on device"
        assert told in lines(caplog)
