from __future__ import annotations

from typing import Any

import pytest

from ravesvc.api.models import Mesh
from ravesvc.blocklist.model import Block, MeshMemory, Reason
from ravesvc.core.explain import ExplainInput, details, explain
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.plan import Action, Decision
from ravesvc.core.run_state import RunEnd, RunPhase, RunState
from ravesvc.errors import Code, RaveError
from ravesvc.names import ExitStatus

pytestmark = pytest.mark.usefixtures("utc")

FILM = Mesh("m", "server.example", "A film", True, ())
UP = RunState(phase=RunPhase.RUNNING, process=7, active_state="active", sub_state="running")
STARTING = RunState(phase=RunPhase.STARTING, process=7, active_state="activating", sub_state="start")
RESTARTING = RunState(
    phase=RunPhase.WAITING,
    restarts=2,
    last_exit="signal SIGKILL",
    active_state="activating",
    sub_state="auto-restart",
)
FAILED = RunState(
    phase=RunPhase.ENDED, end=RunEnd(status=ExitStatus.KICKED), active_state="failed", sub_state="failed"
)

KEEP = Decision("m", Action.KEEP, "discovery lists it, and it runs")
START = Decision("m", Action.START, "discovery lists it")
FULL = Decision("m", Action.SKIP, "max_processes (1) is reached")
RESTING = Decision("m", Action.SKIP, "it has ended; a later round of discovery starts it again")
KICKED = Decision("m", Action.SKIP, "the bot was kicked")

SECOND_US = 1_000_000
BEGIN, END = "on 1970-01-01 at 00:00:40 UTC", "on 1970-01-01 at 00:01:30 UTC"
LISTED = "Discovery lists it as an invitation, last read on 1970-01-01 at 00:00:50 UTC."
DEAD = "Its unit is inactive (dead)."


def block(reason: Reason, **values: Any) -> Block:
    return Block(**{"mesh": "m", "reason": reason, "since": 1, "until": None, **values})


def facts(
    *,
    run: RunState | None = None,
    worker: WorkerState | None = None,
    listed: Mesh | None = FILM,
    blocked: Block | None = None,
    decision: Decision | None = None,
    last_exit: str = "",
    **known: Any,
) -> ExplainInput:
    """A mesh that is listed, was last read 50 seconds after 1970, and is not doing anything."""
    record = MeshState(
        "m",
        listed=listed,
        block=blocked,
        run=run or RunState(),
        worker=worker or WorkerState(),
        decision=decision,
        last_exit=last_exit,
    )
    usual: dict[str, Any] = {
        "memory": MeshMemory(),
        "retry": 0,
        "blocked_since": 0,
        "last_discovery": 50 * SECOND_US,
        "discovery_error": None,
        "outdated": False,
        "silence": 0.0,
    }
    return ExplainInput(record=record, decision=decision, **(usual | known))


def connected() -> WorkerState:
    return WorkerState(ready=True, connected=True)


def test_a_mesh_that_is_connected_needs_few_words() -> None:
    assert explain(facts(run=UP, worker=connected(), decision=KEEP, silence=4.4)) == [
        "Mesh m (A film) is connected.",
        LISTED,
        "Its unit is active (running).",
        "Its process answered 4 s ago.",
    ]


def test_a_mesh_is_named_by_its_title_if_it_has_one() -> None:
    for listed in (None, Mesh("m", None, "", False, ())):
        said = explain(facts(run=UP, worker=connected(), decision=KEEP, listed=listed))
        assert said[0] == "Mesh m is connected."
    assert said[1] == "Discovery lists it as a mesh that is open to the bot, last read on 1970-01-01 at 00:00:50 UTC."


def test_a_kick_is_told_with_whoever_has_heard_of_it_and_what_to_do() -> None:
    known = facts(
        blocked=block(Reason.KICKED),
        blocked_since=40 * SECOND_US,
        decision=KICKED,
        last_exit="exit status 80 (kicked)",
    )
    assert explain(known) == [
        "Mesh m (A film) is blocked: the bot was kicked.",
        LISTED,
        f"It was put on the blocklist {BEGIN}, by service: the bot was kicked.",
        "Its unit is inactive (dead); its last process ended with exit status 80 (kicked).",
        "Next: nothing, until it is unblocked (ravectl blocklist remove m), and the bot is invited again.",
    ]


