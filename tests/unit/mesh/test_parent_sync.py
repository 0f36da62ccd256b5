from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from ravesvc.bot.backend import EntryPoint
from ravesvc.bot.command_names import Permission
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.common.plugin_files import FileVersion
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from ravesvc.mesh import parent_sync as sync_module
from ravesvc.mesh.parent_client import ParentClient
from ravesvc.mesh.parent_sync import ParentSync
from ravesvc.names import Announcement
from tests.unit.conftest import until
from tests.unit.room_server import SESSION

Run = Callable[[Any], Any]

ADMINS, PERMISSIONS, IGNORED, CREDENTIALS, COMMANDS = Announcement
MODULES = [EntryPoint("greet", "greetings", "1.0")]
TRIED = [FileVersion("greet.py", "aa")]
AWAY = RaveError(Code.NOT_RUNNING, "nobody answers")


class Parent(ParentClient):
    """Answers from attributes; a question of a kind in `held` waits for `answer`, looked up before."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.facts: dict[Announcement, Any] = {
            ADMINS: frozenset({1}),
            PERMISSIONS: {"ping": Permission.ADMIN},
            IGNORED: frozenset({7}),
            CREDENTIALS: SESSION,
            COMMANDS: MODULES,
        }
        self.asked: list[Announcement] = []
        self.held: set[Announcement] = set()
        self._waiting: list[asyncio.Event] = []

    async def _give(self, what: Announcement) -> Any:
        self.asked.append(what)
        fact = self.facts[what]
        if what in self.held:
            self._waiting.append(asyncio.Event())
            await self._waiting[-1].wait()
        if isinstance(fact, RaveError):
            raise fact
        return fact

    def answer(self, position: int = 0) -> None:
        """Let one of the questions that wait be answered."""
        self._waiting.pop(position).set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def admins(self) -> frozenset[int]:
        return frozenset(await self._give(ADMINS))

    async def permissions(self) -> dict[str, Permission]:
        return dict(await self._give(PERMISSIONS))

    async def ignored_users(self) -> frozenset[int]:
        return frozenset(await self._give(IGNORED))

    async def session(self) -> Session:
        session: Session = await self._give(CREDENTIALS)
        return session

    async def entry_points(self) -> list[EntryPoint]:
        return list(await self._give(COMMANDS))

    async def tried_plugins(self) -> list[FileVersion]:
        return TRIED


class BotUnderTest:
    """What a worker applies."""

    def __init__(self) -> None:
        self.parent = Parent()
        self.announced = 0
        self.permissions: StaticPermissions | None = None
        self.ignored: frozenset[int] | None = None
        self.session: Session | None = None
        self.commands: list[list[EntryPoint]] = []
        self.tried: list[FileVersion] = []
        self.sync = ParentSync(
            self.parent,
            announce=self._announce,
            permissions=self._use_permissions,
            ignored=self._use_ignored,
            session=self._use_session,
            commands=self._use_commands,
        )

    def _announce(self) -> None:
        self.announced += 1

    def _use_permissions(self, permissions: StaticPermissions) -> None:
        self.permissions = permissions

    def _use_ignored(self, users: frozenset[int]) -> None:
        self.ignored = users

    def _use_session(self, session: Session) -> None:
        self.session = session

    async def _use_commands(self, modules: list[EntryPoint], tried: list[FileVersion]) -> None:
        self.commands.append(modules)
        self.tried = tried

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        keeping = asyncio.create_task(self.sync.keep())
        await self.sync.asked.wait()
        yield
        keeping.cancel()
        await asyncio.wait([keeping])
        assert keeping.cancelled()


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other change comes by chance; a new parent is asked at once."""
    assert (sync_module._SPREAD_S, sync_module._FIRST_RETRY_S, sync_module._MAX_RETRY_S) == (
        2.0,
        2.0,
        60.0,
    )
    monkeypatch.setattr(sync_module, "_SPREAD_S", 0.0)


