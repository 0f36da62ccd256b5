"""What `ravectl doctor` makes of what its hostile bot tells; tests/integration/test_doctor.py runs the bot."""

from __future__ import annotations

import configparser
import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ravesvc import names
from ravesvc.doctor import sandbox
from ravesvc.doctor.finding import FindingState
from ravesvc.doctor.sandbox import Surroundings, evaluate, parse_result
from ravesvc.errors import RaveError
from ravesvc.hostile.probes import PROBES

DROP_INS = Path(__file__).parents[3] / "packaging/systemd"
REFUSED: dict[str, object] = dict.fromkeys(PROBES)


def hint(surroundings: Surroundings) -> str:
    return next(each.hint for each in evaluate(REFUSED | {"kill": "it can kill"}, surroundings) if each.hint)


def test_what_is_refused_holds() -> None:
    found = evaluate(REFUSED, Surroundings())
    assert [each.name for each in found] == list(PROBES)
    assert {each.state for each in found} == {FindingState.HELD}


def test_what_is_possible_does_not_hold_and_what_was_not_tried_is_unknown() -> None:
    answer = REFUSED | {
        "kill": "it can send signals",
        "fork": "it could not be tried: Too many open files",
        "exec": 5,
    }
    found = {each.name: each for each in evaluate(answer, Surroundings()) if each.state is not FindingState.HELD}
    assert {name: each.state for name, each in found.items()} == {
        "kill": FindingState.NOT_HELD,
        "fork": FindingState.UNKNOWN,
        "exec": FindingState.UNKNOWN,
    }
    assert found["kill"].why == "it can send signals"
    # The bots run, whatever a stranger could do from within.
    assert not found["kill"].fatal


def test_a_hostile_bot_that_tells_nothing_proves_nothing() -> None:
    assert {each.state for each in evaluate({}, Surroundings())} == {FindingState.UNKNOWN}


def test_the_likeliest_cause_is_named() -> None:
    drop_in = "/run/systemd/system/service.d/zzz-lxc-service.conf"
    assert drop_in in hint(Surroundings((drop_in,), "lxc", None))
    assert "container (lxc)" in hint(Surroundings((), "lxc", 6))
    assert "Landlock" in hint(Surroundings((), "", 5))
    assert "report it" in hint(Surroundings((), "", 6))


def test_what_the_kernel_lacks_is_the_reason() -> None:
    answer = '{"gaps": ["The kernel has no Landlock"], "found": {"kill": "it can kill", "fork": null}}'
    told, gaps = parse_result(answer.encode())
    found = {each.name: each for each in evaluate(told, Surroundings(gaps=gaps))}
    assert found["kill"].why == "it can kill (The kernel has no Landlock)"
    assert found["fork"].why == "refused"


@pytest.mark.parametrize("text", [b"", b"[]", b'{"found": {}}', b'{"gaps": [], "found": 1}'])
def test_nonsense_of_the_hostile_bot_is_no_answer(text: bytes) -> None:
    with pytest.raises(RaveError):
        parse_result(text)


def test_nobody_but_root_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (found,) = sandbox.attack()
    assert (found.state, found.hint) == (FindingState.UNKNOWN, "sudo ravectl doctor")


@pytest.fixture
def starting() -> Iterator[subprocess.Popen[bytes]]:
    """A systemctl that interrupts ravectl, and whose wait ends with the unit: when that is stopped."""
    script = f"read -r begin; kill -TERM {os.getpid()}; read -r stopped"
    with subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, starting: subprocess.Popen[bytes]) -> list[str]:
    """What systemctl was asked for; to start the hostile bot is interrupted."""
    orders: list[str] = []
    assert starting.stdin

    def start(unit: str) -> subprocess.Popen[bytes]:
        orders.append(f"start {unit}")
        if unit != names.DOCTOR_UNIT:
            return subprocess.Popen(["/bin/true"])
        os.write(starting.stdin.fileno(), b"\n")
        return starting

    def systemctl(*words: str) -> subprocess.CompletedProcess[str]:
        orders.append(" ".join(words))
        if words == ("stop", names.DOCTOR_UNIT):
            os.write(starting.stdin.fileno(), b"\n")
        if words[0] == "stop":
            # Nor does one who is impatient leave anything.
            os.kill(os.getpid(), signal.SIGINT)
        return subprocess.CompletedProcess(words, 0, "loaded\n" if "--property=LoadState" in words else "7\n", "")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sandbox, "systemctl", systemctl)
    monkeypatch.setattr(sandbox, "start", start)
    for name in ("DOCTOR_RESULT_FILE", "DOCTOR_ENVIRONMENT_FILE"):
        monkeypatch.setattr(names, name, str(tmp_path / name))
    return orders


def test_an_interrupt_leaves_nothing(ordered: list[str], starting: subprocess.Popen[bytes], tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(KeyboardInterrupt):
        sandbox.attack()
    both = f"{names.DOCTOR_UNIT} {names.DOCTOR_SIBLING_UNIT}"
    assert ordered[-3:] == [f"stop {names.DOCTOR_UNIT}", f"stop {both}", f"reset-failed {both}"]
    assert starting.returncode is not None, "systemd has read what systemctl asked for before the last stop"
    assert list(tmp_path.iterdir()) == []
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_who_gives_up_the_wait_for_another_one_disturbs_nothing(
    ordered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_descriptor: int, _operation: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fcntl, "flock", interrupt)
    (tmp_path / "DOCTOR_RESULT_FILE").touch()
    with pytest.raises(KeyboardInterrupt):
        sandbox.attack()
    assert not any(order.startswith(("stop", "reset-failed")) for order in ordered)
    assert (tmp_path / "DOCTOR_RESULT_FILE").exists()


@pytest.mark.parametrize("unit", [names.DOCTOR_UNIT, names.DOCTOR_SIBLING_UNIT])
def test_the_drop_ins_change_nothing_of_the_sandbox(unit: str) -> None:
    (file,) = (DROP_INS / f"{unit}.d").iterdir()
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(file)
    assert set(parser["Service"]) <= {
        "Type",
        "EnvironmentFile",
        "ExecStart",
        "StandardOutput",
        "SuccessExitStatus",
        "TimeoutStartSec",
        "WatchdogSec",
        "Restart",
    }
    assert names.mesh_of_unit(unit) is None
    if unit == names.DOCTOR_UNIT:
        assert parser["Service"]["EnvironmentFile"] == names.DOCTOR_ENVIRONMENT_FILE
        assert parser["Service"]["StandardOutput"] == f"truncate:{names.DOCTOR_RESULT_FILE}"
