"""Test your plugins, without a service, an account or a network.

    import asyncio
    from ravesvc.testing import FakeRoom

    async def main():
        async with FakeRoom() as room:
            room.load("greet.py")
            assert await room.say("?greet", user="Ann") == ["Hello, Ann!"]

    asyncio.run(main())

The bot is the real one; the room is made up, and so is the clock, so that no test has to wait: `room.run_for` lets
time pass, also for `asyncio.sleep`, `time.time` and `time.monotonic` of a plugin. A failure of a plugin fails the
test, see `FakeRoom.failures`.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import heapq
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, cast

from ravesvc.api.models import Opinion, Privacy, Profile
from ravesvc.api.plugin_http import REQUEST_RATE, require_place
from ravesvc.api.room_api import MODERATION_RATE, OTHER_RATE, PLAYING_RATE
from ravesvc.api.web_response import DEFAULT_TIMEOUT_S, WebResponse
from ravesvc.bot import builtin, settings_commands, video_commands
from ravesvc.bot.bot import Bot
from ravesvc.bot.built_in_commands import built_in_commands
from ravesvc.bot.command import BotInfo, Registry
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.bot.player import Player
from ravesvc.bot.plugin_tasks import OWNER, PluginTasks
from ravesvc.bot.plugins import load_file
from ravesvc.bot.room_settings import RoomSettings
from ravesvc.bot.settings_keeper import SettingsKeeper
from ravesvc.bot.video_finder import VideoFinder
from ravesvc.common.picture import Media, Picture
from ravesvc.common.token_bucket import Rate, TokenBucket
from ravesvc.common.video import Video
from ravesvc.core.room_memory import READ_RATE, WRITE_RATE
from ravesvc.errors import Code, RaveError
from ravesvc.room.changes import RoomState, VideoChanged, VideoEnded
from ravesvc.room.chat import ChatMessage, Mention, Reaction, is_emoji
from ravesvc.room.playback import PLAYING, Playback
from ravesvc.room.server_clock import ServerClock
from ravesvc.version import __version__

if TYPE_CHECKING:
    from ravesvc.bot.backend import Backend

_MESH = "11111111-2222-4333-8444-555555555555"
_BOT_USER_ID = 1
_DEVICE = "0123456789abcdef0123456789abcdef"
# All rates have recovered by then.
_REST_S = 60.0
# What a bot that ends gives its plugins.
_UNLOAD_S = 2.0
_TURNS = 20

_sleep_in_real_time = asyncio.sleep
_real_time, _real_monotonic = time.time, time.monotonic
# The rooms that are open, by the plugins that are loaded in them: those sleep, and read the time, by the clock of
# their room.
_rooms: dict[PluginTasks, FakeRoom] = {}


def _sleep(delay: float, result: Any = None) -> Coroutine[Any, Any, Any]:
    """In place of asyncio.sleep, while a room is open."""
    room = _rooms.get(sys._getframe(1).f_globals.get(OWNER, None))  # type: ignore[arg-type]
    return room._sleep_of_plugin(delay, result) if room and delay > 0 else _sleep_in_real_time(delay, result)


def _time() -> float:
    """In place of time.time, while a room is open."""
    room = _rooms.get(sys._getframe(1).f_globals.get(OWNER, None))  # type: ignore[arg-type]
    return room._now_s + room._epoch_s if room else _real_time()


def _monotonic() -> float:
    """In place of time.monotonic, while a room is open."""
    room = _rooms.get(sys._getframe(1).f_globals.get(OWNER, None))  # type: ignore[arg-type]
    return room._now_s if room else _real_monotonic()


_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("chmod", "chown", "link", "mkdir", "remove", "rename", "rmdir", "symlink", "truncate", "utime")
_CHANGES_FILES = {f"os.{name}" for name in _CHANGES}
_STARTS_PROGRAMS = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}


def _sandbox(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse a plugin what the sandbox of a bot refuses: an audit hook, which sees all of the process."""
    if not _rooms:
        return
    if event == "open":
        path, _, flags = arguments
        error = errno.EROFS if not isinstance(path, int) and flags & _WRITING else 0
    else:
        error = errno.EROFS if event in _CHANGES_FILES else errno.EPERM if event in _STARTS_PROGRAMS else 0
    if error and _is_of_plugin(sys._getframe(1)):
        raise OSError(error, os.strerror(error), *map(str, arguments[:1]))


