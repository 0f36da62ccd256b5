"""rave-mesh(8), the process of a bot, which rave-mesh@.service starts.

Settings and session come as files that systemd has opened (`handover`), never as arguments or environment.
"""

from __future__ import annotations

import asyncio

# asyncio and socket load these with the first host name; by then an upgrade may have replaced them on disk.
import encodings.idna  # noqa: F401
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

# Plugins, which are loaded later, import this; by then an upgrade may have replaced it on disk.
import ravesvc.commands  # noqa: F401
from ravesvc import names
from ravesvc.common import log_limit
from ravesvc.common.log_limit import LogLimit
from ravesvc.config.worker_settings import NOT_HANDED_OVER, Edition, MeshSettings, Session, digest
from ravesvc.errors import RaveError
from ravesvc.mesh import confinement, handover, plugin_memory
from ravesvc.mesh.bus_link import BusLink
from ravesvc.mesh.worker import Worker
from ravesvc.names import ExitStatus
from ravesvc.systemd import logging as log
from ravesvc.systemd.notify import feed_watchdog
from ravesvc.version import __version__

if TYPE_CHECKING:
    from ravesvc.mesh.parent_link import ParentLink, WorkerControl

_log = logging.getLogger(__name__)


def main() -> int:
    """The program. Its exit status is one of `names.ExitStatus`."""
    mesh = sys.argv[1] if len(sys.argv) == 2 else ""
    log.set_up(logging.INFO, f"rave-mesh@{mesh}", mesh=mesh, limit=LogLimit(log_limit.by_place, log_limit.PER_PLACE))
    try:
        mesh = names.mesh_id(mesh)
        files, secrets, memory = handover.receive(os.environ)
        text = files.get(names.SETTINGS_NAME)
        if text is None:
            _log.critical("No settings were handed over: %s", NOT_HANDED_OVER)
            return ExitStatus.NO_SETTINGS
        settings = MeshSettings.from_json(text)
        last_step = plugin_memory.last_step(memory)
        # Before the process reads anything that strangers can influence. The kernel confines the calling thread and
        # those that it starts, so it must be the only one.
        for gap in confinement.confine(os.uname().machine, settings.connect_ports):
            _log.info("%s", gap)
        # A unit that was started before any login gets none; the worker asks the parent for it.
        snapshot = files.get(names.SESSION_NAME)
        session = Session.from_json(snapshot) if snapshot is not None else None
    except RaveError as e:
        _log.critical("%s", e)
        return ExitStatus.CONFIG
    if settings.debug:
        logging.getLogger().setLevel(logging.DEBUG)
    if last_step.culprit:
        _log.error("The process before this one has ended while the plugin %s ran: it is off", last_step.culprit[0])
    link = partial(BusLink, secrets=secrets, last_step=last_step)
    try:
        return asyncio.run(_run(mesh, settings, Edition(__version__, digest(text)), session, link))
    except SystemExit:
        # From a callback that a plugin has given to the event loop. The service acts on our statuses, not on its own.
        _log.critical("A plugin has ended the process", exc_info=True)
        return ExitStatus.CRASHED


async def _run(
    mesh: str,
    settings: MeshSettings,
    edition: Edition,
    session: Session | None,
    link: Callable[[WorkerControl], ParentLink],
) -> ExitStatus:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # What is imported lives as long as the process, so the collector need not look at it. `__main__` has disabled it.
    gc.freeze()
    gc.enable()
    watchdog = asyncio.create_task(feed_watchdog())
    try:
        status = await Worker(mesh, settings, edition, session, link).run(stopped)
    finally:
        watchdog.cancel()
    _log.info("Ended: %s", status.name.lower().replace("_", " "))
    return status
