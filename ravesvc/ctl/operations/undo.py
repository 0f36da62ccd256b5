"""ravectl admin undo: undoes changes that were made from rooms."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

from ravesvc import names
from ravesvc.common.text import count
from ravesvc.ctl.client import Service
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.operations import mesh_lookup
from ravesvc.ctl.ui import output
from ravesvc.errors import Code, RaveError


class ChatChangeRow(NamedTuple):
    """A change as ListChatChanges tells of it; `at` in microseconds since the epoch."""

    number: int
    at: int
    mesh: str
    user: int
    words: str
    undone: bool


def undo(service: Service, options: argparse.Namespace) -> Exit:
    """List the changes, or undo those with `options.numbers`, or those of `options.mesh` and `options.since`."""
    (found,) = service.call("ListChatChanges", interface=names.PERMISSIONS_INTERFACE)
    changes = [ChatChangeRow(*each) for each in found]
    if options.mesh or options.since:
        if options.numbers:
            hint = "ravectl admin undo NUMBER..., or [--mesh MESH] [--since TIME]"
            raise RaveError(Code.INVALID_ARGUMENT, "give either numbers or --mesh and --since", hint=hint)
        numbers = [each.number for each in _chosen(service, changes, options.mesh, options.since) if not each.undone]
        if not numbers:
            output.print_line("No change matches that is not undone already.")
        return _undo(service, numbers)
    if options.numbers:
        return _undo(service, options.numbers)
    _list(changes)
    return Exit.OK


def _list(changes: Sequence[ChatChangeRow]) -> None:
    if not changes:
        output.print_line("Nothing was changed from rooms.")
        return
    dates = output.date_column([each.at for each in changes])
    rows = [
        [
            *(str(each.number), date, each.mesh, str(each.user) if each.user else "-"),
            f"{each.words} (undone)" if each.undone else each.words,
        ]
        for each, date in zip(changes, dates, strict=True)
    ]
    output.print_table(["NUMBER", "WHEN", "MESH", "USER", "CHANGE"], rows)


def _chosen(
    service: Service, changes: Sequence[ChatChangeRow], mesh: str | None, span: int | None
) -> list[ChatChangeRow]:
    """The changes from one mesh in the last `span` microseconds; None for any mesh or time."""
    # First of all those from which changes were made: the service may know one of them no more.
    meshes = {each.mesh for each in changes if mesh and each.mesh.startswith(mesh)}
    if len(meshes) > 1:
        text = f"changes were made from {count(len(meshes), 'mesh')} with an id that begins with {mesh}"
        raise RaveError(Code.INVALID_ARGUMENT, text, hint=", ".join(sorted(meshes)[:5]))
    if mesh and not meshes:
        meshes = {mesh_lookup.find(service, mesh).id}
    earliest = time.time() * 1_000_000 - span if span else 0
    return [each for each in changes if (not mesh or each.mesh in meshes) and each.at >= earliest]


def _undo(service: Service, numbers: Sequence[int]) -> Exit:
    """Undo from the last to the first, so that an entry with several changes gets its first value again."""
    status = Exit.OK
    for number in sorted(set(numbers), reverse=True):
        try:
            (undone,) = service.call("UndoChatChange", "t", number, interface=names.PERMISSIONS_INTERFACE)
        except RaveError as e:
            if e.code not in (Code.CONFLICT, Code.LAST_ADMIN, Code.INVALID_ARGUMENT):
                raise
            # Go on with the others.
            output.print_failure(e)
            status = Exit.FAILED
        else:
            output.print_line(f"Change {number} is undone{'' if undone else ' already'}.")
    return status
