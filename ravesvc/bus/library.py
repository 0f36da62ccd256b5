"""The D-Bus library, dbus-next, without what it brings along: the only module that imports it.

It imports GLib's bindings where it finds them, as on Debian, where they come with it. We use nothing of that half,
and it would cost each of hundreds of processes 3.5 MB; so they are hidden while it looks for them.
"""

from __future__ import annotations

import sys
from typing import Any

_HIDDEN = "gi"

_found = sys.modules.get(_HIDDEN)
sys.modules[_HIDDEN] = None  # type: ignore[assignment] # makes an import of it fail, see the `import` statement
try:
    import dbus_next as _dbus_next
    from dbus_next._private import unmarshaller as _unmarshaller
finally:
    del sys.modules[_HIDDEN]
    if _found is not None:
        sys.modules[_HIDDEN] = _found

# Untyped on purpose: the library's own annotations allow no None where it is the default.
dbus_next: Any = _dbus_next
unmarshaller: Any = _unmarshaller
