"""What scripts, operators, authors of commands and files of an earlier version rely on, compared as text.

`golden/` has the texts that were agreed on. A change of one breaks what others have built. It is made on purpose, and
shows in a diff: `GOLDEN=write pytest tests/unit/test_golden.py` writes the files anew.

What another test compares already is not here: the right that each D-Bus method takes (test_dbus_xml.py), the D-Bus
interfaces (test_promises.py of the integration tests), polkit's actions (test_packaging.py), the defaults of options
(config/rave.yaml, test_packaging.py), credentials.json (store/test_credentials_file.py), exports and permissions.json
(store/test_export.py), the settings of a room (bot/test_settings_commands.py).
"""

from __future__ import annotations

import argparse
import asyncio
import enum
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ravesvc import BotManager, commands
from ravesvc.blocklist.file import to_json as blocklist_text
from ravesvc.blocklist.model import BlocklistModel, Reason
from ravesvc.bot.built_in_commands import built_in_commands
from ravesvc.bot.hits import Hit, Hits
from ravesvc.bot.queue import Queue, QueueEntry, QueuePlaying, QueueRequest, Removed, Showing
from ravesvc.common.log_fields import CAUSE_MESSAGE_IDS, MESSAGE_IDS
from ravesvc.common.steady_clock import Clock
from ravesvc.common.video import Video
from ravesvc.config import options, rave_yaml
from ravesvc.config.worker_settings import Session
from ravesvc.core.scope_file import ScopeFile
from ravesvc.ctl.command_line import parser as ravectl_parser
from ravesvc.ctl.exit_status import Exit as RavectlExit
from ravesvc.ctl.exit_status import of as ravectl_status_of
from ravesvc.errors import Code, RaveError
from ravesvc.names import FINAL_STATUSES, ExitStatus
from ravesvc.store.chat_change import ChatChange
from ravesvc.store.chat_change_log import to_text as chat_changes_text
from ravesvc.store.engines.sqlite_schema import STEPS as SCHEMA_STEPS
from ravesvc.store.model import Admin, CommandPermission, IgnoredUser
from ravesvc.testing import FakeRoom
from tests.unit.config.option_values import document

GOLDEN = Path(__file__).with_name("golden")

FIRST, SECOND, THIRD, FOURTH = (f"{digit * 8}-2222-4333-8444-555555555555" for digit in "1234")
NOW_MS = 1_700_000_000_000
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
OWNER, ANN, BOB = 100, 101, 102


# Numbers and words by which programs tell things apart.


def bot_exit_statuses() -> Iterator[str]:
    for status in ExitStatus:
        yield f"{status.value} {status.name}{' final' if status in FINAL_STATUSES else ''}"


def ravectl_exit_statuses() -> Iterator[str]:
    """The statuses, and which of them each error of the service leads to."""
    for status in RavectlExit:
        yield f"{status.value} {status.name}"
    for code in Code:
        yield f"{code.value} {int(ravectl_status_of(RaveError(code, 'x')))}"


def log_events() -> Iterator[str]:
    """RAVE_EVENT= and MESSAGE_ID= of each event, and of each cause that is explained apart."""
    for event, message_id in MESSAGE_IDS.items():
        yield f"{event.value} {message_id}"
        for (of, cause), id_of_cause in CAUSE_MESSAGE_IDS.items():
            if of is event:
                yield f"{event.value} {cause} {id_of_cause}"


# What people type.


def ravectl_commands() -> Iterator[str]:
    yield from command_lines(ravectl_parser(), "ravectl")


def command_lines(parser: argparse.ArgumentParser, words: str) -> Iterator[str]:
    """A command with its arguments, and all below it."""
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from command_lines(command, f"{words} {name}")
        elif action.dest != "help":
            yield f"    {argument(action)}"
    for group in parser._mutually_exclusive_groups:
        yield f"    at most one of {', '.join(action.option_strings[0] for action in group._group_actions)}"


