"""Keys; what a screen does to a terminal is in test_screens.py."""

from __future__ import annotations

import pytest

from ravesvc.ctl.ui.screen import Key, read_keys


@pytest.mark.parametrize(
    ("typed", "keys", "rest"),
    [
        (b"", [], b""),
        (b"q", [Key.QUIT], b""),
        (b"\x1b[A\x1b[B", [Key.UP, Key.DOWN], b""),
        (b"\x1bOA\x1bOH\x1bOF", [Key.UP, Key.HOME, Key.END], b""),
        (b"\x1b[5~\x1b[6~\x1b[1~\x1b[4~", [Key.PAGE_UP, Key.PAGE_DOWN, Key.HOME, Key.END], b""),
        # Sequences that come in two parts.
        (b"\x1b[A\x1b", [Key.UP], b"\x1b"),
        (b"\x1b[", [], b"\x1b["),
        (b"\x1b[6", [], b"\x1b[6"),
        (b"\x1bO", [], b"\x1bO"),
        # Keys that do nothing: F5, Escape before q, Ctrl and an arrow, letters of any alphabet.
        (b"\x1b[15~\x1bq\x1b[1;5A", [Key.QUIT], b""),
        (b"Az\xc3\xa9\r~", [], b""),
    ],
)
def test_keys_are_told_from_what_terminals_send(typed: bytes, keys: list[Key], rest: bytes) -> None:
    assert read_keys(typed) == (keys, rest)
