"""`ravectl`, or `python3 -m ravesvc.ctl`: loads and runs the program at the least cost, because a person waits."""

import gc
import sys
from collections.abc import Sequence

# Nearly all that is made until a command has its answer is still needed then. To look for garbage all the time, and
# once more in all that is left at the end, would take a quarter of its time. `--watch` goes on: at times is enough.
gc.set_threshold(50_000, 10, 10)

from ravesvc.ctl import main as program  # noqa: E402 - after that


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Its exit status is one of `ravesvc.ctl.exit_status`."""
    try:
        return program.main(arguments)
    finally:
        gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
