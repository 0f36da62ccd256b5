"""The journal of the bots and the service, as journalctl(1) reads it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

from ravesvc import names
from ravesvc.errors import Code, RaveError

# A bot's line has at most 48 kB (LineMax=). journalctl writes it with up to five characters for each byte.
_MAX_ENTRY_BYTES = 1 << 19
_FIELDS = ("MESSAGE", "PRIORITY", "_PID", "_SYSTEMD_UNIT", "UNIT", "RAVE_MESH", "RAVE_TITLE")
_PID_OF_SYSTEMD = "1"


class JournalEntry(NamedTuple):
    """An entry of the journal.

    Attributes:
        at: when it was written, in seconds since the epoch.
        priority: a number of syslog(3): 0 is the most urgent, 7 is for debugging.
        mesh: the id of the mesh that it is about; empty if it is about none.
        source: who has written it: bot, service or systemd.
        title: the title that the mesh had then, if the service has written it; may be empty.
        text: what it says, on one line or several. A bot that was taken over may write anything.
    """

    at: float
    priority: int
    mesh: str
    source: str
    title: str
    text: str


def matches(mesh: str) -> list[str]:
    """Matches for journalctl(1): entries of the bot, of systemd about its unit, and of the service about the mesh."""
    unit = names.mesh_unit(mesh)
    return [
        f"_SYSTEMD_UNIT={unit}",
        "+",
        f"_PID={_PID_OF_SYSTEMD}",
        f"UNIT={unit}",
        "+",
        f"_SYSTEMD_UNIT={names.ORCHESTRATOR_UNIT}",
        f"RAVE_MESH={mesh}",
    ]


def matches_of_all() -> list[str]:
    """Matches for journalctl(1): entries of all bots, also of those that start later, and of the service."""
    unit = names.ORCHESTRATOR_UNIT
    return [
        f"_SYSTEMD_SLICE={names.MESH_SLICE}",
        "+",
        f"_SYSTEMD_UNIT={unit}",
        "+",
        f"_PID={_PID_OF_SYSTEMD}",
        f"UNIT={unit}",
    ]


def entries(words: Sequence[str]) -> Generator[JournalEntry]:
    """The entries that journalctl finds with these options and matches, as it finds them.

    Raises `RaveError` (Internal) when journalctl can't be run, or fails; it has printed why.
    """
    command = ["journalctl", "--output=json", "--all", f"--output-fields={','.join(_FIELDS)}", *words]
    try:
        journalctl = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - no shell
    except OSError as e:
        raise RaveError(Code.INTERNAL, f"journalctl can't be run: {e.strerror}") from e
    with journalctl:
        assert journalctl.stdout
        try:
            while line := journalctl.stdout.readline(_MAX_ENTRY_BYTES):
                if entry := read(line):
                    yield entry
        except GeneratorExit:
            # It may wait for new entries.
            journalctl.terminate()
            raise
    if journalctl.returncode:
        raise RaveError(Code.INTERNAL, f"journalctl has failed with exit status {journalctl.returncode}")


def read(line: bytes) -> JournalEntry | None:
    """An entry in JSON; None for what is none, such as a part of one that is too long."""
    try:
        fields = json.loads(line)
        at = int(fields["__REALTIME_TIMESTAMP"]) / 1_000_000
    except (ValueError, KeyError, TypeError):
        return None
    values = {name: _text(fields.get(name)) for name in _FIELDS}
    if values["_PID"] == _PID_OF_SYSTEMD:
        mesh, source = names.mesh_of_unit(values["UNIT"]) or "", "systemd"
    elif bot := names.mesh_of_unit(values["_SYSTEMD_UNIT"]):
        mesh, source = bot, "bot"
    else:
        mesh, source = values["RAVE_MESH"] if names.is_mesh_id(values["RAVE_MESH"]) else "", "service"
    # Bots can't send fields. The title is at the end of the text as well, for those who read it by journalctl(1).
    title = values["RAVE_TITLE"] if mesh and source == "service" else ""
    text = values["MESSAGE"].removesuffix(f" [{title}]" if title else "")
    priority = int(values["PRIORITY"]) if values["PRIORITY"] in tuple("01234567") else 6
    return JournalEntry(at, priority, mesh, source, title, text)


def _text(value: Any) -> str:
    """A value of a field: a text, a list of its bytes if it is not all printable, or a list of several values."""
    if isinstance(value, list) and value:
        if all(type(each) is int and 0 <= each < 256 for each in value):
            return bytes(value).decode(errors="replace")
        value = _text(value[0])
    return value if isinstance(value, str) else ""
