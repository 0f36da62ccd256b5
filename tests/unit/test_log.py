from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import pytest

from ravesvc import log

LIBRARIES = ("urllib3", "websockets", "asyncio", "pymongo")


@contextlib.contextmanager
def set_up(level: int, prefix: str = "") -> Iterator[None]:
    """Logging as a program has it; pytest's own handlers come back afterwards."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in (None, *LIBRARIES)}
    root.handlers[:] = []
    try:
        log.set_up(level, prefix=prefix)
        yield
    finally:
        root.handlers[:] = handlers
        for name, old in levels.items():
            logging.getLogger(name).setLevel(old)


@pytest.fixture
def _journal(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error is what the journal says it is."""
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")


def speak() -> None:
    for level in (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG):
        logging.getLogger("ravesvc.test").log(level, "level %d", level)


@pytest.mark.usefixtures("_journal")
def test_the_journal_gets_priorities(capfd: pytest.CaptureFixture[str]) -> None:
    with set_up(logging.DEBUG, "[x] "):
        speak()
    out, err = capfd.readouterr()
    assert not out
    assert err.splitlines() == ["<3>level 50", "<3>level 40", "<4>level 30", "<6>level 20", "<7>level 10"]


@pytest.mark.usefixtures("_journal")
def test_every_line_has_its_own_priority(capfd: pytest.CaptureFixture[str]) -> None:
    with set_up(logging.INFO):
        logging.getLogger("ravesvc.test").error("bad", exc_info=ValueError("a\n<0>forged"))
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "<3>bad"
    assert lines[-1] == "<3><0>forged"
    assert all(line.startswith("<3>") for line in lines)


def test_a_terminal_gets_words(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    with set_up(logging.INFO, "[x] "):
        speak()
    lines = capfd.readouterr().err.splitlines()
    assert lines == ["[x] CRITICAL level 50", "[x] ERROR level 40", "[x] WARNING level 30", "[x] INFO level 20"]


def test_a_terminal_inside_a_service_is_not_the_journal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with set_up(logging.WARNING):
        speak()
    assert capfd.readouterr().err.splitlines()[-1] == "WARNING level 30"


def test_libraries_speak_of_trouble_only(capfd: pytest.CaptureFixture[str]) -> None:
    with set_up(logging.DEBUG):
        for name in LIBRARIES:
            logging.getLogger(f"{name}.part").info("a header")
            logging.getLogger(f"{name}.part").warning("trouble")
    err = capfd.readouterr().err
    assert "a header" not in err
    assert err.count("trouble") == len(LIBRARIES)
