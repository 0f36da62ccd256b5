"""What `ravectl doctor` makes of a machine: the judgements, and what this machine and a server have to say."""

from __future__ import annotations

import json
import socket
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from ravesvc import names
from ravesvc.api import dial
from ravesvc.ctl.commands import doctor
from ravesvc.ctl.main import main
from ravesvc.ctl.operations.verdict import Level
from ravesvc.doctor import checks, machine
from ravesvc.doctor.finding import Finding, FindingState, held, not_held, unknown
from ravesvc.doctor.systemctl import variables
from tests.unit.api_server import Reply, serving
from tests.unit.authority import Authority

GB = 1 << 30


@pytest.mark.parametrize(
    ("skew", "synchronized", "state", "why"),
    [
        (0.4, True, FindingState.HELD, "NTP keeps it; it is within 0 s of Rave's"),
        (-59.0, False, FindingState.NOT_HELD, "no NTP keeps it; it is within 59 s of Rave's"),
        (61.0, True, FindingState.NOT_HELD, "61 s ahead of Rave's; Rave refuses requests with a wrong time"),
        (-3600.0, None, FindingState.NOT_HELD, "3600 s behind Rave's; Rave refuses requests with a wrong time"),
        (None, True, FindingState.HELD, "NTP keeps it; Rave could not be asked for the time"),
        (1.0, None, FindingState.UNKNOWN, "the kernel does not say whether NTP keeps it; it is within 1 s of Rave's"),
    ],
)
def test_the_clock(skew: float | None, synchronized: bool | None, state: FindingState, why: str) -> None:
    found = checks.clock(skew, synchronized=synchronized)
    assert (found.state, found.why) == (state, why)
    # Only a clock for which Rave refuses everything keeps all bots from running.
    assert found.fatal == (skew is not None and abs(skew) > 60)
    assert bool(found.hint) == (state is not FindingState.HELD)


def test_the_resolver() -> None:
    assert checks.resolver("rave.test", 2, 0.1, "") == held("DNS", "rave.test has 2 addresses")
    slow = checks.resolver("rave.test", 2, 5.04, "")
    assert (slow.state, slow.fatal) == (FindingState.NOT_HELD, False)
    assert "took 5.0 s" in slow.why
    failed = checks.resolver("rave.test", 0, 12.0, "no answer")
    assert failed.fatal
    assert failed.why == "rave.test can't be looked up: no answer"


def test_one_family_that_fails_is_no_more_than_a_delay() -> None:
    four, six = checks.families("rave.test", {"IPv4": "", "IPv6": "No route to host"})
    assert four.state is FindingState.HELD
    assert (six.state, six.fatal) == (FindingState.NOT_HELD, False)
    assert "IPv4 works" in six.hint
    assert all(each.fatal for each in checks.families("rave.test", {"IPv4": "refused", "IPv6": "refused"}))
    four, six = checks.families("rave.test", {"IPv4": "refused"})
    assert four.fatal
    assert six == held("IPv6", "not needed: rave.test has no address of it")


def test_the_bus_takes_what_its_last_file_says() -> None:
    ours = '<busconfig><limit name="max_connections_per_user">2047</limit></busconfig>'
    other = '<busconfig><limit name="max_match_rules_per_connection">9</limit></busconfig>'
    local = ours.replace("2047", " 300 ")
    assert checks.bus_limit([]) == checks.STOCK_BUS_LIMIT
    assert checks.bus_limit([ours, other]) == 2047
    assert (
        checks.bus_limit([ours, local, "<busconfig", ours.replace("2047", "many"), ours.replace("2047", "9" * 700)])
        == 300
    )


def test_bus_and_memory_for_as_many_bots_as_are_allowed() -> None:
    assert checks.bus(256, 248).state is FindingState.HELD
    assert checks.bus(256, 249).state is FindingState.NOT_HELD
    assert checks.bus(256, None).why == "256 connections per user: room for 248 bots"
    assert checks.memory(GB, 24).state is FindingState.HELD
    assert checks.memory(GB, 25) == not_held(
        "memory", "1024 MB, room for 24 bots of 32 MB, but max_processes is 25", "set max_processes to 24 or less"
    )
    assert checks.memory(GB, None).state is FindingState.HELD


def test_what_the_kernel_lacks() -> None:
    assert checks.controllers({"cpu", "memory", "pids"}).state is FindingState.HELD
    assert "TasksMax= (no pids controller)" in checks.controllers({"memory"}).why
    assert "MemoryMax=" not in checks.controllers({"memory"}).why
    assert checks.controllers(None).state is FindingState.UNKNOWN
    assert checks.landlock(6).state is FindingState.HELD
    assert checks.landlock(5).why == "version 5: no rules for signals"
    assert checks.landlock(3).why == "version 3: no rules for TCP and signals"
    assert checks.landlock(None).state is FindingState.NOT_HELD


def test_bpf() -> None:
    states = [checks.bpf(works=works).state for works in (True, False, None)]
    assert states == [FindingState.HELD, FindingState.NOT_HELD, FindingState.UNKNOWN]


GOOD, BAD, OPEN = held("a", "b"), not_held("a", "b", "c"), unknown("a", "b")
FATAL = not_held("a", "b", "c", fatal=True)


@pytest.mark.parametrize(
    ("found", "level"),
    [
        ([GOOD], Level.OK),
        ([GOOD, OPEN], Level.UNKNOWN),
        ([OPEN, BAD, GOOD], Level.WARNING),
        ([OPEN, BAD, FATAL], Level.CRITICAL),
    ],
)
def test_the_exit_status_is_that_of_the_worst(found: list[Finding], level: Level) -> None:
    assert doctor.level(found) is level


