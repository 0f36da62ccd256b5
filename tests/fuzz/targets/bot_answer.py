"""What a bot says of itself on the bus: its status, its users, its settings, the pause that it claims."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import cast

from ravesvc.bus import Bus
from ravesvc.config.worker_settings import Edition
from ravesvc.core.mesh_state import MeshState, command_errors
from ravesvc.core.start_policy import StartPolicy
from ravesvc.core.worker_events import PauseRequested, read_event
from ravesvc.core.worker_status import MAX_SETTINGS, SettingInfo, WorkerStatus
from ravesvc.errors import RaveError
from ravesvc.orchestrator.worker_client import Workers
from tests.fuzz.rules import all_values, bus_body, finished, is_finite

_MESH = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
_NOW_S = 5000.0


class _Answering:
    """A bus on which every call has the same answer."""

    def __init__(self, body: list[object]) -> None:
        self._body = body

    async def call(self, *_words: object, **_limits: object) -> list[object]:
        """See `Bus`."""
        return self._body

    def unanswered(self, _destination: str) -> int:
        """See `Bus`."""
        return 0


def check(data: bytes) -> None:
    """What the parent keeps of it can be shown, and is bounded."""
    body = bus_body(data)
    workers = Workers(cast("Bus", _Answering(body)), lambda *_heard: None, lambda _mesh: None)
    workers._senders[_MESH] = ":1.1"
    with contextlib.suppress(RaveError):
        _check_users(*finished(workers.users(_MESH)))
    with contextlib.suppress(RaveError):
        settings, _total = finished(workers.settings(_MESH))
        _check_settings(settings)
    with contextlib.suppress(RaveError):
        _check_settings([finished(workers.setting(_MESH, "lang"))])
    event = read_event("RateLimited", body)
    if isinstance(event, PauseRequested):
        words = StartPolicy("api.rave.test", 10).rate_limited(MeshState(_MESH), event.host, event.seconds)
        assert len(words) < 300
        assert words.isprintable()
    _check_status(finished(workers.status(_MESH)))


def _check_users(users: list[tuple[int, str]], _total: int) -> None:
    for _user, name in users:
        assert len(name) <= 100
        assert name.isprintable()


def _check_settings(settings: list[SettingInfo]) -> None:
    assert len(settings) <= MAX_SETTINGS
    for text in (text for setting in settings for text in setting):
        assert len(text) <= 500
        assert text.isprintable()


def _edition(edition: Edition | None) -> tuple[str, ...]:
    return dataclasses.astuple(edition) if edition else ()


def _check_status(status: WorkerStatus) -> None:
    record = MeshState(_MESH)
    record.worker.answer(status, _NOW_S)
    worker = record.worker
    assert 0 <= worker.connected_at <= _NOW_S
    assert 0 <= record.since < 2**63
    texts = (worker.last_error, worker.chat_form, *command_errors([record]), *_edition(worker.edition))
    for text in texts:
        assert len(text) <= 300
        assert text.isprintable()
    assert all(map(is_finite, all_values((worker.attempts, worker.unshown, worker.since))))
