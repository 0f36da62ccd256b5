"""The privileged step before the parent starts: ExecStartPre=+ of rave-orchestrator.service, run by root.

It checks the configuration, leaves the workers' settings and session under /run/rave (OpenFile= of
rave-mesh@.service hands them over), and writes the drop-ins with what systemd carries out for us. Nothing else.

`python3 -m ravesvc.setup reload`, by ExecReload=+, checks the configuration too, leaves the settings of the
workers, and has the service take over the rest.

`python3 -m ravesvc.setup name-servers`, by rave-name-servers.service, lets bots reach new name servers.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ravesvc import names
from ravesvc.common.atomic_files import write_atomically
from ravesvc.common.text import count
from ravesvc.config import rave_yaml, table
from ravesvc.config.options import Config
from ravesvc.config.worker_settings import MeshSettings, digest
from ravesvc.errors import Code, RaveError
from ravesvc.setup import addresses, places
from ravesvc.setup.check import check, warnings
from ravesvc.store.credentials_file import read_session
from ravesvc.systemd.notify import notify

SYSTEMCTL = "/usr/bin/systemctl"
BUSCTL = "/usr/bin/busctl"
DROP_IN = Path("/run/systemd/system/rave-mesh@.service.d/50-rave-yaml.conf")
STOP_DROP_IN = Path("/run/systemd/system/rave-meshes-stop.service.d/50-rave-yaml.conf")
SERVICE_DROP_IN = Path("/run/systemd/system/rave-orchestrator.service.d/50-rave-yaml.conf")
SLICE = names.MESH_SLICE
RESOLV_CONF = Path("/etc/resolv.conf")
_DOCTOR = "'sudo ravectl doctor' shows what is missing"
_MAX_ADDRESSES_CHARS = 64 << 10  # of resolv.conf, and of the addresses that rave.yaml allows


def drop_in(settings: Config) -> str:
    """The drop-in for rave-mesh@.service: the options of rave.yaml that systemd carries out."""
    # The restarts of one crash loop all fall into this window: each takes the delay and at most a slow start.
    window = (settings.max_process_restarts + 1) * (settings.process_restart_delay + 60)
    return (
        f"{_origin()}[Unit]\n"
        f"StartLimitIntervalSec={window:.0f}s\n"
        # The first start counts too.
        f"StartLimitBurst={settings.max_process_restarts + 1}\n"
        "[Service]\n"
        f"RestartSec={settings.process_restart_delay * 1000:.0f}ms\n"
        f"TimeoutStopSec={settings.shutdown_timeout * 1000:.0f}ms\n"
        f"WatchdogSec={settings.watchdog * 1000:.0f}ms\n"
    )


def stop_drop_in(settings: Config) -> str:
    """The drop-in for rave-meshes-stop.service: after how long a bot is killed that does not stop."""
    return f"{_origin()}[Service]\nEnvironment=WAIT={settings.shutdown_timeout + names.STOP_GRACE_S:g}s\n"


def service_drop_in(settings: Config) -> str | None:
    """That of the service itself: where its sandbox has to let it write; None for its own directory alone."""
    opened = places.opened(settings)
    if not opened:
        return None
    # The minus: a directory that vanishes is told by those who write there, in better words than systemd's.
    return f"{_origin()}[Service]\n" + "".join(f'ReadWritePaths="-{_quoted(path)}"\n' for path in opened)


def _origin() -> str:
    return f"# Written by rave-orchestrator.service at its start, from {names.CONFIG_FILE}. Change it there.\n"


def _quoted(path: Path) -> str:
    """A path as it stands between quotes in a unit file."""
    return str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")


def run(arguments: Sequence[str]) -> int:
    """The program, with the arguments of its command line; returns its exit status."""
    return {"name-servers": follow_name_servers, "reload": reload}.get("".join(arguments), main)()


def main() -> int:
    """Run the step; what is wrong goes to standard error, which is the journal."""
    # The unit's umask would hide the drop-in from `systemctl cat`; what is secret gets its mode by itself.
    os.umask(0o022)
    settings, problems = check(names.CONFIG_FILE)
    if settings:
        for warning in warnings(settings):
            _print(warning)
        try:
            _prepare(rave_yaml.with_environment(settings, os.environ))
        except RaveError as e:
            problems.append(e)
    for problem in problems:
        _print(str(problem))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        notify(f"STATUS=Not started: {problems[0]}{more}")
    return int(names.ExitStatus.CONFIG) if problems else 0


def reload() -> int:
    """The step of `systemctl reload`; with a mistake in rave.yaml, or if the service refuses, nothing changes."""
    os.umask(0o022)
    settings, problems = check(names.CONFIG_FILE)
    for text in [*map(str, problems), *(warnings(settings) if settings else [])]:
        _print(text)
    if settings is None:
        return int(names.ExitStatus.CONFIG)
    try:
        return _hand_over(rave_yaml.with_environment(settings, os.environ))
    except RaveError as e:
        _print(str(e))
        return int(names.ExitStatus.CONFIG)


def _hand_over(settings: Config) -> int:
    """Leave the settings for workers that start from now on, and tell the service; returns the exit status."""
    path = Path(names.SETTINGS_FILE)
    try:
        before = path.read_text(encoding="utf-8")
        after = table.reloaded(MeshSettings.from_json(before), settings).to_json()
    except (OSError, RaveError) as e:
        hint = "systemctl restart rave-orchestrator writes it anew"
        raise RaveError(Code.CONFIG, f"{path} can't be used: {e}", hint=hint) from e
    # First the file: a worker that starts in between is at most taken for outdated, for a moment. In the other order
    # it would be outdated for ever.
    _write(path, after, 0o600)
    command = [BUSCTL, "--system", "--quiet", "call", names.BUS_NAME, names.MANAGER_PATH, names.MANAGER_INTERFACE]
    done = subprocess.run([*command, "Reload", "s", digest(after)], check=False)  # noqa: S603 - constants, a digest
    if done.returncode:
        _write(path, before, 0o600)
    return done.returncode


def _prepare(settings: Config) -> None:
    _leave(Path(names.AUTHORITIES_FILE), settings.tls.authorities, 0o644)
    if settings.tls.authorities:
        # So that a change of the file which was not taken over is found: it is read at a start alone.
        number = settings.tls.authorities.count("BEGIN CERTIFICATE")
        what = "its certificate" if number == 1 else f"its {count(number, 'certificate')}"
        _print(f"tls.ca_file: {settings.tls.ca_file} was read, {what} alone will be trusted")
    _write(Path(names.SETTINGS_FILE), settings.mesh_settings().to_json(), 0o600)
    _write(Path(names.MEDIA_SETTINGS_FILE), settings.media_settings().to_json(), 0o600)
    try:
        session = read_session(settings.credentials_path, owner=_owner())
    except RaveError as e:
        # The parent reads the same file, says what is wrong with it, and starts no mesh.
        _print(str(e))
        session = None
    _leave(Path(names.SESSION_FILE), session.to_json() if session else None, 0o600)
    changed = [
        _write(DROP_IN, drop_in(settings), 0o644),
        _write(STOP_DROP_IN, stop_drop_in(settings), 0o644),
        _leave(SERVICE_DROP_IN, service_drop_in(settings), 0o644),
    ]
    if any(changed):
        _reload()
    # Before resolv.conf is read: rave-name-servers.service may run at this moment, and then finds both.
    _write(Path(names.ALLOWED_ADDRESSES_FILE), "".join(f"{a}\n" for a in addresses.allowed(settings)), 0o644)
    limit_addresses(settings)


def limit_addresses(settings: Config) -> None:
    """Keep bots, those that run as well, from what is near, but for what they need.

    By set-property, because a bot that runs takes nothing over from a drop-in by a daemon-reload. Where systemd can't
    do it bots run all the same, as they do on a kernel without Landlock.
    """
    denied = [f"IPAddressDeny={network}" for network in ("", *addresses.denied(settings))]
    # What bots need comes first: nothing is denied them as long as their name servers may be part of it.
    if not (_allow_addresses() and _set_slice(denied)):
        _print(f"systemd did not take IPAddressDeny= of {SLICE}: bots may reach what is near them; {_DOCTOR}")


def follow_name_servers() -> int:
    """Let bots reach the name servers that there are now; to be run when resolv.conf has changed.

    What rave.yaml and the environment of rave-orchestrator.service name is as it was at that service's last start.
    """
    if _allow_addresses():
        return 0
    _print(f"systemd did not take IPAddressAllow= of {SLICE}: bots may not reach the servers of {RESOLV_CONF}")
    return 1


def _allow_addresses() -> bool:
    known = None
    # Until there is nothing new: the start of the service and rave-name-servers.service may both be here at once, and
    # the one that is last must not set what the other has seen change.
    while known != (known := (_text(RESOLV_CONF), _text(Path(names.ALLOWED_ADDRESSES_FILE)))):
        allowed = [*addresses.name_servers(known[0]), *addresses.listed(known[1])]
        if not _set_slice([f"IPAddressAllow={address}" for address in ("", *allowed)]):
            return False
    return True


def _set_slice(assignments: list[str]) -> bool:
    """Have systemd take over properties; an assignment of nothing takes back what was assigned before."""
    command = [SYSTEMCTL, "set-property", "--runtime", SLICE, *assignments]
    return not subprocess.run(command, check=False).returncode  # noqa: S603 - addresses that were parsed


def _text(path: Path) -> str:
    """The beginning of a file, empty if there is none: for resolv.conf both mean the same to the resolver."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_ADDRESSES_CHARS)
    except OSError:
        return ""


