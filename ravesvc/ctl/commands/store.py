"""ravectl refresh, forget and store: what the service remembers, read again, removed, saved, replaced, looked at."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ravesvc import names
from ravesvc.common.text import count
from ravesvc.ctl.arguments import USER, YES, span, word
from ravesvc.ctl.client import Service
from ravesvc.ctl.command import Argument, CommandGroup, Commands
from ravesvc.ctl.commands import plugin
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.operations import mesh_lookup
from ravesvc.ctl.ui import output
from ravesvc.errors import Code, RaveError

_STREAM = "-"
# The service accepts no more.
_MAX_IMPORT_BYTES = 48 * 1024 * 1024


COMMANDS = Commands()
GROUP = CommandGroup("store", "Save, replace and see what the service remembers.")

_CANARY = Argument(
    "--canary",
    action="append",
    type=word,
    metavar="MESH",
    help="try new versions of plugins in this mesh first; may be given several times",
)
_HOLD = "10min"
_FOR = Argument("--for", dest="hold", type=span, metavar="TIME", help=f"how long to try them (default: {_HOLD})")
_NO_BLOCK = Argument("--no-block", action="store_true", help="do not wait for the end of the trial")
_EXPORT_FILE = Argument("file", nargs="?", default=_STREAM, metavar="FILE", help="standard output if missing or -")
_IMPORT_FILE = Argument("file", metavar="FILE", help="standard input if -")


@COMMANDS.service_command("refresh", _CANARY, _FOR, _NO_BLOCK)
def _refresh(service: Service, options: argparse.Namespace) -> Exit:
    """Read the store and plugins again, in the service and in all bots.

    All bots load the files in /etc/rave/commands.d again, see rave-mesh(8), and ravectl lists the files and packages
    that are loaded then. The service reads its store again, for when another program has changed it, and renews the
    credentials file. Mistakes in plugins are shown on standard error, and the exit status is then 1; all else is done
    nevertheless.

    With --canary only the bots in the meshes that you name load plugins, and they alone use the files in
    /etc/rave/commands.d/canary in place of those of the same name in /etc/rave/commands.d. If none of their commands,
    handlers and processes fails for ten minutes, or for the TIME of --for, all bots get them, and ravectl, if root
    runs it, moves the files to /etc/rave/commands.d. At the first failure the bots go back to the former versions,
    and the exit status is 1. No bot leaves its room for any of that. Ctrl-C, as --no-block, leaves it to the service.

    Example:
        ravectl refresh
        ravectl refresh --canary "Film night" --for 30min
    """
    if options.canary:
        return _try_first(service, options)
    if options.hold or options.no_block:
        raise RaveError(Code.INVALID_ARGUMENT, "--for and --no-block are for --canary alone")
    return _read_again(service)


def _read_again(service: Service) -> Exit:
    moved = _move_canary_files(service)
    output.print_line(f"Read again: {output.counts(*service.call('Refresh', interface=names.STORE_INTERFACE))}.")
    (status,) = service.call("GetStatus")
    for source in sorted({source for source, *_ in status["Plugins"]}):
        output.print_line(f"Plugin loaded: {source}")
    if not status["Plugins"]:
        output.print_line("No bot has loaded a plugin.")
    return plugin.print_errors(status) if moved else Exit.FAILED


def _try_first(service: Service, options: argparse.Namespace) -> Exit:
    # Imported here because no other command needs it.
    from ravesvc.ctl.operations.canary_run import CanaryRun

    meshes = [mesh_lookup.find(service, mesh) for mesh in options.canary]
    run = CanaryRun(service, meshes, options.hold or span(_HOLD))
    ended = service.run(run.begin() if options.no_block else run.complete())
    return _read_again(service) if ended is None else ended


def _move_canary_files(service: Service) -> bool:
    """If a canary has gone well, put its files in the place of the former versions; False if one can't be."""
    from ravesvc.ctl.operations import canary_files

    canary = service.properties(names.MANAGER_PATH, names.CANARY_INTERFACE)
    return canary["State"] != "in-force" or canary_files.move(Path(names.COMMANDS_DIRECTORY), canary["Files"])


@COMMANDS.service_command("forget", USER)
def _forget(service: Service, options: argparse.Namespace) -> None:
    """Remove what the service and its bots keep of a user.

    That is, in all rooms: the user's videos in queues, notes about the user, and that the user was an admin once. It
    can't be undone. A user can do the same in a room with `?forgetme`. Admins and ignored users can't be forgotten.

    Some traces stay: an id that an admin has written into a text, such as the reason of a kick; the log, as long as
    journald.conf(5) keeps it; and backups of the store.

    Example:
        ravectl forget 100000002
    """
    (removed,) = service.call("ForgetUser", "t", options.user, interface=names.STORE_INTERFACE)
    output.print_line(f"Removed what was kept of user {options.user}: {count(removed, 'entry')}.")


@GROUP.service_command("export", _EXPORT_FILE)
def _export(service: Service, options: argparse.Namespace) -> None:
    """Save everything as JSON, the account's tokens included.

    It saves account, admins, permissions, ignored users, what rooms remember, and the blocklist. Only you can read
    FILE, and FILE is never half written. Without FILE, or with -, ravectl writes to standard output, unless that is a
    terminal. Where rooms remember more than 4 MiB, only root can save it.

    Example:
        ravectl store export store.json
    """
    if options.file == _STREAM:
        _export_to_stdout(service)
        return
    path = Path(options.file)
    # A device, for example, would be replaced by a file.
    if path.is_symlink() or (path.exists() and not path.is_file()):
        hint = "name another, or use standard output"
        raise RaveError(Code.BAD_FILE, f"{path} is there already, and is no regular file", hint=hint)
    _write(path, _exported(service))
    output.print_line(f"Saved in {path}. It holds the account's tokens: keep it as you would a password.")


