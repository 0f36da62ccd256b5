"""The bot's account: where its credentials come from, and how a login gets new ones.

The store wins when it has credentials; else the file fills the store; else a login is needed. The file follows the
store, so that the service can start without it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum

from ravesvc.api import login as magic_link
from ravesvc.api.login import LoginResult, Step
from ravesvc.common.atomic_files import set_aside
from ravesvc.config import identity
from ravesvc.config.options import Config
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.credentials_file import is_private, read_credentials, write_credentials
from ravesvc.store.model import Contents, Credentials

log = logging.getLogger(__name__)

# Seconds from one mail to the next: each goes to somebody who may not have asked for it.
MAIL_INTERVAL_S = 60.0
# Failures of the sending that prove that none was sent, as do those of a request that was never made.
_NO_MAIL = (Code.WRONG_ADDRESS, Code.RATE_LIMITED, Code.CONFIG, Code.BAD_FILE)


class OfferResult(StrEnum):
    """What becomes of credentials that somebody offers."""

    TAKEN = "taken"
    SAME = "same"  # The account is there already, with these credentials or others.
    OTHER = "other"  # Another account is there, or what is there makes no sense.


class Account:
    """The account's session, and the login that is under way.

    Attributes:
        session: what requests need; None when there is none, or nothing to sign them with.
        obstacle: why there is no session: Config, LoginNeeded, StoreUnavailable (there may be one in the store).
        step: of the login that is under way, a `Step`; empty when there is none.
    """

    def __init__(
        self,
        settings: Config,
        state: CachedStore,
        changed: Callable[[], None],
        *,
        log_in: Callable[..., Awaitable[LoginResult]] = magic_link.log_in,
        progress: Callable[[str, float], None] = lambda _step, _seconds: None,
        ended: Callable[[RaveError | None], None] = lambda _error: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`changed` tells of session and obstacle, `progress` and `ended` of a login."""
        self.session: Session | None = None
        self.obstacle: RaveError | None = None
        self.step = ""
        self._settings = settings
        self._state = state
        self._changed = changed
        self._log_in = log_in
        self._progress = progress
        self._ended = ended
        self._clock = clock
        self._credentials: Credentials | None = None
        self._in_file: Credentials | None = None  # when it was last read or written
        self._login: asyncio.Task[None] | None = None
        self._deadline = 0.0
        self._mailed = -math.inf
        self._mail_known = False  # whether the last one was sent for certain
        self._saving = False

    @property
    def identity_missing(self) -> list[str]:
        """The keys of `client_identity` that a login lacks."""
        return identity.missing(self._settings.identity)

    def lacking(self) -> RaveError:
        """The error (Config) for the keys of `client_identity` that a login lacks."""
        hint = f"set what is missing in {self._settings.file} and {self._settings.advice.restart}"
        return identity.lacking(self.identity_missing, hint)

    @property
    def seconds_left(self) -> int:
        """How long the link of a login's mail can still be followed."""
        return max(0, math.ceil(self._deadline - self._clock())) if self.step else 0

    async def adopt(self) -> None:
        """Take over what store and file hold now; what can't be read or written is noted or logged."""
        stored, loaded = self._state.credentials, self._state.loaded
        found, damage = self._read_file()
        if stored:
            self._mirror(stored, found, damage)
        elif found and loaded:
            await self._fill(found)
            # Saving may have taken its time.
            stored = self._state.credentials
        self._credentials = stored or found
        obstacle = self._missing(damage)
        session = self._credentials.session if self._credentials and not obstacle else None
        before = self.session, self.obstacle
        if (session, str(obstacle)) != (before[0], str(before[1])):
            self.session, self.obstacle = session, obstacle
            try:
                self._changed()
            except BaseException:
                # Or the next look would find nothing new in it, and the session would never be used.
                self.session, self.obstacle = before
                raise

    async def replace(self, contents: Contents) -> None:
        """Put `contents` in the place of everything in the store; raises as `CachedStore` says of a change."""

        def replaced() -> None:
            if not contents.credentials:
                # It would fill the store at once with what has just been taken out of it.
                self._set_file_aside()

        await self._state.replace(contents, replaced)
        # Also when the store had none before: the file may have had some.
        await self.adopt()

    async def forget(self) -> bool:
        """Have no account any more, and give up the login that is under way; False if there was none.

        Raises as `CachedStore` says of a change, and `RaveError` (BadFile) if the file brings the account back.
        """
        self.cancel()
        # Somebody may have laid a file there that is to fill the store.
        await self.adopt()
        removed = await self._state.remove_credentials(self._set_file_aside)
        await self.adopt()
        if self._state.has_account:
            path = self._settings.credentials_path
            text = f"{path} can't be set aside, and has filled the store again"
            raise RaveError(Code.BAD_FILE, text, hint="remove it, and try again", file=str(path))
        return removed

    async def offer(self, credentials: Credentials) -> OfferResult:
        """Take credentials if neither store nor file has any yet; raises as `CachedStore` says."""
        # The file may have come since it was last looked at.
        await self.adopt()
        if await self._state.fill_credentials(credentials):
            return OfferResult.TAKEN
        stored = self._state.credentials
        return OfferResult.SAME if stored and _one_account(stored, credentials) else OfferResult.OTHER

    async def login(self, email: str) -> int:
        """Begin to log in, with the account's own address if `email` is empty; returns when the mail is sent.

        The number is how many seconds there are to follow its link. Raises `RaveError`: Busy, StoreUnavailable,
        Config (the identity is incomplete), LoginNeeded (no address is known), Cancelled, and what `log_in` raises
        before the mail is sent.
        """
        credentials = self._begin(email)
        mail: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        login = asyncio.create_task(self._run(credentials, mail))
        login.add_done_callback(self._login_ended)
        self._login = login
        await asyncio.wait([login, mail], return_when=asyncio.FIRST_COMPLETED)
        if not mail.done() and (error := _failure(login)):
            raise error
        return self.seconds_left

    async def login_ended(self) -> None:
        """Wait until the login that is under way, or was the last one, has succeeded; raises what made it fail."""
        login = self._login
        if login is None:
            raise RaveError(Code.NOT_RUNNING, "no login is under way")
        await asyncio.wait([login])
        if error := _failure(login):
            raise error

    def cancel(self) -> None:
        """Give the login up that is under way, if there is one; too late once it is being saved."""
        if self._login and not self._saving:
            self._login.cancel()

    async def close(self) -> None:
        """Give the login up, and wait for its end."""
        self.cancel()
        if self._login:
            await asyncio.wait([self._login])

    def _read_file(self) -> tuple[Credentials | None, RaveError | None]:
        """What the file holds, or why it can't be used."""
        try:
            return read_credentials(self._settings.credentials_path), None
        except RaveError as e:
            return None, e

    def _mirror(self, stored: Credentials, found: Credentials | None, damage: RaveError | None) -> None:
        """Have the file hold what the store does."""
        path = self._settings.credentials_path
        alike = found is not None and _same(found, stored)
        known, self._in_file = self._in_file, found
        try:
            if alike and is_private(path):
                return
            if alike:
                # It was laid there by hand. Another file in its place is ours, whoever that one belonged to.
                log.warning("%s was open to others than its owner: it is written anew", path)
            elif damage:
                kept = set_aside(path)
                log.warning("%s; it is kept as %s, and written anew from the store", damage.message, kept)
            elif found and found != known:
                # As the file of before a login never does: that one has changed the store alone.
                log.warning("%s differs from the store, which wins: the file is written anew", path)
            write_credentials(path, stored)
            self._in_file = dataclasses.replace(stored, updated_at=None)
        except RaveError as e:
            log.warning("The copy of the credentials could not be renewed: %s", e)
        except OSError as e:
            log.warning("The copy of the credentials could not be renewed: %s: %s", path, e.strerror)

    async def _fill(self, found: Credentials) -> None:
        try:
            filled = await self._state.fill_credentials(found)
        except RaveError as e:
            log.warning("The credentials of %s are not in the store yet: %s", self._settings.credentials_path, e)
            return
        if filled:
            log.info("The store has got the credentials of %s", self._settings.credentials_path)

    def _set_file_aside(self) -> None:
        path = self._settings.credentials_path
        try:
            log.info("%s is kept as %s: the store has no account now", path, set_aside(path, "replaced"))
        except FileNotFoundError:
            pass
        except OSError as e:
            log.warning("%s fills the store again, because it can't be set aside: %s", path, e.strerror)

    def _missing(self, damage: RaveError | None) -> RaveError | None:
        """Why there is no session to work with."""
        if identity.missing_to_run(self._settings.identity):
            # All that will have to be supplied, not one key after the other.
            hint = self._settings.advice.identity_check
            return RaveError(Code.CONFIG, identity.summary(self.identity_missing), hint=hint)
        if self._credentials and self._credentials.session:
            return None
        path = self._settings.credentials_path
        if self._credentials:
            missing = "user id" if self._credentials.auth_token else "token"
            return self._login_needed(f"the credentials have no {missing}")
        error = self._state.error
        if error and not self._state.loaded:
            why = damage.message if damage else f"{path} does not exist"
            return RaveError(Code.STORE, f"there are no credentials: {error.message}; {why}", hint=error.hint)
        reasons = [self._state.unusable] if self._state.unusable else []
        reasons += [f"{damage.message}; {damage.hint}"] if damage else []
        return self._login_needed("; ".join(reasons) or "there are no credentials yet")

    def _login_needed(self, why: str) -> RaveError:
        if keys := self.identity_missing:
            message = f"login needed, for which {identity.summary(keys)}"
            return RaveError(Code.LOGIN_NEEDED, message, hint=f"{self._settings.advice.identity_check}; {why}")
        return RaveError(Code.LOGIN_NEEDED, f"login needed: {self._settings.advice.login}", hint=why)

    def _begin(self, email: str) -> Credentials:
        """What a login begins with: address and device; raises `RaveError` if there can't be a login now."""
        if self._login and not self._login.done():
            raise RaveError(Code.BUSY, "a login is under way", hint="wait for its end, or cancel it")
        if error := self._state.error:
            raise RaveError(Code.STORE, f"a login could not be saved now: {error.message}", hint=error.hint)
        if self.identity_missing:
            raise self.lacking()
        known = self._credentials
        address = email or (known.email if known else "")
        if not address:
            hint = f"{self._settings.advice.login}, and name it"
            raise RaveError(Code.LOGIN_NEEDED, "no address is known", hint=hint)
        wait = self._mailed + MAIL_INTERVAL_S - self._clock()
        if wait > 0:
            sent = "a mail has just been sent" if self._mail_known else "a mail may have just been sent"
            raise RaveError(Code.BUSY, sent, hint=f"try again in {math.ceil(wait)} s")
        if known and known.email.lower() == address.lower():
            return Credentials(email=address, device_id=known.device_id, ssaid=known.ssaid)
        return Credentials(email=address, device_id=secrets.token_hex(16), ssaid=secrets.token_hex(8))

    async def _run(self, credentials: Credentials, mail: asyncio.Future[None]) -> None:
        """The login, from the mail to the store. `mail` is done as soon as it is sent."""
        settings = self._settings

        def progress(step: Step, seconds: float) -> None:
            if step is Step.WAITING and not mail.done():
                log.info("The mail of a login is sent")
                self._mailed, self._mail_known = self._clock(), True
                mail.set_result(None)
            self._show(step, seconds)

        # From here on, because nobody knows how far one that is cancelled has come.
        self._mailed, self._mail_known = self._clock(), False
        try:
            login = await self._log_in(
                email=credentials.email,
                device_id=credentials.device_id,
                ssaid=credentials.ssaid,
                servers=settings.servers,
                identity=settings.identity,
                tls=settings.tls,
                proxy=settings.proxy,
                lang=settings.lang,
                progress=progress,
            )
        except RaveError as e:
            if not mail.done() and (e.code in _NO_MAIL or "unsent" in e.attributes):
                self._mailed = -math.inf
            raise
        self._saving = True
        try:
            await self._save(
                dataclasses.replace(
                    credentials,
                    email=login.email,
                    parse_id=login.parse_id,
                    parse_token=login.parse_token,
                    auth_token=login.auth_token,
                    user_id=login.user_id,
                )
            )
        finally:
            self._saving = False

    async def _save(self, credentials: Credentials) -> None:
        try:
            await self._state.save_credentials(credentials)
        except RaveError as e:
            raise RaveError(
                e.code, f"the login has succeeded, but could not be saved: {e.message}", hint="log in again later"
            ) from e
        await self.adopt()

    def _show(self, step: Step, seconds: float) -> None:
        self.step = step.value
        self._deadline = self._clock() + seconds
        self._progress(self.step, seconds)

    def _login_ended(self, login: asyncio.Task[None]) -> None:
        error = _failure(login)
        self.step = ""
        if error is None:
            log.info("A login has succeeded")
        elif error.code is Code.CANCELLED:
            log.info("A login was cancelled")
        elif error.code is Code.INTERNAL:
            log.error("A login has failed", exc_info=login.exception())
        else:
            log.warning("A login has failed: %s", error)
        self._ended(error)


def _failure(login: asyncio.Task[None]) -> RaveError | None:
    """Why a login that has ended did so, or None if it has succeeded."""
    if login.cancelled():
        return RaveError(Code.CANCELLED, "the login was cancelled")
    error = login.exception()
    if error is None or isinstance(error, RaveError):
        return error
    return RaveError(Code.INTERNAL, "the login failed by a fault of this program", hint="the log says more")


def _one_account(one: Credentials, other: Credentials) -> bool:
    same_user = one.user_id is not None and one.user_id == other.user_id
    return same_user or one.email.lower() == other.email.lower()


def _same(one: Credentials, other: Credentials) -> bool:
    return dataclasses.replace(one, updated_at=None) == dataclasses.replace(other, updated_at=None)
