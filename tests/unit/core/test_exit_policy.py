from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ravesvc.api.models import Mesh
from ravesvc.blocklist.model import SERVICE, Block, MeshMemory, Reason
from ravesvc.common.text import printable
from ravesvc.config.worker_settings import NOT_HANDED_OVER
from ravesvc.core.exit_policy import ExitPolicy, ExitVerdict, why_ended
from ravesvc.core.inventory import Inventory
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.outages import Outages
from ravesvc.core.run_state import RunEnd, RunPhase, RunState
from ravesvc.names import ExitStatus
from tests.unit.conftest import until

Run = Callable[[Coroutine[Any, Any, Any]], Any]

SERVER, ELSEWHERE = "one.example:443", "two.example:443"
UP = RunState(phase=RunPhase.RUNNING, process=7)


def ended(status: ExitStatus) -> RunEnd:
    return RunEnd(status=status)


UNREACHABLE = ended(ExitStatus.UNREACHABLE)
CRASHED = RunEnd(gave_up=True, detail="systemd gave up after 4 restarts (result watchdog, signal SIGKILL)")


class FakeBlocks:
    """The blocklist as lessons see it; `saved` is what each save comes to, once `gate` is open.

    `attempts` of each mesh have failed, `last_error` is why the last one did.
    """

    def __init__(self) -> None:
        self.saved = True
        self.attempts = 3
        self.last_error = "long ago"
        self.gate = asyncio.Event()
        self.gate.set()
        self.added: list[tuple[str, Reason, str]] = []
        self.blocklist: dict[str, Block] = {}
        self.age = 0.0
        self.removed: list[str] = []
        self.failures: list[tuple[str, int, str]] = []

    def add(self, mesh: str, reason: Reason, *, detail: str = "") -> asyncio.Task[bool]:
        self.added.append((mesh, reason, detail))
        return asyncio.create_task(self._save())

    async def _save(self) -> bool:
        await self.gate.wait()
        return self.saved

    def get(self, mesh: str) -> Block | None:
        return self.blocklist.get(mesh)

    def blocked_for(self, mesh: str) -> float:
        return self.age

    def remove(self, mesh: str, actor: str) -> None:
        assert actor == SERVICE
        self.removed.append(mesh)

    def memory(self, mesh: str) -> MeshMemory:
        return MeshMemory(failures=self.attempts, last_error=self.last_error)

    def record_failure(self, mesh: str, failures: int, error: str) -> None:
        self.failures.append((mesh, failures, error))


class Scene:
    """Mesh a, whose unit has failed, on a server; all listed meshes are in the inventory."""

    def __init__(self) -> None:
        self.records: dict[str, MeshState] = {}
        self.inventory = Inventory()
        self.blocklist = FakeBlocks()
        self.rave_answers = True
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0
        self.now = 0.0
        self.outages = Outages(lambda: self.now)
        self.slept: list[float] = []
        self.while_asleep: Callable[[], None] = lambda: None
        self.lessons = ExitPolicy(
            self.records,
            self.inventory,
            self.blocklist,  # type: ignore[arg-type]
            self._answers,
            self.outages,
            lambda: self.now,
            self._sleep,
        )
        self.add("a")
        self.records["a"].worker.last_error = "no route to host"

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.while_asleep()

    async def _answers(self) -> bool:
        self.asked += 1
        await self.gate.wait()
        return self.rave_answers

    def add(
        self, mesh: str, server: str | None = SERVER, *, connected: bool = False, blocked: bool = False
    ) -> MeshState:
        """Another mesh, which runs."""
        listed = Mesh(mesh, server, "", True, ())
        block = Block(mesh=mesh, reason=Reason.KICKED, since=0, until=None) if blocked else None
        record = self.records[mesh] = MeshState(mesh, listed=listed, run=UP, block=block)
        if connected:
            record.worker.connect(1000.0)
        else:
            record.worker.fail("no route to host")
        self.inventory.observe([each.listed for each in self.records.values() if each.listed])
        return record

    @property
    def known(self) -> set[str]:
        return set(self.inventory.meshes or {})


async def learnt(scene: Scene, end: RunEnd = UNREACHABLE) -> ExitVerdict:
    return await scene.lessons.apply("a", end)


# The reasons.


