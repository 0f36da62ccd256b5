"""ravectl refresh, forget and store: what the service remembers, read again, removed, saved, replaced, looked at."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ravesvc import names
from ravesvc.common.text import count
from ravesvc.ctl import arguments
from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.client import Service
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.ui import output
from ravesvc.errors import Code, RaveError

_STREAM = "-"
# The service accepts no more.
_MAX_IMPORT_BYTES = 48 * 1024 * 1024


def add(commands: Commands) -> None:
    """Add the commands to a command line."""
    commands.add_parser("refresh", help="have own commands and the store read again").set_defaults(run=_refresh)
    arguments.user_command(commands, "forget", _forget, "remove what the service and its bots keep of a user")

    group = arguments.group(commands, "store", "save, replace and see what the service remembers")
    export = group.add_parser("export", help="save everything as JSON, the account's tokens included")
    export.add_argument("file", nargs="?", default=_STREAM, metavar="FILE", help="if missing or -: standard output")
    export.set_defaults(run=_export)

    importing = group.add_parser("import", help="put what was saved in the place of everything")
    importing.add_argument("file", metavar="FILE", help="-: standard input")
    importing.add_argument("--yes", action="store_true", help="don't ask")
    importing.set_defaults(run=_import)

    group.add_parser("info", help="tell which store there is, and what is in it").set_defaults(run=_info)


def _refresh(service: Service, _: argparse.Namespace) -> Exit:
    output.print_line(f"Read again: {output.counts(*service.call('Refresh', interface=names.STORE_INTERFACE))}.")
    (status,) = service.call("GetStatus")
    for error in status["CommandErrors"]:
        output.print_error(f"own commands fail: {error}")
    return Exit.FAILED if status["CommandErrors"] else Exit.OK


def _forget(service: Service, options: argparse.Namespace) -> None:
    (removed,) = service.call("ForgetUser", "t", options.user, interface=names.STORE_INTERFACE)
    output.print_line(f"Removed what was kept of user {options.user}: {count(removed, 'entry')}.")


def _export(service: Service, options: argparse.Namespace) -> None:
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


def _import(service: Service, options: argparse.Namespace) -> Exit:
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
    return Exit.OK


def _replace(service: Service, text: str) -> list[Any]:
    # In a file of our own, because the service takes neither a long message nor a pipe.
    with os.fdopen(os.memfd_create("store"), "wb") as file:
        file.write(text.encode())
        file.flush()
        return service.call("Import", "h", file.fileno(), interface=names.STORE_INTERFACE)


def _info(service: Service, _: argparse.Namespace) -> None:
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
