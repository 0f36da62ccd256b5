"""Files and directories that rave.yaml names, as the service and the bots see them: by their users, in their sandbox.

`ravectl config check` and the privileged step before the start ask here. What only root can find out, such as what
the user rave may do in a directory, is left out when another user asks.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ravesvc import names
from ravesvc.common.video import YOUTUBE
from ravesvc.config.declaration import STATE_FILE
from ravesvc.config.media_settings import read_key
from ravesvc.config.options import TABLE, Config
from ravesvc.errors import Code, RaveError
from ravesvc.setup import state_directory

# What the sandbox of rave-orchestrator.service hides, and the setting that does so.
HIDDEN = {
    Path("/home"): "ProtectHome",
    Path("/root"): "ProtectHome",
    Path("/run/user"): "ProtectHome",
    Path("/tmp"): "PrivateTmp",  # noqa: S108
    Path("/var/tmp"): "PrivateTmp",  # noqa: S108
    Path("/dev"): "PrivateDevices",
    Path("/proc"): "",
    Path("/sys"): "",
}

CONFIGURATION = Path(names.CONFIG_FILE).parent

_TEST = "/usr/bin/test"
_SYSTEMCTL = "/usr/bin/systemctl"
# The files that the service writes, with their usual name.
_KEYS = {entry.name: entry.default.name for entry in TABLE if entry.option.kind is STATE_FILE}
# These two are never read through a link; the blocklist is.
_LINKS_REFUSED = ("state_path", "credentials_path")


def directories(settings: Config) -> list[RaveError]:
    """What keeps the service from its files (Config), the directories they are in first of all.

    It does not start then: with an empty blocklist, say, it would join again what it was kicked from.
    """
    linked = state_directory.problem()
    return [*([linked] if linked else []), *_state_files(settings), *_configuration(settings)]


def files(settings: Config) -> list[RaveError]:
    """What the service, or a bot, will find wrong with a single file (Config), and say so when it meets it."""
    found = []
    for key in _KEYS:
        path = _path(settings, key)
        if problem := _kind(key, path):
            found.append(settings.problem(key, problem, hint="move it away, or name another place"))
        elif path.exists() and _may(path, "-r", "-w") is False:
            found.append(
                settings.problem(key, f"the user rave can't use {path}", hint=f"chown rave: {shlex.quote(str(path))}")
            )
    return [*found, *_plugins(), *_youtube_key(settings)]


def handed_over(settings: Config) -> list[str]:
    """What the service and the bots see of a file only because root hands it to them, in sentences."""
    path = settings.tls.ca_file and Path(settings.tls.ca_file)
    if not path or not (_hidden(path.parent) or _may(path, "-r") is False):
        return []
    return [f"{path} is read by root at a start of the service, which hands its certificates to service and bots."]


def opened(settings: Config) -> list[Path]:
    """The directories outside of its own that the service's sandbox has to let it write to."""
    found = {_path(settings, key).parent.resolve() for key in _KEYS}
    return sorted(path for path in found if not path.is_relative_to(state_directory.PATH))


def _state_files(settings: Config) -> Iterator[RaveError]:
    told: set[Path] = set()
    named: dict[Path, str] = {}
    for key, example in _KEYS.items():
        path = _path(settings, key)
        directory = path.parent
        if path in named:
            yield settings.problem(
                key, f"{path} is that of {named[path]} as well", hint="give each a file of its own"
            )
        named[path] = key
        if path.is_dir():
            yield settings.problem(key, f"{path} is a directory", hint=f"name a file in it: {path / example}")
            continue
        # systemd makes this one.
        if directory != state_directory.PATH and directory not in told and (problem := _directory(directory)):
            told.add(directory)
            text, hint = problem
            yield settings.problem(key, text, hint=hint)


def _directory(directory: Path) -> tuple[str, str] | None:
    """What is wrong with a directory that the service has to write to, and what to do about it."""
    word = shlex.quote(str(directory))
    made = f"install -d -o rave -g rave -m 0700 {word}"
    try:
        if _hidden(directory):
            return (
                f"{directory} is hidden from the service by its sandbox",
                f"use {state_directory.PATH}, or a directory in /srv",
            )
        if not directory.exists():
            return f"the directory {directory} does not exist", made
        if not directory.is_dir():
            return f"{directory} is no directory", f"move it away; {made}"
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            return f"{directory} is on a file system that is mounted read-only", f"mount -o remount,rw {word}"
    except OSError as e:
        return f"{directory} can't be looked at: {e.strerror}", "try as root"
    if _may(directory, "-r", "-w", "-x") is False:
        if closed := _closed(directory.parent):
            return closed
        return f"the user rave can't write to {directory}", f"chown rave: {word} && chmod 0700 {word}"
    return None


