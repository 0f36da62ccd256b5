"""`help`: the commands by group, one group with a line for each, or one command with how it is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ravesvc.bot.arguments import command_key, unknown_command
from ravesvc.bot.command import Command, Context, Registry
from ravesvc.bot.command_names import GAMES, GENERAL, MODERATION, MORE, SERVICE, VIDEO, Permission
from ravesvc.bot.limits import Per
from ravesvc.common.spelling import fold
from ravesvc.common.translation import LazyText, joined, lines, ngettext
from ravesvc.common.translation import gettext as _

# In the order of `help`. Groups that authors name come after these, by name.
_TITLES: Mapping[str, str] = {
    GENERAL: _("General"),
    VIDEO: _("Video"),
    GAMES: _("Games"),
    MODERATION: _("Moderation"),
    SERVICE: _("Service"),
    MORE: _("More"),
}
# Authors may register any number of commands. A message holds some 30 names, or 10 lines.
_MAX_NAMES = 60
_MAX_LINES = 30
_MAX_GROUP_CHARS = 64
# No line is longer than half a message, so that each message that a long answer is split into begins with a whole
# line: one that began with a name might be a command of another bot.
_NAMES_PER_LINE = 12


def register(registry: Registry) -> None:
    """Register the command."""
    registry.command(
        "help",
        _("Lists the commands that you may use, or explains one of them."),
        usage=_("[command or group]"),
        example="ping",
    )(help_)


async def help_(context: Context, *, topic: str = "") -> None:
    """List what the asker may run, or explain what they name."""
    if not topic:
        await context.reply(_overview(context))
        return
    first, *others = topic.split(maxsplit=1)
    name = command_key(context, first)
    rest = others[0] if others else ""
    if found := context.registry.find(fold(first[:_MAX_GROUP_CHARS]), rest) or context.registry.find(name, rest):
        await context.reply(_explanation(context, found[0]))
        return
    groups = _groups(context.allowed_commands())
    # The title of a group may have several words.
    words = fold(" ".join(topic.split())[:_MAX_GROUP_CHARS])
    for group, commands in groups.items():
        if group in (name, words) or words == fold(context.translate(_title(commands))):
            await context.reply(_list(context, commands))
            return
    raise unknown_command(context, name, [c.key for c in context.allowed_commands()] + list(groups))


def _overview(context: Context) -> str:
    first = context.prefixes[0]
    groups = _groups(context.allowed_commands())
    listed = [line for commands in groups.values() for line in _names(commands)]
    hint = _("Write {command} and the name of a command or group to learn more", command=f"{first}help")
    others = [_("Instead of {prefix} you may also write {others}", prefix=first, others=_alternatives(context))]
    return lines(_("Commands:"), *listed, hint, *(others if context.prefixes[1:] else []))


def _names(commands: Sequence[Command]) -> Iterable[str]:
    shown = [command.name for command in commands[:_MAX_NAMES]]
    if len(commands) > _MAX_NAMES:
        shown.append(ngettext("{n} more", "{n} more", len(commands) - _MAX_NAMES))
    for at in range(0, len(shown), _NAMES_PER_LINE):
        part = joined(", ", shown[at : at + _NAMES_PER_LINE])
        yield _("• **{group}**: {commands}", group=_title(commands), commands=part)


def _list(context: Context, commands: Sequence[Command]) -> str:
    listed = [_line(context, command) for command in commands[:_MAX_LINES]]
    left = len(commands) - _MAX_LINES
    more = [ngettext("and {n} more", "and {n} more", left)] if left > 0 else []
    return lines(_("**{group}**:", group=_title(commands)), *listed, *more)


def _line(context: Context, command: Command) -> str:
    # A line must not start with a prefix: split, it could be a message that orders something from another bot.
    return _("• **{command}**: {description}", command=_written(context, command), description=command.description)


def _explanation(context: Context, command: Command) -> str:
    found = [_line(context, command)]
    written = _written(context, command)
    found += [_line(context, part) for part in _parts(context, command)]
    if command.aliases:
        names = ", ".join(f"{context.prefixes[0]}{name}" for name in command.aliases)
        found.append(_("• Or: {names}", names=names))
    if command.usage:
        found.append(_("• Usage: {command} {usage}", command=written, usage=command.usage))
    if command.example:
        found.append(_("• Example: {command}", command=f"{written} {command.example}"))
    admins_only = context.permissions.needed(command) is Permission.ADMIN
    found.append(_("• For admins only") if admins_only else _("• For all users"))
    if seconds := round(command.cooldown.seconds):
        found.append(_cooldown(command.cooldown.per, seconds))
    return lines(*found)


def _cooldown(per: Per, seconds: int) -> LazyText:
    match per:
        case Per.USER:
            return _("• You may use it every {seconds} s", seconds=seconds)
        case Per.ROLE:
            return _("• It may be used every {seconds} s by users, and by admins, in this room", seconds=seconds)
        case Per.ROOM:
            return _("• It may be used every {seconds} s in this room", seconds=seconds)


def _parts(context: Context, command: Command) -> list[Command]:
    """The first of its sub-commands that the asker may run."""
    parts = context.registry.parts_of(command)
    return [part for part in parts if context.permissions.allows(part, context.user_id)][:_MAX_LINES]


def _groups(commands: Iterable[Command]) -> dict[str, list[Command]]:
    """The commands by the key of their group, in the order of `help`."""
    found: dict[str, list[Command]] = {}
    for command in commands:
        found.setdefault(fold(command.group), []).append(command)
    ours = [key for key in _TITLES if key in found]
    return {key: found[key] for key in (*ours, *sorted(found.keys() - _TITLES.keys()))}


def _title(commands: Sequence[Command]) -> str:
    """That of their group, which an author wrote if it is none of ours."""
    return _TITLES.get(fold(commands[0].group), commands[0].group)


def _written(context: Context, command: Command) -> str:
    return f"{context.prefixes[0]}{command.name}"


def _alternatives(context: Context) -> str:
    return joined(_(" or "), context.prefixes[1:])
