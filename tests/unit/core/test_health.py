from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from ravesvc import names
from ravesvc.blocklist.model import Block, Reason
from ravesvc.bus import Call, Interface, Variant, allow_all, method
from ravesvc.config.worker_settings import Edition
from ravesvc.core import health as health_module
from ravesvc.core.health import MAX_SILENCE_S, Health, Stats, stats
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.run_state import RunPhase, RunState
from ravesvc.core.worker_status import WorkerStatus, read_status
from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator import worker_client as workers_module
from ravesvc.orchestrator.worker_client import Workers
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until

Run = Callable[[Coroutine[Any, Any, Any]], Any]

ACTIVE = RunState(phase=RunPhase.RUNNING, process=7)
STARTING = RunState(phase=RunPhase.STARTING, process=7)
RESTARTING = RunState(phase=RunPhase.WAITING)
STOPPING = RunState(phase=RunPhase.STOPPING, process=7)
FAILED = RunState(phase=RunPhase.ENDED)
ABSENT = RunState()
NO_ANSWER = RaveError(Code.TIMEOUT, "GetStatus failed: it took too long")
WELL = {"Connected": True, "ConnectedUSec": 5_000_000, "Attempts": 0, "Version": "1", "SettingsDigest": "2"}


class Bots:
    """The workers as health sees them: each answers with its status, or fails with its error, once its gate is open.

    Attributes:
        asked: the meshes that were asked, in order.
        under_way: how many questions are waiting for an answer, `most` how many that ever were.
        bus: whether the bus itself answers.
        mute: the meshes whose bots have left too many calls unanswered.
    """

    def __init__(self) -> None:
        self.answers: defaultdict[str, dict[str, Any] | Exception] = defaultdict(lambda: dict(WELL))
        self.gates: dict[str, asyncio.Event] = {}
        self.asked: list[str] = []
        self.under_way = 0
        self.most = 0
        self.bus = asyncio.Event()
        self.bus.set()
        self.mute: set[str] = set()

    async def status(self, mesh: str) -> WorkerStatus:
        self.asked.append(mesh)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if mesh in self.gates:
                await self.gates[mesh].wait()
            answer = self.answers[mesh]
        finally:
            self.under_way -= 1
        if isinstance(answer, Exception):
            raise answer
        return read_status(answer)

    async def catch_up(self) -> None:
        await self.bus.wait()

    def is_mute(self, mesh: str) -> bool:
        return mesh in self.mute

    def hang(self, *meshes: str) -> None:
        """These don't answer from now on."""
        for mesh in meshes:
            self.gates[mesh] = asyncio.Event()

    def go_on(self, *meshes: str) -> None:
        """They answer what was asked, and whatever will be."""
        for mesh in meshes:
            self.gates.pop(mesh).set()


class Scene:
    """Bots that have been active since second 1000 of the clock, and who hears of them."""

    def __init__(self, meshes: str = "a", interval: float = 30.0) -> None:
        self.now = 1000.0
        self.bots = Bots()
        self.records = {mesh: self.record(mesh, ACTIVE) for mesh in meshes}
        self.answered: list[str] = []
        self.unhealthy: list[str] = []
        self.health = Health(
            self.bots,  # type: ignore[arg-type]
            self.records,
            interval=interval,
            answered=self.answered.append,
            unhealthy=self.unhealthy.append,
            now=lambda: self.now,
        )

    def record(self, mesh: str, run_state: RunState) -> MeshState:
        return MeshState(mesh, run=run_state, worker=WorkerState(heard=self.now))

    def worker(self, mesh: str = "a") -> WorkerState:
        return self.records[mesh].worker

    def stats(self) -> Stats:
        return stats([record.state for record in self.records.values()])

    async def ask_at(self, now: float, mesh: str = "a") -> None:
        self.now = now
        await self.health.ask(mesh)


@contextlib.asynccontextmanager
async def scene_of(meshes: str = "a", interval: float = 30.0) -> AsyncIterator[Scene]:
    scene = Scene(meshes, interval)
    try:
        yield scene
    finally:
        await scene.health.close()


