"""Moving in from the Node.js bot: each of its files by itself, so that a bad one does not keep the others out.

Nothing in its directory is changed. All of it may be done again: what is here already stays.
"""

from __future__ import annotations

import grp
import json
import os
import shlex
import time
from pathlib import Path

from ravesvc import database, names, textfile
from ravesvc.check import check_database, check_text, missing_identity
from ravesvc.ctl import oldbot, oldsource, output, status, yamltext
from ravesvc.ctl.service import Service
from ravesvc.ctl.status import Exit
from ravesvc.errors import Code, RaveError
from ravesvc.store.credentials import to_object
from ravesvc.store.files import write_anew, write_atomically
from ravesvc.words import printable

# Entries in one call: with the longest details they still fit into a message.
_BATCH = 50
_LONGEST_DETAIL = 200
_ORIGIN = "known from the Node.js bot"

_RESTART_COMMAND = "systemctl restart rave-orchestrator"
_RESTART = f"The service uses it from its next start on: {_RESTART_COMMAND}"
_WHERE_IT_IS = (
    "The old bot has them in its source or its .env: the key that it gives to createHmac, and what it sends as "
    "X-Api-Key, X-Parse-Application-Id and redirect_url."
)


def migrate(service: Service, directory: Path) -> Exit:
    """Take over what the config directory in `directory` has, and tell what was taken and what was not.

    Raises `RaveError`: NotRunning and AccessDenied when there is no point in going on; BadFile if nothing is there.
    """
    config = directory / "config"
    # The blocklist first: as soon as there is an account, meshes are joined.
    parts = {oldbot.BLOCKLIST: _take_blocklist, oldbot.CREDENTIALS: _take_account, oldbot.DATABASE: _take_database}
    missing: list[str] = []
    failed = blind = False
    for name, take in parts.items():
        problems: list[RaveError] = []
        try:
            content = oldbot.read(config / name)
            if content is None:
                missing.append(name)
                output.say(f"{name}: there is none.")
            elif blind and name == oldbot.CREDENTIALS:
                # With an account the bots would join at once, also those meshes that have kicked them.
                text = "not taken over as long as it can't be known which meshes to leave alone"
                hint = f"mend {oldbot.BLOCKLIST}, or move it away, and run this again"
                problems = [RaveError(Code.BAD_FILE, text, hint=hint)]
            else:
                problems = take(service, config / name, content)
        except RaveError as e:
            if status.of(e) is not Exit.FAILED:
                raise
            problems = [e]
            blind |= name == oldbot.BLOCKLIST
        for problem in problems:
            failed = True
            # What the service says does not name the file.
            where = "" if "file" in problem.attributes else f"{name}: "
            output.complain(f"{where}{problem.message}", problem.hint)
    sources = oldsource.read(directory)
    failed |= _take_options(directory, sources)
    if len(missing) == len(parts) and not sources:
        hint = "name the directory of the Node.js bot, the one with config in it"
        raise RaveError(Code.BAD_FILE, f"there is nothing to take over in {config}", hint=hint)
    return Exit.FAILED if failed else Exit.OK


def _take_options(directory: Path, sources: list[oldsource.Source]) -> bool:
    """Set in rave.yaml what the bot's source says plainly, and tell what is left to do; True if part of it failed."""
    options, problems = oldsource.options(sources)
    keys, more = oldsource.identity(sources, oldsource.environment(directory))
    wanted = {key: found.text for key, found in options.items()}
    wanted |= {f"client_identity.{key}": found.text for key, found in keys.items()}
    problems += more
    if wanted:
        try:
            problems += _set_options(wanted)
        except RaveError as e:
            problems.append(e)
    for problem in problems:
        output.complain(problem.message, problem.hint)
    if missing := missing_identity(names.CONFIG_FILE):
        output.say(f"Still to be supplied in {names.CONFIG_FILE}: {', '.join(missing)}.")
        output.say(_WHERE_IT_IS)
    return bool(problems)


