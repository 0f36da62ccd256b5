from __future__ import annotations

import pytest

from ravesvc.orchestrator.record import Record, WorkerState
from ravesvc.orchestrator.unit import UnitState
from ravesvc.store.blocklist import Block, Reason

BLOCK = Block(mesh="m", reason=Reason.HELD, since=0, until=None)
CONNECTED = WorkerState(ready=True, connected=True)


def record(active: str, sub: str = "", *, block: Block | None = None, worker: WorkerState | None = None) -> Record:
    return Record("m", block=block, unit=UnitState(active=active, sub=sub), worker=worker or WorkerState())


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (Record("m"), "stopped"),
        (record("inactive", block=BLOCK), "blocked"),
        (record("failed"), "failed"),
        (record("failed", block=BLOCK), "blocked"),
        (record("activating", "start"), "starting"),
        (record("activating", "start", block=BLOCK), "starting"),
        (record("activating", "auto-restart"), "restarting"),
        (record("activating", "auto-restart-queued"), "restarting"),
        (record("failed", "failed-before-auto-restart"), "restarting"),
        (record("inactive", "dead-before-auto-restart", block=BLOCK), "restarting"),
        (record("deactivating", "stop-sigterm", worker=CONNECTED), "stopping"),
        (record("active", "running"), "disconnected"),
        (record("active", "running", worker=CONNECTED), "connected"),
        (record("active", "running", worker=CONNECTED, block=BLOCK), "connected"),
        (record("inactive", "dead", worker=CONNECTED), "stopped"),
    ],
)
def test_one_word_for_a_mesh(found: Record, state: str) -> None:
    assert found.state == state


def test_a_connected_mesh_needs_no_reason() -> None:
    worker = WorkerState(connected=True, last_error="long ago")
    assert record("active", block=BLOCK, worker=worker).reason == ""


def test_the_block_is_the_reason_before_the_last_error() -> None:
    worker = WorkerState(last_error="no route to host")
    assert record("active", worker=worker).reason == "no route to host"
    assert record("active", block=BLOCK, worker=worker).reason == "it was stopped by an operator"
    assert Record("m").reason == ""


def test_nothing_is_known_of_a_new_mesh() -> None:
    assert Record("m").worker == WorkerState(ready=False, connected=False, since=0.0, last_error="")


def test_records_share_nothing() -> None:
    Record("a").worker.connected = True
    assert not Record("b").worker.connected