@contextlib.asynccontextmanager
async def rounds_of(scene: Scene) -> AsyncIterator[asyncio.Task[None]]:
    """Health asks by itself."""
    task = asyncio.create_task(scene.health.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def a_few_turns() -> None:
    """Whatever could happen now has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


# One question.


async def test_an_answer_is_taken_over_and_passed_on() -> None:
    async with scene_of() as scene:
        scene.bots.answers["a"] = {**WELL, "Attempts": 2, "LastError": "once bitten"}
        await scene.ask_at(1010)
        worker = scene.worker()
        assert (worker.heard, worker.ready, worker.healthy, worker.connected) == (1010, True, True, True)
        assert (worker.connected_at, worker.attempts, worker.last_error) == (1005, 2, "once bitten")
        assert worker.edition == Edition("1", "2")
        assert (scene.answered, scene.unhealthy) == (["a"], [])


async def test_an_answer_that_is_older_than_a_signal_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene_of() as scene:
        told = [{**WELL, "Connected": False}, WELL]

        async def status(mesh: str) -> WorkerStatus:
            if len(told) == 2:
                # With the answer comes a signal, which is handled first.
                scene.worker(mesh).signals += 1
                scene.worker(mesh).connect(1000.0)
            return read_status(told.pop(0))

        monkeypatch.setattr(scene.bots, "status", status)
        await scene.ask_at(1001.0)
        assert told == []
        assert scene.records["a"].state == "connected"


async def test_a_bot_that_never_ceases_to_signal_is_asked_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene_of() as scene:
        status = scene.bots.status

        async def signalling(mesh: str) -> dict[str, Any]:
            scene.worker().signals += 1
            return await status(mesh)

        monkeypatch.setattr(scene.bots, "status", signalling)
        await scene.ask_at(1001.0)
        assert scene.bots.asked == ["a"] * 3
        assert scene.answered == ["a"]


async def test_a_bot_that_answers_but_is_not_connected_is_well() -> None:
    async with scene_of() as scene:
        scene.bots.answers["a"] = {"Connected": False, "LastError": "no route to host"}
        for now in (1030, 2000, 9000):
            await scene.ask_at(now)
        assert scene.records["a"].state == "disconnected"
        assert scene.records["a"].reason == "no route to host"
        assert scene.unhealthy == []
        assert scene.stats() == Stats(1, 1, 0, 0, 1, 0)


async def test_the_silence_is_counted_from_the_answer_not_from_the_question() -> None:
    async with scene_of() as scene:
        scene.bots.hang("a")
        asked = scene.health.ask("a")
        await until(lambda: scene.bots.under_way)
        scene.now = 1009
        scene.bots.go_on("a")
        await asked
        assert scene.worker().heard == 1009
        assert scene.worker().connected_at == 1004
        scene.now = 1010
        assert scene.health.silence("a") == 1


def test_a_bot_that_is_silent_for_too_long_is_unhealthy(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with scene_of() as scene:
            scene.bots.answers["a"] = NO_ANSWER
            await scene.ask_at(1030)
            await scene.ask_at(1000 + MAX_SILENCE_S)
            assert scene.worker().healthy
            assert scene.unhealthy == []
            assert scene.health.silence("a") == MAX_SILENCE_S
            await scene.ask_at(1000.1 + MAX_SILENCE_S)
            assert not scene.worker().healthy
            assert scene.unhealthy == ["a"]
            assert scene.records["a"].state == "unhealthy"
            # The service may have been busy with something else.
            await scene.ask_at(1100)
            assert scene.unhealthy == ["a", "a"]
            assert scene.answered == []
            assert scene.worker().heard == 1000

    with caplog.at_level(logging.INFO):
        run(body())
    assert caplog.messages == [f"The bot of mesh a has not answered for 60 s: {NO_ANSWER.message}"]


@pytest.mark.parametrize(("interval", "patience"), [(1.0, 60.0), (30.0, 60.0), (31.0, 62.0), (600.0, 1200.0)])
async def test_a_bot_that_is_asked_rarely_may_miss_one_question(interval: float, patience: float) -> None:
    async with scene_of(interval=interval) as scene:
        scene.bots.answers["a"] = NO_ANSWER
        await scene.ask_at(1000 + patience)
        assert scene.worker().healthy
        await scene.ask_at(1000.1 + patience)
        assert not scene.worker().healthy


async def test_whoever_has_spoken_meanwhile_is_not_silent() -> None:
    async with scene_of() as scene:
        scene.bots.answers["a"] = NO_ANSWER
        scene.worker().heard = 1100.0  # a signal
        await scene.ask_at(1150)
        assert scene.worker().healthy
        assert scene.health.silence("a") == 50


def test_an_answer_makes_well_again(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with scene_of() as scene:
            scene.bots.answers["a"] = NO_ANSWER
            await scene.ask_at(1100)
            assert scene.stats().unhealthy == 1
            scene.bots.answers["a"] = dict(WELL)
            await scene.ask_at(1130)
            assert scene.worker().healthy
            assert scene.records["a"].state == "connected"
            assert (scene.answered, scene.unhealthy) == (["a"], ["a"])
            assert scene.health.silence("a") == 0
            # And the next silence is another one.
            scene.bots.answers["a"] = NO_ANSWER
            await scene.ask_at(1180)
            assert scene.worker().healthy
            await scene.ask_at(1200)
            assert scene.unhealthy == ["a", "a"]

    run(body())
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("run_state", [STARTING, RESTARTING, STOPPING, ABSENT, FAILED])
async def test_only_what_is_active_can_be_unhealthy_so_a_slow_start_is_not(run_state: RunState) -> None:
    async with scene_of() as scene:
        scene.records["a"].run = run_state
        scene.bots.answers["a"] = NO_ANSWER
        await scene.ask_at(99_999)
        assert scene.worker().healthy
        assert scene.unhealthy == []
        assert scene.health.silence("a") == 0


async def test_a_bot_that_stops_while_it_is_asked_is_not_unhealthy() -> None:
    async with scene_of() as scene:
        scene.bots.hang("a")
        scene.bots.answers["a"] = NO_ANSWER
        asked = scene.health.ask("a")
        await until(lambda: scene.bots.under_way)
        scene.now = 1100
        scene.records["a"].run = STOPPING
        scene.bots.go_on("a")
        await asked
        assert scene.worker().healthy
        assert scene.unhealthy == []


@pytest.mark.parametrize("answer", [{**WELL, "Attempts": 7}, NO_ANSWER], ids=["an answer", "no answer"])
async def test_what_a_process_says_that_was_replaced_meanwhile_is_dropped(answer: dict[str, Any] | RaveError) -> None:
    async with scene_of() as scene:
        old = scene.worker()
        scene.bots.hang("a")
        scene.bots.answers["a"] = answer
        asked = scene.health.ask("a")
        await until(lambda: scene.bots.under_way)
        scene.now = 1100
        new = scene.records["a"].worker = WorkerState(heard=1000)
        scene.bots.go_on("a")
        await asked
        assert new == WorkerState(heard=1000)
        assert old == WorkerState(heard=1000)
        assert scene.answered == scene.unhealthy == []


async def test_who_is_asked_already_is_not_asked_twice() -> None:
    async with scene_of("ab") as scene:
        scene.bots.hang("a")
        first = scene.health.ask("a")
        await until(lambda: scene.bots.under_way)
        assert scene.health.ask("a") is first
        assert scene.health.ask("b") is not first
        scene.bots.go_on("a")
        await first
        await until(lambda: scene.answered == ["b", "a"])
        assert scene.bots.asked == ["a", "b"]
        await scene.health.ask("a")
        assert scene.bots.asked == ["a", "b", "a"]


async def test_a_mesh_that_is_gone_when_its_turn_comes_is_not_asked() -> None:
    async with scene_of() as scene:
        asked = scene.health.ask("a")
        del scene.records["a"]
        await asked
        assert scene.bots.asked == []
        assert scene.answered == []


# The parent may be late itself.


async def test_no_bot_is_judged_while_the_bus_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "_CONFIRMED_WITHIN_S", 0.05)

    async with scene_of() as scene:
        scene.bots.answers["a"] = NO_ANSWER
        scene.bots.bus.clear()
        await scene.ask_at(1100)
        assert scene.bots.asked == ["a", "a"]
        assert scene.worker().healthy
        scene.bots.bus.set()
        await scene.ask_at(1130)
        assert scene.unhealthy == ["a"]


async def test_an_answer_to_the_last_question_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene_of() as scene:
        answers = [NO_ANSWER, WELL]

        async def status(mesh: str) -> WorkerStatus:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return read_status(answer)

        monkeypatch.setattr(scene.bots, "status", status)
        await scene.ask_at(1100)
        assert (scene.answered, scene.unhealthy) == (["a"], [])
        assert scene.worker().heard == 1100


async def test_a_bot_that_speaks_before_it_is_judged_is_well() -> None:
    async with scene_of() as scene:
        scene.bots.answers["a"] = NO_ANSWER
        scene.bots.bus.clear()
        scene.now = 1100
        asked = scene.health.ask("a")
        await until(lambda: scene.bots.asked == ["a", "a"])
        scene.worker().heard = 1100.0  # a signal
        scene.bots.bus.set()
        await asked
        assert scene.worker().healthy
        assert scene.unhealthy == []


async def test_a_bot_that_signals_and_answers_nothing_is_unhealthy() -> None:
    async with scene_of() as scene:
        scene.bots.answers["a"] = NO_ANSWER
        scene.worker().heard = 1030.0  # a signal
        await scene.ask_at(1030)
        assert scene.unhealthy == []
        scene.bots.mute.add("a")
        await scene.ask_at(1031)
        assert scene.unhealthy == ["a"]


@pytest.mark.parametrize(("where", "unhealthy"), [({"undelivered": True}, []), ({}, ["a"])])
async def test_a_question_that_the_bus_refuses_judges_no_bot(where: dict[str, bool], unhealthy: list[str]) -> None:
    """The bus refuses when the parent has too many calls without an answer, for which no other bot is to blame."""

    async with scene_of() as scene:
        refused = RaveError(Code.BUS, "GetStatus was refused", **where)
        scene.bots.answers["a"] = refused
        await scene.ask_at(1001 + MAX_SILENCE_S)
        assert scene.unhealthy == unhealthy


class QuietBot(Interface):
    """What answers on the bus unless it hangs."""

    interface = names.WORKER_INTERFACE

    def __init__(self) -> None:
        super().__init__(allow_all)
        self.answers = asyncio.Event()
        self.asked = 0

    @method(returns={"status": "a{sv}"})
    async def get_status(self, call: Call) -> dict[str, Variant]:
        self.asked += 1
        await self.answers.wait()
        return {"Connected": Variant("b", True)}


async def test_a_bot_that_answers_nothing_is_asked_so_often_and_no_more(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus lets the parent have 128 calls without an answer, of all bots."""
    monkeypatch.setattr(workers_module, "_CALL_TIMEOUT_S", 0.02)

    async with connected(bus_address, 2) as (bus, bot_bus):
        workers = Workers(bus, lambda *_: None, lambda _: None)
        workers._senders["a"] = bot_bus.unique_name
        bot = QuietBot()
        bot_bus.export(names.worker_path("a"), bot)
        for _ in range(16):
            assert not workers.is_mute("a")
            with pytest.raises(RaveError, match="gave no answer"):
                await workers.status("a")
        assert workers.is_mute("a")
        with pytest.raises(RaveError, match="has left 16 calls unanswered"):
            await workers.status("a")
        assert await asyncio.gather(workers._follow("a", bot_bus.unique_name, "GetStatus")) == [False]
        assert bot.asked == 16
        monkeypatch.setattr(workers_module, "_CALL_TIMEOUT_S", 20)
        bot.answers.set()
        await until(lambda: not workers.is_mute("a"))
        assert (await workers.status("a")).connected


@pytest.mark.slow
@pytest.mark.parametrize("hangs", [False, True])
async def test_a_parent_that_reads_slowly_declares_no_bot_dead(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """It takes 10 ms for each of 400 messages, and the bot's answer is behind them."""
    monkeypatch.setattr(workers_module, "_CALL_TIMEOUT_S", 0.5)
    monkeypatch.setattr(health_module, "_LAST_CHANCE_S", 0.2)
    monkeypatch.setattr(health_module, "_CONFIRMED_WITHIN_S", 0.4)

    async with connected(bus_address, 3) as (bus, bot_bus, stranger):
        workers = Workers(bus, lambda *_: None, lambda _: None)
        workers._senders["a"] = bot_bus.unique_name
        bot = QuietBot()
        bot_bus.export(names.worker_path("a"), bot)
        if not hangs:
            bot.answers.set()
        unhealthy: list[str] = []
        records = {"a": MeshState("a", run=ACTIVE, worker=WorkerState(heard=0.0))}
        health = Health(
            workers,
            records,
            interval=30,
            answered=lambda _: None,
            unhealthy=unhealthy.append,
            now=lambda: 1000.0,
        )
        await bus.match("type='signal',interface='org.example.Flood1'", lambda _: time.sleep(0.01))
        # Nothing of it is read before all of it is sent: on a busy machine that takes as long as to read it.
        asyncio.get_running_loop().remove_reader(bus._transport._sock)
        for _ in range(400):
            stranger._emit("/", "org.example.Flood1", "Drop", "")
        await stranger.call("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetId")
        asyncio.get_running_loop().add_reader(bus._transport._sock, bus._transport._readable)
        await health.ask("a")
        assert unhealthy == []
        await workers.catch_up()
        await health.ask("a")
        assert unhealthy == ["a"] * hangs
        await health.close()


# Many at once.


async def test_a_few_are_asked_at_a_time() -> None:
    meshes = "abcdefghijklmnopqrstuvwxyz"

    async with scene_of(meshes) as scene:
        scene.bots.hang(*meshes)
        tasks = [scene.health.ask(mesh) for mesh in meshes]
        await until(lambda: scene.bots.under_way == 8)
        await a_few_turns()
        assert scene.bots.asked == list("abcdefgh")
        # One answers, and another one is asked.
        scene.bots.go_on("c")
        await until(lambda: scene.bots.asked == list("abcdefghi"))
        await a_few_turns()
        assert scene.bots.under_way == 8
        scene.bots.go_on(*scene.bots.gates)
        await asyncio.gather(*tasks)
        assert sorted(scene.answered) == list(meshes)
        assert scene.bots.most == 8


async def test_whoever_does_not_answer_makes_room_for_the_next() -> None:
    async with scene_of("abcdefghi") as scene:
        for mesh in "abcdefgh":
            scene.bots.answers[mesh] = NO_ANSWER
        await asyncio.gather(*map(scene.health.ask, scene.records))
        assert scene.answered == ["i"]


# What an earlier parent has left.


def test_what_runs_already_is_asked_before_the_start_goes_on(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with scene_of("abc") as scene:
            await scene.health.adopt(iter("ab"))
            assert scene.bots.asked == ["a", "b"]
            assert scene.answered == ["a", "b"]

    with caplog.at_level(logging.INFO):
        run(body())
    assert caplog.messages == ["2 of 2 running meshes answered"]


def test_nothing_is_said_when_nothing_runs(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with scene_of("abc") as scene:
            await scene.health.adopt([])
            assert scene.bots.asked == []

    with caplog.at_level(logging.INFO):
        run(body())
    assert caplog.messages == []


def test_bots_that_hang_do_not_hold_up_the_adoption_and_are_adopted_when_they_go_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health_module, "_ADOPTION_S", 0.05)

    async def body() -> None:
        async with scene_of("abc") as scene:
            scene.bots.hang("a", "b")
            await scene.health.adopt("abc")
            assert scene.answered == ["c"]
            assert not scene.worker("a").ready
            scene.bots.go_on("a")
            await until(lambda: scene.answered == ["c", "a"])
            assert scene.worker("a").ready
            scene.bots.answers["b"] = NO_ANSWER
            scene.bots.go_on("b")
            await until(lambda: not scene.bots.under_way)
            await a_few_turns()
            assert not scene.worker("b").ready
            assert scene.worker("b").healthy, "it was never heard, but is not silent for a minute"

    with caplog.at_level(logging.INFO):
        run(body())
    assert caplog.messages == ["1 of 3 running meshes answered"]


# For ever.


async def test_a_question_that_is_under_way_is_followed_by_one_that_sees_what_is_so_now() -> None:
    async with scene_of("abc") as scene:
        scene.records["c"] = scene.record("c", STARTING)
        scene.bots.hang("a")
        first = scene.health.ask("a")
        await until(lambda: scene.bots.asked == ["a"])
        again = asyncio.create_task(scene.health.ask_again())
        scene.bots.go_on("a")
        await again
        assert first.done()
        assert scene.bots.asked == ["a", "a", "b"]


async def test_a_bot_that_hangs_holds_up_no_operator_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "_ASK_AGAIN_S", 0.05)
    async with scene_of("ab") as scene:
        scene.bots.hang("a")
        await scene.health.ask_again()
        assert (scene.answered, scene.bots.under_way) == (["b"], 1), "the question goes on"


async def test_whoever_is_active_is_asked_in_every_round() -> None:
    async with scene_of("a", 0.001) as scene:
        for mesh, run_state in zip("bcdef", (STARTING, RESTARTING, STOPPING, FAILED, ABSENT), strict=True):
            scene.records[mesh] = scene.record(mesh, run_state)
        async with rounds_of(scene):
            await until(lambda: len(scene.answered) >= 3)
            assert set(scene.bots.asked) == {"a"}
            scene.records["b"].run = ACTIVE
            await until(lambda: scene.answered.count("b") >= 2)
            scene.records["a"].run = STOPPING
            await until(lambda: len(scene.answered) >= 2 and scene.answered[-2:] == ["b", "b"])
        assert set(scene.bots.asked) == {"a", "b"}


async def test_the_first_round_comes_after_the_interval() -> None:
    async with scene_of("a", 3600) as scene, rounds_of(scene):
        await a_few_turns()
        assert scene.bots.asked == []


async def test_rounds_never_overlap_however_long_one_takes() -> None:
    async with scene_of("ab", 0) as scene:
        scene.bots.hang("a")
        async with rounds_of(scene):
            await until(lambda: scene.answered == ["b"])
            # Many intervals.
            await a_few_turns()
            assert scene.bots.asked == ["a", "b"]
            scene.bots.go_on("a")
            await until(lambda: len(scene.bots.asked) >= 4)
            assert scene.bots.asked[2:4] == ["a", "b"]


async def test_a_fault_with_one_bot_does_not_end_the_rounds() -> None:
    async with scene_of("ab", 0.001) as scene:
        scene.bots.answers["a"] = ValueError("a fault of ours")
        async with rounds_of(scene) as task:
            await until(lambda: scene.answered.count("b") >= 3)
            assert not task.done()
            scene.bots.answers["a"] = dict(WELL)
            await until(lambda: "a" in scene.answered)


async def test_a_silent_bot_is_found_by_the_rounds() -> None:
    async with scene_of("ab", 0.001) as scene:
        scene.bots.answers["a"] = NO_ANSWER
        async with rounds_of(scene):
            await until(lambda: scene.bots.asked.count("a") >= 2)
            assert scene.unhealthy == []
            scene.now = 1061
            await until(lambda: scene.unhealthy)
            assert set(scene.unhealthy) == {"a"}
            assert scene.worker("b").healthy


async def test_who_is_asked_when_it_ends_is_asked_no_longer() -> None:
    async with scene_of("abcdefghij") as scene:
        scene.bots.hang("a", "b")
        tasks = [scene.health.ask(mesh) for mesh in "ab"]
        await until(lambda: scene.bots.under_way == 2)
        await scene.health.close()
        assert scene.bots.under_way == 0
        assert all(task.cancelled() for task in tasks)
        assert scene.answered == []
        await scene.health.close()


# The count.


async def test_each_mesh_counts_once() -> None:
    run_states = {
        "connected": ACTIVE,
        "disconnected": ACTIVE,
        "unhealthy": ACTIVE,
        "starting": STARTING,
        "restarting": RESTARTING,
        "stopping": STOPPING,
        "failed": FAILED,
        "stopped": ABSENT,
        "blocked": ABSENT,
    }

    async with scene_of("") as scene:
        assert scene.stats() == Stats(0, 0, 0, 0, 0, 0)
        scene.records.update({state: scene.record(state, each) for state, each in run_states.items()})
        scene.worker("connected").connect(scene.now)
        scene.worker("unhealthy").healthy = False
        scene.records["blocked"].block = Block(mesh="blocked", reason=Reason.KICKED, since=0, until=None)
        assert {mesh: record.state for mesh, record in scene.records.items()} == {
            state: state for state in run_states
        }
        # Healthy: connected, disconnected, starting and restarting, all but the first disconnected.
        assert scene.stats() == Stats(total=9, healthy=4, unhealthy=1, connected=1, disconnected=3, stopped=4)
