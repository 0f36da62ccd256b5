from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ravesvc.dev.plugin_files import PluginFile, plugin_files
from ravesvc.errors import Code, RaveError


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "author"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies"


@pytest.fixture
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_no_umask")
def test_a_copy_fits_the_bot_whatever_the_file_is(author: Path, copies: Path) -> None:
    (author / "roll.py").write_text("1")
    (author / "roll.py").chmod(0o666)
    (file,) = plugin_files(["roll.py"], copies)
    assert file.bring_up_to_date()
    assert (file.given, file.copy) == ("roll.py", copies / "roll.py")
    assert file.copy.read_text() == "1"
    assert file.copy.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in author.iterdir()] == ["roll.py"]
    assert [each.name for each in copies.iterdir()] == ["roll.py"]


def test_it_is_copied_again_when_it_has_changed(author: Path, copies: Path) -> None:
    (author / "roll.py").write_text("1")
    file = PluginFile("roll.py", copies)
    assert file.bring_up_to_date()
    assert not file.bring_up_to_date()
    (author / "roll.py").write_text("2")
    assert file.bring_up_to_date()
    assert file.copy.read_text() == "2"
    (author / "roll.py").unlink()
    with pytest.raises(FileNotFoundError):
        file.bring_up_to_date()
    assert file.copy.read_text() == "2"


def test_a_link_is_followed(author: Path, copies: Path) -> None:
    (author / "elsewhere.txt").write_text("1")
    (author / "roll.py").symlink_to("elsewhere.txt")
    (file,) = plugin_files(["roll.py", "roll.py"], copies)
    file.bring_up_to_date()
    assert file.path == author / "elsewhere.txt"
    assert not file.copy.is_symlink()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["none.py"], "none.py does not exist"),
        (["roll.txt"], "roll.txt is no file of commands (bots load files whose names end in .py"),
        ([".roll.py"], ".roll.py is no file of commands"),
        (["directory.py"], "directory.py is no file"),
        (["roll.py", "other/roll.py"], "roll.py and other/roll.py have one name"),
    ],
)
def test_what_no_bot_would_load_is_refused(author: Path, copies: Path, given: list[str], why: str) -> None:
    for name in "roll.py", "roll.txt", ".roll.py":
        (author / name).write_text("")
    (author / "directory.py").mkdir()
    (author / "other").mkdir()
    (author / "other/roll.py").write_text("")
    with pytest.raises(RaveError) as refused:
        plugin_files(given, copies)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert str(refused.value).startswith(why)


def test_what_may_not_be_read_is_refused(author: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (author / "roll.py").write_text("")
    # The tests may run as root, who may read everything.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RaveError, match=r"you may not read roll\.py"):
        plugin_files(["roll.py"], copies)


def test_what_a_file_imports_comes_and_goes_with_it(author: Path, copies: Path) -> None:
    (author / "_scores.py").write_text("import _sums")
    (author / "_sums.py").write_text("")
    (author / "_other.py").write_text("")
    (author / "roll.py").write_text("import _scores")
    file = PluginFile("roll.py", copies)
    assert file.bring_up_to_date()
    assert sorted(each.name for each in copies.iterdir()) == ["_scores.py", "_sums.py", "roll.py"]
    assert file.helpers == {copies / name: author / name for name in ("_scores.py", "_sums.py")}
    assert not file.bring_up_to_date()
    (author / "_sums.py").write_text("total = 0")
    assert file.bring_up_to_date()
    assert (copies / "_sums.py").read_text() == "total = 0"
    (author / "_scores.py").write_text("")
    assert file.bring_up_to_date()
    assert sorted(each.name for each in copies.iterdir()) == ["_scores.py", "roll.py"]


def test_a_file_that_others_import_is_none_to_load(author: Path, copies: Path) -> None:
    (author / "_scores.py").write_text("")
    with pytest.raises(RaveError, match="begin with no dot or _"):
        plugin_files(["_scores.py"], copies)
