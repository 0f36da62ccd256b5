"""ravectl logs, with a journalctl that prints what a test has written."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ravesvc import names
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.main import main
from ravesvc.ctl.operations import journal
from tests.unit.fake_service import FakeService
from tests.unit.fake_systemd import MESH, OTHER

BOT = names.mesh_unit(MESH)
SERVICE = names.ORCHESTRATOR_UNIT
MORNING_US = 1_796_034_065_000_000  # 2026-11-30 10:21:05 UTC
SHORT, OTHER_SHORT = MESH[:8], OTHER[:8]

pytestmark = pytest.mark.usefixtures("utc")


class Journal:
    """A directory with a `journalctl` in it, and what that prints."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.answer("cat lines")
        self.write()

    def answer(self, script: str) -> None:
        """What journalctl does."""
        program = self._path / "journalctl"
        program.write_text(f'#!/bin/sh\ncd {self._path}\nprintf "%s\\n" "$@" > called\n{script}\n')
        program.chmod(0o755)

    def write(self, *entries: dict[str, object] | str) -> None:
        lines = [each if isinstance(each, str) else json.dumps(each) for each in entries]
        (self._path / "lines").write_text("".join(f"{line}\n" for line in lines))

    @property
    def called(self) -> list[str]:
        """The options and matches that it was called with, after those that are always there."""
        words = (self._path / "called").read_text().splitlines()
        assert words[:2] == ["--output=json", "--all"]
        assert words[2].startswith("--output-fields=MESSAGE,")
        return words[3:]

    @property
    def was_called(self) -> bool:
        return (self._path / "called").exists()


def entry(message: object, **fields: object) -> dict[str, object]:
    return {"__REALTIME_TIMESTAMP": str(MORNING_US), "MESSAGE": message, "PRIORITY": "6", "_PID": "99"} | fields


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bus_address: str) -> Journal:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Journal(tmp_path)


@pytest.fixture
def service(bus_address: str) -> Iterator[FakeService]:
    fake = FakeService(bus_address)
    fake.manager.meshes = [[MESH, "Film\x1b night", "connected", "/"], [OTHER, "", "connected", "/"]]
    yield fake
    fake.stop()


def fill(log: Journal) -> None:
    log.write(
        entry("Connected to a server", _SYSTEMD_UNIT=BOT),
        entry("2 meshes found", _SYSTEMD_UNIT=SERVICE),
        entry("Mesh is blocked", _SYSTEMD_UNIT=SERVICE, RAVE_MESH=MESH),
        entry("Failed with result", _PID="1", _SYSTEMD_UNIT="init.scope", UNIT=names.mesh_unit(OTHER)),
    )


