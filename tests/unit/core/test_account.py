from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from ravesvc.api.login import LoginResult, Progress, Step
from ravesvc.config import rave_yaml
from ravesvc.core.account import Account, OfferResult
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.credentials_file import read_credentials, write_credentials
from ravesvc.store.model import Contents, Credentials
from tests.unit.conftest import until
from tests.unit.fake_store import DAMAGED, DOWN, FakeCopy, FakeRecord, FakeStore, admin, credentials

Run = Callable[[Coroutine[Any, Any, Any]], Any]

OURS = credentials()
OTHERS = credentials("other@example.test")
ELSE = credentials("else@example.test", user_id=900000002)
REFUSED = RaveError(Code.FORBIDDEN, "Rave refuses the login")


class Rave:
    """What a login talks to: it goes on when a test says so."""

    def __init__(self) -> None:
        self.sent, self.followed, self.signed_in = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.refusals: dict[Step, Exception] = {}
        self.asked: list[dict[str, Any]] = []
        self.email: str | None = None

    async def log_in(self, *, email: str, progress: Progress, **rest: Any) -> LoginResult:
        self.asked.append({"email": email, **rest})
        for step, done in (
            (Step.SENDING, self.sent),
            (Step.WAITING, self.followed),
            (Step.SIGNING_IN, self.signed_in),
        ):
            progress(step, 600.0)
            await done.wait()
            if step in self.refusals:
                raise self.refusals[step]
            progress(step, 590.5)  # once more, as it does at every look
        made = credentials(self.email or email)
        assert made.user_id
        return LoginResult(
            email=made.email,
            parse_id=made.parse_id,
            parse_token=made.parse_token,
            auth_token=made.auth_token,
            user_id=made.user_id,
        )

    def go_on(self) -> None:
        """Hinder nothing."""
        for each in (self.sent, self.followed, self.signed_in):
            each.set()


KEYS = ("request_hash_key", "mojo_api_key", "mojo_redirect_url", "parse_application_id")


class Site:
    """An account with its state, store and file."""

    def __init__(self, directory: Path, **options: str) -> None:
        self.path = directory / "credentials.json"
        self.store = FakeStore()
        self.rave = Rave()
        self.changes = 0
        self.used: list[str] = []  # the devices of the sessions so far
        self.progress: list[tuple[str, float]] = []
        self.ended: list[Code | None] = []
        self.now = 1000.0
        self.state = CachedStore(
            self.store,
            self._tell,
            lambda: None,
            copy=FakeCopy(),  # type: ignore[arg-type]
            record=FakeRecord(),
            retry_s=0.005,
        )
        identity = dict.fromkeys(KEYS, "the-key") | options
        settings, _ = rave_yaml.read(
            f"credentials_path: {self.path}\nclient_identity: {identity}\nlang: fr\n", "rave.yaml"
        )
        assert settings
        self.settings = settings
        self.account = Account(
            settings,
            self.state,
            self._changed,
            log_in=self.rave.log_in,
            progress=lambda step, seconds: self.progress.append((step, seconds)),
            ended=lambda error: self.ended.append(error and error.code),
            clock=lambda: self.now,
        )

    async def _tell(self, announcement: Announcement) -> None:
        if announcement is Announcement.CREDENTIALS:
            await self.account.adopt()

    def _changed(self) -> None:
        self.changes += 1
        if self.account.session:
            self.used.append(self.account.session.device_id)

    def kept_aside(self, why: str = "damaged") -> list[Path]:
        return [each for each in self.path.parent.iterdir() if each.name.startswith(f"credentials.json.{why}-")]

    async def login(self, email: str = "bot@example.test") -> None:
        """A whole login that succeeds."""
        self.rave.go_on()
        await self.account.login(email)
        await self.account.login_ended()


@contextlib.asynccontextmanager
async def site(
    directory: Path, stored: Credentials | None = None, file: Credentials | str | None = None, **options: str
) -> AsyncIterator[Site]:
    """A site that has started."""
    made = Site(directory, **options)
    made.store.contents = Contents(credentials=stored)
    if isinstance(file, str):
        made.path.write_text(file)
    elif file:
        write_credentials(made.path, file)
    try:
        await made.state.start()
        await made.account.adopt()
        yield made
    finally:
        made.store.gate.set()
        await made.account.close()
        await made.state.close()


