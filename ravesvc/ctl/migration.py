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

from ravesvc import database, names
from ravesvc.check import check_database
from ravesvc.ctl import oldbot, output, status
from ravesvc.ctl.service import Service
from ravesvc.ctl.status import Exit
from ravesvc.errors import Code, RaveError
from ravesvc.store.credentials import to_object
from ravesvc.store.files import write_anew
from ravesvc.words import printable

# Entries in one call: with the longest details they still fit into a message.
_BATCH = 50
_LONGEST_DETAIL = 200
_ORIGIN = "known from the Node.js bot"

_RESTART = "The service uses it from its next start on: systemctl restart rave-orchestrator"


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
    if len(missing) == len(parts):
        hint = "name the directory of the Node.js bot, the one with config in it"
        raise RaveError(Code.BAD_FILE, f"there is nothing to take over in {config}", hint=hint)
    return Exit.FAILED if failed else Exit.OK


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
