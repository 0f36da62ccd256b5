"""SECURITY.md names options, units, commands and users that there are, with the limits that they have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ravesvc import names
from ravesvc.bot.backend import MAX_DOCUMENT_BYTES
from ravesvc.bot.command_names import ADMIN_COMMANDS, LEAVE
from ravesvc.common import json_fields
from ravesvc.common.log_fields import LogEvent
from ravesvc.common.log_limit import PER_MESH
from ravesvc.common.machine import BYTES_PER_BOT
from ravesvc.core import admin_claims, presence_check
from ravesvc.ctl import command_line
from ravesvc.names import PolkitAction
from ravesvc.room.frames import MAX_MESSAGE_BYTES
from ravesvc.systemd.notify import MAX_STATUS_CHARS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
SAMPLE = (ROOT / "config/rave.yaml").read_text()
UNITS = {path.name: path.read_text() for path in (ROOT / "units").iterdir()}
NAMED = sorted(set(re.findall(r"`([^`\n]+)`", PAGE)))
OPTION = re.compile(r"([a-z]+(?:_[a-z]+)+|limit|watchdog|proxy)(?:: (.+))?")


def rows(chapter: str) -> list[list[str]]:
    """The cells of the table in a chapter, without its head."""
    text = PAGE.split(f"\n## {chapter}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.mark.parametrize("name", [name for name in NAMED if OPTION.fullmatch(name)])
def test_options_are_those_of_rave_yaml(name: str) -> None:
    assert re.search(rf"^ *#?{name.partition(':')[0]}:", SAMPLE, re.M)


def test_limits_are_the_defaults_of_rave_yaml() -> None:
    found = [name for *_, where in rows("Limits") for name in re.findall(r"`([^`]+)`", where) if ": " in name]
    assert len(found) > 10
    for name in found:
        assert re.search(rf"^ *#?{re.escape(name)}$", SAMPLE, re.M), name


@pytest.mark.parametrize("name", [name for name in NAMED if re.search(r"\.(service|slice|target|socket)$", name)])
def test_units_are_those_of_the_package(name: str) -> None:
    assert name.removeprefix("_SYSTEMD_UNIT=").replace("<id>", "") in UNITS


def test_limits_without_an_option_are_those_of_the_program() -> None:
    limits = {what: limit for what, limit, _ in rows("Limits")}
    values = f"{json_fields.MAX_VALUES:,} values".replace(",", " ")
    for what, said in (
        ("bots", f"{BYTES_PER_BOT >> 20} MB"),
        ("the service's own lines about a mesh", f"{PER_MESH.burst:g}, then"),
        ("a bot that does not stop", f"after {10 + names.STOP_GRACE_S:g} s if it asks"),
        ("code of `ravectl admin claim`", "ten minutes, five wrong ones"),
        ("age of what Rave has said of who is in a room", f"{presence_check.FRESH_S:g} s"),
        ("what a room remembers", f"a document {MAX_DOCUMENT_BYTES >> 10} KiB"),
        ("an answer of Rave", values),
        ("a message of a room", f"{MAX_MESSAGE_BYTES >> 20} MiB and {values}"),
    ):
        assert said in limits[what]
    assert (admin_claims.VALID_S, admin_claims.MAX_WRONG) == (600, 5)
    assert f"more than {MAX_STATUS_CHARS} characters" in PAGE


def test_directives_have_these_values_in_these_units() -> None:
    found = 0
    for *_, where in rows("Limits"):
        for part in where.split(";"):
            named = re.findall(r"`([^`]+)`", part)
            for directive in [name for name in named if re.fullmatch(r"[A-Z]\w+=.*", name)]:
                assert re.search(rf"^{re.escape(directive)}$", UNITS[named[-1]], re.M), directive
                found += 1
    assert found > 5


MESH = "11111111-2222-4333-8444-555555555555"


@pytest.mark.parametrize("name", [name for name in NAMED if name.startswith("ravectl ")])
def test_ravectl_takes_what_is_named(name: str) -> None:
    words = name.replace("ADDRESS", "bot@example.test").split()[1:]
    more = {"admin remove": "5", "perm unset": "ping", "ignore": "add 5", "logs": MESH}
    missing = more.get(" ".join(words), "").split()
    if words != ["--version"]:
        command_line.parser().parse_args([*words, *missing])


def test_commands_of_the_chat_are_those_of_admins() -> None:
    named = {name[1:] for name in NAMED if re.fullmatch(r"\?[a-z]+", name)}
    assert {"leave"} < named <= ADMIN_COMMANDS | {LEAVE}


def test_actions_and_events_are_those_of_the_program() -> None:
    actions = {name for name in NAMED if "Rave1" in name}
    assert actions <= set(PolkitAction)
    assert {f"org.ravesvc.Rave1{name}" for name in NAMED if re.fullmatch(r"\.[a-z]+", name)} <= set(PolkitAction)
    assert LogEvent.CHANGED in NAMED


def test_reports_go_where_the_package_says() -> None:
    control = (ROOT / "debian/control").read_text()
    (address,) = set(re.findall(r"[\w.]+@[\w.]+\.\w+", PAGE.split("\n## Who")[0]))
    assert f"<{address}>" in control


def test_the_page_is_linked_and_installed() -> None:
    for page in ("README.md", "docs/architecture.md"):
        assert "SECURITY.md)" in (ROOT / page).read_text()
    assert "SECURITY.md" in (ROOT / "debian/rave-orchestrator.docs").read_text().split()
