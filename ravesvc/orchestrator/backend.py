"""What the children ask of the parent: admins, permissions and session, and changes on behalf of chat users.

A caller counts as a child when its process belongs to the unit of a mesh. It runs the commands of strangers, so that
the right of the user for whom it speaks is checked here again. packaging/dbus has the contract as XML.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from typing import TypeVar

from ravesvc import names
from ravesvc.bot.command import LEAVE
from ravesvc.bot.own import EntryPoint
from ravesvc.bus import Call, Interface, Variant, decides_unnamed, method
from ravesvc.errors import Code, RaveError, new_incident
from ravesvc.journal import about
from ravesvc.orchestrator import arguments
from ravesvc.orchestrator.account import Account
from ravesvc.orchestrator.blocks import Blocks
from ravesvc.orchestrator.state import State
from ravesvc.orchestrator.workers import Workers

log = logging.getLogger(__name__)

T = TypeVar("T")

# Of admins, former ones included, and of command permissions: each change has every child read all of them.
_MOST_ENTRIES = 500

# Failures whose words are made for whoever asked.
_FIT = frozenset(
    {
        *(Code.ACCESS_DENIED, Code.INVALID_ARGUMENT, Code.LAST_ADMIN, Code.BUSY, Code.NOT_RUNNING),
        *(Code.NOT_CONFIRMED, Code.CANCELLED, Code.RATE_LIMITED),
    }
)
_UNREACHABLE = (Code.NETWORK, "Rave can't be reached")
_REFUSED = (Code.REFUSED, "Rave refuses the login")
_WORDS = {
    Code.STORE: (Code.STORE, "the store can't be used now"),
    Code.BAD_FILE: (Code.STORE, "the store can't be used now"),
    Code.LOGIN_NEEDED: (Code.LOGIN_NEEDED, "the bot has no address to send a mail to"),
    Code.WRONG_ADDRESS: (Code.WRONG_ADDRESS, "the bot's address is not accepted"),
    **dict.fromkeys((Code.NETWORK, Code.TIMEOUT, Code.TLS, Code.SERVER_ERROR), _UNREACHABLE),
    **dict.fromkeys((Code.REFUSED, Code.FORBIDDEN, Code.UNAUTHORIZED, Code.BAD_REQUEST), _REFUSED),
}


class BackendObject(Interface):
    """For verified children only. A change is answered when all children know of it."""

    interface = names.BACKEND_INTERFACE

    def __init__(
        self,
        workers: Workers,
        blocks: Blocks,
        state: State,
        account: Account,
        refresh: Callable[[], Awaitable[None]],
        entry_points: Callable[[], Sequence[EntryPoint]],
    ) -> None:
        """`refresh` has everything read again, everywhere; `entry_points` are those that are known."""

        @decides_unnamed
        async def verified(call: Call, _action: str | None) -> None:
            await workers.mesh_of(call.sender)

        super().__init__(verified)
        self._workers = workers
        self._blocks = blocks
        self._state = state
        self._account = account
        self._refresh = refresh
        self._entry_points = entry_points

    @method(returns={"users": "at"})
    async def get_admins(self, call: Call) -> list[int]:
        """The user ids of all admins. Errors: StoreUnavailable while nobody knows."""
        self._insist_loaded()
        return sorted(self._state.admins)

    @method(returns={"permissions": "a{sb}"})
    async def get_permissions(self, call: Call) -> dict[str, bool]:
        """Whether a command is for admins only, by command, where that was changed. Errors: StoreUnavailable."""
        self._insist_loaded()
        # The store may hold more than a name that somebody could type, and the bus takes.
        return {command: admin for command, admin in self._state.overrides.items() if command.isprintable()}

    @method(returns={"failures": "u"})
    async def get_attempts(self, call: Call) -> int:
        """How many attempts in a row to connect to the caller's mesh have failed, in this process or earlier ones."""
        # A file may say more than the bus takes.
        return min(self._blocks.memory(await self._workers.mesh_of(call.sender)).failures, 2**32 - 1)

    @method(returns={"modules": "a(sss)"})
    async def get_entry_points(self, call: Call) -> list[list[str]]:
        """Name, module and version of what installed packages offer as commands."""
        return [[*each] for each in self._entry_points()]

    @method(returns={"credentials": "a{sv}"})
    async def get_credentials(self, call: Call) -> dict[str, Variant]:
        """What a child needs of the account. Errors: LoginNeeded, Config, StoreUnavailable."""
        session = self._account.session
        if session is None:
            raise self._account.obstacle or RaveError(Code.LOGIN_NEEDED, "there is no session yet")
        return {
            "device_id": Variant("s", session.device_id),
            "ssaid": Variant("s", session.ssaid),
            "user_id": Variant("t", session.user_id),
            "auth_token": Variant("s", session.auth_token),
        }

    @method(takes={"actor": "t", "user": "t"}, returns={"added": "b"})
    async def add_admin(self, call: Call, actor: int, user: int) -> bool:
        """Make somebody an admin. Errors: AccessDenied, InvalidArgument, StoreUnavailable."""
        async with self._acting(call, actor, "make admins") as mesh:
            _insist_on_room(user, self._state.users)
            added = await self._state.add_admin(arguments.user_id(user), actor, actor=actor)
            if added:
                log.info("User %d in mesh %s has made user %d an admin", actor, mesh, user, extra=about(mesh))
            return added

    @method(takes={"actor": "t", "user": "t"}, returns={"removed": "b"})
    async def remove_admin(self, call: Call, actor: int, user: int) -> bool:
        """Take the right away. Errors: AccessDenied, InvalidArgument, LastAdmin, StoreUnavailable."""
        async with self._acting(call, actor, "remove admins") as mesh:
            removed = await self._state.remove_admin(arguments.user_id(user), actor=actor)
            if removed:
                log.info("User %d in mesh %s has removed the admin %d", actor, mesh, user, extra=about(mesh))
            return removed

    @method(takes={"actor": "t", "command": "s", "requires_admin": "b", "description": "s"})
    async def set_permission(
        self,
        call: Call,
        actor: int,
        command: str,
        requires_admin: bool,  # noqa: FBT001 - as it comes from the bus
        description: str,
    ) -> None:
        """Say whom a command is for. Errors: AccessDenied, InvalidArgument, StoreUnavailable."""
        async with self._acting(call, actor, "change permissions") as mesh:
            name = arguments.command(command)
            _insist_on_room(name, self._state.overrides)
            described = arguments.description(description, name)
            await self._state.set_permission(name, requires_admin, described, actor, actor=actor)
            whom = "admins only" if requires_admin else "everybody"
            log.info(
                "User %d in mesh %s has set the command %s to be for %s", actor, mesh, name, whom, extra=about(mesh)
            )

    @method(takes={"actor": "t", "command": "s"}, returns={"removed": "b"})
    async def remove_permission(self, call: Call, actor: int, command: str) -> bool:
        """Let a command be for whom it says itself. Errors: AccessDenied, InvalidArgument, StoreUnavailable."""
        async with self._acting(call, actor, "change permissions") as mesh:
            name = arguments.command(command)
            removed = await self._state.remove_permission(name, actor=actor)
            if removed:
                log.info(
                    "User %d in mesh %s has undone what was set for the command %s",
                    actor,
                    mesh,
                    name,
                    extra=about(mesh),
                )
            return removed

    @method(takes={"actor": "t"}, returns={"admins": "u", "permissions": "u"})
    async def refresh(self, call: Call, actor: int) -> tuple[int, int]:
        """Read everything again, everywhere. Errors: AccessDenied, StoreUnavailable."""
        async with self._acting(call, actor, "have everything read again") as mesh:
            await self._refresh()
            log.info("User %d in mesh %s has had everything read again", actor, mesh, extra=about(mesh))
            return len(self._state.admins), len(self._state.overrides)

    @method(takes={"actor": "t"}, returns={"seconds": "u"})
    async def relogin(self, call: Call, actor: int) -> int:
        """Begin to log in again; returns when the mail is sent, with the time to follow its link.

        Errors: AccessDenied, Busy, LoginNeeded, StoreUnavailable, Refused, Network.
        """
        async with self._acting(call, actor, "log the bot in again") as mesh:
            log.info("User %d in mesh %s wants the bot to log in again", actor, mesh, extra=about(mesh))
            return await self._account.login("")

    @method(takes={"actor": "t"})
    async def allow_leave(self, call: Call, actor: int) -> None:
        """Return if the user may send the bot away from their mesh. Errors: AccessDenied, StoreUnavailable."""
        mesh = await self._workers.mesh_of(call.sender)
        with _in_chat_words(mesh):
            self._insist_loaded()
            if self._state.overrides.get(LEAVE, True):
                self._insist_on_admin(actor, mesh, "send the bot away")
            log.info("User %d sends the bot away from mesh %s", actor, mesh, extra=about(mesh))

    @method()
    async def login_ended(self, call: Call) -> None:
        """Return when the login that is under way, or was the last one, has succeeded; else what made it fail."""
        with _in_chat_words(await self._workers.mesh_of(call.sender)):
            await self._account.login_ended()

    def _insist_loaded(self) -> None:
        if not self._state.last:
            why = self._state.error.message if self._state.error else "the store has not been read yet"
            raise RaveError(Code.STORE, f"nobody knows who is an admin: {why}")

    def _insist_on_admin(self, actor: int, mesh: str, what: str) -> None:
        if actor not in self._state.admins:
            log.warning("User %d in mesh %s may not %s", actor, mesh, what, extra=about(mesh))
            raise RaveError(Code.ACCESS_DENIED, f"only admins may {what}")

    @contextlib.asynccontextmanager
    async def _acting(self, call: Call, actor: int, what: str) -> AsyncIterator[str]:
        """Refuse whoever is no admin; gives the mesh in which they are."""
        mesh = await self._workers.mesh_of(call.sender)
        with _in_chat_words(mesh):
            self._insist_loaded()
            self._insist_on_admin(actor, mesh, what)
            yield mesh


def _insist_on_room(entry: T, entries: Collection[T]) -> None:
    """Refuse what is new when there is enough: a bot that was taken over must not fill the store."""
    if entry not in entries and len(entries) >= _MOST_ENTRIES:
        text = f"there are {len(entries)} of those already, which is as many as the chat may make"
        raise RaveError(Code.INVALID_ARGUMENT, text, hint="ravectl can make more")


@contextlib.contextmanager
def _in_chat_words(mesh: str) -> Iterator[None]:
    """What fails is told to strangers: the words of operators, with files, hosts and options, go to the log alone."""
    try:
        yield
    except RaveError as e:
        if e.code in _FIT:
            raise
        incident = new_incident()
        log.warning("What was asked for in mesh %s has failed (id %s): %s", mesh, incident, e, extra=about(mesh))
        code, words = _WORDS.get(e.code, (Code.INTERNAL, "that has failed"))
        refused = e.attributes.get("refused")
        text = f"{refused}: {words}" if refused else words
        # The child takes it over for its answer and its own log.
        raise RaveError(code, text, hint=f"id {incident}") from e
