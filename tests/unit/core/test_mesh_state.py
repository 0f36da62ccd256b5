from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest

from ravesvc.api.models import Mesh
from ravesvc.blocklist.model import Block, Reason
from ravesvc.config.worker_settings import Edition
from ravesvc.core import mesh_state as record_module
from ravesvc.core.mesh_state import MeshState, WorkerState, command_errors, plugins, usual_chat_form
from ravesvc.core.plan import Action, Decision
from ravesvc.core.run_state import RunPhase, RunState
from ravesvc.core.worker_status import WorkerStatus, error_texts, read_status

BLOCK = Block(mesh="m", reason=Reason.HELD, since=0, until=None)
CONNECTED = WorkerState(ready=True, connected=True)
HUNG = WorkerState(ready=True, connected=True, healthy=False)
NOW = 1000.0


def record(phase: RunPhase, *, block: Block | None = None, worker: WorkerState | None = None) -> MeshState:
    return MeshState("m", block=block, run=RunState(phase=phase), worker=worker or WorkerState())


def status(**values: Any) -> WorkerStatus:
    """What a bot answers that has been connected for ten seconds."""
    usual = {
        "Version": "1.2.3",
        "SettingsDigest": "0123",
        "Connected": True,
        "ConnectedUSec": 10_000_000,
        "Title": "A film",
        "Attempts": 0,
        "LastError": "",
    }
    return read_status(usual | values)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (MeshState("m"), "stopped"),
        (record(RunPhase.ABSENT, block=BLOCK), "held"),
        (record(RunPhase.ENDED), "failed"),
        (record(RunPhase.ENDED, block=BLOCK), "held"),
        (record(RunPhase.ABSENT, block=dataclasses.replace(BLOCK, reason=Reason.KICKED)), "blocked"),
        (record(RunPhase.STARTING), "starting"),
        (record(RunPhase.STARTING, block=BLOCK), "starting"),
        (record(RunPhase.STARTING, worker=HUNG), "starting"),
        (record(RunPhase.WAITING), "restarting"),
        (record(RunPhase.WAITING, block=BLOCK), "restarting"),
        (record(RunPhase.STOPPING, worker=CONNECTED), "stopping"),
        (record(RunPhase.STOPPING, worker=HUNG), "stopping"),
        (record(RunPhase.RUNNING), "disconnected"),
        (record(RunPhase.RUNNING, worker=CONNECTED), "connected"),
        (record(RunPhase.RUNNING, worker=CONNECTED, block=BLOCK), "connected"),
        (record(RunPhase.RUNNING, worker=HUNG), "unhealthy"),
        (record(RunPhase.RUNNING, worker=HUNG, block=BLOCK), "unhealthy"),
        (record(RunPhase.RUNNING, worker=WorkerState(healthy=False)), "unhealthy"),
        (record(RunPhase.ABSENT, worker=CONNECTED), "stopped"),
        (record(RunPhase.ABSENT, worker=HUNG), "stopped"),
    ],
)
def test_one_word_for_a_mesh(found: MeshState, state: str) -> None:
    assert found.state == state


def test_a_connected_mesh_needs_no_reason() -> None:
    worker = WorkerState(connected=True, last_error="long ago")
    assert record(RunPhase.RUNNING, block=BLOCK, worker=worker).reason == ""


def test_the_block_is_the_reason_before_the_last_error() -> None:
    worker = WorkerState(last_error="no route to host")
    assert record(RunPhase.RUNNING, worker=worker).reason == "no route to host"
    assert record(RunPhase.RUNNING, block=BLOCK, worker=worker).reason == "it was stopped by an operator"
    assert MeshState("m").reason == ""


def test_a_process_that_does_not_answer_is_the_reason_before_what_it_has_said() -> None:
    worker = dataclasses.replace(HUNG, last_error="no route to host")
    assert record(RunPhase.RUNNING, worker=worker).reason == "its process does not answer"
    assert record(RunPhase.RUNNING, block=BLOCK, worker=worker).reason == "it was stopped by an operator"
    # One that has ended does not answer either; that is not what keeps its mesh from running.
    assert record(RunPhase.ABSENT, worker=worker).reason == "no route to host"


@pytest.mark.parametrize("phase", [RunPhase.STARTING, RunPhase.RUNNING, RunPhase.WAITING, RunPhase.STOPPING])
def test_while_there_is_a_process_the_plan_is_not_the_reason(phase: RunPhase) -> None:
    found = record(phase)
    found.decision = Decision("m", Action.KEEP, "discovery lists it, and it runs")
    assert found.reason == ""
    found.worker.last_error = "no route to host"
    assert found.reason == "no route to host"


