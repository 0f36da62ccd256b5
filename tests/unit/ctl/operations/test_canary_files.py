from __future__ import annotations

from pathlib import Path

import pytest

from ravesvc.common import plugin_files
from ravesvc.ctl.operations import canary_files
from ravesvc.errors import RaveError

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
    assert canary_files.move(directory, [["greet.py", NEW, OLD if former else ""]])
    assert (directory / "greet.py").read_text() == "new"
    assert list((directory / "canary").iterdir()) == []


@pytest.mark.parametrize("former", [OLD, ""])
def test_a_file_that_was_changed_meanwhile_stays(
    directory: Path, former: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "greet.py").write_text("newest")
    assert not canary_files.move(directory, [["greet.py", NEW, former]])
    assert (directory / "greet.py").read_text() == "newest"
    assert f"{directory}/greet.py has changed meanwhile" in capsys.readouterr().err


def test_only_what_was_tried_is_moved(directory: Path) -> None:
    assert not canary_files.move(directory, [["greet.py", OLD, ""], ["gone.py", NEW, ""]])
    assert [file.name for file in directory.iterdir()] == ["canary"]


def test_a_file_that_can_not_be_moved_is_named(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", fail)
    assert not canary_files.move(directory, [["greet.py", NEW, ""]])
    assert "canary/greet.py can't be moved to" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../out.py", "/etc/passwd", "a/../../out.py"])
def test_a_service_that_was_taken_over_moves_no_other_file(directory: Path, name: str) -> None:
    (directory / "out.py").write_text("new")
    with pytest.raises(RaveError, match="which is no file of plugins"):
        canary_files.move(directory, [[name, NEW, ""]])
    assert (directory / "out.py").exists()
    assert not (directory.parent / "out.py").exists()


def test_a_link_stays_where_it_leads_to_the_file(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "greet.py").write_text("old")
    (directory / "canary" / "source").write_text("new")
    (directory / "canary" / "greet.py").unlink()
    (directory / "canary" / "greet.py").symlink_to("source")
    assert not canary_files.move(directory, [["greet.py", NEW, OLD]])
    assert (directory / "greet.py").read_text() == "old"
    assert "canary/greet.py is a link, and is not moved" in capsys.readouterr().err


def test_what_the_operator_has_removed_does_not_come_back(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not canary_files.move(directory, [["greet.py", NEW, OLD]])
    assert not (directory / "greet.py").exists()
    assert "greet.py was removed meanwhile" in capsys.readouterr().err


def test_a_new_version_that_is_another_by_now_is_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "greet.py").write_text("old")
    (directory / "canary" / "greet.py").write_text("newer")
    assert not canary_files.move(directory, [["greet.py", NEW, OLD]])
    assert "canary/greet.py is not what was tried" in capsys.readouterr().err
