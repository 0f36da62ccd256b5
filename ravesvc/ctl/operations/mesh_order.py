"""What an operator may order of a mesh: to start, stop or restart, and how one sees that it is done. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ravesvc.ctl.operations.mesh_lookup import FoundMesh
from ravesvc.errors import Code, RaveError

# States that another one follows soon, whatever the plan says.
_PASSING = ("stopping", "failed")
# The states of a mesh whose process has been started before.
_RUNNING = ("connected", "disconnected", "unhealthy")
# The states of a mesh without a process.
_IDLE = ("blocked", "held", "stopped")


@dataclass(frozen=True, slots=True)
class MeshSight:
    """How a mesh is at a moment.

    Attributes:
        state: its state by DescribeMeshes; empty when the service does not know the mesh any more.
        reason: why it is not connected, in words; may be empty.
        action: what the plan does with it; empty for nothing.
        obstacle: why no mesh is started at all, in words; may be empty.
    """

    state: str
    reason: str = ""
    action: str = ""
    obstacle: str = ""

    def words(self) -> str:
        """State and reason for people."""
        state = f"it is {self.state}" if self.state else "the service does not know it any more"
        return f"{state}: {self.reason}" if self.reason else state


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshOrder:
    """One kind of order.

    Attributes:
        member: the method of the service.
        answered_at_end: whether the service answers only when the new process is there.
        ordered: what happens with the mesh from then on, as it follows its name in a sentence.
        step: what happens with it at the moment, in a word, and the reason if something has failed.
        goal: what the mesh is when it is done.
        reached: called with mesh and sight, returns whether it is done; raises `RaveError` when it can't be done.
        begun: what is true of the mesh right after the order, in words as `ordered`.
        done: what is true of it in the end.
    """

    member: str
    answered_at_end: bool
    ordered: str
    step: Callable[[MeshSight], str]
    goal: str
    reached: Callable[[FoundMesh, MeshSight], bool]
    begun: Callable[[MeshSight], str]
    done: Callable[[MeshSight], str]


def _connected(mesh: FoundMesh, sight: MeshSight) -> bool:
    if sight.state == "connected":
        return True
    if sight.obstacle:
        why = f"no mesh is started: {sight.obstacle}"
    elif sight.action in ("start", "keep") or sight.state in _PASSING:
        return False
    else:
        why = sight.words()
    hint = f"ravectl explain {mesh.id} says more"
    # `from_service`: it is the bot that does not run; the service does.
    raise RaveError(Code.NOT_RUNNING, f"mesh {mesh} is not connected: {why}", hint=hint, from_service=1)


def _stopped(_: FoundMesh, sight: MeshSight) -> bool:
    return not sight.state or sight.state in _IDLE


def _starting(sight: MeshSight) -> str:
    match sight.state:
        case "disconnected":
            step = "connecting"
        case "unhealthy" | "restarting" | "failed" as state:
            step = state
        case "stopping":
            return "stopping"
        # Here the reason is why it has not run so far.
        case _:
            return "starting"
    return f"{step} ({sight.reason})" if sight.reason else step


def _after_start(sight: MeshSight) -> str:
    return f"runs already, and is {sight.state}" if sight.state in _RUNNING else "is being started"


def _after_stop(sight: MeshSight) -> str:
    match sight.state:
        case "blocked":
            return f"does not run: it is blocked, because {sight.reason}"
        case "held":
            return "is stopped, and held until it is started"
        case state if state and state not in _IDLE:
            return "is being stopped, and held until it is started"
    return "does not run"


START = MeshOrder(
    member="StartMesh",
    answered_at_end=False,
    ordered="is being started",
    step=_starting,
    goal="connected",
    reached=_connected,
    begun=_after_start,
    done=lambda _: "is connected",
)
STOP = MeshOrder(
    member="StopMesh",
    answered_at_end=False,
    ordered="is being stopped",
    step=lambda _: "stopping",
    goal="stopped",
    reached=_stopped,
    begun=_after_stop,
    done=_after_stop,
)
RESTART = MeshOrder(
    member="RestartMesh",
    answered_at_end=True,
    ordered="is being restarted",
    step=_starting,
    goal="connected",
    reached=_connected,
    begun=lambda _: "is being restarted",
    done=lambda _: "has a new process, and is connected",
)
