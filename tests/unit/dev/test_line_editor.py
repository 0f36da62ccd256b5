from __future__ import annotations

import pytest

from ravesvc.dev.line_editor import MAX_LINE_CHARS, LineEditor

UP, DOWN, RIGHT, LEFT = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D"
HOME, END, DELETE, BACKSPACE = "\x1b[H", "\x1b[F", "\x1b[3~", "\x7f"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("hello", "hello"),
        (f"helo{LEFT}l", "hello"),
        (f"hello{BACKSPACE}{BACKSPACE}", "hel"),
        (f"{BACKSPACE}{LEFT}a{RIGHT}{RIGHT}b", "ab"),
        (f"bc{HOME}a{END}d", "abcd"),
        (f"abc{HOME}{DELETE}", "bc"),
        (f"abc{LEFT}\x04", "ab"),
        ("one two  \x17", "one "),
        ("one\x17", ""),
        ("one two\x15three", "three"),
        (f"one two{LEFT}{LEFT}\x0b", "one t"),
        ("a\x00\x1b[99Xb\x1bqc", "abc"),
        ("ü漢", "ü漢"),
    ],
)
def test_a_line_is_edited(keys: str, line: str) -> None:
    editor = LineEditor()
    assert editor.feed(keys) == []
    assert editor.text == line
    assert editor.feed("\r") == [line]
    assert editor.text == ""


def test_a_key_may_come_in_pieces() -> None:
    editor = LineEditor()
    editor.feed("ac")
    for piece in LEFT:
        editor.feed(piece)
    editor.feed("b")
    assert editor.text == "abc"


def test_several_lines_may_come_at_once() -> None:
    editor = LineEditor()
    assert editor.feed("one\ntwo\rthr") == ["one", "two"]
    assert editor.text == "thr"


def test_former_lines_come_back() -> None:
    editor = LineEditor()
    editor.feed("one\rtwo\rtwo\r \r")
    editor.feed(UP)
    assert editor.text == "two"
    editor.feed(UP + UP + UP)
    assert editor.text == "one"
    editor.feed(f"{DOWN}!")
    assert editor.text == "two!"
    editor.feed(DOWN + DOWN)
    assert editor.text == ""


def test_the_end_is_ctrl_d_on_an_empty_line() -> None:
    editor = LineEditor()
    editor.feed(f"a{LEFT}\x04")
    assert not editor.ended
    editor.feed("\x04")
    assert editor.ended


def test_a_line_has_a_bound() -> None:
    editor = LineEditor()
    editor.feed("x" * (MAX_LINE_CHARS + 5))
    assert len(editor.text) == MAX_LINE_CHARS


@pytest.mark.parametrize(
    ("keys", "cells", "view"),
    [
        ("abc", 10, ("abc", 3)),
        (f"abc{LEFT}", 10, ("abc", 2)),
        ("abcdef", 4, ("def", 3)),
        (f"abcdef{HOME}", 4, ("abcd", 0)),
        (f"abcdef{LEFT}{LEFT}", 4, ("bcde", 3)),
        ("漢字漢字", 5, ("漢字", 4)),
        ("abc", 0, ("", 0)),
    ],
)
def test_a_view_has_what_fits_and_the_cursor(keys: str, cells: int, view: tuple[str, int]) -> None:
    editor = LineEditor()
    editor.feed(keys)
    assert editor.view(cells) == view