def test_findings_stand_under_their_sections_and_a_hint_once() -> None:
    machine_found = [held("clock", "right"), not_held("DNS", "broken", "mend it", fatal=True)]
    assert doctor.lines({"Machine": machine_found, "Sandbox": [unknown("kill", "away", "mend it")]}) == [
        "Machine",
        "  held      clock  right",
        "  not held  DNS    broken",
        "                   hint: mend it",
        "",
        "Sandbox",
        "  unknown   kill   away",
        "",
        "1 held, 1 not held, 1 unknown. No bot can run until this holds: DNS.",
    ]
    assert doctor.summary([unknown("kill", "away"), held("clock", "right")]) == "1 held, 1 unknown."


def configured(tmp_path: Path, api: str, authority: Authority) -> str:
    file = tmp_path / "rave.yaml"
    file.write_text(
        f"database_config_path: {tmp_path}/database.json\ncredentials_path: {tmp_path}/c.json\n"
        f"blocklist_persist_path: {tmp_path}/b.json\nservers:\n  api: {api}\ntls:\n  ca_file: {authority.ca_file}\n"
    )
    return str(file)


@pytest.fixture(autouse=True)
def _places_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    # Temporary directories are in /tmp, which the service does not see.
    monkeypatch.setattr("ravesvc.setup.places.HIDDEN", {})


@pytest.mark.parametrize("behind", [0, 3600])
def test_rave_is_asked_for_the_time(tmp_path: Path, authority: Authority, behind: int) -> None:

    date = formatdate(time.time() - behind, usegmt=True)
    with serving(authority, Reply(404, headers={"Date": date})) as server:
        found = {each.name: each for each in machine.examine(configured(tmp_path, server.url, authority))}
        (asked,) = server.asked
    # Nothing that could tell whose machine this is.
    assert not {"authorization", "cookie", "user-agent", "request-hash"} & set(asked.headers)
    assert found["Rave"].state is FindingState.HELD
    assert found["IPv4"].why == "localhost can be reached"
    assert found["clock"].fatal == bool(behind)
    assert ("it is within" in found["clock"].why) != bool(behind)


def test_a_certificate_that_is_not_accepted_is_told(tmp_path: Path, authority: Authority) -> None:
    with serving(authority) as server:
        url = server.url.replace("localhost", "127.0.0.2")
        found = {each.name: each for each in machine.examine(configured(tmp_path, url, authority))}
    assert found["DNS"].state is FindingState.HELD
    assert found["Rave"].fatal


def test_a_port_at_which_nobody_listens(tmp_path: Path, authority: Authority) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{taken.getsockname()[1]}"
        found = {each.name: each for each in machine.examine(configured(tmp_path, url, authority))}
    assert found["IPv4"].why == "127.0.0.1 can't be reached: Connection refused"
    assert found["IPv4"].fatal
    assert found["Rave"].fatal


def test_the_way_to_rave_is_that_of_the_service(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy stands in the unit's environment alone, and no server listens there."""
    with socket.socket() as taken, serving(authority) as server:
        taken.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{taken.getsockname()[1]}"
        shown = f'PYTHONNOUSERSITE=1 HTTPS_PROXY={proxy} "NO_PROXY=a.test b.test"'
        monkeypatch.setattr(machine, "service_environment", lambda: variables(shown))
        found = {each.name: each for each in machine.examine(configured(tmp_path, server.url, authority))}
        assert not server.asked
    assert found["IPv4"].why == "127.0.0.1 can't be reached: Connection refused"
    assert found["Rave"].fatal


def test_a_proxy_that_keeps_the_service_from_starting_is_told(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "service_environment", lambda: {"HTTPS_PROXY": "socks5://hush@proxy.lan"})
    found = machine.examine(configured(tmp_path, "https://rave.test", authority))
    (fatal,) = [each for each in found if each.fatal]
    assert fatal.why.startswith("the environment variable HTTPS_PROXY must be an HTTP proxy")
    assert fatal.hint.endswith("or unset it (systemctl edit rave-orchestrator.service)")
    assert "hush" not in fatal.why


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ("", {}),
        ('A=1 B= "C=x y" \'D="\' E=a=b\n', {"A": "1", "B": "", "C": "x y", "D": '"', "E": "a=b"}),
        ('A=1 "B', {}),
        ("nonsense", {}),
    ],
)
def test_variables_of_a_unit(shown: str, found: dict[str, str]) -> None:
    assert variables(shown) == found


def test_a_name_that_nobody_knows_is_told_once(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody_knows(_host: str, _port: int) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(dial, "resolve", nobody_knows)
    found = machine.examine(configured(tmp_path, "https://rave.test", authority))
    assert [each.name for each in found if each.fatal] == ["DNS"]
    assert next(each for each in found if each.name == "Rave").state is FindingState.UNKNOWN


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rave.yaml"
    file.write_text("limit: many\n")
    monkeypatch.setattr(names, "CONFIG_FILE", str(file))
    assert main(["doctor"]) == Level.CRITICAL
    _title, first, hint, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"  not held  rave.yaml    {file}:1: limit")
    assert "ravectl config check" in hint
    assert main(["doctor", "--json"]) == Level.CRITICAL
    # What max_processes says is not known.
    told = json.loads(capsys.readouterr().out)
    assert told["level"] == "CRITICAL"
    assert told["findings"][0]["state"] == "not held"
    assert not {"bus", "memory"} & {each["name"] for each in told["findings"]}
    assert set(told["findings"][0]) == {"name", "state", "why", "hint", "fatal"}


def test_the_files_of_the_bus_in_their_order(tmp_path: Path) -> None:
    for number, path in enumerate(("etc/dbus-1/system-local.conf", "usr/share/dbus-1/system.d/b.conf")):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(number))
    assert machine._read_bus_files(tmp_path) == ["1", "0"]
