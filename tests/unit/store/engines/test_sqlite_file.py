from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.common.text import user_name
from ravesvc.errors import Code, RaveError
from ravesvc.store.engines import sqlite_file, sqlite_schema
from ravesvc.store.engines.sqlite_file import StateFile

NOW = datetime(2024, 1, 8, 10, 0, 0, tzinfo=UTC)
ASIDE = "state.db.damaged-20240108T100000Z"
SECRET = "auth-token-of-the-bot"

ADD = "INSERT INTO admin_users VALUES (?, 0, 0, 1)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def make(path: Path, **options: Any) -> StateFile:
    return StateFile(path, clock=lambda: NOW, **options)


@contextlib.contextmanager
def using(path: Path, **options: Any) -> Iterator[StateFile]:
    file = make(path, **options)
    try:
        yield file
    finally:
        file.close()


def add(file: StateFile, user: int) -> None:
    file.run("BEGIN IMMEDIATE", lambda database: database.execute(ADD, (user,)))


def users(file: StateFile) -> list[int]:
    return file.run(
        "BEGIN", lambda database: [user for (user,) in database.execute("SELECT user_id FROM admin_users")]
    )


def failure(file: StateFile, call: Callable[[StateFile], object] = users) -> RaveError:
    with pytest.raises(RaveError) as caught:
        call(file)
    error = caught.value
    assert error.attributes["file"] in error.message
    assert SECRET not in repr((str(error), error.attributes, error.__cause__))
    return error


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


def filled(path: Path, count: int = 500) -> Path:
    """A database of several pages, closed."""
    with using(path) as file:
        insert = "INSERT INTO command_permissions VALUES (?, 1, ?, 0, 0)"
        rows = [(f"command-{number}", f"{SECRET} {number}") for number in range(count)]
        file.run("BEGIN IMMEDIATE", lambda database: database.executemany(insert, rows))
        add(file, 1)
    return path


def killed(path: Path) -> Path:
    """A database as a killed process leaves it, with changes in its log only."""
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    with using(elsewhere / path.name) as file:
        add(file, 1)
        for name in ("state.db", "state.db-wal", "state.db-shm"):
            shutil.copy(elsewhere / name, path.parent / name)
    shutil.rmtree(elsewhere)
    return path


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


# Making and opening it.


def test_it_is_made_whole_and_closed_without_a_trace(path: Path) -> None:
    with using(path) as file:
        assert users(file) == []
        add(file, 1)
        assert users(file) == [1]
        settings = [file.run("BEGIN", lambda db, n=n: db.execute(f"PRAGMA {n}").fetchone()[0]) for n in PRAGMAS]
        assert settings == list(PRAGMAS.values())
    assert names(path) == ["state.db"]


PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": 2,
    "application_id": sqlite_schema.APPLICATION_ID,
    "user_version": len(sqlite_schema.STEPS),
}


def test_a_name_with_special_characters_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=memory#%41ä" / "state.db"
    path.parent.mkdir()
    with using(path) as file:
        add(file, 1)
    with using(path) as file:
        assert users(file) == [1]


def test_a_failing_change_changes_nothing(path: Path) -> None:
    with using(path) as file:
        add(file, 1)

        def half(database: sqlite3.Connection) -> None:
            database.execute(ADD, (2,))
            raise KeyError("a bug")

        with pytest.raises(KeyError):
            file.run("BEGIN IMMEDIATE", half)
        assert users(file) == [1]


@pytest.mark.parametrize("row", [(0, 0, 0, 1), (1, -1, 0, 1), (1, 0, -1, 1), (1, 0, 0, 2), (1, 0, 0, SECRET)])
def test_what_makes_no_sense_is_refused(path: Path, row: tuple[object, ...]) -> None:
    with using(path) as file:
        error = failure(
            file,
            lambda file: file.run(
                "BEGIN IMMEDIATE",
                lambda database: [
                    database.execute(ADD, (7,)),
                    database.execute("INSERT INTO admin_users VALUES (?, ?, ?, ?)", row),
                ],
            ),
        )
        assert error.code is Code.BAD_DATA
        assert users(file) == []


def test_a_number_too_large_is_refused(path: Path) -> None:
    with using(path) as file:
        assert failure(file, lambda file: add(file, 2**63)).code is Code.BAD_DATA
        assert users(file) == []


