"""Runs one simulation: hours of faults and hours without, until a promise is broken or the time is over."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.simulation.clocks import LeapingLoop, leaping_loop
from tests.simulation.faults import FAULTS, Fault
from tests.simulation.operators import ACTIONS
from tests.simulation.parent import virtual_time
from tests.simulation.process import make_task
from tests.simulation.promises import RUNS_WITHIN_S, Promise
from tests.simulation.site import BrokenPromise, Site
from tests.simulation.trace import stamp

_HOUR = 3600.0
_CHECK_S = 180.0
# So many times as rare as they stand there are faults, or else the processor has too much to do.
_RARER = 1.5


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one simulation.

    `digest` is that of all its events; `failure` is the promise that was broken, and `text` that in words.
    """

    seed: int
    hours: float
    events: int
    digest: str
    failure: BrokenPromise | None
    text: str


def simulate(seed: int, hours: float) -> Report:
    """Simulate so many hours; the same seed gives the same."""
    with (
        tempfile.TemporaryDirectory(prefix="ravesvc-simulation-", dir=_fast_directory()) as directory,
        _quiet_logs(),
        asyncio.Runner(loop_factory=LeapingLoop) as runner,
    ):
        return runner.run(_simulate(seed, hours, Path(directory)))


def _fast_directory() -> str | None:
    """Where files are kept in memory, if there is such a place: there are some hundred writes in a day."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


async def _simulate(seed: int, hours: float, directory: Path) -> Report:
    loop = leaping_loop()
    loop.set_task_factory(make_task)
    site = Site(seed, directory)
    loop.on_circle = lambda: site.broken(Promise.NO_CIRCLE, "", "time does not pass any more")
    loop.set_exception_handler(lambda _loop, context: _blame(site, context))
    with site.disk.in_use(), virtual_time(site.clocks), _logged_faults(site):
        begun = loop.time()
        site.start_service()
        history = loop.create_task(_history(site, begun + hours * _HOUR))
        checks = loop.create_task(_check(site))
        done, _ = await asyncio.wait([history, site.failure], return_when=asyncio.FIRST_COMPLETED)
        failure = site.failure.result() if site.failure in done else None
        if history in done:
            history.result()
        for task in (history, checks):
            task.cancel()
        report = _report(site, seed, hours, failure)
        await _end(site)
    return report


async def _end(site: Site) -> None:
    """Leave nothing behind."""
    if site.process:
        await site.process.die()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _history(site: Site, end: float) -> None:
    """Hours with faults, hours without, and so on."""
    loop, rng = asyncio.get_running_loop(), site.rng("history")
    while loop.time() < end:
        disturbances = [
            loop.create_task(_strike(site, fault, site.rng("fault", fault.name, loop.time())))
            for fault in (*FAULTS, *ACTIONS)
        ]
        await asyncio.sleep(min(rng.uniform(1, 10) * _HOUR, end - loop.time()))
        for task in disturbances:
            task.cancel()
        await asyncio.gather(*disturbances, return_exceptions=True)
        site.calm()
        await asyncio.sleep(site.patience_s + RUNS_WITHIN_S + rng.uniform(0.5, 1.5) * _HOUR)
        site.promises.check_sizes()
        site.disturb()


async def _strike(site: Site, fault: Fault, rng: Random) -> None:
    while True:
        await asyncio.sleep(rng.expovariate(1 / (_RARER * fault.every_s)))
        site.trace("", f"fault: {fault.name}")
        fault.strike(site, rng)


async def _check(site: Site) -> None:
    while True:
        await asyncio.sleep(_CHECK_S)
        if site.promises.calm_since is not None:
            site.restore()
        site.promises.check()


def _blame(site: Site, context: dict[str, object]) -> None:
    error = context.get("exception")
    site.broken(Promise.NO_FAULT, "", f"{context['message']}: {type(error).__name__}: {error}")


class _Faults(logging.Handler):
    """Takes each exception that the service has not expected for a fault of the program."""

    def __init__(self, site: Site) -> None:
        super().__init__(logging.ERROR)
        self._site = site

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            error = record.exc_info[1]
            text = f"{record.getMessage()}: {type(error).__name__}: {error}"
            self._site.broken(Promise.NO_FAULT, "", text)


@contextmanager
def _logged_faults(site: Site) -> Iterator[None]:
    handler = _Faults(site)
    logging.getLogger("ravesvc").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("ravesvc").removeHandler(handler)


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Nothing but errors is logged, and that not to the terminal."""
    logger = logging.getLogger("ravesvc")
    before = logger.level, logger.propagate
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    # Else the objects of other tests would be looked through again and again.
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        logger.setLevel(before[0])
        logger.propagate = before[1]


def _report(site: Site, seed: int, hours: float, failure: BrokenPromise | None) -> Report:
    events = site.events
    if failure is None:
        return Report(seed, hours, events.count, events.digest, None, "")
    lines = [
        f"A promise is broken: {failure.promise}",
        f"  what       {failure.what}",
        f"  mesh       {failure.mesh or 'none alone'}",
        f"  when       {stamp(failure.at)}",
        f"  again by   make simulate SEED={seed} HOURS={hours:g}",
        "  the last events:",
        *(f"    {event}" for event in events.about(failure.mesh)),
    ]
    return Report(seed, hours, events.count, events.digest, failure, "\n".join(lines))
