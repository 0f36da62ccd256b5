"""The bot's account: where its credentials come from, and how a login gets new ones.

If the store has credentials, they are used, and written to the file. Otherwise the credentials in the file are used,
and written to the store. If neither has any, a login is needed.

Scenario: the database is down when the service starts. The file is a copy of what the store held last, so the service
can begin with that. For this the file must follow every change of the store: after a login that was saved only in the
store, the next start without the store would use an old session. And when the store gives an account up, the file is
set aside in the same change; otherwise it would fill the store again.
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

# Seconds from one mail to the next, as each goes to a person who may not have asked for it.
MAIL_INTERVAL_S = 60.0
# Errors of a login that prove that no mail was sent. An error with the attribute `unsent` proves it, too.
_NO_MAIL = (Code.WRONG_ADDRESS, Code.RATE_LIMITED, Code.CONFIG, Code.BAD_FILE)


def nothing_starts(why: RaveError) -> str:
    """That no mesh is started, as log and status have it."""
    return f"No mesh is started{', because' if why.code is Code.LOGIN_NEEDED else ':'} {why}"


class OfferResult(StrEnum):
    """What has become of credentials that were offered, as by a migration."""

    TAKEN = "taken"
    SAME = "same"  # The account is there already, with these credentials or others.
    OTHER = "other"  # Another account is there, or what is there makes no sense.


class Account:
    """The account's session, and the login that is under way.

    Attributes:
        session: what requests to Rave need; None if there is none, or if the client identity is incomplete.
        obstacle: why there is no session: Config, LoginNeeded, StoreUnavailable (there may be one in the store).
        step: the value of the `Step` of the login that is under way; empty if there is none.
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
        """Prepare it; `adopt` reads the credentials.

        Args:
            settings: name the credentials file, the client identity and the servers.
            state: the store.
            changed: called when `session` or `obstacle` has changed.
            log_in: does a login.
            progress: called with each step of a login, and how many seconds it may take.
            ended: called with the error of a login that has ended, or None.
            clock: seconds of a monotonic clock.
        """
        self.session: Session | None = None
        self.obstacle: RaveError | None = None
        self.step = ""
        self.settings = settings
        self._state = state
        self._changed = changed
        self._log_in = log_in
        self._progress = progress
        self._ended = ended
        self._clock = clock
        self._credentials: Credentials | None = None
        self._in_file: Credentials | None = None  # what the file held when it was last read or written
        self._login: asyncio.Task[None] | None = None
        self._deadline = 0.0
        self._mailed = -math.inf
        self._mail_known = False  # whether the last mail was sent for certain
        self._saving = False

    @property
    def identity_missing(self) -> list[str]:
        """The keys of `client_identity` that a login lacks."""
        return identity.missing(self.settings.identity)

    def lacking(self) -> RaveError:
        """The error (Config) for the keys of `client_identity` that a login lacks."""
        hint = f"set what is missing in {self.settings.file} and {self.settings.advice.restart}"
        return identity.lacking(self.identity_missing, hint)

    @property
    def seconds_left(self) -> int:
        """For how many seconds the link in the mail of a login can still be followed; 0 without a login."""
        return max(0, math.ceil(self._deadline - self._clock())) if self.step else 0

    async def adopt(self) -> None:
        """Read store and file, write what one of them lacks, and set `session` and `obstacle`.

        What can't be read or written is told by `obstacle`, or logged.
        """
        stored, loaded = self._state.credentials, self._state.loaded
        found, damage = self._read_file()
        if stored:
            self._mirror(stored, found, damage)
        elif found and loaded:
            await self._fill(found)
            # Other credentials may have been stored while the file's were being saved.
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
                # Otherwise the next call would see no change, and the new session would never be used.
                self.session, self.obstacle = before
                raise

    async def replace(self, contents: Contents) -> None:
        """Replace everything in the store by `contents`; raises what `CachedStore.replace` raises."""

        def replaced() -> None:
            if not contents.credentials:
                # Otherwise the file would fill the store again with the account that was just removed.
                self._set_file_aside()

        await self._state.replace(contents, replaced)
        # Needed also if the store had no account before, as the file may have had one.
        await self.adopt()

    async def forget(self) -> bool:
        """Remove the account from the store, set its file aside, and cancel the login that is under way.

        Returns whether there was an account. Raises what `CachedStore.remove_credentials` raises, and `RaveError`
        (BadFile) if the file could not be set aside and has filled the store again.
        """
        self.cancel()
        # A file may have been put there since the last look, with an account that is to be removed, too.
        await self.adopt()
        removed = await self._state.remove_credentials(self._set_file_aside)
        await self.adopt()
        if self._state.has_account:
            path = self.settings.credentials_path
            text = f"{path} can't be set aside, and has filled the store again"
            raise RaveError(Code.BAD_FILE, text, hint="remove it, and try again", file=str(path))
        return removed

    async def offer(self, credentials: Credentials) -> OfferResult:
        """Store credentials unless store or file has some; raises what `CachedStore.fill_credentials` raises."""
        # A file may have been put there since the last look.
        await self.adopt()
        if await self._state.fill_credentials(credentials):
            return OfferResult.TAKEN
        stored = self._state.credentials
        return OfferResult.SAME if stored and _one_account(stored, credentials) else OfferResult.OTHER

    async def login(self, email: str) -> int:
        """Begin a login with the address `email`, or with the account's own if that is empty.

        Returns when the mail is sent, with the number of seconds in which its link must be followed. Raises
        `RaveError`: Busy, StoreUnavailable, Config (the client identity is incomplete), LoginNeeded (no address is
        known), Cancelled, and what `log_in` raises before the mail is sent.
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
        """Wait until the login that is under way, or else the last one, has succeeded; raises why it failed.

        Raises `RaveError` (NotRunning) if there was none.
        """
        login = self._login
        if login is None:
            raise RaveError(Code.NOT_RUNNING, "no login is under way")
        await asyncio.wait([login])
        if error := _failure(login):
            raise error

    def cancel(self) -> None:
        """Cancel the login that is under way, if there is one. A login that is being saved is completed."""
        if self._login and not self._saving:
            self._login.cancel()

    async def close(self) -> None:
        """Cancel the login, and wait until it has ended."""
        self.cancel()
        if self._login:
            await asyncio.wait([self._login])

    def _read_file(self) -> tuple[Credentials | None, RaveError | None]:
        """The credentials in the file, if there are any, and why the file can't be used, if so."""
        try:
            return read_credentials(self.settings.credentials_path), None
        except RaveError as e:
            return None, e

    def _mirror(self, stored: Credentials, found: Credentials | None, damage: RaveError | None) -> None:
        """Write the store's credentials to the file, unless it has them; a warning says what that replaces."""
        path = self.settings.credentials_path
        alike = found is not None and _same(found, stored)
        known, self._in_file = self._in_file, found
        try:
            if alike and is_private(path):
                return
            if alike:
                # An operator has put it there. It is replaced by a file of this process' own user.
                log.warning("%s was open to others than its owner: it is written anew", path)
            elif damage:
                kept = set_aside(path)
                log.warning("%s; it is kept as %s, and written anew from the store", damage.message, kept)
            elif found and found != known:
                # The file was edited. If it is as it was, only the store has changed, as by a login: no warning then.
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
            log.warning("The credentials of %s are not in the store yet: %s", self.settings.credentials_path, e)
            return
        if filled:
            log.info("The store has loaded the credentials from %s", self.settings.credentials_path)

    def _set_file_aside(self) -> None:
        path = self.settings.credentials_path
        try:
            log.info("%s is kept as %s: the store has no account now", path, set_aside(path, "replaced"))
        except FileNotFoundError:
            pass
        except OSError as e:
            log.warning("%s fills the store again, because it can't be set aside: %s", path, e.strerror)

    def _missing(self, damage: RaveError | None) -> RaveError | None:
        """Why there is no usable session; None if there is one."""
        if identity.missing_to_run(self.settings.identity):
            # Name all missing keys at once, also those that only a login needs.
            hint = self.settings.advice.identity_check
            return RaveError(Code.CONFIG, identity.summary(self.identity_missing), hint=hint)
        if self._credentials and self._credentials.session:
            return None
        path = self.settings.credentials_path
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
            message = f"a login is needed, for which {identity.summary(keys)}"
            return RaveError(Code.LOGIN_NEEDED, message, hint=f"{self.settings.advice.identity_check}; {why}")
        return RaveError(Code.LOGIN_NEEDED, f"a login is needed: {self.settings.advice.login}", hint=why)

    def _begin(self, email: str) -> Credentials:
        """The address and device for a new login; raises `RaveError` if none can be begun now."""
        if self._login and not self._login.done():
            raise RaveError(Code.BUSY, "a login is under way", hint="wait for its end, or cancel it")
        if error := self._state.error:
            raise RaveError(Code.STORE, f"a login could not be saved now: {error.message}", hint=error.hint)
        if self.identity_missing:
            raise self.lacking()
        known = self._credentials
        address = email or (known.email if known else "")
        if not address:
            hint = f"{self.settings.advice.login}, and name it"
            raise RaveError(Code.LOGIN_NEEDED, "no address is known", hint=hint)
        wait = self._mailed + MAIL_INTERVAL_S - self._clock()
        if wait > 0:
            sent = "a mail has just been sent" if self._mail_known else "a mail may have just been sent"
            raise RaveError(Code.BUSY, sent, hint=f"try again in {math.ceil(wait)} s")
        if known and known.email.lower() == address.lower():
            return Credentials(email=address, device_id=known.device_id, ssaid=known.ssaid)
        return Credentials(email=address, device_id=secrets.token_hex(16), ssaid=secrets.token_hex(8))

    async def _run(self, credentials: Credentials, mail: asyncio.Future[None]) -> None:
        """Do a login, from the mail until it is saved in the store. `mail` is resolved when the mail is sent."""
        settings = self.settings

        def progress(step: Step, seconds: float) -> None:
            if step is Step.WAITING and not mail.done():
                log.info("The mail of a login is sent")
                self._mailed, self._mail_known = self._clock(), True
                mail.set_result(None)
            self._show(step, seconds)

        # Set before the request: if the login is cancelled, its mail may have been sent or not.
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
    """Why a login that has ended failed; None if it has succeeded."""
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
