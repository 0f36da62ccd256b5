"""The program `python3 -m ravesvc.single`, as a user at a terminal has it, and what importing it costs others."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ravesvc import names
from ravesvc.errors import Code, RaveError
from ravesvc.single import __main__ as program
from ravesvc.single.manager import BotManager
from tests.unit.marking import marks_its_tests
from tests.unit.simulator_server import Served
from tests.unit.single_site import GREET, SingleSite
from tests.unit.systemd.test_logging import set_up, without_times

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
@marks_its_tests("slow")
def site(tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> SingleSite:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    return SingleSite(tmp_path, served)


class Program:
    """The program, started; its log is read at the end."""

    def __init__(self, *arguments: str, prelude: str = "") -> None:
        # What is imported on the way is told at the end.
        code = (
            f"{prelude}\nimport sys; from ravesvc.single import __main__ as program; status = program.main();"
            "print(*sys.modules); sys.exit(status)"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, *arguments],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, number: int) -> tuple[int, set[str], str]:
        """Send a signal; returns exit status, modules and log."""
        self.process.send_signal(number)
        modules, log = self.process.communicate(timeout=20)
        return self.process.returncode, set(modules.split()), log


@pytest.fixture
@marks_its_tests("process")
def started() -> Iterator[list[Program]]:
    programs: list[Program] = []
    yield programs
    for each in programs:
        if each.process.returncode is None:
            each.process.kill()
            each.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_from_start_to_goodbye(site: SingleSite, started: list[Program], number: int) -> None:
    (other,) = site.control.create()
    site.control.invite(other)
    site.own("greet.py", GREET)
    started.append(Program())
    site.control.wait(connected=[site.mesh, other], timeout=15)
    assert site.control.chat(site.mesh, "?greet", user="ann", wait=5) == ["Hello, Ann!"]
    status, modules, log = started[0].end(number)
    assert status == 0
    for mesh in site.mesh, other:
        close = site.control.mesh(mesh)["ended"][-1]
        assert (close["code"], close["by"]) == (1000, "client")
        said = [line for line in without_times(log) if line.startswith(f"[{mesh}] ")]
        assert [line.partition(" INFO ")[2] for line in said] == [
            f"Plugins read: {site.file.parent}/commands.d/greet.py (greet)",
            "Connected to localhost",
            "Ended: stopped",
        ]
    assert f"INFO The state is in {site.state}; Ctrl-C has all bots leave\n" in log
    unwanted = re.compile(r"(dbus_next|dbus_fast|pystemd|pymongo|ravesvc\.(bus|units))\b")
    assert not {name for name in modules if unwanted.match(name)}
    assert site.control.violations() == []


def test_a_login_first(site: SingleSite, started: list[Program]) -> None:
    site.credentials.unlink()
    site.configure(debug="true")
    site.control.option("confirm", 0)
    started.append(Program("--config", str(site.file), "--login", "bot@example.test", "--admin", "5", "--admin", "5"))
    site.control.wait(connected=[site.mesh], timeout=20)
    status, _, log = started[0].end(signal.SIGINT)
    assert status == 0
    said = [line for line in without_times(log) if line.startswith("INFO")]
    assert said[:5] == [
        "INFO The mail of a login is sent",
        "INFO A mail is on its way: follow the link in it within 10 minutes",
        "INFO A login has succeeded",
        "INFO User 5 is an admin now",
        f"INFO The state is in {site.state}; Ctrl-C has all bots leave",
    ]
    assert "DEBUG" in log
    session = site.served.account.session
    assert session.auth_token not in log


@pytest.mark.parametrize(("code", "status"), [(Code.LOGIN_NEEDED, 78), (Code.CONFIG, 78), (Code.BUSY, 1)])
def test_what_fails_is_told_in_words(
    site: SingleSite,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    code: Code,
    status: int,
) -> None:
    async def fail(_: BotManager, started: object) -> None:
        raise RaveError(code, "that does not work", hint="mend it")

    monkeypatch.setattr(BotManager, "run", fail)
    site.configure(debug="true")
    with set_up(0):
        assert program.main(["--config", str(site.file)]) == status
    assert "CRITICAL that does not work (mend it)" in capfd.readouterr().err


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts: a shell has what it runs in the background ignore it, and Python leaves that as it is."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_no_file_and_an_interruption(
    site: SingleSite, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with set_up(0):
        assert program.main(["--config", str(tmp_path / "none.yaml")]) == 78
    assert "none.yaml does not exist (" in capfd.readouterr().err

    async def interrupt(_: BotManager, email: str) -> None:
        assert email == "bot@example.test"
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(BotManager, "login", interrupt)
    with set_up(0):
        assert program.main(["--login", "bot@example.test"]) == 1


def test_the_example_is_true_here(site: SingleSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--example-config"]) == 0
    text = capsys.readouterr().out
    assert not re.search(r"ravectl|systemctl|rave-orchestrator|/etc/rave|/var/lib|package|rave\.yaml\(5\)", text)
    site.file.write_text("")
    default = BotManager.from_config().settings
    for chosen in text, re.sub(r"^( *)#(\w+:.*)$", r"\1\2", text, flags=re.M):
        site.file.write_text(chosen)
        assert BotManager.from_config().settings == default


@pytest.mark.process
def test_hints_name_no_command_that_only_the_service_has() -> None:
    """`advice` has them for the service. The other modules named here are for the service alone, or documentation."""
    exempt = {
        "advice",
        "names",
        "places",
        "worker_settings",
        "state_directory",
        "manual_override",
        "canary",
        "rolling_restart",
        "options",
        "worker_options",
        "media_settings",
    }
    code = (
        "import sys, ravesvc.single.__main__, ravesvc.store.engines.sqlite, ravesvc.store.engines.mongo;"
        "print(*(module.__file__ for name, module in sys.modules.items() if name.startswith('ravesvc')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True, capture_output=True, text=True)
    paths = [path for path in map(Path, done.stdout.split()) if path.stem not in exempt]
    assert "task_runner" in {path.stem for path in paths}
    unfit = re.compile(r"ravectl|systemctl|journalctl|the journal|user rave\b|start rave-|/(etc|var/lib|run)/rave")
    assert [f"{path}: {text}" for path in paths for text in texts(path) if unfit.search(text)] == []


def texts(path: Path) -> Iterator[str]:
    """The texts in a module, without docstrings and those under options, which no program shows."""
    tree = ast.parse(path.read_text())
    unused = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in unused:
            yield node.value
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "names":
            yield str(getattr(names, node.attr, ""))


@pytest.mark.process
def test_whoever_does_not_want_it_does_not_pay_for_it() -> None:
    code = "import sys, ravesvc; before = set(sys.modules); ravesvc.BotManager; print(*before)"
    found = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True, capture_output=True, text=True)
    assert {name for name in found.stdout.split() if name.startswith("ravesvc")} == {"ravesvc", "ravesvc.version"}


@pytest.mark.parametrize(
    ("name", "instead"), [("LegacyBotManager", "use ravesvc.BotManager"), ("ProcessManager", "rave-orchestrator")]
)
@pytest.mark.parametrize("program", ["from ravesvc import {}", "import ravesvc; ravesvc.{}"])
def test_a_program_for_the_nodejs_bot_is_told_what_to_use(program: str, name: str, instead: str) -> None:
    with pytest.raises(ImportError) as told:
        exec(program.format(name), {})
    assert str(told.value).startswith(f"ravesvc has no {name}: ")
    assert instead in str(told.value)


def program_in_the_readme() -> subprocess.Popen[str]:
    chapter = (CHECKOUT / "README.md").read_text().split("\n## On a laptop, without systemd\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```$", chapter, flags=re.M | re.S)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code], cwd=CHECKOUT, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.process
@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("file", "rave.yaml does not exist (mkdir -p "),
        ("credentials", "there is no account: there are no credentials yet (log in with ravesvc --login EMAIL, or"),
    ],
)
def test_the_program_in_the_readme_says_what_it_lacks(site: SingleSite, missing: str, told: str) -> None:
    getattr(site, missing).unlink()
    program = program_in_the_readme()
    _, log = program.communicate(timeout=20)
    assert program.returncode == 1
    last = without_times(log)[-1]
    assert last.startswith("CRITICAL ")
    assert told in last
    assert "Traceback" not in log


@pytest.mark.process
def test_the_program_in_the_readme(site: SingleSite, tmp_path: Path) -> None:
    program = program_in_the_readme()
    try:
        site.control.wait(connected=[site.mesh], timeout=15)
        assert site.control.chat(site.mesh, "?add 2 3", wait=5) == ["5"]
    finally:
        program.send_signal(signal.SIGINT)
        _, log = program.communicate(timeout=20)
    assert program.returncode == 0
    assert f"[{site.mesh}] [A film] INFO Connected to localhost\n" in log
