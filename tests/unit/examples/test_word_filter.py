"""The word filter: what it finds and what it leaves alone, warnings, mutes and kicks, and what it remembers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ravesvc.bot.backend import MAX_DOCUMENT_BYTES
from ravesvc.errors import Code, RaveError
from ravesvc.testing import FakeRoom

FILE = Path(__file__).parents[3] / "docs/examples/word_filter.py"

NOT_LEADER = RaveError(Code.FORBIDDEN, "only the leader can do that")
WARNING = ["Bob, that word is not welcome here"]
LINK_WARNING = ["Bob, such links are not welcome here"]
MUTED = ["Bob is muted for 10 min: that word is not welcome here"]
KICKED = ["Bob is kicked: that word is not welcome here"]
HOUR_S, DAY_S = 3600.0, 86_400.0


def room_with_filter(kept: object = None) -> FakeRoom:
    """A room whose admin is Ann; `kept` is what its store has from before."""
    room = FakeRoom(admins=["Ann"])
    if kept:
        room.service.documents["plugin-word_filter"] = json.dumps(kept)
    room.load(FILE)
    return room


async def add(room: FakeRoom, *words: str) -> None:
    for word in words:
        assert await room.say(f"?filter add {word}") == ["Users may no longer write that"]


async def offend(room: FakeRoom, text: str = "ass", *, user: str = "Bob") -> list[str]:
    """A message of a user that comes long enough after the one before."""
    room.pass_time(10)
    return await room.say(text, user=user)


def asked(room: FakeRoom) -> list[tuple[object, ...]]:
    return [call for call in room.rave.asked if call[0] in ("mute", "unmute", "kick")]


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "what an ass",
        "ASS!",
        "ａｓｓ",
        "𝐚𝐬𝐬",
        "äss",
        "a\u0336s\u0336s\u0336",
        "a$$",
        "a5s",
        "@ss",
        "@ass",
        "aaasss",
        "asssss",
        "a.s.s",
        "a-s-s",
        "a_s_s.",
        "you a s s",
        "a  s  s",
        "a\u3164s\uffa0s",
        "i a s s",
        "a s s   now",
        "A\ns\ns",
        "as\u200bs",
        "äss,really",
        "a\u200bss,really",
        "\u0430ss",  # Cyrillic а
        "(ass)",
        "ass|",
        "stop!ass",
        "https://example.org/ass",
    ],
)
async def test_a_word_is_found_however_it_is_written(text: str) -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        assert await room.say(text, user="Bob") == WARNING


@pytest.mark.parametrize(
    "text",
    [
        "class",
        "c l a s s",
        "pass",
        "as",
        "As a rule",
        "assume nothing",
        "Assassins",
        "455",
        "4 5 5",
        "4.5.5",
        "a good, cool scene",
        "the pen is here",
        "a s",
        "",
        "?",
        "👍🏽",
        "das Gras ist naß",
        "сор",  # Russian, and looks as if it were Latin
    ],
)
async def test_what_only_looks_a_bit_like_a_word_is_left_alone(text: str) -> None:
    async with room_with_filter() as room:
        await add(room, "ass", "god", "penis", "col", "cop", "nas")
        assert await room.say(text, user="Bob") == []
        assert asked(room) == []


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("god", "gooood"),
        ("shit", "sh1t"),
        ("shit", "sh!t"),
        ("lick", "1ick"),
        ("fuck", "fuuck"),
        ("fuck", "f u c k"),
        ("fuck", "f u c k   y o u"),
        ("fuck", "fff uu ccc kk"),
        ("Scheiße", "SCHEISSE"),
        ("дурак", "Ду рак д у р а к"),
        ("1488", "1488"),
        ("b-a-d", "bad"),
        ("b4d", "bad"),
        ("пёс", "пес"),
    ],
)
async def test_other_words_of_other_forms_are_found(word: str, text: str) -> None:
    async with room_with_filter() as room:
        await add(room, word)
        assert await room.say(text, user="Bob") == WARNING


@pytest.mark.parametrize(
    "text",
    ["a" * 100_000, "a " * 50_000, "ﷺ" * 4000, "a.b." * 20_000, "\u0301\u0316" * 50_000, "1!" * 9000],
)
async def test_a_message_takes_bounded_work(text: str) -> None:
    kept = {"room": {"words": [f"word{n}" for n in range(200)], "links": "off"}}
    async with room_with_filter(kept) as room:
        begun = time.perf_counter()
        assert await room.say(text, user="Bob") == []
        assert time.perf_counter() - begun < 1.0


@pytest.mark.parametrize(("before", "said"), [("x" * 1996, WARNING), ("x" * 2000, []), ("ﷺ" * 1000, WARNING)])
async def test_of_a_long_message_the_beginning_is_read(before: str, said: list[str]) -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        assert await room.say(f"{before} ass", user="Bob") == said


# --- links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example/",
        "see http://evil.example",
        "HTTPS://EVIL.EXAMPLE",
        "evil.com",
        "(evil.com)",
        "evil.com.",
        "look:evil.com:8080",
        "www.evil.example",
        "discord.gg/abc",
        "youtu.be/abc",
        "evil。com",
        "ｅｖｉｌ．ｃｏｍ",
        "https://example.org@evil.com/",
        "https://evil.com\\@example.org",
        "https://example.org.evil.com/",
        "https://notexample.org/",
        "https://exämple.org/",
        "[x](https://evil.com)",
        "https://example.org https://evil.com",
    ],
)
async def test_links_may_be_off_but_for_some_sites(text: str) -> None:
    async with room_with_filter() as room:
        assert await room.say(text, user="Bob") == []
        assert await room.say("?filter links off") == ["Users may not write links"]
        (said,) = await room.say("?filter allow https://www.Example.org/page")
        assert said == "Users may write links to example.org"
        assert await room.say(text, user="Bob") == LINK_WARNING


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/",
        "https://example.org:443/a?b=https",
        "http://ann@example.org#x",
        "https://www.example.org",
        "example.org",
        "EXAMPLE.ORG/page",
        "tell.me more",
        "and/or",
        "Mr.Smith",
        "3.14",
        "24.12./25.12.",
        "ok...bye",
        "ann@example.com",
        "://",
        "he said:no",
    ],
)
async def test_allowed_sites_and_what_is_no_link_are_left_alone(text: str) -> None:
    async with room_with_filter() as room:
        await room.say("?filter links off")
        await room.say("?filter allow example.org")
        assert await room.say(text, user="Bob") == []


# --- what follows ---------------------------------------------------------------------------------------------------


async def test_a_user_is_warned_then_muted_then_kicked() -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        bob = room.user_id("Bob")
        assert await offend(room) == WARNING
        assert asked(room) == []
        assert await offend(room) == MUTED
        assert asked(room) == [("mute", bob)]
        assert await offend(room) == KICKED
        assert await offend(room) == KICKED
        assert asked(room) == [("mute", bob), ("kick", bob), ("kick", bob)]
        assert await offend(room, user="Cid") == ["Cid, that word is not welcome here"]


async def test_messages_that_are_written_at_once_count_as_one_offence() -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        assert await room.say("ass", user="Bob") == WARNING
        assert await room.say("ass ass", user="Bob") == []
        room.pass_time(2.9)
        assert await room.say("ass", user="Bob") == []
        room.pass_time(0.2)
        assert await room.say("ass", user="Bob") == MUTED


async def test_admins_may_write_what_they_like() -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        assert await room.say("ass", user="Ann") == []
        assert await room.service.read_document("plugin-word_filter") == '{"room":{"words":["ass"]}}'


async def test_a_mute_ends() -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        await offend(room)
        await offend(room)
        assert await room.run_for(590) == []
        assert asked(room) == [("mute", room.user_id("Bob"))]
        await room.run_for(40)
        assert asked(room)[1:] == [("unmute", room.user_id("Bob"))]
        await room.run_for(HOUR_S)
        assert len(asked(room)) == 2


async def test_a_mute_ends_after_a_restart() -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        await offend(room)
        await offend(room)
    async with FakeRoom(admins=["Ann"]) as other:
        other.service.documents = room.service.documents
        other.user_id("Ann")
        other.load(FILE)
        await other.run_for(590)
        assert asked(other) == []
        await other.run_for(60)
        assert asked(other) == [("unmute", other.user_id("Bob"))]
        assert await offend(other) == KICKED, "what came before is remembered"
    assert "muted_until" not in other.service.documents["plugin-word_filter"]


@pytest.mark.parametrize("code", [Code.FORBIDDEN, Code.NETWORK])
async def test_a_mute_that_can_not_be_ended_is_tried_again(code: Code) -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        await offend(room)
        await offend(room)
        room.rave.fails["unmute"] = RaveError(code, "not now")
        said = await room.run_for(HOUR_S)
        assert [text[:22] for text in said] == (["I can't mute and kick "] * 2 if code is Code.FORBIDDEN else [])
        assert 8 <= len(asked(room)) <= 12
        room.rave.fails.clear()
        await room.run_for(400)
        tries = len(asked(room))
        await room.run_for(HOUR_S)
        assert len(asked(room)) == tries


async def test_a_user_who_has_left_is_not_unmuted_again_and_again() -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        await offend(room)
        await offend(room)
        room.rave.fails["unmute"] = RaveError(Code.NOT_FOUND, "Rave finds no such user in this room")
        await room.run_for(HOUR_S)
        assert [call[0] for call in asked(room)] == ["mute", "unmute"]


@pytest.mark.parametrize("code", [Code.FORBIDDEN, Code.REFUSED])
async def test_without_the_right_it_warns_and_says_once_in_a_while_why(code: Code) -> None:
    told = "I can't mute and kick here, as I am not the leader. The leader can make me so in the app"
    async with room_with_filter() as room:
        await add(room, "ass")
        room.rave.fails = dict.fromkeys(["mute", "kick"], RaveError(code, "no"))
        assert await offend(room) == WARNING
        assert await offend(room) == [told, *WARNING]
        assert await offend(room) == WARNING
        assert [call[0] for call in asked(room)] == ["mute", "kick"]
        room.pass_time(1800)
        assert await offend(room) == [told, *WARNING]
        room.rave.fails.clear()
        assert await offend(room) == KICKED
        (said,) = await room.say("?filter history")
        assert [line.rpartition(" ")[2] for line in said.splitlines()] == ["kicked", *["warned"] * 4]


async def test_a_failure_of_another_kind_is_no_missing_right() -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        room.rave.fails["mute"] = RaveError(Code.RATE_LIMITED, "wait")
        await offend(room)
        assert await offend(room) == WARNING


async def test_offences_are_forgotten_after_a_day() -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        await offend(room)
        room.pass_time(DAY_S)
        assert await offend(room) == WARNING
        assert await offend(room) == MUTED
        room.pass_time(DAY_S)
        await room.run_for(2 * HOUR_S)
        assert await room.say("?filter history") == ["Nothing within a day"]
        assert json.loads(room.service.documents["plugin-word_filter"])["users"] == {}


async def test_a_mute_that_can_not_be_ended_for_a_day_is_given_up() -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        await offend(room)
        await offend(room)
        room.rave.fails["unmute"] = RaveError(Code.NETWORK, "no way")
        room.pass_time(DAY_S)
        await room.run_for(2 * HOUR_S)
        assert json.loads(room.service.documents["plugin-word_filter"])["users"] == {}
        tries = len(asked(room))
        await room.run_for(2 * HOUR_S)
        assert len(asked(room)) == tries


async def test_a_user_who_is_forgotten_is_unmuted_and_begins_anew_with_the_next_bot_alone() -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        await offend(room)
        await offend(room)
        # As `?forgetme` does it.
        room.service.documents["plugin-word_filter"] = '{"room":{"words":["ass"]}}'
        room._bot.forget_user(room.user_id("Bob"))
        assert await room.say("?filter history") == ["Nothing within a day"]
        await room.run_for(HOUR_S)
        assert [call[0] for call in asked(room)] == ["mute", "unmute"]
        assert str(room.user_id("Bob")) not in json.loads(room.service.documents["plugin-word_filter"])["users"]
        assert await offend(room) == ["Bob is kicked: that word is not welcome here"]
        kept = json.loads(room.service.documents["plugin-word_filter"])["users"][str(room.user_id("Bob"))]
        assert len(kept["offences"]) == 1, "what was forgotten is not written again"


async def test_it_says_who_wrote_what() -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        await room.say("?filter links off")
        await offend(room, "a$$")
        await room.run_for(HOUR_S * 2)
        await offend(room, "https://evil.example/", user="Cid")
        room.pass_time(300)
        assert await room.say("?filter history") == [
            "• 5 min ago: Cid wrote a link: warned\n• 2 h ago: Bob wrote “ass”: warned"
        ]
        assert await room.say("?filter history @Bob") == ["• 2 h ago: Bob wrote “ass”: warned"]
        assert await room.say(f"?filter history {room.user_id('Cid')}") == ["• 5 min ago: Cid wrote a link: warned"]
        assert await room.say("?filter history @Eve") == ["Nothing within a day"]


async def test_it_tells_the_latest_only() -> None:
    async with room_with_filter() as room:
        await add(room, "ass")
        for n in range(14):
            await offend(room, user=f"User{n}")
        (said,) = await room.say("?filter history")
        assert [line.split()[4] for line in said.splitlines()] == [f"User{n}" for n in range(13, 3, -1)]


# --- the list -------------------------------------------------------------------------------------------------------


async def test_admins_change_the_list_and_it_is_remembered() -> None:
    async with room_with_filter() as room:
        assert await room.say("?filter list") == ["Words: none\nLinks: on"]
        await add(room, "Spoiler", "ass")
        await room.say("?filter allow example.org")
        await room.say("?filter links off")
        assert await room.say("?filter remove ａｓｓ") == ["Removed"]
        assert await room.say("ass", user="Bob") == []
    async with FakeRoom(admins=["Ann"]) as other:
        other.service.documents = room.service.documents
        other.user_id("Ann")
        other.load(FILE)
        assert await other.say("?filter list") == ["Words: spoiler\nLinks: off, but to example.org"]
        assert await other.say("SPOILER!", user="Bob") == WARNING
        assert await other.say("?filter remove example.org") == ["Removed"]
        assert await other.say("?filter list") == ["Words: spoiler\nLinks: off"]
        await other.say("?filter links on")
        assert await offend(other, "example.org") == []


@pytest.mark.parametrize(
    "text",
    [
        "?filter add ass",
        "?filter remove ass",
        "?filter links on",
        "?filter allow example.org",
        "?filter list",
        "?filter history",
    ],
)
async def test_only_admins_may(text: str) -> None:
    async with room_with_filter() as room:
        (said,) = await room.say(text, user="Bob")
        assert said.startswith("Only admins may use ?filter ")
        assert room.service.documents == {}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("?filter add", "Write ?filter add <word>"),
        ("?filter add a b", "“b” is a word too many"),
        ('?filter add "a b"', "That is no word of 2 to 24 letters. Give one word at a time"),
        ("?filter add x", "That is no word of 2 to 24 letters"),
        ("?filter add ...", "That is no word of 2 to 24 letters"),
        (f"?filter add {'x' * 25}", "That is no word of 2 to 24 letters"),
        ("?filter add SPOILER", "That word is in the list already"),
        ("?filter remove other", "That is not in the list. See ?filter list"),
        ("?filter links maybe", "“maybe” is none of: on, off"),
        ("?filter allow example", "That is no site. Write it as example.org"),
        ("?filter allow exa_mple..org", "That is no site"),
        (f"?filter allow {'x' * 64}.org", "That is no site"),
        ("?filter history nobody", "“nobody” is no user"),
    ],
)
async def test_what_makes_no_sense_is_told(text: str, answer: str) -> None:
    async with room_with_filter() as room:
        await add(room, "spoiler")
        before = dict(room.service.documents)
        (said,) = await room.say(text)
        assert said.startswith(answer)
        assert room.service.documents == before


def long_word(n: int) -> str:
    return "词" * 20 + f"{n:04}"


def long_site(n: int) -> str:
    return f"{'x' * 56}{n:02}.org"


async def test_there_are_so_many_words_and_sites_and_not_more() -> None:
    kept = {"words": [long_word(n) for n in range(199)], "sites": [long_site(n) for n in range(49)]}
    async with room_with_filter({"room": kept}) as room:
        await add(room, long_word(199))
        (said,) = await room.say("?filter add more")
        assert said.startswith("There are 200 words already. Remove one first")
        await room.say(f"?filter allow {long_site(49)}")
        (said,) = await room.say("?filter allow more.example.org")
        assert said.startswith("There are 50 sites already. Remove one first")
        assert await room.say(f"?filter allow {long_site(7)}") == [f"Users may write links to {long_site(7)}"]


async def test_so_many_users_are_remembered_and_all_of_it_has_its_place() -> None:
    offence = {"word": long_word(7), "done": "warned"}
    before = {
        str(900000000 + n): {"offences": [{"at": round(time.time()) - 3600 + n, **offence}] * 5} for n in range(60)
    }
    kept = {"words": [long_word(n) for n in range(200)], "sites": [long_site(n) for n in range(50)]}
    async with room_with_filter({"room": kept, "users": before}) as room:
        for _ in range(9):
            assert await offend(room, long_word(7)) != []
        text = room.service.documents["plugin-word_filter"]
        assert 50_000 < len(text.encode()) < MAX_DOCUMENT_BYTES
        users = json.loads(text)["users"]
        assert users.keys() == {str(room.user_id("Bob")), *sorted(before)[1:]}
        assert len(users[str(room.user_id("Bob"))]["offences"]) == 5
