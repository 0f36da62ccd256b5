from __future__ import annotations

import pytest

from ravesvc.dev import lines
from ravesvc.dev.lines import Entered
from ravesvc.errors import RaveError


@pytest.mark.parametrize(
    ("line", "entered"),
    [
        ("hello  there \n", Entered("", "hello  there")),
        ("?roll 6", Entered("", "?roll 6")),
        ("/as Bob", Entered("as", "bob")),
        ("/join  @Bob ", Entered("join", "bob")),
        ("/users", Entered("users", "")),
        ("/react 👍", Entered("react", "👍")),
        ("  \n", None),
    ],
)
def test_what_a_line_means(line: str, entered: Entered | None) -> None:
    assert lines.parse(line) == entered


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/jion Bob", "there is no /jion (/help lists what there is)"),
        ("/", "there is no /"),
        ("/\x1b[2J", "there is no /?[2J"),
        ("/join", "/join takes a user (write /join Bob)"),
        ("/react", "/react takes an emoji (write /react 👍)"),
        ("/react like", "'like' is no emoji"),
        ("/users Bob", "/users takes nothing (write /users)"),
        ("/as Bob and Cy", "'Bob and Cy' is no name"),
        ("/as Botty", "Botty is the bot"),
        (f"/as {'b' * 33}", "at most 32"),
    ],
)
def test_a_line_that_means_nothing_is_refused_in_words(line: str, why: str) -> None:
    with pytest.raises(RaveError) as refused:
        lines.parse(line)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("text", "handles"),
    [
        ("@Bob: hello @ann, @bob", ["bob", "ann"]),
        ("?kick @Botty", ["botty"]),
        ("Bob", []),
        ("mail ann@example.test @ @@", []),
    ],
)
def test_users_who_are_named_after_an_at_are_mentioned(text: str, handles: list[str]) -> None:
    assert lines.mentioned(text) == handles


def test_the_help_has_all_that_can_be_typed() -> None:
    written = [row.split("  ")[0].strip() for row in lines.help_text().splitlines()]
    assert written[0] == "any text"
    for each in written[1:]:
        entered = lines.parse(each)
        assert entered
        assert entered.order
