"""Answers the requests of bots on behalf of chat users: changes of admins and permissions, a login, a leave.

A bot runs the commands of strangers. So the service checks the user's right again, and asks Rave whether the user is
in the bot's room. Without that, one bot that was taken over could act for every admin.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.bot.backend import EntryPoint
from ravesvc.bot.command_names import LEAVE
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.common.plugin_files import FileVersion
from ravesvc.common.text import count
from ravesvc.common.translation import gettext as _
from ravesvc.config.worker_settings import Session
from ravesvc.core import validation
from ravesvc.core.account import Account
from ravesvc.core.admin_claims import Claims
from ravesvc.core.chat_limits import ChangeLimit, ChatRules
from ravesvc.core.presence_check import PresenceCheck
from ravesvc.core.room_memory import RoomMemory
from ravesvc.errors import Code, RaveError, new_incident, with_incident
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.chat_change import ChatUser
from ravesvc.store.chat_change_log import NotRecordedError

log = logging.getLogger(__name__)

T = TypeVar("T")

# The most admins, former ones included, and permissions. After each change every bot reads all of them.
_MAX_ENTRIES = 500

# Errors whose words are fit for the chat.
_FIT = frozenset(
    {
        *(Code.ACCESS_DENIED, Code.INVALID_ARGUMENT, Code.LAST_ADMIN, Code.BUSY, Code.NOT_RUNNING),
        *(Code.NOT_CONFIRMED, Code.CANCELLED, Code.RATE_LIMITED),
    }
)
# Errors of a presence check that mean that there is no session which Rave accepts.
_SESSION_REFUSED = frozenset({Code.UNAUTHORIZED, Code.NOT_RUNNING})
_UNREACHABLE = (Code.NETWORK, "Rave can't be reached")
_REFUSED = (Code.REFUSED, "Rave refuses the login")
_WORDS = {
    Code.STORE: (Code.STORE, "the store can't be used now"),
    Code.BAD_FILE: (Code.STORE, "the store can't be used now"),
    Code.LOGIN_NEEDED: (Code.LOGIN_NEEDED, "the bot has no address to send a mail to"),
    Code.WRONG_ADDRESS: (Code.WRONG_ADDRESS, "the bot's address is not accepted"),
    Code.RATE_LIMITED: (Code.RATE_LIMITED, "Rave asks for a pause"),
    Code.NOT_RUNNING: (Code.NOT_RUNNING, "the bot is not logged in"),
    **dict.fromkeys((Code.NETWORK, Code.TIMEOUT, Code.TLS, Code.SERVER_ERROR), _UNREACHABLE),
    **dict.fromkeys((Code.REFUSED, Code.FORBIDDEN, Code.UNAUTHORIZED, Code.BAD_REQUEST), _REFUSED),
}


class BotRequests:
    """Answers the bots of all meshes.

    `mesh` is the mesh whose bot asks, `actor` the id of the chat user for whom it asks. Errors are `RaveError`s in
    words for the chat. If the log has details, the error's `incident` is the id by which they are found.

    Attributes:
        entry_points: what installed packages offer as commands, when they were last looked for.
    """

    def __init__(
        self,
        blocklist: Blocklist,
        state: CachedStore,
        account: Account,
        claims: Claims,
        memory: RoomMemory,
        presence: PresenceCheck,
        rules: ChatRules,
        refresh: Callable[[], Awaitable[None]],
        pause: Callable[[str], tuple[float, str]],
        chat_form: Callable[[str], str],
        tried_plugins: Callable[[str], list[FileVersion]],
    ) -> None:
        """Answer from these parts of the service.

        Args:
            refresh: reads everything again, and has all bots do so.
            pause: returns for how many seconds the bot of a mesh is to ask nothing of Rave, and why.
            chat_form: returns the form in which other bots have learned to send chat to servers such as that of a
                mesh; empty if none has.
            tried_plugins: returns the new versions of plugins that are tried in a mesh.
        """
        self.pause = pause
        self.chat_form = chat_form
        self.tried_plugins = tried_plugins
        self._blocklist = blocklist
        self._state = state
        self._account = account
        self._claims = claims
        self._memory = memory
        self._presence = presence
        self._limit = ChangeLimit(rules, state.chat_change_ages)
        self._refresh = refresh
        self.entry_points: list[EntryPoint] = []

    def admins(self) -> frozenset[int]:
        """The user ids of all admins. Raises StoreUnavailable until the store is read."""
        self._raise_unless_loaded()
        return self._state.admins

    def permissions(self) -> dict[str, bool]:
        """Whether a command is for admins only, by command, if that was set. Raises StoreUnavailable."""
        self._raise_unless_loaded()
        # The store may hold names that can't be typed, or that the bus would not transport.
        return {command: admin for command, admin in self._state.overrides.items() if command.isprintable()}

    def failures(self, mesh: str) -> tuple[int, float]:
        """How many attempts in a row to connect to the mesh have failed, and seconds since the first of them."""
        # The number in the file may be larger than an integer on the bus.
        return min(self._blocklist.memory(mesh).failures, 2**32 - 1), self._blocklist.failing_for(mesh)

    def session(self) -> Session:
        """The session with which a bot acts as the account. Raises LoginNeeded, Config, StoreUnavailable."""
        if self._account.session is None:
            raise self._account.obstacle or RaveError(Code.LOGIN_NEEDED, "there is no session yet")
        return self._account.session

    async def add_admin(self, mesh: str, actor: int, user: int) -> bool:
        """Make a user an admin; False if they are one. Raises AccessDenied, InvalidArgument, StoreUnavailable."""
        async with self._acting(mesh, actor, "make admins"):
            self._raise_unless_owner(actor, mesh, "make admins")
            _raise_if_full(user, self._state.users)
            added = await self._state.add_admin(validation.user_id(user), actor, actor=ChatUser(actor, mesh))
            if added:
                log.info(
                    "User %d in mesh %s has made user %d an admin",
                    actor,
                    mesh,
                    user,
                    extra=about(mesh, LogEvent.CHANGED),
                )
            return added

    async def claim_admin(self, mesh: str, actor: int, code: str) -> bool:
        """Make the actor an admin by a code of `Claims`. Raises AccessDenied, InvalidArgument, StoreUnavailable."""
        with _in_chat_words(mesh):
            self._raise_unless_loaded()
            user = validation.user_id(actor)
            await self._presence.insist(mesh, user)
            with self._claims.redeeming(code):
                added = await self._state.claim_admin(ChatUser(user, mesh))
            if added:
                log.info(
                    "User %d in mesh %s has become an owner by a code",
                    actor,
                    mesh,
                    extra=about(mesh, LogEvent.CHANGED),
                )
            return added

    async def remove_admin(self, mesh: str, actor: int, user: int) -> bool:
        """Remove an admin who is no owner; False if they are none. Raises as `add_admin`, and LastAdmin."""
        async with self._acting(mesh, actor, "remove admins"):
            self._raise_unless_owner(actor, mesh, "remove admins")
            removed = await self._state.remove_admin(validation.user_id(user), actor=ChatUser(actor, mesh))
            if removed:
                log.info(
                    "User %d in mesh %s has removed the admin %d",
                    actor,
                    mesh,
                    user,
                    extra=about(mesh, LogEvent.CHANGED),
                )
            return removed

    def set_rules(self, rules: ChatRules) -> None:
        """Have other rules for what admins do from a room; their changes of the last hour still count."""
        self._limit.rules = rules

    def ignored_users(self) -> frozenset[int]:
        """The ids of the users whom all bots ignore. Raises StoreUnavailable until the store is read."""
        self._raise_unless_loaded()
        return self._state.ignored

    async def ignore_user(self, mesh: str, actor: int, user: int) -> bool:
        """Have all bots ignore a user. Raises AccessDenied, InvalidArgument (also for admins), StoreUnavailable."""
        async with self._acting(mesh, actor, "have users ignored"):
            _raise_if_full(user, self._state.ignored)
            ignored = await self._state.ignore_user(validation.user_id(user), actor, actor=ChatUser(actor, mesh))
            if ignored:
                log.info(
                    "User %d in mesh %s has had user %d ignored",
                    actor,
                    mesh,
                    user,
                    extra=about(mesh, LogEvent.CHANGED),
                )
            return ignored

    async def unignore_user(self, mesh: str, actor: int, user: int) -> bool:
        """Have bots ignore a user no longer. Raises AccessDenied, InvalidArgument, StoreUnavailable."""
        async with self._acting(mesh, actor, "have users ignored"):
            heard = await self._state.unignore_user(validation.user_id(user), actor=ChatUser(actor, mesh))
            if heard:
                log.info(
                    "User %d in mesh %s has user %d no longer ignored",
                    actor,
                    mesh,
                    user,
                    extra=about(mesh, LogEvent.CHANGED),
                )
            return heard

    async def set_permission(
        self,
        mesh: str,
        actor: int,
        command: str,
        requires_admin: bool,  # noqa: FBT001 - as the field is called
        description: str,
    ) -> None:
        """Set the permission of a command. Raises AccessDenied, InvalidArgument, StoreUnavailable."""
        async with self._acting(mesh, actor, "change permissions"):
            name = validation.command(command)
            _raise_if_full(name, self._state.overrides)
            described = validation.description(description, name)
            await self._state.set_permission(name, requires_admin, described, actor, actor=ChatUser(actor, mesh))
            whom = "admins only" if requires_admin else "all users"
            log.info(
                "User %d in mesh %s has set the command %s to be for %s",
                actor,
                mesh,
                name,
                whom,
                extra=about(mesh, LogEvent.CHANGED),
            )

    async def remove_permission(self, mesh: str, actor: int, command: str) -> bool:
        """Reset a command to its default permission. Raises AccessDenied, InvalidArgument, StoreUnavailable."""
        async with self._acting(mesh, actor, "change permissions"):
            name = validation.command(command)
            removed = await self._state.remove_permission(name, actor=ChatUser(actor, mesh))
            if removed:
                log.info(
                    "User %d in mesh %s has undone what was set for the command %s",
                    actor,
                    mesh,
                    name,
                    extra=about(mesh, LogEvent.CHANGED),
                )
            return removed

    async def refresh(self, mesh: str, actor: int) -> tuple[int, int]:
        """Read store and plugins again, in the service and in all bots.

        Returns the numbers of admins and permissions. Raises AccessDenied, StoreUnavailable.
        """
        async with self._acting(mesh, actor, "have everything read again"):
            await self._refresh()
            log.info(
                "User %d in mesh %s has had everything read again", actor, mesh, extra=about(mesh, LogEvent.CHANGED)
            )
            return len(self._state.admins), len(self._state.overrides)

    async def relogin(self, mesh: str, actor: int) -> int:
        """Begin a login; returns when its mail is sent, with the number of seconds in which to follow the link.

        Raises AccessDenied, Busy, LoginNeeded, StoreUnavailable, Refused, Network.
        """
        with _in_chat_words(mesh):
            self._raise_unless_loaded()
            self._insist_on_admin(actor, mesh, "log the bot in again")
            await self._insist_on_presence_if_logged_in(mesh, actor)
            self._limit.take(mesh)
            log.info(
                "User %d in mesh %s wants the bot to log in again", actor, mesh, extra=about(mesh, LogEvent.CHANGED)
            )
            return await self._account.login("")

    async def read_document(self, mesh: str, name: str) -> str | None:
        """A document of the room; None if there is none. Raises InvalidArgument, RateLimited, StoreUnavailable."""
        if self._state.error:
            # Not logged: all bots repeat this request until it is answered, and the outage is in the log already.
            raise RaveError(*_WORDS[Code.STORE])
        with _in_chat_words(mesh):
            return await self._memory.read_document(mesh, name)

    async def write_document(self, mesh: str, name: str, text: str) -> None:
        """Put JSON in the place of a document. Raises as `read_document`."""
        with _in_chat_words(mesh):
            await self._memory.write_document(mesh, name, text)

    async def read_shared(self, mesh: str, name: str) -> tuple[str, str]:
        """A document of all rooms, and its version. Raises as `read_document`."""
        if self._state.error:
            raise RaveError(*_WORDS[Code.STORE])
        with _in_chat_words(mesh):
            return await self._memory.read_shared(mesh, name)

    async def write_shared(self, mesh: str, name: str, text: str, version: str) -> bool:
        """Put JSON in the place of that version; False if there is another by now. Raises as `read_document`."""
        with _in_chat_words(mesh):
            return await self._memory.write_shared(mesh, name, text, version)

    async def append_history(self, mesh: str, name: str, entry: str) -> None:
        """Add JSON to a history. Raises as `read_document`."""
        with _in_chat_words(mesh):
            await self._memory.append_history(mesh, name, entry)

    async def read_history(self, mesh: str, name: str, number: int) -> list[str]:
        """The latest entries of a history. Raises as `read_document`."""
        with _in_chat_words(mesh):
            return await self._memory.read_history(mesh, name, number)

    async def forget_user(self, mesh: str, actor: int) -> int:
        """Forget the actor; returns how many entries were removed.

        Raises as `read_document`, also InvalidArgument for an admin, and AccessDenied (the user is not in the room),
        Busy, Network, Refused.
        """
        with _in_chat_words(mesh):
            if actor in self._state.admins:
                text = _("you are an admin, and can't be forgotten")
                raise RaveError(Code.INVALID_ARGUMENT, text, hint=_("have that right removed first"))
            removed = await self._memory.forget_at_wish(mesh, validation.user_id(actor))
            # The log does not say which user, since that would keep the id.
            log.info("A user in mesh %s is forgotten: %s", mesh, count(removed, "entry"), extra=about(mesh))
            return removed

    def allow_leave(self, mesh: str, actor: int) -> None:
        """Check that the user may send the bot away from the mesh. Raises AccessDenied, StoreUnavailable."""
        with _in_chat_words(mesh):
            self._raise_unless_loaded()
            if self._state.overrides.get(LEAVE, True):
                self._insist_on_admin(actor, mesh, "send the bot away")
            log.info("User %d sends the bot away from mesh %s", actor, mesh, extra=about(mesh))

    async def login_ended(self, mesh: str) -> None:
        """Wait until the login that is under way, or else the last one, has succeeded; raises why it failed."""
        with _in_chat_words(mesh):
            await self._account.login_ended()

    def _raise_unless_loaded(self) -> None:
        if not self._state.snapshot:
            why = self._state.error.message if self._state.error else "the store has not been read yet"
            raise RaveError(Code.STORE, f"it is not known who is an admin: {why}")

    def _insist_on_admin(self, actor: int, mesh: str, what: str) -> None:
        if actor not in self._state.admins:
            log.warning("User %d in mesh %s may not %s", actor, mesh, what, extra=about(mesh))
            raise RaveError(Code.ACCESS_DENIED, f"only admins may {what}")

    def _raise_unless_owner(self, actor: int, mesh: str, what: str) -> None:
        """Refuse an admin who is no owner, if the options allow only owners to do this."""
        if self._limit.rules.owners_alone and actor not in self._state.owners:
            log.warning("User %d in mesh %s is no owner, and may not %s", actor, mesh, what, extra=about(mesh))
            raise RaveError(Code.ACCESS_DENIED, f"only owners may {what}")

    async def _insist_on_presence_if_logged_in(self, mesh: str, actor: int) -> None:
        """Refuse a user who is not in the mesh, unless Rave refuses the session and so can't be asked.

        The login that the user asks for fixes the session then, and its mail goes to the account's own address.
        """
        try:
            await self._presence.insist(mesh, actor)
        except RaveError as e:
            if e.code not in _SESSION_REFUSED:
                raise

    @contextlib.asynccontextmanager
    async def _acting(self, mesh: str, actor: int, what: str) -> AsyncIterator[None]:
        """Refuse users who are no admins or not in the mesh, and changes beyond the mesh's rate limit."""
        with _in_chat_words(mesh):
            self._raise_unless_loaded()
            self._insist_on_admin(actor, mesh, what)
            await self._presence.insist(mesh, actor)
            self._limit.take(mesh)
            yield


