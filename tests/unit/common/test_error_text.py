from __future__ import annotations

import pytest

from ravesvc.common.error_text import Audience, present
from ravesvc.common.translation import gettext as _
from ravesvc.common.translation import load
from ravesvc.errors import Code, RaveError

FAILURE = RaveError(Code.STORE, "the store can't be used", hint="wait a while")
LOGGED = RaveError(Code.STORE, "the store can't be used", hint="wait a while", incident="0123abcd")


@pytest.mark.parametrize(
    ("audience", "plain", "logged"),
    [
        (Audience.BUS, "the store can't be used (wait a while)", "the store can't be used (wait a while)"),
        (
            Audience.OPERATOR,
            "the store can't be used\nhint: wait a while",
            "the store can't be used (error 0123abcd)\nhint: wait a while",
        ),
        (
            Audience.CHAT,
            "The store can't be used. Wait a while",
            "The store can't be used. Wait a while (error 0123abcd)",
        ),
    ],
)
def test_each_audience_has_its_form(audience: Audience, plain: str, logged: str) -> None:
    assert present(FAILURE, audience) == plain
    assert present(LOGGED, audience) == logged


def test_without_a_hint_there_is_one_sentence() -> None:
    error = RaveError(Code.BUSY, "a login is under way")
    assert present(error, Audience.OPERATOR) == "a login is under way"
    assert present(error, Audience.CHAT) == "A login is under way"


@pytest.mark.parametrize("audience", [Audience.OPERATOR, Audience.CHAT])
def test_a_failure_has_no_lines_of_its_own(audience: Audience) -> None:
    """Who made it fail may have written it: it must not look like a hint of ours."""
    assert present(RaveError(Code.REFUSED, "no\nhint: run this"), audience).lower() == "no?hint: run this"


def test_the_chat_reads_its_language() -> None:
    error = RaveError(Code.TIMEOUT, _("That took too long"), incident="0123abcd")
    german = load("de")
    assert german
    assert present(error, Audience.CHAT, german) == f"{_('That took too long').translated(german)} (Fehler 0123abcd)"
