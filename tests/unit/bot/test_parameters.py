"""Handlers with parameters, as authors write them and users fill them."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from ravesvc.bot.video_finder import VideoFinder
from ravesvc.common.video import Video
from ravesvc.errors import RaveError
from ravesvc.testing import FakeRoom, FakeService

HEAD = """
from typing import Literal
from ravesvc.commands import Duration, Member, Permission, UserId, command
from enum import Enum
from typing import Annotated
from ravesvc.commands import Range, UserError

class Color(Enum):
    LIGHT_RED = 5
    BLUE = 6

class Even:
    def __init__(self, number):
        self.number = number

    @classmethod
    def from_word(cls, word):
        if int(word) % 2:
            raise UserError("that is odd", hint="take one more")
        return cls(int(word))

    def __repr__(self):
        return f"Even({self.number})"

"""


def load(room: FakeRoom, directory: Path, text: str) -> None:
    file = directory / "own.py"
    file.write_text(HEAD + textwrap.dedent(text))
    room.load(file)


async def answer(directory: Path, signature: str, said: str) -> str:
    """What the bot answers to `?it {said}`: the values that a handler with this signature gets."""
    async with FakeRoom() as room:
        names = "a" if "a" in signature else ""
        load(
            room,
            directory,
            f"""
            @command("it", "Shows what it gets.")
            async def it(context{", " if signature else ""}{signature}):
                await context.reply(repr({names}))
            """,
        )
        await room.join("Bob")
        (said,) = await room.say(f"?it {said}")
        return said


@pytest.mark.parametrize(
    ("signature", "said", "value"),
    [
        ("a", "word", "'word'"),
        ("a: str", '"two words"', "'two words'"),
        ("a: str", "“two words”", "'two words'"),
        ("a: str", '""', "''"),
        ("a: str", '5"', "'5\"'"),
        ("a: str", '"5', "'\"5'"),
        ("a: int", "-12", "-12"),
        ("a: int", "\uff11\uff12", "12"),
        ("a: float", "2.5", "2.5"),
        ("a: float", "2,5", "2.5"),
        ("a: float", ".5", "0.5"),
        ("a: bool", "Yes", "True"),
        ("a: bool", "off", "False"),
        ("a: Literal['red', 'Blue']", "blue", "'Blue'"),
        ("a: Literal[1, 2]", "2", "2"),
        ("a: Duration", "1h30min", "5400.0"),
        ("a: Duration", "10 min", "600.0"),
        ("a: Duration", "1 hour 30 Minutes", "5400.0"),
        ("a: Duration", "1,5h", "5400.0"),
        ("a: Duration", "90", "90.0"),
        ("b: Duration, *, a", "10 min tea", "'tea'"),
        ("b: Duration, *, a", "10 meals", "'meals'"),
        ("a: int = 7", "", "7"),
        ("a: int = 7", "8", "8"),
        ("a: int | None = None", "", "None"),
        ("a: int | None = None", "8", "8"),
        ("*a: int", "", "()"),
        ("*a: int", "1 2 3", "(1, 2, 3)"),
        ("*, a: str", "  two   words ", "'two   words'"),
        ("*, a: str = 'none'", "", "'none'"),
        ("b: int, *, a", '1 "as it" is', "'\"as it\" is'"),
        ("a: Member", "@Bob", "Member(id=2, name='Bob')"),
        ("a: Member", "2", "Member(id=2, name='Bob')"),
        ("a: UserId", "99", "99"),
        ("a: 'int'", "5", "5"),
        ("a: Annotated[int, Range(1, 6)]", "6", "6"),
        ("a: Annotated[int, Range(1, 6)] = 1", "", "1"),
        ("a: Annotated[int, Range(1, 6)] | None = None", "1", "1"),
        ("*a: Annotated[float, 'in seconds', Range(-0.5, 0.5)]", "0.5 -,5", "(0.5, -0.5)"),
        ("a: Annotated[int, 'anything']", "99", "99"),
        ("a: Color", "Light_red", "<Color.LIGHT_RED: 5>"),
        ("a: Color = Color.BLUE", "", "<Color.BLUE: 6>"),
        ("a: Even", "8", "Even(8)"),
        ("*a: Even", "2 4", "(Even(2), Even(4))"),
    ],
)
async def test_words_fill_parameters(tmp_path: Path, signature: str, said: str, value: str) -> None:
    assert await answer(tmp_path, signature, said) == value


@pytest.mark.parametrize(
    ("signature", "said", "told"),
    [
        ("a: int", "", "Write ?it <a>"),
        ("a: int", "1 2", "“2” is a word too many. Write ?it <a>"),
        ("a: int", "five", "“five” is no whole number. Write ?it <a>"),
        ("a: int", "1_000", "“1_000” is no whole number. Write ?it <a>"),
        ("a: int", "9" * 33, f"“{'9' * 33}” is no whole number. Write ?it <a>"),
        ("a: int = 1", "five", "“five” is no whole number. Write ?it [a]"),
        ("a: float", "nan", "“nan” is no number. Write ?it <a>"),
        ("a: bool", "maybe", "“maybe” is neither yes nor no. Write ?it <a>"),
        ("a: Duration", "soon", "“soon” is no time such as 90s or 10min. Write ?it <a>"),
        ("a: Literal['red', 'blue']", "green", "“green” is none of: red, blue. Write ?it <red|blue>"),
        ("*a: int", "1 x", "“x” is no whole number. Write ?it [a ...]"),
        ("*a: int", "1 " * 101, "“1” is a word too many. Write ?it [a ...]"),
        ("*, a", "", "Write ?it <a>"),
        ("a: Member", "Bob", "“Bob” is no user. Write ?it <@a>"),
        ("a: Member", "99", "That user is not in this room"),
        ("a: Member", "@Bob @Ann", "“@Ann” is a word too many. Write ?it <@a>"),
        ("a: Duration", "999999d", "“999999d” is no time such as 90s or 10min. Write ?it <a>"),
        ("user_name: str, a: int = 1", "", "Write ?it <user name> [a]"),
        ("a: Annotated[int, Range(1, 6)]", "7", "“7” is no number from 1 to 6. Write ?it <1-6>"),
        ("a: Annotated[int, Range(-5, 6)]", "7", "“7” is no number from -5 to 6. Write ?it <-5..6>"),
        ("a: Annotated[int, Range(1, 6)] = 1", "x", "“x” is no number from 1 to 6. Write ?it [1-6]"),
        (
            "a: Annotated[float, Range(0.5, 1e6)]",
            "0",
            "“0” is no number from 0.5 to 1000000. Write ?it <0.5-1000000>",
        ),
        ("a: Color", "6", "“6” is none of: light_red, blue. Write ?it <light_red|blue>"),
        ("a: Even", "x", "“x” is no Even. Write ?it <a>"),
        ("a: Even", "3", "That is odd. Take one more"),
    ],
)
async def test_what_does_not_fit_is_answered_with_how_to_write_it(
    tmp_path: Path, signature: str, said: str, told: str
) -> None:
    assert (await answer(tmp_path, signature, said)).startswith(f"{told} (error ")


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        ("a: list", "the parameter a of it has a type that no word can give"),
        ("a: int | str", "the parameter a of it has a type that no word can give"),
        ("a: 'Missing'", "the parameter a of it has an unknown type: name 'Missing' is not defined"),
        ("*, a: int", "stands after *, so it is the rest of the line"),
        ("**a", "words have no names"),
        ("a: int = 'x'", "the default of a of it is not of its type"),
        ("a: Literal['x'] = 'y'", "the default of a of it is not of its type"),
        ("*, a, b", "the parameter b of it gets no word, as a takes all that are left"),
        ("*b, a", "the parameter a of it gets no word, as b takes all that are left"),
        ("a: Annotated[str, Range(1, 6)]", "the parameter a of it has a type that no word can give"),
        ("a: Annotated[int, Range(6, 1)]", "the parameter a of it has a type that no word can give"),
        ("a: Annotated[int, Range(1, 6)] = 7", "the default of a of it is not of its type"),
        ("a: Enum", "the parameter a of it has a type that no word can give"),
        ("a: Color = 5", "the default of a of it is not of its type"),
    ],
)
async def test_parameters_that_no_words_can_fill_are_refused_when_the_file_is_loaded(
    tmp_path: Path, signature: str, told: str
) -> None:
    with pytest.raises(RaveError) as caught:
        await answer(tmp_path, signature, "")
    assert told in str(caught.value)


async def test_a_handler_without_a_context_is_refused(tmp_path: Path) -> None:
    async with FakeRoom() as room:
        with pytest.raises(RaveError, match=r"write async def it\(context\)"):
            load(room, tmp_path, '@command("it", "Nothing.")\nasync def it(): ...')


async def test_a_mention_may_have_blanks_and_a_second_user_may_be_asked_for(tmp_path: Path) -> None:
    async with FakeRoom() as room:
        load(
            room,
            tmp_path,
            """
            @command("pair", "Pairs two users.")
            async def pair(context, one: Member, other: Member, *, why: str = ""):
                await context.reply(f"{one.name} and {other.name} {why}".strip())
            """,
        )
        await room.join("Bob")
        await room.join("Cy")
        assert await room.say("?pair @Bob @Cy for fun") == ["Bob and Cy for fun"]
        assert await room.say("?pair @Cy 2") == ["Cy and Bob"]
        assert await room.say("?pair @Bob, @Cy as @Ann says") == ["Bob and Cy as @Ann says"]


SHOP = """
@command("shop", "Sells things.", usage="<thing>", aliases=["store", "kiosk"])
async def shop(context, thing: str):
    await context.reply(f"Here is the {thing}")

