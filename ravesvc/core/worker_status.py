"""How a bot says that it is: its answer to GetStatus, read so that any answer can be kept.

A bot runs commands of strangers and may have been taken over. So a value of another type counts as left out, which is
also how the answer of an older version is read; texts and numbers are bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ravesvc import names
from ravesvc.bot.backend import MAX_SETTING_CHARS, PluginInfo
from ravesvc.common.text import printable
from ravesvc.config.worker_settings import Edition

# Bounds: the number of errors of plugins, of plugins, of settings of a room, and the largest count.
MAX_ERRORS = 16
MAX_PLUGINS = 64
MAX_SETTINGS = 512
MAX_COUNT = 2**32 - 1


class SettingInfo(NamedTuple):
    """A setting of a room, of the bot or of a plugin, in words.

    Attributes:
        name: as an admin writes it, such as `lang` or `welcome.greeting`.
        value: likewise.
        sentence: what it is.
        values: what may be written.
    """

    name: str
    value: str
    sentence: str
    values: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerStatus:
    """The status of a bot.

    Attributes:
        connected: whether it is in its mesh.
        connected_s: for how many seconds.
        attempts: how many attempts to connect have failed in a row.
        last_error: its last error in words; empty if there is none.
        plugins: those that are in force.
        command_errors: what is wrong with the operator's plugins, in sentences.
        unshown: how many of its messages have had no echo.
        chat_form: the form in which its server shows chat; empty until it has found that out.
        debug: whether it logs at the level debug.
        edition: the version of its program and the digest of its settings.
    """

    connected: bool = False
    connected_s: float = 0.0
    attempts: int = 0
    last_error: str = ""
    plugins: tuple[PluginInfo, ...] = ()
    command_errors: tuple[str, ...] = ()
    unshown: int = 0
    chat_form: str = ""
    debug: bool = False
    edition: Edition


def read_status(answer: Mapping[str, Any]) -> WorkerStatus:
    """The status in an answer to GetStatus, which may hold anything."""
    usec, errors, plugins = (answer.get(key) for key in ("ConnectedUSec", "CommandErrors", "Plugins"))
    return WorkerStatus(
        connected=answer.get("Connected") is True,
        connected_s=usec / 1_000_000 if isinstance(usec, int) and usec > 0 else 0.0,
        attempts=counted(answer.get("Attempts")),
        last_error=printable(answer.get("LastError"), names.MAX_REPORT_CHARS),
        plugins=plugin_infos(plugins if isinstance(plugins, list) else []),
        command_errors=error_texts(errors if isinstance(errors, list) else []),
        unshown=counted(answer.get("UnshownMessages")),
        chat_form=printable(answer.get("ChatForm"), 20),
        debug=answer.get("Debug") is True,
        edition=Edition(printable(answer.get("Version"), 40), printable(answer.get("SettingsDigest"), 64)),
    )


def counted(value: object) -> int:
    """A count from a worker's report; 0 for anything that is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT else 0


def error_texts(errors: Sequence[object]) -> tuple[str, ...]:
    """The errors of plugins from a worker's report, bounded in number and length."""
    return tuple(printable(error, names.MAX_REPORT_CHARS) for error in errors[:MAX_ERRORS])


def plugin_infos(plugins: Sequence[object]) -> tuple[PluginInfo, ...]:
    """The plugins of a worker's report, bounded in number and length."""
    return tuple(
        PluginInfo(*(printable(text, names.MAX_REPORT_CHARS) for text in plugin))
        for plugin in plugins[:MAX_PLUGINS]
        if isinstance(plugin, list | tuple) and len(plugin) == len(PluginInfo._fields)
    )


def setting_info(setting: object) -> SettingInfo | None:
    """A setting of a worker's answer, bounded in length; None for anything that is none."""
    match setting:
        case [str(name), str(value), str(sentence), str(values)]:
            return SettingInfo(*(printable(text, MAX_SETTING_CHARS) for text in (name, value, sentence, values)))
    return None


def setting_infos(settings: Sequence[object]) -> list[SettingInfo]:
    """The settings of a worker's answer, bounded in number and length."""
    return [info for info in map(setting_info, settings[:MAX_SETTINGS]) if info]
