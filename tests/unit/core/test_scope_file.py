from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from ravesvc.core.scope_file import ScopeFile

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_the_next_process_knows_the_scope(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "discovery.json"
    file = ScopeFile(path)
    assert file.load() == ""
    run(file.keep("invited meshes"))
    run(file.keep(""))
    assert ScopeFile(path).load() == "invited meshes"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_kept_already_is_not_written_again(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "discovery.json"
    run(ScopeFile(path).keep("invited meshes"))
    file = ScopeFile(path)
    file.load()
    path.unlink()
    run(file.keep("invited meshes"))
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"scope": 1}', b"\xff", b" " * 100_000])
def test_a_file_of_no_use_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    path = tmp_path / "discovery.json"
    path.write_bytes(content)
    assert ScopeFile(path).load() == ""
    assert "can't be used" in caplog.text


async def test_a_disk_that_is_full_does_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await ScopeFile(tmp_path / "missing" / "discovery.json").keep("invited meshes")
    assert "can't be written: No such file" in caplog.text
