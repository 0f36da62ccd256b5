"""A systemd on a private bus that really starts bots: `python -m ravesvc.mesh`, with what their unit hands over."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ravesvc import names
from ravesvc.bus import Bus
from tests.unit.fake_systemd import DEAD, RUNNING, FakeSystemd, ended

_call = Bus.call

# As systemd does for OpenFile=: descriptors from 3 on, in the order of their names.
_HAND_OVER = """
exec 3<"$1/settings" 4<"$1/session"
exec env LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=settings:session "$2" -I -m ravesvc.mesh "$3"
"""


async def call_with_process_fd(bus: Bus, *args: Any, **named: Any) -> list[Any]:
    """In place of `Bus.call`: the daemon tells the process of a connection, as dbus-daemon does from 1.15 on."""
    reply = await _call(bus, *args, **named)
    if args[3] == "GetConnectionCredentials" and "ProcessFD" not in reply[0]:
        reply[0]["ProcessFD"] = os.pidfd_open(reply[0]["ProcessID"])
    return reply


class SystemdWithBots(FakeSystemd):
    """Starts a process for each unit, and tells how it ended. What it logs is dropped.

    `directory` has the files `settings` and `session`.
    """

    def __init__(self, bus: Bus, directory: Path) -> None:
        super().__init__(bus)
        self._directory = directory
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, mesh: str) -> str:
        self.jobs_wait = True
        job = super().start(mesh)
        if not self._closed:
            self._run(self._execute(mesh))
        return job

    def stop(self, mesh: str) -> str:
        self.jobs_wait = True
        job = super().stop(mesh)
        if mesh in self._processes:
            self._processes[mesh].send_signal(signal.SIGTERM)
        else:
            self.finish(mesh)
        return job

    async def aclose(self) -> None:
        """Stop all bots, and start no more: the service would start again what stops without its order."""
        self._closed = True
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        await asyncio.gather(*self._tasks)

    def _run(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, mesh: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        words = ["sh", "-ec", _HAND_OVER, "sh", str(self._directory), sys.executable, mesh]
        process = await asyncio.create_subprocess_exec(*words, env=environment, stderr=asyncio.subprocess.DEVNULL)
        self._processes[mesh] = process
        self.unit_of_process[process.pid] = names.mesh_unit(mesh)
        self._jobs[self._job_of(mesh)] = (mesh, {**RUNNING, "MainPID": process.pid})
        self.finish(mesh)
        status = await process.wait()
        del self._processes[mesh]
        if any(waiting == mesh for waiting, _ in self._jobs.values()):
            self.finish(mesh)
        else:
            self.change(mesh, **(ended(status) if status else DEAD))

    def _job_of(self, mesh: str) -> str:
        return next(job for job, (waiting, _) in self._jobs.items() if waiting == mesh)


# With the one that has a name which CamelCase does not give.
SystemdWithBots.methods = FakeSystemd.methods