def _is_of_plugin(frame: FrameType | None) -> bool:
    """Whether a plugin that is loaded in a room has called this, directly or by way of others."""
    while frame:
        if frame.f_globals.get(OWNER) in _rooms:
            return True
        frame = frame.f_back
    return False


@functools.cache
def _refuse_disk() -> None:
    sys.addaudithook(_sandbox)


class _TimeLimit:
    """As `asyncio.timeout`, by the clock of a room; and in real time for what does not wait for that clock."""

    def __init__(self, room: FakeRoom, seconds: float) -> None:
        self._room = room
        self._seconds = seconds
        self._when: float | None = None
        self._alarm: asyncio.Future[None] | None = None

    async def __aenter__(self) -> _TimeLimit:
        self._real = await asyncio.timeout(self._seconds).__aenter__()
        self.reschedule(self._room._now_s + self._seconds)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        await self._real.__aexit__(kind, error, trace)

    def when(self) -> float | None:
        return self._when

    def reschedule(self, when: float | None) -> None:
        self._stop()
        self._when = when
        left = 0.0 if when is None else when - self._room._now_s
        self._real.reschedule(None if when is None else asyncio.get_running_loop().time() + left)
        if when is not None:
            self._alarm = self._room._alarm(left)
            self._alarm.add_done_callback(self._expire)

    def _stop(self) -> None:
        self._when = None
        if self._alarm:
            self._alarm.cancel()

    def _expire(self, alarm: asyncio.Future[None]) -> None:
        if alarm is self._alarm and self._when is not None:
            self._real.reschedule(asyncio.get_running_loop().time())


class _Rates:
    """The rates of a bot, by name, on the clock of a room; without a clock there are none."""

    def __init__(self, clock: Callable[[], float] | None, **rates: Rate) -> None:
        self._clock = clock
        self._buckets = {name: TokenBucket(rate, clock()) for name, rate in rates.items()} if clock else {}

    def take(self, name: str) -> None:
        """Count one. Raises `RaveError` (RateLimited)."""
        if self._clock and (wait := self._buckets[name].take(self._clock())):
            seconds = math.ceil(wait)
            text, hint = "the bot has asked for that too often", f"try again in {seconds} s"
            raise RaveError(Code.RATE_LIMITED, text, hint=hint, retry_after=seconds)


_MODERATION = {"kick", "mute", "unmute", "transfer_leadership", "privacy", "set_privacy"}
_PLAYING = {"register", "vote"}


