from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ravesvc.bus import Variant
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.main import main
from ravesvc.ctl.operations import login_run
from ravesvc.ctl.ui import progress
from ravesvc.ctl.ui.progress import Spinner, words
from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator import app as program
from tests.unit.conftest import BusDaemon
from tests.unit.fake_manager import FakeManager
from tests.unit.fake_service import FakeManagerObject, FakeService, Terminal, answer, begin, succeed
from tests.unit.parent_site import Site
from tests.unit.simulator_server import Served, in_thread

pytestmark = pytest.mark.slow

EMAIL = "bot@example.test"


@pytest.fixture
def bus(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the bus that ravectl calls."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    return bus_address


@pytest.fixture
def service(bus: str) -> Iterator[FakeService]:
    service = FakeService(bus)
    yield service
    service.stop()


@pytest.fixture
def manager(service: FakeService) -> FakeManagerObject:
    return service.manager


def interrupt(number: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


# Seen from outside


def test_lines(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["login", EMAIL]) == 0
    heard = capsys.readouterr()
    assert heard.out == (
        "Sending the mail\nFollow the link in the mail, 10:00 left\nSigning in\nLogged in.\n"
    )  # fmt: skip
    assert not heard.err
    assert manager.asked == ["GetStatus", ("Login", EMAIL)]
    assert manager.interactive == {True}


def test_logout(
    manager: FakeManagerObject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logout", "--yes"]) == 0
    assert capsys.readouterr().out == "Logged out.\n"
    manager.changed = False
    assert main(["logout", "--yes"]) == 0
    assert capsys.readouterr().out == "There was no account.\n"
    assert manager.asked == ["Logout"] * 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert main(["logout"]) == 1
    assert "--yes" in capsys.readouterr().err
    assert manager.asked == ["Logout"] * 2


@pytest.mark.parametrize(("typed", "done"), [("y\n", True), ("n\n", False), ("", False)])
def test_a_terminal_is_asked_before_the_account_is_forgotten(
    manager: FakeManagerObject,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str,
    done: bool,
) -> None:
    answer(monkeypatch, typed)
    assert main(["logout"]) == (0 if done else 1)
    heard = capsys.readouterr()
    assert "stop every bot? [y/N]" in heard.err
    assert heard.out == ("Logged out.\n" if done else "Nothing is changed.\n")
    assert manager.asked == (["Logout"] if done else [])


def test_spinner(manager: FakeManagerObject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_run, "_REDRAW_S", 0.01)

    async def slow(manager: FakeManagerObject) -> None:
        await begin(manager)

        async def rest() -> None:
            await asyncio.sleep(0.2)
            manager.account.emit("LoginFinished", "", "")

        manager.later(rest())

    manager.login_script = slow
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    assert main(["login", EMAIL]) == 0
    drawn = screen.getvalue().split("\r")
    assert len([line for line in drawn if "Follow the link in the mail, 10:00 left" in line]) > 3, "it turns"
    assert drawn[-1] == "Logged in.\n"
    assert not drawn[-2].strip(), "the line is wiped"
    assert len(drawn[-2]) == len(drawn[-3].rstrip())
    assert screen.getvalue().count("\n") == 1


def test_the_known_address(manager: FakeManagerObject) -> None:
    assert main(["login"]) == 0
    assert manager.asked == ["GetStatus", ("Login", "")]


def test_what_a_login_lacks_is_named_before_there_is_a_question(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ["request_hash_key: a text of hex digits", "mojo_api_key: a text"]
    manager.status["IdentityMissing"] = Variant("as", missing)
    monkeypatch.setattr(sys, "stdin", Terminal(EMAIL))
    assert main(["login"]) == Exit.FAILED
    heard = capsys.readouterr()
    assert "; ".join(missing) in heard.err
    assert "systemctl restart rave-orchestrator" in heard.err
    assert "address" not in heard.err
    assert manager.asked == ["GetStatus"]


@pytest.mark.parametrize(
    ("typed", "asked", "known"), [(f" {EMAIL}\n", EMAIL, False), ("\n", "", True), ("", "", True)]
)
def test_a_terminal_is_asked_for_the_address(
    manager: FakeManagerObject,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str,
    asked: str,
    known: bool,
) -> None:
    manager.status["HasAccount"] = Variant("b", known)
    answer(monkeypatch, typed)
    assert main(["login"]) == 0
    heard = capsys.readouterr().err
    assert "E-mail address of the account" in heard
    assert ("(empty: the one that is known)" in heard) == known
    assert manager.asked == ["GetStatus", ("Login", asked)]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("NotConfirmed", "the link was not followed in time (run ravectl login again)"),
        ("Network", "Rave can't be reached"),
        ("Unheard", "of a later version"),
    ],
)
def test_a_login_that_fails(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], code: str, message: str
) -> None:
    async def fail(manager: FakeManagerObject) -> None:
        await begin(manager)
        manager.account.emit("LoginFinished", code, message)

    manager.login_script = fail
    assert main(["login", EMAIL]) == 1
    heard = capsys.readouterr()
    assert heard.err == f"ravectl: {message}\n"
    assert "Logged in" not in heard.out


def test_a_login_that_can_not_begin(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    manager.error = RaveError(Code.BUSY, "a login is under way")
    assert main(["login", EMAIL]) == 1
    assert capsys.readouterr().err == "ravectl: a login is under way\n"


def test_what_is_heard_of_another_login(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    async def another_first(manager: FakeManagerObject) -> None:
        manager.account.emit("LoginProgress", "waiting", 3)
        manager.account.emit("LoginFinished", "Network", "of the other")
        await succeed(manager)

    manager.login_script = another_first
    assert main(["login", EMAIL]) == 0
    assert "0:03" not in capsys.readouterr().out

    async def another_in_between(manager: FakeManagerObject) -> None:
        await begin(manager)
        manager.account.emit("LoginFinished", "Network", "of the other")
        await succeed(manager)

    manager.login_script = another_in_between
    assert main(["login", EMAIL]) == 0


def test_a_service_that_goes_away(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    async def vanish(manager: FakeManagerObject) -> None:
        await begin(manager)

        async def stop() -> None:
            service._stop.set()

        manager.later(stop())

    service.manager.login_script = vanish
    assert main(["login", EMAIL]) == Exit.NOT_RUNNING
    heard = capsys.readouterr()
    assert "rave-orchestrator has gone away" in heard.err
    assert "journalctl" in heard.err


def test_a_service_that_goes_away_before_it_answers(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    async def vanish(_: FakeManagerObject) -> None:
        service.bus._transport.close()
        await asyncio.sleep(0)

    service.manager.login_script = vanish
    assert main(["login", EMAIL]) == Exit.NOT_RUNNING
    assert "rave-orchestrator has gone away" in capsys.readouterr().err


@pytest.mark.parametrize("answered", [True, False])
def test_a_bus_that_goes_away(
    bus: str, bus_daemon: BusDaemon, manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], answered: bool
) -> None:
    async def vanish(manager: FakeManagerObject) -> None:
        await begin(manager)
        if answered:
            asyncio.get_running_loop().call_later(0.05, bus_daemon.process.kill)
        else:
            bus_daemon.process.kill()

    manager.login_script = vanish
    assert main(["login", EMAIL]) == Exit.NOT_RUNNING
    heard = capsys.readouterr()
    assert "the connection to the system bus is lost" in heard.err


# Cancelling


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_cancels(
    manager: FakeManagerObject, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    async def wait(manager: FakeManagerObject) -> None:
        await begin(manager)
        asyncio.get_running_loop().call_later(0.05, interrupt, number)

    manager.login_script = wait
    former = signal.getsignal(number)
    assert main(["login", EMAIL]) == Exit.INTERRUPTED
    assert capsys.readouterr().err == "ravectl: the login is cancelled\n"
    assert manager.asked == ["GetStatus", ("Login", EMAIL), "CancelLogin"]
    assert signal.getsignal(number) == former


def test_ctrl_c_while_the_mail_is_sent(manager: FakeManagerObject) -> None:
    async def wait(manager: FakeManagerObject) -> None:
        manager.account.emit("LoginProgress", "sending", 600)
        asyncio.get_running_loop().call_later(0.05, interrupt)
        await asyncio.sleep(0.2)

    manager.login_script = wait
    assert main(["login", EMAIL]) == Exit.INTERRUPTED
    assert manager.asked[-1] == "CancelLogin"


def test_ctrl_c_before_it_begins_leaves_others_alone(manager: FakeManagerObject) -> None:
    async def wait(manager: FakeManagerObject) -> None:
        manager.account.emit("LoginProgress", "waiting", 100)
        asyncio.get_running_loop().call_later(0.05, interrupt)
        await asyncio.sleep(0.2)

    manager.login_script = wait
    assert main(["login", EMAIL]) == Exit.INTERRUPTED
    assert manager.asked == ["GetStatus", ("Login", EMAIL)]


def test_too_late_to_cancel(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    async def wait(manager: FakeManagerObject) -> None:
        await begin(manager)
        asyncio.get_running_loop().call_later(0.05, interrupt)

    async def finish(manager: FakeManagerObject) -> None:
        manager.account.emit("LoginFinished", "", "")

    manager.login_script, manager.cancel_script = wait, finish
    assert main(["login", EMAIL]) == 0
    assert "too late" in capsys.readouterr().out


def test_a_cancellation_that_fails(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    async def wait(manager: FakeManagerObject) -> None:
        await begin(manager)
        manager.error = RaveError(Code.ACCESS_DENIED, "no")
        asyncio.get_running_loop().call_later(0.05, interrupt)

    manager.login_script = wait
    assert main(["login", EMAIL]) == Exit.INTERRUPTED
    assert "could not be cancelled: you may not" in capsys.readouterr().err


def test_ctrl_c_twice(manager: FakeManagerObject, capsys: pytest.CaptureFixture[str]) -> None:
    async def wait(manager: FakeManagerObject) -> None:
        await begin(manager)
        asyncio.get_running_loop().call_later(0.05, interrupt)

    async def slow(_: FakeManagerObject) -> None:
        asyncio.get_running_loop().call_later(0.05, interrupt)
        await asyncio.sleep(0.2)

    manager.login_script, manager.cancel_script = wait, slow
    assert main(["login", EMAIL]) == Exit.INTERRUPTED
    assert "interrupted" in capsys.readouterr().err


# Words


def test_words() -> None:
    assert words("Follow the link in the mail", 59.2) == "Follow the link in the mail, 1:00 left"
    assert words("Follow the link in the mail", -1) == "Follow the link in the mail, 0:00 left"
    assert words("Signing in", None) == "Signing in"


def test_the_spinner_counts_down_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, now = Terminal(), 100.0
    monkeypatch.setattr(sys, "stdout", screen)
    spinner = Spinner(clock=lambda: now)
    spinner.draw()
    spinner.end()
    assert not screen.getvalue(), "nothing to show yet"
    spinner.show("Follow the link", 598)
    now += 61.5
    spinner.draw()
    assert re.findall(r"(\d+:\d\d) left", screen.getvalue()) == ["9:58", "8:57"]
    monkeypatch.setattr(progress, "_columns", lambda: 10)
    spinner.draw()
    assert screen.getvalue().split("\r")[-1].rstrip() == "- Follow"


# The real parent


@pytest.mark.slow
@pytest.mark.process
async def test_with_the_real_parent(
    bus: str, tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def root(*_: Any) -> int:
        return 0

    monkeypatch.setattr(program.Callers, "user", root)
    fake = FakeManager(tmp_path, monkeypatch)
    site = Site(tmp_path, served, fake)
    site.credentials.unlink()
    file = tmp_path / "store.json"

    async def ravectl(*arguments: str) -> tuple[int | None, str]:
        code = "import sys; from ravesvc.ctl.main import main; sys.exit(main())"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode, said.decode()

    async with site.running(bus):
        status, said = await ravectl("store", "info")
        assert (status, "needed: run ravectl login" in said) == (0, True), said
        await in_thread(served.control.option, "confirm", "1")
        status, said = await ravectl("login", EMAIL)
        assert (status, said.splitlines()[-1]) == (0, "Logged in."), said
        for arguments, words in (
            (("admin", "add", "101"), "an admin now"),
            (("admin", "list"), "operator"),
            (("perm", "set", "ping", "admin"), "admins only"),
            (("perm", "list"), "ping"),
            (("refresh",), "1 admin, 1 command permission"),
            (("store", "export", str(file)), "Saved"),
            (("store", "import", "--yes", str(file)), "1 admin, 1 command permission"),
            (("perm", "unset", "ping"), "default permission"),
        ):
            status, said = await ravectl(*arguments)
            assert (status, words in said) == (0, True), said
        status, said = await ravectl("admin", "remove", "101")
        assert (status, "last admin" in said) == (1, True), said
    fake.close()
