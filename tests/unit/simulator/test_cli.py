"""The command `rave-simulator`, in process against a served simulator, and served by itself."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from ravesvc.simulator import cli as cli_module
from ravesvc.simulator import cli_commands, control
from ravesvc.simulator.cli import main
from ravesvc.simulator.client import Control
from ravesvc.simulator.fault_options import FaultOptions
from ravesvc.simulator.state_dir import StateDir
from tests.unit.marking import marks_its_tests
from tests.unit.simulator_server import Served, ask, until

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Cli = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def cli(served: Served, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a verb: exit status and lines of output, those of stderr after those of stdout."""

    def run_verb(*arguments: str) -> tuple[int, list[str]]:
        status = main(["--control", str(served.control_socket), *arguments])
        printed = capsys.readouterr()
        return status, (printed.out + printed.err).splitlines()

    return run_verb


@pytest.mark.slow
def test_a_session_at_the_terminal(cli: Cli) -> None:
    status, meshes = cli("mesh", "create", "--count", "2", "--title", "Film", "--public")
    assert (status, len(meshes)) == (0, 2)
    assert cli("invite", *meshes) == (0, [])
    assert cli("mesh", "list") == (0, [f"{mesh}  -          invited  1 user  Film" for mesh in meshes])
    assert cli("uninvite", "--all") == (0, [])
    assert cli("join", meshes[0], "bea", "cy") == (0, [])
    assert cli("part", meshes[0], "ann") == (0, [])
    assert cli("users", meshes[0]) == (0, ["100000002  bea  leader", "100000003  cy"])
    assert cli("hide", meshes[0], "--times", "2") == (0, [])
    assert cli("refuse", "--all", "--after-open", "50", "--times", "3", "--code", "4001") == (0, [])
    assert cli("option", "echo_ids", "replaced") == (0, [])
    assert cli("fail", "discovery", "--mode", "429", "--retry-after", "2", "--times", "1") == (0, [])
    state = json.loads("\n".join(cli("state")[1]))
    assert state["meshes"][meshes[1]]["refusal"] == {"status": 403, "after_open": 0.05, "code": 4001, "times": 3}
    assert state["meshes"][meshes[0]]["hidden"] == 2
    assert state["options"]["echo_ids"] == "replaced"
    assert state["faults"] == {"discovery": {"mode": "429", "times": 1, "retry_after": 2}}
    assert cli("refuse", meshes[0], "--status", "401") == (0, [])
    assert cli("accept", "--all") == (0, [])
    assert cli("drop", "--all") == (0, [])
    assert cli("crowd", "--all", "--users", "3", "--votes", "2", "--history", "5") == (0, [])
    assert cli("close", "--all", "--code", "1011", "--reason", "x", "--announced") == (0, [])
    assert cli("wait", "--gone", "--all") == (0, [])
    assert cli("remove", meshes[0]) == (0, [])
    events = [json.loads(line)["type"] for line in cli("events")[1]]
    assert events[:3] == ["created", "created", "invited"]


