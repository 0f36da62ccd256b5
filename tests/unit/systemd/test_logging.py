from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ravesvc.common.log_fields import CAUSE_MESSAGE_IDS, MESSAGE_IDS, LogEvent, about, current_mesh
from ravesvc.common.log_limit import PER_PLACE, LogLimit, by_place
from ravesvc.names import mesh_unit
from ravesvc.systemd import journal
from ravesvc.systemd import logging as log

LIBRARIES = ("websockets", "asyncio", "pymongo")
# In the place of what systemd says of standard error, until `set_up` knows it: capfd gives each phase of a test
# another file, which has the number of the one before only if no other process has taken that.
STANDARD_ERROR = "standard error"


@contextlib.contextmanager
def set_up(level: int, mesh: str = "", limit: logging.Filter | None = None, **options: Any) -> Iterator[None]:
    """Logging as a program has it; pytest's own handlers come back afterwards."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in (None, *LIBRARIES)}
    root.handlers[:] = []
    if os.environ.get("JOURNAL_STREAM") == STANDARD_ERROR:
        status = os.fstat(2)
        os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
    try:
        log.set_up(level, "rave-test", mesh=mesh, limit=limit, **options)
        yield
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = handlers
        for name, old in levels.items():
            logging.getLogger(name).setLevel(old)


class Journal:
    """The journal's end of its socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def entry(self) -> dict[str, str]:
        """The next entry."""
        data, fields = self._socket.recv(1 << 20), {}
        while data:
            name, _, rest = data.partition(b"\n")
            length = int.from_bytes(rest[:8], "little")
            fields[name.decode()] = rest[8 : 8 + length].decode()
            assert rest[8 + length : 9 + length] == b"\n"
            data = rest[9 + length :]
        return fields

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def _to_journal(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Standard error is what the journal says it is."""
    monkeypatch.setenv("JOURNAL_STREAM", STANDARD_ERROR)
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "journal"))


@pytest.fixture
def received(_to_journal: None, tmp_path: Path) -> Iterator[Journal]:
    end = Journal(tmp_path / "journal")
    yield end
    end.close()


def without_times(text: str) -> list[str]:
    """The lines of a log on a terminal; each begins with a time."""
    found = [re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+ (.*)", line) for line in text.splitlines()]
    assert all(found), text
    return [each[1] for each in found if each]


def speak() -> None:
    for level in (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG):
        logging.getLogger("ravesvc.test").log(level, "level %d", level)


def test_the_journal_gets_priorities(received: Journal, capfd: pytest.CaptureFixture[str]) -> None:
    with set_up(logging.DEBUG):
        speak()
    entries = [received.entry() for _ in range(5)]
    assert [(entry["MESSAGE"], entry["PRIORITY"]) for entry in entries] == [
        ("level 50", "3"),
        ("level 40", "3"),
        ("level 30", "4"),
        ("level 20", "6"),
        ("level 10", "7"),
    ]
    assert entries[0] == {
        "MESSAGE": "level 50",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "rave-test",
        "LOGGER": "ravesvc.test",
    }
    assert capfd.readouterr() == ("", "")


def test_the_journal_gets_fields(received: Journal) -> None:
    with set_up(logging.INFO, unit_of=mesh_unit):
        logging.getLogger("ravesvc.test").info("in", extra=about("m1", LogEvent.CONNECTED))
    entry = received.entry()
    assert (entry["RAVE_MESH"], entry["RAVE_EVENT"]) == ("m1", "connected")
    assert entry["RAVE_UNIT"] == "rave-mesh@m1.service"
    assert entry["MESSAGE_ID"] == MESSAGE_IDS[LogEvent.CONNECTED]


@pytest.mark.parametrize(("cause", "explained_apart"), [("kicked", True), ("crashes", False), ("", False)])
def test_what_explains_an_entry_depends_on_the_cause(received: Journal, cause: str, explained_apart: bool) -> None:
    with set_up(logging.INFO):
        logging.getLogger("ravesvc.test").info("out", extra=about("m1", LogEvent.BLOCKED, cause))
    entry = received.entry()
    assert entry["RAVE_EVENT"] == "blocked", "one search finds all blocks"
    assert (entry["MESSAGE_ID"] != MESSAGE_IDS[LogEvent.BLOCKED]) is explained_apart
    if explained_apart:
        assert entry["MESSAGE_ID"] == CAUSE_MESSAGE_IDS[LogEvent.BLOCKED, cause]


def test_the_journal_gets_the_title_of_a_mesh(received: Journal) -> None:
    titles = {"m1": "Film\x1b[2J night\n" + "x" * 300}
    with set_up(logging.INFO):
        log.show_titles(lambda mesh: titles.get(mesh, ""))
        ours = logging.getLogger("ravesvc.test")
        for mesh in "m1", "m2", "":
            ours.info("in\nthere", extra=about(mesh))
    shown = "Film?[2J night?" + "x" * 85
    entries = [received.entry() for _ in range(3)]
    assert [entry.get("RAVE_TITLE") for entry in entries] == [shown, None, None]
    assert [entry["MESSAGE"] for entry in entries] == [f"in [{shown}]\nthere", "in\nthere", "in\nthere"]


def test_a_terminal_gets_the_title_of_a_mesh(capfd: pytest.CaptureFixture[str]) -> None:
    with set_up(logging.INFO):
        log.show_titles({"m1": "Film\x1b night", "m2": ""}.__getitem__)
        for mesh in "m1", "m2":
            logging.getLogger("ravesvc.test").info("in", extra=about(mesh))
    assert without_times(capfd.readouterr().err) == ["[m1] [Film? night] INFO in", "[m2] INFO in"]


def test_the_journal_gets_no_unit_where_bots_have_none(received: Journal) -> None:
    with set_up(logging.INFO):
        logging.getLogger("ravesvc.test").info("in", extra=about("m1", LogEvent.CONNECTED))
    assert "RAVE_UNIT" not in received.entry()


def test_a_bot_sends_the_journal_lines_alone(received: Journal, capfd: pytest.CaptureFixture[str]) -> None:
    with set_up(logging.INFO, "m2"):
        logging.getLogger("ravesvc.test").warning("in")
    assert capfd.readouterr().err == "<4>in\n"
    with pytest.raises(BlockingIOError):
        received.entry()


def test_what_repeats_too_often_is_left_out(received: Journal, capfd: pytest.CaptureFixture[str]) -> None:
    with set_up(logging.INFO, "m2", LogLimit(by_place, PER_PLACE)):
        for _ in range(1000):
            logging.getLogger("ravesvc.test").warning("too busy")
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "<4>too busy"
    assert lines[-1] == '<4>Too many entries of one kind: those that follow are dropped for now, such as "too busy"'
    assert len(lines) == 21


def test_a_traceback_is_one_entry_and_forges_nothing(received: Journal) -> None:
    with set_up(logging.INFO):
        logging.getLogger("ravesvc.test").error("bad", exc_info=ValueError("a\nPRIORITY=0\n<0>\ud800"))
    entry = received.entry()
    assert entry["MESSAGE"].splitlines() == ["bad", "ValueError: a", "PRIORITY=0", "<0>?"]
    assert entry["PRIORITY"] == "3"


def test_what_is_far_too_long_is_cut(received: Journal) -> None:
    with set_up(logging.INFO):
        logging.getLogger("ravesvc.test").info("x" * 1_000_000)
    assert received.entry()["MESSAGE"] == "x" * 32768


@pytest.mark.usefixtures("_to_journal")
def test_without_the_socket_the_journal_gets_lines(capfd: pytest.CaptureFixture[str]) -> None:
    with set_up(logging.INFO):
        logging.getLogger("ravesvc.test").error("bad", exc_info=ValueError("a\n<0>forged"))
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "<3>bad"
    assert lines[-1] == "<3><0>forged"
    assert all(line.startswith("<3>") for line in lines)


def test_a_journal_that_takes_nothing_holds_up_nobody(received: Journal, capfd: pytest.CaptureFixture[str]) -> None:
    with set_up(logging.INFO):
        while not capfd.readouterr().err:
            logging.getLogger("ravesvc.test").info("on and on")
    assert received.entry()["MESSAGE"] == "on and on"


def test_a_terminal_gets_words(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    with set_up(logging.INFO, "x"):
        speak()
    lines = without_times(capfd.readouterr().err)
    assert lines == ["[x] CRITICAL level 50", "[x] ERROR level 40", "[x] WARNING level 30", "[x] INFO level 20"]


def test_no_text_controls_the_terminal(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    with set_up(logging.INFO):
        logging.getLogger("ravesvc").info("bye\x1b[2J\x9b1m\u202e\x7f")
    assert without_times(capfd.readouterr().err) == ["INFO bye?[2J?1m??"]


def test_a_terminal_shows_times_with_their_zone(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "FAR-05:30")
        time.tzset()
        begun = int(time.time())
        with set_up(logging.INFO):
            speak()
        said = capfd.readouterr().err
        shown = datetime.strptime(f"{said[:19]}+0530", "%Y-%m-%d %H:%M:%S%z").timestamp()
    time.tzset()
    assert begun <= shown <= time.time()
    assert said[19:].startswith(" FAR CRITICAL ")


def test_a_process_with_several_meshes_tells_them_apart(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)

    def in_mesh(mesh: str) -> None:
        current_mesh.set(mesh)
        logging.getLogger("ravesvc.test").info("one\ntwo")
        logging.getLogger("ravesvc.test").info("three", extra=about("m2"))

    with set_up(logging.INFO):
        contextvars.copy_context().run(in_mesh, "m1")
        logging.getLogger("ravesvc.test").info("four")
    lines = without_times(capfd.readouterr().err)
    assert lines == ["[m1] INFO one", "[m1] two", "[m2] INFO three", "INFO four"]


def test_a_terminal_inside_a_service_is_not_the_journal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with set_up(logging.WARNING):
        speak()
    assert without_times(capfd.readouterr().err)[-1] == "WARNING level 30"


def test_libraries_speak_of_trouble_only(capfd: pytest.CaptureFixture[str]) -> None:
    with set_up(logging.DEBUG):
        for name in LIBRARIES:
            logging.getLogger(f"{name}.part").info("a header")
            logging.getLogger(f"{name}.part").warning("trouble")
    err = capfd.readouterr().err
    assert "a header" not in err
    assert err.count("trouble") == len(LIBRARIES)


def test_an_exception_is_shown_after_an_upgrade_of_python(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What shows source lines is imported with the first traceback, and may be gone by then."""

    def vanished(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'tokenize'")

    monkeypatch.setattr(logging.traceback, "print_exception", vanished)  # type: ignore[attr-defined]
    with set_up(logging.INFO):
        try:
            int("nine")
        except ValueError:
            logging.getLogger("ravesvc.test").exception("it failed")
    _, said = capfd.readouterr()
    assert "it failed" in said
    assert f"{__file__}, line " in said
    assert "ValueError: invalid literal" in said
