"""What programs and operators build on, as it is seen from outside: bus, polkit, journal, units, ravectl, files.

`promises.json` has it as it was agreed on. A change of one breaks what others have built. It is made on purpose, and
shows in a diff: `PROMISES=write pytest tests/integration/test_promises.py` writes the file anew. Of a document the
names and the types of its values are compared; `ID` stands for the id of a mesh or user.
"""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ravesvc import names
from tests.integration.bus_members import members
from tests.integration.conftest import Site, eventually
from tests.integration.test_admins import says, user_id

AGREED = Path(__file__).with_name("promises.json")
PARTS = ("bus", "polkit", "catalogue", "log", "units", "ravectl", "exit statuses", "documents", "files")
STATE = "/var/lib/rave"
STRANGER = 100000007
_DOCUMENTS = ("blocklist.json", "blocklist.json.saved", "changes.json", "discovery.json", "permissions.json")
# Unknown on a machine that does not count it.
_MAY_BE_NULL = ("MemoryCurrent",)
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d{6,}")
# What operators read of a bot's unit, or what rave.yaml sets in it.
_UNIT_PROPERTIES = (
    *("Type", "User", "Slice", "Restart", "RestartUSec", "RestartPreventExitStatus", "StartLimitBurst"),
    *("TimeoutStopUSec", "WatchdogUSec"),
)


@pytest.fixture(scope="module")
def found(wired: Site) -> dict[str, Any]:
    """All of it: of a mesh with its bot, in which an admin has changed something, and one that has kicked the bot."""
    wired.reset()
    # Tests before this one may have put something there. The start of the service makes anew what belongs there.
    wired.sh("rm -rf /run/rave/*")
    watcher = wired.watcher()
    stayed, kicked = wired.run_fleet(2)
    wired.sh(f"ravectl admin add {user_id(wired, stayed, 'ann')}; ravectl ignore add {STRANGER}")
    assert "admin" in says(wired, stayed, "ann", "?setperm ping admin")
    wired.control.kick(kicked)
    wired.wait_state([kicked], "blocked")
    eventually(lambda: '"ping"' in wired.sh(f"cat {STATE}/permissions.json"), "the permission is in the copy as well")
    eventually(lambda: logged(wired, kicked).keys() >= {"connected", "blocked"}, "both events are in the journal")
    seen = {
        "bus": bus(wired, stayed),
        "polkit": polkit(wired),
        "catalogue": sorted(re.findall(r"^(\S{32}) ravesvc: (.*)$", wired.sh("journalctl --list-catalog"), re.M)),
        "log": {event: logged(wired, kicked)[event] for event in ("connected", "blocked")},
        "units": units(wired, stayed),
        "ravectl": {
            words: shape(json.loads(wired.sh(f"ravectl {words.replace('MESH', stayed)}")))
            for words in ("status --json", "show --json MESH", "store export")
        }
        | {"doctor --json": shape(json.loads(wired.sh("ravectl doctor --json || :")))},
        "documents": {
            name: shape(json.loads(wired.sh(f"cat {STATE}/{name}")))
            for name in (
                "blocklist.json",
                "blocklist.json.saved",
                "changes.json",
                "discovery.json",
                "permissions.json",
            )
        },
        "files": files(wired),
        "exit statuses": {
            "ravectl list": status_of(wired, "ravectl list"),
            "ravectl status --check": status_of(wired, "ravectl status --check"),
            "ravectl show x": status_of(wired, "ravectl show x"),
            "ravectl nonsense": status_of(wired, "ravectl nonsense"),
            "ravectl stop MESH, without the right": status_of(wired, f"ravectl stop {stayed}", watcher),
            "ravectl list, as a stranger": status_of(wired, "ravectl list", "nobody"),
            "rave-mesh@MESH, after a kick": ended_with(wired, kicked),
        },
    }
    wired.sh("systemctl stop rave-orchestrator")
    seen["exit statuses"] |= {
        f"{words}, without the service": status_of(wired, words)
        for words in ("ravectl list", "ravectl status --check")
    }
    assert wired.control.violations() == []
    # As JSON has it: pairs are lists there.
    return json.loads(json.dumps(seen))  # type: ignore[no-any-return]


