"""The events that a bot reports, as a D-Bus signal or as a call, and what follows from each.

Scenario: a bot is kicked, reports that, and crashes before it exits. If the block waited for the exit, the crash
would hide the kick, and the bot would be sent back into the room. So `Kicked` blocks the mesh at once.

A bot runs commands of strangers and may have been taken over. So its reports are bounded and stripped of control
characters before they are stored or logged, and it can report only of its own mesh.
"""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.common.signal import Signal
from ravesvc.config.worker_settings import STABLE_AFTER_S
from ravesvc.core.exit_policy import ExitPolicy
from ravesvc.core.inventory import Inventory
from ravesvc.core.mesh_state import MeshState, command_errors
from ravesvc.core.start_policy import StartPolicy
from ravesvc.core.worker_status import counted, error_texts


@dataclass(frozen=True, slots=True)
class Ready:
    """The bot has started, and answers health checks."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The bot is in its mesh."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The bot has lost its connection, and tries to connect again."""

    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionFailed:
    """The bot could not connect, for the `attempts`-th time in a row, and goes on trying."""

    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """A host has asked the bot not to call it for so many seconds."""

    host: str
    seconds: int


@dataclass(frozen=True, slots=True)
class ErrorReported:
    """Something else has failed, in words."""

    message: str


@dataclass(frozen=True, slots=True)
class CommandErrors:
    """The errors of the operator's plugins in the bot, in sentences; empty if all is well again."""

    errors: Sequence[object]


@dataclass(frozen=True, slots=True)
class Left:
    """The bot is about to exit, for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Kicked:
    """The bot was kicked from its mesh, and is about to exit."""


WorkerEvent: TypeAlias = (
    Ready
    | Connected
    | Disconnected
    | ConnectionFailed
    | PauseRequested
    | ErrorReported
    | CommandErrors
    | Left
    | Kicked
)


def read_event(member: str, arguments: Sequence[object]) -> WorkerEvent | None:
    """The event that a signal of org.ravesvc.Rave1.Worker stands for; None if name or arguments are not valid."""
    match member, list(arguments):
        case "Ready", []:
            return Ready()
        case "Connected", []:
            return Connected()
        case "Disconnected", [str(reason)]:
            return Disconnected(reason)
        case "ConnectionFailed", [attempts, str(error)]:
            return ConnectionFailed(counted(attempts), error)
        case "RateLimited", [str(host), seconds]:
            return PauseRequested(host, counted(seconds))
        case "Error", [str(message)]:
            return ErrorReported(message)
        case "CommandErrors", [list(errors)]:
            return CommandErrors(errors)
        case "Left", [str(reason)]:
            return Left(reason)
        case "Kicked", []:
            return Kicked()
    return None


@dataclass(frozen=True, slots=True)
class WorkerNews:
    """An event that is worth an entry in the log. `words` are its text, checked and bounded; empty if it has none."""

    mesh: str
    event: WorkerEvent
    words: str = ""


class WorkerReports:
    """Applies the reports of bots to the records of their meshes.

    Attributes:
        news: emitted for each event that is worth an entry in the log.
    """

    def __init__(
        self,
        records: MutableMapping[str, MeshState],
        inventory: Inventory,
        blocklist: Blocklist,
        starts: StartPolicy,
        exit_policy: ExitPolicy,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.news: Signal[WorkerNews] = Signal("news of bots")
        self._records = records
        self._inventory = inventory
        self._blocklist = blocklist
        self._starts = starts
        self._exit_policy = exit_policy
        self._now = now

    def apply(self, mesh: str, event: WorkerEvent) -> None:
        """Apply an event from the bot of a mesh. The sender is verified, but what it says may be false."""
        record = self._records.setdefault(mesh, MeshState(mesh))
        worker = record.worker
        worker.heard, worker.healthy = self._now(), True
        worker.signals += 1
        match event:
            case Ready():
                worker.ready = True
            case Connected():
                self._connected(record)
            case Disconnected(reason):
                self.reset_failures_if_stable(mesh)
                self._starts.outages.disconnected(mesh)
                worker.disconnect(reason)
                self.news.emit(WorkerNews(mesh, event, worker.last_error))
            case ConnectionFailed(attempts, error):
                worker.attempts = attempts
                worker.fail(error)
                self.news.emit(WorkerNews(mesh, event, worker.last_error))
                self._blocklist.record_failure(mesh, attempts, worker.last_error)
                self._exit_policy.failed(mesh, worker.last_error)
            case PauseRequested(host, seconds):
                self._pause_requested(record, event, host, seconds)
            case ErrorReported(message):
                worker.fail(message)
                self.news.emit(WorkerNews(mesh, event, worker.last_error))
            case CommandErrors():
                self._command_errors(record, event)
            case Left(reason):
                worker.disconnect(reason)
            case Kicked():
                # At once, because the bot may crash before it exits. No reason is set here: the mesh shows its block
                # as soon as that is on disk.
                worker.disconnect("")
                self._exit_policy.kicked(mesh)
                record.look_up(self._inventory)

    def reset_failures_if_stable(self, mesh: str) -> None:
        """Forget earlier failures of a mesh if its connection has lasted for `STABLE_AFTER_S` seconds."""
        worker = self._records[mesh].worker
        if worker.connected and self._now() - worker.connected_at >= STABLE_AFTER_S:
            worker.attempts = 0
            self._blocklist.reset_failures(mesh)
            self._starts.stable(mesh)

    def _connected(self, record: MeshState) -> None:
        worker = record.worker
        # A bot repeats this to a service that was restarted. Its connection is not new then.
        if not worker.connected:
            worker.connect(worker.heard)
            self.news.emit(WorkerNews(record.mesh, Connected()))
        self._starts.outages.connected(record.mesh)

    def _pause_requested(self, record: MeshState, event: PauseRequested, host: str, seconds: int) -> None:
        if words := self._starts.rate_limited(record, host, seconds):
            self.news.emit(WorkerNews(record.mesh, event, words))
            if not record.worker.connected:
                record.worker.fail(words)

    def _command_errors(self, record: MeshState, event: CommandErrors) -> None:
        # All bots load the same plugins, so log an error only for the first bot that reports it.
        known = command_errors(self._records.values())
        record.worker.command_errors = error_texts(event.errors)
        for error in sorted({*record.worker.command_errors} - {*known}):
            self.news.emit(WorkerNews(record.mesh, event, error))