async def failure(what: Awaitable[Any]) -> RaveError:
    with pytest.raises(RaveError) as raised:
        await what
    return raised.value


def lines(caplog: pytest.LogCaptureFixture, name: str = "account") -> list[str]:
    return [record.message for record in caplog.records if record.name == f"ravesvc.core.{name}"]


def plain(found: Credentials | None) -> Credentials | None:
    return found and dataclasses.replace(found, updated_at=None)


# -- Credentials that somebody offers.


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


# -- Where the credentials come from.


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
        assert str(obstacle) == "login needed: run ravectl login (there are no credentials yet)"


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
        assert str(obstacle).startswith(f"login needed: run ravectl login ({made.path} can't be used: ")


@pytest.mark.parametrize(("known", "what"), [({"auth_token": ""}, "token"), ({"user_id": None}, "user id")])
@pytest.mark.parametrize("where", ["store", "file"])
async def test_credentials_that_are_not_enough(known: dict[str, Any], what: str, where: str, tmp_path: Path) -> None:
    half = credentials(**known)
    async with site(tmp_path, **{"stored" if where == "store" else "file": half}) as made:
        obstacle = made.account.obstacle
        assert obstacle
        assert obstacle.code is Code.LOGIN_NEEDED
        assert str(obstacle) == f"login needed: run ravectl login (the credentials have no {what})"
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
        assert "login needed, for which client_identity lacks mojo_api_key (" in said
        assert "run ravectl login" not in said
        assert "there are no credentials yet" in said
        assert made.account.identity_missing == ["mojo_api_key"]


# -- Logging in.


