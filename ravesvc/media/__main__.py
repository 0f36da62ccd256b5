"""rave-media.service: the helper as systemd starts it, with its socket, its settings and the provider's key."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import signal
import socket
import sys
from pathlib import Path

from ravesvc import names
from ravesvc.common import fd_files
from ravesvc.common.translation import gettext as _
from ravesvc.common.waiting import first_of
from ravesvc.config.media_settings import MediaSettings, parse_key
from ravesvc.errors import Code, RaveError
from ravesvc.media.helper import IDLE_TIMEOUT_S, Helper, HelperSource, Unusable
from ravesvc.media.library import Library, open_library
from ravesvc.systemd import logging as log
from ravesvc.systemd.notify import feed_watchdog, notify, notify_ready

_log = logging.getLogger(__name__)

# The settings may hold a bundle of certificates.
_MAX_SETTINGS_BYTES = 4 << 20
_MAX_KEY_BYTES = 4096


def main() -> int:
    """The program. Exit status: 0 after SIGTERM, and when it has had nothing to do; 78 without a socket."""
    log.set_up(logging.INFO, "rave-media")
    descriptors = fd_files.handed_over(
        os.environ, (names.MEDIA_SOCKET_NAME, names.SETTINGS_NAME, names.YOUTUBE_KEY_NAME)
    )
    if names.MEDIA_SOCKET_NAME not in descriptors:
        _log.critical("rave-media is a service: systemctl start rave-media.socket")
        return int(names.ExitStatus.CONFIG)
    listener = socket.socket(fileno=descriptors.pop(names.MEDIA_SOCKET_NAME))
    with listener:
        asyncio.run(_run(listener, descriptors))
    return int(names.ExitStatus.STOPPED)


async def _run(listener: socket.socket, descriptors: dict[str, int]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    source = _source(descriptors)
    helper = Helper(listener, source, _users())
    await notify_ready()
    try:
        await first_of(stopped.wait(), helper.serve(IDLE_TIMEOUT_S), feed_watchdog())
    finally:
        notify("STOPPING=1")
        if isinstance(source, Library):
            source.close()


def _source(descriptors: dict[str, int]) -> HelperSource:
    """A library, or a source that answers every request with the error that videos can't be looked up."""
    try:
        settings = _settings(descriptors)
        log.set_debug(settings.debug)
        return open_library(settings, _key(descriptors), _cache())
    except RaveError as e:
        _log.error("No video can be looked up: %s", e)
        hint = _("the operator has to look after it")
        return Unusable(RaveError(Code.CONFIG, _("videos can't be looked up"), hint=hint))


def _settings(descriptors: dict[str, int]) -> MediaSettings:
    if names.SETTINGS_NAME not in descriptors:
        hint = "systemctl restart rave-orchestrator writes it"
        raise RaveError(Code.CONFIG, f"{names.MEDIA_SETTINGS_FILE} is missing", hint=hint)
    return MediaSettings.from_json(_read_and_close(descriptors, names.SETTINGS_NAME, _MAX_SETTINGS_BYTES))


def _key(descriptors: dict[str, int]) -> str:
    """The key, empty if there is none that can be used."""
    if names.YOUTUBE_KEY_NAME not in descriptors:
        return ""
    try:
        return parse_key(_read_and_close(descriptors, names.YOUTUBE_KEY_NAME, _MAX_KEY_BYTES))
    except RaveError as e:
        _log.error("The key file of YouTube can't be used, links alone work: %s", e)
        return ""


def _read_and_close(descriptors: dict[str, int], name: str, max_bytes: int) -> str:
    """The text of a file that the unit hands over, which is closed."""
    descriptor = descriptors.pop(name)
    try:
        return fd_files.read(descriptor, f"the {name} file that the unit hands over", max_bytes)
    finally:
        os.close(descriptor)


def _cache() -> Path | None:
    """Where the unit lets it write (CacheDirectory=)."""
    directory = os.environ.get("CACHE_DIRECTORY", "")
    return Path(directory) / "videos.db" if directory else None


def _users() -> set[int]:
    """The users whose processes may connect: the service's, and root, who may do everything anyway."""
    try:
        return {0, pwd.getpwnam("rave").pw_uid}
    except KeyError:
        return {0}


if __name__ == "__main__":
    sys.exit(main())