def test_a_block_that_ends_is_told_with_the_next_try_and_how_often_it_was() -> None:
    failures = block(Reason.CONNECTION_FAILURES, detail="no route to host", until=90, count=3)
    known = facts(
        blocked=failures,
        blocked_since=40 * SECOND_US,
        retry=90 * SECOND_US,
        memory=MeshMemory(blocks=3, last_error="no route to host"),
        decision=Decision("m", Action.SKIP, failures.describe()),
    )
    assert explain(known) == [
        "Mesh m (A film) is blocked: it could not be reached: no route to host.",
        LISTED,
        f"It was put on the blocklist {BEGIN}, by service: it could not be reached: no route to host, "
        "3 times in a row.",
        DEAD,
        f"Next: it is tried again {END}.",
    ]


@pytest.mark.parametrize("actor", ["systemctl", "ann"])
def test_a_hold_is_told_with_whoever_has_stopped_it(actor: str) -> None:
    held = block(Reason.HELD, actor=actor)
    said = explain(
        facts(blocked=held, blocked_since=40 * SECOND_US, decision=Decision("m", Action.SKIP, held.describe()))
    )
    assert said[0] == "Mesh m (A film) is held: it was stopped by an operator."
    assert f"It was stopped {BEGIN}, by {actor}, and is held until it is started." in said
    assert said[-1] == "Next: nothing, until it is started: ravectl start m."


def test_a_mesh_that_has_no_place_is_told_what_it_waits_for_once() -> None:
    assert explain(facts(decision=FULL)) == [
        "Mesh m (A film) is stopped: max_processes (1) is reached.",
        LISTED,
        DEAD,
    ]


def test_a_mesh_whose_process_has_ended_by_itself_waits_for_a_round() -> None:
    worker = WorkerState(last_error="Rave does not answer")
    known = facts(worker=worker, decision=RESTING, last_exit="exit status 83 (unreachable)")
    assert explain(known) == [
        "Mesh m (A film) is stopped: Rave does not answer.",
        LISTED,
        "Its unit is inactive (dead); its last process ended with exit status 83 (unreachable).",
        "Next: nothing, because it has ended; a later round of discovery starts it again.",
    ]


def test_a_mesh_that_is_about_to_be_started() -> None:
    said = explain(facts(decision=START))
    assert said[0] == "Mesh m (A film) is stopped: discovery lists it."
    assert said[-1] == "Next: it is started."


def test_a_crash_loop_is_systemds() -> None:
    known = facts(run=RESTARTING, decision=KEEP, last_exit="signal SIGKILL")
    assert explain(known) == [
        "Mesh m (A film) is restarting.",
        LISTED,
        "Its unit is activating (auto-restart), restarted 2 times; its last process ended with signal SIGKILL.",
        "Next: systemd starts it again in a moment.",
    ]


def test_attempts_that_have_failed_are_counted() -> None:
    worker = WorkerState(ready=True, last_error="no route to host")
    known = facts(
        run=UP,
        worker=worker,
        decision=KEEP,
        memory=MeshMemory(failures=2, last_error="no route to host"),
        silence=1.0,
    )
    assert explain(known) == [
        "Mesh m (A film) is disconnected: no route to host.",
        LISTED,
        "2 failed attempts since a connection last held: no route to host.",
        "Its unit is active (running).",
        "Its process answered 1 s ago.",
        "Next: its process goes on trying to connect.",
    ]


def test_a_process_that_starts_goes_on() -> None:
    said = explain(facts(run=STARTING, decision=KEEP))
    assert said[0] == "Mesh m (A film) is starting."
    assert said[-1] == "Next: its process goes on trying to connect."


def test_a_failed_unit_is_examined_first() -> None:
    examined = Decision("m", Action.SKIP, "its last run is being examined")
    assert explain(facts(run=FAILED, decision=examined, last_exit="exit status 80 (kicked)")) == [
        "Mesh m (A film) is failed: its last run is being examined.",
        LISTED,
        "Its unit is failed (failed); its last process ended with exit status 80 (kicked).",
    ]


def test_while_discovery_fails_what_was_known_goes_on() -> None:
    error = RaveError(Code.SERVER_ERROR, "Rave answered 500", hint="wait")
    said = explain(facts(run=UP, worker=connected(), decision=KEEP, discovery_error=error))
    assert said[1:3] == [LISTED, "Discovery fails now, so what was known goes on: Rave answered 500."]


