"""Run one target: mutate entries of its corpus until the time is up or an input does what none may.

A target is a module in `targets` with a function `check(data)`. It hands the bytes to the code that meets them in the
service, and asserts what must hold of whatever was accepted. `RaveError` means that the input was refused, which is
right; any other exception is a failure, and so is to take longer, or more memory, than the bounds below.
"""

from __future__ import annotations

import hashlib
import importlib
import random
import resource
import shlex
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from ravesvc.errors import RaveError
from tests.fuzz.mutations import mutated

HERE = Path(__file__).parent
FAILURES = HERE.parents[1] / "build/fuzz"

# Processor time of one input of at most `mutations.MAX_BYTES`, with a margin for slow machines.
MAX_CPU_S = 0.5
# When one that waits or loops is given up, on a machine that may be busy with other things.
HANG_S = 60
# What one input may add to the largest size that the process ever had.
MAX_GROWTH_MB = 48
# Beyond that the kernel gives no memory: a failure of ours must not become one of the machine.
_ADDRESS_SPACE = 2 << 30


class Target(NamedTuple):
    """`check` raises RaveError for what is refused; `max_cpu_s` is another bound for it than `MAX_CPU_S`."""

    check: Callable[[bytes], None]
    max_cpu_s: float = MAX_CPU_S


class Report(NamedTuple):
    """What became of a run, in words."""

    failed: bool
    text: str


class BrokenError(Exception):
    """An input did what none may."""


class _Hangs(BaseException):
    """Not an Exception: what is tested may swallow those."""


def names() -> list[str]:
    """The targets."""
    return sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py"))


def load(name: str) -> Target:
    """The target of that name."""
    module = importlib.import_module(f"tests.fuzz.targets.{name}")
    return Target(module.check, getattr(module, "MAX_CPU_S", MAX_CPU_S))


def corpus(name: str) -> dict[str, bytes]:
    """The entries that a target begins with, by file name."""
    return {path.name: path.read_bytes() for path in sorted((HERE / "corpus" / name).iterdir())}


def fuzz(name: str, seconds: float, seed: int) -> Report:
    """Check the corpus, then mutations of it for so many seconds. A failing input is saved under `FAILURES`."""
    target = load(name)
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, resource.RLIM_INFINITY))
    entries = list(corpus(name).values())
    rng = random.Random(f"{name} {seed}")
    end = time.monotonic() + seconds
    waiting = list(entries)
    inputs = accepted = 0
    while waiting or time.monotonic() < end:
        data = waiting.pop() if waiting else mutated(rng, entries)
        try:
            accepted += attempt(target, data)
        except BrokenError as e:
            return Report(
                failed=True, text=f"{name}: failed at input {inputs} of seed {seed}\n{_saved(name, data, e)}"
            )
        inputs += 1
    return Report(failed=False, text=f"{name}: {inputs} inputs, {accepted} accepted, seed {seed}")


def replay(name: str, file: Path) -> Report:
    """Check one input again."""
    try:
        accepted = attempt(load(name), file.read_bytes())
    except BrokenError as e:
        return Report(failed=True, text=f"{name}: {e}")
    return Report(failed=False, text=f"{name}: {'accepted' if accepted else 'refused'}, as it may be")


def attempt(target: Target, data: bytes) -> bool:
    """Whether an input is accepted; raises `BrokenError` when it breaks a rule."""
    largest = _largest_mb()
    accepted, cpu = _timed(target, data)
    if cpu > target.max_cpu_s:
        # A collection of all garbage may have come in between.
        cpu = min(cpu, _timed(target, data)[1])
    if cpu > target.max_cpu_s:
        raise BrokenError(f"it took {cpu:.2f} s of processor time, where {target.max_cpu_s} s are the limit")
    if (growth := _largest_mb() - largest) > MAX_GROWTH_MB:
        raise BrokenError(f"it took {growth:.0f} MB of memory, where {MAX_GROWTH_MB} MB are the limit")
    return accepted


def _timed(target: Target, data: bytes) -> tuple[bool, float]:
    before = time.process_time()
    before_us = signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        target.check(data)
        accepted = True
    except RaveError:
        accepted = False
    except _Hangs:
        raise BrokenError(f"it took more than {HANG_S} s\n{traceback.format_exc()}") from None
    except Exception:  # noqa: BLE001 - whichever it is
        raise BrokenError(traceback.format_exc()) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before_us)
    return accepted, time.process_time() - before


def _give_up(_signal: int, _frame: FrameType | None) -> None:
    raise _Hangs


def _largest_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _saved(name: str, data: bytes, broken: BrokenError) -> str:
    """Keep a failing input; returns what people need to know."""
    file = FAILURES / name / hashlib.sha256(data).hexdigest()[:12]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return (
        f"{broken}\n{data[:200]!r}{'...' if len(data) > 200 else ''}\n"
        f"replay: .venv/bin/python -m tests.fuzz {name} --replay {shlex.quote(str(file))}\n"
        f"once it is fixed, move the file to tests/fuzz/corpus/{name}/ under a name that says what it is"
    )
