"""The commands that rule the service from the chat: admins, permissions, account, and sending the bot away."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from ravesvc.bot.arguments import (
    MAX_NAME_CHARS,
    actor,
    command_key,
    unknown_command,
)
from ravesvc.bot.command import Command, Context, Registry
from ravesvc.bot.command_names import CLAIM, LEAVE, SERVICE, Permission, refuse_fixed
from ravesvc.bot.parameters import UserId
from ravesvc.bot.text import plain
from ravesvc.common.translation import gettext as _
from ravesvc.common.translation import joined, lines, ngettext
from ravesvc.errors import RaveError

if TYPE_CHECKING:
    from ravesvc.bot.backend import Backend

log = logging.getLogger(__name__)

# The user has ten minutes to follow the link in the mail, and then Rave has to be asked.
_RELOGIN_TIMEOUT_S = 900.0
_SHOWN_IN_SECONDS_BELOW_S = 90
# Characters typed of a code, which has 9; what is cut is no code to the service either.
_MAX_CODE_CHARS = 100


def register(
    registry: Registry,
    backend: Backend,
    leave: Callable[[], Awaitable[None]],
    unloaded: Callable[[], Sequence[str]],
) -> None:
    """Register all of them.

    Args:
        registry: where.
        backend: does what they ask for.
        leave: makes the bot leave the mesh for good; raises `RaveError`.
        unloaded: names the plugins that could not be loaded, by file or package.
    """
    commands = _AdminCommands(backend, leave, unloaded)
    add = partial(registry.command, permission=Permission.ADMIN, group=SERVICE)
    user = _("<@user or user id> [remove]")
    command = _("<command>")
    add("admin", _("Makes a user an admin, or one no longer."), usage=user, example="@Ann remove")(commands.admin)
    registry.command(
        CLAIM, _("Makes you an admin, with a code from the operator."), group=SERVICE, usage=_("<code>")
    )(commands.claim)
    add("ignore", _("Has all bots ignore a user, or listen again."), usage=user, example="@Ann")(commands.ignore)
    add(LEAVE, _("Makes the bot leave this mesh."))(commands.leave)
    add("listperms", _("Lists which command is for whom."))(commands.listperms)
    add("refresh", _("Reads plugins, admins, permissions and account again."))(commands.refresh)
    add("relogin", _("Logs the bot in again, by a link in a mail."), seconds=_RELOGIN_TIMEOUT_S)(commands.relogin)
    add("removeperm", _("Undoes what setperm did to a command."), usage=command, example="ping")(commands.removeperm)
    add(
        "setperm",
        _("Says whether a command is for admins or all."),
        usage=joined(" ", [command, "<admin|user>"]),
        example="ping admin",
    )(commands.setperm)


class _AdminCommands:
    """The handlers. No line of an answer begins with a name or word that a user chose: it might be a command."""

    def __init__(
        self, backend: Backend, leave: Callable[[], Awaitable[None]], unloaded: Callable[[], Sequence[str]]
    ) -> None:
        self._backend = backend
        self._leave = leave
        self._unloaded = unloaded

    async def admin(self, context: Context, user: UserId, order: Literal["remove"] | None = None) -> None:
        """Make a user an admin, or no longer."""
        change = self._backend.remove_admin if order else self._backend.add_admin
        done = await change(actor(context), user)
        person = await context.people.name_and_id(user)
        if order:
            answer = (
                _("No longer an admin: {user}", user=person)
                if done
                else _("Not an admin anyway: {user}", user=person)
            )
        else:
            answer = _("Now an admin: {user}", user=person) if done else _("Already an admin: {user}", user=person)
        await context.reply(answer)

    async def ignore(self, context: Context, user: UserId, order: Literal["remove"] | None = None) -> None:
        """Make all bots ignore a user, or no longer."""
        change = self._backend.unignore_user if order else self._backend.ignore_user
        done = await change(actor(context), user)
        person = await context.people.name_and_id(user)
        if order:
            listening = _("Listening again to: {user}", user=person)
            answer = listening if done else _("Not ignored by this command anyway: {user}", user=person)
        else:
            ignored = _("Ignored from now on: {user}", user=person)
            answer = ignored if done else _("Ignored already: {user}", user=person)
        await context.reply(answer)

    async def claim(self, context: Context, *, code: str = "") -> None:
        """Make the asker an admin, if they have the code that the host has shown."""
        done = await self._backend.claim_admin(actor(context), code[:_MAX_CODE_CHARS])
        await context.reply(_("You are an admin now, in all rooms") if done else _("You are an admin already"))

    async def setperm(self, context: Context, word: str, whom: Literal["admin", "user"]) -> None:
        """Set who may run a command."""
        asker, permission = actor(context), Permission(whom)
        name = command_key(context, word)
        command = context.registry.get(name)
        if command is None:
            raise unknown_command(context, name, (c.key for c in context.registry.commands() if not c.fixed))
        refuse_fixed(name)
        await self._backend.set_permission(asker, name, permission, str(command.description))
        if permission is Permission.ADMIN:
            await context.reply(_("The command {name} is for admins only now", name=command.name))
        else:
            await context.reply(_("The command {name} is for all users now", name=command.name))

    async def removeperm(self, context: Context, word: str) -> None:
        """Reset a command to its default permission; or forget about one that is no more."""
        asker = actor(context)
        name = command_key(context, word)
        command, overrides = context.registry.get(name), context.permissions.overrides
        if command is None and name not in overrides:
            raise unknown_command(context, name, overrides)
        refuse_fixed(name)
        removed = await self._backend.remove_permission(asker, name)
        say = _after_removal if removed else _nothing_set
        await context.reply(say(command, plain(name, MAX_NAME_CHARS)))

    async def listperms(self, context: Context) -> None:
        """List how many admins there are, and who may run which command."""
        permissions = context.permissions
        commands = context.registry.commands()
        unknown = sorted(name for name in permissions.overrides if context.registry.get(name) is None)
        listed = {
            permission: joined(", ", [_marked(context, c) for c in commands if permissions.needed(c) is permission])
            for permission in Permission
        }
        answer = [
            _("Permissions:"),
            ngettext("• {n} admin", "• {n} admins", len(permissions.admins)),
            _("• Admins only: {commands}", commands=listed[Permission.ADMIN] or _("none")),
            _("• All users: {commands}", commands=listed[Permission.USER] or _("none")),
        ]
        if unknown:
            names = ", ".join(plain(name, MAX_NAME_CHARS) for name in unknown)
            answer.append(_("• Set, but no commands here: {names}", names=names))
        await context.reply(lines(*answer))

    async def refresh(self, context: Context) -> None:
        """Make the service and all bots read everything again."""
        counts = await self._backend.refresh(actor(context))
        admins = ngettext("{n} admin", "{n} admins", counts.admins)
        permissions = ngettext("{n} command permission", "{n} command permissions", counts.permissions)
        answer = [_("Refreshed: {admins}, {permissions}", admins=admins, permissions=permissions)]
        if unloaded := self._unloaded():
            # Their paths and errors are for the operator, not for the users of a room.
            names = ", ".join(plain(name, MAX_NAME_CHARS) for name in unloaded)
            answer.append(_("• Plugins that fail to load, as the log explains: {names}", names=names))
        await context.reply(lines(*answer))

    async def relogin(self, context: Context) -> None:
        """Log in again; a person has to follow a link meanwhile."""
        seconds = await self._backend.relogin(actor(context))
        if seconds < _SHOWN_IN_SECONDS_BELOW_S:
            left = ngettext("{n} second", "{n} seconds", seconds)
        else:
            left = ngettext("{n} minute", "{n} minutes", round(seconds / 60))
        await _try_reply(context, _("A mail with a link is on its way: follow it within {time}", time=left))
        await self._backend.login_ended()
        await context.reply(_("Logged in again"))

    async def leave(self, context: Context) -> None:
        """Say goodbye and go."""
        # User 0 stands for an unknown sender: it is no admin, and may do what all users may.
        await self._backend.allow_leave(context.user_id or 0)
        await _try_reply(context, _("Goodbye!"))
        await self._leave()


def _after_removal(command: Command | None, name: str) -> str:
    """What to say when a command has its own permission again."""
    if command is None:
        return _("Forgotten: {name}, which is no command here", name=name)
    if command.permission is Permission.ADMIN:
        return _("The command {name} is for admins only again", name=name)
    return _("The command {name} is for all users again", name=name)


def _nothing_set(command: Command | None, name: str) -> str:
    """What to say when it had it all the time."""
    if command is None:
        return _("Nothing is set for {name}", name=name)
    if command.permission is Permission.ADMIN:
        return _("Nothing is set for {name}: it is for admins only", name=name)
    return _("Nothing is set for {name}: it is for all users", name=name)


def _marked(context: Context, command: Command) -> str:
    changed = not command.fixed and command.key in context.permissions.overrides
    return _("{command} (set)", command=command.name) if changed else command.name


async def _try_reply(context: Context, text: str) -> None:
    """Reply, if that is possible; what comes after matters more."""
    try:
        await context.reply(text)
    except RaveError as error:
        log.info("cannot answer a message: %s", error)