def test_what_is_no_utf8_spoils_only_itself(path: Path) -> None:
    with using(path) as file:
        sql = "INSERT INTO command_permissions VALUES ('ping', 1, CAST(x'61ff62' AS TEXT), 0, 0)"
        file.run("BEGIN IMMEDIATE", lambda database: database.execute(sql))
        row = file.run("BEGIN", lambda db: db.execute("SELECT * FROM command_permissions").fetchone())
        assert row == ("ping", 1, "a\ufffdb", 0, 0)


# Versions.


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> str:
    """The schema has a further step; returns a query for what it makes."""
    step = (
        "CREATE TABLE notes (text TEXT NOT NULL) STRICT",
        "INSERT INTO notes SELECT 'user ' || user_id FROM admin_users",
    )
    monkeypatch.setattr(sqlite_schema, "STEPS", (*sqlite_schema.STEPS, step))
    return "SELECT text FROM notes"


def test_an_older_database_is_brought_up_to_date(path: Path, request: pytest.FixtureRequest) -> None:
    with using(path) as file:
        add(file, 1)
    notes = request.getfixturevalue("next_version")
    for _ in range(2):
        with using(path) as file:
            assert file.run("BEGIN", lambda database: database.execute(notes).fetchall()) == [("user 1",)]
            assert users(file) == [1]
            assert file.run("BEGIN", sqlite_schema.version) == len(sqlite_schema.STEPS)


def test_a_new_database_takes_all_steps(path: Path, next_version: str) -> None:
    with using(path) as file:
        assert file.run("BEGIN", lambda database: database.execute(next_version).fetchall()) == []