@pytest.mark.usefixtures("service")
def test_the_log_of_all_names_each_mesh(log: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    fill(log)
    assert main(["logs"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"2026-11-30 10:21:05 UTC [{SHORT} Film? night] bot: Connected to a server",
        "2026-11-30 10:21:05 UTC service: 2 meshes found",
        f"2026-11-30 10:21:05 UTC [{SHORT} Film? night] service: Mesh is blocked",
        f"2026-11-30 10:21:05 UTC [{OTHER_SHORT}] systemd: Failed with result",
    ]
    assert " ".join(log.called) == (
        "_SYSTEMD_SLICE=rave-mesh.slice + _SYSTEMD_UNIT=rave-orchestrator.service "
        "+ _PID=1 UNIT=rave-orchestrator.service"
    )


def test_without_the_service_there_are_no_titles(log: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    fill(log)
    assert main(["logs"]) == 0
    assert f"UTC [{SHORT}] bot: Connected" in capsys.readouterr().out
    assert main(["logs", MESH]) == 0
    assert f"UTC [{SHORT}] bot: Connected" in capsys.readouterr().out
    assert log.called == journal.matches(MESH)


def test_without_the_service_titles_are_those_that_it_has_logged(
    log: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    about_mesh = {"_SYSTEMD_UNIT": SERVICE, "RAVE_MESH": MESH}
    log.write(
        # A bot that was taken over has nothing to say here.
        entry("I am it [Root]", _SYSTEMD_UNIT=BOT, RAVE_TITLE="Root", RAVE_MESH=MESH),
        entry("It is connected [Film night]", RAVE_TITLE="Film night", **about_mesh),
        entry("Hello", _SYSTEMD_UNIT=BOT),
        entry("It is blocked [Quiz\x1b]", RAVE_TITLE="Quiz\x1b", **about_mesh),
        entry("It has ended []", **about_mesh),
    )
    assert main(["logs"]) == 0
    assert [line.partition(" UTC ")[2] for line in capsys.readouterr().out.splitlines()] == [
        f"[{SHORT}] bot: I am it [Root]",
        f"[{SHORT} Film night] service: It is connected",
        f"[{SHORT} Film night] bot: Hello",
        f"[{SHORT} Quiz?] service: It is blocked",
        f"[{SHORT} Quiz?] service: It has ended []",
    ]


def test_without_the_service_a_mesh_has_to_be_given_in_full(log: Journal) -> None:
    assert main(["logs", SHORT]) == Exit.NOT_RUNNING
    assert not log.was_called


@pytest.mark.usefixtures("service")
def test_the_log_of_one_mesh_names_it(log: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    log.write(entry("Connected", _SYSTEMD_UNIT=BOT))
    for text in (MESH, SHORT, "film"):
        assert main(["logs", "-f", "-n", "20", text]) == 0
        assert log.called == ["--follow", "--lines=20", *journal.matches(MESH)]
        assert capsys.readouterr().out.endswith(f" [{SHORT} Film? night] bot: Connected\n")


def test_what_is_looked_for_is_the_bot_systemd_and_the_service() -> None:
    assert " ".join(journal.matches(MESH)) == (
        f"_SYSTEMD_UNIT={BOT} + _PID=1 UNIT={BOT} + _SYSTEMD_UNIT=rave-orchestrator.service RAVE_MESH={MESH}"
    )


def test_what_a_bot_writes_is_printable_and_bounded(log: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    log.write(
        entry([*b"clear \x1b[2J", 0xFF], _SYSTEMD_UNIT=BOT),
        entry("first\nsecond\r\x1b]0;root\x07", _SYSTEMD_UNIT=BOT),
        entry("x" * 100_000, _SYSTEMD_UNIT=BOT),
        entry(["several", "values"], _SYSTEMD_UNIT=BOT, PRIORITY="nonsense", RAVE_MESH=OTHER),
        entry(None, _SYSTEMD_UNIT=BOT),
        entry("y" * (1 << 20), _SYSTEMD_UNIT=BOT),
        "no JSON",
        "[]",
        entry("the end", _SYSTEMD_UNIT=SERVICE, RAVE_MESH="../x"),
    )
    assert main(["logs"]) == 0
    head = f"2026-11-30 10:21:05 UTC [{SHORT}] bot: "
    lines = capsys.readouterr().out.split("\n")
    assert lines[2:] == [
        *(f"{head}second", f"{head}?]0;root?", f"{head}{'x' * (2000 - len(head))}"),
        *(f"{head}several", head, "2026-11-30 10:21:05 UTC service: the end", ""),
    ]
    assert lines[:2] == [f"{head}clear ?[2J\N{REPLACEMENT CHARACTER}", f"{head}first"]


@pytest.mark.parametrize(("priority", "colour"), [("3", "31"), ("4", "33"), ("6", "")])
def test_errors_and_warnings_are_coloured_at_a_terminal(
    log: Journal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], priority: str, colour: str
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("SYSTEMD_PAGER", "")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    log.write(entry("It fails", _SYSTEMD_UNIT=SERVICE, PRIORITY=priority))
    assert main(["logs"]) == 0
    line = "2026-11-30 10:21:05 UTC service: It fails"
    assert capsys.readouterr().out == (f"\033[{colour}m{line}\033[0m\n" if colour else f"{line}\n")


def test_at_a_terminal_less_shows_it_and_runs_nothing(
    log: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("SYSTEMD_PAGER", raising=False)
    for name in ("PAGER", "LESSOPEN"):
        monkeypatch.setenv(name, f"touch {tmp_path}/run")
    less = tmp_path / "less"
    less.write_text(f'#!/bin/sh\nexec > {tmp_path}/shown\necho "$LESSSECURE,$LESSOPEN"\ncat\n')
    less.chmod(0o755)
    log.write(entry("It fails", _SYSTEMD_UNIT=SERVICE))
    assert main(["logs"]) == 0
    assert (tmp_path / "shown").read_text() == "1,\n2026-11-30 10:21:05 UTC service: It fails\n"
    assert not (tmp_path / "run").exists()


def test_who_quits_less_has_seen_enough(log: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("SYSTEMD_PAGER", raising=False)
    monkeypatch.delenv("PAGER", raising=False)
    less = tmp_path / "less"
    less.write_text("#!/bin/sh\nexit\n")
    less.chmod(0o755)
    log.write(*[entry("x" * 1000, _SYSTEMD_UNIT=SERVICE)] * 1000)
    assert main(["logs"]) == 0


def test_a_log_that_is_followed_is_closed_at_once(log: Journal) -> None:
    log.answer(f"echo '{json.dumps(entry('hello', _SYSTEMD_UNIT=BOT))}'; exec sleep 600")
    entries = journal.entries([])
    assert next(entries).text == "hello"
    entries.close()


def test_journalctl_fails(log: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    log.answer("exit 7")
    assert main(["logs", MESH]) == Exit.FAILED
    assert "journalctl has failed with exit status 7" in capsys.readouterr().err


@pytest.mark.parametrize("lines", ["-1", "x", "", "9" * 10])
def test_a_number_of_lines(log: Journal, lines: str) -> None:
    with pytest.raises(SystemExit) as e:
        main(["logs", f"--lines={lines}", MESH])
    assert e.value.code == Exit.USAGE
    assert not log.was_called


def test_without_journalctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["logs", MESH]) == Exit.FAILED
    assert "journalctl can't be run: No such file" in capsys.readouterr().err
