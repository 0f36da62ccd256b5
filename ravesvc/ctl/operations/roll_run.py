"""One rolling restart, as ravectl requests and follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ravesvc.common.text import count
from ravesvc.ctl.client import Service, service_error
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.operations.mesh_lookup import FoundMesh
from ravesvc.ctl.ui import output
from ravesvc.ctl.ui.interrupt import interrupting
from ravesvc.ctl.ui.progress import Lines, Spinner
from ravesvc.errors import RaveError

# The time in which a roll that was cancelled has to end.
_CANCEL_TIMEOUT_S = 5.0


class RollRun:
    """One roll, from the request to its end."""

    def __init__(self, service: Service, display: Lines | Spinner, titles: Mapping[str, str]) -> None:
        self._service = service
        self._display = display
        self._titles = titles
        # There is one roll at a time: signals before the answer are about another one.
        self._answered = False
        self._over: asyncio.Future[RaveError | None]

    async def run(self) -> Exit:
        """Roll; raises `RaveError` for what has stopped it. An interrupt cancels it once it has begun."""
        self._over = asyncio.get_running_loop().create_future()
        task = asyncio.current_task()
        assert task
        total = 0
        with interrupting(task):
            try:
                await self._service.on_signal("RollProgress", self._progress)
                await self._service.on_signal("RollFinished", self._finished)
                await self._service.on_end(self._end)
                (total,) = await self._service.ask("Roll")
                self._answered = True
                await asyncio.wait([self._over])
            except asyncio.CancelledError:
                if not self._answered:
                    raise
                task.uncancel()
                await self._service.ask("CancelRoll")
                await asyncio.wait([self._over], timeout=_CANCEL_TIMEOUT_S)
                self._display.end()
                output.print_error("the roll is cancelled")
                return Exit.INTERRUPTED
        self._display.end()
        if error := self._over.result():
            raise error
        replaced = f"{count(total, 'outdated process')} replaced; all are up to date."
        output.print_line(replaced if total else "Nothing is outdated.")
        return Exit.OK

    def _progress(self, done: int, total: int, mesh: str) -> None:
        if mesh and self._answered:
            name = FoundMesh(mesh, self._titles.get(mesh, "")).short()
            self._display.show(f"Replacing {done + 1} of {total}: {name}")

    def _finished(self, code: str, message: str) -> None:
        if self._answered:
            self._end(service_error(code, message) if code else None)

    def _end(self, error: RaveError | None) -> None:
        if not self._over.done():
            self._over.set_result(error)
