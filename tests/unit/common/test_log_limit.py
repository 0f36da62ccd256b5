"""The limit for what is logged again and again."""

import logging

import pytest

from ravesvc.common.log_fields import LogEvent, about, current_mesh, mesh_of
from ravesvc.common.log_limit import PER_MESH, PER_PLACE, LogLimit, by_mesh, by_place


def record(
    mesh: str, level: int = logging.WARNING, event: LogEvent | None = None, *, place: int = 1
) -> logging.LogRecord:
    named = {"levelno": level, "levelname": "X", "name": "ravesvc.test", "lineno": place}
    made = logging.makeLogRecord({**named, "msg": "it happens to %s", "args": (mesh,)})
    made.__dict__.update(about(mesh, event))
    return made


def test_a_mesh_to_which_too_much_happens_is_logged_less_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    limit = LogLimit(by_mesh, PER_MESH, lambda: now)
    logged = sum(limit.filter(record("m", place=number)) for number in range(1000))
    assert logged == 60
    (said,) = caplog.records
    assert said.getMessage().endswith('are dropped for now, such as "it happens to m"')
    assert mesh_of(said) == "m"
    assert limit.filter(record("other")), "others are not limited for it"
    assert all(limit.filter(record("")) for _ in range(1000)), "nor is what is about none"
    now = 3600.0
    assert sum(limit.filter(record("m")) for _ in range(1000)) == 60
    assert len(caplog.messages) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rate", "most"), [(by_mesh, PER_MESH, 60 + 120), (by_place, PER_PLACE, 20 + 60)])
def test_in_an_hour_of_a_flood_there_are_few_entries(
    caplog: pytest.LogCaptureFixture, kind: type, rate: object, most: int
) -> None:
    now = 0.0
    limit = LogLimit(kind, rate, lambda: now)  # type: ignore[arg-type]
    logged = 0
    for tenth in range(36000):
        now = tenth / 10
        logged += limit.filter(record("m"))
    assert 20 < logged <= most
    assert len(caplog.messages) <= most


def test_what_one_line_repeats_leaves_room_for_others() -> None:
    limit = LogLimit(by_place, PER_PLACE, lambda: 0.0)
    assert sum(limit.filter(record("", place=7)) for _ in range(1000)) == 20
    assert limit.filter(record("", place=8))
    # In a process that has several meshes.
    token = current_mesh.set("m")
    assert limit.filter(record("", place=7))
    current_mesh.reset(token)


def test_decisions_and_debugging_are_never_dropped() -> None:
    limit = LogLimit(by_mesh, PER_MESH, lambda: 0.0)
    for _ in range(100):
        limit.filter(record("m"))
    assert not limit.filter(record("m", event=LogEvent.CONNECTED))
    for event in LogEvent.BLOCKED, LogEvent.CHANGED, LogEvent.TAKEN_OVER:
        assert limit.filter(record("m", event=event))
    assert limit.filter(record("m", logging.DEBUG))


def test_what_is_counted_has_a_bound() -> None:
    limit = LogLimit(by_mesh, PER_MESH, lambda: 0.0)
    for number in range(10_000):
        limit.filter(record(f"m{number}"))
    assert len(limit._buckets) < 5000
