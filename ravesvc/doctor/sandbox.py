"""Attack the bots' sandbox on this machine, with a bot that runs `ravesvc.hostile` in place of its program.

    ravectl (root)                         systemd
      start rave-mesh@doctor-sibling   ->  a process with user and sandbox of a bot, which waits
      write its PID to doctor.env
      start rave-mesh@doctor           ->  the hostile bot, whose standard output is doctor.json
      read doctor.json, stop both, remove both files

Both units are instances of rave-mesh@.service with a drop-in that says what to run: there is no second sandbox that
could differ from that of the bots, and changes to it by an operator or a container image are tested too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ravesvc import names
from ravesvc.common import json_fields
from ravesvc.doctor.finding import Finding, held, not_held, unknown
from ravesvc.doctor.systemctl import start, systemctl
from ravesvc.errors import RaveError
from ravesvc.hostile.probes import PROBES
from ravesvc.mesh.confinement import LANDLOCK_SCOPES, landlock_version

_NAME = "sandbox"
_LOG_HINT = f"journalctl -u {names.DOCTOR_UNIT} may say why"
# How `ravesvc.hostile` begins the text of a probe that proves nothing.
_NOT_TRIED = "it could not be tried"
# Drop-ins that belong to the package or to rave.yaml.
_OWN_DROP_INS = ("zz-doctor.conf", "50-rave-yaml.conf")
# A result has about 2000 bytes.
_MAX_RESULT_BYTES = 64 << 10
_MAX_TEXT_CHARS, _MAX_GAPS = 200, 8
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Facts about this machine that may weaken the sandbox.

    Attributes:
        drop_ins: paths of drop-ins that are neither of the package nor from rave.yaml.
        container: the kind of container that this is; empty for none.
        landlock: the version of the kernel's Landlock; None for none.
        gaps: what the kernel did not let the bot give up, a sentence for each.
    """

    drop_ins: Sequence[str] = ()
    container: str = ""
    landlock: int | None = None
    gaps: Sequence[str] = ()


def evaluate(answer: Mapping[str, object], surroundings: Surroundings) -> list[Finding]:
    """A finding for each probe. `answer` has what the hostile bot could do by probe, None where it was refused."""
    return [_evaluate_probe(name, answer, surroundings) for name in PROBES]


def _evaluate_probe(name: str, answer: Mapping[str, object], surroundings: Surroundings) -> Finding:
    if name not in answer:
        return unknown(name, "the hostile bot has not told", _LOG_HINT)
    outcome = answer[name]
    if outcome is None:
        return held(name, "refused")
    if not isinstance(outcome, str):
        return unknown(name, "the hostile bot tells nonsense", _LOG_HINT)
    if outcome.startswith(_NOT_TRIED):
        return unknown(name, outcome[:_MAX_TEXT_CHARS], _LOG_HINT)
    why = outcome[:_MAX_TEXT_CHARS]
    if surroundings.gaps:
        why += f" ({'; '.join(surroundings.gaps)})"
    return not_held(name, why, _cause(surroundings))


def _cause(surroundings: Surroundings) -> str:
    """The likeliest reason, and what to do about it."""
    if surroundings.drop_ins:
        what = ", ".join(surroundings.drop_ins)
        return f"drop-ins change the sandbox: {what}; 'systemctl cat {names.MESH_UNIT_TEMPLATE}' shows how"
    if surroundings.container:
        return f"this is a container ({surroundings.container}), whose host has to allow what systemd needs"
    if surroundings.landlock is None or surroundings.landlock < LANDLOCK_SCOPES:
        return "this kernel's Landlock is missing or old, see above"
    return "systemd or the kernel is older than Debian 13's, or this is a mistake of ours: please report it"


def attack() -> list[Finding]:
    """Run the hostile bot once and evaluate what it could do; root only. Takes some seconds."""
    if os.geteuid() != 0:
        return [unknown(_NAME, "only root can have a hostile bot try it", "sudo ravectl doctor")]
    state = systemctl("show", "--value", "--property=LoadState", names.DOCTOR_UNIT)
    if state.stdout.strip() != "loaded":
        return [unknown(_NAME, f"there is no systemd here, or {names.MESH_UNIT_TEMPLATE} is not installed")]
    try:
        with _exclusive_lock():
            sibling = _start_sibling()
            failed = _run_hostile(sibling) if sibling else names.DOCTOR_SIBLING_UNIT
            found, gaps = _read_result()
    except OSError as e:
        return [unknown(_NAME, f"{e.filename} can't be used: {e.strerror}", "systemd-tmpfiles --create makes it")]
    return (
        [_not_started(failed)]
        if failed
        else evaluate(found, Surroundings(_drop_ins(), _container(), landlock_version(), gaps))
    )


def _start_sibling() -> int:
    """Start a bot that does nothing but wait; returns its PID, 0 if it has not started."""
    started = _start(names.DOCTOR_SIBLING_UNIT)
    shown = systemctl("show", "--value", "--property=MainPID", names.DOCTOR_SIBLING_UNIT).stdout.strip()
    return int(shown) if started and shown.isdecimal() else 0


