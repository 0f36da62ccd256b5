"""`python3 -I -m ravesvc.hostile PID`: try all probes against a sibling; prints the JSON of `attempt_all`."""

import json
import sys

from ravesvc.hostile import probes

if __name__ == "__main__":
    json.dump(probes.attempt_all(int(sys.argv[1])), sys.stdout)
