"""Migration from the Node.js bot: each of its files by itself, so that a bad one does not stop the others.

Nothing in its directory is changed. A migration can be repeated: entries that exist here stay.
"""

from __future__ import annotations

import grp
import json
import os
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ravesvc import names
from ravesvc.common import text_file
from ravesvc.common.atomic_files import write_atomically, write_new
from ravesvc.common.text import count, printable
from ravesvc.config import database, identity
from ravesvc.ctl import exit_status
from ravesvc.ctl.client import Service
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.operations import nodejs_files, nodejs_options, nodejs_source, yaml_text
from ravesvc.ctl.ui import output
from ravesvc.errors import Code, RaveError
from ravesvc.setup.check import check_database, check_text, has_value, missing_identity
from ravesvc.store.credentials_file import to_object

# Entries in one call: with the longest details they still fit into a message.
_BATCH_ENTRIES = 50
_MAX_DETAIL_CHARS = 200
_ORIGIN = "known from the Node.js bot"

_RESTART_COMMAND = "systemctl restart rave-orchestrator"
_RESTART = f"The service uses it from its next start on: {_RESTART_COMMAND}"
_HOLD = f"The options hold from the next start of the service on: {_RESTART_COMMAND}"
_ROLL = "Bots that run already keep the old ones across it, until: ravectl roll"
# Where the source of the old bot has these keys, which no file of it holds.
_WHERE = {
    "request_hash_key": "the key that it gives to createHmac",
    "mojo_api_key": "what it sends as X-Api-Key",
    "mojo_redirect_url": "what it sends as redirect_url",
    "parse_application_id": "what it sends as X-Parse-Application-Id",
}
# Lines of one kind; there may be thousands.
_MAX_PROBLEMS_SHOWN = 20


def migrate(service: Service, given: Path) -> Exit:
    """Import the files of a bot's directory, and print what was imported and what was not.

    Raises `RaveError`: NotRunning and AccessDenied, which would stop all the rest too; InvalidArgument if it is not
    the directory of a bot, BadFile if it has nothing to import.
    """
    directory = _of_a_bot(given)
    sources, environment = nodejs_source.read(directory), nodejs_source.environment(directory)
    options = nodejs_options.read(sources, environment)
    if not sources and not any(_is_there(directory / "config" / name) for name in nodejs_files.NAMES):
        hint = "name the directory of the Node.js bot, the one with config in it"
        raise RaveError(Code.BAD_FILE, f"there is nothing to take over in {directory / 'config'}", hint=hint)
    # The blocklist first: as soon as there is an account, meshes are joined.
    known, failed = _import_file(service, _place(directory, nodejs_files.BLOCKLIST, options), _import_blocklist)
    # Then the options. A service without an identity starts no bot before its restart, which finds them here.
    problems, set_now = _import_options(sources, environment, options)
    account = _Place(directory / "config" / nodejs_files.CREDENTIALS)
    failed |= _import_file(service, account, _import_account if known else _skip_account)[1]
    database_place = _place(directory, nodejs_files.DATABASE, options)
    failed |= _import_file(service, database_place, _import_database)[1]
    if database_place.path and not _is_there(database_place.path) and _names_database(environment):
        text = "the admins and permissions are in a database that .env names, which is not taken over"
        hint = f"put its address into {names.DATABASE_FILE}, as config/database.json would have it"
        problems.append(RaveError(Code.BAD_FILE, text, hint=hint))
    _print_problems(problems)
    _print_missing_identity()
    if set_now:
        output.print_line(_HOLD)
        output.print_line(_ROLL)
    return Exit.FAILED if failed or problems else Exit.OK


def _is_there(path: Path) -> bool:
    """Whether a file exists, or may exist: if it can't be accessed, reading it gives the error."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _of_a_bot(given: Path) -> Path:
    """The directory of a bot, also if its config directory was given. Raises `RaveError` (InvalidArgument)."""
    try:
        inside = {entry.name for entry in os.scandir(given) if entry.is_dir()}
    except OSError as e:
        reason = f"can't be read: {e.strerror}"
    else:
        if "config" in inside:
            return given
        if given.resolve().name == "config":
            return given.resolve().parent
        reason = "has no directory config in it"
    hint = "name the directory of the Node.js bot, the one with config in it"
    raise RaveError(Code.INVALID_ARGUMENT, f"{given} {reason}; nothing was changed", hint=hint)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the old bot has a file; `path` is None if that is unclear. `named` is the option that sets it."""

    path: Path | None
    named: str = ""


