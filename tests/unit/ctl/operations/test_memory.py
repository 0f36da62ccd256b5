from __future__ import annotations

from pathlib import Path

from ravesvc import names
from ravesvc.ctl.operations import memory

FIRST = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
SECOND = "2c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"


def unit(directory: Path, name: str, count: str | None) -> None:
    (directory / name).mkdir(parents=True)
    if count is not None:
        (directory / name / "memory.current").write_text(count)


def test_memory_is_found_in_whatever_slice(tmp_path: Path) -> None:
    unit(tmp_path / "rave.slice/rave-mesh.slice", names.mesh_unit(FIRST), "22500000\n")
    unit(tmp_path / "other.slice", names.mesh_unit(SECOND), "5\n")
    unit(tmp_path / "system.slice", "cron.service", "7\n")
    (tmp_path / "memory.stat").touch()
    assert memory.used(tmp_path) == {FIRST: 22_500_000, SECOND: 5}


def test_what_nobody_counts_is_left_out(tmp_path: Path) -> None:
    assert memory.used(tmp_path / "nowhere") == {}
    unit(tmp_path, names.mesh_unit(FIRST), None)
    unit(tmp_path, names.mesh_unit(SECOND), "max\n")
    assert memory.used(tmp_path) == {}


def test_this_machine_is_looked_at() -> None:
    assert all(count > 0 for count in memory.used().values())