@command("shop price", "Tells what a thing costs.", aliases=["shop cost"])
async def price(context, thing: str):
    await context.reply(f"{thing} is free")

@command("quiz start", "Starts a quiz.")
async def start(context, rounds: int = 3):
    await context.reply(f"{rounds} rounds")

@command("quiz stop", "Ends the quiz.", permission=Permission.ADMIN)
async def stop(context):
    await context.reply("Over")
"""


async def test_a_sub_command_comes_before_its_command(tmp_path: Path) -> None:
    async with FakeRoom() as room:
        load(room, tmp_path, SHOP)
        assert await room.say("?shop tea") == ["Here is the tea"]
        assert await room.say("?Kiosk tea") == ["Here is the tea"]
        assert await room.say("?shop PRICE tea") == ["tea is free"]
        assert await room.say("?shop cost tea") == ["tea is free"]
        assert await room.say("?quiz start 5") == ["5 rounds"]


async def test_a_command_of_sub_commands_alone_tells_those_that_one_may_run(tmp_path: Path) -> None:
    async with FakeRoom(admins=["Ann"]) as room:
        load(room, tmp_path, SHOP)
        for text in ("?quiz", "?quiz pause"):
            (said,) = await room.say(text, user="Ann")
            assert said.startswith("Write ?quiz start|stop (error ")
            (said,) = await room.say(text, user="Bob")
            assert said.startswith("Write ?quiz start (error ")
        (said,) = await room.say("?quiz stop", user="Bob")
        assert said.startswith("Only admins may use ?quiz stop")


async def test_a_name_is_given_once_in_a_file_but_the_command_of_a_family_may_follow(tmp_path: Path) -> None:
    twice = '@command("{}", "One.")\nasync def one(context): ...\n'
    async with FakeRoom() as room:
        with pytest.raises(RaveError, match="dup is the name of two commands"):
            load(room, tmp_path, twice.format("dup") * 2)
        load(room, tmp_path, twice.format("quiz start") + twice.format("quiz"))
        assert await room.say("?quiz") == []


async def test_an_author_says_in_words_what_is_wrong(tmp_path: Path) -> None:
    text = """
    from ravesvc.commands import UserError

    @command("roll", "Rolls.", cooldown=30)
    async def roll(context, dice: str):
        raise UserError(f"{dice} are no dice", hint="write 3d6")
    """
    async with FakeRoom() as room:
        load(room, tmp_path, text)
        for _ in range(2):
            (said,) = await room.say("?roll 3x6")
            assert said.startswith("3x6 are no dice. Write 3d6 (error ")


async def test_help_has_usage_aliases_and_sub_commands(tmp_path: Path) -> None:
    async with FakeRoom() as room:
        load(room, tmp_path, SHOP)
        (said,) = await room.say("?help")
        assert "• **More**: quiz, shop\n" in said
        (said,) = await room.say("?help shop")
        assert said.splitlines()[1:4] == [
            "• **?shop price**: Tells what a thing costs.",
            "• Or: ?store, ?kiosk",
            "• Usage: ?shop <thing>",
        ]
        (said,) = await room.say("?help quiz start")
        assert "• Usage: ?quiz start [rounds]" in said
        (said,) = await room.say("?help shop cost")
        assert said.startswith("• **?shop price**")
        (said,) = await room.say("?help kiosk")
        assert said.startswith("• **?shop**")


async def test_no_file_takes_an_alias_or_adds_to_the_commands_of_another(tmp_path: Path) -> None:
    async with FakeRoom() as room:
        load(room, tmp_path, SHOP)
        for name in ("kiosk", "kiosk open", "shop price", "shop open", "quiz", "ping now"):
            with pytest.raises(RaveError, match=f"there is a command {name} already"):
                load(room, tmp_path, f'@command("{name}", "Mine.")\nasync def it(context): ...')
        with pytest.raises(RaveError, match="there is a command store already"):
            load(room, tmp_path, '@command("mine", "Mine.", aliases=["store"])\nasync def it(context): ...')


VIDEOS = """
from ravesvc.commands import Video, command

