"""`rave-orchestrator`, or `python3 -m ravesvc.orchestrator`: loads the service at the least cost."""

import gc
import sys
from collections.abc import Sequence

# What is imported stays, so there is no garbage in it to look for again and again. `main` enables it.
gc.disable()

from ravesvc.orchestrator import app  # noqa: E402 - after that


def main(arguments: Sequence[str] | None = None) -> int:
    """The program, see `app.main`."""
    gc.freeze()
    gc.enable()
    return app.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
