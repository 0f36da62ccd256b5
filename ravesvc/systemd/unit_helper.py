"""The process in which pystemd starts, stops, restarts and resets units (`python -m ravesvc.systemd.unit_helper`).

It reads requests from stdin, one JSON object a line, writes one answer a line to stdout, and ends at the end of
stdin:

    {"id": 1, "verb": "start", "unit": "rave-mesh@....service"}
    {"id": 1, "job": "/org/freedesktop/systemd1/job/7"}
    {"id": 2, "error": "DBusNoSuchUnitError", "text": "Unit ... not found."}

`unit_control` asks it. It imports little, since it starts with the service and runs beside it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from typing import Any, TextIO

_METHODS = {
    "start": b"StartUnit",
    "stop": b"StopUnit",
    "try-restart": b"TryRestartUnit",
    "reset-failed": b"ResetFailedUnit",
}
_SYSTEMD = (b"org.freedesktop.systemd1", b"/org/freedesktop/systemd1", b"org.freedesktop.systemd1.Manager")


class _Systemd:
    """Calls of systemd on one connection, which is opened anew after a failure of its own."""

    def __init__(self) -> None:
        # Imported here, so that the tests of the protocol need no pystemd.
        from pystemd import dbuslib
        from pystemd.dbusexc import DBusBaseError

        self._lib: Any = dbuslib
        self._error: type[Exception] = DBusBaseError
        self._bus: Any = None

    def answer(self, verb: str, unit: str) -> dict[str, str]:
        """The answer to a request, without its id."""
        arguments = [unit.encode()] if verb == "reset-failed" else [unit.encode(), b"replace"]
        try:
            if self._bus is None:
                # Polkit asks no user for a password for these calls: sd-bus does not set the flag that allows it.
                bus = self._lib.DBus()
                bus.open()
                self._bus = bus
            signature = b"s" * len(arguments)
            args = self._lib.apply_signature(signature, arguments)
            job = self._bus.call_method(*_SYSTEMD, _METHODS[verb], args).body
        except self._error as e:
            return self._failure(e)
        return {"job": job.decode() if job else ""}

    def _failure(self, error: Any) -> dict[str, str]:
        # pystemd has a class for each common error name, and keeps the name of the others.
        name, text = _text(error.err_name) or type(error).__name__, _text(error.err_message)
        if -error.errno in (errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE, errno.ESHUTDOWN) and self._bus:
            self._bus.close()
            self._bus = None
        return {"error": name, "text": text or os.strerror(abs(error.errno))}


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    systemd = _Systemd()
    for line in requests:
        request = json.loads(line)
        answer = systemd.answer(request["verb"], request["unit"])
        answers.write(json.dumps({"id": request["id"], **answer}) + "\n")
        answers.flush()


if __name__ == "__main__":
    # The parent acts on a signal to our process group or unit; we end with our stdin.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        serve(sys.stdin, sys.stdout)
    except BrokenPipeError:
        # The parent is gone, and nothing is left to do. Python would complain at the end about what it can't flush.
        os._exit(0)
