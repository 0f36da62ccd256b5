"""ravectl takeover: have the bots run on this host, when two hosts share a database."""

from __future__ import annotations

import argparse

from ravesvc.ctl.client import Service
from ravesvc.ctl.command import Commands
from ravesvc.ctl.ui import output

COMMANDS = Commands()


@COMMANDS.service_command("takeover")
def _take_over(service: Service, _: argparse.Namespace) -> None:
    """Run the bots on this host, and no longer on another host.

    Use it when two hosts share a database, see "Two hosts" in rave-orchestrator(8). The bots of the other host leave
    within half a minute, then those of this host start.

    Example:
        ravectl takeover
    """
    (host,) = service.call("TakeOver")
    if host:
        output.print_line(f"The account moves here from host {host}: its bots leave, then those of this host start.")
    else:
        output.print_line("No other host has this account.")
