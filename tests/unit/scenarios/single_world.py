"""A world around the program that runs all bots as tasks of its own process; each bot is a fake that does as told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ravesvc.blocklist.model import Reason
from ravesvc.bot.plugins import Sources
from ravesvc.config.worker_settings import Edition, MeshSettings, Session
from ravesvc.core import reconciler as reconciler_module
from ravesvc.core import service as core_service_module
from ravesvc.core.mesh_state import usual_chat_form
from ravesvc.mesh.parent_link import Status
from ravesvc.names import Announcement, ExitStatus
from ravesvc.single import task_runner as runner_module
from ravesvc.single.app import App
from tests.unit.scenarios.program_world import ProgramWorld
from tests.unit.scenarios.surroundings import BotState, signal_of, use_virtual_time, virtual_clock
from tests.unit.scenarios.virtual_time import quiet, until_done
from tests.unit.scenarios.world import BotEvent, Connected

if TYPE_CHECKING:
    from ravesvc.mesh.parent_link import ParentLink

_OPERATOR = "alice"


class _CrashError(Exception):
    """What escapes from a bot that crashes."""


class _Bot:
    """Stands in the place of a worker."""

    def __init__(self, world: SingleWorld, mesh: str, edition: Edition, link: Callable[[Any], ParentLink]) -> None:
        self.mesh = mesh
        self.edition = edition
        self.state = BotState()
        self.end: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self.is_stopping = False
        self._world = world
        self._link = link(self)

    async def run(self, stopped: asyncio.Event) -> ExitStatus:
        self._world.bot_started(self)
        stopping = asyncio.ensure_future(stopped.wait())
        try:
            await asyncio.wait([stopping, self.end], return_when=asyncio.FIRST_COMPLETED)
            self.is_stopping = not self.end.done()
            if self.is_stopping and self._world.slow:
                await asyncio.wait([self.end])
        finally:
            stopping.cancel()
            self._world.bot_ended(self)
        status = self.end.result() if self.end.done() else ExitStatus.STOPPED
        if status is ExitStatus.CRASHED:
            raise _CrashError
        return status

    def says(self, event: BotEvent) -> None:
        self.state.says(event)
        if signal := signal_of(event):
            name, arguments = signal
            self._link.emit(name, *arguments)

    def status(self) -> Status:
        return Status(
            connected=self.state.connected_since is not None,
            lasted=self.state.lasted,
            title="",
            server="",
            users=0,
            reconnects=0,
            attempts=self.state.attempts,
            last_error=self.state.error,
            plugins=(),
            command_errors=(),
            unshown=0,
            chat_form=self.state.chat_form,
        )

    async def refresh(self, what: Announcement) -> None:
        pass

    def forget_user(self, user: int) -> None:
        pass


class SingleWorld(ProgramWorld):
    """See `World`."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(directory, monkeypatch)
        self._running: dict[str, _Bot] = {}
        use_virtual_time(monkeypatch, reconciler_module, runner_module)
        monkeypatch.setattr(core_service_module, "Clock", virtual_clock)
        monkeypatch.setattr(runner_module, "Worker", self._make_bot)

    def _make_bot(
        self,
        mesh: str,
        settings: MeshSettings,
        edition: Edition,
        session: Session | None,
        link: Callable[[Any], ParentLink],
    ) -> _Bot:
        return _Bot(self, mesh, edition, link)

    # The program.

    async def _begin(self, program_settings: Any) -> None:
        app = App(program_settings, Sources(self._directory / "commands.d"))
        self._prepare(app._service)
        app._videos = None  # type: ignore[assignment]
        self._app = app
        await self._start_service()

    async def _end(self) -> None:
        self._service.begin_closing()
        await until_done(self._app._runner.stop_all())
        await until_done(self._service.reconciler.close(grace_s=5.0))
        await self._app.close()

    async def shut_down(self) -> None:
        """There is nothing beside the program."""

    async def _settle(self) -> None:
        await quiet()

    # Bots.

    def bot_started(self, bot: _Bot) -> None:
        self._bots[bot.mesh] += 1
        self._running[bot.mesh] = bot
        if self.new_bots_connect:
            bot.says(Connected())

    def bot_ended(self, bot: _Bot) -> None:
        del self._running[bot.mesh]

    async def say(self, mesh: str, event: BotEvent) -> None:
        self._running[mesh].says(event)
        await self._settle()

    def _end_bot(self, mesh: str, status: ExitStatus) -> None:
        self._running[mesh].end.set_result(status)

    async def finish(self, mesh: str) -> None:
        self.slow = False
        bot = self._running.get(mesh)
        if bot and bot.is_stopping:
            bot.end.set_result(ExitStatus.STOPPED)
        await self._settle()

    def running(self) -> set[str]:
        return set(self._running)

    # The operator, who has nothing but the blocklist here.

    async def hold(self, mesh: str) -> None:
        await self._service.blocklist.add(mesh, Reason.HELD, actor=_OPERATOR)
        await self._settle()

    async def release(self, mesh: str) -> None:
        await self._service.blocklist.remove(mesh, _OPERATOR)
        await self._settle()

    async def outdate(self) -> None:
        for mesh, bot in self._running.items():
            bot.edition = Edition("0.0.1", "")
            self._service.reconciler.health.ask(mesh)
        await self._settle()

    def chat_form(self, mesh: str) -> str:
        return usual_chat_form(mesh, self._service.reconciler.records)
