"""The service as a whole on the bus, for operators. packaging/dbus has the contract as XML."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from ravesvc import __version__, names
from ravesvc.bus import Call, Interface, Variant, method
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from ravesvc.orchestrator import arguments
from ravesvc.orchestrator.account import Account
from ravesvc.orchestrator.discovery import Discovery
from ravesvc.orchestrator.fleet import Fleet
from ravesvc.orchestrator.polkit import Authority
from ravesvc.orchestrator.state import State
from ravesvc.store import dump
from ravesvc.store.store import Contents
from ravesvc.words import printable

log = logging.getLogger(__name__)

# Who has changed a permission, when it was no chat user.
_OPERATOR = 0

_EPOCH = datetime.fromtimestamp(0, UTC)
_LONGEST = 500


class ManagerObject(Interface):
    """The meshes, the account, and what the store holds."""

    interface = names.MANAGER_INTERFACE
    properties: ClassVar = {
        "Version": "s",
        "Status": "s",
        "Meshes": "u",
        "Connected": "u",
        "DiscoveryError": "s",
        "LastDiscoveryTimestamp": "t",
        "HeldBack": "u",
        "Store": "s",
        "StoreError": "s",
        "HasAccount": "b",
        "LoginNeeded": "b",
        "LoginStep": "s",
        "Admins": "u",
        "Permissions": "u",
    }
    signals: ClassVar = {
        "DiscoveryFinished": {"meshes": "u", "error": "s"},
        "LoginProgress": {"step": "s", "seconds": "u"},
        "LoginFinished": {"error": "s", "message": "s"},
    }

    def __init__(
        self,
        authority: Authority,
        *,
        fleet: Fleet,
        discovery: Discovery,
        state: State,
        account: Account,
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        """`refresh` has everything read again, everywhere."""
        super().__init__(authority)
        self._fleet = fleet
        self._discovery = discovery
        self._state = state
        self._account = account
        self._refresh = refresh
        self.set(Version=__version__, Store=state.engine)

    @method(returns={"status": "a{sv}"}, action=PolkitAction.READ)
    async def get_status(self, call: Call) -> dict[str, Variant]:
        """Every property, and in States the number of meshes in each state."""
        states = Counter(str(record.state) for record in self._fleet.records.values())
        return {**self.values(), "States": Variant("a{su}", dict(states))}

    @method(returns={"meshes": "a(ssso)"}, action=PolkitAction.READ)
    async def list_meshes(self, call: Call) -> list[list[str]]:
        """Id, title, state and object path of every mesh, by id."""
        return [
            [record.mesh, record.listed.title if record.listed else "", record.state, names.mesh_path(record.mesh)]
            for record in sorted(self._fleet.records.values(), key=lambda record: record.mesh)
        ]

    @method(takes={"id": "s"}, returns={"mesh": "o"}, action=PolkitAction.READ)
    async def get_mesh(self, call: Call, id: str) -> str:  # noqa: A002 - the argument's name on the wire
        """The object of a mesh. Errors: InvalidArgument, NoSuchMesh."""
        if names.mesh_id(id) not in self._fleet.records:
            raise RaveError(Code.NO_SUCH_MESH, f"there is no mesh {id}", hint="ListMeshes shows those that there are")
        return names.mesh_path(id)

    @method(takes={"id": "s"}, action=PolkitAction.OPERATE)
    async def start_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        """Lift a block that is not a kick, and start. Errors: InvalidArgument, NoSuchMesh, Blocked, BadFile."""
        self._fleet.start_mesh(names.mesh_id(id))

    @method(takes={"id": "s"}, action=PolkitAction.OPERATE)
    async def stop_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        """Stop, and stay stopped until StartMesh. Errors: InvalidArgument, NoSuchMesh, BadFile."""
        self._fleet.stop_mesh(names.mesh_id(id))

    @method(action=PolkitAction.OPERATE)
    async def discover(self, call: Call) -> None:
        """Begin a discovery round now; DiscoveryFinished tells how it went."""
        self._discovery.ask()

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

    @method(returns={"admins": "a(ttt)"}, action=PolkitAction.READ)
    async def list_admins(self, call: Call) -> list[list[int]]:
        """User id, who has added them and when, by user id. Errors: StoreUnavailable while nobody knows."""
        return [
            [admin.user_id, admin.added_by, _microseconds(admin.added_at)]
            for admin in self._contents().admins
            if admin.active
        ]

    @method(takes={"user": "t"}, returns={"added": "b"}, action=PolkitAction.ADMINS)
    async def add_admin(self, call: Call, user: int) -> bool:
        """Make somebody an admin in all meshes. Errors: InvalidArgument, StoreUnavailable."""
        # Nobody else has added the first one.
        added = await self._state.add_admin(arguments.user_id(user), added_by=user)
        if added:
            log.info("An operator has made user %d an admin", user)
        return added

    @method(takes={"user": "t"}, returns={"removed": "b"}, action=PolkitAction.ADMINS)
    async def remove_admin(self, call: Call, user: int) -> bool:
        """Take the right away. Errors: InvalidArgument, LastAdmin, StoreUnavailable."""
        removed = await self._state.remove_admin(arguments.user_id(user))
        if removed:
            log.info("An operator has removed the admin %d", user)
        return removed

    @method(returns={"permissions": "a(sbst)"}, action=PolkitAction.READ)
    async def list_permissions(self, call: Call) -> list[tuple[str, bool, str, int]]:
        """Command, whether it is for admins only, description, and since when. Errors: StoreUnavailable."""
        return [
            (
                printable(each.command, _LONGEST),
                each.requires_admin,
                printable(each.description, _LONGEST),
                _microseconds(each.updated_at),
            )
            for each in self._contents().permissions
        ]

    @method(takes={"command": "s", "requires_admin": "b"}, action=PolkitAction.ADMINS)
    async def set_permission(self, call: Call, command: str, requires_admin: bool) -> None:  # noqa: FBT001
        """Say whom a command is for, in all meshes. Errors: InvalidArgument, StoreUnavailable."""
        name = arguments.command(command)
        described = {each.command: each.description for each in self._contents().permissions}
        description = arguments.description(described.get(name, ""), name)
        await self._state.set_permission(name, requires_admin, description, _OPERATOR)
        whom = "admins only" if requires_admin else "everybody"
        log.info("An operator has set the command %s to be for %s", name, whom)

    @method(takes={"command": "s"}, returns={"removed": "b"}, action=PolkitAction.ADMINS)
    async def remove_permission(self, call: Call, command: str) -> bool:
        """Let a command be for whom it says itself. Errors: InvalidArgument, StoreUnavailable."""
        name = arguments.command(command)
        removed = await self._state.remove_permission(name)
        if removed:
            log.info("An operator has undone what was set for the command %s", name)
        return removed

    @method(returns={"admins": "u", "permissions": "u"}, action=PolkitAction.OPERATE)
    async def refresh(self, call: Call) -> tuple[int, int]:
        """Read the store again, renew the credentials file, and have all meshes follow. Errors: StoreUnavailable."""
        await self._refresh()
        log.info("An operator has had everything read again")
        return self._counts()

    @method(returns={"text": "s"}, action=PolkitAction.CREDENTIALS)
    async def export_store(self, call: Call) -> str:
        """All that the store holds now, secrets included, as JSON. Errors: BadData, StoreUnavailable."""
        contents = await self._state.refresh()
        if contents.unusable:
            # A dump without an account would pass for all there was.
            text = f"not all of the store can be exported: {contents.unusable}"
            raise RaveError(Code.BAD_DATA, text, hint="mend it, or log in again")
        text = dump.to_json(contents)
        log.info("An operator has exported the store")
        return text

    @method(takes={"file": "h"}, returns={"admins": "u", "permissions": "u"}, action=PolkitAction.CREDENTIALS)
    async def import_store(self, call: Call, file: int) -> tuple[int, int]:
        """Put what ExportStore gave in the place of everything; without an account in it there is none any more.

        Errors: BadData, InvalidArgument, StoreUnavailable.
        """
        # A call that is broken off closes the file while it is being read; nobody gets then what was read.
        await self._account.replace(await asyncio.to_thread(dump.read, file))
        log.info("An operator has replaced all that the store holds")
        return self._counts()

    def show(self, status: str, *, login_needed: bool) -> None:
        """Take over what the parts say; `status` is one line for people."""
        states = [record.state for record in self._fleet.records.values()]
        self.set(
            Status=status,
            Meshes=len(states),
            Connected=states.count("connected"),
            DiscoveryError=str(self._discovery.error or ""),
            LastDiscoveryTimestamp=int(self._discovery.last_good * 1_000_000),
            HeldBack=self._discovery.census.held_back,
            StoreError=str(self._state.error or ""),
            HasAccount=self._state.has_account,
            LoginNeeded=login_needed,
            LoginStep=self._account.step,
            Admins=len(self._state.admins),
            Permissions=len(self._state.overrides),
        )

    def discovery_finished(self) -> None:
        """Announce the end of a round."""
        self.emit("DiscoveryFinished", len(self._discovery.census.meshes or {}), str(self._discovery.error or ""))

    def login_progress(self, step: str, seconds: float) -> None:
        """Announce how far a login is, and for how long its link can still be followed."""
        self.emit("LoginProgress", step, max(0, round(seconds)))

    def login_finished(self, error: RaveError | None) -> None:
        """Announce the end of a login, and why it has failed."""
        self.emit("LoginFinished", error.code.value if error else "", str(error or ""))

    def _contents(self) -> Contents:
        if self._state.last is None:
            why = self._state.error.message if self._state.error else "it has not been read yet"
            raise RaveError(Code.STORE, f"nobody knows what the store holds: {why}")
        return self._state.last

    def _counts(self) -> tuple[int, int]:
        return len(self._state.admins), len(self._state.overrides)


def _microseconds(time: datetime) -> int:
    return max(0, (time - _EPOCH) // timedelta(microseconds=1))
