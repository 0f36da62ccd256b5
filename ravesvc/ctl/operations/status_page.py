"""The part of `ravectl status` that a screen has room for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ravesvc.ctl.operations.status_view import Line, StatusView

# A lower screen has no empty line between head and table.
_GAP_ROWS = 12


@dataclass(frozen=True, slots=True)
class StatusPage:
    """What is on the screen.

    Attributes:
        lines: as many as the screen has rows, but for the last row.
        footer: the last row: what is shown, and what keys do.
        top: the number of the first mesh that is shown, from 0.
        shown: how many meshes are shown.
    """

    lines: Sequence[Line]
    footer: str
    top: int
    shown: int


def page(view: StatusView, rows: int, top: int, leave: str) -> StatusPage:
    """The page from the mesh with number `top` on, or from the one that is nearest to it with a full page.

    Args:
        rows: of the screen.
        leave: how to end, in words.
    """
    above = _shortened(view.head, max(1, rows // 3))
    if view.titles:
        above += [*([[""]] if rows >= _GAP_ROWS else []), *view.titles]
    room = max(0, rows - 1 - len(above) - len(view.foot))
    top = max(0, min(top, _last_top(view.blocks, room)))
    below: list[Line] = []
    shown = 0
    for block in view.blocks[top:]:
        if len(below) + len(block) > room:
            break
        below += block
        shown += 1
    lines = [*above, *below, *view.foot, *([[""]] * rows)][: max(0, rows - 1)]
    return StatusPage(lines, _footer(top, shown, len(view.blocks), leave), top, shown)


def _footer(top: int, shown: int, total: int, leave: str) -> str:
    if shown == total:
        return leave
    if not shown:
        return f"{leave}, no room for {total} rows"
    return f"rows {top + 1}-{top + shown} of {total}, {leave}, arrows and PgUp/PgDn scroll"


def _shortened(head: Sequence[Line], rows: int) -> list[Line]:
    """As much of a head as leaves room for the table, with a mark if that is not all."""
    if len(head) <= rows:
        return [*head]
    (last,) = head[rows - 1]
    return [*head[: rows - 1], [f"{last} …"]]


def _last_top(blocks: Sequence[Sequence[Line]], room: int) -> int:
    """The lowest number from which on all meshes have room."""
    top = len(blocks)
    while top and len(blocks[top - 1]) <= room:
        top -= 1
        room -= len(blocks[top])
    return min(top, max(0, len(blocks) - 1))
