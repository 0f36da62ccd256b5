"""Warns of a rave.yaml or database.json with a secret in it that others than its users may read, by modes."""

from __future__ import annotations

import grp
import pwd
import re
import shlex
import stat
from collections.abc import Iterator
from os import stat_result
from pathlib import Path

from ravesvc.config.database import Database
from ravesvc.config.options import TABLE, Config

# Whose files these are where the service uses them.
_GROUP = "rave"

_PASSWORD_IN_URI = re.compile(r"[^/]*//[^/@:]*:[^/@]+@")


def readable(settings: Config) -> Iterator[str]:
    """A sentence for each file, with its mode, what is secret in it, and what closes it."""
    files = [(settings.file, _secrets(settings))]
    if settings.database:
        files.append((settings.database.path, _database_secrets(settings.database)))
    for path, secrets in files:
        if secrets and (readers := _readers(Path(path))):
            mode, who = readers
            hint = settings.advice.close_config.format(file=shlex.quote(path))
            yield f"{path}: its mode {mode:04o} lets {who} read what is secret: {', '.join(secrets)} ({hint})"


def _secrets(settings: Config) -> list[str]:
    found = [entry.name for entry in TABLE if entry.option.secret and entry.value(settings)]
    # That of the environment stands in no file.
    if "proxy" in settings.lines and settings.proxy and settings.proxy.password:
        found.append("the password in proxy")
    return found


def _database_secrets(database: Database) -> list[str]:
    found = ["the password in uri"] if _PASSWORD_IN_URI.match(database.uri) else []
    return [*found, *(["options.password"] if database.options.get("password") else [])]


def _readers(path: Path) -> tuple[int, str] | None:
    """The mode of a file, and who besides its users may read it; None if there are none, or they are not known.

    In a directory that others can't enter, such as `mkdir -m 700` makes, they read no file either.
    """
    try:
        status, directory = path.stat(), stat.S_IMODE(path.parent.stat().st_mode)
    except OSError:
        return None
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IROTH and directory & stat.S_IXOTH:
        return mode, "all users"
    if mode & stat.S_IRGRP and directory & (stat.S_IXGRP | stat.S_IXOTH) and (group := _other_group(status)):
        return mode, f"the group {group}"
    return None


def _other_group(status: stat_result) -> str:
    """The group of a file; empty if it is that of its owner alone, or of the service."""
    try:
        group = grp.getgrgid(status.st_gid).gr_name
        return "" if group in (_GROUP, pwd.getpwuid(status.st_uid).pw_name) else group
    except KeyError:
        return str(status.st_gid)
