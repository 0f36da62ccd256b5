"""A room without a server: what authors try their commands in."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import ravesvc.testing
from ravesvc.commands import Privacy, WebResponse
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.room.changes import Change, VideoChanged, VideoEnded
from ravesvc.testing import FakeRoom
from tests.unit.common.test_picture import PNG

ROOT = Path(__file__).parents[2]

EVERYTHING = """
from ravesvc.commands import Permission, command, on_connected, on_kicked, on_message, on_user_join, on_user_left

@command("dice", "Rolls the dice.", cooldown=10)
async def dice(context):
    await context.reply("4")

@command("tidy", "Tidies up.", permission=Permission.ADMIN)
async def tidy(context):
    await context.send(f"{len(context.users)} here, {context.mesh_id[:4]}")

@on_connected
async def connected(event):
    await event.send("Here I am")

@on_user_join
async def come(event):
    await event.send(f"Welcome, {await event.display_name()}")

@on_user_left
async def gone(event):
    await event.send(f"Bye, {await event.display_name()}")

@on_message
async def message(event):
    if event.mentions_bot or event.replies_to_bot:
        await event.reply("Yes?")

@on_kicked
async def kicked(event):
    await event.send("Ouch")
"""


async def test_the_example_of_the_readme_is_the_one_that_is_installed_and_works() -> None:
    text = (ROOT / "config/greet.py").read_text()
    assert f"```python\n{text}```" in (ROOT / "README.md").read_text()
    assert len(text.splitlines()) == 5

    async with FakeRoom() as room:
        room.load(ROOT / "config/greet.py")
        assert await room.say("?greet", user="Ann") == ["Hello, Ann!"]
        (listed,) = await room.say("?help more", user="Ann")
        assert "• **?greet**: Greets the user who asks." in listed


def test_the_example_of_the_module_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "greet.py").write_text((ROOT / "config/greet.py").read_text())
    assert ravesvc.testing.__doc__
    code = re.sub(r"^    ", "", "\n".join(re.findall(r"^    .*$|^$", ravesvc.testing.__doc__, re.M)), flags=re.M)
    assert "await room.say" in code
    exec(code, {})


async def test_everything_that_may_happen_in_a_room(tmp_path: Path) -> None:
    (tmp_path / "all.py").write_text(EVERYTHING)

    async with FakeRoom(admins=["Eve"]) as room:
        room.load(tmp_path / "all.py")
        assert await room.connect() == ["Here I am"]
        assert room.unasked == ["Here I am"], "for a file that is loaded, the bot has just come"
        assert await room.join("Ann") == ["Welcome, Ann"]
        assert await room.say("hello") == []
        assert await room.say("hello, @bot") == ["Yes?"]
        assert await room.say("hello, @Bob @") == []
        assert await room.say("and?", reply_to="own7") == ["Yes?"]
        assert await room.say("?dice") == ["4"]
        assert await room.say("?dice") == ["You may use ?dice again in 10 s"]
        assert await room.say("?dice") == [], "that is said once"
        assert await room.say("?dice", user="Bob") == ["4"]
        room.pass_time(10.5)
        assert await room.say("?dice") == ["4"]
        (refused,) = await room.say("?tidy")
        assert refused.startswith("Only admins may use ?tidy")
        assert await room.say("?tidy", user="Eve") == ["4 here, 1111"]
        assert "tidy" not in (await room.say("?help"))[0]
        assert "tidy" in (await room.say("?help", user="Eve"))[0]
        assert await room.leave("Eve") == ["Bye, Eve"]
        assert room.users == {room.own_user_id, room.user_id("Ann"), room.user_id("Bob")}
        assert await room.kick() == [], "it is out of the room already"
        await room.connect()
        assert await room.say("?ping") == ["Pong!"]


async def test_typing_is_no_message() -> None:
    async with FakeRoom(prefixes=["!"], title="") as room:
        await room.typing()
        await room.typing_stop()
        assert await room.say("!ping") == ["Pong!"]
        assert await room.say("?ping") == []


@pytest.mark.parametrize("name", ["ping", "leave", "setperm", "greet"])
async def test_a_name_that_is_taken_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "again.py"
    file.write_text((ROOT / "config/greet.py").read_text().replace('"greet"', f'"{name}"'))

    async with FakeRoom() as room:
        room.load(ROOT / "config/greet.py")
        with pytest.raises(RaveError, match=f"there is a command {name} already"):
            room.load(file)


async def test_a_file_that_fails_says_so(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")

    async with FakeRoom() as room:
        with pytest.raises(ZeroDivisionError):
            room.load(tmp_path / "broken.py")
        await asyncio.sleep(0)


FILM = """
from ravesvc.commands import every, on_video

