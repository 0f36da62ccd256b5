from __future__ import annotations

from pathlib import Path

import pytest

from ravesvc.common import plugin_files
from ravesvc.ctl.operations import canary_files

NEW, OLD = plugin_files.digest(b"new"), plugin_files.digest(b"old")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / plugin_files.CANARY_DIRECTORY).mkdir()
    (tmp_path / "canary" / "greet.py").write_text("new")
    return tmp_path


@pytest.mark.parametrize("former", [True, False])
def test_a_new_version_takes_the_place_of_the_former_one(directory: Path, former: bool) -> None:
    if former:
        (directory / "greet.py").write_text("old")
    canary_files.move(directory, [["greet.py", NEW, OLD if former else ""]])
    assert (directory / "greet.py").read_text() == "new"
    assert list((directory / "canary").iterdir()) == []


@pytest.mark.parametrize("former", [OLD, ""])
def test_a_file_that_was_changed_meanwhile_stays(
    directory: Path, former: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "greet.py").write_text("newest")
    canary_files.move(directory, [["greet.py", NEW, former]])
    assert (directory / "greet.py").read_text() == "newest"
    assert f"{directory}/greet.py has changed meanwhile" in capsys.readouterr().err


def test_only_what_was_tried_is_moved(directory: Path) -> None:
    canary_files.move(directory, [["greet.py", OLD, ""], ["gone.py", NEW, ""]])
    assert [file.name for file in directory.iterdir()] == ["canary"]


def test_a_file_that_can_not_be_moved_is_named(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", fail)
    canary_files.move(directory, [["greet.py", NEW, ""]])
    assert "canary/greet.py can't be moved to" in capsys.readouterr().err
