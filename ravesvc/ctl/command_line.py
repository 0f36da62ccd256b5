"""The command line of ravectl: all that completion, manual page and help are made from."""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Sequence

from ravesvc.ctl.command import Commands, Parser
from ravesvc.ctl.commands import (
    admin,
    blocklist,
    config,
    doctor,
    fleet,
    ignore,
    login,
    logs,
    mesh,
    migrate,
    overview,
    perm,
    plugin,
    store,
    takeover,
)
from ravesvc.version import __version__

_VERSION = "--version"
# By the headings of the manual page.
SECTIONS: dict[str, tuple[Commands, ...]] = {
    "Meshes": (overview.COMMANDS, mesh.COMMANDS, logs.COMMANDS, fleet.COMMANDS),
    "The blocklist": (blocklist.COMMANDS,),
    "The account": (login.COMMANDS,),
    "Admins and permissions": (admin.COMMANDS, perm.COMMANDS, ignore.COMMANDS),
    "Plugins": (plugin.GROUP,),
    "The store": (store.COMMANDS, store.GROUP, takeover.COMMANDS),
    "The configuration": (config.COMMANDS, doctor.COMMANDS),
    "Moving in": (migrate.COMMANDS,),
}
_ALL = tuple(itertools.chain.from_iterable(SECTIONS.values()))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command line; a wrong one ends the process with 2.

    To make the parser of all commands takes longer than most commands take, so it is made of those alone that begin
    with the first word. Where none does, as with --help, it is made of all, but for --version, which needs none.
    """
    word = arguments[0] if arguments else ""
    if word == _VERSION:
        return parser(()).parse_args(arguments)
    return parser(tuple(each for each in _ALL if word in each.names()) or _ALL).parse_args(arguments)


@functools.cache
def parser(parts: tuple[Commands, ...] = _ALL) -> argparse.ArgumentParser:
    """The parser of all commands, or of `parts` of them; made once."""
    found: argparse.ArgumentParser = Parser(prog="ravectl", description="Control the Rave bots of this machine.")
    found.add_argument(_VERSION, action="version", version=f"ravectl {__version__}")
    commands = found.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for each in parts:
        each.add_to(commands)
    return found
