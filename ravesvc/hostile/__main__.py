"""`python3 -I -m ravesvc.hostile PID`: try all probes against a sibling; prints JSON, as `ProbeReport` has it.

It first gives up the rights that a bot gives up at its start, because an attacker can't get those back either.
"""

import json
import os
import sys
from typing import TypedDict

from ravesvc.hostile import probes
from ravesvc.mesh import confinement

# The fewest ports that rave.yaml can allow a bot to connect to.
_PORTS = (443,)


class ProbeReport(TypedDict):
    """The rights that could not be given up, a sentence for each (`gaps`), and the result of `attempt_all`."""

    gaps: list[str]
    found: dict[str, str | None]


if __name__ == "__main__":
    gaps = confinement.confine(os.uname().machine, _PORTS)
    json.dump(ProbeReport(gaps=gaps, found=probes.attempt_all(int(sys.argv[1]))), sys.stdout)
