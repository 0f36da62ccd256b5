"""The memory of this machine, on which a default depends."""

from __future__ import annotations

import os
from pathlib import Path

# The memory of a bot with its share of the page tables and of systemd, and a reserve for a busy room.
BYTES_PER_BOT = 32 * 2**20
# Share of all memory; the rest is for the system and the service itself.
_FOR_BOTS = 3 / 4
# Each bot has a connection to the message bus, and our file there allows 2047 to the bots' user; some are for bots
# that come while others go.
MAX_BOTS_ON_BUS = 2000
# The memory limit of a container; the kernel's own figures there are those of the whole machine.
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_bytes(cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """The memory that this machine or container has."""
    # Not from /proc/meminfo: the sandbox of the service hides it (ProcSubset=).
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(whole, int(cgroup_limit.read_text()))
    except (OSError, ValueError):
        # There is no such controller, or the limit is the word "max".
        return whole


def bots_that_fit(memory: int | None = None) -> int:
    """The number of bots that fit into `memory` bytes, at least one; by default into the memory of this machine.

    At most as many as the message bus has connections for.
    """
    memory = memory_bytes() if memory is None else memory
    return min(max(1, int(memory * _FOR_BOTS) // BYTES_PER_BOT), MAX_BOTS_ON_BUS)
