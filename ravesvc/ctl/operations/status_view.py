"""What `ravectl status` shows: the service in sentences, and a table of all meshes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ravesvc.common.text import printable
from ravesvc.ctl.operations.mesh_lookup import SHORT_ID_CHARS, MeshRow
from ravesvc.ctl.ui import columns, output
from ravesvc.ctl.ui.mesh_facts import WITHOUT_PROCESS

_MAX_CELL_CHARS = 300
# There may be several reasons why no bot starts, and all are named.
_MAX_HEAD_CHARS = 600

_TITLES = ("MESH", "TITLE", "STATE", "UP", "USERS", "MEM", "RST", "REASON")
_TITLE, _STATE, _REASON = _TITLES.index("TITLE"), _TITLES.index("STATE"), _TITLES.index("REASON")

# SGR parameters of ECMA-48.
_COLOURS = {
    "connected": "32",
    "disconnected": "33",
    "starting": "33",
    "restarting": "33",
    "stopping": "33",
    "unhealthy": "31",
    "failed": "31",
    "blocked": "35",
    "held": "2",
    "stopped": "2",
}

# A file has no width; a table in one is that wide.
_FILE_CELLS = 160
# On a terminal the columns are at least as wide as nearly all values are, so that they stay where they are.
_USUAL_CELLS = (8, 8, len("disconnected"), 3, 5, 4, 3)
# A terminal narrower than this has no column for the reasons, because they would be cut to nothing. They stand below
# their meshes.
_REASON_COLUMN_CELLS = 110
# On a terminal so narrow that titles would have less than this, the last columns are left out.
_MIN_TITLE_CELLS = 16
# The share of a title in what a wide terminal has for title and reason.
_TITLE_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """What there is to show.

    Attributes:
        status: what GetStatus says.
        meshes: what DescribeMeshes says.
        memory: bytes of memory by mesh id, as far as is known.
        now: seconds since the epoch.
    """

    status: Mapping[str, Any]
    meshes: Sequence[MeshRow]
    memory: Mapping[str, int]
    now: float


# A line in pieces: one of a table has a piece for each column, any other line is one piece.
Line = Sequence[str]


@dataclass(frozen=True, slots=True)
class StatusView:
    """The lines for a width.

    Attributes:
        head: about the service.
        titles: of the table; empty when there is no mesh.
        blocks: the lines of each mesh.
        foot: what the table does not show.
    """

    head: Sequence[Line]
    titles: Sequence[Line]
    blocks: Sequence[Sequence[Line]]
    foot: Sequence[Line]

    def lines(self) -> list[Line]:
        """All lines from top to bottom."""
        gap = [[""]] if self.titles else []
        return [*self.head, *gap, *self.titles, *(line for block in self.blocks for line in block), *self.foot]

    def widths(self) -> list[int]:
        """The cells of each column."""
        return [columns.width(piece) for line in self.titles for piece in line]


def colours(line: Line) -> dict[int, str]:
    """The SGR parameters of pieces of a line by number: those of the state."""
    colour = _COLOURS.get(line[_STATE].strip()) if len(line) > _STATE else None
    return {_STATE: colour} if colour else {}


def for_file(facts: StatusFacts) -> StatusView:
    """One line for each fact and for each mesh."""
    titles, *rows = columns.fit(_TITLES, _rows(facts), _FILE_CELLS, (_TITLE, _REASON))
    return StatusView(
        [[line] for line in _head(facts)],
        [titles] if rows else [],
        [[row] for row in rows],
        [[line] for line in _foot(facts)],
    )


def for_terminal(facts: StatusFacts, cells: int, least: Sequence[int] = ()) -> StatusView:
    """What fits into so many cells.

    Args:
        least: the widths that the columns have been drawn with, to keep them where they are.
    """
    rows = _rows(facts)
    table = _with_reasons if cells >= _REASON_COLUMN_CELLS else _with_reasons_below
    titles, blocks = table(rows, cells, least)
    return StatusView(
        [[part] for line in _head(facts) for part in columns.wrap(line, cells)],
        [titles] if rows else [],
        blocks,
        [[part] for line in _foot(facts) for part in columns.wrap(line, cells)],
    )


def _with_reasons(rows: Sequence[Line], cells: int, least: Sequence[int]) -> tuple[Line, list[list[Line]]]:
    """A line for each mesh."""
    room = cells - _used(_USUAL_CELLS) - columns.GAP_CELLS
    title_cells = int((room + _USUAL_CELLS[_TITLE]) * _TITLE_SHARE)
    cut = [
        [columns.cut(piece, title_cells) if at == _TITLE else piece for at, piece in enumerate(row)] for row in rows
    ]
    wanted = _at_least(_USUAL_CELLS, least)
    titles, *shown = columns.fit(_TITLES, cut, cells, (_REASON,), [*wanted, 0])
    return titles, [[row] for row in shown]


def _with_reasons_below(rows: Sequence[Line], cells: int, least: Sequence[int]) -> tuple[Line, list[list[Line]]]:
    """A line for each mesh, and one below it for its reason if it has one."""
    count = _REASON
    while count > _STATE + 1 and cells - _used(_USUAL_CELLS[:count]) + _USUAL_CELLS[_TITLE] < _MIN_TITLE_CELLS:
        count -= 1
    wanted = _at_least(_USUAL_CELLS[:count], least)
    titles, *shown = columns.fit(_TITLES[:count], [row[:count] for row in rows], cells, (_TITLE,), wanted)
    indent = columns.width(titles[0]) + 2 * columns.GAP_CELLS
    return titles, [
        [row, [" " * indent + columns.cut(full[_REASON], cells - indent)]] if full[_REASON] else [row]
        for row, full in zip(shown, rows, strict=True)
    ]


def _used(widths: Sequence[int]) -> int:
    """The cells of columns with the gaps between them."""
    return sum(widths) + columns.GAP_CELLS * (len(widths) - 1)


def _at_least(usual: Sequence[int], least: Sequence[int]) -> list[int]:
    """Both where the columns are the same; else the usual widths."""
    drawn = least[: len(usual)]
    return list(map(max, usual, drawn)) if len(drawn) == len(usual) else list(usual)


def _rows(facts: StatusFacts) -> list[list[str]]:
    found = sorted(facts.meshes, key=lambda mesh: (not mesh.title, mesh.title.casefold(), mesh.id))
    length = _shortest([mesh.id for mesh in found])
    rows = [
        [
            mesh.id[:length],
            mesh.title,
            mesh.state,
            age(facts.now - mesh.since / 1_000_000) if mesh.state == "connected" and mesh.since else "-",
            *(["-", "-"] if mesh.state in WITHOUT_PROCESS else [str(mesh.users), size(facts.memory.get(mesh.id))]),
            str(mesh.restarts),
            mesh.reason,
        ]
        for mesh in found
    ]
    # Before widths are computed: they are those of what is shown.
    return [[printable(cell, _MAX_CELL_CHARS) for cell in row] for row in rows]


def age(seconds: float) -> str:
    """A time that has passed, in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(0, int(seconds))}s"