def test_before_the_first_round_nobody_knows() -> None:
    undecided = Decision("m", Action.SKIP, "discovery has not answered yet")
    error = RaveError(Code.SERVER_ERROR, "Rave answered 500")
    said = explain(facts(last_discovery=0, listed=None, decision=undecided, discovery_error=error))
    assert said[:3] == [
        "Mesh m is stopped: discovery has not answered yet.",
        "Discovery has not answered yet.",
        "Discovery fails now, so what was known goes on: Rave answered 500.",
    ]


def test_a_mesh_that_is_not_listed() -> None:
    said = explain(facts(listed=None, blocked=block(Reason.OPERATOR), blocked_since=40 * SECOND_US))
    assert said[1] == "Discovery does not list it."


@pytest.mark.parametrize(
    ("missing", "unread", "listed", "words"),
    [
        (False, False, True, "Discovery lists it as an invitation, last read"),
        (True, False, False, "Discovery listed it as an invitation, but its last list, read"),
        (False, True, True, "Discovery listed it as an invitation, but its last list, read"),
    ],
)
def test_an_older_list_is_not_shown_as_todays(missing: bool, unread: bool, listed: bool, words: str) -> None:
    shown = facts(listed=Mesh("m", None, "", True, ()))
    shown.record.missing, shown.record.unread = missing, unread
    said = explain(shown)[1]
    assert said.startswith(words)
    assert ("lacks it" in said, "was not read as far as that" in said) == (missing, unread)
    assert details(shown)["Listed"] is listed


def test_an_old_process_is_told_with_the_way_to_replace_it() -> None:
    said = explain(facts(run=UP, worker=connected(), decision=KEEP, outdated=True))
    assert said[-1] == "Its process runs an older program or other settings: ravectl roll replaces it."


def test_a_mesh_that_no_plan_knows() -> None:
    assert explain(facts(listed=None)) == [
        "Mesh m is stopped.",
        "Discovery does not list it.",
        DEAD,
    ]


OPEN = Mesh("m", None, "", False, ())
REMOVE = "nothing, until it is unblocked (ravectl blocklist remove m)"


@pytest.mark.parametrize(
    ("blocked", "listed", "what"),
    [
        (block(Reason.HELD), FILM, "nothing, until it is started: ravectl start m"),
        (block(Reason.OPERATOR), FILM, REMOVE),
        (block(Reason.KICKED), None, f"{REMOVE}, and the bot is invited again"),
        (block(Reason.KICKED), OPEN, REMOVE),
        (block(Reason.LEFT, until=90), None, "it is started when the bot is invited again"),
        (block(Reason.LEFT, until=90), OPEN, f"it is tried again {END}"),
        (
            block(Reason.LEFT, until=90, actor="blocklist.json"),
            FILM,
            f"it is tried again {END}",
        ),
        (block(Reason.GONE, until=90), None, "it is started when discovery lists it again"),
        (block(Reason.CRASHES, until=90), FILM, f"it is tried again {END}"),
        (
            block(Reason.CRASHES, until=90),
            None,
            f"it is tried again {END}, if discovery lists it then",
        ),
    ],
)
def test_what_ends_a_block_is_told(blocked: Block, listed: Mesh | None, what: str) -> None:
    known = facts(
        blocked=blocked, blocked_since=40 * SECOND_US, listed=listed, retry=(blocked.until or 0) * SECOND_US
    )
    assert explain(known)[-1] == f"Next: {what}."


def test_a_process_that_does_not_answer_is_restarted() -> None:
    worker = WorkerState(ready=True, healthy=False)
    said = explain(facts(run=UP, worker=worker, decision=KEEP, silence=80.0))
    assert said[0] == "Mesh m (A film) is unhealthy: its process does not answer."
    assert "Its process answered 80 s ago." in said
    assert "restarted" in said[-1]


def test_a_process_that_has_never_answered_has_not_answered_some_time_ago() -> None:
    said = explain(facts(run=UP, worker=WorkerState(), decision=KEEP, silence=20.0))
    assert not [line for line in said if "has answered" in line]


def test_plugins_that_fail_are_named() -> None:
    worker = connected()
    worker.command_errors = ("greet.py, line 3: SyntaxError: invalid syntax",)
    said = explain(facts(run=UP, worker=worker, decision=KEEP))
    assert "Plugins fail in it: greet.py, line 3: SyntaxError: invalid syntax." in said
    assert values(facts(run=UP, worker=worker, decision=KEEP))["CommandErrors"] == [*worker.command_errors]