@pytest.mark.slow
async def test_chat_prints_answers_and_fails_without_one(
    cli: Cli, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_QUIET_S", 0.3)
    (mesh,) = served.control.create(kinds=["public"])
    assert cli("chat", mesh, "hello") == (0, [])
    assert cli("chat", mesh, "?ping", "--wait", "0.05") == (1, ["rave-simulator: no answer came within 0.05 s"])

    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        waiting = asyncio.create_task(asyncio.to_thread(cli, "chat", mesh, "?ping", "--user", "bea", "--wait", "5"))
        while (said := await until(ws, "chatMessage"))["chat"] != "?ping":
            pass
        data = {"chat": "Pong", "id": "i", "detected_lang": "en", "translations": {}, "reply": said["id"]}
        for answer in (data, {**data, "chat": "and more\nof it", "id": "j", "reply": None}):
            await ws.send(json.dumps({"notification": True, "method": "chatMessage", "data": answer}))
        assert await waiting == (0, ["Pong", "and more", "of it"])
        first = asyncio.create_task(asyncio.to_thread(cli, "chat", mesh, "?x", "--wait", "5", "--answers", "1"))
        while (said := await until(ws, "chatMessage"))["chat"] != "?x":
            pass
        for answer in ({**data, "id": "k", "reply": None}, {**data, "chat": "X", "id": "l", "reply": said["id"]}):
            await ws.send(json.dumps({"notification": True, "method": "chatMessage", "data": answer}))
        assert await first == (0, ["X"]), "replies alone"
        assert await asyncio.to_thread(cli, "wait", mesh) == (0, [])
        assert await asyncio.to_thread(cli, "wait", mesh, "--gone", "--timeout", "0") != (0, [])
        answering = asyncio.create_task(asyncio.to_thread(cli, "ask", mesh, "hi", '{"x": 1}'))
        frame = {"request": False}
        while not frame.get("request"):
            frame = json.loads(await ws.recv())
        await ws.send(json.dumps({"response": True, "id": frame["id"], "ok": True, "data": {}}))
        assert json.loads((await answering)[1][0])["ok"] is True
        assert await asyncio.to_thread(cli, "kick", mesh, "--notice", "state", "--close", "not") == (0, [])
    assert [e["user"] for e in served.control.events() if e["type"] == "chat"] == [
        *("ann", "ann", "bea", "botty", "botty"),
        *("ann", "botty", "botty"),
    ]


def test_the_help_of_option_lists_the_switches_with_what_they_take(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["option", "--help"])
    assert ended.value.code == 0
    _, _, listed = capsys.readouterr().out.partition("what they begin with):\n")
    found = [re.fullmatch(r"(\w+) +(.*) \((.*)\)", line) for line in listed.splitlines()]
    begun, options = FaultOptions().to_json(), FaultOptions()
    assert [line[1] for line in found if line] == list(begun)
    for line in found:
        assert line
        for value in (*(line[2].split(" | ") if " | " in line[2] else ()), line[3]):
            options.set(line[1], value)
    # Each has its default again; that of this one is an empty text.
    assert options.to_json() == {**begun, "refused_methods": "none"}


@pytest.mark.slow
def test_a_login_at_the_terminal(cli: Cli, served: Served) -> None:
    assert cli("wait", "--mail", "--timeout", "0") == (1, ["rave-simulator: still waiting for 1: a mail"])
    assert cli("confirm") == (1, ["rave-simulator: no mail waits (rave-simulator wait --mail)"])
    served.send_mail()
    assert cli("wait", "--mail") == (0, [])
    assert cli("confirm", "other@example.test")[0] == 1
    assert cli("confirm", "bot@example.test") == (0, [])
    served.send_mail()
    assert cli("confirm") == (0, [])
    assert cli("fail", "parse", "--mode", "503") == (0, [])
    assert cli("option", "confirm", "3") == (0, [])
    assert cli("expire", "--close") == (0, [])
    assert served.call("GET", "/users/self")[0] == 401
    assert cli("violations") == (0, [])


def test_who_is_mentioned(cli: Cli, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(Control, "chat", lambda _control, *_arguments, **named: said.append(named["mentions"]) or [])
    assert cli("chat", "mesh", "?admin @bea", "--mention", "bea", "--mention", "cy") == (0, [])
    assert cli("chat", "mesh", "?ping") == (0, [])
    assert said == [["bea", "cy"], []]


def test_a_user_reacts(cli: Cli, served: Served) -> None:
    (mesh,) = served.control.create()
    assert cli("react", mesh, "👍") == (1, ["rave-simulator: the bot has said nothing to react to"])
    assert cli("react", mesh, "👍", "--user", "bea", "--to", "m1") == (0, [])
    (event,) = (each for each in served.control.events() if each["type"] == "reaction")
    assert (event["user"], event["emoji"], event["to"]) == ("bea", "👍", "m1")


def test_violations_decide_the_exit_status(cli: Cli, served: Served) -> None:
    assert cli("violations") == (0, [])
    served.call("GET", "/nothing")
    assert cli("violations") == (1, ["GET /nothing: no such call"])


def test_a_failure_is_told_in_words_with_a_hint(cli: Cli) -> None:
    assert cli("kick", "nothing") == (1, ["rave-simulator: no mesh 'nothing'"])
    assert cli("kick") == (1, ["rave-simulator: which meshes (give ids, or --all)"])
    assert cli("ask", "x", "y", "{") == (1, ["rave-simulator: the data is not valid JSON"])
    status, (line,) = cli("fail", "discovery", "--mode", "maybe")
    assert status == 1
    assert "half-page" in line
    with pytest.raises(SystemExit) as raised:
        cli("nothing")
    assert raised.value.code == 2


def test_events_are_followed_until_the_reader_goes(cli: Cli, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.control.create()
    printed: list[str] = []

    def stop_after_two(lines: Any) -> None:
        printed.extend(lines)
        if len(printed) >= 2:
            raise BrokenPipeError
        served.control.create()

    monkeypatch.setattr(cli_commands, "_print", stop_after_two)
    assert cli("events", "--follow")[0] == 1
    assert [json.loads(line)["seq"] for line in printed] == [1, 2]


def test_events_are_followed_through_quiet_times(cli: Cli, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_commands, "_EVENTS_POLL_S", 0)
    calls = 0

    def stop_at_the_third(_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli_commands, "_print", stop_at_the_third)
    assert cli("events", "--follow")[0] == 1


def test_config_and_credentials_are_printed(
    simulator_state_dir: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state-dir", str(simulator_state_dir.directory)]
    assert main([*state, "init"]) == 0
    assert main([*state, "config", "--listen", "127.0.0.1:9000", "--discovery-interval", "1s"]) == 0
    config = capsys.readouterr().out
    assert '"https://localhost:9000"' in config
    assert 'discovery_interval: "1s"' in config
    assert main([*state, "credentials"]) == 0
    assert json.loads(capsys.readouterr().out)["userId"] == simulator_state_dir.account().session.user_id


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
@pytest.mark.parametrize("owner", [0, 65534])
def test_what_root_has_left_is_not_taken_for_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    os.chown(run, owner, -1)
    monkeypatch.setattr(cli_module, "SERVICE_SOCKET", run / "control.sock")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    mine = tmp_path / "rave-simulator"
    theirs = (cli_module.STATE_DIRECTORY, run / "control.sock")
    assert cli_module._default_paths() == (theirs if owner else (mine, mine / "control.sock"))


@pytest.mark.parametrize("address", ["8443", "localhost:", "localhost:x", "localhost:99999"])
def test_a_wrong_address_is_told_in_words(address: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--state-dir", str(tmp_path), "serve", "--listen", address]) == 1
    assert "127.0.0.1:8443" in capsys.readouterr().err


# The program itself.


def test_serving_in_this_process(simulator_state_dir: StateDir, tmp_path: Path) -> None:
    def stop_when_it_answers() -> None:
        while not (tmp_path / "c").exists():
            os.sched_yield()
        os.kill(os.getpid(), signal.SIGTERM)

    stopping = threading.Thread(target=stop_when_it_answers)
    stopping.start()
    where = ["--state-dir", str(simulator_state_dir.directory), "--control", str(tmp_path / "c")]
    assert main([*where, "serve", "--listen", "127.0.0.1:0"]) == 0
    stopping.join()


@pytest.fixture
@marks_its_tests("process")
def program(
    simulator_state_dir: StateDir, tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[str], Control, socket.socket]]:
    """`rave-simulator serve` under a service manager of ours, ready."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(20)
    process = subprocess.Popen(
        [
            *(sys.executable, "-W", "error", "-m", "ravesvc.simulator"),
            *("--state-dir", simulator_state_dir.directory, "--control", tmp_path / "c"),
            *("serve", "--listen", "127.0.0.1:0"),
        ],
        env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")},
        cwd=Path(__file__).parents[3],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert manager.recv(1000).startswith(b"READY=1\nSTATUS=A Rave on https://localhost:")
        yield process, Control(tmp_path / "c"), manager
    finally:
        process.kill()
        process.communicate()
        manager.close()


def test_the_program_serves_until_sigterm(
    program: tuple[subprocess.Popen[str], Control, socket.socket],
) -> None:
    process, control, manager = program
    control.create()
    process.send_signal(signal.SIGTERM)
    assert manager.recv(1000).startswith(b"STOPPING=1")
    _, errors = process.communicate(timeout=5)
    assert process.returncode == 0
    assert errors.splitlines()[-1].startswith("a Rave on https://localhost:")
    assert "Traceback" not in errors


def test_the_program_begins_anew_at_a_reload(
    program: tuple[subprocess.Popen[str], Control, socket.socket],
) -> None:
    process, control, manager = program
    server = control.state()["server"]
    control.create(2)
    process.send_signal(signal.SIGUSR1)
    assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert manager.recv(1000).startswith(b"READY=1\n")
    state = control.state()
    assert (state["meshes"], state["server"]) == ({}, server)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=5)
    assert process.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.process
def test_the_verbs_load_no_server() -> None:
    code = "import sys, ravesvc.simulator.cli; sys.exit('aiohttp' in sys.modules or 'asyncio' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
