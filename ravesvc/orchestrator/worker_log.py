"""Logs the reports of bots as the service: a bot that was taken over could forge its own log, but not this."""

from __future__ import annotations

import logging

from ravesvc.common.log_fields import LogEvent, about
from ravesvc.core.worker_events import (
    CommandErrors,
    Connected,
    ConnectionFailed,
    Disconnected,
    ErrorReported,
    PauseRequested,
    WorkerNews,
)

log = logging.getLogger(__name__)


def log_news(news: WorkerNews) -> None:
    """Log one event."""
    mesh, words = news.mesh, news.words
    match news.event:
        case Connected():
            log.info("Mesh %s is connected", mesh, extra=about(mesh, LogEvent.CONNECTED))
        case Disconnected():
            log.info("Mesh %s is disconnected: %s", mesh, words, extra=about(mesh, LogEvent.DISCONNECTED))
        case ConnectionFailed(attempts):
            text = "Mesh %s could not be reached, attempt %d: %s"
            log.warning(text, mesh, attempts, words, extra=about(mesh, LogEvent.UNREACHABLE))
        case PauseRequested():
            log.warning("The bot of mesh %s was asked to wait: %s", mesh, words, extra=about(mesh))
        case ErrorReported():
            log.warning("Mesh %s reports: %s", mesh, words, extra=about(mesh))
        case CommandErrors():
            log.warning("Plugins fail, first in mesh %s: %s", mesh, words, extra=about(mesh))
