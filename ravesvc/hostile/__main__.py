"""`python3 -I -m ravesvc.hostile PID`: try all probes against a sibling; prints the JSON of `attempt_all`.

It first gives up what a bot gives up at its start, which a stranger's code in a bot can't take back either.
"""

import json
import os
import sys

from ravesvc.hostile import probes
from ravesvc.mesh import confinement

if __name__ == "__main__":
    for gap in confinement.confine(os.uname().machine):
        sys.stderr.write(f"{gap}\n")
    json.dump(probes.attempt_all(int(sys.argv[1])), sys.stdout)
