"""Which meshes there are, as Rave lists them, and how far a list is to be believed.

A round that fails, or is read by half, changes nothing. A mesh is gone only after several good rounds without it. The
loss of most meshes at once is held back: it is more likely a fault of the server than the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from ravesvc.api.models import Mesh
from ravesvc.errors import Code, RaveError

log = logging.getLogger(__name__)

ROUNDS_TO_FORGET = 3
# Seconds from the start of a round to that of the next.
_LEAST_INTERVAL = 1.0


class Census:
    """The meshes that are believed to be there, oldest first. Pure: it is fed with the lists of good rounds."""

    def __init__(self) -> None:
        self.meshes: dict[str, Mesh] | None = None
        self.held_back = 0
        self._missed: dict[str, int] = {}

    def observe(self, listed: Sequence[Mesh]) -> None:
        """Take in a complete list. `held_back` is then the number of meshes whose loss is not believed."""
        known = self.meshes or {}
        seen = {mesh.id: mesh for mesh in listed}
        lost = known.keys() - seen.keys()
        self.held_back = len(lost) if 2 * len(lost) > len(known) else 0
        if self.held_back:
            # What is listed even now is not missed.
            self._missed = {mesh: rounds for mesh, rounds in self._missed.items() if mesh in lost}
        else:
            self._missed = {mesh: self._missed.get(mesh, 0) + 1 for mesh in lost}
        gone = {mesh for mesh, rounds in self._missed.items() if rounds >= ROUNDS_TO_FORGET}
        self._missed = {mesh: rounds for mesh, rounds in self._missed.items() if mesh not in gone}
        self.meshes = {mesh: seen.get(mesh, old) for mesh, old in known.items() if mesh not in gone} | seen

    def forget(self, mesh: str) -> None:
        """A child has found out that the mesh is gone."""
        if self.meshes:
            self.meshes.pop(mesh, None)

    def forget_all(self) -> None:
        """They were another account's."""
        self.meshes = None
        self.held_back = 0
        self._missed = {}


class Discovery:
    """Reads the list every `interval` seconds, one round at a time, and at once when asked to.

    Attributes:
        census: what is believed.
        ready: no round begins while it is cleared.
        last_good: seconds since the epoch of the last good round, 0 before the first.
        error: why the last round failed; None when it was good.
        login_needed: Rave has refused the session, and no round was good since. Other failures say nothing about it.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Sequence[Mesh]]],
        interval: float,
        ended: Callable[[], None],
    ) -> None:
        self.census = Census()
        self.ready = asyncio.Event()
        self.ready.set()
        self.last_good = 0.0
        self.error: RaveError | None = None
        self.login_needed = False
        self._read = read
        self._interval = interval
        self._ended = ended
        self._asked = asyncio.Event()
        self._checks: list[asyncio.Future[bool]] = []

    def ask(self) -> None:
        """Begin a round now, or right after the one that is under way, which may have read too early."""
        self._asked.set()

    def session_changed(self) -> None:
        """There is another session, or Rave takes the same one again: begin a round, as when asked."""
        self.login_needed = False
        self.ask()

    async def check(self) -> bool:
        """Whether Rave answers: begin a round, and tell whether it was good."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._checks.append(answer)
        self.ask()
        return await answer

    async def run(self) -> None:
        """Read for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await self.ready.wait()
            self._asked.clear()
            begun = loop.time()
            checks, self._checks = self._checks, []
            await self._one_round()
            for check in checks:
                if not check.done():
                    check.set_result(self.error is None)
            # However often somebody asks.
            await asyncio.sleep(begun + _LEAST_INTERVAL - loop.time())
            with contextlib.suppress(TimeoutError):
                # From start to start, so that slow answers don't stretch the interval; never two at a time.
                await asyncio.wait_for(self._asked.wait(), max(0.0, begun + self._interval - loop.time()))

    async def _one_round(self) -> None:
        try:
            listed = await self._read()
        except RaveError as e:
            if self.error is None or self.error.message != e.message:
                log.warning("Discovery failed, so nothing changes: %s", e)
            self.error = e
            self.login_needed |= e.code is Code.UNAUTHORIZED
        else:
            if self.error:
                log.info("Discovery works again")
            self.error = None
            self.login_needed = False
            self.last_good = time.time()
            held_back = self.census.held_back
            self.census.observe(listed)
            if self.census.held_back > held_back:
                log.warning("%d meshes vanished at once; that is not believed", self.census.held_back)
        self._ended()
