"""A pager for output that may be longer than the terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

# Ends at once if all fits; passes colours on; cuts no lines; leaves the text on the screen.
_OPTIONS = "-FRX"
# journalctl(1) takes these values of the variables for no pager.
_NO_PAGER = ("", "cat")


@contextlib.contextmanager
def paged() -> Iterator[None]:
    """Have less(1) show what is printed to a terminal, unless SYSTEMD_PAGER or PAGER turns that off.

    It is always less, and in its secure mode: nothing in the environment can have root run another program.
    """
    pager = os.environ.get("SYSTEMD_PAGER", os.environ.get("PAGER"))
    less = None if pager in _NO_PAGER or not sys.stdout.isatty() else _less()
    if less is None or less.stdin is None:
        yield
        return
    try:
        with contextlib.redirect_stdout(less.stdin):
            yield
    except BrokenPipeError:
        # The user has seen enough.
        pass
    finally:
        with contextlib.suppress(BrokenPipeError):
            less.stdin.close()
        _wait(less)


def _less() -> subprocess.Popen[str] | None:
    environment = os.environ | {"LESSSECURE": "1"}
    environment.pop("LESSOPEN", None)
    command = ["less", _OPTIONS]
    try:
        return subprocess.Popen(  # noqa: S603 - no shell
            command, stdin=subprocess.PIPE, text=True, errors="replace", env=environment
        )
    except OSError:
        return None


def _wait(less: subprocess.Popen[str]) -> None:
    while less.returncode is None:
        # In less, Ctrl-C ends no more than what it is doing.
        with contextlib.suppress(KeyboardInterrupt):
            less.wait()
