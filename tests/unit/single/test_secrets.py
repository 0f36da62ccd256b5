from __future__ import annotations

import os
from pathlib import Path

import pytest

from ravesvc.single import secrets


def test_files_are_secrets_by_their_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert secrets.read(tmp_path / "none") == {}
    for name, mode in ("ai-key", 0o600), ("shared", 0o644):
        (tmp_path / name).write_text(f"{name} of ours\n")
        (tmp_path / name).chmod(mode)
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_text("x" * (16 * 1024 + 1))
    assert secrets.read(tmp_path) == {"ai-key": "ai-key of ours", "shared": "shared of ours"}
    for name in ("directory", "pipe", "long"):
        assert f"A secret is left out: {tmp_path}/{name} is" in caplog.text
    assert f"Other users can use {tmp_path}/shared: chmod 600 {tmp_path}/shared" in caplog.text
    assert f"Other users can use {tmp_path}/ai-key" not in caplog.text
    assert "of ours" not in caplog.text