def _raise_if_full(entry: T, entries: Collection[T]) -> None:
    """Refuse a new entry when there are too many: a bot that was taken over must not fill the store."""
    if entry not in entries and len(entries) >= _MAX_ENTRIES:
        text = f"there are {len(entries)} of those already, which is as many as the chat may make"
        raise RaveError(Code.INVALID_ARGUMENT, text, hint="remove others first, or have an operator add it")


@contextlib.contextmanager
def _in_chat_words(mesh: str) -> Iterator[None]:
    """Replace errors by words for the chat, which strangers read; files, hosts and options go only to the log."""
    try:
        yield
    except RaveError as e:
        # An error with `refused` quotes an answer of Rave or of the store, which is not for the chat.
        if e.code in _FIT and "refused" not in e.attributes:
            raise
        incident = new_incident()
        failed = with_incident(f"What was asked for in mesh {mesh} has failed", incident)
        log.warning("%s: %s", failed, e, extra=about(mesh))
        code, words = _WORDS.get(e.code, (Code.INTERNAL, "that has failed"))
        if isinstance(e, NotRecordedError):
            # Only the name of the file is for the chat, not its directory.
            words = f"changes from rooms can't be noted: {Path(str(e.attributes['file'])).name} can't be written"
        refused = e.attributes.get("refused")
        text = f"{refused}: {words}" if refused else words
        raise RaveError(code, text, incident=incident) from e
