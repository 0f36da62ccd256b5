"""`settings`: what the admins of a room set for it."""

from __future__ import annotations

from ravesvc.bot.arguments import MAX_NAME_CHARS
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

    async def settings(context: Context, setting: str = "", value: str = "") -> None:
        await _settings(context, keeper, setting, value)

    registry.command(
        SETTINGS,
        _("Shows and changes the settings of this room."),
        permission=Permission.ADMIN,
        group=SERVICE,
        usage=_("[setting] [value, or default]"),
        example="lang de",
    )(settings)


async def _settings(context: Context, keeper: SettingsKeeper, setting: str, value: str) -> None:
    """List all, show one, or change one."""
    if not setting:
        listed = [_line(option, keeper.settings) for option in OPTIONS]
        await context.reply(lines(_("Settings of this room:"), *listed))
        return
    option = _option(setting)
    if not value:
        values = _("• Values: {values}, {default}", values=option.values, default=DEFAULT)
        await context.reply(lines(_line(option, keeper.settings), values))
        return
    await keeper.change(option, value)
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
