"""packaging/option_texts.py: what is written from the declarations of the options."""

from __future__ import annotations

from dataclasses import dataclass

import option_texts
import pytest

from ravesvc.config.declaration import CHAT, CHOICE, TIME_SPAN, option
from ravesvc.config.table import entries

WRITE = "run make options, and look at what it changes"


@dataclass(frozen=True, kw_only=True)
class Options:
    greeting: str = option(CHOICE, default="short", chapter=CHAT, words=("short", "long"))
    """How a bot greets. See `greeting_delay`.

    With `long` it greets (`hello world`) as rave-mesh(8) says, in `/etc/motd`.
    """
    greeting_delay: float = option(TIME_SPAN, default=90.0, chapter=CHAT, least=0.5, most=7200)
    """How long it waits."""


@dataclass(frozen=True, kw_only=True)
class Untold:
    greeting: float = option(TIME_SPAN, default=1.0, chapter=CHAT)


@dataclass(frozen=True, kw_only=True)
class Homeless:
    greeting: float = option(TIME_SPAN, default=1.0, chapter="nowhere")
    """How long it waits."""


def test_the_files_are_as_the_declarations_have_it() -> None:
    assert option_texts.CONFIG.read_text() == option_texts.rave_yaml(), WRITE
    page = option_texts.PAGE.read_text()
    assert page == option_texts.page(page), WRITE


def test_the_first_paragraph_is_the_comment_of_an_option() -> None:
    text = option_texts.rave_yaml(entries(Options))
    assert text.partition("\n\n# Chat: ")[2].partition("\n\n")[2] == (
        "# How a bot greets. See greeting_delay. One of short and long.\n"
        "#greeting: short\n"
        "# How long it waits.\n"
        "#greeting_delay: 90s\n"
    )


def test_the_manual_page_has_all_of_it_with_default_and_bounds() -> None:
    text = option_texts.options(entries(Options))
    assert text.partition(".Bl -tag -width Ds\n")[2].partition(".El\n")[0].splitlines() == [
        ".It Va greeting",
        "How a bot greets.",
        "See",
        ".Va greeting_delay .",
        ".Pp",
        "With",
        ".Ql long",
        "it greets",
        '.Pq Ql "hello world"',
        "as",
        ".Xr rave-mesh 8",
        "says, in",
        ".Pa /etc/motd .",
        "One of",
        ".Ql short",
        "and",
        ".Ql long ;",
        "default",
        ".Ql short .",
        ".It Va greeting_delay",
        "How long it waits.",
        "Default 90s; from 500ms to 2h.",
    ]


@pytest.mark.parametrize("options", [Untold, Homeless])
def test_an_option_needs_a_text_and_a_chapter(options: type) -> None:
    with pytest.raises(SystemExit, match=r"nowhere|greeting"):
        option_texts.rave_yaml(entries(options))