async def test_at_the_start_it_announces_itself_and_asks_everything_at_once() -> None:
    bot = BotUnderTest()
    async with bot.following():
        assert bot.announced == 1
        assert sorted(bot.parent.asked) == sorted(Announcement)
        assert bot.permissions == StaticPermissions(frozenset({1}), {"ping": Permission.ADMIN})
        assert bot.ignored == {7}
        assert bot.session == SESSION
        assert bot.commands == [MODULES]


@pytest.mark.parametrize("met", [False, True])
async def test_whoever_was_met_before_the_start_is_not_greeted_twice(met: bool) -> None:
    bot = BotUnderTest()
    if met:
        bot.sync.on_new_peer()
    async with bot.following():
        await asyncio.sleep(0.01)
        assert (bot.announced, len(bot.parent.asked)) == (1, 5)


async def test_a_new_parent_hears_of_us_and_is_asked_everything() -> None:
    bot = BotUnderTest()
    async with bot.following():
        bot.parent.facts = {
            ADMINS: frozenset(),
            PERMISSIONS: {},
            IGNORED: frozenset(),
            CREDENTIALS: AWAY,
            COMMANDS: [],
        }
        bot.sync.on_new_peer()
        bot.sync.on_new_peer()
        await until(lambda: len(bot.parent.asked) == 10)
        await until(lambda: bot.permissions == StaticPermissions())
        assert bot.announced == 2
        assert bot.session == SESSION, "what can't be had stays as it was"


async def test_one_that_comes_while_another_is_asked_is_asked_too() -> None:
    bot = BotUnderTest()
    async with bot.following():
        bot.parent.held = {CREDENTIALS}
        bot.sync.on_new_peer()
        await until(lambda: bot.parent.waiting)
        bot.sync.on_new_peer()
        bot.parent.held.clear()
        bot.parent.answer()
        await until(lambda: bot.announced == 3 and len(bot.parent.asked) == 15)


async def test_a_crowd_spreads_its_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "_SPREAD_S", 2.0)
    monkeypatch.setattr(sync_module.random, "random", lambda: 0.75)
    real, delays = asyncio.sleep, []

    async def sleep(delay: float) -> None:
        delays.append(delay)
        await real(0)

    bot = BotUnderTest()
    with monkeypatch.context() as quick:
        quick.setattr(sync_module.asyncio, "sleep", sleep)
        async with bot.following():
            bot.sync.on_new_peer()
            while bot.announced < 2:
                await real(0)
    assert delays == [0.0, 1.5]


@pytest.mark.parametrize("what", Announcement)
async def test_a_change_is_applied_before_the_parent_gets_its_answer(what: Announcement) -> None:
    bot = BotUnderTest()
    other = dataclasses.replace(SESSION, auth_token="other")
    async with bot.following():
        bot.parent.facts = {
            ADMINS: {7, 8},
            PERMISSIONS: {"leave": Permission.USER},
            IGNORED: {9},
            CREDENTIALS: other,
            COMMANDS: [],
        }
        bot.parent.asked.clear()
        await bot.sync.refresh(what)
        assert bot.parent.asked == [what]
        assert bot.permissions
        assert bot.permissions.admins == ({7, 8} if what is ADMINS else {1})
        named = {"leave": Permission.USER} if what is PERMISSIONS else {"ping": Permission.ADMIN}
        assert bot.permissions.overrides == named
        assert bot.ignored == ({9} if what is IGNORED else {7})
        assert bot.session == (other if what is CREDENTIALS else SESSION)
        assert bot.commands == ([MODULES, []] if what is COMMANDS else [MODULES])


@pytest.mark.parametrize("first", [ADMINS, PERMISSIONS])
async def test_answers_of_two_kinds_do_not_undo_each_other(first: Announcement) -> None:
    bot = BotUnderTest()
    bot.parent.held = {first}
    asking = asyncio.create_task(bot.sync.refresh(first))
    await until(lambda: bot.parent.waiting)
    await bot.sync.refresh(PERMISSIONS if first is ADMINS else ADMINS)
    bot.parent.answer()
    await asking
    assert bot.permissions == StaticPermissions(frozenset({1}), {"ping": Permission.ADMIN})