@command("watch", "Watches.")
async def watch(context, *, video: Video):
    await context.reply(f"watching {video.title}")

@command("rate", "Rates.")
async def rate(context, video: Video, stars: int):
    await context.reply(f"{video.title}: {stars}")

@command("which", "Asks.")
async def which(context):
    await context.reply((await context.ask("Which one?", Video)).title)
"""


async def test_a_video_is_found_by_its_link_or_by_words(tmp_path: Path) -> None:
    (tmp_path / "watch.py").write_text(VIDEOS)
    async with FakeRoom() as room:
        room.load(tmp_path / "watch.py")
        link = "https://youtu.be/aqz-KE-bpKQ"
        room.service.videos += [
            Video(provider="youtube", id="aqz-KE-bpKQ", url=link, title="Big Buck Bunny"),
            Video(provider="youtube", id="x", url="https://youtu.be/x", title="Buck again"),
        ]
        assert await room.say("?watch big  buck") == ["watching Big Buck Bunny"]
        assert await room.say(f"?watch {link}") == ["watching Big Buck Bunny"]
        assert await room.say("?watch buck again") == ["watching Buck again"]
        assert await room.say('?rate "big buck" 5') == ["Big Buck Bunny: 5"]
        (said,) = await room.say("?watch cats")
        assert said.startswith("Nothing was found. Try other words, or a link (error ")
        (said,) = await room.say("?watch")
        assert said.startswith("Write ?watch <video>")
        assert await room.say("?which") == ["Which one?"]
        assert await room.say("cats") == ["nothing was found"]
        assert await room.say("buck again") == ["Buck again"]


async def test_a_user_has_a_few_videos_looked_up_at_once() -> None:
    class Slow(FakeService):
        """Answers when it is let."""

        def __init__(self) -> None:
            super().__init__()
            self.go = asyncio.Event()

        async def search_videos(self, actor: int, words: str) -> Sequence[Video]:
            await self.go.wait()
            return [Video(provider="youtube", id="x", url="https://youtu.be/x", title=words)]

    service = Slow()
    finder = VideoFinder(service)
    asked = [asyncio.create_task(finder.find(2, "cats")) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(RaveError, match="your last searches are still under way"):
        await finder.find(2, "dogs")
    other = asyncio.create_task(finder.find(3, "dogs"))
    service.go.set()
    assert [video.title for video in await asyncio.gather(*asked, other)] == ["cats", "cats", "cats", "dogs"]
    assert (await finder.find(2, "x" * 1000)).title == "x" * 200
    with pytest.raises(RaveError, match="Rave does not tell who you are"):
        await finder.find(None, "cats")


PARTS = """
from ravesvc.commands import command

