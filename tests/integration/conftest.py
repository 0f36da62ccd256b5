"""A booted Debian 13 with the built packages: real systemd, bus, polkit and TLS. Only Rave itself is simulated."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "packaging" / "testbed"))

from testbed.build import build  # noqa: E402
from testbed.machine import Machine, installed_root  # noqa: E402

from ravesvc import names  # noqa: E402
from ravesvc.bus import Interface  # noqa: E402
from ravesvc.orchestrator.dbus.account import AccountObject  # noqa: E402
from ravesvc.orchestrator.dbus.permissions import PermissionsObject  # noqa: E402
from ravesvc.orchestrator.dbus.store import StoreObject  # noqa: E402
from ravesvc.simulator.client import Control  # noqa: E402
from tests.integration import fault_table  # noqa: E402

DISCOVERY_INTERVAL = 2.0
_BESIDE_THE_MANAGER: tuple[type[Interface], ...] = (AccountObject, PermissionsObject, StoreObject)
MANAGER = (names.BUS_NAME, names.MANAGER_PATH, names.MANAGER_INTERFACE)
LOGS = CHECKOUT / "build" / "logs"

# The pauses between the looks of `eventually`.
_FIRST_LOOK_S, _LAST_LOOKS_S = 0.05, 0.4


# Runs in the machine: prints each signal of an interface, as JSON.
_LISTENER = """
import asyncio, json, sys
from ravesvc.bus import Bus

async def main():
    bus = await Bus.connect()
    rule = f"type='signal',interface='{sys.argv[1]}'"
    await bus.match(rule, lambda signal: print(json.dumps([signal.member, list(signal.body)]), flush=True))
    print("listening", flush=True)
    await bus.lost

