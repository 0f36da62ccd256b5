"""What a child's unit hands over: files that systemd has opened for it (OpenFile= of systemd.service(5)).

systemd opens them as root, before the sandbox hides them; the child gets descriptors from 3 on, described by the
environment as in sd_listen_fds(3). All children share the files: nothing here locks or changes one.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from ravesvc import fd_files, names

# The settings may hold a bundle of certificates.
_MAX_BYTES = 4 << 20
_FIRST_DESCRIPTOR = 3


def receive(environ: MutableMapping[str, str]) -> dict[str, str]:
    """The text of each file that the unit hands over, by the name that it has in OpenFile=.

    A file that does not exist is left out, as is one that a drop-in keeps from being opened. The descriptors are
    closed, and what describes them is taken out of `environ`. It blocks as long as the disk does. Raises `RaveError`
    (InvalidArgument, BadData) for a file that can't be read; no file's content is in it.
    """
    descriptors = _descriptors(environ)
    try:
        return {
            name: fd_files.read(descriptor, f"the {name} file that the unit hands over", _MAX_BYTES)
            for name, descriptor in descriptors.items()
        }
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def _descriptors(environ: MutableMapping[str, str]) -> dict[str, int]:
    """The descriptors of the names that we know. Others may be a drop-in's, for the operator's own commands."""
    # Ours alone: a program that we start must not take them for its own.
    pid, count, listed = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    given = listed.split(":") if listed else []
    if pid != str(os.getpid()) or count != str(len(given)):
        return {}
    known = (names.SETTINGS_NAME, names.SESSION_NAME)
    return {name: number for number, name in enumerate(given, _FIRST_DESCRIPTOR) if name in known}
