from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ravesvc.api.client import Api
from ravesvc.config.worker_options import ClientIdentity, Servers, Tls
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from ravesvc.mesh import request_guard
from ravesvc.mesh.request_guard import RequestGuard
from tests.unit.api_server import Reply, Server, serving
from tests.unit.authority import Authority
from tests.unit.conftest import until

USERS = Reply(body={"data": []})


class Guarded:
    """A guard, the API behind it, and the pauses that it has told."""

    def __init__(self, api: Api) -> None:
        self.now = 1000.0
        self.told: list[tuple[str, int]] = []
        self.api = api
        self.guard = RequestGuard(api, "api.example", lambda *told: self.told.append(told), lambda: self.now)

    async def ask(self) -> None:
        with self.guard.request():
            await self.api.users([2])


@asynccontextmanager
async def guarded(server: Server, authority: Authority) -> AsyncIterator[Guarded]:
    async def no_sleep(_seconds: float) -> None:
        """Tried again at once."""

    api = Api(
        servers=Servers(api=server.url, parse="", mojo=""),
        identity=ClientIdentity(request_hash_key="k", user_agent="u", client_version="1"),
        session=Session(device_id="d", ssaid="s", user_id=1, auth_token="t"),
        tls=Tls(ca_file=str(authority.ca_file)),
        sleep=no_sleep,
    )
    made = Guarded(api)
    try:
        yield made
    finally:
        made.guard.close()
        await api.close()


async def test_requests_one_after_another_share_a_connection(authority: Authority) -> None:
    with serving(authority, USERS) as server:
        async with guarded(server, authority) as guard:
            await guard.ask()
            await guard.ask()
            assert len(server.open) == 1
    assert len({asked.connection for asked in server.asked}) == 1


async def test_a_connection_that_is_not_used_ends_soon(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_guard, "_IDLE_S", 0.05)

    with serving(authority, USERS) as server:
        async with guarded(server, authority) as guard:
            await guard.ask()
            await until(lambda: not server.open)
            await guard.ask()
            await until(lambda: not server.open)
    assert len({asked.connection for asked in server.asked}) == 2


async def test_a_pause_is_told_once_and_kept(authority: Authority) -> None:
    with serving(authority, Reply(429, None, {"Retry-After": "600"}), USERS) as server:
        async with guarded(server, authority) as guard:
            with pytest.raises(RaveError, match="429"):
                await guard.ask()
            guard.now += 599.5
            with pytest.raises(RaveError, match="example asks for a pause until") as caught:
                await guard.ask()
            assert (caught.value.code, caught.value.attributes) == (Code.RATE_LIMITED, {"retry_after": 1})
            assert guard.told == [("api.example", 600)]
            guard.now += 0.5
            await guard.ask()
    assert len(server.asked) == 2


@pytest.mark.slow
async def test_requests_that_are_refused_at_the_same_time_tell_of_one_pause(authority: Authority) -> None:
    with serving(authority, Reply(429, None, {"Retry-After": "1"})) as server:
        async with guarded(server, authority) as guard:
            for _ in range(3):
                refused = await asyncio.gather(*(guard.ask() for _ in range(8)), return_exceptions=True)
                assert [str(error).count("429") for error in refused] == [1] * 8
                guard.now += 1
            assert guard.told == [("api.example", 1)] * 3


async def test_a_failure_that_asks_for_no_pause_is_none(authority: Authority) -> None:
    with serving(authority, Reply(403), USERS) as server:
        async with guarded(server, authority) as guard:
            with pytest.raises(RaveError, match="403"):
                await guard.ask()
            assert guard.told == []
            await guard.ask()
