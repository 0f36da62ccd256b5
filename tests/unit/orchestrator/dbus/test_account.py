from __future__ import annotations

import json
import logging
import os

import pytest

from ravesvc import names
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from ravesvc.store.credentials_file import to_object
from ravesvc.store.model import Contents
from tests.unit.bus_fakes import open_fds
from tests.unit.conftest import until
from tests.unit.fake_store import credentials
from tests.unit.operator_site import Run, in_memory, site_on


def test_a_login_is_begun_and_given_up(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            assert await site.ask("Login", "s", "bot@example.test") == [600]
            assert await site.ask("CancelLogin") == []
            assert site.account.asked == ["bot@example.test", "cancel"]
            assert site.rights == [(member, PolkitAction.CREDENTIALS) for member in ("Login", "CancelLogin")]

    run(body())


def test_the_account_is_logged_out(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            assert await site.ask("Logout") == [True]
            assert await site.ask("Logout") == [False]
            assert site.rights == [("Logout", PolkitAction.CREDENTIALS)] * 2

    run(body())


def test_a_login_is_followed_by_signals(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.account_object.login_progress("waiting", 599.6)
            site.account_object.login_progress("signing-in", -0.7)
            site.account_object.login_finished(None)
            site.account_object.login_finished(RaveError(Code.NOT_CONFIRMED, "too late", hint="try again"))
            assert await site.said() == [
                ("LoginProgress", "waiting", 600),
                ("LoginProgress", "signing-in", 0),
                ("LoginFinished", "", ""),
                ("LoginFinished", "NotConfirmed", "too late (try again)"),
            ]

    run(body())


def test_an_account_is_offered_as_a_file(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            before = open_fds()
            document = {**to_object(credentials()), "authToken": "r: auth-token-of-bot", "parseToken": "r:parse"}
            with in_memory(json.dumps(document)) as file:
                assert await site.ask("ImportCredentials", "h", file) == ["taken"]
            assert site.account.offered == credentials(parse_token="parse"), "tokens have no prefix"
            reading, writing = os.pipe()
            with in_memory('{"email": "bot@example.test"}') as bad, in_memory("") as long:
                os.truncate(long, 64 * 1024 + 1)
                for file, code, words in (
                    (bad, Code.BAD_DATA, "deviceId must be a text"),
                    (long, Code.INVALID_ARGUMENT, "the file is too long"),
                    (reading, Code.INVALID_ARGUMENT, "the file is not in a regular file"),
                ):
                    error = await site.refused("ImportCredentials", "h", file)
                    assert (error.code, words in error.message) == (code, True), error
            os.close(reading)
            os.close(writing)
            await until(lambda: open_fds() == before)
            assert set(site.rights) == {("ImportCredentials", PolkitAction.CREDENTIALS)}

    with caplog.at_level(logging.DEBUG):
        run(body())
    assert "auth-token-of-bot" not in caplog.text
    assert "bot@example.test" not in caplog.text


def test_credentials_that_make_no_sense_are_an_account_all_the_same(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(unusable="email must be a text")
            await site.state.refresh()
            site.account_object.show(login_needed=True)
            assert (await site.properties(names.ACCOUNT_INTERFACE))["HasAccount"] is True

    run(body())


def test_whether_there_is_an_account_and_how_far_a_login_is(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.store.contents = Contents(credentials=credentials())
            await site.state.refresh()
            site.account.step = "waiting"
            site.account.identity_missing = ["mojo_api_key"]
            site.account_object.show(login_needed=True)
            values = await site.properties(names.ACCOUNT_INTERFACE)
            (missing,) = values.pop("IdentityMissing")
            assert missing.startswith("mojo_api_key: ")
            assert values == {"HasAccount": True, "LoginNeeded": True, "LoginStep": "waiting"}

    run(body())
