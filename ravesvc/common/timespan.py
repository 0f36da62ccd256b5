"""Time spans as people write them, in rave.yaml and on command lines: `5s`, `1h 30min`, `250ms`, or plain seconds."""

from __future__ import annotations

import re

from ravesvc.common.text import count

# Those of a length that is written, the largest first.
_WRITTEN = ((86400, "d", "day"), (3600, "h", "hour"), (60, "min", "minute"), (1, "s", "second"))

# The units of a second and more, the smallest first, as they are written.
LONG_UNITS = tuple(unit for _, unit, _ in reversed(_WRITTEN))

_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*")


def parse(text: str) -> float:
    """Seconds of a time span, `math.inf` if there are more than a float can hold; raises ValueError."""
    total, rest = 0.0, text.strip().lower()
    if not rest:
        raise ValueError(text)
    while rest:
        match = _SPAN.match(rest)
        if match is None or (unit := match[2] or "s") not in _UNITS:
            raise ValueError(text)
        total += float(match[1]) * _UNITS[unit]
        rest = rest[match.end() :]
    return total


def written(seconds: float) -> str:
    """A time span as `parse` reads it, in the largest unit that takes no fraction; milliseconds are the smallest."""
    if not seconds:
        return "0s"
    for size, unit, _ in _WRITTEN:
        if seconds >= size and round(seconds / size, 6) % 1 == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds * 1000:g}ms"


def roughly(seconds: float) -> str:
    """A time span in words, in the largest unit that fits, and without what is left of it."""
    size, _, noun = next((each for each in _WRITTEN if seconds >= each[0]), _WRITTEN[-1])
    return count(int(seconds // size), noun)
