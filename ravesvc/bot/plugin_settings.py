"""Settings that a plugin declares: what admins of a room, or operators, may set for it there."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args, get_origin

from ravesvc.bot.backend import MAX_SETTING_CHARS
from ravesvc.bot.parameters import Duration, read_text
from ravesvc.bot.room_settings import DEFAULT, OPTIONS, RoomSettings, is_default, refusal, shown
from ravesvc.common import timespan
from ravesvc.common.spelling import fold
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError

T = TypeVar("T")

_NAME = re.compile(r"[^\W\d]\w{0,31}")
_PLUGIN = re.compile(r"[\w-]{1,32}")
_MAX_SENTENCE_CHARS = 100
# Of the values that are told to people.
_MAX_VALUES_CHARS = 200
_MAX_SETTINGS = 16
# Under such names documents keep users, whom `?forgetme` removes: see `ravesvc.common.forget`.
_USERS_SUFFIX = "_by"


class InRoom(Protocol):
    """A `Context` or an `Event`."""

    @property
    def settings_now(self) -> Callable[[], RoomSettings]:
        """Returns the settings of the room."""


@dataclass(frozen=True, slots=True, eq=False)
class Setting(Generic[T]):
    """A setting of a plugin. All rooms share it; each has its own value.

    Attributes:
        plugin: the word for the plugin.
        name: as an admin writes it: that word, a dot, and the word for the setting.
        sentence: what it is, for people.
        values: what may be written.
        default: its value in a room where nothing was set.
        read: from what an admin wrote to the value; raises ValueError if it is none.
    """

    plugin: str
    name: str
    sentence: str
    values: str
    default: T
    read: Callable[[str], T]

    def of(self, where: InRoom) -> T:
        """The value in the room of a command or an event, as it is now.

        It is the default until the service has told the bot what was set, and for a text that is no value any more.
        """
        return self._in(where.settings_now())

    def shown_in(self, settings: RoomSettings) -> str:
        """Its value as an admin writes it."""
        return _written(self._in(settings)) or DEFAULT

    def set_in(self, settings: RoomSettings, text: str) -> RoomSettings:
        """The settings with another value, as an admin writes it. Raises `RaveError` (InvalidArgument) for none."""
        others = {name: kept for name, kept in settings.plugins.items() if name != self.name}
        if is_default(text):
            return settings._replace(plugins=others)
        text = text.strip()
        if not text or not self._takes(text):
            raise refusal(self.name, text, self.values)
        return settings._replace(plugins={**others, self.name: text})

    def _takes(self, text: str) -> bool:
        try:
            self.read(text)
        except ValueError:
            return False
        return True

    def _in(self, settings: RoomSettings) -> T:
        text = settings.plugins.get(self.name)
        if text is None:
            return self.default
        try:
            return self.read(text)
        except ValueError:
            # A version of the plugin that takes other values has come.
            return self.default


def declare(
    source: str, others: Sequence[Setting[Any]], name: str, sentence: str, default: T, kind: Any, between: Any
) -> Setting[T]:
    """Make a setting of what an author has written, see `ravesvc.commands.setting`.

    `source` is the file or package, and `others` are its settings so far.
    """
    _require(isinstance(name, str), 'write setting("name", "What it is", default=...)')
    word, plugin = fold(name[:64]), _plugin_word(source)
    fits = _NAME.fullmatch(word) and not word.endswith(_USERS_SUFFIX)
    _require(
        fits, f"{name[:64]!r} can't name a setting: take letters, digits and _, at most 32, without {_USERS_SUFFIX}"
    )
    what = f"the setting {word}"
    described = isinstance(sentence, str) and sentence.isprintable() and 0 < len(sentence) <= _MAX_SENTENCE_CHARS
    _require(described, f"{what} needs a sentence of at most {_MAX_SENTENCE_CHARS} characters that says what it is")
    _require_plugin_word(plugin, source)
    kind = type(default) if kind is None else kind
    _require(_is_known(kind), f"{what} has a type that no admin can write: use {_KINDS}")
    _require_choices(what, kind)
    _require_bounds(what, kind, between)
    read = functools.partial(_read, kind, between)
    try:
        value = read(_written(default))
        _require(value == default, f"the default of {what} is not of its type")
    except ValueError:
        _require(None, f"the default of {what} is none of its values: {_values(kind, between)}")
    made = Setting(plugin, f"{plugin}.{word}", sentence, _values(kind, between), value, read)
    _require(made.name not in [each.name for each in others], f"{what} is declared twice")
    _require(len(others) < _MAX_SETTINGS, f"a file has at most {_MAX_SETTINGS} settings")
    return made


_KINDS = "str, int, float, bool, Literal or Duration"


def _is_known(kind: Any) -> bool:
    """Whether it is one of those, and no type of an author's own, which would be read by code of theirs."""
    return kind in (str, int, float, bool, Duration) or get_origin(kind) is Literal


