"""`meshinfo`: the room, who is in it, and what plays there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from ravesvc.bot.command import Context, Registry
from ravesvc.bot.text import plain
from ravesvc.bot.video_words import plays
from ravesvc.common.translation import gettext as _
from ravesvc.common.translation import joined, lines, ngettext
from ravesvc.common.video import Video
from ravesvc.room.playback import PlayMode

_SHORT_ID_CHARS = 8
_MAX_TITLE_CHARS = 80
# A line with more names could be split in the middle, where a stranger's name may be a command.
_MAX_NAMES = 8
_MODES = {
    PlayMode.VOTE: _("people vote for the next video"),
    PlayMode.QUICKPLAY: _("quick play"),
    PlayMode.AUTOPLAY: _("videos follow by themselves"),
    PlayMode.LEADER: _("the leader chooses"),
}


# What the bot knows of the video that plays in the room of a context, if anything.
Recognise: TypeAlias = Callable[[Context], Awaitable[Video | None]]


async def _nothing_known(_context: Context) -> None: ...


def register(registry: Registry, recognise: Recognise = _nothing_known) -> None:
    """Register the command, in place of an earlier one that knows less of videos."""

    async def meshinfo(context: Context) -> None:
        await _meshinfo(context, recognise)

    registry.command("meshinfo", _("Tells about this room: server, people, leader and what plays."))(meshinfo)


async def _meshinfo(context: Context, recognise: Recognise) -> None:
    """What is known of the room; what is not known is left out."""
    room = context.room
    title = plain(context.facts.title, _MAX_TITLE_CHARS) or _("untitled")
    answer: list[str] = [
        _("Mesh: {title} ({id})", title=title, id=context.mesh_id[:_SHORT_ID_CHARS]),
        _("• Server: {server}", server=context.facts.server or _("unknown")),
        await _people(context),
    ]
    if room.leader is not None:
        answer.append(_("• Leader: {name}", name=await context.people.name(room.leader)))
    if room.play_mode in _MODES:
        answer.append(_("• Play mode: {mode}", mode=_MODES[room.play_mode]))
    if room.playback:
        answer.append(joined(" ", ["•", plays(room.playback, await recognise(context), context.server_now)]))
    elif room.known:
        answer.append(_("• Nothing plays"))
    await context.reply(lines(*answer))


async def _people(context: Context) -> str:
    users = sorted(context.users)
    await context.people.prefetch(users[:_MAX_NAMES])
    names = [await context.people.name(user) for user in users[:_MAX_NAMES]]
    if len(users) > _MAX_NAMES:
        names.append(ngettext("{n} more", "{n} more", len(users) - _MAX_NAMES))
    return ngettext("• {n} user: {names}", "• {n} users: {names}", len(users), names=joined(", ", names))
