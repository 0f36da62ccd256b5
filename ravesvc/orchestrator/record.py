"""What the parent knows of one mesh, and the one word for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ravesvc.api.models import Mesh
from ravesvc.orchestrator.unit import UnitState
from ravesvc.store.blocklist import Block


@dataclass(slots=True)
class WorkerState:
    """What a child has said since it started. `since` is in seconds since the epoch."""

    ready: bool = False
    connected: bool = False
    since: float = 0.0
    last_error: str = ""


@dataclass(slots=True)
class Record:
    """One mesh that is listed, blocked or has a unit."""

    mesh: str
    listed: Mesh | None = None
    block: Block | None = None
    unit: UnitState = field(default_factory=UnitState)
    worker: WorkerState = field(default_factory=WorkerState)

    @property
    def state(self) -> str:
        """blocked, stopped, starting, connected, disconnected, restarting, stopping or failed."""
        if self.unit.active == "active":
            return "connected" if self.worker.connected else "disconnected"
        if self.unit.restarting:
            return "restarting"
        if self.unit.active == "activating":
            return "starting"
        if self.unit.active == "deactivating":
            return "stopping"
        if self.block:
            return "blocked"
        return "failed" if self.unit.failed else "stopped"

    @property
    def reason(self) -> str:
        """Why it is not connected, in words; empty when it is, or when there is nothing to say."""
        if self.state == "connected":
            return ""
        return self.block.describe() if self.block else self.worker.last_error
