"""A status for systemd, made of what strangers wrote: it arrives as one line that says the same."""

from __future__ import annotations

import atexit
import os
import socket
import tempfile
from unittest.mock import patch

from ravesvc.systemd.notify import notify

_socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
_directory = tempfile.TemporaryDirectory()
atexit.register(_directory.cleanup)
atexit.register(_socket.close)
_socket.bind(f"{_directory.name}/notify")


def check(data: bytes) -> None:
    """systemd takes the message, and what it reads is the status alone."""
    text = data.decode(errors="surrogateescape")
    with patch.dict(os.environ, NOTIFY_SOCKET=f"{_directory.name}/notify"):
        notify(f"STATUS={text}", "WATCHDOG=1")
    status, watchdog = _as_systemd_reads(_socket.recv(1 << 20))
    assert status.startswith("STATUS=")
    assert watchdog == "WATCHDOG=1"
    # What can't be shown is replaced; the rest is as it was.
    shown = text[: 600 - len("STATUS=")]
    assert len(status) == len("STATUS=") + len(shown)
    for sent, read in zip(shown, status.removeprefix("STATUS="), strict=True):
        assert read == sent or not sent.isprintable()
        assert read.isprintable()


def _as_systemd_reads(message: bytes) -> list[str]:
    """The lines of a notification: separated by line feeds or returns, in which a backslash quotes what follows it.

    One at the end of a line quotes nothing, and systemd drops the whole message.
    """
    lines, line, quoted = [], "", False
    for character in message.decode():
        if quoted or character not in "\n\r\\":
            line, quoted = line + character, False
        elif character == "\\":
            quoted = True
        else:
            lines.append(line)
            line = ""
    assert not quoted, "systemd drops a message that ends in a backslash"
    return [each for each in (*lines, line) if each]
