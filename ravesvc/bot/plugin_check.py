"""Loads a file of plugins as a bot does, and shows what is in it.

The file is executed. So this is a process of its own, `python3 -m ravesvc.bot.plugin_check FILE`, which
gives up the rights of root before.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from ravesvc import names
from ravesvc.bot import plugins
from ravesvc.bot.built_in_commands import built_in_commands
from ravesvc.bot.command import Registry
from ravesvc.bot.command_names import Permission
from ravesvc.bot.event import EventKind
from ravesvc.common import plugin_files, timespan
from ravesvc.common.text import count, printable
from ravesvc.errors import Code, RaveError

_POWERLESS_USER = "nobody"
_MAX_LINE_CHARS = 2000
_FOR = {Permission.USER: "all users", Permission.ADMIN: "admins"}


def main() -> int:
    """Check the file that the command line names; returns the exit status."""
    path = Path(sys.argv[1])
    try:
        registry = asyncio.run(_load(path))
    except RaveError as error:
        sys.stderr.write(printable(str(error), _MAX_LINE_CHARS) + "\n")
        return 1
    found = [*_commands(registry), *_handlers(registry), *_settings(registry)]
    for line in (f"{path} is fine.", *(found or ["It has no command and no handler."])):
        sys.stdout.write(printable(line, _MAX_LINE_CHARS) + "\n")
    return 0


async def _load(path: Path) -> Registry:
    # In an event loop, as in a bot: a file may start tasks.
    if not plugins.is_plugin(path):
        what = f"{path}: bots load files whose names end with .py and do not begin with a dot or _"
        raise RaveError(Code.BAD_FILE, what, hint="check a file that imports it" if path.suffix == ".py" else "")
    file = plugins.FileWithHelpers.read(path)
    plugins.add_libraries(Path(names.LIBRARIES_DIRECTORY), {plugin_files.ROOT_UID})
    _give_up_rights()
    return file.execute(built_in_commands().owners())


def _give_up_rights() -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam(_POWERLESS_USER)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        # What it starts would outlive the check.
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def _commands(registry: Registry) -> Iterator[str]:
    for command in registry.commands():
        for each in (command, *registry.parts_of(command)):
            yield f"{each.name} {each.usage}".strip() + f", for {_FOR[each.permission]}: {each.description}"


def _handlers(registry: Registry) -> Iterator[str]:
    for kind in EventKind:
        if handlers := registry.handlers(kind):
            yield kind.value if len(handlers) == 1 else f"{kind.value}, {count(len(handlers), 'time')}"
    for timer in registry.timers:
        yield f"every {timespan.written(timer.seconds)}"
    if registry.on_error:
        yield "on_error"


def _settings(registry: Registry) -> Iterator[str]:
    for setting in registry.settings:
        yield f"setting {setting.name}: {setting.sentence}"


if __name__ == "__main__":
    sys.exit(main())
