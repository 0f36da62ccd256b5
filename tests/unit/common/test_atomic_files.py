from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from ravesvc.common import atomic_files
from ravesvc.common.atomic_files import (
    access_hint,
    damaged,
    rename_no_replace,
    retire_damaged,
    set_aside,
    write_atomically,
    write_new,
)
from ravesvc.common.text import user_name


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


def test_no_owner_is_changed_which_the_service_may_not_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("chown", "fchown", "lchown"):
        monkeypatch.delattr(os, name)
    write_atomically(path, "new", 0o600)
    assert path.read_text() == "new"


def test_bytes_are_written_as_they_are(path: Path) -> None:
    write_atomically(path, b"\xff\r\n\0", 0o600)
    assert path.read_bytes() == b"\xff\r\n\0"


def test_a_text_that_cannot_be_encoded_leaves_the_old_file_and_no_other(path: Path) -> None:
    write_atomically(path, "old", 0o600)
    with pytest.raises(UnicodeError):
        write_atomically(path, "\ud800", 0o600)
    assert path.read_text() == "old"
    assert names(path) == ["state.json"]


def test_the_new_content_replaces_the_old_in_one_step(path: Path) -> None:
    write_atomically(path, "old", 0o644)
    with path.open() as reader:
        write_atomically(path, "new", 0o600)
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_is_made_where_there_is_nothing(path: Path) -> None:
    write_new(path, b"new", 0o640, os.getgid())
    assert path.read_text() == "new"
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid, status.st_nlink) == (0o640, os.getgid(), 1)
    assert names(path) == ["state.json"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_there_is_not_replaced(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_text("old")
    else:
        path.symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        write_new(path, b"new", 0o640, os.getgid())
    assert names(path) == ["state.json"]
    assert path.is_symlink() if kind == "link" else path.read_text() == "old"


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


def test_the_check_comes_last_and_what_it_raises_leaves_the_old_file_and_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(path, "old", 0o600)
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), fsync(descriptor)))
    seen: list[tuple[str, int]] = []
    write_atomically(path, "new", 0o600, check=lambda: seen.append((path.read_text(), len(synced))))
    assert seen == [("old", 1)]
    assert path.read_text() == "new"

    def refuse() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        write_atomically(path, "newer", 0o600, check=refuse)
    assert path.read_text() == "new"
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


# Keeping aside.

NOW = datetime(2024, 1, 8, 12, 0, 0, 999999, timezone(timedelta(hours=2)))
ASIDE = "state.json.damaged-20240108T100000Z"


def clock() -> datetime:
    return NOW


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link", "pipe"])
def test_whatever_it_is_it_is_kept_aside(path: Path, tmp_path: Path, kind: str) -> None:
    path.parent.joinpath("elsewhere").mkdir()
    make = {
        "file": lambda: path.write_text("bad"),
        "directory": lambda: (path.mkdir(), (path / "x").write_text("inside")),
        "link": lambda: path.symlink_to(tmp_path / "elsewhere"),
        "dangling link": lambda: path.symlink_to(tmp_path / "nowhere"),
        "pipe": lambda: os.mkfifo(path),
    }
    make[kind]()
    before = path.lstat()
    kept = set_aside(path, clock=clock)
    assert kept == path.with_name(ASIDE)
    after = kept.lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert names(path) == ["elsewhere", ASIDE]


def test_the_name_says_why(path: Path) -> None:
    path.write_text("of no more use")
    assert set_aside(path, "replaced", clock=clock).name == ASIDE.replace("damaged", "replaced")


def test_nothing_is_overwritten(path: Path) -> None:
    path.with_name(ASIDE).symlink_to(path.with_name("nowhere"))
    path.with_name(f"{ASIDE}.2").mkdir()
    path.with_name(f"{ASIDE}.3").write_text("there already")
    for number in (4, 5):
        path.write_text(f"bad {number}")
        assert set_aside(path, clock=clock) == path.with_name(f"{ASIDE}.{number}")
    path.mkdir()
    assert set_aside(path, clock=clock) == path.with_name(f"{ASIDE}.6")
    assert path.with_name(f"{ASIDE}.3").read_text() == "there already"
    assert [path.with_name(f"{ASIDE}.{number}").read_text() for number in (4, 5)] == ["bad 4", "bad 5"]
    assert len(names(path)) == 6


def test_what_was_damaged_before_the_file_was_good_again_is_told_apart(path: Path) -> None:
    path.with_name(ASIDE).write_text("first")
    path.with_name(ASIDE.replace("state", "other")).write_text("of another file")
    retire_damaged(path)
    assert damaged(path) == []
    path.write_text("second")
    kept = set_aside(path, clock=clock)
    assert damaged(path) == [kept]
    # The name that it would get is taken: then it keeps its own.
    retire_damaged(path)
    assert damaged(path) == [kept]
    assert path.with_name(ASIDE.replace(".damaged-", ".old-damaged-")).read_text() == "first"


def test_without_a_clock_the_time_is_now(path: Path) -> None:
    path.write_text("bad")
    before = datetime.now(UTC).replace(microsecond=0)
    kept = set_aside(path)
    told = datetime.strptime(kept.name, "state.json.damaged-%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert before <= told <= datetime.now(UTC)


def test_what_is_not_there_is_an_error_and_leaves_nothing(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        set_aside(path, clock=clock)
    with pytest.raises(FileNotFoundError):
        set_aside(path / "x", clock=clock)
    assert names(path) == []


def test_a_directory_that_cannot_be_renamed_leaves_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.mkdir()

    def fail(_self: Path, _target: Path) -> Path:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Read-only"):
        set_aside(path, clock=clock)
    assert names(path) == ["state.json"]


def test_a_new_name_reaches_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("bad")
    synced: list[list[str]] = []
    sync = atomic_files.sync

    def note(directory: Path) -> None:
        assert directory == path.parent
        synced.append(names(path))
        sync(directory)

    monkeypatch.setattr(atomic_files, "sync", note)
    before = descriptors()
    set_aside(path, clock=clock)
    assert synced == [[ASIDE]]
    assert descriptors() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
@pytest.mark.parametrize(
    ("owner", "whose"), [(0, "belong to root"), (65534, f"are closed to the user {user_name(65534)}"), (4711, "")]
)
def test_how_to_use_what_another_user_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, whose: str
) -> None:
    os.chown(tmp_path, owner, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    mend = f"sudo chown -R {user_name(65534)} {tmp_path} && chmod -R u+rwX {tmp_path}"
    expected = f"files in {tmp_path} {whose}: {mend}, or move" if whose else "it is for the user 4711 and root; move"
    assert access_hint(tmp_path, "move") == expected
    assert access_hint(tmp_path / "missing", "move") == "move"
    assert access_hint(Path("/usr"), "move") == "move", "it is not a user's to be given"


def test_a_name_that_is_taken_is_an_error(path: Path) -> None:
    path.write_text("one")
    other = path.with_name("other")
    other.write_text("two")
    with pytest.raises(FileExistsError):
        rename_no_replace(path, other)
    assert (path.read_text(), other.read_text()) == ("one", "two")
