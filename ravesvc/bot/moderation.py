"""`leader`, `kick`, `mute`, `unmute` and `modlog`: admins moderate a room, and what they did is kept."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from ravesvc.bot.arguments import actor
from ravesvc.bot.command import Context, Registry
from ravesvc.bot.command_names import MODERATION, Permission
from ravesvc.bot.mentions import Member
from ravesvc.bot.text import duration, plain
from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.common.translation import gettext as _
from ravesvc.common.translation import lines
from ravesvc.errors import Code, RaveError

if TYPE_CHECKING:
    from ravesvc.bot.backend import Backend

log = logging.getLogger(__name__)

_HISTORY = "moderation"
_MAX_REASON_CHARS = 200
_MAX_SHOWN_ENTRIES = 5

# What the history says of an action, by the name of the command. No line begins with a name that a user chose.
_LOGGED: Mapping[str, Callable[..., str]] = {
    "leader": lambda **who: _("• {time} ago: {user} was made the leader by {actor}", **who),
    "kick": lambda **who: _("• {time} ago: {user} was kicked by {actor}", **who),
    "mute": lambda **who: _("• {time} ago: {user} was muted by {actor}", **who),
    "unmute": lambda **who: _("• {time} ago: {user} was unmuted by {actor}", **who),
}


def register(registry: Registry, backend: Backend, *, wall: Callable[[], float] = time.time) -> None:
    """Register all of them; `wall` is the time in seconds since the epoch."""
    commands = _Moderation(backend, wall)
    add = partial(registry.command, permission=Permission.ADMIN, group=MODERATION)
    user = _("<@user or user id> [reason]")
    add("leader", _("Makes a user the leader of this room."), usage=user, example="@Ann")(commands.leader)
    add("kick", _("Throws a user out of this room."), usage=user, example="@Ann spam")(commands.kick)
    add("mute", _("Takes a user's voice in this room."), usage=user, example="@Ann too loud")(commands.mute)
    add("unmute", _("Gives a user's voice back."), usage=user, example="@Ann")(commands.unmute)
    add("modlog", _("Shows whom admins kicked, muted or made the leader here lately."))(commands.modlog)


class _Moderation:
    """The handlers."""

    def __init__(self, backend: Backend, wall: Callable[[], float]) -> None:
        self._backend = backend
        self._wall = wall

    async def leader(self, context: Context, user: Member, *, reason: str = "") -> None:
        """Hand on the leadership of the room, which may be to the bot itself."""
        actor(context)
        await context.rave.transfer_leadership(user.id)
        person = await context.people.name_and_id(user.id)
        await self._log_and_reply(context, user.id, reason, _("The leader is now: {user}", user=person))

    async def kick(self, context: Context, user: Member, *, reason: str = "") -> None:
        """Throw a user out."""
        actor(context)
        _require_other_user(context, user.id)
        await context.rave.kick(user.id)
        person = await context.people.name_and_id(user.id)
        await self._log_and_reply(context, user.id, reason, _("Kicked: {user}", user=person))

    async def mute(self, context: Context, user: Member, *, reason: str = "") -> None:
        """Mute a user."""
        actor(context)
        _require_other_user(context, user.id)
        await context.rave.mute(user.id)
        person = await context.people.name_and_id(user.id)
        await self._log_and_reply(context, user.id, reason, _("Muted: {user}", user=person))

    async def unmute(self, context: Context, user: Member, *, reason: str = "") -> None:
        """Unmute a user."""
        actor(context)
        await context.rave.unmute(user.id)
        person = await context.people.name_and_id(user.id)
        await self._log_and_reply(context, user.id, reason, _("No longer muted: {user}", user=person))

    async def modlog(self, context: Context) -> None:
        """The latest of the history, the latest first."""
        entries = await self._backend.read_history(_HISTORY, _MAX_SHOWN_ENTRIES)
        answer = [line for entry in reversed(entries) if (line := await self._entry_text(context, entry))]
        await context.reply(
            lines(_("What admins did here lately:"), *answer) if answer else _("Nothing is noted here")
        )

    async def _log_and_reply(self, context: Context, user: int, reason: str, answer: str) -> None:
        """Add what was done to the history, and reply. A history that can't be written undoes nothing."""
        reason = plain(reason, _MAX_REASON_CHARS)
        entry = {"action": context.command.key, "user": user, "actor": context.user_id, "reason": reason}
        try:
            await self._backend.append_history(_HISTORY, json.dumps(entry))
        except RaveError as error:
            log.warning("The history has no entry of what an admin did to user %s: %s", user, error)
            answer = lines(answer, _("That could not be noted: {why}", why=error.message))
        await context.reply(answer)

    async def _entry_text(self, context: Context, text: str) -> str:
        """A line of the history; empty if the entry can't be read."""
        try:
            entry = json_fields.parse_object(text, "an entry of the history")
            return await self._line(context, entry)
        except RaveError as error:
            log.warning("An entry of the history can't be read: %s", error)
            return ""

    async def _line(self, context: Context, entry: Object) -> str:
        describe = _LOGGED.get(json_fields.get_str(entry, "action"))
        if describe is None:
            return ""
        age = duration(self._wall() - json_fields.get_number(entry, "time"))
        user = await context.people.name_and_id(json_fields.get_int(entry, "user"))
        by = await context.people.name_and_id(json_fields.get_int(entry, "actor"))
        line = describe(time=age, user=user, actor=by)
        reason = plain(json_fields.opt_str(entry, "reason") or "", _MAX_REASON_CHARS)
        return _("{what}: {reason}", what=line, reason=reason) if reason else line


def _require_other_user(context: Context, user: int) -> None:
    if user == context.own_user_id:
        raise RaveError(Code.INVALID_ARGUMENT, _("that is the bot itself"))
    if user in context.permissions.admins:
        raise RaveError(Code.INVALID_ARGUMENT, _("that user is an admin"), hint=_("take that right away first"))
