from __future__ import annotations

import logging

import pytest

from ravesvc.common.log_fields import LogEvent
from ravesvc.core.worker_events import (
    CommandErrors,
    Connected,
    ConnectionFailed,
    Disconnected,
    ErrorReported,
    PauseRequested,
    WorkerEvent,
    WorkerNews,
)
from ravesvc.orchestrator.worker_log import log_news


@pytest.mark.parametrize(
    ("event", "level", "name", "text"),
    [
        (Connected(), logging.INFO, LogEvent.CONNECTED, "Mesh m is connected"),
        (Disconnected("?"), logging.INFO, LogEvent.DISCONNECTED, "Mesh m is disconnected: why"),
        (
            ConnectionFailed(3, "?"),
            logging.WARNING,
            LogEvent.UNREACHABLE,
            "Mesh m could not be reached, attempt 3: why",
        ),
        (PauseRequested("?", 60), logging.WARNING, None, "The bot of mesh m was asked to wait: why"),
        (ErrorReported("?"), logging.WARNING, None, "Mesh m reports: why"),
        (CommandErrors(["?"]), logging.WARNING, None, "Plugins fail, first in mesh m: why"),
    ],
)
def test_news_are_entries_in_words_that_were_checked(
    caplog: pytest.LogCaptureFixture, event: WorkerEvent, level: int, name: LogEvent | None, text: str
) -> None:
    caplog.set_level(logging.INFO)
    log_news(WorkerNews("m", event, "why"))
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (level, text)
    assert (vars(record)["rave_mesh"], vars(record)["rave_event"]) == ("m", name)
