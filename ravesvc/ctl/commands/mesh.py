"""ravectl start, stop, restart, reconnect, debug, users, settings and explain: one mesh."""

from __future__ import annotations

import argparse

from ravesvc.ctl.arguments import MESH, word
from ravesvc.ctl.client import Service
from ravesvc.ctl.command import Argument, Commands
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.operations import mesh_lookup, mesh_order
from ravesvc.ctl.operations.mesh_order import MeshOrder
from ravesvc.ctl.ui import output

COMMANDS = Commands()

_ON_OR_OFF = Argument("debug", choices=("on", "off"), help="log everything, or no more than usual")
_SETTING = Argument("setting", nargs="?", type=word, metavar="SETTING", help="its name, such as lang; else all")
_VALUE = Argument("value", nargs="*", type=word, metavar="VALUE", help="what it is to be, or default")
_NO_BLOCK = Argument("--no-block", action="store_true", help="return at once, and do not wait for the end")


@COMMANDS.service_command("start", MESH, _NO_BLOCK)
def _start(service: Service, options: argparse.Namespace) -> Exit:
    """Start a mesh that is held, or blocked for a time.

    The command waits until the bot is connected, for 90 seconds at most. If the bot does not connect, it says
    why and fails; the service goes on trying. Ctrl-C ends the waiting alone.

    After a kick, or when an operator has blocked the mesh, run `ravectl blocklist remove` instead.

    Example:
        ravectl start 1c2d3e4f
    """
    return _carry_out(service, options, mesh_order.START)


@COMMANDS.service_command("stop", MESH, _NO_BLOCK)
def _stop(service: Service, options: argparse.Namespace) -> Exit:
    """Stop a mesh, and hold it.

    The mesh stays stopped until an operator starts it. After a kick, or when an operator has blocked the mesh, it
    does not run, and stays blocked as it was.

    The command waits until the process is gone, as `ravectl start` waits.

    Example:
        ravectl stop 1c2d3e4f
    """
    return _carry_out(service, options, mesh_order.STOP)


@COMMANDS.service_command("restart", MESH, _NO_BLOCK)
def _restart(service: Service, options: argparse.Namespace) -> Exit:
    """Replace the process of a running mesh.

    The command waits until the new bot is connected, as `ravectl start` waits. A mesh that does not run
    is not started.

    Example:
        ravectl restart 1c2d3e4f
    """
    return _carry_out(service, options, mesh_order.RESTART)


def _carry_out(service: Service, options: argparse.Namespace, order: MeshOrder) -> Exit:
    # Imported here because no other command needs them.
    from ravesvc.ctl.operations.mesh_run import MeshRun
    from ravesvc.ctl.ui.progress import display

    mesh = mesh_lookup.find(service, options.mesh)
    run = MeshRun(service, display(), mesh, order)
    return service.run(run.begin() if options.no_block else run.complete())


@COMMANDS.service_command("reconnect", MESH)
def _reconnect(service: Service, options: argparse.Namespace) -> None:
    """Have the bot of a mesh close its connection and open another.

    Example:
        ravectl reconnect 1c2d3e4f
    """
    mesh = mesh_lookup.find(service, options.mesh)
    service.call("ReconnectMesh", "s", mesh.id)
    output.print_line(f"Mesh {mesh} is reconnecting.")


@COMMANDS.service_command("debug", MESH, _ON_OR_OFF)
def _debug(service: Service, options: argparse.Namespace) -> None:
    """Turn debug logging of a running bot on or off.

    The next process of the mesh starts as rave.yaml(5) says. `ravectl show` tells whether debug logging is on, and
    rave-mesh(8) how many lines the journal takes.

    Example:
        ravectl debug 1c2d3e4f on
    """
    mesh = mesh_lookup.find(service, options.mesh)
    debug = options.debug == "on"
    service.call("SetDebug", "sb", mesh.id, debug)
    output.print_line(f"Mesh {mesh} logs {'everything, until its next start' if debug else 'no more than usual'}.")


@COMMANDS.service_command("users", MESH)
def _users(service: Service, options: argparse.Namespace) -> None:
    """List who is in a mesh now: user id, display name, and who is an admin.

    It shows what the bot of the mesh sees, at most 200 users.

    Example:
        ravectl users 1c2d3e4f
    """
    users, total = service.call("ListUsers", "s", mesh_lookup.find(service, options.mesh).id)
    if not users:
        output.print_line("The bot sees no users there.")
        return
    output.print_table(
        ["USER", "NAME", "ADMIN"], [[str(user), name, "admin" if admin else "-"] for user, name, admin in users]
    )
    if total > len(users):
        output.print_line(f"and {total - len(users)} more")


@COMMANDS.service_command("settings", MESH, _SETTING, _VALUE)
def _settings(service: Service, options: argparse.Namespace) -> None:
    """Show the settings of a mesh, or change one.

    They are those of the bot, such as lang, and those of its plugins, such as welcome.greeting. Admins change them in
    the room with the command settings, and rave-mesh(8) says what they are. With a name alone it also shows what the
    setting can be. The value default resets it.

    The bot of the mesh has to run.

    Examples:
        ravectl settings 1c2d3e4f
        ravectl settings 1c2d3e4f lang de
        ravectl settings 1c2d3e4f lang default
    """
    mesh = mesh_lookup.find(service, options.mesh)
    if options.setting is None:
        settings, total = service.call("ListSettings", "s", mesh.id)
        output.print_table(["SETTING", "VALUE", "WHAT IT IS"], [setting[:3] for setting in settings])
        if total > len(settings):
            output.print_line(f"and {total - len(settings)} more")
    elif options.value:
        value = " ".join(options.value)
        (changed,) = service.call("ChangeSetting", "sss", mesh.id, options.setting, value)
        output.print_line(f"{changed[0]} of mesh {mesh} is now: {changed[1]}")
    else:
        ((name, value, sentence, values),) = service.call("GetSetting", "ss", mesh.id, options.setting)
        output.print_line(f"{name}: {value}")
        output.print_line(f"{sentence}. It can be: {values}, default")


@COMMANDS.service_command("explain", MESH)
def _explain(service: Service, options: argparse.Namespace) -> None:
    """Explain why a mesh runs or does not run.

    It says what discovery, blocklist and systemd know of the mesh, how its last process has ended, and what happens
    next.

    Examples:
        ravectl explain 1c2d3e4f
        ravectl explain "film night"
    """
    lines, _ = service.call("Explain", "s", mesh_lookup.find(service, options.mesh).id)
    for line in lines:
        output.print_line(line)
