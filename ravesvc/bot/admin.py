"""The commands that rule the service from the chat: admins, permissions, account, and sending the bot away."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from ravesvc.bot.backend import Backend
from ravesvc.bot.command import CLAIM, LEAVE, Command, Permission, Registry, refuse_fixed
from ravesvc.bot.context import Context
from ravesvc.bot.parsing import without_prefix
from ravesvc.bot.text import plain
from ravesvc.errors import Code, RaveError
from ravesvc.room.state import user_id
from ravesvc.spelling import fold
from ravesvc.words import count

log = logging.getLogger(__name__)

# Somebody has ten minutes to find the mail, and then Rave has to be asked.
_RELOGIN_SECONDS = 900.0
_NAME_LENGTH = 32
# What is compared of words that may have anything in them.
_WORD_LENGTH = 128
_HANDLE_LENGTH = 64
_FEW_SECONDS = 90

_PERMISSIONS = {str(permission): permission for permission in Permission}
_FOR = {Permission.ADMIN: "for admins only", Permission.USER: "for everybody"}


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
        unloaded: names the own commands that could not be loaded, by file or package.
    """
    commands = _AdminCommands(backend, leave, unloaded)
    only = Permission.ADMIN
    registry.command("admin", "Makes a user an admin, or one no longer.", permission=only)(commands.admin)
    registry.command(CLAIM, "Makes you an admin, with a code from the operator.")(commands.claim)
    registry.command("ignore", "Has all bots ignore a user, or listen again.", permission=only)(commands.ignore)
    registry.command(LEAVE, "Makes the bot leave this mesh.", permission=only)(commands.leave)
    registry.command("listperms", "Lists which command is for whom.", permission=only)(commands.listperms)
    registry.command("refresh", "Reads own commands, admins, permissions and account again.", permission=only)(
        commands.refresh
    )
    registry.command(
        "relogin", "Logs the bot in again, by a link in a mail.", permission=only, seconds=_RELOGIN_SECONDS
    )(commands.relogin)
    registry.command("removeperm", "Undoes what setperm did to a command.", permission=only)(commands.removeperm)
    registry.command("setperm", "Says whether a command is for admins or all.", permission=only)(commands.setperm)


class _AdminCommands:
    """The handlers. No line that they say begins with a name or a word that somebody chose: it might be a command."""

    def __init__(
        self, backend: Backend, leave: Callable[[], Awaitable[None]], unloaded: Callable[[], Sequence[str]]
    ) -> None:
        self._backend = backend
        self._leave = leave
        self._unloaded = unloaded

    async def admin(self, context: Context) -> None:
        """Give or take the right of an admin, by mention or by user id."""
        actor, user, removing = _change_of_user(context)
        if removing:
            done = await self._backend.remove_admin(actor, user)
            what = "No longer an admin" if done else "Not an admin anyway"
        else:
            done = await self._backend.add_admin(actor, user)
            what = "Now an admin" if done else "Already an admin"
        await context.reply(f"{what}: {await _person(context, user)}")

    async def ignore(self, context: Context) -> None:
        """Have no bot listen to a user, by mention or by user id, or have them listened to again."""
        actor, user, removing = _change_of_user(context)
        if removing:
            done = await self._backend.unignore_user(actor, user)
            what = "Listening again to" if done else "Not ignored by this command anyway"
        else:
            done = await self._backend.ignore_user(actor, user)
            what = "Ignored from now on" if done else "Ignored already"
        await context.reply(f"{what}: {await _person(context, user)}")

    async def claim(self, context: Context) -> None:
        """Make the asker an admin, if they have the code that the host has shown."""
        done = await self._backend.claim_admin(_actor(context), " ".join(context.args))
        await context.reply("You are an admin now, in all rooms" if done else "You are an admin already")

    async def setperm(self, context: Context) -> None:
        """Say whom a command is for."""
        actor = _actor(context)
        permission = _PERMISSIONS.get(fold(context.args[1][:_NAME_LENGTH])) if len(context.args) == 2 else None
        if permission is None:
            raise _usage(f"{context.prefixes[0]}setperm <command> <admin|user>")
        name = _command_name(context)
        command = context.registry.get(name)
        if command is None:
            raise _unknown(context, name, (c.key for c in context.registry.commands() if not c.fixed))
        refuse_fixed(name)
        await self._backend.set_permission(actor, name, permission, command.description)
        await context.reply(f"The command {command.name} is {_FOR[permission]} now")

    async def removeperm(self, context: Context) -> None:
        """Reset a command to its default permission; or forget about one that is no more."""
        actor = _actor(context)
        if len(context.args) != 1:
            raise _usage(f"{context.prefixes[0]}removeperm <command>")
        name = _command_name(context)
        command, overrides = context.registry.get(name), context.permissions.overrides
        if command is None and name not in overrides:
            raise _unknown(context, name, overrides)
        refuse_fixed(name)
        removed = await self._backend.remove_permission(actor, name)
        shown = plain(name, _NAME_LENGTH)
        if command is None:
            said = f"Forgotten: {shown}, which is no command here" if removed else f"Nothing is set for {shown}"
        else:
            own = _FOR[command.permission]
            said = f"The command {shown} is {own} again" if removed else f"Nothing is set for {shown}: it is {own}"
        await context.reply(said)

    async def listperms(self, context: Context) -> None:
        """Tell how many admins there are, and which command is for whom."""
        permissions = context.permissions
        commands = context.registry.commands()
        unknown = sorted(name for name in permissions.overrides if context.registry.get(name) is None)
        lines = [f"• {count(len(permissions.admins), 'admin')}"]
        for permission, what in (Permission.ADMIN, "Admins only"), (Permission.USER, "Everybody"):
            listed = [_marked(context, c) for c in commands if permissions.needed(c) is permission]
            lines.append(f"• {what}: {', '.join(listed) or 'none'}")
        if unknown:
            lines.append(f"• Set, but no commands here: {', '.join(plain(n, _NAME_LENGTH) for n in unknown)}")
        await context.reply("\n".join(["Permissions:", *lines]))

    async def refresh(self, context: Context) -> None:
        """Have everything read again, everywhere."""
        counts = await self._backend.refresh(_actor(context))
        permissions = count(counts.permissions, "command permission")
        lines = [f"Refreshed: {count(counts.admins, 'admin')}, {permissions}"]
        if unloaded := self._unloaded():
            # Where they are and what is wrong with them is not for a room.
            names = ", ".join(plain(name, _NAME_LENGTH) for name in unloaded)
            lines.append(f"• Own commands that fail to load, as the log explains: {names}")
        await context.reply("\n".join(lines))

    async def relogin(self, context: Context) -> None:
        """Log in again; a person has to follow a link meanwhile."""
        seconds = await self._backend.relogin(_actor(context))
        minutes = count(round(seconds / 60), "minute")
        left = count(seconds, "second") if seconds < _FEW_SECONDS else minutes
        await _try_reply(context, f"A mail with a link is on its way: follow it within {left}")
        await self._backend.login_ended()
        await context.reply("Logged in again")

    async def leave(self, context: Context) -> None:
        """Say goodbye and go."""
        # Nobody is user 0, who may do what everybody may.
        await self._backend.allow_leave(context.user_id or 0)
        await _try_reply(context, "Goodbye!")
        await self._leave()


