from __future__ import annotations

import pytest

from ravesvc.ctl.operations.mesh_lookup import FoundMesh
from ravesvc.ctl.operations.mesh_order import RESTART, START, STOP, MeshSight
from ravesvc.errors import RaveError

FILM = FoundMesh("m", "A film")


@pytest.mark.parametrize(
    ("sight", "reached"),
    [
        (MeshSight("connected", "", "keep"), True),
        # The blocklist announces a change later than the plan knows of it.
        (MeshSight("held", "it was stopped by an operator", "keep"), False),
        (MeshSight("stopped", "discovery lists it", "start"), False),
        (MeshSight("stopping", "", "skip"), False),
        (MeshSight("failed", "", "skip"), False),
        (MeshSight("disconnected", "connection refused", "keep"), False),
    ],
)
def test_a_start_is_done_when_the_bot_is_connected(sight: MeshSight, reached: bool) -> None:
    assert START.reached(FILM, sight) is reached
    assert RESTART.reached(FILM, sight) is reached


@pytest.mark.parametrize(
    ("sight", "words"),
    [
        (MeshSight("blocked", "the bot was kicked", "skip"), "it is blocked: the bot was kicked"),
        (MeshSight("stopped", "exit status 78", "skip"), "it is stopped: exit status 78"),
        (MeshSight("stopped", "", ""), "it is stopped"),
        (MeshSight("", "", ""), "the service does not know it any more"),
        (MeshSight("disconnected", "no session", "keep", "login needed"), "no mesh is started: login needed"),
    ],
)
def test_what_will_not_be_connected_is_told_with_the_reason(sight: MeshSight, words: str) -> None:
    with pytest.raises(RaveError) as e:
        START.reached(FILM, sight)
    assert e.value.message == f"mesh m (A film) is not connected: {words}"


@pytest.mark.parametrize(
    ("sight", "reached", "words"),
    [
        (MeshSight("connected"), False, "is being stopped, and held until it is started"),
        (
            MeshSight("stopping", "it was stopped"),
            False,
            "is being stopped, and held until it is started",
        ),
        (MeshSight("held", "it was stopped by an operator"), True, "is stopped, and held until it is started"),
        (
            MeshSight("blocked", "the bot was kicked"),
            True,
            "does not run: it is blocked, because the bot was kicked",
        ),
        (MeshSight(""), True, "does not run"),
    ],
)
def test_a_stop_is_done_when_there_is_no_process(sight: MeshSight, reached: bool, words: str) -> None:
    assert STOP.reached(FILM, sight) is reached
    assert STOP.begun(sight) == STOP.done(sight) == words


@pytest.mark.parametrize(
    ("sight", "step"),
    [
        (MeshSight("held", "it was stopped by an operator", "keep"), "starting"),
        (MeshSight("stopping", "it was stopped by an operator", "keep"), "stopping"),
        (MeshSight("disconnected", "", "keep"), "connecting"),
        (MeshSight("disconnected", "Connection refused", "keep"), "connecting (Connection refused)"),
        (MeshSight("restarting", "exit status 1", "keep"), "restarting (exit status 1)"),
    ],
)
def test_a_step_of_a_start_has_its_reason_when_something_has_failed(sight: MeshSight, step: str) -> None:
    assert START.step(sight) == RESTART.step(sight) == step


def test_what_runs_already_is_not_being_started() -> None:
    assert START.begun(MeshSight("stopped")) == "is being started"
    assert START.begun(MeshSight("disconnected")) == "runs already, and is disconnected"
