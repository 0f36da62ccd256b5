"""ravectl plan, discover and roll: all meshes together."""

from __future__ import annotations

import argparse
import asyncio

from ravesvc.ctl import output
from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.interrupt import interrupting
from ravesvc.ctl.progress import Lines, Spinner, display
from ravesvc.ctl.service import Service, told
from ravesvc.ctl.status import Exit
from ravesvc.errors import Code, RaveError

# How long the end of a roll that was cancelled may take.
_LAST_WORD = 5.0


def add(commands: Commands) -> None:
    """Add the commands to a command line."""
    commands.add_parser("plan", help="show what would be started and stopped now, and why").set_defaults(run=_plan)

    discovering = commands.add_parser("discover", help="look for meshes now")
    discovering.add_argument(
        "--confirm-losses", action="store_true", help="believe at once that what is not listed any more is gone"
    )
    discovering.set_defaults(run=_discover)

    rolling = commands.add_parser("roll", help="replace the processes that run an older program or other settings")
    rolling.set_defaults(run=_roll)


def _plan(service: Service, _: argparse.Namespace) -> None:
    (decisions,) = service.call("Plan")
    if not decisions:
        output.say("There are no meshes.")
        return
    output.table(["MESH", "ACTION", "REASON"], decisions)


def _discover(service: Service, options: argparse.Namespace) -> None:
    if options.confirm_losses:
        (gone,) = service.call("ConfirmLosses")
        output.say(f"{gone} meshes are gone.")
        return
    meshes = service.run(_Discovery(service).run())
    output.say(f"{meshes} meshes are there.")


class _Discovery:
    """One round, from the request to its end."""

    def __init__(self, service: Service) -> None:
        self._service = service
        # The number of the first round that begins after the request; one that is under way may have read too early.
        self._round: int | None = None
        self._over: asyncio.Future[tuple[int, str]]

    async def run(self) -> int:
        """The number of meshes; raises `RaveError` when the round fails, or the service goes away."""
        self._over = asyncio.get_running_loop().create_future()
        await self._service.on_signal("DiscoveryFinished", self._finished)
        await self._service.on_end(self._end)
        (self._round,) = await self._service.ask("Discover")
        meshes, error = await self._over
        if error:
            raise RaveError(Code.NETWORK, f"Rave could not be asked, so nothing changes: {error}")
        return meshes

    def _finished(self, number: int, meshes: int, error: str) -> None:
        if self._round is not None and number >= self._round and not self._over.done():
            self._over.set_result((meshes, error))

    def _end(self, error: RaveError) -> None:
        if not self._over.done():
            self._over.set_exception(error)


def _roll(service: Service, _: argparse.Namespace) -> Exit:
    return service.run(_Roll(service, display()).run())


class _Roll:
    """One roll, from the request to its end."""

    def __init__(self, service: Service, display: Lines | Spinner) -> None:
        self._service = service
        self._display = display
        # There is one roll at a time: what is heard before the answer is about another.
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
                await asyncio.wait([self._over], timeout=_LAST_WORD)
                self._display.end()
                output.complain("the roll is cancelled")
                return Exit.INTERRUPTED
        self._display.end()
        if error := self._over.result():
            raise error
        output.say(f"{total} processes were outdated; all are up to date." if total else "Nothing is outdated.")
        return Exit.OK

    def _progress(self, done: int, total: int, mesh: str) -> None:
        if mesh and self._answered:
            self._display.show(f"Replacing {done + 1} of {total}: {mesh}")

    def _finished(self, code: str, message: str) -> None:
        if self._answered:
            self._end(told(code, message) if code else None)

    def _end(self, error: RaveError | None) -> None:
        if not self._over.done():
            self._over.set_result(error)