def _reload() -> None:
    """Have systemd read the drop-ins: that of the service itself holds for the very start that this is part of."""
    # systemctl rather than D-Bus: a reload from within a start is what it knows to wait for.
    reload = subprocess.run([SYSTEMCTL, "daemon-reload"], check=False)  # noqa: S603 - a constant
    if reload.returncode:
        # Else the next run would find it in place, and not try again.
        DROP_IN.unlink()
        raise RaveError(Code.UNIT, f"systemd did not read {DROP_IN}", hint="systemctl daemon-reload says why")


def _print(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - the journal takes it from here


def _owner() -> int:
    try:
        return pwd.getpwnam("rave").pw_uid
    except KeyError as e:
        raise RaveError(Code.CONFIG, "there is no user rave", hint="systemd-sysusers makes it") from e


def _leave(path: Path, text: str | None, mode: int) -> bool:
    """Have a file with this content, or none; tells whether anything was changed."""
    if text is not None:
        return _write(path, text, mode)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as e:
        raise RaveError(Code.CONFIG, f"{path} can't be removed: {e.strerror}", file=str(path)) from e
    return True


def _write(path: Path, text: str, mode: int) -> bool:
    """Write a file when its content differs; tells whether it did."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if path.is_file() and path.read_bytes() == text.encode():
            return False
        write_atomically(path, text, mode)
    except OSError as e:
        raise RaveError(Code.CONFIG, f"{path} can't be written: {e.strerror}", file=str(path)) from e
    return True