@on_video
async def tell(event):
    await event.send(event.room.playback.url if event.room.playback else "nothing")

@every("30s")
async def where(event):
    playback = event.room.playback
    await event.send(f"{playback.position_at(event.server_now):.0f} s" if playback else "nowhere")
"""


async def test_events_know_what_plays_and_a_plugin_is_told_when_that_is_another(tmp_path: Path) -> None:
    (tmp_path / "film.py").write_text(FILM)

    async with FakeRoom() as room:
        room.load(tmp_path / "film.py")
        assert await room.show("") == []
        assert await room.show("https://a") == ["https://a"]
        assert await room.run_for(30) == ["30 s"]
        assert await room.show("https://b") == ["https://b"]
        assert await room.show("") == ["nothing"]
        assert await room.run_for(30) == ["nowhere"]
        await room.show("https://a")
        assert await room.connect() == []


WHERE = """
from ravesvc.commands import command

@command("where", "Where we are.")
async def where(context):
    playback = context.room.playback
    await context.reply(f"{playback.url} {playback.position_at(context.server_now):.0f} s" if playback else "nowhere")
"""


async def test_a_video_that_is_put_on_runs_until_another_or_none_is(tmp_path: Path) -> None:
    (tmp_path / "where.py").write_text(WHERE)

    async with FakeRoom() as room:
        room.load(tmp_path / "where.py")
        told: list[Change] = []
        room._bot.watch(told.append)
        assert await room.show("") == []
        assert await room.say("?where") == ["nowhere"]
        await room.show("https://a")
        room.pass_time(30)
        assert await room.say("?where") == ["https://a 30 s"]
        await room.show("https://b")
        assert await room.say("?where") == ["https://b 0 s"]
        await room.show("")
        assert await room.say("?where") == ["nowhere"]
        assert [type(change) for change in told] == [VideoChanged, VideoChanged, VideoEnded]


ASKING = """
from ravesvc.api.models import Opinion
from ravesvc.commands import command, on_message
from ravesvc.common.picture import Picture
from ravesvc.commands import WebResponse
from ravesvc.common.video import Video

@command("party", "Asks Rave for all that there is.")
async def party(context):
    rave = context.rave
    url = await rave.register(Video(provider="youtube", id="x1", url="https://v.example/x1"))
    await rave.vote(url)
    await rave.clear_votes()
    await rave.like(url, "i1")
    await rave.vote_skip(url, "i1")
    await rave.withdraw(Opinion.SKIP, url, "i1")
    await rave.set_playback(5.0, playing=True)
    await rave.end_video()
    await rave.mute(7)
    await rave.unmute(7)
    await rave.transfer_leadership(7)
    await rave.set_privacy((await rave.privacy())._replace(public=False))
    media = await rave.upload(Picture(PNG))
    await context.reply((await rave.profile(7)).name, media=[media])

@on_message
async def strict(event):
    if "spam" in event.message.text:
        await event.rave.kick(event.user_id)
