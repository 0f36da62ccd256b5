"""Reads the files that the unit of a worker hands over to it (OpenFile= of systemd.service(5)).

systemd opens them as root, before the sandbox hides them; the worker gets descriptors from 3 on, described by the
environment as in sd_listen_fds(3). All workers share the files, so nothing here locks or changes one.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from ravesvc import names
from ravesvc.common import fd_files

# The settings may hold a bundle of certificates.
_MAX_BYTES = 4 << 20


def receive(environ: MutableMapping[str, str]) -> dict[str, str]:
    """The text of each file that the unit hands over, by the name that it has in OpenFile=.

    A file that does not exist is left out, as is one that a drop-in keeps from being opened. The descriptors are
    closed, and what describes them is taken out of `environ`. It blocks as long as the disk does. Raises `RaveError`
    (InvalidArgument, BadData) for a file that can't be read; no file's content is in it.
    """
    # A drop-in may hand over more, for plugins.
    descriptors = fd_files.handed_over(environ, (names.SETTINGS_NAME, names.SESSION_NAME))
    try:
        return {
            name: fd_files.read(descriptor, f"the {name} file that the unit hands over", _MAX_BYTES)
            for name, descriptor in descriptors.items()
        }
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)
