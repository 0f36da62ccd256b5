"""One start, stop or restart of a mesh, as ravectl requests and follows it."""

from __future__ import annotations

import asyncio

from ravesvc.ctl.client import Service
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.operations.mesh_lookup import SHORT_ID_CHARS, FoundMesh, MeshRow
from ravesvc.ctl.operations.mesh_order import MeshOrder, MeshSight
from ravesvc.ctl.ui import output
from ravesvc.ctl.ui.interrupt import interrupting
from ravesvc.ctl.ui.progress import Lines, Spinner
from ravesvc.errors import Code, RaveError

# Longer than a process may take to start, or by default to stop.
_TIMEOUT_S = 90.0
_REDRAW_S = 0.2


class MeshRun:
    """One order, from the request to its end."""

    def __init__(self, service: Service, display: Lines | Spinner, mesh: FoundMesh, order: MeshOrder) -> None:
        self._service = service
        self._display = display
        self._mesh = mesh
        self._name = output.title(mesh.title) if mesh.title else mesh.id[:SHORT_ID_CHARS]
        self._order = order
        self._lost: RaveError | None = None
        self._changed: asyncio.Event

    async def complete(self) -> Exit:
        """Give the order and wait until it is carried out. An interrupt ends the waiting, and not what was ordered.

        Raises `RaveError`: what the service refuses, why the order can't be carried out, or Timeout.
        """
        task = asyncio.current_task()
        assert task
        answered = False
        drawing = asyncio.create_task(self._draw())
        with interrupting(task):
            try:
                await self._follow()
                await self._service.ask(self._order.member, "s", self._mesh.id)
                answered = True
                said = await self._wait()
            except asyncio.CancelledError:
                if not answered and not self._order.answered_at_end:
                    raise
                task.uncancel()
                self._display.end()
                begun = "" if answered else ", if that has begun"
                output.print_error(f"no longer waiting: mesh {self._mesh} {self._order.ordered}{begun}")
                return Exit.INTERRUPTED
            finally:
                drawing.cancel()
                await asyncio.gather(drawing, return_exceptions=True)
                self._display.end()
        output.print_line(f"Mesh {self._mesh} {said}.")
        return Exit.OK

    async def begin(self) -> Exit:
        """Give the order, and return when it is being carried out; raises `RaveError` if the service refuses it."""
        await self._follow()
        before = await self._look()
        ordered: asyncio.Task[object] = asyncio.create_task(self._service.ask(self._order.member, "s", self._mesh.id))
        tasks = {ordered}
        if self._order.answered_at_end:
            tasks.add(asyncio.create_task(self._change(before)))
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for each in pending:
            each.cancel()
        for each in done:
            each.result()
        output.print_line(f"Mesh {self._mesh} {self._order.begun(await self._look())}.")
        return Exit.OK

    async def _follow(self) -> None:
        self._changed = asyncio.Event()
        await self._service.on_change(self._changed.set)
        await self._service.on_end(self._end)

    async def _wait(self) -> str:
        """Wait until the order is carried out; returns what is true then, in words."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _TIMEOUT_S
        # What is so at once was so before, unless the answer came at the end.
        words = self._order.done if self._order.answered_at_end else self._order.begun
        while not self._order.reached(self._mesh, sight := await self._look()):
            words = self._order.done
            left = deadline - loop.time()
            self._display.show(f"{self._name}: {self._order.step(sight)}", left)
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError as e:
                raise self._too_late(sight) from e
        return words(sight)

    async def _change(self, before: MeshSight) -> MeshSight:
        """The first sight in which the state of the mesh is another one."""
        while (sight := await self._look()).state == before.state:
            await self._changed.wait()
        return sight

    async def _look(self) -> MeshSight:
        if self._lost:
            raise self._lost
        # Before the calls: what changes while they are answered is to be looked at again.
        self._changed.clear()
        (status,) = await self._service.ask("GetStatus")
        (described,) = await self._service.ask("DescribeMeshes")
        (plan,) = await self._service.ask("Plan")
        row = next((row for each in described if (row := MeshRow(*each)).id == self._mesh.id), None)
        action = next((action for mesh, action, _ in plan if mesh == self._mesh.id), "")
        # An older service does not tell the obstacle.
        obstacle = status.get("Obstacle", "")
        return MeshSight(row.state if row else "", row.reason if row else "", action, obstacle)

    def _too_late(self, sight: MeshSight) -> RaveError:
        text = f"mesh {self._mesh} is not {self._order.goal} after {_TIMEOUT_S:.0f} s: {sight.words()}"
        hint = f"the service goes on; ravectl explain {self._mesh.id} says more"
        return RaveError(Code.TIMEOUT, text, hint=hint)

    async def _draw(self) -> None:
        while True:
            await asyncio.sleep(_REDRAW_S)
            self._display.draw()

    def _end(self, error: RaveError) -> None:
        self._lost = error
        self._changed.set()
