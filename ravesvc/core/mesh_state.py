"""What the parent knows of one mesh, and the one word for it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ravesvc import names
from ravesvc.api.models import Mesh
from ravesvc.blocklist.model import Block
from ravesvc.common.text import printable
from ravesvc.config.worker_settings import Edition
from ravesvc.core.inventory import Inventory
from ravesvc.core.plan import Decision
from ravesvc.core.run_state import RunPhase, RunState

# Sentences of what a child says, and the most that it may count to: it may have been taken over.
_MAX_ERRORS = 16
_MAX_COUNT = 2**32 - 1


def counted(value: object) -> int:
    """A number of times, as a child tells it; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT else 0


@dataclass(slots=True)
class WorkerState:
    """What a child has said since it started. `now` is in seconds of the monotonic clock, here and in the methods.

    Attributes:
        heard: when it last spoke or answered, at first when its unit became active.
        signals: how many it has sent.
        ready: whether it has said anything.
        connected: whether it is in its mesh.
        since: since when it is, or is not, in seconds since the epoch.
        connected_at: when it got connected; 0 when it is not.
        attempts: to connect that have failed in a row.
        last_error: in words.
        command_errors: what is wrong with the operator's own commands there, in sentences.
        unshown: how many of its messages have had no echo.
        chat_form: the form in which its server shows chat, as far as it has learned that.
        debug: whether it says in the log all that it ever says.
        healthy: false when it has not answered for too long.
        edition: of its program and settings; None until it has told.
    """

    heard: float = 0.0
    signals: int = 0
    ready: bool = False
    connected: bool = False
    since: float = 0.0
    connected_at: float = 0.0
    attempts: int = 0
    last_error: str = ""
    command_errors: tuple[str, ...] = ()
    unshown: int = 0
    chat_form: str = ""
    debug: bool = False
    healthy: bool = True
    edition: Edition | None = None

    def connect(self, now: float, *, lasted: float = 0.0) -> None:
        """It is in its mesh, for `lasted` seconds already."""
        self.connected, self.connected_at, self.since = True, now - lasted, max(0.0, time.time() - lasted)
        self.last_error = ""

    def disconnect(self, reason: object) -> None:
        """It is not in its mesh, for a reason in its own words."""
        if self.connected:
            self.since = time.time()
        self.connected, self.connected_at = False, 0.0
        self.fail(reason)

    def fail(self, reason: object) -> None:
        """Something went wrong, in its own words."""
        self.last_error = printable(reason, names.MAX_REPORT_CHARS)

    def fail_commands(self, errors: object) -> None:
        """This is wrong with own commands, in its own words."""
        texts = errors if isinstance(errors, list) else []
        self.command_errors = tuple(printable(text, names.MAX_REPORT_CHARS) for text in texts[:_MAX_ERRORS])

    def answer(self, status: Mapping[str, Any], now: float) -> None:
        """Take over what GetStatus says; a child of the version before says less."""
        self.ready = True
        self.attempts = counted(status.get("Attempts"))
        self.fail_commands(status.get("CommandErrors"))
        self.unshown = counted(status.get("UnshownMessages"))
        self.chat_form = printable(status.get("ChatForm"), 20)
        self.debug = status.get("Debug") is True
        self.edition = Edition(printable(status.get("Version"), 40), printable(status.get("SettingsDigest"), 64))
        if status.get("Connected") is not True:
            self.disconnect(status.get("LastError"))
            return
        lasted = _lasted(status.get("ConnectedUSec"), now)
        # It knows better than we, who may have come later; but a message takes its time.
        if not self.connected or (lasted and abs(now - lasted - self.connected_at) > 1):
            self.connect(now, lasted=lasted)
        self.fail(status.get("LastError"))


def _lasted(usec: object, now: float) -> float:
    """For how many seconds a connection has lasted; nothing has for longer than the machine."""
    return min(usec / 1_000_000, now) if isinstance(usec, int) and usec > 0 else 0.0


@dataclass(slots=True)
class MeshState:
    """One mesh that is listed, blocked or has a process.

    `listed` is what lists say of it, None when they don't list it. `missing` tells whether that is believed though
    the last list lacks it, `unread` whether the last list was not read as far as that. `former` is what the last list
    said that had it, `decision` what the last plan said of it, `last_exit` how its last process has ended, in words.
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

    def look_up(self, census: Inventory) -> None:
        """Take over what lists say of it."""
        self.listed = (census.meshes or {}).get(self.mesh)
        self.missing, self.unread = self.mesh in census.missing, self.mesh in census.unread
        self.former = self.listed or self.former

    @property
    def title(self) -> str:
        """That of its video, when it was last listed."""
        mesh = self.listed or self.former
        return mesh.title if mesh else ""

    @property
    def server(self) -> str | None:
        """Where its socket is, when it was last listed."""
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
        """When its child was last connected or disconnected, in microseconds since the epoch; 0 for never."""
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
    return min(sum(record.worker.unshown for record in records), _MAX_COUNT)


def usual_chat_form(mesh: str, records: Mapping[str, MeshState]) -> str:
    """The form that most bots on the server of a mesh, or else most of all bots, have learned; empty if none has.

    It is what bots say, and no more than a place to begin: one that finds it wrong learns another.
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
    """What is wrong with the operator's own commands in any mesh, each thing once."""
    return sorted({error for record in records for error in record.worker.command_errors})[:_MAX_ERRORS]
