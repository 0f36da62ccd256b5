"""Votes for videos; no I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """The users who want to see a video.

    Attributes:
        url: Rave's URL of the video.
        users: who voted for it; of many, some.
        count: how many did, according to the server.
        oldest: when the first did, by the server's clock as it writes it; None if unknown.
        order: the place of the vote among the others; None if unknown.
    """

    url: str
    users: frozenset[int] = frozenset()
    count: int = 0
    oldest: float | None = None
    order: int | None = None