def _export_to_stdout(service: Service) -> None:
    if sys.stdout.isatty():
        hint = "name a file, or redirect the output"
        raise RaveError(Code.INVALID_ARGUMENT, "the account's tokens are not for a terminal", hint=hint)
    sys.stdout.buffer.write(_exported(service))
    sys.stdout.buffer.flush()


def _exported(service: Service) -> bytes:
    """All that the store holds, as JSON in UTF-8, independent of the locale."""
    with os.fdopen(os.memfd_create("store"), "rb") as file:
        try:
            service.call("Save", "h", file.fileno(), interface=names.STORE_INTERFACE)
        except RaveError as e:
            if e.code is not Code.ACCESS_DENIED:
                raise
            # Only root may pass a descriptor on the bus. So the text comes in a message, and may be too large for it.
            (text,) = service.call("Export", interface=names.STORE_INTERFACE)
            return str(text).encode()
        file.seek(0)
        return file.read()


@GROUP.service_command("import", _IMPORT_FILE, YES)
def _import(service: Service, options: argparse.Namespace) -> Exit:
    """Replace everything with what was saved.

    FILE may come from another kind of store, and is at most 48 MiB long. Only root may import; no password lets
    another user do it. If the store is not empty, ravectl asks first. Without a terminal it then needs --yes.

    The blocks in FILE are added to the blocklist, which loses none. What rooms remember stays if FILE does not have
    it, as a FILE that version 0.1.0 has saved. If FILE has no account, the service has none afterwards, as after
    `ravectl logout`. Running bots still know what they have read before, and write it back with their next change:
    restart each with `ravectl restart` after an import.

    Example:
        ravectl store import store.json
    """
    text = _read(options.file)
    (status,) = service.call("GetStatus")
    held = _held(status)
    if held and not options.yes:
        if options.file == _STREAM or not sys.stdin.isatty():
            raise RaveError(
                Code.INVALID_ARGUMENT,
                f"the store is not empty ({held}), and all of it would be replaced",
                hint="with --yes that is done; ravectl store export saves it before",
            )
        if not output.confirm(f"Replace all that the store holds ({held})?"):
            output.print_line("Nothing is changed.")
            return Exit.FAILED
    output.print_line(f"The store is replaced: {output.counts(*_replace(service, text))}.")
    blocked, *_ = service.call("GetStats", interface=names.BLOCKLIST_INTERFACE)
    output.print_line(f"The blocklist has {count(blocked, 'entry')}.")
    return Exit.OK


def _replace(service: Service, text: str) -> list[Any]:
    # In a file of our own, because the service takes neither a long message nor a pipe.
    with os.fdopen(os.memfd_create("store"), "wb") as file:
        file.write(text.encode())
        file.flush()
        return service.call("Import", "h", file.fileno(), interface=names.STORE_INTERFACE)


@GROUP.service_command("info")
def _info(service: Service, _: argparse.Namespace) -> None:
    """Show which store there is, whether it works, what is in it, and whether a login is needed.

    Example:
        ravectl store info
    """
    (status,) = service.call("GetStatus")
    login = "needed: run ravectl login" if status["LoginNeeded"] else "not needed"
    if status["LoginStep"]:
        login = f"under way ({status['LoginStep']})"
    output.print_line(f"Store:                {status['Store']}")
    output.print_line(f"Trouble:              {status['StoreError'] or 'none'}")
    output.print_line(f"Account:              {'known' if status['HasAccount'] else 'none'}")
    output.print_line(f"Admins:               {status['Admins']}")
    output.print_line(f"Command permissions:  {status['Permissions']}")
    output.print_line(f"Login:                {login}")


def _held(status: dict[str, Any]) -> str:
    """What is in the store, as far as the status tells; empty if nothing is."""
    account = status["HasAccount"]
    if not (account or status["Admins"] or status["Permissions"]):
        return ""
    return output.counts(status["Admins"], status["Permissions"]) + (", the account" if account else "")


def _read(name: str) -> str:
    try:
        if name == _STREAM:
            content = sys.stdin.buffer.read(_MAX_IMPORT_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(_MAX_IMPORT_BYTES + 1)
    except OSError as e:
        raise RaveError(Code.BAD_FILE, f"{name} can't be read: {e.strerror}") from e
    if len(content) > _MAX_IMPORT_BYTES:
        raise RaveError(
            Code.BAD_FILE, f"{name} is too long: the service takes at most {_MAX_IMPORT_BYTES // 1024**2} MiB"
        )
    try:
        return content.decode()
    except UnicodeError as e:
        raise RaveError(Code.BAD_FILE, f"{name} is not what ravectl store export writes: no UTF-8") from e


def _write(path: Path, text: bytes) -> None:
    # Imported here because no other command needs it.
    from ravesvc.common.atomic_files import write_atomically

    try:
        write_atomically(path, text, mode=0o600)
    except OSError as e:
        raise RaveError(Code.BAD_FILE, f"{path} can't be written: {e.strerror}") from e
