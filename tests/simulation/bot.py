"""What a simulated bot does: the bot's own policy for trying again, and a room that it is in or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from ravesvc.api import failures
from ravesvc.config.worker_settings import Edition
from ravesvc.core.worker_events import (
    Connected,
    ConnectionFailed,
    Disconnected,
    ErrorReported,
    Kicked,
    Left,
    PauseRequested,
    Ready,
    WorkerEvent,
)
from ravesvc.errors import RaveError
from ravesvc.mesh.reconnect_policy import ReconnectPolicy
from ravesvc.names import ExitStatus
from ravesvc.room.close import CloseKind
from tests.simulation.rave import Door, Rave
from tests.unit.scenarios.world import API_HOST

_MAX_ATTEMPTS = 3
_ATTEMPTS_SPAN_S = 15.0
_KNOCK_S = 0.2
_KICKED_AFTER_S = 2.0
_LEAVE_WHEN_ALONE_S = 120.0


class Advisor(Protocol):
    """What a bot asks the service before an attempt to connect; answers with nothing to heed when that is away."""

    def failures(self, mesh: str) -> tuple[int, float]:
        """Attempts of earlier bots that have failed in a row, and for how many seconds they do."""

    def pause(self, mesh: str) -> float:
        """Seconds for which Rave is to be left alone."""


class Bot:
    """One process in one mesh.

    Attributes:
        edition: of its program and settings.
        hangs: it answers nothing. `hangs_since` is when that began, or when it last said something.
        clings: it does not stop when it is told to.
        connected_since: by the monotonic clock; None while it is not in its room.
    """

    def __init__(
        self,
        mesh: str,
        rave: Rave,
        advisor: Advisor,
        edition: Edition,
        rng: Random,
        now: Callable[[], float],
        say: Callable[[WorkerEvent], None],
    ) -> None:
        self.edition = edition
        self.hangs = self.clings = False
        self.hangs_since = 0.0
        self.connected_since: float | None = None
        self.unanswered = 0
        self._mesh = mesh
        self._rave = rave
        self._advisor = advisor
        self._rng = rng
        self._now = now
        self._report = say
        self._attempts = ReconnectPolicy(_MAX_ATTEMPTS, _ATTEMPTS_SPAN_S, now)
        self._error = ""
        self._fate: asyncio.Future[CloseKind | ExitStatus] | None = None

    async def live(self) -> ExitStatus:
        """From the first word to the exit status."""
        self._say(Ready())
        self._attempts.restore(*self._advisor.failures(self._mesh))
        while True:
            if pause := self._advisor.pause(self._mesh):
                self._attempts.paused(pause)
            elif (status := await self._connection()) is not None:
                return status
            await asyncio.sleep(self._attempts.delay(self._rng.random()))

    def meet(self, fate: CloseKind | ExitStatus) -> bool:
        """Something happens to the connection, or a user sends the bot away; False if it is not in its room."""
        if self._fate is None or self._fate.done():
            return False
        self._fate.set_result(fate)
        return True

    def _say(self, event: WorkerEvent) -> None:
        # For the service it is a sign of life. The hung bot of a program that goes on otherwise says things as well.
        self.hangs_since = self._now()
        self._report(event)

    def announce(self) -> None:
        """Tell a service that has just started."""
        if not self.hangs:
            self._say(Ready())
            if self.connected_since is not None:
                self._say(Connected())

    def status(self) -> dict[str, Any]:
        """What it says of itself when it is asked."""
        since = self.connected_since
        return {
            "Connected": since is not None,
            "ConnectedUSec": 0 if since is None else int((self._now() - since) * 1_000_000),
            "Attempts": self._attempts.failures,
            "LastError": self._error,
            "Version": self.edition.version,
            "SettingsDigest": self.edition.digest,
        }

    async def _connection(self) -> ExitStatus | None:
        await asyncio.sleep(_KNOCK_S)
        try:
            shown_out = self._rave.knock(self._mesh)
        except RaveError as e:
            asked = failures.pause(e)
            if asked is not None:
                self._error = e.message
                self._say(PauseRequested(API_HOST, max(1, round(self._attempts.paused(asked)))))
                return None
            return self._failed(e)
        self._attempts.opened()
        if shown_out is CloseKind.TOO_LARGE:
            self._say(ErrorReported("its messages are too large"))
            return ExitStatus.TOO_LARGE
        return await self._stay()

    async def _stay(self) -> ExitStatus | None:
        begun = self.connected_since = self._now()
        self._error = ""
        self._say(Connected())
        self._fate = asyncio.get_running_loop().create_future()
        fate = await self._met()
        self.connected_since, self._fate = None, None
        if fate is ExitStatus.LEFT:
            # A round of discovery may have begun: with one more the service has not yet seen it in three lists.
            self._rave.rooms[self._mesh].uninvite(late_lists=self._rng.randrange(2))
            self._say(Left("a user sent it away"))
        elif fate is CloseKind.KICKED:
            self._say(Kicked())
        if isinstance(fate, ExitStatus):
            return fate
        if fate is not CloseKind.KICKED:
            self._error = f"the connection was {fate}"
            self._say(Disconnected(self._error))
        return self._attempts.ended(fate, self._now() - begun)

    async def _met(self) -> CloseKind | ExitStatus:
        """What ends the stay."""
        assert self._fate
        room = self._rave.rooms.get(self._mesh)
        if room and room.door is Door.KICKS:
            await asyncio.sleep(_KICKED_AFTER_S)
            return CloseKind.KICKED
        while True:
            room = self._rave.rooms.get(self._mesh)
            if room and not room.members:
                await asyncio.wait([self._fate], timeout=_LEAVE_WHEN_ALONE_S)
                if not self._fate.done() and not room.members:
                    return ExitStatus.ALONE
            else:
                # Its owner calls `members_changed` when that may be another answer.
                await asyncio.wait([self._fate])
            if self._fate.done():
                fate = self._fate.result()
                if fate is not CloseKind.LOCAL:
                    return fate
                self._fate = asyncio.get_running_loop().create_future()

    def members_changed(self) -> None:
        """Users have come to its room, or left it."""
        self.meet(CloseKind.LOCAL)

    def _failed(self, error: RaveError) -> ExitStatus | None:
        self._error = str(error)
        status = self._attempts.failed(error, None)
        if status is ExitStatus.GONE:
            self._say(Left("the mesh is gone"))
        elif status is ExitStatus.LOGIN_NEEDED:
            self._say(ErrorReported(self._error))
        else:
            self._say(ConnectionFailed(self._attempts.failures, self._error))
        return status
