"""The service as a whole on the bus, for operators."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from ravesvc import names
from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.bot.backend import MAX_SETTING_CHARS
from ravesvc.bus import Call, Interface, Variant, method
from ravesvc.common.text import count, printable
from ravesvc.core.explain import ExplainInput, details, explain
from ravesvc.core.health import stats
from ravesvc.core.host_record import HostRecord
from ravesvc.core.inventory import Discovery
from ravesvc.core.mesh_state import MeshState, command_errors, plugins, unshown
from ravesvc.core.plan import Action
from ravesvc.core.reconciler import Reconciler
from ravesvc.core.rolling_restart import RollingRestart
from ravesvc.core.start_policy import StartPolicy
from ravesvc.core.worker_status import SettingInfo
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus.account import AccountObject
from ravesvc.orchestrator.dbus.permissions import PermissionsObject
from ravesvc.orchestrator.dbus.polkit import AccessCheck
from ravesvc.store.cached_store import CachedStore
from ravesvc.version import __version__

if TYPE_CHECKING:
    # It needs yaml, which the build of the packages, where this is read for manual pages, does without.
    from ravesvc.orchestrator.config_changes import ConfigFile

log = logging.getLogger(__name__)

_MAX_TEXT_CHARS = 500

# Of outages and of pauses that are told.
_MAX_SENTENCES = 16

# The types of what `explain.details` tells.
_DETAILS = {
    "Title": "s",
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


# The keys of GetStatus that are no properties of Manager, Account and Permissions, with their types.
STATUS_TYPES = {
    "Store": "s",
    "StoreError": "s",
    "States": "a{su}",
    "Blocks": "a{su}",
    "BlocklistError": "s",
    "Obstacle": "s",
    "Outages": "as",
    "Pauses": "as",
    "Plugins": "a(sssu)",
    "Summary": "s",
}


class ManagerObject(Interface):
    """The service as a whole, at /org/ravesvc/Rave1 of org.ravesvc.Rave1.

    Every property changes with a signal. Timestamps are microseconds of CLOCK_REALTIME, 0 for never.

    Properties:
        Version: The version of the service.
        Status: One line for people, as in systemctl status.
        Meshes: How many meshes there are.
        Connected: How many of them are connected.
        Unhealthy: Meshes whose processes do not answer.
        Outdated: Meshes whose processes run an older program or other settings than a new one would.
        DiscoveryError: Why the last round of discovery failed; empty if it did not.
        LastDiscoveryTimestamp: When the list was last read to its end, believed or not.
        StaleSinceTimestamp: The last good round before rounds began to fail, or to lack so many meshes that it is not
            believed (HeldBack); 0 when neither is so.
        HeldBack: Meshes that vanished at once, whose loss is not believed.
        UnshownMessages: How many messages of all bots had no echo, as far as they can tell: their servers may not
            have shown them.
        CommandErrors: What is wrong with plugins in any mesh, to load or while they run: a sentence for each
            file or package.
        ConfigNote: How rave.yaml differs from the options in force, or what is wrong with it, and what to run; empty
            if it does not differ.
        ReloadedOptions: The options that the last reload applied from rave.yaml.

    Signals:
        RollProgress: How many outdated bots have been replaced, how many there are, and whose turn it is (empty after
            the last).
        RollFinished: A roll is over: the code of what has stopped it and its words, both empty if it has come to its
            end.
        DiscoveryFinished: A round is over: its number, counted from the start of the service, how many meshes are
            believed to be there, and why the round failed (empty if it did not).
    """

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
        "ConfigNote": "s",
        "ReloadedOptions": "as",
    }
    signals: ClassVar = {
        "DiscoveryFinished": {"round": "u", "meshes": "u", "error": "s"},
        "RollProgress": {"done": "u", "total": "u", "id": "s"},
        "RollFinished": {"error": "s", "message": "s"},
    }

    def __init__(
        self,
        access: AccessCheck,
        *,
        reconciler: Reconciler,
        discovery: Discovery,
        blocklist: Blocklist,
        roll: RollingRestart,
        state: CachedStore,
        account: AccountObject,
        permissions: PermissionsObject,
        starts: StartPolicy,
        hosts: HostRecord,
        config_file: ConfigFile,
    ) -> None:
        super().__init__(access)
        self._access = access
        self._reconciler = reconciler
        self._discovery = discovery
        self._blocklist = blocklist
        self._roll = roll
        self._state = state
        self._account = account
        self._permissions = permissions
        self._starts = starts
        self._hosts = hosts
        self._config_file = config_file
        self._summary = ""
        self.set(Version=__version__)

    @method(returns={"status": "a{sv}"}, action=PolkitAction.READ)
    async def get_status(self, call: Call) -> dict[str, Variant]:
        """All that the service tells of itself.

        More keys may come. It has every property of Manager, Account and Permissions; Store and StoreError (s), which
        are Engine and Error of Store; BlocklistError (s), which is Error of Blocklist; States (a{su}), the number of
        meshes in each state; Blocks (a{su}), the number of entries of the blocklist for each reason; Obstacle (s),
        why no mesh is started, or empty; Outages (as), what most meshes fail by for no fault of their own, and Pauses
        (as), which of Rave's hosts ask for a pause, a sentence each; Plugins (a(sssu)), what is in force in any mesh:
        file or module, version, names of its commands, and in how many meshes; and Summary (s), the Status without
        what CommandErrors and ConfigNote say.
        """
        reasons = Counter(block.reason.value for block in self._blocklist.announced.values())
        more = {
            "Store": self._state.engine,
            "StoreError": str(self._state.error or ""),
            "States": dict(Counter(self._reconciler.states)),
            "Blocks": dict(reasons),
            "BlocklistError": str(self._blocklist.error or self._blocklist.save_error or ""),
            "Obstacle": str(self._discovery.obstacle or self._discovery.identity_refused or ""),
            "Outages": self._starts.outages.sentences()[:_MAX_SENTENCES],
            "Pauses": self._starts.pauses.all_words()[:_MAX_SENTENCES],
            "Plugins": [[*plugin, meshes] for plugin, meshes in plugins(self._reconciler.records.values())],
            "Summary": self._summary,
        }
        properties = {**self.values(), **self._account.values(), **self._permissions.values()}
        return properties | {name: Variant(STATUS_TYPES[name], value) for name, value in more.items()}

    @method(returns={"meshes": "a(ssso)"}, action=PolkitAction.READ)
    async def list_meshes(self, call: Call) -> list[list[str]]:
        """Id, title, state and object path of every mesh, by id.

        These are the meshes that are listed or have a unit, and the latest 200 that are blocked only; Blocklist has
        all of those.
        """
        return [
            [record.mesh, record.title, record.state, names.mesh_path(record.mesh)]
            for record in sorted(self._reconciler.records.values(), key=lambda record: record.mesh)
        ]

    @method(returns={"meshes": "a(sssstuub)"}, action=PolkitAction.READ)
    async def describe_meshes(self, call: Call) -> list[tuple[str, str, str, str, int, int, int, bool]]:
        """Id, Title, State, Reason, SinceTimestamp, Users, Restarts and Outdated of the meshes of ListMeshes.

        They are as in the objects of the meshes, in one message that is small.
        """
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
            for record in sorted(self._reconciler.records.values(), key=lambda record: record.mesh)
        ]

    @method(takes={"id": "s"}, returns={"mesh": "o"}, action=PolkitAction.READ)
    async def get_mesh(self, call: Call, id: str) -> str:  # noqa: A002 - the argument's name on the wire
        """The object of a mesh. Errors: InvalidArgument, NoSuchMesh."""
        if names.mesh_id(id) not in self._reconciler.records:
            raise _no_such_mesh(id)
        return names.mesh_path(id)

    @method(takes={"id": "s"}, returns={"users": "a(tsb)", "total": "u"}, action=PolkitAction.READ)
    async def list_users(self, call: Call, id: str) -> tuple[list[tuple[int, str, bool]], int]:  # noqa: A002
        """User id, display name and whether they are an admin, of users who are in a mesh now, and their number.

        The bot of the mesh names at most 200.

        Errors: InvalidArgument, NoSuchMesh, NotRunning, Timeout, BadData.
        """
        users, total = await self._reconciler.users(self._record(id).mesh)
        return [(user, name, user in self._state.admins) for user, name in users], total

    @method(takes={"id": "s"}, action=PolkitAction.OPERATE)
    async def start_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        """Lift what keeps a mesh from running, but for a kick and an operator's block, and start it.

        Returns before the mesh is connected: its State tells.

        Errors: InvalidArgument, NoSuchMesh, Blocked, BadFile.
        """
        await self._reconciler.start_mesh(names.mesh_id(id), await self._access.actor(call))

    @method(takes={"id": "s"}, action=PolkitAction.OPERATE)
    async def stop_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        """Stop, and stay stopped until StartMesh.

        A mesh that is blocked after a kick or by an operator stays blocked, and is not held.
        Returns before the process is gone: its State tells.

        Errors: InvalidArgument, NoSuchMesh, BadFile.
        """
        await self._reconciler.stop_mesh(names.mesh_id(id), await self._access.actor(call))

    @method(takes={"id": "s"}, action=PolkitAction.OPERATE)
    async def restart_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        """Give a running mesh another process; returns when that is ready.

        Errors: InvalidArgument, NotRunning, Blocked, Busy.
        """
        await self._reconciler.restart_mesh(names.mesh_id(id))

    @method(takes={"id": "s"}, action=PolkitAction.OPERATE)
    async def reconnect_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        """Have the bot of a running mesh close its connection and open another.

        Errors: InvalidArgument, NotRunning, Timeout.
        """
        await self._reconciler.reconnect_mesh(names.mesh_id(id))

    @method(takes={"id": "s"}, returns={"settings": "a(ssss)", "total": "u"}, action=PolkitAction.READ)
    async def list_settings(self, call: Call, id: str) -> tuple[list[SettingInfo], int]:  # noqa: A002
        """Settings of a mesh, of the bot and of plugins, and how many there are.

        Each has its name, its value, at most 60 characters of it, what it is, and what may be written. The bot of the
        mesh tells the first 32 KiB.

        Errors: Bus (the bot is outdated, and does not know how), InvalidArgument, NoSuchMesh, NotRunning, Timeout,
        BadData.
        """
        return await self._reconciler.settings(self._record(id).mesh)

    @method(takes={"id": "s", "name": "s"}, returns={"setting": "(ssss)"}, action=PolkitAction.READ)
    async def get_setting(self, call: Call, id: str, name: str) -> SettingInfo:  # noqa: A002
        """A setting of a mesh as in ListSettings, with all of its value.

        Errors: Bus (the bot is outdated, and does not know how), InvalidArgument, NoSuchMesh, NotRunning, Timeout,
        BadData.
        """
        return await self._reconciler.setting(self._record(id).mesh, _setting_text(name))

    @method(takes={"id": "s", "name": "s", "value": "s"}, returns={"setting": "(ssss)"}, action=PolkitAction.OPERATE)
    async def change_setting(self, call: Call, id: str, name: str, value: str) -> SettingInfo:  # noqa: A002
        """Change a setting of a mesh, as an admin writes it in the room; "default" resets it.

        Returns the setting when it is saved and in force.

        Errors: Bus (the bot is outdated, and does not know how), InvalidArgument, NoSuchMesh, NotRunning, Timeout,
        BadData, TooLarge, StoreUnavailable, RateLimited.
        """
        mesh, actor = self._record(id).mesh, await self._access.actor(call)
        return await self._reconciler.change_setting(mesh, _setting_text(name), _setting_text(value), actor)

    @method(takes={"id": "s", "debug": "b"}, action=PolkitAction.OPERATE)
    async def set_debug(self, call: Call, id: str, debug: bool) -> None:  # noqa: A002, FBT001
        """Turn debug logging of a running bot on or off.

        Its next process begins as rave.yaml says.

        Errors: Bus (the bot is outdated, and does not know how), InvalidArgument, NotRunning, Timeout.
        """
        await self._reconciler.set_debug(names.mesh_id(id), debug)

    @method(returns={"decisions": "a(sss)"}, action=PolkitAction.READ)
    async def plan(self, call: Call) -> list[tuple[str, str, str]]:
        """Id, what would be done with it now (start, stop, keep or skip), and why, for every mesh of ListMeshes."""
        decisions = {each.mesh: (each.action, each.reason) for each in self._reconciler.plan()}
        # No step follows from a block without a process, so the reconciler plans none.
        blocked = {
            mesh: (Action.SKIP, record.block.describe())
            for mesh, record in self._reconciler.records.items()
            if record.block and mesh not in decisions
        }
        return [
            (mesh, action.value, printable(reason, _MAX_TEXT_CHARS))
            for mesh, (action, reason) in (decisions | blocked).items()
        ]

    @method(takes={"id": "s"}, returns={"lines": "as", "details": "a{sv}"}, action=PolkitAction.READ)
    async def explain(self, call: Call, id: str) -> tuple[list[str], dict[str, Variant]]:  # noqa: A002
        """Why a mesh runs or does not, in sentences, the most important first, and for programs.

        More keys may come. In details are Title, State, Action, Reason, BlockReason, BlockDetail, BlockActor,
        DiscoveryError, LastError, ActiveState, SubState and LastExit (s), Listed, Invited and Outdated (b), Blocks,
        Quarantines, Attempts (each in a row) and Restarts (u), LastDiscoveryTimestamp, BlockSinceTimestamp,
        NextRetryTimestamp and SilenceUSec (t), CommandErrors (as), UnshownMessages (u), and ChatForm (s), the form in
        which the server is known to show chat (request or notification).

        Errors: InvalidArgument, NoSuchMesh.
        """
        facts = self._facts(self._record(id))
        return [printable(line, _MAX_TEXT_CHARS) for line in explain(facts)], {
            name: Variant(_DETAILS[name], value) for name, value in details(facts).items()
        }

    @method(takes={"id": "s"}, returns={"state": "s", "silence_usec": "t", "healthy": "b"}, action=PolkitAction.READ)
    async def get_health(self, call: Call, id: str) -> tuple[str, int, bool]:  # noqa: A002
        """The state of a mesh, microseconds since its process last sent or answered something, and if it is healthy.

        The silence is 0 when the mesh has no process that could answer; it counts as healthy then.

        Errors: InvalidArgument, NoSuchMesh.
        """
        record = self._record(id)
        silence = int(self._reconciler.health.silence(record.mesh) * 1_000_000)
        return record.state, silence, record.worker.healthy

    @method(
        returns=dict.fromkeys(("total", "healthy", "unhealthy", "connected", "disconnected", "stopped"), "u"),
        action=PolkitAction.READ,
    )
    async def get_health_stats(self, call: Call) -> tuple[int, ...]:
        """How many meshes there are of each kind.

        Those that are to run are healthy or unhealthy, healthy ones connected or disconnected.
        """
        return stats(self._reconciler.states)

    @method(returns={"meshes": "u"}, action=PolkitAction.OPERATE)
    async def roll(self, call: Call) -> int:
        """Begin to replace outdated bots one after another; returns how many there are.

        Each is replaced when the one before is connected again. RollProgress and RollFinished tell the rest, after
        the answer; what came before is of another roll.

        Errors: Busy.
        """
        return self._roll.start()

    @method(action=PolkitAction.OPERATE)
    async def cancel_roll(self, call: Call) -> None:
        """Replace no more, if a roll is under way."""
        self._roll.cancel()

    @method(returns={"round": "u"}, action=PolkitAction.OPERATE)
    async def discover(self, call: Call) -> int:
        """Begin a discovery round now, or right after the one that is under way; returns its number.

        DiscoveryFinished has the same number when the round is over.

        Errors: Config, LoginNeeded, StoreUnavailable, BadFile (of the blocklist) as long as no round can begin.
        """
        if self._discovery.obstacle:
            raise self._discovery.obstacle
        return self._discovery.ask()

    @method(returns={"meshes": "u"}, action=PolkitAction.OPERATE)
    async def confirm_losses(self, call: Call) -> int:
        """Believe that the meshes which the last list lacks are gone; returns how many.

        Otherwise more lists have to confirm it.
        """
        gone = self._discovery.inventory.confirm_losses()
        log.info("An operator confirms the loss of %s", count(gone, "mesh"))
        self._reconciler.reconcile()
        return gone

    @method(returns={"host": "s"}, action=PolkitAction.OPERATE)
    async def take_over(self, call: Call) -> str:
        """Have the account's bots run on this host; returns the host that had them, empty if none has.

        The other host uses the same database. Its bots leave within 35 seconds, then those of this host start.

        Errors: StoreUnavailable.
        """
        return await self._hosts.take_over()

    @method(takes={"digest": "s"}, returns={"reloaded": "as", "waiting": "as"}, action=PolkitAction.OPERATE)
    async def reload(self, call: Call, digest: str) -> tuple[list[str], list[str]]:
        """Read rave.yaml and the blocklist's file again; `systemctl reload` calls it.

        Returns the options that are applied now, and the other changed ones, which wait for a restart. `digest` is
        that of the settings which root has left for bots that are started from now on.

        Errors: Config (a mistake in rave.yaml, of which nothing is applied then), InvalidArgument (rave.yaml has
        other settings than that).
        """
        await self._blocklist.reload()
        return await self._config_file.reload(digest)

    def show(self, status: str, summary: str) -> None:
        """Take over what the parts say; `status` is one line for people, `summary` a part of it."""
        self._summary = summary
        states = self._reconciler.states
        self.set(
            Status=status,
            Meshes=len(states),
            Connected=states.count("connected"),
            Unhealthy=states.count("unhealthy"),
            Outdated=len(self._roll.outdated()),
            DiscoveryError=str(self._discovery.error or ""),
            LastDiscoveryTimestamp=int(self._discovery.last_good * 1_000_000),
            StaleSinceTimestamp=int(self._discovery.stale_since * 1_000_000),
            HeldBack=self._discovery.inventory.held_back,
            UnshownMessages=unshown(self._reconciler.records.values()),
            CommandErrors=command_errors(self._reconciler.records.values()),
            ConfigNote=self._config_file.note,
            ReloadedOptions=list(self._config_file.reloaded),
        )

    def discovery_finished(self) -> None:
        """Announce the end of a round."""
        meshes = len(self._discovery.inventory.meshes or {})
        self.emit("DiscoveryFinished", self._discovery.round, meshes, str(self._discovery.error or ""))

    def roll_progress(self, done: int, total: int, mesh: str) -> None:
        """Announce how far a roll is, and whose turn it is."""
        self.emit("RollProgress", done, total, mesh)

    def roll_finished(self, error: RaveError | None) -> None:
        """Announce the end of a roll, and what has stopped it."""
        self.emit("RollFinished", error.code.value if error else "", str(error or ""))

    def _record(self, mesh: str) -> MeshState:
        record = self._reconciler.find(names.mesh_id(mesh))
        if record is None:
            raise _no_such_mesh(mesh)
        return record

    def _facts(self, record: MeshState) -> ExplainInput:
        block = record.block
        return ExplainInput(
            record=record,
            decision=next((each for each in self._reconciler.plan() if each.mesh == record.mesh), None),
            memory=self._blocklist.memory(record.mesh),
            retry=self._blocklist.to_wall_us(block.until) if block and block.until is not None else 0,
            blocked_since=self._blocklist.to_wall_us(block.since) if block else 0,
            last_discovery=int(self._discovery.last_good * 1_000_000),
            discovery_error=self._discovery.error,
            outdated=self._roll.is_outdated(record),
            silence=self._reconciler.health.silence(record.mesh),
            obstacle=self._discovery.obstacle,
        )


def _setting_text(text: str) -> str:
    """The name of a setting, or a value for it; raises `RaveError` (InvalidArgument) for what can be neither."""
    if len(text) > MAX_SETTING_CHARS:
        raise RaveError(Code.INVALID_ARGUMENT, f"a setting has at most {MAX_SETTING_CHARS} characters")
    return text


def _no_such_mesh(mesh: str) -> RaveError:
    return RaveError(Code.NO_SUCH_MESH, f"there is no mesh {mesh}", hint="ravectl list shows those that there are")
