"""The commands about videos: searching, playing, and the queue of the room."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ravesvc.bot import meshinfo
from ravesvc.bot import video_words as words
from ravesvc.bot.arguments import actor
from ravesvc.bot.command import Context, Registry
from ravesvc.bot.command_names import VIDEO, Permission
from ravesvc.bot.hits import Hit, Hits
from ravesvc.bot.parameters import usage_error
from ravesvc.bot.player import Player
from ravesvc.bot.queue import QueueEntry, Showing
from ravesvc.bot.text import plain
from ravesvc.bot.video_finder import MAX_QUERY_CHARS, VideoFinder, bounded
from ravesvc.common.picture import Media
from ravesvc.common.translation import gettext as _
from ravesvc.common.translation import lines, ngettext
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.media.links import is_link

if TYPE_CHECKING:
    from ravesvc.bot.backend import Backend

log = logging.getLogger(__name__)

_DOCUMENT = "hits"
_MAX_SHOWN_HITS = 3
_MAX_LISTED = 10
# For a picture on its way from its provider to Rave. After that the hit is shown without it.
_PICTURE_TIMEOUT_S = 15.0
# A reply waits no longer than this for the title of the video that plays, and then comes without it.
_RECOGNISE_TIMEOUT_S = 3.0
_SEARCH_COOLDOWN_S = 5.0
# Each asks Rave; one user must not use up what the bot may ask for.
_VOTE_COOLDOWN_S = 5.0


def register(
    registry: Registry,
    player: Player,
    backend: Backend,
    finder: VideoFinder,
    *,
    wall: Callable[[], float] = time.time,
) -> None:
    """Register all of them; `backend` also keeps what searches have found, `wall` is in seconds since the epoch."""
    commands = _VideoCommands(player, backend, finder, wall)
    add = partial(registry.command, group=VIDEO)
    some = _("<words>")
    add("search", _("Finds videos."), usage=some, example="big buck bunny", cooldown=_SEARCH_COOLDOWN_S)(
        commands.search
    )
    add(
        "set",
        _("Votes for a video that a search has found; it does not wait in the queue."),
        usage=_("<number>, or answer a hit with it"),
        example="1",
        cooldown=_VOTE_COOLDOWN_S,
    )(commands.set)
    add(
        "play",
        _("Plays a video, or queues it while another one plays."),
        usage=_("<link or words>"),
        example="https://youtu.be/aqz-KE-bpKQ",
    )(commands.play)
    add("queue", _("Lists the videos that wait."))(commands.queue)
    add("remove", _("Takes a video of yours out of the queue."), usage=_("<place>"), example="2")(commands.remove)
    add("skip", _("Skips your video, or votes to skip that of another user."))(commands.skip)
    add("clear", _("Empties the queue."), permission=Permission.ADMIN)(commands.clear)
    add("nowplaying", _("Tells what plays, and who asked for it."))(commands.nowplaying)
    meshinfo.register(registry, commands.recognise)
    add("like", _("Likes what plays."), cooldown=_VOTE_COOLDOWN_S)(commands.like)


class _VideoCommands:
    """The handlers."""

    def __init__(self, player: Player, backend: Backend, finder: VideoFinder, wall: Callable[[], float]) -> None:
        self._player = player
        self._backend = backend
        self._finder = finder
        self._wall = wall
        # None until they were loaded.
        self._hits: Hits | None = None
        # The last video that was looked up to name what plays, None if that failed, and its link.
        self._last_video: Video | None = None
        self._last_link = ""

    async def search(self, context: Context, *, sought: str) -> None:
        """Say the first ones that fit, each with its picture, and remember them."""
        asker = actor(context)
        with self._finder.asking(asker):
            await self._show_found(context, asker, bounded(sought))

    async def _show_found(self, context: Context, asker: int, sought: str) -> None:
        await context.reply(_("Searching for “{words}”", words=plain(sought, MAX_QUERY_CHARS)))
        videos = (await self._backend.search_videos(asker, sought))[:_MAX_SHOWN_HITS]
        if not videos:
            await context.reply(_("Nothing was found"))
            return
        pictures = await asyncio.gather(*(self._picture(context, asker, video) for video in videos))
        # Known before they are shown: a user may choose one before the last is on its way.
        hits = [Hit(video=video, number=number) for number, video in enumerate(videos, 1)]
        self._hits = (await self._hits_or_none()).add(hits)
        for hit, picture in zip(hits, pictures, strict=True):
            message_id = await context.send(words.hit(hit.number, hit.video), media=picture)
            self._hits = self._hits.shown(hit, context.outbox.ids_of(message_id))
        try:
            await self._backend.write_document(_DOCUMENT, self._hits.to_json())
        except RaveError as error:
            # They were shown, and hold for as long as this process does.
            log.warning("The hits of a search can't be kept: %s", error)

    async def set(self, context: Context, number: int | None = None) -> None:
        """Vote for a hit: by its number in the last search, or by an answer to its message."""
        asker, video = actor(context), await self._chosen_hit(context, number)
        former = await self._player.choose(self._entry(asker, video))
        await context.reply(words.voted(video, former))

    async def play(self, context: Context, *, video: Video) -> None:
        """Put a video into the queue, which plays it at once if nothing else does."""
        place = await self._player.add(self._entry(actor(context), video))
        if place:
            await context.reply(_("Queued at place {n}: {title}", n=place, title=words.title(video)))
        else:
            await context.reply(words.up_next(video))

    async def queue(self, context: Context) -> None:
        """List what waits, with who asked for it."""
        scheduler = await self._player.scheduler()
        waiting = scheduler.queue.waiting
        if not waiting:
            await context.reply(_("The queue is empty"))
            return
        await context.people.prefetch([entry.user for entry in waiting[:_MAX_LISTED]])
        answer: list[str] = [ngettext("{n} video waits:", "{n} videos wait:", len(waiting))]
        for place, entry in enumerate(waiting[:_MAX_LISTED], 1):
            name = await context.people.name(entry.user)
            answer.append(_("{n}. {title}, for {name}", n=place, title=words.title(entry.video), name=name))
        if len(waiting) > _MAX_LISTED:
            answer.append(ngettext("and {n} more", "and {n} more", len(waiting) - _MAX_LISTED))
        if scheduler.stalled:
            answer.append(words.waiting_text(scheduler.stalled))
        await context.reply(lines(*answer))

    async def remove(self, context: Context, place: int) -> None:
        """Take an entry out: users their own, admins any."""
        asker = actor(context)
        waiting = (await self._player.scheduler()).queue.waiting
        if not 1 <= place <= len(waiting):
            hint = _("see {command}", command=f"{context.prefixes[0]}queue")
            raise RaveError(Code.INVALID_ARGUMENT, _("there is no place {n} in the queue", n=place), hint=hint)
        entry = waiting[place - 1]
        if entry.user != asker and asker not in context.permissions.admins:
            raise RaveError(Code.ACCESS_DENIED, _("only admins may remove what others have asked for"))
        await self._player.remove(entry.video)
        answer = _("Removed: {title}", title=words.title(entry.video))
        await context.reply(words.removed(answer, (await self._player.scheduler()).queue))

    async def skip(self, context: Context) -> None:
        """Skip what plays: its user and admins at once, others by vote."""
        asker = actor(context)
        scheduler = await self._player.scheduler()
        votes, needed = self._player.skip_votes(scheduler, asker)
        own = scheduler.own_playing()
        at_once = asker in context.permissions.admins or (own is not None and own.user == asker)
        if at_once or votes >= needed or self._player.is_skipped(scheduler):
            await context.reply(words.skip(await self._player.skip()))
        else:
            await context.reply(_("{votes} of {needed} votes to skip", votes=votes, needed=needed))

    async def clear(self, context: Context) -> None:
        """Empty the queue."""
        cleared = await self._player.clear()
        answer = ngettext("Removed {n} video", "Removed {n} videos", cleared)
        await context.reply(words.removed(answer, (await self._player.scheduler()).queue))

    async def nowplaying(self, context: Context) -> None:
        """Title, position and length of what plays, and who asked for it."""
        playback = context.room.playback
        if playback is None:
            raise words.nothing_plays()
        answer = words.plays(playback, await self.recognise(context), context.server_now)
        own = await self._own_playing()
        if own is None:
            await context.reply(answer)
            return
        name = await context.people.name(own.user)
        await context.reply(lines(answer, _("Asked for by {name}", name=name)))

    async def like(self, context: Context) -> None:
        """Have the bot like what plays, which is one like for all users."""
        if context.own_user_id in context.room.likes:
            await context.reply(_("I like it already"))
            return
        await self._player.like()
        await context.reply(_("Liked"))

    async def recognise(self, context: Context) -> Video | None:
        """The video that plays: from the queue, from the hits of searches, or from the providers."""
        playback = context.room.playback
        if playback is None:
            return None
        if own := await self._own_playing():
            return own.video
        if hit := (await self._hits_or_none()).by_showing(Showing(playback.url, playback.video_url)):
            return hit
        link = playback.video_url
        if link != self._last_link:
            # Stored before the look-up: one that fails is not repeated, as the look-ups of a room are limited.
            self._last_link, self._last_video = link, None
            self._last_video = await self._look_up_in_time(context, link) if is_link(link) else None
        return self._last_video

    async def _own_playing(self) -> QueueEntry | None:
        try:
            return (await self._player.scheduler()).own_playing()
        except RaveError as error:
            log.info("The bot can't tell who has asked for the video that plays: %s", error)
            return None

    async def _look_up_in_time(self, context: Context, link: str) -> Video | None:
        try:
            async with asyncio.timeout(_RECOGNISE_TIMEOUT_S):
                return await self._backend.look_up_video(context.user_id or 0, link)
        except (RaveError, TimeoutError) as error:
            log.info("The bot can't look up the title of the video that plays: %s", str(error) or "no answer in time")
            return None

    def _entry(self, asker: int, video: Video) -> QueueEntry:
        return QueueEntry(video=video, user=asker, asked_at=int(self._wall()))

    async def _chosen_hit(self, context: Context, number: int | None) -> Video:
        reply_to = context.message.reply_to
        if number is not None:
            video = (await self._load_hits()).by_number(number)
            missing = _("no search here has found a number {n}", n=number)
        elif not reply_to:
            raise usage_error(context.said)
        else:
            video = (await self._load_hits()).by_message(context.outbox.ids_of(reply_to))
            missing = _("that is no answer to a video that was found")
        if video is None:
            hint = _(
                "answer one of the messages of {search} with {command}, or write {command} and its number",
                search=f"{context.prefixes[0]}search",
                command=context.written,
            )
            raise RaveError(Code.INVALID_ARGUMENT, missing, hint=hint)
        return video

    async def _hits_or_none(self) -> Hits:
        """The hits of earlier searches; none while they can't be loaded."""
        try:
            return await self._load_hits()
        except RaveError as error:
            log.warning("The hits of earlier searches can't be read: %s", error)
            return Hits()

    async def _load_hits(self) -> Hits:
        if self._hits is None:
            text = await self._backend.read_document(_DOCUMENT)
            try:
                self._hits = Hits() if text is None else Hits.from_json(text)
            except RaveError as error:
                log.warning("The hits of searches in the room are lost: %s", error)
                self._hits = Hits()
        return self._hits

    async def _picture(self, context: Context, asker: int, video: Video) -> list[Media]:
        """The picture of a video, for a message; none if there is none or it can't be fetched."""
        try:
            async with asyncio.timeout(_PICTURE_TIMEOUT_S):
                with await self._backend.fetch_picture(asker, video) as picture:
                    return [await context.rave.upload(picture)]
        except (RaveError, TimeoutError) as error:
            log.info("a hit is shown without its picture: %s", error)
            return []
