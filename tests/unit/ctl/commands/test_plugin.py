"""ravectl plugin: what bots have loaded, and what a file has before they do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ravesvc import names
from ravesvc.bus import Variant
from ravesvc.common import plugin_files
from ravesvc.ctl.commands import plugin
from ravesvc.ctl.main import main
from tests.unit.fake_service import FakeManagerObject, FakeService

MESH = "11111111-2222-4333-8444-555555555555"
PLUGIN = """
from ravesvc.commands import command

@command("roll", "Rolls a die.")
async def roll(context): ...
"""


@pytest.fixture
def manager(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeManagerObject]:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    fake = FakeService(bus_address)
    fake.manager.set_status()
    yield fake.manager
    fake.stop()


def test_a_version_of_a_plugin_is_shown_with_its_meshes_and_commands(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugin", "list"]) == 0
    assert capsys.readouterr().out == "No bot has loaded a plugin.\n"
    greet = "/etc/rave/commands.d/greet.py"
    found = [[greet, "0aa0", "greet", 1], [greet, "1bb1", "greet, hi", 20], ["games", "1.2", "", 21]]
    manager.status["Plugins"] = Variant("a(sssu)", found)
    assert main(["plugin", "list"]) == 0
    assert [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()] == [
        ["PLUGIN", "VERSION", "MESHES", "COMMANDS"],
        [greet, "0aa0", "1", "greet"],
        [greet, "1bb1", "20", "greet, hi"],
        ["games", "1.2", "21", "-"],
    ]
    manager.status["CommandErrors"] = Variant("as", ["greet.py, line 3: SyntaxError: invalid syntax"])
    assert main(["plugin", "list"]) == 1
    assert capsys.readouterr().err == "ravectl: plugins fail: greet.py, line 3: SyntaxError: invalid syntax\n"


@pytest.mark.process
def test_all_files_are_checked_whatever_is_wrong_with_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "crash.py").write_text("import os; os.abort()")
    (tmp_path / "fun.py").write_text(PLUGIN)
    assert main(["plugin", "check", *(str(tmp_path / name) for name in ("crash.py", "none.py", "fun.py"))]) == 1
    out, err = capfd.readouterr()
    assert err.splitlines() == [
        f"{tmp_path}/crash.py: the process that loads it is killed by SIGABRT",
        f"{tmp_path}/none.py: it can't be read: No such file or directory",
    ]
    assert out.startswith(f"{tmp_path}/fun.py is fine.\n")
    assert main(["plugin", "check", str(tmp_path / "fun.py")]) == 0


SPY = """
import os, sys
print(sorted(os.environ))
print(os.getsid(0) == os.getpid(), os.isatty(1), sys.stdin.read())
print("\\x1b[2J")
try:
    os.fork() or os._exit(0)
    print("forked")
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.process
def test_a_file_gets_no_terminal_no_environment_and_is_bounded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "verysecret")
    (tmp_path / "spy.py").write_text(SPY)
    assert main(["plugin", "check", str(tmp_path / "spy.py")]) == 0
    environment, session, escape, forked, *_ = capfd.readouterr().out.splitlines()
    assert "TOKEN" not in environment
    assert (session, escape) == ("True False ", "?[2J")
    assert forked == ("Resource temporarily unavailable" if os.getuid() == 0 else "forked")
    (tmp_path / "loud.py").write_text("while True:\n    print('x' * 1000, flush=True)\n")
    assert main(["plugin", "check", str(tmp_path / "loud.py")]) == 1
    said = capfd.readouterr()
    assert "loud.py, line 2: OSError: [Errno 27] File too large" in said.err
    assert len(said.out) <= 256 * 1024 + 1, "and the end of the last line"


@pytest.mark.process
def test_one_that_never_ends_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plugin, "_CHECK_TIMEOUT_S", 0.01)
    (tmp_path / "fun.py").write_text(PLUGIN)
    assert main(["plugin", "check", str(tmp_path / "fun.py")]) == 1
    assert capfd.readouterr().err == f"{tmp_path}/fun.py: it is not loaded after 0.01 s\n"


