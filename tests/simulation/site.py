"""The simulated machine with its service, its bots and its operators; what faults and operators can do to it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from ravesvc.blocklist.model import BlocklistChange
from ravesvc.config.options import Config
from ravesvc.config.worker_settings import Edition
from ravesvc.errors import RaveError
from tests.simulation.bot import Advisor
from tests.simulation.clocks import Clocks
from tests.simulation.disk import Disk
from tests.simulation.machine import Machine
from tests.simulation.parent import Parent
from tests.simulation.process import Process
from tests.simulation.promises import Promise, Promises
from tests.simulation.rave import Rave, Room
from tests.simulation.runner import SimulatedRunner
from tests.simulation.trace import Trace
from tests.unit.scenarios.surroundings import BLOCKLIST, settings
from tests.unit.scenarios.world import BLOCK_S

# systemd starts the service again after this time, or it takes longer because something else is wrong.
_SERVICE_RESTART_S = 2.0
_MAX_AWAY_S = 3 * 3600.0
_SERVERS = 4
_ORDERED_LATELY_S = 30.0
# Beyond the longest delays of the service: of a mesh that needs a person, an outage, a pause, rounds of discovery.
_PATIENCE_S = 3600.0 + 600.0 + 1200.0 + 300.0
# The service takes an edit over within two seconds.
_EDIT_TAKEN_S = 3.0
_EMPTY_LIST = '{"blockedMeshes": {}}'


class BrokenPromise(Exception):  # noqa: N818 - it is the result of a run
    """A promise was not kept. Its text is a report for people; `promise` says which."""

    def __init__(self, promise: Promise, mesh: str, what: str, at: float) -> None:
        super().__init__(f"{promise.name}: {promise}")
        self.promise, self.mesh, self.what, self.at = promise, mesh, what, at


class Site(Advisor):
    """Everything that there is in one simulation.

    Attributes:
        failure: done with the first promise that is broken.
        patience_s: seconds after the last fault within which all meshes are to run again.
    """

    def __init__(self, seed: int, directory: Path) -> None:
        self._seed = seed
        self._directory = directory
        rng = self.rng("site")
        self.settings = _settings(directory, rng)
        self.patience_s = _PATIENCE_S + 4 * self.settings.discovery_interval
        self.clocks = Clocks()
        self.rave = Rave()
        self.disk = Disk()
        self.events = Trace()
        self.failure: asyncio.Future[BrokenPromise] = asyncio.get_running_loop().create_future()
        self.parent: Parent | None = None
        self.process: Process | None = None
        self.promises = Promises(self.settings, self, self.clocks.monotonic, self.broken, self.trace)
        self.machine = Machine(
            self.rave,
            self,
            self.promises,
            lambda mesh: self._mesh_rng(mesh),
            self.clocks.monotonic,
            self.clocks.wall,
            self.trace,
        )
        self._edition = 1
        self._mesh_rngs: dict[str, Random] = {}
        self._lives = 0
        self._rooms_made = 0
        self._service_rng = self.rng("service")
        self._room_rng = self.rng("rooms")
        self._work: asyncio.Task[None] | None = None
        self._starting: asyncio.TimerHandle | None = None
        self._ends: dict[asyncio.TimerHandle, Callable[[], object]] = {}
        self._ordered_at: dict[str, float] = {}
        self._faultless = False
        for _ in range(rng.randint(14, 22)):
            self.open_room()

    # Time, chance, words.

    def rng(self, *what: object) -> Random:
        """A source of chance of its own, so that the order of what happens at once changes nothing."""
        text = f"{self._seed} {' '.join(map(str, what))}"
        return Random(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()))

    def _mesh_rng(self, mesh: str) -> Random:
        if mesh not in self._mesh_rngs:
            self._mesh_rngs[mesh] = self.rng("mesh", mesh)
        return self._mesh_rngs[mesh]

    def trace(self, mesh: str, what: str) -> None:
        """Note an event."""
        self.events.add(self.clocks.monotonic(), mesh, what)

    def broken(self, promise: Promise, mesh: str, what: str) -> None:
        """A promise is not kept."""
        if not self.failure.done():
            self.trace(mesh, f"BROKEN: {promise}: {what}")
            self.failure.set_result(BrokenPromise(promise, mesh, what, self.clocks.monotonic()))

    def steady_now(self) -> int:
        """Now, on the steady scale of the service that runs."""
        assert self.parent
        return self.parent.blocklist._clock.now()

    def ends_in(self, seconds: float, end: Callable[[], object]) -> None:
        """Something that a fault or an operator has begun goes on, or ends, later; at the latest with all faults."""

        def at_last() -> None:
            self._ends.pop(timer)
            end()

        timer = asyncio.get_running_loop().call_later(seconds, at_last)
        self._ends[timer] = end

    def calm(self) -> None:
        """All faults end now."""
        self._faultless = True
        # What these begin themselves, such as an edit that has to be noticed, goes on.
        for timer, end in list(self._ends.items()):
            timer.cancel()
            del self._ends[timer]
            end()
        if self._starting:
            self._starting.cancel()
            self._start_service()
        for mesh in list(self.machine.units):
            if (bot := self.machine.bot_of(mesh)) and (bot.hangs or bot.clings):
                self.machine.crash(mesh)
        self.promises.calm_since = self.clocks.monotonic()
        self.trace("", "faults cease")

    def disturb(self) -> None:
        """There are faults again."""
        self._faultless = False
        self.promises.calm_since = None
        self.trace("", "faults begin")

    # Rooms.

    def open_room(self) -> None:
        """A room comes into being, and invites the bot."""
        rng = self._room_rng
        self._rooms_made += 1
        mesh = f"{self._rooms_made:08x}-{rng.randrange(1 << 16):04x}-4000-8000-{rng.randrange(1 << 48):012x}"
        owner = 1000 + rng.randrange(50)
        public = self.settings.mesh_mode == "all" and rng.random() < 0.3
        server = f"server{rng.randrange(_SERVERS)}.test:443"
        self.rave.rooms[mesh] = Room(mesh, server, owner, (owner,), invited=not public, public=public)

    def close_room(self, mesh: str) -> None:
        """A room is gone; its bot is shown out."""
        del self.rave.rooms[mesh]
        self.machine.broken.pop(mesh, None)
        self.trace(mesh, "the room closes")
        self._mesh_rngs.pop(mesh, None)
        if self.machine.run_of(mesh).present:
            self.machine.crash(mesh)

    def show_hidden(self) -> None:
        """Lists have all meshes again."""
        self.rave.troubles.hidden.clear()
        self.rave.troubles.sudden.clear()
        self.trace("", "lists have all meshes again")

    @property
    def lists_are_known(self) -> bool:
        """Whether the service has read a list since it began."""
        return self.works and self.parent is not None and self.parent.discovery.inventory.whole

    # The service.

    @property
    def works(self) -> bool:
        """Whether the service runs, and has started."""
        return self.process is not None and self.process.alive and self.parent is not None and self.parent.started

    def start_service(self) -> None:
        """The service starts for the first time."""
        self._start_service()

    def _start_service(self) -> None:
        self._starting = None
        self._lives += 1
        self.trace("", f"the service starts (life {self._lives})")
        process = self.process = Process(self.killed)
        runner = SimulatedRunner(self.machine, process, self._ordered)
        self.parent = process.run(
            lambda: Parent(
                self.settings,
                self.rave,
                runner,
                process,
                self.clocks,
                self,
                lambda: self.machine.edition,
            )
        )
        self._work = process.spawn(self._run(self.parent, process))

    async def _run(self, parent: Parent, process: Process) -> None:
        try:
            await parent.start_blocklist()
            self.promises.process_started(parent)
            await parent.run()
        except asyncio.CancelledError:
            raise
        except Exception as e:  # noqa: BLE001 - it is a finding
            if process.alive:
                self.broken(Promise.NO_FAULT, "", f"the service ends by {type(e).__name__}: {e}")

    def killed(self) -> None:
        """The service is killed, and started again some time later."""
        process, parent = self.process, self.parent
        self.process = self.parent = None
        if process is None or parent is None:
            return
        self.trace("", "the service is killed")
        self.promises.process_died(parent)
        process.alive = False
        self.machine.listener = None
        self._end_of(process.die())

    def restart_service(self) -> None:
        """The service ends in good order, and is started again."""
        process, parent = self.process, self.parent
        if process is None or parent is None or not self.works:
            return
        self.trace("", "the service is restarted")

        async def stop() -> None:
            work = self._work
            assert work
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await process.spawn(parent.end())
            # It may have been killed meanwhile.
            if self.process is process:
                self.process = self.parent = None
                await process.die()
                self._start_later()

        parent.started = False
        self._spawn(stop())

    def _end_of(self, ending: Any) -> None:
        async def end() -> None:
            await ending
            self._start_later()

        self._spawn(end())

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, context=self.machine.context)
        task.add_done_callback(self._judge_task)

    def _judge_task(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self.broken(Promise.NO_FAULT, "", f"{type(error).__name__}: {error}")

    def _start_later(self) -> None:
        rng = self._service_rng
        away = _SERVICE_RESTART_S if self._faultless or rng.random() < 0.7 else rng.uniform(0, _MAX_AWAY_S)
        self._starting = asyncio.get_running_loop().call_later(away, self._start_service)

    def reboot(self) -> None:
        """The machine starts anew: processes are gone, and the service among them."""
        self.trace("", "the machine boots")
        self.clocks.boot = f"boot-{self._lives + 1}"
        self.machine.reboot()
        self.killed()

    def process_run(self, what: Callable[[Parent], object]) -> None:
        """Have something done in the service."""
        assert self.process
        assert self.parent
        self.process.run(what, self.parent)

    def new_edition(self) -> None:
        """The programs are replaced by newer ones."""
        self._edition += 1
        self.machine.edition = Edition(str(self._edition), "a")

    def roll(self) -> None:
        """An operator has outdated bots replaced."""
        if not self.works or self.promises.rolling:
            return
        self.promises.rolling = True
        self.trace("", "the operator rolls")
        try:
            self.process_run(lambda parent: parent.roll.start())
        except RaveError as e:
            self.trace("", f"the operator is refused: {e.code}")

    def unblock(self, mesh: str) -> None:
        """An operator takes a mesh off the blocklist."""
        self.trace(mesh, "the operator unblocks it")
        self.promises.unblocked(mesh)
        self.process_run(lambda parent: parent.blocklist.remove(mesh, "alice"))

    def is_ordered_lately(self, mesh: str) -> bool:
        """Whether the service has just done something with a mesh."""
        return self.clocks.monotonic() - self._ordered_at.get(mesh, -1e9) < _ORDERED_LATELY_S

    def _ordered(self, verb: str, mesh: str) -> None:
        self._ordered_at[mesh] = self.clocks.monotonic()
        self.promises.ordered(verb, mesh)

    # What bots ask.

    def failures(self, mesh: str) -> tuple[int, float]:
        """See `Advisor`."""
        if not self.works or not self.parent:
            return 0, 0.0
        blocklist = self.parent.blocklist
        return blocklist.memory(mesh).failures, blocklist.failing_for(mesh)

    def pause(self, mesh: str) -> float:
        """See `Advisor`."""
        return self.parent.reconciler.pause(mesh)[0] if self.works and self.parent else 0.0

    # What the service says.

    def announced(self, change: BlocklistChange, *, saved: bool) -> None:
        """See `Judge`."""
        self.promises.announced(change, saved=saved)

    def asked(self) -> None:
        """See `Judge`."""
        self.promises.asked()

    def listed(self, listing: Any) -> None:
        """See `Judge`."""
        self.promises.listed(listing)

    def rolled(self, error: RaveError | None) -> None:
        """See `Judge`."""
        self.promises.rolled(error)

    # The disk.

    @property
    def blocklist_path(self) -> Path:
        """The file that operators edit."""
        return self._directory / BLOCKLIST

    def edit(self, text: str) -> None:
        """An operator saves the file."""
        new = self._directory / "edited"
        new.write_text(text)
        new.replace(self.blocklist_path)
        self.promises.file_edited()
        self.touched()

    def touched(self) -> None:
        """The file is another one: the service sees that, if there is one."""
        self.promises.file_edited()
        if self.works and self.process and self.parent:
            self.process.run(self.parent.blocklist_edited)
            self.ends_in(_EDIT_TAKEN_S, partial(self._edit_taken, self.process))

    def _edit_taken(self, process: Process) -> None:
        """An edit is old enough to be in force, if the service has not died meanwhile."""
        if process is self.process and self.works:
            self.promises.file_edited(taken=True)

    def restore(self) -> None:
        """An operator has a blocklist that can't be used restored, or begins with an empty one."""
        if not self.works or not self.parent or not self.parent.blocklist.error:
            return
        self.trace("", "the operator restores the blocklist")

        async def attempt(parent: Parent) -> None:
            try:
                await parent.blocklist.restore()
            except RaveError:
                self.promises.all_unblocked()
                self.edit(_EMPTY_LIST)

        assert self.process
        self.process.spawn(attempt(self.parent))

    def free_disk(self) -> None:
        """The disk has space again."""
        self.disk.full = False
        self.disk.freed_at = self.clocks.monotonic()


def _settings(directory: Path, rng: Random) -> Config:
    interval = rng.choice([300, 600, 900])
    return settings(
        directory,
        discovery_interval=f"{interval}s",
        status_poll_interval=f"{rng.choice([600, 1200])}s",
        blocklist_duration=f"{BLOCK_S:g}s",
        max_processes=rng.choice([0, 0, 0, 4, 8]),
        starts_per_minute=rng.choice([0, 6, 30]),
        mesh_mode=rng.choice(["invited", "invited", "all"]),
        limit=rng.choice([5, 20]),
    )
