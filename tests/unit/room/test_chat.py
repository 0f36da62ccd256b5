from __future__ import annotations

from typing import Any

import pytest

from ravesvc.common.picture import Media
from ravesvc.errors import Code, RaveError
from ravesvc.room.chat import (
    ChatMessage,
    Mention,
    OwnMessages,
    Reaction,
    chat_data,
    is_emoji,
    parse_chat,
    reaction_data,
    same_emoji,
)

PEER = "900000002_0123456789abcdef0123456789abcdef"


def data(**other: Any) -> dict[str, Any]:
    return {"from": PEER, "chat": "@botty hi", "id": "m1", "reply": None, **other}


def test_a_full_message() -> None:
    metas = [{"handle": "botty", "id": "900000001"}, {"handle": "ann", "id": 5}]
    assert parse_chat(data(reply="m0", user_metas=metas, media=[], detected_lang="en")) == ChatMessage(
        id="m1",
        sender_peer=PEER,
        sender=900000002,
        text="@botty hi",
        reply_to="m0",
        mentions=(Mention(900000001, "botty"), Mention(5, "ann")),
    )


def test_a_reaction_has_an_empty_text() -> None:
    assert parse_chat(data(chat="", detected_lang=None, translations=None, user_metas=None)).text == ""
    assert parse_chat(data(chat=None)).text == ""


@pytest.mark.parametrize(("peer", "sender"), [("7_x_y", 7), ("7", 7), ("", None), ("x_7", None), ("-7_x", None)])
def test_the_sender(peer: str, sender: int | None) -> None:
    assert parse_chat({**data(), "from": peer}).sender == sender


def test_mentions_that_cannot_be_read_are_left_out() -> None:
    metas = ["x", None, {}, {"handle": "a"}, {"id": "b"}, {"id": 5, "handle": 6}, 7]
    assert parse_chat(data(user_metas=metas)).mentions == (Mention(5, ""), Mention(7, ""))


def test_half_surrogate_pairs_are_replaced() -> None:
    metas = [{"id": 1, "handle": "\udc00"}]
    message = parse_chat(
        data(chat="a\ud800b😀", user_metas=metas) | {"id": "\ud83d", "from": "5_\ud83d", "reply": "\ud83d"}
    )
    assert (message.id, message.sender_peer, message.reply_to) == ("?", "5_?", "?")
    assert message.text == "a?b😀"
    assert message.mentions[0].handle == "?"


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"id": 5},
        {"id": "x" * 129},
        {"from": None},
        {"from": 5},
        {"from": "1_" + "x" * 200},
        {"chat": 5},
        {"reply": 5},
        {"user_metas": {}},
    ],
)
def test_what_cannot_be_read_is_bad_data(broken: dict[str, Any]) -> None:
    with pytest.raises(RaveError) as caught:
        parse_chat({**data(), **broken} if broken else {})
    assert caught.value.code is Code.BAD_DATA


def test_what_we_send() -> None:
    assert chat_data("m1", "hi", "de", None, ()) == {
        "chat": "hi",
        "id": "m1",
        "detected_lang": "de",
        "translations": {},
    }
    full = chat_data("m1", "hi", "de", "m0", [Mention(5, "ann")])
    assert full["reply"] == "m0"
    assert full["user_metas"] == [{"handle": "ann", "id": 5}]


def test_own_messages_forget_the_oldest() -> None:
    own = OwnMessages(limit=3)
    for message_id in ("a", "b", "c", "a", "d"):
        own.remember(message_id)
    assert "b" not in own
    assert all(message_id in own for message_id in ("c", "a", "d"))


def test_a_message_is_known_by_the_ids_that_are_left_of_it() -> None:
    own = OwnMessages(limit=3)
    own.remember("a")
    own.remember("server's", "a")
    own.remember("b")
    assert own.ids_of("a") == own.ids_of("server's") == {"a", "server's"}
    assert own.ids_of("b") == {"b"}
    own.remember("c")
    assert own.ids_of("server's") == {"server's"}
    assert own.ids_of("another") == {"another"}


PICTURE = Media("https://pictures.example/1", "image/jpeg", "0.56")


