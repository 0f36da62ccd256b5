"""`python3 -m ravesvc.mesh MESH`: loads rave-mesh(8), of which there are hundreds, at the least cost."""

import gc
import sys

from ravesvc.common.deferred_imports import deferred

# Hardly anything that is made now is garbage. To look for it would take 10 ms of each start. `main` enables it again.
gc.disable()

# The standard library imports these and, for us, never uses them, unless it shows a traceback: what takes source code
# and text apart, number formats of a language, and what encodes headers of mails. They would cost each bot 0.7 MB.
with deferred("ast", "email.base64mime", "email.header", "email.quoprimime", "locale", "textwrap", "tokenize"):
    import http.client  # noqa: F401
    import inspect  # noqa: F401
    import subprocess  # noqa: F401
    import traceback  # noqa: F401

from ravesvc.mesh.main import main  # noqa: E402 - after these

if __name__ == "__main__":
    sys.exit(main())
