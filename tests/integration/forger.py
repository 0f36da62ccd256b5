"""Run in the machine with a mesh's id: say all that a bot of the mesh could say, without being it."""

import asyncio
import contextlib
import sys
from types import SimpleNamespace

from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.config.worker_settings import Edition
from ravesvc.errors import RaveError
from ravesvc.mesh.worker_object import WorkerObject
from ravesvc.systemd.notify import notify


async def main(mesh: str) -> None:
    """Take a name if the policy lets us, lie, and stay."""
    bus = await Bus.connect()
    with contextlib.suppress(RaveError):
        await bus.request_name(f"{names.WORKER_NAME_PREFIX}.forged")
    liar = WorkerObject(dict, SimpleNamespace(edition=Edition("", "")))
    bus.export(names.worker_path(mesh), liar)
    liar.emit("Ready")
    liar.emit("ConnectionFailed", 99, "forged")
    liar.emit("Left", "forged")
    liar.emit("Kicked")
    # A call whose answer shows that the bus has taken all of it.
    await bus.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId")
    print("said it all", flush=True)
    notify("READY=1")
    # The service, which verifies the sender, finds it alive; the test ends it.
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1]))