def _place(directory: Path, name: str, options: nodejs_options.NodeOptions) -> _Place:
    """Where a file is: in the config directory, or where the source says."""
    key = {
        nodejs_files.BLOCKLIST: nodejs_options.BLOCKLIST_PATH,
        nodejs_files.DATABASE: nodejs_options.DATABASE_PATH,
    }[name]
    default = directory / "config" / name
    if key in options.unclear:
        return _Place(None, key)
    if key not in options.paths:
        return _Place(default)
    path = Path(os.path.normpath(directory / options.paths[key].text))
    return _Place(default) if path == Path(os.path.normpath(default)) else _Place(path, key)


def _import_file(
    service: Service, place: _Place, take: Callable[[Service, Path, bytes], list[RaveError]]
) -> tuple[bool, bool]:
    """Import one file: whether its content is known (also that there is none), and whether part of it failed."""
    if place.path is None:
        # The options tell why.
        return False, True
    try:
        content = nodejs_files.read(place.path)
        if content is None and not place.named:
            output.print_line(f"{place.path.name}: there is none.")
            return True, False
        if content is None:
            problems = [_not_there(place)]
            known = False
        else:
            problems = take(service, place.path, content)
            known = True
    except RaveError as e:
        if exit_status.of(e) is not Exit.FAILED:
            raise
        _print_problems([_with_file(e, place.path)])
        return False, True
    _print_problems([_with_file(problem, place.path) for problem in problems])
    return known, bool(problems)


def _not_there(place: _Place) -> RaveError:
    text = f"{place.path} is not there, and {place.named} in the source of the old bot names it"
    return RaveError(Code.BAD_FILE, text, hint="put it there, and run this again", file=str(place.path))


def _with_file(problem: RaveError, path: Path) -> RaveError:
    """The problem with the name of the file, which the service does not know."""
    if "file" in problem.attributes:
        return problem
    return RaveError(problem.code, f"{path.name}: {problem.message}", hint=problem.hint, file=str(path))


def _print_problems(problems: list[RaveError]) -> None:
    for problem in problems[:_MAX_PROBLEMS_SHOWN]:
        output.print_failure(problem)
    if len(problems) > _MAX_PROBLEMS_SHOWN:
        output.print_error(f"and {len(problems) - _MAX_PROBLEMS_SHOWN} more")


def _names_database(environment: Mapping[str, str]) -> bool:
    return any(
        value.startswith(("mongodb://", "mongodb+srv://")) or re.fullmatch(r"MONGO\w*_(URI|URL)", name)
        for name, value in environment.items()
    )


def _import_options(
    sources: list[nodejs_source.NodeSource], environment: Mapping[str, str], options: nodejs_options.NodeOptions
) -> tuple[list[RaveError], bool]:
    """Set in rave.yaml what the bot's source says plainly; returns problems, and whether anything was set."""
    keys, more = nodejs_source.identity(sources, environment)
    wanted = options.values | {f"client_identity.{key}": found for key, found in keys.items()}
    problems = options.problems + more
    if not wanted:
        return problems, False
    try:
        refused, changed = _set_options(wanted)
    except RaveError as e:
        return [*problems, e], False
    return problems + refused, changed


def _print_missing_identity() -> None:
    """Print the keys that are still missing, with what they look like and where to find them."""
    running, login = missing_identity(names.CONFIG_FILE)
    if not running and not login:
        return
    output.print_line(f"Still to be supplied in {names.CONFIG_FILE}; the old bot has it in its source or its .env:")
    for key in (*running, *login):
        when = "; only the next login needs it" if key in login else ""
        output.print_line(f"  client_identity.{key} ({identity.usual_shape(key)}): {_WHERE[key]}{when}")


def _set_options(wanted: Mapping[str, nodejs_source.FoundOption]) -> tuple[list[RaveError], bool]:
    """Set options that rave.yaml lacks; returns a problem for each invalid value, and whether the file was changed.

    Raises `RaveError` (BadFile).
    """
    path = Path(names.CONFIG_FILE).resolve()
    try:
        text = before = text_file.decode(text_file.read(path, 1024 * 1024))
    except (OSError, RaveError) as e:
        reason = e.message if isinstance(e, RaveError) else f"can't be read: {e.strerror}"
        raise RaveError(Code.BAD_FILE, f"{path} {reason}", hint="then run this again", file=str(path)) from None
    known = len(check_text(text, str(path)))
    taken: list[str] = []
    same: list[str] = []
    other: list[str] = []
    problems = []
    for key, found in wanted.items():
        new = yaml_text.put(text, key, found.text)
        if new is None:
            (same if has_value(before, key, found.text) else other).append(key)
        elif len(refused := check_text(new, str(path))) > known:
            words = f"{key} is not taken over: {_reason(refused, key)} ({found.where})"
            problems.append(RaveError(Code.BAD_FILE, words, hint=f"set {key} in rave.yaml"))
        else:
            text = new
            taken.append(key)
    if text != before:
        _write_options(path, text)
        output.print_line(f"{path.name}: {', '.join(taken)} taken over.")
    if same:
        output.print_line(f"{path.name}: {', '.join(same)} left as set there, to the same.")
    for key in other:
        output.print_line(f"{path.name}: {key} is set there to another value; left.")
    return problems, text != before


