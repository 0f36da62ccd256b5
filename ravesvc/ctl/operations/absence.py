"""Why rave-orchestrator.service does not run, as systemd knows it, and what to do about it.

Every user may read the unit's properties. `explain` alone turns them into words, and `print_error` prints them, for
every command.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ravesvc import names
from ravesvc.common.text import count, printable
from ravesvc.ctl.commands import config
from ravesvc.ctl.ui import output
from ravesvc.errors import Code, RaveError
from ravesvc.setup import state_directory

_MAX_STATUS_CHARS = 300
_JOURNAL = f"journalctl -u {names.ORCHESTRATOR_UNIT} -n 30 says more"
_START = "systemctl start rave-orchestrator"
_CONFIG_CHECK = "ravectl config check, as root, tells every mistake"

# Failures of systemd before the program ran, by exit status: systemd.exec(5).
_SYSTEMD_STATUS = {
    200: ("CHDIR", "its working directory can't be entered"),
    202: ("FDS", "its files can't be handed over"),
    203: ("EXEC", "its program can't be run"),
    206: ("IOPRIO", "its I/O priority can't be set"),
    209: ("STDOUT", "the journal can't be reached"),
    213: ("SECUREBITS", "its rights can't be restricted"),
    214: ("SETSCHEDULER", "its priority can't be set"),
    216: ("GROUP", "there is no group rave"),
    217: ("USER", "there is no user rave"),
    218: ("CAPABILITIES", "its rights can't be restricted"),
    219: ("CGROUP", "its control group can't be made"),
    224: ("PAM", "the session can't be made"),
    225: ("NETWORK", "its network can't be set up"),
    226: (
        "NAMESPACE",
        "its sandbox can't be set up: a path of it is missing, or a container forbids it",
    ),
    227: ("NO_NEW_PRIVILEGES", "its rights can't be restricted"),
    228: ("SECCOMP", "its system calls can't be restricted"),
    229: ("SELINUX_CONTEXT", "its SELinux context can't be set"),
    230: ("PERSONALITY", "its sandbox can't be set up"),
    231: ("APPARMOR_PROFILE", "its AppArmor profile can't be used"),
    233: ("RUNTIME_DIRECTORY", "its directory in /run can't be used"),
    235: ("CHOWN", "a file can't be given to the user rave"),
    237: ("KEYRING", "its keyring can't be set up"),
    238: ("STATE_DIRECTORY", "its state directory, /var/lib/rave, can't be used"),
    239: ("CACHE_DIRECTORY", "its cache directory can't be used"),
    240: ("LOGS_DIRECTORY", "its log directory can't be used"),
    241: ("CONFIGURATION_DIRECTORY", "its configuration directory can't be used"),
    243: ("CREDENTIALS", "its credentials can't be set up"),
}

_RESULTS = {
    "timeout": "it took too long to start or to stop",
    "watchdog": "it did not answer the watchdog",
    "start-limit-hit": "it was started too often in a short time",
    "oom-kill": "the kernel ended it for want of memory",
    "resources": "systemd lacks something that it takes",
    "protocol": "it ended without saying that it was ready",
    "exec-condition": "a condition of its unit does not hold",
}

_STATE_DIRECTORY = 238

# CLD_EXITED of waitpid(2).
_EXITED = 1


def print_error(error: RaveError) -> None:
    """Print why a command has failed, with the mistakes in the configuration if the caller may read it."""
    output.print_failure(error)
    for mistake in mistakes(error):
        output.print_problem(str(mistake))


def mistakes(error: RaveError) -> list[RaveError]:
    """The mistakes for which the service has ended, for an error of `explain`; none if the caller may not read."""
    if not error.attributes.get("configuration") or not os.access(names.CONFIG_FILE, os.R_OK):
        return []
    return config.mistakes(names.CONFIG_FILE)


def explain(unit: Mapping[str, Any]) -> RaveError:
    """The failure (NotRunning) of a call to a service that is not there; `unit` has the unit's properties.

    Its attribute `configuration` is 1 when it ended over its configuration, or may have, else 0. No properties at
    all, from a systemd that does not tell, make an error as well.
    """
    load = unit.get("LoadState", "loaded")
    if load == "not-found":
        return _error("rave-orchestrator is not installed", "apt install rave-orchestrator")
    if load == "masked":
        return _error("rave-orchestrator is masked", "systemctl unmask rave-orchestrator, then start it")
    if load != "loaded":
        return _error("the unit of rave-orchestrator can't be loaded", "systemctl status rave-orchestrator says why")
    active, sub = unit.get("ActiveState", "inactive"), unit.get("SubState", "")
    if active == "deactivating":
        return _error("rave-orchestrator is being stopped", _START)
    if active == "activating" and not sub.startswith("auto-restart"):
        return _starting(unit)
    if unit.get("Result", "success") == "success":
        # Scenario: the unit waits to be restarted, and the wait ends while its properties are read. systemd has reset
        # the failure by then, and for a moment the unit is inactive, with a job.
        number, _ = unit.get("Job", (0, "/"))
        if active == "activating" or number:
            return _starting(unit)
        return _error("rave-orchestrator is not running", _START)
    cause, hint, configuration = _cause(unit)
    again = ", and systemd tries again" if active == "activating" else ""
    return _error(f"rave-orchestrator is not running{again}: {cause}", hint, configuration=configuration)


def _starting(unit: Mapping[str, Any]) -> RaveError:
    text = printable(unit.get("StatusText", ""), _MAX_STATUS_CHARS)
    if failures := int(unit.get("NRestarts", 0)):
        # systemd has reset the reason by now.
        what = f"rave-orchestrator is being started again, after {count(failures, 'failed start')}"
        return _error(what + (f": {text}" if text else ""), f"{_CONFIG_CHECK}; {_JOURNAL}", configuration=1)
    return _error("rave-orchestrator is still starting" + (f": {text}" if text else ""), _JOURNAL)


def _cause(unit: Mapping[str, Any]) -> tuple[str, str, int]:
    """The cause, a hint, and 1 if the cause is the configuration, else 0."""
    result, code, status = _ended(unit)
    if result == "exit-code" and code == _EXITED:
        if status == names.ExitStatus.CONFIG:
            return "its configuration has a mistake", _CONFIG_CHECK, 1
        if status == _STATE_DIRECTORY and (linked := state_directory.problem()):
            return linked.message, linked.hint, 0
        if status in _SYSTEMD_STATUS:
            name, words = _SYSTEMD_STATUS[status]
            return f"{words} (status {status}/{name})", _JOURNAL, 0
        return f"it failed with exit status {status}", _JOURNAL, 0
    if result in ("signal", "core-dump"):
        return f"signal {status} ended it", _JOURNAL, 0
    return _RESULTS.get(result, f"it failed ({printable(result, 40)})"), _JOURNAL, 0


def _ended(unit: Mapping[str, Any]) -> tuple[str, int, int]:
    """Result, code and status of the process that failed: the main one, or that of the step before it."""
    result = str(unit.get("Result", ""))
    code, status = int(unit.get("ExecMainCode", 0)), int(unit.get("ExecMainStatus", 0))
    for command in unit.get("ExecStartPre", []):
        # path, arguments, whether a failure is ignored, four times, process, code, status.
        *_, pre_code, pre_status = command
        if pre_status:
            return result, int(pre_code), int(pre_status)
    return result, code, status


def _error(message: str, hint: str, *, configuration: int = 0) -> RaveError:
    return RaveError(Code.NOT_RUNNING, message, hint=hint, configuration=configuration)