def _plugin_word(source: str) -> str:
    """The word for a plugin: the name of its file without .py, or the last part of its module."""
    name = PurePath(source).stem if source.endswith(".py") else source.rpartition(".")[2]
    # A program of its own, see `ravesvc.single.manager`, and tests that import a file, have no such name.
    return "-".join(fold(name[:64]).split()) or "plugin"


def _require_plugin_word(word: str, source: str) -> None:
    rename = "give the file another name"
    _require(
        _PLUGIN.fullmatch(word),
        f"the settings of {source} can't be named {word[:40]}.…: {rename}, of letters, digits, - and _, at most 32",
    )
    taken = word in [option.name for option in OPTIONS]
    _require(not taken, f"{word} is a setting of the bot: {rename}")


def _require_choices(what: str, kind: Any) -> None:
    for choice in get_args(kind) if get_origin(kind) else ():
        text = str(choice)
        _require(not is_default(text), f"{what} can't have the choice {text}, which resets it")
        try:
            readable = read_text(kind, text) == choice
        except ValueError:
            readable = False
        _require(readable, f"{what} has the choice {text[:40]}, which can't be written: take words that differ")


def _require_bounds(what: str, kind: Any, between: Any) -> None:
    if between is None:
        return
    _require(kind in (int, float, Duration), f"{what} has bounds, but only numbers and times have some")
    pair = isinstance(between, tuple) and len(between) == 2
    numbers = pair and all(isinstance(each, int | float) for each in between)
    _require(numbers and between[0] <= between[1], f"the bounds of {what} are no pair: write between=(1, 20)")


def _read(kind: Any, between: Any, text: str) -> Any:
    """The value; raises ValueError if the text is none."""
    if len(text) > MAX_SETTING_CHARS or any(unicodedata.category(each) in _UNFIT for each in text):
        raise ValueError(text)
    value = read_text(kind, text)
    if between is not None and not between[0] <= value <= between[1]:
        raise ValueError(text)
    return value


# Control characters, line ends, and what no text of UTF-8 has.
_UNFIT = frozenset({"Cc", "Cs", "Zl", "Zp"})


def _written(value: object) -> str:
    """A value as an admin writes it."""
    if isinstance(value, Duration):
        return timespan.written(value)
    return shown(value) if isinstance(value, bool) else str(value)


def _values(kind: Any, between: Any) -> str:
    """What may be written, in words."""
    if get_origin(kind):
        choices = ", ".join(map(str, get_args(kind)))
        return choices if len(choices) <= _MAX_VALUES_CHARS else f"{choices[: _MAX_VALUES_CHARS - 1]}…"
    if between is not None:
        least, most = (_written(kind(each)) for each in between)
        if kind is Duration:
            return _("a time from {least} to {most}", least=least, most=most)
        return _("a number from {least} to {most}", least=least, most=most)
    texts = {
        str: _("text of up to {n} characters", n=MAX_SETTING_CHARS),
        bool: "on, off",
        int: _("a whole number"),
        float: _("a number"),
        Duration: _("a time such as 90s or 10min"),
    }
    return texts[kind]


def _require(condition: object, otherwise: str) -> None:
    if not condition:
        raise RaveError(Code.INVALID_ARGUMENT, otherwise)
