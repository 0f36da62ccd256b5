"""Reads the files that the unit of a worker hands over to it (OpenFile= of systemd.service(5)).

systemd opens them as root, before the sandbox hides them; the worker gets descriptors from 3 on, described by the
environment as in sd_listen_fds(3). All workers share the files, so nothing here locks or changes one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import MutableMapping

from ravesvc import names
from ravesvc.bot.secrets import MAX_SECRET_BYTES
from ravesvc.common import fd_files
from ravesvc.errors import RaveError

_FILES = (names.SETTINGS_NAME, names.SESSION_NAME)
# The settings may hold a bundle of certificates.
_MAX_BYTES = 4 << 20

_log = logging.getLogger(__name__)


def receive(environ: MutableMapping[str, str]) -> tuple[dict[str, str], dict[str, str], int | None]:
    """What the unit hands over: settings and session, secrets of plugins, and memory of the process before.

    The first two are texts by name. The last is a descriptor for `ravesvc.mesh.plugin_memory`, None if there is none.

    A file that does not exist is left out, as is one that a drop-in keeps from being opened. The other descriptors
    are closed, and what describes them is taken out of `environ`. It blocks as long as the disk does. Raises
    `RaveError` (InvalidArgument, BadData) for settings or a session that can't be read; no file's content is in it.
    """
    listed = environ.get("LISTEN_FDNAMES", "").split(":")
    secrets = [name for name in listed if name.startswith(names.SECRET_PREFIX)]
    # A drop-in may hand over more, for plugins to open themselves.
    descriptors = fd_files.handed_over(environ, (*_FILES, names.PLUGINS_NAME, *secrets))
    memory = descriptors.pop(names.PLUGINS_NAME, None)
    try:
        files = {
            name: fd_files.read(descriptor, f"the {name} file that the unit hands over", _MAX_BYTES)
            for name, descriptor in descriptors.items()
            if name in _FILES
        }
        texts = {
            name.removeprefix(names.SECRET_PREFIX): text
            for name in secrets
            if name in descriptors and (text := _secret(name, descriptors[name]))
        }
        return files, texts, memory
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def _secret(name: str, descriptor: int) -> str:
    """A secret without blanks around it; empty if it can't be read, which is no reason not to start."""
    try:
        return fd_files.read(descriptor, f"the {name} file that a drop-in hands over", MAX_SECRET_BYTES).strip()
    except RaveError as error:
        _log.error("%s", error)
        return ""
