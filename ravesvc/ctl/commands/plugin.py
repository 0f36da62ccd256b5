"""ravectl plugin: what bots have loaded, and what a file has before they do."""

from __future__ import annotations

import argparse
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any

from ravesvc import names
from ravesvc.common.text import count
from ravesvc.ctl.client import Service
from ravesvc.ctl.command import Argument, CommandGroup
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.ui import output

GROUP = CommandGroup("plugin", "Look at plugins: commands and handlers of your own.")

_FILES = Argument("files", nargs="+", metavar="FILE", help="a file with plugins")
# Longer than a bot gives a file to load.
_CHECK_TIMEOUT_S = 30
_MAX_SAID_BYTES = 256 * 1024
# Nothing of what the user's has: it may hold secrets.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def print_errors(status: Mapping[str, Any]) -> Exit:
    """Show on standard error what GetStatus says is wrong with plugins; returns the exit status."""
    for error in status["CommandErrors"]:
        output.print_error(f"plugins fail: {error}")
    return Exit.FAILED if status["CommandErrors"] else Exit.OK


@GROUP.service_command("list")
def _list(service: Service, _: argparse.Namespace) -> Exit:
    """Show the plugins that are in force, and what is wrong with plugins.

    Each line has a file or package, its version, in how many meshes it is in force, and its commands. The version of
    a file is a digest of its content: two lines for one file say that some bots have not loaded the new one. Mistakes
    are shown on standard error, and the exit status is then 1. What is tried in some meshes first is shown, too.

    Example:
        ravectl plugin list
    """
    (status,) = service.call("GetStatus")
    if plugins := status["Plugins"]:
        rows = [[source, version, str(meshes), commands or "-"] for source, version, commands, meshes in plugins]
        output.print_table(["PLUGIN", "VERSION", "MESHES", "COMMANDS"], rows)
    else:
        output.print_line("No bot has loaded a plugin.")
    if canary := _canary(service.properties(names.MANAGER_PATH, names.CANARY_INTERFACE)):
        output.print_line(canary)
    return print_errors(status)


def _canary(canary: Mapping[str, Any]) -> str:
    """What is tried, or has failed, in one sentence; empty for nothing."""
    files = ", ".join(name for name, *_ in canary["Files"])
    match canary["State"]:
        case "trying":
            (until,) = output.date_column([canary["Ends"]])
            return f"{files}: tried in {count(len(canary['Meshes']), 'mesh')} until {until}."
        case "in-force":
            return f"{files}: in force in all meshes. As root, run ravectl refresh to move the new files there."
        case "failed":
            (when,) = output.date_column([canary["Began"]])
            return f"{files}: tried on {when}, and withdrawn: {canary['Reason']}"
    return ""


@GROUP.service_command("withdraw")
def _withdraw(service: Service, _: argparse.Namespace) -> None:
    """End the trial of new versions of plugins: all bots use the former ones again.

    `ravectl refresh --canary` begins one. The new files stay in /etc/rave/commands.d/canary.

    Example:
        ravectl plugin withdraw
    """
    service.call("Withdraw", interface=names.CANARY_INTERFACE)
    output.print_line("All bots have the former versions.")


@GROUP.local_command("check", _FILES)
def _check(options: argparse.Namespace) -> Exit:
    """Load files of plugins as a bot does, and show what they have, or what is wrong.

    A mistake is named with file and line on standard error, and the exit status is then 1. The files are executed, by
    root as the user nobody. Neither the service nor a bot is asked, so a file may be checked before it is put into
    /etc/rave/commands.d. The name of a command that another plugin has is no mistake here.

    Example:
        ravectl plugin check greet.py
    """
    fine = [_is_fine(file) for file in options.files]
    return Exit.OK if all(fine) else Exit.FAILED


def _is_fine(file: str) -> bool:
    # Imported here because no other command needs them.
    import subprocess
    import tempfile

    command = [sys.executable, "-I", "-m", "ravesvc.bot.plugin_check", file]
    # Files, which bound what it can say; and no terminal, from which it could read what root types next.
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as problems:
        try:
            status = subprocess.run(  # noqa: S603 - words of ours, and a file that this user may execute anyway
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=problems,
                start_new_session=True,
                preexec_fn=_bound_files,
                env=_ENVIRONMENT,
                timeout=_CHECK_TIMEOUT_S,
            ).returncode
        except subprocess.TimeoutExpired:
            output.print_problem(f"{file}: it is not loaded after {_CHECK_TIMEOUT_S} s")
            return False
        for text, show in (said, output.print_line), (problems, output.print_problem):
            text.seek(0)
            for line in text.read().decode(errors="replace").splitlines():
                show(line)
    if status < 0:
        output.print_problem(f"{file}: the process that loads it is killed by {signal.Signals(-status).name}")
    return status == 0


def _bound_files() -> None:
    """In the process that loads a file: let it write so much into files, and no more."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_SAID_BYTES, _MAX_SAID_BYTES))
