from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from ravesvc.api.models import Mesh
from ravesvc.core.inventory import Inventory
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.start_policy import StartPolicy
from ravesvc.core.worker_events import (
    STABLE_AFTER_S,
    CommandErrors,
    Connected,
    ConnectionFailed,
    Disconnected,
    ErrorReported,
    Kicked,
    Left,
    PauseRequested,
    Ready,
    WorkerEvent,
    WorkerNews,
    WorkerReports,
    read_event,
)


@dataclass
class FakeBlocklist:
    """Notes what it is told."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def record_failure(self, mesh: str, attempts: int, error: str) -> None:
        self.calls.append(("failed", mesh, attempts, error))

    def reset_failures(self, mesh: str) -> None:
        self.calls.append(("held", mesh))


@dataclass
class FakeExitPolicy:
    """Notes what it is told."""

    calls: list[tuple[str, ...]] = field(default_factory=list)

    def failed(self, mesh: str, words: str) -> None:
        self.calls.append(("failed", mesh, words))

    def kicked(self, mesh: str) -> None:
        self.calls.append(("kicked", mesh))


@dataclass
class FakeOutages:
    """Notes what it is told."""

    calls: list[tuple[str, str]] = field(default_factory=list)

    def connected(self, mesh: str) -> None:
        self.calls.append(("connected", mesh))

    def disconnected(self, mesh: str) -> None:
        self.calls.append(("disconnected", mesh))

    def stable(self, mesh: str) -> None:
        self.calls.append(("stable", mesh))


class Scene:
    """Two bots that have said nothing yet, on a server of their own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.inventory = Inventory()
        self.blocklist, self.policy = FakeBlocklist(), FakeExitPolicy()
        self.starts = StartPolicy("api.test", 0)
        self.starts.outages = self.outages = FakeOutages()  # type: ignore[assignment]
        film = Mesh("a", "one.test:443", "A film", True, ())
        self.records = {"a": MeshState("a", listed=film), "b": MeshState("b")}
        self.reports = WorkerReports(
            self.records,
            self.inventory,
            self.blocklist,  # type: ignore[arg-type]
            self.starts,
            self.policy,  # type: ignore[arg-type]
            lambda: self.now,
        )
        self.news: list[WorkerNews] = []
        self.reports.news.connect(self.news.append)

    def says(self, *events: WorkerEvent, mesh: str = "a") -> WorkerState:
        for event in events:
            self.reports.apply(mesh, event)
        return self.records[mesh].worker


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize(
    ("member", "arguments", "event"),
    [
        ("Ready", [], Ready()),
        ("Connected", (), Connected()),
        ("Disconnected", ["broken"], Disconnected("broken")),
        ("ConnectionFailed", [3, "no route"], ConnectionFailed(3, "no route")),
        ("ConnectionFailed", [-1, "no route"], ConnectionFailed(0, "no route")),
        ("ConnectionFailed", [True, "no route"], ConnectionFailed(0, "no route")),
        ("RateLimited", ["one.test", 60], PauseRequested("one.test", 60)),
        ("RateLimited", ["one.test", "60"], PauseRequested("one.test", 0)),
        ("RateLimited", ["one.test", 2**40], PauseRequested("one.test", 0)),
        ("Error", ["odd"], ErrorReported("odd")),
        ("CommandErrors", [["greet.py: line 1"]], CommandErrors(["greet.py: line 1"])),
        ("Left", ["it was alone there"], Left("it was alone there")),
        ("Kicked", [], Kicked()),
        ("Kicked", ["why"], None),
        ("Connected", [1], None),
        ("Disconnected", [7], None),
        ("RateLimited", [7, 60], None),
        ("CommandErrors", ["greet.py"], None),
        ("Nonsense", [], None),
    ],
)
def test_an_event_is_read_from_what_was_sent(member: str, arguments: list[Any], event: WorkerEvent | None) -> None:
    assert read_event(member, arguments) == event


def test_whatever_a_bot_says_it_lives(scene: Scene) -> None:
    scene.records["a"].worker.healthy = False
    worker = scene.says(Ready(), ErrorReported("odd"))
    assert (worker.heard, worker.healthy, worker.ready, worker.signals) == (1000.0, True, True, 2)


def test_a_connection_is_as_old_as_it_is_however_often_it_is_told_of(scene: Scene) -> None:
    scene.says(Connected())
    scene.now += 5
    worker = scene.says(Connected())
    assert (worker.connected, worker.connected_at) == (True, 1000.0)
    assert scene.news == [WorkerNews("a", Connected())]


def test_a_connection_that_has_held_ends_the_count_of_failures(scene: Scene) -> None:
    scene.says(ConnectionFailed(2, "no route"), Connected())
    scene.now += STABLE_AFTER_S
    worker = scene.says(Disconnected("broken"))
    assert (worker.connected, worker.attempts, worker.last_error) == (False, 0, "broken")
    assert scene.blocklist.calls == [("failed", "a", 2, "no route"), ("held", "a")]


def test_one_that_breaks_before_ends_nothing(scene: Scene) -> None:
    scene.says(ConnectionFailed(2, "no route"), Connected())
    scene.now += STABLE_AFTER_S - 1
    assert scene.says(Disconnected("broken")).attempts == 2
    assert scene.blocklist.calls == [("failed", "a", 2, "no route")]


def test_a_failed_attempt_counts_at_once(scene: Scene) -> None:
    event = ConnectionFailed(2, "no\x1b route")
    worker = scene.says(event)
    assert worker.attempts == 2
    assert "\x1b" not in worker.last_error
    assert scene.policy.calls == [("failed", "a", worker.last_error)]
    assert scene.news == [WorkerNews("a", event, worker.last_error)]


def test_a_pause_of_a_host_that_is_the_bots_own_is_kept(scene: Scene) -> None:
    worker = scene.says(PauseRequested("one.test", 60))
    (news,) = scene.news
    assert news.words.startswith("one.test asks for a pause until ")
    assert worker.last_error == news.words


def test_a_pause_of_another_host_is_no_news(scene: Scene) -> None:
    worker = scene.says(PauseRequested("two.test", 60), PauseRequested("one.test", 0))
    assert (scene.news, worker.last_error) == ([], "")


def test_a_bot_that_is_connected_says_why_no_more(scene: Scene) -> None:
    assert scene.says(Connected(), PauseRequested("one.test", 60)).last_error == ""


def test_what_is_wrong_with_plugins_is_news_once_for_all_bots(scene: Scene) -> None:
    scene.says(CommandErrors(["greet.py: line 1", "add.py: line 2"]))
    assert [news.words for news in scene.news] == ["add.py: line 2", "greet.py: line 1"]
    scene.says(CommandErrors(["greet.py: line 1", "new.py: line 3"]), mesh="b")
    assert [news.words for news in scene.news[2:]] == ["new.py: line 3"]
    assert scene.says(CommandErrors([])).command_errors == ()


def test_a_kick_is_noted_before_the_bot_ends(scene: Scene) -> None:
    worker = scene.says(Connected(), Kicked())
    assert (worker.connected, worker.last_error) == (False, "")
    assert scene.policy.calls == [("kicked", "a")]
    # No list has the mesh by now.
    assert scene.records["a"].listed is None


def test_outages_know_who_is_connected_however_often_that_is_told(scene: Scene) -> None:
    scene.says(Connected(), Connected(), Disconnected("broken"))
    assert scene.outages.calls == [("connected", "a"), ("connected", "a"), ("disconnected", "a")]


def test_why_it_leaves_is_its_last_word(scene: Scene) -> None:
    assert scene.says(Left("it was alone there")).last_error == "it was alone there"
