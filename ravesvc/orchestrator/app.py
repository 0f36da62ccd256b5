"""The program rave-orchestrator(8): runs the service on the bus until it is stopped or the bus is lost."""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from ravesvc import names
from ravesvc.blocklist.model import BlocklistChange, Reason
from ravesvc.bus import Bus
from ravesvc.bus.turns import Turns
from ravesvc.common import extras, log_limit
from ravesvc.common.coalesced import Coalesced
from ravesvc.common.log_limit import LogLimit
from ravesvc.common.settled import Settled
from ravesvc.common.waiting import first_of
from ravesvc.config import rave_yaml
from ravesvc.config.options import Config
from ravesvc.core.host_record import this_host
from ravesvc.core.mesh_state import MeshState, command_errors, unshown
from ravesvc.core.service import BotService
from ravesvc.core.status_line import Situation, status_line, summary
from ravesvc.core.video_requests import Videos
from ravesvc.errors import Code, RaveError
from ravesvc.media.client import HelperClient
from ravesvc.orchestrator.config_changes import ConfigFile
from ravesvc.orchestrator.dbus.account import AccountObject
from ravesvc.orchestrator.dbus.backend import BackendObject
from ravesvc.orchestrator.dbus.blocklist import BlocklistObject
from ravesvc.orchestrator.dbus.callers import Callers
from ravesvc.orchestrator.dbus.canary import CanaryObject
from ravesvc.orchestrator.dbus.manager import ManagerObject
from ravesvc.orchestrator.dbus.mesh import MeshObject, MeshObjects
from ravesvc.orchestrator.dbus.permissions import PermissionsObject
from ravesvc.orchestrator.dbus.polkit import AccessCheck
from ravesvc.orchestrator.dbus.store import StoreObject
from ravesvc.orchestrator.exit_notes import ExitNotes
from ravesvc.orchestrator.file_watch import FileWatch
from ravesvc.orchestrator.systemd_runner import SystemdRunner
from ravesvc.orchestrator.worker_log import log_news
from ravesvc.setup import authorities
from ravesvc.setup.check import with_authorities
from ravesvc.systemd import logging as log
from ravesvc.systemd.notify import feed_watchdog, notify, notify_ready
from ravesvc.systemd.unit_control import Units
from ravesvc.version import __version__

_log = logging.getLogger(__name__)

# Seconds for which the status shows that many meshes have kicked the bot.
_KICKS_SHOWN_S = 24 * 3600.0
# Seconds that the end of the service may take beside the stop of its bots, as TimeoutStopSec= of its unit.
_END_S = 20.0

