"""ravectl logs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ravesvc import names
from ravesvc.ctl.commands import logs
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.main import main
from tests.unit.fake_service import FakeService
from tests.unit.fake_systemd import MESH, OTHER

Called = list[list[str]]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    """The command lines that have taken the place of ravectl."""
    lines: Called = []

    def execute(_: str, words: list[str]) -> None:
        lines.append(words)

    monkeypatch.setattr(os, "execvp", execute)
    return lines


@pytest.fixture
def _service(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    fake = FakeService(bus_address)
    fake.manager.meshes = [[mesh, "A film", "connected", "/"] for mesh in (MESH, OTHER)]
    yield
    fake.stop()


def test_a_whole_id_needs_no_service(
    called: Called, bus_address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    assert main(["logs", MESH]) == 0
    assert called == [["journalctl", *logs.matches(MESH)]]
    assert main(["logs", MESH[:8]]) == Exit.NOT_RUNNING
    assert len(called) == 1


@pytest.mark.usefixtures("_service")
def test_the_beginning_of_an_id(called: Called) -> None:
    assert main(["logs", "-f", "-n", "20", MESH[:8]]) == 0
    assert called == [["journalctl", "--follow", "--lines=20", *logs.matches(MESH)]]


def test_what_is_looked_for_is_the_bot_systemd_and_the_parent() -> None:
    unit = names.mesh_unit(MESH)
    assert " ".join(logs.matches(MESH)) == (
        f"_SYSTEMD_UNIT={unit} + _PID=1 UNIT={unit} + _SYSTEMD_UNIT=rave-orchestrator.service RAVE_MESH={MESH}"
    )


@pytest.mark.parametrize("lines", ["-1", "x", "", "9" * 10])
def test_a_number_of_lines(called: Called, lines: str) -> None:
    with pytest.raises(SystemExit) as e:
        main(["logs", f"--lines={lines}", MESH])
    assert e.value.code == Exit.USAGE
    assert not called


def test_without_journalctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["logs", MESH]) == Exit.FAILED
    assert "journalctl can't be run: No such file" in capsys.readouterr().err
