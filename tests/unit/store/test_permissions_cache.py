from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ravesvc.store.model import Contents
from ravesvc.store.permissions_cache import PermissionsCache
from tests.unit.fake_store import admin, credentials, permission


def test_admins_and_permissions_are_kept_and_nothing_else(tmp_path: Path) -> None:
    contents = Contents(
        credentials=credentials(),
        admins=(admin(1), dataclasses.replace(admin(2), active=False)),
        permissions=(permission("ping"),),
    )
    file = tmp_path / "copy.json"
    assert PermissionsCache(file).read() is None
    PermissionsCache(file).write(contents)
    assert PermissionsCache(file).read() == Contents(admins=contents.admins, permissions=contents.permissions)
    assert file.stat().st_mode & 0o777 == 0o600
    assert credentials().device_id not in file.read_text()


@pytest.mark.parametrize("content", [b"nonsense", b"{}", b"\xff"])
def test_one_that_can_not_be_used_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    file = tmp_path / "copy.json"
    file.write_bytes(content)
    assert PermissionsCache(file).read() is None
    assert f"{file}, the copy of admins and permissions, can't be used" in caplog.text
    PermissionsCache(file).write(Contents(admins=(admin(1),)))
    assert PermissionsCache(file).read() == Contents(admins=(admin(1),))


def test_a_place_that_can_not_be_used_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    PermissionsCache(tmp_path / "missing" / "copy.json").write(Contents())
    assert "can't be written: No such file" in caplog.text
    PermissionsCache(tmp_path).read()
    assert "Is a directory" in caplog.text
