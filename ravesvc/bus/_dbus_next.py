"""The D-Bus library, dbus-next, without the modules that we do not use. No other module imports it.

We use its messages alone. Its connections import XML and, on Debian, GLib's bindings, which would cost each of
hundreds of processes 4 MB.
"""

from __future__ import annotations

from typing import Any

from ravesvc.common.deferred_imports import deferred

with deferred(
    "dbus_next.aio",
    "dbus_next.glib",
    "dbus_next.introspection",
    "dbus_next.message_bus",
    "dbus_next.proxy_object",
    "dbus_next.service",
):
    import dbus_next as _dbus_next
    from dbus_next._private import unmarshaller as _unmarshaller

# Untyped on purpose: the library's own annotations allow no None where it is the default.
dbus_next: Any = _dbus_next
unmarshaller: Any = _unmarshaller