async def test_an_older_answer_never_replaces_a_newer_one() -> None:
    bot = BotUnderTest()
    await bot.sync.refresh(PERMISSIONS)
    bot.parent.held = {ADMINS}
    refreshes = []
    for admins in ({1}, {1, 2}, {2}):
        bot.parent.facts[ADMINS] = admins
        refreshes.append(asyncio.create_task(bot.sync.refresh(ADMINS)))
        await asyncio.sleep(0)
    while not all(refresh.done() for refresh in refreshes):
        await until(lambda: bot.parent.waiting)
        # Were several asked at once, the newest would be answered first.
        bot.parent.answer(-1)
        await asyncio.sleep(0.001)
    assert bot.permissions.admins == {2}
    await asyncio.gather(*refreshes)


async def test_a_question_that_is_given_up_leaves_the_way_free() -> None:
    bot = BotUnderTest()
    bot.parent.held = {ADMINS}
    refresh = asyncio.create_task(bot.sync.refresh(ADMINS))
    await until(lambda: bot.parent.waiting)
    refresh.cancel()
    await asyncio.wait([refresh])
    bot.parent.held.clear()
    await bot.sync.refresh(ADMINS)
    await bot.sync.refresh(PERMISSIONS)
    assert bot.permissions == StaticPermissions(frozenset({1}), {"ping": Permission.ADMIN})


def test_what_could_not_be_had_is_asked_for_again_and_nothing_else(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sync_module, "_MAX_RETRY_S", 0.01)

    async def body() -> None:
        bot = BotUnderTest()
        bot.parent.facts |= {ADMINS: AWAY, PERMISSIONS: AWAY}
        async with bot.following():
            assert bot.session == SESSION
            await until(lambda: bot.parent.asked.count(ADMINS) >= 3)
            bot.parent.facts[ADMINS] = {5}
            await until(lambda: ADMINS not in bot.sync._missing)
            assert bot.permissions is None, "no word of the other has come"
            bot.parent.facts[PERMISSIONS] = {}
            await until(lambda: "got everything from the orchestrator now" in caplog.text)
            asked = len(bot.parent.asked)
            await asyncio.sleep(0.05)
            assert len(bot.parent.asked) == asked, "there is nothing left to ask"
            assert bot.parent.asked.count(CREDENTIALS) == 1

            bot.parent.facts[ADMINS] = RaveError(Code.STORE, "the database does not answer")
            with pytest.raises(RaveError, match="the database") as caught:
                await bot.sync.refresh(ADMINS)
            assert caught.value.code is Code.STORE
            assert bot.permissions == StaticPermissions(frozenset({5}))
            bot.parent.facts[ADMINS] = {6}
            await until(lambda: bot.permissions.admins == {6})
        assert bot.announced == 1

    with caplog.at_level(logging.INFO):
        run(body())
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings[0] == "The bot could not get everything from the orchestrator: nobody answers"
    assert warnings.count(warnings[0]) == 1, "said once, not every minute"
    assert SESSION.auth_token not in caplog.text


NOBODY_KNOWS = RaveError(Code.STORE, "it is not known who is an admin")


@pytest.mark.parametrize(
    ("admins", "permissions", "told"),
    [
        (NOBODY_KNOWS, NOBODY_KNOWS, StaticPermissions(admins_known=False)),
        ({5}, NOBODY_KNOWS, StaticPermissions(frozenset({5}))),
        (NOBODY_KNOWS, {}, StaticPermissions(admins_known=False)),
        (AWAY, NOBODY_KNOWS, None),
        ({5}, AWAY, None),
        (AWAY, {}, None),
        (AWAY, AWAY, None),
        (RaveError(Code.ACCESS_DENIED, "no"), RaveError(Code.BAD_DATA, "senseless"), None),
    ],
)
async def test_permissions_are_told_when_the_parent_has_spoken_of_both(
    admins: object, permissions: object, told: StaticPermissions | None
) -> None:
    bot = BotUnderTest()
    bot.parent.facts |= {ADMINS: admins, PERMISSIONS: permissions}
    async with bot.following():
        assert bot.permissions == told


async def test_a_bug_is_not_taken_for_a_failure() -> None:
    bot = BotUnderTest()
    del bot.parent.facts[ADMINS]
    with pytest.raises(KeyError):
        await bot.sync.keep()