def test_a_step_that_fails_leaves_the_older_version(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with using(path) as file:
        add(file, 1)
    steps = sqlite_schema.STEPS
    monkeypatch.setattr(sqlite_schema, "STEPS", (*steps, ("CREATE TABLE notes (text TEXT)", "DROP TABLE nonsense")))
    with using(path) as file:
        error = failure(file)
        assert error.code is Code.BAD_FILE
        assert error.message == f"{path} can't be used: no such table: nonsense"
        assert error.hint == f"restore a backup as {path}"
    monkeypatch.setattr(sqlite_schema, "STEPS", steps)
    with using(path) as file:
        assert users(file) == [1]
        assert (
            file.run("BEGIN", lambda db: db.execute("SELECT * FROM sqlite_schema WHERE name = 'notes'").fetchall())
            == []
        )


def test_a_database_of_a_later_version_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 9")
    database.close()
    before = path.read_bytes()
    with using(path) as file:
        for _ in range(2):
            error = failure(file)
            assert error.code is Code.BAD_FILE
            known = len(sqlite_schema.STEPS)
            assert f"a later version of ravesvc has written it (schema 9, known is {known})" in error.message
            assert error.hint
    assert path.read_bytes() == before
    assert names(path) == ["state.db"]


def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE places (url TEXT)")
    database.close()
    before = path.read_bytes()
    with using(path) as file:
        for _ in range(2):
            error = failure(file)
            assert error.code is Code.BAD_FILE
            assert error.message == f"{path} can't be used: it is the database of another program"
    assert path.read_bytes() == before
    assert names(path) == ["state.db"]


# Damage.

DAMAGES: dict[str, Callable[[Path], object]] = {
    "nonsense": lambda path: path.write_bytes(b"nonsense\n" * 2000),
    "empty": lambda path: path.write_bytes(b""),
    "one byte": lambda path: path.write_bytes(b"S"),
    "half a header": lambda path: os.truncate(path, 50),
    "one page": lambda path: os.truncate(path, 4096),
    "page and a half": lambda path: os.truncate(path, 6000),
    "all but the last page": lambda path: os.truncate(path, path.stat().st_size - 4096),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "no header": lambda path: overwrite(path, 0, bytes(100)),
    "a page of ones": lambda path: overwrite(path, 4096, b"\xff" * 4096),
    "a page of zeros": lambda path: overwrite(path, 4096, bytes(4096)),
    "the definition of a table": lambda path: overwrite(path, path.read_bytes().index(b"admin_users"), b"\xff"),
    "a type that may not be": lambda path: spoil(path, "UPDATE command_permissions SET requires_admin = 7"),
    "an index that has lost its rows": lambda path: overwrite(path, index_page(path) * 4096, bytes(4096)),
}


def spoil(path: Path, sql: str) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA ignore_check_constraints = ON")
    database.execute(sql)
    database.commit()
    database.close()


def index_page(path: Path) -> int:
    """The first page of the index of the commands, counted from 0."""
    database = sqlite3.connect(path)
    sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_command_permissions_1'"
    (page,) = database.execute(sql).fetchone()
    database.close()
    return int(page) - 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_kept_aside(path: Path, damage: str) -> None:
    DAMAGES[damage](filled(path))
    bad = path.read_bytes()
    with using(path) as file:
        error = failure(file)
    assert error.code is Code.BAD_FILE
    assert error.message.startswith(f"{path} is damaged: ")
    assert error.message.endswith(f"; it is kept as {path.with_name(ASIDE)}")
    assert error.hint == (
        f"restore a backup as {path}, or delete {path}.damaged-* to begin anew; then restart rave-orchestrator"
    )
    assert names(path) == [ASIDE]
    assert path.with_name(ASIDE).read_bytes() == bad


def test_after_a_good_start_an_old_damaged_one_counts_no_more(path: Path) -> None:
    filled(path)
    path.with_name(ASIDE).write_bytes(b"old")
    path.with_name(f"{ASIDE}-wal").write_bytes(b"its log")
    with using(path) as file:
        users(file)
    retired = ASIDE.replace(".damaged-", ".old-damaged-")
    assert names(path) == ["state.db", retired, f"{retired}-wal"]
    backup = path.rename(path.with_name("backup"))
    with using(path) as file:
        assert users(file) == [], "as if there had never been another"
    path.write_bytes(b"nonsense" * 100)
    with using(path) as file:
        assert failure(file).message.endswith(f"; it is kept as {path.with_name(ASIDE)}")
        backup.rename(path)
        # In its own process the file keeps the name that the message has.
        users(file)
        assert path.with_name(ASIDE).read_bytes() == b"nonsense" * 100


def test_nothing_begins_anew_by_itself(path: Path) -> None:
    filled(path)
    backup = path.read_bytes()
    path.write_bytes(b"nonsense" * 100)
    with using(path) as file:
        failure(file)
        # Nor after a restart.
        for again in (file, make(path)):
            error = failure(again)
            assert error.code is Code.BAD_FILE
            assert error.message == f"{path} is missing; what was there is kept as {path.with_name(ASIDE)}"
            assert str(path) in error.hint
            assert names(path) == [ASIDE]
        # What the hint says, in both ways.
        path.write_bytes(backup)
        assert users(file) == [1]
    path.unlink()
    with using(path) as file:
        failure(file)
        path.with_name(ASIDE).unlink()
        assert users(file) == []
    assert names(path) == ["state.db"]


def test_a_file_that_is_damaged_again_overwrites_nothing(path: Path) -> None:
    for content in (b"one", b"two", b"three"):
        path.write_bytes(content)
        with using(path) as file:
            failure(file)
    kept = [path.with_name(name) for name in names(path)]
    assert [each.name for each in kept] == [ASIDE, f"{ASIDE}.2", f"{ASIDE}.3"]
    assert [each.read_bytes() for each in kept] == [b"one", b"two", b"three"]


@pytest.mark.parametrize("call", [users, lambda file: add(file, 2)], ids=["read", "write"])
def test_damage_that_is_found_later_is_no_other(path: Path, call: Callable[[StateFile], object]) -> None:
    filled(path, 5000)
    with using(path) as file:
        file.run("BEGIN", lambda database: None)
        # What SQLite has not read yet.
        for page in range(1, path.stat().st_size // 4096):
            overwrite(path, page * 4096, b"\xff" * 4096)
        file.run("BEGIN", lambda database: database.execute("PRAGMA shrink_memory"))
        bad = path.read_bytes()
        error = failure(file, call)
        assert error.code is Code.BAD_FILE
        assert error.message.endswith(
            f"is damaged: database disk image is malformed; it is kept as {path}{ASIDE[8:]}"
        )
        assert path.with_name(ASIDE).read_bytes() == bad
        assert "is missing" in failure(file).message
    assert names(path) == [ASIDE]


def test_the_log_of_a_damaged_file_is_kept_with_it(path: Path) -> None:
    killed(path)
    overwrite(path, 4096, b"\xff" * 8192)
    before = {suffix: path.with_name(f"state.db{suffix}").read_bytes() for suffix in ("", "-wal")}
    with using(path) as file:
        assert "is damaged" in failure(file).message
    assert names(path) == [ASIDE, f"{ASIDE}-wal"]
    assert {suffix: path.with_name(f"{ASIDE}{suffix}").read_bytes() for suffix in before} == before
    # With the file deleted, what is left of it does no harm.
    path.with_name(ASIDE).unlink()
    with using(path) as file:
        assert users(file) == []


def test_an_empty_file_costs_its_log_nothing(path: Path) -> None:
    killed(path)
    log = path.with_name("state.db-wal").read_bytes()
    path.write_bytes(b"")
    with using(path) as file:
        assert "it has 0 bytes" in failure(file).message
    assert path.with_name(f"{ASIDE}-wal").read_bytes() == log


def test_a_damaged_file_whose_new_log_name_is_taken(path: Path) -> None:
    killed(path)
    path.write_bytes(b"")
    path.with_name(f"{ASIDE}-wal").write_bytes(b"of another")
    with using(path) as file:
        failure(file)
    assert names(path) == ["state.db-wal.damaged-20240108T100000Z", ASIDE, f"{ASIDE}-wal"]
    assert path.with_name(f"{ASIDE}-wal").read_bytes() == b"of another"


def test_a_damaged_file_that_cannot_be_renamed_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"nonsense" * 100)

    def fail(*_: object, **__: object) -> Path:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(sqlite_file, "set_aside", fail)
    with using(path) as file:
        error = failure(file)
    assert error.code is Code.BAD_FILE
    assert error.message.endswith("file is not a database; it can't be renamed: Read-only file system")
    assert path.read_bytes() == b"nonsense" * 100


@pytest.mark.slow
@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_words_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as directory:
        path = Path(directory) / "state.db"
        good = tmp_path / "good.db"
        if not good.exists():
            filled(good, 60)
        shutil.copy(good, path)
        size = path.stat().st_size
        if data.draw(st.booleans()):
            os.truncate(path, data.draw(st.integers(0, size - 1)))
        for _ in range(data.draw(st.integers(0, 3))):
            overwrite(path, data.draw(st.integers(0, size)), data.draw(st.binary(min_size=1, max_size=64)))
        bad = path.read_bytes()
        with using(path) as file:
            try:
                users(file)
            except RaveError as e:
                assert e.code is Code.BAD_FILE  # noqa: PT017 - or nothing at all
                assert [each.read_bytes() for each in path.parent.iterdir()] == [bad]


# What a kill or a person leaves behind.


def test_changes_in_the_log_of_a_killed_process_are_there(path: Path) -> None:
    with using(killed(path)) as file:
        assert users(file) == [1]
    assert names(path) == ["state.db"]


def test_the_log_of_a_file_that_is_gone_is_no_other_files(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    killed(path).unlink()
    path.with_name("state.db-journal").write_bytes(b"")
    log = path.with_name("state.db-wal").read_bytes()
    with using(path) as file:
        assert users(file) == []
    assert names(path) == ["state.db", "state.db-wal.damaged-20240108T100000Z"]
    kept = path.with_name("state.db-wal.damaged-20240108T100000Z")
    assert kept.read_bytes() == log
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, f"{path}-wal belongs to no database that is here; it is kept as {kept}")
    ]


