from __future__ import annotations

from pathlib import Path

import pytest

from ravesvc.names import ExitStatus
from ravesvc.orchestrator.exit_notes import ExitNotes

A, B = (f"{n}0000000-2222-4333-8444-555555555555" for n in (1, 2))


def write(directory: Path, *names: str) -> ExitNotes:
    for name in names:
        (directory / name).touch()
    return ExitNotes(directory)


def test_a_name_says_it_all_and_a_kick_says_most(tmp_path: Path) -> None:
    ends = write(tmp_path, f"{A}.89", f"{A}.80", f"{A}.84", f"{B}.81")
    assert ends.read() == {A: ExitStatus.KICKED, B: ExitStatus.LEFT}
    ends.forget(A)
    assert ends.read() == {B: ExitStatus.LEFT}
    ends.forget(A)
    ends.forget(B)
    assert list(tmp_path.iterdir()) == []


def test_a_bot_without_settings_does_not_hide_that_the_one_before_was_kicked(tmp_path: Path) -> None:
    assert write(tmp_path, f"{A}.80", f"{A}.78").read() == {A: ExitStatus.KICKED}
    assert write(tmp_path, f"{B}.78").read()[B] is ExitStatus.CONFIG


@pytest.mark.parametrize(
    "name",
    [f"{A}.1", f"{A}.0", f"{A}.", A, f"{A}.KILL", f"{A}.80.80", "x.80", ".80", f"{A}.9999999999", f"{A}.\u0668"],
)
def test_what_says_nothing_is_removed(tmp_path: Path, name: str) -> None:
    assert write(tmp_path, name).read() == {}
    assert list(tmp_path.iterdir()) == []


def test_there_need_be_no_directory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ends = ExitNotes(tmp_path / "ended")
    assert ends.read() == {}
    ends.forget(A)
    assert caplog.messages == []


def test_what_is_no_such_file_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "odd").mkdir()
    assert ExitNotes(tmp_path).read() == {}
    assert "odd can't be removed" in caplog.text
    (tmp_path / "file").touch()
    assert ExitNotes(tmp_path / "file").read() == {}
    assert "file can't be read: Not a directory" in caplog.text