"""


async def test_what_a_bot_asks_of_rave_is_noted(tmp_path: Path) -> None:
    (tmp_path / "asking.py").write_text(f"PNG = {PNG!r}\n{ASKING}")

    async with FakeRoom() as room:
        room.load(tmp_path / "asking.py")
        assert await room.say("?party") == ["User 7"]
        assert await room.say("spam!", user="Eve") == []
        (_, video), *asked = room.rave.asked
        assert isinstance(video, Video)
        assert [each[0] for each in asked[:5]] == ["vote", "clear_votes", "like", "vote_skip", "withdraw"]
        assert asked[0] == ("vote", "https://rave.example/videos/youtube/x1")
        assert asked[5:10] == [
            ("set_playback", 5.0, True),
            ("end_video",),
            ("mute", 7),
            ("unmute", 7),
            ("transfer_leadership", 7),
        ]
        assert asked[10:12] == [("privacy",), ("set_privacy", Privacy(public=False, friends=False, local=False))]
        assert await room.rave.privacy() == (False, False, False)
        assert [each[0] for each in asked[12:]] == ["upload", "profile", "kick"]
        assert asked[-1] == ("kick", room.user_id("Eve"))
        (media,) = room.media
        assert (media.mime, media.aspect_ratio) == ("image/png", "0.56")


async def test_videos_play_where_a_test_shows_them() -> None:
    film = Video(provider="link", id="film-1", url="https://films.example/1", title="A short film", seconds=60)

    async with FakeRoom() as room:
        room.service.videos = [film]
        assert await room.say("?search short film") == ["Searching for “short film”", "1. A short film"]
        assert await room.say("?set 1") == ["Voted for: A short film"]
        assert room.rave.asked[-1] == ("vote", "https://rave.example/videos/link/film-1")
        await room.show("https://rave.example/videos/link/film-1")
        assert await room.say("?nowplaying") == ["Playing: A short film, at 0:00 of 1:00\nAsked for by Ann"]
        assert (await room.say("?play https://films.example/2"))[0].startswith("There is no such video")


SLEEPS = """
import asyncio
from ravesvc.commands import command, on_load, on_unload

@command("tea", "Makes tea.", seconds=600)
async def tea(context):
    await context.reply("Wait for it")
    await asyncio.sleep(180)
    await context.reply("Tea!")

@command("fails", "Fails.")
async def fails(context):
    raise KeyError

@on_load
async def load(event):
    await event.send("here")

@on_unload
async def unload(event):
    await event.send("gone")
"""


async def test_a_plugin_sleeps_by_the_clock_of_its_room(tmp_path: Path) -> None:
    (tmp_path / "tea.py").write_text(SLEEPS)
    real = asyncio.sleep
    async with FakeRoom() as room, FakeRoom() as other:
        room.load(tmp_path / "tea.py")
        other.load(tmp_path / "tea.py")
        assert await room.say("?tea") == ["Wait for it"]
        assert await other.say("?tea") == ["Wait for it"]
        assert await room.run_for(179) == []
        assert await room.run_for(1) == ["Tea!"]
        assert await other.run_for(180) == ["Tea!"]
        # What is no plugin's takes its time.
        await asyncio.sleep(0.001)
    assert asyncio.sleep is real


CLOCK = """
import asyncio
import time
from ravesvc.commands import command

@command("time", "Tells the time.", seconds=7200)
async def tell(context):
    before = time.time(), time.monotonic()
    await asyncio.sleep(3600)
    await context.reply(f"{time.time() - before[0]:.0f} {time.monotonic() - before[1]:.0f} {time.time()}")
