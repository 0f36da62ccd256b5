"""`python3 -m ravesvc.mesh MESH`: loads rave-mesh(8), of which there are hundreds, at the least cost."""

import gc
import sys

from ravesvc.common.deferred_imports import deferred

# Hardly anything that is made now is garbage. To look for it would take 10 ms of each start. `main` enables it again.
gc.disable()

# The standard library imports these and, for us, never uses them: what takes source code apart, and number formats of
# a language. They would cost each bot half a MB.
with deferred("ast", "locale", "tokenize"):
    import inspect  # noqa: F401
    import subprocess  # noqa: F401

from ravesvc.mesh.main import main  # noqa: E402 - after these

if __name__ == "__main__":
    sys.exit(main())
