from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest

from ravesvc.api.listing import all_of_it
from ravesvc.api.models import Listing, Mesh, MeshMode
from ravesvc.config import rave_yaml
from ravesvc.config.worker_settings import Session
from ravesvc.core import rave_client as module
from ravesvc.core.rave_client import RaveClient
from ravesvc.core.rave_pauses import Pauses
from ravesvc.errors import Code, RaveError
from tests.unit.fake_systemd import MESH

OURS = Session(device_id="d" * 32, ssaid="5" * 16, user_id=900000001, auth_token="hush-token")
RENEWED = dataclasses.replace(OURS, auth_token="hush-renewed")
OTHERS = dataclasses.replace(OURS, user_id=900000002, auth_token="hush-others")
FILM = Mesh(MESH, None, "A film", True, ())
REFUSED = RaveError(Code.UNAUTHORIZED, "Rave refuses the session")


class Rave:
    """Rave, as its one account sees it; `asked` is every request, with the token that it had."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.user = OURS.user_id
        self.failures: dict[str, RaveError] = {}
        self.asked: list[tuple[str, str]] = []
        self.closed = 0
        self.hangs = False
        self.may_repeat: Callable[[str, RaveError], bool] = lambda _method, _error: False  # of the last `leave`
        self.during: Callable[[], None] = lambda: None
        rave = self

        class FakeApi:
            def __init__(self, *, session: Session, **_: Any) -> None:
                self.session = session

            def set_session(self, session: Session) -> None:
                self.session = session

            async def me(self) -> int:
                if rave.hangs:
                    await asyncio.Event().wait()
                rave.answer("me", self.session)
                return rave.user

            async def page(
                self, source: MeshMode, size: int, cursor: str | None, lang: str
            ) -> tuple[list[Mesh], str | None]:
                assert (source, size, cursor, lang) == (MeshMode.FRIENDS, 7, None, "fr")
                rave.answer("meshes", self.session)
                rave.during()
                return [FILM], None

            async def mesh(self, mesh: str) -> Mesh:
                if rave.hangs:
                    await asyncio.Event().wait()
                rave.answer(f"mesh {mesh}", self.session)
                return dataclasses.replace(FILM, users=(5, 6))

            async def leave(self, mesh: str, *, may_repeat: Callable[[str, RaveError], bool]) -> None:
                rave.may_repeat = may_repeat
                rave.answer(f"leave {mesh}", self.session)

            async def close(self) -> None:
                rave.closed += 1

        monkeypatch.setattr(module, "Api", FakeApi)

    def answer(self, what: str, session: Session) -> None:
        self.asked.append((what, session.auth_token))
        if what.split()[0] in self.failures:
            raise self.failures[what.split()[0]]


@pytest.fixture
def rave(monkeypatch: pytest.MonkeyPatch) -> Rave:
    return Rave(monkeypatch)


def new_access(
    session: Session | None = OURS, clock: Callable[[], float] = time.monotonic, pauses: Pauses | None = None
) -> RaveClient:
    settings, _ = rave_yaml.read("mesh_mode: friends\nlimit: 7\nlang: fr\n", "rave.yaml")
    assert settings
    access = RaveClient(settings, pauses or Pauses(), clock)
    access.use(session)
    return access


async def test_a_session_is_checked_before_its_first_list_and_no_more(rave: Rave) -> None:
    access = new_access()
    for _ in range(2):
        assert await access.meshes(all_of_it) == Listing((FILM,))
    assert [what for what, _ in rave.asked] == ["me", "meshes", "meshes"]
    rave.asked.clear()
    access.use(OURS)
    await access.meshes(all_of_it)
    assert [what for what, _ in rave.asked] == ["meshes"], "the same one needs no other check"
    rave.asked.clear()
    access.use(RENEWED)
    await access.meshes(all_of_it)
    assert rave.asked == [("me", "hush-renewed"), ("meshes", "hush-renewed")]
    await access.close()
    assert rave.closed == 1


@pytest.mark.parametrize("where", ["me", "meshes"])
async def test_a_session_that_was_refused_is_checked_again(rave: Rave, where: str) -> None:
    access = new_access()
    await access.meshes(all_of_it)
    rave.failures["meshes"] = REFUSED
    with pytest.raises(RaveError) as e:
        await access.meshes(all_of_it)
    assert e.value is REFUSED
    rave.failures = {where: REFUSED}
    rave.asked.clear()
    with pytest.raises(RaveError):
        await access.meshes(all_of_it)
    assert [what for what, _ in rave.asked] == (["me"] if where == "me" else ["me", "meshes"])
    rave.failures.clear()
    rave.asked.clear()
    await access.meshes(all_of_it)
    await access.meshes(all_of_it)
    assert [what for what, _ in rave.asked] == ["me", "meshes", "meshes"]


async def test_another_failure_is_no_word_about_the_session(rave: Rave) -> None:
    access = new_access()
    await access.meshes(all_of_it)
    rave.failures["meshes"] = RaveError(Code.NETWORK, "no route")
    with pytest.raises(RaveError, match="no route"):
        await access.meshes(all_of_it)
    rave.failures.clear()
    rave.asked.clear()
    await access.meshes(all_of_it)
    assert [what for what, _ in rave.asked] == ["meshes"]


@pytest.mark.parametrize("code", [Code.SERVER_ERROR, Code.NOT_FOUND, Code.FORBIDDEN, Code.BAD_DATA, Code.TIMEOUT])
async def test_a_check_that_fails_keeps_no_list_from_being_read(
    rave: Rave, caplog: pytest.LogCaptureFixture, code: Code
) -> None:
    now = 0.0

    access = new_access(clock=lambda: now)
    rave.failures["me"] = RaveError(code, "nonsense")
    for _ in range(2):
        assert await access.meshes(all_of_it) == Listing((FILM,))
    assert [what for what, _ in rave.asked] == ["me", "meshes", "meshes"], "it is not asked in each round"
    assert caplog.text.count("nonsense") == 1
    access.use(RENEWED)
    await access.meshes(all_of_it)
    assert [what for what, _ in rave.asked][3:] == ["me", "meshes"], "another session is another question"
    rave.failures.clear()
    now += 600
    await access.meshes(all_of_it)
    await access.meshes(all_of_it)
    assert [what for what, _ in rave.asked][5:] == ["me", "meshes", "meshes"]


async def test_a_check_that_hangs_keeps_no_list_waiting_for_long(rave: Rave, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECK_TIMEOUT_S", 0.05)

    rave.hangs = True
    assert await new_access().meshes(all_of_it) == Listing((FILM,))


async def test_a_list_that_is_refused_after_a_check_that_failed_is_checked_anew(rave: Rave) -> None:
    access = new_access()
    rave.failures = {"me": RaveError(Code.SERVER_ERROR, "no"), "meshes": REFUSED}
    for _ in range(2):
        with pytest.raises(RaveError) as e:
            await access.meshes(all_of_it)
        assert e.value is REFUSED
    assert [what for what, _ in rave.asked] == ["me", "meshes"] * 2


async def test_the_session_of_somebody_else_is_a_failure_in_words(rave: Rave) -> None:
    access = new_access()
    rave.user = 900000002
    for _ in range(2):
        with pytest.raises(RaveError) as e:
            await access.meshes(all_of_it)
        assert e.value.code is Code.BAD_DATA
        assert str(e.value) == (
            "the credentials are for user 900000001, but Rave takes them for those of user 900000002 "
            "(run ravectl login)"
        )
    assert [what for what, _ in rave.asked] == ["me", "me"], "its list counts for nothing"


@pytest.mark.parametrize("session", [RENEWED, OTHERS, None])
async def test_a_refusal_of_a_former_session_says_nothing_about_the_new_one(
    rave: Rave, session: Session | None
) -> None:
    access = new_access()

    def refuse() -> None:
        access.use(session)
        raise REFUSED

    rave.during = refuse
    with pytest.raises(RaveError, match="another session") as e:
        await access.meshes(all_of_it)
    assert e.value.code is Code.CLOSED


@pytest.mark.parametrize("session", [OTHERS, None])
async def test_a_list_that_was_read_for_another_account_counts_for_nothing(
    rave: Rave, session: Session | None
) -> None:
    access = new_access()
    rave.during = lambda: access.use(session)
    with pytest.raises(RaveError, match="another account"):
        await access.meshes(all_of_it)
    access.use(OURS)
    rave.during = lambda: access.use(RENEWED)
    assert await access.meshes(all_of_it) == Listing((FILM,)), "another token is no other account"


async def test_leaving_goes_over_a_connection_of_its_own(rave: Rave, caplog: pytest.LogCaptureFixture) -> None:
    access = new_access(None)
    await access.leave(MESH)
    await access.close()
    assert (rave.asked, rave.closed) == ([], 0)
    access.use(OURS)
    access.use(RENEWED)
    await access.leave(MESH)
    assert (rave.asked, rave.closed) == ([(f"leave {MESH}", "hush-renewed")], 1)
    rave.failures["leave"] = RaveError(Code.FORBIDDEN, "Rave says no")
    await access.leave(MESH)
    assert f"Mesh {MESH} could not be left on Rave's side: Rave says no" in caplog.text
    repeated = {code for code in Code if rave.may_repeat("DELETE", RaveError(code, "no"))}
    assert repeated == {Code.NETWORK, Code.TIMEOUT, Code.SERVER_ERROR, Code.RATE_LIMITED}
    assert rave.closed == 2


HOST = "api.red.wemesh.ca"


@pytest.mark.parametrize("where", ["me", "meshes"])
async def test_a_pause_that_rave_asks_for_is_kept(rave: Rave, where: str) -> None:
    now = 0.0

    pauses = Pauses(clock=lambda: now)
    access = new_access(pauses=pauses)
    rave.failures[where] = RaveError(Code.RATE_LIMITED, "too many requests", retry_after=600.0)
    with pytest.raises(RaveError):
        await access.meshes(all_of_it)
    rave.failures.clear()
    asked = len(rave.asked)
    for _ in range(3):
        with pytest.raises(RaveError, match=f"{HOST} asks for a pause until") as e:
            await access.meshes(all_of_it)
        assert e.value.code is Code.RATE_LIMITED
    assert len(rave.asked) == asked
    now = 600.0
    assert await access.meshes(all_of_it) == Listing((FILM,))


async def test_a_pause_without_a_length_is_one_too_and_an_hour_is_the_longest(rave: Rave) -> None:
    for attributes, seconds in (({}, 30), ({"retry_after": 1e9}, 3600)):
        pauses = Pauses(clock=lambda: 0.0)
        rave.failures["meshes"] = RaveError(Code.RATE_LIMITED, "slow down", **attributes)
        with pytest.raises(RaveError):
            await new_access(pauses=pauses).meshes(all_of_it)
        assert pauses.asked(HOST) == seconds


async def test_a_bots_word_alone_keeps_no_list_from_being_read(rave: Rave) -> None:
    pauses = Pauses()
    pauses.claim(HOST, MESH, 300)
    assert await new_access(pauses=pauses).meshes(all_of_it) == Listing((FILM,))


async def test_the_users_of_a_mesh_are_asked_for_unless_rave_wants_a_pause(
    rave: Rave, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = Pauses()
    access = new_access(None, pauses=pauses)
    with pytest.raises(RaveError, match="no session"):
        await access.users(MESH)
    access.use(OURS)
    assert await access.users(MESH) == {5, 6}
    monkeypatch.setattr(module, "_USERS_TIMEOUT_S", 0.01)
    rave.hangs = True
    with pytest.raises(RaveError, match="did not answer in time"):
        await access.users(MESH)
    rave.hangs = False
    rave.failures["mesh"] = RaveError(Code.RATE_LIMITED, "slow down", retry_after=60.0)
    for _ in range(2):
        with pytest.raises(RaveError) as caught:
            await access.users(MESH)
        assert caught.value.code is Code.RATE_LIMITED
    assert rave.asked == [(f"mesh {MESH}", "hush-token")] * 2
    assert rave.closed == 3


async def test_leaving_waits_for_the_end_of_a_pause(rave: Rave) -> None:
    pauses = Pauses()
    access = new_access(pauses=pauses)
    pauses.ask(HOST, 0.1)
    leaving = asyncio.create_task(access.leave(MESH))
    await asyncio.sleep(0.02)
    assert rave.asked == []
    await leaving
    assert rave.asked == [(f"leave {MESH}", "hush-token")]
    rave.failures["leave"] = RaveError(Code.RATE_LIMITED, "slow down", retry_after=60.0)
    await access.leave(MESH)
    assert pauses.asked(HOST) > 50
