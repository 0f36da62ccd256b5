"""What the service is doing with each mesh: at most one thing at a time. No I/O."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import StrEnum


class MeshStep(StrEnum):
    """What is under way with one mesh; the value is for logs and tests."""

    IDLE = "idle"
    START_PENDING = "its start waits for its turn"
    STARTING = "starting"
    STOPPING = "stopping"
    STOP_FAILED = "it could not be stopped, and is not stopped again yet"
    RESTARTING = "restarting"
    EXAMINING = "its end is being examined"


# From each step to those that may follow. While one of the others is under way, nothing else begins: what happens to
# the process meanwhile is looked at when the step is over.
TRANSITIONS: dict[MeshStep, AbstractSet[MeshStep]] = {
    MeshStep.IDLE: {MeshStep.START_PENDING, MeshStep.STOPPING, MeshStep.RESTARTING, MeshStep.EXAMINING},
    # Its turn comes, or it is decided otherwise before.
    MeshStep.START_PENDING: {MeshStep.STARTING, MeshStep.IDLE},
    MeshStep.STARTING: {MeshStep.IDLE},
    MeshStep.STOPPING: {MeshStep.IDLE, MeshStep.STOP_FAILED},
    # The plan says at once that it is to be stopped, and would say so for ever. An operator may restart it, or it may
    # end by itself, before it is stopped again.
    MeshStep.STOP_FAILED: {MeshStep.IDLE, MeshStep.RESTARTING, MeshStep.EXAMINING},
    MeshStep.RESTARTING: {MeshStep.IDLE},
    MeshStep.EXAMINING: {MeshStep.IDLE},
}

_FREE = frozenset({MeshStep.IDLE, MeshStep.STOP_FAILED})


class Steps:
    """The step of each mesh."""

    def __init__(self) -> None:
        self._steps: dict[str, MeshStep] = {}  # but for those that are idle

    def __getitem__(self, mesh: str) -> MeshStep:
        return self._steps.get(mesh, MeshStep.IDLE)

    def enter(self, mesh: str, step: MeshStep) -> None:
        """Go on to another step; a step that must not follow is a bug, and raises AssertionError."""
        assert step in TRANSITIONS[self[mesh]], f"mesh {mesh}: {step.name} must not follow {self[mesh].name}"
        self._steps[mesh] = step
        if step is MeshStep.IDLE:
            del self._steps[mesh]

    def is_busy(self, mesh: str) -> bool:
        """Whether nothing else may begin with a mesh now."""
        return self[mesh] not in _FREE

    @property
    def busy(self) -> set[str]:
        """The meshes with which nothing else may begin now."""
        return {mesh for mesh in self._steps if self.is_busy(mesh)}

    @property
    def starting(self) -> set[str]:
        """The meshes whose start is decided, and not over."""
        return {mesh for mesh, step in self._steps.items() if step in (MeshStep.START_PENDING, MeshStep.STARTING)}