@pytest.mark.process
@pytest.mark.skipif(os.getuid() != 0, reason="only root has rights to give up")
def test_root_gives_up_its_rights_before_a_file_is_executed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of root")
    secret.chmod(0o600)
    file = tmp_path / "spy.py"
    # Only root may read it, as a file that is being written.
    file.write_text(f"import os\nprint(os.getresuid(), os.getgroups())\nopen({str(secret)!r})\n")
    file.chmod(0o600)
    command = [sys.executable, "-m", "ravesvc.bot.plugin_check", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == "(65534, 65534, 65534) []\n"
    assert "line 3: PermissionError" in done.stderr


@pytest.fixture
def service(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    fake = FakeService(bus_address)
    fake.manager.meshes = [[MESH, "A film", "connected", "/"]]
    fake.manager.set_status()
    yield fake
    fake.stop()


def test_what_is_tried_is_listed(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    for state, told in (
        ("trying", r"greet.py: tried in 2 meshes until 20..-..-.. ..:.. UTC\."),
        ("in-force", r"greet.py: in force in all meshes. As root, run ravectl refresh"),
        ("failed", r"greet.py: tried on 20..-..-.. ..:.. UTC, and withdrawn: it has crashed"),
    ):
        service.show_canary(state, "it has crashed" if state == "failed" else "")
        assert main(["plugin", "list"]) == 0
        assert re.search(told, capsys.readouterr().out)


def test_a_trial_is_withdrawn(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "withdraw"]) == 0
    assert service.manager.asked == ["Withdraw"]
    assert capsys.readouterr().out == "All bots have the former versions.\n"


def test_a_trial_that_goes_well_ends_in_a_refresh(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["refresh", "--canary", "film", "--canary", MESH[:5], "--for", "90s"]) == 0
    assert service.manager.asked == [("Try", [MESH, MESH], 90_000_000), "Refresh", "GetStatus"]
    out = capsys.readouterr().out
    assert "Nothing has failed: all bots have the new versions.\n" in out
    assert "Read again: " in out


def test_a_trial_that_fails_is_a_failure(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    service.manager.canary_ends = ("failed", "greet.py: the command greet failed: KeyError, in mesh x")
    assert main(["refresh", "--canary", "film"]) == 1
    assert service.manager.asked == [("Try", [MESH], 600_000_000)]
    assert "the canary has failed, and all bots have the former versions: greet.py: the command" in (
        capsys.readouterr().err
    )
    service.manager.canary_ends = ("none", "")
    assert main(["refresh", "--canary", "film"]) == 1
    assert "an operator has withdrawn it" in capsys.readouterr().err


def test_a_trial_may_be_left_to_the_service(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["refresh", "--canary", "film", "--no-block"]) == 0
    assert service.manager.asked == [("Try", [MESH], 600_000_000)]
    assert "The canary goes on." in capsys.readouterr().out


@pytest.mark.parametrize("option", [["--for", "90s"], ["--no-block"]])
def test_a_refresh_of_all_has_no_time(
    service: FakeService, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["refresh", *option]) == 1
    assert service.manager.asked == []
    assert "--for and --no-block are for --canary alone" in capsys.readouterr().err


def test_a_refresh_moves_the_files_of_a_trial_that_has_gone_well(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "COMMANDS_DIRECTORY", str(tmp_path))
    new = tmp_path / plugin_files.CANARY_DIRECTORY
    new.mkdir()
    (new / "greet.py").write_text("new")
    files = [["greet.py", plugin_files.digest(b"new"), ""]]
    for state, moved in (("trying", False), ("failed", False), ("none", False), ("in-force", True)):
        service.show_canary(state, files=files)
        assert main(["refresh"]) == 0
        assert (tmp_path / "greet.py").exists() is moved
    service.show_canary("in-force", files=[["greet.py", plugin_files.digest(b"newer"), ""]])
    assert main(["refresh"]) == 1, "it is not in its place"