asyncio.run(main())
"""

# The two files that `Site.set_up` makes.
SAVED = "/root/set-up"

_RESET = f"""
systemctl stop rave-orchestrator.service rave-meshes.target
systemctl reset-failed
find /var/lib/rave -mindepth 1 -delete
rm -rf /etc/rave/youtube.key /var/cache/rave-media
rm -f /etc/rave/database.json
if rm /run/systemd/system/rave-mesh@?*.service.d/broken.conf 2>/dev/null; then systemctl daemon-reload; fi
systemctl reload-or-restart rave-simulator
cp {SAVED}/rave.yaml /etc/rave/
cp -p {SAVED}/credentials.json /var/lib/rave/
"""


class Site:
    """A machine with rave-orchestrator and rave-simulator, wired together."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.control = Control(machine.path("/run/rave-simulator/control.sock"))

    def set_up(self) -> None:
        """What the README tells an operator who tries the simulator; nothing but that runs.

        A machine that has the packages has booted with the service, which knows no Rave: to start what runs already
        would have it read no other rave.yaml.
        """
        self.sh("systemctl stop rave-orchestrator.service rave-meshes.target; systemctl start rave-simulator")
        self.configure()
        self.give_credentials()
        self.sh(f"mkdir -p {SAVED}; cp -p /etc/rave/rave.yaml /var/lib/rave/credentials.json {SAVED}")

    def configure(self, interval: str = f"{DISCOVERY_INTERVAL:g}s") -> None:
        """Write rave.yaml for the simulator, with an interval of discovery; bots answer without typing first."""
        command = f"rave-simulator config --discovery-interval {interval}"
        self.sh(f"{{ {command}; echo 'typing_delay: 0'; }} > /etc/rave/rave.yaml")

    def break_program(self, mesh: str, code: str) -> None:
        """Let a mesh's unit run this Python program instead of ours from its next start; empty for ours again."""
        directory = f"/run/systemd/system/{names.mesh_unit(mesh)}.d"
        if code:
            self.machine.run(["install", "-D", "/dev/stdin", f"/opt/broken/{mesh}.py"], input=code)
            override = f"[Service]\nExecStart=\nExecStart=/usr/bin/python3 -I /opt/broken/{mesh}.py {mesh}\n"
            self.machine.run(["install", "-D", "-m", "644", "/dev/stdin", f"{directory}/broken.conf"], input=override)
        else:
            self.sh(f"rm -r {directory}")
        self.sh("systemctl daemon-reload")

    def set_options(self, **options: object) -> None:
        """Set options in rave.yaml, for the next start of the service."""
        for name in options:
            self.sh(f"sed -i '/^{name}:/d' /etc/rave/rave.yaml")
        lines = "".join(f"{name}: {value}\n" for name, value in options.items())
        self.machine.run(["tee", "-a", "/etc/rave/rave.yaml"], input=lines)

    def configure_debug(self) -> None:
        """Let the service say in its log all that it ever says."""
        self.set_options(debug="true")

    def give_credentials(self) -> None:
        """What a login would have left behind."""
        self.sh("rave-simulator credentials | install -T -o rave -m 600 /dev/stdin /var/lib/rave/credentials.json")

    def reset(self) -> None:
        """As after `set_up`: nothing runs, nothing is remembered. One process, since each test pays for it."""
        self.sh(_RESET)

    def sh(self, script: str, *, user: str | None = None, check: bool = True, timeout: float = 60) -> str:
        """Run a shell script in the machine; returns what it printed."""
        done = self.machine.run(["sh", "-ec", script], user=user, check=check, timeout=timeout)
        return done.stdout if check else done.stdout + done.stderr

    def watcher(self) -> str:
        """A user who may read from the service and has no other rights."""
        self.sh("id watcher >/dev/null 2>&1 || useradd --system --groups rave-monitor watcher")
        return "watcher"

    def manager(self, name: str) -> Any:
        """A property of the manager."""
        return self._property(names.MANAGER_PATH, names.MANAGER_INTERFACE, name)

    def account(self, name: str) -> Any:
        """A property of the account."""
        return self._property(names.MANAGER_PATH, names.ACCOUNT_INTERFACE, name)

    def permissions(self, name: str) -> Any:
        """A property of the permissions."""
        return self._property(names.MANAGER_PATH, names.PERMISSIONS_INTERFACE, name)

    def store(self, name: str) -> Any:
        """A property of the store."""
        return self._property(names.MANAGER_PATH, names.STORE_INTERFACE, name)

    def mesh(self, mesh: str, name: str) -> Any:
        """A property of a mesh."""
        return self._property(names.mesh_path(mesh), names.MESH_INTERFACE, name)

    def _property(self, path: str, interface: str, name: str) -> Any:
        words = ["busctl", "--json=short", "get-property", names.BUS_NAME, path, interface, name]
        return json.loads(self.machine.run(words).stdout)["data"]

    def call(self, member: str, *arguments: str, user: str | None = None) -> str:
        """Call the main object; returns busctl's answer as JSON. Raises CommandFailed.

        The interface is the one that has such a method, or the manager's.
        """
        found = [each.interface for each in _BESIDE_THE_MANAGER if member in each.methods]
        where = (names.BUS_NAME, names.MANAGER_PATH, *(found or [names.MANAGER_INTERFACE]))
        return self.machine.run(["busctl", "--json=short", "call", *where, member, *arguments], user=user).stdout

    def call_blocklist(self, member: str, *arguments: str, user: str | None = None) -> str:
        """Call the blocklist; returns busctl's answer as JSON. Raises CommandFailed."""
        return self.machine.run(self.blocklist_call(member, *arguments), user=user).stdout

    @staticmethod
    def blocklist_call(member: str, *arguments: str) -> list[str]:
        """The words of a call of the blocklist."""
        where = (names.BUS_NAME, names.MANAGER_PATH, names.BLOCKLIST_INTERFACE)
        return ["busctl", "--json=short", "call", *where, member, *arguments]

    @contextlib.contextmanager
    def listening(self, interface: str) -> Iterator[Callable[[], list[list[Any]]]]:
        """Hear the signals of an interface; yields what returns those heard so far, with their arguments."""
        heard: list[list[Any]] = []
        with self.machine.spawn(["python3", "-I", "-c", _LISTENER, interface]) as listener:
            output = listener.stdout
            assert output
            assert output.readline() == "listening\n"
            reader = threading.Thread(target=lambda: heard.extend(json.loads(line) for line in output))
            reader.start()
            try:
                yield lambda: list(heard)
            finally:
                os.killpg(listener.pid, signal.SIGKILL)
                reader.join()

    def unit(self, mesh: str, name: str) -> str:
        """A property of a mesh's unit."""
        return self.sh(f"systemctl show --value -p {name} {names.mesh_unit(mesh)}").strip()

    def pids(self, meshes: Iterable[str]) -> dict[str, str]:
        """The main process of each mesh, as numbered in the machine."""
        return {mesh: self.unit(mesh, "MainPID") for mesh in meshes}

    def kill_parent(self) -> None:
        """End the parent at once, and wait until systemd has another."""

        def shown() -> dict[str, str]:
            # In which order they come differs from one release of systemd to the next.
            lines = self.sh("systemctl show -p MainPID -p ActiveState rave-orchestrator").splitlines()
            return dict(line.split("=", 1) for line in lines)

        before = shown()
        # Else the fifth restart would come after 18 s (RestartSteps=).
        self.sh("systemctl reset-failed rave-orchestrator")
        self.sh("systemctl kill -s KILL --kill-whom=main rave-orchestrator")

        def another() -> bool:
            now = shown()
            return now["ActiveState"] == "active" and now["MainPID"] not in ("0", before["MainPID"])

        eventually(another, "the parent is back")

    def bots(self) -> list[str]:
        """The units that systemd still has in any state but inactive."""
        listing = self.sh(
            "systemctl list-units --no-legend --plain 'rave-mesh@*' --state=active,activating,deactivating"
        )
        return [line.split()[0] for line in listing.splitlines()]

    def run_fleet(self, count: int) -> list[str]:
        """Start the service, invite the bot to new meshes, and wait until it is in all of them."""
        meshes = self.control.create(count)
        self.control.invite(meshes)
        self.sh("systemctl start rave-orchestrator")
        self.control.wait(connected=meshes, timeout=30 + 3 * count)
        self.wait_state(meshes, "connected")
        return meshes

    def wait_state(self, meshes: Iterable[str], state: str, timeout: float = 20.0) -> None:
        """Wait until the manager shows all these meshes in a state."""
        wanted = set(meshes)

        def shown() -> bool:
            # The parent may just be away.
            words = [*["busctl", "--json=short", "call"], *MANAGER, "ListMeshes"]
            answer = self.machine.run(words, check=False).stdout
            return bool(answer) and wanted <= {row[0] for row in json.loads(answer)["data"][0] if row[2] == state}

        eventually(shown, f"the meshes are {state}", timeout)

    def wait_rounds(self, rounds: int) -> None:
        """Wait for so many more rounds of discovery."""
        self.control.wait(listings=self.control.state()["listings"]["completed"] + rounds)

    def answers(self, mesh: str) -> bool:
        """Whether the bot answers ?ping there."""
        return any("Pong" in text for text in self.control.chat(mesh, "?ping", wait=10.0))


