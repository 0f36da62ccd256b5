"""Which meshes there are, as Rave lists them, and how far a list is to be believed.

A round that fails changes nothing. What was read of a list before it broke off, or before it was enough, says what is
there, and nothing of what is not. A mesh is gone only after several lists without it, each of them complete.
The loss of most meshes at once is held back: it is more likely a fault of the server than the truth. Many more rounds
have to insist on it; that there are none at all only an operator may confirm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet

from ravesvc.api.models import Listing, Mesh
from ravesvc.api.refusal import IDENTITY_REFUSALS
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.common.text import count
from ravesvc.errors import Code, RaveError

log = logging.getLogger(__name__)

ROUNDS_TO_FORGET = 3
ROUNDS_TO_FORGET_MANY = 30
# Seconds from the start of a round to that of the next.
_MIN_INTERVAL_S = 1.0


class Inventory:
    """The meshes that are believed to be there, oldest first. Pure: it is fed with the lists of good rounds.

    A mesh that we have left is out at once, but lists may lag behind, and would have the bot at the door again
    without an invitation. So it counts only when a list has it after one that lacked it, which is a new invitation;
    or when several lists in a row have it, because no list lags for so long: then the old invitation could not be
    deleted, or the new one was quicker than any list.

    Attributes:
        meshes: those that are believed; None before the first good round.
        held_back: how many of them the last list lacked, because it lacked too many to be believed.
        whole: whether a mesh that is not among them is not listed. Before the first complete list a bot that was
            started by hand may be in a mesh that was not read yet.
    """

    def __init__(self) -> None:
        self.meshes: dict[str, Mesh] | None = None
        self.whole = False
        self.held_back = 0
        self._running: dict[str, Mesh] = {}
        self._lost: set[str] = set()
        self._missed: dict[str, int] = {}  # rounds in a row that were good, and lacked the mesh
        self._insisted = 0  # rounds in a row that held the same ones back
        self._left: dict[str, int] = {}  # those that we have left: how many lists since then have them
        self._unread: dict[str, int] = {}  # rounds in a row that were not read as far as the mesh
        self._scope = ""
        self._adopting = True

    @property
    def missing(self) -> AbstractSet[str]:
        """Those that are believed, though the last list lacks them."""
        return self._lost

    @property
    def unread(self) -> AbstractSet[str]:
        """Those that are believed, and that the last list may have beyond what was read of it."""
        return self._unread.keys()

    @property
    def known(self) -> AbstractSet[str]:
        """Those that are believed, or were adopted."""
        return (self._running if self.meshes is None else self.meshes).keys()

    @property
    def left(self) -> AbstractSet[str]:
        """Those that we have left, and of which lists may say what was true before."""
        return self._left.keys()

    def lists(self, mesh: str) -> bool:
        """Whether the last list has the mesh, which is needed to start it."""
        return self.meshes is not None and mesh in self.meshes and mesh not in self._lost

    @property
    def scope(self) -> str:
        """What is known is of this scope, see `enter`; empty as long as nothing is known."""
        return "" if self.meshes is None else self._scope

    def enter(self, scope: str) -> bool:
        """What lists are lists of from now on; tells whether that is another scope than until now.

        Then what was known says nothing of it: that such a list has other meshes is no loss.
        """
        before, self._scope = self._scope, scope
        if before in ("", scope):
            return False
        self.forget_all()
        self._adopting = False
        return True

    def adopt(self, running: Iterable[str]) -> None:
        """Before the first round: an earlier process has started these, so it has seen them listed.

        Without that the first list after a restart would be believed whatever it lacks; as it is when that process
        was in another scope.
        """
        if not self._adopting:
            return
        self._running = {mesh: Mesh(mesh, None, "", invited=True, users=()) for mesh in running}

    def observe(self, listed: Sequence[Mesh]) -> None:
        """Take in a complete list. `held_back` is then the number of meshes whose loss is not believed."""
        known = self._running if self.meshes is None else self.meshes
        seen = self._news(listed)
        self.whole = True
        self._unread = {}
        before, self._lost = self._lost, known.keys() - seen.keys()
        self.meshes = {mesh: seen.get(mesh, old) for mesh, old in known.items()} | seen
        # What is listed even now is not missed.
        missed = {mesh: rounds for mesh, rounds in self._missed.items() if mesh in self._lost}
        if 2 * len(self._lost) > len(known):
            self.held_back = len(self._lost)
            self._missed = missed
            self._insisted = self._insisted + 1 if seen and before == self._lost else 0
            if self._insisted >= ROUNDS_TO_FORGET_MANY:
                self.believe()
        else:
            self.held_back = self._insisted = 0
            self._missed = {mesh: missed.get(mesh, 0) + 1 for mesh in self._lost}
            for mesh in [mesh for mesh, rounds in self._missed.items() if rounds >= ROUNDS_TO_FORGET]:
                self.forget(mesh)
            # Whatever comes after a list without it is news.
            self._left = {mesh.id: self._left[mesh.id] for mesh in listed if mesh.id in self._left}

    def glimpse(self, listed: Sequence[Mesh]) -> None:
        """Take in the beginning of a list: of what it has not it says nothing."""
        known = self._running if self.meshes is None else self.meshes
        seen = self._news(listed)
        self.meshes = {mesh: seen.get(mesh, old) for mesh, old in known.items()} | seen
        self._unread = {mesh: self._unread.get(mesh, 0) + 1 for mesh in known if mesh not in seen}
        self._missed = {mesh: rounds for mesh, rounds in self._missed.items() if mesh not in seen}
        self._lost -= seen.keys()
        self.held_back = min(self.held_back, len(self._lost))

    def forget_unread(self, keep: AbstractSet[str]) -> None:
        """Drop what was not read for several rounds: each may bring other meshes, of a list that has no end."""
        for mesh in [mesh for mesh, rounds in self._unread.items() if rounds >= ROUNDS_TO_FORGET]:
            if mesh not in keep:
                self.forget(mesh)

    def believe(self) -> int:
        """What the last list lacked is gone, because an operator says so; returns how many that are."""
        gone = list(self._lost)
        self.held_back = self._insisted = 0
        for mesh in gone:
            self.forget(mesh)
        return len(gone)

    def leave(self, mesh: str) -> None:
        """We have left the mesh, or it is no more, as its child has found out: what was listed is no longer true."""
        self.forget(mesh)
        self._left[mesh] = 0

    def forget(self, mesh: str) -> None:
        """The mesh is not listed any more."""
        self._missed.pop(mesh, None)
        self._unread.pop(mesh, None)
        self._lost.discard(mesh)
        self._running.pop(mesh, None)
        if self.meshes:
            self.meshes.pop(mesh, None)

    def forget_all(self) -> None:
        """They were another account's, or of another kind."""
        self.meshes = None
        # What runs is nothing that the next lists are about.
        self.whole = True
        self.held_back = self._insisted = 0
        self._running = {}
        self._lost = set()
        self._missed = {}
        self._left = {}
        self._unread = {}

    def forget_for_good(self) -> None:
        """There is no account, so there are none; `forget_all` leaves open which there are."""
        self.forget_all()
        self.meshes = {}

    def _news(self, listed: Sequence[Mesh]) -> dict[str, Mesh]:
        """What a list says, but for what it may be late with."""
        seen = {mesh.id: mesh for mesh in listed}
        for mesh in self._left.keys() & seen.keys():
            self._left[mesh] += 1
            if self._left[mesh] < ROUNDS_TO_FORGET:
                del seen[mesh]
            else:
                del self._left[mesh]
        return seen


