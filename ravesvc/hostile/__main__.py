"""`python3 -I -m ravesvc.hostile PID`: try all probes against a sibling; prints JSON, as `ProbeReport` has it.

It first gives up what a bot gives up at its start, which a stranger's code in a bot can't take back either.
"""

import json
import os
import sys
from typing import TypedDict

from ravesvc.hostile import probes
from ravesvc.mesh import confinement

# Of what a bot may connect to by rave.yaml, the least.
_PORTS = (443,)


class ProbeReport(TypedDict):
    """What could not be given up, a sentence for each, and what `attempt_all` has found."""

    gaps: list[str]
    found: dict[str, str | None]


if __name__ == "__main__":
    gaps = confinement.confine(os.uname().machine, _PORTS)
    json.dump(ProbeReport(gaps=gaps, found=probes.attempt_all(int(sys.argv[1]))), sys.stdout)
