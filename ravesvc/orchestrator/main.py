"""rave-orchestrator(8): puts the parent together, and runs it until it is stopped or the bus is gone."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Sequence

from ravesvc import config, log, names
from ravesvc.api.client import Api
from ravesvc.api.models import Mesh, MeshMode
from ravesvc.bus import Bus
from ravesvc.config import Config
from ravesvc.errors import Code, RaveError
from ravesvc.notify import feed_watchdog, notify, notify_ready
from ravesvc.orchestrator.blocks import Blocks
from ravesvc.orchestrator.discovery import Discovery
from ravesvc.orchestrator.fleet import Fleet
from ravesvc.orchestrator.objects import ManagerObject, MeshObject, Objects
from ravesvc.orchestrator.polkit import Authority
from ravesvc.orchestrator.record import Record
from ravesvc.settings import Session
from ravesvc.store.credentials import read_session
from ravesvc.units import Units

_log = logging.getLogger(__name__)


def main() -> int:
    """The program. Exit status: 0 after SIGTERM, 1 when the bus is lost or refused, 78 for a bad configuration."""
    log.set_up(logging.INFO)
    try:
        settings = config.load(names.CONFIG_FILE)
        if settings.debug:
            logging.getLogger().setLevel(logging.DEBUG)
        return asyncio.run(_run(settings))
    except RaveError as e:
        _log.critical("%s", e)
        return int(names.ExitStatus.CONFIG if e.code is Code.CONFIG else names.ExitStatus.CRASHED)


async def _run(settings: Config) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    bus = await Bus.connect()
    parent = _Parent(settings, bus)
    try:
        await parent.start()
        await notify_ready()
        await _first(stopped.wait(), asyncio.shield(bus.lost), parent.discover(), feed_watchdog())
        notify("STOPPING=1", "STATUS=Stopping")
    finally:
        await parent.close()
        await bus.close()
    if not stopped.is_set():
        _log.critical("The connection to the message bus is lost; the meshes run on, systemd starts us again")
        return int(names.ExitStatus.CRASHED)
    return int(names.ExitStatus.STOPPED)


class _Parent:
    """The parts of the parent, wired together."""

    def __init__(self, settings: Config, bus: Bus) -> None:
        self._bus = bus
        self._settings = settings
        self._blocks = Blocks(settings.blocklist_persist_path, settings.blocklist_duration)
        self._obstacle = self._blocks.error
        self._session = self._read_session()
        self._api = self._new_api(self._session) if self._session else None
        self._units = Units()
        self._discovery = Discovery(self._list, settings.discovery_interval, self._round_ended)
        self._fleet = Fleet(
            bus=bus,
            units=self._units,
            census=self._discovery.census,
            blocks=self._blocks,
            limit=settings.max_processes,
            changed=self._show,
            leave=self._leave,
            answers=self._answers,
        )
        authority = Authority(bus)
        self._objects = Objects(bus, lambda mesh: MeshObject(authority, self._fleet, mesh))
        self._manager = ManagerObject(authority, self._fleet, self._discovery)
        self._status_due = False

    async def start(self) -> None:
        """Take up the work. The bus name comes last: who sees it, sees everything in place."""
        self._bus.export(names.MANAGER_PATH, self._manager)
        self._bus.object_manager(names.MANAGER_PATH)
        await self._fleet.start()
        self._say_status()
        await self._bus.request_name(names.BUS_NAME)

    async def discover(self) -> None:
        """Look for meshes for ever, unless there is no way to."""
        if self._obstacle:
            _log.error("No mesh is started: %s", self._obstacle)
            await asyncio.Event().wait()
        await self._discovery.run()

    async def close(self) -> None:
        """Stop working; the children are systemd's."""
        await self._fleet.close()
        await self._units.close()
        if self._api:
            await self._api.close()

    def _read_session(self) -> Session | None:
        """The account's session; without one, or without an identity, there is no way to Rave: an obstacle."""
        settings = self._settings
        try:
            session = read_session(settings.credentials_path)
        except RaveError as e:
            self._obstacle = self._obstacle or e
            return None
        missing = _missing(settings, session)
        self._obstacle = self._obstacle or missing
        return None if missing else session

    def _new_api(self, session: Session) -> Api:
        settings = self._settings
        return Api(servers=settings.servers, identity=settings.identity, session=session, tls=settings.tls)

    async def _list(self) -> Sequence[Mesh]:
        assert self._api, "discovery runs only without an obstacle"
        settings = self._settings
        listing = await self._api.meshes(MeshMode(settings.mesh_mode), limit=settings.limit, lang=settings.lang)
        return listing.meshes

    async def _answers(self) -> bool:
        if self._obstacle or self._discovery.error:
            return False
        return await self._discovery.check()

    async def _leave(self, mesh: str) -> None:
        # Over a connection of its own: discovery must not wait behind a server that takes its time over this.
        if self._session is None:
            return
        api = self._new_api(self._session)
        try:
            await api.leave(mesh)
        except RaveError as e:
            _log.warning("Mesh %s could not be left on Rave's side: %s", mesh, e)
        finally:
            await api.close()

    def _round_ended(self) -> None:
        if self._discovery.error is None:
            self._fleet.reconcile()
        self._manager.discovery_finished()
        self._changed()

    def _show(self, record: Record) -> None:
        if record.mesh in self._fleet.records:
            self._objects.show(record)
        else:
            self._objects.hide(record)
        self._changed()

    def _changed(self) -> None:
        """Say the status once per turn of the event loop, however many records change in it."""
        if not self._status_due:
            self._status_due = True
            asyncio.get_running_loop().call_soon(self._say_status)

    def _say_status(self) -> None:
        self._status_due = False
        status = self._status()
        self._manager.show(status)
        notify(f"STATUS={status}")

    def _status(self) -> str:
        states = [record.state for record in self._fleet.records.values()]
        parts = [f"{len(states)} meshes"]
        parts += [f"{states.count(state)} {state}" for state in sorted(set(states))]
        if self._obstacle:
            return f"No mesh is started: {self._obstacle}" + (f"; {', '.join(parts)}" if states else "")
        if self._discovery.login_needed:
            return f"Rave refuses the credentials: log in again; {', '.join(parts)}"
        if self._discovery.error:
            parts.append(f"discovery fails: {self._discovery.error.message}")
        return ", ".join(parts)


def _missing(settings: Config, session: Session | None) -> RaveError | None:
    if not settings.identity.request_hash_key:
        hint = f"set it in {names.CONFIG_FILE} and restart rave-orchestrator"
        return RaveError(Code.CONFIG, "client_identity.request_hash_key is not set", hint=hint)
    if session is None:
        hint = "put the account's credentials there and restart rave-orchestrator"
        return RaveError(Code.LOGIN_NEEDED, f"login needed: {settings.credentials_path} does not exist", hint=hint)
    return None


async def _first(*waits: Awaitable[object]) -> None:
    """Wait until one of several things has happened, or failed, and drop the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    sys.exit(main())