def _set_options(wanted: dict[str, str]) -> list[RaveError]:
    """Set options that rave.yaml does not have; returns those that it can't take. Raises `RaveError` (BadFile)."""
    path = Path(names.CONFIG_FILE).resolve()
    try:
        text = before = textfile.decode(textfile.read(path, 1024 * 1024))
    except (OSError, RaveError) as e:
        reason = e.message if isinstance(e, RaveError) else f"can't be read: {e.strerror}"
        raise RaveError(Code.BAD_FILE, f"{path} {reason}", hint="then run this again", file=str(path)) from None
    known = len(check_text(text, str(path)))
    taken, there, problems = [], [], []
    for key, value in wanted.items():
        new = yamltext.put(text, key, value)
        if new is None:
            there.append(key)
        elif len(refused := check_text(new, str(path))) > known:
            problems.append(RaveError(Code.BAD_FILE, f"{key} is not taken over: {_reason(refused, key)}"))
        else:
            text = new
            taken.append(key)
    if text != before:
        _write_options(path, text)
        output.say(f"{path.name}: {', '.join(taken)} taken over.")
        output.say(f"They hold from the next start of the service on: {_RESTART_COMMAND}")
    if there:
        output.say(f"{path.name}: {', '.join(there)} left as set there.")
    return problems


def _reason(refused: list[RaveError], key: str) -> str:
    """What rave.yaml would take in the place of a value, without the line, which is of no file yet."""
    words = next((each.message for each in refused if each.attributes.get("key") == key), "it makes no sense there")
    return words.partition(f"{key} ")[2] or words


def _write_options(path: Path, text: str) -> None:
    try:
        write_atomically(path, text, 0o640)
        os.chown(path, -1, _group())
    except OSError as e:
        hint = "try as root, or with sudo" if isinstance(e, PermissionError) else f"see to {path.parent}"
        raise RaveError(Code.BAD_FILE, f"{path} can't be written: {e.strerror}", hint=hint, file=str(path)) from e


def _take_blocklist(service: Service, path: Path, content: bytes) -> list[RaveError]:
    blocks, problems = oldbot.blocks(content, path, int(time.time() * 1000))
    entries = [
        (
            block.mesh,
            block.reason.value,
            max(0, block.since) * 1000,
            0 if block.until is None else max(1, block.until * 1000),
            printable(block.detail, _LONGEST_DETAIL) or _ORIGIN,
        )
        for block in blocks
    ]
    taken = over = 0
    for start in range(0, len(entries), _BATCH):
        answer = service.call(
            "ImportEntries", "a(sstts)", entries[start : start + _BATCH], interface=names.BLOCKLIST_INTERFACE
        )
        taken, over = taken + answer[0], over + answer[1]
    there = len(entries) - taken - over
    counted = f"{taken} entries taken over, {there} blocked already, {over} left out because their time is over"
    output.say(f"{path.name}: {counted}.")
    return problems


def _take_account(service: Service, path: Path, content: bytes) -> list[RaveError]:
    account = oldbot.account(content, path)
    # In a file of our own, which the service reads: tokens stay off the bus.
    with os.fdopen(os.memfd_create("credentials"), "wb") as file:
        file.write(json.dumps(to_object(account)).encode())
        file.flush()
        (answer,) = service.call("ImportCredentials", "h", file.fileno())
    match answer:
        case "taken" if account.session:
            output.say(f"{path.name}: the account is taken over.")
        case "taken":
            output.say(f"{path.name}: the account is taken over, but a login is needed: run ravectl login.")
        case "same":
            output.say(f"{path.name}: the account is known already, and stays as it is.")
        case _:
            output.say(
                f"{path.name}: not taken over, because there is another account: run ravectl login to change it."
            )
    return []


def _take_database(service: Service, path: Path, content: bytes) -> list[RaveError]:
    found, problems = check_database(content, str(path))
    if found is None:
        return problems
    target = Path(names.DATABASE_FILE)
    try:
        write_anew(target, content, 0o640, _group())
    except FileExistsError:
        known, _ = database.read(target)
        if known is None or (known.uri, known.options) != (found.uri, found.options):
            output.say(f"{path.name}: not taken over, because {target} says something else.")
            output.say(f"To use the former: cp {shlex.quote(str(path))} {target}")
            return []
        output.say(f"{path.name}: {target} says the same already.")
    except PermissionError as e:
        text = f"{target} can't be written: {e.strerror}"
        raise RaveError(Code.ACCESS_DENIED, text, hint="try as root, or with sudo") from e
    except OSError as e:
        text = f"{target} can't be written: {e.strerror}"
        raise RaveError(
            Code.BAD_FILE, text, hint=f"see to {target.parent}, and run this again", file=str(target)
        ) from e
    else:
        output.say(f"{path.name}: copied to {target}.")
    (running,) = service.call("GetStatus")
    if running["Store"] == "embedded":
        output.say(_RESTART)
    return []


def _group() -> int:
    try:
        return grp.getgrnam("rave").gr_gid
    except KeyError as e:
        raise RaveError(Code.CONFIG, "there is no group rave", hint="systemd-sysusers makes it") from e
