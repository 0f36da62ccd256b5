"""The account of the bots on the bus, beside the manager: login, logout, and how far a login is."""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar

from ravesvc import names
from ravesvc.bus import Call, Interface, method
from ravesvc.config.identity import usual_shape
from ravesvc.core.account import Account
from ravesvc.errors import RaveError
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus.polkit import Authority
from ravesvc.store import credentials_file
from ravesvc.store.cached_store import CachedStore

log = logging.getLogger(__name__)


class AccountObject(Interface):
    """The account whose meshes the bots are in."""

    interface = names.ACCOUNT_INTERFACE
    properties: ClassVar = {"HasAccount": "b", "LoginNeeded": "b", "IdentityMissing": "as", "LoginStep": "s"}
    signals: ClassVar = {
        "LoginProgress": {"step": "s", "seconds": "u"},
        "LoginFinished": {"error": "s", "message": "s"},
    }

    def __init__(self, authority: Authority, account: Account, state: CachedStore) -> None:
        super().__init__(authority)
        self._account = account
        self._state = state

    @method(takes={"email": "s"}, returns={"seconds": "u"}, action=PolkitAction.CREDENTIALS)
    async def login(self, call: Call, email: str) -> int:
        """Begin to log in; returns when the mail is sent, with the time to follow its link.

        An empty `email` means the account's own. LoginProgress and LoginFinished tell the rest. Errors: Busy, Config,
        LoginNeeded, StoreUnavailable, WrongAddress, and what Rave says.
        """
        return await self._account.login(email)

    @method(action=PolkitAction.CREDENTIALS)
    async def cancel_login(self, call: Call) -> None:
        """Give up the login that is under way, if there is one."""
        self._account.cancel()

    @method(returns={"removed": "b"}, action=PolkitAction.CREDENTIALS)
    async def logout(self, call: Call) -> bool:
        """Forget the account, and stop every mesh; false if there was none. Errors: BadFile, StoreUnavailable."""
        removed = await self._account.forget()
        log.info("An operator has logged the account out")
        return removed

    @method(takes={"file": "h"}, returns={"answer": "s"}, action=PolkitAction.CREDENTIALS)
    async def import_credentials(self, call: Call, file: int) -> str:
        """Take the account of a credentials file if there is none yet: taken, else same or other, which stays.

        Errors: BadData, InvalidArgument, StoreUnavailable.
        """
        answer = await self._account.offer(await asyncio.to_thread(credentials_file.read_handed, file))
        log.info("An operator has offered an account: %s", answer)
        return answer.value

    def show(self, *, login_needed: bool) -> None:
        """Update the properties."""
        self.set(
            HasAccount=self._state.has_account,
            LoginNeeded=login_needed,
            IdentityMissing=[f"{key}: {usual_shape(key)}" for key in self._account.identity_missing],
            LoginStep=self._account.step,
        )

    def login_progress(self, step: str, seconds: float) -> None:
        """Announce how far a login is, and for how long its link can still be followed."""
        self.emit("LoginProgress", step, max(0, round(seconds)))

    def login_finished(self, error: RaveError | None) -> None:
        """Announce the end of a login, and why it has failed."""
        self.emit("LoginFinished", error.code.value if error else "", str(error or ""))
