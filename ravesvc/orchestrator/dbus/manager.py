"""The service as a whole on the bus, for operators. packaging/dbus has the contract as XML."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from ravesvc import names
from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.bot.command_names import CLAIM
from ravesvc.bus import Call, Interface, Variant, method
from ravesvc.common.text import count, printable
from ravesvc.config.identity import usual_shape
from ravesvc.core import validation
from ravesvc.core.account import Account
from ravesvc.core.admin_claims import VALID_S, Claims
from ravesvc.core.explain import ExplainInput, details, explain
from ravesvc.core.host_record import HostRecord
from ravesvc.core.inventory import Discovery
from ravesvc.core.mesh_state import MeshState, command_errors, unshown
from ravesvc.core.reconciler import Fleet
from ravesvc.core.rolling_restart import RollingRestart
from ravesvc.core.room_memory import RoomMemory
from ravesvc.core.start_policy import StartPolicy
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus.polkit import Authority
from ravesvc.store import credentials_file as account_file
from ravesvc.store import export
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.model import Contents
from ravesvc.store.room_document import RoomDocument, size
from ravesvc.version import __version__

log = logging.getLogger(__name__)

# Who has changed a permission, when it was no chat user.
_OPERATOR = 0

_EPOCH = datetime.fromtimestamp(0, UTC)
_LONGEST = 500


# Bytes of what rooms remember that ExportStore gives: a message has at most 8 MiB.
_MAX_MESSAGE = 4 * 1024 * 1024

# Of outages and of pauses that are told.
_MOST_SENTENCES = 16

# The types of what `explain.details` tells.
_DETAILS = {
    "State": "s",
    "Action": "s",
    "Reason": "s",
    "Listed": "b",
    "Invited": "b",
    "LastDiscoveryTimestamp": "t",
    "DiscoveryError": "s",
    "BlockReason": "s",
    "BlockDetail": "s",
    "BlockActor": "s",
    "BlockSinceTimestamp": "t",
    "Blocks": "u",
    "Quarantines": "u",
    "Attempts": "u",
    "LastError": "s",
    "CommandErrors": "as",
    "UnshownMessages": "u",
    "ChatForm": "s",
    "ActiveState": "s",
    "SubState": "s",
    "Restarts": "u",
    "LastExit": "s",
    "SilenceUSec": "t",
    "Outdated": "b",
    "NextRetryTimestamp": "t",
}


class ManagerObject(Interface):
    """The meshes, the account, and what the store holds."""

    interface = names.MANAGER_INTERFACE
    properties: ClassVar = {
        "Version": "s",
        "Status": "s",
        "Meshes": "u",
        "Connected": "u",
        "Unhealthy": "u",
        "Outdated": "u",
        "DiscoveryError": "s",
        "LastDiscoveryTimestamp": "t",
        "StaleSinceTimestamp": "t",
        "HeldBack": "u",
        "Store": "s",
        "StoreError": "s",
        "HasAccount": "b",
        "LoginNeeded": "b",
        "IdentityMissing": "as",
        "LoginStep": "s",
        "Admins": "u",
        "Permissions": "u",
        "UnshownMessages": "u",
        "CommandErrors": "as",
    }
    signals: ClassVar = {
        "DiscoveryFinished": {"round": "u", "meshes": "u", "error": "s"},
        "LoginProgress": {"step": "s", "seconds": "u"},
        "LoginFinished": {"error": "s", "message": "s"},
        "RollProgress": {"done": "u", "total": "u", "id": "s"},
        "RollFinished": {"error": "s", "message": "s"},
    }

    def __init__(
        self,
        authority: Authority,
        *,
        fleet: Fleet,
        discovery: Discovery,
        blocks: Blocklist,
        roll: RollingRestart,
        state: CachedStore,
        account: Account,
        claims: Claims,
        memory: RoomMemory,
        starts: StartPolicy,
        hosts: HostRecord,
        prefix: str,
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        """`prefix` begins a command in a room; `refresh` has everything read again, everywhere."""
        super().__init__(authority)
        self._authority = authority
        self._fleet = fleet
        self._discovery = discovery
        self._blocks = blocks
        self._roll = roll
        self._state = state
        self._account = account
        self._claims = claims
        self._memory = memory
        self._starts = starts
        self._hosts = hosts
        self._prefix = prefix
        self._refresh = refresh
        self.set(Version=__version__, Store=state.engine)

    @method(returns={"status": "a{sv}"}, action=PolkitAction.READ)
    async def get_status(self, call: Call) -> dict[str, Variant]:
        """Every property, and what costs a look at all meshes or matters to monitoring alone: see the contract."""
        blocks = Counter(block.reason.value for block in self._blocks.announced.values())
        return {
            **self.values(),
            "States": Variant("a{su}", dict(Counter(self._fleet.states))),
            "Blocks": Variant("a{su}", dict(blocks)),
            "BlocklistError": Variant("s", str(self._blocks.error or self._blocks.save_error or "")),
            "Obstacle": Variant("s", str(self._discovery.obstacle or self._discovery.identity_refused or "")),
            "Outages": Variant("as", self._starts.outages.sentences()[:_MOST_SENTENCES]),
            "Pauses": Variant("as", self._starts.pauses.all_words()[:_MOST_SENTENCES]),
        }

    @method(returns={"meshes": "a(ssso)"}, action=PolkitAction.READ)
    async def list_meshes(self, call: Call) -> list[list[str]]:
        """Id, title, state and object path of every mesh, by id; of those that are blocked only, the latest."""
        return [
            [record.mesh, record.title, record.state, names.mesh_path(record.mesh)]
            for record in sorted(self._fleet.records.values(), key=lambda record: record.mesh)
        ]

    @method(returns={"meshes": "a(sssstuub)"}, action=PolkitAction.READ)
    async def describe_meshes(self, call: Call) -> list[tuple[str, str, str, str, int, int, int, bool]]:
        """Id, Title, State, Reason, SinceTimestamp, Users, Restarts and Outdated of those of ListMeshes, by id."""
        return [
            (
                record.mesh,
                record.title,
                record.state,
                record.reason,
                record.since,
                record.users,
                record.run.restarts,
                self._roll.is_outdated(record),
            )
            for record in sorted(self._fleet.records.values(), key=lambda record: record.mesh)
        ]

    @method(takes={"id": "s"}, returns={"mesh": "o"}, action=PolkitAction.READ)
    async def get_mesh(self, call: Call, id: str) -> str:  # noqa: A002 - the argument's name on the wire
        """The object of a mesh. Errors: InvalidArgument, NoSuchMesh."""
        if names.mesh_id(id) not in self._fleet.records:
            raise _no_such_mesh(id)
        return names.mesh_path(id)

    @method(takes={"id": "s"}, returns={"users": "a(tsb)", "total": "u"}, action=PolkitAction.READ)
    async def list_users(self, call: Call, id: str) -> tuple[list[tuple[int, str, bool]], int]:  # noqa: A002
        """User id, display name and whether they are an admin, of who is in a mesh now, and how many there are.

        Errors: InvalidArgument, NoSuchMesh, NotRunning, Timeout, BadData.
        """
        users, total = await self._fleet.users(self._record(id).mesh)
        return [(user, name, user in self._state.admins) for user, name in users], total

    @method(takes={"id": "s"}, action=PolkitAction.OPERATE)
    async def start_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        """Lift what keeps a mesh from running, but for a kick and an operator's block, and start it.

        Errors: InvalidArgument, NoSuchMesh, Blocked, BadFile.
        """
        await self._fleet.start_mesh(names.mesh_id(id), await self._authority.actor(call))

    @method(takes={"id": "s"}, action=PolkitAction.OPERATE)
    async def stop_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        """Stop, and stay stopped until StartMesh. Errors: InvalidArgument, NoSuchMesh, BadFile."""
        await self._fleet.stop_mesh(names.mesh_id(id), await self._authority.actor(call))

    @method(takes={"id": "s"}, action=PolkitAction.OPERATE)
    async def restart_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        """Give a running mesh another process. Errors: InvalidArgument, NotRunning, Blocked, Busy."""
        await self._fleet.restart_mesh(names.mesh_id(id))

    @method(takes={"id": "s"}, action=PolkitAction.OPERATE)
    async def reconnect_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        """Let a running mesh's child close its connection and open another. Errors: InvalidArgument, NotRunning."""
        await self._fleet.reconnect_mesh(names.mesh_id(id))

    @method(takes={"id": "s", "debug": "b"}, action=PolkitAction.OPERATE)
    async def set_debug(self, call: Call, id: str, debug: bool) -> None:  # noqa: A002, FBT001
        """Let a running mesh's child log all there is, or no more than usual. Errors: InvalidArgument, NotRunning."""
        await self._fleet.set_debug(names.mesh_id(id), debug)

    @method(returns={"decisions": "a(sss)"}, action=PolkitAction.READ)
    async def plan(self, call: Call) -> list[tuple[str, str, str]]:
        """Id, what would be done with it now (start, stop, keep or skip), and why, for every mesh."""
        return [(each.mesh, each.action.value, printable(each.reason, _LONGEST)) for each in self._fleet.plan()]

    @method(takes={"id": "s"}, returns={"lines": "as", "details": "a{sv}"}, action=PolkitAction.READ)
    async def explain(self, call: Call, id: str) -> tuple[list[str], dict[str, Variant]]:  # noqa: A002
        """Why a mesh runs or does not, in sentences and for programs. Errors: InvalidArgument, NoSuchMesh."""
        facts = self._facts(self._record(id))
        return [printable(line, _LONGEST) for line in explain(facts, _date)], {
            name: Variant(_DETAILS[name], value) for name, value in details(facts).items()
        }

    @method(
        returns=dict.fromkeys(("total", "healthy", "unhealthy", "connected", "disconnected", "stopped"), "u"),
        action=PolkitAction.READ,
    )
    async def get_health_stats(self, call: Call) -> tuple[int, ...]:
        """How many meshes there are of each kind; healthy ones are connected or disconnected."""
        return self._fleet.health.stats()

    @method(returns={"meshes": "u"}, action=PolkitAction.OPERATE)
    async def roll(self, call: Call) -> int:
        """Begin to replace outdated children one after another; returns how many there are.

        RollProgress and RollFinished tell the rest, after the answer. Errors: Busy.
        """
        return self._roll.start()

    @method(action=PolkitAction.OPERATE)
    async def cancel_roll(self, call: Call) -> None:
        """Replace no more, if a roll is under way."""
        self._roll.cancel()

    @method(returns={"round": "u"}, action=PolkitAction.OPERATE)
    async def discover(self, call: Call) -> int:
        """Begin a discovery round now; returns its number, with which DiscoveryFinished tells how it went.

        Errors: whatever keeps every round from beginning (Config, LoginNeeded, StoreUnavailable, BadFile).
        """
        if self._discovery.obstacle:
            raise self._discovery.obstacle
        return self._discovery.ask()

    @method(returns={"meshes": "u"}, action=PolkitAction.OPERATE)
    async def confirm_losses(self, call: Call) -> int:
        """Meshes that the last list lacks are gone, without waiting for more lists; returns how many."""
        gone = self._discovery.census.believe()
        log.info("An operator confirms the loss of %s", count(gone, "mesh"))
        self._fleet.reconcile()
        return gone

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

    @method(returns={"host": "s"}, action=PolkitAction.OPERATE)
    async def take_over(self, call: Call) -> str:
        """Have the account's bots run on this host, no longer on another; returns that one, empty if none has them.

        Errors: StoreUnavailable.
        """
        return await self._hosts.take_over()

    @method(returns={"admins": "a(ttt)"}, action=PolkitAction.READ)
    async def list_admins(self, call: Call) -> list[list[int]]:
        """User id, who has added them and when, by user id. Errors: StoreUnavailable until the store is read."""
        return [
            [admin.user_id, admin.added_by, _microseconds(admin.added_at)]
            for admin in self._contents().admins
            if admin.active
        ]

    @method(returns={"command": "s", "seconds": "u"}, action=PolkitAction.ADMINS)
    async def issue_claim(self, call: Call) -> tuple[str, int]:
        """The command that makes the user who writes it in a room an admin, and how long it does; it works once.

        Errors: StoreUnavailable, when an admin could not be saved now.
        """
        await self._state.check_writable()
        log.info("An operator has got a code with which a chat user can become an admin")
        return f"{self._prefix}{CLAIM} {self._claims.issue()}", VALID_S

    @method(takes={"user": "t"}, returns={"added": "b"}, action=PolkitAction.ADMINS)
    async def add_admin(self, call: Call, user: int) -> bool:
        """Make somebody an admin in all meshes. Errors: InvalidArgument, StoreUnavailable."""
        # Nobody else has added the first one.
        added = await self._state.add_admin(validation.user_id(user), added_by=user)
        if added:
            log.info("An operator has made user %d an admin", user)
        return added

    @method(takes={"user": "t"}, returns={"removed": "b"}, action=PolkitAction.ADMINS)
    async def remove_admin(self, call: Call, user: int) -> bool:
        """Take the right away. Errors: InvalidArgument, LastAdmin, StoreUnavailable."""
        removed = await self._state.remove_admin(validation.user_id(user))
        if removed:
            log.info("An operator has removed the admin %d", user)
        return removed

    @method(returns={"changes": "a(ttstsb)"}, action=PolkitAction.READ)
    async def list_chat_changes(self, call: Call) -> list[tuple[int, int, str, int, str, bool]]:
        """Number, when, mesh, user id, words, and whether it is undone, of the latest changes from rooms."""
        return [
            (
                each.number,
                _microseconds(each.at),
                each.mesh,
                each.user,
                printable(each.words, _LONGEST),
                each.undone,
            )
            for each in self._state.chat_changes
        ]

    @method(takes={"number": "t"}, returns={"undone": "b"}, action=PolkitAction.ADMINS)
    async def undo_chat_change(self, call: Call, number: int) -> bool:
        """Take a change back. Errors: InvalidArgument, Conflict, LastAdmin, StoreUnavailable."""
        undone = await self._state.undo(number)
        if undone:
            log.info("An operator has undone change %d, which was made from a room", number)
        return undone

    @method(returns={"users": "a(ttt)"}, action=PolkitAction.READ)
    async def list_ignored_users(self, call: Call) -> list[list[int]]:
        """User id, who has had them ignored, and when. Errors: StoreUnavailable until the store is read."""
        return [[each.user_id, each.added_by, _microseconds(each.added_at)] for each in self._contents().ignored]

    @method(takes={"user": "t"}, returns={"ignored": "b"}, action=PolkitAction.ADMINS)
    async def ignore_user(self, call: Call, user: int) -> bool:
        """Have no bot listen to a user. Errors: InvalidArgument (also for an admin), StoreUnavailable."""
        ignored = await self._state.ignore_user(validation.user_id(user), _OPERATOR)
        if ignored:
            log.info("An operator has had user %d ignored", user)
        return ignored

    @method(takes={"user": "t"}, returns={"removed": "b"}, action=PolkitAction.ADMINS)
    async def unignore_user(self, call: Call, user: int) -> bool:
        """Have bots listen to a user again. Errors: InvalidArgument, StoreUnavailable."""
        heard = await self._state.unignore_user(validation.user_id(user))
        if heard:
            log.info("An operator has user %d no longer ignored", user)
        return heard

    @method(takes={"user": "t"}, returns={"entries": "u"}, action=PolkitAction.ADMINS)
    async def forget_user(self, call: Call, user: int) -> int:
        """Remove what is kept of a user. Errors: InvalidArgument (also for an admin), StoreUnavailable."""
        removed = await self._memory.forget_user(validation.user_id(user))
        log.info("An operator has had a user forgotten")
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
        name = validation.command(command)
        described = {each.command: each.description for each in self._contents().permissions}
        description = validation.description(described.get(name, ""), name)
        await self._state.set_permission(name, requires_admin, description, _OPERATOR)
        whom = "admins only" if requires_admin else "everybody"
        log.info("An operator has set the command %s to be for %s", name, whom)

    @method(takes={"command": "s"}, returns={"removed": "b"}, action=PolkitAction.ADMINS)
    async def remove_permission(self, call: Call, command: str) -> bool:
        """Reset a command to its default permission. Errors: InvalidArgument, StoreUnavailable."""
        name = validation.command(command)
        removed = await self._state.remove_permission(name)
        if removed:
            log.info("An operator has undone what was set for the command %s", name)
        return removed

    @method(returns={"admins": "u", "permissions": "u"}, action=PolkitAction.OPERATE)
    async def refresh(self, call: Call) -> tuple[int, int]:
        """Read own commands and the store again, renew the credentials file, and have all meshes follow.

        Errors: StoreUnavailable; commands are read all the same.
        """
        await self._refresh()
        log.info("An operator has had everything read again")
        return self._counts()

    @method(returns={"text": "s"}, action=PolkitAction.CREDENTIALS)
    async def export_store(self, call: Call) -> str:
        """All that the store holds now, secrets included, as JSON. Errors: BadData, StoreUnavailable, TooLarge."""
        contents, rooms = await self._all()
        # Counted before anything is made of it: all of it at once takes several times its size.
        if sum(size(each.text) for each in rooms) > _MAX_MESSAGE:
            text = f"rooms remember more than {_MAX_MESSAGE // 1024**2} MiB, which is too much for a message"
            raise RaveError(Code.TOO_LARGE, text, hint="SaveStore, which root may call, writes it to a file")
        text = export.to_json(contents, rooms)
        log.info("An operator has exported the store")
        return text

    @method(takes={"file": "h"}, action=PolkitAction.CREDENTIALS)
    async def save_store(self, call: Call, file: int) -> None:
        """Write what ExportStore gives to a file, however much it is.

        Errors: BadData, InvalidArgument, StoreUnavailable.
        """
        contents, rooms = await self._all()
        # One of its own: a call that is broken off closes the file, whose number goes to the next one that is opened.
        await asyncio.to_thread(export.write, os.dup(file), contents, rooms)
        log.info("An operator has exported the store")

    @method(takes={"file": "h"}, returns={"admins": "u", "permissions": "u"}, action=PolkitAction.CREDENTIALS)
    async def import_store(self, call: Call, file: int) -> tuple[int, int]:
        """Put what ExportStore gave in the place of everything; without an account in it there is none any more.

        Errors: BadData, InvalidArgument, StoreUnavailable.
        """
        # A call that is broken off closes the file while it is being read; nobody gets then what was read.
        found = await asyncio.to_thread(export.read, file)
        await self._account.replace(found.contents)
        if found.rooms is not None:
            await self._memory.replace(found.rooms)
        log.info("An operator has replaced all that the store holds")
        return self._counts()

    @method(takes={"file": "h"}, returns={"answer": "s"}, action=PolkitAction.CREDENTIALS)
    async def import_credentials(self, call: Call, file: int) -> str:
        """Take the account of a credentials file if there is none yet: taken, else same or other, which stays.

        Errors: BadData, InvalidArgument, StoreUnavailable.
        """
        answer = await self._account.offer(await asyncio.to_thread(account_file.read_handed, file))
        log.info("An operator has offered an account: %s", answer)
        return answer.value

    def show(self, status: str, *, login_needed: bool) -> None:
        """Take over what the parts say; `status` is one line for people."""
        states = self._fleet.states
        self.set(
            Status=status,
            Meshes=len(states),
            Connected=states.count("connected"),
            Unhealthy=states.count("unhealthy"),
            Outdated=len(self._roll.outdated()),
            DiscoveryError=str(self._discovery.error or ""),
            LastDiscoveryTimestamp=int(self._discovery.last_good * 1_000_000),
            StaleSinceTimestamp=int(self._discovery.stale_since * 1_000_000),
            HeldBack=self._discovery.census.held_back,
            StoreError=str(self._state.error or ""),
            HasAccount=self._state.has_account,
            LoginNeeded=login_needed,
            IdentityMissing=[f"{key}: {usual_shape(key)}" for key in self._account.identity_missing],
            LoginStep=self._account.step,
            Admins=len(self._state.admins),
            Permissions=len(self._state.overrides),
            UnshownMessages=unshown(self._fleet.records.values()),
            CommandErrors=command_errors(self._fleet.records.values()),
        )

    def discovery_finished(self) -> None:
        """Announce the end of a round."""
        meshes = len(self._discovery.census.meshes or {})
        self.emit("DiscoveryFinished", self._discovery.round, meshes, str(self._discovery.error or ""))

    def login_progress(self, step: str, seconds: float) -> None:
        """Announce how far a login is, and for how long its link can still be followed."""
        self.emit("LoginProgress", step, max(0, round(seconds)))

    def login_finished(self, error: RaveError | None) -> None:
        """Announce the end of a login, and why it has failed."""
        self.emit("LoginFinished", error.code.value if error else "", str(error or ""))

    def roll_progress(self, done: int, total: int, mesh: str) -> None:
        """Announce how far a roll is, and whose turn it is."""
        self.emit("RollProgress", done, total, mesh)

    def roll_finished(self, error: RaveError | None) -> None:
        """Announce the end of a roll, and what has stopped it."""
        self.emit("RollFinished", error.code.value if error else "", str(error or ""))

    async def _all(self) -> tuple[Contents, list[RoomDocument]]:
        """All that the store holds now. Raises `RaveError`: BadData, StoreUnavailable."""
        contents = await self._state.refresh()
        if contents.unusable:
            # A dump without an account would pass for all there was.
            text = f"not all of the store can be exported: {contents.unusable}"
            raise RaveError(Code.BAD_DATA, text, hint="mend it, or log in again")
        return contents, await self._memory.export()

    def _record(self, mesh: str) -> MeshState:
        record = self._fleet.find(names.mesh_id(mesh))
        if record is None:
            raise _no_such_mesh(mesh)
        return record

    def _facts(self, record: MeshState) -> ExplainInput:
        block = record.block
        return ExplainInput(
            record=record,
            decision=next((each for each in self._fleet.plan() if each.mesh == record.mesh), None),
            memory=self._blocks.memory(record.mesh),
            retry=self._blocks.to_wall_us(block.until) if block and block.until is not None else 0,
            blocked_since=self._blocks.to_wall_us(block.since) if block else 0,
            last_discovery=int(self._discovery.last_good * 1_000_000),
            discovery_error=self._discovery.error,
            outdated=self._roll.is_outdated(record),
            silence=self._fleet.health.silence(record.mesh),
            obstacle=self._discovery.obstacle,
        )

    def _contents(self) -> Contents:
        if self._state.snapshot is None:
            why = self._state.error.message if self._state.error else "it has not been read yet"
            raise RaveError(Code.STORE, f"it is not known what the store holds: {why}")
        return self._state.snapshot

    def _counts(self) -> tuple[int, int]:
        return len(self._state.admins), len(self._state.overrides)


def _date(microseconds: int) -> str:
    """A time since the epoch for people, in the time zone of the machine."""
    return time.strftime("on %Y-%m-%d at %H:%M", time.localtime(microseconds // 1_000_000))


def _microseconds(time: datetime) -> int:
    return max(0, (time - _EPOCH) // timedelta(microseconds=1))


def _no_such_mesh(mesh: str) -> RaveError:
    return RaveError(Code.NO_SUCH_MESH, f"there is no mesh {mesh}", hint="ravectl list shows those that there are")