def test_a_picture_comes_back_as_it_went_out() -> None:
    sent = chat_data("m1", "", "en", None, (), [PICTURE, Media("https://pictures.example/2", "image/gif")])
    assert sent["media"] == [
        {
            "index": 0,
            "url": "https://pictures.example/1",
            "mime": "image/jpeg",
            "isExplicit": False,
            "aspectRatio": "0.56",
            "thumbnailUrl": "",
        },
        {
            "index": 1,
            "url": "https://pictures.example/2",
            "mime": "image/gif",
            "isExplicit": False,
            "aspectRatio": "",
            "thumbnailUrl": "",
        },
    ]
    assert parse_chat({**sent, "from": PEER}).media == (PICTURE, Media("https://pictures.example/2", "image/gif"))
    assert "media" not in chat_data("m1", "hi", "en", None, ())


def test_media_that_cannot_be_read_are_left_out_and_cost_no_text() -> None:
    entries = [None, 7, "https://x", [], {}, {"mime": "image/png"}, {"url": 5}, {"url": "u", "mime": 5}]
    message = parse_chat(data(media=entries))
    assert (message.text, message.media) == ("@botty hi", (Media("u", ""),))
    assert parse_chat(data(media={"url": "u"})).media == ()


def test_only_so_many_media_of_a_bounded_length_are_read() -> None:
    media = parse_chat(data(media=[{"url": "u" * 5000, "mime": "a\nb\ud800"}] * 1000)).media
    assert len(media) == 16
    assert media[0] == Media("u" * 2000, "a?b?")


@pytest.mark.parametrize("emoji", ["👍", "👍🏽", "❤️", "❤", "‼️", "🇩🇪", "1️⃣", "👨‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🏳️‍🌈", "👩🏽‍🚀", "🫠"])
def test_an_emoji(emoji: str) -> None:
    assert is_emoji(emoji)


@pytest.mark.parametrize(
    "text", ["", "a", "1", "👍👍", "👍 ", "👍a", ":+1:", "\u200d", "👍\u200d", "👍" + "\U000e0067" * 20, "Ж", "漢"]
)
def test_no_emoji(text: str) -> None:
    assert not is_emoji(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("\u2b50", "\u2b50\ufe0f", True),
        ("\U0001f44d\U0001f3fd", "\U0001f44d", True),
        ("\U0001f44d\U0001f3fd", "\U0001f44d\U0001f3ff", True),
        ("\U0001f44d", "\U0001f44e", False),
        ("\U0001f3fd", "\U0001f3fd", True),
        ("\U0001f3fd", "\U0001f3ff", False),
    ],
)
def test_what_keyboards_add_makes_no_other_emoji(one: str, other: str, same: bool) -> None:
    assert same_emoji(one, other) is same


def test_a_reaction_is_known_by_what_it_is_to() -> None:
    sent = reaction_data("r1", Reaction("👍", "m1"))
    message = parse_chat({**sent, "from": PEER})
    assert (message.id, message.text, message.reaction, message.answered_as) == ("r1", "", Reaction("👍", "m1"), "m1")
    assert message.sender == parse_chat(data()).sender


@pytest.mark.parametrize(
    "fields", [{"reaction": None, "emoji": None}, {"reaction": "", "emoji": "👍"}, {"reaction": "m0", "chat": "text"}]
)
def test_a_message_that_names_reactions_is_none(fields: dict[str, Any]) -> None:
    message = parse_chat(data(**fields))
    assert (message.reaction, message.answered_as) == (None, "m1")


@pytest.mark.parametrize(
    "fields",
    [{"emoji": "like"}, {"emoji": None}, {"emoji": 5}, {"emoji": "👍" * 9}, {"reaction": 5}, {"reaction": "x" * 129}],
)
def test_a_reaction_of_another_kind_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RaveError) as caught:
        parse_chat(data(**{"chat": "", "emoji": "👍", "reaction": "m0", **fields}))
    assert caught.value.code is Code.BAD_DATA


def test_others_know_a_message_by_the_id_that_the_server_gave_it() -> None:
    own = OwnMessages()
    own.remember("a")
    assert (own.shown_as("a"), own.shown_as("other")) == ("a", "other")
    own.remember("theirs", "a")
    assert own.shown_as("a") == own.shown_as("theirs") == "theirs"
