"""ravectl takeover: have the bots run on this host, when two hosts share a database."""

from __future__ import annotations

import argparse

from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.client import Service
from ravesvc.ctl.ui import output


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = commands.add_parser("takeover", help="have the bots run here, and no longer on another host")
    parser.set_defaults(run=_take_over)


def _take_over(service: Service, _: argparse.Namespace) -> None:
    (host,) = service.call("TakeOver")
    if host:
        output.print_line(f"The account moves here from host {host}: its bots leave, then those of this host start.")
    else:
        output.print_line("No other host has this account.")
