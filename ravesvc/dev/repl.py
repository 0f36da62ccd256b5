"""The loop of the program: what is typed goes into the room, what happens is shown, what is saved is loaded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from ravesvc.common.settled import Settled
from ravesvc.dev import lines, transcript
from ravesvc.dev.console import Console, ScriptConsole, TerminalConsole
from ravesvc.dev.dev_room import DevRoom, commands_directory
from ravesvc.dev.lines import Entered
from ravesvc.dev.log_reports import LogReports
from ravesvc.dev.plugin_files import PluginFile, plugin_files
from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator.file_watch import FileWatch

# The user who has made the room, and leads it.
_FIRST_USER = "ann"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(given: Sequence[str], admins: Sequence[str]) -> bool:
    """Run with these files; returns whether a script went well: all was loaded, and all lines were understood.

    What a person types always goes well. Raises `RaveError`: InvalidArgument for the command line, or what keeps the
    room from being made.
    """
    handles = [lines.handle(name) for name in (_FIRST_USER, *admins)]
    with tempfile.TemporaryDirectory(prefix="ravesvc-dev-") as name:
        directory = Path(name)
        files = plugin_files(given, commands_directory(directory))
        return asyncio.run(_run(files, handles, directory))


async def _run(files: Sequence[PluginFile], admins: Sequence[str], directory: Path) -> bool:
    with contextlib.ExitStack() as stack:
        console: Console
        if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            console = stack.enter_context(TerminalConsole())
        else:
            console = ScriptConsole()
        loop = asyncio.get_running_loop()
        running = asyncio.create_task(Repl(files, console, directory).run(admins))
        for number in _SIGNALS:
            # The first one counts: others must not interrupt the end.
            loop.add_signal_handler(number, lambda: running.cancelling() or running.cancel())
        try:
            return await running
        except asyncio.CancelledError:
            return console.interactive


class Repl:
    """Reads lines and obeys them. Lives once: `run`."""

    def __init__(self, files: Sequence[PluginFile], console: Console, directory: Path) -> None:
        """`directory` is an empty one, but for the bot's directory of commands, where the copies of the files are."""
        self._files = files
        self._console = console
        self._room = DevRoom(directory, self._happened)
        self._reports = LogReports({file.copy: file.given for file in files}, console.show)
        self._admins: set[str] = set()
        self._speaker = _FIRST_USER
        self._running = False
        self._understood = True
        # The bot is restarted, or reads a file, one after the other.
        self._busy = asyncio.Lock()
        self._orders: dict[str, Callable[[str], Awaitable[None]]] = {
            "": self._say,
            "as": self._as,
            "join": self._join,
            "leave": self._leave,
            "react": self._react,
            "users": self._users,
            "admin": self._admin,
            "restart": self._restart,
            "help": self._help,
        }

    async def run(self, admins: Sequence[str]) -> bool:
        """Run until the end of the lines; returns as the function `run`."""
        self._copy()
        async with self._logging(), self._opened(), self._watching():
            for handle in admins:
                await self._make_admin(handle)
            try:
                await self._start()
                await self._follow_lines()
            finally:
                self._room.tell()
                self._running = False
                await self._room.stop()
        return self._console.interactive or (self._understood and not self._reports.has_failed)

    async def _follow_lines(self) -> None:
        if self._console.interactive:
            names = ", ".join(file.given for file in self._files)
            text = f"Write to the bot, such as ?help; /help lists more. It loads {names} anew when you save."
            self._console.show(transcript.notice(text))
        self._prompt()
        while (line := await self._console.line()) is not None:
            try:
                entered = lines.parse(line)
                if entered and entered.order == "quit":
                    return
                if entered:
                    await self._obey(entered)
            except RaveError as e:
                self._understood = self._understood and e.code is not Code.INVALID_ARGUMENT
                self._console.show(transcript.trouble(str(e)))

    async def _obey(self, entered: Entered) -> None:
        # What was saved before the line was typed is in force when it is said.
        await self._load_saved()
        await self._orders[entered.order](entered.argument)
        self._prompt()
        if not self._console.interactive:
            await self._room.settle()

    # The orders.

    async def _say(self, text: str) -> None:
        self._room.say(self._speaker, text)

    async def _as(self, handle: str) -> None:
        self._room.join(handle)
        self._speaker = handle

    async def _join(self, handle: str) -> None:
        self._room.join(handle)

    async def _leave(self, handle: str) -> None:
        if not self._room.leave(handle):
            raise RaveError(Code.INVALID_ARGUMENT, f"{self._room.name(handle)} is not here", hint="see /users")

    async def _react(self, emoji: str) -> None:
        self._room.react(self._speaker, emoji)

    async def _users(self, _: str) -> None:
        remarks = dict.fromkeys(self._admins, " (admin)") | {lines.BOT: " (the bot)"}
        present = [user.display_name + remarks.get(user.handle, "") for user in self._room.users]
        self._console.show(transcript.notice(", ".join(present) or "The room is empty"))

    async def _admin(self, handle: str) -> None:
        is_new = await self._make_admin(handle)
        text = "is an admin now" if is_new else "is an admin already"
        self._console.show(transcript.notice(f"{self._room.name(handle)} {text}"))

    async def _restart(self, _: str) -> None:
        async with self._busy:
            self._running = False
            self._reports.restarted()
            await self._room.restart()
            self._running = True
        self._console.show(transcript.notice("The bot has started again"))

    async def _help(self, _: str) -> None:
        self._console.show(transcript.notice(lines.help_text()))

    # The rest.

    async def _make_admin(self, handle: str) -> bool:
        self._admins.add(handle)
        return await self._room.add_admin(handle)

    async def _start(self) -> None:
        async with self._busy:
            await self._room.start()
            self._running = True

    async def _load_saved(self) -> None:
        """Have the bot load what has changed."""
        async with self._busy:
            if self._copy() and self._running:
                await self._room.refresh()

    async def _load_edited(self) -> None:
        """The same after an edit, between two lines."""
        try:
            await self._load_saved()
        except RaveError as e:
            self._console.show(transcript.trouble(str(e)))

    def _copy(self) -> bool:
        """Copy what has changed; whether anything has."""
        changed = False
        for file in self._files:
            try:
                if file.bring_up_to_date():
                    self._reports.saved(file.copy)
                    changed = True
                for copy, path in file.helpers.items():
                    self._reports.add_helper(copy, str(Path(file.given).with_name(path.name)), file.copy)
            except (OSError, RaveError) as e:
                self._reports.unreadable(file.copy, (isinstance(e, OSError) and e.strerror) or str(e))
        return changed

    def _happened(self, event: dict[str, Any], mesh: str) -> None:
        # That the bot leaves at the end goes without saying.
        text = transcript.told(event, mesh, self._room.name)
        if text and (self._running or event["type"] == "chat"):
            self._console.show(text)

    def _prompt(self) -> None:
        self._console.set_prompt(transcript.prompt(self._room.name(self._speaker)))

    @contextlib.asynccontextmanager
    async def _logging(self) -> AsyncIterator[None]:
        log = logging.getLogger()
        before = log.level
        log.setLevel(logging.INFO)
        log.addHandler(self._reports)
        try:
            yield
        finally:
            # What was logged last is shown in the next turn of the event loop.
            await asyncio.sleep(0)
            log.removeHandler(self._reports)
            log.setLevel(before)

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        try:
            await self._room.open()
            yield
        finally:
            await self._room.close()

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        edits = Settled(self._load_edited)
        # Elsewhere than on Linux, what was saved is loaded with the next line.
        files = self._files if sys.platform == "linux" else []
        # Likewise a helper that a file has begun to import only now.
        paths = {path for file in files for path in (file.path, *file.helpers.values())}
        watches = [FileWatch(path, edits.edited) for path in sorted(paths)]
        try:
            for watch in watches:
                await watch.start()
            yield
        finally:
            for watch in watches:
                await watch.close()
            await edits.close()
