from __future__ import annotations

import pytest

from ravesvc.bot.parsing import Invocation, parse

PREFIXES = ("!", "?", "~")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("?ping", Invocation("ping", "", "?")),
        ("!PING", Invocation("ping", "", "!")),
        ("?  say  Hello\tWorld\n!", Invocation("say", "Hello\tWorld\n!", "?")),
        ('?admin @Jo "a b"', Invocation("admin", '@Jo "a b"', "?")),
        ("??what", Invocation("?what", "", "?")),
    ],
)
def test_invocations(text: str, expected: Invocation) -> None:
    assert parse(text, PREFIXES) == expected


@pytest.mark.parametrize("text", ["", "?", "?  \n", "ping", " ?ping", "#ping"])
def test_ordinary_messages(text: str) -> None:
    assert parse(text, PREFIXES) is None


def test_the_first_fitting_prefix_counts_not_the_longest() -> None:
    assert parse("!!ping", ("!", "!!")) == Invocation("!ping", "", "!")
    assert parse("!!ping", ("!!", "!")) == Invocation("ping", "", "!!")


def test_a_prefix_of_letters_may_be_followed_by_a_blank() -> None:
    assert parse("Bot ping", ("bot",)) == Invocation("ping", "", "bot")
    assert parse("bot ping", ("bot",)) == Invocation("ping", "", "bot")
