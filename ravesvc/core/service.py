"""The service without what runs its bots and what shows it: the parts of the core, and how they are connected.

`orchestrator/app.py` puts it on the bus, with bots that are units; `single/app.py` has bots that are tasks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from ravesvc.api.models import Listing
from ravesvc.api.refusal import IDENTITY_REFUSALS
from ravesvc.blocklist.blocklist import Blocklist, log_change
from ravesvc.blocklist.model import BlocklistChange, Reason, What
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.common.settled import Settled
from ravesvc.common.signal import Signal
from ravesvc.common.steady_clock import Clock
from ravesvc.common.text import count
from ravesvc.config.options import Config
from ravesvc.core import command_packages
from ravesvc.core.account import Account, nothing_starts
from ravesvc.core.admin_claims import Claims
from ravesvc.core.bot_requests import BotRequests
from ravesvc.core.canary import Canary
from ravesvc.core.chat_limits import ChatRules
from ravesvc.core.host_record import HostRecord
from ravesvc.core.inventory import Discovery
from ravesvc.core.mesh_state import MeshState, usual_chat_form
from ravesvc.core.plan import BotLimits
from ravesvc.core.presence_check import PresenceCheck
from ravesvc.core.rave_client import RaveClient
from ravesvc.core.reconciler import Reconciler
from ravesvc.core.rolling_restart import RollingRestart
from ravesvc.core.room_memory import RoomMemory
from ravesvc.core.runner import Runner
from ravesvc.core.scope_file import ScopeFile
from ravesvc.core.start_policy import StartPolicy
from ravesvc.core.trial import TrialFile
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.chat_change_log import ChangeRecord
from ravesvc.store.factory import make_store
from ravesvc.store.model import Host
from ravesvc.store.permissions_cache import PermissionsCache

log = logging.getLogger(__name__)

# Beside the embedded store, whichever store is in use.
_CACHE = "permissions.json"
_CHANGES = "changes.json"
_SCOPE = "discovery.json"
_TRIAL = "canary.json"


@dataclass(frozen=True, slots=True)
class LoginProgress:
    """A login has come to this step, and this many seconds are left to follow the link of its mail."""

    step: str
    seconds: float


class BotService:
    """Lives once: `open`, then `start`, then `loops`, `begin_closing` and `close`.

    Raises `RaveError` (Config) for a database that can't be one.

    Args:
        host: the record of the account says that it runs here.
        plugins: the directory from which bots load plugins.
        before_round: awaited before each round of discovery.

    Attributes:
        changed: anything that a status tells may be different.
        mesh_changed: a mesh may look different, or has just left `reconciler.records`.
        block_changed: a change of the blocklist is on disk.
        blocklist_changed: whether the blocklist can be used, and saved, may be different.
        login_progress: a login takes another step.
        login_ended: with what made it fail, or None.
        round_ended: a round of discovery has ended.
    """

    def __init__(
        self,
        settings: Config,
        runner: Runner,
        host: Host,
        plugins: Path,
        before_round: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.changed: Signal[None] = Signal("changes")
        self.mesh_changed: Signal[MeshState] = Signal("changes of a mesh")
        self.block_changed: Signal[BlocklistChange] = Signal("changes of the blocklist")
        self.blocklist_changed: Signal[None] = Signal("states of the blocklist")
        self.login_progress: Signal[LoginProgress] = Signal("progress of a login")
        self.login_ended: Signal[RaveError | None] = Signal("ends of a login")
        self.round_ended: Signal[None] = Signal("rounds of discovery")
        self._settings = settings
        self._runner = runner
        self._before_round = before_round
        self.blocklist = Blocklist(
            settings.blocklist_persist_path,
            settings.blocklist_duration,
            Clock(),
            announce=self._block_changed,
            changed=self._blocklist_changed,
            title_of=lambda mesh: self.reconciler.title(mesh),
            advice=settings.advice,
        )
        self.starts = StartPolicy(settings.servers.api_host, settings.starts_per_minute)
        self.rave = RaveClient(settings, self.starts.pauses, changed=self._changed)
        store = make_store(
            settings.database,
            settings.state_path,
            lambda answers: self.state.reachable(answers),
            settings.advice.restart,
        )
        self.state = CachedStore(
            store,
            self.announce,
            self._changed,
            copy=PermissionsCache(settings.state_path.with_name(_CACHE)),
            record=ChangeRecord(settings.state_path.with_name(_CHANGES)),
        )
        self.hosts = HostRecord(store, host, self._host_changed, advice=settings.advice)
        self.account = Account(
            settings,
            self.state,
            self._account_changed,
            progress=lambda step, seconds: self._login_progress(LoginProgress(step, seconds)),
            ended=self._login_ended,
        )
        self.discovery = Discovery(self._read_list, settings.discovery_interval, self._round_ended)
        self.discovery.suspend(RaveError(Code.NOT_RUNNING, "the service is still starting"))
        self.reconciler = Reconciler(
            runner=runner,
            inventory=self.discovery.inventory,
            blocklist=self.blocklist,
            limits=self._bot_limits,
            interval=settings.status_poll_interval,
            changed=self._mesh_changed,
            leave=self._leave,
            answers=self._answers,
            own_user=lambda: self._user or 0,
            starts=self.starts,
            advice=settings.advice,
        )
        self.roll = RollingRestart(self.reconciler, settings.edition())
        self.claims = Claims(settings.advice.claim)
        presence = PresenceCheck(self.rave.users)
        self.memory = RoomMemory(
            self.state,
            settings.history_retention,
            # The bots of another host that has the account use the same store.
            in_use=lambda: None if self.hosts.other else self.reconciler.in_use(),
            tell_forget=self.reconciler.forget_user,
            presence=presence,
        )
        self.canary = Canary(
            plugins,
            TrialFile(settings.state_path.with_name(_TRIAL)),
            self.reconciler.records,
            reread=lambda mesh: runner.announce(mesh, Announcement.COMMANDS),
            reread_all=lambda: self.announce(Announcement.COMMANDS),
        )
        self.requests = BotRequests(
            self.blocklist,
            self.state,
            self.account,
            self.claims,
            self.memory,
            presence,
            _chat_rules(settings),
            self.refresh,
            pause=self.reconciler.pause,
            chat_form=lambda mesh: usual_chat_form(mesh, self.reconciler.records),
            tried_plugins=self.canary.versions,
        )
        self._scope = ScopeFile(settings.state_path.with_name(_SCOPE))
        self._user: int | None = None
        self._login_refused: RaveError | None = None  # by what no login cures
        self._started = self._closing = False
        self._edits = Settled(self.blocklist.reload)

    async def open(self) -> None:
        """Read the store and the account."""
        self.discovery.inventory.enter(self._scope.load())
        await asyncio.to_thread(self.canary.load)
        await self.state.start()
        await self.account.adopt()

    async def look_for_other_host(self) -> None:
        """Find out whether another host has the account, before any bot is started.

        Without an answer of the store the service starts as ever.
        """
        if not self.state.error:
            await self.hosts.look()

    async def start(self) -> None:
        """Find the bots that run; the blocklist is read by now. Raises `RaveError` as the runner does."""
        self.requests.entry_points = await asyncio.to_thread(command_packages.find)
        await self.reconciler.start()
        self.canary.resume()
        self._started = True
        if self.account.session is None:
            self._log_obstacle()
        if self.hosts.other:
            # Bots that run here have outlived the time in which this host had the account.
            self.reconciler.reconcile()
        self._discover_if_possible()

    def loops(self) -> tuple[Awaitable[object], ...]:
        """The loops that run for as long as the service does."""
        return (
            self.discovery.run(),
            self.reconciler.health.run(),
            self.blocklist.work(),
            self.state.work(),
            self.hosts.run(),
            self.memory.run(),
        )

    def begin_closing(self) -> None:
        """Start and stop no more bots, and send no more requests to Rave."""
        self._closing = True
        self.reconciler.stop_planning()

    async def close(self) -> None:
        """Save what is not saved yet, and close the files. The reconciler must be closed before."""
        await self.canary.close()
        await self.account.close()
        await self.rave.close()
        await self._edits.close()
        await self.blocklist.close()
        self.hosts.close()
        await self.state.close()

    @property
    def obstacle(self) -> RaveError | None:
        """Why no round of discovery can begin; None if one can."""
        return self.blocklist.error or self.hosts.obstacle or self.account.obstacle

    @property
    def login_needed(self) -> bool:
        """Whether a login would help."""
        obstacle = self.account.obstacle
        refused = self.discovery.login_needed and not self.identity_refused
        return refused or (obstacle is not None and obstacle.code is Code.LOGIN_NEEDED)

    @property
    def identity_refused(self) -> RaveError | None:
        """Why a login would not help: Rave says so, or has refused the signature of a token that was new."""
        return self.discovery.identity_refused or self._login_refused

    async def announce(self, announcement: Announcement) -> None:
        """Broadcast a change of the store to all bots, after the service has applied it."""
        if announcement is Announcement.CREDENTIALS:
            await self.account.adopt()
        what, begun = announcement.name.lower(), time.monotonic()
        done, failed = await self._runner.broadcast(announcement)
        if done or failed:
            took_ms = (time.monotonic() - begun) * 1000
            log.info("The new %s reached %s in %.0f ms", what, count(done, "mesh"), took_ms)
        if failed:
            log.warning("The new %s did not reach %s yet", what, count(failed, "mesh"))

    async def refresh(self) -> None:
        """Read store and plugins again, in the service and in all bots, also if nothing has changed."""
        # Plugins can be read even if the store can't.
        self.requests.entry_points = await asyncio.to_thread(command_packages.find)
        await self.canary.settle()
        await self.announce(Announcement.COMMANDS)
        await self.state.refresh()
        others = [announcement for announcement in Announcement if announcement is not Announcement.COMMANDS]
        await asyncio.gather(*map(self.announce, others))
        # The operator who refreshes is shown what is loaded then.
        await self.reconciler.health.ask_again()

    def apply(self, settings: Config) -> None:
        """Put other options into force. They may differ from those before in what a reload applies."""
        self._settings = settings
        self.blocklist.set_duration(settings.blocklist_duration)
        self.starts.set_pace(settings.starts_per_minute)
        self.rave.configure(settings)
        self.account.settings = settings
        self.discovery.interval = settings.discovery_interval
        self.reconciler.health.set_interval(settings.status_poll_interval)
        self.memory.retention = settings.history_retention
        self.requests.set_rules(_chat_rules(settings))
        self.roll.edition = settings.edition()
        for record in self.reconciler.records.values():
            # It may be outdated by now.
            self.mesh_changed.emit(record)
        self.reconciler.reconcile()
        # By another list, and at the new interval.
        self._discover_if_possible()

    def blocklist_edited(self) -> None:
        """The file of the blocklist has changed, perhaps by a save of the service itself: read it soon."""
        self._edits.edited()

    async def _read_list(self) -> Listing:
        """A round of discovery. What the last one has changed is done by now: the next process may build on it."""
        if self._before_round:
            await self._before_round()
        await self._scope.keep(self.discovery.inventory.scope)
        return await self.rave.meshes(self.reconciler.enough)

    def _bot_limits(self) -> BotLimits:
        settings = self._settings
        trusted = self.state.admins | {self._user or 0}
        return BotLimits(settings.max_processes, settings.max_meshes_per_user, trusted)

    async def _answers(self) -> bool:
        """Whether Rave answers."""
        if self._closing or self.obstacle or self.discovery.error:
            return False
        return await self.discovery.check()

    async def _leave(self, mesh: str) -> None:
        """Leave a mesh on Rave's side, and see that lists know it: what lists it afterwards is a new invitation."""
        await self.rave.leave(mesh)
        self.discovery.ask()

    def _changed(self) -> None:
        self.changed.emit(None)

    def _mesh_changed(self, record: MeshState) -> None:
        self.roll.mesh_changed(record)
        self.canary.mesh_changed(record)
        self.mesh_changed.emit(record)
        self._changed()

    def _block_changed(self, change: BlocklistChange) -> None:
        """Apply a change of the blocklist that is on disk."""
        log_change(change)
        if change.what is What.BLOCKED and change.block.reason is Reason.LEFT:
            # As in `_leave`; here the bot has left by itself.
            self.discovery.ask()
        self.block_changed.emit(change)
        self.reconciler.block_changed(change)
        if not self.blocklist.announcements_left:
            # What has thousands of entries takes its time to be counted, and more is to come.
            self._changed()

    def _blocklist_changed(self) -> None:
        self.blocklist_changed.emit(None)
        if self.blocklist.error is not self.discovery.obstacle:
            self._discover_if_possible()
        self._changed()

    def _host_changed(self) -> None:
        """React when another host takes the account, or gives it up."""
        if self.hosts.other:
            self.discovery.inventory.forget_for_good()
            if self._started:
                self.reconciler.reconcile()
        elif self.account.session:
            self.discovery.inventory.forget_all()
            self.discovery.session_changed()
        self._discover_if_possible()

    def _account_changed(self) -> None:
        """Apply a new session, or the loss of the session."""
        session = self.account.session
        self.rave.use(session)
        if session is None:
            if self._started:
                self._log_obstacle()
            if self._user is not None and self.state.loaded and not self.state.has_account:
                # It was taken out of the store; one that Rave refuses, or that can't be read, stays in its meshes.
                log.warning("There is no account any more: its meshes are stopped")
                self._user = None
                self.discovery.inventory.forget_for_good()
                self.reconciler.reconcile()
        else:
            if self.discovery.inventory.enter(self.rave.scope):
                log.warning(
                    "From now on it is %s: what is listed takes the place of the former ones", self.rave.scope
                )
            self._user = session.user_id
            self.starts.outages.clear()
            self.discovery.session_changed()
        self._discover_if_possible()

    def _log_obstacle(self) -> None:
        if obstacle := self.account.obstacle:
            extra = about(event=LogEvent.NOTHING_STARTS, cause=obstacle.code)
            log.error("%s", nothing_starts(obstacle), extra=extra)

    def _discover_if_possible(self) -> None:
        """Suspend or resume discovery, which needs a session and a readable blocklist."""
        if self.obstacle:
            self.discovery.suspend(self.obstacle)
        elif self.account.session and self._started:
            self.discovery.resume()
        self._changed()

    def _login_progress(self, progress: LoginProgress) -> None:
        self.login_progress.emit(progress)
        self._changed()

    def _login_ended(self, error: RaveError | None) -> None:
        if error is None or error.code in IDENTITY_REFUSALS:
            self._login_refused = error
        self.login_ended.emit(error)
        if error is None:
            # Also if the session is the same, because Rave may accept again what it has refused until now.
            self.starts.outages.clear()
            self.discovery.session_changed()
        self._changed()

    def _round_ended(self) -> None:
        if self.discovery.error is None:
            self._login_refused = None
        if self.discovery.listed:
            self.reconciler.reconcile()
        self.round_ended.emit(None)
        self._changed()


def _chat_rules(settings: Config) -> ChatRules:
    return ChatRules(
        admins_by_chat=settings.admins_by_chat,
        hourly_changes_per_mesh=settings.hourly_changes_per_mesh,
        hourly_changes=settings.hourly_changes,
    )
