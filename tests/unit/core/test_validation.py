from __future__ import annotations

import pytest

from ravesvc.bot.command_names import FIXED_COMMANDS
from ravesvc.core import validation
from ravesvc.errors import Code, RaveError


@pytest.mark.parametrize("number", [1, 900000001, 2**63 - 1])
def test_a_user_id(number: int) -> None:
    assert validation.user_id(number) == number


@pytest.mark.parametrize("number", [0, 2**63, 2**64 - 1])
def test_what_is_no_user_id(number: int) -> None:
    with pytest.raises(RaveError, match=f"^{number} is not a user id") as e:
        validation.user_id(number)
    assert e.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ping", "ping"),
        ("PING", "ping"),
        ("Größe", "grösse"),
        ("x" * 32,) * 2,
        ("\uff30ing", "ping"),
        ("cafe\u0301", "caf\u00e9"),
    ],
)
def test_the_name_of_a_command(text: str, name: str) -> None:
    assert validation.command(text) == name


@pytest.mark.parametrize(
    "text", ["", "two words", " ping", "x" * 33, "a\nb", "a\x1b[31m", "\ud800", "ß" * 32, "\u200b"]
)
def test_what_is_no_name_of_a_command(text: str) -> None:
    with pytest.raises(RaveError, match="is not the name of a command") as e:
        validation.command(text)
    assert e.value.code is Code.INVALID_ARGUMENT
    assert str(e.value).isprintable()


@pytest.mark.parametrize("name", sorted(FIXED_COMMANDS))
def test_a_command_that_can_not_be_changed(name: str) -> None:
    for text in (name, name.upper()):
        with pytest.raises(RaveError, match=f"the command {name} is for .*, which can't be changed") as e:
            validation.command(text)
        assert e.value.code is Code.INVALID_ARGUMENT


def test_a_description_is_made_fit_or_made_up() -> None:
    assert validation.description("Pongs.", "ping") == "Pongs."
    assert validation.description("a\nb", "ping") == "a?b"
    assert validation.description("x" * 999, "ping") == "x" * 200
    assert validation.description("", "ping") == "Command: ping"