def test_without_a_process_the_plan_is_the_reason_unless_the_last_one_has_told_a_better_one() -> None:
    found = MeshState("m", decision=Decision("m", Action.SKIP, "max_processes (1) is reached"))
    assert found.reason == "max_processes (1) is reached"
    found.worker.last_error = "Rave does not answer"
    assert found.reason == "Rave does not answer"
    found.block = BLOCK
    assert found.reason == "it was stopped by an operator"


def test_nothing_is_known_of_a_new_mesh() -> None:
    assert MeshState("m") == MeshState("m", None, None, RunState(), WorkerState(), None, "")
    assert MeshState("m").worker == WorkerState(
        heard=0.0,
        ready=False,
        connected=False,
        since=0.0,
        connected_at=0.0,
        attempts=0,
        last_error="",
        healthy=True,
        edition=None,
    )


def test_records_share_nothing() -> None:
    MeshState("a").worker.connected = True
    assert not MeshState("b").worker.connected


# What a bot says.


def test_a_connection_is_dated_and_ends_the_last_error() -> None:
    worker = WorkerState(last_error="no route to host")
    before = time.time()
    worker.connect(NOW)
    assert (worker.connected, worker.connected_at, worker.last_error) == (True, NOW, "")
    assert before <= worker.since <= time.time()


def test_a_connection_may_be_older_than_the_news_of_it() -> None:
    worker = WorkerState()
    before = time.time()
    worker.connect(NOW, lasted=100.0)
    assert worker.connected_at == NOW - 100
    assert before - 100 <= worker.since <= time.time() - 100


def test_the_end_of_a_connection_is_dated_and_another_failure_is_not() -> None:
    worker = WorkerState()
    worker.connect(NOW, lasted=100.0)
    before = time.time()
    worker.disconnect("the connection broke")
    assert (worker.connected, worker.connected_at, worker.last_error) == (False, 0.0, "the connection broke")
    since = worker.since
    assert before <= since <= time.time()
    worker.disconnect("no route to host")
    assert (worker.since, worker.last_error) == (since, "no route to host")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("a\nb\x1b[1m", "a?b?[1m"),
        ("x" * 1000, "x" * 300),
        (None, ""),
        (7, ""),
    ],
)
def test_the_words_of_a_bot_that_was_taken_over_do_no_harm(said: object, kept: str) -> None:
    worker = WorkerState()
    worker.fail(said)
    assert worker.last_error == kept
    worker.fail("")
    worker.disconnect(said)
    assert worker.last_error == kept
    worker.answer(status(Connected=False, LastError=said), NOW)
    assert worker.last_error == kept
    worker.answer(status(LastError=said), NOW)
    assert worker.last_error == kept


def test_an_answer_tells_all_that_a_parent_missed() -> None:
    worker = WorkerState()
    before = time.time()
    worker.answer(status(Attempts=2, LastError="?ping failed"), NOW)
    assert worker == WorkerState(
        heard=0.0,
        ready=True,
        connected=True,
        since=worker.since,
        connected_at=NOW - 10,
        attempts=2,
        last_error="?ping failed",
        healthy=True,
        edition=Edition("1.2.3", "0123"),
    )
    assert before - 10 <= worker.since <= time.time() - 10


def test_an_answer_while_disconnected_tells_why() -> None:
    worker = WorkerState()
    worker.answer(status(Connected=False, ConnectedUSec=0, Attempts=1, LastError="no route to host"), NOW)
    assert (worker.ready, worker.connected, worker.attempts, worker.last_error) == (
        True,
        False,
        1,
        "no route to host",
    )
    assert worker.since == 0.0, "it was never connected, as far as anybody knows"
    worker.connect(NOW)
    before = time.time()
    worker.answer(status(Connected=False, ConnectedUSec=0), NOW + 1)
    assert not worker.connected
    assert worker.since >= before


def test_an_answer_does_not_move_a_connection_that_is_known() -> None:
    worker = WorkerState()
    worker.connect(NOW)
    since = worker.since
    # A message takes its time.
    worker.answer(status(ConnectedUSec=9_100_000), NOW + 10)
    assert (worker.connected_at, worker.since) == (NOW, since)


@pytest.mark.parametrize("seconds", [8, 12])
def test_a_bot_knows_better_since_when_it_is_connected(seconds: int) -> None:
    worker = WorkerState()
    worker.connect(NOW)
    worker.since = 0.0
    worker.answer(status(ConnectedUSec=seconds * 1_000_000), NOW + 10)
    assert worker.connected_at == NOW + 10 - seconds
    assert time.time() - seconds - 60 < worker.since <= time.time() - seconds