"""


async def test_a_plugin_reads_the_time_by_the_clock_of_its_room(tmp_path: Path) -> None:
    (tmp_path / "clock.py").write_text(CLOCK)
    clocks = time.time, time.monotonic
    begun = time.time()
    async with FakeRoom() as room:
        room.load(tmp_path / "clock.py")
        await room.say("?time")
        (said,) = await room.run_for(3600)
        wall, monotonic, now = said.split()
        assert (wall, monotonic) == ("3600", "3600")
        assert 0 <= float(now) - begun - 3600 < 60
        # What is no plugin's is as late as it is.
        assert time.time() - begun < 60
    assert (time.time, time.monotonic) == clocks


async def test_a_call_of_rave_fails_as_a_test_wants_it(tmp_path: Path) -> None:
    (tmp_path / "asking.py").write_text(f"PNG = {PNG!r}\n{ASKING}")

    async with FakeRoom() as room:
        room.load(tmp_path / "asking.py")
        room.rave.fails["clear_votes"] = RaveError(Code.FORBIDDEN, "not today")
        (said,) = await room.say("?party")
        assert said.startswith("Not today (error ")
        assert room.rave.asked[-1] == ("clear_votes",)


async def test_a_file_is_loaded_anew_as_by_a_refresh(tmp_path: Path) -> None:
    file = tmp_path / "tea.py"
    file.write_text(SLEEPS)
    async with FakeRoom() as room:
        room.load(file)
        file.write_text(SLEEPS.replace("here", "here again"))
        assert await room.reload(file) == ["gone", "here again"]
        assert room.unasked == ["here"]
        assert await room.unload(file) == ["gone"]
        assert await room.say("?tea") == []


async def test_a_failure_of_a_plugin_fails_the_test_unless_it_was_looked_at(tmp_path: Path) -> None:
    (tmp_path / "tea.py").write_text(SLEEPS)

    async def author(test: Callable[[FakeRoom], object]) -> None:
        async with FakeRoom() as room:
            room.load(tmp_path / "tea.py")
            await room.say("?fails")
            test(room)

    with pytest.raises(AssertionError, match=r"tea\.py: the command fails failed: KeyError"):
        await author(lambda room: None)
    await author(lambda room: room.failures.clear())
    # What the test itself fails with counts more.
    with pytest.raises(ZeroDivisionError):
        await author(lambda room: 1 / 0)


ASKS = """
from ravesvc.commands import command, on_user_join

@command("key", "Tells how long the key is.")
async def key(context):
    await context.reply(str(len(context.secret("ai-key"))))

@on_user_join
async def join(event):
    await event.send(event.secret("greeting"))
"""


async def test_plugins_get_what_the_operator_hands_over(tmp_path: Path) -> None:
    (tmp_path / "ask.py").write_text(ASKS)
    async with FakeRoom(secrets={"ai-key": "12345", "greeting": "Hi"}) as room:
        room.load(tmp_path / "ask.py")
        assert await room.say("?key") == ["5"]
        assert await room.join("Bob") == ["Hi"]
    async with FakeRoom() as room:
        room.load(tmp_path / "ask.py")
        (said,) = await room.say("?key")
        assert said.startswith("The operator has handed over no secret ai-key. See rave-mesh(8)")


async def test_a_url_that_no_bot_asks_is_refused_here_as_well() -> None:
    async with FakeRoom() as room:
        room.http.answers["http://127.0.0.1/"] = WebResponse(200)
        with pytest.raises(RaveError, match="no https URL"):
            await room.http.get("http://127.0.0.1/")


LIMITS = """
import asyncio, os, subprocess
from pathlib import Path
from ravesvc.commands import command, on_unload

@command("slow", "Takes long.")
async def slow(context):
    if context.text:
        await context.ask("Well?", timeout=300)
    await asyncio.sleep(59 if context.text else 61)
    await context.reply("slow")

@command("many", "Says much.")
async def many(context, n: int):
    await asyncio.gather(*(context.send(str(number)) for number in range(n)))

@command("save", "Saves often.")
async def save(context, n: int):
    for number in range(n):
        await context.store.set("n", number)

@command("fetch", "Asks often.")
async def fetch(context, n: int):
    for number in range(n):
        await context.http.get("https://a.example/")

@command("vote", "Votes often.")
async def vote(context, n: int):
    for number in range(n):
        await context.rave.vote("x")

