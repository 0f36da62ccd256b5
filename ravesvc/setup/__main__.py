"""`python3 -m ravesvc.setup`: loads the privileged step, for which each start of the service waits."""

import gc
import sys

# It ends before there is garbage worth looking for. To do that now, and in all that is left at the end, would take a
# fifth of its time.
gc.disable()

from ravesvc.setup.prepare import run  # noqa: E402 - after that

if __name__ == "__main__":
    status = run(sys.argv[1:])
    gc.freeze()
    sys.exit(status)
