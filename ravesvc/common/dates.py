"""Dates as people read them: one zone, and its name is always there.

The zone is that of the process: /etc/localtime of the machine, or the environment variable TZ. The service has no TZ.
`ravectl` drops the caller's, so that its lists and the sentences of the service agree.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from itertools import pairwise

_MINUTES = "%Y-%m-%d %H:%M"
_SECONDS = "%Y-%m-%d %H:%M:%S"


def date(seconds: float) -> str:
    """A time in seconds since the epoch: "2026-11-30 10:21 UTC"."""
    return _written(seconds, _MINUTES)


def to_the_second(seconds: float) -> str:
    """The same with seconds: "2026-11-30 10:21:05 UTC"."""
    return _written(seconds, _SECONDS)


def dates(times: Sequence[float]) -> list[str]:
    """The times of one list, in seconds since the epoch; "-" for 0, which is none.

    All have seconds when two that follow each other fall into the same minute.
    """
    minutes = [each // 60 for each in times if each]
    form = _SECONDS if any(one == next_one for one, next_one in pairwise(minutes)) else _MINUTES
    return [_written(each, form) if each else "-" for each in times]


def in_sentence(seconds: float) -> str:
    """The same in a sentence: "2026-11-30 at 10:21:05 UTC"."""
    return _written(seconds, "%Y-%m-%d at %H:%M:%S")


def use_zone_of_the_machine() -> None:
    """Have this process go by /etc/localtime, whatever TZ says."""
    os.environ.pop("TZ", None)
    time.tzset()


def _written(seconds: float, form: str) -> str:
    return time.strftime(f"{form} %Z", time.localtime(seconds))
