from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ravesvc
from ravesvc import names
from ravesvc.blocklist.model import Reason
from ravesvc.bus import Variant, errors
from ravesvc.ctl import client
from ravesvc.ctl import exit_status as status
from ravesvc.ctl.commands import blocklist, overview
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.main import main
from ravesvc.ctl.operations import running_bots
from ravesvc.ctl.ui import output
from ravesvc.errors import Code, RaveError
from ravesvc.names import ExitStatus
from ravesvc.store import export
from tests.unit.bus_fakes import open_fds
from tests.unit.conftest import BusDaemon
from tests.unit.fake_service import DUMP, WHEN_US, FakeManagerObject, FakeService, FakeStoreObject, Terminal, answer

ROOT = Path(__file__).parents[3]
ANN, BOB = 101, 102


class Piped(io.TextIOWrapper):
    """What a program writes to, or reads from, as bytes."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")


@pytest.fixture
def bus(bus_address: str, utc: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the bus that ravectl calls."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    return bus_address


@pytest.fixture
def manager(bus: str) -> Iterator[FakeManagerObject]:
    fake = FakeService(bus)
    yield fake.manager
    fake.stop()


# Admins and permissions


def test_admins(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["admin", "list"]) == 0
    assert "no admins" in capsys.readouterr().out
    manager.admins = [[ANN, ANN, WHEN_US], [BOB, ANN, 0], [1030, 0, WHEN_US]]
    assert main(["admin", "list"]) == 0
    assert capsys.readouterr().out == (
        "USER  ADDED BY  SINCE\n"
        "101   operator  2024-01-08 10:00:00 UTC\n"
        "102   101       -\n"
        "1030  -         2024-01-08 10:00:00 UTC\n"
    )  # fmt: skip
    for changed, added, removed in ((True, "now", "no longer an"), (False, "already", "is no")):
        manager.changed = changed
        assert main(["admin", "add", str(ANN)]) == 0
        assert added in capsys.readouterr().out
        assert main(["admin", "remove", str(BOB)]) == 0
        assert removed in capsys.readouterr().out
    assert manager.asked[2:] == [("AddAdmin", ANN), ("RemoveAdmin", BOB)] * 2
    # Polkit may ask the user.
    assert manager.interactive == {True}


def test_a_user_is_forgotten(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["forget", str(ANN)]) == 0
    assert capsys.readouterr().out == f"Removed what was kept of user {ANN}: 3 entries.\n"
    assert manager.asked == [("ForgetUser", ANN)]
    with pytest.raises(SystemExit):
        main(["forget", "ann"])


def test_ignored_users(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ignore", "list"]) == 0
    assert "No user is ignored" in capsys.readouterr().out
    manager.ignored = [[ANN, 0, WHEN_US], [BOB, ANN, 0]]
    assert main(["ignore", "list"]) == 0
    assert capsys.readouterr().out == (
        "USER  ADDED BY  SINCE\n"
        "101   operator  2024-01-08 10:00 UTC\n"
        "102   101       -\n"
    )  # fmt: skip
    for changed, added, removed in ((True, "now", "no longer on"), (False, "already", "not on")):
        manager.changed = changed
        assert main(["ignore", "add", str(ANN)]) == 0
        assert added in capsys.readouterr().out
        assert main(["ignore", "remove", str(BOB)]) == 0
        assert removed in capsys.readouterr().out
    assert manager.asked[2:] == [("IgnoreUser", ANN), ("UnignoreUser", BOB)] * 2


def test_a_code_to_claim_with_stands_on_a_line_of_its_own(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["admin", "claim"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "    ?claim ABCD-2345" in said
    assert "Within 10 minutes" in said[0]
    assert manager.asked == ["IssueClaim"]


A_MESH, ANOTHER = "aaaaaaaa-2222-4333-8444-555555555555", "abbbbbbb-2222-4333-8444-555555555555"


def changed(manager: FakeManagerObject) -> None:
    """Changes from two rooms: two of long ago, and two of now."""
    now = int(time.time() * 1_000_000)
    manager.chat_changes = [
        [1, WHEN_US, A_MESH, ANN, "made user 102 an admin", True],
        [2, WHEN_US, A_MESH, 0, "had user 7 ignored", False],
        [3, now, ANOTHER, ANN, "removed the admin 102", False],
        [4, now, A_MESH, ANN, "set the command\x1b ping to be for all users", False],
    ]


def test_changes_from_rooms_are_listed(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["admin", "undo"]) == 0
    assert capsys.readouterr().out == "Nothing was changed from rooms.\n"
    changed(manager)
    assert main(["admin", "undo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NUMBER", "WHEN", "MESH", "USER", "CHANGE"]
    assert lines[1] == f"1       2024-01-08 10:00:00 UTC  {A_MESH}  101   made user 102 an admin (undone)"
    assert lines[2] == f"2       2024-01-08 10:00:00 UTC  {A_MESH}  -     had user 7 ignored"
    assert lines[4].endswith("set the command? ping to be for all users")
    assert manager.asked == ["ListChatChanges"] * 2


@pytest.mark.parametrize(
    ("chosen", "numbers"),
    [
        (["3"], [3]),
        (["2", "4", "2"], [4, 2]),
        (["--mesh", "aaaa"], [4, 2]),
        (["--mesh", ANOTHER], [3]),
        (["--since", "1h"], [4, 3]),
        (["--mesh", A_MESH, "--since", "1h"], [4]),
        (["--mesh", "The Film"], [4, 2]),
        (["--mesh", A_MESH.replace("a", "c")], []),
    ],
)
def test_changes_from_rooms_are_undone_the_last_one_first(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], chosen: list[str], numbers: list[int]
) -> None:
    changed(manager)
    manager.meshes = [[A_MESH, "the film", "connected", "/"]]
    assert main(["admin", "undo", *chosen]) == 0
    assert manager.asked == ["ListChatChanges", *(("UndoChatChange", number) for number in numbers)]
    said = capsys.readouterr().out.splitlines()
    assert said == [f"Change {number} is undone." for number in numbers] or not numbers
    assert said


def test_a_change_that_can_not_be_undone_keeps_none_of_the_others(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(manager)
    manager.conflicts = {3}
    manager.changed = False
    assert main(["admin", "undo", "2", "3", "4"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "Change 4 is undone already.\nChange 2 is undone already.\n"
    assert "change 3 can't be undone: it was changed again" in printed.err


@pytest.mark.parametrize("chosen", [["3", "--since", "1h"], ["--mesh", "a"]])
def test_changes_that_are_not_meant_for_sure_stay(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], chosen: list[str]
) -> None:
    changed(manager)
    assert main(["admin", "undo", *chosen]) == 1
    assert manager.asked == ["ListChatChanges"]
    assert "Traceback" not in capsys.readouterr().err
    for wrong in (["-1"], ["x"], ["--since", "0"]):
        with pytest.raises(SystemExit):
            main(["admin", "undo", *wrong])


def test_permissions(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["perm", "list"]) == 0
    assert "Nothing is set" in capsys.readouterr().out
    manager.permissions = [["leave", False, "goes\x1b[2J", WHEN_US], ["ping", True, "", WHEN_US]]
    assert main(["perm", "list"]) == 0
    assert capsys.readouterr().out == (
        "COMMAND  FOR    SINCE                    DESCRIPTION\n"
        "leave    user   2024-01-08 10:00:00 UTC  goes?[2J\n"
        "ping     admin  2024-01-08 10:00:00 UTC\n"
    )
    manager.asked.clear()
    assert main(["perm", "set", "ping", "admin"]) == 0
    assert "admins only" in capsys.readouterr().out
    assert main(["perm", "set", "leave", "user"]) == 0
    assert "all users" in capsys.readouterr().out
    assert main(["perm", "unset", "ping"]) == 0
    assert "default permission now" in capsys.readouterr().out
    manager.changed = False
    assert main(["perm", "unset", "ping"]) == 0
    assert "Nothing was set" in capsys.readouterr().out
    unset = ("RemovePermission", "ping")
    assert manager.asked == [("SetPermission", "ping", True), ("SetPermission", "leave", False), unset, unset]


# The store


def test_refresh(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["refresh"]) == 0
    assert capsys.readouterr().out == "Read again: 2 admins, 1 command permission.\nNo bot has loaded a plugin.\n"
    greet, games = "/etc/rave/commands.d/greet.py", "games_for_rave"
    found = [[greet, "0aa0", "greet", 1], [greet, "1bb1", "greet", 2], [games, "1.2", "", 3]]
    manager.status["Plugins"] = Variant("a(sssu)", found)
    manager.status["CommandErrors"] = Variant("as", ["greet.py, line 3: SyntaxError: invalid syntax"])
    assert main(["refresh"]) == 1
    said = capsys.readouterr()
    loaded = f"Plugin loaded: {greet}\nPlugin loaded: {games}\n"
    assert said.out == f"Read again: 2 admins, 1 command permission.\n{loaded}"
    assert said.err == "ravectl: plugins fail: greet.py, line 3: SyntaxError: invalid syntax\n"


def test_info(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    def told() -> dict[str, str]:
        assert main(["store", "info"]) == 0
        lines = (line.split(":", 1) for line in capsys.readouterr().out.splitlines())
        return {name: value.strip() for name, value in lines}

    manager.set_status(admins=2, permissions=7, account=True, login=False)
    assert told() == {
        "Store": "embedded",
        "Trouble": "none",
        "Account": "known",
        "Admins": "2",
        "Command permissions": "7",
        "Login": "not needed",
    }
    manager.set_status()
    manager.status["StoreError"] = manager.status["StoreError"]._replace(value="the store does not answer")
    assert told()["Trouble"] == "the store does not answer"
    assert told()["Account"] == "none"
    assert told()["Login"] == "needed: run ravectl login"
    manager.set_status(step="waiting")
    assert told()["Login"] == "under way (waiting)"


def test_export_to_a_file(manager: FakeManagerObject, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "store.json"
    file.write_text("former")
    file.chmod(0o644)
    assert main(["store", "export", str(file)]) == 0
    assert file.read_text() == DUMP
    assert file.stat().st_mode & 0o777 == 0o600
    out = capsys.readouterr().out
    assert "as you would a password" in out
    assert "version" not in out


@pytest.mark.parametrize("root", [True, False])
def test_export_to_standard_output(manager: FakeManagerObject, monkeypatch: pytest.MonkeyPatch, root: bool) -> None:
    manager.may_save = root
    for arguments in ([], ["-"]):
        out = Piped()
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["store", "export", *arguments]) == 0
        assert out.buffer.getvalue() == DUMP.encode()  # type: ignore[attr-defined]


def test_a_terminal_gets_no_tokens(
    manager: FakeManagerObject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    assert main(["store", "export"]) == 1
    assert "hint: name a file" in capsys.readouterr().err
    assert not screen.getvalue()
    assert not manager.asked


@pytest.mark.parametrize("kind", ["link", "device", "directory", "nowhere"])
def test_nothing_but_a_file_is_replaced(
    manager: FakeManagerObject, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "device")
    path = tmp_path / kind / "file" if kind == "nowhere" else tmp_path / kind
    assert main(["store", "export", str(path)]) == 1
    error = capsys.readouterr().err
    assert str(path) in error
    assert ("can't be written: No such file" if kind == "nowhere" else "no regular file") in error
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "kept"


def test_import_into_an_empty_store(
    manager: FakeManagerObject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "store.json"
    file.write_text(DUMP)
    assert main(["store", "import", str(file)]) == 0
    said = "The store is replaced: 1 admin, 3 command permissions.\nThe blocklist has 5 entries.\n"
    assert capsys.readouterr().out == said
    assert manager.asked == ["GetStatus", ("Import", DUMP)]


def test_an_account_that_is_not_in_the_store_is_not_asked_about(manager: FakeManagerObject, tmp_path: Path) -> None:
    manager.set_status(account=False, login=False)
    (tmp_path / "file").write_text(DUMP)
    assert main(["store", "import", str(tmp_path / "file")]) == 0


def test_import_from_standard_input(manager: FakeManagerObject, monkeypatch: pytest.MonkeyPatch) -> None:
    manager.set_status(admins=1)
    monkeypatch.setattr(sys, "stdin", Piped(DUMP.encode()))
    assert main(["store", "import", "-", "--yes"]) == 0
    assert manager.asked[-1] == ("Import", DUMP)


@pytest.mark.parametrize("status", [{"admins": 1}, {"permissions": 1}, {"account": True, "login": True}])
@pytest.mark.parametrize("source", ["file", "-"])
def test_nothing_is_replaced_unasked(
    manager: FakeManagerObject,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    status: dict[str, int],
    source: str,
) -> None:
    manager.set_status(**status)  # type: ignore[arg-type]
    (tmp_path / "file").write_text(DUMP)
    monkeypatch.setattr(sys, "stdin", Piped(DUMP.encode()))
    assert main(["store", "import", source if source == "-" else str(tmp_path / "file")]) == 1
    error = capsys.readouterr().err
    assert "not empty" in error
    assert "--yes" in error
    assert manager.asked == ["GetStatus"]


@pytest.mark.parametrize(
    ("text", "done"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_a_terminal_is_asked(
    manager: FakeManagerObject,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    done: bool,
) -> None:
    manager.set_status(admins=2, permissions=1, account=True)
    (tmp_path / "file").write_text(DUMP)
    answer(monkeypatch, text)
    assert main(["store", "import", str(tmp_path / "file")]) == (0 if done else 1)
    heard = capsys.readouterr()
    assert "(2 admins, 1 command permission, the account)? [y/N]" in heard.err
    assert ("Nothing is changed" in heard.out) is not done
    assert (("Import", DUMP) in manager.asked) is done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"\xff", "no UTF-8"), (b"x" * (48 * 1024**2 + 1), "at most 48 MiB")],
    ids=["missing", "no text", "too long"],
)
def test_a_file_that_can_not_be_imported(
    manager: FakeManagerObject, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    file = tmp_path / "store.json"
    if content is not None:
        file.write_bytes(content)
    assert main(["store", "import", str(file)]) == 1
    assert words in capsys.readouterr().err
    assert not manager.asked


@pytest.mark.slow
def test_the_service_takes_the_longest_file(manager: FakeManagerObject, tmp_path: Path) -> None:
    text = "x" * export.MAX_FILE_BYTES
    (tmp_path / "file").write_text(text)
    assert main(["store", "import", str(tmp_path / "file")]) == 0
    assert manager.asked[-1] == ("Import", text)


@pytest.mark.parametrize("error", [None, RaveError(Code.BAD_DATA, "the export has version 2, not 1")])
def test_what_is_imported_stays_nowhere(
    manager: FakeManagerObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RaveError | None
) -> None:
    made = []
    create = os.memfd_create

    def memfd_create(name: str) -> int:
        made.append(create(name))
        # The status was asked for before.
        manager.error = error
        return made[-1]

    monkeypatch.setattr(os, "memfd_create", memfd_create)
    (tmp_path / "file").write_text(DUMP)
    assert main(["store", "import", str(tmp_path / "file")]) == (1 if error else 0)
    (descriptor,) = made
    assert f"{descriptor} /memfd:store (deleted)" not in open_fds()


# Failures


def test_nobody_there(bus: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["admin", "list"], ["login", "a@b.example"], ["store", "export", "-"]):
        assert main(command) == Exit.NOT_RUNNING
        heard = capsys.readouterr()
        assert heard.err == "ravectl: rave-orchestrator is not running\nhint: systemctl start rave-orchestrator\n"
        assert not heard.out


@pytest.mark.parametrize("command", ["status", "explain abc", "roll", "admin claim", "login a@b.example"])
def test_every_command_names_the_mistake_over_which_the_service_has_ended(
    bus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    async def failed(_: Any) -> dict[str, Any]:
        return {
            "ActiveState": "failed",
            "Result": "exit-code",
            "ExecMainCode": 1,
            "ExecMainStatus": ExitStatus.CONFIG,
        }

    file = tmp_path / "rave.yaml"
    file.write_text("max_proceses: 3\n")
    monkeypatch.setattr(running_bots, "service_unit", failed)
    monkeypatch.setattr(names, "CONFIG_FILE", str(file))
    assert main(command.split()) == Exit.NOT_RUNNING
    said = capsys.readouterr().err
    assert "its configuration has a mistake" in said
    assert f"{file}:1: max_proceses is not an option" in said
    file.unlink()
    main(command.split())
    assert "max_proceses" not in capsys.readouterr().err, "who may not read it is told none of it"


def test_monitoring_sees_that_nobody_is_there(bus: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--check"]) == 2
    assert capsys.readouterr().out == "RAVE CRITICAL - rave-orchestrator is not running | bots=0\n"
    assert main(["status"]) == Exit.NOT_RUNNING
    heard = capsys.readouterr()
    assert heard.err == "ravectl: rave-orchestrator is not running\nhint: systemctl start rave-orchestrator\n"
    assert not heard.out
    assert main(["status", "--json"]) == Exit.NOT_RUNNING


def test_monitoring_sees_that_nobody_can_be_asked(
    bus: str, bus_daemon: BusDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    bus_daemon.process.kill()
    bus_daemon.process.wait()
    assert main(["status", "--check"]) == 3
    assert capsys.readouterr().out.startswith("RAVE UNKNOWN - the system bus can't be reached")


def test_monitoring_sees_a_service(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["status", "--check"]) == 3, "it does not say why no mesh is started"
    manager.status |= {"Obstacle": Variant("s", "log in"), "LastDiscoveryTimestamp": Variant("t", 1)}
    assert main(["status", "--check"]) == 2
    assert "RAVE CRITICAL - log in | meshes=0" in capsys.readouterr().out
    manager.error = RaveError(Code.ACCESS_DENIED, "no")
    assert main(["status", "--check"]) == 3
    monkeypatch.setattr(overview, "_CHECK_CALL_TIMEOUT_S", 0.0)
    assert main(["status", "--check"]) == 2
    assert "CRITICAL - rave-orchestrator does not answer" in capsys.readouterr().out


def test_no_bus(bus: str, bus_daemon: BusDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    bus_daemon.process.kill()
    bus_daemon.process.wait()
    assert main(["refresh"]) == Exit.NOT_RUNNING
    error = capsys.readouterr().err
    assert "the system bus can't be reached" in error
    assert bus not in error


@pytest.mark.parametrize(
    ("error", "exit_status", "words"),
    [
        (RaveError(Code.LAST_ADMIN, "the last admin stays", hint="add one"), 1, "the last admin stays (add one)"),
        (RaveError(Code.ACCESS_DENIED, "AddAdmin needs org.ravesvc.Rave1.admins"), 4, "you may not do that"),
        (RaveError(Code.TIMEOUT, "Rave does not answer"), 1, "Rave does not answer"),
    ],
)
def test_the_service_refuses(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], error: RaveError, exit_status: int, words: str
) -> None:
    manager.error = error
    assert main(["admin", "add", str(ANN)]) == exit_status
    heard = capsys.readouterr()
    assert heard.err.startswith(f"ravectl: {words}\n")
    assert "org." not in heard.err
    assert not heard.out


def test_a_service_of_another_version(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(FakeStoreObject.methods, "Refresh")
    assert main(["refresh"]) == 1
    error = capsys.readouterr().err
    assert "does not understand this ravectl" in error
    assert "org." not in error


def test_a_service_that_does_not_answer(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: FakeManagerObject) -> None:
        await asyncio.sleep(0.3)

    manager.login_script = hang
    monkeypatch.setattr("ravesvc.ctl.client._CALL_TIMEOUT_S", 0.05)
    assert main(["login", "a@b.example"]) == 1
    assert "rave-orchestrator does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("ServiceUnknown", Code.NOT_RUNNING, "gone away"),
        ("NameHasNoOwner", Code.NOT_RUNNING, "gone away"),
        ("NoReply", Code.NOT_RUNNING, "gone away"),
        ("Timeout", Code.TIMEOUT, "does not answer"),
        ("AccessDenied", Code.ACCESS_DENIED, "you may not"),
        ("InteractiveAuthorizationRequired", Code.ACCESS_DENIED, "you may not"),
        ("UnknownObject", Code.BUS, "does not understand"),
        ("InvalidArgs", Code.BUS, "does not understand"),
    ],
)
@pytest.mark.parametrize("said", ["", "No such thing as org.example.Thing"])
def test_the_words_of_the_bus_are_not_for_people(name: str, code: Code, words: str, said: str) -> None:
    text = "Message recipient of org.example.Thing"
    told = client._for_operator(errors.failure(f"org.freedesktop.DBus.Error.{name}", text, "Refresh", said=said))
    assert told.code is code
    assert words in told.message
    assert "org." not in str(told)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["admin"],
        ["nothing"],
        ["admin", "add"],
        ["admin", "add", "0"],
        ["admin", "add", "-5"],
        ["admin", "add", "ann"],
        ["admin", "add", "1.5"],
        ["admin", "add", "²"],
        ["admin", "add", str(2**63)],
        ["admin", "add", "9" * 5000],
        ["perm", "set", "ping", "nobody"],
        ["perm", "set", "\udcff", "user"],
        ["login", "a\nb"],
        ["store", "import"],
    ],
)
def test_a_wrong_command_line(bus: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as e:
        main(arguments)
    assert e.value.code == Exit.USAGE
    assert "usage: ravectl" in capsys.readouterr().err


def test_the_largest_user_id(manager: FakeManagerObject) -> None:
    assert main(["admin", "add", str(2**63 - 1)]) == 0


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in ((["--version"], ravesvc.__version__), (["--help"], "login"), (["perm", "-h"], "unset")):
        with pytest.raises(SystemExit) as e:
            main(arguments)
        assert e.value.code == 0
        assert words in capsys.readouterr().out


def test_statuses() -> None:
    assert status.of(RaveError(Code.NOT_RUNNING, "x")) == 3
    assert status.of(RaveError(Code.ACCESS_DENIED, "x")) == 4
    assert status.of(RaveError(Code.BUS, "x")) == 1


def test_hostile_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_failure(RaveError(Code.BUS, "one\ntwo\x1b[2J", hint="three\r"))
    assert capsys.readouterr().err == "ravectl: one?two?[2J\nhint: three?\n"
    output.print_error("one\ntwo\x1b[2J")
    assert capsys.readouterr().err == "ravectl: one?two?[2J\n"


# As a program


def ravectl(bus: str, *arguments: str, zone: str = "UTC0", **options: object) -> subprocess.Popen[str]:
    environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus, "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment["TZ"] = zone
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from ravesvc.ctl.main import main; sys.exit(main())", *arguments],
        env=environment,
        text=True,
        encoding="utf-8",
        stderr=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.process
def test_a_terminal_that_knows_few_characters(bus: str, manager: FakeManagerObject) -> None:
    manager.permissions = [["ping", False, "Zoë", 0]]
    said, error = ravectl(bus, "perm", "list", stdout=subprocess.PIPE).communicate(timeout=20)
    assert "Zo?" in said, error
    assert not error


@pytest.mark.process
@pytest.mark.parametrize("zone", ["IST-5:30", "UTC0"])
def test_lists_and_the_sentences_of_the_service_have_one_zone(
    bus: str, manager: FakeManagerObject, zone: str
) -> None:
    manager.admins = [[ANN, ANN, WHEN_US]]
    listed, error = ravectl(bus, "admin", "list", zone=zone, stdout=subprocess.PIPE).communicate(timeout=20)
    assert not error
    since = re.search(r"operator +(\S+) (\S+) (\S+)", listed)
    assert since, listed
    # The service has no TZ.
    code = f"from ravesvc.common import dates; print(dates.in_sentence({WHEN_US // 1_000_000}))"
    said = subprocess.check_output([sys.executable, "-c", code], env={}, text=True)
    assert said.startswith(f"{since[1]} at {since[2]}:")
    assert said.endswith(f" {since[3]}\n")


@pytest.mark.process
def test_a_reader_that_goes_away(bus: str, manager: FakeManagerObject) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = ravectl(bus, "store", "info", stdout=writer)
    os.close(writer)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert not error


@pytest.mark.process
def test_what_it_imports() -> None:
    code = "import ravesvc.ctl.main, sys; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={})
    modules = set(said.stdout.split())
    # They cost start-up time, and ravectl works without them.
    assert not modules & {"yaml", "pymongo", "sqlite3", "pystemd", "urllib3", "websockets", "tempfile"}
    # Needed as soon as the service is asked for something, and three quarters of the time without them.
    assert not modules & {"asyncio", "dbus_next", "dbus_fast", "subprocess"}
    assert not [
        name for name in modules if re.match(r"ravesvc\.(api|bot|bus|mesh|orchestrator|room|simulator|store)", name)
    ]


def test_the_reasons_of_a_block_are_those_of_the_service() -> None:
    assert tuple(Reason) == blocklist.REASONS


def test_the_manual_page_lists_every_exit_status() -> None:
    text = (ROOT / "packaging/man/ravectl.1.in").read_text()
    assert {int(number) for number in re.findall(r"^\.It (\d+)$", text, re.M)} == set(Exit)
    # But for the page that describes it.
    assert names.BUS_NAME not in text.replace(f".Xr {names.BUS_NAME} 5", "")
