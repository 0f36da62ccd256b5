"""`settings`: what the admins of a room set for it."""

from __future__ import annotations

from ravesvc.bot.arguments import MAX_NAME_CHARS, usage_error
from ravesvc.bot.command import Context, Registry
from ravesvc.bot.command_names import SERVICE, SETTINGS, Permission
from ravesvc.bot.room_settings import DEFAULT, OPTIONS, RoomOption, RoomSettings, shown
from ravesvc.bot.settings_keeper import SettingsKeeper
from ravesvc.bot.text import plain
from ravesvc.common.spelling import fold
from ravesvc.common.translation import gettext as _
from ravesvc.common.translation import lines
from ravesvc.errors import Code, RaveError

_OPTIONS = {option.name: option for option in OPTIONS}


def register(registry: Registry, keeper: SettingsKeeper) -> None:
    """Register the command."""

    async def settings(context: Context) -> None:
        await _settings(context, keeper)

    registry.command(
        SETTINGS,
        _("Shows and changes the settings of this room."),
        permission=Permission.ADMIN,
        group=SERVICE,
        usage=_("[setting] [value, or default]"),
        example="lang de",
    )(settings)


async def _settings(context: Context, keeper: SettingsKeeper) -> None:
    """List all, show one, or change one."""
    if not context.args:
        listed = [_line(option, keeper.settings) for option in OPTIONS]
        await context.reply(lines(_("Settings of this room:"), *listed))
        return
    option = _option(context.args[0])
    if len(context.args) == 1:
        values = _("• Values: {values}, {default}", values=option.values, default=DEFAULT)
        await context.reply(lines(_line(option, keeper.settings), values))
        return
    if len(context.args) > 2:
        raise usage_error(context)
    await keeper.change(option, context.args[1])
    await context.reply(lines(_("Changed:"), _line(option, keeper.settings)))


def _option(word: str) -> RoomOption:
    name = fold(word[:MAX_NAME_CHARS])
    if name in _OPTIONS:
        return _OPTIONS[name]
    hint = _("there are: {names}", names=", ".join(_OPTIONS))
    raise RaveError(
        Code.INVALID_ARGUMENT, _("there is no setting {name}", name=plain(word, MAX_NAME_CHARS)), hint=hint
    )


def _line(option: RoomOption, settings: RoomSettings) -> str:
    value = shown(settings.get(option)) or DEFAULT
    return _("• **{name}** = {value}: {sentence}", name=option.name, value=value, sentence=option.sentence)
