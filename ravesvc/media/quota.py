"""The day by which YouTube counts requests: it begins at midnight Pacific time. No I/O."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ravesvc.common.translation import gettext as _


class Day(NamedTuple):
    """A day of the provider: its date such as 2026-11-29, and when it ends, in seconds since the epoch."""

    date: str
    ends: float


def day(now: float) -> Day:
    """The day at `now`, in seconds since the epoch."""
    zone = _pacific()
    today = datetime.fromtimestamp(now, zone).date()
    tomorrow = datetime.combine(today + timedelta(days=1), time(), zone)
    return Day(today.isoformat(), tomorrow.timestamp())


def wait_words(seconds: float) -> str:
    """How long it is until then, for the chat: "in 3 hours"."""
    minutes = max(1, round(seconds / 60))
    if minutes < 90:
        return _("in a minute") if minutes == 1 else _("in {number} minutes", number=minutes)
    return _("in {number} hours", number=round(minutes / 60))


def _pacific() -> tzinfo:
    try:
        return ZoneInfo("America/Los_Angeles")
    except ZoneInfoNotFoundError:
        # A machine without tzdata: standard time, which in summer is an hour late.
        return timezone(timedelta(hours=-8))
