from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ravesvc.mesh import plugin_memory


def test_the_next_process_has_what_this_one_has_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """systemd, which is played here, keeps the memory."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        first = plugin_memory.last_step(None)
        text, (kept,), *_ = socket.recv_fds(manager, 4096, 2)
        assert text == b"FDSTORE=1\nFDNAME=plugins\nFDPOLL=0"
        assert first.culprit is None
        with first.mark("greet.py", "aa"):
            second = plugin_memory.last_step(os.dup(kept))
        assert (second.culprit, second.off) == (("greet.py", "aa"), {"greet.py": "aa"})
        assert plugin_memory.last_step(kept).culprit is None
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_without_systemd_it_ends_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    steps = plugin_memory.last_step(None)
    with steps.mark("greet.py", "aa"):
        pass
    assert steps.culprit is None


@pytest.mark.parametrize("size", [0, 1 << 30])
def test_a_bot_that_was_taken_over_can_not_change_its_size(
    size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The memory would count for no process any more once this one has ended."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        plugin_memory.last_step(None)
        _, (kept,), *_ = socket.recv_fds(manager, 4096, 2)
    with pytest.raises(PermissionError):
        os.ftruncate(kept, size)
    with pytest.raises(PermissionError):
        os.pwrite(kept, b"x", 1 << 20)
    os.close(kept)
