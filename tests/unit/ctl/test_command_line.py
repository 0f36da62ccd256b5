"""A command line is read the same by the parser of its command alone as by that of all."""

from __future__ import annotations

import pytest

from ravesvc.ctl import command_line
from ravesvc.ctl.command_line import SECTIONS

ID = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
WORDS = [word for section in SECTIONS.values() for commands in section for word in commands.names()]


def said(words: list[str], capsys: pytest.CaptureFixture[str], read: object) -> tuple[object, str, str]:
    """How it ends, and what it prints."""
    with pytest.raises(SystemExit) as ended:
        read(words)  # type: ignore[operator]
    return (ended.value.code, *capsys.readouterr())


@pytest.mark.parametrize("words", [["status", "--json"], ["blocklist", "add", ID], ["stop", ID], ["config", "check"]])
def test_a_command_is_read_the_same(words: list[str]) -> None:
    assert command_line.parse(words) == command_line.parser().parse_args(words)


@pytest.mark.parametrize("word", WORDS)
def test_a_wrong_line_is_answered_the_same(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([word, "--help"], [word, "--wrong"]):
        assert said(words, capsys, command_line.parse) == said(words, capsys, command_line.parser().parse_args)


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["stat"], ["--wrong"], ["--version", "status"]])
def test_what_is_no_command_is_answered_for_all(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert said(words, capsys, command_line.parse) == said(words, capsys, command_line.parser().parse_args)
