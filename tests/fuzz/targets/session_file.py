"""The session of a bot, as its unit hands it over."""

from __future__ import annotations

from ravesvc.config.worker_settings import Session


def check(data: bytes) -> None:
    """What is accepted is the same when read again."""
    session = Session.from_json(data.decode(errors="surrogateescape"))
    assert abs(session.user_id) < 2**63
    assert Session.from_json(session.to_json()) == session
