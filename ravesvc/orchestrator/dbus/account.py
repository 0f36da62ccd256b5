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
from ravesvc.orchestrator.dbus.polkit import AccessCheck
from ravesvc.store import credentials_file
from ravesvc.store.cached_store import CachedStore

log = logging.getLogger(__name__)


class AccountObject(Interface):
    """The account whose meshes the bots are in, at /org/ravesvc/Rave1 of org.ravesvc.Rave1.

    Every property changes with a signal.

    Properties:
        HasAccount: Whether the store holds credentials, as far as is known. They need not be good for anything.
        LoginNeeded: No mesh is joined until the next login.
        IdentityMissing: Keys of client_identity that a login, or all bots, can't do without, and that are not set:
            each with a colon and what it looks like.
        LoginStep: Of the login that is under way, as in LoginProgress; empty if there is none.

    Signals:
        LoginProgress: How far a login is (sending, waiting or signing-in), and how long the link in the mail can be
            followed.
        LoginFinished: A login is over: the code of what made it fail and its words, both empty if it has succeeded.
    """

    interface = names.ACCOUNT_INTERFACE
    properties: ClassVar = {"HasAccount": "b", "LoginNeeded": "b", "IdentityMissing": "as", "LoginStep": "s"}
    signals: ClassVar = {
        "LoginProgress": {"step": "s", "seconds": "u"},
        "LoginFinished": {"error": "s", "message": "s"},
    }

    def __init__(self, access: AccessCheck, account: Account, state: CachedStore) -> None:
        super().__init__(access)
        self._account = account
        self._state = state

    @method(takes={"email": "s"}, returns={"seconds": "u"}, action=PolkitAction.CREDENTIALS)
    async def login(self, call: Call, email: str) -> int:
        """Begin to log in, with the account's own address if it is empty.

        Returns when the mail is sent, with the time to follow the link in it; LoginProgress and LoginFinished tell
        the rest. There is one login at a time, and at most one mail a minute.

        Errors: Busy, Config, LoginNeeded (no address is known), StoreUnavailable, WrongAddress, and what Rave says.
        """
        return await self._account.login(email)

    @method(action=PolkitAction.CREDENTIALS)
    async def cancel_login(self, call: Call) -> None:
        """Give up the login that is under way, if there is one."""
        self._account.cancel()

    @method(returns={"removed": "b"}, action=PolkitAction.CREDENTIALS)
    async def logout(self, call: Call) -> bool:
        """Forget the account, and stop every mesh; false if there is none.

        The store forgets the account, its credentials file is set aside, and a login that is under way is given up.
        Rave is not told, so that another program goes on with the session.

        Errors: BadFile (the credentials file can't be set aside), StoreUnavailable.
        """
        removed = await self._account.forget()
        log.info("An operator has logged the account out")
        return removed

    @method(takes={"file": "h"}, returns={"answer": "s"}, action=PolkitAction.CREDENTIALS)
    async def import_credentials(self, call: Call, file: int) -> str:
        """Take the account of a credentials.json, unless there is one already: it stays.

        The answer is taken, same (the account is there, with this session or another) or other (another account is
        there, or something that makes no sense). The argument is a file as that of Import of Store, for the same
        reasons; at most 64 KiB.

        Errors: BadData, InvalidArgument (not such a file), StoreUnavailable.
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
