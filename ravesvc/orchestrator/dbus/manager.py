"""The service as a whole on the bus, for operators. packaging/dbus has the contract as XML."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import ClassVar

from ravesvc import names
from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.bus import Call, Interface, Variant, method
from ravesvc.common.text import count, printable
from ravesvc.core.explain import ExplainInput, details, explain
from ravesvc.core.host_record import HostRecord
from ravesvc.core.inventory import Discovery
from ravesvc.core.mesh_state import MeshState, command_errors, unshown
from ravesvc.core.reconciler import Fleet
from ravesvc.core.rolling_restart import RollingRestart
from ravesvc.core.start_policy import StartPolicy
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus.account import AccountObject
from ravesvc.orchestrator.dbus.permissions import PermissionsObject
from ravesvc.orchestrator.dbus.polkit import Authority
from ravesvc.store.cached_store import CachedStore
from ravesvc.version import __version__

log = logging.getLogger(__name__)

_MAX_TEXT_CHARS = 500

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
    """The meshes."""

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
        "UnshownMessages": "u",
        "CommandErrors": "as",
    }
    signals: ClassVar = {
        "DiscoveryFinished": {"round": "u", "meshes": "u", "error": "s"},
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
        account: AccountObject,
        permissions: PermissionsObject,
        starts: StartPolicy,
        hosts: HostRecord,
    ) -> None:
        super().__init__(authority)
        self._authority = authority
        self._fleet = fleet
        self._discovery = discovery
        self._blocks = blocks
        self._roll = roll
        self._state = state
        self._account = account
        self._permissions = permissions
        self._starts = starts
        self._hosts = hosts
        self.set(Version=__version__)

    @method(returns={"status": "a{sv}"}, action=PolkitAction.READ)
    async def get_status(self, call: Call) -> dict[str, Variant]:
        """Every property of Manager, Account and Permissions, and what costs a look at all meshes: see the XML."""
        blocks = Counter(block.reason.value for block in self._blocks.announced.values())
        return {
            **self.values(),
            **self._account.values(),
            **self._permissions.values(),
            "Store": Variant("s", self._state.engine),
            "StoreError": Variant("s", str(self._state.error or "")),
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
        return [
            (each.mesh, each.action.value, printable(each.reason, _MAX_TEXT_CHARS)) for each in self._fleet.plan()
        ]

    @method(takes={"id": "s"}, returns={"lines": "as", "details": "a{sv}"}, action=PolkitAction.READ)
    async def explain(self, call: Call, id: str) -> tuple[list[str], dict[str, Variant]]:  # noqa: A002
        """Why a mesh runs or does not, in sentences and for programs. Errors: InvalidArgument, NoSuchMesh."""
        facts = self._facts(self._record(id))
        return [printable(line, _MAX_TEXT_CHARS) for line in explain(facts, _date)], {
            name: Variant(_DETAILS[name], value) for name, value in details(facts).items()
        }

    @method(takes={"id": "s"}, returns={"state": "s", "silence_usec": "t", "healthy": "b"}, action=PolkitAction.READ)
    async def get_health(self, call: Call, id: str) -> tuple[str, int, bool]:  # noqa: A002
        """The state of a mesh, how long ago its process last sent or answered something, and whether it is healthy.

        The silence is 0 when it has no process that could answer; it counts as healthy then. Errors: InvalidArgument,
        NoSuchMesh.
        """
        record = self._record(id)
        silence = int(self._fleet.health.silence(record.mesh) * 1_000_000)
        return record.state, silence, record.worker.healthy

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

    @method(returns={"host": "s"}, action=PolkitAction.OPERATE)
    async def take_over(self, call: Call) -> str:
        """Have the account's bots run on this host, no longer on another; returns that one, empty if none has them.

        Errors: StoreUnavailable.
        """
        return await self._hosts.take_over()

    def show(self, status: str) -> None:
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
            UnshownMessages=unshown(self._fleet.records.values()),
            CommandErrors=command_errors(self._fleet.records.values()),
        )

    def discovery_finished(self) -> None:
        """Announce the end of a round."""
        meshes = len(self._discovery.census.meshes or {})
        self.emit("DiscoveryFinished", self._discovery.round, meshes, str(self._discovery.error or ""))

    def roll_progress(self, done: int, total: int, mesh: str) -> None:
        """Announce how far a roll is, and whose turn it is."""
        self.emit("RollProgress", done, total, mesh)

    def roll_finished(self, error: RaveError | None) -> None:
        """Announce the end of a roll, and what has stopped it."""
        self.emit("RollFinished", error.code.value if error else "", str(error or ""))

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


def _date(microseconds: int) -> str:
    """A time since the epoch for people, in the time zone of the machine."""
    return time.strftime("on %Y-%m-%d at %H:%M", time.localtime(microseconds // 1_000_000))


def _no_such_mesh(mesh: str) -> RaveError:
    return RaveError(Code.NO_SUCH_MESH, f"there is no mesh {mesh}", hint="ravectl list shows those that there are")
