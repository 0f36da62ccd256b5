"""What a bot says of itself, and what follows from it, whether it has come as a D-Bus signal or as a call."""

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
from ravesvc.core.mesh_state import MeshState, command_errors, counted
from ravesvc.core.start_policy import StartPolicy


@dataclass(frozen=True, slots=True)
class Ready:
    """It has started, and can be asked how it is."""


@dataclass(frozen=True, slots=True)
class Connected:
    """It is in its mesh."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """It is in its mesh no more, and tries to get back."""

    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionFailed:
    """It could not get into its mesh, so many times in a row, and goes on trying."""

    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """A host has asked it for a pause of so many seconds."""

    host: str
    seconds: int


@dataclass(frozen=True, slots=True)
class ErrorReported:
    """Something else has failed."""

    message: str


@dataclass(frozen=True, slots=True)
class CommandErrors:
    """What is wrong with the operator's own commands in it, in sentences; nothing is if there are none."""

    errors: Sequence[object]


@dataclass(frozen=True, slots=True)
class Left:
    """It is about to end, and says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Kicked:
    """It was thrown out of its mesh, and is about to end."""


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
    """The event of a signal of org.ravesvc.Rave1.Worker; None for what is none of them."""
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
    """An event that has told something new. `words` are its text, checked and bounded; empty where it has none."""

    mesh: str
    event: WorkerEvent
    words: str = ""


class WorkerReports:
    """Takes over what bots say of themselves.

    Attributes:
        news: emitted for what is worth an entry in the log.
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
        """Take over an event of the bot of a mesh; it may have been taken over by strangers, and say anything."""
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
                # Before anything else, because whatever the bot does next may fail. The block will say why, once it
                # is on disk.
                worker.disconnect("")
                self._exit_policy.kicked(mesh)
                record.look_up(self._inventory)

    def reset_failures_if_stable(self, mesh: str) -> None:
        """If the connection of a bot has held for long enough, what went wrong before it is over."""
        worker = self._records[mesh].worker
        if worker.connected and self._now() - worker.connected_at >= STABLE_AFTER_S:
            worker.attempts = 0
            self._blocklist.reset_failures(mesh)
            self._starts.stable(mesh)

    def _connected(self, record: MeshState) -> None:
        worker = record.worker
        # A bot says it again to a parent that has restarted: the connection is no new one.
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
        # All bots have the same commands, and each would say it.
        known = command_errors(self._records.values())
        record.worker.fail_commands(event.errors)
        for error in sorted({*record.worker.command_errors} - {*known}):
            self.news.emit(WorkerNews(record.mesh, event, error))