def bus(site: Site, mesh: str) -> dict[str, Any]:
    """Our interfaces, with the types of their methods, signals and properties."""
    interfaces: dict[str, Any] = {}
    for service, path in (
        (names.BUS_NAME, names.MANAGER_PATH),
        (names.BUS_NAME, names.mesh_path(mesh)),
        (names.BUS_NAME, names.BACKEND_PATH),
        (names.worker_name(mesh), names.worker_path(mesh)),
    ):
        told = site.sh(f"busctl introspect --xml-interface {service} {path}")
        for interface in ET.fromstring(told).findall("interface"):
            if interface.get("name", "").startswith(names.BUS_NAME):
                interfaces[interface.get("name", "")] = members(interface)
    return interfaces


def polkit(site: Site) -> dict[str, list[str]]:
    """What any, an inactive and an active session may do, by action (pkaction(1))."""
    told = re.split(r"^(?=org\.ravesvc)", site.sh("pkaction --verbose"), flags=re.M)
    ours = [text for text in told if text.startswith("org.ravesvc")]
    return {text.partition(":")[0]: re.findall(r"implicit \w+: +(\S+)", text) for text in ours}


def logged(site: Site, mesh: str) -> dict[str, list[str]]:
    """The fields that are ours of what the service has logged about a mesh, by event."""
    lines = site.sh(f"journalctl -q -o json -u {names.ORCHESTRATOR_UNIT} RAVE_MESH={mesh}").splitlines()
    entries = [entry for entry in map(json.loads, lines) if "RAVE_EVENT" in entry]
    ours = ("RAVE_", "MESSAGE_ID", "LOGGER")
    return {entry["RAVE_EVENT"]: sorted(name for name in entry if name.startswith(ours)) for entry in entries}


def units(site: Site, mesh: str) -> dict[str, Any]:
    """The units that are installed, and what there is to read of that of a bot."""
    listed = site.sh("systemctl list-unit-files --no-legend --plain 'rave-*'").splitlines()
    # A bot tells systemd a little later what has changed: here that ann has come.
    eventually(lambda: "2 users" in site.unit(mesh, "StatusText"), "systemd knows how many users there are")
    status = re.sub(r"\d+", "N", site.unit(mesh, "StatusText"))
    return {
        "installed": [line.split()[0] for line in listed],
        "of a bot": {name: site.unit(mesh, name) for name in _UNIT_PROPERTIES} | {"StatusText": status},
    }


def status_of(site: Site, command: str, user: str | None = None) -> int:
    """The exit status of a command."""
    return site.machine.run(command.split(), user=user, check=False).returncode


def ended_with(site: Site, mesh: str) -> int:
    """The exit status of a mesh's bot, as systemd has noted it."""
    noted = site.sh(f"journalctl -q -o json UNIT={names.mesh_unit(mesh)} EXIT_CODE=exited").splitlines()
    return int(json.loads(noted[-1])["EXIT_STATUS"])


def files(site: Site) -> list[str]:
    """What is in the directories of the service, with modes and owners."""
    told = site.sh(
        f"find {STATE} /run/rave /run/rave-media /etc/rave -maxdepth 1 -printf '%M %u:%g %p\\n'"
    ).splitlines()
    # SQLite makes and removes these as it needs them.
    kept = {masked(line) for line in told if not line.endswith(("-wal", "-shm", "-journal"))}
    return sorted(kept, key=lambda line: line.split()[-1])


def masked(text: str) -> str:
    """A text with `ID` for each id in it."""
    return _ID.sub("ID", text)


def shape(value: Any) -> Any:
    """A document with the types of its values in their place."""
    match value:
        case dict():
            by_name: dict[str, list[Any]] = {}
            for name, each in value.items():
                by_name.setdefault(masked(name), []).append(each)
            # Which of several meshes comes first is up to their ids.
            shapes = {name: distinct(found) if name == "ID" else shape(found[0]) for name, found in by_name.items()}
            return shapes | {name: "int or null" for name in _MAY_BE_NULL if shapes.get(name) in ("int", "null")}
        case list():
            return distinct(value)
        case None:
            return "null"
    return type(value).__name__


def distinct(values: Iterable[Any]) -> list[Any]:
    """The shapes of values, each once."""
    shapes = {json.dumps(shape(each), sort_keys=True) for each in values}
    return [json.loads(text) for text in sorted(shapes)]


def test_no_part_is_left_out(found: dict[str, Any]) -> None:
    if os.environ.get("PROMISES") == "write":
        AGREED.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert found.keys() == set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_it_is_as_agreed(found: dict[str, Any], part: str) -> None:
    assert found[part] == json.loads(AGREED.read_text())[part]