class FakeRave:
    """Records the calls of a bot to Rave, as (method, *arguments), and lets them succeed. See `bot.room_api.RoomApi`.

    Attributes:
        asked: all calls, in order.
        room_privacy: who finds the room: at first all users.
        fails: what calls fail with, by method. A bot that does not lead the room:
            `room.rave.fails["kick"] = RaveError(Code.FORBIDDEN, "only the leader can do that")`.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """`clock`: for the rates of a bot; without it there are none."""
        self._rates = _Rates(clock, moderation=MODERATION_RATE, playing=PLAYING_RATE, other=OTHER_RATE)
        self.asked: list[tuple[object, ...]] = []
        self.room_privacy = Privacy(public=True, friends=False, local=False)
        self.fails: dict[str, RaveError] = {}

    async def register(self, video: Video) -> str:
        """The URL is made up of the provider's id."""
        self._ask("register", video)
        return f"https://rave.example/videos/{video.provider}/{video.id}"

    async def vote(self, url: str) -> None:
        """See `RoomApi`."""
        self._ask("vote", url)

    async def clear_votes(self) -> None:
        """See `RoomApi`."""
        self._ask("clear_votes")

    async def like(self, url: str, instance_id: str) -> None:
        """See `RoomApi`."""
        self._ask("like", url, instance_id)

    async def vote_skip(self, url: str, instance_id: str) -> None:
        """See `RoomApi`."""
        self._ask("vote_skip", url, instance_id)

    async def withdraw(self, opinion: Opinion, url: str, instance_id: str) -> None:
        """See `RoomApi`."""
        self._ask("withdraw", opinion, url, instance_id)

    async def set_playback(self, position: float, *, playing: bool) -> None:
        """See `RoomApi`."""
        self._ask("set_playback", position, playing)

    async def end_video(self) -> None:
        """See `RoomApi`."""
        self._ask("end_video")

    async def kick(self, user: int) -> None:
        """See `RoomApi`."""
        self._ask("kick", user)

    async def mute(self, user: int) -> None:
        """See `RoomApi`."""
        self._ask("mute", user)

    async def unmute(self, user: int) -> None:
        """See `RoomApi`."""
        self._ask("unmute", user)

    async def transfer_leadership(self, user: int) -> None:
        """See `RoomApi`."""
        self._ask("transfer_leadership", user)

    async def privacy(self) -> Privacy:
        """See `RoomApi`."""
        self._ask("privacy")
        return self.room_privacy

    async def set_privacy(self, privacy: Privacy) -> None:
        """See `RoomApi`."""
        self._ask("set_privacy", privacy)
        self.room_privacy = privacy

    async def upload(self, picture: Picture) -> Media:
        """The URL is made up."""
        self._ask("upload", picture)
        return Media(f"https://rave.example/pictures/{len(self.asked)}", picture.mime, picture.aspect_ratio)

    async def profile(self, user: int) -> Profile:
        """An empty profile, with the name that the bot uses for a user without a known name."""
        self._ask("profile", user)
        return Profile(name=f"User {user}", handle="", country="", bio="")

    def _ask(self, method: str, *arguments: object) -> None:
        self._rates.take("moderation" if method in _MODERATION else "playing" if method in _PLAYING else "other")
        self.asked.append((method, *arguments))
        if method in self.fails:
            raise self.fails[method]


class FakeHttp:
    """Answers the requests of plugins to other servers. See `bot.http.Http`.

    Attributes:
        answers: by URL, what it is answered with, or fails with.
        asked: all requests, in order: (method, URL, headers), and the JSON of a POST.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """`clock`: for the rate of a bot; without it there is none."""
        self._rates = _Rates(clock, requests=REQUEST_RATE)
        self.answers: dict[str, WebResponse | RaveError] = {}
        self.asked: list[tuple[Any, ...]] = []

    async def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109 - as authors expect
    ) -> WebResponse:
        """See `Http`; no redirect is followed."""
        self._rates.take("requests")
        self.asked.append(("GET", url, dict(headers or {})))
        return self._answer(url)

    async def post(
        self,
        url: str,
        *,
        json: Any,
        headers: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> WebResponse:
        """See `Http`."""
        self._rates.take("requests")
        self.asked.append(("POST", url, dict(headers or {}), json))
        return self._answer(url)

    def _answer(self, url: str) -> WebResponse:
        require_place(url, Code.INVALID_ARGUMENT)
        answer = self.answers.get(url)
        if answer is None:
            hint = "set room.http.answers[url] = WebResponse(200, b'...')"
            raise RaveError(Code.NETWORK, f"the test has no answer for {url}", hint=hint)
        if isinstance(answer, RaveError):
            raise answer
        return answer


class FakeService:
    """The service behind a bot, as far as its room needs it: documents, and videos, of which none has a picture.

    Attributes:
        documents: JSON by name. To test a restart, give a new bot the documents of the former one.
        shared: likewise what all rooms share. To test that, give both rooms the same.
        videos: the videos that a search can find by words of their titles, or a look-up by their links.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """`clock`: for the rates of a room; without it there are none."""
        self._rates = _Rates(clock, reads=READ_RATE, writes=WRITE_RATE)
        self.documents: dict[str, str] = {}
        self.shared: dict[str, str] = {}
        self.videos: list[Video] = []

    async def read_document(self, name: str) -> str | None:
        """See `ravesvc.bot.backend.Backend`."""
        self._rates.take("reads")
        return self.documents.get(name)

    async def write_document(self, name: str, text: str) -> None:
        """See `ravesvc.bot.backend.Backend`."""
        self._rates.take("writes")
        self.documents[name] = text

    async def read_shared(self, name: str) -> tuple[str, str]:
        """See `ravesvc.bot.backend.Backend`. The text itself is the version."""
        self._rates.take("reads")
        text = self.shared.get(name, "")
        return text, text

    async def write_shared(self, name: str, text: str, version: str) -> bool:
        """See `ravesvc.bot.backend.Backend`."""
        self._rates.take("writes")
        is_current = self.shared.get(name, "") == version
        if is_current:
            self.shared[name] = text
        return is_current

    async def search_videos(self, actor: int, words: str) -> Sequence[Video]:
        """The videos whose titles have all of the words."""
        wanted = words.lower().split()
        return [video for video in self.videos if all(word in video.title.lower() for word in wanted)]

    async def look_up_video(self, actor: int, link: str) -> Video:
        """The video with this URL; raises `RaveError` (NotFound) if there is none."""
        for video in self.videos:
            if video.url == link:
                return video
        raise RaveError(Code.NOT_FOUND, "there is no such video")

    async def fetch_picture(self, actor: int, video: Video) -> Picture:
        """Raises `RaveError` (NotFound)."""
        raise RaveError(Code.NOT_FOUND, "the video has no picture")