def argument(action: argparse.Action) -> str:
    """An argument: its names, what it takes, and what it is when it is left out."""
    parts = [" ".join(action.option_strings)] if action.option_strings else []
    if action.nargs != 0:
        parts.append(str(action.metavar or action.dest))
    if action.nargs:
        parts.append(f"nargs {action.nargs}")
    if action.choices is not None:
        parts.append(f"one of {', '.join(map(str, action.choices))}")
    if action.option_strings and action.required:
        parts.append("required")
    if action.default not in (None, False, argparse.SUPPRESS):
        parts.append(f"default {action.default!r}")
    return " ".join(parts)


def chat_commands() -> Iterator[str]:
    """The commands of a bot: whom each is for, its group, and its cooldown in seconds."""
    for command in built_in_commands().commands():
        fixed = " fixed" if command.fixed else ""
        yield f"{command.name} {command.permission}{fixed} {command.group} {command.cooldown.seconds:g}"


def option_bounds() -> Iterator[str]:
    """What each option of rave.yaml may be, as the error about a wrong value says it."""
    for entry in options.TABLE:
        # The second is a list, and says more of what may be in one.
        found = [rave_yaml.read(document(entry, wrong), "rave.yaml")[1] for wrong in ("{}", "[-1]")]
        yield re.sub(r"^rave\.yaml:\d+: ", "", [problem.message for problems in found for problem in problems][-1])


# What authors of commands and of programs import.


def author_interface() -> Iterator[str]:
    for name in sorted(commands.__all__):
        yield from described(f"ravesvc.commands.{name}", getattr(commands, name))
    yield from described("ravesvc.testing.FakeRoom", FakeRoom)
    yield from described("ravesvc.BotManager", BotManager)


def described(name: str, thing: Any) -> Iterator[str]:
    """A function with its parameters; a class with all that is public in it."""
    if inspect.isclass(thing) and issubclass(thing, enum.Enum):
        for member in thing:
            yield f"{name}.{member.name} = {member.value!r}"
        return
    if inspect.isclass(thing) and issubclass(thing, int | float):
        yield f"{name} is {thing.__base__.__name__}"
        return
    yield f"{name}{parameters(thing)}"
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        for member in (each for each in dir(thing) if not each.startswith("_")):
            value = getattr(thing, member)
            kind = "async " if inspect.iscoroutinefunction(value) else ""
            yield f"    {kind}{member}{parameters(value) if callable(value) else ''}"


def parameters(call: Callable[..., Any]) -> str:
    """Their names and defaults. An annotation names a type by the place where it happens to be, and is left out."""
    signature = inspect.signature(call)
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    text = str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    return re.sub(r"<function .* at 0x\w+>", "<function>", text)


# The files that the service writes, and the next version reads.


def blocklist_file() -> str:
    """Of each kind of mesh one: held, blocked anew after trouble, waiting for company, and kicked."""
    clock = Clock(wall=lambda: NOW_MS / 1000, boottime=lambda: 5000.0, boot="the-boot")
    hour_ms = 3_600_000
    blocklist = BlocklistModel()
    blocklist.title_of = lambda mesh: "Filmabend für alle" if mesh == FOURTH else ""
    blocklist.add(FIRST, Reason.HELD, NOW_MS, None, detail="für später", actor="root")
    blocklist.add(SECOND, Reason.CRASHES, NOW_MS, hour_ms)
    blocklist.remove(SECOND, NOW_MS, "root")
    blocklist.record_failure(SECOND, 2, "no answer", NOW_MS)
    blocklist.add(SECOND, Reason.CONNECTION_FAILURES, NOW_MS, hour_ms)
    blocklist.add(FOURTH, Reason.KICKED, NOW_MS, None)
    blocklist.record_failure(THIRD, 1, "no answer", NOW_MS)
    blocklist.set_alone(THIRD, NOW_MS, alone=True)
    return blocklist_text(blocklist.snapshot(), clock)


