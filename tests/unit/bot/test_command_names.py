from __future__ import annotations

import pytest

from ravesvc.bot.command_names import ADMIN_COMMANDS, CLAIM, LEAVE, command_key, refuse_fixed
from ravesvc.errors import Code, RaveError


@pytest.mark.parametrize("name", ["ping", "PING", "\uff50ing"])
def test_names_that_differ_in_spelling_have_one_key(name: str) -> None:
    assert command_key(name) == "ping"


@pytest.mark.parametrize("name", ["", "two words", "x" * 33, "a\n", "\u200b", "\ufdfa\ufdfa"])
def test_what_nobody_can_type_has_no_key(name: str) -> None:
    assert command_key(name) is None


@pytest.mark.parametrize(
    ("name", "whose"), [*((name, "admins") for name in sorted(ADMIN_COMMANDS)), (CLAIM, "all users")]
)
def test_permissions_of_fixed_commands_cannot_be_changed(name: str, whose: str) -> None:
    with pytest.raises(RaveError, match=f"^the command {name} is for {whose}, which can't be changed") as caught:
        refuse_fixed(name)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("name", [LEAVE, "ping"])
def test_those_of_others_can(name: str) -> None:
    refuse_fixed(name)
