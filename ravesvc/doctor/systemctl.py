"""Call systemd by systemctl(1), which is on every machine with systemd and waits for jobs by itself."""

from __future__ import annotations

import shlex
import subprocess

from ravesvc import names

# More than the time limits of the units that are started.
_TIMEOUT_S = 60.0


def systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl(1) to its end; the result is a failure if it is missing or does not end in time."""
    try:
        return subprocess.run(  # noqa: S603 - words of ours
            ["systemctl", *words],  # noqa: S607 - the one of root's PATH
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return subprocess.CompletedProcess(words, 1, "", "")


def start(unit: str) -> subprocess.Popen[bytes]:
    """Run systemctl(1) to start a unit; it ends when the unit has started. Keys of the terminal do not reach it.

    The unit's time limits bound the wait. Raises OSError where there is no systemctl.
    """
    return subprocess.Popen(  # noqa: S603 - words of ours
        ["systemctl", "start", unit],  # noqa: S607 - the one of root's PATH
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def service_environment() -> dict[str, str]:
    """The variables that the service's unit sets, by name; none without systemd."""
    return variables(systemctl("show", "--value", "--property=Environment", names.ORCHESTRATOR_UNIT).stdout)


def variables(shown: str) -> dict[str, str]:
    """Parse the variables in a line of systemctl(1), in which each is quoted as for a shell."""
    try:
        words = shlex.split(shown)
    except ValueError:
        return {}
    return {name: value for name, separator, value in (word.partition("=") for word in words) if separator}