def chat_changes_file() -> str:
    """A change of each kind of entry."""
    admin = Admin(user_id=ANN, added_by=OWNER, added_at=NOON)
    ignored = IgnoredUser(user_id=BOB, added_by=0, added_at=NOON)
    permission = CommandPermission(
        command="ping", requires_admin=True, description="für Admins", updated_at=NOON, updated_by=ANN
    )
    changes = (
        ChatChange(number=1, at=NOON, mesh=FIRST, user=OWNER, before=None, after=admin),
        ChatChange(number=2, at=NOON, mesh=FIRST, user=ANN, before=ignored, after=None, undone=True),
        ChatChange(number=3, at=NOON, mesh=SECOND, user=ANN, before=None, after=permission),
    )
    return chat_changes_text(7, changes)


def discovery_file() -> str:
    with TemporaryDirectory() as directory:
        path = Path(directory, "discovery.json")
        asyncio.run(ScopeFile(path).keep("the invited meshes"))
        return path.read_text()


def state_database() -> Iterator[str]:
    """The steps that make the tables of the embedded store."""
    for number, step in enumerate(SCHEMA_STEPS, 1):
        yield f"-- {number}"
        yield from (f"{textwrap.dedent(statement).strip()};" for statement in step)


def configured() -> options.Config:
    """The defaults, but for a proxy."""
    found, _ = rave_yaml.read("proxy: http://user:word@proxy.example:3128\nno_proxy: [localhost]", "rave.yaml")
    assert found
    return found


def bot_settings_file() -> str:
    return configured().mesh_settings().to_json()


def video_helper_settings_file() -> str:
    return configured().media_settings().to_json()


def bot_session_file() -> str:
    return Session(device_id="device", ssaid="ssaid", user_id=OWNER, auth_token="token").to_json()


# What rooms remember.


def video(identifier: str) -> Video:
    page = f"https://www.youtube.com/watch?v={identifier}"
    return Video(provider="youtube", id=identifier, url=page, title="Ein Stück", author="Zoë", seconds=12.5, views=3)


def room_queue() -> str:
    first, second = (
        QueueEntry(video=video(name), user=ANN, asked_at=NOW_MS // 1000, round=number)
        for number, name in enumerate(("first", "second"))
    )
    url = "https://api.red.wemesh.ca/videos/youtube/first"
    return Queue(
        entries=(second,),
        requested=QueueRequest(first, url, "before"),
        chosen=(QueueRequest(second, url),),
        removed=Removed(video("third"), url, "before"),
        playing=QueuePlaying(first, Showing(url, "https://youtu.be/first", "instance")),
        round=1,
        served=frozenset({BOB, ANN}),
    ).to_json()


def room_search_hits() -> str:
    return Hits((Hit(video("first"), 1, frozenset({"b", "a"})), Hit(video("second"), 2))).to_json()


COMPARED: dict[str, Callable[[], str | Iterator[str]]] = {
    "author_interface.txt": author_interface,
    "blocklist.json": blocklist_file,
    "bot_exit_statuses.txt": bot_exit_statuses,
    "bot_session.json": bot_session_file,
    "bot_settings.json": bot_settings_file,
    "chat_changes.json": chat_changes_file,
    "chat_commands.txt": chat_commands,
    "discovery.json": discovery_file,
    "log_events.txt": log_events,
    "option_bounds.txt": option_bounds,
    "ravectl_commands.txt": ravectl_commands,
    "ravectl_exit_statuses.txt": ravectl_exit_statuses,
    "room_queue.json": room_queue,
    "room_search_hits.json": room_search_hits,
    "state_database.sql": state_database,
    "video_helper_settings.json": video_helper_settings_file,
}


@pytest.mark.parametrize("name", COMPARED)
def test_it_is_as_agreed(name: str) -> None:
    made = COMPARED[name]()
    text = made if isinstance(made, str) else "".join(f"{line}\n" for line in made)
    if os.environ.get("GOLDEN") == "write":
        (GOLDEN / name).write_text(text)
    mean_it = (
        "if you mean it: GOLDEN=write .venv/bin/python -m pytest tests/unit/test_golden.py, and look at the diff"
    )
    assert text == (GOLDEN / name).read_text(), mean_it


def test_every_file_is_compared() -> None:
    assert {file.name for file in GOLDEN.iterdir()} == set(COMPARED)