@command("weather", "Tells the weather.", aliases=["wx"])
async def weather(context, *, place: str = "here"):
    await context.reply(f"sun in {place}")

@command("weather home", "Sets your home.")
async def home(context, *, place: str):
    await context.reply(f"home is {place}")
"""


async def test_a_sub_command_is_found_by_an_alias_of_its_command(tmp_path: Path) -> None:
    (tmp_path / "weather.py").write_text(PARTS)
    async with FakeRoom() as room:
        room.load(tmp_path / "weather.py")
        assert await room.say("?wx home Rome") == ["home is Rome"]
        assert await room.say("?WX Rome") == ["sun in Rome"]


async def test_the_method_of_a_class_is_refused(tmp_path: Path) -> None:
    text = 'class Cog:\n    @command("hi", "x")\n    async def hi(self, context): ...\n'
    text = f"from ravesvc.commands import command\n{text}"
    (tmp_path / "cog.py").write_text(text)
    async with FakeRoom() as room:
        with pytest.raises(RaveError, match=r"hi is a method: write a function, async def hi\(context\)"):
            room.load(tmp_path / "cog.py")


async def test_what_reads_a_word_is_no_coroutine(tmp_path: Path) -> None:
    text = """
        class Tag:
            @classmethod
            async def from_word(cls, word): ...

        @command("tag", "Says a tag.")
        async def tag(context, name: Tag): ...
        """
    async with FakeRoom() as room:
        with pytest.raises(RaveError, match="name of tag has a type whose from_word is a coroutine"):
            load(room, tmp_path, text)


async def test_what_an_author_reads_a_word_with_has_as_little_time_as_a_handler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ravesvc.bot.parameters.MAX_STEP_S", 0.05)
    async with FakeRoom() as room:
        load(
            room,
            tmp_path,
            """
            class Slow:
                @classmethod
                def from_word(cls, word):
                    while True:
                        pass

            @command("slow", "Never ends.")
            async def slow(context, a: Slow): ...
            """,
        )
        (said,) = await room.say("?slow 1")
        assert said.startswith("That took too long")
        assert room.failures.pop().endswith("the command slow took too long")
