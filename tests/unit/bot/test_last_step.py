from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ravesvc.bot.command import Registry
from ravesvc.bot.last_step import SIZE_BYTES, LastStep
from ravesvc.bot.parameters import Said
from ravesvc.bot.plugins import PluginLoader, Sources
from ravesvc.bot.registration import registering
from ravesvc.bot.step_timeout import with_step_timeout
from ravesvc.commands import check

GREET, POLL = "/etc/rave/commands.d/greet.py", "/etc/rave/commands.d/poll.py"


class Process:
    """A process of a bot. It has its plugins from the one before, and leaves `memory` when it ends."""

    def __init__(self, left: bytes = b"") -> None:
        self.memory = bytearray(SIZE_BYTES)
        self.steps = LastStep(left, self._write)

    def _write(self, what: bytes, where: int) -> None:
        self.memory[where : where + len(what)] = what
        assert len(self.memory) == SIZE_BYTES


def ends_in(source: str, before: Process, **versions: str) -> Process:
    """The process after one that has ended in a step of a plugin."""
    marks = {each: before.steps.mark(each, version) for each, version in versions.items()}
    left = b""
    with marks[source]:
        left = bytes(before.memory)
    return Process(left)


def test_the_plugin_in_whose_step_a_process_ends_is_off_in_the_next_one() -> None:
    first = Process()
    marks = [first.steps.mark(GREET, "aa"), first.steps.mark(POLL, "bb")]
    for mark in marks:
        with mark:
            pass
    assert Process(bytes(first.memory)).steps.culprit is None, "none was running"
    with marks[1]:
        left = bytes(first.memory)
    second = Process(left)
    assert second.steps.culprit == (POLL, "bb")
    assert second.steps.off == {POLL: "bb"}


def test_it_stays_off_however_often_the_bot_starts_until_it_is_another_version() -> None:
    second = ends_in("poll", Process(), greet="aa", poll="bb")
    second.steps.mark("greet", "aa")
    third = Process(bytes(second.memory))
    assert (third.steps.culprit, third.steps.off) == (None, {"poll": "bb"})
    third.steps.mark("poll", "cc")
    assert Process(bytes(third.memory)).steps.off == {}


def test_it_stays_off_if_the_next_process_loads_nothing() -> None:
    second = ends_in("poll", Process(), greet="aa", poll="bb")
    third = Process(bytes(second.memory))
    assert (third.steps.culprit, third.steps.off) == (None, {"poll": "bb"})


def test_two_that_end_one_after_the_other_are_both_off() -> None:
    third = ends_in("greet", ends_in("poll", Process(), poll="bb", greet="aa"), greet="aa")
    assert third.steps.off == {"poll": "bb", "greet": "aa"}


def test_more_plugins_than_have_a_place_run_all_the_same() -> None:
    process = Process()
    marks = [process.steps.mark(f"/etc/rave/commands.d/{number:040}.py", "aa") for number in range(300)]
    with marks[0]:
        assert process.memory[0] == 1
    with marks[-1]:
        assert process.memory[0] == 0
    assert json.loads(process.memory[1:].rstrip(b"\0"))["plugins"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "7", "{}", "[" * 4000, "\udc80"),
        *('{"off": {}}', '{"off": [1], "plugins": []}', '{"off": {"a": 1}, "plugins": []}'),
        *('{"off": {}, "plugins": [[1, "a"]]}', '{"off": {}, "plugins": [[1, 2, 3]]}'),
        '{"off": {}, "plugins": [[[], "a", "b"]]}',
    ],
)
def test_what_makes_no_sense_is_nothing(text: str) -> None:
    left = b"\1" + text.encode(errors="surrogateescape")
    assert (Process(left).steps.culprit, Process(left).steps.off) == (None, {})


async def test_a_handler_is_marked_while_it_runs_and_not_while_it_waits() -> None:
    process = Process()
    seen = []

    async def handler() -> None:
        seen.append(process.memory[0])
        await Waiting()
        seen.append(process.memory[0])

    class Waiting:
        def __await__(self) -> Any:
            yield
            return None

    running = with_step_timeout(handler, process.steps.mark("greet", "aa"))().__await__()
    next(running)
    assert process.memory[0] == 0
    with pytest.raises(StopIteration):
        next(running)
    assert (seen, process.memory[0]) == ([1, 1], 0)


def test_too_large_a_wish_is_a_failure_and_no_end() -> None:
    process = Process()
    with pytest.raises(MemoryError), process.steps.mark("greet", "aa"):
        bytearray(1 << 62)
    assert process.memory[0] == 0


@pytest.mark.process
def test_a_process_without_memory_ends_with_the_plugin_named() -> None:
    program = """
import logging, resource
from ravesvc.bot.last_step import LastStep
logging.basicConfig()
mark = LastStep(b"", lambda what, where: None).mark("greet.py", "aa")
resource.setrlimit(resource.RLIMIT_DATA, (256 << 20,) * 2)
kept = []
try:
    with mark:
        while True:
            kept.append(bytearray(1 << 20))
except MemoryError:
    print("went on")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "greet.py has taken all memory that a bot may have" in done.stderr


async def test_a_check_of_a_file_is_marked_as_its_commands_are() -> None:
    process = Process()
    seen = []
    registry = Registry("greet", mark=process.steps.mark("greet", "aa"))
    with registering(registry):

        @check
        async def is_awake(context: Any) -> None:
            seen.append(process.memory[0])

    await registry.checks[0](None)  # type: ignore[arg-type]
    assert (seen, process.memory[0]) == ([1], 0)


async def test_what_an_author_reads_a_word_with_is_marked() -> None:
    process = Process()
    seen: list[Any] = []

    class Own:
        @classmethod
        def from_word(cls, word: str) -> Own:
            seen.append(process.memory[0])
            return cls()

    async def handler(context: Any, own: Own) -> None:
        seen.append(own)

    handler.__annotations__["own"] = Own
    registry = Registry("greet", mark=process.steps.mark("greet", "aa"))
    registry.command("greet", "Greets.")(handler)
    command = registry.get("greet")
    assert command
    said = Said("?greet", "", "", "you", (), frozenset(), people=Any, asker=None, videos=Any)  # type: ignore[arg-type]
    await command.handler(SimpleNamespace(said=said))  # type: ignore[arg-type]
    assert (seen[0], process.memory[0]) == (1, 0)
    assert isinstance(seen[1], Own)


async def test_the_version_that_runs_is_to_blame_when_a_newer_one_does_not_load(tmp_path: Path) -> None:
    process, directory = Process(), tmp_path / "commands.d"
    directory.mkdir(0o755)
    sources = Sources(directory, frozenset({os.geteuid()}), last_step=process.steps)
    loader = PluginLoader(Registry(), sources, lambda errors: None, Runner)
    file = directory / "greet.py"
    for text in ("", "1 / 0"):
        file.write_text(text)
        file.chmod(0o644)
        await loader.read([])
    ((_, version, _),) = loader.loaded
    assert json.loads(process.memory[1:].rstrip(b"\0"))["plugins"] == [[1, str(file), version]]
    await loader.close()


class Runner:
    """What stands in the place of the bot."""

    def start_plugin(self, part: Registry) -> None: ...

    async def end_plugin(self, part: Registry) -> None: ...