class FakeRoom:
    """A room with a bot in it, which has its usual commands and those that are loaded.

    `?settings` is as in any room: what admins set is in `service.documents`. Without the service there is no
    `forgetme`, and no commands for moderation or about admins.

    It has the limits of a bot, by its clock. `time.time`, `time.monotonic` and `asyncio.sleep` of a plugin go by that
    clock where they are called by these names; all else takes its time. Users take their time as well: rates hold
    for what follows from one thing that a user does, such as `burst`. When the bot has to wait until it may send the
    next message, the clock moves on by itself. A plugin can neither write files nor start programs.

    Users exist as soon as they are named, and have ids from 2 on in that order; they are in the room when they have
    written, or joined. Each method that makes something
    happen returns the messages that the bot sends in answer, once all that it has started is done or sleeps.

    Attributes:
        own_user_id: the user id of the bot.
        mesh_id: a made-up mesh id.
        rave: the calls of the bot to Rave, and `http`: those of plugins to other servers, with their answers.
        service: the documents that the bot has saved, and the videos that it finds.
        media: the pictures that the bot has sent, and `mentions`: whom its messages have mentioned.
        reactions: the bot's: each emoji with the text of the message that it is a reaction to.
        unasked: what the bot has said between two such methods, as by `on_load` and `on_connected` of a loaded file.
        failures: what commands and handlers of plugins have failed with: the lines that `ravectl refresh` shows. At
            the end of the `async with` each one that is still there is an AssertionError.
    """

    own_user_id = _BOT_USER_ID
    mesh_id = _MESH

    def __init__(
        self,
        *,
        admins: Sequence[str] = (),
        prefixes: Sequence[str] = ("?",),
        title: str = "A film",
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        """`admins` are users who may use the commands for admins, `secrets` what the operator hands over."""
        # Whole, so that minutes that pass one by one are ten at last.
        self._now_s = float(round(time.monotonic()))
        self._rested_s = 0.0
        self.rave = FakeRave(self._rate_clock)
        self.http = FakeHttp(self._rate_clock)
        self.service = FakeService(self._rate_clock)
        self.media: list[Media] = []
        self.mentions: list[Mention] = []
        self.reactions: list[tuple[str, str]] = []
        # By id, those of users and of the bot.
        self._texts: dict[str, str] = {}
        self.unasked: list[str] = []
        self.failures: list[str] = []
        self._ids: dict[str, int] = {}
        self._is_kicked = False
        self._present: set[int] = {_BOT_USER_ID}
        self._sent: list[str] = []
        self._messages = itertools.count(1)
        # When the clock was at 0, in seconds since the epoch.
        self._epoch_s = time.time() - self._now_s
        self._alarms = itertools.count(1)
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self.server_clock = ServerClock(steady=lambda: self._now_s, wall=lambda: self._now_s)
        self._playback: Playback | None = None
        self._plugins: list[Registry] = []
        self._registry = Registry()
        builtin.register(self._registry)
        finder = VideoFinder(self.service)
        self._bot = Bot(
            facts=BotInfo(version=__version__, title=title, server="room.example", connected_since=self._now_s),
            registry=self._registry,
            permissions=StaticPermissions(frozenset(map(self.user_id, admins))),
            prefixes=prefixes,
            typing_delay=0,
            lookup=self._display_names,
            rave=self.rave,
            http=self.http,
            documents=self.service,
            videos=finder,
            secrets=secrets or {},
            clock=lambda: self._now_s,
            rate_clock=self._rate_clock,
            sleep=self._sleep,
            pause=self._pass,
            time_limit=lambda seconds: _TimeLimit(self, seconds),
            on_plugin_failure=lambda source, what: self.failures.append(f"{source}: {what}"),
        )
        # Player, settings and video commands use no other method of it.
        backend = cast("Backend", self.service)
        self._player = Player(self._bot, self.rave, backend, clock=lambda: self._now_s)
        self._bot.watch(self._player.on_change)
        video_commands.register(self._registry, self._player, backend, finder)
        self._settings = SettingsKeeper(backend, self._use_settings, self._registry, sleep=self._sleep)
        settings_commands.register(self._registry, self._settings)

    async def __aenter__(self) -> FakeRoom:
        await self._settings.load()
        await self.connect()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for plugin in self._plugins:
            await self._end(plugin)
        self.unasked += await self._settle()
        await self._player.close()
        await self._bot.close()
        if kind is None and self.failures:
            raise AssertionError("\n".join(self.failures))

    def _use_settings(self, settings: RoomSettings) -> None:
        self._bot.apply_settings(settings)
        self._player.schedule_step()

    def load(self, file: str | Path) -> None:
        """Load a file of commands as a bot does, but without a check of its owner.

        Raises any exception of the file, and `RaveError` (InvalidArgument) for commands that a bot would reject.
        """
        plugin = load_file(Path(file), built_in_commands().owners() | self._registry.owners())
        self._plugins.append(plugin)
        self._registry.include(self._plugins)
        _rooms[plugin.tasks] = self
        _refuse_disk()
        asyncio.sleep, time.time, time.monotonic = _sleep, _time, _monotonic
        self._bot.start_plugin(plugin)

    async def unload(self, file: str | Path) -> list[str]:
        """The file is gone at a refresh. Returns what the bot says at that."""
        (plugin,) = [each for each in self._plugins if each.source == str(file)]
        self._plugins.remove(plugin)
        self._registry.include(self._plugins)
        self.unasked += await self._settle()
        await self._end(plugin)
        return await self._settle()

    async def reload(self, file: str | Path) -> list[str]:
        """The file has changed at a refresh. Returns what the bot says at that; raises as `load`."""
        said = await self.unload(file)
        self.load(file)
        return said + await self._settle()

    async def _end(self, plugin: Registry) -> None:
        ending = asyncio.ensure_future(self._bot.end_plugin(plugin))
        await self._turn_over()
        # It has its time by the clock of the room, which nothing else moves meanwhile.
        until = self._now_s + _UNLOAD_S
        while not ending.done() and (due := self._next_due()) is not None and due <= until:
            await self._pass(due - self._now_s)
            await self._turn_over()
        await ending
        await plugin.tasks.close()
        del _rooms[plugin.tasks]
        if not _rooms:
            asyncio.sleep = _sleep_in_real_time
            time.time, time.monotonic = _real_time, _real_monotonic

    def user_id(self, user: str) -> int:
        """The id of a user."""
        return self._ids.setdefault(user, len(self._ids) + 2)

    def pass_time(self, seconds: float) -> None:
        """Move the clock on by `seconds`, for cooldowns and videos; see `run_for` for timers and sleeps."""
        self._now_s += seconds

    def _rate_clock(self) -> float:
        """That of all rates: users have rested before they do something."""
        return self._now_s + self._rested_s

    async def _pass(self, seconds: float) -> None:
        """Let time pass, and wake those whose time has come."""
        self._now_s += seconds
        self._wake()
        await _sleep_in_real_time(0)

    async def _turn_over(self) -> None:
        """Let what was woken, or has just been started, begin its work."""
        for _turn in range(_TURNS):
            await _sleep_in_real_time(0)

    def _next_due(self) -> float | None:
        """When the next one wakes."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    async def run_for(self, seconds: float) -> list[str]:
        """Let time pass, and return what the bot says meanwhile: what has slept, `@every`, and so on."""
        self.unasked += await self._settle()
        end = self._now_s + seconds
        replies: list[str] = []
        while (due := self._next_due()) is not None and due <= end:
            self._now_s = max(self._now_s, due)
            replies += await self._replies_after(self._wake)
        self._now_s = max(self._now_s, end)
        return replies

    async def say(self, text: str, *, user: str = "Ann", reply_to: str | None = None) -> list[str]:
        """A user writes a message; @name mentions the user of that name, and @bot the bot."""
        return await self.burst(text, user=user, reply_to=reply_to)

    async def burst(self, *texts: str, user: str = "Ann", reply_to: str | None = None) -> list[str]:
        """A user writes several messages at the same moment, each as with `say`. The bot refuses more than eight."""

        def write() -> None:
            for text in texts:
                self._write(text, user, reply_to)

        return await self._replies_to_user(write)

    def _write(self, text: str, user: str, reply_to: str | None) -> None:
        sender = self.user_id(user)
        self._present.add(sender)
        words = [word.rstrip(",;:.!?") for word in text.split()]
        named = {word[1:] for word in words if word.startswith("@") and len(word) > 1}
        mentions = tuple(
            Mention(_BOT_USER_ID if name == "bot" else self.user_id(name), name) for name in sorted(named)
        )
        message = ChatMessage(
            id=f"message{next(self._messages)}",
            sender_peer=f"{sender}_{_DEVICE}",
            sender=sender,
            text=text,
            reply_to=reply_to,
            mentions=mentions,
        )
        self._texts[message.id] = text
        self._bot.on_chat(message)

    async def react(self, emoji: str, *, user: str = "Ann", to: str | None = None) -> list[str]:
        """A user reacts to the latest message with the text `to`, or to the bot's latest."""
        sender = self.user_id(user)
        self._present.add(sender)
        found = [each for each, text in self._texts.items() if (self.is_own(each) if to is None else text == to)]
        if not found or not is_emoji(emoji):
            what = "no message to react to" if not found else f"a reaction is one emoji, and not {emoji!r}"
            raise RaveError(Code.INVALID_ARGUMENT, what)
        message = ChatMessage(
            id=f"message{next(self._messages)}",
            sender_peer=f"{sender}_{_DEVICE}",
            sender=sender,
            text="",
            reply_to=None,
            mentions=(),
            reaction=Reaction(emoji, found[-1]),
        )
        return await self._replies_to_user(lambda: self._bot.on_chat(message))

    async def join(self, user: str) -> list[str]:
        """A user joins the room."""
        self._present.add(self.user_id(user))
        return await self._replies_to_user(lambda: self._bot.on_joined(frozenset({self.user_id(user)})))

    async def leave(self, user: str) -> list[str]:
        """A user leaves the room."""
        self._present.discard(self.user_id(user))
        return await self._replies_to_user(lambda: self._bot.on_left(frozenset({self.user_id(user)})))

    async def show(self, url: str) -> list[str]:
        """The video at this URL of Rave's starts; an empty one ends the current video."""
        before = self._playback
        instance = f"playing{next(self._messages)}"
        after = (
            Playback(url=url, instance_id=instance, status=PLAYING, time=self._now_s, started=True) if url else None
        )
        if before is None and after is None:
            return []
        self._playback = after
        change = VideoEnded(before) if before and not after else VideoChanged(before, after)
        return await self._replies_to_user(lambda: self._bot.on_change(change))

    async def connect(self) -> list[str]:
        """The bot joins the room, or joins it again if it is there already."""
        self._is_kicked = False
        return await self._replies_after(lambda: self._bot.attach(self))

    async def kick(self) -> list[str]:
        """The bot is kicked. It can say nothing from then on, until `connect`."""
        self._is_kicked = True
        return await self._replies_after(self._bot.on_kicked)

    @property
    def users(self) -> frozenset[int]:
        """The ids of the users in the room: the bot, and all who have written or joined and have not left."""
        return frozenset(self._present)

    @property
    def state(self) -> RoomState:
        """The state of the room that the bot sees: its users, and the video that `show` has started."""
        return RoomState(known=True, users=self.users, playback=self._playback)

    # What follows is for the bot: see `ravesvc.bot.outbox.RoomLike`.

    async def chat(
        self,
        text: str,
        *,
        reply_to: str | None = None,
        mentions: Sequence[Mention] = (),
        media: Sequence[Media] = (),
    ) -> str:
        """Record a message of the bot."""
        if self._is_kicked:
            raise RaveError(Code.CLOSED, "the connection to the mesh is closed")
        self._sent.append(text)
        self.media += media
        self.mentions += mentions
        message_id = f"own{next(self._messages)}"
        self._texts[message_id] = text
        return message_id

    async def send_reaction(self, reaction: Reaction) -> None:
        """Record a reaction of the bot."""
        if self._is_kicked:
            raise RaveError(Code.CLOSED, "the connection to the mesh is closed")
        self.reactions.append((reaction.emoji, self._texts.get(reaction.to, "")))

    async def typing(self) -> None:
        """Ignore that the bot types."""

    async def typing_stop(self) -> None:
        """Ignore that the bot no longer types."""

    def is_own(self, message_id: str) -> bool:
        """Whether this is the id of a message of the bot."""
        return message_id.startswith("own")

    def ids_of(self, message_id: str) -> frozenset[str]:
        """All ids of the message: here it has one."""
        return frozenset({message_id})

    async def _sleep(self, seconds: float) -> None:
        """asyncio.sleep by the clock of the room."""
        with self._bot.idle.waiting():
            await self._alarm(seconds)

    def _alarm(self, seconds: float) -> asyncio.Future[None]:
        """What is done after that time."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_s + seconds, next(self._alarms), woken))
        return woken

    async def _sleep_of_plugin(self, seconds: float, result: Any) -> Any:
        await self._sleep(seconds)
        return result

    def _wake(self) -> None:
        """End the sleep of those whose time has come."""
        while self._sleepers and self._sleepers[0][0] <= self._now_s:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    async def _replies_to_user(self, action: Callable[[], object]) -> list[str]:
        self._rested_s += _REST_S
        return await self._replies_after(action)

    async def _replies_after(self, action: Callable[[], object]) -> list[str]:
        self.unasked += await self._settle()
        action()
        return await self._settle()

    async def _settle(self) -> list[str]:
        """What the bot says until all that it has started is done."""
        before = None
        # What waits until it may send lets time pass, and that wakes others.
        while before != self._now_s:
            before = self._now_s
            await self._bot.settle()
            await self._player.settle()
        sent, self._sent = self._sent, []
        return sent

    async def _display_names(self, users: Sequence[int]) -> Mapping[int, str]:
        names = {number: name for name, number in self._ids.items()}
        return {number: names[number] for number in users if number in names}
