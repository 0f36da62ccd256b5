"""What is particular to the embedded store; ../test_contract.py has what all engines do."""

from __future__ import annotations

import asyncio
import os
import random
import select
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from ravesvc.errors import Code, RaveError
from ravesvc.store.engines.sqlite import SqliteStore
from ravesvc.store.model import Contents
from tests.unit.conftest import until
from tests.unit.store.test_contract import ACCOUNT, FULL, admin, document, opened, permission

Run = Callable[[Coroutine[Any, Any, Any]], Any]

# Makes changes without an end, and says which are acknowledged.
WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from ravesvc.store.engines.sqlite import SqliteStore
from ravesvc.store.model import Admin, CommandPermission

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    print("open", flush=True)
    number = int(sys.argv[2])
    when = datetime.now(UTC)
    while True:
        number += 1
        await asyncio.gather(
            store.add_admin(Admin(user_id=number, added_by=0, added_at=when)),
            store.set_permission(CommandPermission(
                command=f"command-{number}", requires_admin=True, description="x" * 3000, updated_at=when,
                updated_by=0,
            )),
        )
        print(number, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = sqlite_threads()
    yield
    assert sqlite_threads() == before


def sqlite_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sqlite"]


def spawn(path: Path, number: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, path, str(number)], stdout=subprocess.PIPE, text=True)


def contents(path: Path, run: Run) -> Contents:
    async def body() -> Contents:
        async with opened(SqliteStore(path)) as store:
            return await store.read()

    found = run(body())
    assert isinstance(found, Contents)
    return found


def swap(path: Path, content: bytes) -> bytes:
    """Put something else in a file; returns what was there."""
    before = path.read_bytes() if path.exists() else b""
    path.write_bytes(content)
    return before


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


@pytest.mark.process
def test_a_killed_process_loses_no_acknowledged_change(path: Path, run: Run) -> None:
    acknowledged: set[int] = set()
    last = 0
    for _ in range(4):
        with spawn(path, last) as writer:
            assert writer.stdout
            assert writer.stdout.readline() == "open\n"
            for _ in range(random.randrange(20, 60)):
                acknowledged.add(int(writer.stdout.readline()))
            writer.kill()
            acknowledged.update(map(int, writer.stdout.read().split()))
        assert (path.parent / "state.db-wal").stat().st_size, "there was something to recover"
        found = contents(path, run)
        users, commands = {each.user_id for each in found.admins}, {each.command for each in found.permissions}
        assert users >= acknowledged
        assert commands >= {f"command-{number}" for number in acknowledged}
        # No more than what was under way.
        last = max(users)
        assert last <= max(acknowledged) + 1
    assert names(path) == ["state.db"]


@pytest.mark.process
def test_a_process_that_is_killed_while_it_begins_leaves_nothing_in_the_way(path: Path, run: Run) -> None:
    with spawn(path) as writer:
        assert writer.stdout
        begun = time.monotonic()
        writer.stdout.readline()
        takes = time.monotonic() - begun
        writer.kill()
    for _ in range(6):
        for each in path.parent.glob("state.db*"):
            each.unlink()
        with spawn(path) as writer:
            assert writer.stdout
            # Most of that is Python's own beginning.
            select.select([writer.stdout], [], [], random.uniform(0.7, 1.0) * takes)
            writer.kill()
        assert isinstance(contents(path, run), Contents)
        assert "damaged" not in str(names(path))


async def test_a_damaged_file_does_not_open_until_it_is_mended(path: Path) -> None:
    store = SqliteStore(path)
    async with opened(store):
        await store.add_admin(admin(1))
    backup = swap(path, b"nonsense" * 100)
    for words in ("is damaged", "is missing", "is missing"):
        with pytest.raises(RaveError, match=words) as caught:
            await store.open()
        assert caught.value.code is Code.BAD_FILE
        assert len(sqlite_threads()) == 1
    swap(path, backup)
    async with opened(store):
        assert (await store.read()).admins == (admin(1),)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_nobody_else_may_look(path: Path, umask: int, run: Run) -> None:
    async def body() -> None:
        async with opened(SqliteStore(path)) as store:
            await store.save_credentials(ACCOUNT)
            for name in ("state.db", "state.db-wal", "state.db-shm"):
                assert stat.S_IMODE((path.parent / name).stat().st_mode) == 0o600

    before = os.umask(umask)
    try:
        run(body())
    finally:
        os.umask(before)
    assert names(path) == ["state.db"]


def test_what_was_open_to_others_is_closed_to_them(path: Path, run: Run) -> None:
    contents(path, run)
    path.chmod(0o644)
    contents(path, run)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_the_tables_can_be_read_by_people(path: Path) -> None:
    async with opened(SqliteStore(path)) as store:
        await store.replace(FULL)
    database = sqlite3.connect(path)
    rows = database.execute(
        "SELECT user_id, is_active, added_at FROM admin_users ORDER BY user_id LIMIT 2"
    ).fetchall()
    assert rows == [(1, 1, 1704708000123), (2, 0, 1739268000124)]
    row = database.execute("SELECT email, user_id, updated_at FROM credentials").fetchone()
    assert row == ("bot@example.test", 900000001, 1704708000123)
    row = database.execute("SELECT requires_admin FROM command_permissions WHERE command_name = 'leave'").fetchone()
    assert row == (0,)
    with pytest.raises(sqlite3.IntegrityError):
        database.execute("UPDATE admin_users SET added_at = 'yesterday'")
    with pytest.raises(sqlite3.IntegrityError):
        database.execute("UPDATE admin_users SET is_active = 2")
    database.close()


