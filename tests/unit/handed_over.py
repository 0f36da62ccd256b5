"""Files handed to the process of the test as systemd does it (OpenFile=)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ravesvc.common import fd_files


def hand_over(monkeypatch: pytest.MonkeyPatch, given: Sequence[str], files: Sequence[Path]) -> int:
    """Open files under these names; returns the first descriptor, the others follow. It is not 3, which is taken."""
    first = 500
    for number, file in enumerate(files, first):
        opened = os.open(file, os.O_RDONLY)
        assert fcntl.fcntl(opened, fcntl.F_DUPFD, number) == number
        os.close(opened)
    monkeypatch.setattr(fd_files, "_FIRST_DESCRIPTOR", first)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", str(len(given)))
    monkeypatch.setenv("LISTEN_FDNAMES", ":".join(given))
    return first