def test_a_kill_between_the_renames_is_made_good(path: Path) -> None:
    killed(path).rename(path.with_name(ASIDE))
    with using(path) as file:
        assert "is missing" in failure(file).message
        assert names(path) == ["state.db-wal.damaged-20240108T100000Z", ASIDE]
        # A backup that is restored gets nothing of it.
        with using(path.parent / "backup") as backup:
            add(backup, 5)
        (path.parent / "backup").rename(path)
        assert users(file) == [5]


def test_a_file_that_is_removed_is_not_written_to_and_not_lost(path: Path) -> None:
    with using(path) as file:
        add(file, 1)
        path.unlink()
        error = failure(file, lambda file: add(file, 2))
        assert error.code is Code.BAD_FILE
        kept = path.with_name(ASIDE)
        assert error.message == f"{path} was removed while it was in use; what it held is kept as {kept}"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        # It does not begin anew by itself.
        assert "is missing" in failure(file).message
        kept.rename(path)
        assert users(file) == [1]


def test_a_file_that_is_replaced_gets_nothing_of_the_former(path: Path) -> None:
    with using(path.with_name("backup")) as backup:
        add(backup, 5)
    with using(path) as file:
        add(file, 1)
        path.with_name("backup").rename(path)
        assert "was replaced while it was in use" in failure(file).message
        assert users(file) == [5]
        add(file, 6)
    with using(path) as file:
        assert users(file) == [5, 6]


# What forbids its use.