def _reason(refused: list[RaveError], key: str) -> str:
    """What rave.yaml would accept in place of a value, without the line number, which is of no file yet."""
    words = next((each.message for each in refused if each.attributes.get("key") == key), "it makes no sense there")
    return words.partition(f"{key} ")[2] or words


def _write_options(path: Path, text: str) -> None:
    try:
        write_atomically(path, text, 0o640)
        os.chown(path, -1, _group())
    except OSError as e:
        hint = "try as root, or with sudo" if isinstance(e, PermissionError) else f"see to {path.parent}"
        raise RaveError(Code.BAD_FILE, f"{path} can't be written: {e.strerror}", hint=hint, file=str(path)) from e


def _import_blocklist(service: Service, path: Path, content: bytes) -> list[RaveError]:
    blocks, problems = nodejs_files.blocks(content, path, int(time.time() * 1000))
    entries = [
        (
            block.mesh,
            block.reason.value,
            max(0, block.since) * 1000,
            0 if block.until is None else max(1, block.until * 1000),
            printable(block.detail, _MAX_DETAIL_CHARS) or _ORIGIN,
        )
        for block in blocks
    ]
    taken = over = 0
    for start in range(0, len(entries), _BATCH_ENTRIES):
        answer = service.call(
            "ImportEntries", "a(sstts)", entries[start : start + _BATCH_ENTRIES], interface=names.BLOCKLIST_INTERFACE
        )
        taken, over = taken + answer[0], over + answer[1]
    there = len(entries) - taken - over
    counted = count(taken, "entry")
    left = f"{there} blocked already, {over} left out because their time is over"
    output.print_line(f"{path.name}: {counted} taken over, {left}.")
    return problems


def _import_account(service: Service, path: Path, content: bytes) -> list[RaveError]:
    account = nodejs_files.account(content, path)
    # In a file of our own, which the service reads: tokens stay off the bus.
    with os.fdopen(os.memfd_create("credentials"), "wb") as file:
        file.write(json.dumps(to_object(account)).encode())
        file.flush()
        (answer,) = service.call("ImportCredentials", "h", file.fileno(), interface=names.ACCOUNT_INTERFACE)
    match answer:
        case "taken" if account.session:
            output.print_line(f"{path.name}: the account is taken over.")
        case "taken":
            output.print_line(f"{path.name}: the account is taken over, but a login is needed: run ravectl login.")
        case "same":
            output.print_line(f"{path.name}: the account is known already, and stays as it is.")
        case _:
            text = "not taken over, because there is another account"
            output.print_line(f"{path.name}: {text}: to change it, run ravectl logout, and then this again.")
    return []


def _skip_account(service: Service, path: Path, content: bytes) -> list[RaveError]:
    """Import no account: with one the bots would join at once, even meshes that have kicked them."""
    text = "not taken over as long as it can't be known which meshes to keep out of"
    hint = "fix the blocklist of the old bot, or move it away, and run this again"
    return [RaveError(Code.BAD_FILE, text, hint=hint)]


def _import_database(service: Service, path: Path, content: bytes) -> list[RaveError]:
    found, problems = check_database(content, str(path))
    if found is None:
        return problems
    target = Path(names.DATABASE_FILE)
    try:
        write_new(target, content, 0o640, _group())
    except FileExistsError:
        known, _ = database.read(target)
        if known is None or (known.uri, known.options) != (found.uri, found.options):
            output.print_line(f"{path.name}: not taken over, because {target} says something else.")
            output.print_line(f"To use the former: cp {shlex.quote(str(path))} {target}")
            return []
        output.print_line(f"{path.name}: {target} says the same already.")
    except PermissionError as e:
        text = f"{target} can't be written: {e.strerror}"
        raise RaveError(Code.ACCESS_DENIED, text, hint="try as root, or with sudo") from e
    except OSError as e:
        text = f"{target} can't be written: {e.strerror}"
        raise RaveError(
            Code.BAD_FILE, text, hint=f"see to {target.parent}, and run this again", file=str(target)
        ) from e
    else:
        output.print_line(f"{path.name}: copied to {target}.")
    (running,) = service.call("GetStatus")
    if running["Store"] == "embedded":
        output.print_line(_RESTART)
    return []


def _group() -> int:
    try:
        return grp.getgrnam("rave").gr_gid
    except KeyError as e:
        raise RaveError(Code.CONFIG, "there is no group rave", hint="systemd-sysusers makes it") from e
