"""rave-orchestrator(8): puts the parent together, and runs it until it is stopped or the bus is gone."""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from ravesvc import names
from ravesvc.api.models import Listing
from ravesvc.api.refusal import IDENTITY_REFUSALS
from ravesvc.blocklist.blocklist import Blocklist, log_change
from ravesvc.blocklist.model import BlocklistChange, Reason, What
from ravesvc.bot.plugins import EntryPoint
from ravesvc.bus import Bus
from ravesvc.bus.turns import Turns
from ravesvc.common import extras, log_limit
from ravesvc.common.coalesced import Coalesced
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.common.log_limit import LogLimit
from ravesvc.common.steady_clock import Clock
from ravesvc.common.text import count
from ravesvc.common.waiting import first_of
from ravesvc.config import rave_yaml
from ravesvc.config.options import Config
from ravesvc.core import command_packages
from ravesvc.core.account import Account
from ravesvc.core.admin_claims import Claims
from ravesvc.core.chat_limits import ChatRules
from ravesvc.core.host_record import HostRecord, this_host
from ravesvc.core.inventory import Discovery
from ravesvc.core.mesh_state import MeshState, command_errors, unshown, usual_chat_form
from ravesvc.core.presence_check import PresenceCheck
from ravesvc.core.rave_client import RaveClient
from ravesvc.core.reconciler import Fleet
from ravesvc.core.rolling_restart import RollingRestart
from ravesvc.core.room_memory import RoomMemory
from ravesvc.core.scope_file import ScopeFile
from ravesvc.core.start_policy import StartPolicy
from ravesvc.core.status_line import Situation, status_line
from ravesvc.core.video_requests import Videos
from ravesvc.errors import Code, RaveError
from ravesvc.media.client import HelperClient
from ravesvc.names import Announcement
from ravesvc.orchestrator.config_changes import ConfigFile
from ravesvc.orchestrator.dbus.backend import BackendObject
from ravesvc.orchestrator.dbus.blocklist import BlocklistObject
from ravesvc.orchestrator.dbus.callers import Callers
from ravesvc.orchestrator.dbus.manager import ManagerObject
from ravesvc.orchestrator.dbus.mesh import MeshObject, MeshObjects
from ravesvc.orchestrator.dbus.polkit import Authority
from ravesvc.orchestrator.exit_notes import ExitNotes
from ravesvc.orchestrator.file_watch import FileWatch
from ravesvc.orchestrator.systemd_runner import SystemdRunner
from ravesvc.orchestrator.worker_log import log_news
from ravesvc.setup import authorities
from ravesvc.setup.check import with_authorities
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.chat_change_log import ChangeRecord
from ravesvc.store.factory import make_store
from ravesvc.store.permissions_cache import PermissionsCache
from ravesvc.systemd import logging as log
from ravesvc.systemd.notify import feed_watchdog, notify, notify_ready, notify_reloading
from ravesvc.systemd.unit_control import Units
from ravesvc.version import __version__

_log = logging.getLogger(__name__)

# Seconds that an editor of the blocklist has to do all that it does.
_SETTLING = 0.2

# Seconds for which kicks from many meshes at once are shown.
_KICKS_SHOWN = 24 * 3600.0

# Beside the embedded store, whichever store is in use.
_COPY = "permissions.json"
_CHANGES = "changes.json"
_SCOPE = "discovery.json"