async def test_only_one_of_two_removals_at_once_succeeds(path: Path) -> None:
    async with opened(SqliteStore(path)) as one, opened(SqliteStore(path)) as other:
        for _ in range(20):
            await one.replace(Contents(admins=(admin(1), admin(2))))
            results = await asyncio.gather(one.remove_admin(1), other.remove_admin(2), return_exceptions=True)
            errors = [result for result in results if result is not True]
            assert [isinstance(e, RaveError) and e.code for e in errors] == [Code.LAST_ADMIN]


async def test_a_change_that_is_given_up_is_whole_or_has_not_begun(path: Path) -> None:
    async with opened(SqliteStore(path)) as store:
        before = Contents()
        for turn in range(30):
            wanted = Contents(admins=(admin(turn + 1), admin(turn + 2)), permissions=(permission(f"command-{turn}"),))
            change = asyncio.create_task(store.replace(wanted))
            for _ in range(turn % 10):
                await asyncio.sleep(0)
            change.cancel()
            await asyncio.wait([change])
            found = await store.read()
            assert found in (before, wanted)
            before = found
        await store.replace(FULL)
        assert await store.read() == FULL


def test_calls_under_way_are_finished_by_closing(path: Path, run: Run) -> None:
    async def body() -> None:
        store = SqliteStore(path)
        await store.open()
        calls = [asyncio.create_task(store.add_admin(admin(user))) for user in range(1, 6)]
        await asyncio.sleep(0)
        await store.close()
        assert await asyncio.gather(*calls) == [True] * 5

    run(body())
    assert len(contents(path, run).admins) == 5


async def test_the_loop_goes_on_while_the_disk_is_slow(path: Path) -> None:
    async with opened(SqliteStore(path)) as store:
        assert isinstance(store, SqliteStore)
        release, started = threading.Event(), threading.Event()
        stuck = asyncio.create_task(store._run("BEGIN IMMEDIATE", lambda _: started.set() or release.wait(10)))
        await until(started.is_set)
        store._timeout_s = 0.05
        with pytest.raises(RaveError) as caught:
            await store.add_admin(admin(1))
        assert caught.value.code is Code.STORE
        assert caught.value.message == f"{path} has not answered within 0.05 s"
        assert caught.value.hint
        change = asyncio.create_task(store.add_admin(admin(1)))
        await asyncio.sleep(0.01)
        change.cancel()
        await asyncio.wait([change])
        release.set()
        assert await stuck
        store._timeout_s = 10
        # What was given up before it had begun is not done later.
        assert (await store.read()).admins == ()
        assert await store.add_admin(admin(1))


async def test_a_disk_that_hangs_does_not_hinder_the_end(path: Path) -> None:
    release = threading.Event()

    store = SqliteStore(path)
    await store.open()
    store._timeout_s = 0.05
    started = threading.Event()
    with pytest.raises(RaveError, match="has not answered"):
        await store._run("BEGIN", lambda _: started.set() or release.wait(10))
    assert started.is_set()
    await store.close()
    stuck = sqlite_threads()
    assert stuck
    assert all(thread.daemon for thread in stuck), "they don't keep the process from ending"
    # Another may take its place.
    store._timeout_s = 10
    async with opened(store):
        assert await store.add_admin(admin(1))
    release.set()
    for thread in stuck:
        await asyncio.to_thread(thread.join, 10)


async def test_a_close_that_is_given_up_ends_the_thread_all_the_same(path: Path) -> None:
    for turns in range(1, 5):
        store = SqliteStore(path)
        await store.open()
        closing = asyncio.create_task(store.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        await until(lambda: not sqlite_threads())


async def test_a_lock_of_another_program_is_waited_for(path: Path) -> None:
    async with opened(SqliteStore(path, lock_timeout_s=5)) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        change = asyncio.create_task(store.add_admin(admin(1)))
        assert await asyncio.wait([change], timeout=0.05) == (set(), {change})
        other.execute("COMMIT")
        assert await change
        other.close()


async def test_reading_needs_no_lock(path: Path) -> None:
    async with opened(SqliteStore(path, lock_timeout_s=0.01)) as store:
        await store.add_admin(admin(1))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM admin_users")
        assert (await store.read()).admins == (admin(1),)
        with pytest.raises(RaveError, match="database is locked") as caught:
            await store.add_admin(admin(2))
        assert caught.value.code is Code.STORE
        assert caught.value.hint == "end the program that has locked it"
        other.execute("ROLLBACK")
        other.close()
        assert await store.add_admin(admin(2))


async def test_the_file_is_whole_by_itself(path: Path, tmp_path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.replace(FULL)
    # A backup of the database file alone, without its log.
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    # An operator deletes the log.
    path.with_name("state.db-wal").unlink()
    await store.set_permission(permission("late"))
    tidied = tmp_path / "tidied.db"
    shutil.copy(path, tidied)
    await store.close()
    for copy, more in ((backup, 0), (tidied, 1)):
        again = SqliteStore(copy)
        await again.open()
        contents = await again.read()
        await again.close()
        assert contents.credentials == FULL.credentials
        assert len(contents.permissions) == len(FULL.permissions) + more


async def test_nothing_of_what_was_deleted_stays_in_the_files(path: Path) -> None:
    secret = "900000077"

    def held() -> list[str]:
        return [each.name for each in path.parent.iterdir() if secret.encode() in each.read_bytes()]

    async with opened(SqliteStore(path)) as store:
        texts = [f'["{number}"]' + " " * 5000 for number in range(20)]
        documents = [document("a", f"document-{number}", text) for number, text in enumerate(texts)]
        last = document("a", "last", f'["{secret}"]' + " " * 5000)
        await store.replace_room("a", [*documents, last])
        await store.write_document(document("a", "last"))
        # Short as it is, that has not overwritten all of the log; the file it has.
        assert held() == ["state.db-wal"]
        await store.forget_user(int(secret))
        assert held() == []
