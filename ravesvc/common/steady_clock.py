"""Points in time that do not move when the clock of the machine is set.

The wall clock jumps: an operator sets it, or NTP does after a boot without a battery. A block that ends at a point in
time must then neither end at once nor last a day longer. So such times are kept on a steady scale: milliseconds since
the epoch by the wall clock when the process began, and from there on by CLOCK_BOOTTIME of clock_gettime(2). Files are
for people and have the times by the wall clock at the moment of writing, together with a `Stamp`: as long as the
machine is not booted again, it says how far both scales are apart.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# In a service that sees no /proc/sys its unit names the boot: Environment=RAVESVC_BOOT_ID=%b.
BOOT_ID_VARIABLE = "RAVESVC_BOOT_ID"

# macOS lacks it, and has CLOCK_MONOTONIC go on while the machine sleeps, as CLOCK_BOOTTIME does on Linux.
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

# A wall clock that is corrected a little at a time has not jumped.
_MIN_JUMP_MS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """One moment on both scales: milliseconds since the epoch by the wall clock, and since the boot `boot`."""

    wall: int
    boottime: int
    boot: str


class Clock:
    """The steady scale of this process."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        boottime: Callable[[], float] = lambda: time.clock_gettime(_BOOTTIME),
        boot: str | None = None,
    ) -> None:
        """`wall` and `boottime` are in seconds; `boot` names the boot that `boottime` counts from."""
        self._wall = wall
        self._boottime = boottime
        self._boot = _boot_id() if boot is None else boot
        self._began = _milliseconds(wall()) - _milliseconds(boottime())

    def now(self) -> int:
        """Now, in milliseconds on the steady scale."""
        return self._began + _milliseconds(self._boottime())

    def jump(self) -> int:
        """How many milliseconds the wall clock is ahead by now; 0 unless it was set."""
        ahead = _milliseconds(self._wall()) - self.now()
        return ahead if abs(ahead) > _MIN_JUMP_MS else 0

    def stamp(self) -> Stamp:
        """This moment, to be kept beside times that are written as the wall clock has them now: `now() + jump()`."""
        now = self.now()
        return Stamp(wall=now + self.jump(), boottime=now - self._began, boot=self._boot)

    def ahead(self, stamp: Stamp | None) -> int:
        """How many milliseconds the times written beside a stamp are ahead of the steady scale.

        Without a stamp of this boot they are taken to be as the wall clock has them now.
        """
        if stamp is None or not self._boot or stamp.boot != self._boot:
            return self.jump()
        return stamp.wall - (self._began + stamp.boottime)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _boot_id() -> str:
    """The id of this boot (sd-id128(3)); empty if it is unknown, and then no stamp of an earlier process counts."""
    if told := os.environ.get(BOOT_ID_VARIABLE, ""):
        return told
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", "")
    except OSError:
        return ""
