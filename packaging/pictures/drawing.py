"""Draw what a terminal or a chat shows as SVG: plain text in, plain text out, the same each time. Pure.

A picture brings its own background, so it looks the same on a light page and on a dark one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

_FONT = 'font-family="monospace" font-size="14"'
_CELL_PX, _LINE_PX, _MARGIN_PX = 8.4, 20, 16
_BACKGROUND, _TEXT, _FAINT = "#1f2430", "#d7dae0", "#8b919d"
# SGR parameters of ECMA-48, as far as ravectl uses them.
_COLOURS = {"2": _FAINT, "31": "#ef7a85", "32": "#8fc979", "33": "#e3bf78", "35": "#c792ea"}
_SGR = re.compile("\033\\[([0-9;]*)m")

_BUBBLE_USER, _BUBBLE_BOT = "#2e3544", "#24503f"
_BUBBLE_PADDING_PX, _BUBBLE_GAP_PX = 10, 26
_CHAT_COLUMNS = 84


class ChatLine(NamedTuple):
    """One message of a chat; its text may have several lines."""

    speaker: str
    text: str
    is_bot: bool


def terminal(text: str, columns: int) -> str:
    """A terminal that shows this text, colours included."""
    lines = text.rstrip("\n").split("\n")
    drawn = [
        _text(_MARGIN_PX, _MARGIN_PX + _LINE_PX * (number + 0.75), _spans(line), len(_SGR.sub("", line)))
        for number, line in enumerate(lines)
        if line
    ]
    return _picture(columns * _CELL_PX + 2 * _MARGIN_PX, len(lines) * _LINE_PX + 2 * _MARGIN_PX, drawn)


def chat(lines: Sequence[ChatLine]) -> str:
    """A chat with these messages: those of users on the left, those of the bot on the right."""
    width_px = _CHAT_COLUMNS * _CELL_PX + 2 * _MARGIN_PX
    drawn: list[str] = []
    top = _MARGIN_PX
    for line in lines:
        height = _LINE_PX * len(line.text.split("\n")) + 2 * _BUBBLE_PADDING_PX
        drawn += _bubble(line, top + _LINE_PX, height, width_px)
        top += height + _BUBBLE_GAP_PX
    return _picture(width_px, top - _BUBBLE_GAP_PX + _LINE_PX + _MARGIN_PX, drawn)


def _bubble(line: ChatLine, top: float, height: float, width_px: float) -> Iterator[str]:
    """A message, below the name of who has written it."""
    rows = line.text.split("\n")
    width = max(map(len, rows)) * _CELL_PX + 2 * _BUBBLE_PADDING_PX
    left = width_px - _MARGIN_PX - width if line.is_bot else _MARGIN_PX
    name_left = width_px - _MARGIN_PX - len(line.speaker) * _CELL_PX if line.is_bot else _MARGIN_PX
    yield _text(name_left, top - 5, f'<tspan fill="{_FAINT}">{escape(line.speaker)}</tspan>', len(line.speaker))
    fill = _BUBBLE_BOT if line.is_bot else _BUBBLE_USER
    yield f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="8" fill="{fill}"/>'
    for number, row in enumerate(rows):
        baseline = top + _BUBBLE_PADDING_PX + _LINE_PX * (number + 0.75)
        yield _text(left + _BUBBLE_PADDING_PX, baseline, escape(row), len(row))


def _spans(line: str) -> str:
    """The pieces of a line of a terminal, each in its colour."""
    pieces = _SGR.split(line)
    drawn = [escape(pieces[0])]
    for parameter, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        colour = _COLOURS.get(parameter)
        drawn.append(f'<tspan fill="{colour}">{escape(piece)}</tspan>' if colour else escape(piece))
    return "".join(drawn)


def _text(left: float, baseline: float, content: str, length: int) -> str:
    """A line of text that is as wide as its number of characters says, whatever font there is."""
    return f'<text x="{left:g}" y="{baseline:g}" textLength="{length * _CELL_PX:g}">{content}</text>'


def _picture(width: float, height: float, drawn: Sequence[str]) -> str:
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} xml:space="preserve" {_FONT} fill="{_TEXT}">',
            f'<rect width="{width:g}" height="{height:g}" rx="8" fill="{_BACKGROUND}"/>',
            *drawn,
            "</svg>\n",
        ]
    )
