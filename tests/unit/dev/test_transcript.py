from __future__ import annotations

from typing import Any

import pytest

from ravesvc.dev import transcript

MESH = "this"


def told(**event: Any) -> str:
    return transcript.told({"mesh": MESH, **event}, MESH, str.title)


def chat(text: str, *media: str) -> dict[str, Any]:
    return {"type": "chat", "user": "bob", "text": text, "media": list(media)}


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (chat("hello"), "Bob> hello"),
        (chat("one\ntwo\n\nthree"), "Bob> one\n     two\n     \n     three"),
        (chat("Look", "https://localhost/1"), "Bob> Look https://localhost/1"),
        (chat("", "https://localhost/1"), "Bob> https://localhost/1"),
        (chat("a\x1b[2Jb"), "Bob> a?[2Jb"),
        ({"type": "joined", "users": ["ann", "bob"]}, "* Ann has joined\n* Bob has joined"),
        ({"type": "left", "users": ["ann"]}, "* Ann has left"),
        ({"type": "kicked", "user": "ann"}, "* Ann was kicked"),
        ({"type": "left", "users": ["botty"]}, "* Botty has left; /restart brings it back"),
        ({"type": "joined", "users": ["botty"]}, "* Botty has joined"),
        ({"type": "typing", "user": "ann"}, ""),
        (chat("hello") | {"mesh": "another"}, ""),
    ],
)
def test_what_happens_is_told(event: dict[str, Any], text: str) -> None:
    assert told(**event) == text


def test_what_is_about_no_room_is_not_told() -> None:
    assert transcript.told({"type": "mail"}, MESH, str.title) == ""


def test_what_the_program_says_is_no_message() -> None:
    assert transcript.notice("one\ntwo") == "* one\n  two"
    assert transcript.trouble("") == "! "


def test_a_reaction_is_told() -> None:
    event = {"type": "reaction", "mesh": "m", "user": "bob", "emoji": "👍", "to": "i"}
    assert transcript.told(event, "m", str.title) == "* Bob reacts with 👍"
