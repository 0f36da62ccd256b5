"""Who may do what in the rooms, on the bus beside the manager: admins, commands, ignored users, changes from chat."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from ravesvc import names
from ravesvc.bot.command_names import CLAIM
from ravesvc.bus import Call, Interface, method
from ravesvc.common.text import printable
from ravesvc.core import validation
from ravesvc.core.admin_claims import VALID_S, Claims
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus.polkit import AccessCheck
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.model import Contents

log = logging.getLogger(__name__)

# Who has changed a permission, when it was no chat user.
_OPERATOR = 0

_EPOCH = datetime.fromtimestamp(0, UTC)
_MAX_TEXT_CHARS = 500


class PermissionsObject(Interface):
    """Who may do what in the rooms, at /org/ravesvc/Rave1 of org.ravesvc.Rave1.

    Every property changes with a signal. Timestamps are microseconds of CLOCK_REALTIME, 0 for never.

    Properties:
        Admins: How many admins there are, as far as is known.
        Permissions: For how many commands the permission was changed, as far as is known.
    """

    interface = names.PERMISSIONS_INTERFACE
    properties: ClassVar = {"Admins": "u", "Permissions": "u"}

    def __init__(self, access: AccessCheck, state: CachedStore, claims: Claims, prefix: str) -> None:
        """`prefix` begins a command in a room; a reload of rave.yaml may set another one."""
        super().__init__(access)
        self._state = state
        self._claims = claims
        self.prefix = prefix

    @method(returns={"admins": "a(ttt)"}, action=PolkitAction.READ)
    async def list_admins(self, call: Call) -> list[list[int]]:
        """User id, who has added them, and when, of every admin, by user id.

        An owner, whom an operator has added and no chat user may remove, has added themselves; the adder is 0 if it
        is not known.

        Errors: StoreUnavailable until the store is read.
        """
        return [
            [admin.user_id, admin.added_by, _microseconds(admin.added_at)]
            for admin in self._contents().admins
            if admin.active
        ]

    @method(takes={"user": "t"}, returns={"added": "b"}, action=PolkitAction.ADMINS)
    async def add_admin(self, call: Call, user: int) -> bool:
        """Make a user an admin and owner in all meshes; false if they are that already.

        Like every change it is safe on disk, and known in the meshes, when it returns.

        Errors: InvalidArgument, StoreUnavailable.
        """
        # The first admin has no other admin who could have added them.
        added = await self._state.add_admin(validation.user_id(user), added_by=user)
        if added:
            log.info("An operator has made user %d an admin", user)
        return added

    @method(takes={"user": "t"}, returns={"removed": "b"}, action=PolkitAction.ADMINS)
    async def remove_admin(self, call: Call, user: int) -> bool:
        """Take the right away; false if they have none. Errors: InvalidArgument, LastAdmin, StoreUnavailable."""
        removed = await self._state.remove_admin(validation.user_id(user))
        if removed:
            log.info("An operator has removed the admin %d", user)
        return removed

    @method(returns={"command": "s", "seconds": "u"}, action=PolkitAction.ADMINS)
    async def issue_claim(self, call: Call) -> tuple[str, int]:
        """A command that makes the user who writes it in a room first an admin, and for how many seconds.

        It works once; another one, a restart of the service, and five wrong codes in all rooms together void it.

        Errors: StoreUnavailable, when an admin could not be saved now.
        """
        await self._state.check_writable()
        log.info("An operator has got a code with which a chat user can become an admin")
        return f"{self.prefix}{CLAIM} {self._claims.issue()}", VALID_S

    @method(returns={"permissions": "a(sbst)"}, action=PolkitAction.READ)
    async def list_permissions(self, call: Call) -> list[tuple[str, bool, str, int]]:
        """Command, whether it is for admins only, description, and since when.

        Errors: StoreUnavailable until the store is read.
        """
        return [
            (
                printable(each.command, _MAX_TEXT_CHARS),
                each.requires_admin,
                printable(each.description, _MAX_TEXT_CHARS),
                _microseconds(each.updated_at),
            )
            for each in self._contents().permissions
        ]

    @method(takes={"command": "s", "requires_admin": "b"}, action=PolkitAction.ADMINS)
    async def set_permission(self, call: Call, command: str, requires_admin: bool) -> None:  # noqa: FBT001
        """Set whether a command is for admins only, in all meshes. Errors: InvalidArgument, StoreUnavailable."""
        name = validation.command(command)
        described = {each.command: each.description for each in self._contents().permissions}
        description = validation.description(described.get(name, ""), name)
        await self._state.set_permission(name, requires_admin, description, _OPERATOR)
        whom = "admins only" if requires_admin else "all users"
        log.info("An operator has set the command %s to be for %s", name, whom)

    @method(takes={"command": "s"}, returns={"removed": "b"}, action=PolkitAction.ADMINS)
    async def remove_permission(self, call: Call, command: str) -> bool:
        """Reset a command to its default permission; false if that is so already.

        Errors: InvalidArgument, StoreUnavailable.
        """
        name = validation.command(command)
        removed = await self._state.remove_permission(name)
        if removed:
            log.info("An operator has undone what was set for the command %s", name)
        return removed

    @method(returns={"users": "a(ttt)"}, action=PolkitAction.READ)
    async def list_ignored_users(self, call: Call) -> list[list[int]]:
        """User id, who has had them ignored (0 for an operator), and when, of users whom no bot listens to.

        Those that the option ignored_users names are not among them.

        Errors: StoreUnavailable until the store is read.
        """
        return [[each.user_id, each.added_by, _microseconds(each.added_at)] for each in self._contents().ignored]

    @method(takes={"user": "t"}, returns={"ignored": "b"}, action=PolkitAction.ADMINS)
    async def ignore_user(self, call: Call, user: int) -> bool:
        """Have no bot listen to a user; false if none does.

        Errors: InvalidArgument (also for an admin), StoreUnavailable.
        """
        ignored = await self._state.ignore_user(validation.user_id(user), _OPERATOR)
        if ignored:
            log.info("An operator has had user %d ignored", user)
        return ignored

    @method(takes={"user": "t"}, returns={"removed": "b"}, action=PolkitAction.ADMINS)
    async def unignore_user(self, call: Call, user: int) -> bool:
        """Have bots listen to a user again; false if they do. Errors: InvalidArgument, StoreUnavailable."""
        heard = await self._state.unignore_user(validation.user_id(user))
        if heard:
            log.info("An operator has user %d no longer ignored", user)
        return heard

    @method(returns={"changes": "a(ttstsb)"}, action=PolkitAction.READ)
    async def list_chat_changes(self, call: Call) -> list[tuple[int, int, str, int, str, bool]]:
        """The latest thousand changes that were made from rooms, the oldest first.

        Each has its number, its time, the mesh whose bot has asked, the user for whom (0 for one who was forgotten),
        what was done, as words that go on after the name of the user, and whether it is undone.
        """
        return [
            (
                each.number,
                _microseconds(each.at),
                each.mesh,
                each.user,
                printable(each.words, _MAX_TEXT_CHARS),
                each.undone,
            )
            for each in self._state.chat_changes
        ]

    @method(takes={"number": "t"}, returns={"undone": "b"}, action=PolkitAction.ADMINS)
    async def undo_chat_change(self, call: Call, number: int) -> bool:
        """Put what was there before such a change in its place again; false if it is there already.

        What was changed once more since then stays.

        Errors: InvalidArgument, Conflict, LastAdmin, StoreUnavailable.
        """
        undone = await self._state.undo(number)
        if undone:
            log.info("An operator has undone change %d, which was made from a room", number)
        return undone

    def show(self) -> None:
        """Update the properties."""
        self.set(Admins=len(self._state.admins), Permissions=len(self._state.overrides))

    def _contents(self) -> Contents:
        if self._state.snapshot is None:
            why = self._state.error.message if self._state.error else "it has not been read yet"
            raise RaveError(Code.STORE, f"it is not known what the store holds: {why}")
        return self._state.snapshot


def _microseconds(time: datetime) -> int:
    return max(0, (time - _EPOCH) // timedelta(microseconds=1))
