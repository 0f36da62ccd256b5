"""An entry of the journal, in whose text strangers have a part: it has the fields that it was given, and no other."""

from __future__ import annotations

import logging

from ravesvc.common.log_fields import about
from ravesvc.names import mesh_unit
from ravesvc.systemd.journal import JournalHandler
from ravesvc.systemd.logging import _PrefixFormatter

_MESH = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
_FIELDS = ("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "LOGGER", "RAVE_MESH", "RAVE_UNIT")
_HANDLER = JournalHandler("rave-orchestrator", logging.NullHandler(), mesh_unit)
_HANDLER.close()
_LINES = _PrefixFormatter("%(message)s")


def check(data: bytes) -> None:
    """The journal reads these fields; on standard error each line has its priority."""
    text = data.decode(errors="surrogateescape")
    record = logging.LogRecord("ravesvc", logging.WARNING, __file__, 1, "Mesh: %s", (text,), None)
    vars(record).update(about(_MESH))
    names = []
    entry = _HANDLER._entry(record)
    while entry:
        name, entry = entry.split(b"\n", 1)
        size = int.from_bytes(entry[:8], "little")
        names.append(name.decode())
        assert entry[8 + size : 9 + size] == b"\n"
        entry = entry[9 + size :]
    assert tuple(names) == _FIELDS
    assert all(line.startswith("<4>") for line in _LINES.format(record).split("\n"))
