from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from pathlib import Path

import pytest

from ravesvc import names
from ravesvc.blocklist.model import Block, Reason
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement, PolkitAction
from ravesvc.orchestrator.dbus import store as store_module
from ravesvc.store import export
from ravesvc.store.export import Export
from ravesvc.store.model import Admin, Contents
from tests.unit.bus_fakes import open_fds
from tests.unit.conftest import until
from tests.unit.fake_store import DOWN, admin, credentials, permission
from tests.unit.fake_systemd import MESH, OTHER
from tests.unit.operator_site import ANN, BOB, WHEN, Run, in_memory, site_on


def test_an_operator_has_a_user_forgotten(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(Admin(user_id=ANN, added_by=BOB, added_at=WHEN),))
            await site.state.refresh()
            await site.memory.write_document("mesh", "queue", f'{{"served":[{BOB},{ANN}]}}')
            assert await site.ask("ForgetUser", "t", BOB) == [2]
            assert site.forgotten == [BOB]
            assert await site.memory.read_document("mesh", "queue") == f'{{"served":[{ANN}]}}'
            assert (await site.refused("ForgetUser", "t", ANN)).code is Code.INVALID_ARGUMENT
            assert (await site.refused("ForgetUser", "t", 0)).code is Code.INVALID_ARGUMENT

    with caplog.at_level(logging.INFO):
        run(body())
    said = [record.getMessage() for record in caplog.records if record.name.endswith("dbus.store")]
    assert said == ["An operator has had a user forgotten"]


def test_refresh_counts(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(admin(ANN),), permissions=(permission("a"), permission("b")))
            assert await site.ask("Refresh") == [1, 2]
            assert site.rights == [("Refresh", PolkitAction.OPERATE)]

    run(body())