async def test_a_login(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with site(tmp_path) as made:
        rave, account = made.rave, made.account
        assert (account.step, account.seconds_left) == ("", 0)
        login = asyncio.create_task(account.login("Bot@example.test"))
        await until(lambda: account.step == "sending")
        assert not login.done()
        rave.sent.set()
        assert await login == 600
        assert account.step == "waiting"
        made.now += 100.5
        assert account.seconds_left == 500
        ends = [asyncio.create_task(account.login_ended()) for _ in range(3)]
        rave.followed.set()
        await until(lambda: account.step == "signing-in")
        assert not any(end.done() for end in ends)
        rave.signed_in.set()
        await asyncio.gather(*ends)
        await account.login_ended()  # still told
        assert (account.step, account.seconds_left) == ("", 0)
        assert [step for step, _ in made.progress] == [
            "sending", "sending", "waiting", "waiting", "signing-in", "signing-in",
        ]  # fmt: skip
        assert made.ended == [None]

        (asked,) = rave.asked
        settings = made.settings
        assert asked["email"] == "Bot@example.test"
        assert (asked["servers"], asked["identity"]) == (settings.servers, settings.identity)
        assert (asked["tls"], asked["lang"]) == (settings.tls, "fr")
        saved = made.store.contents.credentials
        assert saved
        wanted = credentials("Bot@example.test", device_id=asked["device_id"], ssaid=asked["ssaid"])
        assert plain(saved) == wanted == plain(read_credentials(made.path))
        assert saved.updated_at
        assert account.session == wanted.session
        assert account.obstacle is None
        assert lines(caplog) == ["The mail of a login is sent", "A login has succeeded"]


async def test_the_file_follows_a_login_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with site(tmp_path, OURS, OURS) as made:
        for address in "other@example.test", "third@example.test":
            await made.login(address)
            made.now += 60
            found = read_credentials(made.path)
            assert found
            assert found.email == address
        assert lines(caplog) == []
        write_credentials(made.path, OTHERS)
        await made.account.adopt()
        assert lines(caplog) == [f"{made.path} differs from the store, which wins: the file is written anew"]


async def test_a_new_account_gets_a_new_device(tmp_path: Path) -> None:
    async with site(tmp_path, OURS) as made:
        await made.login("other@example.test")
        made.now += 60
        await made.login("third@example.test")
        first, second = made.rave.asked
        for key, length in (("device_id", 32), ("ssaid", 16)):
            assert len(bytes.fromhex(first[key])) * 2 == len(first[key]) == length
            assert len({first[key], second[key], OURS.device_id, OURS.ssaid}) == 4


@pytest.mark.parametrize("email", ["bot@example.test", "BOT@Example.Test", ""])
@pytest.mark.parametrize("where", ["store", "file"])
def test_the_same_account_keeps_its_device(email: str, where: str, run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with site(tmp_path, **{"stored" if where == "store" else "file": OURS}) as made:
            await made.login(email)
            (asked,) = made.rave.asked
            assert (asked["device_id"], asked["ssaid"]) == (OURS.device_id, OURS.ssaid)
            assert asked["email"] == (email or OURS.email)
            assert made.account.session
            assert made.account.session.device_id == OURS.device_id

    run(body())


async def test_the_address_that_was_confirmed_is_kept(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        made.rave.email = "real@example.test"
        await made.login("typed@example.test")
        assert made.store.contents.credentials
        assert made.store.contents.credentials.email == "real@example.test"


async def test_a_login_without_an_address(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        refused = await failure(made.account.login(""))
        assert refused.code is Code.LOGIN_NEEDED
        assert str(refused) == "no address is known (run ravectl login, and name it)"
        assert (await failure(made.account.login_ended())).code is Code.NOT_RUNNING


async def test_one_login_at_a_time(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        first = asyncio.create_task(made.account.login("bot@example.test"))
        for step in ("sending", "waiting", "signing-in"):
            await until(lambda step=step: made.account.step == step)
            assert (await failure(made.account.login("other@example.test"))).code is Code.BUSY
            getattr(made.rave, {"sending": "sent", "waiting": "followed", "signing-in": "signed_in"}[step]).set()
        await made.account.login_ended()
        await first
        assert len(made.rave.asked) == 1
        assert made.store.contents.credentials
        assert made.store.contents.credentials.email == "bot@example.test"


async def test_one_login_at_a_time_while_it_is_saved(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        made.rave.go_on()
        made.store.gate.clear()
        await made.account.login("bot@example.test")
        await until(lambda: made.store.held)
        made.now += 60
        assert (await failure(made.account.login("other@example.test"))).message == "a login is under way"
        made.account.cancel()  # too late
        made.store.gate.set()
        await made.account.login_ended()
        assert made.account.session
        assert made.ended == [None]


@pytest.mark.parametrize("step", list(Step))
async def test_a_login_is_cancelled(step: Step, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with site(tmp_path, OTHERS) as made:
        login = asyncio.create_task(made.account.login("bot@example.test"))
        if step is not Step.SENDING:
            made.rave.sent.set()
            await login
        if step is Step.SIGNING_IN:
            made.rave.followed.set()
        await until(lambda: made.account.step == step)
        end = asyncio.create_task(failure(made.account.login_ended()))
        await asyncio.sleep(0)
        made.account.cancel()
        assert (await end).code is Code.CANCELLED
        assert (await failure(made.account.login_ended())).code is Code.CANCELLED
        if step is Step.SENDING:
            assert (await failure(login)).code is Code.CANCELLED
        assert made.account.step == ""
        assert made.ended == [Code.CANCELLED]
        assert plain(made.store.contents.credentials) == OTHERS
        assert made.account.session == OTHERS.session
        assert lines(caplog)[-1] == "A login was cancelled"
        made.account.cancel()
        # The mail may have been sent.
        assert (await failure(made.account.login("bot@example.test"))).code is Code.BUSY
        made.now += 60
        await made.login()


async def test_the_login_after_one_that_was_saved_can_be_cancelled(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        await made.login()
        made.now += 60
        made.rave.followed.clear()
        await made.account.login("bot@example.test")
        made.account.cancel()
        assert (await failure(made.account.login_ended())).code is Code.CANCELLED


async def test_the_time_to_the_next_mail_counts_from_the_end_of_sending(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        login = asyncio.create_task(made.account.login("bot@example.test"))
        await until(lambda: made.account.step == "sending")
        made.now += 30
        made.rave.sent.set()
        await login
        made.account.cancel()
        await failure(made.account.login_ended())
        assert "try again in 60 s" in str(await failure(made.account.login("bot@example.test")))


async def test_a_login_is_cancelled_before_it_begins(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        made.account.cancel()  # there is none
        login = asyncio.create_task(made.account.login("bot@example.test"))
        asyncio.get_running_loop().call_soon(made.account.cancel)
        assert (await failure(login)).code is Code.CANCELLED
        assert made.ended == [Code.CANCELLED]
        assert made.rave.asked == []


async def test_who_asked_for_a_login_goes_away_but_the_login_goes_on(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        login = asyncio.create_task(made.account.login("bot@example.test"))
        await until(lambda: made.account.step == "sending")
        end = asyncio.create_task(made.account.login_ended())
        await asyncio.sleep(0)
        login.cancel()
        end.cancel()
        await asyncio.gather(login, end, return_exceptions=True)
        made.rave.go_on()
        await made.account.login_ended()
        assert made.account.session


@pytest.mark.parametrize("step", [*Step, "saving"])
async def test_closing_gives_a_login_up(step: str, tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        login = asyncio.create_task(made.account.login("bot@example.test"))
        if step != "sending":
            made.rave.sent.set()
        if step in ("signing-in", "saving"):
            made.rave.followed.set()
        if step == "saving":
            made.store.gate.clear()
            made.rave.signed_in.set()
            await until(lambda: made.store.held)
            asyncio.get_running_loop().call_later(0.01, made.store.gate.set)
        else:
            await until(lambda: made.account.step == step)
        await made.account.close()
        await asyncio.gather(login, return_exceptions=True)
        assert made.ended == [None if step == "saving" else Code.CANCELLED]
        # Either all of it or nothing.
        assert bool(made.store.contents.credentials) == bool(made.account.session) == (step == "saving")


@pytest.mark.parametrize("step", list(Step))
async def test_a_login_fails(step: Step, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with site(tmp_path, OTHERS) as made:
        made.rave.go_on()
        made.rave.refusals[step] = REFUSED
        if step is Step.SENDING:
            assert await failure(made.account.login("bot@example.test")) is REFUSED
        else:
            await made.account.login("bot@example.test")
        assert await failure(made.account.login_ended()) is REFUSED
        assert made.account.step == ""
        assert made.ended == [Code.FORBIDDEN]
        assert made.account.session == OTHERS.session
        assert lines(caplog)[-1] == "A login has failed: Rave refuses the login"
        made.rave.refusals.clear()
        # Also when it was the sending: a mail may be on its way all the same.
        refused = await failure(made.account.login("bot@example.test"))
        assert refused.code is Code.BUSY
        sent = "may have just" if step is Step.SENDING else "has just"
        assert str(refused) == f"a mail {sent} been sent (try again in 60 s)"
        made.now += 59.5
        assert "try again in 1 s" in str(await failure(made.account.login("bot@example.test")))
        made.now += 0.5
        await made.login()  # at once when there was no mail


async def test_a_bug_in_a_login_is_told_without_detail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with site(tmp_path) as made:
        made.rave.go_on()
        made.rave.refusals[Step.WAITING] = ZeroDivisionError("a secret")
        await made.account.login("bot@example.test")
        failed = await failure(made.account.login_ended())
        assert failed.code is Code.INTERNAL
        assert "secret" not in str(failed)
        assert made.ended == [Code.INTERNAL]
        assert [record.message for record in caplog.records if record.exc_info] == ["A login has failed"]


async def test_no_mail_for_a_login_that_could_not_be_saved(tmp_path: Path) -> None:
    made = Site(tmp_path)
    made.store.failure = DOWN
    await made.state.start()
    refused = await failure(made.account.login("bot@example.test"))
    assert refused.code is Code.STORE
    assert str(refused) == "a login could not be saved now: the server does not answer (start it)"
    assert made.rave.asked == made.ended == []
    await made.state.close()


@pytest.mark.parametrize("when", ["before it", "during it"])
async def test_a_login_that_cannot_be_saved_changes_nothing(
    when: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with site(tmp_path, OTHERS) as made:
        made.rave.sent.set()
        await made.account.login("bot@example.test")
        if when == "before it":
            made.state.reachable(False)
        made.store.failure = DOWN
        made.rave.go_on()
        failed = await failure(made.account.login_ended())
        assert failed.code is Code.STORE
        assert failed.message.startswith("the login has succeeded, but could not be saved: ")
        assert lines(caplog)[-1].startswith("A login has failed: the login has succeeded, but could not be saved")
        assert made.account.session == OTHERS.session
        assert plain(read_credentials(made.path)) == OTHERS
        made.store.failure = None
        await until(lambda: made.state.error is None)
        assert made.account.session == OTHERS.session


async def test_a_login_that_was_saved_without_an_answer_comes_to_light(tmp_path: Path) -> None:
    async with site(tmp_path, OURS) as made:
        made.store.unanswered = DOWN
        made.rave.go_on()
        await made.account.login("other@example.test")
        assert (await failure(made.account.login_ended())).code is Code.STORE
        assert made.account.session == OURS.session
        await until(lambda: made.account.session != OURS.session)
        assert made.account.session == made.state.credentials.session  # type: ignore[union-attr]
        assert plain(read_credentials(made.path)) == plain(made.state.credentials)


async def test_a_login_sets_a_damaged_file_aside(tmp_path: Path) -> None:
    async with site(tmp_path, file="{bad") as made:
        await made.login()
        assert [each.read_text() for each in made.kept_aside()] == ["{bad"]
        assert made.account.obstacle is None
        assert plain(read_credentials(made.path)) == plain(made.store.contents.credentials)


async def test_a_login_that_brings_the_same_again_renews_the_file(tmp_path: Path) -> None:
    async with site(tmp_path, OURS) as made:
        made.path.unlink()
        await made.login()
        assert plain(made.store.contents.credentials) == OURS == plain(read_credentials(made.path))


async def test_a_login_beats_the_file_that_was_about_to_fill_the_store(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        made.rave.go_on()
        made.store.gate.clear()
        await made.account.login("other@example.test")
        await until(lambda: made.store.held)
        write_credentials(made.path, OURS)
        adoption = asyncio.create_task(made.account.adopt())
        await asyncio.sleep(0)
        made.store.gate.set()
        await made.account.login_ended()
        await adoption
        assert made.store.contents.credentials
        assert made.store.contents.credentials.email == "other@example.test"
        assert made.account.session == made.store.contents.credentials.session
        assert OURS.device_id not in made.used


async def test_nothing_secret_is_said_by_a_login(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with site(tmp_path, OTHERS) as made:
        await made.login()
        made.now += 60
        made.store.unanswered = DOWN
        await made.account.login("third@example.test")
        said = [repr(await failure(made.account.login_ended())), repr(made.account), repr(made.progress)]
        await until(lambda: made.state.error is None)
        for text in (*said, caplog.text):
            for secret in ("example.test", "token-of", "device-of", "ssaid-of", "the-key"):
                assert secret not in text


NO_MAIL = [
    RaveError(Code.WRONG_ADDRESS, "no"),
    RaveError(Code.RATE_LIMITED, "no"),
    RaveError(Code.CONFIG, "no"),
    RaveError(Code.BAD_FILE, "no"),
    RaveError(Code.NETWORK, "Connection refused", unsent=True),
    RaveError(Code.TLS, "no certificate of ours", unsent=True),
]


@pytest.mark.parametrize("error", NO_MAIL)
async def test_what_sent_no_mail_can_be_tried_again_at_once(error: RaveError, tmp_path: Path) -> None:
    async with site(tmp_path, OTHERS) as made:
        made.rave.go_on()
        made.rave.refusals[Step.SENDING] = error
        assert await failure(made.account.login("bot@example.test")) is error
        made.rave.refusals.clear()
        assert await made.account.login("bot@example.test") >= 0
        await made.account.login_ended()


@pytest.mark.parametrize("error", NO_MAIL)
@pytest.mark.parametrize("step", [Step.WAITING, Step.SIGNING_IN])
async def test_a_later_failure_takes_no_mail_back(step: Step, error: RaveError, tmp_path: Path) -> None:
    async with site(tmp_path, OTHERS) as made:
        made.rave.go_on()
        made.rave.refusals[step] = error
        await made.account.login("bot@example.test")
        assert await failure(made.account.login_ended()) is error
        refused = await failure(made.account.login("bot@example.test"))
        assert str(refused) == "a mail has just been sent (try again in 60 s)"


@pytest.mark.parametrize("code", [Code.NETWORK, Code.TIMEOUT, Code.TLS, Code.SERVER_ERROR])
async def test_after_a_failure_on_the_way_a_mail_may_have_been_sent(code: Code, tmp_path: Path) -> None:
    async with site(tmp_path, OTHERS) as made:
        made.rave.go_on()
        made.rave.refusals[Step.SENDING] = RaveError(code, "no")
        await failure(made.account.login("bot@example.test"))
        refused = await failure(made.account.login("bot@example.test"))
        assert str(refused) == "a mail may have just been sent (try again in 60 s)"
