"""The limit for what is logged about a mesh."""

import logging

import pytest

from ravesvc.journal import Event, about
from ravesvc.orchestrator.log_limit import MeshLogLimit


def record(mesh: str, level: int = logging.WARNING, event: Event | None = None) -> logging.LogRecord:
    made = logging.makeLogRecord({"levelno": level, "levelname": "X", "msg": "it happens"})
    made.__dict__.update(about(mesh, event))
    return made


def test_a_mesh_to_which_too_much_happens_is_logged_less_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    limit = MeshLogLimit(lambda: now)
    logged = sum(limit.filter(record("m")) for _ in range(1000))
    assert logged == 60
    assert caplog.messages == ["Too much happens to mesh m: part of it is not logged"]
    assert limit.filter(record("other")), "others are not limited for it"
    assert limit.filter(record("")), "nor is what is about none"
    now = 3600.0
    assert sum(limit.filter(record("m")) for _ in range(1000)) == 60
    assert len(caplog.messages) == 2


def test_in_an_hour_of_a_flood_there_are_few_entries(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    limit = MeshLogLimit(lambda: now)
    logged = 0
    for tenth in range(36000):
        now = tenth / 10
        logged += limit.filter(record("m"))
    assert logged <= 60 + 120
    assert len(caplog.messages) <= 121


def test_decisions_and_debugging_are_never_dropped() -> None:
    limit = MeshLogLimit(lambda: 0.0)
    for _ in range(100):
        limit.filter(record("m"))
    assert not limit.filter(record("m", event=Event.CONNECTED))
    assert limit.filter(record("m", event=Event.BLOCKED))
    assert limit.filter(record("m", logging.INFO, Event.CHANGED)), "a flood hides no change"
    assert limit.filter(record("m", logging.DEBUG))
