"""All that the service knows of one mesh, and the word for its state."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ravesvc import names
from ravesvc.api.models import Mesh
from ravesvc.blocklist.model import Block
from ravesvc.bot.backend import PluginInfo
from ravesvc.common.text import printable
from ravesvc.config.worker_settings import Edition
from ravesvc.core.inventory import Inventory
from ravesvc.core.plan import Decision
from ravesvc.core.run_state import RunPhase, RunState
from ravesvc.core.worker_status import MAX_COUNT, MAX_ERRORS, MAX_PLUGINS, WorkerStatus


@dataclass(slots=True)
class WorkerState:
    """What a worker has reported since its process started.

    Attributes:
        heard: when it last sent a signal or an answer, or became active; seconds of the monotonic clock, as is `now`
            in the methods.
        signals: how many signals it has sent.
        ready: whether it has reported or answered anything.
        connected: whether it is in its mesh.
        since: when `connected` last changed, in seconds since the epoch; 0 if it never did.
        connected_at: when it connected, in seconds of the monotonic clock; 0 while it is not connected.
        attempts: how many attempts to connect have failed in a row.
        last_error: its last error in words; empty if there is none.
        plugins: those that are in force.
        command_errors: what is wrong with the operator's plugins, in sentences.
        unshown: how many of its messages have had no echo.
        chat_form: the form in which its server shows chat; empty until it has found that out.
        debug: whether it logs at the level debug.
        healthy: false if it has not answered for too long.
        edition: the version of its program and the digest of its settings; None until it has answered.
    """

    heard: float = 0.0
    signals: int = 0
    ready: bool = False
    connected: bool = False
    since: float = 0.0
    connected_at: float = 0.0
    attempts: int = 0
    last_error: str = ""
    plugins: tuple[PluginInfo, ...] = ()
    command_errors: tuple[str, ...] = ()
    unshown: int = 0
    chat_form: str = ""
    debug: bool = False
    healthy: bool = True
    edition: Edition | None = None

    def connect(self, now: float, *, lasted: float = 0.0) -> None:
        """Record that the worker is in its mesh, since `lasted` seconds ago."""
        self.connected, self.connected_at, self.since = True, now - lasted, max(0.0, time.time() - lasted)
        self.last_error = ""

    def disconnect(self, reason: object) -> None:
        """Record that the worker is not in its mesh, with its reason in words."""
        if self.connected:
            self.since = time.time()
        self.connected, self.connected_at = False, 0.0
        self.fail(reason)

    def fail(self, reason: object) -> None:
        """Set the last error, cut to a length and without control characters."""
        self.last_error = printable(reason, names.MAX_REPORT_CHARS)

    def answer(self, status: WorkerStatus, now: float) -> None:
        """Apply an answer to GetStatus."""
        self.ready = True
        self.attempts = status.attempts
        self.plugins = status.plugins
        self.command_errors = status.command_errors
        self.unshown = status.unshown
        self.chat_form = status.chat_form
        self.debug = status.debug
        self.edition = status.edition
        if not status.connected:
            self.disconnect(status.last_error)
            return
        # At most the time since the machine was booted.
        lasted = min(status.connected_s, now)
        # The worker knows since when it is connected; the service may have been started later. Differences up to a
        # second come from the time that the message took.
        if not self.connected or (lasted and abs(now - lasted - self.connected_at) > 1):
            self.connect(now, lasted=lasted)
        self.fail(status.last_error)


@dataclass(slots=True)
class MeshState:
    """One mesh that is listed, blocked or has a process.

    Attributes:
        listed: its entry in Rave's list; None if the inventory does not have it.
        block: its entry in the blocklist; None if there is none.
        run: its process.
        worker: what its worker has reported.
        decision: what the last plan decided for it; None before the first plan.
        last_exit: how its last process has ended, in words.
        missing: whether the last list lacks it, although it still counts as listed.
        unread: whether the last list was not read as far as its entry.
        former: its entry in the last list that had it.
    """

    mesh: str
    listed: Mesh | None = None
    block: Block | None = None
    run: RunState = field(default_factory=RunState)
    worker: WorkerState = field(default_factory=WorkerState)
    decision: Decision | None = None
    last_exit: str = ""
    missing: bool = False
    unread: bool = False
    former: Mesh | None = None

    def look_up(self, inventory: Inventory) -> None:
        """Update the fields that come from the inventory."""
        self.listed = (inventory.meshes or {}).get(self.mesh)
        self.missing, self.unread = self.mesh in inventory.missing, self.mesh in inventory.unread
        self.former = self.listed or self.former

    @property
    def title(self) -> str:
        """The title of its video when it was last listed, or else when it was blocked; empty if neither is known."""
        mesh = self.listed or self.former
        return (mesh.title if mesh else "") or (self.block.title if self.block else "")

    @property
    def server(self) -> str | None:
        """The address of its server when it was last listed; None if that is not known."""
        mesh = self.listed or self.former
        return mesh.server if mesh else None

    @property
    def state(self) -> str:
        """The state in a word.

        One of blocked, held, stopped, starting, connected, disconnected, unhealthy, restarting, stopping or failed.
        """
        match self.run.phase:
            case RunPhase.RUNNING if not self.worker.healthy:
                return "unhealthy"
            case RunPhase.RUNNING:
                return "connected" if self.worker.connected else "disconnected"
            case RunPhase.WAITING:
                return "restarting"
            case RunPhase.STARTING | RunPhase.STOPPING as phase:
                return phase.value
            case RunPhase.ENDED if not self.block:
                return "failed"
        return self.block.state if self.block else "stopped"

    @property
    def users(self) -> int:
        """How many users were in the mesh when discovery last read it."""
        return len(self.listed.users) if self.listed else 0

    @property
    def since(self) -> int:
        """When its worker last connected or disconnected, in microseconds since the epoch; 0 for never."""
        return int(self.worker.since * 1_000_000)

    @property
    def reason(self) -> str:
        """Why it is not connected, in words; empty when it is, or when there is nothing to say."""
        if self.state == "connected":
            return ""
        if self.block:
            return self.block.describe()
        if self.state == "unhealthy":
            return "its process does not answer"
        if self.worker.last_error or self.run.present or self.decision is None:
            return self.worker.last_error
        return self.decision.reason


def unshown(records: Iterable[MeshState]) -> int:
    """How many messages of all bots have had no echo."""
    return min(sum(record.worker.unshown for record in records), MAX_COUNT)


def usual_chat_form(mesh: str, records: Mapping[str, MeshState]) -> str:
    """The form of chat that most bots on the server of a mesh report, or else most of all bots; empty if none does.

    A new bot begins with it, and corrects it when its server shows another.
    """
    known = [record for record in records.values() if record.worker.chat_form]
    server = _server(records.get(mesh))
    for near in [[record for record in known if server and _server(record) == server], known]:
        if near:
            ((form, _),) = Counter(record.worker.chat_form for record in near).most_common(1)
            return form
    return ""


def _server(record: MeshState | None) -> str:
    return (record.listed.server or "") if record and record.listed else ""


def command_errors(records: Iterable[MeshState]) -> list[str]:
    """The errors of the operator's plugins in all meshes, each once, sorted."""
    return sorted({error for record in records for error in record.worker.command_errors})[:MAX_ERRORS]


def plugins(records: Iterable[MeshState]) -> list[tuple[PluginInfo, int]]:
    """The plugins that are in force in any mesh, sorted, each version with the number of its meshes.

    Of too many those of most meshes: a bot that was taken over may name what it likes.
    """
    found = Counter(plugin for record in records for plugin in record.worker.plugins)
    return sorted(found.most_common(MAX_PLUGINS))
