"""`rave-orchestrator`: loads the service, for which all bots wait after a boot."""

import gc
from collections.abc import Sequence

# What is imported stays. To look for garbage in it again and again would take a tenth of the time.
gc.disable()

from ravesvc.orchestrator import app  # noqa: E402 - after that


def main(arguments: Sequence[str] | None = None) -> int:
    """The program, see `app.main`."""
    gc.freeze()
    gc.enable()
    return app.main(arguments)
