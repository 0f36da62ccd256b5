"""One canary, as ravectl requests and follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ravesvc import names
from ravesvc.common.text import count
from ravesvc.ctl.client import Service
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.operations.mesh_lookup import FoundMesh
from ravesvc.ctl.ui import output
from ravesvc.ctl.ui.interrupt import interrupting
from ravesvc.errors import Code, RaveError

_GOES_ON = "The canary goes on. ravectl plugin list shows how it is, and ravectl plugin withdraw ends it."


class CanaryRun:
    """One canary, from the request to its end."""

    def __init__(self, service: Service, meshes: Sequence[FoundMesh], hold_usec: int) -> None:
        self._service = service
        self._meshes = meshes
        self._hold_usec = hold_usec
        self._over: asyncio.Future[tuple[str, str] | RaveError]

    async def begin(self) -> Exit:
        """Begin it, and leave the rest to the service."""
        await self._ask()
        output.print_line(_GOES_ON)
        return Exit.OK

    async def complete(self) -> Exit | None:
        """Wait for its end; None when all bots have the new versions. Raises `RaveError` with why it has failed."""
        self._over = asyncio.get_running_loop().create_future()
        task = asyncio.current_task()
        assert task
        begun = False
        with interrupting(task):
            try:
                await self._service.on_signal("Finished", self._finished, interface=names.CANARY_INTERFACE)
                await self._service.on_end(self._end)
                await self._ask()
                begun = True
                ended = await self._over
            except asyncio.CancelledError:
                if not begun:
                    raise
                task.uncancel()
                output.print_line(_GOES_ON)
                return Exit.INTERRUPTED
        if isinstance(ended, RaveError):
            raise ended
        state, reason = ended
        if state == "in-force":
            output.print_line("Nothing has failed: all bots have the new versions.")
            return None
        why = reason or "an operator has withdrawn it"
        raise RaveError(Code.BAD_FILE, f"the canary has failed, and all bots have the former versions: {why}")

    async def _ask(self) -> None:
        meshes = [mesh.id for mesh in self._meshes]
        await self._service.ask("Try", "ast", meshes, self._hold_usec, interface=names.CANARY_INTERFACE)
        output.print_line(f"{count(len(meshes), 'mesh')} has the new versions.")

    def _finished(self, state: str, reason: str) -> None:
        self._end((state, reason))

    def _end(self, ended: tuple[str, str] | RaveError) -> None:
        if not self._over.done():
            self._over.set_result(ended)
