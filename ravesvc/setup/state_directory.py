"""The directory that systemd makes for the service (StateDirectory=), and why it may refuse to."""

from __future__ import annotations

from pathlib import Path

from ravesvc.errors import Code, RaveError

PATH = Path("/var/lib/rave")


def problem() -> RaveError | None:
    """The error (Config) for a symbolic link in its place, with which systemd starts nothing of the service."""
    if not PATH.is_symlink():
        return None
    target = PATH.parent / PATH.readlink()
    commands = f"rm {PATH}; mkdir {PATH}; mount --bind {target} {PATH}"
    hint = f"use a bind mount: {commands}; in /etc/fstab: {target} {PATH} none bind 0 0"
    return RaveError(Code.CONFIG, f"{PATH} is a symbolic link, which systemd refuses", hint=hint, file=str(PATH))