def size(number: int | None) -> str:
    """Bytes, for people."""
    if number is None:
        return "-"
    return f"{number / 2**20:.0f}M" if number < 2**30 else f"{number / 2**30:.1f}G"


def _head(facts: StatusFacts) -> list[str]:
    status = facts.status
    last = status.get("LastDiscoveryTimestamp", 0)
    counted = [
        f"store {status.get('Store', '')}",
        f"last discovery {age(facts.now - last / 1_000_000)} ago" if last else "no discovery yet",
        output.counts(status.get("Admins", 0), status.get("Permissions", 0)),
    ]
    # An older service has no Summary.
    summary = status.get("Summary", status.get("Status", ""))
    head = [f"rave-orchestrator {status.get('Version', '')}: {summary}", ", ".join(counted)]
    if outdated := sum(mesh.outdated for mesh in facts.meshes):
        head.append(f"outdated processes: {outdated} (ravectl roll)")
        # It may be why they are outdated. When they no longer are, there is nothing to do.
        if reloaded := status.get("ReloadedOptions"):
            head.append(f"applied by the last reload: {', '.join(reloaded)}")
    head += [f"plugins: {error}" for error in status.get("CommandErrors", [])]
    if note := status.get("ConfigNote"):
        head.append(note)
    return [printable(line, _MAX_HEAD_CHARS) for line in head]


def _foot(facts: StatusFacts) -> list[str]:
    more = facts.status.get("States", {}).get("blocked", 0) - sum(mesh.state == "blocked" for mesh in facts.meshes)
    return [f"and {more} more on the blocklist: ravectl blocklist list"] if more > 0 else []


def _shortest(ids: Sequence[str]) -> int:
    """The number of characters after which all ids differ, at least `SHORT_ID_CHARS`."""
    return next(
        (length for length in range(SHORT_ID_CHARS, 36) if len({mesh[:length] for mesh in ids}) == len(ids)), 36
    )