def eventually(condition: Callable[[], bool], what: str, timeout: float = 20.0) -> None:
    """Look again and again, because what is looked at sends no signal to the host.

    Each look starts a process or three in the machine, and several machines share the processors: the longer it
    takes, the rarer are the looks.
    """
    begun = time.monotonic()
    while not condition():
        waited = time.monotonic() - begun
        assert waited < timeout, f"not within {timeout:g} s: {what}"
        time.sleep(min(max(_FIRST_LOOK_S, waited / 4), _LAST_LOOKS_S))


@pytest.fixture(scope="session")
def packages() -> list[Path]:
    return build(CHECKOUT)


@pytest.fixture(scope="session")
def machine(packages: list[Path]) -> Iterator[Machine]:
    with Machine(installed_root(packages)) as booted:
        yield booted


@pytest.fixture(scope="session")
def wired(machine: Machine) -> Site:
    site = Site(machine)
    site.set_up()
    return site


@pytest.fixture
def site(wired: Site) -> Iterator[Site]:
    """The wired machine with nothing running; afterwards the simulator must have seen no mistake of ours."""
    wired.reset()
    yield wired
    assert wired.control.violations() == []


@pytest.fixture(scope="module")
def shared_site(wired: Site) -> Iterator[Site]:
    """The same once for all tests of a file: what the first of them starts runs until the last one's end."""
    wired.reset()
    yield wired
    assert wired.control.violations() == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """After a failure, save what the machine of the `site` logged."""
    report = yield
    site = item.funcargs.get("site") or item.funcargs.get("shared_site")
    if report.failed and site and site.machine.leader:
        site.machine.save_logs(LOGS / item.name)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the fault table, before pytest picks those that the command line asks for."""
    named = set(fault_table.named())
    for item in items:
        file, function = item.path.name, item.name.partition("[")[0]
        if not named.isdisjoint({(file, function), (file, "")}):
            item.add_marker(pytest.mark.faults)
    # What takes longest comes first, so that no worker is left alone with it at the end: machines of their own, what
    # waits for time-outs, and then the files with the most tests.
    kinds = Counter((item.path, bool(item.get_closest_marker("faults"))) for item in items)

    def place(item: pytest.Item) -> tuple[bool, int, Path]:
        quick = "wired" in getattr(item, "fixturenames", ()) and item.path.name != "test_faults.py"
        return quick, -kinds[item.path, bool(item.get_closest_marker("faults"))], item.path

    items.sort(key=place)


def pytest_sessionstart(session: pytest.Session) -> None:
    shutil.rmtree(LOGS, ignore_errors=True)


Figure = Callable[[str], None]


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Note a measurement, to be printed at the end of the run."""
    return lambda text: record_property("figure", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    figures = [value for report in reports for name, value in report.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("measured")
        for text in figures:
            terminalreporter.write_line(str(text))