def _change_of_user(context: Context) -> tuple[int, int, bool]:
    """Who asks, which user they mean, and whether `remove` follows; raises InvalidArgument for any other word."""
    actor = _actor(context)
    user, words = _whom(context)
    order = fold(" ".join(words)[:_NAME_LENGTH])
    if order not in ("", "remove"):
        raise _user_usage(context)
    return actor, user, bool(order)


def _actor(context: Context) -> int:
    if context.user_id is None:
        raise RaveError(Code.ACCESS_DENIED, "Rave does not tell who you are")
    return context.user_id


def _whom(context: Context) -> tuple[int, list[str]]:
    """The user whom the first words mean, and the words after them."""
    words = list(context.args)
    if not words:
        raise _user_usage(context)
    first = fold(words[0][:_NAME_LENGTH])
    if not first.startswith("@"):
        user = user_id(first)
        if user is None:
            raise _user_usage(context)
        return user, words[1:]
    users = {mention.user_id: mention for mention in context.message.mentions}
    if not users:
        raise RaveError(
            Code.INVALID_ARGUMENT,
            "that word mentions no user",
            hint=f"pick a user from the list that Rave shows after @, or write {_written(context)} <user id>",
        )
    if len(users) > 1:
        raise RaveError(Code.INVALID_ARGUMENT, "that mentions several users", hint="name one at a time")
    (mention,) = users.values()
    # A handle may have blanks.
    handle = _folded(f"@{mention.handle}".split())
    return mention.user_id, words[len(handle) if _folded(words[: len(handle)]) == handle else 1 :]


def _folded(words: Iterable[str]) -> list[str]:
    return [fold(word[:_HANDLE_LENGTH]) for word in words]


def _command_name(context: Context) -> str:
    """The key of the command that the first word names, perhaps with a prefix."""
    word = context.args[0][:_WORD_LENGTH]
    key = fold(word)
    if context.registry.get(key) or key in context.permissions.overrides:
        return key
    bare = (rest for prefix in context.prefixes if (rest := without_prefix(word, prefix)) is not None)
    return fold(next(bare, word))


def _unknown(context: Context, name: str, candidates: Iterable[str]) -> RaveError:
    near = difflib.get_close_matches(name[: 2 * _NAME_LENGTH], candidates, 1)
    hint = f"did you mean {plain(near[0], _NAME_LENGTH)}?" if near else f"see {context.prefixes[0]}help"
    shown = plain(name, _NAME_LENGTH) or "of that name"
    return RaveError(Code.INVALID_ARGUMENT, f"there is no command {shown}", hint=hint)


def _user_usage(context: Context) -> RaveError:
    command = _written(context)
    undo = "to listen again" if context.command.key == "ignore" else "to take the right away"
    return _usage(f"{command} @user, {command} <user id>, and remove after it {undo}")


def _written(context: Context) -> str:
    """The command that was used, as one writes it."""
    return f"{context.prefixes[0]}{context.command.name}"


def _usage(usage: str) -> RaveError:
    return RaveError(Code.INVALID_ARGUMENT, f"write {usage}")


def _marked(context: Context, command: Command) -> str:
    changed = not command.fixed and command.key in context.permissions.overrides
    return f"{command.name} (set)" if changed else command.name


async def _person(context: Context, user: int) -> str:
    """The user's name, and the id, which nobody else can have."""
    name = await context.people.name(user)
    return name if name == f"User {user}" else f"{name} ({user})"


async def _try_reply(context: Context, text: str) -> None:
    """Reply, if that is possible; what comes after matters more."""
    try:
        await context.reply(text)
    except RaveError as error:
        log.info("cannot answer a message: %s", error)