class Discovery:
    """Reads the list every `interval` seconds, one round at a time, and at once when asked to.

    Attributes:
        census: what is believed.
        round: the number of the last round that has begun, from 1; 0 before the first.
        obstacle: why no round can begin, or None: see `hold` and `release`.
        last_good: seconds since the epoch of the last good round, whether its list is believed or not; 0 before the
            first.
        error: why the last round failed; None when it was good.
        listed: whether the last round has read any of the list, if perhaps not all of it.
        note: what is to be said of a list that is too long to be read, or empty.
        login_needed: Rave has refused the session, and no round was good since. Other failures say nothing about it.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Listing]],
        interval: float,
        ended: Callable[[], None],
    ) -> None:
        self.census = Inventory()
        self.round = 0
        self.obstacle: RaveError | None = None
        self._free = asyncio.Event()
        self._free.set()
        self.last_good = 0.0
        self._known_until = 0.0
        self.error: RaveError | None = None
        self.listed = False
        self.note = ""
        self.login_needed = False
        self._read = read
        self._interval = interval
        self._ended = ended
        self._asked = asyncio.Event()
        self._checks: list[asyncio.Future[bool]] = []

    @property
    def stale_since(self) -> float:
        """The last good round before the first that failed, or whose list lacks too much to be believed, likewise.

        It is the time of that first one if none was good before, and 0 when there is no such trouble.
        """
        return self._known_until if self.error or self.census.held_back else 0.0

    @property
    def identity_refused(self) -> RaveError | None:
        """Why the last round failed, if Rave refuses the client identity or our clock: no mesh can be joined then."""
        return self.error if self.error and self.error.code in IDENTITY_REFUSALS else None

    def hold(self, obstacle: RaveError) -> None:
        """Begin no more rounds, for this reason."""
        self.obstacle = obstacle
        self._free.clear()

    def release(self) -> None:
        """Begin a round now, and go on."""
        self.obstacle = None
        self._free.set()
        self.ask()

    def ask(self) -> int:
        """Begin a round now, or right after the one that is under way, which may have read too early.

        Returns its number.
        """
        self._asked.set()
        return self.round + 1

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
            await self._free.wait()
            self._asked.clear()
            self.round += 1
            begun = loop.time()
            checks, self._checks = self._checks, []
            await self._one_round()
            for check in checks:
                if not check.done():
                    check.set_result(self.error is None)
            # However often somebody asks.
            await asyncio.sleep(begun + _MIN_INTERVAL_S - loop.time())
            with contextlib.suppress(TimeoutError):
                # From start to start, so that slow answers don't stretch the interval; never two at a time.
                async with asyncio.timeout(max(0.0, begun + self._interval - loop.time())):
                    await self._asked.wait()

    async def _one_round(self) -> None:
        # In case that this one is no better than those before.
        self._known_until = self.stale_since or self.last_good or time.time()
        try:
            self._take(await self._read())
        except RaveError as e:
            self.listed = False
            self._fail(e, "so nothing changes")
            self.login_needed |= e.code is Code.UNAUTHORIZED
        except Exception:
            # The list is a server's: the process would end, be started, and end by it again.
            self.listed = False
            if self.error is None or self.error.code is not Code.INTERNAL:
                log.exception("A round of discovery failed unexpectedly")
            self._fail(RaveError(Code.INTERNAL, "internal error, see the log"), "so nothing changes")
        self._ended()

    def _fail(self, error: RaveError, consequence: str) -> None:
        if self.error is None or self.error.message != error.message:
            extra = about(event=LogEvent.DISCOVERY_FAILED)
            log.warning("Discovery failed, %s: %s", consequence, error, extra=extra)
        self.error = error

    def _take(self, listing: Listing) -> None:
        """Learn from what was read."""
        self.listed = True
        self.login_needed = False
        if listing.error:
            self._fail(listing.error, "so nothing stops")
        else:
            if self.error:
                log.info("Discovery works again")
            self.error = None
            self.last_good = time.time()
        if listing.note and listing.note != self.note:
            log.warning("Discovery reads no more: %s", listing.note)
        self.note = listing.note
        if not listing.complete:
            self.census.glimpse(listing.meshes)
            return
        held_back = self.census.held_back
        self.census.observe(listing.meshes)
        if self.census.held_back > held_back:
            extra = about(event=LogEvent.DISCOVERY_FAILED)
            lost = count(self.census.held_back, "mesh")
            log.warning("The list lacks %s at once; that is not believed", lost, extra=extra)