_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Exit status: 0 after SIGTERM, 1 when the bus is lost or refused, 78 for a bad configuration.

    It is 78 for root as well. A wrong command line ends the process with 2.
    """
    _parser().parse_args(arguments)
    limit = LogLimit(log_limit.by_mesh, log_limit.PER_MESH)
    log.set_up(logging.INFO, "rave-orchestrator", unit_of=names.mesh_unit, limit=limit)
    try:
        settings = _settings()
        if settings.debug:
            logging.getLogger().setLevel(logging.DEBUG)
        return asyncio.run(_run(settings))
    except RaveError as e:
        _log.critical("%s", e)
        # What systemctl status shows of it while systemd waits to start us again.
        notify(f"STATUS={e}")
        return int(names.ExitStatus.CONFIG if e.code is Code.CONFIG else names.ExitStatus.CRASHED)
    except Exception:
        notify("STATUS=Ended by a fault of the service, the log says which")
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rave-orchestrator",
        description="Run one Rave chat bot per mesh.",
        epilog="It is a service: systemctl start rave-orchestrator",
    )
    parser.add_argument("--version", action="version", version=f"rave-orchestrator {__version__}")
    return parser


def _settings() -> Config:
    """The configuration; raises `RaveError` (Config), also for root, whose files the service could not read."""
    # Needed much later, and by a process of its own.
    extras.require_module("pystemd")
    if os.geteuid() == 0:
        hint = "systemctl start rave-orchestrator"
        raise RaveError(Code.CONFIG, "rave-orchestrator is not for root: it is a service", hint=hint)
    settings = rave_yaml.with_environment(rave_yaml.load(names.CONFIG_FILE), os.environ)
    if settings.tls.ca_file is None:
        return settings
    try:
        return settings.with_authorities(authorities.read(names.AUTHORITIES_FILE))
    except RaveError:
        # Started by hand, without the privileged step: then the file itself has to do.
        return with_authorities(settings)


async def _run(settings: Config) -> int:
    stopped, reload = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.set)
    async with _connected() as bus, _connected() as callers_bus:
        parent = _Parent(settings, bus, callers_bus)
        try:
            await first_of(stopped.wait(), _work(parent, (bus, callers_bus), reload))
            notify("STOPPING=1", "STATUS=Stopping")
            if stopped.is_set():
                await parent.release_host()
        finally:
            await parent.close()
    if not stopped.is_set():
        _log.critical("The connection to the message bus is lost; the meshes run on, systemd starts us again")
        return int(names.ExitStatus.CRASHED)
    return int(names.ExitStatus.STOPPED)


@contextlib.asynccontextmanager
async def _connected() -> AsyncIterator[Bus]:
    """A connection to the bus, closed at the end."""
    bus = await Bus.connect()
    try:
        yield bus
    finally:
        await bus.close()


async def _work(parent: _Parent, buses: Sequence[Bus], reload: asyncio.Event) -> None:
    """From the start to the loss of a connection to the bus."""
    await parent.start()
    await notify_ready()
    lost = [asyncio.shield(bus.lost) for bus in buses]
    await first_of(*lost, parent.work(), _reload(parent, reload), feed_watchdog())


async def _reload(parent: _Parent, reload: asyncio.Event) -> None:
    """Do what `systemctl reload` asks for, for ever."""
    while True:
        await reload.wait()
        reload.clear()
        notify_reloading()
        await parent.reread()
        await notify_ready()


class _Parent:
    """The parts of the parent, wired together. Raises `RaveError` (Config) for a database that can't be one."""

    def __init__(self, settings: Config, bus: Bus, callers_bus: Bus) -> None:
        self._bus = bus
        self._config_file = ConfigFile(settings)
        self._blocks = Blocklist(
            settings.blocklist_persist_path,
            settings.blocklist_duration,
            Clock(),
            announce=self._block_changed,
            changed=self._blocklist_changed,
        )
        self._edits = FileWatch(settings.blocklist_persist_path, self._edited)
        self._edited_now: asyncio.Task[None] | None = None
        self._edits_unread = False
        self._starts = StartPolicy(settings.servers.api_host, settings.starts_per_minute)
        self._access = RaveClient(settings, self._starts.pauses, changed=self._changed)
        store = make_store(settings.database, settings.state_path, lambda answers: self._state.reachable(answers))
        self._state = CachedStore(
            store,
            self._tell,
            self._changed,
            copy=PermissionsCache(settings.state_path.with_name(_COPY)),
            record=ChangeRecord(settings.state_path.with_name(_CHANGES)),
        )
        self._hosts = HostRecord(store, this_host(), self._host_changed)
        self._account = Account(
            settings,
            self._state,
            self._account_changed,
            progress=self._login_progress,
            ended=self._login_ended,
        )
        self._login_refused: RaveError | None = None  # by what no login cures
        self._user: int | None = None
        self._units = Units()
        self._scope = ScopeFile(settings.state_path.with_name(_SCOPE))
        self._discovery = Discovery(self._meshes, settings.discovery_interval, self._round_ended)
        self._discovery.hold(RaveError(Code.NOT_RUNNING, "the service is still starting"))
        self._runner = SystemdRunner(
            bus,
            self._units,
            ExitNotes(Path(names.ENDED_DIRECTORY)),
            stop_limit_s=settings.shutdown_timeout + names.STOP_GRACE_S,
        )
        self._fleet = Fleet(
            runner=self._runner,
            census=self._discovery.census,
            blocks=self._blocks,
            limit=settings.max_processes,
            per_user=settings.max_meshes_per_user,
            trusted=lambda: self._state.admins | {self._user or 0},
            interval=settings.status_poll_interval,
            changed=self._show,
            leave=self._leave,
            answers=self._answers,
            own_user=lambda: self._user or 0,
            starts=self._starts,
            advice=settings.advice,
        )
        self._fleet.reports.news.connect(log_news)
        # Answers about callers must not stand behind what these callers send.
        callers = Callers(callers_bus)
        bus.take_turns(Turns(bus, callers.group))
        authority = Authority(bus, callers)
        claims = Claims(settings.advice.claim)
        rules = ChatRules(
            admins_by_chat=settings.admins_by_chat,
            hourly_changes_per_mesh=settings.hourly_changes_per_mesh,
            hourly_changes=settings.hourly_changes,
        )
        presence = PresenceCheck(self._access.users)
        self._memory = RoomMemory(
            self._state,
            settings.history_retention,
            # The bots of another host that has the account use the same store.
            in_use=lambda: None if self._hosts.other else self._fleet.in_use(),
            tell_forget=self._fleet.forget_user,
            presence=presence,
        )
        self._roll = RollingRestart(
            self._fleet, settings.edition(), progress=self._roll_progress, ended=self._roll_ended
        )
        self._objects = MeshObjects(bus, lambda mesh: MeshObject(authority, self._fleet, self._roll, mesh))
        self._blocklist = BlocklistObject(authority, self._blocks)
        self._manager = ManagerObject(
            authority,
            fleet=self._fleet,
            discovery=self._discovery,
            blocks=self._blocks,
            roll=self._roll,
            state=self._state,
            account=self._account,
            claims=claims,
            memory=self._memory,
            starts=self._starts,
            hosts=self._hosts,
            prefix=settings.command_prefix[0],
            refresh=self._refresh,
        )
        self._entry_points: list[EntryPoint] = []
        self._backend = BackendObject(
            self._runner.workers,
            self._blocks,
            self._state,
            self._account,
            claims,
            self._memory,
            presence,
            rules,
            Videos(HelperClient(), settings.videos),
            refresh=self._refresh,
            entry_points=lambda: self._entry_points,
            pause=self._fleet.pause,
            chat_form=lambda mesh: usual_chat_form(mesh, self._fleet.records),
        )
        self._status = Coalesced(self._say_status)
        self._kicked_at: list[float] = []
        self._kicks_changed = True
        self._started = False

    async def start(self) -> None:
        """Take up the work. The bus name comes last: who sees it, sees everything in place.

        Raises `RaveError` (Bus) if somebody has the name already, whose files these are then.
        """
        _show_start("asking the message bus whether another orchestrator runs")
        (taken,) = await self._bus.call(*_BUS, "NameHasOwner", "s", names.BUS_NAME)
        if taken:
            raise RaveError(Code.BUS, f"the bus name {names.BUS_NAME} belongs to another process")
        _show_start("reading the blocklist")
        self._discovery.census.enter(self._scope.load())
        await self._blocks.start()
        await self._edits.start()
        _show_start("reading the store")
        await self._state.start()
        if not self._state.error:
            # Before anything may start. Without an answer of the store the service starts as ever.
            await self._hosts.look()
        await self._account.adopt()
        self._entry_points = await asyncio.to_thread(command_packages.find)
        self._bus.export(names.MANAGER_PATH, self._manager, self._blocklist)
        self._bus.export(names.BACKEND_PATH, self._backend)
        self._bus.object_manager(names.MANAGER_PATH)
        _show_start("asking systemd which bots run")
        await self._fleet.start()
        self._started = True
        if self._hosts.other:
            # Bots that run here have outlived the time in which this host had the account.
            self._fleet.reconcile()
        self._say_status()
        await self._bus.request_name(names.BUS_NAME)

    async def work(self) -> None:
        """Look for meshes and after children for ever; save what is learnt of them."""
        await first_of(
            self._discovery.run(),
            self._fleet.health.run(),
            self._blocks.work(),
            self._state.work(),
            self._hosts.run(),
            self._memory.run(),
        )

    async def reread(self) -> None:
        """Take over an edit of the blocklist, and look what rave.yaml says by now."""
        await self._blocks.reload()
        await self._config_file.look()
        self._changed()

    async def close(self) -> None:
        """Stop working; the children are systemd's."""
        await self._account.close()
        await self._roll.close()
        await self._fleet.close()
        await self._units.close()
        await self._access.close()
        await self._edits.close()
        if self._edited_now:
            await asyncio.wait([self._edited_now])
        await self._blocks.close()
        self._hosts.close()
        await self._state.close()

    @property
    def _obstacle(self) -> RaveError | None:
        """Why there can't be a round of discovery."""
        return self._blocks.error or self._hosts.obstacle or self._account.obstacle

    @property
    def _login_needed(self) -> bool:
        obstacle = self._account.obstacle
        refused = self._discovery.login_needed and not self._identity_refused
        return refused or (obstacle is not None and obstacle.code is Code.LOGIN_NEEDED)

    @property
    def _identity_refused(self) -> RaveError | None:
        """Why a login would not help: Rave says so, or has refused the signature of a token that was new."""
        return self._discovery.identity_refused or self._login_refused

    async def _answers(self) -> bool:
        if self._obstacle or self._discovery.error:
            return False
        return await self._discovery.check()

    async def _meshes(self) -> Listing:
        """A round of discovery. What the last one has changed is done by now: the next process may build on it."""
        await self._scope.keep(self._discovery.census.scope)
        return await self._access.meshes(self._fleet.enough)

    async def _leave(self, mesh: str) -> None:
        """Leave a mesh on Rave's side, and see that lists know it: whatever has it afterwards is a new invitation."""
        await self._access.leave(mesh)
        self._discovery.ask()

    async def _tell(self, announcement: Announcement) -> None:
        """Something in the store has changed: let everybody know, first of all ourselves."""
        if announcement is Announcement.CREDENTIALS:
            await self._account.adopt()
        what, begun = announcement.name.lower(), time.monotonic()
        told, failed = await self._runner.broadcast(announcement)
        if told or failed:
            took = (time.monotonic() - begun) * 1000
            _log.info("The new %s reached %s in %.0f ms", what, count(told, "mesh"), took)
        if failed:
            _log.warning("The new %s did not reach %s yet", what, count(failed, "mesh"))

    async def _refresh(self) -> None:
        """Read everything again, and let everybody ask again, whether anything differs or not."""
        # Own commands need no store.
        self._entry_points = await asyncio.to_thread(command_packages.find)
        await self._tell(Announcement.COMMANDS)
        await self._state.refresh()
        others = [announcement for announcement in Announcement if announcement is not Announcement.COMMANDS]
        await asyncio.gather(*map(self._tell, others))

    def _host_changed(self) -> None:
        """Another host has the account, or has it no more."""
        if self._hosts.other:
            self._discovery.census.forget_for_good()
            if self._started:
                self._fleet.reconcile()
        elif self._account.session:
            self._discovery.census.forget_all()
            self._discovery.session_changed()
        self._discover_if_possible()

    async def release_host(self) -> None:
        """If systemd stops the service, and does not restart it: let another host have the account at once."""
        try:
            stopping = not self._state.error and await self._runner.is_stopping_for_good()
        except RaveError as e:
            _log.debug("Systemd does not tell whether the service is restarted: %s", e)
            return
        if stopping:
            await self._hosts.release()

    def _account_changed(self) -> None:
        """There is another session, or none."""
        session = self._account.session
        self._access.use(session)
        if session is None:
            _log.error("No mesh is started: %s", self._account.obstacle, extra=about(event=LogEvent.NOTHING_STARTS))
            if self._user is not None and self._state.loaded and not self._state.has_account:
                # It was taken out of the store; one that Rave refuses, or that nobody can read, stays in its meshes.
                _log.warning("There is no account any more: its meshes are stopped")
                self._user = None
                self._discovery.census.forget_for_good()
                self._fleet.reconcile()
        else:
            if self._discovery.census.enter(self._access.scope):
                _log.warning(
                    "From now on it is %s: what is listed takes the place of the former ones", self._access.scope
                )
            self._user = session.user_id
            self._starts.outages.clear()
            self._discovery.session_changed()
        self._discover_if_possible()

    def _discover_if_possible(self) -> None:
        """Rounds of discovery need a session, and somebody who knows which meshes are blocked."""
        if self._obstacle:
            self._discovery.hold(self._obstacle)
        elif self._account.session:
            self._discovery.release()
        self._changed()

    def _edited(self) -> None:
        """Somebody has done something to the blocklist's file; our own saves are among it."""
        self._edits_unread = True
        if self._edited_now is None or self._edited_now.done():
            self._edited_now = asyncio.create_task(self._reread_soon())

    async def _reread_soon(self) -> None:
        # What is done to it while it is read may be past the reading.
        while self._edits_unread:
            # An editor may do several things at once.
            await asyncio.sleep(_SETTLING)
            self._edits_unread = False
            await self._blocks.reload()

    def _blocklist_changed(self) -> None:
        """Whether the blocklist can be used, and saved, may have changed."""
        self._blocklist.show()
        if self._blocks.error is not self._discovery.obstacle:
            self._discover_if_possible()
        self._changed()

    def _block_changed(self, change: BlocklistChange) -> None:
        """An entry came, or went; it is on disk."""
        log_change(change)
        if change.what is What.BLOCKED and change.block.reason is Reason.LEFT:
            # As in `_leave`; here the child has left by itself.
            self._discovery.ask()
        self._kicks_changed = True
        self._blocklist.changed(change)
        self._fleet.block_changed(change)
        if not self._blocks.announcements_left:
            # What has thousands of entries takes its time to be counted, and more is to come.
            self._changed()

    def _roll_progress(self, done: int, total: int, mesh: str) -> None:
        self._manager.roll_progress(done, total, mesh)

    def _roll_ended(self, error: RaveError | None) -> None:
        self._manager.roll_finished(error)
        self._changed()

    def _login_progress(self, step: str, seconds: float) -> None:
        self._manager.login_progress(step, seconds)
        self._changed()

    def _login_ended(self, error: RaveError | None) -> None:
        self._manager.login_finished(error)
        if error is None or error.code in IDENTITY_REFUSALS:
            self._login_refused = error
        if error is None:
            # Also for the same session, which Rave may have refused until now.
            self._starts.outages.clear()
            self._discovery.session_changed()
        self._changed()

    def _round_ended(self) -> None:
        if self._discovery.error is None:
            self._login_refused = None
        if self._discovery.listed:
            self._fleet.reconcile()
        self._manager.discovery_finished()
        self._changed()

    def _show(self, record: MeshState) -> None:
        if record.mesh in self._fleet.records:
            self._objects.show(record)
        else:
            self._objects.hide(record)
        self._roll.noticed(record)
        self._changed()

    def _changed(self) -> None:
        """Say the status once per turn of the event loop, however many records change in it."""
        if self._started:
            self._status.schedule()

    def _say_status(self) -> None:
        status = status_line(self._situation())
        self._blocklist.show()
        self._manager.show(status, login_needed=self._login_needed)
        notify(f"STATUS={status}")

    def _kicks(self) -> list[float]:
        """When the bot was kicked lately from meshes that are still blocked for it, in seconds since the epoch."""
        if self._kicks_changed:
            self._kicked_at = self._blocks.block_starts(Reason.KICKED, _KICKS_SHOWN)
            self._kicks_changed = False
        return self._kicked_at[bisect.bisect_right(self._kicked_at, time.time() - _KICKS_SHOWN) :]

    def _situation(self) -> Situation:
        return Situation(
            states=self._fleet.states,
            obstacle=self._obstacle,
            waiting_for="" if self._discovery.last_good else self._access.progress,
            session_refused=self._discovery.login_needed,
            session_proven=self._access.proven,
            identity_refused=self._identity_refused,
            discovery_error=self._discovery.error,
            stale_since=self._discovery.stale_since,
            list_too_long=self._discovery.note,
            losses_held_back=self._discovery.census.held_back,
            kicks=self._kicks(),
            outages=self._starts.outages.sentences(),
            pauses=self._starts.pauses.all_words(),
            blocklist_unsaved=None if self._blocks.error else self._blocks.save_error,
            store_error=self._state.error,
            unshown=unshown(self._fleet.records.values()),
            command_errors=command_errors(self._fleet.records.values()),
            config_note=self._config_file.note,
        )


def _show_start(step: str) -> None:
    """Say what the start waits for: systemd shows it while the unit is activating."""
    notify(f"STATUS=Starting: {step}")


if __name__ == "__main__":
    sys.exit(main())
