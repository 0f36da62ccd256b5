"""Options set in the text of rave.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravesvc.config import rave_yaml
from ravesvc.ctl.operations.yaml_text import put

SHIPPED = (Path(__file__).parents[4] / "config/rave.yaml").read_text()


def test_the_shipped_file_takes_every_kind_in_its_place() -> None:
    text = SHIPPED
    for key, value in [("client_identity.mojo_api_key", '"k"'), ("debug", "true"), ("command_prefix", '["!"]')]:
        new = put(text, key, value)
        assert new
        assert new.count("\n") == text.count("\n"), "in the place of what shows the default"
        text = new
        assert put(text, key, '"x"') is None, "what is set stays"
    read, problems = rave_yaml.read(text, "rave.yaml")
    assert read, problems
    assert (read.identity.mojo_api_key, read.debug, read.command_prefix) == ("k", True, ("!",))


@pytest.mark.parametrize(
    ("text", "key", "after"),
    [
        ("", "debug", "debug: 1\n"),
        ("limit: 5", "debug", "limit: 5\ndebug: 1\n"),
        ("limit: 5\r\n", "debug", "limit: 5\r\ndebug: 1\r\n"),
        ("# debug: 0\nlimit: 5\n", "debug", "debug: 1\nlimit: 5\n"),
        ("debug:\nlimit: 5\n", "debug", "debug: 1\nlimit: 5\n"),
        ("debug:  # later\n", "debug", "debug: 1\n"),
        ("limit: 5\n", "client_identity.x", "limit: 5\nclient_identity:\n  x: 1\n"),
        (
            "client_identity:\n    y: 2\nlimit: 5\n",
            "client_identity.x",
            "client_identity:\n    x: 1\n    y: 2\nlimit: 5\n",
        ),
        (
            "client_identity:\n  #x:\n#x: 3\nlimit: 5\n",
            "client_identity.x",
            "client_identity:\n  x: 1\n#x: 3\nlimit: 5\n",
        ),
        # An option of another section is none of this one.
        ("tls:\n  #x: 3\nclient_identity:\n", "client_identity.x", "tls:\n  #x: 3\nclient_identity:\n  x: 1\n"),
    ],
)
def test_where_it_goes(text: str, key: str, after: str) -> None:
    assert put(text, key, "1") == after


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("debug: false\n", "debug"),
        ("command_prefix:\n  - a\n", "command_prefix"),
        ("command_prefix:\n- a\n", "command_prefix"),
        ("client_identity:\n  x: 2\n", "client_identity.x"),
        ("client_identity: {x: 2}\n", "client_identity.x"),
        ("client_identity: {y: 2}\n", "client_identity.x"),
    ],
)
def test_what_is_set_or_laid_out_otherwise_is_left(text: str, key: str) -> None:
    assert put(text, key, "1") is None