@pytest.mark.parametrize(
    ("end", "reason", "detail"),
    [
        (ended(ExitStatus.KICKED), Reason.KICKED, ""),
        (ended(ExitStatus.LEFT), Reason.LEFT, ""),
        (ended(ExitStatus.GONE), Reason.GONE, ""),
        (ended(ExitStatus.REJECTED), Reason.REJECTED, "no route to host"),
        (ended(ExitStatus.TOO_LARGE), Reason.TOO_LARGE, "no route to host"),
        (UNREACHABLE, Reason.CONNECTION_FAILURES, "no route to host"),
        (CRASHED, Reason.CRASHES, CRASHED.detail),
    ],
)
def test_a_mesh_is_blocked_for_what_its_bot_has_met(
    run: Run, caplog: pytest.LogCaptureFixture, end: RunEnd, reason: Reason, detail: str
) -> None:
    async def body() -> None:
        scene = Scene()
        scene.add("b", connected=True)
        assert await learnt(scene, end) == ExitVerdict(reason, "", saved=True)
        assert scene.blocklist.added == [("a", reason, detail)]
        assert scene.blocklist.failures == []
        # A mesh in which the bot is no more need not be missed by three rounds.
        assert scene.known == ({"b"} if reason in (Reason.KICKED, Reason.LEFT, Reason.GONE) else {"a", "b"})
        assert scene.asked == {Reason.CONNECTION_FAILURES: 1, Reason.REJECTED: 1, Reason.GONE: 2}.get(reason, 0)

    run(body())
    assert caplog.messages == [], "whoever saves it says so"


@pytest.mark.parametrize("status", [ExitStatus.UNREACHABLE, ExitStatus.REJECTED])
async def test_what_an_earlier_parent_has_heard_is_the_detail_when_nobody_else_has(status: ExitStatus) -> None:
    scene = Scene()
    scene.records["a"].worker.last_error = ""
    lesson = await learnt(scene, ended(status))
    assert scene.blocklist.added == [("a", lesson.reason, "long ago")]


async def test_the_size_of_a_message_is_not_told_from_what_was_wrong_before() -> None:
    scene = Scene()
    scene.records["a"].worker.last_error = ""
    await learnt(scene, ended(ExitStatus.TOO_LARGE))
    assert scene.blocklist.added == [("a", Reason.TOO_LARGE, "")]


@pytest.mark.parametrize(
    ("end", "outage_reason"),
    [
        (ended(ExitStatus.LOGIN_NEEDED), "Rave wants a new login"),
        (ended(ExitStatus.CONFIG), "its process could not use its settings"),
        (ended(ExitStatus.NO_SETTINGS), f"its process was not handed its settings: {NOT_HANDED_OVER}"),
        (RunEnd(refused=True), "it was started by hand too often"),
    ],
)
def test_a_mesh_that_is_not_at_fault_is_not_blocked(
    run: Run, caplog: pytest.LogCaptureFixture, end: RunEnd, outage_reason: str
) -> None:
    async def body() -> None:
        scene = Scene()
        assert await learnt(scene, end) == ExitVerdict(None, outage_reason, saved=True)
        assert scene.blocklist.added == []
        assert scene.blocklist.failures == []
        assert scene.known == {"a"}
        assert scene.asked == (end.status is ExitStatus.LOGIN_NEEDED)

    run(body())
    assert caplog.messages == [f"Mesh a has ended: {outage_reason}"]


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("status", [ExitStatus.KICKED, ExitStatus.GONE, ExitStatus.UNREACHABLE])
async def test_a_lesson_is_over_when_it_is_known_whether_it_was_saved(status: ExitStatus, saved: bool) -> None:
    scene = Scene()
    scene.blocklist.saved = saved
    scene.blocklist.gate.clear()
    learning = asyncio.create_task(learnt(scene, ended(status)))
    await until(lambda: scene.blocklist.added)
    await asyncio.sleep(0)
    assert not learning.done()
    scene.blocklist.gate.set()
    lesson = await learning
    assert lesson.saved is saved
    assert lesson.reason
    # It is in force all the same.
    assert scene.known == ({"a"} if status is ExitStatus.UNREACHABLE else set())


# The excuses of a mesh that could not be reached.


