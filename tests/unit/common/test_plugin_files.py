from __future__ import annotations

from pathlib import Path

import pytest

from ravesvc.common import plugin_files
from ravesvc.errors import RaveError


def test_a_directory_that_is_named_as_a_file_is_none_and_costs_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "x.py").mkdir()
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(RaveError, match=r"x\.py: it can't be read: Is a directory"):
        plugin_files.read(tmp_path / "x.py")
    assert sorted(Path("/proc/self/fd").iterdir()) == before