# For programs.


def values(known: ExplainInput) -> dict[str, Any]:
    return details(known)


@pytest.mark.parametrize(("count", "words"), [(1, "1 message"), (7, "7 messages")])
def test_messages_that_a_server_does_not_show_are_told(count: int, words: str) -> None:
    worker = connected()
    worker.unshown, worker.chat_form = count, "notification"
    said = facts(run=UP, worker=worker, decision=KEEP)
    assert any(line.startswith(f"{words} not shown by the server") for line in explain(said))
    assert (values(said)["UnshownMessages"], values(said)["ChatForm"]) == (count, "notification")


def test_the_details_of_a_connected_mesh() -> None:
    assert values(facts(run=UP, worker=connected(), decision=KEEP, silence=4.4, outdated=True)) == {
        "Title": "A film",
        "State": "connected",
        "Action": "keep",
        "Reason": "discovery lists it, and it runs",
        "Listed": True,
        "Invited": True,
        "LastDiscoveryTimestamp": 50 * SECOND_US,
        "DiscoveryError": "",
        "CommandErrors": [],
        "UnshownMessages": 0,
        "ChatForm": "",
        "BlockReason": "",
        "BlockDetail": "",
        "BlockActor": "",
        "BlockSinceTimestamp": 0,
        "Blocks": 0,
        "Quarantines": 0,
        "Attempts": 0,
        "LastError": "",
        "ActiveState": "active",
        "SubState": "running",
        "Restarts": 0,
        "LastExit": "",
        "SilenceUSec": 4_400_000,
        "Outdated": True,
        "NextRetryTimestamp": 0,
    }


def test_the_details_of_a_mesh_in_trouble() -> None:
    known = facts(
        listed=None,
        blocked=block(Reason.CRASHES, detail="x" * 1000 + "\n", actor="ann\n", until=90),
        blocked_since=40 * SECOND_US,
        retry=90 * SECOND_US,
        memory=MeshMemory(failures=2, last_error="no route\nto host", blocks=4, quarantines=3),
        decision=Decision("m", Action.SKIP, "its process failed too often"),
        run=RESTARTING,
        last_exit="signal SIGKILL",
        discovery_error=RaveError(Code.NETWORK, "no route", hint="wait"),
    )
    assert values(known) == {
        "Title": "",
        "State": "restarting",
        "Action": "skip",
        "Reason": "its process failed too often",
        "Listed": False,
        "Invited": False,
        "LastDiscoveryTimestamp": 50 * SECOND_US,
        "DiscoveryError": "no route (wait)",
        "CommandErrors": [],
        "UnshownMessages": 0,
        "ChatForm": "",
        "BlockReason": "crashes",
        "BlockDetail": "x" * 300,
        "BlockActor": "ann?",
        "BlockSinceTimestamp": 40 * SECOND_US,
        "Blocks": 4,
        "Quarantines": 3,
        "Attempts": 2,
        "LastError": "no route?to host",
        "ActiveState": "activating",
        "SubState": "auto-restart",
        "Restarts": 2,
        "LastExit": "signal SIGKILL",
        "SilenceUSec": 0,
        "Outdated": False,
        "NextRetryTimestamp": 90 * SECOND_US,
    }


def test_the_last_error_is_that_of_the_process_before_that_of_the_memory() -> None:
    memory = MeshMemory(last_error="long ago")
    assert values(facts(memory=memory))["LastError"] == "long ago"
    assert values(facts(memory=memory, worker=WorkerState(last_error="just now")))["LastError"] == "just now"


def test_a_mesh_that_is_open_to_the_bot_is_no_invitation_and_without_a_plan_there_is_no_action() -> None:
    found = values(facts(listed=Mesh("m", None, "", False, ())))
    assert (found["Listed"], found["Invited"], found["Action"], found["Reason"]) == (True, False, "", "")


def test_a_file_may_hold_more_than_the_bus_takes() -> None:
    huge = 2**60
    found = values(facts(memory=MeshMemory(failures=huge, blocks=huge, quarantines=huge)))
    assert (found["Attempts"], found["Blocks"], found["Quarantines"]) == (2**32 - 1,) * 3
