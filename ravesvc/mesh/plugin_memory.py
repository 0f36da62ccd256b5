"""Memory that outlives the process of a bot: a memfd that systemd keeps (FileDescriptorStoreMax= of its unit).

The next process gets it as one more descriptor. It goes with a stop of the unit, and outlives a crash and a restart.
"""

from __future__ import annotations

import fcntl
import os

from ravesvc import names
from ravesvc.bot.last_step import SIZE_BYTES, LastStep
from ravesvc.systemd.notify import keep_descriptor

# No other size, and no other seals.
_SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def last_step(descriptor: int | None) -> LastStep:
    """That of this process, which goes on with what the process before has left in this memory, if there is some.

    Call it before the process confines itself: afterwards it can send no descriptor. Without systemd the memory ends
    with the process.
    """
    if descriptor is None:
        # Takes no memory before it is written to.
        descriptor = os.memfd_create(names.PLUGINS_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, SIZE_BYTES)
        # It outlives a bot that was taken over, which could let it grow with each of its ends.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        keep_descriptor(descriptor, names.PLUGINS_NAME)
    return LastStep(os.pread(descriptor, SIZE_BYTES, 0), lambda what, where: os.pwrite(descriptor, what, where))
