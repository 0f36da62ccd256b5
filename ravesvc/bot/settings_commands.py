"""`settings`: what the admins of a room set for it, of the bot and of its plugins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ravesvc.bot.arguments import MAX_NAME_CHARS
from ravesvc.bot.command import Context, Registry
from ravesvc.bot.command_names import SERVICE, SETTINGS, Permission
from ravesvc.bot.room_settings import DEFAULT, OPTIONS
from ravesvc.bot.settings_keeper import SettingsKeeper
from ravesvc.bot.text import plain
from ravesvc.common.spelling import fold
from ravesvc.common.translation import LazyText, lines
from ravesvc.common.translation import gettext as _

if TYPE_CHECKING:
    from ravesvc.bot.settings_keeper import Described, RoomSetting

# Of a value among others.
_MAX_LISTED_CHARS = 60
# Of a list, in English: in other languages it may be longer, and has to fit into one message all the same.
_MAX_LIST_CHARS = 800


def register(registry: Registry, keeper: SettingsKeeper) -> None:
    """Register the command."""

    async def settings(context: Context, setting: str = "", *, value: str = "") -> None:
        await _settings(context, keeper, setting, value)

    registry.command(
        SETTINGS,
        _("Shows and changes the settings of this room."),
        permission=Permission.ADMIN,
        group=SERVICE,
        usage=_("[setting] [value, or default]"),
        example="lang de",
    )(settings)


async def _settings(context: Context, keeper: SettingsKeeper, word: str, value: str) -> None:
    """List all, or those of a plugin; show one, or change one."""
    of_plugin = keeper.of_plugins().get(fold(word[:MAX_NAME_CHARS]))
    if value:
        await context.reply(lines(_("Changed:"), _line(await keeper.change(word, value))))
    elif not word:
        await context.reply(lines(_("Settings of this room:"), *_overview(context, keeper)))
    elif of_plugin:
        await context.reply(lines(_("Settings of this room:"), *_lines(of_plugin, keeper)))
    else:
        described = keeper.described(keeper.find(word))
        values = _("• Values: {values}, {default}", values=described[3], default=DEFAULT)
        await context.reply(lines(_line(described, len(described[1])), values))


def _overview(context: Context, keeper: SettingsKeeper) -> list[LazyText]:
    """A line for each setting; if they do not fit into one message, the names of plugins that have some."""
    plugins = keeper.of_plugins()
    own, more = _lines(OPTIONS, keeper), [line for each in plugins.values() for line in _lines(each, keeper)]
    if sum(len(line) + 1 for line in (*own, *more)) <= _MAX_LIST_CHARS:
        return own + more
    command = f"{context.written} {next(iter(plugins))}"
    return [*own, _("• Of plugins: {names}. Write for example {command}", names=", ".join(plugins), command=command)]


def _lines(settings: Iterable[RoomSetting], keeper: SettingsKeeper) -> list[LazyText]:
    return [_line(keeper.described(setting)) for setting in settings]


def _line(described: Described, max_chars: int = _MAX_LISTED_CHARS) -> LazyText:
    name, value, sentence, _values = described
    return _("• **{name}** = {value}: {sentence}", name=name, value=plain(value, max_chars), sentence=sentence)