def test_while_rave_does_not_answer_no_mesh_is_at_fault(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        scene = Scene()
        scene.add("b", connected=True)
        scene.rave_answers = False
        assert await learnt(scene) == ExitVerdict(None, "Rave does not answer", saved=True)
        assert scene.blocklist.added == []
        # It begins anew, or one more failure would block it when Rave is back.
        assert scene.blocklist.failures == [("a", 0, "Rave does not answer")]

        # What is so already is not said again: each time would be a write.
        scene = Scene()
        scene.rave_answers = False
        scene.blocklist.attempts = 0
        assert (await learnt(scene)).outage_reason == "Rave does not answer"
        assert scene.blocklist.failures == []

    run(body())
    assert caplog.messages == ["Mesh a has ended: Rave does not answer"] * 2
    assert caplog.records[0].levelno == logging.WARNING


def test_when_the_server_lets_nobody_in_no_mesh_of_it_is_at_fault(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    outage_reason = f"the server {SERVER} lets no bot in"

    async def body() -> None:
        scene = Scene()
        scene.add("b")
        scene.add("c")
        scene.add("elsewhere", ELSEWHERE, connected=True)
        scene.add("nowhere", None, connected=True)
        assert await learnt(scene) == ExitVerdict(None, outage_reason, saved=True)
        assert scene.blocklist.added == []
        assert scene.blocklist.failures == [("a", 0, outage_reason)]
        assert scene.asked == 1

    run(body())
    assert caplog.messages == [f"Mesh a has ended: {outage_reason}"]


async def is_blocked(scene: Scene) -> None:
    """Mesh a has no excuse."""
    lesson = await learnt(scene)
    assert lesson == ExitVerdict(Reason.CONNECTION_FAILURES, "", saved=True)
    assert scene.blocklist.added == [("a", Reason.CONNECTION_FAILURES, "no route to host")]
    assert scene.blocklist.failures == []


async def test_a_server_is_an_excuse_for_an_hour_at_a_time() -> None:
    scene = Scene()
    scene.add("b")
    for minutes in range(0, 61, 20):
        scene.now = 60.0 * minutes
        assert (await learnt(scene)).outage_reason, minutes
    scene.now = 3601.0
    assert (await learnt(scene)).reason is Reason.CONNECTION_FAILURES
    # After the block it is given as much time again, and so is what was in its mesh meanwhile.
    for seconds in (7300.0, 7300.0 + 3000, 7300.0 + 3000 + 3601, 7300.0 + 3000 + 3601 + 3600):
        scene.now = seconds
        assert (await learnt(scene)).outage_reason, seconds


async def test_when_its_server_lets_another_in_the_mesh_is_at_fault() -> None:
    scene = Scene()
    scene.add("b")
    scene.add("c", connected=True)
    await is_blocked(scene)


async def test_the_only_mesh_of_a_server_is_at_fault() -> None:
    scene = Scene()
    # Its own connection, whose end is not known yet, says nothing of the others.
    scene.records["a"].worker.connect(1000.0)
    scene.records["a"].worker.fail("no route to host")
    scene.add("elsewhere", ELSEWHERE)
    await is_blocked(scene)


async def test_those_that_are_blocked_themselves_prove_nothing() -> None:
    scene = Scene()
    scene.add("b", blocked=True)
    await is_blocked(scene)
    # Neither for the mesh nor against it: one may still be on its way out.
    scene = Scene()
    scene.add("b", blocked=True, connected=True)
    scene.add("c")
    assert (await learnt(scene)).outage_reason == f"the server {SERVER} lets no bot in"


async def test_a_mesh_that_never_tried_proves_nothing() -> None:
    scene = Scene()
    # As one for which max_processes leaves no place.
    waits = scene.add("b")
    waits.run, waits.worker = RunState(), WorkerState()
    await is_blocked(scene)


@pytest.mark.parametrize("server", [None, ""])
async def test_without_a_server_nothing_can_be_compared(server: str | None) -> None:
    scene = Scene()
    scene.add("a", server)
    scene.add("b", server)
    await is_blocked(scene)


async def test_a_mesh_that_is_listed_no_more_has_no_server() -> None:
    scene = Scene()
    for mesh in "ab":
        scene.add(mesh).listed = None
    await is_blocked(scene)


async def test_what_has_changed_while_rave_was_asked_counts() -> None:
    scene = Scene()
    scene.gate.clear()
    other = scene.add("b")
    asking = asyncio.create_task(learnt(scene))
    await until(lambda: scene.asked)
    other.worker.connect(1000.0)
    scene.gate.set()
    assert (await asking).reason is Reason.CONNECTION_FAILURES


# What hits most meshes.


def reconciler(scene: Scene, size: int) -> list[str]:
    """So many meshes beside a, all connected."""
    others = [f"m{number}" for number in range(size)]
    for mesh in others:
        scene.add(mesh, connected=True)
    return others


def fails(scene: Scene, *meshes: str) -> None:
    """The bots of these meshes go on trying."""
    for mesh in meshes:
        scene.records[mesh].worker.disconnect("403")
        scene.lessons.failed(mesh, "403")


@pytest.mark.parametrize("status", [ExitStatus.UNREACHABLE, ExitStatus.REJECTED, ExitStatus.GONE])
async def test_what_has_hit_the_others_already_blocks_no_mesh(status: ExitStatus) -> None:
    scene = Scene()
    others = reconciler(scene, 4)
    fails(scene, *others[:2])
    lesson = await learnt(scene, ended(status))
    assert lesson.reason is None
    assert "3 of 5 meshes can't be reached: 403" in lesson.outage_reason
    assert (scene.blocklist.added, scene.slept, scene.known) == ([], [], {"a", *others})
    assert "3 of 5" in scene.outages.sentences()[0]


@pytest.mark.parametrize("status", [ExitStatus.UNREACHABLE, ExitStatus.REJECTED, ExitStatus.GONE])
async def test_the_first_one_waits_for_the_others(status: ExitStatus) -> None:
    scene = Scene()
    others = reconciler(scene, 3)
    scene.while_asleep = lambda: fails(scene, *others)
    assert "all meshes can't be reached" in (await learnt(scene, ended(status))).outage_reason
    assert scene.slept == [3.0]


async def test_one_alone_is_judged_when_no_others_have_followed() -> None:
    scene = Scene()
    reconciler(scene, 3)
    assert (await learnt(scene, ended(ExitStatus.REJECTED))).reason is Reason.REJECTED
    assert scene.slept == [3.0]
    assert scene.outages.sentences() == []


async def test_a_small_fleet_has_no_others_to_wait_for() -> None:
    scene = Scene()
    reconciler(scene, 1)
    assert (await learnt(scene, ended(ExitStatus.REJECTED))).reason is Reason.REJECTED
    assert scene.slept == []


@pytest.mark.parametrize("status", [ExitStatus.REJECTED, ExitStatus.GONE])
async def test_while_rave_does_not_answer_a_small_fleet_is_not_at_fault_either(status: ExitStatus) -> None:
    scene = Scene()
    scene.rave_answers = False
    assert (await learnt(scene, ended(status))).outage_reason == "Rave does not answer"
    assert scene.blocklist.added == []


async def test_meshes_that_rave_lists_no_more_are_gone_however_many_they_are() -> None:
    scene = Scene()
    fails(scene, *reconciler(scene, 3))
    scene.inventory.observe([])
    assert (await learnt(scene, ended(ExitStatus.GONE))).reason is Reason.GONE


@pytest.mark.parametrize(("age", "lifted"), [(59.0, ["m0"]), (60.0, [])])
async def test_blocks_of_the_last_minute_are_taken_back(age: float, lifted: list[str]) -> None:
    scene = Scene()
    others = reconciler(scene, 4)
    fails(scene, *others)
    scene.blocklist.age = age
    for mesh, reason, actor in (
        ("m0", Reason.REJECTED, SERVICE),
        ("m1", Reason.KICKED, SERVICE),
        ("m2", Reason.CRASHES, SERVICE),
        ("m3", Reason.REJECTED, "root"),
    ):
        scene.blocklist.blocklist[mesh] = Block(mesh=mesh, reason=reason, since=0, until=None, actor=actor)
    assert (await learnt(scene, ended(ExitStatus.REJECTED))).outage_reason
    assert scene.blocklist.removed == lifted


async def test_crashes_of_most_processes_are_the_machines() -> None:
    scene = Scene()
    for mesh in reconciler(scene, 3):
        scene.lessons.crashed(mesh, "exit status 1 (crashed)")
    lesson = await learnt(scene, CRASHED)
    assert lesson.outage_reason == "the processes of all meshes fail: exit status 1 (crashed)"
    assert scene.asked == 0
    assert (await scene.lessons.apply("m0", RunEnd(gave_up=True, detail="6 times in a row"))).outage_reason


async def test_settings_that_no_process_can_use_are_one_fault() -> None:
    scene = Scene()
    for mesh in reconciler(scene, 3):
        await scene.lessons.apply(mesh, ended(ExitStatus.CONFIG))
    assert scene.outages.sentences()[0].startswith("the processes of 3 of 4 meshes fail: its process could not use")


@pytest.mark.parametrize("answers", [True, False])
async def test_bots_that_want_a_login_while_discovery_needs_none_are_an_outage(answers: bool) -> None:
    scene = Scene()
    scene.rave_answers = answers
    for mesh in reconciler(scene, 3):
        scene.records[mesh].worker.disconnect("401")
        await scene.lessons.apply(mesh, ended(ExitStatus.LOGIN_NEEDED))
    assert bool(scene.outages.sentences()) is answers, "else it is the session, which is said in its own words"


async def test_an_account_that_runs_in_two_places_blocks_no_mesh() -> None:
    scene = Scene()
    lesson = await learnt(scene, ended(ExitStatus.ELSEWHERE))
    assert lesson == ExitVerdict(None, "the same account is connected to it elsewhere", saved=True)
    assert scene.blocklist.added == []


@pytest.mark.parametrize(("spared", "hours"), [(1, 1), (0, 24)])
async def test_no_fault_excuses_for_ever(spared: int, hours: int) -> None:
    scene = Scene()
    others = reconciler(scene, 3 + spared)
    for minutes in range(0, 60 * 48, 10):
        scene.now = 60.0 * minutes
        fails(scene, *others[:3])
        if (await learnt(scene, ended(ExitStatus.REJECTED))).reason:
            break
    assert minutes == 60 * hours + 10


@pytest.mark.parametrize(
    ("end", "reason", "detail"),
    [
        (ended(ExitStatus.KICKED), Reason.KICKED, ""),
        (ended(ExitStatus.LEFT), Reason.LEFT, ""),
        (ended(ExitStatus.GONE), Reason.GONE, ""),
        (ended(ExitStatus.UNREACHABLE), Reason.CONNECTION_FAILURES, ""),
        (ended(ExitStatus.REJECTED), Reason.REJECTED, ""),
        (ended(ExitStatus.TOO_LARGE), Reason.TOO_LARGE, ""),
        (ended(ExitStatus.CONFIG), None, "its process could not use its settings"),
        (ended(ExitStatus.LOGIN_NEEDED), None, "Rave wants a new login"),
        (ended(ExitStatus.ELSEWHERE), None, "the same account is connected to it elsewhere"),
        (ended(ExitStatus.NO_SETTINGS), None, f"its process was not handed its settings: {NOT_HANDED_OVER}"),
        (CRASHED, Reason.CRASHES, CRASHED.detail),
        (RunEnd(timed_out=True), None, "its process took too long to start or to stop, and was killed"),
        (RunEnd(timed_out=True, gave_up=True), None, "its process took too long to start or to stop, and was killed"),
        (RunEnd(refused=True), None, "it was started by hand too often"),
        (RunEnd(), None, "its process failed while it was being stopped"),
    ],
)
def test_what_an_end_means(end: RunEnd, reason: Reason | None, detail: str) -> None:
    assert why_ended(end) == (reason, detail)
    assert printable(detail, 300) == detail


def test_an_end_that_has_blocked_its_mesh_already_is_not_judged_again(run: Run) -> None:
    """The disk is full, and the end is looked at after each round: to ask Rave anew would be another round."""

    async def body() -> None:
        scene = Scene()
        scene.blocklist.blocklist["a"] = Block(mesh="a", reason=Reason.CONNECTION_FAILURES, since=0, until=100)
        scene.blocklist.saved = False
        assert await learnt(scene) == ExitVerdict(Reason.CONNECTION_FAILURES, "", saved=False)
        assert (scene.asked, scene.slept) == (0, [])

    run(body())
