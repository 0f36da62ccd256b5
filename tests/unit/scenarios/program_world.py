"""The part of a world that is the same for both programs: `_service`, the core that both have."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ravesvc.blocklist.model import Reason
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.service import BotService
from ravesvc.errors import Code, RaveError
from ravesvc.names import ExitStatus
from ravesvc.store.model import Contents, Credentials
from tests.unit.scenarios.surroundings import (
    SESSION,
    Rave,
    blocked_on_disk,
    fail_steps,
    failures_on_disk,
    fill_disk,
    keep_virtual_time,
    settings,
)
from tests.unit.scenarios.virtual_time import VirtualTime, pass_time
from tests.unit.scenarios.world import DECISION_S, GUEST, OWN

# Seconds from one round of discovery to the next at least.
_ROUND_AT_LEAST_S = 1.0
_OPERATOR = "alice"
_CREDENTIALS = Credentials(
    email="bot@example.org",
    user_id=OWN,
    device_id=SESSION.device_id,
    ssaid=SESSION.ssaid,
    auth_token=SESSION.auth_token,
)


class ProgramWorld(ABC):
    """See `World` for the public part."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slow = self.new_bots_connect = self.disk_full = False
        self.step_fails: Exception | None = None
        self._directory = directory
        self._options: dict[str, object] = {}
        self._rave = Rave()
        self._bots = Counter[str]()
        self._service: Any = None
        self._working: list[asyncio.Task[None]] = []
        fill_disk(monkeypatch, lambda: self.disk_full)

    @property
    def left(self) -> Sequence[str]:
        return self._rave.left

    @property
    def rave_answers(self) -> bool:
        return self._rave.answers

    @rave_answers.setter
    def rave_answers(self, answers: bool) -> None:
        self._rave.answers = answers

    # What each program does in its own way.

    @property
    def _records(self) -> Mapping[str, MeshState]:
        """What the service knows of each mesh."""
        found: Mapping[str, MeshState] = self._service.reconciler.records
        return found

    @abstractmethod
    async def _begin(self, program_settings: Any) -> None:
        """Make the program, and have it start all that it starts before it looks for meshes.

        Calls `_prepare` first, and `_start_service` then.
        """

    @abstractmethod
    async def _end(self) -> None:
        """End the program, as far as it is not the same in both."""

    @abstractmethod
    async def _settle(self) -> None:
        """Return when all that can be done without more time is done."""

    @abstractmethod
    def _end_bot(self, mesh: str, status: ExitStatus) -> None:
        """Let a bot end."""

    def _prepare(self, service: BotService) -> None:
        """Give a service that was just made its surroundings."""
        self._service = service
        service.rave = self._rave  # type: ignore[assignment]
        service.state.contents = Contents(credentials=_CREDENTIALS)
        reconciler = service.reconciler
        reconciler.health._now = reconciler._exit_policy._now = reconciler.reports._now = VirtualTime.monotonic
        keep_virtual_time(service.starts)
        fail_steps(service.starts, lambda: self.step_fails)

    async def _start_service(self) -> None:
        """Read the disk, log in, and find what runs."""
        self._service.discovery.inventory.enter(self._service._scope.load())
        await self._service.blocklist.start()
        self._use_session(SESSION, None)
        await self._service.start()

    # What is done to it.

    async def start(self, **options: object) -> None:
        self._options |= options
        made = settings(self._directory, **self._options)
        self._rave.mode = made.mesh_mode
        await self._begin(made)
        self._working = [
            asyncio.create_task(self._service.discovery.run()),
            asyncio.create_task(self._service.reconciler.health.run()),
        ]
        await self._settle()

    async def restart(self, **options: object) -> None:
        await self.close()
        await self.start(**options)

    async def close(self) -> None:
        if self._service is None:
            return
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        await self._end()
        self._service = None

    async def list(self, *meshes: str, users: Sequence[int] = (GUEST,)) -> None:
        self._rave.list(meshes, users)
        await self._read_list()

    async def invite(self, mesh: str) -> None:
        self._rave.invite(mesh)
        await self._read_list()

    async def _read_list(self) -> None:
        if self._service is None:
            return
        self._service.discovery.ask()
        await self.tick(_ROUND_AT_LEAST_S)

    async def end(self, mesh: str, status: ExitStatus) -> None:
        self._end_bot(mesh, status)
        await self.tick(DECISION_S)

    async def tick(self, seconds: float) -> None:
        await pass_time(seconds, self._settle)

    async def block(self, *meshes: str) -> None:
        for mesh in meshes:
            self._service.blocklist.add(mesh, Reason.OPERATOR, actor=_OPERATOR, seconds=float("inf"))
        await self._settle()

    async def unblock(self, mesh: str) -> None:
        await self._service.blocklist.remove(mesh, _OPERATOR)
        await self._settle()

    async def roll(self) -> int:
        count: int = self._service.roll.start()
        await self._settle()
        return count

    async def lose_session(self) -> None:
        self._service.state.contents = None
        self._use_session(None, RaveError(Code.STORE, "the store can't be read"))
        await self._settle()

    async def remove_account(self) -> None:
        self._service.state.contents = Contents()
        self._use_session(None, RaveError(Code.LOGIN_NEEDED, "there is no account"))
        await self.tick(DECISION_S)

    def _use_session(self, session: Any, obstacle: RaveError | None) -> None:
        self._service.account.session, self._service.account.obstacle = session, obstacle
        self._service._account_changed()

    # What is seen of it.

    def state(self, mesh: str) -> str:
        return self._records[mesh].state if mesh in self._records else ""

    def reason(self, mesh: str) -> str:
        return self._records[mesh].reason if mesh in self._records else ""

    def last_error(self, mesh: str) -> str:
        return self._records[mesh].worker.last_error if mesh in self._records else ""

    def meshes(self) -> set[str]:
        return set(self._records)

    def bots(self, mesh: str) -> int:
        return self._bots[mesh]

    def blocked(self) -> dict[str, str]:
        return blocked_on_disk(self._directory)

    def failures(self, mesh: str) -> int:
        return failures_on_disk(self._directory, mesh)

    def attempts(self, mesh: str) -> int:
        return self._records[mesh].worker.attempts
