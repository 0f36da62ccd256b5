"""What the bot logs about the author's files, in the author's words: what was loaded, and what has failed where."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from ravesvc.bot import plugins, step_timeout
from ravesvc.common.log_fields import LogEvent
from ravesvc.dev import transcript

# What each plugin that is a file has before its name, as a module and so as a logger.
_MODULE_OF_FILE = "rave_commands_"
_MAX_TRACEBACK_LINES = 12
# That a bot has left, or that it was kicked, is seen in the room.
_FOR_OPERATORS = (LogEvent.BLOCKED, LogEvent.UNBLOCKED)


class LogReports(logging.Handler):
    """Shows the records that concern an author.

    Attributes:
        has_failed: whether a file has failed to load at any time.
    """

    def __init__(self, files: Mapping[Path, str], show: Callable[[str], None]) -> None:
        """Prepare it, in the event loop in which `show` is called.

        Args:
            files: the paths that the author has given, by those of the copies.
            show: shows a text.
        """
        super().__init__()
        self.has_failed = False
        self._files = {str(copy): given for copy, given in files.items()}
        # By the copy of a file that is imported.
        self._importers: dict[str, str] = {}
        self._show = show
        self._loop = asyncio.get_running_loop()
        self._in_force: set[str] = set()
        # The last failure of each file. A bot that starts reads all files twice.
        self._failures: dict[str, str] = {}

    def add_helper(self, copy: Path, given: str, importer: Path) -> None:
        """A file of the author that another one imports: the copies of both, and the path that the author knows."""
        self._files[str(copy)] = given
        self._importers[str(copy)] = str(importer)

    def saved(self, copy: Path) -> None:
        """There is a new version of a file, or of one that it imports: tell what becomes of it, whatever was told."""
        self._failures.pop(str(copy), None)

    def restarted(self) -> None:
        """The bot starts anew, with nothing loaded."""
        self._in_force.clear()
        self._failures.clear()

    def unreadable(self, copy: Path, why: str) -> None:
        """A file can't be read."""
        self._fail(str(copy), f"{copy} can't be read: {why}")

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record of any thread."""
        self._loop.call_soon_threadsafe(self._take, record)

    def _take(self, record: logging.LogRecord) -> None:
        if record.name != plugins.__name__:
            least = logging.INFO if record.name.startswith(_MODULE_OF_FILE) else logging.WARNING
            if record.levelno >= least and getattr(record, "rave_event", None) not in _FOR_OPERATORS:
                self._show(self._in_words(record))
        elif record.levelno >= logging.ERROR:
            text = record.getMessage().removeprefix("Plugins: ")
            self._fail(next((copy for copy in self._files if text.startswith(copy)), ""), text)
        elif isinstance(record.args, tuple) and len(record.args) == 2:
            source, commands = map(str, record.args)
            self._in_force.add(source)
            self._show(transcript.notice(self._as_given(f"{source} is loaded. Commands: {commands}")))

    def _fail(self, copy: str, text: str) -> None:
        self.has_failed = True
        copy = self._importers.get(copy, copy)
        follows = "the former version goes on" if copy in self._in_force else "nothing of it is loaded"
        if self._failures.get(copy) != text:
            self._failures[copy] = text
            self._show(transcript.trouble(self._as_given(f"{text}; {follows}")))

    def _in_words(self, record: logging.LogRecord) -> str:
        lines = [record.getMessage()]
        if record.exc_info and record.exc_info[1]:
            lines += self._explained(record.exc_info[1])
        text = self._as_given("\n".join(lines))
        return transcript.trouble(text) if record.levelno >= logging.WARNING else transcript.notice(text)

    def _explained(self, error: BaseException) -> list[str]:
        """A traceback from the first line on that is in a file of the author, and the error."""
        # What took too long was interrupted: its place is in the traceback of the cause.
        for each in error, error.__cause__:
            frames = traceback.extract_tb(each.__traceback__) if each else []
            own = [number for number, frame in enumerate(frames) if frame.filename in self._files]
            if own:
                lines = [
                    f"{frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}"
                    for frame in frames[own[0] :]
                    # That is where it was interrupted, and nothing of the author's.
                    if frame.filename != step_timeout.__file__
                ]
                return [*_shortened(lines), _last_line(error)]
        return [_last_line(error)]

    def _as_given(self, text: str) -> str:
        for copy, given in self._files.items():
            text = text.replace(copy, given)
        return text


def _shortened(lines: list[str]) -> list[str]:
    """Of too many lines, as of a recursion without an end, the first and the last ones."""
    half = _MAX_TRACEBACK_LINES // 2
    return lines if len(lines) <= _MAX_TRACEBACK_LINES else [*lines[:half], "...", *lines[-half:]]


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()
