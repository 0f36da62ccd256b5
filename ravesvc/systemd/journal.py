"""Log entries with fields (systemd.journal-fields(7)), in the protocol of systemd.io/JOURNAL_NATIVE_PROTOCOL.

The journal itself adds the unit of the sender: the fields alone do not prove who wrote an entry.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from ravesvc.common.log_fields import LogEvent, mesh_of, message_id
from ravesvc.common.text import printable

SOCKET = "/run/systemd/journal/socket"

# Syslog priorities.
PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))

# A much longer text would not fit into a datagram.
_MAX_TEXT_CHARS = 32768
# Strangers write titles.
MAX_TITLE_CHARS = 100


class JournalHandler(logging.Handler):
    """Sends each record as one entry; a record that the journal does not accept at once goes to `fallback`.

    `unit_of(mesh)` names the unit of a mesh's bot, empty where it has none of its own. The text about a mesh ends
    with its title in brackets, for people; what scripts look for stands before it.

    Attributes:
        title_of: returns the title of a mesh, as strangers have written it; empty if it is not known.
    """

    def __init__(self, identifier: str, fallback: logging.Handler, unit_of: Callable[[str], str]) -> None:
        super().__init__()
        self.title_of: Callable[[str], str] = lambda _mesh: ""
        self._identifier = identifier
        self._unit_of = unit_of
        self._fallback = fallback
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            self._socket.sendto(self._entry(record), SOCKET)
        except OSError:
            # A journal that hangs must not hang us as well.
            self._fallback.handle(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def _entry(self, record: logging.LogRecord) -> bytes:
        event: LogEvent | None = getattr(record, "rave_event", None)
        mesh = mesh_of(record)
        title = printable(self.title_of(mesh), MAX_TITLE_CHARS) if mesh else ""
        fields = {
            "MESSAGE": _with_title(self.format(record)[:_MAX_TEXT_CHARS], title),
            "PRIORITY": str(next(number for level, number in PRIORITIES if record.levelno >= level)),
            "SYSLOG_IDENTIFIER": self._identifier,
            "LOGGER": record.name,
            "RAVE_MESH": mesh,
            "RAVE_TITLE": title,
            "RAVE_EVENT": event or "",
            "RAVE_UNIT": self._unit_of(mesh) if mesh else "",
            "MESSAGE_ID": message_id(record),
        }
        return b"".join(_field(name, text) for name, text in fields.items() if text)


def _with_title(text: str, title: str) -> str:
    """A text with a title at the end of its first line; a traceback has more lines."""
    first, line_feed, rest = text.partition("\n")
    return f"{first} [{title}]{line_feed}{rest}" if title else text


def _field(name: str, text: str) -> bytes:
    """A field with its length: required for a text of several lines, allowed for others."""
    value = text.encode(errors="replace")
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