def test_all_that_the_store_holds_can_be_moved(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    contents = Contents(
        credentials=credentials(),
        admins=(
            Admin(user_id=ANN, added_by=0, added_at=WHEN),
            Admin(user_id=BOB, added_by=0, added_at=WHEN, active=False),
        ),
        permissions=(permission("ping"),),
    )

    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = contents
            (text,) = await site.ask("Export")
            assert export.from_json(text).contents == contents, "read anew"
            site.store.contents = Contents()
            await site.state.refresh()
            site.told.clear()
            with in_memory(text) as file:
                assert await site.ask("Import", "h", file) == [1, 1]
            assert site.store.contents == contents
            assert sorted(site.told) == [Announcement.ADMINS, Announcement.CREDENTIALS, Announcement.PERMISSIONS]
            with in_memory("{}") as file:
                assert (await site.refused("Import", "h", file)).code is Code.BAD_DATA
            assert site.store.contents == contents
            assert set(site.rights) == {(m, PolkitAction.CREDENTIALS) for m in ("Export", "Import")}

    with caplog.at_level(logging.DEBUG):
        run(body())
    assert "bot@example.test" not in caplog.text
    assert credentials().auth_token not in caplog.text


def test_what_rooms_remember_can_be_moved(run: Run, bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            for name in ("queue", "settings"):
                await site.memory.write_document(MESH, name, f'["{name}"]')
            kept = dict(site.store.documents)
            (text,) = await site.ask("Export")
            with in_memory("x" * 100_000) as file:
                assert await site.ask("Save", "h", file) == []
                assert os.pread(file, 100_000, 0).decode() == text
                await site.memory.write_document(OTHER, "queue", "[]")
                await site.memory.write_document(MESH, "queue", "[]")
                await site.ask("Import", "h", file)
            assert site.store.documents == kept
            with in_memory(export.to_json(Export(contents=Contents()))) as file:
                await site.ask("Import", "h", file)
            assert site.store.documents == kept, "that file says nothing of them"
            monkeypatch.setattr(store_module, "_MAX_ROOMS_BYTES", 20)
            error = await site.refused("Export")
            assert error.code is Code.TOO_LARGE
            before = open_fds()
            reading, writing = os.pipe()
            assert (await site.refused("Save", "h", writing)).code is Code.INVALID_ARGUMENT
            os.close(reading)
            os.close(writing)
            await until(lambda: open_fds() == before)

    run(body())


def test_blocks_are_moved_as_well(run: Run, bus_address: str) -> None:
    kick = Block(mesh=MESH, reason=Reason.KICKED, since=1_700_000_000_000, until=None, title="A film")
    unusable = RaveError(Code.BAD_FILE, "blocklist.json can't be used")

    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(admin(ANN),))
            site.blocklist.exported = [kick]
            (text,) = await site.ask("Export")
            with in_memory("") as file:
                await site.ask("Save", "h", file)
                assert os.pread(file, 100_000, 0).decode() == text
            with in_memory(text) as file:
                await site.ask("Import", "h", file)
                assert site.blocklist.imported == [kick]
                site.store.contents = Contents()
                await site.state.refresh()
                site.blocklist.save_error = unusable
                error = await site.refused("Import", "h", file)
            assert (error.code, "1 entry" in error.message) == (Code.BAD_FILE, True)
            assert site.store.contents == Contents(), "an account must not come without its blocks"
            site.blocklist.error = unusable
            assert (await site.refused("Export")).code is Code.BAD_FILE, "an export without blocks"

    run(body())


def test_credentials_that_make_no_sense_are_not_silently_left_out(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(unusable="email must be a text", admins=(admin(ANN),))
            error = await site.refused("Export")
            assert error.code is Code.BAD_DATA
            assert "not all of the store can be exported: email must be a text (fix it, or log in" in error.message

    run(body())


def test_a_store_may_be_longer_than_a_message(run: Run, bus_address: str) -> None:
    contents = Contents(admins=tuple(admin(user) for user in range(1, 2001)))

    async def body() -> None:
        async with site_on(bus_address) as site:
            with in_memory(export.to_json(Export(contents=contents))) as file:
                assert os.fstat(file).st_size > 3 * 64 * 1024
                assert await site.ask("Import", "h", file) == [2000, 0]
            assert site.store.contents == contents

    run(body())


def test_nothing_but_a_file_is_imported_and_none_stays_open(run: Run, bus_address: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(admin(ANN),))
            await site.state.refresh()
            before = open_fds()
            reading, writing = os.pipe()
            directory = os.open(tmp_path, os.O_RDONLY)
            with in_memory("") as long:
                os.truncate(long, export.MAX_FILE_BYTES + 1)
                for file, words in (
                    (reading, "not in a regular file"),
                    (directory, "not in a regular file"),
                    (long, "too long"),
                ):
                    error = await site.refused("Import", "h", file)
                    assert (error.code, words in error.message) == (Code.INVALID_ARGUMENT, True), error
            with in_memory(export.to_json(Export(contents=Contents()))) as file:
                site.store.failure = DOWN
                assert (await site.refused("Import", "h", file)).code is Code.STORE
            for file in (reading, writing, directory):
                os.close(file)
            await until(lambda: open_fds() == before)
            assert [each.user_id for each in site.store.contents.admins] == [ANN]

    run(body())


def test_the_others_are_served_while_a_file_is_read(
    run: Run, bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def read(descriptor: int) -> Export:
        assert go_on.wait(20)
        return Export(contents=Contents(permissions=(permission("ping"),)))

    monkeypatch.setattr(export, "read", read)

    async def body() -> None:
        async with site_on(bus_address) as site:
            with in_memory("") as file:
                asked = asyncio.create_task(site.ask("Import", "h", file))
                await until(lambda: site.rights)
                await site.ask("GetStatus")
                assert not asked.done()
                go_on.set()
                assert await asked == [0, 1]

    run(body())


def test_while_the_store_is_away_lists_are_from_the_last_copy(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(admins=(admin(ANN),), permissions=(permission("ping"),))
            await site.state.refresh()
            site.store.failure = DOWN
            for member, signature, args in (
                ("Refresh", "", ()),
                ("Export", "", ()),
                ("AddAdmin", "t", (BOB,)),
                ("RemoveAdmin", "t", (ANN,)),
                ("SetPermission", "sb", ("ping", False)),
                ("RemovePermission", "s", ("ping",)),
            ):
                assert (await site.refused(member, signature, *args)).code is Code.STORE, member
            assert [each[0] for each in (await site.ask("ListAdmins"))[0]] == [ANN]
            assert [each[0] for each in (await site.ask("ListPermissions"))[0]] == ["ping"]

    run(body())


def test_which_store_there_is_and_what_is_wrong_with_it(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            assert await site.properties(names.STORE_INTERFACE) == {"Engine": "embedded", "Error": ""}
            site.store.failure = DOWN
            with contextlib.suppress(RaveError):
                await site.state.refresh()
            site.store_object.show()
            assert await site.properties(names.STORE_INTERFACE) == {"Engine": "embedded", "Error": str(DOWN)}

    run(body())
