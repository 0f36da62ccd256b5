from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from ravesvc.bot import plugins
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.dev.log_reports import LogReports

COPY = Path("/tmp/copies/roll.py")
LOADER = logging.getLogger(plugins.__name__)


class Scene:
    """A log that is shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.reports = LogReports({COPY: "mine/roll.py"}, self.shown.append)

    def log(self, logger: logging.Logger, level: int, text: str, *arguments: object, **named: object) -> None:
        error = named.pop("error", None)
        exc_info = (type(error), error, error.__traceback__) if isinstance(error, BaseException) else None
        record = logger.makeRecord(
            logger.name,
            level,
            "",
            0,
            text,
            arguments,
            exc_info,
            extra=named.pop("extra", None),  # type: ignore[arg-type]
        )
        self.reports.handle(record)

    def loads(self) -> None:
        self.log(LOADER, logging.INFO, "Plugins read: %s (%s)", str(COPY), "roll")

    def fails(self, why: str = "line 3: SyntaxError: invalid syntax") -> None:
        self.log(LOADER, logging.ERROR, "Plugins: %s", f"{COPY}, {why}")

    async def seen(self) -> list[str]:
        """What was shown since the last time."""
        await asyncio.sleep(0)
        shown, self.shown[:] = list(self.shown), []
        return shown


async def test_what_fails_in_a_file_that_another_imports_is_said_of_that_one() -> None:
    scene = Scene()
    scene.reports.add_helper(COPY.with_name("_dice.py"), "mine/_dice.py", COPY)
    failure = f"{COPY.with_name('_dice.py')}, line 1: SyntaxError"
    scene.loads()
    assert await scene.seen() == ["* mine/roll.py is loaded. Commands: roll"]
    for _ in range(2):
        scene.log(LOADER, logging.ERROR, "Plugins: %s", failure)
        scene.log(LOADER, logging.ERROR, "Plugins: %s", failure)
        assert await scene.seen() == ["! mine/_dice.py, line 1: SyntaxError; the former version goes on"]
        scene.reports.saved(COPY)


async def test_what_is_loaded_and_what_fails() -> None:
    scene = Scene()
    scene.fails()
    assert await scene.seen() == ["! mine/roll.py, line 3: SyntaxError: invalid syntax; nothing of it is loaded"]
    assert scene.reports.has_failed
    scene.fails()
    assert await scene.seen() == [], "a bot that starts reads all twice"
    scene.reports.saved(COPY)
    scene.fails()
    assert len(await scene.seen()) == 1
    scene.loads()
    assert await scene.seen() == ["* mine/roll.py is loaded. Commands: roll"]
    scene.fails("line 4: NameError")
    assert await scene.seen() == ["! mine/roll.py, line 4: NameError; the former version goes on"]
    scene.reports.restarted()
    scene.fails("line 4: NameError")
    assert await scene.seen() == ["! mine/roll.py, line 4: NameError; nothing of it is loaded"]


async def test_a_file_that_is_gone() -> None:
    scene = Scene()
    scene.loads()
    await scene.seen()
    for _ in range(2):
        scene.reports.unreadable(COPY, "No such file or directory")
    assert await scene.seen() == [
        "! mine/roll.py can't be read: No such file or directory; the former version goes on"
    ]
    assert scene.reports.has_failed


def failure(code: str, file: Path = COPY) -> Exception:
    """What the code of a file raises."""
    try:
        exec(compile(code, str(file), "exec"), {})
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError("it has not failed")


async def test_a_failure_is_shown_from_the_first_line_of_the_author_on() -> None:
    scene = Scene()
    error = failure("import json\n\ndef roll():\n    json.loads('{')\nroll()")
    scene.log(logging.getLogger("ravesvc.bot.bot"), logging.ERROR, "command roll failed", error=error)
    (shown,) = await scene.seen()
    first, *frames, last = shown.splitlines()
    assert first == "! command roll failed"
    assert frames[0].startswith("  mine/roll.py, line 5, in <module>")
    assert frames[1].startswith("  mine/roll.py, line 4, in roll")
    assert "json/__init__.py, line" in frames[2]
    assert last.startswith("  json.decoder.JSONDecodeError: ")
    assert not scene.reports.has_failed, "it was loaded"


async def test_a_recursion_without_an_end_fills_no_screen() -> None:
    scene = Scene()
    error = failure("def roll():\n    roll()\nroll()")
    scene.log(logging.getLogger("ravesvc.bot.bot"), logging.ERROR, "failed", error=error)
    (shown,) = await scene.seen()
    assert "\n  ...\n" in shown
    assert len(shown.splitlines()) == 15


async def test_a_failure_elsewhere_has_no_traceback() -> None:
    scene = Scene()
    error = failure("1 / 0", Path("/usr/lib/other.py"))
    scene.log(logging.getLogger("ravesvc.core.service"), logging.ERROR, "failed", error=error)
    assert await scene.seen() == ["! failed\n  ZeroDivisionError: division by zero"]


@pytest.mark.parametrize(
    ("name", "level", "text"),
    [
        ("ravesvc.mesh.worker", logging.INFO, ""),
        ("ravesvc.mesh.worker", logging.WARNING, "! Hm"),
        ("rave_commands_roll", logging.INFO, "* Hm"),
        ("rave_commands_roll", logging.DEBUG, ""),
        ("aiohttp.web", logging.INFO, ""),
    ],
)
async def test_what_concerns_no_author_is_not_shown(name: str, level: int, text: str) -> None:
    scene = Scene()
    scene.log(logging.getLogger(name), level, "Hm")
    assert await scene.seen() == [text] * bool(text)


async def test_what_is_seen_in_the_room_is_not_shown_twice() -> None:
    scene = Scene()
    extra = about("mesh", LogEvent.BLOCKED)
    scene.log(logging.getLogger("ravesvc.blocklist.blocklist"), logging.WARNING, "blocked", extra=extra)
    assert await scene.seen() == []


async def test_a_thread_may_log() -> None:
    scene = Scene()
    thread = threading.Thread(target=scene.loads)
    thread.start()
    thread.join()
    assert len(await scene.seen()) == 1
