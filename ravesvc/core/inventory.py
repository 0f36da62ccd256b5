"""Reads Rave's list of meshes, and decides which meshes there are.

A list may be incomplete, late or wrong, and to stop a bot for that would be a mistake. So:

A round that fails changes nothing. A list that was not read to its end shows which meshes are there; it says nothing
of those that it lacks. A mesh is gone only when several complete lists in a row lack it.

Scenario: Rave's database is restored from a backup, and for a while lists lack most meshes. Such a loss is held back,
as it is more likely a fault of the server than the truth. It is accepted when many rounds in a row lack the same
meshes. An empty list is never accepted without an operator, who may confirm any loss.

Scenario: the bot is kicked from a mesh, and the next list was made before that, so it still has the mesh with its old
invitation. To accept that list would send the bot back to where it is not wanted. See `Inventory.leave`.
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
    """The meshes that are taken to exist, oldest first, as far as the lists of good rounds show. No I/O.

    A mesh that the bot has left is removed at once, and lists that still have it are ignored, because they may be
    late. It is accepted again when a list has it after one that lacked it: then the invitation is new. It is also
    accepted when `ROUNDS_TO_FORGET` lists in a row have it, since no list is late for so long: then the old
    invitation could not be deleted, or the new one came before any list lacked the mesh.

    Attributes:
        meshes: the accepted meshes by id; None before the first good round.
        held_back: how many accepted meshes the last list lacked, if those were too many to accept the loss; else 0.
        whole: whether a mesh that is not in `meshes` is certainly not listed. That is false before the first complete
            list: a bot that was started by hand may be in a mesh that was not read yet.
    """

    def __init__(self) -> None:
        self.meshes: dict[str, Mesh] | None = None
        self.whole = False
        self.held_back = 0
        self._running: dict[str, Mesh] = {}
        self._lost: set[str] = set()
        self._missed: dict[str, int] = {}  # by mesh, the complete lists in a row that lacked it
        self._insisted = 0  # lists in a row that lacked the same meshes as those that are held back
        self._left: dict[str, int] = {}  # by mesh that the bot has left, the lists since then that have it
        self._unread: dict[str, int] = {}  # by mesh, the rounds in a row that ended before they came to it
        self._scope = ""
        self._adopting = True

    @property
    def missing(self) -> AbstractSet[str]:
        """The ids of accepted meshes that the last complete list lacks."""
        return self._lost

    @property
    def unread(self) -> AbstractSet[str]:
        """The ids of accepted meshes that were not in the part of the last list that was read."""
        return self._unread.keys()

    @property
    def known(self) -> AbstractSet[str]:
        """The ids of the accepted meshes, or before the first good round of the adopted ones."""
        return (self._running if self.meshes is None else self.meshes).keys()

    @property
    def left(self) -> AbstractSet[str]:
        """The ids of meshes that the bot has left, and that late lists may still have."""
        return self._left.keys()

    def lists(self, mesh: str) -> bool:
        """Whether the mesh is accepted and the last list did not lack it; only then may it be started."""
        return self.meshes is not None and mesh in self.meshes and mesh not in self._lost

    @property
    def scope(self) -> str:
        """The scope of `meshes`, see `enter`; empty before the first good round."""
        return "" if self.meshes is None else self._scope

    def enter(self, scope: str) -> bool:
        """Set the scope of the lists to come: account and kind of list. Returns whether it has changed.

        If it has, all meshes are dropped: a list of another scope has other meshes, and that is no loss.
        """
        before, self._scope = self._scope, scope
        if before in ("", scope):
            return False
        self.forget_all()
        self._adopting = False
        return True

    def adopt(self, running: Iterable[str]) -> None:
        """Before the first round, take over the meshes whose bots an earlier process of the service has started.

        That process has seen them listed, so a first list without most of them is held back. Without this, the first
        list after a restart would be accepted even if it lacked everything. Nothing is taken over after `enter` has
        found another scope.
        """
        if not self._adopting:
            return
        self._running = {mesh: Mesh(mesh, None, "", invited=True, users=()) for mesh in running}

    def observe(self, listed: Sequence[Mesh]) -> None:
        """Apply a complete list. It sets `held_back`."""
        known = self._running if self.meshes is None else self.meshes
        seen = self._news(listed)
        self.whole = True
        self._unread = {}
        before, self._lost = self._lost, known.keys() - seen.keys()
        self.meshes = {mesh: seen.get(mesh, old) for mesh, old in known.items()} | seen
        # A mesh that is in this list starts to count anew when a later list lacks it.
        missed = {mesh: rounds for mesh, rounds in self._missed.items() if mesh in self._lost}
        if 2 * len(self._lost) > len(known):
            self.held_back = len(self._lost)
            self._missed = missed
            self._insisted = self._insisted + 1 if seen and before == self._lost else 0
            if self._insisted >= ROUNDS_TO_FORGET_MANY:
                self.confirm_losses()
        else:
            self.held_back = self._insisted = 0
            self._missed = {mesh: missed.get(mesh, 0) + 1 for mesh in self._lost}
            for mesh in [mesh for mesh, rounds in self._missed.items() if rounds >= ROUNDS_TO_FORGET]:
                self.forget(mesh)
            # If this list lacks a mesh that the bot has left, no late list will follow: the next one that has it
            # means a new invitation.
            self._left = {mesh.id: self._left[mesh.id] for mesh in listed if mesh.id in self._left}

    def observe_beginning(self, listed: Sequence[Mesh]) -> None:
        """Apply the beginning of a list. A mesh that it lacks may be in the part that was not read, so it stays."""
        known = self._running if self.meshes is None else self.meshes
        seen = self._news(listed)
        self.meshes = {mesh: seen.get(mesh, old) for mesh, old in known.items()} | seen
        self._unread = {mesh: self._unread.get(mesh, 0) + 1 for mesh in known if mesh not in seen}
        self._missed = {mesh: rounds for mesh, rounds in self._missed.items() if mesh not in seen}
        self._lost -= seen.keys()
        self.held_back = min(self.held_back, len(self._lost))

    def forget_unread(self, keep: AbstractSet[str]) -> None:
        """Drop meshes that several rounds in a row did not come to, but for those in `keep`.

        Otherwise an endless list, of which each round reads other meshes, would fill the memory.
        """
        for mesh in [mesh for mesh, rounds in self._unread.items() if rounds >= ROUNDS_TO_FORGET]:
            if mesh not in keep:
                self.forget(mesh)

    def confirm_losses(self) -> int:
        """Confirm losses: accept that the meshes which the last list lacks are gone. Returns how many those are."""
        gone = list(self._lost)
        self.held_back = self._insisted = 0
        for mesh in gone:
            self.forget(mesh)
        return len(gone)

    def leave(self, mesh: str) -> None:
        """Remove a mesh that the bot has left, or that is gone, and ignore late lists that still have it."""
        self.forget(mesh)
        self._left[mesh] = 0

    def forget(self, mesh: str) -> None:
        """Remove a mesh, which the next list may bring back."""
        self._missed.pop(mesh, None)
        self._unread.pop(mesh, None)
        self._lost.discard(mesh)
        self._running.pop(mesh, None)
        if self.meshes:
            self.meshes.pop(mesh, None)

    def forget_all(self) -> None:
        """Drop all meshes, because they belong to another account or another kind of list."""
        self.meshes = None
        # Bots that still run are in none of the meshes of the lists to come, and must stop.
        self.whole = True
        self.held_back = self._insisted = 0
        self._running = {}
        self._lost = set()
        self._missed = {}
        self._left = {}
        self._unread = {}

    def forget_for_good(self) -> None:
        """Record that there are no meshes, because there is no account. After `forget_all` they are only unknown."""
        self.forget_all()
        self.meshes = {}

    def _news(self, listed: Sequence[Mesh]) -> dict[str, Mesh]:
        """The meshes of a list by id, without those that it may have only because it is late."""
        seen = {mesh.id: mesh for mesh in listed}
        for mesh in self._left.keys() & seen.keys():
            self._left[mesh] += 1
            if self._left[mesh] < ROUNDS_TO_FORGET:
                del seen[mesh]
            else:
                del self._left[mesh]
        return seen


class Discovery:
    """Reads the list every `interval` seconds, and at once when asked to, one round at a time.

    Args:
        read: reads the list; raises `RaveError`.
        interval: seconds from the start of a round to the start of the next.
        ended: called after each round, good or not.

    Attributes:
        inventory: the meshes that are taken to exist.
        round: the number of the last round that has begun, from 1; 0 before the first.
        obstacle: why no round can begin; None if one can. See `suspend` and `resume`.
        last_good: seconds since the epoch of the last good round, even if the losses in it were held back; 0 before
            the first.
        error: why the last round failed; None if it was good.
        listed: whether the last round has read at least the beginning of the list.
        interval: as the argument; another one holds from the next round on.
        note: why the list was not read to its end, in words; empty if there is nothing to say.
        login_needed: whether Rave has refused the session, and no round was good since. Other failures leave it.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Listing]],
        interval: float,
        ended: Callable[[], None],
    ) -> None:
        self.inventory = Inventory()
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
        self.interval = interval
        self._ended = ended
        self._asked = asyncio.Event()
        self._checks: list[asyncio.Future[bool]] = []

    @property
    def stale_since(self) -> float:
        """Since when `meshes` may be out of date, in seconds since the epoch; 0 if the last list was accepted.

        That is the time of the last round that was good and accepted, or of the first round if there was none.
        """
        return self._known_until if self.error or self.inventory.held_back else 0.0

    @property
    def identity_refused(self) -> RaveError | None:
        """Why the last round failed, if Rave refuses the client identity or the time of this host's clock, else None.

        No mesh can be joined then.
        """
        return self.error if self.error and self.error.code in IDENTITY_REFUSALS else None

    def suspend(self, obstacle: RaveError) -> None:
        """Begin no more rounds until `resume`, because of `obstacle`."""
        self.obstacle = obstacle
        self._free.clear()

    def resume(self) -> None:
        """Remove the obstacle, begin a round now, and go on."""
        self.obstacle = None
        self._free.set()
        self.ask()

    def ask(self) -> int:
        """Begin a round now. If one is under way, another follows it, as that one may have read too early.

        Returns the number of the round that will begin.
        """
        self._asked.set()
        return self.round + 1

    def session_changed(self) -> None:
        """Begin a round with a new session, or with an old one that Rave accepts again."""
        self.login_needed = False
        self.ask()

    async def check(self) -> bool:
        """Begin a round, and return whether it was good, which shows that Rave answers."""
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
            # No faster than this, however often a round is asked for.
            await asyncio.sleep(begun + _MIN_INTERVAL_S - loop.time())
            with contextlib.suppress(TimeoutError):
                # From start to start, so that slow answers don't stretch the interval; never two at a time.
                async with asyncio.timeout(max(0.0, begun + self.interval - loop.time())):
                    await self._asked.wait()

    async def _one_round(self) -> None:
        # `stale_since` needs it if this round fails, too.
        self._known_until = self.stale_since or self.last_good or time.time()
        try:
            self._take(await self._read())
        except RaveError as e:
            self.listed = False
            self._fail(e, "so nothing changes")
            self.login_needed |= e.code is Code.UNAUTHORIZED
        except Exception:
            # A list that makes this program fail must not end the service: it would fail again at each start.
            self.listed = False
            if self.error is None or self.error.code is not Code.INTERNAL:
                log.exception("A round of discovery failed unexpectedly")
            self._fail(RaveError(Code.INTERNAL, "internal error, see the log"), "so nothing changes")
        self._ended()

    def _fail(self, error: RaveError, consequence: str) -> None:
        if self.error is None or self.error.message != error.message:
            extra = about(event=LogEvent.DISCOVERY_FAILED, cause=error.code)
            log.warning("Discovery failed, %s: %s", consequence, error, extra=extra)
        self.error = error

    def _take(self, listing: Listing) -> None:
        """Apply the list, or the part of it, that a round has read."""
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
            self.inventory.observe_beginning(listing.meshes)
            return
        held_back = self.inventory.held_back
        self.inventory.observe(listing.meshes)
        if self.inventory.held_back > held_back:
            extra = about(event=LogEvent.DISCOVERY_FAILED)
            lost = count(self.inventory.held_back, "mesh")
            log.warning("The list lacks %s at once; that is not believed", lost, extra=extra)