def test_a_bot_of_the_version_before_says_less() -> None:
    old = {"Connected": True, "LastError": "", "Version": "0.1.0"}
    worker = WorkerState()
    worker.answer(read_status(old), NOW)
    assert (worker.connected, worker.connected_at, worker.attempts) == (True, NOW, 0)
    assert worker.edition == Edition("0.1.0", "")
    since = worker.since
    worker.answer(read_status(old), NOW + 100)
    assert (worker.connected_at, worker.since) == (NOW, since), "it does not begin anew with each answer"
    worker.answer(read_status({}), NOW + 200)
    assert (worker.connected, worker.edition) == (False, Edition("", ""))


def test_a_connection_has_not_lasted_for_longer_than_the_machine() -> None:
    worker = WorkerState()
    worker.answer(status(ConnectedUSec=2**64 - 1), NOW)
    assert worker.connected_at == 0.0
    assert worker.since >= 0


def test_a_machine_whose_clock_was_never_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_module.time, "time", lambda: 5.0)
    worker = WorkerState()
    worker.connect(NOW, lasted=100.0)
    assert worker.since == 0.0


def test_what_is_wrong_with_plugins_is_told_once_however_many_meshes_say_it() -> None:
    first, second = MeshState("a"), MeshState("b")
    first.worker.answer(status(CommandErrors=["y.py: it fails", "x.py: it fails"]), NOW)
    second.worker.command_errors = error_texts(["x.py: it fails"])
    assert command_errors([first, second, MeshState("c")]) == ["x.py: it fails", "y.py: it fails"]
    first.worker.answer(status(), NOW)
    second.worker.answer(status(CommandErrors="x.py: it fails"), NOW)
    assert command_errors([first, second]) == []


def test_each_version_of_a_plugin_is_told_once_with_the_number_of_its_meshes() -> None:
    first, second = MeshState("a"), MeshState("b")
    x, y, newer = ("/etc/x.py", "1", "x"), ("/etc/y.py", "1", "y, z"), ("/etc/x.py", "2", "x")
    first.worker.answer(status(Plugins=[list(y), list(x)]), NOW)
    second.worker.answer(status(Plugins=[list(x)]), NOW)
    assert plugins([first, second, MeshState("c")]) == [(x, 2), (y, 1)]
    second.worker.answer(status(Plugins=[list(newer)]), NOW)
    assert plugins([first, second]) == [(x, 1), (newer, 1), (y, 1)]
    first.worker.answer(status(), NOW)
    second.worker.answer(status(Plugins="/etc/x.py"), NOW)
    assert plugins([first, second]) == []
    many = [[f"!{number}", "1", ""] for number in range(64)]
    second.worker.answer(status(Plugins=many), NOW)
    for mesh in (first, third := MeshState("d")):
        mesh.worker.answer(status(Plugins=[list(x)]), NOW)
    assert (x, 2) in plugins([first, second, third]), "one bot that names many hides none of the others"
    odd = [["x\n" * 1000, 7, "z"], "x", ["x", "1"]]
    second.worker.answer(status(Plugins=[*odd, *([str(number), "", ""] for number in range(100))]), NOW)
    assert len(second.worker.plugins) == 62
    assert second.worker.plugins[0] == (("x?" * 1000)[:300], "", "z")


def test_plugins_of_a_bot_that_was_taken_over_do_no_harm() -> None:
    worker = WorkerState()
    worker.command_errors = error_texts(["x\n" * 1000, 7, *map(str, range(100))])
    assert worker.command_errors[:3] == (("x?" * 1000)[:300], "", "0")
    assert len(worker.command_errors) == 16
    records = [MeshState(str(mesh)) for mesh in range(100)]
    for each in records:
        each.worker.command_errors = error_texts([each.mesh])
    assert len(command_errors(records)) == 16


def test_a_bot_begins_with_the_form_of_chat_that_others_have_learned() -> None:
    def record(mesh: str, server: str, form: str) -> MeshState:
        return MeshState(mesh, listed=Mesh(mesh, server, "", True, ()), worker=WorkerState(chat_form=form))

    records = {
        each.mesh: each
        for each in (
            record("a", "one.example", "notification"),
            *(record(mesh, "two.example", "request") for mesh in ("b", "c")),
            record("d", "one.example", ""),
            record("e", "three.example", ""),
        )
    }
    assert usual_chat_form("d", records) == "notification"
    assert usual_chat_form("e", records) == "request"
    assert usual_chat_form("unlisted", records) == "request"
    assert usual_chat_form("a", {"a": record("a", "one.example", "")}) == ""