def _run_hostile(sibling: int) -> str:
    """Run the hostile bot against a process by PID; returns the failed unit, or an empty text. Raises OSError."""
    Path(names.DOCTOR_ENVIRONMENT_FILE).write_text(f"SIBLING={sibling}\n", encoding="ascii")
    return "" if _start(names.DOCTOR_UNIT) else names.DOCTOR_UNIT


def _start(unit: str) -> bool:
    """Start a unit, and wait for its process if that ends; false when it fails.

    Scenario: an interrupt comes after systemctl has sent the request to start, and before systemd has read it. If
    ravectl ended then, systemd would read the request after the stop in `_clean_up`, and the bot would run on. So an
    interrupt does not end systemctl: it stops the unit, and that ends the wait of systemctl.
    """
    came: list[int] = []
    # Until `process` is known an interrupt is only recorded, because its handler would not know what to wait for.
    _handle_interrupts(lambda number, _frame: came.append(number))
    process = start(unit)
    try:
        _handle_interrupts(signal.default_int_handler)
        if came:
            raise KeyboardInterrupt  # noqa: TRY301
        return _wait(process) == 0
    except KeyboardInterrupt:
        _handle_interrupts(signal.SIG_IGN)
        systemctl("stop", unit)
        process.wait()
        raise


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait until a process ends; an interrupt ends the wait too, even one that comes just before it.

    Scenario: an interrupt comes just before `process.wait` enters the kernel. Python would call the handler when that
    returns, which is too late. The wake-up descriptor is readable from the interrupt on, so `select` does not wait.
    """
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    ended = os.pidfd_open(process.pid)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        while process.poll() is None:
            if reader in select.select([reader, ended], [], [])[0]:
                os.read(reader, 1)
        return process.wait()
    finally:
        signal.set_wakeup_fd(before)
        for descriptor in (reader, writer, ended):
            os.close(descriptor)


def _not_started(unit: str) -> Finding:
    why = f"{unit}, which has the sandbox of all bots, does not start or does not end well"
    return not_held(_NAME, why, f"journalctl -u {unit} says why", fatal=True)


@contextlib.contextmanager
def _exclusive_lock() -> Iterator[None]:
    """Hold the lock that only one ravectl may hold; at any end, delete all files and stop all units."""
    directory = os.open(Path(names.DOCTOR_RESULT_FILE).parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # An interrupt during this wait cleans nothing up, because all files and units belong to the other ravectl.
        fcntl.flock(directory, fcntl.LOCK_EX)
        with _cleanup_on_interrupt():
            yield
    finally:
        os.close(directory)


@contextlib.contextmanager
def _cleanup_on_interrupt() -> Iterator[None]:
    """Clean up at the end, also after an interrupt or a hang-up; further interrupts do not break the clean-up off."""
    before = {number: signal.getsignal(number) for number in _INTERRUPTS}
    _handle_interrupts(signal.default_int_handler)
    try:
        yield
    finally:
        _handle_interrupts(signal.SIG_IGN)
        _clean_up()
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle_interrupts(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    """Set the handler of interrupts, except of ignored ones, which systemctl inherits as ignored."""
    for number in _INTERRUPTS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _clean_up() -> None:
    units = (names.DOCTOR_UNIT, names.DOCTOR_SIBLING_UNIT)
    systemctl("stop", *units)
    for file in (names.DOCTOR_ENVIRONMENT_FILE, names.DOCTOR_RESULT_FILE):
        Path(file).unlink(missing_ok=True)
    # A failed unit would raise an alarm in the monitoring of the machine.
    systemctl("reset-failed", *units)


def _read_result() -> tuple[Mapping[str, object], Sequence[str]]:
    """The outcome by probe and the gaps, from the result file; both empty if that is not valid."""
    try:
        with Path(names.DOCTOR_RESULT_FILE).open("rb") as file:
            return parse_result(file.read(_MAX_RESULT_BYTES))
    except (OSError, RaveError):
        return {}, ()


def parse_result(text: bytes) -> tuple[Mapping[str, object], Sequence[str]]:
    """The outcome by probe and the gaps, from the result of the hostile bot. Raises `RaveError` (BadData)."""
    answer = json_fields.parse_object(text, "the hostile bot's answer")
    gaps = [str(gap)[:_MAX_TEXT_CHARS] for gap in json_fields.get_list(answer, "gaps")[:_MAX_GAPS]]
    return json_fields.get_object(answer, "found"), gaps


def _drop_ins() -> list[str]:
    shown = systemctl("show", "--value", "--property=DropInPaths", names.DOCTOR_UNIT).stdout.split()
    return [path for path in shown if Path(path).name not in _OWN_DROP_INS]


def _container() -> str:
    """What systemd calls the container that this is; empty for none."""
    try:
        return Path("/run/systemd/container").read_text(encoding="utf-8").strip()[:_MAX_TEXT_CHARS]
    except (OSError, UnicodeDecodeError):
        return ""
