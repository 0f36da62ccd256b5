"""ravectl logs: what the journal has of one mesh, or of all."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping

from ravesvc import names
from ravesvc.common import dates
from ravesvc.common.text import printable
from ravesvc.ctl.arguments import MESH_HELP, word
from ravesvc.ctl.client import connected
from ravesvc.ctl.command import Argument, Commands
from ravesvc.ctl.operations import mesh_lookup
from ravesvc.ctl.operations.mesh_lookup import SHORT_ID_CHARS
from ravesvc.ctl.ui import columns, output
from ravesvc.errors import RaveError

COMMANDS = Commands()

_MAX_TITLE_CELLS = 30
_MAX_TITLE_CHARS = 60


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError("a number of lines")
    return int(text)


_MESH = Argument("mesh", nargs="?", type=word, metavar="MESH", help=f"{MESH_HELP}; else all")
_FOLLOW = Argument("-f", "--follow", action="store_true", help="go on with new entries")
_LINES = Argument("-n", "--lines", type=_number, metavar="N", help="show only the last N lines")


@COMMANDS.local_command("logs", _MESH, _FOLLOW, _LINES)
def _logs(options: argparse.Namespace) -> None:
    """Show what the journal has of a mesh, or of all bots and the service.

    Of a mesh it shows what the bot has logged, what systemd has logged of its unit, and what the service has done
    with the mesh. Without a mesh it shows what all bots and the service have logged.

    Each line has the time, the beginning of the mesh's id and the title that it has now, and who has logged it: bot,
    service or systemd. While the service does not run, a mesh has to be given with its full id, and titles are those
    that the service has logged. At a terminal less(1) shows the log, unless SYSTEMD_PAGER or PAGER is empty or cat.

    Examples:
        ravectl logs --follow
        ravectl logs --lines 20 1c2d3e4f
    """
    # Imported here because no other command needs them.
    from ravesvc.ctl.operations import journal
    from ravesvc.ctl.ui.pager import paged

    mesh, known = _look_up(options.mesh)
    logged: dict[str, str] = {}
    words = ["--follow"] if options.follow else []
    words += [f"--lines={options.lines}"] if options.lines is not None else []
    words += journal.matches(mesh) if mesh else journal.matches_of_all()
    coloured = output.has_colours()
    with (
        contextlib.nullcontext() if options.follow else paged(),
        contextlib.closing(journal.entries(words)) as entries,
    ):
        for entry in entries:
            if entry.title:
                logged[entry.mesh] = entry.title
            title = known.get(entry.mesh) or logged.get(entry.mesh, "")
            about = f"[{_name(entry.mesh, title)}] " if entry.mesh else ""
            head = f"{dates.to_the_second(entry.at)} {about}{entry.source}: "
            colour = _colour(entry.priority) if coloured else ""
            for line in entry.text.splitlines() or [""]:
                output.print_line(head + line, colour)


def _look_up(text: str | None) -> tuple[str, Mapping[str, str]]:
    """The id of the mesh that is asked for, empty for all, and the titles of meshes by id, as far as are known.

    Raises `RaveError` as `mesh_lookup.find`, and NotRunning if the service is needed to find the mesh.
    """
    if text is None or names.is_mesh_id(text):
        with contextlib.suppress(RaveError), connected() as service:
            return text or "", mesh_lookup.listed_titles(service)
        return text or "", {}
    with connected() as service:
        found = mesh_lookup.find(service, text)
        return found.id, {found.id: found.title}


def _name(mesh: str, title: str) -> str:
    """The mesh in front of a line about it: the beginning of its id, and its title if that is known."""
    shown = columns.cut(printable(title, _MAX_TITLE_CHARS), _MAX_TITLE_CELLS)
    return f"{mesh[:SHORT_ID_CHARS]} {shown}".rstrip()


def _colour(priority: int) -> str:
    """As journalctl(1) has it: errors are red, warnings are yellow."""
    return "31" if priority <= 3 else "33" if priority == 4 else ""
