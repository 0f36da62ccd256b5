from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ravesvc.store.files import write_atomically


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_appears_with_its_mode(path: Path, mode: int) -> None:
    write_atomically(path, "ä\n", mode)
    assert path.read_bytes() == b"\xc3\xa4\n"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert names(path) == ["state.json"]


def test_the_new_content_replaces_the_old_in_one_step(path: Path) -> None:
    write_atomically(path, "old", 0o644)
    with path.open() as reader:
        write_atomically(path, "new", 0o600)
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_replaced_and_not_followed(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path.symlink_to(victim)
    write_atomically(path, "new", 0o600)
    assert victim.read_text() == "mine"
    assert not path.is_symlink()
    assert path.read_text() == "new"


def test_content_then_name_then_directory_reach_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            steps.append("directory")
            assert os.path.samestat(status, path.parent.stat())
        else:
            steps.append(f"file of {status.st_size} bytes")
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        assert target == path
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_atomically(path, "abc", 0o600)
    assert steps == ["file of 3 bytes", "rename", "directory"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    write_atomically(path, "old", 0o600)

    def fail(_descriptor: int) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(failure)):
        write_atomically(path, "new", 0o600)
    assert path.read_text() == "old"
    assert names(path) == ["state.json"]


def descriptors() -> set[str]:
    return {file.name for file in Path("/proc/self/fd").iterdir()}


def test_no_descriptor_is_left_open(path: Path) -> None:
    before = descriptors()
    write_atomically(path, "new", 0o600)
    assert descriptors() == before


def test_a_directory_in_its_place_stays(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(path, "new", 0o600)
    assert names(path) == ["state.json"]


def test_a_missing_directory_is_an_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(path / "x", "new", 0o600)
