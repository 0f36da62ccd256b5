"""ravectl for meshes: one, all together, and those that are left alone."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from ravesvc.bus import Variant
from ravesvc.common import dates
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.main import main
from ravesvc.ctl.operations import roll_run
from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator.dbus.blocklist import _MAX_USEC
from tests.unit.fake_service import WHEN_US, FakeManagerObject, FakeService, Terminal

FIRST = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
SECOND = "1c2d3e4f-ffff-4c2d-8e3f-4a5b6c7d8e9f"
BLOCKED = "9f8e7d6c-5b4a-4f3e-8d2c-1b0a4f3e2d1c"


@pytest.fixture
def service(bus_address: str, utc: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    fake = FakeService(bus_address)
    fake.manager.meshes = [[mesh, "A film", "connected", "/"] for mesh in (FIRST, SECOND)]
    fake.blocklist.entries = [[BLOCKED, "kicked", WHEN_US, 0, "", "service", 1]]
    yield fake
    fake.stop()


@pytest.fixture
def manager(service: FakeService) -> FakeManagerObject:
    return service.manager


def test_a_connection_is_replaced(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconnect", FIRST]) == 0
    assert manager.asked == [("ReconnectMesh", FIRST)]
    assert capsys.readouterr().out == f"Mesh {FIRST} (A film) is reconnecting.\n"
    manager.error = RaveError(Code.NOT_RUNNING, "the bot was kicked")
    assert main(["reconnect", FIRST]) == Exit.FAILED
    assert "the bot was kicked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "debug", "words"),
    [("on", True, "logs everything, until its next start."), ("off", False, "logs no more than usual.")],
)
def test_a_mesh_logs_more(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], word: str, debug: bool, words: str
) -> None:
    assert main(["debug", "1c2d3e4f-0", word]) == 0
    assert manager.asked == [("SetDebug", FIRST, debug)]
    assert capsys.readouterr().out == f"Mesh {FIRST} (A film) {words}\n"


def test_settings_of_a_mesh_are_shown_and_changed(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.settings = {"lang": "de", "welcome.greeting": "Hi\x1b[2J"}
    assert main(["settings", FIRST]) == 0
    assert capsys.readouterr().out == (
        "SETTING           VALUE   WHAT IT IS\n"
        "lang              de      About lang\n"
        "welcome.greeting  Hi?[2J  About welcome.greeting\n"
        "and 1 more\n"
    )
    assert main(["settings", FIRST, "lang"]) == 0
    assert capsys.readouterr().out == "lang: de\nAbout lang. It can be: any text, default\n"
    assert main(["settings", FIRST, "welcome.greeting", "Hello", "there"]) == 0
    assert capsys.readouterr().out == f"welcome.greeting of mesh {FIRST} (A film) is now: Hello there\n"
    assert manager.asked == [
        ("ListSettings", FIRST),
        ("GetSetting", FIRST, "lang"),
        ("ChangeSetting", FIRST, "welcome.greeting", "Hello there"),
    ]
    manager.error = RaveError(Code.INVALID_ARGUMENT, "there is no setting x")
    assert main(["settings", FIRST, "x", "y"]) == Exit.FAILED
    assert "there is no setting x" in capsys.readouterr().err


def test_users_of_a_mesh(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["users", FIRST]) == 0
    assert capsys.readouterr().out == "The bot sees no users there.\n"
    manager.users, manager.more = [[100000001, "Ann\x1b[2J", True], [7, "", False]], 3
    assert main(["users", FIRST]) == 0
    assert capsys.readouterr().out == (
        "USER       NAME     ADMIN\n"
        "100000001  Ann?[2J  admin\n"
        "7                   -\n"
        "and 3 more\n"
    )  # fmt: skip
    assert manager.asked == [("ListUsers", FIRST)] * 2


@pytest.mark.slow
def test_the_beginning_of_an_id_will_do(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    for beginning, mesh in (("1c2d3e4f-0", FIRST), ("1c2d3e4f-f", SECOND), ("9", BLOCKED)):
        manager.asked.clear()
        assert main(["start", beginning]) == 0
        assert manager.asked[0] == ("StartMesh", mesh)
    # One that the service does not know has to be given in full.
    unknown = "00000000-0000-4000-8000-000000000000"
    assert main(["start", unknown]) == 0
    capsys.readouterr()
    assert main(["start", "1c2d3e4f"]) == Exit.FAILED
    said = capsys.readouterr().err
    assert "2 meshes have an id that begins with 1c2d3e4f" in said
    assert f"{FIRST} (A film), {SECOND} (A film)" in said
    assert main(["start", "00"]) == Exit.FAILED
    assert "no mesh has an id that begins with 00" in capsys.readouterr().err
    for nonsense in ("", "x", "1C2D", "1c2d*", "1" * 37):
        assert main(["start", nonsense]) == Exit.FAILED
        assert "is not a mesh id" in capsys.readouterr().err


def test_of_many_candidates_some_are_shown(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    manager.meshes = [[f"{number:08x}-0000-4000-8000-000000000000", "", "", "/"] for number in range(9)]
    assert main(["stop", "0000"]) == Exit.FAILED
    said = capsys.readouterr().err
    assert "9 meshes" in said
    assert said.count("-4000-8000-") == 5
    assert "..." in said


def test_explain(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    manager.lines = ["It is connected.", "All is \x1b[2Jwell."]
    assert main(["explain", FIRST]) == 0
    assert capsys.readouterr().out == "It is connected.\nAll is ?[2Jwell.\n"


def test_plan(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 0
    assert capsys.readouterr().out == "There are no meshes.\n"
    manager.meshes = [[FIRST, "A film" + "!" * 300, "connected", "/"], [SECOND, "", "stopped", "/"]]
    manager.decisions = [[FIRST, "keep", "it runs"], [SECOND, "start", "discovery lists it"]]
    assert main(["plan"]) == 0
    assert capsys.readouterr().out == (
        f"{'MESH':36}  {'TITLE':40}  ACTION  REASON\n"
        f"{FIRST}  A film{'!' * 33}…  keep    it runs\n"
        f"{SECOND}  {'-':40}  start   discovery lists it\n"
    )


def test_discover(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    manager.found = (7, "")
    assert main(["discover"]) == 0
    assert capsys.readouterr().out == "7 meshes found.\n"
    manager.found = (7, "Rave answered 500")
    assert main(["discover"]) == Exit.FAILED
    assert "nothing changes: Rave answered 500" in capsys.readouterr().err
    assert main(["discover", "--confirm-losses"]) == 0
    assert capsys.readouterr().out == "3 meshes given up.\n"
    manager.error = RaveError(Code.LOGIN_NEEDED, "login needed")
    assert main(["discover"]) == Exit.FAILED
    assert "login needed" in capsys.readouterr().err


def test_a_refusal_is_all_that_is_said(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    manager.error = RaveError(Code.LOGIN_NEEDED, "login needed")
    assert main(["discover"]) == Exit.FAILED
    assert capsys.readouterr().err.startswith("ravectl: login needed")
    # asyncio logs an exception that was never looked at when its future is garbage.
    gc.collect()
    assert not caplog.records


def test_a_round_that_was_under_way_already_is_not_waited_for(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]
) -> None:
    async def end_of_another(manager: FakeManagerObject) -> None:
        manager.emit("DiscoveryFinished", manager.round, 1, "Rave answered 500")

    async def two_rounds(manager: FakeManagerObject) -> None:
        manager.emit("DiscoveryFinished", manager.round - 1, 2, "Rave answered 500")
        manager.emit("DiscoveryFinished", manager.round, 3, "")

    manager.round = 6
    manager.prompt_script, manager.round_script = end_of_another, two_rounds
    assert main(["discover"]) == 0
    assert capsys.readouterr().out == "3 meshes found.\n"


def test_a_later_round_will_do(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    async def later(manager: FakeManagerObject) -> None:
        manager.emit("DiscoveryFinished", manager.round + 1, 4, "")

    manager.round_script = later
    assert main(["discover"]) == 0
    assert capsys.readouterr().out == "4 meshes found.\n"


def test_a_service_that_goes_away_is_not_waited_for(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    async def vanish(_: FakeManagerObject) -> None:
        service._stop.set()

    service.manager.roll_script = vanish
    assert main(["roll"]) == Exit.NOT_RUNNING
    assert "has gone away" in capsys.readouterr().err


def test_roll(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["roll"]) == 0
    assert capsys.readouterr().out == (
        "Replacing 1 of 2: first\nReplacing 2 of 2: second\n2 outdated processes replaced; all are up to date.\n"
    )

    manager.status["ConfigNote"] = Variant("s", "rave.yaml has changed (lang): reload it")
    assert main(["roll"]) == 0
    assert capsys.readouterr().err == "rave.yaml has changed (lang): reload it\n"

    async def stop(manager: FakeManagerObject) -> None:
        manager.emit("RollProgress", 0, 2, FIRST)
        manager.emit("RollFinished", "NotRunning", f"mesh {FIRST} is not connected again")

    manager.roll_script = stop
    assert main(["roll"]) == Exit.FAILED
    assert "is not connected again" in capsys.readouterr().err
    manager.error = RaveError(Code.BUSY, "a roll is under way")
    assert main(["roll"]) == Exit.FAILED


def test_a_roll_on_a_terminal_and_its_interruption(
    manager: FakeManagerObject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)

    async def hang(manager: FakeManagerObject) -> None:
        manager.emit("RollProgress", 0, 2, FIRST)
        await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    manager.roll_script = hang
    assert main(["roll"]) == Exit.INTERRUPTED
    assert manager.asked == ["GetStatus", "Roll", "CancelRoll"]
    assert f"Replacing 1 of 2: {FIRST[:8]} (A film)" in screen.getvalue()
    assert "the roll is cancelled" in capsys.readouterr().err


async def another_roll_ends(manager: FakeManagerObject) -> None:
    manager.emit("RollProgress", 0, 1, SECOND)
    manager.emit("RollFinished", "", "")


def test_what_is_heard_of_another_roll(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    async def fail(manager: FakeManagerObject) -> None:
        manager.emit("RollFinished", "NotRunning", f"mesh {FIRST} is not connected again")

    manager.prompt_script, manager.roll_script = another_roll_ends, fail
    assert main(["roll"]) == Exit.FAILED
    heard = capsys.readouterr()
    assert heard.out == ""
    assert f"mesh {FIRST} is not connected again" in heard.err


@pytest.mark.slow
def test_a_roll_that_is_over_as_soon_as_it_is_answered(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # While ravectl is busy, the answer and all that follows come together.
    monkeypatch.setattr(roll_run.RollRun, "_progress", lambda *_: time.sleep(0.2))
    manager.prompt_script = another_roll_ends
    assert main(["roll"]) == 0
    assert capsys.readouterr().out == "2 outdated processes replaced; all are up to date.\n"


def test_ctrl_c_before_a_roll_begins_leaves_others_alone(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]
) -> None:
    async def interrupt(_: FakeManagerObject) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.1)

    manager.prompt_script = interrupt
    assert main(["roll"]) == Exit.INTERRUPTED
    assert manager.asked == ["GetStatus", "Roll"]
    assert capsys.readouterr().err == "ravectl: interrupted\n"


# The blocklist


def test_the_list(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    service.blocklist.entries.append([FIRST, "crashes", WHEN_US, WHEN_US + 3_600_000_000, "exit\x1b[2J", "alice", 12])
    service.blocklist.titles[FIRST] = "A\x1b film"
    assert main(["blocklist", "list"]) == 0
    assert capsys.readouterr().out == (
        f"{'MESH':36}  TITLE    REASON   SINCE                    UNTIL                    BY       COUNT  DETAIL\n"
        f"{BLOCKED}  -        kicked   2024-01-08 10:00:00 UTC  for ever                 service  1\n"
        f"{FIRST}  A? film  crashes  2024-01-08 10:00:00 UTC  2024-01-08 11:00:00 UTC  alice    12     exit?[2J\n"
    )
    service.blocklist.entries.clear()
    assert main(["blocklist", "list"]) == 0
    assert capsys.readouterr().out == "The blocklist is empty.\n"
    assert main(["blocklist", "stats"]) == 0
    assert capsys.readouterr().out == "Blocked: 5 (3 permanent, 2 temporary)\n"


def test_the_history(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["blocklist", "history", FIRST]) == 0
    assert capsys.readouterr().out == f"Nothing has happened to mesh {FIRST} (A film).\n"
    service.blocklist.events = [[WHEN_US, "blocked", "kicked", "service", ""]]
    assert main(["blocklist", "history", FIRST]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "2024-01-08 10:00 UTC  blocked  kicked  service"


UNINVITED = "; its bot comes back when it is invited again"


def test_adding_and_removing(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["blocklist", "add", FIRST]) == 0
    assert capsys.readouterr().out == f"Mesh {FIRST} (A film) is blocked until it is unblocked.\n"
    begun = time.time()
    assert main(["blocklist", "add", "9f", "--for", "1h 30min", "--why", "a noisy one"]) == 0
    said = capsys.readouterr().out
    ends = {dates.date(each + 5400) for each in (begun, time.time())}
    assert said in {f"Mesh {BLOCKED} is blocked until {end}: a noisy one.\n" for end in ends}
    assert manager.asked == [("Block", FIRST, 0, ""), ("Block", BLOCKED, 5_400_000_000, "a noisy one")]
    assert main(["blocklist", "remove", "9f"]) == 0
    manager.changed = False
    assert main(["blocklist", "remove", FIRST]) == 0
    assert manager.asked[2:] == [("Unblock", BLOCKED), ("Unblock", FIRST)]
    assert capsys.readouterr().out == (
        f"Mesh {BLOCKED} is no longer blocked{UNINVITED}.\nMesh {FIRST} (A film) was not blocked.\n"
    )


def test_several_entries_are_taken_out_at_once(service: FakeService) -> None:
    assert main(["blocklist", "remove", BLOCKED, FIRST]) == 0
    assert service.manager.asked == [("Unblock", BLOCKED), ("Unblock", FIRST)]


def test_all_entries_of_a_reason_are_taken_out(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    now = int(time.time() * 1_000_000)
    service.blocklist.entries = [
        [BLOCKED, "kicked", now - 60_000_000, 0, "", "service", 1],
        [FIRST, "kicked", now - 3600_000_000, 0, "", "service", 1],
        [SECOND, "rejected", now, 0, "", "service", 1],
    ]
    service.blocklist.titles = {SECOND: "Quiz\x1b night"}
    assert main(["blocklist", "remove", "--reason", "kicked", "--since", "10min"]) == 0
    assert capsys.readouterr().out == f"Mesh {BLOCKED} is no longer blocked{UNINVITED}.\n"
    assert main(["blocklist", "remove", "--reason", "rejected"]) == 0
    assert capsys.readouterr().out == f"Mesh {SECOND} (Quiz? night) is no longer blocked.\n"
    service.blocklist.entries = [[FIRST, "held", now, 0, "", "alice", 1], [BLOCKED, "left", now, 0, "", "service", 1]]
    assert main(["blocklist", "remove", FIRST, BLOCKED]) == 0
    assert capsys.readouterr().out == (
        f"Mesh {FIRST} (A film) is no longer held.\nMesh {BLOCKED} is no longer blocked{UNINVITED}.\n"
    )
    assert main(["blocklist", "remove", "--reason", "crashes"]) == 0
    assert capsys.readouterr().out.endswith("No entry matches.\n")


@pytest.mark.parametrize("words", [[], ["--since", "1h"], [FIRST, "--since", "1h"], [FIRST, "--reason", "kicked"]])
def test_what_is_to_be_taken_out_has_to_be_said_in_one_way(
    service: FakeService, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["blocklist", "remove", *words]) == Exit.FAILED
    assert "name either meshes or a reason" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["blocklist", "remove", "--reason", "boredom"])


@pytest.mark.parametrize("span", ["", "soon", "0", "500ms", "-1h"])
def test_what_is_no_time(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], span: str) -> None:
    with pytest.raises(SystemExit) as e:
        main(["blocklist", "add", FIRST, f"--for={span}"])
    assert e.value.code == Exit.USAGE
    assert "--for" in capsys.readouterr().err
    assert manager.asked == []


def test_a_time_may_be_as_long_as_the_service_takes_it(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["blocklist", "add", FIRST, "--for=36500d"]) == 0
    assert manager.asked == [("Block", FIRST, _MAX_USEC, "")]
    for span in ("36500d 1s", "99999999999d", "9" * 400):
        with pytest.raises(SystemExit) as e:
            main(["blocklist", "add", FIRST, f"--for={span}"])
        assert e.value.code == Exit.USAGE
        assert "more than a hundred years" in capsys.readouterr().err
    assert len(manager.asked) == 1


def test_restoring(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["blocklist", "restore"]) == 0
    assert "with 4 entries" in capsys.readouterr().out
    manager.error = RaveError(Code.INVALID_ARGUMENT, "there is nothing to restore")
    assert main(["blocklist", "restore"]) == Exit.FAILED