@contextlib.contextmanager
def as_somebody() -> Iterator[Path]:
    """Without the rights of root; gives a directory of one's own."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as directory:
        if root:
            os.chown(directory, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(directory)
        finally:
            if root:
                os.seteuid(0)


def rights() -> str:
    return f"the user {user_name(os.geteuid())} must own it, and be able to write in its directory"


def test_a_file_without_rights_is_left_alone() -> None:
    with as_somebody() as directory:
        path = directory / "state.db"
        with using(path) as file:
            add(file, 1)
        before = path.read_bytes()
        for mode in (0o000, 0o200, 0o400):
            path.chmod(mode)
            with using(path) as file:
                error = failure(file)
            assert error.code is Code.BAD_FILE
            assert error.message == f"{path} can't be used: Permission denied"
            assert error.hint == rights()
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert names(path) == ["state.db"]
        path.chmod(0o600)
        assert path.read_bytes() == before


def test_a_directory_without_rights_leaves_it_alone() -> None:
    with as_somebody() as directory:
        for present in (False, True):
            path = directory / "state" / "state.db"
            path.parent.mkdir(exist_ok=True)
            if present:
                with using(path) as file:
                    add(file, 1)
            for mode in (0o500, 0o000):
                path.parent.chmod(mode)
                with using(path) as file:
                    error = failure(file)
                path.parent.chmod(0o700)
                assert error.code is Code.BAD_FILE
                assert error.message.startswith(f"{path} can't be used: ")
                assert error.hint == rights()
                assert names(path) == ["state.db"] * present


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("directory", "it is no plain file"),
        ("link", "it is no plain file"),
        ("dangling link", "it is no plain file"),
        ("pipe", "it is no plain file"),
        ("nowhere", "No such file or directory"),
        ("below a file", "Not a directory"),
    ],
)
def test_what_is_no_file_is_left_alone(tmp_path: Path, what: str, reason: str) -> None:
    path = tmp_path / "state" / "state.db"
    if what == "below a file":
        path.parent.write_text("")
    elif what != "nowhere":
        path.parent.mkdir()
    if what == "directory":
        path.mkdir()
    if what == "link":
        path.symlink_to(filled(tmp_path / "elsewhere"))
    if what == "dangling link":
        path.symlink_to(tmp_path / "elsewhere")
    if what == "pipe":
        os.mkfifo(path)
    before = sorted(tmp_path.rglob("*"))
    with using(path) as file:
        error = failure(file)
    assert error.code is Code.BAD_FILE
    assert error.message == f"{path} can't be used: {reason}"
    assert error.hint
    assert sorted(tmp_path.rglob("*")) == before


# What may be over soon.


def test_a_full_disk_is_told_and_survived(path: Path) -> None:
    with using(path) as file:
        add(file, 1)
        file.run("BEGIN", lambda database: database.execute("PRAGMA max_page_count = 1"))
        sql = "INSERT INTO command_permissions VALUES ('ping', 1, ?, 0, 0)"
        error = failure(
            file, lambda file: file.run("BEGIN IMMEDIATE", lambda database: database.execute(sql, ("x" * 100_000,)))
        )
        assert error.code is Code.STORE
        assert error.message == f"{path} can't be read or written now: database or disk is full"
        assert error.hint == "free some space"
        add(file, 2)
        assert users(file) == [1, 2]
    assert names(path) == ["state.db"]


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, Code.STORE), (errno.EDQUOT, Code.STORE), (errno.EACCES, Code.BAD_FILE)]
)
def test_it_cannot_be_made(path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: Code) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with using(path) as file:
        with monkeypatch.context() as patch:
            patch.setattr(sqlite_file, "write_atomically", fail)
            error = failure(file)
            assert error.code is code
            assert os.strerror(number) in error.message
        assert users(file) == []


def test_a_database_that_is_locked_is_told_and_survived(path: Path) -> None:
    with using(path, timeout_s=0.01) as file:
        add(file, 1)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        error = failure(file, lambda file: add(file, 2))
        assert error.code is Code.STORE
        assert error.message == f"{path} can't be read or written now: database is locked"
        other.execute("ROLLBACK")
        add(file, 3)
        file.close()
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("DELETE FROM admin_users WHERE user_id = 1")
        assert failure(file).code is Code.STORE
        other.close()
        assert users(file) == [3]


def test_a_disk_that_fails_is_told_and_survived(path: Path) -> None:
    with using(path) as file:
        add(file, 1)

        def fail(_: sqlite3.Connection) -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
            raise error

        error = failure(file, lambda file: file.run("BEGIN IMMEDIATE", fail))
        assert error.code is Code.STORE
        assert error.message == f"{path} can't be read or written now: disk I/O error"
        assert names(path) == ["state.db"], "it is closed"
        assert users(file) == [1]
