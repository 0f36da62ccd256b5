"""What people's devices make of a prefix, a command word or a name."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.bot.command import Context, Registry
from ravesvc.bot.command_names import Permission
from ravesvc.bot.parsing import Invocation, parse
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.common.spelling import fold, nearest

PREFIXES = ("?", "!", "bot ", "'", "--", ".", "/", "~")


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("\uff1f\uff50ing", "?"),  # full width
        ("\ufe56ping", "?"),
        ("?\ufe0fping", "?"),  # a variation selector, as emoji keyboards add it
        ("\u200f?ping", "?"),  # right to left
        ("\ufeff?ping", "?"),
        ("?\u200bping", "?"),
        ("?\u00a0ping", "?"),
        ("?\u3000ping", "?"),
        ("?\u3164ping", "?"),
        ("? \u200b ping", "?"),
        ("\u00bfping", "?"),
        ("\u061fping", "?"),
        ("\u2753ping", "?"),
        ("?pi\u00adng", "?"),
        ("?p\u0131ng", "?"),  # Turkish
        ("?P\u0130NG", "?"),
        ("?PI\u0307NG", "?"),
        ("\u00a1Ping", "!"),
        ("\u2757\ufe0fping", "!"),
        ("Bot ping", "bot "),
        ("BOT\u00a0PING", "bot "),
        ("bot\u3000ping", "bot "),
        ("\u2019ping", "'"),
        ("\u2018ping", "'"),
        ("\u00b4ping", "'"),
        ("\u2014ping", "--"),
        ("\u2013ping", "--"),
        ("-\u2011ping", "--"),
        ("\u3002ping", "."),
        ("\u3001ping", "/"),
        ("\uff5eping", "~"),
        ("\u301cping", "~"),
    ],
)
def test_every_keyboard_can_order_something(text: str, prefix: str) -> None:
    assert parse(text, PREFIXES) == Invocation("ping", "", prefix)


def test_a_dash_is_one_hyphen_where_the_prefix_is_one() -> None:
    assert parse("\u2014ping", ("-",)) == Invocation("ping", "", "-")
    assert parse("-ping", ("--",)) is None


@pytest.mark.parametrize("text", ["\u00bf", "\uff1f\u200b", "botping", "b\u00f6t ping", "\u0660ping", " \uff1fping"])
def test_what_only_looks_like_it_is_an_ordinary_message(text: str) -> None:
    assert parse(text, ("?", "bot ")) is None


def test_arguments_stay_as_they_are_written() -> None:
    words = "It\u2019s \uff26ULL w\u0130de \u2014\ufe0f \u00c5"
    assert parse(f"\uff1fSay {words}", ("?",)) == Invocation("say", words.strip(), "?")


@given(st.text(max_size=20))
def test_folding_ends_and_knows_no_form_of_composition(text: str) -> None:
    folded = fold(text)
    assert fold(folded) == folded
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text)) == folded


@given(st.text(max_size=200), st.sampled_from(PREFIXES))
def test_whatever_is_written_has_an_answer(text: str, prefix: str) -> None:
    invocation = parse(prefix + text, (prefix,))
    assert (invocation is None) == (not any(fold(word) for word in text.split()))


async def nothing(context: Context) -> None: ...


@pytest.mark.parametrize("spelling", ["Straße", "STRASSE", "strasse", "\uff33tra\u00dfe", "stra\u200dsse"])
def test_a_command_is_found_and_kept_to_admins_in_any_spelling(spelling: str) -> None:
    registry = Registry()
    registry.command("Straße", "")(nothing)
    command = registry.get(spelling)
    assert command
    assert command.name == "Straße"
    permissions = StaticPermissions(frozenset({1}), {fold(spelling): Permission.ADMIN})
    assert permissions.allows(command, 1)
    assert not permissions.allows(command, 2)


NAMES = ("help", "hello", "perm", "setperm", "removeperm", "listperms", "search", "skip", "stop", "settings")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("help", "help"),
        ("hlep", "help"),
        ("helpp", "help"),
        ("hel", "help"),
        ("hallo", "hello"),
        ("setprem", "setperm"),
        ("perms", "perm"),
        ("serach", "search"),
        ("setings", "settings"),
        ("sotp", "stop"),
        ("banana", None),
        ("x", None),
        ("", None),
        ("help" * 1000, None),
    ],
)
def test_the_name_that_was_probably_meant(written: str, meant: str | None) -> None:
    assert nearest(written, NAMES) == meant


def test_without_names_none_was_meant() -> None:
    assert nearest("help", ()) is None


def test_no_word_takes_long() -> None:
    begun = time.process_time()
    nearest("help" * 1_000_000, NAMES * 100)
    assert time.process_time() - begun < 3
