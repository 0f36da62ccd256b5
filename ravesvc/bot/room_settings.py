"""What the admins of a room have set for it: options, their bounds, and how they are written in chat and document.

Pure. A document has what differs from the defaults, as an admin would write it; what can't be read is the default.
What was set for plugins is kept beside it as text: the plugin itself knows what may be written, and may come back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from ravesvc.bot.backend import MAX_SETTING_CHARS
from ravesvc.bot.command_names import GAMES, MODERATION, VIDEO
from ravesvc.bot.text import plain
from ravesvc.common import json_fields, translation
from ravesvc.common.json_fields import Object
from ravesvc.common.spelling import fold
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError

Value: TypeAlias = str | int | bool

# As an admin writes it to reset a setting.
DEFAULT = "default"
_MAX_WORD_CHARS = 32
_MAX_PREFIX_CHARS = 8
_ON_OFF = {"on": True, "off": False}
# Of a setting of a plugin: the word of the plugin, and that of the setting.
_PLUGIN_SETTING = re.compile(r"[\w-]{1,32}\.[^\W\d]\w{0,31}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_TEXTS: Mapping[str, str] = MappingProxyType({})


class RoomSettings(NamedTuple):
    """The settings of a room.

    Attributes:
        prefix: what commands start with; empty for what rave.yaml says.
        lang: the language of answers; empty for what rave.yaml says.
        max_per_user: how many videos of one user may wait in the queue.
        skip_percent: how many of the people present have to vote to skip, in percent; it takes more than that.
        video: whether the commands of that group, the queue included, can be used; `games` and `moderation` likewise.
        plugins: what was set for plugins, as it was written, by the name of the setting; of those that are gone, too.
    """

    prefix: str = ""
    lang: str = ""
    max_per_user: int = 5
    skip_percent: int = 50
    video: bool = True
    games: bool = True
    moderation: bool = True
    plugins: Mapping[str, str] = _NO_TEXTS

    def get(self, option: RoomOption) -> Value:
        """The value of an option."""
        value: Value = getattr(self, option.name)
        return value

    def with_value(self, option: RoomOption, text: str) -> RoomSettings:
        """The settings with another value, as an admin writes it.

        Raises `RaveError` (InvalidArgument) if it is none of the option's.
        """
        value = _DEFAULTS.get(option) if is_default(text) else option.parse(text)
        if value is None:
            raise refusal(option.name, text, option.values)
        changed: dict[str, Any] = {option.name: value}
        return self._replace(**changed)

    def is_off(self, group: str) -> bool:
        """Whether the commands of a group are switched off."""
        key = fold(group)
        return key in PARTS and not getattr(self, key)

    def to_json(self) -> str:
        """The document."""
        changed = [option for option in OPTIONS if self.get(option) != _DEFAULTS.get(option)]
        texts = {option.name: shown(self.get(option)) for option in changed}
        return json.dumps({**texts, **self.plugins}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> RoomSettings:
        """Read what `to_json` wrote, or another program; raises `RaveError` (BadData) for what is no object."""
        return _read(json_fields.parse_object(text, "the settings of the room"))


class RoomOption(NamedTuple):
    """One setting.

    Attributes:
        name: that of the field.
        sentence: what it is, for people.
        values: what may be written.
        parse: from what an admin wrote to the value; None if that is none.
    """

    name: str
    sentence: str
    values: str
    parse: Callable[[str], Value | None]

    def shown_in(self, settings: RoomSettings) -> str:
        """Its value as an admin writes it."""
        return shown(settings.get(self)) or DEFAULT

    def set_in(self, settings: RoomSettings, text: str) -> RoomSettings:
        """See `RoomSettings.with_value`."""
        return settings.with_value(self, text)


def is_default(text: str) -> bool:
    """Whether an admin writes this to reset a setting."""
    return fold(text[:_MAX_WORD_CHARS]) == DEFAULT


def refusal(name: str, text: str, values: str) -> RaveError:
    """The error for a text that is no value of a setting."""
    hint = _("it can be: {values}", values=values)
    what = _("the setting {option} can't be {value}", option=name, value=plain(text, _MAX_WORD_CHARS))
    return RaveError(Code.INVALID_ARGUMENT, what, hint=hint)


def shown(value: Value) -> str:
    """A value as an admin writes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _prefix(text: str) -> str | None:
    """One word that is no word of a language: else ordinary sentences would begin with it."""
    fits = 0 < len(text) <= _MAX_PREFIX_CHARS and text.isprintable() and not any(c.isspace() for c in text)
    return text if fits and not text[-1].isalnum() and text[0] not in "@*`" else None


def _language(text: str) -> str | None:
    code = fold(text[:_MAX_WORD_CHARS])
    return code if code in translation.languages() else None


def _switch(text: str) -> bool | None:
    return _ON_OFF.get(fold(text[:_MAX_WORD_CHARS]))


def _number(least: int, most: int) -> tuple[str, Callable[[str], int | None]]:
    def parse(text: str) -> int | None:
        value = json_fields.as_int(fold(text[:_MAX_WORD_CHARS]))
        return value if value is not None and least <= value <= most else None

    return _("a number from {least} to {most}", least=least, most=most), parse


def _read(source: Object) -> RoomSettings:
    found: dict[str, Any] = {}
    for option in OPTIONS:
        text = source.get(option.name)
        value = option.parse(text) if isinstance(text, str) else None
        if value is not None:
            found[option.name] = value
    texts = {name: text for name, text in source.items() if _PLUGIN_SETTING.fullmatch(name) and _is_kept(text)}
    return _DEFAULTS._replace(**found, plugins=texts)


def _is_kept(text: object) -> bool:
    # JSON may have halves of surrogate pairs, which no message can.
    return isinstance(text, str) and len(text) <= MAX_SETTING_CHARS and not _SURROGATE.search(text)


_DEFAULTS = RoomSettings()
_SWITCH = "on, off"
OPTIONS = (
    RoomOption(
        "prefix",
        _("What commands start with"),
        _("up to {n} characters such as ?, no letter or digit at the end", n=_MAX_PREFIX_CHARS),
        _prefix,
    ),
    RoomOption("lang", _("The language of answers"), ", ".join(translation.languages()), _language),
    RoomOption("max_per_user", _("Videos of one user that may wait"), *_number(1, 20)),
    RoomOption(
        "skip_percent",
        _("More than this percentage of the users present must vote to skip a video"),
        *_number(0, 99),
    ),
    RoomOption(VIDEO, _("Videos and their queue"), _SWITCH, _switch),
    RoomOption(GAMES, _("Games"), _SWITCH, _switch),
    RoomOption(MODERATION, _("Kick, mute and leader"), _SWITCH, _switch),
)
PARTS: Mapping[str, RoomOption] = {option.name: option for option in OPTIONS if option.parse is _switch}