@command("write", "Tries to write.")
async def write(context, how: str, where: str):
    match how:
        case "open":
            open(where, "w")
        case "append":
            open(where, "a")
        case "path":
            Path(where).write_text("x")
        case "os":
            os.open(where, os.O_WRONLY | os.O_CREAT)
        case "mkdir":
            os.mkdir(where)
        case "thread":
            await asyncio.to_thread(lambda: Path(where).write_text("x"))
        case "run":
            subprocess.run([where])
    await context.reply(Path(__file__).read_text()[1:7])

@on_unload
async def unload(event):
    await asyncio.sleep(1)
    await event.send("first")
    await asyncio.sleep(3)
    await event.send("second")
"""


@asynccontextmanager
async def limited(tmp_path: Path) -> AsyncIterator[FakeRoom]:
    (tmp_path / "limits.py").write_text(LIMITS)
    async with FakeRoom() as room:
        room.load(tmp_path / "limits.py")
        yield room


async def test_a_handler_that_takes_too_long_is_ended_by_the_clock_of_the_room(tmp_path: Path) -> None:
    async with limited(tmp_path) as room:
        assert await room.say("?slow") == []
        assert await room.run_for(59) == []
        (said,) = await room.run_for(1)
        assert said.startswith("That took too long (error ")
        assert room.failures.pop().endswith("the command slow took too long")
        assert await room.say("?slow please") == ["Well?"]
        assert await room.run_for(299) == [], "while a question waits, the time rests"
        await room.say("well")
        assert await room.run_for(59) == ["slow"]


async def test_users_who_write_at_once_are_held_back_and_others_are_not(tmp_path: Path) -> None:
    async with FakeRoom() as room:
        for _ in range(30):
            assert await room.say("?ping") == ["Pong!"]
        said = await room.burst(*["?ping"] * 12)
        assert sorted(said) == ["Pong!"] * 8 + ["Too many commands. Try again in 1 s"]


async def test_messages_wait_for_their_rate_and_the_clock_moves_on(tmp_path: Path) -> None:
    async with limited(tmp_path) as room:
        begun = room._now_s
        assert await room.say("?many 5") == [str(number) for number in range(5)]
        assert room._now_s == begun
        assert len(await room.say("?many 32")) == 32
        assert room._now_s - begun == pytest.approx(27)
        said = await room.say("?many 40")
        assert any(each.startswith("Too many messages are waiting to be sent") for each in said)


@pytest.mark.parametrize(("command", "fits"), [("save", 40), ("fetch", 20), ("vote", 20)])
async def test_what_a_bot_may_ask_of_others_has_its_rates(tmp_path: Path, command: str, fits: int) -> None:
    async with limited(tmp_path) as room:
        room.http.answers["https://a.example/"] = WebResponse(200)
        for _ in range(3):
            assert await room.say(f"?{command} {fits}") == [], "users take their time"
        (said,) = await room.say(f"?{command} {fits + 1}")
        assert said.startswith("The bot has asked for that too often. Try again in ")


@pytest.mark.parametrize(
    ("how", "error"),
    [*((how, "OSError") for how in ("open", "append", "path", "os", "mkdir", "thread")), ("run", "PermissionError")],
)
async def test_a_plugin_writes_no_file_and_starts_no_program(tmp_path: Path, how: str, error: str) -> None:
    async with limited(tmp_path) as room:
        where = tmp_path / "new"
        (said,) = await room.say(f"?write {how} {where}")
        assert said.startswith("Something went wrong")
        assert room.failures.pop().endswith(f"the command write failed: {error}")
        assert not where.exists()
        where.write_text("The test may.")
        assert await room.say(f"?write nothing {where}") == ["import"]


async def test_a_plugin_that_ends_has_its_time_by_the_clock_of_the_room(tmp_path: Path) -> None:
    async with limited(tmp_path) as room:
        assert await room.unload(tmp_path / "limits.py") == ["first"]