_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Exit status: 0 after SIGTERM, 1 when the bus is lost or refused, 78 for a bad configuration.

    It is 78 for root as well. A wrong command line ends the process with 2.
    """
    epilog = "It is a service: systemctl start rave-orchestrator"
    parser = argparse.ArgumentParser("rave-orchestrator", description="Run one bot per Rave mesh.", epilog=epilog)
    parser.add_argument("--version", action="version", version=f"rave-orchestrator {__version__}")
    parser.parse_args(arguments)
    limit = LogLimit(log_limit.by_mesh, log_limit.PER_MESH)
    log.set_up(logging.INFO, "rave-orchestrator", unit_of=names.mesh_unit, limit=limit)
    try:
        settings = _settings()
        if settings.debug:
            logging.getLogger().setLevel(logging.DEBUG)
        return asyncio.run(_run(settings))
    except RaveError as e:
        _log.critical("%s", e)
        # systemctl status shows this while systemd waits to start the service again.
        notify(f"STATUS={e}")
        return int(names.ExitStatus.CONFIG if e.code is Code.CONFIG else names.ExitStatus.CRASHED)
    except Exception:
        notify("STATUS=Ended by a fault of the service, the log says which")
        raise


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
        # Started by hand, without the privileged step: read the file itself.
        return with_authorities(settings)


async def _run(settings: Config) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # Not the end of a terminal, and no way to have files read again: that is Reload on the bus.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    async with _connected() as bus, _connected() as callers_bus:
        parent = Orchestrator(settings, bus, callers_bus)
        try:
            await first_of(stopped.wait(), _work(parent, (bus, callers_bus)))
            notify("STOPPING=1", "STATUS=Stopping")
            if stopped.is_set():
                await parent.hand_account_over()
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


async def _work(parent: Orchestrator, buses: Sequence[Bus]) -> None:
    """From the start to the loss of a connection to the bus."""
    await parent.start()
    # What there is now lives as long as the service. Otherwise the collector would look through all of it now and
    # then, for 30 ms in which no bot and no operator is answered.
    gc.freeze()
    await notify_ready()
    lost = [asyncio.shield(bus.lost) for bus in buses]
    await first_of(*lost, parent.work(), feed_watchdog())


class Orchestrator:
    """The service on the bus. Raises `RaveError` (Config) for a database that can't be one."""

    def __init__(self, settings: Config, bus: Bus, callers_bus: Bus) -> None:
        self._bus = bus
        self._config_file = ConfigFile(settings, self._apply)
        self._units = Units()
        self._stop_limit_s = settings.shutdown_timeout + names.STOP_GRACE_S
        self._runner = SystemdRunner(
            bus, self._units, ExitNotes(Path(names.ENDED_DIRECTORY)), stop_limit_s=self._stop_limit_s
        )
        service = self._service = BotService(settings, self._runner, this_host(), Path(names.COMMANDS_DIRECTORY))
        log.show_titles(service.reconciler.title)
        self._edits = FileWatch(settings.blocklist_persist_path, service.blocklist_edited)
        self._config_edits = Settled(self._look_at_config)
        self._config_watch = FileWatch(Path(settings.file), self._config_edits.edited)
        # Answers about callers must not stand behind what these callers send.
        callers = Callers(callers_bus)
        bus.take_turns(Turns(bus, callers.group))
        access = AccessCheck(bus, callers)
        self._objects = MeshObjects(bus, lambda mesh: MeshObject(access, service.roll, mesh))
        self._blocklist = BlocklistObject(access, service.blocklist)
        self._account = AccountObject(access, service.account, service.state)
        self._permissions = PermissionsObject(access, service.state, service.claims, settings.command_prefix[0])
        self._store = StoreObject(
            access, service.state, service.account, service.memory, service.blocklist, service.refresh
        )
        self._canary = CanaryObject(access, service.canary)
        self._manager = ManagerObject(
            access,
            reconciler=service.reconciler,
            discovery=service.discovery,
            blocklist=service.blocklist,
            roll=service.roll,
            state=service.state,
            account=self._account,
            permissions=self._permissions,
            starts=service.starts,
            hosts=service.hosts,
            config_file=self._config_file,
        )
        self._backend = BackendObject(
            self._runner.workers,
            service.requests,
            Videos(HelperClient(), settings.videos),
        )
        self._status = Coalesced(self._show_status)
        self._kicked_at: list[float] = []
        self._kicks_changed = True
        self._started = False
        service.reconciler.reports.news.connect(log_news)
        service.changed.connect(self._changed)
        service.mesh_changed.connect(self._mesh_changed)
        service.block_changed.connect(self._block_changed)
        service.blocklist_changed.connect(lambda _: self._blocklist.show())
        service.login_progress.connect(lambda login: self._account.login_progress(login.step, login.seconds))
        service.login_ended.connect(self._account.login_finished)
        service.roll.progress.connect(lambda roll: self._manager.roll_progress(roll.done, roll.total, roll.mesh))
        service.roll.ended.connect(self._manager.roll_finished)
        service.roll.ended.connect(lambda _: self._changed(None))
        service.round_ended.connect(lambda _: self._manager.discovery_finished())

    async def start(self) -> None:
        """Take up the work. The bus name comes last: who sees it, sees everything in place.

        Raises `RaveError` (Bus) if another process has the name already, whose files these are then.
        """
        service = self._service
        _show_start("asking the message bus whether another orchestrator runs")
        (taken,) = await self._bus.call(*_BUS, "NameHasOwner", "s", names.BUS_NAME)
        if taken:
            raise RaveError(Code.BUS, f"the bus name {names.BUS_NAME} belongs to another process")
        _show_start("reading the blocklist")
        await service.blocklist.start()
        await self._edits.start()
        await self._config_watch.start()
        _show_start("reading the store")
        await service.open()
        await service.look_for_other_host()
        beside = (self._account, self._permissions, self._store, self._blocklist, self._canary)
        self._bus.export(names.MANAGER_PATH, self._manager, *beside)
        self._bus.export(names.BACKEND_PATH, self._backend)
        self._bus.object_manager(names.MANAGER_PATH)
        _show_start("asking systemd which bots run")
        await service.start()
        self._started = True
        self._show_status()
        await self._bus.request_name(names.BUS_NAME)

    async def work(self) -> None:
        """Run the loops of the service until one of them fails."""
        await first_of(*self._service.loops())

    async def _look_at_config(self) -> None:
        await self._config_file.look()
        self._changed(None)

    def _apply(self, settings: Config) -> None:
        self._service.apply(settings)
        self._permissions.prefix = settings.command_prefix[0]

    async def close(self) -> None:
        """Stop the service; the bots go on as units of systemd."""
        self._service.begin_closing()
        # A login that is under way ends before what it would change.
        await self._service.account.close()
        await self._service.roll.close()
        await self._service.reconciler.close()
        await self._units.close()
        await self._edits.close()
        await self._config_watch.close()
        await self._config_edits.close()
        await self._service.close()

    async def hand_account_over(self) -> None:
        """If systemd stops the service without a restart, release the account for another host.

        The bots leave their rooms first. In the other order, those of another host could come while these are still
        there. A store that hosts don't share needs none of this, and then the service does not wait for its bots.
        """
        hosts = self._service.hosts
        if not hosts.is_shared or self._service.state.error:
            return
        try:
            if not await self._runner.is_stopping_for_good():
                return
        except RaveError as e:
            _log.debug("Systemd does not tell whether the service is restarted: %s", e)
            return
        self._service.begin_closing()
        notify(f"EXTEND_TIMEOUT_USEC={round((self._stop_limit_s + _END_S) * 1_000_000)}")
        try:
            gone = await self._runner.stop_all()
        except RaveError as e:
            _log.debug("Whether all bots have left is not known: %s", e)
            gone = False
        if gone:
            await hosts.release()
        else:
            _log.warning("Bots have not left in time: another host has to wait until the record of this one is void")

    def _block_changed(self, change: BlocklistChange) -> None:
        self._kicks_changed = True
        self._blocklist.changed(change)

    def _mesh_changed(self, record: MeshState) -> None:
        if record.mesh in self._service.reconciler.records:
            self._objects.show(record)
        else:
            self._objects.hide(record)

    def _changed(self, _: None) -> None:
        """Schedule an update of the status and of the bus properties, once per turn of the event loop."""
        if self._started:
            self._status.schedule()

    def _show_status(self) -> None:
        situation = self._situation()
        status = status_line(situation)
        self._blocklist.show()
        self._account.show(login_needed=self._service.login_needed)
        self._permissions.show()
        self._store.show()
        self._manager.show(status, summary(situation))
        notify(f"STATUS={status}")

    def _kicks(self) -> list[float]:
        """The times of recent kicks whose blocks are in force, in seconds since the epoch."""
        if self._kicks_changed:
            self._kicked_at = self._service.blocklist.block_starts(Reason.KICKED, _KICKS_SHOWN_S)
            self._kicks_changed = False
        return self._kicked_at[bisect.bisect_right(self._kicked_at, time.time() - _KICKS_SHOWN_S) :]

    def _situation(self) -> Situation:
        service = self._service
        discovery, records = service.discovery, service.reconciler.records.values()
        return Situation(
            states=service.reconciler.states,
            obstacle=service.obstacle,
            waiting_for="" if discovery.last_good else service.rave.progress,
            session_refused=discovery.login_needed,
            session_proven=service.rave.proven,
            identity_refused=service.identity_refused,
            discovery_error=discovery.error,
            stale_since=discovery.stale_since,
            list_too_long=discovery.note,
            losses_held_back=discovery.inventory.held_back,
            kicks=self._kicks(),
            outages=service.starts.outages.sentences(),
            pauses=service.starts.pauses.all_words(),
            blocklist_unsaved=None if service.blocklist.error else service.blocklist.save_error,
            store_error=service.state.error,
            unshown=unshown(records),
            command_errors=command_errors(records),
            config_note=self._config_file.note,
        )


def _show_start(step: str) -> None:
    """Send systemd a status that says what the start waits for, shown while the unit is activating."""
    notify(f"STATUS=Starting: {step}")


if __name__ == "__main__":
    sys.exit(main())
