"""An account with its store and file, and a Rave to which it logs in when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from ravesvc.api.login import LoginResult, Progress, Step
from ravesvc.config import rave_yaml
from ravesvc.core.account import Account
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.credentials_file import write_credentials
from ravesvc.store.model import Contents, Credentials
from tests.unit.fake_store import FakeCopy, FakeRecord, FakeStore, credentials

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