def _configuration(settings: Config) -> Iterator[RaveError]:
    """What the service reads, and root has read already."""
    file, database = Path(settings.file), settings.database_config_path
    if settings.file == names.CONFIG_FILE and (problem := _unreadable(file)):
        yield RaveError(Code.CONFIG, problem[0], hint=problem[1], file=settings.file)
    if settings.database is None:
        return
    if _hidden(database.parent):
        text = f"{database} is hidden from the service by its sandbox"
        yield settings.problem("database_config_path", text, hint="move it to /etc/rave")
    elif problem := _unreadable(database):
        yield settings.problem("database_config_path", problem[0], hint=problem[1])


def _unreadable(path: Path) -> tuple[str, str] | None:
    """Why the user rave can't read a file that root has read, and what lets it."""
    if _may(path, "-r") is not False:
        return None
    if closed := _closed(path.parent):
        return closed
    word = shlex.quote(str(path))
    return f"{path} can't be read by the user rave", f"chown root:rave {word} && chmod 0640 {word}"


def _closed(directory: Path) -> tuple[str, str] | None:
    """Which directory on the way the user rave can't enter, and what lets it."""
    way = [*reversed(directory.resolve().parents), directory.resolve()]
    closed = next((each for each in way if _may(each, "-x") is False), None)
    if closed is None:
        return None
    word = shlex.quote(str(closed))
    # It holds secrets, which are the group's alone.
    opened = f"chgrp rave {word} && chmod 0750 {word}" if closed == CONFIGURATION else f"chmod o+x {word}"
    return f"the user rave can't enter {closed}", opened


def _kind(key: str, path: Path) -> str:
    """What a path is that has to be a file, or to be free; empty if it is that."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            return f"{path} is a symbolic link, which is not followed" if key in _LINKS_REFUSED else ""
    except OSError:
        # It does not exist, or is for root to look at.
        return ""
    return "" if stat.S_ISREG(mode) else f"{path} is no regular file"


def _plugins() -> Iterator[RaveError]:
    directory = Path(names.COMMANDS_DIRECTORY)
    try:
        every = [(directory, 0o055, "0755"), *((path, 0o044, "0644") for path in sorted(directory.glob("*.py")))]
        for path, wanted, mode in every:
            if path.stat().st_mode & wanted != wanted:
                text = f"{path} can't be read by the bots"
                yield RaveError(Code.CONFIG, text, hint=f"chmod {mode} {shlex.quote(str(path))}", file=str(path))
    except OSError:
        # There are none, or they are for root to look at.
        return


def _youtube_key(settings: Config) -> Iterator[RaveError]:
    """What is wrong with the key that rave-media.service is handed."""
    path = settings.videos.youtube_key_path
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        # By default the provider is asked as soon as there is a key.
        if "videos.providers" in settings.lines and YOUTUBE in settings.videos.providers:
            hint = f"put a key of the YouTube Data API there, or take {YOUTUBE} out"
            yield settings.problem("videos.providers", f"{YOUTUBE} needs {path}, which does not exist", hint=hint)
        return
    except OSError:
        # It is for root to look at.
        return
    if mode & 0o077:
        text = f"{path} can be read by others than root"
        yield RaveError(Code.CONFIG, text, hint=f"chmod 0600 {shlex.quote(str(path))}", file=str(path))
    if os.access(path, os.R_OK):
        try:
            read_key(path)
        except RaveError as e:
            yield RaveError(Code.CONFIG, e.message, hint=e.hint, file=str(path))


def _hidden(directory: Path) -> bool:
    """Whether a directory, or where links lead from it, is in a place that the sandbox hides."""
    places = (directory, directory.resolve())
    return any(
        _in_force(setting)
        for hidden, setting in HIDDEN.items()
        if any(place.is_relative_to(hidden) for place in places)
    )


def _in_force(setting: str) -> bool:
    """Whether the sandbox has a setting, which an operator may have taken off (`systemctl edit`)."""
    if not setting:
        return True
    command = [_SYSTEMCTL, "show", "--value", "-p", setting, names.ORCHESTRATOR_UNIT]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - constants
    except OSError:
        return True
    return done.stdout.strip() not in ("no", "read-only")


def _path(settings: Config, key: str) -> Path:
    path: Path = getattr(settings, key)
    return path


def _may(path: Path, *rights: str) -> bool | None:
    """Whether the user rave has these rights (of test(1)) to a path; None if that can't be known.

    The kernel is asked, as that user: modes alone know nothing of access lists, of read-only and of network mounts.
    """
    try:
        user = pwd.getpwnam("rave")
    except KeyError:
        return None
    if os.geteuid() not in (0, user.pw_uid):
        return None
    words = [word for right in rights for word in ("-a", right, str(path))][1:]
    command = [_TEST, *words]
    if os.geteuid():
        done = subprocess.run(command, check=False)  # noqa: S603 - a constant and paths
    else:
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
        done = subprocess.run(command, check=False, user=user.pw_uid, group=user.pw_gid, extra_groups=groups)  # noqa: S603
    return done.returncode == 0
